"""What raster files hold: the role of each band, the files that make one scene, and when it was seen."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from pyproj import CRS
from rasterio.enums import ColorInterp, MaskFlags

from smnb.contract import FormatError, ParameterError, plain

__all__: list[str] = []

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
    dtype : str
        Its type.
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
    dtype: str
    nodata: float | None
    has_mask: bool
    scale: float
    offset: float


@dataclass(frozen=True)
class Geometry:
    """Where a raster's pixels are."""

    crs: str
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int

    def differences(self, other: Geometry) -> list[str]:
        """What is not the same in another, a hundredth of a pixel apart or more."""
        apart = np.abs(np.subtract(self.transform, other.transform)) * np.tile([self.width, self.height, 1], 2)
        pixel = abs(self.transform[0] * self.transform[4] - self.transform[1] * self.transform[3]) ** 0.5
        same = {
            "reference system": self.crs == other.crs or CRS.from_wkt(self.crs) == CRS.from_wkt(other.crs),
            "size": (self.height, self.width) == (other.height, other.width),
            "position": bool((apart < 0.01 * pixel).all()),
        }
        return [what for what, equal in same.items() if not equal]


@dataclass(frozen=True)
class Scene:
    """The bands of one scene, or of one piece of it."""

    name: str
    acquisition: str
    time: np.datetime64
    time_source: str
    geometry: Geometry
    block: tuple[int, int]
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


def _roles(where: str, path: Path, source: rasterio.DatasetReader, declared: Sequence[str] | None) -> list[str]:
    """The role of each band: as declared, as described, or as the file is called."""
    readable = [i for i in source.indexes if source.colorinterp[i - 1] != ColorInterp.alpha]
    told = {i: role_of(where, source.descriptions[i - 1] or "") for i in readable}
    if not any(told.values()) and len(readable) == 1:
        told[readable[0]] = role_of(where, path.stem)
    if declared is not None and len(declared) == source.count:
        for i, role in told.items():
            if role and role != declared[i - 1]:
                raise FormatError(
                    where,
                    f"band {i} is not what 'bands' says",
                    got=source.descriptions[i - 1] or path.stem,
                    expected=declared[i - 1],
                    next_step="Correct 'bands', or leave it out where files describe their bands",
                )
        return list(declared)
    if not any(told.values()):
        raise FormatError(
            where,
            f"nothing tells what its {source.count} bands are",
            got=list(source.descriptions),
            expected=plain(
                "descriptions or a file name with VV, VH, angle"
                if declared is None
                else f"{len(declared)} bands, as 'bands' says"
            ),
            next_step="Declare the order of the bands: bands=['VV', 'VH', 'angle'], '' for one that is not needed",
        )
    return [told.get(i) or "" for i in source.indexes]


def geometry_of(where: str, source: rasterio.DatasetReader) -> Geometry:
    if source.crs is None:
        in_radar_geometry = bool(source.gcps[0]) or source.rpcs is not None
        raise FormatError(
            where,
            "the raster states no coordinate reference system"
            + (", only ground control points: it is in radar geometry" if in_radar_geometry else ""),
            next_step="Calibrate and terrain-correct it (SNAP: Range-Doppler Terrain Correction)"
            if in_radar_geometry
            else "Find out what it is in and set it, for instance with rio edit-info",
        )
    if source.transform.is_identity or source.transform.determinant == 0.0:
        raise FormatError(
            where,
            "the raster does not state where its pixels are",
            got=tuple(source.transform)[:6],
            expected=plain("an affine transform"),
            next_step="Export it again with its georeferencing",
        )
    return Geometry(source.crs.to_wkt(), tuple(source.transform)[:6], source.height, source.width)


@dataclass(frozen=True)
class _File:
    """One file: where its pixels are, its bands with a role, and when it was seen."""

    path: Path
    geometry: Geometry
    block: tuple[int, int]
    bands: tuple[Band, ...]
    time: tuple[np.datetime64, str]


def _describe(who: str, path: Path, declared: Sequence[str] | None, at: np.datetime64 | None) -> _File:
    """Describe one file, seen at the time declared or at the one that it tells.

    A file's header is read once in a process, as long as the file stays the same: opening scenes for one place after the
    other would read all headers for each.
    """
    where = f"{who}({path.name})"
    try:
        state = path.stat()
    except OSError as error:
        raise unreadable(where, error) from error
    # the working folder is part of what a relative path names
    version = (str(path.absolute()), state.st_ino, state.st_size, state.st_mtime_ns)
    return _read_header(where, path, version, None if declared is None else tuple(declared), at)


@lru_cache(maxsize=16_384)
def _read_header(
    where: str,
    path: Path,
    version: tuple[str, int, int, int],
    declared: tuple[str, ...] | None,
    at: np.datetime64 | None,
) -> _File:
    """Read one file's header; `version` tells a file that was replaced from the one that was read. Errors are not kept."""
    try:
        with warnings.catch_warnings():
            # that a raster is not georeferenced is an error here, with more to say
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                if any(np.dtype(dtype).kind == "c" for dtype in source.dtypes):
                    raise FormatError(
                        where,
                        "the raster holds complex numbers: it is single-look complex, not GRD",
                        got=source.dtypes[0],
                        next_step="Use the ground-range-detected product, calibrated to sigma0",
                    )
                geometry, roles = geometry_of(where, source), _roles(where, path, source, declared)
                bands = tuple(
                    Band(
                        path,
                        i,
                        role,
                        source.descriptions[i - 1] or path.stem,
                        source.dtypes[i - 1],
                        source.nodatavals[i - 1],
                        MaskFlags.per_dataset in source.mask_flag_enums[i - 1],
                        source.scales[i - 1],
                        source.offsets[i - 1],
                    )
                    for i, role in zip(source.indexes, roles, strict=True)
                    if role
                )
                time = time_of(path, source.tags()) if at is None else (at, "declared")
                if time is None:
                    raise FormatError(
                        where,
                        "nothing tells when the scene was seen",
                        expected="a time such as 20200901T001122 in the name",
                        next_step="Pass times=, or rename the files after their scenes",
                    )
                return _File(path, geometry, source.block_shapes[0], bands, time)
    except rasterio.errors.RasterioError as error:
        raise unreadable(where, error) from error


def unreadable(where: str, error: Exception) -> FormatError:
    """The error for a file that GDAL cannot open, or not to its end."""
    return FormatError(
        where, f"the raster is unreadable, truncated perhaps: {error}", next_step="Download or export it again"
    )


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
    return Scene(shown, acquisition, time, source, first.geometry, first.block, kept)


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
