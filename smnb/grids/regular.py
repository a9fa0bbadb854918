"""Regular latitude/longitude grids: cell centres, indices, area weights, regridding and block means.

Coordinates follow the data contract: ``lat`` ascending, ``lon`` ascending in [-180, 180).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from smnb.contract import ContractError, ParameterError, plain
from smnb.grids.separable import interpolator, linear_weights, map_images

#: Of the sphere that distances are measured on.
EARTH_RADIUS_KM = 6371.0

_COORDINATE_ATTRS = {
    "lat": {"units": "degrees_north", "standard_name": "latitude", "long_name": "latitude"},
    "lon": {"units": "degrees_east", "standard_name": "longitude", "long_name": "longitude"},
}


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
    """A grid of square cells in latitude and longitude, given by its outer edges.

    Parameters
    ----------
    resolution : float
        Cell size, degrees.
    south, north, west, east : float
        Outer edges of the grid, degrees; by default the globe.

    Raises
    ------
    ParameterError
        If the edges leave the globe, or are not a whole number of cells apart.

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
        edges = (self.south, self.north, self.west, self.east)
        if not (self.resolution > 0 and np.isfinite([self.resolution, *edges]).all()):
            raise ParameterError("RegularGrid", "resolution is not a positive number", got=self.resolution)
        if not (-90 <= self.south < self.north <= 90 and -180 <= self.west < self.east <= 180):
            raise ParameterError(
                "RegularGrid",
                "edges are out of order or leave the globe",
                got=edges,
                expected=plain("-90 <= south < north <= 90 and -180 <= west < east <= 180"),
            )
        for name, extent in (("latitude", self.north - self.south), ("longitude", self.east - self.west)):
            cells = extent / self.resolution
            if abs(cells - round(cells)) > 1e-6:
                raise ParameterError("RegularGrid", f"{name} is not a whole number of cells", got=cells)

    @property
    def n_lat(self) -> int:
        """Number of rows."""
        return round((self.north - self.south) / self.resolution)

    @property
    def n_lon(self) -> int:
        """Number of columns."""
        return round((self.east - self.west) / self.resolution)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, ``(n_lat, n_lon)``."""
        return self.n_lat, self.n_lon

    @cached_property
    def lat(self) -> np.ndarray:
        """Latitudes of the cell centres, ascending, ``(n_lat,)``."""
        return self.south + (np.arange(self.n_lat) + 0.5) * self.resolution

    @cached_property
    def lon(self) -> np.ndarray:
        """Longitudes of the cell centres, ascending in [-180, 180), ``(n_lon,)``."""
        return self.west + (np.arange(self.n_lon) + 0.5) * self.resolution

    def coords(self) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
        """Coordinates ``lat`` and ``lon`` with CF attributes, for an xarray constructor."""
        return {name: (name, getattr(self, name), dict(attrs)) for name, attrs in _COORDINATE_ATTRS.items()}


#: The grid of NSIDC-0302 and of the first paper's maps: 0.25°, 720 x 1440, centres at ±0.125 and so on.
GLOBAL_025 = RegularGrid(0.25)


def _axis(who: str, array: xr.DataArray, name: str) -> np.ndarray:
    if name not in array.dims or name not in array.coords:
        raise ContractError(who, f"no dimension {name!r} with coordinates", got=array.dims, expected=("lat", "lon"))
    values = np.asarray(array[name].values, dtype="float64")
    if values.size == 0 or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
        raise ContractError(
            who, f"source {name!r} is empty or not ascending", next_step="Pass it through contract.orient_lat_lon"
        )
    return values


def _target_axes(who: str, target: RegularGrid | tuple[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(target, RegularGrid):
        return target.lat, target.lon
    try:
        lat, lon = (np.atleast_1d(np.asarray(axis, dtype="float64")) for axis in target)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            who, "target is neither a RegularGrid nor (lat, lon)", got=type(target).__name__
        ) from error
    if lat.ndim != 1 or lon.ndim != 1 or not (np.isfinite(lat).all() and np.isfinite(lon).all()):
        raise ParameterError(who, "target lat and lon are not finite vectors", got=(lat.shape, lon.shape))
    return lat, lon


def _closes(lon: np.ndarray) -> bool:
    """Whether source longitudes go round the globe: the gap over the date line is like any other."""
    return lon.size > 1 and lon[0] + 360.0 - lon[-1] <= 1.5 * float(np.median(np.diff(lon)))


def _extended(source: np.ndarray, *, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Source positions with a periodic neighbour on both ends, and the source index of each position."""
    index = np.arange(source.size)
    if not periodic:
        return source, index
    return np.r_[source[-1] - 360.0, source, source[0] + 360.0], np.r_[index[-1], index, index[0]]


def _covered(source: np.ndarray, target: np.ndarray, *, pole: bool) -> np.ndarray:
    """Whether targets lie within the outer cells of the source (half a step beyond the outer centres).

    A source that reaches to within one step of a pole covers the pole.
    """
    first, last = (np.diff(source)[[0, -1]]) if source.size > 1 else (0.0, 0.0)
    low, high = source[0] - first / 2, source[-1] + last / 2
    if pole:
        low = -90.0 if source[0] - first <= -90.0 else low
        high = 90.0 if source[-1] + last >= 90.0 else high
    return (target >= low - 1e-9) & (target <= high + 1e-9)


def _wrap_to(source: np.ndarray, target: np.ndarray, *, periodic: bool) -> np.ndarray:
    """Target longitudes moved by whole turns to where the source is."""
    start = source[0] if periodic else (source[0] + source[-1]) / 2 - 180.0
    return start + np.mod(target - start, 360.0)


def _linear_weights(source: np.ndarray, target: np.ndarray, *, lon: bool) -> sparse.csr_matrix:
    """Weights of linear interpolation, ``(target, source)``; a row of zeros where the source does not reach."""
    periodic = lon and _closes(source)
    if lon:
        target = _wrap_to(source, target, periodic=periodic)
    covered = np.ones(target.size, bool) if periodic else _covered(source, target, pole=not lon)
    positions, index = _extended(source, periodic=periodic)
    return linear_weights(positions, index, target, covered)


def _check_overlap(who: str, source: tuple[np.ndarray, np.ndarray], covered: tuple[Any, Any], target: Any) -> None:
    for name, axis, reached in zip(("lat", "lon"), source, covered, strict=True):
        if not np.any(reached):
            raise ContractError(
                who,
                f"source and target do not overlap in {name}",
                got=f"source {axis[0]:g}..{axis[-1]:g}",
                expected=plain(f"an overlap with {target[name == 'lon'].min():g}..{target[name == 'lon'].max():g}"),
                next_step="Choose another region, or open the files that cover it",
            )


def regrid_bilinear(
    array: xr.DataArray, target: RegularGrid | tuple[Any, Any], *, min_valid_weight: float = 0.5
) -> xr.DataArray:
    """Interpolate bilinearly between cell centres; missing sources share their weight among the valid ones.

    Parameters
    ----------
    array : xarray.DataArray
        Dims ``lat`` and ``lon`` (ascending) and any others; lazy arrays stay lazy. Longitudes that go round the globe
        are periodic.
    target : RegularGrid or (lat, lon)
        Target cell centres. Beyond the outermost source centres, and to the poles, the outer value is kept as far as
        the outer source cell reaches; further out is NaN.
    min_valid_weight : float
        Least sum of the bilinear weights of valid sources, in (0, 1]; below it the target is NaN.

    Returns
    -------
    xarray.DataArray
        Same dims, order, dtype (integers become float32) and attributes.

    Raises
    ------
    ContractError
        If source and target do not overlap, or the source's axes break the contract.
    ParameterError
        If `min_valid_weight` is outside (0, 1].
    """
    who = "regrid_bilinear"
    if not 0.0 < min_valid_weight <= 1.0:
        raise ParameterError(who, "min_valid_weight is out of range", got=min_valid_weight, expected=plain("(0, 1]"))
    source = _axis(who, array, "lat"), _axis(who, array, "lon")
    lat, lon = _target_axes(who, target)
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype("float32")
    over_lat = _linear_weights(source[0], lat, lon=False)
    over_lon = _linear_weights(source[1], lon, lon=True)
    _check_overlap(who, source, (over_lat.getnnz(axis=1), over_lon.getnnz(axis=1)), (lat, lon))
    image = interpolator(over_lat, over_lon, dtype, min_valid_weight=min_valid_weight)
    return _apply(array, image, lat, lon, dtype)


def _apply(array: xr.DataArray, function: Any, lat: np.ndarray, lon: np.ndarray, dtype: np.dtype) -> xr.DataArray:
    """Apply a function of the last two axes (lat, lon) and put the target's coordinates on the result."""
    result = map_images(array, function, ("lat", "lon"), (lat.size, lon.size), dtype)
    coords = {n: (n, v, dict(_COORDINATE_ATTRS[n])) for n, v in (("lat", lat), ("lon", lon))}
    return result.assign_coords(coords)
