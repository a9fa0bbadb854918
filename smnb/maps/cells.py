"""Estimates of a cell's fine soil moisture at some times, each from what was known by then, and the product's interval.

Every estimate is made by itself from the record cut at its time, so that nothing later can enter, and its digits do not depend on
what else is estimated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.catalog import Catalog
from smnb.contract import check_choice
from smnb.grids import EaseGrid
from smnb.loaders.smap.cells import WETTEST
from smnb.loaders.smap.records import CellRecord, image_means
from smnb.maps.tiles import one_thread

DETAILS = ("cautious", "product")
_DAY = np.timedelta64(1, "D")
_DRIEST = 0.02  # m3 m-3: the product's least value


@dataclass(frozen=True)
class IntervalSettings:
    """How wide an interval is.

    Parameters
    ----------
    prior_scenes, prior_width, quantile : float
        The half width is the `quantile` of the errors at earlier scenes of the cell, level included, averaged with
        `prior_width` times the standard deviation of SMAP's level up to then, which counts as so many scenes.
    usual_sd : float
        m3 m-3, of SMAP's level where its series is short; counts as thirty overpasses.
    """

    prior_scenes: float = 8.0
    prior_width: float = 1.2
    quantile: float = 0.89
    usual_sd: float = 0.07


class ScenesEstimator(ABC):
    """Estimates of one cell, each from the record cut at its time.

    Parameters
    ----------
    record : CellRecord
    settings : IntervalSettings
    """

    grid: EaseGrid
    least: int  # cells that an earlier scene must have for its errors to count
    opens: type[CellRecord]  # the class of its records

    def __init__(self, record: CellRecord, settings: IntervalSettings) -> None:
        self.record, self.settings = record, settings
        self._made: dict[tuple[np.datetime64, np.datetime64], dict[str, NDArray]] = {}

    @abstractmethod
    def made(self, time: np.datetime64, before: np.datetime64) -> dict[str, NDArray]:
        """Images of both details, from SMAP up to `time` and the scenes before `before`; `image` keeps them in range."""

    def image(self, time: np.datetime64, before: np.datetime64 | None = None) -> dict[str, NDArray]:
        """``product`` and ``cautious`` soil moisture ``(y, x)``, m3 m-3, at a time; NaN where nothing at all was known."""
        key = time, time if before is None else before
        if key not in self._made:
            self._made[key] = {name: np.clip(one, _DRIEST, WETTEST) for name, one in self.made(*key).items()}
        return self._made[key]

    def half_width(self, time: np.datetime64, before: np.datetime64) -> float:
        """Half width of the interval that covers nine tenths of the product's cells, m3 m-3."""
        one, known = self.settings, self.record.cut(time, before)
        series = image_means(known.coarse)
        series = series[np.isfinite(series)]
        spread = np.sqrt((((series - series.mean()) ** 2).sum() if series.size else 0.0) + 30 * one.usual_sd**2)
        prior = one.prior_width * spread / np.sqrt(series.size + 30)
        errors = []
        for when, image in zip(known.time, known.fine, strict=True):
            error = np.abs(image - self.image(when)["product"])
            if (there := np.isfinite(error)).sum() >= self.least:
                errors.append(error[there])
        if not errors:
            return float(prior)
        past = np.quantile(np.concatenate(errors), one.quantile)
        return float((len(errors) * past + one.prior_scenes * prior) / (len(errors) + one.prior_scenes))

    def estimate(self, times: NDArray, before: NDArray | None = None, *, detail: str = "cautious") -> xr.Dataset:
        """Estimate the cell at some times, from the scenes before `before` (default the same times).

        Returns
        -------
        xarray.Dataset
            ``soil_moisture``, ``soil_moisture_low90`` and ``soil_moisture_high90`` ``(time, y, x)``, m3 m-3: a value in every
            cell if there was a 9 km value or an earlier scene. The interval is that of the product's cells, level included,
            whatever the detail.
        """
        check_choice("ScenesEstimator.estimate", "detail", detail, DETAILS)
        window, times = self.record.window.on(self.grid), np.asarray(times, "datetime64[ns]")
        before = times if before is None else np.asarray(before, "datetime64[ns]")
        found: dict[str, list[NDArray]] = {"": [], "_low90": [], "_high90": []}
        with one_thread():
            for time, last in zip(times, before, strict=True):
                images, width = self.image(time, last), self.half_width(time, last)
                value = images[detail]
                found[""].append(value)
                found["_low90"].append(np.minimum(value, np.maximum(images["product"] - width, 0.0)))
                found["_high90"].append(np.maximum(value, images["product"] + width))
        about = {"": "soil moisture", "_low90": "soil moisture, 5 % of cells below", "_high90": "soil moisture, 95 %"}
        variables = {
            f"soil_moisture{name}": (
                ("time", "y", "x"),
                np.array(images, "float32").reshape(-1, *window.shape),
                {"units": "m3 m-3", "long_name": about[name]},
            )
            for name, images in found.items()
        }
        coords = {"time": times, **window.coords()}
        return xr.Dataset(variables, coords, {"detail": detail, "ease_grid": self.grid.name})

    def estimate_asked(self, asked: NDArray | None = None, *, detail: str = "cautious") -> xr.Dataset:
        """Estimate all of the record's scenes, or at the overpasses nearest to the times asked.

        The estimates keep these times; ``overpass(time)`` is what they are of. Times without an overpass within a day are left
        out and counted in ``times_without_overpass``.
        """
        if asked is None:
            return self.estimate(self.record.time, detail=detail)
        asked = np.unique(np.asarray(asked, "datetime64[ns]"))
        there, overpass = overpasses_near(self.record, asked)
        asked, overpass = asked[there], overpass[there]
        found = self.estimate(overpass, np.minimum(asked, overpass), detail=detail)
        found = found.assign_coords(time=asked, overpass=("time", overpass))
        return found.assign_attrs(times_without_overpass=int((~there).sum()))


def archive_cells(
    catalog: Catalog, root: Path, *entries: str, resolution: str = "3km"
) -> Iterator[tuple[str, xr.Dataset, xr.Dataset]]:
    """Name, scenes and 9 km series of each cell that an archive has files of, entry by entry of the catalog."""
    for entry in entries:
        for path in catalog.resolve(entry, root) if catalog.holds(entry, root) else ():
            name = path.stem.rpartition("_")[2]
            scenes = catalog.open(entry, root, cell=name, resolution=resolution)
            yield name, scenes, catalog.open("smap_9km_cells", root, cell=name)


def overpasses_near(record: CellRecord, asked: NDArray) -> tuple[NDArray, NDArray]:
    """The overpass with a value nearest to each asked time, within a day: which of the times have one, and its time."""
    passes = record.overpass[np.isfinite(record.coarse).any((1, 2))]
    if not passes.size:
        return np.zeros(asked.size, bool), asked
    after = np.clip(np.searchsorted(passes, asked), 1, max(passes.size - 1, 1))
    pair = np.stack([passes[np.minimum(after - 1, passes.size - 1)], passes[np.minimum(after, passes.size - 1)]])
    nearest = np.take_along_axis(pair, np.abs(pair - asked).argmin(0)[None], 0)[0]
    return np.abs(nearest - asked) <= _DAY, nearest
