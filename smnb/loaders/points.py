"""Time series of coarse products by location: one file a 5-degree cell, as validation services keep them.

SMAP level 3 (36 km) is an indexed ragged array: every location has the overpasses that saw it, morning (6 h local,
descending) and evening (18 h). GLDAS and ERA5-Land (`smnb.loaders.ecmwf.open_swvl1_points`) are orthogonal arrays of locations
and times.

References
----------
O'Neill et al. 2023, SMAP L3 radiometer global daily 36 km EASE-Grid soil moisture, version 9, doi:10.5067/4XXOGX0OOW1S;
Rodell et al. 2004, The Global Land Data Assimilation System, doi:10.1175/BAMS-85-3-381.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from smnb.contract import CatalogError, FormatError, ParameterError, check_choice, check_places
from smnb.grids import great_circle_km
from smnb.loaders import check_native_units, check_paths, check_present, finish, in_period, open_netcdf
from smnb.loaders.smap.fields import FLAG_FILL, FLAG_POLICIES, flag_attrs

#: Thickness of GLDAS Noah's first layer (0-10 cm), mm: kg m-2 of water over this is m3 m-3.
GLDAS_LAYER_MM = 100.0
#: Which retrievals of SMAP to keep, and the policy of `smnb.loaders.smap` that it is.
_QUALITY = {"all": "none", "retrieved": "retrieved", "recommended": "recommended"}
_LOOK_UP = "grid.nc"
#: Values of one dense array (location, time) that is not worth building.
_MOST_VALUES = 250_000_000


def smap_quality_mask(flag: ArrayLike, quality: str) -> NDArray[np.bool_]:
    """Whether SMAP's ``retrieval_qual_flag`` lets a retrieval pass.

    Parameters
    ----------
    flag : array_like of int
        Bits: 0 not of recommended quality, 1 not attempted, 2 not successful, 3 about freeze/thaw (not looked at).
    quality : {"all", "retrieved", "recommended"}
        ``retrieved``: attempted and successful (bits 1 and 2 are 0). ``recommended``: bit 0 is 0 as well. ``all``:
        whatever has a value; only this lets the fill value 65534 pass.

    Raises
    ------
    ParameterError
        For another `quality`, or flags that are no integers.

    Examples
    --------
    >>> smap_quality_mask([0, 8, 9, 13, 65534], "retrieved").tolist()
    [True, True, True, False, False]
    """
    who = "smap_quality_mask"
    check_choice(who, "quality", quality, list(_QUALITY))
    flag = np.asarray(flag)
    if flag.dtype.kind not in "iu":
        raise ParameterError(who, "the flags are no integers", got=str(flag.dtype), expected="uint16")
    if quality == "all":
        return np.ones(flag.shape, dtype=bool)
    bad = sum(1 << bit for _, bit in FLAG_POLICIES[_QUALITY[quality]])
    return (flag != FLAG_FILL) & ((flag & bad) == 0)


def _cell_files(who: str, paths: Sequence[str | Path]) -> list[Path]:
    files = [path for path in check_paths(who, paths) if path.name != _LOOK_UP]
    if not files:
        raise CatalogError(who, f"only the lookup table {_LOOK_UP} was given", next_step="Add the cell files beside it")
    return files


def _require(where: str, raw: xr.Dataset, names: Sequence[str], name: str, units: Sequence[str]) -> None:
    check_present(where, (*names, name, "lat", "lon", "location_id", "time"), raw.variables)
    check_native_units(where, name, raw[name].attrs.get("units"), units)


def _locations(where: str, raw: xr.Dataset) -> tuple[NDArray, NDArray, NDArray]:
    """Identifier, latitude and longitude of a file's locations."""
    lat, lon = (np.asarray(raw[name].values, dtype=np.float64) for name in ("lat", "lon"))
    number = raw["location_id"].values
    if lat.ndim != 1 or not lat.shape == lon.shape == number.shape:
        raise FormatError(where, "lat, lon and location_id are not one each location", got=(lat.shape, lon.shape))
    if not (np.abs(lat) <= 90.0).all() or not (np.abs(lon) <= 360.0).all():
        raise FormatError(where, "a location has no position on the Earth", got=(lat.min(), lon.min()))
    return number, lat, (lon + 180.0) % 360.0 - 180.0


def _coords(number: NDArray, lat: NDArray, lon: NDArray) -> dict[str, tuple]:
    return {
        "location_id": ("location", number),
        "lat": ("location", lat, {"units": "degrees_north", "long_name": "latitude"}),
        "lon": ("location", lon, {"units": "degrees_east", "long_name": "longitude"}),
    }


def _nearest(who: str, lat: NDArray, lon: NDArray, near: Sequence[float], max_km: float) -> tuple[NDArray, NDArray]:
    """Place (one) of the location nearest to a point, and its distance, km."""
    try:
        at_lat, at_lon = (float(value) for value in near)
    except (TypeError, ValueError) as error:
        raise ParameterError(who, "'near' is no (lat, lon)", got=near, expected="(19.9, -155.6)") from error
    check_places(f"{who}: 'near'", at_lat, at_lon)
    distance = great_circle_km(lat, lon, at_lat, at_lon)
    nearest = np.array([int(np.argmin(distance))])
    if not distance[nearest[0]] <= max_km:
        got, next_step = f"{distance[nearest[0]]:.0f} km", "Choose another point, or raise max_distance_km"
        raise CatalogError(
            who, "no location is near enough", got=got, expected=f"<= {max_km:g} km", next_step=next_step
        )
    return nearest, distance[nearest]


def _no_location_twice(who: str, number: NDArray, files: list[Path]) -> None:
    if np.unique(number).size != number.size:
        raise FormatError(who, "a location occurs twice", got=[path.name for path in files])


def _read_ragged(who: str, path: Path) -> dict[str, NDArray]:
    """One SMAP cell file as flat arrays, one value an observation, with the locations beside them."""
    where = f"{who}({path.name})"
    names = ("retrieval_qual_flag", "surface_flag", "Overpass", "locationIndex", "time", "soil_moisture")
    with open_netcdf(who, path, mask_and_scale=False, chunks=None) as raw:
        _require(where, raw, names, "soil_moisture", ("cm**3/cm**3", "m3 m-3", "m**3 m**-3"))
        number, lat, lon = _locations(where, raw)
        read = {name: raw[name].values for name in names}
        fill = np.float32(raw["soil_moisture"].attrs.get("_FillValue", -9999.0))
    index = read["locationIndex"]
    lengths = {name: values.shape for name, values in read.items()}
    if len(set(lengths.values())) != 1 or index.size == 0 or index.min() < 0 or index.max() >= number.size:
        raise FormatError(where, "this is no indexed ragged array of time series", got=lengths)
    if not np.issubdtype(read["time"].dtype, np.datetime64) or np.isnat(read["time"]).any():
        raise FormatError(where, "an observation has no time", got=str(read["time"].dtype))
    moisture = read["soil_moisture"].astype(np.float32)
    read["soil_moisture"] = np.where(moisture == fill, np.float32(np.nan), moisture)
    for name in ("retrieval_qual_flag", "surface_flag"):
        if read[name].dtype.kind not in "iu":
            raise FormatError(where, f"{name!r} is no integer", got=str(read[name].dtype), expected="uint16")
    return {**read, "number": number, "lat": lat, "lon": lon}


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
    FormatError
        If a file is no such series, or a location or one of its overpasses occurs twice.
    CatalogError
        If the period is empty, or no location is near enough.
    ParameterError
        On an unknown option, or more locations and times than fit one array.
    """
    who = "open_smap_l3_points"
    check_choice(who, "overpass", overpass, ("both", "am", "pm"))
    check_choice(who, "quality", quality, list(_QUALITY))
    files = _cell_files(who, paths)
    parts = [_read_ragged(who, path) for path in files]
    offsets = np.cumsum([0, *(part["number"].size for part in parts[:-1])])
    index = np.concatenate([part["locationIndex"] + offset for part, offset in zip(parts, offsets, strict=True)])
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    _no_location_twice(who, whole["number"], files)
    chosen, coords = np.arange(whole["lat"].size), {}
    if near is not None:
        chosen, distance = _nearest(who, whole["lat"], whole["lon"], near, max_distance_km)
        coords["distance_km"] = ("location", distance, {"units": "km"})
    keep = np.isin(index, chosen)
    if overpass != "both":
        keep &= whole["Overpass"] == {"am": 1, "pm": 2}[overpass]
    keep[keep] = in_period(who, whole["time"][keep], start, end)
    time, column = np.unique(whole["time"][keep].astype("datetime64[ns]"), return_inverse=True)
    location = np.searchsorted(chosen, index[keep])
    shape = (chosen.size, time.size)
    if np.prod(shape, dtype=np.int64) > _MOST_VALUES:
        what = "so many locations and overpasses do not fit one array"
        raise ParameterError(who, what, got=shape, next_step="Pass near=, fewer files or a shorter period")
    if np.unique(location * np.int64(time.size) + column).size != column.size:
        raise FormatError(who, "a location has two observations at one time", got=[path.name for path in files])
    moisture, flag = whole["soil_moisture"][keep], whole["retrieval_qual_flag"][keep]
    passed = smap_quality_mask(flag, quality)
    lost = {f"quality is not {quality}": int((~passed & np.isfinite(moisture)).sum())} if quality != "all" else {}
    moisture = np.where(passed, moisture, np.float32(np.nan))
    absurd = (moisture < 0.0) | (moisture > 1.0)
    lost["out_of_range"] = int(absurd.sum())

    def dense(values: NDArray, empty: float, **attrs: Any) -> tuple[Any, ...]:
        array = np.full(shape, empty, dtype=values.dtype)
        array[location, column] = values
        return ("location", "time"), array, attrs

    seen = {"flag_values": np.array([0, 1, 2], "int8"), "flag_meanings": "not_seen am pm"}
    retrieval, surface = flag_attrs("retrieval_qual_flag"), flag_attrs("surface_flag")
    data = {
        "soil_moisture": dense(
            np.where(absurd, np.float32(np.nan), moisture),
            np.nan,
            units="m3 m-3",
            long_name="volumetric soil moisture, SMAP level 3, 36 km",
            native_units="cm**3/cm**3",
            masked_by=json.dumps(lost, sort_keys=True),
        ),
        "retrieval_qual_flag": dense(flag.astype("uint16"), FLAG_FILL, long_name="retrieval quality", **retrieval),
        "surface_flag": dense(
            whole["surface_flag"][keep].astype("uint16"), FLAG_FILL, long_name="surface conditions", **surface
        ),
        "overpass": dense(whole["Overpass"][keep].astype("int8"), 0, long_name="overpass", **seen),
    }
    coords |= _coords(*(whole[name][chosen] for name in ("number", "lat", "lon")))
    coords["time"] = ("time", time, {"long_name": "time of overpass", "standard_name": "time"})
    step = f"{len(files)} cell files, overpass {overpass}, quality {quality}"
    dataset = xr.Dataset(data, coords)
    source = "SMAP L3 radiometer soil moisture, 36 km, time series"
    return finish(dataset, who, catalog_id, synthetic, source, step, ["soil_moisture"])


def read_series(
    who: str,
    paths: Sequence[str | Path],
    native: str,
    units: Sequence[str],
    *,
    start: str | None,
    end: str | None,
    near: tuple[float, float] | None,
    max_distance_km: float,
) -> tuple[NDArray[np.float64], xr.Dataset, dict[str, Any]]:
    """Native values ``(location, time)`` of cell files that are orthogonal arrays, NaN where a file lacks a time."""
    parts, files = [], _cell_files(who, paths)
    for path in files:
        where = f"{who}({path.name})"
        with open_netcdf(who, path, chunks=None) as raw:
            _require(where, raw, (), native, units)
            if set(raw[native].dims) != {"locations", "time"}:
                raise FormatError(where, f"{native!r} is no series (locations, time)", got=raw[native].dims)
            number, lat, lon = _locations(where, raw)
            if not np.issubdtype(raw["time"].dtype, np.datetime64):
                raise FormatError(where, "there is no time of the standard calendar", got=str(raw["time"].dtype))
            rows = np.arange(lat.size)
            if near is not None:  # the nearest of all files is the nearest of one of them
                rows, _ = _nearest(who, lat, lon, near, np.inf)
            values = raw[native].transpose("locations", "time").isel(locations=rows).values.astype("float64")
            coords = _coords(number[rows], lat[rows], lon[rows])
            coords["time"] = ("time", raw["time"].values.astype("datetime64[ns]"))
            about = {"native_units": raw[native].attrs["units"], "native_name": native}
        parts.append(xr.Dataset({"values": (("location", "time"), values)}, coords))
    dataset = xr.concat(parts, dim="location", join="outer", combine_attrs="override").sortby("time")
    _no_location_twice(who, dataset["location_id"].values, files)
    if near is not None:
        chosen, distance = _nearest(who, dataset["lat"].values, dataset["lon"].values, near, max_distance_km)
        dataset = dataset.isel(location=chosen).assign_coords(distance_km=("location", distance, {"units": "km"}))
    dataset = dataset.isel(time=np.flatnonzero(in_period(who, dataset["time"].values, start, end)))
    dataset["time"].attrs = {"standard_name": "time", "long_name": "time"}
    return dataset["values"].values, dataset.drop_vars("values"), about


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
    water, dataset, about = read_series(who, paths, "SoilMoi0_10cm_inst", ("kg m-2", "kg/m2", "kg m**-2"), **options)
    values = water / GLDAS_LAYER_MM
    absurd = (values < 0.0) | (values > 1.0)  # the fill value -9999 kg m-2 among them, where a file does not declare it
    attrs = {
        "units": "m3 m-3",
        "long_name": "volumetric soil moisture, GLDAS Noah, 0-10 cm",
        **about,
        "masked_by": json.dumps({"out_of_range": int(absurd.sum())}),
    }
    dataset["soil_moisture"] = (("location", "time"), np.where(absurd, np.nan, values).astype("float32"), attrs)
    step = f"cell files; kg m-2 / {GLDAS_LAYER_MM:g} mm to m3 m-3"
    source = "GLDAS Noah 2.1, soil moisture of 0-10 cm, time series"
    return finish(dataset, who, catalog_id, synthetic, source, step, ["soil_moisture"])
