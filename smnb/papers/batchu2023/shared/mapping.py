"""Soil moisture of every cell of a tile: window by window, or from features that are computed once.

A window of 256 pixels of 10 m is centred on each cell, and cells lie 320 m apart, so that 64 windows overlap a cell and each
pixel is encoded 64 times. The encoder is fully convolutional, however: over a whole tile it gives the features of all windows at
once, and the centre-weighted mean of a window's 8 x 8 features becomes a convolution with the same weights. What differs is what
the encoder sees around a window: zeros when the window is encoded alone, the neighbourhood when the tile is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from smnb.contract import ContractError, ParameterError, plain
from smnb.models.multisource import MultiSourceNet
from smnb.papers.batchu2023.shared.folding import folded

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

    def cells(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of cells of images of this size."""
        if min(height, width) < self.crop:
            raise ContractError(
                "MapGeometry.cells",
                "the tile is smaller than one window",
                got=(height, width),
                expected=plain(f"at least {self.crop} pixels"),
            )
        return (height - self.crop) // self.stride + 1, (width - self.crop) // self.stride + 1


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
        who = "TileImages"
        rows, cols = self.coarse.shape[:2]
        height, width = geometry.tile(rows, cols)
        if len(self.high) and self.high.shape[-2:] != (height, width):
            raise ContractError(
                who,
                "the high-resolution images do not fit the cells",
                got=self.high.shape[-2:],
                expected=(height, width),
            )
        expected = (height // geometry.low_ratio, width // geometry.low_ratio)
        if len(self.low) and self.low.shape[-2:] != expected:
            raise ContractError(
                who, "the low-resolution images do not fit the cells", got=self.low.shape[-2:], expected=expected
            )
        return rows, cols


def _low_embeddings(
    net: MultiSourceNet, low: torch.Tensor, geometry: MapGeometry, rows: range, cols: int, batch: int
) -> torch.Tensor | None:
    """Embeddings of the low-resolution windows of some rows of cells, ``(cell, feature)``.

    A low-resolution window of 16 pixels has one feature at an output stride of 16: nothing of two windows is shared, and they
    are small, so both methods encode them one by one.
    """
    if not len(low):
        return None
    windows = _windows(low, geometry.crop // geometry.low_ratio, geometry.stride // geometry.low_ratio, rows, cols)
    parts = [net.embed_low(windows[start : start + batch]) for start in range(0, len(windows), batch)]
    return torch.cat(parts)


def _windows(image: torch.Tensor, size: int, stride: int, rows: range, cols: int) -> torch.Tensor:
    """Windows of ``(channel, y, x)`` around the cells of some rows: ``(cell, channel, size, size)``."""
    top = rows.start * stride
    band = image[:, top : top + (len(rows) - 1) * stride + size, : (cols - 1) * stride + size]
    # (channel, row, col, size, size) -> (row, col, channel, size, size)
    views = band.unfold(1, size, stride).unfold(2, size, stride).permute(1, 2, 0, 3, 4)
    return views.reshape(-1, len(image), size, size)


def _by_windows(
    net: MultiSourceNet, high: torch.Tensor, geometry: MapGeometry, rows: range, cols: int, batch: int
) -> torch.Tensor:
    """Embeddings of the high-resolution windows of some rows of cells, each encoded alone."""
    parts = []
    for row in rows:
        windows = _windows(high, geometry.crop, geometry.stride, range(row, row + 1), cols)
        parts += [net.embed_high(windows[start : start + batch]) for start in range(0, cols, batch)]
    return torch.cat(parts)


def _by_shared_features(
    net: MultiSourceNet, high: torch.Tensor, geometry: MapGeometry, rows: range, cols: int
) -> torch.Tensor:
    """The same embeddings from one feature map of these rows of cells."""
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


@torch.inference_mode()
def map_tile(
    net: MultiSourceNet,
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
    net : MultiSourceNet
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
    if method not in METHODS:
        raise ParameterError("map_tile", "unknown method", got=method, expected=METHODS)
    geometry = geometry or MapGeometry()
    rows, cols = images.cells(geometry)
    got = (len(images.high), len(images.low), images.coarse.shape[2])
    expected = (net.config.high_inputs, net.config.low_inputs, net.config.coarse_channels)
    if got != expected:
        raise ContractError(
            "map_tile",
            "the images have other channels (high, low, coarse) than the network",
            got=got,
            expected=expected,
            next_step="Read the tile with the channels of the checkpoint",
        )
    net = folded(net).to(device)
    high, low, coarse = (
        torch.from_numpy(np.ascontiguousarray(a, "float32")).to(device)
        for a in (images.high, images.low, images.coarse)
    )
    band = rows if rows_at_once is None or method == "windows" else max(int(rows_at_once), 1)
    result = []
    for start in range(0, rows, band):
        these = range(start, min(start + band, rows))
        embedded: dict[str, torch.Tensor | None] = {"high": None}
        if len(high):
            if method == "shared":
                embedded["high"] = _by_shared_features(net, high, geometry, these, cols)
            else:
                embedded["high"] = _by_windows(net, high, geometry, these, cols, batch_size)
        embedded["low"] = _low_embeddings(net, low, geometry, these, cols, 8 * batch_size)
        products = coarse[these.start : these.stop].flatten(0, 1) if coarse.shape[2] else None
        value = net.head(embedded["high"], embedded["low"], products)
        result.append(value.float().view(len(these), cols))
    return torch.cat(result).cpu().numpy()
