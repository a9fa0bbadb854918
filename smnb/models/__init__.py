"""Networks and baselines. `MODELS` names the published networks; any `torch.nn.Module` may stand where a name may."""

from smnb.models.baselines import REFERENCES, reference_predictions
from smnb.models.registry import MODELS, build_model, config_of, describe, model_name, register_model

__all__ = [
    "MODELS",
    "REFERENCES",
    "build_model",
    "config_of",
    "describe",
    "model_name",
    "reference_predictions",
    "register_model",
]
