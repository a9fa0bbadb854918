"""How far something has come: one line on stderr of a script, one display that changes in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds before anything is shown, between two updates of a display or a terminal, and between two lines of a log.
_FIRST, _EACH, _EACH_LINE = 2.0, 0.5, 10.0


class Progress:
    """A line ``label: 12 of 40, 8 s left (note)`` that is kept up to date.

    In a notebook it is one display that changes, on a terminal one line, and in a log a line every ten seconds. What takes
    less than two seconds shows nothing.
    """

    def __init__(self, label: str, total: int | None = None) -> None:
        self.label, self.total, self.done, self.note = label, total, 0, ""
        self._start = self._shown = time.monotonic()
        self._display: Any = None
        self._kernel = "ipykernel" in sys.modules and _in_kernel()
        self._every = _EACH if self._kernel or sys.stderr.isatty() else _EACH_LINE

    def update(self, done: int | None = None) -> None:
        """Say how much is done (default one more)."""
        self.done = self.done + 1 if done is None else done
        now = time.monotonic()
        if now - self._start >= _FIRST and now - self._shown >= self._every:
            each = (now - self._start) / self.done if self.done else 0.0
            self._show(f", {_duration(each * (self.total - self.done))} left" if self.total and self.done else "")

    def close(self) -> None:
        """Leave the last line: how much was done, and how long it took."""
        seconds = time.monotonic() - self._start
        if self._display is not None or seconds >= _FIRST:
            self._show(f" in {_duration(seconds)}", last=True)

    def _show(self, when: str, *, last: bool = False) -> None:
        count = f"{self.done:,}" if self.total is None else f"{self.done:,} of {self.total:,}"
        text = f"{self.label}: {count}{when}" + (f" ({self.note})" if self.note else "")
        self._shown = time.monotonic()
        if self._kernel:
            from IPython.display import display

            data = {"text/plain": text}
            if self._display is None:
                self._display = display(data, raw=True, display_id=True)
            else:
                self._display.update(data, raw=True)
        elif sys.stderr.isatty():
            print(f"\r{text}\033[K", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


def progress(iterable: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Go through something and show how far it has come; `total` is by default the length, where there is one."""
    shown = Progress(label, len(iterable) if total is None and isinstance(iterable, Sized) else total)
    try:
        for item in iterable:
            yield item
            shown.update()
    finally:
        shown.close()


def _in_kernel() -> bool:
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
