"""Which sensors the sources hold: the index of an ISMN archive, with its stations' static variables, and USCRN files.

Only the first lines of each data file are read. The index can be kept in a folder; it is then brought up to date by
what changed (size and checksum or time of each member), and a build that was killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from smnb.contract import FormatError, plain
from smnb.files import write_text
from smnb.loaders import check_native_units
from smnb.loaders.insitu.archive import Archive
from smnb.loaders.insitu.sensors import SENSOR_COLUMNS, Part, Report, Sensor, merge_sensors, sensor_frame, sensor_id
from smnb.loaders.insitu.stm import StmHeader, count_lines, parse_header, parse_stm
from smnb.loaders.insitu.uscrn import PARSED_NAMES, find_parsed_sensors, find_text_sensors, is_text

_VERSION = 1
_HEAD_BYTES = 4096
_FLUSH_EVERY = 1000
_STATIC = "static_variables.csv"
#: Columns of ISMN's layers and of its classes, by quantity and source.
_LAYERS = ("saturation", "clay fraction", "sand fraction", "silt fraction", "organic carbon")
_LAND_COVER = {"insitu": "lc_insitu", **{f"CCI_landcover_{year}": f"lc_{year}" for year in (2000, 2005, 2010)}}
_CLIMATE = {"koeppen_geiger_2007": "climate_KG", "koeppen_geiger_2017": "climate_KG_2017", "insitu": "climate_insitu"}
_CLASSES = {"land cover classification": _LAND_COVER, "climate classification": _CLIMATE}


def _parse_static(name: str, data: bytes) -> dict[str, Any]:
    """Classes and layers ``[depth_from, depth_to, value]`` of a station's file, in the file's order."""
    found: dict[str, Any] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        fields = line.split(";")  # not csv: a resolution of 30" would open a quotation
        if not line.strip() or fields[0] == "quantity_name":
            continue
        if len(fields) < 7:
            expected = plain("quantity_name;unit;depth_from[m];depth_to[m];value;description;quantity_source_name;…")
            raise FormatError(name, f"line {number}: too few fields", got=line[:80], expected=expected)
        quantity, unit, depth_from, depth_to, value, _, source = fields[:7]
        if value.strip() in ("", "None", "nan"):
            continue
        if quantity in _LAYERS:
            check_native_units(
                f"{name}, line {number}", quantity, unit, ["m^3*m^-3" if quantity == "saturation" else "% weight"]
            )
        try:
            if column := _CLASSES.get(quantity, {}).get(source):
                found.setdefault(column, int(value) if column.startswith("lc_2") else value)
            elif quantity in _LAYERS:
                scale = 1.0 if quantity == "saturation" else 0.01
                layer = [float(depth_from), float(depth_to), round(float(value) * scale, 10)]
                found.setdefault(quantity.replace(" ", "_"), []).append(layer)
        except ValueError as error:
            raise FormatError(name, f"line {number}: not a number", got=line[:80]) from error
    return found


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    """How much two depths correspond: 1 the same, 0 adjacent or one a point inside the other, -1 apart."""
    if a == b:
        return 1.0
    extent = max(a[1], b[1]) - min(a[0], b[0])
    part = round(1.0 - abs(a[0] - b[0]) / extent - abs(a[1] - b[1]) / extent, 7) if extent > 0 else -1.0
    return part if part >= 0 else -1.0


def static_variables(found: dict[str, Any], depth_from: float, depth_to: float) -> dict[str, Any]:
    """Static variables for a sensor's depth: of each quantity the layer that overlaps it best, the first of equals.

    `found` holds classes by column, which are returned as they are, and layers ``[depth_from, depth_to, value]`` by column:
    fractions of mass and saturation in m3 m-3. A quantity that no layer has at this depth (m) is absent.

    Examples
    --------
    >>> static_variables({"clay_fraction": [[0.0, 0.3, 0.2], [0.3, 1.0, 0.4]]}, 0.5, 0.5)
    {'clay_fraction': 0.4}
    """
    depth = (depth_from, depth_to)
    chosen = {}
    for column, value in found.items():
        if not isinstance(value, list):
            chosen[column] = value
            continue
        best = max(value, key=lambda layer: _overlap(depth, (layer[0], layer[1])))
        if best[0] <= depth_to and best[1] >= depth_from:
            chosen[column] = best[2]
    return chosen


def _read_index(path: Path | None) -> dict[str, dict[str, Any]]:
    """Records of a kept index by member; none of another version's, or one that something else overwrote: it is a cache."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else {}
        return content["files"] if content.get("version") == _VERSION else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _records(
    archive: Archive, names: Sequence[str], folder: str | os.PathLike[str] | None
) -> dict[str, dict[str, Any]]:
    """What each member says, or why it is damaged; kept as JSON in a folder, each for the member's key only."""
    path = None
    if folder is not None:
        digest = hashlib.sha256(str(archive.path.resolve()).encode()).hexdigest()[:12]
        path = Path(folder) / f"{archive.path.stem}-{digest}.ismn_index.json"
    kept, records, n_new = _read_index(path), {}, 0

    def save() -> None:
        if path is not None:
            write_text(path, json.dumps({"version": _VERSION, "files": {**kept, **records}}))

    for name in names:
        record = kept.pop(name, None)
        if record is None or record["key"] != archive.keys[name]:
            record, n_new = _record(archive, name), n_new + 1
        records[name] = record
        if n_new and n_new % _FLUSH_EVERY == 0:
            save()
    if n_new or kept:  # what is still there is of members that are gone
        kept.clear()
        save()
    return records


def _record(archive: Archive, name: str) -> dict[str, Any]:
    record: dict[str, Any] = {"key": archive.keys[name]}
    try:
        if name.endswith(_STATIC):
            record["static"] = _parse_static(name, archive.read(name))
        else:
            record["header"] = asdict(parse_header(name, archive.read(name, _HEAD_BYTES)))
    except FormatError as error:
        record["problem"] = str(error)
    return record


def _read(archive: Archive, name: str, parse: Callable[[bytes], Any]) -> Any:
    return parse(archive.read(name))


def find_sensors(archive: Archive, report: Report, cache_dir: str | os.PathLike[str] | None = None) -> list[Sensor]:
    """Return the sensors of an archive, one a file (`merge_sensors` joins them); its problems are written into `report`.

    The archive must stay open while readings are read; `cache_dir` is the folder of kept indices.
    """
    wanted = [name for name in archive.keys if name.lower().endswith(".stm") or name.endswith(_STATIC)]
    if not any(name.lower().endswith(".stm") for name in wanted):
        what = f"{archive.path.name} holds no data file (.stm)"
        next_step = "Give the archive that ISMN sent, or the folder that holds the networks"
        raise FormatError("ISMN archive", what, got=sorted(archive.keys)[:5] or "nothing", next_step=next_step)
    records = _records(archive, wanted, cache_dir)
    damaged = [{"file": name, "reason": one["problem"]} for name, one in records.items() if "problem" in one]
    # static files by folder, with the prefix of the data files' names that they are of
    stations: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, record in records.items():
        if "static" in record:
            folder, _, last = name.rpartition("/")
            stations.setdefault(folder, []).append((last.removesuffix(_STATIC), record["static"]))
    sensors = []
    for name, record in records.items():
        if "header" in record:
            header = StmHeader(**record["header"])
            row = {**SENSOR_COLUMNS, **record["header"], "file": name}
            folder, _, last = name.rpartition("/")
            static = [one for one in stations.get(folder, []) if last.startswith(one[0])]
            if static:  # that with the longest prefix
                found = max(static, key=lambda one: len(one[0]))[1]
                row.update(static_variables(found, header.depth_from, header.depth_to))
            row["sensor_id"] = sensor_id(row)
            # bound here, since the loop goes on
            parse = partial(parse_stm, name, header=header)
            part = Part(name, partial(_read, archive, name, parse), partial(_read, archive, name, count_lines))
            sensors.append(Sensor(row, [part]))
    if not sensors:
        raise FormatError("ISMN archive", f"no data file of {archive.path.name} is readable", got=damaged[:3])
    # top folders with files but no readable data file; files beside them are documents, not networks
    folders = archive.folders | {name.split("/")[0] for name in archive.keys if "/" in name}
    report.empty_networks += sorted(folders - {sensor.row["file"].split("/")[0] for sensor in sensors})
    report.damaged += damaged
    report.refused += archive.refused
    report.formats.update(sensor.row["format"] for sensor in sensors)
    return sensors


def collect_sensors(
    stack: contextlib.ExitStack, paths: list[Path], cache_dir: str | os.PathLike[str] | None, report: Report
) -> list[Sensor]:
    """Sensors of archives (zip or folder), loose ISMN files, USCRN texts and tables; archives stay open on `stack`."""
    loose = [path.resolve() for path in paths if path.suffix.lower() in (".stm", ".csv") and path.is_file()]
    archives: list[tuple[Path, list[Path] | None]] = []
    texts: list[Path] = []
    sensors: list[Sensor] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(one for one in path.rglob("*.txt") if is_text(one.name))
            texts.extend(inside)
            if not inside or next(path.rglob("*.[sS][tT][mM]"), None) is not None:
                archives.append((path, None))
        elif path.name.endswith(PARSED_NAMES):
            sensors.extend(find_parsed_sensors(path))
            report.formats["uscrn_table"] += 1
        elif path.suffix.lower() == ".txt":
            texts.append(path)
        elif path.resolve() not in loose:
            archives.append((path, None))
    if loose:
        archives.append((Path(os.path.commonpath([path.parent for path in loose])), loose))
    for path, files in archives:
        sensors.extend(find_sensors(stack.enter_context(Archive(path, files)), report, cache_dir))
    sensors.extend(find_text_sensors(texts, report))
    merged, report.moved_stations = merge_sensors(sensors)
    return merged


def index_archive(path: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Index an ISMN archive of either format, or of both, without extracting it.

    Parameters
    ----------
    path : path-like
        The zip as ISMN sent it, or the folder that holds the networks, however deep.
    cache_dir : path-like, optional
        Folder in which the index is kept and brought up to date.

    Returns
    -------
    DataFrame
        One row a sensor: ``sensor_id`` (unique, stable), ``network``, ``station``, ``lat``, ``lon`` (degree),
        ``elevation``, ``depth_from``, ``depth_to`` (m), ``instrument``, ``variable``, the static variables
        ``climate_KG`` (Köppen-Geiger 2007; ``climate_KG_2017``, ``climate_insitu``), ``lc_2000``, ``lc_2005``,
        ``lc_2010`` (ESA CCI codes), ``lc_insitu``, ``sand_fraction``, ``silt_fraction``, ``clay_fraction``,
        ``organic_carbon`` (fractions of mass), ``saturation`` (m3 m-3), ``format`` and ``file`` (several are joined
        by ``|``). ``attrs["problems"]`` has ``damaged_files`` and ``refused_files`` (file and reason),
        ``stations_with_other_coordinates`` and ``networks_without_sensors``.

    Raises
    ------
    CatalogError
        If there is nothing at `path`.
    FormatError
        If it is no archive of ISMN, or nothing in it is readable, or a sensor is in two places.
    """
    report = Report()
    with Archive(path) as archive:
        sensors, report.moved_stations = merge_sensors(find_sensors(archive, report, cache_dir))
    frame, said = sensor_frame(sensors), report.as_dict()
    names = ("damaged_files", "refused_files", "stations_with_other_coordinates", "networks_without_sensors")
    frame.attrs["problems"] = {name: said[name] for name in names}
    return frame
