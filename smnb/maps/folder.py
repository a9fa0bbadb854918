"""Finished tiles, a file each, beside the map that they will be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from smnb.contract import RunError, plain
from smnb.files import atomic_path, remove_stale_partials, write_json


class Tile(NamedTuple):
    """Rows and columns of the image."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def name(self) -> str:
        """Its file."""
        return f"row{self.top}_col{self.left}.npy"


def tiles_of(shape: tuple[int, int], size: int) -> Iterator[Tile]:
    """Divide rows and columns into tiles, row after row; the last ones may be smaller."""
    for top in range(0, shape[0], size):
        for left in range(0, shape[1], size):
            yield Tile(top, min(top + size, shape[0]), left, min(left + size, shape[1]))


class TileFolder:
    """Finished tiles, a file each, beside the map that they will be; another map's are refused."""

    def __init__(self, out: Path, identity: dict[str, Any], *, resume: bool) -> None:
        self.path, self.shape, self.tile = out.parent / f".{out.name}.tiles", identity["shape"][1:], identity["tile"]
        record = self.path / "map.json"
        found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
        if found is not None and found != identity and resume:
            changed = sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key))
            raise RunError(
                "tiled_map",
                f"{self.path} holds tiles of another map",
                got=plain(f"other {', '.join(changed)}"),
                next_step="Choose another output, or start anew with resume=False (--no-resume)",
            )
        if found is None or not resume:
            shutil.rmtree(self.path, ignore_errors=True)
            write_json(record, identity)
        remove_stale_partials(self.path)

    def has(self, tile: Tile) -> bool:
        """Whether a tile is finished."""
        return (self.path / tile.name).is_file()

    def write(self, tile: Tile, values: np.ndarray) -> None:
        """Keep a finished tile, ``(row, col)``."""
        with atomic_path(self.path / tile.name) as temporary:
            np.save(temporary, values)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows of the map from the tiles that they touch."""
        rows = np.empty((stop - start, self.shape[1]), dtype="float32")
        for tile in tiles_of(self.shape, self.tile):
            low, high = max(start, tile.top), min(stop, tile.bottom)
            if low < high:
                values = np.load(self.path / tile.name, mmap_mode="r")
                rows[low - start : high - start, tile.left : tile.right] = values[low - tile.top : high - tile.top]
        return rows
