"""A 320 m map as a Dataset under the contract, and on disk as CF-NetCDF or GeoTIFF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from pyproj import CRS

from smnb import contract
from smnb.contract import ParameterError, plain
from smnb.files import atomic_path
from smnb.models.multisource import MultiSourceNet
from smnb.papers.batchu2023.shared.mapping import map_tile
from smnb.papers.batchu2023.shared.reading import Tile

_SUFFIXES = (".nc", ".tif")


def tile_map(
    net: MultiSourceNet,
    tile: Tile,
    *,
    method: str = "shared",
    batch_size: int = 32,
    rows_at_once: int | None = None,
    device: str | torch.device = "cpu",
    network: str = "multisource",
) -> xr.Dataset:
    """Map soil moisture of a tile.

    Parameters
    ----------
    net : MultiSourceNet
    tile : Tile
        Read with the network's inputs.
    method, batch_size, rows_at_once, device
        As `smnb.papers.batchu2023.shared.map_tile`.
    network : str
        What to call the network in the map's attributes.

    Returns
    -------
    Dataset, dims (time, y, x)
        ``soil_moisture`` (m3 m-3) with the coordinates ``lat`` and ``lon`` of the cells' centres and the grid mapping ``crs``.
    """
    values = map_tile(
        net,
        tile.images,
        method=method,
        geometry=tile.geometry,
        batch_size=batch_size,
        rows_at_once=rows_at_once,
        device=device,
    )
    x, y = tile.axes()
    lat, lon = tile.coordinates()
    axis = {"units": "m"}
    dataset = xr.Dataset(
        {
            "soil_moisture": (
                ("time", "y", "x"),
                values[None],
                {
                    "units": "m3 m-3",
                    "long_name": "volumetric soil moisture",
                    "grid_mapping": "crs",
                    "standard_name": "volume_fraction_of_condensed_water_in_soil",
                },
            )
        },
        coords={
            "time": ("time", [np.datetime64(tile.time, "ns")], {"standard_name": "time"}),
            "y": ("y", y, {**axis, "standard_name": "projection_y_coordinate"}),
            "x": ("x", x, {**axis, "standard_name": "projection_x_coordinate"}),
            "lat": (("y", "x"), lat, {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": (("y", "x"), lon, {"units": "degrees_east", "standard_name": "longitude"}),
            "crs": ((), 0, CRS.from_epsg(tile.window.epsg).to_cf()),
        },
        attrs={"Conventions": "CF-1.8", "title": "Soil moisture" + contract.synthetic_label(tile.synthetic)},
    )
    return contract.stamp(
        dataset,
        source=f"{network} network",
        catalog_id="smnb_map",
        synthetic=tile.synthetic,
        step=f"tile_map, {method}",
    )


def write_tile_map(dataset: xr.Dataset, out: str | Path) -> Path:
    """Write maps of one tile: ``.nc`` (any number of times) or ``.tif`` (one).

    Raises
    ------
    ParameterError
        On another suffix, or several times for a GeoTIFF.
    """
    out = Path(out)
    if out.suffix not in _SUFFIXES:
        raise ParameterError("write_tile_map", "unknown kind of file", got=out.name, expected=_SUFFIXES)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".nc":
        with atomic_path(out) as temporary:
            dataset.to_netcdf(temporary, engine="h5netcdf", encoding={"soil_moisture": {"zlib": True, "complevel": 4}})
        return out
    if dataset.sizes["time"] != 1:
        raise ParameterError(
            "write_tile_map",
            "a GeoTIFF holds one time",
            got=dataset.sizes["time"],
            expected=plain("1"),
            next_step="Select one, or write .nc",
        )
    import rioxarray  # noqa: F401 - registers the accessor

    image = dataset["soil_moisture"].isel(time=0, drop=True).rio.write_crs(dataset["crs"].attrs["crs_wkt"])
    with atomic_path(out) as temporary:
        image.rio.to_raster(
            temporary, driver="GTiff", compress="deflate", tags={"synthetic": str(dataset.attrs["synthetic"])}
        )
    return out
