"""What every campaign has: a seed and a scale that can be given, trials within a time, and a line of figures at the end.

``make faults`` runs what is marked `faults`; the small slices beside it are part of ``make test``. SMNB_FAULTS_SEED and
SMNB_FAULTS_SCALE (1 is what `make faults` has 20 minutes for; 20 is a campaign of hours) are the same code with other numbers.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from jobs import HERE, REPOSITORY, Workshop

SEED = int(os.environ.get("SMNB_FAULTS_SEED", "1"))
SCALE = float(os.environ.get("SMNB_FAULTS_SCALE", "1"))
FIGURES = pytest.StashKey[list]()


class Campaign:
    """The trials of one test and what came of them: ``campaign.outcomes["equal"] += 1``."""

    def __init__(self, name: str) -> None:
        self.name, self.outcomes, self.seed, self.scale = name, Counter(), SEED, SCALE

    def trials(self, count: int, seconds: float) -> Iterator[random.Random]:
        """Random numbers for each of `count` trials, by the seed alone, until `seconds` are over; both times the scale."""
        begin = time.monotonic()
        for number in range(max(1, round(count * SCALE))):
            if number and time.monotonic() - begin > seconds * SCALE:
                break
            self.outcomes["trials"] += 1
            yield random.Random(f"{SEED} {self.name} {number}")


@pytest.fixture
def campaign(request, record_property) -> Iterator[Campaign]:
    """The campaign of a test, whose outcomes are printed at the end, whether it passes or not."""
    one, begin = Campaign(request.node.name), time.monotonic()
    yield one
    record_property(
        "campaign", {"campaign": one.name, "seed": SEED, "seconds": round(time.monotonic() - begin)} | one.outcomes
    )


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Iterator[Workshop]:
    """Where jobs are executed; the server of their processes has one thread, and finds what the tests import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (HERE, HERE.parent, REPOSITORY))))
        for name in ("SMNB_DATA", "SMNB_RUN_DIR", "SMNB_NOTEBOOK_DIR"):
            patch.delenv(name, raising=False)
        yield Workshop(tmp_path_factory.mktemp("workshop"))


def pytest_configure(config) -> None:
    config.stash[FIGURES] = []
    config.pluginmanager.register(Collector(config), "figures of faults")


class Collector:
    """Gathers the figures of all processes of pytest."""

    def __init__(self, config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "teardown":
            self.config.stash[FIGURES] += [value for name, value in report.user_properties if name == "campaign"]

    def pytest_terminal_summary(self, terminalreporter) -> None:
        if self.config.stash[FIGURES] and not hasattr(self.config, "workerinput"):
            terminalreporter.section("campaigns of faults")
            for one in self.config.stash[FIGURES]:
                terminalreporter.line(json.dumps(one))
