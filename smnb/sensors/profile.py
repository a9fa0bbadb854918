"""What a set of in-situ sensors holds, as tidy tables: the numbers behind the figures of notebook 01_profile_data.

After Batchu et al. 2023, J. Hydrometeorol. 24(10), doi:10.1175/JHM-D-22-0118.1 (Figures 1 to 7 and 16 to 26).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import ks_2samp

from smnb.contract import ContractError, ParameterError, check_range, check_table
from smnb.grids.koppen import NONE
from smnb.loaders.insitu import InSituTables
from smnb.sensors.opening import apply_flags, sensor_rows
from smnb.sensors.predictions import FEW_SENSORS
from smnb.sensors.splits import LEAKS, SIDES, SPLIT_SIDES, make_split

#: Classes of the distance to the nearest training sensor, km; 2.56 and 10 are paper 004's.
DISTANCE_EDGES_KM = (2.56, 10.0, 50.0, 100.0, 500.0)
_HOUR_NS = 3_600_000_000_000
_DAY_NS = 24 * _HOUR_NS


def depth_names(sensors: pd.DataFrame) -> list[str]:
    """Depth of each sensor as text, "5 cm" or "0-5 cm"."""
    depth = (100 * sensors[["depth_from", "depth_to"]]).round(2)
    return [f"{low:g} cm" if low == high else f"{low:g}-{high:g} cm" for low, high in depth.itertuples(index=False)]


def count_sensors(
    sensors: pd.DataFrame, by: str, *, order: Sequence[str] = (), sides: pd.Series | None = None
) -> pd.DataFrame:
    """Count sensors by a column, and by side of a split (`sides`, by ``sensor_id``, as `Split.assignment`).

    Indexed by stratum, those of `order` first, others by size, "none" last: ``n_sensors``, ``share`` (%), ``few`` (fewer than
    five, the paper's asterisk), and a column each side that occurs. `ContractError` if the column is missing.
    """
    check_table("count_sensors", sensors, [by, "sensor_id"])
    values = sensors[by].astype(object).where(sensors[by].notna(), NONE).astype(str)
    found = values.value_counts()
    rest = sorted(set(found.index) - set(order), key=lambda name: (name == NONE, -found[name], name))
    names = [*(name for name in order if name in found.index), *rest]
    table = pd.DataFrame({"n_sensors": found.reindex(names)}, index=pd.Index(names, name=by))
    table["share"] = 100.0 * table["n_sensors"] / len(sensors)
    table["few"] = table["n_sensors"] < FEW_SENSORS
    if sides is not None:
        side = sensors["sensor_id"].map(sides)
        for one in SPLIT_SIDES:
            if (side == one).any():
                table[one] = values[side == one].value_counts().reindex(names, fill_value=0)
    return table


def flag_shares(tables: InSituTables) -> pd.DataFrame:
    """Share of each network's readings that carry each flag, in %; a reading with two flags counts under both.

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
    kept = apply_flags(tables, flags).sensors.groupby("network")["n_readings"].agg(["size", "sum"])
    table = tables.sensors.groupby("network").agg(
        stations=("station", "nunique"),
        sensors=("sensor_id", "size"),
        readings=("n_readings", "sum"),
        first=("first_reading", "min"),
        last=("last_reading", "max"),
    )
    kept = kept.reindex(table.index, fill_value=0)
    table.insert(2, "sensors_kept", kept["size"])
    table.insert(4, "kept", kept["sum"])
    table.insert(5, "kept_percent", 100.0 * table["kept"] / table["readings"])
    table = table.assign(first=table["first"].dt.date, last=table["last"].dt.date)
    return table.sort_values("readings", ascending=False)


def depth_table(tables: InSituTables) -> pd.DataFrame:
    """Readings by depth of the sensor: those read, and those that the depth policy left out (with all flags)."""
    read = tables.sensors.groupby(depth_names(tables.sensors))["n_readings"].agg(sensors="size", readings="sum")
    left_out = tables.report.get("removed_by_depth", {})
    edges = pd.Series(left_out.keys(), dtype=object).str.extract("(?P<depth_from>.+)-(?P<depth_to>.+) m")
    others = pd.DataFrame({"readings": left_out.values()}, depth_names(edges.astype(float)), dtype="int64")
    table = pd.concat([read.assign(inside_policy=True), others.assign(inside_policy=False)])
    return table.astype({"sensors": "Int64"}).rename_axis("depth")


def sensor_density(sensors: pd.DataFrame) -> xr.DataArray:
    """Count sensors in cells ``(lat, lon)``, NaN where there is none, for a heatmap.

    Cells are about a fortieth of what the sensors span, with a margin of at least 0.4° around them; the globe in cells of 5° if
    they span more than 180°.
    """
    check_table("sensor_density", sensors, ["lat", "lon"])
    lat, lon = sensors["lat"].to_numpy("float64"), (sensors["lon"].to_numpy("float64") + 180.0) % 360.0 - 180.0
    span, limits = max(np.ptp(lat), np.ptp(lon), 0.5), np.array([90.0, 180.0])
    degrees = next((one for one in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0) if one >= span / 40.0), 5.0)
    margin = max(2 * degrees, 0.08 * span, 0.4)
    low, high = -limits, limits
    if np.ptp(lon) <= 180.0:
        low = np.maximum(low, np.floor((np.array([lat.min(), lon.min()]) - margin) / degrees) * degrees)
        high = np.minimum(high, np.ceil((np.array([lat.max(), lon.max()]) + margin) / degrees) * degrees)
    edges = [np.linspace(*ends, round(np.ptp(ends) / degrees) + 1) for ends in zip(low, high, strict=True)]
    counts = np.histogram2d(lat, lon, bins=edges)[0]
    coords = {name: (edge[1:] + edge[:-1]) / 2 for name, edge in zip(("lat", "lon"), edges, strict=True)}
    attrs = {"units": "1", "long_name": f"sensors in a cell of {degrees:g}°"}
    return xr.DataArray(np.where(counts > 0, counts, np.nan), coords, ("lat", "lon"), "n_sensors", attrs)


def by_month(readings: pd.DataFrame, sides: pd.Series) -> pd.DataFrame:
    """Count readings by calendar month and side of a split (`sides`, by ``sensor_id``), months without any included.

    Indexed by the month's first day: counts of each side that occurs, and ``n_sensors`` that report in the month.
    """
    check_table("by_month", readings, ["sensor_id", "time"])
    month = readings["time"].to_numpy().astype("datetime64[M]")
    every = np.arange(month.min(), month.max() + 1)
    sensor = readings["sensor_id"].astype("category").cat
    side = sensor.categories.map(sides).to_numpy()
    at, known = (month - every[0]).astype(int), sensor.codes.to_numpy().astype(np.int64)
    if pd.isna(side).any():
        raise ContractError("by_month", "sensors without a side", got=int(pd.isna(side).sum()))
    counts = np.bincount(known * every.size + at, minlength=side.size * every.size).reshape(side.size, every.size)
    index = pd.DatetimeIndex(every.astype("datetime64[ns]"), name="month")
    table = pd.DataFrame({one: counts[side == one].sum(axis=0) for one in SPLIT_SIDES if (side == one).any()}, index)
    return table.assign(n_sensors=(counts > 0).sum(axis=0))


def _steps(tables: InSituTables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sensor's row, and the step to the next reading in ns where that is the same sensor's (else -1), by reading."""
    code, time = sensor_rows(tables), tables.readings["time"].to_numpy().astype("datetime64[ns]").astype(np.int64)
    step = np.append(np.diff(time), -1)
    step[np.append(np.diff(code) != 0, True)] = -1
    return code, time, step


def gaps(tables: InSituTables, *, longer_than_days: float = 1.0) -> pd.DataFrame:
    """Gaps inside the sensors' records: no reading for longer than so many days, which must be above 0.

    ``sensor_id``, ``network``, ``after`` (last reading before), ``until`` (first after), ``days``.
    """
    check_range("gaps", "longer_than_days", longer_than_days, 0, ends="(]", units="days")
    code, time, step = _steps(tables)
    at = np.flatnonzero(step > longer_than_days * _DAY_NS)
    times = time.astype("datetime64[ns]")
    found = tables.sensors[["sensor_id", "network"]].iloc[code[at]].reset_index(drop=True)
    return found.assign(after=times[at], until=times[np.minimum(at + 1, time.size - 1)], days=step[at] / _DAY_NS)


def coverage(tables: InSituTables) -> pd.DataFrame:
    """How complete each sensor's record is, indexed by ``sensor_id``.

    ``network``, ``n_readings``, ``step_hours`` (the commonest step), ``days`` (first to last reading), ``complete`` (share of the
    steps from first to last that have a reading, %), ``longest_gap_days``.
    """
    code, _, step = _steps(tables)
    steps = pd.DataFrame({"sensor": code, "step": step})[step > 0]
    found = steps.groupby("sensor")["step"].agg(["sum", "max"])
    # the commonest step, the shorter of equals
    kinds = steps.value_counts().reset_index().sort_values(["count", "step"], ascending=[False, True])
    found["usual"] = kinds.drop_duplicates("sensor").set_index("sensor")["step"]
    found = found.reindex(range(len(tables.sensors)))
    count = np.bincount(code, minlength=len(tables.sensors))
    expected = (found["sum"] / found["usual"] + 1).fillna(1.0)
    columns = {
        "n_readings": count,
        "step_hours": found["usual"] / _HOUR_NS,
        "days": found["sum"].fillna(0) / _DAY_NS,
        "complete": np.minimum(100.0, 100.0 * count / expected),
        "longest_gap_days": found["max"].fillna(0) / _DAY_NS,
    }
    return (
        pd.DataFrame(columns)
        .set_index(tables.sensors["sensor_id"])
        .assign(network=tables.sensors["network"].to_numpy())
    )


def availability(tables: InSituTables, *, columns: int = 150) -> pd.DataFrame:
    """Share of the time with readings, by sensor and about so many periods of whole days: the calendar of the archive.

    Sensors (by network, then from north to south; the index has both) by the first day of each period; % of the readings that
    the sensor's own commonest step makes possible.
    """
    code, time, _ = _steps(tables)
    day = time // _DAY_NS
    first, days = int(day.min()), int(day.max() - day.min() + 1)
    width = max(1, round(days / columns))
    number = -(-days // width)
    at = (day - first) // width
    size = len(tables.sensors)
    counts = np.bincount(code * number + at, minlength=size * number).reshape(size, number)
    step = coverage(tables)["step_hours"].fillna(1.0).to_numpy()
    length = np.full(number, float(width))
    length[-1] = days - width * (number - 1)
    share = np.minimum(100.0, 100.0 * counts / (24.0 * length / step[:, None]))
    begin = (np.datetime64(first, "D") + width * np.arange(number)).astype("datetime64[ns]")
    index = pd.MultiIndex.from_frame(tables.sensors[["network", "sensor_id"]])
    table = pd.DataFrame(share, index=index, columns=pd.DatetimeIndex(begin))
    return table.iloc[np.lexsort((-tables.sensors["lat"].to_numpy(), tables.sensors["network"].to_numpy()))]


def compare_sides(values: Mapping[str, pd.Series], sides: pd.Series) -> pd.DataFrame:
    """Distribution of each quantity (a Series by ``sensor_id``) on each side of a split, and how far it is from training's.

    Indexed by quantity and side: ``n``, ``mean``, ``std``, ``ks``: the greatest distance of the cumulative distribution from that
    of training (0 same, 1 apart). No p-value: neighbouring values are not independent.
    """
    rows = {}
    for name, series in values.items():
        side, numbers = series.index.map(sides).to_numpy(), series.to_numpy("float64")
        for one in SIDES:
            here, train = numbers[side == one], numbers[side == "train"]
            if here.size and train.size:
                ks = float(ks_2samp(here, train).statistic)
                rows[name, one] = {"n": here.size, "mean": here.mean(), "std": here.std(), "ks": ks}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["n", "mean", "std", "ks"])
    table.index = pd.MultiIndex.from_tuples(rows, names=["quantity", "side"])
    return table.astype({"n": int})


def bin_distances(nearest: pd.DataFrame) -> pd.DataFrame:
    """Count held-out sensors of `Audit.nearest` by distance to the nearest training sensor (paper 004, Figure 6).

    Indexed by class (edges `DISTANCE_EDGES_KM`), a column each side that occurs.
    """
    edges = DISTANCE_EDGES_KM
    names = [f"< {edges[0]:g}", *(f"{a:g}-{b:g}" for a, b in itertools.pairwise(edges)), f"≥ {edges[-1]:g}"]
    at = np.searchsorted(edges, nearest["distance_km"].to_numpy("float64"), side="right")
    sides = [one for one in SIDES if (nearest["side"] == one).any()]
    counts = {one: np.bincount(at[(nearest["side"] == one).to_numpy()], minlength=len(names)) for one in sides}
    return pd.DataFrame(counts, index=pd.Index(names, name="distance_km"))


def audit_splits(
    sensors: pd.DataFrame, kinds: Iterable[str] = ("sensor", "station", "network", "block"), *, seed: int = 0
) -> pd.DataFrame:
    """Audit several kinds of split of the same sensors; arguments as `make_split`.

    Indexed by kind: sensors of each side and dropped by a buffer, held-out sensors touched by each leak, median distance to the
    nearest training sensor (km), share of validation sensors within 2.56 km and beyond 10 km (%), and ``problem`` where the kind
    cannot split these sensors.
    """
    rows: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        try:
            split = make_split(sensors, kind, seed=seed, accept=LEAKS)
        except ParameterError as error:
            if "no sensor is left" not in error.what:
                raise
            rows[kind] = {"problem": error.what}
            continue
        found, counts = split.audit(), split.counts()
        rows[kind] = {side: counts[side] for side in SIDES} | {"dropped": counts["buffer"]}
        rows[kind] |= {leak: found.leaks.get(leak, 0) for leak in LEAKS[:3]}
        rows[kind]["median_km"] = float(found.nearest["distance_km"].median())
        rows[kind]["within_2.56_km"] = 100.0 * found.share_within(2.56)
        rows[kind]["beyond_10_km"] = 100.0 * (1.0 - found.share_within(10.0))
        rows[kind]["problem"] = ""
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("split")
