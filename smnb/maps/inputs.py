"""Inputs of a map: read in bands of rows, scaled, filled, and identified; and where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from smnb.contract import ContractError, check_choice, check_count, plain
from smnb.maps.forms import TileForm
from smnb.training import MinMaxScaler

_WHO = "tiled_map"
#: Arithmetic of a map; float32 equals the untiled network to 1e-5.
MAP_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Bands:
    """Rows of the inputs, scaled and filled."""

    inputs: Any
    scaler: MinMaxScaler | None
    where: np.ndarray | None = None
    """Where a value is wanted, ``(row, col)``; None for everywhere."""

    def raw(self, start: int, stop: int) -> np.ndarray:
        """Rows as they are, ``(channel, row, col)`` float32."""
        if isinstance(self.inputs, xr.DataArray):
            part = self.inputs.isel({self.inputs.dims[1]: slice(start, stop)}).values
        else:
            part = self.inputs[:, start:stop]
        return np.asarray(part, dtype="float32")

    def around(self, form: TileForm, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows ``top - halo`` to ``bottom + halo`` with what lies around the image, and the valid cells of ``top:bottom``."""
        halo, mode, rows = form.halo, getattr(form, "around", "zeros"), self.inputs.shape[1]
        start, stop = max(0, top - halo), min(rows, bottom + halo)
        values = self.raw(start, stop)
        finite = np.isfinite(values)
        valid = finite[:, top - start : bottom - start].all(0)
        if self.where is not None:
            valid &= self.where[top:bottom]
        if self.scaler is None:
            values = np.where(finite, values, np.float32(0.0))
        else:
            scaled = np.moveaxis(self.scaler.transform(np.moveaxis(values, 0, -1)), -1, 0)
            values = np.where(finite, scaled, np.asarray(self.scaler.fill, dtype="float32")[:, None, None])
        above_below = ((0, 0), (start - top + halo, bottom + halo - stop), (0, 0))
        sides = ((0, 0), (0, 0), (halo, halo))
        if mode == "zeros":
            return np.pad(np.pad(values, above_below), sides), valid
        return np.pad(np.pad(values, above_below, mode="edge"), sides, mode=mode), valid


def checked_channels(
    inputs: Any, tile: int, precision: str, channels: Any, scaler: MinMaxScaler | None
) -> tuple[str, ...]:
    """Names of the channels, once inputs and options fit together."""
    shape = tuple(inputs.shape)
    if len(shape) != 3 or 0 in shape:
        raise ContractError(_WHO, "inputs are not (channel, row, col)", got=shape)
    if isinstance(inputs, xr.DataArray) and inputs.dims[1:] not in (("y", "x"), ("lat", "lon")):
        raise ContractError(_WHO, "dims", got=inputs.dims, expected=plain("(channel, y, x) or (channel, lat, lon)"))
    for name, length in (("channels", channels), ("input_scaler", scaler and scaler.minimum)):
        if length is not None and len(length) != shape[0]:
            raise ContractError(_WHO, f"inputs and {name} differ in number", got=shape[0], expected=len(length))
    check_count(_WHO, "tile", tile)
    check_choice(_WHO, "precision", precision, MAP_PRECISIONS)
    return channels or tuple(f"channel {number}" for number in range(shape[0]))


def map_coords(inputs: Any, coords: Mapping[str, Any] | None) -> dict[str, xr.Variable]:
    """Coordinates of the map, as variables: those along rows and columns, and the grid mapping."""
    if coords is None:
        coords = inputs.coords if isinstance(inputs, xr.DataArray) else {}
    found = xr.Dataset(coords=coords).variables
    attrs = {
        "lat": {"units": "degrees_north", "standard_name": "latitude", "axis": "Y"},
        "lon": {"units": "degrees_east", "standard_name": "longitude", "axis": "X"},
    }
    kept = {n: v for n, v in found.items() if n == "crs" or (v.dims and set(v.dims) <= {"y", "x", "lat", "lon"})}
    lengths = dict(zip(("y", "x", "lat", "lon"), (*inputs.shape[1:], *inputs.shape[1:]), strict=True))
    for name, one in kept.items():
        if one.dims == (name,) and one.size != lengths[name]:
            what = f"{name!r} has another shape than the inputs"
            raise ContractError(_WHO, what, got=one.size, expected=lengths[name])
    return {n: xr.Variable(v.dims, v.values, attrs.get(n, {}) | v.attrs) for n, v in kept.items()}


def scan_inputs(
    bands: Bands, channels: tuple[str, ...], tile: int, level: int | None
) -> tuple[str, dict[str, int], int, float]:
    """Read everything once, in bands of `tile` rows; refuse what has nothing to map.

    What identifies it, missing cells by channel, the number of valid cells, and the mean of channel `level` over them.
    """
    rows, cols = bands.inputs.shape[1:]
    digest, missing, n_valid, total = hashlib.sha256(), np.zeros(len(channels), dtype=np.int64), 0, 0.0
    for start in range(0, rows, tile):
        values = np.ascontiguousarray(bands.raw(start, min(start + tile, rows)))
        digest.update(values)
        finite = np.isfinite(values)
        valid = finite.all(0)
        missing += finite[0].size - np.count_nonzero(finite, axis=(1, 2))
        n_valid += int(np.count_nonzero(valid))
        if level is not None:
            total += float(values[level][valid].sum(dtype="float64"))
    by_channel = dict(zip(channels, missing.tolist(), strict=True))
    empty = [name for name, number in by_channel.items() if number == rows * cols]
    if empty:
        what = f"{len(empty)} of {len(channels)} channels are missing everywhere"
        step = "Check the file's fill values, and that all channels are of one scene"
        raise ContractError(_WHO, what, got=empty, next_step=step)
    if n_valid == 0:
        expected, step = plain(f"fewer than {rows * cols} missing cells"), "Check that the channels overlap"
        raise ContractError(_WHO, "no cell has all channels", got=by_channel, expected=expected, next_step=step)
    return digest.hexdigest(), by_channel, n_valid, total / n_valid
