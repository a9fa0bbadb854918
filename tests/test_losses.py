"""Masked losses against their formulas, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytesmo.metrics import pairwise

from smnb.contract import ContractError, ParameterError
from smnb.training.losses import euclidean_loss, huber_loss, unbiased_rmse_loss


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


@pytest.mark.parametrize("delta", [0.05, 0.2, 0.4, 1.0])
def test_huber_equals_torchs_in_value_and_gradient(delta: float) -> None:
    pred, target, mask = _images()
    pred, other = (pred.clone().requires_grad_() for _ in range(2))
    ours, theirs = (
        huber_loss(pred, target, mask, delta=delta),
        torch.nn.functional.huber_loss(other[mask], target[mask], delta=delta),
    )
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    ours.backward(), theirs.backward()
    torch.testing.assert_close(pred.grad, other.grad)
    assert huber_loss(pred, target, delta=delta).item() == pytest.approx(
        torch.nn.functional.huber_loss(pred, target, delta=delta).item()
    )


def test_huber_is_exact_for_tiny_differences_and_the_absolute_difference_at_delta_0() -> None:
    pred, target = torch.full((4,), 1e-5), torch.zeros(4)
    assert huber_loss(pred, target).item() == pytest.approx(0.5e-10, rel=1e-6)
    pred, target = torch.tensor([0.5, -1.0, 2.0], requires_grad=True), torch.tensor([0.0, 0.0, float("nan")])
    loss = huber_loss(pred, target, torch.tensor([True, True, False]), delta=0.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.75)
    assert pred.grad.tolist() == [0.5, -0.5, 0.0]
    # its shape is the limit of the loss over delta
    narrow = huber_loss(pred[:2], target[:2], delta=1e-6) / 1e-6
    assert narrow.item() == pytest.approx(loss.item(), rel=1e-5)


def test_huber_refuses_nan_an_empty_mask_other_shapes_and_a_negative_delta() -> None:
    with pytest.raises(ContractError, match=r"huber_loss.*NaN"):
        huber_loss(torch.tensor([float("nan")]), torch.tensor([0.0]))
    with pytest.raises(ContractError, match="mask leaves nothing"):
        huber_loss(torch.ones(2), torch.ones(2), torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ContractError, match="shape"):
        huber_loss(torch.ones(2, 1), torch.ones(2))
    for delta in (-0.1, float("nan")):
        with pytest.raises(ParameterError, match="delta"):
            huber_loss(torch.ones(2), torch.ones(2), delta=delta)
