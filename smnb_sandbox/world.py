"""The hidden truth of the sandbox: land, climate, texture, vegetation, weather and soil moisture of July 2011.

Everything is simulated on the soil cells of a global grid day by day from a spin-up in June, whatever part of it is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr

from smnb.contract import ParameterError, plain
from smnb.grids.koppen import KOPPEN_NAMES, OCEAN, koppen_codes, land_fraction
from smnb_sandbox.files import table
from smnb_sandbox.noise import CorrelatedField, DriftingField, Float32, stream

FIRST_DAY, LAST_DAY = date(2011, 7, 1), date(2011, 7, 31)
SPIN_UP_DAYS = 25
SPELL_MEMORY = 0.97  # of wet and dry spells, from day to day

#: What there is by Köppen class (``data/climate.yaml``), and the names of its numbers.
CLIMATE: dict[str, tuple[float, ...]] = table("climate")["classes"]
_COLUMNS: tuple[str, ...] = table("climate")["columns"]


@dataclass(frozen=True)
class DayState:
    """What one UTC day holds on the soil cells."""

    day: date
    soil_moisture_start: Float32  # m3 m-3 at 00 UTC of the day
    soil_moisture_end: Float32  # m3 m-3 at 24 UTC
    rain: Float32  # mm in the day
    temperature_anomaly: Float32  # K, of the daily mean

    @property
    def soil_moisture(self) -> Float32:
        """Daily mean, m3 m-3."""
        return 0.5 * (self.soil_moisture_start + self.soil_moisture_end)


def check_seed(who: str, seed: int) -> int:
    """Return the seed, or raise `ParameterError` unless it is a non-negative integer."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ParameterError(who, "seed is not a seed", got=seed, expected=plain("a non-negative integer"))
    return int(seed)


def soil_limits(clay: NDArray, sand: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Wilting point, field capacity and porosity (m3 m-3) of soils by their clay and sand fractions (0..1)."""
    silt = 1.0 - clay - sand
    return 0.015 + 0.26 * clay + 0.03 * silt, 0.080 + 0.42 * clay + 0.22 * silt, 0.41 + 0.12 * clay + 0.06 * silt


def rain_amount(gaussian: NDArray, probability: NDArray, intensity: NDArray) -> Float32:
    """Turn standard Gaussian values into rain (mm): wet above the quantile of `probability`, exponential amounts."""
    share = np.clip((1.0 - ndtr(gaussian)) / probability, 1e-6, 1.0)
    return (-np.log(share) * intensity).astype(np.float32)


def in_spells(storms: NDArray, spells: NDArray) -> NDArray:
    """Standard Gaussian values that rain falls from: half of their variance is that of `spells`, wet or dry for weeks."""
    return np.sqrt(0.5) * (storms + spells)


def bucket_step(
    moisture: NDArray,
    rain: NDArray,
    equilibrium: NDArray,
    field_capacity: NDArray,
    porosity: NDArray,
    drydown_days: NDArray,
    days: float = 1.0,
) -> NDArray:
    """Advance soil moisture (m3 m-3) of the top 5 cm: infiltration of rain (mm), fast drainage, exponential drydown.

    A day in 24 steps ends near where one step ends, not at the same value.
    """
    gain = rain / 60.0 * np.clip(1.2 * (1.0 - moisture / porosity), 0.0, 1.0)
    wet = np.minimum(moisture + gain, porosity)
    excess = np.maximum(wet - field_capacity, 0.0)
    wet = wet - (1.0 - 0.8**days) * excess
    return equilibrium + (wet - equilibrium) * np.exp(-days / drydown_days)


def dries_to(wilting: NDArray, capacity: NDArray, climate: NDArray | float, wetness: NDArray) -> NDArray:
    """Soil moisture that a wetness (0 to 1) means: up to field capacity, in dry climates from below the wilting point on."""
    floor = wilting * np.clip(0.35 + 2.5 * climate, 0.35, 1.0)
    return floor + wetness * (capacity - floor)


def under_snow(celsius: NDArray) -> NDArray:
    """Temperature of the soil: the heat of freezing and the snow keep it near zero."""
    return np.where(celsius < -1.0, -1.0 + 0.45 * (celsius + 1.0), celsius)


def liquid_share(celsius: NDArray) -> NDArray:
    """Share of the soil's water that is liquid, which is all that radar and probes notice."""
    return np.where(celsius < 0.0, np.clip(0.18 + 0.82 * np.exp(np.minimum(celsius, 0.0) / 1.2), 0.0, 1.0), 1.0)


class World:
    """A seeded global world; static fields are vectors over the soil cells (`soil_cells` are their flat indices).

    180 must be a multiple of the resolution (degrees); a `ParameterError` says if it is not.

    >>> world = World(seed=1, resolution=3.0)
    >>> world.shape, bool(world.clay_fraction.min() > 0)
    ((60, 120), True)
    """

    def __init__(self, seed: int, resolution: float = 0.25) -> None:
        self.seed = check_seed("World", seed)
        rows = round(180.0 / resolution) if resolution > 0 else 0
        if rows < 10 or abs(rows * resolution - 180.0) > 1e-9:
            raise ParameterError("World", "resolution does not divide 180 degrees", got=resolution)
        self.resolution, self.shape = float(resolution), (rows, 2 * rows)
        self.lat = (np.arange(rows) + 0.5) * resolution - 90.0
        self.lon = (np.arange(2 * rows) + 0.5) * resolution - 180.0
        self.land_fraction = land_fraction(self.lat, self.lon)
        climate, ice = self._climate()
        self.ice_sheet = (ice > 0.5) & (self.land_fraction > 0)
        self.soil_cells = np.flatnonzero((self.land_fraction > 0) & ~self.ice_sheet)
        self.soil_lat = np.repeat(self.lat, 2 * rows)[self.soil_cells].astype(np.float32)
        self.soil_lon = np.tile(self.lon, rows)[self.soil_cells].astype(np.float32)
        self._static({name: field.ravel()[self.soil_cells] for name, field in climate.items()})

    def _climate(self) -> tuple[dict[str, Float32], Float32]:
        """Average the class table over the land pixels in and around each cell: climates grade into one another."""
        rows, columns = self.shape
        offsets = np.array([-1.0, 0.0, 1.0]) * self.resolution / 3.0
        sub_lat = (self.lat[:, None] + offsets).ravel()
        sub_lon = (self.lon[:, None] + offsets).ravel()
        codes = koppen_codes(sub_lat[:, None], sub_lon[None, :])
        smooth_cells = 0.6 / self.resolution

        def cell_sum(table: list[float]) -> Float32:
            values = np.asarray(table, dtype=np.float32)[codes]
            total = values.reshape(rows, 3, columns, 3).sum(axis=(1, 3))
            total = gaussian_filter1d(total, smooth_cells, axis=0, mode="nearest")
            return gaussian_filter1d(total, smooth_cells, axis=1, mode="wrap")

        land = cell_sum([float(c != OCEAN) for c in range(OCEAN + 1)])
        empty = land < 1e-4  # an islet between the sampled pixels gets the climate of a wet oceanic one
        land[empty] = 1.0
        result = {}
        for i, name in enumerate(_COLUMNS):
            table = [CLIMATE[k][i] if k in CLIMATE else 0.0 for k in KOPPEN_NAMES]
            result[name] = np.where(empty, CLIMATE["Cfb"][i], cell_sum(table) / land).astype(np.float32)
        ice = cell_sum([float(k == "EF") for k in KOPPEN_NAMES]) / land
        return result, np.where(empty, 0.0, ice)

    def field(self, name: str, length_km: float) -> Float32:
        """Draw a static random field of unit variance on the soil cells, by name."""
        return self.grid_field(name, length_km).ravel()[self.soil_cells]

    def grid_field(self, name: str, length_km: float) -> Float32:
        """Draw a static random field of unit variance on the whole grid, by name."""
        base = CorrelatedField(self.lat, self.shape[1], length_km)
        return base.sample(stream(self.seed, name))

    def to_grid(self, vector: Float32, fill: float = np.nan) -> Float32:
        """Spread a vector over the soil cells on the grid (lat ascending, lon from -180)."""
        grid = np.full(self.shape, fill, dtype=np.float32)
        grid.ravel()[self.soil_cells] = vector
        return grid

    def _static(self, climate: dict[str, Float32]) -> None:
        """Fix what does not change within the month."""
        north = 1.0 / (1.0 + np.exp(-self.soil_lat / 3.0))
        rain = (north * climate["rain_n"] + (1 - north) * climate["rain_s"]) * np.exp(0.25 * self.field("rain", 500))
        self.rain_probability = np.clip(rain, 0.004, 0.85).astype(np.float32)
        self.rain_intensity = climate["intensity"]
        coarse, fine = self.field("clay", 220), self.field("clay fine", 45)
        clay = np.clip(0.21 + climate["clay"] + 0.08 * coarse + 0.035 * fine, 0.03, 0.62)
        silt_share = np.clip(0.48 + 0.14 * self.field("silt", 250), 0.12, 0.85)
        self.clay_fraction = clay.astype(np.float32)
        self.sand_fraction = ((1.0 - clay) * (1.0 - silt_share)).astype(np.float32)
        self.wilting_point, self.field_capacity, self.porosity = soil_limits(self.clay_fraction, self.sand_fraction)

        wet = north * climate["wet_n"] + (1 - north) * climate["wet_s"]
        relief = self.field("wetness", 400) * (0.04 + 0.30 * wet) + self.field("wetness fine", 40) * (0.02 + 0.22 * wet)
        self.wetness = np.clip(wet + relief, 0.0, 1.05).astype(np.float32)
        self.equilibrium = dries_to(self.wilting_point, self.field_capacity, wet, self.wetness).astype(np.float32)

        growth = np.exp(0.30 * self.field("vegetation", 180) + 0.22 * self.field("vegetation fine", 45))
        self.vegetation_water_content = np.clip(climate["vegetation"] * growth, 0.0, 14.0).astype(np.float32)
        water = climate["water"] * np.exp(0.9 * self.field("open water", 60) - 0.4)
        self.open_water_fraction = np.clip(water, 0.0, 0.35).astype(np.float32)

        lat = self.soil_lat
        zonal = 300.5 - 0.0062 * np.abs(lat - 18.0) ** 2.0 * np.where(lat > 18.0, 1.0, 0.95)
        zonal = np.maximum(zonal, np.where(lat > 0, 274.0, 262.0))
        relief_k = 2.0 * self.field("temperature", 300)
        self.mean_temperature = (zonal + climate["offset"] + relief_k).astype(np.float32)
        self.diurnal_half_range = climate["diurnal"]
        drydown = 7.0 + 25.0 * self.clay_fraction + 0.5 * (300.0 - self.mean_temperature)
        self.drydown_days = np.clip(drydown, 5.0, 30.0).astype(np.float32)

    def surface_temperature(self, state: DayState, local_hour: float | None = None) -> Float32:
        """Temperature of the soil surface, K: the daily mean, or at a local solar hour (wet soil swings less)."""
        mean = self.mean_temperature + state.temperature_anomaly
        if local_hour is None:
            return mean
        span = self.field_capacity - self.wilting_point
        relative = np.clip((state.soil_moisture - self.wilting_point) / span, 0.0, 1.0)
        phase = np.float32(np.cos(2.0 * np.pi * (local_hour - 13.5) / 24.0))
        return mean + self.diurnal_half_range * (1.1 - 0.5 * relative) * phase

    def days(
        self, first: date = FIRST_DAY, last: date = LAST_DAY, spin_up_days: int = SPIN_UP_DAYS
    ) -> Iterator[DayState]:
        """Simulate day by day from `spin_up_days` before 1 July 2011; yields the days from `first` to `last`."""
        columns = self.shape[1]
        jet = 9.0 * np.exp(-(((np.abs(self.lat) - 45.0) / 18.0) ** 2)) - 5.0 * np.exp(-((self.lat / 16.0) ** 2))
        storms = DriftingField(CorrelatedField(self.lat, columns, 150.0), 0.55, jet)
        weather = DriftingField(CorrelatedField(self.lat, columns, 600.0), 0.75, jet)
        spells = DriftingField(CorrelatedField(self.lat, columns, 900.0), SPELL_MEMORY)
        # start from the long-term balance of rain and drying, which shortens the spin-up
        supply = self.rain_probability * self.rain_intensity / 60.0 * 0.5 * self.drydown_days
        moisture = np.minimum(self.equilibrium + 0.7 * supply, self.field_capacity).astype(np.float32)
        day = FIRST_DAY - timedelta(days=spin_up_days)
        while day <= last:
            rng = stream(self.seed, "weather", day.toordinal())
            falling = in_spells(storms.advance(rng), spells.advance(rng)).ravel()[self.soil_cells]
            rain = rain_amount(falling, self.rain_probability, self.rain_intensity)
            anomaly = 2.5 * weather.advance(rng).ravel()[self.soil_cells] - 1.5 * (rain > 1.0)
            soil = (self.equilibrium, self.field_capacity, self.porosity, self.drydown_days)
            after = bucket_step(moisture, rain, *soil).astype(np.float32)
            if day >= first:
                yield DayState(day, moisture, after, rain, anomaly.astype(np.float32))
            moisture, day = after, day + timedelta(days=1)
