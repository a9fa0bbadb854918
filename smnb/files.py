"""Writing files so that nothing half-written ever carries its final name.

Every output of smnb is written to a temporary file in the destination's own folder and renamed into place
when it is complete: a full disk or a kill leaves the old file, or none, and never a truncated one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, JsonValue, RootModel, ValidationError

from smnb.contract import FormatError, RunError, SmnbError, plain

_PARTIAL = ".partial-"
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
#: Name of the file that keeps `content_of`'s hashes beside an output; and seconds after which a file's times tell every change.
HASHES, _SETTLED = ".hashes.json", 2.0
_KNOWN: dict[str, tuple[str, str]] = {}
_SEAL = re.compile(rb',\n  "sha256": "([^"]*)"\n}\s*\Z')  # what `sealed` adds


class Kept(BaseModel):
    """What a file of ours holds: these keys and no others, each of its own type, every number finite."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


_Model = TypeVar("_Model", bound=BaseModel)
AnyMapping = RootModel[dict[str, JsonValue]]  # of a file that its seal alone vouches for


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error, else remove it.

    It has the same suffix, for writers that look at that, and parent folders are made. A fault of the disk names `path`.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(final.suffixes[-2:]) if final.suffix == ".gz" else final.suffix
    temporary = final.with_name(f".{final.name}{_PARTIAL}{secrets.token_hex(4)}{suffix}")
    with disk_faults(final):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            give_name(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_set(folder: str | os.PathLike[str], name: str) -> Iterator[Path]:
    """Yield a hidden folder for files that get their names in `folder` together; `name` is the first of them.

    One rename decides: before it the old files stay, after it `finish_set` gives the new ones their names, whoever calls it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    finish_set(folder, name)
    with disk_faults(folder / name):
        made = folder / f".{name}{_PARTIAL}{secrets.token_hex(4)}"
        made.mkdir()
        try:
            yield made
            give_name(made, folder / f".{name}.complete")
        finally:
            shutil.rmtree(made, ignore_errors=True)
        finish_set(folder, name)


def finish_set(folder: Path, name: str) -> None:
    """Give the files of a set of `atomic_set` that is complete their names, where a kill came in between."""
    complete = folder / f".{name}.complete"
    if not complete.is_dir():
        return
    with disk_faults(folder / name), contextlib.suppress(FileNotFoundError):  # another process does the same
        for one in sorted(complete.iterdir()):
            one.replace(folder / one.name)
        _sync(folder)
        complete.rmdir()


def give_name(made: Path, final: Path) -> None:
    """Rename a file or folder once all of it is on the disk, and see that the new name is there too."""
    for one in (made, *made.rglob("*")):
        _sync(one)
    made.replace(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Raise the fault of a disk that ends the block as an OSError of `path`, whatever a library made of it."""
    try:
        yield
    except SmnbError:
        raise
    except Exception as error:
        fault = error if isinstance(error, OSError) and error.errno else _fault(path.parent, 1 << 22) or _said(error)
        unnamed = fault is not None and fault.filename is None and fault.errno in _DISK_FAULTS
        if fault is None or not (unnamed or f".{path.name}." in str(fault.filename)):  # a hidden file of it
            raise
        raise OSError(fault.errno, os.strerror(fault.errno), str(path)) from error


def _said(error: BaseException | None) -> OSError | None:
    """The fault of a disk that the words of a library name, or of what its error comes from."""
    while error is not None:
        for one in _DISK_FAULTS:
            if os.strerror(one) in str(error):
                return OSError(one, os.strerror(one))
        error = error.__cause__ or error.__context__
    return None


def _fault(folder: Path, size: int) -> OSError | None:
    """What keeps a file of `size` bytes from being written into a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(size))
            probe.flush()
    except OSError as error:
        return OSError(error.errno, os.strerror(error.errno or errno.EIO))
    return None


def check_output(who: str, path: str | os.PathLike[str], size: int = 0) -> None:
    """Raise `RunError` unless a file, or a folder if its name ends with .zarr, of `size` bytes can be written there."""
    path = Path(path)
    folder = next(one for one in path.absolute().parents if one.exists())
    if path.is_dir() and path.suffix != ".zarr":
        fault = OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    elif shutil.disk_usage(folder).free < size:
        fault = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    else:
        fault = _fault(folder, 1 << 16)
    if fault is not None:
        step = "Choose another output, or free space or get the permission to write there"
        raise RunError(who, f"cannot write {path}", got=plain(str(fault.strerror)), next_step=step) from fault


@contextlib.contextmanager
def held_output(who: str, *paths: str | os.PathLike[str], patience: float = 0.0) -> Iterator[None]:
    """Hold an output of one or more files while it is made; what a killed process left of it goes.

    Raises `RunError` if one cannot be written, or another process writes the first, still after `patience` seconds.
    """
    for path in paths:
        check_output(who, path)
    final = Path(paths[0])
    made = [one for one in (final.parent, *final.parent.parents) if not one.exists()]
    step = "Wait for it, or choose another output"
    taken = RunError(who, "another process is writing this output", got=str(final), next_step=step)
    try:
        # where a library named no file, it is this output that cannot be written
        with disk_faults(final), exclusive(final.with_name(f".{final.name}.lock"), taken, patience=patience):
            for one in map(Path, paths):
                _remove(one.parent.glob(f".{glob.escape(one.name)}{_PARTIAL}*"))
            yield
    finally:
        for one in made:
            with contextlib.suppress(OSError):  # not empty
                one.rmdir()


def tidy_output(path: Path) -> None:
    """Remove what a process that was killed at its very end left beside a finished output, unless another one has it in hand."""
    with contextlib.suppress(RunError, OSError), held_output("tidy_output", path):
        shutil.rmtree(path.with_name(f".{path.name}.partial"), ignore_errors=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write `content` to `path` atomically and return the path."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def write_text(path: str | os.PathLike[str], content: str) -> Path:
    """Write `content` (UTF-8) to `path` atomically and return the path."""
    return write_bytes(path, content.encode("utf-8"))


def write_json(path: str | os.PathLike[str], content: Any) -> Path:
    """Write `content` as indented JSON to `path`, `sealed`; NaN and infinity are refused, as JSON has neither."""
    return write_text(path, sealed(json.dumps(content, indent=2, sort_keys=True, allow_nan=False)))


def sealed(text: str) -> str:
    """Indented JSON of an object with one more key, ``sha256`` of the text, which `read_json` checks."""
    if not text.endswith("\n}"):  # no keys
        return f"{text}\n"
    return f'{text[:-2]},\n  "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"\n}}\n'


def read_json(
    path: str | os.PathLike[str],
    model: type[_Model],
    what: str,
    *,
    error: type[SmnbError] = FormatError,
    next_step: str | None = None,
    by_hand: bool = False,
) -> _Model:
    """A JSON file of ours as a pydantic `model`; if it is not `what` it should be, an `error` names file and field.

    It is as it was written `sealed`; only what people, or earlier versions, write too (`by_hand`) may come without that.
    """
    content = Path(path).read_bytes()
    mark = _SEAL.search(content)
    if mark is not None:
        content = content[: mark.start()] + b"\n}"
    try:
        found = model.model_validate_json(content)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        field, got = ".".join(map(str, first["loc"])), plain(repr(first["input"])[:80])
        what = f"not {what}: {field}{': ' * bool(field)}{first['msg']}"
        raise error(str(path), what, got=got, next_step=next_step) from wrong
    if (not by_hand) if mark is None else hashlib.sha256(content).hexdigest().encode() != mark[1]:
        raise error(str(path), f"not {what} as it was written: its SHA-256 is another", next_step=next_step)
    return found


def note(text: str) -> None:
    """Say on standard error what was mended without being asked."""
    print(f"note: {' '.join(text.split())}", file=sys.stderr, flush=True)


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
    """Hold a lock until the process ends, however it does; the file goes with it.

    Raises `error`, with who holds it, if another process does still after `patience` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with contextlib.ExitStack() as stack:
        while True:
            stream = stack.enter_context(open(path, "a+b", buffering=0))  # nothing is left to be written when it closes
            stream.seek(0)
            try:
                if os.name == "nt":
                    import msvcrt

                    msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
                    break
                import fcntl

                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                    break  # else its holder has removed it meanwhile
            except OSError as refused:
                if time.monotonic() > deadline:
                    with contextlib.suppress(OSError):
                        holder = stream.read().decode(errors="replace")
                        parts = {"got": error.got, "expected": error.expected, "next_step": error.next_step}
                        error = type(error)(error.who, f"{error.what}: {holder}" if holder else error.what, **parts)
                    raise error from refused
                time.sleep(0.2)
            stack.close()
        with contextlib.suppress(OSError):  # on a full disk nobody learns who it is
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {platform.node()}".encode())
            stream.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps an open file
                path.unlink(missing_ok=True)


def remove_stale_partials(folder: str | os.PathLike[str]) -> int:
    """Remove what a killed process left of `atomic_path` below `folder`; return how many files went."""
    return _remove(Path(folder).rglob(f".*{_PARTIAL}*"))


def _remove(partials: Iterable[Path]) -> int:
    found = list(partials)
    for partial in found:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
    return len(found)


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
        with contextlib.suppress(OSError):
            try:
                known = read_json(cache, AnyMapping, "kept hashes", next_step="Files are hashed again").root
            except FormatError as damaged:
                note(str(damaged))
    known |= _KNOWN
    new = [name for name, state in states.items() if known.get(name, ("",))[0] != state]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        known |= {name: (states[name], one) for name, one in zip(new, pool.map(sha256_of, new), strict=True)}
    # a file that was written just now may change again within a tick of its clock
    fresh = {name for name in new if max(stats[name].st_mtime, stats[name].st_ctime) > now - _SETTLED}
    _KNOWN.update({name: known[name] for name in states if name not in fresh})
    if cache is not None and set(new) - fresh:
        with contextlib.suppress(OSError):
            _remove(cache.parent.glob(f".{cache.name}{_PARTIAL}*"))  # of one who was killed, or now writes the same
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
