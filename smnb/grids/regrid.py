"""Bringing fields to other grids and times: bilinear and nearest interpolation, block means of nested EASE cells.

Interpolation is separable: two cells and a weight an axis. Missing values are handled by sending the validity mask through
the same weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from smnb.contract import ContractError, ParameterError, check_choice, check_range, plain
from smnb.grids.ease import EaseGrid, EaseWindow
from smnb.grids.regular import RegularGrid, lat_lon_coords

#: Of the cells along one axis, by target: the one before, the one after, and the weight of the latter.
_Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def _pairs(centres: np.ndarray, target: np.ndarray, *, period: float | None = None) -> _Pairs:
    """The cells between whose ascending centres each target lies; beyond the outer centres the outer cell alone."""
    index = np.arange(centres.size)
    if period is not None:
        centres = np.r_[centres[-1] - period, centres, centres[0] + period]
        index = np.r_[index[-1], index, index[0]]
    after = np.clip(np.searchsorted(centres, target, side="right"), 1, max(centres.size - 1, 1))
    before, after = after - 1, np.minimum(after, centres.size - 1)
    step = np.where(after > before, centres[after] - centres[before], np.inf)
    return index[before], index[after], np.clip((target - centres[before]) / step, 0.0, 1.0)


def _interpolated(array: xr.DataArray, axes: dict[str, _Pairs], min_weight: float) -> xr.DataArray:
    """`array` between its cells along two dims, bare of the coordinates there; integers become float32, lazy stays lazy.

    Missing cells share their weight among the valid ones; where these have less than `min_weight` together it is NaN.
    """
    if array.chunks is not None:
        array = array.chunk(dict.fromkeys(axes, -1))
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype("float32")
    array = _bare(array, *axes)
    valid = array.notnull()
    total, weight = array.fillna(0).astype(dtype), valid.astype(dtype)
    for dim, (before, after, share) in axes.items():
        shares = [xr.DataArray(one.astype(dtype), dims=dim) for one in (1.0 - share, share)]
        total, weight = (
            one.isel({dim: before}) * shares[0] + one.isel({dim: after}) * shares[1] for one in (total, weight)
        )
    weight = weight.where(~valid.all(list(axes)), 1)  # where all is valid the weights add to 1 but for rounding
    return (total / weight.where(weight >= min_weight - 1e-6)).astype(dtype)


def _bare(array: xr.DataArray, *dims: str) -> xr.DataArray:
    """`array` without the coordinates along `dims`, which a change of grid makes wrong."""
    return array.drop_vars([name for name, coord in array.coords.items() if set(dims) & set(coord.dims)])


def _like(result: xr.DataArray, source: xr.DataArray, coords: dict[str, Any]) -> xr.DataArray:
    """`result` with these coordinates, and the name, order of dims and attributes of `source`."""
    result = result.drop_vars("crs", errors="ignore").assign_coords(coords)
    return result.transpose(*source.dims).rename(source.name).assign_attrs(source.attrs)


def regrid_bilinear(array: xr.DataArray, target: RegularGrid | tuple[Any, Any]) -> xr.DataArray:
    """Interpolate bilinearly between cell centres; missing sources share their weight among the valid ones.

    Parameters
    ----------
    array : xarray.DataArray
        Dims ``lat`` and ``lon`` (ascending) and any others; lazy arrays stay lazy. Longitudes that go round the globe
        are periodic.
    target : RegularGrid or (lat, lon)
        Target cell centres. Beyond the outermost source centres, and to the poles, the outer value is kept as far as
        the outer source cell reaches; further out is NaN. So is a target whose valid sources have less than half of the
        bilinear weights.

    Returns
    -------
    xarray.DataArray
        Same dims, order, dtype (integers become float32) and attributes.
    """
    who = "regrid_bilinear"
    try:
        wanted = (target.lat, target.lon) if isinstance(target, RegularGrid) else target
        lat, lon = (np.atleast_1d(np.asarray(axis, dtype="float64")) for axis in wanted)
    except (TypeError, ValueError) as error:
        what = "target is neither a RegularGrid nor (lat, lon)"
        raise ParameterError(who, what, got=type(target).__name__) from error
    axes, covered = {}, []
    for name, wanted in (("lat", lat), ("lon", lon)):
        if wanted.ndim != 1 or not np.isfinite(wanted).all():
            raise ParameterError(who, f"target {name!r} is no finite vector", got=wanted.shape)
        if name not in array.dims or name not in array.coords:
            raise ContractError(who, f"no dimension {name!r} with coordinates", got=array.dims, expected=("lat", "lon"))
        centres = np.asarray(array[name].values, dtype="float64")
        if centres.size == 0 or not np.isfinite(centres).all() or (np.diff(centres) <= 0).any():
            next_step = "Pass it through contract.orient_lat_lon"
            raise ContractError(who, f"source {name!r} is empty or not ascending", next_step=next_step)
        axes[name], reached = _latitudes(centres, wanted) if name == "lat" else _longitudes(centres, wanted)
        if not reached.any():
            what, got = f"source and target do not overlap in {name}", f"source {centres[0]:g}..{centres[-1]:g}"
            fine = plain(f"an overlap with {wanted.min():g}..{wanted.max():g}")
            next_step = "Choose another region, or open the files that cover it"
            raise ContractError(who, what, got=got, expected=fine, next_step=next_step)
        covered.append(xr.DataArray(reached, dims=name))
    result = _interpolated(array, axes, 0.5).where(covered[0] & covered[1])
    return _like(result, array, lat_lon_coords(lat, lon))


def _latitudes(centres: np.ndarray, target: np.ndarray) -> tuple[_Pairs, np.ndarray]:
    """Pairs, and which targets lie within the outer cells; a source within a step of a pole covers the pole."""
    steps = np.diff(centres) if centres.size > 1 else np.zeros(1)
    low = -90.0 if centres[0] - steps[0] <= -90.0 else centres[0] - steps[0] / 2
    high = 90.0 if centres[-1] + steps[-1] >= 90.0 else centres[-1] + steps[-1] / 2
    return _pairs(centres, target), (target >= low - 1e-9) & (target <= high + 1e-9)


def _longitudes(centres: np.ndarray, target: np.ndarray) -> tuple[_Pairs, np.ndarray]:
    """As `_latitudes`, with targets moved by whole turns to the source, and all round the globe if the source goes round."""
    steps = np.diff(centres) if centres.size > 1 else np.zeros(1)
    # the gap over the date line is like any other
    periodic = centres.size > 1 and centres[0] + 360.0 - centres[-1] <= 1.5 * float(np.median(steps))
    start = centres[0] if periodic else (centres[0] + centres[-1]) / 2 - 180.0
    target = start + np.mod(target - start, 360.0)
    inside = (target >= centres[0] - steps[0] / 2 - 1e-9) & (target <= centres[-1] + steps[-1] / 2 + 1e-9)
    return _pairs(centres, target, period=360.0 if periodic else None), inside | periodic


def _check_quantity(who: str, array: xr.DataArray) -> None:
    """Raise unless the values can be averaged: numbers or truth values, and no coded flags."""
    if array.dtype.kind not in "fiub":
        raise ContractError(who, "values are no numbers", got=str(array.dtype))
    if array.dtype.kind in "iu" and {"flag_meanings", "flag_values", "flag_masks"} & set(array.attrs):
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
    cells = _bare(array, "y", "x")
    valid = cells.notnull().coarsen(y=factor, x=factor).sum()
    total = cells.fillna(0).astype("float64").coarsen(y=factor, x=factor).sum()
    mean = (total / valid).where(valid >= min_valid * factor**2 - 1e-9)
    return _like(mean.astype(array.dtype if array.dtype.kind == "f" else "float32"), array, coarse.coords())


def ease_refine(array: xr.DataArray, target: EaseGrid, *, method: str = "nearest") -> xr.DataArray:
    """Give every cell of a finer nested grid a value.

    Parameters
    ----------
    array : xarray.DataArray
        As in `ease_block_mean`.
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
    >>> ease_refine(field, M09, method="bilinear")[0].values
    array([0. , 0. , 0.5, 1.5, 2.5, 3.5, 4. , 4. ])
    """
    who = "ease_refine"
    check_choice(who, "method", method, ("nearest", "bilinear"))
    window = EaseWindow.from_dataset(array)
    if not isinstance(target, EaseGrid) or target.subdivision < window.grid.subdivision:
        got, next_step = getattr(target, "name", target), "Average to a coarser grid with ease_block_mean"
        raise ParameterError(who, "target is no finer grid", got=got, next_step=next_step)
    factor, bare = target.cells_across(window.grid), _bare(array, "y", "x")
    within = {dim: np.repeat(np.arange(size), factor) for dim, size in zip("yx", window.shape, strict=True)}
    if method == "nearest":
        return _like(bare.isel(within), array, window.on(target).coords())
    _check_quantity(who, array)
    axes = {}
    for dim, size in zip("yx", window.shape, strict=True):
        centres, finer = np.arange(size, dtype="float64"), (np.arange(size * factor) + 0.5) / factor - 0.5
        axes[dim] = _pairs(centres, finer, period=size if dim == "x" and size == window.grid.n_cols else None)
    # any valid neighbour is enough where the cell itself is valid; its own weight is never below 1/4
    result = _interpolated(array, axes, 0.2).where(bare.notnull().isel(within))
    return _like(result, array, window.on(target).coords())


def match_nearest_in_time(
    values: np.ndarray, times: np.ndarray, wanted: np.ndarray, window: np.timedelta64
) -> np.ndarray:
    """For each wanted time and pixel, the valid value nearest in time within `window`; the earlier one of two as near.

    From `values` (time, row, col) at increasing `times` to float32 (scene, row, col); NaN where there is none.
    """
    matched = np.full((wanted.size, *values.shape[1:]), np.nan, dtype="float32")
    for scene, moment in zip(matched, wanted, strict=True):
        distance = np.abs(times - moment)
        near = np.flatnonzero(distance <= window)
        for one in near[np.argsort(distance[near], kind="stable")]:
            empty = np.isnan(scene)
            if not empty.any():
                break
            scene[empty] = values[one][empty]
    return matched
