"""Averages over sensors with intervals, and the paired difference of two models.

The readings of one sensor depend on one another, and models are trained and split by sensor: the unit that is drawn again
is the sensor (or a cluster of sensors, e.g. the station or the network), never the reading. For the difference of two models
each sensor brings its own difference, which takes away what is common to both models at that sensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from smnb.contract import ContractError, ParameterError
from smnb.metrics.intervals import Interval
from smnb.metrics.tables import AVERAGES, average_values, metric_names

#: Which way each score is better. The bias is compared by its size.
BETTER = {
    "rmse": "lower",
    "ubrmse": "lower",
    "nrmse": "lower",
    "bias": "closer to 0",
    "pearson_r": "higher",
    "spearman_r": "higher",
    "anomaly_r": "higher",
    "r2": "higher",
    "r2_pearson": "higher",
}
_LABELS = {
    "rmse": "RMSE",
    "ubrmse": "ubRMSE",
    "pearson_r": "R",
    "spearman_r": "Spearman's R",
    "anomaly_r": "anomaly R",
    "r2": "R²",
    "r2_pearson": "squared R",
    "nrmse": "nRMSE",
    "bias": "|bias|",
}
#: With fewer clusters there is no interval (and paper 004 marks a stratum by an asterisk).
MIN_CLUSTERS = 5


@dataclass(frozen=True)
class Comparison:
    """Paired difference of two models at the same sensors."""

    metric: str
    a: str
    b: str
    a_value: float
    b_value: float
    difference: Interval
    """A minus B, averaged over sensors (of the absolute bias for ``bias``)."""
    n_only_one: int
    """Sensors left out because only one of the two has a score."""
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def _check(who: str, level: float, n_boot: int, seed: int, how: str) -> None:
    if how not in AVERAGES:
        raise ParameterError(who, "unknown 'how'", got=how, expected=AVERAGES)
    if not 0.0 < level < 1.0:
        raise ParameterError(who, "'level' is not between 0 and 1", got=level, expected="e.g. 0.95")
    if not isinstance(n_boot, int | np.integer) or n_boot < 100:
        raise ParameterError(who, "'n_boot' is too small for quantiles", got=n_boot, expected=">= 100")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ParameterError(who, "'seed' is not a whole number from 0", got=seed)


def _cluster_codes(who: str, clusters: object, size: int) -> np.ndarray:
    if clusters is None:
        return np.arange(size)
    codes, _ = pd.factorize(np.asarray(clusters))
    if codes.size != size or (codes < 0).any():
        raise ContractError(
            who,
            "there is not one cluster label a sensor",
            got=(codes.size, int((codes < 0).sum())),
            expected=f"{size} labels, none missing",
        )
    return codes


def _studentised_mean(values: np.ndarray, codes: np.ndarray, counts: np.ndarray, level: float) -> tuple[float, float]:
    """Bootstrap-t interval of the mean of `values` in clusters, drawn `counts` ``(n_boot, clusters)`` times."""
    k = counts.shape[1]
    size = np.bincount(codes, minlength=k).astype(float)
    mean = values.mean()
    total = np.bincount(codes, weights=values - mean, minlength=k)
    scale = np.sqrt(k / (k - 1.0))
    error = scale * np.sqrt((total**2).sum()) / size.sum()
    drawn = counts @ np.stack([total, size, total**2, total * size, size**2], axis=1)
    shift = drawn[:, 0] / drawn[:, 1]
    squares = np.maximum(drawn[:, 2] - 2.0 * shift * drawn[:, 3] + shift**2 * drawn[:, 4], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = shift / (scale * np.sqrt(squares) / drawn[:, 1])
    t = t[np.isfinite(t)]
    if t.size < 0.9 * len(counts) or error == 0.0:
        return float("nan"), float("nan")
    low, high = np.quantile(t, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(mean - high * error), float(mean - low * error)


def _draw(k: int, n_boot: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(np.random.SeedSequence([seed, k]))
    flat = rng.integers(0, k, size=(n_boot, k)) + np.arange(n_boot)[:, None] * k
    return np.bincount(flat.ravel(), minlength=n_boot * k).reshape(n_boot, k).astype("float64")


def _weighted_average(values: np.ndarray, weights: np.ndarray, how: str) -> np.ndarray:
    """Average along the last axis with whole-number weights, ``(n_boot,)``."""
    if how != "median":
        return (values * weights).sum(1) / weights.sum(1)
    values = np.broadcast_to(values, weights.shape)
    order = np.argsort(values, axis=1)
    v, cumulated = np.take_along_axis(values, order, 1), np.cumsum(np.take_along_axis(weights, order, 1), axis=1)
    total = cumulated[:, -1:]
    low = (cumulated >= np.floor((total + 1) / 2)).argmax(1)
    high = (cumulated >= np.floor(total / 2) + 1).argmax(1)
    rows = np.arange(len(v))
    return (v[rows, low] + v[rows, high]) / 2.0


def average_interval(
    values: Sequence[float] | np.ndarray | pd.Series,
    *,
    how: str = "mean",
    clusters: object = None,
    within: pd.DataFrame | np.ndarray | None = None,
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
) -> Interval:
    """Average of one score over sensors, with an interval from drawing the sensors again.

    Parameters
    ----------
    values : array-like, shape (n_sensors,)
        One score a sensor; NaN is left out.
    how : {"mean", "median", "fisher_z"}
        As in `average`.
    clusters : array-like, shape (n_sensors,), optional
        Labels of what is drawn, e.g. the station or network of each sensor. Default: the sensor.
    within : DataFrame or ndarray, shape (n_sensors, n_boot), optional
        Replicates from `block_replicates`, in the order of `values`: makes it two-stage. The scatter between sensors
        already holds the sampling error of each sensor's score, so one stage is enough for "another draw of such
        sensors"; two stages are wider, and cautious where sensors are few.
    level, n_boot, seed
        Level of the interval, number of replicates, seed.

    Returns
    -------
    Interval
        ``n`` is the number of sensors. With fewer than five clusters there is no interval, and the note says so.

    Notes
    -----
    One-stage means (and Fisher-z means, on the z scale) are studentised, which keeps the coverage for few sensors; medians
    and two-stage intervals are percentiles.

    Raises
    ------
    ParameterError, ContractError
        On an unknown option, or labels or replicates that do not fit the values.
    """
    who = "average_interval"
    _check(who, level, n_boot, seed, how)
    values = np.asarray(values, "float64")
    if values.ndim != 1:
        raise ContractError(who, "the scores are not one a sensor", got=values.shape, expected="(n_sensors,)")
    codes = _cluster_codes(who, clusters, values.size)
    replicates = None if within is None else np.asarray(within, "float64")
    if replicates is not None and (replicates.ndim != 2 or len(replicates) != values.size):
        raise ContractError(who, "'within' has not one row a sensor", got=replicates.shape, expected=values.size)
    there = np.isfinite(values)
    if replicates is not None:
        there &= np.isfinite(replicates).all(1)
        replicates = replicates[there]
    values, codes = values[there], np.unique(codes[there], return_inverse=True)[1]
    k = int(codes.max()) + 1 if codes.size else 0
    method = ("two_stage" if replicates is not None else "cluster") + "_bootstrap"
    value = average_values(values, how)
    if k < MIN_CLUSTERS:
        return Interval(value, np.nan, np.nan, level, method, values.size, f"{k} clusters, fewer than {MIN_CLUSTERS}")
    z = how == "fisher_z"
    forward = (lambda v: np.arctanh(np.clip(v, -1 + 1e-9, 1 - 1e-9))) if z else (lambda v: v)
    if replicates is None and how != "median":
        low, high = _studentised_mean(forward(values), codes, _draw(k, int(n_boot), int(seed)), level)
    else:
        draws = int(n_boot) if replicates is None else replicates.shape[1]
        weights = _draw(k, draws, int(seed))[:, codes]
        sample = forward(values)[None] if replicates is None else forward(replicates).T
        averages = _weighted_average(sample, weights, how)
        low, high = (float(q) for q in np.quantile(averages, [(1.0 - level) / 2.0, (1.0 + level) / 2.0]))
    if z:
        low, high = float(np.tanh(low)), float(np.tanh(high))
    note = "" if np.isfinite(low) else "the scores do not vary between clusters"
    return Interval(value, low, high, level, method, values.size, note)


def _one_score_each(who: str, scores: pd.DataFrame | pd.Series, metric: str, by: str, name: str) -> pd.Series:
    if isinstance(scores, pd.Series):
        series = scores
    else:
        if metric not in scores.columns:
            raise ContractError(who, f"scores of {name} have no column {metric!r}", got=list(map(str, scores.columns)))
        if by not in scores.columns and scores.index.name != by:
            raise ContractError(who, f"scores of {name} have no column {by!r}", got=list(map(str, scores.columns)))
        series = scores.set_index(by)[metric] if by in scores.columns else scores[metric]
    if series.index.has_duplicates:
        example = series.index[series.index.duplicated()][0]
        raise ContractError(who, f"scores of {name} have a sensor twice", got=example, expected="one row a sensor")
    return series.astype("float64")


def compare(
    scores_a: pd.DataFrame | pd.Series,
    scores_b: pd.DataFrame | pd.Series,
    metric: str = "ubrmse",
    *,
    names: tuple[str, str] = ("A", "B"),
    by: str = "sensor_id",
    how: str = "mean",
    clusters: pd.Series | dict | None = None,
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Paired difference of two models over the sensors that both have a score at.

    Parameters
    ----------
    scores_a, scores_b : DataFrame or Series
        From `score_table`, or Series of one score indexed by sensor.
    metric : str
        A score that has a better direction (`BETTER`). Biases are compared by their absolute value.
    names : (str, str)
        What the sentence calls the two.
    by : str
        The sensor column.
    how : {"mean", "median"}
        Average of the differences.
    clusters : Series or dict, optional
        Cluster (e.g. station or network) of each sensor; default each sensor on its own.
    level, n_boot, seed
        As in `average_interval`.

    Returns
    -------
    Comparison
        With a sentence such as "A beats B by 0.004 [0.001, 0.007] in mean ubRMSE (95 % interval, 210 sensors, paired)".
        Where the interval holds 0 it says that the two cannot be told apart.

    Raises
    ------
    ContractError
        On a missing column, a sensor twice, or no sensor in common.
    ParameterError
        On a metric without a better direction, or another option.

    Examples
    --------
    >>> a = pd.Series([0.040, 0.050, 0.061, 0.045, 0.052, 0.058], index=list("uvwxyz"))
    >>> print(compare(a, a + [0.004, 0.006, 0.005, 0.003, 0.005, 0.007]))
    A beats B by 0.005 [0.003, 0.007] in mean ubRMSE (95 % interval, 6 sensors, paired)
    """
    who = "compare"
    metric_names(who, metric, tuple(BETTER))
    if how not in ("mean", "median"):
        raise ParameterError(who, "unknown 'how' for a difference", got=how, expected=("mean", "median"))
    a, b = (_one_score_each(who, s, metric, by, n) for s, n in zip((scores_a, scores_b), names, strict=True))
    if metric == "bias":
        a, b = a.abs(), b.abs()
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    common = a.index.intersection(b.index).sort_values()
    if common.empty:
        raise ContractError(
            who,
            "the two have no scored sensor in common",
            got=(len(a), len(b)),
            next_step="Score both on the same sensors, and look at the reason column",
        )
    difference = (a[common] - b[common]).to_numpy()
    labels = None
    if clusters is not None:
        labels = pd.Series(clusters).reindex(common)
        if labels.isna().any():
            raise ContractError(who, "a sensor has no cluster", got=labels.index[labels.isna()][0])
        labels = labels.to_numpy()
    found = average_interval(difference, how=how, clusters=labels, level=level, n_boot=n_boot, seed=seed)
    one_only = len(a) + len(b) - 2 * len(common)
    sentence = _sentence(metric, names, how, found, one_only, clustered=labels is not None)
    return Comparison(
        metric,
        *names,
        average_values(a[common].to_numpy(), how),
        average_values(b[common].to_numpy(), how),
        found,
        one_only,
        sentence,
    )


def _sentence(metric: str, names: tuple[str, str], how: str, found: Interval, one_only: int, *, clustered: bool) -> str:
    a, b = names
    detail = f"{how} {_LABELS[metric]} ({found.level * 100:g} % interval, {found.n} sensors, paired"
    detail += ", drawn by cluster" if clustered else ""
    detail += f"; {one_only} scored by one only" if one_only else ""
    detail += ")"
    if not np.isfinite(found.low):
        return f"{a} minus {b} is {found.value:.3f}, without an interval ({found.note}), in {detail}"
    if found.low <= 0.0 <= found.high:
        return f"{a} and {b} cannot be told apart: {a} minus {b} is {found} in {detail}"
    a_wins = (found.value > 0) == (BETTER[metric] == "higher")
    size = sorted((abs(found.low), abs(found.high)))
    by_how_much = f"{abs(found.value):.3f} [{size[0]:.3f}, {size[1]:.3f}]"
    return f"{a if a_wins else b} beats {b if a_wins else a} by {by_how_much} in {detail}"
