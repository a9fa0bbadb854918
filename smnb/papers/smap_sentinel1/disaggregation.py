"""Soil moisture of a cell at 1 km from its scenes' backscatter: training, and the product's detail or what flights bear out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from smnb.contract import ContractError
from smnb.grids import M01
from smnb.loaders.smap.cells import CLOCK
from smnb.maps.cells import IntervalSettings, ScenesEstimator
from smnb.maps.tiles import one_thread
from smnb.models.disaggregation import DisaggregationConfig, DisaggregationEnsemble
from smnb.papers.smap_sentinel1.cells import MAPS, START, STATE, BackscatterRecord, KnownScenes, Scene
from smnb.training.config import minimise

_PAST, _PAST_STATE = MAPS.index("past_pattern"), STATE.index("scenes")


@dataclass(frozen=True)
class DisaggregationTraining:
    """Recipe: AdamW, whose rate rises over a fifth of the steps and falls along a cosine; the members differ by seed.

    Parameters
    ----------
    hide : float
        Share of the steps in which earlier scenes are hidden, as in a file that has none yet.
    noise : float
        Of the standardised state, standard deviations.
    level_weight : float
        Of each scene's bias beside its unbiased error.
    least : int
        1 km cells that a scene must have to be trained on.
    """

    members: int = 5
    epochs: int = 25
    batch: int = 12
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    hide: float = 0.15
    noise: float = 0.05
    level_weight: float = 0.1
    least: int = 100
    seed: int = 0


def train_disaggregation(
    records: Sequence[BackscatterRecord], scenes: Sequence[NDArray], training: DisaggregationTraining | None = None
) -> DisaggregationEnsemble:
    """Train an ensemble on some scenes (bool, a record's scene each) of some cells; each knows the scenes before it."""
    training, parts = training or DisaggregationTraining(), []
    for record, chosen in zip(records, scenes, strict=True):
        known = KnownScenes(record)
        for number in np.flatnonzero(chosen & (np.isfinite(record.fine).sum((1, 2)) >= training.least)):
            maps, state, now, _ = known.at(record.time[number], record.time[number])
            parts.append((maps, state, now.level, record.fine[number]))
    if not parts:
        raise ContractError("train_disaggregation", "no scene to train on", expected=f"{training.least} cells of 1 km")
    data = [torch.from_numpy(np.stack(part).astype("float32")) for part in zip(*parts, strict=True)]
    config = DisaggregationConfig(len(MAPS), len(STATE), members=training.members)
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        ensemble = DisaggregationEnsemble(config, torch.tensor(START))
        ensemble.state_centre.copy_(data[1].mean(0))
        ensemble.state_spread.copy_(data[1].std(0) + 0.1)
        for number in range(training.members):
            _fit(ensemble, number, data, training)
    return ensemble.eval()


def _fit(
    ensemble: DisaggregationEnsemble, number: int, data: list[torch.Tensor], training: DisaggregationTraining
) -> None:
    steps = max(1, training.epochs * len(data[0]) // training.batch)

    def loss() -> torch.Tensor:
        drawn = torch.randperm(len(data[0]))[: training.batch]
        maps, state, level, target = (part[drawn] for part in data)
        state = state + training.noise * ensemble.state_spread * torch.randn_like(state)
        if torch.rand(()) < training.hide:
            maps, state = maps.clone(), state.clone()
            maps[:, _PAST:] = 0
            state[:, _PAST_STATE:] = torch.tensor([-1.0, 0.0])
        seen = torch.isfinite(target)
        error = torch.where(seen, ensemble.member(number, maps, state, level) - target.nan_to_num(), 0.0)
        count = seen.sum((1, 2))
        bias = error.sum((1, 2)) / count
        spread = torch.where(seen, (error - bias[:, None, None]) ** 2, 0.0).sum((1, 2)) / count
        return (spread + 1e-6).sqrt().mean() + training.level_weight * bias.abs().mean()

    rates = {"rate": training.learning_rate, "weight_decay": training.weight_decay, "rise": 0.2}
    minimise(ensemble.members[number].parameters(), steps, loss, **rates)


@dataclass(frozen=True)
class PixelSettings(IntervalSettings):
    """Cautious detail: `past` of the mean past pattern over 9 km, shrunk by two scenes, on SMAP between centres; and intervals.

    The product's departures from the cell's mean are stretched by the mean gain of earlier scenes, one of `gain_scenes` more, and
    `residual` of the mean past error is added. Fitted on the shared cells, and on flights and stations, against which σ0's detail
    harms.
    """

    quantile: float = 0.88
    past: float = 0.55
    gain_scenes: float = 10.0
    residual: float = 0.3


class PixelEstimator(ScenesEstimator):
    """Estimates of one cell at 1 km."""

    grid, least, opens = M01, 100, BackscatterRecord

    def __init__(
        self, ensemble: DisaggregationEnsemble, record: BackscatterRecord, settings: PixelSettings | None = None
    ) -> None:
        super().__init__(record, settings or PixelSettings())
        self.ensemble, self.known = ensemble.double().eval(), KnownScenes(record)
        self._seen: dict[tuple[np.datetime64, np.datetime64], tuple[NDArray, NDArray, Scene]] = {}

    def network(self, time: np.datetime64, before: np.datetime64) -> tuple[NDArray, NDArray, Scene]:
        """The ensemble's own image, the mean past pattern, and the scene."""
        if (time, before) not in self._seen:
            maps, state, now, pattern = self.known.at(time, before)
            tensors = (torch.from_numpy(np.asarray(part)[None]) for part in (maps, state, now.level))
            with torch.inference_mode():
                self._seen[time, before] = self.ensemble(*tensors)[0].numpy(), pattern, now
        return self._seen[time, before]

    def made(self, time: np.datetime64, before: np.datetime64) -> dict[str, NDArray]:
        """Both details, from SMAP up to `time`, its own σ0 and the scenes before `before`, whose errors correct the product's."""
        image, pattern, now = self.network(time, before)
        gains, residual, count = [], np.zeros(image.shape), np.zeros(image.shape)
        for number in np.flatnonzero(before - self.record.time > CLOCK):
            when, fine = self.record.time[number], self.record.fine[number]
            if (there := np.isfinite(fine)).sum() >= self.least:
                then = self.network(when, when)[0]
                departure, product = (one - one[there].mean() for one in (then, fine))
                slope = (departure * product)[there].sum() / ((departure**2)[there].sum() + 1e-9)
                gains.append(np.log(np.clip(slope, 0.3, 3.0)))
                residual[there] += (product - departure)[there]
                count += there
        one, mean = self.settings, image.mean()
        gain = np.exp(np.sum(gains) / (len(gains) + one.gain_scenes))
        product = mean + gain * (image - mean) + one.residual * residual / (count + 3)
        cautious = now.between + one.past * uniform_filter(pattern, 9, mode="nearest")
        return {
            "product": product,
            "cautious": cautious - cautious.mean() + now.level,
        }
