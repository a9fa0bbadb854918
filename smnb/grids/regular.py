"""Regular latitude/longitude grids, great circles, and square windows of the Universal Transverse Mercator (UTM) projection.

Coordinates follow the data contract: ``lat`` ascending, ``lon`` ascending in [-180, 180). Images around in-situ sensors are cut
on UTM windows: north up, square cells in metres, in the zone of the sensor. Whole multiples of the cell size are edges of cells
by default, as in Sentinel-2's tiles and most exports, so that a raster of the same zone and cell size needs no resampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import Transformer
from rasterio import Affine

from smnb.contract import ParameterError, check_count, check_places, check_range, plain

EARTH_RADIUS_KM = 6371.0  # of the sphere that distances are measured on
_NORTH, _SOUTH = 32600, 32700  # EPSG codes of the UTM zones, less the zone's number


def lat_lon_coords(lat: np.ndarray, lon: np.ndarray) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
    """Coordinates ``lat`` and ``lon`` with CF attributes, for an xarray constructor."""
    north = {"units": "degrees_north", "standard_name": "latitude", "long_name": "latitude"}
    east = {"units": "degrees_east", "standard_name": "longitude", "long_name": "longitude"}
    return {"lat": ("lat", lat, north), "lon": ("lon", lon, east)}


def great_circle_km(lat: ArrayLike, lon: ArrayLike, at_lat: ArrayLike, at_lon: ArrayLike) -> NDArray[np.float64]:
    """Distance on the sphere between points in degrees, km; arguments broadcast.

    Examples
    --------
    >>> float(great_circle_km(0.0, 179.5, 0.0, -179.5).round(2))
    111.19
    """
    a, b, c, d = (np.deg2rad(np.asarray(v, dtype=np.float64)) for v in (lat, at_lat, lon, at_lon))
    half = np.sin((a - b) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin((c - d) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0)))


@dataclass(frozen=True)
class RegularGrid:
    """A grid of square cells in latitude and longitude, given by the cell size and its outer edges, in degrees.

    Edges that leave the globe, or are not a whole number of cells apart, raise `ParameterError`.

    Examples
    --------
    >>> GLOBAL_025.shape
    (720, 1440)
    >>> float(GLOBAL_025.lat[0]), float(GLOBAL_025.lon[-1])
    (-89.875, 179.875)
    """

    resolution: float
    south: float = -90.0
    north: float = 90.0
    west: float = -180.0
    east: float = 180.0

    def __post_init__(self) -> None:
        check_range("RegularGrid", "resolution", self.resolution, 0, ends="(]", units="degrees")
        edges = (self.south, self.north, self.west, self.east)
        if not (-90 <= self.south < self.north <= 90 and -180 <= self.west < self.east <= 180):
            fine = plain("-90 <= south < north <= 90 and -180 <= west < east <= 180")
            raise ParameterError("RegularGrid", "edges are out of order or leave the globe", got=edges, expected=fine)
        cells = np.array([self.north - self.south, self.east - self.west]) / self.resolution
        if (np.abs(cells - cells.round()) > 1e-6).any():
            what = "the edges are no whole number of cells apart"
            raise ParameterError("RegularGrid", what, got=cells.tolist())

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return round((self.north - self.south) / self.resolution), round((self.east - self.west) / self.resolution)

    @cached_property
    def lat(self) -> np.ndarray:
        """Latitudes of the cell centres, ascending."""
        return self.south + (np.arange(self.shape[0]) + 0.5) * self.resolution

    @cached_property
    def lon(self) -> np.ndarray:
        """Longitudes of the cell centres, ascending in [-180, 180)."""
        return self.west + (np.arange(self.shape[1]) + 0.5) * self.resolution

    def coords(self) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
        """Coordinates ``lat`` and ``lon`` with CF attributes, for an xarray constructor."""
        return lat_lon_coords(self.lat, self.lon)


#: The grid of NSIDC-0302 and of the first paper's maps: 0.25°, 720 x 1440, centres at ±0.125 and so on.
GLOBAL_025 = RegularGrid(0.25)


def utm_epsg(lat: float, lon: float) -> int:
    """EPSG code of the UTM zone (WGS 84) that holds a point in degrees, from 80° S to 84° N, where UTM ends.

    It is 326zz north of the equator and on it, 327zz south of it. The wider zones of Norway (32V) and Svalbard (31X, 33X,
    35X, 37X) are kept, as in the Military Grid Reference System, which Sentinel-2's tiles follow.

    References
    ----------
    NGA (2014): The Universal Grids and the Transverse Mercator and Polar Stereographic Map Projections,
    NGA.SIG.0012_2.0.0_UTMUPS.

    Examples
    --------
    >>> utm_epsg(30.3, -97.7), utm_epsg(-35.0, 146.3), utm_epsg(60.4, 5.3)
    (32614, 32755, 32632)
    """
    check_places("utm_epsg", lat, lon)
    check_range("utm_epsg", "lat", lat, -80, 84, units="degrees, where UTM ends")
    lon = (float(lon) + 180.0) % 360.0 - 180.0
    zone = min(int((lon + 180.0) // 6.0), 59) + 1
    if 56.0 <= lat < 64.0 and 3.0 <= lon < 12.0:
        zone = 32
    elif lat >= 72.0 and 0.0 <= lon < 42.0:
        zone = 31 + 2 * sum(lon >= edge for edge in (9.0, 21.0, 33.0))
    return (_NORTH if lat >= 0.0 else _SOUTH) + zone


@lru_cache(maxsize=128)
def _to_utm(epsg: int) -> Transformer:
    return Transformer.from_crs(4326, epsg, always_xy=True)


@dataclass(frozen=True)
class UtmWindow:
    """A square of `size` square cells along a side, of `resolution` m, in a UTM zone (326zz or 327zz), north up.

    `west` and `north` are the outer edges of the first column and row, m.

    Examples
    --------
    >>> window = UtmWindow.centred(30.3, -97.7, size=4, resolution=10)
    >>> window.epsg, window.bounds, window.coarsened(20).size
    (32614, (624990.0, 3352720.0, 625030.0, 3352760.0), 2)
    """

    epsg: int
    west: float
    north: float
    resolution: float
    size: int

    def __post_init__(self) -> None:
        if not (_NORTH < self.epsg <= _NORTH + 60 or _SOUTH < self.epsg <= _SOUTH + 60):
            raise ParameterError("UtmWindow", "'epsg' is no UTM zone's", got=self.epsg, expected="326zz or 327zz")
        check_range("UtmWindow", "west and north", (self.west, self.north), -np.inf, units="m")
        check_range("UtmWindow", "resolution", self.resolution, 0, ends="()", units="m")
        check_count("UtmWindow", "size", self.size)

    @classmethod
    def centred(cls, lat: float, lon: float, *, size: int, resolution: float, snap: bool = True) -> UtmWindow:
        """The window around a point in degrees, in the point's zone.

        With `snap` the edges move to whole multiples of `resolution`, by half a cell at most; without it the point is
        the window's very centre.
        """
        epsg = utm_epsg(lat, lon)
        x, y = _to_utm(epsg).transform(lon, lat)
        half = size * resolution / 2.0
        west, north = x - half, y + half
        if snap:
            west, north = (float(np.floor(edge / resolution + 0.5) * resolution) for edge in (west, north))
        return cls(epsg, float(west), float(north), float(resolution), int(size))

    def coarsened(self, resolution: float) -> UtmWindow:
        """The same ground in coarser (or finer) cells, a whole number of which must fill the window."""
        cells = self.size * self.resolution / resolution if resolution > 0 else 0.0
        if round(cells) < 1 or abs(cells - round(cells)) > 1e-9 * cells:
            what, fine = "no whole number of cells fills the window", f"a part of {self.size * self.resolution:g} m"
            raise ParameterError("UtmWindow.coarsened", what, got=resolution, expected=plain(fine))
        return UtmWindow(self.epsg, self.west, self.north, float(resolution), round(cells))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.size, self.size

    @property
    def transform(self) -> Affine:
        """From column and row, counted from the outer corner, to x and y in m."""
        return Affine(self.resolution, 0.0, self.west, 0.0, -self.resolution, self.north)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north edge, m."""
        side = self.size * self.resolution
        return self.west, self.north - side, self.west + side, self.north

    @property
    def x(self) -> NDArray[np.float64]:
        """Easting of the columns' centres, m, ascending."""
        return self.west + (np.arange(self.size) + 0.5) * self.resolution

    @property
    def y(self) -> NDArray[np.float64]:
        """Northing of the rows' centres, m, descending."""
        return self.north - (np.arange(self.size) + 0.5) * self.resolution

    def lat_lon(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitude and longitude of the cells' centres, degrees, each ``(row, col)``."""
        lon, lat = _to_utm(self.epsg).transform(*np.meshgrid(self.x, self.y), direction="INVERSE")
        return lat, lon
