"""The match-up builder: from in-situ readings and the scenes of many sources to a sample store."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time as clock
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from smnb.contract import ContractError, FormatError, ParameterError, RunError, plain
from smnb.loaders.insitu import InSituTables
from smnb.papers.batchu2023.matchup.cutting import LAYOUT, Geometry, make_tasks
from smnb.papers.batchu2023.matchup.fan_out import Cutters, Journal, cutters
from smnb.papers.batchu2023.matchup.planning import PAPER_DEPTHS, MatchPlan, plan_matchups
from smnb.papers.batchu2023.matchup.report import MatchupResult
from smnb.papers.batchu2023.matchup.sensor_table import (
    DEFAULT_SPLITS,
    describe_split,
    make_splits,
)
from smnb.papers.batchu2023.matchup.sources import MatchSource, Scenes, check_sources
from smnb.papers.batchu2023.normalisation import denormalise
from smnb.papers.batchu2023.store import SCHEMA, SampleStore
from smnb.papers.batchu2023.store.layout import NAT, chunk_rows, create_column, create_images, write_sensors
from smnb.papers.batchu2023.store.writing import open_partial, partial_folder, put_in_place
from smnb.sensors import add_strata

if TYPE_CHECKING:
    from smnb.sensors import Split


_WHO = "build_matchups"
_EMPTY = "crop without any value"

#: ``progress(source, done, total)``, tasks.
Progress = Callable[[str, int, int], None]


def build_matchups(
    insitu: InSituTables,
    sources: Mapping[str, Scenes],
    *,
    out: str | os.PathLike[str],
    anchor: str = "sentinel1",
    crop: int = 512,
    resolution: float = 10.0,
    low_resolution: float = 160.0,
    flags: str | Sequence[str] = "paper",
    depths: Sequence[Sequence[float]] | None = PAPER_DEPTHS,
    specs: Mapping[str, MatchSource] | None = None,
    optional: Iterable[str] = (),
    land_cover: str | os.PathLike[str] | None = None,
    on_unknown_land_cover: str = "raise",
    splits: Mapping[str, Mapping[str, Any]] | None = None,
    workers: int = 0,
    scheduler: str | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> MatchupResult:
    """Pair in-situ readings with the images of many sources around them, as paper 004 does, and write a sample store.

    A reading that passes flags and depth meets, of each source, the latest scene before it within the source's bound whose
    bounds hold its sensor; Sentinel-2 scenes with more than 30 % cloud are left out first. A reading that lacks a source is
    dropped and counted. The scene is brought to a window of 10 m cells around the sensor in the UTM zone of the sensor
    (160 m for soil and leaf area, one value for SMAP and GLDAS), normalised and stored. Where several readings meet one
    image it is cut and stored once.

    Parameters
    ----------
    insitu : InSituTables
        From `smnb.loaders.insitu.open_insitu`.
    sources : mapping
        Source to its scenes, a `smnb.loaders.rasters.SceneIndex`. A source that is given is required, unless optional.
    out : path-like
        ``name.zarr``.
    anchor : {"sentinel1", "smap"}
        Source whose image meets one reading at most, with the bounds of Table 5 or Table 20.
    crop : int
        Pixels on a side of the fine images.
    resolution, low_resolution : float
        Metres a pixel.
    flags, depths
        As `plan_matchups`.
    specs : mapping, optional
        Source to `MatchSource`, in place of the paper's (`paper_sources`).
    optional : iterable of str
        Sources that a point may lack; it then has NaN there.
    land_cover : path-like, optional
        Raster of CGLS-LC100 codes, for sensors whose archive has no code.
    on_unknown_land_cover : {"raise", "none"}
        What to do with a code that the legend lacks: refuse it, or count it and give the sensor no group.
    splits : mapping, optional
        Name to the options of `smnb.sensors.make_split`; default the paper's by sensor, 60:20:20, and one by 3° blocks.
    workers : int
        Processes of a Dask cluster on this machine; 0 takes threads.
    scheduler : str, optional
        Address of a Dask scheduler instead; its workers need the files and `out` under the same names.
    resume : bool
        Go on with a build that was killed; False starts anew and replaces what is there.
    progress : callable, optional
        Called with a source's name, and how many of its tasks are done and there are.

    Returns
    -------
    MatchupResult

    Raises
    ------
    ParameterError, ContractError
        On an option or table that does not fit; on a source that never meets a point (with its span and the readings').
    RunError
        If a scene cannot be read (what is done is kept), another build is in the folder, or the scheduler is not there.

    Notes
    -----
    The points are planned first, from tables alone. Then source after source is cut, coarse products before images, so
    that a point that turns out to lack one costs no further image. A finished task is noted beside the store.

    References
    ----------
    Batchu, Nearing and Gulshan 2023, J. Hydrometeorol. 24(10), doi:10.1175/JHM-D-22-0118.1, section 2c.
    """
    began, path = clock.perf_counter(), Path(out)
    joined = check_sources(_WHO, sources, anchor, specs, optional)
    geometry = Geometry(crop, float(resolution), float(low_resolution))
    for spec in joined.values():
        geometry.side(spec.kind)  # refuses a crop that does not fit
    plan = plan_matchups(insitu, sources, anchor=anchor, specs=joined, flags=flags, depths=depths)
    sensors = _with_strata(plan.sensors, land_cover, on_unknown_land_cover)
    plan.counts["unknown_land_cover"] = sensors.attrs.pop("unknown_land_cover")
    plan = replace(plan, sensors=sensors)
    made = make_splits(plan.sensors, DEFAULT_SPLITS if splits is None else splits)
    cutting = {
        **plan.fingerprint(sources),
        "crop": crop,
        "resolution_m": geometry.resolution,
        "low_resolution_m": geometry.low_resolution,
        "layout": LAYOUT,
    }
    about = {
        "anchor": anchor,
        "crop": crop,
        "resolution_m": geometry.resolution,
        "low_resolution_m": geometry.low_resolution,
        "insitu": insitu.catalog_id,
        "synthetic": bool(insitu.synthetic or any(one.synthetic for one in sources.values())),
        "flags": flags if isinstance(flags, str) else list(flags),
    }
    about["fingerprint"] = _fingerprint(cutting, about, plan.sensors, made)
    if resume and (finished := _finished(path, about["fingerprint"])) is not None:
        counts, described = finished.attrs["counts"], finished.attrs["splits"]
        return MatchupResult(path, counts, described, 0, 0, True, clock.perf_counter() - began)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        partial, _ = open_partial(_WHO, path, cutting, resume=resume, overwrite=True)
        build = _Build(plan, sources, geometry, partial, progress)
        with cutters(workers=workers, scheduler=scheduler) as pool:
            for name in plan.specs:
                build.cut_source(pool, name)
        attrs = build.finish(about, made)
        put_in_place(partial, path)
    return MatchupResult(
        path, attrs["counts"], attrs["splits"], build.n_tasks, build.n_resumed, False, clock.perf_counter() - began
    )


def _with_strata(sensors: pd.DataFrame, land_cover: str | os.PathLike[str] | None, on_unknown: str) -> pd.DataFrame:
    try:
        return add_strata(sensors, land_cover=land_cover, on_unknown=on_unknown)
    except ParameterError as error:
        raise ParameterError(
            _WHO,
            f"strata of the sensors: {error.what}",
            got=error.got,
            expected=error.expected,
            next_step="Check the raster, or count them with on_unknown_land_cover='none'",
        ) from error


def _fingerprint(
    cutting: Mapping[str, Any], about: Mapping[str, Any], sensors: pd.DataFrame, made: Mapping[str, Split]
) -> str:
    """Of all that the store depends on: what is cut, and what the sensor table says."""
    sides = {name: [split.options, split.assignment.tolist()] for name, split in made.items()}
    text = json.dumps([cutting, about, sides, sensors.astype(str).to_csv(index=False)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _finished(path: Path, fingerprint: str) -> SampleStore | None:
    """The store, if it is there and of this very build."""
    if not path.exists():
        return None
    try:
        store = SampleStore(path)
    except (FormatError, RunError) as error:
        raise RunError(
            _WHO,
            f"{path} is there and is no finished sample store: {error.what}",
            next_step="Choose another output, or replace it with resume=False (--no-resume)",
        ) from error
    if store.attrs.get("fingerprint") != fingerprint:
        raise RunError(
            _WHO,
            f"{path} holds another store",
            got=plain("other readings, scenes, sources or options"),
            next_step="Choose another output, or replace it with resume=False (--no-resume)",
        )
    return store


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep a second build of the same store out; the system lets go of the lock when the process ends, however it does."""
    lock = partial_folder(path).with_suffix(".lock")
    with open(lock, "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(_WHO, "another process is building this store", got=str(path)) from error
        yield
        lock.unlink(missing_ok=True)


@dataclass
class _Cut:
    """What of a source is in the store."""

    image: NDArray[np.int32] | None = None
    """Row in ``values`` of each point of the plan (of each sensor, for a static source), -1 where there is none."""
    values: NDArray[np.float32] | None = None
    """Of a coarse source, (point, band)."""


class _Build:
    """A build that is going on."""

    def __init__(
        self,
        plan: MatchPlan,
        scenes: Mapping[str, Scenes],
        geometry: Geometry,
        partial: Path,
        progress: Progress | None,
    ) -> None:
        self.plan, self.scenes, self.geometry, self.progress = plan, scenes, geometry, progress
        self.store, self.journal = partial / "store.zarr", Journal(partial / "done.jsonl")
        self.left = np.ones(len(plan), bool)
        """Points that have every source so far."""
        self.cuts: dict[str, _Cut] = {}
        self.n_tasks = self.n_resumed = 0
        self._root = zarr.open_group(self.store, mode="a", zarr_format=3)
        # sensors at one place see the same images
        place = plan.sensors[["lat", "lon"]].to_numpy("float64")
        self._places, self._place_of = np.unique(place, axis=0, return_inverse=True)
        self._place_of = self._place_of.reshape(-1)

    def cut_source(self, pool: Cutters, name: str) -> None:
        """Cut what the points that are left see of a source, and drop those that see nothing."""
        spec, scene = self.plan.specs[name], self.plan.scene[name]
        wanted = np.flatnonzero(self.left & (scene >= 0))
        place = self._place_of[self.plan.sensor[wanted]]
        pair, inverse = np.unique(scene[wanted].astype(np.int64) * len(self._places) + place, return_inverse=True)
        position, place = np.divmod(pair, len(self._places))
        bands = len(spec.bands)
        side = self.geometry.side(spec.kind)
        chunk = 1 if spec.kind == "coarse" else chunk_rows(bands, side)
        lat, lon = self._places[place].T
        tasks, rows, n_rows = make_tasks(position.astype(np.int32), lat, lon, chunk)
        done = self.journal.done(name)
        if not done:
            group = self._root.require_group(name)
            if spec.kind != "coarse":
                create_images(group, spec.stored(""), n_rows, side)
        self.n_tasks, self.n_resumed = self.n_tasks + len(tasks), self.n_resumed + len(done)
        todo = (task for task in tasks if task.number not in done)
        self._say(name, len(done), len(tasks))
        for task, result in pool.run(todo, self.scenes[name], name, spec, self.geometry, self.store):
            self.journal.add(name, task.number, result)
            self._say(name, len(done), len(tasks))
        results = np.concatenate([done[task.number] for task in tasks]) if tasks else np.empty(0)
        if spec.kind == "coarse":
            full = np.full((len(self.plan), bands), np.nan, np.float32)
            full[wanted] = results.reshape(-1, bands)[inverse]
            self.cuts[name] = _Cut(values=full)
            has = np.isfinite(full).any(axis=1)
        else:
            image = np.full(len(self.plan), -1, np.int32)
            image[wanted] = np.where(results.astype(bool), rows, -1)[inverse]
            self.cuts[name] = _Cut(image=image)
            has = image >= 0
        empty = np.zeros(len(self.plan), bool)
        empty[wanted] = ~has[wanted]
        self._drop(name, has, int(empty.sum()))

    def _say(self, name: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(name, done, total)

    def _drop(self, name: str, has: NDArray[np.bool_], empty: int) -> None:
        counts, spec = self.plan.counts, self.plan.specs[name]
        counts["sources"][name][_EMPTY] = empty
        if spec.optional:
            return
        counts["dropped"][name] += int((self.left & ~has).sum())
        self.left &= has
        if not self.left.any():
            raise ContractError(
                _WHO,
                f"no point has a value of {name!r} and of the sources before it",
                got=counts["dropped"],
                next_step="Check that its files hold data around the sensors",
            )

    def finish(self, about: Mapping[str, Any], made: Mapping[str, Split]) -> dict[str, Any]:
        """Write all that goes by sample or sensor; return the store's attributes."""
        plan, left = self.plan, self.left
        used, sensor = np.unique(plan.sensor[left], return_inverse=True)
        sensor = sensor.astype(np.int32)
        for name, values in (("label", plan.label[left]), ("time", plan.time[left]), ("sensor", sensor)):
            create_column(self._root, name, values)
        scenes = {}
        for name, spec in plan.specs.items():
            first = np.searchsorted(sensor, np.arange(used.size)) if spec.static else slice(None)
            scenes[name] = self._finish_source(name, spec, first)
        sensors = plan.sensors.iloc[used].reset_index(drop=True)
        sensors = add_strata(sensors, soil=self._soil(sensors))
        sensors.attrs = {}
        splits = {name: describe_split(split, sensors, sensor) for name, split in made.items()}
        for name, split in made.items():
            sensors[f"split_{name}"] = split.assignment.reindex(sensors["sensor_id"]).to_numpy()
        write_sensors(self.store, sensors)
        counts = {**plan.counts, "sensors": len(sensors), "samples": int(left.sum())}
        stored = {name: spec.stored(self.scenes[name].catalog_id).as_dict() for name, spec in plan.specs.items()}
        attrs = {
            **about,
            "smnb_schema": SCHEMA,
            "sources": stored,
            "scenes": scenes,
            "counts": counts,
            "splits": splits,
            "complete": True,
        }
        for leftover in self.store.rglob("*.partial"):  # of a chunk that was being written when a build was killed
            leftover.unlink()
        self._root.attrs.put(attrs)
        return attrs

    def _finish_source(self, name: str, spec: MatchSource, first: Any) -> list[str]:
        """Write a source's columns; return the ids of its scenes in the order of their numbers."""
        group, cut = self._root.require_group(name), self.cuts[name]
        dim = "sensor" if spec.static else "sample"
        scene = self.plan.scene[name][self.left][first]
        if cut.values is not None:
            create_column(group, "values", cut.values[self.left])
            scene = np.where(np.isfinite(cut.values[self.left]).any(axis=1), scene, -1)
        else:
            image = cut.image[self.left][first]
            create_column(group, "image", image, dim)
            scene = np.where(image >= 0, scene, -1)
        table = self.scenes[name].table
        known = np.unique(scene[scene >= 0])
        create_column(group, "scene", np.where(scene >= 0, np.searchsorted(known, scene), -1).astype(np.int32), dim)
        if not spec.static:
            times = pd.DatetimeIndex(table["time"])
            times = times.tz_convert("UTC").tz_localize(None) if times.tz is not None else times
            ns = np.append(times.to_numpy("datetime64[ns]").view(np.int64), NAT)
            create_column(group, "time", ns[scene])
        return [str(one) for one in table["scene_id"].iloc[known]]

    def _soil(self, sensors: pd.DataFrame) -> pd.DataFrame | None:
        """SoilGrids fractions at the sensors, g kg-1, if the source is there."""
        spec = self.plan.specs.get("soilgrids")
        if spec is None or not {"sand", "silt", "clay"} <= set(spec.bands):
            return None
        rows = np.asarray(self._root["soilgrids/image"][:])
        centre = self.geometry.side(spec.kind) // 2
        array = self._root["soilgrids/values"]
        values = np.full((len(sensors), len(spec.bands)), np.nan, np.float32)
        for i, row in enumerate(rows):
            if row >= 0:
                values[i] = array[int(row), :, centre, centre]
        parts = {band: denormalise("soilgrids", band, values[:, i]) for i, band in enumerate(spec.bands)}
        return pd.DataFrame(parts)
