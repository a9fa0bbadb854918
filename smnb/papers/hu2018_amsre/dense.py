"""Maps of the AMSR-E system: the dense network over whole days, and the SVR patch by patch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn

from smnb.contract import ContractError
from smnb.maps import mapped_image, soil_moisture_map, write_map
from smnb.maps.dense import DenseAmsreCNN
from smnb.models.svr import TorchSVR
from smnb.papers.hu2018_amsre.patches import PatchIndex, PatchStore
from smnb.training import Trained

#: Side of a tile, cells: small ones skip more of the sea.
_TILE = 96


@torch.inference_mode()
def patch_map(
    model: nn.Module | TorchSVR,
    store: PatchStore,
    image: int,
    *,
    where: np.ndarray | None = None,
    batch_size: int = 1024,
) -> np.ndarray:
    """Predict an image patch by patch: the naive way, and the only one for a model that is not convolutional (SVR).

    Parameters
    ----------
    model : nn.Module or TorchSVR
    store : PatchStore
    image : int
        Number of the image in the store.
    where : ndarray of bool, shape (row, col), optional
        Where a prediction is wanted; elsewhere it is NaN.
    batch_size : int

    Returns
    -------
    ndarray, shape (row, col), float32
        Scaled prediction.
    """
    rows, cols = store.shape[1:3]
    row, col = np.nonzero(np.ones((rows, cols), dtype=bool) if where is None else where)
    index = PatchIndex(np.full(row.size, image, dtype="int64"), row, col)
    result = np.full((rows, cols), np.nan, dtype="float32")
    for low in range(0, len(index), batch_size):
        part = index[low : low + batch_size]
        result[part.row, part.col] = model(store.gather(part)).float().cpu().numpy()
    return result


def write_maps(
    loaded: Trained,
    images: xr.DataArray,
    out: str | Path,
    *,
    where: xr.DataArray | None = None,
    synthetic: bool,
    device: str = "cpu",
) -> Path:
    """Predict every image of a ``(time, channel, lat, lon)`` array and write one file of maps.

    Images are read, predicted and written one at a time, so memory does not grow with their number.

    Parameters
    ----------
    loaded : Trained
        Brings its own scaling.
    images : DataArray, dims (time, channel, lat, lon)
        Brightness temperature, K; may be lazy. Channels must be the checkpoint's.
    out : path-like
        As `smnb.maps.write_map` takes it.
    where : DataArray of bool, dims (lat, lon), optional
        Land, say. Elsewhere the map is missing. A pixel whose own inputs are missing is also missing.
    synthetic : bool
        Whether `images` were simulated; stored.
    device : str
    """
    import dask
    import dask.array

    channels = tuple(map(str, images["channel"].values))
    if list(channels) != loaded.card["channels"]:
        raise ContractError("write_maps", "channels", got=list(channels), expected=loaded.card["channels"])
    if images.dims != ("time", "channel", "lat", "lon"):
        raise ContractError("write_maps", "dims", got=images.dims, expected=("time", "channel", "lat", "lon"))
    lon = images["lon"].values
    wrap = bool(np.isclose((lon[-1] - lon[0]) + (lon[1] - lon[0]), 360.0))
    dense = DenseAmsreCNN(loaded.model, fast=device == "cpu", wrap=wrap)
    wanted = None if where is None else where.values.astype(bool)

    def one(number: int) -> np.ndarray:
        scalers = {"input_scaler": loaded.input_scaler, "target_scaler": loaded.target_scaler}
        return mapped_image(dense, images[number].values, where=wanted, tile=_TILE, device=device, **scalers)

    days = [dask.delayed(one, traverse=False)(number) for number in range(images.sizes["time"])]
    shape = images.shape[2:]
    values = dask.array.stack([dask.array.from_delayed(day, shape, dtype="float32") for day in days])
    coords = {name: (name, images[name].values, dict(images[name].attrs)) for name in ("time", "lat", "lon")}
    step = f"write_maps with weights {loaded.card['weights_sha256'][:12]}"
    source = f"{loaded.card['model']} network"
    dims = ("time", "lat", "lon")
    return write_map(soil_moisture_map(values, dims, coords, synthetic=synthetic, source=source, step=step), out)
