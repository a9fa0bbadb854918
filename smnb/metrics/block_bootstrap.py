"""The studentised circular block bootstrap of smooth functions of means, for many series at once.

A score such as ubRMSE or R is a smooth function h of the means of a few features (the difference and its square; or
both series, their squares and their product). A replicate needs only the sums of the features over its blocks, which
running sums give in constant time; adding up a replicate's blocks for all features, their products and many series is
one matrix product. The products of block sums give the replicate's own standard error (delta method), so every
replicate is studentised at almost no cost. Blocks start on a grid of two to four starts a block length, laid around the
closed circle of each series: series of different lengths share the draws.

.. [1] Politis, Romano 1992, A circular block-resampling procedure, in: Exploring the Limits of Bootstrap, Wiley, 263-270.
.. [2] Götze, Künsch 1996, Annals of Statistics 24, 1914-1933, doi:10.1214/aos/1069362303
.. [3] Politis, White 2004, Econometric Reviews 23, 53-70, doi:10.1081/ETC-120028836; corrected by Patton et al. 2009,
       doi:10.1080/07474930802459016
.. [4] Andrews 1991, Econometrica 59, 817-858, doi:10.2307/2938229
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy import stats

MIN_BLOCKS = 6  # an automatic block is never so long that a series has fewer blocks than this
_STARTS_A_BLOCK = 2
_FEW_BLOCKS = 64
_LARGEST_T = 3.0
_LARGEST_RHO = 0.99
_LARGEST_INFLATION = 16.0
_CHUNK_VALUES = 4_000_000
#: Numbers of blocks that automatic lengths are rounded to, so that many series share one matrix of draws.
_BLOCK_COUNTS = np.unique(np.round(MIN_BLOCKS * 1.15 ** np.arange(100)).astype(np.int64))

#: Turns the means of p features (list of arrays of one shape) into the (transformed) score and its p derivatives.
SmoothFunction: TypeAlias = Callable[[Sequence[np.ndarray]], tuple[np.ndarray, Sequence[np.ndarray]]]


class BlockLength(NamedTuple):
    """Block length of each series, shape ``(s,)`` all, and what it was chosen from."""

    length: np.ndarray
    blocks: np.ndarray  # in a replicate
    rho: np.ndarray  # lag-1 autocorrelation of the influence, corrected for its small-sample bias
    decay: np.ndarray  # of the influence's autocorrelation from one lag to the next, no faster than its drivers'
    wanted: np.ndarray  # the estimate of the length before it was rounded and limited


def _autocovariance(series: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Autocovariance (divisor n) of series ``(s, longest)`` of mean 0, padded with 0 after their `n` values."""
    longest = series.shape[1]
    lags = min(longest, 2 * int(np.ceil(np.sqrt(longest))) + 16)
    size = 1 << (longest + lags).bit_length()
    spectrum = np.fft.rfft(series, size, axis=1)
    return np.fft.irfft(spectrum.real**2 + spectrum.imag**2, size, axis=1)[:, :lags] / n[:, None]


def _lag_one(autocovariance: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Lag-1 autocorrelation with the first-order correction of its bias, (1 + 3 rho)/n, clipped to ±0.99."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = autocovariance[:, 1] / autocovariance[:, 0]
    rho = np.where(np.isfinite(rho), rho, 0.0)
    return np.clip(rho + (1.0 + 3.0 * rho) / n, -_LARGEST_RHO, _LARGEST_RHO)


def _insignificant(n: np.ndarray) -> np.ndarray:
    """Autocorrelations below this are within the noise of their estimate (Politis and White)."""
    return (2.0 * np.sqrt(np.log10(n) / n))[:, None]


def _decay(autocovariance: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Decay of the autocorrelation over lags 1 to 4, which white noise does not lower; lag 1 alone where they are noise."""
    first = _lag_one(autocovariance, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = autocovariance[:, 1:5] / autocovariance[:, :1]
        ratio = rho[:, 1:].sum(1) / rho[:, :-1].sum(1)
        clear = (rho > _insignificant(n)).all(1) & (n >= 20)
    return np.where(clear, np.clip(np.maximum(ratio, first), -_LARGEST_RHO, _LARGEST_RHO), first)


def _politis_white(autocovariance: np.ndarray, n: np.ndarray) -> np.ndarray:
    run = 5
    largest = np.minimum(np.ceil(np.sqrt(n)).astype(int) + run, autocovariance.shape[1] - run - 1)
    width = int(largest.max())
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = autocovariance / autocovariance[:, :1]
    small = np.abs(rho[:, 1 : width + run + 1]) < _insignificant(n)
    count = np.cumsum(np.pad(small, ((0, 0), (1, 0))), axis=1)
    quiet = count[:, run:] - count[:, :-run] == run  # column m: lags m + 1 … m + run are all insignificant
    m = np.minimum(np.where(quiet.any(1), quiet.argmax(1), width), largest)
    bandwidth = np.minimum(2 * np.maximum(m, 1), largest)[:, None]
    lag = np.arange(width + 1)
    weight = np.clip(2.0 * (1.0 - lag / bandwidth), 0.0, 1.0)  # the flat-top window
    weighted = weight * autocovariance[:, : width + 1]
    slope_at_0 = 2.0 * (weighted * lag).sum(1)
    spectrum_at_0 = weighted[:, 0] + 2.0 * weighted[:, 1:].sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        length = np.cbrt(1.5 * n * (slope_at_0 / spectrum_at_0) ** 2)
    # a spectrum estimate at or below 0 tells nothing of the length
    return np.where(np.isfinite(length) & (spectrum_at_0 > 0), length, 1.0)


def automatic_block_length(
    influence: np.ndarray, n: np.ndarray, drivers: Sequence[tuple[np.ndarray, int]] = ()
) -> BlockLength:
    """Block length of each series from the autocorrelation of its influence on the score ``(s, longest)``, 0 after its own `n`.

    The longer of Politis and White's [3]_, which assumes no model, and the plug-in [4]_ for a first-order autoregression with
    white noise on it, which is steadier on short series. `drivers` (with the power in which they enter) may be slower than
    the influence's first lag shows: white errors on a slow signal give it a small but long-lived autocorrelation.
    """
    autocovariance = _autocovariance(influence, n)
    rho = _lag_one(autocovariance, n)
    decays = [np.maximum(_decay(_autocovariance(d, n), n), 0.0) ** power for d, power in drivers]
    decay = np.maximum.reduce([rho, _decay(autocovariance, n), *decays])
    ahead = np.maximum(rho, 0.0)
    slope_at_0, spectrum_at_0 = 2.0 * ahead / (1.0 - decay) ** 2, 1.0 + 2.0 * ahead / (1.0 - decay)
    plug_in = np.cbrt(1.5 * n * (slope_at_0 / spectrum_at_0) ** 2)
    wanted = np.maximum(np.maximum(_politis_white(autocovariance, n), plug_in), 1.0)
    whole = np.where(wanted < _STARTS_A_BLOCK, np.ceil(wanted), wanted)
    blocks = _BLOCK_COUNTS[np.searchsorted(_BLOCK_COUNTS, np.maximum(n / whole, MIN_BLOCKS))]
    length = np.maximum(np.round(n / blocks), 1).astype(int)
    return BlockLength(length, blocks, rho, decay, wanted)


def long_run_inflation(rho: np.ndarray, decay: np.ndarray, length: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Factor, from 1 to 16, by which blocks of a length underestimate the variance of a mean of n values.

    Blocks see no correlation beyond their length, and the sample mean takes part of the slow variation away. Both losses are
    known for an autocorrelation ``rho * decay**(k - 1)`` at lag k: a first-order autoregression, where `rho` is smaller than
    `decay` with white noise on it. Negative `rho` counts as 0.

    >>> float(long_run_inflation(np.array(0.5), np.array(0.5), 1, 100_000).round(3))  # (1 + rho)/(1 - rho)
    3.0
    """
    rho = np.clip(np.asarray(rho, float), 0.0, _LARGEST_RHO)
    decay = np.clip(np.maximum(decay, rho), 1e-12, _LARGEST_RHO)
    length, n = np.asarray(length, float), np.asarray(n, float)

    def weighted(terms: np.ndarray) -> np.ndarray:  # 1 + 2 sum_{k < terms} (1 - k/terms) rho decay^(k - 1)
        return 1.0 + 2.0 * rho * (1.0 / (1.0 - decay) - (1.0 - decay**terms) / (terms * (1.0 - decay) ** 2))

    true = weighted(n)
    seen = np.maximum(weighted(length) - length / n * true, true / _LARGEST_INFLATION)
    return np.maximum(true / seen, 1.0)


def draw_counts(entropy: Sequence[int], of: int, drawn: int, n_boot: int) -> np.ndarray:
    """How often each replicate, of so many `drawn`, draws each `of` them, ``(n_boot, of)``; it depends on nothing else."""
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    rows = rng.integers(0, of, size=(n_boot, drawn)) + np.arange(n_boot)[:, None] * of
    return np.bincount(rows.ravel(), minlength=n_boot * of).reshape(n_boot, of)


def _block_sums(deviations: np.ndarray, n: np.ndarray, length: np.ndarray, starts: int, out: np.ndarray) -> None:
    """Put the sums over the circular blocks that start on the grid into `out` ``(p, s, starts)``."""
    total = np.zeros((*deviations.shape[:2], deviations.shape[2] + 1))
    np.cumsum(deviations, axis=-1, out=total[..., 1:])
    first = np.arange(starts) * n[:, None] // starts
    last = first + length[:, None]
    wraps = last > n[:, None]
    inside, beyond = np.where(wraps, n[:, None], last), np.where(wraps, last - n[:, None], 0)
    for feature, sums in zip(total, out, strict=True):
        sums[:] = np.take_along_axis(feature, inside, 1)
        sums -= np.take_along_axis(feature, first, 1)
        sums += np.take_along_axis(feature, beyond, 1)


def _block_spread(slopes: Sequence[np.ndarray], means: Sequence[np.ndarray], products: dict) -> np.ndarray:
    """Standard deviation over blocks of their mean influence (delta method), from averages of block means and products."""
    linear = slopes[0] * means[0]
    for g, m in zip(slopes[1:], means[1:], strict=True):
        linear += g * m
    total = -(linear**2)
    for (i, j), product in products.items():
        term = slopes[i] * slopes[j]
        term *= product
        if i != j:
            term *= 2
        total += term
    return np.sqrt(np.maximum(total, 0.0))


def bootstrap_t(
    deviations: np.ndarray,
    means: np.ndarray,
    n: np.ndarray,
    function: SmoothFunction,
    chosen: BlockLength,
    *,
    n_boot: int,
    seed: int,
    level: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Low and high end of a function of means, on the function's scale, and the share of the replicates that were defined.

    `deviations` ``(p, s, longest)`` are p features of s series of `n` values less their `means` ``(p, s)``, zero after the end.
    """
    p, s, longest = deviations.shape
    products = p * (p + 1) // 2
    estimate, error, t_low, t_high, usable = result = np.empty((5, s))
    # with few blocks to draw from, more starts make the draws less alike
    densities = np.minimum(chosen.length, np.where(chosen.blocks <= _FEW_BLOCKS, 2, 1) * _STARTS_A_BLOCK)
    for blocks, density in np.unique(np.stack([chosen.blocks, densities], 1), axis=0):
        rows = np.flatnonzero((chosen.blocks == blocks) & (densities == density))
        blocks, starts = int(blocks), int(density * blocks)
        draws = draw_counts([seed, blocks, starts], starts, blocks, n_boot).T.astype("float32", order="C")
        step = max(1, _CHUNK_VALUES // ((p + products) * max(len(draws), n_boot, longest)))
        for part in (rows[first : first + step] for first in range(0, rows.size, step)):
            series = deviations[:, part], means[:, part], n[part], chosen.length[part]
            result[:, part] = _bootstrap_part(series, blocks, draws, function, level)
    error *= np.sqrt(long_run_inflation(chosen.rho, chosen.decay, chosen.length, n))
    return estimate - t_high * error, estimate - t_low * error, usable


def _bootstrap_part(
    series: tuple[np.ndarray, ...], blocks: int, draws: np.ndarray, function: SmoothFunction, level: float
) -> tuple[np.ndarray, ...]:
    """Estimate, standard error, quantiles of t and usable share of series that share the draws ``(starts, n_boot)``."""
    deviations, means, n, length = series
    p, s, _ = deviations.shape
    starts, n_boot = draws.shape
    pairs = list(itertools.combinations_with_replacement(range(p), 2))
    sums = np.empty((p + len(pairs), s, starts))
    _block_sums(deviations, n, length, starts, sums[:p])
    sums[:p] /= length[:, None]
    scale = np.sqrt((sums[:p] ** 2).mean(-1, keepdims=True))
    scale[scale == 0.0] = 1.0
    sums[:p] /= scale
    for k, (i, j) in enumerate(pairs, p):
        np.multiply(sums[i], sums[j], out=sums[k])
    # deviations of size 1: single precision leaves six digits of each replicate's distance from the estimate
    drawn = (sums.reshape(-1, starts).astype("float32") @ draws).reshape(-1, s, n_boot)
    drawn /= np.float32(blocks)
    scale = scale[..., 0]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        estimate, gradient = function(means)
        middle = sums.mean(-1)
        products = {pair: middle[k] for k, pair in enumerate(pairs, p)}
        slopes = [g * c for g, c in zip(gradient, scale, strict=True)]
        # the grid's overlapping blocks do the work of n/length independent ones
        error = _block_spread(slopes, middle[:p], products) * np.sqrt(length / n)
        # what the replicates scatter around: near the estimate, but for starts that the grid has twice
        centre, _ = function(means + middle[:p] * scale)
        replicates = [m[:, None] + c[:, None] * d for m, c, d in zip(means, scale, drawn[:p], strict=True)]
        value, gradient = function(replicates)
        slopes = [(g * c[:, None]).astype("float32") for g, c in zip(gradient, scale, strict=True)]
        products = {pair: drawn[k] for k, pair in enumerate(pairs, p)}
        value -= centre[:, None]
        t = value / (_block_spread(slopes, drawn[:p], products) / np.sqrt(blocks - 1))
    t[~np.isfinite(t)] = np.nan
    t.sort(axis=1)  # NaN last
    usable = (~np.isnan(t)).sum(1)
    # a replicate of a few like blocks has nearly no standard error: without a bound such would give boundless intervals
    bound = _LARGEST_T * stats.t.ppf((1.0 + level) / 2.0, blocks - 1)
    last, rows, ends = np.maximum(usable - 1, 0), np.arange(s), []
    for q in ((1.0 - level) / 2.0, (1.0 + level) / 2.0):  # linear quantiles of the usable ones
        low = np.floor(last * q).astype(int)
        fraction = last * q - low
        quantile = t[rows, low] * (1.0 - fraction) + t[rows, np.minimum(low + 1, last)] * fraction
        ends.append(np.clip(quantile, -bound, None) if q < 0.5 else np.clip(quantile, None, bound))
    return estimate, error, *ends, usable / n_boot
