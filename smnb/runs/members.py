"""One member of a sweep: executed in this process, or in a process of its own that a Dask worker watches over."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import smnb
from smnb.contract import RunError, SmnbError

from .execution import _locked, _read_state, run_notebooks
from .record import library_fingerprint
from .worker import PREFIX, _die_with_parent, _stop

#: What tells BLAS, OpenMP (torch), numba and dask's threaded scheduler how many threads to start.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "DASK_NUM_WORKERS",
)
#: Seconds between two looks at whether a member is still wanted, and how long its process may take to end.
_LOOK, _GRACE = 0.5, 30.0
# -c, since -m would import this module twice and warn of it
_COMMAND = [sys.executable, "-c", "import sys; from smnb.runs.members import main; sys.exit(main(sys.argv[1]))"]


@dataclass(frozen=True)
class Job:
    """What a process needs to execute one member; paths are absolute, values what JSON can hold."""

    slug: str
    parameters: dict[str, Any]
    notebook: str
    preset: str
    sweep: str
    """The sweep's folder; the member's is ``<sweep>/<slug>``."""
    folder: str
    """Folder of the notebooks."""
    root: str
    """Data root."""
    force: bool = False
    threads: int | None = None
    """Threads that the member's libraries start; None leaves it to the environment."""


def execute(job: Job) -> dict[str, Any]:
    """Execute a member here and return its ``status`` (done, skipped, failed), ``seconds`` and ``message``.

    The seconds are those that the notebooks took when they were executed, also if that was in an earlier sweep.
    """
    try:
        with _threads(job.threads):
            results = run_notebooks(
                job.slug,
                [job.notebook],
                job.preset,
                job.parameters,
                runs_root=job.sweep,
                root=job.root,
                force=job.force,
                folder=job.folder,
            )
    except (SmnbError, OSError) as error:  # what concerns this member only; the others go on
        return _failed(error)
    out = Path(job.sweep, job.slug)
    seconds = round(sum(_read_state(out, one.notebook).get("seconds", one.seconds) for one in results), 2)
    last = results[-1]
    bad = next((one for one in results if one.status == "failed"), None)
    if bad is None:
        return {"status": last.status, "seconds": seconds, "message": last.message}
    message = bad.message if bad is last else f"{bad.notebook}: {bad.message}"
    return {"status": "failed", "seconds": seconds, "message": message}


def _failed(what: Exception | str) -> dict[str, Any]:
    named = isinstance(what, SmnbError | str)  # these say what is wrong; of others the kind does
    text = str(what) if named else f"{type(what).__name__}: {what}"
    return {"status": "failed", "seconds": None, "message": " ".join(text.split())}


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Set `THREAD_VARIABLES` for the processes that are started within this block."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    if number is not None:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(number)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def execute_watched(job: Job) -> dict[str, Any]:
    """Execute a member in a process of its own and end that process when the Dask task is cancelled.

    Dask cannot interrupt a task that runs. So the task only waits, and looks whether its worker still knows it: it does
    not when the sweep was interrupted, or when the client that asked for it is gone.
    """
    environment = dict(os.environ)
    here = str(Path(smnb.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, environment.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [*_COMMAND, json.dumps(asdict(job))],
        env=environment,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        while True:
            try:
                output, _ = process.communicate(timeout=_LOOK)
                break
            except subprocess.TimeoutExpired:
                if _unwanted():
                    return _failed("stopped, since the sweep was interrupted")
    finally:
        if process.poll() is None:
            process.terminate()  # it ends its notebook's kernel before itself
            try:
                process.communicate(timeout=_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
    lines = output.strip().splitlines()
    told = [line for line in lines if line.startswith(PREFIX)]
    if told:
        return json.loads(told[-1].removeprefix(PREFIX))
    tail = lines[-1] if lines else "no message (was it killed, or out of memory?)"
    return _failed(f"the member's process ended with status {process.returncode}: {tail}")


def _unwanted() -> bool:
    """Whether the Dask task of this thread was cancelled, or its worker is closing."""
    from distributed import Status, get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    closing = worker.status in (Status.closing, Status.closed, Status.failed)
    return closing or task is None or task.state in ("cancelled", "released", "forgotten")


def look_from_a_worker(token: str) -> dict[str, Any]:
    """Whether a file of the sweep's folder is visible here, and which library this is."""
    return {"sees": Path(token).is_file(), "library": library_fingerprint()}


def main(job_text: str) -> int:
    """Execute the member that the JSON text describes and print its outcome on a line of its own."""
    signal.signal(signal.SIGTERM, _stop)
    _die_with_parent()
    job = Job(**json.loads(job_text))
    _wait_until_free(Path(job.sweep, job.slug), job.slug)
    print(PREFIX + json.dumps(execute(job)), flush=True)
    return 0


def _wait_until_free(out: Path, slug: str) -> None:
    """Wait for a member that another worker began: when a worker dies Dask asks the next one at once.

    What is left of the first ends within seconds. If it does not, the run itself says that the folder is taken.
    """
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _GRACE
    while time.monotonic() < deadline:
        with contextlib.suppress(RunError), _locked(out, slug):
            return
        time.sleep(_LOOK)
