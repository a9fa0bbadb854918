"""Cells of points, coordinates of cells by the CF conventions, and the rectangle of cells that coordinates tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from smnb.contract import ContractError, ParameterError, check_choice, plain
from smnb.grids.ease_projection import cf_attrs, float_pair

if TYPE_CHECKING:
    from smnb.grids.ease import EaseGrid, EaseWindow


#: The upper left corner and the cell sizes, m, as published: indices are those of the published formula to the last bit.
_X0, _Y0 = -17367530.4451615, 7314540.8306386
_PUBLISHED_CELLS = {"M36": 36032.220840584, "M09": 9008.055210146, "M03": 3002.6850700487, "M01": 1000.89502334956}
#: North and south edges of the grids, degrees, as published.
LAT_LIMIT = 85.0445664


def cells_of(grid: EaseGrid, lat: Any, lon: Any, *, outside: str) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the cell that holds each point, as `EaseGrid.rowcol` describes them."""
    who = "EaseGrid.rowcol"
    check_choice(who, "outside", outside, ("raise", "mask"))
    lat, lon = float_pair(lat, lon)
    inside = (np.abs(lat) <= LAT_LIMIT) & (np.abs(lon) <= 360.0)  # False for NaN
    if outside == "raise" and not inside.all():
        bad = np.flatnonzero(~inside)[0]
        what, got = f"{int((~inside).sum())} points are outside the grid", (float(lat.flat[bad]), float(lon.flat[bad]))
        fine = plain(f"lat in [-{LAT_LIMIT}, {LAT_LIMIT}], lon in [-180, 180) or [0, 360)")
        raise ContractError(who, what, got=got, expected=fine, next_step='Pass outside="mask" to get -1 for them')
    x, y = grid.xy(np.where(inside, lat, 0.0), np.where(inside, lon, 0.0))
    cell = _PUBLISHED_CELLS[grid.name]
    # the outermost edge belongs to the outer cell
    row = np.clip(np.floor((_Y0 - y) / cell).astype("int64"), 0, grid.n_rows - 1)
    col = np.clip(np.floor((x - _X0) / cell).astype("int64"), 0, grid.n_cols - 1)
    return (row, col) if inside.all() else (np.where(inside, row, -1), np.where(inside, col, -1))


def cf_coords(window: EaseWindow) -> dict[str, tuple[Any, ...]]:
    """Coordinates for an xarray constructor, as `EaseWindow.coords` describes them."""
    metres = {"units": "m", "standard_name": "projection_{}_coordinate", "long_name": "{} of cell centre"}
    x, y = ({k: v.format(axis) for k, v in metres.items()} | {"axis": axis.upper()} for axis in ("x", "y"))
    lat = {"units": "degrees_north", "standard_name": "latitude", "long_name": "latitude of cell centre"}
    lon = {"units": "degrees_east", "standard_name": "longitude", "long_name": "longitude of cell centre"}
    # row and col name the grid too: a DataArray taken from a file that was read back may have lost its crs
    row, col = (
        {"units": "1", "long_name": f"{word} of the global EASE-Grid 2.0, from 0", "ease_grid": window.grid.name}
        for word in ("row", "column")
    )
    return {
        "y": ("y", window.y.copy(), y),
        "x": ("x", window.x.copy(), x),
        "lat": ("y", window.lat.copy(), lat),
        "lon": ("x", window.lon.copy(), lon),
        "row": ("y", np.arange(window.row_start, window.row_stop), row),
        "col": ("x", np.arange(window.col_start, window.col_stop), col),
        "crs": ((), np.int32(0), {**cf_attrs(), "ease_grid": window.grid.name}),
    }


def find_cells(
    who: str, dataset: xr.Dataset | xr.DataArray, grids: Mapping[str, EaseGrid]
) -> tuple[EaseGrid, list[int]]:
    """The grid that coordinates of `cf_coords` are on, and the first and stop row and column."""
    variables = dataset.variables if isinstance(dataset, xr.Dataset) else dataset.coords
    named = [variables[key].attrs.get("ease_grid") for key in ("crs", "row") if key in variables]
    name = next(filter(None, [*named, dataset.attrs.get("ease_grid")]), None)
    if name not in grids:
        next_step = "Build it with the coordinates of EaseWindow.coords(), whose crs names the grid"
        raise ContractError(who, "is on no known EASE-Grid", got=name, expected=list(grids), next_step=next_step)
    grid = grids[name]
    bounds: list[int] = []
    for index_name, dim, centres in (("row", "y", grid.y), ("col", "x", grid.x)):
        if index_name not in dataset.coords or dataset[index_name].dims != (dim,):
            what, got = f"no coordinate {index_name!r} along {dim!r}", sorted(map(str, dataset.coords))
            raise ContractError(who, what, got=got, next_step="Build it with the coordinates of EaseWindow.coords()")
        index = dataset[index_name].values
        steps = np.diff(index.astype("int64"))
        if index.size == 0 or (steps != 1).any() or index[0] < 0 or index[-1] >= centres.size:
            what, fine = (
                f"{index_name!r} is not a run of neighbours of {name}",
                plain(f"indices in 0..{centres.size - 1}"),
            )
            next_step = "Select with slices of step 1"
            raise ContractError(who, what, got=index[:4].tolist(), expected=fine, next_step=next_step)
        start, stop = int(index[0]), int(index[-1]) + 1
        if dim in dataset.coords and np.abs(dataset[dim].values - centres[start:stop]).max() > grid.cell / 100:
            what, got = f"{dim!r} and {index_name!r} name different places on {name}", float(dataset[dim].values[0])
            raise ContractError(who, what, got=(got, start), expected=(float(centres[start]), start))
        bounds += [start, stop]
    return grid, bounds


def check_indices(who: str, grid: EaseGrid, row: Any, col: Any) -> None:
    """Raise `ParameterError` unless rows and columns are integers within the grid."""
    for name, values, size in (("row", np.asarray(row), grid.n_rows), ("col", np.asarray(col), grid.n_cols)):
        if values.dtype.kind not in "iu":
            raise ParameterError(who, f"{name} indices are not integers", got=str(values.dtype))
        bad = (values < 0) | (values >= size)
        if bad.any():
            what, got = f"{int(bad.sum())} {name} indices are outside {grid.name}", int(values[bad].ravel()[0])
            next_step = "Drop fill values first, and check which grid it is"
            raise ParameterError(who, what, got=got, expected=plain(f"0..{size - 1}"), next_step=next_step)


def check_region(who: str, south: float, north: float, west: float, east: float, *, limit: float) -> None:
    """Raise `ParameterError` unless the edges (degrees) bound a region within the grid's latitudes, west of the date line."""
    edges = (south, north, west, east)
    if not np.isfinite(edges).all():
        raise ParameterError(who, "edges are not finite", got=edges)
    if south >= north or west == east or min(west, east) < -180.0 or max(west, east) > 180.0:
        fine = plain("south < north and -180 <= west < east <= 180")
        raise ParameterError(who, "edges are out of order or off the globe", got=edges, expected=fine)
    if west > east:
        next_step = f"Take two windows, west={west} to east=180 and west=-180 to east={east}"
        raise ParameterError(who, "the region crosses the date line", got=(west, east), next_step=next_step)
    if south < -limit or north > limit:
        next_step = f"Cut it to south={max(south, -limit)}, north={min(north, limit)}"
        what = "the region reaches beyond the grid's latitudes"
        raise ParameterError(who, what, got=(south, north), next_step=next_step)
