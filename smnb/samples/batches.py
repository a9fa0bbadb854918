"""Whole batches at a time, in an order that a resumed run repeats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from smnb.contract import ContractError
from smnb.samples.patches import PatchIndex, PatchStore

__all__ = ["BatchDataset", "PatchDataset", "SeededBatchSampler"]


class BatchDataset(torch.utils.data.Dataset, ABC):
    """A data set that gathers a whole batch at a time: ``dataset[positions] -> (inputs, target[, mask])``."""

    #: Samples of a batch when nothing is learned from it.
    evaluation_batch: int = 2048

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abstractmethod
    def __getitem__(self, batch: np.ndarray) -> tuple[Any, ...]:
        """Return inputs, target and, where there is one, a mask for an array of positions."""


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
