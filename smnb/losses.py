"""Masked losses ``loss(pred, target, mask)``; an unmasked NaN raises instead of spreading."""

from __future__ import annotations

import torch

from smnb.contract import ContractError

__all__ = ["euclidean_loss", "unbiased_rmse_loss"]


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


def unbiased_rmse_loss(pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    r"""Unbiased root-mean-square error of each image over its valid pixels, averaged over the images: Eq. 2 of SMEN.

    .. math::

        L = \frac{1}{N} \sum_n \sqrt{E_{M_n}\left[\left((\hat J_n - E_{M_n}[\hat J_n])
            - (J_n - E_{M_n}[J_n])\right)^2\right]}

    with the expectations over the valid pixels :math:`M_n` of image n. Adding a constant to an image changes nothing: the
    level must come from elsewhere (`smnb.downscaling.add_level`). The paper multiplies the mask with the root, which as
    printed would leave the means to missing pixels; taking the means inside the mask is what makes it an ubRMSE.

    Parameters
    ----------
    pred, target : Tensor, shape (image, ...)
        Soil moisture; the loss is in the same unit.
    mask : Tensor of bool, same shape, optional
        True where the target counts. An image with fewer than two valid pixels is left out.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ContractError
        If shapes differ, no image has two valid pixels, or an unmasked value is NaN.

    References
    ----------
    Entekhabi et al. 2010, J. Hydrometeorology 11, 832-840, doi:10.1175/2010JHM1223.1 (the unbiased RMSE).
    """
    error = _masked(pred, target, mask, "unbiased_rmse_loss").flatten(1)  # (image, pixel), zero where masked
    valid = torch.ones_like(error) if mask is None else mask.flatten(1).to(error.dtype)
    count = valid.sum(1)
    usable = count >= 2
    if not bool(usable.any()):
        raise ContractError(
            "unbiased_rmse_loss",
            "no image has two valid pixels",
            got=count.tolist(),
            expected="at least 2 in one image",
        )
    error, valid, count = error[usable], valid[usable], count[usable]
    centred = (error - (error.sum(1) / count)[:, None]) * valid
    mean_square = centred.square().sum(1) / count
    # the root has no slope at zero: a perfect image gets the slope zero instead of NaN
    loss = torch.where(mean_square == 0, torch.zeros_like(mean_square), mean_square.clamp_min(1e-20).sqrt()).mean()
    if torch.isnan(loss):
        raise ContractError(
            "unbiased_rmse_loss", "prediction or target is NaN where it is not masked",
            next_step="Mask missing targets; if the prediction is NaN, lower the learning rate",
        )  # fmt: skip
    return loss
