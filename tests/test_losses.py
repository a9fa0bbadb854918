"""Masked losses against their formulas, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from smnb.contract import ContractError
from smnb.losses import euclidean_loss


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
