"""What is to be cut: readings that pass, the scene of each source that they meet, and what was left out and why."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import ContractError, ParameterError, plain
from smnb.loaders.insitu import InSituTables, flag_policy
from smnb.papers.batchu2023.matchup.join import drop_repeated_scenes, join_source
from smnb.papers.batchu2023.matchup.sources import MatchSource, Scenes

#: Depths of the paper's sensors, m: 0-5 cm and 5 cm.
PAPER_DEPTHS = ((0.0, 0.05), (0.05, 0.05))
#: 2 inches, the depth of SCAN and SNOTEL, is 0.0508 m; m.
_DEPTH_TOLERANCE = 1e-3
_REPEATED = "the image met an earlier reading"


@dataclass
class MatchPlan:
    """Points to build, in order of sensor and time."""

    anchor: str
    specs: dict[str, MatchSource]
    sensors: pd.DataFrame
    """Sensors that passed, one row each."""
    sensor: NDArray[np.int32]
    """Row of `sensors` of each point."""
    time: NDArray[np.int64]
    """ns UTC."""
    label: NDArray[np.float32]
    """m3 m-3."""
    scene: dict[str, NDArray[np.int32]]
    """Source to position in its table of scenes, -1 where an optional one is missing."""
    counts: dict[str, Any]
    """``readings``: given, dropped by reason, kept. ``sources``: without an image of a source, by reason (a point may lack
    several). ``dropped``: points by the first source that they lack, which with those planned add up to the readings."""

    def __len__(self) -> int:
        return self.sensor.size

    def fingerprint(self, scenes: Mapping[str, Scenes]) -> dict[str, Any]:
        """What is joined with what, so that parts of two builds never mix."""
        place = self.sensors[["lat", "lon"]].to_numpy("float64")
        ids = "\0".join(self.sensors["sensor_id"].astype(str))
        points = _digest(ids.encode(), place, self.sensor, self.time, self.label, *self.scene.values())
        listed = {name: _digest_scenes(scenes[name]) for name in self.specs}
        return {
            "anchor": self.anchor,
            "points": points,
            "scenes": listed,
            "sources": {name: spec.as_dict() for name, spec in self.specs.items()},
        }


def _digest(*parts: bytes | NDArray) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
        digest.update(b"\0")
    return digest.hexdigest()


def _digest_scenes(scenes: Scenes) -> str:
    table = scenes.table
    numbers = table[["west", "south", "east", "north", "cloud_percentage"]].to_numpy("float64")
    ids = "\0".join([scenes.catalog_id, *scenes.bands, *table["scene_id"].astype(str)])
    return _digest(ids.encode(), pd.DatetimeIndex(table["time"]).asi8, numbers)


def _sensors_that_pass(
    who: str, insitu: InSituTables, depths: Sequence[Sequence[float]] | None
) -> tuple[pd.DataFrame, NDArray[np.bool_], NDArray[np.bool_]]:
    """The sensor table, whether each has a position, and whether it lies at one of the depths."""
    sensors = insitu.sensors.reset_index(drop=True)
    needed = ["sensor_id", "lat", "lon", *(["depth_from", "depth_to"] if depths is not None else [])]
    missing = [column for column in needed if column not in sensors.columns]
    if missing:
        raise ContractError(who, f"the sensor table lacks columns {missing}", got=list(map(str, sensors.columns)))
    lat, lon = (sensors[name].to_numpy("float64") for name in ("lat", "lon"))
    placed = (lat >= -80.0) & (lat <= 84.0) & (np.abs(lon) <= 360.0)  # where UTM is
    at_depth = np.ones(len(sensors), bool)
    if depths is not None:
        pairs = np.asarray(depths, dtype=np.float64)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or not (pairs[:, 0] <= pairs[:, 1]).all():
            raise ParameterError(
                who, "'depths' are not intervals in m, top first", got=depths, expected=list(PAPER_DEPTHS)
            )
        own = sensors[["depth_from", "depth_to"]].to_numpy("float64")
        at_depth = (np.abs(own[:, None, :] - pairs[None]) <= _DEPTH_TOLERANCE).all(axis=2).any(axis=1)
    return sensors, placed, at_depth


def _readings_that_pass(
    who: str, insitu: InSituTables, flags: str | Sequence[str], depths: Sequence[Sequence[float]] | None
) -> tuple[pd.DataFrame, NDArray, NDArray, NDArray, dict[str, int]]:
    """Sensors, and sensor row, time and value of the readings that pass, in order of sensor and time; and counts."""
    sensors, placed, at_depth = _sensors_that_pass(who, insitu, depths)
    readings = insitu.readings
    missing = [column for column in ("sensor_id", "time", "soil_moisture", "flag") if column not in readings.columns]
    if missing:
        raise ContractError(who, f"the readings lack columns {missing}", got=list(map(str, readings.columns)))
    policy = flag_policy(flags)
    flag = readings["flag"].astype("category").cat
    kept_flags = np.array([policy.keeps(str(one)) for one in flag.categories] + [False])
    ids = readings["sensor_id"].astype("category").cat
    row = np.append(pd.Index(sensors["sensor_id"]).get_indexer(ids.categories), -1)[ids.codes.to_numpy()]
    value = readings["soil_moisture"].to_numpy("float32")
    left = np.ones(len(readings), bool)
    counts = {"given": len(readings)}
    for reason, passes in (
        ("flag", kept_flags[flag.codes.to_numpy()]),
        ("depth", at_depth[row]),
        ("no position in UTM", placed[row]),
        ("no value", np.isfinite(value)),
    ):
        counts[reason] = int((left & ~passes).sum())
        left &= passes
    counts["kept"] = int(left.sum())
    if not counts["kept"]:
        raise ContractError(
            who,
            "no reading is left",
            got=counts,
            next_step="Widen the flags or the depths, and open the archive with both",
        )
    row, value = row[left].astype(np.int32), value[left]
    time = readings["time"].to_numpy()[left].astype("datetime64[ns]").view(np.int64)
    step = np.diff(row)
    if not ((step > 0) | ((step == 0) & (np.diff(time) > 0))).all():
        order = np.lexsort((time, row))
        row, time, value = row[order], time[order], value[order]
    return sensors, row, time, value, counts


def _span(times: NDArray[np.int64]) -> str:
    shown = pd.DatetimeIndex([times.min(), times.max()]).strftime("%Y-%m-%d %H:%M")
    return f"{shown[0]} to {shown[1]}"


def _never_matches(
    who: str, name: str, spec: MatchSource, scenes: Scenes, time: NDArray[np.int64], counts: dict[str, int]
) -> ContractError:
    known = scenes.table["time"].dropna()
    own = "without times" if known.empty else _span(pd.DatetimeIndex(known).asi8)
    why = ", ".join(f"{reason}: {count:,}" for reason, count in counts.items() if count)
    bound = "" if spec.static else f", {spec.bound} before a reading at most"
    return ContractError(
        who,
        f"the source {name!r} never meets a point ({why})",
        got=plain(f"{len(scenes)} scenes, {own}{bound}"),
        expected=plain(f"scenes at the sensors, for readings from {_span(time)}"),
        next_step="Check the period and the region of its files, or leave the source out",
    )


def plan_matchups(
    insitu: InSituTables,
    scenes: Mapping[str, Scenes],
    *,
    anchor: str,
    specs: Mapping[str, MatchSource],
    flags: str | Sequence[str] = "paper",
    depths: Sequence[Sequence[float]] | None = PAPER_DEPTHS,
) -> MatchPlan:
    """Join readings with the scenes of all sources, without opening any.

    Parameters
    ----------
    insitu : InSituTables
        From `smnb.loaders.insitu.open_insitu`.
    scenes : mapping
        Source to its scenes.
    anchor : str
        The source whose image meets one reading at most.
    specs : mapping
        Source to how it is joined, in the order in which missing ones are counted after the anchor.
    flags : str or sequence of str
        Flag policy.
    depths : sequence of (float, float), optional
        Depths of the sensors, m, each to 1 mm; None takes every depth.

    Returns
    -------
    MatchPlan

    Raises
    ------
    ContractError
        If no reading is left, or a source meets no point at all.
    """
    who = "build_matchups"
    sensors, sensor, time, label, readings = _readings_that_pass(who, insitu, flags, depths)
    lat, lon = sensors["lat"].to_numpy("float64"), (sensors["lon"].to_numpy("float64") + 180.0) % 360.0 - 180.0
    sensors = sensors.assign(lat=lat, lon=lon)
    counts: dict[str, Any] = {"readings": readings, "sources": {}, "dropped": {}}
    order = [anchor, *(name for name in specs if name != anchor)]
    met: dict[str, NDArray[np.int32]] = {}
    complete = np.ones(sensor.size, bool)
    for name in order:
        found = join_source(scenes[name], specs[name], sensor=sensor, time=time, lat=lat, lon=lon)
        counts["sources"][name] = found.counts()
        if not (found.scene >= 0).any():
            raise _never_matches(who, name, specs[name], scenes[name], time, counts["sources"][name])
        has = found.scene >= 0
        if name == anchor:
            again = drop_repeated_scenes(sensor, found.scene)
            counts["sources"][name][_REPEATED] = int(again.sum())
            has &= ~again
            counts["dropped"][name] = int((~has).sum())
            sensor, time, label, met[name] = sensor[has], time[has], label[has], found.scene[has]
            complete = np.ones(sensor.size, bool)
        else:
            met[name] = found.scene
            has |= specs[name].optional
            counts["dropped"][name] = int((complete & ~has).sum())
            complete &= has
    if not complete.any():
        raise ContractError(
            who,
            "no point has an image of every source",
            got=counts["dropped"],
            next_step="Compare the periods of the sources, or make some optional",
        )
    used, sensor = np.unique(sensor[complete], return_inverse=True)
    return MatchPlan(
        anchor,
        dict(specs),
        sensors.iloc[used].reset_index(drop=True),
        sensor.astype(np.int32),
        time[complete],
        label[complete],
        {name: met[name][complete] for name in specs},
        counts,
    )
