"""The fusion network at 1 km, its 9 km branch and its composite loss."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from smnb.contract import ContractError, ParameterError
from smnb.grids import M01, M09, EaseWindow
from smnb.models import MODELS, build_model
from smnb.models.fusion_1km import Fusion1km, Fusion1kmConfig, coarse_mean, coarse_offset, coarse_to_fine
from smnb.training.losses import fusion_loss


def trained(**config) -> Fusion1km:
    """A network whose normalisations are no identities, as after training."""
    torch.manual_seed(1)
    network = build_model("fusion_1km", config)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            nn.init.uniform_(layer.weight, -1.0, 1.5), nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean), nn.init.uniform_(layer.running_var, 0.3, 2.0)
    nn.init.normal_(network.collapse.weight, std=0.2)
    return network.eval()


# --- the network ------------------------------------------------------------------------------------------------------


def test_the_network_has_the_papers_number_of_parameters() -> None:
    network = build_model("fusion_1km")
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert count == MODELS["fusion_1km"].n_parameters == 56_289
    assert sum(p.numel() for p in network.collapse.parameters()) == 33


def test_blocks_are_in_the_papers_order_and_one_value_a_pixel_is_left() -> None:
    network = Fusion1km()
    for block in network.blocks:
        assert [type(layer).__name__ for layer in block] == ["Conv3d", "ReLU", "Dropout3d", "BatchNorm3d"]
        assert block[0].kernel_size == (2, 3, 3)
    shapes = []
    for layer in (*network.blocks, network.collapse):
        layer.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape[1:])))
    assert network(torch.rand(2, 4, 20, 30)).shape == (2, 20, 30)
    assert shapes == [(32, 4, 20, 30), (32, 3, 20, 30), (32, 2, 20, 30), (32, 1, 20, 30), (1, 1, 20, 30)]


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (256, 40)])
def test_any_size_goes_in_and_comes_out(size: tuple[int, int]) -> None:
    assert Fusion1km().eval()(torch.rand(1, 4, *size)).shape == (1, *size)


@pytest.mark.parametrize("config", [{"in_channels": 2}, {"in_channels": 7}, {"blocks": 2}])
def test_other_sizes_work(config: dict) -> None:
    network = trained(**config)
    images = torch.rand(2, network.config.in_channels, 9, 11, requires_grad=True)
    network(images).square().sum().backward()
    assert (images.grad.abs().sum(dim=(0, 2, 3)) > 0).all()  # every channel counts


def test_network_equals_its_formula_by_2d_convolutions() -> None:
    network = trained(features=3).double()
    images = torch.rand(1, 4, 10, 12).double()
    planes = [*images[:, :, None].unbind(1), torch.zeros(1, 1, 10, 12).double()]
    for convolution, _, _, norm in network.blocks:
        sums = [
            functional.conv2d(a, convolution.weight[:, :, 0], convolution.bias, padding=1)
            + functional.conv2d(b, convolution.weight[:, :, 1], padding=1)
            for a, b in itertools.pairwise(planes)
        ]
        mean, variance = norm.running_mean[:, None, None], norm.running_var[:, None, None]
        planes = [
            (s.relu() - mean) / (variance + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
            for s in sums
        ]
    assert len(planes) == 1
    expected = functional.conv2d(planes[0], network.collapse.weight[:, :, 0], network.collapse.bias)[:, 0]
    torch.testing.assert_close(network(images), expected)


def test_spatial_dropout_drops_whole_feature_maps_in_training_only() -> None:
    network = Fusion1km(Fusion1kmConfig(dropout=0.5))
    dropped = network.blocks[0][:3].train()(torch.rand(1, 1, 5, 8, 8) + 1.0)
    empty = (dropped == 0).flatten(2).all(-1)
    kept = network.blocks[0][:3].eval()(torch.rand(1, 1, 5, 8, 8) + 1.0)
    assert empty.sum() > (kept == 0).flatten(2).all(-1).sum()
    images = torch.rand(1, 4, 8, 8)
    assert torch.equal(network.eval()(images), network(images))


def test_network_and_config_refuse_nonsense() -> None:
    with pytest.raises(ParameterError, match="4 channels"):
        Fusion1km()(torch.rand(1, 3, 8, 8))
    for values in ({"dropout": 1.0}, {"features": 0}):
        with pytest.raises(ParameterError, match=next(iter(values))):
            Fusion1kmConfig(**values)


@pytest.mark.parametrize("config", [{}, {"in_channels": 2}, {"in_channels": 6}])
@pytest.mark.parametrize("dead", [False, True])
def test_folded_form_equals_the_network_also_at_the_edges(config: dict, dead: bool) -> None:
    network = trained(**config)
    if dead:  # a normalisation that lets nothing through cannot be folded
        network.blocks[1][3].weight.data[5] = 0.0
    form = network.folded()
    assert form.is_folded is not dead
    images = torch.rand(network.config.in_channels, 21, 34)
    with torch.inference_mode():
        whole = network(images[None])[0]
        torch.testing.assert_close(form(functional.pad(images, (4, 4, 4, 4)), (4, 4, 4, 4)), whole, atol=1e-5, rtol=0)
        # one that lies outside by two rows and at the right edge
        part = functional.pad(images[:, :15, 10:], (0, 4, 2, 0))
        torch.testing.assert_close(form(part, (2, 0, 0, 4)), whole[2:11, 14:], atol=1e-5, rtol=0)


# --- the 9 km branch --------------------------------------------------------------------------------------------------


def test_coarse_mean_is_the_mean_over_valid_pixels_of_whole_cells() -> None:
    rng = np.random.default_rng(2)
    fine, valid = rng.normal(size=(2, 30, 24)), rng.random((2, 30, 24)) > 0.5
    fine[~valid] = np.nan
    mean, counts = coarse_mean(torch.from_numpy(fine), torch.from_numpy(valid), offset=(5, 0))
    assert mean.shape == (2, 2, 2)
    for image, row, col in np.ndindex(2, 2, 2):
        at = image, slice(5 + 9 * row, 14 + 9 * row), slice(9 * col, 9 * col + 9)
        assert bool(counts[image, row, col]) == (valid[at].mean() >= 0.5)
        if counts[image, row, col]:
            assert mean[image, row, col].item() == pytest.approx(np.nanmean(fine[at]), abs=1e-12)
    assert 0 < int(counts.sum()) < 8


def test_coarse_mean_takes_an_offset_an_image() -> None:
    fine = torch.rand(2, 27, 27)
    offsets = torch.tensor([[0, 3], [8, 1]])
    together, _ = coarse_mean(fine, offset=offsets, shape=(2, 2))
    alone = [coarse_mean(fine[[i]], offset=tuple(offsets[i].tolist()), shape=(2, 2))[0] for i in (0, 1)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_coarse_cells_are_those_of_the_nested_grid() -> None:
    window = EaseWindow(M01, 2020, 2060, 17943, 17990)
    row, col = coarse_offset(window)
    lat, lon = M01.latlon(np.arange(2020 + row, 2029 + row), np.full(9, 17943 + col))
    assert len(set(zip(*map(tuple, M09.rowcol(lat, lon)), strict=True))) == 1  # nine rows, one coarse cell
    assert (row, col) != (0, 0)
    assert M09.rowcol(*M01.latlon(2019 + row, 17943 + col))[0] != M09.rowcol(lat[:1], lon[:1])[0]


def test_coarse_to_fine_undoes_the_mean_of_constant_cells() -> None:
    coarse = torch.rand(1, 2, 3)
    fine = coarse_to_fine(coarse, (25, 30), offset=(4, 1))
    assert torch.isnan(fine[:, :4]).all()
    torch.testing.assert_close(coarse_mean(fine[:, 4:22, 1:28])[0], coarse)


def test_coarse_mean_refuses_cells_outside() -> None:
    with pytest.raises(ContractError, match="do not lie"):
        coarse_mean(torch.rand(1, 20, 20), offset=(3, 0), shape=(2, 2))
    with pytest.raises(ContractError, match="one shape"):
        coarse_mean(torch.rand(1, 20, 20), torch.ones(1, 20, 19, dtype=torch.bool))


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(3)
    values = {
        "pred": rng.normal(size=(2, 20, 22)),
        "in_situ": rng.normal(size=(2, 20, 22)),
        "in_situ_mask": rng.random((2, 20, 22)) > 0.97,
        "product": rng.normal(size=(2, 2, 2)),
        "product_mask": np.array([[[1, 1], [0, 1]], [[1, 0], [1, 1]]], dtype=bool),
    }
    values["valid"] = rng.random((2, 20, 22)) > 0.3
    values["in_situ"][~values["in_situ_mask"]] = np.nan
    values["product"][~values["product_mask"]] = np.nan
    return {name: torch.from_numpy(value) for name, value in values.items()}


@pytest.mark.parametrize("norms", [("l1", "l1"), ("l2", "l1"), ("l1", "l2"), ("l2", "l2")])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_fusion_loss_equals_its_formula_in_numpy(batch: dict, alpha: float, norms: tuple[str, str]) -> None:
    arrays = {name: value.numpy() for name, value in batch.items()}
    norm = {"l1": np.abs, "l2": np.square}
    at = arrays["in_situ_mask"]
    first = norm[norms[0]](arrays["pred"][at] - arrays["in_situ"][at]).mean()
    second = []
    for image, row, col in zip(*np.nonzero(arrays["product_mask"]), strict=True):
        cell = image, slice(2 + 9 * row, 11 + 9 * row), slice(1 + 9 * col, 10 + 9 * col)
        if arrays["valid"][cell].mean() >= 0.5:
            mean = arrays["pred"][cell][arrays["valid"][cell]].mean()
            second.append(norm[norms[1]](mean - arrays["product"][image, row, col]))
    loss = fusion_loss(**batch, offset=(2, 1), alpha=alpha, norms=norms)
    assert loss.item() == pytest.approx(alpha * first + (1 - alpha) * np.mean(second), abs=1e-12)


def test_fusion_loss_gradient_is_exact_and_zero_where_nothing_counts(batch: dict) -> None:
    batch["pred"].requires_grad_()

    def loss(pred: torch.Tensor) -> torch.Tensor:
        return fusion_loss(**{**batch, "pred": pred}, offset=(2, 1), alpha=0.4, norms=("l2", "l1"))

    assert torch.autograd.gradcheck(loss, (batch["pred"],))
    loss(batch["pred"]).backward()
    counts = torch.zeros_like(batch["valid"])
    cells = batch["product_mask"].repeat_interleave(9, 1).repeat_interleave(9, 2)
    counts[:, 2:, 1:19] = cells[:, :18] & batch["valid"][:, 2:, 1:19]
    assert torch.equal(batch["pred"].grad != 0, counts | batch["in_situ_mask"])


def test_masked_nan_of_the_prediction_spreads_nowhere(batch: dict) -> None:
    hole = ~batch["valid"] & ~batch["in_situ_mask"]
    batch["pred"] = torch.where(hole, torch.nan, batch["pred"]).requires_grad_()
    loss = fusion_loss(**batch, offset=(2, 1))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(batch["pred"].grad).all()


def test_ablations_do_not_look_at_the_other_target(batch: dict) -> None:
    other = {
        **batch,
        "product": torch.full_like(batch["product"], torch.nan),
        "product_mask": torch.ones_like(batch["product_mask"]),
    }
    assert fusion_loss(**other, offset=(2, 1), alpha=1.0) == fusion_loss(**batch, offset=(2, 1), alpha=1.0)
    other = {
        **batch,
        "in_situ": torch.full_like(batch["in_situ"], torch.nan),
        "in_situ_mask": torch.ones_like(batch["in_situ_mask"]),
    }
    assert fusion_loss(**other, offset=(2, 1), alpha=0.0) == fusion_loss(**batch, offset=(2, 1), alpha=0.0)


def test_a_term_without_anything_is_left_out(batch: dict) -> None:
    empty = {**batch, "in_situ_mask": torch.zeros_like(batch["in_situ_mask"])}
    loss = fusion_loss(**empty, offset=(2, 1), alpha=0.25)
    assert loss.item() == pytest.approx(0.75 * fusion_loss(**batch, offset=(2, 1), alpha=0.0).item())
    # a product that covers nothing, since no cell has valid pixels enough
    uncovered = {**batch, "valid": torch.zeros_like(batch["valid"])}
    loss = fusion_loss(**uncovered, offset=(2, 1), alpha=0.25)
    assert loss.item() == pytest.approx(0.25 * fusion_loss(**batch, offset=(2, 1), alpha=1.0).item())
    for nothing, alpha in ((empty, 1.0), (uncovered, 0.0), ({**empty, "valid": uncovered["valid"]}, 0.5)):
        with pytest.raises(ContractError, match="nothing to compare with"):
            fusion_loss(**nothing, offset=(2, 1), alpha=alpha)


def test_unmasked_nan_and_unknown_options_raise(batch: dict) -> None:
    for name, mask, alpha in (("in_situ", "in_situ_mask", 1.0), ("product", "product_mask", 0.0)):
        bad = {**batch, name: torch.full_like(batch[name], torch.nan), mask: torch.ones_like(batch[mask])}
        with pytest.raises(ContractError, match="NaN"):
            fusion_loss(**bad, offset=(2, 1), alpha=alpha)
    with pytest.raises(ContractError, match="NaN"):
        fusion_loss(**{**batch, "pred": batch["pred"] * torch.nan}, offset=(2, 1))
    with pytest.raises(ParameterError, match="alpha"):
        fusion_loss(**batch, alpha=1.5)
    with pytest.raises(ParameterError, match="l1"):
        fusion_loss(**batch, norms=("l1", "huber"))
    with pytest.raises(ContractError, match="do not lie"):
        fusion_loss(**batch, offset=(8, 0), alpha=0.5)


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    network = Fusion1km(Fusion1kmConfig(features=8, dropout=0.0)).train()
    images = torch.rand(2, 4, 27, 27)
    truth = functional.avg_pool2d(images.mean(1)[:, None], 3, 1, 1)[:, 0]  # what 3 x 3 kernels can learn
    batch = (truth, torch.rand(2, 27, 27) > 0.9, coarse_mean(truth)[0], torch.ones(2, 3, 3, dtype=torch.bool))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = fusion_loss(network(images), *batch, alpha=0.5)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
