"""What a tile is given to (a network that knows its halo), what it reads, and the tiles that are finished."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
import xarray as xr
from torch import nn

from smnb.contract import ContractError, FormatError, ParameterError, RunError, check_choice, check_count, plain
from smnb.files import AnyMapping, note, read_json, remove_stale_partials, write_bytes, write_json

if TYPE_CHECKING:
    from smnb.training import MinMaxScaler

_WHO = "tiled_map"
#: Arithmetic of a map; float32 equals the untiled network to 1e-5.
MAP_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
#: How a form's `around` is padded: above and below, left and right.
_PADDING = {"zeros": ("constant", "constant"), "edge": ("edge", "edge"), "wrap": ("edge", "wrap")}
_MOST_PIXELS = 64  # how far from a pixel a receptive field is measured
#: Rows of the halo above and below and columns left and right that lie outside the image.
Outside = tuple[int, int, int, int]


class TileForm(Protocol):
    """A network for tiles: ``form(images, outside)`` takes ``(channel, row + 2 halo, col + 2 halo)`` to ``(row, col)``.

    ``halo`` is how far from a pixel its value depends on the inputs. ``around``, ``zeros`` if absent, says what the halo
    holds outside the image: ``zeros``, ``edge`` (the image's outermost pixels) or ``wrap`` (columns go round the globe).
    """

    halo: int

    def __call__(self, images: torch.Tensor, outside: Outside) -> torch.Tensor:
        """Predict a tile."""


@torch.inference_mode()
def receptive_radius(network: nn.Module, channels: int) -> int:
    """Measure how far from a pixel a network's output depends on its inputs, pixels.

    One NaN is put into zeros; whatever it can reach becomes NaN, also by weights that are zero. `ParameterError` if the output
    has another size than the input, or depends on pixels beyond the limit (a global mean, say).
    """
    limit = _MOST_PIXELS
    network.eval()
    reference = next(network.parameters(), torch.empty(0))
    images = torch.zeros(1, channels, 2 * limit + 1, 2 * limit + 1, device=reference.device, dtype=reference.dtype)
    images[:, :, limit, limit] = float("nan")
    result, expected = network(images), (1, *images.shape[2:])
    if result.shape != expected:
        what = "the network does not keep the size of an image"
        raise ParameterError("receptive_radius", what, got=tuple(result.shape), expected=expected)
    rows, cols = torch.nonzero(torch.isnan(result[0]), as_tuple=True)
    if rows.numel() == 0:
        raise ParameterError("receptive_radius", "the output does not depend on the inputs")
    radius = int(max((rows - limit).abs().max(), (cols - limit).abs().max()))
    if radius >= limit:
        got, expected = plain(f"{radius} pixels or more"), plain(f"less than {limit}")
        what = "the output depends on more than a neighbourhood, so it cannot be computed in tiles"
        raise ParameterError("receptive_radius", what, got=got, expected=expected)
    return radius


class SameSizeForm(nn.Module):
    """Any network ``(image, channel, row, col) -> (image, row, col)`` with stride 1 that pads for itself.

    Outside the image the halo (at least the network's receptive field) is cut off, so that the network's own padding acts at
    the image's edge; inside, the padding spoils the halo only, which is cut off afterwards.
    """

    def __init__(self, network: nn.Module, halo: int) -> None:
        super().__init__()
        self.network, self.halo = network.eval(), halo

    def forward(self, images: torch.Tensor, outside: Outside) -> torch.Tensor:
        """Predict a tile."""
        top, bottom, left, right = outside
        rows, cols = images.shape[1:]
        result = self.network(images[None, :, top : rows - bottom, left : cols - right])[0]
        row, col = self.halo - top, self.halo - left
        return result[row : row + rows - 2 * self.halo, col : col + cols - 2 * self.halo]


class PatchForm(nn.Module):
    """Any network of patches ``(patch, channel, size, size) -> (patch,)`` at every pixel, patch by patch.

    Parameters
    ----------
    patch_size : int
        Odd side of a patch, pixels.
    wrap : bool
        Whether the columns go round the globe; other edges repeat the outermost pixel.
    """

    def __init__(self, network: nn.Module, patch_size: int, *, wrap: bool = False) -> None:
        super().__init__()
        self.network, self.halo, self.around = network.eval(), patch_size // 2, "wrap" if wrap else "edge"

    def forward(self, images: torch.Tensor, outside: Outside) -> torch.Tensor:
        """Predict a tile, row by row."""
        size = 2 * self.halo + 1
        patches = images.unfold(1, size, 1).unfold(2, size, 1)  # (channel, row, col, size, size), a view
        return torch.stack([self.network(patches[:, row].transpose(0, 1)) for row in range(patches.shape[1])])


def tile_form(network: nn.Module, channels: int) -> TileForm:
    """Find the form in which a network is applied to tiles.

    The network has a method ``folded`` that gives its own form, such as `smnb.models.fusion_1km.Fusion1km`, or it takes
    ``(image, channel, row, col)`` to ``(image, row, col)`` with stride 1, and its receptive field is measured.
    """
    if hasattr(network, "folded"):
        return network.folded()
    return SameSizeForm(network, receptive_radius(network, channels))


@dataclass(frozen=True)
class Bands:
    """Rows of the inputs ``(channel, row, col)``, scaled and filled; a value is wanted at `where`, by default everywhere."""

    inputs: Any
    scaler: MinMaxScaler | None
    where: np.ndarray | None = None

    def raw(self, start: int, stop: int) -> np.ndarray:
        """Rows as they are, float32."""
        return np.asarray(self.inputs[:, start:stop], dtype="float32")

    def around(self, form: TileForm, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows ``top - halo`` to ``bottom + halo`` with what lies around the image, and the valid cells of ``top:bottom``."""
        halo, modes = form.halo, _PADDING[getattr(form, "around", "zeros")]
        start, stop = max(0, top - halo), min(self.inputs.shape[1], bottom + halo)
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
        values = np.pad(values, ((0, 0), (start - top + halo, bottom + halo - stop), (0, 0)), mode=modes[0])
        return np.pad(values, ((0, 0), (0, 0), (halo, halo)), mode=modes[1]), valid


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
    said = {"lat": ("degrees_north", "latitude", "Y"), "lon": ("degrees_east", "longitude", "X")}
    attrs = {n: dict(zip(("units", "standard_name", "axis"), one, strict=True)) for n, one in said.items()}
    kept = {n: v for n, v in found.items() if n == "crs" or (v.dims and set(v.dims) <= {"y", "x", "lat", "lon"})}
    lengths = dict(zip(("y", "x", "lat", "lon"), inputs.shape[1:] * 2, strict=True))
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
    if empty := [name for name, number in by_channel.items() if number == rows * cols]:
        what = f"{len(empty)} of {len(channels)} channels are missing everywhere"
        step = "Check the file's fill values, and that all channels are of one scene"
        raise ContractError(_WHO, what, got=empty, next_step=step)
    if n_valid == 0:
        expected, step = plain(f"fewer than {rows * cols} missing cells"), "Check that the channels overlap"
        raise ContractError(_WHO, "no cell has all channels", got=by_channel, expected=expected, next_step=step)
    return digest.hexdigest(), by_channel, n_valid, total / n_valid


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


def _mark(tile: MapTile, content: bytes) -> bytes:
    return hashlib.sha256(repr(tile).encode() + content).digest()


class TileFolder:
    """Finished tiles, a file each, beside the map that they will be, and an array for dask; another map's are refused."""

    dtype, ndim = np.dtype("float32"), 2

    def __init__(self, out: Path, identity: dict[str, Any], *, resume: bool) -> None:
        self.path, self.tile = out.parent / f".{out.name}.tiles", identity["tile"]
        self.shape = tuple(identity["shape"][1:])
        record, found = self.path / "map.json", None
        identity = json.loads(json.dumps(identity))
        if resume and record.is_file():
            try:
                found = read_json(record, AnyMapping, "what a map is of", next_step="Its tiles are made again").root
            except FormatError as damaged:
                note(str(damaged))
        if found is not None and found != identity:
            changed = sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key))
            what, got = f"{self.path} holds tiles of another map", plain(f"other {', '.join(changed)}")
            step = "Choose another output, or start anew with resume=False (--no-resume)"
            raise RunError(_WHO, what, got=got, next_step=step)
        if found is None:
            shutil.rmtree(self.path, ignore_errors=True)
            write_json(record, identity)
        remove_stale_partials(self.path)

    def file(self, tile: MapTile) -> Path:
        """A tile's file; it is there when the tile is finished."""
        return self.path / f"row{tile.top}_col{tile.left}.npy"

    def write(self, tile: MapTile, values: np.ndarray) -> None:
        """Keep a finished tile, ``(row, col)``, and after it a SHA-256."""
        content = io.BytesIO()
        np.save(content, values)  # into a file it does not see that a disk is full
        write_bytes(self.file(tile), content.getvalue() + _mark(tile, content.getvalue()))

    def holds(self, tile: MapTile) -> bool:
        """Whether a tile is finished; one that is damaged is said and goes."""
        file = self.file(tile)
        content = file.read_bytes() if file.is_file() else b""
        if content and _mark(tile, content[:-32]) != content[-32:]:
            note(f"{file} is damaged; this tile is made again")
            file.unlink()
            return False
        return bool(content)

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        """Part of the map, from the tiles that its rows touch."""
        wanted = range(self.shape[0])[key[0]]
        rows = np.empty((len(wanted), self.shape[1]), self.dtype)
        for tile in tiles_of(self.shape, self.tile):
            low, high = max(wanted.start, tile.top), min(wanted.stop, tile.bottom)
            if low < high:
                part = np.load(self.file(tile), mmap_mode="r")[low - tile.top : high - tile.top]
                rows[low - wanted.start : high - wanted.start, tile.left : tile.right] = part
        return rows[:, key[1]]
