"""The hidden truth of the simulated worlds, written and opened: what the products were made from. Real archives have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import VARIABLES, CatalogError, FormatError, check_choice, orient_lat_lon
from smnb.loaders import check_paths, check_present, finish, open_netcdf, parse_period
from smnb_sandbox.files import file_bytes

_SOURCE = "smnb sandbox, hidden truth"
TRUTH_VARIABLES = ("soil_moisture", "clay_fraction", "sand_fraction", "vegetation_water_content", "surface_temperature")


def open_truth(
    paths: Sequence[str | Path],
    *,
    catalog_id: str,
    synthetic: bool = True,
    start: str | None = None,
    end: str | None = None,
) -> xr.Dataset:
    """Open the sandbox's truth lazily: `TRUTH_VARIABLES` as (time, lat, lon) or (lat, lon), float32; always marked synthetic."""
    who = "open_truth"
    parts = []
    for path in check_paths(who, paths):
        part = open_netcdf(who, path, chunks={"time": 1})
        check_present(f"{who}({path.name})", TRUTH_VARIABLES, part)
        parts.append(orient_lat_lon(part[list(TRUTH_VARIABLES)], who=who))
    try:
        how = {"data_vars": "minimal", "coords": "minimal", "compat": "equals", "join": "exact"}
        dataset = xr.concat(parts, dim="time", combine_attrs="override", **how)
    except ValueError as error:
        raise FormatError(who, f"the files do not belong together: {error}", next_step="smnb sandbox") from error
    first, last = parse_period(who, start, end)
    dataset = dataset.sortby("time").sel(time=slice(first, last)).astype("float32")
    if dataset.sizes["time"] == 0:
        raise CatalogError(who, "no day in the period", got=(str(start), str(end)))
    for name in TRUTH_VARIABLES:
        dataset[name].attrs.setdefault("long_name", VARIABLES[name].long_name)
    return finish(dataset, who, catalog_id, True, _SOURCE, f"{len(parts)} files", TRUTH_VARIABLES)


def open_smap_truth(
    paths: Sequence[str | Path], *, catalog_id: str, synthetic: bool = True, region: str | None = None
) -> xr.Dataset:
    """Open the truth of one region of SMAP's granules lazily: ``soil_moisture(time, y, x)`` at Sentinel-1's passes."""
    who = "open_smap_truth"
    found = {path.stem.removeprefix("smap_truth_"): path for path in check_paths(who, paths)}
    if region is None and len(found) == 1:
        region = next(iter(found))
    check_choice(who, "region", region, sorted(found))
    dataset = open_netcdf(who, found[region])
    check_present(f"{who}({found[region].name})", ["soil_moisture"], dataset)
    dataset["soil_moisture"] = dataset["soil_moisture"].astype("float32")
    return finish(dataset, who, catalog_id, True, _SOURCE, str(region), ("soil_moisture",))


def truth_bytes(
    fields: Mapping[str, tuple[NDArray, int]],
    coords: Mapping[str, Any],
    place: str,
    history: str,
    catalog_id: str,
    **attrs: Any,
) -> bytes:
    """Write a truth as CF-NetCDF 4: by variable of the contract (time, y, x) or (y, x) values and the decimals that are kept."""
    dims = ("time", "y", "x") if "y" in coords else ("time", "lat", "lon")
    # on the globe values with time are those of days, at places those of moments
    further = [{}, {"cell_methods": "time: mean"}] if "lat" in dims else [{"grid_mapping": "crs"}] * 2
    data = {}
    for name, (values, _) in fields.items():
        about = {"units": VARIABLES[name].units, "long_name": VARIABLES[name].long_name, **further[values.ndim - 2]}
        data[name] = dims[-values.ndim :], values, about
    packing = {"zlib": True, "complevel": 4, "shuffle": True, "_FillValue": np.float32(np.nan)}
    encoding = {
        name: packing | {"least_significant_digit": digits, "chunksizes": (1,) * (values.ndim - 2) + values.shape[-2:]}
        for name, (values, digits) in fields.items()
    }
    encoding["time"] = {"units": "seconds since 2020-01-01", "dtype": "f8"}
    attrs = {
        "Conventions": "CF-1.8",
        "title": f"Hidden truth of the smnb sandbox, {place} (synthetic)",
        "source": "smnb_sandbox, simulated",
        "synthetic": 1,
        **attrs,
        "history": f"written by smnb_sandbox, {history}",
        "catalog_id": catalog_id,
    }
    # not in memory: there the library puts the time of day into the file
    dataset = xr.Dataset(data, coords, attrs)
    return file_bytes("truth.nc", lambda path: dataset.to_netcdf(path, engine="netcdf4", encoding=encoding))


def pass_times(times: Sequence[Any]) -> tuple[str, NDArray[np.datetime64], dict[str, str]]:
    """The coordinate ``time`` of a truth at the times (UTC) of Sentinel-1's passes."""
    values = np.array([time.replace(tzinfo=None) for time in times], dtype="datetime64[ns]")
    return "time", values, {"standard_name": "time", "long_name": "time of the Sentinel-1 pass, UTC"}
