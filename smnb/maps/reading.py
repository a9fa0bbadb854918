"""Bands of the inputs: read, scaled, filled, and what lies around the image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from smnb.contract import ContractError, plain
from smnb.maps.folder import Tile
from smnb.maps.forms import TileForm
from smnb.training.scaling import MinMaxScaler


@dataclass(frozen=True)
class Reader:
    """Bands of the inputs, scaled and filled."""

    inputs: Any
    shape: tuple[int, int, int]
    scaler: MinMaxScaler | None

    def raw(self, start: int, stop: int) -> np.ndarray:
        """Rows as they are, ``(channel, row, col)`` float32."""
        if isinstance(self.inputs, xr.DataArray):
            part = self.inputs.isel({self.inputs.dims[1]: slice(start, stop)}).values
        else:
            part = np.asarray(self.inputs[:, start:stop])
        return np.asarray(part, dtype="float32")

    def scaled(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Scaled and filled rows, and where all channels are valid."""
        values = self.raw(start, stop)
        finite = np.isfinite(values)
        if self.scaler is None:
            return np.where(finite, values, np.float32(0.0)), finite.all(0)
        scaled = np.moveaxis(self.scaler.transform(np.moveaxis(values, 0, -1)), -1, 0)
        fill = np.asarray(self.scaler.fill, dtype="float32")[:, None, None]
        return np.where(finite, scaled, fill), finite.all(0)


@dataclass(frozen=True)
class Scan:
    """One pass over the inputs: what identifies them, and what is missing."""

    digest: str
    missing: list[int]
    n_valid: int
    level: float
    """Mean of the level channel over valid cells."""


def scan_inputs(reader: Reader, channels: tuple[str, ...], tile: int, level: int | None) -> Scan:
    """Read everything once, in bands of `tile` rows.

    Raises
    ------
    ContractError
        If a channel is missing everywhere, or no cell has all channels.
    """
    _, rows, cols = reader.shape
    digest, missing, n_valid, total = hashlib.sha256(), np.zeros(len(channels), dtype=np.int64), 0, 0.0
    for start in range(0, rows, tile):
        values = np.ascontiguousarray(reader.raw(start, min(start + tile, rows)))
        digest.update(values)
        finite = np.isfinite(values)
        valid = finite.all(0)
        missing += finite[0].size - np.count_nonzero(finite, axis=(1, 2))
        n_valid += int(np.count_nonzero(valid))
        if level is not None:
            total += float(values[level][valid].sum(dtype="float64"))
    empty = [name for name, number in zip(channels, missing, strict=True) if number == rows * cols]
    if empty:
        raise ContractError(
            "tiled_map",
            f"{len(empty)} of {len(channels)} channels are missing everywhere",
            got=empty,
            next_step="Check the file's fill values, and that all channels are of one scene",
        )
    if n_valid == 0:
        raise ContractError(
            "tiled_map",
            "no cell has all channels",
            got=dict(zip(channels, missing.tolist(), strict=True)),
            expected=plain(f"fewer than {rows * cols} missing cells"),
            next_step="Check that the channels overlap",
        )
    return Scan(digest.hexdigest(), missing.tolist(), n_valid, total / n_valid)


def _around(band: np.ndarray, size: int, around: str) -> np.ndarray:
    """Add `size` columns on both sides of a band."""
    if around == "zeros":
        return np.pad(band, ((0, 0), (0, 0), (size, size)))
    return np.pad(band, ((0, 0), (0, 0), (size, size)), mode=around)


def _band(reader: Reader, form: TileForm, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``top - halo`` to ``bottom + halo`` with what lies around the image, and the valid cells of ``top:bottom``."""
    halo, around, rows = form.halo, getattr(form, "around", "zeros"), reader.shape[1]
    start, stop = max(0, top - halo), min(rows, bottom + halo)
    values, valid = reader.scaled(start, stop)
    vertical = ((0, 0), (start - top + halo, bottom + halo - stop), (0, 0))
    values = np.pad(values, vertical) if around == "zeros" else np.pad(values, vertical, mode="edge")
    return _around(values, halo, around), valid[top - start : bottom - start]


def with_bands(reader: Reader, form: TileForm, tiles: list[Tile]) -> Iterator[tuple[np.ndarray, np.ndarray, Tile]]:
    """Yield each tile with its band, which is read once, and the tile's valid cells."""
    rows: tuple[int, int] | None = None
    for tile in tiles:
        if rows != (tile.top, tile.bottom):
            rows = (tile.top, tile.bottom)
            band, valid = _band(reader, form, *rows)
        yield band, valid[:, tile.left : tile.right], tile
