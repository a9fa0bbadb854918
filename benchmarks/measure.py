"""What the benchmarks measure with: the shortest time, the machine's rate of matrix products, and resident memory.

torch is imported only where it is used, so that a benchmark of memory does not count it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch


Result = TypeVar("Result")


def synchronise(device: torch.device | str) -> None:
    """Wait for what a CUDA device has been given; nothing on other devices."""
    if str(device).startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def best_of(
    function: Callable[[], Result], repeats: int = 1, *, device: torch.device | str = "cpu"
) -> tuple[float, Result]:
    """Shortest wall time of several calls, s, and the last result."""
    if repeats < 1:
        raise ValueError(f"best_of: got repeats={repeats}, expected at least 1")
    shortest = float("inf")
    for _ in range(repeats):
        synchronise(device)
        start = time.perf_counter()
        result = function()
        synchronise(device)
        shortest = min(shortest, time.perf_counter() - start)
    return shortest, result


def matrix_rate(
    device: torch.device | str = "cpu", dtype: torch.dtype | None = None, size: int | None = None, *, repeats: int = 8
) -> float:
    """Best rate of several products of two square matrices, FLOP/s.

    Parameters
    ----------
    device : torch.device or str
    dtype : torch.dtype, optional
        float32 by default. On a GPU the float32 rate depends on ``torch.set_float32_matmul_precision``.
    size : int, optional
        Rows and columns: by default 2048, on a GPU 8192.
    repeats : int
    """
    import torch

    if size is None:
        size = 8192 if str(device).startswith("cuda") else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype or torch.float32) for _ in range(2))
    return 2.0 * size**3 / best_of(lambda: a @ b, repeats, device=device)[0]


def resident_memory(kind: str = "VmHWM") -> int:
    """Resident memory of this process, bytes: its peak "VmHWM", or "VmRSS" now.

    Of Linux's own record, since ``getrusage`` counts the parent's share of a fork.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))
