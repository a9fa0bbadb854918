"""Training with Lightning: seeds, devices, mixed precision, checkpoints, early stopping, and a resume that changes nothing.

- `config`: the settings, the device, the precision;
- `optimisers`: Adam, SGD, what weight decay draws in, schedules;
- `loading`: which samples make which step, and reading ahead;
- `fitting`: `fit` and what it leaves.
"""

from smnb.training.config import TrainingConfig, choose_device, choose_precision
from smnb.training.fitting import FitResult, fit, keep_freed_memory, state_folder

__all__ = [
    "FitResult",
    "TrainingConfig",
    "choose_device",
    "choose_precision",
    "fit",
    "keep_freed_memory",
    "state_folder",
]
