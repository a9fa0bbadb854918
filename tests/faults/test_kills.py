"""A process that is killed at any moment, and started again until it ends, gives what an undisturbed one does, and no more."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from jobs import JOBS, Going, Job, Workshop, difference

_MOST = 4  # kills of one trial


def names_below(folder: Path) -> set[str]:
    return {f"{at}/{name}" for at, folders, files in os.walk(folder) for name in (*folders, *files)}


def wait_for_a_moment(going: Going, folder: Path, chance: random.Random, seconds: float) -> str:
    """Until some time is over or, two times of five, until so many names came or went; return which it was."""
    aimed = chance.random() < 0.4
    deadline = time.monotonic() + (5 * seconds if aimed else chance.uniform(0, 1.1 * seconds))
    events, seen = chance.randint(1, 12), names_below(folder)
    while going.process.exitcode is None and time.monotonic() < deadline and (events or not aimed):
        now = names_below(folder) if aimed else seen
        events, seen = max(0, events - len(now ^ seen)), now
        time.sleep(0 if aimed else 0.002)
    return "kills at a change of files" if aimed else "kills at a time"


def trial(workshop: Workshop, job: Job, chance: random.Random, outcomes) -> None:
    expected, seconds = workshop.whole(job)
    folder = workshop.folder(job)
    story = []
    for _ in range(chance.randint(1, _MOST)):
        going = workshop.start(job, folder)
        kind = wait_for_a_moment(going, folder / "out", chance, seconds)
        if not going.kill():
            assert going.process.exitcode == 0, f"{story}: ended with {going.process.exitcode}:\n{going.said}"
            outcomes["ended before the kill"] += 1
            continue
        outcomes[kind] += 1
        story.append(sorted(str(Path(name).relative_to(folder)) for name in names_below(folder / "out"))[:12])
    going = workshop.done(job, folder)
    assert "Traceback" not in going.said
    assert difference(job.read(folder / "out"), expected) == "", f"killed with {story}"
    outcomes["equal"] += 1


@pytest.mark.parametrize("name", ["ingest", "map.zarr"])
def test_a_few_kills(workshop, campaign, name):
    for chance in campaign.trials(2, 4):
        trial(workshop, JOBS[name], chance, campaign.outcomes)


#: Trials and seconds.
SIZES = {"run": (4, 70), "sweep": (3, 60), "sandbox": (10, 40), "fetch": (10, 15)}


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", JOBS)
def test_kills(workshop, campaign, name):
    count, seconds = SIZES.get(name, (20, 40))
    for chance in campaign.trials(count, seconds):
        trial(workshop, JOBS[name], chance, campaign.outcomes)
