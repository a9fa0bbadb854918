"""A rectangle of an HDF5 field, also where the whole field is one compressed chunk, as in SMAP's granules.

HDF5 inflates whole chunks under a global lock: of a 9 km field in one chunk, 25 MB for any region. Here such a chunk is
inflated piecewise and only the rectangle is kept, so that memory is the compressed chunk and the rectangle, and fields
inflate in parallel. It is inflated to its end, since the checksum that finds damage is there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

__all__: list[str] = []

#: Fields below this size are left to HDF5, bytes.
_SMALL = 4_000_000
#: Compressed and inflated bytes handled at once.
_STEP_IN, _STEP_OUT = 16_384, 262_144


def read_rectangle(source: h5py.Dataset, rows: slice, cols: slice) -> NDArray:
    """Rows and columns of a field; of a third axis, the first.

    Parameters
    ----------
    source : h5py.Dataset
        ``(rows, columns)`` or ``(rows, columns, layers)``.
    rows, cols : slice
        With start and stop, step 1.

    Returns
    -------
    numpy.ndarray
        ``(rows, columns)``, in the field's type.

    Raises
    ------
    OSError
        If the field is damaged.
    """
    first = (0,) * (source.ndim - 2)
    if not _is_one_deflated_chunk(source):
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
        kept = piece[max(begin - position, 0) : max(end - position, 0)]
        position += len(piece)
        pending += kept
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
            while len(data):
                piece = inflate.decompress(data, _STEP_OUT)
                data = inflate.unconsumed_tail
                length += len(piece)
                yield piece
        # what the stream still holds back when all input is in
        while piece := inflate.decompress(b"", _STEP_OUT):
            length += len(piece)
            yield piece
    except zlib.error as error:
        raise OSError(f"a compressed field is damaged: {error}") from error
    if not inflate.eof or length != expected:
        raise OSError(f"a compressed field ends early: {length} of {expected} bytes")
