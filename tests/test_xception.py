"""The image encoders: sizes and counts of the published networks, an independent implementation, stochastic depth, pooling."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from smnb.contract import ParameterError
from smnb.models.encoders import CentreWeightedPool, DropPath, SeparableConv, Xception, drop_path_keeps, scaled_channels


def on_meta(**values) -> Xception:
    """A network without memory: shapes and counts only."""
    with torch.device("meta"):
        return Xception(**values)


def narrow(**values) -> Xception:
    """A network of an eighth of the channels."""
    torch.manual_seed(0)
    return Xception(width=0.125, **values)


@pytest.mark.parametrize(
    ("depth", "in_channels", "count"),
    [(65, 10, 37_869_328), (65, 3, 37_867_312), (41, 4, 24_920_848), (41, 3, 24_920_560)],
)
def test_parameters_are_the_published_networks(depth: int, in_channels: int, count: int) -> None:
    assert sum(p.numel() for p in on_meta(depth=depth, in_channels=in_channels).parameters()) == count


@pytest.mark.parametrize(
    ("depth", "in_channels", "size", "output_stride", "features"),
    [
        (65, 10, 256, 32, 8),
        (65, 10, 256, 16, 16),
        (65, 10, 256, 8, 32),
        (41, 4, 16, 32, 1),
        (41, 4, 16, 16, 1),
        (41, 4, 16, 8, 2),
    ],
)
def test_feature_maps_have_the_papers_sizes(
    depth: int, in_channels: int, size: int, output_stride: int, features: int
) -> None:
    model = on_meta(depth=depth, in_channels=in_channels, output_stride=output_stride)
    images = torch.empty(2, in_channels, size, size, device="meta")
    assert model(images).shape == (2, 2048, features, features)
    assert model.features == 2048


def test_the_flows_of_a_paper_sized_image() -> None:
    model, shapes = on_meta(), []
    for layer in (model.root, *model.units):
        layer.register_forward_hook(lambda _m, _i, output: shapes.append((output.shape[1], output.shape[2])))
    model(torch.empty(1, 10, 256, 256, device="meta"))
    assert shapes[:4] == [(64, 128), (128, 64), (256, 32), (728, 16)]
    assert shapes[4:20] == [(728, 16)] * 16
    assert shapes[20:] == [(1024, 8), (2048, 8)]


def strides_and_rates(model: Xception) -> list[tuple[int, tuple[int, ...]]]:
    return [
        (unit.convolutions[2].depthwise.stride[0], tuple(c.depthwise.dilation[0] for c in unit.convolutions))
        for unit in model.units
    ]


def test_a_unit_that_would_stride_too_far_keeps_its_rate_and_dilates_those_behind_it() -> None:
    plain = (1, 1, 1)
    assert strides_and_rates(on_meta(depth=41, output_stride=32)) == [
        (2, plain),
        (2, plain),
        (2, plain),
        *[(1, plain)] * 8,
        (2, plain),
        (1, plain),
    ]
    assert strides_and_rates(on_meta(depth=41, output_stride=16))[-2:] == [(1, plain), (1, (2, 2, 2))]
    assert strides_and_rates(on_meta(depth=41, output_stride=8))[2:] == [
        (1, plain),
        *[(1, (2, 2, 2))] * 8,
        (1, (2, 2, 2)),
        (1, (4, 4, 4)),
    ]


def test_feature_i_is_centred_on_pixel_s_times_i() -> None:
    """DeepLab's alignment, seen in the gradient: what a feature depends on lies symmetrically around its pixel."""
    model = narrow(depth=41, in_channels=1, output_stride=8).eval().double()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):  # positive weights: nothing is cancelled or cut off
            nn.init.constant_(module.weight, 1.0 / module.weight[0].numel())
    for index in (8, 9):
        image = torch.ones(1, 1, 129, 129, dtype=torch.float64, requires_grad=True)
        model.units[:3](model.root(image))[0, :, index, index].sum().backward()
        profile = image.grad[0, 0].sum(0).numpy()
        assert np.average(np.arange(129), weights=profile) == pytest.approx(8 * index, abs=1e-9)


def test_the_output_strides_sample_the_same_map() -> None:
    """Dilation keeps the features: those of a finer map at every second place are those of the coarser map."""
    fine, coarse = narrow(in_channels=2, output_stride=16).eval(), narrow(in_channels=2, output_stride=32).eval()
    coarse.load_state_dict(fine.state_dict())
    image = torch.rand(1, 2, 128, 96)
    torch.testing.assert_close(fine(image)[:, :, ::2, ::2], coarse(image), rtol=1e-4, atol=1e-5)


def test_width_rounds_to_multiples_of_eight() -> None:
    assert [scaled_channels(c, 1.0) for c in (32, 64, 128, 256, 728, 1024, 1536, 2048)] == [
        32,
        64,
        128,
        256,
        728,
        1024,
        1536,
        2048,
    ]
    assert [scaled_channels(c, 0.25) for c in (32, 728, 2048)] == [8, 184, 512]
    assert scaled_channels(32, 0.05) == 8
    model = on_meta(depth=41, in_channels=4, width=0.5).eval()
    assert model(torch.empty(1, 4, 16, 16, device="meta")).shape[1] == model.features == 1024
    assert model.units[3].convolutions[0].pointwise.out_channels == 368  # 364 is no multiple of 8


def test_initial_weights_and_normalisation_are_deeplabs() -> None:
    model = narrow(depth=41, norm_momentum=0.0003)
    weights = torch.cat([m.weight.flatten() for m in model.modules() if isinstance(m, nn.Conv2d)])
    assert weights.abs().max() <= 0.18
    # a normal distribution cut at two standard deviations has 0.88 of the standard deviation
    assert weights.std().item() == pytest.approx(0.09 * 0.8796, rel=0.01)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.0003)}
    assert all(m.bias is None for m in model.modules() if isinstance(m, nn.Conv2d))


# --- an independent implementation -------------------------------------------------------------------------------------------

#: Our names and timm's (`XceptionAligned`), in the order in which they are replaced.
TIMM_NAMES = [
    (r"^root\.0\.", "stem.0.conv."),
    (r"^root\.1\.", "stem.0.bn."),
    (r"^root\.3\.", "stem.1.conv."),
    (r"^root\.4\.", "stem.1.bn."),
    (r"^units\.(\d+)\.shortcut\.0\.", r"blocks.\1.shortcut.conv."),
    (r"^units\.(\d+)\.shortcut\.1\.", r"blocks.\1.shortcut.bn."),
    (r"^units\.(\d+)\.convolutions\.0\.", r"blocks.\1.stack.conv1."),
    (r"^units\.(\d+)\.convolutions\.1\.", r"blocks.\1.stack.conv2."),
    (r"^units\.(\d+)\.convolutions\.2\.", r"blocks.\1.stack.conv3."),
    (r"\.depthwise\.", ".conv_dw."),
    (r"\.depthwise_norm\.", ".bn_dw."),
    (r"\.pointwise\.", ".conv_pw."),
    (r"\.pointwise_norm\.", ".bn_pw."),
]


def timm_name(name: str) -> str:
    for pattern, replacement in TIMM_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.parametrize(
    ("depth", "in_channels", "output_stride", "size"),
    [(41, 4, 32, (96, 64)), (41, 4, 16, (16, 16)), (41, 4, 8, (63, 50)), (65, 10, 32, (64, 64)), (65, 10, 8, (40, 40))],
)
def test_outputs_equal_an_independent_implementation(
    depth: int, in_channels: int, output_stride: int, size: tuple[int, int]
) -> None:
    timm = pytest.importorskip("timm", reason="timm, the independent implementation, is no dependency")
    torch.manual_seed(depth + output_stride)
    ours = Xception(depth, in_channels=in_channels, output_stride=output_stride, norm_momentum=1.0)
    with torch.no_grad():
        ours.train()(torch.rand(4, in_channels, *size))  # running statistics of this depth's own activations ...
        for module in ours.modules():
            if isinstance(module, nn.BatchNorm2d):  # ... which are then made different in every channel
                module.running_mean += 0.3 * module.running_var.sqrt() * torch.randn_like(module.running_mean)
                module.running_var *= torch.empty_like(module.running_var).uniform_(0.7, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
    theirs = timm.create_model(
        f"xception{depth}",
        pretrained=False,
        in_chans=in_channels,
        output_stride=output_stride,
        num_classes=0,
        global_pool="",
    )
    theirs.load_state_dict({timm_name(name): value for name, value in ours.state_dict().items()}, strict=True)
    images = torch.randn(4, in_channels, *size)
    # float32 with the running statistics; float64 with those of the batch, which are ill-conditioned for few values
    for training, dtype, limit in ((False, torch.float32, 1e-4), (True, torch.float64, 1e-7)):
        with torch.no_grad():
            mine, other = (m.to(dtype).train(training)(images.to(dtype)) for m in (ours, theirs))
        assert mine.shape == other.shape
        scale = other.abs().max().item()
        assert scale > 0.1
        difference = (mine - other).abs().max().item() / scale
        print(
            f"Xception-{depth}, stride {output_stride}, {dtype}, training {training}: largest difference {difference:.1e}"
        )
        assert difference < limit


# --- stochastic depth ----------------------------------------------------------------------------------------------------


def test_drop_path_keeps_its_share_and_the_mean() -> None:
    torch.manual_seed(0)
    layer = DropPath(0.6).train()
    out = layer(torch.ones(20_000, 2, 1, 1))
    kept = out[:, 0, 0, 0] > 0
    assert torch.equal(out[:, 0], out[:, 1])  # a sample's residual is dropped whole
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 1 / 0.6))
    assert kept.float().mean().item() == pytest.approx(0.6, abs=0.015)
    ones = torch.ones(3, 2)
    assert layer.eval()(ones) is ones


def test_keep_falls_linearly_with_depth_over_units_that_can_be_dropped() -> None:
    keeps = [unit.drop_path.keep for unit in on_meta(depth=41, drop_path_keep=0.6).units]
    assert keeps[:-1] == drop_path_keeps(12, 0.6)
    assert keeps[0] == pytest.approx(1 - 0.4 / 12)
    assert keeps[-2:] == [0.6, 1.0]  # the last unit has no shortcut: without its residual nothing would be left


def test_a_dropped_unit_passes_its_input_on() -> None:
    model = narrow(depth=41, in_channels=2).train()
    unit, x = model.units[5], torch.randn(3, model.units[5].convolutions[0].depthwise.in_channels, 4, 4)
    unit.drop_path.keep = 1e-9
    torch.testing.assert_close(unit(x), x)
    assert not torch.allclose(unit.eval()(x), x)


def test_gradients_reach_every_weight() -> None:
    model = narrow(depth=41, in_channels=3, output_stride=16).train()
    model(torch.randn(4, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "norm" not in n)


@pytest.mark.parametrize(
    "values",
    [
        {"depth": 71},
        {"output_stride": 4},
        {"in_channels": 0},
        {"width": 0.0},
        {"drop_path_keep": 0.0},
        {"drop_path_keep": 1.2},
        {"norm_momentum": 0.0},
    ],
)
def test_sizes_that_cannot_be_are_refused(values: dict) -> None:
    with pytest.raises(ParameterError, match=next(iter(values))):
        on_meta(**values)


def test_other_channels_are_refused() -> None:
    with pytest.raises(ParameterError, match="10 channels"):
        on_meta()(torch.empty(1, 4, 32, 32, device="meta"))


# --- centre-weighted pooling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [(1, 1), (2, 2), (7, 7), (8, 8), (5, 9)])
@pytest.mark.parametrize("width", [0.25, 1e-4, 0.1, None])
def test_weights_sum_to_one_and_are_symmetric(sides, width) -> None:
    weights = CentreWeightedPool(width).weights(*sides)
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-6)
    for flipped in (weights.flip(0), weights.flip(1), weights.flip(0, 1)):
        torch.testing.assert_close(flipped, weights, rtol=1e-6, atol=0)
    if sides[0] == sides[1]:
        torch.testing.assert_close(weights.rot90(), weights, rtol=1e-6, atol=0)


def test_weights_are_the_gaussian() -> None:
    i, j = np.mgrid[:8, :8]
    for centre in (3.5, 4.0):
        expected = np.exp(-((i - centre) ** 2 + (j - centre) ** 2) / (2 * 2.0**2))  # default width 8 / 4
        expected /= expected.sum()
        np.testing.assert_allclose(CentreWeightedPool(offset=centre - 3.5).weights(8, 8), expected, rtol=1e-5)
    np.testing.assert_allclose(CentreWeightedPool(None).weights(2, 3), 1 / 6, rtol=1e-6)
    assert CentreWeightedPool(1e-7).weights(8, 8).nonzero().tolist() == [[3, 3], [3, 4], [4, 3], [4, 4]]


def test_pooling_weights_the_centre_and_ignores_rotations_and_flips() -> None:
    torch.manual_seed(1)
    features = torch.randn(3, 5, 8, 8)
    pool = CentreWeightedPool()
    pooled = pool(features)
    expected = np.einsum("nfij,ij->nf", features.double().numpy(), pool.weights(8, 8).double().numpy())
    np.testing.assert_allclose(pooled, expected, rtol=1e-4, atol=1e-6)
    for turned in (features.flip(2), features.flip(3), features.rot90(1, (2, 3))):
        torch.testing.assert_close(pool(turned), pooled)
    torch.testing.assert_close(CentreWeightedPool(width=None)(features), features.mean((2, 3)))
    torch.testing.assert_close(pool(features[:, :, :1, :1]), features[:, :, 0, 0])  # the paper's low-resolution map
    assert pool(features.bfloat16()).dtype == torch.float32
    moved = CentreWeightedPool(offset=0.5)
    assert not torch.allclose(moved(features.flip(2)), moved(features))
    assert not list(pool.parameters())


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan, math.inf])
def test_pooling_refuses_nonsense(width: float) -> None:
    with pytest.raises(ParameterError, match="None for a mean"):
        CentreWeightedPool(width=width)


@pytest.mark.parametrize(("size", "rate"), [(1, 1), (1, 2), (2, 2), (3, 2)])
def test_where_only_the_middle_tap_meets_the_map_a_product_is_the_convolution(size, rate):
    torch.manual_seed(0)
    layer = SeparableConv(8, 8, stride=1, rate=rate, activation=False, momentum=0.1).eval()
    x = torch.randn(3, 8, size, size)
    np.testing.assert_allclose(layer._depthwise(x).detach(), layer.depthwise(x).detach(), atol=1e-6)
