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
from torch.nn.utils.rnn import pad_sequence

from smnb.contract import ContractError, plain
from smnb.maps.tiles import one_thread
from smnb.models.temporal import FORCINGS, Recurrent, TemporalConfig, TemporalEnsemble, weather_states
from smnb.papers.stations.network import QUIET, SMALL, ridge
from smnb.sensors import folds as split_folds
from smnb.training import Trained, load, save
from smnb.training.config import minimise

#: What recurrent networks see of the states, as far as it is there, beside season and statics.
_WEATHER = ["water-0", "snow", "heat2", "evaporation4"]
_WEATHER += ["shortwave", "longwave", "humidity", "wind", "radiation_demand", "dry_air"]
_WINDOW, _WARM = 365, 60  # days that they are trained on, and the first of them whose error does not count
#: Days of weather that are looked back on to say whether it is known, and the share from which it is.
RECENT_DAYS, ENOUGH = 90, 0.8
TRAIT_DAYS = 120  # days of known precipitation from which a place's climate is taken from them
#: Standard error of level and course, m3 m-3, before calibration: a constant and a share of level and amplitude.
_LEVEL_ERROR, _COURSE_ERROR = (0.03, 0.22), (0.01, 0.5)
_LARGEST, _SOFT = 0.65, 0.02  # m3 m-3: no prediction exceeds it; over which those near zero are bent to stay positive


@dataclass(frozen=True)
class DailyTraining:
    """Recipe: AdamW, whose rate rises over a tenth of the steps and falls along a cosine.

    Each step draws `batch_places` places, and `batch_days` days or a year of each. `hide` is the chance to hide a lasting
    channel from a place in training, so that places without soil or elevation are predicted well; `level_penalty` is
    of the ridge regressions.
    """

    members: int = 8
    steps: int = 300
    recurrent_members: int = 3
    recurrent_steps: int = 400
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
    kept = dataset.coords.to_dataset().drop_vars(["place", "time"], errors="ignore").variables
    lasting = {name: one.to_numpy() for name, one in kept.items()}
    few = np.isfinite(weather["precipitation"]).sum(axis=1) < TRAIT_DAYS  # these say nothing of a climate
    lasting |= {name: np.where(few, np.nan, values) for name, values in traits.items()}
    shape = (dataset.sizes["place"], dataset.sizes["time"])
    phase = 2.0 * np.pi * (day + 182.6 * (lat < 0.0)[:, None]) / 365.25
    parts = {f"state:{name}": values for name, values in states.items()}
    parts |= {f"static:{name}": np.broadcast_to(values[:, None], shape) for name, values in lasting.items()}
    parts |= {f"season:{f.__name__}{k}": f(k * phase) for k in (1, 2) for f in (np.cos, np.sin)}
    return np.stack([values.astype("float32") for values in parts.values()], axis=-1), list(parts)


def known_share(dataset: xr.Dataset) -> np.ndarray:
    """Share of the last `RECENT_DAYS` days, the day itself among them, whose precipitation is known; (place, day)."""
    known = np.cumsum(np.isfinite(dataset["precipitation"].to_numpy()), axis=1).astype("float64")
    before = np.pad(known, ((0, 0), (RECENT_DAYS, 0)))[:, : known.shape[1]]
    return (known - before) / RECENT_DAYS


@dataclass
class DailySeries:
    """Series of places: `channels` (day, channel) and `target` (day,), m3 m-3, of each, the channels' names, and two tables.

    `table` has ``place``, ``time``, ``observed`` and ``known`` (`known_share`) of each day with a target, place by place;
    `places` has ``sensor_id``, ``lat``, ``lon``.
    """

    channels: list[np.ndarray]
    target: list[np.ndarray]
    names: list[str]
    table: pd.DataFrame
    places: pd.DataFrame


def daily_series(datasets: Mapping[str, xr.Dataset], *, least_known: float = 0.0) -> DailySeries:
    """Series of some datasets, by name. Targets are .005 to .6 and, where its temperature is known, of soil above 1 °C.

    Places are called ``name:place``. Datasets have the same channels. `least_known` is the least `known_share` of a target.
    """
    channels, targets, tables, places, names = [], [], [], [], []
    for name, dataset in datasets.items():
        target, share = dataset["soil_moisture"].to_numpy().astype("float64"), known_share(dataset)
        there = (target >= 0.005) & (target <= 0.6) & (share >= least_known)
        if "soil_temperature" in dataset:
            there &= dataset["soil_temperature"].to_numpy() > 1.0
        made, names = daily_channels(dataset)
        labels = (name + ":" + dataset["place"].to_series().astype(str)).to_numpy()
        row, day = np.nonzero(there)
        columns = {"place": labels[row], "time": dataset["time"].to_numpy()[day], "observed": target[there]}
        tables.append(pd.DataFrame(columns).assign(known=share[there]))
        channels.extend(made)
        targets.extend(np.where(there, target, np.nan))
        places.append(pd.DataFrame({"sensor_id": labels, "lat": dataset["lat"], "lon": dataset["lon"]}))
    table = pd.concat(tables, ignore_index=True)
    return DailySeries(channels, targets, names, table, pd.concat(places, ignore_index=True))


def train_daily(series: DailySeries, chosen: np.ndarray, training: DailyTraining) -> TemporalEnsemble:
    """Train an ensemble on the chosen places, bool (place,); `ContractError` with fewer than two of `min_days` targets."""
    days = {i: np.flatnonzero(np.isfinite(series.target[i])) for i in np.flatnonzero(chosen)}
    days = {i: one for i, one in days.items() if len(one) >= training.min_days}
    if len(days) < 2:
        expected = plain(f"two or more with {training.min_days} days")
        raise ContractError("train_daily", "too few places to train on", got=len(days), expected=expected)
    lasting = torch.tensor([name.startswith("static:") for name in series.names])
    seen = [name.startswith(("static:", "season:")) or name[6:] in _WEATHER for name in series.names]
    sizes = {name: getattr(training, name) for name in ("members", "width", "keep", "recurrent_members")}
    config = TemporalConfig(len(seen), recurrent=tuple(map(int, np.flatnonzero(seen))), **sizes)
    native = np.concatenate([series.channels[i][one] for i, one in days.items()]).astype("float64")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        ensemble = TemporalEnsemble(config)
        ensemble.centre.copy_(torch.tensor(np.nan_to_num(np.nanmean(native, axis=0))))
        ensemble.spread.copy_(torch.tensor(np.nan_to_num(np.nanstd(native, axis=0)) + 1e-6))
        parts = []
        for i, one in days.items():
            x = ensemble.standardise(torch.from_numpy(series.channels[i]))
            parts.append((x, torch.tensor(series.target[i], dtype=torch.float32), one))
        means = torch.stack([x[one].mean(0) * lasting for x, _, one in parts]).double().numpy()
        for buffer, of in ((ensemble.level, np.mean), (ensemble.amplitude, np.std)):
            target = np.array([of(series.target[i][one]) for i, one in days.items()])
            weights, constant = ridge(means, target, training.level_penalty)
            buffer.copy_(torch.tensor([*weights, constant]))
        for number, member in enumerate(ensemble.members):
            rng = np.random.default_rng([training.seed, number])
            _fit_member(member, parts, lasting, training, rng)
    return ensemble.eval()


def _fit_member(
    member: torch.nn.Module, parts: list, lasting: torch.Tensor, training: DailyTraining, rng: np.random.Generator
) -> None:
    """Train one network in place: on days drawn from a place's targets, or on windows of consecutive days if it is recurrent.

    `parts` has of each place its standardised channels, targets, and the days that have one.
    """
    recurrent = isinstance(member, Recurrent)

    def loss() -> torch.Tensor:
        inputs, observed = [], []
        for i in rng.choice(len(parts), training.batch_places, replace=len(parts) < training.batch_places):
            x, y, days = parts[i]
            first = rng.integers(max(1, len(y) - _WINDOW + 1)) if recurrent else 0
            at = np.arange(first, min(first + _WINDOW, len(y))) if recurrent else rng.choice(days, training.batch_days)
            inputs.append(x[at])
            observed.append(y[at])
        hidden = (torch.rand(len(inputs), 1, len(lasting)) < training.hide) & lasting
        predicted = TemporalConfig.scale * member(pad_sequence(inputs, batch_first=True) * ~hidden)
        target, skipped = pad_sequence(observed, True, float("nan")), _WARM if recurrent else 0
        return _course_loss(predicted[:, skipped:], target[:, skipped:])

    steps = training.recurrent_steps if recurrent else training.steps
    recipe = {"rate": training.learning_rate, "weight_decay": training.weight_decay, "rise": 0.1}
    minimise(member.parameters(), steps, loss, **recipe)


def _course_loss(predicted: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Mean over places of the error about the place's mean (place, day), half of it over the place's standard deviation.

    A place counts by the share of its days that have a target, so that a few days do not set its mean.
    """
    there = torch.isfinite(observed)
    count = there.sum(1, keepdim=True).clamp(min=1)

    def centred(values: torch.Tensor) -> torch.Tensor:
        values = torch.where(there, values, 0.0)
        return torch.where(there, values - values.sum(1, keepdim=True) / count, 0.0)

    target = centred(observed)
    error, spread = (((one**2).sum(1) / count[:, 0]) for one in (centred(predicted) - target, target))
    error, weight = torch.sqrt(error + SMALL), (count[:, 0] / observed.shape[1]).clamp(max=0.3)
    each = 0.5 * error / torch.sqrt(spread + QUIET) + 0.5 * error / 0.06
    return (weight * each).sum() / weight.sum()


def predict_course(ensemble: TemporalEnsemble, channels: np.ndarray) -> np.ndarray:
    """Level, amplitude and departure, float64 (place, day, 3), of native channels (place, day, channel)."""
    with one_thread(), torch.inference_mode():
        return np.stack([ensemble(torch.from_numpy(one)[None]).double().numpy()[0] for one in channels])


def combine(course: np.ndarray, place: np.ndarray, *, stretch: float, counted: np.ndarray | None = None) -> np.ndarray:
    """Level plus departure, positive, (row,), from rows of `predict_course`.

    A network's departures have no mean and vary less than soil does: the place's mean is taken off, and `stretch` is the share of
    the way from their spread to the amplitude that is predicted for the place; less of both where a place has less than some
    years of days. `counted`, bool (row,), says whose mean and spread they are: those of days with unfrozen soil.
    """
    codes = np.unique(place, return_inverse=True)[1]
    level, amplitude, departure = course.T
    weight = np.ones(len(codes)) if counted is None else np.maximum(counted * 1.0, 1e-6)
    count = np.bincount(codes, weights=weight)
    mean = (np.bincount(codes, weights=weight * departure) / count)[codes]
    spread = np.sqrt(np.bincount(codes, weights=weight * (departure - mean) ** 2) / count)[codes]
    trust = (count / (count + 100.0))[codes]
    factor = 1.0 + stretch * trust * np.clip(amplitude / np.maximum(spread, 0.01) - 1.0, -0.5, 1.0)
    value = level + (1.0 - trust) * mean + factor * (departure - mean)
    return np.minimum(_SOFT * np.logaddexp(0.0, value / _SOFT), _LARGEST)


def standard_error(course: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Standard error of a prediction before calibration, m3 m-3 (row,): of level and course together, wider after gaps."""
    level = _LEVEL_ERROR[0] + _LEVEL_ERROR[1] * np.clip(course[:, 0], 0.0, 0.5)
    anomaly = _COURSE_ERROR[0] + _COURSE_ERROR[1] * np.clip(course[:, 1], 0.02, 0.15)
    return np.hypot(level, anomaly * (2.0 - known))


def cross_validate_daily(series: DailySeries, training: DailyTraining, **options: Any) -> pd.DataFrame:
    """Predict every target by networks that saw no place of its 3 degree block, nor any within 50 km of one.

    `options` are of `smnb.sensors.folds`. Columns: those of `series.table`, ``level``, ``amplitude``, ``departure``, ``fold``.
    """
    options = {"buffer_km": 50.0, **options}
    found = [np.empty((0, 4))] * len(series.target)
    for fold, split in enumerate(split_folds(series.places, "block", **options)):
        side = split.label(series.places).to_numpy()
        ensemble = train_daily(series, side == "train", training)
        for i in np.flatnonzero(side == "test"):
            course = predict_course(ensemble, series.channels[i][None])[0][np.isfinite(series.target[i])]
            found[i] = np.column_stack([course, np.full(len(course), fold)])
    columns = ["level", "amplitude", "departure", "fold"]
    return series.table.join(pd.DataFrame(np.concatenate(found), columns=columns))


def release_daily(series: DailySeries, out: str | Path, training: DailyTraining, **about: Any) -> Trained:
    """Train on all places and save ``out/model.safetensors`` with its card.

    `about` has ``factor`` (`smnb.sensors.calibration.station_quantile` of a cross-validation's errors over `standard_error`),
    ``stretch`` (that of `combine`) and ``data``. Seeds are fixed and one thread is used: the same series give the same weights
    with the same library versions.
    """
    with one_thread():
        ensemble = train_daily(series, np.ones(len(series.target), dtype=bool), training)
    card = {"recipe": asdict(training), **about}
    card["data"] = {**about["data"], "places": int(series.table["place"].nunique())}
    return load(save(Path(out) / "model", ensemble, channels=tuple(series.names), training=card))
