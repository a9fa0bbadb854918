"""Patches, scaling and splits: from gridded fields to what a patch network trains on.

The images are held once, scaled, filled and padded; a patch is an index ``(image, row, col)`` into them and is gathered
when a batch needs it. Nothing is ever copied out as a second array of patches: a day of 0.25° land holds about 300,000
overlapping 9×9×4 patches, 81 times the image.

- `scaling`: `MinMaxScaler`;
- `patches`: `PatchIndex`, `PatchStore`, where patches may be, and draws of them;
- `patch_tasks`: `PatchTask`, a retrieval whatever its data, and its `Fold`;
- `batches`: `BatchDataset`, what every training takes, and the order of its batches.
"""

from __future__ import annotations

from smnb.samples.batches import BatchDataset, PatchDataset, SeededBatchSampler
from smnb.samples.patch_tasks import Fold, PatchTask
from smnb.samples.patches import PatchIndex, PatchStore, draw_patches, eligible_centres, pad_image
from smnb.samples.scaling import MinMaxScaler

__all__ = [
    "BatchDataset",
    "Fold",
    "MinMaxScaler",
    "PatchDataset",
    "PatchIndex",
    "PatchStore",
    "PatchTask",
    "SeededBatchSampler",
    "draw_patches",
    "eligible_centres",
    "pad_image",
]
