"""Soil moisture of every cell of a tile, window by window or from features that are computed once; and the truth beside it.

A window of 256 pixels of 10 m is centred on each cell, and cells lie 320 m apart, so that 64 windows overlap a cell and each
pixel is encoded 64 times. The encoder is fully convolutional, however: over a whole tile it gives the features of all windows at
once, and the centre-weighted mean of a window's 8 x 8 features becomes a convolution with the same weights. What differs is what
the encoder sees around a window: zeros when the window is encoded alone, the neighbourhood when the tile is.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from pyproj import CRS
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from smnb.contract import CatalogError, ContractError, ParameterError, plain
from smnb.maps import soil_moisture_map
from smnb.papers.batchu2023.sources import SOURCES
from smnb.papers.batchu2023.tiles import MapGeometry, Tile, TileImages

if TYPE_CHECKING:
    from smnb.catalog import Catalog
    from smnb.models.multisource import MultiSourceNet

METHODS = ("shared", "windows")


def folded(net: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode with each batch normalisation folded into its convolution.

    The same function, up to rounding. A normalisation is folded where it is known to follow a convolution alone: next in a
    ``Sequential``, as ``x_norm`` beside ``x`` (`smnb.models.encoders.SeparableConv`), or as ``norm`` behind ``convolution``.
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
    """Windows of ``(channel, y, x)`` around the cells of some rows: ``(cell, channel, size, size)``, or ``(cell, 0)``."""
    if not len(image):
        return image.new_empty((len(rows) * cols, 0))
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
        got, expected = (geometry.crop, geometry.stride), plain(f"multiples of the output stride {step}")
        what, other = "the cells do not lie on the encoder's features", 'Use method="windows"'
        raise ParameterError("map_tile", what, got=got, expected=expected, next_step=other)
    weights = net.pool.weights(geometry.crop // step, geometry.crop // step).to(features)
    # the weighted mean of a window is a convolution of every feature with the same weights: (F, 1, y, x) -> (F, 1, row, col)
    pooled = torch.nn.functional.conv2d(features[:, None], weights[None, None], stride=geometry.stride // step)
    return pooled[:, 0].flatten(1).T.contiguous()


def _map_rows(
    net: nn.Module, parts: tuple[torch.Tensor, ...], geometry: MapGeometry, rows: range, batch: int, *, shared: bool
) -> torch.Tensor:
    """Cells of some rows: the network called on each window, or the high-resolution encoder once on all of their ground.

    Low-resolution windows of 16 pixels share nothing at an output stride of 16, and are encoded one by one in both.
    """
    high, low, coarse = parts
    cols, ratio = coarse.shape[1], geometry.low_ratio
    products = coarse[rows.start : rows.stop].flatten(0, 1)
    chunks = [slice(start, start + batch) for start in range(0, len(products), batch)]
    low = _windows(low, geometry.crop // ratio, geometry.stride // ratio, rows, cols)
    if not shared:
        high = _windows(high, geometry.crop, geometry.stride, rows, cols)
        return torch.cat([net(high[at], low[at], products[at]) for at in chunks])
    return net.head(
        _shared_embeddings(net, high, geometry, rows, cols) if len(high) else None,
        torch.cat([net.embed_low(low[at]) for at in chunks]) if low.shape[1] else None,
        products if products.shape[1] else None,
    )


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
    """Predict soil moisture of every cell of a tile: ``(row, col)`` float32, m3 m-3, NaN where a coarse product has no value.

    ``method="shared"`` takes a `smnb.models.multisource.MultiSourceNet` and computes features once, of `rows_at_once` rows of
    cells together (default all), which bounds the memory; between two such bands the encoder sees zeros, as it does around a
    window. ``"windows"`` takes any network that is called on the three inputs. `batch_size` counts windows.
    """
    shared, known = method == "shared", hasattr(net, "features_high")
    if method not in METHODS or (shared and not known):
        what, step = f"unknown method, or none of {type(net).__name__}", 'Call it on each window: method="windows"'
        raise ParameterError("map_tile", what, got=method, expected=METHODS, next_step=step)
    geometry = geometry or MapGeometry()
    rows, cols = images.coarse.shape[:2]
    height, width = geometry.tile(rows, cols)
    sizes = {"high": (height, width), "low": (height // geometry.low_ratio, width // geometry.low_ratio)}
    for part, size in sizes.items():
        if len(image := getattr(images, part)) and image.shape[-2:] != size:
            what = f"the {part}-resolution images do not fit the cells"
            raise ContractError("map_tile", what, got=image.shape[-2:], expected=size)
    got = (len(images.high), len(images.low), images.coarse.shape[2])
    names = ("high_inputs", "low_inputs", "coarse_channels")
    expected = tuple(getattr(getattr(net, "config", None), name, got[i]) for i, name in enumerate(names))
    if got != expected:
        what = "the images have other channels (high, low, coarse) than the network"
        raise ContractError("map_tile", what, got=got, expected=expected, next_step="Read the tile with its channels")
    # what follows what is known of this network's own layers alone
    net = (folded(net) if known else copy.deepcopy(net).eval()).to(device)
    arrays = (images.high, images.low, images.coarse)
    parts = tuple(torch.from_numpy(np.ascontiguousarray(one, "float32")).to(device) for one in arrays)
    # windows of one row at a time are enough to fill batches
    band = max(int(rows_at_once or rows), 1) if shared else 1
    bands = [range(start, min(start + band, rows)) for start in range(0, rows, band)]
    batch = 8 * batch_size if shared else batch_size
    values = [_map_rows(net, parts, geometry, one, batch, shared=shared) for one in bands]
    return torch.cat(values).float().view(rows, cols).cpu().numpy()


def tile_map(net: nn.Module, tile: Tile, *, method: str = "shared", **options: Any) -> xr.Dataset:
    """Map soil moisture of a tile that was read with the network's inputs; the options are those of `map_tile`.

    ``soil_moisture`` (time, y, x), m3 m-3, has the coordinates ``lat`` and ``lon`` of the cells' centres and the grid mapping
    ``crs``.
    """
    values, (lat, lon) = (
        map_tile(net, tile.images, method=method, geometry=tile.geometry, **options),
        tile.grid.lat_lon(),
    )
    coords = {
        "time": ("time", [np.datetime64(tile.time, "ns")], {"standard_name": "time"}),
        "y": ("y", tile.grid.y, {"units": "m", "standard_name": "projection_y_coordinate"}),
        "x": ("x", tile.grid.x, {"units": "m", "standard_name": "projection_x_coordinate"}),
        "lat": (("y", "x"), lat, {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": (("y", "x"), lon, {"units": "degrees_east", "standard_name": "longitude"}),
        "crs": ((), 0, CRS.from_epsg(tile.grid.epsg).to_cf()),
    }
    about = {"synthetic": tile.synthetic, "source": "multisource network", "step": f"tile_map, {method}"}
    return soil_moisture_map(values[None], ("time", "y", "x"), coords, **about)


def tile_truth(catalog: Catalog, root: Path | None, tiles: Mapping[str, Tile]) -> dict[str, np.ndarray]:
    """The sandbox's truth ``(row, col)``, m3 m-3, of the tiles whose ground and time it holds; none in a real archive."""
    from smnb.loaders import open_netcdf

    try:
        paths = list(catalog.resolve("sandbox_multisource_truth", root))
    except CatalogError:
        return {}
    found: dict[str, np.ndarray | None] = dict.fromkeys(tiles)
    for path in paths:
        with open_netcdf("tile_truth", path) as truth:
            found |= {name: values for name in tiles if (values := _cell_means(truth, tiles[name])) is not None}
    return {name: values for name, values in found.items() if values is not None}


def _cell_means(truth: xr.Dataset, tile: Tile) -> np.ndarray | None:
    """Truth averaged to a tile's cells, or None where the file does not hold all of its ground at that time."""
    grid, late = tile.grid, np.abs(truth["time"].values - np.datetime64(tile.time, "ns"))
    if CRS.from_cf(truth["crs"].attrs).to_epsg() != grid.epsg or late.min() > np.timedelta64(1, "h"):
        return None
    west, north = float(truth["x"][0]), float(truth["y"][0])
    pixel = float(truth["x"][1]) - west
    per = round(grid.resolution / pixel)
    # first pixels of the first cell; the window's edges may lie off the truth's by less than a pixel
    col = round((grid.west - (west - pixel / 2)) / pixel)
    row = round(((north + pixel / 2) - grid.north) / pixel)
    side = grid.size * per
    if row < 0 or col < 0 or row + side > truth.sizes["y"] or col + side > truth.sizes["x"]:
        return None
    values = truth["soil_moisture"].isel(time=int(late.argmin())).values[row : row + side, col : col + side]
    if not np.isfinite(values).all():
        return None
    return values.reshape(grid.size, per, grid.size, per).mean(axis=(1, 3))


def map_scores(
    maps: Mapping[str, xr.Dataset], truth: Mapping[str, np.ndarray], tiles: Mapping[str, Tile]
) -> pd.DataFrame:
    """Scores of each date's maps, and of the coarse products at the same cells, against the truth: a row a map and date.

    ``n``, ``bias``, ``rmse``, ``ubrmse`` (m3 m-3) and ``r`` are over the cells of one date: the time signal counts for nothing.
    """
    from smnb.metrics import pair_scores

    rows = []
    for name, values in truth.items():
        number, tile = list(tiles).index(name), tiles[name]
        fields = {method: one["soil_moisture"].values[number] for method, one in maps.items()}
        for product in ("smap", "gldas"):
            for band, native in tile.native.get(product, {}).items():
                fields[product.upper()] = SOURCES[product].normalise(band, native)
        for method, one in fields.items():
            valid = np.isfinite(one) & np.isfinite(values)
            rows.append({"map": method, "date": name, **pair_scores(one[valid], values[valid])})
    return pd.DataFrame(rows, columns=["map", "date", "n", "bias", "rmse", "ubrmse", "r"])
