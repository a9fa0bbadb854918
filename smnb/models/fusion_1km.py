"""The fusion network at 1 km: SMAP brightness temperature and Sentinel-1 backscatter to soil moisture of every pixel.

The paper states four blocks, each a 3-D convolution of 32 filters, ReLU, spatial dropout and batch normalisation in this
order, whose result is collapsed to one value a pixel, inputs of 256 × 256 × 4, and "in the order of 50k" parameters. It
states neither the kernel nor what becomes of the third dimension. Kernels of 2 × 3 × 3, those of the same authors' SMEN,
with the four channels as the depth of a single feature and a 1 × 1 × 1 collapse, have 56,289 parameters. One plane of zeros
stands behind the four channels, and nothing is padded in depth from there on: the four kernels turn five planes into one.

What the number rules out: the channels as features of a depth of one (58,017 parameters), kernels of 3 × 3 × 3 (84,225) or
1 × 3 × 3 (28,353), a 4 × 1 × 1 collapse (56,385).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from smnb.contract import ContractError, check_range, plain
from smnb.grids import M01, M09, EaseWindow
from smnb.models.registry import check_input, check_settings


@dataclass(frozen=True)
class Fusion1kmConfig:
    """Sizes of the network; channels are the depth of the convolutions, so that the number of parameters does not depend on them.

    Fewer than four get more planes of zeros, and more than five leave several planes, which are averaged.
    """

    in_channels: int = 4  # TB H and V, σ0 VV and VH
    features: int = 32  # filters of each convolution
    blocks: int = 4
    dropout: float = 0.1  # share of feature maps that training sets to zero in each block; not stated in the paper

    def __post_init__(self) -> None:
        check_settings(self, counts=("in_channels", "features", "blocks"))
        check_range("Fusion1kmConfig", "dropout", self.dropout, 0, 1, ends="[)")

    @property
    def zero_planes(self) -> int:
        """Planes of zeros behind the channels at the input."""
        return max(0, self.blocks + 1 - self.in_channels)


class Fusion1km(nn.Module):
    """Four blocks of 3-D convolutions over the stacked channels, collapsed to one value a pixel.

    Fully convolutional: images of any size go through it, and the result has their size. An image's surroundings count as
    zeros in every layer. Tsagkatakis, Moghaddam, Tsakalides: Deep multi-modal satellite and in-situ observation fusion for soil
    moisture retrieval; Section IV-A.
    """

    config_class = Fusion1kmConfig

    def __init__(self, config: Fusion1kmConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or Fusion1kmConfig()
        width = config.features
        self.blocks = nn.ModuleList(
            nn.Sequential(
                # zeros around in space; those in depth are added in forward
                nn.Conv3d(1 if number == 0 else width, width, (2, 3, 3), padding=(0, 1, 1)),
                nn.ReLU(inplace=True),
                nn.Dropout3d(config.dropout),
                nn.BatchNorm3d(width),
            )
            for number in range(config.blocks)
        )
        self.collapse = nn.Conv3d(width, 1, 1)
        self.reset_parameters()
        # the fast layout of 3-D convolutions on a CPU and on tensor cores; it changes no result
        self.to(memory_format=torch.channels_last_3d)

    def reset_parameters(self) -> None:
        """Draw weights after He et al. (2015, doi:10.1109/ICCV.2015.123); start near the middle of targets in [0, 1]."""
        for block in self.blocks:
            nn.init.kaiming_normal_(block[0].weight, nonlinearity="relu")
            nn.init.zeros_(block[0].bias)
        nn.init.normal_(self.collapse.weight, std=0.01)
        nn.init.constant_(self.collapse.bias, 0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scaled soil moisture ``(image, row, col)`` of images ``(image, channel, row, col)``.

        They are scaled, with missing values filled (a NaN spreads over its neighbourhood).
        """
        check_input("Fusion1km", images, "(image, channel, row, col)", self.config.in_channels)
        features = functional.pad(images[:, None], (0, 0, 0, 0, 0, self.config.zero_planes))  # (n, 1, 5, row, col)
        for block in self.blocks:
            features = block(features)  # (n, 32, 4 then 3, 2, 1, row, col)
        return self.collapse(features)[:, 0].mean(1)  # (n, 1, 1, row, col) -> (n, row, col)

    def folded(self) -> FoldedFusion1km:
        """The equivalent form for large maps, tile by tile."""
        return FoldedFusion1km(self)


class FoldedFusion1km(nn.Module):
    """`Fusion1km` in evaluation mode as 2-D convolutions, for a tile with its halo; exact.

    Batch normalisation, then an affine map, is folded into the convolution behind it; a kernel of two in depth is two 2-D
    convolutions of neighbouring planes, for which planes become the batch. Folding moves the zeros around an image to the value
    that the affine map takes to zero, one a filter, which is why a tile must know how much of its halo lies outside the image.
    A filter whose scale is (nearly) zero has no such value: then the affine maps are applied instead.
    """

    def __init__(self, network: Fusion1km) -> None:
        super().__init__()
        config = network.config
        self.config = config
        self.halo = config.blocks  # pixels on each side of a tile that its result depends on
        scales, shifts = [], []
        for _, _, _, norm in network.blocks:
            scale = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
            scales.append(scale)
            shifts.append(norm.bias.detach().double() - norm.running_mean.double() * scale)
        self.is_folded = all(bool((scale.abs() > 1e-4).all()) for scale in scales)
        for number, (convolution, _, _, norm) in enumerate(network.blocks):
            weight = convolution.weight.detach().double()  # (out, in, 2, 3, 3)
            biases = [convolution.bias.detach().double(), torch.zeros_like(norm.bias, dtype=torch.float64)]
            if number and self.is_folded:
                scale, shift = scales[number - 1], shifts[number - 1]
                biases = [bias + torch.einsum("oikl,i->o", weight[:, :, tap], shift) for tap, bias in enumerate(biases)]
                weight = weight * scale[:, None, None, None]
            for tap in (0, 1):
                self._keep(f"weight{number}_{tap}", weight[:, :, tap], torch.channels_last)
                self._keep(f"bias{number}_{tap}", biases[tap])
            self._keep(f"scale{number}", scales[number])
            self._keep(f"shift{number}", shifts[number])
            self._keep(f"outside{number}", -shifts[number] / scales[number] if self.is_folded else 0 * scales[number])
        # both taps of the first convolution at once: its input has a single feature
        self._keep("first", torch.cat([self.weight0_0, self.weight0_1], 1), torch.channels_last)
        weight, bias = network.collapse.weight.detach().double()[0, :, 0, 0, 0], network.collapse.bias.detach().double()
        self._keep("last", weight * scales[-1] if self.is_folded else weight)
        self._keep("last_bias", bias + (weight @ shifts[-1] if self.is_folded else 0.0))
        self.eval()

    def extra_repr(self) -> str:
        """The sizes: what tells two forms with the same weights apart."""
        return repr(self.config)

    def _keep(self, name: str, value: torch.Tensor, memory_format: torch.memory_format | None = None) -> None:
        value = value.float()
        self.register_buffer(name, value.contiguous(memory_format=memory_format) if memory_format else value)

    def forward(self, images: torch.Tensor, outside: tuple[int, int, int, int] = (0, 0, 0, 0)) -> torch.Tensor:
        """Scaled soil moisture ``(row, col)`` of a scaled, filled tile ``(channel, row + 2 halo, col + 2 halo)``.

        `outside` are the rows of the halo above and below, and the columns left and right, that lie outside the image (zeros).
        """
        planes = functional.pad(images, (0, 0, 0, 0, 0, self.config.zero_planes))
        pairs = torch.stack([planes[:-1], planes[1:]], 1).contiguous(memory_format=torch.channels_last)
        features = functional.conv2d(pairs, self.first, self.bias0_0).relu_()  # (4, 32, row + 2 halo - 2, ...)
        for number in range(1, self.config.blocks):
            self._finish(features, number - 1, outside)
            taps = [[getattr(self, f"{name}{number}_{tap}") for name in ("weight", "bias")] for tap in (0, 1)]
            pairs = functional.conv2d(features[:-1], *taps[0])
            pairs += functional.conv2d(features[1:], *taps[1])
            features = pairs.relu_()
        self._finish(features, self.config.blocks - 1, (0, 0, 0, 0))
        return (features.permute(0, 2, 3, 1) @ self.last).mean(0) + self.last_bias

    def _finish(self, features: torch.Tensor, number: int, outside: tuple[int, int, int, int]) -> None:
        """Apply a normalisation that is not folded, and give what lies outside the image the value that means zero."""
        if not self.is_folded:
            scale, shift = (getattr(self, f"{name}{number}")[:, None, None] for name in ("scale", "shift"))
            features.mul_(scale).add_(shift)
        top, bottom, left, right = (max(0, size - number - 1) for size in outside)
        value = getattr(self, f"outside{number}")[:, None, None]
        rows, cols = features.shape[-2:]
        above, below = features[..., :top, :], features[..., rows - bottom :, :]
        for part in (above, below, features[..., :left], features[..., cols - right :]):
            if part.numel():
                part.copy_(value.expand_as(part))


#: 1 km cells along a side of a 9 km cell, and the least share of valid ones of a cell that counts.
FACTOR, LEAST_VALID = M01.cells_across(M09), 0.5


def coarse_offset(window: EaseWindow) -> tuple[int, int]:
    """Rows and columns of a window of 1 km before its first whole cell of 9 km.

    >>> coarse_offset(EaseWindow(M01, 3100, 3356, 8100, 8356))
    (5, 0)
    """
    return -window.row_start % FACTOR, -window.col_start % FACTOR


def coarse_mean(
    fine: torch.Tensor,
    valid: torch.Tensor | None = None,
    *,
    offset: tuple[int, int] | torch.Tensor = (0, 0),
    shape: tuple[int, int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Average 1 km pixels (image, row, col) within each whole 9 km cell: the paper's D, masked; means, and which cells count.

    `valid` pixels count; others may be NaN and get no gradient. `offset` are rows and columns before the first whole coarse
    cell, one pair or one an image (`coarse_offset`); `shape` those of coarse cells, default all that lie in every image.
    """
    valid = torch.ones_like(fine, dtype=torch.bool) if valid is None else valid
    if fine.ndim != 3 or valid.shape != fine.shape:
        what, got = "pixels and mask are not (image, row, col) of one shape", (tuple(fine.shape), tuple(valid.shape))
        raise ContractError("coarse_mean", what, got=got)
    offsets = torch.as_tensor(offset).cpu().reshape(-1, 2).expand(fine.shape[0], 2)
    room = [(fine.shape[1 + axis] - int(offsets[:, axis].max())) // FACTOR for axis in (0, 1)]
    rows, cols = shape or room
    if int(offsets.min()) < 0 or rows > room[0] or cols > room[1] or min(rows, cols) < 1:
        what, got = "the coarse cells do not lie within the images", plain(f"{rows} x {cols} cells at {offset}")
        expected = plain(f"at most {room[0]} x {room[1]} in {fine.shape[1]} x {fine.shape[2]} pixels")
        step = "Compute the offset with coarse_offset, and cut the coarse product to whole cells"
        raise ContractError("coarse_mean", what, got=got, expected=expected, next_step=step)
    height, width = rows * FACTOR, cols * FACTOR

    def blocks(values: torch.Tensor) -> torch.Tensor:
        if (offsets == offsets[0]).all():
            row, col = offsets[0].tolist()
            cut = values[:, row : row + height, col : col + width]
        else:
            pairs = zip(values, offsets.tolist(), strict=True)
            cut = torch.stack([one[row : row + height, col : col + width] for one, (row, col) in pairs])
        return cut.reshape(-1, rows, FACTOR, cols, FACTOR).sum((2, 4))

    number = blocks(valid.to(fine.dtype))
    counts = (number > 0) & (number >= LEAST_VALID * FACTOR**2)
    mean = blocks(torch.where(valid, fine, torch.zeros_like(fine))) / number.clamp_min(1.0)
    return torch.where(counts, mean, torch.zeros_like(mean)), counts


def coarse_to_fine(coarse: torch.Tensor, shape: tuple[int, int], *, offset: tuple[int, int] = (0, 0)) -> torch.Tensor:
    """Repeat ``(image, row, col)`` of 9 km cells on 1 km images of a `shape`, NaN around them: the paper's upsampling layer."""
    fine = coarse.new_full((coarse.shape[0], *shape), float("nan"))
    repeated = coarse.repeat_interleave(FACTOR, 1).repeat_interleave(FACTOR, 2)
    row, col = offset
    inside = fine[:, row : row + repeated.shape[1], col : col + repeated.shape[2]]
    inside.copy_(repeated[:, : inside.shape[1], : inside.shape[2]])
    return fine
