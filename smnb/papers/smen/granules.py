"""The same cells from the products' own granules, as ``smnb fetch`` brings them, and a map of any window of EASE-Grid 2.0."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.catalog import Catalog
from smnb.contract import ContractError, plain, stamp
from smnb.grids import M03, M09, M36, EaseWindow
from smnb.loaders.smap.cells import CLOCK
from smnb.loaders.smap.records import CellRecord
from smnb.maps.cells import overpasses_near
from smnb.models.past_scenes import PastScenesEnsemble
from smnb.papers.smen.estimation import CellEstimator

_WETTEST = 0.65  # m3 m-3
_NEEDED = ("soil_moisture", "observation_time")
GRANULE_IDS = ("smap_s1_l2", "smap_l3_e")  # SPL2SMAP_S and SPL3SMP_E


def granule_records(scenes: xr.Dataset, series: xr.Dataset) -> list[CellRecord]:
    """Make the records of a window's 36 km cells, those with an overpass.

    Parameters
    ----------
    scenes : Dataset
        Of `smnb.loaders.smap.open_l2_active_passive` at 3 km: ``soil_moisture`` and ``observation_time`` ``(time, y, x)``,
        whatever the flags say. Scenes of one overpass of SMAP become one.
    series : Dataset
        Of `smnb.loaders.smap.open_l3` or `open_l2` at 9 km, the single-channel retrieval, on the same whole 36 km cells.
    """
    fine, coarse = (EaseWindow.from_dataset(part) for part in (scenes, series))
    window = fine.covering(M36)
    if fine != window.on(M03) or coarse != window.on(M09):
        expected, step = plain("one window of whole 36 km cells"), "Open both with region=EaseWindow(M36, …).on(grid)"
        raise ContractError(
            "granule_records", "the grids do not nest", got=(fine, coarse), expected=expected, next_step=step
        )
    parts = {}
    for size, part in ((12, scenes), (4, series)):
        values, times = (part[name].values.reshape(-1, *part["lat"].shape, *part["lon"].shape) for name in _NEEDED)
        parts[size] = np.where((values > 0) & (values <= _WETTEST), values, np.nan).astype("float64"), times
    records = []
    for row, col in np.ndindex(window.shape):
        found = {}
        for size, (values, times) in parts.items():
            cut = np.s_[:, row * size : (row + 1) * size, col * size : (col + 1) * size]
            found[size] = _in_order(values[cut], times[cut])
        if found[4][0].size:
            cell = EaseWindow(M36, *np.add((row, row + 1), window.row_start), *np.add((col, col + 1), window.col_start))
            records.append(CellRecord(cell, *found[12], *found[4]))
    return records


def _in_order(values: NDArray, times: NDArray) -> tuple[NDArray, NDArray]:
    """Times and images of a cell in order; an image's time is its first, and images of one overpass become one."""
    nanoseconds = np.where(np.isnat(times), np.iinfo("int64").max, times.astype("datetime64[ns]").astype("int64"))
    first = nanoseconds.min((1, 2))
    order = [
        i for i in np.argsort(first, kind="stable") if first[i] < np.iinfo("int64").max and np.isfinite(values[i]).any()
    ]
    found, kept = [], []
    for i in order:
        if kept and np.timedelta64(first[i] - kept[-1], "ns") <= CLOCK:
            found[-1] = np.where(np.isfinite(found[-1]), found[-1], values[i])
        else:
            found.append(values[i])
            kept.append(first[i])
    return np.array(kept, "int64").astype("datetime64[ns]"), np.array(found).reshape(-1, *values.shape[1:])


def map_window(
    ensemble: PastScenesEnsemble,
    catalog: Catalog,
    root: object,
    window: EaseWindow,
    time: str,
    *,
    detail: str = "cautious",
) -> xr.Dataset:
    """Map a window of 36 km cells at the overpasses nearest to a time, from an archive's granules (`GRANULE_IDS`).

    Returns
    -------
    xarray.Dataset
        As `CellEstimator.estimate`, ``(y, x)``, one ``time``, NaN in cells without an overpass within a day.
    """
    names = {"variables": list(_NEEDED)}
    scenes = catalog.open(GRANULE_IDS[0], root, region=window.on(M03), resolution="3km", flag_policy="none", **names)
    options = {"overpass": "both", "flag_policy": "retrieved", "option": "sca-v"}
    series = catalog.open(GRANULE_IDS[1], root, region=window.on(M09), **options, **names)
    asked, records = np.array([time], "datetime64[ns]"), granule_records(scenes, series)
    canvas = {name: np.full(window.on(M03).shape, np.nan, "float32") for name in ("", "_low90", "_high90")}
    for record in records:
        there, overpass = overpasses_near(record, asked)
        if not there[0]:
            continue
        found = CellEstimator(ensemble, record).estimate(overpass, np.minimum(asked, overpass), detail=detail)
        rows, cols = window.on(M03).slices_of(record.window.on(M03))
        for name, image in canvas.items():
            image[rows, cols] = found[f"soil_moisture{name}"].values[0]
    attrs = {"units": "m3 m-3", "grid_mapping": "crs"}
    images = {
        f"soil_moisture{name}": (("y", "x"), image, attrs | {"long_name": f"soil moisture{name}".replace("_", ", ")})
        for name, image in canvas.items()
    }
    dataset = xr.Dataset(images, {"time": asked[0], **window.on(M03).coords()}, {"detail": detail})
    step = f"map_window: {len(records)} cells at {time}, detail {detail}"
    return stamp(dataset, step=step, source="smnb smap_s1_3km", synthetic=bool(int(scenes.attrs["synthetic"])))
