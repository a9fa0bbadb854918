"""The network of Batchu et al. 2023 (doi:10.1175/JHM-D-22-0118.1): image encoders of two resolutions, and two fusion heads.

High-resolution images (Sentinel-1, Sentinel-2, elevation; 10 m) and low-resolution ones (soil; 160 m) are encoded apart and
pooled to one embedding each. Fusion head 1 turns both embeddings into one value; fusion head 2 turns that value and the
coarse estimates at the point (SMAP, GLDAS) into soil moisture. Any part may be absent, as in the paper's ablations:

- no coarse products: head 1's value is the answer, and there is no head 2;
- no images: the coarse products go through head 2 alone (the paper's "SMAP + GLDAS" network).

What the paper leaves open, and what is done here:

- A head of shape (128, 64, 1) is two blocks of [dropout, fully connected, batch normalisation, activation], and a last
  [dropout, fully connected] of width 1. So it has as many layers as keep probabilities.
- The weights of the pooling, see `smnb.models.encoders.CentreWeightedPool`; the width multiplier of the low-resolution encoder
  is 1; the drop-path keep probability of 0.6 is that of both encoders.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from smnb.contract import ContractError, ParameterError, check_count, plain
from smnb.models.encoders import ENCODERS, NORM_EPSILON, CentreWeightedPool, build_encoder
from smnb.models.registry import check_input, check_settings

ACTIVATIONS: dict[str, type[nn.Module]] = {"swish": nn.SiLU, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


@dataclass(frozen=True)
class MultiSourceConfig:
    """Sizes of the network; the defaults are Table 7's. No channels leave a part out, as does an encoder ``none``."""

    high_channels: int = 10  # of the images of 10 m
    low_channels: int = 4
    coarse_channels: int = 2
    high_encoder: str = "xception65"  # of `smnb.models.encoders.ENCODERS`
    low_encoder: str = "xception41"
    width_high: float = 1.0  # multiplier of the encoder's channels
    width_low: float = 1.0
    output_stride_high: int = 32
    output_stride_low: int = 16
    drop_path_keep: float = 0.6  # chance to keep the last unit's residual of each encoder in training
    pool_width: float | None = 0.25  # of `smnb.models.encoders.CentreWeightedPool`, as is the offset
    pool_offset: float = 0.0
    head1: tuple[int, ...] = (128, 64, 1)  # widths of a fusion head's layers; that which gives the answer ends with 1
    head1_keep: tuple[float, ...] = (0.5, 0.5, 0.6)  # chance to keep an input of each layer in training
    head2: tuple[int, ...] = (8, 1)
    head2_keep: tuple[float, ...] = (0.9, 0.9)
    activation: str = "swish"  # of the fusion heads, one of `ACTIVATIONS`
    norm_momentum: float = 0.1  # weight of a batch in the running statistics, see `smnb.models.encoders.ImageEncoder`
    initial_output: float = 0.2  # what the untrained network is near to, m3 m-3

    def __post_init__(self) -> None:
        who = "MultiSourceConfig"
        for name in ("head1", "head1_keep", "head2", "head2_keep"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a checkpoint's JSON has lists
        for name in ("high_channels", "low_channels", "coarse_channels"):
            check_count(who, name, getattr(self, name), 0)
        check_settings(self, choices={"high_encoder": ENCODERS, "low_encoder": ENCODERS, "activation": ACTIVATIONS})
        for name in ("head1", "head2"):
            widths, keep = getattr(self, name), getattr(self, f"{name}_keep")
            if not widths or min(widths) < 1:
                raise ParameterError(who, name, got=widths, expected=plain("one or more positive widths"))
            if len(keep) != len(widths) or not all(0.0 < k <= 1.0 for k in keep):
                raise ParameterError(who, f"{name}_keep", got=keep, expected=plain(f"{len(widths)} values in (0, 1]"))
        if not (self.has_images or self.coarse_channels):
            raise ParameterError(who, "no inputs", got=plain("neither images nor coarse products"))
        answer = "head2" if self.coarse_channels else "head1"
        if getattr(self, answer)[-1] != 1:
            raise ParameterError(who, answer, got=getattr(self, answer), expected=plain("1 as the last width"))

    @property
    def high_inputs(self) -> int:
        """Channels that the high-resolution encoder takes, 0 without one."""
        return 0 if self.high_encoder == "none" else self.high_channels

    @property
    def low_inputs(self) -> int:
        """Channels that the low-resolution encoder takes, 0 without one."""
        return 0 if self.low_encoder == "none" else self.low_channels

    @property
    def has_images(self) -> bool:
        """Whether there is an encoder, and so a fusion head 1."""
        return bool(self.high_inputs or self.low_inputs)


class FusionHead(nn.Sequential):
    """Blocks of [dropout, fully connected, batch normalisation, activation], and a last [dropout, fully connected].

    `keep` is the chance to keep an input of each layer in training, `initial` the last bias at first. The output is unrestricted.
    """

    def __init__(
        self,
        in_features: int,
        widths: tuple[int, ...],
        keep: tuple[float, ...],
        *,
        activation: str = "swish",
        momentum: float = 0.1,
        initial: float = 0.0,
    ) -> None:
        layers: list[nn.Module] = []
        inputs = in_features
        for number, (width, kept) in enumerate(zip(widths, keep, strict=True)):
            layers += [nn.Dropout(1.0 - kept), nn.Linear(inputs, width)]
            if number < len(widths) - 1:
                layers += [nn.BatchNorm1d(width, NORM_EPSILON, momentum), ACTIVATIONS[activation]()]
            inputs = width
        super().__init__(*layers)
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        # the answer starts near `initial`, and head 1's not above the coarse products that head 2 joins it with
        nn.init.normal_(layers[-1].weight, std=1.0 / layers[-1].in_features)
        nn.init.constant_(layers[-1].bias, initial)


class MultiSourceNet(nn.Module):
    """Images around a point and coarse estimates at it, to the soil moisture at the point."""

    config_class = MultiSourceConfig

    def __init__(self, config: MultiSourceConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MultiSourceConfig()
        shared = {"drop_path_keep": config.drop_path_keep, "norm_momentum": config.norm_momentum}
        high = {"width": config.width_high, "output_stride": config.output_stride_high, **shared}
        low = {"width": config.width_low, "output_stride": config.output_stride_low, **shared}
        self.high = build_encoder(config.high_encoder, config.high_inputs, **high)
        self.low = build_encoder(config.low_encoder, config.low_inputs, **low)
        self.pool = CentreWeightedPool(config.pool_width, config.pool_offset)
        options = {"activation": config.activation, "momentum": config.norm_momentum}
        fused = 0
        self.head1 = self.head2 = None
        if config.has_images:
            embedded = sum(encoder.features for encoder in (self.high, self.low) if encoder is not None)
            initial = 0.0 if config.coarse_channels else config.initial_output
            self.head1 = FusionHead(embedded, config.head1, config.head1_keep, initial=initial, **options)
            fused = config.head1[-1]
        if config.coarse_channels:
            options["initial"] = config.initial_output
            self.head2 = FusionHead(fused + config.coarse_channels, config.head2, config.head2_keep, **options)

    def features_high(self, images: torch.Tensor) -> torch.Tensor:
        """Feature map of high-resolution images ``(image, channel, row, col)`` of any size."""
        return self._encoder("high")(images)

    def embed_high(self, images: torch.Tensor) -> torch.Tensor:
        """Embedding ``(image, feature)`` of high-resolution images."""
        return self.pool(self.features_high(images))

    def embed_low(self, images: torch.Tensor) -> torch.Tensor:
        """Embedding ``(image, feature)`` of low-resolution images."""
        return self.pool(self._encoder("low")(images))

    def head(self, high: torch.Tensor | None, low: torch.Tensor | None, coarse: torch.Tensor | None) -> torch.Tensor:
        """Soil moisture ``(sample,)``, m3 m-3, from embeddings ``(sample, feature)`` and coarse products ``(sample, channel)``.

        None is for parts that the network has not; a missing coarse product (NaN) gives a missing estimate in evaluation.
        """
        given = {"high": high, "low": low, "coarse": coarse}
        self._check_parts(given)
        if self.head2 is not None:
            number = self.config.coarse_channels
            check_input("MultiSourceNet", coarse, "(sample, channel)", number, unit="coarse products")
        weight = (self.head1 if self.head2 is None else self.head2)[1].weight
        parts = []
        # in full precision: bf16 would round the coarse products to steps of 0.001 m3 m-3, and the heads cost nothing
        with torch.autocast(weight.device.type, enabled=False):
            if self.head1 is not None:
                embeddings = [given[n].to(weight.dtype) for n in ("high", "low") if getattr(self, n) is not None]
                parts.append(self.head1(torch.cat(embeddings, 1)))  # (n, 4096) -> (n, 1)
            if self.head2 is not None:
                parts = [self.head2(torch.cat([*parts, coarse.to(weight.dtype)], 1))]  # (n, 1 + 2) -> (n, 1)
        return parts[0].squeeze(1)

    def forward(
        self, high: torch.Tensor | None, low: torch.Tensor | None = None, coarse: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Estimate soil moisture ``(sample,)``, m3 m-3, not restricted to a range.

        Images ``(sample, channel, row, col)`` are scaled to [-1, 1], missing values filled; ``(sample, 0)`` or None where the
        network has no such encoder. Coarse products ``(sample, channel)`` are m3 m-3.
        """
        self._check_parts({"high": high, "low": low, "coarse": coarse})
        return self.head(
            None if self.high is None else self.embed_high(high),
            None if self.low is None else self.embed_low(low),
            coarse,
        )

    def _inputs(self) -> str:
        config = self.config
        return f"channels: high {config.high_inputs}, low {config.low_inputs}, coarse {config.coarse_channels}"

    def _encoder(self, name: str) -> nn.Module:
        encoder = getattr(self, name)
        if encoder is None:
            raise ParameterError("MultiSourceNet", f"no {name} encoder", expected=plain(self._inputs()))
        return encoder

    def _check_parts(self, given: dict[str, torch.Tensor | None]) -> None:
        """Raise unless what is given is what the network has, and enough to take batch statistics of in training."""
        has = {"high": self.high is not None, "low": self.low is not None, "coarse": self.head2 is not None}
        for name, part in given.items():
            absent = part is None or part.shape[1] == 0
            if has[name] == absent:
                what = f"the {name} input is {'absent' if absent else 'not one of this network'}"
                got = None if part is None else tuple(part.shape)
                raise ParameterError("MultiSourceNet", what, got=got, expected=plain(self._inputs()))
        samples = {name: len(part) for name, part in given.items() if has[name]}
        if len(set(samples.values())) > 1:
            raise ParameterError("MultiSourceNet", "inputs differ in their number of samples", got=samples)
        if self.training and min(samples.values()) < 2:
            what = "a training step has a single sample, and batch normalisation needs several"
            next_step = "Drop the last, smaller batch or use larger ones"
            raise ContractError("MultiSourceNet", what, expected="at least 2 samples", next_step=next_step)
