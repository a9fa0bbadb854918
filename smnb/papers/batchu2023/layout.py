"""What a finished sample store must be: that none of its files is lost or changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from zarr import Group, open_group

from smnb.contract import FormatError, foreign, plain
from smnb.files import AnyMapping, fingerprint, note, read_json, sha256_of

SENSORS_FILE = "sensors.parquet"
#: Bytes of a chunk before compression, and most images in one; an image is never divided.
CHUNK_BYTES, MOST_ROWS = 1 << 20, 16
MARK = "content"  # attribute: `store_mark` of what is beside it


def open_unfinished(who: str, record: Path) -> tuple[Group | None, dict[str, Any]]:
    """What is there of a store that is being written, to go on with; nothing where it is damaged, which is said."""
    if not record.is_file():
        return None, {}
    try:
        state = read_json(record, AnyMapping, "what is done of a store").root
        with foreign(who, f"{record.parent} is damaged"):
            return open_group(record.parent / "store.zarr", mode="r+", zarr_format=3), state
    except FormatError as damaged:
        note(f"the store is built anew: {damaged}")
        return None, {}


def chunk_rows(n_bands: int, side: int) -> int:
    """Images in a chunk: as many as `CHUNK_BYTES` holds, from 1 to 16."""
    return int(np.clip(CHUNK_BYTES // (2 * n_bands * side * side), 1, MOST_ROWS))


def store_mark(folder: Path, attrs: Mapping[str, Any]) -> str:
    """Fingerprint of attributes, sensor table, and each array's metadata and which chunks it has, not of what they hold."""
    parts: list[Any] = [sha256_of(folder / SENSORS_FILE), {name: one for name, one in attrs.items() if name != MARK}]
    for key, dims in attrs["arrays"].items():
        inside = "/".join("0" * (dims - 1))
        chunks = sorted(one.name for one in (folder / key / "c").glob("*") if (one / inside).is_file())
        parts.append([key, sha256_of(folder / key / "zarr.json"), chunks])
    return fingerprint(parts)


def check_rows(who: str, key: str, rows: np.ndarray, least: int, count: int) -> None:
    """Raise `FormatError` unless rows are from `least` to below `count`."""
    if rows.size and not (least <= rows.min() and rows.max() < count):
        got, expected = (int(rows.min()), int(rows.max())), plain(f"{least} to {count - 1}")
        raise FormatError(who, f"array {key!r} names rows that are not there", got=got, expected=expected)
