"""Time series of coarse products by location: one file a 5-degree cell, as validation services keep them.

SMAP level 3 (36 km, doi:10.5067/4XXOGX0OOW1S) is an indexed ragged array: every location has the overpasses that saw it. GLDAS
(doi:10.1175/BAMS-85-3-381) and `smnb.loaders.ecmwf.open_swvl1_points` are orthogonal arrays of locations and times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from smnb.contract import CatalogError, FormatError, ParameterError, check_choice, check_places, foreign, plain
from smnb.grids import great_circle_km
from smnb.loaders import check_native_units, check_paths, check_present, finish, in_period, open_netcdf
from smnb.loaders.smap.fields import FLAG_FILL, FLAG_POLICIES, flag_attrs

GLDAS_LAYER_MM = 100.0  # thickness of GLDAS Noah's first layer (0-10 cm), mm: kg m-2 of water over this is m3 m-3
#: Which retrievals of SMAP to keep, and the policy of `smnb.loaders.smap` that it is.
_QUALITY = {"all": "none", "retrieved": "retrieved", "recommended": "recommended"}
_LOOK_UP = "grid.nc"
_MOST_VALUES = 250_000_000  # values of one dense array (location, time) that is not worth building


def smap_quality_mask(flag: ArrayLike, quality: str) -> NDArray[np.bool_]:
    """Whether SMAP's ``retrieval_qual_flag`` (integers) lets a retrieval pass.

    ``retrieved``: attempted and successful (bits 1 and 2 are 0). ``recommended``: bit 0 is 0 as well. ``all``: whatever has a
    value; only this lets the fill value 65534 pass. Bit 3, about freeze/thaw, is not looked at.

    >>> smap_quality_mask([0, 8, 9, 13, 65534], "retrieved").tolist()
    [True, True, True, False, False]
    """
    who = "smap_quality_mask"
    check_choice(who, "quality", quality, list(_QUALITY))
    flag = np.asarray(flag)
    if flag.dtype.kind not in "iu":
        raise ParameterError(who, "the flags are no integers", got=str(flag.dtype), expected="uint16")
    bad = sum(1 << bit for _, bit in FLAG_POLICIES[_QUALITY[quality]])
    return np.ones(flag.shape, dtype=bool) if quality == "all" else (flag != FLAG_FILL) & ((flag & bad) == 0)


def _locations(where: str, raw: xr.Dataset) -> tuple[NDArray, NDArray, NDArray]:
    """Identifier, latitude and longitude of a file's locations."""
    lat, lon = (np.asarray(raw[name].values, dtype=np.float64) for name in ("lat", "lon"))
    number = raw["location_id"].values
    if lat.ndim != 1 or not lat.shape == lon.shape == number.shape:
        raise FormatError(where, "lat, lon and location_id are not one each location", got=(lat.shape, lon.shape))
    if not (np.abs(lat) <= 90.0).all() or not (np.abs(lon) <= 360.0).all():
        raise FormatError(where, "a location has no position on the Earth", got=(lat.min(), lon.min()))
    return number, lat, (lon + 180.0) % 360.0 - 180.0


def _read_cells(
    who: str,
    paths: Sequence[str | Path],
    native: str,
    units: Sequence[str],
    build: Callable[[str, xr.Dataset, NDArray[np.intp]], xr.Dataset],
    *,
    start: str | None,
    end: str | None,
    near: tuple[float, float] | None,
    max_distance_km: float,
    fill: Any = np.nan,
    **options: Any,
) -> tuple[xr.Dataset, int]:
    """Series ``(location, time)`` of cell files, and the number of files.

    `build` makes them of one file and some of its locations; `fill` is what is where a file lacks a time, and `options` are those
    of `open_netcdf`.
    """
    files = [path for path in check_paths(who, paths) if path.name != _LOOK_UP]
    if not files:
        raise CatalogError(who, f"only the lookup table {_LOOK_UP} was given", next_step="Add the cell files beside it")
    if near is not None:
        try:
            at_lat, at_lon = (float(value) for value in near)
        except (TypeError, ValueError) as error:
            raise ParameterError(who, "'near' is no (lat, lon)", got=near, expected="(19.9, -155.6)") from error
        check_places(f"{who}: 'near'", at_lat, at_lon)
    parts, numbers, nearest = [], [], np.inf
    for path in files:
        where = f"{who}({path.name})"
        with foreign(where), open_netcdf(who, path, chunks=None, **options) as raw:
            check_present(where, (native, "lat", "lon", "location_id", "time"), raw.variables)
            check_native_units(where, native, raw[native].attrs.get("units"), units)
            number, lat, lon = _locations(where, raw)
            if not np.issubdtype(raw["time"].dtype, np.datetime64) or np.isnat(raw["time"].values).any():
                raise FormatError(where, "there is no time of the standard calendar", got=str(raw["time"].dtype))
            numbers.append(number)
            rows, coords = np.arange(lat.size), {}
            if near is not None:
                distance = great_circle_km(lat, lon, at_lat, at_lon)
                rows = np.array([np.argmin(distance)])
                if distance[rows[0]] >= nearest:
                    continue
                nearest, parts = distance[rows[0]], []
                coords["distance_km"] = ("location", distance[rows], {"units": "km"})
            coords["location_id"] = ("location", number[rows])
            coords["lat"] = ("location", lat[rows], {"units": "degrees_north", "long_name": "latitude"})
            coords["lon"] = ("location", lon[rows], {"units": "degrees_east", "long_name": "longitude"})
            parts.append(build(where, raw, rows).assign_coords(coords))
    if np.unique(np.concatenate(numbers)).size != sum(map(len, numbers)):
        raise FormatError(who, "a location occurs twice", got=[path.name for path in files])
    if near is not None and not nearest <= max_distance_km:
        got, next_step = f"{nearest:.0f} km", "Choose another point, or raise max_distance_km"
        expected = plain(f"<= {max_distance_km:g} km")
        raise CatalogError(who, "no location is near enough", got=got, expected=expected, next_step=next_step)
    shape = (
        sum(one.sizes["location"] for one in parts),
        np.unique(np.concatenate([one["time"] for one in parts])).size,
    )
    if np.prod(shape, dtype=np.int64) > _MOST_VALUES:
        what = "so many locations and times do not fit one array"
        raise ParameterError(who, what, got=shape, next_step="Pass near=, or fewer files")
    dataset = xr.concat(parts, dim="location", join="outer", combine_attrs="override", fill_value=fill).sortby("time")
    dataset = dataset.isel(time=np.flatnonzero(in_period(who, dataset["time"].values, start, end)))
    dataset["time"].attrs = {"standard_name": "time", "long_name": "time"}
    return dataset, len(files)


def open_smap_l3_points(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
    near: tuple[float, float] | None = None,
    max_distance_km: float = 50.0,
    overpass: str = "both",
    quality: str = "retrieved",
) -> xr.Dataset:
    """Open SMAP level 3 soil moisture as time series by location.

    Parameters
    ----------
    paths : sequence of path-like
        Cell files; ``grid.nc``, the lookup table beside them, is passed over.
    near : (lat, lon), optional
        Keep only the location nearest to this point, in degrees.
    max_distance_km : float
        Greatest distance that `near` accepts.
    overpass : {"both", "am", "pm"}
        Descending (6 h local) and ascending (18 h) overpasses.
    quality : {"retrieved", "recommended", "all"}
        As `smap_quality_mask`; what it takes away is NaN and counted in ``masked_by``, the flags stay.

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(location, time)``, m3 m-3, at the times of all overpasses of all locations, NaN where a location
        was not seen; ``retrieval_qual_flag`` and ``surface_flag`` (uint16, 65534 where not seen) and ``overpass`` (int8, 1 am,
        2 pm, 0 not seen), with the coordinates ``lat``, ``lon``, ``location_id`` and with `near` also ``distance_km``.

    Raises
    ------
    FormatError, CatalogError, ParameterError
        If a file is no such series, or a location or one of its overpasses occurs twice; if the period is empty, or no location
        is near enough; for more locations and times than fit one array.
    """
    who = "open_smap_l3_points"
    check_choice(who, "overpass", overpass, ("both", "am", "pm"))
    check_choice(who, "quality", quality, list(_QUALITY))
    natives = {name: name for name in ("soil_moisture", "retrieval_qual_flag", "surface_flag")} | {
        "overpass": "Overpass"
    }
    types = dict(zip(natives, ("float32", "uint16", "uint16", "int8"), strict=True))
    fill = dict(zip(natives, (np.nan, FLAG_FILL, FLAG_FILL, 0), strict=True))

    def dense(where: str, raw: xr.Dataset, rows: NDArray[np.intp]) -> xr.Dataset:
        """An indexed ragged array, one value an observation, as a dense one."""
        check_present(where, (*natives.values(), "locationIndex"), raw.variables)
        index, time = raw["locationIndex"].values, raw["time"].values.astype("datetime64[ns]")
        lengths = {name: raw[name].shape for name in (*natives.values(), "locationIndex", "time")}
        if len(set(lengths.values())) != 1 or index.size == 0 or index.min() < 0 or index.max() >= raw["lat"].size:
            raise FormatError(where, "this is no indexed ragged array of time series", got=lengths)
        keep = np.isin(index, rows)
        if overpass != "both":
            keep &= raw["Overpass"].values == {"am": 1, "pm": 2}[overpass]
        times, column = np.unique(time[keep], return_inverse=True)
        place = (np.searchsorted(rows, index[keep]), column)
        if pd.DataFrame({"row": place[0], "column": column}).duplicated().any():
            raise FormatError(where, "a location has two observations at one time")
        data = {}
        for name, native in natives.items():
            if name.endswith("flag") and raw[native].dtype.kind not in "iu":
                raise FormatError(where, f"{name!r} is no integer", got=str(raw[native].dtype), expected="uint16")
            data[name] = (("location", "time"), np.full((rows.size, times.size), fill[name], types[name]))
            data[name][1][place] = raw[native].values[keep]
        missing = np.float32(raw["soil_moisture"].attrs.get("_FillValue", -9999.0))
        data["soil_moisture"][1][data["soil_moisture"][1] == missing] = np.nan
        return xr.Dataset(data, {"time": times})

    options = {"start": start, "end": end, "near": near, "max_distance_km": max_distance_km}
    options |= {"fill": fill, "mask_and_scale": False}
    units = ("cm**3/cm**3", "m3 m-3", "m**3 m**-3")
    dataset, n_files = _read_cells(who, paths, "soil_moisture", units, dense, **options)
    dataset = dataset.astype(types)
    moisture, lost = dataset["soil_moisture"].values, {}
    if quality != "all":
        failed = ~smap_quality_mask(dataset["retrieval_qual_flag"].values, quality) & np.isfinite(moisture)
        lost[f"quality is not {quality}"], moisture[failed] = int(failed.sum()), np.nan
    absurd = (moisture < 0.0) | (moisture > 1.0)
    lost["out_of_range"], moisture[absurd] = int(absurd.sum()), np.nan
    seen = {"flag_values": np.array([0, 1, 2], "int8"), "flag_meanings": "not_seen am pm"}
    moisture_name = "volumetric soil moisture, SMAP level 3, 36 km"
    dataset["soil_moisture"].attrs = {"units": "m3 m-3", "long_name": moisture_name, "native_units": "cm**3/cm**3"}
    dataset["soil_moisture"].attrs["masked_by"] = json.dumps(lost, sort_keys=True)
    for name, long_name in (("retrieval_qual_flag", "retrieval quality"), ("surface_flag", "surface conditions")):
        dataset[name].attrs = {"long_name": long_name, **flag_attrs(name)}
    dataset["overpass"].attrs = {"long_name": "overpass", **seen}
    dataset["time"].attrs["long_name"] = "time of overpass"
    step = f"{n_files} cell files, overpass {overpass}, quality {quality}"
    source = "SMAP L3 radiometer soil moisture, 36 km, time series"
    return finish(dataset, who, catalog_id, synthetic, source, step, ["soil_moisture"])


def read_series(
    who: str, paths: Sequence[str | Path], native: str, units: Sequence[str], **options: Any
) -> tuple[xr.DataArray, xr.Dataset]:
    """Native values ``(location, time)`` of cell files that are orthogonal arrays, and their coordinates."""

    def values(where: str, raw: xr.Dataset, rows: NDArray[np.intp]) -> xr.Dataset:
        if set(raw[native].dims) != {"locations", "time"}:
            raise FormatError(where, f"{native!r} is no series (locations, time)", got=raw[native].dims)
        array = raw[native].transpose("locations", "time").isel(locations=rows).values.astype("float64")
        about = {"native_units": raw[native].attrs["units"], "native_name": native}
        time = raw["time"].values.astype("datetime64[ns]")
        return xr.Dataset({"values": (("location", "time"), array, about)}, {"time": time})

    dataset, _ = _read_cells(who, paths, native, units, values, **options)
    return dataset["values"], dataset.drop_vars("values")


def open_gldas_points(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
    near: tuple[float, float] | None = None,
    max_distance_km: float = 50.0,
) -> xr.Dataset:
    """Open GLDAS Noah soil moisture of 0-10 cm as time series by location; parameters and errors as `open_smap_l3_points`.

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(location, time)``, m3 m-3 (water in kg m-2 over 100 mm of soil), 3-hourly, with the coordinates
        ``lat``, ``lon``, ``location_id`` and with `near` also ``distance_km``. The product has no flags.
    """
    who = "open_gldas_points"
    options = {"start": start, "end": end, "near": near, "max_distance_km": max_distance_km}
    water, dataset = read_series(who, paths, "SoilMoi0_10cm_inst", ("kg m-2", "kg/m2", "kg m**-2"), **options)
    values = water / GLDAS_LAYER_MM
    absurd = (values < 0.0) | (values > 1.0)  # the fill value -9999 kg m-2 among them, where a file does not declare it
    long_name = "volumetric soil moisture, GLDAS Noah, 0-10 cm"
    attrs = {"units": "m3 m-3", "long_name": long_name, **water.attrs}
    attrs["masked_by"] = json.dumps({"out_of_range": int(absurd.sum())})
    dataset["soil_moisture"] = values.where(~absurd).astype("float32").assign_attrs(attrs)
    step = f"cell files; kg m-2 / {GLDAS_LAYER_MM:g} mm to m3 m-3"
    source = "GLDAS Noah 2.1, soil moisture of 0-10 cm, time series"
    return finish(dataset, who, catalog_id, synthetic, source, step, ["soil_moisture"])
