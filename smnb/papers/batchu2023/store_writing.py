"""Writing a sample store: its sensor table with splits, and samples one after another; a killed writing goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from smnb.contract import ContractError, ParameterError, RunError, check_table, plain
from smnb.files import atomic_path, write_json
from smnb.papers.batchu2023.sources import Source, by_name
from smnb.papers.batchu2023.store import (
    NAT,
    SCHEMA,
    SENSORS_FILE,
    SampleStore,
    chunk_rows,
    create_array,
    create_values,
    image_side,
)
from smnb.sensors import SIDES, Split, audit, make_split

_WHO = "SampleStoreWriter"
#: The paper's split, and one by blocks of 3 degrees with a buffer. What a split by sensor shares with its training side is
#: known and written down: the paper says so of footprints (Figure 6).
DEFAULT_SPLITS: dict[str, dict[str, Any]] = {
    "sensor": {
        "kind": "sensor",
        "fractions": (0.6, 0.2, 0.2),
        "accept": ("shared_station", "shared_footprint", "shared_coarse_cell"),
    },
    "block": {"kind": "block", "fractions": (0.6, 0.2, 0.2), "block_degrees": 3.0},
}


def partial_folder(path: Path) -> Path:
    """Where a store is kept until it is whole: a hidden folder beside it."""
    return path.parent / f".{path.name}.partial"


def put_in_place(partial: Path, path: Path) -> None:
    """Give a whole store its name; what had the name goes with the partial folder."""
    if path.is_dir():  # a folder cannot be replaced in one step
        path.replace(partial / "replaced")
    (partial / "store.zarr").replace(path)
    shutil.rmtree(partial)


def open_partial(who: str, path: Path, fingerprint: Mapping[str, Any], *, resume: bool) -> tuple[Path, bool]:
    """Make or find the partial folder of a store, and whether there was one to go on with."""
    if path.suffix != ".zarr":
        raise ParameterError(who, "a sample store's name ends with .zarr", got=path.name)
    partial = partial_folder(path)
    record = partial / "plan.json"
    found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
    wanted = json.loads(json.dumps(fingerprint))
    if found is not None and found != wanted and resume:
        changed = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        got, step = plain(f"other {', '.join(changed)}"), "Choose another name, or start anew with --no-resume"
        raise RunError(who, f"{partial} holds part of another store", got=got, next_step=step)
    if found is None or not resume:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_json(record, wanted)
        return partial, False
    return partial, True


def write_sensors(folder: Path, sensors: pd.DataFrame, sensor: np.ndarray) -> None:
    """Write the sensor table into a store; a `ContractError` unless ids are unique and each number in `sensor` has its row."""
    check_table(_WHO, sensors, ["sensor_id"], unique="sensor_id")
    if sensor.size and not (sensor.min() >= 0 and sensor.max() < len(sensors)):
        got, expected = (int(sensor.min()), int(sensor.max())), plain(f"rows 0 to {len(sensors) - 1}")
        raise ContractError(_WHO, "a sample names a sensor that the table lacks", got=got, expected=expected)
    with atomic_path(folder / SENSORS_FILE) as temporary:
        sensors.to_parquet(temporary, index=False)


def make_splits(sensors: pd.DataFrame, splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Split]:
    """Split the sensors in each way asked for; the options are those of `smnb.sensors.make_split`."""
    made = {}
    for name, options in splits.items():
        if options.get("kind", "time") == "time" or not str(name).isidentifier():
            what = f"the split {name!r} is no split of sensors"
            raise ParameterError("build_matchups", what, got=dict(options), expected=DEFAULT_SPLITS)
        made[name] = make_split(sensors, **options)
    return made


def add_splits(
    sensors: pd.DataFrame, splits: Mapping[str, Split], sensor: NDArray[np.int32]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Add a column ``split_<name>`` a split; and say of each its options, sensors and samples a side, and what leaks.

    `sensor` is the row of the sensor of each sample.
    """
    described, columns = {}, {}
    for name, split in splits.items():
        sides = split.assignment.reindex(sensors["sensor_id"])
        columns[f"split_{name}"] = sides.to_numpy()
        found, per_sample = audit(sides, sensors), sides.to_numpy()[sensor]
        near = {
            side: {f"{km:g}_km": _share(found.share_within(km, side)) for km in (found.footprint_km, 10.0)}
            for side in SIDES[1:]
        }
        described[name] = {
            "kind": split.kind,
            "options": {key: list(v) if isinstance(v, tuple) else v for key, v in split.options.items()},
            "sensors": {side: int((sides == side).sum()) for side in (*SIDES, "buffer")},
            "samples": {side: int((per_sample == side).sum()) for side in (*SIDES, "buffer")},
            "leaks": found.leaks,
            "not_checked": list(found.not_checked),
            "share_with_training_sensor_within": near,
        }
    return sensors.assign(**columns), described


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)


def _ns(times: Any) -> np.ndarray:
    """Times as int64 nanoseconds UTC; NaT is `NAT`."""
    if isinstance(times, np.ndarray) and times.dtype.kind == "i":
        return times.astype(np.int64)
    return pd.DatetimeIndex(pd.to_datetime(np.asarray(times), utc=True)).tz_localize(None).to_numpy("M8[ns]").view("i8")


class SampleStoreWriter:
    """Write samples one after another; the store gets its name, ``name.zarr``, when it is finished.

    Until then it is in a hidden folder beside `path`, which survives a kill. A writer with the same arguments goes on there
    unless `resume` is False: `written` says how many samples are safe, and `note` what the last `write` noted. `sources` are
    own ones or names of the paper's; sizes are pixels and m; a partial store of another `fingerprint` is refused.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sources: Iterable[Source | str],
        crop: int,
        resolution: float = 10.0,
        low_resolution: float = 160.0,
        anchor: str = "sentinel1",
        synthetic: bool = False,
        fingerprint: str = "",
        resume: bool = True,
        overwrite: bool = False,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.sources = Path(path), by_name(_WHO, sources)
        if self.path.exists() and not overwrite:
            step = "Choose another name, or overwrite it"
            raise ParameterError(_WHO, "the store is there", got=str(path), next_step=step)
        self.attrs = {
            **(attrs or {}),
            "smnb_schema": SCHEMA,
            "anchor": anchor,
            "crop": int(crop),
            "resolution_m": float(resolution),
            "low_resolution_m": float(low_resolution),
            "synthetic": bool(synthetic),
            "fingerprint": fingerprint,
            "sources": {name: source.as_dict() for name, source in self.sources.items()},
        }
        self._side = {
            name: image_side(_WHO, one.kind, crop, resolution, low_resolution) for name, one in self.sources.items()
        }
        self._partial, found = open_partial(_WHO, self.path, self.attrs, resume=resume)
        self.written, self.note = 0, None
        self._scenes: dict[str, dict[str, int]] = {name: {} for name in self.sources}
        progress = self._partial / "progress.json"
        going_on = found and progress.is_file()
        self._root = zarr.open_group(self._partial / "store.zarr", mode="r+" if going_on else "w", zarr_format=3)
        if going_on:
            state = json.loads(progress.read_text(encoding="utf-8"))
            self.written, self.note = state["written"], state["note"]
            self._scenes = {name: {one: i for i, one in enumerate(ids)} for name, ids in state["scenes"].items()}
            return
        for name, dtype in (("label", "float32"), ("time", "int64"), ("sensor", "int32")):
            create_array(self._root, name, (0,), dtype, ("sample",))
        for name, source in self.sources.items():
            group = self._root.create_group(name)
            create_values(group, source, 0, self._side[name])
            create_array(group, "scene", (0,), "int32", ("sensor" if source.static else "sample",))
            if not source.static:
                create_array(group, "time", (0,), "int64", ("sample",))

    @property
    def chunk(self) -> int:
        """Samples to write at a time (or a multiple), so that no chunk is written twice."""
        images = [(len(s.bands), self._side[n]) for n, s in self.sources.items() if s.kind != "coarse" and not s.static]
        return int(np.lcm.reduce([chunk_rows(*one) for one in images])) if images else 1 << 16

    def write(self, start: int, chunk: Mapping[str, Any], *, note: Any = None) -> None:
        """Write samples from number `start` on, at most `written`; `note` (JSON) is kept, such as the place in the input.

        `chunk`: ``label`` (n) m3 m-3, ``time`` (n) UTC, ``sensor`` (n) rows of the sensor table, ``values``: source to (n,
        band, y, x) or (n, band), NaN where missing; optionally ``times`` and ``scenes``: source to (n) times, and ids of
        scenes ("" for none).
        """
        unknown = sorted(set(chunk) - {"label", "time", "sensor", "values", "times", "scenes"})
        dynamic = {name for name, source in self.sources.items() if not source.static}
        if unknown or set(chunk.get("values", {})) != dynamic:
            got, step = [*unknown, *chunk.get("values", {})], "Static sources go through write_static"
            what = "a chunk has other keys or sources"
            raise ContractError(_WHO, what, got=got, expected=sorted(dynamic), next_step=step)
        if not 0 <= start <= self.written:
            raise ContractError(_WHO, "samples are left out", got=start, expected=plain(f"at most {self.written}"))
        n = np.size(chunk["label"])
        for key, column in (("label", chunk["label"]), ("time", _ns(chunk["time"])), ("sensor", chunk["sensor"])):
            self._put(key, start, np.asarray(column), (n,))
        for name in dynamic:
            times = chunk.get("times", {}).get(name)
            self._put(f"{name}/values", start, np.asarray(chunk["values"][name]), self._shape(name, n))
            self._put(f"{name}/time", start, np.full(n, NAT) if times is None else _ns(times), (n,))
            self._put(f"{name}/scene", start, self._scene_numbers(name, chunk.get("scenes", {}).get(name), n), (n,))
        self.written, self.note = max(self.written, start + n), note
        self._remember()

    def _shape(self, name: str, n: int) -> tuple[int, ...]:
        side = self._side[name]
        return (n, len(self.sources[name].bands), *((side, side) if side else ()))

    def _remember(self) -> None:
        scenes = {name: list(known) for name, known in self._scenes.items()}
        write_json(self._partial / "progress.json", {"written": self.written, "note": self.note, "scenes": scenes})

    def _scene_numbers(self, source: str, ids: Sequence[str] | None, n: int) -> np.ndarray:
        if ids is None:
            return np.full(n, -1, dtype=np.int32)
        known = self._scenes[source]
        return np.array([known.setdefault(str(one), len(known)) if one else -1 for one in ids], dtype=np.int32)

    def write_static(
        self, source: str, values: np.ndarray, *, start: int = 0, scenes: Sequence[str] | None = None
    ) -> None:
        """Write images of a static source, (sensor, band, y, x), from the sensor in row `start` on."""
        if source not in self.sources or not self.sources[source].static:
            static = [name for name, one in self.sources.items() if one.static]
            raise ParameterError(_WHO, "there is no such static source", got=source, expected=static)
        self._put(f"{source}/values", start, np.asarray(values), self._shape(source, len(values)))
        self._put(f"{source}/scene", start, self._scene_numbers(source, scenes, len(values)), (len(values),))
        self._remember()

    def _put(self, key: str, start: int, values: np.ndarray, shape: tuple[int, ...]) -> None:
        if values.shape != shape:
            raise ContractError(_WHO, f"{key!r} has another shape", got=values.shape, expected=shape)
        array = self._root[key]
        if array.shape[0] < start + len(values):
            array.resize((start + len(values), *array.shape[1:]))
        array[start : start + len(values)] = values.astype(array.dtype, copy=False)

    def finish(
        self,
        sensors: pd.DataFrame,
        *,
        counts: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> SampleStore:
        """Check the store, give it its name and open it.

        `sensors` has one row a sensor, unique ``sensor_id``; `counts` (JSON) say what was read and dropped.
        """
        if self.written == 0:
            raise ContractError(_WHO, "there is no sample", got=0, expected=plain("one or more"))
        static = {
            f"{name}/{array}" for name, one in self.sources.items() if one.static for array in ("values", "scene")
        }
        for key, array in self._root.members(max_depth=None):  # what a kill left beyond the last samples that are safe
            if isinstance(array, zarr.Array) and key not in static and array.shape[0] > self.written:
                array.resize((self.written, *array.shape[1:]))
        write_sensors(self._partial / "store.zarr", sensors, np.asarray(self._root["sensor"][:]))
        for name, source in self.sources.items():
            rows = self._root[f"{name}/values"].shape[0]
            if source.static and rows != len(sensors):
                what = f"the static source {name!r} has no image for each sensor"
                raise ContractError(_WHO, what, got=rows, expected=len(sensors))
        scenes = {name: list(known) for name, known in self._scenes.items() if known}
        last = {"counts": dict(counts or {}), "scenes": scenes, "complete": True}
        self._root.attrs.put({**self.attrs, **(attrs or {}), **last})
        put_in_place(self._partial, self.path)
        return SampleStore(self.path)
