"""SMAP/Sentinel-1 level 2 (SPL2SMAP_S): soil moisture at 3 and 1 km in scenes of Sentinel-1, with its backscatter.

Version 3 is read in full. Version 2 has other names: its overpass time difference is read, while the retrieval of the
closest overpass ("apm") is refused, since its EASE-Grid indices are not counted from 0.

References
----------
Das et al. 2019, The SMAP and Copernicus Sentinel 1A/B microwave active-passive high resolution surface soil moisture
product, doi:10.1016/j.rse.2019.111380; the product, doi:10.5067/ASB0EQO2LYJV.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import xarray as xr

from smnb.contract import FormatError, check_dataset, stamp
from smnb.grids import EaseWindow
from smnb.loaders.smap.cells import Listed, build_cells, list_cells, read_indices
from smnb.loaders.smap.fields import ACTIVE_PASSIVE
from smnb.loaders.smap.granules import RESOLUTIONS, check_short_name, group_of, list_granules, open_h5, resolve_window
from smnb.loaders.smap.reading import count_masks
from smnb.loaders.smap.selection import Selection, check_option

_OPTIONS = ("baseline", "apm")


def _index_names(group: h5py.Group, suffix: str, option: str) -> tuple[str, str]:
    """Names of the index fields of a retrieval: the closest overpass may have its own."""
    own = (f"EASE_row_index_apm{suffix}", f"EASE_column_index_apm{suffix}")
    if option == "apm" and all(name in group for name in own):
        return own
    return f"EASE_row_index{suffix}", f"EASE_column_index{suffix}"


def _names(where: str, group: h5py.Group, suffix: str, option: str) -> dict[str, str]:
    """Names of soil moisture and its flag; refuses what only older versions call so."""
    there = sorted(name for name in group if "soil_moisture" in name)
    second = f"SMAP_Sentinel_overpass_timediff_hr{suffix}" in group
    if option == "apm" and (second or f"disagg_soil_moisture_apm{suffix}" in group):
        raise FormatError(
            where,
            "the apm retrieval of version 2 is not read: its EASE-Grid indices are not counted from 0",
            got=there,
            expected=f"soil_moisture_apm{suffix} of version 3",
            next_step="Download version 3 of SPL2SMAP_S, or pass option='baseline'",
        )
    ending = "" if option == "baseline" else "_apm"
    base = f"soil_moisture{ending}"
    if f"{base}{suffix}" not in group:
        raise FormatError(
            where,
            f"there is no soil moisture of option {option!r}",
            got=there,
            expected=f"{base}{suffix}",
            next_step="Check the release: names differ before version 3; without soil moisture, leave it out of 'variables'",
        )
    others = ("soil_moisture_std_dev", "retrieval_qual_flag")
    return {"soil_moisture": base} | {name: f"{name}{ending}" for name in others}


def open_l2_active_passive(
    paths: Sequence[str | Path],
    *,
    catalog_id: str,
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
    catalog_id : str
        The catalog's entry.
    synthetic : bool
        Whether the data were simulated.
    start, end : str, optional
        First and last Sentinel-1 overpass, UTC, inclusive.
    region : (west, south, east, north) or EaseWindow, optional
        Cells whose centres are inside the box, degrees; default the smallest window that holds all scenes.
    resolution : {"3km", "1km"}
        Which of the granules' two groups.
    variables : sequence of str, optional
        Default all of `smnb.loaders.smap.ACTIVE_PASSIVE_VARIABLES` that the granules have.
    option : {"baseline", "apm"}
        The retrieval where the overpasses of SMAP and Sentinel-1 overlap, or with the closest SMAP overpass of either
        half of the day. The latter has a quality flag of its own in no granule that is known to us: where there is none,
        pass ``flag_policy="none"``.
    flag_policy, exclude_surface, count
        As `open_l3`; the surface's conditions are those of this product ("edge_cell", "anomalous_sigma0", …).

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(time, y, x)`` m3 m-3, ``tb(time, channel, y, x)`` K (disaggregated, V), ``sigma0(time,
        polarization, y, x)`` dB (from linear power, zero and less masked), ``incidence_angle`` degree and so on, as
        `open_l3`. `time` is the Sentinel-1 overpass in the granule's name, ``observation_time`` that of SMAP.
        ``granules_without_cells`` (JSON) lists scenes outside the region.

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
    check_option(who, "resolution", resolution, list(RESOLUTIONS))
    check_option(who, "option", option, _OPTIONS)
    selection = Selection(who, ACTIVE_PASSIVE, "active_passive", variables, flag_policy, "none", exclude_surface)
    granules = list_granules(who, paths, ("SPL2SMAP_S",), start, end)
    grid, suffix = RESOLUTIONS[resolution], f"_{resolution}"
    area = resolve_window(who, grid, region)
    listed = []
    for granule in granules:
        where = f"{who}({granule.path.name})"
        with open_h5(who, granule.path) as file:
            check_short_name(who, granule, file)
            group = group_of(who, granule, file, f"Soil_Moisture_Retrieval_Data{suffix}")
            renamed = _names(where, group, suffix, option) if "soil_moisture" in selection.tests else {}
            row, col = read_indices(where, group, _index_names(group, suffix, option))
            cells = list_cells(where, grid, row, col, area)
            roles = selection.find(granule, group, suffix, cells.shape, renamed=renamed)
            listed.append(Listed(granule, group.name, (cells,), roles))
    dataset = build_cells(selection, grid, area, listed)
    dataset["time"].attrs["long_name"] = "overpass of Sentinel-1, UTC"
    del dataset.attrs["tb_policy"]  # the meanings of the flag of disaggregated tb are not known well enough for one
    dataset.attrs |= {"soil_moisture_option": option, "resolution": resolution}
    n_times = dataset.sizes["time"]
    stamp(
        dataset,
        source="SMAP/Sentinel-1 L2 radiometer/radar, SPL2SMAP_S",
        catalog_id=catalog_id,
        synthetic=synthetic,
        step=f"{who}: {n_times} scenes ({len(granules) - n_times} others have no cell in the region), "
        f"{EaseWindow.from_dataset(dataset)}, option {option}, flag_policy {flag_policy}; sigma0 from power to dB",
    )
    dataset = count_masks(dataset) if count and "n_masked" in dataset else dataset
    return check_dataset(dataset, who=who, require=tuple(v.name for v in selection.present()))
