"""Maps of any size in tiles: read a band, predict its tiles side by side, each with the receptive field around it.

`predicted_tiles` is the one tiler. `tiled_map` keeps each finished tile on disk until the map is whole and written;
`mapped_image` keeps them in memory, for an image that fits there.
"""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import torch
import xarray as xr
from torch import nn

from smnb.contract import ContractError, RunError
from smnb.files import fingerprint, held_output
from smnb.loaders import CHECKSUM, check_written
from smnb.maps import forms
from smnb.maps.forms import MAP_PRECISIONS, Bands, MapTile, Outside, TileForm, tile_form, tiles_of
from smnb.maps.parallel import open_workers
from smnb.maps.writing import BLOCK, check_map_path, read_attribute, soil_moisture_map, write_map
from smnb.training import MinMaxScaler

_WHO = "tiled_map"
IDENTITY = "smnb_map_identity"  # attribute of a map that says which inputs, network and settings it is of


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, so that sums, and so the digits, do not depend on the machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def predicted_tiles(
    form: TileForm,
    bands: Bands,
    tiles: list[MapTile],
    *,
    target_scaler: MinMaxScaler | None = None,
    workers: int = 0,
    scheduler: str | None = None,
    device: str = "cpu",
    precision: str = "float32",
) -> Iterator[tuple[MapTile, np.ndarray]]:
    """Predict tiles and yield each as it is done, NaN where an input is missing or no value is wanted.

    A few tiles are in flight at a time, so memory does not grow with their number; a band is read once where tiles are
    in order. Parameters are those of `tiled_map`.
    """
    empty: list[tuple[MapTile, np.ndarray]] = []  # nothing to predict
    threaded, threads = scheduler is None and workers == 0, torch.get_num_threads()
    call = partial(_predict, device=device, precision=precision, alone=not threaded)
    rows, cols = bands.inputs.shape[1:]

    def calls(form_there: Any) -> Iterator[tuple[tuple[MapTile, np.ndarray], tuple]]:
        at: tuple[int, int] | None = None
        for tile in tiles:
            if at != (tile.top, tile.bottom):
                at = (tile.top, tile.bottom)
                band, valid_band = bands.around(form, *at)
            valid = valid_band[:, tile.left : tile.right]
            if not valid.any():
                empty.append((tile, np.full(valid.shape, np.nan, dtype="float32")))
                continue
            beyond = (form.halo - tile.top, tile.bottom + form.halo - rows)
            beyond += (form.halo - tile.left, tile.right + form.halo - cols)
            part = np.ascontiguousarray(band[:, :, tile.left : tile.right + 2 * form.halo])
            yield (tile, valid), (form_there, part, tuple(max(0, cells) for cells in beyond))

    # a tile a core: convolutions of one tile gain more from a core of their own than from sharing each operation
    options = {"threads": threads if device == "cpu" else 1, "begin": partial(torch.set_num_threads, 1)}
    try:
        with open_workers(_WHO, workers, scheduler, **options) as pool:
            for (tile, valid), future in pool.run(call, calls(pool.share(form))):
                values = future.result()
                if target_scaler is not None:
                    values = target_scaler.inverse(values[..., None])[..., 0]
                yield tile, np.where(valid, values, np.float32("nan"))
                yield from empty
                empty.clear()
            yield from empty
    finally:
        if threaded:
            torch.set_num_threads(threads)


@torch.inference_mode()
def _predict(
    form: TileForm, images: np.ndarray, outside: Outside, *, device: str, precision: str, alone: bool
) -> np.ndarray:
    """Predict one tile, scaled; in a thread, or `alone` on a core of a Dask worker, beside others."""
    images_there = torch.from_numpy(images).to(device, MAP_PRECISIONS[precision])
    # exact float32 convolutions on a GPU too
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if device != "cpu" else contextlib.nullcontext()
    with exact, one_thread() if alone else contextlib.nullcontext():
        return form(images_there, outside).float().cpu().numpy()


def mapped_image(
    form: TileForm,
    inputs: Any,
    *,
    input_scaler: MinMaxScaler | None = None,
    target_scaler: MinMaxScaler | None = None,
    where: np.ndarray | None = None,
    tile: int = 256,
    device: str = "cpu",
) -> np.ndarray:
    """Map an image that fits in memory, ``(row, col)`` float32; parameters are those of `tiled_map`.

    Tiles without any cell of `where`, bool ``(row, col)``, are skipped, and the map is NaN elsewhere.
    """
    if where is not None and where.shape != inputs.shape[1:]:
        raise ContractError("mapped_image", "'where' has another shape", got=where.shape, expected=inputs.shape[1:])
    result = np.empty(inputs.shape[1:], dtype="float32")
    bands, tiles = Bands(inputs, input_scaler, where), tiles_of(result.shape, tile)
    placed = _placed(form, device, "float32")
    for one, values in predicted_tiles(placed, bands, tiles, target_scaler=target_scaler, device=device):
        result[one.top : one.bottom, one.left : one.right] = values
    return result


@dataclass(frozen=True)
class MapResult:
    """A finished map, and what it took.

    `n_predicted` cells have all inputs; `missing_by_channel` counts those without a value, and a cell that lacks one is NaN in
    the map. `n_resumed` tiles an earlier, interrupted call had finished; `was_finished` says that the map was there already.
    """

    path: Path
    n_cells: int
    n_predicted: int
    missing_by_channel: dict[str, int]
    n_tiles: int
    n_resumed: int
    seconds: float
    was_finished: bool = False

    @property
    def n_missing(self) -> int:
        """Cells that are NaN in the map."""
        return self.n_cells - self.n_predicted


def tiled_map(
    network: nn.Module | TileForm,
    inputs: Any,
    *,
    out: str | Path,
    tile: int = 256,
    channels: tuple[str, ...] | None = None,
    input_scaler: MinMaxScaler | None = None,
    target_scaler: MinMaxScaler | None = None,
    coords: Mapping[str, Any] | None = None,
    workers: int = 0,
    scheduler: str | None = None,
    resume: bool = True,
    device: str = "cpu",
    precision: str = "float32",
    synthetic: bool = False,
    source: str = "network",
    progress: Callable[[int, int], None] | None = None,
) -> MapResult:
    """Apply a network to an image of any size, tile by tile, and write one map.

    The result equals the network applied to the whole image (to 1e-5 in float32): each tile is predicted with the receptive
    field around it, and what the network assumes beyond the image acts at the image's edge only. The inputs are read twice
    in bands of rows, once to identify them and count what is missing, so memory does not grow with the image. Finished
    tiles are kept beside `out` until the map is whole; a call that was killed goes on from them.

    Parameters
    ----------
    network : torch.nn.Module or TileForm
        See `smnb.maps.tile_form`; used in evaluation mode.
    inputs : array, shape (channel, row, col)
        numpy, dask, zarr or an xarray DataArray with dims ``(channel, y, x)`` or ``(channel, lat, lon)``, which may be
        lazy: slices of its rows are read. Native units; missing is NaN. A missing value is replaced by the scaler's fill
        value (0 without a scaler); a cell that lacks a channel is NaN in the map.
    out, tile, channels
        As `smnb.maps.write_map` takes it, m3 m-3; side of a tile, cells; names, for messages and counts.
    input_scaler, target_scaler : MinMaxScaler, optional
        The checkpoint's; without them inputs and map are as the network has them.
    coords : mapping, optional
        Coordinates of the inputs, such as `smnb.grids.EaseWindow.coords` gives; default their own.
    workers, scheduler
        As `smnb.maps.open_workers` takes them.
    resume : bool
        Go on with the tiles of a call that was killed, and leave a map that is finished. False starts anew and replaces
        an existing map (but nothing else).
    precision : str
        ``float32`` or ``bfloat16``, which is faster and less exact than 1e-5.
    synthetic, source, progress
        Whether the inputs were simulated, and the network and its weights, which is stored; called with tiles done and all.

    Raises
    ------
    ParameterError, ContractError, RunError
        If an option is unknown, or a GeoTIFF is asked for without a place; if the inputs have another shape than the
        channels, a channel is missing everywhere or no cell has all; if the output, or its tiles, are of another map.
    """
    begin, out = time.perf_counter(), Path(out)
    names = forms.checked_channels(inputs, tile, precision, channels, input_scaler)
    form = network if hasattr(network, "halo") else tile_form(network, inputs.shape[0])
    coords = forms.map_coords(inputs, coords)
    axes = {name for name, one in coords.items() if one.dims == (name,)}
    dims = ("lat", "lon") if {"lat", "lon"} <= axes else ("y", "x")
    shape, total = tuple(inputs.shape[1:]), len(tiles_of(inputs.shape[1:], tile))
    bands = Bands(inputs, input_scaler)
    level, refused = getattr(form, "level", None), None
    with contextlib.ExitStack() as stack:
        try:
            check_map_path(xr.Dataset({"soil_moisture": (dims, np.broadcast_to(np.float32(0), shape))}, coords), out)
            stack.enter_context(held_output(_WHO, out))
        except RunError as error:
            if not (resume and out.exists()):
                raise
            refused = error  # nothing need be written where this very map is there
        digest, missing, n_valid, mean_level = forms.scan_inputs(bands, names, tile, level)
        described, weights = (repr(form), form.state_dict()) if isinstance(form, nn.Module) else ("", {})
        weights = {name: value.detach().float().cpu().numpy() for name, value in weights.items()}
        identity = {
            "format": 3,
            "inputs": digest,
            "shape": list(inputs.shape),
            "channels": list(names),
            "network": fingerprint(type(form).__qualname__, described, weights),
            "halo": form.halo,
            "around": getattr(form, "around", "zeros"),
            "tile": tile,
            "precision": precision,
            "input_scaler": input_scaler and input_scaler.to_dict(),
            "level": level,
            "target_scaler": target_scaler and target_scaler.to_dict(),
            "place": fingerprint(coords),
        }
        mark = fingerprint(identity)
        result = partial(MapResult, out, shape[0] * shape[1], n_valid, missing, total)
        if out.exists():
            found = read_attribute(out, IDENTITY)
            if refused is not None and found is None:
                raise refused
            if found is None or (resume and found != mark):
                what = f"{out} exists and is {'no map' if found is None else 'another map'}"
                step = "Choose another output" + (", or replace it with resume=False (--no-resume)" if found else "")
                raise RunError(_WHO, what, got=found, expected=mark, next_step=step)
            if resume:
                check_written(_WHO, out, read_attribute(out, CHECKSUM), exact=True)
            if resume and refused is None:
                for left in ("tiles", "partial", "replaced"):  # by a kill at the very end
                    shutil.rmtree(out.with_name(f".{out.name}.{left}"), ignore_errors=True)
            if resume:
                return result(total, time.perf_counter() - begin, was_finished=True)
        if refused is not None:
            raise refused
        folder = forms.TileFolder(out, identity, resume=resume)
        todo = [one for one in tiles_of(shape, tile) if not folder.holds(one)]
        options = {"workers": workers, "scheduler": scheduler, "device": device, "precision": precision}
        form = _placed(form, device, precision)
        predicted = predicted_tiles(form, bands, todo, target_scaler=target_scaler, **options)
        for number, (one, values) in enumerate(predicted, 1):
            folder.write(one, values)
            if progress is not None:
                progress(total - len(todo) + number, total)
        values = da.from_array(folder, (BLOCK, -1), name=False, meta=np.empty((0, 0), "float32"))
        if level is not None:
            mean = da.nanmean(values, dtype="float64").compute(scheduler="synchronous")
            values = values + np.float32(mean_level - mean)
        attrs = {"masked_by": json.dumps({"missing_input": shape[0] * shape[1] - n_valid})}
        attrs["missing_by_channel"] = json.dumps(missing)
        step = f"tiled_map in {total} tiles of {tile} with halo {form.halo}"
        mapped = soil_moisture_map(values, dims, coords, synthetic=synthetic, source=source, step=step, attrs=attrs)
        write_map(mapped.assign_attrs({IDENTITY: mark}), out)
        shutil.rmtree(folder.path)
        return result(total - len(todo), time.perf_counter() - begin)


def _placed(form: TileForm, device: str, precision: str) -> TileForm:
    """The form where and as it computes; the caller's stays what and where it is."""
    if not isinstance(form, nn.Module):
        return form
    if (device, precision) != ("cpu", "float32"):
        form = copy.deepcopy(form).to(device, MAP_PRECISIONS[precision])
    return form.eval()
