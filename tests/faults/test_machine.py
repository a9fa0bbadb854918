"""Sequences of runs, kills, damage and changes: an output has the bytes of the uninterrupted run, or there is one named error."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fuzz import digest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from operations import OPERATIONS, kill

from smnb.contract import SmnbError

COUNTS: Counter = Counter()
REFERENCES: dict[tuple[str, int, int], tuple[dict[str, bytes], str]] = {}
names = st.sampled_from(sorted(OPERATIONS))
two = st.integers(0, 1)


def output_of(folder: Path) -> dict[str, bytes]:
    """What was written, but for inputs, caches and locks; a map's history has the time of day."""
    files = (
        path
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] in ("insitu", "a.zarr")
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "ingest_report.json"}


def reference(name: str, version: int, choice: int) -> tuple[dict[str, bytes], str]:
    """Bytes and values of one uninterrupted run in an empty folder."""
    if (name, version, choice) not in REFERENCES:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made) / "reference"
            folder.mkdir()
            OPERATIONS[name].run(folder, version, choice)
            REFERENCES[name, version, choice] = output_of(folder), digest(OPERATIONS[name].read(folder))
    return REFERENCES[name, version, choice]


class Sequences(RuleBasedStateMachine):
    """One folder an operation; `written` says of which input and parameters it may hold something, `damaged` whether by us."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="smnb-machine-"))
        self.written: dict[str, set[tuple[int, int]]] = {name: set() for name in OPERATIONS}
        self.damaged = dict.fromkeys(OPERATIONS, False)
        COUNTS["sequences"] += 1
        for name in OPERATIONS:
            (self.root / name).mkdir()

    def teardown(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def begin_anew(self, name: str) -> None:
        shutil.rmtree(self.root / name)
        (self.root / name).mkdir()
        self.written[name], self.damaged[name] = set(), False

    @rule(name=names, version=two, choice=two)
    def run(self, name: str, version: int, choice: int) -> None:
        """Run or run again, of the same input and parameters or others: as without all that was before, or one named error."""
        folder, now = self.root / name, (version, choice)
        expected, others = reference(name, *now), self.written[name] - {now}
        may_refuse = self.damaged[name] or (OPERATIONS[name].refuses and others)
        self.written[name].add(now)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                OPERATIONS[name].run(folder, *now)
                values = digest(OPERATIONS[name].read(folder))
        except (SmnbError, OSError):
            if not may_refuse:
                raise
            COUNTS["named errors"] += 1
            self.begin_anew(name)
            OPERATIONS[name].run(folder, *now)
            self.written[name] = {now}
            values = digest(OPERATIONS[name].read(folder))
        assert values == expected[1], f"{name} of version and choice {now} has other values than an uninterrupted run"
        if not self.damaged[name]:
            found = output_of(folder)
            differ = [one for one in {*found, *expected[0]} if found.get(one) != expected[0].get(one)]
            assert not differ, (
                f"{name} of version and choice {now} has other bytes than an uninterrupted run: {differ[:5]}"
            )
        COUNTS["runs equal"] += 1
        self.written[name] = {now}

    @rule(name=names, version=two, choice=two, at=st.integers(0, 40), after=st.booleans())
    def kill(self, name: str, version: int, choice: int, at: int, after: bool) -> None:
        """A run that is killed at a change of the disk."""
        now = (version, choice)
        COUNTS["killed" if kill(OPERATIONS[name], self.root / name, *now, at, after) else "ended before the kill"] += 1
        self.written[name].add(now)

    @rule(name=names, which=st.integers(0, 10**6), share=st.integers(0, 999), flip=st.booleans())
    def damage(self, name: str, which: int, share: int, flip: bool) -> None:
        """Cut a file that was left or written, or change a bit of it."""
        keep = ("Data.zip", "version", "scene.nc", "model.json", "model.safetensors", "opened.txt")
        files = [path for path in sorted((self.root / name).rglob("*")) if path.is_file() and path.name not in keep]
        files = [path for path in files if path.stat().st_size]
        if not files:  # nothing was written yet
            return self.run(name, which % 2, share % 2)
        content = bytearray((path := files[which % len(files)]).read_bytes())
        if flip:
            content[share * len(content) // 1000] ^= 1 << which % 8
        else:
            del content[share * len(content) // 1000 :]
        path.write_bytes(content)
        self.damaged[name] = True
        COUNTS["files damaged"] += 1


def go(examples: int, steps: int, **options: Any) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    options |= {"deadline": None, "database": None, "print_blob": True, "suppress_health_check": checks}
    run_state_machine_as_test(Sequences, settings=settings(max_examples=examples, stateful_step_count=steps, **options))


def test_a_few_sequences():
    go(10, 6, derandomize=True)


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_sequences(campaign):
    COUNTS.clear()
    try:
        seed(campaign.seed)(Sequences)
        # a failure says its steps; to shrink them would take minutes
        go(round(60 * campaign.scale), 14, phases=[Phase.generate])
    finally:
        campaign.outcomes.update(COUNTS)
