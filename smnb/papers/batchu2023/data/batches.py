"""Batches of images, coarse products and readings out of a sample store, as the multi-source network takes them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch

from smnb.contract import ContractError, ParameterError, plain
from smnb.papers.batchu2023.data.augmentation import Augmentation, warp
from smnb.papers.batchu2023.data.channels import InputSet, channel_source
from smnb.papers.batchu2023.normalisation import INDEX_RANGES, normalised_index
from smnb.papers.batchu2023.store import SampleStore
from smnb.training.batches import BatchDataset

_PARTS = ("high", "low")
SIDES = ("train", "validation", "test")


def complete_samples(store: SampleStore, inputs: InputSet | None = None) -> tuple[np.ndarray, dict[str, int]]:
    """Samples that have a reading and every source of some inputs.

    Parameters
    ----------
    store : SampleStore
    inputs : InputSet, optional
        Default every source of the store that is not optional there, so that networks of different inputs are trained and
        scored on the same samples.

    Returns
    -------
    mask : ndarray of bool, shape (sample,)
    dropped : dict of str to int
        Samples without ``label`` or a source, each counted under the first that it lacks.
    """
    if inputs is not None:
        _check_sources(store, inputs)
    sources = [s for s, one in store.sources.items() if not one.optional] if inputs is None else inputs.sources
    mask, dropped = np.isfinite(store.labels()), {}
    dropped["label"] = int((~mask).sum())
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
    """Positions of the samples on a side of a split, of those in `mask`.

    Raises
    ------
    ParameterError
        If the store has no such split, or the split no such side.
    """
    column = f"split_{split}"
    known = [name.removeprefix("split_") for name in store.sensors.columns if str(name).startswith("split_")]
    if column not in store.sensors.columns:
        raise ParameterError(
            "side_positions",
            "the store has no such split",
            got=split,
            expected=known,
            next_step="Write the split's sides into the store's sensor table",
        )
    sides = store.samples[column].to_numpy()
    found = sides == side
    if not found.any():
        raise ParameterError(
            "side_positions",
            f"split {split!r} has no sample on this side",
            got=side,
            expected=sorted({str(one) for one in sides if one is not None}),
        )
    return np.flatnonzero(found if mask is None else found & mask)


def _check_sources(store: SampleStore, inputs: InputSet) -> None:
    for part in ("high", "low", "coarse"):
        for source, bands in inputs.bands(part).items():
            known = store.sources.get(source)
            if known is None or known.kind != part or (missing := [b for b in bands if b not in known.bands]):
                raise ParameterError(
                    "MultiSourceDataset",
                    f"the store cannot feed the {part} input",
                    got=plain(
                        f"no {source}" if known is None else f"{source}: {known.kind}, bands {list(known.bands)}"
                    ),
                    expected=plain(f"{source}: {part}, bands {list(bands)}"),
                    next_step="Build the store with this source, or choose other inputs"
                    if known is None or missing
                    else None,
                )


class MultiSourceDataset(BatchDataset):
    """Batches ``((high, low, coarse), target)`` out of a sample store.

    Images come as the network takes them: stored values of [0, 1] as ``2 x - 1``, missing pixels 0 (the middle), the low
    images cut to the same ground as the high ones. An input without channels is an empty ``(n, 0)`` tensor. Coarse products
    and the target are m3 m-3.

    Parameters
    ----------
    store : SampleStore
    inputs : InputSet
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
    prefetch : int, optional
        Batches that a training reads ahead in a thread. Default: 2 where a source is read batch by batch or batches are made
        on another device than the CPU, else 0.
    device : str or torch.device
        Where batches, and images kept in memory, are.
    evaluation_batch : int
        Samples of a batch when nothing is learned from it.

    Raises
    ------
    ParameterError
        If the store lacks a source or band of the inputs, or a crop does not fit it.
    ContractError
        If there is no sample, or one without a reading or coarse product.
    """

    #: Positions of later passes are those beyond the length (`smnb.training.loading.StepSampler`).
    counts_passes = True

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
        prefetch: int | None = None,
        device: str | torch.device = "cpu",
        evaluation_batch: int = 64,
    ) -> None:
        _check_sources(store, inputs)
        self.store, self.inputs, self.crop = store, inputs, crop
        self.positions = np.asarray(positions, dtype=np.int64)
        self.augmentation, self.seed, self.device = augmentation, seed, torch.device(device)
        self.evaluation_batch = evaluation_batch
        if self.positions.size == 0:
            raise ContractError("MultiSourceDataset", "there is no sample", got=0, next_step="Check the split's sides")
        self._sizes = _sizes(store, inputs, crop, augmentation)
        coarse = [
            store.read(source, self.positions, [band])[:, 0]
            for source, band in (channel_source("coarse", name) for name in inputs.coarse)
        ]
        self.coarse = self._whole("coarse product", np.stack(coarse, 1) if coarse else np.empty((len(self), 0), "f4"))
        self.target = self._whole("reading", store.labels()[self.positions])
        self._kept: dict[str, tuple[torch.Tensor, np.ndarray]] = {}
        self._keep(memory_gb)
        read = [s for part in _PARTS for s in self.inputs.bands(part) if s not in self._kept]
        self.prefetch = (2 if read or self.device.type != "cpu" else 0) if prefetch is None else prefetch

    def _whole(self, what: str, values: np.ndarray) -> torch.Tensor:
        lacking = int((~np.isfinite(values.reshape(len(self), -1)).all(axis=1)).sum())
        if lacking:
            raise ContractError(
                "MultiSourceDataset",
                f"samples lack a {what}",
                got=lacking,
                expected=0,
                next_step="Take the positions that complete_samples allows",
            )
        return torch.from_numpy(np.ascontiguousarray(values, dtype="float32")).to(self.device)

    def __len__(self) -> int:
        return self.positions.size

    @property
    def in_memory(self) -> tuple[str, ...]:
        """Sources whose images are in memory."""
        return tuple(self._kept)

    def _keep(self, memory_gb: float) -> None:
        """Read the sources that fit into memory, each image once however many samples see it."""
        wanted = []
        for part in _PARTS:
            for source, bands in self.inputs.bands(part).items():
                rows, first, index = np.unique(
                    self.store.image_rows(source, self.positions), return_index=True, return_inverse=True
                )
                wanted.append(
                    (len(rows) * len(bands) * self._sizes[part][0] ** 2 * 2, part, source, bands, first, index)
                )
        left = memory_gb * 2**30
        for size, part, source, bands, first, index in sorted(wanted, key=lambda one: one[0]):
            if size > left:
                break
            left -= size
            images = np.empty((len(first), len(bands), *(self._sizes[part][0],) * 2), "float16")
            for start in range(0, len(first), 256):
                at = self.positions[first[start : start + 256]]
                images[start : start + len(at)] = self.store.read(source, at, bands, self._sizes[part][0])
            self._kept[source] = (torch.from_numpy(images).to(self.device), index)

    def _images(self, part: str, samples: np.ndarray) -> torch.Tensor:
        """``(n, channel, side, side)`` of a part, scaled to [-1, 1] and without NaN, before any transformation."""
        if not getattr(self.inputs, part):
            return torch.empty((samples.size, 0), device=self.device)
        side, channels = self._sizes[part][0], getattr(self.inputs, part)
        # copied once, channel by channel, to where they are scaled: a batch is hundreds of MB
        result = torch.empty((samples.size, len(channels), side, side), device=self.device)
        for source, bands in self.inputs.bands(part).items():
            if source in self._kept:
                kept, index = self._kept[source]
                values = kept.index_select(0, torch.from_numpy(index[samples]).to(self.device))
            else:
                values = torch.from_numpy(self.store.read(source, self.positions[samples], bands, side))
            for number, name in enumerate(channels):
                other, band = channel_source(part, name)
                if other == source:
                    result[:, number] = (
                        _index(band, bands, values) if band in INDEX_RANGES else values[:, bands.index(band)]
                    )
        return _scale(result)

    @torch.no_grad()
    def __getitem__(self, batch: np.ndarray) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
        """Return the network's three inputs and the readings for an array of positions.

        Positions beyond the length are the same samples in later passes, with other transformations.
        """
        batch = np.asarray(batch, dtype=np.int64)
        passed, samples = np.divmod(batch, len(self))
        images = {part: self._images(part, samples) for part in _PARTS}
        if self.augmentation is not None:
            draws = np.empty((samples.size, 8), "float32")
            for one in np.unique(passed):
                draws[passed == one] = _draws(self.seed, int(one), len(self))[samples[passed == one]]
            matrices = self.augmentation.matrices(draws)
            for part in _PARTS:
                if images[part].dim() == 4:
                    images[part] = warp(images[part], matrices, self._sizes[part][1])
        at = torch.from_numpy(samples).to(self.device)
        return (images["high"], images["low"], self.coarse[at]), self.target[at]


def network_inputs(channels: Mapping[str, np.ndarray | torch.Tensor]) -> torch.Tensor:
    """Stack normalised channels of [0, 1], ``(n, y, x)`` each, to what the network takes.

    Returns
    -------
    Tensor of float32, shape (n, channel, y, x)
        ``2 x - 1``, so [-1, 1]; missing pixels are 0.
    """
    return _scale(torch.stack([torch.as_tensor(one) for one in channels.values()], 1).float())


def _scale(images: torch.Tensor) -> torch.Tensor:
    """From [0, 1] to [-1, 1] in place, missing pixels 0."""
    return images.mul_(2.0).sub_(1.0).nan_to_num_(nan=0.0)


def _index(name: str, bands: tuple[str, ...], values: torch.Tensor) -> torch.Tensor:
    """A vegetation index of normalised bands ``(n, band, y, x)``, normalised."""
    stored = {band: values[:, number].float().cpu().numpy() for number, band in enumerate(bands)}
    return torch.from_numpy(normalised_index(name, stored))


def _sizes(
    store: SampleStore, inputs: InputSet, crop: int, augmentation: Augmentation | None
) -> dict[str, tuple[int, int]]:
    """Side that is read and side that the network gets, of high and low images."""
    low = crop * store.resolution / store.low_resolution
    sizes = {}
    for part, size in (("high", crop), ("low", low)):
        if not getattr(inputs, part):
            continue
        whole = store.side(next(iter(inputs.bands(part))))
        if size != int(size) or not 1 <= size <= whole or (whole - size) % 2:
            raise ParameterError(
                "MultiSourceDataset",
                "'crop' does not fit the store's images",
                got=crop,
                expected=plain(f"{store.crop} pixels or less, with {part} images of {whole}, {whole - 2}, … pixels"),
                next_step=f"A crop of {crop} makes {part} images of {size:g} pixels",
            )
        size = int(size)
        sizes[part] = (size if augmentation is None else min(whole, augmentation.reach(size)), size)
    return sizes


@lru_cache(maxsize=4)
def _draws(seed: int, epoch: int, n: int) -> np.ndarray:
    return Augmentation.draws(seed, epoch, n)
