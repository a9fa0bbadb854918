"""Writing files so that nothing half-written ever carries its final name.

Every output of smnb is written to a temporary file in the destination's own folder and renamed into place
when it is complete: a full disk or a kill leaves the old file, or none, and never a truncated one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from smnb.contract import SmnbError

_PARTIAL = ".partial-"
#: Name of the file that keeps `content_of`'s hashes beside an output; and seconds after which a file's times tell every change.
HASHES, _SETTLED = ".hashes.json", 2.0
_KNOWN: dict[str, tuple[str, str]] = {}


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error, else remove it.

    It has the same suffix, for writers that look at that, and parent folders are made.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(final.suffixes[-2:]) if final.suffix == ".gz" else final.suffix
    handle, name = tempfile.mkstemp(prefix=f".{final.name}{_PARTIAL}", suffix=suffix, dir=final.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write `content` to `path` atomically and return the path."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def write_text(path: str | os.PathLike[str], content: str) -> Path:
    """Write `content` (UTF-8) to `path` atomically and return the path."""
    return write_bytes(path, content.encode("utf-8"))


def write_json(path: str | os.PathLike[str], content: Any) -> Path:
    """Write `content` as indented JSON to `path` atomically; NaN and infinity are refused, as JSON has neither."""
    return write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def plain_json(value: Any) -> Any:
    """What JSON can hold: numbers that are not finite become null, those of numpy Python's, unknown objects their text."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


@contextlib.contextmanager
def exclusive(path: Path, error: SmnbError, *, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock until the process ends, however it does; raise `error` if another holds it still after `patience` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with open(path, "a+b") as stream:
        while True:
            try:
                if os.name == "nt":
                    import msvcrt

                    msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
                else:
                    import fcntl

                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as refused:
                if time.monotonic() > deadline:
                    raise error from refused
                time.sleep(0.2)
        yield


def remove_stale_partials(folder: str | os.PathLike[str]) -> int:
    """Remove what a killed process left of `atomic_path` below `folder`; return how many files went."""
    stale = [p for p in Path(folder).rglob(f".*{_PARTIAL}*") if p.is_file()]
    for partial in stale:
        partial.unlink(missing_ok=True)
    return len(stale)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_of(paths: Iterable[str | os.PathLike[str]], cache: Path | None = None) -> list[str]:
    """SHA-256 of files, of a folder over the names and contents of all in it.

    A file is hashed once while its size, times and inode are as they were: this process knows them, and the JSON file `cache`
    (damaged or not writable: they are hashed again).
    """
    paths = [Path(path) for path in paths]
    folders = {one: sorted(one.rglob("*")) if one.is_dir() else [one] for one in paths}
    files = {file: os.path.realpath(file) for held in folders.values() for file in held if not file.is_dir()}
    stats = {name: Path(name).stat() for name in files.values() if Path(name).exists()}  # a link may lead nowhere
    states = {name: f"{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}" for name, s in stats.items()}
    known, now = {}, time.time()
    if cache is not None:
        with contextlib.suppress(OSError, ValueError):
            known = TypeAdapter(dict[str, tuple[str, str]]).validate_json(cache.read_bytes())
    known |= _KNOWN
    new = [name for name, state in states.items() if known.get(name, ("",))[0] != state]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        known |= {name: (states[name], one) for name, one in zip(new, pool.map(sha256_of, new), strict=True)}
    # a file that was written just now may change again within a tick of its clock
    fresh = {name for name in new if max(stats[name].st_mtime, stats[name].st_ctime) > now - _SETTLED}
    _KNOWN.update({name: known[name] for name in states if name not in fresh})
    if cache is not None and set(new) - fresh:
        with contextlib.suppress(OSError):
            write_json(cache, {n: one for n, one in known.items() if n not in fresh and Path(n).exists()})
    found = []
    for path in paths:
        held = [file for file in folders[path] if files.get(file) in states]
        one = {file.relative_to(path).as_posix(): known[files[file]][1] for file in held}
        found.append(fingerprint(one) if path.is_dir() else one["."])
    return found


def fingerprint(*parts: Any) -> str:
    """Sixteen hexadecimal digits that identify values: arrays by content, dataclasses, mappings and sequences by their parts."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, np.ndarray):
            text = value.dtype.kind in "OUT"
            digest.update(f"array {'text' if text else value.dtype.str} {value.shape}".encode())
            digest.update(repr(value.tolist()).encode() if text else np.ascontiguousarray(value).tobytes())
        elif hasattr(value, "to_numpy"):
            add(value.to_numpy())
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            add([type(value).__name__, *((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))])
        elif isinstance(value, Mapping):
            add(sorted(([str(key), one] for key, one in value.items()), key=lambda pair: pair[0]))
        elif isinstance(value, list | tuple):
            digest.update(f"[{len(value)}".encode())
            for one in value:
                add(one)
        elif value is None or isinstance(value, str | bytes | bool | int | float | np.generic | os.PathLike):
            digest.update(f"{value!s} ".encode())
        else:
            raise SmnbError("fingerprint", "a value has no content to go by", got=type(value).__name__)

    add(parts)
    return digest.hexdigest()[:16]
