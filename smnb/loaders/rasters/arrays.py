"""Scenes in NetCDF files and Zarr stacks: one variable a band, on latitude and longitude or a stated projection."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rioxarray  # noqa: F401 - registers the accessor .rio
import xarray as xr
import zarr
from numpy.typing import NDArray
from rasterio.crs import CRS
from rioxarray.exceptions import RioXarrayError

from smnb.contract import FormatError, plain
from smnb.loaders import open_netcdf
from smnb.loaders.rasters.options import BandOption
from smnb.loaders.rasters.placing import Georeference

_Y_NAMES = ("lat", "latitude", "y", "nav_lat", "ydim", "north", "northing", "rlat")
_X_NAMES = ("lon", "longitude", "long", "x", "nav_lon", "xdim", "east", "easting", "rlon")
#: Attributes that say how the numbers of a variable or an axis are meant.
_MEANINGS = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "units", "standard_name")
#: Chunks kept decompressed. A global granule is often one chunk, and HDF5's default is smaller than that.
_CACHE_BYTES = 64 << 20
#: Rows and columns read at once for points: about a chunk.
_BLOCK = (512, 512)
#: How uneven a coordinate may be, as a share of its step: those in float32 are.
_UNEVEN = 0.02
#: What opening or reading a damaged file raises.
_DAMAGE = (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError)


@dataclass(frozen=True)
class VariablePlace:
    """A variable: an index for each dimension ("y", "x" and "time" for those), its grid, and what its numbers mean."""

    at: tuple[int | str, ...]
    geometry: Georeference
    scale: float
    offset: float
    nodata: tuple[float, ...]
    units: str


@dataclass(frozen=True)
class ArrayHeader:
    """What a NetCDF file or Zarr group says: where each band is, times of its steps, attributes."""

    places: tuple[VariablePlace, ...]
    times: tuple[np.datetime64, ...]
    attributes: dict[str, Any]


def is_array(path: Path) -> bool:
    """Whether a file is NetCDF or HDF5, by its first bytes."""
    with path.open("rb") as stream:
        magic = stream.read(4)
    return magic == b"\x89HDF" or magic[:3] == b"CDF"


def zarr_folder(path: Path) -> Path | None:
    """The folder of a Zarr group, given itself or the metadata file in it (which a catalog's glob finds); else None."""
    if path.name in ("zarr.json", ".zgroup", ".zmetadata"):
        return path.parent
    is_group = path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup"))
    return path if is_group else None


def signature(path: Path, bands: Sequence[BandOption]) -> str | None:
    """What two NetCDF-4 files must share to be read alike: shapes, what numbers mean, the values of their axes, the grid.

    Headers of thousands of granules differ in nothing else, and comparing them costs far less than interpreting. None
    where it cannot be told: classic NetCDF, variables in groups, a grid that no variable names.
    """
    told: list[Any] = []
    try:
        with h5py.File(path, "r") as file:
            for name in sorted({str(band.where) for band in bands}):
                variable = file[name]
                scales = [dimension[0] for dimension in variable.dims if len(dimension)]
                mapping = variable.attrs.get("grid_mapping", "spatial_ref")
                mapping = mapping.decode() if isinstance(mapping, bytes) else str(mapping)
                is_told = mapping in file or any("lat" in scale.name.lower() for scale in scales)
                if "/" in name or len(scales) < variable.ndim or not is_told:
                    return None
                told.append((name, variable.dtype.str, variable.shape, _attributes(variable, _MEANINGS)))
                if mapping in file:
                    told.append((mapping, _attributes(file[mapping], tuple(file[mapping].attrs))))
                for scale in scales:
                    # a time axis of one step differs from file to file, and is not read where the name tells time
                    is_one = scale.shape == (1,)
                    told.append((scale.name, scale.dtype.str, scale.shape))
                    told += [] if is_one else [_attributes(scale, _MEANINGS), scale[()].tobytes()]
    except (OSError, KeyError, RuntimeError):
        return None
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _attributes(item: Any, names: Sequence[str]) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, np.asarray(item.attrs[name]).tobytes()) for name in names if name in item.attrs)


def read_array_header(who: str, path: Path, bands: Sequence[BandOption], dimension: str | None) -> ArrayHeader:
    """Describe the bands of a NetCDF file or a Zarr group; each step of `dimension`, if it is given, is a scene.

    A `FormatError` where it is unreadable, lacks a variable or a reference system, is on no regular grid, or has dimensions
    that nothing chooses from.
    """
    where = f"{who}({path.name})"
    if path.is_file():
        dataset = open_netcdf(who, path, decode_coords="all")
    else:
        try:
            dataset = xr.open_zarr(path, chunks=None, decode_coords="all", decode_timedelta=False, consolidated=None)
        except _DAMAGE as error:
            raise FormatError(where, f"the Zarr group is unreadable: {error}", next_step="Write it again") from error
    with dataset:
        for band in bands:
            if not isinstance(band.where, str) or band.where not in dataset.data_vars:
                got, what = (
                    sorted(map(str, dataset.data_vars)),
                    f"there is no variable {band.where!r} for {band.name!r}",
                )
                raise FormatError(where, what, got=got, next_step="Correct the option bands: {…: {variable: …}}")
        places, times = tuple(_place(where, dataset, band, dimension) for band in bands), ()
        if dimension is not None:
            if dimension not in dataset.coords or dataset[dimension].dtype.kind != "M":
                got, what = sorted(map(str, dataset.coords)), f"{dimension!r} is no coordinate of times"
                raise FormatError(where, what, got=got, next_step="Correct the option time: {dimension: …}")
            times = tuple(dataset[dimension].values.astype("datetime64[ns]"))
        return ArrayHeader(places, times, dict(dataset.attrs))


def _place(where: str, dataset: xr.Dataset, band: BandOption, dimension: str | None) -> VariablePlace:
    array = dataset[band.where]
    y, x = (_spatial(where, array, names, kind) for names, kind in ((_Y_NAMES, "latitude"), (_X_NAMES, "longitude")))
    named = {y: "y", x: "x", dimension: "time"}
    if unknown := ({*band.select, dimension} - {None}) - set(map(str, array.dims)):
        raise FormatError(where, f"{band.where!r} has no dimension {sorted(unknown)}", got=list(array.dims))
    at: list[int | str] = []
    for dim in array.dims:
        if dim not in named and dim not in band.select and array.sizes[dim] > 1:
            what = f"{band.where!r} has a dimension {dim!r} of {array.sizes[dim]} that nothing chooses from"
            next_step = f"Add time: {{dimension: {dim}}}, or select: {{{dim}: …}} to the band"
            raise FormatError(where, what, next_step=next_step)
        at.append(named[dim] if dim in named else _chosen(where, array, str(dim), band.select.get(str(dim))))
    attributes = {**array.attrs, **array.encoding}
    if str(attributes.get("_Unsigned", "false")).lower() == "true":
        raise FormatError(where, f"{band.where!r} holds unsigned numbers as signed ones", next_step="Convert it first")
    scale, offset = (float(np.ravel(attributes.get(k, d))[0]) for k, d in (("scale_factor", 1.0), ("add_offset", 0.0)))
    fills = {float(v) for k in ("_FillValue", "missing_value") if k in attributes for v in np.ravel(attributes[k])}
    nodata = tuple(value for value in fills if not np.isnan(value))
    geometry = _array_geometry(where, dataset, array, y, x)
    return VariablePlace(tuple(at), geometry, scale, offset, nodata, str(array.attrs.get("units", "")))


def _spatial(where: str, array: xr.DataArray, names: Sequence[str], kind: str) -> Any:
    axis = "y" if kind == "latitude" else "x"
    standard = {kind, f"projection_{axis}_coordinate", f"grid_{kind}"}
    for dim in array.dims:
        if dim in array.coords and (array[dim].attrs.get("standard_name") in standard or str(dim).lower() in names):
            return dim
    what, next_step = f"{array.name!r} has no coordinate of {kind} or of {axis}", "Regrid swaths first"
    expected = plain("a regular grid with one-dimensional coordinates")
    raise FormatError(where, what, got=list(array.dims), expected=expected, next_step=next_step)


def _chosen(where: str, array: xr.DataArray, dim: str, label: Any) -> int:
    """The index of a label along a dimension, or of an index where it has no labels; the first where nothing is asked."""
    if label is None:
        return 0
    labels = array[dim].values if dim in array.coords else np.arange(array.sizes[dim])
    found = np.flatnonzero(labels == label)
    if found.size != 1 or isinstance(label, bool):
        raise FormatError(where, f"{dim!r} has no {label!r}", got=labels.tolist()[:20])
    return int(found[0])


def _array_geometry(where: str, dataset: xr.Dataset, array: xr.DataArray, y: Any, x: Any) -> Georeference:
    told = {"crs_wkt", "spatial_ref", "grid_mapping_name"}
    names = [name for name, variable in dataset.variables.items() if variable.ndim == 0 and told & set(variable.attrs)]
    try:
        crs = array.rio.crs
        if crs is None and len(names) == 1:
            # one that the variable does not refer to, which is no other's either
            crs = array.assign_coords({names[0]: dataset[names[0]]}).rio.write_grid_mapping(names[0]).rio.crs
    except (RioXarrayError, ValueError) as error:
        raise FormatError(where, f"the grid mapping cannot be understood: {error}") from error
    if crs is None and (array[y].attrs.get("standard_name") == "latitude" or "lat" in str(y).lower()):
        crs = CRS.from_epsg(4326)
    if crs is None:
        what, expected = (
            f"{array.name!r} states no coordinate reference system",
            plain("a CF grid mapping, or lat and lon"),
        )
        next_step = "Write its grid mapping into the file, for instance with rioxarray's write_crs"
        raise FormatError(where, what, got=list(array.dims), expected=expected, next_step=next_step)
    (x0, dx), (y0, dy) = (_even(where, dim, array[dim].values) for dim in (x, y))
    factor = 1000.0 if array[x].attrs.get("units") == "km" else 1.0
    transform = tuple(factor * value for value in (dx, 0.0, x0 - dx / 2, 0.0, dy, y0 - dy / 2))
    return Georeference(crs.to_wkt(), transform, array.sizes[y], array.sizes[x])


def _even(where: str, dim: Any, values: NDArray) -> tuple[float, float]:
    """First value and step of an even coordinate."""
    values, got = np.asarray(values, "float64"), np.asarray(values).tolist()[:4]
    if values.size < 2 or not np.isfinite(values).all():
        raise FormatError(where, f"coordinate {dim!r} gives no step", got=got, expected=plain("2 values"))
    step = (values[-1] - values[0]) / (values.size - 1)
    # digits beyond those of float32 are noise of the file's own rounding
    off = np.abs(values - (values[0] + step * np.arange(values.size))).max()
    if step == 0.0 or max(off, np.abs(np.diff(values) - step).max()) > _UNEVEN * abs(step):
        raise FormatError(where, f"coordinate {dim!r} is not evenly spaced", got=got, next_step="Regrid it first")
    return float(values[0]), float(step)


class OpenArray:
    """An open NetCDF file or Zarr group; bands are named by their variable."""

    def __init__(self, where: str, path: str, form: str) -> None:
        self.where, self.close = where, lambda: None
        try:
            if form == "zarr":
                self._items: Any = zarr.open_group(path, mode="r")
                return
            with open(path, "rb") as stream:
                is_hdf5 = stream.read(4) == b"\x89HDF"
            if is_hdf5:
                self._items = h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES)
                self.close = self._items.close
                return
        except _DAMAGE as error:
            raise FormatError(where, f"the file is unreadable: {error}", next_step="Download it again") from error
        dataset = open_netcdf(where, Path(path), decode_cf=False, chunks=None)
        self._items, self.close = {str(name): array.variable for name, array in dataset.items()}, dataset.close

    def block_shape(self, key: str) -> tuple[int, int]:
        """Rows and columns that are read at once for points."""
        return _BLOCK

    def read(self, bands: Sequence[tuple[str, tuple]], rows: tuple[int, int], cols: tuple[int, int]) -> list[NDArray]:
        """Numbers of some variables, each at an index of its other dimensions."""
        parts = {"y": slice(*rows), "x": slice(*cols)}
        values = []
        for key, at in bands:
            try:
                array = np.asarray(self._items[key][tuple(parts.get(axis, axis) for axis in at)])
            except _DAMAGE as error:
                what = f"{key!r} is unreadable: {error}"
                raise FormatError(self.where, what, next_step="Download or write it again") from error
            values.append(array.T if at.index("x") < at.index("y") else array)
        return values
