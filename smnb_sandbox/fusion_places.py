"""A place of the 1 km fusion: its September in memory, when both satellites looked and what they saw, and its stations.

World and satellites are those of the downscaling world; September 2020 here is that of 2016 there (leap years). Networks carry
real names, stations are invented: each reads its 1 km cell and what a point differs from it by, with its sensor's own faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from smnb.contract import ParameterError, plain
from smnb.grids import M01, M03, M09, utm_epsg
from smnb.grids.koppen import koppen_class
from smnb_sandbox.files import encode_scene
from smnb_sandbox.insitu_readings import Readings, read_sensor
from smnb_sandbox.insitu_sites import Network, Sensor, Station, networks_of, place_sensors, surveyed
from smnb_sandbox.insitu_truth import PointTruth, around_cells
from smnb_sandbox.noise import Float32, columns_at, spread, stream
from smnb_sandbox.regions import PLACES, FusionPlace, Sentinel1Pass, grd_name, region_domain, smap_passes
from smnb_sandbox.smap_scenes import REFERENCE_ANGLE_DEG, RegionSimulation, SceneTime, Seen, radar_looks
from smnb_sandbox.smap_world import FREEZING, RegionDays, RegionState, RegionWorld

FIRST_DAY, LAST_DAY = date(2020, 9, 1), date(2020, 9, 30)  # first and last UTC day of the scenes
_BEFORE, _AFTER = 20, 3  # days before and after them that are simulated: the in-situ records begin before the scenes
_WEATHER_YEAR = 2016  # the year of the downscaling world whose weather this is
_REPEAT_DAYS = 6  # Sentinel-1A and B together repeat a track in six days
_SMAP_COVER = 0.99  # share of the place that SMAP must see on the radar's day
#: Of the radar's rasters; dB are stored in steps of a sixteenth, which packs and adds 0.02 dB.
PIXEL_M, _STEPS_PER_DB = 500.0, 16.0
_SLICES, _SLICE_SECONDS, _HEADING = 2, 25, np.radians(191.0)
_ORBITS = {"A": 34168, "B": 23172}  # absolute orbit on the first of September 2020
#: First and last day of the records: some sensors are installed in the first weeks.
INSITU_FIRST, INSITU_LAST = date(2020, 8, 14), date(2020, 9, 30)
_FIRST_SENSOR = 10_000  # number of the first sensor's random stream; those of the archive of 2011 are below it
#: Cells of 1 km between a station and the place's edge, and between two stations that do not share a cell.
_MARGIN, _APART = 8, 6
#: Standard deviations of what a point differs from its cell by: always, and for some days (m3 m-3 at a cell's 0.2).
_STATIC, _PASSING = 0.022, 0.010
_OTHER_INSTRUMENT, _EACH = "ThetaProbe ML2X", 6

Indices = tuple[NDArray, NDArray]  # rows and columns
_TEMPLATES = {network.name: network for network in networks_of("fusion")}
#: ESA CCI land cover by IGBP class.
_CCI = {0: 130, 1: 70, 4: 60, 5: 90, 7: 120, 8: 90, 9: 130, 10: 130, 12: 10, 13: 130, 14: 30, 16: 200}


class AnalogueDays(RegionDays):
    """Days of `_WEATHER_YEAR` under the dates of another leap year."""

    def state(self, day: date, *, evening: bool = False) -> RegionState:
        """The state at 6 a.m. or 6 p.m. of a local day, by its date in 2020."""
        return super().state(day.replace(year=_WEATHER_YEAR), evening=evening)


def acquisitions(place: FusionPlace, count: int) -> list[SceneTime]:
    """The scenes of a place, in order: passes of Sentinel-1 on mornings on which SMAP saw all of it too.

    Each track repeats in six days (both satellites), in the phase with the most such mornings. So many as asked for are spread
    among those there are; a `ParameterError` says if there are fewer.
    """
    nine = region_domain(place).on(M09)
    cut = nine.slices_of(place.window.covering(M09))
    mornings = {
        one.time.date(): one
        for one in smap_passes(nine.lat, nine.lon, FIRST_DAY, LAST_DAY)
        if not one.evening and one.covered[cut].mean() >= _SMAP_COVER
    }
    found: list[SceneTime] = []
    free = list(range(_REPEAT_DAYS))
    for track, (_, direction, _, hour, _, _) in enumerate(place.passes):
        phase = max(free, key=lambda p: sum(day.toordinal() % _REPEAT_DAYS == p for day in mornings))
        free.remove(phase)
        for day, smap in mornings.items():
            if day.toordinal() % _REPEAT_DAYS == phase:
                satellite = "AB"[day.toordinal() // _REPEAT_DAYS % 2]
                time = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=round(hour, 3))
                radar = Sentinel1Pass(track, direction, satellite, time.replace(microsecond=0))
                found.append(SceneTime(place, radar, smap, smap, place.window.covering(M03)))
    if len(found) < count:
        what, expected = "there are fewer mornings with both satellites", plain(f"at most {len(found)}")
        raise ParameterError(f"acquisitions({place.name})", what, got=count, expected=expected)
    found.sort(key=lambda scene: scene.sentinel1.time)
    return [found[i] for i in np.round(np.linspace(0, len(found) - 1, count)).astype(int)]


def slice_names(when: SceneTime) -> list[str]:
    """Names of a pass's files: it is two slices, as products come, that have to be put together."""
    radar = when.sentinel1
    days = (radar.time.date() - FIRST_DAY).days
    starts = [radar.time + timedelta(seconds=_SLICE_SECONDS * number) for number in range(_SLICES)]
    key = f"{when.region.name} {{times}}"
    return [grd_name(radar.satellite, start, days, _ORBITS[radar.satellite], key) for start in starts]


class FusionSimulation(RegionSimulation):
    """A place in memory; what is not asked for is not computed."""

    def __init__(self, place: FusionPlace, seed: int) -> None:
        self.place, self._epsg = place, utm_epsg(place.lat, place.lon)
        first, last = FIRST_DAY - timedelta(days=_BEFORE), LAST_DAY + timedelta(days=_AFTER)
        world = RegionWorld(place, seed)
        days = world.simulate(first.replace(year=_WEATHER_YEAR), last.replace(year=_WEATHER_YEAR))
        super().__init__(AnalogueDays(**{one.name: getattr(days, one.name) for one in fields(days)}))

    @cached_property
    def cut(self) -> tuple[slice, slice]:
        """The place within the domain's 1 km cells."""
        return self.world.fine.slices_of(self.place.window)

    def fine_truth(self, day: date) -> Float32:
        """Soil moisture of the domain's 1 km cells at 6 a.m. of a local day, m3 m-3, water included."""
        return self.world.fine_soil_moisture(self.days.state(day).soil_moisture)

    def truth(self, when: SceneTime) -> Float32:
        """Soil moisture of the place's cells when the radar passed, m3 m-3; open water is NaN."""
        return np.where(self.world.lake[self.cut], np.nan, self.fine_truth(when.local_day)[self.cut])

    def radar(self, when: SceneTime) -> tuple[Float32, Float32, Float32]:
        """VV and VH of the domain's 1 km cells, linear power, NaN off the swath, and their angle (degrees)."""
        state = self.days.state(when.local_day, evening=when.evening)
        vv, vh, angle = self.sigma0(when, state)
        from_reference = (np.cos(np.radians(angle)) / np.cos(np.radians(REFERENCE_ANGLE_DEG))) ** 2
        return vv * from_reference, vh * from_reference, angle

    def passive(self, when: SceneTime) -> Seen:
        """The radiometer's product at 9 km of a scene's SMAP pass: where, the fields of the granule, and which cells it saw."""
        window = self.place.window.covering(M09).grown(2)
        crop = self.world.domain.on(M09).slices_of(window)
        one = replace(when.smap, seconds=when.smap.seconds[crop], covered=when.smap.covered[crop])
        return self.seen([one], window)[0]

    @cached_property
    def _grid(self) -> tuple[float, float, NDArray[np.intp], NDArray[np.intp]]:
        """West and north edge, and row and column in the domain of each pixel's centre."""
        window, domain, step = self.place.window, self.world.fine, PIXEL_M
        to_utm = Transformer.from_crs("EPSG:4326", f"EPSG:{self._epsg}", always_xy=True)
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

    def rasters(self, when: SceneTime) -> Iterator[bytes]:
        """The radar's files of a pass, one of each of `slice_names`: VV and VH in dB and the angle.

        A pixel has the backscatter of the 1 km cell that its centre lies in, with speckle of its own number of looks.
        """
        world = self.world
        west, north, row, col = self._grid
        track, day = when.sentinel1.track, when.local_day.toordinal()
        rng = stream(world.seed, f"sentinel-1 {world.region.name} pixels", day, track)
        speckle = np.float32(1.0 / np.sqrt(radar_looks(PIXEL_M)))
        bands = []
        *powers, angle = self.radar(when)
        for power in powers:
            # with thousands of looks the gamma distribution of speckle is a normal one
            speckled = power[row, col] * (1.0 + speckle * rng.standard_normal(row.shape, dtype=np.float32))
            bands.append(np.round(10.0 * np.log10(speckled) * _STEPS_PER_DB) / _STEPS_PER_DB)
        bands.append(np.round(angle[row, col] * 10.0) / 10.0)
        along = world.fine_north[row] * np.cos(_HEADING) + world.fine_east[col] * np.sin(_HEADING)
        seen = np.isfinite(bands[0])
        for number, name in enumerate(slice_names(when)):
            here = seen & ((along >= 0.0) == bool(number))
            rows, cols = np.flatnonzero(here.any(axis=1)), np.flatnonzero(here.any(axis=0))
            cut = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
            values = np.where(here, np.stack(bands), np.nan)[:, *cut].astype(np.float32)
            where = (self._epsg, west + cols[0] * PIXEL_M, north - rows[0] * PIXEL_M, PIXEL_M)
            tags = {"product": name.removesuffix(".tif"), "quantity": "sigma0"}
            how = {"units": ("dB", "dB", "degree"), "nodata": np.nan, "predictor": 3, "zlevel": 6}
            yield encode_scene(values, where, ("VV", "VH", "angle"), tags=tags, **how)


def _networks(place: FusionPlace) -> list[Network]:
    """The place's networks, with the names of their stations."""
    first, result = 1, []
    counts = list(place.stations)
    if place.shared_pixels:  # stations that stand beside others
        counts[0] = (counts[0][0], counts[0][1] + place.shared_pixels)
    for name, count in counts:
        names = tuple(f"SX_{place.title.replace(' ', '_')}_{first + i}" for i in range(count))
        first += count
        twins = tuple(range(0, count, 2)) if name == "ARM" else ()
        deep = {0: (0.1016, 0.2032)} if name in ("SCAN", "SNOTEL") else {}
        result.append(replace(_TEMPLATES[name], stations=names, twins=twins, deep=deep))
    return result


def _draw_cells(simulation: FusionSimulation, networks: Sequence[Network]) -> NDArray[np.intp]:
    """Rows and columns within the place, one station after the other: land, apart, snow gauges on high ground."""
    world, place = simulation.world, simulation.place
    rng = stream(simulation.world.seed, f"fusion stations {place.name}")
    lake, height = world.lake[simulation.cut], world.fine_elevation[simulation.cut]
    level = (world.slope_deviation < 6.0) & (world.land_cover != 13)
    allowed = ~lake & spread(level, 3)[simulation.cut]
    inner = np.zeros_like(allowed)
    inner[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = True
    allowed &= inner
    high = height >= np.quantile(height[allowed], 0.7)
    found: list[tuple[int, int]] = []
    for network in networks:
        for _ in network.stations:
            if len(found) >= sum(n for _, n in place.stations):  # beside one of the first network's others
                break
            here = allowed & (high if network.name == "SNOTEL" else ~high | (rng.random() < 0.2))
            rows, cols = np.nonzero(here)
            order = rng.permutation(rows.size)
            for i in order[:5000]:
                if all(max(abs(rows[i] - r), abs(cols[i] - c)) >= _APART for r, c in found):
                    break
            found.append((int(rows[i]), int(cols[i])))
    return np.array(found, dtype=np.intp)


def fusion_stations(simulation: FusionSimulation) -> tuple[NDArray[np.intp], list[Sensor], PointTruth]:
    """Stations in 1 km cells: row and column (of the global grid) of each, (station, 2), sensors, and their hourly truth."""
    place, world = simulation.place, simulation.world
    networks = _networks(place)
    drawn = _draw_cells(simulation, networks)
    # the first network's last stations stand in cells of its first ones
    own, shared = networks[0], place.shared_pixels
    plain = len(own.stations) - shared
    local = np.concatenate([drawn[:plain], drawn[:shared], drawn[plain:]])
    rows, cols = local.T
    window = place.window
    cells = np.stack([rows + window.row_start, cols + window.col_start], axis=1)
    in_fine = rows + simulation.cut[0].start, cols + simulation.cut[1].start
    in_coarse = in_fine[0] // 3, in_fine[1] // 3
    rng = stream(simulation.world.seed, f"fusion positions {place.name}")
    # within the middle of the cell, so that rounding moves nobody out of it
    x, y = (
        axis[i] + M01.cell * rng.uniform(-0.35, 0.35, i.size)
        for axis, i in ((M01.x, cells[:, 1]), (M01.y, cells[:, 0]))
    )
    lat, lon = M01.from_xy(x, y)
    climate = koppen_class(lat, lon)
    fine, coarse = list(zip(*in_fine, strict=True)), list(zip(*in_coarse, strict=True))
    stations = [
        surveyed(
            network,
            number,
            (lat[k], lon[k], world.fine_elevation[fine[k]]),
            str(climate[k]),
            k,
            _CCI[int(world.land_cover[coarse[k]])],
            (world.clay_fraction[coarse[k]], world.sand_fraction[coarse[k]], world.porosity[coarse[k]]),
        )
        for k, (network, number) in enumerate((one, i) for one in networks for i in range(len(one.stations)))
    ]
    truth = _hour_truth(simulation, stations, in_fine, in_coarse)
    return cells, _sensors(stations), truth


def _sensors(stations: Sequence[Station]) -> list[Sensor]:
    """The sensors of the stations; one of the paper's networks in `_EACH` has another instrument."""
    return [
        replace(one, instrument=one.instrument.replace(one.station.network.instrument, _OTHER_INSTRUMENT))
        if one.station_index % _EACH == _EACH - 1 and one.station.network.name in ("ARM", "SCAN")
        else one
        for one in place_sensors(stations)
    ]


def _hour_truth(
    simulation: FusionSimulation, stations: list[Station], in_fine: Indices, in_coarse: Indices
) -> PointTruth:
    """Cells' soil moisture between the 6 a.m. states, and the points' around it."""
    place, days = simulation.place, simulation.days
    count = (INSITU_LAST - INSITU_FIRST).days + 3
    dates = [INSITU_FIRST + timedelta(days=i - 1) for i in range(count)]
    daily = np.stack([simulation.fine_truth(day)[in_fine] for day in dates]).astype(np.float64)
    kelvin = np.stack([days.state(day).soil_temperature[in_coarse] for day in dates]).astype(np.float64)
    hour = np.arange(24 * (count - 2), dtype=np.float64)
    # 6 a.m. local time of each day in hours from the first day's midnight, UTC
    six = 24.0 * (np.arange(count) - 1.0) + 6.0 - place.lon / 15.0
    at = (hour - six[0]) / 24.0
    cell, soil = (columns_at(at, values) for values in (daily, kelvin - FREEZING))
    rng = stream(simulation.world.seed, f"fusion points {place.name}")
    most = np.array([s.saturation for s in stations]) - 0.01
    point = around_cells(rng, cell, at, 0.85, _STATIC, _PASSING, most)
    local = (hour[:, None] + place.lon / 15.0) / 24.0
    swing = place.diurnal_half_range * np.cos(2.0 * np.pi * (local - 17.0 / 24.0))
    none = np.zeros_like(cell)
    air = soil + 0.75 * swing
    return PointTruth(stations, cell, point, none, none, none, soil + 0.45 * swing, air, INSITU_FIRST)


def read_place(simulation: FusionSimulation) -> list[Readings]:
    """What every sensor of a place reports."""
    _, sensors, truth = fusion_stations(simulation)
    first, seed = _FIRST_SENSOR + 100 * list(PLACES).index(simulation.place.name), simulation.world.seed
    return [read_sensor(seed, first + k, one, truth, INSITU_FIRST, INSITU_LAST) for k, one in enumerate(sensors)]
