"""Images opened so that no other file is read than the user has: formats that hold their own pixels, and virtual rasters of these.

GDAL knows formats that are nothing but references, whatever the file's name: to other files, to servers, to Python code.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio

from smnb.catalog.limits import check_bytes, refuse_leaving
from smnb.contract import CatalogError, FormatError
from smnb.loaders import refuse_links

#: Of addresses, of files; and by their first bytes what a virtual raster may be made of.
_REMOTE_DRIVERS = ["GTiff", "JP2OpenJPEG"]
_DRIVERS = [*_REMOTE_DRIVERS, "netCDF", "HDF5", "HDF5Image", "ENVI", "EHdr", "AAIGrid", "GRIB", "SRTMHGT", "PNG"]
_TIFF, _OTHERS = (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+"), (b"\0\0\0\x0cjP  ", b"\xffO\xffQ", b"\x89HDF", b"CDF")
#: Kinds of virtual datasets and bands that have no code; keys that name a file; bytes of one, and how deep they may be nested.
_KINDS = {"vrtsourcedrasterband", "vrtwarpeddataset", "vrtwarpedrasterband"}
_KEYS, _VIRTUAL_BYTES, _DEPTH = {"x_dataset", "y_dataset", "rpc_dem"}, 16 << 20, 4


def open_image(where: str, path: str) -> rasterio.DatasetReader:
    """Open an image.

    `FormatError` if it is in a format of references or its blocks are too large, `CatalogError` if it is a virtual raster of
    files outside its folder and the data root.
    """
    file = Path(path)
    if not file.is_file():
        return rasterio.open(path, driver=_REMOTE_DRIVERS)
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
    drivers = _DRIVERS
    if b"<vrtdataset" in head.lower():
        _check_virtual(where, file)
        drivers = ["VRT"]
    elif head.startswith(b"\x89HDF"):
        refuse_links(where, file)
    source = rasterio.open(path, driver=drivers)
    try:
        for one in source.files if drivers == ["VRT"] else ():
            refuse_leaving(where, file, Path(one))
        size = max(np.dtype(dtype).itemsize for dtype in source.dtypes)
        size *= source.count if str(source.profile.get("interleave")) == "pixel" else 1
        check_bytes(where, "a block of the image", size * max(rows * cols for rows, cols in source.block_shapes))
        check_bytes(where, "a row of the image", size * source.width)
    except BaseException:
        source.close()
        raise
    return source


def _check_virtual(where: str, file: Path, depth: int = 0) -> None:
    """Raise an error unless a virtual raster is made of images in its folder or the data root, without any code."""
    check_bytes(where, "the virtual raster", file.stat().st_size, _VIRTUAL_BYTES)
    text = file.read_bytes()
    try:
        nodes = list(ElementTree.fromstring(text).iter())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FormatError(where, f"the virtual raster is unreadable: {error}") from error
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
        with named.open("rb") as stream:
            head = stream.read(1 << 16)
        if b"<vrtdataset" in head.lower():
            _check_virtual(where, named, depth + 1)
        elif not head.startswith((*_TIFF, *_OTHERS)):
            raise CatalogError(where, "the virtual raster is made of a file that is no image", got=value)
        elif head.startswith(b"\x89HDF"):
            refuse_links(where, named)
