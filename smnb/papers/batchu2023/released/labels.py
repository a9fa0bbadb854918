"""Labels of the released records from an ISMN archive: the reading within three minutes, flags applied, all of it counted."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd

from smnb.contract import CatalogError, ParameterError
from smnb.loaders.insitu.archive import Archive
from smnb.loaders.insitu.index import find_sensors
from smnb.loaders.insitu.policies import flag_policy
from smnb.loaders.insitu.sensors import Readings, Report, Sensor, merge_sensors, stream
from smnb.papers.batchu2023.released.stations import SensorMatch, StationIndex

#: What happens where several readings are within the window.
AMBIGUOUS = ("drop", "nearest")
AMBIGUITY_COLUMNS = ("kind", "sensor_id", "time", "candidates", "chosen", "distance_km", "records")
_WHO = "IsmnLabels"
_AMBIGUITIES_KEPT = 1000


@dataclass(frozen=True)
class Label:
    """A label, or why there is none.

    Parameters
    ----------
    value : float
        Soil moisture, m3 m-3; NaN without a label.
    time : datetime64[ns]
        Of the reading, UTC.
    reason : str
        Empty, or a reason of `SensorMatch`, ``no_reading``, ``flagged`` or ``ambiguous``.
    match : SensorMatch
        The sensor.
    """

    value: float
    time: np.datetime64
    reason: str
    match: SensorMatch


class IsmnLabels:
    """Readings of ISMN archives for released records; use it in a ``with`` statement.

    Only sensors that a record names are read, each once; a reading stays in memory with 17 bytes.

    Parameters
    ----------
    archives : path-like or sequence of path-like
        ISMN zips as downloaded, or folders.
    flags : str or sequence of str
        Flag policy (`smnb.loaders.insitu.flag_policy`). The default is the paper's; the release's script applies none
        (``"all"``), since the paper's filter was applied before the records were made. ISMN revises its flags.
    window_minutes : float
        A reading this near counts, both ends inclusive, to the second. The records' time is true within 66 s.
    ambiguous : {"drop", "nearest"}
        With several readings in the window: no label, as in the script, or the nearest one.
    choose, max_km
        As `StationIndex`.
    cache_dir : path-like, optional
        Folder of kept indices.

    Attributes
    ----------
    counts : Counter
        Records by outcome: ``labelled`` or a reason.

    Raises
    ------
    CatalogError
        If there is no archive.
    FormatError
        If one is unreadable.
    ParameterError
        On an unknown option.
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
        if ambiguous not in AMBIGUOUS:
            raise ParameterError(_WHO, "unknown 'ambiguous'", got=ambiguous, expected=list(AMBIGUOUS))
        if not window_minutes >= 0:
            raise ParameterError(_WHO, "'window_minutes' is not at least 0", got=window_minutes)
        self.policy, self.ambiguous = flag_policy(flags), ambiguous
        self.window = np.timedelta64(round(window_minutes * 60e9), "ns")
        self.settings: dict[str, Any] = {
            "flags": self.policy.name,
            "window_minutes": float(window_minutes),
            "ambiguous": ambiguous,
            "choose": choose,
            "max_km": max_km,
        }
        self.counts: Counter[str] = Counter()
        self.report = Report()
        self._stack = contextlib.ExitStack()
        paths = [archives] if isinstance(archives, str | os.PathLike) else list(archives)
        if not paths:
            raise CatalogError(_WHO, "no archive was given", next_step="Give the zip that ISMN sent")
        with contextlib.ExitStack() as opening:
            found: list[Sensor] = []
            for path in paths:
                found.extend(find_sensors(opening.enter_context(Archive(path)), self.report, cache_dir))
            merged, _ = merge_sensors(found)
            self._index = StationIndex([one.row for one in merged], choose=choose, max_km=max_km)
            self._stack = opening.pop_all()
        self.settings["archives"] = [Path(path).name for path in paths]
        self._sensors = {one.sensor_id: one for one in merged}
        self._matches: dict[str, SensorMatch] = {}
        self._series: dict[str, tuple[Readings, np.ndarray]] = {}
        self._of_sensor: Counter[str] = Counter()
        self._places: dict[str, tuple[float, float]] = {}
        self._readings: list[dict[str, Any]] = []

    def __enter__(self) -> IsmnLabels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the archives."""
        self._stack.close()

    def match(self, sensor_id: str, lat: float, lon: float) -> SensorMatch:
        """Find the ISMN sensor of a sensor of the release; found once, at the place of its first record."""
        if sensor_id not in self._matches:
            self._places[sensor_id] = (lat, lon)
            self._matches[sensor_id] = self._index.find(sensor_id, lat, lon)
        return self._matches[sensor_id]

    def label(self, sensor_id: str, lat: float, lon: float, time: np.datetime64) -> Label:
        """Find the reading of a record, and count the outcome.

        Parameters
        ----------
        sensor_id : str
            ``NETWORK__STATION__SENSORTYPE``.
        lat, lon : float
            Degrees.
        time : datetime64[ns]
            UTC.

        Returns
        -------
        Label
        """
        match = self.match(sensor_id, lat, lon)
        if match.row is None:
            found = Label(np.nan, np.datetime64("NaT", "ns"), match.reason, match)
        else:
            found = self._reading(sensor_id, time, match)
        self._of_sensor[sensor_id] += 1
        self.counts[found.reason or "labelled"] += 1
        return found

    def _read(self, ismn_id: str) -> tuple[Readings, np.ndarray]:
        """Readings of a sensor, sorted, and which of them have flags that are kept."""
        if ismn_id not in self._series:
            everything = flag_policy("all")
            found = list(stream([self._sensors[ismn_id]], everything, None, "soil_moisture", self.report))
            if found:
                series = found[0][1]
            else:  # all of it fill values, or its file is damaged, which the report says
                none = np.empty(0, np.int32)
                series = Readings(np.empty(0, "datetime64[ns]"), np.empty(0, np.float32), none, none, [], [])
            allowed = np.array([self.policy.keeps(flag) for flag in series.flags], dtype=bool)
            keep = allowed[series.flag] if series.flags else np.empty(0, bool)
            self._series[ismn_id] = (series, keep)
        return self._series[ismn_id]

    def _reading(self, sensor_id: str, time: np.datetime64, match: SensorMatch) -> Label:
        series, keep = self._read(match.row["sensor_id"])
        first = (time - self.window).astype("datetime64[s]").astype("datetime64[ns]")
        last = (time + self.window).astype("datetime64[s]").astype("datetime64[ns]")
        start, stop = np.searchsorted(series.time, first, "left"), np.searchsorted(series.time, last, "right")
        rows = start + np.flatnonzero(keep[start:stop])
        nothing = np.datetime64("NaT", "ns")
        if not rows.size:
            return Label(np.nan, nothing, "flagged" if stop > start else "no_reading", match)
        if rows.size > 1:
            if len(self._readings) < _AMBIGUITIES_KEPT:
                self._readings.append(
                    {
                        "sensor_id": sensor_id,
                        "time": str(time),
                        "chosen": match.row["sensor_id"],
                        "candidates": [
                            f"{t} {v:g}" for t, v in zip(series.time[rows], series.value[rows], strict=True)
                        ],
                    }
                )
            if self.ambiguous == "drop":
                return Label(np.nan, nothing, "ambiguous", match)
        row = rows[np.argmin(np.abs(series.time[rows] - time))]
        return Label(float(series.value[row]), series.time[row], "", match)

    def ambiguities(self) -> pd.DataFrame:
        """Everything that was not unique.

        Returns
        -------
        DataFrame
            ``kind`` ("station": several stations match; "sensor": several sensors of the station are at 5 cm; "readings":
            several are in the window, the first thousand), ``sensor_id`` of the release, ``time`` (of readings, else
            empty), ``candidates`` (joined by ``|``), ``chosen``, ``distance_km``, and ``records`` concerned.
        """
        rows = []
        for sensor_id, match in sorted(self._matches.items()):
            chosen = "" if match.row is None else match.row["sensor_id"]
            for kind, candidates in (("station", match.stations), ("sensor", match.sensors)):
                if len(candidates) > 1:
                    rows.append(
                        (
                            kind,
                            sensor_id,
                            "",
                            "|".join(candidates),
                            chosen,
                            match.distance_km,
                            self._of_sensor[sensor_id],
                        )
                    )
        rows += [
            (
                "readings",
                one["sensor_id"],
                one["time"],
                "|".join(one["candidates"]),
                one["chosen"],
                self._matches[one["sensor_id"]].distance_km if one["sensor_id"] in self._matches else np.nan,
                1,
            )
            for one in self._readings
        ]
        return pd.DataFrame(rows, columns=list(AMBIGUITY_COLUMNS))

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
