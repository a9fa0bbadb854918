"""In-situ readings on 1 km pixels at the time of a scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from smnb.contract import ContractError, plain
from smnb.grids import EaseWindow
from smnb.loaders.insitu import InSituTables
from smnb.sensors import match_tables

#: Networks of the paper, and the instrument that they have in common.
PAPER_NETWORKS = ("ARM", "SCAN", "SNOTEL", "USCRN")
PAPER_INSTRUMENT = "Hydraprobe"


def select_sensors(
    sensors: pd.DataFrame, *, networks: Sequence[str] | None = PAPER_NETWORKS, instrument: str | None = PAPER_INSTRUMENT
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep sensors of some networks whose instrument's name has a part (None for all); and count what was there and left out.

    Examples
    --------
    >>> table = pd.DataFrame({"network": ["SCAN", "SCAN", "X"], "instrument": ["Hydraprobe II", "EC5", "Hydraprobe II"]})
    >>> select_sensors(table)[1]
    {'sensors': 3, 'sensors_of_other_networks': 1, 'sensors_of_other_instruments': 1, 'sensors_chosen': 1}
    """
    of_network = np.ones(len(sensors), bool) if networks is None else sensors["network"].isin(list(networks)).to_numpy()
    right = np.ones(len(sensors), bool)
    if instrument is not None:
        names = sensors["instrument"].fillna("").str.replace("-", " ")
        right = names.str.contains(instrument, case=False, regex=False).to_numpy()
    kept = of_network & right
    counts = {
        "sensors": len(sensors),
        "sensors_of_other_networks": int((~of_network).sum()),
        "sensors_of_other_instruments": int((of_network & ~right).sum()),
        "sensors_chosen": int(kept.sum()),
    }
    if not kept.any():
        there, expected = sorted(set(sensors["network"])), plain(f"{networks}, {instrument}")
        step = f"Networks there are: {there}; pass networks=None or instrument=None for all"
        raise ContractError("select_sensors", "no sensor is left", got=counts, expected=expected, next_step=step)
    return sensors[kept].reset_index(drop=True), counts


def readings_at(
    tables: InSituTables, sensors: pd.DataFrame, area: EaseWindow, times: np.ndarray, window: str
) -> pd.DataFrame:
    """Mean of what the sensors of an area of the 1 km grid read within `window` of each time: a row a time and sensor.

    ``time_index``, ``sensor_id``, ``row``, ``col`` (of the global grid), ``soil_moisture`` (m3 m-3), ``n_readings``.
    """
    rows, cols = area.row_start + np.array([0, area.shape[0] - 1]), area.col_start + np.array([0, area.shape[1] - 1])
    here = sensors.loc[sensors["row"].between(*rows) & sensors["col"].between(*cols), ["sensor_id", "row", "col"]]
    columns = ["time_index", "sensor_id", "row", "col", "soil_moisture", "n_readings"]
    if here.empty:
        return pd.DataFrame(columns=columns)
    wanted = [here.assign(time_index=i, time=np.datetime64(time, "ns")) for i, time in enumerate(times)]
    wanted = pd.concat(wanted, ignore_index=True)
    span, table = pd.Timedelta(window), tables.readings
    near = table["sensor_id"].isin(set(here["sensor_id"]))
    near &= table["time"].between(times.min() - span, times.max() + span)
    readings = table.loc[near, ["sensor_id", "time", "soil_moisture"]].astype({"sensor_id": str})
    found, _ = match_tables(wanted, readings, value="soil_moisture", window=window, method="mean")
    found = found.rename(columns={"soil_moisture_count": "n_readings"})
    return found.loc[found["soil_moisture"].notna(), columns].reset_index(drop=True)
