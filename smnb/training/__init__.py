"""One `train` for every network: seeds, devices, checkpoints, and a resume that changes nothing.

`train` takes a network by name or any `torch.nn.Module`, and `Samples`, and gives a `Trained`; `save` and `load` checkpoints
without pickles; `TrainingConfig` has optimiser, schedule, steps, device and precision.
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
