"""Optimisers, what they draw in, and the schedules of the learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch

from smnb.training.config import TrainingConfig


def parameter_groups(module: torch.nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Parameters by weight decay: one group where it is for all or none, else those that it draws in and the others.

    The others are biases, norms and depthwise convolutions.
    """
    everything = config.optimizer != "sgd" if config.decay_norms is None else config.decay_norms
    if everything or config.weight_decay == 0.0:
        return [{"params": list(module.parameters()), "weight_decay": config.weight_decay}]
    layers = [m for m in module.modules() if isinstance(m, torch.nn.Linear | torch.nn.modules.conv._ConvNd)]
    dense = [m for m in layers if getattr(m, "groups", 1) == 1 or m.groups != m.in_channels]
    penalised = {id(m.weight) for m in dense}
    groups = ([p for p in module.parameters() if (id(p) in penalised) == which] for which in (True, False))
    decays = zip(groups, (config.weight_decay, 0.0), strict=True)
    return [{"params": group, "weight_decay": decay} for group, decay in decays if group]


def configure_optimizer(module: torch.nn.Module, config: TrainingConfig, epochs: int, steps: int) -> dict[str, Any]:
    """Build the optimiser and its schedule, of these `epochs` and `steps` in all, as Lightning takes them."""
    groups = parameter_groups(module, config)
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    else:
        optimizer = torch.optim.Adam(groups, lr=config.learning_rate)
    if config.schedule == "constant":
        return {"optimizer": optimizer}
    if config.schedule == "cosine":
        factor, interval = (lambda epoch: 0.5 * (1.0 + math.cos(math.pi * min(epoch, epochs) / epochs))), "epoch"
    else:
        factor, interval = (lambda step: (1.0 - min(step, steps) / steps) ** config.power), "step"
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": interval}}
