"""The simulated regions and places, their climate and what grows there (``data/regions.yaml``), and when satellites pass what.

Three regions are those of the SMEN paper; twenty places of the 1 km fusion have a square of 1 km cells in their middle. Orbits
are no matter of chance: AMSR-E flew 233 in 16 days, SMAP flies 117 in 8, down at 6 a.m., Sentinel-1 repeats a track in 12 days.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnb.grids import M03, M36, EaseWindow
from smnb.loaders.smap import utc_to_seconds
from smnb.papers.smap_sentinel1 import PLACES as SQUARES
from smnb.papers.smen import REGIONS as PAPER_REGIONS
from smnb.papers.smen import window_around
from smnb_sandbox.files import table
from smnb_sandbox.noise import EARTH_RADIUS_KM, Float64, stream

Months = tuple[float, ...]
#: Incidence angle in the middle of the swath, degrees, and how far the middles of the three tracks' swaths are from the place's
#: own, km, to the east. A place is as wide as a swath, so that each track misses a part of it.
_MIDDLE_ANGLE, _TRACK_OFFSETS = 38.5, (4.0, -38.0, 31.0)
_LOCAL_HOUR = 6.1  # local solar time of Sentinel-1 on its way down, h


@dataclass(frozen=True)
class Region:
    """One region of the downscaling world; months run from January."""

    name: str
    title: str
    lat: float
    lon: float  # of the city, degrees
    temperature: Months  # monthly mean at the city's height, degrees Celsius
    diurnal_half_range: float  # K
    wet_days: Months  # probability that a day is wet at a point
    rain: Months  # mean of a wet day, mm
    convective: Months
    """How convective the rain is, 0..1: half of it is the share of its variance at scales of ten kilometres."""
    wetness: Months  # between wilting point and field capacity, what the soil dries down to
    elevation: float  # of the city, m
    relief: float  # m; how far hills and ridges rise
    clay: float
    sand: float
    greenness_peak: float  # day of the year of the greatest NDVI
    greenness: float  # factor of the classes' NDVI
    cover: tuple[tuple[int, float], ...]  # IGBP classes from the most open to the most wooded, and the share of each
    urban_km: float  # radius of the city
    water_share: float  # share of small lakes and reservoirs
    lake: tuple[tuple[float, float, float], ...] = ()
    """A large lake: points of its middle line, lat and lon, and half its width there, km."""
    ranges: tuple[tuple[float, float, float, float, float], ...] = ()
    """Mountain ranges: position of the middle line east and north of the city (km), its azimuth (degrees from north),
    half width (km), and height above the city (m)."""
    passes: tuple[tuple[int, str, int, float, float, float], ...] = ()
    """Sentinel-1 tracks: relative orbit, direction A or D, day of the 12-day cycle, hour (UTC), and how far the middle of
    its swath is east of the region's (km), and the incidence angle there (degrees)."""
    scenes: tuple[int, int, int] = (0, 0, 0)
    """Acquisitions that became a product in 2016, 2017 and 2018, of all the tracks' passes."""


@dataclass(frozen=True, kw_only=True)
class FusionPlace(Region):
    """A region with a square of 1 km cells in it, and its in-situ stations."""

    window: EaseWindow  # it begins at an edge of a 3 km cell, and at one of a 9 km cell only by chance
    stations: tuple[tuple[str, int], ...]
    """How many of each network; ``SBX-LOCAL`` stands for networks of other instruments."""
    shared_pixels: int  # how many further stations stand in the 1 km cell of another one


def _place(name: str, of: dict[str, Any], data: dict[str, Any], regions: dict[str, Region]) -> FusionPlace:
    """Make a place of a climate that is so much warmer (K) and wetter (factor) than its kind."""
    title, window = SQUARES[name]
    names = ("temperature", "diurnal_half_range", "wet_days", "rain", "convective", "wetness")
    kind = data["climates"][of["climate"]]
    kind = {key: getattr(regions[kind["as_in"]], key) if "as_in" in kind else kind[key] for key in names}
    kind["temperature"] = tuple(t + of.get("warmer", 0.0) for t in kind["temperature"])
    kind["wetness"] = tuple(min(w * of.get("wetter", 1.0), 0.85) for w in kind["wetness"])
    ranges = of.get("ranges", ())
    hour, orbit = (_LOCAL_HOUR - of["lon"] / 15.0) % 24.0, 1 + round((of["lon"] + 180.0) * 175.0 / 360.0)
    return FusionPlace(
        name=name,
        title=title,
        **{key: of[key] for key in ("lat", "lon", "elevation", "clay", "sand")},
        **kind,
        relief=of.get("relief", 90.0),
        greenness_peak=of.get("peak", 190.0),
        greenness=of.get("greenness", 1.0),
        cover=data["covers"][of["cover"]],
        urban_km=8.0,
        water_share=of.get("water", 0.008),
        ranges=data["ranges"][ranges] if isinstance(ranges, str) else ranges,
        passes=tuple((orbit + 22 * i, "D", 0, hour, offset, _MIDDLE_ANGLE) for i, offset in enumerate(_TRACK_OFFSETS)),
        window=window,
        stations=tuple(of["stations"].items()),
        shared_pixels=of.get("shared", 1),
    )


_DATA = table("regions")
#: Priors by IGBP class: what the SMAP single-channel algorithm would assume, and what the world varies.
IGBP: dict[int, dict[str, float]] = {
    code: dict(zip(_DATA["igbp_columns"], values, strict=True)) for code, values in _DATA["igbp"].items()
}
#: The regions of the SMEN paper.
REGIONS: dict[str, Region] = {name: Region(name, *PAPER_REGIONS[name], **of) for name, of in _DATA["regions"].items()}
#: Places of the fusion, in order: an archive that holds fewer has the first ones.
PLACES: dict[str, FusionPlace] = {name: _place(name, of, _DATA, REGIONS) for name, of in _DATA["places"].items()}


def region_window(region: Region) -> EaseWindow:
    """The region's 100 x 100 cells of 3 km, the city near their middle (`smnb.papers.smen.window_around`).

    >>> region_window(REGIONS["geneva"])
    EaseWindow(M03, rows 624:724, cols 5928:6028)
    """
    return window_around(region.lat, region.lon)


def region_domain(region: Region) -> EaseWindow:
    """What is simulated: the 36 km cells that touch the region, and one more all around for the antenna pattern."""
    return region_window(region).covering(M36).grown(1).on(M03)


def monthly(values: Months, day_of_year: NDArray[np.floating]) -> Float64:
    """Interpolate twelve monthly values between the middles of the months, periodic.

    >>> monthly(tuple(range(12)), np.array([15.22, 60.875])).round(2)
    array([0. , 1.5])
    """
    middles = (np.arange(-1, 13) + 0.5) * 365.25 / 12.0
    wrapped = np.concatenate([values[-1:], values, values[:1]])
    return np.interp(np.asarray(day_of_year, dtype=np.float64), middles, wrapped)


_REPEAT_DAYS, _REPEAT_ORBITS = 16, 233
_AMSRE_INCLINATION, _AMSRE_HALF_SWATH_KM = 98.2, 1445.0 / 2.0
LOCAL_HOUR = {"A": 13.5, "D": 1.5}  # local solar time of the equator crossing, by pass
LOST_HALF_ORBITS = 0.012

SMAP_EPOCH = datetime(2000, 1, 1, 11, 58, 55, 816000, tzinfo=UTC)  # zero of ``tb_time_seconds``
_ORBITS, _DAYS = 117, 8
_PERIOD_S = _DAYS * 86400.0 / _ORBITS
_INCLINATION, _HALF_SWATH_KM = 98.12, 500.0
#: A real orbit: its number, and when and where (degrees east) it crossed the equator upwards.
_REFERENCE = (2801, datetime(2015, 8, 11, 1, 56, 40, tzinfo=UTC), -118.68492)

_S1_HALF_SWATH_KM = 125.0
_S1_HEADING = {"A": np.radians(-11.0), "D": np.radians(191.0)}
_S1_ANGLE_SPAN = 16.0  # from near to far range of the interferometric wide swath, degrees
_S1_ORBITS_A_DAY = 175.0 / 12.0


def _across_and_along(lat: NDArray, lon: NDArray, inclination: float, turn: float) -> tuple[NDArray, NDArray]:
    """Sine of the distance from the track and angle along it, of an upward half orbit that crosses 0° E at the equator; radians.

    The Earth turns by `turn` of an orbit's angle beneath it.
    """
    cos_phi, sin_phi = np.cos(lat), np.sin(lat)
    si, ci = float(np.sin(np.radians(inclination))), float(np.cos(np.radians(inclination)))
    along = np.arcsin(np.clip(sin_phi / si, -1.0, 1.0))
    for _ in range(4):
        inertial = lon + along * turn
        x, y = cos_phi * np.cos(inertial), cos_phi * np.sin(inertial)
        along = np.arctan2(y * ci + sin_phi * si, x)
    return -y * si + sin_phi * ci, along


class Swaths:
    """Coverage of AMSR-E's daily images, by pass, on the cells of a global grid that is symmetric about the equator."""

    def __init__(self, lat: NDArray[np.floating], lon: NDArray[np.floating], seed: int) -> None:
        self._seed, self._columns = seed, len(lon)
        phi, lam = (
            np.radians(axis).astype(np.float32) for axis in (np.asarray(lat)[:, None], np.asarray(lon)[None, :])
        )
        # the orbit's plane follows the mean sun, so the Earth turns once a day beneath it
        across, along = _across_and_along(phi, lam, _AMSRE_INCLINATION, _REPEAT_DAYS / _REPEAT_ORBITS)
        ascending = (np.abs(across) <= np.sin(_AMSRE_HALF_SWATH_KM / EARTH_RADIUS_KM)) & (np.abs(along) <= np.pi / 2)
        # south of a descending track lies what is north of an ascending one
        self._template = {"A": ascending, "D": ascending[::-1]}

    def equator_longitudes(self, day: date, orbit_pass: str) -> list[tuple[int, float]]:
        """Orbit number and longitude (degrees) of each equator crossing of this pass within a UTC day."""
        number_of_day = day.toordinal()
        shift = 0.0 if orbit_pass == "A" else 0.5
        first = int(np.ceil(number_of_day * _REPEAT_ORBITS / _REPEAT_DAYS - shift))
        last = int(np.ceil((number_of_day + 1) * _REPEAT_ORBITS / _REPEAT_DAYS - shift))
        hours = [((k + shift) * _REPEAT_DAYS / _REPEAT_ORBITS - number_of_day) * 24.0 for k in range(first, last)]
        return [(k, (LOCAL_HOUR[orbit_pass] - h) * 15.0) for k, h in zip(range(first, last), hours, strict=True)]

    def covered(self, day: date, orbit_pass: str) -> NDArray[np.bool_]:
        """Return the cells that this pass observed on this UTC day, shape (lat, lon)."""
        template = self._template[orbit_pass]
        step = 360.0 / self._columns
        result = np.zeros(template.shape, dtype=bool)
        for number, longitude in self.equator_longitudes(day, orbit_pass):
            if stream(self._seed, f"lost half orbit {orbit_pass}", number).random() < LOST_HALF_ORBITS:
                continue
            columns = round(longitude / step) % self._columns
            result[:, columns:] |= template[:, : self._columns - columns]
            result[:, :columns] |= template[:, self._columns - columns :]
        return result


@dataclass(frozen=True)
class SmapPass:
    """One half orbit over cells."""

    orbit: int
    direction: str  # "A" up in the evening, "D" down in the morning
    start: datetime  # when the half orbit began, UTC
    seconds: Float64  # when each cell was seen, s since `SMAP_EPOCH`, (row, col)
    covered: NDArray[np.bool_]  # cells within the swath
    time: datetime  # mean over these cells, UTC

    @property
    def evening(self) -> bool:
        """Whether it is a 6 p.m. pass."""
        return self.direction == "A"

    def local_day(self, lon: float) -> date:
        """The local solar day at a longitude."""
        return (self.time + timedelta(hours=lon / 15.0)).date()


def smap_passes(lat: NDArray, lon: NDArray, first: date, last: date) -> list[SmapPass]:
    """SMAP's half orbits that see a cell between two UTC days, in order; `lat` of the rows and `lon` of the columns."""
    number0, time0, lon0 = _REFERENCE
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    lat, lon = np.broadcast_arrays(np.asarray(lat)[:, None], np.asarray(lon)[None, :])
    reach = np.sin(_HALF_SWATH_KM / EARTH_RADIUS_KM)
    found = []
    orbits = range(
        number0 + int((begin - time0).total_seconds() // _PERIOD_S) - 1,
        number0 + int((end - time0).total_seconds() // _PERIOD_S) + 2,
    )
    views: dict[tuple[int, str], tuple[NDArray, NDArray]] = {}
    for orbit in orbits:
        for direction, half in (("A", 0.0), ("D", 0.5)):
            turns = orbit - number0 + half
            key = (orbit % _ORBITS, direction)
            if key not in views:
                crossing = lon0 - turns * 360.0 * _DAYS / _ORBITS + 360.0 * half
                # south of a downward track lies what is north of an upward one
                phi = np.radians(lat if direction == "A" else -lat)
                lam = np.radians((lon - crossing + 180.0) % 360.0 - 180.0)
                across, along = _across_and_along(phi, lam, _INCLINATION, _DAYS / _ORBITS)
                views[key] = (np.abs(across) <= reach) & (np.abs(along) <= np.pi / 2), along
            covered, along = views[key]
            if not covered.any():
                continue
            node = (time0 - SMAP_EPOCH).total_seconds() + turns * _PERIOD_S
            seconds = node + along / (2.0 * np.pi) * _PERIOD_S
            start = SMAP_EPOCH + timedelta(seconds=float(node - _PERIOD_S / 4.0))
            time = SMAP_EPOCH + timedelta(seconds=round(float(seconds[covered].mean())))
            if begin <= time < end:
                found.append(SmapPass(orbit, direction, start, seconds, covered, time))
    return sorted(found, key=lambda p: p.time)


def smap_clock(seconds: NDArray) -> Float64:
    """The products' seconds, which count leap seconds, of the simulation's, which do not."""
    start = np.datetime64(SMAP_EPOCH.replace(tzinfo=None), "us")
    return utc_to_seconds(start + np.round(np.asarray(seconds) * 1e6).astype("int64").astype("timedelta64[us]"))


@dataclass(frozen=True)
class Sentinel1Pass:
    """One acquisition of a Sentinel-1 track."""

    track: int  # number of the track at its place, from 0
    direction: str  # A(scending) or D(escending)
    satellite: str  # "A" or "B"
    time: datetime  # UTC


def grd_name(satellite: str, start: datetime, days: int, orbit: int, key: str) -> str:
    """Name of a file of 25 seconds in the manner of the products', some days after the satellite was on an absolute orbit.

    `key` tells it from other files; ``{times}`` in it are the file's own.
    """
    times = "_".join(f"{t:%Y%m%dT%H%M%S}" for t in (start, start + timedelta(seconds=25)))
    orbit += round(days * _S1_ORBITS_A_DAY)
    take = zlib.crc32(f"{satellite} {orbit}".encode()) & 0xFFFFF
    unique = zlib.crc32(key.format(times=times).encode()) & 0xFFFF
    return f"S1{satellite}_IW_GRDH_1SDV_{times}_{orbit:06d}_{take:06X}_{unique:04X}.tif"


def region_passes(region: Region, first: date, last: date) -> list[Sentinel1Pass]:
    """The acquisitions that became a product, in order: of each year as many as the region's `scenes`, evenly spread."""
    chosen = []
    for year, wanted in zip((2016, 2017, 2018), region.scenes, strict=True):
        passes = []
        day = date(year, 1, 1)
        while day.year == year:
            for number, (_, direction, phase, hour, _, _) in enumerate(region.passes):
                if day.toordinal() % 12 == phase:
                    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
                    jitter = float(stream(0, f"sentinel-1 {region.name}", day.toordinal()).uniform(-8.0, 8.0))
                    time = midnight + timedelta(hours=hour, seconds=round(jitter))
                    passes.append(Sentinel1Pass(number, direction, "A", time))
            day += timedelta(days=1)
        passes.sort(key=lambda p: p.time)
        shift = float(stream(0, f"sentinel-1 {region.name} chosen", year).random())
        share = min(wanted / len(passes), 1.0)
        steps = np.floor((np.arange(-1, len(passes)) + shift) * share)
        chosen += [p for p, keep in zip(passes, np.diff(steps) > 0, strict=True) if keep]
    return [p for p in chosen if first <= p.time.date() <= last]


def sentinel1_swath(region: Region, track: int, east: NDArray, north: NDArray) -> tuple[NDArray[np.bool_], NDArray]:
    """What a track sees, and the incidence angle (degrees), of cells at distances from the city (km), (north, east)."""
    _, direction, _, _, offset, middle = region.passes[track]
    heading = _S1_HEADING[direction]
    # looking to the right, range grows to the right of the track
    across = (east[None, :] - offset) * np.cos(heading) - north[:, None] * np.sin(heading)
    angle = middle + across / (2.0 * _S1_HALF_SWATH_KM) * _S1_ANGLE_SPAN
    return np.abs(across) <= _S1_HALF_SWATH_KM, angle.astype(np.float32)
