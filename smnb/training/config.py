"""How a network is trained: settings, device, precision and optimiser, and which samples make which step.

Whole batches at a time, in an order that a resumed run repeats, some read ahead.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from smnb.contract import ContractError, ParameterError, check_choice, check_range, plain
from smnb.models.registry import check_settings

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "constant", "polynomial")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Parameters
    ----------
    epochs : int
        Passes over the training data; what counts where `steps` is None.
    batch_size : int
        Samples (patches or images) that are in memory at once on each device.
    schedule : str
        ``cosine`` (to zero along a half cosine over the epochs), ``constant``, or ``polynomial``: ``(1 - step / all steps) **
        power``, after every step of the optimiser.
    weight_decay : float
        L2 penalty: the gradient gains ``weight_decay`` times the weight. Adam draws in every parameter, as usual; SGD spares
        biases, the weights of norms and those of depthwise convolutions, as DeepLab, whose Xception is penalised in its
        ordinary convolutions only.
    patience : int
        Validations without a better loss before training stops; 0 never stops early.
    seed : int
        Of the initial weights and the order of batches.
    device, precision : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``; ``auto`` (bf16 mixed where the device has it, else 32), ``32-true``,
        ``bf16-mixed`` or ``16-mixed``.
    devices : int
        Number of devices; more than one trains with DDP.
    optimizer : str
        ``adam`` or ``sgd``, with `momentum`.
    steps : int, optional
        Steps of the optimiser, instead of `epochs`. They are rounded up to whole rounds of `validate_every`, or to rounds of
        about one pass over the data, all of one length.
    validate_every : int, optional
        Steps between validations (only with `steps`). Each such round is an "epoch" of the history, and what is resumed.
    accumulate : int
        Batches whose gradients are averaged before a step: ``batch_size * accumulate * devices`` samples a step. Equal to one
        large batch, but for batch norm, whose statistics are those of the small batches.
    whole_batches : bool
        Leave out what remains of a pass after its last whole step: batch norm cannot use a batch of one sample, and a small
        batch's gradients would weigh as much as others'. Always so with `steps` or `accumulate`.
    channels_last : bool
        Images and convolutions in channels-last memory, which is what tensor cores and oneDNN work in.

    References
    ----------
    Chen et al. 2018, Encoder-decoder with atrous separable convolution, ECCV (DeepLab: the polynomial schedule and the
    penalty), doi:10.1007/978-3-030-01234-2_49.
    """

    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    weight_decay: float = 0.0
    patience: int = 10
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    devices: int = 1
    optimizer: str = "adam"
    momentum: float = 0.9
    power: float = 0.9
    steps: int | None = None
    validate_every: int | None = None
    accumulate: int = 1
    whole_batches: bool = False
    sync_batch_norm: bool = False
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        who, choices = "TrainingConfig", {"schedule": SCHEDULES, "precision": PRECISIONS, "optimizer": OPTIMIZERS}
        given = [name for name in ("steps", "validate_every") if getattr(self, name) is not None]
        check_settings(self, counts=("epochs", "batch_size", "devices", "accumulate", *given), choices=choices)
        for name in ("learning_rate", "power"):
            check_range(who, name, getattr(self, name), 0, ends="(]")
        check_range(who, "momentum", self.momentum, 0, 1, ends="[)")
        check_range(who, "weight_decay", self.weight_decay, 0)
        choose_device(self.device)
        if self.validate_every is not None and self.steps is None:
            what, step = "validate_every is for trainings by steps", "Give 'steps' too, or leave both out"
            raise ParameterError(who, what, got=self.validate_every, next_step=step)

    @property
    def samples_per_step(self) -> int:
        """Samples whose gradients make one step: over accumulated batches and devices."""
        return self.batch_size * self.accumulate * self.devices


def choose_device(device: str) -> torch.device:
    """Turn ``auto`` into the best device there is, and refuse one that is absent."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    here = [name for name, yes in available.items() if yes]
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if name in here))
    check_choice("choose_device", "device", device, ("auto", *available))
    if device not in here:
        what, next_step = f"{device!r} is not available here", "Use device 'auto'"
        raise ParameterError("choose_device", what, expected=here, next_step=next_step)
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> str:
    """Turn ``auto`` into bf16 mixed precision where a CUDA device has it, else float32."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32-true"


def parameter_groups(module: torch.nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Parameters by weight decay: one group where it is for all or none, else those that it draws in and the others."""
    if config.optimizer != "sgd" or config.weight_decay == 0.0:
        return [{"params": list(module.parameters()), "weight_decay": config.weight_decay}]
    layers = [m for m in module.modules() if isinstance(m, torch.nn.Linear | torch.nn.modules.conv._ConvNd)]
    dense = [m for m in layers if getattr(m, "groups", 1) == 1 or m.groups != m.in_channels]
    penalised = {id(m.weight) for m in dense}
    groups = ([p for p in module.parameters() if (id(p) in penalised) == which] for which in (True, False))
    decays = zip(groups, (config.weight_decay, 0.0), strict=True)
    return [{"params": group, "weight_decay": decay} for group, decay in decays if group]


def minimise(
    parameters: Iterable[torch.nn.Parameter],
    steps: int,
    loss: Callable[[], torch.Tensor],
    *,
    rate: float,
    weight_decay: float,
    rise: float = 0.3,
    betas: tuple[float, float] = (0.9, 0.999),
) -> None:
    """Train a small network in place, without checkpoints: AdamW, whose rate rises for a share of the steps, then falls.

    `loss` draws a batch and returns its loss, once a step.
    """
    optimiser = torch.optim.AdamW(parameters, rate, betas, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=rise)
    for _ in range(steps):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()


def configure_optimizer(module: torch.nn.Module, config: TrainingConfig, epochs: int, steps: int) -> dict[str, Any]:
    """Build the optimiser and its schedule, of these `epochs` and `steps` in all, as Lightning takes them."""
    groups = parameter_groups(module, config)
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    else:
        optimizer = torch.optim.Adam(groups, lr=config.learning_rate)
    if config.schedule == "constant":
        return {"optimizer": optimizer}
    if config.schedule == "cosine":
        factor, interval = (lambda epoch: 0.5 * (1.0 + math.cos(math.pi * min(epoch, epochs) / epochs))), "epoch"
    else:
        factor, interval = (lambda step: (1.0 - min(step, steps) / steps) ** config.power), "step"
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": interval}}


class BatchDataset(torch.utils.data.Dataset, ABC):
    """A data set that gathers a whole batch at a time: ``dataset[positions] -> (inputs, target[, mask])``."""

    evaluation_batch: int = 2048  # samples of a batch when nothing is learned from it

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def __getitem__(self, batch: np.ndarray) -> tuple[Any, ...]:
        """Inputs, target and, where there is one, a mask for an array of positions."""


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


def in_order(n: int, batch_size: int, *, rank: int = 0, devices: int = 1) -> list[np.ndarray]:
    """Arrays of positions in order; of several devices each has its own stretch, and none is left out."""
    own = np.array_split(np.arange(n), devices)[rank]
    return [own[start : start + batch_size] for start in range(0, own.size, batch_size)]


class PrefetchLoader:
    """Batches of a data set, `depth` of them gathered by a thread while the step before is computed.

    Reading and PyTorch release the interpreter, so that a thread is enough.
    """

    batch_sampler = None  # Lightning asks every loader that has a sampler

    def __init__(self, dataset: BatchDataset, sampler: Collection[np.ndarray], depth: int) -> None:
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


def _loader(dataset: BatchDataset, sampler: Collection[np.ndarray]) -> Any:
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
    return _loader(dataset, in_order(len(dataset), size, rank=rank, devices=devices))
