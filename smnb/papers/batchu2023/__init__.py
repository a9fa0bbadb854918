"""Many sources fused at in-situ sensors: training, checkpoints, references, scores.

- `recipe`: the paper's training (Table 7), its sweep, and the choice among the members;
- `experiment`: `train_multisource`, and estimates at samples;
- `checkpoint`: weights with the inputs, crop and normalisation that they need;
- `references`: products as they are, the season's mean, a linear model;
- `scoring`: results like the paper's Table 9, and paired differences;
- `networks`: scores by sensor network beside the published works;
- `opening`, `pictures`, `maps`: scenes and the sample store through the catalog, what figures show, maps of a place.

References
----------
Batchu, Nearing, Gulshan 2023, J. Hydrometeorology 24, 1789-1823, doi:10.1175/JHM-D-22-0118.1.
"""

from smnb.papers.batchu2023.ablation import STUDIES, Ablation, Study, as_published
from smnb.papers.batchu2023.checkpoint import inputs_of, load_multisource, normalisation_of, save_multisource
from smnb.papers.batchu2023.experiment import (
    MultiSourceRun,
    multisource_config,
    predict_at_sensors,
    predict_multisource,
    train_multisource,
)
from smnb.papers.batchu2023.maps import map_scores, read_tiles, tile_images, tile_truth, used_images
from smnb.papers.batchu2023.networks import (
    BENCHMARK_TABLES,
    benchmark_tables,
    comparable,
    network_scores,
    networks_beside,
)
from smnb.papers.batchu2023.opening import MULTISOURCE_IDS, matchup_counts, open_matchups, open_scenes_of
from smnb.papers.batchu2023.pictures import folder_name, natural_colours, sample_images, spread_samples
from smnb.papers.batchu2023.recipe import HUBER_DELTA, PAPER_SWEEP, best_member, encoder_settings, paper_training
from smnb.papers.batchu2023.references import (
    CLIMATOLOGY,
    RIDGE,
    centre_values,
    climatology_predictions,
    prediction_table,
    product_predictions,
    reference_predictions,
    ridge_predictions,
)
from smnb.papers.batchu2023.scoring import SCORES, paired_differences, printed_results, results_table

__all__ = [
    "BENCHMARK_TABLES",
    "CLIMATOLOGY",
    "HUBER_DELTA",
    "MULTISOURCE_IDS",
    "PAPER_SWEEP",
    "RIDGE",
    "SCORES",
    "STUDIES",
    "Ablation",
    "MultiSourceRun",
    "Study",
    "as_published",
    "benchmark_tables",
    "best_member",
    "centre_values",
    "climatology_predictions",
    "comparable",
    "encoder_settings",
    "folder_name",
    "inputs_of",
    "load_multisource",
    "map_scores",
    "matchup_counts",
    "multisource_config",
    "natural_colours",
    "network_scores",
    "networks_beside",
    "normalisation_of",
    "open_matchups",
    "open_scenes_of",
    "paired_differences",
    "paper_training",
    "predict_at_sensors",
    "predict_multisource",
    "prediction_table",
    "printed_results",
    "product_predictions",
    "read_tiles",
    "reference_predictions",
    "results_table",
    "ridge_predictions",
    "sample_images",
    "save_multisource",
    "spread_samples",
    "tile_images",
    "tile_truth",
    "train_multisource",
    "used_images",
]
