"""Bands of scenes, and the images that hold them: opened so that no other file is read than the user has.

GDAL, here or behind HTTP, knows formats that are nothing but references, whatever the file's name: to other files, to servers,
to Python code. What is read has pixels of its own, or is a virtual raster of such files.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from smnb.catalog.catalog import refuse_leaving
from smnb.catalog.limits import check_redirections, is_url
from smnb.contract import MOST_TABLE, CatalogError, FormatError, check_bytes, foreign, plain
from smnb.loaders import CHECKSUM, check_written, open_hdf5
from smnb.loaders.rasters.options import FILLS, BandOption, Meaning
from smnb.loaders.rasters.placing import Georeference

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


#: Pixels of a quality band read at a time, and bits of QA60: opaque clouds and cirrus.
_QUALITY_PIXELS, _CLOUD_BITS = 1 << 22, (1 << 10) | (1 << 11)


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


def is_array(path: Path) -> bool:
    """Whether a file is NetCDF or HDF5, by its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        magic = stream.read(4)
    return magic == b"\x89HDF" or magic[:3] == b"CDF"
