"""Networks of the registry: the papers' layer sizes and parameter counts."""

from __future__ import annotations

import itertools

import pytest
import torch

from smnb.contract import ParameterError
from smnb.models import MODELS, build_model, describe, model_name, register_model
from smnb.models.amsre_cnn import AmsreCNN, AmsreCNNConfig
from smnb.models.smen import SMEN, SMENConfig


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


def test_smen_has_the_papers_layers() -> None:
    model = SMEN(SMENConfig(padding="zeros"))
    count = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in "fgh"}
    assert count == {"f": 37_728, "g": 320, "h": 289}
    kernels = [tuple(layer.weight.shape) for layer in model.f if hasattr(layer, "kernel_size")]
    assert kernels == [(32, 1, 2, 3, 3), (32, 32, 2, 3, 3), (32, 32, 2, 3, 3)]
    assert [type(layer).__name__ for layer in model.f][:3] == ["Conv3d", "ReLU", "BatchNorm3d"]
    shapes = []
    for layer in (*(m for m in model.f if hasattr(m, "kernel_size")), model.g, model.h):
        layer.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape[1:])))
    assert model(torch.rand(2, 20, 30), torch.rand(2, 4, 20, 30)).shape == (2, 20, 30)
    # three kernels of two turn four images into the one that g(I) is added to; g runs first
    assert shapes == [(32, 1, 20, 30), (32, 3, 20, 30), (32, 2, 20, 30), (32, 1, 20, 30), (1, 1, 20, 30)]


def test_smen_replicated_edges_are_those_of_a_larger_image() -> None:
    torch.manual_seed(2)
    model = SMEN(SMENConfig(features=8)).eval()
    coarse, residuals = torch.rand(1, 12, 15), torch.rand(1, 4, 12, 15)
    wide = [torch.nn.functional.pad(x, (6, 6, 6, 6), mode="replicate") for x in (coarse, residuals)]
    torch.testing.assert_close(model(coarse, residuals), model(*wide)[:, 6:-6, 6:-6])


@pytest.mark.parametrize(("inputs", "count"), [("spatial", 609), ("temporal", 38_017), ("spatiotemporal", 38_337)])
def test_smen_streams_see_only_their_input(inputs: str, count: int) -> None:
    torch.manual_seed(0)
    model = SMEN(SMENConfig(inputs=inputs)).eval()
    assert sum(p.numel() for p in model.parameters()) == count
    coarse, residuals = torch.rand(1, 12, 12, requires_grad=True), torch.rand(1, 4, 12, 12, requires_grad=True)
    model(coarse, residuals).square().sum().backward()
    assert (coarse.grad is not None) == (inputs != "temporal")
    assert (residuals.grad is not None) == (inputs != "spatial")


def test_smen_equals_its_formula_by_2d_convolutions() -> None:
    torch.manual_seed(1)
    model = SMEN(SMENConfig(history=3, features=4, padding="zeros")).double()
    coarse, residuals = torch.rand(2, 9, 11).double(), torch.rand(2, 3, 9, 11).double()
    for norm in (layer for layer in model.f if isinstance(layer, torch.nn.BatchNorm3d)):
        torch.nn.init.uniform_(norm.weight), torch.nn.init.uniform_(norm.running_mean)
    model.eval()
    conv = torch.nn.functional.conv2d
    images = [residuals[:, [t]] for t in range(3)]
    for number in range(2):
        layer, norm = model.f[3 * number], model.f[3 * number + 2]
        sums = [
            conv(a, layer.weight[:, :, 0], padding=1) + conv(b, layer.weight[:, :, 1], layer.bias, padding=1)
            for a, b in itertools.pairwise(images)
        ]
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        images = [
            (s.relu() - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
            for s in sums
        ]
    features = images[0] + conv(coarse[:, None], model.g.weight[:, :, 0], model.g.bias, padding=1)
    expected = conv(features, model.h.weight[:, :, 0], model.h.bias, padding=1)[:, 0]
    torch.testing.assert_close(model(coarse, residuals), expected)


def test_smen_refuses_another_history_and_shapes() -> None:
    with pytest.raises(ParameterError, match="4 past images"):
        SMEN()(torch.rand(1, 8, 8), torch.rand(1, 3, 8, 8))
    with pytest.raises(ParameterError, match="differ in shape"):
        SMEN()(torch.rand(1, 8, 9), torch.rand(1, 4, 8, 8))
    with pytest.raises(ParameterError, match="spatiotemporal"):
        SMENConfig(inputs="both")
    with pytest.raises(ParameterError, match="history"):
        SMENConfig(history=1)


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


def test_describe_shows_layers_shapes_and_parameters() -> None:
    table = describe(build_model("amsre_cnn"), torch.zeros(2, 4, 9, 9))
    shapes = dict(zip(table["layer"], table["output"], strict=True))
    assert shapes["conv1"] == "20 × 8 × 8"
    assert shapes["fc1"] == "500"
    assert table["parameters"].iloc[-1] == MODELS["amsre_cnn"].n_parameters == table["parameters"].iloc[:-1].sum()
    inputs = torch.zeros(1, 12, 16), torch.zeros(1, 4, 12, 16)
    network = build_model("smen").train()
    deep, flat = (describe(network, *inputs, depth=depth) for depth in (2, 1))
    assert len(deep) > len(flat)
    assert flat["parameters"].iloc[:-1].sum() == deep["parameters"].iloc[-1]
    assert network.training
    assert list(describe(network)["output"].unique()) == [""]


def test_a_registered_network_is_built_by_its_name() -> None:
    class Mine(torch.nn.Linear):
        def __init__(self, inputs: int = 3) -> None:
            super().__init__(inputs, 1)

    register_model("mine", Mine, paper="none")
    try:
        built = build_model("mine", {"inputs": 5})
        assert built.in_features == 5
        assert model_name(built) == "mine"
        with pytest.raises(ParameterError, match=r"unknown config keys; got \['depth'\]; expected \['inputs'\]"):
            build_model("mine", {"depth": 5})
    finally:
        del MODELS["mine"]
    assert model_name(built).endswith("Mine")
    with pytest.raises(ParameterError, match="no colon"):
        register_model("a:b", Mine)
