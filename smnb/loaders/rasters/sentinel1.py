"""`open_sentinel1`: Sentinel-1 scenes, by the names of files and bands, to one Dataset averaged onto a coarser grid."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from smnb.contract import FormatError, ParameterError, check_choice, check_count, check_range, plain
from smnb.grids import EaseGrid, EaseWindow, RegularGrid
from smnb.loaders import check_paths, finish, parse_period
from smnb.loaders.rasters.averaging import average_scene, dataset_of, reached
from smnb.loaders.rasters.backscatter import ANGLE_UNITS, Backscatter, check_pixels
from smnb.loaders.rasters.images import ImageHeader, read_header
from smnb.loaders.rasters.options import BandOption, parse_time
from smnb.loaders.rasters.placing import Georeference, target_of
from smnb.loaders.rasters.products import CONVERSIONS, PRODUCTS
from smnb.loaders.rasters.scenes import BandSource, SceneRecord

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


def open_sentinel1(
    paths: Sequence[str | Path],
    *,
    catalog_id: str,
    synthetic: bool = False,
    grid: str | EaseGrid | EaseWindow | RegularGrid | GeoBox = "M01",
    units: str | None = None,
    scale: float | None = None,
    offset: float = 0.0,
    dn_of: str | None = None,
    polarizations: Sequence[str] = ("VV", "VH"),
    bands: Sequence[str] | None = None,
    incidence_angle: float | None = None,
    angle_units: str = "degree",
    times: str | Sequence[str] | None = None,
    start: str | None = None,
    end: str | None = None,
    mosaic: str = "scene",
    min_looks: int = 1,
    mask_zero: bool = True,
    count: bool = False,
    block_pixels: int = 1 << 20,
) -> xr.Dataset:
    """Open Sentinel-1 GRD sigma nought as averages over the cells of a coarser grid, lazy by scene.

    A cell's value is the mean linear power of all valid pixels whose centres fall in it; decibels are never averaged, and
    overviews, which in files of decibels are, are never read.

    Parameters
    ----------
    paths : sequence of path-like
        GeoTIFFs or Cloud-Optimised GeoTIFFs, georeferenced, in any reference system. Files whose names differ only in
        what tells the band ("…_VV.tif", "…_VH.tif", "…_angle.tif") are one scene.
    grid : str, EaseGrid, EaseWindow, RegularGrid or odc.geo.geobox.GeoBox
        Target. An EASE-Grid, or its name ("M01", "M03", "M09", "M36"), is the smallest window that holds all scenes; a
        GeoBox is a north-up grid of a projection: ``GeoBox.from_bbox((west, south, east, north), "EPSG:32614", resolution=500)``.
    units : {"dB", "linear", "dn"}
        What the numbers in the files are: decibels, linear power, or digital numbers. There is no default.
    scale, offset, dn_of
        With "dn": ``number · scale + offset`` is what `dn_of` says, "linear", "amplitude" (whose square is the power) or
        "dB"; scale and offset default to what the file's own tags state.
    polarizations : sequence of {"VV", "VH", "HH", "HV"}
        What to read; every scene must have them.
    bands : sequence of str, optional
        What the bands of a file are, in order: a polarization, "angle", or "" for one that is not read. It holds for
        files with as many bands; default what their descriptions or names tell.
    incidence_angle : float, optional
        One angle, degrees, for scenes without a band or file of angles.
    angle_units : {"degree", "radian"}
        Of the angles in files.
    times : str or sequence of str, optional
        Time of each of `paths` (or of all), UTC; default the first time in the file's name, in its folder's, or its tag
        TIFFTAG_DATETIME (which can be the time of processing).
    mosaic : {"scene", "day"}
        One time a scene; or one a UTC day, with overlapping scenes averaged in linear power by their valid pixels. A day
        may hold passes of both directions, with other angles: choose `paths` where that matters.
    min_looks : int
        Fewest valid pixels in a cell; with fewer it is NaN.
    mask_zero : bool
        Whether exact zeros are missing, as on the borders of GRD scenes. Where thermal noise was removed and clipped at
        zero, False keeps such pixels as zero power, provided the border has another no-data value.
    count : bool
        Read everything now and write what was masked into ``masked_by``. By default it is in the lazy ``n_masked``.
    block_pixels : int
        Pixels to read at a time, about; each takes some 150 bytes while it is averaged.

    Returns
    -------
    xarray.Dataset
        On ``(time, y, x)``, or ``(time, lat, lon)`` on a RegularGrid: ``sigma0(time, polarization, …)`` dB;
        ``incidence_angle`` degree, over pixels that have backscatter (absent where no scene has angles, NaN where one
        has none); ``n_looks(time, polarization, …)``, the number of pixels averaged; ``enl(…)``, the equivalent number of
        looks of a pixel, mean² / variance of the linear power within the cell, which is that of the processor over a
        uniform surface and less where it varies; ``n_scenes``; ``n_masked(time, polarization, reason)``, pixels within
        the target that were left out. `time` is that of the scene, or the mean of the day's. Attributes ``scenes`` and
        ``scenes_outside`` (JSON) name what was read and what does not reach the target.

    Raises
    ------
    FormatError
        If a file is unreadable or truncated, has no reference system, is complex or in other units than declared, tells
        neither its bands nor its time, or differs in grid from another of its scene; if a scene lacks a polarization or
        holds no backscatter at all; if two scenes have one time. Pixels are sampled when opening; what is found only in
        reading all of them is raised when the Dataset is computed.
    ParameterError
        For unknown options, units without what they need, a target that no scene reaches, or one finer than the pixels.

    Examples
    --------
    >>> ds = open_sentinel1(paths, catalog_id="sentinel1_grd", units="dB", mosaic="day")  # doctest: +SKIP
    """
    who = "open_sentinel1"
    declared = Backscatter.declared(who, units, scale, offset, dn_of, mask_zero)
    polarizations = check_choice(who, "polarizations", polarizations, POLARIZATIONS)
    (mosaic,) = check_choice(who, "mosaic", mosaic, ("scene", "day"))
    (angle_units,) = check_choice(who, "angle_units", angle_units, ANGLE_UNITS)
    if bands is not None:
        roles = [bands, bands] if isinstance(bands, str) else [role for role in bands if role]
        check_choice(who, "bands", roles, [*POLARIZATIONS, "angle"])
    if incidence_angle is not None:
        check_range(who, "incidence_angle", incidence_angle, 0, 90, ends="()", units="degree")
    min_looks, block_pixels = check_count(who, "min_looks", min_looks), check_count(who, "block_pixels", block_pixels)
    found = list_scenes(who, check_paths(who, paths), bands=bands, times=times, wanted=polarizations, angle=angle_units)
    first, last = parse_period(who, start, end)
    scenes = [s for s in found if (first is None or s.time >= first) and (last is None or s.time <= last)]
    if not scenes:
        expected = plain(f"times in {found[0].time} to {found[-1].time}")
        raise ParameterError(who, "no scene is in the period", got=(str(first), str(last)), expected=expected)
    target, coords = target_of(who, grid, [scene.bounds for scene in scenes if scene.bounds is not None])
    placed, outside = [], []
    for scene in scenes:
        if (cells := reached(scene, target)) is None:
            outside.append(scene.scene_id)
            continue
        _check_fineness(who, scene, target)
        quantities = check_pixels(who, scene, declared, angle_units)
        sums = dask.delayed(average_scene, pure=False, traverse=False)(
            who, scene, target, cells, quantities, incidence_angle, block_pixels
        )
        placed.append((scene, cells, sums))
    if not placed:
        where = "{1:.3f}..{3:.3f} N, {0:.3f}..{2:.3f} E".format(*(scenes[0].bounds or [np.nan] * 4))
        got, expected = plain(f"{scenes[0].scene_id}: {where}"), plain(f"an overlap with {grid!r}")
        next_step = "Choose a grid over the scenes, or other scenes"
        raise ParameterError(who, "no scene reaches the grid", got=got, expected=expected, next_step=next_step)
    groups = _by_time(who, placed, mosaic)
    named = {band.option.where for scene, *_ in placed for band in scene.sources if band.option.name == "angle"}
    has_angle = incidence_angle is not None or bool(named)
    cells_and_sums = [(time, [one[1:] for one in members]) for time, members in groups]
    dataset = dataset_of(target, coords, cells_and_sums, polarizations, min_looks, has_angle=has_angle)
    dataset["sigma0"].attrs["native_units"] = declared.native_units
    if units == "dn":
        dataset["sigma0"].attrs["comment"] = "digital numbers scaled as declared, and as calibrated as that declaration"
    if has_angle:
        native = ", ".join(sorted(named)) if named else f"constant, {incidence_angle:g} degree"
        dataset["incidence_angle"].attrs["native_name"] = native
    names = {str(time)[:19]: [scene.scene_id for scene, *_ in members] for time, members in groups}
    dataset.attrs["scenes"], dataset.attrs["scenes_outside"] = json.dumps(names), json.dumps(outside)
    dataset.attrs["time_source"] = ", ".join(sorted({scene.time_source for scene, *_ in placed}))
    if count:
        dataset = dataset.compute()
        pixels = dataset["n_masked"].sum(["time", "polarization"])
        counts = {f"pixels: {reason}": int(n) for reason, n in zip(pixels["reason"].values, pixels.values, strict=True)}
        without = dataset["sigma0"].isnull() & (dataset["n_looks"] > 0)
        counts["cells: too few looks, or out of range"] = int(without.sum())
        dataset["sigma0"].attrs["masked_by"] = json.dumps({k: n for k, n in counts.items() if n}, sort_keys=True)
    step, source = (
        f"{len(placed)} scenes ({units}) averaged in linear power, mosaic {mosaic!r}",
        "Sentinel-1 GRD, sigma nought",
    )
    made = {"source": source, "catalog_id": catalog_id, "synthetic": synthetic, "step": step}
    return finish(dataset, who, require=("sigma0",), **made)


# -- scenes --------------------------------------------------------------------------------------------------------------


def role_of(where: str, text: str) -> str | None:
    """Role that a band's description or a file's name tells, or None; a `FormatError` for gamma or beta nought.

    Examples
    --------
    >>> role_of("", "Sigma0_VH_db"), role_of("", "localIncidenceAngle"), role_of("", "S1A_IW_GRDH_1SDV_20200901T001122")
    ('VH', 'angle', None)
    """
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
    """When a scene was seen, UTC, and what said so: the file's name, its folder's, or its tag TIFFTAG_DATETIME.

    Of several times in a name the first counts, which is the start of the acquisition in ESA's names and the overpass of
    Sentinel-1 in those of SPL2SMAP_S.
    """
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
    if not any(told.values()):
        expected = "descriptions or a file name with VV, VH, angle"
        if declared is not None:
            expected = f"{len(declared)} bands, as 'bands' says"
        what = f"nothing tells what its {len(header.names)} bands are"
        next_step = "Declare the order of the bands: bands=['VV', 'VH', 'angle'], '' for one that is not needed"
        raise FormatError(where, what, got=list(header.names), expected=plain(expected), next_step=next_step)
    return [told.get(i) or "" for i in range(len(header.names))]


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
            more = {"scale": header.scales[i], "offset": header.offsets[i]}
            nodata = () if header.nodata[i] is None else (header.nodata[i],)
            sources.append(BandSource(str(path), "image", i + 1, header.geometry, option, nodata=nodata, **more))
    time, source = time_of(path, header.tags) or (None, "") if at is None else (at, "declared")
    if time is None:
        expected, next_step = "a time such as 20200901T001122 in the name", "Pass times=, or rename the files"
        raise FormatError(where, "nothing tells when the scene was seen", expected=expected, next_step=next_step)
    return SceneRecord(path.name, time, header.geometry.bounds(), float("nan"), tuple(sources), "", source)


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
        grouped.setdefault(key, []).append(_described(who, path, bands, time, angle))
    scenes = [_merged(who, folder, name, files, wanted) for (folder, name), files in grouped.items()]
    return sorted(scenes, key=lambda scene: (scene.time, scene.scene_id))


def _by_time(who: str, placed: list[tuple], mosaic: str) -> list[tuple[np.datetime64, list[tuple]]]:
    """Times of the Dataset, increasing, and the scenes that make each; pieces of one export are one scene."""
    groups: dict[Any, list[tuple]] = {}
    for one in placed:
        key = one[0].acquisition if mosaic == "scene" else one[0].time.astype("datetime64[D]")
        groups.setdefault(key, []).append(one)
    result = []
    for members in groups.values():
        seconds = np.array([scene.time for scene, *_ in members]).astype("datetime64[s]").astype("int64")
        result.append((np.datetime64(round(float(seconds.mean())), "s").astype("datetime64[ns]"), members))
    result.sort(key=lambda item: item[0])
    for (time, members), (after, others) in itertools.pairwise(result):
        if time == after:
            next_step = "Leave one out if they are versions of one scene, or pool them with mosaic='day'"
            got = [members[0][0].scene_id, others[0][0].scene_id]
            raise FormatError(who, "two scenes have one time", got=got, next_step=next_step)
    return result


def _check_fineness(who: str, scene: SceneRecord, target: Georeference) -> None:
    """Refuse a target whose cells are finer than a scene's pixels, as they are all over it: the date line may run through."""
    raster = scene.sources[0].geometry
    across, down = np.random.default_rng(0).random((2, 9, 1))
    col = across * raster.width + np.array([0.0, 0.0, 1.0])
    row = down * raster.height + np.array([0.0, 1.0, 0.0])
    cells = target.step_at(*(raster.affine * (col, row)), raster.crs)
    if cells > 1.001:
        what = f"the target's cells are finer than the pixels of {scene.scene_id}, so that some would hold none"
        got, expected = plain(f"{cells:.3g} cells a pixel"), plain("at most 1")
        raise ParameterError(who, what, got=got, expected=expected, next_step="Choose a coarser grid")
