"""Reading a sample store: tables, and images of any samples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import ArrayLike, NDArray

from smnb.contract import FormatError, ParameterError, RunError, plain
from smnb.papers.batchu2023.store.chunks import ChunkFiles
from smnb.papers.batchu2023.store.layout import SCHEMA, SENSORS_FILE, StoredSource, image_side, stored_sources


class SampleStore:
    """A finished sample store, open for reading; nothing of the images is in memory.

    Parameters
    ----------
    path : path-like
        The folder ``name.zarr``.

    Attributes
    ----------
    path : Path
    attrs : dict
        The store's attributes.
    sources : dict of str to StoredSource
    crop : int
        Pixels on a side of the fine images.
    resolution, low_resolution : float
        Metres a pixel.
    sensors : DataFrame
        One row a sensor: ids, place, strata, sides of the splits (``split_<name>``).

    Raises
    ------
    FormatError
        If there is no store, or it is damaged or of another schema.
    RunError
        If it was never finished.
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
            raise FormatError(who, "the store has another schema", got=self.attrs.get("smnb_schema"), expected=SCHEMA)
        if not self.attrs.get("complete"):
            raise RunError(who, "the store was never finished", got=str(path), next_step="Run its build again")
        self.sources: dict[str, StoredSource] = stored_sources(who, self.attrs["sources"])
        self.crop = int(self.attrs["crop"])
        self.resolution, self.low_resolution = float(self.attrs["resolution_m"]), float(self.attrs["low_resolution_m"])
        self._arrays: dict[str, Any] = {}
        try:
            self.sensors = pd.read_parquet(self.path / SENSORS_FILE)
            self._label, self._time, self._sensor = (np.asarray(self._root[n][:]) for n in ("label", "time", "sensor"))
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise FormatError(
                who, f"the store is damaged: {error}", next_step="Copy it again, or run its build again"
            ) from error

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SampleStore:
        """As the constructor."""
        return cls(path)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # workers open the store themselves

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        return (
            f"<SampleStore {self.path.name}: {self.n} samples, {len(self.sensors)} sensors, {', '.join(self.sources)}>"
        )

    @property
    def n(self) -> int:
        """Samples."""
        return self._label.size

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

    def _source(self, source: str) -> StoredSource:
        if source not in self.sources:
            raise ParameterError(
                f"SampleStore ({self.path.name})", "there is no such source", got=source, expected=list(self.sources)
            )
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
        if positions is None:
            return np.arange(self.n)
        if isinstance(positions, slice):
            return np.arange(self.n)[positions]
        array = np.atleast_1d(np.asarray(positions))
        if array.dtype == bool and array.shape == (self.n,):
            return np.flatnonzero(array)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
            raise ParameterError(
                "SampleStore.read", "'positions' are no whole numbers", got=f"{array.dtype}, {array.ndim}-d"
            )
        array = array.astype(np.int64)
        if array.size and not (-self.n <= array.min() and array.max() < self.n):
            raise ParameterError(
                "SampleStore.read",
                "a position is outside the store",
                got=(int(array.min()), int(array.max())),
                expected=plain(f"0 to {self.n - 1}"),
            )
        return np.where(array < 0, array + self.n, array)

    def image_rows(self, source: str, positions: ArrayLike | slice | None = None) -> NDArray[np.int64]:
        """Row of a source's ``values`` that each sample sees, -1 where it sees none."""
        one, at = self._source(source), self._positions(positions)
        owner = self._sensor[at].astype(np.int64) if one.static else at
        image = self._array(source, "image")
        return owner if image is None else image[owner].astype(np.int64)

    def side(self, source: str) -> int:
        """Pixels on a side of a source's images (0 for a coarse product)."""
        kind = self._source(source).kind
        return (
            0 if kind == "coarse" else image_side("SampleStore", kind, self.crop, self.resolution, self.low_resolution)
        )

    def read(
        self,
        source: str,
        positions: ArrayLike | slice | None = None,
        bands: Sequence[str] | None = None,
        crop: int | None = None,
    ) -> NDArray[np.float32]:
        """Read images, or values at the point, of samples in any order.

        Each chunk is read once a call, however many of its images are wanted: ask for a batch at a time.

        Parameters
        ----------
        source : str
        positions : array_like of int, slice or mask, optional
            Samples; default all.
        bands : sequence of str, optional
            Bands in the order wanted; default all.
        crop : int, optional
            Pixels, of this source, on a side of a centred square; default the whole image.

        Returns
        -------
        ndarray of float32, shape (n, band, y, x), or (n, band) for a coarse product
            Normalised to [0, 1], or m3 m-3 for a coarse product; NaN is missing. A static image is repeated for each of the
            sensor's samples.

        Raises
        ------
        ParameterError
            On an unknown source or band, a position outside the store, or a crop that does not fit.
        """
        one, rows = self._source(source), self.image_rows(source, positions)
        number = self._bands(source, bands)
        if one.kind == "coarse":
            if crop is not None:
                raise ParameterError("SampleStore.read", f"{source!r} is one value and has no crop", got=crop)
            values = self._array(source, "values")
            return np.where(rows[:, None] >= 0, values[np.maximum(rows, 0)], np.float32("nan"))[:, number]
        span, whole = self._span(source, crop), number == list(range(len(one.bands)))
        result = np.full((rows.size, len(number), span.stop - span.start, span.stop - span.start), np.nan, np.float32)
        order = np.argsort(rows, kind="stable")
        order = order[rows[order] >= 0]
        chunk, last = self._chunks(source), -1
        for i in order:
            if rows[i] // chunk.rows != last:
                last = rows[i] // chunk.rows
                images = chunk.read(int(last))
            image = images[rows[i] % chunk.rows]
            result[i] = (image if whole else image[number])[:, span, span]
        return result

    def _chunks(self, source: str) -> ChunkFiles:
        key = f"{source}/chunks"
        if key not in self._arrays:
            self._arrays[key] = ChunkFiles(self.path / source / "values", self._array(source, "values"))
        return self._arrays[key]

    def _bands(self, source: str, bands: Sequence[str] | None) -> list[int]:
        known = self.sources[source].bands
        names = known if bands is None else [bands] if isinstance(bands, str) else list(bands)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ParameterError("SampleStore.read", f"{source!r} has no band {unknown}", expected=list(known))
        return [known.index(name) for name in names]

    def _span(self, source: str, crop: int | None) -> slice:
        side = self.side(source)
        if crop is None:
            return slice(0, side)
        if (
            isinstance(crop, bool)
            or not isinstance(crop, int | np.integer)
            or not 0 < crop <= side
            or (side - crop) % 2
        ):
            raise ParameterError(
                "SampleStore.read",
                f"'crop' is no centred square of {source!r}",
                got=crop,
                expected=plain(f"{side}, {side - 2}, … pixels"),
            )
        return slice((side - crop) // 2, (side + crop) // 2)

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
