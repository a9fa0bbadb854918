"""Scores of predictions against observations, as plain functions on NumPy and (lazy) xarray arrays.

Every function has the signature ``metric(pred, obs, *, dim=None, mask=None, min_obs=2)``:

- `pred`, `obs`: NumPy arrays of one shape, or DataArrays (dims are matched by name; coordinates must agree);
- `dim`: the dimension(s) to reduce: names for a DataArray, axis numbers for an array, None for all of them;
- `mask`: True where a pair counts. A pair also needs both values: NaN on either side leaves it out;
- `min_obs`: with fewer pairs the score is NaN (`n_obs` tells how many there were).

A score that is not defined (a correlation of a constant series) is NaN, without a warning; no score is infinite. An
infinite value in a pair is not a missing value: it makes the score NaN. Sums run in float64.
Dask-backed arrays stay lazy; the reduced dimension is made one chunk.

Differences are prediction minus observation. Standard deviations and ubRMSE divide by n, so that
RMSE**2 = ubRMSE**2 + bias**2 holds exactly for one series (and not for averages over series).

.. [1] Entekhabi et al. 2010, J. Hydrometeorology 11, 832-840, doi:10.1175/2010JHM1223.1
.. [2] Gruber et al. 2020, Remote Sensing of Environment 244, 111806, doi:10.1016/j.rse.2020.111806
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from smnb.contract import ContractError, ParameterError, check_count, check_range

Array: TypeAlias = np.ndarray | xr.DataArray
Dim: TypeAlias = Hashable | Iterable[Hashable] | None

CONSTANT = 1e-13  # a standard deviation below this part of the mean is rounding, not variation (SciPy's own limit)


class Moments:
    """Central moments of pairs: of `n` pairs, the means, and the `total` of products of deviations over n."""

    def __init__(
        self, n: Any, x_mean: Any, y_mean: Any, dx: Any, dy: Any, total: Callable[..., Any], constant: float = CONSTANT
    ) -> None:
        self.n, self.x_mean, self.y_mean, self.bias = n, x_mean, y_mean, x_mean - y_mean
        self.xx, self.yy, self.xy = total(dx * dx) / n, total(dy * dy) / n, total(dx * dy) / n
        self.dd = total((dx - dy) ** 2) / n
        self.x_constant = ~(self.xx > (constant * x_mean) ** 2)
        self.y_constant = ~(self.yy > (constant * y_mean) ** 2)


def pair_moments(x: np.ndarray, y: np.ndarray, ok: np.ndarray, *, constant: float = CONSTANT) -> Moments:
    """Moments of masked pairs along the last axis, in two passes; shapes ``(...)`` from ``(..., n)``."""
    n = ok.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        (x_mean, dx), (y_mean, dy) = _centred(x, ok, n), _centred(y, ok, n)
        return Moments(n, x_mean, y_mean, dx, dy, lambda v: v.sum(-1), constant)


def _centred(values: np.ndarray, ok: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # relative to one member first: a constant series then has a variance of exactly 0
    member = np.take_along_axis(values, ok.argmax(-1)[..., None], -1)
    shifted = np.where(ok, values - member, 0.0)
    shift = shifted.sum(-1) / n
    deviation = np.where(ok, shifted - shift[..., None], 0.0)
    return member[..., 0] + shift, deviation


def group_sum(codes: np.ndarray, n_groups: int, values: np.ndarray | None = None) -> np.ndarray:
    """Sum of `values` (or the number of rows) in each group, shape ``(n_groups,)``."""
    return np.bincount(codes, weights=values, minlength=n_groups)


def group_mean(codes: np.ndarray, n_groups: int, values: np.ndarray) -> np.ndarray:
    """Mean of each group in two passes, relative to one member: exact for a constant group; NaN for an empty one."""
    member = np.zeros(n_groups)
    member[codes] = values
    count = group_sum(codes, n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = member + group_sum(codes, n_groups, values - member[codes]) / count
        mean += group_sum(codes, n_groups, values - mean[codes]) / count
    return mean


def group_ranks(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank of each value within its group, from 1; ties share their mean rank."""
    return pd.Series(values).groupby(codes).rank().to_numpy()


def as_milliseconds(time: object, *, who: str) -> np.ndarray:
    """Times (datetime64, pandas datetimes with or without a zone, ISO strings) as int64 milliseconds of UTC."""
    values = time if isinstance(time, pd.Series) else pd.Series(np.asarray(time))
    if values.dtype.kind in "iufb":
        raise ContractError(who, "the times are plain numbers", got=str(values.dtype), expected="UTC datetimes")
    if not pd.api.types.is_datetime64_dtype(values.dtype):
        try:
            values = pd.to_datetime(values, utc=True).dt.tz_localize(None)
        except (ValueError, TypeError) as error:
            raise ContractError(who, f"the times cannot be read ({error})", expected="UTC datetimes") from error
    if values.isna().any():
        step = "Drop the rows without a time"
        raise ContractError(who, "a time is missing", got=int(values.isna().sum()), next_step=step)
    return values.to_numpy("datetime64[ms]").astype("int64")


def group_anomaly(
    codes: np.ndarray, time_ms: np.ndarray, values: np.ndarray, *, window_days: float = 35.0, window_min_obs: int = 3
) -> np.ndarray:
    """Short-term anomaly: each finite value, in any order, minus the mean of its group within a centred window of time.

    Both ends belong to the window of `window_days`. With fewer than `window_min_obs` values it gives NaN: the value alone would
    have an anomaly of exactly 0, which is no information.
    """
    check_range("group_anomaly", "window_days", window_days, 0, ends="(]", units="days")
    check_count("group_anomaly", "window_min_obs", window_min_obs)
    if values.size == 0:
        return np.zeros(0)
    order = np.lexsort((time_ms, codes))
    c, t, v = codes[order].astype("int64"), time_ms[order], values[order]
    half = round(window_days * 86_400_000 / 2.0)
    # one increasing key for all groups: windows of neighbouring groups cannot meet
    stride = int(t.max() - t.min()) + 2 * half + 2
    key = c * stride + (t - t.min())
    first, last = np.searchsorted(key, key - half, "left"), np.searchsorted(key, key + half, "right")
    v = v - group_mean(c, int(c[-1]) + 1, v)[c]  # the running sum stays small, so differences of it stay exact
    total = np.r_[0.0, np.cumsum(v)]
    count = last - first
    out = np.empty(v.size)
    out[order] = np.where(count >= window_min_obs, v - (total[last] - total[first]) / count, np.nan)
    return out


def _as_arrays(who: str, pred: Array, obs: Array, mask: Array | None) -> list[xr.DataArray]:
    """Both sides and the mask as DataArrays of one set of coordinates; a plain array's dims are its axes' numbers."""
    first = next((one for one in (pred, obs) if isinstance(one, xr.DataArray)), None)
    if first is None:
        first = xr.DataArray(np.asarray(pred), dims=list(range(np.ndim(pred))))
    arrays = []
    for one, name in ((pred, "the predictions"), (obs, "the observations"), (mask, "the mask")):
        if one is None:
            one = xr.ones_like(first, bool)
        elif not isinstance(one, xr.DataArray):
            if np.shape(one) != first.shape:
                raise ContractError(who, f"{name} have another shape", got=np.shape(one), expected=first.shape)
            one = first.copy(data=np.asarray(one))
        arrays.append(one)
    try:
        xr.align(*arrays[:2], join="exact", copy=False)
    except ValueError as error:
        what, step = f"predictions and observations have other coordinates ({error})", "Align them with xarray.align"
        raise ContractError(who, what, next_step=step) from error
    if extra := [d for d in arrays[2].dims if d not in (*arrays[0].dims, *arrays[1].dims)]:
        raise ContractError(who, f"the mask has dims {extra} of its own", expected=first.dims)
    return arrays


def _names(who: str, dim: Dim, known: tuple[Hashable, ...], plain: bool) -> list[Hashable]:
    """Dimensions to reduce; of plain arrays the numbers of axes, which may be negative."""
    wanted = list(known) if dim is None else list(dim) if isinstance(dim, list | tuple | set | frozenset) else [dim]
    if plain:
        wanted = [one + len(known) if isinstance(one, int | np.integer) and one < 0 else one for one in wanted]
    if any(d not in known for d in wanted) or not wanted or len(set(wanted)) < len(wanted):
        what, step = ("axis", "Names of dimensions need xarray.DataArray") if plain else ("dimension", None)
        raise ParameterError(who, f"unknown {what}", got=dim, expected=known, next_step=step)
    return wanted


def _score(kernel: Callable[..., np.ndarray], dtype: type = float) -> Callable[..., Any]:
    """Make a score of NumPy or xarray input from ``kernel(x, y, ok)``, which reduces the last axis."""

    def core(x: np.ndarray, y: np.ndarray, use: np.ndarray, n_dims: int, min_obs: int) -> np.ndarray:
        x, y, use = np.broadcast_arrays(np.asarray(x, "float64"), np.asarray(y, "float64"), np.asarray(use, bool))
        flat = (*x.shape[: x.ndim - n_dims], -1 if x.size else 1)
        if not x.size:  # nothing to reduce: one pair that does not count
            x, y, use = np.full(flat, np.nan), np.full(flat, np.nan), np.zeros(flat, bool)
        x, y, ok = (one.reshape(flat) for one in (x, y, ~(np.isnan(x) | np.isnan(y)) & use))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            value = kernel(x, y, ok)
        return value if dtype is int else np.where((ok.sum(-1) >= min_obs) & np.isfinite(value), value, np.nan)

    def score(pred: Array, obs: Array, *, dim: Dim = None, mask: Array | None = None, min_obs: int = 2) -> Any:
        who = kernel.__name__
        check_count(who, "min_obs", min_obs)
        plain = not isinstance(pred, xr.DataArray) and not isinstance(obs, xr.DataArray)
        arrays = xr.broadcast(*_as_arrays(who, pred, obs, mask))
        dims = _names(who, dim, arrays[0].dims, plain)
        how = {"kwargs": {"n_dims": len(dims), "min_obs": min_obs}, "output_dtypes": [dtype], "keep_attrs": False}
        lazy = {"dask": "parallelized", "dask_gufunc_kwargs": {"allow_rechunk": True}}
        found = xr.apply_ufunc(core, *arrays, input_core_dims=[dims] * 3, **how, **lazy)
        return found.values[()] if plain else found

    functools.update_wrapper(score, kernel)
    del score.__wrapped__  # the signature is that of all scores
    return score


def _of_moments(formula: Callable[[Moments], np.ndarray]) -> Callable[..., Any]:
    """Make a score of arrays from its formula, ``from_moments``, which tables and intervals take for many series at once."""

    def kernel(x: np.ndarray, y: np.ndarray, ok: np.ndarray) -> np.ndarray:
        return formula(pair_moments(x, y, ok))

    score = _score(functools.update_wrapper(kernel, formula))
    score.from_moments = formula
    return score


@functools.partial(_score, dtype=int)
def n_obs(x: np.ndarray, y: np.ndarray, ok: np.ndarray) -> np.ndarray:
    """Count the pairs that count: both values there and, where a mask is given, True in it; `min_obs` does not matter."""
    return ok.sum(-1)


@_of_moments
def bias(m: Moments) -> np.ndarray:
    """Mean of prediction minus observation, in the units of the data.

    Examples
    --------
    >>> round(float(bias(np.array([0.2, 0.3, np.nan]), np.array([0.1, 0.3, 0.5]))), 3)
    0.05
    """
    return m.bias


@_of_moments
def rmse(m: Moments) -> np.ndarray:
    """Root of the mean squared difference (divisor n), in the units of the data."""
    return np.sqrt(m.dd + m.bias**2)


@_of_moments
def ubrmse(m: Moments) -> np.ndarray:
    """RMSE after the mean of each series is taken away: the standard deviation (divisor n) of the difference.

    Examples
    --------
    >>> pred, obs = np.array([0.11, 0.22, 0.33]), np.array([0.1, 0.2, 0.3])
    >>> bool(np.isclose(rmse(pred, obs) ** 2, ubrmse(pred, obs) ** 2 + bias(pred, obs) ** 2))
    True
    """
    return np.sqrt(m.dd)


@_of_moments
def pearson_r(m: Moments) -> np.ndarray:
    """Pearson's correlation; NaN where either series is constant."""
    r = np.clip(m.xy / (np.sqrt(m.xx) * np.sqrt(m.yy)), -1.0, 1.0)
    return np.where(m.x_constant | m.y_constant, np.nan, r)


@_of_moments
def r2(m: Moments) -> np.ndarray:
    """Coefficient of determination, 1 - SSE/SST about the mean observation (Nash-Sutcliffe efficiency); at most 1.

    Paper 002 (Hu, Xu and Yu 2018) reports an R² without saying whether it means this or `r2_pearson`. The two differ
    unless the predictions are unbiased with the right slope, so a comparison with that paper should give both.
    """
    return np.where(m.y_constant, np.nan, 1.0 - (m.dd + m.bias**2) / m.yy)


@_of_moments
def r2_pearson(m: Moments) -> np.ndarray:
    """Square of Pearson's correlation, in [0, 1]; blind to bias and to slope (see `r2`)."""
    return pearson_r.from_moments(m) ** 2


@_of_moments
def slope(m: Moments) -> np.ndarray:
    """Least-squares slope of the prediction on the observation, cov(pred, obs)/var(obs).

    Below 1 the predictions have too small a range. Noise in the observations lowers it too (regression dilution), so 1 is
    not reached against noisy in-situ data even by the truth. NaN where the observations are constant.
    """
    return np.where(m.y_constant, np.nan, m.xy / m.yy)


@_score
def nrmse(x: np.ndarray, y: np.ndarray, ok: np.ndarray) -> np.ndarray:
    """RMSE over the range of both series together (as pytesmo's nrmsd), dimensionless; NaN where that is 0."""
    highest = np.where(ok, np.maximum(x, y), -np.inf).max(-1)
    scale = highest - np.where(ok, np.minimum(x, y), np.inf).min(-1)
    return rmse.from_moments(pair_moments(x, y, ok)) / np.where(scale == 0, np.nan, scale)


def _changed(x: np.ndarray, y: np.ndarray, ok: np.ndarray, change: Callable[..., np.ndarray]) -> list[np.ndarray]:
    """Both sides after ``change(row codes, positions, values)`` of their pairs; NaN elsewhere and in rows with infinity."""
    ok = ok & ~(ok & ~(np.isfinite(x) & np.isfinite(y))).any(-1, keepdims=True)
    n = ok.shape[-1]
    codes, position = np.nonzero(ok.reshape(-1, n))
    sides = []
    for side in (x.reshape(-1, n), y.reshape(-1, n)):
        out = np.full(side.shape, np.nan)
        out[codes, position] = change(codes, position, side[codes, position])
        sides.append(out.reshape(ok.shape))
    return sides


@_score
def spearman_r(x: np.ndarray, y: np.ndarray, ok: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation: Pearson's R of the ranks, ties at their mean rank; NaN for a constant series."""
    ranks = _changed(x, y, ok, lambda codes, position, values: group_ranks(codes, values))
    return pearson_r.from_moments(pair_moments(*ranks, ~np.isnan(ranks[0])))


def anomaly_r(
    pred: Array,
    obs: Array,
    *,
    time: Any = None,
    dim: Dim = None,
    mask: Array | None = None,
    min_obs: int = 2,
    window_days: float = 35.0,
    window_min_obs: int = 3,
) -> Any:
    """Pearson's correlation of short-term anomalies: each series minus its own centred moving average.

    The averages see only times at which both series have a value, so that both are relative to the same days.

    Parameters
    ----------
    pred, obs, dim, mask, min_obs
        As in the module's description, with one dimension: `dim` is the time axis (default "time" for a DataArray, the
        last axis for an array). `min_obs` counts the anomalies.
    time : array-like, optional
        UTC times along `dim`; default the DataArray's own coordinate.
    window_days, window_min_obs
        Full width of the window, 35 days as in the field's practice, both ends included; a value whose window holds fewer pairs
        (itself included) has no anomaly. pytesmo takes 1.
    """
    who = "anomaly_r"
    first = next((one for one in (pred, obs) if isinstance(one, xr.DataArray)), None)
    if dim is None:
        dim = np.ndim(pred) - 1 if first is None else "time"
    if isinstance(dim, list | tuple):
        raise ParameterError(who, "anomalies run along one time dimension", got=dim, expected="one dimension")
    if time is None:
        if first is None or dim not in first.coords:
            raise ParameterError(who, "the times are not known", next_step="Pass time=, one UTC time a step of 'dim'")
        time = first[dim].values
    time_ms = as_milliseconds(time, who=who)
    length = np.shape(pred)[dim] if first is None else first.sizes[dim]
    if time_ms.size != length:
        raise ContractError(who, "there are not as many times as steps", got=time_ms.size, expected=length)

    def change(codes: np.ndarray, position: np.ndarray, values: np.ndarray) -> np.ndarray:
        window = {"window_days": window_days, "window_min_obs": window_min_obs}
        return group_anomaly(codes, time_ms[position], values, **window)

    def kernel(x: np.ndarray, y: np.ndarray, ok: np.ndarray) -> np.ndarray:
        anomalies = _changed(x, y, ok, change)
        there = ~np.isnan(anomalies[0])
        moments = pair_moments(*anomalies, there, constant=0.0)
        return np.where(there.sum(-1) >= min_obs, pearson_r.from_moments(moments), np.nan)

    kernel.__name__ = who
    return _score(kernel)(pred, obs, dim=dim, mask=mask, min_obs=min_obs)


def pair_scores(pred: ArrayLike, obs: ArrayLike) -> dict[str, float]:
    """Score the pairs of one image or series at once: ``n``, ``bias``, ``rmse``, ``ubrmse`` and ``r`` (Pearson's).

    All pairs count: choose the valid ones beforehand. With a NaN among them all scores are NaN, so that no two methods are
    ever scored on different pixels unnoticed; so is the correlation of a constant side. `ContractError` if shapes differ.

    Examples
    --------
    >>> {name: round(value, 3) for name, value in pair_scores([0.2, 0.3, 0.4], [0.1, 0.2, 0.4]).items()}
    {'n': 3, 'bias': 0.067, 'rmse': 0.082, 'ubrmse': 0.047, 'r': 0.982}
    """
    x, y = np.asarray(pred, "float64"), np.asarray(obs, "float64")
    if x.shape != y.shape:
        raise ContractError("pair_scores", "the sides differ in shape", got=x.shape, expected=y.shape)
    scores = {"bias": bias, "rmse": rmse, "ubrmse": ubrmse, "r": pearson_r}
    if not x.size:
        return {"n": 0} | dict.fromkeys(scores, np.nan)
    m = pair_moments(x.ravel(), y.ravel(), np.ones(x.size, dtype=bool))
    with np.errstate(invalid="ignore", divide="ignore"):  # a constant side has no correlation
        return {"n": x.size} | {name: float(score.from_moments(m)) for name, score in scores.items()}
