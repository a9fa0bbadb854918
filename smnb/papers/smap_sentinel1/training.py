"""Who trains, and on what: sides of sensors or places, scaling, and batches for `smnb.training.train` and `fusion_loss`.

Sensors decide, not patches: each patch serves both sides, as a loss looks at its training pixels and a score at its validation
pixels. What sensors on the two sides may share is what `smnb.sensors.splits` audits. By design of the method they share the
input images, and 9 km cells of the coarse product, which no in-situ reading enters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from smnb.contract import ContractError, ParameterError, check_choice, check_range
from smnb.models.fusion_1km import FACTOR
from smnb.papers.smap_sentinel1.cutting import CHANNELS
from smnb.papers.smap_sentinel1.samples import FusionSamples
from smnb.sensors import make_split
from smnb.training import BatchDataset, MinMaxScaler, Samples

SIDES = ("train", "validation")
#: Leaks that the method itself brings: images cover all sensors, and 9 km cells may hold several.
ACCEPTED = ("shared_footprint", "shared_coarse_cell")


@dataclass(frozen=True)
class FusionSplit:
    """Sides of sensors ("train" or "validation" by ``sensor_id``), and the patches of either side.

    Split by sensors, most patches are in both. `held_out` are places that no training sees; `notes` count sensors by side,
    and what the sides share, by leak.
    """

    sides: pd.Series = field(repr=False)
    train: np.ndarray = field(repr=False)
    validation: np.ndarray = field(repr=False)
    held_out: tuple[str, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)

    def ids(self, side: str) -> list[str]:
        """Sensors of a side."""
        return self.sides.index[self.sides == side].tolist()


def split_sensors(
    samples: FusionSamples,
    *,
    validation: float = 0.3,
    seed: int = 0,
) -> FusionSplit:
    """Divide the sensors; those that ever share a 1 km pixel stay together, and a sensor has one side on all dates.

    `validation` is the expected share of pixels that validate, in (0, 1). The side of a pixel is a hash of it and `seed`: it does
    not change when others are added.

    Raises
    ------
    ContractError
        If there is no sensor, or the split leaks more than the method brings (`ACCEPTED`).
    ParameterError
        If a side stays empty.
    """
    check_range("split_sensors", "validation", validation, 0, 1, ends="()")
    sensors = samples.sensors
    if sensors.empty:
        step = "Make them with in-situ readings, or train on the product alone with leave_scenes_out"
        raise ContractError("split_sensors", "the samples have no sensor", got=0, next_step=step)
    # the unit that stays together is the pixel: to make_split it is a station
    units = sensors[["sensor_id", "lat", "lon"]].assign(
        network="1 km pixel", station=sensors["row"].astype(str) + "," + sensors["col"].astype(str)
    )
    audited = {"footprint_km": 1.0, "coarse_cells": ("ease2_9km",)}
    fractions = (1.0 - validation, validation, 0.0)
    split = make_split(units, "station", seed=seed, fractions=fractions, accept=ACCEPTED, **audited)
    sides = split.assignment
    notes = {f"sensors_{side}": count for side, count in split.counts().items()}
    notes |= {f"validation_{leak}": count for leak, count in split.audit(**audited).leaks.items()}
    held = samples.in_situ["sensor_id"].isin(set(sides.index[sides == "validation"]))
    # every patch has its inputs and its product to learn from
    everything = np.arange(len(samples) if (sides == "train").any() else 0)
    return FusionSplit(sides, everything, np.unique(samples.in_situ.loc[held, "patch"].to_numpy("int64")), (), notes)


def leave_scenes_out(samples: FusionSamples, scenes: Sequence[str]) -> FusionSplit:
    """Hold out whole places by name: their patches, sensors and 9 km product are in no training.

    Patches of other places that overlap one of them are dropped, and counted. An unknown name, and nothing left on one side, is a
    `ParameterError`.
    """
    who = "leave_scenes_out"
    held, known = tuple(dict.fromkeys(scenes)), set(samples.scene.tolist())
    if not held or not set(held) <= known or set(held) == known:
        raise ParameterError(who, "unknown places, none, or all", got=list(scenes), expected=sorted(known))
    is_held = np.isin(samples.scene, held)
    first = np.array([(w.row_start, w.col_start) for w in samples.windows])
    last = np.array([(w.row_stop, w.col_stop) for w in samples.windows])
    meets = (first[:, None] < last[None, is_held]) & (first[None, is_held] < last[:, None])  # (patch, held patch, axis)
    overlaps = ~is_held & meets.all(2).any(1)
    train = np.flatnonzero(~is_held & ~overlaps)
    if train.size == 0:
        raise ParameterError(who, "every other place overlaps the held-out ones", got=list(held))
    # a sensor in two overlapping places validates
    validating = set(samples.in_situ.loc[is_held[samples.in_situ["patch"]], "sensor_id"])
    ids = samples.sensors["sensor_id"]
    sides = pd.Series(np.where(ids.isin(validating), "validation", "train"), pd.Index(ids), object, "split")
    notes = {"patches_overlapping_held_out": int(overlaps.sum())}
    notes |= {f"sensors_{side}": int((sides == side).sum()) for side in SIDES}
    return FusionSplit(sides, train, np.flatnonzero(is_held), held, notes)


def fusion_scalers(samples: FusionSamples, split: FusionSplit) -> tuple[MinMaxScaler, MinMaxScaler]:
    """Scaling of the four channels and of soil moisture, from training data alone.

    Channels run from 0 to 1 between their 0.1 and 99.9 per cent points in training patches and are clipped there; soil
    moisture between the extremes of training pixels and of the product. Inputs at validation sensors are left out, as are
    their readings.
    """
    images = samples.images[split.train].transpose(0, 2, 3, 1).copy()
    hidden = samples.in_situ_images(split.sides.index[split.sides != "train"])
    images[np.isfinite(hidden[split.train])] = np.nan
    inputs = MinMaxScaler.fit(images, names=CHANNELS, tail=1e-3, clip=True)
    pixels = samples.pixels(split.ids("train"))
    readings = pixels.loc[pixels["patch"].isin(split.train), "soil_moisture"].to_numpy("float32")
    values = np.concatenate([readings, samples.product[split.train].ravel()])
    return inputs, MinMaxScaler.fit(values[:, None], names=("soil_moisture",))


class PatchImages(BatchDataset):
    """Batches ``(images (n, channel, row, col),)``, scaled, missing pixels filled with the training mean."""

    evaluation_batch = 2

    def __init__(self, images: np.ndarray, scaler: MinMaxScaler) -> None:
        scaled = scaler.transform(images.transpose(0, 2, 3, 1))
        missing = ~np.isfinite(scaled)
        np.copyto(scaled, np.asarray(scaler.fill, "float32"), where=missing)
        self.images = _tensor(scaled.transpose(0, 3, 1, 2))
        self.valid = _tensor(~missing.any(axis=-1))  # pixels with all channels, (patch, row, col)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, batch: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Return the images of some patches."""
        return (self.images[torch.as_tensor(batch)],)


class FusionDataset(PatchImages):
    """Batches ``(images, in_situ, in_situ_mask, product, product_mask, offset, valid)`` of a side's patches, all scaled.

    What comes after the images are the arguments of `smnb.training.losses.fusion_loss` after the prediction, in its order.
    `crop` is the side of a random square cut from each patch, which holds a pixel of the side's sensors wherever the patch
    has one; it depends on `seed` and on the batch's positions alone, so that a resumed training sees the same.
    """

    evaluation_batch = 4

    def __init__(
        self,
        samples: FusionSamples,
        split: FusionSplit,
        side: str,
        scalers: tuple[MinMaxScaler, MinMaxScaler],
        *,
        crop: int | None = None,
        seed: int = 0,
    ) -> None:
        self.patches = getattr(split, *check_choice("FusionDataset", "side", side, SIDES))
        if self.patches.size == 0:
            what = f"no patch has anything to {'train' if side == 'train' else 'validate'} with"
            step = "Choose another seed or share of the split, or more patches"
            raise ContractError("FusionDataset", what, got=0, next_step=step)
        extent = samples.images.shape[-2:]
        check_range("FusionDataset", "crop", min(extent) if crop is None else crop, 2 * FACTOR, min(extent))
        super().__init__(samples.images[self.patches], scalers[0])
        self.size, self.seed = np.array(extent if crop is None else (crop, crop)), seed
        values = samples.in_situ_images(split.ids(side))[self.patches]
        self.in_situ, self.in_situ_mask = _target(values, scalers[1])
        self.product, self.product_mask = _target(samples.product[self.patches], scalers[1])
        self.offset = samples.offset[self.patches]
        self._pixels = [np.argwhere(np.isfinite(image)) for image in values]

    def _corner(self, one: int, rng: np.random.Generator) -> np.ndarray:
        """First row and column of a patch's cut."""
        low, high = np.zeros(2, int), np.array(self.images.shape[-2:]) - self.size
        if len(pixels := self._pixels[one]) and high.any():
            at = pixels[rng.integers(len(pixels))]
            low, high = np.maximum(low, at - self.size + 1), np.minimum(high, at)
        return np.array([rng.integers(low[axis], high[axis] + 1) for axis in (0, 1)])

    def __getitem__(self, batch: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Return images (n, 4, row, col), and what `fusion_loss` takes after the prediction."""
        rng = np.random.default_rng([self.seed, *map(int, batch)])
        # whatever the offset, so many whole cells lie within
        (height, width), (rows, cols) = self.size, (self.size - FACTOR + 1) // FACTOR
        pieces = []
        for one in np.asarray(batch, dtype=np.intp):
            row, col = corner = self._corner(one, rng)
            offset = (self.offset[one] - corner) % FACTOR
            top, left = (corner + offset - self.offset[one]) // FACTOR
            here, there = np.s_[..., row : row + height, col : col + width], np.s_[top : top + rows, left : left + cols]
            fine = (layer[one][here] for layer in (self.images, self.in_situ, self.in_situ_mask))
            coarse = (layer[one][there] for layer in (self.product, self.product_mask))
            pieces.append((*fine, *coarse, torch.from_numpy(offset), self.valid[one][here]))
        return tuple(torch.stack(part) for part in zip(*pieces, strict=True))


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _target(values: np.ndarray, scaler: MinMaxScaler) -> tuple[torch.Tensor, torch.Tensor]:
    scaled = scaler.transform(values[..., None])[..., 0]
    mask = np.isfinite(scaled)
    return _tensor(np.where(mask, scaled, 0.0).astype("float32")), _tensor(mask)


def fusion_training(samples: FusionSamples, split: FusionSplit, *, crop: int | None = None, seed: int = 0) -> Samples:
    """What a network is trained on: ``model(images (n, 4, row, col)) -> (n, row, col)``, scaled, with `fusion_loss`.

    Validation sensors are in no target of the training and should choose nothing: train with ``keep="last"``. `crop` and
    `seed` are those of random squares, default whole patches.
    """
    scalers = fusion_scalers(samples, split)
    options = {"crop": crop, "seed": seed}
    train, validation = (FusionDataset(samples, split, side, scalers, **options) for side in SIDES)
    readings = samples.in_situ["soil_moisture"].to_numpy()
    identity = {"images": samples.images, "product": samples.product, "in_situ": readings}
    identity |= {"sides": split.sides.to_dict(), "train": split.train, **options}
    card = {
        "data": "SMAP 9 km TB, Sentinel-1 and in-situ sensors at 1 km",
        "synthetic": samples.synthetic,
        "split": "scenes" if split.held_out else "sensors",
        "n_sensors": len(split.ids("train")),
        "held_out": list(split.held_out),
        **options,
    }
    return Samples(train, validation, CHANNELS, *scalers, identity=identity, card=card)
