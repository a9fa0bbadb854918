"""What the physics shares: NumPy arrays and torch tensors under one set of formulas; a retrieval's cells and statuses.

A formula asks `floats` for its arguments and gets the namespace (``numpy`` or ``torch``) to compute with. Torch is not
imported unless a tensor is passed.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ParameterError, check_range, plain


def is_tensor(value: Any) -> bool:
    """Whether a value is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def floats(*values: ArrayLike) -> tuple[Any, ...]:
    """The namespace to compute with, and the arguments as arrays (or tensors on one device) of one float type.

    Python scalars do not widen float32.
    """
    device = next((value.device for value in values if is_tensor(value)), None)
    if device is not None:
        torch = sys.modules["torch"]
        made = [v if isinstance(v, int | float) else torch.as_tensor(v, device=device) for v in values]
        single = {value.dtype for value in made if not isinstance(value, int | float)} == {torch.float32}
        dtype = torch.float32 if single else torch.float64
        return (torch, *(torch.as_tensor(v, dtype=dtype, device=device) for v in made))
    values = tuple(v if isinstance(v, int | float) else np.asarray(v) for v in values)
    dtype = np.float32 if np.result_type(*values) == np.float32 else np.float64
    return (np, *(np.asarray(v, dtype=dtype) for v in values))


def cos_incidence(who: str, incidence_deg: ArrayLike, like: Any) -> Any:
    """Cosine of the incidence angle, of the type of `like`; raises `ParameterError` outside [0, 90) degrees."""
    if is_tensor(incidence_deg):
        torch = sys.modules["torch"]
        angle = incidence_deg.detach().cpu().numpy()
        cos = torch.cos(torch.deg2rad(incidence_deg.double())).to(like.dtype)
    else:
        angle = np.asarray(incidence_deg, dtype=np.float64)
        cos = np.cos(np.radians(angle))
        cos = sys.modules["torch"].as_tensor(cos, dtype=like.dtype) if is_tensor(like) else cos.astype(like.dtype)
    check_range(who, "incidence_deg", angle[~np.isnan(angle)], 0, 90, ends="[)", units="degrees from nadir")
    return cos.to(like.device) if is_tensor(like) else cos


def complex_from(xp: Any, real: Any, imaginary: Any) -> Any:
    """A complex array of the precision of its parts, which broadcast."""
    if xp is not np:
        return xp.complex(*xp.broadcast_tensors(real, imaginary))
    real, imaginary = np.broadcast_arrays(real, imaginary)
    result = np.empty(real.shape, dtype=np.result_type(real, 1j))
    result.real, result.imag = real, imaginary
    return result


# --- retrievals: flat arrays of cells, in blocks ---------------------------------------------------------------------

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
        got = {name: a.shape for name, a in arrays.items() if a.ndim}
        raise ParameterError(who, "the inputs do not broadcast", got=got) from error
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
        what, expected = f"{name} are not ascending", plain(f"0 <= low < high <= {most:g} in {units}")
        raise ParameterError(who, what, got=(float(np.nanmin(low)), float(np.nanmin(high))), expected=expected)


def in_blocks(work: Callable[[slice], None], size: int, workers: int | None) -> None:
    """Call `work` for every block of cells, in threads: NumPy lets go of the interpreter in its loops."""
    blocks = [slice(start, start + BLOCK) for start in range(0, size, BLOCK)]
    with ThreadPoolExecutor(max(1, min(workers or os.cpu_count() or 1, len(blocks)))) as pool:
        list(pool.map(work, blocks))  # a list, so that an error in a thread is raised here
