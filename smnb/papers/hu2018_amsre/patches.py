"""Patches as indices into padded images: where one may be centred, random draws of them, and batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from smnb.contract import ContractError, ParameterError, plain
from smnb.training import BatchDataset, MinMaxScaler


@dataclass(frozen=True)
class PatchIndex:
    """Which patches: the image, row and column of each patch's centre pixel (int64 arrays of one length)."""

    image: np.ndarray
    row: np.ndarray
    col: np.ndarray

    def __len__(self) -> int:
        return int(self.image.size)

    def __getitem__(self, which: np.ndarray | slice) -> PatchIndex:
        return PatchIndex(self.image[which], self.row[which], self.col[which])

    def take(self, field_: np.ndarray) -> np.ndarray:
        """Values of an ``(image, row, col)`` array at the centres."""
        return field_[self.image, self.row, self.col]


class PatchStore:
    """Scaled, filled and padded images from which patches are gathered by index.

    Images are ``(image, row, col, channel)`` in native units, NaN where missing: such pixels get the training mean of their
    channel, and `n_filled` counts them. Columns `wrap` (a global longitude axis); other edges repeat the outermost pixel.
    The padded images are one contiguous tensor on `device`, so a patch is `patch_size` memory copies of
    ``patch_size * channel`` floats out of an overlapping strided view, not 81 scattered reads.
    """

    def __init__(
        self,
        images: np.ndarray,
        scaler: MinMaxScaler,
        *,
        patch_size: int = 9,
        wrap: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if images.ndim != 4 or images.shape[-1] != len(scaler.minimum):
            expected = plain(f"(image, row, col, {len(scaler.minimum)} channels)")
            raise ContractError("PatchStore", "images have another shape", got=images.shape, expected=expected)
        if patch_size < 1 or patch_size % 2 == 0:
            raise ParameterError("PatchStore", "patch_size", got=patch_size, expected=plain("an odd positive number"))
        n_images, n_rows, n_cols, n_channels = images.shape
        half = patch_size // 2
        self.patch_size, self.scaler = patch_size, scaler
        padded = np.empty((n_images, n_rows + 2 * half, n_cols + 2 * half, n_channels), dtype="float32")
        fill = np.asarray(scaler.fill, dtype="float32")
        self.n_filled = 0
        for number in range(n_images):
            scaled = scaler.transform(images[number])
            missing = ~np.isfinite(scaled)
            self.n_filled += int(missing.sum())
            np.copyto(scaled, fill, where=missing)
            sides = np.pad(scaled, ((0, 0), (half, half), (0, 0)), mode="wrap" if wrap else "edge")
            padded[number] = np.pad(sides, ((half, half), (0, 0), (0, 0)), mode="edge")
        self.padded = torch.from_numpy(padded).to(device)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.padded.device

    def gather(self, index: PatchIndex) -> torch.Tensor:
        """Patches around centres, in pixels of the unpadded images: ``(patch, channel, patch_size, patch_size)``.

        float32, scaled, in channels-last memory.
        """
        _, n_rows, n_cols, n_channels = self.padded.shape
        image, row, col = (np.asarray(part, dtype="int64") for part in (index.image, index.row, index.col))
        first = torch.from_numpy((image * n_rows + row) * n_cols + col).to(self.device)
        offsets = torch.arange(self.patch_size, device=self.device) * n_cols
        # every row of a patch starts at some pixel of the flattened images: an overlapping view with one row a pixel
        pixels = self.padded.numel() // n_channels
        width = self.patch_size * n_channels
        runs = self.padded.as_strided((pixels - self.patch_size + 1, width), (n_channels, 1))
        rows = runs.index_select(0, (first[:, None] + offsets).reshape(-1))
        # (patch, row, col, channel) -> (patch, channel, row, col)
        return rows.view(-1, self.patch_size, self.patch_size, n_channels).permute(0, 3, 1, 2)


class PatchDataset(BatchDataset):
    """Batches of patches and of their scaled targets; without a target the patches can be predicted only."""

    def __init__(self, store: PatchStore, index: PatchIndex, target: np.ndarray | None = None) -> None:
        target = np.zeros(len(index), "float32") if target is None else target
        if not np.isfinite(target).all():
            next_step = "Draw patches from eligible_centres, which leaves them out"
            raise ContractError("PatchDataset", "the target has missing values", next_step=next_step)
        self.store, self.index = store, index
        self.target = torch.from_numpy(np.asarray(target, dtype="float32"))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, batch: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``(patch, channel, row, col)`` inputs and ``(patch,)`` targets for an array of positions."""
        return self.store.gather(self.index[batch]), self.target[torch.from_numpy(batch)].to(self.store.device)


def eligible_centres(
    images: np.ndarray, target: np.ndarray, *, patch_size: int = 9, wrap: bool = False, min_valid_fraction: float = 0.5
) -> np.ndarray:
    """Where a patch may be centred: bool of the shape of `target` (image, row, col).

    A centre is eligible if its target is valid, every channel of the centre pixel is valid, and at least
    `min_valid_fraction` of the patch's pixels are valid in every channel.
    """
    from scipy.ndimage import uniform_filter1d

    result = np.isfinite(target)
    for number in range(images.shape[0]):
        valid = np.isfinite(images[number]).all(axis=-1)
        share = uniform_filter1d(valid.astype("float32"), patch_size, axis=0, mode="nearest")
        share = uniform_filter1d(share, patch_size, axis=1, mode="wrap" if wrap else "nearest")
        result[number] &= valid & (share >= min_valid_fraction - 1e-4)
    return result


def draw_patches(
    eligible: np.ndarray, images: Sequence[int], counts: Sequence[int], *, seed: int, who: str = "draw_patches"
) -> list[PatchIndex]:
    """Draw disjoint random sets of patches from each of some images: one index an entry of `counts`, images in order.

    `counts` are patches of each image for each set, such as ``(30000, 5000)`` for training and validation; an image with fewer
    eligible centres gives each its share. The draw of an image depends on the seed and its number alone.
    """
    wanted = sum(counts)
    sets = [[np.empty((3, 0), dtype="int64")] for _ in counts]
    for number in images:
        rows, cols = np.nonzero(eligible[number])
        order = np.random.default_rng([seed, number]).permutation(rows.size)[:wanted]
        limits = np.cumsum([0, *counts]) * min(1.0, rows.size / wanted)
        for part, low, high in zip(sets, limits[:-1].astype(int), limits[1:].astype(int), strict=True):
            chosen = order[low:high]
            part.append(np.stack([np.full(chosen.size, number), rows[chosen], cols[chosen]]))
    drawn = [PatchIndex(*np.concatenate(part, axis=1)) for part in sets]
    if not all(map(len, drawn)):
        next_step = "Check that inputs and target overlap in space and time and are not fully masked"
        got, expected = [len(part) for part in drawn], plain(f"about {list(counts)} an image")
        raise ContractError(who, "no eligible patch", got=got, expected=expected, next_step=next_step)
    return drawn
