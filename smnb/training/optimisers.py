"""Optimisers, what they draw in, and the schedules of the learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch

from smnb.training.config import TrainingConfig


def _is_penalised(module: torch.nn.Module, name: str) -> bool:
    """Whether weight decay draws in a parameter: weights of linear layers and of convolutions that are not depthwise."""
    if name != "weight" or not isinstance(module, torch.nn.Linear | torch.nn.modules.conv._ConvNd):
        return False
    groups = getattr(module, "groups", 1)
    return groups == 1 or groups != module.in_channels


def parameter_groups(module: torch.nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Parameters by weight decay.

    Returns
    -------
    list of dict
        One group of all parameters where the decay is for all or for none; else those that it draws in and the others, which
        are biases, norms and depthwise convolutions.
    """
    everything = config.optimizer != "sgd" if config.decay_norms is None else config.decay_norms
    if everything or config.weight_decay == 0.0:
        return [{"params": list(module.parameters()), "weight_decay": config.weight_decay}]
    penalised = {
        id(parameter)
        for one in module.modules()
        for name, parameter in one.named_parameters(recurse=False)
        if _is_penalised(one, name)
    }
    groups = ([p for p in module.parameters() if (id(p) in penalised) == which] for which in (True, False))
    return [
        {"params": group, "weight_decay": decay}
        for group, decay in zip(groups, (config.weight_decay, 0.0), strict=True)
        if group
    ]


def configure_optimizer(module: torch.nn.Module, config: TrainingConfig, epochs: int, steps: int) -> dict[str, Any]:
    """Build the optimiser and its schedule, as Lightning takes them.

    Parameters
    ----------
    module : torch.nn.Module
    config : TrainingConfig
    epochs, steps : int
        Of the whole training: what the cosine and the polynomial schedule end with.
    """
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
