"""Scores of long tables (one row an observation of a sensor): per sensor, pooled, and averaged over sensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from smnb.contract import ContractError, ParameterError
from smnb.metrics.grouped import (
    as_milliseconds,
    group_anomaly,
    group_max,
    group_mean,
    group_min,
    group_ranks,
    group_sum,
)
from smnb.metrics.scores import CONSTANT, CORRELATIONS, FROM_MOMENTS, METRICS, pearson_from, rmse_from

#: Sensors with fewer pairs have no score (paper 004, section 3c).
MIN_OBS = 13
DEFAULT_METRICS = ("bias", "rmse", "ubrmse", "pearson_r", "spearman_r", "r2", "anomaly_r", "slope")
AVERAGES = ("mean", "median", "fisher_z")
_TABLE_METRICS = tuple(m for m in METRICS if m != "n_obs")


class _GroupMoments:
    """Central moments of every group, with the names that `scores.PairMoments` gives them."""

    def __init__(self, codes: np.ndarray, k: int, x: np.ndarray, y: np.ndarray, *, constant: float = CONSTANT) -> None:
        self.n = group_sum(codes, k)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            self.x_mean, self.y_mean = group_mean(codes, k, x), group_mean(codes, k, y)
            self.bias = self.x_mean - self.y_mean
            dx, dy = x - self.x_mean[codes], y - self.y_mean[codes]
            self.xx = group_sum(codes, k, dx * dx) / self.n
            self.yy = group_sum(codes, k, dy * dy) / self.n
            self.xy = group_sum(codes, k, dx * dy) / self.n
            self.dd = group_sum(codes, k, (dx - dy) ** 2) / self.n
        self.x_constant = ~(self.xx > (constant * self.x_mean) ** 2)
        self.y_constant = ~(self.yy > (constant * self.y_mean) ** 2)


def check_table(
    table: pd.DataFrame, *, who: str, by: Sequence[str], observed: str, predicted: str, time: str | None
) -> np.ndarray | None:
    """Check a long table; return its times as int64 milliseconds (None without a time column).

    Raises
    ------
    ContractError
        On an empty table, a missing column, a value that is not a number, a row without its sensor or time, or two rows
        of one sensor and time.
    """
    if not isinstance(table, pd.DataFrame):
        raise ContractError(who, "the table is not a pandas DataFrame", got=type(table).__name__)
    wanted = [*by, observed, predicted, *([time] if time is not None else [])]
    missing = [c for c in wanted if c not in table.columns]
    if missing:
        raise ContractError(
            who,
            f"columns {missing} are missing",
            got=list(map(str, table.columns)),
            expected=wanted,
            next_step="Name the columns with by=, observed=, predicted=, time= (time=None for a table without times)",
        )
    if table.empty:
        raise ContractError(who, "the table has no rows", next_step="Check the matching of predictions to observations")
    for column in (observed, predicted):
        if not pd.api.types.is_numeric_dtype(table[column].dtype) or pd.api.types.is_bool_dtype(table[column].dtype):
            raise ContractError(who, f"column {column!r} is not numeric", got=str(table[column].dtype))
    for column in by:
        if table[column].isna().any():
            raise ContractError(who, f"{int(table[column].isna().sum())} rows have no {column!r}")
    if time is None:
        return None
    return as_milliseconds(table[time], who=who)


def no_duplicates(who: str, codes: np.ndarray, time_ms: np.ndarray, labels: pd.DataFrame) -> np.ndarray:
    """Raise `ContractError` where a sensor has a time twice; return the order of the rows by sensor and time."""
    later = (codes[1:] > codes[:-1]) | ((codes[1:] == codes[:-1]) & (time_ms[1:] > time_ms[:-1]))
    if later.all():
        return np.arange(codes.size)
    order = np.lexsort((time_ms, codes))
    c, t = codes[order], time_ms[order]
    same = (c[1:] == c[:-1]) & (t[1:] == t[:-1])
    if same.any():
        first = int(c[1:][same][0])
        example = (*labels.iloc[first].tolist(), str(t[1:][same][0].astype("datetime64[ms]")))
        raise ContractError(
            who,
            f"{int(same.sum())} rows repeat the sensor and time of another row",
            got=example,
            next_step="Merge or drop the duplicates, or name the column that tells sensors apart",
        )
    return order


def encode(table: pd.DataFrame, by: Sequence[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """Group code of each row and the labels of the groups, in sorted order."""
    groups = table.groupby(list(by), sort=True, observed=True)
    codes = groups.ngroup().to_numpy()
    _, first = np.unique(codes, return_index=True)
    return codes, table[list(by)].iloc[first].reset_index(drop=True)


def metric_names(who: str, metrics: Sequence[str] | str, known: Sequence[str]) -> tuple[str, ...]:
    """Check the names of metrics; a single name is taken as a sequence of one."""
    names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    unknown = [m for m in names if m not in known]
    if unknown or not names:
        raise ParameterError(who, f"unknown metric {unknown}", got=names, expected=tuple(known))
    return names


def _check_min_obs(who: str, min_obs: int) -> None:
    if not isinstance(min_obs, int | np.integer) or min_obs < 1:
        raise ParameterError(who, "'min_obs' is not a positive whole number", got=min_obs, expected=">= 1")


def _nrmse_by_group(codes: np.ndarray, k: int, x: np.ndarray, y: np.ndarray, m: _GroupMoments) -> np.ndarray:
    scale = group_max(codes, k, np.maximum(x, y)) - group_min(codes, k, np.minimum(x, y))
    return rmse_from(m) / np.where(scale == 0, np.nan, scale)


def _scores_of_groups(
    codes: np.ndarray,
    k: int,
    x: np.ndarray,
    y: np.ndarray,
    time_ms: np.ndarray | None,
    *,
    metrics: Sequence[str],
    min_obs: int,
    window_days: float,
    window_min_obs: int,
    anomaly_codes: np.ndarray | None = None,
) -> pd.DataFrame:
    """Scores of every group in one pass over finite-or-infinite pairs; columns n, the metrics, reason."""
    infinite_row = ~(np.isfinite(x) & np.isfinite(y))
    has_infinite = group_sum(codes[infinite_row], k) > 0
    m = _GroupMoments(codes, k, x, y)
    columns: dict[str, np.ndarray] = {}
    anomaly_n = None
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for name in metrics:
            if name in FROM_MOMENTS:
                columns[name] = FROM_MOMENTS[name](m)
            elif name == "spearman_r":
                columns[name] = pearson_from(_GroupMoments(codes, k, group_ranks(codes, x), group_ranks(codes, y)))
            elif name == "nrmse":
                columns[name] = _nrmse_by_group(codes, k, x, y, m)
            else:
                finite = ~infinite_row
                within = (codes if anomaly_codes is None else anomaly_codes)[finite]
                ax, ay = (
                    group_anomaly(
                        within, time_ms[finite], v[finite], window_days=window_days, window_min_obs=window_min_obs
                    )
                    for v in (x, y)
                )
                there = ~np.isnan(ax)
                am = _GroupMoments(codes[finite][there], k, ax[there], ay[there], constant=0.0)
                anomaly_n = am.n
                columns[name] = np.where(am.n >= min_obs, pearson_from(am), np.nan)
    enough = (m.n >= min_obs) & ~has_infinite
    result = pd.DataFrame({"n": m.n.astype("int64")})
    for name, value in columns.items():
        result[name] = np.where(enough & np.isfinite(value), value, np.nan)
    result["reason"] = _reasons(m, metrics, min_obs, has_infinite, anomaly_n)
    return result


def _reasons(
    m: _GroupMoments, metrics: Sequence[str], min_obs: int, has_infinite: np.ndarray, anomaly_n: np.ndarray | None
) -> list[str]:
    """Why a score of each group is NaN; empty where none is."""
    whole = np.select(
        [m.n == 0, m.n < min_obs, has_infinite],
        ["no pair with both values", "few", "an infinite value among the pairs"],
        "",
    ).astype(object)
    few = whole == "few"
    whole[few] = [f"{int(n)} pairs, fewer than min_obs={min_obs}" for n in m.n[few]]
    fine = whole == ""
    needs_pred = [name for name in metrics if name in CORRELATIONS or name == "r2_pearson"]
    needs_obs = [*needs_pred, *(name for name in metrics if name in ("r2", "slope"))]
    parts = [
        (fine & m.x_constant, needs_pred, "the predictions are constant"),
        (fine & m.y_constant, needs_obs, "the observations are constant"),
    ]
    if anomaly_n is not None:
        parts.append((fine & (anomaly_n < min_obs), ["anomaly_r"], f"fewer than min_obs={min_obs} anomalies"))
    for where, names, text in parts:
        if names and where.any():
            whole[where] = [f"{old}; {text}" if old else text for old in whole[where]]
    return whole.tolist()


def score_table(
    table: pd.DataFrame,
    *,
    by: str | Sequence[str] = "sensor_id",
    observed: str = "observed",
    predicted: str = "predicted",
    time: str | None = "time",
    sensor: str = "sensor_id",
    min_obs: int = MIN_OBS,
    metrics: Sequence[str] | str = DEFAULT_METRICS,
    window_days: float = 35.0,
    window_min_obs: int = 3,
) -> pd.DataFrame:
    """Score every sensor of a long table in one vectorised pass.

    Parameters
    ----------
    table : DataFrame
        One row an observation, in any order. NaN on either side leaves the row out.
    by : str or sequence of str
        Column(s) that make a group: the sensor, or e.g. a stratum for pooled scores of strata.
    observed, predicted, time : str
        Names of the columns. ``time=None`` for a table without times: duplicates are then not looked for, and
        ``anomaly_r`` cannot be computed.
    sensor : str
        The column that tells sensors apart, within which times are unique and anomalies are taken. Only looked at when it
        is in the table; else each group of `by` is one sensor.
    min_obs : int
        Groups with fewer pairs get NaN. Default 13, as in paper 004.
    metrics : sequence of str
        Names from `smnb.metrics.METRICS`.
    window_days, window_min_obs
        Of the moving average of ``anomaly_r`` (see `smnb.metrics.anomaly_r`).

    Returns
    -------
    DataFrame
        One row a group, sorted by `by`: its labels, ``n`` (pairs), one column a metric, and ``reason``, which says why a
        score is NaN (empty where none is). A sensor is never dropped.

    Raises
    ------
    ContractError
        On an empty table, a missing or non-numeric column, a row without sensor or time, or two rows of one sensor at
        one time.
    ParameterError
        On an unknown metric, or ``anomaly_r`` without times.

    Examples
    --------
    >>> table = pd.DataFrame({"sensor_id": ["a"] * 3 + ["b"], "observed": [0.1, 0.2, 0.3, 0.1],
    ...                       "predicted": [0.2, 0.3, 0.4, 0.1], "time": pd.date_range("2020", periods=4)})
    >>> scores = score_table(table, min_obs=2, metrics=("bias", "ubrmse"))
    >>> scores["reason"].tolist()
    ['', '1 pairs, fewer than min_obs=2']
    """
    who = "score_table"
    columns = [by] if isinstance(by, str) else list(by)
    names = metric_names(who, metrics, _TABLE_METRICS)
    _check_min_obs(who, min_obs)
    if "anomaly_r" in names and time is None:
        raise ParameterError(who, "'anomaly_r' needs times", got=None, next_step="Name the time column with time=")
    time_ms = check_table(table, who=who, by=columns, observed=observed, predicted=predicted, time=time)
    codes, labels = encode(table, columns)
    within, sensors = (codes, labels) if sensor not in table.columns or columns == [sensor] else encode(table, [sensor])
    if time_ms is not None:
        no_duplicates(who, within, time_ms, sensors)
    x, y = (table[c].to_numpy("float64", na_value=np.nan) for c in (predicted, observed))
    ok = ~(np.isnan(x) | np.isnan(y))
    scores = _scores_of_groups(
        codes[ok],
        len(labels),
        x[ok],
        y[ok],
        None if time_ms is None else time_ms[ok],
        metrics=names,
        min_obs=min_obs,
        window_days=window_days,
        window_min_obs=window_min_obs,
        anomaly_codes=within[ok],
    )
    result = pd.concat([labels, scores], axis=1)
    result.attrs["min_obs"] = min_obs
    return result


def pooled(
    table: pd.DataFrame,
    *,
    by: str = "sensor_id",
    observed: str = "observed",
    predicted: str = "predicted",
    time: str | None = "time",
    min_obs: int = 2,
    metrics: Sequence[str] | str = DEFAULT_METRICS,
    window_days: float = 35.0,
    window_min_obs: int = 3,
) -> pd.Series:
    """Score all pairs of a table together, whichever sensor they are from.

    Pooled scores mix the differences between sensors with those in time: a pooled R is mostly about telling a wet site
    from a dry one. Anomalies are still taken within each sensor (`by`). Parameters and errors as `score_table`.

    Returns
    -------
    Series
        ``n``, the metrics, ``reason`` and ``n_sensors`` (sensors with at least one pair).
    """
    who = "pooled"
    names = metric_names(who, metrics, _TABLE_METRICS)
    _check_min_obs(who, min_obs)
    if "anomaly_r" in names and time is None:
        raise ParameterError(who, "'anomaly_r' needs times", got=None, next_step="Name the time column with time=")
    time_ms = check_table(table, who=who, by=[by], observed=observed, predicted=predicted, time=time)
    codes, labels = encode(table, [by])
    if time_ms is not None:
        no_duplicates(who, codes, time_ms, labels)
    x, y = (table[c].to_numpy("float64", na_value=np.nan) for c in (predicted, observed))
    ok = ~(np.isnan(x) | np.isnan(y))
    scores = _scores_of_groups(
        np.zeros(int(ok.sum()), dtype=int),
        1,
        x[ok],
        y[ok],
        None if time_ms is None else time_ms[ok],
        metrics=names,
        min_obs=min_obs,
        window_days=window_days,
        window_min_obs=window_min_obs,
        anomaly_codes=codes[ok],
    )
    row = scores.iloc[0].copy()
    row["n_sensors"] = int(np.unique(codes[ok]).size)
    row.name = "pooled"
    return row


def score_array(
    pred: Any,
    obs: Any,
    *,
    dim: Any = "time",
    time: Any = None,
    mask: Any = None,
    min_obs: int = MIN_OBS,
    metrics: Sequence[str] | str = DEFAULT_METRICS,
) -> xr.Dataset:
    """Score a ``(sensor, time)`` array, or any array with a time dimension, e.g. ``(time, lat, lon)``.

    Parameters
    ----------
    pred, obs : DataArray or ndarray
        Plain 2-D arrays are read as ``(sensor, time)``. Dask-backed arrays stay lazy.
    dim : str or sequence of str
        Dimension(s) to reduce.
    time : array-like, optional
        Times along `dim`, for ``anomaly_r`` on arrays without a time coordinate.
    mask, min_obs, metrics
        As elsewhere in this package; `mask` is True where a pair counts.

    Returns
    -------
    Dataset
        One variable a metric beside ``n_obs``.
    """
    who = "score_array"
    names = metric_names(who, metrics, _TABLE_METRICS)
    if not isinstance(pred, xr.DataArray) and not isinstance(obs, xr.DataArray):
        if np.ndim(pred) != 2 or np.shape(pred) != np.shape(obs):
            raise ContractError(
                who,
                "plain arrays are not both (sensor, time)",
                got=(np.shape(pred), np.shape(obs)),
                next_step="Pass DataArrays for other shapes",
            )
        pred, obs = (xr.DataArray(np.asarray(a), dims=("sensor", "time")) for a in (pred, obs))
    result = xr.Dataset({"n_obs": METRICS["n_obs"](pred, obs, dim=dim, mask=mask)})
    for name in names:
        extra = {"time": time} if name == "anomaly_r" else {}
        result[name] = METRICS[name](pred, obs, dim=dim, mask=mask, min_obs=min_obs, **extra)
    result.attrs["min_obs"] = int(min_obs)
    return result


def average_values(values: np.ndarray, how: str) -> float:
    """Average finite `values`; ``fisher_z`` is tanh(mean(atanh)). NaN for none.

    A correlation of exactly 1 or -1, which is infinite in z, counts as 1 - 1e-9.
    """
    if values.size == 0:
        return float("nan")
    if how == "fisher_z":
        return float(np.tanh(np.arctanh(np.clip(values, -1 + 1e-9, 1 - 1e-9)).mean()))
    return float(np.mean(values) if how == "mean" else np.median(values))


def average(
    scores: pd.DataFrame,
    how: str = "mean",
    *,
    metrics: Sequence[str] | str | None = None,
    by: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Average the scores of sensors, each sensor once, saying how.

    Parameters
    ----------
    scores : DataFrame
        From `score_table`.
    how : {"mean", "median", "fisher_z"}
        ``mean`` is what paper 004 does, also for R. ``fisher_z`` averages correlations as atanh(R) and turns back; scores
        that are no correlations are then averaged plainly, and the ``how`` column says "mean" for them.
    metrics : sequence of str, optional
        Default every metric among the columns.
    by : str or sequence of str, optional
        Strata: columns of `scores`.

    Returns
    -------
    DataFrame
        One row a stratum and metric: the strata, ``metric``, ``how``, ``value``, ``n_sensors`` (sensors that have this
        score) and ``n_without`` (sensors whose score is NaN). RMSE² = ubRMSE² + bias² holds for each sensor, not here.

    Raises
    ------
    ParameterError
        On an unknown `how` or metric.
    ContractError
        On an empty table or a missing column.
    """
    who = "average"
    if how not in AVERAGES:
        raise ParameterError(who, "unknown 'how'", got=how, expected=AVERAGES)
    if not isinstance(scores, pd.DataFrame) or scores.empty:
        raise ContractError(who, "there are no scores", expected="a table from score_table with at least one row")
    present = tuple(m for m in _TABLE_METRICS if m in scores.columns)
    names = metric_names(who, present if metrics is None else metrics, present)
    strata = [] if by is None else [by] if isinstance(by, str) else list(by)
    missing = [c for c in strata if c not in scores.columns]
    if missing:
        raise ContractError(who, f"columns {missing} are missing", got=list(map(str, scores.columns)))
    groups = [((), scores)] if not strata else scores.groupby(strata, sort=True, observed=True)
    rows = []
    for label, group in groups:
        for name in names:
            values = group[name].to_numpy("float64")
            there = values[np.isfinite(values)]
            used = how if how != "fisher_z" or name in CORRELATIONS else "mean"
            rows.append((*label, name, used, average_values(there, used), there.size, values.size - there.size))
    return pd.DataFrame(rows, columns=[*strata, "metric", "how", "value", "n_sensors", "n_without"])
