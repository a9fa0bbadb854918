"""SMAP on real files: a half orbit, a day written to the schema of a real one, daily lists of points, the catalog."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest

from smnb.catalog import Catalog
from smnb.contract import FormatError, check_dataset
from smnb.grids import M09, M36, EaseWindow
from smnb.loaders.points import smap_quality_mask
from smnb.loaders.smap import (
    composite,
    count_masks,
    open_l2,
    open_l3,
    open_smap_e_points,
    utc_to_seconds,
)
from smnb.loaders.smap.fields import PASSIVE

NS = "{http://xml.opendap.org/ns/DAP/4.0#}"
TYPES = {"Float32": "f4", "Float64": "f8", "UInt16": "u2", "Byte": "u1", "String": "S24"}


@pytest.fixture
def granule(shared_samples) -> Path:
    return next((shared_samples / "smap_l2").glob("*.h5"))


def test_a_real_half_orbit_cell_by_cell(granule):
    with h5py.File(granule) as file:
        raw = {name: field[()] for name, field in file["Soil_Moisture_Retrieval_Data"].items()}
    ds = count_masks(open_l2([granule], catalog_id="smap_l2", flag_policy="none", tb_policy="none")).compute()
    check_dataset(ds, who="test", require=("soil_moisture", "tb"), check_values=True)
    assert json.loads(ds.attrs["absent_variables"]) == []
    assert set(ds.data_vars) == {*PASSIVE, "n_masked"}
    row, col = raw["EASE_row_index"].astype(int), raw["EASE_column_index"].astype(int)
    window = EaseWindow.from_dataset(ds)
    at = (0, row - window.row_start, col - window.col_start)
    for name, native in (
        ("soil_moisture", "soil_moisture_option3"),
        ("vegetation_water_content",) * 2,
        ("albedo", "albedo_option3"),
        ("roughness", "roughness_coefficient_option3"),
    ):
        values = raw[native]
        np.testing.assert_array_equal(
            ds[name].values[at], np.where(values == -9999.0, np.nan, values).astype("float32")
        )
    np.testing.assert_array_equal(ds["tb"].sel(channel="1.41H").values[at], raw["tb_h_corrected"])
    np.testing.assert_array_equal(ds["surface_flag"].values[at], raw["surface_flag"])
    np.testing.assert_array_equal(ds["landcover_class"].values[at], raw["landcover_class"][:, 0])
    # the granule's own positions are those of the grid
    np.testing.assert_allclose(ds["lat"].values[at[1]], raw["latitude"], atol=1e-5)
    np.testing.assert_allclose(ds["lon"].values[at[2]], raw["longitude"], atol=2e-5)
    assert np.isfinite(ds["tb"].sel(channel="1.41H")).sum() == 17251 == row.size
    assert json.loads(ds["soil_moisture"].attrs["masked_by"]) == {"fill": 17251 - 1333}
    assert float(ds["soil_moisture"].max()) == pytest.approx(0.73076)  # above the file's own valid_max of 0.5


@pytest.mark.parametrize(
    ("option", "native", "recommended"),
    [
        ("baseline", "soil_moisture", 592),
        ("sca-h", "soil_moisture_option1", 580),
        ("sca-v", "soil_moisture_option2", 592),
    ],
)
def test_options_and_policies_of_a_real_half_orbit(granule, option, native, recommended):
    flag = native.replace("soil_moisture", "retrieval_qual_flag")
    with h5py.File(granule) as file:
        values, bits = (file["Soil_Moisture_Retrieval_Data"][name][()] for name in (native, flag))
    for policy in ("recommended", "retrieved"):
        ds = open_l2([granule], catalog_id="x", option=option, flag_policy=policy, variables=["soil_moisture"])
        expected = (values != -9999.0) & smap_quality_mask(bits, policy)
        assert int(ds["soil_moisture"].notnull().sum()) == expected.sum()
    assert (smap_quality_mask(bits, "recommended") & (values != -9999.0)).sum() == recommended


def test_the_clock_agrees_with_the_orbit(granule):
    """The track crosses the equator when the granule's orbit says so; without leap seconds it would be 4 s late."""
    with h5py.File(granule) as file:
        orbit = file["Metadata/OrbitMeasuredLocation"].attrs
        crossing = np.datetime64(str(orbit["equatorCrossingDateTime"]).removesuffix("Z"))
        longitude = float(orbit["equatorCrossingLongitude"])
        centre = {name: file[f"Soil_Moisture_Retrieval_Data/{name}_centroid"][()] for name in ("latitude", "longitude")}
        index = [file[f"Soil_Moisture_Retrieval_Data/EASE_{axis}_index"][()] for axis in ("row", "column")]
    ds = open_l2([granule], catalog_id="x", variables=["observation_time"]).compute()
    window = EaseWindow.from_dataset(ds)
    time = ds["observation_time"].values[0][index[0] - window.row_start, index[1] - window.col_start]
    near = (np.abs(centre["latitude"]) < 12) & (np.abs(centre["longitude"] - longitude) < 15)
    seconds = (time[near] - crossing) / np.timedelta64(1, "s")
    design = np.column_stack([np.ones(near.sum()), centre["latitude"][near], centre["longitude"][near] - longitude])
    at_crossing = np.linalg.lstsq(design, seconds, rcond=None)[0][0]
    assert abs(at_crossing) < 0.5


def test_a_real_half_orbit_of_a_region(granule):
    region = (-125.0, -5.0, -60.0, 20.0)
    part = open_l2([granule], catalog_id="x", region=region).compute()
    whole = open_l2([granule], catalog_id="x").compute()
    window, all_of_it = EaseWindow.from_dataset(part), EaseWindow.from_dataset(whole)
    assert window == M36.window(west=-125.0, south=-5.0, east=-60.0, north=20.0)
    rows = slice(window.row_start - all_of_it.row_start, window.row_stop - all_of_it.row_start)
    cols = slice(window.col_start - all_of_it.col_start, window.col_stop - all_of_it.col_start)
    for name in PASSIVE:
        np.testing.assert_array_equal(part[name].values, whole[name].values[..., rows, cols])


@pytest.fixture(scope="module")
def schema_day(shared_samples, tmp_path_factory) -> Path:
    """A day with every variable, shape, type and attribute of a real R14010 file of 2015, and made-up values."""
    root = ElementTree.parse(shared_samples / "smap_l3_schema" / "SPL3SMP_R14010.dmr.xml").getroot()
    sizes = {f"/{dim.get('name')}": int(dim.get("size")) for dim in root.iter(f"{NS}Dimension")}
    path = tmp_path_factory.mktemp("l3") / root.get("name")
    rng = np.random.default_rng(0)
    seconds = utc_to_seconds(np.datetime64("2015-04-06T12:00:00"))
    with h5py.File(path, "w") as file:
        for variable in root:
            kind = variable.tag.removeprefix(NS)
            if kind not in TYPES:
                continue
            attrs = {a.get("name"): (a.get("type"), a.find(f"{NS}Value").text) for a in variable.iter(f"{NS}Attribute")}
            shape = tuple(sizes[dim.get("name")] for dim in variable.iter(f"{NS}Dim"))
            name = attrs["fullnamepath"][1]
            fill = attrs.get("_FillValue", (None, "0"))[1]
            values = np.zeros(shape, TYPES[kind]) if kind == "String" else np.full(shape, float(fill), TYPES[kind])
            if "soil_moisture" in name and "error" not in name:
                values[80:100] = rng.uniform(0.02, 0.5, values[80:100].shape)
            elif "tb_time_seconds" in name:
                values[80:100] = seconds
            elif "_corrected" in name:
                values[80:100] = rng.uniform(150, 290, values[80:100].shape)
            elif "flag" in name:
                values[80:100] = 0
            field = file.create_dataset(name, data=values, compression="gzip")
            for key, (of, text) in attrs.items():
                if key not in ("origname", "fullnamepath"):
                    field.attrs[key] = np.bytes_(text) if of == "String" else np.dtype(TYPES[of]).type(float(text))
        for group in ("Metadata/DatasetIdentification", "Metadata/SeriesIdentification"):
            file.create_group(group).attrs["shortName"] = np.bytes_("SPL3SMP")
    return path


def test_a_day_to_the_schema_of_a_real_file(schema_day):
    ds = count_masks(open_l3([schema_day], catalog_id="smap_l3", overpass="both", region=(-110.0, 25.0, -90.0, 60.0)))
    check_dataset(ds, who="test", require=("soil_moisture", "tb"), check_values=True)
    # what came in later releases
    assert json.loads(ds.attrs["absent_variables"]) == ["bulk_density", "clay_fraction", "sand_fraction"]
    assert ds.attrs["soil_moisture_algorithm"] == "sca-v"
    window = EaseWindow.from_dataset(ds)
    for overpass, group, suffix in (("am", "AM", ""), ("pm", "PM", "_pm")):
        with h5py.File(schema_day) as file:
            raw = file[f"Soil_Moisture_Retrieval_Data_{group}/soil_moisture{suffix}"][window.rows, window.cols]
        expected = np.where(raw == -9999.0, np.nan, raw)
        np.testing.assert_array_equal(ds["soil_moisture"].sel(overpass=overpass)[0], expected)
    seen = ds["observation_time"].values
    assert abs(seen[~np.isnat(seen)] - np.datetime64("2015-04-06T12:00:00")).max() < np.timedelta64(1, "us")
    assert ds["soil_moisture"].notnull().any()
    assert ds["landcover_class"].values.max() == 254
    with pytest.raises(FormatError, match=r"no soil moisture of option 'dca'; got \['soil_moisture'\]"):
        open_l3([schema_day], catalog_id="x", option="dca")


@pytest.fixture
def lists(shared_samples) -> list[Path]:
    return sorted((shared_samples / "smap_e_west_australia").glob("Western-Australia_*.nc"))


def test_lists_of_points_of_western_australia(lists):
    ds = count_masks(open_smap_e_points(lists, catalog_id="smap_l3_e_points"))
    check_dataset(ds, who="test", require=("soil_moisture",), check_values=True)
    assert ds.sizes["time"] == 46
    assert EaseWindow.from_dataset(ds) == M09.window(west=116.0, south=-32.0, east=122.0, north=-27.0)
    assert json.loads(ds.attrs["granules_without_cells"]) == ["Western-Australia_2020-01-29.nc"]
    values = ds["soil_moisture"].values
    assert np.isnan(values[28]).all()
    assert json.loads(ds["soil_moisture"].attrs["masked_by"]) == {}
    n_points = 0
    for day, path in enumerate(lists):
        with h5py.File(path) as file:
            lat, lon, moisture = (file[name][()] for name in ("latitude", "longitude", "soil_moisture"))
        n_points += lat.size
        row, col = M09.rowcol(lat, lon)
        total, number = np.zeros(ds["soil_moisture"].shape[1:]), np.zeros(ds["soil_moisture"].shape[1:])
        np.add.at(total, (row - 1181, col - 3170), moisture)
        np.add.at(number, (row - 1181, col - 3170), 1)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(values[day], total / number, rtol=1e-6)
    assert n_points == 162996 == int(ds["soil_moisture"].notnull().sum()) + 32820
    assert ds.attrs["repeated_cells"] == 32820


def test_composites_of_western_australia(lists):
    ds = open_smap_e_points(lists, catalog_id="x")
    daily, three = composite(ds, days=1), composite(ds, days=3)
    assert json.loads(daily.attrs["periods_without_data"]) == ["2020-01-29"]
    assert json.loads(three.attrs["periods_without_data"]) == []
    loaded = ds["soil_moisture"].values
    np.testing.assert_array_equal(daily["soil_moisture"].values, loaded)
    window = loaded[27:30]  # 28, 29 (empty) and 30 January
    valid = np.isfinite(window)
    with np.errstate(invalid="ignore"):
        expected = np.where(valid, window, 0).sum(0) / valid.sum(0)
    np.testing.assert_allclose(three["soil_moisture"].values[9], expected, rtol=1e-6)
    np.testing.assert_array_equal(three["n_obs"].values[9], valid.sum(0))
    assert three["soil_moisture"].notnull().mean() > daily["soil_moisture"].notnull().mean()


def write_list(path: Path, row, col, moisture) -> Path:
    lat, lon = M09.latlon(np.asarray(row), np.asarray(col))
    with h5py.File(path, "w") as file:
        for name, values in (("latitude", lat), ("longitude", lon), ("soil_moisture", moisture)):
            file[name] = np.asarray(values, "float32")
    return path


def test_lists_that_are_refused(tmp_path):
    twice = write_list(tmp_path / "a_2020-01-01.nc", [5, 5, 5], [7, 8, 7], [0.1, 0.2, 0.5])
    ds = open_smap_e_points([twice], catalog_id="x")
    np.testing.assert_allclose(ds["soil_moisture"].values[0], [[0.3, 0.2]], rtol=1e-6)
    assert ds.attrs["repeated_cells"] == 1
    thrice = write_list(tmp_path / "a_2020-01-02.nc", [5, 5, 5], [7, 7, 7], [0.1, 0.2, 0.5])
    with pytest.raises(FormatError, match="more than two lists"):
        open_smap_e_points([thrice], catalog_id="x")
    with h5py.File(twice, "a") as file:
        file["latitude"][0] += 0.02
    with pytest.raises(FormatError, match="not centres of the 9 km EASE-Grid"):
        open_smap_e_points([twice], catalog_id="x")
    with pytest.raises(FormatError, match="no field for 'soil_moisture'"):
        open_smap_e_points([write_list(tmp_path / "a_2020-01-03.nc", [5], [7], [0.1])], catalog_id="x", option="dca")
    for name, message in (("a_2020.nc", "does not end with a day"), ("a_2020-13-01.nc", "impossible day")):
        with pytest.raises(FormatError, match=message):
            open_smap_e_points([write_list(tmp_path / name, [5], [7], [0.1])], catalog_id="x")
    again = write_list(tmp_path / "b_2020-01-02.nc", [5], [7], [0.1])
    with pytest.raises(FormatError, match="two files are of one day"):
        open_smap_e_points([thrice, again], catalog_id="x")


def test_the_catalogs_entries_of_real_files(repository, shared_samples):
    catalog = Catalog.load(repository / "data_catalog.yaml")
    half_orbit = catalog.open("smap_l2", shared_samples, region=(-125.0, -5.0, -60.0, 20.0))
    assert half_orbit.attrs["catalog_id"] == "smap_l2"
    assert count_masks(half_orbit)["soil_moisture"].attrs["masked_by"] != "{}"
    assert catalog.open("smap_l3_e_points", shared_samples).sizes["time"] == 46
    assert catalog.open("smap_l3_points", shared_samples)["soil_moisture"].notnull().any()
