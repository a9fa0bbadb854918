"""Where the cells of a granule that lists them (level 2, point lists) lie in a window of the grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import CatalogError, FormatError, ParameterError, plain
from smnb.grids import EaseGrid, EaseWindow
from smnb.loaders.smap.flags import FLAG_FILL
from smnb.loaders.smap.granules import Granule
from smnb.loaders.smap.reading import Cells, Piece, Pieces, Role, build
from smnb.loaders.smap.selection import Selection

__all__: list[str] = []

#: Cells of a window that is not worth building: 50 million, 200 MB of float32 each field and time.
_MOST_CELLS = 50_000_000


@dataclass(frozen=True)
class CellList:
    """Rows and columns of a granule's cells, in the order of its fields, and those in the region."""

    shape: tuple[int, ...]
    take: NDArray[np.intp]
    """Places in the flattened fields of the cells in the region."""
    row: NDArray[np.int32]
    col: NDArray[np.int32]
    without_index: int
    """Cells whose index is a fill value."""

    def place(self, window: EaseWindow) -> Cells:
        """Where to read them, and where to put them in `window`."""
        put = (self.row.astype("int64") - window.row_start) * window.shape[1] + (self.col - window.col_start)
        if self.take.size == 0:
            return Cells(window.shape, tuple(slice(0, 0) for _ in self.shape), None, put)
        along = np.unravel_index(self.take, self.shape)
        within = tuple(slice(int(index.min()), int(index.max()) + 1) for index in along)
        inner = tuple(part.stop - part.start for part in within)
        take = np.ravel_multi_index([index - part.start for index, part in zip(along, within, strict=True)], inner)
        everything = take.size == np.prod(inner) and np.array_equal(take, np.arange(take.size))
        return Cells(window.shape, within, None if everything else take, put)


def list_cells(where: str, grid: EaseGrid, row: NDArray, col: NDArray, region: EaseWindow | None) -> CellList:
    """The cells of a granule that lie in a region.

    Raises
    ------
    FormatError
        If rows and columns are no integers of one shape, leave the grid, or name a cell twice.
    """
    if row.shape != col.shape or row.dtype.kind not in "iu" or col.dtype.kind not in "iu":
        raise FormatError(
            where,
            "EASE_row_index and EASE_column_index are no integers of one shape",
            got=(row.shape, str(row.dtype), col.shape, str(col.dtype)),
        )
    good = (row != FLAG_FILL) & (col != FLAG_FILL)
    try:
        grid.check_indices(where, row[good], col[good])
    except ParameterError as error:
        raise FormatError(
            where,
            f"EASE-Grid indices are outside {grid.name}: {error.what}",
            got=error.got,
            expected=error.expected,
            next_step="Check that the granule is of this product and resolution, and download it again",
        ) from error
    flat = row.astype("int64") * grid.n_cols + col
    ordered = np.sort(flat[good])
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if twice.size:
        raise FormatError(
            where,
            f"{np.unique(twice).size} cells occur twice in the granule",
            got=plain(f"row {twice[0] // grid.n_cols}, column {twice[0] % grid.n_cols}"),
            expected="each cell once",
        )
    inside = good
    if region is not None:
        inside = good & (row >= region.row_start) & (row < region.row_stop)
        inside &= (col >= region.col_start) & (col < region.col_stop)
    take = np.flatnonzero(inside)
    return CellList(
        row.shape, take, row.ravel()[take].astype("int32"), col.ravel()[take].astype("int32"), int((~good).sum())
    )


def window_of(who: str, grid: EaseGrid, lists: Sequence[CellList], region: EaseWindow | None) -> EaseWindow:
    """The region's window, or else the smallest that holds all cells.

    Raises
    ------
    CatalogError
        If no granule has a cell, in the region or at all.
    ParameterError
        If the window is too large for arrays.
    """
    if not any(cells.take.size for cells in lists):
        raise CatalogError(
            who,
            "no granule has a cell in the region" if region else "the granules hold no cell",
            got=plain(f"{len(lists)} granules, {region}"),
            next_step="Check the region, or open other granules",
        )
    if region is None:
        ends = [(c.row.min(), c.row.max(), c.col.min(), c.col.max()) for c in lists if c.take.size]
        top, bottom, left, right = zip(*ends, strict=True)
        region = grid.window_of(np.array([min(top), max(bottom)]), np.array([min(left), max(right)]))
    if region.shape[0] * region.shape[1] > _MOST_CELLS:
        raise ParameterError(
            who,
            "the window that holds all cells is too large",
            got=region,
            expected=f"<= {_MOST_CELLS} cells",
            next_step="Pass a smaller region, or fewer granules",
        )
    return region


def read_indices(where: str, group: h5py.Group, names: Sequence[str]) -> tuple[NDArray, NDArray]:
    """The two index fields of a granule's group.

    Raises
    ------
    FormatError
        If one is missing.
    """
    absent = [name for name in names if name not in group]
    if absent:
        raise FormatError(where, f"fields {absent} are missing", got=sorted(group))
    return group[names[0]][()], group[names[1]][()]


@dataclass(frozen=True)
class Listed:
    """A granule that was searched: its lists of cells, of which all but point lists have one, and its fields' names."""

    granule: Granule
    group: str
    lists: tuple[CellList, ...]
    roles: dict[Role, str]

    @property
    def n_cells(self) -> int:
        """Cells in the region."""
        return sum(cells.take.size for cells in self.lists)


def build_cells(
    selection: Selection,
    grid: EaseGrid,
    region: EaseWindow | None,
    listed: Sequence[Listed],
    *,
    keep_empty: bool = False,
) -> xr.Dataset:
    """The lazy Dataset of granules that list their cells, one time a granule.

    Parameters
    ----------
    selection : Selection
        What was found in all granules.
    grid : EaseGrid
        Of the product.
    region : EaseWindow, optional
        Where; default the smallest window of all cells.
    listed : sequence of Listed
        The granules in order of time, all with as many lists.
    keep_empty : bool
        Whether a granule without a cell in the region stays, as a time of NaN.

    Returns
    -------
    xarray.Dataset
        With ``time``, the coordinate ``granule``, a dimension ``overpass`` where granules have several lists, and the
        attributes ``granules_without_cells`` (JSON) and ``cells_without_index``.
    """
    window = window_of(selection.who, grid, [cells for item in listed for cells in item.lists], region)
    kept = [item for item in listed if keep_empty or item.n_cells]
    pieces = np.empty((len(kept), len(kept[0].lists)), dtype=object)
    for i, item in enumerate(kept):
        for k, cells in enumerate(item.lists):
            pieces[i, k] = Piece(item.granule.path, item.group, item.roles, cells.place(window), item.granule.stat)
    lead: tuple[str, ...] = ("time", "overpass")
    if pieces.shape[1] == 1:
        pieces, lead = pieces[:, 0], ("time",)
    dataset = build(
        Pieces(selection.who, window, pieces, lead, selection.tests),
        selection.present(),
        selection.catalogue,
        selection.family,
    )
    empty = [item.granule.path.name for item in listed if not item.n_cells]
    dataset.attrs = {
        **selection.attrs([item.granule for item in kept]),
        "granules_without_cells": json.dumps(empty),
        "cells_without_index": sum(cells.without_index for item in listed for cells in item.lists),
    }
    return dataset.assign_coords(
        time=("time", np.array([item.granule.start for item in kept]), {"standard_name": "time"}),
        granule=("time", [item.granule.path.name for item in kept], {"long_name": "granule"}),
    )
