"""Packing of the truth of a place or site, as NetCDF 4."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import VARIABLES


def truth_bytes(
    fields: Mapping[str, tuple[NDArray, int]], coords: Mapping[str, Any], attrs: Mapping[str, Any]
) -> bytes:
    """Pack the fields of one place, with the attributes of the contract's variables.

    Parameters
    ----------
    fields : mapping of str to (ndarray, int)
        Variables of the contract, ``(time, y, x)`` or ``(y, x)``, and the decimals that are kept of each.
    coords : mapping
        For an xarray constructor; among them ``time`` and the grid mapping ``crs``.
    attrs : mapping
        Of the file.

    Returns
    -------
    bytes
        NetCDF 4.
    """
    data = {
        name: (
            ("time", "y", "x")[-values.ndim :],
            values,
            {"units": VARIABLES[name].units, "long_name": VARIABLES[name].long_name, "grid_mapping": "crs"},
        )
        for name, (values, _) in fields.items()
    }
    packing = {"zlib": True, "complevel": 4, "shuffle": True, "_FillValue": np.float32(np.nan)}
    encoding = {
        name: packing | {"least_significant_digit": digits, "chunksizes": (1,) * (values.ndim - 2) + values.shape[-2:]}
        for name, (values, digits) in fields.items()
    }
    encoding["time"] = {"units": "seconds since 2020-01-01", "dtype": "f8"}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "truth.nc"
        xr.Dataset(data, coords, attrs).to_netcdf(path, engine="netcdf4", encoding=encoding)
        return path.read_bytes()
