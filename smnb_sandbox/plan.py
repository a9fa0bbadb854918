"""What every part of the archive is: names of files, what goes into each, and how those that are missing are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

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
