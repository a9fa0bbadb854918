"""Scenes and overpasses of one 36 km cell in order of time, and what of them was known at a time.

**Known at t** are SMAP's fields up to t's overpass (`CLOCK` after t, as the clocks of the files differ) and the scenes before t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import ContractError, plain
from smnb.grids import M09, M36, EaseGrid, EaseWindow, ease_refine
from smnb.loaders.smap.cells import CLOCK, open_cell_scenes, open_cell_series, overpass_of

_DAY = np.timedelta64(1, "D")
_FRESH = 10.0  # days that a 9 km value may be old where an overpass has a gap


@dataclass(frozen=True)
class CellRecord:
    """One 36 km cell's scenes and overpasses, in order of time, north first; soil moisture in m3 m-3, NaN where missing.

    `time` (scene,) is that of SMAP's overpass, `fine` (scene, 12, 12) or (scene, 36, 36) at 3 or 1 km. At `overpass`, `coarse`
    (overpass, 4, 4) at 9 km is the single-channel retrieval, as the product's own, and the dual-channel one in its gaps.
    """

    window: EaseWindow
    time: NDArray
    fine: NDArray
    overpass: NDArray
    coarse: NDArray
    of_scenes: ClassVar[tuple[str, ...]] = ("time", "fine")  # fields with a value a scene

    @classmethod
    def from_datasets(cls, scenes: xr.Dataset, series: xr.Dataset) -> Self:
        """Join one cell's ``soil_moisture(time, y, x)`` at 3 or 1 km and at 9 km, ``soil_moisture_sca`` where there is one."""
        fine, coarse = (EaseWindow.from_dataset(part) for part in (scenes, series))
        cell = fine.covering(M36)
        if cell.shape != (1, 1) or fine != cell.on(fine.grid) or coarse != cell.on(M09):
            expected = plain("one 36 km cell at 3 or 1 km and at 9 km")
            raise ContractError("CellRecord", "the two are not of one cell", got=(fine, coarse), expected=expected)
        values = series["soil_moisture"].transpose("time", "y", "x").values
        if "soil_moisture_sca" in series:
            single = series["soil_moisture_sca"].transpose("time", "y", "x").values
            values = np.where(np.isfinite(single), single, values)
        image = scenes["soil_moisture"].transpose("time", "y", "x").values
        times = (part["time"].values.astype("datetime64[ns]") for part in (scenes, series))
        first, second = times
        return cls(cell, first, image.astype("float64"), second, values.astype("float64"))

    @classmethod
    def from_files(cls, path: Path, series: Path | None, resolution: str = "3km") -> Self:
        """Read a cell's ``spl2smap_s_*`` or ``pairs_*`` and its ``smap_9km_*``; None where there is none."""
        scenes = open_cell_scenes([path], resolution=resolution)
        if series is not None:
            return cls.from_datasets(scenes, open_cell_series([series]))
        none = (("time", "y", "x"), np.empty((0, 4, 4)))
        empty = xr.Dataset({"soil_moisture": none}, {"time": np.empty(0, "datetime64[ns]")})
        window = EaseWindow.from_dataset(scenes).covering(M36).on(M09)
        return cls.from_datasets(scenes, empty.assign_coords(window.coords()))

    @property
    def name(self) -> str:
        """``R049C220``, counted from 1 as files are called."""
        return f"R{self.window.row_start + 1:03}C{self.window.col_start + 1:03}"

    def smap_at(self, times: NDArray) -> tuple[NDArray, NDArray]:
        """SMAP ``(time, 4, 4)`` as known at each time, gaps up to ten days old, and the number of the overpass, -1 for none.

        Without any value that young a cell has the mean of its neighbours; where none has one, the last that there was.
        """
        number = overpass_of(times, self.overpass)
        if not self.overpass.size:
            return np.full((times.size, 4, 4), np.nan), number
        valid = np.isfinite(self.coarse)
        last = np.maximum.accumulate(np.where(valid, np.arange(len(valid))[:, None, None], -1), axis=0)[number]
        last[number < 0] = -1
        found = np.take_along_axis(self.coarse, np.maximum(last, 0), axis=0)
        age = (times[:, None, None] - self.overpass[np.maximum(last, 0)]) / _DAY
        young = np.where((last >= 0) & (age <= _FRESH), found, np.nan)
        old = np.where(last >= 0, found, np.nan)
        for fallback in (image_means(young)[:, None, None], image_means(old)[:, None, None]):
            young = np.where(np.isnan(young), fallback, young)
        return young, number

    def cut(self, time: np.datetime64, before: np.datetime64) -> Self:
        """The record as it was known at a time, with scenes before another."""
        scenes, passes = self.time < before - CLOCK, self.overpass <= time + CLOCK
        kept = {name: getattr(self, name)[scenes] for name in self.of_scenes}
        return replace(self, overpass=self.overpass[passes], coarse=self.coarse[passes], **kept)

    def level_of_past(self, times: NDArray) -> NDArray:
        """Mean of all scenes before each time, m3 m-3; NaN where there was none."""
        total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(image_means(self.fine)))])
        count = np.concatenate([[0], np.cumsum(np.isfinite(image_means(self.fine)))])
        before = np.searchsorted(self.time, times - CLOCK, side="left")
        return np.where(count[before] > 0, total[before] / np.maximum(count[before], 1), np.nan)


def image_means(images: NDArray) -> NDArray:
    """Mean of each image over its valid pixels, NaN where it has none."""
    count = np.isfinite(images).sum((1, 2))
    return np.where(count > 0, np.nansum(images, (1, 2)) / np.maximum(count, 1), np.nan)


def bilinear_matrix(grid: EaseGrid) -> NDArray:
    """Weights (pixel, 16) from a cell's 9 km values to those of a finer grid, between centres on the map, edges carried on."""
    cell = EaseWindow(M36, 0, 1, 0, 1)
    unit = np.eye(16).reshape(16, 4, 4)
    image = xr.DataArray(unit, {**cell.on(M09).coords(), "time": np.arange(16)}, ("time", "y", "x"))
    return ease_refine(image, grid, method="bilinear").values.reshape(16, -1).T.astype("float64")
