"""The mutation fuzzer: seeded damage to a small input of every door, read in a process with bounds of time and memory.

``python tests/faults/fuzz.py`` runs a campaign; ``--door NAME --number N --seed S`` one of its inputs here, with its traceback.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import importlib
import json
import os
import random
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(REPOSITORY), str(HERE.parent), str(HERE)]

SECONDS = 20.0  # an input may take
MEMORY = 3 << 30  # bytes that it may need beside what the process has
STARTING = 120.0  # seconds that a process may take for its imports and a door's seed
#: What must never be an outcome; ``kept`` is a value of a file of smnb's own that changed without a word.
BAD = ("traceback", "crash", "hang", "memory", "kept", "written")
GOOD = ("accepted", "named", "system")


# --- in the process that reads ----------------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """A hash of what a door gave: arrays and tables by content."""
    import numpy as np
    import pandas as pd

    found = hashlib.sha256()

    def add(one: Any) -> None:
        if isinstance(one, pd.DataFrame | pd.Series):
            found.update(one.to_csv().encode(errors="replace"))
        elif isinstance(one, np.ndarray) and one.dtype.kind != "O":
            found.update(f"{one.dtype.str} {one.shape}".encode() + np.ascontiguousarray(one).tobytes())
        elif isinstance(one, dict):
            for key in sorted(one, key=str):
                found.update(str(key).encode(errors="replace"))
                add(one[key])
        elif isinstance(one, list | tuple):
            found.update(f"[{len(one)}".encode())
            for part in one:
                add(part)
        else:
            found.update(repr(one).encode(errors="replace"))

    add(value)
    return found.hexdigest()


def state_of(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def peak() -> int:
    """Peak of this process's memory since it was last asked for, bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    found = next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return found


class Reader:
    """Reads damaged inputs of doors in this process."""

    def __init__(self, work: Path) -> None:
        from doors import DOORS

        self.doors, self.work, self.whole = DOORS, work, dict[str, str]()
        self.here = Path(tempfile.mkdtemp(prefix="reader-", dir=work))
        self.words = self.here / "stderr"

    def seed(self, name: str) -> Path:
        """The folder of a door's sound input, made once for all processes."""
        folder = self.work / "seeds" / name
        if not folder.is_dir():
            made = Path(tempfile.mkdtemp(prefix="seed-", dir=self.work)) / name
            made.mkdir()
            self.doors[name].seed(made)
            folder.parent.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):  # another was first
                made.rename(folder)
        if name not in self.whole:
            outcome, said, value = self.read(name, self.copied(name))
            if outcome != "accepted":
                raise RuntimeError(f"the sound input of {name} is refused: {outcome} {said}")
            self.whole[name] = value
        return folder

    def copied(self, name: str) -> Path:
        shutil.rmtree(self.here / "input", ignore_errors=True)
        return Path(shutil.copytree(self.work / "seeds" / name, self.here / "input" / name))

    def damaged(self, name: str, number: int, seed: int) -> tuple[Path, bool, str]:
        """Input `number` of a door: its folder, whether only bytes were damaged, and what was done."""
        from mutations import mutate_folder

        self.seed(name)
        rng, folder = random.Random(f"{seed} {name} {number}"), self.copied(name)
        found = {path for pattern in self.doors[name].targets for path in folder.glob(pattern) if path.is_file()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain, said = mutate_folder(folder, sorted(found), rng)
        return folder, plain, said

    def read(self, name: str, folder: Path) -> tuple[str, str, str]:
        """Outcome, what was said, and the digest of what was read."""
        from smnb.contract import SmnbError

        out = self.here / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        before, base = state_of(folder), peak()
        outcome, said, value = "accepted", "", ""
        with quiet(self.words):
            try:
                value = digest(self.doors[name].read(folder, out))
            except SmnbError as error:
                outcome, said = "named", str(error)
            except SystemExit as end:
                outcome = "named" if end.code else "accepted"
            except OSError as error:
                outcome, said = ("system" if error.filename else "traceback"), trace()
            except MemoryError:
                outcome, said = "memory", trace()
            except Exception:
                outcome, said = "traceback", trace()
        grown = peak() - base
        words = self.words.read_text(errors="replace")
        if outcome == "named" and not said:
            said = words.strip()
            if not said.startswith("error: ") and "\nerror: " not in said:
                outcome = "traceback"
        if outcome in GOOD and "Traceback (most recent call last)" in words:
            outcome, said = "traceback", words
        if outcome in GOOD and grown > MEMORY:
            outcome, said = "memory", f"{grown >> 20} MiB"
        if outcome in GOOD and not self.doors[name].changes and state_of(folder) != before:
            outcome, said = "written", "a file of the input was changed by reading it"
        if outcome == "accepted":
            said = words
        return outcome, said, value

    def one(self, name: str, number: int, seed: int) -> dict[str, Any]:
        folder, plain, done = self.damaged(name, number, seed)
        began = time.perf_counter()
        outcome, said, value = self.read(name, folder)
        if outcome == "accepted" and self.doors[name].kept and plain and value != self.whole[name] and not said.strip():
            outcome, said = "kept", "other values, and not a word"
        place, error = place_of(said) if outcome in ("traceback", "memory") else ("", said.strip()[-300:])
        seconds = round(time.perf_counter() - began, 3)
        found = {"door": name, "number": number, "seed": seed, "outcome": outcome, "mutation": done, "place": place}
        return found | {"error": error[-300:], "seconds": seconds}


def trace() -> str:
    """The traceback of the error that is being handled, with its message on one line."""
    kind, error, places = sys.exc_info()
    return "".join(traceback.format_tb(places)) + f"{kind.__name__}: {' '.join(str(error).split())[:300]}"


def place_of(text: str) -> tuple[str, str]:
    """The last line of smnb in a traceback, and the error."""
    lines = text.strip().splitlines()
    places = [line for line in lines if "/smnb/" in line or "/smnb_sandbox/" in line]
    if not places:
        return "", lines[-1] if lines else ""
    path, line = places[-1].split('"')[1], places[-1].split("line ")[-1].split(",")[0]
    return f"{path.removeprefix(f'{REPOSITORY}/')}:{line}", lines[-1]


@contextlib.contextmanager
def quiet(words: Path) -> Iterator[None]:
    """Standard output nowhere and standard error into a file, for libraries in C too."""
    sys.stdout.flush(), sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(os.devnull, "w") as nowhere, open(words, "w") as stream:
        os.dup2(nowhere.fileno(), 1), os.dup2(stream.fileno(), 2)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            for number, one in zip((1, 2), kept, strict=True):
                os.dup2(one, number), os.close(one)


def serve(work: Path) -> None:
    """Read inputs that standard input names, a line each, and say what became of them, a line each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY + (3 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    reader = Reader(work)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if asked["number"] is None:
                reader.seed(asked["door"])
                found = {"ready": asked["door"]}
            else:
                found = reader.one(asked["door"], asked["number"], asked["seed"])
        except BaseException:
            found = {
                **asked,
                "outcome": "broken",
                "error": traceback.format_exc()[-1500:],
                "mutation": "",
                "place": "",
                "seconds": 0,
            }
        answers.write(json.dumps(found) + "\n")
        answers.flush()


# --- a campaign -------------------------------------------------------------------------------------------------------


@dataclass
class Process:
    """A process that reads; started anew when an input ended it."""

    work: Path
    doors: str = ""  # a function ``module:name`` that registers more
    ready: set[str] = field(default_factory=set)
    child: subprocess.Popen | None = None

    def ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any] | str:
        if self.child is None or self.child.poll() is not None:
            self.ready.clear()
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
            command = [
                sys.executable,
                str(HERE / "fuzz.py"),
                "--serve",
                "--work",
                str(self.work),
                "--doors",
                self.doors,
            ]
            log = open(self.work / f"process-{id(self)}.log", "a")  # noqa: SIM115 - the child's
            self.child = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.work,
            )
        try:
            self.child.stdin.write(json.dumps(question) + "\n")
            self.child.stdin.flush()
        except OSError:
            return "crash"
        with selectors.DefaultSelector() as selector:
            selector.register(self.child.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                self.end()
                return "hang"
        line = self.child.stdout.readline()
        if not line:
            self.end()
            return "crash"
        return json.loads(line)

    def end(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None

    def one(self, door: str, number: int, seed: int) -> dict[str, Any]:
        if door not in self.ready:
            made = self.ask({"door": door, "number": None, "seed": seed}, STARTING)
            if not isinstance(made, dict) or "ready" not in made:
                said = made if isinstance(made, str) else made["error"]
                return {
                    "door": door,
                    "number": number,
                    "seed": seed,
                    "outcome": "broken",
                    "error": said,
                    "mutation": "",
                    "place": "",
                    "seconds": 0,
                }
            self.ready.add(door)
        found = self.ask({"door": door, "number": number, "seed": seed}, SECONDS)
        if isinstance(found, str):
            found = {
                "door": door,
                "number": number,
                "seed": seed,
                "outcome": found,
                "error": "",
                "mutation": "",
                "place": "",
                "seconds": SECONDS,
            }
        return found


def campaign(
    inputs: int, seed: int, *, doors: Iterable[str] = (), processes: int = 2, first: int = 0, limit: float | None = None
) -> dict[str, Any]:
    """Read about `inputs` damaged inputs, spread over the doors by their weights; all outcomes, and the bad ones each."""
    from doors import DOORS

    wanted = list(doors) or list(DOORS)
    weight = sum(DOORS[name].weight for name in wanted)
    plan = {name: max(1, round(inputs * DOORS[name].weight / weight)) for name in wanted}
    queue: collections.deque[tuple[str, range]] = collections.deque()
    for name, number in plan.items():  # in parts, so that no process is left with a slow door at the end
        queue.extend((name, range(first + at, first + min(at + 100, number))) for at in range(0, number, 100))
    found: list[dict[str, Any]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="smnb-fuzz-", ignore_cleanup_errors=True) as work:

        def go() -> None:
            process = Process(Path(work))
            with contextlib.suppress(IndexError):
                while True:
                    name, numbers = queue.popleft()
                    for number in numbers:
                        if limit is not None and time.monotonic() - began > limit:
                            return process.end()
                        found.append(process.one(name, number, seed))
            process.end()

        threads = [threading.Thread(target=go) for _ in range(processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    table: dict[str, collections.Counter] = {name: collections.Counter() for name in wanted}
    for one in found:
        table[one["door"]][one["outcome"]] += 1
    outcomes = sum(table.values(), collections.Counter())
    bad = [one for one in found if one["outcome"] not in GOOD]
    said = {
        "seed": seed,
        "inputs": len(found),
        "planned": sum(plan.values()),
        "seconds": round(time.monotonic() - began, 1),
    }
    slowest = sorted(found, key=lambda one: -one["seconds"])[:5]
    rest = {"outcomes": dict(outcomes), "doors": {name: dict(counts) for name, counts in table.items()}, "bad": bad}
    return (
        said
        | rest
        | {"slowest": [{key: one[key] for key in ("door", "number", "seconds", "mutation")} for one in slowest]}
    )


def places(bad: Iterable[dict[str, Any]]) -> list[str]:
    """A line a place: how often, where, what, and one input that shows it."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = collections.defaultdict(list)
    for one in bad:
        kind = one["error"].split(":")[0][:60] if one["outcome"] == "traceback" else ""
        groups[one["outcome"], one["door"], one["place"], kind].append(one)
    lines = []
    for (outcome, door, place, _), ones in sorted(groups.items(), key=lambda item: -len(item[1])):
        shown = f"{ones[0]['error'][-160:]} | {ones[0]['mutation'][:110]} | --door {door} --number {ones[0]['number']}"
        lines.append(f"{len(ones)} x {outcome} | {door} | {place} | {shown}")
    return lines


def show_one(name: str, number: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as work:
        reader = Reader(Path(work))
        folder, plain, done = reader.damaged(name, number, seed)
        print(f"{done} ({'bytes' if plain else 'structure'})")
        outcome, said, value = reader.read(name, folder)
        print(outcome, "the same values" if value == reader.whole[name] else "other values")
        print(said)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--door", action="append", default=[])
    parser.add_argument("--number", type=int)
    parser.add_argument("--json")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--work")
    parser.add_argument("--doors", default="")
    given = parser.parse_args()
    if given.doors:
        module, name = given.doors.split(":")
        getattr(importlib.import_module(module), name)()
    if given.serve:
        serve(Path(given.work))
    elif given.number is not None:
        show_one(given.door[0], given.number, given.seed)
    else:
        found = campaign(given.inputs, given.seed, doors=given.door, processes=given.processes, first=given.first)
        if given.json:
            Path(given.json).write_text(json.dumps(found, indent=1))
        for name, counts in found["doors"].items():
            print(f"{name:20} {counts}")
        print(f"{found['inputs']} inputs in {found['seconds']} s, seed {found['seed']}: {found['outcomes']}")
        print("\n".join(places(found["bad"])))
        sys.exit(bool(found["bad"]))


if __name__ == "__main__":
    main()
