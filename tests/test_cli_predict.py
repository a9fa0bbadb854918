"""The command predict: a table in, the same rows with two columns out, and one clear line for mistakes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from smnb.cli import app as cli
from smnb.files import held_output
from smnb.papers.stations.table import COLUMNS


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def table() -> pd.DataFrame:
    """``in.csv``: two stations of twelve windows, one row without Sentinel-1, one with a code that is no NLCD code."""
    size = 24
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "network": "NET",
            "station": np.repeat(["A_1", "B-2"], 12),
            "lat": np.repeat([35.0, 40.0], 12),
            "lon": -98.0,
            "start": np.tile(pd.date_range("2020-01-01", periods=12, freq="10D").strftime("%Y-%m-%d"), 2),
            **{name: rng.uniform(1000, 2000, size) for name in COLUMNS if name.startswith("B")},
            "VV": rng.normal(-12, 1, size),
            "VH": rng.normal(-20, 1, size),
            "angle": 38.0,
            "ssm": rng.uniform(5, 20, size),
            "fc": 20.0,
            "landcover": 71.0,
            "mtpi": 0.0,
        }
    )
    frame["B10"] = 20.0
    frame.loc[3, ["VV", "VH", "angle"]] = np.nan
    frame.loc[5, "landcover"] = 31.4
    frame.to_csv("in.csv", index=False)
    return frame


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    return exit_.value.code or 0, captured.out, captured.err


def test_a_table_is_predicted(capsys, table):
    code, out, _ = call(capsys, "predict", "conus_points", "in.csv", "--out", "out.csv")
    assert code == 0
    assert "24 rows of 2 stations predicted with conus_points" in out
    assert "sources in a row: 3: 1 rows, 4: 23 rows" in out
    assert "1 rows have a land-cover code that is no NLCD code" in out
    found = pd.read_csv("out.csv")
    pd.testing.assert_series_equal(found["station"], table["station"], check_dtype=False)
    assert found["n_sources"].tolist() == [3 if i == 3 else 4 for i in range(24)]
    assert found["predicted"].notna().all()


def test_the_report_as_json(capsys, table):
    code, out, _ = call(capsys, "predict", "conus_points", "in.csv", "--out", "out.csv.gz", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["written"] == "out.csv.gz"
    assert report["rows_by_n_sources"] == {"3": 1, "4": 23}
    assert len(pd.read_csv("out.csv.gz")) == 24


def test_numbers_that_are_no_data_are_said(capsys, table):
    table.loc[[7, 8], ["VV", "VH", "angle"]] = 0.0
    table.loc[20, "ssm"] = -9999.0
    table.to_csv("in.csv", index=False)
    code, out, _ = call(capsys, "predict", "conus_points", "in.csv", "--out", "out.csv")
    assert code == 0
    assert "7 numbers are no data and were taken as missing: VV 2, VH 2, angle 2, ssm 1" in out
    assert "sources in a row: 3: 4 rows, 4: 20 rows" in out
    assert pd.read_csv("out.csv")["VV"].iloc[7] == 0.0, "the file's own columns stay as they were"
    _, out, _ = call(capsys, "predict", "conus_points", "in.csv", "--out", "out.csv", "--json")
    assert json.loads(out)["masked"]["angle"] == {"fill": 2}


def test_mistakes_end_with_one_clear_line(capsys, table):
    code, _, err = call(capsys, "predict", "conus", "in.csv", "--out", "out.csv")
    assert code == 2
    assert "unknown model; got 'conus'; expected ['conus_points', 'smap_s1_1km'" in err
    table.drop(columns="ssm").to_csv("in.csv", index=False)
    code, _, err = call(capsys, "predict", "conus_points", "in.csv", "--out", "out.csv")
    assert code == 2
    assert "columns ['ssm'] are missing" in err
    assert len(err.strip().splitlines()) == 1


def test_an_output_is_looked_at_first(capsys, table, tmp_path, monkeypatch):
    monkeypatch.setattr("smnb.pretrained.read_points", None)  # not reached
    (tmp_path / "out.csv").mkdir()
    code, _, err = call(capsys, "predict", "conus_points", "in.csv", "--out", "out.csv")
    assert (code, err.split(". ")[0]) == (2, "error: predict_table: cannot write out.csv; got Is a directory")
    with held_output("test", "new.csv"):
        code, _, err = call(capsys, "predict", "conus_points", "in.csv", "--out", "new.csv")
    assert (code, "another process is writing this output: process" in err) == (2, True)
