"""What raster files hold: the role of each band, the files that make one scene, and when it was seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from smnb.contract import FormatError, ParameterError, plain
from smnb.loaders.rasters.images import ImageHeader, read_header
from smnb.loaders.rasters.placing import Georeference

POLARIZATIONS = ("VV", "VH", "HH", "HV")
#: What a band can be called in the option 'bands'; "" is a band that is not read.
ROLES = (*POLARIZATIONS, "angle", "")

_ANGLE = re.compile(r"angle|incidence|(?:^|[^a-z])(?:lia|inc_map)(?:[^a-z]|$)", re.IGNORECASE)
_OTHER_QUANTITY = re.compile(r"(?:^|[^a-z])(gamma|beta)(?:0|_?nought)?(?:[^a-z]|$)", re.IGNORECASE)
#: What names a band in a file's name, and is no part of the scene's name.
_ROLE_IN_NAME = re.compile(
    r"[-_.]?(?:sigma0?[-_]?)?(?<![a-z])(?:vv|vh|hh|hv|lia|inc_map|(?:inc_?)?angle|"
    r"(?:projected_?)?(?:local_?|ellipsoid_?)?incidence_?(?:angle)?(?:_?from_?ellipsoid)?)(?![a-z])",
    re.IGNORECASE,
)
#: The number of a file within a product in ESA's own names, and of a piece of a large export of Earth Engine.
_MEASUREMENT_NUMBER = re.compile(r"(?<=-)0\d\d$")
_EXPORT_PIECE = re.compile(r"-?\d{10}-\d{10}$")
_TIME_IN_NAME = re.compile(r"(?<!\d)(\d{4})(\d\d)(\d\d)[tT](\d\d)(\d\d)(\d\d)(?!\d)")
_DATE_IN_NAME = re.compile(r"(?<!\d)((?:19|20)\d\d)-?(\d\d)-?(\d\d)(?!\d)")
_TAG = "TIFFTAG_DATETIME"
_TIFF_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")


@dataclass(frozen=True)
class Band:
    """One band to read.

    Parameters
    ----------
    path : Path
        The file.
    index : int
        Its number in the file, from 1.
    role : str
        A polarization or "angle".
    native : str
        What the file calls it.
    nodata : float, optional
        The file's own value for no data.
    has_mask : bool
        Whether the file has a mask or alpha band for it.
    scale, offset : float
        GDAL's tags: the values that the file means are ``number · scale + offset``.
    """

    path: Path
    index: int
    role: str
    native: str
    nodata: float | None
    has_mask: bool
    scale: float
    offset: float


@dataclass(frozen=True)
class Scene:
    """The bands of one scene, or of one piece of it."""

    name: str
    acquisition: str
    time: np.datetime64
    time_source: str
    geometry: Georeference
    bands: tuple[Band, ...]

    def band(self, role: str) -> Band | None:
        """The band with a role, if the scene has it."""
        return next((band for band in self.bands if band.role == role), None)


def role_of(where: str, text: str) -> str | None:
    """Role that a band's description or a file's name tells; None where it tells none.

    Raises
    ------
    FormatError
        If it names another quantity than sigma nought.

    Examples
    --------
    >>> role_of("", "Sigma0_VH_db"), role_of("", "localIncidenceAngle"), role_of("", "S1A_IW_GRDH_1SDV_20200901T001122")
    ('VH', 'angle', None)
    """
    found = {token.upper() for token in re.split(r"[^a-zA-Z]+", text)} & set(POLARIZATIONS)
    other = _OTHER_QUANTITY.search(text)
    if other and found:
        raise FormatError(
            where,
            f"{text!r} is {other[1].lower()} nought",
            expected="sigma nought (sigma0)",
            next_step="Process or download the scene as sigma0; the two differ by the cosine of the incidence angle or more",
        )
    if len(found) == 1:
        return found.pop()
    return "angle" if _ANGLE.search(text) and not found else None


def scene_name(stem: str) -> str:
    """A file's name less what tells its band, so that files of one scene have the same.

    Examples
    --------
    >>> scene_name("S1A_IW_GRDH_1SDV_20200901T001122_Sigma0_VV"), scene_name("s1a-iw-grd-vh-20200901t001122-002")
    ('S1A_IW_GRDH_1SDV_20200901T001122', 's1a-iw-grd-20200901t001122-')
    """
    return _MEASUREMENT_NUMBER.sub("", _ROLE_IN_NAME.sub("", stem))


def _instant(match: re.Match[str] | None) -> np.datetime64 | None:
    """The time that a match holds, or None where it is none (a 13th month, say)."""
    if match is None:
        return None
    date, clock = "-".join(match.groups()[:3]), ":".join(match.groups()[3:]) or "00:00:00"
    try:
        return np.datetime64(f"{date}T{clock}", "ns")
    except ValueError:
        return None


def time_of(path: Path, tags: dict[str, str]) -> tuple[np.datetime64, str] | None:
    """When a scene was seen, UTC, and what said so: the file's name, its folder's, or its tag TIFFTAG_DATETIME.

    Of several times in a name the first counts, which is the start of the acquisition in ESA's names and the overpass of
    Sentinel-1 in those of SPL2SMAP_S.

    Examples
    --------
    >>> time_of(Path("S1A_IW_GRDH_1SDV_20200901T001122_20200901T001147_034157_03F7A4_5D1B.tif"), {})
    (np.datetime64('2020-09-01T00:11:22.000000000'), 'file name')
    """
    for text, source in ((path.stem, "file name"), (path.parent.name, "folder name")):
        for pattern in (_TIME_IN_NAME, _DATE_IN_NAME):
            for match in pattern.finditer(text):
                if (time := _instant(match)) is not None:
                    return time, source if pattern is _TIME_IN_NAME else f"{source}, date only"
    time = _instant(_TIFF_TIME.match(tags.get(_TAG, "")))
    return None if time is None else (time, _TAG)


def _roles(where: str, path: Path, header: ImageHeader, declared: Sequence[str] | None) -> list[str]:
    """The role of each band: as declared, as described, or as the file is called."""
    told = {i: role_of(where, name) for i, name in enumerate(header.names) if not header.is_alpha[i]}
    if not any(told.values()) and len(told) == 1:
        told = dict.fromkeys(told, role_of(where, path.stem))
    if declared is not None and len(declared) == len(header.names):
        for i, role in told.items():
            if role and role != declared[i]:
                raise FormatError(
                    where,
                    f"band {i + 1} is not what 'bands' says",
                    got=header.names[i] or path.stem,
                    expected=declared[i],
                    next_step="Correct 'bands', or leave it out where files describe their bands",
                )
        return list(declared)
    if not any(told.values()):
        raise FormatError(
            where,
            f"nothing tells what its {len(header.names)} bands are",
            got=list(header.names),
            expected=plain(
                "descriptions or a file name with VV, VH, angle"
                if declared is None
                else f"{len(declared)} bands, as 'bands' says"
            ),
            next_step="Declare the order of the bands: bands=['VV', 'VH', 'angle'], '' for one that is not needed",
        )
    return [told.get(i) or "" for i in range(len(header.names))]


@dataclass(frozen=True)
class _File:
    """One file: where its pixels are, its bands with a role, and when it was seen."""

    path: Path
    geometry: Georeference
    bands: tuple[Band, ...]
    time: tuple[np.datetime64, str]


@lru_cache(maxsize=16_384)
def _header(where: str, path: str, inode: int, size: int, written: int) -> ImageHeader:
    """A file's header, read once in a process as long as the file stays the same; errors are not kept.

    Opening scenes for one place after the other would read all headers for each.
    """
    return read_header(where, path)


def _describe(who: str, path: Path, declared: Sequence[str] | None, at: np.datetime64 | None) -> _File:
    """Describe one file, seen at the time declared or at the one that it tells."""
    where, state = f"{who}({path.name})", path.stat()
    # the working folder is part of what a relative path names
    header = _header(where, str(path.absolute()), state.st_ino, state.st_size, state.st_mtime_ns)
    bands = tuple(
        Band(
            path,
            i + 1,
            role,
            header.names[i] or path.stem,
            header.nodata[i],
            header.has_mask[i],
            header.scales[i],
            header.offsets[i],
        )
        for i, role in enumerate(_roles(where, path, header, declared))
        if role
    )
    time = time_of(path, header.tags) if at is None else (at, "declared")
    if time is None:
        raise FormatError(
            where,
            "nothing tells when the scene was seen",
            expected="a time such as 20200901T001122 in the name",
            next_step="Pass times=, or rename the files after their scenes",
        )
    return _File(path, header.geometry, bands, time)


def _declared_times(who: str, paths: Sequence[Path], times: Any) -> list[np.datetime64 | None]:
    if times is None:
        return [None] * len(paths)
    times = [times] * len(paths) if np.ndim(times) == 0 else list(times)
    if len(times) != len(paths):
        raise ParameterError(
            who,
            "'times' has another length than 'paths'",
            got=len(times),
            expected=len(paths),
            next_step="Pass one time for every file, or one for all",
        )
    try:
        parsed = [np.datetime64(time, "ns") for time in times]
    except (ValueError, TypeError) as error:
        raise ParameterError(who, "'times' holds no ISO time", got=times, expected="2020-09-01T00:11:22") from error
    if np.isnat(parsed).any():
        raise ParameterError(who, "'times' holds no ISO time", got=times, expected="2020-09-01T00:11:22")
    return list(parsed)


def _scene_of(who: str, folder: Path, name: str, files: Sequence[_File], wanted: Sequence[str]) -> Scene:
    """The scene that some files make."""
    first = files[0]
    found: dict[str, Band] = {}
    for file in files:
        where = f"{who}({file.path.name})"
        if differing := first.geometry.differences(file.geometry):
            raise FormatError(
                where,
                f"is on another grid than {first.path.name} of the same scene",
                got=plain("another " + ", ".join(differing)),
                next_step="Export all bands of a scene on one grid",
            )
        for band in file.bands:
            if band.role in found:
                raise FormatError(where, f"the scene has {band.role} twice", got=found[band.role].path.name)
            found[band.role] = band
    where = f"{who}({first.path.name})"
    # files of a scene are written one after the other: of times of writing the first is nearest to that of the scene
    time, source = min(file.time for file in files)
    if source != _TAG and any(file.time[0] != time for file in files):
        raise FormatError(
            where,
            "files of the scene have different times",
            got=[str(file.time[0]) for file in files],
            expected=plain("one time"),
            next_step="Check 'times', or the files' names",
        )
    absent = [p for p in wanted if p not in found]
    if absent:
        raise FormatError(
            where,
            f"the scene has no sigma0 of {', '.join(absent)}",
            got=sorted(found),
            expected=list(wanted),
            next_step="Add the files that are missing, or choose with polarizations=[…]",
        )
    kept = tuple(found[role] for role in (*wanted, "angle") if role in found)
    acquisition = str(folder / _EXPORT_PIECE.sub("", name))
    shown = name.strip("-_. ") or folder.name
    return Scene(shown, acquisition, time, source, first.geometry, kept)


def list_scenes(
    who: str, paths: Sequence[Path], *, bands: Sequence[str] | None, times: Any, wanted: Sequence[str]
) -> list[Scene]:
    """Group files into scenes, in order of time.

    Parameters
    ----------
    who : str
        The caller, for messages.
    paths : sequence of Path
        Files.
    bands : sequence of str, optional
        Declared roles; they hold for files with as many bands.
    times : str or sequence, optional
        One time for every file, or for all.
    wanted : sequence of str
        Polarizations that every scene must have; others are left out.

    Raises
    ------
    FormatError
        As `open_sentinel1`, for what can be seen without reading pixels.
    """
    grouped: dict[tuple[Path, str], list[_File]] = {}
    for path, time in zip(paths, _declared_times(who, paths, times), strict=True):
        key = path.parent, scene_name(path.stem)
        grouped.setdefault(key, []).append(_describe(who, path, bands, time))
    scenes = [_scene_of(who, folder, name, files, wanted) for (folder, name), files in grouped.items()]
    return sorted(scenes, key=lambda scene: (scene.time, scene.name))
