"""`open_sentinel1`: scenes to one Dataset under the data contract."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import ParameterError, check_choice, check_dataset, plain, stamp
from smnb.grids import EASE_GRIDS, EaseGrid, EaseWindow, RegularGrid
from smnb.loaders import check_paths, parse_period
from smnb.loaders.rasters.placing import transformer
from smnb.loaders.sentinel.assembly import PlacedScene, assemble, count_left_out, group_scenes
from smnb.loaders.sentinel.averaging import AngleSource, average_scene, check_fineness, reached
from smnb.loaders.sentinel.calibration import declare
from smnb.loaders.sentinel.sampling import ANGLE_UNITS, check_pixels
from smnb.loaders.sentinel.scenes import POLARIZATIONS, ROLES, Scene, list_scenes
from smnb.loaders.sentinel.targets import ProjectedGrid, ease_window_around, target_of

MOSAICS = ("scene", "day")
#: Pixels read at a time. About 150 bytes each are held.
_BLOCK_PIXELS = 1 << 20


def open_sentinel1(
    paths: Sequence[str | Path],
    *,
    catalog_id: str,
    synthetic: bool = False,
    grid: str | EaseGrid | EaseWindow | RegularGrid | ProjectedGrid = "M01",
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
    block_pixels: int = _BLOCK_PIXELS,
) -> xr.Dataset:
    """Open Sentinel-1 GRD sigma nought as averages over the cells of a coarser grid, lazy by scene.

    A cell's value is the mean linear power of all valid pixels whose centres fall in it; decibels are never averaged.

    Parameters
    ----------
    paths : sequence of path-like
        GeoTIFFs or Cloud-Optimised GeoTIFFs, georeferenced, in any reference system. Files whose names differ only in
        what tells the band ("…_VV.tif", "…_VH.tif", "…_angle.tif") are one scene.
    catalog_id : str
        The catalog's entry.
    synthetic : bool
        Whether the data were simulated.
    grid : str, EaseGrid, EaseWindow, RegularGrid or ProjectedGrid
        Target. An EASE-Grid, or its name ("M01", "M03", "M09", "M36"), is the smallest window that holds all scenes.
    units : {"dB", "linear", "dn"}
        What the numbers in the files are: decibels, linear power, or digital numbers. There is no default.
    scale, offset : float
        With "dn": ``number · scale + offset`` is what `dn_of` says. Default what the file's own tags state.
    dn_of : {"linear", "amplitude", "dB"}, optional
        With "dn": what digital numbers are once scaled; of amplitudes the square is the power.
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
    start, end : str, optional
        First and last time of scenes, UTC, inclusive.
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
        has none); ``n_looks(time, polarization, …)``, the number of pixels averaged; ``enl(…)``,
        the equivalent number of looks of a single pixel, mean² / variance of the linear power within the cell, which is
        that of the processor over a uniform surface and less where the surface varies; ``n_scenes``;
        ``n_masked(time, polarization, reason)``, pixels within the target that were left out. `time` is that of the
        scene, or the mean of the day's. Attributes ``scenes`` and ``scenes_outside`` (JSON) name what was read and what
        does not reach the target.

    Raises
    ------
    FormatError
        If a file is unreadable or truncated, has no reference system, is complex or in other units than declared, tells
        neither its bands nor its time, or differs in grid from another of its scene; if a scene lacks a polarization or
        holds no backscatter at all; if two scenes have one time. Pixels are sampled when opening; what is found only in
        reading all of them is raised when the Dataset is computed.
    ParameterError
        For unknown options, units without what they need, a target that no scene reaches, or one finer than the pixels.

    Notes
    -----
    Every number of a file is read, and no overviews: where a file holds decibels its overviews are averages of decibels.
    Digital numbers are scaled as declared, and the result is only as calibrated as that declaration.

    Examples
    --------
    >>> ds = open_sentinel1(paths, catalog_id="sentinel1_grd", units="dB", mosaic="day")  # doctest: +SKIP
    """
    who = "open_sentinel1"
    declaration = declare(who, units, scale, offset, dn_of, mask_zero)
    polarizations = check_choice(who, "polarizations", polarizations, POLARIZATIONS)
    _check_options(who, bands, incidence_angle, angle_units, mosaic, min_looks, block_pixels)
    scenes = list_scenes(who, check_paths(who, paths), bands=bands, times=times, wanted=polarizations)
    scenes = _within(who, scenes, *parse_period(who, start, end))
    target = target_of(who, _window(who, grid, scenes))
    angles = AngleSource(incidence_angle, ANGLE_UNITS[angle_units])
    placed, outside = [], []
    for scene in scenes:
        rectangles = reached(scene, target)
        if not rectangles:
            outside.append(scene.name)
            continue
        check_fineness(who, scene, target)
        calibrations = {
            band.role: declaration.of(f"{who}({band.path.name})", band) for band in scene.bands if band.role != "angle"
        }
        check_pixels(who, scene, calibrations, angle_units)
        for cells in rectangles:
            totals = dask.delayed(average_scene, pure=False)(
                who, scene, target, cells, calibrations, angles, int(block_pixels)
            )
            placed.append(PlacedScene(scene, cells, totals))
    if not placed:
        raise ParameterError(
            who,
            "no scene reaches the grid",
            got=plain(f"{scenes[0].name}: {_extent(scenes[0])}"),
            expected=plain(f"an overlap with {grid!r}"),
            next_step="Choose a grid over the scenes, or other scenes",
        )
    groups = group_scenes(who, placed, mosaic)
    names = {str(t)[:19]: list(dict.fromkeys(one.scene.name for one in members)) for t, members in groups}
    named = {band.native for one in placed if (band := one.scene.band("angle"))}
    has_angle = incidence_angle is not None or bool(named)
    dataset = assemble(target, groups, polarizations, min_looks, has_angle=has_angle)
    dataset["sigma0"].attrs["native_units"] = declaration.native_units
    if declaration.units == "dn":
        dataset["sigma0"].attrs["comment"] = "digital numbers scaled as declared, and as calibrated as that declaration"
    if has_angle:
        native = ", ".join(sorted(named)) if named else f"constant, {incidence_angle:g} degree"
        dataset["incidence_angle"].attrs["native_name"] = native
    dataset.attrs["scenes"] = json.dumps(names)
    dataset.attrs["scenes_outside"] = json.dumps(outside)
    dataset.attrs["time_source"] = ", ".join(sorted({one.scene.time_source for one in placed}))
    n_scenes = len({one.scene for one in placed})
    stamp(
        dataset,
        source="Sentinel-1 GRD, sigma nought",
        catalog_id=catalog_id,
        synthetic=synthetic,
        step=f"{who}: {n_scenes} scenes ({declaration.units}) averaged in linear power, mosaic {mosaic!r}",
    )
    return check_dataset(count_left_out(dataset) if count else dataset, who=who, require=("sigma0",))


def _check_options(
    who: str,
    bands: Sequence[str] | None,
    incidence_angle: float | None,
    angle_units: str,
    mosaic: str,
    min_looks: int,
    block_pixels: int,
) -> None:
    for name, value, known in (("mosaic", mosaic, MOSAICS), ("angle_units", angle_units, tuple(ANGLE_UNITS))):
        if value not in known:
            raise ParameterError(who, f"unknown {name!r}", got=value, expected=list(known))
    if bands is not None:
        named = [role for role in bands if role] if not isinstance(bands, str) else [bands]
        unknown = [role for role in named if role not in ROLES]
        if isinstance(bands, str) or unknown or not named or len(set(named)) != len(named):
            raise ParameterError(
                who,
                "'bands' is no list of roles, or holds an unknown one, or one twice",
                got=bands,
                expected=list(ROLES),
            )
    if incidence_angle is not None and not 0.0 < incidence_angle < 90.0:
        raise ParameterError(who, "'incidence_angle' is out of range", got=incidence_angle, expected=plain("(0, 90)"))
    for name, value, least in (("min_looks", min_looks, 1), ("block_pixels", block_pixels, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ParameterError(who, f"{name!r} is no number of pixels", got=value, expected=plain("an integer >= 1"))


def _within(who: str, scenes: list[Scene], first: np.datetime64 | None, last: np.datetime64 | None) -> list[Scene]:
    chosen = [s for s in scenes if (first is None or s.time >= first) and (last is None or s.time <= last)]
    if not chosen:
        raise ParameterError(
            who,
            "no scene is in the period",
            got=(str(first), str(last)),
            expected=plain(f"times in {scenes[0].time} to {scenes[-1].time}"),
        )
    return chosen


def _window(who: str, grid: Any, scenes: list[Scene]) -> Any:
    """The grid that was asked for; of a whole EASE-Grid the window that holds the scenes."""
    grid = EASE_GRIDS.get(grid, grid) if isinstance(grid, str) else grid
    if not isinstance(grid, EaseGrid):
        return grid
    boxes = [_edges_latlon(scene) for scene in scenes]
    return ease_window_around(who, grid, *(np.concatenate(values) for values in zip(*boxes, strict=True)))


def _edges_latlon(scene: Scene) -> tuple[NDArray, NDArray]:
    """Latitude and longitude along a scene's edges, degrees; those that are on the globe."""
    raster, share = scene.geometry, np.linspace(0.0, 1.0, 65)
    low, high = np.zeros_like(share), np.ones_like(share)
    rows, cols = np.r_[share, share, low, high] * raster.height, np.r_[low, high, share, share] * raster.width
    lon, lat = transformer(raster.crs, "EPSG:4326").transform(*(raster.affine * (cols, rows)), errcheck=False)
    finite = np.isfinite(lon) & np.isfinite(lat)
    return lat[finite], (lon[finite] + 180.0) % 360.0 - 180.0


def _extent(scene: Scene) -> str:
    lat, lon = _edges_latlon(scene)
    if lat.size == 0:
        return "nowhere on Earth"
    return f"{lat.min():.3f}..{lat.max():.3f} N, {lon.min():.3f}..{lon.max():.3f} E"
