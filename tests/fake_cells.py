"""Files of one 36 km cell in the form of the public replication data: north first, fill values NaN, flags float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from smnb.grids import M01, M03, M09, M36, EaseWindow

CELL = EaseWindow(M36, 48, 49, 219, 220)  # R049C220 counted from 1
TIMES = pd.date_range("2019-05-01 12:45", periods=4, freq="12D")
STACK = ("soil_moisture", "vegetation_water_content", "water_body_fraction", "surface_flag", "retrieval_quality_flag")


def stack(times: pd.DatetimeIndex = TIMES, cell: EaseWindow = CELL) -> xr.Dataset:
    """A stack of scenes: a pattern that stays, noise, and gaps."""
    rng, data = np.random.default_rng(0), xr.Dataset(coords={"time": times})
    data["time_sentinel1"] = "time", times - pd.Timedelta("12h")
    for suffix, grid in (("1km", M01), ("3km", M03)):
        window, dims = cell.on(grid), ("time", f"lat_{suffix}", f"lon_{suffix}")
        data = data.assign_coords({dims[1]: window.lat, dims[2]: window.lon})
        shape = (times.size, *window.shape)
        for name in STACK:
            data[f"{name}_{suffix}"] = dims, rng.uniform(0.1, 0.4, shape).astype("float32")
        for name in ("vv", "vh"):
            data[f"sigma0_{name}_{suffix}"] = dims, rng.uniform(0.01, 0.1, shape).astype("float32")
        for name in ("surface_flag", "retrieval_quality_flag"):
            data[f"{name}_{suffix}"] = dims, np.where(np.arange(shape[2]) < 2, np.nan, 4.0) * np.ones(shape)
    return data


def pairs(times: pd.DatetimeIndex = TIMES, cell: EaseWindow = CELL) -> xr.Dataset:
    """Quality-controlled pairs."""
    data = xr.Dataset(coords={"time": times})
    data["time_sentinel1"] = "time", times + pd.Timedelta("10h")
    for suffix, grid, names in (("1km", M01, ["soil_moisture"]), ("9km", M09, ["soil_moisture_sca"])):
        window, dims = cell.on(grid), ("time", f"lat_{suffix}", f"lon_{suffix}")
        data = data.assign_coords({dims[1]: window.lat, dims[2]: window.lon})
        for name in names:
            data[f"{name}_{suffix}"] = dims, np.full((times.size, *window.shape), 0.2, "float32")
    return data


def series(start: str = "2019-03-01 00:10", days: int = 120, cell: EaseWindow = CELL) -> xr.Dataset:
    """Two overpasses a day at 9 km, a third of the values missing."""
    rng, window = np.random.default_rng(1), cell.on(M09)
    times = pd.date_range(start, periods=2 * days, freq="12h") + pd.Timedelta("36min")
    data = xr.Dataset(coords={"time": times, "lat_9km": window.lat, "lon_9km": window.lon})
    for name in ("soil_moisture", "soil_moisture_sca"):
        values = rng.uniform(0.1, 0.4, (times.size, 4, 4)).astype("float32")
        data[name] = ("time", "lat_9km", "lon_9km"), np.where(rng.random(values.shape) < 0.3, np.nan, values)
    return data


def write(folder: Path, data: xr.Dataset, name: str = "spl2smap_s_R049C220.nc") -> Path:
    """The file, written."""
    data.to_netcdf(folder / name, engine="h5netcdf")
    return folder / name


def write_cell(folder: Path) -> Path:
    """Write a stack and its series into a new folder."""
    folder.mkdir()
    write(folder, stack())
    write(folder, series(), "smap_9km_R049C220.nc")
    return folder


def loud(model: torch.nn.Module) -> torch.nn.Module:
    """A network with random weights, so that everything it sees matters."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return model
