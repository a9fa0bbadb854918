"""Faults of a disk, armed in a process before its work: the Nth call that changes a file fails, or no file may get larger."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import resource
import select
import signal
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: Linux's calls that change files, in the order of their numbers below: those of a path, of a path in a folder, of an open file.
_OF_PATH, _IN_FOLDER = ("open", "mkdir", "rename"), ("openat", "mkdirat", "renameat", "renameat2")
_OF_FILE = ("write", "pwrite64", "writev", "ftruncate", "fallocate", "fsync", "fdatasync", "sendfile")
_NUMBERS = {
    "x86_64": (2, 83, 82, 257, 258, 264, 316, 1, 18, 20, 77, 285, 74, 75, 40),
    "aarch64": (-1, -1, -1, 56, 34, 38, 276, 64, 68, 66, 46, 47, 82, 83, 71),
}.get(platform.machine(), ())
CALLS = dict(zip(_NUMBERS, _OF_PATH + _IN_FOLDER + _OF_FILE, strict=False)) if platform.system() == "Linux" else {}


def _listener() -> int:
    """Ask for each of the calls in this thread and those that it starts from now on; return the file to answer with."""
    lines = [
        (0x20, 0, 0, 0),
        *((0x15, 0, 1, n) if half else (0x06, 0, 0, 0x7FC00000) for n in CALLS for half in (1, 0)),
    ]
    program = b"".join(struct.pack("HBBI", *line) for line in [*lines, (0x06, 0, 0, 0x7FFF0000)])  # if none, allow
    held, libc = ctypes.create_string_buffer(program), ctypes.CDLL(None, use_errno=True)
    filtered = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(held)))
    libc.prctl(38, 1, 0, 0, 0)  # gains no rights from here on, as the kernel demands
    return libc.syscall(317 if platform.machine() == "x86_64" else 277, 1, 8, filtered)


def _read(asked: bytes) -> tuple[int, str, str]:
    """Which question, the call's name, and the path of what it changes, "" if nothing."""
    ident, process, _, number, *_, first, second, third = struct.unpack("QIIiIQ3Q", asked[:56])
    call, own = CALLS[number], Path("/proc", str(process))
    if call in _OF_FILE:
        return ident, call, str((own / "fd" / str(first)).readlink())
    if call in ("open", "openat") and not (second, third)[call == "openat"] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return ident, call, ""
    with open(own / "mem", "rb", buffering=0) as memory:
        memory.seek(second if call in _IN_FOLDER else first)
        path = memory.read(4096).partition(b"\0")[0].decode()
    folder = "cwd" if call in _OF_PATH or first & 0x80000000 else f"fd/{first}"
    return ident, call, os.path.normpath((own / folder).readlink() / path)


@dataclass(frozen=True)
class FailingCall:
    """The call with this number, from 1, that changes something below ``out`` fails once, be it Python's or that of a library.

    The kernel asks this process before each of the calls of a child, which does the work (seccomp_unotify(2)).
    """

    number: int
    errno: int

    def __call__(self) -> None:
        ours, theirs = socket.socketpair()
        below, child = str(Path("out").absolute()), os.fork()
        if not child:
            socket.send_fds(theirs, [b" "], [_listener()])
            return
        listener, count = socket.recv_fds(ours, 1, 1)[1][0], 0
        ready = select.poll()
        ready.register(listener, select.POLLIN)
        while ready.poll()[0][1] & select.POLLIN:
            asked = bytearray(80)
            try:
                fcntl.ioctl(listener, 0xC0502100, asked)
                ident, call, path = _read(asked)
                count += (hit := path.startswith(below))
                if fails := hit and count == self.number:
                    os.write(2, f"fault at {call} {path}\n".encode())
                fcntl.ioctl(listener, 0xC0182101, struct.pack("QqiI", ident, 0, -self.errno * fails, not fails))
            except FileNotFoundError:  # it was interrupted, or ended
                continue
        os.write(2, f"{count} calls that change something\n".encode())
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


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
