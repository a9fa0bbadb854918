"""Soil moisture of a cell at 3 km at any time, from what was known by then: the product's detail, or what flights bear out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.grids import M03
from smnb.loaders.smap.records import CellRecord
from smnb.maps.cells import IntervalSettings, ScenesEstimator
from smnb.models.past_scenes import PastScenesEnsemble
from smnb.papers.smen.cells import Estimates, known_at
from smnb.papers.smen.past_training import patterns_of

_DRIEST, _WETTEST = 0.02, 0.65  # m3 m-3, of the product


@dataclass(frozen=True)
class DetailSettings(IntervalSettings):
    """How the network's pattern becomes an estimate, and how wide its interval is; fitted on the shared cells and flights.

    Parameters
    ----------
    blend : float
        Share of a fixed blend in the product's pattern: half of SMAP between cell centres and `persistence` of the mean past
        residual, which is shrunk by one scene. It costs nothing where the network was trained and helps where it was not.
    persistence : float
    network, past : float
        Cautious detail: shares of the product's pattern and of the mean past scene, shrunk by two, on SMAP between centres.
    """

    blend: float = 0.2
    persistence: float = 0.6
    network: float = 0.2
    past: float = 0.2


def _past_mean(known: Estimates, which: int, shrink: float) -> NDArray:
    """Mean of all earlier scenes' patterns (0) or residuals (1), (12, 12), shrunk by so many scenes."""
    inputs = known.inputs
    use = inputs.earlier[0].double()[:, None, None] * inputs.seen.double()
    return ((use * inputs.patterns[which].double()).sum(0) / (use.sum(0) + shrink)).numpy()


class CellEstimator(ScenesEstimator):
    """Estimates of one cell at 3 km.

    Parameters
    ----------
    ensemble : PastScenesEnsemble
    record : CellRecord
    settings : DetailSettings, optional
    """

    grid, least = M03, 30

    def __init__(
        self, ensemble: PastScenesEnsemble, record: CellRecord, settings: DetailSettings | None = None
    ) -> None:
        super().__init__(record, settings or DetailSettings())
        self.ensemble = ensemble.double().eval()

    def made(self, time: np.datetime64, before: np.datetime64) -> dict[str, NDArray]:
        """Both details, from SMAP up to `time` and the scenes before `before`."""
        known = known_at(self.record.cut(time, before), np.array([time]), np.array([before]))
        one, level = self.settings, known.level[0]
        known = replace(known, inputs=type(known.inputs)(*(part.double() for part in known.inputs)))
        between = known.inputs.now[0, 1].numpy()
        blend = 0.5 * between + one.persistence * _past_mean(known, 1, 1.0)
        product = (1 - one.blend) * patterns_of(self.ensemble, known)[0] + one.blend * blend
        cautious = between + one.network * product + one.past * _past_mean(known, 0, 2.0)
        return {
            name: np.clip(level + detail - detail.mean(), _DRIEST, _WETTEST)
            for name, detail in (("product", product), ("cautious", cautious))
        }


def estimate_file(
    ensemble: PastScenesEnsemble,
    path: Path,
    series: Path | None,
    asked: NDArray | None = None,
    *,
    detail: str = "cautious",
) -> xr.Dataset:
    """Estimate a cell's file of scenes at 3 km; parameters as of `CellRecord.from_files` and `ScenesEstimator.estimate_asked`."""
    return CellEstimator(ensemble, CellRecord.from_files(path, series)).estimate_asked(asked, detail=detail)
