"""One cell of 36 km: its scenes at 3 km, its SMAP overpasses at 9 km, and what of them was known at a time.

**Known at t** are SMAP's fields up to t's overpass (`smnb.loaders.smap.CLOCK` after t, as the clocks of the files differ) and the
scenes before t: their soil moisture and nothing else. A scene's own values never enter its estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import ContractError, plain
from smnb.grids import M03, M09, M36, EaseWindow, ease_refine
from smnb.loaders.smap.cells import CLOCK
from smnb.models.past_scenes import PastScenes

_DAY, _EPOCH = np.timedelta64(1, "D"), np.datetime64("2015-01-01", "ns")
_FRESH = 10.0  # days that a 9 km value may be old where an overpass has a gap
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
class CellRecord:
    """One cell's scenes and overpasses, in order of time, north first.

    Parameters
    ----------
    window : EaseWindow
        The cell of 36 km.
    time : ndarray of datetime64, shape (scene,)
        Of SMAP's overpass.
    fine : ndarray, shape (scene, 12, 12)
        Soil moisture at 3 km, m3 m-3, NaN where missing.
    overpass : ndarray of datetime64, shape (overpass,)
    coarse : ndarray, shape (overpass, 4, 4)
        Soil moisture at 9 km, m3 m-3: the single-channel retrieval, as the product's own; the dual-channel one in its gaps.
    """

    window: EaseWindow
    time: NDArray
    fine: NDArray
    overpass: NDArray
    coarse: NDArray

    @classmethod
    def from_datasets(cls, scenes: xr.Dataset, series: xr.Dataset) -> CellRecord:
        """Join one cell's ``soil_moisture(time, y, x)`` at 3 km and at 9 km (with ``soil_moisture_sca`` where there is one)."""
        fine, coarse = (EaseWindow.from_dataset(part) for part in (scenes, series))
        cell = fine.covering(M36)
        if cell.shape != (1, 1) or fine != cell.on(M03) or coarse != cell.on(M09):
            expected = plain("one 36 km cell at 3 and 9 km")
            raise ContractError("CellRecord", "the two are not of one cell", got=(fine, coarse), expected=expected)
        values = series["soil_moisture"].transpose("time", "y", "x").values
        if "soil_moisture_sca" in series:
            single = series["soil_moisture_sca"].transpose("time", "y", "x").values
            values = np.where(np.isfinite(single), single, values)
        image = scenes["soil_moisture"].transpose("time", "y", "x").values
        times = (part["time"].values.astype("datetime64[ns]") for part in (scenes, series))
        first, second = times
        return cls(cell, first, image.astype("float64"), second, values.astype("float64"))

    @property
    def name(self) -> str:
        """``R049C220``, counted from 1 as files are called."""
        return f"R{self.window.row_start + 1:03}C{self.window.col_start + 1:03}"

    def smap_at(self, times: NDArray) -> tuple[NDArray, NDArray]:
        """SMAP ``(time, 4, 4)`` as known at each time, gaps up to ten days old, and the number of the overpass, -1 for none.

        Without any value that young a cell has the mean of its neighbours; where none has one, the last that there was.
        """
        number = np.searchsorted(self.overpass, times + CLOCK, side="right") - 1
        if not self.overpass.size:
            return np.full((times.size, 4, 4), np.nan), number
        valid = np.isfinite(self.coarse)
        last = np.maximum.accumulate(np.where(valid, np.arange(len(valid))[:, None, None], -1), axis=0)[number]
        last[number < 0] = -1
        found = np.take_along_axis(self.coarse, np.maximum(last, 0), axis=0)
        age = (times[:, None, None] - self.overpass[np.maximum(last, 0)]) / _DAY
        young = np.where((last >= 0) & (age <= _FRESH), found, np.nan)
        old = np.where(last >= 0, found, np.nan)
        for fallback in (_mean(young)[:, None, None], _mean(old)[:, None, None]):
            young = np.where(np.isnan(young), fallback, young)
        return young, number

    def level_of_past(self, times: NDArray) -> NDArray:
        """Mean of all scenes before each time, m3 m-3; NaN where there was none."""
        total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(_mean(self.fine)))])
        count = np.concatenate([[0], np.cumsum(np.isfinite(_mean(self.fine)))])
        before = np.searchsorted(self.time, times - CLOCK, side="left")
        return np.where(count[before] > 0, total[before] / np.maximum(count[before], 1), np.nan)


def _mean(images: NDArray) -> NDArray:
    """Mean of each image over its valid pixels, NaN where it has none."""
    count = np.isfinite(images).sum((1, 2))
    return np.where(count > 0, np.nansum(images, (1, 2)) / np.maximum(count, 1), np.nan)


def bilinear_matrix() -> NDArray:
    """Weights (144, 16) from a cell's 9 km values to its 3 km ones, between centres on the map, edges carried on."""
    cell = EaseWindow(M36, 0, 1, 0, 1)
    unit = np.eye(16).reshape(16, 4, 4)
    image = xr.DataArray(unit, {**cell.on(M09).coords(), "time": np.arange(16)}, ("time", "y", "x"))
    return ease_refine(image, M03, method="bilinear").values.reshape(16, 144).T.astype("float64")


@dataclass(frozen=True)
class Estimates:
    """What is known for estimates of a cell at some times: `inputs` of the network, and SMAP.

    `level` (n,) and `smap` (n, 12, 12) are SMAP's mean and its values on the fine grid, m3 m-3; `level` falls back to the earlier
    scenes' mean, NaN where there are none either. `scenes` (n,) counts earlier scenes.
    """

    inputs: PastScenes
    level: NDArray
    smap: NDArray
    scenes: NDArray


def known_at(record: CellRecord, times: NDArray, before: NDArray | None = None) -> Estimates:
    """Gather what was known of a cell at each of `times`, and of its scenes those before `before` (default the same)."""
    times = np.asarray(times, "datetime64[ns]")
    before = times if before is None else np.asarray(before, "datetime64[ns]")
    now, then = (_state(record, one) for one in (times, record.time))
    level = np.where(np.isnan(now["level"]), record.level_of_past(before), now["level"])
    seen = np.isfinite(record.fine)
    count = seen.sum((1, 2))
    pattern = record.fine - _mean(record.fine)[:, None, None]
    smap = np.where(seen, then["image"], np.nan)
    residual = pattern - (smap - _mean(smap)[:, None, None])
    spread = np.sqrt(_mean(pattern**2))

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
    return Estimates(PastScenes(*tensors), level, now["image"], usable.sum(1))


def _state(record: CellRecord, times: NDArray) -> dict[str, NDArray]:
    """State of a cell at some times from SMAP up to them; what is not known is 0, but for the level, which is NaN."""
    coarse, number = record.smap_at(times)
    level = _mean(coarse)
    pattern = np.nan_to_num(coarse - level[:, None, None]).reshape(-1, 16)
    smooth = pattern @ _BILINEAR.T
    series = _mean(record.coarse)
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


_BILINEAR = bilinear_matrix()
_NEAREST = np.stack([np.kron(one.reshape(4, 4), np.ones((3, 3))).ravel() for one in np.eye(16)], 1)
