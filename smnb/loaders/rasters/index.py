"""`SceneIndex`: which scenes there are, when and where, without anything open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from smnb.contract import CatalogError, ParameterError
from smnb.loaders.rasters.reader import BandSource, SceneReader


@dataclass(frozen=True)
class SceneRecord:
    """One scene before it is part of an index."""

    scene_id: str
    time: np.datetime64
    bounds: tuple[float, float, float, float]
    cloud: float
    sources: tuple[BandSource, ...]


@dataclass(frozen=True, eq=False)
class SceneIndex:
    """The scenes of one source, in order of time. It is pickled in whole or, by `subset`, in part; nothing is open in it.

    Parameters
    ----------
    source : str
        Name of the source, such as "sentinel1".
    bands : tuple of str
        What every scene has.
    units : dict
        Units of each band, once read.
    catalog_id : str
        The catalog's entry.
    synthetic : bool
        Whether the data were simulated.
    table : pandas.DataFrame
        One row a scene: ``scene_id``, ``time`` (UTC, NaT for what does not change), ``west``, ``south``, ``east``,
        ``north`` (degrees; west > east where a scene lies across the date line), ``cloud_percentage`` (NaN where it is
        not known).
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
        """Put scenes in order.

        Raises
        ------
        CatalogError
            If there is none, or two have one name.
        """
        if not records:
            raise CatalogError(who, "there is no scene", next_step="Check the entry's files, and the search")
        records = sorted(records, key=lambda record: (np.isnat(record.time), record.time, record.scene_id))
        west, south, east, north = np.array([record.bounds for record in records]).T
        table = pd.DataFrame(
            {
                "scene_id": [record.scene_id for record in records],
                "time": np.array([record.time for record in records], "datetime64[ns]"),
                "west": west,
                "south": south,
                "east": east,
                "north": north,
                "cloud_percentage": np.array([record.cloud for record in records], "float64"),
            }
        )
        twice = table["scene_id"][table["scene_id"].duplicated()]
        if len(twice):
            raise CatalogError(
                who,
                "two scenes have one name",
                got=twice.iloc[0],
                next_step="Narrow the entry's files, or make the pattern of scenes tell them apart",
            )
        return cls(
            source,
            tuple(units),
            dict(units),
            catalog_id,
            bool(synthetic),
            table,
            tuple(record.sources for record in records),
        )

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
        """Positions of the scenes whose bounds hold a point, in order of time.

        Parameters
        ----------
        lat, lon : float
            Degrees; longitudes of -180..180 or 0..360.
        """
        if not (abs(lat) <= 90.0 and abs(lon) <= 360.0):
            raise ParameterError("SceneIndex.covering", "the point is no (lat, lon) in degrees", got=(lat, lon))
        west, south, width, north = self._edges
        # degrees east of the western edge, so that the date line is no special place
        return np.flatnonzero((lat >= south) & (lat <= north) & (np.mod(lon - west, 360.0) <= width))

    @cached_property
    def _edges(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Western and southern edge, width and northern edge of every scene."""
        west, south, east, north = (self.table[name].to_numpy() for name in ("west", "south", "east", "north"))
        return west, south, np.where(east < west, east - west + 360.0, east - west), north

    def subset(self, positions: ArrayLike) -> SceneIndex:
        """The scenes at some positions, in that order: what a worker needs and no more."""
        positions = np.asarray(positions, np.intp)
        table = self.table.iloc[positions].reset_index(drop=True)
        sources = tuple(self._sources[i] for i in positions)
        return SceneIndex(self.source, self.bands, self.units, self.catalog_id, self.synthetic, table, sources)

    def open(self, position: int) -> SceneReader:
        """Open a scene for reading; use it as a context manager.

        Raises
        ------
        ParameterError
            If there is no such position.
        """
        if not 0 <= position < len(self):
            raise ParameterError("SceneIndex.open", "there is no such scene", got=position, expected=f"< {len(self)}")
        name, time = (self.table[column].to_numpy()[position] for column in ("scene_id", "time"))
        return SceneReader(name, time, self.source, self._sources[position])
