"""gzip TFRecord shards of tf.train.Example, read without TensorFlow: records with their checksums, and the protobuf message.

One record is in memory at a time. `parse_example` finds where each feature's bytes are; values are decoded when they are asked
for, so that a field that nobody reads costs nothing. Encoding: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import gzip
import itertools
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from smnb.contract import FormatError, check_bytes, foreign, plain

_HEADER, _CRC = struct.Struct("<QI"), struct.Struct("<I")


class RecordError(FormatError):
    """One record that is damaged; the records after it can be read."""


class ShardError(FormatError):
    """Damage after which nothing more of the shard can be read."""


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of `data`, masked as TFRecord has it: rotated right by 15 bits, plus 0xa282ead8."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(path: str | os.PathLike[str], *, verify: bool = True) -> Iterator[tuple[int, bytes | RecordError]]:
    """Yield the records of a shard with their numbers."""
    path = Path(path)
    length = path.stat().st_size
    with path.open("rb") as stream:
        is_gzip = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path) if is_gzip else path.open("rb") as stream:
        for number in itertools.count():
            who = f"{path.name}, record {number}"
            with foreign(who, "the shard is damaged or cut short", ShardError):
                header = stream.read(_HEADER.size)
                if not header:
                    return
                _check_length(who, len(header), _HEADER.size)
                size, crc = _HEADER.unpack(header)
                if masked_crc32c(header[:8]) != crc:
                    what = "the length of the record does not match its checksum"
                    next_step = "Download the shard again; if that does not help, the file is no TFRecord"
                    raise ShardError(who, what, got=size, next_step=next_step)
                if not is_gzip:
                    _check_length(who, length - stream.tell(), size)
                check_bytes(who, "the record", size, compressed=length, error=ShardError)
                payload, tail = stream.read(size), stream.read(_CRC.size)
            _check_length(who, len(payload) + len(tail), size + _CRC.size)
            if verify and masked_crc32c(payload) != _CRC.unpack(tail)[0]:
                yield number, RecordError(who, "the payload does not match its checksum")
            else:
                yield number, payload


def _check_length(who: str, got: int, expected: int) -> None:
    if got < expected:
        what, whole = "the file ends within the record", plain(f"{expected} bytes")
        raise ShardError(who, what, got=plain(f"{got} bytes"), expected=whole)


_KINDS = {1: "bytes", 2: "float", 3: "int64"}  # what a feature holds, by its field number
_WHO = "tf.train.Example"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


def _damage(what: str) -> FormatError:
    return FormatError(_WHO, f"the record is no protobuf message: {what}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return one varint and the position after it."""
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        if at >= len(data):
            raise _damage("a number is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise _damage("a number is longer than 10 bytes")


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield field number, wire type and content of each field of a message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire, start = tag >> 3, tag & 7, at
        if wire == _VARINT:
            _, at = _varint(data, at)
        elif wire == _BYTES:
            size, start = _varint(data, at)
            at = start + size
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise _damage(f"wire type {wire}")
        if number == 0 or at > len(data):
            raise _damage("field number 0" if number == 0 else "a field is cut short")
        yield number, wire, data[start:at]


def _messages(data: memoryview, number: int) -> Iterator[memoryview]:
    """Yield the messages of one field, past any others."""
    for found, wire, content in _fields(data):
        if found == number:
            if wire != _BYTES:
                raise _damage(f"field {number} is no message")
            yield content


def decode_varints(data: bytes | memoryview) -> NDArray[np.integer]:
    """Decode bytes that are nothing but varints; the smallest of uint8, uint16 and int64 that they need.

    Negative numbers (10 bytes each) come as int64.

    >>> decode_varints(bytes([5, 0xAC, 0x02])).tolist()
    [5, 300]
    """
    octets = np.frombuffer(data, dtype=np.uint8)
    last = octets < 0x80
    if octets.size and not last[-1]:
        raise _damage("a number is cut short")
    if last.all():
        return octets
    more = ~last
    if not (more[1:] & more[:-1]).any():
        # one or two bytes each, as 8-bit images and elevations have. Arithmetic on whole arrays, since selecting by a
        # mask (np.where, wide[last]) takes ten times as long where ones and twos alternate: c 128 + low is c + c 127 + low
        wide = octets.astype(np.uint16)
        carried = wide[1:] * np.uint16(127)
        carried += octets[:-1] & np.uint8(0x7F)
        carried *= more[:-1]
        wide[1:] += carried
        return wide.take(np.flatnonzero(last))
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    length = ends - starts + 1
    if int(length.max()) > _LONGEST_VARINT:
        raise _damage("a number is longer than 10 bytes")
    value = (octets[starts] & 0x7F).astype(np.uint64)
    for k in range(1, int(length.max())):
        longer = np.flatnonzero(length > k)
        value[longer] |= (octets[starts[longer] + k] & 0x7F).astype(np.uint64) << np.uint64(7 * k)
    return value.view(np.int64)


def _unpacked_varints(data: memoryview) -> NDArray[np.integer] | None:
    """Decode a list that has a tag before each number; None if it is another."""
    if not len(data) or data[0] != 0x08:
        return None
    alternating = decode_varints(data)
    return alternating[1::2] if alternating.size % 2 == 0 and (alternating[::2] == 0x08).all() else None


def _decode_floats(data: memoryview) -> NDArray[np.float32]:
    if len(data) % 4:
        raise _damage("a list of floats of another size")
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _unpacked_floats(data: memoryview) -> NDArray[np.float32] | None:
    """Decode a list that has a tag before each number; None if it is another."""
    if len(data) % 5:
        return None
    pairs = np.frombuffer(data, dtype=[("tag", "u1"), ("value", "<f4")])
    return pairs["value"].astype(np.float32) if (pairs["tag"] == 0x0D).all() else None


@dataclass(frozen=True)
class Feature:
    """One feature of an Example, not decoded yet."""

    kind: str
    parts: tuple[memoryview, ...] = ()

    def raw(self) -> bytes:
        """Return the encoded lists, to compare features without decoding them."""
        return b"".join(self.parts)

    def _check(self, kind: str) -> None:
        if self.kind != kind:
            raise FormatError(_WHO, "the feature holds another type", got=self.kind, expected=kind)

    def _numbers(self, kind: str, wire: int, unpacked: Callable, decode: Callable, empty: str) -> NDArray:
        """Decode lists: the usual ones, packed or not, as a whole, and mixtures field by field."""
        self._check(kind)
        found = []
        for part in self.parts:
            if (values := unpacked(part)) is not None:
                found.append(values)
                continue
            for number, form, content in _fields(part):
                if number == 1:
                    if form not in (_BYTES, wire):
                        raise _damage(f"wire type {form} in a list of {kind}")
                    found.append(decode(content))
        return found[0] if len(found) == 1 else np.concatenate([np.empty(0, empty), *found])

    def bytes_list(self) -> list[bytes]:
        """Decode a list of bytes."""
        self._check("bytes")
        return [bytes(one) for part in self.parts for one in _messages(part, 1)]

    def floats(self) -> NDArray[np.float32]:
        """Decode a list of float32."""
        return self._numbers("float", _FIXED32, _unpacked_floats, _decode_floats, "float32")

    def integers(self) -> NDArray[np.integer]:
        """Decode a list of int64; of the smallest type that `decode_varints` found."""
        return self._numbers("int64", _VARINT, _unpacked_varints, decode_varints, "uint8")


def _feature(data: memoryview) -> Feature:
    kind, parts = "empty", []
    for number, wire, content in _fields(data):
        if number in _KINDS:
            if wire != _BYTES:
                raise _damage("a list is no message")
            if _KINDS[number] != kind:  # of a oneof the last member counts; parts of one member are merged
                kind, parts = _KINDS[number], []
            parts.append(content)
    return Feature(kind, tuple(parts))


def parse_example(payload: bytes) -> dict[str, Feature]:
    """Find the features of an Example by name; of a name that occurs twice the last counts, as in protobuf.

    The result refers to `payload`.
    """
    found: dict[str, Feature] = {}
    for features in _messages(memoryview(payload), 1):
        for entry in _messages(features, 1):
            name, feature = b"", Feature("empty")
            for number, wire, content in _fields(entry):
                if number in (1, 2) and wire != _BYTES:
                    raise _damage("an entry of the features is damaged")
                if number == 1:
                    name = bytes(content)
                elif number == 2:
                    feature = _feature(content)
            try:
                found[name.decode("utf-8")] = feature
            except UnicodeDecodeError as error:
                raise FormatError(_WHO, "a feature's name is no UTF-8", got=name[:40]) from error
    return found
