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

#: ISMN's flags; a reading carries one, or several joined by commas. G good; U unchecked, in older archives; M missing; C01 below
#: 0, C02 above 0.60 m3 m-3, C03 above saturation; below 0 degC are D01 the soil, D02 the air, D03 GLDAS's soil; a rise without
#: rain in situ D04 or of GLDAS D05; D06 spike, D07 drop, D08 jump, D09 constant low values after a drop, D10 saturated plateau.
FLAGS = ("G", "U", "M", "C01", "C02", "C03", *(f"D{number:02}" for number in range(1, 11)))
#: Policies by name: the flag strings that they keep; None keeps everything.
POLICIES: dict[str, tuple[str, ...] | None] = {"paper": ("G", "C02", "C03", "C02,C03"), "strict": ("G",), "all": None}
DEFAULT_DEPTH = (0.0, 0.051)  # 0-5 cm and 5 cm, with the 2 inches (0.0508 m) of SCAN and SNOTEL inside, in m
_TOO_DEEP = 3.0  # a depth interval that ends here or deeper (m) is one in cm or mm: networks measure to 2 m or so
Period = tuple[np.datetime64 | None, np.datetime64 | None]  # first and last instant, each None where it is open
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
_FATES = (
    "kept",
    "fill",
    "above_one",
    "duplicate_same",
    "duplicate_conflicting",
    "outside_period",
    "flag",
    "other_units",
)
#: The least value that is no fill, native units: networks write -1, -99, -99.9, -999, -6999, -9999, also divided by 100.
_LEAST = {
    **{"soil_moisture": -0.9, "precipitation": -0.9, "snow_depth": -90.0, "snow_water_equivalent": -90.0},
    **{"soil_temperature": -90.0, "air_temperature": -98.9, "surface_temperature": -98.9},
}
_FILL = -9998.0
#: Threads that read and parse ahead of the writer; decompression and array arithmetic run outside Python's lock.
_READERS = 2


@dataclass
class LostLines:
    """Lines of a file that say nothing, and what is wrong with the first that was found."""

    lines: int = 0
    first: FormatError | None = None

    def add(self, error: FormatError, lines: int = 1) -> None:
        """Count lines that are lost for one reason."""
        self.lines += lines
        self.first = self.first or error


@dataclass(frozen=True)
class FlagPolicy:
    """A set of flag strings to keep; the order of flags inside a string does not matter."""

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
        spaces). A reading is kept when all of its flags together equal one of the strings. A `ParameterError` if one is
        unknown, or there is none.
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
    """Whether a sensor's whole interval lies inside the policy's (both in m, positive downwards)."""
    # half of the file names' last decimal, against the binary representation of decimals
    return depth is None or (depth[0] - 5e-7 <= depth_from <= depth_to <= depth[1] + 5e-7)


class Part(NamedTuple):
    """One file of a sensor: its name, what reads it (`READINGS`) and counts lost lines, and what only counts its lines."""

    file: str
    read: Callable[[LostLines], pa.Table]
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
    lost_lines: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    converted: list[dict[str, Any]] = field(default_factory=list)
    stations_with_other_coordinates: list[dict[str, Any]] = field(default_factory=list)
    networks_without_sensors: list[str] = field(default_factory=list)
    files_of_format: Counter[str] = field(default_factory=Counter)
    settings: dict[str, Any] = field(default_factory=dict)

    def lose_lines(self, file: str, lost: LostLines) -> None:
        """Name a file of which lines are lost, if any are."""
        if lost.lines:
            self.lost_lines.append({"file": file, "lines": lost.lines, "reason": str(lost.first)})

    def leave_out(self, sensor: Sensor, file: str, readings: int, reason: Any) -> None:
        """Name a file of a sensor that is not taken."""
        about = {"sensor_id": sensor.sensor_id, "file": file, "readings": readings}
        self.left_out.append({**about, "reason": str(reason)})

    def add(self, other: Report) -> None:
        """Add what was found while a sensor's files were read."""
        self.readings.update(other.readings)
        for name in ("damaged_files", "lost_lines", "left_out", "converted"):
            getattr(self, name).extend(getattr(other, name))

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists, sorted by name."""
        counts = json.loads(json.dumps(vars(self), sort_keys=True))
        return {**counts.pop("settings"), **counts}


def _rank(flag: str) -> int:
    """How bad a flag string is: good, then doubtful for its value alone, then unchecked, then all others."""
    parts = set(flag.split(","))
    return 0 if parts == {"G"} else 1 if parts <= {"G", "C02", "C03"} else 2 if parts <= {"U", "M"} else 3


def _has_a_daily_course(time: np.ndarray, value: np.ndarray) -> bool:
    """Whether values of five days or more go up and down by the hour of the day, as degrees do and moisture in % does not."""
    moment, values = pd.DatetimeIndex(time), pd.Series(value.astype(float))
    day, hour = moment.floor("D"), moment.hour
    departure = values - values.groupby(day).transform("mean")
    by_hour = departure.groupby(hour).transform("mean")
    return day.nunique() >= 5 and bool(departure.std() > 1.0 and by_hour.var() > 0.5 * departure.var())


def to_volumetric(series: pa.Table, file: str, sensor: Sensor, report: Report) -> pa.Table:
    """Return a file's soil moisture as m3 m-3: divided by 100 if it is percent, nothing if it is neither beyond doubt.

    It is percent if no value lies outside 0 to 100 and nearly all lie above 1, with a median that a soil can have; what has the
    daily course of a temperature is not.
    """
    value = series["value"].to_numpy()
    if not (value > 1.0).any():
        return series
    real = (value > _LEAST["soil_moisture"]) & (value < 999.0) & (value != np.float32(99.9))  # no fills
    above = np.count_nonzero(value[real] > 1.0)
    if 2 * above <= np.count_nonzero(real):
        return series
    low, middle, high = np.percentile(value[real], [0, 50, 100]) if above else (np.nan,) * 3
    got = f"median {middle:.3g}, {low:.3g} to {high:.3g}"
    warm = bool(above) and _has_a_daily_course(series["time"].to_numpy()[real], value[real])
    got += ", with a daily course as temperatures have" * warm
    if not warm and low >= 0 and high <= 100 and 2 <= middle <= 70 and above >= max(10, 0.95 * np.count_nonzero(real)):
        about = {"sensor_id": sensor.sensor_id, "file": file, "readings": series.num_rows}
        report.converted.append({**about, "reason": f"percent ({got}), divided by 100"})
        volumetric = np.where(real, np.round(value.astype(float) / 100, 6), np.nan).astype(np.float32)
        return series.set_column(1, READINGS.field("value"), pa.array(volumetric))
    next_step = "Convert the file to m3 m-3, or remove it from the archive"
    expected, what = plain("m3 m-3, 0 to 1"), "the values are no volumetric soil moisture"
    error = FormatError(file, what, got=got, expected=expected, next_step=next_step)
    report.leave_out(sensor, file, series.num_rows, error)
    report.readings.update(read=series.num_rows, other_units=series.num_rows)
    return series.slice(0, 0)


def clean(series: pa.Table, row: dict[str, Any], policy: FlagPolicy, period: Period, report: Report) -> pa.Table:
    """Drop fills, sort by time, collapse duplicate times, apply period and flag policy; count each in `report`.

    Of duplicate times the better flag stays (one that the policy keeps, and G before others), of equal flags the first in the
    file, whether the values agree (``duplicate_same``) or not (``duplicate_conflicting``). Soil moisture above 1 m3 m-3 is
    dropped and counted. Both ends of the period are inclusive. Times come out unique and increasing.
    """
    time, value, flag = (series[name].combine_chunks() for name in ("time", "value", "flag"))
    time, value, code = time.to_numpy(), value.to_numpy(), flag.indices.to_numpy()
    texts = flag.dictionary.to_pylist()
    allowed = np.array([policy.keeps(text) for text in texts], dtype=bool)
    fate = np.zeros(value.size, np.int8)

    def lose(name: str, rows: np.ndarray) -> None:
        fate[rows] = _FATES.index(name)

    lose("fill", ~(value > _LEAST.get(row["variable"], _FILL)))  # NaN too
    if row["variable"] == "soil_moisture":
        lose("above_one", value > 1.0)
    kept = np.flatnonzero(fate == 0)
    if (np.diff(time[kept]) <= np.timedelta64(0)).any():
        latest = np.maximum.accumulate(time[kept].view(np.int64))
        report.readings["out_of_order"] += int((time[kept].view(np.int64) < latest).sum())
        rank = np.array([_rank(text) for text in texts]) + 10 * ~allowed
        kept = kept[np.lexsort((rank[code[kept]], time[kept]))]  # a stable order
        again = np.diff(time[kept], prepend=time[kept[:1]] - np.timedelta64(1)) == np.timedelta64(0)
        same = value[kept] == value[kept[~again]][np.cumsum(~again) - 1]
        lose("duplicate_same", kept[again & same])
        lose("duplicate_conflicting", kept[again & ~same])
        kept = kept[~again]
    low, high = period
    if low is not None:
        lose("outside_period", kept[time[kept] < low])
    if high is not None:
        lose("outside_period", kept[time[kept] > high])
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

    What is damaged, lost, left out, converted or empty is named in `report`. Lines outside the depth are counted, not parsed.
    """
    chosen = [sensor for sensor in sensors if sensor.row["variable"] == variable]
    report.sensors += Counter(in_source=len(sensors), other_variable=len(sensors) - len(chosen))  # no zeros

    def load(sensor: Sensor) -> tuple[Sensor, bool, list[Any], Report]:
        inside = depth_inside(sensor.row["depth_from"], sensor.row["depth_to"], depth)
        found, own = [], Report()
        for part in sensor.parts:
            lost = LostLines()
            try:
                one = part.read(lost) if inside else part.count()
            except FormatError as error:
                own.damaged_files.append({"file": part.file, "reason": str(error)})
                continue
            own.lose_lines(part.file, lost)
            found += [to_volumetric(one, part.file, sensor, own) if inside and variable == "soil_moisture" else one]
        return sensor, inside, found, own

    for number, (sensor, inside, found, own) in enumerate(_read_ahead(load, chosen), 1):
        row = sensor.row
        report.add(own)
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
