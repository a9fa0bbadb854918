"""The sample store: images of many sources around in-situ sensors, paired with readings, in one chunked Zarr folder.

One schema serves the match-up builder and the released records. A store ``name.zarr`` is a Zarr v3 group:

- ``label`` (sample) float32, m3 m-3; ``time`` (sample) int64, ns since 1970 UTC; ``sensor`` (sample) int32, the row of the
  sensor table ``sensors.parquet`` beside the arrays (ids, place, strata, one column ``split_<name>`` a split);
- a group a source with ``values``: (sample, band, y, x) float16 for images that change, (sensor, band, y, x) float16 for static
  ones, (sample, band) float32 for coarse products; ``time`` and ``scene`` of the image met. Values are normalised
  (`smnb.papers.batchu2023.Source`): images to [0, 1], the paper's coarse products to m3 m-3; missing is NaN;
- where many samples see one image, a source keeps each image once and has ``image`` (sample or sensor) int32: its row in
  ``values``, -1 where there is none;
- attributes: schema, anchor, crop, resolutions, sources, scenes, counts, splits, fingerprint.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numcodecs import blosc
from numpy.typing import ArrayLike, NDArray
from zarr.codecs import BloscCodec, BytesCodec

from smnb.contract import FormatError, ParameterError, RunError, plain
from smnb.papers.batchu2023.sources import Source

SCHEMA = "samples-2"
SENSORS_FILE = "sensors.parquet"
#: A missing time, as int64.
NAT = int(np.iinfo(np.int64).min)
#: Bytes of a chunk before compression, and most images in one; an image is never divided.
CHUNK_BYTES, MOST_ROWS = 1 << 20, 16
_COLUMN_ROWS = 1 << 16


def image_side(who: str, kind: str, crop: int, resolution: float, low_resolution: float) -> int:
    """Pixels on a side of the images of a kind: the low ones cover the same ground, and a coarse source has 0."""
    if kind != "low":
        return crop if kind == "high" else 0
    side = crop * resolution / low_resolution
    if side != int(side) or side < 1:
        what = f"a crop of {crop} pixels of {resolution:g} m is no whole number of {low_resolution:g} m pixels"
        raise ParameterError(who, what, got=crop, expected=plain(f"a multiple of {low_resolution / resolution:g}"))
    return int(side)


def chunk_rows(n_bands: int, side: int) -> int:
    """Images in a chunk: as many as `CHUNK_BYTES` holds, from 1 to 16."""
    return int(np.clip(CHUNK_BYTES // (2 * n_bands * side * side), 1, MOST_ROWS))


def create_array(group: zarr.Group, name: str, shape: Sequence[int], dtype: Any, dims: Sequence[str]) -> zarr.Array:
    """Make an empty array of a store, replacing one of that name; four dimensions are images."""
    rows = chunk_rows(shape[1], shape[2]) if len(shape) == 4 else _COLUMN_ROWS
    return group.create_array(
        name,
        shape=tuple(shape),
        chunks=(rows, *shape[1:]),
        dtype=dtype,
        fill_value=float("nan") if np.dtype(dtype).kind == "f" else 0,
        # normalised images as float16 are mostly noise in the low bits: lz4 after a bit shuffle leaves 5 % more than zstd
        # does and is read and written four times as fast
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        dimension_names=tuple(dims),
        overwrite=True,
    )


def create_values(group: zarr.Group, source: Source, rows: int, side: int) -> zarr.Array:
    """Make the array ``values`` of a source's group, empty (NaN)."""
    owner = "sensor" if source.static else "sample"
    if source.kind == "coarse":
        return create_array(group, "values", (rows, len(source.bands)), "float32", (owner, "band"))
    shape = (rows, len(source.bands), side, side)
    return create_array(group, "values", shape, "float16", (owner, "band", "y", "x"))


def write_column(group: zarr.Group, name: str, values: np.ndarray, dim: str = "sample") -> None:
    """Write a vector, or values by band, as an array of a group, replacing one of that name."""
    create_array(group, name, values.shape, values.dtype, (dim, "band")[: values.ndim])[:] = values


class SampleStore:
    """A finished sample store, read only: a folder ``name.zarr``.

    ``sensors`` has one row a sensor (ids, place, strata, ``split_<name>``), ``sources`` the `Source` by name, ``attrs`` the
    rest; ``crop`` is the side of the fine images, ``resolution`` and ``low_resolution`` are metres a pixel. A `FormatError`
    where there is no store, or it is damaged or of another schema; a `RunError` where it was never finished.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        who = f"SampleStore ({self.path.name})"
        if not self.path.is_dir():
            raise FormatError(who, "there is no such store", got=str(path), next_step="Build it with: smnb matchup")
        try:
            self._root = zarr.open_group(self.path, mode="r", zarr_format=3)
            self.attrs: dict[str, Any] = self._root.attrs.asdict()
        except (FileNotFoundError, zarr.errors.BaseZarrError, ValueError, KeyError) as error:
            raise FormatError(who, f"the folder is no Zarr store: {error}", got=str(path)) from error
        if self.attrs.get("smnb_schema") != SCHEMA:
            other = {"got": self.attrs.get("smnb_schema"), "expected": SCHEMA}
            raise FormatError(who, "the store has another schema", **other, next_step="Build it again")
        if not self.attrs.get("complete"):
            raise RunError(who, "the store was never finished", got=str(path), next_step="Run its build again")
        self._arrays: dict[str, Any] = {}
        try:
            self.sources = {name: Source(**one) for name, one in self.attrs["sources"].items()}
            self.crop = int(self.attrs["crop"])
            self.resolution, self.low_resolution = (float(self.attrs[f"{n}resolution_m"]) for n in ("", "low_"))
            self.sensors = pd.read_parquet(self.path / SENSORS_FILE)
            self._label, self._time, self._sensor = (np.asarray(self._root[n][:]) for n in ("label", "time", "sensor"))
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            step = "Copy it again, or run its build again"
            raise FormatError(who, f"the store is damaged: {error}", next_step=step) from error

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # workers open the store themselves

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])

    def __len__(self) -> int:
        return self._label.size

    def __repr__(self) -> str:
        return f"<SampleStore {self.path.name}: {len(self)} samples, {len(self.sensors)} sensors, {', '.join(self.sources)}>"

    @property
    def synthetic(self) -> bool:
        """Whether any of the data were simulated."""
        return bool(self.attrs.get("synthetic", False))

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row a sample: ``sensor_id``, ``time`` (UTC), ``soil_moisture`` (m3 m-3), and ``split_<name>``."""
        splits = [name for name in self.sensors.columns if str(name).startswith("split_")]
        table = self.sensors[["sensor_id", *splits]].iloc[self._sensor].reset_index(drop=True)
        table.insert(1, "time", self._time.view("datetime64[ns]"))
        table.insert(2, "soil_moisture", self._label)
        return table

    def labels(self) -> NDArray[np.float32]:
        """Soil moisture of each sample, m3 m-3."""
        return self._label.copy()

    def sensor_rows(self) -> NDArray[np.int32]:
        """Row of `sensors` of each sample."""
        return self._sensor.copy()

    def _source(self, source: str) -> Source:
        if source not in self.sources:
            who, known = f"SampleStore ({self.path.name})", list(self.sources)
            raise ParameterError(who, "there is no such source", got=source, expected=known)
        return self.sources[source]

    def _array(self, source: str, name: str) -> Any:
        """An array of a source, None where it has none; vectors are kept in memory."""
        key = f"{source}/{name}"
        if key not in self._arrays:
            array = self._root.get(key)
            keep = array is not None and (name != "values" or self.sources[source].kind == "coarse")
            self._arrays[key] = np.asarray(array[:]) if keep else array
        return self._arrays[key]

    def _positions(self, positions: ArrayLike | slice | None) -> NDArray[np.int64]:
        if positions is None or isinstance(positions, slice):
            return np.arange(len(self))[positions or slice(None)]
        array = np.atleast_1d(np.asarray(positions))
        if array.dtype == bool and array.shape == (len(self),):
            return np.flatnonzero(array)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
            got = f"{array.dtype}, {array.ndim}-d"
            raise ParameterError("SampleStore.read", "'positions' are no whole numbers", got=got)
        array = array.astype(np.int64)
        if array.size and not (-len(self) <= array.min() and array.max() < len(self)):
            got, expected = (int(array.min()), int(array.max())), plain(f"0 to {len(self) - 1}")
            raise ParameterError("SampleStore.read", "a position is outside the store", got=got, expected=expected)
        return np.where(array < 0, array + len(self), array)

    def image_rows(self, source: str, positions: ArrayLike | slice | None = None) -> NDArray[np.int64]:
        """Row of a source's ``values`` that each sample sees, -1 where it sees none."""
        one, at = self._source(source), self._positions(positions)
        owner = self._sensor[at].astype(np.int64) if one.static else at
        image = self._array(source, "image")
        return owner if image is None else image[owner].astype(np.int64)

    def side(self, source: str) -> int:
        """Pixels on a side of a source's images (0 for a coarse product)."""
        return image_side("SampleStore", self._source(source).kind, self.crop, self.resolution, self.low_resolution)

    def read(
        self,
        source: str,
        positions: ArrayLike | slice | None = None,
        bands: Sequence[str] | None = None,
        crop: int | None = None,
        dtype: Any = np.float32,
    ) -> NDArray[np.floating]:
        """Read images, or values at the point, of samples in any order (a slice, a mask, numbers; default all), normalised.

        ``(n, band, y, x)``, or ``(n, band)`` of a coarse product; NaN is missing. `bands` come in the order wanted, `crop` is
        the side of a centred square, pixels of this source. Each chunk is read once a call: ask for a batch at a time. With
        the `dtype` that images are stored as, float16, they are read in half the time.
        """
        one, rows = self._source(source), self.image_rows(source, positions)
        names = one.bands if bands is None else (bands,) if isinstance(bands, str) else tuple(bands)
        if unknown := [name for name in names if name not in one.bands]:
            raise ParameterError("SampleStore.read", f"{source!r} has no band {unknown}", expected=list(one.bands))
        number = [one.bands.index(name) for name in names]
        if one.kind == "coarse":
            if crop is not None:
                raise ParameterError("SampleStore.read", f"{source!r} is one value and has no crop", got=crop)
            values = self._array(source, "values")
            return np.where(rows[:, None] >= 0, values[np.maximum(rows, 0)], np.float32("nan"))[:, number]
        span, chunk, last = self._span(source, crop), self._array(source, "values").chunks[0], -1
        result = np.full((rows.size, len(number), span.stop - span.start, span.stop - span.start), np.nan, dtype)
        order = np.argsort(rows, kind="stable")
        for i in order[rows[order] >= 0]:
            if rows[i] // chunk != last:
                last = rows[i] // chunk
                images = self._chunk(source, int(last))
            image = images[rows[i] % chunk]
            result[i] = (image if names == one.bands else image[number])[:, span, span]
        return result

    def _chunk(self, source: str, number: int) -> NDArray[np.float16]:
        """Images of a chunk, (row, band, y, x).

        A chunk that is one file of little-endian numbers through Blosc, as `create_array` makes them, is decoded here; any
        other goes through Zarr, whose event loop costs more than the decoding: 32 crops of 64 pixels take 6.4 ms here and 11
        to 27 ms there.
        """
        array = self._array(source, "values")
        codecs = array.metadata.codecs
        try:
            known = [type(one) for one in codecs] == [BytesCodec, BloscCodec]
            if not known or getattr(codecs[0].endian, "value", "") != "little":
                return array[number * array.chunks[0] : (number + 1) * array.chunks[0]]
            path = self.path / source / "values" / array.metadata.encode_chunk_key((number, 0, 0, 0))
            if not path.exists():  # a chunk without any value is not written
                return np.full(array.chunks, array.fill_value, array.dtype)
            return np.frombuffer(blosc.decompress(path.read_bytes()), array.dtype).reshape(array.chunks)
        except (RuntimeError, ValueError) as error:
            who, step = f"SampleStore ({self.path.name})", "Copy the store again, or run its build again"
            raise FormatError(who, f"chunk {number} of {source} is damaged: {error}", next_step=step) from error

    def _span(self, source: str, crop: int | None) -> slice:
        side = self.side(source)
        size = side if crop is None else crop
        if not isinstance(size, int | np.integer) or not 0 < size <= side or (side - size) % 2:
            what, expected = f"'crop' is no centred square of {source!r}", plain(f"{side}, {side - 2}, … pixels")
            raise ParameterError("SampleStore.read", what, got=crop, expected=expected)
        return slice((side - size) // 2, (side + size) // 2)

    def image_times(self, source: str, positions: ArrayLike | slice | None = None) -> NDArray[np.datetime64]:
        """Time of the image that each sample sees, UTC; NaT for static or missing ones."""
        one, at = self._source(source), self._positions(positions)
        times = self._array(source, "time")
        if one.static or times is None:
            return np.full(at.size, np.datetime64("NaT", "ns"))
        return times[at].view("datetime64[ns]")

    def scene_ids(self, source: str, positions: ArrayLike | slice | None = None) -> NDArray[np.object_]:
        """Scene that each sample's image was cut from, "" where it is missing or not known."""
        one, at = self._source(source), self._positions(positions)
        scene = self._array(source, "scene")
        names = np.array([*self.attrs.get("scenes", {}).get(source, []), ""], dtype=object)
        if scene is None:
            return np.full(at.size, "", dtype=object)
        return names[scene[self._sensor[at] if one.static else at]]
