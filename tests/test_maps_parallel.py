"""The one executor: threads, a local cluster and a scheduler do the same; what is left is cancelled; errors are clear."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from smnb.contract import ParameterError, RunError
from smnb.maps import open_workers, parallel


def double(number: int, offset: list[int]) -> int:
    if number == 3:
        raise ValueError("three")
    return 2 * number + offset[0]


@pytest.fixture(scope="module")
def address():
    """A scheduler's address on loopback; its workers are threads of this process."""
    distributed = pytest.importorskip("distributed")
    options = {"processes": False, "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "memory_limit": 0}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", **options) as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize("where", ["threads", "cluster", "scheduler"])
def test_every_kind_of_worker_gives_the_same(where, address) -> None:
    kind = {
        "threads": {"threads": 3},
        "cluster": {"number": 2, "processes": False},
        "scheduler": {"scheduler": address},
    }[where]
    with open_workers("test", **kind) as pool:
        assert pool.at_once == {"threads": 3}.get(where, 2)
        shared = pool.share([100])
        found = dict(pool.run(double, ((number, (number, shared)) for number in range(7))))
    assert {key: future.result() for key, future in found.items() if key != 3} == {
        number: 2 * number + 100 for number in range(7) if number != 3
    }
    with pytest.raises(ValueError, match="three"):
        found[3].result()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="POSIX only")
def test_ctrl_c_waits_until_a_cluster_stands_and_reaches_none_of_its_processes() -> None:
    found = []

    def start() -> None:
        resource_tracker.getfd()  # as starting a process does; the first call unmasks its thread
        found.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))

    def interrupted_start() -> None:
        with parallel._without_ctrl_c():
            thread = threading.Thread(target=start)
            thread.start()
            thread.join()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            found.append("stands")

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted_start()
    finally:
        signal.signal(signal.SIGINT, usual)
    assert [signal.SIGINT in found[0], found[1]] == [True, "stands"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_workers_cost_no_torch_and_every_name_of_the_door_is_there() -> None:
    code = """
import sys
import smnb.maps, smnb.maps.parallel
smnb.maps.open_workers, smnb.maps.write_map
assert "torch" not in sys.modules
assert {name: getattr(smnb.maps, name).__name__ for name in smnb.maps.__all__} == {n: n for n in smnb.maps.__all__}
assert not hasattr(smnb.maps, "another")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_processes_of_a_local_cluster(tmp_path: Path) -> None:
    with open_workers("test", 2) as pool:
        (tmp_path / "a").touch()
        assert [future.result() for _, future in pool.run(Path.exists, [(0, (tmp_path / "a",))])] == [True]


def test_calls_are_taken_as_workers_get_free() -> None:
    taken = []

    def calls():
        for number in range(50):
            taken.append(number)
            yield number, (number, [0])

    with open_workers("test", threads=2) as pool:
        for _, future in pool.run(double, calls()):
            assert len(taken) <= 5
            future.exception()
            break


@pytest.mark.parametrize("kind", [{"threads": 1}, {"number": 1, "processes": False}])
def test_a_long_call_is_told_that_nobody_wants_it(kind, monkeypatch) -> None:
    told, begun = threading.Event(), threading.Event()
    monkeypatch.setattr(parallel, "_events", (told, begun), raising=False)

    def interrupt() -> None:
        with open_workers("test", **kind) as pool:
            for _ in pool.run(wait_until_told, [("quick", (False,)), ("long", (True,))]):
                begun.wait(10)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert told.wait(10)
    assert not parallel.stop_signal()()  # here nobody left


def wait_until_told(long: bool) -> None:
    told, begun = parallel._events
    if long:
        begun.set()
        unwanted, deadline = parallel.stop_signal(), time.monotonic() + 20
        while not unwanted() and time.monotonic() < deadline:
            time.sleep(0.02)
        if unwanted():
            told.set()


def test_who_cannot_be_reached_is_named(monkeypatch) -> None:
    monkeypatch.setattr(parallel, "CONNECT_SECONDS", 0.5)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        free = listener.getsockname()[1]
    for bad in (f"tcp://127.0.0.1:{free}", "nonsense://x"):
        with (
            pytest.raises(RunError, match=f"test: cannot reach the Dask scheduler; got '{bad}'.*dask scheduler"),
            open_workers("test", scheduler=bad),
        ):
            pass
    for number in (-1, True, 1.5):
        with (
            pytest.raises(ParameterError, match=r"'workers' is no whole number.*at least 0"),
            open_workers("test", number),
        ):
            pass


def test_a_scheduler_without_workers_is_an_error(monkeypatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(parallel, "WORKER_SECONDS", 0.2)
    options = {"processes": False, "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    with (
        distributed.LocalCluster(n_workers=0, **options) as cluster,
        pytest.raises(RunError, match=r"no workers after 0\.2 s.*dask worker tcp://127"),
        open_workers("test", scheduler=cluster.scheduler_address),
    ):
        pass
