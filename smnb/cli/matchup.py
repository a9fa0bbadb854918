"""The command ``smnb matchup``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from smnb.cli.frame import Flags, Json, Resume, Root, Scheduler, ShownProgress, Workers, command, show
from smnb.contract import ParameterError, check_choice

_WHO = "smnb matchup"


@command("smnb matchup --out matchups.zarr --anchor sentinel1 --optional modis_lai")
def matchup(
    out: Annotated[str, typer.Option(help="Sample store to write, FILE.zarr.")],
    anchor: Annotated[str, typer.Option(help="sentinel1 (Table 5) or smap (Table 20).")] = "sentinel1",
    insitu: Annotated[str, typer.Option(help="Entry of the readings, or smnb ingest's folder.")] = "multisource_ismn",
    source: Annotated[list[str] | None, typer.Option(help="NAME=ENTRY; repeat; default all of multisource_*.")] = None,
    optional: Annotated[list[str] | None, typer.Option(help="Source that a sample may lack; again for more.")] = None,
    root: Root = None,
    crop: Annotated[int, typer.Option(help="Pixels on a side of the 10 m images.")] = 512,
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

    A reading that lacks a source is dropped and counted by source. Finished work is kept beside the store until it is whole,
    so a build that was killed goes on where it was; --no-resume replaces an existing one.
    """
    from smnb.catalog import Catalog
    from smnb.loaders.insitu import read_tables
    from smnb.papers.batchu2023 import build_matchups
    from smnb.papers.batchu2023.scenes import PAPER_DEPTHS

    entries, splits = _entries(source), _splits(split, seed)
    catalog = Catalog.load()
    scenes = {name: catalog.open(entry, root) for name, entry in entries.items()}
    if (Path(insitu) / "sensors.parquet").is_file():
        readings = read_tables(insitu)
    else:  # all of them: the builder itself applies flags and depths, and counts them
        readings = catalog.open(insitu, root, flags="all", depth=None)
    began = time.perf_counter()
    with ShownProgress() as progress:
        result = build_matchups(
            readings,
            scenes,
            out=out,
            anchor=anchor,
            crop=crop,
            flags=flags,
            depths=None if any_depth else PAPER_DEPTHS,
            optional=optional or (),
            land_cover=land_cover,
            on_unknown_land_cover=unknown_land_cover,
            splits=splits,
            workers=workers,
            scheduler=scheduler,
            resume=resume,
            progress=lambda name, done, total: progress(name, "cell", done, total),
        )
    seconds = time.perf_counter() - began
    content = {
        "written": str(result.store.path),
        "counts": result.counts,
        "splits": result.store.attrs["splits"],
        "tasks": result.n_tasks,
        "resumed": result.n_resumed,
        "was_finished": result.was_finished,
        "seconds": round(seconds, 3),
    }
    resumed = f", {result.n_resumed} of {result.n_tasks} tasks from before" if result.n_resumed else ""
    written = f"written: {result.store.path} in {seconds:.1f} s{resumed}"
    show(content, as_json, str(result), f"up to date: {result.store.path}" if result.was_finished else written)


def _entries(given: list[str] | None) -> dict[str, str]:
    """Source to its catalog entry."""
    from smnb.papers.batchu2023 import SOURCES

    if not given:
        return {name: one.catalog_id for name, one in SOURCES.items()}
    entries: dict[str, str] = {}
    for one in given:
        name, _, entry = one.partition("=")
        if not entry or name in entries:
            what, expected = "--source is not NAME=ENTRY, each name once", "sentinel1=multisource_sentinel1"
            raise ParameterError(_WHO, what, got=one, expected=expected)
        entries[name] = entry
    return entries


def _splits(names: list[str] | None, seed: int) -> dict[str, dict[str, Any]]:
    from smnb.papers.batchu2023.matchups import DEFAULT_SPLITS

    if names == ["none"]:
        return {}
    names = names or list(DEFAULT_SPLITS)
    check_choice(_WHO, "split", names, DEFAULT_SPLITS, next_step="Or give none, by itself")
    return {name: {**DEFAULT_SPLITS[name], "seed": seed} for name in names}
