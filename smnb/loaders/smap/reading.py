"""Lazy reading of SMAP fields: hyperslabs of a region, masks with reasons, and their counts.

Every variable of every granule is one dask task that opens the file, reads the smallest hyperslab that covers the region,
and closes it. Masking works on what was read, so that memory is bounded by the region, or by one chunk of the file where
that is larger (its compressed size, where a field is one chunk). What was masked is counted in the lazy variable
``n_masked``, which costs no further reading when it is computed together with the data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from smnb.contract import ContractError
from smnb.grids import EaseWindow
from smnb.loaders.smap.fields import Variable
from smnb.loaders.smap.flags import FLAG_FILL, FlagTest, flag_attrs
from smnb.loaders.smap.granules import open_h5, text_of
from smnb.loaders.smap.hyperslab import read_rectangle
from smnb.loaders.smap.times import seconds_to_utc

#: A field: our variable and the label along its own dimension.
Role = tuple[str, str]
#: Codes of `_codes` for cells that are not in a granule, and that are kept.
_ABSENT, _KEPT = 255, 254


@dataclass(frozen=True)
class Slab:
    """A window of a two-dimensional field whose indices are the grid's."""

    rows: slice
    cols: slice

    def read(self, source: h5py.Dataset, dtype: str, fill: float) -> NDArray:
        """The window; of a third axis, the first. `fill` is for the other kind of place: here every cell is in the file."""
        return read_rectangle(source, self.rows, self.cols).astype(dtype, copy=False)


@dataclass(frozen=True)
class Cells:
    """Cells of a field, listed or in a scene, put in their places in a window."""

    shape: tuple[int, int]
    """Of the window."""
    within: tuple[slice, ...]
    """The part of the field that is read."""
    take: NDArray[np.intp] | None
    """Which of its values, flattened; None for all."""
    put: NDArray[np.intp]
    """Where in the window, flattened."""

    def read(self, source: h5py.Dataset, dtype: str, fill: float) -> NDArray:
        """The window; floats are NaN and integers `fill` where the granule has no cell."""
        out = np.full(self.shape, np.nan if dtype.startswith("float") else fill, dtype)
        if self.put.size:
            values = source[self.within + (0,) * (source.ndim - len(self.within))].astype(dtype).ravel()
            values = values if self.take is None else values[self.take]
            if dtype.startswith("float"):  # NaN is for cells that are absent
                values = np.where(np.isnan(values), np.asarray(fill, dtype), values)
            out.flat[self.put] = values
        return out


@dataclass(frozen=True)
class Piece:
    """What to read of one granule (and overpass)."""

    path: Path
    group: str
    natives: dict[Role, str]
    place: Slab | Cells
    stat: tuple[str, int, int]


@dataclass
class Pieces:
    """The pieces of a Dataset, ``(time,)`` or ``(time, overpass)``, and how its variables are made of them."""

    who: str
    window: EaseWindow
    pieces: NDArray[np.object_]
    lead: tuple[str, ...]
    tests: dict[str, list[FlagTest]] = field(default_factory=dict)
    """Flag tests by what they mask: "soil_moisture", "tb" (per label: "tb:1.41H")."""
    _raw: dict[Role, da.Array] = field(default_factory=dict)

    def raw(self, variable: Variable, label: str = "") -> da.Array:
        """A field as stored, lazily; each is made once, so that all who use it share the reading."""
        role = (variable.name, label)
        if role not in self._raw:
            flat = list(self.pieces.ravel())
            token = tokenize([(piece.stat, piece.group, piece.natives[role]) for piece in flat], repr(self.window))
            numbers = da.from_array(np.arange(len(flat)).reshape(self.pieces.shape), chunks=1)
            n = len(self.lead)
            # a partial, because dask would search keyword arguments for its own objects
            read = partial(_read_block, who=self.who, pieces=flat, role=role, dtype=variable.dtype, fill=variable.fill)
            self._raw[role] = da.map_blocks(
                read,
                numbers,
                dtype=variable.dtype,
                new_axis=[n, n + 1],
                name=f"smap-{variable.name}{label}-{token}",
                chunks=(*((1,) * size for size in self.pieces.shape), *((size,) for size in self.window.shape)),
                meta=np.empty((0,) * (n + 2), variable.dtype),
            )
        return self._raw[role]


def _read_block(number: NDArray, *, who: str, pieces: Sequence[Piece], role: Role, dtype: str, fill: float) -> NDArray:
    piece = pieces[int(number.ravel()[0])]
    with open_h5(who, piece.path) as file:
        values = piece.place.read(file[piece.group][piece.natives[role]], dtype, fill)
    return values.reshape(number.shape + values.shape)


def _codes(
    values: NDArray,
    *flags: NDArray,
    valid: tuple[float, float],
    fill: float,
    tests: Sequence[FlagTest],
    reasons: list[str],
) -> NDArray[np.uint8]:
    """Why each value is masked: the first reason that applies, as its place in `reasons`."""
    codes = np.full(values.shape, _KEPT, np.uint8)
    codes[np.isnan(values)] = _ABSENT
    codes[values == np.asarray(fill, values.dtype)] = reasons.index("fill")
    low, high = (np.asarray(edge, values.dtype) for edge in valid)
    with np.errstate(invalid="ignore"):
        codes[((values < low) | (values > high)) & (codes == _KEPT)] = reasons.index("out_of_range")
    for test, flag in zip(tests, flags, strict=True):
        missing = flag == FLAG_FILL
        if test.required:
            codes[missing & (codes == _KEPT)] = reasons.index("no_flag")
        codes[((flag >> test.bit) & 1 == 1) & ~missing & (codes == _KEPT)] = reasons.index(test.reason)
    return codes


def _masked(values: NDArray, codes: NDArray, *, decibel: bool) -> NDArray:
    values = np.where(codes == _KEPT, values, np.asarray(np.nan, values.dtype))
    return 10.0 * np.log10(values) if decibel else values


def _count(codes: NDArray, *, number: int) -> NDArray[np.int64]:
    return np.bincount(codes.ravel(), minlength=256)[:number].reshape((1,) * (codes.ndim - 2) + (number,))


def _to_utc(values: NDArray) -> NDArray:
    return seconds_to_utc(values)


def build(pieces: Pieces, variables: Sequence[Variable], catalogue: dict[str, Variable], family: str) -> xr.Dataset:
    """Make the lazy Dataset of `variables`: ``(time[, overpass][, channel or polarization], y, x)`` and ``n_masked``.

    Parameters
    ----------
    pieces : Pieces
        Where to read, and by which flags to mask.
    variables : sequence of Variable
        What the Dataset holds.
    catalogue : dict of str to Variable
        All variables of the product, for the flags that mask others.
    family : {"passive", "active_passive"}
        Whose meanings the flags have.
    """
    dims = (*pieces.lead, "y", "x")
    every_test = [test for tests in pieces.tests.values() for test in tests]
    reasons = ["fill", "out_of_range"] + ["no_flag"] * any(test.required for test in every_test)
    reasons += list(dict.fromkeys(test.reason for test in every_test))
    data: dict[str, tuple[Any, ...]] = {}
    counted: dict[str, da.Array] = {}
    for variable in variables:
        natives = sorted(
            {p.natives[role] for p in pieces.pieces.flat for role in p.natives if role[0] == variable.name}
        )
        attrs: dict[str, Any] = {
            "long_name": variable.long_name,
            "native_name": " ".join(natives),
            "grid_mapping": "crs",
        }
        if variable.kind in ("flag", "class"):
            attrs |= {"units": "1", "missing_value": np.asarray(variable.fill, variable.dtype)[()]}
            attrs |= flag_attrs(family, variable.name) if variable.kind == "flag" else {}
            data[variable.name] = (dims, pieces.raw(variable), attrs)
        elif variable.kind == "time":
            seconds = pieces.raw(variable)
            meta = np.empty((0,) * len(dims), "datetime64[ns]")
            data[variable.name] = (dims, seconds.map_blocks(_to_utc, dtype="datetime64[ns]", meta=meta), attrs)
        else:
            attrs |= {"units": variable.units or _native_units(pieces, variable), "valid_range": list(variable.valid)}
            if variable.units == "dB":
                del attrs["valid_range"]  # it is of the linear power
                attrs["native_units"] = "1"
            layers = []
            for label in variable.natives:
                key = "soil_moisture" if variable.screened else f"{variable.name}:{label}"
                values, counts = _screen(pieces, variable, label, pieces.tests.get(key, []), catalogue, reasons)
                layers.append(values)
                counted[variable.name] = counted[variable.name] + counts if variable.name in counted else counts
            if variable.dim:
                stacked = da.stack(layers, axis=len(pieces.lead))
                data[variable.name] = ((*pieces.lead, variable.dim, "y", "x"), stacked, attrs)
            else:
                data[variable.name] = (dims, layers[0], attrs)
    coords: dict[str, Any] = {v.dim: list(v.natives) for v in variables if v.dim}
    if counted:
        attrs = {"long_name": "values masked by the first reason that applies", "units": "1"}
        data["n_masked"] = (
            (*pieces.lead, "masked_variable", "reason"),
            da.stack(list(counted.values()), axis=len(pieces.lead)),
            attrs,
        )
        coords |= {"masked_variable": list(counted), "reason": reasons}
    return xr.Dataset(data, {**coords, **pieces.window.coords()})


def _screen(
    pieces: Pieces,
    variable: Variable,
    label: str,
    tests: list[FlagTest],
    catalogue: dict[str, Variable],
    reasons: list[str],
) -> tuple[da.Array, da.Array]:
    """A float field masked, and the counts by reason."""
    raw = pieces.raw(variable, label)
    flags = [pieces.raw(catalogue[test.flag]) for test in tests]
    codes = da.map_blocks(
        partial(_codes, valid=variable.valid, fill=variable.fill, tests=tests, reasons=reasons),
        raw,
        *flags,
        dtype="uint8",
        meta=np.empty((0,) * raw.ndim, "uint8"),
    )
    values = da.map_blocks(
        partial(_masked, decibel=variable.units == "dB"),
        raw,
        codes,
        dtype=raw.dtype,
        meta=np.empty((0,) * raw.ndim, raw.dtype),
    )
    n = len(pieces.lead)
    counts = da.map_blocks(
        partial(_count, number=len(reasons)),
        codes,
        dtype="int64",
        drop_axis=[n, n + 1],
        new_axis=[n],
        chunks=(*codes.chunks[:n], (len(reasons),)),
        meta=np.empty((0,) * (n + 1), "int64"),
    )
    return values, counts


def _native_units(pieces: Pieces, variable: Variable) -> str:
    first = pieces.pieces.flat[0]
    with open_h5(pieces.who, first.path) as file:
        return text_of(file[first.group][first.natives[variable.name, ""]].attrs.get("units")) or "1"


def count_masks(dataset: xr.Dataset) -> xr.Dataset:
    """Write what was masked, and why, into each variable's ``masked_by``, as the data contract has it.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of a loader of this package, with ``n_masked``. If that is lazy it is computed, which reads every field once. To
        read the data and count in one pass over the files, compute first: ``count_masks(dataset.compute())``.

    Returns
    -------
    xarray.Dataset
        A copy, lazy where it was, with ``n_masked`` loaded. ``masked_by`` (JSON) holds the reasons that occur: "fill" (no
        value in the granule; in level 3 this includes what the swaths missed), "out_of_range", "no_flag",
        "not_attempted", "not_successful", "not_recommended", "tb_not_acceptable", "surface:…". Each value is counted
        once, by the first that applies. The counts are of the times in the Dataset and of the whole window that was
        opened, whatever was selected of `y` and `x` since.

    Raises
    ------
    ContractError
        If there is no ``n_masked``.
    """
    if "n_masked" not in dataset:
        raise ContractError(
            "count_masks",
            "there is no 'n_masked'",
            got=sorted(map(str, dataset.data_vars)),
            next_step="Pass a Dataset of smnb.loaders.smap whose n_masked was kept",
        )
    counts = dataset["n_masked"].compute()
    result = dataset.assign(n_masked=counts)
    total = counts.sum([d for d in counts.dims if d not in ("masked_variable", "reason")])
    for name in (str(n) for n in total["masked_variable"].values if n in dataset):
        lost = {
            str(r): int(n) for r, n in zip(total["reason"].values, total.sel(masked_variable=name).values, strict=True)
        }
        masked = {reason: number for reason, number in lost.items() if number}
        result[name] = dataset[name].copy(deep=False)
        result[name].attrs["masked_by"] = json.dumps(masked, sort_keys=True)
    return result
