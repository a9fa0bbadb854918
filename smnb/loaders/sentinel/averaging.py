"""Averages of fine pixels over the cells of a target grid, in linear power, in blocks of bounded memory.

A pixel belongs to the cell that its centre falls in. GDAL's average weights the pixels that a cell's edge cuts instead,
within the box between two of the cell's corners, which is another mean where pixels are not much smaller than cells or
the scene's grid is turned against the target's. Where pixels fall is told by splines between places transformed exactly.
Sums are kept for the cells that the scene reaches; decibels are made of them at the very end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.interpolate import make_interp_spline

from smnb.contract import FormatError, ParameterError, plain
from smnb.loaders.rasters.images import gdal
from smnb.loaders.rasters.placing import Georeference
from smnb.loaders.sentinel.calibration import MASK_REASONS, Calibration
from smnb.loaders.sentinel.scenes import Band, Scene
from smnb.loaders.sentinel.targets import Rectangle, Target

#: Bytes of raster blocks that GDAL keeps.
_GDAL_CACHE = 64_000_000
#: Threads that decompress a scene's blocks; scenes are read in parallel by dask's own.
_DECODERS = 2
#: Share of out-of-range pixels above which a scene is refused.
_MOST_OUT_OF_RANGE = 0.5
#: Points along a side of the lattices from which extents are found.
_LATTICE = 65
#: Pixels between places that are transformed exactly, at most, and how far off, in pixels, those between may be.
_STEP, _TOLERANCE = 256, 1e-5
#: Row and column of a place that is not on the map.
_NOWHERE = -1e9


@dataclass
class Totals:
    """What the pixels of one scene add up to, over a rectangle of the target's cells.

    Parameters
    ----------
    cells : Rectangle
        Which cells.
    power, square, looks : ndarray of float64, shape (polarization, row, col)
        Sums of linear power and of its square, and the number of valid pixels.
    angle, angle_looks : ndarray of float64, shape (row, col)
        Sum of incidence angles, degrees, and the number of pixels with one.
    masked : ndarray of float64, shape (polarization, reason)
        Pixels within the target that were left out, by `MASK_REASONS`.
    """

    cells: Rectangle
    power: NDArray[np.float64]
    square: NDArray[np.float64]
    looks: NDArray[np.float64]
    angle: NDArray[np.float64]
    angle_looks: NDArray[np.float64]
    masked: NDArray[np.float64]

    @classmethod
    def zeros(cls, cells: Rectangle, n_polarizations: int) -> Totals:
        """Nothing yet."""
        three, two = np.zeros((3, n_polarizations, *cells.shape)), np.zeros((2, *cells.shape))
        return cls(cells, *three, *two, np.zeros((n_polarizations, len(MASK_REASONS))))

    def add(self, other: Totals) -> None:
        """Add what another adds up to on the cells in common."""
        common = self.cells.common(other.cells)
        if common is None:
            return
        to, of = common.within(self.cells), common.within(other.cells)
        for name in ("power", "square", "looks", "angle", "angle_looks"):
            getattr(self, name)[(..., *to)] += getattr(other, name)[(..., *of)]


@dataclass(frozen=True)
class AngleSource:
    """Where incidence angles come from: the scene's band, in degrees or radians, or one constant in degrees."""

    constant: float | None
    degrees_per_unit: float


def reached(scene: Scene, target: Target) -> list[Rectangle]:
    """The cells that a scene may reach: none, one rectangle, or two on both sides of a grid of longitudes' seam."""
    raster = scene.geometry
    rows, cols = np.linspace(0, raster.height, _LATTICE), np.linspace(0, raster.width, _LATTICE)
    own = Georeference(target.crs, tuple(target.transform)[:6], *target.shape)
    x, y = raster.affine * np.meshgrid(cols, rows)
    row, col = own.fractional(x, y, raster.crs)
    finite = np.isfinite(row) & np.isfinite(col)
    if not finite.any():
        return []
    spans = [_reach(row[finite], target.shape[0])]
    col = np.sort(col[finite])
    gaps = np.diff(col)
    if own.period is not None and gaps.size and gaps.max() > own.period / 2:
        west = int(gaps.argmax()) + 1
        parts = [_reach(col[:west], target.shape[1]), _reach(col[west:], target.shape[1])]
    else:
        parts = [_reach(col, target.shape[1])]
    return [Rectangle(spans[0], part) for part in parts if spans[0] and part]


def _reach(values: NDArray, size: int) -> tuple[int, int] | None:
    """The indices in ``0..size`` that values at a lattice's points reach, with a margin for what lies between them."""
    low, high = float(values.min()), float(values.max())
    margin = 1.0 + 0.01 * (high - low)
    if high < 0.0 or low >= size:
        return None
    return max(int(np.floor(low - margin)), 0), min(int(np.ceil(high + margin)), size)


def pixel_places(
    raster: Georeference, target: Target, rows: tuple[int, int], cols: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fractional row and column of the target at the centres of a block of a scene's pixels, each ``(row, col)``.

    Off the target's map they are outside every grid, and columns of a grid of longitudes are those of its first turn.
    """
    own = Georeference(target.crs, tuple(target.transform)[:6], *target.shape)
    sizes = rows[1] - rows[0], cols[1] - cols[0]

    def exact(row: NDArray, col: NDArray) -> NDArray:
        x, y = raster.affine * np.meshgrid(cols[0] + col + 0.5, rows[0] + row + 0.5)
        found = np.stack(own.fractional(x, y, raster.crs))
        if own.period is not None:
            for axis in (0, 1):
                found[1] = np.unwrap(found[1], period=own.period, axis=axis)
        return found

    step = _STEP
    while True:
        if step == 1 or min(sizes) < 4:
            step = 1
            places = exact(*(np.arange(size) for size in sizes))
            break
        nodes = [np.linspace(0.0, size - 1.0, max(int(np.ceil(size / step)) + 1, 4)) for size in sizes]
        splines = [make_interp_spline(values, np.eye(values.size)) for values in nodes]
        at_nodes = exact(*nodes)
        if np.isfinite(at_nodes).all():
            between = [(values[:-1] + values[1:]) / 2 for values in nodes]
            down, across = (spline(at) for spline, at in zip(splines, between, strict=True))
            error = np.abs(down @ at_nodes @ across.T - exact(*between)).max()
            pixel = np.abs(np.diff(at_nodes[:, :, :2], axis=2)).max() / nodes[1][1]
            if error <= _TOLERANCE * pixel:
                down, across = (spline(np.arange(size)) for spline, size in zip(splines, sizes, strict=True))
                places = down @ at_nodes @ across.T
                break
        step //= 4
    if own.period is not None:
        first = (own.width - own.period) / 2
        if places[1].min() < first or places[1].max() >= first + own.period:
            places[1] = np.mod(places[1] - first, own.period) + first
    if step == 1:
        places = np.where(np.isfinite(places), places, _NOWHERE)
    return places[0], places[1]


def check_fineness(who: str, scene: Scene, target: Target) -> None:
    """Refuse a target whose cells are finer than a scene's pixels.

    Raises
    ------
    ParameterError
        If they are.
    """
    raster = scene.geometry
    own = Georeference(target.crs, tuple(target.transform)[:6], *target.shape)
    # a few places all over the scene, of which the median: the date line may run through one
    row, col = (
        np.array(shares)[:, None] * size
        for shares, size in (
            ((0.11, 0.29, 0.53, 0.71, 0.93), raster.height),
            ((0.62, 0.17, 0.87, 0.41, 0.09), raster.width),
        )
    )
    x, y = raster.affine * (col + np.array([0.0, 0.0, 1.0]), row + np.array([0.0, 1.0, 0.0]))
    places = np.stack(own.fractional(x, y, raster.crs))
    cells = float(np.nanmedian(np.abs(places[..., 1:] - places[..., :1]).max(axis=(0, 2))))
    if cells > 1.001:
        raise ParameterError(
            who,
            f"the target's cells are finer than the pixels of {scene.name}, so that some would hold none",
            got=plain(f"{cells:.3g} cells a pixel"),
            expected=plain("at most 1"),
            next_step="Choose a coarser grid",
        )


class SceneFiles:
    """The files of a scene, opened one after the other and read by blocks; a context manager."""

    def __init__(self, who: str, scene: Scene) -> None:
        self._who, self._bands = who, {}
        for band in scene.bands:
            self._bands.setdefault(band.path, []).append(band)

    def __enter__(self) -> SceneFiles:
        self._env = rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE, GDAL_NUM_THREADS=_DECODERS)
        self._env.__enter__()
        self._sources = {}
        for path in self._bands:
            with gdal(f"{self._who}({path.name})", str(path)):
                self._sources[path] = rasterio.open(path)
        self.block_shape = next(iter(self._sources.values())).block_shapes[0]
        return self

    def __exit__(self, *error: object) -> None:
        for source in self._sources.values():
            source.close()
        self._env.__exit__(*error)

    def read(self, rows: tuple[int, int], cols: tuple[int, int]) -> Iterator[tuple[Band, NDArray, NDArray | None]]:
        """Each band's numbers in a rectangle of pixels, and where its file's mask says that there are any.

        Raises
        ------
        FormatError
            If a file cannot be read.
        """
        window = Window.from_slices(rows, cols)
        for path, bands in self._bands.items():
            source = self._sources[path]
            with gdal(f"{self._who}({path.name})", str(path)):
                numbers = source.read([band.index for band in bands], window=window)
                masks = [source.read_masks(b.index, window=window) > 0 if b.has_mask else None for b in bands]
            yield from zip(bands, numbers, masks, strict=True)


def average_scene(
    who: str,
    scene: Scene,
    target: Target,
    cells: Rectangle,
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
    cells : Rectangle
        Of it, from `reached`.
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
    raster, totals = scene.geometry, Totals.zeros(cells, len(calibrations))
    with SceneFiles(who, scene) as files:
        for rows, cols in _blocks(raster, target, cells, files.block_shape, block_pixels):
            _add_block(
                totals,
                files,
                _Cells(cells, *pixel_places(raster, target, rows, cols)),
                rows,
                cols,
                calibrations,
                angles,
            )
    for p, name in enumerate(calibrations):
        outside, valid = totals.masked[p, MASK_REASONS.index("out_of_range")], totals.looks[p].sum()
        if outside > _MOST_OUT_OF_RANGE * (outside + valid):
            raise FormatError(
                f"{who}({scene.name})",
                f"most pixels of {name} are outside the range of backscatter",
                got=plain(f"{outside:.0f} of {outside + valid:.0f}"),
                expected=plain("few"),
                next_step="Check 'units' and the scale; parts of the scene may be in other units",
            )
    return totals


def _blocks(
    raster: Georeference, target: Target, cells: Rectangle, shape: tuple[int, int], pixels: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Rows and columns of about so many pixels, of those that may fall in the cells, that keep to the file's own blocks."""
    lattice = np.meshgrid(np.linspace(*cells.cols, _LATTICE), np.linspace(*cells.rows, _LATTICE))
    spans = raster.around(*(target.transform * lattice), target.crs) or ((0, raster.height), (0, raster.width))
    (row0, row1), (col0, col1) = (
        (max(a, 0), min(b, size)) for (a, b), size in zip(spans, (raster.height, raster.width), strict=True)
    )
    n_cols = min(max(pixels // shape[0] // shape[1], 1) * shape[1], col1)
    n_rows = max(pixels // n_cols // shape[0], 1) * shape[0]
    for top in range(row0 // n_rows * n_rows, row1, n_rows):
        for left in range(col0 // n_cols * n_cols, col1, n_cols):
            yield (max(top, row0), min(top + n_rows, row1)), (max(left, col0), min(left + n_cols, col1))


class _Cells:
    """Which of a rectangle's cells the pixels of a block are in, and sums over them; a ring of cells takes those outside."""

    def __init__(self, cells: Rectangle, row: NDArray, col: NDArray) -> None:
        self._shape = cells.shape[0] + 2, cells.shape[1] + 2
        for values, (first, stop) in ((row, cells.rows), (col, cells.cols)):
            values -= first - 1
            np.clip(values, 0, stop - first + 1, out=values)
        dtype = "int32" if self._shape[0] * self._shape[1] < 2**31 else "int64"
        index = row.astype(dtype)
        index *= self._shape[1]
        index += col.astype(dtype)
        self._index = index.ravel()
        # neighbours along a row are mostly in one cell: they are added up first, and the cells get sums
        self._starts = np.r_[0, np.flatnonzero(self._index[1:] != self._index[:-1]) + 1]
        runs = self._index[self._starts]
        self._low = int(runs.min())
        self._runs = (runs - self._low).astype("intp")

    def inside(self, at: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Those of some pixels ``(row, col)`` that are not in the ring."""
        row, col = np.divmod(self._index.reshape(at.shape), self._shape[1])
        return at & (row > 0) & (row < self._shape[0] - 1) & (col > 0) & (col < self._shape[1] - 1)

    def add(self, total: NDArray, values: NDArray) -> None:
        """Add one value a pixel ``(row, col)`` to the cells."""
        sums = np.bincount(self._runs, weights=np.add.reduceat(values.ravel(), self._starts, dtype="float64"))
        padded = np.zeros(self._shape)
        padded.ravel()[self._low : self._low + sums.size] = sums
        total += padded[1:-1, 1:-1]


def _add_block(
    totals: Totals,
    files: SceneFiles,
    cells: _Cells,
    rows: tuple[int, int],
    cols: tuple[int, int],
    calibrations: dict[str, Calibration],
    angles: AngleSource,
) -> None:
    any_valid, angle = np.zeros((rows[1] - rows[0], cols[1] - cols[0]), bool), None
    for band, numbers, present in files.read(rows, cols):
        if band.role == "angle":
            angle = _angles(band, numbers, present, angles.degrees_per_unit)
            continue
        p, calibration = list(calibrations).index(band.role), calibrations[band.role]
        power, valid = calibration.power(numbers, band.nodata, present)
        if not valid.all():
            why = calibration.reasons(numbers, band.nodata, present)[cells.inside(~valid)]
            totals.masked[p] += np.bincount(why, minlength=len(MASK_REASONS))
            power[~valid] = 0.0
        cells.add(totals.power[p], power)
        cells.add(totals.looks[p], valid.view("uint8"))
        cells.add(totals.square[p], np.square(power, out=power))
        any_valid |= valid
    if angle is not None:
        any_valid &= np.isfinite(angle)
        cells.add(totals.angle, np.where(any_valid, angle, np.float32(0)))
    elif angles.constant is not None:
        cells.add(totals.angle, any_valid * np.float32(angles.constant))
    else:
        return
    cells.add(totals.angle_looks, any_valid.view("uint8"))


def _angles(band: Band, numbers: NDArray, present: NDArray | None, degrees_per_unit: float) -> NDArray[np.float32]:
    """Degrees, NaN where there are none."""
    degrees = numbers.astype("float32") * np.float32(band.scale) + np.float32(band.offset)
    degrees *= np.float32(degrees_per_unit)
    degrees[~((degrees > 0) & (degrees < 90))] = np.nan
    if present is not None:
        degrees[~present] = np.nan
    if band.nodata is not None:
        degrees[numbers == band.nodata] = np.nan
    return degrees
