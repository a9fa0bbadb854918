"""The global cylindrical EASE-Grid 2.0 (EPSG:6933) of SMAP's products: 36, 9, 3 and 1 km, nested 1:4:12:36.

Every cell has the same area, so that a mean over cells is one over area. Row 0 is the northernmost, column 0 begins at
180° W, as in the products; `y` descends. The four grids cover exactly the same rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
import xarray as xr
from pyproj import CRS

from smnb.contract import ContractError, ParameterError, check_choice, plain

#: The upper left corner of the grids, m, and their north and south edges, degrees, as published.
_X0, _Y0, _LAT_LIMIT = -17367530.4451615, 7314540.8306386, 85.0445664
#: WGS 84, and the scale of the cylindrical equal-area projection that is true at 30°.
_SEMI_MAJOR_AXIS, _FLATTENING = 6378137.0, 1 / 298.257223563
_E2 = _FLATTENING * (2 - _FLATTENING)
_E = np.sqrt(_E2)
_K0 = np.cos(np.deg2rad(30.0)) / np.sqrt(1 - _E2 * np.sin(np.deg2rad(30.0)) ** 2)


def _authalic(lat: np.ndarray | float) -> Any:
    """q(phi) of the equal-area projections, of a latitude in radians."""
    sine = np.sin(lat)
    return (1 - _E2) * (sine / (1 - _E2 * sine**2) + np.arctanh(_E * sine) / _E)


_Q_POLE = float(_authalic(np.pi / 2))


def _pair(first: Any, second: Any) -> list[np.ndarray]:
    return list(np.broadcast_arrays(np.asarray(first, dtype="float64"), np.asarray(second, dtype="float64")))


def _xy_of_latlon(lat: Any, lon: Any) -> tuple[np.ndarray, np.ndarray]:
    """Map coordinates of points, m; agrees with PROJ's EPSG:6933 to 1e-8 m.

    Degrees, which broadcast, longitudes from -360 to 360 (180° E is the west edge of the map), to metres east of
    Greenwich and north of the equator. NaN gives NaN; a point off the globe, as fill values are, raises.
    """
    lat, lon = _pair(lat, lon)
    bad = np.flatnonzero((np.abs(lat) > 90.0) | (np.abs(lon) > 360.0))
    if bad.size:
        what, got = f"{bad.size} points are not on the globe", (float(lat.flat[bad[0]]), float(lon.flat[bad[0]]))
        fine = plain("lat in [-90, 90], lon in [-360, 360]")
        raise ParameterError("EaseGrid.xy", what, got=got, expected=fine, next_step="Mask fill values first")
    away = (lon < -180.0) | (lon >= 180.0)  # the others keep their last bit
    lon = np.where(away, lon - 360.0 * np.floor((lon + 180.0) / 360.0), lon) if away.any() else lon
    x = _SEMI_MAJOR_AXIS * _K0 * np.deg2rad(lon)
    return x, _SEMI_MAJOR_AXIS / (2 * _K0) * _authalic(np.deg2rad(lat))


def _latlon_of_xy(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude of map coordinates: the inverse of `xy`.

    Snyder's series (good to 2e-8 degrees) and one Newton step on it, after which the latitude is good to 1e-12 degrees
    and the way there and back to 1e-8 m. PROJ stops at the series: its latitudes differ from these by up to 1.5e-8
    degrees (1.6 mm). NaN gives NaN; a point off the map of the globe raises.
    """
    x, y = _pair(x, y)
    q = y * (2 * _K0 / _SEMI_MAJOR_AXIS)
    lon = np.rad2deg(x / (_SEMI_MAJOR_AXIS * _K0))
    # 1e-9: a point on the map's edge may be a rounding error beyond it
    bad = np.flatnonzero((np.abs(q) > _Q_POLE * (1 + 1e-12)) | (np.abs(lon) > 180.0 + 1e-9))
    if bad.size:
        what, got = f"{bad.size} points are off the map", (float(x.flat[bad[0]]), float(y.flat[bad[0]]))
        raise ParameterError("EaseGrid.from_xy", what, got=got, expected=plain("metres of EPSG:6933"))
    beta = np.arcsin(np.clip(q / _Q_POLE, -1.0, 1.0))
    e4, e6 = _E2**2, _E2**3
    lat = (
        beta
        + (_E2 / 3 + 31 * e4 / 180 + 517 * e6 / 5040) * np.sin(2 * beta)
        + (23 * e4 / 360 + 251 * e6 / 3780) * np.sin(4 * beta)
        + 761 * e6 / 45360 * np.sin(6 * beta)
    )
    # at a pole q is flat and the series exact: no step there
    slope = 2 * (1 - _E2) * np.cos(lat) / (1 - _E2 * np.sin(lat) ** 2) ** 2
    step = np.divide(q - _authalic(lat), slope, out=np.zeros_like(lat), where=np.abs(slope) > 1e-6)
    return np.rad2deg(lat + step), lon


@cache
def _cf_attrs() -> dict[str, Any]:
    """CF grid-mapping attributes of EPSG:6933, with the name that GDAL reads beside CF's."""
    attrs = CRS.from_epsg(6933).to_cf()
    return {**attrs, "spatial_ref": attrs["crs_wkt"]}


def check_indices(who: str, grid: EaseGrid, row: Any, col: Any) -> None:
    """Raise `ParameterError` unless rows and columns are integers within the grid."""
    for name, values, size in (("row", np.asarray(row), grid.n_rows), ("col", np.asarray(col), grid.n_cols)):
        if values.dtype.kind not in "iu":
            raise ParameterError(who, f"{name} indices are not integers", got=str(values.dtype))
        bad = values[(values < 0) | (values >= size)]
        if bad.size:
            what, next_step = f"{bad.size} {name} indices are outside {grid.name}", "Drop fill values, check the grid"
            raise ParameterError(who, what, got=int(bad[0]), expected=plain(f"0..{size - 1}"), next_step=next_step)


class EaseGrid(Enum):
    """The four nested global grids, also by the names `M36`, `M09`, `M03`, `M01`, as in the products' EASE2_M36km and so on.

    Indices, points, windows and regions that are not on the grid raise `ParameterError`.

    Attributes
    ----------
    subdivision : int
        Cells along a side of a 36 km cell.
    n_rows, n_cols, shape : int, int, (int, int)
    cell : float
        Side of a cell on the map, m.
    x, lon : numpy.ndarray, shape (n_cols,), read-only
        Centres of the columns, ascending, m and degrees.
    y, lat : numpy.ndarray, shape (n_rows,), read-only
        Centres of the rows, descending.

    References
    ----------
    Brodzik et al. (2012), doi:10.3390/ijgi1010032, with the correction doi:10.3390/ijgi3031154. Snyder (1987), USGS
    Professional Paper 1395, doi:10.3133/pp1395, for the projection.

    Examples
    --------
    >>> [(grid.name, grid.shape, round(grid.cell, 6)) for grid in EaseGrid]
    [('M36', (406, 964), 36032.220841), ('M09', (1624, 3856), 9008.05521),
     ('M03', (4872, 11568), 3002.68507), ('M01', (14616, 34704), 1000.895023)]
    """

    # subdivision and published cell size, m: indices are those of the published formula to the last bit
    M36 = 1, 36032.220840584
    M09 = 4, 9008.055210146
    M03 = 12, 3002.6850700487
    M01 = 36, 1000.89502334956

    def __init__(self, subdivision: int, published_cell: float) -> None:
        self.subdivision, self._published_cell = subdivision, published_cell
        self.n_rows, self.n_cols = self.shape = 406 * subdivision, 964 * subdivision
        # cells divide those of 36 km, so that nesting is exact and not a matter of the rounding of cell sizes
        self.cell = 36032.220840584 / subdivision
        self.x = (np.arange(self.n_cols) + 0.5 - self.n_cols / 2) * self.cell
        self.y = (self.n_rows / 2 - np.arange(self.n_rows) - 0.5) * self.cell
        self.lat, self.lon = _latlon_of_xy(0.0, self.y)[0], _latlon_of_xy(self.x, 0.0)[1]
        for centres in (self.x, self.y, self.lat, self.lon):
            centres.flags.writeable = False

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise ParameterError("EaseGrid", "no such grid", got=value, expected=list(cls.__members__))

    xy = staticmethod(_xy_of_latlon)
    from_xy = staticmethod(_latlon_of_xy)

    def rowcol(self, lat: Any, lon: Any, *, outside: str = "raise") -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the cell that holds each point, int64.

        Parameters
        ----------
        lat, lon : array-like
            Degrees, broadcast against each other. Longitudes may be in [-180, 180] or [0, 360].
        outside : {"raise", "mask"}
            Points beyond the grid's latitudes, off the globe, or NaN: raise `ContractError`, or give -1 and -1.

        Notes
        -----
        By the published formula with the published cell sizes. A finer grid's index divided by the nesting factor is the
        coarser grid's, but for a point that lies on an edge to the last bits: there the rounding of each grid's cell
        size decides.

        Examples
        --------
        >>> M36.rowcol([46.2, -34.85], [6.15, 146.1])
        (array([ 56, 319]), array([498, 873]))
        """
        who = "EaseGrid.rowcol"
        check_choice(who, "outside", outside, ("raise", "mask"))
        lat, lon = _pair(lat, lon)
        inside = (np.abs(lat) <= _LAT_LIMIT) & (np.abs(lon) <= 360.0)  # False for NaN
        bad = np.flatnonzero(~inside)
        if outside == "raise" and bad.size:
            what, got = f"{bad.size} points are outside the grid", (float(lat.flat[bad[0]]), float(lon.flat[bad[0]]))
            fine = plain(f"lat in [-{_LAT_LIMIT}, {_LAT_LIMIT}], lon in [-180, 180) or [0, 360)")
            raise ContractError(who, what, got=got, expected=fine, next_step='Pass outside="mask" to get -1 for them')
        x, y = self.xy(np.where(inside, lat, 0.0), np.where(inside, lon, 0.0))
        cell = self._published_cell
        # the outermost edge belongs to the outer cell
        row = np.clip(np.floor((_Y0 - y) / cell).astype("int64"), 0, self.n_rows - 1)
        col = np.clip(np.floor((x - _X0) / cell).astype("int64"), 0, self.n_cols - 1)
        return (np.where(inside, row, -1), np.where(inside, col, -1)) if bad.size else (row, col)

    def latlon(self, row: Any, col: Any) -> tuple[np.ndarray, np.ndarray]:
        """Centres of cells, degrees; row and column broadcast."""
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
        on_globe = np.isfinite(edges).all() and min(west, east) >= -180.0 and max(west, east) <= 180.0
        if not on_globe or south >= north or west == east:
            fine = plain("south < north and -180 <= west < east <= 180")
            what = "edges are not finite, out of order or off the globe"
            raise ParameterError(who, what, got=edges, expected=fine)
        if west > east:
            next_step = f"Take two windows, west={west} to east=180 and west=-180 to east={east}"
            raise ParameterError(who, "the region crosses the date line", got=(west, east), next_step=next_step)
        if south < -_LAT_LIMIT or north > _LAT_LIMIT:
            what = "the region reaches beyond the grid's latitudes"
            next_step = f"Cut it to south={max(south, -_LAT_LIMIT)}, north={min(north, _LAT_LIMIT)}"
            raise ParameterError(who, what, got=(south, north), next_step=next_step)
        rows = np.flatnonzero((self.lat >= south) & (self.lat <= north))
        cols = np.flatnonzero((self.lon >= west) & (self.lon <= east))
        if rows.size == 0 or cols.size == 0:
            what = f"no centre of an {self.name} cell is in the region"
            next_step = "Widen it, or take the cell of a point with window_of(*rowcol(lat, lon))"
            raise ParameterError(who, what, got=edges, next_step=next_step)
        return self.window_of(rows, cols)

    def window_of(self, row: Any, col: Any) -> EaseWindow:
        """The smallest window that holds these cells."""
        row, col = np.asarray(row), np.asarray(col)
        if row.size == 0 or col.size == 0:
            raise ParameterError("EaseGrid.window_of", "there are no indices", got=(row.shape, col.shape))
        check_indices("EaseGrid.window_of", self, row, col)
        return EaseWindow(self, int(row.min()), int(row.max()) + 1, int(col.min()), int(col.max()) + 1)

    def cells_across(self, coarser: EaseGrid, *, who: str = "EaseGrid.cells_across") -> int:
        """Cells of this grid along a side of a cell of a coarser one (1 for the grid itself)."""
        if not isinstance(coarser, EaseGrid):
            raise ParameterError(who, "target is no EaseGrid", got=type(coarser).__name__, expected=list(EASE_GRIDS))
        if coarser.subdivision > self.subdivision:
            known = [grid.name for grid in EaseGrid if grid.subdivision <= self.subdivision]
            raise ParameterError(who, "the target grid is finer than the source", got=coarser.name, expected=known)
        return self.subdivision // coarser.subdivision


@dataclass(frozen=True, repr=False)
class EaseWindow:
    """A rectangle of a grid's cells; stops are exclusive, as in slices. It is not empty and does not leave the grid.

    Examples
    --------
    >>> window = EaseWindow(M09, 344, 352, 880, 888)
    >>> window.shape, window.on(M36), window.grown(1)
    ((8, 8), EaseWindow(M36, rows 86:88, cols 220:222), EaseWindow(M09, rows 343:353, cols 879:889))
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
    def rows(self) -> slice:
        """Rows in the grid."""
        return slice(self.row_start, self.row_stop)

    @property
    def cols(self) -> slice:
        """Columns in the grid."""
        return slice(self.col_start, self.col_stop)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.row_stop - self.row_start, self.col_stop - self.col_start

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
        """Coordinates for an xarray constructor, with CF attributes.

        ``y`` and ``x`` (m) are the dimensions; ``lat`` and ``row`` lie along ``y``, ``lon`` and ``col`` along ``x``;
        the scalar ``crs`` is the CF grid mapping and names the grid in its attribute ``ease_grid``, as ``row`` and
        ``col`` do: a DataArray taken from a file that was read back may have lost its crs.
        """
        name = {"ease_grid": self.grid.name}
        coords = {"crs": ((), np.int32(0), {**_cf_attrs(), **name})}
        for axis, centres in (("y", self.y), ("x", self.x)):
            attrs = {"units": "m", "standard_name": f"projection_{axis}_coordinate", "axis": axis.upper()}
            coords[axis] = (axis, centres.copy(), {**attrs, "long_name": f"{axis} of cell centre"})
        for axis, key, word, centres in (("y", "lat", "latitude", self.lat), ("x", "lon", "longitude", self.lon)):
            attrs = {"units": "degrees_north" if key == "lat" else "degrees_east", "standard_name": word}
            coords[key] = (axis, centres.copy(), {**attrs, "long_name": f"{word} of cell centre"})
        for axis, key, word, part in (("y", "row", "row", self.rows), ("x", "col", "column", self.cols)):
            attrs = {"units": "1", "long_name": f"{word} of the global EASE-Grid 2.0, from 0", **name}
            coords[key] = (axis, np.arange(part.start, part.stop), attrs)
        return coords

    def covering(self, coarser: EaseGrid) -> EaseWindow:
        """The smallest window of a coarser grid that covers this one."""
        factor = self.grid.cells_across(coarser, who="EaseWindow.covering")
        rows, cols = (self.row_start // factor, -(-self.row_stop // factor)), (self.col_start, self.col_stop)
        return EaseWindow(coarser, *rows, cols[0] // factor, -(-cols[1] // factor))

    def on(self, grid: EaseGrid) -> EaseWindow:
        """The same area on another of the nested grids; a coarser one's cells must begin and end where this window does."""
        if grid.subdivision >= self.grid.subdivision:
            factor = grid.cells_across(self.grid)
            edges = (self.row_start, self.row_stop, self.col_start, self.col_stop)
            return EaseWindow(grid, *(edge * factor for edge in edges))
        covering = self.covering(grid)
        if (aligned := covering.on(self.grid)) != self:
            what = f"the window's edges are not edges of {grid.name} cells"
            next_step = f"Read that window, which is {covering} on the coarser grid"
            got, expected = plain(repr(self)), plain(repr(aligned))
            raise ParameterError("EaseWindow.on", what, got=got, expected=expected, next_step=next_step)
        return covering

    def grown(self, cells: int) -> EaseWindow:
        """The window with a rim of cells more on all four sides."""
        rows, cols = (self.row_start - cells, self.row_stop + cells), (self.col_start - cells, self.col_stop + cells)
        return EaseWindow(self.grid, *rows, *cols)

    def slices_of(self, inner: EaseWindow) -> tuple[slice, slice] | None:
        """Rows and columns of another window of the same grid within this one; None where it reaches out of it."""
        rows = slice(inner.row_start - self.row_start, inner.row_stop - self.row_start)
        cols = slice(inner.col_start - self.col_start, inner.col_stop - self.col_start)
        inside = rows.start >= 0 and cols.start >= 0 and rows.stop <= self.shape[0] and cols.stop <= self.shape[1]
        return (rows, cols) if inside and inner.grid == self.grid else None

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset | xr.DataArray) -> EaseWindow:
        """The window that a Dataset or DataArray with the coordinates of `coords` lies on; else `ContractError`."""
        who, next_step = "EaseWindow.from_dataset", "Build it with the coordinates of EaseWindow.coords()"
        variables = dataset.variables if isinstance(dataset, xr.Dataset) else dataset.coords
        named = [variables[key].attrs.get("ease_grid") for key in ("crs", "row") if key in variables]
        name = next(filter(None, [*named, dataset.attrs.get("ease_grid")]), None)
        if name not in EASE_GRIDS:
            what, known = "is on no known EASE-Grid", list(EASE_GRIDS)
            raise ContractError(who, what, got=name, expected=known, next_step=f"{next_step}, whose crs names the grid")
        grid = EASE_GRIDS[name]
        bounds: list[int] = []
        for key, dim, centres in (("row", "y", grid.y), ("col", "x", grid.x)):
            if key not in dataset.coords or dataset[key].dims != (dim,):
                what, got = f"no coordinate {key!r} along {dim!r}", sorted(map(str, dataset.coords))
                raise ContractError(who, what, got=got, next_step=next_step)
            index = dataset[key].values
            neighbours = index.size and (np.diff(index.astype("int64")) == 1).all()
            if not neighbours or index[0] < 0 or index[-1] >= centres.size:
                what, fine = f"{key!r} is not a run of neighbours of {name}", plain(f"0..{centres.size - 1}, step 1")
                raise ContractError(who, what, got=index[:4].tolist(), expected=fine, next_step="Select with slices")
            start, stop = int(index[0]), int(index[-1]) + 1
            if dim in dataset.coords and np.abs(dataset[dim].values - centres[start:stop]).max() > grid.cell / 100:
                what, got = f"{dim!r} and {key!r} name different places on {name}", float(dataset[dim].values[0])
                raise ContractError(who, what, got=(got, start), expected=(float(centres[start]), start))
            bounds += [start, stop]
        return cls(grid, *bounds)


M36, M09, M03, M01 = EaseGrid
EASE_GRIDS = {grid.name: grid for grid in EaseGrid}  # the four grids by name, coarsest first
