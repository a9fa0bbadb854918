"""`SceneReader`: windows and points of one scene, whose files are each opened once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import FormatError, ParameterError, RunError
from smnb.grids import UtmWindow
from smnb.loaders.rasters.arrays import OpenArray
from smnb.loaders.rasters.images import OpenImage
from smnb.loaders.rasters.options import BandOption
from smnb.loaders.rasters.placing import RESAMPLINGS, Georeference, resample
from smnb.loaders.rasters.products import values_of, without_empty


@dataclass(frozen=True)
class BandSource:
    """Where a band of one scene is. Plain values, so that an index of them is pickled.

    Parameters
    ----------
    path : str
        File, folder or URL.
    form : {"image", "netcdf", "zarr"}
        What reads it.
    key : int or str
        Number of the band, or name of the variable.
    geometry : Georeference, optional
        Where the cells are; None for what a STAC item does not tell, which the file then does.
    option : BandOption
        What its numbers mean, as far as the catalog says.
    at : tuple of (int or str)
        Of a variable: an index for each dimension, "y" and "x" for those of the grid.
    scale, offset : float, optional
        None where the file is asked when it is opened.
    nodata : tuple of float, optional
        Numbers that mean no data; None where the file is asked.
    added : float
        Added to digital numbers first.
    """

    path: str
    form: str
    key: int | str
    geometry: Georeference | None
    option: BandOption
    at: tuple[int | str, ...] = ()
    scale: float | None = None
    offset: float | None = None
    nodata: tuple[float, ...] | None = None
    added: float = 0.0


@dataclass
class _Group:
    """Bands on one grid, which are read together; each with its file."""

    product: str
    raster: Georeference
    places: list[int]
    bands: list[tuple[BandSource, Any]]

    def read(self, first_row: int, stop_row: int, first_col: int, stop_col: int) -> NDArray[np.float32]:
        """Values of a block of cells, ``(band, row, col)``."""
        values = np.empty((len(self.bands), stop_row - first_row, stop_col - first_col), "float32")
        for file in dict.fromkeys(file for _, file in self.bands):
            own = [i for i, (_, other) in enumerate(self.bands) if other is file]
            wanted = [(self.bands[i][0].key, self.bands[i][0].at) for i in own]
            numbers = file.read(wanted, (first_row, stop_row), (first_col, stop_col))
            for i, array in zip(own, numbers, strict=True):
                band, option = self.bands[i][0], self.bands[i][0].option
                values[i] = values_of(
                    f"{file.where}: {option.name}",
                    array,
                    option.meaning,
                    scale=band.scale,
                    offset=band.offset,
                    nodata=band.nodata,
                    added=band.added,
                    conversion=option.conversion,
                )
        return without_empty(self.product, values)


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
    product : str
        Name of its source, whose `smnb.loaders.rasters.products.PRODUCTS` say when a pixel is empty.
    sources : tuple of BandSource
        Where its bands are.
    """

    def __init__(self, scene_id: str, time: np.datetime64, product: str, sources: tuple[BandSource, ...]) -> None:
        self.scene_id, self.time, self._product = scene_id, time, product
        self.bands = tuple(source.option.name for source in sources)
        self._sources = dict(zip(self.bands, sources, strict=True))
        self._files: dict[str, OpenImage | OpenArray] = {}
        self._closed = False

    def __enter__(self) -> SceneReader:
        return self

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
            source, file = group.bands[0]
            for some in _by_block(row, col, file.block_shape(source.key)):
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

    def _groups(self, names: Sequence[str]) -> list[_Group]:
        groups: dict[Georeference, _Group] = {}
        for place, name in enumerate(names):
            source = self._sources[name]
            file = self._file(source)
            if source.geometry is None or source.nodata is None or source.scale is None or source.offset is None:
                source = self._sources[name] = _completed(source, file)
            group = groups.setdefault(source.geometry, _Group(self._product, source.geometry, [], []))
            group.places.append(place)
            group.bands.append((source, file))
        return list(groups.values())

    def _file(self, source: BandSource) -> OpenImage | OpenArray:
        if source.path not in self._files:
            # less what follows a "?", where signed addresses carry their key
            where = f"{self.scene_id}({source.path.partition('?')[0].rsplit('/', 1)[-1]})"
            if source.form == "image":
                file = OpenImage(where, source.path)
                if source.geometry is not None and (other := source.geometry.differences(file.geometry())):
                    file.close()
                    raise FormatError(
                        where,
                        "the file is not on the grid that the index has",
                        got=other,
                        next_step="Build the index again where files changed; a STAC item's proj fields may be wrong",
                    )
            else:
                file = OpenArray(where, source.path, source.form)
            self._files[source.path] = file
        return self._files[source.path]


def _completed(source: BandSource, file: OpenImage) -> BandSource:
    """A band with what its file states where nothing else does."""
    scale, offset, nodata = file.meaning(source.key)
    return replace(
        source,
        geometry=source.geometry or file.geometry(),
        scale=scale if source.scale is None else source.scale,
        offset=offset if source.offset is None else source.offset,
        nodata=nodata if source.nodata is None else source.nodata,
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
