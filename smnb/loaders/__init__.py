"""Loaders: one module a data family, ``open_<product>(paths, *, catalog_id, synthetic, **options) -> Dataset``.

A loader reads ``paths``, a product's own files, renames, converts to canonical units, orients, counts what it masks and ends
with `finish`. ``catalog_id`` is the catalog's entry ("" for none), ``synthetic`` says whether the data were simulated, ``start``
and ``end`` are ISO dates or times, UTC, both inclusive. No family is imported here, nor its dependencies.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import mmap
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint, list_engines
from xarray.core import indexing

from smnb.catalog.catalog import refuse_leaving
from smnb.catalog.limits import check_csv
from smnb.contract import (
    MOST_PART,
    MOST_TABLE,
    CatalogError,
    FormatError,
    ParameterError,
    check_bytes,
    check_dataset,
    foreign,
    plain,
    stamp,
)

__all__ = ["check_native_units", "check_paths", "check_present", "finish", "in_period", "open_netcdf", "parse_period"]
_SEARCHED = 32 << 20  # bytes at the beginning and at the end of an HDF5 file in which its heaps are looked at
#: Texts that are no value where numbers stand; where names stand only an empty cell is none, for a station may be called NA.
_NO_NUMBER = ["", "NA", "N/A", "NaN", "nan", "null", "None", "<NA>"]
_TEXTS = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
#: Attribute by which a file of ours states what its bytes are, its text until they are written, and then.
CHECKSUM, UNSTATED = "smnb_checksum", "crc32 00000000 of 000000000000 bytes"
_STATED = r"crc32 [0-9a-f]{8} of \d{12} bytes"


def check_paths(who: str, paths: Sequence[str | Path] | str | Path) -> list[Path]:
    """Return `paths` as a list of Path; raise `CatalogError` if there is none, or one of them is no file."""
    found = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    if not found:
        raise CatalogError(who, "no file was given", next_step="Check the entry's files with: smnb catalog")
    for path in found:
        if not path.is_file():
            raise CatalogError(who, "there is no such file", got=str(path))
    return found


def check_present(where: str, names: Iterable[str], there: Iterable[Any]) -> None:
    """Raise `FormatError` unless a file has all of these variables (groups, columns)."""
    there = sorted(map(str, there))
    if missing := [name for name in names if name not in there]:
        raise FormatError(where, f"variables {missing} are missing", got=there)


def check_native_units(where: str, name: str, stated: Any, known: Sequence[str]) -> None:
    """Raise `FormatError` unless a file states one of the known units of a variable."""
    if not isinstance(stated, str | None) or stated not in known:  # an attribute may be an array
        raise FormatError(where, f"{name!r} has other units", got=stated, expected=list(known))


def check_declared(where: str, name: Any, size: int, path: Path) -> None:
    """Raise `FormatError` if an array, of `size` bytes, cannot be in a file: compression takes at most a thousandth."""
    if size > MOST_PART:
        held = sum(one.stat().st_size for one in (path.rglob("*") if path.is_dir() else [path]))
        check_bytes(where, f"{name!r}, in a file of {held:,} bytes,", size, max(MOST_PART, 1032 * held))


def _may_inflate(source: h5py.Dataset) -> bool:
    return source.compression == "gzip" and 1032 * source.id.get_storage_size() > MOST_PART


def check_chunks(where: str, source: h5py.Dataset, key: Sequence[Any]) -> None:
    """Raise `FormatError` where a chunk that `key` reads inflates beyond its shape, for which HDF5 takes any memory."""
    if not _may_inflate(source):
        return
    whole, starts = math.prod(source.chunks) * source.dtype.itemsize, []
    for one, length, step in zip(key, source.shape, source.chunks, strict=False):
        asked = np.atleast_1d(np.arange(length)[one])
        starts.append(np.unique(asked // step) * step)
    starts += [range(0, n, step) for n, step in zip(source.shape, source.chunks, strict=True)][len(starts) :]
    for at in itertools.product(*starts):
        if 1032 * (source.id.get_chunk_info_by_coord(tuple(map(int, at))).size or 0) > MOST_PART:
            inflater, size = zlib.decompressobj(), 0
            _, data = source.id.read_direct_chunk(tuple(map(int, at)))
            with contextlib.suppress(zlib.error):  # which HDF5 reports, or a chunk that is not compressed
                while data and size <= whole:
                    size += len(inflater.decompress(data, 1 << 20))
                    data = inflater.unconsumed_tail
            if size > whole:
                raise FormatError(where, f"a chunk of {source.name!r} inflates beyond its shape", expected=whole)


def open_hdf5(where: str, path: Path, **options: Any) -> h5py.File:
    """Open an HDF5 file for reading.

    `FormatError` if it is damaged where HDF5 (2.0) would read for ever, `CatalogError` as `refuse_links`.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for begin in {0, max(len(content) - _SEARCHED, 0)}:
            heap = content.find(b"GCOL\1", begin, begin + _SEARCHED)
            while heap >= 0:  # a heap of texts and references: objects with number and size, 0 for free space
                at, end = heap + 16, min(heap + int.from_bytes(content[heap + 8 : heap + 16], "little"), len(content))
                while at + 16 <= end:
                    number, size = struct.unpack_from("<H6xQ", content, at)
                    if number == size == 0:
                        raise FormatError(
                            where, "the file is damaged: a heap has an entry of no size", got=plain(f"at byte {at}")
                        )
                    at += 16 + -(-size // 8) * 8 if number else size
                heap = content.find(b"GCOL\1", heap + 4, begin + _SEARCHED)
    refuse_links(where, path)
    return h5py.File(path, "r", **options)


class _Guarded(BackendArray):
    """A variable of a file; whatever is found damaged once it is read, when and wherever that is, is one `FormatError`."""

    def __init__(self, where: str, variable: xr.Variable, place: tuple[Path, str] | None) -> None:
        self.where, self.variable, self.place = where, variable, place
        self.shape, self.dtype = variable.shape, variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        with foreign(self.where):
            if self.place is not None:
                with h5py.File(self.place[0], "r") as file:
                    check_chunks(self.where, file[self.place[1]], key)
            return self.variable[key].values


class _Guard(BackendEntrypoint):
    """Opens a file by one of xarray's backends and guards its variables; no index is made before they are."""

    open_dataset_parameters = (
        *("drop_variables", "mask_and_scale", "decode_times", "concat_characters"),
        *("decode_coords", "use_cftime", "decode_timedelta"),
    )

    def open_dataset(self, path: Path, *, where: str, by: str, **options: Any) -> xr.Dataset:  # type: ignore[override]
        dataset, large = list_engines()[by].open_dataset(path, **options), set()
        if by == "h5netcdf":  # so that small variables, most of them, need no look at their chunks when they are read
            with h5py.File(path, "r") as file:
                large = {name for name in dataset.variables if _may_inflate(file[str(name)])}
        for name, variable in dataset.variables.items():
            check_declared(where, name, variable.size * np.dtype(variable.encoding.get("dtype", "u1")).itemsize, path)
            place = (path, str(name)) if name in large else None
            variable.data = indexing.LazilyIndexedArray(_Guarded(where, variable.copy(deep=False), place))
        return dataset


def open_netcdf(who: str, path: Path, **options: Any) -> xr.Dataset:
    """Open a NetCDF file lazily with h5netcdf (NetCDF 4) or scipy (classic), whichever its first bytes ask for; or a Zarr group.

    Not with netCDF4 where that can be helped: its C library is not thread-safe, and reopening a file whose lazy arrays
    had just been dropped crashed the interpreter (netCDF4 1.7.5 with xarray 2026.9). `options` are those of
    `xarray.open_dataset`, beside ``chunks={}``. A file that is no NetCDF, or a damaged one, is a `FormatError`, and so is damage
    that shows only when values are computed.
    """
    where, engine = f"{who}({path.name})", "zarr"
    if not path.is_dir():
        with path.open("rb") as stream:
            magic = stream.read(4)
        engine = {b"\x89HDF": "h5netcdf", b"CDF\x01": "scipy", b"CDF\x02": "scipy", b"CDF\x05": "netcdf4"}.get(magic)
    if engine is None:
        what = "the file is unreadable: no NetCDF"
        next_step = "Download it again; a login page or a zip archive under the file's name is the usual cause"
        if magic == b"GRIB":
            what, next_step = "the file is GRIB", "Request NetCDF, or convert it with grib_to_netcdf (ecCodes)"
        raise FormatError(where, what, got=magic, expected="NetCDF", next_step=next_step)
    options = {"chunks": {}, "decode_timedelta": False, **options}
    with foreign(where):
        if engine == "h5netcdf":
            with open_hdf5(where, path) as file:  # h5netcdf would print a traceback of what HDF5 cannot open
                check_written(where, path, file.attrs.get(CHECKSUM))
        return xr.open_dataset(path, engine=_Guard, where=where, by=engine, **options)


def refuse_links(where: str, path: Path) -> None:
    """Raise `CatalogError` where an HDF5 file takes anything from a file that is not in its folder or its data root."""
    state = path.stat()
    for name in _named_files(str(path.absolute()), state.st_size, state.st_mtime_ns):
        named = path.parent / name
        refuse_leaving(where, path, named)
        if named.is_file() and not named.samefile(path):
            refuse_links(where, named)


@functools.lru_cache(maxsize=100_000)
def _named_files(path: str, *state: int) -> tuple[str, ...]:
    """Files that links and datasets of an HDF5 file name; none of one that is damaged, which its reader will find."""
    found: list[str] = []
    with contextlib.suppress(OSError, RuntimeError, KeyError, ValueError), h5py.File(path, "r") as file:
        links: dict[bytes, Any] = {}
        file.id.links.visit(lambda name, info: links.__setitem__(name, info.type), info=True)
        for name, kind in links.items():
            if kind == h5py.h5l.TYPE_EXTERNAL:
                found.append(os.fsdecode(file.id.links.get_val(name)[0]))
            elif kind == h5py.h5l.TYPE_HARD and isinstance(item := h5py.h5o.open(file.id, name), h5py.h5d.DatasetID):
                made = item.get_create_plist()
                found += [os.fsdecode(made.get_external(i)[0]) for i in range(made.get_external_count())]
                if made.get_layout() == h5py.h5d.VIRTUAL:
                    found += [made.get_virtual_filename(i) for i in range(made.get_virtual_count())]
    return tuple(dict.fromkeys(name for name in found if name != "."))


def parse_period(who: str, start: str | None, end: str | None) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    """First and last instant of a period, datetime64[ns], both inclusive; an end that is only a date means all of that day.

    Raises `ParameterError` if one cannot be parsed, or the end comes before the start.

    Examples
    --------
    >>> [str(t) for t in parse_period("doctest", "2011-07-01", "2011-07-02")]
    ['2011-07-01T00:00:00.000000000', '2011-07-02T23:59:59.999999999']
    """
    parsed: list[np.datetime64 | None] = []
    for name, value in (("start", start), ("end", end)):
        try:
            # YAML turns an unquoted date into datetime.date, which numpy takes as well
            time = None if value is None else np.datetime64(value)
        except (ValueError, TypeError):
            time = np.datetime64("NaT")
        if time is not None and np.isnat(time):
            raise ParameterError(who, f"{name!r} is not an ISO date", got=value, expected="2011-07-01")
        if time is not None and name == "end" and np.datetime_data(time.dtype)[0] in ("D", "M", "Y"):
            time = (time + 1).astype("datetime64[ns]") - np.timedelta64(1, "ns")
        parsed.append(None if time is None else time.astype("datetime64[ns]"))
    if None not in parsed and parsed[1] < parsed[0]:
        raise ParameterError(who, "the period ends before it starts", got=(str(start), str(end)))
    return parsed[0], parsed[1]


def in_period(who: str, time: NDArray, start: str | None, end: str | None, what: str = "value") -> NDArray[np.bool_]:
    """Which of the times lie in a period; raise `CatalogError`, which names `what` there is none of, if none does."""
    first, last = parse_period(who, start, end)
    keep = np.ones(time.shape, dtype=bool)
    if first is not None:
        keep &= time >= first
    if last is not None:
        keep &= time <= last
    if not keep.any():
        got = (str(time.min()), str(time.max())) if time.size else (str(start), str(end))
        raise CatalogError(who, f"no {what} in the period", got=got, expected=plain(f"{start} to {end}"))
    return keep


def finish(
    dataset: xr.Dataset, who: str, catalog_id: str, synthetic: bool, source: str, step: str, require: Sequence[str]
) -> xr.Dataset:
    """Stamp a loader's Dataset and check it against the contract."""
    stamp(dataset, source=source, catalog_id=catalog_id, synthetic=synthetic, step=f"{who}: {step}")
    return check_dataset(dataset, who=who, require=tuple(require))


def read_named_csv(path: Path, names: Iterable[str]) -> pd.DataFrame:
    """Read a CSV whose columns `names` are text as it stands (NA and 007 too); others are numbers where all cells are."""
    text, packed = dict.fromkeys(names, str), check_csv(path.name, path)
    columns = pd.read_csv(path, nrows=1, header=None, dtype=str, keep_default_na=False, compression=packed).loc[0]
    if (twice := columns[columns.duplicated() & (columns != "")]).size:
        raise FormatError(path.name, "columns occur twice", got=sorted(set(twice)), next_step="Leave one of each")
    no_value = {name: [""] if name in text else _NO_NUMBER for name in columns}
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=no_value, compression=packed)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a Parquet table that others made, unless its rows would take more memory than `smnb.contract.check_bytes` allows."""
    check_parquet(path)
    with pq.ParquetFile(path) as file:
        held = file.metadata
        size = max(
            8 * held.num_rows * len(columns or file.schema.names),
            *(held.row_group(i).total_byte_size for i in range(held.num_row_groups)),
            0,
        )
        kinds = {
            one.name: one.type.value_type if pa.types.is_dictionary(one.type) else one.type for one in file.schema_arrow
        }
        texts = [name for name in columns or kinds if kinds.get(name) in _TEXTS]
    check_bytes(path.name, "the table", size, MOST_TABLE, path.stat().st_size)
    # a text that is written once may stand in every row
    for name, column in zip(
        texts, pq.read_table(path, columns=texts, read_dictionary=texts).itercolumns(), strict=True
    ):
        sizes = (pc.sum(pc.binary_length(one.dictionary).take(one.indices)).as_py() or 0 for one in column.chunks)
        check_bytes(path.name, f"column {name!r}", sum(sizes), MOST_TABLE)
    table = pd.read_parquet(path, columns=columns)
    pa.Table.from_pandas(table.select_dtypes("string")).validate(full=True)  # text that is no UTF-8
    return table


@contextlib.contextmanager
def parquet_writer(path: Path, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    """Write Parquet with checksums of its pages and, in the footer, of all the file, which `check_parquet` checks."""
    marked = schema.with_metadata({**(schema.metadata or {}), CHECKSUM: UNSTATED})
    with pq.ParquetWriter(path, marked, write_page_checksum=True, **options) as writer:
        yield writer
    write_checksum(path)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table, without its index, by `parquet_writer`."""
    content = pa.Table.from_pandas(table, preserve_index=False)
    with parquet_writer(path, content.schema) as writer:
        writer.write_table(content)


def check_parquet(path: Path) -> None:
    """Raise `FormatError` where a file of `parquet_writer` is not as it was written; one without its checksum passes."""
    with open(path, "rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, end - 8))
        stream.seek(max(0, end - 8 - int.from_bytes(stream.read(4), "little")))
        for stated in re.findall(_STATED.encode(), stream.read())[-1:]:  # which a damaged footer may still show
            check_written(str(path), path, stated.decode(), exact=True)


def write_checksum(path: Path) -> None:
    """State in a file, or a Zarr group, whose `CHECKSUM` is `UNSTATED` what its bytes are, in place."""
    stated = _checksum(path, UNSTATED).encode()
    for file in _files_of(path):
        with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if (at := content.find(UNSTATED.encode())) >= 0:
                stream.seek(at)
                stream.write(stated)


def check_written(where: str, path: Path, stated: Any, *, exact: bool = False) -> None:
    """Raise `FormatError` where a map is not as it was written, by its `CHECKSUM`; one without passes.

    So does, unless it must be `exact`, a map of another size: somebody changed it, and their program kept the attribute.
    """
    if not isinstance(stated, str) or not re.fullmatch(_STATED, stated):
        return
    found = _checksum(path, stated)
    if found != stated and (exact or found[14:] == stated[14:]):
        step = f"Write it again; if it was changed on purpose, remove its attribute {CHECKSUM}"
        raise FormatError(where, f"{path.name} is not as it was written", got=found, expected=stated, next_step=step)


def _checksum(path: Path, stated: str) -> str:
    """What a file or group should state that has `stated`: of all bytes but these, and names."""
    crc = size = 0
    for file in _files_of(path):
        crc = zlib.crc32(file.relative_to(path).as_posix().encode(), crc)
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at, end = content.find(stated.encode()), len(content)
            size += end
            for start, stop in ((0, end),) if at < 0 else ((0, at), (at + len(stated), end)):
                for begin in range(start, stop, 1 << 20):
                    crc = zlib.crc32(content[begin : min(begin + (1 << 20), stop)], crc)
    return f"crc32 {crc:08x} of {size:012d} bytes"


def _files_of(path: Path) -> list[Path]:
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [one for one in found if one.is_file() and one.stat().st_size]
