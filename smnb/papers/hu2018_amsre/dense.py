"""Exact dense maps: a trained patch network applied at every pixel without cutting out a single patch.

Neighbouring patches share all but one column, so a fully convolutional form of the network computes each feature once.
The second pooling's stride of 2 becomes stride 1 with dilation 2 in what follows; the fully connected layers become
convolutions. The result equals the patch network's to rounding (a test says 1e-5 at every pixel, the date line included).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn
from torch.nn import functional

from smnb import contract
from smnb.contract import ContractError, ParameterError
from smnb.files import atomic_path
from smnb.models.amsre_cnn import AmsreCNN
from smnb.models.svr import TorchSVR
from smnb.papers.hu2018_amsre.patches import PatchIndex, PatchStore, pad_image
from smnb.training.checkpoints import LoadedModel

Planes = list[list[torch.Tensor]]
#: Row groups (of four rows) that the fast form works on at a time.
_CHUNK = 8


class WinogradConv(nn.Module):
    """A 2×2 convolution with dilation 2 by Winograd's scheme F(2×2, 2×2): 9 products instead of 16.

    Parameters
    ----------
    weight : Tensor, shape (out, in, 2, 2)
    bias : Tensor, shape (out,)
    in_padding : int
        Channels of zeros that the input carries after its own.

    Notes
    -----
    With dilation 2, rows come in pairs: plane 0 holds pairs 0, 2, 4, …, plane 1 the pairs between. Output plane 0 is
    ``d0 g0 + d1 g1`` and plane 1 ``d1 g0 + d2 g1``, where d0 is plane 0, d1 plane 1, d2 plane 0 one pair on, and g0, g1 the
    rows of the kernel. Three products do for four::

        plane 0 = d1 (g0 + g1) + (d0 - d1) g0,     plane 1 = d1 (g0 + g1) + (d2 - d1) g1

    and the same for columns, so there are 2×2 planes. A plane is flattened to ``(pixel, channel)`` with its columns' pairs
    in place, so "one pair on" is a slice, in rows and in columns; the last pair of columns mixes with the next row and is
    meaningless. Coefficients are 0 and ±1, so rounding stays at that of a direct convolution.

    References
    ----------
    Lavin, A., Gray, S. (2016). Fast algorithms for convolutional neural networks. CVPR. doi:10.1109/CVPR.2016.435
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, *, in_padding: int = 0) -> None:
        super().__init__()
        kernel = weight.detach().permute(2, 3, 1, 0)  # (kernel row, kernel column, in, out)
        rows = torch.stack([kernel[0], kernel[0] + kernel[1], kernel[1]])
        filters = torch.stack([rows[:, 0], rows[:, 0] + rows[:, 1], rows[:, 1]], dim=1)
        # channels are padded with zeros to whole cache lines, which matrix products are about a tenth faster on
        more = -filters.shape[3] % 16
        self.register_buffer(
            "filters", functional.pad(filters, (0, more, 0, in_padding)).contiguous()
        )  # (3, 3, in, out)
        self.register_buffer("bias", functional.pad(bias.detach(), (0, more)))

    def forward(self, planes: Planes, line: int, out: Planes) -> None:
        """Convolve.

        Parameters
        ----------
        planes : Planes
            ``planes[u][v]``, u for rows and v for columns, each ``(m * line, in)``.
        line : int
            Pixels of one pair of rows of a plane.
        out : Planes
            Each ``((m - 1) * line, out)``; overwritten. Memory that is used again spares the system's page faults.
        """
        g = self.filters
        n = planes[0][0].shape[0] - line - 2
        left, right = ([planes[u][v][: n + 2 - 2 * v] for u in (0, 1)] for v in (0, 1))  # by column plane
        below = [planes[0][v][line : line + n + 2 - 2 * v] for v in (0, 1)]
        even = (left[0] - left[1], left[1], below[0] - left[1])  # the row transform, on n + 2 pixels
        odd = (right[0] - right[1], right[1], below[1] - right[1])
        common = torch.addmm(self.bias, odd[1], g[1, 1])
        west = torch.addmm(common, even[1][:n] - odd[1], g[1, 0])
        east = common.addmm_(even[1][2:] - odd[1], g[1, 2])
        for u, i in enumerate((0, 2)):
            middle = odd[i] @ g[i, 1]
            for v, j, side in ((0, 0, west), (1, 2, east)):
                out[u][v][n:] = 0.0  # the last pair has no right neighbour
                result = torch.add(side, middle, out=out[u][v][:n])
                result.addmm_(even[i][2 * v : 2 * v + n] - odd[i], g[i, j])


class DenseAmsreCNN(nn.Module):
    """The exactly equivalent fully convolutional form of a trained 9×9 `AmsreCNN`.

    Parameters
    ----------
    network : AmsreCNN
        With ``patch_size`` 9.
    fast : bool
        Use `WinogradConv` for the two dilated convolutions, which hold nearly all of the arithmetic; without it plain
        convolutions run, which is what a GPU wants.

    Notes
    -----
    A patch takes 1.03 million multiplications; a pixel 0.49 million, or 0.28 million with `fast`, in a few large matrix
    products that run near the processor's peak instead of many small ones that do not.
    """

    half = 4

    def __init__(self, network: AmsreCNN, *, fast: bool = True) -> None:
        super().__init__()
        config = network.config
        if config.patch_size != 9:
            raise ParameterError("DenseAmsreCNN", "patch_size", got=config.patch_size, expected=9)
        self.conv1, self.conv2, self.conv3 = network.conv1, network.conv2, network.conv3
        self.fc1, self.output, self.activation = network.fc1, network.fc2, network.activation
        # (500, 800) -> (500, 200, 2, 2)
        self.hidden_shape = (config.hidden, config.conv_channels[2], 2, 2)
        self.fast = fast
        if fast:
            self.fast3 = WinogradConv(network.conv3.weight, network.conv3.bias)
            padding = self.fast3.bias.numel() - config.conv_channels[2]
            hidden = network.fc1.weight.view(self.hidden_shape)
            self.fast4 = WinogradConv(hidden, network.fc1.bias, in_padding=padding)
            self.last = nn.Parameter(functional.pad(network.fc2.weight[0].detach(), (0, -config.hidden % 16)), False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Predict every pixel whose 9×9 neighbourhood lies inside.

        Parameters
        ----------
        images : Tensor, shape (channel, row, col)
            Scaled and filled.

        Returns
        -------
        Tensor, shape (row - 8, col - 8)
            Scaled soil moisture; pixel (i, j) is what the patch network says of ``images[:, i:i+9, j:j+9]``.
        """
        x = images[None].contiguous(memory_format=torch.channels_last)
        x = functional.max_pool2d(self.activation(self.conv1(x)), 2, stride=1)  # (1, 20, row - 2, col - 2)
        # stride 1 where the patch network has 2: features at every offset, so what follows looks at every other pixel
        x = functional.max_pool2d(self.activation(self.conv2(x)), 2, stride=1)  # (1, 100, row - 4, col - 4)
        if self.fast:
            return self._on_planes(x[0].permute(1, 2, 0))
        x = self.activation(
            functional.conv2d(x, self.conv3.weight, self.conv3.bias, dilation=2)
        )  # (1, 200, row - 6, …)
        hidden = self.fc1.weight.view(self.hidden_shape)
        x = self.activation(functional.conv2d(x, hidden, self.fc1.bias, dilation=2))  # (1, 500, row - 8, col - 8)
        return self.output(x[0].permute(1, 2, 0)).squeeze(-1)

    def _on_planes(self, x: torch.Tensor) -> torch.Tensor:
        """Do the last three layers of ``(row, col, channel)`` features on 2×2 planes of row and column pairs."""
        height, width, channels = x.shape
        # groups of four output rows and columns; each convolution uses up one more group
        tall, wide = -(-(height - 4) // 4), -(-(width - 4) // 4)
        x = functional.pad(x, (0, 0, 0, 4 * (wide + 2) - width, 0, 4 * (tall + 2) - height))
        x = x.reshape(tall + 2, 2, 2, wide + 2, 2, 2, channels)  # (row group, u, row, column group, v, column, channel)
        planes = [[x[:, u, :, :, v].reshape(-1, channels) for v in (0, 1)] for u in (0, 1)]
        line = 4 * (wide + 2)
        hidden = _empty_planes(x, (tall + 1) * line, self.fast3.bias.numel())
        for _ in self._chunks(self.fast3, planes, hidden, line):
            pass  # each chunk lands in its place of `hidden`
        result = x.new_empty(tall, 2, 2, wide + 2, 2, 2)
        scratch = _empty_planes(x, min(_CHUNK, tall) * line, self.last.numel())
        for start, stop, part in self._chunks(self.fast4, hidden, scratch, line):
            for u in (0, 1):
                for v in (0, 1):
                    result[start:stop, u, :, :, v] = torch.mv(part[u][v], self.last).view(stop - start, 2, -1, 2)
        return result.view(4 * tall, -1)[: height - 4, : width - 4] + self.output.bias

    def _chunks(self, layer: WinogradConv, planes: Planes, out: Planes, line: int) -> Iterator[tuple[int, int, Planes]]:
        """Apply a convolution and the activation a few row groups at a time, so that what is written is still in cache.

        `out` holds all row groups or is scratch for one chunk. Yields the groups done and where they are.
        """
        groups, scratch = planes[0][0].shape[0] // line - 1, out[0][0].shape[0] // line
        for start in range(0, groups, _CHUNK):
            stop = min(start + _CHUNK, groups)
            first = start if scratch == groups else 0
            part = [[p[first * line : (first + stop - start) * line] for p in row] for row in out]
            layer([[p[start * line : (stop + 1) * line] for p in row] for row in planes], line, part)
            for row in part:
                for plane in row:
                    plane.copy_(self.activation(plane))  # no copy where the activation works in place, as ReLU does
            yield start, stop, part


def _empty_planes(like: torch.Tensor, pixels: int, channels: int) -> Planes:
    return [[like.new_empty(pixels, channels) for _ in (0, 1)] for _ in (0, 1)]


@dataclass(frozen=True)
class MapTiming:
    """How long a map took: seconds, pixels predicted, and pixels skipped because no map is wanted there."""

    seconds: float
    n_predicted: int
    n_skipped: int


def _tiles(shape: tuple[int, int], tile: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for row in range(0, shape[0], tile[0]):
        for col in range(0, shape[1], tile[1]):
            yield slice(row, min(row + tile[0], shape[0])), slice(col, min(col + tile[1], shape[1]))


def _run_tiles(
    predict: Callable[[tuple[slice, slice]], None], tiles: list[tuple[slice, slice]], *, parallel: bool
) -> None:
    """Call `predict` for every tile; on a CPU one tile a thread.

    Small matrix products gain more from a core of their own, with its cache, than from sharing each product between
    cores, which must then wait for each other after every operation.
    """
    threads = torch.get_num_threads()
    if not parallel or threads == 1 or len(tiles) < 2:
        for tile in tiles:
            predict(tile)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(predict, tiles))  # a list, so that an error comes out
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def dense_map(
    dense: nn.Module,
    image: torch.Tensor,
    *,
    where: np.ndarray | None = None,
    tile: tuple[int, int] | None = None,
    device: str | torch.device = "cpu",
) -> tuple[np.ndarray, MapTiming]:
    """Predict a whole image tile by tile with a halo.

    Parameters
    ----------
    dense : nn.Module
        Fully convolutional, with ``half`` pixels of halo on each side, such as `DenseAmsreCNN`.
    image : Tensor, shape (channel, row + 2 half, col + 2 half)
        Scaled, filled and padded: `PatchStore.image`.
    where : ndarray of bool, shape (row, col), optional
        Where a prediction is wanted. Tiles without any are skipped; pixels elsewhere come back NaN.
    tile : tuple of int, optional
        Rows and columns a tile. Default 120×240, or 60×120 with `where`, so that more can be skipped.
    device : str or torch.device

    Returns
    -------
    values : ndarray, shape (row, col), float32
        Scaled prediction.
    timing : MapTiming
    """
    half = dense.half
    rows, cols = image.shape[1] - 2 * half, image.shape[2] - 2 * half
    if where is not None and where.shape != (rows, cols):
        raise ContractError("dense_map", "'where' has another shape", got=where.shape, expected=(rows, cols))
    tile = tile or ((120, 240) if where is None else (60, 120))
    dense, image = dense.to(device).eval(), image.to(device)
    result = torch.full((rows, cols), float("nan"))
    start = time.perf_counter()
    tiles = [t for t in _tiles((rows, cols), tile) if where is None or where[t].any()]

    @torch.inference_mode()
    def predict(part: tuple[slice, slice]) -> None:
        row, col = part
        result[row, col] = (
            dense(image[:, row.start : row.stop + 2 * half, col.start : col.stop + 2 * half]).float().cpu()
        )

    _run_tiles(predict, tiles, parallel=torch.device(device).type == "cpu")
    predicted = sum((r.stop - r.start) * (c.stop - c.start) for r, c in tiles)
    values = result.numpy()
    if where is not None:
        values[~where] = np.nan
    return values, MapTiming(time.perf_counter() - start, predicted, rows * cols - predicted)


@torch.inference_mode()
def patch_map(
    model: nn.Module | TorchSVR,
    store: PatchStore,
    image: int,
    *,
    where: np.ndarray | None = None,
    batch_size: int = 1024,
) -> tuple[np.ndarray, MapTiming]:
    """Predict an image patch by patch: the naive way, and the only one for a model that is not convolutional (SVR).

    Parameters and results are those of `dense_map`, for image number `image` of a `PatchStore`.
    """
    rows, cols = store.shape[1:3]
    wanted = np.ones((rows, cols), dtype=bool) if where is None else where
    row, col = np.nonzero(wanted)
    index = PatchIndex(np.full(row.size, image, dtype="int64"), row, col)
    result = np.full((rows, cols), np.nan, dtype="float32")
    start = time.perf_counter()
    for low in range(0, len(index), batch_size):
        part = index[low : low + batch_size]
        result[part.row, part.col] = model(store.gather(part)).float().cpu().numpy()
    return result, MapTiming(time.perf_counter() - start, row.size, wanted.size - row.size)


def write_maps(
    loaded: LoadedModel,
    images: xr.DataArray,
    out: str | Path,
    *,
    where: xr.DataArray | None = None,
    synthetic: bool,
    device: str | torch.device = "cpu",
    tile: tuple[int, int] | None = None,
) -> Path:
    """Predict every image of a ``(time, channel, lat, lon)`` array and write one CF-NetCDF file.

    Images are read, predicted and written one at a time, so memory does not grow with their number; the file gets its
    name when the last one is in.

    Parameters
    ----------
    loaded : LoadedModel
        From `smnb.training.checkpoints.load_model`; brings its own scaling.
    images : DataArray, dims (time, channel, lat, lon)
        Brightness temperature, K; may be lazy. Channels must be the checkpoint's.
    out : path-like
        ``.nc``
    where : DataArray of bool, dims (lat, lon), optional
        Land, say. Elsewhere the map is missing. A pixel whose own inputs are missing is also missing.
    synthetic : bool
        Whether `images` were simulated; stored.
    device, tile
        As `dense_map`.

    Returns
    -------
    Path
    """
    import netCDF4

    channels = tuple(map(str, images["channel"].values))
    if list(channels) != loaded.card["channels"]:
        raise ContractError("write_maps", "channels", got=list(channels), expected=loaded.card["channels"])
    if images.dims != ("time", "channel", "lat", "lon"):
        raise ContractError("write_maps", "dims", got=images.dims, expected=("time", "channel", "lat", "lon"))
    dense = DenseAmsreCNN(loaded.model, fast=torch.device(device).type == "cpu")
    lon = images["lon"].values
    wrap = bool(np.isclose((lon[-1] - lon[0]) + (lon[1] - lon[0]), 360.0))
    wanted = None if where is None else where.values.astype(bool)
    template = xr.Dataset(
        coords={name: (name, images[name].values, dict(images[name].attrs)) for name in ("time", "lat", "lon")},
        attrs={"Conventions": "CF-1.8", "title": "Soil moisture" + contract.synthetic_label(synthetic)},
    )
    template["time"].attrs = {"standard_name": "time", "long_name": "day"}
    contract.stamp(
        template,
        source=f"{loaded.card['model']} network",
        catalog_id="smnb_map",
        synthetic=synthetic,
        step=f"write_maps with weights {loaded.card['weights_sha256'][:12]}",
    )
    with atomic_path(out) as temporary:
        template.to_netcdf(temporary, engine="netcdf4", format="NETCDF4")
        with netCDF4.Dataset(temporary, "a") as file:
            variable = file.createVariable(
                "soil_moisture",
                "f4",
                ("time", "lat", "lon"),
                fill_value=np.float32(np.nan),
                compression="zlib",
                complevel=1,
                chunksizes=(1, *images.shape[2:]),
            )
            variable.units, variable.long_name = "m3 m-3", "volumetric soil moisture"
            variable.standard_name = "volume_fraction_of_condensed_water_in_soil"
            for number in range(images.sizes["time"]):
                values = images.isel(time=number).transpose("lat", "lon", "channel").values
                variable[number] = _one_map(dense, loaded, values, wrap=wrap, where=wanted, device=device, tile=tile)
    return Path(out)


def _one_map(
    dense: DenseAmsreCNN,
    loaded: LoadedModel,
    values: np.ndarray,
    *,
    wrap: bool,
    where: np.ndarray | None,
    device: str | torch.device,
    tile: tuple[int, int] | None,
) -> np.ndarray:
    """Scale, fill, pad and predict one ``(lat, lon, channel)`` image; m3 m-3, NaN where the inputs are missing."""
    valid = np.isfinite(values).all(axis=-1)
    if not valid.any():
        return np.full(valid.shape, np.nan, dtype="float32")
    scaled = loaded.input_scaler.transform(values)
    np.copyto(scaled, np.asarray(loaded.input_scaler.fill, dtype="float32"), where=~np.isfinite(scaled))
    image = torch.from_numpy(pad_image(scaled, dense.half, wrap=wrap)).permute(2, 0, 1)
    wanted = valid if where is None else valid & where
    prediction, _ = dense_map(dense, image, where=wanted, tile=tile, device=device)
    return loaded.target_scaler.inverse(prediction[..., None])[..., 0]
