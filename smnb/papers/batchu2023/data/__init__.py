"""What the multi-source network is trained on: channels, augmentation, and batches out of a sample store.

- `channels`: the names of channels, `InputSet`, and the sets of the paper's tables;
- `augmentation`: rotations, flips and shears about the centre (Table 6);
- `batches`: `MultiSourceDataset`.

References
----------
Batchu et al. (2022), arXiv:2206.09649.
"""

from smnb.papers.batchu2023.data.augmentation import Augmentation, warp
from smnb.papers.batchu2023.data.batches import (
    SIDES,
    MultiSourceDataset,
    complete_samples,
    network_inputs,
    side_positions,
)
from smnb.papers.batchu2023.data.channels import (
    COARSE_CHANNELS,
    FULL_MODEL,
    HIGH_CHANNELS,
    LOW_CHANNELS,
    PAPER_ROWS,
    PRODUCTS,
    SOURCE_SETS,
    TABLE_18_EVI_NDVI,
    TABLE_18_LAI,
    InputSet,
    channel_source,
)

__all__ = [
    "COARSE_CHANNELS",
    "FULL_MODEL",
    "HIGH_CHANNELS",
    "LOW_CHANNELS",
    "PAPER_ROWS",
    "PRODUCTS",
    "SIDES",
    "SOURCE_SETS",
    "TABLE_18_EVI_NDVI",
    "TABLE_18_LAI",
    "Augmentation",
    "InputSet",
    "MultiSourceDataset",
    "channel_source",
    "complete_samples",
    "network_inputs",
    "side_positions",
    "warp",
]
