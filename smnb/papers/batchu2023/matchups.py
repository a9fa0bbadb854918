"""The match-up builder: from in-situ readings and the scenes of many sources to a sample store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time as clock
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from smnb.contract import ContractError, FormatError, ParameterError, RunError, plain
from smnb.loaders.insitu import InSituTables
from smnb.maps.parallel import Workers, open_workers
from smnb.papers.batchu2023 import store_writing as writing
from smnb.papers.batchu2023.cutting import LAYOUT, CutGeometry, Journal, cut, make_tasks
from smnb.papers.batchu2023.join import PAPER_DEPTHS, MatchPlan, plan_matchups
from smnb.papers.batchu2023.sources import Source, joined_sources
from smnb.papers.batchu2023.store import NAT, SCHEMA, SampleStore, chunk_rows, create_values, write_column
from smnb.sensors import Split, add_strata

if TYPE_CHECKING:
    from smnb.loaders.rasters import SceneIndex

_WHO = "build_matchups"
_EMPTY = "crop without any value"

#: ``progress(source, done, total)``, tasks.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class MatchupResult:
    """A finished sample store and how it came about.

    Its ``counts``: ``readings`` given, dropped by reason, kept; ``sources``, points that lack a source, by reason;
    ``dropped``, points by the first source that they lack; ``sensors``, ``samples``.
    """

    store: SampleStore
    n_tasks: int = 0
    n_resumed: int = 0
    """Tasks that were done before."""
    was_finished: bool = False
    """Whether the store was there and nothing was left to do."""
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, Any]:
        """What became of the readings."""
        return self.store.attrs["counts"]

    def __str__(self) -> str:
        counts, readings = self.counts, self.counts["readings"]
        removed = ", ".join(f"{key} {n:,}" for key, n in readings.items() if key not in ("given", "kept") and n)
        lines = [
            f"{counts['samples']:,} samples of {counts['sensors']:,} sensors, from {readings['kept']:,} of "
            f"{readings['given']:,} readings" + (f" (removed: {removed})" if removed else "")
        ]
        for source, reasons in counts["sources"].items():
            why = ", ".join(f"{reason} {n:,}" for reason, n in reasons.items() if n) or "none lacks it"
            lines.append(f"  {source}: {counts['dropped'][source]:,} points dropped; {why}")
        if unknown := counts["unknown_land_cover"]:
            codes = ", ".join(f"code {code}, {n} sensors" for code, n in unknown.items())
            lines.append(f"  unknown land cover: {codes}")
        for name, split in self.store.attrs["splits"].items():
            found = {side: n for side, n in split["sensors"].items() if n}
            sides = ", ".join(f"{side} {n} ({split['samples'][side]:,} samples)" for side, n in found.items())
            leaks = ", ".join(f"{leak} {n}" for leak, n in split["leaks"].items()) or "no leak found"
            lines.append(f"  split {name}: {sides}; {leaks}")
        return "\n".join(lines)


def build_matchups(
    insitu: InSituTables,
    scenes: Mapping[str, SceneIndex],
    *,
    out: str | os.PathLike[str],
    sources: Iterable[Source] = (),
    anchor: str = "sentinel1",
    crop: int = 512,
    resolution: float = 10.0,
    low_resolution: float = 160.0,
    flags: str | Sequence[str] = "paper",
    depths: Sequence[Sequence[float]] | None = PAPER_DEPTHS,
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
    scenes : mapping
        Source to its scenes, a `smnb.loaders.rasters.SceneIndex`. A source that is given is required, unless optional.
    out : path-like
        ``name.zarr``.
    sources : iterable of Source
        Own sources, or the paper's with other settings; the paper's need not be given.
    anchor : {"sentinel1", "smap"}
        Source whose image meets one reading at most, with the bounds of Table 5 or Table 20.
    crop, resolution, low_resolution
        Pixels on a side of the fine images, and metres a pixel.
    flags, depths
        As `plan_matchups`.
    optional : iterable of str
        Sources that a point may lack; it then has NaN there.
    land_cover : path-like, optional
        Raster of CGLS-LC100 codes, for sensors whose archive has no code.
    on_unknown_land_cover : {"raise", "none"}
        What to do with a code that the legend lacks: refuse it, or count it and give the sensor no group.
    splits : mapping, optional
        Name to the options of `smnb.sensors.make_split`; default the paper's by sensor, 60:20:20, and one by 3° blocks.
    workers, scheduler
        Processes of a Dask cluster on this machine (0 takes threads), or the address of a Dask scheduler, whose workers need the
        files and `out` under the same names.
    resume : bool
        Go on with a build that was killed; False starts anew and replaces what is there.
    progress : callable, optional
        Called with a source's name, and how many of its tasks are done and there are.

    Raises
    ------
    ParameterError, ContractError
        On an option or table that does not fit; on a source that never meets a point (with its span and the readings').
    RunError
        If a scene cannot be read (what is done is kept), another build is in the folder, or the scheduler is not there.

    References
    ----------
    Batchu, Nearing and Gulshan 2023, J. Hydrometeorol. 24(10), doi:10.1175/JHM-D-22-0118.1, section 2c.
    """
    began, path = clock.perf_counter(), Path(out)
    joined = joined_sources(_WHO, scenes, anchor, sources, optional)
    geometry = CutGeometry(crop, float(resolution), float(low_resolution))
    for source in joined.values():
        geometry.side(source.kind)  # refuses a crop that does not fit
    plan = plan_matchups(insitu, scenes, joined, anchor=anchor, flags=flags, depths=depths)
    plan.sensors = _with_strata(plan.sensors, land_cover, on_unknown_land_cover)
    plan.counts["unknown_land_cover"] = plan.sensors.attrs.pop("unknown_land_cover")
    made = writing.make_splits(plan.sensors, writing.DEFAULT_SPLITS if splits is None else splits)
    sizes = {"crop": crop, "resolution_m": geometry.resolution, "low_resolution_m": geometry.low_resolution}
    cutting = {**plan.fingerprint(scenes), **sizes, "layout": LAYOUT}
    about = {
        "anchor": anchor,
        **sizes,
        "insitu": insitu.catalog_id,
        "synthetic": bool(insitu.synthetic or any(one.synthetic for one in scenes.values())),
        "flags": flags if isinstance(flags, str) else list(flags),
    }
    about["fingerprint"] = _fingerprint(cutting, about, plan.sensors, made)
    if resume and (finished := _finished(path, about["fingerprint"])) is not None:
        return MatchupResult(finished, was_finished=True, seconds=clock.perf_counter() - began)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        partial, _ = writing.open_partial(_WHO, path, cutting, resume=resume)
        build = _Build(plan, scenes, geometry, partial, progress)
        with open_workers(_WHO, workers, scheduler) as pool:
            for name in plan.sources:
                build.cut_source(pool, name)
        build.finish(about, made)
        writing.put_in_place(partial, path)
    return MatchupResult(SampleStore(path), build.n_tasks, build.n_resumed, seconds=clock.perf_counter() - began)


def _with_strata(sensors: pd.DataFrame, land_cover: str | os.PathLike[str] | None, on_unknown: str) -> pd.DataFrame:
    try:
        return add_strata(sensors, land_cover=land_cover, on_unknown=on_unknown)
    except ParameterError as error:
        parts = {"got": error.got, "expected": error.expected}
        step = "Check the raster, or count them: on_unknown_land_cover='none'"
        raise ParameterError(_WHO, f"strata of the sensors: {error.what}", **parts, next_step=step) from error


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
    replace = "Choose another output, or replace it with resume=False (--no-resume)"
    try:
        store = SampleStore(path)
    except (FormatError, RunError) as error:
        what = f"{path} is there and is no finished sample store: {error.what}"
        raise RunError(_WHO, what, next_step=replace) from error
    if store.attrs.get("fingerprint") != fingerprint:
        got = plain("other readings, scenes, sources or options")
        raise RunError(_WHO, f"{path} holds another store", got=got, next_step=replace)
    return store


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep a second build of the same store out; the system lets go of the lock when the process ends, however it does."""
    lock = writing.partial_folder(path).with_suffix(".lock")
    with open(lock, "w") as stream:
        try:
            try:
                import fcntl
            except ModuleNotFoundError:  # Windows
                import msvcrt

                msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(_WHO, "another process is building this store", got=str(path)) from error
        yield
        with contextlib.suppress(PermissionError):  # Windows keeps an open file
            lock.unlink(missing_ok=True)


class _Build:
    """A build that is going on."""

    def __init__(
        self,
        plan: MatchPlan,
        scenes: Mapping[str, SceneIndex],
        geometry: CutGeometry,
        partial: Path,
        progress: Progress | None,
    ) -> None:
        self.plan, self.scenes, self.geometry = plan, scenes, geometry
        self.progress = progress or (lambda *_: None)
        self.store, self.journal = partial / "store.zarr", Journal(partial / "done.jsonl")
        self.left = np.ones(len(plan), bool)
        """Points that have every source so far."""
        self.cuts: dict[str, NDArray[Any]] = {}
        """Of each source the row in ``values`` of each point of the plan, -1 where there is none; of a coarse one its values,
        (point, band)."""
        self.n_tasks = self.n_resumed = 0
        self._root = zarr.open_group(self.store, mode="a", zarr_format=3)
        # sensors at one place see the same images
        place = plan.sensors[["lat", "lon"]].to_numpy("float64")
        self._places, place_of = np.unique(place, axis=0, return_inverse=True)
        self._place_of = place_of.reshape(-1)

    def cut_source(self, pool: Workers, name: str) -> None:
        """Cut what the points that are left see of a source, and drop those that see nothing."""
        source, scene = self.plan.sources[name], self.plan.scene[name]
        wanted = np.flatnonzero(self.left & (scene >= 0))
        place = self._place_of[self.plan.sensor[wanted]]
        pair, inverse = np.unique(scene[wanted].astype(np.int64) * len(self._places) + place, return_inverse=True)
        position, place = np.divmod(pair, len(self._places))
        bands, side = len(source.bands), self.geometry.side(source.kind)
        tasks, rows, n_rows = make_tasks(
            position.astype(np.int32), *self._places[place].T, chunk_rows(bands, side) if side else 1
        )
        done = self.journal.done(name)
        if side and not done:
            create_values(self._root.require_group(name), source, n_rows, side)
        self.n_tasks, self.n_resumed = self.n_tasks + len(tasks), self.n_resumed + len(done)
        self.progress(name, len(done), len(tasks))
        shared = (pool.share(self.scenes[name]), source, self.geometry, self.store)
        calls = ((task.number, (task, *shared)) for task in tasks if task.number not in done)
        for number, future in pool.run(cut, calls):
            result = future.result()
            if isinstance(result, tuple):
                scene, message = result
                said = str(self.scenes[name].table["scene_id"].iloc[scene]) if scene >= 0 else "?"
                step = "Mend or remove that file and run the build again; what is done is kept"
                what = f"the source {name!r}, scene {said}: {message.rstrip('.')}"
                raise RunError(_WHO, what, next_step=step)
            self.journal.add(name, number, result)
            self.progress(name, len(done), len(tasks))
        results = np.concatenate([done[task.number] for task in tasks]) if tasks else np.empty(0)
        if side:
            here = np.full(len(self.plan), -1, np.int32)
            here[wanted] = np.where(results.astype(bool), rows, -1)[inverse]
        else:
            here = np.full((len(self.plan), bands), np.nan, np.float32)
            here[wanted] = results.reshape(-1, bands)[inverse]
        self.cuts[name], has, counts = here, _there(here), self.plan.counts
        counts["sources"][name][_EMPTY] = int((~has[wanted]).sum())
        if source.optional:
            return
        counts["dropped"][name] += int((self.left & ~has).sum())
        self.left &= has
        if not self.left.any():
            what = f"no point has a value of {name!r} and of the sources before it"
            step = "Check that its files hold data around the sensors"
            raise ContractError(_WHO, what, got=counts["dropped"], next_step=step)

    def finish(self, about: Mapping[str, Any], made: Mapping[str, Split]) -> None:
        """Write all that goes by sample or sensor, and the store's attributes."""
        plan, left = self.plan, self.left
        used, sensor = np.unique(plan.sensor[left], return_inverse=True)
        sensor = sensor.astype(np.int32)
        for name, values in (("label", plan.label[left]), ("time", plan.time[left]), ("sensor", sensor)):
            write_column(self._root, name, values)
        scenes = {}
        for name, source in plan.sources.items():
            first = np.searchsorted(sensor, np.arange(used.size)) if source.static else slice(None)
            scenes[name] = self._finish_source(source, first)
        sensors = plan.sensors.iloc[used].reset_index(drop=True)
        sensors = add_strata(sensors, soil=self._soil(sensors))
        sensors.attrs = {}
        sensors, splits = writing.add_splits(sensors, made, sensor)
        writing.write_sensors(self.store, sensors, sensor)
        for leftover in self.store.rglob("*.partial"):  # of a chunk that was being written when a build was killed
            leftover.unlink()
        stored = {
            name: {**one.as_dict(), "catalog_id": self.scenes[name].catalog_id} for name, one in plan.sources.items()
        }
        attrs = {
            **about,
            "smnb_schema": SCHEMA,
            "sources": stored,
            "scenes": scenes,
            "counts": {**plan.counts, "sensors": len(sensors), "samples": int(left.sum())},
            "splits": splits,
            "complete": True,
        }
        self._root.attrs.put(attrs)

    def _finish_source(self, source: Source, first: Any) -> list[str]:
        """Write a source's columns; return the ids of its scenes in the order of their numbers."""
        group, here = self._root.require_group(source.name), self.cuts[source.name][self.left][first]
        dim = "sensor" if source.static else "sample"
        write_column(group, "values" if source.kind == "coarse" else "image", here, dim)
        scene = np.where(_there(here), self.plan.scene[source.name][self.left][first], -1)
        table = self.scenes[source.name].table
        known = np.unique(scene[scene >= 0])
        write_column(group, "scene", np.where(scene >= 0, np.searchsorted(known, scene), -1).astype(np.int32), dim)
        if not source.static:
            times = pd.DatetimeIndex(table["time"])
            times = times.tz_convert("UTC").tz_localize(None) if times.tz is not None else times
            ns = np.append(times.to_numpy("datetime64[ns]").view(np.int64), NAT)
            write_column(group, "time", ns[scene])
        return [str(one) for one in table["scene_id"].iloc[known]]

    def _soil(self, sensors: pd.DataFrame) -> pd.DataFrame | None:
        """SoilGrids fractions at the sensors, g kg-1, if the source is there."""
        source, parts = self.plan.sources.get("soilgrids"), ("sand", "silt", "clay")
        if source is None or not set(parts) <= set(source.bands):
            return None
        rows, centre = np.asarray(self._root["soilgrids/image"][:]), self.geometry.side(source.kind) // 2
        array = self._root["soilgrids/values"]
        nothing = np.full(len(source.bands), np.nan, np.float32)
        values = np.stack([array[int(row), :, centre, centre] if row >= 0 else nothing for row in rows])
        values = values.astype(np.float32)
        return pd.DataFrame({one: source.denormalise(one, values[:, source.bands.index(one)]) for one in parts})


def _there(here: NDArray[Any]) -> NDArray[np.bool_]:
    return np.isfinite(here).any(axis=1) if here.ndim == 2 else here >= 0
