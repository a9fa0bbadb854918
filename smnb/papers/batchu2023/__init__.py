"""Many sources fused at in-situ sensors: the system of Batchu et al., from readings and scenes to maps at 320 m.

- `sources`: `Source`, one object for all that is known of a source; an own source is one more of them;
- `join`, `cutting`, `matchups`: which scene a reading meets, its cut, the store of all of them; `sensor_splits`;
- `store`, `store_writing`: the sample store; `released`: the paper's public records as one;
- `inputs`, `batches`, `augmentation`: what a network is given;
- `experiment`, `ablation`, `scoring`: training, the studies of the sources, tables beside the paper's;
- `tiles`, `dense`: images of a square as training saw them, and their map;
- `opening`: all of it through the catalog, and what figures show.

References
----------
Batchu, Nearing, Gulshan 2023, J. Hydrometeorology 24, 1789-1823, doi:10.1175/JHM-D-22-0118.1.
"""

from smnb.papers.batchu2023.ablation import STUDIES, Ablation, as_published
from smnb.papers.batchu2023.batches import MultiSourceDataset, complete_samples, side_positions
from smnb.papers.batchu2023.dense import METHODS, map_scores, tile_map, tile_truth
from smnb.papers.batchu2023.experiment import (
    encoder_settings,
    paper_training,
    predict_at_sensors,
    predict_sides,
    product_predictions,
    references_at_sensors,
    training_samples,
)
from smnb.papers.batchu2023.inputs import FULL_MODEL, PAPER_ROWS, PRODUCTS, SOURCE_SETS, InputSet, inputs_of
from smnb.papers.batchu2023.matchups import build_matchups
from smnb.papers.batchu2023.opening import (
    MULTISOURCE_IDS,
    folder_name,
    matchup_counts,
    open_matchups,
    open_scenes_of,
    sample_images,
    spread_samples,
)
from smnb.papers.batchu2023.scoring import (
    network_scores,
    networks_beside,
    paired_differences,
    printed_results,
    results_table,
)
from smnb.papers.batchu2023.sources import SOURCES, Source
from smnb.papers.batchu2023.store import SampleStore
from smnb.papers.batchu2023.tiles import MapGeometry, read_tiles, tile_images

__all__ = [
    "FULL_MODEL",
    "METHODS",
    "MULTISOURCE_IDS",
    "PAPER_ROWS",
    "PRODUCTS",
    "SOURCES",
    "SOURCE_SETS",
    "STUDIES",
    "Ablation",
    "InputSet",
    "MapGeometry",
    "MultiSourceDataset",
    "SampleStore",
    "Source",
    "as_published",
    "build_matchups",
    "complete_samples",
    "encoder_settings",
    "folder_name",
    "inputs_of",
    "map_scores",
    "matchup_counts",
    "network_scores",
    "networks_beside",
    "open_matchups",
    "open_scenes_of",
    "paired_differences",
    "paper_training",
    "predict_at_sensors",
    "predict_sides",
    "printed_results",
    "product_predictions",
    "read_tiles",
    "references_at_sensors",
    "results_table",
    "sample_images",
    "side_positions",
    "spread_samples",
    "tile_images",
    "tile_map",
    "tile_truth",
    "training_samples",
]
