"""Centre-weighted global pooling: a feature map to one embedding, the centre of the map counting most.

Batchu et al. estimate soil moisture at the centre of an image and give features there the most weight (their Figure 9); they
print no formula, only that weights sum to 1. Here they are a Gaussian around the centre, with the plain average as the limit
of a wide one. Rotations and flips of the image change nothing, since the weight depends on the distance alone.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from smnb.contract import ParameterError, plain


def centre_weights(
    n: int | tuple[int, int],
    *,
    centre: float | tuple[float, float] | None = None,
    width: float | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    r"""Weights ``(row, col)``, float32, of the cells of a feature map, a Gaussian around its centre.

    .. math:: w_{ij} \propto \exp\left(-\frac{(i - c)^2 + (j - c)^2}{2 \sigma^2}\right), \quad \sum w_{ij} = 1

    Parameters
    ----------
    n : int or pair of int
        Rows and columns; they may differ.
    centre : float or pair of float, optional
        :math:`c` in cells from the first; default the middle, ``(n - 1) / 2``, which flips leave where it is. With Xception's
        alignment the middle of 256 pixels is at 3.98 of 8 cells, not 3.5 (`smnb.models.xception`).
    width : float, optional
        :math:`\sigma` in cells; default a quarter of the (smaller) side; infinity weights all cells alike.

    Examples
    --------
    >>> centre_weights(3, width=1.0)
    tensor([[0.0751, 0.1238, 0.0751],
            [0.1238, 0.2042, 0.1238],
            [0.0751, 0.1238, 0.0751]])
    """
    sides = (n, n) if isinstance(n, int) else tuple(n)
    if len(sides) != 2 or min(sides) < 1:
        raise ParameterError("centre_weights", "n", got=n, expected=plain("one or two sizes of at least 1"))
    width = min(sides) / 4 if width is None else width
    if not width > 0.0:
        raise ParameterError("centre_weights", "width", got=width, expected=plain("positive, or infinity for a mean"))
    if centre is None:
        centre = tuple((side - 1) / 2 for side in sides)
    centres = (centre, centre) if isinstance(centre, int | float) else tuple(centre)
    if len(centres) != 2 or not all(map(math.isfinite, centres)):
        raise ParameterError("centre_weights", "centre", got=centre, expected=plain("one or two finite positions"))
    rows, cols = (
        # a softmax: no width is so narrow that all weights vanish
        (-0.5 * ((torch.arange(side, dtype=torch.float32, device=device) - middle) / width) ** 2).softmax(0)
        for side, middle in zip(sides, centres, strict=True)
    )
    return rows[:, None] * cols[None, :]


class CentreWeightedPool(nn.Module):
    """Mean of a feature map, weighted by a Gaussian around its centre. It has no parameters to train.

    `width` is the standard deviation as a share of the map's (smaller) side, so that it means the same for maps of any size;
    None weights all cells alike. `offset` is in cells from the map's middle to the Gaussian's centre, towards higher rows and
    columns: 0.5 puts it on the middle of the image with Xception's alignment; only 0 leaves flipped images the same embedding.
    """

    def __init__(self, width: float | None = 0.25, offset: float = 0.0) -> None:
        super().__init__()
        if width is not None and not 0.0 < width < math.inf:
            what = plain("positive, or None for a mean")
            raise ParameterError("CentreWeightedPool", "width", got=width, expected=what)
        self.width, self.offset = width, offset

    def weights(self, rows: int, cols: int | None = None, device: torch.device | str | None = None) -> torch.Tensor:
        """Weights of a map of this size, ``(row, col)``, which sum to 1."""
        cols = rows if cols is None else cols
        return centre_weights(
            (rows, cols),
            centre=((rows - 1) / 2 + self.offset, (cols - 1) / 2 + self.offset),
            width=math.inf if self.width is None else self.width * min(rows, cols),
            device=device,
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Pool ``(image, feature, row, col)`` to ``(image, feature)``, in float32 at least."""
        weights = self.weights(*features.shape[2:], device=features.device)
        return (features * weights).sum((2, 3))

    def extra_repr(self) -> str:
        """The options."""
        return f"width={self.width}, offset={self.offset:g}"
