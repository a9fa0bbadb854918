"""What every part of the archive is: names of files, and how those that are missing are made; and the tables of ``data/``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import yaml

Period = tuple[date, date]
#: What a file holds; what takes long to pack, and no library that is not thread-safe, is left to be called on a thread.
Content = bytes | Callable[[], bytes]


class Plan(ABC):
    """A part of the archive; nothing is simulated before `contents`."""

    kinds: ClassVar[tuple[str, ...]]
    """Attributes that hold the names of files, mostly with what goes into each, in the order of the manifest."""

    @property
    def files(self) -> list[str]:
        """All paths below the archive's root, with forward slashes, in the order of the manifest."""
        return [name for kind in self.kinds for name in getattr(self, kind)]

    @abstractmethod
    def contents(self, seed: int, missing: set[str]) -> Iterator[tuple[str, Content]]:
        """Simulate what is needed and yield the files that are missing, each as its name and content."""


def days_of(period: Period) -> list[date]:
    """The days from the first to the last."""
    return [period[0] + timedelta(days=i) for i in range((period[1] - period[0]).days + 1)]


def file_bytes(name: str, write: Callable[[Path], None]) -> bytes:
    """What is written to a path, by a library that can do no other."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name.rpartition("/")[2]
        write(path)
        return path.read_bytes()


def _tuples(value: Any) -> Any:
    """Lists as tuples, at every depth."""
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@cache
def table(name: str) -> dict[str, Any]:
    """A file of ``data/`` as mappings, tuples and numbers; what stands there is not to be changed."""
    return _tuples(yaml.safe_load((Path(__file__).parent / "data" / f"{name}.yaml").read_text(encoding="utf-8")))
