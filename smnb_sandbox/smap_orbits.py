"""When SMAP and Sentinel-1 pass over a region, and what of it they see.

SMAP flies 117 orbits in 8 days, down at 6 a.m. and up at 6 p.m. local time. Its orbits are counted from a real one, number
2801, that crossed the equator upwards on 2015-08-11 at 01:56:40 UTC and 118.685° W. Sentinel-1 repeats a track in 12 days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from smnb.loaders.smap import utc_to_seconds
from smnb_sandbox.noise import EARTH_RADIUS_KM, stream
from smnb_sandbox.regions import Region

#: Zero of ``tb_time_seconds``.
SMAP_EPOCH = datetime(2000, 1, 1, 11, 58, 55, 816000, tzinfo=UTC)
_ORBITS, _DAYS = 117, 8
_PERIOD_S = _DAYS * 86400.0 / _ORBITS
_INCLINATION = np.radians(98.12)
_HALF_SWATH_KM = 500.0
_REFERENCE = (2801, datetime(2015, 8, 11, 1, 56, 40, tzinfo=UTC), -118.68492)

_S1_HALF_SWATH_KM = 125.0
_S1_HEADING = {"A": np.radians(-11.0), "D": np.radians(191.0)}
#: From near to far range of the interferometric wide swath, degrees.
_S1_ANGLE_SPAN = 16.0


@dataclass(frozen=True)
class SmapPass:
    """One half orbit over cells.

    Parameters
    ----------
    orbit : int
    direction : {"A", "D"}
        Up in the evening, down in the morning.
    start : datetime
        When the half orbit began, UTC.
    seconds : ndarray
        When each cell was seen, s since `SMAP_EPOCH`, (row, col).
    covered : ndarray of bool
        Cells within the swath.
    time : datetime
        Mean over these cells, UTC.
    """

    orbit: int
    direction: str
    start: datetime
    seconds: NDArray[np.float64]
    covered: NDArray[np.bool_]
    time: datetime

    @property
    def evening(self) -> bool:
        """Whether it is a 6 p.m. pass."""
        return self.direction == "A"

    def local_day(self, lon: float) -> date:
        """The local solar day at a longitude."""
        return (self.time + timedelta(hours=lon / 15.0)).date()


def _across_and_along(lat: NDArray, lon: NDArray) -> tuple[NDArray, NDArray]:
    """Sine of the distance from the track and angle along it, of an upward half orbit that crosses 0° E at the equator."""
    phi, lam = np.radians(lat), np.radians((lon + 180.0) % 360.0 - 180.0)
    cos_phi, sin_phi = np.cos(phi), np.sin(phi)
    si, ci = np.sin(_INCLINATION), np.cos(_INCLINATION)
    along = np.arcsin(np.clip(sin_phi / si, -1.0, 1.0))
    for _ in range(4):  # the Earth turns beneath the orbit
        inertial = lam + along * (_DAYS / _ORBITS)
        x, y = cos_phi * np.cos(inertial), cos_phi * np.sin(inertial)
        along = np.arctan2(y * ci + sin_phi * si, x)
    return -y * si + sin_phi * ci, along


def smap_passes(lat: NDArray, lon: NDArray, first: date, last: date) -> list[SmapPass]:
    """All half orbits that see a cell between two UTC days, in order.

    Parameters
    ----------
    lat, lon : ndarray
        Of the rows and of the columns of the cells, degrees.
    first, last : date

    Returns
    -------
    list of SmapPass
    """
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
                across, along = _across_and_along(lat if direction == "A" else -lat, lon - crossing)
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


@dataclass(frozen=True)
class Sentinel1Pass:
    """One acquisition of a Sentinel-1 track over a region."""

    track: int
    """Number of the region's track, from 0."""
    relative_orbit: int
    direction: str
    satellite: str
    """"A" or "B"."""
    time: datetime


def sentinel1_passes(region: Region, first: date, last: date) -> list[Sentinel1Pass]:
    """The acquisitions that became a product, in order: of each year as many as the region's `scenes`, evenly spread.

    Orbits are no matter of chance: they are the same for every seed.
    """
    chosen = []
    for year, wanted in zip((2016, 2017, 2018), region.scenes, strict=True):
        passes = []
        day = date(year, 1, 1)
        while day.year == year:
            for number, (orbit, direction, phase, hour, _, _) in enumerate(region.passes):
                if day.toordinal() % 12 == phase:
                    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
                    jitter = float(stream(0, f"sentinel-1 {region.name}", day.toordinal()).uniform(-8.0, 8.0))
                    time = midnight + timedelta(hours=hour, seconds=round(jitter))
                    passes.append(Sentinel1Pass(number, orbit, direction, "A", time))
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


def smap_clock(seconds: NDArray) -> NDArray[np.float64]:
    """The products' seconds, which count leap seconds, of the simulation's, which do not."""
    start = np.datetime64(SMAP_EPOCH.replace(tzinfo=None), "us")
    return utc_to_seconds(start + np.round(np.asarray(seconds) * 1e6).astype("int64").astype("timedelta64[us]"))
