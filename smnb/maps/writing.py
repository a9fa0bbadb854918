"""A finished map on disk: CF-Zarr or Cloud-Optimised GeoTIFF, written beside and renamed."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from smnb import contract
from smnb.contract import ContractError, ParameterError, plain
from smnb.grids import EaseWindow

MAP_SUFFIXES = (".zarr", ".tif")
#: Side of the chunks of a Zarr map and of the blocks of a GeoTIFF.
BLOCK = 512
#: Attribute that says which inputs, network and settings a map is of.
IDENTITY = "smnb_map_identity"

#: ``read(row_start, row_stop) -> (row, col)`` values, m3 m-3.
ReadRows = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class MapPlace:
    """Where a map lies.

    Parameters
    ----------
    dims : pair of str
    coords : dict
        Coordinates for an xarray constructor.
    crs : str, optional
        ``EPSG:...``
    transform : tuple of float, optional
        Affine coefficients ``(a, b, c, d, e, f)`` of the map with north up.
    flip : bool
        Whether rows run from south to north, so that a GeoTIFF has them in the other order.
    """

    dims: tuple[str, str] = ("y", "x")
    coords: dict[str, Any] | None = None
    crs: str | None = None
    transform: tuple[float, ...] | None = None
    flip: bool = False

    @classmethod
    def of(cls, inputs: Any, window: EaseWindow | None, shape: tuple[int, int]) -> MapPlace:
        """Find the place of inputs: a window of an EASE-Grid, latitudes and longitudes, or none."""
        if window is None and isinstance(inputs, (xr.DataArray, xr.Dataset)):
            if {"lat", "lon"} <= set(inputs.dims):
                return cls._regular(inputs["lat"].values, inputs["lon"].values)
            if {"row", "col"} <= set(inputs.coords):
                window = EaseWindow.from_dataset(inputs)
            else:
                return cls(coords={name: inputs[name].variable for name in ("y", "x") if name in inputs.coords})
        if window is None:
            return cls()
        if window.shape != shape:
            raise ContractError(
                "tiled_map", "the window has another shape than the inputs", got=window.shape, expected=shape
            )
        cell = window.grid.cell
        transform = (cell, 0.0, float(window.x[0]) - cell / 2, 0.0, -cell, float(window.y[0]) + cell / 2)
        return cls(("y", "x"), window.coords(), "EPSG:6933", transform)

    @classmethod
    def _regular(cls, lat: np.ndarray, lon: np.ndarray) -> MapPlace:
        steps = [float(np.diff(axis).mean()) if axis.size > 1 else math.nan for axis in (lat, lon)]
        even = all(
            np.allclose(np.diff(axis), step, rtol=1e-3, atol=0) for axis, step in zip((lat, lon), steps, strict=True)
        )
        coords = {
            "lat": ("lat", lat, {"units": "degrees_north", "standard_name": "latitude", "axis": "Y"}),
            "lon": ("lon", lon, {"units": "degrees_east", "standard_name": "longitude", "axis": "X"}),
        }
        if not even or not all(map(math.isfinite, steps)):
            return cls(("lat", "lon"), coords)
        north = float(lat.max()) + abs(steps[0]) / 2
        transform = (steps[1], 0.0, float(lon[0]) - steps[1] / 2, 0.0, -abs(steps[0]), north)
        return cls(("lat", "lon"), coords, "EPSG:4326", transform, flip=steps[0] > 0)

    def check_suffix(self, out: Path) -> None:
        """Raise unless a map of this place can be written to `out`."""
        if out.suffix not in MAP_SUFFIXES:
            raise ParameterError("tiled_map", "unknown kind of file", got=out.name, expected=MAP_SUFFIXES)
        if out.suffix == ".tif" and self.transform is None:
            raise ParameterError(
                "tiled_map",
                "a GeoTIFF needs a place on an even grid",
                got=self.dims,
                expected=plain("inputs with the coordinates of EaseWindow.coords(), or even lat and lon"),
                next_step="Pass the window, or write .zarr",
            )


def write_map(
    out: Path,
    read: ReadRows,
    shape: tuple[int, int],
    place: MapPlace,
    *,
    folder: Path,
    attrs: dict[str, Any],
    identity: str,
    synthetic: bool,
    source: str,
    step: str,
) -> None:
    """Write a map and give it its name when it is whole.

    Parameters
    ----------
    out : Path
        ``.zarr`` or ``.tif``; what has this name is replaced.
    read : callable
    shape : pair of int
    place : MapPlace
    folder : Path
        On the same file system, for what is not yet whole.
    attrs : dict
        Further attributes of the variable.
    identity : str
    synthetic : bool
    source, step : str
        For the contract's stamp.
    """
    attributes = {
        "units": "m3 m-3",
        "long_name": "volumetric soil moisture",
        "standard_name": "volume_fraction_of_condensed_water_in_soil",
        **attrs,
    }
    stamped = xr.Dataset(
        attrs={
            "Conventions": "CF-1.8",
            "title": "Soil moisture" + contract.synthetic_label(synthetic),
            IDENTITY: identity,
        }
    )
    contract.stamp(stamped, source=source, catalog_id="smnb_map", synthetic=synthetic, step=step)
    whole = folder / f"whole{out.suffix}"
    _remove(whole)
    if out.suffix == ".zarr":
        _write_zarr(whole, read, shape, place, attributes, stamped.attrs)
    else:
        _write_cog(whole, read, shape, place, attributes, stamped.attrs, folder)
    if out.is_dir():  # a folder cannot be replaced in one step
        out.replace(folder / "replaced")
    whole.replace(out)


def _bands(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    for start in range(0, shape[0], BLOCK):
        yield start, min(start + BLOCK, shape[0])


def _write_zarr(
    path: Path,
    read: ReadRows,
    shape: tuple[int, int],
    place: MapPlace,
    attributes: dict[str, Any],
    global_attributes: dict[str, Any],
) -> None:
    import dask.array
    import zarr

    coords = place.coords or {}
    values = dask.array.zeros(shape, dtype="float32", chunks=BLOCK)
    template = xr.Dataset({"soil_moisture": (place.dims, values, attributes)}, coords, global_attributes)
    encoding: dict[str, Any] = {"chunks": tuple(min(BLOCK, size) for size in shape), "_FillValue": np.float32("nan")}
    if "crs" in coords:
        encoding["grid_mapping"] = "crs"
    # version 2 of the format: what every reader, GDAL and netCDF-C among them, understands
    template.to_zarr(
        path, mode="w", zarr_format=2, consolidated=True, compute=False, encoding={"soil_moisture": encoding}
    )
    array = zarr.open_group(path, mode="r+", zarr_format=2)["soil_moisture"]
    for start, stop in _bands(shape):
        array[start:stop] = read(start, stop)


def _write_cog(
    path: Path,
    read: ReadRows,
    shape: tuple[int, int],
    place: MapPlace,
    attributes: dict[str, Any],
    global_attributes: dict[str, Any],
    folder: Path,
) -> None:
    import rasterio
    import rasterio.shutil
    from rasterio.windows import Window

    plain_tif = folder / "plain.tif"
    rows, cols = shape
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": 1,
        "height": rows,
        "width": cols,
        "nodata": math.nan,
        "crs": place.crs,
        "transform": rasterio.Affine(*place.transform),
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "BIGTIFF": "IF_SAFER",
    }
    with rasterio.open(plain_tif, "w", **profile) as tif:
        for start, stop in _bands(shape):
            values = read(rows - stop, rows - start)[::-1] if place.flip else read(start, stop)
            tif.write(np.ascontiguousarray(values, dtype="float32"), 1, window=Window(0, start, cols, stop - start))
        tif.set_band_description(1, "soil_moisture")
        tif.set_band_unit(1, "m3 m-3")
        tif.update_tags(1, **{k: str(v) for k, v in attributes.items()})
        tif.update_tags(**{k: str(v) for k, v in global_attributes.items()})
    rasterio.shutil.copy(
        plain_tif,
        path,
        driver="COG",
        COMPRESS="DEFLATE",
        PREDICTOR="YES",
        BLOCKSIZE=BLOCK,
        OVERVIEWS="IGNORE_EXISTING",
        OVERVIEW_RESAMPLING="AVERAGE",
        BIGTIFF="IF_SAFER",
    )
    plain_tif.unlink()
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def map_identity(out: Path) -> str | None:
    """What an existing map says it is of; None if it is no map of ours."""
    if out.suffix == ".tif":
        import rasterio
        from rasterio.errors import RasterioIOError

        try:
            with rasterio.open(out) as tif:
                return tif.tags().get(IDENTITY)
        except RasterioIOError:
            return None
    import zarr
    from zarr.errors import GroupNotFoundError

    try:
        return zarr.open_group(out, mode="r").attrs.asdict().get(IDENTITY)
    except (GroupNotFoundError, FileNotFoundError, NotADirectoryError):
        return None
