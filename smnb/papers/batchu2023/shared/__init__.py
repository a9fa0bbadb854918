"""Maps of soil moisture at 320 m: images of a tile, and the network over all of its cells.

- `reading`: the images of a tile at one time, out of the scenes of each source;
- `mapping`: window by window, or from features computed once a tile;
- `result`: the map as a Dataset under the contract, and on disk.
"""

from smnb.papers.batchu2023.shared.mapping import METHODS, MapGeometry, TileImages, map_tile
from smnb.papers.batchu2023.shared.reading import Tile, read_tile
from smnb.papers.batchu2023.shared.result import tile_map, write_tile_map

__all__ = ["METHODS", "MapGeometry", "Tile", "TileImages", "map_tile", "read_tile", "tile_map", "write_tile_map"]
