"""Regular grids and regridding, against analytic fields, scipy and plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.interpolate import RegularGridInterpolator

from smnb.contract import ContractError, ParameterError
from smnb.grids import GLOBAL_025, RegularGrid, regrid_bilinear


def field(lat, lon, values, **extra):
    dims = (*extra, "lat", "lon")
    return xr.DataArray(
        values, {"lat": lat, "lon": lon, **extra}, dims, name="soil_moisture", attrs={"units": "m3 m-3"}
    )


def era_axes():
    return np.linspace(-90, 90, 241), np.arange(-180, 180, 0.75)


# --- the grid -------------------------------------------------------------------------------------------------------


def test_global_quarter_degree_centres():
    assert GLOBAL_025.shape == (720, 1440)
    np.testing.assert_allclose(GLOBAL_025.lat[[0, -1]], [-89.875, 89.875])
    np.testing.assert_allclose(GLOBAL_025.lon[[0, 720, -1]], [-179.875, 0.125, 179.875])
    assert GLOBAL_025.coords()["lat"][2]["units"] == "degrees_north"


@pytest.mark.parametrize(
    "kwargs",
    [
        {"resolution": 0},
        {"resolution": 0.7},
        {"resolution": float("nan")},
        {"resolution": 1, "south": 10, "north": 10},
        {"resolution": 1, "east": 181},
    ],
)
def test_impossible_grids_are_refused(kwargs):
    with pytest.raises(ParameterError, match="RegularGrid"):
        RegularGrid(**kwargs)


# --- bilinear -------------------------------------------------------------------------------------------------------


def test_bilinear_equals_scipy_inside():
    rng = np.random.default_rng(0)
    lat, lon = np.arange(20, 50, 0.75), np.arange(-20, 30, 0.6)
    values = rng.normal(size=(3, lat.size, lon.size))
    target = np.sort(rng.uniform(20, 49, 40)), np.sort(rng.uniform(-20, 29, 50))
    got = regrid_bilinear(field(lat, lon, values, time=[0, 1, 2]), target)
    points = np.stack(np.meshgrid(*target, indexing="ij"), axis=-1)
    for k in range(3):
        np.testing.assert_allclose(got[k], RegularGridInterpolator((lat, lon), values[k])(points), atol=1e-12)
    assert got.dims == ("time", "lat", "lon")
    assert got.attrs == {"units": "m3 m-3"}
    assert got.name == "soil_moisture"


def test_bilinear_keeps_a_plane_and_crosses_the_date_line():
    lat, lon = era_axes()
    smooth = field(lat, lon, (lat[:, None] + 10 * np.cos(np.deg2rad(lon))[None, :]).astype("float32"))
    got = regrid_bilinear(smooth, GLOBAL_025)
    expected = GLOBAL_025.lat[:, None] + 10 * np.cos(np.deg2rad(GLOBAL_025.lon))[None, :]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=5e-4)  # curvature of the cosine over 0.75 degrees
    # 179.875 lies between 179.25 and 180 = -180, not beyond the last centre
    edge = regrid_bilinear(field(lat, lon, np.broadcast_to(np.where(lon == -180, 1.0, 0.0), (241, 480))), GLOBAL_025)
    np.testing.assert_allclose(edge[360, [-1, -2, -3, 0, 1, 2]], np.array([5, 3, 1, 5, 3, 1]) / 6, atol=1e-12)


def test_bilinear_clamps_at_the_poles_only_as_far_as_the_source_reaches():
    lat = np.arange(-87.5, 90, 5.0)
    lon = np.arange(-177.5, 180, 5.0)
    ramp = field(lat, lon, np.broadcast_to(lat[:, None], (36, 72)).copy())
    got = regrid_bilinear(ramp, ([-90.0, -89.0, 89.0, 90.0], [0.0]))
    np.testing.assert_allclose(got[:, 0], [-87.5, -87.5, 87.5, 87.5])
    regional = regrid_bilinear(field([10.0, 11.0], [0.0, 1.0], np.ones((2, 2))), ([9.4, 9.5, 11.5, 11.6], [0.5]))
    np.testing.assert_array_equal(np.isnan(regional[:, 0]), [True, False, False, True])


def test_bilinear_renormalises_over_valid_sources():
    values = np.array([[1.0, 3.0], [np.nan, 5.0]])
    source = field([0.0, 1.0], [0.0, 1.0], values)
    got = regrid_bilinear(source, ([0.25, 0.5], [0.5]))
    # weights at (0.25, 0.5): .375 .375 .125 .125 -> (.375*1 + .375*3 + .125*5) / .875
    np.testing.assert_allclose(got[:, 0], [(0.375 * 4 + 0.125 * 5) / 0.875, (1 + 3 + 5) / 3])
    # at (1, 0.49) less than half of the weight is valid
    little = regrid_bilinear(source, ([1.0], [0.49, 0.5]))
    np.testing.assert_array_equal(np.isnan(little[0]), [True, False])
    # a target on a valid source centre does not see the missing neighbour
    assert regrid_bilinear(source, ([1.0], [1.0])).item() == 5.0
    assert regrid_bilinear(source * np.nan, ([0.5], [0.5])).isnull().all()


def test_bilinear_wraps_longitudes_of_target_and_keeps_other_dims_in_place():
    source = field(np.arange(0.0, 3), np.arange(100.0, 104), np.arange(12.0).reshape(3, 4)).transpose("lon", "lat")
    got = regrid_bilinear(source, ([1.0], [461.0, 101.0]))
    assert got.dims == ("lon", "lat")
    np.testing.assert_allclose(got[:, 0], [5.0, 5.0])


def test_bilinear_lazy_equals_loaded_for_chunked_images():
    lat, lon = era_axes()
    values = np.random.default_rng(1).normal(size=(3, 241, 480)).astype("float32")
    values[:, :60] = np.nan
    source = field(lat, lon, values, time=[0, 1, 2])
    lazy = regrid_bilinear(source.chunk({"time": 1, "lat": 100, "lon": 200}), RegularGrid(2.5))
    assert lazy.chunks is not None
    xr.testing.assert_identical(lazy.compute(), regrid_bilinear(source, RegularGrid(2.5)))


def test_integers_become_float32():
    got = regrid_bilinear(field([0.0, 1.0], [0.0, 1.0], np.array([[0, 1], [2, 3]])), ([0.5], [0.5]))
    assert got.dtype == np.float32
    assert got.item() == 1.5


@pytest.mark.parametrize(("lat", "lon", "axis"), [([50.0, 51.0], [0.5], "lat"), ([0.5], [90.0, 91.0], "lon")])
def test_a_target_without_overlap_is_an_error(lat, lon, axis):
    source = field([0.0, 1.0], [0.0, 1.0], np.ones((2, 2)))
    with pytest.raises(ContractError, match=f"do not overlap in {axis}"):
        regrid_bilinear(source, (lat, lon))


def test_bad_sources_and_targets_are_refused():
    north_first = field([1.0, 0.0], [0.0, 1.0], np.ones((2, 2)))
    with pytest.raises(ContractError, match="not ascending"):
        regrid_bilinear(north_first, ([0.5], [0.5]))
    good = north_first.sortby("lat")
    with pytest.raises(ContractError, match="no dimension 'lat'"):
        regrid_bilinear(good.rename(lat="y"), ([0.5], [0.5]))
    with pytest.raises(ParameterError, match="neither"):
        regrid_bilinear(good, 0.25)
    with pytest.raises(ParameterError, match="finite"):
        regrid_bilinear(good, ([np.nan], [0.5]))


# --- nearest and block mean -----------------------------------------------------------------------------------------
