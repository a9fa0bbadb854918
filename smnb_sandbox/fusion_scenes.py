"""One place of the 1 km fusion in memory: its September, when both satellites looked, and what each of them saw.

The world, the radiometer, the radar and the active-passive algorithm are those of the downscaling world, unchanged. Its
weather is drawn without regard to the year, so that September 2020 here is that of 2016 there (both leap years): what a day
holds depends on the place and the seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from threadpoolctl import threadpool_limits

from smnb.contract import ParameterError, plain
from smnb.grids import M01, M09, EaseWindow, utm_epsg
from smnb_sandbox.noise import stream
from smnb_sandbox.orbits import Sentinel1Pass, SmapPass, grd_name, smap_passes
from smnb_sandbox.rasters import encode_scene
from smnb_sandbox.regions import FusionPlace, region_domain
from smnb_sandbox.smap_granules import Cells, pass_cells
from smnb_sandbox.smap_radiometer import Radiometer
from smnb_sandbox.smap_scenes import REFERENCE_ANGLE_DEG, Scene, SceneMaker, SceneTime
from smnb_sandbox.smap_world import RegionDays, RegionState, RegionWorld

#: First and last UTC day of the scenes.
FIRST_DAY, LAST_DAY = date(2020, 9, 1), date(2020, 9, 30)
#: Days before and after them that are simulated: the in-situ records begin before the scenes.
_BEFORE, _AFTER = 20, 3
#: The year of the downscaling world whose weather this is.
_WEATHER_YEAR = 2016
#: Sentinel-1A and B together repeat a track in six days.
_REPEAT_DAYS = 6
#: Share of the place that SMAP must see on the radar's day.
_SMAP_COVER = 0.99
#: Of the radar's rasters; dB are stored in steps of a sixteenth, which packs and adds 0.02 dB.
PIXEL_M, _STEPS_PER_DB = 500.0, 16.0
_SLICES, _SLICE_SECONDS, _HEADING = 2, 25, np.radians(191.0)
#: Absolute orbit on the first of September 2020.
_ORBITS = {"A": 34168, "B": 23172}


class AnalogueDays(RegionDays):
    """Days of `_WEATHER_YEAR` under the dates of another leap year."""

    def state(self, day: date, *, evening: bool = False) -> RegionState:
        """The state at 6 a.m. or 6 p.m. of a local day, by its date in 2020."""
        return super().state(day.replace(year=_WEATHER_YEAR), evening=evening)


def radar_looks(pixel_m: float) -> float:
    """Looks of a square pixel of the interferometric wide swath: 4.4 in each 20 m x 22 m."""
    return 4.4 * pixel_m**2 / (20.0 * 22.0)


def acquisitions(place: FusionPlace, count: int) -> list[SceneTime]:
    """The scenes of a place, in order: passes of Sentinel-1 on mornings on which SMAP saw all of it too.

    Each track repeats in six days (both satellites); its phase is that with the most such mornings, so that neither product
    waits for the other. So many as asked for are spread among those there are; a `ParameterError` says if there are fewer.
    """
    region = place.region
    nine = region_domain(region).on(M09)
    cut = nine.slices_of(place.window.covering(M09))
    mornings = {
        one.time.date(): one
        for one in smap_passes(nine.lat, nine.lon, FIRST_DAY, LAST_DAY)
        if not one.evening and one.covered[cut].mean() >= _SMAP_COVER
    }
    found: list[SceneTime] = []
    free = list(range(_REPEAT_DAYS))
    for track, (_, direction, _, hour, _, _) in enumerate(region.passes):
        phase = max(free, key=lambda p: sum(day.toordinal() % _REPEAT_DAYS == p for day in mornings))
        free.remove(phase)
        for day, smap in mornings.items():
            if day.toordinal() % _REPEAT_DAYS == phase:
                satellite = "AB"[day.toordinal() // _REPEAT_DAYS % 2]
                time = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=round(hour, 3))
                radar = Sentinel1Pass(track, direction, satellite, time.replace(microsecond=0))
                found.append(SceneTime(region, radar, smap, smap, place.radar_window))
    if len(found) < count:
        raise ParameterError(
            f"acquisitions({place.name})",
            "there are fewer mornings with both satellites",
            got=count,
            expected=plain(f"at most {len(found)}"),
        )
    found.sort(key=lambda scene: scene.sentinel1.time)
    return [found[i] for i in np.round(np.linspace(0, len(found) - 1, count)).astype(int)]


@dataclass(frozen=True)
class RadarImage:
    """What the radar saw of the domain's 1 km cells, (row, col)."""

    vv: NDArray[np.float32]
    """Linear power at the angle it was seen under, not the reference angle; NaN off the swath."""
    vh: NDArray[np.float32]
    angle: NDArray[np.float32]
    """Degrees."""


class FusionSimulation:
    """A place in memory; what is not asked for is not computed. Its `days` are the truth at 3 km."""

    def __init__(self, place: FusionPlace, seed: int) -> None:
        self.place, self.seed = place, seed
        first, last = FIRST_DAY - timedelta(days=_BEFORE), LAST_DAY + timedelta(days=_AFTER)
        # its matrices are so small that threads only wait for one another
        with threadpool_limits(1):
            self.world = RegionWorld(place.region, seed)
            days = self.world.simulate(first.replace(year=_WEATHER_YEAR), last.replace(year=_WEATHER_YEAR))
        self.days = AnalogueDays(**{one.name: getattr(days, one.name) for one in fields(days)})
        self._radiometer = Radiometer(self.days)
        self._maker = SceneMaker(self._radiometer)

    @cached_property
    def cut(self) -> tuple[slice, slice]:
        """The place within the domain's 1 km cells."""
        return self.world.fine.slices_of(self.place.window)

    def fine_truth(self, day: date) -> NDArray[np.float32]:
        """Soil moisture of the domain's 1 km cells at 6 a.m. of a local day, m3 m-3, water included."""
        return self.world.fine_soil_moisture(self.days.state(day).soil_moisture)

    def truth(self, when: SceneTime) -> NDArray[np.float32]:
        """Soil moisture of the place's cells when the radar passed, m3 m-3; open water is NaN."""
        return np.where(self.world.lake[self.cut], np.nan, self.fine_truth(when.local_day)[self.cut])

    def scene(self, when: SceneTime) -> Scene:
        """The SMAP/Sentinel-1 product of an acquisition, with its 1 km fields."""
        return self._maker.make(when, one_km=True)

    def radar(self, when: SceneTime) -> RadarImage:
        """The same acquisition as the product is made of, before the correction to one angle."""
        state = self.days.state(when.local_day, evening=when.evening)
        vv, vh, angle = self._maker.sigma0(when, state)
        from_reference = (np.cos(np.radians(angle)) / np.cos(np.radians(REFERENCE_ANGLE_DEG))) ** 2
        return RadarImage(vv * from_reference, vh * from_reference, angle)

    def passive(self, when: SceneTime) -> tuple[EaseWindow, Cells, NDArray[np.bool_]]:
        """The radiometer's product at 9 km of a scene's SMAP pass: where, the fields of the granule, and which cells it saw."""
        window = self.place.passive_window
        crop = self.world.domain.on(M09).slices_of(window)
        one: SmapPass = replace(when.smap, seconds=when.smap.seconds[crop], covered=when.smap.covered[crop])
        product = self._radiometer.observe([one], 3, crop)
        return window, *pass_cells(product, 0, window)


def slice_names(when: SceneTime) -> list[str]:
    """Names of a pass's files: it is two slices, as products come, that have to be put together."""
    radar = when.sentinel1
    days = (radar.time.date() - FIRST_DAY).days
    starts = [radar.time + timedelta(seconds=_SLICE_SECONDS * number) for number in range(_SLICES)]
    key = f"{when.region.name} {{times}}"
    return [grd_name(radar.satellite, start, days, _ORBITS[radar.satellite], key) for start in starts]


class PlaceRasters:
    """The radar's passes over a place as GeoTIFF in UTM: VV and VH in dB and the angle.

    Pixels are finer than the 1 km cells that the radar is simulated on: a pixel has the backscatter of the cell that its
    centre lies in, with speckle of its own number of looks.
    """

    def __init__(self, simulation: FusionSimulation) -> None:
        self.simulation = simulation
        self.epsg = utm_epsg(simulation.place.region.lat, simulation.place.region.lon)

    @cached_property
    def _grid(self) -> tuple[float, float, NDArray[np.intp], NDArray[np.intp]]:
        """West and north edge, and row and column in the domain of each pixel's centre."""
        window, domain, step = self.simulation.place.window, self.simulation.world.fine, PIXEL_M
        to_utm = Transformer.from_crs("EPSG:4326", f"EPSG:{self.epsg}", always_xy=True)
        lattice = np.meshgrid(*(np.r_[axis[::8], axis[-1]] for axis in (window.lon, window.lat)))
        x, y = to_utm.transform(*lattice)
        west, south = (np.floor((v.min() - 1000.0) / step) * step for v in (x, y))
        east, north = (np.ceil((v.max() + 1000.0) / step) * step for v in (x, y))
        centres = np.meshgrid(np.arange(west + step / 2, east, step), np.arange(north - step / 2, south, -step))
        lon, lat = to_utm.transform(*centres, direction="INVERSE")
        row, col = M01.rowcol(lat, lon)
        row, col = row - domain.row_start, col - domain.col_start
        # the square in UTM reaches a little beyond the place, never beyond what is simulated
        return west, north, np.clip(row, 0, domain.shape[0] - 1), np.clip(col, 0, domain.shape[1] - 1)

    def of_pass(self, when: SceneTime, image: RadarImage) -> Iterator[bytes]:
        """The files of a pass, one of each of `slice_names`, of what the radar saw (``simulation.radar(when)``)."""
        world = self.simulation.world
        west, north, row, col = self._grid
        rng = stream(
            world.seed, f"sentinel-1 {world.region.name} pixels", when.local_day.toordinal(), when.sentinel1.track
        )
        speckle = np.float32(1.0 / np.sqrt(radar_looks(PIXEL_M)))
        bands = []
        for power in (image.vv, image.vh):
            # with thousands of looks the gamma distribution of speckle is a normal one
            speckled = power[row, col] * (1.0 + speckle * rng.standard_normal(row.shape, dtype=np.float32))
            bands.append(np.round(10.0 * np.log10(speckled) * _STEPS_PER_DB) / _STEPS_PER_DB)
        bands.append(np.round(image.angle[row, col] * 10.0) / 10.0)
        along = world.fine_north[row] * np.cos(_HEADING) + world.fine_east[col] * np.sin(_HEADING)
        seen = np.isfinite(bands[0])
        for number, name in enumerate(slice_names(when)):
            here = seen & ((along >= 0.0) == bool(number))
            rows, cols = np.flatnonzero(here.any(axis=1)), np.flatnonzero(here.any(axis=0))
            cut = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
            values = np.where(here, np.stack(bands), np.nan)[:, *cut].astype(np.float32)
            corner = west + cols[0] * PIXEL_M, north - rows[0] * PIXEL_M
            yield encode_scene(
                values,
                (self.epsg, *corner, PIXEL_M),
                ("VV", "VH", "angle"),
                tags={"product": name.removesuffix(".tif"), "quantity": "sigma0"},
                units=("dB", "dB", "degree"),
                nodata=np.nan,
                predictor=3,
                zlevel=6,
            )
