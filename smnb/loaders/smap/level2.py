"""SMAP granules that list their cells, one time a granule: half orbits and SMAP/Sentinel-1 scenes.

Of SPL2SMAP_S version 3 is read in full. Version 2 has other names: its overpass time difference is read, while the retrieval of
the closest overpass ("apm") is refused, since its EASE-Grid indices are not counted from 0.

References
----------
Das et al. 2019, The SMAP and Copernicus Sentinel 1A/B microwave active-passive high resolution surface soil moisture
product, doi:10.1016/j.rse.2019.111380; the product, doi:10.5067/ASB0EQO2LYJV.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import CatalogError, FormatError, ParameterError, check_choice, plain
from smnb.grids import EaseGrid, EaseWindow
from smnb.loaders import check_present
from smnb.loaders.smap.fields import ACTIVE_PASSIVE, PASSIVE
from smnb.loaders.smap.granules import (
    PRODUCTS,
    RESOLUTIONS,
    Selection,
    group_of,
    list_granules,
    open_granule,
    resolve_window,
)
from smnb.loaders.smap.level3 import find_passive, finish_selected, passive_algorithm
from smnb.loaders.smap.reading import Cells, Piece, build

#: Cells of a window that is not worth building: 50 million, 200 MB of float32 each field and time.
_MOST_CELLS = 50_000_000
_GROUP = "Soil_Moisture_Retrieval_Data"


def _window_of(who: str, grid: EaseGrid, lists: Sequence[Cells], region: EaseWindow | None) -> EaseWindow:
    """The region's window, or else the smallest that holds all cells."""
    seen = [cells for cells in lists if cells.take.size]
    if not seen:
        what = "no granule has a cell in the region" if region else "the granules hold no cell"
        got = plain(f"{len(lists)} granules, {region}")
        raise CatalogError(who, what, got=got, next_step="Check the region, or open other granules")
    if region is None:
        row = np.concatenate([[cells.row.min(), cells.row.max()] for cells in seen])
        col = np.concatenate([[cells.col.min(), cells.col.max()] for cells in seen])
        region = grid.window_of(row, col)
    if region.shape[0] * region.shape[1] > _MOST_CELLS:
        what = "the window that holds all cells is too large"
        next_step = "Pass a smaller region, or fewer granules"
        raise ParameterError(who, what, got=region, expected=f"<= {_MOST_CELLS} cells", next_step=next_step)
    return region


def build_listed(
    selection: Selection,
    grid: EaseGrid,
    region: EaseWindow | None,
    pieces: NDArray[np.object_],
    *,
    keep_empty: bool = False,
) -> xr.Dataset:
    """The lazy Dataset of pieces by time, or by time and list, with ``time`` and ``granule``.

    Granules without a cell in the region are left out, unless `keep_empty`, and named in ``granules_without_cells`` (JSON).
    """
    flat = list(pieces.ravel())
    window = _window_of(selection.who, grid, [piece.cells for piece in flat], region)
    full = np.array([piece.cells.take.size > 0 for piece in flat]).reshape(len(pieces), -1).any(axis=1)
    granules = [np.ravel(one)[0].granule for one in pieces]
    kept = [granule for granule, is_full in zip(granules, full, strict=True) if is_full or keep_empty]
    empty = [granule.path.name for granule, is_full in zip(granules, full, strict=True) if not is_full]
    dataset = build(selection, window, pieces if keep_empty else pieces[full])
    dataset.attrs = {
        **selection.attrs(kept),
        "granules_without_cells": json.dumps(empty),
        "cells_without_index": sum(piece.cells.without_index for piece in flat),
    }
    return dataset.assign_coords(
        time=("time", np.array([granule.start for granule in kept]), {"standard_name": "time"}),
        granule=("time", [granule.path.name for granule in kept], {"long_name": "granule"}),
    )


def _told(dataset: xr.Dataset, n_granules: int) -> str:
    """For the history: how many granules were read, and their window."""
    n_times = dataset.sizes["time"]
    others = f"({n_granules - n_times} others have no cell in the region)"
    return f"{n_times} granules {others}, {EaseWindow.from_dataset(dataset)}"


def _indices(where: str, group: h5py.Group, names: Sequence[str]) -> tuple[NDArray, NDArray]:
    """The two index fields of a granule's group."""
    check_present(where, names, group)
    return group[names[0]][()], group[names[1]][()]


def open_l2(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
    region: Sequence[float] | EaseWindow | None = None,
    variables: Sequence[str] | None = None,
    option: str = "baseline",
    flag_policy: str = "recommended",
    tb_policy: str = "acceptable",
    exclude_surface: Sequence[str] = (),
    count: bool = False,
) -> xr.Dataset:
    """Open SPL2SMP or SPL2SMP_E half orbits as one lazy Dataset on the global EASE-Grid 2.0, one time a granule.

    Granules overlap towards the poles; they are kept apart, each at its own time. The polar group of SPL2SMP_E is left
    aside. Finding the cells reads the granules' indices at once, and nothing else.

    Parameters
    ----------
    paths : sequence of path-like
        Granules of one of the two products, with NSIDC's names, or folders of them.
    start, end : str, optional
        First and last start of a half orbit, UTC, inclusive.
    region : (west, south, east, north) or EaseWindow, optional
        Cells whose centres are inside the box, degrees; default the smallest window that holds all cells, which for a
        half orbit is nearly the globe.
    catalog_id, synthetic, variables, option, flag_policy, tb_policy, exclude_surface, count
        As `open_l3`.

    Returns
    -------
    xarray.Dataset
        As `open_l3`, without overpass; `time` is the start of the half orbit as in the granule's name, and the
        coordinate ``granule(time)`` that name. A cell that is not in a granule is NaN (flags: their fill value) and not
        counted in ``n_masked``. Granules without a cell in the region are left out and listed in
        ``granules_without_cells`` (JSON).

    Raises
    ------
    FormatError
        As `open_l3`; and if a granule has a cell twice or indices outside the grid, or two granules start at one time.
    ParameterError
        For an unknown option, or a region that crosses the date line or leaves the grid.
    CatalogError
        If the period holds no granule, or none has a cell in the region.
    """
    who = "open_l2"
    selection = Selection(who, PASSIVE, variables, flag_policy, tb_policy, exclude_surface)
    granules = list_granules(who, paths, ("SPL2SMP", "SPL2SMP_E"), start, end)
    grid = PRODUCTS[granules[0].product].grid
    area = resolve_window(who, grid, region)
    algorithm = passive_algorithm(who, granules, option)
    pieces = np.empty(len(granules), dtype=object)
    for i, granule in enumerate(granules):
        where = f"{who}({granule.path.name})"
        with open_granule(who, granule) as file:
            group = group_of(where, file, _GROUP)
            row, col = _indices(where, group, ("EASE_row_index", "EASE_column_index"))
            natives = find_passive(selection, granule, group, "", row.shape, option, algorithm)
        pieces[i] = Piece(granule, f"/{_GROUP}", natives, Cells.find(where, grid, row, col, area))
    dataset = build_listed(selection, grid, area, pieces)
    dataset["time"].attrs["long_name"] = "start of the half orbit, UTC"
    dataset.attrs |= {"soil_moisture_option": option, "soil_moisture_algorithm": algorithm}
    step = f"{_told(dataset, len(granules))}, option {option} ({algorithm}), flag_policy {flag_policy}"
    source = f"SMAP L2 radiometer half orbits, {granules[0].product}"
    return finish_selected(dataset, selection, catalog_id, synthetic, source, step, count)


def _scene_names(where: str, group: h5py.Group, suffix: str, option: str) -> dict[str, str]:
    """Names of soil moisture and its flag in a scene; refuses what only older versions call so."""
    there = sorted(name for name in group if "soil_moisture" in name)
    second = f"SMAP_Sentinel_overpass_timediff_hr{suffix}" in group
    if option == "apm" and (second or f"disagg_soil_moisture_apm{suffix}" in group):
        what = "the apm retrieval of version 2 is not read: its EASE-Grid indices are not counted from 0"
        expected = f"soil_moisture_apm{suffix} of version 3"
        next_step = "Download version 3 of SPL2SMAP_S, or pass option='baseline'"
        raise FormatError(where, what, got=there, expected=expected, next_step=next_step)
    ending = "" if option == "baseline" else "_apm"
    if f"soil_moisture{ending}{suffix}" not in group:
        raise FormatError(
            where,
            f"there is no soil moisture of option {option!r}",
            got=there,
            expected=f"soil_moisture{ending}{suffix}",
            next_step="Check the release: names differ before version 3; without soil moisture, leave it out of 'variables'",
        )
    return {name: f"{name}{ending}" for name in ("soil_moisture", "soil_moisture_std_dev", "retrieval_qual_flag")}


def open_l2_active_passive(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
    region: Sequence[float] | EaseWindow | None = None,
    resolution: str = "3km",
    variables: Sequence[str] | None = None,
    option: str = "baseline",
    flag_policy: str = "recommended",
    exclude_surface: Sequence[str] = (),
    count: bool = False,
) -> xr.Dataset:
    """Open SPL2SMAP_S scenes as one lazy Dataset on the 3 or 1 km EASE-Grid 2.0, one time a scene of Sentinel-1.

    Parameters
    ----------
    paths : sequence of path-like
        Granules with NSIDC's names, or folders of them.
    start, end : str, optional
        First and last Sentinel-1 overpass, UTC, inclusive.
    region : (west, south, east, north) or EaseWindow, optional
        Cells whose centres are inside the box, degrees; default the smallest window that holds all scenes.
    resolution : {"3km", "1km"}
        Which of the granules' two groups.
    variables : sequence of str, optional
        Default all of `smnb.loaders.smap.fields.ACTIVE_PASSIVE` that the granules have.
    option : {"baseline", "apm"}
        The retrieval where the overpasses of SMAP and Sentinel-1 overlap, or with the closest SMAP overpass of either
        half of the day. The latter has a quality flag of its own in no granule that is known to us: where there is none,
        pass ``flag_policy="none"``.
    catalog_id, synthetic, flag_policy, exclude_surface, count
        As `open_l3`; the surface's conditions are those of this product ("edge_cell", "anomalous_sigma0", …).

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(time, y, x)`` m3 m-3, ``tb(time, channel, y, x)`` K (disaggregated, V), ``sigma0(time,
        polarization, y, x)`` dB (from linear power, zero and less masked), ``incidence_angle`` degree and so on, as
        `open_l2`. `time` is the Sentinel-1 overpass in the granule's name, ``observation_time`` that of SMAP.

    Raises
    ------
    FormatError
        As `open_l2`; and for the retrieval of the closest overpass in version 2.
    ParameterError
        For an unknown option, a region that crosses the date line or leaves the grid, or scenes too far apart.
    CatalogError
        If the period holds no granule, or none has a cell in the region.
    """
    who = "open_l2_active_passive"
    check_choice(who, "resolution", resolution, list(RESOLUTIONS))
    check_choice(who, "option", option, ("baseline", "apm"))
    selection = Selection(
        who, ACTIVE_PASSIVE, variables, flag_policy, exclude_surface=exclude_surface, family="active_passive"
    )
    granules = list_granules(who, paths, ("SPL2SMAP_S",), start, end)
    grid, suffix = RESOLUTIONS[resolution], f"_{resolution}"
    area = resolve_window(who, grid, region)
    pieces = np.empty(len(granules), dtype=object)
    for i, granule in enumerate(granules):
        where = f"{who}({granule.path.name})"
        with open_granule(who, granule) as file:
            group = group_of(where, file, f"{_GROUP}{suffix}")
            renamed = _scene_names(where, group, suffix, option) if "soil_moisture" in selection.tests else {}
            # the closest overpass may have indices of its own
            ending = f"_apm{suffix}" if option == "apm" and f"EASE_row_index_apm{suffix}" in group else suffix
            row, col = _indices(where, group, (f"EASE_row_index{ending}", f"EASE_column_index{ending}"))
            natives = selection.find(where, group, suffix, row.shape, renamed)
            pieces[i] = Piece(granule, group.name, natives, Cells.find(where, grid, row, col, area))
    dataset = build_listed(selection, grid, area, pieces)
    dataset["time"].attrs["long_name"] = "overpass of Sentinel-1, UTC"
    del dataset.attrs["tb_policy"]  # the meanings of the flag of disaggregated tb are not known well enough for one
    dataset.attrs |= {"soil_moisture_option": option, "resolution": resolution}
    step = f"{_told(dataset, len(granules))}, option {option}, flag_policy {flag_policy}; sigma0 from power to dB"
    source = "SMAP/Sentinel-1 L2 radiometer/radar, SPL2SMAP_S"
    return finish_selected(dataset, selection, catalog_id, synthetic, source, step, count)
