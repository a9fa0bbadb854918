"""Labels of the released records from an ISMN archive: which sensor a record means, and its reading within three minutes.

The release's merge script takes the first station of which every "_"-part of the record's station name is a part ("CR200-1" so
also finds CR200-11) and its first sensor whose depths contain "0.05". Here the station nearest to the record's coordinates is
taken, and of its sensors one within 0-5 cm before one that reaches below; ``choose="first"`` does as the script does.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from smnb.contract import CatalogError, check_choice, check_range
from smnb.grids import great_circle_km
from smnb.loaders.insitu.archive import Archive, find_sensors, merge_sensors
from smnb.loaders.insitu.sensors import DEFAULT_DEPTH, READINGS, Report, Sensor, depth_inside, flag_policy, stream

_WHO = "IsmnLabels"
_AMBIGUITIES_KEPT = 1000
_NOTHING = np.datetime64("NaT", "ns")


def is_5_cm(depth_from: float, depth_to: float) -> bool:
    """Whether the script takes a sensor of these depths (m): their six decimals contain "0.05"."""
    return "0.05" in f"{depth_from:.6f}_{depth_to:.6f}"


def _matches(wanted: str, station: str) -> bool:
    """Whether every part of the record's station name occurs in a station's name, with its hyphens or without."""
    bare = station.replace("-", "")
    return all(part in station or part in bare for part in wanted.split("_"))


def _folders(row: dict[str, Any]) -> tuple[str, str]:
    """Network and station as the archive's folders name them; empty for loose files."""
    parts = PurePosixPath(str(row["file"]).split("|")[0]).parts
    return (parts[-3] if len(parts) > 2 else "", parts[-2] if len(parts) > 1 else "")


class SensorMatch(NamedTuple):
    """The ISMN sensor that was chosen for a sensor of the release: its row of the archive's table, or why there is none.

    The reason is ``network_unknown``, ``station_unknown``, ``station_too_far`` or ``no_5_cm_sensor``. `stations` and `sensors`
    are all candidates: ``NETWORK/STATION``, and sensors of the chosen station, so far from the record's coordinates.
    """

    row: dict[str, Any] | None
    reason: str
    stations: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()
    distance_km: float = float("nan")


class StationIndex:
    """Sensors of an archive (rows of `smnb.loaders.insitu.index_archive`) by network and station.

    Of several candidates the ``"nearest"`` or the ``"first"`` is taken; farther than `max_km` from the record is no match.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], *, choose: str = "nearest", max_km: float | None = 5.0) -> None:
        check_choice(_WHO, "choose", choose, ("nearest", "first"))
        if max_km is not None:
            check_range(_WHO, "max_km", max_km, 0, ends="(]", units="km")
        self.choose, self.max_km = choose, max_km
        self._networks: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for row in sorted((row for row in rows if row["variable"] == "soil_moisture"), key=lambda row: row["file"]):
            for network in {row["network"], _folders(row)[0] or row["network"]}:
                self._networks.setdefault(network, {}).setdefault(row["station"], []).append(row)

    def find(self, sensor_id: str, lat: float, lon: float) -> SensorMatch:
        """Find the ISMN sensor of ``NETWORK__STATION__SENSORTYPE`` at a place (degrees)."""
        network, wanted, instrument = sensor_id.split("__")
        stations = self._networks.get(network)
        if stations is None:
            return SensorMatch(None, "network_unknown")
        folder = {name: _folders(rows[0])[1] for name, rows in stations.items()}
        found = [name for name in stations if _matches(wanted, name) or _matches(wanted, folder[name])]
        if not found:
            return SensorMatch(None, "station_unknown")
        names = tuple(f"{network}/{name}" for name in found)
        first = [stations[name][0] for name in found]
        distance = [float(great_circle_km(row["lat"], row["lon"], lat, lon)) for row in first]
        chosen = int(np.argmin(distance)) if self.choose == "nearest" else 0
        if self.max_km is not None and distance[chosen] > self.max_km:
            return SensorMatch(None, "station_too_far", names, distance_km=distance[chosen])
        rows = [row for row in stations[found[chosen]] if is_5_cm(row["depth_from"], row["depth_to"])]
        if not rows:
            return SensorMatch(None, "no_5_cm_sensor", names, distance_km=distance[chosen])

        def strange(row: dict[str, Any]) -> tuple[bool, bool]:
            deeper = not depth_inside(row["depth_from"], row["depth_to"], DEFAULT_DEPTH)
            own, other = (re.sub(r"[\W_]", "", name.lower()) for name in (instrument, row["instrument"]))
            return deeper, own != other

        best = min(rows, key=strange) if self.choose == "nearest" else rows[0]
        return SensorMatch(best, "", names, tuple(row["sensor_id"] for row in rows), distance[chosen])


class Label(NamedTuple):
    """Soil moisture (m3 m-3) and its time, UTC; or NaN, and why: of `SensorMatch`, ``no_reading``, ``flagged``, ``ambiguous``."""

    value: float
    time: np.datetime64
    reason: str
    match: SensorMatch


class IsmnLabels:
    """Readings of ISMN archives (zips or folders) for released records; use it in a ``with`` statement.

    The default `flags` are the paper's; the release's script applies none (``"all"``), since the filter was applied before
    the records were made. A reading within `window_minutes` counts, both ends inclusive; the records' time is true within 66
    s. Of several readings none is taken (``ambiguous="drop"``, as in the script), or the nearest. `choose` and `max_km` are
    those of `StationIndex`. ``counts`` are records by outcome: ``labelled`` or a reason.
    """

    def __init__(
        self,
        archives: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        flags: str | Sequence[str] = "paper",
        window_minutes: float = 3.0,
        ambiguous: str = "drop",
        choose: str = "nearest",
        max_km: float | None = 5.0,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        check_choice(_WHO, "ambiguous", ambiguous, ("drop", "nearest"))
        check_range(_WHO, "window_minutes", window_minutes, 0)
        self.policy, self.ambiguous = flag_policy(flags), ambiguous
        self.window = np.timedelta64(round(window_minutes * 60e9), "ns")
        self.counts: Counter[str] = Counter()
        self.report = Report()
        self.paths = paths = [archives] if isinstance(archives, str | os.PathLike) else list(archives)
        if not paths:
            raise CatalogError(_WHO, "no archive was given", next_step="Give the zip that ISMN sent")
        with contextlib.ExitStack() as opening:
            found: list[Sensor] = []
            for path in paths:
                found.extend(find_sensors(opening.enter_context(Archive(path)), self.report, cache_dir))
            merged = merge_sensors(found, self.report)
            self._index = StationIndex([one.row for one in merged], choose=choose, max_km=max_km)
            self._stack = opening.pop_all()
        self.settings: dict[str, Any] = {
            "flags": self.policy.name,
            "window_minutes": float(window_minutes),
            "ambiguous": ambiguous,
            "choose": choose,
            "max_km": max_km,
            "archives": [Path(path).name for path in paths],
        }
        self._sensors = {one.sensor_id: one for one in merged}
        self._matches: dict[str, SensorMatch] = {}
        self._places: dict[str, list[float]] = {}
        self._series: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._of_sensor: Counter[str] = Counter()
        self._readings: list[dict[str, Any]] = []

    def __enter__(self) -> IsmnLabels:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def match(self, sensor_id: str, lat: float, lon: float) -> SensorMatch:
        """Find the ISMN sensor of a sensor of the release; found once, at the place of its first record."""
        if sensor_id not in self._matches:
            self._places[sensor_id] = [lat, lon]
            self._matches[sensor_id] = self._index.find(sensor_id, lat, lon)
        return self._matches[sensor_id]

    def label(self, sensor_id: str, lat: float, lon: float, time: np.datetime64) -> Label:
        """Find the reading of a record (``NETWORK__STATION__SENSORTYPE``, degrees, UTC), and count the outcome."""
        match = self.match(sensor_id, lat, lon)
        none = match.row is None
        found = Label(np.nan, _NOTHING, match.reason, match) if none else self._reading(sensor_id, time, match)
        self._of_sensor[sensor_id] += 1
        self.counts[found.reason or "labelled"] += 1
        return found

    def _read(self, ismn_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times and values of a sensor's readings, sorted, and which of them have flags that are kept."""
        if ismn_id not in self._series:
            found = list(stream([self._sensors[ismn_id]], flag_policy("all"), None, "soil_moisture", self.report))
            # without any all of it is fill values, or its file is damaged, which the report says
            series = found[0][1] if found else READINGS.empty_table()
            flag = series["flag"].combine_chunks()
            allowed = np.array([self.policy.keeps(text) for text in flag.dictionary.to_pylist()], dtype=bool)
            keep = allowed[flag.indices.to_numpy()]
            self._series[ismn_id] = series["time"].to_numpy(), series["value"].to_numpy(), keep
        return self._series[ismn_id]

    def _reading(self, sensor_id: str, time: np.datetime64, match: SensorMatch) -> Label:
        times, values, keep = self._read(match.row["sensor_id"])
        first, last = ((time + d).astype("M8[s]").astype("M8[ns]") for d in (-self.window, self.window))
        start, stop = np.searchsorted(times, first, "left"), np.searchsorted(times, last, "right")
        rows = start + np.flatnonzero(keep[start:stop])
        if not rows.size:
            return Label(np.nan, _NOTHING, "flagged" if stop > start else "no_reading", match)
        if rows.size > 1:
            if len(self._readings) < _AMBIGUITIES_KEPT:
                pairs = zip(times[rows], values[rows], strict=True)
                about = {"sensor_id": sensor_id, "time": str(time), "chosen": match.row["sensor_id"]}
                self._readings.append({**about, "candidates": "|".join(f"{t} {v:g}" for t, v in pairs)})
            if self.ambiguous == "drop":
                return Label(np.nan, _NOTHING, "ambiguous", match)
        row = rows[np.argmin(np.abs(times[rows] - time))]
        return Label(float(values[row]), times[row], "", match)

    def ambiguities(self) -> pd.DataFrame:
        """Everything that was not unique: a row a sensor of the release and ``kind``, and of the first thousand readings.

        ``kind`` is "station" (several match), "sensor" (several of the station are at 5 cm) or "readings" (several are in the
        window); ``candidates`` are joined by ``|``; ``records`` are those concerned.
        """
        rows = []
        for sensor_id, match in sorted(self._matches.items()):
            chosen = "" if match.row is None else match.row["sensor_id"]
            about = {"sensor_id": sensor_id, "time": "", "chosen": chosen, "distance_km": match.distance_km}
            about["records"] = self._of_sensor[sensor_id]
            for kind, candidates in (("station", match.stations), ("sensor", match.sensors)):
                if len(candidates) > 1:
                    rows.append({**about, "kind": kind, "candidates": "|".join(candidates)})
        for one in self._readings:
            rows.append({**one, "kind": "readings", "records": 1})
            rows[-1]["distance_km"] = self._matches[one["sensor_id"]].distance_km
        columns = ["kind", "sensor_id", "time", "candidates", "chosen", "distance_km", "records"]
        return pd.DataFrame(rows, columns=columns)

    def state(self) -> dict[str, Any]:
        """Counts and ambiguities as JSON, to go on with after a kill."""
        places = {one: [*self._places[one], self._of_sensor[one]] for one in sorted(self._of_sensor)}
        return {"counts": dict(self.counts), "sensors": places, "readings": list(self._readings)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.counts, self._readings = Counter(state["counts"]), list(state["readings"])
        for sensor_id, (lat, lon, records) in state["sensors"].items():
            self.match(sensor_id, lat, lon)
            self._of_sensor[sensor_id] = records
