"""Point series of coarse products: self-written cell files against what was written, and the real ones of Hawaii."""

from __future__ import annotations

import json

import netCDF4
import numpy as np
import pytest

from smnb.contract import CatalogError, FormatError, ParameterError, check_dataset
from smnb.grids import great_circle_km
from smnb.loaders.points import open_gldas_points, open_smap_l3_points, smap_quality_mask

EPOCH = np.datetime64("2000-01-01T12:00:00", "ns")


def times(days) -> np.ndarray:
    return np.datetime64("2017-01-01", "ns") + (np.asarray(days) * 86400e9).astype("timedelta64[ns]")


def write_smap(
    path,
    *,
    index,
    days,
    moisture,
    flags,
    overpass,
    lat=(10.0, 11.0),
    lon=(-155.0, 200.0),
    number=(7, 9),
    units="cm**3/cm**3",
    leave_out=(),
):
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", len(days))
        file.createDimension("locations", len(lat))

        def put(name, values, dtype, dim="time", fill=None, **attrs):
            if name not in leave_out:
                variable = file.createVariable(name, dtype, (dim,), fill_value=fill)
                variable.setncatts(attrs)
                variable[:] = values

        put("time", (times(days) - EPOCH) / np.timedelta64(1, "s"), "f8", units="seconds since 2000-01-01 12:00:00")
        put("lat", lat, "f4", "locations")
        put("lon", lon, "f4", "locations")
        put("location_id", number, "i8", "locations")
        put("locationIndex", index, "i8")
        put("soil_moisture", moisture, "f4", fill=-9999.0, units=units)
        put("retrieval_qual_flag", flags, "u2", fill=65534)
        put("surface_flag", np.full(len(days), 512), "u2", fill=65534)
        put("Overpass", overpass, "i8", fill=-9999)
    return path


GOOD = {
    "index": [1, 0, 0, 1, 0],
    "days": [3.2, 1.7, 0.2, 1.7, 5.2],
    "moisture": [0.3, 0.2, 0.1, -9999.0, 0.5],
    "flags": [0, 9, 8, 15, 13],
    "overpass": [1, 2, 1, 2, 1],
}


def open_smap(path, **options):
    return open_smap_l3_points([path], catalog_id="smap_l3_points", **options)


def test_smap_puts_each_overpass_at_its_location_and_time(tmp_path):
    dataset = open_smap(write_smap(tmp_path / "0001.nc", **GOOD), quality="all")
    check_dataset(dataset, who="test", require=("soil_moisture",), check_values=True)
    np.testing.assert_array_equal(dataset["time"].values, times([0.2, 1.7, 3.2, 5.2]))
    nan = np.nan
    np.testing.assert_allclose(dataset["soil_moisture"], [[0.1, 0.2, nan, 0.5], [nan, nan, 0.3, nan]])
    assert dataset["soil_moisture"].dtype == np.float32
    assert dataset["retrieval_qual_flag"].values.tolist() == [[8, 9, 65534, 13], [65534, 15, 0, 65534]]
    assert dataset["overpass"].values.tolist() == [[1, 2, 0, 1], [0, 2, 1, 0]]
    assert dataset["surface_flag"].dtype == np.uint16
    np.testing.assert_allclose(dataset["lon"], [-155.0, -160.0])
    assert dataset["location_id"].values.tolist() == [7, 9]


def test_smap_quality_and_overpass(tmp_path):
    path = write_smap(tmp_path / "0001.nc", **GOOD)
    retrieved, recommended = open_smap(path), open_smap(path, quality="recommended")
    assert np.isfinite(retrieved["soil_moisture"]).sum() == 3  # 0, 8 and 9, not 13
    assert json.loads(retrieved["soil_moisture"].attrs["masked_by"]) == {
        "out_of_range": 0,
        "quality is not retrieved": 1,
    }
    assert np.isfinite(recommended["soil_moisture"]).sum() == 2
    assert (retrieved["retrieval_qual_flag"] == recommended["retrieval_qual_flag"]).all()
    evening = open_smap(path, overpass="pm")
    assert evening.sizes == {"location": 2, "time": 1}
    np.testing.assert_allclose(evening["soil_moisture"], [[0.2], [np.nan]])


def test_bits_of_the_quality_flag():
    flags = np.arange(16, dtype="uint16")
    bits = (flags[:, None] >> np.arange(4)) & 1
    np.testing.assert_array_equal(smap_quality_mask(flags, "retrieved"), (bits[:, 1] == 0) & (bits[:, 2] == 0))
    np.testing.assert_array_equal(smap_quality_mask(flags, "recommended"), (bits[:, :3] == 0).all(axis=1))
    assert smap_quality_mask(np.uint16([65534]), "all").all()
    for arguments in [([1.0], "all"), ([1], "good")]:
        with pytest.raises(ParameterError):
            smap_quality_mask(*arguments)


def test_smap_near_and_period(tmp_path):
    path = write_smap(tmp_path / "0001.nc", **GOOD)
    other = write_smap(
        tmp_path / "0002.nc",
        **{**GOOD, "index": [0] * 5, "days": [1, 2, 3, 4, 6]},
        lat=(40.0,),
        lon=(0.0,),
        number=(3,),
    )
    both = open_smap_l3_points([path, other], catalog_id="x", quality="all")
    assert both.sizes == {"location": 3, "time": 9}
    assert both["soil_moisture"].sel(time=times(6.0))[2] == np.float32(0.5)
    near = open_smap_l3_points([path, other], catalog_id="x", near=(11.1, 200.0), end="2017-01-03")
    assert near["location_id"].values.tolist() == [9]
    assert near["distance_km"].item() == pytest.approx(11.12, abs=0.01)
    np.testing.assert_array_equal(near["time"].values, times([1.7]))
    with pytest.raises(CatalogError, match="near enough"):
        open_smap(path, near=(0.0, 0.0))
    with pytest.raises(CatalogError, match="period"):
        open_smap(path, start="2030-01-01")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"index": [5, 0, 0, 1, 0]}, "ragged"),
        ({"units": "%"}, "other units"),
        ({"number": (7, 7)}, "occurs twice"),
        ({"leave_out": ["locationIndex"]}, "locationIndex"),
        ({"days": [3.2, 1.7, 1.7, 1.7, 5.2]}, "two observations"),
        ({"lat": (95.0, 11.0)}, "position"),
    ],
)
def test_smap_refuses_other_files(tmp_path, change, match):
    with pytest.raises(FormatError, match=match):
        open_smap(write_smap(tmp_path / "0001.nc", **{**GOOD, **change}))


@pytest.mark.parametrize("option", [{"quality": "good"}, {"overpass": "night"}, {"near": (1, 2, 3)}, {"near": (99, 0)}])
def test_smap_refuses_unknown_options(tmp_path, option):
    with pytest.raises(ParameterError):
        open_smap(write_smap(tmp_path / "0001.nc", **GOOD), **option)


def test_files_that_are_none(tmp_path):
    (tmp_path / "0003.nc").write_bytes(b"\x89HDF damaged")
    for function in (open_smap_l3_points, open_gldas_points):
        with pytest.raises(FormatError, match="unreadable"):
            function([tmp_path / "0003.nc"], catalog_id="x")
        with pytest.raises(CatalogError, match="no such file"):
            function([tmp_path / "9999.nc"], catalog_id="x")
    (tmp_path / "grid.nc").write_bytes(b"")
    with pytest.raises(CatalogError, match="lookup table"):
        open_smap(tmp_path / "grid.nc")


def write_gldas(
    path, water, *, units="kg m-2", name="SoilMoi0_10cm_inst", number=(1, 2), lat=(19.125, 19.375), lon=None
):
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", np.shape(water)[1])
        file.createDimension("locations", np.shape(water)[0])
        time = file.createVariable("time", "f8", ("time",))
        time.units = "days since 1858-11-17 00:00:00"
        time[:] = 57754.125 + np.arange(np.shape(water)[1]) / 8
        for key, values in (("lat", lat), ("lon", lon or [-155.875] * len(number)), ("location_id", number)):
            file.createVariable(key, "i8" if key == "location_id" else "f4", ("locations",))[:] = values
        variable = file.createVariable(name, "f8", ("locations", "time"))
        variable.units = units
        variable[:] = water
    return path


def test_gldas_is_water_over_a_hundred_millimetres(tmp_path):
    path = write_gldas(tmp_path / "0001.nc", [[13.856, 20.0, -9999.0], [47.5, 1.99, 30.0]])
    dataset = open_gldas_points([path], catalog_id="gldas_points", synthetic=True)
    check_dataset(dataset, who="test", require=("soil_moisture",), check_values=True)
    np.testing.assert_allclose(dataset["soil_moisture"], [[0.13856, 0.2, np.nan], [0.475, 0.0199, 0.3]], rtol=1e-6)
    assert dataset["time"].values[0] == np.datetime64("2017-01-01T03:00")
    assert json.loads(dataset["soil_moisture"].attrs["masked_by"]) == {"out_of_range": 1}
    assert dataset.attrs["synthetic"] == 1
    near = open_gldas_points([path], catalog_id="gldas_points", near=(19.4, -155.9), start="2017-01-01T06:00")
    np.testing.assert_allclose(near["soil_moisture"], [[0.0199, 0.3]], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [({"units": "m3 m-3"}, "other units"), ({"name": "SoilMoi10_40cm_inst"}, "missing"), ({"number": (1, 1)}, "twice")],
)
def test_gldas_refuses_other_files(tmp_path, change, match):
    path = write_gldas(tmp_path / "0001.nc", np.full((2, 3), 20.0), **change)
    with pytest.raises(FormatError, match=match):
        open_gldas_points([path], catalog_id="gldas_points")


def test_distances_on_the_sphere():
    assert great_circle_km(0, 0, 0, 180).item() == pytest.approx(np.pi * 6371.0)
    assert great_circle_km([0, 90], [179.9, 0], [0, 90], [-179.9, 77]).tolist() == pytest.approx(
        [22.239, 0.0], abs=1e-3
    )


def test_real_smap_and_gldas_at_hawaii(shared_samples):
    folder = shared_samples / "hawaii_timeseries"
    smap = open_smap_l3_points(
        sorted((folder / "SMAP_L3").rglob("*.nc")), catalog_id="x", start="2017-01-01", end="2018-12-31"
    )
    check_dataset(smap, who="test", require=("soil_moisture",), check_values=True)
    count = np.isfinite(smap["soil_moisture"]).sum("time").values
    assert count.tolist() == [0, 434, 303, 619, 625, 592, 619, 370, 609, 400, 0, 439, 146]
    assert json.loads(smap["soil_moisture"].attrs["masked_by"]) == {"out_of_range": 0, "quality is not retrieved": 11}
    hour = (smap["time"] - smap["time"].dt.floor("D")) / np.timedelta64(1, "h")
    local = ((hour - 10.3) % 24).values  # Hawaii is 10.3 h behind by the sun
    morning = (smap["overpass"] == 1).any("location").values
    assert (np.abs(local[morning] - 6) < 1).all()
    assert (np.abs(local[~morning] - 18) < 1).all()
    gldas = open_gldas_points(sorted((folder / "GLDAS").rglob("*.nc")), catalog_id="x")
    assert gldas.sizes == {"location": 21, "time": 5840}
    first = netCDF4.Dataset(next(folder.glob("GLDAS/*/0165.nc")))
    np.testing.assert_allclose(gldas["soil_moisture"][:13], first["SoilMoi0_10cm_inst"][:] / 100, rtol=1e-6)
    first.close()
