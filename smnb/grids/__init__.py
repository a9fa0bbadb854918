"""Grids: regular latitude/longitude, EASE-Grid 2.0 and UTM; cells, indices, block means, regridding, distances."""

from smnb.grids.ease import EASE_GRIDS, M01, M03, M09, M36, EaseGrid, EaseWindow
from smnb.grids.regrid import ease_block_mean, ease_refine, match_nearest_in_time, regrid_bilinear
from smnb.grids.regular import EARTH_RADIUS_KM, GLOBAL_025, RegularGrid, UtmWindow, great_circle_km, utm_epsg

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
    "match_nearest_in_time",
    "regrid_bilinear",
    "utm_epsg",
]
