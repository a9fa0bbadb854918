"""An ISMN archive: its members, read in place, and the index of its sensors with their stations' static variables.

Only the first lines of each data file are read for the index, which can be kept in a folder; it is then brought up to
date by what changed, and a build that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import pandas as pd

from smnb.contract import CatalogError, FormatError, SmnbError, check_bytes, check_range, foreign, plain
from smnb.files import AnyMapping, note, plain_json, read_json, write_json
from smnb.grids import great_circle_km
from smnb.loaders import check_native_units
from smnb.loaders.insitu.sensors import SENSOR_COLUMNS, LostLines, Part, Report, Sensor, sensor_frame
from smnb.loaders.insitu.stm import HEAD_BYTES, count_lines, parse_header, parse_stm

_VERSION = 2
#: Where a zip's end is looked for, and what its list of members may take: 100,000 files of ISMN.
_TAIL_BYTES, _DIRECTORY_BYTES = 1 << 17, 16 << 20
_FLUSH_EVERY = 1000
_STATIC = "static_variables.csv"
_SAME_SENSOR_KM = 2.0
_SAME_STATION_KM = 0.1
_NO_VALUE = ("", "none", "nan", "null", "na", "n/a", "-", "-9999", "-9999.0", "-9999.00", "-99.9", "-99.90", "-999")
#: Columns of ISMN's layers and of its classes, by quantity and source.
_LAYERS = ("saturation", "clay fraction", "sand fraction", "silt fraction", "organic carbon")
_LAND_COVER = {"insitu": "lc_insitu", **{f"CCI_landcover_{year}": f"lc_{year}" for year in (2000, 2005, 2010)}}
_CLIMATE = {"koeppen_geiger_2007": "climate_KG", "koeppen_geiger_2017": "climate_KG_2017", "insitu": "climate_insitu"}
_CLASSES = {"land cover classification": _LAND_COVER, "climate classification": _CLIMATE}


def _check_directory(path: Path) -> None:
    """Raise `FormatError` if a zip's list of members, which is read in whole, is larger than that of any real archive."""
    with path.open("rb") as stream:
        stream.seek(-min(path.stat().st_size, _TAIL_BYTES), os.SEEK_END)
        tail = stream.read()
    for signature, form, at in ((b"PK\5\6", "<L", 12), (b"PK\6\6", "<Q", 40)):  # the end of the list, and Zip64's
        start = tail.rfind(signature)
        size = struct.unpack_from(form, tail, start + at)[0] if 0 <= start < len(tail) - at - 8 else 0
        if size != 0xFFFFFFFF:  # which refers to Zip64's
            check_bytes(path.name, "the zip's list of files", size, _DIRECTORY_BYTES)


class Archive:
    """Members of a zip, a folder or a list of files below one, by name; nothing is extracted. Use it in a ``with`` statement.

    ``keys`` has by member what changes when it does: size and CRC-32 in a zip, else size and modification time. ``folders`` are
    the top folders, also empty ones. ``refused`` (file and reason) are never read: their path climbs out, or occurs twice.
    """

    def __init__(self, path: str | os.PathLike[str], files: Iterable[str | os.PathLike[str]] | None = None) -> None:
        self.path = Path(path)
        self.keys: dict[str, str] = {}
        self.folders: set[str] = set()
        self.refused: list[dict[str, str]] = []
        self._open: dict[str, Callable[[], IO[bytes]]] = {}
        self._sizes: dict[str, tuple[int, int | None]] = {}
        self._zip: zipfile.ZipFile | None = None
        if self.path.is_dir():
            for one in sorted(self.path.rglob("*") if files is None else map(Path, files)):
                if one.exists():  # no dangling link
                    stat, name = one.stat(), one.relative_to(self.path).as_posix() + "/" * one.is_dir()
                    self._add(name, f"{stat.st_size}:{stat.st_mtime_ns}", partial(one.open, "rb"), stat.st_size)
        elif self.path.is_file():
            next_step = "Download it again, or give the folder that holds the networks"
            with foreign("ISMN archive", f"{self.path.name} is no zip, or one cut short", next_step=next_step):
                _check_directory(self.path)
                self._zip = zipfile.ZipFile(self.path)
            for info in self._zip.infolist():
                key, sizes = f"{info.file_size}:{info.CRC:08x}", (info.file_size, info.compress_size)
                if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    self._add(info.filename, key, partial(self._zip.open, info), *sizes)
                else:  # Python inflates others in whole, whatever size is asked for
                    self.refused.append({"file": info.filename, "reason": "its compression is none that ISMN uses"})
        else:
            raise CatalogError("ISMN archive", "there is no such file or folder", got=str(self.path))

    def _add(self, name: str, key: str, opened: Callable[[], IO[bytes]], size: int, packed: int | None = None) -> None:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
            self.refused.append({"file": name, "reason": "its path climbs out of the archive"})
        elif name in self.keys:
            self.refused.append({"file": name, "reason": "the name occurs twice in the archive"})
        elif any(part == "__MACOSX" or part.startswith(".") for part in path.parts):
            return  # hidden files, and what macOS adds to archives
        elif name.endswith("/"):
            self.folders.add(path.parts[0])
        else:
            self.keys[name], self._open[name], self._sizes[name] = key, opened, (size, packed)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *error: object) -> None:
        if self._zip is not None:
            self._zip.close()

    def read(self, name: str, size: int = -1) -> bytes:
        """Return a member's bytes, or its first `size`; a `FormatError` where they are more than `check_bytes` allows."""
        declared, packed = self._sizes[name]
        if size < 0:
            check_bytes(name, "the file", declared, compressed=packed)
        with foreign(name, "the file is damaged"), self._open[name]() as stream:
            return stream.read(declared if size < 0 else size)  # what is more than declared is never inflated


def _parse_static(name: str, data: bytes) -> tuple[dict[str, Any], LostLines]:
    """Classes and layers ``[depth_from, depth_to, value]`` of a station's file, in the file's order, and its odd lines."""
    found: dict[str, Any] = {}
    lost = LostLines()
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        fields = line.split(";")  # not csv: a resolution of 30" would open a quotation
        if not line.strip() or fields[0] == "quantity_name":
            continue
        if len(fields) < 7:
            expected = plain("quantity_name;unit;depth_from[m];depth_to[m];value;description;quantity_source_name;…")
            lost.add(FormatError(name, f"line {number}: too few fields", got=line[:80], expected=expected))
            continue
        quantity, unit, depth_from, depth_to, value, _, source = fields[:7]
        if value.strip().lower() in _NO_VALUE:
            continue
        percent, where = quantity != "saturation", f"{name}, line {number}"
        try:
            if column := _CLASSES.get(quantity, {}).get(source):
                if column.startswith("lc_2"):
                    check_range(where, column, float(value), 0, 255)
                found.setdefault(column, int(float(value)) if column.startswith("lc_2") else value)
            elif quantity in _LAYERS:
                check_native_units(where, quantity, unit, ["% weight" if percent else "m^3*m^-3"])
                fraction = round(float(value) * (0.01 if percent else 1.0), 10)
                check_range(where, quantity, fraction, 0, 1)
                layer = [float(depth_from), float(depth_to), fraction]
                found.setdefault(quantity.replace(" ", "_"), []).append(layer)
        except SmnbError as error:
            lost.add(error)
        except ValueError:
            lost.add(FormatError(name, f"line {number}: not a number", got=line[:80]))
    return found, lost


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    """How much two depths correspond: 1 the same, 0 adjacent or one a point inside the other, -1 apart."""
    if a == b:
        return 1.0
    extent = max(a[1], b[1]) - min(a[0], b[0])
    part = round(1.0 - abs(a[0] - b[0]) / extent - abs(a[1] - b[1]) / extent, 7) if extent > 0 else -1.0
    return part if part >= 0 else -1.0


def static_variables(found: dict[str, Any], depth_from: float, depth_to: float) -> dict[str, Any]:
    """Static variables for a sensor's depth (m): classes, and of each quantity the layer that overlaps it best, if any does.

    `found` is what a station's file holds: fractions of mass, and saturation in m3 m-3. Of equal layers it is the first.
    """
    chosen = {}
    for column, value in found.items():
        if not isinstance(value, list):
            chosen[column] = value
            continue
        best = max(value, key=lambda layer: _overlap((depth_from, depth_to), (layer[0], layer[1])))
        if best[0] <= depth_to and best[1] >= depth_from:
            chosen[column] = best[2]
    return chosen


def _record(archive: Archive, name: str) -> dict[str, Any]:
    """What a member says, or why it is damaged; good for the member's key only."""
    record: dict[str, Any] = {"key": archive.keys[name]}
    try:
        if name.endswith(_STATIC):
            record["static"], odd = _parse_static(name, archive.read(name))
            return {**record, **({"odd": [odd.lines, str(odd.first)]} if odd.lines else {})}
        return {**record, "header": parse_header(name, archive.read(name, HEAD_BYTES))}
    except FormatError as error:
        return {**record, "problem": str(error)}


def _records(
    archive: Archive, names: Sequence[str], folder: str | os.PathLike[str] | None
) -> dict[str, dict[str, Any]]:
    """Records of members; those of a kept index (JSON in a folder) where the member is still the same."""
    if folder is None:
        return {name: _record(archive, name) for name in names}
    digest = hashlib.sha256(str(archive.path.resolve()).encode()).hexdigest()[:12]
    path, records, n_new = Path(folder) / f"{archive.path.stem}-{digest}.ismn_index.json", {}, 0
    kept: dict[str, Any] = {}
    try:
        content = read_json(path, AnyMapping, "an index of an archive").root if path.is_file() else {}
        kept = content["files"] if content.get("version") == _VERSION else {}
    except FormatError as damaged:
        note(f"the index is made again: {damaged}")

    def save() -> None:
        write_json(path, plain_json({"version": _VERSION, "files": {**kept, **records}}))

    for name in names:
        records[name] = kept.pop(name, {"key": None})
        if records[name]["key"] != archive.keys[name]:
            records[name], n_new = _record(archive, name), n_new + 1
            if n_new % _FLUSH_EVERY == 0:
                save()
    if n_new or kept:  # what is still there is of members that are gone
        kept.clear()
        save()
    return records


def _read(archive: Archive, name: str, parse: Callable[..., Any], *lost: LostLines) -> Any:
    return parse(archive.read(name), *lost)


def find_sensors(archive: Archive, report: Report, cache_dir: str | os.PathLike[str] | None = None) -> list[Sensor]:
    """Return the sensors of an archive, one a file (`merge_sensors` joins them); its problems are written into `report`."""
    wanted = [name for name in archive.keys if name.lower().endswith(".stm") or name.endswith(_STATIC)]
    if not any(name.lower().endswith(".stm") for name in wanted):
        what = f"{archive.path.name} holds no data file (.stm)"
        next_step = "Give the archive that ISMN sent, or the folder that holds the networks"
        raise FormatError("ISMN archive", what, got=sorted(archive.keys)[:5] or "nothing", next_step=next_step)
    records = _records(archive, wanted, cache_dir)
    damaged = [{"file": name, "reason": one["problem"]} for name, one in records.items() if "problem" in one]
    # static files by folder, with the prefix of the data files' names that they are of
    stations: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for name, record in records.items():
        if "static" in record:
            folder, _, last = name.rpartition("/")
            stations[folder][last.removesuffix(_STATIC)] = record["static"]
    sensors = []
    for name, record in records.items():
        if "header" in record:
            header = record["header"]
            folder, _, last = name.rpartition("/")
            prefix = max((one for one in stations[folder] if last.startswith(one)), key=len, default="")
            static = static_variables(stations[folder].get(prefix, {}), header["depth_from"], header["depth_to"])
            read = partial(_read, archive, name, partial(parse_stm, name, header=header))
            part = Part(name, read, partial(_read, archive, name, count_lines))
            sensors.append(Sensor.of(part, **header, **static))
    if not sensors:
        raise FormatError("ISMN archive", f"no data file of {archive.path.name} is readable", got=damaged[:3])
    # top folders with files but no readable data file; files beside them are documents, not networks
    folders = archive.folders | {name.split("/")[0] for name in archive.keys if "/" in name}
    report.networks_without_sensors += sorted(folders - {sensor.row["file"].split("/")[0] for sensor in sensors})
    report.damaged_files += damaged
    report.refused_files += archive.refused
    odd = [(name, *one["odd"]) for name, one in records.items() if "odd" in one]
    report.lost_lines += [{"file": name, "lines": lines, "reason": reason} for name, lines, reason in odd]
    report.files_of_format.update(sensor.row["format"] for sensor in sensors)
    return sensors


def _leave_out_far(sensors: Sequence[Sensor], report: Report) -> list[Sensor]:
    """Sensors, one a file, without the files that are 2 km from where most files, or else the first, have the same sensor."""
    kept, files = [], defaultdict(list)
    for sensor in sensors:
        files[sensor.sensor_id].append(sensor)
    for same in files.values():
        lat, lon = (np.array([one.row[axis] for one in same]) for axis in ("lat", "lon"))
        km = great_circle_km(lat[:, None], lon[:, None], lat, lon)
        home = int(np.argmax((km <= _SAME_SENSOR_KM).sum(axis=1)))
        for sensor, distance in zip(same, km[home].tolist(), strict=True):
            if distance <= _SAME_SENSOR_KM:
                kept.append(sensor)
                continue
            what = f"sensor {sensor.sensor_id} is {distance:.1f} km from where another file has it"
            expected = plain(f"({lat[home]}, {lon[home]}) as in {same[home].row['file']}")
            next_step = "Remove one of the files, or give the two stations different names"
            got, file = (sensor.row["lat"], sensor.row["lon"]), sensor.row["file"]
            error = FormatError(file, what, got=got, expected=expected, next_step=next_step)
            try:
                lines = sensor.parts[0].count()
            except FormatError:  # damaged as well
                lines = 0
            report.leave_out(sensor, file, lines, error)
    return kept


def merge_sensors(sensors: Sequence[Sensor], report: Report) -> list[Sensor]:
    """Join files of one sensor, in order of its id; write into `report` which stations have files with other coordinates."""
    sensors = _leave_out_far(sensors, report)
    rows = pd.DataFrame([one.row for one in sensors], columns=list(SENSOR_COLUMNS))
    by = ["network", "station"]
    first = rows.groupby(by)[["lat", "lon"]].transform("first")
    km = pd.Series(great_circle_km(first["lat"], first["lon"], rows["lat"], rows["lon"]), rows.index)
    far = km.groupby([rows["network"], rows["station"]]).transform("max") > _SAME_STATION_KM
    report.stations_with_other_coordinates = [
        {**dict(zip(by, names, strict=True)), "km": round(one["km"].max(), 3), "sensors": sorted(set(one["sensor_id"]))}
        for names, one in rows.assign(km=km)[far].groupby(by)
    ]
    merged: dict[str, Sensor] = {}
    for sensor in sorted(sensors, key=lambda one: one.sensor_id):
        known = merged.setdefault(sensor.sensor_id, Sensor(dict(sensor.row), []))
        known.parts.extend(sensor.parts)
        known.row["file"] = "|".join(part.file for part in known.parts)
    return list(merged.values())


def index_archive(path: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Index an ISMN archive of either format, or of both, without extracting it.

    Parameters
    ----------
    path, cache_dir : path-like
        The zip as ISMN sent it, or the folder that holds the networks, however deep; where the index is kept up to date.

    Returns
    -------
    DataFrame
        One row a sensor: ``sensor_id`` (unique, stable), ``network``, ``station``, ``lat``, ``lon`` (degree),
        ``elevation``, ``depth_from``, ``depth_to`` (m), ``instrument``, ``variable``, the static variables
        ``climate_KG`` (Köppen-Geiger 2007; ``climate_KG_2017``, ``climate_insitu``), ``lc_2000``, ``lc_2005``,
        ``lc_2010`` (ESA CCI codes), ``lc_insitu``, ``sand_fraction``, ``silt_fraction``, ``clay_fraction``,
        ``organic_carbon`` (fractions of mass), ``saturation`` (m3 m-3), ``format`` and ``file`` (several are joined
        by ``|``). ``attrs["problems"]`` has ``damaged_files``, ``refused_files``, ``lost_lines`` (of static variables) and
        ``left_out`` (a file 2 km from the others of its sensor), each with file and reason,
        ``stations_with_other_coordinates`` and ``networks_without_sensors``.

    Raises
    ------
    CatalogError, FormatError
        If there is nothing at `path`; if it is no archive of ISMN, or nothing in it is readable.
    """
    report = Report()
    with Archive(path) as archive:
        sensors = merge_sensors(find_sensors(archive, report, cache_dir), report)
    frame, said = sensor_frame([sensor.row for sensor in sensors]), report.as_dict()
    names = ["damaged_files", "refused_files", "lost_lines", "left_out"]
    names += ["stations_with_other_coordinates", "networks_without_sensors"]
    frame.attrs["problems"] = {name: said[name] for name in names}
    return frame
