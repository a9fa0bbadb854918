"""Coastlines and land that need no download."""

from __future__ import annotations

from functools import lru_cache

import contourpy
import numpy as np
import shapely

from smnb.contract import check_choice
from smnb.grids import koppen

#: Derived coastlines by the name of the Natural Earth scale that they stand in for: grid step (degree), tolerance of
#: the simplification (degree) and the smallest island kept (square degrees at the equator). A step is a whole number
#: of the Köppen map's pixels (1/36 degree).
_SCALES = {"110m": (1 / 4, 0.12, 1.0), "50m": (1 / 12, 0.03, 0.02)}


@lru_cache(maxsize=2)
def coastlines(resolution: str = "110m") -> tuple[np.ndarray, ...]:
    """Return the world's coastlines without touching the network.

    They are the half-land contour of the Köppen map, simplified and without tiny islands. `cartopy`'s own
    ``ax.coastlines()`` and geoviews' features download what they lack, so neither is used.

    Parameters
    ----------
    resolution : {"110m", "50m"}
        For the globe or for a region.

    Returns
    -------
    tuple of numpy.ndarray
        Read-only (N, 2) arrays of longitude and latitude, degrees, within ±180 and ±90. A closed ring repeats its
        first point; a line that meets the date line ends there, so that none crosses the map.
    """
    check_choice("coastlines", "resolution", resolution, _SCALES)
    step, tolerance, smallest = _SCALES[resolution]
    lon, lat, land = _global_land(step)
    # nodes on the date line itself, so that a coast ends there on both sides of the map
    seam = 0.5 * (land[:, :1] + land[:, -1:])
    land = np.concatenate([seam, land, seam], axis=1)
    lon = np.concatenate([[-180.0], lon, [180.0]])
    kept: list[np.ndarray] = []
    for line in contourpy.contour_generator(lon, lat, land, name="serial").lines(0.5):
        closed = bool(np.array_equal(line[0], line[-1]))
        shrink = np.cos(np.radians(line[:, 1].mean()))
        extent = np.ptp(line, axis=0)
        area = shapely.Polygon(line).area if closed and len(line) > 3 else 0.5 * extent.prod()
        if area * shrink < smallest:
            continue
        thin = np.array(shapely.simplify(shapely.LineString(line), tolerance).coords)
        if len(thin) > (3 if closed else 1):
            kept.append(np.round(thin, 3))
            kept[-1].setflags(write=False)
    return tuple(kept)


def _global_land(step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lon = -180.0 + step * (np.arange(round(360 / step)) + 0.5)
    lat = -90.0 + step * (np.arange(round(180 / step)) + 0.5)
    return lon, lat, np.asarray(koppen.land_fraction(lat, lon), dtype="float32")


@lru_cache(maxsize=8)
def land_raster(extent: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return longitudes, latitudes and land fraction (lat, lon) in `extent` (west, east, south, north), for shading."""
    west, east, south, north = extent
    if east - west > 180.0:
        return _global_land(1 / 4)
    step = max(1 / 36, max(east - west, north - south) / 600)
    lon = np.arange(west + step / 2, east, step)
    lat = np.arange(south + step / 2, north, step)
    return lon, lat, np.asarray(koppen.land_fraction(lat, lon), dtype="float32")
