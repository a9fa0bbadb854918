"""Regional patches: self-written files, and the real ones read independently with netCDF4."""

from __future__ import annotations

import json

import netCDF4
import numpy as np
import pandas as pd
import pytest

from smnb.contract import CatalogError, FormatError, check_dataset, count_masked
from smnb.loaders.conus import BANDS, open_conus_patches, open_station_table


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
            sign = -1.0 if name in ("VV", "VH") else 1.0
            variable[:] = np.nan if not radar and name in ("VV", "VH", "angle") else sign * value * (k + 1)
    return path


def test_names_units_and_conversions(tmp_path):
    paths = [write_region(tmp_path, 3, value=2.0), write_region(tmp_path, 1)]
    ds = open_conus_patches(paths, catalog_id="conus_s1s2smap")
    assert ds["region"].values.tolist() == [1, 3]
    assert ds["sigma0"].dims == ("region", "time", "polarization", "y", "x")
    assert ds["reflectance"].dims == ("region", "time", "band", "y", "x")
    # the writer gives the k-th variable the value k + 1 (times 2 for region 3)
    np.testing.assert_allclose(ds["sigma0"].sel(region=3, polarization="VH"), -4.0)
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


def test_numbers_that_are_no_data_are_masked_and_counted(tmp_path):
    path = write_region(tmp_path, 1)
    with netCDF4.Dataset(path, "a") as file:
        for name in ("VV", "VH", "angle", "B3", "ssm"):
            file[name][0, 0, 0] = 0.0
        file["VV"][1, 0, 0] = -np.inf
        file["B10"][2, 1, 1] = -500.0  # an offset was taken off twice: the other bands are as wrong
        file["ssm"][2, 1, 1] = 255.0
    ds = open_conus_patches([path], catalog_id="x")
    assert count_masked(ds["sigma0"]) == {"fill": 3}
    assert count_masked(ds["incidence_angle"]) == {"fill": 1}
    assert count_masked(ds["reflectance"]) == {"fill": 1, "out_of_range": 13}
    assert count_masked(ds["soil_moisture"]) == {"fill": 1, "out_of_range": 1}
    assert int(ds["sigma0"].isnull().sum()) == 3
    assert ds["reflectance"][0, 2, :, 1, 1].isnull().all()
    with netCDF4.Dataset(path, "a") as file:
        file["B10"][:] = 1020.0
    with pytest.raises(FormatError, match="offset of 1000 was not taken off at region '1', before 2022-01-25"):
        open_conus_patches([path], catalog_id="x")


def station_table(**changes) -> pd.DataFrame:
    native = {
        "VV": -12.0,
        "VH": -20.0,
        "angle": 38.0,
        **dict.fromkeys(BANDS, 1500.0),
        "B10": 20.0,
        "ssm": 10.0,
        "fc": 20.0,
    }
    native |= {"mtpi": 0.0, "soil_moisture_insitu": 0.2, "landcover": 71.0}
    start = pd.date_range("2019-01-01", periods=10, freq="10D")
    place = {"network": "NET", "station": "A", "lat": 36.0, "lon": -98.0}
    return pd.DataFrame({**place, "start": start, "end": start + pd.Timedelta("10D"), **native, **changes})


def test_fills_in_a_table_of_stations_are_masked_and_counted(tmp_path):
    rows = station_table()
    rows.loc[2, ["VV", "VH", "angle", "ssm"]] = 0.0
    rows.loc[3, ["soil_moisture_insitu", "B8"]] = [-9999.0, 0.0]
    rows.loc[4, "soil_moisture_insitu"] = 0.0  # a dry probe's own value
    rows.to_csv(tmp_path / "t.csv", index=False)
    found = open_station_table([tmp_path / "t.csv"])
    names = ("VV", "VH", "angle", "B8", "ssm", "soil_moisture_insitu")
    assert found.report["masked"] == {name: {"fill": 1} for name in names}
    assert found.table.loc[2, ["sigma0_VV", "sigma0_VH", "incidence_angle", "smap"]].isna().all()
    assert found.table["soil_moisture"].isna().tolist() == [i == 3 for i in range(10)]
    for changes, said in (
        ({"soil_moisture_insitu": 20.0}, "'soil_moisture_insitu' cannot be in m3 m-3"),
        ({"VV": 0.06, "VH": 0.01}, "'VV' at station 'NET__A' is not in dB"),
        ({"B10": 1020.0}, "offset of 1000 was not taken off at station 'NET__A'"),
    ):
        station_table(**changes).to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(FormatError, match=said):
            open_station_table([tmp_path / "t.csv"])


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
    assert all(count_masked(array) == {} for array in ds.data_vars.values())
    with netCDF4.Dataset(paths[-1]) as file:
        np.testing.assert_allclose(ds["soil_moisture"][-1], file["ssm"][:].filled(np.nan) / 50, rtol=1e-6)
        np.testing.assert_allclose(ds["sigma0"][-1, :, 0], file["VV"][:].filled(np.nan))
        np.testing.assert_allclose(ds["reflectance"][-1, :, 8], file["B8A"][:].filled(np.nan) * 1e-4, rtol=1e-6)
    assert float(ds["soil_moisture"].max()) == pytest.approx(25.4 / 50)  # saturated, see method 5.5
