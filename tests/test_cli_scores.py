"""The commands score and compare: files, what is printed, and one clear line for mistakes."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from smnb.cli import app as cli
from smnb.metrics import pearson_r, ubrmse
from smnb.sensors import write_predictions


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def table(error: float = 0.03, seed: int = 0, n_sensors: int = 8, n: int = 40) -> pd.DataFrame:
    observed = np.random.default_rng(7).uniform(0.1, 0.4, n_sensors * n)
    noise = np.random.default_rng(seed).normal(0, error, observed.size)
    return pd.DataFrame(
        {
            "sensor_id": np.repeat([f"00{i}" for i in range(n_sensors)], n),
            "time": np.tile(pd.date_range("2020-01-01", periods=n, freq="D"), n_sensors),
            "observed": observed,
            "predicted": observed + 0.05 + noise,
            "climate": np.repeat((["Cf"] * 6 + ["BS"] * 2)[:n_sensors], n),
            "station": np.repeat([f"st{i // 2}" for i in range(n_sensors)], n),
        }
    )


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_predictions(table(), tmp_path / "good.csv")
    write_predictions(table(0.08, 1), tmp_path / "poor.parquet")
    return tmp_path


@pytest.mark.parametrize("command", ["score", "compare"])
def test_help_has_an_example(command):
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: smnb {command}" in " ".join(result.output.split())


def test_score_writes_a_row_a_sensor_and_the_averages(files, capsys):
    status, out, err = call(capsys, "score", "good.csv", "--out", "scores.csv")
    assert (status, err) == (0, "")
    rows = pd.read_csv("scores.csv", dtype={"sensor_id": str}, keep_default_na=False, na_values=[""])
    assert rows["kind"].tolist() == ["sensor"] * 8 + ["mean", "cluster_mean", "median", "pooled"]
    assert rows["sensor_id"].tolist() == [f"00{i}" for i in range(8)] + rows["kind"].tolist()[8:]
    for column in ("n", "bias", "rmse", "ubrmse", "r", "spearman", "r2", "slope", "anomaly_r", "reason"):
        assert column in rows
    assert not any(column.endswith("_low") for column in rows)
    one = table().query("sensor_id == '003'")
    assert rows.loc[3, "ubrmse"] == pytest.approx(
        float(ubrmse(one["predicted"].to_numpy(), one["observed"].to_numpy()))
    )
    assert rows.loc[3, "r"] == pytest.approx(float(pearson_r(one["predicted"].to_numpy(), one["observed"].to_numpy())))
    assert rows.loc[8, "ubrmse"] == pytest.approx(rows.loc[:7, "ubrmse"].mean())
    assert rows.loc[9, "ubrmse"] == pytest.approx(
        rows.loc[:7, "ubrmse"].mean()
    )  # stations of two sensors weigh the same
    assert rows.loc[10, "ubrmse"] == pytest.approx(rows.loc[:7, "ubrmse"].median())
    assert rows.loc[8:, "n_sensors"].tolist() == [8, 8, 8, 8]
    assert rows.loc[8:, "n"].tolist() == [320, 320, 320, 320]
    assert "good: 8 of 8 sensors have 13 pairs or more" in out
    assert out.splitlines()[1].split() == ["N", "BIAS", "RMSE", "UBRMSE", "R", "ANOMALY_R"]
    assert f"{rows.loc[8, 'ubrmse']:.4f}" in out


def test_score_with_intervals_and_strata(files, capsys):
    status, out, _ = call(
        capsys, "score", "good.csv", "--out", "s.csv", "--intervals", "--by", "climate", "--clusters", "station"
    )
    assert status == 0
    rows = pd.read_csv("s.csv")
    inside = (rows["ubrmse_low"] < rows["ubrmse"]) & (rows["ubrmse"] < rows["ubrmse_high"])
    assert inside[:8].all()
    assert rows.loc[8, ["ubrmse_low", "r_low"]].isna().all()  # four stations are too few to draw again
    assert rows.loc[:7, "climate"].tolist() == ["Cf"] * 6 + ["BS"] * 2
    strata = pd.read_csv("s.by_climate.csv", keep_default_na=False)
    assert strata[["climate", "few", "n_sensors"]].to_numpy().tolist() == [["BS", "*", 2], ["Cf", "", 6]]
    assert "BS*" in out
    assert "s.csv, s.by_climate.csv" in out
    call(capsys, "score", "good.csv", "--out", "s.csv", "--intervals", "--clusters", "sensor_id")
    rows = pd.read_csv("s.csv")
    assert rows.loc[8, "ubrmse_low"] < rows.loc[8, "ubrmse"] < rows.loc[8, "ubrmse_high"]


def test_intervals_draw_blocks_of_the_coordinates_and_say_how_many(files, capsys):
    # 24 sensors: eight blocks of two, one of them a station across a block's border, and one of eight
    lat = np.repeat([41.0, 44.0, 47.0, 50.0, 53.0, 35.0, 26.0, 29.9, 30.2, 38.0], [2, 2, 2, 2, 2, 2, 2, 1, 1, 8])
    station = np.repeat(np.arange(12), 2)
    parts = [table(seed=i).assign(sensor_id=lambda t, i=i: f"{i}" + t["sensor_id"].str[1:]) for i in range(3)]
    many = pd.concat(parts, ignore_index=True)
    place = np.repeat(np.arange(24), 40)
    many = many.assign(lat=lat[place], lon=-97.0, station=station[place].astype(str), network="N")
    write_predictions(many, "many.csv")
    status, out, err = call(capsys, "score", "many.csv", "--out", "s.csv", "--intervals")
    assert (status, err) == (0, "")
    rows = pd.read_csv("s.csv").set_index("kind").loc[["mean", "cluster_mean", "median"]]
    sizes = np.array([2, 2, 2, 2, 2, 2, 2, 2, 8])
    assert (
        f"intervals draw 9 times a block of 3 degrees, which count as {24**2 / (sizes**2).sum():.1f} of one size" in out
    )
    assert (rows["ubrmse_low"] < rows["ubrmse"]).all()
    assert (rows["ubrmse"] < rows["ubrmse_high"]).all()
    # now one block holds more than half
    keep = many["lat"].isin([38.0, 41.0, 44.0]) | many["sensor_id"].isin(["006", "100"])
    write_predictions(many[keep], "half.csv")
    status, out, err = call(capsys, "score", "half.csv", "--out", "s.csv", "--intervals", "--json")
    drawn = json.loads(out)["clusters"]
    assert (drawn["number"], drawn["note"]) == (5, "one of 5 clusters holds 57 % of the sensors")
    rows = pd.read_csv("s.csv").set_index("kind")
    assert rows.loc[["mean", "median"], ["ubrmse_low", "r_high"]].isna().all(axis=None)
    assert rows.loc["cluster_mean", "ubrmse_low"] < rows.loc["cluster_mean", "ubrmse"]
    write_predictions(many[keep].assign(predicted=many["predicted"] + 0.01), "other.csv")
    out = call(capsys, "compare", "half.csv", "other.csv", "--metric", "rmse")[1]
    assert "without an interval (one of 5 clusters holds 57 % of the sensors)" in out
    assert "each cluster weighing the same it is -0.0" in out


def test_score_as_json_has_null_where_there_is_no_score(files, capsys):
    short = pd.concat([table(), table(n_sensors=1, n=5).assign(sensor_id="short")])
    write_predictions(short, files / "short.csv")
    status, out, _ = call(capsys, "score", "short.csv", "--out", "s.csv", "--json")
    found = json.loads(out)["s.csv"]
    assert status == 0
    row = next(row for row in found if row["sensor_id"] == "short")
    assert row["ubrmse"] is None
    assert row["reason"] == "5 pairs, fewer than min_obs=13"
    assert json.loads(call(capsys, "score", "short.csv", "--out", "s.csv", "--json", "--min-obs", "5")[1])["s.csv"][8][
        "rmse"
    ]


@pytest.fixture
def lossy(files):
    given = pd.concat([table(), table(n_sensors=1, n=5).assign(sensor_id="short")], ignore_index=True)
    given["sensor_id"] = given["sensor_id"].replace({"000": "NA"})
    given.loc[:2, "predicted"] = np.nan
    given.loc[given["sensor_id"] == "003", "predicted"] *= 10
    given = pd.concat([given, given.iloc[[50, 51]]])
    given.loc[given.index[-1], "sensor_id"] += " "
    given.to_csv("lossy.csv", index=False)
    return files


def test_score_counts_what_is_lost_in_the_table_the_text_and_the_json(lossy, capsys):
    status, out, _ = call(capsys, "score", "lossy.csv", "--out", "s.csv")
    assert status == 0
    for text in (
        "3 rows have no prediction",
        "2 rows repeat another",
        "fewer than 13 pairs and no score: 1 sensor (short)",
    ):
        assert text in out
    assert re.search(r"predictions \d+(\.\d)? times the others' \(another unit\?\): 1 sensor \(003\)", out)
    assert "blanks around '001 ' were trimmed" in out
    rows = pd.read_csv("s.csv", keep_default_na=False).set_index("sensor_id")
    assert rows.loc["NA", "no_prediction"] == 3
    assert rows.loc["001", "repeated"] == 2
    assert "times the others" in rows.loc["003", "note"]
    assert rows.loc[["mean", "pooled"], "no_prediction"].tolist() == [3, 3]
    losses = json.loads(call(capsys, "score", "lossy.csv", "--out", "s.csv", "--json")[1])["losses"]
    assert (losses["rows_no_prediction"], losses["rows_repeated"]) == (3, 2)
    assert losses["sensors_below_min_obs"] == ["short"]
    assert list(losses["sensors_unlike_the_others"]) == ["003"]
    assert losses["names_trimmed"] == ["001 "]


def test_compare_counts_what_each_of_the_two_lacks(lossy, capsys):
    status, out, _ = call(capsys, "compare", "lossy.csv", "good.csv")
    assert status == 0
    assert "lossy: 3 rows have no prediction" in out
    assert "pairs in one of the two only: 3 sensors (000, NA, short)" in out
    found = json.loads(call(capsys, "compare", "lossy.csv", "good.csv", "--json")[1])
    assert found["losses"]["a"]["rows_no_prediction"] == 3
    assert found["losses"]["a"]["sensors_below_min_obs"] == ["NA", "short"]
    assert found["losses"]["b"]["rows_no_prediction"] == 0
    assert found["sensors_of_one_only"] == ["000", "NA", "short"]


ODD = {
    "nested cells": ({"climate": [["Cf"]] * 320}, r"columns \['climate'\] hold lists or mappings"),
    "mappings": ({"observed": [{"a": 1}] * 320}, r"columns \['observed'\] hold lists or mappings"),
    "year 3000": ({"time": "3000-01-01"}, "a time cannot be read: .*of the years 1678 to 2261"),
    "year 1": ({"time": "0001-01-01"}, "a time cannot be read: "),
    "no text": ({"sensor_id": [b"\xff"] * 320}, "the table is unreadable: UnicodeDecodeError"),
    "times as values": (
        {"predicted": pd.Timestamp("2020-01-01")},
        "column 'predicted' is not numeric; got 'datetime64",
    ),
    "place as text": ({"lat": "N40"}, "column 'lat' is not numeric; got 'N40'"),
    "decimal commas": ({"observed": "0,2"}, "320 values of 'observed' are no numbers; got '0,2'"),
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_table_is_one_line(files, capsys, what):
    columns, said = ODD[what]
    table().assign(**columns).to_parquet("odd.parquet")
    for command in (("score", "odd.parquet", "--out", "s.csv"), ("compare", "odd.parquet", "good.csv")):
        status, out, err = call(capsys, *command)
        assert (status, out) == (2, "")
        assert re.fullmatch(rf"error: predictions \(odd.parquet\): {said}.*\n", err)


def test_a_column_that_occurs_twice_is_refused(files, capsys):
    text = (files / "good.csv").read_text().replace("station", "predicted", 1)
    (files / "twice.csv").write_text(text)
    status, _, err = call(capsys, "score", "twice.csv", "--out", "s.csv")
    assert status == 2
    assert re.fullmatch(r"error: twice.csv: columns occur twice; got \['predicted'\].*\n", err)


def test_identical_predictions_have_a_reason(files, capsys):
    write_predictions(table().assign(predicted=0.2), files / "flat.csv")
    status, _, _ = call(capsys, "score", "flat.csv", "--out", "s.csv")
    rows = pd.read_csv("s.csv")
    assert status == 0
    assert rows.loc[:7, "r"].isna().all()
    assert rows.loc[:7, "ubrmse"].notna().all()
    assert set(rows.loc[:7, "reason"]) == {"the predictions are constant"}


def test_synthetic_data_say_so(files, capsys):
    given = table()
    given.attrs["synthetic"] = True
    write_predictions(given, files / "box.csv")
    assert "(synthetic)" in call(capsys, "score", "box.csv", "--out", "s.csv")[1]
    assert "(synthetic)" in call(capsys, "compare", "box.csv", "poor.parquet")[1]


def test_compare_says_who_is_better_and_by_how_much(files, capsys):
    alone = ("--clusters", "sensor_id")
    status, out, err = call(capsys, "compare", "good.csv", "poor.parquet", *alone)
    assert (status, err) == (0, "")
    assert out.startswith("good beats poor by 0.0")
    assert "in mean ubRMSE (95 % interval, 8 sensors, paired)" in out
    found = json.loads(call(capsys, "compare", "poor.parquet", "good.csv", "--metric", "r", "--json", *alone)[1])
    assert found["low"] < found["difference"] < found["high"] < 0
    assert (found["n_sensors"], found["pairs_left_out"], found["synthetic"]) == (8, 0, False)
    assert found["sentence"].startswith("good beats poor")


def test_compare_scores_both_on_the_same_pairs(files, capsys):
    write_predictions(table(0.08, 1).groupby("sensor_id").head(30), files / "part.csv")
    found = json.loads(call(capsys, "compare", "good.csv", "part.csv", "--json")[1])
    assert found["pairs_left_out"] == 8 * 10
    own = json.loads(call(capsys, "compare", "good.csv", "part.csv", "--own-pairs", "--json")[1])
    assert own["pairs_left_out"] == 0
    assert own["a_value"] != found["a_value"]
    assert own["b_value"] == found["b_value"]


BAD = {
    "no file": (["score", "no.csv", "--out", "s.csv"], "no such file"),
    "out is no csv": (["score", "good.csv", "--out", "s.json"], "--out does not end in .csv"),
    "no stratum": (["score", "good.csv", "--out", "s.csv", "--by", "soil"], "no column 'soil'"),
    "min_obs": (["score", "good.csv", "--out", "s.csv", "--min-obs", "0"], "'min_obs'"),
    "no out": (["score", "good.csv"], "--out"),
    "metric": (["compare", "good.csv", "poor.parquet", "--metric", "slope"], "unknown 'metric'.*ubrmse"),
    "cluster": (
        ["compare", "good.csv", "poor.parquet", "--clusters", "river"],
        "smnb compare: the table has no column",
    ),
    "no sensor in common": (["compare", "good.csv", "other.csv"], "share no sensor and time"),
    "per cent": (["score", "percent.csv", "--out", "s.csv"], "looks like per cent"),
    "stratum changes": (["score", "moving.csv", "--out", "s.csv", "--by", "climate"], "more than one 'climate'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line_and_writes_nothing(files, capsys, name):
    table().assign(sensor_id="x" + table()["sensor_id"]).to_csv("other.csv", index=False)
    table().assign(observed=100 * table()["observed"]).to_csv("percent.csv", index=False)
    moving = table()
    moving.loc[0, "climate"] = "Df"
    moving.to_csv("moving.csv", index=False)
    before = sorted(files.iterdir())
    arguments, message = BAD[name]
    status, out, err = call(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert sorted(files.iterdir()) == before
