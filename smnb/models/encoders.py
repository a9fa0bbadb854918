"""Encoders of `smnb.models.multisource` by name, and the pooling of their maps to one embedding.

The image encoders, the paper's two (`smnb.models.xception`) and a small one for CPUs, are fully convolutional, so that one run
over a whole tile gives the features of all windows in it; the point encoder is for values at a point.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from smnb.contract import ParameterError, check_choice, check_count, check_range, plain
from smnb.models.registry import check_input
from smnb.models.xception import NORM_EPSILON, DropPath, ImageEncoder, Xception, drop_path_keeps, scaled_channels

ENCODERS = ("xception65", "xception41", "small", "point", "none")  # encoders of images, of values at a point, and none
#: Activations of the fusion heads and the point encoder; swish is also called SiLU.
ACTIVATIONS: dict[str, type[nn.Module]] = {"swish": nn.SiLU, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


class ResidualConv(nn.Module):
    """A 3 × 3 convolution with batch normalisation added to its input."""

    def __init__(self, channels: int, keep: float, momentum: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, NORM_EPSILON, momentum)
        self.drop_path = DropPath(keep)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, c, h, w)`` to the same shape."""
        return (x + self.drop_path(self.norm(self.convolution(x)))).relu_()


class SmallEncoder(ImageEncoder):
    """A few ordinary convolutions, for CPUs: patches, then a residual 3 × 3 convolution at each scale.

    Its strides, up to 4 at first and then of 2, come from patches that do not overlap, so that a map's cells share an image
    evenly: the middle of the image is the middle of the map, and turning one turns the other. No convolution is depthwise:
    those are bound by memory, and dense ones come near the rate at which a CPU multiplies matrices.

    Parameters
    ----------
    **sizes
        As `smnb.models.xception.ImageEncoder`. The output stride is a power of 2 to 32, of which images are whole multiples;
        the width multiplies 32 channels at first, up to 128.
    """

    def __init__(self, **sizes: float) -> None:
        super().__init__(**sizes, strides=(1, 2, 4, 8, 16, 32))
        strides = [min(4, self.output_stride)]
        while math.prod(strides) < self.output_stride:
            strides.append(2)
        widths = [scaled_channels(min(32 * 2**i, 128), self.width) for i in range(len(strides))]
        self.features = widths[-1]
        keeps = drop_path_keeps(len(strides), self.drop_path_keep)
        self.scales = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(channels, width, stride, stride, bias=False),
                    nn.BatchNorm2d(width, NORM_EPSILON, self.norm_momentum),
                    nn.ReLU(inplace=True),
                    ResidualConv(width, keep, self.norm_momentum),
                )
                for channels, width, stride, keep in zip(
                    [self.in_channels, *widths[:-1]], widths, strides, keeps, strict=True
                )
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # after He et al. (2015, doi:10.1109/ICCV.2015.123)
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode scaled, filled images; sizes that are no multiples of the output stride are a `ParameterError`."""
        check_input("SmallEncoder", images, "(image, channel, row, col)", self.in_channels)
        if any(side % self.output_stride for side in images.shape[2:]):
            what, sides = "the images do not fit the output stride", tuple(images.shape[2:])
            expected = plain(f"multiples of {self.output_stride}")
            step = "Choose another crop or a smaller output stride"
            raise ParameterError("SmallEncoder", what, got=sides, expected=expected, next_step=step)
        return self.scales(images)


class PointEncoder(nn.Module):
    """Fully connected layers over values at a point: an embedding without images, for the same fusion heads.

    The last of `widths` is the embedding's; `norm` (``batch``, ``layer``, ``none``) comes before each activation, and `keep` is
    the chance to keep one in training.
    """

    def __init__(
        self,
        in_features: int,
        widths: tuple[int, ...] = (128, 64),
        *,
        norm: str = "batch",
        keep: float = 1.0,
        activation: str = "swish",
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        who = "PointEncoder"
        check_choice(who, "norm", norm, ("batch", "layer", "none"))
        check_choice(who, "activation", activation, ACTIVATIONS)
        check_range(who, "keep", keep, 0, 1, ends="(]")
        if not widths or min(widths) < 1:
            raise ParameterError(who, "widths", got=widths, expected=plain("positive widths"))
        self.in_features, self.features = check_count(who, "in_features", in_features), widths[-1]
        layers: list[nn.Module] = []
        for inputs, width in zip((in_features, *widths), widths, strict=False):
            # the normalisation's own shift makes a bias superfluous
            layers.append(nn.Linear(inputs, width, bias=norm == "none"))
            if norm == "batch":
                layers.append(nn.BatchNorm1d(width, NORM_EPSILON, norm_momentum))
            elif norm == "layer":
                layers.append(nn.LayerNorm(width))
            layers += [ACTIVATIONS[activation](), nn.Dropout(1.0 - keep)]
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Encode ``(sample, value)``, scaled and filled, to ``(sample, feature)``."""
        check_input("PointEncoder", values, "(sample, value)", self.in_features, unit="values")
        return self.layers(values)


def build_encoder(name: str, channels: int, *, point: dict[str, Any], **sizes: float) -> nn.Module | None:
    """Build one of `ENCODERS`, whose ``features`` says how many it gives; None without channels, and for ``none``.

    `channels` are the images' or the number of values at the point, `point` the options of a `PointEncoder` and `sizes` those
    of the image encoders.
    """
    check_choice("build_encoder", "encoder", name, ENCODERS)
    if name == "none" or channels == 0:
        return None
    if name == "point":
        return PointEncoder(channels, **point)
    if name == "small":
        return SmallEncoder(in_channels=channels, **sizes)
    return Xception(int(name.removeprefix("xception")), in_channels=channels, **sizes)


class CentreWeightedPool(nn.Module):
    r"""Mean of a feature map, weighted by a Gaussian around its centre. It has no parameters to train.

    .. math:: w_{ij} \propto \exp\left(-\frac{(i - c)^2 + (j - c)^2}{2 \sigma^2}\right), \quad \sum w_{ij} = 1

    Batchu et al. estimate soil moisture at the centre of an image and give features there the most weight (their Figure 9); they
    print no formula, only that weights sum to 1. Rotations and flips of the image change nothing, since the weight depends on the
    distance alone.

    `width` is :math:`\sigma` as a share of the map's (smaller) side, so that it means the same for maps of any size; None weights
    all cells alike. `offset` is in cells from the map's middle to the Gaussian's centre, towards higher rows and columns: 0.5
    puts it on the middle of the image with Xception's alignment (which has the middle of 256 pixels at 3.98 of 8 cells, not
    3.5); only 0 leaves flipped images the same embedding.

    >>> CentreWeightedPool(width=1 / 3).weights(3, 3)
    tensor([[0.0751, 0.1238, 0.0751],
            [0.1238, 0.2042, 0.1238],
            [0.0751, 0.1238, 0.0751]])
    """

    def __init__(self, width: float | None = 0.25, offset: float = 0.0) -> None:
        super().__init__()
        if width is not None and not 0.0 < width < math.inf:
            expected = plain("positive, or None for a mean")
            raise ParameterError("CentreWeightedPool", "width", got=width, expected=expected)
        self.width, self.offset = width, offset

    def weights(self, rows: int, cols: int, device: torch.device | str | None = None) -> torch.Tensor:
        """Weights of a map of this size, ``(row, col)``, which sum to 1."""
        sigma = math.inf if self.width is None else self.width * min(rows, cols)
        of_row, of_col = (
            # a softmax: no width is so narrow that all weights vanish
            (-0.5 * ((torch.arange(side, dtype=torch.float32, device=device) - middle) / sigma) ** 2).softmax(0)
            for side, middle in ((side, (side - 1) / 2 + self.offset) for side in (rows, cols))
        )
        return of_row[:, None] * of_col[None, :]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Pool ``(image, feature, row, col)`` to ``(image, feature)``, in float32 at least."""
        weights = self.weights(*features.shape[2:], device=features.device)
        return (features * weights).sum((2, 3))

    def extra_repr(self) -> str:
        """The options."""
        return f"width={self.width}, offset={self.offset:g}"
