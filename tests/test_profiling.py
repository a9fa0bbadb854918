"""Tidy tables of what sensors hold, against counts by hand and by plain pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import ks_2samp

from smnb import sensors
from smnb.catalog import Catalog
from smnb.contract import ContractError, ParameterError
from smnb.loaders.insitu import InSituTables
from smnb.sensors import add_strata, make_split
from smnb.sensors.place import product_at_sensors
from smnb.sensors.profile import bin_distances

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2020-01-30T00:00", "ns")


def tables(*, synthetic: bool = False, prefix: str = "") -> InSituTables:
    """Three sensors: whole for 5 days; 5 days with a gap of 2; daily for 5 days with bad flags."""
    hours = {"a": np.arange(120), "b": np.r_[np.arange(24), np.arange(72, 120)], "c": np.arange(0, 120, 24)}
    flags = {"a": ["G"] * 120, "b": ["G"] * 70 + ["C03,D01", "D01"], "c": ["D02", "G", "C03", "D02", "D02"]}
    rows = [
        (f"{prefix}{name}", START + HOUR * int(hour), 0.1 + 0.001 * i, flag)
        for name in hours
        for i, (hour, flag) in enumerate(zip(hours[name], flags[name], strict=True))
    ]
    readings = pd.DataFrame(rows, columns=["sensor_id", "time", "soil_moisture", "flag"])
    readings["soil_moisture"] = readings["soil_moisture"].astype("float32")
    readings = readings.assign(provider_flag="").astype(
        dict.fromkeys(["sensor_id", "flag", "provider_flag"], "category")
    )
    spans = readings.groupby("sensor_id", observed=True)["time"].agg(["size", "min", "max"])
    sensors = pd.DataFrame(
        {
            "sensor_id": [f"{prefix}{n}" for n in "abc"],
            "network": [f"{prefix}N", f"{prefix}N", f"{prefix}M"],
            "station": ["s", "s", "t"],
            "lat": [40.0, 40.0, 44.0],
            "lon": [-100.0, -100.0, -90.0],
            "depth_from": [0.05, 0.0, 0.0508],
            "depth_to": [0.05, 0.05, 0.0508],
            "instrument": ["x", "x", "y"],
            "climate_KG": ["Dfa", None, "masked"],
            "lc_2010": pd.array([10, pd.NA, 70], "Int16"),
            "sand_fraction": [0.4, np.nan, 0.9],
            "silt_fraction": [0.4, np.nan, 0.05],
            "clay_fraction": [0.2, np.nan, 0.05],
            "n_readings": spans["size"].to_numpy(),
            "first_reading": spans["min"].to_numpy(),
            "last_reading": spans["max"].to_numpy(),
        }
    )
    report = {
        "readings": {"read": 200, "fill": 3},
        "removed_by_depth": {"0.1-0.1 m": 7, "0-0.17 m": 2},
        "damaged_files": [],
        "depth": [0.0, 0.051],
        "synthetic": synthetic,
    }
    return InSituTables(sensors, readings, report, "x", synthetic).check()


def test_apply_flags_keeps_readings_and_sensors_with_any():
    every = tables()
    kept = sensors.apply_flags(every, "paper")
    flag = every.readings["flag"].astype(str)
    expected = every.readings[flag.isin(["G", "C02", "C03", "C02,C03"])]
    pd.testing.assert_series_equal(kept.readings["soil_moisture"], expected["soil_moisture"].reset_index(drop=True))
    assert kept.sensors["n_readings"].tolist() == [120, 70, 2]
    assert kept.sensors["last_reading"].iloc[1] == START + 117 * HOUR
    assert kept.sensors["first_reading"].iloc[2] == START + 24 * HOUR
    strict = sensors.apply_flags(every, ["D02"])
    assert strict.sensors["sensor_id"].tolist() == ["c"]
    assert strict.readings["sensor_id"].cat.categories.tolist() == ["c"]
    with pytest.raises(ContractError, match="no reading is left"):
        sensors.apply_flags(every, ["D10"])
    with pytest.raises(ParameterError, match="no such policy"):
        sensors.apply_flags(every, "papre")


def test_apply_flags_in_an_order_of_sensors_that_is_not_the_readings():
    every = tables()
    turned = InSituTables(every.sensors.iloc[::-1].reset_index(drop=True), every.readings, every.report)
    kept = sensors.apply_flags(turned, "paper").sensors.set_index("sensor_id")
    straight = sensors.apply_flags(every, "paper").sensors.set_index("sensor_id")
    pd.testing.assert_frame_equal(kept.loc[straight.index], straight)


def test_an_unknown_source_is_refused():
    with pytest.raises(ParameterError, match=r"unknown 'source'.*sandbox"):
        sensors.open_sensors("mars", None, None)
    with pytest.raises(ParameterError, match="unknown 'source'"):
        sensors.open_products("mars", None, None)


def test_every_source_is_in_the_catalog(repository):
    known = Catalog.load(repository / "data_catalog.yaml").entries
    assert {one for source in sensors.SOURCES.values() for one in source.ids} <= set(known)


def test_open_sensors_opens_all_entries_with_every_flag(repository):
    catalog = Catalog.load(repository / "data_catalog.yaml")
    root = repository / "data" / "sandbox"
    if not (root / "SANDBOX.json").is_file():
        pytest.skip("no sandbox archive is here")
    joined = sensors.open_sensors("sandbox", catalog, root, start="2011-06-01", end="2011-06-10")
    parts = [
        catalog.open(one, root, flags="all", start="2011-06-01", end="2011-06-10")
        for one in sensors.SOURCES["sandbox"].insitu
    ]
    assert sorted(joined.sensors["sensor_id"]) == sorted(pd.concat([part.sensors for part in parts])["sensor_id"])
    assert len(joined.readings) == sum(len(part.readings) for part in parts)
    assert joined.report["readings"]["read"] == sum(part.report["readings"]["read"] for part in parts)
    assert joined.synthetic
    assert joined.catalog_id == "ismn_archive+uscrn_hourly"


def test_strata_of_sensors():
    found = add_strata(tables().sensors)
    assert found["texture"].tolist() == ["Loam", "none", "Sand"]
    assert found["land_cover"].tolist() == ["Agriculture", "none", "Closed forest"]
    assert found["climate_source"].tolist() == ["archive", "map", "map"]
    assert sensors.depth_names(found) == ["5 cm", "0-5 cm", "5.08 cm"]


def test_counts_by_stratum_and_side():
    places = pd.DataFrame({"sensor_id": range(9), "kind": ["u"] * 5 + ["v", "w", None, "w"]})
    sides = pd.Series(["train"] * 4 + ["test"] * 5, index=range(9))
    table = sensors.count_sensors(places, "kind", order=["x", "v"], sides=sides)
    assert table.index.tolist() == ["v", "u", "w", "none"]
    assert table["n_sensors"].tolist() == [1, 5, 2, 1]
    assert table["few"].tolist() == [True, False, True, True]
    assert table["train"].tolist() == [0, 4, 0, 0]
    assert table["test"].tolist() == [1, 1, 2, 1]
    assert "validation" not in table
    assert table["share"].sum() == pytest.approx(100.0)
    with pytest.raises(ContractError, match=r"\['texture'\] are missing"):
        sensors.count_sensors(places, "texture")


def test_months_include_empty_ones_by_side():
    readings = tables().readings
    sides = pd.Series({"a": "test", "b": "train", "c": "train"})
    table = sensors.by_month(readings, sides)
    assert list(table.columns) == ["train", "test", "n_sensors"]
    by_hand = readings.groupby(readings["time"].dt.to_period("M")).size()
    assert table[["train", "test"]].sum(axis=1).tolist() == by_hand.tolist()
    assert table[["train", "test"]].sum().tolist() == [77, 120]
    assert table["n_sensors"].tolist() == [3, 3]
    later = pd.concat([readings, readings.tail(1).assign(time=pd.Timestamp("2035-01-15"))])
    assert sensors.by_month(later, sides)["train"].tolist()[2:] == [0] * 178 + [1]
    with pytest.raises(ContractError, match="without a side"):
        sensors.by_month(readings, sides.drop("a"))
    with pytest.raises(ContractError, match="no rows"):
        sensors.by_month(readings.iloc[:0], sides)


def test_flag_shares_count_a_reading_under_each_flag():
    table = sensors.flag_shares(tables())
    assert table.columns.tolist() == ["G", "C03", "D01", "D02"]
    assert table.loc["N"].tolist() == pytest.approx([100 * 190 / 192, 100 / 192, 200 / 192, 0])
    assert table.loc["M"].tolist() == pytest.approx([20, 20, 0, 60])


def test_network_and_depth_tables():
    table = sensors.network_table(tables(), "paper")
    assert table.index.tolist() == ["N", "M"]
    assert table.loc["M", ["sensors", "sensors_kept", "readings", "kept"]].tolist() == [1, 1, 5, 2]
    assert table.loc["N", ["stations", "kept"]].tolist() == [1, 190]
    assert sensors.network_table(tables(), "strict").loc["M", "kept_percent"] == pytest.approx(20.0)
    depth = sensors.depth_table(tables())
    assert depth["readings"].to_dict() == {"0-5 cm": 72, "5 cm": 120, "5.08 cm": 5, "10 cm": 7, "0-17 cm": 2}
    assert depth["inside_policy"].tolist() == [True] * 3 + [False] * 2


def test_gaps_and_coverage():
    gaps = sensors.gaps(tables())
    assert gaps["sensor_id"].tolist() == ["b"]
    assert gaps["days"].tolist() == [49 / 24]
    assert gaps["after"].iloc[0] == START + 23 * HOUR
    assert gaps["until"].iloc[0] == START + 72 * HOUR
    assert len(sensors.gaps(tables(), longer_than_days=3)) == 0
    with pytest.raises(ParameterError, match="'longer_than_days' is out of range"):
        sensors.gaps(tables(), longer_than_days=0)
    table = sensors.coverage(tables())
    assert table["step_hours"].tolist() == [1, 1, 24]
    assert table["complete"].tolist() == pytest.approx([100, 100 * 72 / 120, 100])
    assert table["longest_gap_days"].tolist() == pytest.approx([1 / 24, 49 / 24, 1])
    assert table["days"].tolist() == pytest.approx([119 / 24, 119 / 24, 4])


def test_a_sensor_with_one_reading_has_a_record_of_one_step():
    one = sensors.apply_flags(tables(), ["C03"])
    table = sensors.coverage(one)
    assert table["n_readings"].tolist() == [1]
    assert table["complete"].tolist() == [100]
    assert np.isnan(table["step_hours"].iloc[0])


def test_availability_is_ordered_by_network_and_from_north():
    table = sensors.availability(tables(), columns=5)
    assert table.index.get_level_values("sensor_id").tolist() == ["c", "a", "b"]
    assert table.shape == (3, 5)
    assert table.columns[0] == pd.Timestamp("2020-01-30")
    assert table.loc[("N", "b")].tolist() == pytest.approx([100, 0, 0, 100, 100])
    assert table.loc[("M", "c")].tolist() == pytest.approx([100] * 5)
    # the last period is shorter than the others
    assert sensors.availability(tables(), columns=2).loc[("N", "a")].tolist() == pytest.approx([100] * 3)


def coarse(values: list[float], hours: list[float]) -> xr.Dataset:
    time = START + (np.array(hours) * 60).astype(int) * np.timedelta64(1, "m")
    return xr.Dataset(
        {"soil_moisture": (("location", "time"), np.array([values, values], "float32"), {"units": "m3 m-3"})},
        coords={"time": time, "lat": ("location", [40.1, 44.0]), "lon": ("location", [-100.0, -90.1])},
    )


def test_pairs_are_a_product_with_the_nearest_reading():
    product = coarse([0.2, np.nan, 0.3, 0.4], [0.4, 5, 30.25, 200])
    pairs, found = sensors.match_product(product, tables())
    assert pairs["sensor_id"].astype(str).tolist() == ["a", "a", "b", "c"]
    assert pairs["predicted"].tolist() == pytest.approx([0.2, 0.3, 0.2, 0.2])
    assert pairs["observed"].tolist() == pytest.approx([0.1, 0.13, 0.1, 0.1])
    assert (found.n_left, found.n_matched) == (9, 4)
    near = product_at_sensors(product, tables().sensors, max_distance_km=10)
    assert near.attrs["sensors_left_out"] == 2
    with pytest.raises(ContractError, match="no sensor is near"):
        product_at_sensors(coarse([0.2], [0]), tables().sensors, max_distance_km=5)


def test_ten_day_means_pair_with_means_at_their_stations():
    dataset = coarse([0.25], [24 * 5]).isel(location=[0]).assign_coords(lat=("location", [40.01]))
    pairs, _ = sensors.match_product(dataset.assign_attrs(ten_day_means=1), tables())
    mean = tables().readings.groupby("sensor_id", observed=True)["soil_moisture"].mean()
    assert pairs["sensor_id"].astype(str).tolist() == ["a", "b"]
    assert pairs["observed"].tolist() == pytest.approx(mean[["a", "b"]].tolist(), rel=1e-6)
    far = dataset.assign_coords(lat=("location", [10.0])).assign_attrs(ten_day_means=1)
    with pytest.raises(ContractError, match="no sensor is near"):
        sensors.match_product(far, tables())


def test_sides_are_compared_with_training():
    rng = np.random.default_rng(0)
    sides = pd.Series({"p": "train", "q": "validation", "r": "buffer"})
    table = pd.DataFrame({"sensor_id": list("pqr") * 200, "v": rng.normal(0.2, 0.05, 600)})
    found = sensors.compare_sides({"x": table.set_index("sensor_id")["v"]}, sides)
    train, held = (table.loc[table["sensor_id"] == name, "v"] for name in "pq")
    assert found.loc[("x", "train"), "ks"] == 0
    assert found.loc[("x", "validation"), "ks"] == pytest.approx(ks_2samp(held, train).statistic)
    assert found.loc[("x", "validation"), "mean"] == pytest.approx(held.mean())
    assert found.index.tolist() == [("x", "train"), ("x", "validation")]


def test_distances_fall_into_the_papers_classes():
    nearest = pd.DataFrame({"side": ["validation"] * 4 + ["test"], "distance_km": [0.0, 2.56, 9.9, np.inf, 10.0]})
    table = bin_distances(nearest)
    assert table.index.tolist() == ["< 2.56", "2.56-10", "10-50", "50-100", "100-500", "≥ 500"]
    assert table["validation"].tolist() == [1, 2, 0, 0, 0, 1]
    assert table["test"].tolist() == [0, 0, 1, 0, 0, 0]


def test_splits_are_audited_or_say_why_not():
    places = pd.DataFrame(
        {
            "sensor_id": [f"s{i}" for i in range(60)],
            "network": "only",
            "station": [f"t{i // 2}" for i in range(60)],
            "lat": 30 + np.arange(60) // 2 * 0.7,
            "lon": np.repeat(np.arange(30) * 2.0, 2),
        }
    )
    table = sensors.audit_splits(places, ["sensor", "station", "network"], seed=3)
    audit = make_split(
        places, "sensor", seed=3, accept=("shared_station", "shared_footprint", "shared_coarse_cell")
    ).audit()
    assert table.loc["sensor", "shared_station"] == audit.leaks["shared_station"] > 0
    assert table.loc["sensor", "within_2.56_km"] == pytest.approx(100 * audit.share_within(2.56))
    assert table.loc["station", "shared_station"] == 0
    assert "no sensor is left" in table.loc["network", "problem"]
    with pytest.raises(ParameterError, match="unknown 'kind'"):
        sensors.audit_splits(places, ["postcode"])


def test_density_counts_every_sensor_once():
    rng = np.random.default_rng(1)
    places = pd.DataFrame({"lat": rng.uniform(-60, 80, 500), "lon": rng.uniform(-179, 179, 500)})
    globe = sensors.sensor_density(places)
    assert globe.sizes == {"lat": 36, "lon": 72}
    assert float(globe.sum()) == 500
    region = sensors.sensor_density(pd.DataFrame({"lat": [40.0, 40.0, 41.0], "lon": [259.0, 259.0, -100.0]}))
    assert float(region.sum()) == 3
    assert float(region.max()) == 2
    assert -103 < float(region["lon"].min()) < -101.3
    assert float(region["lon"].max()) > -99.7
    with pytest.raises(ContractError, match="no rows"):
        sensors.sensor_density(places.iloc[:0])


def test_the_real_archive_of_hawaii(shared_samples, repository):
    catalog = Catalog.load(repository / "data_catalog.yaml")
    every = sensors.open_sensors("hawaii", catalog, shared_samples, depth=(0.0, 0.051))
    kept = sensors.apply_flags(every, "paper")
    direct = catalog.open("ismn_hawaii", shared_samples, flags="paper", depth=(0.0, 0.051))
    assert len(kept.readings) == len(direct.readings)
    columns = ["sensor_id", "n_readings", "first_reading", "last_reading"]
    pd.testing.assert_frame_equal(kept.sensors[columns], direct.sensors[columns])
    gaps = sensors.gaps(kept)
    steps = kept.readings.groupby("sensor_id", observed=True)["time"].diff()
    assert len(gaps) == int((steps > pd.Timedelta("1D")).sum()) > 0
    assert gaps["days"].max() == pytest.approx(steps.max() / pd.Timedelta("1D"))
