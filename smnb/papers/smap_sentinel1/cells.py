"""One cell of 36 km at 1 km: a scene's backscatter and vegetation water, SMAP up to then, and what earlier scenes have taught.

**Known at t** are SMAP's fields up to t's overpass, the scene's own σ0 and vegetation water, and the soil moisture of earlier
scenes. σ0 was acquired from days before to days after SMAP's overpass: these are no near-real-time estimates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.grids import M01
from smnb.loaders.smap.cells import CLOCK
from smnb.loaders.smap.records import CellRecord, bilinear_matrix, image_means

MAPS = (
    *("sigma0_in_block", "sigma0_between_blocks", "sigma0_in_block_own_slope", "vv", "vh", "smap_9km", "smap_between"),
    *("vegetation", "past_pattern", "past_residual"),
)
STATE = (
    *("level", "share", "log_share", "log_spread", "log_vv_vh", "log_slope", "correlation", "log_level", "scenes"),
    "past_slope",
)
#: Coefficients that training starts from; `_PRIOR` of them are the estimate that past residuals are taken of.
START = (1.2, 0.6, 0.0, 0.0, 0.0, 0.2, 0.4, 0.0, 0.0, 0.0)
_PRIOR = (1.2, 0.8, 0.0, 0.0, 0.0, 0.0, 0.3)
USUAL_LEVEL, _USUAL_VEGETATION = 0.2, 1.5  # m3 m-3 and kg m-2, where neither is known
_LEAST, _SCENE = 50, 100  # pixels of σ0, and of soil moisture, that a scene's statistics must have
_BILINEAR = bilinear_matrix(M01)


@dataclass(frozen=True)
class BackscatterRecord(CellRecord):
    """A `CellRecord` at 1 km with each scene's σ0, linear power, and vegetation water content, kg m-2; NaN where missing."""

    vv: NDArray
    vh: NDArray
    vegetation: NDArray
    of_scenes: ClassVar[tuple[str, ...]] = (*CellRecord.of_scenes, "vv", "vh", "vegetation")

    @classmethod
    def from_datasets(cls, scenes: xr.Dataset, series: xr.Dataset) -> Self:
        """As `CellRecord.from_datasets`, with ``sigma0(time, polarization, y, x)`` in dB."""
        plain = CellRecord.from_datasets(scenes, series)
        blank = np.full(plain.fine.shape, np.nan)
        power = dict.fromkeys(("VV", "VH"), blank)
        if "sigma0" in scenes:
            power = {n: 10 ** (scenes["sigma0"].sel(polarization=n).values.astype("float64") / 10) for n in power}
        water = scenes.get("vegetation_water_content")
        water = blank if water is None else water.transpose("time", "y", "x").values.astype("float64")
        return cls(**vars(plain), vv=power["VV"], vh=power["VH"], vegetation=water)


@dataclass(frozen=True)
class Scene:
    """What one scene's own σ0 and SMAP up to it say: the first seven `MAPS` and vegetation, `STATE` but for the past, level."""

    maps: NDArray
    state: NDArray
    level: float
    between: NDArray
    prior: NDArray


def _blocks(image: NDArray, size: int = 9) -> NDArray:
    """Mean of each block over its valid pixels, on the pixels; the image's own mean in a block without any."""
    side = image.shape[-1] // size
    parts = image.reshape(side, size, side, size)
    count = np.isfinite(parts).sum((1, 3))
    mean = np.where(count > 0, np.nansum(parts, (1, 3)) / np.maximum(count, 1), np.nanmean(image))
    return np.kron(mean, np.ones((size, size)))


def _slope(y: NDArray, x: NDArray, ridge: float = 0.0) -> float:
    """Slope of centred values through the origin, over pixels that both have."""
    both = np.isfinite(y) & np.isfinite(x)
    return float((y[both] * x[both]).sum() / ((x[both] ** 2).sum() + ridge + 1e-12))


def scene_of(vv: NDArray, vh: NDArray, vegetation: NDArray, coarse: NDArray, level: float) -> Scene:
    """Maps and state of one scene (36, 36), from SMAP (4, 4) as known then and its mean or what stands for it."""
    block = np.kron(coarse, np.ones((9, 9)))
    smap, between = (np.nan_to_num(one - level) for one in (block, (_BILINEAR @ coarse.ravel()).reshape(36, 36)))
    amplitude = level + 0.1
    there = np.isfinite(vv) & np.isfinite(vh)
    share, state, radar = 0.5, np.zeros(5), np.zeros((5, 36, 36))
    if there.sum() >= _LEAST:
        # a mast or a ship must not set the scene's slope
        vv, vh = (np.where(there, np.minimum(one, 4 * np.percentile(one[there], 95)), np.nan) for one in (vv, vh))
        mean_v, mean_h = np.nanmean(vv), np.nanmean(vh)
        centred = vv - mean_v, vh - mean_h
        slope = np.clip(_slope(*centred), 0.5, 10)
        soil = vv - slope * vh
        blocks, mean, spread = _blocks(soil), np.nanmean(soil), np.nanstd(soil)
        own = _blocks((vv - _blocks(vv)) * (vh - _blocks(vh))) / (_blocks((vh - _blocks(vh)) ** 2) + 1e-12)
        own = vv - np.clip(own, 0.5, 12) * vh
        radar = (
            np.stack([soil - blocks, blocks - mean, own - _blocks(own), centred[0], centred[1] * mean_v / mean_h])
            / mean_v
        )
        share = mean / mean_v
        correlation = np.nanmean(centred[0] * centred[1]) / (centred[0][there].std() * centred[1][there].std() + 1e-12)
        state = np.array(
            [
                *(np.log(spread / mean_v + 1e-3) + 1, np.log(mean_v / mean_h) - 2),
                *(np.log(slope * mean_h / mean_v) + 0.6, 3 * correlation - 2, 0.0),
            ]
        )
    known = [10 * level - 2, 3 * np.clip(share, 0.02, 1.5) - 1.5, np.log(np.clip(share, 0.03, 1.5)) + 1]
    water = vegetation - (np.nanmean(vegetation) if np.isfinite(vegetation).any() else _USUAL_VEGETATION)
    maps = np.stack([*(amplitude * radar), smap, between, 0.03 * water])
    maps = np.clip(np.nan_to_num(maps), -0.5, 0.5)
    prior = np.tensordot(_PRIOR, maps[:7], 1)
    return Scene(maps, np.array([*known, *state[:4], np.log(level + 0.05) + 1.5]), level, level + between, prior)


class KnownScenes:
    """Inputs of estimates at 1 km of a record; what only a scene and SMAP up to it say is kept."""

    def __init__(self, record: BackscatterRecord) -> None:
        self.record = record
        self._scenes: dict[np.datetime64, Scene] = {}

    def scene(self, time: np.datetime64, level: float) -> Scene:
        """The scene of an overpass; without one there is no σ0, and maps say what SMAP does. `level` stands for no SMAP."""
        if time in self._scenes:
            return self._scenes[time]
        record, apart = self.record, np.abs(self.record.time - time)
        found = apart.argmin() if apart.size and apart.min() <= CLOCK else None
        blank = np.full((36, 36), np.nan)
        images = [blank if found is None else one[found] for one in (record.vv, record.vh, record.vegetation)]
        coarse = record.smap_at(np.array([time]))[0][0]
        if not np.isfinite(coarse).any():
            return scene_of(*images, coarse, level)
        return self._scenes.setdefault(time, scene_of(*images, coarse, float(coarse.mean())))

    def at(self, time: np.datetime64, before: np.datetime64) -> tuple[NDArray, NDArray, Scene, NDArray]:
        """``MAPS`` (map, 36, 36), `STATE`, the scene, and the mean past pattern of the product, from scenes before `before`."""
        past = np.flatnonzero(before - self.record.time > CLOCK)
        levels = image_means(self.record.fine[past])
        level = float(np.nanmean(levels)) if np.isfinite(levels).any() else USUAL_LEVEL
        now = self.scene(time, level)
        pattern, residual, slopes = np.zeros((36, 36)), np.zeros((36, 36)), []
        count = np.zeros((36, 36))
        for number, mean in zip(past, levels, strict=True):
            seen = np.isfinite(self.record.fine[number])
            if not seen.any():
                continue
            then = self.scene(self.record.time[number], float(mean))
            departure = np.where(seen, self.record.fine[number] - mean, 0.0)
            pattern += departure
            residual += np.where(seen, departure - (then.prior - then.prior[seen].mean()), 0.0)
            count += seen
            if seen.sum() >= _SCENE and then.maps[0].any():
                fine = self.record.fine[number]
                slopes.append(np.log(np.clip(_slope(fine - _blocks(fine), then.maps[0], 1e-6), 0.1, 10.0)))
        past_maps = np.clip([pattern / (count + 2), residual / (count + 3)], -0.5, 0.5)
        learnt = [np.log1p(len(slopes)) / 3 - 1, float(np.sum(slopes)) / (len(slopes) + 4)]
        return np.concatenate([now.maps, past_maps]), np.array([*now.state, *learnt]), now, pattern / (count + 2)
