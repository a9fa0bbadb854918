"""What a network's settings and inputs are checked for, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smnb.contract import ParameterError, check_choice, check_count, check_range, plain

if TYPE_CHECKING:
    import torch


def check_settings(
    config: Any,
    *,
    counts: Sequence[str] = (),
    positive: Sequence[str] = (),
    shares: Sequence[str] = (),
    choices: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Raise `ParameterError` unless settings of a dataclass are counts, above 0, in (0, 1], or one of what is known."""
    who = type(config).__name__
    for name in counts:
        check_count(who, name, getattr(config, name))
    for name in (*positive, *shares):
        check_range(who, name, getattr(config, name), 0, 1 if name in shares else float("inf"), ends="(]")
    for name, known in (choices or {}).items():
        check_choice(who, name, getattr(config, name), known)


def check_input(who: str, values: torch.Tensor, dims: str, size: int, *, unit: str = "channels") -> None:
    """Raise `ParameterError` unless a tensor has as many dimensions as are named, and this size along the second."""
    if values.ndim != dims.count(",") + 1 or values.shape[1] != size:
        raise ParameterError(who, f"input is not {dims}", got=tuple(values.shape), expected=plain(f"{size} {unit}"))
