"""A sensor as every in-situ source describes it, which of its readings are kept, and the counts of all others.

Flags: Dorigo et al. 2013, doi:10.2136/vzj2012.0097; the policy ``paper``: Batchu et al. 2023, doi:10.1175/JHM-D-22-0118.1.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from smnb.contract import FormatError, ParameterError, plain
from smnb.grids import great_circle_km

#: ISMN's flags; a reading carries one, or several joined by commas. G good; U unchecked, in older archives; M missing; C01 below
#: 0, C02 above 0.60 m3 m-3, C03 above saturation; below 0 degC are D01 the soil, D02 the air, D03 GLDAS's soil; a rise without
#: rain in situ D04 or of GLDAS D05; D06 spike, D07 drop, D08 jump, D09 constant low values after a drop, D10 saturated plateau.
FLAGS = ("G", "U", "M", "C01", "C02", "C03", *(f"D{number:02}" for number in range(1, 11)))
#: Policies by name: the flag strings that they keep; None keeps everything.
POLICIES: dict[str, tuple[str, ...] | None] = {"paper": ("G", "C02", "C03", "C02,C03"), "strict": ("G",), "all": None}
#: 0-5 cm and 5 cm, with the 2 inches (0.0508 m) of SCAN and SNOTEL inside, in m.
DEFAULT_DEPTH = (0.0, 0.051)
#: A depth interval that ends here or deeper (m) is one in cm or mm: networks measure to 2 m or so.
_TOO_DEEP = 3.0
#: First and last instant, each None where it is open.
Period = tuple[np.datetime64 | None, np.datetime64 | None]
TEXT = pa.dictionary(pa.int32(), pa.string())
#: Readings of a sensor: UTC, native units (NaN or -9999 for none), and flags.
READINGS = pa.schema([("time", pa.timestamp("ns")), ("value", pa.float32()), ("flag", TEXT), ("provider_flag", TEXT)])
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
#: What becomes of readings: a reading counts under the first of these, after "kept", that removes it.
_FATES = ("kept", "fill", "above_one", "duplicate_same", "duplicate_conflicting", "outside_period", "flag")
_FILL = -9998.0
#: Threads that read and parse ahead of the writer; decompression and array arithmetic run outside Python's lock.
_READERS = 2
_SAME_SENSOR_KM = 2.0
_SAME_STATION_KM = 0.1


class UnitsError(FormatError):
    """Readings that are no volumetric soil moisture: not one file's damage, so nothing goes on after it."""


@dataclass(frozen=True)
class FlagPolicy:
    """A set of flag strings to keep; the order of flags inside a string does not matter.

    Examples
    --------
    >>> policy = flag_policy("paper")
    >>> [policy.keeps(flag) for flag in ("G", "C03,C02", "C03,D01", "U")]
    [True, True, False, False]
    >>> policy.culprits("C03,D01")
    ['D01']
    """

    name: str
    allowed: frozenset[frozenset[str]] | None

    def keeps(self, flag: str) -> bool:
        """Whether a reading with this flag string is kept."""
        return self.allowed is None or frozenset(flag.split(",")) in self.allowed

    def culprits(self, flag: str) -> list[str]:
        """Flags of a removed string that are allowed in no combination; all of them where each would be allowed."""
        parts = flag.split(",")
        known = frozenset().union(*(self.allowed or ()))
        return [part for part in parts if part not in known] or parts


def flag_policy(flags: str | Sequence[str]) -> FlagPolicy:
    """Return the policy of a name, or of an explicit list of flag strings.

    Parameters
    ----------
    flags : str or sequence of str
        A name of `POLICIES`, or flag strings (``["G", "C03", "C02,C03"]``; in one string they are separated by
        spaces). A reading is kept when all of its flags together equal one of the strings.

    Returns
    -------
    FlagPolicy

    Raises
    ------
    ParameterError
        For an unknown policy or flag, or an empty list.
    """
    if isinstance(flags, FlagPolicy):
        return flags
    if isinstance(flags, str) and flags == "all":
        return FlagPolicy("all", None)
    strings = (POLICIES.get(flags) or flags.split()) if isinstance(flags, str) else list(flags)
    combinations = frozenset(frozenset(part.strip() for part in str(one).split(",")) for one in strings)
    unknown = sorted(frozenset().union(*combinations) - set(FLAGS))
    if unknown or not combinations:
        what = "there is no such policy or flag" if unknown else "no flag is kept"
        next_step = "Give a policy's name, or a list of flag strings such as ['G', 'C03', 'C02,C03']"
        raise ParameterError(
            "flag_policy", what, got=unknown or flags, expected=[*POLICIES, *FLAGS], next_step=next_step
        )
    return FlagPolicy(flags if isinstance(flags, str) else " ".join(map(str, flags)), combinations)


def check_depth(depth: Sequence[float] | None) -> tuple[float, float] | None:
    """Return a depth interval as two floats in m, or None for every depth."""
    if depth is None:
        return None
    try:
        low, high = (float(value) for value in depth)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ParameterError(
            "depth", "is no interval of two numbers in m, top first", got=depth, expected=DEFAULT_DEPTH
        )
    if high >= _TOO_DEEP:
        what, expected = "no sensor lies so deep", plain(f"metres, less than {_TOO_DEEP:g}")
        step = f"Were metres meant, {low / 100:g} to {high / 100:g}? For sensors of every depth give none (--any-depth)"
        raise ParameterError("depth", what, got=depth, expected=expected, next_step=step)
    return low, high


def depth_inside(depth_from: float, depth_to: float, depth: tuple[float, float] | None) -> bool:
    """Whether a sensor's whole interval lies inside the policy's (both in m, positive downwards).

    Examples
    --------
    >>> [depth_inside(*d, (0.0, 0.051)) for d in [(0, 0.05), (0.0508, 0.0508), (0, 0.1), (0.1, 0.1)]]
    [True, True, False, False]
    """
    # half of the file names' last decimal, against the binary representation of decimals
    return depth is None or (depth[0] - 5e-7 <= depth_from <= depth_to <= depth[1] + 5e-7)


class Part(NamedTuple):
    """One file of a sensor: its name, what reads it (`READINGS`), and what only counts its lines."""

    file: str
    read: Callable[[], pa.Table]
    count: Callable[[], int]


class Sensor(NamedTuple):
    """A row of the sensor table (by `SENSOR_COLUMNS`) and the files that hold its readings."""

    row: dict[str, Any]
    parts: list[Part]

    @property
    def sensor_id(self) -> str:
        """Network, station, instrument and depth, joined by ``__``, and the variable unless it is soil moisture."""
        return self.row["sensor_id"]

    @classmethod
    def of(cls, part: Part, **columns: Any) -> Sensor:
        """The sensor of one file; its id is built from its columns alone, so that no other sensor can change it."""
        row = {**SENSOR_COLUMNS, **columns, "file": part.file}
        names = [row["network"], row["station"], "-".join(str(row["instrument"]).replace("_", "-").split())]
        names.append(f"{row['depth_from']:.4f}-{row['depth_to']:.4f}")
        row["sensor_id"] = "__".join(names if row["variable"] == "soil_moisture" else [*names, row["variable"]])
        return cls(row, [part])


def merge_sensors(sensors: Sequence[Sensor]) -> tuple[list[Sensor], list[dict[str, Any]]]:
    """Join files of one sensor, and list stations whose files give other coordinates.

    The list has for each station whose places are more than 100 m apart ``network``, ``station``, ``km`` (the largest
    distance to its first sensor) and ``sensors``. Sensors come in order of their id.
    """
    rows = pd.DataFrame([one.row for one in sensors], columns=list(SENSOR_COLUMNS))

    def from_first(by: str | list[str]) -> pd.DataFrame:
        first = rows.groupby(by)[["lat", "lon", "file"]].transform("first")
        return first.assign(km=great_circle_km(first["lat"], first["lon"], rows["lat"], rows["lon"]))

    place = from_first("sensor_id")
    if (place["km"] > _SAME_SENSOR_KM).any():
        at = int(np.argmax(place["km"] > _SAME_SENSOR_KM))
        row, first = rows.loc[at], place.loc[at]
        what = f"sensor {row['sensor_id']} is {first['km']:.1f} km from where another file has it"
        got, expected = (row["lat"], row["lon"]), plain(f"({first['lat']}, {first['lon']}) as in {first['file']}")
        next_step = "Remove one of the files, or give the two stations different names"
        raise FormatError(row["file"], what, got=got, expected=expected, next_step=next_step)
    km = from_first(["network", "station"])["km"]
    far = km.groupby([rows["network"], rows["station"]]).transform("max") > _SAME_STATION_KM
    moved = [
        {
            "network": network,
            "station": station,
            "km": round(one["km"].max(), 3),
            "sensors": sorted(set(one["sensor_id"])),
        }
        for (network, station), one in rows.assign(km=km)[far].groupby(["network", "station"])
    ]
    merged: dict[str, Sensor] = {}
    for sensor in sorted(sensors, key=lambda one: one.sensor_id):
        known = merged.setdefault(sensor.sensor_id, Sensor(dict(sensor.row), []))
        known.parts.extend(sensor.parts)
        known.row["file"] = "|".join(part.file for part in known.parts)
    return list(merged.values()), moved


def sensor_frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the sensor table; land-cover codes are nullable integers."""
    frame = pd.DataFrame(rows)
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

    readings: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(["read", *_FATES, "out_of_order"], 0)))
    removed_by_flag: Counter[str] = field(default_factory=Counter)
    removed_by_flag_string: Counter[str] = field(default_factory=Counter)
    removed_by_flag_of_network: dict[str, Counter[str]] = field(default_factory=partial(defaultdict, Counter))
    removed_by_depth: Counter[str] = field(default_factory=Counter)
    sensors: Counter[str] = field(default_factory=Counter)
    sensors_without_readings: list[str] = field(default_factory=list)
    damaged_files: list[dict[str, str]] = field(default_factory=list)
    refused_files: list[dict[str, str]] = field(default_factory=list)
    stations_with_other_coordinates: list[dict[str, Any]] = field(default_factory=list)
    networks_without_sensors: list[str] = field(default_factory=list)
    files_of_format: Counter[str] = field(default_factory=Counter)
    settings: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists, sorted by name."""
        counts = json.loads(json.dumps(vars(self), sort_keys=True))
        return {**counts.pop("settings"), **counts}


def clean(series: pa.Table, row: dict[str, Any], policy: FlagPolicy, period: Period, report: Report) -> pa.Table:
    """Drop fills, sort by time, collapse duplicate times, apply period and flag policy; count each in `report`.

    Of duplicate times the first in the file stays, whether the values agree (``duplicate_same``) or not
    (``duplicate_conflicting``). Soil moisture above 1 m3 m-3 is dropped and counted. Both ends of the period are inclusive.
    Times come out unique and increasing.
    """
    time, value, flag = (series[name].combine_chunks() for name in ("time", "value", "flag"))
    time, value, code = time.to_numpy(), value.to_numpy(), flag.indices.to_numpy()
    fate = np.zeros(value.size, np.int8)

    def lose(name: str, rows: np.ndarray) -> None:
        fate[rows] = _FATES.index(name)

    lose("fill", ~(value > _FILL))  # NaN too
    if row["variable"] == "soil_moisture":
        high, left = np.flatnonzero(value > 1.0), np.count_nonzero(fate == 0)
        if high.size * 2 > left:
            what = "the values are no volumetric soil moisture"
            got = f"median {np.median(value[fate == 0]):.3g}"
            next_step = "Convert the file (percent / 100), or remove it from the archive"
            raise UnitsError(row["file"], what, got=got, expected=plain("m3 m-3, 0 to 1"), next_step=next_step)
        lose("above_one", high)
    kept = np.flatnonzero(fate == 0)
    if (np.diff(time[kept]) <= np.timedelta64(0)).any():
        latest = np.maximum.accumulate(time[kept].view(np.int64))
        report.readings["out_of_order"] += int((time[kept].view(np.int64) < latest).sum())
        _, first, group = np.unique(time[kept], return_index=True, return_inverse=True)
        same = value[kept] == value[kept[first]][group]
        again = first[group] != np.arange(kept.size)
        lose("duplicate_same", kept[again & same])
        lose("duplicate_conflicting", kept[again & ~same])
        kept = kept[first]
    low, high = period
    if low is not None:
        lose("outside_period", kept[time[kept] < low])
    if high is not None:
        lose("outside_period", kept[time[kept] > high])
    texts = flag.dictionary.to_pylist()
    allowed = np.array([policy.keeps(text) for text in texts], dtype=bool)
    removed = np.flatnonzero((fate == 0) & ~allowed[code])
    lose("flag", removed)
    for text, count in zip(texts, np.bincount(code[removed], minlength=len(texts)).tolist(), strict=True):
        if count:
            report.removed_by_flag_string[text] += count
            for one in policy.culprits(text):
                report.removed_by_flag[one] += count
                report.removed_by_flag_of_network[row["network"]][one] += count
    kept = kept[fate[kept] == 0]
    report.readings.update(dict(zip(_FATES, np.bincount(fate, minlength=len(_FATES)).tolist(), strict=True)))
    report.readings["read"] += value.size
    return series if np.array_equal(kept, np.arange(value.size)) else series.take(pa.array(kept))


def _read_ahead(load: Callable[[Sensor], Any], sensors: Iterable[Sensor]) -> Iterator[Any]:
    """Yield what `load` returns, in order; a few sensors are read ahead."""
    pending: deque[Future] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        for sensor in sensors:
            pending.append(pool.submit(load, sensor))
            if len(pending) > _READERS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def stream(
    sensors: Sequence[Sensor],
    policy: FlagPolicy,
    depth: tuple[float, float] | None,
    variable: str,
    report: Report,
    *,
    period: Period = (None, None),
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Sensor, pa.Table]]:
    """Yield each sensor of the variable and depth with its cleaned readings; a few sensors are in memory at a time.

    A damaged file is named in ``report.damaged_files`` and skipped. Sensors that have nothing left are named in
    ``report.sensors_without_readings`` and are not yielded. Lines of sensors outside the depth are counted, not parsed.
    """
    chosen = [sensor for sensor in sensors if sensor.row["variable"] == variable]
    report.sensors += Counter(in_source=len(sensors), other_variable=len(sensors) - len(chosen))  # no zeros

    def load(sensor: Sensor) -> tuple[Sensor, bool, list[Any], list[dict[str, str]]]:
        inside = depth_inside(sensor.row["depth_from"], sensor.row["depth_to"], depth)
        found, damaged = [], []
        for part in sensor.parts:
            try:
                found.append(part.read() if inside else part.count())
            except FormatError as error:
                damaged.append({"file": part.file, "reason": str(error)})
        return sensor, inside, found, damaged

    for number, (sensor, inside, found, damaged) in enumerate(_read_ahead(load, chosen), 1):
        row = sensor.row
        report.damaged_files += damaged
        if progress is not None:
            progress(number, len(chosen))
        if not inside:
            report.sensors["outside_depth"] += 1
            report.removed_by_depth[f"{row['depth_from']:g}-{row['depth_to']:g} m"] += sum(found)
            continue
        series = READINGS.empty_table() if not found else pa.concat_tables(found).unify_dictionaries()
        series = clean(series, row, policy, period, report)
        if series.num_rows:
            report.sensors["kept"] += 1
            yield sensor, series
        else:
            report.sensors_without_readings.append(sensor.sensor_id)
