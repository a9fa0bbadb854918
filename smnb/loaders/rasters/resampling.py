"""Values at a window's cells from a raster on another grid: exact positions, nearest and bilinear weights, means.

Positions come from `smnb.loaders.sentinel.placing.PixelMap`, which is good to a millionth of a pixel, where GDAL's warp
is good to an eighth. A value is never read from a pixel without data, and what has none at the pixel that holds a cell's
centre is missing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from smnb.grids import UtmWindow
from smnb.loaders.rasters.georeference import Georeference, utm_wkt
from smnb.loaders.sentinel.placing import PixelMap
from smnb.loaders.sentinel.rasters import Geometry

__all__: list[str] = []

RESAMPLINGS = ("bilinear", "nearest", "average")
#: Reads ``(band, row, col)`` of whole rows and columns within the raster: first row, stop row, first column, stop column.
ReadBlock = Callable[[int, int, int, int], NDArray[np.float32]]
#: Points a cell's side that a mean is taken over, at most.
MOST_PIXELS = 512


def positions(window: UtmWindow, raster: Georeference) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fractional row and column of a raster at a window's cell centres, ``(size, size)`` each, of one turn."""
    geometry = Geometry(utm_wkt(window.epsg), tuple(window.transform)[:6], window.size, window.size)
    row, col = np.empty(window.shape), np.empty(window.shape)
    PixelMap(geometry, raster).fill(0, 0, row, col)
    if raster.is_round and np.ptp(col) > raster.shape[1] / 2:
        col += np.where(col < raster.shape[1] / 2, raster.shape[1], 0.0)  # the window lies on the raster's seam
    return row, col


def read_aligned(
    read: ReadBlock, n_bands: int, raster: Georeference, offset: tuple[int, int], size: int
) -> NDArray[np.float32]:
    """The window at a row and column of the raster itself, NaN outside."""
    values = np.full((n_bands, size, size), np.nan, "float32")
    (top, left), (height, width) = offset, raster.shape
    rows, cols = (max(top, 0), min(top + size, height)), (max(left, 0), min(left + size, width))
    if rows[0] < rows[1] and cols[0] < cols[1]:
        inside = (slice(None), slice(rows[0] - top, rows[1] - top), slice(cols[0] - left, cols[1] - left))
        values[inside] = read(*rows, *cols)
    return values


def _read_around(read: ReadBlock, raster: Georeference, rows: tuple[int, int], cols: tuple[int, int]) -> NDArray:
    """Rows within the raster and columns that may go once around the earth."""
    width = raster.geometry.width
    if not raster.is_round:
        return read(*rows, max(cols[0], 0), min(cols[1], width))
    if cols[1] - cols[0] >= width:
        return np.take(read(*rows, 0, width), np.arange(*cols) % width, axis=2)
    first = cols[0] % width
    stop = first + cols[1] - cols[0]
    if stop <= width:
        return read(*rows, first, stop)
    return np.concatenate([read(*rows, first, width), read(*rows, 0, stop - width)], axis=2)


def _sample(
    read: ReadBlock, n_bands: int, raster: Georeference, window: UtmWindow, bilinear: bool
) -> NDArray[np.float32]:
    row, col = positions(window, raster)
    values = np.full((n_bands, row.size), np.nan, "float32")
    height, width = raster.shape
    # past a seam columns count on beyond the width
    inside = ((row >= 0.0) & (row < height) & (col >= 0.0) & ((col < width) | raster.is_round)).ravel()
    if not inside.any():
        return values.reshape(n_bands, *window.shape)
    row, col = row.ravel()[inside], col.ravel()[inside]
    margin = 1 if bilinear else 0
    rows = max(int(row.min()) - margin, 0), min(int(row.max()) + 1 + margin, height)
    cols = int(col.min()) - margin, int(col.max()) + 1 + margin
    if not raster.is_round:
        cols = max(cols[0], 0), min(cols[1], width)
    block = _read_around(read, raster, rows, cols)
    sampled = (
        _bilinear(block, row - rows[0], col - cols[0]) if bilinear else _nearest(block, row - rows[0], col - cols[0])
    )
    values[:, inside] = sampled
    return values.reshape(n_bands, *window.shape)


def _nearest(block: NDArray, row: NDArray, col: NDArray) -> NDArray:
    width = block.shape[2]
    return block.reshape(len(block), -1).take(row.astype(np.intp) * width + col.astype(np.intp), axis=1)


def _bilinear(block: NDArray[np.float32], row: NDArray, col: NDArray) -> NDArray[np.float32]:
    """Weighted means of the four nearest pixels, or of those that have data; ``(band, point)``."""
    n_bands, _, width = block.shape
    own = row.astype(np.intp) * width + col.astype(np.intp)
    # beyond an edge the edge's own pixel stands in, which leaves the mean of those that there are
    block = np.pad(block, ((0, 0), (1, 1), (1, 1)), mode="edge")
    width += 2
    above, left = np.floor(row + 0.5), np.floor(col + 0.5)
    down, right = (row + 0.5 - above).astype("float32"), (col + 0.5 - left).astype("float32")
    corner = above.astype(np.intp) * width + left.astype(np.intp)

    def between(flat: NDArray[np.float32]) -> NDArray[np.float32]:
        upper, lower = flat.take(corner), flat[width:].take(corner)
        upper += (flat[1:].take(corner) - upper) * right
        lower += (flat[width + 1 :].take(corner) - lower) * right
        lower -= upper
        lower *= down
        return upper + lower

    values = np.empty((n_bands, row.size), "float32")
    for band, out in zip(block, values, strict=True):
        missing = np.isnan(band)
        if not missing.any():
            out[:] = between(band.ravel())
            continue
        weight = between((~missing).astype("float32").ravel())
        with np.errstate(invalid="ignore", divide="ignore"):
            out[:] = between(np.where(missing, np.float32(0), band).ravel()) / weight
        out[missing[1:-1, 1:-1].take(own)] = np.nan
    return values


def resample(
    read: ReadBlock, n_bands: int, raster: Georeference, window: UtmWindow, method: str
) -> NDArray[np.float32]:
    """A window's values, ``(band, y, x)``, by one of `RESAMPLINGS`; NaN outside and where there are no data.

    "bilinear" and "nearest" take what lies around the cells' centres, whatever their size; "average" is the mean of what
    lies in them, and the nearest where pixels are no smaller than cells.
    """
    if (offset := raster.offset_of(window)) is not None:
        return read_aligned(read, n_bands, raster, offset, window.size)
    if method != "average":
        return _sample(read, n_bands, raster, window, method == "bilinear")
    least = UtmWindow(window.epsg, window.west, window.north, window.resolution, max(window.size, 2))
    pixels = max(_steps(values) for values in positions(least, raster))
    if pixels <= 1.01:
        return _sample(read, n_bands, raster, window, False)
    parts = int(min(np.ceil(pixels - 0.01), MOST_PIXELS))
    if (offset := raster.offset_of(_finer(window, parts))) is not None:
        return _block_means(read_aligned(read, n_bands, raster, offset, window.size * parts), parts)
    # pixels that an edge cuts count by their share, to a half or better
    parts = int(np.clip(np.ceil(2 * pixels), 4, MOST_PIXELS))
    return _block_means(_sample(read, n_bands, raster, _finer(window, parts), False), parts)


def _finer(window: UtmWindow, parts: int) -> UtmWindow:
    return UtmWindow(window.epsg, window.west, window.north, window.resolution / parts, window.size * parts)


def _block_means(values: NDArray[np.float32], parts: int) -> NDArray[np.float32]:
    """Means over square blocks of what has data, ``(band, y, x)``."""
    n_bands, size = len(values), values.shape[1] // parts
    blocks = values.reshape(n_bands, size, parts, size, parts)
    number = np.isfinite(blocks).sum(axis=(2, 4))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.nansum(blocks, axis=(2, 4), dtype="float64") / number).astype("float32")


def _steps(values: NDArray) -> float:
    """Pixels from one cell to the next, along both axes together."""
    steps = [np.abs(np.diff(values, axis=axis)) for axis in (0, 1)]
    return float(max(np.median(step) for step in steps))
