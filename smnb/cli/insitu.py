"""The command ``smnb ingest``; `smnb.cli.app` registers it."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of in-situ data to the application."""
    app.command(epilog="Example: smnb ingest Data_separate_files_header.zip --out insitu")(ingest)


def ingest(
    archive: Annotated[list[str], typer.Argument(help="ISMN zip or folder, or USCRN files.")],
    out: Annotated[str, typer.Option(help="Folder for the tables.")],
    flags: Annotated[str, typer.Option(help="paper, strict, all, or flags: 'G C03 C02,C03'.")] = "paper",
    depth: Annotated[tuple[float, float], typer.Option(help="Depth interval in m, top and bottom.")] = (0.0, 0.051),
    any_depth: Annotated[bool, typer.Option("--any-depth", help="Take sensors of every depth.")] = False,
    start: Annotated[str | None, typer.Option(help="First day (2019-01-01).")] = None,
    end: Annotated[str | None, typer.Option(help="Last day.")] = None,
    cache: Annotated[str | None, typer.Option(help="Folder that keeps the archive's index.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Write in-situ readings as sensors.parquet and readings.parquet."""
    from smnb.loaders.insitu import write_tables

    report = write_tables(
        archive, out, flags=flags, depth=None if any_depth else depth, start=start, end=end, cache_dir=cache
    )
    for problem in [*report["damaged_files"], *report["refused_files"]]:
        typer.echo(f"skipped {problem['file']}: {problem['reason']}", err=True)
    if as_json:
        typer.echo(json.dumps(report, indent=2, sort_keys=True))
        return
    readings = report["readings"]
    typer.echo(
        f"sensors.parquet, readings.parquet: {report['sensors'].get('kept', 0)} sensors, "
        f"{readings['kept']:,} of {readings['read']:,} readings in {out}"
    )
    for name in ("fill", "above_one", "duplicate_same", "duplicate_conflicting", "outside_period", "flag"):
        if readings[name]:
            typer.echo(f"  removed, {name.replace('_', ' ')}: {readings[name]:,}")
    for flag, count in report["removed_by_flag"].items():
        typer.echo(f"    with flag {flag}: {count:,}")
    for depth_name, count in report["removed_by_depth"].items():
        typer.echo(f"  outside the depth, {depth_name}: {count:,}")
    if report["sensors_without_readings"]:
        typer.echo(f"  sensors without readings: {len(report['sensors_without_readings'])}")
