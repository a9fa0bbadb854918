"""The checkpoint that comes with the package: what it is, what it says of tables, and what it refuses."""

from __future__ import annotations

import gzip
import json
import tomllib

import numpy as np
import pandas as pd
import pytest

from smnb.contract import FormatError, ParameterError
from smnb.papers.stations.table import COLUMNS
from smnb.pretrained import PRETRAINED, card_text, load_pretrained, predict_table

S1, S2 = ["VV", "VH", "angle"], [name for name in COLUMNS if name.startswith("B")]


def native(stations: int = 3, windows: int = 30, seed: int = 0) -> pd.DataFrame:
    """A table in the units of the published one."""
    rng = np.random.default_rng(seed)
    size = stations * windows
    number = np.repeat(np.arange(stations), windows)
    window = np.tile(np.arange(windows), stations)
    start = pd.Timestamp("2020-01-01") + pd.to_timedelta(window * 10, unit="D")
    table = pd.DataFrame(
        {
            "network": "NET",
            "station": [f"Place_{i}_N" for i in number],
            "lat": 33.0 + 2.5 * number,
            "lon": -99.0 + number,
            "start": start.strftime("%Y-%m-%d"),
            "end": (start + pd.Timedelta("10D")).strftime("%Y-%m-%d"),
            "VV": rng.normal(-12, 1, size),
            "VH": rng.normal(-20, 1, size),
            "angle": rng.normal(38, 1, size),
            **{band: rng.uniform(1000, 2000, size) for band in S2},
            "ssm": rng.uniform(4, 24, size),
            "fc": 22.0,
            "landcover": 71.0,
            "mtpi": 1.0,
        }
    )
    table["B10"] = rng.uniform(10, 40, size)
    return table.round(4)


@pytest.fixture
def predict(tmp_path):
    def run(table: pd.DataFrame) -> pd.DataFrame:
        table.to_csv(tmp_path / "in.csv", index=False)
        predict_table("conus_points", tmp_path / "in.csv", tmp_path / "out.csv")
        return pd.read_csv(tmp_path / "out.csv")

    return run


@pytest.fixture
def refusal(tmp_path):
    def run(table: pd.DataFrame) -> str:
        table.to_csv(tmp_path / "in.csv", index=False)
        with pytest.raises(FormatError) as caught:
            predict_table("conus_points", tmp_path / "in.csv", tmp_path / "out.csv")
        assert not (tmp_path / "out.csv").exists()
        return str(caught.value)

    return run


# --- the files --------------------------------------------------------------------------------------------------------


def test_the_checkpoint_is_small_packaged_and_says_what_it_is(repository):
    folder = repository / "smnb" / "pretrained" / "conus_points"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    card = json.loads((folder / "model.json").read_text())
    assert card["target"]["units"] == "m3 m-3"
    assert card["training"]["data"]["stations"] == 67
    text = card_text("conus_points")
    assert f"{card['training']['scores']['GroupKFold(10)']['ubrmse']:.4f}" in text
    for word in ("Data", "Split", "Scores", "Limits", "Licence"):
        assert f"## {word}" in text, word
    package_data = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"].get(
        "package-data", {}
    )
    patterns = package_data.get("smnb.pretrained", []) + package_data.get("smnb", [])
    assert any("safetensors" in pattern for pattern in patterns), "the wheel would not hold the checkpoint"


def test_the_checkpoint_holds_no_data_rows():
    trained = load_pretrained("conus_points")
    config = trained.model.config
    allowed = {
        1,
        len(trained.card["channels"]),
        *config.features.values(),
        config.encoder_width,
        config.joint_width,
        config.encoder_width * len(config.features),
    }
    for name, value in trained.model.state_dict().items():
        assert set(value.shape) <= allowed, name


def test_an_unknown_model_lists_the_known_ones(tmp_path):
    for call in (load_pretrained, card_text, lambda name: predict_table(name, tmp_path / "x.csv", tmp_path / "y.csv")):
        with pytest.raises(
            ParameterError, match="unknown model; got 'conus'; expected \\['conus_points', 'smap_s1_1km'"
        ):
            call("conus")
    assert {"conus_points", "smap_s1_1km", "smap_s1_3km"} <= set(PRETRAINED)


# --- predictions ------------------------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_with_two_columns_more(tmp_path):
    table = native().assign(note="x, y", soil_moisture_insitu=0.3)
    with gzip.open(tmp_path / "in.csv.gz", "wt") as stream:
        table.to_csv(stream, index=False)
    result = predict_table("conus_points", tmp_path / "in.csv.gz", tmp_path / "out.csv.gz")
    found = pd.read_csv(tmp_path / "out.csv.gz")
    assert list(found.columns) == [*table.columns, "predicted", "low90", "high90", "n_sources"]
    pd.testing.assert_frame_equal(found[list(table.columns)], table)
    assert found["predicted"].between(0.0, 0.6).all()
    assert (found["n_sources"] == 4).all()
    assert result.report["rows"] == 90
    assert list(tmp_path.glob(".*")) == []


def test_readings_correct_their_station_and_are_counted(tmp_path):
    table = native()
    table.to_csv(tmp_path / "in.csv", index=False)
    plain = predict_table("conus_points", tmp_path / "in.csv", tmp_path / "plain.csv").table
    numbers = plain[["predicted", "low90", "high90"]].astype(float)
    assert (numbers["low90"] >= 0).all()
    assert (numbers["low90"] < numbers["predicted"]).all()
    assert (numbers["predicted"] < numbers["high90"]).all()
    at = table.iloc[[4, 30]]
    readings = at[["network", "station", "start"]].assign(soil_moisture=numbers["predicted"].iloc[[4, 30]] + 0.1)
    extra = readings.iloc[:1].assign(start="1999-01-01"), readings.iloc[:1].assign(soil_moisture=np.nan)
    pd.concat([readings, *extra]).to_csv(tmp_path / "readings.csv", index=False)
    done = predict_table("conus_points", tmp_path / "in.csv", tmp_path / "out.csv", calibrate=tmp_path / "readings.csv")
    found = done.table[["predicted", "low90", "high90"]].astype(float)
    stations = set(zip(at["network"], at["station"], strict=True))
    here = np.array([pair in stations for pair in zip(table["network"], table["station"], strict=True)])
    assert 0.03 < (found["predicted"] - numbers["predicted"])[here].mean() < 0.1
    assert ((found["high90"] - found["low90"]) < (numbers["high90"] - numbers["low90"]))[here].mean() > 0.9
    np.testing.assert_array_equal(found[~here], numbers[~here])
    wanted = {"readings_used": 2, "readings_at_no_row": 1, "readings_without_value": 1, "readings_in_percent": 0}
    assert wanted.items() <= done.report.items()
    percent = readings.assign(soil_moisture=readings["soil_moisture"] * 100)
    percent.to_csv(tmp_path / "readings.csv", index=False)
    same = predict_table("conus_points", tmp_path / "in.csv", tmp_path / "out.csv", calibrate=tmp_path / "readings.csv")
    np.testing.assert_allclose(same.table["predicted"].astype(float), found["predicted"], atol=2e-6)
    assert same.report["readings_in_percent"] == 2
    for bad, message in (
        (readings.assign(start="1999-01-01"), "no reading is at a row"),
        (readings.drop(columns="soil_moisture"), "soil_moisture"),
        (readings.assign(soil_moisture=-0.2), "no soil moisture"),
        (readings.assign(start="yesterday"), "no times"),
    ):
        bad.to_csv(tmp_path / "bad.csv", index=False)
        with pytest.raises(FormatError, match=message):
            predict_table("conus_points", tmp_path / "in.csv", tmp_path / "out.csv", calibrate=tmp_path / "bad.csv")


def test_the_in_situ_column_is_not_used(predict):
    table = native()
    expected = predict(table)["predicted"]
    for odd in (0.3, 55.0, np.nan):
        pd.testing.assert_series_equal(predict(table.assign(soil_moisture_insitu=odd))["predicted"], expected)


def test_a_station_is_predicted_from_its_own_rows_in_any_order(predict):
    table = native()
    whole = predict(table)["predicted"]
    one = table["station"] == "Place_1_N"
    np.testing.assert_array_equal(predict(table[one])["predicted"], whole[one])
    order = np.random.default_rng(1).permutation(len(table))
    np.testing.assert_array_equal(predict(table.iloc[order])["predicted"], whole.iloc[order])
    doubled = predict(pd.concat([table, table.iloc[3:5]]))
    np.testing.assert_allclose(doubled["predicted"][: len(table)], whole, atol=2e-6)
    np.testing.assert_allclose(doubled["predicted"][len(table) :], whole[3:5], atol=2e-6)


@pytest.mark.parametrize("rows", [[0], [0, 4, 5, 17], list(range(0, 30, 7))])
def test_single_rows_and_gaps_are_predicted(predict, rows):
    found = predict(native(1).iloc[rows])
    assert len(found) == len(rows)
    assert found["predicted"].between(0.0, 0.6).all()


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        (S1, 3),
        (S2, 3),
        (["ssm"], 3),
        (["fc", "mtpi", "landcover"], 3),
        ([*S1, *S2], 2),
        ([*S1, *S2, "ssm"], 1),
        ([*S1, *S2, "ssm", "fc", "mtpi", "landcover"], 0),
    ],
)
def test_rows_without_a_source_are_predicted_with_fewer_sources(predict, columns, left):
    table = native()
    table.loc[5:20, columns] = np.nan
    found = predict(table)
    assert (found["n_sources"][5:21] == left).all()
    assert (found["n_sources"].drop(range(5, 21)) == 4).all()
    assert found["predicted"].between(0.0, 0.6).all()
    table[columns] = np.nan  # the source is missing throughout
    assert predict(table)["predicted"].notna().all()


def test_unknown_land_cover_is_counted_and_taken_as_unknown(tmp_path, predict):
    table = native()
    table.loc[table["station"] == "Place_0_N", "landcover"] = 111.0  # Copernicus' code, not the NLCD's
    table.to_csv(tmp_path / "in.csv", index=False)
    report = predict_table("conus_points", tmp_path / "in.csv", tmp_path / "out.csv").report
    assert report["rows_of_unknown_land_cover"] == 30
    missing = table.replace({"landcover": {111.0: np.nan}})
    np.testing.assert_array_equal(predict(table)["predicted"], predict(missing)["predicted"])


@pytest.mark.parametrize(
    ("columns", "value", "reason"),
    [
        (S1, 0.0, "fill"),
        (S1, -np.inf, "fill"),
        (S1, -9999.0, "fill"),
        (["VV"], -80.0, "out_of_range"),
        (["angle"], 91.0, "out_of_range"),
        (S2, 0.0, "fill"),
        (["B4"], 65535.0, "fill"),
        (["B4", "B5"], 30000.0, "out_of_range"),
        (["ssm"], 0.0, "fill"),
        (["ssm"], 255.0, "out_of_range"),
        (["fc", "mtpi", "landcover"], -32768.0, "fill"),
        (["mtpi"], 9.96921e36, "out_of_range"),
    ],
)
def test_numbers_that_are_no_data_are_taken_as_empty_cells_and_counted(tmp_path, predict, columns, value, reason):
    table, rows = native(), [3, 4, 40]
    table[columns] = table[columns].astype(float)
    table.loc[rows, columns] = np.nan
    expected = predict(table)
    table.loc[rows, columns] = value
    found = predict(table)
    np.testing.assert_array_equal(found[["predicted", "n_sources"]], expected[["predicted", "n_sources"]])
    report = predict_table("conus_points", tmp_path / "in.csv", tmp_path / "out.csv").report
    assert report["masked"] == {name: {reason: 3} for name in COLUMNS if name in columns}


def test_an_infinite_column_is_an_empty_one(predict):
    table = native()
    expected = predict(table.assign(VV=np.nan))["predicted"]
    pd.testing.assert_series_equal(predict(table.assign(VV=-np.inf))["predicted"], expected)


def test_rows_of_linear_power_and_of_an_offset_taken_off_twice_lose_that_sensor(predict):
    table, rows = native(), [3, 4, 40]
    lost = table.copy()
    lost.loc[rows, ["VV", "VH", *S2]] = np.nan
    table.loc[rows, ["VV", "VH"]] = 10 ** (table.loc[rows, ["VV", "VH"]] / 10)
    table.loc[rows, S2] -= 1000.0  # B10 is below zero, the others could be
    pd.testing.assert_series_equal(predict(table)["predicted"], predict(lost)["predicted"])


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(ssm=t["ssm"] / 50), ("'ssm'", "mm", "multiply by 50")),
        (lambda t: t.assign(**{b: t[b] / 1e4 for b in S2}), ("'B1'", "DN", "multiply by 10,000")),
        (lambda t: t.assign(VV=10 ** (t["VV"] / 10)), ("'VV'", "dB", "10 log10")),
        (lambda t: t.assign(VH=10 ** (t["VH"] / 10)), ("'VH'", "dB", "10 log10")),
        (lambda t: t.assign(fc=t["fc"] / 100), ("'fc'", "volume %", "multiply by 100")),
        (lambda t: t.assign(angle=np.deg2rad(t["angle"])), ("'angle'", "degree", "180/pi")),
        (lambda t: t.assign(ssm=t["ssm"] * 100), ("'ssm' cannot be in mm", "expected (0.0, 60.0)")),
        (lambda t: t.drop(columns=["VH", "ssm"]), ("columns ['VH', 'ssm'] are missing", "Leave cells empty")),
        (
            lambda t: t.assign(lat=np.where(t.index == 4, np.nan, t["lat"])),
            ("no station, place or time", "row 6 of the file"),
        ),
        (lambda t: t.assign(lat=t["lon"]), ("not on the Earth",)),
        (lambda t: t.assign(lat=np.where(t.index == 4, 40.0, t["lat"])), ("changes its place", "NET__Place_0_N")),
        (lambda t: t.assign(start="yesterday"), ("'start' is no date", "2019-01-01")),
        (lambda t: t.assign(VV="low"), ("'VV' is not numeric", "'low'")),
        (lambda t: t.assign(angle=-t["angle"]), ("'angle' cannot be in degree", "expected (0.0, 90.0)")),
        (lambda t: t.iloc[:0], ("no rows",)),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_the_reason(refusal, change, said):
    message = refusal(change(native()))
    assert "read_points(in.csv)" in message
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("offset", "start", "rows", "said"),
    [
        (
            1000.0,
            "2020-01-01",
            slice(None),
            "offset of 1000 was not taken off at station 'NET__Place_0_N', before 2022-01-25",
        ),
        (
            1000.0,
            "2022-01-01",
            slice(64, None),
            "not taken off at station 'NET__Place_2_N', since 2022-01-25; got a median of B10",
        ),
        (1000.0, "2020-01-01", slice(3, 9), "was not taken off at station 'NET__Place_0_N'"),
        (-1000.0, "2020-01-01", slice(None), "offset of 1000 was taken off twice at station 'NET__Place_0_N'"),
        (-3000.0, "2022-03-01", slice(30, 60), "was taken off twice at station 'NET__Place_1_N', since 2022-01-25"),
    ],
)
def test_an_offset_of_sentinel2_that_was_not_taken_off_once_is_found(refusal, offset, start, rows, said):
    table = native()
    shift = pd.Timestamp(start) - pd.Timestamp("2020-01-01")
    table["start"] = (pd.to_datetime(table["start"]) + shift).dt.strftime("%Y-%m-%d")
    table.loc[table.index[rows], S2] += offset
    assert said in refusal(table)


def test_thick_cirrus_in_a_few_rows_is_no_offset(predict):
    table = native()
    table.loc[[3, 40], "B10"] = 2200.0
    assert (predict(table)["n_sources"] == 4).all()


def test_one_station_in_other_units_is_found(refusal):
    table = native()
    table["ssm"] = table["ssm"].where(table["station"] != "Place_2_N", table["ssm"] / 50)
    assert "'ssm' at station 'NET__Place_2_N' is not in mm" in refusal(table)


def test_a_desert_station_is_not_taken_for_other_units(tmp_path):
    table = native()
    dry = (table["station"] == "Place_2_N") & (np.arange(len(table)) % 5 > 0)
    table["ssm"] = table["ssm"].where(~dry, 0.1)
    table.to_csv(tmp_path / "in.csv", index=False)
    result = predict_table("conus_points", tmp_path / "in.csv", tmp_path / "out.csv")
    assert result.report["rows"] == len(table)


def test_blanks_around_names_are_trimmed_and_said_and_odd_names_kept(tmp_path):
    table = native()
    table["station"] = table["station"].replace({"Place_0_N": "NA", "Place_1_N": "007", "Place_2_N": "S1"})
    table.to_csv(tmp_path / "in.csv", index=False)
    whole = predict_table("conus_points", tmp_path / "in.csv", tmp_path / "whole.csv").table
    table.loc[table.index[-5:], "station"] = "S1 "
    table.to_csv(tmp_path / "in.csv", index=False)
    found = predict_table("conus_points", tmp_path / "in.csv", tmp_path / "out.csv")
    assert found.report["names_trimmed"] == ["S1 "]
    assert found.report["stations"] == 3
    assert found.table["predicted"].tolist() == whole["predicted"].tolist()
    assert set(found.table["station"]) == {"NA", "007", "S1", "S1 "}  # every column as it was


def test_files_that_are_none(tmp_path):
    with pytest.raises(FormatError, match="there is no such file"):
        predict_table("conus_points", tmp_path / "no.csv", tmp_path / "out.csv")
    (tmp_path / "bad.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(FormatError, match=r"columns .* are missing"):  # by its content it is plain text
        predict_table("conus_points", tmp_path / "bad.csv.gz", tmp_path / "out.csv")
    native().to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(ParameterError, match=r"no CSV file; got 'out\.parquet'"):
        predict_table("conus_points", tmp_path / "in.csv", tmp_path / "out.parquet")


def test_the_public_table_is_predicted_well_on_what_it_was_trained_on(shared_samples, tmp_path):
    """Not a score (it has seen these stations), but wrong inputs or weights would show at once."""
    path = shared_samples / "conus_s1s2smap_2019_2021" / "station_10day.csv.gz"
    table = predict_table("conus_points", path, tmp_path / "out.csv").table
    frame = pd.DataFrame(
        {
            "s": table["station"],
            "p": table["predicted"].astype(float),
            "y": pd.to_numeric(table["soil_moisture_insitu"]),
        }
    ).dropna()
    r = frame.groupby("s")[["p", "y"]].apply(lambda g: g["p"].corr(g["y"]))
    assert r.median() > 0.8
    assert (frame["p"] - frame["y"]).abs().mean() < 0.07
