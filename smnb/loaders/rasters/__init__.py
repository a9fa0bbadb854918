"""Scenes on disk or behind STAC, from which windows and points are read: what images are matched with sensors from.

- `open_scenes`: GeoTIFF (one file a scene, or one a band), NetCDF and Zarr stacks to a `SceneIndex`;
- `open_stac_scenes`: the same from a STAC API or a static STAC catalog;
- `SceneIndex`: what there is, when and where, with nothing open; `SceneReader`: one scene, opened once for many reads.

`products` says what the numbers of known products mean; `options` checks what the catalog says of a source; `images`
(through GDAL), `arrays` (NetCDF, Zarr) and `stac` describe files; `opening` makes scenes of them, `reader` reads, and
`placing` puts a raster's cells on a window's by rasterio's warp.
"""

from smnb.loaders.rasters.index import SceneIndex
from smnb.loaders.rasters.opening import open_scenes
from smnb.loaders.rasters.reader import SceneReader
from smnb.loaders.rasters.stac import open_stac_scenes

__all__ = ["SceneIndex", "SceneReader", "open_scenes", "open_stac_scenes"]
