"""The networks by name, any `torch.nn.Module` where a name may stand; what settings and inputs are checked for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from smnb.contract import ParameterError, check_choice, check_count, plain

if TYPE_CHECKING:  # the names of the networks are there without torch
    import torch
    from torch import nn


@dataclass(frozen=True)
class ModelEntry:
    """One network of the registry."""

    name: str
    network: str | type[nn.Module]  # ``module:Class``, imported when it is built, or the class
    paper: str = ""
    inputs: str = ""
    description: str = ""
    n_parameters: int | None = None  # trainable ones at the paper's sizes; a test compares it with the network


MODELS: dict[str, ModelEntry] = {}  # every network that has a name


def register_model(name: str, network: str | type[nn.Module], **facts: Any) -> None:
    """Give a network a name, which `build_model`, `smnb.training.train` and checkpoints then know in this process.

    It is built as ``Class(Class.config_class(**settings))`` where it has a ``config_class``, else as ``Class(**settings)``; its
    ``config`` (a dataclass or dict) goes into a checkpoint. `facts` are those of `ModelEntry`.
    """
    if ":" in name:
        raise ParameterError("register_model", "a name has no colon, which marks an import path", got=name)
    MODELS[name] = ModelEntry(name, network, **facts)


for _name, _facts in yaml.safe_load(Path(__file__).with_name("networks.yaml").read_text(encoding="utf-8")).items():
    register_model(_name, **_facts)


def model_name(network: nn.Module) -> str:
    """Name of a network in `MODELS`, or else its ``module:Class``."""
    cls = type(network)
    path = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, entry in MODELS.items() if entry.network in (cls, path)), path)


def network_class(name: str) -> type[nn.Module]:
    """Find a network's class by its name in `MODELS` or as ``module:Class``; else raise `ParameterError`."""
    if name not in MODELS and ":" not in name:
        next_step = "A network of your own is 'module:Class', or the module itself"
        raise ParameterError("build_model", "unknown network", got=name, expected=sorted(MODELS), next_step=next_step)
    network = MODELS[name].network if name in MODELS else name
    if isinstance(network, type):
        return network
    module, _, attributes = network.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        next_step = "The module must be on the import path: 'package.module:Class'"
        raise ParameterError("build_model", f"{network!r} cannot be imported ({error})", next_step=next_step) from error
    from torch import nn

    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ParameterError("build_model", f"{network!r} is no network", expected=plain("a torch.nn.Module class"))
    return found


def settings_of(cls: type[nn.Module]) -> list[str]:
    """Names of the settings that a network's class is built with."""
    if config := getattr(cls, "config_class", None):
        return list(config.__dataclass_fields__)
    return [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "args", "kwargs")]


def config_of(network: nn.Module) -> dict[str, Any]:
    """Settings that a network was built with: its ``config``, a dataclass or mapping; none where it has no such thing."""
    config = getattr(network, "config", None)
    if is_dataclass(config) and not isinstance(config, type):
        return asdict(config)
    return dict(config) if isinstance(config, Mapping) else {}


def build_model(model: str | type[nn.Module] | nn.Module, config: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a network (a key of `MODELS`, ``"module:Class"`` or a class), or hand on one that is built.

    `config` are settings that differ from the network's defaults (the paper's). `ParameterError` if the name or a setting is
    unknown, or a setting is missing.

    >>> sum(p.numel() for p in build_model("smen").parameters())
    38337
    """
    from torch import nn

    if isinstance(model, nn.Module):
        return model
    cls = network_class(model) if isinstance(model, str) else model
    settings, known = dict(config or {}), settings_of(cls)
    who = f"build_model({model if isinstance(model, str) else cls.__name__!r})"
    if unknown := sorted(set(settings) - set(known)):
        raise ParameterError(who, "unknown config keys", got=unknown, expected=sorted(known))
    if config_class := getattr(cls, "config_class", None):
        return cls(config_class(**settings))
    try:
        return cls(**settings)
    except TypeError as error:
        raise ParameterError(who, f"cannot be built ({error})", got=settings, expected=known) from error


def check_settings(
    config: Any, *, counts: Sequence[str] = (), choices: Mapping[str, Iterable[Any]] | None = None
) -> None:
    """Raise `ParameterError` unless settings of a dataclass are counts, or one of what is known."""
    who = type(config).__name__
    for name in counts:
        check_count(who, name, getattr(config, name))
    for name, known in (choices or {}).items():
        check_choice(who, name, getattr(config, name), known)


def check_input(who: str, values: torch.Tensor, dims: str, size: int, *, unit: str = "channels") -> None:
    """Raise `ParameterError` unless a tensor has as many dimensions as are named, and this size along the second."""
    if values.ndim != dims.count(",") + 1 or values.shape[1] != size:
        raise ParameterError(who, f"input is not {dims}", got=tuple(values.shape), expected=plain(f"{size} {unit}"))


def describe(model: nn.Module, *inputs: Any, depth: int = 2) -> pd.DataFrame:
    """Show a network's layers, in the order in which they run where an example is given.

    `inputs` are an example of what it takes, such as ``samples.train[np.arange(2)][0]``; without it there are no shapes. `depth`
    is how far layers within layers are opened: ``encoder.0.conv`` is 3 deep, and what lies deeper counts with the layer above.

    One row a layer: ``layer`` (its name), ``kind``, ``output`` (shape without the batch, as text) and ``parameters``; a last row
    ``total``, with the trainable parameters.

    >>> import torch
    >>> from torch import nn
    >>> describe(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(2, 4))
       layer    kind output  parameters
    0      0  Linear      3          15
    1      1    ReLU      3           0
    2      2  Linear      1           4
    3  total                         19
    """
    import torch

    shown = {
        name: layer
        for name, layer in model.named_modules()
        if name and (name.count(".") + 1 == depth or (name.count(".") + 1 < depth and not list(layer.children())))
    }
    names, shapes = {layer: name for name, layer in shown.items()}, {}

    def keep(layer: nn.Module, _inputs: Any, result: Any) -> None:
        first = result[0] if isinstance(result, tuple | list) and result else result
        if isinstance(first, torch.Tensor):
            shapes[names[layer]] = " × ".join(map(str, first.shape[1:])) or "1"

    if inputs:
        hooks = [layer.register_forward_hook(keep) for layer in names]
        training = model.training
        try:
            with torch.inference_mode():
                model.eval()(*inputs)
        finally:
            model.train(training)
            for hook in hooks:
                hook.remove()
    table = pd.DataFrame({"layer": list(dict.fromkeys([*shapes, *shown]))})
    table["kind"] = [type(shown[name]).__name__ for name in table["layer"]]
    table["output"] = [shapes.get(name, "") for name in table["layer"]]
    table["parameters"] = [sum(p.numel() for p in shown[name].parameters()) for name in table["layer"]]
    table.loc[len(table)] = "total", "", "", sum(p.numel() for p in model.parameters() if p.requires_grad)
    return table
