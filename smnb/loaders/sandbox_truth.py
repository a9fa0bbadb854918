"""The hidden truth of the simulated world: what the sandbox's products were made from. Real archives have none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from smnb.contract import VARIABLES, CatalogError, FormatError, check_dataset, orient_lat_lon, stamp
from smnb.loaders import check_paths, open_netcdf, parse_period

__all__ = ["TRUTH_VARIABLES", "open_truth"]

TRUTH_VARIABLES = (
    "soil_moisture", "clay_fraction", "sand_fraction", "vegetation_water_content", "surface_temperature"
)  # fmt: skip


def open_truth(
    paths: Sequence[str | Path],
    *,
    catalog_id: str,
    synthetic: bool = True,
    start: str | None = None,
    end: str | None = None,
) -> xr.Dataset:
    """Open the sandbox's truth lazily.

    Parameters
    ----------
    paths : sequence of path-like
        Plain CF NetCDF files at contract's names and units, of consecutive periods.
    catalog_id : str
        The catalog's entry.
    synthetic : bool
        Of no effect, and there because every loader has it: a truth is simulated by definition and marked so.
    start, end : str, optional
        First and last day, inclusive.

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(time, lat, lon)`` m3 m-3, ``clay_fraction``, ``sand_fraction``, ``vegetation_water_content`` and
        ``surface_temperature``, the latter ones with or without time, float32, dask.

    Raises
    ------
    FormatError
        If a file is unreadable or lacks a variable.
    ContractError
        If units, grids or times break the contract.
    CatalogError
        If the period is empty.
    """
    who = "open_truth"
    parts = []
    for path in check_paths(who, paths):
        part = open_netcdf(who, path, chunks={"time": 1})
        absent = [name for name in TRUTH_VARIABLES if name not in part]
        if absent:
            raise FormatError(
                f"{who}({path.name})", "variables are missing", got=absent, next_step="Write it anew: smnb sandbox"
            )
        parts.append(orient_lat_lon(part[list(TRUTH_VARIABLES)], who=who))
    try:
        dataset = xr.concat(
            parts, dim="time", data_vars="minimal", coords="minimal", compat="equals", join="exact",
            combine_attrs="override",
        ) if len(parts) > 1 else parts[0]  # fmt: skip
    except ValueError as error:
        raise FormatError(who, f"the files do not belong together: {error}", next_step="smnb sandbox") from error
    first, last = parse_period(who, start, end)
    dataset = dataset.sortby("time").sel(time=slice(first, last)).astype("float32")
    if dataset.sizes["time"] == 0:
        raise CatalogError(who, "no day in the period", got=(str(start), str(end)))
    for name in TRUTH_VARIABLES:
        dataset[name].attrs.setdefault("long_name", VARIABLES[name].long_name)
    stamp(
        dataset, source="smnb sandbox, hidden truth", catalog_id=catalog_id, synthetic=True,
        step=f"{who}: {len(parts)} files",
    )  # fmt: skip
    return check_dataset(dataset, who=who, require=TRUTH_VARIABLES)
