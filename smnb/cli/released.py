"""The command ``smnb released``; `smnb.cli.app` registers it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command of the released data set to the application."""
    app.command(epilog="Example: smnb released shards/ --ismn ismn.zip --out released.zarr --crop 256")(released)


def released(
    shards: Annotated[list[str], typer.Argument(help="TFRecord shards, or folders of them.")],
    out: Annotated[str, typer.Option(help="Sample store to write, NAME.zarr.")],
    ismn: Annotated[list[str] | None, typer.Option(help="ISMN zip or folder; repeat.")] = None,
    flags: Annotated[str, typer.Option(help="paper, strict, all, or flags: 'G C03 C02,C03'.")] = "paper",
    ambiguous: Annotated[str, typer.Option(help="Several readings within the window: drop, nearest.")] = "drop",
    choose: Annotated[
        str, typer.Option(help="Several stations match: nearest, first (as the release's script).")
    ] = "nearest",
    max_km: Annotated[float, typer.Option(help="Farthest station from a record's place, km.")] = 5.0,
    crop: Annotated[int, typer.Option(help="Pixels on a side of the centred square to keep.")] = 512,
    size: Annotated[int, typer.Option(help="Pixels on a side of the stored images.")] = 512,
    optional: Annotated[list[str] | None, typer.Option(help="Source that a sample may lack; repeat.")] = None,
    no_splits: Annotated[bool, typer.Option("--no-splits", help="Make no splits (few sensors).")] = False,
    on_error: Annotated[str, typer.Option(help="Damaged record or shard: raise, skip.")] = "raise",
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not check the records' checksums.")] = False,
    no_resume: Annotated[bool, typer.Option("--no-resume", help="Start anew instead of going on.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the store.")] = False,
    cache: Annotated[str | None, typer.Option(help="Folder that keeps the archive's index.")] = None,
    ambiguities: Annotated[str | None, typer.Option(help="CSV file for what was not unique.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Convert the released records of paper 004, with labels of ISMN, to a sample store."""
    import contextlib

    from smnb.files import write_text
    from smnb.papers.batchu2023.released import IsmnLabels, convert_released, open_released, shards_of

    records = open_released(
        shards_of(shards),
        catalog_id="multisource_released",
        size=size,
        crop=crop,
        verify=not no_verify,
        on_error=on_error,
    )
    with contextlib.ExitStack() as stack:
        labels = None
        if ismn:
            labels = stack.enter_context(
                IsmnLabels(ismn, flags=flags, ambiguous=ambiguous, choose=choose, max_km=max_km, cache_dir=cache)
            )
        done = convert_released(
            records,
            out,
            labels=labels,
            optional=optional or (),
            splits={} if no_splits else None,
            resume=not no_resume,
            overwrite=overwrite,
            progress=lambda n, total: typer.echo(f"shard {n} of {total}", err=True),
        )
    for one in done.problems:
        typer.echo(f"skipped {one['reason']}", err=True)
    if ambiguities:
        write_text(ambiguities, done.ambiguities.to_csv(index=False))
    if as_json:
        content = {
            **done.counts,
            "store": str(Path(out)),
            "ambiguous": len(done.ambiguities),
            "splits": done.store.attrs["splits"],
        }
        typer.echo(json.dumps(content, indent=2, sort_keys=True))
        return
    typer.echo(
        f"{out}: {done.counts['samples']:,} samples of {done.counts['sensors']:,} sensors, from "
        f"{done.counts['records']:,} records"
    )
    for name, count in done.counts.items():
        if name not in ("records", "samples", "sensors") and count:
            typer.echo(f"  {name.replace('_', ' ')}: {count:,}")
    if len(done.ambiguities):
        for kind, count in done.ambiguities["kind"].value_counts().sort_index().items():
            typer.echo(f"  not unique, {kind}: {count:,}")
    for name, split in done.store.attrs["splits"].items():
        sides = ", ".join(f"{side} {n}" for side, n in split["sensors"].items() if n)
        leaks = ", ".join(f"{leak} {n}" for leak, n in split["leaks"].items()) or "no leak found"
        typer.echo(f"  split {name}: {sides}; {leaks}")
