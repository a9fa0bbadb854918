"""Target grids: where a point of the map falls, in rows and columns, whatever the grid's kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio import Affine

from smnb.contract import ParameterError, plain
from smnb.grids import EASE_GRIDS, EaseGrid, EaseWindow, RegularGrid


@dataclass(frozen=True)
class ProjectedGrid:
    """A north-up grid of square cells in a projected reference system.

    Parameters
    ----------
    crs : str
        What pyproj understands, such as "EPSG:32614".
    west, north : float
        Outer edges of the first column and row, in the system's unit (m).
    cell : float
        Side of a cell, in the same unit.
    n_rows, n_cols : int
        Size.

    Raises
    ------
    ParameterError
        If the system is unknown or geographic, or a size or position is not valid.

    Examples
    --------
    >>> grid = ProjectedGrid.covering("EPSG:32614", west=600_250.0, south=3_999_500.0, east=602_000.0,
    ...                               north=4_002_000.0, cell=1000.0)
    >>> grid.shape, grid.x.tolist(), grid.y.tolist()
    ((3, 2), [600500.0, 601500.0], [4001500.0, 4000500.0, 3999500.0])
    """

    crs: str
    west: float
    north: float
    cell: float
    n_rows: int
    n_cols: int

    def __post_init__(self) -> None:
        try:
            crs = CRS.from_user_input(self.crs)
        except CRSError as error:
            raise ParameterError("ProjectedGrid", "unknown 'crs'", got=self.crs, expected="EPSG:32614") from error
        if not crs.is_projected:
            raise ParameterError(
                "ProjectedGrid",
                "'crs' is not projected",
                got=self.crs,
                next_step="Use smnb.grids.RegularGrid for a grid in latitude and longitude",
            )
        if not (np.isfinite([self.west, self.north, self.cell]).all() and self.cell > 0):
            raise ParameterError(
                "ProjectedGrid",
                "position or cell size is not valid",
                got=(self.west, self.north, self.cell),
                expected=plain("finite edges and a cell > 0"),
            )
        if self.n_rows < 1 or self.n_cols < 1:
            raise ParameterError("ProjectedGrid", "has no cell", got=(self.n_rows, self.n_cols))

    @classmethod
    def covering(cls, crs: str, *, west: float, south: float, east: float, north: float, cell: float) -> ProjectedGrid:
        """The grid that covers a box, with edges at multiples of the cell size.

        Raises
        ------
        ParameterError
            If the box is empty, or as the class.
        """
        box = (west, south, east, north)
        if not (np.isfinite(box).all() and west < east and south < north and cell > 0):
            raise ParameterError(
                "ProjectedGrid.covering",
                "the box or the cell size is not valid",
                got=(*box, cell),
                expected=plain("west < east, south < north, cell > 0"),
            )
        first_col, last_col = np.floor(west / cell), np.ceil(east / cell)
        first_row, last_row = np.floor(south / cell), np.ceil(north / cell)
        return cls(
            crs,
            float(first_col * cell),
            float(last_row * cell),
            float(cell),
            int(last_row - first_row),
            int(last_col - first_col),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_rows, self.n_cols

    @cached_property
    def x(self) -> NDArray[np.float64]:
        """Map coordinate of the columns' centres, ascending."""
        return self.west + (np.arange(self.n_cols) + 0.5) * self.cell

    @cached_property
    def y(self) -> NDArray[np.float64]:
        """Map coordinate of the rows' centres, descending."""
        return self.north - (np.arange(self.n_rows) + 0.5) * self.cell

    def coords(self) -> dict[str, tuple[Any, ...]]:
        """Coordinates ``y``, ``x`` and the CF grid mapping ``crs``, for an xarray constructor."""
        crs = CRS.from_user_input(self.crs)
        unit = crs.axis_info[0].unit_name
        units = {"units": "m" if unit == "metre" else unit}
        axes = {
            name: (name, values, {**units, "standard_name": f"projection_{name}_coordinate", "axis": name.upper()})
            for name, values in (("y", self.y), ("x", self.x))
        }
        cf = crs.to_cf()
        return {**axes, "crs": ((), np.int32(0), {**cf, "spatial_ref": cf["crs_wkt"]})}


@dataclass(frozen=True)
class Target:
    """A target grid of any kind as an affine map of its own reference system.

    Parameters
    ----------
    crs : str
        Reference system.
    transform : Affine
        From column and row, counted from the first cell's outer corner; rows may run north.
    shape : (int, int)
        Rows and columns.
    dims : (str, str)
        Their names.
    coords : dict
        For an xarray constructor.
    """

    crs: str
    transform: Affine
    shape: tuple[int, int]
    dims: tuple[str, str]
    coords: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)


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


def target_of(who: str, grid: EaseWindow | RegularGrid | ProjectedGrid) -> Target:
    """Describe a grid as a `Target`.

    Raises
    ------
    ParameterError
        If it is of no known kind.
    """
    if isinstance(grid, EaseWindow):
        cell, ease = grid.grid.cell, grid.grid
        west, north = (grid.col_start - ease.n_cols / 2) * cell, (ease.n_rows / 2 - grid.row_start) * cell
        return Target("EPSG:6933", Affine(cell, 0, west, 0, -cell, north), grid.shape, ("y", "x"), grid.coords())
    if isinstance(grid, RegularGrid):
        step = grid.resolution
        transform = Affine(step, 0, grid.west, 0, step, grid.south)
        return Target("EPSG:4326", transform, grid.shape, ("lat", "lon"), grid.coords())
    if isinstance(grid, ProjectedGrid):
        transform = Affine(grid.cell, 0, grid.west, 0, -grid.cell, grid.north)
        return Target(grid.crs, transform, grid.shape, ("y", "x"), grid.coords())
    raise ParameterError(
        who,
        "unknown 'grid'",
        got=grid if isinstance(grid, str) else type(grid).__name__,
        expected=[*EASE_GRIDS, "EaseGrid", "EaseWindow", "RegularGrid", "ProjectedGrid"],
    )


def ease_window_around(who: str, grid: EaseGrid, lat: NDArray, lon: NDArray) -> EaseWindow:
    """The smallest window of an EASE-Grid that holds all points of scenes' footprints.

    Raises
    ------
    ParameterError
        If the points lie on both sides of the date line, or off the grid.
    """
    row, col = grid.rowcol(lat, lon, outside="mask")
    inside = row >= 0
    if not inside.any():
        raise ParameterError(who, f"the scenes are off the {grid.name} grid", got=(float(lat.min()), float(lat.max())))
    if np.ptp(col[inside]) > grid.n_cols / 2:
        raise ParameterError(
            who,
            "the scenes lie on both sides of the date line, so that no window holds them all",
            got=(float(lon.min()), float(lon.max())),
            next_step="Open each side onto a window of its own: grid=M01.window(south=…, north=…, west=…, east=…)",
        )
    return grid.window_of(row[inside], col[inside])
