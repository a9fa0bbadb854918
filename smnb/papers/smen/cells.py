"""One cell of 36 km: its scenes at 3 km, its SMAP overpasses at 9 km, and what of them was known at a time.

**Known at t** are SMAP's fields up to t's overpass (`smnb.loaders.smap.CLOCK` after t, as the clocks of the files differ) and the
scenes before t: their soil moisture and nothing else. A scene's own values never enter its estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from smnb.grids import M03
from smnb.loaders.smap.cells import CLOCK
from smnb.loaders.smap.records import CellRecord, bilinear_matrix, image_means
from smnb.models.past_scenes import PastScenes

_DAY, _EPOCH = np.timedelta64(1, "D"), np.datetime64("2015-01-01", "ns")
LEAST_CELLS = 20  # of 3 km that a scene must have to be counted
PAIR_FEATURES = (
    *("log_age", "within_10_days", "within_40_days", "season_apart", "season_alike", "wetter", "wetness_apart"),
    *("other_half_of_day", "orbit_repeats", "days_off_orbit", "smap_alike", "coverage", "scene_spread"),
    *("anomaly_now", "anomaly_then"),
)
#: Without the season itself, which means another thing in another climate.
STATE_FEATURES = (
    *("scenes", "scenes_of_a_year", "scenes_of_60_days", "anomaly", "level", "drying"),
    *("morning", "smap_spread"),
)


@dataclass(frozen=True)
class Estimates:
    """What is known for estimates of a cell at some times: `inputs` of the network, and SMAP.

    `level` (n,) and `smap` (n, 12, 12) are SMAP's mean and its values on the fine grid, m3 m-3; `level` falls back to the earlier
    scenes' mean, NaN where there are none either.
    """

    inputs: PastScenes
    level: NDArray
    smap: NDArray


def known_at(record: CellRecord, times: NDArray, before: NDArray | None = None) -> Estimates:
    """Gather what was known of a cell at each of `times`, and of its scenes those before `before` (default the same)."""
    times = np.asarray(times, "datetime64[ns]")
    before = times if before is None else np.asarray(before, "datetime64[ns]")
    now, then = (_state(record, one) for one in (times, record.time))
    level = np.where(np.isnan(now["level"]), record.level_of_past(before), now["level"])
    seen = np.isfinite(record.fine)
    count = seen.sum((1, 2))
    pattern = record.fine - image_means(record.fine)[:, None, None]
    smap = np.where(seen, then["image"], np.nan)
    residual = pattern - (smap - image_means(smap)[:, None, None])
    spread = np.sqrt(image_means(pattern**2))

    day, past_day = now["day"], then["day"]
    age = day[:, None] - past_day
    earlier = (before[:, None] - record.time > CLOCK) & (count > 0)
    aged = np.where(age > 0, age, 1.0)
    season = now["season"][:, None] - then["season"]
    repeat = np.abs((aged + 6) % 12 - 6)
    zero = np.zeros_like(age)
    alike = _unit(now["pattern"]) @ _unit(then["pattern"]).T
    wetter = np.nan_to_num(10 * (now["level"][:, None] - then["level"]))
    pairs = [
        *(np.log(aged / 30), np.exp(-aged / 10), np.exp(-aged / 40), np.abs(np.angle(np.exp(1j * season)))),
        *(np.cos(season), wetter, np.abs(wetter), np.abs(now["morning"][:, None] - then["morning"]), repeat < 0.3),
        *(repeat / 6, alike, zero + count / 144.0, zero + np.log(np.nan_to_num(spread, nan=0.03) + 0.005) + 3.5),
        *(zero + now["anomaly"][:, None], zero + then["anomaly"]),
    ]
    usable = earlier & (count > LEAST_CELLS)
    state = [
        *(np.log1p((usable & (age < days)).sum(1)) for days in (np.inf, 365.0, 60.0)),
        *(now["anomaly"], 5 * np.nan_to_num(now["level"])),
        *(10 * now["drying"], now["morning"], 30 * now["pattern"].std(1)),
    ]
    images = np.stack([now["pattern"] @ _NEAREST.T, now["smooth"]], 1).reshape(-1, 2, 12, 12)
    parts = (
        *(np.nan_to_num(np.stack([pattern, residual])), seen, np.stack(pairs, -1), earlier),
        *(np.stack(state, -1), images),
    )
    tensors = (torch.from_numpy(np.ascontiguousarray(part, dtype="float32")) for part in parts)
    return Estimates(PastScenes(*tensors), level, now["image"])


def _state(record: CellRecord, times: NDArray) -> dict[str, NDArray]:
    """State of a cell at some times from SMAP up to them; what is not known is 0, but for the level, which is NaN."""
    coarse, number = record.smap_at(times)
    level = image_means(coarse)
    pattern = np.nan_to_num(coarse - level[:, None, None]).reshape(-1, 16)
    smooth = pattern @ _BILINEAR.T
    series = image_means(record.coarse)
    there = np.isfinite(series)
    n, first, second = (
        np.concatenate([[0.0], np.cumsum(np.where(there, x, 0.0))]) for x in (there * 1.0, series, series**2)
    )
    upto = number + 1
    size = np.maximum(n[upto], 1)
    mean = first[upto] / size
    sd = np.sqrt(np.maximum(second[upto] / size - mean**2, 0.0)) + 0.01
    # the first level of the last four days
    start = np.searchsorted(record.overpass, times - 4 * _DAY, side="right")
    following = np.where(there, np.arange(there.size), there.size)
    following = np.append(np.minimum.accumulate(following[::-1])[::-1], there.size)
    index = following[np.minimum(start, there.size)]
    known = index < upto
    drying = np.where(known, level - np.append(series, np.nan)[np.where(known, index, there.size)], 0.0)
    day = (times - _EPOCH) / _DAY
    season = 2 * np.pi * (day % 365.25) / 365.25
    hour = ((times - times.astype("datetime64[D]")) / np.timedelta64(1, "h") + record.window.lon[0] / 15.0) % 24
    return {
        "image": np.kron(coarse, np.ones((1, 3, 3))),
        "level": level,
        "pattern": pattern,
        "smooth": smooth - smooth.mean(1, keepdims=True),
        "anomaly": np.where(n[upto] > 30, np.nan_to_num((level - mean) / sd), 0.0),
        "drying": np.nan_to_num(drying),
        "day": day,
        "season": season,
        "morning": (hour < 12).astype("float64"),
    }


def _unit(patterns: NDArray) -> NDArray:
    """Patterns (n, 16) of length one, near zero where they are flat."""
    return patterns / (np.linalg.norm(patterns, axis=1, keepdims=True) + 3e-4)


_BILINEAR = bilinear_matrix(M03)
_NEAREST = np.stack([np.kron(one.reshape(4, 4), np.ones((3, 3))).ravel() for one in np.eye(16)], 1)
