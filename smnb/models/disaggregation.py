"""SMAP at 9 km to soil moisture at 1 km by a scene's backscatter: a sum of maps whose coefficients the scene's state sets.

The active-passive product spreads a cell's brightness temperature by ``σVV - Γ σVH``, Γ the slope of σVV on σVH in linear
power, so that an explicit form carries most of it. All maps of backscatter are relative to the scene's mean power: no network
here knows σ0's absolute level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from smnb.models.registry import check_settings

_DRIEST, _SOFT = 0.02, 0.04  # m3 m-3: the product's least value, and the range above that is bent towards it


@dataclass(frozen=True)
class DisaggregationConfig:
    """Sizes: maps, numbers of the scene's state, hidden units, and networks of the ensemble."""

    maps: int
    state: int
    hidden: int = 16
    members: int = 1

    def __post_init__(self) -> None:
        check_settings(self, counts=("maps", "state", "hidden", "members"), choices={})


class DisaggregationEnsemble(nn.Module):
    """Mean of several networks from state to coefficients, with the scaling of the state."""

    config_class = DisaggregationConfig

    def __init__(self, config: DisaggregationConfig, start: torch.Tensor | None = None) -> None:
        """`start` (map,) are the coefficients that training starts from, default none."""
        super().__init__()
        self.config = config
        self.members = nn.ModuleList()
        for _ in range(config.members):
            last = nn.Linear(config.hidden, config.maps + 1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            if start is not None:
                with torch.no_grad():
                    last.bias[:-1].copy_(start)
            self.members.append(nn.Sequential(nn.Linear(config.state, config.hidden), nn.Tanh(), last))
        for name, value in (("centre", torch.zeros), ("spread", torch.ones)):
            self.register_buffer(f"state_{name}", value(config.state))

    def member(self, number: int, maps: torch.Tensor, state: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """One network's soil moisture, m3 m-3, ``(n, row, col)``; the state is kept within 2.5 spreads of training."""
        scaled = ((state - self.state_centre) / self.state_spread).clamp(-2.5, 2.5)
        weights = self.members[number](scaled)
        value = torch.einsum("nc,ncyx->nyx", weights[:, :-1], maps) + (level + 0.05 * weights[:, -1])[:, None, None]
        knee = _DRIEST + _SOFT
        return torch.where(value < knee, _DRIEST + _SOFT * torch.exp((value.clamp(max=knee) - knee) / _SOFT), value)

    def forward(self, maps: torch.Tensor, state: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Soil moisture, m3 m-3, ``(n, row, col)``, of maps ``(n, map, row, col)``, states ``(n, state)``, means ``(n,)``."""
        return torch.stack([self.member(number, maps, state, level) for number in range(len(self.members))]).mean(0)
