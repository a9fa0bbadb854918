"""SMAP level 2: half-orbit radiometer soil moisture, 36 km (SPL2SMP) and 9 km (SPL2SMP_E), a list of cells a granule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from smnb.contract import check_dataset, stamp
from smnb.grids import EaseWindow
from smnb.loaders.smap.cells import Listed, build_cells, list_cells, read_indices
from smnb.loaders.smap.fields import ALGORITHMS, PASSIVE
from smnb.loaders.smap.granules import PRODUCTS, check_short_name, group_of, list_granules, open_h5, resolve_window
from smnb.loaders.smap.reading import count_masks
from smnb.loaders.smap.selection import Selection, passive_algorithm, passive_names

_GROUP = "Soil_Moisture_Retrieval_Data"


def open_l2(
    paths: Sequence[str | Path],
    *,
    catalog_id: str,
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
    catalog_id : str
        The catalog's entry.
    synthetic : bool
        Whether the data were simulated.
    start, end : str, optional
        First and last start of a half orbit, UTC, inclusive.
    region : (west, south, east, north) or EaseWindow, optional
        Cells whose centres are inside the box, degrees; default the smallest window that holds all cells, which for a
        half orbit is nearly the globe.
    variables, option, flag_policy, tb_policy, exclude_surface, count
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
    selection = Selection(who, PASSIVE, "passive", variables, flag_policy, tb_policy, exclude_surface)
    granules = list_granules(who, paths, ("SPL2SMP", "SPL2SMP_E"), start, end)
    grid = PRODUCTS[granules[0].product].grid
    area = resolve_window(who, grid, region)
    algorithm = passive_algorithm(who, granules, option)
    listed = []
    for granule in granules:
        where = f"{who}({granule.path.name})"
        with open_h5(who, granule.path) as file:
            check_short_name(who, granule, file)
            group = group_of(who, granule, file, _GROUP)
            cells = list_cells(where, grid, *read_indices(where, group, ("EASE_row_index", "EASE_column_index")), area)
            renamed = (
                passive_names(who, granule, group, "", option, algorithm) if "soil_moisture" in selection.tests else {}
            )
            roles = selection.find(granule, group, "", cells.shape, renamed=renamed, suffixes=ALGORITHMS[algorithm])
        listed.append(Listed(granule, f"/{_GROUP}", (cells,), roles))
    dataset = build_cells(selection, grid, area, listed)
    dataset["time"].attrs["long_name"] = "start of the half orbit, UTC"
    dataset.attrs |= {"soil_moisture_option": option, "soil_moisture_algorithm": algorithm}
    n_times = dataset.sizes["time"]
    stamp(
        dataset,
        source=f"SMAP L2 radiometer half orbits, {granules[0].product}",
        catalog_id=catalog_id,
        synthetic=synthetic,
        step=f"{who}: {n_times} granules ({len(granules) - n_times} others have no cell in the region), "
        f"{EaseWindow.from_dataset(dataset)}, option {option} ({algorithm}), flag_policy {flag_policy}",
    )
    dataset = count_masks(dataset) if count and "n_masked" in dataset else dataset
    return check_dataset(dataset, who=who, require=tuple(v.name for v in selection.present()))
