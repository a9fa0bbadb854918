"""Predictions from sources: coarse products at sensors, and SMAP at the stations of the ten-day table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from smnb.contract import ContractError, ParameterError, is_synthetic, plain
from smnb.grids import great_circle_km
from smnb.loaders.conus import StationTable
from smnb.loaders.insitu import InSituTables
from smnb.sensors.matchup import match_product, match_tables, series_at_point
from smnb.sensors.predictions.sensor_strata import join_strata
from smnb.sensors.predictions.tables import NEEDED, check_predictions
from smnb.sensors.splits import folds
from smnb.sensors.strata import add_strata

#: What `conus_station_predictions` can predict with, and how a figure calls it.
CONUS_MODELS = {"smap": "SMAP/50", "linear": "Linear on SMAP"}
_PLACE = ("network", "station", "lat", "lon")


def coarse_product_predictions(
    insitu: InSituTables,
    product: xr.Dataset,
    *,
    model: str,
    window: str = "1h",
    method: str = "nearest",
    space: str = "nearest",
    max_distance_km: float = 50.0,
    variable: str = "soil_moisture",
) -> pd.DataFrame:
    """Take a coarse product at the sensors as predictions: one row a value of the product that a reading is near to.

    Parameters
    ----------
    insitu : InSituTables
        From `smnb.loaders.insitu`.
    product : xarray.Dataset
        Under the contract, on a grid or at locations.
    model : str
        What tables and figures call it.
    window, method : str
        Of the readings around each time of the product: the nearest within the window, or their mean
        (`smnb.sensors.matchup.match_in_time`). Each value of the product counts once, however many readings are near it.
    space : {"nearest", "bilinear"}
        As `smnb.sensors.matchup.series_at_point`.
    max_distance_km : float
        Sensors farther from every location are left out and counted.
    variable : str
        What of the product to take.

    Returns
    -------
    DataFrame
        Columns of `NEEDED`, ``network``, ``station``, ``lat``, ``lon`` and the strata with their sources. ``attrs``:
        ``model``, ``synthetic``, ``matched`` (values matched and of how many), ``sensors_left_out``.

    Raises
    ------
    ContractError
        If no sensor is near a location, or nothing matches.
    ParameterError
        On an unknown method.
    """
    who = "coarse_product_predictions"
    sensors = insitu.sensors.assign(sensor_id=insitu.sensors["sensor_id"].astype(str))
    near = _near(sensors, product, max_distance_km)
    if not near.any():
        raise ContractError(
            who, "no sensor is near the product's locations", expected=plain(f"<= {max_distance_km:g} km")
        )
    sensors = sensors[near].reset_index(drop=True)
    series = series_at_point(
        product[[variable]],
        sensors["lat"].to_numpy(),
        sensors["lon"].to_numpy(),
        method=space,
        max_distance_km=max_distance_km,
    )
    values = series[variable].transpose("point", "time").values
    point, column = np.nonzero(~np.isnan(values))
    ids = pd.CategoricalDtype(pd.Index(sensors["sensor_id"], dtype=object))
    left = pd.DataFrame(
        {
            "sensor_id": pd.Categorical.from_codes(point, dtype=ids),
            "time": pd.to_datetime(series["time"].values[column]).astype("datetime64[ns]"),
            "predicted": values[point, column].astype("float64"),
        }
    )
    readings = insitu.readings[insitu.readings["sensor_id"].isin(sensors["sensor_id"])]
    right = pd.DataFrame(
        {
            "sensor_id": pd.Categorical(readings["sensor_id"].astype(str), dtype=ids),
            "time": readings["time"],
            "observed": readings["soil_moisture"].astype("float64"),
        }
    )
    matched, found = match_tables(left, right, value="observed", window=window, method=method)
    table = matched.loc[matched["observed"].notna(), list(NEEDED)].assign(
        sensor_id=lambda t: t["sensor_id"].astype(str)
    )
    if table.empty:
        raise ContractError(
            who,
            f"no value of {model} has a reading near it",
            got=found.n_left,
            expected=plain(f"within {window}"),
            next_step="Widen the window, or compare the periods",
        )
    table = table.merge(sensors[["sensor_id", *_PLACE]], on="sensor_id", how="left")
    table = join_strata(table, add_strata(sensors))
    table.attrs = {
        "model": model,
        "synthetic": bool(insitu.synthetic or is_synthetic(product)),
        "matched": [found.n_matched, found.n_left],
        "sensors_left_out": int((~near).sum()),
    }
    return check_predictions(table, who=who)


def _near(sensors: pd.DataFrame, product: xr.Dataset, max_distance_km: float) -> np.ndarray:
    """Which sensors a product of locations reaches; a grid reaches all, or `series_at_point` says which it does not."""
    if "location" not in product.dims:
        return np.ones(len(sensors), dtype=bool)
    lat, lon = (sensors[name].to_numpy("float64")[:, None] for name in ("lat", "lon"))
    return great_circle_km(lat, lon, product["lat"].values, product["lon"].values).min(axis=1) <= max_distance_km


def predictions_at(
    table: pd.DataFrame,
    product: xr.Dataset,
    *,
    model: str,
    window: str,
    variable: str = "soil_moisture",
    **options: Any,
) -> pd.DataFrame:
    """Another product's values at the rows of a table of predictions, so that both are held against the same readings.

    Parameters
    ----------
    table : DataFrame
        Predictions with ``lat`` and ``lon``; only its ``predicted`` changes.
    product : xarray.Dataset
        Under the contract, with time.
    model : str
        Name of the new predictions.
    window : str
        Largest distance in time between the product and the row.
    variable : str
        What of the product to take.
    options
        Of `smnb.sensors.matchup.match_product`.

    Returns
    -------
    DataFrame
        With ``predicted`` NaN where the product has nothing; ``attrs["matched"]`` counts.
    """
    sensors = table.drop_duplicates("sensor_id")[["sensor_id", "lat", "lon"]]
    matched, found = match_product(
        table[["sensor_id", "time"]], sensors, product, window=window, variable=variable, name="predicted", **options
    )
    result = table.assign(predicted=matched["predicted"].to_numpy("float64"))
    result.attrs = {
        **table.attrs,
        "model": model,
        "matched": [found.n_matched, found.n_left],
        "synthetic": bool(table.attrs.get("synthetic", False) or is_synthetic(product)),
    }
    return check_predictions(result, who="predictions_at")


def conus_station_predictions(
    stations: StationTable,
    *,
    model: str = "smap",
    k: int = 10,
    block_degrees: float = 3.0,
    buffer_km: float = 50.0,
    seed: int = 0,
) -> pd.DataFrame:
    """SMAP at the stations of the ten-day table, as it is or through a line fitted elsewhere.

    Parameters
    ----------
    stations : StationTable
        From `smnb.loaders.conus.open_station_table`.
    model : {"smap", "linear"}
        ``smap``: ssm/50 as it is, nominal m3 m-3. ``linear``: ordinary least squares of the in-situ values on it, one
        line a fold, fitted at the stations of other blocks: no value of a station's own, nor of one within
        `buffer_km`, enters its line.
    k, block_degrees, buffer_km, seed
        Of the folds (`smnb.sensors.splits.folds`), by blocks of so many degrees.

    Returns
    -------
    DataFrame
        Columns of `NEEDED`, ``network``, ``station``, ``lat``, ``lon``, ``block`` (what the folds kept together),
        ``fold``, ``slope_fitted`` and ``intercept_fitted`` for the line, at the rows that have both values. ``time`` is the
        first instant of ten days.

    Raises
    ------
    ParameterError
        On an unknown model, or folds that cannot be made.
    """
    who = "conus_station_predictions"
    if model not in CONUS_MODELS:
        raise ParameterError(who, "unknown model", got=model, expected=sorted(CONUS_MODELS))
    sensors = stations.sensors
    rows = stations.table.dropna(subset=["soil_moisture", "smap"]).merge(
        sensors[["sensor_id", *_PLACE]], on="sensor_id", how="left"
    )
    block = np.floor((rows["lat"] + 90.0) / block_degrees).astype(int).astype(str) + "_"
    block += np.floor((rows["lon"] + 180.0) / block_degrees).astype(int).astype(str)
    table = rows[["sensor_id", "time"]].assign(
        observed=rows["soil_moisture"], predicted=rows["smap"], **{n: rows[n] for n in _PLACE}, block=block
    )
    if model == "linear":
        split = folds(sensors, "block", k=k, seed=seed, block_degrees=block_degrees, buffer_km=buffer_km)
        predicted = np.full(len(rows), np.nan)
        lines = np.full((len(rows), 3), np.nan)
        x, y = rows["smap"].to_numpy(), rows["soil_moisture"].to_numpy()
        for number, fold in enumerate(split):
            side = rows["sensor_id"].map(fold.assignment).to_numpy()
            train, test = side == "train", side == "test"
            slope, intercept = np.polyfit(x[train], y[train], 1)
            predicted[test] = slope * x[test] + intercept
            lines[test] = number, slope, intercept
        table = table.assign(
            predicted=predicted, fold=lines[:, 0].astype(int), slope_fitted=lines[:, 1], intercept_fitted=lines[:, 2]
        )
    table.attrs = {"model": CONUS_MODELS[model], "synthetic": stations.synthetic}
    return check_predictions(table, who=who)
