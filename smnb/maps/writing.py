"""A map under the data contract, and on disk: CF-NetCDF, CF-Zarr or Cloud-Optimised GeoTIFF, whole or not at all."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numcodecs import Zstd

from smnb import contract
from smnb.contract import ParameterError, foreign, plain
from smnb.files import atomic_path, check_output, disk_faults, give_name
from smnb.loaders import CHECKSUM, UNSTATED, write_checksum

MAP_SUFFIXES = (".nc", ".zarr", ".tif")
BLOCK = 512  # side of the chunks of a map and of the blocks of a GeoTIFF


def soil_moisture_map(
    values: Any,
    dims: tuple[str, ...],
    coords: Mapping[str, Any],
    *,
    synthetic: bool,
    source: str,
    step: str,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Put predicted values (m3 m-3, missing NaN) under the data contract, as ``soil_moisture``.

    Parameters
    ----------
    values : array
        May be a dask array, which `write_map` writes piece by piece; the last two of its `dims` are rows and columns.
    coords, attrs : mapping
        For an xarray constructor, a scalar ``crs`` being the grid mapping; further attributes of the variable.
    source, step : str
        The network and what was done, for the contract's stamp.
    """
    named = {"units": "m3 m-3", "long_name": "volumetric soil moisture"}
    named |= {"standard_name": "volume_fraction_of_condensed_water_in_soil"}
    attributes = named | ({"grid_mapping": "crs"} if "crs" in coords else {}) | dict(attrs or {})
    heads = {"Conventions": "CF-1.8", "title": "Soil moisture" + contract.synthetic_label(synthetic)}
    dataset = xr.Dataset({"soil_moisture": (dims, values, attributes)}, coords, heads)
    return contract.stamp(dataset, source=source, catalog_id="smnb_map", synthetic=synthetic, step=step)


def check_map_path(dataset: xr.Dataset, path: str | Path) -> None:
    """Raise unless a map can be written under this name, as `write_map` does, before it is computed."""
    path, image = Path(path), dataset["soil_moisture"]
    if path.suffix not in MAP_SUFFIXES:
        raise ParameterError("write_map", "unknown kind of file", got=path.name, expected=MAP_SUFFIXES)
    # HDF5 does not survive a disk that gets full (it takes the process with it)
    check_output("write_map", path, 0 if path.suffix == ".zarr" else image.nbytes)
    if path.suffix != ".tif":
        return
    if image.sizes.get("time", 1) != 1:
        got, step = image.sizes["time"], "Select one, or write .nc or .zarr"
        raise ParameterError("write_map", "a GeoTIFF holds one time", got=got, expected=1, next_step=step)
    if _georeference(dataset) is None:
        expected = plain("even y and x with a grid mapping crs (EaseWindow.coords()), or even lat and lon")
        what, step = "a GeoTIFF needs a place on an even grid", "Give the coordinates, or write .nc or .zarr"
        raise ParameterError("write_map", what, got=image.dims, expected=expected, next_step=step)


def write_map(dataset: xr.Dataset, path: str | Path) -> Path:
    """Write a map and give it its name when it is whole; what has this name is replaced.

    Parameters
    ----------
    dataset : Dataset
        ``soil_moisture``, such as `soil_moisture_map` makes; lazy values are computed and written piece by piece.
    path : path-like
        ``.nc`` or ``.zarr`` (CF, any number of times) or ``.tif`` (Cloud-Optimised GeoTIFF, one time).

    `ParameterError` on another suffix, or for a GeoTIFF of several times or without a place.
    """
    import dask

    path = Path(path)
    check_map_path(dataset, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = dataset["soil_moisture"]
    # one piece after another: pieces may be large, or predicted by all cores
    with dask.config.set(scheduler="synchronous"), _whole(path) as temporary:
        if path.suffix == ".tif":
            _write_cog(temporary, dataset)
            return path
        chunks = tuple(1 if dim == "time" else min(BLOCK, image.sizes[dim]) for dim in image.dims)
        encoding: dict[str, Any] = {"_FillValue": np.float32("nan")}
        if path.suffix == ".zarr":
            # version 2 of the format: what every reader, GDAL and netCDF-C among them, understands
            options = {"mode": "w", "zarr_format": 2, "consolidated": True, "align_chunks": True}
            guard: dict[str, Any] = {"compressors": Zstd(checksum=True)}
            by_name = {**dict.fromkeys(_axes(dataset), guard), "soil_moisture": encoding | guard | {"chunks": chunks}}
            dataset.assign_attrs({CHECKSUM: UNSTATED}).to_zarr(temporary, encoding=by_name, **options)
            write_checksum(temporary)
        else:
            encoding |= {"zlib": True, "complevel": 1, "chunksizes": chunks}
            write_netcdf(temporary, dataset, {"soil_moisture": encoding})
    return path


def write_netcdf(path: Path, dataset: xr.Dataset, encoding: dict[str, dict[str, Any]]) -> None:
    """Write NetCDF with HDF5's checksums of its arrays, which every reader checks, and one of all the file."""
    names = [*_axes(dataset), *dataset.data_vars]
    guarded = {name: {"fletcher32": True} | encoding.get(name, {}) for name in names if dataset[name].ndim}
    dataset.assign_attrs({CHECKSUM: UNSTATED}).to_netcdf(path, engine="h5netcdf", encoding=encoding | guarded)
    write_checksum(path)


def _axes(dataset: xr.Dataset) -> list[Any]:
    """Names of coordinates whose numbers can carry checksums of their own."""
    return [name for name, one in dataset.coords.items() if one.ndim and one.size and one.dtype.kind in "fiuM"]


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """`smnb.files.atomic_path`, also for a folder."""
    if path.suffix != ".zarr":
        with atomic_path(path) as temporary:
            yield temporary
        return
    stale = temporary, replaced = [path.with_name(f".{path.name}.{word}") for word in ("partial", "replaced")]
    try:
        for folder in stale:
            shutil.rmtree(folder, ignore_errors=True)
        with disk_faults(path):
            yield temporary
        if path.exists():  # a folder cannot be replaced in one step
            path.replace(replaced)
        give_name(temporary, path)
    finally:
        for folder in stale:
            shutil.rmtree(folder, ignore_errors=True)


def _georeference(dataset: xr.Dataset) -> tuple[str, tuple[float, ...], bool] | None:
    """CRS, affine coefficients of the map with north up, and whether its rows run from south to north; None without."""
    from smnb.loaders.rasters.placing import crs_of  # GDAL costs much to load

    row, col = dataset["soil_moisture"].dims[-2:]
    if not {row, col} <= set(dataset.coords) or ((row, col) != ("lat", "lon") and "crs" not in dataset.coords):
        return None
    y, x = dataset[row].values, dataset[col].values
    if min(y.size, x.size) < 2:
        return None
    steps = [float(axis[-1] - axis[0]) / (axis.size - 1) for axis in (y, x)]
    if not all(np.allclose(np.diff(axis), step, rtol=1e-3, atol=0) for axis, step in zip((y, x), steps, strict=True)):
        return None
    with foreign("write_map", "the coordinate 'crs' is no grid mapping", next_step="Write .nc or .zarr"):
        crs = "EPSG:4326" if (row, col) == ("lat", "lon") else dataset["crs"].attrs["crs_wkt"]
        crs_of(crs)
    north = float(max(y[0], y[-1])) + abs(steps[0]) / 2
    return crs, (steps[1], 0.0, float(x[0]) - steps[1] / 2, 0.0, -abs(steps[0]), north), steps[0] > 0


def _write_cog(path: Path, dataset: xr.Dataset) -> None:
    """Write a GeoTIFF in bands of rows, then copy it in the order that a Cloud-Optimised one has.

    Compressed, in memory: where a disk fails GDAL goes on, writes something else, or takes the process with it.
    """
    import rasterio
    import rasterio.shutil
    from rasterio.windows import Window

    image = dataset["soil_moisture"]
    image = image.squeeze("time") if "time" in image.dims else image
    (rows, cols), (crs, transform, flip) = image.shape, _georeference(dataset)
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": rows, "width": cols, "nodata": math.nan}
    profile |= {"crs": crs, "transform": rasterio.Affine(*transform), "BIGTIFF": "IF_SAFER"}
    profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "DEFLATE", "zlevel": 1}
    with rasterio.MemoryFile() as plain_tif, rasterio.MemoryFile() as cog:
        with plain_tif.open(**profile) as tif:
            for start in range(0, rows, BLOCK):
                stop = min(start + BLOCK, rows)
                values = image[rows - stop : rows - start].values[::-1] if flip else image[start:stop].values
                tif.write(np.ascontiguousarray(values, dtype="float32"), 1, window=Window(0, start, cols, stop - start))
            tif.set_band_description(1, "soil_moisture")
            tif.set_band_unit(1, image.attrs["units"])
            tif.update_tags(1, **{k: str(v) for k, v in image.attrs.items()})
            tif.update_tags(**{k: str(v) for k, v in dataset.attrs.items()}, **{CHECKSUM: UNSTATED})
            if "time" in image.coords:
                tif.update_tags(time=str(image["time"].values))
        options = {"COMPRESS": "DEFLATE", "PREDICTOR": "YES", "BLOCKSIZE": BLOCK, "BIGTIFF": "IF_SAFER"}
        overviews = {"OVERVIEWS": "IGNORE_EXISTING", "OVERVIEW_RESAMPLING": "AVERAGE"}
        rasterio.shutil.copy(plain_tif.name, cog.name, driver="COG", **options, **overviews)
        path.write_bytes(cog.getbuffer())
        write_checksum(path)


def read_attribute(path: Path, name: str) -> str | None:
    """A global attribute of a map on disk; None if it has none, or is no map."""
    import rasterio

    try:
        if path.suffix == ".tif":
            with rasterio.open(path) as tif:
                return tif.tags().get(name)
        with xr.open_dataset(path, engine="zarr" if path.suffix == ".zarr" else "h5netcdf") as dataset:
            return dataset.attrs.get(name)
    except Exception:  # whatever its reader makes of damage, it is no map of ours
        return None
