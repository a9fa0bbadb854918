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

    @classmethod
    def concatenate(cls, parts: Sequence[PatchIndex]) -> PatchIndex:
        """Join several indices in their order."""
        if not parts:
            empty = np.empty(0, dtype="int64")
            return cls(empty, empty, empty)
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("image", "row", "col")))

    def take(self, field_: np.ndarray) -> np.ndarray:
        """Values of an ``(image, row, col)`` array at the centres."""
        return field_[self.image, self.row, self.col]


class PatchStore:
    """Scaled, filled and padded images from which patches are gathered by index.

    Parameters
    ----------
    images : ndarray, shape (image, row, col, channel)
        Native units; NaN where missing.
    scaler : MinMaxScaler
        From the training images.
    patch_size : int
        Odd side of a patch, pixels.
    wrap : bool
        Whether columns wrap around (a global longitude axis). Other edges repeat the outermost pixel.
    device : torch.device or str
        Where the padded images live; gathering happens there.

    Notes
    -----
    The padded images are one contiguous ``(image, row, col, channel)`` tensor, so the ``patch_size`` pixels of one row of a
    patch are contiguous. A patch is therefore `patch_size` memory copies of ``patch_size * channel`` floats out of an
    overlapping strided view, not 81 scattered reads. Missing pixels hold the training mean of their channel; how many
    there were is in `n_filled`.
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
            raise ContractError(
                "PatchStore",
                "images have another shape",
                got=images.shape,
                expected=plain(f"(image, row, col, {len(scaler.minimum)} channels)"),
            )
        if patch_size < 1 or patch_size % 2 == 0:
            raise ParameterError("PatchStore", "patch_size", got=patch_size, expected=plain("an odd positive number"))
        n_images, n_rows, n_cols, n_channels = images.shape
        half = patch_size // 2
        self.patch_size, self.half, self.wrap, self.scaler = patch_size, half, wrap, scaler
        self.shape = (n_images, n_rows, n_cols, n_channels)
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
        """Gather patches.

        Parameters
        ----------
        index : PatchIndex
            Centres, in pixels of the unpadded images.

        Returns
        -------
        Tensor, shape (patch, channel, patch_size, patch_size)
            float32 scaled values, in channels-last memory.
        """
        _, n_rows, n_cols, n_channels = self.padded.shape
        first = (
            torch.from_numpy(np.asarray(index.image, dtype="int64")) * n_rows
            + torch.from_numpy(np.asarray(index.row, dtype="int64"))
        ) * n_cols + torch.from_numpy(np.asarray(index.col, dtype="int64"))
        first = first.to(self.device)
        offsets = torch.arange(self.patch_size, device=self.device) * n_cols
        # every row of a patch starts at some pixel of the flattened images: an overlapping view with one row a pixel
        pixels = self.padded.numel() // n_channels
        width = self.patch_size * n_channels
        runs = self.padded.as_strided((pixels - self.patch_size + 1, width), (n_channels, 1))
        rows = runs.index_select(0, (first[:, None] + offsets).reshape(-1))
        # (patch, row, col, channel) -> (patch, channel, row, col)
        return rows.view(-1, self.patch_size, self.patch_size, n_channels).permute(0, 3, 1, 2)


class PatchDataset(BatchDataset):
    """Batches of patches and scaled targets, gathered a whole batch at a time.

    Parameters
    ----------
    store : PatchStore
    index : PatchIndex
    target : ndarray, shape (patch,), optional
        Scaled target of each patch; without it the patches can be predicted only.
    """

    def __init__(self, store: PatchStore, index: PatchIndex, target: np.ndarray | None = None) -> None:
        target = np.zeros(len(index), "float32") if target is None else target
        if len(index) != target.size:
            raise ContractError("PatchDataset", "one target a patch", got=target.size, expected=len(index))
        if not np.isfinite(target).all():
            raise ContractError(
                "PatchDataset",
                "the target has missing values",
                got=int((~np.isfinite(target)).sum()),
                expected=0,
                next_step="Draw patches from eligible_centres, which leaves them out",
            )
        self.store, self.index = store, index
        self.target = torch.from_numpy(np.asarray(target, dtype="float32"))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, batch: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``(patch, channel, row, col)`` inputs and ``(patch,)`` targets for an array of positions."""
        return self.store.gather(self.index[batch]), self.target[torch.from_numpy(batch)].to(self.store.device)


def eligible_centres(
    images: np.ndarray,
    target: np.ndarray,
    *,
    patch_size: int = 9,
    wrap: bool = False,
    min_valid_fraction: float = 0.5,
) -> np.ndarray:
    """Where a patch may be centred.

    A centre is eligible if its target is valid, every channel of the centre pixel is valid, and at least
    `min_valid_fraction` of the patch's pixels are valid in every channel.

    Parameters
    ----------
    images : ndarray, shape (image, row, col, channel)
    target : ndarray, shape (image, row, col)
    patch_size : int
    wrap : bool
        Whether columns wrap around.
    min_valid_fraction : float
        Between 0 and 1.

    Returns
    -------
    ndarray of bool, shape (image, row, col)
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
    """Draw disjoint random sets of patches from each image.

    Parameters
    ----------
    eligible : ndarray of bool, shape (image, row, col)
        From `eligible_centres`.
    images : sequence of int
        The images (days) to draw from.
    counts : sequence of int
        How many patches of each image go to each set, such as ``(30000, 5000)`` for training and validation.
    seed : int
        The draw of an image depends on the seed and the image's number alone.

    Returns
    -------
    list of PatchIndex
        One per entry of `counts`, images in order. An image with fewer eligible centres than asked gives each set its
        proportional share.

    Raises
    ------
    ContractError
        If no image has an eligible centre.
    """
    sets: list[list[PatchIndex]] = [[] for _ in counts]
    for number in images:
        rows, cols = np.nonzero(eligible[number])
        wanted = sum(counts)
        order = np.random.default_rng([seed, number]).permutation(rows.size)[:wanted]
        limits = np.cumsum([0, *counts]) * min(1.0, rows.size / wanted)
        for part, low, high in zip(sets, limits[:-1].astype(int), limits[1:].astype(int), strict=True):
            chosen = order[low:high]
            part.append(PatchIndex(np.full(chosen.size, number, dtype="int64"), rows[chosen], cols[chosen]))
    drawn = [PatchIndex.concatenate(part) for part in sets]
    if not all(len(part) for part in drawn):
        raise ContractError(
            who,
            "no eligible patch",
            got=[len(part) for part in drawn],
            expected=plain(f"about {list(counts)} an image"),
            next_step="Check that inputs and target overlap in space and time and are not fully masked",
        )
    return drawn
