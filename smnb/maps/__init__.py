"""Maps: a network at every cell of an image, however large, and the map on disk.

- `tiles`: `tiled_map`, in tiles that a killed call goes on from, and `mapped_image` in memory;
- `forms`: what a tile is given to (a network with its receptive field as the halo), and what it reads;
- `checkpoint`: `map_checkpoint`, a trained network applied to a file (``smnb map``);
- `writing`: `write_map`, as CF-NetCDF, CF-Zarr or Cloud-Optimised GeoTIFF;
- `parallel`: the one executor: threads, a local Dask cluster, or any scheduler.
"""

import importlib

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


def __getattr__(name: str) -> object:
    """A name of the list, from the first module that has it: processes that only need workers load no torch."""
    if name in __all__:
        for module in ("parallel", "writing", "forms", "tiles", "checkpoint"):
            if hasattr(home := importlib.import_module(f"{__name__}.{module}"), name):
                return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
