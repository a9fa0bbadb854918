"""SMEN, the soil moisture enhancement network: coarse soil moisture and past fine residuals to fine soil moisture.

Tsagkatakis, Moghaddam, Tsakalides: SMEN, SMAP from 36 to 3 km; Section 3, whose Eq. 1 is ``J(t) = h(g(I(t)) + f(D(t)))``. Layer
sizes are the paper's. It does not state the length of the history; three temporal kernels of two without padding in time turn
four images into one, so four is the length at which ``f(D)`` and ``g(I)`` match, and the default.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from smnb.contract import ParameterError, check_count
from smnb.models.registry import check_input, check_settings

#: Which streams a network has; the paper's Table 2 compares the three.
SMEN_INPUTS = ("spatial", "temporal", "spatiotemporal")


@dataclass(frozen=True)
class SMENConfig:
    """Sizes of the network.

    `padding` is what lies around an image: ``replicate`` (the inputs' edges go on) or ``zeros`` (at every layer). The paper does
    not say. Scaled inputs are zero only at the driest end, so zeros draw a frame that has to be learned away at every edge.
    """

    inputs: str = "spatiotemporal"  # the paper's; or the coarse image alone ("spatial"), or the residuals ("temporal")
    history: int = 4  # past residual images, k, at least 2; each of the ``history - 1`` blocks takes one image away
    features: int = 32  # filters of each convolution but the last
    padding: str = "replicate"

    def __post_init__(self) -> None:
        choices = {"inputs": SMEN_INPUTS, "padding": ("replicate", "zeros")}
        check_settings(self, counts=("features",), choices=choices)
        check_count("SMENConfig", "history", self.history, 2)


class SMEN(nn.Module):
    """Features of past residuals and of the current coarse image, summed and fused to one fine image."""

    config_class = SMENConfig

    def __init__(self, config: SMENConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SMENConfig()
        width = config.features
        around = {"padding": (0, 1, 1) if config.padding == "zeros" else 0}
        if config.inputs != "spatial":
            blocks: list[nn.Module] = []
            for number in range(config.history - 1):
                # no padding in time, so that every block merges neighbouring images
                convolution = nn.Conv3d(1 if number == 0 else width, width, (2, 3, 3), **around)
                blocks += [convolution, nn.ReLU(inplace=True), nn.BatchNorm3d(width)]
            self.f = nn.Sequential(*blocks)
        if config.inputs != "temporal":
            self.g = nn.Conv3d(1, width, (1, 3, 3), **around)
        self.h = nn.Conv3d(width, 1, (1, 3, 3), **around)
        self.reset_parameters()
        # the fast layout of 3-D convolutions on a CPU and on tensor cores; it changes no result
        self.to(memory_format=torch.channels_last_3d)

    def reset_parameters(self) -> None:
        """Draw weights after He et al. (2015, doi:10.1109/ICCV.2015.123); the last layer's small, biases zero.

        Residuals differ by a few hundredths, so a last layer of the usual size would start tens of times too loud.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.h.weight, std=0.01)

    def forward(self, coarse: torch.Tensor, residuals: torch.Tensor) -> torch.Tensor:
        """Estimate the scaled fine image ``(image, row, col)``, up to a constant of each: the loss is blind to the mean.

        `coarse` (image, row, col) is on the fine grid, `residuals` (image, history, row, col) are fine less coarse soil moisture
        of the past images, oldest first; both scaled.
        """
        check_input("SMEN", residuals, "(image, history, row, col)", self.config.history, unit="past images")
        if coarse.shape != (shape := (len(residuals), *residuals.shape[2:])):
            what = "coarse image and residuals differ in shape"
            raise ParameterError("SMEN", what, got=tuple(coarse.shape), expected=shape)
        residuals, coarse = residuals[:, None], coarse[:, None, None]  # (n, 1, k, row, col) and (n, 1, 1, row, col)
        if self.config.padding == "replicate":
            # once, by as many cells as the convolutions take away: h one, g one, f one a block
            residuals, coarse = self._padded(residuals, self.config.history), self._padded(coarse, 2)
        if self.config.inputs == "spatial":
            features = self.g(coarse)  # (n, 32, 1, row + 2, col + 2); without the 2 where zeros are around
        elif self.config.inputs == "temporal":
            features = self.f(residuals)  # the same: k - 1 blocks leave one image
        else:
            features = self.g(coarse) + self.f(residuals)
        return self.h(features)[:, 0, 0]  # (n, 1, 1, row, col) -> (n, row, col)

    @staticmethod
    def _padded(images: torch.Tensor, cells: int) -> torch.Tensor:
        return functional.pad(images, (cells,) * 4 + (0, 0), mode="replicate")
