"""Checkpoints of the multi-source network: weights, and what it has to be fed with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from smnb.contract import FormatError
from smnb.papers.batchu2023.data import InputSet
from smnb.papers.batchu2023.normalisation import COARSE_SOURCES, INDEX_RANGES, LOG_STATISTICS, RANGES
from smnb.training.checkpoints import LoadedModel, load_model, save_model
from smnb.training.scaling import MinMaxScaler

_WHO = "load_multisource"
NAME = "multisource"


def normalisation_of(inputs: InputSet) -> dict[str, list[Any]]:
    """How each channel is scaled from native units, as `batchu2023.normalisation` does it now: method and its two constants."""
    found: dict[str, list[Any]] = {}
    for channel in inputs.channels:
        source, band = channel.split(":")
        if source == "sentinel2" and band not in INDEX_RANGES:
            found[channel] = ["log-sigmoid", *LOG_STATISTICS[band]]
        else:
            limits = INDEX_RANGES[band] if source == "sentinel2" else RANGES[source][band]
            found[channel] = ["linear", *limits]
    return found


def _door(inputs: InputSet) -> MinMaxScaler:
    """From stored values to the network's: images of [0, 1] to 2 x - 1, missing 0; coarse products as they are."""
    coarse = [channel.split(":")[0] in COARSE_SOURCES for channel in inputs.channels]
    return MinMaxScaler(tuple(0.0 if one else 0.5 for one in coarse), (1.0,) * len(coarse), (0.0,) * len(coarse))


def save_multisource(
    path: str | os.PathLike[str],
    model: torch.nn.Module,
    inputs: InputSet,
    *,
    crop: int,
    resolution: float = 10.0,
    low_resolution: float = 160.0,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Save the network as ``path.safetensors`` and ``path.json``, with its inputs, crop and normalisation.

    Parameters
    ----------
    path : path-like
    model : MultiSourceNet
    inputs : InputSet
    crop : int
        Side of the high images, pixels.
    resolution, low_resolution : float
        Metres a pixel.
    training : mapping, optional
        Data, split, seed, scores: whatever belongs on the model's card (JSON).

    Returns
    -------
    Path
        Of the safetensors file.
    """
    card = {
        **(training or {}),
        "inputs": inputs.to_dict(),
        "crop": int(crop),
        "resolution_m": float(resolution),
        "low_resolution_m": float(low_resolution),
        "normalisation": normalisation_of(inputs),
    }
    return save_model(
        path,
        model,
        name=NAME,
        input_scaler=_door(inputs),
        target_scaler=MinMaxScaler((0.0,), (1.0,), (0.0,)),
        channels=inputs.channels,
        training=card,
    )


def inputs_of(loaded: LoadedModel) -> InputSet:
    """Inputs that a checkpoint was trained on."""
    return InputSet.from_dict(loaded.card["training"]["inputs"])


def load_multisource(
    path: str | os.PathLike[str], *, inputs: InputSet | None = None, crop: int | None = None
) -> LoadedModel:
    """Load what `save_multisource` wrote.

    Parameters
    ----------
    path : path-like
        Either file, or their common stem.
    inputs : InputSet, optional
        What the caller will feed; other inputs than the checkpoint's are an error.
    crop : int, optional
        Side of the images that the caller will feed, likewise.

    Raises
    ------
    FormatError
        If it is another network's checkpoint, one for other inputs, another crop or another normalisation, or damaged.
    """
    loaded = load_model(path)
    name, training = loaded.card["model"], loaded.card["training"]
    if name != NAME or "inputs" not in training:
        raise FormatError(_WHO, f"{Path(path).name} is another network's checkpoint", got=name, expected=NAME)
    own = inputs_of(loaded)
    if inputs is not None and inputs != own:
        extra = [one for one in inputs.channels if one not in own.channels]
        lacking = [one for one in own.channels if one not in inputs.channels]
        raise FormatError(
            _WHO,
            f"{Path(path).name} is a checkpoint for other inputs",
            got=list(inputs.channels),
            expected=list(own.channels),
            next_step=f"It does not know {extra or 'anything more'} and needs {lacking or 'nothing else'}",
        )
    if crop is not None and crop != training["crop"]:
        raise FormatError(
            _WHO,
            f"{Path(path).name} was trained on images of another size",
            got=crop,
            expected=training["crop"],
            next_step="Cut the images to the checkpoint's size",
        )
    if training["normalisation"] != normalisation_of(own):
        changed = [
            name for name, value in normalisation_of(own).items() if training["normalisation"].get(name) != value
        ]
        raise FormatError(
            _WHO, f"{Path(path).name} was trained on other normalisations", got=changed, next_step="Train it again"
        )
    return loaded
