"""A sensor as every in-situ source describes it, and what is done to its readings, all of it counted.

The tables that come out are the same for every source:

- sensors: one row a sensor, `SENSOR_COLUMNS`;
- readings: ``sensor_id``, ``time`` (UTC, datetime64[ns]), ``soil_moisture`` (float32, m3 m-3), ``flag``,
  ``provider_flag``, sorted by time within a sensor, and a sensor's readings together.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import FormatError, plain
from smnb.grids import great_circle_km
from smnb.loaders.insitu.policies import FlagPolicy, depth_inside

#: First and last instant, each None where it is open.
Period = tuple[np.datetime64 | None, np.datetime64 | None]
#: Columns of the sensor table and what they hold where a source says nothing.
SENSOR_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("sensor_id", "network", "station"), ""),
    **dict.fromkeys(("lat", "lon", "elevation", "depth_from", "depth_to"), np.nan),
    "instrument": "",
    "variable": "soil_moisture",
    **dict.fromkeys(("climate_KG", "climate_KG_2017", "climate_insitu", "lc_2000", "lc_2005", "lc_2010", "lc_insitu")),
    **dict.fromkeys(("sand_fraction", "silt_fraction", "clay_fraction", "organic_carbon", "saturation"), np.nan),
    **dict.fromkeys(("format", "file"), ""),
}
#: What becomes of readings; all but the last sum to "read".
_FATES = "read kept fill above_one duplicate_same duplicate_conflicting outside_period flag out_of_order"
_FILL = -9998.0
#: Threads that read and parse ahead of the writer; decompression and array arithmetic run outside Python's lock.
_READERS = 2
_SAME_SENSOR_KM = 2.0
_SAME_STATION_KM = 0.1


class UnitsError(FormatError):
    """Readings that are no volumetric soil moisture: not one file's damage, so nothing goes on after it."""


@dataclass
class Readings:
    """Readings of a sensor: UTC, float32 in native units (NaN or -9999 for none), and codes into the texts of their flags."""

    time: NDArray[np.datetime64]
    value: NDArray[np.float32]
    flag: NDArray[np.int32]
    provider_flag: NDArray[np.int32]
    flags: list[str]
    provider_flags: list[str]

    def take(self, rows: NDArray[np.intp] | slice) -> Readings:
        """Some of them, by place."""
        columns = (one[rows] for one in (self.time, self.value, self.flag, self.provider_flag))
        return Readings(*columns, self.flags, self.provider_flags)

    @classmethod
    def join(cls, parts: Sequence[Readings]) -> Readings:
        """Those of several files, one behind the other."""
        if len(parts) == 1:
            return parts[0]
        flags, flag = _recode([(part.flags, part.flag) for part in parts])
        providers, provider = _recode([(part.provider_flags, part.provider_flag) for part in parts])
        time, value = (np.concatenate([getattr(part, name) for part in parts]) for name in ("time", "value"))
        return cls(time, value, flag, provider, flags, providers)


def _recode(parts: Sequence[tuple[list[str], NDArray]]) -> tuple[list[str], NDArray[np.int32]]:
    """Codes of several lists of texts as codes of one."""
    texts = list(dict.fromkeys(text for known, _ in parts for text in known))
    place = {text: k for k, text in enumerate(texts)}
    return texts, np.concatenate([np.array([place[text] for text in known], np.int32)[codes] for known, codes in parts])


class Part(NamedTuple):
    """One file of a sensor: its name, what reads it, and what only counts its lines."""

    file: str
    read: Callable[[], Readings]
    count: Callable[[], int]


@dataclass
class Sensor:
    """A row of the sensor table (``row``, by `SENSOR_COLUMNS`) and the files that hold its readings."""

    row: dict[str, Any]
    parts: list[Part]

    @property
    def sensor_id(self) -> str:
        """Network, station, instrument and depth, joined by ``__``, and the variable unless it is soil moisture."""
        return self.row["sensor_id"]


def sensor_id(row: dict[str, Any]) -> str:
    """Build the id of a sensor from its row alone, so that no other sensor can change it."""
    instrument = "-".join(str(row["instrument"]).replace("_", "-").split())
    depth = f"{row['depth_from']:.4f}-{row['depth_to']:.4f}"
    parts = [row["network"], row["station"], instrument, depth]
    return "__".join(parts if row["variable"] == "soil_moisture" else [*parts, row["variable"]])


def _distance_km(a: dict[str, Any], b: dict[str, Any]) -> float:
    return float(great_circle_km(a["lat"], a["lon"], b["lat"], b["lon"]))


def merge_sensors(sensors: Sequence[Sensor]) -> tuple[list[Sensor], list[dict[str, Any]]]:
    """Join files of one sensor, and list stations whose files give other coordinates.

    The list has for each station whose places are more than 100 m apart ``network``, ``station``, ``km`` (the largest
    distance to its first sensor) and ``sensors``. Sensors come in order of their id.
    """
    by_id: dict[str, Sensor] = {}
    stations: dict[tuple[str, str], dict[str, Any]] = {}
    for sensor in sensors:
        row = sensor.row
        first = stations.setdefault((row["network"], row["station"]), {"row": row, "km": 0.0, "sensors": []})
        distance = _distance_km(first["row"], row)
        first["km"] = max(first["km"], distance)
        first["sensors"].append(sensor.sensor_id)
        known = by_id.get(sensor.sensor_id)
        if known is None:
            by_id[sensor.sensor_id] = Sensor(dict(row), list(sensor.parts))
            continue
        apart = _distance_km(known.row, row)
        if apart > _SAME_SENSOR_KM:
            what = f"sensor {sensor.sensor_id} is {apart:.1f} km from where another file has it"
            got = (row["lat"], row["lon"])
            expected = plain(f"({known.row['lat']}, {known.row['lon']}) as in {known.parts[0].file}")
            next_step = "Remove one of the files, or give the two stations different names"
            raise FormatError(sensor.parts[0].file, what, got=got, expected=expected, next_step=next_step)
        known.parts.extend(sensor.parts)
        known.row["file"] = "|".join(part.file for part in known.parts)
    moved = [
        {"network": key[0], "station": key[1], "km": round(one["km"], 3), "sensors": sorted(set(one["sensors"]))}
        for key, one in sorted(stations.items())
        if one["km"] > _SAME_STATION_KM
    ]
    return [by_id[one] for one in sorted(by_id)], moved


def sensor_frame(sensors: Sequence[Sensor]) -> pd.DataFrame:
    """Return the sensor table; land-cover codes are nullable integers."""
    frame = pd.DataFrame([one.row for one in sensors], columns=list(SENSOR_COLUMNS))
    for name, default in SENSOR_COLUMNS.items():
        if name in ("lc_2000", "lc_2005", "lc_2010"):
            frame[name] = frame[name].astype("Int16")
        elif isinstance(default, float):
            frame[name] = frame[name].astype("float64")
        else:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    return frame


@dataclass
class Report:
    """What went in, what came out, and what went where; `as_dict` is what is written as JSON."""

    readings: Counter[str] = field(default_factory=Counter)
    by_flag: Counter[str] = field(default_factory=Counter)
    by_flag_string: Counter[str] = field(default_factory=Counter)
    by_network: dict[str, Counter[str]] = field(default_factory=dict)
    by_depth: Counter[str] = field(default_factory=Counter)
    sensors: Counter[str] = field(default_factory=Counter)
    damaged: list[dict[str, str]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    without_readings: list[str] = field(default_factory=list)
    moved_stations: list[dict[str, Any]] = field(default_factory=list)
    empty_networks: list[str] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    settings: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists."""
        return {
            **self.settings,
            "readings": {name: self.readings[name] for name in _FATES.split()},
            "removed_by_flag": dict(sorted(self.by_flag.items())),
            "removed_by_flag_string": dict(sorted(self.by_flag_string.items())),
            "removed_by_flag_of_network": {k: dict(sorted(v.items())) for k, v in sorted(self.by_network.items())},
            "removed_by_depth": dict(sorted(self.by_depth.items())),
            "sensors": dict(sorted(self.sensors.items())),
            "sensors_without_readings": sorted(self.without_readings),
            "damaged_files": self.damaged,
            "refused_files": self.refused,
            "stations_with_other_coordinates": self.moved_stations,
            "networks_without_sensors": self.empty_networks,
            "files_of_format": dict(sorted(self.formats.items())),
        }


def clean(series: Readings, row: dict[str, Any], policy: FlagPolicy, period: Period, report: Report) -> Readings:
    """Drop fills, sort by time, collapse duplicate times, apply period and flag policy; count each in `report`.

    The order matters for the counts: a reading is counted under the first of these that removes it. Of duplicate times
    the first in the file stays, whether the values agree (``duplicate_same``) or not (``duplicate_conflicting``).

    Soil moisture above 1 m3 m-3 is dropped and counted. Both ends of the period are inclusive. Times come out unique and
    increasing.
    """
    report.readings["read"] += series.time.size
    good = series.value > _FILL  # false for NaN
    report.readings["fill"] += int((~good).sum())
    values = series.value[good]
    if row["variable"] == "soil_moisture" and values.size:
        high = values > 1.0
        if int(high.sum()) * 2 > values.size:
            what = "the values are no volumetric soil moisture"
            got = f"median {float(np.median(values)):.3g}"
            next_step = "Convert the file (percent / 100), or remove it from the archive"
            raise UnitsError(row["file"], what, got=got, expected=plain("m3 m-3, 0 to 1"), next_step=next_step)
        if high.any():
            report.readings["above_one"] += int(high.sum())
            good &= ~(series.value > 1.0)
    if not good.all():
        series = series.take(np.flatnonzero(good))
    if (np.diff(series.time) <= np.timedelta64(0)).any():
        latest = np.maximum.accumulate(series.time.astype(np.int64))
        report.readings["out_of_order"] += int((series.time.astype(np.int64)[1:] < latest[:-1]).sum())
        series = series.take(np.argsort(series.time, kind="stable"))
        fresh = np.concatenate([[True], np.diff(series.time) > np.timedelta64(0)])
        kept_value = series.value[np.maximum.accumulate(np.where(fresh, np.arange(fresh.size), 0))]
        report.readings["duplicate_same"] += int((~fresh & (series.value == kept_value)).sum())
        report.readings["duplicate_conflicting"] += int((~fresh & (series.value != kept_value)).sum())
        series = series.take(np.flatnonzero(fresh))
    start, end = period
    if start is not None or end is not None:
        low = 0 if start is None else np.searchsorted(series.time, start)
        high = series.time.size if end is None else np.searchsorted(series.time, end, "right")
        report.readings["outside_period"] += int(series.time.size - (high - low))
        series = series.take(slice(low, high))
    keep = np.array([policy.keeps(flag) for flag in series.flags], dtype=bool)
    if not keep.all():
        counts = np.bincount(series.flag, minlength=len(series.flags))
        for flag, count, kept in zip(series.flags, counts.tolist(), keep, strict=True):
            if count and not kept:
                report.readings["flag"] += count
                report.by_flag_string[flag] += count
                for one in policy.culprits(flag):
                    report.by_flag[one] += count
                    report.by_network.setdefault(row["network"], Counter())[one] += count
        series = series.take(np.flatnonzero(keep[series.flag]))
    report.readings["kept"] += series.time.size
    return series


def _read_ahead(
    sensors: Sequence[Sensor], task: Callable[[Part, Sensor], Any]
) -> Iterator[tuple[Sensor, list[Any], list[dict[str, str]]]]:
    """Yield each sensor with what `task` makes of its files, and its damaged files; a few sensors are read ahead."""

    def load(sensor: Sensor) -> tuple[list[Any], list[dict[str, str]]]:
        results, damaged = [], []
        for part in sensor.parts:
            try:
                results.append(task(part, sensor))
            except FormatError as error:
                damaged.append({"file": part.file, "reason": str(error)})
        return results, damaged

    pending: deque[tuple[Sensor, Future]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        for sensor in sensors:
            pending.append((sensor, pool.submit(load, sensor)))
            if len(pending) > _READERS:
                first, future = pending.popleft()
                yield first, *future.result()
        while pending:
            first, future = pending.popleft()
            yield first, *future.result()


def stream(
    sensors: Sequence[Sensor],
    policy: FlagPolicy,
    depth: tuple[float, float] | None,
    variable: str,
    report: Report,
    *,
    period: Period = (None, None),
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Sensor, Readings]]:
    """Yield each sensor of the variable and depth with its cleaned readings; a few sensors are in memory at a time.

    A damaged file is named in ``report.damaged`` and skipped. Sensors that have nothing left are named in
    ``report.without_readings`` and are not yielded. Lines of sensors outside the depth are counted, not parsed.
    """
    report.sensors["in_source"] += len(sensors)
    chosen = [sensor for sensor in sensors if sensor.row["variable"] == variable]
    if len(chosen) < len(sensors):
        report.sensors["other_variable"] += len(sensors) - len(chosen)

    def inside(sensor: Sensor) -> bool:
        return depth_inside(sensor.row["depth_from"], sensor.row["depth_to"], depth)

    def task(part: Part, sensor: Sensor) -> Readings | int:
        return part.read() if inside(sensor) else part.count()

    for number, (sensor, results, damaged) in enumerate(_read_ahead(chosen, task), 1):
        row = sensor.row
        report.damaged.extend(damaged)
        if progress is not None:
            progress(number, len(chosen))
        if not inside(sensor):
            report.sensors["outside_depth"] += 1
            report.by_depth[f"{row['depth_from']:g}-{row['depth_to']:g} m"] += sum(results)
            continue
        series = clean(Readings.join(results), row, policy, period, report) if results else None
        if series is not None and series.time.size:
            report.sensors["kept"] += 1
            yield sensor, series
        else:
            report.without_readings.append(sensor.sensor_id)
