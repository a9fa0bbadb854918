"""The network for values at a point, an ensemble of such networks, and their training on what is scored.

The score is the mean over stations of the unbiased RMSE, and a station's level does not enter it. So the networks learn
departures from the station's mean with a loss that leaves the mean free, and a linear model learns the level apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from smnb.contract import ContractError, ParameterError, check_choice, check_range, plain
from smnb.models.multisource import FusionHead
from smnb.papers.stations.features import SOURCES, is_lasting
from smnb.training.config import minimise

#: (m3 m-3)²: keeps the square root smooth near zero, and quiet stations from dominating the relative loss.
SMALL, QUIET = 1e-5, 2e-4


@dataclass(frozen=True)
class PointFusionConfig:
    """Sizes of one network; `ParameterError` on one that cannot be.

    The fusion head has one layer, as the joint layer stands for the others and, with some sixty stations, needs no batch
    normalisation.
    """

    features: Mapping[
        str, int
    ]  # number of those of each source (and of the calendar), in the order of the input's columns
    encoder_width: int = 32
    joint_width: int = 64  # of the layer that mixes the sources' embeddings before the fusion head
    head: tuple[int, ...] = (1,)  # widths of the fusion head's layers
    encoder_keep: float = 0.8  # chance to keep a value of an embedding in training
    head_keep: tuple[float, ...] = (1.0,)  # likewise an input of each of the head's layers
    scale: float = 0.06  # unit of the output, m3 m-3: how far soil moisture typically is from its station's mean
    limit: float = 4.0  # standardised inputs are clipped to plus and minus this
    members: int = 1  # networks of an ensemble

    def __post_init__(self) -> None:
        who = "PointFusionConfig"
        object.__setattr__(self, "features", dict(self.features))
        for name in ("head", "head_keep"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a checkpoint's JSON has lists
        if not self.features or min(self.features.values()) < 1:
            raise ParameterError(who, "features", got=self.features, expected=plain("one or more of each source"))
        check_range(who, "encoder_keep", self.encoder_keep, 0, 1, ends="(]")
        check_range(who, "head_keep", self.head_keep, 0, 1, ends="(]")


class PointEncoder(nn.Module):
    """A fully connected layer over values at a point, ``(sample, value)`` to ``(sample, width)``: an embedding without images."""

    def __init__(self, in_features: int, width: int, keep: float) -> None:
        super().__init__()
        layer = nn.Linear(in_features, width)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(layer, nn.SiLU(), nn.Dropout(1.0 - keep))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Encode standardised values, missing ones 0."""
        return self.layers(values)


class PointFusionNet(nn.Module):
    """Standardised features of a row to the departure of soil moisture from the station's mean.

    Every source has its own point encoder; a joint layer mixes the embeddings, the fusion head gives the value, and a linear
    path beside them carries what needs no network.
    """

    def __init__(self, config: PointFusionConfig) -> None:
        super().__init__()
        self.config = config

        width, keep = config.encoder_width, config.encoder_keep
        self.encoders = nn.ModuleDict({name: PointEncoder(n, width, keep) for name, n in config.features.items()})
        self.joint = PointEncoder(width * len(config.features), config.joint_width, keep)
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
    LARGEST = 0.6  # pore space of a mineral soil, m3 m-3: no prediction exceeds it
    SOFT = 0.02  # m3 m-3 over which predictions near zero are bent to stay positive

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


@dataclass(frozen=True)
class PointTraining:
    """Recipe: AdamW, whose rate rises over a tenth of the steps and falls along a cosine.

    The loss ``ubrmse`` is the mean over stations of the RMSE of departures from the mean, ``relative`` the same over its
    own standard deviation, so that quiet stations count as much as lively ones.
    """

    members: int = 8  # they differ by seed
    steps: int = 200
    batch_stations: int = 24  # stations of a step, with all of their rows
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    loss: str = "relative"
    hide: float = (
        0.1  # chance to hide Sentinel-1, and Sentinel-2, from a row in training, so that rows without them go well
    )
    min_rows: int = 13  # of a station to train on
    encoder_width: int = 32  # as the next two of `PointFusionConfig`
    joint_width: int = 64
    encoder_keep: float = 0.8
    level_penalty: float = 100.0  # of the ridge regression of the level on standardised features
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("PointTraining", "loss", self.loss, ("ubrmse", "relative"))


def station_loss(
    predicted: torch.Tensor, observed: torch.Tensor, station: torch.Tensor, stations: int, *, loss: str = "ubrmse"
) -> torch.Tensor:
    """Mean over stations of the error about the station's mean, m3 m-3, or (``relative``) a share of the standard deviation.

    `predicted` and `observed` are m3 m-3, (row,), without missing values; `station` is int64 (row,), 0 to `stations` - 1, each at
    least once.
    """
    count = torch.bincount(station, minlength=stations).to(predicted.dtype)

    def sums(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(stations, dtype=x.dtype).index_add(0, station, x)

    def variance(x: torch.Tensor) -> torch.Tensor:
        return sums((x - (sums(x) / count)[station]) ** 2) / count

    error = torch.sqrt(variance(predicted - observed) + SMALL)
    if loss == "relative":
        error = error / torch.sqrt(variance(observed) + QUIET)
    return error.mean()


def train_points(
    features: np.ndarray,
    names: Sequence[str],
    target: np.ndarray,
    station: np.ndarray,
    training: PointTraining | None = None,
) -> PointEnsemble:
    """Train an ensemble on features (row, feature), soil moisture in situ (row,), m3 m-3, missing NaN, and station labels (row,).

    Rows without target are used for the scaling only. `ContractError` if features are not grouped by source, or fewer than two
    stations have rows enough.
    """
    training, who = training or PointTraining(), "train_points"
    sources = [name.split(":")[0] for name in names]
    order = list(dict.fromkeys(sources))
    if sorted(sources, key=order.index) != sources or set(order) - {*SOURCES, "calendar"}:
        raise ContractError(who, "features are not grouped by source", got=order, expected=list(SOURCES))
    codes, there = np.unique(station, return_inverse=True)[1], np.isfinite(target)
    groups = [np.flatnonzero(there & (codes == code)) for code in range(codes.max() + 1)]
    groups = [rows for rows in groups if rows.size >= training.min_rows]
    if len(groups) < 2:
        expected = plain(f"two or more with {training.min_rows} rows")
        raise ContractError(who, "too few stations to train on", got=len(groups), expected=expected)
    sizes = {name: getattr(training, name) for name in ("encoder_width", "joint_width", "encoder_keep", "members")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        ensemble = PointEnsemble(PointFusionConfig({source: sources.count(source) for source in order}, **sizes))
        known = np.isfinite(features)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, features, 0.0).sum(0) / count
        spread = np.sqrt((np.where(known, features - mean, 0.0) ** 2).sum(0) / count)
        ensemble.centre.copy_(torch.tensor(mean))
        ensemble.spread.copy_(torch.tensor(np.where(spread > 1e-6, spread, 1.0)))
        x = ensemble.standardise(torch.tensor(features, dtype=torch.float32))
        lasting = torch.tensor([is_lasting(name) for name in names])
        _fit_level(ensemble, x * lasting, target, groups, training.level_penalty)
        observed = torch.tensor(np.nan_to_num(target), dtype=torch.float32)
        for number, member in enumerate(ensemble.members):
            _fit_member(member, x, observed, groups, training, np.random.default_rng([training.seed, number]))
    return ensemble.eval()


def predict_points(ensemble: PointEnsemble, values: np.ndarray) -> np.ndarray:
    """Soil moisture of rows of native features, m3 m-3, float64 (row,); each row on its own, in the ensemble's precision."""
    starts, dtype = range(0, len(values), 8192), ensemble.centre.dtype
    with torch.inference_mode():
        parts = [ensemble(torch.tensor(values[start : start + 8192], dtype=dtype)).numpy() for start in starts]
    return np.concatenate([np.empty(0), *parts])


def _fit_level(
    ensemble: PointEnsemble, lasting: torch.Tensor, target: np.ndarray, groups: list[np.ndarray], penalty: float
) -> None:
    """Ridge regression of the stations' mean soil moisture on the features that last, so that it adds no time course."""
    inputs = np.stack([lasting[rows].double().mean(0).numpy() for rows in groups])
    level = np.array([target[rows].mean() for rows in groups])
    weights, constant = ridge(inputs, level, penalty)
    ensemble.level_weights.copy_(torch.tensor(weights))
    ensemble.level_bias.copy_(torch.tensor(constant))


def ridge(inputs: np.ndarray, target: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Weights and constant of a ridge regression of (row,) on (row, feature)."""
    centre = inputs.mean(0)
    offset = inputs - centre
    # in the space of stations, of which there are fewer than features
    gram = offset @ offset.T + penalty * np.eye(len(inputs))
    weights = offset.T @ np.linalg.solve(gram, target - target.mean())
    return weights, target.mean() - centre @ weights


def _fit_member(
    member: PointFusionNet,
    x: torch.Tensor,
    observed: torch.Tensor,
    groups: list[np.ndarray],
    training: PointTraining,
    rng: np.random.Generator,
) -> None:
    """Train one network, all rows of some stations a step: 200 take a second, too few for the checkpoints of `smnb.training`."""
    size = min(training.batch_stations, len(groups))
    hidden = [i for i, source in enumerate(member.config.features) if source in ("sentinel1", "sentinel2")]
    sizes = list(member.config.features.values())

    def loss() -> torch.Tensor:
        drawn = [groups[i] for i in rng.choice(len(groups), size, replace=False)]
        rows = torch.from_numpy(np.concatenate(drawn))
        station = torch.from_numpy(np.repeat(np.arange(size), [len(rows) for rows in drawn]))
        parts = list(torch.split(x[rows], sizes, dim=1))
        for i in hidden if training.hide else ():
            parts[i] = parts[i] * (torch.rand(len(rows), 1) >= training.hide)
        return station_loss(member(torch.cat(parts, 1)), observed[rows], station, size, loss=training.loss)

    recipe = {"rate": training.learning_rate, "weight_decay": training.weight_decay, "rise": 0.1, "betas": (0.9, 0.98)}
    minimise(member.parameters(), training.steps, loss, **recipe)
