"""The index of an ISMN archive: which sensors it holds, and what their stations' static variables say.

Only the first lines of each data file are read. The index can be kept in a folder; it is then brought up to date by
what changed (size and checksum or time of each member), and a build that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from smnb.contract import FormatError, plain
from smnb.files import write_text
from smnb.loaders.insitu.archive import Archive
from smnb.loaders.insitu.sensors import SENSOR_COLUMNS, Part, Sensor, merge_sensors, sensor_frame, sensor_id
from smnb.loaders.insitu.stm import StmHeader, count_lines, parse_header, parse_stm

_VERSION = 1
_HEAD_BYTES = 4096
_FLUSH_EVERY = 1000
_STATIC = "static_variables.csv"
_LAYERS = {
    "saturation": "saturation",
    "clay fraction": "clay_fraction",
    "sand fraction": "sand_fraction",
    "silt fraction": "silt_fraction",
    "organic carbon": "organic_carbon",
}
_CLASSES = {
    ("land cover classification", "CCI_landcover_2000"): "lc_2000",
    ("land cover classification", "CCI_landcover_2005"): "lc_2005",
    ("land cover classification", "CCI_landcover_2010"): "lc_2010",
    ("land cover classification", "insitu"): "lc_insitu",
    ("climate classification", "koeppen_geiger_2007"): "climate_KG",
    ("climate classification", "koeppen_geiger_2017"): "climate_KG_2017",
    ("climate classification", "insitu"): "climate_insitu",
}


def _parse_static(name: str, data: bytes) -> dict[str, Any]:
    """Classes and layers ``[depth_from, depth_to, value]`` of a station's file, in the file's order."""
    found: dict[str, Any] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        fields = line.split(";")  # not csv: a resolution of 30" would open a quotation
        if not line.strip() or fields[0] == "quantity_name":
            continue
        if len(fields) < 7:
            raise FormatError(
                name,
                f"line {number}: too few fields",
                got=line[:80],
                expected=plain("quantity_name;unit;depth_from[m];depth_to[m];value;description;quantity_source_name;…"),
            )
        quantity, unit, depth_from, depth_to, value, _, source = fields[:7]
        if value.strip() in ("", "None", "nan"):
            continue
        try:
            if column := _CLASSES.get((quantity, source)):
                found.setdefault(column, int(value) if column.startswith("lc_2") else value)
            elif column := _LAYERS.get(quantity):
                expected = ("m^3*m^-3",) if column == "saturation" else ("% weight",)
                if unit not in expected:
                    raise FormatError(name, f"line {number}: {quantity!r} has other units", got=unit, expected=expected)
                scale = 1.0 if column == "saturation" else 0.01
                layer = [float(depth_from), float(depth_to), round(float(value) * scale, 10)]
                found.setdefault(column, []).append(layer)
        except (ValueError, TypeError) as error:
            if isinstance(error, FormatError):
                raise
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

    Parameters
    ----------
    found : dict
        Classes by column, and layers ``[depth_from, depth_to, value]`` by column.
    depth_from, depth_to : float
        The sensor's depth, m.

    Returns
    -------
    dict
        Classes as they are; fractions of mass (the files have percent) and saturation in m3 m-3. A quantity that no
        layer has at this depth is absent.

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


def _station_files(names: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Static files by folder, as pairs of the data files' prefix and the name, longest prefix first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.name.endswith(_STATIC):
            found.setdefault(str(path.parent), []).append((path.name.removesuffix(_STATIC), name))
    return {folder: sorted(pairs, key=lambda pair: -len(pair[0])) for folder, pairs in found.items()}


class _Cache:
    """Records by member, kept as JSON; a record holds for the member's key only."""

    def __init__(self, archive: Archive, folder: str | os.PathLike[str] | None) -> None:
        self._path: Path | None = None
        self._records: dict[str, dict[str, Any]] = {}
        self._new = 0
        if folder is not None:
            place = str(archive.path.resolve())
            digest = hashlib.sha256(place.encode()).hexdigest()[:12]
            self._path = Path(folder) / f"{archive.path.stem}-{digest}.ismn_index.json"
            if self._path.is_file():
                self._load(self._path)

    def _load(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            # an index of another version, or one that something else overwrote, is built again: it is only a cache
            self._records = content["files"] if content["version"] == _VERSION else {}
        except (ValueError, KeyError, TypeError):
            self._records = {}

    def get(self, name: str, key: str) -> dict[str, Any] | None:
        record = self._records.get(name)
        return record if record is not None and record["key"] == key else None

    def put(self, name: str, record: dict[str, Any]) -> None:
        self._records[name] = record
        self._new += 1
        if self._new % _FLUSH_EVERY == 0:
            self.save()

    def finish(self, names: set[str]) -> None:
        """Forget members that are gone, and save unless nothing changed."""
        gone = set(self._records) - names
        for name in gone:
            del self._records[name]
        if gone or self._new:
            self.save()

    def save(self) -> None:
        if self._path is not None:
            write_text(self._path, json.dumps({"version": _VERSION, "files": self._records}))


def _record(archive: Archive, name: str) -> dict[str, Any]:
    """What one member says, or why it is damaged."""
    record: dict[str, Any] = {"key": archive.keys[name]}
    try:
        if name.endswith(_STATIC):
            record["static"] = _parse_static(name, archive.read(name))
        else:
            record["header"] = asdict(parse_header(name, archive.read(name, _HEAD_BYTES)))
    except FormatError as error:
        record["problem"] = str(error)
    return record


def _part(archive: Archive, name: str, header: StmHeader) -> Part:
    def count() -> int:
        return count_lines(archive.read(name))

    return Part(name, lambda: parse_stm(name, archive.read(name), header), count)


def find_sensors(
    archive: Archive, cache_dir: str | os.PathLike[str] | None = None
) -> tuple[list[Sensor], dict[str, list[Any]]]:
    """Return the sensors of an open archive and its problems.

    Parameters
    ----------
    archive : Archive
        It must stay open while readings are read.
    cache_dir : path-like, optional
        Folder of kept indices.

    Returns
    -------
    tuple of list of Sensor and dict
        Sensors in order of their id; and lists of ``damaged_files`` and ``refused_files`` (file and reason),
        ``stations_with_other_coordinates``, ``networks_without_sensors`` and ``formats`` (format of each file).

    Raises
    ------
    FormatError
        If no data file of ISMN is in the archive, or none is readable, or a sensor is in two places.
    """
    cache = _Cache(archive, cache_dir)
    wanted = [name for name in archive.keys if name.lower().endswith(".stm") or name.endswith(_STATIC)]
    if not any(name.lower().endswith(".stm") for name in wanted):
        raise FormatError(
            "ISMN archive",
            f"{archive.path.name} holds no data file (.stm)",
            got=sorted(archive.keys)[:5] or "nothing",
            next_step="Give the archive that ISMN sent, or the folder that holds the networks",
        )
    records: dict[str, dict[str, Any]] = {}
    for name in wanted:
        known = cache.get(name, archive.keys[name])
        if known is None:
            known = _record(archive, name)
            cache.put(name, known)
        records[name] = known
    cache.finish(set(wanted))
    damaged = [{"file": name, "reason": one["problem"]} for name, one in records.items() if "problem" in one]
    stations = _station_files(wanted)
    sensors = []
    for name, record in records.items():
        if "header" in record:
            header = StmHeader(**record["header"])
            sensors.append(Sensor(_row(name, header, stations, records), [_part(archive, name, header)]))
    if not sensors:
        raise FormatError(
            "ISMN archive",
            f"no data file of {archive.path.name} is readable",
            got=damaged[:3],
            next_step="Download the archive again",
        )
    merged, moved = merge_sensors(sensors)
    return merged, {
        "damaged_files": damaged,
        "refused_files": archive.refused,
        "stations_with_other_coordinates": moved,
        "networks_without_sensors": _empty_networks(archive, {n for n, one in records.items() if "header" in one}),
        "formats": [sensor.row["format"] for sensor in sensors],
    }


def _row(
    name: str, header: StmHeader, stations: dict[str, list[tuple[str, str]]], records: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    path = PurePosixPath(name)
    row = {**SENSOR_COLUMNS, **asdict(header), "file": name}
    for prefix, static in stations.get(str(path.parent), []):
        if path.name.startswith(prefix) and "static" in records[static]:
            row.update(static_variables(records[static]["static"], header.depth_from, header.depth_to))
            break
    row["sensor_id"] = sensor_id(row)
    return row


def _empty_networks(archive: Archive, readable: set[str]) -> list[str]:
    """Top folders with files but no readable data file; files beside them are documents, not networks."""
    folders = {name.split("/")[0] for name in archive.keys if "/" in name}
    folders |= archive.folders
    return sorted(folders - {name.split("/")[0] for name in readable})


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
        by ``|``). ``attrs["problems"]`` lists what `find_sensors` says.

    Raises
    ------
    CatalogError
        If there is nothing at `path`.
    FormatError
        If it is no archive of ISMN, or nothing in it is readable.
    """
    with Archive(path) as archive:
        sensors, problems = find_sensors(archive, cache_dir)
    frame = sensor_frame(sensors)
    frame.attrs["problems"] = problems
    return frame
