"""Coordinates of a rectangle of EASE-Grid cells by the CF conventions, and the rectangle that coordinates tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from smnb.contract import ContractError, plain
from smnb.grids.ease_projection import cf_attrs

if TYPE_CHECKING:
    from smnb.grids.ease import EaseGrid, EaseWindow

__all__: list[str] = []


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
    """The grid that coordinates of `cf_coords` are on, and the first and stop row and column.

    Raises
    ------
    ContractError
        If coordinates are missing, with gaps, out of order, or not where the grid's cells are.
    """
    variables = dataset.variables if isinstance(dataset, xr.Dataset) else dataset.coords
    named = [variables[key].attrs.get("ease_grid") for key in ("crs", "row") if key in variables]
    name = next(filter(None, [*named, dataset.attrs.get("ease_grid")]), None)
    if name not in grids:
        raise ContractError(
            who,
            "is on no known EASE-Grid",
            got=name,
            expected=list(grids),
            next_step="Build it with the coordinates of EaseWindow.coords(), whose crs names the grid",
        )
    grid = grids[name]
    bounds: list[int] = []
    for index_name, dim, centres in (("row", "y", grid.y), ("col", "x", grid.x)):
        if index_name not in dataset.coords or dataset[index_name].dims != (dim,):
            raise ContractError(
                who,
                f"no coordinate {index_name!r} along {dim!r}",
                got=sorted(map(str, dataset.coords)),
                next_step="Build it with the coordinates of EaseWindow.coords()",
            )
        index = dataset[index_name].values
        steps = np.diff(index.astype("int64"))
        if index.size == 0 or (steps != 1).any() or index[0] < 0 or index[-1] >= centres.size:
            raise ContractError(
                who,
                f"{index_name!r} is not a run of neighbours of {name}",
                got=index[:4].tolist(),
                expected=plain(f"consecutive indices in 0..{centres.size - 1}"),
                next_step="Select with slices of step 1",
            )
        start, stop = int(index[0]), int(index[-1]) + 1
        if dim in dataset.coords and np.abs(dataset[dim].values - centres[start:stop]).max() > grid.cell / 100:
            raise ContractError(
                who,
                f"{dim!r} and {index_name!r} name different places on {name}",
                got=(float(dataset[dim].values[0]), start),
                expected=(float(centres[start]), start),
            )
        bounds += [start, stop]
    return grid, bounds
