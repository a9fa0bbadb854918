"""Averages of fine pixels over the cells of a target grid, in linear power, in blocks of bounded memory.

A pixel belongs to the cell that its centre falls in. GDAL's average weights the pixels that a cell's edge cuts instead,
within the box between two of the cell's corners, which is another mean where pixels are not much smaller than cells or
the scene's grid is turned against the target's. Where pixels fall is told by splines between places transformed exactly.
Sums are kept for the cells that the scene reaches; decibels are made of them at the very end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from smnb.contract import VARIABLES, FormatError, plain
from smnb.loaders.rasters.backscatter import MASK_REASONS, Backscatter
from smnb.loaders.rasters.placing import Georeference
from smnb.loaders.rasters.scenes import SceneReader, SceneRecord

#: Bytes of raster blocks that GDAL keeps, and threads that decompress them; scenes are read in parallel by dask's own.
_GDAL = {"GDAL_CACHEMAX": 64_000_000, "GDAL_NUM_THREADS": 2}
#: Share of out-of-range pixels above which a scene is refused.
_MOST_OUT_OF_RANGE = 0.5
#: Points along a side of the lattices from which extents are found, and the share of those that may lie between them.
_LATTICE, _SLACK = 65, 0.01
#: Pixels between places that are transformed exactly, at most, and how far off, in pixels, those between may be.
_STEP, _TOLERANCE = 256, 1e-5
#: Row and column of a place that is not on the map.
_NOWHERE = -1e9
#: Rows and columns of the target in one dask chunk.
_CHUNK = 2048
#: Fields on the target: type, units, what they are; those by polarization first.
_BY_POLARIZATION = ("sigma0", "n_looks", "enl")
_FIELDS = {
    "sigma0": ("float32", "dB", "radar backscatter coefficient, C band"),
    "n_looks": ("int32", "1", "number of pixels averaged"),
    "enl": ("float32", "1", "equivalent number of looks of a pixel"),
    "n_scenes": ("int16", "1", "number of scenes averaged"),
    "incidence_angle": ("float32", "degree", "incidence angle"),
}
_Span = tuple[int, int]


@dataclass
class Sums:
    """What the pixels of one scene add up to, over rows and columns of the target.

    `layers` ``(3 · polarization + 2, row, col)`` are the sums of linear power, those of its square and the numbers of valid
    pixels, each by polarization, then the sum of incidence angles (degrees) and the number of pixels with one; `masked`
    ``(polarization, reason)`` counts pixels within the target that were left out. Columns may go beyond the seam of a
    target around the earth.
    """

    rows: _Span
    cols: _Span
    layers: NDArray[np.float64]
    masked: NDArray[np.float64]


def reached(scene: SceneRecord, target: Georeference) -> tuple[_Span, _Span] | None:
    """The rows and columns of a target that a scene may reach; columns may go beyond the seam of one around the earth."""
    raster = scene.sources[0].geometry
    lattice = np.meshgrid(np.linspace(0, raster.width, _LATTICE), np.linspace(0, raster.height, _LATTICE))
    spans = target.around(*(raster.affine * lattice), raster.crs, _SLACK)
    if spans is not None and spans[1][1] - spans[1][0] >= target.width:
        return spans[0], (0, target.width)
    return spans


def pixel_places(
    raster: Georeference, target: Georeference, rows: _Span, cols: _Span
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fractional row and column of the target at the centres of a block of a scene's pixels, each ``(row, col)``.

    Off the target's map they are outside every grid; columns of a grid of longitudes are of no certain turn.
    """
    sizes = rows[1] - rows[0], cols[1] - cols[0]

    def exact(row: NDArray, col: NDArray) -> NDArray:
        x, y = raster.affine * np.meshgrid(cols[0] + col + 0.5, rows[0] + row + 0.5)
        found = np.stack(target.fractional(x, y, raster.crs))
        if target.period is not None:
            for axis in (0, 1):
                found[1] = np.unwrap(found[1], period=target.period, axis=axis)
        return found

    step = _STEP
    while step > 1 and min(sizes) >= 4:
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
                row, col = down @ at_nodes @ across.T
                return row, col
        step //= 4
    row, col = exact(*(np.arange(size) for size in sizes))
    return tuple(np.where(np.isfinite(row) & np.isfinite(col), values, _NOWHERE) for values in (row, col))


def average_scene(
    who: str,
    scene: SceneRecord,
    target: Georeference,
    cells: tuple[_Span, _Span],
    quantities: Mapping[str, Backscatter],
    constant_angle: float | None,
    block_pixels: int,
) -> Sums:
    """Add up the pixels of a scene by the target's `cells`, which it reaches, reading about `block_pixels` at a time.

    `quantities` say what the numbers of each polarization are; a scene without a band of angles has the constant one.
    A `FormatError` where most pixels of a band are outside the range of backscatter.
    """
    (first_row, last_row), (first_col, last_col) = cells
    layers = np.zeros((3 * len(quantities) + 2, last_row - first_row, last_col - first_col))
    sums = Sums(*cells, layers, np.zeros((len(quantities), len(MASK_REASONS))))
    raster = scene.sources[0].geometry
    with rasterio.Env(**_GDAL), SceneReader(scene.scene_id, scene.time, "sentinel1", scene.sources) as reader:
        for rows, cols in _blocks(raster, target, cells, reader.block_shape(), block_pixels):
            row, col = pixel_places(raster, target, rows, cols)
            row -= first_row
            col -= first_col
            if target.period is not None and (col.min() < 0 or col.max() >= target.period):
                col %= target.period
            numbers = reader.numbers(rows, cols)
            _add_block(sums, scene, numbers, _Cells(layers.shape[1:], row, col), quantities, constant_angle)
    for p, name in enumerate(quantities):
        outside, valid = sums.masked[p, MASK_REASONS.index("out_of_range")], layers[2 * len(quantities) + p].sum()
        if outside > _MOST_OUT_OF_RANGE * (outside + valid):
            what = f"most pixels of {name} are outside the range of backscatter"
            got = plain(f"{outside:.0f} of {outside + valid:.0f}")
            next_step = "Check 'units' and the scale; parts of the scene may be in other units"
            raise FormatError(f"{who}({scene.scene_id})", what, got=got, expected=plain("few"), next_step=next_step)
    return sums


def _blocks(
    raster: Georeference, target: Georeference, cells: tuple[_Span, _Span], shape: tuple[int, int], pixels: int
) -> Iterator[tuple[_Span, _Span]]:
    """Rows and columns of about so many pixels, of those that may fall in the cells, that keep to the file's own blocks."""
    lattice = np.meshgrid(np.linspace(*cells[1], _LATTICE), np.linspace(*cells[0], _LATTICE))
    spans = raster.around(*(target.affine * lattice), target.crs, _SLACK) or ((0, raster.height), (0, raster.width))
    (row0, row1), (col0, col1) = (
        (max(a, 0), min(b, size)) for (a, b), size in zip(spans, (raster.height, raster.width), strict=True)
    )
    n_cols = min(max(pixels // shape[0] // shape[1], 1) * shape[1], col1)
    n_rows = max(pixels // n_cols // shape[0], 1) * shape[0]
    for top in range(row0 // n_rows * n_rows, row1, n_rows):
        for left in range(col0 // n_cols * n_cols, col1, n_cols):
            yield (max(top, row0), min(top + n_rows, row1)), (max(left, col0), min(left + n_cols, col1))


class _Cells:
    """Which cells the pixels of a block are in, and sums over them; a ring of cells takes the pixels outside."""

    def __init__(self, shape: tuple[int, int], row: NDArray, col: NDArray) -> None:
        self._shape = shape[0] + 2, shape[1] + 2
        for values, size in zip((row, col), shape, strict=True):
            values += 1
            np.clip(values, 0, size + 1, out=values)
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
    sums: Sums,
    scene: SceneRecord,
    numbers: dict[str, NDArray],
    cells: _Cells,
    quantities: Mapping[str, Backscatter],
    constant_angle: float | None,
) -> None:
    n, any_valid = len(quantities), False
    for p, (name, quantity) in enumerate(quantities.items()):
        power, valid = quantity.power(numbers[name])
        if not valid.all():
            why = quantity.reasons(numbers[name])[cells.inside(~valid)]
            sums.masked[p] += np.bincount(why, minlength=len(MASK_REASONS))
            power[~valid] = 0.0
        cells.add(sums.layers[p], power)
        cells.add(sums.layers[2 * n + p], valid.view("uint8"))
        cells.add(sums.layers[n + p], np.square(power, out=power))
        any_valid |= valid
    band, angle = next((one for one in scene.sources if one.option.name == "angle"), None), constant_angle
    if band is not None:
        angle = band.values(scene.scene_id, numbers["angle"])
        any_valid &= np.isfinite(angle)
    if angle is not None:
        cells.add(sums.layers[-2], np.where(any_valid, np.float32(angle), np.float32(0)))
        cells.add(sums.layers[-1], any_valid.view("uint8"))


def _overlap(a: _Span, b: _Span, shift: int = 0) -> tuple[slice, slice] | None:
    """What two spans have in common, the first moved by `shift`: where it is in either."""
    low, high = max(a[0] + shift, b[0]), min(a[1] + shift, b[1])
    return (slice(low - a[0] - shift, high - a[0] - shift), slice(low - b[0], high - b[0])) if low < high else None


def _combine(
    parts: list[Sums], n: int, rows: _Span, cols: _Span, turns: Sequence[int], least: int
) -> dict[str, NDArray]:
    """The fields of a rectangle of the target from all scenes that reach it; cells of fewer than `least` looks are NaN."""
    total = np.zeros((3 * n + 2, rows[1] - rows[0], cols[1] - cols[0]))
    n_scenes = np.zeros(total.shape[1:], "int16")
    power, square, looks = total[:n], total[n : 2 * n], total[2 * n : 3 * n]
    for part in parts:
        before = looks.sum(axis=0)
        for turn in turns:
            down, across = _overlap(part.rows, rows), _overlap(part.cols, cols, turn)
            if down and across:
                total[:, down[1], across[1]] += part.layers[:, down[0], across[0]]
        n_scenes += looks.sum(axis=0) > before
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = power / looks
        variance = (square / looks - mean**2) * looks / (looks - 1)
        sigma0, enl, degrees = 10.0 * np.log10(mean), mean**2 / variance, total[-2] / total[-1]
    low, high = VARIABLES["sigma0"].valid_range
    # 1e-4: pixels are of single precision, and one at the range's own edge is within it
    measured = (looks >= least) & (sigma0 >= low - 1e-4) & (sigma0 <= high + 1e-4)
    # pixels that are all equal differ by rounding: no number of looks follows from that
    varies = measured & (looks > 1) & (variance > 1e-6 * mean**2)
    sigma0, enl = np.where(measured, np.clip(sigma0, low, high), np.nan), np.where(varies, enl, np.nan)
    fields = dict(zip(_FIELDS, (sigma0, looks, enl, n_scenes, degrees), strict=True))
    return {name: values.astype(_FIELDS[name][0]) for name, values in fields.items()}


def dataset_of(
    target: Georeference,
    coords: Mapping[str, Any],
    groups: Sequence[tuple[np.datetime64, list[tuple[tuple[_Span, _Span], Any]]]],
    polarizations: Sequence[str],
    min_looks: int,
    *,
    has_angle: bool,
) -> xr.Dataset:
    """The lazy Dataset, in chunks of the target, of times and their scenes' cells and delayed `Sums`."""
    names = [name for name in _FIELDS if has_angle or name != "incidence_angle"]
    spans = [[(k, min(k + _CHUNK, size)) for k in range(0, size, _CHUNK)] for size in (target.height, target.width)]
    turns = (-target.width, 0, target.width) if target.is_round else (0,)
    n = len(polarizations)

    def made(members: Sequence, rows: _Span, cols: _Span) -> dict[str, da.Array]:
        reaching = [
            sums
            for cells, sums in members
            if _overlap(cells[0], rows) and any(_overlap(cells[1], cols, turn) for turn in turns)
        ]
        fields = dask.delayed(_combine, pure=False)(reaching, n, rows, cols, turns, min_looks)
        shape = rows[1] - rows[0], cols[1] - cols[0]
        return {
            name: da.from_delayed(fields[name], (n, *shape) if name in _BY_POLARIZATION else shape, _FIELDS[name][0])
            for name in names
        }

    chunks = [[[made(members, rows, cols) for cols in spans[1]] for rows in spans[0]] for _, members in groups]
    spatial = ("y", "x") if "y" in coords else ("lat", "lon")
    mapped = {"grid_mapping": "crs"} if "crs" in coords else {}
    data: dict[str, Any] = {}
    for name in names:
        dims = ("time", "polarization", *spatial) if name in _BY_POLARIZATION else ("time", *spatial)
        values = da.stack([da.block([[chunk[name] for chunk in line] for line in one]) for one in chunks])
        data[name] = (dims, values, {"units": _FIELDS[name][1], "long_name": _FIELDS[name][2], **mapped})
    data["sigma0"][2]["cell_methods"] = "area: mean (of linear power)"
    add_up = dask.delayed(lambda parts: np.sum([part.masked for part in parts], axis=0).astype("int64"), pure=False)
    masked = [add_up([sums for _, sums in members]) for _, members in groups]
    counts = da.stack([da.from_delayed(one, (n, len(MASK_REASONS)), "int64") for one in masked])
    about = {"units": "1", "long_name": "number of pixels left out"}
    data["n_masked"] = ("time", "polarization", "reason"), counts, about
    times = np.array([time for time, _ in groups], "datetime64[ns]")
    own = {"time": times, "polarization": list(polarizations), "reason": list(MASK_REASONS)}
    return xr.Dataset(data, own | dict(coords))
