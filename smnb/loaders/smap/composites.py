"""Composites of SMAP days: a swath sees a place every two or three days only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import ContractError, check_choice, check_dataset, stamp
from smnb.loaders.smap.reading import write_masked_by

_DAY = np.timedelta64(1, "D")


def composite(dataset: xr.Dataset, days: int = 3, *, variables: Sequence[str] = ("soil_moisture",)) -> xr.Dataset:
    """Average the valid values of each period of 1 to 3 days, over times and, where there are two, overpasses.

    Periods follow each other without gap or overlap from the data's first day to the last: the k-th holds the times from
    ``first + k days`` (inclusive, 00:00 UTC) to ``first + (k + 1) days`` (exclusive), by the Dataset's `time`, which is the
    nominal day in level 3 and the start of the half orbit in level 2. Radar backscatter is averaged as power.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of a loader of this package, lazy or loaded. Lazy data are computed a period at a time, so that the memory needed
        is the result's and a period's.
    days : {1, 2, 3}
        Length of a period.
    variables : sequence of str
        What to average. Flags, classes and observation times have no mean and are left out.

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
    ContractError
        If `time` is not increasing.
    """
    who = "composite"
    check_choice(who, "days", days, (1, 2, 3))
    known = [str(n) for n, v in dataset.data_vars.items() if v.dtype.kind == "f" and {"time", "y", "x"} <= set(v.dims)]
    names = check_choice(who, "variables", variables, known)
    time = dataset["time"].values
    if time.size == 0 or time.dtype.kind != "M" or (np.diff(time) <= np.timedelta64(0)).any():
        raise ContractError(who, "'time' is not UTC, increasing, with at least one value", got=str(time[:3]))
    dates = time.astype("datetime64[D]")
    number = ((dates - dates[0]) // (days * _DAY)).astype("int64")
    starts = dates[0] + np.arange(int(number[-1]) + 1) * days * _DAY
    sources = dataset[[*names, *(["n_masked"] if "n_masked" in dataset else [])]]
    data: dict[str, Any] = {}
    for name in names:
        lead = [dim for dim in ("time", "overpass") if dim in dataset[name].dims]
        sources[name] = dataset[name].transpose(*lead, ..., "y", "x")
        dims = ("time", *sources[name].dims[len(lead) :])
        shape = (starts.size, *sources[name].shape[len(lead) :])
        attrs = {key: value for key, value in dataset[name].attrs.items() if key != "masked_by"}
        data[name] = (dims, np.full(shape, np.nan, "float32"), {**attrs, "cell_methods": "time: mean"})
        about = {"units": "1", "long_name": f"values averaged in {name}", "grid_mapping": "crs"}
        data[_counts_of(name)] = (dims, np.zeros(shape, "uint16"), about)
    masked = []
    for k in np.unique(number):
        found = sources.isel(time=number == k).compute()
        for name in names:
            mean, n_obs = _mean(found[name].values, len(found[name].dims) - len(data[name][0]) + 1, data[name][2])
            data[name][1][k], data[_counts_of(name)][1][k] = mean, n_obs
        if "n_masked" in found:
            masked.append(found["n_masked"].sum("time"))
    counts = data[_counts_of(names[0])][1]
    empty = [str(start) for start, valid in zip(starts, counts, strict=True) if not valid.any()]
    edges = np.stack([starts, starts + days * _DAY], axis=1).astype("datetime64[ns]")
    gone = {"time", "overpass", "masked_variable", "reason"}
    coords = {n: c for n, c in dataset.coords.items() if not gone & {n, *c.dims}}
    about = {"long_name": "first day of the period, UTC", "standard_name": "time", "bounds": "time_bounds"}
    coords |= {"time": ("time", edges[:, 0], about), "time_bounds": (("time", "bounds"), edges)}
    result = xr.Dataset(data, coords, dict(dataset.attrs))
    if masked:
        result = write_masked_by(result, sum(masked[1:], masked[0]))
    result.attrs |= {
        "composite_days": days,
        "periods_without_data": json.dumps(empty),
        "period": "[time, time + composite_days), whole UTC days by the time of the images",
    }
    left_out = sorted(str(n) for n in dataset.data_vars if n not in names and n != "n_masked")
    step = (
        f"{who}: {dates.size} images to {starts.size} periods of {days} day(s) from {dates[0]}, {len(empty)} without "
        f"data; left out {', '.join(left_out) or 'nothing'}"
    )
    return check_dataset(stamp(result, step=step), who=who)


def _counts_of(name: str) -> str:
    return "n_obs" if name == "soil_moisture" else f"n_obs_{name}"


def _mean(values: NDArray, lead: int, attrs: dict[str, Any]) -> tuple[NDArray, NDArray]:
    """Mean of the valid values over so many first axes, as power for decibels, and how many there are."""
    power, valid, axes = attrs.get("units") == "dB", np.isfinite(values), tuple(range(lead))
    number = valid.sum(axis=axes)
    total = np.where(valid, 10.0 ** (values / 10.0) if power else values, 0.0).sum(axis=axes, dtype="float64")
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / number  # 0 / 0 is the NaN that is wanted
        return (10.0 * np.log10(mean) if power else mean), number
