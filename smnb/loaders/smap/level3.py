"""SMAP level 3: daily global radiometer soil moisture, 36 km (SPL3SMP) and 9 km (SPL3SMP_E); what the passive products share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from smnb.contract import FormatError, ParameterError, check_choice
from smnb.grids import EaseWindow
from smnb.loaders import finish
from smnb.loaders.smap.fields import ALGORITHMS, OPTIONS, PASSIVE, baseline_algorithm
from smnb.loaders.smap.granules import (
    PRODUCTS,
    Granule,
    Selection,
    group_of,
    list_granules,
    open_granule,
    resolve_window,
)
from smnb.loaders.smap.reading import Piece, build, count_masks

_GROUP = "Soil_Moisture_Retrieval_Data"


def _layout(where: str, file: h5py.File, overpass: str) -> tuple[h5py.Group, str]:
    """Group and suffix of an overpass; the releases up to version 3 have one group, of the morning."""
    if f"{_GROUP}_AM" not in file and f"{_GROUP}_PM" not in file and _GROUP in file:
        if overpass == "pm":
            what = "this old release has no evening overpass"
            next_step = "Pass overpass='am', or download a newer release"
            raise ParameterError(where, what, got=overpass, expected=["am"], next_step=next_step)
        return group_of(where, file, _GROUP), ""
    return group_of(where, file, f"{_GROUP}_{overpass.upper()}"), "_pm" if overpass == "pm" else ""


def passive_algorithm(who: str, granules: Sequence[Granule], option: str) -> str:
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


def find_passive(
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


def finish_selected(
    dataset: xr.Dataset, selection: Selection, catalog_id: str, synthetic: bool, source: str, step: str, count: bool
) -> xr.Dataset:
    """As `finish`, of what a selection found; its masks counted if they shall be."""
    if count and "n_masked" in dataset:
        dataset = count_masks(dataset)
    names = [variable.name for variable in selection.present()]
    return finish(dataset, selection.who, catalog_id, synthetic, source, step, names)


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
    count: bool = False,
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
    count : bool
        Write the counts of what is masked into ``masked_by`` at once, which reads the region. By default they are in the
        lazy ``n_masked`` until `count_masks` is called.

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(time, [overpass,] y, x)`` m3 m-3, ``tb(time, [overpass,] channel, y, x)`` K, and so on, float32,
        dask; flags are uint16 with CF ``flag_masks`` and ``flag_meanings``, ``landcover_class`` uint8, ``observation_time``
        datetime64, UTC. `time` is the nominal UTC day; `y` descends. ``n_masked(time, [overpass,] masked_variable,
        reason)`` counts what became NaN. Attribute ``absent_variables`` (JSON): default variables that some file lacks.

    Raises
    ------
    FormatError
        If a granule is of another product, truncated, lacks the group or a field, or has another shape; two granules
        are of one day; two products are mixed; or releases of two baselines. Damage inside a file shows when it is read.
    ParameterError
        For an unknown option, or a region that crosses the date line, leaves the grid, or holds no cell.
    CatalogError
        If the period holds no granule.
    """
    who = "open_l3"
    check_choice(who, "overpass", overpass, ("am", "pm", "both"))
    selection = Selection(who, PASSIVE, variables, flag_policy, tb_policy, exclude_surface)
    granules = list_granules(who, paths, ("SPL3SMP", "SPL3SMP_E"), start, end)
    grid = PRODUCTS[granules[0].product].grid
    window = resolve_window(who, grid, region) or grid.everything
    algorithm = passive_algorithm(who, granules, option)
    passes = ("am", "pm") if overpass == "both" else (overpass,)
    pieces = np.empty((len(granules), len(passes)), dtype=object)
    for i, granule in enumerate(granules):
        with open_granule(who, granule) as file:
            for k, which in enumerate(passes):
                group, suffix = _layout(f"{who}({granule.path.name})", file, which)
                natives = find_passive(selection, granule, group, suffix, grid.shape, option, algorithm)
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
    source = f"SMAP L3 radiometer, {granules[0].product}"
    return finish_selected(dataset, selection, catalog_id, synthetic, source, step, count)
