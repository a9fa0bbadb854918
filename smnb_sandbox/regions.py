"""The simulated regions and places: where they are, their climate month by month, what grows there (``data/regions.yaml``).

Three regions are those of the SMEN paper; the twenty places of the 1 km fusion have a square of 1 km cells in their middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnb.grids import M03, M09, M36, EaseWindow
from smnb.papers.smap_sentinel1 import PLACES as SQUARES
from smnb.papers.smen import REGIONS as PAPER_REGIONS
from smnb.papers.smen import window_around
from smnb_sandbox.noise import Float64
from smnb_sandbox.plan import table

Months = tuple[float, ...]
#: Incidence angle in the middle of the swath, degrees, and how far the middles of the three tracks' swaths are from the place's
#: own, km, to the east. A place is as wide as a swath, so that each track misses a part of it.
_MIDDLE_ANGLE, _TRACK_OFFSETS = 38.5, (4.0, -38.0, 31.0)
_LOCAL_HOUR = 6.1  # local solar time of Sentinel-1 on its way down, h


@dataclass(frozen=True)
class Igbp:
    """Priors of a land-cover class: what the SMAP single-channel algorithm would assume, and what the world varies."""

    albedo: float  # single scattering albedo at L band
    roughness: float  # h of the emission model
    b: float  # optical depth over vegetation water content, m2 kg-1
    stem_factor: float  # kg m-2
    ndvi_low: float
    ndvi_high: float
    rms_height_cm: float  # of the bare soil beneath, for the radar


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


@dataclass(frozen=True)
class FusionPlace:
    """A square of 1 km cells within a region, and its in-situ stations."""

    region: Region
    window: EaseWindow  # it begins at an edge of a 3 km cell, and at one of a 9 km cell only by chance
    stations: tuple[tuple[str, int], ...]
    """How many of each network; ``SBX-LOCAL`` stands for networks of other instruments."""
    shared_pixels: int  # how many further stations stand in the 1 km cell of another one

    @property
    def name(self) -> str:
        """Of the region, and in the names of files."""
        return self.region.name

    @property
    def title(self) -> str:
        """For figures."""
        return self.region.title

    @property
    def passive_window(self) -> EaseWindow:
        """The 9 km cells that the daily product holds around the place."""
        return self.window.covering(M09).grown(2)

    @property
    def radar_window(self) -> EaseWindow:
        """The 3 km cells of the SMAP/Sentinel-1 product."""
        return self.window.covering(M03)


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
    region = Region(
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
    )
    return FusionPlace(region, window, tuple(of["stations"].items()), of.get("shared", 1))


_DATA = table("regions")
IGBP: dict[int, Igbp] = {code: Igbp(*values) for code, values in _DATA["igbp"].items()}  # by IGBP class
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
