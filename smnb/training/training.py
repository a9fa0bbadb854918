"""`train`: one training for every network, of smnb and of the user's own."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smnb.files import fingerprint
from smnb.models import build_model, config_of, model_name
from smnb.models.registry import network_class, settings_of
from smnb.training.config import BatchDataset, TrainingConfig
from smnb.training.fitting import fit
from smnb.training.trained import MinMaxScaler, Trained, read_card, save


@dataclass(frozen=True)
class Samples:
    """What a network is trained on.

    Parameters
    ----------
    train, validation : BatchDataset
        Batches ``(inputs, target[, more of the loss's arguments])``, scaled; without a validation the last weights are kept.
    channels, input_scaler, target_scaler
        Names of the input channels in their order, and what scales from native units to the network's.
    sizes : mapping
        What the data ask of a network, by the names of its settings: ``{"in_channels": 4}``. A network that is named gets
        those that it knows.
    identity : mapping
        What tells these data from others: arrays, texts, numbers, dataclasses. The fingerprint is made from it, so that a
        training is resumed on the same data only.
    card : mapping
        What belongs on the model's card (JSON): title, split, whether the data are synthetic.
    """

    train: BatchDataset
    validation: BatchDataset | None
    channels: tuple[str, ...] = ()
    input_scaler: MinMaxScaler | None = None
    target_scaler: MinMaxScaler | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)


def train(
    model: str | type[torch.nn.Module] | torch.nn.Module,
    samples: Samples,
    *,
    loss: Callable[..., torch.Tensor],
    config: TrainingConfig,
    out: str | Path,
    model_config: Mapping[str, Any] | None = None,
    keep: str = "best",
    progress: bool = True,
    stop_after_epochs: int | None = None,
) -> Trained:
    """Train a network, and save it as ``out/model.safetensors`` with its card.

    A training that was killed goes on from its state in `out`, and ends with the weights of one that was not.

    Parameters
    ----------
    model : str, class or torch.nn.Module
        A published name (`smnb.models.MODELS`), ``"module:Class"``, a class, or any network, which is trained in place.
        Named networks are built with ``config.seed``.
    loss : callable
        ``loss(pred, target) -> scalar``, or with all that the batches hold after the inputs.
    model_config : mapping, optional
        Settings of a named network beside ``samples.sizes``.
    keep, stop_after_epochs
        Whose weights are kept: those of the ``best`` validation loss or of the ``last`` epoch; where to stop, leaving the state
        to resume from.

    Raises
    ------
    ParameterError, RunError, ContractError
        On an unknown network or setting; if `out` holds the training state of something else, or the loss became NaN; if
        there are fewer training samples than one whole step takes.

    Notes
    -----
    On Linux and a CPU, networks of large images train faster where freed memory is kept for the next step. That holds for a whole
    process, so it is yours to ask for, before Python starts: ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1000000000000``.

    Examples
    --------
    A network of one's own::

        net = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Flatten(0))
        trained = train(net, samples, loss=mse_loss, config=TrainingConfig(epochs=5), out="runs/mine")
        trained.predict(samples.validation)
    """
    out = Path(out)
    torch.manual_seed(config.seed)
    if not isinstance(model, torch.nn.Module):
        known = settings_of(network_class(model) if isinstance(model, str) else model)
        sizes = {name: value for name, value in samples.sizes.items() if name in known}
        model = build_model(model, {**sizes, **(model_config or {})})
    if any(isinstance(one, torch.nn.parameter.UninitializedTensorMixin) for one in model.parameters()):
        # lazy layers (torch.nn.LazyConv2d) get their sizes by one batch
        inputs = samples.train[np.arange(min(2, len(samples.train)))][0]
        with torch.no_grad():
            model(*(inputs if isinstance(inputs, tuple | list) else (inputs,)))
    name = model_name(model)
    keep = keep if samples.validation is not None else "last"
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    own = [_code_of(one) for one in (type(model), loss)]
    identity = fingerprint(samples.identity, name, config_of(model), shapes, _described(loss), own, keep)
    # a training with other settings or data begins anew beside this one instead of being refused
    state = out / f"state_{fingerprint(config, identity)[:12]}"
    options = {"config": config, "loss": loss, "keep": keep, "stop_after_epochs": stop_after_epochs}
    options |= {"out": state, "fingerprint": identity, "progress": progress and f"training {name}"}
    result = fit(model, samples.train, samples.validation, **options)
    losses = result.history["validation_loss"]
    card = {
        "seed": config.seed,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "best_validation_loss": None if losses.isna().all() else float(losses.min()),
        "steps": result.details["steps"],
        "n_train": len(samples.train),
        "n_validation": 0 if samples.validation is None else len(samples.validation),
        "loss": _described(loss),
        "fingerprint": identity,
        **samples.card,
    }
    scalers = {"input_scaler": samples.input_scaler, "target_scaler": samples.target_scaler}
    facts = {"channels": samples.channels, "training": card, "history": result.history}
    path = save(out / "model", result.model, **scalers, **facts)
    return replace(result, card=read_card(path).as_dict(), **scalers)


def _code_of(value: Any) -> list[Any]:
    """Bytecode of a class or function of the user's, so that a network edited in a notebook is not taken for the one before."""
    if isinstance(value, functools.partial):
        return _code_of(value.func)
    if isinstance(value, type):
        if value.__module__.partition(".")[0] in ("smnb", "torch"):
            return []
        return [_code_of(one) for _, one in sorted(vars(value).items()) if isinstance(one, types.FunctionType)]
    if isinstance(value, types.FunctionType) and not value.__module__.startswith("smnb."):
        value = value.__code__
    if not isinstance(value, types.CodeType):
        return []
    constants = [_code_of(one) or repr(one) for one in value.co_consts]
    return [value.co_code, list(value.co_names), constants]


def _described(loss: Callable[..., Any]) -> dict[str, Any]:
    """Name of a loss and the options that are fixed in it."""
    options: dict[str, Any] = {}
    while isinstance(loss, functools.partial):
        options = {**loss.keywords, **options}
        loss = loss.func
    return {"name": getattr(loss, "__name__", type(loss).__name__), **options}
