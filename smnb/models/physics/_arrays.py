"""One set of formulas for NumPy arrays and torch tensors: what differs between the two is here.

A formula asks `floats` for its arguments and gets the namespace (``numpy`` or ``torch``) to compute with. Torch is not
imported unless a tensor is passed.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from smnb.contract import check_range


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
