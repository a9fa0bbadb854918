"""Checkpoints without pickles: tensors in safetensors, everything else as JSON.

Two kinds:

- a **model checkpoint** (`save_model`, `load_model`): ``name.safetensors`` with the weights and ``name.json`` with the
  network's name and sizes, the scaling of inputs and target, and what it was trained on;
- a **training state** (`SafetensorsCheckpointIO`): one safetensors file with weights, optimiser and loop state, from which
  Lightning resumes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from smnb.contract import FormatError
from smnb.files import sha256_of, write_bytes, write_json
from smnb.models import build_model
from smnb.training.scaling import MinMaxScaler

_TENSOR, _TUPLE, _PAIRS = "__tensor__", "__tuple__", "__pairs__"


def flatten_state(value: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """Replace every tensor of a nested state by a reference, collecting the tensors; the rest becomes JSON.

    Mappings with keys that are not strings (an optimiser's state is keyed by integers) and tuples keep their kind.
    """
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().cpu().clone().contiguous()
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        if all(isinstance(k, str) for k in value):
            return {k: flatten_state(v, tensors, f"{path}/{k}") for k, v in value.items()}
        return {_PAIRS: [[k, flatten_state(v, tensors, f"{path}/{k}")] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {_TUPLE: [flatten_state(v, tensors, f"{path}/{i}") for i, v in enumerate(value)]}
    if isinstance(value, list):
        return [flatten_state(v, tensors, f"{path}/{i}") for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise FormatError("checkpoint", f"state at {path!r} cannot be stored without a pickle", got=type(value).__name__)


def rebuild_state(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Undo `flatten_state`."""
    if isinstance(value, dict):
        if set(value) == {_TENSOR}:
            return tensors[value[_TENSOR]]
        if set(value) == {_TUPLE}:
            return tuple(rebuild_state(v, tensors) for v in value[_TUPLE])
        if set(value) == {_PAIRS}:
            return {k: rebuild_state(v, tensors) for k, v in value[_PAIRS]}
        return {k: rebuild_state(v, tensors) for k, v in value.items()}
    if isinstance(value, list):
        return [rebuild_state(v, tensors) for v in value]
    return value


def _open_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FormatError(
            "checkpoint",
            f"{path} cannot be read as safetensors ({error})",
            next_step="Check the path; a damaged training state can be deleted to start again",
        ) from error


class SafetensorsCheckpointIO(CheckpointIO):
    """Lightning's training state as one safetensors file, written beside and renamed into place."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a training state."""
        tensors: dict[str, torch.Tensor] = {}
        tree = flatten_state(checkpoint, tensors)
        write_bytes(path, safetensors_bytes(tensors, metadata={"tree": json.dumps(tree)}))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a training state."""
        tensors, metadata = _open_safetensors(Path(path))
        if "tree" not in metadata:
            raise FormatError("checkpoint", f"{path} is not a training state", expected="metadata 'tree'")
        return rebuild_state(json.loads(metadata["tree"]), tensors)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete a training state."""
        Path(path).unlink(missing_ok=True)


class LoadedModel:
    """A network with the scaling it was trained with.

    Parameters
    ----------
    model : torch.nn.Module
    input_scaler, target_scaler : MinMaxScaler
    card : dict
        All of the checkpoint's JSON.
    """

    def __init__(
        self, model: torch.nn.Module, input_scaler: MinMaxScaler, target_scaler: MinMaxScaler, card: dict[str, Any]
    ) -> None:
        self.model, self.input_scaler, self.target_scaler, self.card = model, input_scaler, target_scaler, card


def save_model(
    path: str | os.PathLike[str],
    model: torch.nn.Module,
    *,
    name: str,
    input_scaler: MinMaxScaler,
    target_scaler: MinMaxScaler,
    channels: tuple[str, ...],
    training: dict[str, Any] | None = None,
) -> Path:
    """Save a network as ``path.safetensors`` and ``path.json``.

    Parameters
    ----------
    path : path-like
        With or without the suffix.
    model : torch.nn.Module
        Built by `smnb.models.build_model`; has a ``config`` with ``to_dict``.
    name : str
        Its name in `smnb.models.MODELS`.
    input_scaler, target_scaler : MinMaxScaler
        Normalisation statistics, which travel inside the checkpoint.
    channels : tuple of str
        The input channels in their order.
    training : dict, optional
        Data, split, seed, scores: whatever belongs on the model's card.

    Returns
    -------
    Path
        Of the safetensors file.
    """
    weights = Path(path).with_suffix(".safetensors")
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    write_bytes(weights, safetensors_bytes(state))
    card = {
        "format": 1,
        "model": name,
        "config": model.config.to_dict(),
        "channels": list(channels),
        "input_scaler": input_scaler.to_dict(),
        "target_scaler": target_scaler.to_dict(),
        "target": {"name": "soil_moisture", "units": "m3 m-3"},
        "training": training or {},
        "weights_sha256": sha256_of(weights),
    }
    write_json(weights.with_suffix(".json"), card)
    return weights


def load_model(path: str | os.PathLike[str], *, channels: tuple[str, ...] | None = None) -> LoadedModel:
    """Load what `save_model` wrote.

    Parameters
    ----------
    path : path-like
        Either file, or their common stem.
    channels : tuple of str, optional
        The channels that the caller will feed; others than the checkpoint's are an error.

    Raises
    ------
    FormatError
        If a file is missing or damaged, the weights are not the card's, or the channels differ.
    """
    weights = Path(path).with_suffix(".safetensors")
    card_path = weights.with_suffix(".json")
    for needed in (weights, card_path):
        if not needed.is_file():
            raise FormatError(
                "load_model",
                f"{needed} is missing",
                next_step="A checkpoint is a .safetensors with its .json beside it",
            )
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        name, config = card["model"], card["config"]
    except (json.JSONDecodeError, KeyError) as error:
        raise FormatError("load_model", f"{card_path} is not a model card ({error})") from error
    if card.get("weights_sha256") != (digest := sha256_of(weights)):
        raise FormatError(
            "load_model",
            f"{weights} does not belong to its card",
            got=digest[:12],
            expected=str(card.get("weights_sha256"))[:12],
            next_step="Copy both files of one checkpoint together",
        )
    if channels is not None and list(channels) != card["channels"]:
        raise FormatError(
            "load_model", f"{weights.name} was trained on other channels", got=list(channels), expected=card["channels"]
        )
    model = build_model(name, config)
    model.load_state_dict(_open_safetensors(weights)[0])
    model.eval()
    scalers = (MinMaxScaler.from_dict(card[key]) for key in ("input_scaler", "target_scaler"))
    return LoadedModel(model, *scalers, card)
