"""AMSR-E brightness temperature to soil moisture by a network of patches (Hu, Xu and Yu 2018).

- `tasks`: patches and their draws; images, target and folds, of AMSR-E or the CONUS patches;
- `experiment`: samples of a fold, the SVR, reference rows, scores, maps.
"""

from smnb.papers.hu2018_amsre.experiment import (
    FoldData,
    day_maps,
    gains,
    map_by_patches,
    patch_references,
    score_predictions,
    train_svr,
)
from smnb.papers.hu2018_amsre.tasks import SOURCES, PatchTask, hidden_truth, open_task

__all__ = [
    "SOURCES",
    "FoldData",
    "PatchTask",
    "day_maps",
    "gains",
    "hidden_truth",
    "map_by_patches",
    "open_task",
    "patch_references",
    "score_predictions",
    "train_svr",
]
