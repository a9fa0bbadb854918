"""The global cylindrical EASE-Grid 2.0 (EPSG:6933) of SMAP's products: 36, 9, 3 and 1 km, nested 1:4:12:36.

Every cell has the same area, so that a mean over cells is one over area. Row 0 is the northernmost, column 0 begins at
180° W, as in the products; `y` descends. The four grids cover exactly the same rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from smnb.contract import ParameterError, plain
from smnb.grids.ease_coordinates import LAT_LIMIT, cells_of, cf_coords, check_indices, check_region, find_cells
from smnb.grids.ease_projection import latlon_of_xy, xy_of_latlon

#: The 36 km grid. The others divide its cells, so that nesting is exact and not a matter of the rounding of cell sizes.
_M36_ROWS, _M36_COLS, _M36_CELL = 406, 964, 36032.220840584
_SUBDIVISIONS = {"M36": 1, "M09": 4, "M03": 12, "M01": 36}


def _frozen(values: np.ndarray) -> np.ndarray:
    values.flags.writeable = False  # they are kept and handed out many times
    return values


@dataclass(frozen=True)
class EaseGrid:
    """One of the four nested global grids; use `M36`, `M09`, `M03`, `M01`.

    Indices, points, windows and regions that are not on the grid raise `ParameterError`.

    Parameters
    ----------
    name : {"M36", "M09", "M03", "M01"}
        As in the products' EASE2_M36km and so on.
    subdivision : int
        Cells along a side of a 36 km cell: 1, 4, 12 or 36.

    References
    ----------
    Brodzik et al. (2012), doi:10.3390/ijgi1010032, with the correction doi:10.3390/ijgi3031154. Snyder (1987), USGS
    Professional Paper 1395, doi:10.3133/pp1395, for the projection.

    Examples
    --------
    >>> [(grid.name, grid.shape, round(grid.cell, 6)) for grid in EASE_GRIDS.values()]
    [('M36', (406, 964), 36032.220841), ('M09', (1624, 3856), 9008.05521),
     ('M03', (4872, 11568), 3002.68507), ('M01', (14616, 34704), 1000.895023)]
    >>> f"{M36.lat[0]:.9f} {M36.lon[0]:.11f}"
    '83.631975279 -179.81327800830'
    """

    name: str
    subdivision: int

    def __post_init__(self) -> None:
        if _SUBDIVISIONS.get(self.name) != self.subdivision:
            raise ParameterError("EaseGrid", "no such grid", got=self.name, expected=_SUBDIVISIONS)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return _M36_ROWS * self.subdivision

    @property
    def n_cols(self) -> int:
        """Number of columns."""
        return _M36_COLS * self.subdivision

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_rows, self.n_cols

    @property
    def cell(self) -> float:
        """Side of a cell on the map, m."""
        return _M36_CELL / self.subdivision

    @cached_property
    def x(self) -> np.ndarray:
        """Map coordinate of the columns' centres, m, ascending, ``(n_cols,)``."""
        return _frozen((np.arange(self.n_cols) + 0.5 - self.n_cols / 2) * self.cell)

    @cached_property
    def y(self) -> np.ndarray:
        """Map coordinate of the rows' centres, m, descending, ``(n_rows,)``."""
        return _frozen((self.n_rows / 2 - np.arange(self.n_rows) - 0.5) * self.cell)

    @cached_property
    def lat(self) -> np.ndarray:
        """Latitude of the rows' centres, degrees, descending, ``(n_rows,)``."""
        return _frozen(self.from_xy(0.0, self.y)[0])

    @cached_property
    def lon(self) -> np.ndarray:
        """Longitude of the columns' centres, degrees, ascending, ``(n_cols,)``."""
        return _frozen(self.from_xy(self.x, 0.0)[1])

    xy = staticmethod(xy_of_latlon)
    from_xy = staticmethod(latlon_of_xy)

    def rowcol(self, lat: Any, lon: Any, *, outside: str = "raise") -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the cell that holds each point.

        Parameters
        ----------
        lat, lon : array-like
            Degrees, broadcast against each other. Longitudes may be in [-180, 180] or [0, 360].
        outside : {"raise", "mask"}
            Points beyond the grid's latitudes, off the globe, or NaN: raise `ContractError`, or give -1 and -1.

        Returns
        -------
        row, col : numpy.ndarray of int64
            By the published formula with the published cell sizes. A finer grid's index divided by the nesting factor is
            the coarser grid's, but for a point that lies on an edge to the last bits: there the rounding of each grid's
            cell size decides.

        Examples
        --------
        >>> for grid in EASE_GRIDS.values():
        ...     row, col = grid.rowcol([46.2, -34.85], [6.15, 146.1])
        ...     print(grid.name, row, col)
        M36 [ 56 319] [498 873]
        M09 [ 224 1276] [1993 3492]
        M03 [ 674 3829] [ 5981 10478]
        M01 [ 2024 11487] [17944 31436]
        """
        return cells_of(self, lat, lon, outside=outside)

    def latlon(self, row: Any, col: Any) -> tuple[np.ndarray, np.ndarray]:
        """Centres of cells, degrees; row and column broadcast.

        Examples
        --------
        >>> lat, lon = M36.latlon(0, 0)
        >>> f"{lat:.9f} {lon:.11f}"
        '83.631975279 -179.81327800830'
        """
        check_indices("EaseGrid.latlon", self, row, col)
        row, col = np.broadcast_arrays(np.asarray(row), np.asarray(col))
        return self.lat[row], self.lon[col]

    @property
    def everything(self) -> EaseWindow:
        """The window of all cells."""
        return EaseWindow(self, 0, self.n_rows, 0, self.n_cols)

    def window(self, *, south: float, north: float, west: float, east: float) -> EaseWindow:
        """The window of all cells whose centre is inside a region, whose edges are in degrees, longitudes in [-180, 180].

        Examples
        --------
        >>> M09.window(south=30.0, north=40.0, west=-105.0, east=-95.0)
        EaseWindow(M09, rows 289:406, cols 803:910)
        """
        who, edges = "EaseGrid.window", (south, north, west, east)
        check_region(who, *edges, limit=LAT_LIMIT)
        rows = np.flatnonzero((self.lat >= south) & (self.lat <= north))
        cols = np.flatnonzero((self.lon >= west) & (self.lon <= east))
        if rows.size == 0 or cols.size == 0:
            next_step = "Widen it, or take the cell of a point with window_of(*rowcol(lat, lon))"
            raise ParameterError(
                who, f"no centre of an {self.name} cell is in the region", got=edges, next_step=next_step
            )
        return EaseWindow(self, int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)

    def window_of(self, row: Any, col: Any) -> EaseWindow:
        """The smallest window that holds these cells."""
        row, col = np.asarray(row), np.asarray(col)
        if row.size == 0 or col.size == 0:
            raise ParameterError("EaseGrid.window_of", "there are no indices", got=(row.shape, col.shape))
        check_indices("EaseGrid.window_of", self, row, col)
        return EaseWindow(self, int(row.min()), int(row.max()) + 1, int(col.min()), int(col.max()) + 1)

    def cells_across(self, coarser: EaseGrid, *, who: str = "EaseGrid.cells_across") -> int:
        """Cells of this grid along a side of a cell of a coarser one (1 for the grid itself).

        Examples
        --------
        >>> M03.cells_across(M36), M01.cells_across(M09)
        (12, 9)
        """
        if not isinstance(coarser, EaseGrid):
            raise ParameterError(who, "target is no EaseGrid", got=type(coarser).__name__, expected=list(EASE_GRIDS))
        if coarser.subdivision > self.subdivision:
            known = [name for name, n in _SUBDIVISIONS.items() if n <= self.subdivision]
            raise ParameterError(who, "the target grid is finer than the source", got=coarser.name, expected=known)
        return self.subdivision // coarser.subdivision


@dataclass(frozen=True, repr=False)
class EaseWindow:
    """A rectangle of a grid's cells; stops are exclusive, as in slices. It is not empty and does not leave the grid.

    Examples
    --------
    >>> window = EaseWindow(M09, 344, 352, 880, 888)
    >>> window.shape, window.on(M36), window.on(M03).shape
    ((8, 8), EaseWindow(M36, rows 86:88, cols 220:222), (24, 24))
    """

    grid: EaseGrid
    row_start: int
    row_stop: int
    col_start: int
    col_stop: int

    def __post_init__(self) -> None:
        rows_fit = 0 <= self.row_start < self.row_stop <= self.grid.n_rows
        if not (rows_fit and 0 <= self.col_start < self.col_stop <= self.grid.n_cols):
            fine = plain(f"rows in 0:{self.grid.n_rows}, cols in 0:{self.grid.n_cols}")
            raise ParameterError("EaseWindow", "is empty or leaves its grid", got=plain(repr(self)), expected=fine)

    def __repr__(self) -> str:
        rows, cols = f"{self.row_start}:{self.row_stop}", f"{self.col_start}:{self.col_stop}"
        return f"EaseWindow({self.grid.name}, rows {rows}, cols {cols})"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.row_stop - self.row_start, self.col_stop - self.col_start

    @property
    def rows(self) -> slice:
        """Rows in the grid."""
        return slice(self.row_start, self.row_stop)

    @property
    def cols(self) -> slice:
        """Columns in the grid."""
        return slice(self.col_start, self.col_stop)

    @property
    def x(self) -> np.ndarray:
        """Map coordinate of the columns' centres, m, ascending."""
        return self.grid.x[self.cols]

    @property
    def y(self) -> np.ndarray:
        """Map coordinate of the rows' centres, m, descending."""
        return self.grid.y[self.rows]

    @property
    def lat(self) -> np.ndarray:
        """Latitude of the rows' centres, degrees, descending."""
        return self.grid.lat[self.rows]

    @property
    def lon(self) -> np.ndarray:
        """Longitude of the columns' centres, degrees, ascending."""
        return self.grid.lon[self.cols]

    def coords(self) -> dict[str, tuple[Any, ...]]:
        """Coordinates for an xarray constructor.

        ``y`` and ``x`` (m) are the dimensions; ``lat`` and ``row`` lie along ``y``, ``lon`` and ``col`` along ``x``;
        the scalar ``crs`` is the CF grid mapping and names the grid in its attribute ``ease_grid``.

        Examples
        --------
        >>> import xarray as xr
        >>> window = M36.window(south=35.0, north=36.0, west=-98.0, east=-97.0)
        >>> field = xr.DataArray(np.zeros(window.shape), window.coords(), ("y", "x"))
        >>> field["row"].values, field["col"].values, field["crs"].attrs["grid_mapping_name"]
        (array([84, 85]), array([220, 221]), 'lambert_cylindrical_equal_area')
        """
        return cf_coords(self)

    def covering(self, coarser: EaseGrid) -> EaseWindow:
        """The smallest window of a coarser grid that covers this one."""
        factor = self.grid.cells_across(coarser, who="EaseWindow.covering")
        rows, cols = (self.row_start // factor, -(-self.row_stop // factor)), (self.col_start, self.col_stop)
        return EaseWindow(coarser, *rows, cols[0] // factor, -(-cols[1] // factor))

    def on(self, grid: EaseGrid) -> EaseWindow:
        """The same area on another of the nested grids; a coarser one's cells must begin and end where this window does."""
        edges = (self.row_start, self.row_stop, self.col_start, self.col_stop)
        if grid.subdivision >= self.grid.subdivision:
            factor = grid.cells_across(self.grid)
            return EaseWindow(grid, *(edge * factor for edge in edges))
        covering = self.covering(grid)
        aligned = covering.on(self.grid)
        if aligned != self:
            what = f"the window's edges are not edges of {grid.name} cells"
            next_step = f"Read that window, which is {covering} on the coarser grid"
            got, expected = plain(repr(self)), plain(repr(aligned))
            raise ParameterError("EaseWindow.on", what, got=got, expected=expected, next_step=next_step)
        return covering

    def grown(self, cells: int) -> EaseWindow:
        """The window with a rim of cells more on all four sides.

        Examples
        --------
        >>> EaseWindow(M09, 344, 352, 880, 888).grown(1)
        EaseWindow(M09, rows 343:353, cols 879:889)
        """
        rows, cols = (self.row_start - cells, self.row_stop + cells), (self.col_start - cells, self.col_stop + cells)
        return EaseWindow(self.grid, *rows, *cols)

    def slices_of(self, inner: EaseWindow) -> tuple[slice, slice] | None:
        """Rows and columns of another window of the same grid within this one; None where it reaches out of it.

        Examples
        --------
        >>> EaseWindow(M09, 344, 352, 880, 888).slices_of(EaseWindow(M09, 345, 352, 880, 884))
        (slice(1, 8, None), slice(0, 4, None))
        """
        rows = slice(inner.row_start - self.row_start, inner.row_stop - self.row_start)
        cols = slice(inner.col_start - self.col_start, inner.col_stop - self.col_start)
        inside = rows.start >= 0 and cols.start >= 0 and rows.stop <= self.shape[0] and cols.stop <= self.shape[1]
        return (rows, cols) if inside and inner.grid == self.grid else None

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset | xr.DataArray) -> EaseWindow:
        """The window that a Dataset or DataArray with the coordinates of `coords` lies on."""
        grid, bounds = find_cells("EaseWindow.from_dataset", dataset, EASE_GRIDS)
        return cls(grid, *bounds)


M36 = EaseGrid("M36", 1)
M09 = EaseGrid("M09", 4)
M03 = EaseGrid("M03", 12)
M01 = EaseGrid("M01", 36)
#: The four grids by name, coarsest first.
EASE_GRIDS = {grid.name: grid for grid in (M36, M09, M03, M01)}
