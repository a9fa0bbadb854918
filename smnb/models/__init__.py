"""Networks and baselines. `MODELS` names the published networks; any `torch.nn.Module` may stand where a name may."""

from smnb.models.registry import MODELS, ModelEntry, build_model, config_of, model_name, register

__all__ = ["MODELS", "ModelEntry", "build_model", "config_of", "model_name", "register"]
