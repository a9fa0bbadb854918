"""Masked losses against their formulas, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytesmo.metrics import pairwise

from smnb.contract import ContractError
from smnb.losses import euclidean_loss, unbiased_rmse_loss


def test_euclidean_is_half_the_mean_square() -> None:
    pred, target = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.0, 2.0, 2.0])
    assert euclidean_loss(pred, target).item() == pytest.approx((1 + 0 + 4) / 6)


def test_masked_values_count_neither_in_the_value_nor_in_the_gradient() -> None:
    pred = torch.tensor([1.0, 2.0, float("nan")], requires_grad=True)
    target = torch.tensor([0.0, float("nan"), 1.0])
    mask = torch.tensor([True, False, False])
    loss = euclidean_loss(pred, target, mask)
    loss.backward()
    assert loss.item() == pytest.approx(0.5)
    assert pred.grad.tolist() == [1.0, 0.0, 0.0]


def test_unmasked_nan_empty_mask_and_shapes_raise() -> None:
    with pytest.raises(ContractError, match="NaN"):
        euclidean_loss(torch.tensor([float("nan")]), torch.tensor([0.0]))
    with pytest.raises(ContractError, match="mask leaves nothing"):
        euclidean_loss(torch.ones(2), torch.ones(2), torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ContractError, match="shape"):
        euclidean_loss(torch.ones(2, 1), torch.ones(2))


def _images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    pred, target = (torch.rand(3, 5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    return pred, target, torch.rand(3, 5, 7, generator=generator) > 0.4


def test_unbiased_rmse_is_the_mean_over_images_of_the_standard_deviation_of_the_error() -> None:
    pred, target, mask = _images()
    expected = np.mean([(p[m] - t[m]).numpy().std() for p, t, m in zip(pred, target, mask, strict=True)])
    assert unbiased_rmse_loss(pred, target, mask).item() == pytest.approx(expected, abs=1e-12)
    # the same from an independent package: RMSD less bias
    ub = [pairwise.ubrmsd(p[m].numpy(), t[m].numpy()) for p, t, m in zip(pred, target, mask, strict=True)]
    assert unbiased_rmse_loss(pred, target, mask).item() == pytest.approx(np.mean(ub), abs=1e-12)


def test_unbiased_rmse_is_blind_to_the_level_of_each_image_and_to_masked_pixels() -> None:
    pred, target, mask = _images()
    loss = unbiased_rmse_loss(pred, target, mask)
    shifted = pred + torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64)[:, None, None]
    assert unbiased_rmse_loss(shifted, target, mask).item() == pytest.approx(loss.item(), abs=1e-12)
    holes = torch.where(mask, target, torch.full_like(target, float("nan")))
    assert unbiased_rmse_loss(pred, holes, mask).item() == loss.item()


def test_unbiased_rmse_gradient_is_exact_and_zero_where_masked() -> None:
    pred, target, mask = _images()
    pred.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: unbiased_rmse_loss(p, target, mask), (pred,))
    unbiased_rmse_loss(pred, target, mask).backward()
    assert (pred.grad[~mask] == 0).all()
    assert pred.grad.sum(dim=(1, 2)).abs().max() < 1e-12  # moving the level of an image changes nothing


def test_unbiased_rmse_of_a_perfect_image_has_a_finite_gradient() -> None:
    pred = torch.rand(2, 4, 4, requires_grad=True)
    loss = unbiased_rmse_loss(pred, pred.detach() + 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(pred.grad).all()


def test_unbiased_rmse_leaves_out_images_without_pixels_and_refuses_none_and_nan() -> None:
    pred, target, mask = _images()
    mask[1] = False
    assert unbiased_rmse_loss(pred, target, mask).item() == pytest.approx(
        unbiased_rmse_loss(pred[[0, 2]], target[[0, 2]], mask[[0, 2]]).item()
    )
    with pytest.raises(ContractError, match="two valid pixels"):
        unbiased_rmse_loss(pred, target, torch.zeros_like(mask))
    with pytest.raises(ContractError, match="NaN"):
        unbiased_rmse_loss(pred * float("nan"), target, mask)
