"""Networks of the registry: the papers' layer sizes and parameter counts."""

from __future__ import annotations

import pytest
import torch

from smnb.contract import ParameterError
from smnb.models import MODELS, build_model
from smnb.models.amsre_cnn import AmsreCNN, AmsreCNNConfig


@pytest.mark.parametrize("name", MODELS)
def test_registry_counts_parameters_right(name: str) -> None:
    model = build_model(name)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == MODELS[name].n_parameters


def test_hu_2018_feature_maps_have_the_papers_sizes() -> None:
    model = AmsreCNN()
    assert sum(p.numel() for p in model.parameters()) == 489_641
    shapes = {}
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _m, _i, output, name=name: shapes.__setitem__(name, tuple(output.shape[1:])))
    assert model(torch.rand(5, 4, 9, 9)).shape == (5,)
    assert shapes["conv1"] == (20, 8, 8)
    assert shapes["pool1"] == (20, 7, 7)
    assert shapes["conv2"] == (100, 6, 6)
    assert shapes["pool2"] == (100, 3, 3)
    assert shapes["conv3"] == (200, 2, 2)
    assert shapes["fc1"] == (500,)
    assert shapes["fc2"] == (1,)


@pytest.mark.parametrize("activation", ["relu", "tanh", "identity"])
def test_gradients_reach_every_layer(activation: str) -> None:
    torch.manual_seed(0)
    model = build_model("amsre_cnn", {"activation": activation, "in_channels": 16})
    model(torch.rand(8, 16, 9, 9)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_larger_patches_are_possible() -> None:
    assert build_model("amsre_cnn", {"patch_size": 13})(torch.rand(2, 4, 13, 13)).shape == (2,)


@pytest.mark.parametrize(
    "values",
    [{"patch_size": 8}, {"patch_size": 7}, {"in_channels": 0}, {"activation": "swish"}, {"conv_channels": (1, 2)}],
)
def test_config_refuses_nonsense(values: dict) -> None:
    with pytest.raises(ParameterError):
        AmsreCNNConfig(**values)


def test_unknown_names_are_errors_that_list_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="amsre_cnn"):
        build_model("amsr_cnn")
    with pytest.raises(ParameterError, match="patch_size"):
        build_model("amsre_cnn", {"patchsize": 9})
