"""Scenes of Sentinel-1 by the names of files and bands: which files make one, what their bands are, and when it was seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from smnb.contract import FormatError, ParameterError, foreign, plain
from smnb.loaders.rasters.images import ImageHeader, read_header
from smnb.loaders.rasters.options import CONVERSIONS, PRODUCTS, BandOption, parse_time
from smnb.loaders.rasters.placing import BandSource
from smnb.loaders.rasters.scenes import SceneRecord

POLARIZATIONS = ("VV", "VH", "HH", "HV")

_ANGLE = re.compile(r"angle|incidence|(?:^|[^a-z])(?:lia|inc_map)(?:[^a-z]|$)", re.IGNORECASE)
_OTHER_QUANTITY = re.compile(r"(?:^|[^a-z])(gamma|beta)(?:0|_?nought)?(?:[^a-z]|$)", re.IGNORECASE)
#: What names a band in a file's name, and is no part of the scene's name.
_ROLE_IN_NAME = re.compile(
    r"[-_.]?(?:sigma0?[-_]?)?(?<![a-z])(?:vv|vh|hh|hv|lia|inc_map|(?:inc_?)?angle|"
    r"(?:projected_?)?(?:local_?|ellipsoid_?)?incidence_?(?:angle)?(?:_?from_?ellipsoid)?)(?![a-z])",
    re.IGNORECASE,
)
#: The number of a file within a product in ESA's own names, and of a piece of a large export of Earth Engine.
_MEASUREMENT_NUMBER, _EXPORT_PIECE = re.compile(r"(?<=-)0\d\d$"), re.compile(r"-?\d{10}-\d{10}$")
_TIMES_IN_NAME = {
    "": re.compile(r"(?<!\d)\d{8}[tT]\d{6}(?!\d)"),
    ", date only": re.compile(r"(?<!\d)(?:19|20)\d\d-?\d\d-?\d\d(?!\d)"),
}
_TAG = "TIFFTAG_DATETIME"


def role_of(where: str, text: str) -> str | None:
    """Role that a band's description or a file's name tells, or None; a `FormatError` for gamma or beta nought."""
    found = {token.upper() for token in re.split(r"[^a-zA-Z]+", text)} & set(POLARIZATIONS)
    other = _OTHER_QUANTITY.search(text)
    if other and found:
        what, expected = f"{text!r} is {other[1].lower()} nought", "sigma nought (sigma0)"
        next_step = "Process it as sigma0; the two differ by the cosine of the incidence angle or more"
        raise FormatError(where, what, expected=expected, next_step=next_step)
    if len(found) == 1:
        return found.pop()
    return "angle" if _ANGLE.search(text) and not found else None


def scene_name(stem: str) -> str:
    """A file's name less what tells its band ("_Sigma0_VV") or piece, so that files of one scene have the same."""
    return _MEASUREMENT_NUMBER.sub("", _ROLE_IN_NAME.sub("", stem))


def time_of(path: Path, tags: dict[str, str]) -> tuple[np.datetime64, str] | None:
    """When a scene was seen, UTC, and what said so: the first time in the file's name, in its folder's, or its tag."""
    told = [
        (match[0], f"{source}{kind}")
        for text, source in ((path.stem, "file name"), (path.parent.name, "folder name"))
        for kind, pattern in _TIMES_IN_NAME.items()
        for match in pattern.finditer(text)
    ]
    for text, source in [*told, (tags.get(_TAG, "")[:19], _TAG)]:
        try:
            return parse_time(text), source
        except ValueError:  # a 13th month, say
            continue
    return None


def _roles(where: str, path: Path, header: ImageHeader, declared: Sequence[str] | None) -> list[str]:
    """The role of each band: as declared, as described, or as the file is called."""
    told = {i: role_of(where, name) for i, name in enumerate(header.names) if not header.is_alpha[i]}
    if not any(told.values()) and len(told) == 1:
        told = dict.fromkeys(told, role_of(where, path.stem))
    if declared is not None and len(declared) == len(header.names):
        for i, role in told.items():
            if role and role != declared[i]:
                got, what = header.names[i] or path.stem, f"band {i + 1} is not what 'bands' says"
                next_step = "Correct 'bands', or leave it out where files describe their bands"
                raise FormatError(where, what, got=got, expected=declared[i], next_step=next_step)
        return list(declared)
    if any(told.values()):
        return [told.get(i) or "" for i in range(len(header.names))]
    what = f"nothing tells what its {len(header.names)} bands are"
    named = "descriptions or a file name with VV, VH, angle"
    expected = plain(named if declared is None else f"{len(declared)} bands, as 'bands' says")
    next_step = "Declare the order of the bands: bands=['VV', 'VH', 'angle'], '' for one that is not needed"
    raise FormatError(where, what, got=list(header.names), expected=expected, next_step=next_step)


@lru_cache(maxsize=16_384)
def _header(where: str, path: str, inode: int, size: int, written: int) -> ImageHeader:
    """A file's header, read once in a process as long as the file stays the same; errors are not kept.

    Opening scenes for one place after the other would read all headers for each.
    """
    return read_header(where, path)


def _described(
    who: str, path: Path, declared: Sequence[str] | None, at: np.datetime64 | None, angle: str
) -> SceneRecord:
    """One file as a scene, seen at the time declared or at the one that it tells."""
    where, state = f"{who}({path.name})", path.stat()
    # the working folder is part of what a relative path names
    header = _header(where, str(path.absolute()), state.st_ino, state.st_size, state.st_mtime_ns)
    sources = []
    for i, role in enumerate(_roles(where, path, header, declared)):
        if role:
            conversion = CONVERSIONS.get((angle, "degree")) if role == "angle" else None
            meaning, native = PRODUCTS["sentinel1"][role], header.names[i] or path.stem
            option = BandOption(name=role, where=native, meaning=meaning, conversion=conversion)
            stated = header.scales[i], header.offsets[i], header.nodata[i]
            sources.append(BandSource(str(path), "image", i + 1, header.geometry, option, (), *stated))
    time, source = time_of(path, header.tags) or (None, "") if at is None else (at, "declared")
    if time is None:
        expected, next_step = "a time such as 20200901T001122 in the name", "Pass times=, or rename the files"
        raise FormatError(where, "nothing tells when the scene was seen", expected=expected, next_step=next_step)
    if (bounds := header.geometry.bounds()) is None:
        what, next_step = "the raster lies outside its reference system", "Correct its georeferencing"
        raise FormatError(where, what, got=header.geometry.transform, next_step=next_step)
    return SceneRecord(path.name, time, bounds, float("nan"), tuple(sources), "", source)


def _merged(who: str, folder: Path, name: str, files: Sequence[SceneRecord], wanted: Sequence[str]) -> SceneRecord:
    """The scene that some files make, of the polarizations that are wanted and the angle."""
    grid, found = files[0].sources[0].geometry, {}
    for file in files:
        where = f"{who}({file.scene_id})"
        if differing := grid.differences(file.sources[0].geometry):
            what, next_step = f"is on another grid than {files[0].scene_id} of the same scene", "Export all on one grid"
            raise FormatError(where, what, got=plain("another " + ", ".join(differing)), next_step=next_step)
        for band in file.sources:
            if band.option.name in found:
                got = Path(found[band.option.name].path).name
                raise FormatError(where, f"the scene has {band.option.name} twice", got=got)
            found[band.option.name] = band
    where = f"{who}({files[0].scene_id})"
    # files of a scene are written one after the other: of times of writing the first is nearest to that of the scene
    first = min(files, key=lambda file: (file.time, file.time_source))
    if first.time_source != _TAG and any(file.time != first.time for file in files):
        got, next_step = [str(file.time) for file in files], "Check 'times', or the files' names"
        raise FormatError(where, "files of the scene have different times", got=got, next_step=next_step)
    if absent := [p for p in wanted if p not in found]:
        what, next_step = f"the scene has no sigma0 of {', '.join(absent)}", "Add files, or choose polarizations=[…]"
        raise FormatError(where, what, got=sorted(found), expected=list(wanted), next_step=next_step)
    return replace(
        first,
        scene_id=name.strip("-_. ") or folder.name,
        sources=tuple(found[role] for role in (*wanted, "angle") if role in found),
        acquisition=str(folder / _EXPORT_PIECE.sub("", name)),
    )


def list_scenes(
    who: str, paths: Sequence[Path], *, bands: Sequence[str] | None, times: Any, wanted: Sequence[str], angle: str
) -> list[SceneRecord]:
    """Group files into scenes, in order of time; errors are those of `open_sentinel1`."""
    seen: Any = [None] * len(paths)
    if times is not None:
        try:
            seen = np.broadcast_to(np.asarray(times, "datetime64[ns]"), len(paths))
        except (ValueError, TypeError):
            seen = np.array("NaT", "datetime64[ns]")
        if np.isnat(seen).any():
            what, expected = "'times' holds no ISO time, or has another length than 'paths'", "2020-09-01T00:11:22"
            raise ParameterError(who, what, got=times, expected=expected)
    grouped: dict[tuple[Path, str], list[SceneRecord]] = {}
    for path, time in zip(paths, seen, strict=True):
        key = path.parent, scene_name(path.stem)
        with foreign(f"{who}({path.name})"):
            grouped.setdefault(key, []).append(_described(who, path, bands, time, angle))
    scenes = [_merged(who, folder, name, files, wanted) for (folder, name), files in grouped.items()]
    return sorted(scenes, key=lambda scene: (scene.time, scene.scene_id))
