"""Training of the network of all earlier scenes on some cells' scenes, and its patterns at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from smnb.contract import ContractError
from smnb.loaders.smap.records import CellRecord
from smnb.maps.tiles import one_thread
from smnb.models.past_scenes import PastScenesConfig, PastScenesEnsemble
from smnb.papers.smen.cells import PAIR_FEATURES, STATE_FEATURES, Estimates, known_at
from smnb.training.config import minimise
from smnb.training.losses import unbiased_rmse_loss


@dataclass(frozen=True)
class PastScenesTraining:
    """Recipe: AdamW, one cell a step, whose rate rises over a third of the steps and falls along a cosine.

    Parameters
    ----------
    members, heads : int
        Of `PastScenesConfig`; the members differ by seed.
    epochs, batch : int
        Passes over all scenes, and scenes of one cell in a step.
    hide : float
        Share of the steps in which most earlier scenes are hidden, as in a file that has few.
    least : int
        3 km cells that a scene must have to be trained on.
    """

    members: int = 8
    heads: int = 4
    epochs: int = 120
    batch: int = 64
    learning_rate: float = 5e-3
    weight_decay: float = 1e-3
    hide: float = 0.1
    least: int = 30
    seed: int = 0


def train_past_scenes(
    records: Sequence[CellRecord], scenes: Sequence[NDArray], training: PastScenesTraining | None = None
) -> PastScenesEnsemble:
    """Train an ensemble on some scenes of some cells; a scene is estimated from those before it, trained on or not.

    Parameters
    ----------
    records : sequence of CellRecord
    scenes : sequence of ndarray of bool, shape (scene,)
        Which of each cell's scenes are trained on.
    training : PastScenesTraining, optional
    """
    training = training or PastScenesTraining()
    parts = []
    for record, chosen in zip(records, scenes, strict=True):
        seen = np.isfinite(record.fine)
        numbers = np.flatnonzero(chosen & (seen.sum((1, 2)) >= training.least))
        if numbers.size:
            known = known_at(record, record.time[numbers])
            target = torch.from_numpy(np.nan_to_num(record.fine[numbers]).astype("float32"))
            parts.append((known.inputs, target, torch.from_numpy(seen[numbers])))
    if not parts:
        raise ContractError("train_past_scenes", "no scene to train on", expected=f"{training.least} cells of 3 km")
    config = PastScenesConfig(len(PAIR_FEATURES), len(STATE_FEATURES), training.heads, members=training.members)
    # the networks are small: more threads would only wait for each other, and digits would depend on their number
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        ensemble = PastScenesEnsemble(config)
        pairs = torch.cat([inputs.pairs[inputs.earlier > 0] for inputs, _, _ in parts])
        for name, values in (("pairs", pairs), ("state", torch.cat([inputs.state for inputs, _, _ in parts]))):
            getattr(ensemble, f"{name}_centre").copy_(values.mean(0))
            getattr(ensemble, f"{name}_spread").copy_(values.std(0) + 0.05)
        parts = [(ensemble.standardised(inputs), *rest) for inputs, *rest in parts]
        for number, member in enumerate(ensemble.members):
            _fit(member, parts, training, np.random.default_rng([training.seed, number]))
    return ensemble.eval()


def _fit(member: torch.nn.Module, parts: list, training: PastScenesTraining, rng: np.random.Generator) -> None:
    sizes = np.array([len(target) for _, target, _ in parts])
    steps = max(1, int(training.epochs * sizes.sum() / training.batch))

    def loss() -> torch.Tensor:
        inputs, target, mask = parts[rng.choice(len(parts), p=sizes / sizes.sum())]
        drawn = torch.from_numpy(rng.choice(len(target), min(training.batch, len(target)), replace=False))
        batch = inputs.at(drawn)
        if rng.random() < training.hide:
            kept = torch.from_numpy(rng.random(batch.earlier.shape[1]) < rng.choice([0.1, 0.2, 0.5, 0.8]))
            batch = batch._replace(earlier=batch.earlier * kept)
        return unbiased_rmse_loss(member(batch), target[drawn], mask[drawn])

    rates = {"rate": training.learning_rate, "weight_decay": training.weight_decay}
    minimise(member.parameters(), steps, loss, **rates)


def patterns_of(ensemble: PastScenesEnsemble, known: Estimates) -> NDArray:
    """Departures of soil moisture from the cell's mean, m3 m-3, float64 (n, 12, 12); each estimate on its own."""
    starts = range(0, len(known.level), 64)
    with torch.inference_mode():
        numbers = (torch.arange(start, min(start + 64, len(known.level))) for start in starts)
        found = [ensemble(known.inputs.at(part)).double().numpy() for part in numbers]
    found = np.concatenate([np.empty((0, 12, 12)), *found])
    return found - found.mean((1, 2), keepdims=True)
