"""Soil moisture from the weather of days past: states in time, and an ensemble of networks that reads them.

The recurrence is a reservoir: leaky stores of water, of melt and of heat whose constants are fixed and span days to a year, as
those of a soil do. What is learned is the readout of all of them. `weather_states` makes the states of any stations or cells from
daily weather with gaps; `TemporalEnsemble` is the network.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter
from torch import nn

from smnb.contract import ContractError

Values = NDArray[np.float64]
#: Time constants of means, days: of water that reaches the soil, air temperature, evaporation, and water less evaporation.
WATER_DAYS = (1.5, 3, 6, 12, 25, 50, 100, 250)
HEAT_DAYS, EVAPORATION_DAYS, BALANCE_DAYS = (2, 7, 25, 80), (4, 15, 50), (10, 30, 90, 300)
#: Sizes of the stores that evaporation alone empties, and of those that drain above half as well, mm.
STORES_MM, DRAINED_MM = (6, 12, 25, 50, 100, 200), (25, 100)
FORCINGS = ("shortwave", "longwave", "humidity", "wind")  # optional ones: W m-2, W m-2, kg kg-1, m s-1
_MOST_MM = 200.0  # a day; more is a counter's error as often as rain, and no soil tells the difference
_YEAR = 365.25


def exponential_mean(x: Values, days: float) -> Values:
    """Mean over this and earlier days of what is known of x (place, day), weights falling by e in some days; 0 before any."""
    keep, known = np.exp(-1.0 / days), np.isfinite(x)
    total, weight = (lfilter([1.0 - keep], [1.0, -keep], v, axis=1) for v in (np.where(known, x, 0.0), known * 1.0))
    return total / np.maximum(weight, 1e-9)


def seasonal_course(x: Values, day_of_year: Values) -> Values:
    """Two harmonics of the year fitted to what is known of each row of x (place, day), held at its mean; NaN if none."""
    phase = 2.0 * np.pi * day_of_year / _YEAR
    design = np.stack([np.ones_like(phase), *(f(k * phase) for k in (1, 2) for f in (np.cos, np.sin))], axis=1)
    result, hold = np.full(x.shape, np.nan), np.diag([1e-6, 2.0, 2.0, 5.0, 5.0])
    for row, there in zip(range(len(x)), np.isfinite(x), strict=True):
        if there.any():
            seen, mean = design[there], x[row, there].mean()
            result[row] = mean + design @ np.linalg.solve(seen.T @ seen + hold, seen.T @ (x[row, there] - mean))
    return result


def extraterrestrial_radiation(lat: Values, day_of_year: Values) -> Values:
    """Radiation at the top of the atmosphere, MJ m-2 a day (place, day); Allen et al. 1998, FAO paper 56, equation 21."""
    north, turn = np.deg2rad(lat)[:, None], 2.0 * np.pi * day_of_year[None, :] / 365.0
    distance, declination = 1.0 + 0.033 * np.cos(turn), 0.409 * np.sin(turn - 1.39)
    sunset = np.arccos(np.clip(-np.tan(north) * np.tan(declination), -1.0, 1.0))
    sines, cosines = np.sin(north) * np.sin(declination), np.cos(north) * np.cos(declination)
    return 24.0 * 60.0 / np.pi * 0.082 * distance * (sunset * sines + cosines * np.sin(sunset))


def _filled(precipitation: Values, temperature: Values, day_of_year: Values, lat: Values) -> tuple[Values, Values]:
    """Weather without gaps: the place's own season, for temperature with the departure of the days before as it fades."""
    season = seasonal_course(temperature, day_of_year)
    # a place without any: what latitude says of the mean, and no season
    season = np.where(np.isnan(season), 27.0 - 0.6 * np.maximum(np.abs(lat)[:, None] - 20.0, 0.0), season)
    departure = temperature - season
    share = exponential_mean(np.isfinite(temperature) * 1.0, 5.0)
    warm = np.where(np.isfinite(temperature), temperature, season + exponential_mean(departure, 5.0) * share)
    rain = np.clip(precipitation, 0.0, _MOST_MM)
    usual = np.nan_to_num(seasonal_course(np.minimum(rain, 60.0), day_of_year), nan=2.0)
    return np.where(np.isfinite(rain), rain, np.maximum(usual, 0.0)), warm


def _stores(water: Values, demand: Values, size: float, *, drains: bool = False) -> Values:
    """Filling, 0 to 1 (place, day), of a store of a size (mm) that starts as its own first year left it."""
    filled, result = np.full(len(water), 0.5 * size), np.empty_like(water)
    for day in [*range(min(water.shape[1], 365)), *range(water.shape[1])]:
        filled = np.minimum(filled + water[:, day], size)
        if drains:
            filled = filled - 0.3 * np.maximum(filled - 0.55 * size, 0.0)
            filled = np.maximum(filled - 0.8 * demand[:, day] * np.minimum(2.0 * filled / size, 1.0), 0.0)
        else:
            filled = filled * np.exp(-demand[:, day] / size)
        result[:, day] = filled / size
    return result


def _snow(rain: Values, warm: Values) -> tuple[Values, Values]:
    """Water that reaches the soil and water held as snow, mm (place, day): a store that melts 3 mm a day and degree."""
    held, water, snow = np.zeros(len(rain)), np.empty_like(rain), np.empty_like(rain)
    for day in range(rain.shape[1]):
        falls = rain[:, day] * np.clip((2.0 - warm[:, day]) / 3.0, 0.0, 1.0)
        melts = np.minimum(held + falls, np.maximum(3.0 * (warm[:, day] - 0.5), 0.0))
        held = held + falls - melts
        water[:, day], snow[:, day] = rain[:, day] - falls + melts, held
    return water, snow


def weather_states(
    weather: Mapping[str, Values], day_of_year: Values, lat: Values
) -> tuple[dict[str, Values], dict[str, Values]]:
    """States in time and lasting traits of places, from daily weather with gaps.

    `weather` has ``precipitation`` (mm a day), ``air_temperature`` (°C), missing NaN, and all of `FORCINGS` or none, each (place,
    day); `day_of_year` is of consecutive days, `lat` in degrees. States are float64 (place, day), traits (place,). They depend on
    the place's own weather alone: of earlier days, and of all its series in means, spreads and departures.

    References
    ----------
    Oudin et al. 2005, J. Hydrol. 303, 290-306, doi:10.1016/j.jhydrol.2004.08.026 (evaporation from temperature); Priestley and
    Taylor 1972, Mon. Weather Rev. 100, 81-92 (from radiation).
    """
    rain, warm = _filled(weather["precipitation"], weather["air_temperature"], day_of_year, lat)
    known = np.isfinite(weather["precipitation"])
    evaporation = np.maximum(extraterrestrial_radiation(lat, day_of_year) * (warm + 5.0) / 245.0, 0.0)
    water, snow = _snow(rain, warm)
    size = water.shape[1]
    states = {"snow": np.sqrt(snow)}
    states |= {f"water-{k}": np.sqrt(np.pad(water, ((0, 0), (k, 0)))[:, :size]) for k in range(3)}
    states |= {f"water{d:g}": np.sqrt(exponential_mean(water, d)) for d in WATER_DAYS}
    states |= {f"heat{d:g}": exponential_mean(warm, d) for d in HEAT_DAYS}
    states |= {f"evaporation{d:g}": exponential_mean(evaporation, d) for d in EVAPORATION_DAYS}
    states |= {f"balance{d:g}": exponential_mean(water - evaporation, d) for d in BALANCE_DAYS}
    day = np.arange(size)
    wet = np.maximum.accumulate(np.where(water > 4.0, day, -1), axis=1)
    states["dry_days"] = np.log1p(np.minimum(day - wet, 90.0))
    states |= {f"store{mm}": _stores(water, evaporation / 0.75, mm) for mm in STORES_MM}
    states |= {f"drained{mm}": _stores(water, evaporation, mm, drains=True) for mm in DRAINED_MM}
    about = ["water3", "water12", "water50", "water250", "store12", "store50", "store200", "drained25", "drained100"]
    about += ["balance30", "balance90", "heat7"]
    traits = {
        "rain": np.sqrt(_YEAR * rain.mean(1)),
        "demand": evaporation.mean(1) * _YEAR / 100.0,
        "aridity": np.log((rain.mean(1) + 0.1) / (evaporation.mean(1) + 0.1)),
        "warmth": warm.mean(1),
        "seasons": np.ptp(seasonal_course(warm, day_of_year), axis=1),
        "wet_days": ((rain > 1.0) & known).sum(1) / np.maximum(known.sum(1), 1),
        "downpours": np.log1p((rain * (rain > 1.0) * known).sum(1) / np.maximum(((rain > 1.0) & known).sum(1), 1)),
        "snow_days": (snow > 5.0).mean(1),
        "summer_rain": (rain * ((day_of_year > 120) & (day_of_year < 274))).sum(1) / np.maximum(rain.sum(1), 1.0),
    }
    if all(name in weather for name in FORCINGS):
        states |= (more := _radiation_states(weather, warm, water))
        about += ["dried12", "dried50", "dried200"]
        traits |= {"radiation_demand": more["radiation_demand"].mean(1), "moist_air": more["moist_air"].mean(1)}
        traits["wind"] = more["wind"].mean(1)
        traits["aridity_of_radiation"] = np.log((rain.mean(1) + 0.05) / (traits["radiation_demand"] + 0.05))
    for name in about:
        mean, spread = states[name].mean(1, keepdims=True), states[name].std(1, keepdims=True)
        states[f"{name}_anomaly"] = states[name] - mean
        if not name.startswith(("water", "heat")):
            least = 0.2 if name.startswith("balance") else 0.02
            states[f"{name}_standardised"] = (states[name] - mean) / np.maximum(spread, least)
        if name in ("store12", "store50", "store200", "drained100", "dried12", "dried50", "dried200"):
            traits |= {f"{name}_mean": mean[:, 0], f"{name}_spread": spread[:, 0]}
    for name in ("store50", "drained100", "heat7"):
        states[f"{name}_departure"] = states[name] - seasonal_course(states[name], day_of_year)
    return states, traits


def _radiation_states(weather: Mapping[str, Values], warm: Values, water: Values) -> dict[str, Values]:
    """What radiation, humidity and wind add, their gaps filled with the days before."""
    shortwave, longwave, humidity, wind = (
        np.where(np.isfinite(weather[name]), weather[name], exponential_mean(weather[name], 10.0)) for name in FORCINGS
    )
    saturated = 0.6108 * np.exp(17.27 * warm / (warm + 237.3))  # kPa
    vapour, slope = humidity * 95.0 / 0.622, 4098.0 * saturated / (warm + 237.3) ** 2
    net = np.maximum(0.8 * shortwave + longwave - 5.67e-8 * 0.97 * (warm + 273.15) ** 4, 0.0) * 0.0864
    demand = np.where(warm > 0.0, 1.26 * slope / (slope + 0.066) * net / 2.45, 0.0)
    courses = {
        "shortwave": shortwave / 100.0,
        "longwave": longwave / 100.0,
        "humidity": humidity * 100.0,
        "wind": wind / 3.0,
        "dry_air": np.maximum(saturated - vapour, 0.0),
        "moist_air": np.clip(vapour / saturated, 0.0, 1.2),
        "radiation_demand": demand,
    }
    states = courses | {f"{name}{d}": exponential_mean(x, d) for name, x in courses.items() for d in (3, 15)}
    return states | {f"dried{mm}": _stores(water, demand, mm) for mm in STORES_MM}


@dataclass(frozen=True)
class TemporalConfig:
    """Sizes of an ensemble of networks that see all `channels` of a day, and of recurrent ones that see some of every day before.

    `members` and `recurrent_members` count them, `width` is of their layers, of which `keep` is kept in training. `recurrent` are
    numbers of channels; `share` is the recurrent networks' part in the mean. `scale` is the unit of the output, m3 m-3;
    standardised inputs are clipped to plus and minus `limit`.
    """

    channels: int
    members: int = 8
    width: int = 64
    keep: float = 0.9
    recurrent: tuple[int, ...] = ()
    recurrent_members: int = 0
    share: float = 0.35
    scale: float = 0.06
    limit: float = 4.0


class Readout(nn.Module):
    """Standardised states of a day to the departure of soil moisture from the place's mean: two layers and a linear path."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        sizes = (config.channels, config.width, config.width)
        layers = [(nn.Linear(a, b), nn.SiLU(), nn.Dropout(1.0 - config.keep)) for a, b in itertools.pairwise(sizes)]
        self.layers = nn.Sequential(*(one for layer in layers for one in layer), nn.Linear(config.width, 1))
        self.linear = nn.Linear(config.channels, 1)
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(place, day, channel), missing 0, to (place, day), in units of the configuration's `scale`."""
        return (self.layers(x) + self.linear(x))[..., 0]


class Recurrent(nn.Module):
    """The same by a long short-term memory over the days of a series, from some of the channels; its forget gate starts open.

    Hochreiter and Schmidhuber 1997, Neural Comput. 9(8), 1735-1780, doi:10.1162/neco.1997.9.8.1735.
    """

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.seen, width = list(config.recurrent), config.width
        self.enter = nn.Sequential(nn.Linear(len(self.seen), width), nn.ReLU())
        self.memory = nn.LSTM(width, width, batch_first=True)
        self.leave = nn.Sequential(nn.Dropout(1.0 - config.keep), nn.Linear(width, 1))
        self.memory.bias_ih_l0.data[width : 2 * width] = 3.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `Readout.forward`, of consecutive days."""
        return self.leave(self.memory(self.enter(x[..., self.seen]))[0])[..., 0]


class TemporalEnsemble(nn.Module):
    """Departures from a place's mean by several networks, and ridge regressions of the place's level and spread.

    ``centre`` and ``spread`` (channel,) standardise; ``level`` and ``amplitude`` (channel + 1,) are weights and a constant.
    """

    config_class = TemporalConfig

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(Readout(config) for _ in range(config.members))
        self.members.extend(Recurrent(config) for _ in range(config.recurrent_members))
        for name, size in {"centre": 0, "spread": 0, "level": 1, "amplitude": 1}.items():
            self.register_buffer(name, torch.zeros(config.channels + size))

    def standardise(self, x: torch.Tensor) -> torch.Tensor:
        """Native states (..., channel) to clipped standardised ones; missing becomes 0, the middle."""
        if x.shape[-1] != self.config.channels:
            what = "other states than it was trained on"
            raise ContractError("TemporalEnsemble", what, got=x.shape[-1], expected=self.config.channels)
        limit = self.config.limit
        return torch.nan_to_num(((x - self.centre) / self.spread).clamp(-limit, limit), nan=0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Native states (place, day, channel) to level, amplitude and mean departure, m3 m-3, of shape (place, day, 3)."""
        x, count = self.standardise(x), self.config.members
        departure = torch.stack([member(x) for member in self.members])
        mean = departure[:count].mean(0)
        if self.config.recurrent_members:
            mean = mean + self.config.share * (departure[count:].mean(0) - mean)
        lasting = [x @ one[:-1] + one[-1] for one in (self.level, self.amplitude)]
        return torch.stack([*lasting, self.config.scale * mean], dim=-1)
