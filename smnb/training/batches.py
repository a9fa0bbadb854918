"""Whole batches at a time: which samples make which step, in an order that a resumed run repeats, and reading ahead."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from smnb.contract import ContractError, plain
from smnb.training.config import TrainingConfig


class BatchDataset(torch.utils.data.Dataset, ABC):
    """A data set that gathers a whole batch at a time: ``dataset[positions] -> (inputs, target[, mask])``."""

    evaluation_batch: int = 2048  # samples of a batch when nothing is learned from it

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abstractmethod
    def __getitem__(self, batch: np.ndarray) -> tuple[Any, ...]:
        """Return inputs, target and, where there is one, a mask for an array of positions."""


@dataclass(frozen=True)
class StepPlan:
    """Rounds (validations) of a training, batches of each device in a round and in a pass, steps of the optimiser in a round."""

    rounds: int
    batches_per_round: int
    batches_per_pass: int
    steps_per_round: int

    @property
    def steps(self) -> int:
        """Steps of the optimiser in the whole training."""
        return self.rounds * self.steps_per_round

    @classmethod
    def make(cls, n: int, config: TrainingConfig) -> StepPlan:
        """Plan the training of `n` samples; `ContractError` if whole steps are wanted and there are fewer than one takes."""
        if config.whole_batches or config.accumulate > 1 or config.steps is not None:
            steps = n // config.samples_per_step
            if steps == 0:
                what = "there are fewer training samples than one step takes"
                least = plain(f"at least batch_size x accumulate x devices = {config.samples_per_step}")
                raise ContractError("fit", what, got=n, expected=least, next_step="Lower batch_size or accumulate")
            batches = steps * config.accumulate
        else:
            batches = -(-n // config.batch_size)
            batches = steps = batches // config.devices if config.devices > 1 else batches
        if config.steps is None:
            return cls(config.epochs, batches, batches, steps)
        if config.validate_every is not None:
            rounds, length = -(-config.steps // config.validate_every), config.validate_every
        else:
            rounds = max(1, round(config.steps / steps))
            length = -(-config.steps // rounds)
        return cls(rounds, length * config.accumulate, batches, length)


class StepSampler(torch.utils.data.Sampler[np.ndarray]):
    """Arrays of positions by seed and number of the batch: pass after pass over the data, cut into rounds.

    Any round can be the first, so that a resumed training sees the batches of an uninterrupted one. `counts_passes` adds `n`
    times the number of the pass to each position: what a data set wants that draws anew in every pass.
    """

    def __init__(
        self, n: int, plan: StepPlan, config: TrainingConfig, *, rank: int = 0, counts_passes: bool = False
    ) -> None:
        self.n, self.plan, self.config, self.rank, self.counts_passes = n, plan, config, rank, counts_passes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which round comes next (Lightning calls this)."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.plan.batches_per_round

    def __iter__(self) -> Iterator[np.ndarray]:
        first, size, current, order = self.epoch * len(self), self.config.batch_size, -1, np.empty(0, "int64")
        for number in range(first, first + len(self)):
            passed, within = divmod(number, self.plan.batches_per_pass)
            if passed != current:
                current, order = passed, np.random.default_rng([self.config.seed, passed]).permutation(self.n)
            start = (within * self.config.devices + self.rank) * size
            batch = order[start : start + size]
            yield batch + passed * self.n if self.counts_passes else batch


class OrderedSampler(torch.utils.data.Sampler[np.ndarray]):
    """Arrays of positions in order; of several devices each has its own stretch, and none is left out."""

    def __init__(self, n: int, batch_size: int, *, rank: int = 0, devices: int = 1) -> None:
        self.positions, self.batch_size = np.array_split(np.arange(n), devices)[rank], batch_size

    def __len__(self) -> int:
        return -(-self.positions.size // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, self.positions.size, self.batch_size):
            yield self.positions[start : start + self.batch_size]


class PrefetchLoader:
    """Batches of a data set, `depth` of them gathered by a thread while the step before is computed.

    Reading and PyTorch release the interpreter, so that a thread is enough.
    """

    batch_sampler = None  # Lightning asks every loader that has a sampler

    def __init__(self, dataset: BatchDataset, sampler: torch.utils.data.Sampler[np.ndarray], depth: int) -> None:
        self.dataset, self.sampler, self.depth = dataset, sampler, depth

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        positions = iter(self.sampler)
        with ThreadPoolExecutor(1, thread_name_prefix="smnb-prefetch") as pool:
            ahead = deque(pool.submit(self.dataset.__getitem__, one) for one in islice(positions, self.depth))
            try:
                while ahead:
                    batch = ahead.popleft().result()
                    ahead.extend(pool.submit(self.dataset.__getitem__, one) for one in islice(positions, 1))
                    yield batch
            finally:
                pool.shutdown(cancel_futures=True)


def _loader(dataset: BatchDataset, sampler: torch.utils.data.Sampler[np.ndarray]) -> Any:
    if depth := getattr(dataset, "prefetch", 0):
        return PrefetchLoader(dataset, sampler, depth)
    # batch_size None: the sampler already yields whole batches, which the dataset gathers in one go
    return torch.utils.data.DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=0)


def training_loader(dataset: BatchDataset, plan: StepPlan, config: TrainingConfig, *, rank: int = 0) -> Any:
    """Batches of the training, shuffled; read ahead where the data set has a ``prefetch``."""
    counts = getattr(dataset, "counts_passes", False)
    return _loader(dataset, StepSampler(len(dataset), plan, config, rank=rank, counts_passes=counts))


def evaluation_loader(dataset: BatchDataset, *, batch_size: int = 1, rank: int = 0, devices: int = 1) -> Any:
    """Batches in order, of the data set's own size for evaluation or larger."""
    size = max(batch_size, dataset.evaluation_batch)
    return _loader(dataset, OrderedSampler(len(dataset), size, rank=rank, devices=devices))
