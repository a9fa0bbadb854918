"""Bands of scenes, and the files that they are in: images that GDAL reads (here or behind HTTP), NetCDF and Zarr."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rasterio
import xarray as xr
import zarr
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from smnb.catalog.limits import MOST_TABLE, check_bytes
from smnb.contract import FormatError, foreign, plain
from smnb.loaders import open_hdf5, open_netcdf
from smnb.loaders.rasters.images import check_group, gdal, open_image
from smnb.loaders.rasters.options import FILLS, BandOption, Meaning
from smnb.loaders.rasters.placing import Georeference, array_geometry

#: Pixels of a quality band read at a time, and bits of QA60: opaque clouds and cirrus.
_QUALITY_PIXELS, _CLOUD_BITS = 1 << 22, (1 << 10) | (1 << 11)
#: Chunks of HDF5 kept decompressed: a global granule is often one chunk, and HDF5's default is smaller than that.
_CACHE_BYTES = 64 << 20
_BLOCK = (512, 512)  # rows and columns of arrays read at once for points: about a chunk
_Y_NAMES = ("lat", "latitude", "y", "nav_lat", "ydim", "north", "northing", "rlat")
_X_NAMES = ("lon", "longitude", "long", "x", "nav_lon", "xdim", "east", "easting", "rlon")
#: Attributes that say how the numbers of a variable or an axis are meant.
_MEANINGS = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "units", "standard_name")


@dataclass(frozen=True)
class BandSource:
    """Where a band of one scene is, in plain values, so that an index of them is pickled.

    `form` is "image", "netcdf" or "zarr"; `key` the number of the band or the name of the variable, of which `at` has an
    index for each dimension, "y" and "x" for those of the grid. What is None the file is asked for when it is opened;
    `added` is added to digital numbers first.
    """

    path: str
    form: str
    key: int | str
    geometry: Georeference | None
    option: BandOption
    at: tuple[int | str, ...] = ()
    scale: float | None = None
    offset: float | None = None
    nodata: tuple[float, ...] | None = None
    added: float = 0.0

    def values(self, numbers: NDArray) -> NDArray[np.float32]:
        """Values of a file's numbers, ``(number + added) · scale + offset`` converted to the band's units, NaN where none."""
        meaning, conversion = self.option.meaning, self.option.conversion
        missing, numbers = np.ma.getmaskarray(numbers).copy(), np.ma.getdata(numbers)
        # numbers packed with an offset and a no-data value of their own use all others, zero too
        packed = self.offset and self.nodata
        fills = () if packed else (*meaning.fills, *(FILLS if meaning.high < Meaning.high else ()))
        is_float = numbers.dtype.kind == "f"
        for value in {*self.nodata, *fills}:
            # in float32 files the tag has more digits than the pixels
            missing |= numbers == (numbers.dtype.type(value) if is_float else value)
        if is_float:
            missing |= ~np.isfinite(numbers)
        if (self.added, self.scale, self.offset, conversion) == (0.0, 1.0, 0.0, None):
            values = numbers.astype("float32")
        else:
            exact = (numbers.astype("float64") + self.added) * self.scale + self.offset
            if conversion == "power":
                with np.errstate(divide="ignore", invalid="ignore"):
                    exact = 10.0 * np.log10(np.maximum(exact, 0.0))
            elif conversion is not None:
                exact *= conversion
            values = exact.astype("float32")
        values[missing] = np.nan
        return values


@dataclass(frozen=True)
class ImageHeader:
    """What an image says of itself without its pixels; one entry a band, alpha bands too, of what is plural."""

    geometry: Georeference
    names: tuple[str, ...]
    units: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodata: tuple[tuple[float, ...], ...]
    is_alpha: tuple[bool, ...]
    tags: dict[str, str]

    def number_of(self, where: str, wanted: int | str) -> int:
        """A band's number, from 1, by number or description."""
        if isinstance(wanted, int):
            if 1 <= wanted <= len(self.names):
                return wanted
            raise FormatError(where, f"there is no band {wanted}", got=len(self.names), expected=list(self.names))
        for alike in (str, str.lower):
            found = [i for i, name in enumerate(self.names, 1) if alike(name) == alike(wanted)]
            if len(found) == 1:
                return found[0]
        what = f"no band, or more than one, is described as {wanted!r}"
        next_step = "Name the band by its number, from 1, or correct the option 'bands'"
        raise FormatError(where, what, got=list(self.names), next_step=next_step)


def read_header(where: str, path: str) -> ImageHeader:
    """Read an image's header; complex numbers, and pixels that are nowhere, are refused."""
    with gdal(where, path), open_image(where, path) as source:
        return _header_of(where, source)


def _header_of(where: str, source: rasterio.DatasetReader) -> ImageHeader:
    if any(np.dtype(dtype).kind == "c" for dtype in source.dtypes):
        what = "the raster holds complex numbers: it is single-look complex, perhaps"
        next_step = "Use the ground-range-detected product, calibrated to sigma0"
        raise FormatError(where, what, got=source.dtypes[0], next_step=next_step)
    return ImageHeader(
        _geometry_of(where, source),
        tuple(text or "" for text in source.descriptions),
        tuple(text or "" for text in source.units),
        source.scales,
        source.offsets,
        tuple(() if value is None else (value,) for value in source.nodatavals),
        tuple(color == ColorInterp.alpha for color in source.colorinterp),
        source.tags(),
    )


def _geometry_of(where: str, source: rasterio.DatasetReader) -> Georeference:
    if source.crs is None:
        what = "the raster states no coordinate reference system"
        next_step = "Find out what it is in and set it, for instance with rio edit-info"
        if source.gcps[0] or source.rpcs is not None:
            what += ", only ground control points: it is in radar geometry"
            next_step = "Calibrate and terrain-correct it (SNAP: Range-Doppler Terrain Correction)"
        raise FormatError(where, what, next_step=next_step)
    transform = tuple(source.transform)[:6]
    if source.transform.is_identity or source.transform.determinant == 0.0:
        what, expected = "the raster does not state where its pixels are", plain("an affine transform")
        next_step = "Export it again with its georeferencing"
        raise FormatError(where, what, got=transform, expected=expected, next_step=next_step)
    return Georeference(source.crs.to_wkt(), transform, source.height, source.width)


class OpenImage:
    """An open image."""

    def __init__(self, where: str, path: str) -> None:
        self.where, self.path = where, path
        with gdal(where, path):
            self._source = open_image(where, path)
        self.close = self._source.close

    def geometry(self) -> Georeference:
        """Where its pixels are."""
        return _geometry_of(self.where, self._source)

    def header(self) -> ImageHeader:
        """What it says of itself."""
        return _header_of(self.where, self._source)

    def block_shape(self, band: BandSource) -> tuple[int, int]:
        """Rows and columns of a band's tiles or strips."""
        return self._source.block_shapes[band.key - 1]

    def read(self, bands: Sequence[BandSource], rows: tuple[int, int], cols: tuple[int, int]) -> list[NDArray]:
        """Numbers of some bands at full resolution, as they are in the file; masked arrays where it has masks."""
        window, numbers = Window.from_slices(rows, cols), [band.key for band in bands]
        size = window.height * window.width * max(np.dtype(dtype).itemsize for dtype in self._source.dtypes)
        check_bytes(self.where, "the window", size * len(bands), MOST_TABLE)
        with gdal(self.where, self.path):
            values = list(self._source.read(numbers, window=window))
            for i, number in enumerate(numbers):
                if MaskFlags.per_dataset in self._source.mask_flag_enums[number - 1]:
                    mask = self._source.read_masks(number, window=window) == 0
                    values[i] = np.ma.masked_array(values[i], mask)
        return values


def cloud_percentage(where: str, path: str, number: int, reference: int | None) -> float:
    """Share of pixels, percent, that a band of quality bits such as QA60 calls cloud or cirrus; NaN where there are none.

    The pixels that have data in a `reference` band make the whole, default all: the quality band cannot tell, zero is clear.
    """
    cloudy = total = 0
    with gdal(where, path), open_image(where, path) as source:
        dtype = np.dtype(source.dtypes[number - 1])
        if dtype.kind not in "iu" and dtype not in (np.float32, np.float64):
            raise FormatError(where, "the quality band holds no bits", got=str(dtype))
        height = max(_QUALITY_PIXELS // source.width, 1)
        for top in range(0, source.height, height):
            window = Window(0, top, source.width, min(height, source.height - top))
            # exports of stacks hold the bits as floating-point numbers
            bits = np.nan_to_num(source.read(number, window=window)).astype("int64")
            seen = np.ones(bits.shape, bool)
            if reference is not None:
                seen = source.read_masks(reference, window=window) != 0
            cloudy += int(np.count_nonzero(seen & ((bits & _CLOUD_BITS) != 0)))
            total += int(np.count_nonzero(seen))
    return 100.0 * cloudy / total if total else float("nan")


#: Bands of a NetCDF file or Zarr group with their units, times of its steps, and its attributes.
ArrayHeader = tuple[list[tuple[BandSource, str]], tuple[np.datetime64, ...], dict[str, Any]]


def is_array(path: Path) -> bool:
    """Whether a file is NetCDF or HDF5, by its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        magic = stream.read(4)
    return magic == b"\x89HDF" or magic[:3] == b"CDF"


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
                array = np.asarray(self._items[band.key][tuple(parts.get(axis, axis) for axis in band.at)])
            values.append(array.T if band.at.index("x") < band.at.index("y") else array)
        return values
