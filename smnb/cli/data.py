"""Commands of data: ``smnb catalog``, ``fetch``, ``sandbox``, ``ingest``, ``matchup`` and ``released``."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from smnb.cli import frame
from smnb.cli.frame import Flags, Json, Optional, Resume, Root, Scheduler, Table, Workers, command, show, warn
from smnb.contract import CatalogError, check_choice


@command("smnb catalog --check")
def catalog(
    root: Root = None,
    as_json: Json = False,
    check: Annotated[bool, typer.Option("--check", help="Fail when files of an entry are absent.")] = False,
) -> None:
    """List products and which files are present."""
    from smnb.catalog import Catalog, data_root

    folder = data_root(root)
    if not folder.is_dir():
        what = "the data root is not a folder" if folder.exists() else "the data root is not there"
        step = "Give another --root or SMNB_DATA, or write the sandbox with: smnb sandbox"
        absent = CatalogError("smnb catalog", what, got=str(folder), next_step=step)
        if root is not None or check:
            raise absent
        warn(f"note: {absent}")
    entries = Catalog.load().status(folder)
    rows = []
    for e in entries:
        present = "bad" if e["problem"] else "yes" if e["present"] else "no"
        rows.append([e["id"], present, e["n_files"], f"{e['bytes'] / 1e6:.1f}", e["problem"] or e["description"]])
    title = f"Catalog, under {folder}"
    show(entries, as_json, Table(["id", "present", "files", "MB", "description"], rows, title))
    absent = [entry["id"] for entry in entries if not entry["present"]]
    if check and absent:
        step = "Get them with 'smnb fetch ID', or simulate them with 'smnb sandbox'"
        raise CatalogError("smnb catalog", f"{len(absent)} entries have no usable files", got=absent, next_step=step)


@command("smnb fetch amsre_nsidc0302 --root archive")
def fetch(
    entry: Annotated[str, typer.Argument(metavar="ID", help="Entry of the catalog.")],
    root: Root = None,
    start: Annotated[str | None, typer.Option(help="First day, for NASA collections (2011-07-01).")] = None,
    end: Annotated[str | None, typer.Option(help="Last day, for NASA collections.")] = None,
    as_json: Json = False,
) -> None:
    """Download one product, or say how to get it."""
    from smnb.catalog import Catalog, data_root

    paths = Catalog.load().fetch(entry, data_root(root), start=start, end=end, say=warn)
    listed = [str(path) for path in paths]
    show(listed, as_json, Table(["file"], [[path] for path in listed]))


@command("smnb sandbox --preset quick --seed 7")
def sandbox(
    out: Annotated[str | None, typer.Option(help="Folder to write; default data/sandbox.")] = None,
    preset: Annotated[str, typer.Option(help="quick (a few days) or full (the month).")] = "quick",
    seed: Annotated[int | None, typer.Option(help="Seed of the world; default the sandbox's own.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate an archive in the real products' formats."""
    from smnb.catalog import data_root
    from smnb_sandbox import write_sandbox

    folder = data_root() if out is None else Path(out)
    options: dict[str, Any] = {"preset": preset} | ({} if seed is None else {"seed": seed})
    with frame.shown_progress() as progress:
        manifest = write_sandbox(folder, progress=lambda n, total, _: progress("sandbox", "cell", n, total), **options)
    files = len(manifest.get("files", []))
    show(manifest, as_json, f"sandbox archive ({preset}, seed {manifest.get('seed')}): {files} files in {folder}")


@command("smnb ingest Data_separate_files_header.zip --out insitu")
def ingest(
    archive: Annotated[list[str], typer.Argument(help="ISMN zip or folder, or USCRN files.")],
    out: Annotated[str, typer.Option(help="Folder for the tables.")],
    flags: Flags = "paper",
    depth: Annotated[tuple[float, float], typer.Option(help="Depth interval in m, top and bottom.")] = (0.0, 0.051),
    any_depth: Annotated[bool, typer.Option("--any-depth", help="Take sensors of every depth.")] = False,
    start: Annotated[str | None, typer.Option(help="First day (2019-01-01).")] = None,
    end: Annotated[str | None, typer.Option(help="Last day.")] = None,
    cache: Annotated[str | None, typer.Option(help="Folder that keeps the archive's index.")] = None,
    as_json: Json = False,
) -> None:
    """Write in-situ readings as sensors.parquet and readings.parquet."""
    from smnb.loaders.insitu import report_notes, write_tables

    kept = {"flags": flags, "depth": None if any_depth else depth, "start": start, "end": end}
    report = write_tables(archive, out, cache_dir=cache, **kept)
    for note in report_notes(report):
        warn(note)
    readings = report["readings"]
    removed = ("fill", "above_one", "duplicate_same", "duplicate_conflicting", "outside_period", "flag", "other_units")
    empty = len(report["sensors_without_readings"])
    show(
        report,
        as_json,
        f"sensors.parquet, readings.parquet: {report['sensors'].get('kept', 0)} sensors, "
        f"{readings['kept']:,} of {readings['read']:,} readings in {out}",
        *(f"  removed, {name.replace('_', ' ')}: {readings[name]:,}" for name in removed if readings[name]),
        *(f"    with flag {flag}: {count:,}" for flag, count in report["removed_by_flag"].items()),
        *(f"  outside the depth, {depth}: {count:,}" for depth, count in report["removed_by_depth"].items()),
        f"  sensors without readings: {empty}" if empty else None,
        f"  lines lost: {lost:,}" if (lost := sum(one["lines"] for one in report["lost_lines"])) else None,
    )


@command("smnb matchup --out matchups.zarr --anchor sentinel1 --optional modis_lai")
def matchup(
    out: Annotated[str, typer.Option(help="Sample store to write, FILE.zarr.")],
    anchor: Annotated[str, typer.Option(help="sentinel1 (Table 5) or smap (Table 20).")] = "sentinel1",
    insitu: Annotated[str, typer.Option(help="Entry of the readings, or smnb ingest's folder.")] = "multisource_ismn",
    source: Annotated[list[str] | None, typer.Option(help="NAME=ENTRY; repeat; default all of multisource_*.")] = None,
    optional: Optional = None,
    root: Root = None,
    crop: Annotated[int, typer.Option(help="Pixels on a side of the 10 m images.")] = 512,
    max_missing: Annotated[float, typer.Option(help="Share of a 10 m image that may be missing.")] = 0.5,
    flags: Flags = "paper",
    any_depth: Annotated[bool, typer.Option("--any-depth", help="Sensors of every depth, not 0-5 and 5 cm.")] = False,
    split: Annotated[list[str] | None, typer.Option(help="sensor, block or none; repeat; default both.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the splits.")] = 0,
    land_cover: Annotated[str | None, typer.Option(help="Raster of CGLS-LC100 codes; default the archive's.")] = None,
    unknown_land_cover: Annotated[str, typer.Option(help="raise, or none: count them.")] = "raise",
    workers: Workers = 0,
    scheduler: Scheduler = None,
    resume: Resume = True,
    as_json: Json = False,
) -> None:
    """Pair in-situ readings with images of many sources around them, and write a sample store.

    A reading that lacks a source, or whose image is missing at the sensor or more than --max-missing, is dropped and counted by
    source. Finished work is kept beside the store until it is whole,
    so a build that was killed goes on where it was; --no-resume replaces an existing one.
    """
    from smnb.catalog import Catalog
    from smnb.loaders.insitu import read_tables
    from smnb.papers.batchu2023 import SOURCES, build_matchups
    from smnb.papers.batchu2023.scenes import PAPER_DEPTHS

    example = "--source sentinel1=multisource_sentinel1"
    entries = frame.values_by_name(source or [], "smnb matchup", "--source takes NAME=ENTRY", example)
    entries = entries or {name: one.catalog_id for name, one in SOURCES.items()}
    catalog = Catalog.load()
    scenes = {name: catalog.open(entry, root) for name, entry in entries.items()}
    if (Path(insitu) / "sensors.parquet").is_file():
        readings = read_tables(insitu)
    else:  # all of them: the builder itself applies flags and depths, and counts them
        readings = catalog.open(insitu, root, flags="all", depth=None)
    options = {"out": out, "anchor": anchor, "crop": crop, "flags": flags, "optional": optional or (), "resume": resume}
    options |= {"depths": None if any_depth else PAPER_DEPTHS, "workers": workers, "scheduler": scheduler}
    options |= {"max_missing": max_missing, "land_cover": land_cover, "splits": _splits(split, seed)}
    options |= {"on_unknown_land_cover": unknown_land_cover}
    began = time.perf_counter()
    with frame.shown_progress() as progress:
        options["progress"] = lambda name, done, total: progress(name, "cell", done, total)
        result = build_matchups(readings, scenes, **options)
    content = {"written": result.store.path, "counts": result.counts, "splits": result.store.attrs["splits"]}
    content |= {"tasks": result.n_tasks, "resumed": result.n_resumed, "was_finished": result.was_finished}
    resumed = f", {result.n_resumed} of {result.n_tasks} tasks from before" if result.n_resumed else ""
    content["seconds"] = round(time.perf_counter() - began, 3)
    written = f"written: {result.store.path} in {content['seconds']:.1f} s{resumed}"
    show(content, as_json, str(result), f"up to date: {result.store.path}" if result.was_finished else written)


def _splits(names: list[str] | None, seed: int) -> dict[str, dict[str, Any]]:
    from smnb.papers.batchu2023.matchups import DEFAULT_SPLITS

    if names == ["none"]:
        return {}
    names = names or list(DEFAULT_SPLITS)
    check_choice("smnb matchup", "split", names, DEFAULT_SPLITS, next_step="Or give none, by itself")
    return {name: {**DEFAULT_SPLITS[name], "seed": seed} for name in names}


@command("smnb released shards/ --ismn ismn.zip --out released.zarr --crop 256")
def released(
    shards: Annotated[list[str], typer.Argument(help="TFRecord shards, or folders of them.")],
    out: Annotated[str, typer.Option(help="Sample store to write, NAME.zarr.")],
    ismn: Annotated[list[str] | None, typer.Option(help="ISMN zip or folder; repeat.")] = None,
    flags: Flags = "paper",
    ambiguous: Annotated[str, typer.Option(help="Several readings within the window: drop, nearest.")] = "drop",
    choose: Annotated[str, typer.Option(help="Of several stations: nearest, first (as its script).")] = "nearest",
    max_km: Annotated[float, typer.Option(help="Farthest station from a record's place, km.")] = 5.0,
    crop: Annotated[int, typer.Option(help="Pixels on a side of the centred square to keep.")] = 512,
    size: Annotated[int, typer.Option(help="Pixels on a side of the stored images.")] = 512,
    optional: Optional = None,
    no_splits: Annotated[bool, typer.Option("--no-splits", help="Make no splits (few sensors).")] = False,
    on_error: Annotated[str, typer.Option(help="Damaged record or shard: raise, skip.")] = "raise",
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not check the records' checksums.")] = False,
    no_resume: Annotated[bool, typer.Option("--no-resume", help="Start anew instead of going on.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the store.")] = False,
    cache: Annotated[str | None, typer.Option(help="Folder that keeps the archive's index.")] = None,
    ambiguities: Annotated[str | None, typer.Option(help="CSV file for what was not unique.")] = None,
    as_json: Json = False,
) -> None:
    """Convert the released records of paper 004, with labels of ISMN, to a sample store."""
    from smnb.files import check_output, held_output, write_text
    from smnb.papers.batchu2023.released.conversion import convert_released, shards_of
    from smnb.papers.batchu2023.released.labels import IsmnLabels
    from smnb.papers.batchu2023.released.records import open_released

    options = {"size": size, "crop": crop, "verify": not no_verify, "on_error": on_error}
    if ambiguities:
        check_output("smnb released", ambiguities)
    records = open_released(shards_of(shards), catalog_id="multisource_released", **options)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(frame.shown_progress())
        labels = None
        if ismn:
            rules = {"flags": flags, "ambiguous": ambiguous, "choose": choose, "max_km": max_km}
            labels = stack.enter_context(IsmnLabels(ismn, cache_dir=cache, **rules))
        rules = {"resume": not no_resume, "overwrite": overwrite, "splits": {} if no_splits else None}
        rules["progress"] = lambda done, total: progress("shards", "cell", done, total)
        done = convert_released(records, out, labels=labels, optional=optional or (), **rules)
    for one in done.problems:
        warn(f"skipped {one['reason']}")
    if ambiguities:
        with held_output("smnb released", ambiguities, patience=60):
            write_text(ambiguities, done.ambiguities.to_csv(index=False))
    counts, splits = done.counts, done.store.attrs["splits"]
    samples = f"{counts['samples']:,} samples of {counts['sensors']:,} sensors"
    lines = [f"{out}: {samples}, from {counts['records']:,} records"]
    left_out = {name: n for name, n in counts.items() if name not in ("records", "samples", "sensors") and n}
    lines += [f"  {name.replace('_', ' ')}: {count:,}" for name, count in left_out.items()]
    kinds = done.ambiguities.groupby("kind").size() if len(done.ambiguities) else {}
    lines += [f"  not unique, {kind}: {count:,}" for kind, count in kinds.items()]
    for name, split in splits.items():
        sides = ", ".join(f"{side} {n}" for side, n in split["sensors"].items() if n)
        leaks = ", ".join(f"{leak} {n}" for leak, n in split["leaks"].items()) or "no leak found"
        lines.append(f"  split {name}: {sides}; {leaks}")
    content = {**counts, "store": str(Path(out)), "ambiguous": len(done.ambiguities), "splits": splits}
    show(content, as_json, *lines)
