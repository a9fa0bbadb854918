"""Averages of fine pixels over the cells of a target grid, in linear power, in blocks of bounded memory.

Of each block of cells rasterio warps the linear power of the pixels, by nearest neighbour, onto a grid that divides the
cells into about as many parts as they have pixels; a cell's mean is that of its parts. Unlike GDAL's own average, which
takes the box between a cell's opposite corners, this keeps the cell's shape where the scene's grid is turned against the
target's. Sums are kept for the cells that the scene reaches; decibels are made of them at the very end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.warp import Resampling, reproject
from rasterio.windows import Window

from smnb.contract import FormatError, ParameterError, plain
from smnb.loaders.rasters.images import gdal
from smnb.loaders.rasters.placing import Georeference, crs_of
from smnb.loaders.sentinel.calibration import MASK_REASONS, Calibration
from smnb.loaders.sentinel.scenes import Band, Scene
from smnb.loaders.sentinel.targets import Target

#: Bytes of raster blocks that GDAL keeps: those at the edge of a block of cells are asked for again.
_GDAL_CACHE = 128_000_000
#: Threads that decompress and warp a block; scenes are read in parallel by dask's own.
_THREADS = 2
#: Share of out-of-range pixels above which a scene is refused.
_MOST_OUT_OF_RANGE = 0.5
#: Pixels along a cell's side below which it is divided into twice as many parts, so that pixels count by their share.
_FEW_PIXELS = 8
#: Points along a side of the lattices from which extents are found.
_LATTICE = 65
#: What the warp leaves where there is no pixel: no power, and no reason.
_OUTSIDE, _NO_REASON = np.float32(-1.0), 255


@dataclass(frozen=True)
class Rectangle:
    """Rows and columns of the target; stops are exclusive."""

    rows: tuple[int, int]
    cols: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows[1] - self.rows[0], self.cols[1] - self.cols[0]

    def common(self, other: Rectangle) -> Rectangle | None:
        """What two rectangles have in common."""
        rows, cols = ((max(a[0], b[0]), min(a[1], b[1])) for a, b in ((self.rows, other.rows), (self.cols, other.cols)))
        return Rectangle(rows, cols) if rows[0] < rows[1] and cols[0] < cols[1] else None

    def within(self, outer: Rectangle) -> tuple[slice, slice]:
        """Slices of an array that lies on `outer`."""
        return tuple(
            slice(a - start, b - start) for (a, b), (start, _) in ((self.rows, outer.rows), (self.cols, outer.cols))
        )


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


def pixels_a_cell(raster: Georeference, target: Target, row: Any, col: float) -> tuple[NDArray, NDArray, NDArray]:
    """Pixels along the sides of the cell at places of the target, and within it; not finite off the scene's map."""
    row = np.asarray(row, "float64")[..., None]
    x, y = target.transform * (col + np.array([0.0, 1.0, 0.0]) + 0.0 * row, row + np.array([0.0, 0.0, 1.0]))
    rows, cols = raster.fractional(x, y, target.crs)
    (row_x, row_y), (col_x, col_y) = ((v[..., 1] - v[..., 0], v[..., 2] - v[..., 0]) for v in (rows, cols))
    return np.hypot(row_y, col_y), np.hypot(row_x, col_x), np.abs(row_x * col_y - row_y * col_x)


def check_fineness(who: str, scene: Scene, target: Target, cells: Rectangle) -> None:
    """Refuse a target whose cells are finer than a scene's pixels.

    Raises
    ------
    ParameterError
        If they are.
    """
    places = [
        (np.mean(cells.rows) + i * cells.shape[0], np.mean(cells.cols) + i * cells.shape[1]) for i in (-0.3, 0, 0.2)
    ]
    # the middle one, since the date line may run through one of them
    pixels = float(np.nanmedian([pixels_a_cell(scene.geometry, target, *place)[2] for place in places]))
    if pixels < 0.998:
        raise ParameterError(
            who,
            f"the target's cells are finer than the pixels of {scene.name}, so that some would hold none",
            got=plain(f"{pixels:.3g} pixels a cell"),
            expected=plain("at least 1"),
            next_step="Choose a coarser grid",
        )


class SceneFiles:
    """The files of a scene, opened one after the other and read by blocks; a context manager."""

    def __init__(self, who: str, scene: Scene) -> None:
        self._who, self._bands = who, {}
        for band in scene.bands:
            self._bands.setdefault(band.path, []).append(band)

    def __enter__(self) -> SceneFiles:
        self._env = rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE, GDAL_NUM_THREADS=_THREADS)
        self._env.__enter__()
        self._sources = {}
        for path in self._bands:
            with gdal(f"{self._who}({path.name})", str(path)):
                self._sources[path] = rasterio.open(path)
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
    totals = Totals.zeros(cells, len(calibrations))
    down, across, _ = pixels_a_cell(scene.geometry, target, np.arange(*cells.rows), np.mean(cells.cols))
    size = block_pixels / max(float(np.nanmax(down) * np.nanmax(across)), 1.0)
    n_cols = int(np.clip(np.sqrt(size), 1, cells.shape[1]))
    n_rows = int(np.clip(size / n_cols, 1, cells.shape[0]))
    with SceneFiles(who, scene) as files:
        for top in range(*cells.rows, n_rows):
            for left in range(*cells.cols, n_cols):
                rows, cols = (top, min(top + n_rows, cells.rows[1])), (left, min(left + n_cols, cells.cols[1]))
                part = _average_block(files, scene.geometry, target, Rectangle(rows, cols), calibrations, angles)
                if part is not None:
                    totals.add(part)
                    totals.masked += part.masked
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


def _average_block(
    files: SceneFiles,
    raster: Georeference,
    target: Target,
    cells: Rectangle,
    calibrations: dict[str, Calibration],
    angles: AngleSource,
) -> Totals | None:
    """The sums of a block of cells, or None where the scene is elsewhere."""
    (top, bottom), (left, right) = cells.rows, cells.cols
    lattice = np.meshgrid(np.linspace(left, right, 9), np.linspace(top, bottom, 9))
    spans = raster.around(*(target.transform * lattice), target.crs)
    *sides, pixels = pixels_a_cell(raster, target, np.arange(top, bottom), (left + right) / 2 - 0.5)
    if spans is None or not (np.isfinite(sides).all() and np.isfinite(pixels).all()):
        return None
    parts = tuple(_parts(float(side.max())) for side in sides)
    fine = target.transform * Affine.translation(left, top) * Affine.scale(1 / parts[1], 1 / parts[0])
    pixels = (pixels / (parts[0] * parts[1]))[:, None]  # that a part stands for
    shape = cells.shape[0] * parts[0], cells.shape[1] * parts[1]

    def warped(planes: list[NDArray], outside: float) -> NDArray:
        out = np.full((len(planes), *shape), outside, planes[0].dtype)
        return reproject(
            np.stack(planes),
            out,
            src_crs=crs_of(raster.crs),
            src_transform=raster.transform_of(*spans),
            dst_crs=crs_of(target.crs),
            dst_transform=fine,
            resampling=Resampling.nearest,
            init_dest_nodata=False,
            num_threads=_THREADS,
        )[0]

    def summed(values: NDArray) -> NDArray[np.float64]:
        if values.dtype == bool and values.all():
            return np.broadcast_to(pixels * parts[0] * parts[1], cells.shape)
        lines = values.reshape(cells.shape[0], parts[0], -1).sum(axis=1, dtype="float32")
        return lines.reshape(*cells.shape, parts[1]).sum(axis=2, dtype="float64") * pixels

    totals, any_valid = Totals.zeros(cells, len(calibrations)), np.zeros(shape, bool)
    planes, reasons = {}, {}
    for band, numbers, present in files.read(*spans):
        if band.role == "angle":
            planes["angle"] = _angles(band, numbers, present, angles.degrees_per_unit)
            continue
        calibration = calibrations[band.role]
        planes[band.role], valid = calibration.power(numbers, band.nodata, present)
        if not valid.all():
            why = calibration.reasons(numbers, band.nodata, present)
            reasons[band.role] = np.where(valid, np.uint8(_NO_REASON), why)
    fields = dict(zip(planes, warped(list(planes.values()), _OUTSIDE), strict=True))
    if reasons:
        for name, codes in zip(reasons, warped(list(reasons.values()), _NO_REASON), strict=True):
            found = [summed(codes == code).sum() for code in range(len(MASK_REASONS))]
            totals.masked[list(calibrations).index(name)] = found
    for p, name in enumerate(calibrations):
        power, valid = fields[name], fields[name] >= 0.0
        if not valid.all():
            power[~valid] = 0.0
        totals.power[p], totals.looks[p] = summed(power), summed(valid)
        totals.square[p] = summed(np.square(power, out=power))
        any_valid |= valid
    if (angle := fields.get("angle")) is not None:
        any_valid &= angle > 0.0
        totals.angle, totals.angle_looks = summed(np.where(any_valid, angle, np.float32(0))), summed(any_valid)
    elif angles.constant is not None:
        totals.angle_looks = summed(any_valid)
        totals.angle = totals.angle_looks * angles.constant
    return totals


def _parts(pixels: float) -> int:
    """The number of parts of a cell's side: one a pixel, or more where pixels are few and count by their share."""
    return max(round(pixels) if pixels >= _FEW_PIXELS else int(np.ceil(2 * pixels)), 1)


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
