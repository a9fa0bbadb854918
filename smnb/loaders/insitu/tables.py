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

from smnb.contract import CatalogError, ContractError, FormatError, ParameterError, check_choice, check_table, foreign
from smnb.files import atomic_set, finish_set, held_output, write_json
from smnb.loaders import check_parquet, parquet_writer, parse_period, write_parquet
from smnb.loaders.insitu import uscrn
from smnb.loaders.insitu.archive import Archive, find_sensors, merge_sensors
from smnb.loaders.insitu.sensors import (
    DEFAULT_DEPTH,
    READINGS,
    SENSOR_COLUMNS,
    TEXT,
    Report,
    Sensor,
    check_depth,
    flag_policy,
    sensor_frame,
    stream,
)
from smnb.loaders.insitu.stm import VARIABLE_NAMES

_ROWS_A_GROUP = 1 << 19
_FILES = ("sensors.parquet", "readings.parquet", "ingest_report.json")


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
        Settings and counts, see `write_tables`.
    """

    sensors: pd.DataFrame
    readings: pd.DataFrame
    report: dict[str, Any] = field(default_factory=dict)
    catalog_id: str = ""
    synthetic: bool = False

    def check(self, who: str = "InSituTables") -> InSituTables:
        """Return the tables; raise `ContractError` if ids are not unique, or a sensor's times not unique and increasing."""
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


def _collect(stack: contextlib.ExitStack, paths: list[Path], report: Report, cache_dir: Any) -> list[Sensor]:
    """Sensors of archives (zip or folder), loose ISMN files, USCRN texts and tables; archives stay open on `stack`."""
    loose = [path.resolve() for path in paths if path.suffix.lower() in (".stm", ".csv") and path.is_file()]
    archives: list[tuple[Path, list[Path] | None]] = []
    texts: list[Path] = []
    sensors: list[Sensor] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(one for one in path.rglob("*.txt") if uscrn.is_text(one.name))
            texts.extend(inside)
            if not inside or next(path.rglob("*.[sS][tT][mM]"), None) is not None:
                archives.append((path, None))
        elif path.name.endswith((".parquet", ".parquet.gz")):
            sensors.extend(uscrn.find_parsed_sensors(path, report))
        elif path.suffix.lower() == ".txt":
            texts.append(path)
        elif path.resolve() not in loose:
            archives.append((path, None))
    if loose:
        archives.append((Path(os.path.commonpath([path.parent for path in loose])), loose))
    for path, files in archives:
        sensors.extend(find_sensors(stack.enter_context(Archive(path, files)), report, cache_dir))
    if texts:
        sensors.extend(uscrn.find_text_sensors(texts, report))
    return merge_sensors(sensors, report)


def _read(
    who: str,
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    report: Report,
    rows: list[dict[str, Any]],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    flags: str | Sequence[str] = "paper",
    depth: Sequence[float] | None = DEFAULT_DEPTH,
    variable: str = "soil_moisture",
    start: str | None = None,
    end: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[pa.Table]:
    """Yield readings, a table a sensor, and add the sensor's row to `rows`; what becomes of all others is in `report`."""
    check_choice(who, "variable", variable, sorted(VARIABLE_NAMES.values()))
    policy, interval, period = flag_policy(flags), check_depth(depth), parse_period(who, start, end)
    paths = [Path(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    if not paths:
        raise CatalogError(who, "no file was given", next_step="Check the entry's files with: smnb catalog")
    for path in paths:
        if not path.exists():
            raise CatalogError(who, "there is no such file or folder", got=str(path))
    report.settings = {
        "sources": [path.name for path in paths],
        "variable": variable,
        "flag_policy": policy.name,
        "flags_kept": policy.allowed and sorted(",".join(sorted(one)) for one in policy.allowed),
        "depth": interval,
        "period": [None if one is None else str(one) for one in period],
        "catalog_id": catalog_id,
        "synthetic": bool(synthetic),
    }
    units = "m3 m-3" if variable == "soil_moisture" else "degC" if variable.endswith("temperature") else "native"
    about = {"catalog_id": catalog_id, "synthetic": str(int(synthetic)), "time": "UTC", "variable": variable}
    columns = [(variable if one.name == "value" else one.name, one.type) for one in READINGS]
    metadata = {f"smnb:{key}": value for key, value in {**about, "units": units}.items()}
    schema = pa.schema([("sensor_id", TEXT), *columns], metadata=metadata)
    with contextlib.ExitStack() as stack:
        sensors = _collect(stack, paths, report, cache_dir)
        kept = stream(sensors, policy, interval, variable, report, period=period, progress=progress)
        for sensor, series in kept:
            times = series["time"].to_numpy()
            span = {"n_readings": times.size, "first_reading": times[0], "last_reading": times[-1]}
            rows.append({**sensor.row, **span})
            names = pa.DictionaryArray.from_arrays(np.zeros(times.size, np.int32), [sensor.sensor_id])
            yield pa.Table.from_arrays([names, *series.columns], schema=schema)
    if not rows:
        raise _nothing_left(who, report, sensors, variable)


def _nothing_left(who: str, report: Report, sensors: Sequence[Sensor], variable: str) -> ContractError:
    """The error that says what removed the readings: the reason of the most of them, then all counts."""
    counts = {**report.sensors, **{f"readings {key}": count for key, count in report.readings.items() if count}}
    got = {**counts, "removed by flag": dict(report.removed_by_flag), "damaged files": len(report.damaged_files)}
    n = report.readings
    last = report.damaged_files[0]["reason"] if report.damaged_files else ""
    refused = f"{len(report.damaged_files)} damaged files, first {last}"
    left_out = [one for one in report.left_out if one["readings"]]
    other = f"no sensor measures {variable}, but {sorted({one.row['variable'] for one in sensors})}"
    deep = f"every sensor lies at another depth: {sorted(report.removed_by_depth)[:5]}"
    # by how many readings (or sensors, before any is read) they cost; of equal ones the first
    reasons = [
        (
            n["other_units"],
            left_out[0]["reason"] if left_out else "",
            "Convert the file, or remove it from the archive",
        ),
        (n["flag"], f"all are removed by flags: {dict(report.removed_by_flag)}", "Widen the flags (flags='all')"),
        (n["outside_period"], "all lie outside the period", "Widen the period (start, end)"),
        (n["above_one"], "all are above 1 m3 m-3", "Convert the file to m3 m-3"),
        (n["fill"], "all are fill values", "Give files that hold readings"),
        (not n["read"] and last != "", refused, "Download these files again"),
        (not n["read"] and report.sensors["outside_depth"], deep, "Widen the depth (depth=None takes every depth)"),
        (not n["read"] and report.sensors["other_variable"], other, "Give another variable, or another archive"),
        (1, "the files hold no lines of data", "Give files that hold readings"),
    ]
    _, reason, next_step = max(reasons, key=lambda one: one[0])
    return ContractError(who, f"no reading is left: {reason.rstrip('.')}", got=got, next_step=next_step)


def _frame(table: pa.Table) -> pd.DataFrame:
    """Readings in memory; flags of which no reading is left are no categories."""
    frame = table.unify_dictionaries().to_pandas()
    for name in ("flag", "provider_flag"):
        texts = frame[name].astype("category").cat
        used = np.bincount(texts.codes, minlength=len(texts.categories)) > 0
        frame[name] = texts.set_categories(texts.categories[used])
    return frame


def report_notes(report: dict[str, Any]) -> list[str]:
    """What a report says was lost or converted, a line each."""
    return [
        *(f"skipped {one['file']}: {one['reason']}" for one in [*report["damaged_files"], *report["refused_files"]]),
        *(f"left out {one['sensor_id']}, {one['readings']:,} readings: {one['reason']}" for one in report["left_out"]),
        *(f"lost {one['lines']:,} lines of {one['file']}: {one['reason']}" for one in report["lost_lines"]),
        *(
            f"converted {one['sensor_id']}, {one['readings']:,} readings: {one['reason']}"
            for one in report["converted"]
        ),
    ]


def write_tables(
    archive: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Read in-situ data of any supported form and write the two tables as Parquet, with a report.

    Parameters
    ----------
    archive : path-like or sequence of path-like
        As `paths` of `open_insitu`.
    out : path-like
        Folder for ``sensors.parquet``, ``readings.parquet`` and ``ingest_report.json``, which change together.
    progress : callable, optional
        Called with the number of sensors done and in all.
    cache_dir, **options
        As `open_insitu`; errors too. Nothing is written if no reading is left.

    Returns
    -------
    dict
        The report: settings; ``readings`` read, kept, and removed as fill, as above 1 m3 m-3, as duplicate with the
        same or another value, as outside the period, by flag, as in other units (these sum to those read), and found
        out of order; lines lost by file, sensors left out and sensors converted from percent, with reasons;
        removals by single flag (a reading counts under each of its flags that is not allowed), by flag string, by
        flag and network, and by depth; sensors by fate; damaged and refused files with their reasons; stations whose
        files give other coordinates; networks without sensors; files of each format.
    """
    report, rows, out = Report(), [], Path(out)
    tables = _read("ingest", archive, report, rows, cache_dir=cache_dir, progress=progress, **options)
    with held_output("ingest", out / _FILES[1], out / _FILES[0], out / _FILES[2]):
        pending = [next(tables)]  # before anything is written
        with atomic_set(out, _FILES[1]) as made:
            options = {"compression": "zstd", "compression_level": 1}
            with parquet_writer(made / _FILES[1], pending[0].schema, **options) as writer:
                while pending:
                    found = next(tables, None)
                    if found is None or sum(one.num_rows for one in pending) >= _ROWS_A_GROUP:
                        writer.write_table(pa.concat_tables(pending).unify_dictionaries())
                        pending = []
                    pending += [] if found is None else [found]
            write_parquet(made / _FILES[0], sensor_frame(rows))
            write_json(made / _FILES[2], report.as_dict())
    return report.as_dict()


def open_insitu(
    paths: Sequence[str | os.PathLike[str]],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    flags: str | Sequence[str] = "paper",
    depth: Sequence[float] | None = DEFAULT_DEPTH,
    variable: str = "soil_moisture",
    start: str | None = None,
    end: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> InSituTables:
    """Open in-situ data of any supported form into memory, 16 bytes a reading.

    Parameters
    ----------
    paths : sequence of path-like
        ISMN zips, folders or .stm files; USCRN texts, a folder of them, or a parsed USCRN table.
    catalog_id, synthetic, start, end
        As `smnb.loaders` says.
    flags, cache_dir
        As `flag_policy` and `index_archive` have them.
    depth : (float, float), optional
        Sensors whose whole depth interval lies inside, m; None for every depth.

    Raises
    ------
    CatalogError, FormatError, ContractError
        If a path does not exist; if no file of a source is readable; if no reading is left, and why.
    """
    report, rows, who = Report(), [], "open_insitu"
    about = {"catalog_id": catalog_id, "synthetic": synthetic, "start": start, "end": end, "cache_dir": cache_dir}
    tables = list(_read(who, paths, report, rows, flags=flags, depth=depth, variable=variable, **about))
    readings = _frame(pa.concat_tables(tables))
    return InSituTables(sensor_frame(rows), readings, report.as_dict(), catalog_id, bool(synthetic)).check(who)


def read_tables(folder: str | os.PathLike[str], sensors: Sequence[str] | None = None) -> InSituTables:
    """Read what `write_tables` wrote, all of it or some sensors.

    Parameters
    ----------
    sensors : sequence of str, optional
        Ids; only the row groups that hold them are read.

    Raises
    ------
    CatalogError, FormatError, ParameterError
        If a table is absent, or unreadable; for an unknown id.
    """
    who, folder = "read_tables", Path(folder)
    finish_set(folder, _FILES[1])
    for name in _FILES[:2]:
        if not (folder / name).is_file():
            next_step = "Write it with: smnb ingest ARCHIVE --out DIR"
            raise CatalogError(who, "there is no such file", got=str(folder / name), next_step=next_step)
    with foreign(who, f"a table in {folder} is damaged", next_step="Ingest again"):
        for name in _FILES[:2]:
            check_parquet(folder / name)
        table = pd.read_parquet(folder / _FILES[0])
        # a table of one's own may lack what only describes a sensor
        check_table(who, table, ("sensor_id", "network", "station", "lat", "lon", "depth_from", "depth_to"))
        numbers = {name for name, default in SENSOR_COLUMNS.items() if isinstance(default, float) and name in table}
        if odd := [name for name in numbers if table[name].dtype.kind != "f"]:
            raise FormatError(who, f"columns {odd} of {_FILES[0]} are no numbers", next_step="Ingest again")
        for name in table.columns.intersection(["first_reading", "last_reading"]):
            if table[name].dtype.kind != "M":
                raise FormatError(who, f"{name!r} of {_FILES[0]} is no time", got=str(table[name].dtype))
            table[name] = table[name].astype("datetime64[ns]")  # an error of those beyond it
        if sensors is not None:
            unknown = sorted(set(sensors) - set(table["sensor_id"]))
            if unknown or not len(sensors):
                raise ParameterError(who, "there is no such sensor", got=unknown, next_step="See sensors.parquet")
            table = table[table["sensor_id"].isin(list(sensors))].reset_index(drop=True)
        filters = None if sensors is None else [("sensor_id", "in", list(sensors))]
        readings = pq.read_table(folder / _FILES[1], filters=filters)
        about = {key.decode(): value.decode() for key, value in (readings.schema.metadata or {}).items()}
        schema = {one.name: one.type for one in readings.schema}
        names = {"value": about.get("smnb:variable")}  # a table of one's own says none, and may hold text as it likes
        wanted = {"sensor_id": TEXT} | {names.get(one.name) or one.name: one.type for one in READINGS}
        ours = schema == wanted if names["value"] else {"sensor_id", "time", "flag", "provider_flag"} <= set(schema)
        if not ours or not pa.types.is_timestamp(schema["time"]):
            what = f"{_FILES[1]} in {folder} is of something else"
            raise FormatError(who, what, got=schema, expected=wanted, next_step="Ingest again")
        known = about.get("smnb:catalog_id", ""), about.get("smnb:synthetic") == "1"
        return InSituTables(table, _frame(readings), {}, *known).check(who)
