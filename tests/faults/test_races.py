"""Of two processes that make one output one works, the other waits for it or says who has it; the result is that of one."""

from __future__ import annotations

import time

import pytest
from jobs import JOBS, Job, Workshop, difference

_TOLD = ("another process", "another smnb")


def race(workshop: Workshop, job: Job, chance, outcomes) -> None:
    expected, seconds = workshop.whole(job)
    folder = workshop.folder(job)
    first = workshop.start(job, folder)
    time.sleep(chance.choice([0, 0.01, chance.uniform(0, seconds)]))
    both = [first, workshop.start(job, folder)]
    statuses = [one.wait() for one in both]
    said = [one.said for one in both]
    assert 0 in statuses, said
    for status, text in zip(statuses, said, strict=True):
        assert "Traceback" not in text
        assert status == 0 or (status == 2 and any(told in text for told in _TOLD)), text
    assert difference(job.read(folder / "out"), expected) == "", said
    outcomes["both worked, one after the other" if statuses == [0, 0] else "one was told who works"] += 1


@pytest.mark.parametrize("name", ["ingest", "save"])
def test_a_race(workshop, campaign, name):
    for chance in campaign.trials(1, 4):
        race(workshop, JOBS[name], chance, campaign.outcomes)


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", JOBS)
def test_races(workshop, campaign, name):
    for chance in campaign.trials(*{"run": (2, 40), "sweep": (2, 40)}.get(name, (8, 15))):
        race(workshop, JOBS[name], chance, campaign.outcomes)
