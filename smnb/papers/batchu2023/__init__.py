"""Many sources fused at in-situ sensors: the system of Batchu et al., from readings and scenes to maps at 320 m.

- `sources`: `Source`, one object for all that is known of a source; an own source is one more of them;
- `scenes`, `matchups`: which scene a reading meets, its cut, the store of all of them, also through the catalog;
- `store`: the sample store, read and written; `released`: the paper's public records as one;
- `inputs`, `batches`: what a network is given;
- `experiment`, `scoring`: training, the studies of the sources, tables beside the paper's and figures of samples;
- `tiles`: images of a square as training saw them, and their map.

Batchu, Nearing, Gulshan 2023, J. Hydrometeorology 24, 1789-1823, doi:10.1175/JHM-D-22-0118.1.
"""

import importlib

from smnb.papers.batchu2023.inputs import FULL_MODEL, PAPER_ROWS, PRODUCTS, InputSet, inputs_of
from smnb.papers.batchu2023.matchups import build_matchups, open_matchups
from smnb.papers.batchu2023.sources import MULTISOURCE_IDS, SOURCES, Source, open_scenes_of

__all__ = [
    "FULL_MODEL",
    "MULTISOURCE_IDS",
    "PAPER_ROWS",
    "PRODUCTS",
    "SOURCES",
    "Ablation",
    "InputSet",
    "MultiSourceDataset",
    "Source",
    "build_matchups",
    "encoder_settings",
    "folder_name",
    "inputs_of",
    "map_scores",
    "network_scores",
    "networks_beside",
    "open_matchups",
    "open_scenes_of",
    "paired_differences",
    "paper_training",
    "predict_sides",
    "printed_results",
    "read_tiles",
    "references_at_sensors",
    "results_table",
    "sample_images",
    "tile_images",
    "tile_map",
    "tile_truth",
    "training_samples",
]


def __getattr__(name: str) -> object:
    """The other names of the list, from the first module that has it: who only builds match-ups loads no torch."""
    if name in __all__:
        for module in ("scoring", "batches", "tiles", "experiment"):
            if hasattr(home := importlib.import_module(f"{__name__}.{module}"), name):
                return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
