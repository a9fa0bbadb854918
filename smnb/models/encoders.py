"""Encoders of `smnb.models.multisource` by name: the paper's two, a small one for CPUs, and one for values at a point.

The image encoders are fully convolutional, so that one run over a whole tile gives the features of all windows in it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn

from smnb.contract import ParameterError, check_choice, plain
from smnb.models.settings import check_input, check_settings
from smnb.models.xception import NORM_EPSILON, DropPath, Xception, XceptionConfig, drop_path_keeps, scaled_channels

#: Encoders of images, of values at a point, and none.
ENCODERS = ("xception65", "xception41", "small", "point", "none")
#: Activations of the fusion heads and the point encoder; swish is also called SiLU.
ACTIVATIONS: dict[str, type[nn.Module]] = {"swish": nn.SiLU, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}
SMALL_OUTPUT_STRIDES = (1, 2, 4, 8, 16, 32)
POINT_NORMS = ("batch", "layer", "none")


@dataclass(frozen=True)
class SmallEncoderConfig:
    """Sizes of the small image encoder.

    `output_stride` is pixels to a feature, along a side; images are whole multiples of it. `width` multiplies the channels, 32
    at first and up to 128, rounded to multiples of 8; `blocks` are residual 3 × 3 convolutions at each scale. `drop_path_keep`
    and `norm_momentum` are as in `smnb.models.xception.XceptionConfig`.
    """

    in_channels: int = 10
    output_stride: int = 32
    width: float = 1.0
    blocks: int = 1
    drop_path_keep: float = 1.0
    norm_momentum: float = 0.1

    def __post_init__(self) -> None:
        check_settings(
            self,
            counts=("in_channels", "blocks"),
            positive=("width",),
            shares=("drop_path_keep", "norm_momentum"),
            choices={"output_stride": SMALL_OUTPUT_STRIDES},
        )

    @property
    def scales(self) -> list[tuple[int, int]]:
        """Stride into each scale, and its channels: a first step of up to 4, then steps of 2."""
        strides = [min(4, self.output_stride)]
        while strides[0] * 2 ** (len(strides) - 1) < self.output_stride:
            strides.append(2)
        return [(s, scaled_channels(min(32 * 2**i, 128), self.width)) for i, s in enumerate(strides)]

    @property
    def features(self) -> int:
        """Channels of the feature map: 128 at a width of 1 and a stride of 16 or more."""
        return self.scales[-1][1]


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


class SmallEncoder(nn.Module):
    """A few ordinary convolutions, for CPUs: patches, then residual convolutions at each scale.

    Its strides come from patches that do not overlap, so that a map's cells share an image evenly: the middle of the image
    is the middle of the map, and turning one turns the other. No convolution is depthwise: those are bound by memory, and
    dense ones come near the rate at which a CPU multiplies matrices.
    """

    def __init__(self, config: SmallEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SmallEncoderConfig()
        keeps = iter(drop_path_keeps(len(config.scales) * config.blocks, config.drop_path_keep))
        scales, channels = [], config.in_channels
        for stride, width in config.scales:
            scales.append(
                nn.Sequential(
                    nn.Conv2d(channels, width, stride, stride, bias=False),
                    nn.BatchNorm2d(width, NORM_EPSILON, config.norm_momentum),
                    nn.ReLU(inplace=True),
                    *(ResidualConv(width, next(keeps), config.norm_momentum) for _ in range(config.blocks)),
                )
            )
            channels = width
        self.scales = nn.Sequential(*scales)
        self.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def reset_parameters(self) -> None:
        """Draw weights after He et al. (2015, doi:10.1109/ICCV.2015.123)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images ``(image, channel, row, col)``, scaled and filled, to ``(image, feature, row / stride, col / stride)``.

        Sizes that are no multiples of the output stride are a `ParameterError`.
        """
        stride = self.config.output_stride
        check_input("SmallEncoder", images, "(image, channel, row, col)", self.config.in_channels)
        if any(side % stride for side in images.shape[2:]):
            raise ParameterError(
                "SmallEncoder",
                "the images do not fit the output stride",
                got=tuple(images.shape[2:]),
                expected=plain(f"multiples of {stride}"),
                next_step="Choose another crop or a smaller output stride",
            )
        return self.scales(images)


@dataclass(frozen=True)
class PointEncoderConfig:
    """Sizes of the encoder of values at a point.

    The last of `widths` is the embedding's; `norm` (``batch``, ``layer``, ``none``) comes before each activation, and `keep` is
    the chance to keep one in training.
    """

    in_features: int = 1
    widths: tuple[int, ...] = (128, 64)
    norm: str = "batch"
    keep: float = 1.0
    activation: str = "swish"
    norm_momentum: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        check_settings(
            self,
            counts=("in_features",),
            shares=("keep", "norm_momentum"),
            choices={"norm": POINT_NORMS, "activation": tuple(ACTIVATIONS)},
        )
        if not self.widths or min(self.widths) < 1:
            raise ParameterError("PointEncoderConfig", "widths", got=self.widths, expected=plain("positive widths"))

    @property
    def features(self) -> int:
        """Length of the embedding."""
        return self.widths[-1]


class PointEncoder(nn.Module):
    """Fully connected layers over values at a point: an embedding without images, for the same fusion heads."""

    def __init__(self, config: PointEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PointEncoderConfig()
        layers: list[nn.Module] = []
        inputs = config.in_features
        for width in config.widths:
            # the normalisation's own shift makes a bias superfluous
            layers.append(nn.Linear(inputs, width, bias=config.norm == "none"))
            if config.norm == "batch":
                layers.append(nn.BatchNorm1d(width, NORM_EPSILON, config.norm_momentum))
            elif config.norm == "layer":
                layers.append(nn.LayerNorm(width))
            layers += [ACTIVATIONS[config.activation](), nn.Dropout(1.0 - config.keep)]
            inputs = width
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Encode ``(sample, value)``, scaled and filled, to ``(sample, feature)``."""
        check_input("PointEncoder", values, "(sample, value)", self.config.in_features, unit="values")
        return self.layers(values)


def build_encoder(
    name: str,
    channels: int,
    *,
    output_stride: int = 32,
    width: float = 1.0,
    drop_path_keep: float = 1.0,
    norm_momentum: float = 0.1,
    point: PointEncoderConfig | None = None,
) -> nn.Module | None:
    """Build one of `ENCODERS`; its ``config.features`` says how many features it gives.

    `channels` are the images' or the number of values at the point (which replaces that of `point`). None without channels, and
    for ``none``; the other options are the image encoders'.
    """
    check_choice("build_encoder", "encoder", name, ENCODERS)
    if name == "none" or channels == 0:
        return None
    if name == "point":
        return PointEncoder(PointEncoderConfig(**{**asdict(point or PointEncoderConfig()), "in_features": channels}))
    options = {"output_stride": output_stride, "width": width, "drop_path_keep": drop_path_keep}
    if name == "small":
        return SmallEncoder(SmallEncoderConfig(channels, norm_momentum=norm_momentum, **options))
    depth = int(name.removeprefix("xception"))
    return Xception(XceptionConfig(depth, channels, norm_momentum=norm_momentum, **options))
