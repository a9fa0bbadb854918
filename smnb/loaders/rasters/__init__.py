"""Scenes on disk or behind STAC: windows and points of them, and Sentinel-1 averaged onto a coarser grid.

- `open_scenes`: GeoTIFF (one file a scene, or one a band), NetCDF and Zarr stacks to a `SceneIndex`;
- `open_stac_scenes`: the same from a STAC API or a static STAC catalog;
- `SceneIndex`: what there is, when and where, with nothing open; `SceneReader`: one scene, opened once for many reads;
- `open_sentinel1`: Sentinel-1 GRD scenes to a Dataset of ``sigma0`` in dB on an EASE-Grid, regular or projected grid.

`products` says what the numbers of known products mean; `options` checks what the catalog says of a source; `images`
(through GDAL), `arrays` (NetCDF, Zarr) and `stac` describe files; `opening` makes scenes of them, `scenes` reads them, and
`placing` puts a raster's cells on a window's by rasterio's warp. `sentinel1` finds scenes of Sentinel-1 by the names of
files and bands, `backscatter` makes linear power of their numbers, and `averaging` adds it up by cells.
"""

from smnb.loaders.rasters.opening import open_scenes
from smnb.loaders.rasters.scenes import SceneIndex, SceneReader
from smnb.loaders.rasters.sentinel1 import open_sentinel1
from smnb.loaders.rasters.stac import open_stac_scenes

__all__ = ["SceneIndex", "SceneReader", "open_scenes", "open_sentinel1", "open_stac_scenes"]
