"""A SMEN that weighs all earlier scenes, by their age and likeness to today, in place of convolving the last four in time.

SMEN sees the last k residual images whatever their age and gaps. Scenes of Sentinel-1 come at 3 to 300 days, cover a cell in
part, and there may be none yet. Here every earlier scene enters with a weight that a small network gives it from its age, the
season, how wet it was, and which share of the cell it saw: Eq. 1's ``f(D)`` as a weighted mean over the valid pixels, shrunk
where few scenes are behind it; ``g(I)`` and ``h`` are linear, with coefficients that the state of the cell sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from smnb.models.registry import check_settings


class PastScenes(NamedTuple):
    """What the network takes: n estimates of one cell, which has s scenes; no NaN.

    `patterns` (2, s, row, col) are a scene's departures from its mean, of soil moisture and of its difference to SMAP, m3 m-3,
    zero where `seen` (s, row, col) is 0. `pairs` (n, s, pair) compare an estimate's time with a scene, `earlier` (n, s) says
    whether the scene may be used; `state` (n, state) is of the cell at the time, and `now` (n, 2, row, col) SMAP's departures
    from its mean on the fine grid, as they are and between cell centres, m3 m-3.
    """

    patterns: torch.Tensor
    seen: torch.Tensor
    pairs: torch.Tensor
    earlier: torch.Tensor
    state: torch.Tensor
    now: torch.Tensor

    def at(self, estimates: torch.Tensor) -> PastScenes:
        """Some of the estimates."""
        chosen = (part[estimates] for part in self[2:])
        return PastScenes(self.patterns, self.seen, *chosen)


@dataclass(frozen=True)
class PastScenesConfig:
    """Sizes: features of a pair and of the state, weightings (`heads`), hidden units, and networks of the ensemble."""

    pairs: int
    state: int
    heads: int = 4
    hidden: int = 24
    hidden_state: int = 16
    members: int = 1

    def __post_init__(self) -> None:
        check_settings(self, counts=("pairs", "state", "heads", "hidden", "hidden_state", "members"), choices={})


class PastScenesNet(nn.Module):
    """Weighted means of earlier scenes and SMAP's own pattern, added with coefficients of the cell's state."""

    config_class = PastScenesConfig

    def __init__(self, config: PastScenesConfig) -> None:
        super().__init__()
        self.config, heads = config, config.heads
        self.weigh = nn.Sequential(nn.Linear(config.pairs, config.hidden), nn.Tanh(), nn.Linear(config.hidden, heads))
        last = nn.Linear(config.hidden_state, 2 * heads + 2)
        self.combine = nn.Sequential(nn.Linear(config.state, config.hidden_state), nn.Tanh(), last)
        self.shrink = nn.Parameter(torch.full((heads,), -1.0))  # log of the weight that stands for "no pattern"
        self.smooth = nn.Parameter(torch.zeros(2 * heads))  # towards the mean of 3 x 3 pixels
        # it starts as a blend: 0.6 of the mean past scene and 0.3 of SMAP
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([0.6 / heads] * heads + [0.0] * heads + [0.3, 0.0]))

    def forward(self, x: PastScenes) -> torch.Tensor:
        """Departures of soil moisture from the cell's mean, m3 m-3, ``(n, row, col)``; `x` is standardised but for its images."""
        weights = torch.exp(self.weigh(x.pairs).clamp(-12.0, 6.0)) * x.earlier[..., None]  # (n, s, head)
        total = torch.einsum("nsh,syx->nhyx", weights, x.seen) + torch.exp(self.shrink)[:, None, None]
        mean = torch.cat([torch.einsum("nsh,syx->nhyx", weights, part) / total for part in x.patterns], 1)
        around = functional.avg_pool2d(functional.pad(mean, (1, 1, 1, 1), mode="replicate"), 3, 1)
        mean = mean + torch.tanh(self.smooth)[:, None, None] * (around - mean)
        return torch.einsum("nc,ncyx->nyx", self.combine(x.state), torch.cat([mean, x.now], 1))


class PastScenesEnsemble(nn.Module):
    """Mean of several `PastScenesNet`, with the scaling of their inputs."""

    config_class = PastScenesConfig

    def __init__(self, config: PastScenesConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(PastScenesNet(config) for _ in range(config.members))
        for name, size in (("pairs", config.pairs), ("state", config.state)):
            self.register_buffer(f"{name}_centre", torch.zeros(size))
            self.register_buffer(f"{name}_spread", torch.ones(size))

    def standardised(self, x: PastScenes) -> PastScenes:
        """Inputs with the features of pairs and state standardised, and kept within four spreads of training."""
        pairs = ((x.pairs - self.pairs_centre) / self.pairs_spread).clamp(-4.0, 4.0)
        state = ((x.state - self.state_centre) / self.state_spread).clamp(-4.0, 4.0)
        return x._replace(pairs=pairs, state=state)

    def forward(self, x: PastScenes) -> torch.Tensor:
        """Departures of soil moisture from the cell's mean, m3 m-3, ``(n, row, col)``."""
        x = self.standardised(x)
        return torch.stack([member(x) for member in self.members]).mean(0)
