"""Whichever call of a writer fails: one line of path and cause, the old file, nothing left over, a rerun that is right."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from failing import FailingCall, SmallFiles
from jobs import JOBS, Job, Workshop, difference

#: Writers, and what of unfinished work stays beside their outputs to go on from (Zarr writes on threads of its own, which may
#: still write into the hidden folder when it has been removed; the next run removes it).
WRITERS = {
    "ingest": (),
    "score": (),
    "predict": (),
    "map.tif": (".map.tif.tiles",),
    "map.zarr": (".map.zarr.tiles", ".map.zarr.partial"),
    "released": (".r.zarr.partial",),
    "save": (),
    "train": ("training",),
}
CAUSES = (errno.EIO, errno.ENOSPC)
_MOST = 400  # calls of one writer


def finished(found: dict) -> dict:
    """An output as its readers see it: a set of files that is complete takes its names when it is read or written next."""
    complete = {name.rpartition("/")[2]: found[name] for name in found if ".complete/" in name}
    return {name: content for name, content in found.items() if ".complete" not in name} | complete


def trial(workshop: Workshop, job: Job, fault, outcomes) -> str:
    """A fault, what it leaves, and the rerun; return what became of it."""
    expected, _ = workshop.whole(job)
    folder = workshop.folder(job)
    before = folder / "out"
    if old := job.old and not WRITERS[job.name]:
        workshop.done(job, folder, "old")
    kept = job.read(before) if old else {}
    going = workshop.start(job, folder, fault=fault)
    status, deadline = going.wait(), time.monotonic() + 2
    while status == 2 and "error: " not in going.said and time.monotonic() < deadline:
        time.sleep(0.01)
    said, found = going.said, job.read(folder / "out")
    story = f"{fault}, status {status}:\n{said}"
    assert "Traceback" not in said, story
    if status == 0:
        assert difference(found, expected) == "", story
        outcome = "no fault met" if isinstance(fault, SmallFiles) or "fault at" not in said else "went without"
    else:
        assert status == 2, story
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, story
        causes = [os.strerror(one) for one in (*CAUSES, errno.EFBIG)]
        assert "out" in lines[0], story
        assert any(cause in lines[0] for cause in causes), story
        left = finished({name: found[name] for name in found if Path(name).parts[0] not in WRITERS[job.name]})
        assert left in (kept, expected), f"{sorted(left)}: {story}"
        outcome = "one line"
    workshop.done(job, folder)
    assert difference(job.read(folder / "out"), expected) == "", f"after the rerun: {story}"
    outcomes[outcome] += 1
    return outcome


def every_call(workshop: Workshop, campaign, name: str, cause: int, seconds: float) -> None:
    for number, _ in enumerate(campaign.trials(_MOST, seconds), 1):
        if trial(workshop, JOBS[name], FailingCall(number, cause), campaign.outcomes) == "no fault met":
            campaign.outcomes["every call tried"] = 1
            break


@pytest.mark.parametrize("cause", CAUSES, ids=errno.errorcode.get)
def test_each_call_of_a_checkpoint_fails_once(workshop, campaign, cause):
    every_call(workshop, campaign, "save", cause, 4)


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("cause", CAUSES, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", WRITERS)
def test_each_call_fails_once(workshop, campaign, name, cause):
    every_call(workshop, campaign, name, cause, 25)


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", WRITERS)
def test_files_may_not_get_larger(workshop, campaign, name):
    job = JOBS[name]
    largest = max(len(one) for one in workshop.whole(job)[0].values() if one)
    for chance in campaign.trials(20, 20):
        trial(workshop, job, SmallFiles(chance.randrange(largest)), campaign.outcomes)
