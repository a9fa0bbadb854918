"""Whole batches at a time, in an order that a resumed run repeats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


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
