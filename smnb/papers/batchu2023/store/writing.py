"""Writing a sample store, sample after sample; a killed writing goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr

from smnb.contract import ContractError, ParameterError, RunError, plain
from smnb.files import write_json
from smnb.papers.batchu2023.store.layout import (
    NAT,
    SCHEMA,
    STANDARD_SOURCES,
    StoredSource,
    check_sensors,
    chunk_rows,
    create_column,
    create_images,
    image_side,
    stored_sources,
    time_to_ns,
    write_sensors,
)
from smnb.papers.batchu2023.store.reading import SampleStore

_WHO = "SampleStoreWriter"


def partial_folder(path: Path) -> Path:
    """Where a store is kept until it is whole: a hidden folder beside it."""
    return path.parent / f".{path.name}.partial"


def put_in_place(partial: Path, path: Path) -> None:
    """Give a whole store its name; what had the name goes with the partial folder."""
    if path.is_dir():  # a folder cannot be replaced in one step
        path.replace(partial / "replaced")
    (partial / "store.zarr").replace(path)
    shutil.rmtree(partial)


def open_partial(
    who: str, path: Path, fingerprint: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> tuple[Path, bool]:
    """Make or find the partial folder of a store, and whether there was one to go on with."""
    if path.suffix != ".zarr":
        raise ParameterError(who, "a sample store's name ends with .zarr", got=path.name)
    if path.exists() and not overwrite:
        raise ParameterError(who, "the store is there", got=str(path), next_step="Choose another name, or overwrite it")
    partial = partial_folder(path)
    record = partial / "plan.json"
    found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
    wanted = json.loads(json.dumps(fingerprint))
    if found is not None and found != wanted and resume:
        changed = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        raise RunError(
            who,
            f"{partial} holds part of another store",
            got=plain(f"other {', '.join(changed)}"),
            next_step="Choose another name, or start anew with resume=False (--no-resume)",
        )
    if found is None or not resume:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_json(record, wanted)
        return partial, False
    return partial, True


class SampleStoreWriter:
    """Write samples one after another; the store gets its name when it is finished.

    Until then it is in a hidden folder beside `path`, which survives a kill. A writer with the same arguments goes on there:
    `written` says how many samples are safe, and `note` what the last `write` noted.

    Parameters
    ----------
    path : path-like
        ``name.zarr``.
    sources : mapping
        Name to `StoredSource`, or to its fields; those of `STANDARD_SOURCES` may be left out.
    crop : int
        Pixels on a side of the fine images.
    sensors : DataFrame, optional
        Sensor table, unique ``sensor_id``; may come with `finish` instead.
    resolution, low_resolution : float
        Metres a pixel of fine and low images.
    anchor : str
        Source that the samples were anchored to.
    synthetic : bool
        Whether any of the data were simulated.
    fingerprint : str
        Of what is written; a partial store with another one is refused.
    resume : bool
        Go on with a partial store; False starts anew.
    overwrite : bool
        Replace a store of this name.
    attrs : mapping, optional
        Further attributes (JSON).

    Raises
    ------
    ParameterError
        On a source or crop that is none, or a store that is there.
    RunError
        If the partial store is another's.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sources: Mapping[str, StoredSource | Mapping[str, Any]],
        crop: int,
        sensors: pd.DataFrame | None = None,
        resolution: float = 10.0,
        low_resolution: float = 160.0,
        anchor: str = "sentinel1",
        synthetic: bool = False,
        fingerprint: str = "",
        resume: bool = True,
        overwrite: bool = False,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.sensors = Path(path), sensors
        self.sources = stored_sources(_WHO, sources)
        if sensors is not None:
            check_sensors(_WHO, sensors)
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
            name: 0 if one.kind == "coarse" else image_side(_WHO, one.kind, crop, resolution, low_resolution)
            for name, one in self.sources.items()
        }
        self._partial, found = open_partial(_WHO, self.path, self.attrs, resume=resume, overwrite=overwrite)
        self.written, self.note = 0, None
        self._scenes: dict[str, dict[str, int]] = {name: {} for name in self.sources}
        progress = self._partial / "progress.json"
        if found and progress.is_file():
            self._root = zarr.open_group(self._partial / "store.zarr", mode="r+", zarr_format=3)
            state = json.loads(progress.read_text(encoding="utf-8"))
            self.written, self.note = state["written"], state["note"]
            self._scenes = {name: {one: i for i, one in enumerate(ids)} for name, ids in state["scenes"].items()}
        else:
            self._root = zarr.open_group(self._partial / "store.zarr", mode="w", zarr_format=3)
            self._create()

    def _create(self) -> None:
        for name, dtype in (("label", "float32"), ("time", "int64"), ("sensor", "int32")):
            create_column(self._root, name, np.empty(0, dtype))
        for name, source in self.sources.items():
            group = self._root.create_group(name, overwrite=True)
            create_images(group, source, 0, self._side[name])
            if not source.static:
                create_column(group, "time", np.empty(0, "int64"))
            create_column(group, "scene", np.empty(0, "int32"), "sensor" if source.static else "sample")

    @property
    def chunk(self) -> int:
        """Samples to write at a time (or a multiple), so that no chunk is written twice."""
        images = [(len(s.bands), self._side[n]) for n, s in self.sources.items() if s.kind != "coarse" and not s.static]
        return int(np.lcm.reduce([chunk_rows(*one) for one in images])) if images else 1 << 16

    def write(self, start: int, chunk: Mapping[str, Any], *, note: Any = None) -> None:
        """Write samples.

        Parameters
        ----------
        start : int
            Number of the first; at most `written`.
        chunk : mapping
            ``label`` (n) m3 m-3, ``time`` (n) UTC, ``sensor`` (n) rows of the sensor table, ``values``: source to
            (n, band, y, x) or (n, band), NaN where missing; optionally ``times``: source to (n) times, and ``scenes``: source
            to (n) ids of scenes ("" for none).
        note : JSON, optional
            Kept with `written`, such as the place in the input.

        Raises
        ------
        ContractError
            On a shape or key that does not fit.
        """
        unknown = sorted(set(chunk) - {"label", "time", "sensor", "values", "times", "scenes"})
        dynamic = {name for name, source in self.sources.items() if not source.static}
        if unknown or set(chunk.get("values", {})) != dynamic:
            raise ContractError(
                _WHO,
                "a chunk has other keys or sources",
                got=[*unknown, *chunk.get("values", {})],
                expected=sorted(dynamic),
                next_step="Static sources go through write_static",
            )
        if not 0 <= start <= self.written:
            raise ContractError(_WHO, "samples are left out", got=start, expected=plain(f"at most {self.written}"))
        label = np.asarray(chunk["label"], dtype=np.float32)
        n = label.size
        columns = {
            "label": label,
            "time": time_to_ns(_WHO, chunk["time"]),
            "sensor": np.asarray(chunk["sensor"], "int32"),
        }
        for key, column in columns.items():
            self._put(key, start, column, (n,))
        for name in dynamic:
            bands = len(self.sources[name].bands)
            shape = (n, bands) if self.sources[name].kind == "coarse" else (n, bands, *(self._side[name],) * 2)
            self._put(f"{name}/values", start, np.asarray(chunk["values"][name]), shape)
            times = chunk.get("times", {}).get(name)
            self._put(f"{name}/time", start, np.full(n, NAT) if times is None else time_to_ns(_WHO, times), (n,))
            self._put(f"{name}/scene", start, self._scene_numbers(name, chunk.get("scenes", {}).get(name), n), (n,))
        self.written, self.note = max(self.written, start + n), note
        self._remember()

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
        shape = (len(values), len(self.sources[source].bands), *(self._side[source],) * 2)
        self._put(f"{source}/values", start, np.asarray(values), shape)
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
        *,
        counts: Mapping[str, Any] | None = None,
        sensors: pd.DataFrame | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> SampleStore:
        """Check the store, give it its name and open it.

        Parameters
        ----------
        counts : mapping, optional
            What was read and dropped, by reason (JSON).
        sensors : DataFrame, optional
            Sensor table, if it was not given before, or with more columns.
        attrs : mapping, optional
            Further attributes.

        Raises
        ------
        ContractError
            If there is no sample or no sensor table, or a sensor lacks its row or its static images.
        """
        sensors = self.sensors if sensors is None else sensors
        if self.written == 0:
            raise ContractError(_WHO, "there is no sample", got=0, expected=plain("one or more"))
        static = {
            f"{name}/{array}" for name, one in self.sources.items() if one.static for array in ("values", "scene")
        }
        for key, array in self._root.members(max_depth=None):  # what a kill left beyond the last samples that are safe
            if isinstance(array, zarr.Array) and key not in static and array.shape[0] > self.written:
                array.resize((self.written, *array.shape[1:]))
        check_sensors(_WHO, sensors, np.asarray(self._root["sensor"][:]))
        for name, source in self.sources.items():
            rows = self._root[f"{name}/values"].shape[0]
            if source.static and rows != len(sensors):
                raise ContractError(
                    _WHO, f"the static source {name!r} has no image for each sensor", got=rows, expected=len(sensors)
                )
        scenes = {name: list(known) for name, known in self._scenes.items() if known}
        self._root.attrs.put(
            {**self.attrs, **(attrs or {}), "counts": dict(counts or {}), "scenes": scenes, "complete": True}
        )
        write_sensors(self._partial / "store.zarr", sensors)
        put_in_place(self._partial, self.path)
        return SampleStore(self.path)


def write_sample_store(
    path: str | os.PathLike[str],
    *,
    sensors: pd.DataFrame,
    sensor: Any,
    time: Any,
    label: Any,
    values: Mapping[str, np.ndarray],
    sources: Mapping[str, StoredSource | Mapping[str, Any]] | None = None,
    times: Mapping[str, Any] | None = None,
    counts: Mapping[str, Any] | None = None,
    resolution: float = 10.0,
    low_resolution: float = 160.0,
    anchor: str = "sentinel1",
    synthetic: bool = False,
    overwrite: bool = False,
    **attrs: Any,
) -> SampleStore:
    """Write a store from arrays in memory.

    Parameters
    ----------
    path : path-like
        ``name.zarr``.
    sensors : DataFrame
        One row a sensor, with ``sensor_id`` and any other columns (``split_<name>`` are the sides of splits).
    sensor : array_like of int, shape (n,)
        Row of `sensors` of each sample.
    time : array_like of datetime64, shape (n,)
    label : array_like, shape (n,)
        Soil moisture, m3 m-3.
    values : mapping
        Source to (n, band, y, x) in [0, 1], to (sensor, band, y, x) for a static source, or to (n, band) in m3 m-3 for a coarse
        one.
    sources : mapping, optional
        As `SampleStoreWriter`; default `STANDARD_SOURCES` by name.
    times : mapping, optional
        Source to (n) times of the images.
    counts, resolution, low_resolution, anchor, synthetic, overwrite
        As `SampleStoreWriter`.
    **attrs
        Further attributes.

    Returns
    -------
    SampleStore

    Raises
    ------
    ContractError, ParameterError
        As `SampleStoreWriter`.
    """
    unknown = [name for name in values if name not in (sources or STANDARD_SOURCES)]
    if unknown:
        raise ParameterError(
            "write_sample_store",
            f"{unknown} are not described",
            expected=list(sources or STANDARD_SOURCES),
            next_step="Describe them with sources={name: StoredSource(kind, bands)}",
        )
    described = stored_sources("write_sample_store", {name: (sources or STANDARD_SOURCES)[name] for name in values})
    low_factor = low_resolution / resolution
    sides = [
        round(np.shape(values[name])[-1] * (low_factor if one.kind == "low" else 1.0))
        for name, one in described.items()
        if one.kind != "coarse"
    ]
    crop = max(sides) if sides else round(low_factor)
    writer = SampleStoreWriter(
        path,
        sources=described,
        crop=crop,
        sensors=sensors,
        resolution=resolution,
        low_resolution=low_resolution,
        anchor=anchor,
        synthetic=synthetic,
        resume=False,
        overwrite=overwrite,
        attrs=attrs,
    )
    for name, one in described.items():
        if one.static:
            writer.write_static(name, np.asarray(values[name]))
    dynamic = {name: np.asarray(values[name]) for name, one in described.items() if not one.static}
    writer.write(0, {"label": label, "time": time, "sensor": sensor, "values": dynamic, "times": times or {}})
    return writer.finish(counts=counts)
