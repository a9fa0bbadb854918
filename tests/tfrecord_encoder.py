"""An encoder of TFRecord shards for the tests, written from the formats' descriptions and not from smnb's reader.

Checksums are computed bit by bit (no table), numbers are encoded one by one in Python's integers.
"""

from __future__ import annotations

import gzip
import struct
from functools import cache
from pathlib import Path

import numpy as np

POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected


@cache
def _octet(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
    return value


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _octet((crc ^ byte) & 0xFF) ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | (crc & 0x7FFF) << 17) + 0xA282EAD8) % 2**32


def frame(payload: bytes) -> bytes:
    length = len(payload).to_bytes(8, "little")
    return length + masked(length).to_bytes(4, "little") + payload + masked(payload).to_bytes(4, "little")


@cache
def varint(value: int) -> bytes:
    value %= 2**64  # two's complement of negative numbers
    digits = bytearray()
    while value > 127:
        digits.append(128 + value % 128)
        value //= 128
    digits.append(value)
    return bytes(digits)


def delimited(number: int, content: bytes) -> bytes:
    return varint(number * 8 + 2) + varint(len(content)) + content


def feature(value, *, packed: bool = True) -> bytes:
    """A Feature: text and bytes as BytesList, integers as Int64List, floats as FloatList."""
    if isinstance(value, str | bytes):
        return delimited(1, delimited(1, value.encode() if isinstance(value, str) else value))
    flat = np.asarray(value).ravel()
    if flat.dtype.kind in "iu":
        numbers = [varint(one) for one in flat.tolist()]
        return delimited(3, delimited(1, b"".join(numbers)) if packed else b"".join(b"\x08" + one for one in numbers))
    floats = [struct.pack("<f", one) for one in flat.tolist()]
    return delimited(2, delimited(1, b"".join(floats)) if packed else b"".join(b"\x0d" + one for one in floats))


def example(fields: dict, *, packed: bool = True) -> bytes:
    entries = [
        delimited(1, name.encode()) + delimited(2, feature(value, packed=packed)) for name, value in fields.items()
    ]
    return delimited(1, b"".join(delimited(1, entry) for entry in entries))


def write_shard(path: Path, payloads: list[bytes], *, compress: bool = True) -> Path:
    content = b"".join(map(frame, payloads))
    path.write_bytes(gzip.compress(content, 1) if compress else content)
    return path


IMAGES = (
    *(f"sentinel_1_{band}" for band in ("VV", "VH", "angle")),
    *(f"sentinel_2_{band}" for band in ("B2", "B3", "B4", "B8", "B11", "B12")),
    "nasa_dem_elevation",
    *(f"soil_grids_{name}_0-5cm_mean" for name in ("sand_sand", "silt_silt", "clay_clay", "bd_bdod")),
)


def released_fields(
    seed: int,
    *,
    size: int = 32,
    sensor_id: str = "NET__Site_A__Probe-5",
    lat: float = 40.5,
    lon: float = -98.25,
    time: str = "2019-06-01T12:00:00",
    label: float | None = 0.25,
    **changes,
) -> dict:
    """Fields of one record as the release documents them; a change to None leaves a field out."""
    random = np.random.default_rng(seed)
    milliseconds = int(np.datetime64(time, "ms").astype(np.int64))
    fields = {
        "sensor_id": sensor_id,
        "center_lat": lat,
        "center_long": lon,
        "size": float(size),
        "timestamp": float(milliseconds),
        "smap_sm": 64,
        "gldas_sm": 77,
        "utm_zone": "14N",
        "sentinel_1_timestamp": float(milliseconds - 3_600_000),
        "sentinel_2_timestamp": milliseconds - 86_400_000,
        **{name: random.integers(1, 256, (size, size)) for name in IMAGES},
        "nasa_dem_elevation": random.integers(200, 900, (size, size)),
    }
    if label is not None:
        fields["sm_0_5"] = label
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}
