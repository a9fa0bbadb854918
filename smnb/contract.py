"""The data contract: names, units, dimensions, and checks that say who, what, got, expected and the next step.

Every loader returns a Dataset that passes `check_dataset`; everything downstream relies on it. The rules:

- dims ``(time, lat, lon)`` on regular grids and ``(time, y, x)`` on projected ones;
- ``time`` UTC, unique, increasing; ``lat`` ascending; ``lon`` ascending in [-180, 180);
- floats are float32 and missing is NaN; quality flags stay integers with ``flag_meanings``;
- what was masked, and why, is counted in the variable's attribute ``masked_by`` (JSON);
- ``units`` and ``long_name`` on variables; ``source``, ``catalog_id``, ``history``, ``synthetic`` on the Dataset.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

#: Environment variable that raises (MB) what one file, member, record or block of what others send may become in memory:
#: a part of a file, a whole table; and, beyond the first megabytes, so many times its compressed size.
MOST_VARIABLE, MOST_PART, MOST_TABLE, _FREE, _RATIO = "SMNB_MOST_MB", 256 << 20, 1 << 30, 32 << 20, 50


class SmnbError(ValueError):
    """Base of smnb's errors.

    `who` (the function, command, file or catalog entry) complains, `what` is wrong, as a clause; the value that was `got` and the
    value, range or list of values `expected`; and the `next_step`, one sentence that tells the user what to do.

    >>> print(SmnbError("open_l3", "'soil_moisture' has other units", got="%", expected="m3 m-3"))
    open_l3: 'soil_moisture' has other units; got '%'; expected 'm3 m-3'.
    """

    usual_next_step: str | None = None  # what an error says that is given no next step

    def __init__(
        self, who: str, what: str, *, got: Any = None, expected: Any = None, next_step: str | None = None
    ) -> None:
        next_step = next_step or self.usual_next_step
        self.who, self.what, self.got, self.expected, self.next_step = who, what, got, expected, next_step
        message = f"{who}: {what}"
        for word, value in (("got", got), ("expected", expected)):
            if value is not None:
                message += f"; {word} {value if isinstance(value, _Plain) else repr(value)}"
        message += "."
        if next_step:
            message += f" {next_step.rstrip('.')}."
        super().__init__(message)


class _Plain(str):
    """A string that an error prints without quotes."""

    __slots__ = ()


def plain(text: str) -> str:
    """Mark `text` so that an `SmnbError` prints it as prose, without quotes."""
    return _Plain(text)


class ContractError(SmnbError):
    """Data that break the data contract: names, units, dims, order, ranges."""


class FormatError(SmnbError):
    """A file whose content is not what its product's format says: truncated, wrong size, missing field."""

    usual_next_step = "Download the file again, or check that it is of this product"


class CatalogError(SmnbError):
    """A catalog entry that is unknown, invalid, or whose files are absent or outside the data root."""


class ParameterError(SmnbError):
    """An option or notebook parameter that is unknown or of the wrong type or range."""


class RunError(SmnbError):
    """A run of a notebook, a training or a map that cannot go on."""


@contextlib.contextmanager
def foreign(
    who: str,
    what: str = "the file is unreadable",
    error: type[SmnbError] = FormatError,
    next_step: str | None = None,
) -> Iterator[None]:
    """The door of every reader of what others made: whatever a library raises at damage becomes one `SmnbError`.

    An `SmnbError` passes, and so does a fault of the system (no such file, no permission, disk full), which names `who` where
    its library named no file; damage has no number of the system's, or that of a seek to a place that no file has.

    >>> with foreign("open_l3(a.h5)"):
    ...     raise KeyError("soil_moisture")
    Traceback (most recent call last):
    smnb.contract.FormatError: open_l3(a.h5): the file is unreadable: KeyError: 'soil_moisture'. Download the file again, ...
    """
    try:
        yield
    except SmnbError:
        raise
    except Exception as fault:
        number = fault.errno if isinstance(fault, OSError) else None
        if not number or number in (errno.EINVAL, errno.EOVERFLOW):
            text = " ".join(str(fault).split()).rstrip(".")
            raise error(who, f"{what}: {type(fault).__name__}: {text}", next_step=next_step) from fault
        if fault.filename is None:
            raise OSError(number, os.strerror(number), who) from fault
        raise


def closest(name: Any, known: Iterable[Any]) -> str | None:
    """The sentence that names the known name most like this one, if one is."""
    match = difflib.get_close_matches(str(name), list(map(str, known)), n=1, cutoff=0.5)
    return f"The closest is {match[0]!r}" if match else None


def check_choice(
    who: str, name: str, values: Any, known: Iterable[Any], *, next_step: str | None = None
) -> tuple[Any, ...]:
    """Return an option's value (in a tuple), or its values, if each is known and given once; else `ParameterError`.

    Its next step is by default the known name that is closest to an unknown one.
    """
    known, one = list(known), isinstance(values, str) or not isinstance(values, Sequence)
    values = (values,) if one else tuple(values)
    unknown = [value for value in values if value not in known or isinstance(value, bool)]
    if unknown or not values or len(set(values)) != len(values):
        what = f"unknown {name!r}" if one else f"{name!r} holds an unknown name, one twice, or none"
        got = values[0] if one else unknown or values
        step = next_step or (closest(unknown[0], known) if unknown else None)
        raise ParameterError(who, what, got=got, expected=known, next_step=step)
    return values


def check_range(
    who: str, name: str, value: Any, low: float, high: float = np.inf, *, ends: str = "[]", units: str = ""
) -> None:
    """Raise `ParameterError` unless a number, or each of an array, is in an interval; a NaN, a bool or a text is not.

    `ends` says which ends belong to it: ``"[]"`` both, ``"(]"`` only the upper; an infinite value never does.
    """
    numbers = np.asarray(value)
    fine = np.zeros(numbers.shape, dtype=bool)
    if numbers.dtype.kind in "iuf":
        fine |= numbers >= low if ends[0] == "[" else numbers > low
        fine &= numbers <= high if ends[1] == "]" else numbers < high
        fine &= np.isfinite(numbers)
    if fine.all():
        return
    interval = f"in {ends[0]}{low:g}, {high:g}{ends[1] if np.isfinite(high) else ')'} {units}".rstrip()
    raise ParameterError(who, f"{name!r} is out of range", got=numbers[~fine].tolist()[0], expected=plain(interval))


def check_count(who: str, name: str, value: Any, low: int = 1) -> int:
    """Return a whole number of at least `low` as int; else, and for a bool, raise `ParameterError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ParameterError(who, f"{name!r} is no whole number", got=value, expected=plain(f"at least {low}"))
    return int(value)


def check_places(who: str, lat: Any, lon: Any) -> None:
    """Raise `ParameterError` unless a place, or each of some, is in degrees: latitude to 90, longitude to 360, finite."""
    check_range(who, "lat", lat, -90, 90, units="degrees")
    check_range(who, "lon", lon, -360, 360, units="degrees")


def check_box(who: str, name: str, box: Any) -> tuple[float, float, float, float]:
    """Return ``(west, south, east, north)`` in degrees, south <= north, as floats; else raise `ParameterError`."""
    try:
        west, south, east, north = (float(edge) for edge in box)
    except (TypeError, ValueError):
        west = south = east = north = np.nan
    if not (-90 <= south <= north <= 90 and abs(west) <= 180 and abs(east) <= 180):
        expected = plain("(west, south, east, north) in degrees, longitudes in [-180, 180], south <= north")
        raise ParameterError(who, f"{name!r} is no box in degrees", got=box, expected=expected)
    return west, south, east, north


def most_bytes(most: int, compressed: int | None = None) -> int:
    """How many bytes an input may become in memory: `most`, or 50 times its compressed size, or what ``SMNB_MOST_MB`` says."""
    if given := os.environ.get(MOST_VARIABLE):
        if not given.isdigit():
            raise ParameterError(MOST_VARIABLE, "is no number of megabytes", got=given, expected=plain("such as 4000"))
        return int(given) * 1_000_000
    return most if compressed is None else min(most, max(_FREE, _RATIO * compressed))


def check_bytes(
    who: str,
    what: str,
    size: int,
    most: int = MOST_PART,
    compressed: int | None = None,
    error: type[SmnbError] = FormatError,
) -> None:
    """Raise `error` if something that an input holds or declares would become more than `most_bytes` in memory."""
    if size > (limit := most_bytes(most, compressed)):
        got, expected = plain(f"{size / 1e6:,.0f} MB or more"), plain(f"up to {limit / 1e6:,.0f} MB")
        step = f"If it is as it should be, set the environment variable {MOST_VARIABLE} to the megabytes it may take"
        raise error(who, f"{what} is too large to be read", got=got, expected=expected, next_step=step)


def check_table(
    who: str,
    table: Any,
    columns: Iterable[str],
    *,
    complete: Iterable[str] = (),
    unique: str | None = None,
    next_step: str | None = None,
) -> None:
    """Raise `ContractError` unless a table has rows and `columns`, a value in each `complete` one, and each `unique` once."""
    if not isinstance(table, pd.DataFrame):
        raise ContractError(who, "the table is not a pandas DataFrame", got=type(table).__name__)
    missing = [name for name in dict.fromkeys(columns) if name not in table.columns]
    if missing:
        raise ContractError(who, f"columns {missing} are missing", got=list(map(str, table)), next_step=next_step)
    if table.empty:
        raise ContractError(who, "the table has no rows")
    for name in complete:
        if table[name].isna().any():
            raise ContractError(who, f"{int(table[name].isna().sum())} rows have no {name!r}")
    if unique is not None and table[unique].duplicated().any():
        example = table.loc[table[unique].duplicated(), unique].iloc[0]
        raise ContractError(who, f"a {unique!r} occurs twice", got=str(example), expected=plain("one row each"))


@dataclass(frozen=True)
class VariableSpec:
    """One canonical variable of the contract."""

    units: str
    long_name: str
    dims: tuple[str, ...] = ()  # dimensions that the variable must have beside time and space
    valid_range: tuple[float, float] | None = None


#: Canonical names, units and physical ranges. A loader converts native units to these and records it.
VARIABLES: dict[str, VariableSpec] = {
    "soil_moisture": VariableSpec("m3 m-3", "volumetric soil moisture", valid_range=(0.0, 1.0)),
    "tb": VariableSpec("K", "brightness temperature", ("channel",), (0.0, 350.0)),
    "sigma0": VariableSpec("dB", "radar backscatter coefficient", ("polarization",), (-60.0, 30.0)),
    "incidence_angle": VariableSpec("degree", "incidence angle", valid_range=(0.0, 90.0)),
    "reflectance": VariableSpec("1", "top-of-atmosphere reflectance", ("band",), (-0.2, 2.5)),
    "surface_temperature": VariableSpec("K", "effective surface temperature", valid_range=(150.0, 350.0)),
    "vegetation_water_content": VariableSpec("kg m-2", "vegetation water content", valid_range=(0.0, 30.0)),
    "clay_fraction": VariableSpec("1", "clay mass fraction", valid_range=(0.0, 1.0)),
    "sand_fraction": VariableSpec("1", "sand mass fraction", valid_range=(0.0, 1.0)),
    "precipitation": VariableSpec("mm day-1", "precipitation", valid_range=(0.0, 2000.0)),
    "elevation": VariableSpec("m", "elevation above sea level", valid_range=(-500.0, 9000.0)),
}


def check_dataset(
    dataset: xr.Dataset, *, who: str, require: tuple[str, ...] = (), check_values: bool = False
) -> xr.Dataset:
    """Return a Dataset unchanged; raise `ContractError`, in the name of `who`, at the first rule that it breaks.

    `require` are variables that must be there; `check_values` also compares with the physical ranges, which computes.
    """
    for name in require:
        if name not in dataset:
            raise ContractError(who, f"variable {name!r} is missing", got=sorted(map(str, dataset.data_vars)))
    for attribute in ("source", "catalog_id", "history", "synthetic"):
        if attribute not in dataset.attrs and require:
            step = "Finish the loader with contract.stamp"
            raise ContractError(who, f"global attribute {attribute!r} is missing", next_step=step)
    if "time" in dataset.dims:
        time = dataset["time"].values
        if not np.issubdtype(time.dtype, np.datetime64):
            raise ContractError(who, "'time' is not a UTC datetime", got=str(time.dtype), expected="datetime64[ns]")
        if time.size > 1 and (np.diff(time) <= np.timedelta64(0)).any():
            raise ContractError(who, "'time' is not unique and increasing", next_step="Sort and merge duplicates")
    for name, last, end in (("lat", 90.0, "]"), ("lon", 180.0, ")")):
        if name not in dataset.dims:
            continue
        values = np.asarray(dataset[name].values, dtype="float64")
        ordered = values.size and np.isfinite(values).all() and (np.diff(values) > 0).all()
        if not ordered or values[0] < -last or values[-1] > last or (values[-1] == last and end == ")"):
            what, got = f"coordinate {name!r} is out of order or range", f"{values[:2]}..{values[-2:]}"
            expected = plain(f"ascending in [{-last:g}, {last:g}{end}")
            step = "Pass the Dataset through smnb.contract.orient_lat_lon"
            raise ContractError(who, what, got=got if values.size else "no value", expected=expected, next_step=step)
    for name, array in dataset.data_vars.items():
        spec, units = VARIABLES.get(str(name)), array.attrs.get("units")
        if spec is None:
            continue
        if units != spec.units:
            step = "Declare the native units in data_catalog.yaml and convert them in the loader"
            raise ContractError(who, f"{name!r} has other units", got=units, expected=spec.units, next_step=step)
        missing = [d for d in spec.dims if d not in array.dims and d not in array.coords]
        if missing:
            raise ContractError(who, f"{name!r} lacks dims", got=array.dims, expected=spec.dims)
        if array.dtype.kind != "f":
            raise ContractError(who, f"{name!r} is not floating point", got=str(array.dtype), expected="float32")
        if check_values and spec.valid_range is not None:
            low, high = float(array.min()), float(array.max())
            if low < spec.valid_range[0] or high > spec.valid_range[1]:
                what = f"{name!r} leaves its physical range in {spec.units}"
                next_step = "Mask it and count it in masked_by, or check the units"
                raise ContractError(who, what, got=(low, high), expected=spec.valid_range, next_step=next_step)
    return dataset


def orient_lat_lon(dataset: xr.Dataset, *, who: str = "orient_lat_lon") -> xr.Dataset:
    """Rename, wrap and sort geographic coordinates: ``lat`` ascending, ``lon`` ascending in [-180, 180).

    Accepts ``latitude``/``longitude``, north-first rows and 0…360 longitudes. A duplicate meridian (0 and 360, or
    -180 and 180) is dropped after the wrap, keeping the first.
    """
    names = {old: new for old, new in (("latitude", "lat"), ("longitude", "lon")) if old in dataset.variables}
    dataset = dataset.rename(names)
    if "lat" not in dataset.dims or "lon" not in dataset.dims:
        raise ContractError(who, "no latitude or longitude dimension", got=tuple(dataset.dims), expected=("lat", "lon"))
    lon = np.asarray(dataset["lon"].values, dtype="float64")
    wrapped = (lon + 180.0) % 360.0 - 180.0
    dataset = dataset.assign_coords(lon=("lon", wrapped, dict(dataset["lon"].attrs)))
    _, first = np.unique(wrapped, return_index=True)
    if not np.array_equal(first, np.arange(lon.size)):
        dataset = dataset.isel(lon=first)
    lat = dataset["lat"].values
    if lat.size > 1 and lat[0] > lat[-1]:
        dataset = dataset.isel(lat=slice(None, None, -1))
    dataset["lat"].attrs = {"units": "degrees_north", "standard_name": "latitude", "long_name": "latitude"}
    dataset["lon"].attrs = {"units": "degrees_east", "standard_name": "longitude", "long_name": "longitude"}
    return dataset


def count_masked(array: xr.DataArray) -> dict[str, int]:
    """Return how many values were masked, by reason, as recorded in ``attrs['masked_by']``."""
    return json.loads(array.attrs.get("masked_by", "{}"))


def stamp(
    dataset: xr.Dataset,
    *,
    step: str,
    source: str | None = None,
    catalog_id: str | None = None,
    synthetic: bool | None = None,
) -> xr.Dataset:
    """Set the global attributes of the contract and append one line, `step`, to ``history``; what is None stays as it is.

    The Dataset is changed in place and returned; ``synthetic`` is kept as 0 or 1, since NetCDF has no booleans.
    """
    given = {"source": source, "catalog_id": catalog_id, "synthetic": synthetic}
    for name, default in (("source", ""), ("catalog_id", ""), ("synthetic", 0)):
        value = dataset.attrs.get(name, default) if given[name] is None else given[name]
        dataset.attrs[name] = int(value) if name == "synthetic" else str(value)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    dataset.attrs["history"] = f"{dataset.attrs.get('history', '')}\n{now} smnb: {step}".strip()
    return dataset


def is_synthetic(dataset: xr.Dataset | xr.DataArray) -> bool:
    """Whether a Dataset or DataArray says that it was simulated."""
    return bool(int(dataset.attrs.get("synthetic", 0)))


def synthetic_label(synthetic: bool) -> str:
    """The word that every title of a figure or table from simulated data ends with (empty for real data)."""
    return " (synthetic)" if synthetic else ""
