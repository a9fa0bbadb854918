"""Intervals of scores: coverage in a simulation, and speed against pytesmo's bootstrap.

Coverage
    Errors are first-order autoregressive with coefficient phi (normal, standard deviation 0.05, mean 0.02), on a signal that
    is one too (0.9, standard deviation 0.08). Each series gives nominal 95 % intervals of ubRMSE, bias and R; the share that
    holds the true value and the mean width are printed for smnb's block bootstrap and for pytesmo's analytic intervals.

Speed
    1,300 sensors of 700 pairs, 1,000 replicates. pytesmo is timed on a subset of the sensors (its cost is the same for each)
    and scaled up; smnb does all of them. Both in one process, one after the other. `pytesmo` is needed.

Run ``python benchmarks/bench_metric_intervals.py [--coverage SERIES] [--no-speed] [--sensors 1300] [--subset 6]``.
"""

from __future__ import annotations

import argparse
import os

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from benchmarks.measure import best_of
from smnb.metrics import interval, score_intervals

ERROR_SD, SIGNAL_SD, BIAS, SIGNAL_PHI = 0.05, 0.08, 0.02, 0.9
TRUE = {"ubrmse": ERROR_SD, "bias": BIAS, "pearson_r": SIGNAL_SD / np.hypot(SIGNAL_SD, ERROR_SD)}
METRICS = ("bias", "rmse", "ubrmse", "pearson_r")


def autoregression(rng: np.random.Generator, phi: float, shape: tuple[int, int]) -> np.ndarray:
    """Stationary AR(1) series of standard deviation 1, ``(series, n)``."""
    start = phi * rng.standard_normal((shape[0], 1))
    return lfilter([np.sqrt(1.0 - phi * phi)], [1.0, -phi], rng.standard_normal(shape), axis=1, zi=start)[0]


def simulate(rng: np.random.Generator, phi: float | np.ndarray, n: int, series: int) -> tuple[np.ndarray, np.ndarray]:
    obs = 0.25 + SIGNAL_SD * autoregression(rng, SIGNAL_PHI, (series, n))
    return obs + BIAS + ERROR_SD * autoregression(rng, phi, (series, n)), obs


def long_table(pred: np.ndarray, obs: np.ndarray) -> pd.DataFrame:
    series, n = obs.shape
    time_axis = np.datetime64("2016-01-01", "ns") + np.arange(n) * np.timedelta64(1, "D")
    sensor = np.repeat(np.arange(series), n)
    return pd.DataFrame(
        {"sensor_id": sensor, "time": np.tile(time_axis, series), "observed": obs.ravel(), "predicted": pred.ravel()}
    )


def coverage(n: int, series: int, seed: int) -> None:
    from pytesmo.metrics import pairwise

    rng = np.random.default_rng(seed)
    print(
        f"\nCoverage of nominal 95 % intervals, n = {n}, {series} series a row (standard error about "
        f"{100 * np.sqrt(0.95 * 0.05 / series):.1f} points at 95 %)"
    )
    print(
        f"{'score':>10} {'phi':>5} | {'block_bootstrap':>16} {'mean width':>11} {'block':>6} |"
        f" {'pytesmo analytic':>16} {'mean width':>11}"
    )
    for phi in (0.0, 0.8, 0.95):
        pred, obs = simulate(rng, phi, n, series)
        found = score_intervals(long_table(pred, obs), metrics=tuple(TRUE))
        for metric, true in TRUE.items():
            mine = found[found["metric"] == metric]
            held = (mine["low"] <= true) & (true <= mine["high"])
            name = {"ubrmse": "ubrmsd"}.get(metric, metric)
            score, ends = getattr(pairwise, name), getattr(pairwise, f"{name}_ci")
            theirs = np.array([ends(p, o, score(p, o)) for p, o in zip(pred, obs, strict=True)])
            theirs_held = (theirs[:, 0] <= true) & (true <= theirs[:, 1])
            print(
                f"{metric:>10} {phi:5.2f} | {100 * held.mean():14.1f} % {(mine['high'] - mine['low']).mean():11.4f} "
                f"{mine['block_length'].median():6.0f} | {100 * theirs_held.mean():14.1f} % "
                f"{np.diff(theirs, axis=1).mean():11.4f}"
            )


def speed(sensors: int, n: int, n_boot: int, subset: int, seed: int) -> None:
    from pytesmo.metrics import bias, pearson_r, rmsd, ubrmsd, with_bootstrapped_ci

    peers = dict(zip(METRICS, (bias, rmsd, ubrmsd, pearson_r), strict=True))
    rng = np.random.default_rng(seed)
    parts = [simulate(rng, phi, n, -(-sensors // 4)) for phi in (0.0, 0.5, 0.8, 0.95)]
    pred, obs = (np.concatenate(p)[:sensors] for p in zip(*parts, strict=True))
    table = long_table(pred, obs)
    ragged = table[rng.random(len(table)) > rng.uniform(0.0, 0.3, sensors)[table["sensor_id"]]]
    interval(pred[0], obs[0], n_boot=n_boot)  # first-call costs of both sides stay out
    with_bootstrapped_ci(bias, pred[0], obs[0], nsamples=10)
    print(
        f"\nSpeed: {sensors} sensors x {n} pairs, {n_boot} replicates, {len(os.sched_getaffinity(0))} cores; "
        f"pytesmo on {subset} sensors, scaled to {sensors}"
    )
    print(f"{'score':>10} {'pytesmo':>11} {'smnb':>9} {'ratio':>9} {'smnb, gaps':>11}")
    totals = np.zeros(3)
    for metric in METRICS:
        seconds = []
        for job in (
            lambda m=metric: [with_bootstrapped_ci(peers[m], pred[s], obs[s], nsamples=n_boot) for s in range(subset)],
            lambda m=metric: score_intervals(table, metrics=m, n_boot=n_boot),
            lambda m=metric: score_intervals(ragged, metrics=m, n_boot=n_boot),
        ):
            seconds.append(best_of(job)[0])
        seconds[0] *= sensors / subset
        totals += seconds
        print(
            f"{metric:>10} {seconds[0]:9.1f} s {seconds[1]:7.2f} s {seconds[0] / seconds[1]:8.0f}x {seconds[2]:9.2f} s"
        )
    together, _ = best_of(lambda: score_intervals(table, metrics=METRICS, n_boot=n_boot))
    print(f"{'all four':>10} {totals[0]:9.1f} s {together:7.2f} s {totals[0] / together:8.0f}x {totals[2]:9.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coverage", type=int, default=2000, metavar="SERIES", help="series a row; 0 leaves it out")
    parser.add_argument("--lengths", type=int, nargs="+", default=[700, 100], help="values in a series")
    parser.add_argument("--no-speed", action="store_true", help="coverage only")
    parser.add_argument("--sensors", type=int, default=1300)
    parser.add_argument("--subset", type=int, default=6, help="sensors that pytesmo is timed on")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.no_speed:
        speed(options.sensors, 700, options.replicates, options.subset, options.seed)
    for n in options.lengths if options.coverage else []:
        coverage(n, options.coverage, options.seed)


if __name__ == "__main__":
    main()
