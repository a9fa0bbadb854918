"""Daily soil moisture from weather, at stations and in SMAP's cells: channels, training, cross-validation, prediction of files.

The network is `smnb.models.temporal.TemporalEnsemble`. It learns departures from a place's mean; level and amplitude come from
what lasts at a place, by ridge regression. Intervals are those that hold 90 % of held-out days, each station counting the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from smnb.contract import ContractError, plain
from smnb.maps.tiles import one_thread
from smnb.models.temporal import FORCINGS, TemporalConfig, TemporalEnsemble, weather_states
from smnb.sensors import folds as split_folds
from smnb.training import Trained, load, save
from smnb.training.config import minimise

_SMALL, _QUIET = 1e-5, 2e-4  # (m3 m-3)², as in `smnb.papers.stations.network`
_TARGETS = ("soil_moisture", "soil_temperature")
#: Days of weather that are looked back on to say whether it is known, and the share from which it is.
RECENT_DAYS, ENOUGH = 90, 0.8
TRAIT_DAYS = 120  # days of known precipitation from which a place's climate is taken from them
#: Standard error of level and course, m3 m-3, before `Intervals` widens them: a constant and a share of level and amplitude.
_LEVEL_ERROR, _COURSE_ERROR = (0.03, 0.22), (0.01, 0.5)
_LARGEST, _SOFT = 0.65, 0.02  # m3 m-3: no prediction exceeds it; over which those near zero are bent to stay positive


@dataclass(frozen=True)
class DailyTraining:
    """Recipe: AdamW, whose rate rises over a tenth of the steps and falls along a cosine.

    Each step draws `batch_places` places and `batch_days` days of each. `hide` is the chance to hide a lasting channel from a
    place in training, so that places without soil or elevation are predicted well; `level_penalty` is of the ridge regressions.
    """

    members: int = 8
    steps: int = 300
    width: int = 64
    keep: float = 0.8
    batch_places: int = 32
    batch_days: int = 80
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    hide: float = 0.1
    min_days: int = 60
    level_penalty: float = 30.0
    seed: int = 0


def daily_channels(dataset: xr.Dataset) -> tuple[np.ndarray, list[str]]:
    """Channels of every place and day, float32 (place, day, channel), and their names: ``state:``, ``static:``, ``season:``.

    `dataset` is what `smnb.loaders.daily` gives; targets in it are not looked at. Missing statics are NaN.
    """
    names = [name for name in ("precipitation", "air_temperature", *FORCINGS) if name in dataset]
    weather = {name: dataset[name].to_numpy() for name in names}
    day, lat = dataset["time"].dt.dayofyear.to_numpy().astype("float64"), dataset["lat"].to_numpy()
    # unknown latitude: the middle of the training stations'
    states, traits = weather_states(weather, day, np.where(np.isfinite(lat), lat, 38.0))
    lasting = {name: one.to_numpy() for name, one in dataset.drop_vars("place", errors="ignore").coords.items()}
    lasting = {name: values for name, values in lasting.items() if name != "time"}
    few = np.isfinite(weather["precipitation"]).sum(axis=1) < TRAIT_DAYS  # these say nothing of a climate
    lasting |= {name: np.where(few, np.nan, values) for name, values in traits.items()}
    shape = (dataset.sizes["place"], dataset.sizes["time"])
    phase = 2.0 * np.pi * (day + 182.6 * (lat < 0.0)[:, None]) / 365.25
    parts = {f"state:{name}": values for name, values in states.items()}
    parts |= {f"static:{name}": np.broadcast_to(values[:, None], shape) for name, values in lasting.items()}
    parts |= {f"season:{f.__name__}{k}": f(k * phase) for k in (1, 2) for f in (np.cos, np.sin)}
    result = np.empty((*shape, len(parts)), dtype=np.float32)
    for i, values in enumerate(parts.values()):
        result[..., i] = values
    return result, list(parts)


def known_share(dataset: xr.Dataset) -> np.ndarray:
    """Share of the last `RECENT_DAYS` days, the day itself among them, whose precipitation is known; (place, day)."""
    known = np.cumsum(np.isfinite(dataset["precipitation"].to_numpy()), axis=1).astype("float64")
    before = np.pad(known, ((0, 0), (RECENT_DAYS, 0)))[:, : known.shape[1]]
    return (known - before) / RECENT_DAYS


@dataclass
class DailyRows:
    """Days that have a target: their channels (row, channel) and those's names, and two tables.

    `table` has ``place``, ``time``, ``observed`` (m3 m-3) and ``known`` (`known_share`) of each row; `places` has ``sensor_id``,
    ``lat``, ``lon``.
    """

    channels: np.ndarray
    names: list[str]
    table: pd.DataFrame
    places: pd.DataFrame


def daily_rows(datasets: Mapping[str, xr.Dataset], *, least_known: float = 0.0) -> DailyRows:
    """Rows of some datasets, by name, with soil moisture of .005 to .6 and, where its temperature is known, soil above 1 °C.

    Places are called ``name:place``. Datasets have the same channels. `least_known` is the least `known_share`.
    """
    channels, tables, places, names = [], [], [], []
    for name, dataset in datasets.items():
        target, share = dataset["soil_moisture"].to_numpy().astype("float64"), known_share(dataset)
        there = (target >= 0.005) & (target <= 0.6) & (share >= least_known)
        if "soil_temperature" in dataset:
            there &= dataset["soil_temperature"].to_numpy() > 1.0
        made, names = daily_channels(dataset)
        labels = name + ":" + dataset["place"].to_series().astype(str)
        row, day = np.nonzero(there)
        columns = {"place": labels.to_numpy()[row], "time": dataset["time"].to_numpy()[day]}
        tables.append(pd.DataFrame({**columns, "observed": target[there], "known": share[there]}))
        channels.append(made[there])
        places.append(pd.DataFrame({"sensor_id": labels.to_numpy(), "lat": dataset["lat"], "lon": dataset["lon"]}))
    table = pd.concat(tables, ignore_index=True)
    return DailyRows(np.concatenate(channels), names, table, pd.concat(places, ignore_index=True))


def train_daily(rows: DailyRows, chosen: np.ndarray, training: DailyTraining) -> TemporalEnsemble:
    """Train an ensemble on the chosen rows, bool (row,); `ContractError` with fewer than two places of `min_days` rows."""
    table, native = rows.table[chosen], rows.channels[chosen]
    groups = [one for one in table.groupby("place").indices.values() if len(one) >= training.min_days]
    if len(groups) < 2:
        expected = plain(f"two or more with {training.min_days} days")
        raise ContractError("train_daily", "too few places to train on", got=len(groups), expected=expected)
    target = table["observed"].to_numpy()
    observed = torch.tensor(target, dtype=torch.float32)
    lasting = torch.tensor([name.startswith("static:") for name in rows.names])
    config = TemporalConfig(len(rows.names), training.members, training.width, training.keep)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        ensemble = TemporalEnsemble(config)
        ensemble.centre.copy_(torch.tensor(np.nan_to_num(np.nanmean(native, axis=0, dtype="float64"))))
        ensemble.spread.copy_(torch.tensor(np.nan_to_num(np.nanstd(native, axis=0, dtype="float64")) + 1e-6))
        x = ensemble.standardise(torch.from_numpy(native))
        means = torch.stack([x[one].mean(0) * lasting for one in groups]).double().numpy()
        for buffer, of in ((ensemble.level, np.mean), (ensemble.amplitude, np.std)):
            buffer.copy_(_ridge(means, np.array([of(target[one]) for one in groups]), training.level_penalty))
        for number, member in enumerate(ensemble.members):
            rng = np.random.default_rng([training.seed, number])

            def loss(member: torch.nn.Module = member, rng: np.random.Generator = rng) -> torch.Tensor:
                drawn = rng.choice(len(groups), training.batch_places, replace=len(groups) < training.batch_places)
                at = np.stack([groups[i][rng.integers(len(groups[i]), size=training.batch_days)] for i in drawn])
                hidden = (torch.rand(len(at), 1, len(rows.names)) < training.hide) & lasting
                return _course_loss(config.scale * member(x[at] * ~hidden), observed[at])

            recipe = {"rate": training.learning_rate, "weight_decay": training.weight_decay, "rise": 0.1}
            minimise(member.parameters(), training.steps, loss, **recipe)
    return ensemble.eval()


def _course_loss(predicted: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Mean over places of the error about the place's mean (place, day), half of it over the place's standard deviation."""
    error = predicted - predicted.mean(1, keepdim=True) - observed + observed.mean(1, keepdim=True)
    error = torch.sqrt((error**2).mean(1) + _SMALL)
    return 0.5 * (error / torch.sqrt(observed.var(1) + _QUIET)).mean() + 0.5 * error.mean() / 0.06


def _ridge(inputs: np.ndarray, target: np.ndarray, penalty: float) -> torch.Tensor:
    """Weights and constant of a ridge regression of (place,) on (place, channel)."""
    centre = inputs.mean(0)
    offset = inputs - centre
    weights = np.linalg.solve(offset.T @ offset + penalty * np.eye(len(centre)), offset.T @ (target - target.mean()))
    return torch.tensor([*weights, target.mean() - centre @ weights])


def predict_course(ensemble: TemporalEnsemble, channels: np.ndarray) -> np.ndarray:
    """Level, amplitude and departure, float64 (row, 3), of rows of native channels (row, channel)."""
    with one_thread(), torch.inference_mode():
        parts = [
            ensemble(torch.from_numpy(channels[i : i + 16384])).double().numpy() for i in range(0, len(channels), 16384)
        ]
    return np.concatenate([np.empty((0, 3)), *parts])


def combine(course: np.ndarray, place: np.ndarray, *, stretch: float, counted: np.ndarray | None = None) -> np.ndarray:
    """Level plus departure, positive, (row,), from `predict_course`.

    A network's departures vary less than soil does. `stretch` is the share of the way from their spread to the amplitude that is
    predicted for the place; a place with less than some years of days is stretched less. `counted`, bool (row,), says whose
    spread it is: that of days with unfrozen soil.
    """
    codes = np.unique(place, return_inverse=True)[1]
    level, amplitude, departure = course.T
    weight = np.ones(len(codes)) if counted is None else np.maximum(counted * 1.0, 1e-6)
    count = np.bincount(codes, weights=weight)
    mean = (np.bincount(codes, weights=weight * departure) / count)[codes]
    spread = np.sqrt(np.bincount(codes, weights=weight * (departure - mean) ** 2) / count)[codes]
    trust = stretch * (count / (count + 200.0))[codes]
    factor = 1.0 + trust * np.clip(amplitude / np.maximum(spread, 0.01) - 1.0, -0.5, 1.0)
    value = level + mean + factor * (departure - mean)
    return np.minimum(_SOFT * np.logaddexp(0.0, value / _SOFT), _LARGEST)


def standard_error(course: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Standard error of a prediction before calibration, m3 m-3 (row,), of its level and its course together."""
    level = _LEVEL_ERROR[0] + _LEVEL_ERROR[1] * np.clip(course[:, 0], 0.0, 0.5)
    course_ = (_COURSE_ERROR[0] + _COURSE_ERROR[1] * np.clip(course[:, 1], 0.02, 0.15)) * (2.0 - known)
    return np.hypot(level, course_)


def conformal_factor(score: np.ndarray, place: np.ndarray, share: float = 0.9) -> float:
    """The factor of `standard_error` within which the errors lie on a share of days, the mean over places of each one's share."""
    codes = np.unique(place, return_inverse=True)[1]
    weights = 1.0 / np.bincount(codes)[codes]
    order = np.argsort(score)
    return float(score[order][np.searchsorted(np.cumsum(weights[order]), share * weights.sum())])


def cross_validate_daily(
    rows: DailyRows,
    training: DailyTraining,
    *,
    k: int = 10,
    seed: int = 0,
    block_degrees: float = 3.0,
    buffer_km: float = 50.0,
) -> pd.DataFrame:
    """Predict every row by a network that saw no place of its block, nor any within `buffer_km` of one.

    Columns: those of `rows.table`, ``level``, ``amplitude``, ``departure``, ``fold``.
    """
    options = {"k": k, "seed": seed, "block_degrees": block_degrees, "buffer_km": buffer_km}
    splits, result = split_folds(rows.places, "block", **options), np.full((len(rows.table), 3), np.nan)
    number = np.full(len(rows.table), -1)
    labelled = rows.table.rename(columns={"place": "sensor_id"})
    for fold, split in enumerate(splits):
        side = split.label(labelled).to_numpy()
        ensemble = train_daily(rows, side == "train", training)
        result[side == "test"] = predict_course(ensemble, rows.channels[side == "test"])
        number[side == "test"] = fold
    columns = dict(zip(("level", "amplitude", "departure"), result.T, strict=True))
    return rows.table.assign(**columns, fold=number)


def release_daily(
    rows: DailyRows, out: str | Path, training: DailyTraining, *, factor: float, stretch: float, about: dict[str, Any]
) -> Trained:
    """Train on all rows and save ``out/model.safetensors`` with its card.

    `factor` is `conformal_factor` of a cross-validation and `stretch` that of `combine`; `about` says what the data are. Seeds
    are fixed and one thread is used: the same rows give the same weights with the same library versions.
    """
    with one_thread():
        ensemble = train_daily(rows, np.ones(len(rows.table), dtype=bool), training)
    places = int(rows.table["place"].nunique())
    card = {"recipe": asdict(training), "factor": factor, "stretch": stretch, "data": {**about, "places": places}}
    return load(save(Path(out) / "model", ensemble, channels=tuple(rows.names), training=card))
