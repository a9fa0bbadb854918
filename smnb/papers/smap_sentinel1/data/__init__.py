"""Samples of the 1 km fusion: from SMAP, Sentinel-1 and in-situ readings to batches, split by sensors.

- `opening`: the products of each place through the catalog;
- `in_situ`: readings to 1 km pixels;
- `matching`: the products of a place, on one grid and at one time;
- `samples`: patches with inputs, targets and masks, and what was left out;
- `splitting`: which sensors train, and which patches;
- `batches`: scaling, and batches for `smnb.training.losses.fusion_loss`.
"""

from smnb.papers.smap_sentinel1.data.batches import FusionDataset, FusionScaler
from smnb.papers.smap_sentinel1.data.in_situ import PAPER_INSTRUMENT, PAPER_NETWORKS, select_sensors
from smnb.papers.smap_sentinel1.data.matching import SceneProducts
from smnb.papers.smap_sentinel1.data.opening import FUSION_IDS, open_fusion_scenes, parse_places
from smnb.papers.smap_sentinel1.data.samples import CHANNELS, FusionSamples
from smnb.papers.smap_sentinel1.data.splitting import FusionSplit, leave_scenes_out, split_sensors

__all__ = [
    "CHANNELS",
    "FUSION_IDS",
    "PAPER_INSTRUMENT",
    "PAPER_NETWORKS",
    "FusionDataset",
    "FusionSamples",
    "FusionScaler",
    "FusionSplit",
    "SceneProducts",
    "leave_scenes_out",
    "open_fusion_scenes",
    "parse_places",
    "select_sensors",
    "split_sensors",
]
