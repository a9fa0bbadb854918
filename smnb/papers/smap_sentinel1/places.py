"""Where the 1 km fusion is simulated: twenty places of the contiguous US, their climates, and which sensors stand there.

A place is a `Region` of the downscaling world, with the same physics, and a square of 1 km cells in its middle. As there, the
numbers are round values of the kind that climate normals and land-cover maps give; they make the places differ as the real
ones do, and stand for nothing that was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from smnb.contract import ParameterError
from smnb.grids import M01, M03, M09, M36, EaseWindow
from smnb.papers.smen.places import REGIONS, Months, Region, region_window

#: Cells of 1 km along a side of a place: the paper's patch.
PLACE_CELLS = 256
#: The same of the one larger place: all whole 36 km cells of its region.
LARGE_CELLS = 324
#: Incidence angle in the middle of the swath, degrees, and how far the middles of the three tracks' swaths are from the place's
#: own, km, to the east. A place is as wide as a swath, so that each track misses a part of it.
_MIDDLE_ANGLE, _TRACK_OFFSETS = 38.5, (4.0, -38.0, 31.0)
#: Local solar time of Sentinel-1 on its way down, h.
_LOCAL_HOUR = 6.1


@dataclass(frozen=True)
class _Climate:
    """Monthly values as in `Region`, and half the daily range of temperature, K."""

    temperature: Months
    half_range: float
    wet_days: Months
    rain: Months
    convective: Months
    wetness: Months


def _climate_of(region: Region) -> _Climate:
    return _Climate(
        region.temperature, region.diurnal_half_range, region.wet_days, region.rain, region.convective, region.wetness
    )


_CONVECTIVE = (0.20, 0.20, 0.35, 0.45, 0.50, 0.60, 0.70, 0.70, 0.55, 0.35, 0.25, 0.20)
_CLIMATES: dict[str, _Climate] = {
    "plains": _climate_of(REGIONS["oklahoma_city"]),
    "monsoon": _climate_of(REGIONS["tucson"]),
    "humid": _Climate(
        (7.0, 9.0, 13.0, 17.5, 22.0, 26.0, 27.5, 27.3, 24.0, 18.0, 12.5, 8.5),
        5.5,
        (0.33, 0.32, 0.32, 0.29, 0.29, 0.30, 0.33, 0.29, 0.25, 0.21, 0.27, 0.32),
        (13.0, 13.0, 13.0, 13.0, 12.0, 11.5, 11.5, 11.0, 11.5, 12.0, 12.5, 13.0),
        _CONVECTIVE,
        (0.72, 0.70, 0.64, 0.55, 0.46, 0.40, 0.40, 0.36, 0.34, 0.38, 0.52, 0.66),
    ),
    "corn": _Climate(
        (-5.0, -3.0, 4.0, 10.5, 16.5, 22.0, 24.0, 22.8, 18.3, 11.5, 4.0, -2.5),
        5.5,
        (0.22, 0.22, 0.27, 0.31, 0.35, 0.32, 0.28, 0.27, 0.25, 0.25, 0.24, 0.24),
        (4.0, 4.5, 6.0, 8.5, 10.0, 11.0, 11.5, 11.0, 9.5, 8.0, 7.0, 5.0),
        _CONVECTIVE,
        (0.60, 0.60, 0.62, 0.56, 0.50, 0.44, 0.36, 0.34, 0.34, 0.40, 0.50, 0.58),
    ),
    "steppe": _Climate(
        (-4.0, -2.5, 2.5, 8.0, 13.5, 19.5, 23.0, 22.0, 17.0, 9.5, 2.0, -4.0),
        7.5,
        (0.10, 0.11, 0.15, 0.19, 0.25, 0.25, 0.23, 0.20, 0.16, 0.13, 0.11, 0.10),
        (2.5, 3.0, 4.5, 5.5, 7.0, 7.5, 7.0, 6.0, 5.5, 5.0, 3.5, 3.0),
        _CONVECTIVE,
        (0.30, 0.32, 0.34, 0.32, 0.30, 0.25, 0.18, 0.16, 0.16, 0.20, 0.25, 0.28),
    ),
    "mountain": _Climate(
        (-4.0, -2.0, 3.0, 7.0, 12.0, 17.0, 22.5, 21.5, 16.0, 9.0, 2.0, -4.0),
        8.0,
        (0.32, 0.29, 0.30, 0.28, 0.26, 0.20, 0.10, 0.10, 0.13, 0.20, 0.30, 0.33),
        (4.5, 4.3, 4.3, 4.5, 5.0, 4.5, 4.0, 4.0, 4.5, 4.5, 4.6, 4.6),
        (0.10, 0.10, 0.20, 0.30, 0.45, 0.55, 0.60, 0.60, 0.45, 0.25, 0.10, 0.10),
        (0.55, 0.55, 0.50, 0.42, 0.34, 0.24, 0.10, 0.08, 0.12, 0.22, 0.40, 0.50),
    ),
    "dry_summer": _Climate(
        (8.0, 10.0, 12.0, 15.0, 19.0, 23.0, 26.0, 25.5, 23.0, 18.0, 12.0, 8.0),
        7.5,
        (0.35, 0.32, 0.30, 0.20, 0.12, 0.06, 0.02, 0.02, 0.05, 0.12, 0.25, 0.33),
        (9.0, 9.0, 8.0, 7.0, 6.0, 4.0, 2.0, 2.0, 4.0, 6.0, 8.0, 9.0),
        (0.10, 0.10, 0.15, 0.20, 0.30, 0.40, 0.50, 0.50, 0.40, 0.20, 0.10, 0.10),
        (0.65, 0.62, 0.52, 0.36, 0.22, 0.12, 0.06, 0.05, 0.06, 0.14, 0.36, 0.56),
    ),
}

#: IGBP classes and their shares, from the most open to the most wooded.
_COVERS: dict[str, tuple[tuple[int, float], ...]] = {
    "crops": ((12, 0.58), (10, 0.22), (14, 0.12), (9, 0.04), (4, 0.04)),
    "mixed": ((12, 0.26), (10, 0.40), (14, 0.12), (9, 0.12), (8, 0.06), (4, 0.04)),
    "range": ((16, 0.02), (12, 0.10), (7, 0.24), (10, 0.54), (9, 0.07), (8, 0.03)),
    "desert": ((16, 0.10), (7, 0.62), (10, 0.18), (8, 0.06), (1, 0.04)),
    "wooded": ((12, 0.22), (14, 0.28), (10, 0.16), (8, 0.12), (5, 0.12), (4, 0.10)),
    "sage": ((7, 0.40), (12, 0.14), (10, 0.28), (8, 0.08), (1, 0.10)),
}


@dataclass(frozen=True)
class FusionPlace:
    """A square of 1 km cells within a region, and its in-situ stations.

    Parameters
    ----------
    region : Region
    cells : int
        Along a side.
    stations : dict of str to int
        How many of each network; ``SBX-LOCAL`` stands for networks of other instruments.
    shared_pixels : int
        How many further stations stand in the 1 km cell of another one.
    """

    region: Region
    cells: int
    stations: tuple[tuple[str, int], ...]
    shared_pixels: int = 1

    @property
    def name(self) -> str:
        """Of the region, and in the names of files."""
        return self.region.name

    @property
    def title(self) -> str:
        """For figures."""
        return self.region.title

    @property
    def window(self) -> EaseWindow:
        """The square, on the 1 km grid; it begins at an edge of a 3 km cell, and at one of a 9 km cell only by chance."""
        if self.cells > PLACE_CELLS:
            return region_window(self.region).covering(M36).on(M01)
        whole = region_window(self.region).on(M01)
        row, col = (
            start + (size - self.cells) // 2 // 3 * 3
            for start, size in zip((whole.row_start, whole.col_start), whole.shape, strict=True)
        )
        return EaseWindow(M01, row, row + self.cells, col, col + self.cells)

    @property
    def passive_window(self) -> EaseWindow:
        """The 9 km cells that the daily product holds around the place."""
        inner = self.window.covering(M09)
        return EaseWindow(M09, inner.row_start - 2, inner.row_stop + 2, inner.col_start - 2, inner.col_stop + 2)

    @property
    def radar_window(self) -> EaseWindow:
        """The 3 km cells of the SMAP/Sentinel-1 product."""
        return self.window.covering(M03)


def _place(
    name: str,
    title: str,
    lat: float,
    lon: float,
    climate: str,
    elevation: float,
    clay: float,
    sand: float,
    cover: str,
    stations: str,
    *,
    warmer: float = 0.0,
    wetter: float = 1.0,
    relief: float = 90.0,
    greenness: float = 1.0,
    peak: float = 190.0,
    water: float = 0.008,
    ranges: tuple[tuple[float, float, float, float, float], ...] = (),
    cells: int = PLACE_CELLS,
    shared: int = 1,
) -> FusionPlace:
    """Make a place of a climate that is so much warmer (K) and wetter (factor) than its kind."""
    kind = _CLIMATES[climate]
    hour = (_LOCAL_HOUR - lon / 15.0) % 24.0
    orbit = 1 + round((lon + 180.0) * 175.0 / 360.0)
    region = Region(
        name,
        title,
        lat,
        lon,
        tuple(t + warmer for t in kind.temperature),
        kind.half_range,
        kind.wet_days,
        kind.rain,
        kind.convective,
        tuple(min(w * wetter, 0.85) for w in kind.wetness),
        elevation,
        relief,
        clay,
        sand,
        peak,
        greenness,
        _COVERS[cover],
        8.0,
        water,
        ranges=ranges,
        passes=tuple((orbit + 22 * i, "D", 0, hour, offset, _MIDDLE_ANGLE) for i, offset in enumerate(_TRACK_OFFSETS)),
    )
    counts = tuple((network, int(count)) for network, count in (part.split(":") for part in stations.split()))
    return FusionPlace(region, cells, counts, shared)


_BASIN = ((-70.0, 60.0, 150.0, 14.0, 1100.0), (60.0, -50.0, 165.0, 13.0, 1000.0), (85.0, 80.0, 140.0, 12.0, 900.0))
_FRONT = ((-95.0, 0.0, 172.0, 28.0, 1500.0),)

#: In order: an archive that holds fewer has the first ones.
PLACES: dict[str, FusionPlace] = {
    place.name: place
    for place in (
        _place(
            "oklahoma",
            "Oklahoma",
            35.9,
            -97.6,
            "plains",
            320.0,
            0.24,
            0.36,
            "mixed",
            "ARM:7 SCAN:3 USCRN:1 SBX-LOCAL:2",
        ),
        _place(
            "west_texas",
            "West Texas",
            32.6,
            -101.6,
            "plains",
            850.0,
            0.20,
            0.52,
            "range",
            "SCAN:6 USCRN:2 SBX-LOCAL:1",
            warmer=2.0,
            wetter=0.55,
            greenness=0.8,
        ),
        _place(
            "nebraska",
            "Nebraska",
            41.0,
            -98.3,
            "corn",
            580.0,
            0.22,
            0.30,
            "crops",
            "SCAN:7 USCRN:2",
            wetter=0.8,
            greenness=1.05,
            peak=205.0,
        ),
        _place(
            "mississippi",
            "Mississippi",
            33.6,
            -90.6,
            "humid",
            45.0,
            0.34,
            0.22,
            "wooded",
            "SCAN:8 USCRN:2 SBX-LOCAL:1",
            relief=40.0,
            greenness=1.05,
            water=0.02,
        ),
        _place(
            "arizona",
            "Arizona",
            33.4,
            -110.4,
            "monsoon",
            950.0,
            0.16,
            0.56,
            "desert",
            "SCAN:2 SNOTEL:1 USCRN:1",
            warmer=-4.0,
            wetter=1.4,
            relief=260.0,
            greenness=0.85,
            peak=235.0,
            ranges=_BASIN,
        ),
        _place(
            "idaho",
            "Idaho",
            43.2,
            -115.6,
            "mountain",
            950.0,
            0.17,
            0.42,
            "sage",
            "SNOTEL:6 SCAN:3 USCRN:1",
            relief=220.0,
            greenness=0.95,
            peak=165.0,
            ranges=((40.0, 60.0, 100.0, 30.0, 1100.0),),
        ),
        _place(
            "kansas",
            "Kansas",
            37.9,
            -101.0,
            "plains",
            640.0,
            0.26,
            0.26,
            "crops",
            "ARM:3 SCAN:5 USCRN:1",
            warmer=-3.0,
            wetter=0.75,
        ),
        _place(
            "iowa",
            "Iowa",
            42.0,
            -93.5,
            "corn",
            300.0,
            0.26,
            0.24,
            "crops",
            "SCAN:7 USCRN:1 SBX-LOCAL:2",
            greenness=1.1,
            peak=205.0,
        ),
        _place("alabama", "Alabama", 34.4, -86.9, "humid", 210.0, 0.27, 0.34, "wooded", "SCAN:12 USCRN:2", shared=2),
        _place("georgia", "Georgia", 31.6, -83.5, "humid", 100.0, 0.14, 0.66, "wooded", "SCAN:5 USCRN:2", warmer=1.5),
        _place(
            "kentucky",
            "Kentucky",
            37.4,
            -85.6,
            "humid",
            230.0,
            0.26,
            0.22,
            "wooded",
            "SCAN:3 USCRN:1",
            warmer=-4.0,
            relief=140.0,
            shared=0,
        ),
        _place(
            "missouri",
            "Missouri",
            37.9,
            -92.4,
            "humid",
            320.0,
            0.25,
            0.26,
            "mixed",
            "SCAN:5 USCRN:2",
            warmer=-4.0,
            wetter=0.9,
            relief=120.0,
        ),
        _place(
            "south_dakota",
            "South Dakota",
            44.7,
            -100.6,
            "corn",
            560.0,
            0.30,
            0.28,
            "range",
            "SCAN:5 USCRN:2",
            wetter=0.65,
            greenness=0.95,
            peak=185.0,
        ),
        _place(
            "montana",
            "Montana",
            47.2,
            -110.0,
            "steppe",
            1050.0,
            0.26,
            0.34,
            "range",
            "SCAN:4 SNOTEL:4 USCRN:1",
            warmer=-2.0,
            greenness=0.9,
            peak=175.0,
            relief=180.0,
            ranges=((-80.0, -40.0, 150.0, 22.0, 900.0),),
        ),
        _place(
            "colorado",
            "Colorado",
            39.5,
            -104.4,
            "steppe",
            1600.0,
            0.21,
            0.48,
            "range",
            "SCAN:4 SNOTEL:5 USCRN:2",
            greenness=0.85,
            peak=180.0,
            relief=120.0,
            ranges=_FRONT,
        ),
        _place(
            "new_mexico",
            "New Mexico",
            34.6,
            -106.5,
            "monsoon",
            1600.0,
            0.18,
            0.52,
            "range",
            "SCAN:5 USCRN:2 SNOTEL:1",
            warmer=-6.0,
            wetter=1.6,
            greenness=0.8,
            peak=235.0,
            relief=180.0,
            ranges=((30.0, 20.0, 10.0, 14.0, 1000.0),),
        ),
        _place(
            "utah",
            "Utah",
            39.6,
            -112.3,
            "mountain",
            1550.0,
            0.19,
            0.40,
            "sage",
            "SCAN:6 SNOTEL:6 USCRN:1",
            warmer=1.0,
            wetter=0.8,
            greenness=0.8,
            relief=200.0,
            ranges=_BASIN,
            shared=2,
        ),
        _place(
            "california",
            "California",
            36.6,
            -120.0,
            "dry_summer",
            90.0,
            0.24,
            0.40,
            "mixed",
            "SCAN:3 USCRN:1",
            greenness=0.9,
            peak=160.0,
            relief=60.0,
            ranges=((100.0, 20.0, 150.0, 26.0, 1500.0),),
            shared=0,
        ),
        _place(
            "oregon",
            "Oregon",
            44.6,
            -119.8,
            "mountain",
            900.0,
            0.20,
            0.40,
            "sage",
            "SNOTEL:7 SCAN:2 USCRN:1",
            warmer=-0.5,
            wetter=1.1,
            relief=240.0,
            ranges=((60.0, -10.0, 100.0, 22.0, 900.0),),
        ),
        # all whole coarse cells of its region: a map to make in one go, beside the patches
        _place(
            "piedmont",
            "Carolina Piedmont",
            35.6,
            -80.0,
            "humid",
            190.0,
            0.28,
            0.38,
            "wooded",
            "SCAN:9 USCRN:2 SBX-LOCAL:1",
            warmer=-1.0,
            water=0.015,
            relief=110.0,
            cells=LARGE_CELLS,
        ),
    )
}


def find_place(name: str) -> FusionPlace:
    """Return a place by name.

    Raises
    ------
    ParameterError
        If there is none of that name.
    """
    if name not in PLACES:
        raise ParameterError("find_place", "unknown place", got=name, expected=list(PLACES))
    return PLACES[name]


def places_of(count: int) -> list[FusionPlace]:
    """The first places, as many as an archive holds."""
    return list(PLACES.values())[:count]
