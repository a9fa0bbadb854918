"""One 36 km cell of SMAP and SMAP/Sentinel-1 as small NetCDF files, and airborne soil moisture beside it.

A public replication data set keeps a cell in three files, named by the cell's row and column **counted from 1**:
``spl2smap_s_R049C220.nc`` (all scenes of SPL2SMAP_S at 1 and 3 km), ``smap_9km_R049C220.nc`` (all overpasses of the enhanced
radiometer product) and ``pairs_R049C220.nc`` (quality-controlled scenes at 1 km). Places are taken from latitudes and
longitudes, which must be centres of EASE-Grid 2.0; a name that says another cell is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import CatalogError, FormatError, check_choice, foreign, orient_lat_lon, plain
from smnb.grids import M01, M03, M09, M36, EaseGrid, EaseWindow, ease_block_mean
from smnb.loaders import check_paths, check_present, finish, in_period, open_netcdf
from smnb.loaders.smap.fields import ACTIVE_PASSIVE, PASSIVE, Variable, flag_attrs

#: The clocks of the files differ by up to a minute: 9 km times up to so much after a scene's are those of its overpass.
CLOCK = np.timedelta64(5, "m")
CELL_NAME = re.compile(r"(?P<kind>spl2smap_s|pairs|smap_9km)_R(?P<row>\d{3})C(?P<col>\d{3})\.nc")
_AP = "active_passive"
_GRIDS = {"1km": M01, "3km": M03, "9km": M09}
_FILL = -9999.0  # of SMAP's own files, where a copy lost the attribute that says so
_OFF_CENTRE = 1e-4  # furthest that a coordinate may be from a cell's centre, degrees
WETTEST = 0.65  # m3 m-3; retrievals beyond are none, nor those of zero and less
#: Fields of the files, called as `smnb.loaders.smap.fields` calls them where the files do not call them otherwise.
_STACK = """soil_moisture surface_temperature vegetation_water_content albedo vegetation_opacity landcover_class
    water_body_fraction surface_flag overpass_time_difference bare_soil_roughness=soil_roughness
    retrieval_qual_flag=retrieval_quality_flag"""
_SERIES = """soil_moisture surface_temperature vegetation_water_content clay_fraction sand_fraction bulk_density albedo
    vegetation_opacity roughness static_water_body_fraction=water_body_fraction surface_flag=surface_flags
    retrieval_qual_flag=retrieval_quality_flags"""


def overpass_of(times: NDArray, overpasses: NDArray, *, within: np.timedelta64 | None = None) -> NDArray[np.intp]:
    """Number of the latest SMAP overpass that was known at each time: not after it by more than `CLOCK`, nor before by `within`.

    -1 where there is none; `overpasses` increase. Without `within` it may be as old as it is.
    """
    times = np.asarray(times, "datetime64[ns]")
    found = np.searchsorted(overpasses, times + CLOCK, side="right") - 1
    if within is None:
        return found
    known = found >= 0
    known[known] = times[known] - overpasses[found[known]] <= within
    return np.where(known, found, -1)


def _one_file(who: str, paths: Sequence[str | Path], kinds: Sequence[str], cell: str | None) -> Path:
    """The file of a cell among `paths`; without one there may be one file only."""
    found = {}
    for path in check_paths(who, paths):
        match = CELL_NAME.fullmatch(path.name)
        if match is None or match["kind"] not in kinds:
            raise FormatError(who, "a file is called otherwise", got=path.name, expected=f"{kinds[0]}_R049C220.nc")
        found.setdefault(f"R{match['row']}C{match['col']}", []).append(path)
    chosen = found.get(cell, []) if cell else [path for files in found.values() for path in files]
    if len(chosen) != 1:
        step = "Pass cell='R049C220' (row and column counted from 1), or the file's path"
        raise CatalogError(
            who, "not one file is meant", got=cell or len(chosen), expected=sorted(found), next_step=step
        )
    return chosen[0]


def _window(where: str, data: xr.Dataset, suffix: str, grid: EaseGrid) -> tuple[EaseWindow, NDArray, NDArray]:
    """Window of a file's cells, and the orders that put its rows north first and its columns west first."""
    centres = []
    for axis in ("lat", "lon"):
        check_present(where, [f"{axis}_{suffix}"], data.variables)
        centres.append(np.asarray(data[f"{axis}_{suffix}"].values, "float64"))
    lat, lon = centres
    if lat.ndim != 1 or lon.ndim != 1 or not lat.size or not lon.size or not np.isfinite([*lat, *lon]).all():
        raise FormatError(where, f"lat_{suffix} and lon_{suffix} are no lists of degrees", got=(lat.shape, lon.shape))
    row, col = grid.rowcol(lat, lon[0])[0], grid.rowcol(lat[0], lon)[1]
    off = max(np.abs(grid.lat[row] - lat).max(), np.abs((grid.lon[col] - lon + 180) % 360 - 180).max())
    rows, cols = np.argsort(row), np.argsort(col)
    if off > _OFF_CENTRE or (np.diff(row[rows]) != 1).any() or (np.diff(col[cols]) != 1).any():
        what = f"lat_{suffix} and lon_{suffix} are not centres of neighbouring cells of {grid.name}"
        raise FormatError(where, what, got=plain(f"{off:.2g} degrees away"), expected=plain(f"<= {_OFF_CENTRE}"))
    return grid.window_of(row, col), rows, cols


def _cell(where: str, name: str, data: xr.Dataset, suffixes: Sequence[str]) -> EaseWindow:
    """The 36 km cell that all of a file's grids fill, by their coordinates; a name that says another is refused."""
    windows = [_window(where, data, suffix, _GRIDS[suffix])[0] for suffix in suffixes]
    cell = windows[0].covering(M36)
    if cell.shape != (1, 1) or any(window != cell.on(window.grid) for window in windows):
        step = "Cut whole 36 km cells: 36 x 36, 12 x 12 and 4 x 4 cells of 1, 3 and 9 km"
        raise FormatError(where, "the grids do not nest in one 36 km cell", got=windows, next_step=step)
    match, place = CELL_NAME.fullmatch(name), (cell.row_start + 1, cell.col_start + 1)
    if match and (int(match["row"]), int(match["col"])) != place:
        what, expected = "the name says another cell than the coordinates", "R{:03}C{:03}".format(*place)
        step = "Names count rows and columns from 1, EASE-Grid indices from 0: rename the file"
        raise FormatError(where, what, got=name, expected=expected, next_step=step)
    return cell


def _times(where: str, data: xr.Dataset, dim: str) -> tuple[NDArray, NDArray, int]:
    """A file's times in order, the order, and how many were dropped as missing or repeated."""
    check_present(where, [dim], data.variables)
    time = np.atleast_1d(data[dim].values)
    if not np.issubdtype(time.dtype, np.datetime64):
        raise FormatError(
            where, f"{dim!r} is no time", got=str(time.dtype), expected="units such as days since 2015-01-01"
        )
    time = time.astype("datetime64[ns]")
    order = np.argsort(time, kind="stable")
    order = order[~np.isnat(time[order])]
    order = order[np.concatenate([[True], np.diff(time[order]) > np.timedelta64(0)])] if order.size else order
    if not order.size:
        raise FormatError(where, "there is no scene", got=int(time.size), next_step="Leave the file out")
    return time[order], order, time.size - order.size


def _read(where: str, data: xr.Dataset, native: str, dims: tuple[str, ...], order: tuple[NDArray, ...]) -> NDArray:
    """Values ``(time, y, x)`` of a field as they are in the file, in order of time, north and west first."""
    check_present(where, [native], data.variables)
    array = data[native]
    if set(array.dims) != set(dims) or array.dtype.kind not in "iufb":
        raise FormatError(where, f"{native!r} is no field of numbers over {dims}", got=(array.dims, str(array.dtype)))
    return np.asarray(array.transpose(*dims).values)[np.ix_(*order)]


def _field(values: NDArray, about: Variable, family: str, native: str) -> tuple[Any, ...]:
    """One variable of a Dataset, by its meaning: floats out of range masked and counted, flags and classes as integers."""
    attrs: dict[str, Any] = {"long_name": about.long_name, "native_name": native}
    if about.kind in ("flag", "class"):
        whole = np.where(np.isfinite(values) & (values >= 0) & (values < about.fill), values, about.fill)
        attrs |= flag_attrs(about.name, family) if about.kind == "flag" else {"missing_value": about.fill}
        return ("time", "y", "x"), whole.astype(about.dtype), attrs
    low, high = (1e-9, WETTEST) if about.name == "soil_moisture" else about.valid
    bad = ~np.isnan(values) & ~((values >= low) & (values <= high))
    attrs |= {"units": about.units, "masked_by": json.dumps({"out_of_range": int(bad.sum())})}
    return ("time", "y", "x"), np.where(bad, np.nan, values).astype("float32"), attrs


def _decibels(where: str, data: xr.Dataset, suffix: str, dims: tuple[str, ...], order: tuple[NDArray, ...]) -> tuple:
    """sigma0 ``(time, polarization, y, x)``, dB, from linear power; values below zero say that it is none."""
    power = np.stack([_read(where, data, f"sigma0_{p}_{suffix}", dims, order) for p in ("vv", "vh")], 1)
    known = np.isfinite(power) & (power != _FILL)
    if (share := (power[known] < 0).mean() if known.any() else 0.0) > 0.01:
        what, got = "sigma0 is not linear power", plain(f"{share:.0%} of the values below zero")
        raise FormatError(where, what, got=got, next_step="Values in dB are converted by 10 ** (dB / 10) first")
    with np.errstate(invalid="ignore", divide="ignore"):
        level = np.where(known & (power > 0), 10 * np.log10(power), np.nan)
    masked = json.dumps({"zero_or_less": int((power[known] <= 0).sum())})
    attrs = {"units": "dB", "long_name": ACTIVE_PASSIVE["sigma0"].long_name, "masked_by": masked}
    return ("time", "polarization", "y", "x"), level.astype("float32"), attrs


def _pairs_of(text: str, suffix: str = "") -> list[tuple[str, str]]:
    return [(name, f"{native or name}{suffix}") for name, _, native in (part.partition("=") for part in text.split())]


def _fields(
    where: str,
    data: xr.Dataset,
    pairs: Sequence[tuple[str, str]],
    dims: tuple[str, ...],
    order: tuple[NDArray, ...],
    meanings: Mapping[str, Variable],
    family: str,
) -> tuple[dict[str, tuple], list[str]]:
    """Variables by name, and which are absent: soil moisture must be there."""
    there = [(name, native) for name, native in pairs if name == "soil_moisture" or native in data.variables]
    variables = {
        name: _field(_read(where, data, native, dims, order), meanings[name.removesuffix("_sca")], family, native)
        for name, native in there
    }
    return variables, [name for name, _ in pairs if name not in variables]


def open_cell_scenes(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
    cell: str | None = None,
    resolution: str = "3km",
) -> xr.Dataset:
    """Open a cell's scenes of SPL2SMAP_S (``spl2smap_s_*``), or its quality-controlled pairs (``pairs_*``), at 3 or 1 km.

    Parameters
    ----------
    paths : sequence of path-like
        One file, or several of which `cell` names one.
    start, end : str, optional
        First and last scene, UTC, inclusive.
    cell : str, optional
        "R049C220": row and column of the 36 km cell **counted from 1**.
    resolution : {"3km", "1km"}
        Pairs have 1 km only: a cell of 3 km is the mean of its 3 x 3, five or more of them valid.
    catalog_id, synthetic
        As in `smnb.loaders`.

    Returns
    -------
    xarray.Dataset
        Named as `smnb.loaders.smap.open_l2_active_passive` names them, in memory: ``soil_moisture(time, y, x)`` m3 m-3 within
        (0, 0.65], whatever its flag says, and of stacks ``sigma0(time, polarization, y, x)`` dB, vegetation water and so on.
        ``time`` is that of SMAP's overpass, ``time_sentinel1(time)`` that of Sentinel-1. ``scenes_dropped``: repeated or
        without a time.

    Raises
    ------
    FormatError, CatalogError
        If the grids are not those of one 36 km cell, or not of the cell in the name; if there is no scene, sigma0 is in dB, or
        a field is missing; if not one file is meant, or no scene is in the period.
    """
    who = "open_cell_scenes"
    check_choice(who, "resolution", resolution, ("3km", "1km"))
    grid = _GRIDS[resolution]
    path = _one_file(who, paths, ("spl2smap_s", "pairs"), cell)
    where, is_pair = f"{who}({path.name})", path.name.startswith("pairs")
    with foreign(where), open_netcdf(who, path) as data:
        check_present(where, ["time_sentinel1"] if is_pair else [], data.variables)
        _cell(where, path.name, data, ("1km", "9km") if is_pair else ("1km", "3km"))
        time, order, dropped = _times(where, data, "time")
        keep = in_period(where, time, start, end, "scene")
        time, order, suffix = time[keep], order[keep], "1km" if is_pair else resolution
        window, *axes = _window(where, data, suffix, _GRIDS[suffix])
        dims, index = ("time", f"lat_{suffix}", f"lon_{suffix}"), (order, *axes)
        pairs = _pairs_of("soil_moisture" if is_pair else _STACK, f"_{suffix}")
        variables, absent = _fields(where, data, pairs, dims, index, ACTIVE_PASSIVE, _AP)
        if not is_pair and f"sigma0_vv_{suffix}" in data.variables:
            variables["sigma0"] = _decibels(where, data, suffix, dims, index)
        coords = {"time": time, **window.coords()} | ({"polarization": ["VV", "VH"]} if "sigma0" in variables else {})
        dataset = xr.Dataset(variables, coords)
        if "time_sentinel1" in data.variables:
            dataset["time_sentinel1"] = "time", data["time_sentinel1"].values[order].astype("datetime64[ns]")
            dataset["time_sentinel1"].attrs["long_name"] = "time of Sentinel-1's overpass, UTC"
    if is_pair and resolution == "3km":
        image = dataset["soil_moisture"]
        coarse = ease_block_mean(image, grid).assign_attrs(image.attrs)
        dataset = coarse.to_dataset().assign(time_sentinel1=dataset["time_sentinel1"])
    dataset = dataset.set_coords([name for name in ("time_sentinel1",) if name in dataset])
    dataset["time"].attrs = {"long_name": "overpass of SMAP, UTC", "standard_name": "time"}
    dataset.attrs |= {"resolution": resolution, "scenes_dropped": dropped, "ease_grid": grid.name}
    dataset.attrs["absent_variables"] = json.dumps(absent)
    step = f"{path.name}, {time.size} scenes at {resolution}, {dropped} dropped"
    return finish(dataset, who, catalog_id, synthetic, "SMAP/Sentinel-1 L2, SPL2SMAP_S, cell", step, ["soil_moisture"])


def open_cell_series(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
    cell: str | None = None,
) -> xr.Dataset:
    """Open a cell's series of enhanced SMAP retrievals at 9 km (``smap_9km_*``): 4 x 4 cells, one time an overpass.

    Returns
    -------
    xarray.Dataset
        ``soil_moisture`` (dual channel, DCA) and ``soil_moisture_sca`` (single channel), ``(time, y, x)``, m3 m-3, and what
        `smnb.loaders.smap.open_l3` has of the surface; ``ascending(time)`` 1 for the evening. Parameters and errors are those of
        `open_cell_scenes`.
    """
    who = "open_cell_series"
    path = _one_file(who, paths, ("smap_9km",), cell)
    where = f"{who}({path.name})"
    with foreign(where), open_netcdf(who, path) as data:
        _cell(where, path.name, data, ("9km",))
        time, order, dropped = _times(where, data, "time")
        keep = in_period(where, time, start, end, "overpass")
        window, *axes = _window(where, data, "9km", M09)
        dims, index = ("time", "lat_9km", "lon_9km"), (order[keep], *axes)
        pairs = _pairs_of(f"{_SERIES} soil_moisture_sca")
        if "soil_moisture" not in data.variables:  # the single-channel retrieval stands for both
            pairs[0] = "soil_moisture", "soil_moisture_sca"
        variables, absent = _fields(where, data, pairs, dims, index, PASSIVE, "passive")
        if "ascending" in data.variables:
            attrs = {"long_name": "ascending overpass (18 h local time)", "units": "1"}
            variables["ascending"] = "time", data["ascending"].values[order[keep]].astype("int8"), attrs
        dataset = xr.Dataset(variables, {"time": time[keep], **window.coords()})
    dataset["time"].attrs = {"long_name": "overpass of SMAP, UTC", "standard_name": "time"}
    dataset.attrs |= {"scenes_dropped": dropped, "ease_grid": "M09", "absent_variables": json.dumps(absent)}
    step = f"{path.name}, {keep.sum()} overpasses, {dropped} dropped"
    return finish(dataset, who, catalog_id, synthetic, "SMAP enhanced radiometer, 9 km, cell", step, ["soil_moisture"])


def open_pals(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
    resolution: str = "3km",
) -> xr.Dataset:
    """Open soil moisture of PALS, an airborne L-band radiometer, one time a flight, at 3 km, 1 km or 500 m.

    Nothing else of the files is read: PALS is itself a retrieval, which used their texture, vegetation and land cover.

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(time, y, x)`` on EASE-Grid 2.0, or ``(time, lat, lon)`` at 500 m; m3 m-3.
    """
    who = "open_pals"
    check_choice(who, "resolution", resolution, ("3km", "1km", "500m"))
    if len(paths := check_paths(who, paths)) != 1:
        raise CatalogError(who, "not one file is meant", got=[path.name for path in paths])
    where = f"{who}({paths[0].name})"
    with foreign(where), open_netcdf(who, paths[0]) as data:
        time, order, dropped = _times(where, data, "flight")
        keep = in_period(where, time, start, end, "flight")
        dims = ("flight", f"lat_{resolution}", f"lon_{resolution}")
        axes: list[NDArray] = [np.arange(data.sizes[name]) for name in dims[1:]]
        if on_grid := resolution != "500m":
            window, *axes = _window(where, data, resolution, _GRIDS[resolution])
        native = f"vsm_{resolution}"
        _, values, attrs = _field(
            _read(where, data, native, dims, (order[keep], *axes)), PASSIVE["soil_moisture"], "passive", native
        )
        if on_grid:
            coords, names = window.coords(), ("time", "y", "x")
        else:
            coords, names = {"lat": data[dims[1]].values, "lon": data[dims[2]].values}, ("time", "lat", "lon")
        dataset = xr.Dataset({"soil_moisture": (names, values, attrs)}, {"time": time[keep], **coords})
    dataset = dataset if on_grid else orient_lat_lon(dataset)
    dataset["time"].attrs = {"long_name": "flight, UTC", "standard_name": "time"}
    dataset.attrs |= {"scenes_dropped": dropped, "resolution": resolution}
    step = f"{paths[0].name}, {keep.sum()} flights at {resolution}"
    return finish(dataset, who, catalog_id, synthetic, "PALS airborne radiometer", step, ["soil_moisture"])
