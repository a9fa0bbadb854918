"""Scores as smooth functions of means, on a scale on which each is nearly symmetric: what their intervals are made on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# Each score as a smooth function of means. "difference" has the features (d, d²), "pair" (x, y, x², y², xy).


def _bias(m: Sequence[np.ndarray]) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    return m[0], (np.ones_like(m[0]), np.zeros_like(m[0]))


def _log_rmse(m: Sequence[np.ndarray]) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    return 0.5 * np.log(m[1]), (np.zeros_like(m[0]), 0.5 / m[1])


def _log_ubrmse(m: Sequence[np.ndarray]) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    variance = m[1] - m[0] ** 2
    return 0.5 * np.log(variance), (-m[0] / variance, 0.5 / variance)


def _z_of_r(m: Sequence[np.ndarray]) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    x, y = m[0], m[1]
    vx, vy, cov = m[2] - x * x, m[3] - y * y, m[4] - x * y
    scale = np.sqrt(vx * vy)
    r = np.clip(cov / scale, -1 + 1e-15, 1 - 1e-15)
    dz = 1.0 / (1.0 - r * r)
    d_cov, d_vx, d_vy = dz / scale, -0.5 * dz * r / vx, -0.5 * dz * r / vy
    return np.arctanh(r), (-y * d_cov - 2 * x * d_vx, -x * d_cov - 2 * y * d_vy, d_vx, d_vy, d_cov)


def _slope(m: Sequence[np.ndarray]) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    x, y = m[0], m[1]
    vy, cov = m[3] - y * y, m[4] - x * y
    b = cov / vy
    return b, (-y / vy, (-x + 2 * y * b) / vy, np.zeros_like(x), -b / vy, 1.0 / vy)


def _log_unexplained(m: Sequence[np.ndarray]) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    y = m[1]
    vy, sse = m[3] - y * y, m[2] + m[3] - 2.0 * m[4]
    zero = np.zeros_like(y)
    return np.log(sse / vy), (zero, 2 * y / vy, 1.0 / sse, 1.0 / sse - 1.0 / vy, -2.0 / sse)


@dataclass(frozen=True)
class Smooth:
    """A score on the scale that its interval is made on."""

    #: Which means it is a function of: "difference" or "pair".
    features: str
    #: Value and gradient from the means.
    function: Callable[[Sequence[np.ndarray]], tuple[np.ndarray, Sequence[np.ndarray]]]
    #: From that scale to the score's own, and whether this decreases.
    back: Callable[[np.ndarray], np.ndarray]
    flips: bool = False
    #: Whether it does not depend on the difference of the means, so that each side may be centred on its own.
    centred: bool = False


def _same(v: np.ndarray) -> np.ndarray:
    return v


#: By the score's name.
SMOOTH: dict[str, Smooth] = {
    "bias": Smooth("difference", _bias, _same),
    "rmse": Smooth("difference", _log_rmse, np.exp),
    "ubrmse": Smooth("difference", _log_ubrmse, np.exp, centred=True),
    "pearson_r": Smooth("pair", _z_of_r, np.tanh, centred=True),
    "anomaly_r": Smooth("pair", _z_of_r, np.tanh, centred=True),
    "r2": Smooth("pair", _log_unexplained, lambda v: 1.0 - np.exp(v), flips=True),
    "slope": Smooth("pair", _slope, _same, centred=True),
}
