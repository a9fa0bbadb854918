"""Masked losses ``loss(pred, target, mask)``; an unmasked NaN raises instead of spreading."""

from __future__ import annotations

import torch

from smnb.contract import ContractError

__all__ = ["euclidean_loss"]


def _masked(pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None, who: str) -> torch.Tensor:
    """Return ``pred - target`` with masked elements zero; gradients there are exactly zero."""
    if pred.shape != target.shape:
        raise ContractError(
            who, "prediction and target differ in shape", got=tuple(pred.shape), expected=tuple(target.shape)
        )
    if mask is not None:
        # where(), not a product: NaN * 0 is NaN
        target = torch.where(mask, target, pred.detach())
        pred = torch.where(mask, pred, pred.detach())
        target = torch.where(mask, target, torch.zeros_like(target))
        pred = torch.where(mask, pred, torch.zeros_like(pred))
    return pred - target


def euclidean_loss(pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    r"""Euclidean loss of Hu et al. (2018): half the mean squared difference.

    .. math:: L = \frac{1}{2N} \sum_i (\hat y_i - y_i)^2

    Parameters
    ----------
    pred, target : Tensor, any one shape
        Scaled soil moisture.
    mask : Tensor of bool, optional
        True where the target counts; N is the number of these.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ContractError
        If shapes differ, nothing is valid, or an unmasked value is NaN.
    """
    difference = _masked(pred, target, mask, "euclidean_loss")
    count = difference.numel() if mask is None else int(mask.sum())
    if count == 0:
        raise ContractError("euclidean_loss", "the mask leaves nothing", got=0, expected="at least one valid value")
    loss = 0.5 * difference.square().sum() / count
    if torch.isnan(loss):
        raise ContractError(
            "euclidean_loss", "prediction or target is NaN where it is not masked",
            next_step="Mask missing targets; if the prediction is NaN, lower the learning rate",
        )  # fmt: skip
    return loss
