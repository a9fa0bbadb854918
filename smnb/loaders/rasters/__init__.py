"""Scenes on disk or behind STAC: windows and points of them, and Sentinel-1 averaged onto a coarser grid.

`options` checks what the catalog says of a source, and says what the numbers of known products mean; `images` opens files;
`opening` and `stac` make scenes of them, `scenes` reads these, and `placing` puts a raster's cells on a window's. `acquisitions`
finds scenes of Sentinel-1 by the names of files and bands, `averaging` adds them up by cells.
"""

import importlib

from smnb.loaders.rasters.opening import open_scenes
from smnb.loaders.rasters.scenes import SceneIndex, SceneReader

__all__ = ["SceneIndex", "SceneReader", "open_scenes", "open_sentinel1", "open_stac_scenes"]


def __getattr__(name: str) -> object:
    """The other two when they are asked for: pystac and dask's arrays take seconds to import."""
    module = {"open_sentinel1": "sentinel1", "open_stac_scenes": "stac"}.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
