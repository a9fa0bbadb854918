"""Matching: brute force, pandas, pytesmo and scipy as oracles; triple collocation of the real series at Hawaii."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from smnb.contract import ContractError, ParameterError
from smnb.grids import M36
from smnb.loaders.insitu import InSituTables
from smnb.sensors import match_in_time, match_product, match_tables
from smnb.sensors.place import product_at_sensors

START = np.datetime64("2017-01-01", "ns")
HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")


def at(hours) -> np.ndarray:
    return START + (np.asarray(hours, dtype=float) * 3600e9).astype("int64").astype("timedelta64[ns]")


def brute(left, right, values, window, method, groups=None):
    """Value by value: the nearest valid one, the earlier of two, the first of equal ones; or the mean."""
    result = np.full(len(left), np.nan)
    left_groups, right_groups = groups or (np.zeros(len(left)), np.zeros(len(right)))
    for i, time in enumerate(left):
        candidates = [
            (abs(t - time), t, n)
            for n, t in enumerate(right)
            if abs(t - time) <= window and not np.isnan(values[n]) and left_groups[i] == right_groups[n]
        ]
        if candidates:
            chosen = [min(candidates)] if method == "nearest" else candidates
            result[i] = np.mean([values[n] for *_, n in chosen])
    return result


def axis(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Times in hours of every kind that takes another path inside."""
    hourly = np.arange(n, dtype=float)
    return {
        "regular": hourly,
        "gaps": np.delete(np.arange(n + 9, dtype=float), [5, 6, 7, n // 2, n // 2 + 2, n - 3, n - 2, n - 1, n]),
        "irregular": np.sort(rng.choice(n * 60, n, replace=False) / 60),
        "shuffled": rng.permutation(hourly),
        "repeated": np.sort(rng.choice(hourly[: n // 2], n)),
        "shuffled and repeated": rng.choice(hourly[: n // 2], n),
        "one gap first": np.r_[-7.0, hourly[1:]],
    }[kind]


KINDS = ["regular", "gaps", "irregular", "shuffled", "repeated", "shuffled and repeated", "one gap first"]


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("method", ["nearest", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_matching_is_that_of_brute_force(kind, method, missing):
    rng = np.random.default_rng(KINDS.index(kind))
    right, values = at(axis(kind, 120, rng)), rng.random(120)
    values[rng.random(120) < missing] = np.nan
    left = at(np.r_[rng.uniform(-5, 130, 60), np.arange(0, 60, 2.0), np.arange(0, 40) + 0.5])
    for window in (0, 1800, 7200):
        span = np.timedelta64(window, "s")
        found = match_in_time(left, right, values, window=span, method=method)
        expected = brute(left, right, values, span, method)
        np.testing.assert_allclose(found.values, expected, rtol=1e-12)
        assert found.n_matched == np.isfinite(expected).sum()
        if method == "nearest":
            there = found.index >= 0
            np.testing.assert_array_equal(found.offset[there], right[found.index[there]] - left[there])
            assert np.isnat(found.offset[~there]).all()


@pytest.mark.parametrize("method", ["nearest", "mean"])
@pytest.mark.parametrize("kind", ["regular", "shuffled and repeated"])
def test_many_sensors_at_once(kind, method):
    rng = np.random.default_rng(7)
    names = np.array(["b", "a", "d", "c"])  # "d" has no left, "e" no right
    right = np.concatenate([at(axis(kind, 60, rng)) for _ in names])
    right_names, values = np.repeat(names, 60), rng.random(240)
    values[::11] = np.nan
    left, left_names = at(rng.uniform(0, 70, 50)), rng.choice(["a", "b", "c", "e"], 50)
    expected = brute(left, right, values, HOUR, method, (left_names, right_names))
    dtype = pd.CategoricalDtype(["e", "d", "c", "b", "a"])
    for cast in (np.asarray, lambda v: pd.Series(v).astype(dtype), lambda v: pd.Series(v).astype("category")):
        groups = (cast(left_names), cast(right_names))
        found = match_in_time(left, right, values, window="1h", method=method, groups=groups)
        np.testing.assert_allclose(found.values, expected, rtol=1e-12)
    order = np.lexsort((left, left_names))  # and where the left is in order already
    found = match_in_time(
        left[order], right, values, window="1h", method=method, groups=(left_names[order], right_names)
    )
    np.testing.assert_allclose(found.values, expected[order], rtol=1e-12)


def test_ties_windows_and_repeated_times():
    found = match_in_time(at([1.5]), at([1, 2]), [0.1, 0.2], window="1h")
    assert found.values.tolist() == [0.1]  # the earlier of two
    assert found.offset[0] == -HOUR // 2
    assert match_in_time(at([1.0, 1.0]), at([2.0]), window="1h").index.tolist() == [0, 0]  # both ends count
    assert match_in_time(at([1.0]), at([2.0]), window="59min").index.tolist() == [-1]
    assert match_in_time(at([2.2]), at([2, 2, 3]), window="1h").index.tolist() == [0]  # the first of equal times
    assert match_in_time(at([2.0]), at([2, 2]), [np.nan, 0.5], window="1h").index.tolist() == [1]
    assert match_in_time(at([0, 2]), at([1]), window="1h").n_reused == 1


def test_a_missing_reading_is_passed_over_for_the_next():
    found = match_in_time(
        at([5.0]), at(np.arange(10)), np.where(np.arange(10) == 5, np.nan, np.arange(10.0)), window="1h"
    )
    assert (found.values.tolist(), found.index.tolist()) == ([4.0], [4])


def test_what_was_matched_is_said():
    found = match_in_time(at([0, 10, 20, 20.2]), at([0.2, 20.1]), window="30min")
    assert (
        str(found) == "matched 3 of 4 (75.0 %) with 2 readings, nearest within 0.5 h, 1 with a reading matched before"
    )
    assert (found.n_left, found.n_right, found.n_matched) == (4, 2, 3)


def test_nothing_to_match():
    none = at([])
    assert match_in_time(none, at([1]), [0.1], window="1h").values.size == 0
    for method in ("nearest", "mean"):
        assert np.isnan(match_in_time(at([1, 2]), none, np.array([]), window="1h", method=method).values).all()
        found = match_in_time(at([1, 2]), at([1, 2]), [np.nan, np.nan], window="1h", method=method)
        assert (found.n_matched, found.n_right) == (0, 2)


def test_times_with_a_zone_are_converted():
    local = pd.DatetimeIndex(["2017-01-01 02:00"]).tz_localize("Etc/GMT-2")
    assert match_in_time(local, at([0.0]), window="0h").n_matched == 1
    assert match_in_time(pd.Series(local), pd.Series(at([0.0])).dt.tz_localize("UTC"), window="0h").n_matched == 1


@pytest.mark.parametrize("window", [1, 0.5, "1", "soon", "-1h", np.timedelta64("NaT"), None, "200000D"])
def test_a_window_needs_a_unit(window):
    with pytest.raises(ParameterError, match="window"):
        match_in_time(at([1]), at([1]), window=window)


def test_what_matching_refuses():
    for left, right in [(at([1]), np.array(["NaT"], "M8[ns]")), (np.array(["NaT"], "M8[ns]"), at([1]))]:
        with pytest.raises(ContractError, match="missing"):
            match_in_time(left, right, window="1h")
    with pytest.raises(ContractError, match="missing"):  # also of a sensor that is not asked for
        match_in_time(at([1]), np.array(["2017-01-01T01", "NaT"], "M8[ns]"), window="1h", groups=([0], [0, 1]))
    with pytest.raises(ContractError, match="UTC times"):
        match_in_time([1.0], at([1]), window="1h")
    with pytest.raises(ContractError, match="one value"):
        match_in_time(at([1]), at([1]), [0.1, 0.2], window="1h")
    with pytest.raises(ContractError, match="infinite"):
        match_in_time(at([1]), at([1]), [np.inf], window="1h")
    with pytest.raises(ContractError, match="one group label"):
        match_in_time(at([1]), at([1]), window="1h", groups=(["a"], ["a", "b"]))
    with pytest.raises(ContractError, match="no group label"):
        match_in_time(at([1]), at([1]), window="1h", groups=([None], ["a"]))
    with pytest.raises(ParameterError, match="method"):
        match_in_time(at([1]), at([1]), window="1h", method="median")
    with pytest.raises(ParameterError, match="right_values"):
        match_in_time(at([1]), at([1]), window="1h", method="mean")


def test_the_same_as_pytesmo():
    pytesmo = pytest.importorskip("pytesmo.temporal_matching")
    rng = np.random.default_rng(3)
    hours = np.delete(np.arange(2000), rng.choice(2000, 300, replace=False))
    series = pd.DataFrame({"x": rng.random(hours.size)}, index=pd.DatetimeIndex(at(hours)))
    passes = pd.DatetimeIndex(np.sort(at(rng.choice(2000 * 60, 200, replace=False) / 60 + 1 / 240)))
    for method, window in (("nearest", "1h"), ("mean", "6h")):
        theirs = pytesmo.temporal_collocation(passes, series, pd.Timedelta(window), method=method)["x"]
        ours = match_in_time(passes, series.index, series["x"], window=window, method=method)
        np.testing.assert_allclose(ours.values, theirs.to_numpy(), rtol=1e-12)


def test_tables_of_many_sensors():
    left = pd.DataFrame({"sensor_id": ["a", "b", "a"], "time": at([1, 1, 50]), "predicted": [1, 2, 3]}, index=[4, 5, 6])
    right = pd.DataFrame(
        {
            "sensor_id": ["b", "a", "a"],
            "time": at([1.4, 0.8, 1.1]),
            "sm": [0.3, 0.1, np.nan],
            "flag": ["G", "C02", "D01"],
        }
    )
    table, found = match_tables(left, right, value="sm", window="1h", name="observed")
    assert table.index.tolist() == [4, 5, 6]
    np.testing.assert_allclose(table["observed"], [0.1, 0.3, np.nan])
    assert right["flag"].iloc[found.index[:2]].tolist() == ["C02", "G"]  # what else the matched row says
    assert table["observed_offset"].tolist()[:2] == [pd.Timedelta("-12min"), pd.Timedelta("24min")]
    assert found.n_matched == 2
    mean, _ = match_tables(left, right, value="sm", window="1h", method="mean", name="observed")
    assert list(mean.columns) == ["sensor_id", "time", "predicted", "observed", "observed_count"]
    empty, _ = match_tables(left, right.iloc[:0], value="sm", window="1h")
    assert empty["sm"].isna().all()
    with pytest.raises(ContractError, match="lacks columns"):
        match_tables(left, right, value="tb", window="1h")
    with pytest.raises(ContractError, match="already"):
        match_tables(left, right, value="sm", window="1h", name="predicted")


# --- in space ---------------------------------------------------------------------------------------------------------


def grid(lat, lon, *, times=3, seed=0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    shape = (times, len(lat), len(lon))
    return xr.Dataset(
        {
            "soil_moisture": (("time", "lat", "lon"), rng.random(shape, dtype="float32"), {"units": "m3 m-3"}),
            "flag": (("time", "lat", "lon"), rng.integers(0, 9, shape).astype("int8"), {"flag_meanings": "a b"}),
            "area": (("lat",), np.ones(len(lat))),
        },
        coords={"time": at(np.arange(times)), "lat": lat, "lon": lon},
        attrs={"source": "test"},
    )


def sensors_at(lat, lon) -> pd.DataFrame:
    lat = np.atleast_1d(np.asarray(lat, dtype=float))
    return pd.DataFrame({"sensor_id": [f"s{i:03d}" for i in range(lat.size)], "lat": lat, "lon": lon})


def wide(table: pd.DataFrame, name: str = "soil_moisture") -> np.ndarray:
    return table.pivot(index="sensor_id", columns="time", values=name).to_numpy()


def test_the_cell_that_holds_a_point_and_its_flags():
    dataset = grid(np.arange(-10, 10) + 0.5, np.arange(-30, 30) + 0.5)
    rng = np.random.default_rng(1)
    lat, lon = rng.uniform(-10, 10, 50), rng.uniform(-30, 30, 50)
    found = product_at_sensors(dataset.chunk(time=1), sensors_at(lat, lon))
    row, column = np.floor(lat + 10).astype(int), np.floor(lon + 30).astype(int)
    np.testing.assert_array_equal(wide(found).T, dataset["soil_moisture"].values[:, row, column])
    np.testing.assert_array_equal(wide(found, "flag").T, dataset["flag"].values[:, row, column])
    assert list(found.columns) == ["sensor_id", "time", "soil_moisture", "flag"]
    assert found["flag"].dtype == np.int8
    assert found.attrs["sensors_left_out"] == 0
    round_the_globe = product_at_sensors(dataset, sensors_at(3.2, 330.5))  # 330.5 is -29.5
    np.testing.assert_array_equal(wide(round_the_globe)[0], dataset["soil_moisture"].values[:, 13, 0])


def test_across_the_date_line():
    dataset = grid(np.arange(-2, 2) + 0.5, np.arange(-180, 180) + 0.5)
    values = dataset["soil_moisture"].values[:, 1]
    for lon, cell in ((180.0, -1), (-179.9, 0), (179.7, -1)):
        np.testing.assert_array_equal(wide(product_at_sensors(dataset, sensors_at(-0.5, lon)))[0], values[:, cell])


def test_days_of_smap_on_their_grid_at_their_own_time():
    window = M36.window(south=30.0, north=40.0, west=-100.0, east=-90.0)
    shape, rng = (2, *window.shape), np.random.default_rng(0)
    values = rng.random(shape, dtype="float32")
    seen = at(np.array([0, 24]))[:, None, None] + np.timedelta64(1, "h") * rng.integers(9, 14, shape)
    dims = ("time", "y", "x")
    product = xr.Dataset({"soil_moisture": (dims, values), "observation_time": (dims, seen)}, window.coords())
    product = product.assign_coords(time=at(np.array([0, 24])))
    lat, lon = rng.uniform(31, 39, 20), rng.uniform(-99, -91, 20)
    found = product_at_sensors(product, sensors_at([*lat, 45.0], [*lon, -95.0]))
    row, col = (i - start for i, start in zip(M36.rowcol(lat, lon), (window.row_start, window.col_start), strict=True))
    np.testing.assert_array_equal(found["soil_moisture"], values[:, row, col].T.ravel().astype(float))
    np.testing.assert_array_equal(found["time"].to_numpy(), seen[:, row, col].T.ravel().astype("datetime64[ns]"))
    assert found.attrs["sensors_left_out"] == 1


def test_a_gap_in_the_axis_is_in_no_cell():
    dataset = grid([0.0, 1.0, 5.0], [0.0, 1.0], times=1)
    found = product_at_sensors(dataset, sensors_at([1.4, 4.6, 3.0], [0.0, 0.0, 0.0]))
    np.testing.assert_array_equal(found["soil_moisture"], dataset["soil_moisture"].values[0, 1:, 0])
    assert found.attrs["sensors_left_out"] == 1


def points(lat, lon, *, times=2) -> xr.Dataset:
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "soil_moisture": (("location", "time"), rng.random((len(lat), times), dtype="float32")),
            "flag": (("location", "time"), rng.integers(0, 9, (len(lat), times))),
        },
        coords={
            "time": at(np.arange(times)),
            "lat": ("location", lat),
            "lon": ("location", lon),
            "location_id": ("location", np.arange(len(lat))),
        },
    )


def test_the_nearest_location():
    dataset = points([0.0, 1.0, 60.0], [0.0, 179.9, 10.0])
    sensors = sensors_at([0.1, 1.0, 60.0, 10.0], [0.0, -179.9, 10.5, 0.0])
    found = product_at_sensors(dataset, sensors, name="smap")
    np.testing.assert_array_equal(wide(found, "smap"), dataset["soil_moisture"])
    np.testing.assert_array_equal(wide(found, "flag"), dataset["flag"])
    assert found.attrs["sensors_left_out"] == 1  # 10 N is 1,100 km from the nearest
    assert len(product_at_sensors(dataset, sensors, max_distance_km=25.0)["sensor_id"].cat.categories) == 2
    with pytest.raises(ContractError, match="no sensor is near"):
        product_at_sensors(dataset, sensors.iloc[3:])


def test_places_that_are_refused():
    dataset = grid([0.0, 1.0], [0.0, 1.0])
    for lat, lon in ((np.nan, 0.5), (95.0, 0.0), (0.0, 400.0)):
        with pytest.raises(ParameterError, match="is out of range"):
            product_at_sensors(dataset, sensors_at(lat, lon))
    sensors = sensors_at(0.5, 0.5)
    with pytest.raises(ContractError, match="neither"):
        product_at_sensors(dataset.isel(lat=0, lon=0), sensors)
    with pytest.raises(ContractError, match="no sensor is near"):
        product_at_sensors(dataset, sensors_at(1.6, 0.5))
    with pytest.raises(ContractError, match="twice"):
        product_at_sensors(dataset, pd.concat([sensors, sensors]))
    with pytest.raises(ContractError, match=r"\[.lon.\] are missing"):
        product_at_sensors(dataset, sensors.drop(columns="lon"))
    with pytest.raises(ContractError, match="no 'soil_moisture'"):
        product_at_sensors(dataset.rename(soil_moisture="tb"), sensors)


def test_a_product_at_each_reading():
    dataset = points([10.0, 20.0], [0.0, 0.0], times=5)
    dataset["soil_moisture"].values[0, 2] = np.nan
    sensors = pd.DataFrame({"sensor_id": ["x", "y"], "lat": [20.1, 10.1], "lon": [0.1, 0.0]})
    table = pd.DataFrame({"sensor_id": ["y", "x", "y"], "time": at([2.2, 3.1, 40.0]), "observed": [0.1, 0.2, 0.3]})
    series = product_at_sensors(dataset, sensors, name="smap")
    matched, found = match_tables(table, series, value="smap", window="90min")
    values = dataset["soil_moisture"].values
    np.testing.assert_allclose(matched["smap"], [values[0, 3], values[1, 3], np.nan])  # hour 2 is missing at y
    assert (found.n_matched, found.n_left) == (2, 3)
    assert matched["sensor_id"].tolist() == ["y", "x", "y"]
    mean, _ = match_tables(table, series, value="smap", window="90min", method="mean")
    assert mean["smap"].iloc[0] == pytest.approx(np.mean(values[0, [1, 3]]))


def test_triple_collocation_of_real_series_at_hawaii(shared_samples):
    """SMAP, ERA5-Land and the cosmic-ray sensor at Silver Sword, 2017-2018; pytesmo on the same triplets."""
    from smnb.loaders.ecmwf import open_swvl1_points
    from smnb.loaders.insitu import open_insitu
    from smnb.loaders.points import open_smap_l3_points
    from smnb.metrics import triple_collocation

    folder = shared_samples / "hawaii_timeseries"
    insitu = open_insitu([folder / "ISMN_TESTDATA_HAWAII.zip"], catalog_id="ismn", depth=(0.0, 0.2))
    smap = open_smap_l3_points(
        sorted((folder / "SMAP_L3").rglob("01*.nc")), catalog_id="x", start="2017-01-01", end="2018-12-31"
    )
    era = open_swvl1_points(sorted((folder / "ERA5_LAND").rglob("01*.nc")), catalog_id="x")
    probe = insitu.sensors[insitu.sensors["network"] == "COSMOS"]
    one = InSituTables(probe, insitu.readings[insitu.readings["sensor_id"].isin(probe["sensor_id"])])
    smap_pairs, _ = match_product(smap, one, window="12h")
    series = product_at_sensors(era, probe, name="era5_land")
    table, found = match_tables(product_at_sensors(smap, probe, name="smap"), series, value="era5_land", window="12h")
    table = table.merge(smap_pairs[["time", "observed"]], on="time").dropna().rename(columns={"observed": "in_situ"})
    table = table.set_index("time")[["smap", "era5_land", "in_situ"]]
    assert (len(table), found.n_left) == (573, 619)
    assert (found.n_matched, len(smap_pairs)) == (619, 573)
    result = triple_collocation(*table.to_numpy().T, names=table.columns, reference=2, n_boot=200)
    tcol = pytest.importorskip("pytesmo.metrics.tcol")
    snr, err, _ = tcol.tcol_metrics(*table.to_numpy().T, ref_ind=2)
    np.testing.assert_allclose(result["err_std"], err, rtol=1e-9)
    np.testing.assert_allclose(result["snr_db"], snr, rtol=1e-9)
    assert (result["err_std_low"] < result["err_std"]).all()
    assert (result["err_std"] < result["err_std_high"]).all()
    assert result["r_truth"].between(0.7, 0.95).all()
    # half a thousand triplets, but blocks of weeks: what is independent is a dozen or so
    assert (result["n"] / result["block_length"] < 20).all()
