"""Confidence intervals of the scores of one sensor that respect the dependence of its errors in time.

Neighbouring errors of a soil moisture product are alike for days or weeks, so a series of 700 values may hold the
information of 40. An interval that takes them as independent is then far too narrow. Two methods, by name:

``block_bootstrap`` (the default)
    Studentised circular block bootstrap (`smnb.metrics.block_bootstrap`) on a scale on which the score is nearly
    symmetric: the logarithm for RMSE, ubRMSE and 1 - R², Fisher's z for correlations. The block length comes from the
    autocorrelation of the score's influence values, and the standard error is multiplied by what blocks of that length are
    known to miss for a first-order autoregression. It is this calibration, beside the studentising, that separates it
    from the plain percentile block bootstrap, which covers too little where errors are persistent.

``assume_independent``
    The analytic intervals of independent, normal errors: as in pytesmo, and as wrong as that assumption.

Coverage as simulated is printed by ``benchmarks/bench_metric_intervals.py``. With fewer than about ten independent
errors in the series (e.g. 100 values with lag-1 correlation 0.95) no method can reach its nominal level; the ``note``
says when the blocks had to be shorter than the autocorrelation asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from smnb.contract import ContractError, ParameterError
from smnb.metrics.block_bootstrap import automatic_block_length, bootstrap_t, long_run_inflation
from smnb.metrics.grouped import group_anomaly
from smnb.metrics.scores import METRICS
from smnb.metrics.smooth_scores import SMOOTH, Series, features_of, undefined
from smnb.metrics.tables import MIN_OBS, check_table, encode, metric_names, no_duplicates

METHODS = ("block_bootstrap", "assume_independent")
#: Below this share of defined replicates there is no interval.
_USABLE = 0.9
_CHUNK_CELLS = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A score with its confidence interval."""

    value: float
    low: float
    high: float
    level: float
    method: str
    n: int
    """Number of pairs, or of sensors for an average over sensors."""
    note: str = ""
    """Why there is no interval, or what to beware of."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


#: Scores that ``block_bootstrap`` has intervals for.
BLOCK_METRICS = tuple(SMOOTH)
#: Scores that ``assume_independent`` has intervals for.
ANALYTIC_METRICS = ("bias", "ubrmse", "pearson_r", "spearman_r")


@dataclass(frozen=True)
class _BlockResult:
    low: np.ndarray
    high: np.ndarray
    length: np.ndarray
    note: np.ndarray
    replicates: np.ndarray | None


def _block_intervals(
    metric: str,
    series: Series,
    *,
    level: float,
    n_boot: int,
    block_length: int | str,
    seed: int,
    keep_replicates: bool = False,
) -> _BlockResult:
    """Intervals of series whose score is defined."""
    smooth, n = SMOOTH[metric], series.n
    features = features_of(smooth.features, series, centre=metric in ("ubrmse", "pearson_r", "anomaly_r", "slope"))
    means = features.sum(2) / n
    deviations = np.where(series.there, features - means[..., None], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        _, gradient = smooth.function(means)
        influence = sum(g[:, None] * d for g, d in zip(gradient, deviations, strict=True))
    # squares of the series move correlations and slopes; the difference moves the mean of its square
    drivers = [(deviations[2], 1), (deviations[3], 1)] if smooth.features == "pair" else [(deviations[0], 2)]
    chosen = automatic_block_length(np.nan_to_num(influence), n, drivers)
    length, blocks = chosen.length, chosen.blocks
    note = np.full(n.size, "", dtype=object)
    if block_length == "auto":
        short = chosen.wanted > 1.5 * length  # the limit of six blocks bites
        note[short] = [
            f"the autocorrelation asks for blocks of {wanted:.0f} of {one} values: the interval may be too narrow"
            for wanted, one in zip(chosen.wanted[short], n[short], strict=True)
        ]
    else:
        length = np.full(n.size, int(block_length))
        blocks = np.maximum(np.round(n / length).astype(int), 2)
    low, high = np.empty(n.size), np.empty(n.size)
    replicates = np.empty((n.size, n_boot)) if keep_replicates else None
    for one in np.unique(blocks):
        rows = np.flatnonzero(blocks == one)
        found = bootstrap_t(
            deviations[:, rows],
            means[:, rows],
            n[rows],
            smooth.function,
            length[rows],
            int(one),
            n_boot=n_boot,
            seed=seed,
            level=level,
        )
        error = found.standard_error * np.sqrt(
            long_run_inflation(chosen.rho[rows], chosen.decay[rows], length[rows], n[rows])
        )
        ends = smooth.back(found.estimate - found.t_high * error), smooth.back(found.estimate - found.t_low * error)
        low[rows], high[rows] = ends[::-1] if smooth.flips else ends
        bad = rows[found.usable < _USABLE]
        low[bad] = high[bad] = np.nan
        note[bad] = "too many replicates are undefined (nearly constant series)"
        if replicates is not None:
            replicates[rows] = smooth.back(found.replicates)
    return _BlockResult(low, high, length, note, replicates)


def _analytic(
    metric: str, value: np.ndarray, sd: np.ndarray, n: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of independent normal errors; `sd` is that of the difference (divisor n - 1)."""
    upper = (1.0 + level) / 2.0
    if metric == "bias":
        half = stats.t.ppf(upper, n - 1) * sd / np.sqrt(n)
        return value - half, value + half
    if metric == "ubrmse":
        return (
            value * np.sqrt(n / stats.chi2.ppf(upper, n - 1)),
            value * np.sqrt(n / stats.chi2.ppf(1.0 - upper, n - 1)),
        )
    with np.errstate(divide="ignore"):
        z = np.arctanh(value)
    half = stats.norm.ppf(upper) / np.sqrt(n - 3)
    if metric == "spearman_r":  # Bonett and Wright (2000), doi:10.1007/BF02294183
        half = half * np.sqrt(1.0 + value**2 / 2.0)
    return np.tanh(z - half), np.tanh(z + half)


def _check_options(
    who: str, metrics: Sequence[str] | str, method: str, level: float, n_boot: int, block_length: int | str, seed: int
) -> tuple[str, ...]:
    if method not in METHODS:
        raise ParameterError(who, "unknown method", got=method, expected=METHODS)
    names = metric_names(who, metrics, BLOCK_METRICS if method == "block_bootstrap" else ANALYTIC_METRICS)
    if not 0.0 < level < 1.0:
        raise ParameterError(who, "'level' is not between 0 and 1", got=level, expected="e.g. 0.95")
    if not isinstance(n_boot, int | np.integer) or n_boot < 100:
        raise ParameterError(who, "'n_boot' is too small for quantiles", got=n_boot, expected=">= 100")
    if block_length != "auto" and (not isinstance(block_length, int | np.integer) or block_length < 1):
        raise ParameterError(who, "'block_length' is no length", got=block_length, expected="'auto' or >= 1")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ParameterError(who, "'seed' is not a whole number from 0", got=seed, expected="an int: results repeat")
    return names


def _series(metric: str, codes: np.ndarray, time_ms: np.ndarray | None, x: np.ndarray, y: np.ndarray) -> tuple:
    """The pairs that `metric` is computed from, in order of sensor and time."""
    if metric != "anomaly_r":
        return codes, x, y
    ax, ay = group_anomaly(codes, time_ms, x), group_anomaly(codes, time_ms, y)
    there = ~np.isnan(ax)
    return codes[there], ax[there], ay[there]


def _chunks(codes: np.ndarray, n: np.ndarray, min_obs: int, x: np.ndarray, y: np.ndarray):
    """Yield (sensors, series) in chunks of sensors with at least `min_obs` values and of about one length."""
    start = np.cumsum(n) - n
    sensors = np.argsort(n, kind="stable")
    sensors = sensors[n[sensors] >= min_obs]
    while sensors.size:
        width = max(1, int(_CHUNK_CELLS // n[sensors[0]]))
        part = sensors[:width]
        part = part[n[part] <= 1.25 * n[part[0]] + 16]
        sensors = sensors[part.size :]
        there = np.arange(n[part[-1]]) < n[part][:, None]
        rows = np.where(there, start[part][:, None] + np.arange(there.shape[1]), 0)
        yield part, Series(np.where(there, x[rows], 0.0), np.where(there, y[rows], 0.0), n[part])


def _estimate(metric: str, series: Series) -> np.ndarray:
    score = METRICS["pearson_r" if metric == "anomaly_r" else metric]
    return score(series.x, series.y, dim=-1, mask=series.there)


def _all_intervals(
    metric: str,
    codes: np.ndarray,
    k: int,
    time_ms: np.ndarray | None,
    x: np.ndarray,
    y: np.ndarray,
    *,
    method: str,
    level: float,
    n_boot: int,
    block_length: int | str,
    seed: int,
    min_obs: int,
    keep_replicates: bool = False,
) -> dict[str, Any]:
    """Interval of one metric for every sensor of pairs in order of sensor and time."""
    infinite = np.bincount(codes[~(np.isfinite(x) & np.isfinite(y))], minlength=k) > 0
    keep = ~infinite[codes]
    codes, x, y = _series(metric, codes[keep], None if time_ms is None else time_ms[keep], x[keep], y[keep])
    n = np.bincount(codes, minlength=k)
    out: dict[str, Any] = {name: np.full(k, np.nan) for name in ("value", "low", "high")}
    out["n"], out["block_length"] = n, np.zeros(k, dtype=int)
    out["note"] = np.array([f"{one} pairs, fewer than min_obs={min_obs}" if one < min_obs else "" for one in n], object)
    out["note"][infinite] = "an infinite value among the pairs"
    out["replicates"] = np.full((k, n_boot), np.nan) if keep_replicates else None
    for sensors, series in _chunks(codes, n, min_obs, x, y):
        out["value"][sensors] = _estimate(metric, series)
        reason = undefined(metric, series)
        if block_length != "auto":
            reason[(series.n < 2 * block_length) & (reason == "")] = f"fewer pairs than two blocks of {block_length}"
        out["note"][sensors] = reason
        good = np.flatnonzero(reason == "")
        if not good.size:
            continue
        sensors, series = sensors[good], series.take(good)
        if method == "assume_independent":
            d = np.where(series.there, series.x - series.y, np.nan)
            sd = np.nanstd(d, axis=1, ddof=1)
            out["low"][sensors], out["high"][sensors] = _analytic(metric, out["value"][sensors], sd, series.n, level)
            continue
        result = _block_intervals(
            metric,
            series,
            level=level,
            n_boot=n_boot,
            block_length=block_length,
            seed=seed,
            keep_replicates=keep_replicates,
        )
        out["low"][sensors], out["high"][sensors] = result.low, result.high
        out["block_length"][sensors], out["note"][sensors] = result.length, result.note
        if keep_replicates:
            out["replicates"][sensors] = result.replicates
    return out


def _prepare(who: str, table: pd.DataFrame, by: str, observed: str, predicted: str, time: str | None) -> tuple:
    """Pairs of a table in order of sensor and time, and the labels of the sensors."""
    if time is None:
        raise ParameterError(who, "the order of the values in time is not known", next_step="Name the time column")
    time_ms = check_table(table, who=who, by=[by], observed=observed, predicted=predicted, time=time)
    codes, labels = encode(table, [by])
    order = no_duplicates(who, codes, time_ms, labels)
    x, y = (table[c].to_numpy("float64", na_value=np.nan) for c in (predicted, observed))
    order = order[~(np.isnan(x) | np.isnan(y))[order]]
    return codes[order], labels, time_ms[order], x[order], y[order]


def score_intervals(
    table: pd.DataFrame,
    *,
    metrics: Sequence[str] | str = ("ubrmse", "bias", "pearson_r"),
    by: str = "sensor_id",
    observed: str = "observed",
    predicted: str = "predicted",
    time: str = "time",
    method: str = "block_bootstrap",
    level: float = 0.95,
    n_boot: int = 1000,
    block_length: int | str = "auto",
    seed: int = 0,
    min_obs: int = MIN_OBS,
) -> pd.DataFrame:
    """Confidence intervals of the scores of every sensor of a long table.

    Parameters
    ----------
    table, by, observed, predicted, time
        As in `score_table`. Blocks run over the pairs that are there, in order of time.
    metrics : sequence of str
        From `BLOCK_METRICS`, or `ANALYTIC_METRICS` with ``method="assume_independent"``.
    method : {"block_bootstrap", "assume_independent"}
        See the module's description.
    level : float
        Nominal coverage.
    n_boot, seed : int
        Replicates, and the seed that makes them repeat. A sensor's interval does not depend on the other sensors.
    block_length : "auto" or int
        Values in a block. An int is used for all sensors, as given.
    min_obs : int
        Sensors with fewer pairs get NaN.

    Returns
    -------
    DataFrame
        One row a sensor and metric: `by`, ``metric``, ``value``, ``low``, ``high``, ``n``, ``block_length`` (0 where there
        are no blocks), ``method``, ``level``, and ``note``: why there is no interval, or what to beware of.

    Raises
    ------
    ParameterError, ContractError
        On an unknown metric, method or option; on a table that `score_table` would refuse.
    """
    who = "score_intervals"
    names = _check_options(who, metrics, method, level, n_boot, block_length, seed)
    floor = max(int(min_obs), 4)
    codes, labels, time_ms, x, y = _prepare(who, table, by, observed, predicted, time)
    parts = []
    for metric in names:
        found = _all_intervals(
            metric,
            codes,
            len(labels),
            time_ms,
            x,
            y,
            method=method,
            level=level,
            n_boot=int(n_boot),
            block_length=block_length,
            seed=int(seed),
            min_obs=floor,
        )
        part = labels.assign(metric=metric, **{c: found[c] for c in ("value", "low", "high", "n", "block_length")})
        parts.append(part.assign(method=method, level=level, note=found["note"]))
    return pd.concat(parts, ignore_index=True)


def block_replicates(
    table: pd.DataFrame,
    metric: str,
    *,
    by: str = "sensor_id",
    observed: str = "observed",
    predicted: str = "predicted",
    time: str = "time",
    n_boot: int = 1000,
    block_length: int | str = "auto",
    seed: int = 0,
    min_obs: int = MIN_OBS,
) -> pd.DataFrame:
    """Block-bootstrap replicates of one score of every sensor, for the second stage of `average_interval`.

    Parameters as `score_intervals`.

    Returns
    -------
    DataFrame, shape (n_sensors, n_boot)
        Indexed by `by`; NaN for a sensor without an interval.
    """
    who = "block_replicates"
    names = _check_options(who, metric, "block_bootstrap", 0.95, n_boot, block_length, seed)
    codes, labels, time_ms, x, y = _prepare(who, table, by, observed, predicted, time)
    found = _all_intervals(
        names[0],
        codes,
        len(labels),
        time_ms,
        x,
        y,
        method="block_bootstrap",
        level=0.95,
        n_boot=int(n_boot),
        block_length=block_length,
        seed=int(seed),
        min_obs=max(int(min_obs), 4),
        keep_replicates=True,
    )
    return pd.DataFrame(found["replicates"], index=pd.Index(labels[by], name=by))


def interval(
    pred: Any,
    obs: Any,
    metric: str = "ubrmse",
    *,
    mask: Any = None,
    method: str = "block_bootstrap",
    level: float = 0.95,
    n_boot: int = 1000,
    block_length: int | str = "auto",
    seed: int = 0,
    min_obs: int = MIN_OBS,
) -> Interval:
    """Confidence interval of a score of one series in order of time.

    Parameters
    ----------
    pred, obs : array-like, shape (n,)
        In order of time. Pairs with NaN, or with False in `mask`, are left out.
    metric : str
        From `BLOCK_METRICS` (but ``anomaly_r``, which needs times: use `score_intervals`) or `ANALYTIC_METRICS`.
    mask, method, level, n_boot, block_length, seed, min_obs
        As in `score_intervals`.

    Returns
    -------
    Interval

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> obs = rng.uniform(0.1, 0.4, 300)
    >>> found = interval(obs + rng.normal(0.0, 0.04, 300), obs, "ubrmse")
    >>> found.low < 0.04 < found.high
    True
    """
    who = "interval"
    names = _check_options(who, metric, method, level, n_boot, block_length, seed)
    x, y = np.asarray(pred, "float64"), np.asarray(obs, "float64")
    if x.ndim != 1 or x.shape != y.shape:
        raise ContractError(who, "the series are not of one shape (n,)", got=(x.shape, y.shape))
    if names[0] == "anomaly_r":
        raise ParameterError(who, "'anomaly_r' needs times", next_step="Use score_intervals on a table with times")
    ok = ~(np.isnan(x) | np.isnan(y))
    if mask is not None:
        if np.shape(mask) != x.shape:
            raise ContractError(who, "the mask has another shape", got=np.shape(mask), expected=x.shape)
        ok &= np.asarray(mask, bool)
    found = _all_intervals(
        names[0],
        np.zeros(int(ok.sum()), int),
        1,
        None,
        x[ok],
        y[ok],
        method=method,
        level=level,
        n_boot=int(n_boot),
        block_length=block_length,
        seed=int(seed),
        min_obs=max(int(min_obs), 4),
    )
    value, low, high = (float(found[c][0]) for c in ("value", "low", "high"))
    return Interval(value, low, high, level, method, int(found["n"][0]), str(found["note"][0]))
