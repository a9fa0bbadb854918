"""Temporal matching of 200 sensors of 26,000 hourly readings with 2,200 overpasses each, beside pytesmo's, in one run.

pytesmo gets what suits it best, one DataFrame a sensor with a sorted time index, made before the clock starts (and on one
line the long tables that smnb gets, for the whole of the same job). smnb gets the long tables of the project (5.2 million
and 440,000 rows, the sensor as a categorical) and, on a second line, the same arrays sensor by sensor. All must give the
same values. CPU times. `pytesmo` is needed.

Run ``python benchmarks/bench_matching.py [--sensors 200] [--readings 26000] [--overpasses 2200] [--repeat 3]``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from pytesmo.temporal_matching import combined_temporal_collocation, df_match, temporal_collocation

from smnb.sensors import match_in_time, match_tables

HOUR = np.timedelta64(1, "h")


def simulate(sensors: int, readings: int, overpasses: int) -> tuple[list[pd.DataFrame], list[pd.DatetimeIndex]]:
    rng = np.random.default_rng(0)
    hours = np.datetime64("2016-01-01", "ns") + np.arange(readings) * HOUR
    frames, passes = [], []
    for _ in range(sensors):
        frames.append(pd.DataFrame({"soil_moisture": rng.uniform(0.05, 0.45, readings)}, index=pd.DatetimeIndex(hours)))
        seconds = np.sort(rng.choice(readings * 3600, overpasses, replace=False))
        seconds += (
            seconds % 3600 == 1800
        )  # of two equally near pandas, and so pytesmo, takes the later, smnb the earlier
        passes.append(pd.DatetimeIndex(hours[0] + seconds * np.timedelta64(1, "s")))
    return frames, passes


def best(functions: dict[str, Callable[[], Any]], repeat: int) -> dict[str, tuple[float, Any]]:
    """Least CPU time of each, taken by turns, so that a busy machine is busy for all of them; all use one thread."""
    found = dict.fromkeys(functions, (np.inf, None))
    for _ in range(repeat):
        for name, function in functions.items():
            start = time.process_time()
            result = function()
            found[name] = min(found[name], (time.process_time() - start, result), key=lambda pair: pair[0])
    return found


def from_long_table(left: pd.DataFrame, right: pd.DataFrame, window: pd.Timedelta) -> np.ndarray:
    """The same job as `match_tables`: both tables are taken apart by sensor first."""
    readings = {
        sensor: part.set_index("time")[["soil_moisture"]] for sensor, part in right.groupby("sensor_id", observed=True)
    }
    found = [
        temporal_collocation(pd.DatetimeIndex(part["time"]), readings[sensor], window, return_distance=True)[
            "soil_moisture"
        ]
        for sensor, part in left.groupby("sensor_id", observed=True)
    ]
    return np.concatenate([part.to_numpy() for part in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("sensors", 200), ("readings", 26_000), ("overpasses", 2_200), ("repeat", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # df_match is deprecated, and says so 200 times
    frames, passes = simulate(options.sensors, options.readings, options.overpasses)
    categories = pd.RangeIndex(options.sensors)
    long_right = pd.concat(frames).rename_axis("time").reset_index()
    long_right["sensor_id"] = pd.Categorical.from_codes(np.repeat(categories, options.readings), categories)
    long_left = pd.DataFrame({"time": np.concatenate([p.values for p in passes])})
    long_left["sensor_id"] = pd.Categorical.from_codes(np.repeat(categories, options.overpasses), categories)
    arrays = [(p.values, f.index.values, f["soil_moisture"].to_numpy()) for p, f in zip(passes, frames, strict=True)]
    print(
        f"{options.sensors} sensors x {options.readings} readings, {options.overpasses} overpasses each; best of "
        f"{options.repeat}"
    )
    for method, window in (("nearest", "1h"), ("mean", "12h")):
        days = pd.Timedelta(window)
        rivals = {
            "pytesmo temporal_collocation": lambda m=method, d=days: np.concatenate(
                [
                    temporal_collocation(p, f, d, method=m)["soil_moisture"].to_numpy()
                    for p, f in zip(passes, frames, strict=True)
                ]
            ),
            "pytesmo combined_temporal_collocation": lambda m=method, d=days: np.concatenate(
                [
                    combined_temporal_collocation(p, [f], d, method=m)["soil_moisture"].to_numpy()
                    for p, f in zip(passes, frames, strict=True)
                ]
            ),
        }
        if method == "nearest":  # what match_tables gives: also which reading it was, and how far away
            rivals["pytesmo temporal_collocation, with distance"] = lambda d=days: np.concatenate(
                [
                    temporal_collocation(p, f, d, return_distance=True)["soil_moisture"].to_numpy()
                    for p, f in zip(passes, frames, strict=True)
                ]
            )
            rivals["pytesmo the same, from the long table"] = lambda d=days: from_long_table(long_left, long_right, d)
            rivals["pytesmo df_match"] = lambda d=days: np.concatenate(
                [
                    df_match(pd.DataFrame(index=p), f, window=d / pd.Timedelta("1D"))["soil_moisture"].to_numpy()
                    for p, f in zip(passes, frames, strict=True)
                ]
            )
        ours = {
            "smnb match_tables": lambda m=method, w=window: match_tables(
                long_left, long_right, value="soil_moisture", window=w, method=m
            )[0]["soil_moisture"].to_numpy(),
            "smnb match_in_time, sensor by sensor": lambda m=method, w=window: np.concatenate(
                [match_in_time(left, right, values, window=w, method=m).values for left, right, values in arrays]
            ),
        }
        results = best(rivals | ours, options.repeat)
        ours_s = min(results[name][0] for name in ours)
        expected = results["smnb match_tables"][1]
        print(f"\n{method} within {window}: {np.isfinite(expected).sum()} of {expected.size} matched")
        for name, (seconds, values) in results.items():
            there = np.isfinite(values) & np.isfinite(expected)
            differ = float(np.abs(values - expected)[there].max())
            only_one = int((np.isfinite(values) != np.isfinite(expected)).sum())
            rows = np.count_nonzero(np.abs(values - expected)[there] > 1e-9)
            print(
                f"  {name:44} {seconds * 1e3:9.1f} ms   this / fastest smnb {seconds / ours_s:6.1f}   "
                f"largest difference {differ:.1e} ({rows} rows, {only_one} in one only)"
            )


if __name__ == "__main__":
    main()
