"""TFRecord framing: records of a shard, plain or gzip, one after another, with both checksums verified.

A record is its length (uint64, little endian), the masked CRC-32C of those 8 bytes, the payload, and the payload's masked
CRC-32C. Gzip is decompressed as it is read; in memory there is one record and a piece of the file.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from smnb.contract import FormatError, plain

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_PIECE = 1 << 20
_MOST_AT_ONCE = 1 << 20
#: No protobuf message is larger; a greater length is damage.
_MOST_BYTES = (1 << 31) - 1
_GZIP_MAGIC = b"\x1f\x8b"


class RecordError(FormatError):
    """One record that is damaged; the records after it can be read."""


class ShardError(FormatError):
    """Damage after which nothing more of the shard can be read."""


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of `data`, masked as TFRecord has it: rotated right by 15 bits, plus 0xa282ead8."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


class _Plain:
    """Bytes of a file as they are, in pieces."""

    def __init__(self, stream, who: str) -> None:
        self._stream = stream

    def piece(self) -> bytes:
        """Return the next bytes, empty at the end."""
        return self._stream.read(_PIECE)


class _Gzip:
    """Bytes of a gzip file of any number of members, decompressed in pieces of at most 1 MiB."""

    def __init__(self, stream, who: str) -> None:
        self._stream, self._who = stream, who
        self._member = zlib.decompressobj(wbits=31)
        self._rest = b""
        self._ended = False

    def piece(self) -> bytes:
        """Return the next bytes, empty at the end of the last member.

        Raises
        ------
        ShardError
            If the file is cut short or its compressed data are damaged.
        """
        while True:
            data = self._member.unconsumed_tail or self._rest or self._stream.read(_PIECE)
            self._rest = b""
            if self._member.eof and data:
                data = data.lstrip(b"\0")  # padding between members
                if not data:
                    continue
                self._member = zlib.decompressobj(wbits=31)
            if not data:
                if not self._member.eof:
                    raise ShardError(self._who, "the gzip file is cut short", next_step="Download the shard again")
                return b""
            try:
                found = self._member.decompress(data, _MOST_AT_ONCE)
            except zlib.error as error:
                raise ShardError(
                    self._who, f"the gzip data are damaged: {error}", next_step="Download the shard again"
                ) from error
            if self._member.eof:
                self._rest = self._member.unused_data
            if found:
                return found


class _Buffer:
    """Exact numbers of bytes out of pieces."""

    def __init__(self, source: _Plain | _Gzip) -> None:
        self._source = source
        self._piece = memoryview(b"")

    def take(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end of the file."""
        if len(self._piece) >= size:
            found, self._piece = bytes(self._piece[:size]), self._piece[size:]
            return found
        parts, left = [self._piece], size - len(self._piece)
        self._piece = memoryview(b"")
        while left > 0:
            piece = memoryview(self._source.piece())
            if not len(piece):
                break
            parts.append(piece[:left])
            self._piece = piece[left:]
            left -= len(parts[-1])
        return b"".join(parts)


def read_records(path: str | os.PathLike[str], *, verify: bool = True) -> Iterator[tuple[int, bytes | RecordError]]:
    """Yield the records of a shard with their numbers.

    Parameters
    ----------
    path : path-like
        A TFRecord file; whether it is gzip is told by its first bytes.
    verify : bool
        Check the payloads' CRC-32C. The lengths' are always checked, since nothing can be read after a wrong length.

    Yields
    ------
    tuple of int and bytes
        Number of the record from 0, and its payload; in place of a payload that does not match its checksum, the error
        (`RecordError`, not raised), so that a caller can go on.

    Raises
    ------
    ShardError
        If the file is no TFRecord, is cut short, or a length is damaged. It names the shard and the record.
    """
    path = Path(path)
    with path.open("rb") as stream:
        magic = stream.read(2)
        stream.seek(0)
        buffer = _Buffer((_Gzip if magic == _GZIP_MAGIC else _Plain)(stream, path.name))
        number = 0
        while True:
            who = f"{path.name}, record {number}"
            try:
                header = buffer.take(_HEADER.size)
            except ShardError as error:
                raise _at(error, who) from error
            if not header:
                return
            if len(header) < _HEADER.size:
                raise _short(who, len(header), _HEADER.size)
            size, crc = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != crc or size > _MOST_BYTES:
                raise ShardError(
                    who,
                    "the length of the record does not match its checksum",
                    got=size,
                    next_step="Download the shard again; if that does not help, the file is no TFRecord",
                )
            try:
                payload, tail = buffer.take(size), buffer.take(_CRC.size)
            except ShardError as error:
                raise _at(error, who) from error
            if len(payload) < size or len(tail) < _CRC.size:
                raise _short(who, len(payload) + len(tail), size + _CRC.size)
            if verify and masked_crc32c(payload) != _CRC.unpack(tail)[0]:
                yield (
                    number,
                    RecordError(who, "the payload does not match its checksum", next_step="Download the shard again"),
                )
            else:
                yield number, payload
            number += 1


def _at(error: ShardError, who: str) -> ShardError:
    return ShardError(who, error.what, next_step=error.next_step)


def _short(who: str, got: int, expected: int) -> ShardError:
    return ShardError(
        who,
        "the file ends within the record",
        got=plain(f"{got} bytes"),
        expected=plain(f"{expected} bytes"),
        next_step="Download the shard again",
    )
