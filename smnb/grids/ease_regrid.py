"""Between nested EASE-Grids: means over the cells within a coarser one, and values for the cells within a finer one."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from smnb.contract import ContractError, ParameterError, check_choice, check_range
from smnb.grids.ease import EaseGrid, EaseWindow
from smnb.grids.separable import interpolator, linear_weights, map_images, without_coords_along


def _check_quantity(who: str, array: xr.DataArray) -> None:
    """Raise unless the values can be averaged: numbers or truth values, and no coded flags."""
    if array.dtype.kind not in "fiub":
        raise ContractError(who, "values are no numbers", got=str(array.dtype))
    flags = {"flag_meanings", "flag_values", "flag_masks"} & set(array.attrs)
    if array.dtype.kind in "iu" and flags:
        next_step = 'Average a condition such as (flag & 1) == 0, or refine with method="nearest"'
        raise ContractError(who, "a flag or class is no quantity to average", got=array.name, next_step=next_step)


def ease_block_mean(array: xr.DataArray, target: EaseGrid, *, min_valid: float = 0.5) -> xr.DataArray:
    """Average the cells within each cell of a coarser nested grid.

    Cells have equal area, so that the plain mean over valid cells is the mean over valid area. The window must consist of
    whole target cells; flags and classes are refused.

    Parameters
    ----------
    array : xarray.DataArray
        Dims ``y``, ``x`` and any others, with the coordinates of `EaseWindow.coords`; missing is NaN. Lazy arrays stay
        lazy, a chunk at a time. Truth values give fractions.
    target : EaseGrid
        The coarser grid (or the same).
    min_valid : float
        Least valid share of a cell's area, in (0, 1]; below it the mean is NaN.

    Returns
    -------
    xarray.DataArray
        Same dims, order, name, dtype (integers and truth values become float32) and attributes; the coordinates are
        those of the coarser window.

    Examples
    --------
    >>> from smnb.grids import M09, M36
    >>> window = EaseWindow(M09, 344, 348, 880, 884)
    >>> field = xr.DataArray(np.arange(16.0).reshape(4, 4), window.coords(), ("y", "x"))
    >>> mean = ease_block_mean(field, M36)
    >>> mean.item(), mean["row"].item(), mean["col"].item()
    (7.5, 86, 220)
    """
    who = "ease_block_mean"
    check_range(who, "min_valid", min_valid, 0, 1, ends="(]")
    window = EaseWindow.from_dataset(array)
    factor = window.grid.cells_across(target, who=who)
    coarse = window.on(target)
    _check_quantity(who, array)
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype("float32")
    cells = without_coords_along(array, ("y", "x"))
    valid = cells.notnull().coarsen(y=factor, x=factor).sum()
    total = cells.fillna(0).astype("float64").coarsen(y=factor, x=factor).sum()
    mean = (total / valid).where(valid >= min_valid * factor**2 - 1e-9)
    return _on(mean.astype(dtype), coarse, array)


def ease_refine(array: xr.DataArray, target: EaseGrid, *, method: str = "nearest") -> xr.DataArray:
    """Give every cell of a finer nested grid a value.

    Parameters
    ----------
    array : xarray.DataArray
        Dims ``y``, ``x`` and any others, with the coordinates of `EaseWindow.coords`; missing is NaN. Lazy arrays stay
        lazy.
    target : EaseGrid
        The finer grid (or the same).
    method : {"nearest", "bilinear"}
        "nearest": a finer cell has the value of the cell that holds it, flags and classes too. "bilinear": between the
        centres of cells on the map, which keeps no cell's mean; missing neighbours share their weight among the valid
        ones, and what lies in a missing cell stays missing, so that both methods cover the same area. At the window's
        edge the outer centre's value is kept; a window of all columns is periodic.

    Returns
    -------
    xarray.DataArray
        Same dims, order, name, attributes and dtype ("bilinear": integers become float32); the coordinates are those
        of the finer window.

    Examples
    --------
    >>> from smnb.grids import M09, M36
    >>> window = EaseWindow(M36, 86, 87, 220, 222)
    >>> field = xr.DataArray([[0.0, 4.0]], window.coords(), ("y", "x"))
    >>> ease_refine(field, M09)[0].values
    array([0., 0., 0., 0., 4., 4., 4., 4.])
    >>> ease_refine(field, M09, method="bilinear")[0].values
    array([0. , 0. , 0.5, 1.5, 2.5, 3.5, 4. , 4. ])
    """
    who = "ease_refine"
    check_choice(who, "method", method, ("nearest", "bilinear"))
    window = EaseWindow.from_dataset(array)
    if not isinstance(target, EaseGrid) or target.subdivision < window.grid.subdivision:
        got, next_step = getattr(target, "name", target), "Average to a coarser grid with ease_block_mean"
        raise ParameterError(who, "target is no finer grid", got=got, next_step=next_step)
    factor = target.cells_across(window.grid)
    rows, cols = (np.repeat(np.arange(size), factor) for size in window.shape)
    bare = without_coords_along(array, ("y", "x"))
    if method == "nearest":
        return _on(bare.isel(y=rows, x=cols), window.on(target), array)
    _check_quantity(who, array)
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype("float32")
    over_rows = _axis_weights(window.shape[0], factor, periodic=False)
    over_cols = _axis_weights(window.shape[1], factor, periodic=window.shape[1] == window.grid.n_cols)
    # any valid neighbour is enough where the cell itself is valid; its own weight is never below 1/4
    image = interpolator(over_rows, over_cols, dtype, min_valid_weight=0.2)
    result = map_images(array, image, ("y", "x"), window.on(target).shape, dtype)
    return _on(result.where(bare.notnull().isel(y=rows, x=cols)), window.on(target), array)


def _axis_weights(size: int, factor: int, *, periodic: bool) -> Any:
    """Weights of linear interpolation from `size` centres to ``size * factor``, in units of the coarser cell."""
    positions, index = np.arange(size, dtype="float64"), np.arange(size)
    target = (np.arange(size * factor) + 0.5) / factor - 0.5
    if periodic:
        positions, index = np.r_[-1.0, positions, float(size)], np.r_[size - 1, index, 0]
    return linear_weights(positions, index, target, np.ones(target.size, bool))


def _on(result: xr.DataArray, window: EaseWindow, source: xr.DataArray) -> xr.DataArray:
    """`result` with the coordinates of `window`, and the name, order of dims and attributes of `source`."""
    result = result.drop_vars("crs", errors="ignore").assign_coords(window.coords())
    result = result.transpose(*source.dims).rename(source.name)
    result.attrs = dict(source.attrs)
    return result
