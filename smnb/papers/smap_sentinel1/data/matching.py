"""The products of one place: on which grids they lie, what goes with a scene in time, and where patches are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from smnb.contract import ContractError, ParameterError
from smnb.grids import M01, M09, EaseGrid, EaseWindow
from smnb.papers.smen.sequences import match_nearest_in_time

#: 1 km cells along a side of a 9 km cell.
FACTOR = M01.cells_across(M09)
#: The active-passive product and the truth are made for the scene itself; their times are those of its parts.
_SAME_SCENE = np.timedelta64(1, "h")


@dataclass(frozen=True)
class SceneProducts:
    """The products over one place.

    Parameters
    ----------
    name, title : str
    sigma0 : DataArray, dims (time, polarization, y, x)
        dB on the 1 km grid; its window and times are the place's.
    passive : Dataset
        On 9 km cells that cover the place and should reach a cell beyond: ``tb(time, channel, y, x)`` K,
        ``soil_moisture(time, y, x)`` and ``observation_time(time, y, x)``.
    baseline : DataArray, dims (time, y, x), optional
        Another product's soil moisture at 1 km, for comparison.
    truth : DataArray, dims (time, y, x), optional
        Of a simulation.
    """

    name: str
    title: str
    sigma0: xr.DataArray
    passive: xr.Dataset
    baseline: xr.DataArray | None = None
    truth: xr.DataArray | None = None


def parse_span(who: str, text: str) -> np.timedelta64:
    """Parse the window in time of the 9 km product."""
    try:
        return pd.Timedelta(text).to_timedelta64()
    except ValueError as error:
        raise ParameterError(who, "'passive_window' is no duration", got=text, expected="12h") from error


def window_on(who: str, array: xr.DataArray | xr.Dataset, grid: EaseGrid, what: str) -> EaseWindow:
    """The window of an array that must lie on a grid."""
    window = EaseWindow.from_dataset(array)
    if window.grid != grid:
        raise ContractError(
            who,
            f"{what} is on another grid",
            got=window.grid.name,
            expected=grid.name,
            next_step=f"Open it on {grid.name}",
        )
    return window


def cut_of(window: EaseWindow, outer: EaseWindow) -> tuple[slice, slice]:
    """Rows and columns of a window within another of the same grid that holds it."""
    rows = slice(window.row_start - outer.row_start, window.row_stop - outer.row_start)
    return rows, slice(window.col_start - outer.col_start, window.col_stop - outer.col_start)


def labelled(who: str, array: xr.DataArray, dim: str, labels: Sequence[str]) -> xr.DataArray:
    """An array at some labels of a dimension, in their order, as (time, dim, y, x)."""
    missing = [label for label in labels if dim not in array.dims or label not in array[dim].values]
    if missing:
        got = array[dim].values.tolist() if dim in array.dims else array.dims
        raise ContractError(who, f"{array.name!r} lacks {dim} {missing}", got=got, expected=list(labels))
    return array.sel({dim: list(labels)}).transpose("time", dim, "y", "x")


def tiles(window: EaseWindow, size: int) -> list[EaseWindow]:
    """Squares of `size` side by side within a window; none where it is smaller.

    A rest of half a square or more is covered by one that is shifted inwards, a smaller one is left around the squares.
    """
    starts = []
    for first, extent in zip((window.row_start, window.col_start), window.shape, strict=True):
        whole, rest = divmod(extent, size)
        if whole == 0:
            return []
        before = 0 if 2 * rest >= size else rest // 2
        shifted = [first + extent - size] if 2 * rest >= size else []
        starts.append([*(first + before + size * i for i in range(whole)), *shifted])
    return [EaseWindow(window.grid, r, r + size, c, c + size) for r in starts[0] for c in starts[1]]


def overpass_times(who: str, passive: xr.Dataset) -> np.ndarray:
    """Mean time of each day's overpass over the window; NaT on days without."""
    if "observation_time" not in passive:
        raise ContractError(
            who,
            "the 9 km product has no observation_time",
            got=sorted(map(str, passive.data_vars)),
            next_step="Open it with 'observation_time' among its variables",
        )
    times = passive["observation_time"].transpose("time", "y", "x").values.astype("datetime64[ns]")
    result = np.full(times.shape[0], np.datetime64("NaT", "ns"))
    for i, day in enumerate(times.reshape(times.shape[0], -1)):
        there = day[~np.isnat(day)]
        if there.size:
            result[i] = there[0] + (there - there[0]).mean()
    return result


def matched(
    who: str, array: xr.DataArray | None, window: EaseWindow, wanted: np.ndarray, what: str
) -> np.ndarray | None:
    """A 1 km product at the scenes' times, (scene, row, col)."""
    if array is None:
        return None
    there = window_on(who, array, M01, what)
    if there != window:
        raise ContractError(who, f"{what} lies elsewhere than the backscatter", got=there, expected=window)
    times = array["time"].values.astype("datetime64[ns]")
    return match_nearest_in_time(array.transpose("time", "y", "x").values, times, wanted, _SAME_SCENE)


def whole_cells(product: np.ndarray, nine: EaseWindow, tile: EaseWindow) -> tuple[np.ndarray, tuple[int, int]]:
    """The product on the whole 9 km cells within a patch, padded with NaN to as many as a patch can hold; and the offset."""
    offset = (-tile.row_start % FACTOR, -tile.col_start % FACTOR)
    result = np.full(tuple(extent // FACTOR for extent in tile.shape), np.nan, dtype="float32")
    rows, cols = ((extent - start) // FACTOR for extent, start in zip(tile.shape, offset, strict=True))
    row = (tile.row_start + offset[0]) // FACTOR - nine.row_start
    col = (tile.col_start + offset[1]) // FACTOR - nine.col_start
    result[:rows, :cols] = product[row : row + rows, col : col + cols]
    return result, offset
