"""Tiles of a map: the images of a square at one time, cut as the match-up builder would have, and the soil moisture of its cells.

A window of 256 pixels of 10 m is centred on each cell, and cells lie 320 m apart, so that each pixel is encoded 64 times. The
encoder is fully convolutional, however: over a whole tile it gives the features of all windows at once, and the centre-weighted
mean of a window's features becomes a convolution. What differs is what the encoder sees around a window: zeros or neighbours.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from pyproj import CRS
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from smnb.contract import ContractError, ParameterError, check_count, plain
from smnb.grids import UtmWindow
from smnb.maps import soil_moisture_map
from smnb.papers.batchu2023.inputs import InputSet, network_inputs
from smnb.papers.batchu2023.scenes import REASONS, SceneChoice
from smnb.papers.batchu2023.sources import KINDS, SOURCES, check_scenes
from smnb.progress import progress

if TYPE_CHECKING:
    from smnb.loaders.rasters import SceneIndex
    from smnb.models.multisource import MultiSourceNet

_WHO = "read_tile"


@dataclass(frozen=True)
class MapGeometry:
    """Sizes of windows and cells, in pixels of the high-resolution images, and how many of them a low one has on a side.

    `crop` is the window that the network was trained with; a `stride` of 32 pixels of 10 m is the paper's 320 m.
    """

    crop: int = 256
    stride: int = 32
    low_ratio: int = 16

    def __post_init__(self) -> None:
        for name in ("crop", "stride", "low_ratio"):
            check_count("MapGeometry", name, getattr(self, name))
        if self.crop % self.low_ratio or self.stride % self.low_ratio:
            what = "windows and cells are not whole numbers of low-resolution pixels"
            expected = plain(f"multiples of {self.low_ratio}")
            raise ParameterError("MapGeometry", what, got=(self.crop, self.stride), expected=expected)

    def tile(self, rows: int, cols: int) -> tuple[int, int]:
        """Height and width of the high-resolution images of so many cells, pixels."""
        return (rows - 1) * self.stride + self.crop, (cols - 1) * self.stride + self.crop


@dataclass(frozen=True)
class TileImages:
    """What the network takes, for all cells of a tile, float32; a part without channels where there is no such encoder.

    `high` (high channel, y, x) and `low` (low channel, y / low_ratio, x / low_ratio) are scaled to [-1, 1] as in training, 0
    where missing; `coarse` (row, col, coarse channel) is m3 m-3 at the cells' centres, NaN where the product has no value.
    """

    high: np.ndarray
    low: np.ndarray
    coarse: np.ndarray


@dataclass(frozen=True)
class Tile:
    """A tile at one time: what the network takes, what a figure shows, and where it lies."""

    images: TileImages
    window: UtmWindow  # of the high-resolution images, which reach half a window beyond the outermost cells' centres
    grid: UtmWindow  # of the cells
    geometry: MapGeometry
    time: pd.Timestamp  # UTC
    used: pd.DataFrame
    """By source ``scene`` and ``time`` of its image, ``age_days``, and the share of pixels or cells that are ``missing``."""
    native: dict[str, dict[str, np.ndarray]] = field(repr=False)
    """Native values by source and band, for figures: ``native["sentinel1"]["VV"]`` (y, x), dB."""
    synthetic: bool = False


def read_tile(
    scenes: Mapping[str, SceneIndex],
    inputs: InputSet,
    *,
    lat: float,
    lon: float,
    time: Any,
    cells: int = 64,
    geometry: MapGeometry | None = None,
    show: Mapping[str, Sequence[str]] | None = None,
) -> Tile:
    """Read the images of a square of `cells` x `cells` cells at one time, the high-resolution ones with pixels of 10 m.

    The centre (degrees) decides the UTM zone, and which of several scenes of one time is taken. Of each source the closest
    image before `time` (UTC) within its bound is taken; Sentinel-1's is an hour, so this is best the time of one of its
    scenes. `show` has bands to keep in native units besides those of the inputs, by source.
    """
    geometry, time = geometry or MapGeometry(), pd.Timestamp(time)
    time = time.tz_convert("UTC").tz_localize(None) if time.tzinfo else time
    high = UtmWindow.centred(lat, lon, size=geometry.tile(cells, cells)[0], resolution=10.0)
    windows = {"high": high, "low": high.coarsened(10.0 * geometry.low_ratio)}
    margin = (geometry.crop - geometry.stride) / 2 * 10.0
    grid = UtmWindow(high.epsg, high.west + margin, high.north - margin, geometry.stride * 10.0, cells)
    needed = inputs.bands(*KINDS)
    needed |= {name: tuple(dict.fromkeys((*needed.get(name, ()), *bands))) for name, bands in (show or {}).items()}
    if absent := [name for name in needed if name not in scenes]:
        raise ContractError(_WHO, f"the source {absent[0]!r} is absent", got=sorted(scenes), expected=sorted(needed))
    # before anything is read: most times lack a source, and images are dear
    position = {}
    for name, bands in needed.items():
        source = inputs.source(name).with_bands(*bands)
        check_scenes(_WHO, scenes[name], source)
        found, reason = SceneChoice(scenes[name], source).at(lat, lon, np.array([time.value]))
        if found[0] < 0:
            what = f"no scene of {name!r} for {time:%Y-%m-%d %H:%M} UTC at {lat:.3f}, {lon:.3f}"
            expected = plain("one" if source.static else f"one within {source.bound} before")
            step = "Choose another time or place, or inputs without this source"
            raise ContractError(_WHO, what, got=plain(REASONS[reason[0]]), expected=expected, next_step=step)
        position[name] = int(found[0])
    places = [one.ravel() for one in grid.lat_lon()]
    native: dict[str, dict[str, np.ndarray]] = {}
    used: dict[str, dict[str, Any]] = {}
    for name, bands in needed.items():
        source, at = inputs.source(name), position[name]
        with scenes[name].open(at) as reader:
            if source.kind == "coarse":
                values = reader.at(*places, bands).T.reshape(len(bands), cells, cells)
            else:
                values = reader.read(windows[source.kind], bands, resampling=source.resampling)
        native[name] = dict(zip(bands, values, strict=True))
        row = scenes[name].table.iloc[at]
        age = None if source.static else (time - row["time"]) / pd.Timedelta(days=1)
        missing = float(np.isnan(values).mean())
        used[name] = {"scene": row["scene_id"], "time": row["time"], "age_days": age, "missing": missing}
    parts = {part: _inputs_of(inputs, part, native, windows.get(part, grid).shape) for part in KINDS}
    images = TileImages(parts["high"], parts["low"], np.moveaxis(parts["coarse"], 0, -1))
    table, synthetic = pd.DataFrame(used).T.rename_axis("source"), any(bool(scenes[name].synthetic) for name in needed)
    return Tile(images, high, grid, geometry, time, table, native, synthetic)


def _inputs_of(
    inputs: InputSet, part: str, native: Mapping[str, Mapping[str, np.ndarray]], shape: tuple[int, int]
) -> np.ndarray:
    """Channels of a part as the network takes them: scaled as the store's values are, then through the same door."""
    values = {}
    for name, bands in inputs.bands(part).items():
        stacked = np.stack([native[name][band] for band in bands])
        values[name] = inputs.source(name).normalise_stack(stacked, bands)[None]
    return network_inputs(inputs, part, values)[0].numpy() if values else np.empty((0, *shape), "float32")


def read_tiles(
    scenes: Mapping[str, SceneIndex],
    inputs: InputSet,
    *,
    lat: float,
    lon: float,
    cells: int,
    crop: int = 256,
    times: Sequence[str] = (),
    number: int = 3,
) -> dict[str, Tile]:
    """Read a square at several times, as `read_tile`: tiles by day, and hour where a day has several.

    Bands for natural colours and VV are kept besides the inputs' where there are any; `crop` is the side of the windows that the
    network was trained on, pixels. Without any `times` (UTC), passes of Sentinel-1 over the square are taken that have an image
    of every source and cover all of it, but for at most 5 % of its pixels: `number` of them, spread evenly over the record. A
    `ContractError` if no pass has everything, or one that was asked for has not.
    """
    show = {"sentinel2": ("B4", "B3", "B2"), "sentinel1": ("VV",)}
    geometry = MapGeometry(crop=crop)
    square: dict[str, Any] = {"lat": lat, "lon": lon, "cells": cells, "geometry": geometry}
    square["show"] = {source: bands for source, bands in show.items() if source in scenes}
    if times:
        return _by_day(read_tile(scenes, inputs, time=one, **square) for one in times)
    radar = scenes["sentinel1"]
    passes = radar.table.iloc[np.asarray(radar.covering(lat, lon))]
    reach = geometry.tile(cells, cells)[0] * 10.0 / 2 / 111_320.0  # degrees of latitude, m a degree
    across = reach / np.cos(np.radians(lat))
    east_west = (passes["west"] <= lon - across) & (passes["east"] >= lon + across)
    whole = passes[east_west & (passes["south"] <= lat - reach) & (passes["north"] >= lat + reach)]
    found: list[pd.Timestamp] = []  # times alone: tiles of a whole record would not fit into memory
    why = ""
    for time in progress(sorted(set(whole["time"])), "passes over the square"):
        try:
            tile = read_tile(scenes, inputs, time=time, **square)
        except ContractError as error:  # that pass lacks a source in time
            why = f"; the last: {error}"
            continue
        if float(tile.used["missing"].max()) <= 0.05:
            found.append(time)
    if not found:
        what = f"no pass of Sentinel-1 over {cells} x {cells} cells at {lat:.3f}, {lon:.3f} has every source"
        got = plain(f"{len(passes)} passes cover the centre, {len(whole)} all of the square{why}")
        step = "Choose a smaller square, another place, or inputs with fewer sources"
        raise ContractError("read_tiles", what, got=got, next_step=step)
    chosen = np.unique(np.linspace(0, len(found) - 1, min(number, len(found))).round().astype(int))
    return _by_day(read_tile(scenes, inputs, time=found[i], **square) for i in chosen)


def _by_day(tiles: Iterable[Tile]) -> dict[str, Tile]:
    tiles = list(tiles)
    days = [f"{tile.time:%Y-%m-%d}" for tile in tiles]
    return {day if days.count(day) == 1 else f"{t.time:%Y-%m-%d %H:%M}": t for day, t in zip(days, tiles, strict=True)}


def natural_colours(native: Mapping[str, np.ndarray]) -> np.ndarray:
    """Natural colours ``(y, x, 3)`` of [0, 1], by the log-sigmoid, of Sentinel-2 digital numbers ``(y, x)`` by band."""
    return np.dstack([SOURCES["sentinel2"].normalise(band, native[band]) for band in ("B4", "B3", "B2")])


def tile_images(tile: Tile, *maps: np.ndarray) -> list[np.ndarray]:
    """Images of a tile over the ground of its cells, as `smnb.plots.image_rows` takes them.

    Natural colours, VV (dB), and `maps` ``(row, col)``; an image of missing values where the tile has no such source.
    """
    margin = (tile.geometry.crop - tile.geometry.stride) // 2
    ground = (slice(margin, margin + tile.grid.size * tile.geometry.stride),) * 2
    optical, radar = ({band: v[ground] for band, v in tile.native.get(f"sentinel{n}", {}).items()} for n in (2, 1))
    natural = natural_colours(optical) if optical else np.full((1, 1, 3), np.nan)
    return [natural, radar.get("VV", np.full((1, 1), np.nan)), *maps]


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
    values = map_tile(net, tile.images, method=method, geometry=tile.geometry, **options)
    lat, lon = tile.grid.lat_lon()
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
