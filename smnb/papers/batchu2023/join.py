"""Which scene of each source a point meets, and the plan of what is to be cut, from tables alone.

One rule for the store and for maps (`SceneChoice`): a scene counts from its own time until the bound after it, both included;
the latest wins; of scenes of one time the one in which the point lies deepest (farthest from an edge), then the first by id.
Static scenes have no time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import ContractError, ParameterError, check_table, plain
from smnb.loaders.insitu import InSituTables, flag_policy
from smnb.papers.batchu2023.sources import Source

if TYPE_CHECKING:
    from smnb.loaders.rasters import SceneIndex

#: Depths of the paper's sensors, m: 0-5 cm and 5 cm.
PAPER_DEPTHS = ((0.0, 0.05), (0.05, 0.05))
#: Why a point has no image of a source; 0 is that it has one.
REASONS = ("matched", "no scene covers the point", "no scene in time", "all scenes in time cloudy")
_MATCHED, _UNCOVERED, _UNTIMELY, _CLOUDY = range(4)
#: 2 inches, the depth of SCAN and SNOTEL, is 0.0508 m; m.
_DEPTH_TOLERANCE = 1e-3
_REPEATED = "the image met an earlier reading"


class SceneChoice:
    """The scene of a source that a point meets at each of some times: the same for a sensor and for a cell of a map."""

    def __init__(self, scenes: SceneIndex, source: Source) -> None:
        table = scenes.table
        self._covering, self._static, self._bound = scenes.covering, source.static, int(source.bound.value)
        time = pd.DatetimeIndex(table["time"])
        time = time.tz_convert("UTC").tz_localize(None) if time.tz is not None else time
        # the time of a static image, where it has one, is that of the survey: it holds for every reading
        self._time = np.zeros(len(table), np.int64) if source.static else time.to_numpy("datetime64[ns]").view(np.int64)
        self._rank = np.argsort(np.argsort(table["scene_id"].astype(str).to_numpy(), kind="stable"))
        self._bounds = [table[edge].to_numpy("float64") for edge in ("west", "south", "east", "north")]
        cloud = table["cloud_percentage"].to_numpy("float64")
        self._clear = np.ones(len(table), bool) if source.cloud is None else cloud <= source.cloud

    def at(self, lat: float, lon: float, time: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Position of the scene for each time (ns UTC), -1 where there is none, and the number of its reason in `REASONS`."""
        covering = np.asarray(self._covering(lat, lon), dtype=np.intp)
        if covering.size == 0:
            return np.full(time.size, -1, np.int32), np.full(time.size, _UNCOVERED, np.int8)
        positions = self._ordered(covering, lat, lon)
        clear = positions[self._clear[positions]]
        scene = self._latest(clear, time)
        hidden = self._latest(positions, time) >= 0 if clear.size < positions.size else np.zeros(time.size, bool)
        reason = np.where(scene >= 0, _MATCHED, np.where(hidden, _CLOUDY, _UNTIMELY))
        return scene, reason.astype(np.int8)

    def _ordered(self, positions: NDArray[np.intp], lat: float, lon: float) -> NDArray[np.intp]:
        """Positions so that, up to any time, the best comes last."""
        west, south, east, north = (edge[positions] for edge in self._bounds)
        across = np.minimum((lon - west) % 360.0, (east - lon) % 360.0)
        depth = np.minimum(across, np.minimum(lat - south, north - lat))
        return positions[np.lexsort((-self._rank[positions], depth, self._time[positions]))]

    def _latest(self, positions: NDArray[np.intp], wanted: NDArray[np.int64]) -> NDArray[np.int32]:
        """The last of ordered scenes that is not after each time and not longer ago than the bound, else -1."""
        if positions.size == 0 or self._static:
            return np.full(wanted.size, positions[-1] if positions.size else -1, np.int32)
        time = self._time[positions]
        at = np.searchsorted(time, wanted, side="right") - 1
        found = (at >= 0) & (wanted - time[np.maximum(at, 0)] <= self._bound)
        return np.where(found, positions[np.maximum(at, 0)], -1).astype(np.int32)


def _join(
    scenes: SceneIndex, source: Source, sensor: NDArray[np.int32], time: NDArray[np.int64], lat: NDArray, lon: NDArray
) -> tuple[NDArray[np.int32], dict[str, int]]:
    """The scene of each point (in order of its sensor's row), and the points without one by reason."""
    choice = SceneChoice(scenes, source)
    scene, reason = np.full(sensor.size, -1, np.int32), np.full(sensor.size, _UNCOVERED, np.int8)
    rows, starts = np.unique(sensor, return_index=True)
    for row, start, stop in zip(rows, starts, [*starts[1:], sensor.size], strict=True):
        here = slice(start, stop)
        scene[here], reason[here] = choice.at(float(lat[row]), float(lon[row]), time[here])
    counts = np.bincount(reason, minlength=len(REASONS))
    return scene, {name: int(count) for name, count in zip(REASONS[1:], counts[1:], strict=True)}


def _met_before(sensor: NDArray[np.int32], scene: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tell which points, in order of sensor and time, are not the first of their sensor to meet their scene of the anchor.

    Readings closer than the anchor's bound may meet one image, and the first is kept.
    """
    again = np.zeros(sensor.size, bool)
    matched = np.flatnonzero(scene >= 0)
    # the scene of a sensor only moves on with time, so the points of one scene are neighbours among the matched
    again[matched[1:]] = (sensor[matched[1:]] == sensor[matched[:-1]]) & (scene[matched[1:]] == scene[matched[:-1]])
    return again


@dataclass
class MatchPlan:
    """Points to build, in order of sensor and time."""

    anchor: str
    sources: dict[str, Source]
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

    def fingerprint(self, scenes: Mapping[str, SceneIndex]) -> dict[str, Any]:
        """What is joined with what, so that parts of two builds never mix."""
        place = self.sensors[["lat", "lon"]].to_numpy("float64")
        ids = "\0".join(self.sensors["sensor_id"].astype(str))
        listed = {}
        for name in self.sources:
            table = scenes[name].table
            numbers = table[["west", "south", "east", "north", "cloud_percentage"]].to_numpy("float64")
            said = "\0".join([scenes[name].catalog_id, *scenes[name].bands, *table["scene_id"].astype(str)])
            listed[name] = _digest(said.encode(), pd.DatetimeIndex(table["time"]).asi8, numbers)
        return {
            "anchor": self.anchor,
            "points": _digest(ids.encode(), place, self.sensor, self.time, self.label, *self.scene.values()),
            "scenes": listed,
            "sources": {name: source.as_dict() for name, source in self.sources.items()},
        }


def _digest(*parts: bytes | NDArray) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
        digest.update(b"\0")
    return digest.hexdigest()


def _at_depth(who: str, sensors: pd.DataFrame, depths: Sequence[Sequence[float]] | None) -> NDArray[np.bool_]:
    if depths is None:
        return np.ones(len(sensors), bool)
    pairs = np.asarray(depths, dtype=np.float64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not (pairs[:, 0] <= pairs[:, 1]).all():
        raise ParameterError(who, "'depths' are not intervals in m, top first", got=depths, expected=list(PAPER_DEPTHS))
    own = sensors[["depth_from", "depth_to"]].to_numpy("float64")
    return (np.abs(own[:, None, :] - pairs[None]) <= _DEPTH_TOLERANCE).all(axis=2).any(axis=1)


def _readings_that_pass(
    who: str, insitu: InSituTables, flags: str | Sequence[str], depths: Sequence[Sequence[float]] | None
) -> tuple[pd.DataFrame, NDArray, NDArray, NDArray, dict[str, int]]:
    """Sensors, and sensor row, time and value of the readings that pass, in order of sensor and time; and counts."""
    sensors, readings = insitu.sensors.reset_index(drop=True), insitu.readings
    needed = ["sensor_id", "lat", "lon", *(["depth_from", "depth_to"] * (depths is not None))]
    check_table(f"{who}, sensors", sensors, needed)
    check_table(f"{who}, readings", readings, ["sensor_id", "time", "soil_moisture", "flag"])
    lat, lon = (sensors[name].to_numpy("float64") for name in ("lat", "lon"))
    placed = (lat >= -80.0) & (lat <= 84.0) & (np.abs(lon) <= 360.0)  # where UTM is
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
        ("depth", _at_depth(who, sensors, depths)[row]),
        ("no position in UTM", placed[row]),
        ("no value", np.isfinite(value)),
    ):
        counts[reason] = int((left & ~passes).sum())
        left &= passes
    counts["kept"] = int(left.sum())
    if not counts["kept"]:
        step = "Widen the flags or the depths, and open the archive with both"
        raise ContractError(who, "no reading is left", got=counts, next_step=step)
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
    who: str, source: Source, scenes: SceneIndex, time: NDArray[np.int64], counts: dict[str, int]
) -> ContractError:
    known = scenes.table["time"].dropna()
    own = "without times" if known.empty else _span(pd.DatetimeIndex(known).asi8)
    why = ", ".join(f"{reason}: {count:,}" for reason, count in counts.items() if count)
    bound = "" if source.static else f", {source.bound} before a reading at most"
    what, got = f"the source {source.name!r} never meets a point ({why})", plain(f"{len(scenes)} scenes, {own}{bound}")
    expected = plain(f"scenes at the sensors, for readings from {_span(time)}")
    step = "Check the period and the region of its files, or leave the source out"
    return ContractError(who, what, got=got, expected=expected, next_step=step)


def plan_matchups(
    insitu: InSituTables,
    scenes: Mapping[str, SceneIndex],
    sources: Mapping[str, Source],
    *,
    anchor: str,
    flags: str | Sequence[str] = "paper",
    depths: Sequence[Sequence[float]] | None = PAPER_DEPTHS,
) -> MatchPlan:
    """Join readings with the scenes of all sources, without opening any.

    `sources` are in the order in which missing ones are counted after the anchor, whose image meets one reading at most.
    `depths` of sensors are m, each to 1 mm; None takes every depth. A `ContractError` where no reading is left or a source
    meets none.
    """
    who = "build_matchups"
    sensors, sensor, time, label, readings = _readings_that_pass(who, insitu, flags, depths)
    lat, lon = sensors["lat"].to_numpy("float64"), (sensors["lon"].to_numpy("float64") + 180.0) % 360.0 - 180.0
    sensors = sensors.assign(lat=lat, lon=lon)
    counts: dict[str, Any] = {"readings": readings, "sources": {}, "dropped": {}}
    met: dict[str, NDArray[np.int32]] = {}
    complete = np.ones(sensor.size, bool)
    for name in [anchor, *(name for name in sources if name != anchor)]:
        scene, counts["sources"][name] = _join(scenes[name], sources[name], sensor, time, lat, lon)
        has = scene >= 0
        if not has.any():
            raise _never_matches(who, sources[name], scenes[name], time, counts["sources"][name])
        if name == anchor:
            again = _met_before(sensor, scene)
            counts["sources"][name][_REPEATED] = int(again.sum())
            has &= ~again
            counts["dropped"][name] = int((~has).sum())
            sensor, time, label, met[name] = sensor[has], time[has], label[has], scene[has]
            complete = np.ones(sensor.size, bool)
        else:
            met[name] = scene
            has |= sources[name].optional
            counts["dropped"][name] = int((complete & ~has).sum())
            complete &= has
    if not complete.any():
        step = "Compare the periods of the sources, or make some optional"
        raise ContractError(who, "no point has an image of every source", got=counts["dropped"], next_step=step)
    used, sensor = np.unique(sensor[complete], return_inverse=True)
    return MatchPlan(
        anchor,
        dict(sources),
        sensors.iloc[used].reset_index(drop=True),
        sensor.astype(np.int32),
        time[complete],
        label[complete],
        {name: met[name][complete] for name in sources},
        counts,
    )
