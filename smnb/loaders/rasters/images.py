"""Images and arrays that hold the bands of scenes, opened so that no other file is read than the user has.

GDAL, here or behind HTTP, knows formats that are nothing but references, whatever the file's name: to other files, to servers,
to Python code. What is read has pixels of its own, or is a virtual raster of such files.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
import rasterio
import zarr
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from smnb.catalog.catalog import refuse_leaving
from smnb.catalog.limits import check_redirections
from smnb.contract import MOST_TABLE, CatalogError, FormatError, check_bytes, foreign, plain
from smnb.loaders import CHECKSUM, check_chunks, check_written, open_hdf5, open_netcdf
from smnb.loaders.rasters.placing import BandSource, Georeference, is_url

#: GDAL's formats that are read, by a file's first bytes; and others, whose header is another file beside it, or plain text.
_FORMATS = {
    **dict.fromkeys((b"II*\0", b"II+\0", b"MM\0*", b"MM\0+"), ("GTiff",)),
    **dict.fromkeys((b"\0\0\0\x0cjP  ", b"\xffO\xffQ"), ("JP2OpenJPEG",)),
    b"\x89HDF": ("netCDF", "HDF5"),
    b"CDF": ("netCDF",),
    b"GRIB": ("GRIB",),
    b"\x89PNG": ("PNG",),
}
_PLAIN = ("ENVI", "EHdr", "AAIGrid", "GTiff")
#: Kinds of virtual datasets and bands that have no code; keys that name a file; bytes of one, and how deep they may be nested.
_KINDS = {"vrtsourcedrasterband", "vrtwarpeddataset", "vrtwarpedrasterband"}
_KEYS, _VIRTUAL_BYTES, _DEPTH = {"x_dataset", "y_dataset", "rpc_dem"}, 16 << 20, 4

#: GDAL lists the whole folder of every file it opens unless told not to; of a URL it asks for files that are not there.
_LOCAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}
_REMOTE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
}


@functools.cache
def _leave_unsayable() -> None:
    """What GDAL says of a damaged file may be no UTF-8, which rasterio's log cannot take; the error itself still follows."""
    usual = sys.unraisablehook

    def say(found: sys.UnraisableHookArgs) -> None:
        if found.object != "rasterio._env.log_error":
            usual(found)

    sys.unraisablehook = say


@contextlib.contextmanager
def gdal(where: str, path: str) -> Iterator[None]:
    """GDAL's settings for a path; that it cannot open or read a file is a `FormatError`."""
    _leave_unsayable()
    is_remote = is_url(path) or path.startswith(("s3://", "gs://", "/vsi"))
    with (
        foreign(where, "the raster is unreadable, truncated perhaps", next_step="Download or export it again"),
        rasterio.Env(**(_REMOTE if is_remote else _LOCAL)),
        warnings.catch_warnings(),
    ):
        # that a raster is not georeferenced is an error here, with more to say
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def open_image(where: str, path: str) -> rasterio.DatasetReader:
    """Open an image.

    `FormatError` if it is in a format of references or its blocks are too large, `CatalogError` if it is a virtual raster of
    files outside its folder and the data root.
    """
    file = Path(path)
    if not file.is_file():
        if is_url(path):
            check_redirections(where, path)
        return rasterio.open(path, driver="JP2OpenJPEG" if path.partition("?")[0].endswith(".jp2") else "GTiff")
    drivers, mask = _formats_of(where, file), Path(f"{file}.msk")
    if mask.is_file() and _formats_of(where, mask) != ("GTiff",):  # which GDAL opens too
        raise CatalogError(where, "the mask beside the image is no GeoTIFF", got=mask.name, next_step="Remove it")
    if drivers == ("VRT",):
        _check_virtual(where, file)
    for driver in drivers[:-1]:
        with contextlib.suppress(rasterio.errors.RasterioIOError):
            source = rasterio.open(path, driver=driver)
            break
    else:
        source = rasterio.open(path, driver=drivers[-1])
    try:
        for one in source.files if drivers == ("VRT",) else ():
            refuse_leaving(where, file, Path(one))
        check_written(where, file, source.tags().get(CHECKSUM))
        size = max(np.dtype(dtype).itemsize for dtype in source.dtypes)
        size *= source.count if str(source.profile.get("interleave")) == "pixel" else 1
        check_bytes(where, "a block of the image", size * max(rows * cols for rows, cols in source.block_shapes))
        check_bytes(where, "a row of the image", size * source.width)
    except BaseException:
        source.close()
        raise
    return source


def _formats_of(where: str, file: Path) -> tuple[str, ...]:
    """GDAL's formats that a file may be in, by its first bytes."""
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
    if b"<vrtdataset" in head.lower():
        return ("VRT",)
    if head.startswith(b"\x89HDF"):
        open_hdf5(where, file).close()
    return next((drivers for magic, drivers in _FORMATS.items() if head.startswith(magic)), _PLAIN)


def _check_virtual(where: str, file: Path, depth: int = 0) -> None:
    """Raise an error unless a virtual raster is made of images in its folder or the data root, without any code."""
    check_bytes(where, "the virtual raster", file.stat().st_size, _VIRTUAL_BYTES)
    text = file.read_bytes()
    with foreign(where, "the virtual raster is unreadable"):
        nodes = list(ElementTree.fromstring(text).iter())
    if depth > _DEPTH or b"<!" in text:
        raise CatalogError(where, "the virtual raster is nested too deep, or has declarations", got=file.name)
    for node in nodes:
        # GDAL compares names in any case
        tag, value = node.tag.rpartition("}")[2].rpartition(":")[2].lower(), (node.text or "").strip()
        told = {key.lower(): text.lower() for key, text in node.attrib.items()}
        kind = told.get("subclass", "vrtsourcedrasterband")
        if kind not in _KINDS or tag.startswith("pixelfunction") or _KEYS & set(told.values()):
            what, step = "the virtual raster is more than a mosaic or a warp of images", "Write it as a GeoTIFF"
            raise CatalogError(where, what, got=f"{tag} {node.attrib}", next_step=f"{step}: gdal_translate")
        if not value or not tag.endswith(("filename", "dataset", "sourcevrt")):
            continue
        named = Path(value) if told.get("relativetovrt", "0") == "0" else file.parent / value
        refuse_leaving(where, file, named)
        if not named.is_file():
            raise FormatError(where, "a file that the virtual raster is made of is not there", got=value)
        formats = _formats_of(where, named)
        if formats == ("VRT",):
            _check_virtual(where, named, depth + 1)
        elif formats == _PLAIN:
            raise CatalogError(where, "the virtual raster is made of a file that is no image", got=value)


#: Chunks of HDF5 kept decompressed: a global granule is often one chunk, and HDF5's default is smaller than that.
_CACHE_BYTES = 64 << 20
_BLOCK = (512, 512)  # rows and columns of arrays read at once for points: about a chunk
#: Pixels of a quality band read at a time, and bits of QA60: opaque clouds and cirrus.
_QUALITY_PIXELS, _CLOUD_BITS = 1 << 22, (1 << 10) | (1 << 11)


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


def is_array(path: Path) -> bool:
    """Whether a file is NetCDF or HDF5, by its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        magic = stream.read(4)
    return magic == b"\x89HDF" or magic[:3] == b"CDF"


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
