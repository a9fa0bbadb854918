"""Where and when the multi-source world is seen: twenty sites of the contiguous US, their sensors, and the satellites' passes.

A site is the middle of a place of the 1 km fusion. Passes and clouds are the same for every seed, so that the names of files
are. Of each Sentinel-1 track one pass in three is kept, and of Sentinel-2 what a search in the fourteen days before a pass
comes across until it finds a clear scene.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache

import numpy as np
from scipy.special import ndtr

from smnb.grids import UtmWindow, utm_epsg
from smnb_sandbox.files import table
from smnb_sandbox.noise import Float64, autoregressive, stream
from smnb_sandbox.regions import PLACES, Region, Sentinel1Pass, grd_name

FIRST_DAY, LAST_DAY = date(2020, 1, 1), date(2021, 12, 31)
SPIN_UP_DAYS = 60  # days of weather before the first one
PIXEL_M = 10.0
CLEAR_PERCENT = 30.0  # scenes with more of their area under clouds are of no use
SEARCH_DAYS = 14  # days before a Sentinel-1 pass in which a Sentinel-2 scene is looked for
MAP_SITE = "iowa"  # the site around which there is a map: larger rasters on a few dates
#: Days near which the map's passes are, in the order in which an archive has them.
MAP_DAYS = (date(2020, 5, 15), date(2020, 7, 15), date(2020, 9, 15), date(2021, 6, 15))

_SHIFT_LAT, _SHIFT_LON = 0.037, 0.029  # keeps sites off the edges of the coarse products' cells, degrees
_DIVIDE_LON = -98.5  # sites east of this longitude share their tracks' days, those west of it too
_CYCLE_DAYS, _CYCLES, _ONE_IN = 12, 60, 3
#: Direction, local solar hour, day of the cycle in the east and west (UTC), which of three cycles, azimuth that it looks to.
_TRACKS = (("A", 18.0, (1, 5), 0, 78.0), ("D", 6.0, (7, 10), 1, 282.0))
_ORBITS = {"A": 30620, "B": 19624}  # absolute orbit on the first day
_REVISIT_DAYS, _OVERPASS_HOUR = 5, 10.6
_CLOUD_MEMORY = 0.6


def _hash(*parts: object) -> int:
    return zlib.crc32(" ".join(map(str, parts)).encode())


@dataclass(frozen=True)
class Site:
    """A site: the middle of its rasters, its climate and its stations."""

    number: int
    region: Region
    lat: float
    lon: float
    network: str
    sensors: int

    @property
    def name(self) -> str:
        """In the names of files and random streams."""
        return self.region.name

    @property
    def epsg(self) -> int:
        """Of its UTM zone."""
        return utm_epsg(self.lat, self.lon)

    def window(self, size: int) -> UtmWindow:
        """The site's square of so many pixels, a multiple of four: its edges are edges of pixels of 20 m too."""
        return UtmWindow.centred(self.lat, self.lon, size=size // 2, resolution=2 * PIXEL_M).coarsened(PIXEL_M)


def _sites() -> dict[str, Site]:
    # the site with the map comes first, so that the smallest archives have it
    names = [MAP_SITE, *(name for name in PLACES if name != MAP_SITE)]
    return {
        name: Site(
            number,
            PLACES[name],
            round(PLACES[name].lat + _SHIFT_LAT, 3),
            round(PLACES[name].lon + _SHIFT_LON, 3),
            table("multisource")["networks"].get(name, "SCAN"),
            3 if name in table("multisource")["three_sensors"] else 2,
        )
        for number, name in enumerate(names)
    }


SITES: dict[str, Site] = _sites()  # in order: an archive that holds fewer has the first ones


@dataclass(frozen=True)
class SitePass(Sentinel1Pass):
    """One acquisition of a site."""

    site: Site
    look_deg: float  # azimuth that the radar looks to
    angle: float  # Incidence angle in the middle of the site, degrees
    map_number: int | None = None  # which of the map's dates it is

    @property
    def file_name(self) -> str:
        """In the manner of the product's."""
        days = (self.time.date() - FIRST_DAY).days
        return grd_name(self.satellite, self.time, days, _ORBITS[self.satellite], f"{self.site.name} {self.time}")


@dataclass(frozen=True)
class Sentinel2Pass:
    """One scene of a site."""

    site: Site
    time: datetime
    cloud_percentage: float  # of the site's rasters
    satellite: str
    on_map: bool = False

    @property
    def file_name(self) -> str:
        """In the manner of the product's, of a processing baseline before 04.00: numbers without an offset."""
        baseline = "N0208" if self.time.year < 2021 else "N0300"
        orbit = 1 + _hash("relative", self.site.name) % 143
        made = self.time + timedelta(hours=4, minutes=7)
        return (
            f"S2{self.satellite}_MSIL1C_{self.time:%Y%m%dT%H%M%S}_{baseline}_R{orbit:03d}_T{_mgrs_square(self.site)}_"
            f"{made:%Y%m%dT%H%M%S}.tif"
        )


def is_west(site: Site) -> bool:
    """Whether the site is seen on the days of the western tracks."""
    return site.lon < _DIVIDE_LON


def _mgrs_square(site: Site) -> str:
    """Name of the 100 km square of the military grid that the site is in, as tiles of Sentinel-2 are named."""
    west, _, _, north = site.window(4).bounds
    zone = site.epsg % 100
    band = "CDEFGHJKLMNPQRSTUVWX"[int((site.lat + 80.0) // 8.0)]
    column = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3][int(west // 1e5) - 1]
    row = "ABCDEFGHJKLMNPQRSTUV"[(int(north // 1e5) + (0 if zone % 2 else 5)) % 20]
    return f"{zone:02d}{band}{column}{row}"


@cache
def site_passes(site: Site) -> tuple[SitePass, ...]:
    """The passes of a site's two tracks, in order: forty in two years.

    >>> len(site_passes(SITES["iowa"])), str(site_passes(SITES["iowa"])[1].time)
    (40, '2020-01-20 12:06:47+00:00')
    """
    west = is_west(site)
    found = []
    for number, (direction, hour, days, first, look) in enumerate(_TRACKS):
        spin = _hash(direction, site.name)
        utc = timedelta(hours=(hour - site.lon / 15.0) % 24.0, seconds=spin % 960 - 480)
        angle = 31.0 + spin // 960 % 1400 / 100.0
        for cycle in range(first, _CYCLES, _ONE_IN):
            day = datetime.combine(FIRST_DAY, datetime.min.time(), UTC) + timedelta(days[west] + _CYCLE_DAYS * cycle)
            time = (day + utc).replace(microsecond=0)
            # the next full hour, at which a sensor is read, must be within the hour, and not at once
            time += timedelta(minutes=max(0, 3 - time.minute))
            found.append(SitePass(number, direction, "AB"[cycle % 2], time, site, look, angle))
    found.sort(key=lambda one: one.time)
    if site.name != MAP_SITE:
        return tuple(found)
    near = [min(range(len(found)), key=lambda i: abs((found[i].time.date() - day).days)) for day in MAP_DAYS]
    return tuple(replace(one, map_number=near.index(i) if i in near else None) for i, one in enumerate(found))


@cache
def cloud_gaussian(site: Site) -> Float64:
    """How cloudy each day is, as standard normal values, from the spin-up on; rain goes with it."""
    count = SPIN_UP_DAYS + (LAST_DAY - FIRST_DAY).days + 2
    return autoregressive(stream(0, "multisource clouds", site.number), _CLOUD_MEMORY, (count,))


@cache
def sentinel2_passes(site: Site, map_dates: int) -> tuple[Sentinel2Pass, ...]:
    """What a search before each Sentinel-1 pass comes across, from the pass backwards until a scene is clear, in order.

    The last scene before each of so many of the map's dates is clear and as large as the map.
    """
    utc = timedelta(hours=_OVERPASS_HOUR - site.lon / 15.0)
    gaussian, phase = cloud_gaussian(site), _hash("revisit", site.name) % _REVISIT_DAYS
    found: dict[int, Sentinel2Pass] = {}
    # the map's passes first: what they make clear is clear for the others too
    order = sorted(site_passes(site), key=lambda one: one.map_number is None)
    for one in order:
        on_map = one.map_number is not None and one.map_number < map_dates
        for back in range(SEARCH_DAYS + 1):
            day = (one.time.date() - FIRST_DAY).days - back
            time = datetime.combine(FIRST_DAY, datetime.min.time(), UTC) + timedelta(day) + utc
            if (day - phase) % _REVISIT_DAYS or not timedelta() < one.time - time < timedelta(SEARCH_DAYS):
                continue
            # half of the scenes have next to no clouds, a fifth has some, the others are of no use
            percent = np.interp(ndtr(gaussian[day + SPIN_UP_DAYS]), (0, 0.5, 0.7, 0.78, 1), (0, 4, 28, 45, 100))
            cloud = 1.0 if one.map_number is not None else round(float(percent), 2)
            scene = found.setdefault(
                day, Sentinel2Pass(site, time.replace(microsecond=0), cloud, "AB"[day // _REVISIT_DAYS % 2], on_map)
            )
            if scene.cloud_percentage <= CLEAR_PERCENT:
                break
    return tuple(found[day] for day in sorted(found))
