"""What a training leaves, and what a checkpoint gives back: the network with its scaling, its card and its losses.

A checkpoint has no pickles: ``name.safetensors`` holds the weights, and ``name.json``, its card, the network's name and settings,
the scaling of inputs and target, and what it was trained on.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import JsonValue
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes

from smnb.contract import ContractError, FormatError, ParameterError, foreign, plain
from smnb.files import Kept, atomic_set, finish_set, held_output, read_json, sealed, sha256_of
from smnb.models import MODELS, build_model, config_of, model_name
from smnb.progress import progress
from smnb.training.config import BatchDataset, choose_device, choose_precision, evaluation_loader

_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class MinMaxScaler:
    """Linear scaling of each channel to [0, 1] by the extremes of the training data, or by robust ones.

    Parameters
    ----------
    minimum, maximum : tuple of float
        One value a channel, in the channel's units.
    fill : tuple of float
        The training mean of each channel after scaling: what a missing pixel of an image is replaced by.
    clip : bool
        Whether values outside [minimum, maximum] become 0 or 1.
    """

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    fill: tuple[float, ...]
    clip: bool = False

    def __post_init__(self) -> None:
        ends = np.array([self.minimum, self.maximum, self.fill], dtype="float64")  # other lengths are a ValueError
        if not np.isfinite(ends).all() or (ends[0] >= ends[1]).any():
            got, expected = (self.minimum, self.maximum), plain("finite numbers, each minimum below its maximum")
            raise ContractError("MinMaxScaler", "the scaling is none", got=got, expected=expected)

    @classmethod
    def fit(
        cls, values: np.ndarray, *, names: Sequence[str] | None = None, tail: float = 0.0, clip: bool = False
    ) -> MinMaxScaler:
        """Fit on training values ``(..., channel)``; NaN is ignored. A channel without spread is a `ContractError`, by its name.

        `tail` is the share of values beyond each end of the scale: 0 takes the extremes, 0.001 the 0.1 and 99.9 per cent points,
        so that a single odd pixel does not squeeze all others together.
        """
        flat = values.reshape(-1, values.shape[-1])
        low, high, mean = (np.empty(flat.shape[1]) for _ in range(3))
        for channel in range(flat.shape[1]):
            column = flat[:, channel]
            column = column[np.isfinite(column)]
            name = names[channel] if names is not None else f"channel {channel}"
            if column.size == 0 or column.min() == column.max():
                what, got = f"{name!r} has no spread in the training data", plain(f"{column.size} valid values")
                step = "Check that the training days are present and not fully masked"
                expected = plain("at least two different values")
                raise ContractError("MinMaxScaler.fit", what, got=got, expected=expected, next_step=step)
            ends = np.quantile(column, (tail, 1.0 - tail)) if tail else (column.min(), column.max())
            low[channel], high[channel] = ends
            mean[channel] = (column.mean(dtype="float64") - low[channel]) / (high[channel] - low[channel])
        return cls(tuple(low.tolist()), tuple(high.tolist()), tuple(mean.tolist()), clip)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Scale ``(..., channel)`` values in native units to float32 in about [0, 1]; NaN stays NaN."""
        low = np.asarray(self.minimum, dtype="float32")
        span = np.asarray(self.maximum, dtype="float32") - low
        scaled = (np.asarray(values, dtype="float32") - low) / span
        return np.clip(scaled, 0.0, 1.0, out=scaled) if self.clip else scaled

    def inverse(self, scaled: np.ndarray) -> np.ndarray:
        """Turn scaled ``(..., channel)`` values back to native units."""
        low = np.asarray(self.minimum, dtype="float32")
        return np.asarray(scaled, dtype="float32") * (np.asarray(self.maximum, dtype="float32") - low) + low

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON."""
        return {name: list(getattr(self, name)) for name in ("minimum", "maximum", "fill")} | {"clip": self.clip}


@dataclass(frozen=True)
class Trained:
    """A trained network, and all that is known of it.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode on the CPU.
    card : dict
        ``model`` (its name or ``module:Class``), ``config``, ``channels``, the scalers, ``target`` with its units,
        ``training`` (data, seed, epochs, losses), ``weights_sha256``.
    input_scaler, target_scaler : MinMaxScaler or None
        None where the network takes, or gives, native units.
    history : DataFrame
        One row an epoch (or a round of a training by steps): ``epoch``, ``train_loss``, ``validation_loss``,
        ``learning_rate`` at its start, ``seconds``. The losses are in scaled units.
    samples_per_second, data_wait_fraction : float
        Throughput of this call's epochs without validation, patches or images, and the share of the time between the end
        of a step and the arrival of the next batch. NaN for what was loaded.
    details : dict
        Device, precision, steps, and whether the training was resumed.
    """

    model: torch.nn.Module
    card: dict[str, Any]
    input_scaler: MinMaxScaler | None = None
    target_scaler: MinMaxScaler | None = None
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    samples_per_second: float = math.nan
    data_wait_fraction: float = math.nan
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights the network has."""
        return int(self.card["training"]["best_epoch"])

    @property
    def summary(self) -> dict[str, float]:
        """Facts of the training for a table or a run's record; speeds are NaN for what was loaded."""
        return {
            "epochs_run": len(self.history),
            "best_epoch": self.best_epoch,
            "best_validation_loss": float(self.history["validation_loss"].min()),
            "samples_per_second": self.samples_per_second,
            "data_wait_fraction": self.data_wait_fraction,
        }

    @torch.inference_mode()
    def predict(self, data: BatchDataset, *, device: str = "auto", precision: str = "32-true") -> np.ndarray:
        """Predict all samples of a data set, ``(sample, ...)`` float32, in the target's units: m3 m-3 for soil moisture.

        Parameters
        ----------
        data : BatchDataset
            Its batches' inputs are what the network takes; what follows them is not looked at.
        device, precision : str
            As `TrainingConfig`.
        """
        at = choose_device(device)
        dtype = _DTYPES.get(choose_precision(precision, at))
        model = self.model.to(at).eval()
        parts = []
        for batch in progress(evaluation_loader(data), f"predicting with {self.card['model']}"):
            inputs = batch[0] if isinstance(batch[0], tuple | list) else (batch[0],)
            with torch.autocast(at.type, dtype=dtype, enabled=dtype is not None):
                parts.append(model(*(one.to(at) for one in inputs)).float().cpu())
        self.model.cpu()
        scaled = torch.cat(parts).numpy() if parts else np.empty(0, "float32")
        return scaled if self.target_scaler is None else self.target_scaler.inverse(scaled[..., None])[..., 0]


def open_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a file."""
    step = "Delete a damaged training state to start again"
    door = foreign("checkpoint", f"{path} cannot be read as safetensors", next_step=step)
    with door, safe_open(path, framework="pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata() or {}  # noqa: SIM118


class _Card(Kept):
    """What a card holds."""

    format: Literal[2]
    model: str
    config: dict[str, Any]
    channels: list[str]
    input_scaler: MinMaxScaler | None
    target_scaler: MinMaxScaler | None
    target: dict[str, str]
    training: dict[str, JsonValue]
    history: list[dict[str, float | None]]
    weights_sha256: str

    def as_dict(self) -> dict[str, Any]:
        """As it was written."""
        return self.model_dump(mode="json", exclude_unset=True)


def read_card(path: Path) -> _Card:
    """The card beside some weights, checked; `FormatError` if it is none, or its parts do not fit each other."""
    path = path.with_suffix(".json")
    step = "Take the .json that smnb wrote with the weights"
    card = read_json(path, _Card, "a model card", next_step=step, by_hand=True)
    sizes = {"channels": len(card.channels), "input_scaler": len(card.input_scaler.minimum) if card.input_scaler else 0}
    if all(sizes.values()) and len(set(sizes.values())) > 1:
        raise FormatError("load", f"{path} has other channels than scalings", got=sizes)
    return card


def save(
    path: str | os.PathLike[str],
    model: torch.nn.Module,
    *,
    channels: Sequence[str] = (),
    input_scaler: MinMaxScaler | None = None,
    target_scaler: MinMaxScaler | None = None,
    training: Mapping[str, Any] | None = None,
    history: pd.DataFrame | None = None,
) -> Path:
    """Save any network as ``path.safetensors`` and ``path.json``, its card: both, or neither; return the former's path.

    Parameters
    ----------
    path : path-like
        With or without the suffix.
    model : torch.nn.Module
        Its ``config`` (a dataclass or mapping), where it has one, is kept so that `load` can build it again.
    channels : sequence of str
        The input channels in their order.
    input_scaler, target_scaler : MinMaxScaler, optional
        None where the network takes and gives native units.
    training, history
        Data, split, seed, scores: whatever belongs on the model's card (JSON); losses by epoch.

    Raises
    ------
    FormatError
        If the card has what JSON has not, or the network a state that is no tensor. No file is written then.
    """
    weights = Path(path).with_suffix(".safetensors")
    state = model.state_dict()
    if odd := [key for key, value in state.items() if not isinstance(value, torch.Tensor)]:
        raise FormatError("save", "the network's state is more than tensors", got=odd)
    # cloned, as weights that two layers share would be refused
    content = safetensors_bytes({key: value.detach().cpu().clone().contiguous() for key, value in state.items()})
    rows = [] if history is None else history.astype(object).where(history.notna(), None).to_dict("records")
    card = {
        "format": 2,
        "model": model_name(model),
        "config": config_of(model),
        "channels": list(channels),
        "input_scaler": input_scaler and input_scaler.to_dict(),
        "target_scaler": target_scaler and target_scaler.to_dict(),
        "target": {"name": "soil_moisture", "units": "m3 m-3"},
        "training": dict(training or {}),
        "history": rows,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    try:
        text = sealed(json.dumps(card, indent=2, allow_nan=False))
    except (TypeError, ValueError) as error:
        next_step = "Give numbers, texts and lists of them"
        raise FormatError("save", f"the card cannot be written as JSON ({error})", next_step=next_step) from error
    with held_output("save", weights, patience=60), atomic_set(weights.parent, weights.name) as made:
        (made / weights.name).write_bytes(content)
        (made / weights.name).with_suffix(".json").write_text(text, encoding="utf-8")
    return weights


def load(
    path: str | os.PathLike[str],
    *,
    model: torch.nn.Module | type[torch.nn.Module] | None = None,
    trust: str | None = None,
    channels: Sequence[str] | None = None,
) -> Trained:
    """Load what `save` wrote.

    Networks of smnb and registered ones (`smnb.models.register_model`) are built by name. A checkpoint never imports anything
    else by itself: a class of the user's is passed, or its import path is named.

    Parameters
    ----------
    path : path-like
        Either file, or their common stem.
    model : torch.nn.Module or class, optional
        The network, whose weights are replaced, or its class, which is built with the card's settings.
    trust, channels
        ``module:Class`` that may be imported, as the caller trusts that module; the channels that the caller will feed: others
        than the checkpoint's are an error.

    Raises
    ------
    FormatError
        If a file is missing or damaged, or weights, card, network and channels do not belong together.
    """
    weights = Path(path).with_suffix(".safetensors")
    card_path = weights.with_suffix(".json")
    finish_set(weights.parent, weights.name)

    def refuse(what: str, step: str | None = None, **facts: Any) -> FormatError:
        return FormatError("load", what, next_step=step, **facts)

    for needed in (weights, card_path):
        if not needed.is_file():
            raise refuse(f"{needed} is missing", "A checkpoint is a .safetensors with its .json beside it")
    checked = read_card(weights)
    if checked.weights_sha256 != (digest := sha256_of(weights)):
        what, step = f"{weights} does not belong to its card", "Copy both files of one checkpoint together"
        raise refuse(what, step, got=digest[:12], expected=checked.weights_sha256[:12])
    if channels is not None and list(channels) != checked.channels:
        what = f"{weights.name} was trained on other channels"
        raise refuse(what, got=list(channels), expected=checked.channels)
    name = checked.model
    if model is None and not (name in MODELS or name.startswith("smnb.") or name == trust):
        what = f"{weights.name} holds a network of its own, which is not imported unasked"
        step = f"Pass the network, load(path, model=Net()), or name its class if you trust it, trust={name!r}"
        raise refuse(what, step, got=name, expected=trust if trust else plain("a network of smnb"))
    built = f"the network of {card_path.name} cannot be built"
    try:
        with foreign("load", built):
            network = build_model(name if model is None else model, checked.config)
    except ParameterError as error:
        raise refuse(f"{built}: {error}", "Pass it, load(path, model=Net())") from error
    what = f"the weights of {weights.name} do not fit {type(network).__name__}"
    with foreign("load", what, next_step="Build the network as it was trained"):
        network.load_state_dict(open_safetensors(weights)[0])
    history = pd.DataFrame(checked.history).astype("float64")
    return Trained(network.eval(), checked.as_dict(), checked.input_scaler, checked.target_scaler, history)
