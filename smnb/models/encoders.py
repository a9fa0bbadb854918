"""Encoders of `smnb.models.multisource`, fully convolutional, and the pooling of their maps to one embedding.

The paper names Xception-65 and -41 and cites Chollet (2017); their depths and the output stride are those of the "aligned"
networks of DeepLab, in which separable convolutions with a stride replace all max-pooling, which is what is built here. A unit
is three separable convolutions, the stride on the third, a ReLU before each and none inside; the last unit has them inside.

Alignment: every 3 × 3 convolution pads as much on either side, so that output i of a stride of 2 is centred on input pixel
2 i (padding by what is missing on the far side, as TensorFlow's own rule would, is a pixel off for even sizes). Feature i of
output stride s is therefore centred on pixel s i: the middle of 256 pixels, 127.5, is at feature 3.98 of 0..7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from smnb.contract import ParameterError, check_choice, check_count, check_range, plain
from smnb.models.registry import check_input

ENCODERS = ("xception65", "xception41", "small", "none")
MIDDLE_UNITS = {41: 8, 65: 16}  # units of the middle flow, by the number of layers in the network's name
NORM_EPSILON = 1e-3  # of the batch normalisations of DeepLab's Xception


def scaled_channels(channels: int, width: float) -> int:
    """Multiply a number of channels, to the nearest multiple of 8, at least 8."""
    return max(8, 8 * round(channels * width / 8))


def drop_path_keeps(units: int, keep: float) -> list[float]:
    """Chances to keep each of some units with shortcuts, first to last.

    >>> drop_path_keeps(4, 0.6)
    [0.9, 0.8, 0.7, 0.6]
    """
    return [round(1.0 - (number + 1) / units * (1.0 - keep), 12) for number in range(units)]


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, doi:10.1007/978-3-319-46493-0_39): in training, drop some samples' residual."""

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, residual: torch.Tensor) -> torch.Tensor:
        """Drop, for a residual of shape ``(sample, ...)``."""
        if not self.training or self.keep >= 1.0:
            return residual
        kept = torch.rand(len(residual), *[1] * (residual.ndim - 1), device=residual.device) < self.keep
        return residual * (kept.to(residual.dtype) / self.keep)

    def extra_repr(self) -> str:
        """The chance."""
        return f"keep={self.keep:g}"


class ImageEncoder(nn.Module):
    """Images ``(image, channel, row, col)`` to a map ``(image, feature, row / stride, col / stride)``; the sizes are checked.

    `output_stride` is pixels to a feature along a side. `width` multiplies every number of channels, rounded to multiples of 8:
    the paper's "fractional depth multiplier" of the low-resolution encoder, whose value it does not state. `drop_path_keep` is
    the chance to keep the residual of the last unit with a shortcut in training (stochastic depth); it falls linearly from near 1
    at the first, the rule of Huang et al. and of DeepLab's drop path (whose further decrease over training steps is left out).
    `norm_momentum` is the weight of a batch in the running statistics: DeepLab's decay of 0.9997 is 0.0003 here, and needs some
    ten thousand steps before evaluation means anything; 0.1 (timm's) suits short runs too.
    """

    #: Channels of the feature map.
    features: int

    def __init__(
        self,
        in_channels: int = 10,
        output_stride: int = 32,
        width: float = 1.0,
        drop_path_keep: float = 1.0,
        norm_momentum: float = 0.1,
        *,
        strides: Sequence[int],
    ) -> None:
        super().__init__()
        who = type(self).__name__
        self.in_channels = check_count(who, "in_channels", in_channels)
        (self.output_stride,) = check_choice(who, "output_stride", output_stride, strides)
        check_range(who, "width", width, 0, ends="(]")
        for name, share in (("drop_path_keep", drop_path_keep), ("norm_momentum", norm_momentum)):
            check_range(who, name, share, 0, 1, ends="(]")
        self.width, self.drop_path_keep, self.norm_momentum = width, drop_path_keep, norm_momentum


class SeparableConv(nn.Module):
    """A 3 × 3 convolution of each channel and a 1 × 1 convolution across them, each with batch normalisation."""

    def __init__(
        self, in_channels: int, channels: int, *, stride: int, rate: int, activation: bool, momentum: float
    ) -> None:
        super().__init__()
        # padding by the rate on both sides keeps outputs aligned whatever the stride, see the module
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, 3, stride, padding=rate, dilation=rate, groups=in_channels, bias=False
        )
        self.depthwise_norm = nn.BatchNorm2d(in_channels, NORM_EPSILON, momentum)
        self.pointwise = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.pointwise_norm = nn.BatchNorm2d(channels, NORM_EPSILON, momentum)
        self.activation = nn.ReLU(inplace=True) if activation else nn.Identity()

    def _depthwise(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution of each channel; where its other taps meet nothing but padding, a product with the middle one.

        That is so on the 1 x 1 maps of small images, where a dilated depthwise convolution is slow for what it does.
        """
        conv = self.depthwise
        if max(x.shape[2:]) > conv.dilation[0] or conv.stride[0] != 1:
            return conv(x)
        x = x * conv.weight[:, 0, 1, 1].view(1, -1, 1, 1)
        return x if conv.bias is None else x + conv.bias.view(1, -1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, in, h, w)`` to ``(n, out, h / stride, w / stride)``."""
        x = self.activation(self.depthwise_norm(self._depthwise(x)))
        return self.activation(self.pointwise_norm(self.pointwise(x)))


class XceptionUnit(nn.Module):
    """Three separable convolutions and a shortcut: its ``identity``, a 1 × 1 ``convolution`` or ``none``.

    The stride is the third convolution's and the shortcut's; without one, ReLU is within the convolutions, not before.
    """

    def __init__(
        self,
        in_channels: int,
        channels: tuple[int, int, int],
        *,
        stride: int,
        shortcut: str,
        keep: float,
        **options: Any,
    ) -> None:
        super().__init__()
        self.kind = shortcut
        inputs = (in_channels, *channels[:2])
        self.convolutions = nn.ModuleList(
            SeparableConv(one, other, stride=step, activation=shortcut == "none", **options)
            for one, other, step in zip(inputs, channels, (1, 1, stride), strict=True)
        )
        if shortcut == "convolution":
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels[2], 1, stride, bias=False),
                nn.BatchNorm2d(channels[2], NORM_EPSILON, options["momentum"]),
            )
        self.drop_path = DropPath(keep)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, in, h, w)`` to ``(n, out, h / stride, w / stride)``."""
        residual = x
        for number, convolution in enumerate(self.convolutions):
            if self.kind != "none":
                # the unit's input is needed for the shortcut; what a normalisation has made is not needed again
                residual = functional.relu(residual, inplace=number > 0)
            residual = convolution(residual)
        if self.kind == "none":
            return residual
        residual = self.drop_path(residual)
        return residual + (x if self.kind == "identity" else self.shortcut(x))


class Xception(ImageEncoder):
    """Aligned Xception: images to a map of features, 2048 of them at a width of 1.

    `depth` is 65 or 41, `sizes` are those of `ImageEncoder`. The output stride is 8, 16 or 32: where a unit would exceed it, its
    stride becomes 1, and the units after it (not itself) are dilated by that stride.

    Chollet 2017, doi:10.1109/CVPR.2017.195; Chen et al. 2018 (DeepLab), doi:10.1007/978-3-030-01234-2_49.
    """

    def __init__(self, depth: int = 65, **sizes: float) -> None:
        super().__init__(**sizes, strides=(8, 16, 32))
        check_choice("Xception", "depth", depth, MIDDLE_UNITS)
        self.features = scaled_channels(2048, self.width)
        root = [scaled_channels(channels, self.width) for channels in (32, 64)]
        self.root = nn.Sequential(
            nn.Conv2d(self.in_channels, root[0], 3, 2, padding=1, bias=False),
            nn.BatchNorm2d(root[0], NORM_EPSILON, self.norm_momentum),
            nn.ReLU(inplace=True),
            nn.Conv2d(root[0], root[1], 3, padding=1, bias=False),
            nn.BatchNorm2d(root[1], NORM_EPSILON, self.norm_momentum),
            nn.ReLU(inplace=True),
        )
        self.units = nn.Sequential(*self._units(root[1], MIDDLE_UNITS[depth]))
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)  # the fast layout on CPUs and on tensor cores; changes no result

    def _units(self, in_channels: int, middle: int) -> list[XceptionUnit]:
        """Units of the three flows, with the strides and dilations that the output stride leaves."""
        plan = [  # channels, stride, shortcut
            ((128,) * 3, 2, "convolution"),
            ((256,) * 3, 2, "convolution"),
            ((728,) * 3, 2, "convolution"),
            *[((728,) * 3, 1, "identity")] * middle,
            ((728, 1024, 1024), 2, "convolution"),
            ((1536, 1536, 2048), 1, "none"),
        ]
        keeps = [*drop_path_keeps(len(plan) - 1, self.drop_path_keep), 1.0]
        units, reached, rate = [], 2, 1  # the root has a stride of 2
        for (channels, stride, shortcut), keep in zip(plan, keeps, strict=True):
            widths = tuple(scaled_channels(count, self.width) for count in channels)
            beyond = reached * stride > self.output_stride
            options = {"shortcut": shortcut, "keep": keep, "momentum": self.norm_momentum}
            units.append(XceptionUnit(in_channels, widths, stride=1 if beyond else stride, rate=rate, **options))
            if beyond:
                rate *= stride  # of the units that follow: this one saw all of its input
            else:
                reached *= stride
            in_channels = widths[2]
        return units

    def reset_parameters(self) -> None:
        """Draw weights from DeepLab's normal distribution of 0.09, truncated at two standard deviations."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.09, a=-0.18, b=0.18)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images that are scaled to [-1, 1], missing values filled; the map's sides are rounded up."""
        check_input("Xception", images, "(image, channel, row, col)", self.in_channels)
        # sizes for the paper's 10 x 256 x 256 at output stride 32
        x = self.root(images)  # (n, 64, 128, 128)
        # (n, 128, 64, 64), (n, 256, 32, 32), (n, 728, 16, 16), ..., (n, 1024, 8, 8), (n, 2048, 8, 8)
        return self.units(x)


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

    The output stride is a power of 2 to 32, of which images are whole multiples; the width multiplies 32 channels at first, up
    to 128.
    """

    def __init__(self, **sizes: float) -> None:
        super().__init__(**sizes, strides=(1, 2, 4, 8, 16, 32))
        strides = [min(4, self.output_stride)]
        while math.prod(strides) < self.output_stride:
            strides.append(2)
        widths = [scaled_channels(min(32 * 2**i, 128), self.width) for i in range(len(strides))]
        self.features = widths[-1]
        keeps = drop_path_keeps(len(strides), self.drop_path_keep)
        inputs, momentum = [self.in_channels, *widths[:-1]], self.norm_momentum
        self.scales = nn.Sequential()
        for channels, width, stride, keep in zip(inputs, widths, strides, keeps, strict=True):
            patches = nn.Conv2d(channels, width, stride, stride, bias=False)
            norm = nn.BatchNorm2d(width, NORM_EPSILON, momentum)
            self.scales.append(nn.Sequential(patches, norm, nn.ReLU(inplace=True), ResidualConv(width, keep, momentum)))
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


def build_encoder(name: str, channels: int, **sizes: float) -> nn.Module | None:
    """Build one of `ENCODERS`, whose ``features`` says how many it gives; None without channels, and for ``none``."""
    check_choice("build_encoder", "encoder", name, ENCODERS)
    if name == "none" or channels == 0:
        return None
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
        cells = [torch.arange(side, dtype=torch.float32, device=device) for side in (rows, cols)]
        away = [one - ((len(one) - 1) / 2 + self.offset) for one in cells]
        of_row, of_col = ((-0.5 * (one / sigma) ** 2).softmax(0) for one in away)  # no width makes all weights vanish
        return of_row[:, None] * of_col[None, :]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Pool ``(image, feature, row, col)`` to ``(image, feature)``, in float32 at least."""
        weights = self.weights(*features.shape[2:], device=features.device)
        return (features * weights).sum((2, 3))

    def extra_repr(self) -> str:
        """The options."""
        return f"width={self.width}, offset={self.offset:g}"
