"""From sources of in-situ readings to two tables: in memory, or as Parquet, one sensor at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from smnb.contract import CatalogError, ContractError, FormatError, ParameterError
from smnb.files import atomic_path, write_json
from smnb.loaders import parse_period
from smnb.loaders.insitu.archive import Archive
from smnb.loaders.insitu.index import find_sensors
from smnb.loaders.insitu.policies import DEFAULT_DEPTH, check_depth, flag_policy
from smnb.loaders.insitu.sensors import Report, Sensor, merge_sensors, sensor_frame, stream
from smnb.loaders.insitu.stm import VARIABLE_NAMES, Series
from smnb.loaders.insitu.uscrn import find_parsed_sensors, find_text_sensors, is_parsed_table, is_text

_ROWS_A_GROUP = 1 << 19
_FILES = ("sensors.parquet", "readings.parquet", "ingest_report.json")
_TEXT = pa.dictionary(pa.int32(), pa.string())
_UNITS = {
    "soil_moisture": "m3 m-3",
    "soil_temperature": "degC",
    "air_temperature": "degC",
    "surface_temperature": "degC",
}


@dataclass
class InSituTables:
    """The two tables of in-situ data and what happened on the way.

    Parameters
    ----------
    sensors : DataFrame
        One row a sensor, as `index_archive` returns, with ``n_readings``, ``first_reading`` and ``last_reading``.
    readings : DataFrame
        ``sensor_id`` (categorical), ``time`` (UTC, datetime64[ns]), ``soil_moisture`` (float32, m3 m-3), ``flag`` and
        ``provider_flag`` (categorical); sorted by sensor and time, unique.
    report : dict
        Settings and counts, see `ingest`.
    catalog_id : str
        The catalog's entry.
    synthetic : bool
        Whether the data were simulated.
    """

    sensors: pd.DataFrame
    readings: pd.DataFrame
    report: dict[str, Any] = field(default_factory=dict)
    catalog_id: str = ""
    synthetic: bool = False

    def check(self, who: str = "InSituTables") -> InSituTables:
        """Check the tables against the contract and return them.

        Raises
        ------
        ContractError
            If ids are not unique, a reading has no sensor, or a sensor's times are not unique and increasing.
        """
        if not self.sensors["sensor_id"].is_unique:
            doubled = self.sensors["sensor_id"][self.sensors["sensor_id"].duplicated()].head(3).tolist()
            raise ContractError(who, "a sensor_id occurs twice", got=doubled)
        ids = self.readings["sensor_id"]
        orphans = sorted(set(ids.unique()) - set(self.sensors["sensor_id"]))
        if orphans:
            raise ContractError(who, "readings of no known sensor", got=orphans[:3])
        time = self.readings["time"].to_numpy()
        if not np.issubdtype(time.dtype, np.datetime64):
            raise ContractError(
                who, "'time' is not a UTC datetime without a zone", got=str(self.readings["time"].dtype)
            )
        codes = ids.cat.codes.to_numpy() if isinstance(ids.dtype, pd.CategoricalDtype) else pd.factorize(ids)[0]
        same = codes[1:] == codes[:-1]
        if (np.diff(time)[same] <= np.timedelta64(0)).any() or int((~same).sum()) + 1 > max(1, ids.nunique()):
            raise ContractError(who, "a sensor's readings are not together, or its times not unique and increasing")
        return self


def _expand(paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], who: str) -> list[Path]:
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not listed:
        raise CatalogError(who, "no file was given", next_step="Check the entry's files with: smnb catalog")
    for path in listed:
        if not Path(path).exists():
            raise CatalogError(who, "there is no such file or folder", got=str(path))
    return [Path(path) for path in listed]


def _sources(paths: list[Path]) -> tuple[list[Path], dict[Path, list[Path]], list[Path], list[Path]]:
    """Archives (zip or folder), loose ISMN files by common folder, USCRN texts, and parsed tables."""
    archives, loose, texts, tables = [], [], [], []
    for path in paths:
        if path.is_dir():
            inside = sorted(one for one in path.rglob("*.txt") if is_text(one.name))
            texts.extend(inside)
            if not inside or next(path.rglob("*.[sS][tT][mM]"), None) is not None:
                archives.append(path)
        elif path.suffix.lower() in (".stm", ".csv"):
            loose.append(path)
        elif is_parsed_table(path.name):
            tables.append(path)
        elif path.suffix.lower() == ".txt":
            texts.append(path)
        else:
            archives.append(path)
    groups = {}
    if loose:
        root = Path(os.path.commonpath([path.parent.resolve() for path in loose]))
        groups[root] = [path.resolve() for path in loose]
    return archives, groups, texts, tables


def _collect(
    stack: contextlib.ExitStack, paths: list[Path], cache_dir: str | os.PathLike[str] | None, report: Report
) -> list[Sensor]:
    """Sensors of all sources; archives stay open on `stack`."""
    archives, groups, texts, tables = _sources(paths)
    sensors: list[Sensor] = []
    for path, files in [*((path, None) for path in archives), *groups.items()]:
        archive = stack.enter_context(Archive(path, files))
        found, problems = find_sensors(archive, cache_dir)
        sensors.extend(found)
        report.damaged.extend(problems["damaged_files"])
        report.refused.extend(problems["refused_files"])
        report.empty_networks.extend(problems["networks_without_sensors"])
        report.formats.update(problems["formats"])
    found, damaged = find_text_sensors(texts)
    sensors.extend(found)
    report.damaged.extend(damaged)
    report.formats.update(f"uscrn_{'daily01' if path.name.startswith('CRND') else 'hourly02'}" for path in texts)
    for path in tables:
        sensors.extend(find_parsed_sensors(path))
        report.formats["uscrn_table"] += 1
    merged, report.moved_stations = merge_sensors(sensors)
    return merged


@dataclass
class _Options:
    """Checked options of a read."""

    policy: Any
    depth: tuple[float, float] | None
    variable: str
    start: np.datetime64 | None
    end: np.datetime64 | None


def _check(
    who: str,
    flags: str | Sequence[str],
    depth: Sequence[float] | None,
    variable: str,
    start: str | None,
    end: str | None,
) -> _Options:
    if variable not in VARIABLE_NAMES.values():
        raise ParameterError(who, "there is no such variable", got=variable, expected=sorted(VARIABLE_NAMES.values()))
    return _Options(flag_policy(flags), check_depth(depth), variable, *parse_period(who, start, end))


def _settings(paths: list[Path], options: _Options) -> dict[str, Any]:
    allowed = options.policy.allowed
    return {
        "sources": [path.name for path in paths],
        "variable": options.variable,
        "flag_policy": options.policy.name,
        "flags_kept": None if allowed is None else sorted(",".join(sorted(one)) for one in allowed),
        "depth": None if options.depth is None else list(options.depth),
        "period": [None if one is None else str(one) for one in (options.start, options.end)],
    }


class _Rows:
    """Rows of the sensor table of those sensors that have readings."""

    def __init__(self) -> None:
        self._sensors: list[Sensor] = []
        self._spans: list[tuple[int, np.datetime64, np.datetime64]] = []

    def add(self, sensor: Sensor, series: Series) -> None:
        self._sensors.append(sensor)
        self._spans.append((series.time.size, series.time[0], series.time[-1]))

    def frame(self) -> pd.DataFrame:
        frame = sensor_frame(self._sensors)
        spans = list(zip(*self._spans, strict=True)) or [(), (), ()]
        frame["n_readings"] = np.array(spans[0], dtype=np.int64)
        frame["first_reading"] = np.array(spans[1], dtype="datetime64[ns]")
        frame["last_reading"] = np.array(spans[2], dtype="datetime64[ns]")
        return frame


def _nothing_left(who: str, report: Report) -> ContractError:
    counts = {**report.sensors, **{f"readings {key}": count for key, count in report.readings.items() if count}}
    detail = {**counts, "removed by flag": dict(report.by_flag), "damaged files": len(report.damaged)}
    return ContractError(
        who,
        "no reading is left",
        got=detail,
        next_step="Widen the flags (flags='all'), the depth, or the period, and check the variable",
    )


def _arrow(sensor: Sensor, series: Series, schema: pa.Schema) -> pa.Table:
    def text(codes: np.ndarray, values: list[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(values, pa.string()))

    size = series.time.size
    columns = [
        text(np.zeros(size, np.int32), [sensor.sensor_id]),
        pa.array(series.time, pa.timestamp("ns")),
        pa.array(series.value, pa.float32()),
        text(series.flag, series.flags),
        text(series.provider_flag, series.provider_flags),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _schema(variable: str, catalog_id: str, synthetic: bool) -> pa.Schema:
    about = {"catalog_id": catalog_id, "synthetic": str(int(synthetic)), "time": "UTC", "variable": variable}
    about["units"] = _UNITS.get(variable, "native")
    return pa.schema(
        [
            ("sensor_id", _TEXT),
            ("time", pa.timestamp("ns")),
            (variable, pa.float32()),
            ("flag", _TEXT),
            ("provider_flag", _TEXT),
        ],
        metadata={f"smnb:{key}": value for key, value in about.items()},
    )


def ingest(
    archive: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    flags: str | Sequence[str] = "paper",
    depth: Sequence[float] | None = DEFAULT_DEPTH,
    variable: str = "soil_moisture",
    start: str | None = None,
    end: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    catalog_id: str = "",
    synthetic: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Read in-situ data of any supported form and write the two tables as Parquet, with a report.

    Parameters
    ----------
    archive : path-like or sequence of path-like
        ISMN zips, folders or .stm files; USCRN texts, a folder of them, or a parsed USCRN table.
    out : path-like
        Folder for ``sensors.parquet``, ``readings.parquet`` and ``ingest_report.json``; each appears when it is whole.
    flags : str or sequence of str
        Flag policy, see `flag_policy`.
    depth : (float, float), optional
        Sensors whose whole depth interval lies inside, m; None for every depth.
    variable : str
        What to read.
    start, end : str, optional
        Period (ISO, UTC), both inclusive.
    cache_dir : path-like, optional
        Folder of kept indices, see `index_archive`.
    catalog_id : str
        Kept in the files' metadata.
    synthetic : bool
        Whether the data were simulated; kept likewise.
    progress : callable, optional
        Called with the number of sensors done and in all.

    Returns
    -------
    dict
        The report: settings; ``readings`` read, kept, and removed as fill, as above 1 m3 m-3, as duplicate with the
        same or another value, as outside the period, by flag (these sum to those read), and found out of order;
        removals by single flag (a reading counts under each of its flags that is not allowed), by flag string, by
        flag and network, and by depth; sensors by fate; damaged and refused files with their reasons; stations whose
        files give other coordinates; networks without sensors; files of each format.

    Raises
    ------
    CatalogError
        If a path does not exist.
    FormatError
        If no file of a source is readable, a sensor is in two places, or values are not volumetric.
    ContractError
        If no reading is left; nothing is written then.
    ParameterError
        For an unknown flag, variable, depth or period.
    """
    who = "ingest"
    options = _check(who, flags, depth, variable, start, end)
    paths, out = _expand(archive, who), Path(out)
    report, rows = Report(), _Rows()
    report.settings = {**_settings(paths, options), "catalog_id": catalog_id, "synthetic": bool(synthetic)}
    schema = _schema(variable, catalog_id, synthetic)
    with contextlib.ExitStack() as stack:
        sensors = _collect(stack, paths, cache_dir, report)
        temporary = stack.enter_context(atomic_path(out / _FILES[1]))
        with pq.ParquetWriter(temporary, schema, compression="zstd", compression_level=1) as writer:
            pending: list[pa.Table] = []
            for sensor, series in stream(
                sensors,
                options.policy,
                options.depth,
                variable,
                report,
                start=options.start,
                end=options.end,
                progress=progress,
            ):
                rows.add(sensor, series)
                pending.append(_arrow(sensor, series, schema))
                if sum(table.num_rows for table in pending) >= _ROWS_A_GROUP:
                    writer.write_table(pa.concat_tables(pending).unify_dictionaries())
                    pending = []
            if pending:
                writer.write_table(pa.concat_tables(pending).unify_dictionaries())
        if not report.readings["kept"]:
            raise _nothing_left(who, report)
        with atomic_path(out / _FILES[0]) as sensors_file:
            rows.frame().to_parquet(sensors_file, index=False)
    result = report.as_dict()
    write_json(out / _FILES[2], result)
    return result


def open_insitu(
    paths: Sequence[str | os.PathLike[str]],
    *,
    catalog_id: str,
    synthetic: bool = False,
    flags: str | Sequence[str] = "paper",
    depth: Sequence[float] | None = DEFAULT_DEPTH,
    variable: str = "soil_moisture",
    start: str | None = None,
    end: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> InSituTables:
    """Open in-situ data of any supported form into memory (16 bytes a reading); options and errors as `ingest`.

    Parameters
    ----------
    paths : sequence of path-like
        As `ingest`.
    catalog_id : str
        The catalog's entry.
    synthetic : bool
        Whether the data were simulated.
    flags : str or sequence of str
        Flag policy.
    depth : (float, float), optional
        Depth policy, m.
    variable : str
        What to read.
    start, end : str, optional
        Period.
    cache_dir : path-like, optional
        Folder of kept indices.

    Returns
    -------
    InSituTables
        Sensors, readings and report.
    """
    who = "open_insitu"
    options = _check(who, flags, depth, variable, start, end)
    listed = _expand(paths, who)
    report, rows = Report(), _Rows()
    report.settings = {**_settings(listed, options), "catalog_id": catalog_id, "synthetic": bool(synthetic)}
    with contextlib.ExitStack() as stack:
        sensors = _collect(stack, listed, cache_dir, report)
        readings = _in_memory(
            stream(sensors, options.policy, options.depth, variable, report, start=options.start, end=options.end),
            variable,
            rows,
        )
    if not report.readings["kept"]:
        raise _nothing_left(who, report)
    return InSituTables(rows.frame(), readings, report.as_dict(), catalog_id, bool(synthetic)).check(who)


def _in_memory(found: Iterator[tuple[Sensor, Series]], variable: str, rows: _Rows) -> pd.DataFrame:
    flags: dict[str, int] = {}
    providers: dict[str, int] = {}
    times, values, ids, flag_codes, provider_codes, names = [], [], [], [], [], []

    def code(codes: np.ndarray, texts: list[str], known: dict[str, int]) -> np.ndarray:
        used = np.bincount(codes, minlength=len(texts)) > 0  # texts of removed readings are no categories
        mapped = [known.setdefault(text, len(known)) if one else -1 for text, one in zip(texts, used, strict=True)]
        return np.array(mapped, dtype=np.int32)[codes]

    for sensor, series in found:
        rows.add(sensor, series)
        ids.append(np.full(series.time.size, len(names), dtype=np.int32))
        names.append(sensor.sensor_id)
        times.append(series.time)
        values.append(series.value)
        flag_codes.append(code(series.flag, series.flags, flags))
        provider_codes.append(code(series.provider_flag, series.provider_flags, providers))

    def categorical(parts: list[np.ndarray], texts: Sequence[str]) -> pd.Categorical:
        return pd.Categorical.from_codes(np.concatenate(parts), categories=pd.Index(list(texts), dtype=object))

    if not names:
        return pd.DataFrame({"sensor_id": [], "time": [], variable: [], "flag": [], "provider_flag": []})
    frame = pd.DataFrame(
        {
            "sensor_id": categorical(ids, names),
            "time": np.concatenate(times),
            variable: np.concatenate(values),
            "flag": categorical(flag_codes, flags),
            "provider_flag": categorical(provider_codes, providers),
        }
    )
    return frame


def read_readings(archive: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], **options: Any) -> pd.DataFrame:
    """Return the long table of readings alone; everything that `open_insitu` accepts."""
    return open_insitu(
        [archive] if isinstance(archive, (str, os.PathLike)) else archive, **{"catalog_id": "", **options}
    ).readings


def read_tables(folder: str | os.PathLike[str], sensors: Sequence[str] | None = None) -> InSituTables:
    """Read what `ingest` wrote, all of it or some sensors.

    Parameters
    ----------
    folder : path-like
        Folder with ``sensors.parquet`` and ``readings.parquet``.
    sensors : sequence of str, optional
        Ids; only the row groups that hold them are read.

    Returns
    -------
    InSituTables

    Raises
    ------
    CatalogError
        If a table is absent.
    FormatError
        If one is unreadable.
    ParameterError
        For an unknown id.
    """
    who, folder = "read_tables", Path(folder)
    for name in _FILES[:2]:
        if not (folder / name).is_file():
            raise CatalogError(
                who,
                "there is no such file",
                got=str(folder / name),
                next_step="Write it with: smnb ingest ARCHIVE --out DIR",
            )
    try:
        table = pd.read_parquet(folder / _FILES[0])
        if sensors is not None:
            unknown = sorted(set(sensors) - set(table["sensor_id"]))
            if unknown or not len(sensors):
                raise ParameterError(who, "there is no such sensor", got=unknown, next_step="See sensors.parquet")
            table = table[table["sensor_id"].isin(list(sensors))].reset_index(drop=True)
        filters = None if sensors is None else [("sensor_id", "in", list(sensors))]
        readings = pq.read_table(folder / _FILES[1], filters=filters)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(who, f"a table in {folder.name} is unreadable: {error}", next_step="Ingest again") from error
    about = {key.decode(): value.decode() for key, value in (readings.schema.metadata or {}).items()}
    frame = readings.to_pandas()
    frame["sensor_id"] = frame["sensor_id"].astype("category")
    return InSituTables(
        table, frame, catalog_id=about.get("smnb:catalog_id", ""), synthetic=about.get("smnb:synthetic") == "1"
    )
