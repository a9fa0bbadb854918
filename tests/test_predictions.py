"""Tables of predictions: what is refused, what the sources give, and scores against scikit-learn and by hand."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from sklearn.linear_model import LinearRegression

from smnb import sensors as p
from smnb.catalog import Catalog
from smnb.contract import CatalogError, ContractError, FormatError, ParameterError, stamp
from smnb.loaders.conus import BANDS, open_station_table
from smnb.loaders.insitu import InSituTables
from smnb.metrics import count_losses
from smnb.papers.batchu2023.scoring import beside_paper, printed
from smnb.papers.tables import published
from smnb.sensors import folds
from smnb.sensors.opening import predictions_at, station_predictions, station_strata
from smnb.sensors.predictions import _keep_possible


def table(n_sensors: int = 4, n: int = 30, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    observed = rng.uniform(0.05, 0.4, n_sensors * n)
    return pd.DataFrame(
        {
            "sensor_id": np.repeat([f"s{i}" for i in range(n_sensors)], n),
            "time": np.tile(pd.date_range("2020-01-01", periods=n, freq="D"), n_sensors),
            "observed": observed,
            "predicted": np.clip(observed + rng.normal(0, 0.03, observed.size), 0, 1),
            "climate": np.repeat(np.resize(["Cf", "BS", "Cf", "none"], n_sensors), n),
            "lat": 40.0,
            "lon": -100.0,
        }
    )


# --- reading and checking ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_a_table_comes_back_as_it_was_written(tmp_path, suffix):
    given = table()
    given["sensor_id"] = given["sensor_id"].str.replace("s", "00")  # must not become a number
    given.loc[3, "predicted"] = np.nan
    given.attrs = {"model": "CNN, v1", "synthetic": True}
    found = p.read_predictions(p.write_predictions(given, tmp_path / f"x{suffix}"))
    pd.testing.assert_frame_equal(found, given, check_dtype=False, check_like=True)
    assert found.attrs == {"model": "CNN, v1", "synthetic": True}
    assert found["time"].dtype == "datetime64[ns]"
    assert list(tmp_path.iterdir()) == [tmp_path / f"x{suffix}"]


def test_a_plain_csv_is_named_by_its_file_and_sorted(tmp_path):
    text = "time,sensor_id,predicted,observed\n2020-01-02T00:00:00Z,NA,0.2,0.1\n2020-01-01,NA,,0.3\n"
    (tmp_path / "era5.csv").write_text(text)
    found = p.read_predictions(tmp_path / "era5.csv")
    assert found["observed"].tolist() == [0.3, 0.1]
    assert found["sensor_id"].tolist() == ["NA", "NA"]
    assert found.attrs["model"] == "era5"


@pytest.mark.parametrize("missing", ["", "NA", "NaN", "null", "None"])
def test_names_are_text_and_numbers_may_be_missing(tmp_path, missing):
    rows = [
        "NA,2020-01-01,0.1,0.2,NA,NA",
        "007,2020-01-01,0.3,0.4,null,1",
        f"None,2020-01-01,0.3,{missing},x,{missing}",
    ]
    header = "sensor_id,time,observed,predicted,climate,block\n"
    (tmp_path / "x.csv").write_text("\ufeff" + header + "\n".join(rows))
    found = p.read_predictions(tmp_path / "x.csv", labels=["block"]).set_index("sensor_id")
    assert list(found.index) == ["007", "NA", "None"]
    assert found["predicted"].isna().tolist() == [False, False, True]
    assert found["climate"].tolist() == ["null", "NA", "x"]
    assert found.loc["NA", "block"] == "NA"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_blanks_are_trimmed_and_repeated_rows_left_out_and_both_are_said(tmp_path, suffix):
    given = table(2, 3).assign(sensor_id=["S1 ", "S1", "S1", " 007", "007", "007"])
    given = pd.concat([given, given.iloc[[1, 3]]])
    given.to_csv(tmp_path / "x.csv", index=False) if suffix == ".csv" else given.to_parquet(tmp_path / "x.parquet")
    found = p.read_predictions(tmp_path / f"x{suffix}")
    assert found["sensor_id"].tolist() == ["007"] * 3 + ["S1"] * 3
    assert found.attrs["trimmed"] == [" 007", "S1 "]
    assert found.attrs["repeated"] == {"007": 1, "S1": 1}
    given.iloc[-1, given.columns.get_loc("predicted")] = 0.9
    given.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(ContractError, match="1 rows repeat the sensor and time of another"):
        p.read_predictions(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_text("sensor_id,time,observed,predicted\n  ,2020-01-01,0.1,0.1\n")
    with pytest.raises(ContractError, match="1 rows have no 'sensor_id'"):
        p.read_predictions(tmp_path / "y.csv")


def test_losses_are_counted_by_sensor_and_in_all():
    given = pd.concat([table(4), table(1, 5, seed=9).assign(sensor_id="short")], ignore_index=True)
    given.loc[:3, "predicted"] = np.nan
    given.loc[40, "observed"] = np.nan
    given.loc[given["sensor_id"] == "s2", "predicted"] *= 10
    given.attrs["repeated"] = {"s3": 2}
    rows, sums = count_losses(p.check_predictions(given), p.score_sensors(given), 13)
    assert rows["no_prediction"].tolist() == [4, 0, 0, 0, 0]
    assert rows["no_observation"].tolist() == [0, 1, 0, 0, 0]
    assert rows["repeated"].tolist() == [0, 0, 0, 2, 0]
    assert [bool(note) for note in rows["note"]] == [False, False, True, False, False]
    assert sums["sensors_below_min_obs"] == ["short"]
    assert sums["sensors_unlike_the_others"]["s2"] == pytest.approx(10, rel=0.4)
    assert (sums["rows_no_prediction"], sums["rows_repeated"]) == (4, 2)


def test_a_dry_sensor_is_not_unlike_the_others():
    given = table(5, 40)
    dry = given["sensor_id"] == "s1"
    given.loc[dry, ["observed", "predicted"]] *= 0.1
    assert count_losses(given, p.score_sensors(given), 13)[1]["sensors_unlike_the_others"] == {}


def test_a_few_sensors_in_another_unit_are_named():
    given = table(8, 30)
    one = given["sensor_id"] == "s5"
    ten, hundred = given.copy(), given.copy()
    ten.loc[one, "predicted"] *= 10
    hundred.loc[one, "predicted"] *= 100
    assert p.check_predictions(ten)["predicted"].max() > 1
    with pytest.raises(ContractError, match=r"26 values of 'predicted' at 1 of 8 sensors, as 's5'.*Divide those"):
        p.check_predictions(hundred)
    hundred = given.copy()
    hundred.loc[one, "observed"] *= 100
    with pytest.raises(ContractError, match=r"'observed' at 1 of 8 sensors, as 's5', looks like per cent"):
        p.check_predictions(hundred)


def changed(**columns) -> pd.DataFrame:
    return table().assign(**columns)


BAD = {
    "missing": (table().drop(columns="observed"), r"columns \['observed'\] are missing"),
    "empty": (table().iloc[:0], "no rows"),
    "no sensor": (changed(sensor_id=lambda t: t["sensor_id"].where(t.index > 0)), "1 rows have no 'sensor_id'"),
    "no time": (changed(time=lambda t: t["time"].where(t.index > 0)), "1 rows have no 'time'"),
    "zone": (changed(time=lambda t: t["time"].dt.tz_localize("Europe/Vienna")), "another zone.*Vienna.*UTC"),
    "zone in text": (changed(time=lambda t: t["time"].dt.strftime("%Y-%m-%dT%H:%M:%S+02:00")), "in another zone"),
    "zone by name": (changed(time=lambda t: t["time"].dt.strftime("%Y-%m-%d %H:%M:%S CET")), "in another zone.*CET"),
    "numbers as times": (changed(time=1.0), "plain numbers"),
    "text as times": (changed(time="yesterday"), "cannot be read"),
    "duplicates": (pd.concat([table(), table().iloc[[5]]]), "1 rows repeat.*s0.*2020-01-06"),
    "all NaN": (changed(predicted=np.nan), "'predicted' is NaN all over"),
    "per cent": (changed(observed=lambda t: 100 * t["observed"]), "'observed' looks like per cent.*Divide it by 100"),
    "per cent predicted": (changed(predicted=lambda t: 100 * t["predicted"]), "'predicted' looks like per cent"),
    "fill": (changed(observed=lambda t: t["observed"].where(t.index > 0, -9999)), "not volumetric.*-9999"),
    "infinite": (changed(predicted=lambda t: t["predicted"].where(t.index > 0, np.inf)), "1 values.*are infinite"),
    "text": (changed(predicted=lambda t: t["predicted"].astype(object).where(t.index > 0, "wet")), "no numbers.*wet"),
    "bool": (changed(predicted=True), "not numeric"),
    "models": (changed(model=lambda t: t["sensor_id"]), "several models"),
    "synthetic": (changed(synthetic="perhaps"), "neither 0 nor 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_refused(name):
    bad, message = BAD[name]
    with pytest.raises(ContractError, match=f"(?s)who: .*{message}"):
        p.check_predictions(bad, who="who")


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "+00:00"])
def test_utc_by_any_name_is_utc(zone):
    given = changed(time=lambda t: t["time"].dt.tz_localize(zone))
    assert p.check_predictions(given)["time"].tolist() == table()["time"].tolist()


def test_a_model_may_leave_the_range_a_little():
    given = table()
    given.loc[0, "predicted"] = -0.02
    assert p.check_predictions(given)["predicted"].min() == -0.02


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(CatalogError, match="no such file"):
        p.read_predictions(tmp_path / "no.csv")
    with pytest.raises(FormatError, match="neither CSV nor Parquet"):
        p.read_predictions(tmp_path / "no.xlsx")
    for name in ("x.parquet", "x.csv.gz", "x.csv"):
        (tmp_path / name).write_bytes(b"\x1f\x8b\x00broken\xff" if name != "x.csv" else b"")
        with pytest.raises(FormatError, match="unreadable"):
            p.read_predictions(tmp_path / name)


def test_an_unwritable_table_leaves_nothing(tmp_path):
    with pytest.raises(ContractError):
        p.write_predictions(table().drop(columns="time"), tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_same_pairs_are_those_that_both_have():
    a, b = table(), table()
    a.loc[0, "predicted"] = np.nan
    first, second, left_out = p.same_pairs(a, b.iloc[:-2])
    assert len(first) == len(second) == len(a) - 3
    assert left_out == (len(a) - 1) + (len(a) - 2) - 2 * (len(a) - 3)
    assert (first["sensor_id"] == second["sensor_id"]).all()
    assert (first["time"] == second["time"]).all()


def test_pairs_of_other_readings_or_none_are_refused():
    with pytest.raises(ContractError, match="differ in what was observed"):
        p.same_pairs(table(), table().assign(observed=0.2))
    with pytest.raises(ContractError, match=r"0 sensors in common.*sensor_id"):
        p.same_pairs(table(), table().assign(sensor_id="other"))
    later = table().assign(time=lambda t: t["time"] + pd.Timedelta("1h"))
    with pytest.raises(ContractError, match=r"4 sensors in common.*own-pairs"):
        p.same_pairs(table(), later)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_keep_what_is_known_of_a_sensor():
    given = table().assign(changing=lambda t: np.arange(len(t)))
    scores = p.score_sensors(given, intervals=["ubrmse"], n_boot=100)
    assert scores["climate"].tolist() == ["Cf", "BS", "Cf", "none"]
    assert "changing" not in scores
    one = given[given["sensor_id"] == "s2"]
    error = one["predicted"] - one["observed"]
    assert scores.loc[2, "ubrmse"] == pytest.approx(error.std(ddof=0), rel=1e-12)
    assert (scores["ubrmse_low"] < scores["ubrmse"]).all()
    assert (scores["ubrmse"] < scores["ubrmse_high"]).all()


def test_summary_rows_by_hand():
    given = pd.concat([table(), table(1, 5, seed=9).assign(sensor_id="short")])
    scores = p.score_sensors(given)
    assert scores.set_index("sensor_id").loc["short", "reason"] == "5 pairs, fewer than min_obs=13"
    rows = p.summary_rows(given, scores).set_index("kind")
    assert rows.loc["mean", "rmse"] == pytest.approx(scores["rmse"].dropna().mean())
    assert rows.loc["median", "pearson_r"] == pytest.approx(scores["pearson_r"].median())
    assert rows.loc["mean", ["n_sensors", "n"]].tolist() == [4, 120]
    assert rows.loc["pooled", ["n_sensors", "n"]].tolist() == [5, 125]
    assert rows.loc["pooled", "pearson_r"] == pytest.approx(np.corrcoef(given["observed"], given["predicted"])[0, 1])


def test_no_sensor_with_enough_pairs_gives_a_reason_not_a_number():
    given = table(2, 5)
    rows = p.summary_rows(given, p.score_sensors(given)).set_index("kind")
    assert np.isnan(rows.loc["mean", "ubrmse"])
    assert rows.loc["mean", "reason"] == "no sensor has a score"


def test_intervals_stay_where_the_score_can_be():
    given = pd.DataFrame({"pearson_r_low": [-1.7], "pearson_r_high": [1.2], "rmse_low": [-0.1], "bias_low": [-3.0]})
    assert _keep_possible(given).iloc[0].tolist() == [-1.0, 1.0, 0.0, -3.0]


# --- coarse products --------------------------------------------------------------------------------------------------


def insitu() -> InSituTables:
    sensors = pd.DataFrame(
        {
            "sensor_id": ["a", "b", "far"],
            "network": "N",
            "station": ["A", "B", "F"],
            "lat": [40.0, 41.0, 60.0],
            "lon": [-100.0, -101.0, 10.0],
            "climate_KG": ["Cfa", None, None],
            "lc_2010": pd.array([10, None, 130], "Int16"),
            "sand_fraction": [0.4, np.nan, 0.9],
            "silt_fraction": [0.4, np.nan, 0.05],
            "clay_fraction": [0.2, np.nan, 0.05],
        }
    )
    hours = pd.date_range("2020-06-01", periods=96, freq="h")
    readings = pd.DataFrame({"sensor_id": np.repeat(["a", "b", "far"], 96), "time": np.tile(hours, 3)})
    readings["soil_moisture"] = (0.1 + 0.001 * np.tile(np.arange(96), 3)).astype("float32")
    return InSituTables(sensors, readings.assign(sensor_id=readings["sensor_id"].astype("category")))


def product(times, values) -> xr.Dataset:
    dataset = xr.Dataset(
        {"soil_moisture": (("location", "time"), np.asarray(values, "float32"), {"units": "m3 m-3"})},
        coords={
            "time": pd.DatetimeIndex(times),
            "lat": ("location", [40.1, 41.1]),
            "lon": ("location", [-100.1, -101.0]),
        },
    )
    return stamp(dataset, source="test", catalog_id="x", synthetic=True, step="made")


def test_a_value_of_the_product_counts_once():
    times = ["2020-06-01 06:20", "2020-06-02 06:40", "2020-06-20 06:00"]
    found = p.predictions_of(product(times, [[0.2, 0.3, 0.4], [np.nan, 0.5, 0.6]]), insitu(), model="SMAP")
    assert found["sensor_id"].tolist() == ["a", "a", "b"]
    assert found["predicted"].tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert found["observed"].tolist() == pytest.approx(
        [0.106, 0.131, 0.131]
    )  # 06:00 of the first day, 07:00 of the next
    assert found.attrs == {"model": "SMAP", "synthetic": True, "matched": [3, 5], "sensors_left_out": 1}
    strata = found.drop_duplicates("sensor_id").set_index("sensor_id")
    assert strata.loc["a", ["land_cover", "texture", "climate"]].tolist() == ["Agriculture", "Loam", "Cf"]
    assert strata.loc["b", ["land_cover", "texture"]].tolist() == ["none", "none"]
    assert strata.loc["b", "climate"] in ("BS", "Df")  # by place: Nebraska


def test_a_second_product_is_taken_at_the_same_rows():
    times = ["2020-06-01 06:20", "2020-06-02 06:40"]
    first = p.predictions_of(product(times, [[0.2, 0.3], [0.4, 0.5]]), insitu(), model="SMAP")
    daily = product(["2020-06-01 12:00", "2020-06-04 12:00"], [[0.25, 0.9], [0.35, 0.9]])
    second = predictions_at(first, daily, model="ERA", window="12h")
    assert second["observed"].tolist() == first["observed"].tolist()
    np.testing.assert_allclose(second["predicted"], [0.25, np.nan, 0.35, np.nan], rtol=1e-6)
    assert second.attrs["model"] == "ERA"
    assert second.attrs["matched"] == [2, 4]


def test_nothing_to_match_is_an_error():
    with pytest.raises(ContractError, match=r"no value of SMAP has a reading near it.*Widen"):
        p.predictions_of(product(["2021-06-01", "2021-06-02"], np.full((2, 2), 0.2)), insitu(), model="SMAP")
    far = product(["2020-06-01", "2020-06-02"], np.full((2, 2), 0.2)).assign_coords(lat=("location", [0.0, 1.0]))
    with pytest.raises(ContractError, match="no sensor is near"):
        p.predictions_of(far, insitu(), model="SMAP")


# --- the ten-day table of stations ------------------------------------------------------------------------------------


def station_csv(path: Path, n_stations: int = 40, n: int = 20, **changes) -> Path:
    rng = np.random.default_rng(1)
    rows = n_stations * n
    start = np.tile(pd.date_range("2019-01-01", periods=n, freq="10D"), n_stations)
    frame = pd.DataFrame(
        {
            "network": "NET",
            "station": np.repeat([f"St_{i}" for i in range(n_stations)], n),
            "lat": np.repeat(rng.uniform(30, 48, n_stations).round(3), n),
            "lon": np.repeat(rng.uniform(-120, -75, n_stations).round(3), n),
            "start": pd.Series(start).dt.strftime("%Y-%m-%d"),
            "end": pd.Series(start + pd.Timedelta("10D")).dt.strftime("%Y-%m-%d"),
            "VV": -12.0,
            "VH": -20.0,
            "angle": 38.0,
            **dict.fromkeys(BANDS, 2000.0),
            "B10": 20.0,
            "ssm": rng.uniform(2, 25, rows),
            "fc": 20.0,
            "landcover": np.repeat(rng.choice([71, 82, 42, 47.8], n_stations), n),
            "mtpi": -1,
        }
    )
    frame["soil_moisture_insitu"] = (0.05 + 0.5 * frame["ssm"] / 50 + rng.normal(0, 0.02, rows)).clip(0.01, 0.6)
    frame.loc[:4, "soil_moisture_insitu"] = np.nan
    for name, value in changes.items():
        frame[name] = value(frame) if callable(value) else value
    with gzip.open(path, "wt") as stream:
        frame.to_csv(stream, index=False)
    return path


def test_station_table_states_and_converts_units(tmp_path):
    found = open_station_table([station_csv(tmp_path / "s.csv.gz")], catalog_id="x", synthetic=True)
    assert found.units["smap"] == "m3 m-3"
    assert found.report["native_units"]["ssm"] == "mm"
    assert found.table["reflectance_B8"].iloc[0] == pytest.approx(0.2)
    assert found.sensors["field_capacity"].iloc[0] == pytest.approx(0.2)
    assert found.table["smap"].max() < 0.5
    assert set(found.sensors["nlcd"].dropna()) <= {71, 82, 42}
    assert found.report["land_cover_no_code"] == found.sensors["nlcd"].isna().sum() > 0
    assert found.report["rows_without_in_situ"] == 5
    assert found.synthetic
    assert found.check("x") is found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ssm": lambda t: 10 * t["ssm"]}, "'ssm' cannot be in mm"),
        ({"soil_moisture_insitu": 20.0}, "cannot be in m3 m-3"),
        ({"B8": "dark"}, "'B8' is not numeric"),
        ({"lat": lambda t: t["lat"].where(t.index > 0, 50.0)}, "changes its place"),
        ({"start": "spring"}, "'start' is no date"),
        ({"station": "one", "lat": 40.0, "lon": -90.0, "landcover": 71}, "has a window twice"),
        ({"network": lambda t: t["network"].where(t.index > 0)}, "has no station"),
    ],
)
def test_a_bad_station_table_is_refused(tmp_path, changes, message):
    path = station_csv(tmp_path / "s.csv.gz", **changes)
    with pytest.raises((FormatError, ContractError), match=message):
        open_station_table([path], catalog_id="x")


def test_station_tables_that_are_none(tmp_path):
    (tmp_path / "a.csv").write_text("network,station\nA,B\n")
    with pytest.raises(FormatError, match="are missing"):
        open_station_table([tmp_path / "a.csv"], catalog_id="x")
    (tmp_path / "b.csv.gz").write_bytes(b"\x1f\x8bnot")
    with pytest.raises(FormatError, match="unreadable"):
        open_station_table([tmp_path / "b.csv.gz"], catalog_id="x")
    with pytest.raises(FormatError, match="one table"):
        open_station_table([tmp_path / "a.csv", tmp_path / "b.csv.gz"], catalog_id="x")


def test_the_line_is_fitted_without_the_station_and_its_block(tmp_path):
    stations = open_station_table([station_csv(tmp_path / "s.csv.gz")], catalog_id="x")
    as_it_is, found = station_predictions(stations, 3.0, 3)
    assert (found["observed"] == as_it_is["observed"]).all()
    assert len(found) == 795
    joined = found.assign(smap=as_it_is["predicted"])
    for number, fold in enumerate(folds(stations.sensors, "block", k=10, seed=3, buffer_km=50.0)):
        side = joined["sensor_id"].map(fold.assignment)
        line = LinearRegression().fit(joined.loc[side == "train", ["smap"]], joined.loc[side == "train", "observed"])
        test = joined[side == "test"]
        np.testing.assert_allclose(test["predicted"], line.predict(test[["smap"]]), rtol=1e-9)
        assert (test["fold"] == number).all()
        assert not set(test["block"]) & set(joined.loc[side == "train", "block"])


def test_no_value_of_a_station_enters_its_own_prediction(tmp_path):
    stations = open_station_table([station_csv(tmp_path / "s.csv.gz")], catalog_id="x")
    _, before = station_predictions(stations, 3.0, 3)
    station = before["sensor_id"].iloc[-1]
    own = stations.table["sensor_id"] == station
    stations.table.loc[own, "soil_moisture"] = 0.9 - stations.table.loc[own, "soil_moisture"]
    _, after = station_predictions(stations, 3.0, 3)
    mine = before["sensor_id"] == station
    assert (before.loc[mine, "predicted"] == after.loc[mine, "predicted"]).all()
    assert (before.loc[mine, "observed"] != after.loc[mine, "observed"]).all()
    assert (before["predicted"] != after["predicted"]).any()


def test_strata_of_stations_come_from_namesakes_else_from_the_code(tmp_path):
    stations = open_station_table([station_csv(tmp_path / "s.csv.gz", n_stations=3, landcover=82)], catalog_id="x")
    archive = stations.sensors.assign(
        variable="soil_moisture",
        climate_KG="BSk",
        lc_2010=120,
        sand_fraction=0.9,
        silt_fraction=0.05,
        clay_fraction=0.05,
    ).iloc[:2]
    found = station_strata(stations, pd.concat([archive, archive]))  # two sensors a station
    assert found["joined"].tolist() == [True, True, False]
    assert found["land_cover"].tolist() == ["Shrubs", "Shrubs", "Agriculture"]
    assert found["texture"].tolist() == ["Sand", "Sand", "none"]
    assert found["climate"].tolist()[:2] == ["BS", "BS"]
    assert found["climate_source"].tolist() == ["archive", "archive", "map"]
    assert found["land_cover_source"].tolist() == ["archive", "archive", "nlcd"]
    with pytest.raises(ContractError, match="apart"):
        station_strata(stations, archive.assign(lat=archive["lat"] + 1))


def test_the_real_station_table(shared_samples, repository):
    opened = p.open_predictions("conus", Catalog.load(repository / "data_catalog.yaml"), shared_samples)
    assert opened.notes["stations"] == 67
    assert opened.notes["of these in the ISMN archive, for texture and land cover"] == 66
    assert opened.notes["stations where SMAP never changes"] == "Bodega_6_WSW, Kingston_1_W, Santa_Barbara_11_W"
    scores = {model: p.score_sensors(table) for model, table in opened.tables.items()}
    r = [scores[model]["pearson_r"] for model in ("SMAP/50", "Linear on SMAP")]
    # a line with a positive slope cannot change a correlation
    np.testing.assert_allclose(r[0].dropna(), r[1].dropna(), rtol=1e-9)
    # the samples' own note: a line on SMAP reaches about 0.048 and 0.70 on the rows that have Sentinel, too
    assert scores["Linear on SMAP"]["ubrmse"].mean() == pytest.approx(0.046, abs=0.003)
    assert r[1].mean() == pytest.approx(0.71, abs=0.03)
    assert not opened.independent
    assert not opened.synthetic


# --- opening and the paper's tables -----------------------------------------------------------------------------------


def test_files_are_opened_under_their_models(tmp_path):
    for name, seed in (("one", 0), ("two", 1)):
        p.write_predictions(table(seed=seed).drop(columns="climate"), tmp_path / f"{name}.csv")
    catalog = Catalog.load()
    paths = [str(tmp_path / "one.csv"), str(tmp_path / "two.csv")]
    opened = p.open_predictions("unused", catalog, predictions=paths[0], other=paths[1])
    assert list(opened.tables) == ["one", "two"]
    assert opened.strata == ["climate"]
    assert opened.notes["no column, one"] == "land_cover, texture"
    table()[["sensor_id", "time", "observed", "predicted"]].to_csv(tmp_path / "bare.csv", index=False)
    bare = p.open_predictions("unused", catalog, predictions=str(tmp_path / "bare.csv"))
    with pytest.raises(ContractError, match=r"no column in common of land_cover, texture, climate.*smnb run 07"):
        _ = bare.strata
    with pytest.raises(ParameterError, match="one model"):
        p.open_predictions("unused", catalog, predictions=paths[0], other=paths[0])
    with pytest.raises(ParameterError, match="'predictions', which is empty"):
        p.open_predictions("sandbox", catalog, other=paths[0])
    with pytest.raises(ParameterError, match=r"moon.*\['conus', 'hawaii', 'sandbox'\]"):
        p.open_predictions("moon", catalog)


def test_tables_have_the_papers_rows_and_values():
    scores = p.score_sensors(table()).assign(texture="Loam")
    found = beside_paper(scores, "texture", n_boot=100)
    assert found["label"].tolist()[:3] == ["Loam*", "Sandy loam*", "Silty clay loam*"]
    assert len(found) == 11
    assert found.loc[0, ["paper_ubrmse", "paper_rmse", "paper_pearson_r"]].tolist() == [0.052, 0.085, 0.72]
    climate = beside_paper(scores, "climate", n_boot=100).set_index("label")
    assert climate.loc["Semi arid (BS)*", "paper_ubrmse"] == 0.063
    assert climate.loc["Humid subtropical (Cf)*", "n_scored"] == 2
    text = printed(found, "Soil texture")
    assert text.loc["Silty clay*", "Correlation, paper"] == "-"
    assert text.loc["Sandy loam*", "ubRMSE"] == "-"
    assert text.loc["Loam*", "ubRMSE, paper"] == "0.052"
    with pytest.raises(ParameterError, match="no other table of strata"):
        beside_paper(scores, "network")


@pytest.mark.parametrize(
    ("name", "head"), [("Table 10", "Land cover"), ("Table 11", "Soil texture type"), ("Table 12", "Climatic zone")]
)
def test_the_tables_hold_the_numbers_that_the_paper_prints(repository, name, head):
    shared = Path(os.environ.get("SMNB_SHARED", repository.parent / "shared"))
    papers = sorted((shared / "papers").glob("004_*.txt"))
    if not papers:
        pytest.skip("the papers' texts are absent: set SMNB_SHARED to the folder that holds papers/")
    text = papers[0].read_text(encoding="utf-8")
    body = text[text.index(f"\n{head}\n", text.index("SPATIAL STRATIFICATION")) :]
    cells = [line.strip() for line in body[: body.index(f"{name}.")].splitlines() if line.strip()][4:]
    found = published("batchu2023", name)
    assert len(cells) == 4 * len(found.rows)
    starred = []
    for k, (row, values) in enumerate(found.rows.items()):
        label, *numbers = cells[4 * k : 4 * k + 4]
        assert label.rstrip("*") == row
        starred += [row] if label.endswith("*") else []
        np.testing.assert_array_equal([np.nan if number == "-" else float(number) for number in numbers], values)
    few = re.search("asterisk: (.*)\\.", found.caveats[0])[1].split(", ")
    assert [any(one in row for one in few) for row in starred] == [True] * len(few)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("time", pa.array([b"\xff"] * 4), "unreadable: UnicodeDecodeError"),
        ("sensor_id", pa.array([[1.0]] * 4), "hold lists or mappings"),
        ("climate", pa.array([{"a": 1}] * 4), "hold lists or mappings"),
        ("time", pa.array([10**15] * 4, pa.timestamp("s")), "a time cannot be read: .*1678 to 2261"),
        ("time", pa.array(["3000-01-01"] * 4), "a time cannot be read: .*1678 to 2261"),
        ("time", pa.array(["0001-01-01"] * 4), "a time cannot be read: .*1678 to 2261"),
    ],
)
def test_odd_columns_of_parquet_are_one_error(tmp_path, column, values, message):
    columns = {"sensor_id": list("abcd"), "time": ["2020-01-01"] * 4, "observed": [0.1] * 4, "predicted": [0.2] * 4}
    pq.write_table(pa.table({**columns, column: values}), tmp_path / "a.parquet")
    with pytest.raises((FormatError, ContractError), match=message):
        p.read_predictions(tmp_path / "a.parquet")


def test_names_that_parquet_holds_as_bytes_are_text(tmp_path):
    columns = {"time": ["2020-01-01"] * 2, "observed": [0.1] * 2, "predicted": [0.2] * 2}
    pq.write_table(pa.table({"sensor_id": pa.array([b"S1", b"S2"]), **columns}), tmp_path / "a.parquet")
    assert p.read_predictions(tmp_path / "a.parquet")["sensor_id"].tolist() == ["S1", "S2"]


def test_a_text_that_stands_in_every_row_is_bounded(tmp_path):
    long = pa.array(["x" * 100_000] * 100)
    with pq.ParquetWriter(
        tmp_path / "a.parquet", pa.schema([("sensor_id", pa.string())]), store_schema=False
    ) as writer:
        for _ in range(120):
            writer.write_table(pa.table({"sensor_id": long}))
    with pytest.raises(FormatError, match=r"column 'sensor_id' is too large to be read; got 1,200 MB or more"):
        p.read_predictions(tmp_path / "a.parquet")
