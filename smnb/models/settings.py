"""What a network's settings are checked for, in one place; the error names the class, the setting and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smnb.contract import ParameterError, plain


def check_settings(
    config: Any,
    *,
    counts: Sequence[str] = (),
    positive: Sequence[str] = (),
    shares: Sequence[str] = (),
    choices: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Raise unless a network's settings can be.

    Parameters
    ----------
    config : dataclass
    counts, positive, shares : sequence of str
        Settings that are at least 1, above 0, and in (0, 1].
    choices : mapping of str to sequence
        What a setting may be.

    Raises
    ------
    ParameterError
    """
    rules = (
        *((name, lambda v: v >= 1, plain("at least 1")) for name in counts),
        *((name, lambda v: v > 0, plain("positive")) for name in positive),
        *((name, lambda v: 0.0 < v <= 1.0, plain("in (0, 1]")) for name in shares),
        *((name, known.__contains__, known) for name, known in (choices or {}).items()),
    )
    for name, fine, expected in rules:
        if not fine(getattr(config, name)):
            raise ParameterError(type(config).__name__, name, got=getattr(config, name), expected=expected)
