"""Confidence intervals of the scores of one sensor that respect the dependence of its errors in time.

Neighbouring errors of a soil moisture product are alike for days or weeks: a series of 700 values may hold the information
of 40, and an interval that takes them as independent is far too narrow. `score_intervals` says what the methods do;
``benchmarks/bench_metric_intervals.py`` prints their coverage as simulated.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from smnb.contract import ContractError, ParameterError, check_choice, check_count, check_range
from smnb.metrics.block_bootstrap import BlockLength, automatic_block_length, bootstrap_t, long_run_inflation
from smnb.metrics.registry import Metric, MetricLike, Smooth, interval_text, metric, metric_list
from smnb.metrics.scores import group_anomaly, pair_moments
from smnb.metrics.tables import IS_CONSTANT, MIN_OBS, Pairs, one_number

METHODS = ("block_bootstrap", "assume_independent")
_ANALYTIC = ("bias", "ubrmse", "pearson_r", "spearman_r")
_USABLE = 0.9  # below this share of defined replicates there is no interval
_UNDEFINED = "too many replicates are undefined (nearly constant series)"
_CHUNK_CELLS = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A score with its confidence interval."""

    value: float
    low: float
    high: float
    level: float
    method: str
    n: int  # number of pairs, or of sensors for an average over sensors
    note: str = ""  # why there is no interval, or what to beware of
    clusters: int = 0  # that were drawn again
    effective: float = float("nan")  # as how many of one size they count: (sum of sizes)² / sum of squared sizes

    def __str__(self) -> str:
        return interval_text(self.value, self.low, self.high)


def check_bootstrap(who: str, level: float, n_boot: int, seed: int) -> None:
    """Raise `ParameterError` for a level, a number of replicates or a seed that cannot be."""
    check_range(who, "level", level, 0, 1, ends="()")
    check_count(who, "n_boot", n_boot, 100)
    check_count(who, "seed", seed, 0)


class _Series(NamedTuple):
    """Series of several sensors in order of time, ``(s, longest)``, zero after their own `n` values."""

    x: np.ndarray
    y: np.ndarray
    n: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """Which entries are values, ``(s, longest)``."""
        return np.arange(self.x.shape[1]) < self.n[:, None]

    def less_mean(self, a: np.ndarray, of: np.ndarray) -> np.ndarray:
        """Give `a` less the mean of `of`."""
        return np.where(self.there, a - of.sum(1, keepdims=True) / self.n[:, None], 0.0)


def _undefined(one: Metric, series: _Series) -> np.ndarray:
    """Reason for each series why the score has no interval, or an empty string."""
    reason = np.full(len(series.n), "", dtype=object)
    sides = {"pred": series.x, "obs": series.y, "difference": series.x - series.y}
    sizes = {"pred": np.abs(series.x).max(1), "obs": np.abs(series.y).max(1)}
    sizes["difference"] = np.maximum(*sizes.values())
    for which in (which for which in sides if which in one.varies):
        high, low = (np.where(series.there, sides[which], end) for end in (-np.inf, np.inf))
        reason[high.max(1) - low.min(1) <= 1e-13 * sizes[which]] = IS_CONSTANT[which]
    return reason


def _short_blocks(chosen: BlockLength, n: np.ndarray) -> np.ndarray:
    """What to beware of where the limit of six blocks bites."""
    note = np.full(n.size, "", dtype=object)
    for row in np.flatnonzero(chosen.wanted > 1.5 * chosen.length):
        blocks = f"blocks of {chosen.wanted[row]:.0f} of {n[row]} values"
        note[row] = f"the autocorrelation asks for {blocks}: the interval may be too narrow"
    return note


def _smooth_intervals(smooth: Smooth, series: _Series, n_boot: int, seed: int, level: float) -> tuple[np.ndarray, ...]:
    """Low, high, block length and note of series whose score is a smooth function of means."""
    n = series.n
    # a shift common to both sides leaves every score as it is
    if smooth.features == "difference":
        d = series.x - series.y
        d = series.less_mean(d, d) if smooth.centred else d
        features = np.stack([d, d * d])
    else:
        x = series.less_mean(series.x, series.x if smooth.centred else series.y)
        y = series.less_mean(series.y, series.y)
        features = np.stack([x, y, x * x, y * y, x * y])
    means = features.sum(2) / n
    deviations = np.where(series.there, features - means[..., None], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        _, gradient = smooth.function(means)
        influence = sum(g[:, None] * d for g, d in zip(gradient, deviations, strict=True))
    # squares of the series move correlations and slopes; the difference moves the mean of its square
    drivers = [(deviations[2], 1), (deviations[3], 1)] if smooth.features == "pair" else [(deviations[0], 2)]
    chosen = automatic_block_length(np.nan_to_num(influence), n, drivers)
    note = _short_blocks(chosen, n)
    draws = {"n_boot": n_boot, "seed": seed, "level": level}
    *ends, usable = bootstrap_t(deviations, means, n, smooth.function, chosen, **draws)
    low, high = (np.where(usable < _USABLE, np.nan, smooth.back(end)) for end in ends)
    note[usable < _USABLE] = _UNDEFINED
    return (high, low, chosen.length, note) if smooth.flips else (low, high, chosen.length, note)


def _drawn_intervals(
    one: Metric, series: _Series, value: np.ndarray, n_boot: int, seed: int, level: float
) -> tuple[np.ndarray, ...]:
    """Low, high, block length and note for any function, from its values in blocks that are drawn again."""
    d = series.x - series.y
    d, upper = series.less_mean(d, d), (1.0 + level) / 2.0
    chosen = automatic_block_length(d, series.n, [(series.less_mean(d * d, d * d), 1)])
    low, high = np.full((2, value.size), np.nan)
    note = _short_blocks(chosen, series.n)
    inflation = np.sqrt(long_run_inflation(chosen.rho, chosen.decay, chosen.length, series.n))
    for row, (n, blocks, length) in enumerate(zip(series.n, chosen.blocks, chosen.length, strict=True)):
        rng = np.random.default_rng(np.random.SeedSequence([seed, int(blocks), int(n)]))
        starts = rng.integers(0, n, size=(n_boot, -(-n // length)))
        drawn = []
        for part in np.array_split(starts, max(1, n_boot * n // _CHUNK_CELLS)):
            at = ((part[..., None] + np.arange(length)) % n).reshape(len(part), -1)[:, :n]
            drawn.append(_values(one, series.x[row, at], series.y[row, at]))
        values = np.concatenate(drawn)
        values = values[np.isfinite(values)]
        if values.size < _USABLE * n_boot:
            note[row] = _UNDEFINED
            continue
        wider = inflation[row] * stats.t.ppf(upper, blocks - 1) / stats.norm.ppf(upper)
        ends = value[row] + wider * (np.quantile(values, [1.0 - upper, upper]) - value[row])
        low[row], high[row] = np.clip(ends, *one.limits)
    return low, high, chosen.length, note


def _values(one: Metric, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values of a metric's function along the rows of ``(k, n)``, in one call where the function takes ``dim``."""
    if "dim" in inspect.signature(one.function).parameters:
        return one.function(x, y, dim=-1)
    return np.array([one_number(one, *both) for both in zip(x, y, strict=True)])


def _analytic(one: Metric, value: np.ndarray, series: _Series, upper: float) -> tuple[np.ndarray, np.ndarray]:
    """Interval of independent normal errors, `upper` being its upper quantile."""
    n = series.n
    if one.name == "bias":
        sd = np.nanstd(np.where(series.there, series.x - series.y, np.nan), axis=1, ddof=1)
        half = stats.t.ppf(upper, n - 1) * sd / np.sqrt(n)
        return value - half, value + half
    if one.name == "ubrmse":
        return tuple(value * np.sqrt(n / stats.chi2.ppf(q, n - 1)) for q in (upper, 1.0 - upper))
    with np.errstate(divide="ignore"):
        z = np.arctanh(value)
    half = stats.norm.ppf(upper) / np.sqrt(n - 3)
    if one.name == "spearman_r":  # Bonett and Wright (2000), doi:10.1007/BF02294183
        half = half * np.sqrt(1.0 + value**2 / 2.0)
    return np.tanh(z - half), np.tanh(z + half)


def _chunks(n: np.ndarray, x: np.ndarray, y: np.ndarray, min_obs: int) -> Iterator[tuple]:
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
        yield part, _Series(np.where(there, x[rows], 0.0), np.where(there, y[rows], 0.0), n[part])


def _check_options(who: str, chosen: Sequence[Metric], method: str, level: float, n_boot: int, seed: int) -> None:
    check_choice(who, "method", method, METHODS)
    check_bootstrap(who, level, n_boot, seed)
    if strange := [one.name for one in chosen if one.name not in _ANALYTIC and method == "assume_independent"]:
        raise ParameterError(who, f"no analytic interval of {strange[0]}", got=strange[0], expected=_ANALYTIC)


def _intervals(one: Metric, pairs: Pairs | SimpleNamespace, method: str, min_obs: int, **draws: Any) -> pd.DataFrame:
    """Interval of one metric for every sensor; `draws` are n_boot, seed and level."""
    codes, x, y, k = pairs.codes, pairs.x, pairs.y, len(pairs.sensors)
    infinite = np.bincount(codes[~pairs.finite], minlength=k) > 0
    keep = ~infinite[codes]
    codes, x, y = codes[keep], x[keep], y[keep]
    if one.of == "anomalies":
        x, y = (group_anomaly(codes, pairs.time_ms[keep], v) for v in (x, y))
        keep = ~np.isnan(x)
        codes, x, y = codes[keep], x[keep], y[keep]
    n = np.bincount(codes, minlength=k)
    value, low, high = np.full((3, k), np.nan)
    length = np.zeros(k, dtype=int)
    note = np.array([f"{m} pairs, fewer than min_obs={min_obs}" if m < min_obs else "" for m in n], object)
    note[infinite] = "an infinite value among the pairs"
    for sensors, series in _chunks(n, x, y, min_obs):
        if one.from_moments is None or one.of == "ranks":
            rows = zip(*series, strict=True)
            value[sensors] = [_values(one, x[None, :n], y[None, :n])[0] for x, y, n in rows]
        else:
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                value[sensors] = one.from_moments(pair_moments(series.x, series.y, series.there))
        note[sensors] = reason = _undefined(one, series)
        good = np.flatnonzero(reason == "")
        if not good.size:
            continue
        sensors, series = sensors[good], _Series(*(part[good] for part in series))
        if method == "assume_independent":
            low[sensors], high[sensors] = _analytic(one, value[sensors], series, (1.0 + draws["level"]) / 2.0)
        else:
            found = one.smooth and _smooth_intervals(one.smooth, series, **draws)
            found = found or _drawn_intervals(one, series, value[sensors], **draws)
            low[sensors], high[sensors], length[sensors], note[sensors] = found
    found = {"sensor_id": pairs.sensors["sensor_id"], "metric": one.name, "value": value, "low": low, "high": high}
    found |= {"n": n, "block_length": length, "method": method, "level": draws["level"], "note": note}
    return pd.DataFrame(found)


def score_intervals(
    table: pd.DataFrame,
    *,
    metrics: MetricLike | Iterable[MetricLike] = ("ubrmse", "bias", "pearson_r"),
    method: str = "block_bootstrap",
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
    min_obs: int = MIN_OBS,
) -> pd.DataFrame:
    """Confidence intervals of the scores of every sensor of a long table.

    Parameters
    ----------
    table : DataFrame
        As in `score_table`. Blocks run over the pairs that are there, in order of time.
    metrics : name, function or Metric, or several
        With ``method="assume_independent"`` only bias, ubrmse, pearson_r and spearman_r. An own function is called
        `n_boot` times a sensor.
    method : {"block_bootstrap", "assume_independent"}
        The studentised circular block bootstrap, on a scale on which the score is nearly symmetric (logarithm for RMSE, ubRMSE
        and 1 - R², Fisher's z for correlations), or the analytic interval of independent, normal errors, as in pytesmo. The
        block length comes from the autocorrelation of the score's influence values; the standard error is multiplied by
        what such blocks are known to miss for a first-order autoregression, without which persistent errors are covered too
        little. A metric without a smooth form (an own function) gets percentiles of its values in blocks drawn again, whose
        length follows the errors and their squares, widened by the same factor and by Student's t for the number of blocks.
    level : float
        Nominal coverage.
    n_boot, seed : int
        Replicates, and the seed that makes them repeat. A sensor's interval does not depend on the other sensors.

    Returns
    -------
    DataFrame
        One row a sensor and metric: ``sensor_id``, ``metric``, ``value``, ``low``, ``high``, ``n``, ``block_length`` (0 where
        there are no blocks), ``method``, ``level``, and ``note``: why there is no interval, or what to beware of. With fewer
        than about ten independent errors no method reaches its level: blocks are then shorter than the autocorrelation asks.

    Raises
    ------
    ParameterError, ContractError
        On an unknown metric, method or option; on a table that `score_table` would refuse.
    """
    who, chosen, draws = "score_intervals", metric_list(metrics), {"n_boot": n_boot, "seed": seed, "level": level}
    _check_options(who, chosen, method, **draws)
    check_count(who, "min_obs", min_obs)
    pairs = Pairs(table, who)
    parts = [_intervals(one, pairs, method, max(min_obs, 4), **draws) for one in chosen]
    return pd.concat(parts, ignore_index=True)


def interval(
    pred: Any,
    obs: Any,
    score: MetricLike = "ubrmse",
    *,
    method: str = "block_bootstrap",
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
) -> Interval:
    """Confidence interval of a score of one series in order of time.

    Pairs of `pred` and `obs`, shape (n,), with NaN are left out; 13 must be there. The score is not ``anomaly_r``, which needs
    times. Options and errors as in `score_intervals`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> obs = rng.uniform(0.1, 0.4, 300)
    >>> found = interval(obs + rng.normal(0.0, 0.04, 300), obs, "ubrmse")
    >>> found.low < 0.04 < found.high
    True
    """
    who, one, draws = "interval", metric(score), {"n_boot": n_boot, "seed": seed, "level": level}
    _check_options(who, (one,), method, **draws)
    x, y = np.asarray(pred, "float64"), np.asarray(obs, "float64")
    if x.ndim != 1 or x.shape != y.shape:
        raise ContractError(who, "the series are not of one shape (n,)", got=(x.shape, y.shape))
    if one.of == "anomalies":
        raise ParameterError(who, f"{one.name!r} needs times", next_step="Use score_intervals on a table with times")
    ok = ~(np.isnan(x) | np.isnan(y))
    alone = {"codes": np.zeros(int(ok.sum()), int), "sensors": pd.DataFrame({"sensor_id": [0]})}
    pairs = SimpleNamespace(x=x[ok], y=y[ok], finite=np.isfinite(x[ok]) & np.isfinite(y[ok]), **alone)
    row = _intervals(one, pairs, method, MIN_OBS, **draws).iloc[0]
    return Interval(*(float(row[name]) for name in ("value", "low", "high")), level, method, int(row["n"]), row["note"])
