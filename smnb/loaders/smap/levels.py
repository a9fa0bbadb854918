"""SMAP granules as lazy Datasets: days (level 3), half orbits and SMAP/Sentinel-1 scenes (level 2).

Of SPL2SMAP_S version 3 is read in full. Version 2 has other names: its overpass time difference is read, while the retrieval of
the closest overpass ("apm") is refused, since its EASE-Grid indices are not counted from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from smnb.contract import FormatError, ParameterError, check_choice
from smnb.grids import M01, M03, EaseGrid, EaseWindow
from smnb.loaders import check_present, finish
from smnb.loaders.smap.fields import ACTIVE_PASSIVE, ALGORITHMS, OPTIONS, PASSIVE, baseline_algorithm
from smnb.loaders.smap.granules import Granule, Selection, group_of, list_granules, open_granule, resolve_window, whole
from smnb.loaders.smap.reading import Cells, Piece, build, build_listed

_GROUP = "Soil_Moisture_Retrieval_Data"
_RESOLUTIONS = {"3km": M03, "1km": M01}  # grids of SPL2SMAP_S by the suffix of its groups and fields


def _layout(where: str, file: h5py.File, overpass: str) -> tuple[h5py.Group, str]:
    """Group and suffix of an overpass; the releases up to version 3 have one group, of the morning."""
    if f"{_GROUP}_AM" not in file and f"{_GROUP}_PM" not in file and _GROUP in file:
        if overpass == "pm":
            what, step = "this old release has no evening overpass", "Pass overpass='am', or download a newer release"
            raise ParameterError(where, what, got=overpass, expected=["am"], next_step=step)
        return group_of(where, file, _GROUP), ""
    return group_of(where, file, f"{_GROUP}_{overpass.upper()}"), "_pm" if overpass == "pm" else ""


def _algorithm(who: str, granules: Sequence[Granule], option: str) -> str:
    """The algorithm of an option for all granules."""
    check_choice(who, "option", option, OPTIONS)
    if option != "baseline":
        return option
    algorithms = {baseline_algorithm(granule.release): granule.path.name for granule in granules}
    if len(algorithms) > 1:
        what = "the granules' releases have two baseline algorithms"
        next_step = "Open one release, or name the algorithm: option='sca-v' or option='dca'"
        raise FormatError(who, what, got=algorithms, next_step=next_step)
    return next(iter(algorithms))


def _find_passive(
    selection: Selection,
    granule: Granule,
    group: h5py.Group,
    suffix: str,
    shape: tuple[int, ...],
    option: str,
    algorithm: str,
) -> dict[tuple[str, str], str]:
    """Names of the fields in a passive granule, soil moisture and its flag those of the option."""
    where, renamed = f"{selection.who}({granule.path.name})", {}
    if "soil_moisture" in selection.tests:
        endings = [""] if option == "baseline" else list(ALGORITHMS[algorithm])
        if option == baseline_algorithm(granule.release):
            endings.append("")  # older files hold it under the plain name only
        ending = next((one for one in endings if f"soil_moisture{one}{suffix}" in group), None)
        if ending is None:
            what = f"there is no soil moisture of option {option!r}"
            got = sorted(name for name in group if name.startswith("soil_moisture") and "error" not in name)
            expected = [f"soil_moisture{one}{suffix}" for one in endings]
            next_step = "Choose an option that the release has; without soil moisture, leave it out of 'variables'"
            raise FormatError(where, what, got=got, expected=expected, next_step=next_step)
        renamed = {name: f"{name}{ending}" for name in ("soil_moisture", "retrieval_qual_flag")}
    return selection.find(where, group, suffix, shape, renamed, ALGORITHMS[algorithm])


def open_l3(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
    region: Sequence[float] | EaseWindow | None = None,
    overpass: str = "am",
    variables: Sequence[str] | None = None,
    option: str = "baseline",
    flag_policy: str = "recommended",
    tb_policy: str = "acceptable",
    exclude_surface: Sequence[str] = (),
) -> xr.Dataset:
    """Open SPL3SMP or SPL3SMP_E days as one lazy Dataset on the global EASE-Grid 2.0.

    The polar groups that newer files have beside the global ones are left aside.

    Parameters
    ----------
    paths : sequence of path-like
        Files of one of the two products, one a day, with NSIDC's names, or folders of them.
    start, end : str, optional
        First and last day, inclusive. Files of other days are not opened.
    region : (west, south, east, north) or EaseWindow, optional
        Cells whose centres are inside the box, degrees; default the globe. Only its hyperslab is read.
    overpass : {"am", "pm", "both"}
        Descending (6 h local) or ascending (18 h); "both" gives a dimension ``overpass``.
    variables : sequence of str, optional
        Default all of `smnb.loaders.smap.fields.PASSIVE` that the files have. Others are never read.
    option : {"baseline", "sca-h", "sca-v", "dca"}
        The retrieval: the product's baseline (SCA-V before R18, DCA since), or an algorithm by name. Vegetation opacity,
        albedo and roughness are that algorithm's where the files have them (see ``native_name``).
    flag_policy : {"recommended", "retrieved", "none"}
        Which soil moistures to keep by ``retrieval_qual_flag``: of recommended quality; attempted and successful; all.
    tb_policy : {"acceptable", "none"}
        Whether brightness temperatures whose ``tb_qual_flag`` has its first bit set are masked.
    exclude_surface : sequence of str
        Meanings of ``surface_flag`` ("frozen_model", "dense_vegetation", …) where soil moisture is masked as well.

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(time, [overpass,] y, x)`` m3 m-3, ``tb(time, [overpass,] channel, y, x)`` K, and so on, float32,
        dask; flags are uint16 with CF ``flag_masks`` and ``flag_meanings``, ``landcover_class`` uint8, ``observation_time``
        datetime64, UTC. `time` is the nominal UTC day; `y` descends. ``n_masked(time, [overpass,] masked_variable, reason)``
        counts what became NaN (`count_masks`). Attribute ``absent_variables`` (JSON): default variables that some file lacks.

    Raises
    ------
    FormatError
        If a granule is of another product, truncated, lacks the group or a field, or has another shape; two granules
        are of one day; two products are mixed; or releases of two baselines. Damage inside a file shows when it is read.
    ParameterError, CatalogError
        For a region that crosses the date line, leaves the grid, or holds no cell; if the period holds no granule.
    """
    who = "open_l3"
    check_choice(who, "overpass", overpass, ("am", "pm", "both"))
    selection = Selection(who, PASSIVE, variables, flag_policy, tb_policy, exclude_surface)
    granules = list_granules(who, paths, ("SPL3SMP", "SPL3SMP_E"), start, end)
    grid = granules[0].grid
    window = resolve_window(who, grid, region) or grid.everything
    algorithm = _algorithm(who, granules, option)
    passes = ("am", "pm") if overpass == "both" else (overpass,)
    pieces = np.empty((len(granules), len(passes)), dtype=object)
    for i, granule in enumerate(granules):
        with open_granule(who, granule) as file:
            for k, which in enumerate(passes):
                group, suffix = _layout(f"{who}({granule.path.name})", file, which)
                natives = _find_passive(selection, granule, group, suffix, grid.shape, option, algorithm)
                pieces[i, k] = Piece(granule, group.name, natives)
    dataset = build(selection, window, pieces if overpass == "both" else pieces[:, 0])
    local = {"long_name": "am descending, 6 h local time; pm ascending, 18 h"}
    dataset = dataset.assign_coords(
        time=("time", [g.start for g in granules], {"long_name": "day of observation, UTC", "standard_name": "time"}),
        overpass=("overpass", list(passes), local) if overpass == "both" else ((), overpass, local),
    )
    dataset.attrs = {**selection.attrs(granules), "soil_moisture_option": option, "soil_moisture_algorithm": algorithm}
    step = (
        f"{len(granules)} days, {window}, overpass {overpass}, option {option} ({algorithm}), "
        f"flag_policy {flag_policy}; polar groups left aside"
    )
    source, names = f"SMAP L3 radiometer, {granules[0].product}", [variable.name for variable in selection.present()]
    return finish(dataset, who, catalog_id, synthetic, source, step, names)


def _cells(
    selection: Selection, granule: Granule, group: h5py.Group, grid: EaseGrid, ending: str, area: EaseWindow | None
) -> Cells:
    """The cells of a granule that lists them, by its index fields of this ending."""
    where, names = f"{selection.who}({granule.path.name})", [f"EASE_{axis}_index{ending}" for axis in ("row", "column")]
    check_present(where, names, group)
    return Cells.find(where, grid, *(whole(where, group[name]) for name in names), area)


def _finish_listed(
    dataset: xr.Dataset, selection: Selection, n: int, catalog_id: str, synthetic: bool, source: str, step: str
) -> xr.Dataset:
    """As `finish`, with what was found of `n` granules that list cells."""
    n_times, names = dataset.sizes["time"], [variable.name for variable in selection.present()]
    found = f"{n_times} granules ({n - n_times} others have no cell in the region), {EaseWindow.from_dataset(dataset)}"
    return finish(dataset, selection.who, catalog_id, synthetic, source, f"{found}, {step}", names)


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
) -> xr.Dataset:
    """Open SPL2SMP or SPL2SMP_E half orbits as one lazy Dataset on the global EASE-Grid 2.0, one time a granule.

    Granules overlap towards the poles; they are kept apart, each at its own time. The polar group of SPL2SMP_E is left
    aside. Finding the cells reads the granules' indices at once, and nothing else.

    Parameters
    ----------
    start, end : str, optional
        First and last start of a half orbit, UTC, inclusive.
    region : (west, south, east, north) or EaseWindow, optional
        Default the smallest window that holds all cells, which for a half orbit is nearly the globe.
    paths, catalog_id, synthetic, variables, option, flag_policy, tb_policy, exclude_surface
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
    FormatError, ParameterError, CatalogError
        As `open_l3`; and if a granule has a cell twice or indices outside the grid, two granules start at one time, or none has a
        cell in the region.
    """
    who = "open_l2"
    selection = Selection(who, PASSIVE, variables, flag_policy, tb_policy, exclude_surface)
    granules = list_granules(who, paths, ("SPL2SMP", "SPL2SMP_E"), start, end)
    grid = granules[0].grid
    area = resolve_window(who, grid, region)
    algorithm = _algorithm(who, granules, option)
    pieces = np.empty(len(granules), dtype=object)
    for i, granule in enumerate(granules):
        with open_granule(who, granule) as file:
            group = group_of(f"{who}({granule.path.name})", file, _GROUP)
            cells = _cells(selection, granule, group, grid, "", area)
            natives = _find_passive(selection, granule, group, "", cells.shape, option, algorithm)
            pieces[i] = Piece(granule, group.name, natives, cells)
    dataset = build_listed(selection, grid, area, pieces)
    dataset["time"].attrs["long_name"] = "start of the half orbit, UTC"
    dataset.attrs |= {"soil_moisture_option": option, "soil_moisture_algorithm": algorithm}
    step = f"option {option} ({algorithm}), flag_policy {flag_policy}"
    source = f"SMAP L2 radiometer half orbits, {granules[0].product}"
    return _finish_listed(dataset, selection, len(granules), catalog_id, synthetic, source, step)


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
        what, expected = f"there is no soil moisture of option {option!r}", f"soil_moisture{ending}{suffix}"
        step = "Check the release: names differ before version 3; without soil moisture, leave it out of 'variables'"
        raise FormatError(where, what, got=there, expected=expected, next_step=step)
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
) -> xr.Dataset:
    """Open SPL2SMAP_S scenes as one lazy Dataset on the 3 or 1 km EASE-Grid 2.0, one time a scene of Sentinel-1.

    Parameters
    ----------
    paths, start, end, region
        As `open_l2`; first and last overpass of Sentinel-1.
    resolution : {"3km", "1km"}
        Which of the granules' two groups.
    variables : sequence of str, optional
        Default all of `smnb.loaders.smap.fields.ACTIVE_PASSIVE` that the granules have.
    option : {"baseline", "apm"}
        The retrieval where the overpasses of SMAP and Sentinel-1 overlap, or with the closest SMAP overpass of either
        half of the day. The latter has a quality flag of its own in no granule that is known to us: where there is none,
        pass ``flag_policy="none"``.
    catalog_id, synthetic, flag_policy, exclude_surface
        As `open_l3`; the surface's conditions are those of this product ("edge_cell", "anomalous_sigma0", …).

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(time, y, x)`` m3 m-3, ``tb(time, channel, y, x)`` K (disaggregated, V), ``sigma0(time,
        polarization, y, x)`` dB (from linear power, zero and less masked), ``incidence_angle`` degree and so on, as
        `open_l2`. `time` is the Sentinel-1 overpass in the granule's name, ``observation_time`` that of SMAP.

    Raises
    ------
    FormatError, ParameterError, CatalogError
        As `open_l2`; and for the retrieval of the closest overpass in version 2, or scenes too far apart.
    """
    who = "open_l2_active_passive"
    check_choice(who, "resolution", resolution, _RESOLUTIONS)
    check_choice(who, "option", option, ("baseline", "apm"))
    selection = Selection(
        who, ACTIVE_PASSIVE, variables, flag_policy, exclude_surface=exclude_surface, family="active_passive"
    )
    granules = list_granules(who, paths, ("SPL2SMAP_S",), start, end)
    grid, suffix = _RESOLUTIONS[resolution], f"_{resolution}"
    area = resolve_window(who, grid, region)
    pieces = np.empty(len(granules), dtype=object)
    for i, granule in enumerate(granules):
        where = f"{who}({granule.path.name})"
        with open_granule(who, granule) as file:
            group = group_of(where, file, f"{_GROUP}{suffix}")
            renamed = _scene_names(where, group, suffix, option) if "soil_moisture" in selection.tests else {}
            # the closest overpass may have indices of its own
            ending = f"_apm{suffix}" if option == "apm" and f"EASE_row_index_apm{suffix}" in group else suffix
            cells = _cells(selection, granule, group, grid, ending, area)
            natives = selection.find(where, group, suffix, cells.shape, renamed)
            pieces[i] = Piece(granule, group.name, natives, cells)
    dataset = build_listed(selection, grid, area, pieces)
    dataset["time"].attrs["long_name"] = "overpass of Sentinel-1, UTC"
    del dataset.attrs["tb_policy"]  # the meanings of the flag of disaggregated tb are not known well enough for one
    dataset.attrs |= {"soil_moisture_option": option, "resolution": resolution}
    step = f"option {option}, flag_policy {flag_policy}; sigma0 from power to dB"
    source = "SMAP/Sentinel-1 L2 radiometer/radar, SPL2SMAP_S"
    return _finish_listed(dataset, selection, len(granules), catalog_id, synthetic, source, step)
