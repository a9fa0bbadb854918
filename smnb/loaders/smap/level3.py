"""SMAP level 3: daily global radiometer soil moisture, 36 km (SPL3SMP) and 9 km (SPL3SMP_E)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from smnb.contract import ParameterError, check_dataset, stamp
from smnb.grids import EaseWindow
from smnb.loaders.smap.fields import ALGORITHMS, PASSIVE
from smnb.loaders.smap.granules import (
    PRODUCTS,
    Granule,
    check_short_name,
    group_of,
    list_granules,
    open_h5,
    resolve_window,
)
from smnb.loaders.smap.reading import Piece, Pieces, Slab, build, count_masks
from smnb.loaders.smap.selection import Selection, check_option, passive_algorithm, passive_names

_GROUP = "Soil_Moisture_Retrieval_Data"


def _layout(who: str, granule: Granule, file: h5py.File, overpass: str) -> tuple[h5py.Group, str]:
    """Group and suffix of an overpass; the releases up to version 3 have one group, of the morning."""
    if f"{_GROUP}_AM" not in file and f"{_GROUP}_PM" not in file and _GROUP in file:
        if overpass == "pm":
            raise ParameterError(
                f"{who}({granule.path.name})",
                "this old release has no evening overpass",
                got=overpass,
                expected=["am"],
                next_step="Pass overpass='am', or download a newer release",
            )
        return group_of(who, granule, file, _GROUP), ""
    return group_of(who, granule, file, f"{_GROUP}_{overpass.upper()}"), "_pm" if overpass == "pm" else ""


def open_l3(
    paths: Sequence[str | Path],
    *,
    catalog_id: str,
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
    catalog_id : str
        The catalog's entry.
    synthetic : bool
        Whether the data were simulated.
    start, end : str, optional
        First and last day, inclusive. Files of other days are not opened.
    region : (west, south, east, north) or EaseWindow, optional
        Cells whose centres are inside the box, degrees; default the globe. Only its hyperslab is read.
    overpass : {"am", "pm", "both"}
        Descending (6 h local) or ascending (18 h); "both" gives a dimension ``overpass``.
    variables : sequence of str, optional
        Default all of `smnb.loaders.smap.PASSIVE_VARIABLES` that the files have. Others are never read.
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
        dask; flags are uint16 with CF meanings (see `decode_flags`), ``landcover_class`` uint8, ``observation_time``
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
    check_option(who, "overpass", overpass, ("am", "pm", "both"))
    selection = Selection(who, PASSIVE, "passive", variables, flag_policy, tb_policy, exclude_surface)
    granules = list_granules(who, paths, ("SPL3SMP", "SPL3SMP_E"), start, end)
    grid = PRODUCTS[granules[0].product].grid
    window = resolve_window(who, grid, region) or grid.everything
    algorithm = passive_algorithm(who, granules, option)
    needs_soil_moisture = "soil_moisture" in selection.tests
    passes = ("am", "pm") if overpass == "both" else (overpass,)
    pieces = np.empty((len(granules), len(passes)), dtype=object)
    for i, granule in enumerate(granules):
        with open_h5(who, granule.path) as file:
            check_short_name(who, granule, file)
            for k, which in enumerate(passes):
                group, suffix = _layout(who, granule, file, which)
                renamed = passive_names(who, granule, group, suffix, option, algorithm) if needs_soil_moisture else {}
                roles = selection.find(
                    granule, group, suffix, grid.shape, renamed=renamed, suffixes=ALGORITHMS[algorithm]
                )
                pieces[i, k] = Piece(granule.path, group.name, roles, Slab(window.rows, window.cols), granule.stat)
    lead: tuple[str, ...] = ("time", "overpass")
    if overpass != "both":
        pieces, lead = pieces[:, 0], ("time",)
    dataset = build(Pieces(who, window, pieces, lead, selection.tests), selection.present(), PASSIVE, "passive")
    day = {"long_name": "day of observation, UTC", "standard_name": "time"}
    dataset = dataset.assign_coords(
        time=("time", np.array([g.start for g in granules]), day),
        overpass=(
            lead[1:],
            list(passes) if overpass == "both" else overpass,
            {"long_name": "am descending, 6 h local time; pm ascending, 18 h"},
        ),
    )
    dataset.attrs = {**selection.attrs(granules), "soil_moisture_option": option, "soil_moisture_algorithm": algorithm}
    stamp(
        dataset,
        source=f"SMAP L3 radiometer, {granules[0].product}",
        catalog_id=catalog_id,
        synthetic=synthetic,
        step=f"{who}: {len(granules)} days, {window}, overpass {overpass}, option {option} ({algorithm}), "
        f"flag_policy {flag_policy}; polar groups left aside",
    )
    dataset = count_masks(dataset) if count and "n_masked" in dataset else dataset
    return check_dataset(dataset, who=who, require=tuple(v.name for v in selection.present()))
