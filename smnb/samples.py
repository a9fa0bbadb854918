"""Patches, scaling and splits: from gridded fields to what a patch network trains on.

The images are held once, scaled, filled and padded; a patch is an index ``(image, row, col)`` into them and is gathered
when a batch needs it. Nothing is ever copied out as a second array of patches: a day of 0.25° land holds about 300,000
overlapping 9×9×4 patches, 81 times the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from smnb.contract import ContractError, ParameterError, plain

__all__ = [
    "BatchDataset",
    "Fold",
    "MinMaxScaler",
    "PatchDataset",
    "PatchIndex",
    "PatchStore",
    "PatchTask",
    "SeededBatchSampler",
    "draw_patches",
    "eligible_centres",
]


@dataclass(frozen=True)
class MinMaxScaler:
    """Linear scaling of each channel to [0, 1] by the extremes of the training data, or by robust ones.

    Parameters
    ----------
    minimum, maximum : tuple of float
        One value a channel, in the channel's units.
    fill : tuple of float
        The training mean of each channel after scaling: what a missing pixel of an image is replaced by.
    clip : bool
        Whether values outside [minimum, maximum] become 0 or 1.
    """

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    fill: tuple[float, ...]
    clip: bool = False

    @classmethod
    def fit(
        cls, values: np.ndarray, *, names: Sequence[str] | None = None, tail: float = 0.0, clip: bool = False
    ) -> MinMaxScaler:
        """Fit on training values.

        Parameters
        ----------
        values : ndarray, shape (..., channel)
            Training data only: statistics of validation or test days must not leak in. NaN is ignored.
        names : sequence of str, optional
            Channel names, for the error message.
        tail : float
            Share of values beyond each end of the scale: 0 takes the extremes, 0.001 the 0.1 and 99.9 per cent points, so
            that a single odd pixel does not squeeze all others together.
        clip : bool

        Raises
        ------
        ContractError
            If a channel has no valid value or no spread.
        """
        flat = values.reshape(-1, values.shape[-1])
        low, high, mean = (np.empty(flat.shape[1]) for _ in range(3))
        for channel in range(flat.shape[1]):
            column = flat[:, channel]
            column = column[np.isfinite(column)]
            name = names[channel] if names is not None else f"channel {channel}"
            if column.size == 0 or column.min() == column.max():
                raise ContractError(
                    "MinMaxScaler.fit", f"{name!r} has no spread in the training data",
                    got=plain(f"{column.size} valid values"), expected=plain("at least two different values"),
                    next_step="Check that the training days are present and not fully masked",
                )  # fmt: skip
            low[channel], high[channel] = (
                np.quantile(column, (tail, 1.0 - tail)) if tail else (column.min(), column.max())
            )
            mean[channel] = (column.mean(dtype="float64") - low[channel]) / (high[channel] - low[channel])
        return cls(tuple(low.tolist()), tuple(high.tolist()), tuple(mean.tolist()), clip)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Scale ``(..., channel)`` values in native units to float32 in about [0, 1]; NaN stays NaN."""
        low = np.asarray(self.minimum, dtype="float32")
        span = np.asarray(self.maximum, dtype="float32") - low
        scaled = (np.asarray(values, dtype="float32") - low) / span
        return np.clip(scaled, 0.0, 1.0, out=scaled) if self.clip else scaled

    def inverse(self, scaled: np.ndarray) -> np.ndarray:
        """Turn scaled ``(..., channel)`` values back to native units."""
        low = np.asarray(self.minimum, dtype="float32")
        return np.asarray(scaled, dtype="float32") * (np.asarray(self.maximum, dtype="float32") - low) + low

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for a checkpoint's JSON."""
        return {
            "minimum": list(self.minimum),
            "maximum": list(self.maximum),
            "fill": list(self.fill),
            "clip": self.clip,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> MinMaxScaler:
        """Rebuild from `to_dict`."""
        return cls(*(tuple(content[key]) for key in ("minimum", "maximum", "fill")), clip=content["clip"])


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
                "PatchStore", "images have another shape", got=images.shape,
                expected=plain(f"(image, row, col, {len(scaler.minimum)} channels)"),
            )  # fmt: skip
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
            padded[number] = pad_image(scaled, half, wrap=wrap)
        self.padded = torch.from_numpy(padded).to(device)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.padded.device

    def image(self, number: int) -> torch.Tensor:
        """One padded image, ``(channel, row + 2 half, col + 2 half)`` in channels-last memory: dense inference's input."""
        return self.padded[number].permute(2, 0, 1)

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
        first = (torch.from_numpy(np.asarray(index.image, dtype="int64")) * n_rows + torch.from_numpy(
            np.asarray(index.row, dtype="int64"))) * n_cols + torch.from_numpy(np.asarray(index.col, dtype="int64"))  # fmt: skip
        first = first.to(self.device)
        offsets = torch.arange(self.patch_size, device=self.device) * n_cols
        # every row of a patch starts at some pixel of the flattened images: an overlapping view with one row a pixel
        pixels = self.padded.numel() // n_channels
        width = self.patch_size * n_channels
        runs = self.padded.as_strided((pixels - self.patch_size + 1, width), (n_channels, 1))
        rows = runs.index_select(0, (first[:, None] + offsets).reshape(-1))
        # (patch, row, col, channel) -> (patch, channel, row, col)
        return rows.view(-1, self.patch_size, self.patch_size, n_channels).permute(0, 3, 1, 2)


def pad_image(image: np.ndarray, half: int, *, wrap: bool) -> np.ndarray:
    """Pad an ``(row, col, channel)`` image by `half` pixels: columns wrap or repeat, rows repeat the edge."""
    columns = "wrap" if wrap else "edge"
    image = np.pad(image, ((0, 0), (half, half), (0, 0)), mode=columns)
    return np.pad(image, ((half, half), (0, 0), (0, 0)), mode="edge")


def eligible_centres(
    images: np.ndarray,
    target: np.ndarray,
    *,
    patch_size: int = 9,
    wrap: bool = False,
    min_valid_fraction: float = 0.5,
    where: np.ndarray | None = None,
) -> np.ndarray:
    """Where a patch may be centred.

    A centre is eligible if its target is valid, every channel of the centre pixel is valid, at least
    `min_valid_fraction` of the patch's pixels are valid in every channel, and `where` allows it.

    Parameters
    ----------
    images : ndarray, shape (image, row, col, channel)
    target : ndarray, shape (image, row, col)
    patch_size : int
    wrap : bool
        Whether columns wrap around.
    min_valid_fraction : float
        Between 0 and 1.
    where : ndarray of bool, shape (row, col), optional

    Returns
    -------
    ndarray of bool, shape (image, row, col)
    """
    from scipy.ndimage import uniform_filter1d

    result = np.isfinite(target)
    if where is not None:
        result &= where
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
            who, "no eligible patch", got=[len(part) for part in drawn], expected=plain(f"about {list(counts)} an image"),
            next_step="Check that inputs and target overlap in space and time and are not fully masked",
        )  # fmt: skip
    return drawn


@dataclass(frozen=True)
class Fold:
    """One division of a task's patches; `fit_images` are those whose statistics may scale the inputs."""

    name: str
    train: PatchIndex
    validation: PatchIndex
    test: PatchIndex
    fit_images: np.ndarray
    """Numbers of the images that belong to training."""


@dataclass
class PatchTask:
    """A retrieval as images, a target and folds: the same whatever the data source.

    Parameters
    ----------
    name, title : str
    images : ndarray, shape (image, row, col, channel)
        Native units, NaN where missing.
    target : ndarray, shape (image, row, col)
        Soil moisture, m3 m-3.
    channels : tuple of str
    labels : DataFrame
        One row an image: ``time`` and, where there are several, ``region``.
    folds : list of Fold
    wrap : bool
        Whether columns wrap around (global longitude).
    synthetic : bool
    lat, lon : ndarray, optional
        Coordinates of rows and columns of a global task.
    land : ndarray of bool, optional
        Where a map is wanted.
    notes : dict
        Counts to report: masked, filled, dropped.
    """

    name: str
    title: str
    images: np.ndarray
    target: np.ndarray
    channels: tuple[str, ...]
    labels: pd.DataFrame
    folds: list[Fold]
    wrap: bool = False
    synthetic: bool = False
    patch_size: int = 9
    units: dict[str, str] = field(default_factory=dict)
    """Units of each channel."""
    reference: str = "target"
    """Short name of the target's product, for labels."""
    lat: np.ndarray | None = None
    lon: np.ndarray | None = None
    land: np.ndarray | None = None
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def is_global(self) -> bool:
        """Whether the images are maps of the globe, so that a map of the prediction makes sense."""
        return self.lat is not None and self.wrap

    def field(self, values: np.ndarray, name: str, units: str, long_name: str) -> xr.DataArray:
        """Make a ``(lat, lon)`` map of this task's grid a DataArray under the contract."""
        coords = {"lat": self.lat, "lon": self.lon}
        return xr.DataArray(values, coords, ("lat", "lon"), name, {"units": units, "long_name": long_name})

    def field_stack(self, image: int) -> xr.DataArray:
        """One image of a gridded task as ``(time, channel, lat, lon)``: what `smnb.inference.write_maps` takes."""
        coords = {
            "time": self.labels["time"].to_numpy()[[image]],
            "channel": list(self.channels),
            "lat": self.lat,
            "lon": self.lon,
        }
        return xr.DataArray(self.images[[image]].transpose(0, 3, 1, 2), coords, ("time", "channel", "lat", "lon"), "tb")

    def scalers(self, fold: Fold) -> tuple[MinMaxScaler, MinMaxScaler]:
        """Input and target scaler of a fold, from its training patches' centres alone.

        Inputs run from 0 to 1 between the 0.1 and 99.9 per cent points of the training centres and are clipped there.
        The whole images would not do: the sea is 150 K colder than any soil and would leave the land a tenth of the scale.
        """
        inputs = MinMaxScaler.fit(fold.train.take(self.images), names=self.channels, tail=1e-3, clip=True)
        target = MinMaxScaler.fit(fold.train.take(self.target)[:, None], names=("soil_moisture",))
        return inputs, target

    def store(self, scaler: MinMaxScaler, *, device: torch.device | str = "cpu") -> PatchStore:
        """Return the padded images of this task, scaled by `scaler`."""
        return PatchStore(self.images, scaler, patch_size=self.patch_size, wrap=self.wrap, device=device)


class BatchDataset(torch.utils.data.Dataset):
    """A data set that gathers a whole batch at a time: ``dataset[positions] -> (inputs, target[, mask])``."""

    #: Samples of a batch when nothing is learned from it.
    evaluation_batch: int = 2048

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, batch: np.ndarray) -> tuple[Any, ...]:
        raise NotImplementedError


class PatchDataset(BatchDataset):
    """Batches of patches and scaled targets, gathered a whole batch at a time.

    Parameters
    ----------
    store : PatchStore
    index : PatchIndex
    target : ndarray, shape (patch,)
        Scaled target of each patch.
    """

    def __init__(self, store: PatchStore, index: PatchIndex, target: np.ndarray) -> None:
        if len(index) != target.size:
            raise ContractError("PatchDataset", "one target a patch", got=target.size, expected=len(index))
        if not np.isfinite(target).all():
            raise ContractError(
                "PatchDataset", "the target has missing values", got=int((~np.isfinite(target)).sum()), expected=0,
                next_step="Draw patches from eligible_centres, which leaves them out",
            )  # fmt: skip
        self.store, self.index = store, index
        self.target = torch.from_numpy(np.asarray(target, dtype="float32"))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, batch: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``(patch, channel, row, col)`` inputs and ``(patch,)`` targets for an array of positions."""
        return self.store.gather(self.index[batch]), self.target[torch.from_numpy(batch)].to(self.store.device)


class SeededBatchSampler(torch.utils.data.Sampler[np.ndarray]):
    """Arrays of positions, shuffled by seed and epoch: a resumed run sees the batches an uninterrupted one would.

    Parameters
    ----------
    n : int
        Number of samples.
    batch_size : int
    shuffle : bool
    seed : int
    rank, world_size : int
        This process's share when several devices train together; each takes every `world_size`-th batch.
    """

    def __init__(
        self, n: int, batch_size: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.n, self.batch_size, self.shuffle, self.seed, self.epoch = n, batch_size, shuffle, seed, 0
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next (Lightning calls this)."""
        self.epoch = epoch

    def __len__(self) -> int:
        batches = -(-self.n // self.batch_size)
        return batches // self.world_size if self.world_size > 1 else batches

    def __iter__(self) -> Iterator[np.ndarray]:
        order = (
            np.random.default_rng([self.seed, self.epoch]).permutation(self.n) if self.shuffle else np.arange(self.n)
        )
        for number in range(len(self)):
            start = (number * self.world_size + self.rank) * self.batch_size
            yield order[start : start + self.batch_size]
