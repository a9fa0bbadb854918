"""The network for values at a point: an encoder a source, the fusion head of the paper, and an ensemble of such networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from smnb.contract import ContractError, ParameterError, check_range, plain
from smnb.models.encoders import PointEncoder
from smnb.models.multisource import FusionHead


@dataclass(frozen=True)
class PointFusionConfig:
    """Sizes of one network; `ParameterError` on one that cannot be.

    Parameters
    ----------
    features : dict of str to int
        Features of each source (and of the calendar), in the order of the input's columns.
    joint_width : int
        Of the layer that mixes the sources' embeddings before the fusion head.
    head : tuple of int
        Widths of the fusion head; the last is 1. One layer by default, as the joint layer stands for the others and, with some
        sixty stations, needs no batch normalisation.
    encoder_keep, head_keep : float, tuple of float
        Chance to keep a value of an embedding, and an input of each of the head's layers, in training.
    scale : float
        Unit of the output, m3 m-3: how far soil moisture typically is from its station's mean.
    limit : float
        Standardised inputs are clipped to plus and minus this.
    members : int
        Networks of an ensemble.
    """

    features: Mapping[str, int]
    encoder_width: int = 32
    joint_width: int = 64
    head: tuple[int, ...] = (1,)
    encoder_keep: float = 0.8
    head_keep: tuple[float, ...] = (1.0,)
    scale: float = 0.06
    limit: float = 4.0
    members: int = 1

    def __post_init__(self) -> None:
        who = "PointFusionConfig"
        object.__setattr__(self, "features", dict(self.features))
        for name in ("head", "head_keep"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a checkpoint's JSON has lists
        if not self.features or min(self.features.values()) < 1:
            raise ParameterError(who, "features", got=self.features, expected=plain("one or more of each source"))
        check_range(who, "encoder_keep", self.encoder_keep, 0, 1, ends="(]")
        check_range(who, "head_keep", self.head_keep, 0, 1, ends="(]")


class PointFusionNet(nn.Module):
    """Standardised features of a row to the departure of soil moisture from the station's mean.

    Every source has its own point encoder; a joint layer mixes the embeddings, the fusion head gives the value, and a linear
    path beside them carries what needs no network.
    """

    def __init__(self, config: PointFusionConfig) -> None:
        super().__init__()
        self.config = config

        def encoder(inputs: int, width: int) -> PointEncoder:
            return PointEncoder(inputs, (width,), norm="none", keep=config.encoder_keep)

        self.encoders = nn.ModuleDict({name: encoder(n, config.encoder_width) for name, n in config.features.items()})
        self.joint = encoder(config.encoder_width * len(config.features), config.joint_width)
        self.head = FusionHead(config.joint_width, config.head, config.head_keep)
        self.linear = nn.Linear(sum(config.features.values()), 1)
        nn.init.normal_(self.linear.weight, std=0.1 / self.linear.in_features**0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Departures (row,), m3 m-3, of standardised features (row, feature), where missing is 0."""
        parts = torch.split(x, list(self.config.features.values()), dim=1)
        joined = torch.cat([encode(part) for encode, part in zip(self.encoders.values(), parts, strict=True)], dim=1)
        return (self.head(self.joint(joined)) + self.linear(x))[:, 0] * self.config.scale


class PointEnsemble(nn.Module):
    """Mean of several networks, the scaling of their inputs, and the linear model of a station's level.

    ``centre`` and ``spread`` (feature,) standardise; ``level_weights`` (feature,) and ``level_bias`` give the level from the
    standardised features. What is predicted is the level plus the members' mean, bent to stay positive, at most `LARGEST`.
    """

    config_class = PointFusionConfig
    #: Pore space of a mineral soil, m3 m-3: no prediction exceeds it.
    LARGEST = 0.6
    #: m3 m-3 over which predictions near zero are bent to stay positive.
    SOFT = 0.02

    def __init__(self, config: PointFusionConfig) -> None:
        super().__init__()
        self.config = config
        size = sum(config.features.values())
        self.members = nn.ModuleList(PointFusionNet(config) for _ in range(config.members))
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))
        self.register_buffer("level_weights", torch.zeros(size))
        self.register_buffer("level_bias", torch.zeros(()))

    def standardise(self, features: torch.Tensor) -> torch.Tensor:
        """Native features (..., feature) to clipped standardised ones; missing becomes 0, the middle."""
        scaled = ((features - self.centre) / self.spread).clamp(-self.config.limit, self.config.limit)
        return torch.nan_to_num(scaled, nan=0.0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Soil moisture (row,), m3 m-3, from native features (row, feature), where missing is NaN."""
        if features.ndim != 2 or features.shape[1] != self.centre.numel():
            what, expected = "other features than it was trained on", plain(f"(row, {self.centre.numel()})")
            raise ContractError("PointEnsemble", what, got=tuple(features.shape), expected=expected)
        x = self.standardise(features)
        level = x @ self.level_weights + self.level_bias
        departure = torch.stack([member(x) for member in self.members]).mean(0)
        # softplus instead of a cut at zero: a dry station keeps its course
        return (nn.functional.softplus(level + departure, beta=1.0 / self.SOFT)).clamp(max=self.LARGEST)
