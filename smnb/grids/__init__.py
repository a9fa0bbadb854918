"""Grids: regular latitude/longitude, EASE-Grid 2.0 and UTM; cells, indices, block means, regridding, distances.

- `regular`: the regular grid, bilinear regridding, great circles;
- `ease`: the global cylindrical EASE-Grid 2.0 (36, 9, 3 and 1 km) and its rectangles;
- `ease_regrid`: means over nested EASE cells, and back to finer ones;
- `utm`: square windows around points in the point's UTM zone.
"""

from smnb.grids.ease import EASE_GRIDS, M01, M03, M09, M36, EaseGrid, EaseWindow
from smnb.grids.ease_regrid import ease_block_mean, ease_refine
from smnb.grids.regular import (
    EARTH_RADIUS_KM,
    GLOBAL_025,
    RegularGrid,
    great_circle_km,
    regrid_bilinear,
)
from smnb.grids.utm import UtmWindow, utm_epsg

__all__ = [
    "EARTH_RADIUS_KM",
    "EASE_GRIDS",
    "GLOBAL_025",
    "M01",
    "M03",
    "M09",
    "M36",
    "EaseGrid",
    "EaseWindow",
    "RegularGrid",
    "UtmWindow",
    "ease_block_mean",
    "ease_refine",
    "great_circle_km",
    "regrid_bilinear",
    "utm_epsg",
]
