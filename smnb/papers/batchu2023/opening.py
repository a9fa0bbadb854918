"""Scenes and readings through the catalog, and the sample store that they are joined to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from smnb.catalog import Catalog
from smnb.contract import CatalogError, ParameterError
from smnb.loaders.rasters import SceneIndex
from smnb.papers.batchu2023.matchup import CATALOG_IDS, build_matchups
from smnb.papers.batchu2023.store import SampleStore

#: Catalog entry of each source, of the readings, and of the land cover that sensors are stratified by.
MULTISOURCE_IDS = {**CATALOG_IDS, "insitu": "multisource_ismn", "land_cover": "multisource_landcover"}
_NO_SCENES = ("insitu", "land_cover")


def open_scenes_of(
    catalog: Catalog, root: Path | None, sources: Iterable[str] | None = None, *, ids: Mapping[str, str] | None = None
) -> dict[str, SceneIndex]:
    """Open the scenes of sources through the catalog.

    Parameters
    ----------
    catalog : Catalog
    root : Path, optional
        The archive; default as `smnb.catalog.data_root`.
    sources : iterable of str, optional
        Canonical names; default all.
    ids : mapping of str to str, optional
        Other catalog entries than those of `MULTISOURCE_IDS`.

    Returns
    -------
    dict of str to SceneIndex

    Raises
    ------
    ParameterError
        On an unknown source.
    CatalogError
        If an entry or its files are absent.
    """
    known = {**MULTISOURCE_IDS, **(ids or {})}
    names = [name for name in known if name not in _NO_SCENES] if sources is None else list(sources)
    if unknown := [name for name in names if name not in known or name in _NO_SCENES]:
        raise ParameterError(
            "open_scenes_of",
            "unknown sources",
            got=unknown,
            expected=[name for name in known if name not in _NO_SCENES],
        )
    return {name: catalog.open(known[name], root) for name in names}


def open_matchups(
    catalog: Catalog,
    root: Path | None,
    out: str | os.PathLike[str],
    *,
    store: str = "",
    ids: Mapping[str, str] | None = None,
    optional: Iterable[str] = ("modis_lai",),
    **options: Any,
) -> SampleStore:
    """Open a sample store: one that exists, or the one at `out`, which is built first unless it is there and up to date.

    Parameters
    ----------
    catalog, root
        As `open_scenes_of`.
    out : path-like
        ``name.zarr``.
    store : str
        An existing store to open instead.
    ids : mapping of str to str, optional
        Other catalog entries than those of `MULTISOURCE_IDS`.
    optional : iterable of str
        Sources that a sample may lack.
    **options
        Of `smnb.papers.batchu2023.matchup.build_matchups`: ``anchor``, ``crop``, ``workers``, …

    Returns
    -------
    SampleStore
    """
    if store:
        return SampleStore.open(store)
    known = {**MULTISOURCE_IDS, **(ids or {})}
    land_cover = _land_cover(catalog, known["land_cover"], root)
    scenes = open_scenes_of(catalog, root, ids=ids)
    readings = catalog.open(known["insitu"], root)
    result = build_matchups(
        readings,
        scenes,
        out=out,
        optional=[name for name in optional if name in scenes],
        land_cover=land_cover,
        **options,
    )
    return result.store


def _land_cover(catalog: Catalog, entry: str, root: Path | None) -> Path | None:
    """The land-cover raster where the archive has one file of it; else sensors are stratified by the readings' archive."""
    try:
        files = list(catalog.resolve(entry, root))
    except CatalogError:
        return None
    return files[0] if len(files) == 1 else None


def matchup_counts(store: SampleStore) -> pd.Series:
    """What the builder read, kept and dropped, as one column without zeros: nested counts are joined by " / "."""

    def flat(counts: Mapping[str, Any], path: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in counts.items():
            label = f"{path} / {name}" if path else str(name)
            if isinstance(value, Mapping):
                found.update(flat(value, label))
            elif isinstance(value, int | float | str | np.integer) and value != 0:
                found[label] = value
        return found

    return pd.Series(flat(store.attrs.get("counts", {})), name="count", dtype=object)
