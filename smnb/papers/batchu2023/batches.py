"""Batches out of a sample store as the multi-source network takes them, and the paper's augmentation of them (Table 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch

from smnb.contract import ContractError, ParameterError, check_range, plain
from smnb.papers.batchu2023.inputs import InputSet, network_inputs
from smnb.papers.batchu2023.sources import KINDS
from smnb.papers.batchu2023.store import SampleStore
from smnb.training import BatchDataset

_WHO = "MultiSourceDataset"
_IMAGES = ("high", "low")
SIDES = ("train", "validation", "test")  # sides of a split; networks are scored on the last two


@dataclass(frozen=True)
class Augmentation:
    """Rotations, flips and shears about the centre: probabilities, and largest angles either way; the defaults are Table 6.

    The soil moisture is that of the centre, so nothing may move it, and 10 m and 160 m images see the same ground, so both are
    transformed alike. Values stay as they are: no change of brightness, backscatter or incidence angle.
    """

    rotate: float = 0.8
    flip_horizontal: float = 0.5
    flip_vertical: float = 0.5
    shear_x: float = 0.3
    shear_y: float = 0.3
    rotate_degrees: float = 180.0
    shear_degrees: float = 9.0

    def __post_init__(self) -> None:
        for one in fields(self):
            top = {"rotate_degrees": 180.0, "shear_degrees": 45.0}.get(one.name, 1.0)
            check_range("Augmentation", one.name, getattr(self, one.name), 0, top)

    @staticmethod
    @lru_cache(maxsize=4)
    def draws(seed: int, epoch: int, n: int) -> np.ndarray:
        """Uniform numbers that decide the transformations of `n` samples in an epoch, ``(n, 8)``."""
        # the 1 keeps these draws apart from those of the order of samples, which are seeded with (seed, epoch)
        return np.random.default_rng([seed, epoch, 1]).random((n, 8), dtype="float32")

    def matrices(self, draws: np.ndarray) -> torch.Tensor:
        """Matrices that turn a position in the result, from the centre, into one in the image, ``(n, 2, 2)``.

        Positions are (x to the right, y down). A rotation by a positive angle is counter-clockwise as displayed.
        """
        chance, extent = draws[:, :5].astype("float64"), 2.0 * draws[:, 5:].astype("float64") - 1.0
        happens = chance < [self.rotate, self.flip_horizontal, self.flip_vertical, self.shear_x, self.shear_y]
        largest = np.radians([self.rotate_degrees, self.shear_degrees, self.shear_degrees])
        angle, *slopes = np.where(happens[:, [0, 3, 4]], largest * extent, 0.0).T
        (flip_x, flip_y), (shear_x, shear_y) = np.where(happens[:, 1:3], -1.0, 1.0).T, np.tan(slopes)
        cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
        turns = [[cos, -sin], [sin, cos]], [[flip_x, zero], [zero, flip_y]]
        shears = [[one, shear_x], [zero, one]], [[one, zero], [shear_y, one]]
        rotation, flip, first, second = (np.moveaxis(np.array(one), -1, 0) for one in (*turns, *shears))
        return torch.from_numpy((rotation @ flip @ (first @ second)).astype("float32"))

    def reach(self, size: int) -> int:
        """Side of the centred square that a result of `size` pixels can see, of the same parity as `size`."""
        if not any((self.rotate, self.shear_x, self.shear_y)):
            return size
        tangent = math.tan(math.radians(self.shear_degrees)) if self.shear_x or self.shear_y else 0.0
        stretch = tangent / 2.0 + math.sqrt(1.0 + tangent**2 / 4.0)  # the largest that one shear makes of a length
        # two pixels more for the interpolation
        side = math.ceil(size * stretch**2 * (math.sqrt(2.0) if self.rotate else 1.0)) + 2
        return side + (side - size) % 2


def warp(images: torch.Tensor, matrices: torch.Tensor, size: int) -> torch.Tensor:
    """Transform images ``(n, channel, side, side)`` about their centres, bilinearly, and cut out a centred square of `size`.

    They have no NaN; `matrices` are those of `Augmentation.matrices`. Where `size` is smaller than `side`, the corners of a
    rotated square are real pixels; what lies beyond the images is their reflection at the edge.
    """
    n, _, _, side = images.shape
    offset = (torch.arange(size, device=images.device, dtype=torch.float32) + 0.5 - size / 2) * (2.0 / side)
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    grid = torch.stack([x, y], -1).reshape(1, -1, 2) @ matrices.to(images.device).transpose(1, 2)
    return torch.nn.functional.grid_sample(
        images, grid.reshape(n, size, size, 2), mode="bilinear", padding_mode="reflection", align_corners=False
    )


def complete_samples(store: SampleStore) -> tuple[np.ndarray, dict[str, int]]:
    """Which samples have a reading and every source that is not optional; and how many lack ``label`` or a source, by the first.

    Sources that are no inputs count too, so that networks of different inputs are trained and scored on the same samples.
    """
    lacking = {"label": ~np.isfinite(store.labels())}
    for source in (name for name, one in store.sources.items() if not one.optional):
        coarse = store.sources[source].kind == "coarse"
        lacking[source] = ~np.isfinite(store.read(source)).all(axis=1) if coarse else store.image_rows(source) < 0
    mask, dropped = np.ones(len(store), dtype=bool), {}
    for name, absent in lacking.items():
        dropped[name] = int((mask & absent).sum())
        mask &= ~absent
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

    All samples at `positions` of the store need a reading and the coarse products (`complete_samples`). `crop` is the side of the
    high images, pixels. Augmentations are new ones in every pass, cut out of larger images where the store has them; a sample's
    depend on `seed`, the pass, and its number among `positions` alone. Sources whose images fit into `memory_gb` (GiB, float16),
    smallest first, are kept on the `device`; others are read batch by batch.
    """

    counts_passes = True  # positions of later passes are those beyond the length (`smnb.training.config.StepSampler`)
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
        self._kept: dict[str, tuple[torch.Tensor, np.ndarray]] = {}  # sources whose images are in memory
        self.coarse = self._whole("coarse product", self._part("coarse", np.arange(len(self))))
        self.target = self._whole("reading", torch.from_numpy(store.labels()[self.positions]))
        self._keep(memory_gb)
        #: Batches that a training reads ahead in a thread.
        self.prefetch = 2 if set(inputs.bands(*_IMAGES)) - set(self._kept) or self.device.type != "cpu" else 0

    def _whole(self, what: str, values: torch.Tensor) -> torch.Tensor:
        lacking = int((~values.isfinite().view(len(self), -1).all(dim=1)).sum())
        if lacking:
            step = "Take the positions that complete_samples allows"
            raise ContractError(_WHO, f"samples lack a {what}", got=lacking, expected=0, next_step=step)
        return values.to(self.device)

    def __len__(self) -> int:
        return self.positions.size

    def _keep(self, memory_gb: float) -> None:
        """Read the sources that fit into memory, each image once however many samples see it."""
        wanted = []
        for part, (side, _) in self._sizes.items():
            for source, bands in self.inputs.bands(part).items():
                seen = self.store.image_rows(source, self.positions)
                _, first, index = np.unique(seen, return_index=True, return_inverse=True)
                wanted.append((2 * len(first) * len(bands) * side**2, source, bands, side, first, index))
        left = memory_gb * 2**30
        for size, source, bands, side, first, index in sorted(wanted, key=lambda one: one[0]):
            if size > left:
                break
            left -= size
            images = np.empty((len(first), len(bands), side, side), "float16")
            for start in range(0, len(first), 256):
                at = self.positions[first[start : start + 256]]
                images[start : start + len(at)] = self.store.read(source, at, bands, side, images.dtype)
            self._kept[source] = (torch.from_numpy(images).to(self.device), index)

    def _part(self, part: str, samples: np.ndarray) -> torch.Tensor:
        """``(n, channel, ...)`` of a part: images scaled to [-1, 1] and without NaN, before any transformation."""
        if not getattr(self.inputs, part):
            return torch.empty((samples.size, 0), device=self.device)
        values: dict[str, torch.Tensor | np.ndarray] = {}
        side, _ = self._sizes.get(part, (None, None))
        for source, bands in self.inputs.bands(part).items():
            if source in self._kept:
                kept, index = self._kept[source]
                values[source] = kept.index_select(0, torch.from_numpy(index[samples]).to(self.device))
            else:
                values[source] = self.store.read(source, self.positions[samples], bands, side, np.float16)
        return network_inputs(self.inputs, part, values, self.device)

    @torch.no_grad()
    def __getitem__(self, batch: np.ndarray) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
        """Return the network's three inputs and the readings for an array of positions.

        Positions beyond the length are the same samples in later passes, with other transformations.
        """
        passed, samples = np.divmod(np.asarray(batch, dtype=np.int64), len(self))
        images = {part: self._part(part, samples) for part in _IMAGES}
        if self.augmentation is not None:
            draws = np.empty((samples.size, 8), "float32")
            for one in np.unique(passed):
                draws[passed == one] = Augmentation.draws(self.seed, int(one), len(self))[samples[passed == one]]
            matrices = self.augmentation.matrices(draws)
            images |= {part: warp(images[part], matrices, size) for part, (_, size) in self._sizes.items()}
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
            step = f"A crop of {crop} makes {part} images of {size:g} pixels"
            expected = plain(f"{store.crop} pixels or less, with {part} images of {whole}, {whole - 2}, … pixels")
            what = "'crop' does not fit the store's images"
            raise ParameterError(_WHO, what, got=crop, expected=expected, next_step=step)
        size = int(size)
        sizes[part] = (size if augmentation is None else min(whole, augmentation.reach(size)), size)
    return sizes
