"""The sources of the match-ups and how far before a reading their images may lie: Tables 5 and 20 of paper 004.

References
----------
Batchu, Nearing and Gulshan 2023, J. Hydrometeorol. 24(10), doi:10.1175/JHM-D-22-0118.1, section 2c.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ContractError, ParameterError, plain
from smnb.papers.batchu2023.store import STANDARD_SOURCES, StoredSource

#: Catalog entry of each source.
CATALOG_IDS = {
    "sentinel1": "multisource_sentinel1",
    "sentinel2": "multisource_sentinel2",
    "dem": "multisource_dem",
    "soilgrids": "multisource_soilgrids",
    "modis_lai": "multisource_lai",
    "smap": "multisource_smap10km",
    "gldas": "multisource_gldas",
}
ANCHORS = ("sentinel1", "smap")
#: Sentinel-2 scenes with more cloud, in %, are left out.
CLOUD_LIMIT = 30.0
_SHARED_BOUNDS = {
    "sentinel2": "14D",
    "gldas": "6h",
    "dem": "18262D",
    "soilgrids": "18262D",
    "modis_lai": "8D",
}  # 50 years
#: Table 5 and Table 20.
_BOUNDS = {
    "sentinel1": {**_SHARED_BOUNDS, "sentinel1": "1h", "smap": "3D"},
    "smap": {**_SHARED_BOUNDS, "sentinel1": "7D", "smap": "1h"},
}


class Reader(Protocol):
    """An open scene, as `smnb.loaders.rasters` gives it."""

    def read(self, window: Any, bands: Sequence[str] | None = None, *, resampling: str = "bilinear") -> NDArray:
        """Native values (band, y, x) on a window, NaN where there are none."""
        ...

    def at(self, lat: ArrayLike, lon: ArrayLike, bands: Sequence[str] | None = None) -> NDArray:
        """Native values (point, band) of the cell that holds each point."""
        ...


class Scenes(Protocol):
    """Scenes of one source, as `smnb.loaders.rasters.SceneIndex` lists them."""

    source: str
    bands: tuple[str, ...]
    catalog_id: str
    synthetic: bool
    table: pd.DataFrame
    """``scene_id``, ``time`` (UTC, NaT where static), ``west``, ``south``, ``east``, ``north``, ``cloud_percentage``."""

    def __len__(self) -> int: ...

    def covering(self, lat: float, lon: float) -> NDArray[np.intp]:
        """Positions of the scenes whose bounds hold the point."""
        ...

    def open(self, position: int) -> AbstractContextManager[Reader]:
        """Open one scene."""
        ...


@dataclass(frozen=True)
class MatchSource:
    """How one source is joined and cut.

    Parameters
    ----------
    kind : {"high", "low", "coarse"}
        Cut at the fine resolution, at the low one, or read as one value at the point.
    bands : tuple of str
        Canonical bands, in the order of the store.
    bound : str or timedelta
        How long before the reading an image may lie, both ends included ("14D").
    static : bool
        One image a sensor, whatever its time.
    cloud_limit : float, optional
        Scenes with more cloud, in %, are left out.
    optional : bool
        Keep a point that lacks this source, with NaN.
    resampling : {"bilinear", "nearest", "average"}
        How images are brought to the window.
    """

    kind: str
    bands: tuple[str, ...]
    bound: Any
    static: bool = False
    cloud_limit: float | None = None
    optional: bool = False
    resampling: str = "bilinear"

    def __post_init__(self) -> None:
        try:
            bound = pd.Timedelta(self.bound) if not isinstance(self.bound, int | float) else pd.NaT
        except ValueError:
            bound = pd.NaT
        if bound is pd.NaT or bound < pd.Timedelta(0):
            raise ParameterError(
                "MatchSource", "'bound' is no time span from 0", got=self.bound, expected=plain("such as '14D' or '1h'")
            )
        object.__setattr__(self, "bound", bound)
        if self.resampling not in ("bilinear", "nearest", "average"):
            raise ParameterError(
                "MatchSource", "unknown 'resampling'", got=self.resampling, expected=["bilinear", "nearest", "average"]
            )
        if self.cloud_limit is not None and not 0.0 <= self.cloud_limit <= 100.0:
            raise ParameterError("MatchSource", "'cloud_limit' is no percentage", got=self.cloud_limit)
        self.stored("")  # checks kind and bands

    @property
    def bound_ns(self) -> int:
        """The bound in nanoseconds."""
        return int(self.bound.value)

    def stored(self, catalog_id: str) -> StoredSource:
        """What the store says of this source."""
        return StoredSource(
            self.kind, self.bands, self.static, self.bound.total_seconds(), catalog_id, optional=self.optional
        )

    def as_dict(self) -> dict[str, Any]:
        """For the fingerprint."""
        return {
            **self.stored("").as_dict(),
            "bound": self.bound_ns,
            "cloud_limit": self.cloud_limit,
            "resampling": self.resampling,
        }


def paper_sources(anchor: str = "sentinel1") -> dict[str, MatchSource]:
    """Sources with the bounds of Table 5 (anchored to Sentinel-1) or Table 20 (anchored to SMAP).

    Examples
    --------
    >>> {name: str(source.bound) for name, source in paper_sources("smap").items() if not source.static}
    {'sentinel1': '7 days 00:00:00', 'sentinel2': '14 days 00:00:00', 'modis_lai': '8 days 00:00:00',
     'smap': '0 days 01:00:00', 'gldas': '0 days 06:00:00'}
    """
    if anchor not in ANCHORS:
        raise ParameterError("paper_sources", "unknown anchor", got=anchor, expected=list(ANCHORS))
    return {
        name: MatchSource(
            one.kind, one.bands, _BOUNDS[anchor][name], one.static, CLOUD_LIMIT if name == "sentinel2" else None
        )
        for name, one in STANDARD_SOURCES.items()
    }


def check_sources(
    who: str,
    scenes: Mapping[str, Scenes],
    anchor: str,
    specs: Mapping[str, MatchSource] | None,
    optional: Iterable[str],
) -> dict[str, MatchSource]:
    """Return how each source given is joined, in the order in which they are read: the cheap ones first.

    Raises
    ------
    ParameterError
        On an unknown source or anchor, or when the anchor is not given or optional.
    ContractError
        If scenes lack bands, times or cloud percentages that the join needs.
    """
    known = {**paper_sources(anchor), **(specs or {})}
    optional = (optional,) if isinstance(optional, str) else tuple(optional)
    for names, what in ((scenes, "sources"), (optional, "optional sources")):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ParameterError(who, f"unknown {what} {unknown}", got=list(names), expected=sorted(known))
    if anchor not in scenes or anchor in optional or known[anchor].optional:
        raise ParameterError(
            who,
            f"the anchor {anchor!r} is not among the sources, or is optional",
            got=sorted(scenes),
            expected=[anchor],
        )
    for name, index in scenes.items():
        _check_scenes(who, name, index, known[name])
    # what is cheap to read drops points first; images are the dear part
    cost = {"coarse": 0, "low": 2, "high": 3}
    order = sorted(scenes, key=lambda name: (1 if known[name].static else cost[known[name].kind], name != anchor, name))
    return {name: replace(known[name], optional=known[name].optional or name in optional) for name in order}


def _check_scenes(who: str, name: str, index: Scenes, spec: MatchSource) -> None:
    if len(index) == 0:
        raise ContractError(who, f"the source {name!r} has no scene", next_step="Check its files with: smnb catalog")
    missing = [band for band in spec.bands if band not in index.bands]
    if missing:
        raise ContractError(
            who,
            f"the source {name!r} lacks bands {missing}",
            got=list(index.bands),
            expected=list(spec.bands),
            next_step="Name them in the entry's option 'bands'",
        )
    timeless = index.table["time"].isna().to_numpy()
    if not spec.static and timeless.any():
        raise ContractError(
            who,
            f"{int(timeless.sum())} scenes of {name!r} have no time",
            got=str(index.table["scene_id"][timeless].iloc[0]),
            next_step="Say where the time stands, in the entry's option 'time'",
        )
    if spec.cloud_limit is not None:
        unknown = index.table["cloud_percentage"].isna().to_numpy()
        if unknown.any():
            raise ContractError(
                who,
                f"{int(unknown.sum())} scenes of {name!r} have no cloud percentage",
                got=str(index.table["scene_id"][unknown].iloc[0]),
                next_step="Say where it stands, in the entry's option 'cloud', or join without a cloud limit",
            )
