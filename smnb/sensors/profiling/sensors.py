"""What sensors there are: by stratum, network, flag, depth and place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from smnb.contract import ContractError, ParameterError
from smnb.grids.koppen import NONE
from smnb.loaders.insitu import InSituTables
from smnb.sensors.profiling.sources import apply_flags, sensor_rows
from smnb.sensors.splits import SIDES
from smnb.sensors.strata import FEW_SENSORS


def depth_names(sensors: pd.DataFrame) -> list[str]:
    """Depth of each sensor as text, "5 cm" or "0-5 cm"."""
    depth = (100 * sensors[["depth_from", "depth_to"]]).round(2)
    return [f"{low:g} cm" if low == high else f"{low:g}-{high:g} cm" for low, high in depth.itertuples(index=False)]


def count_sensors(
    sensors: pd.DataFrame, by: str, *, order: Sequence[str] = (), sides: pd.Series | None = None
) -> pd.DataFrame:
    """Count sensors by a column, and by side of a split.

    Parameters
    ----------
    sensors : DataFrame
        With ``sensor_id`` and `by`.
    by : str
        The column.
    order : sequence of str
        Strata in their order, those that occur; others come after by size, "none" last.
    sides : Series, optional
        Side by ``sensor_id``, as `Split.assignment`.

    Returns
    -------
    DataFrame
        Indexed by stratum: ``n_sensors``, ``share`` (%), ``few`` (fewer than five, the paper's asterisk), and a column each
        side that occurs.

    Raises
    ------
    ContractError
        If the column is missing.
    """
    if by not in sensors.columns or "sensor_id" not in sensors.columns:
        raise ContractError("count_sensors", f"no column {by!r}", got=list(map(str, sensors.columns)))
    values = sensors[by].astype(object).where(sensors[by].notna(), NONE).astype(str)
    found = values.value_counts()
    rest = sorted(set(found.index) - set(order), key=lambda name: (name == NONE, -found[name], name))
    names = [*(name for name in order if name in found.index), *rest]
    table = pd.DataFrame({"n_sensors": found.reindex(names)}, index=pd.Index(names, name=by))
    table["share"] = 100.0 * table["n_sensors"] / len(sensors)
    table["few"] = table["n_sensors"] < FEW_SENSORS
    if sides is not None:
        side = sensors["sensor_id"].map(sides)
        for one in (*SIDES, "buffer"):
            if (side == one).any():
                table[one] = values[side == one].value_counts().reindex(names, fill_value=0)
    return table


def flag_shares(tables: InSituTables) -> pd.DataFrame:
    """Share of each network's readings that carry each flag, in %; a reading with two flags counts under both.

    Returns
    -------
    DataFrame
        Networks by flags, in the order G, C01 to D10; flags that no reading has are left out.
    """
    flag, network = tables.readings["flag"].cat, tables.sensors["network"].astype("category").cat
    codes = network.codes.to_numpy()[sensor_rows(tables)].astype(np.int64)
    strings = list(flag.categories)
    counts = np.bincount(codes * len(strings) + flag.codes.to_numpy(), minlength=len(network.categories) * len(strings))
    counts = counts.reshape(len(network.categories), len(strings))
    singles = sorted({one for text in strings for one in text.split(",")}, key=lambda one: (one != "G", one))
    carries = np.array([[one in text.split(",") for one in singles] for text in strings], dtype=float)
    shares = 100.0 * (counts @ carries) / counts.sum(axis=1, keepdims=True)
    table = pd.DataFrame(shares, index=pd.Index(network.categories, name="network"), columns=singles)
    return table.loc[:, (table > 0).any()]


def network_table(tables: InSituTables, flags: str | Sequence[str]) -> pd.DataFrame:
    """One row a network: stations, sensors, readings with a value, those that the flags keep, first and last day."""
    kept = apply_flags(tables, flags)
    rows = {}
    for network, sensors in tables.sensors.groupby("network"):
        left = kept.sensors[kept.sensors["network"] == network]
        n, n_kept = int(sensors["n_readings"].sum()), int(left["n_readings"].sum())
        rows[network] = {
            "stations": sensors["station"].nunique(),
            "sensors": len(sensors),
            "sensors_kept": len(left),
            "readings": n,
            "kept": n_kept,
            "kept_percent": 100.0 * n_kept / n,
            "first": sensors["first_reading"].min().date(),
            "last": sensors["last_reading"].max().date(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network").sort_values("readings", ascending=False)


def depth_table(tables: InSituTables) -> pd.DataFrame:
    """Readings by depth of the sensor: those read, and those that the depth policy left out (with all flags)."""
    read = tables.sensors.groupby(depth_names(tables.sensors))["n_readings"].agg(["size", "sum"])
    rows = [(name, int(row["size"]), int(row["sum"]), True) for name, row in read.iterrows()]
    for text, count in tables.report.get("removed_by_depth", {}).items():
        low, high = (round(100.0 * float(edge), 2) for edge in text.removesuffix(" m").split("-"))
        rows.append((f"{low:g} cm" if low == high else f"{low:g}-{high:g} cm", None, count, False))
    table = pd.DataFrame(rows, columns=["depth", "sensors", "readings", "inside_policy"])
    table["sensors"] = table["sensors"].astype("Int64")
    return table.set_index("depth")


def sensor_density(sensors: pd.DataFrame, degrees: float | None = None) -> xr.DataArray:
    """Count sensors in cells, for a heatmap.

    Parameters
    ----------
    sensors : DataFrame
        With ``lat`` and ``lon``.
    degrees : float, optional
        Size of a cell; default about a fortieth of what the sensors span, and 5° on the globe.

    Returns
    -------
    DataArray (lat, lon)
        Counts, NaN where there is no sensor, with a margin of at least 0.4° around the sensors; the globe if they span more
        than 180°.
    """
    lat, lon = (sensors[name].to_numpy("float64") for name in ("lat", "lon"))
    lon = (lon + 180.0) % 360.0 - 180.0
    if not lat.size:
        raise ContractError("sensor_density", "there are no sensors")
    span = max(np.ptp(lat), np.ptp(lon), 0.5)
    if degrees is None:
        degrees = next((one for one in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0) if one >= span / 40.0), 5.0)
    if not 0 < degrees <= 30:
        raise ParameterError("sensor_density", "'degrees' is no size of a cell", got=degrees)
    if np.ptp(lon) > 180.0:
        west, east, south, north = -180.0, 180.0, -90.0, 90.0
    else:
        margin = max(2 * degrees, 0.08 * span, 0.4)
        west, south = (
            max(low, np.floor((v.min() - margin) / degrees) * degrees) for v, low in ((lon, -180), (lat, -90))
        )
        east, north = (min(top, np.ceil((v.max() + margin) / degrees) * degrees) for v, top in ((lon, 180), (lat, 90)))
    rows, columns = max(1, round((north - south) / degrees)), max(1, round((east - west) / degrees))
    counts = np.histogram2d(lat, lon, bins=(rows, columns), range=((south, north), (west, east)))[0]
    return xr.DataArray(
        np.where(counts > 0, counts, np.nan),
        dims=("lat", "lon"),
        name="n_sensors",
        coords={
            "lat": south + (np.arange(rows) + 0.5) * (north - south) / rows,
            "lon": west + (np.arange(columns) + 0.5) * (east - west) / columns,
        },
        attrs={"units": "1", "long_name": f"sensors in a cell of {degrees:g}°"},
    )
