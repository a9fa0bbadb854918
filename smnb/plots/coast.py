"""Coastlines and land that need no download."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import contourpy
import numpy as np
import shapely
from cartopy import config as cartopy_config
from cartopy.io import shapereader

from smnb.contract import ParameterError
from smnb.grids import koppen

#: Derived coastlines by the name of the Natural Earth scale that they stand in for: grid step (degree), tolerance of
#: the simplification (degree) and the smallest island kept (square degrees at the equator). A step is a whole number
#: of the Köppen map's pixels (1/36 degree).
_SCALES = {"110m": (1 / 4, 0.12, 1.0), "50m": (1 / 12, 0.03, 0.02)}


def coastlines(resolution: str = "110m") -> list[np.ndarray]:
    """Return the world's coastlines without touching the network.

    They are Natural Earth's where cartopy has that file on disk already (`cartopy.config` says where it looks), else
    the half-land contour of the Köppen map, simplified and without tiny islands. `cartopy`'s own ``ax.coastlines()``
    and geoviews' features download what they lack, so neither is used.

    Parameters
    ----------
    resolution : {"110m", "50m"}
        For the globe or for a region.

    Returns
    -------
    list of numpy.ndarray
        Read-only (N, 2) arrays of longitude and latitude, degrees, within ±180 and ±90. A closed ring repeats its
        first point; a line that meets the date line ends there, so that none crosses the map.

    Raises
    ------
    ParameterError
        For an unknown resolution.
    """
    if resolution not in _SCALES:
        raise ParameterError("coastlines", "unknown resolution", got=resolution, expected=sorted(_SCALES))
    return list(_coastlines(resolution, _natural_earth_file(resolution)))


def _natural_earth_file(resolution: str) -> Path | None:
    """Return the coastline file that cartopy would read, where it is on disk."""
    name = Path("shapefiles", "natural_earth", "physical", f"ne_{resolution}_coastline.shp")
    for root in ("pre_existing_data_dir", "data_dir", "repo_data_dir"):
        # cartopy's default for the first is the working folder: a file there is not one that the user configured
        folder = str(cartopy_config.get(root) or "")
        if folder not in ("", ".") and (Path(folder) / name).is_file():
            return Path(folder) / name
    return None


@lru_cache(maxsize=4)
def _coastlines(resolution: str, file: Path | None) -> tuple[np.ndarray, ...]:
    lines = _from_koeppen(resolution) if file is None else _from_shapefile(file)
    for line in lines:
        line.setflags(write=False)
    return tuple(lines)


def _from_shapefile(file: Path) -> list[np.ndarray]:
    parts: list[np.ndarray] = []
    for geometry in shapereader.Reader(str(file)).geometries():
        parts += [np.array(part.coords)[:, :2] for part in getattr(geometry, "geoms", [geometry])]
    return [piece for part in parts for piece in _without_map_edges(part)]


def _without_map_edges(line: np.ndarray) -> list[np.ndarray]:
    """Cut a line where it jumps over the date line or runs along the edge of the map instead of a coast."""
    start, end = line[:-1], line[1:]
    jump = np.abs(end[:, 0] - start[:, 0]) > 180.0
    meridian = (np.abs(start[:, 0]) > 179.99) & (np.abs(end[:, 0]) > 179.99)
    pole = (np.abs(start[:, 1]) > 89.99) & (np.abs(end[:, 1]) > 89.99)
    pieces = np.split(line, np.flatnonzero(jump | meridian | pole) + 1)
    return [np.clip(piece, (-180.0, -90.0), (180.0, 90.0)) for piece in pieces if len(piece) > 1]


def _from_koeppen(resolution: str) -> list[np.ndarray]:
    step, tolerance, smallest = _SCALES[resolution]
    lon, lat, land = _global_land(step)
    # nodes on the date line itself, so that a coast ends there on both sides of the map
    seam = 0.5 * (land[:, :1] + land[:, -1:])
    land = np.concatenate([seam, land, seam], axis=1)
    lon = np.concatenate([[-180.0], lon, [180.0]])
    kept = []
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
    return kept


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
