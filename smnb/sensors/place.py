"""Matching in place: a coarse product at sensors, from the cell or the nearest location, with their readings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import ContractError, check_places, check_table, plain
from smnb.grids import EaseWindow, great_circle_km
from smnb.loaders.insitu import InSituTables
from smnb.sensors.match import TimeMatch, match_tables


def product_at_sensors(
    product: xr.Dataset,
    sensors: pd.DataFrame,
    *,
    variable: str = "soil_moisture",
    name: str | None = None,
    max_distance_km: float = 50.0,
) -> pd.DataFrame:
    """Values of a product at sensors as a long table, which `match_tables` matches with readings.

    Parameters
    ----------
    product : xarray.Dataset
        Under the contract, with time: on ``(…, lat, lon)``, on ``(…, y, x)`` of an EASE-Grid 2.0 as SMAP's readers give, or
        on ``(location, …)`` with the coordinates ``lat`` and ``lon`` as the readers of point series give. Where it has an
        ``observation_time`` of each value, as SMAP's days do, that is the time. Interpolate a grid with its own
        `xarray.Dataset.interp` first, if you wish.
    sensors : DataFrame
        One row a sensor: ``sensor_id``, ``lat``, ``lon``. Longitudes -180..180 or 0..360.
    variable, name : str
        What to take, and its column's name if that is another.
    max_distance_km : float
        For locations: how far the nearest may be. On a grid a sensor must be in a cell.

    Returns
    -------
    DataFrame
        One row a value that is there, by sensor and time: ``sensor_id`` (categorical), ``time``, `name` (float64), and the
        product's flags, which are its whole-number variables on the same dimensions. ``attrs["sensors_left_out"]``: how many
        sensors are beyond the product's reach.

    Raises
    ------
    ContractError, ParameterError
        If the product has no such variable, time or place, a sensor is there twice, or all are out of its reach; if a sensor is
        no point on the Earth.
    """
    who = "product_at_sensors"
    check_table(who, sensors, ["sensor_id", "lat", "lon"], unique="sensor_id")
    if variable not in product or "time" not in product[variable].dims:
        raise ContractError(who, f"no {variable!r} with a time", got=sorted(map(str, product.data_vars)))
    lat, lon = (sensors[axis].to_numpy("float64") for axis in ("lat", "lon"))
    check_places(who, lat, lon)
    where, reached = _nearest(who, product, lat, (lon + 180.0) % 360.0 - 180.0, max_distance_km)
    if not reached.any():
        expected = plain(f"in a cell, or <= {max_distance_km:g} km from a location")
        raise ContractError(who, "no sensor is near the product", got=f"{len(sensors)} sensors", expected=expected)
    chosen = product[variable]
    whole = [name for name, one in product.data_vars.items() if one.dtype.kind in "iu"]
    flags = [str(name) for name in whole if set(product[name].dims) == set(chosen.dims)]
    clock = [name for name in ("observation_time",) if name in product]
    at = {dim: xr.DataArray(index[reached], dims="point") for dim, index in where.items()}
    found = {
        n: one.values for n, one in product[[variable, *flags, *clock]].isel(at).transpose("point", "time").items()
    }
    # only what is there: a product of overpasses is mostly empty at any one place
    point, column = np.nonzero(~np.isnan(found[variable]))
    time = found["observation_time"][point, column] if clock else product["time"].values[column]
    table = pd.DataFrame(
        {
            "sensor_id": pd.Categorical.from_codes(point, categories=sensors["sensor_id"].to_numpy()[reached]),
            "time": pd.DatetimeIndex(time).astype("datetime64[ns]"),
            name or variable: found[variable][point, column].astype("float64"),
            **{flag: found[flag][point, column] for flag in flags},
        }
    )
    table.attrs["sensors_left_out"] = int((~reached).sum())
    return table


def match_product(product: xr.Dataset, insitu: InSituTables, *, window: str = "1h") -> tuple[pd.DataFrame, TimeMatch]:
    """Pair each value of a coarse product at a sensor with the nearest reading in time: data points as paper 004 has them.

    `product` is as in `product_at_sensors`. Ten-day means (attribute ``ten_day_means``) are paired with
    the mean of the readings of their ten days, at sensors within 5 km of their stations; the other sensors have none.
    `window` is how far the reading may be in time; the paper's strictest bound is 1 h.

    The pairs have ``sensor_id``, ``time`` (the product's), ``predicted`` (the product) and ``observed`` (both m3 m-3), and
    ``attrs["sensors_left_out"]``; with them comes what matched. Errors as `product_at_sensors` and `match_tables`.
    """
    method, reach = "nearest", 50.0
    if product.attrs.get("ten_day_means"):
        window, method, reach = "5D", "mean", 5.0
    left = product_at_sensors(product, insitu.sensors, name="predicted", max_distance_km=reach)
    readings = insitu.readings[["sensor_id", "time", "soil_moisture"]]
    pairs, found = match_tables(left, readings, value="soil_moisture", window=window, method=method, name="observed")
    pairs = pairs.loc[pairs["observed"].notna(), ["sensor_id", "time", "predicted", "observed"]].reset_index(drop=True)
    pairs.attrs["sensors_left_out"] = left.attrs["sensors_left_out"]
    return pairs, found


def _nearest(
    who: str, product: xr.Dataset, lat: NDArray[np.float64], lon: NDArray[np.float64], max_distance_km: float
) -> tuple[dict[str, NDArray[np.intp]], NDArray[np.bool_]]:
    """Position of the nearest cell or location by dimension, and whether the product reaches the point."""
    if {"lat", "lon"} <= set(product.dims):
        rows, in_row = _in_axis(product["lat"].values.astype(float), lat)
        columns, in_column = _in_axis(product["lon"].values.astype(float), lon, period=360.0)
        return {"lat": rows, "lon": columns}, in_row & in_column
    if {"y", "x"} <= set(product.dims):
        window = EaseWindow.from_dataset(product)
        row, col = window.grid.rowcol(lat, lon, outside="mask")
        inside = (row >= window.row_start) & (row < window.row_stop)
        inside &= (col >= window.col_start) & (col < window.col_stop)
        return {"y": row - window.row_start, "x": col - window.col_start}, inside
    if "location" in product.dims and {"lat", "lon"} <= set(product.coords):
        own_lat, own_lon = product["lat"].values.astype(float), product["lon"].values.astype(float)
        distance = great_circle_km(own_lat[None, :], own_lon[None, :], lat[:, None], lon[:, None])
        return {"location": np.argmin(distance, axis=1)}, distance.min(axis=1) <= max_distance_km
    raise ContractError(who, "the Dataset has neither (lat, lon) nor (y, x) nor locations", got=tuple(product.dims))


def _in_axis(
    axis: NDArray[np.float64], wanted: NDArray[np.float64], *, period: float | None = None
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Nearest centre on an ascending axis, and whether its cell, which reaches half a step to either side, holds the point."""
    step = float(np.diff(axis).min()) if axis.size > 1 else 1.0
    centres = axis if period is None else np.concatenate([[axis[-1] - period], axis, [axis[0] + period]])
    upper = np.clip(np.searchsorted(centres, wanted, side="right"), 1, max(centres.size - 1, 1))
    upper, lower = np.minimum(upper, centres.size - 1), upper - 1
    at = np.where(wanted - centres[lower] > centres[upper] - wanted, upper, lower)
    inside = np.abs(wanted - centres[at]) <= 0.5 * step + 1e-9
    return (at if period is None else (at - 1) % axis.size), inside
