"""The network of many sources: the paper's heads, absent parts, exchangeable encoders, and shared features."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from smnb.contract import ContractError, ParameterError
from smnb.models import build_model
from smnb.models.encoders import SmallEncoder, build_encoder
from smnb.models.multisource import FusionHead, MultiSourceConfig, MultiSourceNet
from smnb.training.losses import huber_loss

SMALL = {"high_encoder": "small", "low_encoder": "small", "drop_path_keep": 1.0}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def net(**values) -> MultiSourceNet:
    torch.manual_seed(0)
    return MultiSourceNet(MultiSourceConfig(**{**SMALL, **values}))


def batch(n: int = 4, size: int = 64, config: MultiSourceConfig | None = None):
    config = config or MultiSourceConfig(**SMALL)
    generator = torch.Generator().manual_seed(3)
    high = torch.rand(n, config.high_channels, size, size, generator=generator) * 2 - 1
    low = torch.rand(n, config.low_channels, 16, 16, generator=generator) * 2 - 1
    return high, low, torch.rand(n, config.coarse_channels, generator=generator) * 0.5


# --- heads ---------------------------------------------------------------------------------------------------------------


def test_heads_have_the_published_parameters() -> None:
    head1 = FusionHead(4096, (128, 64, 1), (0.5, 0.5, 0.6))
    head2 = FusionHead(3, (8, 1), (0.9, 0.9))
    assert count(head1) == 533_121
    assert count(head2) == 57
    block = ["Dropout", "Linear", "BatchNorm1d", "SiLU"]
    assert [type(layer).__name__ for layer in head1] == [*block, *block, "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in head2] == [*block, "Dropout", "Linear"]
    assert [layer.p for layer in head1 if isinstance(layer, nn.Dropout)] == pytest.approx([0.5, 0.5, 0.4])


def test_the_paper_sized_network_is_its_parts() -> None:
    with torch.device("meta"):
        model = MultiSourceNet()
    assert count(model.high) == 37_869_328
    assert count(model.low) == 24_920_848
    assert (count(model.head1), count(model.head2)) == (533_121, 57)
    assert count(model) == 63_323_354
    features = model.features_high(torch.empty(2, 10, 256, 256, device="meta"))
    assert features.shape == (2, 2048, 8, 8)
    assert model.low(torch.empty(2, 4, 16, 16, device="meta")).shape == (2, 2048, 1, 1)


def test_head_equals_its_formula() -> None:
    head = FusionHead(5, (4, 1), (0.9, 0.9), initial=0.3).double().eval()
    with torch.no_grad():
        for p in head.parameters():
            p.normal_()
        head[2].running_mean.normal_(), head[2].running_var.uniform_(0.5, 2.0)
    x = torch.randn(6, 5, dtype=torch.float64)
    _, first, norm, _, _, last = (layer for layer in head)
    hidden = x.numpy() @ first.weight.detach().numpy().T + first.bias.detach().numpy()
    hidden = (hidden - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + 1e-3)
    hidden = hidden * norm.weight.detach().numpy() + norm.bias.detach().numpy()
    hidden = hidden / (1 + np.exp(-hidden))  # swish
    expected = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(head(x).detach(), expected, rtol=1e-12)


def test_activations_are_those_of_the_sweep() -> None:
    for name, kind in (("swish", nn.SiLU), ("relu", nn.ReLU), ("leaky_relu", nn.LeakyReLU)):
        assert isinstance(net(activation=name).head1[3], kind)


def test_the_untrained_answer_is_near_soil_moisture() -> None:
    model = net().train()
    model(*batch(32))
    with torch.no_grad():
        answer = model.eval()(*batch(32))
    assert answer.shape == (32,)
    assert answer.mean().item() == pytest.approx(0.2, abs=0.3)


# --- absent parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("present", [p for p in itertools.product([True, False], repeat=3) if any(p)])
def test_any_part_may_be_absent(present: tuple[bool, bool, bool]) -> None:
    channels = {
        f"{n}_channels": c if has else 0
        for n, c, has in zip(("high", "low", "coarse"), (10, 4, 2), present, strict=True)
    }
    model = net(**channels)
    inputs = [part if has else torch.empty(4, 0) for part, has in zip(batch(), present, strict=True)]
    answer = model(*inputs)
    assert answer.shape == (4,)
    huber_loss(answer, torch.full((4,), 0.3)).backward()
    assert all(p.grad is not None for p in model.parameters())  # nothing is built that is not used
    assert (model.head1 is not None) == (present[0] or present[1])
    assert (model.head2 is not None) == present[2]
    for index, part in enumerate(batch()):
        swapped = [*inputs[:index], torch.empty(4, 0) if present[index] else part, *inputs[index + 1 :]]
        with pytest.raises(ParameterError, match="absent" if present[index] else "not one of this network"):
            model(*swapped)


def test_coarse_products_alone_go_through_head_2_alone() -> None:
    model = net(high_channels=0, low_channels=0)
    assert count(model) == count(model.head2) == 8 * 2 + 8 + 16 + 9
    assert model.high is model.low is model.head1 is None
    assert model(None, None, torch.rand(3, 2)).shape == (3,)


def test_encoder_none_leaves_a_part_out() -> None:
    model = net(low_encoder="none")
    high, _, coarse = batch()
    assert model(high, torch.empty(4, 0), coarse).shape == (4,)


def test_an_absent_coarse_value_gives_an_absent_estimate() -> None:
    model, (high, low, coarse) = net().eval(), batch()
    coarse[1, 0] = float("nan")
    assert torch.isnan(model(high, low, coarse)).tolist() == [False, True, False, False]


# --- exchangeable encoders, shared features ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 256])
def test_parts_make_up_the_whole(size: int) -> None:
    model, (high, low, coarse) = net().eval(), batch(2, size)
    features = model.features_high(high)
    assert features.shape == (2, 128, size // 32, size // 32)
    torch.testing.assert_close(model.pool(features), model.embed_high(high))
    pooled = model.pool(features), model.embed_low(low)
    torch.testing.assert_close(model.head(*pooled, coarse), model(high, low, coarse))


def test_features_of_a_tile_are_those_of_its_windows_without_padding() -> None:
    """With 3 x 3 convolutions switched off nothing looks past a cell, and both ways agree exactly."""
    model = net(high_channels=3).eval()
    with torch.no_grad():
        for name, p in model.high.named_parameters():
            if name.endswith("convolution.weight"):
                p[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    tile = torch.rand(1, 3, 160, 128)
    whole = model.features_high(tile)
    window = model.features_high(tile[:, :, 32:96, 64:128])
    torch.testing.assert_close(whole[:, :, 1:3, 2:4], window)


def test_the_small_encoder_turns_with_its_image() -> None:
    """Its cells share the image evenly: a turned image has the turned map, once its kernels are turned too."""
    encoder = SmallEncoder(in_channels=3, output_stride=8).eval()
    image = torch.rand(1, 3, 32, 48)
    expected = encoder(image).flip(3)
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(module.weight.flip(3))
    torch.testing.assert_close(encoder(image.flip(3)), expected)


@pytest.mark.parametrize("output_stride", [1, 2, 4, 8, 16, 32])
def test_the_small_encoders_output_stride(output_stride: int) -> None:
    encoder = SmallEncoder(in_channels=4, output_stride=output_stride)
    assert encoder(torch.rand(2, 4, 64, 32)).shape == (
        2,
        encoder.features,
        64 // output_stride,
        32 // output_stride,
    )
    if output_stride > 1:
        with pytest.raises(ParameterError, match=f"multiples of {output_stride}"):
            encoder(torch.rand(2, 4, 65, 32))


def test_stochastic_depth_and_widths_reach_the_encoders() -> None:
    config = {"high_encoder": "xception65", "low_encoder": "xception41", "drop_path_keep": 0.6, "width_high": 0.25}
    with torch.device("meta"):
        model = MultiSourceNet(MultiSourceConfig(**config, width_low=0.5, norm_momentum=0.01))
    assert model.high.units[19].drop_path.keep == model.low.units[11].drop_path.keep == 0.6
    assert (model.high.features, model.low.features) == (512, 1024)
    assert model.low.output_stride == 16
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)} == {0.01}


def test_unknown_encoders_and_wrong_channels_are_errors() -> None:
    with pytest.raises(ParameterError, match="xception65"):
        build_encoder("resnet", 3)
    high, low, coarse = batch()
    with pytest.raises(ParameterError, match="10 channels"):
        net()(high[:, :4], low, coarse)
    with pytest.raises(ParameterError, match="coarse products"):
        net()(high, low, coarse[:, :1])
    with pytest.raises(ParameterError, match="number of samples"):
        net()(high, low[:3], coarse)
    with pytest.raises(ParameterError, match="no low encoder"):
        net(low_channels=0).embed_low(low)


# --- training --------------------------------------------------------------------------------------------------------------


def test_a_training_step_of_one_sample_is_refused_and_evaluation_is_not() -> None:
    model, one = net(), batch(1)
    with pytest.raises(ContractError, match="single sample"):
        model.train()(*one)
    assert model.eval()(*one).shape == (1,)
    with pytest.raises(ContractError, match="single sample"):
        model.train().head(torch.rand(1, 128), torch.rand(1, 128), torch.rand(1, 2))


def test_it_learns_and_bf16_keeps_the_coarse_products_precise() -> None:
    model = net(head1_keep=(1.0, 1.0, 1.0), head2_keep=(1.0, 1.0)).train()
    high, low, coarse = batch(32)
    target = 0.1 + 0.1 * high[:, 0, 24:40, 24:40].mean((1, 2)) + 0.8 * coarse.mean(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            prediction = model(high, low, coarse)
        assert prediction.dtype == torch.float32
        loss = huber_loss(prediction, target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_it_is_one_graph_to_the_compiler() -> None:
    model, inputs = net().eval(), batch()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), model(*inputs))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"high_encoder": "resnet"}, "high_encoder"),
        ({"low_channels": -1}, "low_channels"),
        ({"high_channels": 0, "low_channels": 0, "coarse_channels": 0}, "no inputs"),
        ({"head1": (128, 64, 2), "coarse_channels": 0}, "last width"),
        ({"head2": (8, 2)}, "last width"),
        ({"head1_keep": (0.5, 0.5)}, "head1_keep"),
        ({"head2_keep": (0.9, 0.0)}, "head2_keep"),
        ({"activation": "tanh"}, "activation"),
        ({"pool_width": float("inf")}, "None for a mean"),
        ({"output_stride_high": 5}, "output_stride"),
        ({"drop_path_keep": 0.0}, "drop_path_keep"),
    ],
)
def test_config_refuses_nonsense(values: dict, match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        net(**values)


def test_config_survives_json_and_the_registry() -> None:
    config = MultiSourceConfig(**SMALL, head1=(32, 1), head1_keep=(0.5, 0.6), pool_width=None)
    values = json.loads(json.dumps(asdict(config), allow_nan=False))
    assert MultiSourceConfig(**values) == config
    assert build_model("multisource", values).config == config
