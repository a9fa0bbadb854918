"""Tiles of an image, and the finished ones: a file each, beside the map that they will be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from smnb.contract import RunError, plain
from smnb.files import atomic_path, remove_stale_partials, write_json
from smnb.maps.writing import BLOCK


class MapTile(NamedTuple):
    """Rows and columns of the image."""

    top: int
    bottom: int
    left: int
    right: int


def tiles_of(shape: tuple[int, int], size: int) -> list[MapTile]:
    """Divide rows and columns into tiles, row after row; the last ones may be smaller."""
    tops, lefts = (range(0, length, size) for length in shape)
    return [MapTile(t, min(t + size, shape[0]), left, min(left + size, shape[1])) for t in tops for left in lefts]


class TileFolder:
    """Finished tiles, a file each, beside the map that they will be; another map's are refused."""

    def __init__(self, out: Path, identity: dict[str, Any], *, resume: bool) -> None:
        self.path, self.shape, self.tile = out.parent / f".{out.name}.tiles", identity["shape"][1:], identity["tile"]
        record = self.path / "map.json"
        found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
        if found is not None and found != identity and resume:
            changed = sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key))
            what, got = f"{self.path} holds tiles of another map", plain(f"other {', '.join(changed)}")
            step = "Choose another output, or start anew with resume=False (--no-resume)"
            raise RunError("tiled_map", what, got=got, next_step=step)
        if found is None or not resume:
            shutil.rmtree(self.path, ignore_errors=True)
            write_json(record, identity)
        remove_stale_partials(self.path)

    def file(self, tile: MapTile) -> Path:
        """A tile's file; it is there when the tile is finished."""
        return self.path / f"row{tile.top}_col{tile.left}.npy"

    def write(self, tile: MapTile, values: np.ndarray) -> None:
        """Keep a finished tile, ``(row, col)``."""
        with atomic_path(self.file(tile)) as temporary:
            np.save(temporary, values)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows of the map from the tiles that they touch."""
        rows = np.empty((stop - start, self.shape[1]), dtype="float32")
        for tile in tiles_of(self.shape, self.tile):
            low, high = max(start, tile.top), min(stop, tile.bottom)
            if low < high:
                values = np.load(self.file(tile), mmap_mode="r")
                rows[low - start : high - start, tile.left : tile.right] = values[low - tile.top : high - tile.top]
        return rows

    def lazy(self, shift: np.float32) -> Any:
        """The map as a dask array, in bands of rows."""
        import dask
        import dask.array

        bands = []
        for start in range(0, self.shape[0], BLOCK):
            stop = min(start + BLOCK, self.shape[0])
            rows = dask.delayed(self.read, traverse=False)(start, stop)
            bands.append(dask.array.from_delayed(rows, (stop - start, self.shape[1]), dtype="float32") + shift)
        return dask.array.concatenate(bands)

    def mean(self) -> float:
        """Mean of the map's valid cells."""
        total, number = 0.0, 0
        for start in range(0, self.shape[0], self.tile):
            values = self.read(start, min(start + self.tile, self.shape[0]))
            finite = np.isfinite(values)
            total, number = total + float(values[finite].sum(dtype="float64")), number + int(finite.sum())
        return total / number
