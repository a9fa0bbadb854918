"""Regional patches: self-written files, and the real ones read independently with netCDF4."""

from __future__ import annotations

import json

import netCDF4
import numpy as np
import pytest

from smnb.contract import CatalogError, FormatError, check_dataset
from smnb.loaders.conus import BANDS, open_conus_patches


def write_region(folder, number, *, n_time=3, size=2, units=None, skip=(), value=1.0, radar=True, first_day=0):
    path = folder / f"region_{number:02d}.nc"
    native = {"VV": "dB", "VH": "dB", "angle": "degree", "ssm": "mm", **dict.fromkeys(BANDS, "1e-4 reflectance")}
    native.update(units or {})
    with netCDF4.Dataset(path, "w") as file:
        for name, length in (("time", n_time), ("y", size), ("x", size)):
            file.createDimension(name, length)
        time = file.createVariable("time", "i8", ("time",))
        time.units = "days since 2019-01-01 00:00:00"
        time[:] = first_day + 10 * np.arange(n_time)
        for k, (name, unit) in enumerate(native.items()):
            if name in skip:
                continue
            variable = file.createVariable(name, "f4", ("time", "y", "x"), fill_value=np.nan)
            variable.units = unit
            variable[:] = np.nan if not radar and name in ("VV", "VH", "angle") else value * (k + 1)
    return path


def test_names_units_and_conversions(tmp_path):
    paths = [write_region(tmp_path, 3, value=2.0), write_region(tmp_path, 1)]
    ds = open_conus_patches(paths, catalog_id="conus_s1s2smap")
    assert ds["region"].values.tolist() == [1, 3]
    assert ds["sigma0"].dims == ("region", "time", "polarization", "y", "x")
    assert ds["reflectance"].dims == ("region", "time", "band", "y", "x")
    # the writer gives the k-th variable the value k + 1 (times 2 for region 3)
    np.testing.assert_allclose(ds["sigma0"].sel(region=3, polarization="VH"), 4.0)
    np.testing.assert_allclose(ds["soil_moisture"].sel(region=1), 4.0 / 50.0)
    np.testing.assert_allclose(ds["reflectance"].sel(region=1, band="B8A"), (5 + BANDS.index("B8A")) * 1e-4, rtol=1e-6)
    assert "nominal" in ds["soil_moisture"].attrs["conversion"]
    assert str(ds["time"].values[1])[:10] == "2019-01-11"
    check_dataset(ds, who="test", require=("sigma0", "soil_moisture"), check_values=False)


def test_a_region_without_radar_stays_missing_and_is_reported(tmp_path):
    paths = [write_region(tmp_path, 1), write_region(tmp_path, 2, radar=False)]
    ds = open_conus_patches(paths, catalog_id="x")
    assert json.loads(ds.attrs["regions_without_sentinel1"]) == [2]
    assert ds["sigma0"].sel(region=2).isnull().all()
    assert json.loads(ds.attrs["missing_fraction"])["sigma0"] == 0.5
    assert ds["soil_moisture"].notnull().all()


def test_choice_of_the_period(tmp_path):
    paths = [write_region(tmp_path, k) for k in (1, 2, 3)]
    ds = open_conus_patches(paths, catalog_id="x", start="2019-01-11", end="2019-01-11")
    assert ds["region"].values.tolist() == [1, 2, 3]
    assert ds.sizes["time"] == 1
    with pytest.raises(CatalogError, match="no window in the period"):
        open_conus_patches(paths, catalog_id="x", start="2030-01-01")


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FormatError, match=r"region_01.nc\): 'ssm' has other units; got 'm3 m-3'"):
        open_conus_patches([write_region(tmp_path, 1, units={"ssm": "m3 m-3"})], catalog_id="x")
    with pytest.raises(FormatError, match="'B10' is absent"):
        open_conus_patches([write_region(tmp_path, 1, skip=("B10",))], catalog_id="x")
    pair = [write_region(tmp_path, 1), write_region(tmp_path, 2, first_day=5)]
    with pytest.raises(FormatError, match="region 2 has another size or other times"):
        open_conus_patches(pair, catalog_id="x")
    (tmp_path / "region_09.nc").write_bytes(b"CDF truncated")
    with pytest.raises(FormatError, match=r"region_09.nc\): the file is unreadable"):
        open_conus_patches([tmp_path / "region_09.nc"], catalog_id="x")
    (tmp_path / "other.nc").write_bytes(b"")
    with pytest.raises(FormatError, match="name is not of this product"):
        open_conus_patches([tmp_path / "other.nc"], catalog_id="x")
    with pytest.raises(CatalogError, match="no file was given"):
        open_conus_patches([], catalog_id="x")


def test_real_regions(shared_samples):
    paths = sorted((shared_samples / "conus_s1s2smap_2019_2021").glob("region_*.nc"))
    ds = open_conus_patches(paths, catalog_id="conus_s1s2smap")
    assert dict(ds.sizes) == {"region": 8, "time": 109, "polarization": 2, "y": 7, "x": 7, "band": 13}
    assert json.loads(ds.attrs["regions_without_sentinel1"]) == [2]
    check_dataset(ds, who="test", check_values=True)
    with netCDF4.Dataset(paths[-1]) as file:
        np.testing.assert_allclose(ds["soil_moisture"][-1], file["ssm"][:].filled(np.nan) / 50, rtol=1e-6)
        np.testing.assert_allclose(ds["sigma0"][-1, :, 0], file["VV"][:].filled(np.nan))
        np.testing.assert_allclose(ds["reflectance"][-1, :, 8], file["B8A"][:].filled(np.nan) * 1e-4, rtol=1e-6)
    assert float(ds["soil_moisture"].max()) == pytest.approx(25.4 / 50)  # saturated, see method 5.5
