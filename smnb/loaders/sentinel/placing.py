"""Where a scene's pixels fall on a target grid.

A pixel belongs to the cell that its centre falls in. Transforming every centre would cost far more than reading the
file, so that within a block the target's rows and columns are polynomials of the pixel's, through a few points that are
transformed exactly, and checked at others: a block where they are off by more than a millionth of a pixel is halved.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio import Affine

from smnb.contract import ParameterError, plain
from smnb.loaders.sentinel.grid import Target
from smnb.loaders.sentinel.rasters import Geometry, Scene

__all__: list[str] = []

#: Degree of the polynomials, and how far they may be off, in pixels.
_DEGREE, _TOLERANCE = 4, 1e-6
#: Blocks of no more pixels than this are transformed one by one, as are those thinner than a polynomial needs.
_SMALL = 256
#: Points along a side of the lattices from which extents are found.
_LATTICE = 65
#: Rows and columns, as shares of a scene's sides, of places all over it that are on no line or meridian together.
_PLACES = (0.11, 0.29, 0.53, 0.71, 0.93), (0.62, 0.17, 0.87, 0.41, 0.09)
#: Pixels that are computed at a time, few enough for BLAS not to start threads, which costs more than it saves.
_PIXELS_AT_A_TIME = 1 << 14
#: Row and column of a place that is not on the map: outside every grid.
_NOWHERE = -1e9


@lru_cache(maxsize=64)
def _nodes(size: int) -> NDArray[np.float64]:
    """Chebyshev's points of a block's side, first and last pixel included."""
    return (size - 1) / 2 * (1 - np.cos(np.pi * np.arange(_DEGREE + 1) / _DEGREE))


def _basis(size: int, at: NDArray) -> NDArray[np.float64]:
    """Lagrange's polynomials of `_nodes` at positions, ``(len(at), degree + 1)``."""
    nodes = _nodes(size)
    others = [np.delete(nodes, k) for k in range(nodes.size)]
    return np.stack(
        [np.prod((at[:, None] - rest) / (node - rest), axis=1) for node, rest in zip(nodes, others, strict=True)],
        axis=1,
    )


@lru_cache(maxsize=64)
def _pixel_basis(size: int) -> NDArray[np.float64]:
    return _basis(size, np.arange(size, dtype="float64"))


@dataclass(frozen=True)
class Placement:
    """The part of a scene's pixels, and of the target's cells, that may meet; stops are exclusive.

    Parameters
    ----------
    rows, cols : (int, int)
        Of the scene's pixels.
    cell_rows, cell_cols : (int, int)
        Of the target's cells.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    cell_rows: tuple[int, int]
    cell_cols: tuple[int, int]


class PixelMap:
    """Rows and columns of the target at a scene's pixels."""

    def __init__(self, geometry: Geometry, target: Target) -> None:
        self.geometry, self.target = geometry, target
        source, destination = CRS.from_wkt(geometry.crs), CRS.from_wkt(target.crs)
        same = source.equals(destination, ignore_axis_order=True)
        self._forward = None if same else Transformer.from_crs(source, destination, always_xy=True)
        self._wraps = source.is_geographic
        #: Cells that a pixel spans along the target's axes.
        self.step = self._cells_a_pixel()

    def _cells_a_pixel(self) -> float:
        """The larger of the target's rows and columns between neighbouring pixels, at the usual one of a few places."""
        height, width = self.geometry.height, self.geometry.width
        row, col = (np.array(places)[:, None] * size for places, size in zip(_PLACES, (height, width), strict=True))
        found = np.stack(self.at(row + np.array([0.0, 1.0, 0.0]), col + np.array([0.0, 0.0, 1.0])))
        steps = np.abs(found[..., 1:] - found[..., :1]).max(axis=(0, 2))
        return float(np.median(steps))  # the median, since the date line may run between two of them

    def at(self, row: NDArray, col: NDArray) -> tuple[NDArray, NDArray]:
        """Fractional row and column of the target at pixel centres, exactly; not finite where there is no such place."""
        row, col = np.broadcast_arrays(np.asarray(row, "float64") + 0.5, np.asarray(col, "float64") + 0.5)
        x, y = _xy(self.geometry, row, col)
        if self._forward is not None:
            x, y = self._forward.transform(x, y, errcheck=False)
        return self.target.fractional(np.asarray(x), np.asarray(y))

    def _wrapped(self, col: NDArray) -> NDArray:
        """Columns of the target within its first turn."""
        period = self.target.period
        return col if period is None else np.mod(col, period)

    def fill(self, first_row: int, first_col: int, row: NDArray, col: NDArray) -> None:
        """Write the target's fractional rows and columns at a block of pixels into `row` and `col`, both ``(h, w)``."""
        height, width = row.shape
        if min(height, width) <= _DEGREE or height * width <= _SMALL:
            exact = self.at(first_row + np.arange(height)[:, None], first_col + np.arange(width)[None, :])
            for values, out in zip((exact[0], self._wrapped(exact[1])), (row, col), strict=True):
                out[...] = np.where(np.isfinite(values), values, _NOWHERE)
            return
        nodes = self.at(first_row + _nodes(height)[:, None], first_col + _nodes(width)[None, :])
        if self._is_close(first_row, first_col, height, width, nodes):
            down, across = _pixel_basis(height), np.ascontiguousarray(_pixel_basis(width).T)
            for values, out in zip(nodes, (row, col), strict=True):
                left = down @ values
                rows = max(_PIXELS_AT_A_TIME // width, 1)
                for k in range(0, height, rows):
                    np.matmul(left[k : k + rows], across, out=out[k : k + rows])
            if (period := self.target.period) is not None:
                first, last = np.floor(np.array([nodes[1].min() - 1, nodes[1].max() + 1]) / period)
                # a block is rarely cut by the grid's seam, and a remainder for each pixel is slow
                if first == last:
                    col -= first * period
                else:
                    np.mod(col, period, out=col)
            return
        if height >= width:
            half = height // 2
            self.fill(first_row, first_col, row[:half], col[:half])
            self.fill(first_row + half, first_col, row[half:], col[half:])
        else:
            half = width // 2
            self.fill(first_row, first_col, row[:, :half], col[:, :half])
            self.fill(first_row, first_col + half, row[:, half:], col[:, half:])

    def _is_close(
        self, first_row: int, first_col: int, height: int, width: int, nodes: tuple[NDArray, NDArray]
    ) -> bool:
        """Whether the polynomials through the nodes are near enough at points between them."""
        if not all(np.isfinite(values).all() for values in nodes):
            return False
        rows, cols = (np.linspace(0.0, size - 1.0, 2 * _DEGREE) for size in (height, width))
        exact = self.at(first_row + rows[:, None], first_col + cols[None, :])
        down, across = _basis(height, rows), _basis(width, cols).T
        return all(
            bool(np.all(np.abs(down @ values @ across - true) <= _TOLERANCE * self.step))
            for values, true in zip(nodes, exact, strict=True)
        )

    def place(self) -> Placement | None:
        """The pixels and cells that may meet, or None where scene and target do not overlap."""
        geometry, target = self.geometry, self.target
        lattice = (np.linspace(0, geometry.height - 1, _LATTICE)[:, None], np.linspace(0, geometry.width - 1, _LATTICE))
        row, col = self.at(*lattice)
        cells = [_reach(values, size) for values, size in zip((row, self._wrapped(col)), target.shape, strict=True)]
        if None in cells:
            return None
        pixels = self._pixels_of(cells)
        return None if None in pixels else Placement(*pixels, *cells)

    def _pixels_of(self, cells: list[tuple[int, int]]) -> list[tuple[int, int] | None]:
        """The pixels that may fall into a rectangle of the target's cells."""
        geometry = self.geometry
        everything: list[tuple[int, int] | None] = [(0, geometry.height), (0, geometry.width)]
        if self._wraps:
            west, east = geometry.transform[2], geometry.transform[2] + geometry.transform[0] * geometry.width
            if min(west, east) < -180.0 or max(west, east) > 180.0:
                return everything  # a longitude that comes back from the target may be a turn away from the scene's
        x, y = self.target.xy(*(np.linspace(*edges, _LATTICE) for edges in cells))
        x, y = np.meshgrid(x, y)
        if self._forward is not None:
            x, y = self._forward.transform(x, y, direction="INVERSE", errcheck=False)
        back = ~Affine(*geometry.transform)
        row, col = back.d * x + back.e * y + back.f, back.a * x + back.b * y + back.c
        if not (np.isfinite(row).all() and np.isfinite(col).all()):
            return everything
        return [_reach(row, geometry.height), _reach(col, geometry.width)]


def edges_latlon(geometry: Geometry) -> tuple[NDArray, NDArray]:
    """Latitude and longitude of pixel centres along a raster's edges, degrees; those that are on the globe."""
    height, width = geometry.height, geometry.width
    rows, cols = np.linspace(0, height - 1, _LATTICE), np.linspace(0, width - 1, _LATTICE)
    row = np.r_[rows, rows, np.zeros(_LATTICE), np.full(_LATTICE, height - 1)] + 0.5
    col = np.r_[np.zeros(_LATTICE), np.full(_LATTICE, width - 1), cols, cols] + 0.5
    to_degrees = Transformer.from_crs(CRS.from_wkt(geometry.crs), CRS.from_epsg(4326), always_xy=True)
    lon, lat = to_degrees.transform(*_xy(geometry, row, col), errcheck=False)
    finite = np.isfinite(lon) & np.isfinite(lat)
    return np.asarray(lat)[finite], (np.asarray(lon)[finite] + 180.0) % 360.0 - 180.0


def _xy(geometry: Geometry, row: NDArray, col: NDArray) -> tuple[NDArray, NDArray]:
    """Map coordinates at rows and columns, counted from the raster's corner."""
    a, b, c, d, e, f = geometry.transform
    return a * col + b * row + c, d * col + e * row + f


def _reach(values: NDArray, size: int) -> tuple[int, int] | None:
    """The indices in ``0..size`` that values at a lattice's points reach, with a margin for what lies between them."""
    if not np.isfinite(values).all():
        return 0, size
    low, high = float(values.min()), float(values.max())
    margin = 2.0 + 0.01 * (high - low)
    if high < 0.0 or low >= size:
        return None
    return max(int(np.floor(low - margin)), 0), min(int(np.ceil(high + margin)) + 1, size)


def place_scene(who: str, scene: Scene, target: Target) -> Placement | None:
    """Where a scene and a target meet, or None where they do not.

    Raises
    ------
    ParameterError
        If the target's cells are finer than the scene's pixels.
    """
    pixel_map = PixelMap(scene.geometry, target)
    placement = pixel_map.place()
    if placement is not None and pixel_map.step > 1.001:
        raise ParameterError(
            who,
            f"the target's cells are finer than the pixels of {scene.name}, so that some would hold none",
            got=plain(f"{pixel_map.step:.3g} cells a pixel"),
            expected=plain("at most 1"),
            next_step="Choose a coarser grid",
        )
    return placement
