"""Which scene of each source a point meets, the plan of what is to be cut, and the cut.

One rule for the store and for maps (`SceneChoice`): a scene counts from its own time until the bound after it, both included;
the latest wins; of scenes of one time the one in which the point lies deepest (farthest from an edge), then the first by id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from smnb.contract import ContractError, ParameterError, RunError, SmnbError, check_table, plain
from smnb.files import fingerprint, note
from smnb.grids import UtmWindow
from smnb.loaders.insitu import InSituTables, flag_policy
from smnb.papers.batchu2023.sources import CHUNK_BYTES, MOST_ROWS, Source

if TYPE_CHECKING:
    from smnb.loaders.rasters import SceneIndex
    from smnb.maps.parallel import Workers

PAPER_DEPTHS = ((0.0, 0.05), (0.05, 0.05))  # depths of the paper's sensors, m: 0-5 cm and 5 cm
#: Why a point has no image of a source; 0 is that it has one.
REASONS = ("matched", "no scene covers the point", "no scene in time", "all scenes in time cloudy")
_MATCHED, _UNCOVERED, _UNTIMELY, _CLOUDY = range(4)
_DEPTH_TOLERANCE = 1e-3  # 2 inches, the depth of SCAN and SNOTEL, is 0.0508 m; m
_REPEATED = "the image met an earlier reading"
#: A task goes on to the next scene until it has this many images or scenes: a task costs some milliseconds to send.
_TASK_IMAGES, _TASK_SCENES = 32, 16
_LATTICE = 32  # places on a side of a window that tell how much of it a scene reaches
#: What is wrong with an image that is dropped, by the number of its result; 1 is an image that is kept.
EMPTY = {
    0: "crop without any value",
    2: "crop without a value at the point",
    3: "crop with more than {:g} % missing",
}
#: What decides which rows a task writes, and which images it keeps; a build only goes on with one of the same.
LAYOUT = (_TASK_IMAGES, _TASK_SCENES, CHUNK_BYTES, MOST_ROWS, *EMPTY)


class SceneChoice:
    """The scene of a source that a point meets at each of some times: the same for a sensor and for a cell of a map."""

    def __init__(self, scenes: SceneIndex, source: Source) -> None:
        table = scenes.table
        self._covering, self._static, self._bound = scenes.covering, source.static, int(source.bound.value)
        time = pd.DatetimeIndex(pd.to_datetime(table["time"], utc=True)).tz_localize(None)
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
        west, south, east, north = (edge[covering] for edge in self._bounds)
        across = np.minimum((lon - west) % 360.0, (east - lon) % 360.0)
        depth = np.minimum(across, np.minimum(lat - south, north - lat))
        # up to any time, the best comes last
        ordered = covering[np.lexsort((-self._rank[covering], depth, self._time[covering]))]
        scene = self._latest(ordered[self._clear[ordered]], time)
        hidden = (scene < 0) & (self._latest(ordered, time) >= 0)
        reason = np.select([scene >= 0, hidden], [_MATCHED, _CLOUDY], _UNTIMELY)
        return scene, reason.astype(np.int8)

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
    """Tell which points, in order of sensor and time, are not the first of their sensor to meet their scene of the anchor."""
    again = np.zeros(sensor.size, bool)
    matched = np.flatnonzero(scene >= 0)
    # the scene of a sensor only moves on with time, so the points of one scene are neighbours among the matched
    again[matched[1:]] = (sensor[matched[1:]] == sensor[matched[:-1]]) & (scene[matched[1:]] == scene[matched[:-1]])
    return again


@dataclass
class MatchPlan:
    """Points to build, in order of sensor and time."""

    sources: dict[str, Source]
    sensors: pd.DataFrame  # sensors that passed, one row each
    sensor: NDArray[np.int32]  # row of `sensors` of each point
    time: NDArray[np.int64]  # ns UTC
    label: NDArray[np.float32]  # m3 m-3
    scene: dict[str, NDArray[np.int32]]
    """Source to position in its table of scenes, -1 where an optional one is missing."""
    counts: dict[str, Any]
    """``readings``: given, dropped by reason, kept. ``sources``: without an image of a source, by reason (a point may lack
    several). ``dropped``: points by the first source that they lack, which with those planned add up to the readings."""

    def __len__(self) -> int:
        return self.sensor.size

    def fingerprint(self, scenes: Mapping[str, SceneIndex]) -> dict[str, Any]:
        """What is joined with what, so that parts of two builds never mix."""
        places = self.sensors[["sensor_id", "lat", "lon"]].astype(str)
        columns = ["scene_id", "time", "west", "south", "east", "north", "cloud_percentage"]
        listed = {name: [scenes[name].table[column] for column in columns] for name in self.sources}
        marks = {name: fingerprint(scenes[name].catalog_id, scenes[name].bands, one) for name, one in listed.items()}
        points = fingerprint(places, self.sensor, self.time, self.label, self.scene)
        return {"points": points, "scenes": marks, "sources": {name: s.as_dict() for name, s in self.sources.items()}}

    def content(self, source: str, scenes: SceneIndex, cache: Path) -> NDArray[np.object_]:
        """`SceneIndex.identities` of a source's scenes that points meet, "" for others; counts those whose server tells none."""
        content, met = np.full(len(scenes), "", object), np.unique(self.scene[source][self.scene[source] >= 0])
        content[met] = found = scenes.identities(met, cache)
        if unknown := sum(one.endswith(" unchecked") for one in found):
            self.counts["sources"][source]["scenes whose changes their server does not tell"] = unknown
        return content


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
    fits = np.ones(len(sensors), bool)
    if depths is not None:
        pairs = np.asarray(depths, dtype=np.float64)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or not (pairs[:, 0] <= pairs[:, 1]).all():
            what = "'depths' are not intervals in m, top first"
            raise ParameterError(who, what, got=depths, expected=list(PAPER_DEPTHS))
        own = sensors[["depth_from", "depth_to"]].to_numpy("float64")
        fits = (np.abs(own[:, None, :] - pairs[None]) <= _DEPTH_TOLERANCE).all(axis=2).any(axis=1)
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
        ("depth", fits[row]),
        ("no position in UTM", placed[row]),
        ("no value", np.isfinite(value)),
    ):
        counts[reason] = int((left & ~passes).sum())
        left &= passes
    counts["kept"] = int(left.sum())
    if not counts["kept"]:
        step = "Widen the flags or the depths, and open the archive with both"
        raise ContractError(who, "no reading is left", got=counts, next_step=step)
    time = readings["time"].to_numpy()[left].astype("datetime64[ns]").view(np.int64)
    order = np.lexsort((time, row[left]))
    return sensors, row[left][order].astype(np.int32), time[order], value[left][order], counts


def _never_matches(
    who: str, source: Source, scenes: SceneIndex, time: NDArray[np.int64], counts: dict[str, int]
) -> ContractError:

    def span(times: Any) -> str:
        return " to ".join(f"{pd.Timestamp(one):%Y-%m-%d %H:%M}" for one in (times.min(), times.max()))

    known = scenes.table["time"].dropna()
    why = ", ".join(f"{reason}: {count:,}" for reason, count in counts.items() if count)
    bound = "" if source.static else f", {source.bound} before a reading at most"
    got = plain(f"{len(scenes)} scenes, {'without times' if known.empty else span(known)}{bound}")
    what, expected = f"the source {source.name!r} never meets a point ({why})", f"for readings from {span(time)}"
    step = "Check the period and the region of its files, or leave the source out"
    return ContractError(who, what, got=got, expected=plain(f"scenes at the sensors, {expected}"), next_step=step)


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
        counts["dropped"][name] = 0 if sources[name].optional else int((complete & ~has).sum())
        if name == anchor:
            sensor, time, label, scene, complete = sensor[has], time[has], label[has], scene[has], complete[has]
        elif not sources[name].optional:
            complete &= has
        met[name] = scene
    if not complete.any():
        step = "Compare the periods of the sources, or make some optional"
        raise ContractError(who, "no point has an image of every source", got=counts["dropped"], next_step=step)
    used, sensor = np.unique(sensor[complete], return_inverse=True)
    sensors, sensor = sensors.iloc[used].reset_index(drop=True), sensor.astype(np.int32)
    met = {name: met[name][complete] for name in sources}
    return MatchPlan(dict(sources), sensors, sensor, time[complete], label[complete], met, counts)


def make_tasks(images: pd.DataFrame, chunk: int) -> pd.DataFrame:
    """Add to images (``scene``, ``lat``, ``lon``, in order of the scene) their ``task`` and ``row`` in the store.

    A scene is of one task. Tasks begin at a chunk, so that no two write into one; rows between tasks stay empty.
    """
    sizes, numbers, n_images, n_scenes = images.groupby("scene").size(), [0], 0, 0
    for size in sizes:
        n_images, n_scenes = n_images + size, n_scenes + 1
        full = n_images >= _TASK_IMAGES or n_scenes >= _TASK_SCENES
        numbers.append(numbers[-1] + full)
        n_images, n_scenes = (0, 0) if full else (n_images, n_scenes)
    task = np.repeat(np.array(numbers[:-1], np.int64), sizes)
    taken = -(-np.bincount(task) // chunk) * chunk
    first = np.cumsum(taken) - taken
    return images.assign(task=task, row=first[task] + images.groupby(task).cumcount().to_numpy())


def cut(
    task: pd.DataFrame, scenes: SceneIndex, source: Source, sizes: Mapping[str, Any], max_missing: float, values: Path
) -> NDArray[Any] | tuple[int, str]:
    """Do a task; runs in a thread or in a Dask worker.

    For images, which are written into the array `values`, 1 for each that is kept, else a number of `EMPTY`, int (n,); for a
    coarse source the values at each point, float32 (n, band), NaN where missing. Where a scene cannot be read its position and
    what went wrong: errors with named parts do not survive the way back from a worker.
    """
    scene, found = -1, []
    try:
        if source.kind == "coarse":
            for scene, places in task.groupby("scene"):
                with scenes.open(scene) as reader:
                    native = reader.at(places["lat"].to_numpy(), places["lon"].to_numpy(), source.bands)
                found.append(source.normalise_stack(native, source.bands, axis=1))
            return np.concatenate(found)
        array = zarr.open_array(values, mode="r+", zarr_format=3)
        pending = np.empty(array.chunks, np.float16)
        for scene, places in task.groupby("scene"):
            with scenes.open(scene) as reader:
                for place in places.itertuples():
                    window = UtmWindow.centred(place.lat, place.lon, size=sizes["crop"], resolution=sizes["resolution"])
                    if source.kind == "low":
                        window = window.coarsened(sizes["low_resolution"])
                    native = reader.read(window, source.bands, resampling=source.resampling)
                    image, at = source.normalise_stack(native, source.bands), place.row % len(pending)
                    pending[at] = image
                    found.append(_verdict(image, max_missing, _reached(scenes.table.iloc[scene], window)))
                    if at + 1 == len(pending) or len(found) == len(task):
                        array[place.row - at : place.row + 1] = pending[: at + 1]
    except (SmnbError, OSError) as error:
        return scene, str(error)
    return np.array(found)


def _verdict(image: NDArray[np.floating], max_missing: float, reached: float = 1.0) -> int:
    """Whether an image ``(band, y, x)`` is kept: 1, or what is wrong with it, in `EMPTY`. A pixel is missing if a band is.

    `max_missing` is the share that may be missing of what the scene has reached.
    """
    there = np.isfinite(image).all(axis=0)
    top, left = ((side - 1) // 2 for side in there.shape)
    # where the side is even the point is at the corner of these four
    if not there[top : top + 2, left : left + 2].any():
        return 2 * int(np.isfinite(image).any())
    return 1 if there.mean() >= (1.0 - max_missing) * reached else 3


def _reached(scene: pd.Series, window: UtmWindow) -> float:
    """Share of a window that lies within a scene's bounds: files that were cut around a sensor may be smaller than it."""
    side = window.size * window.resolution
    lat, lon = UtmWindow(window.epsg, window.west, window.north, side / _LATTICE, _LATTICE).lat_lon()
    width = scene["east"] - scene["west"] + 360.0 * (scene["east"] < scene["west"])
    inside = (np.mod(lon - scene["west"], 360.0) <= width) & (lat >= scene["south"]) & (lat <= scene["north"])
    return float(inside.mean())


class Journal:
    """Tasks that are done, a line each, with what they were made of; a line that a kill cut short does not count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done: dict[str, dict[int, NDArray[Any]]] = {}
        self._made_of: dict[tuple[str, int], str | None] = {}
        content = path.read_bytes() if path.is_file() else b""
        whole = content.rfind(b"\n") + 1
        lines = [line.rpartition(b" ") for line in content[:whole].splitlines()]
        sound = [text for text, _, mark in lines if mark == fingerprint(text).encode()]
        if len(sound) < len(lines):
            note(f"{len(lines) - len(sound)} lines of {path} are damaged; these tasks are done again")
        for text in sound:
            entry = json.loads(text)
            self.done(entry["source"])[entry["task"]] = np.array(entry["result"])
            self._made_of[entry["source"], entry["task"]] = entry.get("made_of")
        with open(path, "ab") as stream:
            stream.truncate(whole)

    def done(self, source: str) -> dict[int, NDArray[Any]]:
        """Results of a source's finished tasks, by number."""
        return self._done.setdefault(source, {})

    def keep(self, source: str, made_of: Mapping[int, str]) -> None:
        """Forget a source's tasks that were made of something else than they are now."""
        done = self.done(source)
        for task in [task for task in done if self._made_of[source, task] != made_of.get(task)]:
            del done[task]
        self._made_of |= {(source, task): one for task, one in made_of.items()}

    def add(self, source: str, task: int, result: NDArray[Any]) -> None:
        """Note a task as done; the decimals of a float32 give the same float32 again."""
        self.done(source)[task] = result
        with open(self.path, "a", encoding="utf-8") as stream:
            entry = {"source": source, "task": task, "result": result.tolist(), "made_of": self._made_of[source, task]}
            text = json.dumps(entry)
            stream.write(f"{text} {fingerprint(text.encode())}\n")


def cut_all(
    who: str, pool: Workers, images: pd.DataFrame, shared: tuple, journal: Journal, progress: Callable[..., None]
) -> NDArray[Any]:
    """Results of all images of a source, in order; tasks that the journal lacks are done. `shared` as `cut` takes it."""
    scenes, source = shared[:2]
    done, tasks = journal.done(source.name), images["task"].nunique()
    progress(source.name, len(done), tasks)
    shared = pool.share(scenes), *shared[1:]
    calls = ((number, (task, *shared)) for number, task in images.groupby("task") if number not in done)
    for number, future in pool.run(cut, calls):
        result = future.result()
        if isinstance(result, tuple):
            position, message = result
            said = str(scenes.table["scene_id"].iloc[position]) if position >= 0 else "?"
            what = f"the source {source.name!r}, scene {said}: {message.rstrip('.')}"
            step = "Mend or remove that file and run the build again; what is done is kept"
            raise RunError(who, what, next_step=step)
        journal.add(source.name, int(number), result)
        progress(source.name, len(done), tasks)
    return np.concatenate([done[number] for number in range(tasks)]) if tasks else np.empty(0)
