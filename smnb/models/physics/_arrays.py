"""One set of formulas for NumPy arrays and torch tensors: what differs between the two is here.

A formula asks `floats` for its arguments and gets the namespace (``numpy`` or ``torch``) to compute with. Torch is not
imported unless a tensor is passed.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from smnb.contract import ParameterError, plain


def is_tensor(value: Any) -> bool:
    """Whether a value is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def floats(*values: ArrayLike) -> tuple[Any, ...]:
    """The namespace to compute with, and the arguments as arrays (or tensors) of one float type.

    Python scalars do not widen float32. With a tensor among the arguments, all become tensors on its device.
    """
    tensors = [value for value in values if is_tensor(value)]
    if tensors:
        torch = sys.modules["torch"]
        device = tensors[0].device
        made = [torch.as_tensor(v, device=device) if not isinstance(v, (int, float)) else v for v in values]
        dtype = torch.float64
        kinds = {value.dtype for value in made if not isinstance(value, (int, float))}
        if kinds == {torch.float32}:
            dtype = torch.float32
        return (torch, *(torch.as_tensor(v, dtype=dtype, device=device) for v in made))
    values = tuple(v if isinstance(v, (int, float)) else np.asarray(v) for v in values)
    dtype = np.result_type(*values)
    if dtype not in (np.float32, np.float64):
        dtype = np.dtype(np.float64)
    return (np, *(np.asarray(v, dtype=dtype) for v in values))


def check_frequency(who: str, frequency_ghz: float, low: float, high: float) -> float:
    """Raise `ParameterError` unless the frequency is one number in GHz within the range of a model."""
    if not isinstance(frequency_ghz, (int, float)) or not low <= frequency_ghz <= high:
        raise ParameterError(
            who,
            "frequency_ghz is out of range",
            got=frequency_ghz,
            expected=plain(f"GHz in [{low:g}, {high:g}]"),
            next_step="Give the frequency in GHz as one number, not in Hz",
        )
    return float(frequency_ghz)


def cos_incidence(who: str, incidence_deg: ArrayLike, like: Any) -> Any:
    """Cosine of the incidence angle, of the type of `like`; raises `ParameterError` outside [0, 90) degrees."""
    if is_tensor(incidence_deg):
        torch = sys.modules["torch"]
        low, high = (
            (float(f(incidence_deg.detach())) for f in (torch.min, torch.max)) if incidence_deg.numel() else (0, 0)
        )
        cos = torch.cos(torch.deg2rad(incidence_deg.double())).to(like.dtype)
    else:
        angle = np.asarray(incidence_deg, dtype=np.float64)
        low, high = (np.nanmin(angle), np.nanmax(angle)) if np.isfinite(angle).any() else (0.0, 0.0)
        cos = np.cos(np.radians(angle))
        cos = sys.modules["torch"].as_tensor(cos, dtype=like.dtype) if is_tensor(like) else cos.astype(like.dtype)
    if low < 0.0 or high >= 90.0:
        raise ParameterError(
            who,
            "incidence_deg is out of range",
            got=(float(low), float(high)),
            expected=plain("degrees from nadir in [0, 90)"),
        )
    return cos.to(like.device) if is_tensor(like) else cos


def complex_from(xp: Any, real: Any, imaginary: Any) -> Any:
    """A complex array of the precision of its parts, which broadcast."""
    if xp is not np:
        return xp.complex(*xp.broadcast_tensors(real, imaginary))
    real, imaginary = np.broadcast_arrays(real, imaginary)
    result = np.empty(real.shape, dtype=np.result_type(real, 1j))
    result.real, result.imag = real, imaginary
    return result
