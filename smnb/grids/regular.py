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

from smnb.contract import ContractError, ParameterError, check_range, plain
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
        edges = (self.south, self.north, self.west, self.east)
        if not (self.resolution > 0 and np.isfinite([self.resolution, *edges]).all()):
            raise ParameterError("RegularGrid", "resolution is not a positive number", got=self.resolution)
        if not (-90 <= self.south < self.north <= 90 and -180 <= self.west < self.east <= 180):
            fine = plain("-90 <= south < north <= 90 and -180 <= west < east <= 180")
            raise ParameterError("RegularGrid", "edges are out of order or leave the globe", got=edges, expected=fine)
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
        next_step = "Pass it through contract.orient_lat_lon"
        raise ContractError(who, f"source {name!r} is empty or not ascending", next_step=next_step)
    return values


def _target_axes(who: str, target: RegularGrid | tuple[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(target, RegularGrid):
        return target.lat, target.lon
    try:
        lat, lon = (np.atleast_1d(np.asarray(axis, dtype="float64")) for axis in target)
    except (TypeError, ValueError) as error:
        what = "target is neither a RegularGrid nor (lat, lon)"
        raise ParameterError(who, what, got=type(target).__name__) from error
    if lat.ndim != 1 or lon.ndim != 1 or not (np.isfinite(lat).all() and np.isfinite(lon).all()):
        raise ParameterError(who, "target lat and lon are not finite vectors", got=(lat.shape, lon.shape))
    return lat, lon


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


def _linear_weights(source: np.ndarray, target: np.ndarray, *, lon: bool) -> sparse.csr_matrix:
    """Weights of linear interpolation, ``(target, source)``; a row of zeros where the source does not reach."""
    index = np.arange(source.size)
    # longitudes go round the globe where the gap over the date line is like any other
    periodic = lon and source.size > 1 and source[0] + 360.0 - source[-1] <= 1.5 * float(np.median(np.diff(source)))
    if lon:  # move targets by whole turns to where the source is
        start = source[0] if periodic else (source[0] + source[-1]) / 2 - 180.0
        target = start + np.mod(target - start, 360.0)
    if not periodic:
        return linear_weights(source, index, target, _covered(source, target, pole=not lon))
    around = np.r_[source[-1] - 360.0, source, source[0] + 360.0]
    return linear_weights(around, np.r_[index[-1], index, index[0]], target, np.ones(target.size, bool))


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
    """
    who = "regrid_bilinear"
    check_range(who, "min_valid_weight", min_valid_weight, 0, 1, ends="(]")
    axes = dict(zip(("lat", "lon"), _target_axes(who, target), strict=True))
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype("float32")
    weights = []
    for name, wanted in axes.items():
        source = _axis(who, array, name)
        weights.append(_linear_weights(source, wanted, lon=name == "lon"))
        if not weights[-1].nnz:
            what, got = f"source and target do not overlap in {name}", f"source {source[0]:g}..{source[-1]:g}"
            fine = plain(f"an overlap with {wanted.min():g}..{wanted.max():g}")
            next_step = "Choose another region, or open the files that cover it"
            raise ContractError(who, what, got=got, expected=fine, next_step=next_step)
    image = interpolator(*weights, dtype, min_valid_weight=min_valid_weight)
    result = map_images(array, image, ("lat", "lon"), (axes["lat"].size, axes["lon"].size), dtype)
    return result.assign_coords({name: (name, v, dict(_COORDINATE_ATTRS[name])) for name, v in axes.items()})
