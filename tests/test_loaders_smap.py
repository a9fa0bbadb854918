"""SMAP radiometer granules: tiny files against what was written into them, and everything that can be wrong with one."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from smnb.contract import CatalogError, ContractError, FormatError, ParameterError, check_dataset
from smnb.grids import M09, M36, EaseWindow
from smnb.loaders.points import smap_quality_mask
from smnb.loaders.smap import (
    composite,
    count_masks,
    open_l2,
    open_l3,
    reading,
    seconds_to_utc,
    utc_to_seconds,
)
from smnb.loaders.smap.fields import PASSIVE
from smnb.loaders.smap.reading import read_rectangle

FILL, FLAG_FILL = -9999.0, 65534
L3 = "SMAP_L3_SM_P_{}_R18290_001.h5"
L3_E = "SMAP_L3_SM_P_E_{}_R18240_001.h5"
L2 = "SMAP_L2_SM_P_02801_A_{}_R18290_001.h5"
#: A box of 2 rows and 3 columns of the 36 km grid around (86, 220), which holds (35.0, -97.5).
BOX = EaseWindow(M36, 86, 88, 219, 222)
REGION = (M36.lon[219] - 0.01, M36.lat[87] - 0.01, M36.lon[221] + 0.01, M36.lat[86] + 0.01)
UNITS = {
    "soil_moisture": "cm**3/cm**3",
    "tb": "Kelvin",
    "surface_temperature": "Kelvins",
    "vegetation_water": "kg/m**2",
}
KEEP_ALL = {"flag_policy": "none", "tb_policy": "none"}


def put(group: h5py.Group, name: str, values: np.ndarray, units: str | None = None, **options) -> None:
    dataset = group.create_dataset(name, data=values, **options)
    for start, text in UNITS.items():
        if name.startswith(start):
            dataset.attrs["units"] = np.bytes_(text)
    if units is not None:
        dataset.attrs["units"] = np.bytes_(units)


def fields_of(shape, **own) -> dict[str, np.ndarray]:
    """Fields of a passive granule, all fill or good, but for `own`."""
    floats = ("soil_moisture", "tb_h_corrected", "tb_v_corrected", "vegetation_water_content")
    fields = {name: np.full(shape, FILL, "float32") for name in floats}
    flags = ("retrieval_qual_flag", "surface_flag", "tb_qual_flag_h", "tb_qual_flag_v")
    fields |= {name: np.zeros(shape, "uint16") for name in flags}
    return fields | own


def write_l3(
    folder: Path,
    day: str,
    cells: dict[str, np.ndarray],
    *,
    name: str = L3,
    suffixes=("",),
    group=None,
    short_name: str | None = None,
) -> Path:
    """A SPL3SMP day of fill values but for the six cells of `BOX`, in AM ("") and PM ("_pm")."""
    path = folder / name.format(day)
    with h5py.File(path, "w") as file:
        for suffix in suffixes:
            where = file.create_group(group or f"Soil_Moisture_Retrieval_Data_{'PM' if suffix else 'AM'}")
            for key, values in fields_of(M36.shape).items():
                whole = values.copy() if values.dtype != "uint16" else np.full(M36.shape, FLAG_FILL, "uint16")
                if key in cells:
                    whole[BOX.rows, BOX.cols] = np.reshape(cells[key], BOX.shape)
                elif whole.dtype == "uint16":
                    whole[BOX.rows, BOX.cols] = 0
                put(where, key + suffix, whole, compression="gzip")
            for key in set(cells) - set(where) - {k.removesuffix(suffix) for k in where}:
                values = np.asarray(cells[key])
                whole = np.full(M36.shape, FILL, values.dtype)
                whole[BOX.rows, BOX.cols] = np.reshape(values, BOX.shape)
                put(where, key + suffix, whole)
        if short_name:
            file.create_group("Metadata/DatasetIdentification").attrs["shortName"] = np.bytes_(short_name)
    return path


def write_l2(folder: Path, start: str, row, col, *, name: str = L2, leave_out=(), **own) -> Path:
    path = folder / name.format(start)
    n = len(row)
    fields = fields_of((n,), **own) | {"EASE_row_index": np.asarray(row), "EASE_column_index": np.asarray(col)}
    with h5py.File(path, "w") as file:
        group = file.create_group("Soil_Moisture_Retrieval_Data")
        for key, values in fields.items():
            if key not in leave_out:
                put(group, key, values.astype("uint16") if key.startswith("EASE") else values)
    return path


def l3(paths, **options) -> xr.Dataset:
    return open_l3(paths, catalog_id="smap_l3", **options)


def l2(paths, **options) -> xr.Dataset:
    return open_l2(paths, catalog_id="smap_l2", **options)


MOISTURE = np.array([0.1, 0.2, 0.3, 0.4, FILL, 1.5], "float32")


@pytest.fixture
def day(tmp_path) -> Path:
    return write_l3(
        tmp_path, "20200102", {"soil_moisture": MOISTURE, "tb_h_corrected": np.float32([200, 210, 400, 0, -1, FILL])}
    )


# --- level 3 --------------------------------------------------------------------------------------------------------


def test_l3_reads_a_region_lazily_onto_the_grid(day):
    ds = l3([day], region=REGION, variables=["soil_moisture", "tb"], **KEEP_ALL)
    check_dataset(ds, who="test", require=("soil_moisture", "tb"), check_values=True)
    assert ds["soil_moisture"].chunks is not None
    assert EaseWindow.from_dataset(ds) == BOX
    assert ds["time"].values == np.array(["2020-01-02"], "datetime64[ns]")
    nan = np.nan
    np.testing.assert_array_equal(ds["soil_moisture"][0], np.float32([[0.1, 0.2, 0.3], [0.4, nan, nan]]))
    assert ds["tb"].dims == ("time", "channel", "y", "x")
    np.testing.assert_array_equal(ds["tb"].sel(channel="1.41H")[0], [[200, 210, nan], [0, nan, nan]])
    assert ds["soil_moisture"].dtype == ds["tb"].dtype == np.float32
    counted = count_masks(ds)
    assert json.loads(counted["soil_moisture"].attrs["masked_by"]) == {"fill": 1, "out_of_range": 1}
    assert json.loads(counted["tb"].attrs["masked_by"]) == {"fill": 7, "out_of_range": 2}
    assert "masked_by" not in ds["tb"].attrs


def test_l3_global_window_holds_the_same_cells(day):
    ds = l3([day], variables=["soil_moisture"], **KEEP_ALL)
    assert ds["soil_moisture"].shape == (1, 406, 964)
    region = l3([day], region=BOX, variables=["soil_moisture"], **KEEP_ALL)
    inside = ds["soil_moisture"].values[:, BOX.rows, BOX.cols]
    np.testing.assert_array_equal(inside, region["soil_moisture"].values)
    assert np.isfinite(ds["soil_moisture"].values).sum() == 4


@pytest.mark.parametrize("policy", ["recommended", "retrieved", "none"])
def test_flag_policies_agree_with_the_point_series(tmp_path, policy):
    flags = np.array([0, 8, 1, 7, 5, FLAG_FILL], "uint16")
    path = write_l3(tmp_path, "20200102", {"soil_moisture": np.full(6, 0.2, "float32"), "retrieval_qual_flag": flags})
    ds = count_masks(l3([path], region=BOX, variables=["soil_moisture"], flag_policy=policy))
    expected = smap_quality_mask(flags, {"none": "all"}.get(policy, policy))
    np.testing.assert_array_equal(np.isfinite(ds["soil_moisture"].values).ravel(), expected)
    masked = json.loads(ds["soil_moisture"].attrs["masked_by"])
    assert (
        masked
        == {
            "recommended": {"no_flag": 1, "not_attempted": 1, "not_successful": 1, "not_recommended": 1},
            "retrieved": {"no_flag": 1, "not_attempted": 1, "not_successful": 1},
            "none": {},
        }[policy]
    )


def test_surface_and_tb_screening(tmp_path):
    cells = {
        "soil_moisture": np.full(6, 0.2, "float32"),
        "surface_flag": np.array([0, 1 << 8, 1 << 10, (1 << 8) | (1 << 10), 2, 0], "uint16"),
        "tb_h_corrected": np.full(6, 250, "float32"),
        "tb_v_corrected": np.full(6, 260, "float32"),
        "tb_qual_flag_h": np.array([0, 1, 4, 65, 8192, FLAG_FILL], "uint16"),
    }
    path = write_l3(tmp_path, "20200102", cells)
    ds = count_masks(l3([path], region=BOX, exclude_surface=["frozen_model", "dense_vegetation"]))
    np.testing.assert_array_equal(np.isfinite(ds["soil_moisture"].values).ravel(), [1, 0, 0, 0, 1, 1])
    masked = json.loads(ds["soil_moisture"].attrs["masked_by"])
    assert masked == {"surface:frozen_model": 2, "surface:dense_vegetation": 1}
    np.testing.assert_array_equal(np.isfinite(ds["tb"].values)[0, 0].ravel(), [1, 0, 1, 0, 1, 0])
    assert np.isfinite(ds["tb"].values)[0, 1].all()
    assert json.loads(ds["tb"].attrs["masked_by"]) == {"tb_not_acceptable": 2, "no_flag": 1}


def test_both_overpasses_have_a_dimension(tmp_path):
    path = write_l3(tmp_path, "20200102", {"soil_moisture": MOISTURE}, suffixes=("", "_pm"))
    with h5py.File(path, "a") as file:
        file["Soil_Moisture_Retrieval_Data_PM/soil_moisture_pm"][86, 219] = 0.5
    both = count_masks(l3([path], region=BOX, overpass="both"))
    assert both["soil_moisture"].dims == ("time", "overpass", "y", "x")
    assert both["overpass"].values.tolist() == ["am", "pm"]
    assert both["n_masked"].dims == ("time", "overpass", "masked_variable", "reason")
    pm = l3([path], region=BOX, overpass="pm")
    np.testing.assert_array_equal(both["soil_moisture"].sel(overpass="pm"), pm["soil_moisture"])
    np.testing.assert_allclose(both["soil_moisture"][0, :, 0, 0], [0.1, 0.5])
    assert pm["overpass"].item() == "pm"


def test_releases_with_one_group_are_mornings(tmp_path):
    path = write_l3(
        tmp_path,
        "20150401",
        {"soil_moisture": MOISTURE},
        name="SMAP_L3_SM_P_{}_R13080_001.h5",
        group="Soil_Moisture_Retrieval_Data",
    )
    ds = l3([path], region=BOX)
    np.testing.assert_allclose(ds["soil_moisture"][0, 0, 0], 0.1)
    assert ds.attrs["soil_moisture_algorithm"] == "sca-v"
    for overpass in ("pm", "both"):
        with pytest.raises(ParameterError, match=r"R13080.*no evening overpass.*overpass='am'"):
            l3([path], overpass=overpass)


def test_a_file_needs_no_entry(day):
    ds = open_l3(day)
    xr.testing.assert_identical(ds.drop_attrs(), l3([day]).drop_attrs())
    assert (ds.attrs["catalog_id"], ds.attrs["synthetic"]) == ("", 0)


def test_several_days_are_one_dataset_and_the_period_is_chosen_by_name(tmp_path):
    days = ["20200103", "20200101", "20200105"]
    paths = [write_l3(tmp_path, d, {"soil_moisture": np.full(6, 0.1 * k, "float32")}) for k, d in enumerate(days, 1)]
    ds = l3(paths, region=BOX)
    np.testing.assert_array_equal(ds["time"], np.array(["2020-01-01", "2020-01-03", "2020-01-05"], "datetime64[ns]"))
    np.testing.assert_allclose(ds["soil_moisture"][:, 0, 0], [0.2, 0.1, 0.3])
    paths[2].write_bytes(b"not opened")
    assert l3(paths, region=BOX, end="2020-01-03").sizes["time"] == 2
    with pytest.raises(CatalogError, match="no granule in the period"):
        l3(paths, start="2021-01-01")


def test_a_folder_stands_for_the_files_in_it_and_below(day, tmp_path):
    xr.testing.assert_identical(l3(tmp_path).drop_attrs(), l3([day]).drop_attrs())
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError, match="holds no HDF5 file"):
        l3([tmp_path / "empty"])


def test_nothing_is_read_before_it_is_asked_for_and_nothing_twice(day, monkeypatch):
    read = []

    def spy(source, rows, cols):
        read.append(source.name.rsplit("/", 1)[-1])
        return read_rectangle(source, rows, cols)

    monkeypatch.setattr(reading, "read_rectangle", spy)
    ds = l3([day], region=BOX, variables=["soil_moisture", "tb", "retrieval_qual_flag"])
    assert read == []
    ds["tb"].sel(channel="1.41V").compute()
    assert sorted(read) == ["tb_qual_flag_v", "tb_v_corrected"]
    read.clear()
    ds.compute()  # with its counts
    expected = [
        "retrieval_qual_flag",
        "soil_moisture",
        "tb_h_corrected",
        "tb_qual_flag_h",
        "tb_qual_flag_v",
        "tb_v_corrected",
    ]
    assert sorted(read) == expected


def test_options_find_each_releases_fields(tmp_path):
    shape = np.full(6, 1.0, "float32")
    own = {
        "soil_moisture": 0.1 * shape,
        "soil_moisture_scav": 0.2 * shape,
        "soil_moisture_option3": 0.3 * shape,
        "vegetation_opacity": 0.4 * shape,
        "vegetation_opacity_dca": 0.5 * shape,
    }
    own |= {f"retrieval_qual_flag{s}": np.zeros(6, "uint16") for s in ("_scav", "_option3")}
    path = write_l3(tmp_path, "20200102", own)
    found = {o: l3([path], region=BOX, option=o) for o in ("baseline", "sca-v", "dca")}
    values = {o: round(float(ds["soil_moisture"][0, 0, 0]), 3) for o, ds in found.items()}
    assert values == {"baseline": 0.1, "sca-v": 0.2, "dca": 0.3}
    assert found["dca"]["retrieval_qual_flag"].attrs["native_name"] == "retrieval_qual_flag_option3"
    # vegetation opacity is the algorithm's own; the baseline of R18 is DCA
    opacity = {o: ds["vegetation_opacity"].attrs["native_name"] for o, ds in found.items()}
    assert opacity == {
        "baseline": "vegetation_opacity_dca",
        "sca-v": "vegetation_opacity",
        "dca": "vegetation_opacity_dca",
    }
    with pytest.raises(
        FormatError, match=r"no soil moisture of option 'sca-h'; got \['soil_moisture', 'soil_moisture_op"
    ):
        l3([path], option="sca-h")
    old = write_l3(tmp_path, "20170102", {"soil_moisture": 0.1 * shape}, name="SMAP_L3_SM_P_{}_R14010_001.h5")
    assert l3([old], region=BOX, option="sca-v")["soil_moisture"].attrs["native_name"] == "soil_moisture"
    with pytest.raises(FormatError, match="two baseline algorithms"):
        l3([old, path])


def test_absent_variables_are_listed_or_refused(day):
    ds = l3([day], region=BOX)
    assert "clay_fraction" in json.loads(ds.attrs["absent_variables"])
    assert set(ds.data_vars) - {"n_masked"} == set(PASSIVE) - set(json.loads(ds.attrs["absent_variables"]))
    with pytest.raises(FormatError, match=r"no field for 'clay_fraction'.*Leave it out"):
        l3([day], variables=["soil_moisture", "clay_fraction"])
    with h5py.File(day, "a") as file:
        del file["Soil_Moisture_Retrieval_Data_AM/retrieval_qual_flag"]
    with pytest.raises(FormatError, match=r"no field for 'retrieval_qual_flag'.*flag_policy='none'"):
        l3([day])
    assert float(l3([day], region=BOX, flag_policy="none")["soil_moisture"][0, 0, 0]) == pytest.approx(0.1)


def test_l3_e_region_of_the_nine_kilometre_grid(tmp_path):
    path = tmp_path / L3_E.format("20200216")
    window = M09.window(south=34.0, north=36.0, west=-98.0, east=-96.0)
    rng = np.random.default_rng(0)
    values = rng.uniform(0.05, 0.45, window.shape).astype("float32")
    with h5py.File(path, "w") as file:
        group = file.create_group("Soil_Moisture_Retrieval_Data_AM")
        sm = group.create_dataset(
            "soil_moisture", M09.shape, "f4", chunks=(203, 241), compression="gzip", fillvalue=FILL
        )
        sm[window.rows, window.cols] = values
        group.create_dataset("retrieval_qual_flag", M09.shape, "u2", chunks=(203, 241), fillvalue=0)
        file.create_group("Soil_Moisture_Retrieval_Data_Polar_AM")
    ds = l3([path], region=(-98, 34, -96, 36), variables=["soil_moisture"])
    np.testing.assert_array_equal(ds["soil_moisture"][0], values)
    assert EaseWindow.from_dataset(ds) == window
    assert "polar groups left aside" in ds.attrs["history"]


@pytest.mark.parametrize(
    ("dtype", "layers", "options"),
    [
        ("f4", (), {"compression": "gzip"}),
        ("u2", (), {"compression": "gzip"}),
        ("u1", (3,), {"compression": "gzip"}),
        (">f4", (), {"compression": "gzip"}),
        ("f4", (), {"compression": "gzip", "shuffle": True}),
        ("f4", (), {}),
    ],
)
def test_a_rectangle_of_a_field_in_one_chunk(tmp_path, dtype, layers, options):
    shape = (700, 3856, *layers)
    values = np.random.default_rng(0).integers(0, 40, shape).astype(dtype)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        field = file.create_dataset("x", data=values, chunks=shape, **options)
        assert field.nbytes > 4e6
        for rows, cols in (
            (slice(0, 3), slice(0, 2)),
            (slice(300, 420), slice(800, 907)),
            (slice(699, 700), slice(3800, 3856)),
            (slice(0, 700), slice(0, 3856)),
        ):
            found = read_rectangle(field, rows, cols)
            np.testing.assert_array_equal(found, values[(rows, cols, *((0,) * len(layers)))])


def test_damage_in_a_field_of_one_chunk_is_found(tmp_path):
    values = np.random.default_rng(0).uniform(size=(700, 3856)).astype("f4")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        field = file.create_dataset("x", data=values, chunks=values.shape, compression="gzip")
        whole = field.id.read_direct_chunk((0, 0))[1]
        for damaged in (
            whole[: len(whole) // 2],
            whole[:-1],
            whole[:-4] + b"sums",
            whole[:5000] + b"x" * 99 + whole[5099:],
        ):
            field.id.write_direct_chunk((0, 0), damaged)
            with pytest.raises(OSError, match=r"damaged|ends early"):
                read_rectangle(field, slice(0, 2), slice(0, 2))


# --- level 2 --------------------------------------------------------------------------------------------------------

ROW, COL = [86, 87, 86, 10], [220, 219, 221, 5]


def test_l2_puts_cells_in_their_places(tmp_path):
    moisture = np.array([0.11, 0.12, FILL, 0.14], "float32")
    path = write_l2(tmp_path, "20200102T030405", ROW, COL, soil_moisture=moisture)
    region = count_masks(l2([path], region=REGION))
    nan = np.nan
    np.testing.assert_array_equal(region["soil_moisture"][0], np.float32([[nan, 0.11, nan], [0.12, nan, nan]]))
    assert region["time"].values[0] == np.datetime64("2020-01-02T03:04:05")
    # cells that are not in the granule are no masked values, and no flags
    assert json.loads(region["soil_moisture"].attrs["masked_by"]) == {"fill": 1}
    assert region["surface_flag"].values[0].tolist() == [[FLAG_FILL, 0, 0], [0, FLAG_FILL, FLAG_FILL]]
    everything = l2([path])
    assert EaseWindow.from_dataset(everything) == EaseWindow(M36, 10, 88, 5, 222)
    assert float(everything["soil_moisture"][0, 0, 0]) == pytest.approx(0.14)
    assert np.isfinite(everything["soil_moisture"].values).sum() == 3


def test_l2_keeps_overlapping_granules_apart_and_lists_those_elsewhere(tmp_path):
    write_l2(tmp_path, "20200102T030405", ROW, COL, soil_moisture=np.full(4, 0.1, "float32"))
    write_l2(tmp_path, "20200102T044300", ROW, COL, soil_moisture=np.full(4, 0.3, "float32"))
    elsewhere = write_l2(tmp_path, "20200102T062100", [300], [3])
    ds = l2(sorted(tmp_path.glob("*.h5")), region=BOX)
    assert ds.sizes["time"] == 2
    np.testing.assert_allclose(ds["soil_moisture"][:, 0, 1], [0.1, 0.3])
    assert json.loads(ds.attrs["granules_without_cells"]) == [elsewhere.name]
    assert "1 others have no cell in the region" in ds.attrs["history"]


def test_l2_e_is_on_the_nine_kilometre_grid(tmp_path):
    path = write_l2(
        tmp_path,
        "20200216T041259",
        [1623, 0],
        [3855, 0],
        name="SMAP_L2_SM_P_E_26958_A_{}_R18240_001.h5",
        soil_moisture=np.float32([0.2, 0.3]),
    )
    ds = l2([path], region=EaseWindow(M09, 1622, 1624, 3854, 3856))
    assert ds["soil_moisture"].values[0].tolist()[1][1] == pytest.approx(0.2)


def test_l2_a_cell_twice_or_outside_the_grid(tmp_path):
    twice = write_l2(tmp_path, "20200102T030405", [86, 86, 87], [220, 220, 219])
    with pytest.raises(FormatError, match=r"1 cells occur twice in the granule; got row 86, column 220"):
        l2([twice])
    outside = write_l2(tmp_path, "20200102T030406", [86, 406], [220, 5])
    with pytest.raises(FormatError, match=r"outside M36: 1 row indices.*got 406; expected 0..405"):
        l2([outside])
    no_index = write_l2(tmp_path, "20200102T030407", [86, FLAG_FILL], [220, 5])
    assert l2([no_index]).attrs["cells_without_index"] == 1
    lacking = write_l2(tmp_path, "20200102T030408", ROW, COL, leave_out=("EASE_row_index",))
    with pytest.raises(FormatError, match=r"\['EASE_row_index'\] are missing"):
        l2([lacking])


def test_l2_region_without_a_cell(tmp_path):
    path = write_l2(tmp_path, "20200102T030405", ROW, COL)
    with pytest.raises(CatalogError, match="no granule has a cell in the region"):
        l2([path], region=(10.0, 40.0, 20.0, 50.0))


# --- what can be wrong with files and options -----------------------------------------------------------------------


def test_granules_of_other_products(tmp_path, day):
    half_orbit = write_l2(tmp_path, "20200102T030405", ROW, COL)
    with pytest.raises(FormatError, match=r"another product; got 'SPL2SMP'.*smap.open_l2"):
        l3([half_orbit])
    with pytest.raises(FormatError, match=r"another product; got 'SPL3SMP'.*smap.open_l3"):
        l2([day])
    enhanced = tmp_path / L3_E.format("20200103")
    enhanced.write_bytes(b"")
    with pytest.raises(FormatError, match=r"two products are mixed.*SPL3SMP.*SPL3SMP_E"):
        l3([day, enhanced])
    for name in ("SMAP_L3_SM_P_20200102_R18290_001_HEGOUT.h5", "x.h5"):
        other = tmp_path / name
        other.write_bytes(b"")
        with pytest.raises(FormatError, match="name is not of the product"):
            l3([other])
    radar = tmp_path / "SMAP_L3_SM_AP_20150501_R13080_001.h5"
    radar.write_bytes(b"")
    with pytest.raises(FormatError, match="another product; got 'SPL3SMAP'"):
        l3([radar])


def test_metadata_and_groups_must_be_the_names(tmp_path, day):
    liar = write_l3(tmp_path, "20200103", {}, short_name="SPL3FTP")
    with pytest.raises(FormatError, match="says another product than the file's name; got 'SPL3FTP'"):
        l3([liar])
    with pytest.raises(
        FormatError, match=r"'Soil_Moisture_Retrieval_Data_PM' is missing; got \['Soil_Moisture_Retrieval_D"
    ):
        l3([day], overpass="pm")
    renamed = tmp_path / L3_E.format("20200102")
    day.rename(renamed)
    with pytest.raises(FormatError, match=r"another shape; got \(406, 964\); expected \(1624, 3856\)"):
        l3([renamed])


def test_two_granules_of_one_time(tmp_path, day):
    again = write_l3(tmp_path, "20200102", {}, name="SMAP_L3_SM_P_{}_R18290_002.h5")
    with pytest.raises(FormatError, match=r"start at the same time.*_001.h5.*_002.h5"):
        l3([day, again])
    one = write_l2(tmp_path, "20200102T030405", ROW, COL)
    two = write_l2(tmp_path, "20200102T030405", ROW, COL, name="SMAP_L2_SM_P_02801_A_{}_R18290_002.h5")
    with pytest.raises(FormatError, match="start at the same time"):
        l2([one, two])


def test_truncated_and_damaged_files(tmp_path, day):
    whole = day.read_bytes()
    day.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"SMAP_L3.*truncated, damaged, or no HDF5"):
        l3([day])
    day.write_text("<html>Please log in</html>")
    with pytest.raises(FormatError, match="truncated, damaged, or no HDF5"):
        l3([day])
    # damage inside, with the structure whole, shows when it is read
    with h5py.File(tmp_path / "x", "w") as file:
        pass
    day.write_bytes(whole)
    with h5py.File(day) as file:
        where = file["Soil_Moisture_Retrieval_Data_AM/soil_moisture"].id.get_chunk_info(0)
    day.write_bytes(whole[: where.byte_offset] + bytes(where.size) + whole[where.byte_offset + where.size :])
    ds = l3([day])
    with pytest.raises(FormatError, match="truncated, damaged"):
        ds["soil_moisture"].compute()


def test_wrong_units_types_and_times_in_names(tmp_path):
    path = write_l3(tmp_path, "20200102", {})
    with h5py.File(path, "a") as file:
        file["Soil_Moisture_Retrieval_Data_AM/soil_moisture"].attrs["units"] = np.bytes_("percent")
    with pytest.raises(FormatError, match=r"'soil_moisture' has other units; got 'percent'"):
        l3([path])
    with h5py.File(path, "a") as file:
        group = file["Soil_Moisture_Retrieval_Data_AM"]
        del group["soil_moisture"], group["surface_flag"]
        group["soil_moisture"], group["surface_flag"] = np.zeros(M36.shape, "f4"), np.zeros(M36.shape, "f4")
    with pytest.raises(FormatError, match="'surface_flag' has another type"):
        l3([path])
    impossible = tmp_path / L3.format("20201302")
    impossible.write_bytes(b"")
    with pytest.raises(FormatError, match="impossible time; got '20201302'"):
        l3([impossible])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region": (170.0, 0.0, -170.0, 10.0)}, "crosses the date line.*two windows"),
        ({"region": (0.0, 80.0, 10.0, 87.0)}, "beyond the grid's latitudes.*north=85.04"),
        ({"region": (0.0, 0.0, 0.01, 0.01)}, "no centre of an M36 cell"),
        ({"region": (0.0, 0.0, 10.0)}, r"'region' is no box.*\(west, south, east, north\)"),
        ({"region": "globe"}, "'region' is no box"),
        ({"overpass": "noon"}, "unknown 'overpass'; got 'noon'; expected .'am', 'pm', 'both'"),
        ({"option": "option9"}, "unknown 'option'"),
        ({"flag_policy": "good"}, "unknown 'flag_policy'.*recommended"),
        ({"tb_policy": "good"}, "unknown 'tb_policy'"),
        ({"variables": ["soil_moistur"]}, "unknown name"),
        ({"variables": []}, "'variables' holds"),
        ({"exclude_surface": ["frozen"]}, "'exclude_surface' holds an unknown name"),
    ],
)
def test_options_that_are_refused(day, options, message):
    with pytest.raises(ParameterError, match=message):
        l3([day], **options)


# --- flags, times ---------------------------------------------------------------------------------------------------


def bits_of(flag: xr.DataArray) -> dict[str, list[bool]]:
    """Cells where each meaning is set, as CF's attributes say."""
    seen = flag != flag.attrs["missing_value"]
    meanings = zip(flag.attrs["flag_meanings"].split(), flag.attrs["flag_masks"], strict=True)
    return {meaning: (((flag & mask) != 0) & seen).values.ravel().tolist() for meaning, mask in meanings}


def test_flags_have_their_meanings(tmp_path):
    flags = np.array([0, 1, 7, 9, 8, FLAG_FILL], "uint16")
    surface = np.array([0, 1, 1 << 5, 1 << 11, 3, FLAG_FILL], "uint16")
    path = write_l3(tmp_path, "20200102", {"retrieval_qual_flag": flags, "surface_flag": surface})
    ds = l3([path], region=BOX)
    retrieval = bits_of(ds["retrieval_qual_flag"])
    assert retrieval["not_recommended"] == [False, True, True, True, False, False]
    assert retrieval["not_successful"] == [False, False, True, False, False, False]
    assert retrieval["freeze_thaw_not_retrieved"] == [False, False, False, True, True, False]
    conditions = bits_of(ds["surface_flag"])
    assert conditions["static_water"] == [False, True, False, False, True, False]
    assert sum(conditions["snow_or_ice"]) == sum(conditions["nadir"]) == sum(conditions["radar_water"]) == 1
    assert len(bits_of(ds["tb_qual_flag_h"])) == 16


def test_the_clock_counts_leap_seconds():
    # TAI - UTC was 32 s in 2000, 36 s from July 2015, 37 s from 2017; TT - TAI is 32.184 s: J2000 is 64.184 s before noon
    noon = np.datetime64("2000-01-01T12:00:00", "ns")
    for utc, tai_minus_utc in (("2015-06-30T23:59:59", 35), ("2015-07-01T00:00:00", 36), ("2020-02-02T02:02:02.5", 37)):
        moment = np.datetime64(utc, "ns")
        seconds = (moment - noon) / np.timedelta64(1, "s") + tai_minus_utc + 32.184
        assert utc_to_seconds(moment) == pytest.approx(seconds, abs=1e-6)
        assert abs(seconds_to_utc(seconds) - moment) < np.timedelta64(1, "us")
    assert np.isnat(seconds_to_utc([FILL, np.nan, 0.0, 1e12])).all()


def test_observation_times(tmp_path):
    seen = utc_to_seconds(np.array(["2020-01-02T12:00:00", "NaT"], "datetime64[ns]"))
    path = write_l3(tmp_path, "20200102", {"tb_time_seconds": np.resize(seen, 6)})
    values = l3([path], region=BOX)["observation_time"].values.ravel()
    assert abs(values[0] - np.datetime64("2020-01-02T12:00:00")) < np.timedelta64(1, "us")
    assert np.isnat(values).sum() == 3


# --- counts and composites ------------------------------------------------------------------------------------------


def test_counts_follow_the_times_and_need_their_variable(tmp_path):
    days = [
        write_l3(tmp_path, f"2020010{k}", {"soil_moisture": np.full(6, v, "float32")}) for k, v in ((1, 0.1), (2, 3.0))
    ]
    ds = l3(days, region=BOX, variables=["soil_moisture"])
    first = count_masks(ds.isel(time=[0]))
    assert json.loads(first["soil_moisture"].attrs["masked_by"]) == {}
    assert json.loads(count_masks(ds)["soil_moisture"].attrs["masked_by"]) == {"out_of_range": 6}
    with pytest.raises(ContractError, match="no 'n_masked'"):
        count_masks(ds.drop_vars("n_masked"))


@pytest.fixture
def week(tmp_path):
    """Days 1, 2, 3, 5 and 8 of January; cell 0 seen on all, cell 1 on day 2 only, none on day 5."""
    values = {1: [0.1, FILL], 2: [0.2, 0.4], 3: [0.6, FILL], 5: [FILL, FILL], 8: [0.3, FILL]}
    paths = [
        write_l3(tmp_path, f"202001{k:02}", {"soil_moisture": np.float32([*v, FILL, FILL, FILL, 1.5])})
        for k, v in values.items()
    ]
    return l3(paths, region=BOX)


def test_composites_of_three_days(week):
    result = composite(week, days=3)
    starts = np.array(["2020-01-01", "2020-01-04", "2020-01-07"], "datetime64[ns]")
    np.testing.assert_array_equal(result["time"], starts)
    np.testing.assert_array_equal(result["time_bounds"][:, 1], starts + np.timedelta64(3, "D"))
    np.testing.assert_allclose(result["soil_moisture"][:, 0, 0], [0.3, np.nan, 0.3], rtol=1e-6)
    np.testing.assert_allclose(result["soil_moisture"][:, 0, 1], [0.4, np.nan, np.nan], rtol=1e-6)
    assert result["n_obs"].values[:, 0, :2].tolist() == [[3, 1], [0, 0], [1, 0]]
    assert json.loads(result.attrs["periods_without_data"]) == ["2020-01-04"]
    assert json.loads(result["soil_moisture"].attrs["masked_by"]) == {"fill": 30 - 5 - 5, "out_of_range": 5}
    assert EaseWindow.from_dataset(result) == BOX
    check_dataset(result, who="test", require=("soil_moisture",), check_values=True)


def test_composites_of_one_and_two_days(week):
    daily = composite(week, days=1)
    assert daily.sizes["time"] == 8
    assert json.loads(daily.attrs["periods_without_data"]) == ["2020-01-04", "2020-01-05", "2020-01-06", "2020-01-07"]
    two = composite(week, days=2)
    np.testing.assert_allclose(two["soil_moisture"][:2, 0, 0], [0.15, 0.6], rtol=1e-6)


def test_composites_average_power_and_overpasses():
    ds = xr.Dataset(
        {
            "sigma0": (
                ("time", "polarization", "y", "x"),
                np.array([-10.0, -20.0]).reshape(2, 1, 1, 1),
                {"units": "dB"},
            ),
            "soil_moisture": (
                ("time", "overpass", "y", "x"),
                np.array([[0.1, np.nan], [0.2, 0.6]]).reshape(2, 2, 1, 1),
                {"units": "m3 m-3"},
            ),
        },
        {
            "time": np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]"),
            "polarization": ["VV"],
            "overpass": ["am", "pm"],
        },
        {"source": "x", "catalog_id": "x", "synthetic": 1, "history": ""},
    )
    result = composite(ds, days=2, variables=["soil_moisture", "sigma0"])
    assert float(result["sigma0"].item()) == pytest.approx(10 * np.log10((0.1 + 0.01) / 2), rel=1e-6)
    assert float(result["soil_moisture"].item()) == pytest.approx(0.3, rel=1e-6)
    assert result["n_obs"].item() == 3
    assert result["n_obs_sigma0"].item() == 2
    assert result["soil_moisture"].dims == ("time", "y", "x")
    assert result.attrs["synthetic"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"days": 4}, "unknown 'days'; got 4"),
        ({"days": True}, "unknown 'days'"),
        ({"variables": ["retrieval_qual_flag"]}, "'variables' holds an unknown name"),
    ],
)
def test_composites_that_are_refused(week, options, message):
    with pytest.raises(ParameterError, match=message):
        composite(week, **options)
