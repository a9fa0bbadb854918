"""Soil moisture of a cell at 3 km at any time, from what was known by then: the product's detail, or what flights bear out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smnb.grids import M03
from smnb.loaders.smap.records import CellRecord
from smnb.maps.cells import IntervalSettings, ScenesEstimator
from smnb.models.past_scenes import PastScenesEnsemble
from smnb.papers.smen.cells import PAIR_FEATURES, known_at
from smnb.papers.smen.past_references import past_mean
from smnb.papers.smen.past_training import patterns_of


@dataclass(frozen=True)
class DetailSettings(IntervalSettings):
    """How the network's pattern becomes an estimate, and how wide its interval is; fitted on the shared cells and flights.

    Parameters
    ----------
    shares : tuple of float
        Of the product's pattern, before any earlier scene of the cell has told: of the network, SMAP between cell centres, the
        mean past residual, and the means of past scenes of all ages, of some 20 days, and of residuals of some 60 days.
    trust : float
        How many earlier scenes, of a spread of 0.01 m3 m-3, these shares count as: regression on the cell's earlier scenes, each
        with what was known before it, moves them. It changes nothing where the network was trained, and much elsewhere.
    network, past : float
        Cautious detail: shares of the product's pattern with `shares` and of the mean past scene that flights and
        stations bear out, on SMAP between centres.
    """

    shares: tuple[float, ...] = (0.8, 0.1, 0.12, 0.0, 0.0, 0.0)
    trust: float = 30.0
    network: float = 0.15
    past: float = 0.25


class CellEstimator(ScenesEstimator):
    """Estimates of one cell at 3 km.

    Parameters
    ----------
    ensemble : PastScenesEnsemble
    record : CellRecord
    settings : DetailSettings, optional
    """

    grid, least, opens = M03, 30, CellRecord

    def __init__(
        self, ensemble: PastScenesEnsemble, record: CellRecord, settings: DetailSettings | None = None
    ) -> None:
        super().__init__(record, settings or DetailSettings())
        self.ensemble = ensemble.double().eval()
        self._known: dict[tuple[np.datetime64, np.datetime64], tuple[float, NDArray]] = {}
        self._told: dict[np.datetime64, tuple[NDArray, NDArray]] = {}

    def made(self, time: np.datetime64, before: np.datetime64) -> dict[str, NDArray]:
        """Both details, from SMAP up to `time` and the scenes before `before`."""
        one, (level, maps) = self.settings, self._maps(time, before)
        product = np.tensordot(self._shares(time, before), maps, 1)
        cautious = maps[1] + one.network * np.tensordot(one.shares, maps, 1) + one.past * maps[3]
        return {"product": level + product, "cautious": level + cautious}

    def _maps(self, time: np.datetime64, before: np.datetime64) -> tuple[float, NDArray]:
        """SMAP's level, m3 m-3, and the maps that `DetailSettings.shares` are of, (map, 12, 12), each of mean zero."""
        if (time, before) not in self._known:
            known = known_at(self.record.cut(time, before), np.array([time]), np.array([before]))
            known = replace(known, inputs=type(known.inputs)(*(part.double() for part in known.inputs)))
            age = 30 * np.exp(known.inputs.pairs[..., PAIR_FEATURES.index("log_age")].numpy())
            kinds = (np.ones_like(age), 1, 1.0), (np.ones_like(age), 0, 2.0)
            kinds += (np.exp(-age / 20), 0, 0.3), (np.exp(-age / 60), 1, 0.3)
            means = [past_mean(known, weights, which, shrink=shrink)[0] for weights, which, shrink in kinds]
            maps = np.stack([patterns_of(self.ensemble, known)[0], known.inputs.now[0, 1].numpy(), *means])
            self._known[time, before] = known.level[0], maps - maps.mean((1, 2), keepdims=True)
        return self._known[time, before]

    def _shares(self, time: np.datetime64, before: np.datetime64) -> NDArray:
        """Shares of the maps, by ridge regression on the cell's earlier scenes about `DetailSettings.shares`."""
        shares, known = np.array(self.settings.shares), self.record.cut(time, before)
        matrix, vector = np.eye(shares.size) * self.settings.trust * 144 * 0.01**2, np.zeros(shares.size)
        for when, image in zip(known.time, known.fine, strict=True):
            if when not in self._told:
                there, maps = np.isfinite(image), self._maps(when, when)[1]
                x = maps[:, there] - maps[:, there].mean(1, keepdims=True) if there.any() else maps[:, there]
                error = image[there] - image[there].mean() - shares @ x if there.any() else image[there]
                enough = float(there.sum() >= self.least)
                self._told[when] = enough * (x @ x.T), enough * (x @ error)
            matrix, vector = matrix + self._told[when][0], vector + self._told[when][1]
        return shares + np.linalg.solve(matrix, vector)
