"""Chunks of images straight from and to their files.

Zarr's own way through an event loop and threads costs some milliseconds a chunk, which is more than decoding it. A chunk that
is one file of numbers through Blosc, as this package writes them, goes straight here; any other goes through Zarr.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import zarr
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec

from smnb.contract import FormatError


class ChunkFiles:
    """Chunks of an array that are divided along its first dimension only, as images are.

    Parameters
    ----------
    folder : Path
        The array's folder.
    array : zarr.Array
    """

    def __init__(self, folder: Path, array: zarr.Array) -> None:
        self.folder, self.array, self.rows = folder, array, array.chunks[0]
        codecs = array.metadata.codecs
        self.is_plain = (
            len(codecs) == 2
            and isinstance(codecs[0], BytesCodec)
            and isinstance(codecs[1], BloscCodec)
            and array.dtype.itemsize > 1
            and getattr(codecs[0].endian, "value", "") == "little"
        )

    def _path(self, number: int) -> Path:
        return self.folder / self.array.metadata.encode_chunk_key((number, *(0,) * (self.array.ndim - 1)))

    def read(self, number: int) -> NDArray[np.float16]:
        """Images of a chunk, (row, band, y, x).

        Raises
        ------
        FormatError
            If the chunk is damaged.
        """
        try:
            if not self.is_plain:
                return self.array[number * self.rows : (number + 1) * self.rows]
            try:
                content = self._path(number).read_bytes()
            except FileNotFoundError:  # a chunk without any value is not written
                return np.full(self.array.chunks, self.array.fill_value, self.array.dtype)
            values = np.frombuffer(blosc.decompress(content), self.array.dtype.newbyteorder("<"))
            return values.reshape(self.array.chunks)
        except (RuntimeError, ValueError) as error:
            raise FormatError(
                f"SampleStore ({self.folder.parent.parent.name})",
                f"chunk {number} of {self.folder.parent.name} is damaged: {error}",
                next_step="Copy the store again, or run its build again",
            ) from error

    def write(self, number: int, images: NDArray[np.floating]) -> None:
        """Write a chunk whole; rows that it has beyond the images become NaN, and a chunk of nothing else is left out."""
        if not self.is_plain:
            start = number * self.rows
            self.array[start : start + len(images)] = images
            return
        path = self._path(number)
        values = np.full(self.array.chunks, np.nan, self.array.dtype.newbyteorder("<"))
        values[: len(images)] = images
        if np.isnan(values).all():
            path.unlink(missing_ok=True)
            return
        codec = self.array.metadata.codecs[1]
        shuffle = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[codec.shuffle.value]
        content = blosc.compress(values, codec.cname.value.encode(), codec.clevel, shuffle, codec.blocksize)
        path.parent.mkdir(parents=True, exist_ok=True)
        # as Zarr does it: beside and renamed, so that a kill leaves no half of a chunk
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.partial")
        temporary.write_bytes(content)
        temporary.replace(path)
