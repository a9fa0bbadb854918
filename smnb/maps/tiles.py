"""Large maps in tiles: read a band, predict its tiles side by side, keep each finished tile on disk, then write the map."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from smnb.contract import ContractError, ParameterError, RunError, plain
from smnb.grids import EaseWindow
from smnb.maps.folder import Tile, TileFolder, tiles_of
from smnb.maps.forms import Outside, TileForm, tile_form
from smnb.maps.parallel import open_workers
from smnb.maps.reading import Reader, scan_inputs, with_bands
from smnb.maps.writing import MapPlace, map_identity, write_map
from smnb.training.scaling import MinMaxScaler

_WHO = "tiled_map"
#: Arithmetic of a map; float32 equals the untiled network to 1e-5.
MAP_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class MapResult:
    """A finished map, and what it took."""

    path: Path
    n_cells: int
    n_predicted: int
    """Cells with all inputs."""
    missing_by_channel: dict[str, int]
    """Cells without a value, by channel; a cell that lacks one is NaN in the map."""
    n_tiles: int
    n_resumed: int
    """Tiles that an earlier, interrupted call had finished."""
    seconds: float
    was_finished: bool = False
    """Whether the map was there already, so that nothing was done."""

    @property
    def n_missing(self) -> int:
        """Cells that are NaN in the map."""
        return self.n_cells - self.n_predicted

    @property
    def cells_per_second(self) -> float:
        """Cells of the map a second."""
        return self.n_cells / self.seconds


def tiled_map(
    network: nn.Module | TileForm,
    inputs: Any,
    *,
    out: str | Path,
    tile: int = 256,
    halo: int | None = None,
    channels: tuple[str, ...] | None = None,
    input_scaler: MinMaxScaler | None = None,
    target_scaler: MinMaxScaler | None = None,
    window: EaseWindow | None = None,
    like: xr.DataArray | xr.Dataset | None = None,
    level: str | None = None,
    workers: int = 0,
    scheduler: str | None = None,
    resume: bool = True,
    device: str = "cpu",
    precision: str = "float32",
    synthetic: bool = False,
    source: str = "network",
    attrs: dict[str, Any] | None = None,
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
        See `smnb.maps.forms.tile_form`; used in evaluation mode.
    inputs : array, shape (channel, row, col)
        numpy, dask, zarr or an xarray DataArray with dims ``(channel, y, x)`` or ``(channel, lat, lon)``, which may be
        lazy: slices of its rows are read. Native units; missing is NaN. A missing value is replaced by the scaler's fill
        value (0 without a scaler); a cell that lacks a channel is NaN in the map.
    out : path-like
        ``.zarr`` (CF) or ``.tif`` (Cloud-Optimised GeoTIFF), m3 m-3.
    tile : int
        Side of a tile, cells.
    halo : int, optional
        Default the network's receptive field.
    channels : tuple of str, optional
        Names, for messages and counts.
    input_scaler, target_scaler : MinMaxScaler, optional
        The checkpoint's; without them inputs and map are as the network has them.
    window : EaseWindow, optional
        Where the inputs lie; default what their coordinates say.
    like : DataArray or Dataset, optional
        Whose coordinates say where the inputs lie, if they have none of their own.
    level : str, optional
        A channel whose mean over the valid cells the map is given: for a network that leaves the level open (SMEN).
    workers : int
        Processes of a local Dask cluster; 0 runs threads of this process.
    scheduler : str, optional
        Address of a Dask scheduler, instead.
    resume : bool
        Go on with the tiles of a call that was killed, and leave a map that is finished. False starts anew and replaces
        an existing map (but nothing else).
    device : str
    precision : str
        ``float32`` or ``bfloat16``, which is faster and less exact than 1e-5.
    synthetic : bool
        Whether the inputs were simulated; stored.
    source : str
        The network and its weights, stored.
    attrs : dict, optional
        Further attributes of the map.
    progress : callable, optional
        ``progress(done, total)``, tiles.

    Returns
    -------
    MapResult

    Raises
    ------
    ParameterError
        If an option is unknown, or a GeoTIFF is asked for without a place.
    ContractError
        If the inputs have another shape than the channels, a channel is missing everywhere or no cell has all.
    RunError
        If the output, or its unfinished tiles, are of another map.
    """
    begin, out = time.perf_counter(), Path(out)
    shape = _check(inputs, tile, precision, channels, input_scaler, workers)
    names = channels or tuple(f"channel {number}" for number in range(shape[0]))
    if level is not None and level not in names:
        raise ParameterError(_WHO, "unknown level channel", got=level, expected=names)
    place = MapPlace.of(inputs if like is None else like, window, shape[1:])
    place.check_suffix(out)
    form = network if _is_form(network) else tile_form(network, shape[0], halo=halo)
    reader = Reader(inputs, shape, input_scaler)
    scan = scan_inputs(reader, names, tile, None if level is None else names.index(level))
    identity = {
        "format": 1,
        "inputs": scan.digest,
        "shape": list(shape),
        "channels": list(names),
        "network": _digest(form),
        "halo": form.halo,
        "around": getattr(form, "around", "zeros"),
        "tile": tile,
        "precision": precision,
        "input_scaler": input_scaler and input_scaler.to_dict(),
        "level": level,
        "target_scaler": target_scaler and target_scaler.to_dict(),
        "transform": place.transform and list(place.transform),
    }
    mark = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    missing = dict(zip(names, scan.missing, strict=True))
    total = len(list(tiles_of(shape[1:], tile)))
    if out.exists():
        found = map_identity(out)
        if found is None or (resume and found != mark):
            raise RunError(
                _WHO,
                f"{out} exists and is {'no map' if found is None else 'another map'}",
                got=found,
                expected=mark,
                next_step="Choose another output"
                + ("" if found is None else ", or replace it with resume=False (--no-resume)"),
            )
    if out.exists() and resume:
        seconds = time.perf_counter() - begin
        return MapResult(out, shape[1] * shape[2], scan.n_valid, missing, total, total, seconds, was_finished=True)
    folder = TileFolder(out, identity, resume=resume)
    if isinstance(form, nn.Module):
        if (device, precision) != ("cpu", "float32"):
            form = copy.deepcopy(form).to(device, MAP_PRECISIONS[precision])  # the caller's stays what and where it is
        form.eval()
    where = {"workers": workers, "scheduler": scheduler, "device": device}
    resumed = _run(form, reader, folder, target_scaler, where, precision, progress)
    shift = scan.level - _mean(folder, shape[1:]) if level is not None else 0.0
    write_map(
        out,
        lambda start, stop: folder.read(start, stop) + np.float32(shift),
        shape[1:],
        place,
        folder=folder.path,
        attrs={
            "masked_by": json.dumps({"missing_input": shape[1] * shape[2] - scan.n_valid}),
            "missing_by_channel": json.dumps(missing),
            **(attrs or {}),
        },
        identity=mark,
        synthetic=synthetic,
        source=source,
        step=f"tiled_map in {total} tiles of {tile} with halo {form.halo}",
    )
    shutil.rmtree(folder.path)
    seconds = time.perf_counter() - begin
    return MapResult(out, shape[1] * shape[2], scan.n_valid, missing, total, resumed, seconds)


def _is_form(network: Any) -> bool:
    return hasattr(network, "halo")


def _check(
    inputs: Any, tile: int, precision: str, channels: tuple[str, ...] | None, scaler: MinMaxScaler | None, workers: int
) -> tuple[int, int, int]:
    shape = tuple(inputs.shape)
    if len(shape) != 3 or 0 in shape:
        raise ContractError(_WHO, "inputs are not (channel, row, col)", got=shape)
    if isinstance(inputs, xr.DataArray) and inputs.dims[1:] not in (("y", "x"), ("lat", "lon")):
        raise ContractError(_WHO, "dims", got=inputs.dims, expected=plain("(channel, y, x) or (channel, lat, lon)"))
    for name, length in (("channels", channels), ("input_scaler", scaler and scaler.minimum)):
        if length is not None and len(length) != shape[0]:
            raise ContractError(_WHO, f"inputs and {name} differ in number", got=shape[0], expected=len(length))
    if tile < 1 or workers < 0:
        raise ParameterError(_WHO, "tile and workers", got=(tile, workers), expected=plain("tile >= 1, workers >= 0"))
    if precision not in MAP_PRECISIONS:
        raise ParameterError(_WHO, "unknown precision", got=precision, expected=list(MAP_PRECISIONS))
    return shape


def _digest(form: Any) -> str:
    """Identify a form by its kind and its weights."""
    digest = hashlib.sha256(type(form).__qualname__.encode())
    if isinstance(form, nn.Module):
        digest.update(repr(form).encode())
        for name, value in sorted(form.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value.detach().float().cpu().numpy()))
    return digest.hexdigest()


def _run(
    form: TileForm,
    reader: Reader,
    folder: TileFolder,
    scaler: MinMaxScaler | None,
    where: dict[str, Any],
    precision: str,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Predict the tiles that are not there yet; return how many were."""
    tiles = list(tiles_of(folder.shape, folder.tile))
    todo = [tile for tile in tiles if not folder.has(tile)]
    resumed = done = len(tiles) - len(todo)
    if not todo:
        return resumed
    threaded = where["scheduler"] is None and where["workers"] == 0
    call = partial(predict if threaded else predict_alone, device=where["device"], precision=precision)

    def keep(tile: Tile, values: np.ndarray) -> None:
        nonlocal done
        folder.write(tile, values)
        done += 1
        if progress is not None:
            progress(done, len(tiles))

    def calls(form_there: Any) -> Iterator[tuple[tuple[Tile, np.ndarray], tuple]]:
        for band, valid, tile in with_bands(reader, form, todo):
            if not valid.any():  # nothing to predict
                keep(tile, np.full(valid.shape, np.nan, dtype="float32"))
                continue
            rows, cols = reader.shape[1:]
            outside = (
                max(0, form.halo - tile.top),
                max(0, tile.bottom + form.halo - rows),
                max(0, form.halo - tile.left),
                max(0, tile.right + form.halo - cols),
            )
            part = np.ascontiguousarray(band[:, :, tile.left : tile.right + 2 * form.halo])
            yield (tile, valid), (form_there, part, outside)

    threads = torch.get_num_threads()
    # a tile a core: convolutions of one tile gain more from a core of their own than from sharing each operation
    side_by_side = threads if where["device"] == "cpu" else 1
    try:
        with open_workers(
            _WHO, where["workers"], where["scheduler"], threads=side_by_side, begin=partial(torch.set_num_threads, 1)
        ) as pool:
            for (tile, valid), future in pool.run(call, calls(pool.share(form))):
                values = future.result()
                if scaler is not None:
                    values = scaler.inverse(values[..., None])[..., 0]
                keep(tile, np.where(valid, values, np.float32("nan")))
    finally:
        if threaded:
            torch.set_num_threads(threads)
    return resumed


@torch.inference_mode()
def predict(form: TileForm, images: np.ndarray, outside: Outside, *, device: str, precision: str) -> np.ndarray:
    """Predict one tile, scaled; runs in a thread or in a Dask worker."""
    images_there = torch.from_numpy(images).to(device, MAP_PRECISIONS[precision])
    # exact float32 convolutions on a GPU too
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if device != "cpu" else contextlib.nullcontext()
    with exact:
        return form(images_there, outside).float().cpu().numpy()


def predict_alone(form: TileForm, images: np.ndarray, outside: Outside, **options: str) -> np.ndarray:
    """`predict` on one core: workers run side by side instead of sharing every operation."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return predict(form, images, outside, **options)
    finally:
        torch.set_num_threads(threads)


def _mean(folder: TileFolder, shape: tuple[int, int]) -> float:
    """Mean of the map's valid cells."""
    total, number = 0.0, 0
    for start in range(0, shape[0], folder.tile):
        values = folder.read(start, min(start + folder.tile, shape[0]))
        finite = np.isfinite(values)
        total, number = total + float(values[finite].sum(dtype="float64")), number + int(finite.sum())
    return total / number
