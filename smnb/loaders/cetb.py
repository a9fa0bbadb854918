"""AMSR-E brightness temperatures of NSIDC-0630 (CETB): EASE-Grid 2.0, NetCDF.

Brodzik et al. 2016, MEaSUREs Calibrated Enhanced-Resolution Passive Microwave Daily EASE-Grid 2.0 Brightness Temperature
ESDR, Version 1, doi:10.5067/MEASURES/CRYOSPHERE/NSIDC-0630.001.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import dask.array
import numpy as np
import xarray as xr

from smnb.contract import CatalogError, FormatError, ParameterError, check_choice, foreign
from smnb.loaders import check_native_units, check_paths, check_present, finish, open_netcdf
from smnb.loaders.amsre import CHANNELS

_NATIVE = {"tb": "TB", "incidence_angle": "Incidence_angle", "tb_std_dev": "TB_std_dev"}


def _unpack(variable: xr.Variable, dtype: str = "float32") -> xr.Variable:
    """Apply CF packing; missing is `_FillValue`, `missing_value` and whatever is outside the packed `valid_range`.

    xarray warns of two fill values, and knows no valid range, which version 1.0 needs: it writes missing incidence
    angles as -100 where `_FillValue` says -1.
    """
    attrs, packed = variable.attrs, variable.data
    bad = sum(packed == attrs[name] for name in ("_FillValue", "missing_value") if name in attrs) > 0
    if "valid_range" in attrs:
        low, high = attrs["valid_range"]
        bad |= (packed < low) | (packed > high)
    values = (packed * float(attrs.get("scale_factor", 1.0)) + float(attrs.get("add_offset", 0.0))).astype(dtype)
    where = dask.array.where if variable.chunks else np.where
    kept = {name: attrs[name] for name in ("long_name", "grid_mapping") if name in attrs}
    return xr.Variable(variable.dims, where(bad, np.asarray(np.nan, dtype), values), kept)


def _read_cetb(who: str, path: Path) -> tuple[str, str, xr.Dataset]:
    """One file: channel, temporal division ("M", "E", "A", "D"), and its Dataset at contract's names."""
    raw = open_netcdf(who, path, mask_and_scale=False, decode_times=False)
    needed = ("TB", "Incidence_angle", "TB_time", "TB_num_samples", "TB_std_dev", "crs", "time")
    where = f"{who}({path.name})"
    check_present(where, needed, raw.variables)
    if odd := [
        name for name in (*_NATIVE.values(), "TB_time", "TB_num_samples") if raw[name].dims != ("time", "y", "x")
    ]:
        raise FormatError(where, f"{odd} are not over time, y and x", got=raw[odd[0]].dims)
    native = str(raw["TB"].attrs.get("frequency_and_polarization"))
    if native not in CHANNELS:
        what = "TB:frequency_and_polarization is no AMSR-E channel"
        raise FormatError(where, what, got=native, expected=list(CHANNELS))
    for name, units in (("TB", "K"), ("Incidence_angle", "degree")):
        check_native_units(where, name, raw[name].attrs.get("units"), [units])
    time = xr.decode_cf(raw[["time"]].drop_attrs(deep=False))["time"].values.astype("datetime64[ns]")
    if time.shape != (1,):
        raise FormatError(where, "the file is not of one day", got=time.shape, expected=(1,))
    minutes = _unpack(raw["TB_time"].variable, "float64")
    epoch = np.datetime64(str(raw["TB_time"].attrs["units"]).split("since ")[1].replace(" ", "T"), "ns")
    seen = dask.array.where(
        dask.array.isnan(minutes.data), np.iinfo("int64").min, minutes.data * 60e9 + epoch.astype("int64")
    )
    data = {name: _unpack(raw[native].variable) for name, native in _NATIVE.items()}
    data["n_samples"] = raw["TB_num_samples"].variable.copy()
    data["n_samples"].attrs = {"long_name": "number of measurements, 0 for none", "units": "1"}
    data["tb_time"] = xr.Variable(raw["TB_time"].dims, seen.astype("int64").view("datetime64[ns]"))
    data["tb_time"].attrs = {"long_name": "mean time of observation, UTC"}
    data["tb"].attrs |= {"units": "K", "long_name": "brightness temperature", "native_units": "K"}
    data["incidence_angle"].attrs |= {"units": "degree", "native_units": "degree"}
    data["tb_std_dev"].attrs |= {"units": "K"}
    crs = xr.DataArray(np.int32(0), attrs={k: v for k, v in raw["crs"].attrs.items() if k != "coverage_content_type"})
    coords = {n: (n, raw[n].values, {"units": "m", "standard_name": f"projection_{n}_coordinate"}) for n in ("y", "x")}
    dataset = xr.Dataset(data, {"time": time, **coords, "crs": crs}).expand_dims(channel=[CHANNELS[native]], axis=1)
    for name in data:
        dataset[name].attrs["grid_mapping"] = "crs"
    division = str(raw["TB"].attrs.get("temporal_division", "unknown"))
    return CHANNELS[native], division[:1].upper(), dataset


def open_cetb(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    channels: Sequence[str] | None = None,
    temporal_division: str | None = None,
) -> xr.Dataset:
    """Open files of NSIDC-0630 (CETB), of one channel, day and temporal division each, on one EASE-Grid 2.0.

    Parameters
    ----------
    channels : sequence of str, optional
        Contract's names to keep ("18.7H"); default all that are there.
    temporal_division : {"M", "E", "A", "D"}, optional
        Morning, evening, ascending or descending; needed where the files hold more than one.

    Returns
    -------
    xarray.Dataset
        ``tb``, ``incidence_angle``, ``tb_std_dev``, ``n_samples`` and ``tb_time`` over ``(time, channel, y, x)``, lazy.
        As in the files `y` descends (row 0 is the top of the map), and ``crs`` is the CF grid mapping. ``tb_time`` is
        what the file says, which in version 1.0 can be one value for the whole image.

    Raises
    ------
    FormatError, ParameterError, CatalogError
        If a file is unreadable, lacks variables, or is on another grid than the first; for several temporal divisions and no
        choice; if nothing is left of the files.
    """
    who = "open_cetb"
    channels = check_choice(
        who, "channels", list(CHANNELS.values()) if channels is None else channels, CHANNELS.values()
    )
    check_choice(who, "temporal_division", temporal_division, [None, "M", "E", "A", "D"])
    read = []
    for path in check_paths(who, paths):
        with foreign(f"{who}({path.name})"):
            read.append(_read_cetb(who, path))
    read = [one for one in read if one[0] in channels and temporal_division in (None, one[1])]
    if not read:
        raise CatalogError(who, "no file has the requested channels and temporal division", got=channels)
    divisions = sorted({division for _, division, _ in read})
    if len(divisions) > 1:
        next_step = "Choose one: temporal_division='E'"
        raise ParameterError(who, "the files hold several temporal divisions", got=divisions, next_step=next_step)
    first = read[0][2]
    for _, _, dataset in read[1:]:
        same = all(np.array_equal(dataset[axis], first[axis]) for axis in "yx")
        if not same or dataset["crs"].attrs != first["crs"].attrs:
            raise FormatError(who, "the files are on different grids", next_step="Open one grid at a time")
    keys = [(channel, dataset["time"].values[0]) for channel, _, dataset in read]
    if len(set(keys)) != len(keys):
        raise FormatError(who, "two files hold the same channel and day", got=sorted(map(str, keys))[:4])
    present = [name for name in CHANNELS.values() if any(name == channel for channel, _, _ in read)]
    read.sort(key=lambda one: one[2]["time"].values[0])
    parts = [
        xr.concat([one for channel, _, one in read if channel == name], dim="time", combine_attrs="override")
        for name in present
    ]
    dataset = xr.concat(parts, dim="channel", join="outer", combine_attrs="override", fill_value={"n_samples": 0})
    dataset = dataset.assign_coords(channel=present).transpose("time", "channel", "y", "x")
    dataset.attrs = {"temporal_division": divisions[0]}
    step = f"{len(read)} files; packed integers to K and degree, both fill values to NaN"
    source = "AMSR-E/Aqua, NSIDC-0630 version 1 (CETB GRD)"
    return finish(dataset, who, catalog_id, synthetic, source, step, ["tb", "incidence_angle"])
