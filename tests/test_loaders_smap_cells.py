"""Files of one 36 km cell: places by coordinates, times and fields in order, and what is wrong with one that cannot be read."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from fake_cells import CELL, TIMES, pairs, series, stack, write

from smnb.contract import CatalogError, FormatError, count_masked
from smnb.grids import M03, M09, M36, EaseWindow
from smnb.loaders.smap import open_cell_scenes, open_cell_series, open_pals, overpass_of


def test_a_stack_is_under_the_contract(tmp_path):
    data = stack()
    data["soil_moisture_3km"][0, 0, 0] = 0.7
    data["soil_moisture_3km"][0, 0, 1] = 0.0
    found = open_cell_scenes([write(tmp_path, data)])
    assert EaseWindow.from_dataset(found) == CELL.on(M03)
    assert found["soil_moisture"].dims == ("time", "y", "x")
    assert count_masked(found["soil_moisture"]) == {"out_of_range": 2}
    assert np.isnan(found["soil_moisture"].values[0, 0, :2]).all()
    power = data["sigma0_vv_3km"].values
    np.testing.assert_allclose(10 ** (found["sigma0"].sel(polarization="VV") / 10), power, rtol=1e-6)
    flag = found["retrieval_qual_flag"]  # float in one file, integer in the other
    assert flag.dtype == "uint16"
    assert np.unique(flag).tolist() == [4, 65534]
    assert "albedo" in json.loads(found.attrs["absent_variables"])
    assert open_cell_scenes([write(tmp_path, data)], resolution="1km").sizes["y"] == 36


@pytest.mark.parametrize("dims", [("lat_3km", "lat_1km"), ("lon_3km", "lon_1km"), ("time",)])
def test_the_order_of_rows_columns_and_times_is_the_files_own_affair(tmp_path, dims):
    data = stack()
    turned = data.isel({dim: slice(None, None, -1) for dim in dims})
    (tmp_path / "a").mkdir()
    expected, found = open_cell_scenes([write(tmp_path, data)]), open_cell_scenes([write(tmp_path / "a", turned)])
    xr.testing.assert_equal(expected, found)


def test_transposed_fields_and_other_types_are_read(tmp_path):
    data = stack()
    odd = data.assign(soil_moisture_3km=data["soil_moisture_3km"].transpose("lon_3km", "time", "lat_3km").astype("f8"))
    odd["retrieval_quality_flag_3km"] = odd["retrieval_quality_flag_3km"].fillna(7).astype("int16")
    (tmp_path / "a").mkdir()
    expected, found = open_cell_scenes([write(tmp_path, data)]), open_cell_scenes([write(tmp_path / "a", odd)])
    np.testing.assert_array_equal(expected["soil_moisture"], found["soil_moisture"])


def test_infinite_values_and_forgotten_fills_are_missing(tmp_path):
    data = stack()
    data["soil_moisture_3km"][0, 0, :2] = [np.inf, -9999.0]
    data["sigma0_vv_3km"][0, :2] = -9999.0
    data["sigma0_vv_3km"][1, 0, 0] = np.inf
    found = open_cell_scenes([write(tmp_path, data)])
    assert found["soil_moisture"].isnull().sum() == 2
    assert found["sigma0"].isnull().sum() == 25


def test_a_series_of_the_single_channel_alone_is_read(tmp_path):
    data = series()
    found = open_cell_series([write(tmp_path, data.drop_vars("soil_moisture"), "smap_9km_R049C220.nc")])
    for name in ("soil_moisture", "soil_moisture_sca"):
        np.testing.assert_array_equal(found[name], data["soil_moisture_sca"])
    with pytest.raises(FormatError, match="missing"):
        open_cell_series([write(tmp_path, data[[]], "smap_9km_R049C220.nc")])


def test_pairs_become_means_of_five_or_more(tmp_path):
    data = pairs()
    data["soil_moisture_1km"][0, :3, :3] = [[np.nan] * 3, [np.nan, 0.1, 0.2], [0.3, 0.4, 0.5]]
    data["soil_moisture_1km"][0, :3, 3:6] = [[np.nan] * 3, [np.nan, np.nan, 0.2], [0.3, 0.4, 0.5]]
    found = open_cell_scenes([write(tmp_path, data, "pairs_R049C220.nc")])["soil_moisture"]
    assert found.values[0, 0, 0] == pytest.approx(0.3)
    assert np.isnan(found.values[0, 0, 1])
    centre = data["lat_1km"].values[1], data["lon_1km"].values[1]  # the middle of nine
    np.testing.assert_allclose((found["lat"][0], found["lon"][0]), centre, atol=1e-9)


@pytest.mark.parametrize(
    ("spoil", "name", "what"),
    [
        (lambda d: d.assign_coords(lat_3km=d["lat_3km"] + 0.01), "spl2smap_s_R049C220.nc", "not centres"),
        (lambda d: d.isel(lat_3km=slice(3, None)), "spl2smap_s_R049C220.nc", "do not nest"),
        (lambda d: d, "spl2smap_s_R048C219.nc", "the name says another cell"),
        (lambda d: d.isel(time=slice(0)), "spl2smap_s_R049C220.nc", "there is no scene"),
        (lambda d: d.assign(sigma0_vv_3km=10 * np.log10(d["sigma0_vv_3km"])), "spl2smap_s_R049C220.nc", "not linear"),
        (lambda d: d.drop_vars("soil_moisture_3km"), "spl2smap_s_R049C220.nc", "are missing"),
        (lambda d: d, "stack.nc", "called otherwise"),
        (lambda d: d.assign_coords(time=np.arange(4.0)), "spl2smap_s_R049C220.nc", "no time"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, spoil, name, what):
    path = write(tmp_path, spoil(stack()), name)
    with pytest.raises(FormatError, match=what):
        open_cell_scenes([path])


def test_repeated_scenes_and_scenes_without_a_time_are_dropped_and_counted(tmp_path):
    times = pd.DatetimeIndex([TIMES[1], TIMES[0], TIMES[1], pd.NaT])
    found = open_cell_scenes([write(tmp_path, stack(times))])
    assert found.attrs["scenes_dropped"] == 2
    assert pd.DatetimeIndex(found["time"].values).equals(pd.DatetimeIndex(TIMES[:2].astype("datetime64[ns]")))


def test_one_cell_of_several_is_named(tmp_path):
    paths = [
        write(tmp_path, stack()),
        write(tmp_path, stack(cell=EaseWindow(M36, 48, 49, 220, 221)), "spl2smap_s_R049C221.nc"),
    ]
    assert open_cell_scenes(paths, cell="R049C221")["col"].values[0] == 220 * 12
    with pytest.raises(CatalogError, match="not one file is meant"):
        open_cell_scenes(paths)


def test_the_clocks_of_scenes_and_overpasses_are_matched():
    overpasses = np.array(["2019-05-01T00:10", "2019-05-01T12:46", "2019-05-02T00:10"], "datetime64[ns]")
    times = np.array(["2019-05-01T12:45", "2019-05-01T12:40", "2019-05-01T23:00", "2019-04-01"], "datetime64[ns]")
    found = overpass_of(times, overpasses, within=np.timedelta64(11, "h"))
    assert found.tolist() == [1, -1, 1, -1]  # 12:46 is not known at 12:40


def test_real_cells(shared_samples):
    folder = shared_samples / "smap_sentinel1_manitoba"
    scenes = open_cell_scenes([folder / "spl2smap_s_R049C220.nc"])
    series = open_cell_series([folder / "smap_9km_R049C220.nc"])
    assert EaseWindow.from_dataset(scenes).on(M09) == EaseWindow.from_dataset(series)
    number = overpass_of(scenes["time"].values, series["time"].values, within=np.timedelta64(2, "h"))
    assert (scenes.sizes["time"], (number < 0).sum()) == (178, 2)
    assert float(scenes["soil_moisture"].max()) <= 0.65
    flights = {r: open_pals([folder / "pals_smapvex16_manitoba.nc"], resolution=r) for r in ("3km", "1km", "500m")}
    assert EaseWindow.from_dataset(flights["3km"]).on(M36).shape == (2, 2)
    means = [float(data["soil_moisture"].mean()) for data in flights.values()]
    np.testing.assert_allclose(means, means[0], atol=0.01)
