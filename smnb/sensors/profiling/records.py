"""How the sensors' records lie in time: months, gaps, completeness."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from smnb.contract import ContractError, ParameterError
from smnb.loaders.insitu import InSituTables
from smnb.sensors.profiling.sources import sensor_rows
from smnb.sensors.splits import SIDES

_HOUR_NS = 3_600_000_000_000
_DAY_NS = 24 * _HOUR_NS


def _label_of(readings: pd.DataFrame, labels: pd.Series | None) -> pd.Series:
    if labels is None:
        return pd.Series("readings", index=readings.index)
    found = readings["sensor_id"].map(labels)
    if found.isna().any():
        raise ContractError("by_month", "readings of sensors without a label", got=int(found.isna().sum()))
    return found.astype(str)


def by_month(readings: pd.DataFrame, labels: pd.Series | None = None) -> pd.DataFrame:
    """Count readings by calendar month, months without any included.

    Parameters
    ----------
    readings : DataFrame
        With ``sensor_id`` and ``time``.
    labels : Series, optional
        A label (such as the side of a split) by ``sensor_id``; one column a label then.

    Returns
    -------
    DataFrame
        Indexed by the month's first day: counts, and ``n_sensors`` that report in the month.
    """
    if readings.empty:
        raise ContractError("by_month", "there are no readings")
    month = readings["time"].to_numpy().astype("datetime64[M]")
    every = np.arange(month.min(), month.max() + 1)
    label = _label_of(readings, labels).to_numpy()
    names = [one for one in (*SIDES, "buffer") if labels is not None and (label == one).any()]
    names += sorted(set(label) - set(names))
    at = (month - every[0]).astype(int)
    index = pd.DatetimeIndex(every.astype("datetime64[ns]"), name="month")
    table = pd.DataFrame({name: np.bincount(at[label == name], minlength=every.size) for name in names}, index=index)
    pairs = pd.DataFrame({"at": at, "sensor": readings["sensor_id"].astype("category").cat.codes}).drop_duplicates()
    table["n_sensors"] = np.bincount(pairs["at"], minlength=every.size)
    return table


def _steps(tables: InSituTables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sensor's row, and the step to the next reading in ns where that is the same sensor's (else -1), by reading."""
    code, time = sensor_rows(tables), tables.readings["time"].to_numpy().astype("datetime64[ns]").astype(np.int64)
    step = np.append(np.diff(time), -1)
    step[np.append(np.diff(code) != 0, True)] = -1
    return code, time, step


def gaps(tables: InSituTables, *, longer_than_days: float = 1.0) -> pd.DataFrame:
    """Gaps inside the sensors' records: no reading for longer than so many days.

    Returns
    -------
    DataFrame
        ``sensor_id``, ``network``, ``after`` (last reading before), ``until`` (first after), ``days``.

    Raises
    ------
    ParameterError
        Unless the length is above 0.
    """
    if not longer_than_days > 0:
        raise ParameterError("gaps", "'longer_than_days' is not above 0", got=longer_than_days)
    code, time, step = _steps(tables)
    at = np.flatnonzero(step > longer_than_days * _DAY_NS)
    sensors = tables.sensors.iloc[code[at]]
    return pd.DataFrame(
        {
            "sensor_id": sensors["sensor_id"].to_numpy(),
            "network": sensors["network"].to_numpy(),
            "after": time[at].astype("datetime64[ns]"),
            "until": time[np.minimum(at + 1, time.size - 1)].astype("datetime64[ns]"),
            "days": step[at] / _DAY_NS,
        }
    )


def _usual_step(code: np.ndarray, step: np.ndarray, size: int) -> np.ndarray:
    """Commonest step of each sensor in ns, the shorter of equals; NaN where there is none."""
    kinds, number = np.unique(step, return_inverse=True)
    pairs, count = np.unique(code.astype(np.int64) * kinds.size + number, return_counts=True)
    sensor, kind = np.divmod(pairs, kinds.size)
    order = np.lexsort((kind, -count, sensor))
    first = order[np.flatnonzero(np.diff(sensor[order], prepend=-1))]
    usual = np.full(size, np.nan)
    usual[sensor[first]] = kinds[kind[first]]
    return usual


def coverage(tables: InSituTables) -> pd.DataFrame:
    """How complete each sensor's record is.

    Returns
    -------
    DataFrame
        Indexed by ``sensor_id``: ``network``, ``n_readings``, ``step_hours`` (the commonest step), ``days`` (first to last
        reading), ``complete`` (share of the steps from first to last that have a reading, %), ``longest_gap_days``.
    """
    code, _, step = _steps(tables)
    size = len(tables.sensors)
    inside = step > 0
    usual = _usual_step(code[inside], step[inside], size)
    span = np.bincount(code[inside], weights=step[inside].astype(float), minlength=size)
    longest = np.zeros(size)
    np.maximum.at(longest, code[inside], step[inside])
    count = np.bincount(code, minlength=size)
    with np.errstate(invalid="ignore"):
        expected = np.where(np.isfinite(usual), span / usual + 1, 1.0)
    return pd.DataFrame(
        {
            "network": tables.sensors["network"].to_numpy(),
            "n_readings": count,
            "step_hours": usual / _HOUR_NS,
            "days": span / _DAY_NS,
            "complete": np.minimum(100.0, 100.0 * count / expected),
            "longest_gap_days": longest / _DAY_NS,
        },
        index=pd.Index(tables.sensors["sensor_id"], name="sensor_id"),
    )


def availability(tables: InSituTables, *, columns: int = 150) -> pd.DataFrame:
    """Share of the time with readings, by sensor and period: the calendar of the archive.

    Parameters
    ----------
    tables : InSituTables
    columns : int
        About how many periods, of whole days each.

    Returns
    -------
    DataFrame
        Sensors (by network, then from north to south; the index has both) by the first day of each period; % of the
        readings that the sensor's own commonest step makes possible.
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


def pick_sensor(tables: InSituTables, *, sensor_id: str = "", seed: int = 0, among: Iterable[str] | None = None) -> str:
    """Choose the sensor asked for, or a random one of those that have at least the median number of readings.

    Parameters
    ----------
    tables : InSituTables
    sensor_id : str
        The sensor; empty for a random one.
    seed : int
        Of the draw.
    among : iterable of str, optional
        Draw only from these.

    Raises
    ------
    ParameterError
        If there is no such sensor, or none to draw from.
    """
    ids = tables.sensors["sensor_id"]
    if sensor_id:
        if sensor_id not in set(ids):
            raise ParameterError("pick_sensor", "there is no such sensor", got=sensor_id, expected=ids.head(3).tolist())
        return sensor_id
    count = coverage(tables)["n_readings"]
    count = count if among is None else count[count.index.isin(list(among))]
    if count.empty:
        raise ParameterError("pick_sensor", "there is no sensor to draw from")
    good = sorted(map(str, count.index[count >= count.median()]))
    return good[int(np.random.default_rng(seed).integers(len(good)))]
