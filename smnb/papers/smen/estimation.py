"""Soil moisture of a cell at 3 km at any time, from what was known by then: the product's detail, or what flights bear out.

Every estimate is made by itself from the record cut at its time, so that nothing later can enter, and its digits do not depend on
what else is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import check_choice
from smnb.grids import M03, M09, EaseWindow
from smnb.loaders.smap import open_cell_scenes, open_cell_series
from smnb.loaders.smap.cells import CLOCK
from smnb.maps.tiles import one_thread
from smnb.models.past_scenes import PastScenesEnsemble
from smnb.papers.smen.cells import CellRecord, Estimates, known_at
from smnb.papers.smen.past_training import patterns_of

DETAILS = ("cautious", "product")
_DRIEST, _WETTEST = 0.02, 0.65  # m3 m-3, of the product
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class DetailSettings:
    """How the network's pattern becomes an estimate, and how wide its interval is; fitted on the shared cells and flights.

    Parameters
    ----------
    blend : float
        Share of a fixed blend in the product's pattern: half of SMAP between cell centres and `persistence` of the mean past
        residual, which is shrunk by one scene. It costs nothing where the network was trained and helps where it was not.
    persistence : float
    network, past : float
        Cautious detail: shares of the product's pattern and of the mean past scene, shrunk by two, on SMAP between centres.
    prior_scenes, prior_width, quantile : float
        The interval's half width is the `quantile` of the errors at earlier scenes of the cell, level included, averaged with
        `prior_width` times the standard deviation of SMAP's level up to then, which counts as so many scenes.
    """

    blend: float = 0.2
    persistence: float = 0.6
    network: float = 0.2
    past: float = 0.2
    prior_scenes: float = 8.0
    prior_width: float = 1.2
    quantile: float = 0.89
    usual_sd: float = 0.07  # m3 m-3, of SMAP's level where its series is short; counts as thirty overpasses


def _cut(record: CellRecord, time: np.datetime64, before: np.datetime64) -> CellRecord:
    """The record as it was known at a time, with scenes before another."""
    scenes, passes = record.time < before - CLOCK, record.overpass <= time + CLOCK
    return replace(
        record,
        time=record.time[scenes],
        fine=record.fine[scenes],
        overpass=record.overpass[passes],
        coarse=record.coarse[passes],
    )


def _past_mean(known: Estimates, which: int, shrink: float) -> NDArray:
    """Mean of all earlier scenes' patterns (0) or residuals (1), (12, 12), shrunk by so many scenes."""
    inputs = known.inputs
    use = inputs.earlier[0].double()[:, None, None] * inputs.seen.double()
    return ((use * inputs.patterns[which].double()).sum(0) / (use.sum(0) + shrink)).numpy()


class CellEstimator:
    """Estimates of one cell, each from the record cut at its time.

    Parameters
    ----------
    ensemble : PastScenesEnsemble
    record : CellRecord
    settings : DetailSettings, optional
    """

    def __init__(
        self, ensemble: PastScenesEnsemble, record: CellRecord, settings: DetailSettings | None = None
    ) -> None:
        self.ensemble, self.record = ensemble.double().eval(), record
        self.settings = settings or DetailSettings()
        self._made: dict[tuple[np.datetime64, np.datetime64], dict[str, NDArray]] = {}

    def image(self, time: np.datetime64, before: np.datetime64 | None = None) -> dict[str, NDArray]:
        """``product`` and ``cautious`` soil moisture (12, 12), m3 m-3, at a time; NaN where nothing at all was known."""
        before = time if before is None else before
        if (time, before) not in self._made:
            known = known_at(_cut(self.record, time, before), np.array([time]), np.array([before]))
            one, level = self.settings, known.level[0]
            known = replace(known, inputs=type(known.inputs)(*(part.double() for part in known.inputs)))
            between = known.inputs.now[0, 1].numpy()
            blend = 0.5 * between + one.persistence * _past_mean(known, 1, 1.0)
            product = (1 - one.blend) * patterns_of(self.ensemble, known)[0] + one.blend * blend
            cautious = between + one.network * product + one.past * _past_mean(known, 0, 2.0)
            self._made[time, before] = {
                name: np.clip(level + detail - detail.mean(), _DRIEST, _WETTEST)
                for name, detail in (("product", product), ("cautious", cautious))
            }
        return self._made[time, before]

    def half_width(self, time: np.datetime64, before: np.datetime64) -> float:
        """Half width of the interval that covers nine tenths of the product's cells, m3 m-3."""
        one, known = self.settings, _cut(self.record, time, before)
        count = np.isfinite(known.coarse).sum((1, 2))
        series = np.nansum(known.coarse, (1, 2))[count > 0] / count[count > 0]
        spread = np.sqrt((((series - series.mean()) ** 2).sum() if series.size else 0.0) + 30 * one.usual_sd**2)
        prior = one.prior_width * spread / np.sqrt(series.size + 30)
        errors = []
        for when, image in zip(known.time, known.fine, strict=True):
            error = np.abs(image - self.image(when)["product"])
            if (there := np.isfinite(error)).sum() >= 30:
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
        check_choice("CellEstimator.estimate", "detail", detail, DETAILS)
        times = np.asarray(times, "datetime64[ns]")
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
                np.array(images, "float32").reshape(-1, 12, 12),
                {"units": "m3 m-3", "long_name": about[name]},
            )
            for name, images in found.items()
        }
        coords = {"time": times, **self.record.window.on(M03).coords()}
        return xr.Dataset(variables, coords, {"detail": detail, "ease_grid": "M03"})


def overpasses_near(record: CellRecord, asked: NDArray) -> tuple[NDArray, NDArray]:
    """The overpass with a value nearest to each asked time, within a day: which of the times have one, and its time."""
    passes = record.overpass[np.isfinite(record.coarse).any((1, 2))]
    if not passes.size:
        return np.zeros(asked.size, bool), asked
    after = np.clip(np.searchsorted(passes, asked), 1, max(passes.size - 1, 1))
    pair = np.stack([passes[np.minimum(after - 1, passes.size - 1)], passes[np.minimum(after, passes.size - 1)]])
    nearest = np.take_along_axis(pair, np.abs(pair - asked).argmin(0)[None], 0)[0]
    return np.abs(nearest - asked) <= _DAY, nearest


def estimate_file(
    ensemble: PastScenesEnsemble,
    path: Path,
    series: Path | None,
    asked: NDArray | None = None,
    *,
    detail: str = "cautious",
) -> xr.Dataset:
    """Estimate a cell's file of scenes at 3 km: all of its scenes, or the overpasses nearest to the times asked.

    Parameters
    ----------
    path, series : Path
        ``spl2smap_s_*`` or ``pairs_*``, and the cell's ``smap_9km_*``; None where there is none.
    asked : ndarray of datetime64, optional
        The estimates keep these times; ``overpass(time)`` is what they are of. Times without an overpass within a day are left
        out and counted in ``times_without_overpass``.
    """
    scenes = open_cell_scenes([path])
    empty = xr.Dataset(
        {"soil_moisture": (("time", "y", "x"), np.empty((0, 4, 4)))}, {"time": np.empty(0, "datetime64[ns]")}
    )
    window = EaseWindow.from_dataset(scenes).on(M09)
    coarse = empty.assign_coords(window.coords()) if series is None else open_cell_series([series])
    record = CellRecord.from_datasets(scenes, coarse)
    estimator = CellEstimator(ensemble, record)
    if asked is None:
        return estimator.estimate(record.time, detail=detail)
    asked = np.unique(np.asarray(asked, "datetime64[ns]"))
    there, overpass = overpasses_near(record, asked)
    asked, overpass = asked[there], overpass[there]
    found = estimator.estimate(overpass, np.minimum(asked, overpass), detail=detail)
    found = found.assign_coords(time=asked, overpass=("time", overpass))
    return found.assign_attrs(times_without_overpass=int((~there).sum()))
