"""The downscaling world: soil, terrain, vegetation and three years of weather of one region, at 3 km, day by day.

What stays gives a fine structure that persists; rain that falls in patches of ten kilometres and drifts gives one that changes. A
day is that of 6 a.m. local time; all are simulated from the autumn of 2015 on, so that a day is the same in every archive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from smnb.contract import ParameterError, plain
from smnb.grids import M01, EaseWindow
from smnb_sandbox import noise
from smnb_sandbox.noise import Float32, Float64
from smnb_sandbox.regions import IGBP, Region, monthly, region_domain, region_window
from smnb_sandbox.world import SPELL_MEMORY, bucket_step, check_seed, dries_to, in_spells, rain_amount, soil_limits

FIRST_DAY, LAST_DAY = date(2016, 1, 1), date(2018, 12, 31)
_BEGIN = date(2015, 10, 1)
_EARLIEST = date(2015, 12, 1)  # the simulation has forgotten how it began
FREEZING = 273.15
_LAPSE = 0.0055  # K per m
_DEKAD = 10
_LONGEST = 2000  # days, of which a simulation is the first ones


@dataclass(frozen=True)
class RegionState:
    """What one moment holds on the 3 km cells of the domain."""

    soil_moisture: Float32  # m3 m-3, liquid and frozen
    soil_temperature: Float32  # K, effective for emission at L band
    snow: NDArray[np.bool_]
    ndvi: Float32
    vegetation_water_content: Float32  # kg m-2
    roughness_factor: Float32  # of the rms height seen by the radar; changes with tillage and crusts
    wetting: Float32  # change of soil moisture within the last day, m3 m-3

    @property
    def frozen(self) -> NDArray[np.bool_]:
        """Cells whose soil is frozen."""
        return self.soil_temperature < FREEZING - 0.3

    def sensed(self, skin: float) -> Float32:
        """Water that an instrument sees, m3 m-3: little in frozen soil; it runs ahead by a share `skin` of the day's change."""
        ahead = np.clip(self.soil_moisture + skin * self.wetting, 0.5 * self.soil_moisture, 0.55)
        return np.where(self.frozen, np.minimum(ahead, 0.06), ahead).astype(np.float32)


@dataclass(frozen=True)
class RegionDays:
    """The simulated days of a region."""

    world: RegionWorld
    first: date
    last: date  # days that can be asked for
    soil_moisture: Float32 = field(repr=False)
    """At 6 a.m. local time, (day, row, col) of the domain, m3 m-3; from the day before `first` to the one after `last`."""
    snow: NDArray[np.bool_] = field(repr=False)
    temperature: Float64 = field(repr=False)  # of the soil at the city's height, daily mean, K, by day
    ndvi_anomaly: Float32 = field(repr=False)  # relative, (ten days, row, col)
    roughness_change: Float32 = field(repr=False)

    def _number(self, day: date) -> int:
        if not self.first <= day <= self.last:
            raise ParameterError(
                "RegionDays", "the day was not simulated", got=str(day), expected=plain(f"{self.first} to {self.last}")
            )
        return (day - self.first).days + 1

    def _between_dekads(self, values: Float32, day: date) -> Float32:
        position = (day - _BEGIN).days / _DEKAD
        number, share = int(position), np.float32(position % 1.0)
        return (1.0 - share) * values[number] + share * values[number + 1]

    def state(self, day: date, *, evening: bool = False) -> RegionState:
        """The state at 6 a.m. or 6 p.m. of a local day; a `ParameterError` if it was not simulated."""
        world, number = self.world, self._number(day)
        moisture, kelvin = self.soil_moisture[number], self.temperature[number]
        wetting = moisture - self.soil_moisture[number - 1]
        swing = world.region.diurnal_half_range
        if evening:
            change = self.soil_moisture[number + 1] - moisture
            moisture, wetting = moisture + 0.5 * change, 0.5 * (wetting + change)
            kelvin = 0.5 * (kelvin + self.temperature[number + 1]) + 0.55 * swing
        else:
            kelvin = kelvin - 0.20 * swing
        temperature = kelvin + world.temperature_offset
        # the heat of freezing and the snow keep frozen soil near zero
        low = FREEZING - 1.0
        temperature = np.where(temperature < low, low + 0.45 * (temperature - low), temperature).astype(np.float32)
        ndvi = world.ndvi(day) * (1.0 + 0.16 * self._between_dekads(self.ndvi_anomaly, day))
        ndvi = np.clip(ndvi, 0.03, 0.92).astype(np.float32)
        vegetation = world.vegetation_water_content(ndvi) * world.canopy_factor
        roughness = np.exp(self._between_dekads(self.roughness_change, day))
        return RegionState(moisture, temperature, self.snow[number], ndvi, vegetation, roughness, wetting)


class RegionGrids:
    """The grids of a region: simulated 3 km cells, the region's within, 1 km cells; distances from the city (km)."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.domain, self.window = region_domain(region), region_window(region)
        self.inner = self.domain.slices_of(self.window)
        self.fine = self.domain.on(M01)
        self.east, self.north = self._plane(self.domain)
        self.fine_east, self.fine_north = self._plane(self.fine)

    def _plane(self, window: EaseWindow) -> tuple[NDArray, NDArray]:
        """True distances of the columns and rows from the city, km."""
        east = noise.KM_PER_DEGREE * np.cos(np.radians(self.region.lat)) * (window.lon - self.region.lon)
        return east, noise.KM_PER_DEGREE * (window.lat - self.region.lat)


class RegionWorld(RegionGrids):
    """One region; static fields are (row, col) arrays on the 3 km cells of the domain, north first."""

    def __init__(self, region: Region, seed: int) -> None:
        super().__init__(region)
        self.seed = check_seed("RegionWorld", seed)
        self._terrain()
        self._soil()
        self._land_cover()
        self._vegetation()

    def texture(self, name: str, *scales: tuple[float, float], fine: bool = False) -> Float32:
        """Draw a static field of the region by name, at 3 km or 1 km; scales are (length in km, weight)."""
        east, north = (self.fine_east, self.fine_north) if fine else (self.east, self.north)
        return noise.texture(self.seed, f"smap {self.region.name} {name}", east, north, scales)

    def _terrain(self) -> None:
        region = self.region
        east, north = self.fine_east[None, :], self.fine_north[:, None]
        ridges = self.texture("ridges", (9.0, 0.8), (4.0, 0.6), fine=True)
        height = 0.5 * region.relief * self.texture("relief", (40.0, 0.8), (12.0, 0.6))
        height = region.elevation + noise.spread(np.maximum(height, -0.5 * region.elevation), 3)
        mountains = np.zeros_like(height)
        for middle_east, middle_north, azimuth, half_width, rise in region.ranges:
            turn = np.radians(azimuth)
            along = (east - middle_east) * np.sin(turn) + (north - middle_north) * np.cos(turn)
            across = (east - middle_east) * np.cos(turn) - (north - middle_north) * np.sin(turn)
            shape = np.exp(-((across / half_width) ** 2) - (along / (2.2 * half_width)) ** 4)
            mountains = np.maximum(mountains, rise * shape * (1.0 + 0.38 * ridges))
        self.fine_elevation = (height + mountains).astype(np.float32)
        self.elevation = noise.blocks(self.fine_elevation, 3)
        slope_north = np.gradient(self.fine_elevation, self.fine_north * 1e3, axis=0)
        slope_east = np.gradient(self.fine_elevation, self.fine_east * 1e3, axis=1)
        slope = np.degrees(np.arctan(np.hypot(slope_north, slope_east)))
        #: Standard deviation of the slope within a cell, degrees, as far as the 1 km terrain tells.
        self.slope_deviation = (0.2 + 0.7 * noise.blocks(slope, 3)).astype(np.float32)
        self.temperature_offset = (-_LAPSE * (self.elevation - region.elevation)).astype(np.float32)
        self.lake = self._water(east, north)
        self.water_fraction = noise.blocks(self.lake, 3)

    def _water(self, east: NDArray, north: NDArray) -> NDArray[np.bool_]:
        """The 1 km cells that are water."""
        pattern = self.texture("lakes", (2.5, 1.0), fine=True)
        lowland = self.fine_elevation < np.quantile(self.fine_elevation, 0.7)
        water = lowland & (pattern > np.quantile(pattern, 1.0 - self.region.water_share / 0.7))
        wide = noise.KM_PER_DEGREE * np.cos(np.radians(self.region.lat))
        points = [
            (wide * (lon - self.region.lon), noise.KM_PER_DEGREE * (lat - self.region.lat), width)
            for lat, lon, width in self.region.lake
        ]
        for (x0, y0, w0), (x1, y1, w1) in pairwise(points):
            length2 = (x1 - x0) ** 2 + (y1 - y0) ** 2
            share = np.clip(((east - x0) * (x1 - x0) + (north - y0) * (y1 - y0)) / length2, 0.0, 1.0)
            distance = np.hypot(east - x0 - share * (x1 - x0), north - y0 - share * (y1 - y0))
            water |= distance < w0 + share * (w1 - w0)
        return water

    def _soil(self) -> None:
        region = self.region
        clay = region.clay + 0.080 * self.texture("clay", (45.0, 0.6), (14.0, 0.6), (4.0, 0.55))
        self.clay_fraction = np.clip(clay, 0.04, 0.55).astype(np.float32)
        share = region.sand / (1.0 - region.clay) + 0.11 * self.texture("sand", (40.0, 0.8), (8.0, 0.6))
        self.sand_fraction = ((1.0 - self.clay_fraction) * np.clip(share, 0.10, 0.92)).astype(np.float32)
        self.wilting_point, self.field_capacity, self.porosity = soil_limits(self.clay_fraction, self.sand_fraction)
        #: Topographic wetness, of unit variance or so: hollows gather water, and so do soils that nothing here explains.
        hollow = gaussian_filter(self.elevation, 2.5) - self.elevation
        hollow = np.clip(hollow / (hollow.std() + 5.0), -2.5, 2.5)
        unexplained = self.texture("wetness", (18.0, 0.6), (5.0, 0.8))
        self.topographic_index = (0.55 * hollow + 0.83 * unexplained).astype(np.float32)
        #: What 1 km cells differ by from the mean of their 3 km cell, of unit variance.
        detail = self.texture("wetness detail", (1.6, 1.0), fine=True)
        detail = np.clip((detail - noise.spread(noise.blocks(detail, 3), 3)) / 0.45, -2.2, 2.2)
        self.fine_wetness = detail - noise.spread(noise.blocks(detail, 3), 3)

    def _land_cover(self) -> None:
        region = self.region
        height = (self.elevation - region.elevation) / 1000.0
        wooded = self.texture("cover", (40.0, 0.8), (12.0, 0.5), (3.5, 0.3)) + 1.3 * height + 0.004 * self.east[None, :]
        rank = np.empty(wooded.size)
        rank[np.argsort(wooded, axis=None, kind="stable")] = (np.arange(wooded.size) + 0.5) / wooded.size
        edges = np.cumsum([share for _, share in region.cover])
        codes = np.array([code for code, _ in region.cover], dtype=np.uint8)
        cover = codes[np.minimum(np.searchsorted(edges, rank), codes.size - 1)].reshape(wooded.shape)
        if region.lat > 40.0:  # above the tree line
            cover[self.elevation > 1750.0], cover[self.elevation > 2450.0] = 10, 16
        distance = np.hypot(self.east[None, :], self.north[:, None])
        cover[distance < region.urban_km * np.exp(0.25 * self.texture("city", (6.0, 1.0)))] = 13
        cover[self.water_fraction > 0.5] = 0
        self.land_cover = cover

    def _by_class(self, name: str) -> Float32:
        table = np.zeros(256, dtype=np.float32)
        for code, prior in IGBP.items():
            table[code] = prior[name]
        return table[self.land_cover]

    def _vegetation(self) -> None:
        self.prior = {name: self._by_class(name) for name in ("albedo", "roughness", "b")}
        self._stem, self._ndvi_low, self._ndvi_high = map(self._by_class, ("stem_factor", "ndvi_low", "ndvi_high"))
        self.greenness = np.exp(0.12 * self.texture("greenness", (30.0, 0.8), (6.0, 0.6))).astype(np.float32)
        self.canopy_factor = np.exp(0.06 * self.texture("canopy", (20.0, 1.0))).astype(np.float32)
        # what the retrieval will not know
        self.albedo = np.clip(self.prior["albedo"] * (1.0 + 0.15 * self.texture("albedo", (40.0, 1.0))), 0.0, 0.2)
        self.roughness = self.prior["roughness"] * np.exp(0.25 * self.texture("roughness", (60.0, 0.85), (6.0, 0.5)))
        self.b = self.prior["b"] * np.exp(0.06 * self.texture("structure", (40.0, 1.0)))
        self.mixing = np.clip(0.58 * np.exp(0.13 * self.texture("mixing", (40.0, 1.0))), 0.0, 0.9)
        rms = self.texture("rms height", (8.0, 0.6), (2.5, 0.8))
        self.rms_height_cm = (self._by_class("rms_height_cm") * np.exp(0.05 * rms)).astype(np.float32)

    def ndvi(self, day: date) -> Float32:
        """NDVI of an average year on this day, which the retrieval knows too."""
        phase = 2.0 * np.pi * (day.timetuple().tm_yday - self.region.greenness_peak) / 365.25
        season = np.float32((0.5 + 0.5 * np.cos(phase)) ** 1.3)
        scale = self.greenness * np.float32(self.region.greenness)
        return np.clip((self._ndvi_low + (self._ndvi_high - self._ndvi_low) * season) * scale, 0.03, 0.92)

    def vegetation_water_content(self, ndvi: Float32) -> Float32:
        """SMAP's polynomial of NDVI and the class' stems, kg m-2."""
        highest = np.clip(self._ndvi_high * self.greenness * self.region.greenness, 0.1, 0.92)
        foliage = np.maximum(1.9134 * ndvi**2 - 0.3215 * ndvi, 0.0)
        return (foliage + self._stem * np.maximum(highest - 0.1, 0.0) / 0.9).astype(np.float32)

    def fine_soil_moisture(self, soil_moisture: Float32) -> Float32:
        """Soil moisture of 1 km cells whose means are the 3 km cells': hollows are wetter, less so in dry soil."""
        room = np.minimum(soil_moisture - 0.3 * self.wilting_point, self.porosity - soil_moisture)
        amplitude = np.clip(0.22 * room, 0.0, 0.03)
        return noise.spread(soil_moisture, 3) + noise.spread(amplitude, 3) * self.fine_wetness

    def simulate(self, first: date = FIRST_DAY, last: date = LAST_DAY) -> RegionDays:
        """Simulate the days and keep those from `first` to `last`; a `ParameterError` if they begin before December 2015."""
        if not _EARLIEST <= first <= last:
            what, expected = "the period cannot be simulated", plain(f"first <= last, from {_EARLIEST} on")
            raise ParameterError("RegionWorld.simulate", what, got=(str(first), str(last)), expected=expected)
        end = last + timedelta(days=1)
        begin = first - timedelta(days=1)
        kept = (end - begin).days + 1
        moistures = np.empty((kept, *self.domain.shape), dtype=np.float32)
        snows = np.zeros((kept, *self.domain.shape), dtype=bool)
        soil_kelvin = np.empty(kept)
        dekads = (end - _BEGIN).days // _DEKAD + 2
        ndvi_anomaly = self._slow("ndvi", 25.0, 0.85, dekads)
        # fields are tilled, sown and cut one by one, and all of a region goes from rough to smooth and back
        fields, country = (self._slow(name, km, 0.75, dekads) for name, km in (("tillage", 4.0), ("season", 100.0)))
        roughness_change = 0.5 * fields + 0.8 * country
        for number, (moisture, snow, celsius) in enumerate(self._days(end)):
            keep = number - (begin - _BEGIN).days
            if keep >= 0:
                moistures[keep], snows[keep], soil_kelvin[keep] = moisture, snow > 5.0, celsius + FREEZING
        return RegionDays(self, first, last, moistures, snows, soil_kelvin, ndvi_anomaly, roughness_change)

    def _slow(self, name: str, length_km: float, memory: float, dekads: int) -> Float32:
        """A field that changes over months, (ten days, row, col)."""
        series = noise.DriftingField(noise.PlanarField(length_km, self.east, self.north), memory)
        rng = noise.stream(self.seed, f"smap {self.region.name} {name}")
        return np.stack([series.advance(rng) for _ in range(dekads)]).astype(np.float32)

    def _days(self, last: date) -> Iterator[tuple[Float32, Float32, float]]:
        """Day by day from the beginning: soil moisture and snow (mm) at 6 a.m., and the soil's mean temperature (deg C)."""
        region = self.region
        synoptic = noise.DriftingField(noise.PlanarField(90.0, self.east, self.north), 0.35, (260.0, 40.0))
        cells = noise.DriftingField(noise.PlanarField(7.0, self.east, self.north), 0.0)
        lift = np.clip((self.elevation - region.elevation) / 1000.0, -0.3, 2.0)
        wet_factor = np.exp(0.12 * self.texture("rain", (50.0, 1.0)) + 0.22 * lift).astype(np.float32)
        amount_factor = (1.0 + 0.12 * lift).astype(np.float32)
        wetness_factor = np.exp(0.15 * self.texture("dampness", (60.0, 1.0))).astype(np.float32)
        # water runs off the ridges and on to the hollows
        run_on = np.exp(0.22 * self.topographic_index).astype(np.float32)
        drydown_clay = 7.0 + 25.0 * self.clay_fraction
        snow = np.zeros(self.domain.shape, dtype=np.float32)
        moisture = soil = None
        anomaly = 0.0
        count = (last - _BEGIN).days + 1
        year_days = np.array([(_BEGIN + timedelta(days=i)).timetuple().tm_yday for i in range(count)])
        names = ("temperature", "wet_days", "rain", "convective", "wetness")
        season = {name: monthly(getattr(region, name), year_days) for name in names}
        spells = noise.autoregressive(noise.stream(self.seed, f"smap {region.name} spells"), SPELL_MEMORY, (_LONGEST,))
        for number in range(count):
            day = _BEGIN + timedelta(days=number)
            rng = noise.stream(self.seed, f"smap {region.name} weather", day.toordinal())
            mean, probability, amount, convective, wet = (float(season[name][number]) for name in names)
            share = np.float32(0.5 * convective)
            storms = np.sqrt(1.0 - share) * synoptic.advance(rng) + np.sqrt(share) * cells.advance(rng)
            storms = in_spells(storms, spells[number])
            rain = rain_amount(storms, np.clip(probability * wet_factor, 0.003, 0.85), amount * amount_factor)
            anomaly = 0.75 * anomaly + np.sqrt(1.0 - 0.75**2) * 3.3 * rng.standard_normal()
            air = mean + anomaly - 0.05 * float(rain.mean())
            soil = air if soil is None else soil + 0.25 * (air - soil)
            here = air + self.temperature_offset
            falls = np.where(here < 1.0, rain, 0.0).astype(np.float32)
            melt = np.minimum(snow, 3.0 * np.maximum(here - 0.5, 0.0))
            snow = snow + falls - melt
            water = (rain - falls + melt) * run_on * np.where(soil + self.temperature_offset < -0.5, 0.3, 1.0)
            wetness = wet * wetness_factor + self.topographic_index * (0.04 + 0.26 * wet)
            equilibrium = dries_to(self.wilting_point, self.field_capacity, wet, np.clip(wetness, 0.0, 1.05))
            drydown = np.clip(drydown_clay + 0.5 * (27.0 - mean), 5.0, 30.0)
            if moisture is None:
                moisture = equilibrium
            after = bucket_step(moisture, water, equilibrium, self.field_capacity, self.porosity, drydown)
            moisture = after.astype(np.float32)
            yield moisture, snow, soil
