"""Damaged inputs at every door: accepted or one named error; no traceback, crash or hang, and no other value without a word."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import doors
import fuzz
import pytest


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_damaged_inputs(campaign):
    found = fuzz.campaign(round(5000 * campaign.scale), campaign.seed, processes=1, limit=330 * campaign.scale)
    campaign.outcomes.update({"trials": found["inputs"], **found["outcomes"]})
    campaign.outcomes["doors"] = found["doors"]
    assert not found["bad"], "\n".join([f"seed {campaign.seed}", *fuzz.places(found["bad"])])


@pytest.mark.timeout(300)
def test_a_few_damaged_inputs():
    found = fuzz.campaign(60, 1, processes=1)
    assert not found["bad"], "\n".join(fuzz.places(found["bad"]))


def planted(folder: Path) -> None:
    (folder / "a.json").write_text(json.dumps({"kind": "none", "values": list(range(40))}))


def read_planted(folder: Path, out: Path) -> object:
    """A door with every fault that there is."""
    path = folder / "a.json"
    text = path.read_text()
    if text == json.dumps({"kind": "none", "values": list(range(40))}):
        return 0
    kind = os.environ["SMNB_PLANTED"]
    if kind == "hang":
        time.sleep(60)
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "memory":
        bytearray(fuzz.MEMORY + (4 << 30))
    if kind == "written":
        path.write_text("other")
    if kind == "named":
        doors.command("models", "--no-such-option")
    return json.loads(text) if kind == "traceback" else 1


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [(one, one) for one in ("traceback", "crash", "hang", "memory", "written", "named")] + [("accepted", "kept")],
)
def test_the_fuzzer_sees(kind, outcome, monkeypatch, tmp_path):
    monkeypatch.setenv("SMNB_PLANTED", kind)
    monkeypatch.setattr(fuzz, "SECONDS", 3.0)
    process = fuzz.Process(tmp_path, doors=f"{__name__}:plant")
    seen = set()
    for number in range(12):
        seen.add(process.one("planted", number, 1)["outcome"])
        if outcome in seen:
            break
    process.end()
    assert outcome in seen


def plant() -> None:
    doors.DOORS["planted"] = doors.Door("planted", planted, read_planted, ("*.json",), True, False, 1.0)
