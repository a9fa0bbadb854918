"""Lazy reading of SMAP fields: rectangles of a grid or cells of a list, masks with reasons, and their counts.

Every variable of every granule is one dask task that opens the file, reads the smallest hyperslab that covers the region, and
closes it: memory is bounded by the region, or by one chunk of the file (compressed, where a field is one chunk).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import dask.array as da
import h5py
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from smnb.contract import CatalogError, ContractError, FormatError, ParameterError, plain
from smnb.grids import EaseGrid, EaseWindow
from smnb.grids.ease import check_indices
from smnb.loaders import check_chunks
from smnb.loaders.smap.fields import FLAG_FILL, Variable, flag_attrs, seconds_to_utc
from smnb.loaders.smap.granules import FlagTest, Granule, Selection, open_h5

_ABSENT, _KEPT = 255, 254  # codes of `_codes` for cells that are not in a granule, and that are kept
#: Fields below this size are left to HDF5, bytes; compressed and inflated bytes handled at once above it.
_SMALL, _STEP_IN, _STEP_OUT = 4_000_000, 16_384, 262_144
#: Cells of a window that is not worth building: 50 million, 200 MB of float32 each field and time.
_MOST_CELLS = 50_000_000


def read_rectangle(source: h5py.Dataset, rows: slice, cols: slice) -> NDArray:
    """Rows and columns (start and stop, step 1) of a field ``(rows, columns[, layers])``; of a third axis, the first.

    HDF5 inflates whole chunks under a global lock: of a 9 km field in one chunk, as SMAP's granules have them, 25 MB for any
    region. Here such a chunk is inflated piecewise and only the rectangle is kept, so that memory is the compressed chunk
    and the rectangle, and fields inflate in parallel. It is inflated to its end, since the checksum that finds damage is
    there.
    """
    first = (0,) * (source.ndim - 2)
    if not _is_one_deflated_chunk(source):
        check_chunks("read_rectangle", source, (rows, cols, *first))
        return source[(rows, cols, *first)]
    mask, chunk = source.id.read_direct_chunk((0,) * source.ndim)
    if mask != 0:  # the filter was left out for this chunk
        return source[(rows, cols, *first)]
    row_shape = source.shape[1:]
    row_bytes = int(np.prod(row_shape)) * source.dtype.itemsize
    out = np.empty((rows.stop - rows.start, cols.stop - cols.start), source.dtype)
    begin, end = rows.start * row_bytes, rows.stop * row_bytes
    position, done = 0, 0
    pending = bytearray()
    for piece in _inflated(chunk, source.shape[0] * row_bytes):
        pending += piece[max(begin - position, 0) : max(end - position, 0)]
        position += len(piece)
        n = len(pending) // row_bytes
        if n:
            block = np.frombuffer(bytes(pending[: n * row_bytes]), source.dtype).reshape(n, *row_shape)
            out[done : done + n] = block[(slice(None), cols, *first)]
            done += n
            del pending[: n * row_bytes]
    return out


def _is_one_deflated_chunk(source: h5py.Dataset) -> bool:
    if source.chunks != source.shape or source.nbytes < _SMALL or source.id.get_num_chunks() != 1:
        return False
    properties = source.id.get_create_plist()
    return properties.get_nfilters() == 1 and properties.get_filter(0)[0] == h5py.h5z.FILTER_DEFLATE


def _inflated(chunk: bytes, expected: int) -> Iterator[bytes]:
    """Inflate a chunk piecewise; its length and checksum are checked at the end."""
    inflate, length = zlib.decompressobj(), 0
    view = memoryview(chunk)
    try:
        for start in range(0, len(view), _STEP_IN):
            data = view[start : start + _STEP_IN]
            while len(data) and length <= expected:
                piece = inflate.decompress(data, _STEP_OUT)
                data = inflate.unconsumed_tail
                length += len(piece)
                yield piece
        # what the stream still holds back when all input is in
        while length <= expected and (piece := inflate.decompress(b"", _STEP_OUT)):
            length += len(piece)
            yield piece
    except zlib.error as error:
        raise OSError(f"a compressed field is damaged: {error}") from error
    if not inflate.eof or length != expected:
        raise OSError(f"a compressed field ends early: {length} of {expected} bytes")


@dataclass(frozen=True)
class Cells:
    """Cells of a granule that lists them (level 2, scenes, point lists): those in the region, in the order of its fields."""

    shape: tuple[int, ...]  # of the granule's fields
    within: tuple[slice, ...]  # the part of a field that holds the region's cells
    take: NDArray[np.intp]  # which of its values, flattened
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    without_index: int  # cells of the granule whose index is a fill value

    @classmethod
    def find(cls, where: str, grid: EaseGrid, row: NDArray, col: NDArray, region: EaseWindow | None) -> Cells:
        """The cells of a granule, by their rows and columns, that lie in a region."""
        if row.shape != col.shape or row.dtype.kind not in "iu" or col.dtype.kind not in "iu":
            got = (row.shape, str(row.dtype), col.shape, str(col.dtype))
            raise FormatError(where, "EASE_row_index and EASE_column_index are no integers of one shape", got=got)
        good = (row != FLAG_FILL) & (col != FLAG_FILL)
        try:
            check_indices(where, grid, row[good], col[good])
        except ParameterError as error:
            what = f"EASE-Grid indices are outside {grid.name}: {error.what}"
            raise FormatError(where, what, got=error.got, expected=error.expected) from error
        cells, times = np.unique((row.astype("int64") * grid.n_cols + col)[good], return_counts=True)
        if (twice := cells[times > 1]).size:
            got = plain(f"row {twice[0] // grid.n_cols}, column {twice[0] % grid.n_cols}")
            raise FormatError(
                where, f"{twice.size} cells occur twice in the granule", got=got, expected="each cell once"
            )
        inside = good
        if region is not None:
            inside = good & (row >= region.row_start) & (row < region.row_stop)
            inside &= (col >= region.col_start) & (col < region.col_stop)
        along = np.nonzero(inside)
        within = tuple(slice(int(index[0]), int(index[-1]) + 1) for index in map(np.sort, along) if index.size)
        within = within or (slice(0, 0),) * row.ndim
        take = np.flatnonzero(inside[within])
        row, col = (index[inside].astype("int64") for index in (row, col))
        return cls(inside.shape, within, take, row, col, int((~good).sum()))

    def read(self, source: h5py.Dataset, dtype: str, fill: float, window: EaseWindow) -> NDArray:
        """A field in its places in `window`; floats are NaN and integers `fill` where the granule has no cell."""
        out = np.full(window.shape, np.nan if dtype.startswith("float") else fill, dtype)
        if self.take.size:
            values = source[self.within + (0,) * (source.ndim - len(self.within))].astype(dtype).ravel()[self.take]
            if dtype.startswith("float"):  # NaN is for cells that are absent
                values = np.where(np.isnan(values), np.asarray(fill, dtype), values)
            out[self.row - window.row_start, self.col - window.col_start] = values
        return out


@dataclass(frozen=True)
class Piece:
    """What to read of one granule (and overpass): names of the fields by variable and label; listed cells, or the grid."""

    granule: Granule
    group: str
    natives: dict[tuple[str, str], str]
    cells: Cells | None = None


def _read_block(
    number: NDArray, *, who: str, pieces: Sequence[Piece], role: tuple[str, str], variable: Variable, window: EaseWindow
) -> NDArray:
    piece = pieces[int(number.ravel()[0])]
    with open_h5(who, piece.granule.path) as file:
        source = file[piece.group][piece.natives[role]]
        if piece.cells is not None:
            values = piece.cells.read(source, variable.dtype, variable.fill, window)
        else:
            values = read_rectangle(source, window.rows, window.cols).astype(variable.dtype, copy=False)
    return values.reshape(number.shape + values.shape)


def _codes(
    values: NDArray, *flags: NDArray, variable: Variable, tests: Sequence[FlagTest], reasons: list[str]
) -> NDArray[np.uint8]:
    """Why each value is masked: the first reason that applies, as its place in `reasons`."""
    codes = np.full(values.shape, _KEPT, np.uint8)
    codes[np.isnan(values)] = _ABSENT
    codes[values == np.asarray(variable.fill, values.dtype)] = reasons.index("fill")
    low, high = (np.asarray(edge, values.dtype) for edge in variable.valid)
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


def build(selection: Selection, window: EaseWindow, pieces: NDArray[np.object_]) -> xr.Dataset:
    """Make the lazy Dataset of what was selected and is there: ``(time[, overpass][, channel or polarization], y, x)``.

    `pieces` are `Piece` by time, or by time and overpass. ``n_masked`` counts what is masked, by variable and reason; it costs no
    further reading when it is computed together with the data.
    """
    lead, flat = ("time", "overpass")[: pieces.ndim], list(pieces.ravel())
    n, dims = len(lead), (*lead, "y", "x")
    numbers = da.from_array(np.arange(len(flat)).reshape(pieces.shape), chunks=1)
    paths = [piece.granule.path for piece in flat]
    stats = [(str(path), stat.st_size, stat.st_mtime_ns) for path in paths if (stat := path.stat())]

    @cache
    def raw(name: str, label: str = "") -> da.Array:
        """A field as stored; each is made once, so that all who use it share the reading."""
        variable, role = selection.catalogue[name], (name, label)
        token = tokenize(stats, [(piece.group, piece.natives[role]) for piece in flat], repr(window))
        # a partial, because dask would search keyword arguments for its own objects
        read = partial(_read_block, who=selection.who, pieces=flat, role=role, variable=variable, window=window)
        chunks = (*numbers.chunks, *((size,) for size in window.shape))
        meta = np.empty((0,) * (n + 2), variable.dtype)
        name = f"smap-{name}{label}-{token}"
        return da.map_blocks(read, numbers, new_axis=[n, n + 1], name=name, chunks=chunks, meta=meta)

    every_test = [test for tests in selection.tests.values() for test in tests]
    reasons = ["fill", "out_of_range"] + ["no_flag"] * any(test.required for test in every_test)
    reasons += list(dict.fromkeys(test.reason for test in every_test))

    def screen(variable: Variable, label: str) -> tuple[da.Array, da.Array]:
        """A float field masked, and the counts by reason."""
        values = raw(variable.name, label)
        tests = selection.tests.get("soil_moisture" if variable.screened else f"{variable.name}:{label}", [])
        why = partial(_codes, variable=variable, tests=tests, reasons=reasons)
        codes = values.map_blocks(why, *(raw(test.flag) for test in tests), dtype="uint8")
        masked = values.map_blocks(partial(_masked, decibel=variable.units == "dB"), codes, dtype=values.dtype)
        count, chunks = partial(_count, number=len(reasons)), (*numbers.chunks, (len(reasons),))
        counts = codes.map_blocks(count, dtype="int64", drop_axis=[n, n + 1], new_axis=[n], chunks=chunks)
        return masked, counts

    data: dict[str, tuple[Any, ...]] = {}
    counted: dict[str, da.Array] = {}
    variables = selection.present()
    for variable in variables:
        name = variable.name
        natives = {piece.natives[role] for piece in flat for role in piece.natives if role[0] == name}
        attrs = {"long_name": variable.long_name, "native_name": " ".join(sorted(natives)), "grid_mapping": "crs"}
        if variable.kind in ("flag", "class"):
            attrs |= {"units": "1", "missing_value": np.asarray(variable.fill, variable.dtype)[()]}
            attrs |= flag_attrs(name, selection.family) if variable.kind == "flag" else {}
            data[name] = (dims, raw(name), attrs)
        elif variable.kind == "time":
            data[name] = (dims, raw(name).map_blocks(seconds_to_utc, dtype="datetime64[ns]"), attrs)
        else:
            attrs["units"] = variable.units or selection.native_units[name] or "1"
            # the range of backscatter is of its linear power
            attrs |= {"native_units": "1"} if variable.units == "dB" else {"valid_range": list(variable.valid)}
            layers, counts = zip(*(screen(variable, label) for label in variable.natives), strict=True)
            counted[name] = sum(counts[1:], counts[0])
            if variable.dim:
                data[name] = ((*lead, variable.dim, "y", "x"), da.stack(layers, axis=n), attrs)
            else:
                data[name] = (dims, layers[0], attrs)
    coords: dict[str, Any] = {v.dim: list(v.natives) for v in variables if v.dim}
    if counted:
        attrs = {"long_name": "values masked by the first reason that applies", "units": "1"}
        masked = da.stack(list(counted.values()), axis=n)
        data["n_masked"] = ((*lead, "masked_variable", "reason"), masked, attrs)
        coords |= {"masked_variable": list(counted), "reason": reasons}
    return xr.Dataset(data, {**coords, **window.coords()})


def build_listed(
    selection: Selection,
    grid: EaseGrid,
    region: EaseWindow | None,
    pieces: NDArray[np.object_],
    *,
    keep_empty: bool = False,
) -> xr.Dataset:
    """The lazy Dataset of pieces that list cells, by time, or by time and list, with ``time`` and ``granule``.

    On the region, or else the smallest window that holds all cells. Granules without a cell in it are left out, unless
    `keep_empty`, and named in ``granules_without_cells`` (JSON).
    """
    who, flat = selection.who, [piece.cells for piece in pieces.ravel()]
    seen = [cells for cells in flat if cells.take.size]
    if not seen:
        what = "no granule has a cell in the region" if region else "the granules hold no cell"
        got = plain(f"{len(flat)} granules, {region}")
        raise CatalogError(who, what, got=got, next_step="Check the region, or open other granules")
    window = region or grid.window_of(
        *(np.concatenate([getattr(one, axis) for one in seen]) for axis in ("row", "col"))
    )
    if window.shape[0] * window.shape[1] > _MOST_CELLS:
        what, expected = "the window that holds all cells is too large", f"<= {_MOST_CELLS} cells"
        next_step = "Pass a smaller region, or fewer granules"
        raise ParameterError(who, what, got=window, expected=expected, next_step=next_step)
    full = np.array([cells.take.size > 0 for cells in flat]).reshape(len(pieces), -1).any(axis=1)
    kept = full | keep_empty
    granules = np.array([np.ravel(one)[0].granule for one in pieces], dtype=object)
    names = np.array([granule.path.name for granule in granules])
    dataset = build(selection, window, pieces[kept])
    dataset.attrs = {
        **selection.attrs(granules[kept]),
        "granules_without_cells": json.dumps(names[~full].tolist()),
        "cells_without_index": sum(cells.without_index for cells in flat),
    }
    return dataset.assign_coords(
        time=("time", [granule.start for granule in granules[kept]], {"standard_name": "time"}),
        granule=("time", names[kept], {"long_name": "granule"}),
    )


def write_masked_by(dataset: xr.Dataset, n_masked: xr.DataArray) -> xr.Dataset:
    """A copy with the reasons that occur in each variable's ``masked_by`` (JSON)."""
    others = [dim for dim in n_masked.dims if dim not in ("masked_variable", "reason")]
    result = dataset.copy()
    for name, counts in n_masked.sum(others).to_series().unstack("reason", sort=False).iterrows():
        if name in dataset:
            lost = {reason: int(number) for reason, number in counts.items() if number}
            result[name] = dataset[name].assign_attrs(masked_by=json.dumps(lost, sort_keys=True))
    return result


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
        opened, whatever was selected of `y` and `x` since. `ContractError` if there is no ``n_masked``.
    """
    if "n_masked" not in dataset:
        what = "there is no 'n_masked'"
        next_step = "Pass a Dataset of smnb.loaders.smap whose n_masked was kept"
        raise ContractError("count_masks", what, got=sorted(map(str, dataset.data_vars)), next_step=next_step)
    counts = dataset["n_masked"].compute()
    return write_masked_by(dataset.assign(n_masked=counts), counts)
