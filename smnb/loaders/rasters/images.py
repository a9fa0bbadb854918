"""Scenes in files that GDAL reads: GeoTIFF, Cloud-Optimised GeoTIFF and their like, here or behind HTTP."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from smnb.contract import FormatError, plain
from smnb.loaders.rasters.placing import Georeference

#: GDAL lists the whole folder of every file it opens unless told not to; of a URL it asks for files that are not there.
_LOCAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}
_REMOTE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
}
#: Pixels of a quality band read at a time.
_QUALITY_PIXELS = 1 << 22
#: Bits of QA60: opaque clouds and cirrus.
_CLOUD_BITS = (1 << 10) | (1 << 11)


@contextmanager
def gdal(where: str, path: str) -> Iterator[None]:
    """GDAL's settings for a path; that it cannot open or read a file is a `FormatError`."""
    is_remote = path.startswith(("http://", "https://", "s3://", "gs://", "/vsi"))
    try:
        with rasterio.Env(**(_REMOTE if is_remote else _LOCAL)), warnings.catch_warnings():
            # that a raster is not georeferenced is an error here, with more to say
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            yield
    except rasterio.errors.RasterioError as error:
        what = f"the raster is unreadable, truncated perhaps: {error}"
        raise FormatError(where, what, next_step="Download or export it again") from error


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of itself without its pixels; one entry a band, alpha bands too, of what is plural."""

    geometry: Georeference
    names: tuple[str, ...]
    units: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodata: tuple[float | None, ...]
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
    """Read a file's header; complex numbers, and pixels that are nowhere, are refused."""
    with gdal(where, path), rasterio.open(path) as source:
        if any(np.dtype(dtype).kind == "c" for dtype in source.dtypes):
            what = "the raster holds complex numbers: it is single-look complex, perhaps"
            next_step = "Use the ground-range-detected product, calibrated to sigma0"
            raise FormatError(where, what, got=source.dtypes[0], next_step=next_step)
        return ImageHeader(
            geometry_of(where, source),
            tuple(text or "" for text in source.descriptions),
            tuple(text or "" for text in source.units),
            source.scales,
            source.offsets,
            source.nodatavals,
            tuple(color == ColorInterp.alpha for color in source.colorinterp),
            source.tags(),
        )


def geometry_of(where: str, source: rasterio.DatasetReader) -> Georeference:
    """Where an open file's pixels are."""
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
    """An open raster file; bands are named by their number."""

    def __init__(self, where: str, path: str) -> None:
        self.where, self.path = where, path
        with gdal(where, path):
            self._source = rasterio.open(path)
        self.close = self._source.close

    def geometry(self) -> Georeference:
        """Where its pixels are."""
        return geometry_of(self.where, self._source)

    def block_shape(self, key: int) -> tuple[int, int]:
        """Rows and columns of its tiles or strips."""
        return self._source.block_shapes[self._number(key) - 1]

    def _number(self, key: int) -> int:
        if not 1 <= key <= self._source.count:
            raise FormatError(self.where, f"there is no band {key}", got=self._source.count)
        return key

    def meaning(self, key: int) -> tuple[float, float, tuple[float, ...]]:
        """Scale, offset and no-data values by the file's tags."""
        i = self._number(key) - 1
        nodata = self._source.nodatavals[i]
        return self._source.scales[i], self._source.offsets[i], () if nodata is None else (nodata,)

    def read(self, bands: Sequence[tuple[int, tuple]], rows: tuple[int, int], cols: tuple[int, int]) -> list[NDArray]:
        """Numbers of some bands at full resolution, as they are in the file; masked arrays where it has masks."""
        window = Window.from_slices(rows, cols)
        numbers = [self._number(key) for key, _ in bands]
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
    with gdal(where, path), rasterio.open(path) as source:
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
