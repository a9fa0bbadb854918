"""The three regions of the downscaling world: where they are, their climate month by month, and what grows there.

The numbers are round values of the kind that climate normals and land-cover maps give for these places; they make the
regions differ as the real ones do, and stand for nothing that was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smnb.contract import ParameterError
from smnb.grids import M03, M36, EaseWindow

#: Cells of 3 km along a side of a region.
REGION_CELLS = 100
_COARSE = 12

Months = tuple[float, ...]


@dataclass(frozen=True)
class Igbp:
    """Priors of a land-cover class: what the SMAP single-channel algorithm would assume, and what the world varies."""

    albedo: float
    """Single scattering albedo at L band."""
    roughness: float
    """h of the emission model."""
    b: float
    """Optical depth over vegetation water content, m2 kg-1."""
    stem_factor: float
    """kg m-2."""
    ndvi_low: float
    ndvi_high: float
    rms_height_cm: float
    """Of the bare soil beneath, for the radar."""


#: By IGBP class: albedo, h and b of the kind that SMAP tabulates for its single-channel algorithm, used as priors.
IGBP: dict[int, Igbp] = {
    0: Igbp(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5),
    1: Igbp(0.07, 0.160, 0.10, 15.96, 0.52, 0.74, 1.1),
    4: Igbp(0.07, 0.160, 0.12, 12.77, 0.30, 0.82, 1.1),
    5: Igbp(0.07, 0.160, 0.11, 12.77, 0.42, 0.80, 1.1),
    7: Igbp(0.05, 0.110, 0.11, 1.50, 0.14, 0.32, 1.0),
    8: Igbp(0.05, 0.125, 0.11, 4.00, 0.30, 0.66, 1.0),
    9: Igbp(0.05, 0.156, 0.11, 3.00, 0.27, 0.60, 0.97),
    10: Igbp(0.05, 0.156, 0.13, 1.50, 0.22, 0.58, 0.95),
    12: Igbp(0.05, 0.108, 0.11, 3.50, 0.20, 0.68, 1.08),
    13: Igbp(0.03, 0.130, 0.11, 6.49, 0.18, 0.38, 1.25),
    14: Igbp(0.065, 0.130, 0.11, 3.25, 0.26, 0.68, 1.04),
    16: Igbp(0.0, 0.150, 0.0, 0.00, 0.06, 0.14, 0.97),
}


@dataclass(frozen=True)
class Region:
    """One region of the downscaling world; months run from January."""

    name: str
    title: str
    lat: float
    lon: float
    """Of the city, degrees."""
    temperature: Months
    """Monthly mean at the city's height, degrees Celsius."""
    diurnal_half_range: float
    """K."""
    wet_days: Months
    """Probability that a day is wet at a point."""
    rain: Months
    """Mean of a wet day, mm."""
    convective: Months
    """How convective the rain is, 0..1: half of it is the share of its variance at scales of ten kilometres."""
    wetness: Months
    """Between wilting point and field capacity, what the soil dries down to."""
    elevation: float
    """Of the city, m."""
    relief: float
    """m; how far hills and ridges rise."""
    clay: float
    sand: float
    greenness_peak: float
    """Day of the year of the greatest NDVI."""
    greenness: float
    """Factor of the classes' NDVI."""
    cover: tuple[tuple[int, float], ...]
    """IGBP classes from the most open to the most wooded, and the share of each."""
    urban_km: float
    """Radius of the city."""
    water_share: float
    """Share of small lakes and reservoirs."""
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


REGIONS: dict[str, Region] = {
    region.name: region
    for region in (
        Region(
            "oklahoma_city",
            "Oklahoma City",
            35.47,
            -97.52,
            (3.0, 5.5, 10.5, 15.5, 20.5, 25.3, 28.0, 27.6, 23.0, 16.6, 9.8, 4.2),
            6.5,
            (0.14, 0.16, 0.20, 0.22, 0.28, 0.26, 0.19, 0.20, 0.21, 0.20, 0.16, 0.15),
            (6.0, 7.0, 9.5, 10.5, 13.0, 13.0, 11.0, 11.0, 12.0, 12.0, 8.5, 7.5),
            (0.20, 0.20, 0.35, 0.45, 0.50, 0.55, 0.65, 0.65, 0.50, 0.35, 0.25, 0.20),
            (0.42, 0.42, 0.38, 0.34, 0.32, 0.26, 0.18, 0.18, 0.22, 0.28, 0.36, 0.42),
            365.0,
            90.0,
            0.22,
            0.40,
            170.0,
            1.0,
            ((12, 0.26), (10, 0.42), (14, 0.10), (9, 0.12), (8, 0.07), (4, 0.03)),
            22.0,
            0.012,
            passes=((34, "A", 3, 0.42, -40.0, 38.5), (107, "A", 8, 0.55, 105.0, 38.5)),
            scenes=(60, 46, 54),
        ),
        Region(
            "tucson",
            "Tucson",
            32.22,
            -110.97,
            (11.0, 12.6, 16.0, 19.8, 24.8, 30.0, 31.0, 30.0, 27.8, 21.8, 15.2, 10.8),
            8.5,
            (0.10, 0.10, 0.08, 0.04, 0.03, 0.04, 0.27, 0.27, 0.14, 0.07, 0.06, 0.11),
            (6.5, 6.5, 6.0, 4.5, 4.0, 6.0, 7.5, 8.0, 8.0, 8.5, 6.5, 6.5),
            (0.25, 0.25, 0.25, 0.35, 0.50, 0.70, 0.80, 0.80, 0.70, 0.45, 0.25, 0.25),
            (0.10, 0.10, 0.07, 0.03, 0.02, 0.01, 0.05, 0.06, 0.05, 0.04, 0.06, 0.10),
            750.0,
            260.0,
            0.16,
            0.55,
            235.0,
            0.85,
            ((16, 0.10), (7, 0.62), (10, 0.18), (8, 0.06), (1, 0.04)),
            18.0,
            0.001,
            ranges=(
                (30.0, 20.0, 120.0, 13.0, 1700.0),
                (10.0, -70.0, 170.0, 10.0, 1500.0),
                (95.0, -30.0, 160.0, 11.0, 1300.0),
                (-90.0, -30.0, 165.0, 9.0, 900.0),
                (110.0, 70.0, 130.0, 14.0, 1500.0),
                (-60.0, 95.0, 140.0, 9.0, 800.0),
            ),
            passes=((20, "A", 5, 1.30, 20.0, 38.5), (93, "A", 10, 1.43, -110.0, 38.5)),
            scenes=(22, 22, 18),
        ),
        Region(
            "geneva",
            "Geneva",
            46.20,
            6.15,
            (1.6, 2.6, 6.2, 9.8, 14.2, 17.9, 20.2, 19.6, 15.4, 10.8, 5.4, 2.3),
            4.5,
            (0.34, 0.32, 0.33, 0.36, 0.40, 0.37, 0.32, 0.33, 0.32, 0.35, 0.36, 0.35),
            (6.5, 6.5, 6.3, 6.5, 7.0, 8.0, 8.0, 8.5, 9.0, 9.0, 7.5, 7.5),
            (0.10, 0.10, 0.20, 0.30, 0.45, 0.55, 0.60, 0.55, 0.40, 0.20, 0.10, 0.10),
            (0.72, 0.72, 0.66, 0.56, 0.48, 0.40, 0.34, 0.34, 0.40, 0.52, 0.64, 0.70),
            420.0,
            180.0,
            0.24,
            0.34,
            190.0,
            1.05,
            ((12, 0.30), (14, 0.28), (10, 0.18), (5, 0.16), (1, 0.08)),
            9.0,
            0.006,
            lake=(
                (46.205, 6.15, 1.2),
                (46.32, 6.24, 2.2),
                (46.41, 6.42, 5.0),
                (46.45, 6.62, 6.0),
                (46.42, 6.80, 4.5),
                (46.39, 6.90, 2.5),
            ),
            ranges=(
                (80.0, -60.0, 45.0, 45.0, 2200.0),
                (120.0, 30.0, 60.0, 30.0, 1700.0),
                (-30.0, 35.0, 40.0, 16.0, 900.0),
            ),
            passes=((88, "A", 2, 17.25, -30.0, 38.5), (66, "D", 7, 5.60, 135.0, 38.5)),
            scenes=(40, 40, 40),
        ),
    )
}


def find_region(name: str) -> Region:
    """Return a region by name.

    Raises
    ------
    ParameterError
        If there is none of that name.
    """
    if name not in REGIONS:
        raise ParameterError("find_region", "unknown region", got=name, expected=sorted(REGIONS))
    return REGIONS[name]


def region_window(region: Region) -> EaseWindow:
    """The region's 100 x 100 cells of 3 km, the city near their middle.

    It begins at an edge of a 36 km cell in both directions: 8 x 8 whole coarse cells, and a third of a ninth row and
    column, which are simulated whole (`region_domain`), so that every coarse value that touches the region is complete.

    Examples
    --------
    >>> region_window(REGIONS["geneva"])
    EaseWindow(M03, rows 624:724, cols 5928:6028)
    """
    row, col = (int(index) for index in M03.rowcol(region.lat, region.lon))
    starts = [_COARSE * round((index - REGION_CELLS / 2) / _COARSE) for index in (row, col)]
    return EaseWindow(M03, starts[0], starts[0] + REGION_CELLS, starts[1], starts[1] + REGION_CELLS)


def region_domain(region: Region) -> EaseWindow:
    """What is simulated: the 36 km cells that touch the region, and one more all around for the antenna pattern."""
    return region_window(region).covering(M36).grown(1).on(M03)


def monthly(values: Months, day_of_year: NDArray[np.floating]) -> NDArray[np.float64]:
    """Interpolate twelve monthly values between the middles of the months, periodic.

    Examples
    --------
    >>> monthly(tuple(range(12)), np.array([15.22, 60.875])).round(2)
    array([0. , 1.5])
    """
    middles = (np.arange(-1, 13) + 0.5) * 365.25 / 12.0
    wrapped = np.concatenate([values[-1:], values, values[:1]])
    return np.interp(np.asarray(day_of_year, dtype=np.float64), middles, wrapped)
