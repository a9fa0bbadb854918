"""One `train` for every network: seeds, devices, checkpoints, and a resume that changes nothing.

- `train` takes a network by name or any `torch.nn.Module`, and `Samples`; it gives a `Trained`;
- `save`, `load`: checkpoints without pickles;
- `TrainingConfig`: optimiser, schedule, steps, device, precision;
- `progress`: how far something has come.
"""

from smnb.progress import progress
from smnb.training.config import BatchDataset, TrainingConfig, choose_device, choose_precision
from smnb.training.fitting import fit
from smnb.training.trained import MinMaxScaler, Trained, load, save
from smnb.training.training import Samples, train

__all__ = [
    "BatchDataset",
    "MinMaxScaler",
    "Samples",
    "Trained",
    "TrainingConfig",
    "choose_device",
    "choose_precision",
    "fit",
    "load",
    "progress",
    "save",
    "train",
]
