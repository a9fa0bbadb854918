"""Images opened so that no other file is read than the user has: formats with pixels of their own, virtual rasters of these.

GDAL knows formats that are nothing but references, whatever the file's name: to other files, to servers, to Python code.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio
import zarr

from smnb.catalog.limits import check_bytes, refuse_leaving
from smnb.contract import CatalogError, FormatError, foreign
from smnb.loaders import open_hdf5

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


def _unsayable(found: sys.UnraisableHookArgs, usual: Callable[..., None] = sys.unraisablehook) -> None:
    """What GDAL says of a damaged file may be no UTF-8, which rasterio's log cannot take; the error itself still follows."""
    if found.object != "rasterio._env.log_error":
        usual(found)


sys.unraisablehook = _unsayable


@contextlib.contextmanager
def gdal(where: str, path: str) -> Iterator[None]:
    """GDAL's settings for a path; that it cannot open or read a file is a `FormatError`."""
    is_remote = path.startswith(("http://", "https://", "s3://", "gs://", "/vsi"))
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


def check_group(where: str, path: Path) -> None:
    """Raise an error if a Zarr group has chunks or axes too large to be read at once, or links out of it."""
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            if (one := Path(folder, name)).is_symlink():
                refuse_leaving(where, path / "zarr.json", one)
    for name, array in zarr.open_group(path, mode="r").members(max_depth=None):
        if isinstance(array, zarr.Array):
            size = math.prod(array.chunks) * array.dtype.itemsize
            check_bytes(where, f"a chunk of {name!r}", size)
            if array.ndim == 1:
                check_bytes(where, f"{name!r}", array.size * array.dtype.itemsize)
