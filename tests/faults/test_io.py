"""Whichever call of a writer fails: one line of path and cause, the old file, nothing left over, a rerun that is right."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest
from failing import CALLS, FailingCall, SmallFiles
from jobs import JOBS, Job, Workshop, bytes_of, difference

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
counted = pytest.mark.skipif(not CALLS, reason="only Linux, on x86-64 and ARM, lets us count a process's calls")


def finished(found: dict) -> dict:
    """An output as its readers see it: a set of files that is complete takes its names when it is read or written next."""
    complete = {re.sub(r"\.[^/]*\.complete/", "", name): found[name] for name in found if ".complete/" in name}
    return {name: content for name, content in found.items() if ".complete" not in name} | complete


def trial(workshop: Workshop, job: Job, fault, outcomes) -> None:
    """A fault, what it leaves, and the rerun, unless one has begun from the same files before."""
    expected, _ = workshop.whole(job)
    folder = workshop.folder(job, ".old" if job.old else "")
    out = folder / "out"
    kept = job.read(out)
    going = workshop.start(job, folder, fault=fault)
    status, deadline = going.wait(), time.monotonic() + 2
    while status == 2 and "error: " not in going.said and time.monotonic() < deadline:
        time.sleep(0.01)
    said, found = going.said, job.read(out)
    story = f"{fault}, status {status}:\n{said}"
    assert "Traceback" not in said, story
    if status == 0:
        assert difference(found, expected) == "", story
        outcomes["went without" if "fault at" in said else "no fault met"] += 1
    else:
        assert status == 2, story
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, story
        causes = [os.strerror(one) for one in (*CAUSES, errno.EFBIG)]
        assert any(cause in lines[0] for cause in causes), story
        # the output's own path, not that of a hidden file; that of its folder if this cannot be made
        assert any(f"out/{name}" in lines[0] for name in expected) or f"fault at mkdir {out}\n" in said, story
        left = finished({name: found[name] for name in found if Path(name).parts[0] not in WRITERS[job.name]})
        assert left in (kept, expected), f"{sorted(left)}: {story}"
        outcomes["one line"] += 1
    left = frozenset((re.sub("[0-9a-f]{8,}", "", name), content) for name, content in bytes_of(out).items())
    if (job.name, left) not in workshop.rerun:
        workshop.done(job, folder)
        assert difference(job.read(out), expected) == "", f"after the rerun: {story}"
        workshop.rerun.add((job.name, left))
        outcomes["reruns"] += 1
    shutil.rmtree(folder)


def every_call(workshop: Workshop, campaign, name: str, cause: int, seconds: float) -> None:
    """Each call of a writer fails once, in an order by the seed, until the time is over."""
    workshop.whole(JOBS[name])
    said = workshop.done(JOBS[name], workshop.folder(JOBS[name]), fault=FailingCall(0, cause)).said
    calls = int(re.search(r"^(\d+) calls that change something", said, re.MULTILINE)[1])
    numbers = random.Random(campaign.seed).sample(range(1, calls + 1), calls)
    for number, _ in zip(numbers, campaign.trials(calls, seconds), strict=False):
        trial(workshop, JOBS[name], FailingCall(number, cause), campaign.outcomes)
    campaign.outcomes |= {"calls": calls, "every call tried": campaign.outcomes["trials"] == calls}


@counted
@pytest.mark.parametrize("cause", CAUSES, ids=errno.errorcode.get)
def test_each_call_of_a_checkpoint_fails_once(workshop, campaign, cause):
    every_call(workshop, campaign, "save", cause, 4)


@counted
@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("cause", CAUSES, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", WRITERS)
def test_each_call_fails_once(workshop, campaign, name, cause):
    every_call(workshop, campaign, name, cause, {"released": 30, "train": 30}.get(name, 300))


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", WRITERS)
def test_files_may_not_get_larger(workshop, campaign, name):
    job = JOBS[name]
    largest = max(len(one) for one in workshop.whole(job)[0].values() if one)
    for chance in campaign.trials(20, 20):
        trial(workshop, job, SmallFiles(chance.randrange(largest)), campaign.outcomes)
