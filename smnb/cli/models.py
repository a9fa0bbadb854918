"""Commands of networks: ``smnb models``, ``map`` and ``predict``."""

from __future__ import annotations

from typing import Annotated

import typer

from smnb.cli.frame import Json, Resume, Scheduler, ShownProgress, Table, Workers, command, show


@command("smnb models --json")
def models(as_json: Json = False) -> None:
    """List networks, with paper, inputs and parameter count."""
    from smnb.models import MODELS

    columns = ["name", "parameters", "inputs", "paper", "description"]
    rows = [[name, e.n_parameters, e.inputs, e.paper, e.description] for name, e in MODELS.items()]
    shown = [[name, f"{number:,}", *rest] for name, number, *rest in rows]
    show([dict(zip(columns, row, strict=True)) for row in rows], as_json, Table(columns, shown, "Models"))


@command("smnb map model.safetensors scene.nc --out soil_moisture.tif", "map")
def map_(
    checkpoint: Annotated[str, typer.Argument(help="A .safetensors with its .json beside it.")],
    path: Annotated[str, typer.Argument(metavar="INPUT", help="NetCDF or Zarr with the checkpoint's channels.")],
    out: Annotated[str, typer.Option(help="Map to write: FILE.nc, FILE.zarr (CF) or FILE.tif (COG).")],
    tile: Annotated[int, typer.Option(help="Side of a tile, cells.")] = 256,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    resume: Resume = True,
    time: Annotated[str | None, typer.Option(help="Which image, if INPUT has several times (2020-09-01).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32, or bfloat16: faster and less exact.")] = "float32",
    as_json: Json = False,
) -> None:
    """Apply a trained network to a whole scene, tile by tile, and write its soil moisture.

    A cell that lacks an input is missing in the map and counted. Finished tiles are kept beside the map until it is whole,
    so a map that was killed goes on where it was; --no-resume replaces an existing one.
    """
    from smnb.maps import map_checkpoint
    from smnb.training import choose_device

    with ShownProgress() as progress:
        result = map_checkpoint(
            checkpoint,
            path,
            out,
            when=time,
            tile=tile,
            workers=workers,
            scheduler=scheduler,
            resume=resume,
            device=choose_device(device).type,
            precision=precision,
            progress=lambda done, total: progress("map", "cell", done, total),
        )
    content = {
        "written": str(result.path),
        "cells": result.n_cells,
        "predicted": result.n_predicted,
        "missing": result.n_missing,
        "missing_by_channel": result.missing_by_channel,
        "tiles": result.n_tiles,
        "resumed": result.n_resumed,
        "was_finished": result.was_finished,
        "seconds": round(result.seconds, 3),
    }
    if result.was_finished:
        show(content, as_json, f"up to date: {result.path}")
        return
    resumed = f", {result.n_resumed} of them from before" if result.n_resumed else ""
    by_channel = ", ".join(f"{name} {number:,}" for name, number in result.missing_by_channel.items() if number)
    counts = f"{result.n_cells:,} cells in {result.n_tiles} tiles{resumed}, {result.n_missing:,} of them missing"
    written = f"written: {result.path} in {result.seconds:.1f} s"
    show(content, as_json, counts + (f" ({by_channel})" if by_channel else ""), written)


@command("smnb predict conus_points station_10day.csv.gz --out predicted.csv")
def predict(
    model: Annotated[str, typer.Argument(help="Name of a model of the package, e.g. conus_points.")],
    table: Annotated[str, typer.Argument(help="CSV or CSV.gz: the columns of station_10day less the in-situ one.")],
    out: Annotated[str, typer.Option(help="CSV or CSV.gz for the same rows with predicted and n_sources.")],
    as_json: Json = False,
) -> None:
    """Predict soil moisture for every row of a table with a released model.

    The file has the same rows in the same order, with "predicted" in m3 m-3 and "n_sources": how many of Sentinel-1,
    Sentinel-2, SMAP and static values the row has, 0 to 4. A station's prediction depends on its own rows alone, and best
    on all of its series: means and quantiles over it are inputs. An in-situ column is kept and not looked at.
    """
    from smnb.pretrained import predict_table

    result = predict_table(model, table, out)
    report = result.report
    by_sources = ", ".join(f"{n}: {rows:,} rows" for n, rows in report["rows_by_n_sources"].items())
    unknown, repeated = report["rows_of_unknown_land_cover"], report["rows_repeated"]
    show(
        {"written": str(result.path), "model": model, **report},
        as_json,
        f"{report['rows']:,} rows of {report['stations']} stations predicted with {model}",
        f"sources in a row: {by_sources}",
        f"{unknown:,} rows have a land-cover code that is no NLCD code: unknown" if unknown else None,
        f"{repeated:,} rows repeat a station and time; such rows were averaged" if repeated else None,
        f"written: {result.path}",
    )
