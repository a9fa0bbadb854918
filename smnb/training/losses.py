"""Masked losses ``loss(pred, target, mask)``, each a scalar.

`ContractError` if shapes differ, nothing is valid, or an unmasked value is NaN, which raises instead of spreading.
"""

from __future__ import annotations

import torch

from smnb.contract import ContractError, ParameterError, check_range, plain
from smnb.models.fusion_1km import coarse_mean

FUSION_NORMS = ("l1", "l2")  # norms of the fusion loss's terms: mean absolute and mean squared difference


def _masked(pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None, who: str) -> torch.Tensor:
    """Return ``pred - target`` with masked elements zero; gradients there are exactly zero."""
    if pred.shape != target.shape:
        what = "prediction and target differ in shape"
        raise ContractError(who, what, got=tuple(pred.shape), expected=tuple(target.shape))
    if mask is not None:
        # where(), not a product: NaN * 0 is NaN
        pred, target = (torch.where(mask, one, torch.zeros_like(one)) for one in (pred, target))
    return pred - target


def _finite(loss: torch.Tensor, who: str) -> torch.Tensor:
    if torch.isnan(loss):
        next_step = "Mask missing targets; if the prediction is NaN, fill missing inputs or lower the learning rate"
        raise ContractError(who, "prediction or target is NaN where it is not masked", next_step=next_step)
    return loss


def _mean_of_valid(values: torch.Tensor, mask: torch.Tensor | None, who: str) -> torch.Tensor:
    """Mean of a loss's values, which are zero where masked."""
    count = values.numel() if mask is None else int(mask.sum())
    if count == 0:
        raise ContractError(who, "the mask leaves nothing", got=0, expected="at least one valid value")
    return _finite(values.sum() / count, who)


def euclidean_loss(pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    r"""Euclidean loss of Hu et al. (2018), half the mean squared difference over the N elements that the mask leaves.

    .. math:: L = \frac{1}{2N} \sum_i (\hat y_i - y_i)^2
    """
    return 0.5 * _mean_of_valid(_masked(pred, target, mask, "euclidean_loss").square(), mask, "euclidean_loss")


def unbiased_rmse_loss(pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    r"""Unbiased root-mean-square error of each image over its valid pixels, averaged over the images: Eq. 2 of SMEN.

    .. math::

        L = \frac{1}{N} \sum_n \sqrt{E_{M_n}\left[\left((\hat J_n - E_{M_n}[\hat J_n])
            - (J_n - E_{M_n}[J_n])\right)^2\right]}

    with the expectations over the valid pixels :math:`M_n` of image n. Adding a constant to an image changes nothing: the
    level must come from elsewhere (`experiment.add_level`). The paper multiplies the mask with the root, which as
    printed would leave the means to missing pixels; taking the means inside the mask is what makes it an ubRMSE.

    Tensors are (image, ...), the loss is in their unit; an image with fewer than two valid pixels is left out.

    References
    ----------
    Entekhabi et al. 2010, J. Hydrometeorology 11, 832-840, doi:10.1175/2010JHM1223.1 (the unbiased RMSE).
    """
    error = _masked(pred, target, mask, "unbiased_rmse_loss").flatten(1)  # (image, pixel), zero where masked
    valid = torch.ones_like(error) if mask is None else mask.flatten(1).to(error.dtype)
    count = valid.sum(1)
    usable = count >= 2
    if not bool(usable.any()):
        raise ContractError("unbiased_rmse_loss", "no image has two valid pixels", got=count.tolist())
    error, valid, count = error[usable], valid[usable], count[usable]
    centred = (error - (error.sum(1) / count)[:, None]) * valid
    mean_square = centred.square().sum(1) / count
    # the root has no slope at zero: a perfect image gets the slope zero instead of NaN
    loss = torch.where(mean_square == 0, torch.zeros_like(mean_square), mean_square.clamp_min(1e-20).sqrt()).mean()
    return _finite(loss, "unbiased_rmse_loss")


def fusion_loss(
    pred: torch.Tensor,
    in_situ: torch.Tensor,
    in_situ_mask: torch.Tensor,
    product: torch.Tensor,
    product_mask: torch.Tensor,
    offset: tuple[int, int] | torch.Tensor = (0, 0),
    valid: torch.Tensor | None = None,
    *,
    alpha: float = 0.5,
    norms: tuple[str, str] = ("l1", "l1"),
) -> torch.Tensor:
    r"""Composite loss of the fusion network: in-situ pixels at 1 km and a product at 9 km, Eqs. 1-3 of the paper.

    .. math::

        L = \alpha \lVert y_1 - P_\Omega f(X_1, X_2) \rVert + (1 - \alpha) \lVert Y_2 - D f(X_1, X_2) \rVert

    :math:`P_\Omega` takes the pixels with in-situ readings and D averages the valid pixels of each 9 km cell. Each term is
    a mean over all that the batch compares, whatever image it is from; a batch that has nothing for one leaves it out. The paper
    prints differences and no norm.

    Parameters
    ----------
    pred : Tensor, shape (image, row, col)
        Scaled soil moisture.
    in_situ : Tensor, same shape
        Readings on their pixels, scaled likewise; anything where masked.
    in_situ_mask : Tensor of bool, same shape
        The pixels of :math:`\Omega`.
    product : Tensor, shape (image, coarse row, coarse col)
        The coarse product on whole cells within the images, scaled likewise; anything where masked.
    product_mask : Tensor of bool, shape of `product`
    offset : pair of int, or Tensor of int, shape (image, 2)
        Rows and columns before the first coarse cell: `smnb.models.fusion_1km.coarse_offset`.
    valid : Tensor of bool, shape of `pred`, optional
        Pixels whose inputs are there: only these enter a 9 km mean, of cells that have half of theirs. An in-situ pixel counts
        by its own mask alone.
    alpha : float
        Weight of the in-situ term. 1 trains on in-situ readings alone, 0 on the product alone; then the other target is
        not looked at.
    norms : pair of str
        Of the in-situ and the product term: ``l1`` (mean absolute difference) or ``l2`` (mean squared difference).

    >>> pred, mask = torch.full((1, 9, 9), 0.3), torch.zeros(1, 9, 9, dtype=torch.bool)
    >>> mask[0, 4, 4] = True
    >>> product = torch.full((1, 1, 1), 0.2)
    >>> loss = fusion_loss(pred, torch.full((1, 9, 9), 0.5), mask, product, product > 0, alpha=0.75)
    >>> round(float(loss), 4)
    0.175
    """
    check_range("fusion_loss", "alpha", alpha, 0, 1)
    if len(norms) != 2 or not set(norms) <= set(FUSION_NORMS):
        raise ParameterError("fusion_loss", "unknown norms", got=norms, expected=plain(f"two of {FUSION_NORMS}"))
    parts = {}
    if alpha > 0.0:
        parts["in_situ"] = (alpha, norms[0], (pred, in_situ, in_situ_mask))
    if alpha < 1.0:
        mean, enough = coarse_mean(pred, valid, offset=offset, shape=tuple(product.shape[1:]))
        parts["product"] = (1.0 - alpha, norms[1], (mean, product, enough & product_mask))
    number = {name: int(mask.sum()) for name, (_, _, (_, _, mask)) in parts.items()}
    if not any(number.values()):
        cells = int(product_mask.sum())
        got = plain(f"alpha {alpha:g}, pixels and cells {number}, {cells} cells of the product in all")
        step = "Take patches with in-situ pixels or a product, or larger batches"
        raise ContractError("fusion_loss", "the batch has nothing to compare with", got=got, next_step=step)
    total = pred.new_zeros(())
    for name, (weight, norm, values) in parts.items():
        if number[name]:
            difference = _masked(*values, f"fusion_loss: {name} term")
            size = difference.abs() if norm == "l1" else difference.square()
            total = total + weight * _finite(size.sum() / number[name], "fusion_loss")
    return total


def huber_loss(
    pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None, *, delta: float = 0.4
) -> torch.Tensor:
    r"""Huber's loss: quadratic in small differences, linear in those above delta.

    .. math::

        L = \frac{1}{N} \sum_i \begin{cases} \frac{1}{2} e_i^2 & |e_i| \le \delta \\
            \delta (|e_i| - \frac{1}{2} \delta) & \text{otherwise} \end{cases}, \quad e_i = \hat y_i - y_i

    With labels in [0, 1] and the paper's delta of 0.4 nearly all differences are small ones: half the mean squared error.

    Parameters
    ----------
    pred, target : Tensor, any one shape
        Soil moisture, m3 m-3 (or scaled).
    mask : Tensor of bool, optional
        True where the target counts; N is the number of these.
    delta : float
        In the unit of the target; Table 7 chooses 0.4 from 0 to 1. 0 gives the mean absolute difference, the shape that the
        loss (over delta) tends to, where the formula itself would vanish.

    References
    ----------
    Huber 1964, Robust estimation of a location parameter, Ann. Math. Statist. 35, 73-101, doi:10.1214/aoms/1177703732.

    >>> round(float(huber_loss(torch.tensor([0.3, 1.0]), torch.tensor([0.1, 0.0]))), 4)
    0.17
    """
    check_range("huber_loss", "delta", delta, 0)
    size = _masked(pred, target, mask, "huber_loss").abs()
    if delta > 0.0:
        quadratic = size.clamp_max(delta)
        size = quadratic * (size - 0.5 * quadratic)
    return _mean_of_valid(size, mask, "huber_loss")
