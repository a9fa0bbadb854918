"""One band of one scene: where it is, and what its numbers mean. Plain values, so that an index of them is pickled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from smnb.contract import FormatError
from smnb.loaders.rasters.options import BandOption
from smnb.loaders.sentinel.rasters import Geometry

__all__: list[str] = []


@dataclass(frozen=True)
class BandSource:
    """Where a band's numbers are, and how they become values: ``(number + added) · scale + offset``, then `conversion`.

    Parameters
    ----------
    path : str
        File, folder or URL.
    form : {"image", "netcdf", "zarr"}
        What reads it.
    key : int or str
        Number of the band, or name of the variable.
    geometry : Geometry, optional
        Where the cells are; None for what a STAC item does not tell, which the file then does.
    at : tuple of (int or str)
        Of a variable: an index for each dimension, "y" and "x" for those of the grid.
    scale, offset : float, optional
        None where the file is asked when it is opened.
    nodata : tuple of float, optional
        Numbers that mean no data; None where the file is asked.
    added : float
        Added to digital numbers first.
    conversion : str, optional
        One of `smnb.loaders.rasters.options.CONVERSIONS`.
    """

    path: str
    form: str
    key: int | str
    geometry: Geometry | None
    at: tuple[int | str, ...] = ()
    scale: float | None = None
    offset: float | None = None
    nodata: tuple[float, ...] | None = None
    added: float = 0.0
    conversion: str | None = None


class OpenFile(Protocol):
    """A file that windows are read from; bands are those of one file."""

    def geometry(self) -> Geometry:
        """Where its cells are."""

    def block_shape(self, band: BandSource) -> tuple[int, int]:
        """Rows and columns that are read at once anyway."""

    def read(self, bands: Sequence[BandSource], rows: tuple[int, int], cols: tuple[int, int]) -> list[NDArray]:
        """Numbers of each band as they are in the file, ``(rows, cols)``, masked arrays where it has masks."""

    def meaning(self, band: BandSource) -> tuple[float, float, tuple[float, ...]]:
        """Scale, offset and no-data numbers as the file states them."""

    def close(self) -> None:
        """Close it."""


def check_meaning(where: str, band: BandOption, scale: float | None, offset: float | None, added: float) -> None:
    """Refuse a scale and offset, as a file or item states them, that contradict what is declared.

    Raises
    ------
    FormatError
        If the scale makes reflectance of what is declared as digital numbers, or an offset would count twice.
    """
    if band.scale is None and band.units == "1e-4" and band.conversion is None and scale is not None and scale < 0.1:
        raise FormatError(
            where,
            f"the scale that is stated for {band.name!r} makes reflectance of it, not digital numbers",
            got=scale,
            expected=1.0,
            next_step=f"Declare units: {{{band.name}: '1'}}, which are converted, or scale: 1",
        )
    if band.offset is None and offset and added:
        raise FormatError(
            where,
            f"an offset is stated for {band.name!r} and 'boa_add_offset' is set, so that it would count twice",
            got=offset,
            next_step="Leave out boa_add_offset, and the stated offset is taken",
        )


def calibrate(numbers: NDArray, band: BandSource, nodata: tuple[float, ...], scale: float, offset: float) -> NDArray:
    """Values in the band's units, float32, NaN where there are none."""
    missing = np.ma.getmaskarray(numbers) if np.ma.isMaskedArray(numbers) else None
    numbers = np.ma.getdata(numbers)
    for value in nodata:
        # in float32 files the tag has more digits than the pixels
        same = numbers == (numbers.dtype.type(value) if numbers.dtype.kind == "f" else value)
        missing = same if missing is None else missing | same
    if (band.added, scale, offset) == (0.0, 1.0, 0.0) and band.conversion is None:
        values = numbers.astype("float32")
    else:
        values = convert((numbers.astype("float64") + band.added) * scale + offset, band.conversion).astype("float32")
    if missing is not None:
        values[missing] = np.nan
    return values


def convert(values: NDArray[np.float64], conversion: str | None) -> NDArray[np.float64]:
    """Native values in canonical units."""
    if conversion is None:
        return values
    if conversion == "decibels of linear power":
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values > 0.0, 10.0 * np.log10(values), np.nan)
    factor = {"ten thousandths": 1e4, "degrees of arc": np.degrees(1.0), "millimetres of metres": 1e3}[conversion]
    return values * factor
