"""Who cuts: threads of this process, processes of a local Dask cluster, or a scheduler's workers; and what is done already."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnb.contract import ParameterError, RunError, plain
from smnb.papers.batchu2023.matchup.cutting import CutFailure, CutTask, Geometry, cut
from smnb.papers.batchu2023.matchup.sources import MatchSource, Scenes


class Journal:
    """Tasks that are done, a line each; a line that a kill cut short does not count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done: dict[str, dict[int, NDArray[Any]]] = {}
        whole = 0
        if path.is_file():
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            for line in content[:whole].splitlines():
                entry = json.loads(line)
                values = [
                    [np.nan if v is None else v for v in row] if isinstance(row, list) else row
                    for row in entry["result"]
                ]
                kind = np.float32 if isinstance(values[0], list) else np.bool_
                self._done.setdefault(entry["source"], {})[entry["task"]] = np.array(values, kind)
        with open(path, "ab") as stream:
            stream.truncate(whole)

    def done(self, source: str) -> dict[int, NDArray[Any]]:
        """Results of a source's finished tasks, by number."""
        return self._done.setdefault(source, {})

    def add(self, source: str, task: int, result: NDArray[Any]) -> None:
        """Note a task as done; the decimals of a float32 give the same float32 again."""
        self.done(source)[task] = result
        listed = result.tolist()
        if result.ndim == 2:
            listed = [[v if np.isfinite(v) else None for v in row] for row in listed]
        line = json.dumps({"source": source, "task": task, "result": listed}, allow_nan=False)
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")


class Cutters:
    """An executor, and how many tasks it takes at once."""

    def __init__(self, pool: Executor, slots: int, client: Any = None) -> None:
        self._pool, self._slots, self._client = pool, slots, client

    def run(
        self, tasks: Iterable[CutTask], scenes: Scenes, name: str, spec: MatchSource, geometry: Geometry, store: Path
    ) -> Iterator[tuple[CutTask, NDArray[Any]]]:
        """Yield tasks as they are done; a few are in flight at a time, so that memory does not grow with their number.

        Raises
        ------
        RunError
            When a scene cannot be read or has values outside its range.
        """
        there = scenes if self._client is None else self._client.scatter(scenes, broadcast=True)
        waiting: dict[Future, CutTask] = {}
        remaining = iter(tasks)
        try:
            while True:
                while len(waiting) < 2 * self._slots and (task := next(remaining, None)) is not None:
                    waiting[self._pool.submit(cut, task, there, name, spec, geometry, store)] = task
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    task, result = waiting.pop(future), future.result()
                    if isinstance(result, CutFailure):
                        scene = str(scenes.table["scene_id"].iloc[result.scene]) if result.scene >= 0 else "?"
                        raise RunError(
                            "build_matchups",
                            f"the source {name!r}, scene {scene}: {result.message.rstrip('.')}",
                            next_step="Mend or remove that file and run the build again; what is done is kept",
                        )
                    yield task, result
        finally:
            for future in waiting:
                future.cancel()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def cutters(*, workers: int, scheduler: str | None) -> Iterator[Cutters]:
    """Open threads (0 workers), a local cluster of processes, or a scheduler's workers.

    Raises
    ------
    ParameterError
        If `workers` is no whole number from 0.
    RunError
        If the scheduler, or a worker of it, cannot be reached.
    """
    who = "build_matchups"
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise ParameterError(who, "'workers' is no whole number from 0", got=workers)
    if scheduler is None and workers == 0:
        with ThreadPoolExecutor(cores()) as pool:
            try:
                yield Cutters(pool, cores())
            finally:
                pool.shutdown(cancel_futures=True)
        return
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        address: Any = scheduler
        if scheduler is None:
            options = {
                "n_workers": workers,
                "threads_per_worker": 1,
                "dashboard_address": "127.0.0.1:0",
                "memory_limit": 0,
            }
            address = stack.enter_context(LocalCluster(**options, silence_logs=logging.ERROR))
        try:
            client = stack.enter_context(Client(address, timeout=20, set_as_default=False))
            client.wait_for_workers(1, timeout=60)
        except (OSError, ValueError, TypeError, TimeoutError) as error:
            raise RunError(
                who,
                "cannot reach the Dask scheduler or a worker of it",
                got=scheduler,
                expected=plain("tcp://host:port"),
                next_step="Start 'dask scheduler' and 'dask worker'",
            ) from error
        pool = client.get_executor(pure=False, retries=2)
        yield Cutters(pool, sum(client.nthreads().values()), client)
        pool.shutdown(wait=False)
