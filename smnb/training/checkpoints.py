"""Checkpoints without pickles: tensors in safetensors, everything else as JSON.

Two kinds:

- a **checkpoint** of a network (`save`, `load`): ``name.safetensors`` with the weights and ``name.json``, its card, with the
  network's name and settings, the scaling of inputs and target, and what it was trained on;
- a **training state** (`SafetensorsCheckpointIO`): one safetensors file with weights, optimiser and loop state, from which
  Lightning resumes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from smnb.contract import FormatError, ParameterError, plain
from smnb.files import atomic_path, sha256_of, write_bytes
from smnb.models import MODELS, build_model, config_of, model_name
from smnb.training.scaling import MinMaxScaler
from smnb.training.trained import Trained

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
        next_step = "Check the path; a damaged training state can be deleted to start again"
        raise FormatError(
            "checkpoint", f"{path} cannot be read as safetensors ({error})", next_step=next_step
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


class _Card(BaseModel):
    """What a card holds."""

    format: Literal[2]
    model: str
    config: dict[str, Any]
    channels: list[str]
    input_scaler: dict[str, Any] | None
    target_scaler: dict[str, Any] | None
    target: dict[str, str]
    training: dict[str, Any]
    history: list[dict[str, float | None]]
    weights_sha256: str


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
    """Save any network as ``path.safetensors`` and ``path.json``, its card: both, or neither.

    Parameters
    ----------
    path : path-like
        With or without the suffix.
    model : torch.nn.Module
        Its ``config`` (a dataclass or mapping), where it has one, is kept so that `load` can build it again.
    channels : sequence of str
        The input channels in their order.
    input_scaler, target_scaler : MinMaxScaler, optional
        Normalisation, which travels inside the checkpoint; None where the network takes and gives native units.
    training : mapping, optional
        Data, split, seed, scores: whatever belongs on the model's card (JSON).
    history : DataFrame, optional
        Losses by epoch.

    Returns
    -------
    Path
        Of the safetensors file.

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
        text = json.dumps(card, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        next_step = "Give numbers, texts and lists of them"
        raise FormatError("save", f"the card cannot be written as JSON ({error})", next_step=next_step) from error
    with atomic_path(weights) as one, atomic_path(weights.with_suffix(".json")) as other:
        one.write_bytes(content)
        other.write_text(text + "\n", encoding="utf-8")
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
    trust : str, optional
        ``module:Class`` that may be imported: the caller trusts that module.
    channels : sequence of str, optional
        The channels that the caller will feed; others than the checkpoint's are an error.

    Raises
    ------
    FormatError
        If a file is missing or damaged, or weights, card, network and channels do not belong together.
    """
    weights = Path(path).with_suffix(".safetensors")
    card_path = weights.with_suffix(".json")
    for needed in (weights, card_path):
        if not needed.is_file():
            next_step = "A checkpoint is a .safetensors with its .json beside it"
            raise FormatError("load", f"{needed} is missing", next_step=next_step)
    try:
        card = _Card.model_validate_json(card_path.read_bytes()).model_dump()
        scalers = [card[name] and MinMaxScaler.from_dict(card[name]) for name in ("input_scaler", "target_scaler")]
    except (ValidationError, KeyError, TypeError) as error:
        next_step = "Take the .json that smnb wrote with the weights"
        raise FormatError("load", f"{card_path} is no model card ({error})", next_step=next_step) from error
    if card["weights_sha256"] != (digest := sha256_of(weights)):
        raise FormatError(
            "load",
            f"{weights} does not belong to its card",
            got=digest[:12],
            expected=card["weights_sha256"][:12],
            next_step="Copy both files of one checkpoint together",
        )
    if channels is not None and list(channels) != card["channels"]:
        what = f"{weights.name} was trained on other channels"
        raise FormatError("load", what, got=list(channels), expected=card["channels"])
    name = card["model"]
    if model is None and not (name in MODELS or name.startswith("smnb.") or name == trust):
        raise FormatError(
            "load",
            f"{weights.name} holds a network of its own, which is not imported unasked",
            got=name,
            expected=trust if trust else plain("a network of smnb"),
            next_step=f"Pass the network, load(path, model=Net()), or name its class if you trust it, trust={name!r}",
        )
    try:
        network = build_model(name if model is None else model, card["config"])
    except ParameterError as error:
        what = f"the network of {card_path.name} cannot be built: {error}"
        raise FormatError("load", what, next_step="Pass it, load(path, model=Net())") from error
    try:
        network.load_state_dict(_open_safetensors(weights)[0])
    except RuntimeError as error:
        what = f"the weights of {weights.name} do not fit {type(network).__name__} ({error})"
        raise FormatError("load", what, next_step="Build the network as it was trained") from error
    history = pd.DataFrame(card["history"]).astype("float64") if card["history"] else pd.DataFrame()
    return Trained(network.eval(), card, *scalers, history)
