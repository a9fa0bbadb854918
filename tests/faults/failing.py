"""Faults of a disk, armed in a process before its work: the Nth call that changes a file fails, or no file may get larger."""

from __future__ import annotations

import builtins
import io
import os
import resource
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FailingCall:
    """Python's call with this number, from 1, that changes something below ``out`` fails once; it says so before."""

    number: int
    errno: int

    def __call__(self) -> None:
        below, calls, real = f"{Path('out').absolute()}{os.sep}", iter(range(1, 1_000_000)), dict(vars(os))

        def hit(call: str, path: object) -> None:
            place = os.path.abspath(os.fspath(path))  # noqa: PTH100 - a Path would count its own calls
            if place.startswith(below) and next(calls) == self.number:
                os.write(2, f"fault at {call} {place}\n".encode())
                raise OSError(self.errno, os.strerror(self.errno), place)

        class Raw(io.FileIO):
            def write(self, data):
                hit("write", self.name)
                return super().write(data)

        def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
            if isinstance(file, int) or opener or not set(mode) & set("wax+"):
                return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
            hit("open", file)
            raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
            stream = raw if buffering == 0 else (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            return stream if "b" in mode else io.TextIOWrapper(stream, encoding, errors, newline)

        def patched(name):
            def call(path, *rest, **options):
                changes = name != "open" or (rest and rest[0] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
                if changes:
                    hit(name, os.readlink(f"/proc/self/fd/{path}") if name == "fsync" else path)  # noqa: PTH115
                return real[name](path, *rest, **options)

            return call

        real_open = io.open
        builtins.open = io.open = opened
        for name in ("open", "mkdir", "replace", "rename", "fsync"):
            setattr(os, name, patched(name))


@dataclass(frozen=True)
class SmallFiles:
    """No file may get more bytes than so many: what a disk that gets full is to every writer, libraries in C too."""

    most: int

    def __call__(self) -> None:
        import smnb.files

        real = smnb.files._fault
        # what looks before the work whether there is any room is left out, so that the writers themselves meet the end
        smnb.files._fault = lambda folder, size: None if size == 1 << 16 else real(folder, size)
        cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE)  # is not limited, and writes what this process says
        for stream in (1, 2):
            os.dup2(cat.stdin.fileno(), stream)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.most, self.most))
