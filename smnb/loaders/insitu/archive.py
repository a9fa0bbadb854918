"""An ISMN archive as a set of named members: a zip read in place, a folder, or a list of files."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO

from smnb.contract import CatalogError, FormatError

_READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


def _climbs(name: str) -> bool:
    """Whether a member's path is absolute, has a drive, or climbs out of the archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name) is not None


def _is_clutter(name: str) -> bool:
    """Folders, hidden files and what macOS adds to archives."""
    path = PurePosixPath(name)
    return name.endswith("/") or path.name.startswith(".") or "__MACOSX" in path.parts


class Archive:
    """Members of a zip, a folder or a list of files below one, by name; nothing is extracted.

    ``keys`` has by member what changes when it does: size and CRC-32 in a zip, else size and modification time. ``folders`` are
    the top folders, also empty ones. ``refused`` (file and reason) are never read: their path climbs out, or occurs twice.
    """

    def __init__(self, path: str | os.PathLike[str], files: Iterable[str | os.PathLike[str]] | None = None) -> None:
        self.path = Path(path)
        self.keys: dict[str, str] = {}
        self.folders: set[str] = set()
        self.refused: list[dict[str, str]] = []
        self._zip: zipfile.ZipFile | None = None
        self._infos: dict[str, zipfile.ZipInfo] = {}
        if self.path.is_dir():
            paths = sorted(map(Path, files)) if files is not None else sorted(self.path.rglob("*"))
            if files is None:
                self.folders = {one.name for one in self.path.iterdir() if one.is_dir() and one.name[0] != "."}
            for one in paths:
                name = one.relative_to(self.path).as_posix()
                if one.is_file() and not _is_clutter(name):
                    stat = one.stat()
                    self.keys[name] = f"{stat.st_size}:{stat.st_mtime_ns}"
        elif self.path.is_file():
            try:
                self._zip = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, OSError) as error:
                what = f"{self.path.name} is no zip, or one cut short ({error})"
                next_step = "Download it again, or give the folder that holds the networks"
                raise FormatError("ISMN archive", what, next_step=next_step) from error
            for info in self._zip.infolist():
                self._add_zipped(info)
        else:
            raise CatalogError("ISMN archive", "there is no such file or folder", got=str(self.path))

    def _add_zipped(self, info: zipfile.ZipInfo) -> None:
        if _climbs(info.orig_filename) or _climbs(info.filename):
            self.refused.append({"file": info.orig_filename, "reason": "its path climbs out of the archive"})
        elif info.filename in self.keys:
            self.refused.append({"file": info.filename, "reason": "the name occurs twice in the archive"})
        elif not _is_clutter(info.filename):
            self.keys[info.filename] = f"{info.file_size}:{info.CRC:08x}"
            self._infos[info.filename] = info
        elif info.is_dir() and "__MACOSX" not in info.filename:
            self.folders.add(info.filename.split("/")[0])

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._zip is not None:
            self._zip.close()

    def _open(self, name: str) -> IO[bytes]:
        return self._zip.open(self._infos[name]) if self._zip is not None else (self.path / name).open("rb")

    def read(self, name: str, size: int = -1) -> bytes:
        """Return a member's bytes, or its first `size`."""
        try:
            with self._open(name) as stream:
                return stream.read(size)
        except _READ_ERRORS as error:
            raise FormatError(name, f"the file is damaged: {error}") from error
