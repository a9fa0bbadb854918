"""Averages over sensors with intervals, and the paired difference of two models.

The readings of one sensor depend on one another: what is drawn again is the sensor (or a cluster of sensors, e.g. the
station or the network), never the reading. Two models are compared by each sensor's own difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from smnb.contract import ContractError, check_choice, check_table, plain
from smnb.metrics.block_bootstrap import draw_counts
from smnb.metrics.intervals import Interval, check_bootstrap
from smnb.metrics.registry import Metric, MetricLike, interval_text, metric

MIN_CLUSTERS = 5  # with fewer clusters there is no interval (and paper 004 marks a stratum by an asterisk)
_MIN_EFFECTIVE = 3.0  # with less drawn means cover .80 to .88, not .95 (benchmarks/bench_cluster_intervals.py)
AVERAGES = ("mean", "cluster_mean", "median")


@dataclass(frozen=True)
class Comparison:
    """Paired difference of two models at the same sensors."""

    metric: str
    a: str
    b: str
    a_value: float
    b_value: float
    difference: Interval  # A minus B, averaged over sensors (of sizes, where a score is best at zero)
    n_only_one: int  # sensors left out because only one of the two has a score
    by_cluster: Interval  # the same with every cluster weighing alike
    sentence: str

    def __str__(self) -> str:
        return self.sentence


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


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Medians of `values` with whole-number weights ``(n_boot, n)``, shape ``(n_boot,)``."""
    order = np.argsort(values)
    v, cumulated = values[order], np.cumsum(weights[:, order], axis=1)
    total = cumulated[:, -1:]
    low = (cumulated >= np.floor((total + 1) / 2)).argmax(1)
    high = (cumulated >= np.floor(total / 2) + 1).argmax(1)
    return (v[low] + v[high]) / 2.0


def average_interval(
    values: Sequence[float] | np.ndarray | pd.Series,
    *,
    how: str = "mean",
    clusters: object = None,
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
) -> Interval:
    """Average of one score over sensors, with an interval from drawing the sensors, or clusters of them, again.

    Parameters
    ----------
    values : array-like, shape (n_sensors,)
        One score a sensor; NaN is left out.
    how : {"mean", "cluster_mean", "median"}
        ``mean`` is what paper 004 takes, also for R; ``cluster_mean`` is the mean of the clusters' means. Means are studentised,
        which keeps the coverage for few sensors; medians are percentiles, widened by Student's t for the number of clusters.
        The scatter between sensors already holds the sampling error of each sensor's score.
    clusters : array-like, shape (n_sensors,), optional
        Labels of what is drawn, e.g. the station or network of each sensor. Default: the sensor.

    Returns
    -------
    Interval
        ``n`` is the number of sensors. With fewer than five clusters there is no interval, and the note says so; for ``mean``
        and ``median`` also where one holds more than half of the sensors, or the clusters count as fewer than three of one size:
        ``cluster_mean`` has one.

    Raises
    ------
    ParameterError, ContractError
        On an unknown option, or labels that do not fit the values.
    """
    who = "average_interval"
    check_choice(who, "how", how, AVERAGES)
    check_bootstrap(who, level, n_boot, seed)
    values = np.asarray(values, "float64")
    if values.ndim != 1:
        raise ContractError(who, "the scores are not one a sensor", got=values.shape, expected="(n_sensors,)")
    codes, _ = pd.factorize(np.arange(values.size) if clusters is None else np.asarray(clusters))
    if codes.size != values.size or (codes < 0).any():
        got, expected = (codes.size, int((codes < 0).sum())), plain(f"{values.size} labels, none missing")
        raise ContractError(who, "there is not one cluster label a sensor", got=got, expected=expected)
    there = np.isfinite(values)
    values, codes = values[there], np.unique(codes[there], return_inverse=True)[1]
    n, sizes = values.size, np.bincount(codes)
    if how == "cluster_mean":
        values = np.bincount(codes, weights=values) / sizes
        codes, sizes = np.arange(values.size), np.ones(values.size)
    k, method, low, high, note = sizes.size, "cluster_bootstrap", np.nan, np.nan, ""
    effective = float(sizes.sum() ** 2 / (sizes**2).sum()) if k else 0.0
    value = np.nan if not k else float(np.median(values) if how == "median" else np.mean(values))
    if k < MIN_CLUSTERS:
        note = f"{k} clusters, fewer than {MIN_CLUSTERS}"
    elif (share := sizes.max() / sizes.sum()) > 0.5:
        note = f"one of {k} clusters holds {100 * share:.0f} % of the sensors"
    elif effective < _MIN_EFFECTIVE:
        note = f"{k} clusters count as {effective:.1f} of one size, fewer than {_MIN_EFFECTIVE:g}"
    else:
        counts = draw_counts([int(seed), k], k, k, n_boot).astype("float64")
        upper = (1.0 + level) / 2.0
        if how == "median":
            wider = np.sqrt(k / (k - 1.0)) * stats.t.ppf(upper, k - 1) / stats.norm.ppf(upper)
            ends = np.quantile(_weighted_median(values, counts[:, codes]), [1.0 - upper, upper])
            low, high = (value + wider * (ends - value)).tolist()
        else:
            low, high = _studentised_mean(values, codes, counts, level)
        note = "" if np.isfinite(low) else "the scores do not vary between clusters"
    return Interval(value, low, high, level, method, n, note, k, effective)


def compare(
    scores_a: pd.DataFrame | pd.Series,
    scores_b: pd.DataFrame | pd.Series,
    score: MetricLike = "ubrmse",
    *,
    names: tuple[str, str] = ("A", "B"),
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
    score : str, function or Metric
        A column of the scores. Where zero is best (bias) sizes are compared; without a better way (slope, a plain
        function) no winner is named.
    clusters : Series or dict, optional
        Cluster (e.g. station or network, or `smnb.sensors.cluster_labels`) of each sensor; default each sensor on its own.
    names, level, n_boot, seed
        What the sentence calls the two; the others as in `average_interval`.

    Returns
    -------
    Comparison
        With a sentence such as "A beats B by 0.004 [0.001, 0.007] in mean ubRMSE (95 % interval, 210 sensors, paired)".
        Where the interval holds 0 it says that the two cannot be told apart.

    Raises
    ------
    ContractError, ParameterError
        On a missing column, a sensor twice, or no sensor in common; on an unknown metric or another option.

    Examples
    --------
    >>> a = pd.Series([0.040, 0.050, 0.061, 0.045, 0.052, 0.058], index=list("uvwxyz"))
    >>> print(compare(a, a + [0.004, 0.006, 0.005, 0.003, 0.005, 0.007]))
    A beats B by 0.005 [0.003, 0.007] in mean ubRMSE (95 % interval, 6 sensors, paired)
    """
    who, one = "compare", metric(score)
    sides = []
    for name, scores in zip(names, (scores_a, scores_b), strict=True):
        if isinstance(scores, pd.Series):
            scores = scores.rename(one.name).rename_axis("sensor_id").reset_index()
        check_table(f"{who} ({name})", scores, ["sensor_id", one.name], unique="sensor_id")
        side = scores.set_index("sensor_id")[one.name].astype("float64")
        side = side[np.isfinite(side)]
        sides.append(side.abs() if one.better == "zero" else side)
    a, b = sides
    common = a.index.intersection(b.index).sort_values()
    if common.empty:
        step = "Score both on the same sensors, and look at the reason column"
        raise ContractError(who, "the two have no scored sensor in common", got=(len(a), len(b)), next_step=step)
    labels = None if clusters is None else pd.Series(clusters).reindex(common)
    if labels is not None and labels.isna().any():
        raise ContractError(who, "a sensor has no cluster", got=labels.index[labels.isna()][0])
    draws = {"clusters": labels, "level": level, "n_boot": n_boot, "seed": seed}
    found, alike = (average_interval(a[common] - b[common], how=how, **draws) for how in AVERAGES[:2])
    one_only = len(a) + len(b) - 2 * len(common)
    sentence = _sentence(one, names, found, one_only)
    if found.clusters < found.n:
        sentence += f"; each cluster weighing the same it is {alike}"
    values = float(a[common].mean()), float(b[common].mean())
    return Comparison(one.name, *names, *values, found, one_only, alike, sentence)


def _sentence(one: Metric, names: tuple[str, str], found: Interval, one_only: int) -> str:
    a, b = names
    label = f"|{one.label}|" if one.better == "zero" else one.label
    detail = f"mean {label} ({found.level * 100:g} % interval, {found.n} sensors, paired"
    if found.clusters < found.n:
        detail += f", drawn by cluster: {found.clusters} that count as {found.effective:.1f}"
    detail += f"; {one_only} scored by one only)" if one_only else ")"
    if not np.isfinite(found.low):
        return f"{a} minus {b} is {found.value:.3f}, without an interval ({found.note}), in {detail}"
    if (same := found.low <= 0.0 <= found.high) or one.better is None:
        return f"{f'{a} and {b} cannot be told apart: ' if same else ''}{a} minus {b} is {found} in {detail}"
    winner, other = (a, b) if (found.value > 0) == (one.better == "high") else (b, a)
    size = interval_text(abs(found.value), *sorted((abs(found.low), abs(found.high))))
    return f"{winner} beats {other} by {size} in {detail}"
