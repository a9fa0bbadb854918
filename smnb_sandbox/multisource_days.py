"""Two years of weather and water at a site: rain, temperature, and how wet fast and slow soils are, day by day.

The soil's water is a bucket's. Two buckets, of a sandier and a heavier soil than the site's, see the rain that falls on the
site, and two more the rain of the country around it, which is what coarse products see. A pixel's soil moisture is that of
a mixture of the first two, between its own wilting point and field capacity, wetter in hollows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from smnb_sandbox.multisource_land import SiteLand
from smnb_sandbox.multisource_sites import FIRST_DAY, LAST_DAY, SPIN_UP_DAYS, Site, cloud_gaussian
from smnb_sandbox.noise import lagged, stream
from smnb_sandbox.regions import monthly
from smnb_sandbox.world import bucket_step, rain_amount, soil_limits

Array = NDArray[np.float64]

BEGIN = FIRST_DAY - timedelta(days=SPIN_UP_DAYS)
COUNT = SPIN_UP_DAYS + (LAST_DAY - FIRST_DAY).days + 2
#: Clay and sand of the fast and the slow soil beside the site's, and their clays' distance, over which pixels are mixtures.
_FAST, _SLOW = (-0.09, 0.14), (0.10, -0.10)
#: Days of the mean that vegetation follows.
_VEGETATION_DAYS = 30.0
#: How much more or less of a day's rain falls on the site than on the country around it: standard deviation of the logarithm.
_CATCH = 0.75
#: What hollows and unexplained detail add to the relative wetness of a soil that is half full.
_HOLLOW, _DETAIL = 0.13, 0.10
_MARGIN = 64


def liquid_share(celsius: NDArray) -> NDArray:
    """Share of the soil's water that is liquid, which is all that radar and probes notice."""
    return np.where(celsius < 0.0, np.clip(0.18 + 0.82 * np.exp(np.minimum(celsius, 0.0) / 1.2), 0.0, 1.0), 1.0)


@dataclass(frozen=True)
class State:
    """A site at one time."""

    fast: float
    slow: float
    """Relative wetness of the two soils: 0 at the wilting point, 1 at field capacity."""
    vegetation: float
    """Anomaly of the relative wetness of the month before."""
    celsius: float
    """Of the soil at 5 cm."""
    day_of_year: float


class SiteDays:
    """A site's days, each value at 6 a.m. local solar time; from `BEGIN`.

    Attributes
    ----------
    rain : ndarray
        mm, of the day that ends then.
    wetness : ndarray
        (day, 4): relative wetness of the fast and slow soil under the site's rain, and under the country's.
    celsius : ndarray
        Daily mean of the soil's temperature.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self.site, self.seed, region = site, seed, site.region
        rng = stream(seed, "multisource weather", site.number)
        self.day_of_year = (np.arange(COUNT) + BEGIN.timetuple().tm_yday) % 365.25
        noise = rng.standard_normal((2, COUNT))
        # clouds are the same for every seed, rain falls from them
        storms = 0.6 * cloud_gaussian(site) + 0.8 * lfilter([1.0], [1.0, -0.4], noise[0] * np.sqrt(1.0 - 0.4**2))
        wet_days, amounts = monthly(region.wet_days, self.day_of_year), monthly(region.rain, self.day_of_year)
        country = rain_amount(storms, wet_days, amounts).astype(np.float64)
        self.rain = country * np.exp(_CATCH * rng.standard_normal(COUNT) - 0.5 * _CATCH**2)
        anomaly = lfilter([1.0], [1.0, -0.75], 2.5 * noise[1] * np.sqrt(1.0 - 0.75**2))
        self.celsius = monthly(region.temperature, self.day_of_year) + anomaly - 1.0 * (self.rain > 2.0)
        self._fill(country)

    def _fill(self, country: Array) -> None:
        region = self.site.region
        soils = np.array([_FAST, _SLOW, _FAST, _SLOW])
        clay = np.clip(region.clay + soils[:, 0], 0.04, 0.55)
        sand = np.clip(region.sand + soils[:, 1], 0.05, 0.92 - clay)
        wilting, capacity, porosity = soil_limits(clay, sand)
        level = monthly(region.wetness, self.day_of_year)
        floor = wilting * np.clip(0.35 + 2.5 * level[:, None], 0.35, 1.0)
        equilibrium = floor + level[:, None] * (capacity - floor)
        drying = 2.0 + 14.0 * clay + 0.25 * np.clip(27.0 - self.celsius, 0.0, 30.0)[:, None]
        # frozen ground neither takes up water nor loses any
        thawed = (self.celsius > -1.0).astype(np.float64)
        rain = np.stack([self.rain, self.rain, country, country], axis=1) * thawed[:, None]
        moisture, filled = equilibrium[0].copy(), np.empty((COUNT, 4))
        for day in range(COUNT):
            days = 1.0 if thawed[day] else 0.1
            moisture = bucket_step(moisture, rain[day], equilibrium[day], capacity, porosity, drying[day], days)
            filled[day] = moisture
        self.wetness = (filled - wilting) / (capacity - wilting)
        mean = 0.5 * (self.wetness[:, 0] + self.wetness[:, 1])
        share = 1.0 / _VEGETATION_DAYS
        month = lagged(mean, share, mean[:SPIN_UP_DAYS].mean())
        self._vegetation = month - month.mean()
        #: m3 m-3 in the mean soil of the country around, which is not the site's.
        limits = soil_limits(np.float64(region.clay), np.float64(region.sand))
        self.country_moisture = np.maximum(limits[0] + (limits[1] - limits[0]) * self.wetness[:, 2:].mean(axis=1), 0.02)

    def position(self, times: datetime | NDArray[np.datetime64]) -> NDArray[np.float64]:
        """Times in days from the first value, shape of `times`."""
        stamps = np.asarray(times.replace(tzinfo=None) if isinstance(times, datetime) else times, "datetime64[s]")
        days = (stamps - np.datetime64(BEGIN, "s")).astype(np.float64) / 86400.0
        return days - (6.0 - self.site.lon / 15.0) / 24.0

    def between(self, values: Array, times: datetime | NDArray[np.datetime64]) -> NDArray[np.float64]:
        """Interpolate a daily series."""
        return np.interp(self.position(times), np.arange(COUNT), values)

    def soil_celsius(self, times: datetime | NDArray[np.datetime64]) -> NDArray[np.float64]:
        """Soil temperature at 5 cm: warmest at 5 p.m. local solar time, eleven hours after the daily values."""
        phase = np.cos(2.0 * np.pi * (self.position(times) - 11.0 / 24.0))
        mean = self.between(self.celsius, times)
        # under snow the soil stays near zero
        mean = np.where(mean < -1.0, -1.0 + 0.45 * (mean + 1.0), mean)
        return mean + 0.45 * self.site.region.diurnal_half_range * phase

    def state(self, time: datetime) -> State:
        """The site at a time, UTC."""
        fast, slow = (float(self.between(self.wetness[:, i], time)) for i in (0, 1))
        doy = time.astimezone(UTC).timetuple().tm_yday
        vegetation = float(self.between(self._vegetation, time))
        return State(fast, slow, vegetation, float(self.soil_celsius(time)), float(doy))

    def smoothed_country(self, days: float) -> Array:
        """Soil moisture of the country around below the surface: lagged and smoothed, m3 m-3."""
        share = 1.0 - np.exp(-1.0 / days)
        series = self.country_moisture
        return lagged(series, share, series[:SPIN_UP_DAYS].mean())


class SiteSimulation:
    """A site in memory: its days, and its land of so many pixels a side and a margin around them."""

    def __init__(self, site: Site, seed: int, size: int) -> None:
        self.site, self.seed = site, seed
        self.land = SiteLand(site, seed, size + 2 * _MARGIN)
        self.days = SiteDays(site, seed)

    @cached_property
    def _mixture(self) -> NDArray[np.float32]:
        """Share of the slow soil."""
        span = _SLOW[0] - _FAST[0]
        return np.clip((self.land.clay_fraction - self.site.region.clay - _FAST[0]) / span, 0.0, 1.0)

    @cached_property
    def _relief(self) -> NDArray[np.float32]:
        return np.float32(_HOLLOW) * self.land.hollow + np.float32(_DETAIL) * self.land.detail

    def soil_moisture(self, state: State, cut: tuple[slice, slice]) -> NDArray[np.float32]:
        """Soil moisture of the top 5 cm, m3 m-3, frozen water included, (row, col)."""
        land, slow = self.land, self._mixture[cut]
        wetness = (1.0 - slow) * np.float32(state.fast) + slow * np.float32(state.slow)
        # dry soils differ less, and saturated ones do
        wetness = wetness + self._relief[cut] * np.clip(0.35 + wetness, 0.2, 1.3)
        moisture = land.wilting_point[cut] + (land.field_capacity[cut] - land.wilting_point[cut]) * wetness
        return np.clip(moisture, 0.02, land.porosity[cut] - 0.01).astype(np.float32)

    def ndvi(self, state: State, cut: tuple[slice, slice]) -> NDArray[np.float32]:
        """NDVI of the canopy."""
        return self.land.ndvi(state.day_of_year, state.vegetation, cut)

    def at(self, rows: NDArray[np.intp], cols: NDArray[np.intp], times: NDArray[np.datetime64]) -> Array:
        """Soil moisture of pixels (of the land with its margin) at times, shape (time, pixel)."""
        land, days = self.land, self.days
        fast, slow = (days.between(days.wetness[:, i], times)[:, None] for i in (0, 1))
        share = self._mixture[rows, cols]
        wetness = (1.0 - share) * fast + share * slow
        wetness = wetness + self._relief[rows, cols] * np.clip(0.35 + wetness, 0.2, 1.3)
        low, high = land.wilting_point[rows, cols], land.field_capacity[rows, cols]
        return np.clip(low + (high - low) * wetness, 0.02, land.porosity[rows, cols] - 0.01)
