"""Bands of scenes in NetCDF files and Zarr groups."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from smnb.catalog.catalog import refuse_leaving
from smnb.contract import FormatError, check_bytes, foreign, plain
from smnb.loaders import CHECKSUM, check_chunks, check_written, open_hdf5, open_netcdf
from smnb.loaders.rasters.images import BandSource
from smnb.loaders.rasters.options import BandOption
from smnb.loaders.rasters.placing import array_geometry

#: Chunks of HDF5 kept decompressed: a global granule is often one chunk, and HDF5's default is smaller than that.
_CACHE_BYTES = 64 << 20
_BLOCK = (512, 512)  # rows and columns of arrays read at once for points: about a chunk
_Y_NAMES = ("lat", "latitude", "y", "nav_lat", "ydim", "north", "northing", "rlat")
_X_NAMES = ("lon", "longitude", "long", "x", "nav_lon", "xdim", "east", "easting", "rlon")
#: Attributes that say how the numbers of a variable or an axis are meant.
_MEANINGS = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "units", "standard_name")

#: Bands of a NetCDF file or Zarr group with their units, times of its steps, and its attributes.
ArrayHeader = tuple[list[tuple[BandSource, str]], tuple[np.datetime64, ...], dict[str, Any]]


def signature(path: Path, bands: Sequence[BandOption]) -> str | None:
    """What two NetCDF-4 files must share to be read alike: shapes, what numbers mean, the values of their axes, the grid.

    Headers of thousands of granules differ in nothing else, and comparing them costs far less than interpreting. None
    where it cannot be told: classic NetCDF, variables in groups, axes or a grid that no variable names.
    """
    told: list[Any] = []

    def tell(item: Any, names: Sequence[str], *, is_axis: bool = False) -> None:
        # a time axis of one step differs from file to file, and is not read where the name tells time
        is_read = is_axis and item.shape != (1,)
        meant = [(name, np.asarray(item.attrs[name]).tobytes()) for name in names if name in item.attrs]
        told.append((item.name, item.dtype.str, item.shape, meant if is_read or not is_axis else ()))
        told.append(item[()].tobytes() if is_read else b"")

    try:
        with open_hdf5("open_scenes", path) as file:
            for variable in (file[str(band.where)] for band in bands):
                axes = [dimension[0] for dimension in variable.dims if len(dimension)]
                mapping = variable.attrs.get("grid_mapping", "spatial_ref")
                mapping = mapping.decode() if isinstance(mapping, bytes) else str(mapping)
                is_told = mapping in file or any("lat" in axis.name.lower() for axis in axes)
                if "/" in variable.name[1:] or len(axes) < variable.ndim or not is_told:
                    return None
                tell(variable, _MEANINGS)
                if mapping in file:
                    tell(file[mapping], tuple(file[mapping].attrs))
                for axis in axes:
                    tell(axis, _MEANINGS, is_axis=True)
    except Exception:  # whatever it is, the header's reader names it
        return None
    return hashlib.sha256(repr(told).encode()).hexdigest()


def read_array_header(where: str, path: Path, bands: Sequence[BandOption], dimension: str | None) -> ArrayHeader:
    """Describe the bands of a NetCDF file or a Zarr group; each step of `dimension`, if it is given, is a scene.

    A `FormatError` where it is unreadable, lacks a variable or a reference system, is on no regular grid, or has dimensions
    that nothing chooses from.
    """
    with foreign(where):
        if not path.is_file():
            check_group(where, path)
    with foreign(where), open_netcdf(where.partition("(")[0], path, chunks=None, decode_coords="all") as dataset:
        places, times = [_place(where, path, dataset, band, dimension) for band in bands], ()
        if dimension is not None:
            if dimension not in dataset.coords or dataset[dimension].dtype.kind != "M":
                got, what = sorted(map(str, dataset.coords)), f"{dimension!r} is no coordinate of times"
                raise FormatError(where, what, got=got, next_step="Correct the option time: {dimension: …}")
            times = tuple(dataset[dimension].values.astype("datetime64[ns]"))
        return places, times, dict(dataset.attrs)


def _place(
    where: str, path: Path, dataset: xr.Dataset, band: BandOption, dimension: str | None
) -> tuple[BandSource, str]:
    """A band and its units."""
    if not isinstance(band.where, str) or band.where not in dataset.data_vars:
        got, what = sorted(map(str, dataset.data_vars)), f"there is no variable {band.where!r} for {band.name!r}"
        raise FormatError(where, what, got=got, next_step="Correct the option bands: {…: {variable: …}}")
    array = dataset[band.where]
    y, x = (_spatial(where, array, names, kind) for names, kind in ((_Y_NAMES, "latitude"), (_X_NAMES, "longitude")))
    named = {y: "y", x: "x", dimension: "time"}
    if unknown := ({*band.select, dimension} - {None}) - set(map(str, array.dims)):
        raise FormatError(where, f"{band.where!r} has no dimension {sorted(unknown)}", got=list(array.dims))
    at: list[int | str] = []
    for dim in array.dims:
        if dim in named:
            at.append(named[dim])
            continue
        labels, label = array[dim].values, band.select.get(str(dim))
        if label is None and labels.size > 1:
            what = f"{band.where!r} has a dimension {dim!r} of {labels.size} that nothing chooses from"
            next_step = f"Add time: {{dimension: {dim}}}, or select: {{{dim}: …}} to the band"
            raise FormatError(where, what, next_step=next_step)
        found = np.array([0]) if label is None else np.flatnonzero(labels == label)
        if found.size != 1 or isinstance(label, bool):
            raise FormatError(where, f"{dim!r} has no {label!r}", got=labels.tolist()[:20])
        at.append(int(found[0]))
    attributes = {**array.attrs, **array.encoding}
    if str(attributes.get("_Unsigned", "false")).lower() == "true":
        raise FormatError(where, f"{band.where!r} holds unsigned numbers as signed ones", next_step="Convert it first")
    scale, offset = (float(np.ravel(attributes.get(k, d))[0]) for k, d in (("scale_factor", 1.0), ("add_offset", 0.0)))
    fills = {float(v) for k in ("_FillValue", "missing_value") if k in attributes for v in np.ravel(attributes[k])}
    nodata = tuple(value for value in fills if not np.isnan(value))
    form, geometry = "netcdf" if path.is_file() else "zarr", array_geometry(where, dataset, array, y, x)
    source = BandSource(str(path), form, band.where, geometry, band, tuple(at), scale, offset, nodata)
    return source, str(array.attrs.get("units", ""))


def _spatial(where: str, array: xr.DataArray, names: Sequence[str], kind: str) -> Any:
    axis = "y" if kind == "latitude" else "x"
    standard = {kind, f"projection_{axis}_coordinate", f"grid_{kind}"}
    for dim in array.dims:
        if dim in array.coords and (array[dim].attrs.get("standard_name") in standard or str(dim).lower() in names):
            return dim
    what, next_step = f"{array.name!r} has no coordinate of {kind} or of {axis}", "Regrid swaths first"
    expected = plain("a regular grid with one-dimensional coordinates")
    raise FormatError(where, what, got=list(array.dims), expected=expected, next_step=next_step)


class OpenArray:
    """An open NetCDF file or Zarr group."""

    def __init__(self, where: str, path: str, form: str) -> None:
        self.where, self.close = where, lambda: None
        if form == "netcdf" and Path(path).is_file() and not h5py.is_hdf5(path):
            dataset = open_netcdf(where, Path(path), decode_cf=False, chunks=None)
            self._items, self.close = {name: array.variable for name, array in dataset.items()}, dataset.close
            return
        with foreign(where):
            if form == "zarr":
                self._items: Any = zarr.open_group(path, mode="r")
            else:
                self._items = open_hdf5(where, Path(path), rdcc_nbytes=_CACHE_BYTES)
                self.close = self._items.close

    def block_shape(self, band: BandSource) -> tuple[int, int]:
        """Rows and columns that are read at once for points."""
        return _BLOCK

    def read(self, bands: Sequence[BandSource], rows: tuple[int, int], cols: tuple[int, int]) -> list[NDArray]:
        """Numbers of some variables, each at an index of its other dimensions."""
        parts, values = {"y": slice(*rows), "x": slice(*cols)}, []
        for band in bands:
            with foreign(self.where, f"{band.key!r} is unreadable", next_step="Download or write it again"):
                key = tuple(parts.get(axis, axis) for axis in band.at)
                if isinstance(self._items, h5py.File):
                    check_chunks(self.where, self._items[band.key], key)
                array = np.asarray(self._items[band.key][key])
            values.append(array.T if band.at.index("x") < band.at.index("y") else array)
        return values


def check_group(where: str, path: Path) -> None:
    """Raise an error if a Zarr group has chunks or axes too large to be read at once, or links out of it."""
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            if (one := Path(folder, name)).is_symlink():
                refuse_leaving(where, path / "zarr.json", one)
    group = zarr.open_group(path, mode="r")
    check_written(where, path, group.attrs.get(CHECKSUM))
    for name, array in group.members(max_depth=None):
        if isinstance(array, zarr.Array):
            size = math.prod(array.chunks) * array.dtype.itemsize
            check_bytes(where, f"a chunk of {name!r}", size)
            if array.ndim == 1:
                check_bytes(where, f"{name!r}", array.size * array.dtype.itemsize)
