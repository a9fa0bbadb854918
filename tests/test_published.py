"""The papers' tables: the numbers as printed, and comparisons that cannot hide that a run is synthetic."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from smnb.contract import ParameterError
from smnb.published import PAPERS, PUBLISHED, PublishedColumn, PublishedTable, compare_with, published


def test_registry_is_consistent():
    assert {paper for paper, _ in PUBLISHED} <= set(PAPERS)
    for (paper, name), table in PUBLISHED.items():
        assert (table.paper, table.table) == (paper, name)
        assert table.frame().shape == (len(table.rows), len(table.columns))
        assert table.caption
        assert table.caveats


def test_numbers_are_those_of_the_paper(repository):
    shared = Path(os.environ.get("SMNB_SHARED", repository.parent / "shared"))
    papers = sorted((shared / "papers").glob("002_*.txt"))
    if not papers:
        pytest.skip("the papers' texts are absent: set SMNB_SHARED to the folder that holds papers/")
    text = papers[0].read_text(encoding="utf-8")
    table = published("hu2018", "Table 2")
    for row in ("CNN", "SVR"):
        printed = re.search(rf"^{row} (0\.\d+) (0\.\d+)$", text, re.MULTILINE)
        assert tuple(map(float, printed.groups())) == table.rows[row]
    samples = published("hu2018", "Table 1")
    for column, (days, patches) in {
        "Training": (30, 30_000),
        "Validation": (30, 5_000),
        "Testing": (1, 50_000),
    }.items():
        assert re.search(rf"{days}\D{{1,3}}{patches}\b", text)
        assert samples.value("CNN AMSR-E", column) == days * patches


def test_caveats_say_what_the_paper_leaves_open():
    caveats = " ".join(published("hu2018", "Table 2").caveats)
    assert "unit of the RMSE is not stated" in caveats
    assert "R^2 is not defined" in caveats


def test_comparison_holds_every_reading_of_a_number():
    table = published("hu2018", "Table 2")
    found = compare_with({"CNN": {"r2": 0.60, "r2_pearson": 0.66, "rmse_scaled": 0.10}}, table, synthetic=False)
    cnn = found[found["row"] == "CNN"].set_index("run_metric")
    assert cnn.loc["r2", "difference"] == pytest.approx(0.60 - 0.6512)
    assert cnn.loc["r2_pearson", "published"] == cnn.loc["r2", "published"] == 0.6512
    assert cnn.loc["rmse_scaled", "unit"] == "not stated"
    assert np.isnan(cnn.loc["rmse", "run"])
    assert found.loc[found["row"] == "SVR", "run"].isna().all()
    assert not found["synthetic"].any()
    assert "synthetic" not in found.attrs["title"]
    assert found.attrs["caveats"] == list(table.caveats)


def test_synthetic_runs_say_so():
    table = published("hu2018", "Table 2")
    frame = pd.DataFrame({"r2": [0.9, 0.8]}, index=["CNN", "SVR"])
    found = compare_with(frame, table, synthetic=True)
    assert found["synthetic"].all()
    assert found.attrs["title"].endswith("(synthetic)")
    assert found.loc[found["run_metric"] == "r2", "run"].tolist() == [0.9, 0.8]
    with pytest.raises(TypeError):
        compare_with(frame, table)


def test_unknown_names_raise_and_list_the_known():
    table = published("hu2018", "Table 2")
    with pytest.raises(ParameterError, match="Table 2"):
        published("hu2018", "Table 9")
    with pytest.raises(ParameterError, match=r"forest.*SVR"):
        compare_with({"forest": {"r2": 0.1}}, table, synthetic=True)
    with pytest.raises(ParameterError, match=r"ubrmse.*r2_pearson"):
        compare_with({"CNN": {"ubrmse": 0.1}}, table, synthetic=True)
    with pytest.raises(ParameterError, match="RMSE"):
        table.value("CNN", "bias")
    with pytest.raises(ParameterError, match="published"):
        compare_with({}, "Table 2", synthetic=True)


def test_ragged_tables_raise():
    with pytest.raises(ParameterError, match="one number a column"):
        PublishedTable("hu2018", "Table 0", "none", (PublishedColumn("a", "1"),), {"row": (1.0, 2.0)})


def test_smen_numbers_are_those_of_the_paper(repository):
    shared = Path(os.environ.get("SMNB_SHARED", repository.parent / "shared"))
    papers = sorted((shared / "papers").glob("001_*.txt"))
    if not papers:
        pytest.skip("the papers' texts are absent: set SMNB_SHARED to the folder that holds papers/")
    text = papers[0].read_text(encoding="utf-8").replace("Tuscon", "Tucson")
    rows = {
        **published("smen", "Table 1").rows,
        **published("smen", "Table 2").rows,
        **published("smen", "Table 3").rows,
    }
    for label, numbers in rows.items():
        printed = re.search(rf"^{label}(?: \(\d+/\d+\))?(?: \|)? (0\.\d+)(?: \|)? (0\.\d+)$", text, re.MULTILINE)
        assert printed is not None, label
        assert tuple(map(float, printed.groups())) == numbers
