"""Large maps: a fully convolutional network applied tile by tile, with its receptive field as the halo.

- `forms`: what a tile is given to: the folded fusion network, or any network that keeps an image's size;
- `tiles`: `tiled_map`; `reading` its inputs, in bands; `folder`, the finished tiles;
- `parallel`: the one executor, of maps, match-ups and sweeps;
- `writing`: the finished map as CF-Zarr or Cloud-Optimised GeoTIFF;
- `checkpoint`: `map_checkpoint`, a checkpoint applied to a file (``smnb map``). It is not imported here, for it brings
  Lightning, which a Dask worker should not have to load.
"""

from smnb.maps.forms import TileForm, receptive_radius, tile_form
from smnb.maps.parallel import Workers, open_workers
from smnb.maps.tiles import MapResult, tiled_map

__all__ = ["MapResult", "TileForm", "Workers", "open_workers", "receptive_radius", "tile_form", "tiled_map"]
