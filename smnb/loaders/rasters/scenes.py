"""`SceneIndex`: which scenes there are, when and where, with nothing open; `SceneReader`: windows and points of one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from smnb.contract import CatalogError, FormatError, ParameterError, RunError, check_choice, check_places, foreign
from smnb.files import content_of, fingerprint
from smnb.grids import UtmWindow
from smnb.loaders.rasters.images import OpenArray, OpenImage, gdal, open_image
from smnb.loaders.rasters.options import EMPTY_IS_ZERO
from smnb.loaders.rasters.placing import RESAMPLINGS, BandSource, Georeference, is_url, resample

#: A band's file, and what GDAL reads with an image: statements and a mask in files of these endings.
_ENDINGS = ("", ".aux.xml", ".msk")
#: What the identity of a scene ends with whose server tells no version; seconds that are spent on asking for versions.
UNCHECKED, _VERSION_SECONDS = " unchecked", 120.0


@dataclass(frozen=True)
class SceneRecord:
    """One scene: name, time (UTC, NaT for what does not change), bounds (degrees), clouds (percent) and its bands.

    Of Sentinel-1 scenes that are averaged also what those have in common that are pieces of one acquisition, and what told
    the time.
    """

    scene_id: str
    time: np.datetime64
    bounds: tuple[float, float, float, float] | None
    cloud: float
    sources: tuple[BandSource, ...]
    acquisition: str = ""
    time_source: str = ""


@dataclass(frozen=True, eq=False)
class SceneIndex:
    """The scenes of one source, in order of time. It is pickled in whole or, by `subset`, in part; nothing is open in it.

    Every scene has the `bands`, which are in `units` once read. The `table` has one row a scene: ``scene_id``, ``time`` (UTC,
    NaT for what does not change), ``west``, ``south``, ``east``, ``north`` (degrees; west > east where a scene lies across
    the date line), ``cloud_percentage`` (NaN where it is not known).
    """

    source: str
    bands: tuple[str, ...]
    units: dict[str, str]
    catalog_id: str
    synthetic: bool
    table: pd.DataFrame
    _sources: tuple[tuple[BandSource, ...], ...]

    @classmethod
    def of(
        cls,
        who: str,
        records: Sequence[SceneRecord],
        *,
        source: str,
        units: dict[str, str],
        catalog_id: str,
        synthetic: bool,
    ) -> SceneIndex:
        """Put scenes in order; two of one name are a `CatalogError`, and so is none."""
        if not records:
            raise CatalogError(who, "there is no scene", next_step="Check the entry's files, and the search")
        records = sorted(records, key=lambda record: (np.isnat(record.time), record.time, record.scene_id))
        rows = [(one.scene_id, one.time, *one.bounds, float(one.cloud)) for one in records]
        columns = ("scene_id", "time", "west", "south", "east", "north", "cloud_percentage")
        table = pd.DataFrame(rows, columns=columns).astype({"time": "datetime64[ns]"})
        if (twice := table["scene_id"].duplicated()).any():
            got, next_step = (
                table["scene_id"][twice].iloc[0],
                "Narrow the entry's files, or correct the pattern of scenes",
            )
            raise CatalogError(who, "two scenes have one name", got=got, next_step=next_step)
        sources = tuple(record.sources for record in records)
        return cls(source, tuple(units), dict(units), catalog_id, bool(synthetic), table, sources)

    def __len__(self) -> int:
        return len(self._sources)

    def check(self, who: str) -> SceneIndex:
        """Return itself: what the catalog asks of a loader's result that is no Dataset."""
        return self

    @property
    def is_static(self) -> bool:
        """Whether no scene has a time."""
        return bool(self.table["time"].isna().all())

    def covering(self, lat: float, lon: float) -> NDArray[np.intp]:
        """Positions of the scenes whose bounds hold a point (degrees, longitudes of -180..180 or 0..360), in order of time."""
        check_places("SceneIndex.covering", lat, lon)
        west, south, width, north = self._edges
        # degrees east of the western edge, so that the date line is no special place
        return np.flatnonzero((lat >= south) & (lat <= north) & (np.mod(lon - west, 360.0) <= width))

    @cached_property
    def _edges(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Western and southern edge, width and northern edge of every scene."""
        west, south, east, north = (self.table[name].to_numpy() for name in ("west", "south", "east", "north"))
        return west, south, np.where(east < west, east - west + 360.0, east - west), north

    def identities(self, positions: ArrayLike, cache: Path | None = None) -> list[str]:
        """What each scene's values depend on: how its bands are read, and the content of its files, wherever these lie.

        `cache` as `smnb.files.content_of`. A file on a server counts by its address and what the server says of its version;
        where that is nothing, the scene's identity ends with `UNCHECKED`.
        """
        scenes = [self._sources[i] for i in np.asarray(positions, np.intp)]
        parts = {band.path: _parts_of(band.path) for bands in scenes for band in bands}
        paths = dict.fromkeys(Path(one + end) for part in parts.values() for one in part for end in _ENDINGS)
        there = [path for path in paths if path.exists()]
        content = dict(zip(there, content_of(there, cache), strict=True))
        versions = _versions([path for path in parts if Path(path) not in content])

        def of(band: BandSource) -> list[str | None]:
            # less what follows a "?", where signed addresses carry their key
            known = [content.get(Path(one + end)) for one in parts[band.path] for end in _ENDINGS]
            address = [] if known[0] else [band.path.partition("?")[0], versions[band.path]]
            return [*known, *address, repr(replace(band, path=""))]

        unknown = [any(versions.get(band.path) == "" for band in bands) for bands in scenes]
        found = [fingerprint([of(band) for band in bands]) for bands in scenes]
        return [one + UNCHECKED * lost for one, lost in zip(found, unknown, strict=True)]

    def subset(self, positions: ArrayLike) -> SceneIndex:
        """The scenes at some positions, in that order: what a worker needs and no more."""
        positions = np.asarray(positions, np.intp)
        table = self.table.iloc[positions].reset_index(drop=True)
        return replace(self, table=table, _sources=tuple(self._sources[i] for i in positions))

    def open(self, position: int) -> SceneReader:
        """Open a scene for reading, by its position in the table; use it as a context manager."""
        if not 0 <= position < len(self):
            raise ParameterError("SceneIndex.open", "there is no such scene", got=position, expected=f"< {len(self)}")
        name, time = (self.table[column].to_numpy()[position] for column in ("scene_id", "time"))
        return SceneReader(name, time, self.source, self._sources[position])


class SceneReader(AbstractContextManager):
    """One scene, from which many windows and points are read; a context manager.

    A file is opened at the first reading of one of its bands and stays open until `close`. A reader is for one thread;
    open one for each, by `SceneIndex.open`.
    """

    def __init__(self, scene_id: str, time: np.datetime64, product: str, sources: tuple[BandSource, ...]) -> None:
        self.scene_id, self.time, self._product = scene_id, time, product
        self.bands = tuple(source.option.name for source in sources)
        self._sources = dict(zip(self.bands, sources, strict=True))
        self._files: dict[str, OpenImage | OpenArray] = {}
        self._sound: set[str] = set()  # bands that look odd in places, and are right all over the scene
        self._closed = False

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; nothing can be read afterwards."""
        self._closed = True
        for file in self._files.values():
            file.close()
        self._files.clear()

    def read(
        self, window: UtmWindow, bands: Sequence[str] | None = None, *, resampling: str = "bilinear"
    ) -> NDArray[np.float32]:
        """Read a window.

        A window on a raster's own grid (same zone and cell size, edges on edges) is read as it is, to the last bit,
        whatever `resampling`; others are warped by rasterio.

        Parameters
        ----------
        resampling : {"bilinear", "nearest", "average"}
            "bilinear" weights the four pixels around a cell's centre, or those of them that have data, and is missing
            where the pixel that holds the centre is; "nearest" takes that pixel; "average" is the mean of the pixels
            within a cell, for cells larger than pixels.

        Returns
        -------
        numpy.ndarray
            float32 ``(band, y, x)``, in the order of `bands` and their units; NaN outside the raster and where there are no data.

        Raises
        ------
        FormatError, RunError
            If a file is unreadable, lacks a band, or is not what the index says; if the reader is closed.
        """
        (resampling,) = check_choice("SceneReader.read", "resampling", resampling, RESAMPLINGS)
        values = np.empty((len(names := self._names(bands)), *window.shape), "float32")
        with foreign(self.scene_id):
            for raster, places in self._groups(names).items():
                some = [names[place] for place in places]
                values[places] = resample(partial(self._block, some), len(places), raster, window, resampling)
        return values

    def at(self, lat: ArrayLike, lon: ArrayLike, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Read the cells that hold points: float32 ``(point, band)``, NaN outside the raster and where there are no data.

        `lat` and `lon` are in degrees, ``(point,)`` or scalars; longitudes of -180..180 or 0..360, whichever the raster
        has. Raises as `read`, and a `ParameterError` for positions that are none.
        """
        lat, lon = np.atleast_1d(np.asarray(lat, "float64")), np.atleast_1d(np.asarray(lon, "float64"))
        if lat.shape != lon.shape or lat.ndim != 1:
            raise ParameterError("SceneReader.at", "'lat' and 'lon' have other shapes", got=(lat.shape, lon.shape))
        check_places("SceneReader.at", lat, lon)
        names = self._names(bands)
        values = np.full((lat.size, len(names)), np.nan, "float32")
        with foreign(self.scene_id):
            for raster, places in self._groups(names).items():
                some = [names[place] for place in places]
                row, col = raster.cells_at(lat, lon)
                for points in _by_block(row, col, self.block_shape(some[0])):
                    top, left = int(row[points].min()), int(col[points].min())
                    block = self._block(some, top, int(row[points].max()) + 1, left, int(col[points].max()) + 1)
                    values[np.ix_(points, places)] = block[:, row[points] - top, col[points] - left].T
        return values

    def numbers(
        self, rows: tuple[int, int], cols: tuple[int, int], bands: Sequence[str] | None = None
    ) -> dict[str, NDArray]:
        """Numbers of bands (default all) that are on one grid, as they are in the files; masked where these have masks."""
        bands = list(self.bands) if bands is None else bands
        found: dict[str, NDArray] = dict.fromkeys(bands)
        for file in dict.fromkeys(self._opened(name)[1] for name in bands):  # bands of one file are read together
            own = [name for name in bands if self._opened(name)[1] is file]
            found.update(zip(own, file.read([self._sources[name] for name in own], rows, cols), strict=True))
        return found

    def block_shape(self, name: str) -> tuple[int, int]:
        """Rows and columns of the tiles or strips of a band's file."""
        source, file = self._opened(name)
        return file.block_shape(source)

    def _block(self, names: Sequence[str], top: int, bottom: int, left: int, right: int) -> NDArray[np.float32]:
        """Values of a block of cells of bands on one grid, ``(band, row, col)``."""
        numbers = self.numbers((top, bottom), (left, right), names)
        values = np.stack([self._values(name, numbers[name]) for name in names])
        if self._product in EMPTY_IS_ZERO:
            values[:, (values == 0.0).all(axis=0)] = np.nan
        return values

    def _values(self, name: str, numbers: NDArray) -> NDArray[np.float32]:
        """Values of a band's numbers, NaN beyond its range; `FormatError` if these and those all over the scene are wrong."""
        source, file = self._opened(name)
        values, meaning = source.values(numbers), source.option.meaning
        if name not in self._sound and meaning.fault(values):
            grid = source.geometry
            looks = [self.numbers(*place, [name])[name] for place in grid.places()]
            if fault := meaning.fault(np.concatenate([source.values(look).ravel() for look in looks])):
                raise FormatError(f"{file.where}: {name}", **fault)
            self._sound.add(name)
        return meaning.within(values)

    def _names(self, bands: Sequence[str] | None) -> list[str]:
        if self._closed:
            raise RunError("SceneReader", f"the reader of {self.scene_id} is closed", next_step="Open the scene again")
        names = list(self.bands) if bands is None else [bands] if isinstance(bands, str) else list(bands)
        if absent := [name for name in names if name not in self._sources]:
            what = f"scene {self.scene_id} has no band {absent[0]!r}"
            raise ParameterError("SceneReader", what, expected=list(self.bands))
        return names

    def _groups(self, names: Sequence[str]) -> dict[Georeference, list[int]]:
        """Grids, and the places of the bands on each, which are read together."""
        groups: dict[Georeference, list[int]] = {}
        for place, name in enumerate(names):
            groups.setdefault(self._opened(name)[0].geometry, []).append(place)
        return groups

    def _opened(self, name: str) -> tuple[BandSource, OpenImage | OpenArray]:
        """A band, with what its file states where nothing else does, and the file, opened at first."""
        source = self._sources[name]
        if (file := self._files.get(source.path)) is None:
            # less what follows a "?", where signed addresses carry their key
            where = f"{self.scene_id}({source.path.partition('?')[0].rsplit('/', 1)[-1]})"
            is_image = source.form == "image"
            file = OpenImage(where, source.path) if is_image else OpenArray(where, source.path, source.form)
            if is_image and source.geometry is not None and (other := source.geometry.differences(file.geometry())):
                file.close()
                what = "the file is not on the grid that the index has"
                next_step = "Build the index again where files changed; a STAC item's proj fields may be wrong"
                raise FormatError(where, what, got=other, next_step=next_step)
            self._files[source.path] = file
        if None in (source.geometry, source.nodata, source.scale, source.offset):
            header = file.header()
            i = header.number_of(file.where, source.key) - 1
            stated = {"geometry": header.geometry, "scale": header.scales[i], "offset": header.offsets[i]}
            stated["nodata"] = header.nodata[i]
            own = {key: value for key, value in stated.items() if getattr(source, key) is None}
            self._sources[name] = source = replace(source, **own)
        return source, file


def _versions(paths: Sequence[str]) -> dict[str, str]:
    """What servers say of the versions of files: their ETag, or date and size; "" where nothing does, or none answers in time."""
    import requests  # which files on this machine need not

    end = time.monotonic() + _VERSION_SECONDS

    def version(path: str) -> str:
        if not is_url(path) or time.monotonic() > end:
            return ""
        # of one byte: addresses that are signed for reading refuse HEAD
        options = {"headers": {"Range": "bytes=0-0", "Accept-Encoding": "identity"}, "allow_redirects": False}
        try:
            with requests.get(path, stream=True, timeout=_VERSION_SECONDS / 10, **options) as answer:
                told, size = answer.headers, answer.headers.get("Content-Range", "").rpartition("/")[2]
                size = size if answer.status_code == 206 else told.get("Content-Length", "")
                dated = f"{told['Last-Modified']} {size}" if "Last-Modified" in told else ""
                return told.get("ETag", dated) if answer.status_code in (200, 206) else ""
        except requests.RequestException:
            return ""

    if not paths:
        return {}
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(paths, pool.map(version, paths), strict=True))


def _parts_of(path: str) -> list[str]:
    """The file itself, and those that a virtual raster is made of."""
    if not path.lower().endswith(".vrt"):
        return [path]
    with gdal(Path(path).name, path), open_image(Path(path).name, path) as source:
        return [path, *(one for one in source.files if one != path)]


def _by_block(row: NDArray, col: NDArray, shape: tuple[int, int]) -> Iterator[NDArray[np.intp]]:
    """Points within the raster, those of one of its blocks together."""
    inside = np.flatnonzero(row >= 0)
    if not inside.size:
        return
    blocks = np.stack([row[inside] // shape[0], col[inside] // shape[1]])
    _, number = np.unique(blocks, axis=1, return_inverse=True)
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    yield from np.split(inside[order], starts[1:])
