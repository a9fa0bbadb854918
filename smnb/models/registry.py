"""The networks by name, and any `torch.nn.Module` where a name may stand."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from smnb.contract import ParameterError, plain

if TYPE_CHECKING:  # the names of the networks are there without torch
    from torch import nn


@dataclass(frozen=True)
class ModelEntry:
    """One network of the registry.

    Parameters
    ----------
    name, paper, inputs, description : str
    network : str or type
        ``module:Class``, imported when it is built, or the class.
    n_parameters : int, optional
        Trainable parameters at the paper's sizes; a test compares it with the network.
    """

    name: str
    network: str | type[nn.Module]
    paper: str = ""
    inputs: str = ""
    description: str = ""
    n_parameters: int | None = None

    @property
    def path(self) -> str:
        """``module:Class`` of the network."""
        return self.network if isinstance(self.network, str) else import_path(self.network)


#: Every network that has a name.
MODELS: dict[str, ModelEntry] = {}


def register_model(name: str, network: str | type[nn.Module], **facts: Any) -> None:
    """Give a network a name, which `build_model`, `smnb.training.train` and checkpoints then know in this process.

    Parameters
    ----------
    name : str
    network : str or type
        ``module:Class`` or the class. It is built as ``Class(Class.config_class(**settings))`` where it has a
        ``config_class``, else as ``Class(**settings)``; its ``config`` (a dataclass or dict) goes into a checkpoint.
    **facts
        ``paper``, ``inputs``, ``description`` and ``n_parameters`` of `ModelEntry`.
    """
    if ":" in name:
        raise ParameterError("register_model", "a name has no colon, which marks an import path", got=name)
    MODELS[name] = ModelEntry(name, network, **facts)


for _name, _facts in yaml.safe_load(Path(__file__).with_name("networks.yaml").read_text(encoding="utf-8")).items():
    register_model(_name, **_facts)


def import_path(network: nn.Module | type[nn.Module]) -> str:
    """``module:Class`` of a network."""
    cls = network if isinstance(network, type) else type(network)
    return f"{cls.__module__}:{cls.__qualname__}"


def model_name(network: nn.Module) -> str:
    """Name of a network in `MODELS`, or else its ``module:Class``."""
    path = import_path(network)
    return next((name for name, entry in MODELS.items() if entry.path == path), path)


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
    """Build a network, or hand on one that is built.

    Parameters
    ----------
    model : str, class or torch.nn.Module
        A key of `MODELS`, ``"module:Class"``, a class, or a network, which is returned as it is.
    config : mapping, optional
        Settings that differ from the network's defaults (the paper's).

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ParameterError
        If the name or a setting is unknown, or a setting is missing.

    Examples
    --------
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
