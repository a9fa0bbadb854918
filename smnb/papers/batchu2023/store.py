"""The sample store: images of many sources around in-situ sensors, paired with readings, in one chunked Zarr folder.

A store ``name.zarr`` is a Zarr v3 group with ``label`` (sample) float32, m3 m-3; ``time`` (sample) int64, ns since 1970 UTC;
``sensor`` (sample) int32, the row of the sensor table ``sensors.parquet`` beside the arrays (ids, place, strata, one column
``split_<name>`` a split); and a group a source:

- ``values``: (sample, band, y, x) float16 of images that change, (sensor, band, y, x) float16 of static ones, (sample, band)
  float32 of coarse products; normalised (`smnb.papers.batchu2023.Source`), missing is NaN;
- ``image`` (sample or sensor) int32, where each image is kept once: its row in ``values``, -1 where there is none;
- ``time`` and ``scene`` of the image met.

Attributes: schema, anchor, crop, resolutions, sources, scenes, counts, splits, fingerprint.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pandas as pd
import zarr
from numcodecs import blosc
from numpy.typing import ArrayLike, NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

from smnb.contract import ContractError, FormatError, ParameterError, RunError, check_table, foreign, plain
from smnb.files import atomic_path, give_name, plain_json, write_json
from smnb.loaders import read_table, write_parquet
from smnb.papers.batchu2023 import sources as layout
from smnb.papers.batchu2023.sources import Source, by_name

_SCHEMA, _WHO = "samples-2", "SampleStoreWriter"
NAT = int(np.iinfo(np.int64).min)  # a missing time, as int64
_COLUMN_ROWS = 1 << 16
_CODECS, _SOUND = [BytesCodec, BloscCodec, Crc32cCodec], 0x48674BC7  # the CRC-32C of what ends with its own


class SampleStore:
    """A finished sample store, read only: a folder ``name.zarr``.

    ``sensors`` has one row a sensor (ids, place, strata, ``split_<name>``), ``sources`` the `Source` by name, ``attrs`` the
    rest; ``crop`` is the side of the fine images, ``resolution`` and ``low_resolution`` are metres a pixel. A `FormatError`
    where there is no store, or it is damaged or of another schema; a `RunError` where it was never finished.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._who = who = f"SampleStore ({self.path.name})"
        if not self.path.is_dir():
            raise FormatError(who, "there is no such store", got=str(path), next_step="Build it with: smnb matchup")
        with foreign(who, f"{path} is no Zarr store"):
            if not (self.path / "zarr.json").is_file():
                raise FormatError(who, "the folder is no Zarr store", got=str(path))
            self._root = zarr.open_group(self.path, mode="r", zarr_format=3)
            self.attrs: dict[str, Any] = self._root.attrs.asdict()
        if self.attrs.get("smnb_schema") != _SCHEMA:
            other = {"got": self.attrs.get("smnb_schema"), "expected": _SCHEMA}
            raise FormatError(who, "the store has another schema", **other, next_step="Build it again")
        if not self.attrs.get("complete"):
            raise RunError(who, "the store was never finished", got=str(path), next_step="Run its build again")
        self._arrays: dict[str, Any] = {}
        with self._door("the store is damaged"):
            if layout.MARK in self.attrs and self.attrs[layout.MARK] != layout.store_mark(self.path, self.attrs):
                raise FormatError(who, "the store is damaged: a file of it is lost or changed", got=str(path))
            self.sources = {name: Source(**one) for name, one in self.attrs["sources"].items()}
            self.crop = int(self.attrs["crop"])
            self.resolution, self.low_resolution = (float(self.attrs[f"{n}resolution_m"]) for n in ("", "low_"))
            self.sensors = read_table(self.path / layout.SENSORS_FILE)
            self._label, self._time, self._sensor = (np.asarray(self._root[n][:]) for n in ("label", "time", "sensor"))
            layout.check_rows(who, "sensor", self._sensor, 0, len(self.sensors))

    def _door(self, what: str) -> contextlib.AbstractContextManager[None]:
        return foreign(self._who, what, next_step="Copy the store again, or run its build again")

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return SampleStore, (self.path,)  # workers open the store themselves

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
            raise ParameterError(self._who, "there is no such source", got=source, expected=list(self.sources))
        return self.sources[source]

    def _array(self, source: str, name: str) -> Any:
        """An array of a source, None where it has none; vectors are kept in memory."""
        key = f"{source}/{name}"
        if key not in self._arrays:
            array = self._root.get(key)
            keep = array is not None and (name != "values" or self.sources[source].kind == "coarse")
            with self._door(f"array {key!r} is damaged"):
                self._arrays[key] = np.asarray(array[:]) if keep else array
            if array is not None and name in ("image", "scene"):
                scenes = self.attrs["scenes"].get(source, [])
                count = len(scenes) if name == "scene" else self._array(source, "values").shape[0]
                layout.check_rows(self._who, key, self._arrays[key], -1, count)
        return self._arrays[key]

    def _positions(self, positions: ArrayLike | slice | None) -> NDArray[np.int64]:
        every = np.arange(len(self))
        if positions is None or isinstance(positions, slice):
            return every[positions or slice(None)]
        array = np.atleast_1d(np.asarray(positions))
        if array.ndim != 1 or (array.dtype.kind not in "iub" and array.size):
            raise ParameterError("SampleStore.read", "'positions' are no whole numbers", got=positions)
        try:
            return every[array if array.size else []]
        except IndexError as error:
            what, expected = f"a position is outside the store: {error}", plain(f"0 to {len(self) - 1}")
            raise ParameterError("SampleStore.read", what, expected=expected) from error

    def image_rows(self, source: str, positions: ArrayLike | slice | None = None) -> NDArray[np.int64]:
        """Row of a source's ``values`` that each sample sees, -1 where it sees none."""
        one, at = self._source(source), self._positions(positions)
        owner = self._sensor[at].astype(np.int64) if one.static else at
        image = self._array(source, "image")
        return owner if image is None else image[owner].astype(np.int64)

    def side(self, source: str) -> int:
        """Pixels on a side of a source's images (0 for a coarse product)."""
        return self._source(source).side(self.crop, self.resolution, self.low_resolution)

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
        side = self.side(source)
        size = side if crop is None else crop
        if not isinstance(size, int | np.integer) or not 0 < size <= side or (side - size) % 2:
            what, expected = f"'crop' is no centred square of {source!r}", plain(f"{side}, {side - 2}, … pixels")
            raise ParameterError("SampleStore.read", what, got=crop, expected=expected)
        span = slice((side - size) // 2, (side + size) // 2)
        chunk, last = self._array(source, "values").chunks[0], -1
        result = np.full((rows.size, len(number), size, size), np.nan, dtype)
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

        What a writer makes, little-endian numbers through Blosc with a CRC-32C, is decoded here; any other goes through Zarr,
        whose event loop costs more than the decoding: 32 crops of 64 pixels take 6.4 ms here and 11 to 27 ms there.
        """
        array = self._array(source, "values")
        codecs = array.metadata.codecs
        with self._door(f"chunk {number} of {source} is damaged"):
            known = [type(one) for one in codecs] in (_CODECS, _CODECS[:2])
            if not known or getattr(codecs[0].endian, "value", "") != "little":
                return array[number * array.chunks[0] : (number + 1) * array.chunks[0]]
            path = self.path / source / "values" / array.metadata.encode_chunk_key((number, 0, 0, 0))
            if not path.exists():  # a chunk without any value is not written
                return np.full(array.chunks, array.fill_value, array.dtype)
            content = path.read_bytes()
            if len(codecs) > 2 and google_crc32c.value(content) != _SOUND:
                raise ValueError("it has another CRC-32C than it states")
            return np.frombuffer(blosc.decompress(content), array.dtype).reshape(array.chunks)

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
        names = np.array([*self.attrs["scenes"].get(source, []), ""], dtype=object)
        return names[self._array(source, "scene")[self._sensor[at] if one.static else at]]


class SampleStoreWriter:
    """Write a store, samples one after another or all at once; it gets its name, ``name.zarr``, when it is finished.

    Until then it is in `folder`, hidden beside `path`, which survives a kill. A writer with the same `plan` (JSON; default its
    attributes) goes on there unless `resume` is False: `written` says how many samples are safe, and `note` what the last
    `write` noted. Another plan is refused. `sources` are own ones or names of the paper's; sizes are pixels and m.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sources: Iterable[Source | str],
        crop: int,
        resolution: float = 10.0,
        low_resolution: float = 160.0,
        plan: Mapping[str, Any] | None = None,
        resume: bool = True,
        overwrite: bool = False,
        **attrs: Any,
    ) -> None:
        self.path, self.sources = Path(path), by_name(_WHO, sources)
        if self.path.suffix != ".zarr":
            raise ParameterError(_WHO, "a sample store's name ends with .zarr", got=self.path.name)
        if self.path.exists() and not overwrite:
            step = "Choose another name, or overwrite it"
            raise ParameterError(_WHO, "the store is there", got=str(path), next_step=step)
        sizes = {"crop": crop, "resolution": float(resolution), "low_resolution": float(low_resolution)}
        self.side = {name: one.side(**sizes) for name, one in self.sources.items()}
        known = {"smnb_schema": _SCHEMA, "sources": {name: one.as_dict() for name, one in self.sources.items()}}
        known |= {name if name == "crop" else f"{name}_m": size for name, size in sizes.items()}
        self.attrs = {"anchor": "sentinel1", "synthetic": False, **attrs, **known}
        self.folder = self.path.parent / f".{self.path.name}.partial"
        self._record, wanted = self.folder / "progress.json", json.loads(json.dumps(plan or self.attrs))
        self._root, state = layout.open_unfinished(_WHO, self._record) if resume else (None, {})
        if self._root is None:
            state = {"plan": wanted, "written": 0, "note": None, "scenes": {}}
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        found = self._plan = state["plan"]
        if changed := sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key)):
            got, step = plain(f"other {', '.join(changed)}"), "Choose another name, or start anew with --no-resume"
            raise RunError(_WHO, f"{self.folder} holds part of another store", got=got, next_step=step)
        self.written, self.note, self._scenes = (state[key] for key in ("written", "note", "scenes"))
        if self._root is None:
            self._root = zarr.open_group(self.folder / "store.zarr", mode="w", zarr_format=3)
            self._create()
            self._remember()

    def _create(self) -> None:
        for name, dtype in (("label", "float32"), ("time", "int64"), ("sensor", "int32")):
            self._array(name, dtype, "sample")
        for name, source in self.sources.items():
            owner, side = "sensor" if source.static else "sample", self.side[name]
            shape, dims = ((side, side), ("y", "x")) if side else ((), ())
            dtype = "float16" if side else "float32"
            self._array(f"{name}/values", dtype, owner, "band", *dims, shape=(len(source.bands), *shape))
            self._array(f"{name}/scene", "int32", owner)
            if not source.static:
                self._array(f"{name}/time", "int64", owner)

    def _array(self, key: str, dtype: str, *dims: str, shape: tuple[int, ...] = ()) -> None:
        """Make an array without rows, each of `shape`."""
        sizes = {"shape": (0, *shape), "dtype": dtype, "dimension_names": dims}
        sizes["chunks"] = (layout.chunk_rows(*shape[:2]) if len(shape) == 3 else _COLUMN_ROWS, *shape)
        fill = {"int64": NAT, "int32": -1}.get(dtype, float("nan"))
        # float16 images are mostly noise in the low bits: lz4 after a bit shuffle leaves 5 % more than zstd, 4 times as fast
        codecs = [BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()]
        self._root.create_array(key, **sizes, fill_value=fill, compressors=codecs)

    def _remember(self) -> None:
        state = {"plan": self._plan, "written": self.written, "note": self.note, "scenes": self._scenes}
        write_json(self._record, state)

    @property
    def chunk(self) -> int:
        """Samples to write at a time (or a multiple), so that no chunk is written twice."""
        images = [(len(s.bands), self.side[n]) for n, s in self.sources.items() if self.side[n] and not s.static]
        return int(np.lcm.reduce([layout.chunk_rows(*one) for one in images])) if images else _COLUMN_ROWS

    def reserve(self, source: str, rows: int) -> Path:
        """Make room for `rows` images of a source, which others then write into the array that is returned."""
        array = self._root[f"{source}/values"]
        array.resize((rows, *array.shape[1:]))
        return self.folder / "store.zarr" / source / "values"

    def write(self, start: int, columns: Mapping[str, ArrayLike], *, note: Any = None) -> None:
        """Write samples from number `start` on, at most `written`; `note` (JSON) is kept, such as the place in the input.

        Columns are ``label``, m3 m-3; ``time``, UTC; ``sensor``, rows of the sensor table; of each source ``<source>/values``,
        (n, band, y, x) or (n, band), NaN where missing, or ``<source>/image``, rows of images that are there, -1 where missing;
        and where they are known ``<source>/time`` and ``<source>/scene``, ids, "" where missing. Those of static sources are
        written by themselves, by the row of the sensor.
        """
        static = {f"{name}/values" for name, one in self.sources.items() if one.static}
        needed = {"label", "time", "sensor", *(f"{name}/values" for name in self.sources)} - static
        given = {key.replace("/image", "/values") for key in columns if not key.endswith(("/time", "/scene"))}
        if given != needed and not (given and given <= static):
            expected = plain(f"{sorted(needed)}, or of {sorted(static)}")
            raise ContractError(_WHO, "a chunk has other columns or sources", got=sorted(columns), expected=expected)
        if given == needed and not 0 <= start <= self.written:
            raise ContractError(_WHO, "samples are left out", got=start, expected=plain(f"at most {self.written}"))
        n = len(next(iter(columns.values())))
        for key, column in columns.items():
            name, _, kind = key.rpartition("/")
            if kind == "time":
                utc = pd.DatetimeIndex(pd.to_datetime(np.asarray(column), utc=True)).tz_localize(None)
                column = utc.to_numpy("M8[ns]").view("i8")
            elif kind == "scene":
                known = {one: number for number, one in enumerate(self._scenes.get(name, ()))}
                column = [known.setdefault(str(one), len(known)) if one else -1 for one in column]
                self._scenes[name] = list(known)
            elif kind == "image" and key not in self._root:
                self._array(key, "int32", "sensor" if self.sources[name].static else "sample")
            values, array = np.asarray(column), self._root[key]
            if values.shape != (n, *array.shape[1:]):
                what = f"{key!r} has another shape"
                raise ContractError(_WHO, what, got=values.shape, expected=(n, *array.shape[1:]))
            if array.shape[0] < start + n:
                array.resize((start + n, *array.shape[1:]))
            array[start : start + n] = values.astype(array.dtype, copy=False)
        if given == needed:
            self.written, self.note = max(self.written, start + n), note
        self._remember()

    def finish(self, sensors: pd.DataFrame, **attrs: Any) -> SampleStore:
        """Check the store, give it its name and open it; what had the name before goes.

        `sensors` has one row a sensor, unique ``sensor_id``; `attrs` such as ``counts``, what was read and dropped, are JSON.
        """
        if self.written == 0:
            raise ContractError(_WHO, "there is no sample", got=0, expected=plain("one or more"))
        check_table(_WHO, sensors, ["sensor_id"], unique="sensor_id")
        arrays = {key: one for key, one in self._root.members(max_depth=None) if isinstance(one, zarr.Array)}
        for key, array in arrays.items():
            if key.endswith("/values") and f"{key[:-6]}image" in self._root:
                continue
            static = array.metadata.dimension_names[0] == "sensor"
            rows = len(sensors) if static else self.written
            if static and array.shape[0] != rows and not key.endswith("/scene"):
                what = f"the static source {key.split('/')[0]!r} has no image for each sensor"
                raise ContractError(_WHO, what, got=array.shape[0], expected=rows)
            if array.shape[0] != rows:  # what a kill left beyond the samples that are safe; times and scenes not known
                array.resize((rows, *array.shape[1:]))
        sensor = np.asarray(self._root["sensor"][:])
        if sensor.min() < 0 or sensor.max() >= len(sensors):
            got, expected = (int(sensor.min()), int(sensor.max())), plain(f"rows 0 to {len(sensors) - 1}")
            raise ContractError(_WHO, "a sample names a sensor that the table lacks", got=got, expected=expected)
        store = self.folder / "store.zarr"
        with atomic_path(store / layout.SENSORS_FILE) as temporary:
            write_parquet(temporary, sensors)
        for leftover in store.rglob("*.partial*"):  # of what was being written when a build was killed
            leftover.unlink()
        scenes = {name: ids for name, ids in self._scenes.items() if ids}
        attrs = plain_json({"counts": {}, **self.attrs, **attrs, "scenes": scenes, "complete": True})
        attrs["arrays"] = {key: arrays[key].ndim for key in sorted(arrays)}
        self._root.attrs.put(attrs | {layout.MARK: layout.store_mark(store, attrs)})
        if self.path.is_dir():  # a folder cannot be replaced in one step
            self.path.replace(self.folder / "replaced")
        give_name(store, self.path)
        shutil.rmtree(self.folder)
        return SampleStore(self.path)
