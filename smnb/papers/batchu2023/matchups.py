"""The match-up builder: from in-situ readings and the scenes of many sources, also through the catalog, to a sample store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from smnb.contract import CatalogError, ContractError, FormatError, ParameterError, RunError, check_range, plain
from smnb.files import HASHES, check_output, fingerprint, held_output, tidy_output
from smnb.loaders.insitu import InSituTables
from smnb.maps.parallel import Workers, open_workers
from smnb.papers.batchu2023.scenes import (
    EMPTY,
    LAYOUT,
    PAPER_DEPTHS,
    Journal,
    MatchPlan,
    cut_all,
    make_tasks,
    plan_matchups,
)
from smnb.papers.batchu2023.sources import (
    LAND_COVER_ID,
    READINGS_ID,
    SOURCES,
    Source,
    chunk_rows,
    joined_sources,
    open_scenes_of,
)
from smnb.papers.batchu2023.store import SampleStore, SampleStoreWriter
from smnb.progress import Progress
from smnb.sensors import SIDES, Split, add_strata, audit, make_split

if TYPE_CHECKING:
    from smnb.catalog import Catalog
    from smnb.loaders.rasters import SceneIndex

_WHO = "build_matchups"
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


@dataclass(frozen=True)
class MatchupResult:
    """A finished sample store and how it came about."""

    store: SampleStore
    n_tasks: int = 0
    n_resumed: int = 0  # tasks that were done before
    was_finished: bool = False  # whether the store was there and nothing was left to do

    @property
    def counts(self) -> dict[str, Any]:
        """What became of the readings, as `MatchPlan`'s; ``sensors``, ``samples``."""
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
    max_missing: float = 0.5,
    land_cover: str | os.PathLike[str] | None = None,
    on_unknown_land_cover: str = "raise",
    splits: Mapping[str, Mapping[str, Any]] | None = None,
    workers: int = 0,
    scheduler: str | None = None,
    resume: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> MatchupResult:
    """Pair in-situ readings with the images of many sources around them, as paper 004 (section 2c) does: a sample store.

    A reading that passes flags and depth meets, of each source, the latest scene before it within the source's bound whose
    bounds hold its sensor; Sentinel-2 scenes with more than 30 % cloud are left out first. A reading that lacks a source is
    dropped and counted. The scene is brought to a window of 10 m cells around the sensor in the UTM zone of the sensor
    (160 m for soil and leaf area, one value for SMAP and GLDAS), normalised and stored. Where several readings meet one
    image it is cut and stored once. An image without a value at the sensor, or with too few, counts as lacking.

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
    max_missing : float
        Share of a fine image's pixels that may be missing, of those within the bounds of its scene.
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
    """
    path = Path(out)
    check_range(_WHO, "max_missing", max_missing, 0, 1)
    if not path.exists():
        check_output(_WHO, path)  # a finished one may be where nobody writes
    joined = joined_sources(_WHO, scenes, anchor, sources, optional)
    sizes = {"crop": crop, "resolution": float(resolution), "low_resolution": float(low_resolution)}
    for source in joined.values():
        source.side(**sizes)  # refuses a crop that does not fit
    plan = plan_matchups(insitu, scenes, joined, anchor=anchor, flags=flags, depths=depths)
    try:
        plan.sensors = add_strata(plan.sensors, land_cover=land_cover, on_unknown=on_unknown_land_cover)
    except ParameterError as error:
        parts = {"got": error.got, "expected": error.expected}
        step = "Check the raster, or count them: on_unknown_land_cover='none'"
        raise ParameterError(_WHO, f"strata of the sensors: {error.what}", **parts, next_step=step) from error
    plan.counts["unknown_land_cover"] = plan.sensors.attrs.pop("unknown_land_cover")
    made = make_splits(plan.sensors, splits)
    about: dict[str, Any] = {"max_missing": float(max_missing), "insitu": insitu.catalog_id, "anchor": anchor}
    cutting = {**about, **plan.fingerprint(scenes), **sizes, "layout": LAYOUT}
    about["synthetic"] = bool(insitu.synthetic or any(one.synthetic for one in scenes.values()))
    about["flags"] = flags if isinstance(flags, str) else list(flags)
    sides = {name: [split.options, split.assignment] for name, split in made.items()}
    content = {name: plan.content(name, scenes[name], path.parent / HASHES) for name in plan.sources}
    parts = cutting | about | {"splits": sides, "sensors": plan.sensors.astype(str), "counts": plan.counts}
    parts |= {f"scenes of {name}": [cutting["scenes"][name], content[name].tolist()] for name in content}
    made_of = {name: fingerprint(part) for name, part in parts.items() if name != "scenes"}
    about |= {"fingerprint": fingerprint(made_of), "made_of": made_of}
    if resume and path.exists():
        return MatchupResult(finished_store(_WHO, path, made_of, "resume=False (--no-resume)"), was_finished=True)
    with held_output(_WHO, path):
        named = [replace(one, catalog_id=scenes[name].catalog_id) for name, one in joined.items()]
        writer = SampleStoreWriter(path, sources=named, **sizes, plan=cutting, resume=resume, overwrite=True, **about)
        journal, progress = Journal(writer.folder / "done.jsonl"), progress or (lambda *_: None)
        build = _Build(plan, scenes, content, sizes, max_missing, writer, journal, progress, np.ones(len(plan), bool))
        with open_workers(_WHO, workers, scheduler) as pool:
            for name in plan.sources:
                build.cut_source(pool, name)
        store = build.finish(made)
    return MatchupResult(store, build.n_tasks, build.n_resumed)


def finished_store(who: str, path: Path, wanted: Mapping[str, str], anew: str) -> SampleStore:
    """The store that is there; a `RunError`, with the option that starts anew, unless it is of this very build."""
    step = f"Choose another output, or replace it with {anew}"
    try:
        store = SampleStore(path)
    except (FormatError, RunError) as error:
        raise RunError(who, f"{path} is no finished sample store: {error.what}", next_step=step) from error
    found = store.attrs.get("made_of", {})
    if changed := sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name)):
        got = plain(f"other {', '.join(changed)}" if found else "the store of an earlier version of smnb")
        raise RunError(who, f"{path} holds another store", got=got, next_step=step)
    tidy_output(path)
    return store


@dataclass
class _Build:
    """A build that is going on."""

    plan: MatchPlan
    scenes: Mapping[str, SceneIndex]
    content: Mapping[str, NDArray[np.object_]]
    sizes: Mapping[str, Any]
    max_missing: float
    writer: SampleStoreWriter
    journal: Journal
    progress: Callable[[str, int, int], None]
    left: NDArray[np.bool_]  # points that have every source so far
    cuts: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Of each source the row in ``values`` of each point, -1 where there is none; of a coarse one its values (point, band)."""
    n_tasks: int = 0
    n_resumed: int = 0

    def cut_source(self, pool: Workers, name: str) -> None:
        """Cut what the points that are left see of a source, and drop those that see nothing."""
        source, scene = self.plan.sources[name], self.plan.scene[name]
        wanted = np.flatnonzero(self.left & (scene >= 0))
        lat, lon = (self.plan.sensors[one].to_numpy("float64") for one in ("lat", "lon"))
        # sensors at one place see the same images: those of the first of them
        first = pd.Series(np.arange(lat.size)).groupby([lat, lon]).transform("min").to_numpy()
        place = first[self.plan.sensor[wanted]]
        pair, inverse = np.unique(scene[wanted].astype(np.int64) * len(first) + place, return_inverse=True)
        position, place = np.divmod(pair, len(first))
        bands, side = len(source.bands), source.side(**self.sizes)
        images = pd.DataFrame({"scene": position, "lat": lat[place], "lon": lon[place]})
        images = make_tasks(images, chunk_rows(bands, side) if side else 1)
        rows = images["row"].to_numpy()
        values = self.writer.reserve(name, rows.max(initial=-1) + 1) if side else None
        self.n_tasks += images["task"].nunique()
        made_of = pd.Series(self.content[name][images["scene"]]).groupby(images["task"].to_numpy()).agg(fingerprint)
        self.journal.keep(name, made_of.to_dict())
        self.n_resumed += len(self.journal.done(name))
        shared = self.scenes[name], source, self.sizes, self.max_missing if source.kind == "high" else 1.0, values
        results = cut_all(_WHO, pool, images, shared, self.journal, self.progress)
        if side:
            here = np.full(len(self.plan), -1, np.int32)
            here[wanted] = np.where(results == 1, rows, -1)[inverse]
        else:
            here = np.full((len(self.plan), bands), np.nan, np.float32)
            here[wanted] = results.reshape(-1, bands)[inverse]
        self.cuts[name], has, counts = here, _there(here), self.plan.counts
        reasons = counts["sources"][name]
        for number, reason in EMPTY.items():
            lost = (results == number)[inverse] if side else ~has[wanted] & (number == 0)
            reasons[reason.format(100.0 * self.max_missing)] = int(lost.sum())
        if source.optional:
            return
        counts["dropped"][name] += int((self.left & ~has).sum())
        self.left &= has
        if not self.left.any():
            what = f"no point has a value of {name!r} and of the sources before it"
            step = "Check that its files hold data around the sensors, or choose a smaller crop or another max_missing"
            got = {**{name: n for name, n in counts["dropped"].items() if n}, **{r: n for r, n in reasons.items() if n}}
            raise ContractError(_WHO, what, got=got, next_step=step)

    def finish(self, made: Mapping[str, Split]) -> SampleStore:
        """Write all that goes by sample or sensor."""
        plan, left, writer = self.plan, self.left, self.writer
        used, sensor = np.unique(plan.sensor[left], return_inverse=True)
        columns = {"label": plan.label[left], "time": plan.time[left], "sensor": sensor}
        for name, source in plan.sources.items():
            rows = np.searchsorted(sensor, np.arange(used.size)) if source.static else slice(None)
            here, table = self.cuts[name][left][rows], self.scenes[name].table
            scene = np.where(_there(here), plan.scene[name][left][rows], -1)
            own = {f"{name}/values" if source.kind == "coarse" else f"{name}/image": here}
            own[f"{name}/scene"] = np.append(table["scene_id"].astype(str).to_numpy(object), "")[scene]
            if source.static:
                writer.write(0, own)
            else:
                columns |= {**own, f"{name}/time": pd.DatetimeIndex(table["time"]).take(scene, fill_value=pd.NaT)}
        writer.write(0, columns)
        sensors = add_strata(plan.sensors.iloc[used].reset_index(drop=True), soil=soil_at_sensors(writer))
        sensors.attrs = {}
        sensors, splits = add_splits(sensors, made, sensor)
        counts = {**plan.counts, "sensors": len(sensors), "samples": int(left.sum())}
        return writer.finish(sensors, splits=splits, counts=counts)


def _there(here: NDArray[Any]) -> NDArray[np.bool_]:
    return np.isfinite(here).any(axis=1) if here.ndim == 2 else here >= 0


def soil_at_sensors(writer: SampleStoreWriter) -> pd.DataFrame | None:
    """SoilGrids fractions at the sensors, g kg-1, out of the images that were written; None where there are none."""
    source, parts = writer.sources.get("soilgrids"), ["sand", "silt", "clay"]
    if source is None or not set(parts) <= set(source.bands):
        return None
    group, middle = zarr.open_group(writer.folder / "store.zarr", mode="r")["soilgrids"], writer.side["soilgrids"] // 2
    rows = group["image"][:] if "image" in group else np.arange(group["values"].shape[0])
    nothing = np.full(len(source.bands), np.nan)
    pixels = [group["values"][int(row), :, middle, middle] if row >= 0 else nothing for row in rows]
    values = np.array(pixels, np.float32)
    return pd.DataFrame({one: source.denormalise(one, values[:, source.bands.index(one)]) for one in parts})


def make_splits(sensors: pd.DataFrame, splits: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Split]:
    """Split the sensors in each way asked for, default `DEFAULT_SPLITS`; options are those of `smnb.sensors.make_split`."""
    splits = DEFAULT_SPLITS if splits is None else splits
    for name, options in splits.items():
        if options.get("kind", "time") == "time" or not str(name).isidentifier():
            what = f"the split {name!r} is no split of sensors"
            raise ParameterError(_WHO, what, got=dict(options), expected=DEFAULT_SPLITS)
    return {name: make_split(sensors, **options) for name, options in splits.items()}


def add_splits(
    sensors: pd.DataFrame, splits: Mapping[str, Split], sensor: NDArray[np.integer]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Add a column ``split_<name>`` a split, and say what it has and leaks; `sensor` is the row of the sensor of each sample."""
    sides_in, described = (*SIDES, "buffer"), {}
    for name, split in splits.items():
        sides = split.assignment.reindex(sensors["sensor_id"])
        found = audit(sides, sensors)
        sensors = sensors.assign(**{f"split_{name}": sides.to_numpy()})
        described[name] = {
            "kind": split.kind,
            "options": split.options,
            "sensors": {side: int((sides == side).sum()) for side in sides_in},
            "samples": {side: int((sides.to_numpy()[sensor] == side).sum()) for side in sides_in},
            "leaks": found.leaks,
            "not_checked": found.not_checked,
            "share_with_training_sensor_within": {
                side: {f"{km:g}_km": round(found.share_within(km, side), 6) for km in (found.footprint_km, 10.0)}
                for side in SIDES[1:]
            },
        }
    return sensors, described


def open_matchups(
    catalog: Catalog,
    root: Path | None,
    out: str | os.PathLike[str],
    *,
    store: str = "",
    sources: Iterable[Source | str] | None = None,
    optional: Iterable[str] = ("modis_lai",),
    **options: Any,
) -> SampleStore:
    """Open a sample store: the existing one `store`, or that at `out`, which is built first unless it is there and up to date.

    Parameters
    ----------
    catalog, root, sources
        As `open_scenes_of`.
    out, store : path-like
        ``name.zarr``.
    optional, **options
        Of `build_matchups`: ``anchor``, ``crop``, ``workers``, …
    """
    if store:
        return SampleStore(store)
    wanted, shown = list(SOURCES if sources is None else sources), {}

    def tell(source: str, done: int, total: int) -> None:
        shown.setdefault(source, Progress(f"match-ups, {source}", total)).update(done)
        if done == total:
            shown[source].close()

    scenes = open_scenes_of(catalog, root, wanted)
    try:  # where the archive has one file of it; else sensors are stratified by the readings' archive
        files = list(catalog.resolve(LAND_COVER_ID, root))
    except CatalogError:
        files = []
    return build_matchups(
        catalog.open(READINGS_ID, root),
        scenes,
        out=out,
        sources=[one for one in wanted if isinstance(one, Source)],
        optional=[name for name in optional if name in scenes],
        land_cover=files[0] if len(files) == 1 else None,
        **{"progress": tell, **options},
    ).store
