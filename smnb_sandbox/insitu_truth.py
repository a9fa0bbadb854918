"""The hidden hourly truth at the sandbox's stations: rain, temperature and soil moisture of 2011, of cells and of points.

A station's *cell* follows the gridded world on the days that it simulates, exactly at 00 UTC. Before and after, the same bucket
runs on rain drawn from the season's climate; a correction joins the two. The *point* has soil and rain of its own around its
cell's: that is the representativeness error.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from smnb_sandbox import world as ground
from smnb_sandbox.files import table
from smnb_sandbox.insitu_sites import Sensor, Station, place_stations
from smnb_sandbox.noise import Float64, autoregressive, by_hour, columns_at, lagged, stream

#: First and last day that is simulated, whatever part is written; the first month is spin-up.
START, END = date(2010, 12, 1), date(2011, 12, 31)
_DAYS = (END - START).days + 1
_RAMP_DAYS = 20
#: Memory (days) of soil moisture below 5 cm, by depth in m: an exponential filter of the surface.
_FILTER_DAYS = {0.1: 4.0, 0.1016: 4.0, 0.2: 9.0, 0.2032: 9.0, 0.5: 25.0, 1.0: 60.0}
_IRRIGATED = 20


class CellDays:
    """Keeps what the world's days, which come in order from the first on, say of the cells of its stations."""

    def __init__(self, world: ground.World, first: date) -> None:
        self.world, self.first, self.stations = world, first, place_stations(world)
        self.cells = np.array([s.cell for s in self.stations])
        self._days: list[Float64] = []

    def observe(self, state: ground.DayState) -> None:
        """Keep one day."""
        fields = (state.soil_moisture_start, state.soil_moisture_end, state.rain, state.temperature_anomaly)
        self._days.append(np.stack([f[self.cells] for f in fields]).astype(np.float64))

    @property
    def values(self) -> Float64:
        """Shape (day, 4, station): soil moisture at 00 and 24 UTC, rain (mm), temperature anomaly (K)."""
        return np.stack(self._days)


@dataclass(frozen=True)
class PointTruth:
    """Hourly series from the day `begin`; the value of an hour holds at its beginning. Shape (hour, station)."""

    stations: list[Station]
    cell_moisture: Float64  # m3 m-3, of the station's 0.25 degree cell, 0-5 cm
    point_moisture: Float64  # m3 m-3, at the station, 0-5 cm
    cell_rain: Float64  # mm, in the hour that begins
    point_rain: Float64  # mm, rain only
    irrigation: Float64  # mm
    soil_temperature: Float64  # degree C, at 5 cm
    air_temperature: Float64  # degree C
    begin: date = START

    def hours(self, first: date, last: date) -> slice:
        """Indices of the hours of the days from `first` to `last`."""
        return slice(24 * (first - self.begin).days, 24 * ((last - self.begin).days + 1))

    def times(self, first: date, last: date) -> NDArray[np.datetime64]:
        """UTC hours of the days from `first` to `last`."""
        return np.arange(first.isoformat(), (last + timedelta(days=1)).isoformat(), dtype="datetime64[h]")

    def at_depth(self, depth: float) -> Float64:
        """Soil moisture at a depth (m), shape (hour, station): the surface's, or lagged and smoothed below 5 cm."""
        if depth < 0.052:
            return self.point_moisture
        share = 1.0 - np.exp(-1.0 / 24.0 / _FILTER_DAYS[depth])
        surface = self.point_moisture
        return np.clip(lagged(surface, share, surface[: 24 * 30].mean(axis=0)) + 0.015 + 0.02 * depth, 0.01, 0.55)

    def of_sensor(self, sensor: Sensor) -> Float64:
        """Soil moisture that a perfect sensor would read, shape (hour,)."""
        return self.at_depth(sensor.depth_to)[:, sensor.station_index]


def around_cells(
    rng: np.random.Generator, cell: Float64, at: Float64, memory: float, always: float, passing: float, most: Float64
) -> Float64:
    """Soil moisture of points in cells, (hour, station), m3 m-3: what each differs by, `always` and in `passing` for some days.

    Both are standard deviations at a cell's 0.2, with the correlation `memory` from day to day; `at` are the hours in days,
    `most` what the points hold at most.
    """
    size = cell.shape[1]
    slow = columns_at(at, autoregressive(rng, memory, (int(np.ceil(at[-1])) + 1, size)))
    level = np.clip(cell / 0.2, 0.25, 1.4)
    return np.clip(cell + level * (always * rng.standard_normal(size) + passing * slow), 0.01, most)


def _season(world: ground.World, stations: list[Station], cells: NDArray[np.intp]) -> dict[str, Float64]:
    """Climate of each day and station, shape (day, station); in mid-July what the world has."""
    day = np.arange(_DAYS) + START.timetuple().tm_yday
    january = (0.5 - 0.5 * np.cos(2.0 * np.pi * (day - 198.0) / 365.25))[:, None]
    north = np.array([s.lat > 0 for s in stations])
    kinds = np.array([ground.CLIMATE[s.climate] for s in stations]).T
    # the class table has July north and south of the equator: the other one stands for January
    rain_july, rain_january = np.where(north, kinds[0], kinds[1]), np.where(north, kinds[1], kinds[0])
    wet_july, wet_january = np.where(north, kinds[3], kinds[4]), np.where(north, kinds[4], kinds[3])
    probability = world.rain_probability[cells] * (rain_january / rain_july) ** january
    span = (world.field_capacity - world.wilting_point)[cells]
    equilibrium = world.equilibrium[cells] + january * (wet_january - wet_july) * span
    low, high = 0.35 * world.wilting_point[cells], 1.05 * world.field_capacity[cells]
    winter_k = table("climate")["winter_k"]
    swing = np.array([winter_k.get(s.climate[:2], 15.0) for s in stations])
    temperature = world.mean_temperature[cells] + january * np.where(north, -swing, 0.35 * swing) - 273.15
    return {
        "probability": np.clip(probability, 0.004, 0.85),
        "intensity": np.broadcast_to(world.rain_intensity[cells], probability.shape),
        "equilibrium": np.clip(equilibrium, low, high),
        "temperature": temperature,
        "winter": np.where(north, january, 1.0 - january),
    }


def _hourly_rain(rng: np.random.Generator, daily: Float64) -> Float64:
    """Give the rain of each day to a storm of two to seven hours that stays within the day."""
    hour = np.arange(24.0)[None, :, None]
    half = rng.uniform(1.0, 3.5, size=(daily.shape[0], 1, daily.shape[1]))
    centre = rng.uniform(4.0, 19.0, size=half.shape)
    weight = np.clip(1.0 - np.abs(hour + 0.5 - centre) / (half + 0.5), 0.0, None)
    weight /= weight.sum(axis=1, keepdims=True)
    return (daily[:, None] * weight).reshape(-1, daily.shape[1])


def _daily_weather(
    seed: int, season: dict[str, Float64], observed: CellDays, same: NDArray[np.intp]
) -> tuple[Float64, Float64]:
    """Rain (mm) and temperature anomaly (K) of each day and station: the world's on its days, drawn on the others."""
    shape = season["probability"].shape
    rng = stream(seed, "insitu storms")
    gaussian = ground.in_spells(autoregressive(rng, 0.45, shape), autoregressive(rng, ground.SPELL_MEMORY, shape))
    rain = ground.rain_amount(gaussian, season["probability"], season["intensity"]).astype(np.float64)
    anomaly = 2.5 * autoregressive(stream(seed, "insitu weather"), 0.75, shape) - 1.5 * (rain > 1.0)
    known = observed.values
    days = slice((observed.first - START).days, (observed.first - START).days + len(known))
    rain[days], anomaly[days] = known[:, 2], known[:, 3]
    # stations of one cell see one weather; the logarithm in the rain leaves negative zeros
    return rain[:, same] + 0.0, anomaly[:, same]


def _join(free: Float64, observed: CellDays, drydown_days: Float64) -> Float64:
    """Return the hourly correction that brings the free-running cells to the world's values at 00 UTC."""
    known = observed.values
    first = (observed.first - START).days
    target = np.concatenate([known[:, 0], known[-1:, 1]])
    knots = (target - free[24 * first : 24 * (first + len(target) - 1) + 1 : 24])[: len(target)]
    hour = np.arange(free.shape[0]) / 24.0 - first
    correction = columns_at(hour, knots)
    before = np.clip(1.0 + hour / _RAMP_DAYS, 0.0, 1.0)[:, None]
    after = np.exp(-np.clip(hour - (len(target) - 1), 0.0, None)[:, None] / drydown_days)
    return correction * before * after


def simulate_points(observed: CellDays) -> PointTruth:
    """Simulate the hourly truth of 2011 at the stations, from `START`, whatever part of it is written."""
    world, stations, cells, seed = observed.world, observed.stations, observed.cells, observed.world.seed
    _, head, inverse = np.unique(cells, return_index=True, return_inverse=True)
    same = head[inverse]
    season = {name: values[:, same] for name, values in _season(world, stations, cells).items()}
    rain, anomaly = _daily_weather(seed, season, observed, same)
    cell_rain = _hourly_rain(stream(seed, "insitu storm hours"), rain)[:, same]

    rng = stream(seed, "insitu points")
    count, hours = len(stations), cell_rain.shape[0]
    # a storm reaches the gauge more or less, or not at all; over many storms the point gets what the cell gets
    catch = np.exp(0.45 * rng.standard_normal((_DAYS, count)) - 0.10) * (rng.random((_DAYS, count)) > 0.06) / 0.94
    point_rain = cell_rain * catch.repeat(24, axis=0)
    irrigation = _irrigate(rng, stations, season, hours)

    clay, sand = np.array([[s.clay_fraction, s.sand_fraction] for s in stations]).T
    limits = ground.soil_limits(clay, sand)
    cell_limits = [v[cells].astype(np.float64) for v in (world.wilting_point, world.field_capacity, world.porosity)]
    relative = (season["equilibrium"] - cell_limits[0]) / (cell_limits[1] - cell_limits[0])
    exposure = rng.standard_normal(count)
    own = limits[0] + (relative * np.exp(0.10 * exposure)) * (limits[1] - limits[0])
    own = np.where(relative > 0.0, own, limits[0] * (1.0 + 0.8 * relative))
    own = np.maximum(own, 0.012)
    drydown = world.drydown_days[cells].astype(np.float64)
    cool = 0.5 * (season["winter"] * 12.0)
    state = _run_bucket(
        np.hstack([cell_rain, point_rain + irrigation]),
        np.hstack([season["equilibrium"], own]),
        np.concatenate([cell_limits[1], limits[1]]),
        np.concatenate([cell_limits[2], limits[2]]),
        np.hstack([drydown + cool, (drydown + cool) * np.exp(0.15 * rng.standard_normal(count))]),
    )
    correction = _join(state[:, :count], observed, drydown)
    cell_moisture = np.clip(state[:, :count] + correction, 0.004, cell_limits[2])
    # vegetation and microrelief
    slow = by_hour(0.5 * autoregressive(rng, float(np.exp(-0.1)), (hours // 24 + 1, count)))
    slow = 0.02 * np.clip(cell_moisture / 0.2, 0.2, 1.0) * slow
    point_moisture = np.clip(state[:, count:] + correction + slow, 0.008, limits[2] - 0.01)
    air, soil = _temperatures(world, stations, season["temperature"] + anomaly, cells)
    return PointTruth(stations, cell_moisture, point_moisture, cell_rain, point_rain, irrigation, soil, air)


def _irrigate(rng: np.random.Generator, stations: list[Station], season: dict[str, Float64], hours: int) -> Float64:
    """Water given to irrigated cropland at night, in the warm season, every week or so; the cell does not see it."""
    water = np.zeros((hours, len(stations)))
    for i, station in enumerate(stations):
        draw = rng.random(_DAYS)
        if station.land_cover == _IRRIGATED:
            days = np.flatnonzero((draw < 0.14) & (season["winter"][:, i] < 0.45))
            local = round(22.0 - station.lon / 15.0) % 24
            for hour in range(4):
                water[np.minimum(24 * days + (local + hour) % 24, hours - 1), i] = 4.5
    return water


def _run_bucket(rain: Float64, equilibrium: Float64, capacity: Float64, porosity: Float64, drydown: Float64) -> Float64:
    """Step the bucket hour by hour; `equilibrium` and `drydown` are daily."""
    result = np.empty_like(rain)
    moisture = equilibrium[0].copy()
    for hour in range(rain.shape[0]):
        result[hour] = moisture
        day = hour // 24
        moisture = ground.bucket_step(
            moisture, rain[hour], equilibrium[day], capacity, porosity, drydown[day], 1.0 / 24.0
        )
    return result


def _temperatures(
    world: ground.World, stations: list[Station], daily: Float64, cells: NDArray[np.intp]
) -> tuple[Float64, Float64]:
    """Air and 5 cm soil temperature by hour: daily means between noons, and the sun; the soil lags and is damped."""
    hours = np.arange(24 * _DAYS)
    lon = np.array([s.lon for s in stations])
    mean = columns_at(hours / 24.0 - 0.5, daily)
    local = (hours[:, None] + lon / 15.0) / 24.0
    half_range = world.diurnal_half_range[cells].astype(np.float64)
    air = mean - 0.5 + 0.75 * half_range * np.cos(2.0 * np.pi * (local - 15.0 / 24.0))
    slow = ground.under_snow(lagged(mean, 1.0 - np.exp(-1.0 / 36.0)))
    return air, slow + 0.45 * half_range * np.cos(2.0 * np.pi * (local - 17.0 / 24.0))
