"""Scores of long tables (one row an observation of a sensor): per sensor, by stratum, and of all pairs together."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from smnb.contract import ContractError, ParameterError, check_count, check_table
from smnb.metrics.registry import DEFAULT_METRICS, Metric, MetricLike, metric_list
from smnb.metrics.scores import Moments, as_milliseconds, group_anomaly, group_mean, group_ranks, group_sum

MIN_OBS = 13  # sensors with fewer pairs have no score (paper 004, section 3c)
_UNLIKE = 5.0  # predictions so many times the other sensors' are in another unit, or of another quantity
_LOST = ("have no prediction", "have no observation", "repeat another")
_NAMED = 5  # sensors that a line names
#: Why a score is not defined, by what must vary for it.
_SIDES = {"pred": "predictions", "obs": "observations", "difference": "differences"}
IS_CONSTANT = {which: f"the {name} are constant" for which, name in _SIDES.items()}


class Pairs:
    """The rows of a table that have both values, in order of sensor and time, and what sensor each is of; checked."""

    def __init__(self, table: pd.DataFrame, who: str) -> None:
        needed, step = ("sensor_id", "time", "observed", "predicted"), "Rename the columns of the table"
        check_table(who, table, needed, complete=["sensor_id"], next_step=step)
        for name in ("observed", "predicted"):
            if not pd.api.types.is_numeric_dtype(table[name].dtype) or pd.api.types.is_bool_dtype(table[name].dtype):
                raise ContractError(who, f"column {name!r} is not numeric", got=str(table[name].dtype))
        self.codes, self.sensors = _encode(table, ["sensor_id"])
        self.time_ms = as_milliseconds(table["time"], who=who)
        self.x, self.y = (table[c].to_numpy("float64", na_value=np.nan) for c in ("predicted", "observed"))
        order = np.lexsort((self.time_ms, self.codes))
        c, t = self.codes[order], self.time_ms[order]
        same = (c[1:] == c[:-1]) & (t[1:] == t[:-1])
        if same.any():
            what = f"{int(same.sum())} rows repeat the sensor and time of another row"
            first = int(np.flatnonzero(same)[0])
            got = self.sensors["sensor_id"].iloc[c[first]], str(t[first].astype("datetime64[ms]"))
            step = "Merge or drop the duplicates, or tell the sensors apart in sensor_id"
            raise ContractError(who, what, got=got, next_step=step)
        self.rows = order[~(np.isnan(self.x) | np.isnan(self.y))[order]]
        self.codes, self.time_ms, self.x, self.y = (a[self.rows] for a in (self.codes, self.time_ms, self.x, self.y))
        self.finite = np.isfinite(self.x) & np.isfinite(self.y)


def _encode(table: pd.DataFrame, by: Sequence[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """Group code of each row and the labels of the groups, in sorted order."""
    groups = table.groupby(list(by), sort=True, observed=True)
    codes = groups.ngroup().to_numpy()
    _, first = np.unique(codes, return_index=True)
    return codes, table[list(by)].iloc[first].reset_index(drop=True)


def _series_of(kind: str, pairs: Pairs, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group, predictions and observations that a metric sees: values, ranks in the group, or anomalies of the sensor."""
    if kind == "values":
        return codes, pairs.x, pairs.y
    if kind == "ranks":
        return codes, group_ranks(codes, pairs.x), group_ranks(codes, pairs.y)
    at = np.flatnonzero(pairs.finite)
    ax, ay = (group_anomaly(pairs.codes[at], pairs.time_ms[at], v[at]) for v in (pairs.x, pairs.y))
    there = ~np.isnan(ax)
    return codes[at][there], ax[there], ay[there]


def one_number(one: Metric, x: np.ndarray, y: np.ndarray) -> float:
    """Value of a metric's function of one series; `ParameterError` where it is no number."""
    value = one.function(x, y)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        got, expected = repr(value)[:80], "function(pred, obs) -> float"
        raise ParameterError(one.name, "the function gives no number", got=got, expected=expected) from error


def _scores_of_groups(
    pairs: Pairs, codes: np.ndarray, k: int, metrics: Sequence[Metric], min_obs: int
) -> dict[str, Any]:
    """Scores of every group in one pass: n, the metrics, and the reason why one is NaN (empty where none is)."""
    n = group_sum(codes, k)
    has_infinite = group_sum(codes[~pairs.finite], k) > 0
    enough = (n >= min_obs) & ~has_infinite
    few = [f"{int(one)} pairs, fewer than min_obs={min_obs}" if one < min_obs else "" for one in n]
    whole = ["no pair with both values", "an infinite value among the pairs"]
    reason = np.select([n == 0, has_infinite & (n >= min_obs)], whole, few).astype(object)
    columns: dict[str, Any] = {"n": n.astype("int64")}
    seen: dict[str, tuple[tuple, Moments]] = {}
    for one in metrics:
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            if one.of not in seen:
                c, x, y = series = _series_of(one.of, pairs, codes)
                means = group_mean(c, k, x), group_mean(c, k, y)
                total, limit = functools.partial(group_sum, c, k), {"constant": 0.0} if one.of == "anomalies" else {}
                moments = Moments(group_sum(c, k), *means, x - means[0][c], y - means[1][c], total, **limit)
                seen[one.of] = series, moments
            (c, x, y), m = seen[one.of]
            fine = enough & (m.n >= min_obs)
            if one.from_moments is not None:
                value = one.from_moments(m)
            else:
                rows = {group: at for group, at in pd.Series(c).groupby(c).indices.items() if fine[group]}
                value = np.full(k, np.nan)
                value[list(rows)] = [one_number(one, x[at], y[at]) for at in rows.values()]
        columns[one.name] = np.where(fine & np.isfinite(value), value, np.nan)
        sides = (("pred", m.x_constant), ("obs", m.y_constant))
        notes = [(fine & constant, IS_CONSTANT[which]) for which, constant in sides if which in one.varies]
        if one.of == "anomalies":
            notes.append((enough & (m.n < min_obs), f"fewer than min_obs={min_obs} anomalies"))
        for where, text in notes:  # several metrics may say the same
            reason[where] = [old if text in old else f"{old}; {text}" if old else text for old in reason[where]]
    return columns | {"reason": reason.tolist()}


def score_table(
    table: pd.DataFrame,
    *,
    by: str | Sequence[str] = "sensor_id",
    min_obs: int = MIN_OBS,
    metrics: MetricLike | Iterable[MetricLike] = DEFAULT_METRICS,
) -> pd.DataFrame:
    """Score every sensor of a long table in one vectorised pass.

    Parameters
    ----------
    table : DataFrame
        ``sensor_id``, ``time`` (UTC), ``observed``, ``predicted``: one row an observation, in any order. NaN on either
        side leaves the row out.
    by : str or sequence of str
        Column(s) that make a group: the sensor, or e.g. a stratum for pooled scores of strata. Times are unique, and
        anomalies are taken, within each sensor.
    min_obs, metrics
        Groups with fewer pairs get NaN, default 13 as in paper 004; one or several of what `smnb.metrics.metric` takes. An own
        function ``f(pred, obs)`` gets the pairs of each group in order of time.

    Returns
    -------
    DataFrame
        One row a group, sorted by `by`: its labels, ``n`` (pairs), one column a metric, and ``reason``, which says why a
        score is NaN (empty where none is). A sensor is never dropped.

    Raises
    ------
    ContractError, ParameterError
        On an empty table, a missing or non-numeric column, a row without sensor or time, or two rows of one sensor at
        one time; on an unknown metric, or one whose function gives no number.

    Examples
    --------
    >>> table = pd.DataFrame({"sensor_id": ["a"] * 3 + ["b"], "observed": [0.1, 0.2, 0.3, 0.1],
    ...                       "predicted": [0.2, 0.3, 0.4, 0.1], "time": pd.date_range("2020", periods=4)})
    >>> scores = score_table(table, min_obs=2, metrics=("bias", "ubrmse"))
    >>> scores["reason"].tolist()
    ['', '1 pairs, fewer than min_obs=2']
    """
    who = "score_table"
    chosen = metric_list(metrics)
    check_count(who, "min_obs", min_obs)
    pairs = Pairs(table, who)
    by = [by] if isinstance(by, str) else list(by)
    check_table(who, table, by, complete=by)
    codes, labels = _encode(table, by)
    found = pd.DataFrame(_scores_of_groups(pairs, codes[pairs.rows], len(labels), chosen, min_obs))
    result = pd.concat([labels, found], axis=1)
    result.attrs["min_obs"] = min_obs
    return result


def pooled(table: pd.DataFrame, *, metrics: MetricLike | Iterable[MetricLike] = DEFAULT_METRICS) -> pd.Series:
    """Score all pairs of a table together, whichever sensor they are from.

    Pooled scores mix the differences between sensors with those in time: a pooled R is mostly about telling a wet site
    from a dry one. Anomalies are still taken within each sensor. Parameters and errors as `score_table`.

    Returns
    -------
    Series
        ``n``, the metrics, ``reason`` and ``n_sensors`` (sensors with at least one pair).
    """
    chosen, pairs = metric_list(metrics), Pairs(table, "pooled")
    found = _scores_of_groups(pairs, np.zeros(pairs.rows.size, dtype=int), 1, chosen, 2)
    row = {name: value[0] for name, value in found.items()}
    return pd.Series({**row, "n_sensors": int(np.unique(pairs.codes).size)}, name="pooled")


def count_losses(table: pd.DataFrame, scores: pd.DataFrame, min_obs: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Count what the scores of a table of predictions leave out, and name the sensors that are unlike the others.

    The first has a row a sensor of `scores`: rows with ``no_prediction`` and ``no_observation``, those ``repeated`` that
    `smnb.sensors.read_predictions` left out, and a ``note`` where predictions are five or more times the other sensors' (or a
    fifth) and observations are not: mostly another unit. The second has the sums, sensors of fewer pairs than `min_obs`, and all
    that ``said`` in one line, empty if that is nothing.
    """
    there = table[["observed", "predicted"]].notna()
    missing = {"no_prediction": there["observed"] & ~there["predicted"], "no_observation": ~there["observed"]}
    counts = pd.DataFrame(missing).groupby(table["sensor_id"].to_numpy()).sum()
    counts["repeated"] = pd.Series(table.attrs.get("repeated", {}), dtype="float64")
    counts = counts.reindex(scores["sensor_id"]).fillna(0).astype(int)
    levels = table[there.all(axis=1)].groupby("sensor_id", observed=True)[["observed", "predicted"]].median()
    times = levels.apply(_times_the_others)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = np.log([times["predicted"], times["predicted"] / times["observed"]])
    strange = (both >= np.log(_UNLIKE)).all(axis=0) | (both <= -np.log(_UNLIKE)).all(axis=0)
    unlike = times.loc[strange & np.isfinite(both[1]), "predicted"]
    notes = unlike.map("predictions are {:.3g} times the others'".format).astype(object)
    counts["note"] = notes.reindex(counts.index, fill_value="")
    few = scores.loc[scores["n"] < min_obs, "sensor_id"].tolist()
    sums = {f"rows_{name}": int(counts[name].sum()) for name in ("no_prediction", "no_observation", "repeated")}
    named = {"sensors_below_min_obs": few, "sensors_unlike_the_others": unlike.to_dict()}
    trimmed = list(table.attrs.get("trimmed", []))
    parts = [f"{n:,} rows {text}" for n, text in zip(sums.values(), _LOST, strict=True) if n]
    if few:
        parts.append(f"fewer than {min_obs} pairs and no score: {named_sensors(few)}")
    if len(unlike):
        times = max(unlike, key=lambda one: abs(np.log(one)))
        parts.append(f"predictions {times:.3g} times the others' (another unit?): {named_sensors(list(unlike.index))}")
    if trimmed:
        parts.append(f"blanks around {', '.join(map(repr, trimmed[:_NAMED]))} were trimmed")
    return counts.reset_index(drop=True), sums | named | {"names_trimmed": trimmed, "said": "; ".join(parts)}


def named_sensors(sensors: list[str]) -> str:
    """How many sensors, and the names of the first five."""
    more = f" and {len(sensors) - _NAMED} more" if len(sensors) > _NAMED else ""
    return f"{len(sensors)} sensor{'s' * (len(sensors) > 1)} ({', '.join(map(str, sensors[:_NAMED]))}{more})"


def _times_the_others(levels: pd.Series) -> pd.Series:
    """Each level over the (lower) median of all the others."""
    last = len(levels) // 2 - 1
    if last < 0:
        return levels * np.nan
    ordered = np.sort(levels.to_numpy())
    with np.errstate(divide="ignore", invalid="ignore"):
        return levels / np.where(levels.rank(method="first") - 1 > last, ordered[last], ordered[last + 1])
