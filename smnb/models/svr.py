"""Support vector regression on patches: scikit-learn fits it, torch predicts it.

libsvm evaluates one kernel value at a time on one core, which takes minutes for a global map. The prediction is a kernel
matrix times a vector, so a matrix product does the same arithmetic at the speed of the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from smnb.contract import ContractError, ParameterError, plain
from smnb.progress import progress

if TYPE_CHECKING:
    from sklearn.svm import SVR

#: C and epsilon that are tried, for a target in [0, 1].
SVR_GRID = ((1.0, 0.01), (1.0, 0.03), (10.0, 0.01), (10.0, 0.03))
#: Rows that are predicted at a time, which bounds the kernel matrix.
_ROWS = 512


class TorchSVR(torch.nn.Module):
    """A fitted RBF support vector regression of scikit-learn as a torch module, in float64; it agrees with libsvm to about 1e-9.

    Notes
    -----
    ``|x - s|² = |x|² + |s|² - 2 x·s`` loses digits where the norms are large against the distance. Features are therefore
    centred on the mean support vector first, which leaves distances as they are.
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
