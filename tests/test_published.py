"""The papers' tables: the numbers as printed, and comparisons that cannot hide that a run is synthetic."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from smnb.contract import ParameterError
from smnb.papers.tables import (
    PAPERS,
    PUBLISHED,
    PublishedColumn,
    PublishedSettings,
    PublishedTable,
    PublishedWorks,
    compare_with,
    published,
)

NUMBERS, PUBLISHED_SETTINGS, PUBLISHED_WORKS = (
    {key: one for key, one in PUBLISHED.items() if isinstance(one, kind)}
    for kind in (PublishedTable, PublishedSettings, PublishedWorks)
)
#: A cell of a table of numbers: alone on its line but for a unit or a percent change.
CELL = re.compile(r"^(?:\+- ?)?(-?\d+(?:\.\d+)?)(?: (?:degrees|meters|\([-+][\d.]+%\)))?$", re.MULTILINE)
CHANGE = re.compile(r"\(([-+][\d.]+)%\)")


@pytest.fixture
def paper_text(repository):
    """Text of a paper by its number in the folder of papers, which is not part of the repository."""

    def read(number: str) -> str:
        shared = Path(os.environ.get("SMNB_SHARED", repository.parent / "shared"))
        papers = sorted((shared / "papers").glob(f"{number}_*.txt"))
        if not papers:
            pytest.skip("the papers' texts are absent: set SMNB_SHARED to the folder that holds papers/")
        return papers[0].read_text(encoding="utf-8")

    return read


def section(text: str, head: str, caption: str) -> str:
    """Text from the last occurrence of `head` before the caption to the caption."""
    end = text.index(f"\n{caption}")
    return text[text.rindex(head, 0, end) : end]


def given(rows) -> list[float]:
    return [value for values in rows.values() for value in values if not np.isnan(value)]


def problems_of(table: PublishedTable) -> list[str]:
    """What does not fit in a table of numbers, in words."""
    wide, problems = len(table.columns), []
    for label, values in [*table.rows.items(), *table.changes.items()]:
        if len(values) != wide:
            return [f"row {label!r} has not one number a column"]
    for row, column in table.omitted:
        if row not in table.rows or column not in [c.name for c in table.columns]:
            problems.append(f"no such number: {row!r}, {column!r}")
        elif not np.isnan(table.value(row, column)):
            problems.append(f"both given and omitted: {row!r}, {column!r}")
    if table.changes and table.baseline not in table.rows:
        problems.append("changes without a baseline")
    return problems + [f"changes of no row: {row!r}" for row in table.changes if row not in table.rows]


def test_registry_is_consistent():
    assert {paper for paper, _ in NUMBERS} <= set(PAPERS)
    for (paper, name), table in NUMBERS.items():
        assert (table.paper, table.table) == (paper, name)
        assert problems_of(table) == []
        assert table.frame().shape == (len(table.rows), len(table.columns))
        assert table.caption
        assert table.caveats


def test_numbers_are_those_of_the_paper(paper_text):
    text = paper_text("002")
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


def test_smen_numbers_are_those_of_the_paper(paper_text):
    text = paper_text("001").replace("Tuscon", "Tucson")
    rows = {
        **published("smen", "Table 1").rows,
        **published("smen", "Table 2").rows,
        **published("smen", "Table 3").rows,
    }
    for label, numbers in rows.items():
        printed = re.search(rf"^{label}(?: \(\d+/\d+\))?(?: \|)? (0\.\d+)(?: \|)? (0\.\d+)$", text, re.MULTILINE)
        assert printed is not None, label
        assert tuple(map(float, printed.groups())) == numbers


@pytest.mark.parametrize(
    ("table", "head", "caption"),
    [
        ("Table 1", "AMMA-CATCH", "Table 1. List"),
        ("Table 2", "FORTCOBB", "Table 2. List"),
        ("Table 4", "Source\n\nBand", "Table 4. Source"),
        ("Table 6", "Augmentation\n", "Table 6. Details"),
        ("Table 9", "Baselines (Low", "Table 9. Validation"),
        ("Table 15", "Input size\n", "Table 15. Validation"),
        ("Table 16", "Feature/Source removed", "Table 16. Validation"),
        ("Table 17", "log_std\n", "Table 17. Norm"),
        ("Table 18", "Feature/Source added", "Table 18. Validation"),
        ("Table 19", "Experiment\n", "Table 19. Validation"),
        ("Table 21", "Experiment\n", "Table 21. Validation"),
    ],
)
def test_batchu_numbers_are_those_of_the_paper(paper_text, table, head, caption):
    body = section(paper_text("004"), head, caption)
    printed = [float(number) for number in CELL.findall(body)]
    found = published("batchu2023", table)
    expected = given(found.rows)
    if table in ("Table 1", "Table 2"):
        assert printed.pop() == sum(expected) == {"Table 1": 838, "Table 2": 120}[table]
    if table == "Table 19":  # the last row's ubRMSE stands after its other scores
        assert printed[-3:] == [0.085, 0.727, 0.054]
        printed[-3:] = [printed[-1], *printed[-3:-1]]
    assert printed == expected
    assert [float(change) for change in CHANGE.findall(body)] == given(found.changes)


def test_batchu_bands_and_bounds_are_those_of_the_paper(paper_text):
    text = paper_text("004")
    bands = re.findall(
        r"^(B\d+)\n\n(\d+) meters\n\n([\d.]+)nm \(S2A\) / ([\d.]+)nm \(S2B\)$",
        section(text, "Band\n", "Table 3. "),
        re.MULTILINE,
    )
    assert {name: tuple(map(float, numbers)) for name, *numbers in bands} == published("batchu2023", "Table 3").rows
    hours = {"hr": 1, "hrs": 1, "days": 24, "years": 24 * 365.25}
    for table, caption in (("Table 5", "Table 5. Temporal bounds for"), ("Table 20", "Table 20. Temporal bounds for")):
        body = section(text, "Source\n\nTemporal", caption)
        printed = re.findall(r"^(\w[\w -]*\w)\n\n(\d+) (hrs?|days|years)\b", body, re.MULTILINE)
        found = {name: (int(number) * hours[unit],) for name, number, unit in printed}
        assert found == published("batchu2023", table).rows


def test_batchu_settings_are_those_of_the_paper(paper_text):
    settings = published("batchu2023", "Table 7")
    body = " ".join(section(paper_text("004"), "Hyper-parameter\nname", "Table 7. Training").split())
    for printed in (
        "256 selected from (512, 256, 128, 64) 16",
        "32 16",
        "0.6 selected from (0.8, 0.6, 0.4, 0.2)",
        "(128, 64, 1) (8, 1)",
        "(0.5, 0.5, 0.6) (0.9, 0.9)",
        "Batch size 64",
        "Momentum (m=0.9)",
        "Number train steps 600000",
        "Sweep across (0.1, 0.05, 0.03)",
        "Sweep across (0.0001, 0.00005, 0.00003)",
        "0.4 selected from (0, 0.2, 0.4, 0.6, 0.8, 1.0)",
    ):
        assert printed in body
        numbers = [
            tuple(map(float, re.findall(r"[\d.]+", part))) for part in re.findall(r"\(([^)]*\d[^)]*)\)", printed)
        ]
        known = {tuple(map(float, values)) for values in (*settings.values.values(), *settings.candidates.values())}
        assert set(numbers) <= known
    assert settings.values["Number train steps"] == (600_000,)


def test_settings_are_consistent():
    for (paper, name), table in PUBLISHED_SETTINGS.items():
        assert (table.paper, table.table) == (paper, name)
        assert {*table.candidates, *table.swept} <= set(table.values)
        assert set(table.swept) <= {name for name, values in table.values.items() if len(values) > 1}
        for setting, candidates in table.candidates.items():
            assert set(table.values[setting]) <= set(candidates)
    with pytest.raises(ParameterError, match="Table 7"):
        published("batchu2023", "Table 99")


def runs_of_numbers(body: str, networks) -> dict[str, list[float]]:
    """Numbers after each network's name, up to the next name."""
    at = [body.index(f"{network}\n") for network in networks]
    parts = [body[start:end] for start, end in zip(at, [*at[1:], len(body)], strict=True)]
    return {n: [float(number) for number in CELL.findall(part)] for n, part in zip(networks, parts, strict=True)}


@pytest.mark.parametrize(("table", "blank"), [("Table 13", 0), ("Table 14", 2)])
def test_batchu_benchmark_holds_what_the_text_settles(paper_text, table, blank):
    found = published("batchu2023", table)
    frame = found.frame()
    body = section(paper_text("004"), "AMMA-CATCH\n", f"{table}. A comparison")
    printed = runs_of_numbers(body, frame.index)
    # every number of the text is here or counted as omitted
    assert sum(map(len, printed.values())) == int(frame.notna().sum().sum()) + len(found.omitted) - blank
    works = {work.name: work.networks for work in published("batchu2023", "Table 8").works if work.name in frame}
    for network, row in frame.iterrows():
        there = [name for name, networks in works.items() if network in networks]
        split = table == "Table 14" and network in ("AMMA-CATCH", "BIEBRZA_S-1")  # the head's second line is in between
        if not (table == "Table 14" and network == "BIEBRZA_S-1"):
            assert row["Ours"] == printed[network][0]
        kept = [name for name in there if not np.isnan(row[name])]
        if kept:  # as many numbers as works, so that all are settled
            assert kept == there
            assert row[kept].tolist() == printed[network][1 : 1 + len(kept)]
        if table == "Table 13" or split:
            assert row[["SMAP", "GLDAS"]].isna().all()
            assert {(network, "SMAP"), (network, "GLDAS")} <= set(found.omitted)
        else:
            numbers = (
                printed[network][:4] if network == "YANCO" else printed[network]
            )  # the rest of the table follows YANCO
            assert row[["SMAP", "GLDAS"]].tolist() == numbers[-2:]
            if not there or kept:
                assert len(numbers) == 3 + len(kept)


def test_benchmark_by_network_agrees_with_the_overall_scores():
    """Weighted by sensors, the networks' ubRMSE must be about that of Table 9: it would not with columns confused."""
    sensors = {k: n for t in ("Table 1", "Table 2") for k, (n,) in published("batchu2023", t).rows.items()}
    overall = published("batchu2023", "Table 9").frame()["Validation ubRMSE"]
    frame = published("batchu2023", "Table 14").frame()
    for column, row in (("Ours", overall.index[-1]), ("SMAP", "SMAP"), ("GLDAS", "GLDAS")):
        kept = frame[column].dropna()
        assert np.average(kept, weights=[sensors[k] for k in kept.index]) == pytest.approx(overall[row], abs=0.002)


def test_changes_follow_from_the_scores():
    """Percent changes as printed, within their rounding; the scores' own rounding lets one be off by 0.06."""
    changed = [table for table in NUMBERS.values() if table.changes]
    assert [table.table for table in changed] == ["Table 9", "Table 16", "Table 21"]
    for table in changed:
        baseline = np.array(table.rows[table.baseline])
        higher_is_better = np.array(["Correlation" in column.name for column in table.columns])
        for row, printed in table.changes.items():
            change = 100 * (np.array(table.rows[row]) - baseline) / baseline
            np.testing.assert_allclose(np.where(higher_is_better, change, -change), printed, atol=0.07)


def test_rows_that_tables_share_are_the_same():
    overall = published("batchu2023", "Table 9").frame()
    validation = overall[[c for c in overall if c.startswith("Validation ")]].set_axis(
        ["ubRMSE", "RMSE", "Correlation"], axis=1
    )
    both = published("batchu2023", "Table 19").frame()
    shared = both.index.intersection(validation.index)
    assert len(shared) == 3
    pd.testing.assert_frame_equal(both.loc[shared], validation.loc[shared])
    whole = validation.iloc[-1][["ubRMSE", "Correlation"]]
    for name in ("Table 16", "Table 18"):
        assert published("batchu2023", name).frame().loc["None (Baseline)"].tolist() == whole.tolist()
    anchored = published("batchu2023", "Table 21").frame()
    assert anchored.iloc[:, :2].to_numpy().tolist() == validation.loc[anchored.index, whole.index].to_numpy().tolist()
    sizes = published("batchu2023", "Table 15").frame().loc["256x256"]
    assert sizes.tolist() == validation.loc["Sentinel-1 + DEM + Sentinel-2"].tolist()


def test_works_are_consistent():
    known = {network for table in ("Table 1", "Table 2") for network in published("batchu2023", table).rows}
    for (paper, name), table in PUBLISHED_WORKS.items():
        assert (table.paper, table.table) == (paper, name)
        assert table.frame().index.is_unique
        assert all(set(work.networks) <= known for work in table.works)
    table = published("batchu2023", "Table 8")
    assert table.frame().loc["Jing, Song and Zhao 2018", ["marks", "period"]].tolist() == ["*", "2008-2011"]
    with pytest.raises(ParameterError, match="Table 8"):
        published("batchu2023", "Table 99")


def test_works_networks_are_those_of_the_paper(paper_text):
    """By how often a network is named: the text has lost whose row it is in."""
    body = "".join(section(paper_text("004"), "Validation\nsensor\nnetworks", "Table 8. Information").split())
    works = published("batchu2023", "Table 8").works
    assert all(f"({work.name.split()[0][:7]}" in body.replace("Y.Kerr", "Kerr") for work in works)
    for network in {network for work in works for network in work.networks} - {"MAQU", "NAQU"}:  # in its notes, too
        assert body.count(network[:7]) == sum(network in work.networks for work in works)  # names are broken over lines


def test_a_run_beside_the_new_tables():
    rows = list(published("batchu2023", "Table 9").rows)
    run = {rows[-1]: {"validation_ubrmse": 0.06, "test_r": 0.7}, "SMAP": {"test_rmse": 0.1}}
    found = compare_with(run, published("batchu2023", "Table 9"), synthetic=True).set_index(["row", "run_metric"])
    assert len(found) == 6 * len(rows)
    assert found.loc[(rows[-1], "validation_ubrmse"), "difference"] == pytest.approx(0.006)
    assert found.loc[("SMAP", "test_rmse"), "column"] == "Test RMSE"
    table = published("batchu2023", "Table 14")
    found = compare_with({"SCAN": {"ubrmse": 0.05, "smap_ubrmse": 0.08}}, table, synthetic=False)
    assert set(found["column"]) == {"Ours", "SMAP", "GLDAS"}
    assert ("BIEBRZA_S-1", "Ours") in found.attrs["omitted"]
    by_anchor = {rows[-1]: {"smap_validation_r": 0.7, "sentinel1_validation_ubrmse": 0.05}}
    found = compare_with(by_anchor, published("batchu2023", "Table 21"), synthetic=True)
    assert found["run"].notna().sum() == 2


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"rows": {"row": (1.0, 2.0)}}, "row 'row' has not one number a column"),
        ({"omitted": (("row", "a"),)}, "both given and omitted: 'row', 'a'"),
        ({"omitted": (("line", "a"),)}, "no such number: 'line', 'a'"),
        ({"changes": {"row": (1.0,)}}, "changes without a baseline"),
        ({"changes": {"line": (1.0,)}, "baseline": "row"}, "changes of no row: 'line'"),
    ],
)
def test_what_does_not_fit_is_seen(fields, problem):
    given = {"columns": (PublishedColumn("a", "1"),), "rows": {"row": (1.0,)}} | fields
    assert problems_of(PublishedTable("hu2018", "Table 0", "none", **given)) == [problem]
