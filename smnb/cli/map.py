"""The command ``smnb map``; `smnb.cli.app` registers it."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command of large maps to the application."""
    app.command("map", epilog="Example: smnb map model.safetensors scene.nc --out soil_moisture.tif")(map_)


def map_(
    checkpoint: Annotated[str, typer.Argument(help="A .safetensors with its .json beside it.")],
    path: Annotated[str, typer.Argument(metavar="INPUT", help="NetCDF or Zarr with the checkpoint's channels.")],
    out: Annotated[str, typer.Option(help="Map to write: FILE.zarr (CF) or FILE.tif (Cloud-Optimised GeoTIFF).")],
    tile: Annotated[int, typer.Option(help="Side of a tile, cells.")] = 256,
    workers: Annotated[int, typer.Option(help="Processes of a Dask cluster on this machine; 0: threads.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help="Dask scheduler, tcp://host:port, instead.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with a map that was killed, or start it anew.")
    ] = True,
    time: Annotated[str | None, typer.Option(help="Which image, if INPUT has several times (2020-09-01).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32, or bfloat16: faster and less exact.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Apply a trained network to a whole scene, tile by tile, and write its soil moisture.

    A cell that lacks an input is missing in the map and counted. Finished tiles are kept beside the map until it is whole,
    so a map that was killed goes on where it was; --no-resume replaces an existing one.
    """
    from smnb.cli.map_checkpoint import map_checkpoint
    from smnb.training import choose_device

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
        progress=_say,
    )
    if as_json:
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
        typer.echo(json.dumps(content, indent=2))
        return
    if result.was_finished:
        typer.echo(f"up to date: {result.path}")
        return
    resumed = f", {result.n_resumed} of them from before" if result.n_resumed else ""
    by_channel = ", ".join(f"{name} {number:,}" for name, number in result.missing_by_channel.items() if number)
    typer.echo(
        f"{result.n_cells:,} cells in {result.n_tiles} tiles{resumed}, {result.n_missing:,} of them missing"
        + (f" ({by_channel})" if by_channel else "")
    )
    typer.echo(f"written: {result.path} in {result.seconds:.1f} s")


def _say(done: int, total: int) -> None:
    """Progress on standard error, a line a quarter."""
    if done in {-(-total * part // 4) for part in (1, 2, 3, 4)}:
        typer.echo(f"map: {done}/{total} tiles", err=True)
