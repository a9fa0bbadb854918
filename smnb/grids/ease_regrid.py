"""Between nested EASE-Grids: means over the cells within a coarser one, and values for the cells within a finer one."""

from __future__ import annotations

from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from smnb.contract import ContractError, ParameterError, plain
from smnb.grids.ease import EaseGrid, EaseWindow
from smnb.grids.separable import interpolator, linear_weights, map_images, without_coords_along

#: How `ease_refine` can fill finer cells.
REFINE_METHODS = ("nearest", "bilinear")


def _check_quantity(who: str, array: xr.DataArray) -> None:
    """Raise unless the values can be averaged: numbers or truth values, and no coded flags."""
    if array.dtype.kind not in "fiub":
        raise ContractError(who, "values are no numbers", got=str(array.dtype))
    flags = {"flag_meanings", "flag_values", "flag_masks"} & set(array.attrs)
    if array.dtype.kind in "iu" and flags:
        raise ContractError(
            who,
            "a flag or class is no quantity to average",
            got=array.name,
            next_step='Average a condition such as (flag & 1) == 0, or refine with method="nearest"',
        )


def _block_mean(values: np.ndarray, weights: np.ndarray | None, *, factor: int, min_valid: float) -> np.ndarray:
    """Means of ``factor x factor`` blocks of the last two axes over valid cells, weighted, in float64."""
    if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ContractError(
            "ease_block_mean", "weights are not finite and >= 0", next_step="Give cells that do not count the weight 0"
        )

    def blocks(cells: np.ndarray) -> np.ndarray:
        *lead, rows, cols = cells.shape
        # rows first: adding whole rows is what numpy does fastest
        strips = cells.reshape(*lead, rows // factor, factor, cols).sum(axis=-2, dtype="float64")
        return strips.reshape(*lead, rows // factor, cols // factor, factor).sum(axis=-1)

    valid = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    filled = np.where(valid, values, 0) if values.dtype.kind == "f" else values
    if weights is None:
        total, weight, full = blocks(filled), blocks(valid), float(factor * factor)
    else:
        total, weight, full = blocks(filled * weights), blocks(valid * weights), blocks(weights)
    # 1e-9: sums of weights carry rounding errors, and a share of exactly min_valid is enough
    enough = (weight > 0) & (weight >= min_valid * full * (1 - 1e-9))
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=enough)


def _in_blocks(values: Any, weights: Any = None, *, factor: int, min_valid: float, dtype: np.dtype) -> Any:
    """`_block_mean` of numpy arrays, or of dask arrays chunk by chunk."""

    def mean(cells: np.ndarray, cell_weights: np.ndarray | None = None) -> np.ndarray:
        return _block_mean(cells, cell_weights, factor=factor, min_valid=min_valid).astype(dtype)

    arrays = [values] if weights is None else [values, weights]
    if all(isinstance(array, np.ndarray) for array in arrays):
        return mean(*arrays)
    # every chunk holds whole blocks, and the weights are chunked like the values
    *lead, rows, cols = da.asarray(values).chunks
    chunks = (*lead, _whole_blocks(rows, factor), _whole_blocks(cols, factor))
    arrays = [
        da.asarray(a).rechunk({a.ndim - k: chunks[-k] for k in range(1, a.ndim + 1) if a.shape[-k] == sum(chunks[-k])})
        for a in arrays
    ]
    out = tuple(tuple(size // factor for size in sizes) for sizes in chunks[-2:])
    return da.map_blocks(mean, *arrays, dtype=dtype, chunks=(*lead, *out))


def _whole_blocks(sizes: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """Chunk sizes near `sizes` that are multiples of `factor`."""
    edges = np.unique(np.append(np.cumsum(sizes)[:-1] // factor * factor, sum(sizes)))
    return tuple(int(size) for size in np.diff(edges, prepend=0) if size)


def _matching(who: str, weights: xr.DataArray, array: xr.DataArray, window: EaseWindow) -> xr.DataArray:
    """The weights, once they lie where the array lies."""
    there = EaseWindow.from_dataset(weights)
    if there != window or not set(weights.dims) <= set(array.dims):
        raise ContractError(
            who,
            "weights lie on another window or have dims of their own",
            got=plain(f"{there} {weights.dims}"),
            expected=plain(f"{window} {array.dims}"),
        )
    try:
        xr.align(array, weights, join="exact")
    except ValueError as error:
        raise ContractError(
            who,
            "coordinates of the weights are not those of the array",
            got=plain(str(error).splitlines()[0]),
            next_step="Select the weights at the array's coordinates",
        ) from error
    return without_coords_along(weights, ("y", "x")).rename(y="_y", x="_x")


def ease_block_mean(
    array: xr.DataArray, target: EaseGrid, *, min_valid: float = 0.5, weights: xr.DataArray | None = None
) -> xr.DataArray:
    """Average the cells within each cell of a coarser nested grid.

    Cells have equal area, so that the plain mean over valid cells is the mean over valid area.

    Parameters
    ----------
    array : xarray.DataArray
        Dims ``y``, ``x`` and any others, with the coordinates of `EaseWindow.coords`; missing is NaN. Lazy arrays stay
        lazy, a chunk at a time. Truth values give fractions.
    target : EaseGrid
        The coarser grid (or the same).
    min_valid : float
        Least valid share of a cell's area (with `weights`, of its weight), in (0, 1]; below it the mean is NaN.
    weights : xarray.DataArray, optional
        Weights of the cells, ``y`` and ``x`` (and any other dims of `array`), >= 0: for example the fraction of land.

    Returns
    -------
    xarray.DataArray
        Same dims, order, name, dtype (integers and truth values become float32) and attributes; the coordinates are
        those of the coarser window.

    Raises
    ------
    ParameterError
        If `target` is finer, the window does not consist of whole target cells, or `min_valid` is out of range.
    ContractError
        If coordinates are missing, values are flags or no numbers, or `weights` lie elsewhere or are negative.

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
    if isinstance(min_valid, bool) or not 0.0 < min_valid <= 1.0:
        raise ParameterError(who, "min_valid is out of range", got=min_valid, expected=plain("(0, 1]"))
    window = EaseWindow.from_dataset(array)
    factor = window.grid.cells_across(target, who=who)
    coarse = window.on(target)
    _check_quantity(who, array)
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype("float32")
    arrays = [without_coords_along(array, ("y", "x")).rename(y="_y", x="_x")]
    if weights is not None:
        arrays.append(_matching(who, weights, array, window))
    result = xr.apply_ufunc(
        partial(_in_blocks, factor=factor, min_valid=min_valid, dtype=dtype),
        *arrays,
        input_core_dims=[["_y", "_x"]] * len(arrays),
        output_core_dims=[["y", "x"]],
        dask="allowed",
        join="exact",
    )
    return _on(result, coarse, array)


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

    Raises
    ------
    ParameterError
        If `target` is coarser or `method` is unknown.
    ContractError
        If coordinates are missing, or flags are to be interpolated.

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
    if method not in REFINE_METHODS:
        raise ParameterError(who, "unknown method", got=method, expected=list(REFINE_METHODS))
    window = EaseWindow.from_dataset(array)
    if not isinstance(target, EaseGrid) or target.subdivision < window.grid.subdivision:
        raise ParameterError(
            who,
            "target is no finer grid",
            got=getattr(target, "name", target),
            expected=plain(f"{window.grid.name} or finer"),
            next_step="Average to a coarser grid with ease_block_mean",
        )
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
