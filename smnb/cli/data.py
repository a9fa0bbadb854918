"""Commands of data: ``smnb catalog``, ``fetch``, ``sandbox`` and ``ingest``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from smnb.cli.frame import Flags, Json, Root, Table, command, show, shown_progress, warn
from smnb.contract import CatalogError


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
    with shown_progress() as progress:
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
    from smnb.loaders.insitu import write_tables

    kept = {"flags": flags, "depth": None if any_depth else depth, "start": start, "end": end}
    report = write_tables(archive, out, cache_dir=cache, **kept)
    for problem in [*report["damaged_files"], *report["refused_files"]]:
        warn(f"skipped {problem['file']}: {problem['reason']}")
    readings = report["readings"]
    removed = ("fill", "above_one", "duplicate_same", "duplicate_conflicting", "outside_period", "flag")
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
    )
