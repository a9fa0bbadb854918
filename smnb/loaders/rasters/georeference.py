"""Where a raster's cells are: bounds in degrees, the cells at points, and the offset of a window on the same grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio import Affine

from smnb.grids import UtmWindow
from smnb.loaders.sentinel.rasters import Geometry

__all__: list[str] = []

#: Points along a side of the lattice from which bounds in degrees are found.
_LATTICE = 33
#: A window lies on a raster's own grid where no edge is farther off than this share of a pixel.
_ALIGNED = 1e-3


@lru_cache(maxsize=256)
def _crs(wkt: str) -> CRS:
    return CRS.from_wkt(wkt)


@lru_cache(maxsize=256)
def _from_degrees(wkt: str) -> Transformer:
    return Transformer.from_crs(CRS.from_epsg(4326), _crs(wkt), always_xy=True)


@lru_cache(maxsize=256)
def _is_utm_zone(wkt: str, epsg: int) -> bool:
    return _crs(wkt).equals(CRS.from_epsg(epsg), ignore_axis_order=True)


@lru_cache(maxsize=128)
def utm_wkt(epsg: int) -> str:
    """A UTM zone's reference system as WKT."""
    return CRS.from_epsg(epsg).to_wkt()


@dataclass(frozen=True)
class Georeference:
    """A raster's geometry, and what follows from it.

    Parameters
    ----------
    geometry : Geometry
        Reference system, affine map and size.
    """

    geometry: Geometry

    @property
    def crs(self) -> str:
        """Reference system, WKT."""
        return self.geometry.crs

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.geometry.height, self.geometry.width

    @cached_property
    def _inverse(self) -> Affine:
        return ~Affine(*self.geometry.transform)

    @cached_property
    def period(self) -> float | None:
        """Columns of a full turn, where columns are longitudes."""
        a, b, _, d, _, _ = self.geometry.transform
        is_lonlat = _crs(self.crs).is_geographic and b == 0.0 and d == 0.0
        return 360.0 / abs(a) if is_lonlat else None

    @cached_property
    def is_round(self) -> bool:
        """Whether the columns go all around the earth, so that the last has the first as its neighbour."""
        return self.period is not None and abs(self.period - self.geometry.width) < 0.01

    def fractional(self, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
        """Row and column of points of the raster's own reference system, counted from its corner, not wrapped."""
        inverse = self._inverse
        return inverse.d * x + inverse.e * y + inverse.f, inverse.a * x + inverse.b * y + inverse.c

    def cells_at(self, lat: NDArray, lon: NDArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and column of the cells that hold points (degrees), -1 where they lie outside."""
        x, y = _from_degrees(self.crs).transform(lon, lat, errcheck=False)
        row, col = self.fractional(np.asarray(x, "float64"), np.asarray(y, "float64"))
        if self.period is not None:
            col = np.mod(col, self.period)
        return self.whole(row, col)

    def whole(self, row: NDArray, col: NDArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The cells of fractional rows and columns, both -1 outside the raster."""
        height, width = self.shape
        # a longitude a rounding error west of a global raster's first edge lies in the last column
        limit = width + 0.01 if self.is_round else width
        inside = (row >= 0.0) & (row < height) & (col >= 0.0) & (col < limit)
        found = (np.floor(np.where(inside, values, -1.0)).astype(np.intp) for values in (row, col))
        rows, cols = found
        return rows, np.minimum(cols, width - 1)

    def offset_of(self, window: UtmWindow) -> tuple[int, int] | None:
        """Row and column of a window's corner where it lies on this very grid, or None."""
        a, b, c, d, e, f = self.geometry.transform
        step = window.resolution
        drift = max(abs(a - step), abs(e + step)) * window.size
        if b or d or drift > _ALIGNED * step or not _is_utm_zone(self.crs, window.epsg):
            return None
        row, col = (f - window.north) / step, (window.west - c) / step
        if max(abs(row - round(row)), abs(col - round(col))) > _ALIGNED:
            return None
        return round(row), round(col)

    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east and north in degrees, with west > east across the date line; None where it is off the globe.

        Longitudes are in [-180, 180], and those of a raster around the earth or a pole -180 and 180.
        """
        return _bounds(self.geometry)


@lru_cache(maxsize=4096)
def georeference(geometry: Geometry) -> Georeference:
    """The one `Georeference` of a geometry."""
    return Georeference(geometry)


@lru_cache(maxsize=4096)
def _bounds(geometry: Geometry) -> tuple[float, float, float, float] | None:
    rows, cols = (np.linspace(0.0, size, _LATTICE) for size in (geometry.height, geometry.width))
    (a, b, c, d, e, f), (col, row) = geometry.transform, np.meshgrid(cols, rows)
    x, y = a * col + b * row + c, d * col + e * row + f
    if _crs(geometry.crs).is_geographic:
        lon, lat = x, y  # transforming would wrap longitudes of 0..360 and lose where the raster begins
    else:
        lon, lat = _from_degrees(geometry.crs).transform(x, y, direction="INVERSE", errcheck=False)
        finite = np.isfinite(lon) & np.isfinite(lat)
        if not finite.any():
            return None
        middle = lon[finite][finite.sum() // 2]
        lon, lat = (lon[finite] - middle + 180.0) % 360.0 - 180.0 + middle, lat[finite]
    west, east = float(lon.min()), float(lon.max())
    south, north = max(float(lat.min()), -90.0), min(float(lat.max()), 90.0)
    for pole in (-90.0, 90.0):
        if (
            not _crs(geometry.crs).is_geographic
            and georeference(geometry).cells_at(np.array([pole]), np.zeros(1))[0] >= 0
        ):
            west, east = -180.0, 180.0
            south, north = min(south, pole), max(north, pole)
    if east - west >= 360.0 - 1e-6:
        return -180.0, south, 180.0, north
    turn = np.floor((west + 180.0) / 360.0) * 360.0
    west, east = west - turn, east - turn
    return west, south, east - 360.0 if east > 180.0 else east, north
