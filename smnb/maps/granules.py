"""Cells of 36 km from the products' own granules, as ``smnb fetch`` brings them, and a map of any window of EASE-Grid 2.0."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr

from smnb.catalog import Catalog
from smnb.contract import ContractError, plain, stamp
from smnb.grids import M01, M03, M09, M36, EaseGrid, EaseWindow
from smnb.loaders.smap.cells import CLOCK, WETTEST
from smnb.maps.cells import ScenesEstimator

GRANULE_IDS = ("smap_s1_l2", "smap_l3_e")  # SPL2SMAP_S and SPL3SMP_E


def granule_cells(scenes: xr.Dataset, series: xr.Dataset) -> Iterator[tuple[xr.Dataset, xr.Dataset]]:
    """Cut a window's 36 km cells that have an overpass, each as `CellRecord.from_datasets` takes it.

    Parameters
    ----------
    scenes : Dataset
        Of `smnb.loaders.smap.open_l2_active_passive` at 3 or 1 km: ``soil_moisture`` and ``observation_time`` ``(time, y, x)``,
        whatever the flags say, and what else is wanted of a scene. Scenes of one overpass of SMAP become one.
    series : Dataset
        Of `smnb.loaders.smap.open_l3` or `open_l2` at 9 km, the single-channel retrieval, on the same whole 36 km cells.
    """
    windows = [EaseWindow.from_dataset(part) for part in (scenes, series)]
    window = windows[0].covering(M36)
    if windows != [window.on(windows[0].grid), window.on(M09)]:
        expected, step = plain("one window of whole 36 km cells"), "Open both with region=EaseWindow(M36, …).on(grid)"
        raise ContractError("granule_cells", "the grids do not nest", got=windows, expected=expected, next_step=step)
    parts = [scenes.load(), series.load()]
    for row, col in np.ndindex(window.shape):
        cell = EaseWindow(M36, *np.add((row, row + 1), window.row_start), *np.add((col, col + 1), window.col_start))
        places = (dict(zip(("y", "x"), one.slices_of(cell.on(one.grid)), strict=True)) for one in windows)
        fine, coarse = (_in_order(part.isel(place)) for part, place in zip(parts, places, strict=True))
        if coarse.sizes["time"]:
            yield fine, coarse


def _in_order(part: xr.Dataset) -> xr.Dataset:
    """A cell's images in order; an image's time is its first, and images of one overpass become one, the first's values first."""
    if "overpass" in part.dims:
        part = part.rename(time="day").stack(time=("day", "overpass"), create_index=False).transpose("time", ...)
    values, times = part.drop_vars("observation_time"), part["observation_time"].values.astype("datetime64[ns]")
    image = values["soil_moisture"]
    values["soil_moisture"] = image.where((image > 0) & (image <= WETTEST))
    first = np.where(np.isnat(times), np.iinfo("int64").max, times.astype("int64")).min((1, 2))
    there = np.any([np.isfinite(one).any(set(one.dims) - {"time"}) for one in values.values()], axis=0)
    order = np.argsort(first, kind="stable")
    order = order[there[order] & (first[order] < np.iinfo("int64").max)]
    first = first[order].astype("datetime64[ns]")
    own = np.diff(first, prepend=first[:1] - 2 * CLOCK) > CLOCK
    values = values.isel(time=order).drop_vars(["time", "day", "overpass"], errors="ignore")
    if not own.all():
        values = values.groupby(xr.DataArray(np.cumsum(own), dims="time", name="pass")).first().rename({"pass": "time"})
    return values.transpose("time", ...).assign_coords(time=first[own])


def map_window(
    estimator: Callable[[xr.Dataset, xr.Dataset], ScenesEstimator],
    catalog: Catalog,
    root: object,
    window: EaseWindow,
    time: str,
    *,
    grid: EaseGrid,
    detail: str = "cautious",
) -> xr.Dataset:
    """Map a window of 36 km cells at the overpasses nearest to a time, from an archive's granules (`GRANULE_IDS`).

    Parameters
    ----------
    estimator : callable
        Makes the estimator of a cell, on `grid`, of what `granule_cells` gives.

    Returns
    -------
    xarray.Dataset
        As `ScenesEstimator.estimate`, ``(y, x)``, one ``time``, NaN in cells without an overpass within a day.
    """
    fine, wanted = window.on(grid), ["soil_moisture", "observation_time"]
    options = {"resolution": "3km", "flag_policy": "none", "variables": wanted}
    scenes = catalog.open(GRANULE_IDS[0], root, region=window.on(M03), **options)
    if grid == M01:  # the granules' group of 1 km may lack SMAP's time
        options |= {"resolution": "1km", "variables": ["soil_moisture", "sigma0", "vegetation_water_content"]}
        times, scenes = scenes["observation_time"], catalog.open(GRANULE_IDS[0], root, region=fine, **options)
        times = times.reindex(time=scenes["time"]).transpose("time", "y", "x").values
        scenes["observation_time"] = ("time", "y", "x"), times.repeat(3, 1).repeat(3, 2)
    options = {"overpass": "both", "flag_policy": "retrieved", "option": "sca-v"}
    series = catalog.open(GRANULE_IDS[1], root, region=window.on(M09), variables=wanted, **options)
    names = [f"soil_moisture{one}" for one in ("", "_low90", "_high90")]
    attrs = {"units": "m3 m-3", "grid_mapping": "crs"}
    blank = {n: (("y", "x"), np.full(fine.shape, np.nan, "float32"), attrs | {"long_name": n}) for n in names}
    asked, count = np.array([time], "datetime64[ns]"), 0
    dataset = xr.Dataset(blank, {"time": asked[0], **fine.coords()}, {"detail": detail})
    for cell in granule_cells(scenes, series):
        found = estimator(*cell).estimate_asked(asked, detail=detail)
        rows, cols = fine.slices_of(EaseWindow.from_dataset(found))
        count += found.sizes["time"]
        for name in names if found.sizes["time"] else ():
            dataset[name][rows, cols] = found[name].values[0]
    step = f"map_window: {count} cells at {time}, detail {detail}"
    return stamp(dataset, step=step, source="smnb map of granules", synthetic=bool(int(scenes.attrs["synthetic"])))
