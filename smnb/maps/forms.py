"""What a tile is given to: a network that knows its halo, and how much of it lies outside the image."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from smnb.contract import ParameterError, plain

_MOST_PIXELS = 64  # how far from a pixel a receptive field is measured
#: Rows of the halo above and below and columns left and right that lie outside the image.
Outside = tuple[int, int, int, int]


class TileForm(Protocol):
    """A network for tiles: ``form(images, outside)`` takes ``(channel, row + 2 halo, col + 2 halo)`` to ``(row, col)``.

    ``halo`` is how far from a pixel its value depends on the inputs. ``around``, ``zeros`` if absent, says what the halo
    holds outside the image: ``zeros``, ``edge`` (the image's outermost pixels) or ``wrap`` (columns go round the globe).
    """

    halo: int

    def __call__(self, images: torch.Tensor, outside: Outside) -> torch.Tensor:
        """Predict a tile."""


@torch.inference_mode()
def receptive_radius(network: nn.Module, channels: int) -> int:
    """Measure how far from a pixel a network's output depends on its inputs, pixels.

    One NaN is put into zeros; whatever it can reach becomes NaN, also by weights that are zero. `ParameterError` if the output
    has another size than the input, or depends on pixels beyond the limit (a global mean, say).
    """
    limit = _MOST_PIXELS
    network.eval()
    reference = next(network.parameters(), torch.empty(0))
    images = torch.zeros(1, channels, 2 * limit + 1, 2 * limit + 1, device=reference.device, dtype=reference.dtype)
    images[:, :, limit, limit] = float("nan")
    result, expected = network(images), (1, *images.shape[2:])
    if result.shape != expected:
        what = "the network does not keep the size of an image"
        raise ParameterError("receptive_radius", what, got=tuple(result.shape), expected=expected)
    rows, cols = torch.nonzero(torch.isnan(result[0]), as_tuple=True)
    if rows.numel() == 0:
        raise ParameterError("receptive_radius", "the output does not depend on the inputs")
    radius = int(max((rows - limit).abs().max(), (cols - limit).abs().max()))
    if radius >= limit:
        got, expected = plain(f"{radius} pixels or more"), plain(f"less than {limit}")
        what = "the output depends on more than a neighbourhood, so it cannot be computed in tiles"
        raise ParameterError("receptive_radius", what, got=got, expected=expected)
    return radius


class SameSizeForm(nn.Module):
    """Any network ``(image, channel, row, col) -> (image, row, col)`` with stride 1 that pads for itself.

    Outside the image the halo (at least the network's receptive field) is cut off, so that the network's own padding acts at
    the image's edge; inside, the padding spoils the halo only, which is cut off afterwards.
    """

    def __init__(self, network: nn.Module, halo: int) -> None:
        super().__init__()
        self.network, self.halo = network.eval(), halo

    def forward(self, images: torch.Tensor, outside: Outside) -> torch.Tensor:
        """Predict a tile."""
        top, bottom, left, right = outside
        rows, cols = images.shape[1:]
        result = self.network(images[None, :, top : rows - bottom, left : cols - right])[0]
        row, col = self.halo - top, self.halo - left
        return result[row : row + rows - 2 * self.halo, col : col + cols - 2 * self.halo]


class PatchForm(nn.Module):
    """Any network of patches ``(patch, channel, size, size) -> (patch,)`` at every pixel, patch by patch.

    Parameters
    ----------
    patch_size : int
        Odd side of a patch, pixels.
    wrap : bool
        Whether the columns go round the globe; other edges repeat the outermost pixel.
    """

    def __init__(self, network: nn.Module, patch_size: int, *, wrap: bool = False) -> None:
        super().__init__()
        self.network, self.halo, self.around = network.eval(), patch_size // 2, "wrap" if wrap else "edge"

    def forward(self, images: torch.Tensor, outside: Outside) -> torch.Tensor:
        """Predict a tile, row by row."""
        size = 2 * self.halo + 1
        patches = images.unfold(1, size, 1).unfold(2, size, 1)  # (channel, row, col, size, size), a view
        return torch.stack([self.network(patches[:, row].transpose(0, 1)) for row in range(patches.shape[1])])


def tile_form(network: nn.Module, channels: int) -> TileForm:
    """Find the form in which a network is applied to tiles.

    The network has a method ``folded`` that gives its own form, such as `smnb.models.fusion_1km.Fusion1km`, or it takes
    ``(image, channel, row, col)`` to ``(image, row, col)`` with stride 1, and its receptive field is measured.
    """
    if hasattr(network, "folded"):
        return network.folded()
    return SameSizeForm(network, receptive_radius(network, channels))
