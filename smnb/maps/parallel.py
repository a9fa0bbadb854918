"""Who does the work: threads of this process, processes of a local Dask cluster, or the workers of any Dask scheduler.

The one executor of maps, match-ups and sweeps::

    with open_workers("build_matchups", workers, scheduler) as pool:
        scenes = pool.share(scenes)
        for number, future in pool.run(cut, ((number, (task, scenes)) for number, task in enumerate(tasks))):
            store(number, future.result())
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from multiprocessing import resource_tracker
from typing import Any

from smnb.contract import RunError, check_count, plain

CONNECT_SECONDS, WORKER_SECONDS = 20.0, 60.0  # seconds to wait for a scheduler, and then for its first worker
_here = threading.local()


class Workers:
    """Those who do the work, as `open_workers` gives them, `at_once` calls; `client` is None for threads of this process."""

    def __init__(self, pool: Executor, at_once: int, client: Any = None) -> None:
        self._pool, self.at_once, self.client = pool, at_once, client

    def share(self, value: Any) -> Any:
        """What to pass to calls for a value that all of them take: Dask's workers get it once, and keep it."""
        return value if self.client is None else self.client.scatter(value, broadcast=True)

    def run(
        self, function: Callable, calls: Iterable[tuple[Any, tuple]], *, in_flight: int | None = None
    ) -> Iterator[tuple[Any, Future]]:
        """Yield the key of each call and its finished future, as they end.

        `calls` are keys and arguments, taken as workers get free (`in_flight` at most, default two for each that is done at
        once), so that memory does not grow with their number; `function` must be importable where the workers are.
        """
        waiting: dict[Future, Any] = {}
        remaining = iter(calls)
        try:
            while True:
                most = in_flight or 2 * self.at_once
                while len(waiting) < most and (call := next(remaining, None)) is not None:
                    waiting[self._pool.submit(function, *call[1])] = call[0]
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future
        finally:
            for future in waiting:
                future.cancel()


def stop_signal() -> Callable[[], bool]:
    """What tells the call that runs in this thread that those who opened the workers left (an error, Ctrl-C, their end).

    Nobody can interrupt it, so it asks, in any thread.
    """
    if getattr(_here, "left", None) is not None:
        return _here.left.is_set
    if "distributed" not in sys.modules:
        return lambda: False
    from distributed import Status, get_worker

    try:
        worker = get_worker()
    except ValueError:  # no worker's thread
        return lambda: False
    key = worker.get_current_task()

    def unwanted() -> bool:
        task = worker.state.tasks.get(key)
        closing = worker.status in (Status.closing, Status.closed, Status.failed)
        return closing or task is None or task.state in ("cancelled", "released", "forgotten")

    return unwanted


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Ctrl-C waits until the block ends, and never reaches the processes that it starts: who started them ends them."""
    came: list[int] = []
    is_main, has_mask = threading.current_thread() is threading.main_thread(), hasattr(signal, "pthread_sigmask")
    usual = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if is_main else None
    if has_mask:  # which processes inherit from the thread that starts them
        resource_tracker.ensure_running()  # else the first of these threads starts it, and is unmasked by that
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if has_mask:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if is_main:
            signal.signal(signal.SIGINT, usual)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def open_workers(
    who: str,
    number: int = 0,
    scheduler: str | None = None,
    *,
    threads: int | None = None,
    begin: Callable[[], None] | None = None,
    processes: bool = True,
) -> Iterator[Workers]:
    """Open threads of this process, a local cluster, or a scheduler's workers; `RunError` if it has none, or is not reached.

    Parameters
    ----------
    who : str
        Named by errors.
    number : int
        Workers of a Dask cluster on this machine; 0 runs threads of this process instead.
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://host:port``, whose workers do it instead.
    threads, begin
        If it is threads: how many, default the cores, and what is called in each before its first call.
    processes : bool
        Whether workers on this machine are processes, as what computes in Python needs them; else threads of a cluster,
        for calls that only wait.
    """
    check_count(who, "workers", number, 0)
    if scheduler is None and number == 0:
        left = threading.Event()

        def set_up() -> None:
            _here.left = left
            if begin is not None:
                begin()

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with ThreadPoolExecutor(threads or cores, initializer=set_up) as pool:
            try:
                yield Workers(pool, threads or cores)
            finally:
                left.set()
                pool.shutdown(cancel_futures=True)
        return
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        address: Any = scheduler
        with _without_ctrl_c() if scheduler is None else contextlib.nullcontext():
            if scheduler is None:
                shape = (number, 1) if processes else (1, number)
                options = dict(zip(("n_workers", "threads_per_worker"), shape, strict=True))
                options |= {"processes": processes, "dashboard_address": "127.0.0.1:0", "memory_limit": 0}
                address = stack.enter_context(LocalCluster(**options, silence_logs=logging.CRITICAL))
            try:
                client = stack.enter_context(Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
            except (OSError, ValueError, TypeError) as error:
                what, expected = "cannot reach the Dask scheduler", plain("tcp://host:port")
                step = f"Start one with 'dask scheduler' ({type(error).__name__}: {error})"
                raise RunError(who, what, got=scheduler, expected=expected, next_step=step) from error
            try:
                client.wait_for_workers(1, timeout=WORKER_SECONDS)
            except TimeoutError as error:
                what, step = f"the Dask scheduler has no workers after {WORKER_SECONDS:g} s", "Start some: dask worker"
                raise RunError(who, what, got=scheduler, next_step=f"{step} {scheduler} --nthreads 1") from error
        pool = client.get_executor(pure=False, retries=2)
        try:
            yield Workers(pool, sum(client.nthreads().values()), client)
        finally:
            with _without_ctrl_c():  # a second one would leave processes behind
                pool.shutdown(wait=False)  # cancels what is left
                stack.close()
