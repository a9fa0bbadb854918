"""Scenes in files that GDAL reads: GeoTIFF, Cloud-Optimised GeoTIFF and their like, here or behind HTTP."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from smnb.contract import FormatError
from smnb.loaders.rasters.bands import BandSource
from smnb.loaders.rasters.options import BandOption
from smnb.loaders.sentinel.rasters import Geometry, geometry_of, unreadable

__all__: list[str] = []

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


def is_remote(path: str) -> bool:
    """Whether a path is a URL (or one of GDAL's for networks)."""
    return path.startswith(("http://", "https://", "s3://", "gs://", "/vsi"))


@contextmanager
def gdal(path: str) -> Iterator[None]:
    """GDAL's settings for a path."""
    with rasterio.Env(**(_REMOTE if is_remote(path) else _LOCAL)), warnings.catch_warnings():
        # that a raster is not georeferenced is an error here, with more to say
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of itself without its pixels."""

    geometry: Geometry
    names: tuple[str, ...]
    units: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    tags: dict[str, str]

    def number_of(self, where: str, wanted: int | str) -> int:
        """A band's number, from 1, by number or description.

        Raises
        ------
        FormatError
            If there is no such band, or more than one.
        """
        if isinstance(wanted, int):
            if 1 <= wanted <= len(self.names):
                return wanted
            raise FormatError(where, f"there is no band {wanted}", got=len(self.names), expected=list(self.names))
        for names in (self.names, tuple(name.lower() for name in self.names)):
            found = [
                i for i, name in enumerate(names, 1) if name == (wanted if names is self.names else wanted.lower())
            ]
            if len(found) == 1:
                return found[0]
        raise FormatError(
            where,
            f"no band, or more than one, is described as {wanted!r}",
            got=list(self.names),
            next_step="Name the band by its number, from 1, or correct the option 'bands'",
        )


def read_header(where: str, path: str) -> ImageHeader:
    """Read a file's header.

    Raises
    ------
    FormatError
        If it is unreadable, complex, or does not say where its pixels are.
    """
    try:
        with gdal(path), rasterio.open(path) as source:
            if any(np.dtype(dtype).kind == "c" for dtype in source.dtypes):
                raise FormatError(where, "the raster holds complex numbers", got=source.dtypes[0])
            return ImageHeader(
                geometry_of(where, source),
                tuple(text or "" for text in source.descriptions),
                tuple(text or "" for text in source.units),
                source.scales,
                source.offsets,
                source.tags(),
            )
    except rasterio.errors.RasterioError as error:
        raise unreadable(where, error) from error


class OpenImage:
    """An open raster file."""

    def __init__(self, where: str, path: str) -> None:
        self.where, self.path = where, path
        try:
            with gdal(path):
                self._source = rasterio.open(path)
        except rasterio.errors.RasterioError as error:
            raise unreadable(where, error) from error

    def geometry(self) -> Geometry:
        """Where its pixels are."""
        return geometry_of(self.where, self._source)

    def block_shape(self, band: BandSource) -> tuple[int, int]:
        """Rows and columns of its tiles or strips."""
        return self._source.block_shapes[self._number(band) - 1]

    def _number(self, band: BandSource) -> int:
        if not 1 <= band.key <= self._source.count:
            raise FormatError(self.where, f"there is no band {band.key}", got=self._source.count)
        return band.key

    def meaning(self, band: BandSource) -> tuple[float, float, tuple[float, ...]]:
        """Scale, offset and no-data value by the file's tags."""
        i = self._number(band) - 1
        nodata = self._source.nodatavals[i]
        return self._source.scales[i], self._source.offsets[i], () if nodata is None else (nodata,)

    def read(self, bands: Sequence[BandSource], rows: tuple[int, int], cols: tuple[int, int]) -> list[NDArray]:
        """Numbers of some bands at full resolution."""
        window = Window.from_slices(rows, cols)
        numbers = [self._number(band) for band in bands]
        try:
            with gdal(self.path):
                values = list(self._source.read(numbers, window=window))
                for i, number in enumerate(numbers):
                    if MaskFlags.per_dataset in self._source.mask_flag_enums[number - 1]:
                        mask = self._source.read_masks(number, window=window) == 0
                        values[i] = np.ma.masked_array(values[i], mask)
        except rasterio.errors.RasterioError as error:
            raise unreadable(self.where, error) from error
        return values

    def close(self) -> None:
        """Close it."""
        self._source.close()


def cloud_percentage(where: str, path: str, number: int, reference: int | None) -> float:
    """Share of pixels, percent, that a band of quality bits such as QA60 calls cloud or cirrus.

    Parameters
    ----------
    where : str
        Who asks, for messages.
    path : str
        The file.
    number : int
        Its band of quality bits.
    reference : int, optional
        A band whose pixels with data make the whole; default all pixels. The quality band cannot tell: zero is clear.

    Returns
    -------
    float
        NaN where there are no data at all.

    Raises
    ------
    FormatError
        If the file is unreadable or the band is no integer.
    """
    cloudy = total = 0
    try:
        with gdal(path), rasterio.open(path) as source:
            if np.dtype(source.dtypes[number - 1]).kind not in "iu" and source.dtypes[number - 1] not in (
                "float32",
                "float64",
            ):
                raise FormatError(where, "the quality band holds no bits", got=source.dtypes[number - 1])
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
    except rasterio.errors.RasterioError as error:
        raise unreadable(where, error) from error
    return 100.0 * cloudy / total if total else float("nan")


def band_source(where: str, path: str, header: ImageHeader, band: BandOption, key: int | str) -> BandSource:
    """The source of one band of a file.

    Raises
    ------
    FormatError
        If the file has no such band.
    """
    number = header.number_of(where, key)
    nodata = None if band.nodata is None else (band.nodata,)
    return BandSource(
        path,
        "image",
        number,
        header.geometry,
        scale=band.scale,
        offset=band.offset,
        nodata=nodata,
        conversion=band.conversion,
    )
