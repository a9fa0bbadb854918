"""Series of coarse products at sensors: from grids and from point series, nearest or bilinear, with the product's flags."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ContractError, ParameterError, plain
from smnb.grids import great_circle_km
from smnb.sensors.matchup.time import TimeMatch, match_tables, need_columns

SPACE_METHODS = ("nearest", "bilinear")


def _points(who: str, lat: ArrayLike, lon: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lat, lon = np.atleast_1d(np.asarray(lat, dtype=np.float64)), np.atleast_1d(np.asarray(lon, dtype=np.float64))
    good = lat.ndim == 1 and lat.shape == lon.shape and lat.size > 0
    if not good or not ((np.abs(lat) <= 90.0).all() and (np.abs(lon) <= 360.0).all()):
        raise ParameterError(
            who,
            "lat and lon are no points on the Earth",
            got=(lat[:3].tolist(), lon[:3].tolist()),
            expected=plain("degrees, as many of one as of the other, none missing"),
        )
    return lat, (lon + 180.0) % 360.0 - 180.0


def _axis_weights(
    axis: NDArray[np.float64], wanted: NDArray[np.float64], period: float | None
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
    """Neighbours below and above on an ascending axis, the weight of the upper, and whether the axis reaches there.

    A cell reaches half a step beyond its centre; a gap wider than one and a half steps is no cell's.
    """
    step = float(np.min(np.diff(axis))) if axis.size > 1 else np.inf
    wraps = period is not None and axis.size > 1 and axis[0] + period - axis[-1] <= 1.5 * step
    if wraps:
        extended = np.concatenate([[axis[-1] - period], axis, [axis[0] + period]])
    else:
        extended = axis
    upper = np.clip(np.searchsorted(extended, wanted, side="right"), 1, max(extended.size - 1, 1))
    lower = upper - 1
    upper = np.minimum(upper, extended.size - 1)
    width = np.where(upper > lower, extended[upper] - extended[lower], 1.0)
    share = (wanted - extended[lower]) / width
    half = 0.5 if axis.size == 1 else 0.5 * step
    reached = (wanted >= extended[0] - half - 1e-9) & (wanted <= extended[-1] + half + 1e-9)
    wide = width > 1.5 * step
    # over a gap there is only what lies within half a step of either side
    reached &= ~wide | (np.minimum(wanted - extended[lower], extended[upper] - wanted) <= half)
    share = np.where(wide, np.where(share > 0.5, 1.0, 0.0), np.clip(share, 0.0, 1.0))
    back = (lambda i: (i - 1) % axis.size) if wraps else (lambda i: i)
    return back(lower), back(upper), share, reached


def _lattice(who: str, dataset: xr.Dataset) -> tuple[NDArray, NDArray, NDArray[np.intp]]:
    """Axes of the lattice that the locations lie on, and the location at each of its nodes (-1 for none)."""
    lat, lon = dataset["lat"].values.astype(float), dataset["lon"].values.astype(float)
    lats, row = np.unique(np.round(lat, 4), return_inverse=True)
    lons, column = np.unique(np.round(lon, 4), return_inverse=True)
    if lats.size * lons.size > 50 * lat.size + 100:
        raise ParameterError(
            who,
            "the locations are no lattice: there is nothing to interpolate between",
            got="bilinear",
            expected="nearest",
        )
    node = np.full((lats.size, lons.size), -1, dtype=np.intp)
    node[row, column] = np.arange(lat.size)
    return lats, lons, node


def _interpolate(
    array: xr.DataArray, picks: list[tuple[dict[str, xr.DataArray], NDArray, NDArray]], min_valid_weight: float
) -> xr.DataArray:
    """Weighted mean of neighbours; missing ones share their weight among the valid, down to `min_valid_weight`."""
    total, weight_sum = 0.0, 0.0
    for index, weight, there in picks:
        values = array.isel(index)
        weights = xr.DataArray(np.where(there, weight, 0.0), dims="point")
        valid = values.notnull() & (weights > 0)
        total = total + values.where(valid, 0.0) * weights
        weight_sum = weight_sum + valid * weights
    return (total / weight_sum.where(weight_sum >= min_valid_weight - 1e-9)).astype(array.dtype)


def series_at_point(
    dataset: xr.Dataset,
    lat: ArrayLike,
    lon: ArrayLike,
    *,
    method: str = "nearest",
    max_distance_km: float = 50.0,
    min_valid_weight: float = 0.5,
) -> xr.Dataset:
    """Series of a coarse product at points.

    Parameters
    ----------
    dataset : xarray.Dataset
        Under the contract: variables on ``(…, lat, lon)``, or on ``(location, …)`` with the coordinates ``lat`` and ``lon``
        as the readers of point series give.
    lat, lon : float or array-like, shape (n,)
        Degrees. Longitudes -180..180 or 0..360.
    method : {"nearest", "bilinear"}
        The cell that holds the point (the nearest location), or interpolation between the four centres around it.
        Locations are interpolated where they lie on a lattice. Flags and other whole numbers are always the nearest's.
    max_distance_km : float
        For locations: how far the nearest may be. On a grid a point must be in a cell.
    min_valid_weight : float
        For ``bilinear``: least weight of the valid neighbours, in (0, 1]; missing ones share theirs among these.

    Returns
    -------
    xarray.Dataset
        The variables that have a place, on ``(point, …)``, lazy if they were, with the coordinates ``lat``, ``lon`` (of the
        point), ``cell_lat``, ``cell_lon`` and ``distance_km`` (of the cell or location nearest to it).

    Raises
    ------
    ContractError
        If the Dataset has no place, or a point is in no cell, or too far from every location.
    ParameterError
        On an unknown method, bad coordinates, or ``bilinear`` between locations that are no lattice.
    """
    who = "series_at_point"
    if method not in SPACE_METHODS:
        raise ParameterError(who, "unknown method", got=method, expected=list(SPACE_METHODS))
    if not 0.0 < min_valid_weight <= 1.0:
        raise ParameterError(who, "min_valid_weight is out of range", got=min_valid_weight, expected=plain("(0, 1]"))
    lat, lon = _points(who, lat, lon)
    gridded = "lat" in dataset.dims and "lon" in dataset.dims
    if not gridded and not ("location" in dataset.dims and {"lat", "lon"} <= set(dataset.coords)):
        raise ContractError(who, "the Dataset has neither (lat, lon) nor locations", got=tuple(dataset.dims))
    space = {"lat", "lon"} if gridded else {"location"}
    placed = dataset[[str(n) for n, array in dataset.data_vars.items() if space <= set(array.dims)]]
    placed = placed.drop_vars([c for c in placed.coords if c not in placed.dims and space & set(placed[c].dims)])
    if not gridded:
        lattice = _lattice(who, dataset) if method == "bilinear" else None
        own_lat, own_lon = dataset["lat"].values.astype(float), dataset["lon"].values.astype(float)
        distance = great_circle_km(own_lat[None, :], own_lon[None, :], lat[:, None], lon[:, None])
        at = np.argmin(distance, axis=1)
        nearest = {"location": xr.DataArray(at, dims="point")}
        cell_lat, cell_lon = own_lat[at], own_lon[at]
        far = distance[np.arange(at.size), at] > max_distance_km
    else:
        axes = dataset["lat"].values.astype(float), dataset["lon"].values.astype(float)
        lattice = (*axes, None)
        sides = [_axis_weights(axes[0], lat, None), _axis_weights(axes[1], lon, 360.0)]
        row, column = (np.where(share > 0.5, upper, lower) for lower, upper, share, _ in sides)
        nearest = {"lat": xr.DataArray(row, dims="point"), "lon": xr.DataArray(column, dims="point")}
        cell_lat, cell_lon = axes[0][row], axes[1][column]
        far = ~(sides[0][3] & sides[1][3])
    gap = great_circle_km(cell_lat, cell_lon, lat, lon)
    if far.any():
        first = int(np.flatnonzero(far)[0])
        raise ContractError(
            who,
            f"{int(far.sum())} of {lat.size} points are {'in no cell' if gridded else 'too far from a location'}",
            got=f"({lat[first]:g}, {lon[first]:g}), {gap[first]:.0f} km away",
            expected=plain("the product's area" if gridded else f"<= {max_distance_km:g} km"),
        )
    result = placed.isel(nearest)
    if method == "bilinear":
        picks = _neighbours(lattice, lat, lon, "location" if not gridded else None)
        for name, array in placed.data_vars.items():
            if array.dtype.kind == "f":
                result[name] = _interpolate(array, picks, min_valid_weight).transpose(*result[name].dims)
                result[name].attrs = dict(array.attrs)
    result = result.drop_vars(["lat", "lon"], errors="ignore").assign_coords(
        lat=("point", lat),
        lon=("point", lon),
        cell_lat=("point", cell_lat),
        cell_lon=("point", cell_lon),
        distance_km=("point", gap, {"units": "km"}),
    )
    result.attrs = {**dataset.attrs, "at_points": method}
    return result.transpose("point", ...)


def _neighbours(
    lattice: tuple[NDArray, NDArray, NDArray | None], lat: NDArray, lon: NDArray, location: str | None
) -> list[tuple[dict[str, xr.DataArray], NDArray, NDArray]]:
    """The four neighbours of each point: where they are, their weight, and whether they exist."""
    lats, lons, node = lattice
    rows, columns = _axis_weights(lats, lat, None), _axis_weights(lons, lon, 360.0)
    picks = []
    for i, wi in ((rows[0], 1.0 - rows[2]), (rows[1], rows[2])):
        for j, wj in ((columns[0], 1.0 - columns[2]), (columns[1], columns[2])):
            weight = wi * wj
            if location is None:
                index = {"lat": xr.DataArray(i, dims="point"), "lon": xr.DataArray(j, dims="point")}
                picks.append((index, weight, np.ones(lat.size, dtype=bool)))
            else:
                at = node[i, j]
                there = (at >= 0) & rows[3] & columns[3]
                picks.append(({location: xr.DataArray(np.maximum(at, 0), dims="point")}, weight, there))
    return picks


def match_product(
    table: pd.DataFrame,
    sensors: pd.DataFrame,
    dataset: xr.Dataset,
    *,
    window: str | np.timedelta64 | pd.Timedelta | timedelta,
    variable: str = "soil_moisture",
    name: str | None = None,
    space: str = "nearest",
    method: str = "nearest",
    **at_point: Any,
) -> tuple[pd.DataFrame, TimeMatch]:
    """Add a coarse product's value to each row of a long table, by the sensor's place and the row's time.

    Parameters
    ----------
    table : DataFrame
        ``sensor_id``, ``time`` and whatever else.
    sensors : DataFrame
        ``sensor_id``, ``lat``, ``lon``; one row a sensor.
    dataset : xarray.Dataset
        As `series_at_point`, with time.
    window, method
        As `match_in_time`.
    variable : str
        What to take.
    name : str, optional
        Name of the new column; default that of the variable.
    space : {"nearest", "bilinear"}
        As `series_at_point`, which also takes `at_point`.

    Returns
    -------
    DataFrame, TimeMatch
        As `match_tables`; for ``nearest`` also the product's flags: whole-number variables on the same dimensions.

    Raises
    ------
    ContractError, ParameterError
        As `series_at_point` and `match_tables`; also when a sensor of the table is not in `sensors`, or is there twice.
    """
    who = "match_product"
    need_columns(who, sensors, "the table of sensors", ["sensor_id", "lat", "lon"])
    need_columns(who, table, "the table", ["sensor_id", "time"])
    if sensors["sensor_id"].duplicated().any():
        raise ContractError(
            who,
            "a sensor is twice in the table of sensors",
            got=str(sensors.loc[sensors["sensor_id"].duplicated(), "sensor_id"].iloc[0]),
        )
    used = sensors[sensors["sensor_id"].isin(table["sensor_id"])]
    strange = set(table["sensor_id"]) - set(used["sensor_id"])
    if strange:
        raise ContractError(
            who,
            f"{len(strange)} sensors have no place",
            got=sorted(map(str, strange))[:3],
            next_step="Add them to the table of sensors",
        )
    if variable not in dataset or "time" not in dataset[variable].dims:
        raise ContractError(who, f"no {variable!r} with a time", got=sorted(map(str, dataset.data_vars)))
    flags = [
        str(n)
        for n, a in dataset.data_vars.items()
        if a.dtype.kind in "iu" and set(a.dims) == set(dataset[variable].dims)
    ]
    if method == "mean":
        flags = []
    series = series_at_point(
        dataset[[variable, *flags]], used["lat"].to_numpy(), used["lon"].to_numpy(), method=space, **at_point
    )
    values = series[variable].transpose("point", "time").values
    # only what is there: a product of overpasses is mostly empty at any one place
    point, column = np.nonzero(~np.isnan(values))
    right = pd.DataFrame({"time": series["time"].values[column], "value": values[point, column].astype("float64")})
    right["sensor_id"] = pd.Categorical.from_codes(point, categories=used["sensor_id"].to_numpy())
    for flag in flags:
        right[flag] = series[flag].transpose("point", "time").values[point, column]
    left = table.assign(sensor_id=pd.Categorical(table["sensor_id"], categories=used["sensor_id"].to_numpy()))
    matched, found = match_tables(
        left, right, value="value", window=window, method=method, carry=flags, name=name or variable
    )
    return matched.assign(sensor_id=table["sensor_id"].to_numpy()), found
