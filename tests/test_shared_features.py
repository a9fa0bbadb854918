"""Maps of a tile: cell by cell as the network would be called, from shared features, and what may not go wrong silently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from fake_scenes import FakeScenes
from pyproj import Transformer

from smnb.contract import ContractError, ParameterError
from smnb.maps import write_map
from smnb.models.multisource import MultiSourceConfig, MultiSourceNet
from smnb.papers.batchu2023 import SOURCES, InputSet, tile_map
from smnb.papers.batchu2023.tiles import MapGeometry, TileImages, folded, map_tile, read_tile

GEOMETRY = MapGeometry(crop=64, stride=32)
SMALL = {"high_encoder": "small", "low_encoder": "small", "output_stride_high": 16, "output_stride_low": 4}


def small_net(**changes) -> MultiSourceNet:
    torch.manual_seed(0)
    net = MultiSourceNet(MultiSourceConfig(high_channels=4, low_channels=3, **{**SMALL, **changes}))
    for (
        module
    ) in net.modules():  # statistics as a trained network has them, or embeddings would be far too small to differ
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.2, 0.6)
    return net.eval()


def tile_images(cells: int = 3, coarse: int = 2) -> TileImages:
    rng = np.random.default_rng(1)
    side = GEOMETRY.tile(cells, cells)[0]
    return TileImages(
        rng.uniform(-1, 1, (4, side, side)).astype("float32"),
        rng.uniform(-1, 1, (3, side // 16, side // 16)).astype("float32"),
        rng.uniform(0.05, 0.4, (cells, cells, coarse)).astype("float32"),
    )


def test_windows_are_the_network_called_on_each_cell():
    net, images = small_net(), tile_images()
    values = map_tile(net, images, method="windows", geometry=GEOMETRY, batch_size=2)
    assert values.shape == (3, 3)
    assert values.dtype == np.float32
    assert values.std() > 1e-4
    for row, col in ((0, 0), (1, 2), (2, 1)):
        high = images.high[:, 32 * row : 32 * row + 64, 32 * col : 32 * col + 64]
        low = images.low[:, 2 * row : 2 * row + 4, 2 * col : 2 * col + 4]
        with torch.inference_mode():
            one = net(*(torch.from_numpy(part.copy())[None] for part in (high, low, images.coarse[row, col])))
        assert values[row, col] == pytest.approx(float(one), abs=1e-6)


class Pointwise(torch.nn.Module):
    """An encoder that sees no neighbours, so that nothing is lost at a window's edge."""

    def __init__(self, channels: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, features, 1)
        self.stride = stride

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.nn.functional.avg_pool2d(images, self.stride)).relu()


def test_shared_features_are_the_windows_where_padding_plays_no_part():
    net, images = small_net(), tile_images()
    features = net.high.features
    net.high = Pointwise(4, features, 16)
    windows = map_tile(net, images, method="windows", geometry=GEOMETRY)
    shared = map_tile(net, images, method="shared", geometry=GEOMETRY)
    np.testing.assert_allclose(shared, windows, atol=1e-6)
    bands = map_tile(net, images, method="shared", geometry=GEOMETRY, rows_at_once=1)
    np.testing.assert_allclose(bands, windows, atol=1e-6)


@pytest.mark.parametrize(("high", "low"), [("small", "small"), ("xception41", "xception41")])
def test_folding_normalisations_changes_no_result(high, low):
    stride = 4 if low == "small" else 16
    net = small_net(high_encoder=high, low_encoder=low, width_high=0.25, width_low=0.25, output_stride_low=stride)
    quick = folded(net)
    kept = [m for m in quick.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert kept == []
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    images = torch.rand(2, 4, 64, 64), torch.rand(2, 3, 4, 4), torch.rand(2, 2)
    with torch.inference_mode():
        expected, features = net(*images), net.features_high(images[0])
        np.testing.assert_allclose(quick(*images), expected, atol=1e-5)
        scale = features.abs().max()
        np.testing.assert_allclose(quick.features_high(images[0]) / scale, features / scale, atol=1e-5)


def test_shared_features_differ_by_padding_alone():
    net, images = small_net(), tile_images(cells=1)
    # one cell: the tile is the window
    np.testing.assert_allclose(
        map_tile(net, images, geometry=GEOMETRY), map_tile(net, images, method="windows", geometry=GEOMETRY), atol=1e-6
    )
    images = tile_images(cells=4)
    shared, windows = (map_tile(net, images, method=m, geometry=GEOMETRY) for m in ("shared", "windows"))
    assert 0 < np.abs(shared - windows).max() < 0.2


def test_without_a_part():
    images = tile_images()
    for changes, used in (
        ({"high_channels": 0}, (False, True, True)),
        ({"low_channels": 0}, (True, False, True)),
        ({"coarse_channels": 0}, (True, True, False)),
        ({"high_channels": 0, "low_channels": 0}, (False, False, True)),
    ):
        torch.manual_seed(0)
        net = MultiSourceNet(MultiSourceConfig(**{"high_channels": 4, "low_channels": 3, **SMALL, **changes})).eval()
        some = TileImages(
            *(
                part if use else (part[:0] if n < 2 else part[..., :0])
                for n, (part, use) in enumerate(zip((images.high, images.low, images.coarse), used, strict=True))
            )
        )
        for method in ("shared", "windows"):
            assert np.isfinite(map_tile(net, some, method=method, geometry=GEOMETRY)).all()


def test_a_cell_without_a_coarse_product_is_missing():
    images = tile_images()
    images.coarse[1, 2, 0] = np.nan
    values = map_tile(small_net(), images, geometry=GEOMETRY)
    assert np.isnan(values[1, 2])
    assert np.isfinite(values).sum() == 8


def test_refuses_what_does_not_fit():
    net, images = small_net(), tile_images()
    with pytest.raises(ParameterError, match="unknown method"):
        map_tile(net, images, method="guess", geometry=GEOMETRY)
    with pytest.raises(ContractError, match="other channels"):
        map_tile(net, tile_images(coarse=1), geometry=GEOMETRY)
    with pytest.raises(ContractError, match="do not fit the cells"):
        map_tile(net, TileImages(images.high[:, :-1], images.low, images.coarse), geometry=GEOMETRY)
    cut = TileImages(images.high[:, :96, :96], images.low[:, :6, :6], images.coarse)
    with pytest.raises(ParameterError, match="features"):
        map_tile(small_net(output_stride_high=32), cut, geometry=MapGeometry(crop=64, stride=16))
    with pytest.raises(ParameterError, match="whole numbers"):
        MapGeometry(crop=250)
    assert MapGeometry().tile(64, 1) == (63 * 32 + 256, 256)


@pytest.fixture
def sources():
    return {
        "sentinel1": FakeScenes.of(
            "sentinel1", ("VV", "VH", "angle"), ["2020-06-01T12:00", "2020-06-13T12:00"], slope=0.1
        ),
        "dem": FakeScenes.of("dem", ("elevation",), [None], slope=10.0),
        "sentinel2": FakeScenes.of(
            "sentinel2", ("B4", "B8"), ["2020-06-05", "2020-06-10", "2020-06-12"], cloud=[5, 10, 80], slope=100.0
        ),
        "smap": FakeScenes.of("smap", ("ssm",), ["2020-06-11", "2020-06-14"], slope=10.0),
    }


def test_a_tile_is_read_as_the_builder_joins(sources):
    inputs = InputSet.of("sentinel1:VV", "sentinel2:B8", "dem", "sentinel2:NDVI", "smap")
    where = {"lat": 30.3, "lon": -97.7, "cells": 3, "geometry": GEOMETRY}
    tile = read_tile(sources, inputs, time="2020-06-13T12:30Z", show={"sentinel2": ("B4",)}, **where)
    assert tile.images.high.shape == (4, 128, 128)
    assert tile.images.low.shape == (0, 8, 8)
    assert tile.images.coarse.shape == (3, 3, 1)
    assert tile.synthetic
    assert tile.grid.shape == (3, 3)
    # closest in the past, cloudy ones left out, tomorrow's too
    assert tile.used["scene"].to_dict() == {
        "sentinel1": "sentinel11",
        "sentinel2": "sentinel21",
        "dem": "dem0",
        "smap": "smap0",
    }
    assert tile.used.loc["sentinel2", "age_days"] == pytest.approx(3 + 12.5 / 24)
    np.testing.assert_allclose(
        tile.images.high[0], 2 * SOURCES["sentinel1"].normalise("VV", tile.native["sentinel1"]["VV"]) - 1
    )
    assert set(tile.native["sentinel2"]) == {"B8", "B4"}
    # centres of cells: 320 m apart around the place, and the coarse value of each
    x, y = tile.grid.x, tile.grid.y
    assert (np.diff(x) == 320).all()
    assert (np.diff(y) == -320).all()
    lat, _lon = tile.grid.lat_lon()
    east, north = Transformer.from_crs(4326, 32614, always_xy=True).transform(-97.7, 30.3)
    assert abs(x[1] - east) <= 5
    assert abs(y[1] - north) <= 5
    np.testing.assert_allclose(tile.images.coarse[..., 0], (lat - 30.0) * 10.0 / 50.0, atol=1e-6)


def test_a_tile_without_an_image_in_time_says_so(sources):
    inputs = InputSet.of("sentinel1:VV")
    with pytest.raises(ContractError, match=r"no scene of 'sentinel1'.*got no scene in time"):
        read_tile(sources, inputs, lat=30.3, lon=-97.7, time="2020-06-20", cells=2, geometry=GEOMETRY)
    with pytest.raises(ContractError, match="no scene covers the point"):
        read_tile(sources, inputs, lat=40.0, lon=-97.7, time="2020-06-13T12:30", cells=2, geometry=GEOMETRY)
    with pytest.raises(ContractError, match="'gldas' is absent"):
        read_tile(sources, InputSet.of("gldas"), lat=30.3, lon=-97.7, time="2020-06-13", cells=2, geometry=GEOMETRY)


def test_a_map_on_disk(sources, tmp_path):
    import rasterio

    inputs = InputSet.of("sentinel1:VV", "dem", "smap")
    tile = read_tile(sources, inputs, lat=30.3, lon=-97.7, time="2020-06-13T12:30", cells=3, geometry=GEOMETRY)
    torch.manual_seed(0)
    net = MultiSourceNet(MultiSourceConfig(high_channels=2, low_channels=0, coarse_channels=1, **SMALL))
    one = tile_map(net, tile)
    assert one["soil_moisture"].dims == ("time", "y", "x")
    assert one.attrs["synthetic"] == 1
    with xr.open_dataset(write_map(one, tmp_path / "map.nc"), engine="h5netcdf") as again:
        np.testing.assert_array_equal(again["soil_moisture"], one["soil_moisture"])
        assert again["crs"].attrs["grid_mapping_name"] == "transverse_mercator"
    with rasterio.open(write_map(one, tmp_path / "map.tif")) as image:
        assert image.crs.to_epsg() == 32614
        assert image.res == (320.0, 320.0)
        np.testing.assert_array_equal(image.read(1), one["soil_moisture"][0])
        assert image.bounds.left == pytest.approx(float(one["x"][0]) - 160.0)
