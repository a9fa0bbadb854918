"""Composites of SMAP days: a swath sees a place every two or three days only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import ContractError, ParameterError, check_dataset, stamp

_DAYS = (1, 2, 3)
_DAY = np.timedelta64(1, "D")


def _parse_origin(who: str, origin: str | None, first: np.datetime64) -> np.datetime64:
    if origin is None:
        return first
    try:
        day = np.datetime64(origin, "D")
    except ValueError as error:
        raise ParameterError(who, "'origin' is no ISO date", got=origin, expected="2015-04-01") from error
    if day > first:
        raise ParameterError(who, "'origin' is after the first day", got=str(day), expected=f"<= {first}")
    return day


def _check(who: str, dataset: xr.Dataset, days: int, variables: Sequence[str] | str) -> list[str]:
    if days not in _DAYS or isinstance(days, bool):
        raise ParameterError(who, "unknown number of days", got=days, expected=list(_DAYS))
    names = [variables] if isinstance(variables, str) else list(variables)
    known = [str(n) for n, v in dataset.data_vars.items() if v.dtype.kind == "f" and {"time", "y", "x"} <= set(v.dims)]
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) != len(names):
        raise ParameterError(
            who,
            "'variables' holds no floating-point variable over (time, y, x), one twice, or none",
            got=unknown or names,
            expected=known,
        )
    time = dataset["time"].values
    if time.size == 0 or not np.issubdtype(time.dtype, np.datetime64) or (np.diff(time) <= np.timedelta64(0)).any():
        raise ContractError(who, "'time' is not UTC, increasing, with at least one value", got=str(time[:3]))
    return names


def composite(
    dataset: xr.Dataset, days: int = 3, *, variables: Sequence[str] = ("soil_moisture",), origin: str | None = None
) -> xr.Dataset:
    """Average the valid values of each period of 1 to 3 days, over times and, where there are two, overpasses.

    Periods follow each other without gap or overlap from `origin` to the last day: the k-th holds the times from
    ``origin + k days`` (inclusive, 00:00 UTC) to ``origin + (k + 1) days`` (exclusive), by the Dataset's `time`, which is
    the nominal day in level 3 and the start of the half orbit in level 2. Radar backscatter is averaged as power.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of a loader of this package, lazy or loaded. Lazy data are computed a period at a time, so that the memory needed
        is the result's and a period's.
    days : {1, 2, 3}
        Length of a period.
    variables : sequence of str
        What to average. Flags, classes and observation times have no mean and are left out.
    origin : str, optional
        First day of the first period, not after the data's first; default the data's first day. Give it to align
        composites of several Datasets.

    Returns
    -------
    xarray.Dataset
        The variables over ``(time, [channel or polarization,] y, x)``, loaded float32, NaN where a period has no valid
        value, with ``n_obs`` (of soil moisture; of others ``n_obs_<name>``), uint16, how many values were averaged.
        `time` is a period's first day and ``time_bounds(time, bounds)`` its edges, the end exclusive. Periods without
        any valid value of the first variable are kept as NaN and listed in ``periods_without_data`` (JSON, first days).
        What the loader masked is summed into ``masked_by``.

    Raises
    ------
    ParameterError
        If `days`, `variables` or `origin` is none of the above.
    ContractError
        If `time` is not increasing.
    """
    who = "composite"
    names = _check(who, dataset, days, variables)
    dates = dataset["time"].values.astype("datetime64[D]")
    first = _parse_origin(who, origin, dates[0])
    number = ((dates - first) // (days * _DAY)).astype("int64")
    starts = first + np.arange(int(number[-1]) + 1) * days * _DAY
    sources = {name: _order(dataset[name]) for name in names}
    shapes = {name: array.shape[2:] for name, array in sources.items()}
    mean = {name: np.full((starts.size, *shape), np.nan, "float32") for name, shape in shapes.items()}
    n_obs = {name: np.zeros((starts.size, *shape), "uint16") for name, shape in shapes.items()}
    masked = None
    for k in np.unique(number):
        times = np.flatnonzero(number == k)
        wanted: dict[str, Any] = {name: array.isel(time=times).data for name, array in sources.items()}
        if "n_masked" in dataset:
            wanted["n_masked"] = dataset["n_masked"].isel(time=times).transpose(..., "masked_variable", "reason").data
        (found,) = dask.compute(wanted)
        for name in names:
            power = dataset[name].attrs.get("units") == "dB"
            mean[name][k], n_obs[name][k] = _mean(np.asarray(found[name]), power)
        if "n_masked" in found:
            lost = np.asarray(found["n_masked"])
            lost = lost.sum(axis=tuple(range(lost.ndim - 2)))
            masked = lost if masked is None else masked + lost
    empty = [str(start) for start, valid in zip(starts, n_obs[names[0]], strict=True) if not valid.any()]
    result = _to_dataset(dataset, sources, mean, n_obs, starts, days)
    if masked is not None:
        _write_masked(result, dataset, masked)
    left_out = sorted(str(n) for n in dataset.data_vars if n not in names and n != "n_masked")
    result.attrs |= {
        "composite_days": days,
        "periods_without_data": json.dumps(empty),
        "period": "[time, time + composite_days), whole UTC days by the time of the images",
    }
    stamp(
        result,
        source=str(dataset.attrs.get("source", "")),
        catalog_id=str(dataset.attrs.get("catalog_id", "")),
        synthetic=bool(dataset.attrs.get("synthetic", 0)),
        step=f"{who}: {dates.size} images to {starts.size} periods of {days} day(s) from {first}, {len(empty)} without "
        f"data; left out {', '.join(left_out) or 'nothing'}",
    )
    return check_dataset(result, who=who)


def _order(array: xr.DataArray) -> xr.DataArray:
    """Time and overpass first, the latter added where there is none."""
    array = array if "overpass" in array.dims else array.expand_dims(overpass=[0], axis=1)
    return array.transpose("time", "overpass", ..., "y", "x")


def _mean(values: NDArray, power: bool) -> tuple[NDArray, NDArray]:
    """Mean of the valid values over the first two axes, and how many there are; as power for decibels."""
    valid = np.isfinite(values)
    number = valid.sum(axis=(0, 1))
    total = np.where(valid, 10.0 ** (values / 10.0) if power else values, 0.0).sum(axis=(0, 1), dtype="float64")
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / number  # 0 / 0 is the NaN that is wanted
        return (10.0 * np.log10(mean) if power else mean), number


def _to_dataset(
    dataset: xr.Dataset,
    sources: dict[str, xr.DataArray],
    mean: dict[str, NDArray],
    n_obs: dict[str, NDArray],
    starts: NDArray[np.datetime64],
    days: int,
) -> xr.Dataset:
    data: dict[str, Any] = {}
    for name, array in sources.items():
        dims = ("time", *array.dims[2:])
        attrs = {key: value for key, value in dataset[name].attrs.items() if key != "masked_by"}
        data[name] = (dims, mean[name], {**attrs, "cell_methods": "time: mean"})
        count = "n_obs" if name == "soil_moisture" else f"n_obs_{name}"
        data[count] = (
            dims,
            n_obs[name],
            {"units": "1", "long_name": f"values averaged in {name}", "grid_mapping": "crs"},
        )
    edges = np.stack([starts, starts + days * _DAY], axis=1).astype("datetime64[ns]")
    attrs = {"long_name": "first day of the period, UTC", "standard_name": "time", "bounds": "time_bounds"}
    coords = {
        str(n): c
        for n, c in dataset.coords.items()
        if not {"time", "overpass", "masked_variable", "reason"} & set(c.dims)
    }
    coords.pop("overpass", None)
    coords |= {"time": ("time", edges[:, 0], attrs), "time_bounds": (("time", "bounds"), edges)}
    return xr.Dataset(data, coords, dict(dataset.attrs))


def _write_masked(result: xr.Dataset, dataset: xr.Dataset, masked: NDArray) -> None:
    for name, row in zip(dataset["masked_variable"].values, masked, strict=True):
        if str(name) in result:
            lost = {str(r): int(n) for r, n in zip(dataset["reason"].values, row, strict=True) if n}
            result[str(name)].attrs["masked_by"] = json.dumps(lost, sort_keys=True)
