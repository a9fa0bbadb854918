"""ECMWF volumetric soil water, layer 1 (0-7 cm), of ERA-Interim, ERA5 and ERA5-Land in every NetCDF dress they come in.

Old files have ``time/latitude/longitude``, packed int16, 0…360 longitudes and north first; those of the newer Climate Data Store
have ``valid_time``, ``expver`` and ``number``, unpacked, and monthly ones integers such as 20110701 for times.
doi:10.1002/qj.828, 10.24381/cds.adbb2d47, 10.24381/cds.e2161bac.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import ContractError, FormatError, check_box, check_dataset, foreign, orient_lat_lon, plain, stamp
from smnb.loaders import check_native_units, check_paths, finish, in_period, open_netcdf
from smnb.loaders.points import read_series

_UNITS = ("m**3 m**-3", "m3 m-3", "m^3 m^-3")  # spellings of m3 m-3 that ECMWF's encoders use
_ATTRS = {"units": "m3 m-3", "long_name": "volumetric soil moisture, 0-7 cm", "native_name": "swvl1"}
_ABSURD = 1e30  # GRIB's missing value is 3.4e38 and survives some conversions; nothing physical is near it
_CHUNK_VALUES = 4_000_000  # values per dask chunk, about 16 MB of float32
_NOISE = 0.01  # packing as int16 and spectral interpolation leave negatives of this order where the soil is dry
#: Names of the time of analysis, the surest first: beside ``valid_time``, ``time`` is the reference time.
_TIMES = ("valid_time", "time", "date")
#: How dates without separators are written, by their number of digits.
_DATE_FORMS = {6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H"}


def _version(value: Any) -> str:
    """A version as "1" (final), "5" (ERA5T) or another's name: 1, 1.0, "0001" and b"0001" alike; "" where none is stated."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    text = re.sub(r"""^b(['"])(.*)\1$""", r"\2", text).strip("\0 \t")
    number = re.fullmatch(r"(-?)0*(\d+)(\.0*)?", text)
    if number is None:
        return "" if text.lower() in ("nan", "none", "--") else text
    return "" if number[1] or number[2] == "0" else number[2]  # 0 and negative numbers are what fills an integer


def _merge_expver(where: str, array: xr.DataArray) -> xr.DataArray:
    """Bring the versions of a dimension ``expver`` together, the final one first; a coordinate says which a time has."""
    stated = array["expver"] if "expver" in array.coords else xr.DataArray("")
    array, dims = array.drop_vars("expver", errors="ignore"), stated.dims
    versions = [_version(value) for value in stated.values.ravel().tolist()]
    if "expver" not in array.dims and dims in ((), ("time",)):
        each = versions if dims else versions * array.sizes["time"]
        return array.assign_coords(expver=("time", np.array(each, dtype=object)))
    if dims != ("expver",) or len(set(versions)) < len(versions):
        what = "the versions of 'swvl1' cannot be told apart"
        raise FormatError(where, what, got=versions, expected="one a time, or a dimension 'expver' such as 1, 5")
    order = sorted(range(len(versions)), key=lambda k: (versions[k] != "1", versions[k] == "", versions[k]))
    merged = array.isel(expver=order[0])
    used = xr.full_like(merged.isnull().any(("lat", "lon")), versions[order[0]], dtype=object)
    for k in order[1:]:
        other = array.isel(expver=k)
        used = used.where(~(merged.isnull() & other.notnull()).any(("lat", "lon")), versions[k])
        merged = merged.fillna(other)
    return merged.assign_coords(expver=used.drop_vars("time"))


def _dates(values: NDArray, units: str) -> NDArray[np.datetime64]:
    """Times of dates that are numbers or text: 201107, 20110701, 2011070106, 20110701.25, "2011-07-01"; else `ValueError`."""
    if units not in ("", "1") and not re.search("%Y%m|YYYYMM", units, re.IGNORECASE):
        raise ValueError(f"numbers in {units!r}")
    fraction = np.zeros(values.shape)
    if values.dtype.kind == "f":
        if values.dtype.itemsize < 8 and (values >= 2**24).any():
            raise ValueError("single precision is too coarse for eight digits")
        fraction, values = np.modf(values.astype("float64"))
        text = [f"{value:.0f}" for value in values]
    elif all(isinstance(value, str | bytes | int) for value in values.tolist()):
        text = [(v.decode("latin-1") if isinstance(v, bytes) else str(v)).strip("\0 ") for v in values.tolist()]
    else:
        raise ValueError("of another calendar, or none")
    form = "ISO8601"
    if all(map(str.isdigit, text)):
        lengths = set(map(len, text))
        if len(lengths) != 1 or not lengths <= set(_DATE_FORMS) or (fraction.any() and lengths != {8}):
            raise ValueError("no dates")
        form = _DATE_FORMS[lengths.pop()]
    return pd.to_datetime(text, format=form).values + np.round(fraction * 86400).astype("timedelta64[s]")


def _with_time(where: str, array: xr.DataArray) -> xr.DataArray:
    """The array with its times of analysis as ``time``, decoded, and no other."""
    name = next((name for name in _TIMES if name in array.coords), None)
    if name is None or array[name].ndim > 1:
        raise FormatError(where, "'swvl1' has no time of the standard calendar", got=sorted(map(str, array.coords)))
    time, values = array[name], np.atleast_1d(array[name].values)
    array = array.drop_vars([other for other in _TIMES if other in array.coords])
    try:
        if values.dtype.kind != "M":
            values = _dates(values, str(time.attrs.get("units", "")))
        years = pd.DatetimeIndex(values.astype("datetime64[s]")).year
        if not ((years >= 1940) & (years < 2200)).all():  # NaT neither
            raise ValueError(
                "the reanalyses begin in 1940; a date read as a number of hours, or a fill, is not among them"
            )
    except (ValueError, TypeError, OverflowError) as error:
        reason, got = (
            str(error).split(". You might")[0],
            [str(value) for value in values[:2]],
        )  # pandas advises programmers
        what = f"{name!r} is no time of the standard calendar: {reason}"
        raise FormatError(where, what, got=got, expected=plain("2011-07-01 or 20110701")) from error
    array = array.rename({time.dims[0]: "time"}) if time.ndim else array.expand_dims("time")
    return array.assign_coords(time=values.astype("datetime64[ns]"))


def _read_grid(who: str, path: Path) -> xr.DataArray:
    """One file as ``(time, lat, lon)`` float32, oriented, with NaN for missing, and the versions, ``expver(time)``."""
    where = f"{who}({path.name})"
    raw = open_netcdf(who, path)
    if "swvl1" not in raw.data_vars:
        next_step = "Request volumetric soil water layer 1 (param 39.128)"
        raise FormatError(where, "no variable 'swvl1'", got=sorted(map(str, raw.data_vars)), next_step=next_step)
    # where the attribute 'coordinates' was lost, these are variables like any other
    array = raw.set_coords([name for name in (*_TIMES, "expver") if name in raw.data_vars])["swvl1"]
    check_native_units(where, "swvl1", array.attrs.get("units"), _UNITS)
    if array.dtype.kind not in "iuf":
        raise FormatError(where, "'swvl1' holds no numbers", got=str(array.dtype))
    attrs = {**_ATTRS, "native_units": array.attrs["units"], "packing": float(array.encoding.get("scale_factor", 0.0))}
    array = array.rename({old: new for old, new in (("latitude", "lat"), ("longitude", "lon")) if old in array.coords})
    for name in set(array.dims) - {*_TIMES, "expver", "lat", "lon"}:
        if array.sizes[name] != 1:
            what = f"'swvl1' has a dimension {name!r} of size {array.sizes[name]}"
            raise FormatError(where, what, got=array.dims, next_step="Choose one member, step or level before loading")
        array = array.isel({name: 0}, drop=True)
    array = _with_time(where, array)
    if not {"lat", "lon"} <= set(array.dims):
        raise FormatError(where, "'swvl1' is not on a regular grid", got=array.dims, expected=("time", "lat", "lon"))
    array = array.drop_vars([c for c in array.coords if c not in ("time", "lat", "lon", "expver")])
    array = _merge_expver(where, array)
    array = orient_lat_lon(array.to_dataset(name="soil_moisture"), who=where)["soil_moisture"]
    array = array.transpose("time", "lat", "lon").astype("float32")
    array = array.chunk(time=max(1, _CHUNK_VALUES // (array.sizes["lat"] * array.sizes["lon"])))
    return array.where(np.abs(array) < _ABSURD).assign_attrs(attrs)


def _join(who: str, parts: list[tuple[Path, xr.DataArray]]) -> tuple[xr.DataArray, int]:
    """Join files along time, sorted; of equal times the first is kept, and a different second is an error."""
    first = parts[0][1]
    for path, part in parts[1:]:
        same = part.shape[1:] == first.shape[1:]
        if not same or not all(np.allclose(part[axis], first[axis], atol=1e-4) for axis in ("lat", "lon")):
            got = {one.name: grid.shape[1:] for one, grid in (parts[0], (path, part))}
            raise ContractError(who, "the files are on different grids", got=got, next_step="Open one grid at a time")
    tolerance = 1e-5 + sum(sorted(part.attrs["packing"] for _, part in parts)[-2:])
    grids = [part.assign_coords(lat=first["lat"], lon=first["lon"]) for _, part in parts]
    joined = xr.concat(grids, dim="time", join="override", combine_attrs="override")
    del joined.attrs["packing"]
    times = joined["time"].values
    _, keep, inverse = np.unique(times, return_index=True, return_inverse=True)
    again = np.setdiff1d(np.arange(times.size), keep)
    if again.size:
        one, other = joined.isel(time=keep[inverse[again]]).data, joined.isel(time=again).data
        # where only one of them is missing the difference is NaN, which is no conflict of values but one of coverage
        differs = ~((abs(one - other) <= tolerance) | (np.isnan(one) & np.isnan(other)))
        conflict = dask.compute(differs.any(axis=(1, 2)))[0]
        if conflict.any():
            what = f"{int(conflict.sum())} times occur twice with different values"
            next_step = "Keep one of the overlapping files (ERA5T and final ERA5 differ, for example)"
            raise ContractError(who, what, got=str(times[again][conflict][0]), next_step=next_step)
    in_order = np.array_equal(keep, np.arange(times.size))
    return (joined if in_order else joined.isel(time=keep)), int(again.size)


def _select(
    who: str, array: xr.DataArray, start: str | None, end: str | None, bbox: Sequence[float] | None
) -> xr.DataArray:
    inside = in_period(who, array["time"].values, start, end, "analysis")
    array = array if inside.all() else array.isel(time=np.flatnonzero(inside))
    if bbox is None:
        return array
    west, south, east, north = check_box(who, "bbox", bbox)
    lat, lon = array["lat"].values, array["lon"].values
    rows = (lat >= south) & (lat <= north)
    columns = (lon >= west) & (lon <= east) if west <= east else (lon >= west) | (lon <= east)
    if not rows.any() or not columns.any():
        expected = plain(f"lat {lat[0]:g}..{lat[-1]:g}, lon {lon[0]:g}..{lon[-1]:g}")
        raise ContractError(who, "'bbox' does not overlap the files", got=tuple(bbox), expected=expected)
    return array.isel(lat=np.flatnonzero(rows), lon=np.flatnonzero(columns))


def _clean(array: xr.DataArray) -> xr.DataArray:
    """Clip packing noise below zero, mask what is no volume fraction, and count both."""
    below, above = array < -_NOISE, array > 1.0
    lost = dask.compute(below.sum().data, above.sum().data, ((array < 0.0) & ~below).sum().data)
    cleaned = array.where(~(below | above)).clip(min=0.0).assign_attrs(array.attrs)
    cleaned.attrs["masked_by"] = json.dumps({"above_range": int(lost[1]), "below_range": int(lost[0])})
    cleaned.attrs["clipped_to_zero"] = int(lost[2])
    return cleaned


def open_swvl1(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
    bbox: Sequence[float] | None = None,
) -> xr.Dataset:
    """Open volumetric soil water of layer 1 at analysis times, lazily; what is clipped and masked is counted at once.

    Parameters
    ----------
    paths : sequence of path-like
        NetCDF files of one grid. They may come in any order and overlap: of equal times the first given is kept.
    bbox : (west, south, east, north), optional
        Degrees; cells whose centres are inside. West may exceed east, for a box across the date line.

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(time, lat, lon)``, m3 m-3, float32, dask. Negative noise down to -0.01 is set to zero
        (``clipped_to_zero``); lower values and those above 1 are NaN (``masked_by``). ``preliminary`` is 1 where ERA5T
        (or another version than the final one) is among the data, and ``expver`` counts the times of each version, where
        the files state one. Sea points of ERA-Interim and ERA5 hold zeros, and dry land does too: mask water by a land
        mask, not by value, before regridding.

    Raises
    ------
    FormatError, ContractError, CatalogError
        If a file is unreadable, has no ``swvl1``, other units or more dimensions; if files are on different grids, equal times
        have different values, or `bbox` is outside; if the period holds no analysis.
    """
    who = "open_swvl1"
    parts = []
    for path in check_paths(who, paths):
        with foreign(f"{who}({path.name})"):
            parts.append((path, _read_grid(who, path)))
    joined, repeated = _join(who, parts)
    joined = _select(who, joined, start, end, bbox)
    versions = pd.Series(joined["expver"].values).value_counts().to_dict()
    dataset = _clean(joined.drop_vars("expver")).to_dataset(name="soil_moisture")
    dataset["time"].attrs = {"standard_name": "time", "long_name": "time of analysis"}
    dataset.attrs = {"preliminary": int(not set(versions) <= {"1", ""})}
    if set(versions) != {""}:
        stated = {version or "not stated": count for version, count in versions.items()}
        dataset.attrs["expver"] = json.dumps(stated, sort_keys=True)
    step = f"{len(parts)} files, {repeated} repeated times left out; swvl1 to soil_moisture"
    source = "ECMWF reanalysis, volumetric soil water layer 1"
    return finish(dataset, who, catalog_id, synthetic, source, step, ["soil_moisture"])


def daily_mean(dataset: xr.Dataset) -> xr.Dataset:
    """Average the analyses of each UTC day, lazily: ``soil_moisture`` with one time a day (00:00 UTC), of the valid ones.

    ``n_analyses(time)`` is how many the day has (4 of ERA-Interim and 24 of ERA5 if it is complete). Days without any are
    absent. A `ContractError` if there is no ``soil_moisture`` with time.
    """
    who = "daily_mean"
    if "soil_moisture" not in dataset or "time" not in dataset["soil_moisture"].dims:
        raise ContractError(who, "no 'soil_moisture' with a time", got=sorted(map(str, dataset.data_vars)))
    array = dataset["soil_moisture"]
    days, number = np.unique(array["time"].values.astype("datetime64[D]"), return_counts=True)
    mean = array.groupby(array["time"].dt.floor("D").rename("day")).mean("time", skipna=True)
    mean = mean.rename(day="time").transpose(*array.dims).astype("float32")
    mean.attrs = {**array.attrs, "cell_methods": "time: mean"}
    result = mean.to_dataset(name="soil_moisture")
    result["n_analyses"] = ("time", number.astype("int16"), {"units": "1", "long_name": "analyses averaged"})
    result["time"].attrs = {"standard_name": "time", "long_name": "day"}
    result.attrs = dict(dataset.attrs)
    stamp(result, step=f"{who}: {array.sizes['time']} analyses to {days.size} days")
    return check_dataset(result, who=who)


def open_swvl1_points(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
    near: tuple[float, float] | None = None,
    max_distance_km: float = 50.0,
) -> xr.Dataset:
    """Open volumetric soil water of layer 1 as time series by location (one file a 5-degree cell).

    Parameters and errors are those of `smnb.loaders.points.open_smap_l3_points`.

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(location, time)``, m3 m-3, cleaned as by `open_swvl1`, with the coordinates ``lat``, ``lon`` and
        ``location_id``; with `near` also ``distance_km``. Times that a file lacks are NaN.
    """
    who = "open_swvl1_points"
    options = {"start": start, "end": end, "near": near, "max_distance_km": max_distance_km}
    values, dataset = read_series(who, paths, "swvl1", _UNITS, **options)
    array = values.where(np.abs(values) < _ABSURD).astype("float32").assign_attrs({**_ATTRS, **values.attrs})
    dataset["soil_moisture"] = _clean(array)
    step = "cell files; swvl1 to soil_moisture"
    source = "ECMWF reanalysis, volumetric soil water layer 1, time series"
    return finish(dataset, who, catalog_id, synthetic, source, step, ["soil_moisture"])
