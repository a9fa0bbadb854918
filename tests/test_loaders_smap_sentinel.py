"""SMAP/Sentinel-1 scenes: tiny files against what was written into them."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from smnb.contract import CatalogError, FormatError, ParameterError, check_dataset
from smnb.grids import M01, M03, EaseWindow
from smnb.loaders.smap import composite, count_masks, open_l2_active_passive, utc_to_seconds

FILL, FLAG_FILL = -9999.0, 65534
NAME = "SMAP_L2_SM_SP_1AIWDV_{}_20200208T183607_097W35N_R16515_001.h5"
SCENE = EaseWindow(M03, 1036, 1039, 2649, 2653)


def write_scene(
    folder: Path,
    start: str = "20200209T061215",
    scene: EaseWindow = SCENE,
    *,
    name: str = NAME,
    timediff: str = "SMAP_Sentinel-1_overpass_timediff_hr",
    **own,
) -> Path:
    """A scene with good values everywhere but for `own`, in the group of its grid."""
    suffix = {"M03": "_3km", "M01": "_1km"}[scene.grid.name]
    shape = scene.shape
    row, col = np.meshgrid(
        np.arange(*scene.rows.indices(99999)[:2]), np.arange(*scene.cols.indices(99999)[:2]), indexing="ij"
    )
    seconds = utc_to_seconds(np.datetime64("2020-02-08T18:36:07"))
    fields = {
        "EASE_row_index": row.astype("uint16"),
        "EASE_column_index": col.astype("uint16"),
        "soil_moisture": np.full(shape, 0.2, "float32"),
        "soil_moisture_apm": np.full(shape, 0.3, "float32"),
        "tb_v_disaggregated": np.full(shape, 250.0, "float32"),
        "sigma0_vv_aggregated": np.full(shape, 0.1, "float32"),
        "sigma0_vh_aggregated": np.full(shape, 0.01, "float32"),
        "sigma0_incidence_angle": np.full(shape, 40, "float32"),
        "retrieval_qual_flag": np.zeros(shape, "uint16"),
        "surface_flag": np.zeros(shape, "uint16"),
        "spacecraft_overpass_time_seconds": np.full(shape, seconds),
        timediff: np.full(shape, 11.5, "float32"),
    } | own
    path = folder / name.format(start)
    with h5py.File(path, "a") as file:
        group = file.create_group(f"Soil_Moisture_Retrieval_Data{suffix}")
        for key, values in fields.items():
            if values is not None:
                group[key + suffix] = values
    return path


def opened(paths, **options):
    return open_l2_active_passive(paths, catalog_id="smap_s1_l2", **options)


def test_a_scene_on_the_three_kilometre_grid(tmp_path):
    vv = np.full(SCENE.shape, 0.1, "float32")
    vv[0, :3] = [0.5, 0.0, FILL]
    moisture = np.full(SCENE.shape, 0.2, "float32")
    moisture[2, 3] = FILL
    flags = np.zeros(SCENE.shape, "uint16")
    flags[1, 1] = 1
    ds = opened([write_scene(tmp_path, sigma0_vv_aggregated=vv, soil_moisture=moisture, retrieval_qual_flag=flags)])
    check_dataset(ds, who="test", require=("soil_moisture", "tb", "sigma0", "incidence_angle"), check_values=True)
    assert EaseWindow.from_dataset(ds) == SCENE
    assert ds["time"].values[0] == np.datetime64("2020-02-09T06:12:15")
    assert ds["sigma0"].dims == ("time", "polarization", "y", "x")
    np.testing.assert_allclose(ds["sigma0"].sel(polarization="VH"), -20.0, atol=1e-5)
    np.testing.assert_allclose(
        ds["sigma0"].sel(polarization="VV")[0, 0], [10 * np.log10(0.5), np.nan, np.nan, -10.0], atol=1e-5
    )
    assert ds["sigma0"].dtype == np.float32
    assert ds["channel"].values.tolist() == ["1.41V"]
    assert abs(ds["observation_time"].values[0, 0, 0] - np.datetime64("2020-02-08T18:36:07")) < np.timedelta64(1, "us")
    assert float(ds["overpass_time_difference"][0, 0, 0]) == 11.5
    counted = count_masks(ds)
    assert json.loads(counted["sigma0"].attrs["masked_by"]) == {"fill": 1, "out_of_range": 1}
    assert json.loads(counted["soil_moisture"].attrs["masked_by"]) == {"fill": 1, "not_recommended": 1}
    assert {"albedo", "clay_fraction", "soil_moisture_std_dev"} <= set(json.loads(ds.attrs["absent_variables"]))


def test_both_resolutions_of_one_file(tmp_path):
    path = write_scene(tmp_path)
    fine = SCENE.on(M01)
    write_scene(tmp_path, scene=fine, soil_moisture=np.full(fine.shape, 0.4, "float32"))
    assert float(opened([path])["soil_moisture"].mean()) == pytest.approx(0.2)
    ds = opened([path], resolution="1km", variables=["soil_moisture"])
    assert EaseWindow.from_dataset(ds) == fine
    assert float(ds["soil_moisture"].mean()) == pytest.approx(0.4)


def test_scenes_of_a_region_are_times(tmp_path):
    one = write_scene(tmp_path)
    east = EaseWindow(M03, 1037, 1040, 2652, 2655)
    two = write_scene(tmp_path, "20200221T061215", east, soil_moisture=np.full(east.shape, 0.35, "float32"))
    far = write_scene(tmp_path, "20200222T061215", EaseWindow(M03, 2000, 2003, 10, 14))
    ds = opened([two, one], variables=["soil_moisture"])
    assert EaseWindow.from_dataset(ds) == EaseWindow(M03, 1036, 1040, 2649, 2655)
    np.testing.assert_allclose(ds["soil_moisture"][:, 1, 3], [0.2, 0.35])
    assert np.isnan(ds["soil_moisture"][0, 3, 5])
    region = opened([one, two, far], region=EaseWindow(M03, 1037, 1039, 2651, 2654))
    assert region.sizes["time"] == 2
    assert json.loads(region.attrs["granules_without_cells"]) == [far.name]
    np.testing.assert_allclose(region["soil_moisture"][:, 0, 1:], [[0.2, np.nan], [0.35, 0.35]])
    assert composite(region, days=3)["n_obs"].values.sum() == 4 + 4
    with pytest.raises(CatalogError, match="no granule has a cell in the region"):
        opened([far], region=EaseWindow(M03, 1037, 1039, 2651, 2654))


def test_the_closest_overpass_has_no_quality_flag(tmp_path):
    path = write_scene(tmp_path)
    with pytest.raises(FormatError, match=r"no field for 'retrieval_qual_flag'.*flag_policy='none'"):
        opened([path], option="apm")
    ds = opened([path], option="apm", flag_policy="none")
    assert float(ds["soil_moisture"].mean()) == pytest.approx(0.3)
    assert ds["soil_moisture"].attrs["native_name"] == "soil_moisture_apm_3km"
    assert "retrieval_qual_flag" not in ds


def test_version_2_is_recognised(tmp_path):
    path = write_scene(
        tmp_path,
        name=NAME.replace("R16515", "R16010"),
        timediff="SMAP_Sentinel_overpass_timediff_hr",
        soil_moisture_apm=None,
        disagg_soil_moisture_apm=np.full(SCENE.shape, 0.3, "float32"),
    )
    ds = opened([path])
    assert ds["overpass_time_difference"].attrs["native_name"] == "SMAP_Sentinel_overpass_timediff_hr_3km"
    with pytest.raises(FormatError, match=r"apm retrieval of version 2.*not counted from 0.*Download version 3"):
        opened([path], option="apm", flag_policy="none")


def test_surface_conditions_are_this_products(tmp_path):
    surface = np.zeros(SCENE.shape, "uint16")
    surface[0] = [1 << 11, 1 << 12, 1 << 2, FLAG_FILL]
    path = write_scene(tmp_path, surface_flag=surface)
    ds = count_masks(opened([path], exclude_surface=["anomalous_sigma0", "edge_cell"]))
    meanings = ds["surface_flag"].attrs["flag_meanings"].split()
    assert dict(zip(meanings, ds["surface_flag"].attrs["flag_masks"], strict=True))["anomalous_sigma0"] == 1 << 12
    assert {"edge_cell", "anomalous_sigma0"} <= set(meanings)
    assert not {"nadir", "radar_water"} & set(meanings)
    assert json.loads(ds["soil_moisture"].attrs["masked_by"]) == {"surface:anomalous_sigma0": 1, "surface:edge_cell": 1}
    with pytest.raises(ParameterError, match=r"unknown name.*anomalous_sigma0"):
        opened([path], exclude_surface=["nadir"])


def test_scenes_that_are_refused(tmp_path):
    path = write_scene(tmp_path)
    with pytest.raises(FormatError, match=r"'Soil_Moisture_Retrieval_Data_1km' is missing"):
        opened([path], resolution="1km")
    with pytest.raises(ParameterError, match="unknown 'resolution'; got '9km'"):
        opened([path], resolution="9km")
    with pytest.raises(ParameterError, match="unknown 'option'; got 'dca'"):
        opened([path], option="dca")
    with pytest.raises(ParameterError, match="crosses the date line"):
        opened([path], region=(170.0, 0.0, -170.0, 10.0))
    outside = write_scene(tmp_path, "20200301T061215", EASE_row_index=np.full(SCENE.shape, 4872, "uint16"))
    with pytest.raises(FormatError, match=r"outside M03.*got 4872; expected 0..4871"):
        opened([outside])
    twice = write_scene(tmp_path, "20200302T061215", EASE_row_index=np.full(SCENE.shape, 1036, "uint16"))
    with pytest.raises(FormatError, match="4 cells occur twice"):
        opened([twice])
    shaped = write_scene(tmp_path, "20200303T061215", surface_flag=np.zeros((2, 2), "uint16"))
    with pytest.raises(FormatError, match=r"'surface_flag_3km' has another shape; got \(2, 2\); expected \(3, 4\)"):
        opened([shaped])
    decibel = write_scene(tmp_path, "20200304T061215")
    with h5py.File(decibel, "a") as file:
        file["Soil_Moisture_Retrieval_Data_3km/sigma0_vv_aggregated_3km"].attrs["units"] = "dB"
    with pytest.raises(FormatError, match="is not linear power; got 'dB'"):
        opened([decibel])
    other = write_scene(
        tmp_path, "20200305T061215", soil_moisture=None, disagg_soil_moisture=np.zeros(SCENE.shape, "f4")
    )
    with pytest.raises(FormatError, match=r"no soil moisture of option 'baseline'; got \['disagg_soil_moisture_3km'"):
        opened([other])
    far = write_scene(tmp_path, "20200306T061215", EaseWindow(M03, 0, 2, 0, 2))
    farther = write_scene(tmp_path, "20200307T061215", EaseWindow(M03, 4870, 4872, 11566, 11568))
    with pytest.raises(ParameterError, match="window that holds all cells is too large"):
        opened([far, farther])
