"""`SceneReader`: windows and points of one scene, whose files are each opened once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import FormatError, ParameterError, RunError
from smnb.grids import UtmWindow
from smnb.loaders.rasters.arrays import OpenArray
from smnb.loaders.rasters.bands import BandSource, OpenFile, calibrate
from smnb.loaders.rasters.georeference import Georeference, georeference
from smnb.loaders.rasters.images import OpenImage
from smnb.loaders.rasters.resampling import RESAMPLINGS, resample


@dataclass
class _Group:
    """Bands of one file on one grid, which are read together."""

    file: OpenFile
    raster: Georeference
    bands: list[BandSource]
    meanings: list[tuple[float, float, tuple[float, ...]]]
    places: list[int]

    def read(self, first_row: int, stop_row: int, first_col: int, stop_col: int) -> NDArray[np.float32]:
        """Values of a block of cells, ``(band, row, col)``."""
        numbers = self.file.read(self.bands, (first_row, stop_row), (first_col, stop_col))
        return np.stack(
            [
                calibrate(array, band, nodata, scale, offset)
                for array, band, (scale, offset, nodata) in zip(numbers, self.bands, self.meanings, strict=True)
            ]
        )


class SceneReader:
    """One scene, from which many windows and points are read; a context manager.

    A file is opened at the first reading of one of its bands and stays open until `close`. A reader is for one thread;
    open one for each. Made by `SceneIndex.open`.

    Parameters
    ----------
    scene_id : str
        Name of the scene.
    time : numpy.datetime64
        Start of the acquisition, UTC; NaT for what does not change.
    names : tuple of str
        Bands.
    sources : tuple of BandSource
        Where they are.
    """

    def __init__(
        self, scene_id: str, time: np.datetime64, names: tuple[str, ...], sources: tuple[BandSource, ...]
    ) -> None:
        self.scene_id, self.time, self.bands = scene_id, time, names
        self._sources = dict(zip(names, sources, strict=True))
        self._files: dict[str, OpenFile] = {}
        self._meanings: dict[BandSource, tuple[float, float, tuple[float, ...]]] = {}
        self._closed = False

    def __enter__(self) -> SceneReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        whatever `resampling`. Else each cell's centre is placed on the raster to a millionth of a pixel.

        Parameters
        ----------
        window : UtmWindow
            Where; any reference system of the raster will do.
        bands : sequence of str, optional
            Which, in this order; default all.
        resampling : {"bilinear", "nearest", "average"}
            "bilinear" weights the four pixels around a cell's centre, or those of them that have data, and is missing
            where the pixel that holds the centre is; "nearest" takes that pixel; "average" is the mean of the pixels
            within a cell, for cells larger than pixels.

        Returns
        -------
        numpy.ndarray
            float32 ``(band, y, x)``, in the bands' units; NaN outside the raster and where there are no data.

        Raises
        ------
        ParameterError
            For an unknown band or resampling.
        FormatError
            If a file is unreadable, lacks a band, or is not what the index says.
        RunError
            If the reader is closed.
        """
        if resampling not in RESAMPLINGS:
            raise ParameterError("SceneReader.read", "unknown 'resampling'", got=resampling, expected=list(RESAMPLINGS))
        names = self._names(bands)
        values = np.empty((len(names), *window.shape), "float32")
        for group in self._groups(names):
            values[group.places] = resample(group.read, len(group.bands), group.raster, window, resampling)
        return values

    def at(self, lat: ArrayLike, lon: ArrayLike, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Read the cells that hold points.

        Parameters
        ----------
        lat, lon : array-like
            Degrees, ``(point,)`` or scalars; longitudes of -180..180 or 0..360, whichever the raster has.
        bands : sequence of str, optional
            Which; default all.

        Returns
        -------
        numpy.ndarray
            float32 ``(point, band)``, NaN outside the raster and where there are no data.

        Raises
        ------
        ParameterError
            For an unknown band, or positions that are none.
        FormatError, RunError
            As `read`.
        """
        lat, lon = np.atleast_1d(np.asarray(lat, "float64")), np.atleast_1d(np.asarray(lon, "float64"))
        if lat.shape != lon.shape or lat.ndim != 1:
            raise ParameterError("SceneReader.at", "'lat' and 'lon' have other shapes", got=(lat.shape, lon.shape))
        if not (np.abs(lat) <= 90.0).all() or not (np.abs(lon) <= 360.0).all():
            raise ParameterError("SceneReader.at", "a point is no (lat, lon) in degrees")
        names = self._names(bands)
        values = np.full((lat.size, len(names)), np.nan, "float32")
        for group in self._groups(names):
            row, col = group.raster.cells_at(lat, lon)
            for some in _by_block(row, col, group.file.block_shape(group.bands[0])):
                top, left = int(row[some].min()), int(col[some].min())
                block = group.read(top, int(row[some].max()) + 1, left, int(col[some].max()) + 1)
                values[np.ix_(some, group.places)] = block[:, row[some] - top, col[some] - left].T
        return values

    def _names(self, bands: Sequence[str] | None) -> list[str]:
        if self._closed:
            raise RunError("SceneReader", f"the reader of {self.scene_id} is closed", next_step="Open the scene again")
        names = list(self.bands) if bands is None else [bands] if isinstance(bands, str) else list(bands)
        for name in names:
            if name not in self._sources:
                raise ParameterError(
                    "SceneReader", f"scene {self.scene_id} has no band {name!r}", expected=list(self.bands)
                )
        return names

    def _groups(self, names: Sequence[str]) -> Iterator[_Group]:
        groups: dict[tuple[str, Georeference], _Group] = {}
        for place, name in enumerate(names):
            source = self._sources[name]
            # less what follows a "?", where signed addresses carry their key
            where = f"{self.scene_id}({source.path.partition('?')[0].rsplit('/', 1)[-1]})"
            file = self._file(where, source)
            raster = georeference(source.geometry or file.geometry())
            if source not in self._meanings:
                self._meanings[source] = _meaning(file, source)
            group = groups.setdefault((source.path, raster), _Group(file, raster, [], [], []))
            group.bands.append(source)
            group.meanings.append(self._meanings[source])
            group.places.append(place)
        yield from groups.values()

    def _file(self, where: str, source: BandSource) -> OpenFile:
        if source.path not in self._files:
            if source.form != "image":
                self._files[source.path] = OpenArray(where, source.path, source.form)
            else:
                file = OpenImage(where, source.path)
                if source.geometry is not None and (other := source.geometry.differences(file.geometry())):
                    file.close()
                    raise FormatError(
                        where,
                        "the file is not on the grid that the index has",
                        got=other,
                        next_step="Build the index again where files changed; a STAC item's proj fields may be wrong",
                    )
                self._files[source.path] = file
        return self._files[source.path]


def _meaning(file: OpenFile, source: BandSource) -> tuple[float, float, tuple[float, ...]]:
    """Scale, offset and no-data numbers: what is declared, else what the file states."""
    scale, offset, nodata = file.meaning(source)
    return (
        scale if source.scale is None else source.scale,
        offset if source.offset is None else source.offset,
        nodata if source.nodata is None else source.nodata,
    )


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
