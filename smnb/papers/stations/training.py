"""Training on what is scored: the error about each station's own mean, every station counting the same.

The score is the mean over stations of the unbiased RMSE, and a station's level does not enter it. So the networks learn
departures from the station's mean with a loss that leaves the mean free, and a linear model learns the level apart. Each step
takes all rows of some stations, and a run of 200 steps takes a second: a loop of its own, to which `smnb.training.train`'s
checkpoints after every epoch would be most of the work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from smnb.contract import ContractError, check_choice, plain
from smnb.papers.stations.features import SOURCES, FeatureTable, is_lasting
from smnb.papers.stations.network import PointEnsemble, PointFusionConfig, PointFusionNet

LOSSES = ("ubrmse", "relative")
#: (m3 m-3)²: keeps the square root smooth near zero, and quiet stations from dominating the relative loss.
_SMALL, _QUIET = 1e-5, 2e-4


@dataclass(frozen=True)
class PointTraining:
    """Recipe.

    Parameters
    ----------
    members : int
        Networks of the ensemble; they differ by seed.
    steps, batch_stations : int
        Steps of the optimiser, and stations drawn for each (all of a station's rows are taken).
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over a tenth of the steps and falls along a cosine.
    loss : str
        ``ubrmse``: mean over stations of the RMSE of departures from the mean. ``relative``: the same over the station's
        standard deviation, so that quiet stations count as much as lively ones.
    hide : float
        Chance to hide Sentinel-1, and Sentinel-2, from a row in training, so that rows without them are predicted well.
    min_rows : int
        Stations with fewer rows are not trained on.
    encoder_width, joint_width, encoder_keep
        Of `PointFusionConfig`.
    level_penalty : float
        Of the ridge regression of the level on standardised features.
    """

    members: int = 8
    steps: int = 200
    batch_stations: int = 24
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    loss: str = "relative"
    hide: float = 0.1
    min_rows: int = 13
    encoder_width: int = 32
    joint_width: int = 64
    encoder_keep: float = 0.8
    level_penalty: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("PointTraining", "loss", self.loss, LOSSES)


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

    error = torch.sqrt(variance(predicted - observed) + _SMALL)
    if loss == "relative":
        error = error / torch.sqrt(variance(observed) + _QUIET)
    return error.mean()


def train_points(
    features: FeatureTable, target: np.ndarray, station: np.ndarray, training: PointTraining | None = None
) -> PointEnsemble:
    """Train an ensemble on features, soil moisture in situ (row,), m3 m-3, missing NaN, and station labels (row,).

    Rows without target are used for the scaling only. `ContractError` if features are not grouped by source, or fewer than two
    stations have rows enough.
    """
    training = training or PointTraining()
    sizes = {name: getattr(training, name) for name in ("encoder_width", "joint_width", "encoder_keep", "members")}
    config = PointFusionConfig(features=_sizes(features.names), **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        ensemble = PointEnsemble(config)
        _fit_scaling(ensemble, features.values)
        x = ensemble.standardise(torch.tensor(features.values, dtype=torch.float32))
        groups = _usable(target, station, training.min_rows)
        lasting = torch.tensor([is_lasting(name) for name in features.names])
        _fit_level(ensemble, x * lasting, target, groups, training.level_penalty)
        observed = torch.tensor(np.nan_to_num(target), dtype=torch.float32)
        for number, member in enumerate(ensemble.members):
            _fit_member(member, x, observed, groups, training, np.random.default_rng([training.seed, number]))
    return ensemble.eval()


def predict_points(ensemble: PointEnsemble, values: np.ndarray) -> np.ndarray:
    """Soil moisture of rows of native features, m3 m-3, float64 (row,); each row on its own, in the ensemble's precision."""
    parts, dtype = [], ensemble.centre.dtype
    with torch.inference_mode():
        for start in range(0, len(values), 8192):
            parts.append(ensemble(torch.tensor(values[start : start + 8192], dtype=dtype)).numpy())
    return np.concatenate(parts).astype("float64") if parts else np.empty(0)


def _sizes(names: tuple[str, ...]) -> dict[str, int]:
    """Number of features of each source, in the order of the names."""
    sources = [name.split(":")[0] for name in names]
    order = list(dict.fromkeys(sources))
    if sorted(sources, key=order.index) != sources or set(order) - {*SOURCES, "calendar"}:
        raise ContractError("train_points", "features are not grouped by source", got=order, expected=list(SOURCES))
    return {source: sources.count(source) for source in order}


def _usable(target: np.ndarray, station: np.ndarray, min_rows: int) -> list[np.ndarray]:
    """Rows with a target of each station that has enough of them."""
    codes = np.unique(station, return_inverse=True)[1]
    there = np.isfinite(target)
    groups = [np.flatnonzero(there & (codes == code)) for code in range(codes.max() + 1)]
    groups = [rows for rows in groups if rows.size >= min_rows]
    if len(groups) < 2:
        expected = plain(f"two or more with {min_rows} rows")
        raise ContractError("train_points", "too few stations to train on", got=len(groups), expected=expected)
    return groups


def _fit_scaling(ensemble: PointEnsemble, values: np.ndarray) -> None:
    there = np.isfinite(values)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, values, 0.0).sum(0) / count
    spread = np.sqrt((np.where(there, values - mean, 0.0) ** 2).sum(0) / count)
    ensemble.centre.copy_(torch.tensor(mean))
    ensemble.spread.copy_(torch.tensor(np.where(spread > 1e-6, spread, 1.0)))


def _fit_level(
    ensemble: PointEnsemble, lasting: torch.Tensor, target: np.ndarray, groups: list[np.ndarray], penalty: float
) -> None:
    """Ridge regression of the stations' mean soil moisture on the features that last, so that it adds no time course."""
    inputs = np.stack([lasting[rows].double().mean(0).numpy() for rows in groups])
    level = np.array([target[rows].mean() for rows in groups])
    centre = inputs.mean(0)
    offset = inputs - centre
    # in the space of stations, of which there are fewer than features
    gram = offset @ offset.T + penalty * np.eye(len(groups))
    weights = offset.T @ np.linalg.solve(gram, level - level.mean())
    ensemble.level_weights.copy_(torch.tensor(weights))
    ensemble.level_bias.copy_(torch.tensor(level.mean() - centre @ weights))


def _fit_member(
    member: PointFusionNet,
    x: torch.Tensor,
    observed: torch.Tensor,
    groups: list[np.ndarray],
    training: PointTraining,
    rng: np.random.Generator,
) -> None:
    optimiser = torch.optim.AdamW(
        member.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, training.learning_rate, total_steps=training.steps, pct_start=0.1
    )
    size = min(training.batch_stations, len(groups))
    hidden = [i for i, source in enumerate(member.config.features) if source in ("sentinel1", "sentinel2")]
    sizes = list(member.config.features.values())
    for _ in range(training.steps):
        drawn = [groups[i] for i in rng.choice(len(groups), size, replace=False)]
        rows = torch.from_numpy(np.concatenate(drawn))
        station = torch.from_numpy(np.repeat(np.arange(size), [len(rows) for rows in drawn]))
        parts = list(torch.split(x[rows], sizes, dim=1))
        for i in hidden if training.hide else ():
            parts[i] = parts[i] * (torch.rand(len(rows), 1) >= training.hide)
        value = station_loss(member(torch.cat(parts, 1)), observed[rows], station, size, loss=training.loss)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
