"""The hidden truth of the downscaling world's scenes as CF-NetCDF, on the region's 3 km cells."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import netCDF4
import numpy as np
from numpy.typing import NDArray

from smnb.contract import VARIABLES
from smnb_sandbox.smap_scenes import SceneTime
from smnb_sandbox.smap_world import RegionDays

#: Is written into the files; raise it when they change.
_VERSION = "1"
_EPOCH = datetime(2016, 1, 1, tzinfo=UTC)


def truth_file(days: RegionDays, scenes: Sequence[SceneTime]) -> bytes:
    """The truth at the times of the radar's passes.

    Parameters
    ----------
    days : RegionDays
    scenes : sequence of SceneTime
        In order.

    Returns
    -------
    bytes
        NetCDF 4 with dims (time, y, x), y descending as in the products, the coordinates of `EaseWindow.coords`, and the
        variables of `smnb_sandbox.truth.TRUTH_VARIABLES` and elevation. Open water is NaN.
    """
    # not in memory: there the library puts the time of day into the file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truth.nc"
        with netCDF4.Dataset(path, "w", format="NETCDF4") as file:
            _fill(file, days, scenes)
        return path.read_bytes()


def _fill(file: netCDF4.Dataset, days: RegionDays, scenes: Sequence[SceneTime]) -> None:
    """Put everything into an empty file."""
    world = days.world
    water = (world.water_fraction > 0.5)[world.inner]
    states = [days.state(scene.local_day, evening=scene.evening) for scene in scenes]

    def of_land(values: NDArray) -> NDArray[np.float32]:
        return np.where(water, np.nan, values[world.inner]).astype(np.float32)

    file.createDimension("time", len(scenes))
    time = file.createVariable("time", "f8", ("time",))
    time.setncatts({"standard_name": "time", "long_name": "time of the Sentinel-1 pass, UTC", "calendar": "standard"})
    time.units = "seconds since 2016-01-01"
    time[:] = [(scene.sentinel1.time - _EPOCH).total_seconds() for scene in scenes]
    for name, (dims, values, attributes) in world.window.coords().items():
        dims = (dims,) if isinstance(dims, str) else tuple(dims)
        for dim in dims:
            if dim not in file.dimensions:
                file.createDimension(dim, world.window.shape["yx".index(dim)])
        kind = "i4" if np.asarray(values).dtype.kind in "iu" else "f8"
        axis = file.createVariable(name, kind, dims)
        axis.setncatts(attributes)
        axis[...] = values

    def create(name: str, dims: tuple[str, ...], digits: int) -> netCDF4.Variable:
        variable = file.createVariable(
            name,
            "f4",
            dims,
            zlib=True,
            complevel=1,
            shuffle=True,
            fill_value=np.float32(np.nan),
            chunksizes=(1,) * (len(dims) - 2) + world.window.shape,
            least_significant_digit=digits,
        )
        variable.setncatts({"units": VARIABLES[name].units, "long_name": VARIABLES[name].long_name})
        variable.setncatts({"grid_mapping": "crs", "coordinates": "lat lon row col"})
        return variable

    for name, digits in (("clay_fraction", 3), ("sand_fraction", 3), ("elevation", 0)):
        create(name, ("y", "x"), digits)[:] = of_land(getattr(world, name))
    for name, digits in (("soil_moisture", 4), ("vegetation_water_content", 1)):
        variable = create(name, ("time", "y", "x"), digits)
        for number, state in enumerate(states):
            variable[number] = of_land(getattr(state, name))
    variable = create("surface_temperature", ("time", "y", "x"), 0)
    for number, state in enumerate(states):
        variable[number] = of_land(state.soil_temperature)
    file.setncatts(
        {
            "Conventions": "CF-1.8",
            "title": f"Hidden truth of the smnb sandbox around {world.region.title} (synthetic)",
            "source": "smnb_sandbox, simulated",
            "history": f"written by smnb_sandbox, downscaling world {_VERSION}, seed {world.seed}",
            "catalog_id": "sandbox_smap_truth",
            "region": world.region.name,
            "ease_grid": world.window.grid.name,
            "synthetic": np.int32(1),
        }
    )
