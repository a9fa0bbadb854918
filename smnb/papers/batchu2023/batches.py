"""Batches of images, coarse products and readings out of a sample store, as the multi-source network takes them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from smnb.contract import ContractError, ParameterError, plain
from smnb.papers.batchu2023.augmentation import Augmentation, warp
from smnb.papers.batchu2023.inputs import InputSet, network_inputs, stack_channels
from smnb.papers.batchu2023.sources import KINDS
from smnb.papers.batchu2023.store import SampleStore
from smnb.training.batches import BatchDataset

_WHO = "MultiSourceDataset"
_IMAGES = ("high", "low")
#: Sides of a split; networks are scored on the last two.
SIDES = ("train", "validation", "test")


def complete_samples(store: SampleStore, inputs: InputSet | None = None) -> tuple[np.ndarray, dict[str, int]]:
    """Which samples have a reading and every source of some inputs; and how many lack ``label`` or a source, by the first.

    Without inputs every source of the store counts that is not optional there, so that networks of different inputs are trained
    and scored on the same samples.
    """
    if inputs is not None:
        _check_sources(store, inputs)
    sources = [s for s, one in store.sources.items() if not one.optional] if inputs is None else inputs.sources
    mask = np.isfinite(store.labels())
    dropped = {"label": int((~mask).sum())}
    for source in sources:
        if store.sources[source].kind == "coarse":
            there = np.isfinite(store.read(source)).all(axis=1)
        elif store.sources[source].optional:
            continue  # missing images are the middle of their range
        else:
            there = store.image_rows(source) >= 0
        dropped[source] = int((mask & ~there).sum())
        mask &= there
    return mask, {name: count for name, count in dropped.items() if count}


def side_positions(store: SampleStore, split: str, side: str, *, mask: np.ndarray | None = None) -> np.ndarray:
    """Positions of the samples on a side of a split, of those in `mask`."""
    column = f"split_{split}"
    if column not in store.sensors.columns:
        known = [n.removeprefix("split_") for n in map(str, store.sensors.columns) if n.startswith("split_")]
        step = "Write the split's sides into the store's sensor table"
        raise ParameterError("side_positions", "the store has no such split", got=split, expected=known, next_step=step)
    sides = store.samples[column].to_numpy()
    found = sides == side
    if not found.any():
        known = sorted({str(one) for one in sides if one is not None})
        raise ParameterError("side_positions", f"split {split!r} has no sample on this side", got=side, expected=known)
    return np.flatnonzero(found if mask is None else found & mask)


def _check_sources(store: SampleStore, inputs: InputSet) -> None:
    for part in KINDS:
        for source, bands in inputs.bands(part).items():
            known = store.sources.get(source)
            if known is None or known.kind != part or not set(bands) <= set(known.bands):
                has = f"no {source}" if known is None else f"{source}: {known.kind}, bands {list(known.bands)}"
                what, expected = f"the store cannot feed the {part} input", f"{source}: {part}, bands {list(bands)}"
                step = "Build the store with this source, or choose other inputs"
                raise ParameterError(_WHO, what, got=plain(has), expected=plain(expected), next_step=step)


class MultiSourceDataset(BatchDataset):
    """Batches ``((high, low, coarse), target)`` out of a sample store.

    Images come as the network takes them (`smnb.papers.batchu2023.inputs.network_inputs`), the low images cut to the same
    ground as the high ones. An input without channels is an empty ``(n, 0)`` tensor. Coarse products and the target are m3
    m-3.

    Parameters
    ----------
    store, inputs
    positions : array_like of int
        Samples of the store. All need a reading and the coarse products (`complete_samples`).
    crop : int
        Side of the high images, pixels; the low ones follow from the resolutions.
    augmentation : Augmentation, optional
        Transformations, new ones in every pass. They are cut out of larger images where the store has them.
    seed : int
        Of the transformations: a sample's depend on the seed, the pass, and its number among `positions` alone.
    memory_gb : float
        Sources whose images fit, smallest first, are kept in memory (GiB, float16); others are read batch by batch.
    device
        Where batches, and images kept in memory, are.
    """

    #: Positions of later passes are those beyond the length (`smnb.training.batches.StepSampler`).
    counts_passes = True
    evaluation_batch = 64

    def __init__(
        self,
        store: SampleStore,
        inputs: InputSet,
        positions: np.ndarray,
        *,
        crop: int = 256,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        memory_gb: float = 2.0,
        device: str | torch.device = "cpu",
    ) -> None:
        _check_sources(store, inputs)
        self.store, self.inputs, self.crop = store, inputs, crop
        self.positions = np.asarray(positions, dtype=np.int64)
        self.augmentation, self.seed, self.device = augmentation, seed, torch.device(device)
        if self.positions.size == 0:
            raise ContractError(_WHO, "there is no sample", got=0, next_step="Check the split's sides")
        self._sizes = _sizes(store, inputs, crop, augmentation)
        coarse = {one: store.read(one, self.positions, bands) for one, bands in inputs.bands("coarse").items()}
        values = stack_channels(inputs, "coarse", coarse) if coarse else torch.empty((len(self), 0))
        self.coarse = self._whole("coarse product", values)
        self.target = self._whole("reading", torch.from_numpy(store.labels()[self.positions]))
        self._kept: dict[str, tuple[torch.Tensor, np.ndarray]] = {}
        self._keep(memory_gb)
        read = [s for part in _IMAGES for s in self.inputs.bands(part) if s not in self._kept]
        #: Batches that a training reads ahead in a thread.
        self.prefetch = 2 if read or self.device.type != "cpu" else 0

    def _whole(self, what: str, values: torch.Tensor) -> torch.Tensor:
        lacking = int((~values.isfinite().view(len(self), -1).all(dim=1)).sum())
        if lacking:
            step = "Take the positions that complete_samples allows"
            raise ContractError(_WHO, f"samples lack a {what}", got=lacking, expected=0, next_step=step)
        return values.to(self.device)

    def __len__(self) -> int:
        return self.positions.size

    @property
    def in_memory(self) -> tuple[str, ...]:
        """Sources whose images are in memory."""
        return tuple(self._kept)

    def _keep(self, memory_gb: float) -> None:
        """Read the sources that fit into memory, each image once however many samples see it."""
        wanted = []
        for part in _IMAGES:
            for source, bands in self.inputs.bands(part).items():
                seen = self.store.image_rows(source, self.positions)
                rows, first, index = np.unique(seen, return_index=True, return_inverse=True)
                shape = (len(rows), len(bands), *(self._sizes[part][0],) * 2)
                wanted.append((2 * int(np.prod(shape)), source, bands, shape, first, index))
        left = memory_gb * 2**30
        for size, source, bands, shape, first, index in sorted(wanted, key=lambda one: one[0]):
            if size > left:
                break
            left -= size
            images = np.empty(shape, "float16")
            for start in range(0, len(first), 256):
                at = self.positions[first[start : start + 256]]
                images[start : start + len(at)] = self.store.read(source, at, bands, shape[-1], images.dtype)
            self._kept[source] = (torch.from_numpy(images).to(self.device), index)

    def _images(self, part: str, samples: np.ndarray) -> torch.Tensor:
        """``(n, channel, side, side)`` of a part, scaled to [-1, 1] and without NaN, before any transformation."""
        if not getattr(self.inputs, part):
            return torch.empty((samples.size, 0), device=self.device)
        values: dict[str, torch.Tensor | np.ndarray] = {}
        for source, bands in self.inputs.bands(part).items():
            if source in self._kept:
                kept, index = self._kept[source]
                values[source] = kept.index_select(0, torch.from_numpy(index[samples]).to(self.device))
            else:
                at, side = self.positions[samples], self._sizes[part][0]
                values[source] = self.store.read(source, at, bands, side, np.float16)
        return network_inputs(self.inputs, part, values, self.device)

    @torch.no_grad()
    def __getitem__(self, batch: np.ndarray) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
        """Return the network's three inputs and the readings for an array of positions.

        Positions beyond the length are the same samples in later passes, with other transformations.
        """
        passed, samples = np.divmod(np.asarray(batch, dtype=np.int64), len(self))
        images = {part: self._images(part, samples) for part in _IMAGES}
        if self.augmentation is not None:
            draws = np.empty((samples.size, 8), "float32")
            for one in np.unique(passed):
                draws[passed == one] = Augmentation.draws(self.seed, int(one), len(self))[samples[passed == one]]
            matrices = self.augmentation.matrices(draws)
            for part, (_, size) in self._sizes.items():
                images[part] = warp(images[part], matrices, size)
        at = torch.from_numpy(samples).to(self.device)
        return (images["high"], images["low"], self.coarse[at]), self.target[at]


def _sizes(
    store: SampleStore, inputs: InputSet, crop: int, augmentation: Augmentation | None
) -> Mapping[str, tuple[int, int]]:
    """Side that is read and side that the network gets, of high and low images."""
    sizes = {}
    for part, size in (("high", crop), ("low", crop * store.resolution / store.low_resolution)):
        if not getattr(inputs, part):
            continue
        whole = store.side(next(iter(inputs.bands(part))))
        if size != int(size) or not 1 <= size <= whole or (whole - size) % 2:
            what, step = (
                "'crop' does not fit the store's images",
                f"A crop of {crop} makes {part} images of {size:g} pixels",
            )
            expected = plain(f"{store.crop} pixels or less, with {part} images of {whole}, {whole - 2}, … pixels")
            raise ParameterError(_WHO, what, got=crop, expected=expected, next_step=step)
        size = int(size)
        sizes[part] = (size if augmentation is None else min(whole, augmentation.reach(size)), size)
    return sizes
