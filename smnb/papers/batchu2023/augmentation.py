"""Rotations, flips and shears about the centre of the images (Table 6), for a whole batch at once.

The soil moisture is that of the centre, so nothing may move it. What is seen in 10 m and in 160 m images is the same ground,
so both are transformed alike. Values stay as they are: no change of brightness, backscatter or incidence angle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch

from smnb.contract import check_range


@dataclass(frozen=True)
class Augmentation:
    """Probabilities of the transformations, and the largest angles either way, drawn uniformly; the defaults are Table 6."""

    rotate: float = 0.8
    flip_horizontal: float = 0.5
    flip_vertical: float = 0.5
    shear_x: float = 0.3
    shear_y: float = 0.3
    rotate_degrees: float = 180.0
    shear_degrees: float = 9.0

    def __post_init__(self) -> None:
        for one in fields(self):
            top = {"rotate_degrees": 180.0, "shear_degrees": 45.0}.get(one.name, 1.0)
            check_range("Augmentation", one.name, getattr(self, one.name), 0, top)

    @staticmethod
    @lru_cache(maxsize=4)
    def draws(seed: int, epoch: int, n: int) -> np.ndarray:
        """Uniform numbers that decide the transformations of `n` samples in an epoch, ``(n, 8)``."""
        # the 1 keeps these draws apart from those of the order of samples, which are seeded with (seed, epoch)
        return np.random.default_rng([seed, epoch, 1]).random((n, 8), dtype="float32")

    def matrices(self, draws: np.ndarray) -> torch.Tensor:
        """Matrices that turn a position in the result, from the centre, into one in the image, ``(n, 2, 2)``.

        Positions are (x to the right, y down). A rotation by a positive angle is counter-clockwise as displayed.
        """
        chance, extent = draws[:, :5].astype("float64"), 2.0 * draws[:, 5:].astype("float64") - 1.0
        happens = chance < [self.rotate, self.flip_horizontal, self.flip_vertical, self.shear_x, self.shear_y]
        angle = np.where(happens[:, 0], np.radians(self.rotate_degrees) * extent[:, 0], 0.0)
        flip_x, flip_y = (np.where(happens[:, i], -1.0, 1.0) for i in (1, 2))
        shear_x, shear_y = (
            np.where(happens[:, i + 2], np.tan(np.radians(self.shear_degrees) * extent[:, i]), 0.0) for i in (1, 2)
        )
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = _matrix(cos, -sin, sin, cos)
        zero, one = np.zeros_like(cos), np.ones_like(cos)
        flip = _matrix(flip_x, zero, zero, flip_y)
        shear = _matrix(one, shear_x, zero, one) @ _matrix(one, zero, shear_y, one)
        return torch.from_numpy((rotation @ flip @ shear).astype("float32"))

    def reach(self, size: int) -> int:
        """Side of the centred square that a result of `size` pixels can see, of the same parity as `size`."""
        if not any((self.rotate, self.shear_x, self.shear_y)):
            return size
        tangent = math.tan(math.radians(self.shear_degrees)) if self.shear_x or self.shear_y else 0.0
        stretch = tangent / 2.0 + math.sqrt(1.0 + tangent**2 / 4.0)  # the largest that one shear makes of a length
        # two pixels more for the interpolation
        side = math.ceil(size * stretch**2 * (math.sqrt(2.0) if self.rotate else 1.0)) + 2
        return side + (side - size) % 2


def _matrix(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.stack([np.stack([a, b], -1), np.stack([c, d], -1)], -2)


def warp(images: torch.Tensor, matrices: torch.Tensor, size: int) -> torch.Tensor:
    """Transform images ``(n, channel, side, side)`` about their centres, bilinearly, and cut out a centred square of `size`.

    They have no NaN; `matrices` are those of `Augmentation.matrices`. Where `size` is smaller than `side`, the corners of a
    rotated square are real pixels; what lies beyond the images is their reflection at the edge.
    """
    n, _, _, side = images.shape
    offset = (torch.arange(size, device=images.device, dtype=torch.float32) + 0.5 - size / 2) * (2.0 / side)
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    grid = torch.stack([x, y], -1).reshape(1, -1, 2) @ matrices.to(images.device).transpose(1, 2)
    return torch.nn.functional.grid_sample(
        images, grid.reshape(n, size, size, 2), mode="bilinear", padding_mode="reflection", align_corners=False
    )
