"""Coverage of intervals of averages over sensors that stand in clusters.

Each sensor has a first-order autoregressive error (coefficient 0.8 a day, 200 days); its standard deviation is a sensor's own
and, for a share of its variance between sensors, its cluster's. What is averaged is the sensor's ubRMSE, and the truth is the
mean over clusters and sensors that were never drawn. Rows: 5, 10 and 30 clusters of one size or of log-normal sizes, and with
one that holds more than half of the sensors. Columns: the share of nominal 95 % intervals that hold the truth, of the mean with
sensors drawn one by one, of the mean, of the mean of the clusters' means, and of the median (of symmetric scores) with clusters
drawn; "none" where no interval is given.

Run ``python benchmarks/bench_cluster_intervals.py [--trials 400]``.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.signal import lfilter

from smnb.metrics import average_interval

DAYS, PHI, LEVEL, BETWEEN = 200, 0.8, 0.05, 0.15
SHARES = (0.0, 0.3, 0.8)  # of the variance between sensors that their cluster has in common


def sizes_of(rng: np.random.Generator) -> dict[str, np.ndarray]:
    found = {}
    for k in (5, 10, 30):
        found[f"{k} alike"] = np.full(k, 4)
        found[f"{k} log-normal"] = np.ceil(np.exp(rng.normal(1.0, 0.7, k))).astype(int)
        small = np.ones(k - 1, dtype=int) + (np.arange(k - 1) % 2)
        found[f"{k}, one dominant"] = np.append(small, int(1.5 * small.sum()))
    return found


def ubrmse_of_sensors(rng: np.random.Generator, codes: np.ndarray, share: float) -> np.ndarray:
    """Simulated ubRMSE of each sensor, ``(sensor,)``: errors are autoregressive, their size log-normal."""
    own, common = rng.standard_normal(codes.size), rng.standard_normal(codes.max() + 1)[codes]
    sd = LEVEL * np.exp(BETWEEN * (np.sqrt(1.0 - share) * own + np.sqrt(share) * common))
    start = PHI * rng.standard_normal((codes.size, 1))
    noise = rng.standard_normal((codes.size, DAYS))
    errors = lfilter([np.sqrt(1.0 - PHI**2)], [1.0, -PHI], noise, axis=1, zi=start)[0] * sd[:, None]
    return errors.std(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seed", type=int, default=14)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    many = np.arange(20_000)
    expected = ubrmse_of_sensors(rng, many, 0.0)
    truth = {"mean": expected.mean(), "median": np.median(expected)}
    ways = {
        "one by one": ("mean", None),
        "mean": ("mean", 1),
        "cluster_mean": ("cluster_mean", 1),
        "median": ("median", 1),
    }
    print(f"{'clusters':18s} {'share':>5s} {'effective':>9s} " + " ".join(f"{way:>12s}" for way in ways))
    for name, sizes in sizes_of(rng).items():
        codes = np.repeat(np.arange(sizes.size), sizes)
        for share in SHARES:
            held = {way: [] for way in ways}
            for trial in range(options.trials):
                scores = ubrmse_of_sensors(rng, codes, share)
                for way, (how, clustered) in ways.items():
                    labels = codes if clustered else None
                    found = average_interval(scores, how=how, clusters=labels, n_boot=500, seed=trial)
                    if np.isfinite(found.low):
                        held[way].append(found.low <= truth["median" if how == "median" else "mean"] <= found.high)
            shown = [f"{np.mean(hits):12.3f}" if hits else f"{'none':>12s}" for hits in held.values()]
            effective = sizes.sum() ** 2 / (sizes**2).sum()
            print(f"{name:18s} {share:5.1f} {effective:9.1f} " + " ".join(shown), flush=True)


if __name__ == "__main__":
    main()
