"""A site in memory: its ground at 10 m (terrain, fields, soil, and what grows on them), and two years of weather and water.

Every field is a function of the place and the seed alone, whatever part of it is asked for. Two buckets, of a sandier and a
heavier soil than the site's, see the rain that falls on the site, and two more the country's, which is what coarse products see.
A pixel's soil moisture is that of a mixture of the first two, between its own wilting point and field capacity.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.spatial import cKDTree

from smnb_sandbox.files import table
from smnb_sandbox.multisource_sites import FIRST_DAY, LAST_DAY, MAP_SITE, PIXEL_M, SPIN_UP_DAYS, Site, cloud_gaussian
from smnb_sandbox.noise import Float32, Float64, autoregressive, lagged, stream
from smnb_sandbox.regions import monthly
from smnb_sandbox.world import SPELL_MEMORY, bucket_step, dries_to, in_spells, rain_amount, soil_limits, under_snow

_MAP_EXTENT, _EXTENT = 26_000.0, 10_000.0  # side of what can be asked for, m: around the map, and around other sites
_PARCEL_M = 210.0
_SPLINE_SPREAD = 0.4794  # standard deviation in two dimensions of white noise under a bicubic B-spline
BEGIN = FIRST_DAY - timedelta(days=SPIN_UP_DAYS)
COUNT = SPIN_UP_DAYS + (LAST_DAY - FIRST_DAY).days + 2
#: Clay and sand of the fast and the slow soil beside the site's, and their clays' distance, over which pixels are mixtures.
_FAST, _SLOW = (-0.09, 0.14), (0.10, -0.10)
_VEGETATION_DAYS = 30.0  # days of the mean that vegetation follows
#: How much more or less of a day's rain falls on the site than on the country around it: standard deviation of the logarithm.
_CATCH = 0.75
#: What hollows and unexplained detail add to the relative wetness of a soil that is half full.
_HOLLOW, _DETAIL = 0.13, 0.10
_MARGIN = 64


#: What can grow on a parcel, the rows of ``data/multisource.yaml``.
KINDS: tuple[dict[str, Any], ...] = table("multisource")["kinds"]


class _Lattice:
    """Gaussian noise of unit variance in a site's own metres, from a bicubic spline over a lattice of random numbers."""

    def __init__(self, site: Site, seed: int, extent: float) -> None:
        self.site, self.seed, self.extent = site, seed, extent

    def __call__(self, name: str, spacing: float, east: NDArray, north: NDArray) -> Float32:
        """Evaluate at the crossings of eastings and northings, shape (north, east)."""
        count = int(self.extent / spacing) + 5
        rng = stream(self.seed, f"multisource {name}", self.site.number)
        values = rng.standard_normal((count, count), dtype=np.float32)
        rows, cols = (self._weights(axis, spacing, count) for axis in (north, east))
        return rows @ values @ cols.T / np.float32(_SPLINE_SPREAD)

    def _weights(self, axis: NDArray, spacing: float, count: int) -> Float32:
        position = (axis + 0.5 * self.extent) / spacing + 1.0
        start = np.floor(position).astype(np.intp)
        t = position - start
        basis = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6.0
        matrix = np.zeros((axis.size, count), dtype=np.float32)
        for k in range(4):
            matrix[np.arange(axis.size), start + k - 1] = basis[k]
        return matrix


class SiteLand:
    """The ground of a site: (row, col) arrays of 10 m pixels, an even number along a side, north first, float32.

    `hollow` is topographic wetness, `detail` what nothing else explains; `kind` says which of `KINDS` a parcel holds, `colour` is
    the factor of the bare soil's reflectance.
    """

    def __init__(self, site: Site, seed: int, size: int) -> None:
        self.site, self.seed, self.size = site, seed, size
        self._noise = _Lattice(site, seed, _MAP_EXTENT if site.name == MAP_SITE else _EXTENT)
        offset = (np.arange(size) + 0.5 - size / 2) * PIXEL_M
        self.east, self.north = offset, -offset
        self._terrain()
        self._parcels()
        self._soil()
        self._vegetation()

    def cut(self, size: int) -> tuple[slice, slice]:
        """Rows and columns of a smaller square in the middle."""
        first = (self.size - size) // 2
        return slice(first, first + size), slice(first, first + size)

    def noise(self, name: str, spacing: float) -> Float32:
        """Draw a static field by name; `spacing` (m) is about the distance over which it changes."""
        return self._noise(name, spacing, self.east, self.north)

    def _terrain(self) -> None:
        region = self.site.region
        relief = 0.08 * region.relief  # the site's own hills rise a part of the region's
        octaves = {spacing: self.noise(f"relief {spacing}", spacing) for spacing in (3200, 1600, 800, 400, 200)}
        height = sum(np.float32(relief * (spacing / 3200) ** 0.9) * field for spacing, field in octaves.items())
        self.elevation = np.maximum(region.elevation + height, 1.0).astype(np.float32)
        self.slope_north, self.slope_east = (
            sign * np.gradient(self.elevation, PIXEL_M, axis=axis) for sign, axis in ((-1.0, 0), (1.0, 1))
        )
        self.hollow = (-(octaves[400] + octaves[200]) / np.float32(np.sqrt(2.0))).astype(np.float32)

    def _parcels(self) -> None:
        """Fields: each pixel belongs to the nearest of a lattice of jittered points, parcels of 100 to 300 m."""
        extent, region = self._noise.extent, self.site.region
        count = int(extent / _PARCEL_M)
        rng = stream(self.seed, "multisource parcels", self.site.number)
        corner = (np.arange(count) + 0.5) * _PARCEL_M - 0.5 * count * _PARCEL_M
        points = np.stack(np.meshgrid(corner, corner), axis=-1).reshape(-1, 2)
        points = points + rng.uniform(-0.42, 0.42, points.shape) * _PARCEL_M
        half = self.size * PIXEL_M / 2 + 2 * _PARCEL_M
        near = np.flatnonzero((np.abs(points) < half).all(axis=1))
        pixels = np.stack(np.meshgrid(self.east, self.north), axis=-1).reshape(-1, 2)
        _, nearest = cKDTree(points[near]).query(pixels)
        self.parcel = near[nearest].reshape(self.size, self.size).astype(np.int32)
        # draws for every parcel there can be, so that none depends on the size
        of_class = table("multisource")["shares"]
        shares = sum(share * np.array(of_class.get(code, of_class[10])) for code, share in region.cover)
        edges = np.cumsum(shares) / np.sum(shares)
        kind = np.minimum(np.searchsorted(edges, rng.random(len(points))), len(KINDS) - 1).astype(np.uint8)
        self.kind = kind[self.parcel]
        self._of_parcel = rng.standard_normal((5, len(points))).astype(np.float32)

    def own(self, number: int) -> Float32:
        """One of five standard normal properties of the parcels."""
        return self._of_parcel[number][self.parcel]

    def _soil(self) -> None:
        region = self.site.region
        offset = stream(self.seed, "multisource soil", self.site.number).standard_normal(2)
        clay = region.clay + 0.05 * offset[0] + 0.04 * self.noise("clay", 1500.0) + 0.015 * self.own(0)
        self.clay_fraction = np.clip(clay, 0.04, 0.52).astype(np.float32)
        share = region.sand / (1.0 - region.clay) + 0.07 * offset[1] + 0.06 * self.noise("sand", 1200.0)
        self.sand_fraction = ((1.0 - self.clay_fraction) * np.clip(share, 0.08, 0.94)).astype(np.float32)
        limits = soil_limits(self.clay_fraction, self.sand_fraction)
        self.wilting_point, self.field_capacity, self.porosity = (v.astype(np.float32) for v in limits)
        self.detail = (0.7 * self.noise("wetness", 90.0) + 0.7 * self.noise("wetness wide", 600.0)).astype(np.float32)
        dark = stream(self.seed, "multisource colour", self.site.number).standard_normal()
        self.colour = np.exp(0.12 * dark + 0.08 * self.own(1) + 0.05 * self.noise("colour", 300.0)).astype(np.float32)

    def of_kind(self, name: str) -> Float32:
        """A property of the kinds by pixel."""
        return np.array([kind[name] for kind in KINDS], dtype=np.float32)[self.kind]

    def _vegetation(self) -> None:
        rough = 1.3 * stream(self.seed, "multisource roughness", self.site.number).standard_normal() - 0.9
        self.rms_height_cm = (self.of_kind("rms_height_cm") * np.exp(rough + 0.16 * self.own(2))).astype(np.float32)
        growth = self.site.region.greenness * np.exp(0.10 * self.own(3) + 0.05 * self.noise("growth", 60.0))
        self._low = self.of_kind("ndvi_low")
        self._rise = ((self.of_kind("ndvi_high") - self._low) * growth).astype(np.float32)
        peak = self.site.region.greenness_peak + self.of_kind("peak_shift") + 7.0 * self.own(4)
        self._peak = peak.astype(np.float32)
        self._width, self._response = self.of_kind("width"), self.of_kind("response")

    def ndvi(self, day_of_year: float, wetness_anomaly: float, cut: tuple[slice, slice]) -> Float32:
        """NDVI of the canopy on a day; an anomaly of the month's relative wetness makes it greener or less green."""
        phase = (day_of_year - self._peak[cut] + 182.6) % 365.25 - 182.6
        season = np.exp(-0.5 * (phase / self._width[cut]) ** 2)
        change = self._response[cut] * np.float32(np.clip(wetness_anomaly, -0.6, 0.6))
        return np.clip(self._low[cut] + self._rise[cut] * season + change, 0.05, 0.92).astype(np.float32)


@dataclass(frozen=True)
class State:
    """A site at one time."""

    fast: float
    slow: float  # relative wetness of the two soils: 0 at the wilting point, 1 at field capacity
    vegetation: float  # anomaly of the relative wetness of the month before
    celsius: float  # of the soil at 5 cm
    day_of_year: float
    roughness: float = 1.0  # factor of the rms height that the radar sees


class SiteDays:
    """A site's days, each value at 6 a.m. local solar time, from `BEGIN`: `rain` (mm), the soil's `celsius`, and `wetness`.

    The latter is (day, 4): relative wetness of the fast and slow soil under the site's rain, and under the country's.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self.site, self.seed, region = site, seed, site.region
        rng = stream(seed, "multisource weather", site.number)
        self.day_of_year = (np.arange(COUNT) + BEGIN.timetuple().tm_yday) % 365.25
        noise = rng.standard_normal((2, COUNT))
        # clouds are the same for every seed, rain falls from them
        storms = 0.6 * cloud_gaussian(site) + 0.8 * lfilter([1.0], [1.0, -0.4], noise[0] * np.sqrt(1.0 - 0.4**2))
        storms = in_spells(storms, autoregressive(rng, SPELL_MEMORY, (COUNT,)))
        wet_days, amounts = monthly(region.wet_days, self.day_of_year), monthly(region.rain, self.day_of_year)
        country = rain_amount(storms, wet_days, amounts).astype(np.float64)
        self.rain = country * np.exp(_CATCH * rng.standard_normal(COUNT) - 0.5 * _CATCH**2)
        anomaly = lfilter([1.0], [1.0, -0.75], 2.5 * noise[1] * np.sqrt(1.0 - 0.75**2))
        self.celsius = monthly(region.temperature, self.day_of_year) + anomaly - 1.0 * (self.rain > 2.0)
        self._roughness = autoregressive(rng, SPELL_MEMORY, (COUNT,))
        self._fill(country)

    def _fill(self, country: Float64) -> None:
        region = self.site.region
        soils = np.array([_FAST, _SLOW, _FAST, _SLOW])
        clay = np.clip(region.clay + soils[:, 0], 0.04, 0.55)
        sand = np.clip(region.sand + soils[:, 1], 0.05, 0.92 - clay)
        wilting, capacity, porosity = soil_limits(clay, sand)
        level = monthly(region.wetness, self.day_of_year)
        equilibrium = dries_to(wilting, capacity, level[:, None], level[:, None])
        drying = 5.0 + 35.0 * clay + 0.6 * np.clip(27.0 - self.celsius, 0.0, 30.0)[:, None]
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

    def position(self, times: datetime | NDArray[np.datetime64]) -> Float64:
        """Times in days from the first value, shape of `times`."""
        stamps = np.asarray(times.replace(tzinfo=None) if isinstance(times, datetime) else times, "datetime64[s]")
        days = (stamps - np.datetime64(BEGIN, "s")).astype(np.float64) / 86400.0
        return days - (6.0 - self.site.lon / 15.0) / 24.0

    def between(self, values: Float64, times: datetime | NDArray[np.datetime64]) -> Float64:
        """Interpolate a daily series."""
        return np.interp(self.position(times), np.arange(COUNT), values)

    def soil_celsius(self, times: datetime | NDArray[np.datetime64]) -> Float64:
        """Soil temperature at 5 cm: warmest at 5 p.m. local solar time, eleven hours after the daily values."""
        phase = np.cos(2.0 * np.pi * (self.position(times) - 11.0 / 24.0))
        mean = self.between(self.celsius, times)
        return under_snow(mean) + 0.45 * self.site.region.diurnal_half_range * phase

    def state(self, time: datetime) -> State:
        """The site at a time, UTC."""
        fast, slow = (float(self.between(self.wetness[:, i], time)) for i in (0, 1))
        doy = time.astimezone(UTC).timetuple().tm_yday
        vegetation = float(self.between(self._vegetation, time))
        roughness = float(np.exp(0.5 * self.between(self._roughness, time)))
        return State(fast, slow, vegetation, float(self.soil_celsius(time)), float(doy), roughness)

    def smoothed_country(self, days: float) -> Float64:
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
    def _mixture(self) -> Float32:
        """Share of the slow soil."""
        span = _SLOW[0] - _FAST[0]
        return np.clip((self.land.clay_fraction - self.site.region.clay - _FAST[0]) / span, 0.0, 1.0)

    @cached_property
    def _relief(self) -> Float32:
        return np.float32(_HOLLOW) * self.land.hollow + np.float32(_DETAIL) * self.land.detail

    def soil_moisture(self, state: State, cut: tuple[slice, slice]) -> Float32:
        """Soil moisture of the top 5 cm, m3 m-3, frozen water included, (row, col)."""
        land, slow = self.land, self._mixture[cut]
        wetness = (1.0 - slow) * np.float32(state.fast) + slow * np.float32(state.slow)
        # dry soils differ less, and saturated ones do
        wetness = wetness + self._relief[cut] * np.clip(0.35 + wetness, 0.2, 1.3)
        moisture = land.wilting_point[cut] + (land.field_capacity[cut] - land.wilting_point[cut]) * wetness
        return np.clip(moisture, 0.02, land.porosity[cut] - 0.01).astype(np.float32)

    def ndvi(self, state: State, cut: tuple[slice, slice]) -> Float32:
        """NDVI of the canopy."""
        return self.land.ndvi(state.day_of_year, state.vegetation, cut)

    def at(self, rows: NDArray[np.intp], cols: NDArray[np.intp], times: NDArray[np.datetime64]) -> Float64:
        """Soil moisture of pixels (of the land with its margin) at times, shape (time, pixel)."""
        land, days = self.land, self.days
        fast, slow = (days.between(days.wetness[:, i], times)[:, None] for i in (0, 1))
        share = self._mixture[rows, cols]
        wetness = (1.0 - share) * fast + share * slow
        wetness = wetness + self._relief[rows, cols] * np.clip(0.35 + wetness, 0.2, 1.3)
        low, high = land.wilting_point[rows, cols], land.field_capacity[rows, cols]
        return np.clip(low + (high - low) * wetness, 0.02, land.porosity[rows, cols] - 0.01)
