"""`open_sentinel1`: Sentinel-1 scenes to one Dataset of decibels, averaged in linear power onto a coarser grid.

Sums are kept for the cells that a scene reaches (`averaging`); decibels are made of them at the very end.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from smnb.contract import FormatError, ParameterError, check_choice, check_count, check_range, plain
from smnb.grids import EASE_GRIDS, EaseGrid, EaseWindow, RegularGrid
from smnb.loaders import check_paths, finish, parse_period
from smnb.loaders.rasters.acquisitions import POLARIZATIONS, list_scenes
from smnb.loaders.rasters.averaging import (
    ANGLE_UNITS,
    MASK_REASONS,
    Backscatter,
    Span,
    average_scene,
    check_pixels,
    reached,
)
from smnb.loaders.rasters.options import SIGMA0
from smnb.loaders.rasters.placing import Georeference, crs_of
from smnb.loaders.rasters.scenes import SceneRecord

_CHUNK = 2048  # rows and columns of the target in one dask chunk
#: Fields on the target: type, units, what they are; those by polarization first.
_FIELDS = {
    "sigma0": ("float32", "dB", "radar backscatter coefficient, C band"),
    "n_looks": ("int32", "1", "number of pixels averaged"),
    "enl": ("float32", "1", "equivalent number of looks of a pixel"),
    "n_scenes": ("int16", "1", "number of scenes averaged"),
    "incidence_angle": ("float32", "degree", "incidence angle"),
}


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
        GeoTIFFs, georeferenced, in any reference system. Files whose names differ only in what tells the band ("…_VV.tif",
        "…_VH.tif", "…_angle.tif") are one scene.
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
        One angle, degrees, for scenes without a band or file of angles; those in files are in `angle_units`.
    times : str or sequence of str, optional
        Time of each of `paths` (or of all), UTC; default the first time in the file's name, in its folder's, or its tag
        TIFFTAG_DATETIME (which can be the time of processing).
    mosaic : {"scene", "day"}
        One time a scene; or one a UTC day, with overlapping scenes averaged in linear power by their valid pixels, of passes
        of both directions perhaps, with other angles.
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
        looks of a pixel, mean² / variance of the linear power within the cell; ``n_scenes``; ``n_masked(time, polarization,
        reason)``, pixels within the target that were left out. `time` is that of the scene, or the mean of the day's.
        Attributes ``scenes`` and ``scenes_outside`` (JSON) name what was read and what does not reach the target.

    Raises
    ------
    FormatError
        If a file is unreadable, has no reference system, is in other units than declared, tells neither its bands nor its
        time, or differs in grid from another of its scene; if a scene lacks a polarization or holds no backscatter at all; if
        two scenes have one time. Pixels are sampled when opening; the rest is seen when the Dataset is computed.
    ParameterError
        For units without what they need, a target that no scene reaches, or one finer than the pixels.

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
        options = quantities, incidence_angle, block_pixels
        sums = dask.delayed(average_scene, pure=False, traverse=False)(who, scene, target, cells, *options)
        placed.append((scene, cells, sums))
    if not placed:
        where = "{1:.3f}..{3:.3f} N, {0:.3f}..{2:.3f} E".format(*(scenes[0].bounds or [np.nan] * 4))
        got, expected = plain(f"{scenes[0].scene_id}: {where}"), plain(f"an overlap with {grid!r}")
        next_step = "Choose a grid over the scenes, or other scenes"
        raise ParameterError(who, "no scene reaches the grid", got=got, expected=expected, next_step=next_step)
    groups = _by_time(who, placed, mosaic)
    angles = {band.option.where for scene, *_ in placed for band in scene.sources if band.option.name == "angle"}
    has_angle = incidence_angle is not None or bool(angles)
    dataset = _dataset_of(target, coords, groups, polarizations, min_looks, has_angle)
    dataset["sigma0"].attrs["native_units"] = declared.native_units
    if units == "dn":
        dataset["sigma0"].attrs["comment"] = "digital numbers scaled as declared, and as calibrated as that declaration"
    if has_angle:
        native = ", ".join(sorted(angles)) or f"constant, {incidence_angle:g} degree"
        dataset["incidence_angle"].attrs["native_name"] = native
    names = {str(time)[:19]: [scene.scene_id for scene, *_ in members] for time, members in groups}
    dataset.attrs["scenes"], dataset.attrs["scenes_outside"] = json.dumps(names), json.dumps(outside)
    dataset.attrs["time_source"] = ", ".join(sorted({scene.time_source for scene, *_ in placed}))
    if count:
        dataset = dataset.compute()
        pixels = dataset["n_masked"].sum(["time", "polarization"]).to_series()
        counts = {f"pixels: {reason}": int(n) for reason, n in pixels.items()}
        without = dataset["sigma0"].isnull() & (dataset["n_looks"] > 0)
        counts["cells: too few looks, or out of range"] = int(without.sum())
        dataset["sigma0"].attrs["masked_by"] = json.dumps({k: n for k, n in counts.items() if n}, sort_keys=True)
    step = f"{len(placed)} scenes ({units}) averaged in linear power, mosaic {mosaic!r}"
    made = {"source": "Sentinel-1 GRD, sigma nought", "catalog_id": catalog_id, "synthetic": synthetic, "step": step}
    return finish(dataset, who, require=("sigma0",), **made)


def target_of(who: str, grid: Any, boxes: Sequence[tuple[float, ...]] = ()) -> tuple[Georeference, dict[str, Any]]:
    """Where a grid's cells are, and its coordinates; of a whole EASE-Grid the least window that holds boxes (degrees)."""
    grid = EASE_GRIDS.get(grid, grid) if isinstance(grid, str) else grid
    if isinstance(grid, EaseGrid):
        west, south, east, north = np.array(boxes).T
        lon = (np.stack([west, east]) + 180.0) % 360.0 - 180.0
        row, col = grid.rowcol(np.stack([south, north]), lon, outside="mask")
        inside = row >= 0
        if not inside.any():
            what = f"the scenes are off the {grid.name} grid"
            raise ParameterError(who, what, got=(float(south.min()), float(north.max())))
        if np.ptp(col[inside]) > grid.n_cols / 2:
            what = "the scenes lie on both sides of the date line, so that no window holds them all"
            next_step = "Open each side onto a window of its own: grid=M01.window(south=…, north=…, west=…, east=…)"
            raise ParameterError(who, what, got=(float(lon.min()), float(lon.max())), next_step=next_step)
        grid = grid.window_of(row[inside], col[inside])
    if isinstance(grid, EaseWindow):
        cell, ease = grid.grid.cell, grid.grid
        west, north = (grid.col_start - ease.n_cols / 2) * cell, (ease.n_rows / 2 - grid.row_start) * cell
        return Georeference(crs_of("EPSG:6933").to_wkt(), (cell, 0, west, 0, -cell, north), *grid.shape), grid.coords()
    if isinstance(grid, RegularGrid):
        transform = (grid.resolution, 0, grid.west, 0, grid.resolution, grid.south)
        return Georeference(crs_of("EPSG:4326").to_wkt(), transform, *grid.shape), grid.coords()
    if isinstance(grid, GeoBox) and grid.crs is not None and grid.crs.projected and grid.axis_aligned:
        wkt = crs_of(grid.crs.to_wkt()).to_wkt()
        return Georeference(wkt, tuple(grid.affine)[:6], *grid.shape), xr_coords(grid, "crs")
    got = grid if isinstance(grid, str) else type(grid).__name__
    known = [*EASE_GRIDS, "EaseGrid", "EaseWindow", "RegularGrid", "odc.geo.geobox.GeoBox, projected and north-up"]
    raise ParameterError(who, "unknown 'grid'", got=got, expected=known)


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


def _overlap(a: Span, b: Span, shift: int = 0) -> tuple[slice, slice] | None:
    """What two spans have in common, the first moved by `shift`: where it is in either."""
    low, high = max(a[0] + shift, b[0]), min(a[1] + shift, b[1])
    return (slice(low - a[0] - shift, high - a[0] - shift), slice(low - b[0], high - b[0])) if low < high else None


def _combine(
    parts: list[tuple], n: int, rows: Span, cols: Span, turns: Sequence[int], least: int
) -> NDArray[np.float64]:
    """The fields of a rectangle of the target from all scenes that reach it, those by polarization first, on top of each other.

    Cells of fewer than `least` looks are NaN.
    """
    total = np.zeros((3 * n + 2, rows[1] - rows[0], cols[1] - cols[0]))
    n_scenes, (power, square, looks) = np.zeros(total.shape[1:]), (total[k * n : (k + 1) * n] for k in range(3))
    for (own_rows, own_cols), (layers, _) in parts:
        before = looks.sum(axis=0)
        for turn in turns:
            down, across = _overlap(own_rows, rows), _overlap(own_cols, cols, turn)
            if down and across:
                total[:, down[1], across[1]] += layers[:, down[0], across[0]]
        n_scenes += looks.sum(axis=0) > before
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = power / looks
        variance = (square / looks - mean**2) * looks / (looks - 1)
        sigma0, enl, degrees = 10.0 * np.log10(mean), mean**2 / variance, total[-2] / total[-1]
    # 1e-4: pixels are of single precision, and one at the range's own edge is within it
    measured = (looks >= least) & (sigma0 >= SIGMA0.low - 1e-4) & (sigma0 <= SIGMA0.high + 1e-4)
    # pixels that are all equal differ by rounding: no number of looks follows from that
    varies = measured & (looks > 1) & (variance > 1e-6 * mean**2)
    sigma0 = np.where(measured, np.clip(sigma0, SIGMA0.low, SIGMA0.high), np.nan)
    return np.concatenate([sigma0, looks, np.where(varies, enl, np.nan), n_scenes[None], degrees[None]])


def _dataset_of(
    target: Georeference,
    coords: Mapping[str, Any],
    groups: Sequence[tuple[np.datetime64, list[tuple]]],
    polarizations: Sequence[str],
    least: int,
    has_angle: bool,
) -> xr.Dataset:
    """The lazy Dataset, in chunks of the target, of times and their scenes, cells and delayed sums."""
    spans = [[(k, min(k + _CHUNK, size)) for k in range(0, size, _CHUNK)] for size in (target.height, target.width)]
    turns, n = (-target.width, 0, target.width) if target.is_round else (0,), len(polarizations)

    def made(members: Sequence[tuple], rows: Span, cols: Span) -> da.Array:
        parts = [
            (cells, sums)
            for _, cells, sums in members
            if _overlap(cells[0], rows) and any(_overlap(cells[1], cols, turn) for turn in turns)
        ]
        fields = dask.delayed(_combine, pure=False)(parts, n, rows, cols, turns, least)
        return da.from_delayed(fields, (3 * n + 2, rows[1] - rows[0], cols[1] - cols[0]), "float64")

    each = [da.block([[made(members, r, c) for c in spans[1]] for r in spans[0]]) for _, members in groups]
    fields, spatial = da.stack(each), ("y", "x") if "y" in coords else ("lat", "lon")
    layers = [*(slice(k * n, (k + 1) * n) for k in range(3)), 3 * n, 3 * n + 1]
    data: dict[str, Any] = {}
    for (name, (dtype, units, about)), layer in zip(_FIELDS.items(), layers, strict=True):
        dims = ("time", "polarization", *spatial) if isinstance(layer, slice) else ("time", *spatial)
        attrs = {"units": units, "long_name": about, **({"grid_mapping": "crs"} if "crs" in coords else {})}
        data[name] = dims, fields[:, layer].astype(dtype), attrs
    data["sigma0"][2]["cell_methods"] = "area: mean (of linear power)"
    if not has_angle:
        del data["incidence_angle"]
    add_up = dask.delayed(lambda all_sums: sum(masked for _, masked in all_sums).astype("int64"), pure=False)
    masked = [add_up([sums for *_, sums in members]) for _, members in groups]
    counts = da.stack([da.from_delayed(one, (n, len(MASK_REASONS)), "int64") for one in masked])
    about = {"units": "1", "long_name": "number of pixels left out"}
    data["n_masked"] = ("time", "polarization", "reason"), counts, about
    times = np.array([time for time, _ in groups], "datetime64[ns]")
    own = {"time": times, "polarization": list(polarizations), "reason": list(MASK_REASONS)}
    return xr.Dataset(data, own | dict(coords))
