"""Many sources fused at in-situ sensors: the system of Batchu et al., from readings and scenes to maps at 320 m.

- `sources`: `Source`, one object for all that is known of a source; an own source is one more of them;
- `join`, `cutting`, `matchups`: which scene a reading meets, its cut, the store of all of them;
- `store`, `store_writing`: the sample store; `released`: the paper's public records as one;
- `inputs`, `batches`: what a network is given;
- `experiment`, `scoring`: training, the studies of the sources, tables beside the paper's;
- `tiles`, `dense`: images of a square as training saw them, and their map;
- `opening`: all of it through the catalog, and what figures show.

References
----------
Batchu, Nearing, Gulshan 2023, J. Hydrometeorology 24, 1789-1823, doi:10.1175/JHM-D-22-0118.1.
"""

from smnb.papers.batchu2023.batches import MultiSourceDataset
from smnb.papers.batchu2023.dense import map_scores, tile_map, tile_truth
from smnb.papers.batchu2023.experiment import (
    Ablation,
    encoder_settings,
    paper_training,
    predict_sides,
    references_at_sensors,
    training_samples,
)
from smnb.papers.batchu2023.inputs import FULL_MODEL, PAPER_ROWS, PRODUCTS, InputSet, inputs_of
from smnb.papers.batchu2023.matchups import build_matchups
from smnb.papers.batchu2023.opening import MULTISOURCE_IDS, folder_name, open_matchups, open_scenes_of, sample_images
from smnb.papers.batchu2023.scoring import (
    network_scores,
    networks_beside,
    paired_differences,
    printed_results,
    results_table,
)
from smnb.papers.batchu2023.sources import SOURCES, Source
from smnb.papers.batchu2023.tiles import read_tiles, tile_images

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
