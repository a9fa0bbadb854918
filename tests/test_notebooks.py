"""Numbers of the notebooks: run records against ``tests/expected/<notebook>.quick.json``, with tolerances.

``make test`` executes the notebooks once, through nbval, which compares stored outputs; the records that they write
while nbval runs them go to ``runs/nbval``. Its third step runs this file with ``SMNB_RECORDS=runs/nbval``, so nothing
is executed twice. In the first step, where no fresh record exists, the comparison is skipped.

An expected file holds ``{"cnn/test/rmse": {"value": 0.05, "rtol": 0.1, "atol": 0}}``: paths into the record's metrics,
and how far a value may be off. Draft one from a record with::

    python tests/test_notebooks.py runs/nbval/02_train_amsre_cnn_svr.record.json > tests/expected/02_….quick.json

and then keep only what ought to be stable, each with a tolerance that another machine's arithmetic fits in and a
mistake does not.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
EXPECTED = Path(__file__).parent / "expected"
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def leaves(metrics: dict, path: str = "") -> dict[str, float | None]:
    found = {}
    for key, value in metrics.items():
        below = f"{path}/{key}" if path else key
        found.update(leaves(value, below) if isinstance(value, dict) else {below: value})
    return found


def differences(metrics: dict, expected: dict) -> list[str]:
    """Expected values that a record's metrics do not have, in words."""
    found, problems = leaves(metrics), []
    for path, want in expected.items():
        if unknown := sorted(set(want) - {"value", "rtol", "atol"}):
            problems.append(f"{path}: unknown keys {unknown}")
        elif path not in found:
            problems.append(f"{path}: absent from the record")
        elif want["value"] is None or found[path] is None:
            if want["value"] is not found[path]:
                problems.append(f"{path}: got {found[path]}, expected {want['value']}")
        else:
            room = want.get("atol", 0.0) + want.get("rtol", 0.0) * abs(want["value"])
            if not abs(found[path] - want["value"]) <= room:
                problems.append(f"{path}: got {found[path]}, expected {want['value']} ± {room:g}")
    return problems


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_expected_numbers(path):
    expected = json.loads((EXPECTED / f"{path.stem}.quick.json").read_text())
    assert len(expected) >= 3
    assert all(
        want.get("rtol", 0) + want.get("atol", 0) > 0 or isinstance(want["value"], int | None)
        for want in expected.values()
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_record_has_the_expected_numbers(path):
    records = os.environ.get("SMNB_RECORDS")
    if not records:
        pytest.skip("compared in the third step of make test, which sets SMNB_RECORDS")
    record = json.loads((Path(records) / f"{path.stem}.record.json").read_text())
    assert record["preset"] == "quick"
    assert record["given"]["preset"] == "quick"
    expected = json.loads((EXPECTED / f"{path.stem}.quick.json").read_text())
    assert differences(record["metrics"], expected) == []


def test_differences_are_found():
    metrics = {"cnn": {"test": {"rmse": 0.10, "r": None, "n": 5}}, "seconds": math.pi}
    assert differences(metrics, {"cnn/test/rmse": {"value": 0.101, "rtol": 0.02}, "cnn/test/n": {"value": 5}}) == []
    assert differences(metrics, {"cnn/test/rmse": {"value": 0.101, "atol": 0.002}, "cnn/test/r": {"value": None}}) == []
    wrong = {
        "cnn/test/rmse": {"value": 0.2, "rtol": 0.1},
        "cnn/test/r": {"value": 0.5, "atol": 9},
        "cnn/test/n": {"value": None},
        "svr/test/rmse": {"value": 1.0},
        "seconds": {"value": 3.1, "tol": 1},
    }
    assert [text.split(":")[0] for text in differences(metrics, wrong)] == list(wrong)


if __name__ == "__main__":
    metrics = json.loads(Path(sys.argv[1]).read_text())["metrics"]
    draft = {
        path: {"value": value, "rtol": 0.0 if isinstance(value, int) else 0.05}
        for path, value in leaves(metrics).items()
    }
    print(json.dumps(draft, indent=2))
