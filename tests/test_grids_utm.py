"""UTM zones and windows: against the EPSG registry, pyproj and rasterio."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Transformer
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_utm_crs_info
from rasterio.transform import array_bounds

from smnb.contract import ParameterError
from smnb.grids import UtmWindow, utm_epsg


def test_zones_are_those_of_the_epsg_registry():
    rng = np.random.default_rng(0)
    # the registry knows no exceptions, which lie north of 56° between 0° and 42° E
    points = [(lat, lon) for lat, lon in zip(rng.uniform(-79, 55, 40), rng.uniform(-180, 180, 40), strict=True)]
    for lat, lon in points:
        area = AreaOfInterest(lon, lat, lon, lat)
        known = {int(info.code) for info in query_utm_crs_info("WGS 84", area)}
        assert utm_epsg(lat, lon) in known, (lat, lon)
        central = utm_epsg(lat, lon) % 100 * 6 - 183
        assert abs(lon - central) <= 3.0


@pytest.mark.parametrize(
    ("lat", "lon", "epsg"),
    [
        (0.0, 0.0, 32631),
        (-1e-9, 0.0, 32731),
        (10.0, 180.0, 32601),
        (10.0, -180.0, 32601),
        (10.0, 179.9999, 32660),
        (10.0, 190.0, 32602),
        (10.0, 359.9, 32630),
        (60.0, 2.9, 32631),
        (60.0, 3.0, 32632),
        (64.0, 5.0, 32631),
        (75.0, 8.9, 32631),
        (75.0, 9.0, 32633),
        (75.0, 20.9, 32633),
        (75.0, 33.0, 32637),
        (84.0, 42.0, 32638),
    ],
)
def test_edges_of_zones_and_the_wide_zones_of_the_north(lat, lon, epsg):
    assert utm_epsg(lat, lon) == epsg


@pytest.mark.parametrize(("lat", "lon"), [(84.1, 0), (-80.1, 0), (np.nan, 0), (95, 0), (0, 400), (0, np.inf)])
def test_points_outside_utm_are_refused(lat, lon):
    with pytest.raises(ParameterError, match="utm_epsg"):
        utm_epsg(lat, lon)


@pytest.mark.parametrize("size", [1, 32, 33, 512])
@pytest.mark.parametrize("resolution", [10.0, 160.0])
def test_a_window_is_centred_and_snapped(size, resolution):
    lat, lon = -35.123, 146.31
    window = UtmWindow.centred(lat, lon, size=size, resolution=resolution)
    x, y = Transformer.from_crs(4326, window.epsg, always_xy=True).transform(lon, lat)
    west, south, east, north = window.bounds
    assert (window.west % resolution, window.north % resolution) == (0.0, 0.0)
    assert max(abs((west + east) / 2 - x), abs((south + north) / 2 - y)) <= resolution / 2
    assert window.bounds == pytest.approx(array_bounds(size, size, window.transform))
    assert window.x.shape == window.y.shape == (size,)
    np.testing.assert_allclose(np.diff(window.x), resolution)
    np.testing.assert_allclose(np.diff(window.y), -resolution)
    assert (window.x[0] - west, north - window.y[0]) == (resolution / 2, resolution / 2)
    exact = UtmWindow.centred(lat, lon, size=size, resolution=resolution, snap=False)
    assert (exact.bounds[0] + exact.bounds[2]) / 2 == pytest.approx(x, abs=1e-6)


def test_a_coarser_window_is_the_same_ground():
    window = UtmWindow.centred(30.3, -97.7, size=512, resolution=10)
    low = window.coarsened(160)
    assert (low.size, low.bounds, low.epsg) == (32, window.bounds, window.epsg)
    assert low.coarsened(10) == window
    with pytest.raises(ParameterError, match="no whole number of cells"):
        window.coarsened(150)
    with pytest.raises(ParameterError, match="no whole number of cells"):
        window.coarsened(0)


@pytest.mark.parametrize(
    "change", [{"epsg": 4326}, {"epsg": 32661}, {"resolution": 0}, {"west": np.nan}, {"size": 0}, {"size": 2.5}]
)
def test_a_window_that_is_none_is_refused(change):
    with pytest.raises(ParameterError, match="UtmWindow"):
        UtmWindow(**{"epsg": 32614, "west": 0.0, "north": 0.0, "resolution": 10.0, "size": 4, **change})
