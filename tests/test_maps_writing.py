"""The one map writer: the same map as CF-NetCDF, CF-Zarr and Cloud-Optimised GeoTIFF, whole or not at all."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import rasterio
import xarray as xr

from smnb.contract import ParameterError, check_dataset
from smnb.grids import M09, EaseWindow
from smnb.maps import soil_moisture_map, write_map

WINDOW = EaseWindow(M09, 300, 320, 700, 733)
TIMES = np.array(["2020-09-01", "2020-09-04"], "datetime64[ns]")


def a_map(values, dims=("time", "y", "x"), coords=None) -> xr.Dataset:
    coords = {"time": TIMES, **WINDOW.coords()} if coords is None else coords
    return soil_moisture_map(values, dims, coords, synthetic=True, source="test", step="made")


@pytest.fixture
def values() -> np.ndarray:
    values = np.random.default_rng(0).uniform(0, 0.5, (2, *WINDOW.shape)).astype("float32")
    values[0, 3:5, 2] = np.nan
    return values


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("lazy", [False, True])
def test_netcdf_and_zarr_follow_cf_and_the_contract(tmp_path, values, suffix, lazy) -> None:
    given = dask.array.from_array(values, chunks=(1, 7, 33)) if lazy else values
    out = write_map(a_map(given), tmp_path / "new" / f"map{suffix}")
    write_map(a_map(given), out)  # what has this name is replaced
    assert [p.name for p in out.parent.iterdir()] == [out.name]
    with xr.open_dataset(out, engine="zarr" if suffix == ".zarr" else "h5netcdf", decode_coords="all") as found:
        check_dataset(found, who="test", require=("soil_moisture",))
        np.testing.assert_array_equal(found["soil_moisture"].values, values)
        assert found["soil_moisture"].encoding["grid_mapping"] == "crs"
        assert EaseWindow.from_dataset(found) == WINDOW
        assert found.attrs["title"] == "Soil moisture (synthetic)"
        assert found.attrs["synthetic"] == 1


def test_a_geotiff_has_one_time_and_its_place(tmp_path, values) -> None:
    with pytest.raises(ParameterError, match="holds one time; got 2"):
        write_map(a_map(values), tmp_path / "map.tif")
    write_map(a_map(values).isel(time=[0]), tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as tif:
        assert tif.crs.to_epsg() == 6933
        assert tif.index(WINDOW.x[5], WINDOW.y[7]) == (7, 5)
        np.testing.assert_array_equal(tif.read(1), values[0])
        assert tif.tags()["synthetic"] == "1"
        assert tif.tags()["time"].startswith("2020-09-01")
        assert tif.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert [p.name for p in tmp_path.iterdir()] == ["map.tif"]


def test_what_has_no_place_or_another_suffix_is_refused(tmp_path, values) -> None:
    bare = a_map(values[0], ("y", "x"), {})
    write_map(bare, tmp_path / "map.nc")
    uneven = {"lat": np.geomspace(1, 2, WINDOW.shape[0]), "lon": np.arange(WINDOW.shape[1]) * 0.1}
    for one in (bare, a_map(values[0], ("lat", "lon"), uneven)):
        with pytest.raises(ParameterError, match="needs a place"):
            write_map(one, tmp_path / "map.tif")
    with pytest.raises(ParameterError, match=r"unknown kind of file; got 'map\.png'"):
        write_map(bare, tmp_path / "map.png")


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".tif"])
def test_a_failure_leaves_the_earlier_map(tmp_path, values, suffix) -> None:
    def fail(block):
        raise OSError(28, "No space left on device")

    out = write_map(a_map(values[:1], coords={"time": TIMES[:1], **WINDOW.coords()}), tmp_path / f"map{suffix}")
    bad = dask.array.from_array(values[:1], chunks=-1).map_blocks(fail, dtype="float32", meta=np.empty(0, "float32"))
    with pytest.raises(OSError, match="No space left"):
        write_map(a_map(bad, coords={"time": TIMES[:1], **WINDOW.coords()}), out)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    if suffix == ".tif":
        with rasterio.open(out) as tif:
            np.testing.assert_array_equal(tif.read(1), values[0])
    else:
        with xr.open_dataset(out, engine="zarr" if suffix == ".zarr" else "h5netcdf") as found:
            np.testing.assert_array_equal(found["soil_moisture"].values, values[:1])
