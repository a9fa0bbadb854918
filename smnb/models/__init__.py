"""Networks and baselines. `MODELS` names every network, with its paper, its inputs and its number of parameters."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from smnb.contract import ParameterError

__all__ = ["MODELS", "ModelEntry", "build_model"]


@dataclass(frozen=True)
class ModelEntry:
    """One network of the registry.

    Parameters
    ----------
    name, paper, inputs, description : str
    module, model_class, config_class : str
        Where the network is; imported when it is built, so that listing the registry is cheap.
    n_parameters : int
        Trainable parameters at the paper's sizes; a test compares it with the network.
    """

    name: str
    paper: str
    inputs: str
    description: str
    module: str
    model_class: str
    config_class: str
    n_parameters: int


MODELS: dict[str, ModelEntry] = {
    "amsre_cnn": ModelEntry(
        name="amsre_cnn",
        paper="Hu, Xu & Yu 2018, ISPRS Archives XLII-3",
        inputs="9×9 patches of brightness temperature, 6.9 and 10.7 GHz, H and V",
        description="three convolutions and two fully connected layers to the soil moisture of the centre pixel",
        module="smnb.models.amsre_cnn",
        model_class="AmsreCNN",
        config_class="AmsreCNNConfig",
        n_parameters=489_641,
    ),
    "smen": ModelEntry(
        name="smen",
        paper="Tsagkatakis, Moghaddam & Tsakalides, SMEN",
        inputs="36 km soil moisture of the day, and four past images of 3 km less 36 km soil moisture",
        description="3-D convolutions over the past residuals, one over the coarse image, summed and fused to 3 km",
        module="smnb.models.smen",
        model_class="SMEN",
        config_class="SMENConfig",
        n_parameters=38_337,
    ),
    "fusion_1km": ModelEntry(
        name="fusion_1km",
        paper="Tsagkatakis, Moghaddam & Tsakalides, SMAP and Sentinel-1 fusion",
        inputs="images at 1 km of SMAP brightness temperature, H and V, and Sentinel-1 backscatter, VV and VH",
        description="four blocks of 3-D convolutions over the stacked channels to the soil moisture of every pixel",
        module="smnb.models.fusion_1km",
        model_class="Fusion1km",
        config_class="Fusion1kmConfig",
        n_parameters=56_289,
    ),
    "multisource": ModelEntry(
        name="multisource",
        paper="Batchu, Nearing & Gulshan 2023, J. Hydrometeorology 24(10)",
        inputs="Sentinel-1, Sentinel-2 and elevation at 10 m, soil at 160 m around a point; SMAP and GLDAS at it",
        description="Xception-65 and -41 with centre-weighted pooling, and two fusion heads, to the soil moisture of the point",
        module="smnb.models.multisource",
        model_class="MultiSourceNet",
        config_class="MultiSourceConfig",
        n_parameters=63_323_354,
    ),
}


def build_model(name: str, config: dict[str, Any] | None = None) -> Any:
    """Build a network of the registry.

    Parameters
    ----------
    name : str
        A key of `MODELS`.
    config : dict, optional
        Values that differ from the config class's defaults (the paper's).

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ParameterError
        If the name or a config key is unknown.
    """
    if name not in MODELS:
        raise ParameterError("build_model", "unknown network", got=name, expected=sorted(MODELS))
    entry = MODELS[name]
    module = importlib.import_module(entry.module)
    config_class = getattr(module, entry.config_class)
    unknown = sorted(set(config or {}) - set(config_class.__dataclass_fields__))
    if unknown:
        raise ParameterError(
            f"build_model({name!r})",
            "unknown config keys",
            got=unknown,
            expected=sorted(config_class.__dataclass_fields__),
        )
    return getattr(module, entry.model_class)(config_class(**(config or {})))
