"""Scaling, and batches of patches or random crops as `smnb.training.train` and `fusion_loss` take them."""

from __future__ import annotations

import numpy as np
import torch

from smnb.contract import ContractError, check_range
from smnb.papers.smap_sentinel1.cutting import CHANNELS, FACTOR
from smnb.papers.smap_sentinel1.samples import FusionSamples
from smnb.papers.smap_sentinel1.splitting import SIDES, FusionSplit
from smnb.training import BatchDataset, MinMaxScaler, Samples


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
        #: Filled values by channel.
        self.n_filled = dict(zip(CHANNELS, missing.sum((0, 1, 2)).tolist(), strict=True))
        np.copyto(scaled, np.asarray(scaler.fill, "float32"), where=missing)
        self.images = _tensor(scaled.transpose(0, 3, 1, 2))
        #: Pixels with all channels, (patch, row, col).
        self.valid = _tensor(~missing.any(axis=-1))

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
        who = "FusionDataset"
        self.patches = split.patches(side)
        if self.patches.size == 0:
            step = "Choose another seed or share of the split, or more patches"
            verb = "train" if side == "train" else "validate"
            raise ContractError(who, f"no patch has anything to {verb} with", got=0, next_step=step)
        height, width = samples.images.shape[-2:]
        size = min(height, width) if crop is None else crop
        check_range(who, "crop", size, 2 * FACTOR, min(height, width))
        super().__init__(samples.images[self.patches], scalers[0])
        self.size = (height, width) if crop is None else (size, size)
        self.seed = seed
        values = samples.in_situ_images(split.ids(side))[self.patches]
        self.in_situ, self.in_situ_mask = _target(values, scalers[1])
        self.product, self.product_mask = _target(samples.product[self.patches], scalers[1])
        self.offset = samples.offset[self.patches]
        self._pixels = [np.argwhere(np.isfinite(image)) for image in values]

    def _corners(self, batch: np.ndarray) -> list[tuple[int, int]]:
        """First row and column of each patch's cut."""
        extent = self.images.shape[-2:]
        if self.size == tuple(extent):
            return [(0, 0)] * len(batch)
        rng = np.random.default_rng([self.seed, *map(int, batch)])
        corners = []
        for one in batch:
            pixels = self._pixels[one]
            at = pixels[rng.integers(len(pixels))] if len(pixels) else None
            corner = []
            for axis in (0, 1):
                low, high = 0, extent[axis] - self.size[axis]
                if at is not None:
                    low, high = max(low, int(at[axis]) - self.size[axis] + 1), min(high, int(at[axis]))
                corner.append(int(rng.integers(low, high + 1)))
            corners.append(tuple(corner))
        return corners

    def __getitem__(self, batch: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Return images (n, 4, row, col), and what `fusion_loss` takes after the prediction."""
        batch = np.asarray(batch, dtype=np.intp)
        (height, width), offsets = self.size, []
        # whatever the offset, so many whole cells lie within
        rows, cols = (height - FACTOR + 1) // FACTOR, (width - FACTOR + 1) // FACTOR
        pieces: list[list[torch.Tensor]] = [[] for _ in range(6)]
        for one, (row, col) in zip(batch, self._corners(batch), strict=True):
            corner = np.array([row, col])
            first = (self.offset[one] - corner) % FACTOR
            cell = (corner + first - self.offset[one]) // FACTOR
            offsets.append(first)
            here = (slice(row, row + height), slice(col, col + width))
            there = (slice(cell[0], cell[0] + rows), slice(cell[1], cell[1] + cols))
            for piece, source, cut in zip(
                pieces,
                (self.images, self.in_situ, self.in_situ_mask, self.valid, self.product, self.product_mask),
                ((slice(None), *here), here, here, here, there, there),
                strict=True,
            ):
                piece.append(source[one][cut])
        images, in_situ, in_situ_mask, valid, product, product_mask = (torch.stack(piece) for piece in pieces)
        offset = torch.from_numpy(np.array(offsets, dtype="int64"))
        return images, in_situ, in_situ_mask, product, product_mask, offset, valid


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
    return Samples(
        train,
        validation,
        channels=CHANNELS,
        input_scaler=scalers[0],
        target_scaler=scalers[1],
        identity={
            "images": samples.images,
            "product": samples.product,
            "in_situ": samples.in_situ["soil_moisture"].to_numpy(),
            "sides": split.sides.to_dict(),
            "train": split.train,
            **options,
        },
        card={
            "data": "SMAP 9 km TB, Sentinel-1 and in-situ sensors at 1 km",
            "synthetic": samples.synthetic,
            "split": "scenes" if split.held_out else "sensors",
            "n_sensors": len(split.ids("train")),
            "held_out": list(split.held_out),
            **options,
        },
    )
