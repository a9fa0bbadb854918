"""Maps: a network at every cell of an image, however large, and the map on disk.

- `tiles`: `tiled_map`, in tiles that a killed call goes on from, and `mapped_image` in memory; `inputs` and `folder`, what
  they read and what is finished;
- `forms`: what a tile is given to: a network with its receptive field as the halo;
- `checkpoint`: `map_checkpoint`, a trained network applied to a file (``smnb map``);
- `writing`: `write_map`, as CF-NetCDF, CF-Zarr or Cloud-Optimised GeoTIFF;
- `parallel`: the one executor: threads, a local Dask cluster, or any scheduler.
"""

from smnb.maps.checkpoint import map_checkpoint
from smnb.maps.forms import PatchForm, tile_form
from smnb.maps.parallel import open_workers
from smnb.maps.tiles import mapped_image, tiled_map
from smnb.maps.writing import soil_moisture_map, write_map

__all__ = [
    "PatchForm",
    "map_checkpoint",
    "mapped_image",
    "open_workers",
    "soil_moisture_map",
    "tile_form",
    "tiled_map",
    "write_map",
]
