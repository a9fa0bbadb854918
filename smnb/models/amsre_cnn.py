"""Hu, Xu and Yu (2018, ISPRS Archives XLII-3): 9×9 brightness temperatures to the soil moisture of the centre, by CNN and SVR.

Layer sizes are the paper's and so is the number of parameters (489,641 for four channels). The paper does not state
activations; ReLU after each convolution and the first fully connected layer is the usual reading and the default here.

scikit-learn fits the support vector regression and torch predicts it: libsvm evaluates one kernel value at a time on one core,
which takes minutes for a global map, where a matrix product does the same arithmetic at the speed of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from smnb.contract import ContractError, ParameterError, plain
from smnb.models.registry import check_settings
from smnb.progress import progress

if TYPE_CHECKING:
    from sklearn.svm import SVR

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "identity": nn.Identity}


@dataclass(frozen=True)
class AmsreCNNConfig:
    """Sizes of the network."""

    in_channels: int = 4  # 6.9 and 10.7 GHz, H and V
    patch_size: int = 9  # pixels, odd, at least 9; only 9 gives the paper's 2×2×200 feature map
    conv_channels: tuple[int, int, int] = (20, 100, 200)
    hidden: int = 500  # width of the first fully connected layer
    activation: str = "relu"  # one of `ACTIVATIONS`

    def __post_init__(self) -> None:
        object.__setattr__(self, "conv_channels", tuple(self.conv_channels))
        if self.patch_size < 9 or self.patch_size % 2 == 0:
            raise ParameterError("AmsreCNNConfig", "patch_size", got=self.patch_size, expected=plain("odd, from 9"))
        if len(self.conv_channels) != 3 or min(self.conv_channels) < 1:
            expected = plain("three sizes")
            raise ParameterError("AmsreCNNConfig", "conv_channels", got=self.conv_channels, expected=expected)
        check_settings(self, counts=("in_channels", "hidden"), choices={"activation": ACTIVATIONS})

    @property
    def feature_size(self) -> int:
        """Side of the last feature map: 2 for 9-pixel patches."""
        return (self.patch_size - 3) // 2 - 1


class AmsreCNN(nn.Module):
    """Patch network: three convolutions, two max-poolings, two fully connected layers."""

    config_class = AmsreCNNConfig

    def __init__(self, config: AmsreCNNConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AmsreCNNConfig()
        first, second, third = config.conv_channels
        activation = ACTIVATIONS[config.activation]
        self.conv1 = nn.Conv2d(config.in_channels, first, 2)
        self.pool1 = nn.MaxPool2d(2, stride=1)
        self.conv2 = nn.Conv2d(first, second, 2)
        self.pool2 = nn.MaxPool2d(2, stride=2)
        self.conv3 = nn.Conv2d(second, third, 2)
        self.fc1 = nn.Linear(third * config.feature_size**2, config.hidden)
        self.fc2 = nn.Linear(config.hidden, 1)
        self.activation = activation(inplace=True) if config.activation == "relu" else activation()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights after He et al. (2015, doi:10.1109/ICCV.2015.123), biases zero.

        torch's own default shrinks the signal by half or more a layer; with inputs in [0, 1] that differ by a few
        hundredths over land, nothing but the mean would leave the last layer for many epochs.
        """
        for layer in (self.conv1, self.conv2, self.conv3, self.fc1):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.fc2.weight, std=0.01)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Scaled soil moisture ``(patch,)`` at the centres of ``(patch, channel, patch_size, patch_size)``, scaled to [0, 1]."""
        # sizes for the paper's 9×9×4 patches
        x = self.pool1(self.activation(self.conv1(patches)))  # (n, 20, 8, 8) -> (n, 20, 7, 7)
        x = self.pool2(self.activation(self.conv2(x)))  # (n, 100, 6, 6) -> (n, 100, 3, 3)
        x = self.activation(self.conv3(x))  # (n, 200, 2, 2)
        x = self.activation(self.fc1(x.flatten(1)))  # (n, 800) -> (n, 500)
        return self.fc2(x).squeeze(1)  # (n,)

    def folded(self, *, wrap: bool = False) -> DenseAmsreCNN:
        """The same network for whole images, as `smnb.maps` applies it."""
        return DenseAmsreCNN(self, wrap=wrap)


class DenseAmsreCNN(nn.Module):
    """The exactly equivalent fully convolutional form of a trained 9×9 `AmsreCNN`: every pixel, and no patch cut out.

    Neighbouring patches share all but one column, and here each feature is computed once: 0.49 million multiplications a pixel
    instead of 1.03. The second pooling's stride of 2 becomes stride 1 with dilation 2 in what follows, and the fully connected
    layers become convolutions; equal to rounding (1e-5). Outside the image the columns `wrap`, or its edge goes on.
    """

    halo = 4

    def __init__(self, network: AmsreCNN, *, wrap: bool = False) -> None:
        super().__init__()
        if network.config.patch_size != 9:
            raise ParameterError("DenseAmsreCNN", "patch_size", got=network.config.patch_size, expected=9)
        self.network, self.around = network, "wrap" if wrap else "edge"

    def forward(self, images: torch.Tensor, outside: tuple[int, int, int, int] | None = None) -> torch.Tensor:
        """Scaled soil moisture ``(row, col)`` of a scaled, filled image ``(channel, row + 8, col + 8)``.

        Pixel (i, j) is what the patch network says of ``images[:, i:i+9, j:j+9]``; `outside` is not looked at.
        """
        net = self.network
        act = net.activation
        x = images[None].contiguous(memory_format=torch.channels_last)
        x = functional.max_pool2d(act(net.conv1(x)), 2, stride=1)  # (1, 20, row + 6, col + 6)
        # stride 1 where the patch network has 2: features at every offset, so what follows looks at every other pixel
        x = functional.max_pool2d(act(net.conv2(x)), 2, stride=1)  # (1, 100, row + 4, col + 4)
        x = act(functional.conv2d(x, net.conv3.weight, net.conv3.bias, dilation=2))  # (1, 200, row + 2, col + 2)
        hidden = net.fc1.weight.view(net.config.hidden, -1, 2, 2)
        x = act(functional.conv2d(x, hidden, net.fc1.bias, dilation=2))  # (1, 500, row, col)
        return net.fc2(x[0].permute(1, 2, 0)).squeeze(-1)


#: C and epsilon that are tried, for a target in [0, 1].
SVR_GRID = ((1.0, 0.01), (1.0, 0.03), (10.0, 0.01), (10.0, 0.03))
_ROWS = 512  # rows that are predicted at a time, which bounds the kernel matrix


class TorchSVR(nn.Module):
    """A fitted RBF support vector regression of scikit-learn as a torch module, in float64; it agrees with libsvm to about 1e-9.

    ``|x - s|² = |x|² + |s|² - 2 x·s`` loses digits where the norms are large against the distance, so features are centred on
    the mean support vector first.
    """

    def __init__(self, svr: SVR) -> None:
        super().__init__()
        if svr.kernel != "rbf":
            raise ParameterError("TorchSVR", "kernel", got=svr.kernel, expected="rbf")
        # _gamma is the number that "scale" or "auto" came to; scikit-learn has no public name for it
        self.gamma, self.intercept = float(svr._gamma), float(svr.intercept_[0])
        parts = svr.support_vectors_, svr.dual_coef_.ravel()
        vectors, dual = (torch.from_numpy(np.asarray(part, dtype="float64")) for part in parts)
        self.register_buffer("centre", vectors.mean(dim=0))
        vectors = vectors - self.centre
        # the factor 2 gamma and the support vectors' norms are folded in once: the exponent is x·a + b - gamma |x|²
        self.register_buffer("scaled_vectors", (2.0 * self.gamma * vectors.T).contiguous())
        self.register_buffer("offsets", -self.gamma * vectors.square().sum(dim=1))
        self.register_buffer("dual", dual)

    @torch.inference_mode()
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Predict ``(sample,)``, float32, from scaled features ``(sample, feature)`` or patches ``(sample, channel, row, col)``.

        Patches are flattened in channels-last order, as `flatten_patches` does.
        """
        if features.ndim == 4:
            features = flatten_patches(features)
        if features.shape[1] != self.centre.numel():
            raise ContractError("TorchSVR", "number of features", got=features.shape[1], expected=self.centre.numel())
        result = torch.empty(features.shape[0], dtype=torch.float32, device=features.device)
        for start in range(0, features.shape[0], _ROWS):
            rows = features[start : start + _ROWS].to(self.centre.dtype) - self.centre
            kernel = torch.addmm(self.offsets, rows, self.scaled_vectors)
            kernel -= self.gamma * rows.square().sum(dim=1, keepdim=True)
            kernel.exp_()
            result[start : start + _ROWS] = (kernel @ self.dual + self.intercept).float()
        return result


def flatten_patches(patches: torch.Tensor) -> torch.Tensor:
    """Turn ``(n, channel, row, col)`` into ``(n, row * col * channel)``: free of a copy for gathered patches."""
    return patches.permute(0, 2, 3, 1).reshape(patches.shape[0], -1)


def fit_svr(
    features: np.ndarray, target: np.ndarray, *, n_search: int = 2000, seed: int = 0
) -> tuple[SVR, pd.DataFrame]:
    """Fit an RBF support vector regression, with C and epsilon from a small search on training data.

    Gamma is ``1 / (n_features * variance)``. The search takes `n_search` samples (four fifths fit, one fifth scores), the
    final fit all; features ``(sample, feature)`` and target ``(sample,)`` are scaled. The table has a row for each combination,
    with its validation RMSE (scaled).
    """
    from sklearn.svm import SVR

    if features.ndim != 2 or features.shape[0] != target.size or target.size < 10:
        expected = plain("(n, feature) and (n,), n ≥ 10")
        raise ContractError("fit_svr", "training samples", got=(features.shape, target.shape), expected=expected)
    order = np.random.default_rng(seed).permutation(target.size)[:n_search]
    score_rows, fit_rows = np.split(order, [max(1, order.size // 5)])
    gamma = 1.0 / (features.shape[1] * float(features.var()))
    rows = []
    for c, epsilon in progress(SVR_GRID, "support vector regression"):
        svr = SVR(C=c, epsilon=epsilon, gamma=gamma, cache_size=500).fit(features[fit_rows], target[fit_rows])
        misfit = TorchSVR(svr)(torch.from_numpy(features[score_rows])).numpy() - target[score_rows]
        rmse = float(np.sqrt(np.mean(np.square(misfit))))
        rows.append({"C": c, "epsilon": epsilon, "gamma": gamma, "rmse": rmse, "n_support": len(svr.support_)})
    best = min(rows, key=lambda row: row["rmse"])
    svr = SVR(C=best["C"], epsilon=best["epsilon"], gamma=gamma, cache_size=1000)
    return svr.fit(features, target), pd.DataFrame(rows)
