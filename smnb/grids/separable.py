"""Interpolation that is separable in two axes: one sparse matrix of linear weights an axis, NaN-aware.

What regular grids and EASE-Grids share. An image costs two sparse products, and missing values are handled by sending
the validity mask through the same weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy import sparse


def linear_weights(
    positions: np.ndarray, index: np.ndarray, target: np.ndarray, covered: np.ndarray
) -> sparse.csr_matrix:
    """Weights of linear interpolation along one axis, ``(target, source)``; a row of zeros where not `covered`.

    `positions` ascend, with a periodic neighbour on both ends; `index` is the source cell of each. Beyond the outer
    positions the outer value is kept.
    """
    if positions.size == 1:
        left = right = np.zeros(target.size, int)
        fraction = np.zeros(target.size)
    else:
        left = np.clip(np.searchsorted(positions, target, side="right") - 1, 0, positions.size - 2)
        right = left + 1
        # clipping the fraction clamps a target beyond the outer centre to that centre's value
        fraction = np.clip((target - positions[left]) / (positions[right] - positions[left]), 0.0, 1.0)
    rows = np.flatnonzero(covered)
    values = np.concatenate([1.0 - fraction[rows], fraction[rows]])
    columns = np.concatenate([index[left[rows]], index[right[rows]]])
    return sparse.csr_matrix((values, (np.tile(rows, 2), columns)), shape=(target.size, int(index.max()) + 1))


def interpolator(
    over_rows: sparse.csr_matrix, over_cols: sparse.csr_matrix, dtype: np.dtype, *, min_valid_weight: float
) -> Callable[[np.ndarray], np.ndarray]:
    """A function of ``(..., rows, cols)`` that interpolates every image with the weights of both axes.

    Missing sources share their weight among the valid ones; a target is NaN where the valid sources' weight is below
    `min_valid_weight` or where an axis has no weights.
    """
    over_rows, over_cols = over_rows.astype(dtype), over_cols.astype(dtype)
    reach = (over_rows.getnnz(axis=1) > 0)[:, None] & (over_cols.getnnz(axis=1) > 0)[None, :]

    def image(values: np.ndarray) -> np.ndarray:
        valid = np.isfinite(values)
        if valid.all():
            return np.where(reach, (over_cols @ (over_rows @ values).T).T, np.nan)
        total = (over_cols @ (over_rows @ np.where(valid, values, 0).astype(dtype)).T).T
        weight = (over_cols @ (over_rows @ valid.astype(dtype)).T).T
        enough = weight >= min_valid_weight - 1e-6
        return np.divide(total, weight, out=np.full(weight.shape, np.nan, dtype), where=enough)

    def stack(block: np.ndarray) -> np.ndarray:
        images = block.reshape((-1, *block.shape[-2:]))
        out = np.empty((images.shape[0], *reach.shape), dtype)
        for k, values in enumerate(images):
            out[k] = image(values.astype(dtype, copy=False))
        return out.reshape((*block.shape[:-2], *reach.shape))

    return stack


def without_coords_along(array: xr.DataArray, dims: tuple[str, str]) -> xr.DataArray:
    """`array` without the coordinates that lie along `dims`, which a change of grid makes wrong."""
    return array.drop_vars([name for name, coord in array.coords.items() if set(dims) & set(coord.dims)])


def map_images(
    array: xr.DataArray,
    function: Callable[[np.ndarray], np.ndarray],
    dims: tuple[str, str],
    shape: tuple[int, int],
    dtype: np.dtype,
) -> xr.DataArray:
    """Apply a function of the last two axes that gives images of another shape; lazy arrays stay lazy.

    Dims, their order, name and attributes stay; coordinates along `dims` go, for the caller to put the target's on.
    """
    if array.chunks is not None:
        array = array.chunk(dict.fromkeys(dims, -1))
    old = [f"_{name}" for name in dims]
    result = xr.apply_ufunc(
        function,
        without_coords_along(array, dims).rename(dict(zip(dims, old, strict=True))),
        input_core_dims=[old],
        output_core_dims=[list(dims)],
        dask="parallelized",
        output_dtypes=[dtype],
        keep_attrs=True,
        dask_gufunc_kwargs={"output_sizes": dict(zip(dims, shape, strict=True))},
    )
    return result.transpose(*array.dims).rename(array.name)
