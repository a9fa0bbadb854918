"""Seeded damage to files: of any file's bytes, and of the structure of those whose format is known."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import yaml
from rasterio.transform import Affine

#: What stands in place of a text.
TEXTS = (
    "",
    " ",
    "NaN",
    "nan",
    "inf",
    "-1e999",
    "None",
    "null",
    "\0",
    "a\0b",
    "é€😀",
    "٣٤",
    "\ud7ff",
    "x" * 5000,
    "../../../etc/passwd",
    "/etc/hostname",
    "0000-00-00",
    "9999-12-31",
    "2020-02-30T25:61:00Z",
    "1677-01-01",
    "300000-01-01",
    "2020-01-01T00:00:00+99:00",
    "-9999",
    "1e308",
    "0x10",
    "1,5",
    "%",
    "m3 m-3",
    "kg/m**2",
    "days since 0000-00-00",
    "months since yesterday",
    "{}",
    "[]",
    "true",
    "=1+1",
    "<script>",
    "'\"",
    "\n",
    "\r\n\t",
    "file:///etc/hostname",
    "http://127.0.0.1:9/x",
    "12",
    "-3",
    "1e400",
    "𝟙",
    "\ufeffid",
)
#: What stands in place of a value of JSON or YAML.
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    10**30,
    10**400,
    -(2**63),
    2**64,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
    [],
    {},
    [[]],
    [None],
    {"a": None},
    [1, "a"],
    [float("nan")],
    {"": []},
    ["x"] * 50,
    list(range(300)),
)
KINDS = ("b", "i1", "u2", "i4", "u8", "f2", "f8", "c16", "S3", "O", "M")


class UnsuitableError(Exception):
    """A mutation that this file has no place for."""


# --- bytes ------------------------------------------------------------------------------------------------------------


def mutate_bytes(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """One of ten kinds of damage; the kinds that a disk or a network does are in it."""
    size = len(content)
    if not size:
        return bytes(rng.randrange(256) for _ in range(rng.choice((1, 8, 64)))), "filled an empty file"
    at = rng.randrange(min(size, 512)) if rng.random() < 0.4 else rng.randrange(size)
    length = min(size - at, rng.choice((1, 2, 4, 16, 64, 512, 4096)))
    kind = rng.choice(("flip", "flip", "byte", "few", "truncate", "zeros", "insert", "repeat", "drop", "ones", "tail"))
    out = bytearray(content)
    if kind == "flip":
        out[at] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif kind == "few":
        for _ in range(rng.choice((4, 16, 64))):
            out[rng.randrange(size)] = rng.randrange(256)
    elif kind == "truncate":
        del out[at:]
    elif kind in ("zeros", "ones"):
        out[at : at + length] = (b"\0" if kind == "zeros" else b"\xff") * length
    elif kind == "insert":
        out[at:at] = bytes(rng.randrange(256) for _ in range(min(length, 64)))
    elif kind == "repeat":
        out[at:at] = out[at : at + length]
    elif kind == "drop":
        del out[at : at + length]
    else:
        out += bytes(rng.randrange(256) for _ in range(length))
    return bytes(out), f"{kind} at {at} of {size}, {length}"


# --- trees and text ---------------------------------------------------------------------------------------------------


def nodes_of(tree: Any, path: tuple = ()) -> list[tuple]:
    found = [path]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:40]) if isinstance(tree, list) else ()
    for key, value in items:
        found += nodes_of(value, (*path, key))
    return found


def odd_value(old: Any, rng: random.Random) -> Any:
    if isinstance(old, str) and rng.random() < 0.5:
        return rng.choice(TEXTS)
    if isinstance(old, int | float) and not isinstance(old, bool) and abs(old) < 2**60 and rng.random() < 0.5:
        return rng.choice((0, -1, old + 1, -old, old * 1000, float(old), str(old), float("nan"), 2**40, 1e300))
    return rng.choice(VALUES) if rng.random() < 0.7 else rng.choice(TEXTS)


def edit_tree(tree: Any, rng: random.Random) -> tuple[Any, str]:
    path = rng.choice(nodes_of(tree))
    if not path:
        if rng.random() < 0.8 and isinstance(tree, dict | list) and tree:
            return edit_tree(tree, rng)
        return rng.choice(VALUES), "another root"
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    old, kind = parent[path[-1]], rng.choice(("value", "value", "value", "delete", "rename", "add", "nest", "twice"))
    if kind == "delete":
        del parent[path[-1]]
    elif kind == "rename" and isinstance(parent, dict):
        parent[rng.choice((*TEXTS, f"{path[-1]}x", str(path[-1]).upper()))] = parent.pop(path[-1])
    elif kind == "add" and isinstance(parent, dict):
        parent[rng.choice(TEXTS)] = rng.choice(VALUES)
    elif kind == "nest":
        deep: Any = old
        for _ in range(rng.choice((1, 2, 400))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        parent[path[-1]] = deep
    elif kind == "twice" and isinstance(old, list) and old:
        parent[path[-1]] = old + old[: rng.randrange(1, len(old) + 1)]
    else:
        parent[path[-1]] = odd_value(old, rng)
    return tree, f"{kind} {'/'.join(map(str, path))[:80]}"


def edit_json(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    if rng.random() < 0.12:
        text = content.decode(errors="replace")
        kind = rng.choice(("twice", "deep", "bom", "utf-16", "lines", "number", "empty"))
        changed = {
            "twice": text + text,
            "deep": "[" * 100_000,
            "bom": "\ufeff" + text,
            "lines": text.replace(",", ",\n\n", 3),
            "empty": "",
            "number": text.replace("1", "9" * 5000, 1),
            "utf-16": text,
        }[kind]
        return changed.encode("utf-16" if kind == "utf-16" else "utf-8", errors="replace"), f"text {kind}"
    try:
        tree, said = json.loads(content), []
    except (ValueError, RecursionError):
        raise UnsuitableError from None
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tree, one = edit_tree(tree, rng)
        said.append(one)
    try:
        return json.dumps(tree, ensure_ascii=rng.random() < 0.5).encode(errors="replace"), "; ".join(said)
    except (ValueError, TypeError, RecursionError):
        raise UnsuitableError from None


def edit_yaml(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    text = content.decode()
    if rng.random() < 0.35:
        lines = text.splitlines()
        at = rng.randrange(len(lines) + 1)
        bomb = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
        extra = rng.choice(
            (
                bomb,
                ["\tx: 1"],
                ["? [a, b]\n: c"],
                ["!!python/object/apply:os.system [true]"],
                ["---", "b: 2"],
                ["a: *none"],
                ["<<: {x: 1}"],
                ["x: 2020-02-30"],
                ["x: 010"],
                ["x: 12:30:45"],
                ["1: 2"],
                ["null: 1"],
                ["- a"],
                [": "],
                ["x: &x [*x]"],
                ["é: \u2028"],
                ["x: 1", "x: 2"],
            )
        )
        return "\n".join([*lines[:at], *extra, *lines[at:]]).encode(), f"line {extra[0][:40]!r} at {at}"
    try:
        tree, said = edit_tree(yaml.safe_load(text), rng)
        return yaml.safe_dump(tree, allow_unicode=True).encode(errors="replace"), said
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UnsuitableError from None


def edit_text(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Lines and cells of a text with some separator."""
    text = content.decode("utf-8", errors="replace")
    lines = text.splitlines()
    if not lines:
        raise UnsuitableError
    separator = next((one for one in ",;\t" if one in lines[0]), " ")
    kinds = (
        "cell",
        "cell",
        "cell",
        "column",
        "head",
        "head",
        "line",
        "cut",
        "twice",
        "swap",
        "blank",
        "encode",
        "quote",
        "few",
    )
    kind = rng.choice(kinds)
    at = rng.randrange(len(lines))
    cells = lines[at].split(separator)
    number = rng.randrange(len(cells))
    if kind == "cell":
        for one in {at, *(rng.randrange(len(lines)) for _ in range(rng.choice((0, 0, 5, 50))))}:
            cells = lines[one].split(separator)
            cells[min(number, len(cells) - 1)] = rng.choice(TEXTS)
            lines[one] = separator.join(cells)
    elif kind == "column":
        value = rng.choice((None, *TEXTS))
        for i in range(len(lines)):
            cells = lines[i].split(separator)
            if number < len(cells):
                cells[number : number + 1] = [] if value is None else [cells[number] if i == 0 else value]
            lines[i] = separator.join(cells)
    elif kind == "head":
        cells = lines[0].split(separator)
        number = rng.randrange(len(cells))
        cells[number] = rng.choice((*TEXTS, cells[0], cells[number] + " ", cells[number].upper()))
        lines[0] = separator.join(cells)
    elif kind == "line":
        lines.insert(at, rng.choice((*TEXTS, separator * 100, lines[0], "x" * 200_000)))
    elif kind == "cut":
        lines = lines[:at]
    elif kind == "twice":
        lines = lines + lines[rng.randrange(len(lines)) :]
    elif kind == "swap":
        rng.shuffle(lines)
    elif kind == "blank":
        lines = rng.choice(([], lines[:1], [""] * 5, [one + separator for one in lines]))
    elif kind == "quote":
        lines[at] = lines[at].replace(separator, f'{separator}"', 1)
    elif kind == "few":
        lines = lines[: rng.choice((1, 2, 3))]
    text = "\n".join(lines) + rng.choice(("\n", "", "\r\n", "\n\n"))
    coding = rng.choice(("utf-16", "utf-8-sig", "cp1252", "utf-32")) if kind == "encode" else "utf-8"
    return text.encode(coding, errors="replace"), f"{kind} at {at}, cell {number}"


# --- tables -----------------------------------------------------------------------------------------------------------


def edit_parquet(path: Path, rng: random.Random) -> str:
    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    at, column = table.column_names.index(name), table[name]
    kind = rng.choice(
        ("drop", "rename", "type", "type", "values", "values", "empty", "twice", "metadata", "add", "null", "row group")
    )
    size = len(table)
    odd = {
        "text": pa.array([rng.choice(TEXTS) for _ in range(size)]),
        "nan": pa.array([float("nan")] * size),
        "inf": pa.array([rng.choice((float("inf"), -float("inf"), 1e300)) for _ in range(size)]),
        "whole": pa.array([rng.randrange(-(10**6), 10**6) for _ in range(size)]),
        "bool": pa.array([rng.random() < 0.5 for _ in range(size)]),
        "bytes": pa.array([b"\xff\0"] * size),
        "list": pa.array([[1.0, None]] * size),
        "struct": pa.array([{"a": 1}] * size),
        "date": pa.array([0] * size, pa.date32()),
        "time": pa.array([rng.randrange(-(2**62), 2**62) for _ in range(size)], pa.timestamp("us", "Asia/Tokyo")),
        "duration": pa.array([5] * size, pa.duration("s")),
        "decimal": pa.array([None] * size, pa.decimal128(38, 3)),
        "category": pa.array(["a"] * size).dictionary_encode(),
        "null": pa.nulls(size),
    }
    said = f"{kind} {name}"
    if kind == "drop":
        table = table.drop_columns([name])
    elif kind == "rename":
        names = list(table.column_names)
        names[at] = rng.choice((*TEXTS[:14], names[0], names[at].upper()))
        table = table.rename_columns(names)
    elif kind == "type":
        what = rng.choice(list(odd))
        table, said = table.set_column(at, name, odd[what]), f"{said} {what}"
    elif kind == "values":
        values = column.to_pylist()
        for i in (rng.randrange(size) for _ in range(rng.choice((1, 5, 50)) if size else 0)):
            old = values[i]
            number = isinstance(old, int | float) and not isinstance(old, bool)
            values[i] = (
                None
                if rng.random() < 0.3
                else rng.choice(TEXTS)
                if isinstance(old, str)
                else float("nan")
                if number
                else None
            )
            if number and rng.random() < 0.6:
                values[i] = rng.choice((-9999, 0, 1e30, -1e30, float("inf"), 101))
        try:
            array = pa.array(values, column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError, pa.ArrowNotImplementedError):
            try:
                array = pa.array(values)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError):
                raise UnsuitableError from None
        table = table.set_column(at, name, array)
    elif kind == "empty":
        table = table.slice(0, rng.choice((0, 1)))
    elif kind == "twice":
        table = pa.concat_tables([table, table.slice(0, 3)])
    elif kind == "add":
        table = table.append_column(rng.choice((*TEXTS[:14], name)), odd[rng.choice(list(odd))])
    elif kind == "null":
        table = table.set_column(at, name, pa.nulls(size, column.type))
    metadata = dict(table.schema.metadata or {})
    if kind == "metadata":
        key = rng.choice(list(metadata) or [b"pandas"])
        metadata[key] = rng.choice((b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"columns": 3}', b'{"a": NaN}', b"\0"))
        said = f"metadata {key!r}"
    try:
        pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=1 if kind == "row group" else None)
    except (pa.ArrowInvalid, ValueError, pa.ArrowNotImplementedError):
        raise UnsuitableError from None
    return said


# --- HDF5 and NetCDF 4 ------------------------------------------------------------------------------------------------


def edit_hdf5(path: Path, rng: random.Random) -> str:
    """Variables and attributes dropped, renamed, of another type, shape, value or size, or elsewhere."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        if not names:
            raise UnsuitableError
        said = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            name = rng.choice(names)
            try:
                if name in file:
                    said.append(_edit_object(file, name, rng))
            except (KeyError, OSError, ValueError, TypeError, RuntimeError, MemoryError):  # what an edit before it left
                raise UnsuitableError from None
    return "; ".join(said) or "nothing"


def _edit_object(file: h5py.File, name: str, rng: random.Random) -> str:
    kind = rng.choice(
        (
            "drop",
            "rename",
            "type",
            "shape",
            "values",
            "values",
            "attribute",
            "attribute",
            "huge",
            "link",
            "group",
            "chunks",
        )
    )
    one = file[name]
    if kind in ("type", "shape", "values", "huge", "chunks") and not isinstance(one, h5py.Dataset):
        kind = "attribute"
    said = f"{kind} {name}"
    attributes = dict(one.attrs) if kind in ("type", "shape", "huge", "chunks") else {}
    if kind == "drop":
        del file[name]
    elif kind == "rename":
        file.move(name, name + rng.choice(("x", " ", "é", "_")))
    elif kind == "attribute":
        known = [
            key
            for key in one.attrs
            if key not in ("DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", "_Netcdf4Dimid")
        ]
        key = rng.choice(
            [*known, "units", "_FillValue", "scale_factor", "add_offset", "missing_value", "calendar", "valid_range"]
        )
        if key in one.attrs and rng.random() < 0.3:
            del one.attrs[key]
            return f"{said} less {key}"
        values = (
            *TEXTS[:12],
            np.nan,
            np.inf,
            0,
            -1,
            1e300,
            np.arange(3),
            np.array([], "f4"),
            np.bytes_(b"\xff\xfe"),
            np.bool_(True),
            h5py.Empty("f4"),
            np.float32(0),
            "days since 0000-00-00",
            "seconds since 2000-01-01T99:00",
            "fortnights since 2000-01-01",
        )
        try:
            one.attrs[key] = (value := rng.choice(values))
        except (ValueError, TypeError, OSError):
            raise UnsuitableError from None
        return f"{said} {key}={str(value)[:30]!r}"
    elif kind == "group":
        del file[name]
        file.create_group(name)
    elif kind == "link":
        del file[name]
        file[name] = rng.choice(
            (
                h5py.ExternalLink("/etc/hostname", "/x"),
                h5py.ExternalLink("absent.h5", "/x"),
                h5py.SoftLink("/" + name),
                h5py.SoftLink("/absent"),
            )
        )
    else:
        try:
            said += _edit_values(file, name, kind, rng)
        except (ValueError, TypeError, OSError, RuntimeError, KeyError, UnicodeEncodeError):
            raise UnsuitableError from None
        for key, value in attributes.items():
            if key not in ("DIMENSION_LIST", "REFERENCE_LIST"):
                try:
                    file[name].attrs[key] = value
                except (ValueError, TypeError, OSError):
                    continue
    return said


def _edit_values(file: h5py.File, name: str, kind: str, rng: random.Random) -> str:
    one = file[name]
    values = one[()]
    if kind == "values":
        if getattr(values, "dtype", np.dtype("O")).kind not in "iuf" or values.size == 0:
            raise UnsuitableError
        values = np.array(values)
        odd = (0, 1, 2, 3, 65534, 65535, 255) if values.dtype.kind == "u" else (0, -1, -9999, 32767, -32768, 100, 3)
        odd = (*odd, np.nan, np.inf, -np.inf, 1e30, -1e30) if values.dtype.kind == "f" else odd
        flat = values.reshape(-1)
        where = slice(None) if rng.random() < 0.4 else [rng.randrange(flat.size) for _ in range(rng.choice((1, 10)))]
        with np.errstate(all="ignore"):
            flat[where] = np.asarray(rng.choice(odd)).astype(values.dtype)
            if rng.random() < 0.2:
                flat[:] = flat[::-1].copy()
        one[...] = values
        return ""
    del file[name]
    if kind == "huge":
        size = rng.choice(((2**40,), (2**20, 2**20), (2**31, 3), (10**6, 10**5)))
        file.create_dataset(name, size, dtype=rng.choice(("f4", "f8", "u2")), chunks=tuple(min(64, n) for n in size))
        return f" {size}"
    if kind == "chunks":
        file.create_dataset(name, data=values, compression="gzip", chunks=True, fletcher32=True)
        return ""
    if kind == "shape":
        values = np.asarray(values)
        shapes = [
            values.reshape(-1),
            values[None],
            values[..., None],
            values.reshape(-1)[:0],
            values.reshape(-1)[:1],
            values.reshape(-1)[0],
        ]
        if values.ndim:
            shapes += [values[:-1], values[::2], values.T, np.concatenate([values, values])]
        values = rng.choice(shapes) if values.size else values[None]
        file[name] = values
        return f" {np.shape(values)}"
    to = rng.choice(KINDS)
    if to == "O":
        file.create_dataset(name, np.shape(values), dtype=h5py.string_dtype())
    elif to == "M":
        file.create_dataset(name, np.shape(values), dtype=np.dtype([("a", "f4"), ("b", "i4")]))
    else:
        with np.errstate(all="ignore"):
            file[name] = np.asarray(values).astype(to)
    return f" {to}"


# --- zip, gzip, GeoTIFF, arrays, safetensors --------------------------------------------------------------------------


def edit_zip(path: Path, rng: random.Random) -> str:
    with zipfile.ZipFile(path) as file:
        members = [(info.filename, file.read(info)) for info in file.infolist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    kind = rng.choice(
        (
            "text",
            "text",
            "bytes",
            "bytes",
            "drop",
            "rename",
            "rename",
            "twice",
            "bomb",
            "folder",
            "empty",
            "flag",
            "add",
        )
    )
    said = f"{kind} {name[-40:]}"
    if kind in ("text", "bytes"):
        new, how = (edit_text if kind == "text" else mutate_bytes)(content, rng)
        members[at], said = (name, new), f"{said}: {how}"
    elif kind == "drop":
        del members[at]
    elif kind == "rename":
        parts = name.split("/")
        new = rng.choice(
            (
                "../" + name,
                "/" + name,
                name.replace("_", ""),
                parts[-1],
                name.upper(),
                name + "x",
                name.replace("sm_", "é_"),
                "a/" * 200 + "x.stm",
                name.replace("0.050000", "nan"),
                name.replace("0.050000", "9e99"),
                name.replace("20190101", "99999999"),
                name.replace("_", "__"),
                "\0.stm",
            )
        )
        members[at], said = (new, content), f"{said} to {new[:40]!r}"
    elif kind == "bomb":
        members[at] = (name, content + b"\n" + bytes(rng.choice((10, 300)) << 20))
    elif kind == "empty":
        members[at] = (name, b"")
    elif kind == "folder":
        members[at] = (name + "/", b"")
    elif kind == "add":
        members.append(
            (
                rng.choice(("x.txt", "a/b/c_d_e_sm_0_0_x_1_2.stm", "Metadata.xml", name + ".stm")),
                rng.choice((b"", b"x" * 99, content)),
            )
        )
    if kind == "twice":
        members.append(members[at])
    how = rng.choice(
        (zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    )
    with zipfile.ZipFile(path, "w", how, compresslevel=1) as file:
        for member, data in members:
            file.writestr(zipfile.ZipInfo(member) if "\0" not in member else "x.stm", data, how)
    if kind == "flag":
        raw = bytearray(path.read_bytes())
        place = raw.find(b"PK\x01\x02") + rng.choice((8, 10, 20, 24, 28, 42))
        raw[place : place + 2] = struct.pack("<H", rng.choice((1, 0xFFFF, 99)))
        path.write_bytes(raw)
    return said


def edit_gzip(path: Path, rng: random.Random) -> str:
    inner = gzip.decompress(path.read_bytes())
    kind = rng.choice(("inner", "inner", "inner", "bomb", "twice", "tail", "empty", "plain"))
    said = kind
    if kind == "inner":
        as_text = path.name.removesuffix(".gz").endswith((".csv", ".txt"))
        inner, said = (edit_text if as_text and rng.random() < 0.8 else mutate_bytes)(inner, rng)
    content = inner + bytes(200 << 20) if kind == "bomb" else b"" if kind == "empty" else inner
    packed = gzip.compress(content, 1)
    packed += packed if kind == "twice" else b"\1\2\3" if kind == "tail" else b""
    path.write_bytes(inner if kind == "plain" else packed)
    return f"gzip: {said}"


def edit_raster(path: Path, rng: random.Random) -> str:
    """A GeoTIFF written again with another grid, type, tag or values."""
    with rasterio.open(path) as file:
        profile, values = dict(file.profile), file.read()
        described, tags, scales = file.descriptions, file.tags(), file.scales
    kinds = (
        "values",
        "values",
        "dtype",
        "crs",
        "transform",
        "transform",
        "bands",
        "nodata",
        "named",
        "tags",
        "scale",
        "size",
        "strips",
        "complex",
    )
    kind = rng.choice(kinds)
    said = kind
    profile = {key: value for key, value in profile.items() if key not in ("blockxsize", "blockysize", "tiled")}
    t = profile["transform"]
    with np.errstate(all="ignore"):
        if kind == "values":
            values = np.array(values)
            odd = rng.choice((0, np.nan, np.inf, -np.inf, -9999, 255, 1e30, -32768, 65535))
            said += f" {odd}"
            flat = values.reshape(-1)
            flat[:: rng.choice((1, 2, 7))] = np.asarray(odd).astype(values.dtype)
        elif kind == "dtype":
            profile["dtype"] = rng.choice(("uint8", "int16", "int32", "float64", "uint32", "int8"))
            values = values.astype(profile["dtype"])
        elif kind == "complex":
            profile["dtype"] = "complex64"
            values, profile["nodata"] = values.astype("complex64"), None
        elif kind == "crs":
            profile["crs"] = rng.choice((None, "EPSG:4326", "EPSG:3857", "EPSG:6933", 'LOCAL_CS["x"]'))
            said += f" {profile['crs']}"
        elif kind == "transform":
            profile["transform"] = rng.choice(
                (
                    Affine.identity(),
                    Affine(0, 0, 0, 0, 0, 0),
                    t * Affine.rotation(30),
                    t * Affine.scale(-1, 1),
                    t * Affine.scale(1e6, 1e6),
                    t * Affine.scale(1e-9, 1e-9),
                    Affine(np.nan, 0, 0, 0, -1, 0),
                    Affine(1, 0, 1e300, 0, -1, 0),
                    t * Affine.translation(1e7, 0),
                )
            )
            said += f" {tuple(profile['transform'])[:6]}"
        elif kind == "bands":
            values = rng.choice((values[:1], np.concatenate([values, values]), values[::-1]))
        elif kind == "nodata":
            profile["nodata"] = rng.choice(
                (None, 0, 1, 255 if profile["dtype"] == "uint8" else -9999 if values.dtype.kind != "u" else 7)
            )
        elif kind == "size":
            values = rng.choice((values[:, :1], values[:, :, :1], values[:, :1, :1], np.repeat(values, 3, axis=2)))
        profile |= dict(zip(("count", "height", "width"), values.shape, strict=True))
        try:
            with rasterio.open(path, "w", **profile) as file:
                file.write(values)
                names = described if len(described) == len(values) else [None] * len(values)
                for number, name in enumerate(names, 1):
                    changed = rng.choice((None, *TEXTS[:14], described[0])) if kind == "named" else name
                    if changed and "\0" not in changed:
                        file.set_band_description(number, changed)
                tags = {
                    key: rng.choice(TEXTS).replace("\0", "") if kind == "tags" else value for key, value in tags.items()
                }
                file.update_tags(**tags)
                if kind == "scale" or any(one != 1 for one in scales):
                    file.scales = (
                        [rng.choice((0.0, -1.0, 1e300, float("nan"), 0.1)) for _ in values]
                        if kind == "scale"
                        else scales[: len(values)]
                    )
        except Exception:
            raise UnsuitableError from None
    return said


def edit_array(path: Path, rng: random.Random) -> str:
    """An array of numpy with another type, shape or values."""
    values = np.load(path)
    kind = rng.choice(("dtype", "shape", "values", "huge", "object"))
    if kind == "huge":
        head = "{'descr': '<f4', 'fortran_order': False, 'shape': (1048576, 1048576), }"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) + 1) + head.encode() + b"\n" + bytes(64))
        return kind
    made = {
        "dtype": lambda: values.astype(rng.choice(("f8", "i4", "c16", "U5", "?"))),
        "shape": lambda: rng.choice(
            (values.reshape(-1), values[None], values[:1], values[:0], np.float32(1), values.T)
        ),
        "values": lambda: np.where(
            np.random.default_rng(rng.randrange(99)).random(values.shape) < 0.5, rng.choice((np.nan, np.inf, 0)), values
        ),
        "object": lambda: np.array([None, {}], object),
    }[kind]()
    with np.errstate(all="ignore"), open(path, "wb") as stream:
        np.save(stream, made, allow_pickle=True)
    return f"{kind} {made.dtype} {made.shape}"


def edit_safetensors(path: Path, rng: random.Random) -> str:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    head, said = edit_json(content[8 : 8 + size], rng)
    length = rng.choice((len(head), len(head), len(head) + 1, 2**40))
    path.write_bytes(length.to_bytes(8, "little") + head + content[8 + size :])
    return f"header {said}"


# --- one file, one folder ---------------------------------------------------------------------------------------------


def _of_content(edit: Callable[[bytes, random.Random], tuple[bytes, str]]) -> Callable[[Path, random.Random], str]:
    def change(path: Path, rng: random.Random) -> str:
        new, said = edit(path.read_bytes(), rng)
        path.write_bytes(new)
        return said

    return change


EDITS: dict[str, Callable[[Path, random.Random], str]] = {
    **dict.fromkeys((".h5", ".nc", ".nc4"), edit_hdf5),
    **dict.fromkeys((".json", ".ipynb"), _of_content(edit_json)),
    **dict.fromkeys((".yaml", ".yml"), _of_content(edit_yaml)),
    **dict.fromkeys((".csv", ".txt", ".stm", ".vrt", ".html"), _of_content(edit_text)),
    **dict.fromkeys((".tif", ".tiff"), edit_raster),
    ".parquet": edit_parquet,
    ".zip": edit_zip,
    ".gz": edit_gzip,
    ".npy": edit_array,
    ".safetensors": edit_safetensors,
}


def mutate(path: Path, rng: random.Random, *, structure: float = 0.55) -> tuple[bool, str]:
    """Damage a file in place; return whether only its bytes were damaged, and what was done."""
    edit = EDITS.get(path.suffix)
    if edit is edit_hdf5 and path.read_bytes()[:4] != b"\x89HDF":
        edit = None
    if edit is not None and rng.random() < structure:
        before = path.read_bytes()
        for _ in range(4):
            try:
                return False, f"{path.name}: {edit(path, rng)}"
            except UnsuitableError:
                path.write_bytes(before)
    new, said = mutate_bytes(path.read_bytes(), rng)
    path.write_bytes(new)
    return True, f"{path.name}: {said}"


def mutate_folder(folder: Path, files: list[Path], rng: random.Random) -> tuple[bool, str]:
    """Damage one of some files; now and then by taking it away, putting a folder in its place, or another's content."""
    path = rng.choice(files)
    if rng.random() >= 0.06:
        return mutate(path, rng)
    kind = rng.choice(("away", "folder", "empty", "other", "copy"))
    if kind in ("away", "folder"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "other":
        shutil.copyfile(other := rng.choice(files), path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
        return False, f"{path.name}: the content of {other.name}"
    else:
        shutil.copyfile(path, path.with_name("copy_" + path.name))
    return kind == "empty", f"{path.relative_to(folder)}: {kind}"
