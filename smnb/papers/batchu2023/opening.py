"""Scenes, readings and the sample store through the catalog, and what figures of samples show."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smnb.contract import CatalogError, check_count
from smnb.papers.batchu2023.batches import side_positions
from smnb.papers.batchu2023.matchups import build_matchups
from smnb.papers.batchu2023.sources import SOURCES, Source, by_name
from smnb.papers.batchu2023.store import SampleStore
from smnb.progress import Progress

if TYPE_CHECKING:
    from smnb.catalog import Catalog
    from smnb.loaders.rasters import SceneIndex

#: Catalog entries of the readings, and of the land cover that sensors are stratified by.
_READINGS, _LAND_COVER = "multisource_ismn", "multisource_landcover"
#: Every catalog entry that a store is made of.
MULTISOURCE_IDS = (*(one.catalog_id for one in SOURCES.values()), _READINGS, _LAND_COVER)


def open_scenes_of(
    catalog: Catalog, root: Path | None, sources: Iterable[Source | str] | None = None
) -> dict[str, SceneIndex]:
    """Open the scenes of sources, own ones and names of the paper's (default all of these), through the catalog."""
    wanted = by_name("open_scenes_of", SOURCES if sources is None else sources)
    return {name: catalog.open(one.catalog_id, root) for name, one in wanted.items()}


def open_matchups(
    catalog: Catalog,
    root: Path | None,
    out: str | os.PathLike[str],
    *,
    store: str = "",
    sources: Iterable[Source | str] | None = None,
    optional: Iterable[str] = ("modis_lai",),
    **options: Any,
) -> SampleStore:
    """Open a sample store: the existing one `store`, or that at `out`, which is built first unless it is there and up to date.

    Parameters
    ----------
    catalog, root, sources
        As `open_scenes_of`.
    out, store : path-like
        ``name.zarr``.
    optional : iterable of str
        Sources that a sample may lack.
    **options
        Of `build_matchups`: ``anchor``, ``crop``, ``workers``, …
    """
    if store:
        return SampleStore(store)
    wanted, shown = list(SOURCES if sources is None else sources), {}

    def tell(source: str, done: int, total: int) -> None:
        shown.setdefault(source, Progress(f"match-ups, {source}", total)).update(done)
        if done == total:
            shown[source].close()

    scenes = open_scenes_of(catalog, root, wanted)
    return build_matchups(
        catalog.open(_READINGS, root),
        scenes,
        out=out,
        sources=[one for one in wanted if isinstance(one, Source)],
        optional=[name for name in optional if name in scenes],
        land_cover=_land_cover(catalog, root),
        **{"progress": tell, **options},
    ).store


def _land_cover(catalog: Catalog, root: Path | None) -> Path | None:
    """The land-cover raster where the archive has one file of it; else sensors are stratified by the readings' archive."""
    try:
        files = list(catalog.resolve(_LAND_COVER, root))
    except CatalogError:
        return None
    return files[0] if len(files) == 1 else None


def folder_name(name: str) -> str:
    """Name of a row of a table as the name of a folder.

    Examples
    --------
    >>> folder_name("Sentinel-1 + DEM + SMAP")
    'sentinel_1_dem_smap'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def spread_samples(store: SampleStore, number: int = 6, *, split: str = "sensor", side: str = "test") -> np.ndarray:
    """Positions of samples of as many sensors as there are, from wet to dry: one of each `number` equal parts."""
    check_count("spread_samples", "number", number)
    positions = side_positions(store, split, side)
    order = positions[np.argsort(-store.labels()[positions], kind="stable")]
    rows, taken, chosen = store.sensor_rows(), set(), []
    for part in np.array_split(order, min(number, len(order))):
        middle = part[np.argsort(np.abs(np.arange(len(part)) - len(part) // 2), kind="stable")]
        new = next((one for one in middle if rows[one] not in taken), middle[0])
        taken.add(rows[new])
        chosen.append(int(new))
    return np.array(chosen)


def sample_images(store: SampleStore, number: int = 6, *, split: str = "sensor") -> dict[str, list[np.ndarray]]:
    """Images of test samples from wet to dry (`spread_samples`), as `smnb.plots.image_rows` takes them.

    By reading and date: natural colours, VV (dB), VH (dB), and soil as sand, silt and clay in red, green and blue; columns of
    sources that the store lacks are left out.
    """
    rows: dict[str, list[np.ndarray]] = {}
    for position in spread_samples(store, number, split=split):
        one, sample, images = np.array([position]), store.samples.iloc[position], []
        if "sentinel2" in store.sources:
            images.append(np.moveaxis(store.read("sentinel2", one, ("B4", "B3", "B2"))[0], 0, 2))
        if "sentinel1" in store.sources:
            radar = store.read("sentinel1", one, ("VV", "VH"))[0]
            images += [SOURCES["sentinel1"].denormalise(b, v) for b, v in zip(("VV", "VH"), radar, strict=True)]
        if "soilgrids" in store.sources:
            soil = store.read("soilgrids", one, ("sand", "silt", "clay"))[0]
            images.append(np.moveaxis((soil * 1.6).clip(0.0, 1.0), 0, 2))  # equal parts are a light grey
        rows[f"{sample['soil_moisture']:.3f} m³ m⁻³\n{sample['time']:%Y-%m-%d}"] = images
    return rows
