"""Tsagkatakis, Moghaddam and Tsakalides: SMAP and Sentinel-1 fused at 1 km.

`open_fusion_scenes` reads an archive and `FusionSamples` cuts patches; `split_sensors` or `leave_scenes_out` decide who trains;
`fusion_training` is what `smnb.training.train` takes; `fusion_estimates` and the scores compare with the products.
`open_cell_records` opens real cells, which `cell_products` makes places of and `real_tables` scores.
"""

from smnb.papers.smap_sentinel1.experiment import (
    PRODUCT,
    fusion_estimates,
    input_names,
    patch_fields,
    reference_maps,
    score_at_sensors,
    score_everywhere,
)
from smnb.papers.smap_sentinel1.opening import FUSION_IDS, PLACES, open_fusion_scenes, parse_places
from smnb.papers.smap_sentinel1.real_cells import CELL_IDS, cell_products, open_cell_records, real_tables
from smnb.papers.smap_sentinel1.samples import FusionSamples
from smnb.papers.smap_sentinel1.training import fusion_training, leave_scenes_out, split_sensors

__all__ = [
    "CELL_IDS",
    "FUSION_IDS",
    "PLACES",
    "PRODUCT",
    "FusionSamples",
    "cell_products",
    "fusion_estimates",
    "fusion_training",
    "input_names",
    "leave_scenes_out",
    "open_cell_records",
    "open_fusion_scenes",
    "parse_places",
    "patch_fields",
    "real_tables",
    "reference_maps",
    "score_at_sensors",
    "score_everywhere",
    "split_sensors",
]
