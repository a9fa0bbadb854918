"""Sentinel-1, Sentinel-2 and SMAP ten-day means on patches of 7 x 7 cells of 10 km, one NetCDF file a CONUS region."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from smnb.contract import VARIABLES, FormatError, ParameterError, plain
from smnb.loaders import check_paths, finish, in_period, open_netcdf

#: Sentinel-2 bands, in the order of their numbers.
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
_POLARIZATIONS = ("VV", "VH")
_UNITS = {"VV": "dB", "VH": "dB", "angle": "degree", "ssm": "mm", **dict.fromkeys(BANDS, "1e-4 reflectance")}
_DEPTH_MM = 50.0
_NAME = re.compile(r"region_(\d+)\.nc")


def _read_region(who: str, path: Path) -> xr.Dataset:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise FormatError(who, "a file's name is not of this product", got=path.name, expected="region_01.nc")
    where = f"{who}({path.name})"
    with open_netcdf(who, path, chunks=None) as file:
        raw = file.load()
    for name, units in _UNITS.items():
        if name not in raw or raw[name].dims != ("time", "y", "x"):
            raise FormatError(
                where, f"{name!r} is absent or not over (time, y, x)", got=sorted(map(str, raw.variables))
            )
        if raw[name].attrs.get("units") != units:
            raise FormatError(where, f"{name!r} has other units", got=raw[name].attrs.get("units"), expected=units)
    return raw.assign_coords(region=int(match[1]), y=np.arange(raw.sizes["y"]), x=np.arange(raw.sizes["x"]))


def open_conus_patches(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    regions: Sequence[int] | None = None,
    start: str | None = None,
    end: str | None = None,
) -> xr.Dataset:
    """Open the regions' patches, joined along `region`; they are small and are loaded.

    Parameters
    ----------
    paths : sequence of path-like
        Files ``region_NN.nc``.
    catalog_id, synthetic
        As `smnb.loaders` says.
    regions : sequence of int, optional
        Regions to keep, by the number in the file's name.
    start, end : str, optional
        First and last day of the ten-day windows' starts.

    Returns
    -------
    xarray.Dataset
        ``sigma0(region, time, polarization, y, x)`` dB, ``incidence_angle(region, time, y, x)`` degree,
        ``reflectance(region, time, band, y, x)`` and ``soil_moisture(region, time, y, x)`` m3 m-3, float32. The files
        give no coordinates for `y` and `x`; they are the cells' indices. `time` is the first day of ten.
        ``regions_without_sentinel1`` (JSON) lists regions that have no backscatter at all, which stay NaN.

    Notes
    -----
    ``soil_moisture = ssm / 50``: millimetres of water in a layer of nominally 50 mm. The model behind ``ssm`` keeps an
    inch of water in its top layer, so the result is nominal and saturates at 0.508; it is no true volumetric content.

    Raises
    ------
    FormatError
        If a file is unreadable, lacks a variable, has other units, another size or other times than the first.
    ParameterError
        If a requested region has no file.
    CatalogError
        If the period is empty.
    """
    who = "open_conus_patches"
    parts = {}
    for path in check_paths(who, paths):
        raw = _read_region(who, path)
        number = int(raw["region"])
        if number in parts:
            raise FormatError(who, f"region {number} is given twice", got=str(path))
        parts[number] = raw
    unknown = sorted(set(regions or []) - set(parts))
    if unknown or (regions is not None and not len(regions)):
        raise ParameterError(who, "there is no such region", got=unknown, expected=sorted(parts))
    chosen = [parts[number] for number in sorted(parts) if regions is None or number in regions]
    for part in chosen[1:]:
        if part.sizes != chosen[0].sizes or not np.array_equal(part["time"].values, chosen[0]["time"].values):
            raise FormatError(
                who,
                f"region {int(part['region'])} has another size or other times",
                got=dict(part.sizes),
                expected=plain(str(dict(chosen[0].sizes))),
            )
    raw = xr.concat(chosen, dim="region", combine_attrs="drop")
    raw = raw.isel(time=np.flatnonzero(in_period(who, raw["time"].values, start, end, "window")))

    def stack(names: Sequence[str], dim: str) -> xr.DataArray:
        return xr.concat([raw[name] for name in names], dim=dim, combine_attrs="drop").assign_coords({dim: list(names)})

    dims = ("region", "time")
    dataset = xr.Dataset(
        {
            "sigma0": stack(_POLARIZATIONS, "polarization").transpose(*dims, "polarization", "y", "x"),
            "incidence_angle": raw["angle"],
            "reflectance": (stack(BANDS, "band") * np.float32(1e-4)).transpose(*dims, "band", "y", "x"),
            "soil_moisture": raw["ssm"] / np.float32(_DEPTH_MM),
        }
    ).astype("float32")
    native = {"sigma0": "dB", "incidence_angle": "degree", "reflectance": "1e-4 reflectance", "soil_moisture": "mm"}
    for name, units in native.items():
        spec = VARIABLES[name]
        dataset[name].attrs = {"units": spec.units, "long_name": spec.long_name, "native_units": units}
    dataset["soil_moisture"].attrs |= {
        "long_name": "NASA-USDA enhanced SMAP surface soil moisture",
        "conversion": "nominal: ssm [mm] / 50 mm. The product's layer holds 25.4 mm, so values saturate at 0.508 and "
        "are no true volumetric content",
    }
    no_radar = dataset["sigma0"].isnull().all(["time", "polarization", "y", "x"])
    missing = {name: round(float(dataset[name].isnull().mean()), 4) for name in dataset.data_vars}
    dataset.attrs = {
        "regions_without_sentinel1": json.dumps(dataset["region"].values[no_radar.values].tolist()),
        "missing_fraction": json.dumps(missing),
    }
    return finish(
        dataset,
        who,
        source="Sentinel-1, Sentinel-2 and NASA-USDA SMAP, ten-day means, Earth Engine",
        catalog_id=catalog_id,
        synthetic=synthetic,
        step=f"{len(chosen)} regions; DN * 1e-4 to reflectance, ssm mm / 50 to m3 m-3",
        require=list(native),
    )
