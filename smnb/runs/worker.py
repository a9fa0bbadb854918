"""Execute one notebook with papermill in a process of its own: ``python -m smnb.runs.worker JOB``.

JOB is JSON with ``source``, ``output``, ``parameters``, ``cwd`` and ``lock``, which a process that lost its parent keeps
until it ends. Progress and the outcome go to standard output, one event a line after a prefix.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smnb.contract import RunError
from smnb.files import exclusive

PREFIX = "smnb-event "


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Import nbformat and what needs it within this block: 3 s of CPU a process less.

    jsonschema imports rfc3987_syntax, which compiles a grammar for that long, for a format (IRI) that the schema of notebooks
    does not use; it goes without when that is absent.
    """
    if "jsonschema" in sys.modules:
        yield
        return
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None makes an import of it fail
    try:
        yield
    finally:
        if sys.modules.get("rfc3987_syntax", "") is None:
            del sys.modules["rfc3987_syntax"]


def hold(path: Path, name: str, *, patience: float = 0.0) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of a run; `RunError` if another process holds it still after `patience` seconds."""
    what, step = "another process executes a run of this name", "Wait for it, or choose another --name"
    return exclusive(path, RunError("smnb run", what, got=name, next_step=step), patience=patience)


def _emit(**event: Any) -> None:
    print(PREFIX + json.dumps(event), flush=True)


def _die_with_parent() -> None:
    """End this process, and so its kernel, when whoever started it is gone; a killed run leaves nobody computing."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def execute_job(job_text: str) -> int:
    """Execute the notebook and return the exit status: 0 when it ran, 1 when a cell failed."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    _die_with_parent()
    job = json.loads(job_text)

    with quick_imports():
        from nbclient.exceptions import DeadKernelError
        from papermill.engines import NBClientEngine, papermill_engines
        from papermill.exceptions import PapermillExecutionError
        from papermill.execute import execute_notebook

    class ReportingEngine(NBClientEngine):
        """The default engine, which also says after each cell how far it is."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            complete, total = nb_man.cell_complete, len(nb_man.nb.cells)

            def cell_complete(cell: Any, cell_index: int = 0, **rest: Any) -> None:
                complete(cell, cell_index=cell_index, **rest)
                _emit(event="cell", done=cell_index + 1, total=total)

            nb_man.cell_complete = cell_complete
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("smnb", ReportingEngine)
    try:
        with hold(Path(job["lock"]), job["source"], patience=30.0):
            options = {"engine_name": "smnb", "kernel_name": "python3", "language": "python", "progress_bar": False}
            options |= {name: job[name] for name in ("parameters", "cwd")}
            execute_notebook(job["source"], job["output"], request_save_on_cell_execute=False, **options)
    except PapermillExecutionError as error:
        lines = error.source.strip().splitlines() or [""]
        _emit(event="failed", cell=error.exec_count, line=lines[0], error=f"{error.ename}: {error.evalue}")
        return 1
    except DeadKernelError:
        _emit(event="failed", cell=None, line="", error="the kernel died (was it killed, or out of memory?)")
        return 1
    _emit(event="done")
    return 0


if __name__ == "__main__":
    sys.exit(execute_job(sys.argv[1]))
