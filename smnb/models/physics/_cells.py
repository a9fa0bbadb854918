"""What the retrievals share: their status codes, inputs as flat arrays of cells, blocks of cells in threads."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ParameterError, plain

BLOCK = 16_384  # cells; the few dozen float64 arrays of a step fit into the second-level cache
#: Least |dTB/dr| (K) that carries information on the soil: below, noise of 1 mK spans all reflectivities.
LEAST_SENSITIVITY = 1e-3


class RetrievalStatus(enum.IntEnum):
    """What became of a cell in a retrieval."""

    RETRIEVED = 0
    CLIPPED_DRY = 1  # the brightness temperature asks for less soil moisture than the lower bound, which is given
    CLIPPED_WET = 2  # ... for more than the upper bound
    CLIPPED_OPTICAL_DEPTH = 3  # dual-channel: the optical depth is at a bound, soil moisture is not
    AMBIGUOUS = 4  # two soil moistures explain it (V near the Brewster angle of dry soil): the wetter is given
    NOT_CONVERGED = 5  # dual-channel: the last and best point is given
    INSENSITIVE = 6  # the vegetation hides the soil: NaN
    NO_INPUT = 7  # an input is NaN: NaN


def flatten(who: str, given: dict[str, ArrayLike]) -> tuple[dict[str, NDArray[np.float64]], tuple[int, ...]]:
    """Broadcast to one shape and flatten; what is one number for all cells stays a view of stride zero."""
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in given.items()}
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays.values()))
    except ValueError as error:
        raise ParameterError(
            who, "the inputs do not broadcast", got={name: a.shape for name, a in arrays.items() if a.ndim}
        ) from error
    size = int(np.prod(shape, dtype=np.int64))
    flat = {
        name: np.broadcast_to(a.reshape(1), size) if a.size == 1 else np.broadcast_to(a, shape).reshape(size)
        for name, a in arrays.items()
    }
    return flat, shape


def check_bounds(
    who: str, low: NDArray[Any], high: NDArray[Any], *, name: str = "bounds", most: float = 1.0, units: str = "m3 m-3"
) -> None:
    """Raise `ParameterError` unless 0 <= low < high <= most wherever both are numbers."""
    if (low < 0.0).any() or (high > most).any() or (low >= high).any():
        raise ParameterError(
            who,
            f"{name} are not ascending within 0..{most:g}",
            got=(float(np.nanmin(low)), float(np.nanmin(high))),
            expected=plain(f"0 <= low < high <= {most:g} in {units}"),
        )


def in_blocks(work: Callable[[slice], None], size: int, workers: int | None) -> None:
    """Call `work` for every block of cells, in threads: NumPy lets go of the interpreter in its loops."""
    blocks = [slice(start, start + BLOCK) for start in range(0, size, BLOCK)]
    threads = min(workers or os.cpu_count() or 1, len(blocks))
    if threads <= 1:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, blocks))  # a list, so that an error in a thread is raised here
