"""Soil moisture of every cell of a tile: window by window, or from features that are computed once.

A window of 256 pixels of 10 m is centred on each cell, and cells lie 320 m apart, so that 64 windows overlap a cell and each
pixel is encoded 64 times. The encoder is fully convolutional, however: over a whole tile it gives the features of all windows at
once, and the centre-weighted mean of a window's 8 x 8 features becomes a convolution with the same weights. What differs is what
the encoder sees around a window: zeros when the window is encoded alone, the neighbourhood when the tile is.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from smnb.contract import ContractError, ParameterError, plain

if TYPE_CHECKING:
    from smnb.models.multisource import MultiSourceNet

METHODS = ("shared", "windows")


@dataclass(frozen=True)
class MapGeometry:
    """Sizes of windows and cells, in pixels of the high-resolution images.

    Parameters
    ----------
    crop : int
        Side of the window around a cell that the network was trained with.
    stride : int
        Distance of two cells: 32 pixels of 10 m are the paper's 320 m.
    low_ratio : int
        Pixels of the high-resolution images to a side of one of the low-resolution images: 16 for 10 m and 160 m.
    """

    crop: int = 256
    stride: int = 32
    low_ratio: int = 16

    def __post_init__(self) -> None:
        for name in ("crop", "stride", "low_ratio"):
            if getattr(self, name) < 1:
                raise ParameterError("MapGeometry", name, got=getattr(self, name), expected=plain("at least 1"))
        if self.crop % self.low_ratio or self.stride % self.low_ratio:
            raise ParameterError(
                "MapGeometry",
                "windows and cells are not whole numbers of low-resolution pixels",
                got=(self.crop, self.stride),
                expected=plain(f"multiples of {self.low_ratio}"),
            )

    def tile(self, rows: int, cols: int) -> tuple[int, int]:
        """Height and width of the high-resolution images of so many cells, pixels."""
        return (rows - 1) * self.stride + self.crop, (cols - 1) * self.stride + self.crop


@dataclass(frozen=True)
class TileImages:
    """What the network takes, for all cells of a tile.

    Parameters
    ----------
    high : ndarray, shape (high channel, y, x), float32
        Scaled to [-1, 1] as in training, 0 where missing. No channels where the network has no high-resolution encoder.
    low : ndarray, shape (low channel, y / low_ratio, x / low_ratio), float32
    coarse : ndarray, shape (row, col, coarse channel), float32
        m3 m-3 at the cells' centres, NaN where the product has no value.
    """

    high: np.ndarray
    low: np.ndarray
    coarse: np.ndarray

    def cells(self, geometry: MapGeometry) -> tuple[int, int]:
        """Rows and columns of cells, after checking that the parts agree.

        Raises
        ------
        ContractError
            If an image has another size than the others ask for.
        """
        rows, cols = self.coarse.shape[:2]
        height, width = geometry.tile(rows, cols)
        low = (height // geometry.low_ratio, width // geometry.low_ratio)
        for what, image, expected in (("high", self.high, (height, width)), ("low", self.low, low)):
            if len(image) and image.shape[-2:] != expected:
                raise ContractError(
                    "TileImages",
                    f"the {what}-resolution images do not fit the cells",
                    got=image.shape[-2:],
                    expected=expected,
                )
        return rows, cols


def folded(net: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode with each batch normalisation folded into its convolution.

    The same function, up to rounding, in fewer passes over memory. A normalisation is folded where it is known to follow a
    convolution and nothing else: as the next layer of a ``Sequential``, or where a module calls ``x_norm`` right behind its
    convolution ``x``, as `smnb.models.xception.SeparableConv` does, or ``norm`` behind ``convolution``, as the small encoder's
    blocks do.
    """
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        children = dict(module.named_children())
        names = list(children)
        if isinstance(module, nn.Sequential):
            pairs = list(itertools.pairwise(names))
        else:
            pairs = [(name, f"{name}_norm") for name in names if f"{name}_norm" in children]
            pairs += [("convolution", "norm")] if names[:2] == ["convolution", "norm"] else []
        for name, norm in pairs:
            if isinstance(children[name], nn.Conv2d) and isinstance(children[norm], nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(children[name], children[norm]))
                setattr(module, norm, nn.Identity())
    return net


def _windows(image: torch.Tensor, size: int, stride: int, rows: range, cols: int) -> torch.Tensor:
    """Windows of ``(channel, y, x)`` around the cells of some rows: ``(cell, channel, size, size)``."""
    top = rows.start * stride
    band = image[:, top : top + (len(rows) - 1) * stride + size, : (cols - 1) * stride + size]
    # (channel, row, col, size, size) -> (row, col, channel, size, size)
    views = band.unfold(1, size, stride).unfold(2, size, stride).permute(1, 2, 0, 3, 4)
    return views.reshape(-1, len(image), size, size)


def _shared_embeddings(
    net: MultiSourceNet, high: torch.Tensor, geometry: MapGeometry, rows: range, cols: int
) -> torch.Tensor:
    """Embeddings of the high-resolution windows from one feature map of these rows of cells."""
    top = rows.start * geometry.stride
    height, width = geometry.tile(len(rows), cols)
    features = net.features_high(high[None, :, top : top + height, :width])[0]
    step = height // features.shape[-2]
    if height % step or width % step or geometry.crop % step or geometry.stride % step:
        raise ParameterError(
            "map_tile",
            "the cells do not lie on the encoder's features",
            got=(geometry.crop, geometry.stride),
            expected=plain(f"multiples of the output stride {step}"),
            next_step='Use method="windows"',
        )
    weights = net.pool.weights(geometry.crop // step, geometry.crop // step).to(features)
    # the weighted mean of a window is a convolution of every feature with the same weights: (F, 1, y, x) -> (F, 1, row, col)
    pooled = torch.nn.functional.conv2d(features[:, None], weights[None, None], stride=geometry.stride // step)
    return pooled[:, 0].flatten(1).T.contiguous()


def _by_windows(
    net: nn.Module, parts: tuple[torch.Tensor, ...], geometry: MapGeometry, row: int, batch: int
) -> torch.Tensor:
    """One row of cells, the whole network called on the window around each."""
    high, low, coarse = parts
    cols, here, ratio = coarse.shape[1], range(row, row + 1), geometry.low_ratio
    high = _windows(high, geometry.crop, geometry.stride, here, cols) if len(high) else high.new_empty((cols, 0))
    low = _windows(low, geometry.crop // ratio, geometry.stride // ratio, here, cols) if len(low) else high[:, :0]
    chunks = [slice(start, start + batch) for start in range(0, cols, batch)]
    return torch.cat([net(high[at], low[at], coarse[row, at]) for at in chunks])


def _by_shared_features(
    net: MultiSourceNet, parts: tuple[torch.Tensor, ...], geometry: MapGeometry, rows: range, batch: int
) -> torch.Tensor:
    """Some rows of cells, the high-resolution encoder called once on all of their ground.

    A low-resolution window of 16 pixels has one feature at an output stride of 16: nothing of two windows is shared, and they
    are small, so they are encoded one by one.
    """
    high, low, coarse = parts
    cols, ratio, embedded_low = coarse.shape[1], geometry.low_ratio, None
    if len(low):
        windows = _windows(low, geometry.crop // ratio, geometry.stride // ratio, rows, cols)
        embedded_low = torch.cat([net.embed_low(windows[i : i + batch]) for i in range(0, len(windows), batch)])
    embedded_high = _shared_embeddings(net, high, geometry, rows, cols) if len(high) else None
    products = coarse[rows.start : rows.stop].flatten(0, 1) if coarse.shape[2] else None
    return net.head(embedded_high, embedded_low, products)


@torch.inference_mode()
def map_tile(
    net: nn.Module,
    images: TileImages,
    *,
    method: str = "shared",
    geometry: MapGeometry | None = None,
    batch_size: int = 32,
    rows_at_once: int | None = None,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Predict soil moisture of every cell of a tile.

    Parameters
    ----------
    net : Module
        A `smnb.models.multisource.MultiSourceNet`, or with ``method="windows"`` any that is called on the three inputs.
    images : TileImages
    method : {"shared", "windows"}
        Features computed once a tile, or once a window.
    geometry : MapGeometry
        Default the paper's: windows of 256 pixels every 32.
    batch_size : int
        Windows at a time.
    rows_at_once : int, optional
        Rows of cells whose features are computed together, which bounds the memory; default all of them. Between two such
        bands the encoder sees zeros, as it does around a window.
    device : str or torch.device

    Returns
    -------
    ndarray, shape (row, col), float32
        m3 m-3; NaN where a coarse product has no value.

    Raises
    ------
    ParameterError
        On an unknown method, or if the cells do not lie on the encoder's features.
    ContractError
        If the images do not fit one another, or have other channels than the network.
    """
    if method not in METHODS or (method == "shared" and not hasattr(net, "features_high")):
        raise ParameterError(
            "map_tile",
            f"unknown method, or none of {type(net).__name__}",
            got=method,
            expected=METHODS,
            next_step='A network of your own is called on each window: method="windows"',
        )
    geometry = geometry or MapGeometry()
    rows, cols = images.cells(geometry)
    got = (len(images.high), len(images.low), images.coarse.shape[2])
    config = getattr(net, "config", None)
    if hasattr(config, "high_inputs") and got != (config.high_inputs, config.low_inputs, config.coarse_channels):
        raise ContractError(
            "map_tile",
            "the images have other channels (high, low, coarse) than the network",
            got=got,
            expected=(config.high_inputs, config.low_inputs, config.coarse_channels),
            next_step="Read the tile with the channels of the checkpoint",
        )
    # what follows what is known of this network's own layers alone
    net = (folded(net) if hasattr(net, "features_high") else copy.deepcopy(net).eval()).to(device)
    parts = tuple(
        torch.from_numpy(np.ascontiguousarray(a, "float32")).to(device)
        for a in (images.high, images.low, images.coarse)
    )
    if method == "windows":
        values = [_by_windows(net, parts, geometry, row, batch_size) for row in range(rows)]
    else:
        band = rows if rows_at_once is None else max(int(rows_at_once), 1)
        bands = [range(start, min(start + band, rows)) for start in range(0, rows, band)]
        values = [_by_shared_features(net, parts, geometry, one, 8 * batch_size) for one in bands]
    return torch.cat(values).float().view(rows, cols).cpu().numpy()
