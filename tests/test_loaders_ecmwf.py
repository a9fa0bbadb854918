"""ECMWF soil water: self-written files in the old and the new form, and real ERA5-Land files."""

from __future__ import annotations

import json
import warnings

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr

from smnb.contract import CatalogError, ContractError, FormatError, ParameterError, check_dataset
from smnb.loaders.ecmwf import daily_mean, open_swvl1, open_swvl1_points
from smnb_sandbox.truth import open_truth

LAT = np.array([60.0, 0.0, -60.0])
LON = np.array([0.0, 90.0, 180.0, 270.0])


def write_old(path, hours, values, *, units="m**3 m**-3", lat=LAT, lon=LON, packed=True, name="swvl1"):
    """ERA-Interim as MARS writes it: packed int16, north first, 0..360; hours since 2011-07-01."""
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET") as file:
        for dim, axis in (("longitude", lon), ("latitude", lat)):
            file.createDimension(dim, len(axis))
            variable = file.createVariable(dim, "f4", (dim,))
            variable.units = "degrees_east" if dim == "longitude" else "degrees_north"
            variable[:] = axis
        file.createDimension("time", None)
        time = file.createVariable("time", "i4", ("time",))
        time.units, time.calendar = "hours since 2011-07-01 00:00:0.0", "gregorian"
        time[:] = hours
        dims = ("time", "latitude", "longitude")
        if packed:
            variable = file.createVariable(name, "i2", dims, fill_value=-32767)
            variable.missing_value = np.int16(-32767)
            variable.scale_factor, variable.add_offset = 1e-5, 0.3
        else:
            variable = file.createVariable(name, "f4", dims)
        variable.units = units
        variable.long_name = "Volumetric soil water layer 1"
        values = np.asarray(values, dtype="f8")
        variable[:] = np.ma.masked_where(np.isnan(values), np.nan_to_num(values)) if packed else values
    return path


def write_new(path, times, values, *, expver=None, number=None, missing=None):
    """The newer Climate Data Store's form: valid_time, expver along it or as a dimension, number, an unrelated time."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("valid_time", len(times))
        file.createDimension("latitude", 3)
        file.createDimension("longitude", 4)
        file.createDimension("time", 1)
        for dim, axis in (("latitude", LAT), ("longitude", LON - 180)):
            file.createVariable(dim, "f8", (dim,))[:] = axis
        time = file.createVariable("valid_time", "i8", ("valid_time",))
        time.units = "seconds since 1970-01-01"
        time[:] = np.asarray(times, "datetime64[s]").astype("int64")
        other = file.createVariable("time", "i4", ("time",))
        other.units = "hours since 1900-01-01"
        other[:] = 998520
        file.createVariable("lsm", "f8", ("time", "latitude", "longitude"))[:] = 1.0
        dims = ["valid_time", "latitude", "longitude"]
        coordinates = ["valid_time"]
        if expver is not None and np.ndim(values) == 4:
            file.createDimension("expver", len(expver))
            file.createVariable("expver", "i4", ("expver",))[:] = expver
            dims.insert(1, "expver")
        elif expver is not None:
            file.createVariable("expver", str, ("valid_time",))[:] = np.asarray(expver, object)
            coordinates.append("expver")
        if number is not None:
            file.createDimension("number", number)
            file.createVariable("number", "i4", ("number",))[:] = np.arange(number)
            dims.insert(0, "number")
        variable = file.createVariable("swvl1", "f4", dims, fill_value=np.float32(np.nan))
        variable.units = "m**3 m**-3"
        variable.coordinates = " ".join(coordinates)
        values = np.array(values, "f4")
        if missing is not None:
            values[missing] = 3.4028235e38
        variable[:] = values
    return path


def ramp(n_time, base=0.1):
    """Values that tell every cell and time apart: base + 0.01 time + 0.001 row + 0.0001 column."""
    t, y, x = np.ogrid[:n_time, :3, :4]
    return base + 0.01 * t + 0.001 * y + 0.0001 * x


def days(*stamps):
    return np.array(stamps, "datetime64[s]")


def test_old_form_is_unpacked_and_oriented(tmp_path):
    ds = open_swvl1([write_old(tmp_path / "a.nc", [0, 6, 12, 18], ramp(4))], catalog_id="era_interim_swvl1")
    sm = ds["soil_moisture"]
    assert sm.dims == ("time", "lat", "lon")
    assert sm.dtype == np.float32
    assert sm.chunks is not None
    assert ds["lat"].values.tolist() == [-60.0, 0.0, 60.0]
    assert ds["lon"].values.tolist() == [-180.0, -90.0, 0.0, 90.0]
    assert str(ds["time"].values[-1])[:13] == "2011-07-01T18"
    np.testing.assert_allclose(sm.sel(lat=60, lon=90), ramp(4)[:, 0, 1], atol=1e-5)
    np.testing.assert_allclose(sm.sel(lat=-60, lon=-180), ramp(4)[:, 2, 2], atol=1e-5)
    assert sm.attrs["units"] == "m3 m-3"
    assert sm.attrs["native_units"] == "m**3 m**-3"
    assert ds.attrs["synthetic"] == 0
    check_dataset(ds, who="test", require=("soil_moisture",), check_values=True)


def test_new_form_ignores_the_unrelated_time_and_grib_missing(tmp_path):
    times = days("2020-01-01T00", "2020-01-01T01")
    path = write_new(tmp_path / "n.nc", times, ramp(2), expver=["0001", "0005"], missing=(0, 0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = open_swvl1([path], catalog_id="x", synthetic=True)
    np.testing.assert_array_equal(ds["time"].values, times)
    assert np.isnan(ds["soil_moisture"].sel(lat=60, lon=-180)[0])
    assert int(ds["soil_moisture"].isnull().sum()) == 1
    assert ds.attrs["preliminary"] == 1
    assert ds.attrs["synthetic"] == 1


def test_expver_dimension_is_merged_final_first(tmp_path):
    times = days("2020-01-01T00", "2020-01-01T01")
    both = np.stack([ramp(2, 0.3), ramp(2, 0.1)], axis=1)  # stored as 5, 1
    both[1, 1] = np.nan  # no final version of the second hour
    ds = open_swvl1([write_new(tmp_path / "e.nc", times, both, expver=[5, 1])], catalog_id="x")
    np.testing.assert_allclose(ds["soil_moisture"][0].sortby("lat", ascending=False), ramp(2, 0.1)[0], atol=1e-6)
    np.testing.assert_allclose(ds["soil_moisture"][1].sortby("lat", ascending=False), ramp(2, 0.3)[1], atol=1e-6)


HOURS = ("valid_time", np.arange(4), {"units": "hours since 2024-01-01"})


def store_form(path, expver=None, time=HOURS, **options):
    """A file of the new store, 4 times of 2 x 2 cells, 0.20 to 0.23: expver as (dims, values), time as (name, values, attrs)."""
    name, stamps, attrs = time
    values = np.broadcast_to(np.float32([0.2, 0.21, 0.22, 0.23])[:, None, None], (4, 2, 2))
    data = xr.Dataset({"swvl1": ((name, "latitude", "longitude"), values, {"units": "m**3 m**-3"})})
    data = data.assign_coords(
        {name: (name, stamps, attrs), "latitude": [1.0, 0.0], "longitude": [5.0, 6.0], "number": 0}
    )
    if expver is not None:
        data["expver"] = expver
    encoding = {"expver": {"dtype": "S1"}} if options.pop("characters", False) else {}
    data.to_netcdf(path, encoding=encoding, **options)
    return path


FOUR, COUNTS = ["0001", "0001", "0005", "0005"], {"1": 2, "5": 2}


@pytest.mark.parametrize(
    ("values", "options", "counts"),
    [
        (np.array(FOUR), {}, COUNTS),
        (np.array(FOUR), {"characters": True}, COUNTS),
        (np.array(FOUR, "S4"), {"format": "NETCDF3_64BIT"}, COUNTS),
        (np.array(list("1155"), "S1"), {"format": "NETCDF4_CLASSIC"}, COUNTS),
        (np.array(["b'0001'", "1", "0005 ", "5.0"], object), {}, COUNTS),
        (np.array([1, 1, 5, 5], "int32"), {}, COUNTS),
        (np.array([1.0, np.nan, 5.0, 5.0]), {}, {"1": 1, "5": 2, "not stated": 1}),
        (np.array(["", "0001", "0005", ""], object), {}, {"1": 1, "5": 1, "not stated": 2}),
        (np.array(["", "", "", ""], object), {}, None),
        (np.array([b"", b"", b"", b""], "S4"), {"format": "NETCDF3_64BIT"}, None),
        (np.full(4, -2147483647, "int32"), {}, None),
        (np.array(["0001", "hqh9", "0001", "0001"], object), {}, {"1": 3, "hqh9": 1}),
    ],
)
def test_versions_in_every_type_of_the_new_store(tmp_path, values, options, counts):
    path = store_form(tmp_path / "v.nc", ("valid_time", values), **options)
    ds = open_swvl1([path])
    np.testing.assert_allclose(ds["soil_moisture"][:, 0, 0], [0.2, 0.21, 0.22, 0.23], atol=1e-6)
    assert json.loads(ds.attrs.get("expver", "null")) == counts
    assert ds.attrs["preliminary"] == int(not set(counts or ()) <= {"1", "not stated"})
    early = open_swvl1([path], end="2024-01-01T00:00")  # ERA5T outside the period is not among the data
    assert early.attrs["preliminary"] == 0


@pytest.mark.parametrize("value", ["0005", b"0005", 5])
def test_one_version_of_all_times(tmp_path, value):
    ds = open_swvl1([store_form(tmp_path / "v.nc", ((), np.array(value)))])
    assert (ds.attrs["preliminary"], json.loads(ds.attrs["expver"])) == (1, {"5": 4})


@pytest.mark.parametrize("names", [[5, 1], ["0005", "0001"], [b"0005", b"0001"], ["", "0001"]])
def test_a_dimension_of_versions_counts_what_each_time_took(tmp_path, names):
    both = np.full((3, 2, 2, 2), 0.3, "float32")
    both[:, 1] = 0.1
    both[2, 1] = np.nan
    dims = ("valid_time", "expver", "latitude", "longitude")
    coords = {
        "valid_time": days("2024-01-01", "2024-01-02", "2024-01-03"),
        "latitude": [1.0, 0.0],
        "longitude": [5.0, 6.0],
    }
    data = xr.Dataset({"swvl1": (dims, both, {"units": "m**3 m**-3"})}, {**coords, "expver": np.array(names)})
    data.to_netcdf(tmp_path / "d.nc")
    ds = open_swvl1([tmp_path / "d.nc"])
    np.testing.assert_allclose(ds["soil_moisture"][:, 0, 0], [0.1, 0.1, 0.3], atol=1e-6)
    assert json.loads(ds.attrs["expver"]) == {"1": 2, "5" if names[0] else "not stated": 1}
    assert open_swvl1([tmp_path / "d.nc"], end="2024-01-02").attrs["preliminary"] == 0
    data.assign_coords(expver=[1, 1]).to_netcdf(tmp_path / "same.nc")
    with pytest.raises(FormatError, match=r"same.nc\): the versions of 'swvl1' cannot be told apart; got \['1', '1'\]"):
        open_swvl1([tmp_path / "same.nc"])


MONTHS = days("2011-07-01", "2011-08-01", "2011-12-01", "2012-01-01")


@pytest.mark.parametrize("name", ["valid_time", "time", "date"])
@pytest.mark.parametrize(
    ("values", "units", "expected"),
    [
        (np.array([201107, 201108, 201112, 201201]), None, MONTHS),
        (np.array([20110701, 20110801, 20111201, 20120101]), None, MONTHS),
        (np.array([201107, 201108, 201112, 201201], "float32"), "month as %Y%m.%f", MONTHS),
        (np.array([20110701.0, 20110801, 20111201, 20120101]), "1", MONTHS),
        (np.array([2011070100, 2011080100, 2011120100, 2012010100]), None, MONTHS),
        (np.array(["201107", "201108", "201112", "201201"]), None, MONTHS),
        (np.array(["2011-07-01", "2011-08-01", "2011-12-01", "2012-01-01"]), None, MONTHS),
        (
            np.array([20110701, 20110701.25, 20110701.5, 20110701.75]),
            "day as %Y%m%d.%f",
            days("2011-07-01T00", "2011-07-01T06", "2011-07-01T12", "2011-07-01T18"),
        ),
    ],
)
def test_dates_written_as_numbers(tmp_path, name, values, units, expected):
    path = store_form(tmp_path / "m.nc", time=(name, values, {"units": units} if units else {}))
    ds = open_swvl1([path])
    np.testing.assert_array_equal(ds["time"].values, expected)
    np.testing.assert_allclose(ds["soil_moisture"][:, 0, 0], [0.2, 0.21, 0.22, 0.23], atol=1e-6)


@pytest.mark.parametrize(
    ("values", "units"),
    [
        (np.array([0, 1, 2, 3]), None),
        (np.array([201107, 201108, 201113, 201201]), None),
        (np.array([201107, 20110801, 201112, 201201]), None),
        (np.array([20110701, 20110703, 20110705, 20110707], "float32"), None),
        (np.array([201107.0, 201108.5, 201112, 201201]), None),
        (np.array([201107.0, np.nan, 201112, 201201]), None),
        (np.array([20110701, 20110801, 20111201, 20120101]), "hours"),
        (np.array([201107, 201108, 201112, 201201]), "hours since 1900-01-01"),
        (np.array([20110701, 20110801, 20111201, 20120101]), "days since 1900-01-01"),
        (np.array(["July", "August", "December", "January"]), None),
    ],
)
def test_numbers_that_are_no_dates_are_refused(tmp_path, values, units):
    path = store_form(tmp_path / "m.nc", time=("valid_time", values, {"units": units} if units else {}))
    with pytest.raises(
        FormatError, match=r"m.nc\): 'valid_time' is no time of the standard calendar: .*expected 2011-07-01"
    ):
        open_swvl1([path])


def test_valid_time_without_its_attribute_and_as_a_scalar(tmp_path):
    stamps = days("2024-01-01", "2024-01-02")
    values = np.full((2, 1, 1, 2, 2), 0.2, "float32")
    dims = ("time", "step", "number", "latitude", "longitude")
    axes = {"latitude": [1.0, 0.0], "longitude": [5.0, 6.0], "number": [0], "step": [0]}
    data = xr.Dataset({"swvl1": (dims, values, {"units": "m**3 m**-3"})}, {**axes, "time": stamps})
    data["valid_time"] = (("time", "step"), (stamps + np.timedelta64(6, "h"))[:, None])
    data["expver"] = ("time", np.array(["0001", "0005"]))
    data.to_netcdf(tmp_path / "cfgrib.nc")  # neither is named by an attribute 'coordinates'
    ds = open_swvl1([tmp_path / "cfgrib.nc"])
    np.testing.assert_array_equal(ds["time"].values, stamps + np.timedelta64(6, "h"))
    assert (ds.attrs["preliminary"], json.loads(ds.attrs["expver"])) == (1, {"1": 1, "5": 1})
    one = data.isel(time=0, step=0, number=0).drop_vars("time")
    one.to_netcdf(tmp_path / "scalar.nc")
    assert open_swvl1([tmp_path / "scalar.nc"])["time"].values.tolist() == ds["time"].values[:1].tolist()


def test_one_ensemble_member_is_squeezed_and_several_are_refused(tmp_path):
    times = days("2020-01-01T00")
    ds = open_swvl1([write_new(tmp_path / "m.nc", times, ramp(1)[None], number=1)], catalog_id="x")
    assert ds["soil_moisture"].shape == (1, 3, 4)
    two = write_new(tmp_path / "mm.nc", times, np.stack([ramp(1)] * 2), number=2)
    with pytest.raises(FormatError, match="dimension 'number' of size 2"):
        open_swvl1([two], catalog_id="x")


def test_files_are_sorted_and_overlaps_kept_once(tmp_path):
    late = write_old(tmp_path / "a.nc", [12, 18, 24], ramp(5)[2:])
    early = write_old(tmp_path / "b.nc", [6, 0, 12], ramp(5)[[1, 0, 2]])  # unsorted inside as well
    ds = open_swvl1([late, early], catalog_id="x")
    hours = (ds["time"].values - np.datetime64("2011-07-01")) / np.timedelta64(1, "h")
    assert hours.tolist() == [0, 6, 12, 18, 24]
    np.testing.assert_allclose(ds["soil_moisture"].sel(lat=60, lon=0), ramp(5)[:, 0, 0], atol=1e-5)
    assert "1 repeated" in ds.attrs["history"]


def test_conflicting_overlap_is_an_error(tmp_path):
    one = write_old(tmp_path / "a.nc", [0, 6], ramp(2))
    other = write_old(tmp_path / "b.nc", [6, 12], ramp(2, base=0.2))
    with pytest.raises(ContractError, match=r"1 times occur twice with different values; got '2011-07-01T06"):
        open_swvl1([one, other], catalog_id="x")


def test_different_grids_are_refused(tmp_path):
    one = write_old(tmp_path / "a.nc", [0], ramp(1))
    other = write_old(tmp_path / "b.nc", [6], ramp(1), lat=LAT + 0.5)
    with pytest.raises(ContractError, match="different grids"):
        open_swvl1([one, other], catalog_id="x")


@pytest.mark.parametrize("units", ["kg m**-2", "%", "", "m"])
def test_other_units_are_named(tmp_path, units):
    path = write_old(tmp_path / "a.nc", [0], ramp(1), units=units)
    with pytest.raises(FormatError, match=rf"a.nc\): 'swvl1' has other units; got '{units.replace('*', '.')}'"):
        open_swvl1([path], catalog_id="x")
    assert open_swvl1([write_old(tmp_path / "b.nc", [0], ramp(1), units="m3 m-3")], catalog_id="x")


def test_noise_is_clipped_and_nonsense_masked_with_counts(tmp_path):
    values = ramp(2)
    values[0, 0, :3] = [-1e-20, -0.009, -0.02]
    values[1, 1, :2] = [1.5, np.nan]
    path = write_old(tmp_path / "a.nc", [0, 6], values, packed=False)
    sm = open_swvl1([path], catalog_id="x")["soil_moisture"]
    assert sm.attrs["clipped_to_zero"] == 2
    assert json.loads(sm.attrs["masked_by"]) == {"above_range": 1, "below_range": 1}
    assert sm.sel(lat=60, lon=0).values[0] == 0.0
    assert sm.sel(lat=60, lon=90).values[0] == 0.0
    assert int(sm.isnull().sum()) == 3


def test_period_and_box(tmp_path):
    path = write_old(tmp_path / "a.nc", np.arange(0, 72, 6), ramp(12))
    ds = open_swvl1([path], catalog_id="x", start="2011-07-02", end="2011-07-02")
    assert ds.sizes["time"] == 4
    assert open_swvl1([path], catalog_id="x", end="2011-07-01T06:00").sizes["time"] == 2
    box = open_swvl1([path], catalog_id="x", bbox=(-10, -10, 100, 70))
    assert box["lat"].values.tolist() == [0.0, 60.0]
    assert box["lon"].values.tolist() == [0.0, 90.0]
    across = open_swvl1([path], catalog_id="x", bbox=(80, -90, -100, 90))
    assert across["lon"].values.tolist() == [-180.0, 90.0]
    with pytest.raises(CatalogError, match="no analysis in the period"):
        open_swvl1([path], catalog_id="x", start="2012-01-01")
    with pytest.raises(ContractError, match="does not overlap"):
        open_swvl1([path], catalog_id="x", bbox=(10, 10, 20, 20))
    with pytest.raises(ParameterError, match="bbox"):
        open_swvl1([path], catalog_id="x", bbox=(0, 10, 20))
    with pytest.raises(ParameterError, match="bbox"):
        open_swvl1([path], catalog_id="x", bbox=(190, 0, 200, "north"))
    with pytest.raises(ParameterError, match="ends before it starts"):
        open_swvl1([path], catalog_id="x", start="2011-07-02", end="2011-07-01")
    with pytest.raises(ParameterError, match="'start' is not an ISO date"):
        open_swvl1([path], catalog_id="x", start="first of July")


@pytest.mark.parametrize("expver", [None, [1, 5]])
def test_text_is_no_soil_moisture(tmp_path, expver):
    path, times = tmp_path / "era5.nc", days("2020-01-01T00", "2020-01-01T06")
    write_new(path, times, ramp(2) if expver is None else np.stack([ramp(2), ramp(2)], axis=1), expver=expver)
    with h5py.File(path, "r+") as file:
        shape, attributes = file["swvl1"].shape, {name: file["swvl1"].attrs[name] for name in ("units", "coordinates")}
        scales = [file["swvl1"].dims[n][0] for n in range(len(shape))]
        del file["swvl1"]
        file.create_dataset("swvl1", shape, dtype=h5py.string_dtype()).attrs.update(attributes)
        for n, scale in enumerate(scales):
            file["swvl1"].dims[n].attach_scale(scale)
    with pytest.raises(FormatError, match=r"era5\.nc.*'swvl1' holds no numbers"):
        open_swvl1([path], catalog_id="x")


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "t.nc").write_bytes(write_new(tmp_path / "n.nc", days("2020-01-01"), ramp(1)).read_bytes()[:3000])
    with pytest.raises(FormatError, match=r"t.nc\): the file is unreadable"):
        open_swvl1([tmp_path / "t.nc"], catalog_id="x")
    classic = write_old(tmp_path / "c.nc", [0, 6, 12], ramp(3))
    classic.write_bytes(classic.read_bytes()[:-30])
    with pytest.raises(FormatError, match=r"c.nc\): the file is unreadable"):
        open_swvl1([classic], catalog_id="x")
    (tmp_path / "h.nc").write_bytes(b"<html>log in</html>")
    with pytest.raises(FormatError, match="login page"):
        open_swvl1([tmp_path / "h.nc"], catalog_id="x")
    (tmp_path / "g.nc").write_bytes(b"GRIB\x00\x00\x00\x01" + bytes(100))
    with pytest.raises(FormatError, match=r"g.nc\): the file is GRIB"):
        open_swvl1([tmp_path / "g.nc"], catalog_id="x")
    with pytest.raises(FormatError, match="no variable 'swvl1'"):
        open_swvl1([write_old(tmp_path / "v.nc", [0], ramp(1), name="swvl2")], catalog_id="x")
    with pytest.raises(CatalogError, match="no such file"):
        open_swvl1([tmp_path / "absent.nc"], catalog_id="x")


def test_daily_mean_counts_and_keeps_incomplete_days(tmp_path):
    values = ramp(6)
    values[1, 0, 0] = np.nan
    path = write_old(tmp_path / "a.nc", [0, 6, 12, 18, 48, 54], values)
    ds = open_swvl1([path], catalog_id="x")
    for source in (ds, ds.load()):
        mean = daily_mean(source)
        assert [str(t)[:10] for t in mean["time"].values] == ["2011-07-01", "2011-07-03"]
        assert mean["n_analyses"].values.tolist() == [4, 2]
        np.testing.assert_allclose(mean["soil_moisture"].sel(lat=0, lon=90)[0], values[:4, 1, 1].mean(), atol=1e-5)
        np.testing.assert_allclose(mean["soil_moisture"].sel(lat=60, lon=0)[0], np.nanmean(values[:4, 0, 0]), atol=1e-5)
        assert mean["soil_moisture"].dtype == np.float32
        assert mean["soil_moisture"].dims == ("time", "lat", "lon")
    with pytest.raises(ContractError, match="soil_moisture"):
        daily_mean(ds.rename(soil_moisture="sm"))


def test_real_era5_land(shared_samples):
    path = next((shared_samples / "smap_e_west_australia").glob("ERA5_*.nc"))
    ds = open_swvl1([path], catalog_id="era5_land_swvl1")
    with netCDF4.Dataset(path) as file:
        stored = file["swvl1"][:].filled(np.nan)
        negative = int((stored < 0).sum())
    assert ds["soil_moisture"].attrs["clipped_to_zero"] == negative > 0
    np.testing.assert_allclose(ds["soil_moisture"].values[:, ::-1], stored.clip(0))
    assert dict(ds.sizes) == {"time": 744, "lat": 51, "lon": 61}
    mean = daily_mean(ds)
    np.testing.assert_allclose(mean["soil_moisture"][30, ::-1], stored[720:].clip(0).mean(axis=0), rtol=1e-5, atol=1e-7)
    check_dataset(mean, who="test", check_values=True)


def test_real_points_at_hawaii(shared_samples):
    folder = shared_samples / "hawaii_timeseries" / "ERA5_LAND" / "ERA5_LAND_V20190904"
    ds = open_swvl1_points(sorted(folder.glob("*.nc")), catalog_id="era5_land_points")  # grid.nc is passed over
    assert dict(ds.sizes) == {"location": 71 + 65, "time": 730}
    assert str(ds["time"].values[0])[:13] == "2017-01-01T06"
    near = open_swvl1_points(
        sorted(folder.glob("01*.nc")), catalog_id="x", near=(19.52, -155.49), start="2017-02-01", end="2017-02-03"
    )
    assert near["lat"].values.tolist() == [pytest.approx(19.5)]
    assert near["distance_km"].values[0] == pytest.approx(2.46, abs=0.1)  # .02 deg north, .01 deg east
    with netCDF4.Dataset(folder / "0165.nc") as file:
        row = int(np.flatnonzero(file["location_id"][:] == near["location_id"].values[0])[0])
        np.testing.assert_allclose(near["soil_moisture"][0], file["swvl1"][row, 31:34])
    with pytest.raises(CatalogError, match="no location is near enough"):
        open_swvl1_points([folder / "0165.nc"], catalog_id="x", near=(45.0, 7.0))
    with pytest.raises(CatalogError, match=r"only the lookup table"):
        open_swvl1_points([folder / "grid.nc"], catalog_id="x")
    with pytest.raises(FormatError, match="a location occurs twice"):
        open_swvl1_points([folder / "0165.nc", folder / "0165.nc"], catalog_id="x")


def write_truth(path, first_day, *, skip=()):
    names = {
        "soil_moisture": "m3 m-3",
        "clay_fraction": "1",
        "sand_fraction": "1",
        "vegetation_water_content": "kg m-2",
        "surface_temperature": "K",
    }
    with netCDF4.Dataset(path, "w") as file:
        for dim, axis in (("time", np.arange(2) + first_day), ("lat", [-0.5, 0.5]), ("lon", [10.0, 11.0])):
            file.createDimension(dim, 2)
            file.createVariable(dim, "f8", (dim,))[:] = axis
        file["time"].units = "days since 2011-07-01"
        for name, units in names.items():
            if name not in skip:
                dims = ("lat", "lon") if "fraction" in name else ("time", "lat", "lon")
                variable = file.createVariable(name, "f4", dims)
                variable.units = units
                variable[:] = 0.25
    return path


def test_truth_is_joined_and_always_synthetic(tmp_path):
    paths = [write_truth(tmp_path / "truth_2.nc", 2), write_truth(tmp_path / "truth_1.nc", 0)]
    ds = open_truth(paths, catalog_id="sandbox_truth", synthetic=False)
    assert ds.attrs["synthetic"] == 1
    assert ds.sizes["time"] == 4
    assert ds["clay_fraction"].dims == ("lat", "lon")
    assert ds["surface_temperature"].dims == ("time", "lat", "lon")
    assert open_truth(paths, catalog_id="x", start="2011-07-02", end="2011-07-02").sizes["time"] == 1
    with pytest.raises(FormatError, match=r"bad.nc\): variables \['clay_fraction'\] are missing; got"):
        open_truth([write_truth(tmp_path / "bad.nc", 0, skip=("clay_fraction",))], catalog_id="x")
    with pytest.raises(ContractError, match="not unique"):
        open_truth([paths[0], paths[0]], catalog_id="x")
