"""What a finished sample store must be: its attributes, its arrays, and that none of them is lost or changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, JsonValue
from zarr import Group, open_group

from smnb.contract import FormatError, foreign, plain
from smnb.files import Kept, fingerprint, note, read_json, sha256_of
from smnb.papers.batchu2023.sources import Source

SENSORS_FILE = "sensors.parquet"
#: Bytes of a chunk before compression, and most images in one; an image is never divided.
CHUNK_BYTES, MOST_ROWS = 1 << 20, 16
MARK = "content"  # attribute: `store_mark` of what is beside it


class StoreAttributes(Kept):
    """What is read of a store's attributes; a writer may add others."""

    model_config = ConfigDict(extra="allow")
    sources: dict[str, dict[str, JsonValue]]
    crop: int = Field(gt=0)
    resolution_m: float = Field(gt=0)
    low_resolution_m: float = Field(gt=0)
    synthetic: bool
    counts: dict[str, JsonValue]
    scenes: dict[str, list[str]]
    splits: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)


class StoreProgress(Kept):
    """How far a writer is, beside the store that it writes."""

    plan: dict[str, JsonValue]
    written: int = Field(ge=0)
    note: JsonValue
    scenes: dict[str, list[str]]


def open_unfinished(who: str, record: Path) -> tuple[Group | None, dict[str, Any]]:
    """What is there of a store that is being written, to go on with; nothing where it is damaged, which is said."""
    if not record.is_file():
        return None, {}
    try:
        state = read_json(record, StoreProgress, "what is done of a store").model_dump()
        with foreign(who, f"{record.parent} is damaged"):
            return open_group(record.parent / "store.zarr", mode="r+", zarr_format=3), state
    except FormatError as damaged:
        note(f"the store is built anew: {damaged}")
        return None, {}


def chunk_rows(n_bands: int, side: int) -> int:
    """Images in a chunk: as many as `CHUNK_BYTES` holds, from 1 to 16."""
    return int(np.clip(CHUNK_BYTES // (2 * n_bands * side * side), 1, MOST_ROWS))


def store_mark(folder: Path, arrays: Mapping[str, int], attrs: Mapping[str, Any]) -> str:
    """Fingerprint of attributes, sensor table, and of `arrays` (and their dimensions) the metadata and which chunks there are.

    What is in the chunks, divided along the first dimension only, is not looked at.
    """
    parts: list[Any] = [sha256_of(folder / SENSORS_FILE), {name: one for name, one in attrs.items() if name != MARK}]
    for key in sorted(arrays):
        inside = "/".join("0" * (arrays[key] - 1))
        chunks = sorted(one.name for one in (folder / key / "c").glob("*") if (one / inside).is_file())
        parts.append([key, sha256_of(folder / key / "zarr.json"), chunks])
    return fingerprint(parts)


def check_arrays(
    who: str, root: Group, sources: Mapping[str, Source], side: Mapping[str, int], sensors: int
) -> dict[str, int]:
    """The arrays, and how many dimensions each has; `FormatError` if one has another type or shape than the sources say."""
    n = root["label"].shape[0]
    wanted = {"label": ("float32", (n,)), "time": ("int64", (n,)), "sensor": ("int32", (n,))}
    for name, one in sources.items():
        owners, size, image = sensors if one.static else n, side[name], f"{name}/image"
        rows = root[f"{name}/values"].shape[0] if image in root else owners
        shape = (rows, len(one.bands), size, size) if size else (rows, len(one.bands))
        wanted |= {f"{name}/values": ("float16" if size else "float32", shape), f"{name}/scene": ("int32", (owners,))}
        wanted |= {image: ("int32", (owners,))} if image in root else {}
        wanted |= {} if one.static else {f"{name}/time": ("int64", (n,))}
    for key, expected in wanted.items():
        if (found := (str(root[key].dtype), root[key].shape)) != expected:
            raise FormatError(who, f"array {key!r} is of another type or shape", got=found, expected=expected)
    return {key: len(shape) for key, (_, shape) in wanted.items()}


def check_rows(who: str, key: str, rows: np.ndarray, least: int, count: int) -> None:
    """Raise `FormatError` unless rows are from `least` to below `count`."""
    if rows.size and not (least <= rows.min() and rows.max() < count):
        got, expected = (int(rows.min()), int(rows.max())), plain(f"{least} to {count - 1}")
        raise FormatError(who, f"array {key!r} names rows that are not there", got=got, expected=expected)
