"""The sandbox's tables, which stand in ``data/``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


def _tuples(value: Any) -> Any:
    """Lists as tuples, at every depth."""
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@cache
def table(name: str) -> dict[str, Any]:
    """A file of ``data/`` as mappings, tuples and numbers; what stands there is not to be changed."""
    return _tuples(yaml.safe_load((Path(__file__).parent / "data" / f"{name}.yaml").read_text(encoding="utf-8")))
