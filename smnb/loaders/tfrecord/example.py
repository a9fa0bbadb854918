"""tf.train.Example without TensorFlow: the protobuf wire format, decoded by NumPy where it is long.

``Example { Features features = 1 }``, ``Features { map<string, Feature> feature = 1 }``, and a ``Feature`` is one of
``BytesList = 1``, ``FloatList = 2`` and ``Int64List = 3``, each ``repeated value = 1``, packed or not. `parse_example` finds
where each feature's bytes are; values are decoded when they are asked for, so that a field that nobody reads costs nothing.

References
----------
Protocol Buffers, encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smnb.contract import FormatError, plain

#: What a feature holds, by its field number.
KINDS = {1: "bytes", 2: "float", 3: "int64"}
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
        number, wire = tag >> 3, tag & 7
        start = at
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
    """Decode varints that follow one another.

    Parameters
    ----------
    data : bytes-like
        Nothing but varints.

    Returns
    -------
    ndarray of uint8, uint16 or int64
        The smallest of these that the encoding needs; negative numbers (10 bytes each) come as int64.

    Raises
    ------
    FormatError
        If the last one is cut short, or one is longer than 10 bytes.

    Examples
    --------
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


@dataclass(frozen=True)
class Feature:
    """One feature of an Example, not decoded yet.

    Parameters
    ----------
    kind : {"bytes", "float", "int64", "empty"}
        What it holds; ``"empty"`` where no list is set.
    parts : tuple of memoryview
        The encoded lists; more than one only where an encoder divided them.
    """

    kind: str
    parts: tuple[memoryview, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Encoded size."""
        return sum(map(len, self.parts))

    def raw(self) -> bytes:
        """Return the encoded lists, to compare features without decoding them."""
        return b"".join(self.parts)

    def _check(self, kind: str) -> None:
        if self.kind != kind:
            raise FormatError(_WHO, "the feature holds another type", got=self.kind, expected=kind)

    def bytes_list(self) -> list[bytes]:
        """Decode a list of bytes."""
        self._check("bytes")
        return [bytes(one) for part in self.parts for one in _messages(part, 1)]

    def floats(self) -> NDArray[np.float32]:
        """Decode a list of float32."""
        self._check("float")
        lists = [_floats(part) for part in self.parts]
        return lists[0] if len(lists) == 1 else np.concatenate([np.empty(0, np.float32), *lists])

    def integers(self) -> NDArray[np.integer]:
        """Decode a list of int64; of the smallest type that `decode_varints` found."""
        self._check("int64")
        lists = [_integers(part) for part in self.parts]
        return lists[0] if len(lists) == 1 else np.concatenate([np.empty(0, np.uint8), *lists])


def _integers(data: memoryview) -> NDArray[np.integer]:
    if not len(data):
        return np.empty(0, np.uint8)
    if data[0] == 0x08:  # not packed: a tag before each value
        alternating = decode_varints(data)
        if alternating.size % 2 == 0 and (alternating[::2] == 0x08).all():
            return alternating[1::2]
    parts: list[NDArray[np.integer]] = []
    for number, wire, content in _fields(data):
        if number == 1:
            if wire not in (_BYTES, _VARINT):
                raise _damage(f"wire type {wire} in a list of integers")
            parts.append(decode_varints(content))
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.uint8), *parts])


def _floats(data: memoryview) -> NDArray[np.float32]:
    parts = [np.empty(0, np.float32)]
    if len(data) > 5 and data[0] == 0x0D and len(data) % 5 == 0:  # not packed
        pairs = np.frombuffer(data, dtype=[("tag", "u1"), ("value", "<f4")])
        if (pairs["tag"] == 0x0D).all():
            return pairs["value"].astype(np.float32)
    for number, wire, content in _fields(data):
        if number == 1:
            if wire not in (_BYTES, _FIXED32) or len(content) % 4:
                raise _damage("a list of floats of another size")
            parts.append(np.frombuffer(content, dtype="<f4").astype(np.float32))
    return parts[1] if len(parts) == 2 else np.concatenate(parts)


def _feature(data: memoryview) -> Feature:
    kind, parts = "empty", []
    for number, wire, content in _fields(data):
        if number in KINDS:
            if wire != _BYTES:
                raise _damage("a list is no message")
            if KINDS[number] != kind:  # of a oneof the last member counts; parts of one member are merged
                kind, parts = KINDS[number], []
            parts.append(content)
    return Feature(kind, tuple(parts))


def parse_example(payload: bytes) -> dict[str, Feature]:
    """Find the features of an Example.

    Parameters
    ----------
    payload : bytes
        The serialised message; the result refers to it.

    Returns
    -------
    dict of str to Feature
        By name; of a name that occurs twice the last counts, as in protobuf.

    Raises
    ------
    FormatError
        If the bytes are no such message.
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
                raise FormatError(
                    _WHO, "a feature's name is no UTF-8", got=name[:40], expected=plain("text")
                ) from error
    return found
