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

from smnb.contract import CatalogError, ContractError, FormatError, ParameterError, check_choice
from smnb.files import atomic_path, write_json
from smnb.loaders import parse_period
from smnb.loaders.insitu.index import collect_sensors
from smnb.loaders.insitu.policies import DEFAULT_DEPTH, check_depth, flag_policy
from smnb.loaders.insitu.sensors import Readings, Report, Sensor, sensor_frame, stream
from smnb.loaders.insitu.stm import VARIABLE_NAMES

_ROWS_A_GROUP = 1 << 19
_FILES = ("sensors.parquet", "readings.parquet", "ingest_report.json")
_TEXT = pa.dictionary(pa.int32(), pa.string())


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


class _Reading:
    """One reading of sources: checked options, the report, and the rows of the sensors that have readings."""

    def __init__(
        self,
        who: str,
        paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
        flags: str | Sequence[str] = "paper",
        depth: Sequence[float] | None = DEFAULT_DEPTH,
        variable: str = "soil_moisture",
        start: str | None = None,
        end: str | None = None,
        catalog_id: str = "",
        synthetic: bool = False,
    ) -> None:
        check_choice(who, "variable", variable, sorted(VARIABLE_NAMES.values()))
        self.who, self.variable = who, variable
        self.policy, self.depth = flag_policy(flags), check_depth(depth)
        self.period = parse_period(who, start, end)
        self.paths = [Path(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
        if not self.paths:
            raise CatalogError(who, "no file was given", next_step="Check the entry's files with: smnb catalog")
        for path in self.paths:
            if not path.exists():
                raise CatalogError(who, "there is no such file or folder", got=str(path))
        allowed, self.report = self.policy.allowed, Report()
        self.report.settings = {
            "sources": [path.name for path in self.paths],
            "variable": variable,
            "flag_policy": self.policy.name,
            "flags_kept": None if allowed is None else sorted(",".join(sorted(one)) for one in allowed),
            "depth": None if self.depth is None else list(self.depth),
            "period": [None if one is None else str(one) for one in self.period],
            "catalog_id": catalog_id,
            "synthetic": bool(synthetic),
        }
        self._kept: list[Sensor] = []
        self._spans: list[tuple[int, np.datetime64, np.datetime64]] = []

    def series(
        self, cache_dir: str | os.PathLike[str] | None, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[tuple[Sensor, Readings]]:
        """Yield each sensor with its readings."""
        with contextlib.ExitStack() as stack:
            sensors = collect_sensors(stack, self.paths, cache_dir, self.report)
            options = {"period": self.period, "progress": progress}
            for sensor, series in stream(sensors, self.policy, self.depth, self.variable, self.report, **options):
                self._kept.append(sensor)
                self._spans.append((series.time.size, series.time[0], series.time[-1]))
                yield sensor, series
        report = self.report
        if not report.readings["kept"]:
            counts = {**report.sensors, **{f"readings {key}": count for key, count in report.readings.items() if count}}
            got = {**counts, "removed by flag": dict(report.by_flag), "damaged files": len(report.damaged)}
            next_step = "Widen the flags (flags='all'), the depth, or the period, and check the variable"
            raise ContractError(self.who, "no reading is left", got=got, next_step=next_step)

    def sensors(self) -> pd.DataFrame:
        """The sensor table of those that have readings."""
        frame = sensor_frame(self._kept)
        sizes, first, last = zip(*self._spans, strict=True)
        frame["n_readings"] = np.array(sizes, dtype=np.int64)
        frame["first_reading"] = np.array(first, dtype="datetime64[ns]")
        frame["last_reading"] = np.array(last, dtype="datetime64[ns]")
        return frame


def _arrow(sensor: Sensor, series: Readings, schema: pa.Schema) -> pa.Table:
    def text(codes: np.ndarray, values: list[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(values, pa.string()))

    columns = [
        text(np.zeros(series.time.size, np.int32), [sensor.sensor_id]),
        pa.array(series.time, pa.timestamp("ns")),
        pa.array(series.value, pa.float32()),
        text(series.flag, series.flags),
        text(series.provider_flag, series.provider_flags),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _schema(variable: str, catalog_id: str, synthetic: bool) -> pa.Schema:
    units = "m3 m-3" if variable == "soil_moisture" else "degC" if variable.endswith("temperature") else "native"
    about = {"catalog_id": catalog_id, "synthetic": str(int(synthetic)), "time": "UTC", "variable": variable}
    fields = [("sensor_id", _TEXT), ("time", pa.timestamp("ns")), (variable, pa.float32()), ("flag", _TEXT)]
    metadata = {f"smnb:{key}": value for key, value in {**about, "units": units}.items()}
    return pa.schema([*fields, ("provider_flag", _TEXT)], metadata=metadata)


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
        Folder for ``sensors.parquet``, ``readings.parquet`` and ``ingest_report.json``; each appears when it is whole.
    progress : callable, optional
        Called with the number of sensors done and in all.
    cache_dir, **options
        As `open_insitu`; errors too. Nothing is written if no reading is left.

    Returns
    -------
    dict
        The report: settings; ``readings`` read, kept, and removed as fill, as above 1 m3 m-3, as duplicate with the
        same or another value, as outside the period, by flag (these sum to those read), and found out of order;
        removals by single flag (a reading counts under each of its flags that is not allowed), by flag string, by
        flag and network, and by depth; sensors by fate; damaged and refused files with their reasons; stations whose
        files give other coordinates; networks without sensors; files of each format.
    """
    out, reading = Path(out), _Reading("ingest", archive, **options)
    settings = reading.report.settings
    schema = _schema(reading.variable, settings["catalog_id"], settings["synthetic"])
    with atomic_path(out / _FILES[1]) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd", compression_level=1) as writer:
            pending: list[pa.Table] = []
            for sensor, series in reading.series(cache_dir, progress):
                pending.append(_arrow(sensor, series, schema))
                if sum(table.num_rows for table in pending) >= _ROWS_A_GROUP:
                    writer.write_table(pa.concat_tables(pending).unify_dictionaries())
                    pending = []
            if pending:
                writer.write_table(pa.concat_tables(pending).unify_dictionaries())
        with atomic_path(out / _FILES[0]) as sensors_file:
            reading.sensors().to_parquet(sensors_file, index=False)
    result = reading.report.as_dict()
    write_json(out / _FILES[2], result)
    return result


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
    flags : str or sequence of str
        Flag policy, see `flag_policy`.
    depth : (float, float), optional
        Sensors whose whole depth interval lies inside, m; None for every depth.
    variable : str
        What to read.
    cache_dir : path-like, optional
        Folder of kept indices, see `index_archive`.

    Returns
    -------
    InSituTables
        Sensors, readings and report (see `write_tables`).

    Raises
    ------
    CatalogError
        If a path does not exist.
    FormatError
        If no file of a source is readable, a sensor is in two places, or values are not volumetric.
    ContractError
        If no reading is left.
    ParameterError
        For an unknown flag, variable, depth or period.
    """
    who = "open_insitu"
    reading = _Reading(who, paths, flags, depth, variable, start, end, catalog_id, synthetic)
    readings = _in_memory(reading.series(cache_dir), variable)
    return InSituTables(reading.sensors(), readings, reading.report.as_dict(), catalog_id, bool(synthetic)).check(who)


def _in_memory(found: Iterator[tuple[Sensor, Readings]], variable: str) -> pd.DataFrame:
    flags: dict[str, int] = {}
    providers: dict[str, int] = {}
    columns: dict[str, list[np.ndarray]] = {"sensor_id": [], "time": [], variable: [], "flag": [], "provider_flag": []}
    names: list[str] = []

    def code(codes: np.ndarray, texts: list[str], known: dict[str, int]) -> np.ndarray:
        used = np.bincount(codes, minlength=len(texts)) > 0  # texts of removed readings are no categories
        mapped = [known.setdefault(text, len(known)) if one else -1 for text, one in zip(texts, used, strict=True)]
        return np.array(mapped, dtype=np.int32)[codes]

    for sensor, series in found:
        columns["sensor_id"].append(np.full(series.time.size, len(names), dtype=np.int32))
        names.append(sensor.sensor_id)
        columns["time"].append(series.time)
        columns[variable].append(series.value)
        columns["flag"].append(code(series.flag, series.flags, flags))
        columns["provider_flag"].append(code(series.provider_flag, series.provider_flags, providers))
    whole: dict[str, Any] = {name: np.concatenate(parts) for name, parts in columns.items()}
    for name, texts in (("sensor_id", names), ("flag", flags), ("provider_flag", providers)):
        whole[name] = pd.Categorical.from_codes(whole[name], categories=pd.Index(list(texts), dtype=object))
    return pd.DataFrame(whole)


def read_tables(folder: str | os.PathLike[str], sensors: Sequence[str] | None = None) -> InSituTables:
    """Read what `write_tables` wrote, all of it or some sensors.

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
            next_step = "Write it with: smnb ingest ARCHIVE --out DIR"
            raise CatalogError(who, "there is no such file", got=str(folder / name), next_step=next_step)
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
