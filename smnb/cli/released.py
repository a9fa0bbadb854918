"""The command ``smnb released``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smnb.cli.frame import Flags, Json, ShownProgress, command, show, warn


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
    optional: Annotated[list[str] | None, typer.Option(help="Source that a sample may lack; repeat.")] = None,
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
    import contextlib

    from smnb.files import write_text
    from smnb.papers.batchu2023.released.conversion import convert_released, shards_of
    from smnb.papers.batchu2023.released.labels import IsmnLabels
    from smnb.papers.batchu2023.released.records import open_released

    options = {"size": size, "crop": crop, "verify": not no_verify, "on_error": on_error}
    records = open_released(shards_of(shards), catalog_id="multisource_released", **options)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(ShownProgress())
        labels = None
        if ismn:
            rules = {"flags": flags, "ambiguous": ambiguous, "choose": choose, "max_km": max_km}
            labels = stack.enter_context(IsmnLabels(ismn, cache_dir=cache, **rules))
        done = convert_released(
            records,
            out,
            labels=labels,
            optional=optional or (),
            splits={} if no_splits else None,
            resume=not no_resume,
            overwrite=overwrite,
            progress=lambda done, total: progress("shards", "cell", done, total),
        )
    for one in done.problems:
        warn(f"skipped {one['reason']}")
    if ambiguities:
        write_text(ambiguities, done.ambiguities.to_csv(index=False))
    counts, splits = done.counts, done.store.attrs["splits"]
    samples = f"{counts['samples']:,} samples of {counts['sensors']:,} sensors"
    lines = [f"{out}: {samples}, from {counts['records']:,} records"]
    for name, count in counts.items():
        if name not in ("records", "samples", "sensors") and count:
            lines.append(f"  {name.replace('_', ' ')}: {count:,}")
    if len(done.ambiguities):
        kinds = done.ambiguities["kind"].value_counts().sort_index()
        lines += [f"  not unique, {kind}: {count:,}" for kind, count in kinds.items()]
    for name, split in splits.items():
        sides = ", ".join(f"{side} {n}" for side, n in split["sensors"].items() if n)
        leaks = ", ".join(f"{leak} {n}" for leak, n in split["leaks"].items()) or "no leak found"
        lines.append(f"  split {name}: {sides}; {leaks}")
    content = {**counts, "store": str(Path(out)), "ambiguous": len(done.ambiguities), "splits": splits}
    show(content, as_json, *lines)
