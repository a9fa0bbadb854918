"""Averages of fine pixels over the cells of a target grid, in linear power, in blocks of bounded memory.

Sums of power, of its square and of valid pixels are kept for the cells that the scene reaches, whatever the size of the
scene; decibels are made of them at the very end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from smnb.contract import FormatError, plain
from smnb.loaders.sentinel.calibration import MASK_REASONS, Calibration
from smnb.loaders.sentinel.grid import Target
from smnb.loaders.sentinel.placing import PixelMap, Placement
from smnb.loaders.sentinel.rasters import Band, Scene, unreadable

__all__: list[str] = []

#: Bytes of raster blocks that GDAL keeps.
_GDAL_CACHE = 64_000_000
#: Threads that decompress a scene's blocks; scenes are read in parallel by dask's own.
_DECODERS = 2
#: Share of out-of-range pixels above which a scene is refused.
_MOST_OUT_OF_RANGE = 0.5


@dataclass
class Totals:
    """What the pixels of one scene add up to, over a rectangle of the target's cells.

    Parameters
    ----------
    cell_rows, cell_cols : (int, int)
        The rectangle.
    power, square : ndarray of float64, shape (polarization, row, col)
        Sums of linear power and of its square.
    count : ndarray of int64, shape (polarization, row, col)
        Valid pixels.
    angle : ndarray of float64, shape (row, col)
        Sum of incidence angles, degrees.
    angle_count : ndarray of int64, shape (row, col)
        Pixels with an angle.
    masked : ndarray of int64, shape (polarization, reason)
        Pixels within the target that were left out, by `MASK_REASONS`.
    """

    cell_rows: tuple[int, int]
    cell_cols: tuple[int, int]
    power: NDArray[np.float64]
    square: NDArray[np.float64]
    count: NDArray[np.int64]
    angle: NDArray[np.float64]
    angle_count: NDArray[np.int64]
    masked: NDArray[np.int64]


@dataclass(frozen=True)
class AngleSource:
    """Where incidence angles come from: the scene's band, in degrees or radians, or one constant in degrees."""

    constant: float | None
    degrees_per_unit: float


class _Adder:
    """Sums over the cells of a rectangle, with a ring of cells about it for pixels outside."""

    def __init__(self, n_polarizations: int, placement: Placement) -> None:
        (self._row0, row1), (self._col0, col1) = placement.cell_rows, placement.cell_cols
        self._inner = row1 - self._row0, col1 - self._col0
        self._shape = self._inner[0] + 2, self._inner[1] + 2
        cells = self._shape[0] * self._shape[1]
        self.power, self.square = np.zeros((2, n_polarizations, cells))
        self.count = np.zeros((n_polarizations, cells), "int64")
        self.angle, self.angle_count = np.zeros(cells), np.zeros(cells, "int64")

    def locate(self, row: NDArray, col: NDArray) -> None:
        """Say which cells the next pixels are in, by the target's fractional rows and columns, which are overwritten."""
        for values, first, size in ((row, self._row0, self._inner[0]), (col, self._col0, self._inner[1])):
            values -= first - 1
            np.clip(values, 0, size + 1, out=values)
        dtype = "int32" if self._shape[0] * self._shape[1] < 2**31 else "int64"
        index = row.astype(dtype)
        index *= self._shape[1]
        index += col.astype(dtype)
        self._index = index.ravel()
        # neighbours along a row are mostly in one cell: they are added up first, and the cells get sums
        self._starts = np.r_[0, np.flatnonzero(self._index[1:] != self._index[:-1]) + 1]
        cells = self._index[self._starts]
        self._low = int(cells.min())
        self._cells = (cells - self._low).astype("intp")
        self._span = int(cells.max()) + 1 - self._low

    def inside(self, at: NDArray) -> NDArray:
        """Those of some pixels, by their flat indices, that are not in the ring."""
        row, col = np.divmod(self._index[at], self._shape[1])
        return at[(row > 0) & (row <= self._inner[0]) & (col > 0) & (col <= self._inner[1])]

    def add(self, total: NDArray, values: NDArray) -> None:
        """Add one value a pixel to the cells."""
        run = np.add.reduceat(values.ravel(), self._starts, dtype="float64")
        sums = np.bincount(self._cells, weights=run, minlength=self._span)
        part = total[self._low : self._low + self._span]
        part += sums.astype(total.dtype)

    def result(self, placement: Placement, masked: NDArray) -> Totals:
        """The sums without the ring."""

        def inner(total: NDArray) -> NDArray:
            return total.reshape(*total.shape[:-1], *self._shape)[..., 1:-1, 1:-1].copy()

        sums = (inner(total) for total in (self.power, self.square, self.count, self.angle, self.angle_count))
        return Totals(placement.cell_rows, placement.cell_cols, *sums, masked)


def blocks_of(placement: Placement, block: tuple[int, int], pixels: int) -> Iterator[tuple[int, int, int, int]]:
    """Rectangles ``row, col, height, width`` of about `pixels` pixels that keep to the file's own blocks."""
    (row0, row1), (col0, col1) = placement.rows, placement.cols
    n_cols = min(max(pixels // block[0] // block[1], 1) * block[1], col1)
    n_rows = max(pixels // n_cols // block[0], 1) * block[0]
    for top in range(row0 // n_rows * n_rows, row1, n_rows):
        for left in range(col0 // n_cols * n_cols, col1, n_cols):
            row, col = max(top, row0), max(left, col0)
            yield row, col, min(top + n_rows, row1) - row, min(left + n_cols, col1) - col


class SceneReader(ExitStack):
    """Reads blocks of all bands of a scene; a context manager."""

    def __init__(self, who: str, scene: Scene) -> None:
        super().__init__()
        self._who, self._by_path = who, {}
        for band in scene.bands:
            self._by_path.setdefault(band.path, []).append(band)

    def __enter__(self) -> SceneReader:
        super().__enter__()
        # blocks are read once: what GDAL would keep of them, 5 % of the machine's memory, is of no use here
        self.enter_context(rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE, GDAL_NUM_THREADS=_DECODERS))
        self._sources = {}
        for path in self._by_path:
            try:
                self._sources[path] = self.enter_context(rasterio.open(path))
            except rasterio.errors.RasterioError as error:
                raise unreadable(f"{self._who}({path.name})", error) from error
        return self

    def read(self, row: int, col: int, height: int, width: int) -> Iterator[tuple[Band, NDArray, NDArray | None]]:
        """Each band's numbers in a rectangle, and where its file's mask says that there are any.

        Raises
        ------
        FormatError
            If a file cannot be read.
        """
        window = Window(col, row, width, height)
        for path, bands in self._by_path.items():
            try:
                numbers = self._sources[path].read([band.index for band in bands], window=window)
                masks = [self._sources[path].read_masks(b.index, window=window) if b.has_mask else None for b in bands]
            except rasterio.errors.RasterioError as error:
                raise unreadable(f"{self._who}({path.name})", error) from error
            for band, values, mask in zip(bands, numbers, masks, strict=True):
                yield band, values, None if mask is None else mask > 0


def average_scene(
    who: str,
    scene: Scene,
    target: Target,
    placement: Placement,
    calibrations: dict[str, Calibration],
    angles: AngleSource,
    block_pixels: int,
) -> Totals:
    """Add up the pixels of a scene by the target's cells.

    Parameters
    ----------
    who : str
        The caller, for messages.
    scene : Scene
        Its bands.
    target : Target
        The grid.
    placement : Placement
        From `place_scene`.
    calibrations : dict of str to Calibration
        By polarization; their order is the result's.
    angles : AngleSource
        The incidence angle.
    block_pixels : int
        Pixels to read at a time, about.

    Raises
    ------
    FormatError
        If a file is unreadable, or most pixels of a band are outside the range of backscatter.
    """
    names = list(calibrations)
    pixel_map, adder = PixelMap(scene.geometry, target), _Adder(len(names), placement)
    masked = np.zeros((len(names), len(MASK_REASONS)), "int64")
    with SceneReader(who, scene) as reader:
        for row, col, height, width in blocks_of(placement, scene.block, block_pixels):
            at_row, at_col = np.empty((2, height, width))
            pixel_map.fill(row, col, at_row, at_col)
            adder.locate(at_row, at_col)
            any_valid, angle = np.zeros((height, width), bool), None
            for band, numbers, present in reader.read(row, col, height, width):
                if band.role == "angle":
                    angle = (band, numbers, present)
                    continue
                calibration, p = calibrations[band.role], names.index(band.role)
                valid = calibration.is_valid(numbers, band.nodata)
                if present is not None:
                    valid &= present
                if not valid.all():
                    bad = adder.inside(np.flatnonzero(~valid.ravel()))
                    why = calibration.reasons(numbers.ravel()[bad], band.nodata)
                    masked[p] += np.bincount(why, minlength=len(MASK_REASONS))
                power = np.where(valid, calibration.power(numbers), np.float32(0))
                adder.add(adder.power[p], power)
                adder.add(adder.square[p], np.square(power, out=power))
                adder.add(adder.count[p], valid.view("uint8"))
                any_valid |= valid
            if angle is not None:
                band, numbers, present = angle
                numbers = numbers.astype("float32") * np.float32(band.scale) + np.float32(band.offset)
                numbers *= np.float32(angles.degrees_per_unit)
                any_valid &= (numbers > 0) & (numbers < 90)
                if present is not None:
                    any_valid &= present
                if band.nodata is not None and np.isfinite(band.nodata):
                    any_valid &= angle[1] != band.nodata
                adder.add(adder.angle, np.where(any_valid, numbers, np.float32(0)))
                adder.add(adder.angle_count, any_valid.view("uint8"))
            elif angles.constant is not None:
                adder.add(adder.angle, any_valid * np.float32(angles.constant))
                adder.add(adder.angle_count, any_valid.view("uint8"))
    totals = adder.result(placement, masked)
    for p, name in enumerate(names):
        outside, valid = int(masked[p, MASK_REASONS.index("out_of_range")]), int(totals.count[p].sum())
        if outside > _MOST_OUT_OF_RANGE * (outside + valid):
            raise FormatError(
                f"{who}({scene.name})",
                f"most pixels of {name} are outside the range of backscatter",
                got=plain(f"{outside} of {outside + valid}"),
                expected=plain("few"),
                next_step="Check 'units' and the scale; parts of the scene may be in other units",
            )
    return totals
