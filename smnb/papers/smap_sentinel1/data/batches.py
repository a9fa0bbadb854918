"""Scaling, and batches of patches or random crops as `smnb.training.fit` and `smnb.training.losses.fusion_loss` take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from smnb.contract import ContractError, ParameterError, plain
from smnb.papers.smap_sentinel1.data.matching import FACTOR
from smnb.papers.smap_sentinel1.data.samples import CHANNELS, FusionSamples
from smnb.papers.smap_sentinel1.data.splitting import FusionSplit
from smnb.training.batches import BatchDataset
from smnb.training.scaling import MinMaxScaler


@dataclass(frozen=True)
class FusionScaler:
    """Scaling of the four channels and of soil moisture, from training data alone."""

    inputs: MinMaxScaler
    target: MinMaxScaler

    @classmethod
    def fit(cls, samples: FusionSamples, split: FusionSplit) -> FusionScaler:
        """Fit both scales.

        Channels run from 0 to 1 between their 0.1 and 99.9 per cent points in training patches and are clipped there; soil
        moisture between the extremes of training pixels and of the product in training patches. Inputs at the pixels of
        validation sensors are left out, as are their readings.
        """
        others = [one for one in split.sides.index if split.sides[one] != "train"]
        images = samples.images[split.train].transpose(0, 2, 3, 1).copy()
        hidden, _ = samples.in_situ_images(others)
        images[np.isfinite(hidden[split.train])] = np.nan
        inputs = MinMaxScaler.fit(images, names=CHANNELS, tail=1e-3, clip=True)
        pixels = samples.pixels(split.ids("train"))
        readings = pixels.loc[pixels["patch"].isin(split.train), "soil_moisture"].to_numpy("float32")
        values = np.concatenate([readings, samples.product[split.train].ravel()])
        return cls(inputs, MinMaxScaler.fit(values[:, None], names=("soil_moisture",)))


class FusionDataset(BatchDataset):
    """Batches ``(images, in_situ, in_situ_mask, product, product_mask, offset, valid)``: all scaled, on one device.

    What comes after the images are the arguments of `smnb.training.losses.fusion_loss` after the prediction, in its order.

    Parameters
    ----------
    samples : FusionSamples
    split : FusionSplit
    side : {"train", "validation"}
        Whose patches, and whose sensors' pixels.
    scaler : FusionScaler
    crop : int, optional
        Side of a random square cut from each patch, so that batches are smaller; default whole patches. It holds a pixel of
        the side's sensors wherever the patch has one. The cut depends on `seed` and on the batch's positions alone: a
        resumed training sees those that an uninterrupted one would.
    seed : int
    exclude_product_cells : bool
        Mask the 9 km product, in training, in cells that hold a validation sensor. It is made without any in-situ reading,
        so that nothing leaks from these sensors if it stays, which is the default; without it nothing at all is learned
        from their cells.
    device : str or torch.device
    """

    evaluation_batch = 4

    def __init__(
        self,
        samples: FusionSamples,
        split: FusionSplit,
        side: str,
        scaler: FusionScaler,
        *,
        crop: int | None = None,
        seed: int = 0,
        exclude_product_cells: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        who = "FusionDataset"
        self.patches = split.patches(side)
        if self.patches.size == 0:
            raise ContractError(
                who,
                f"no patch has anything to {'train' if side == 'train' else 'validate'} with",
                got=0,
                next_step="Choose another seed or share of the split, or more patches",
            )
        height, width = samples.images.shape[-2:]
        size = min(height, width) if crop is None else crop
        if not 2 * FACTOR <= size <= min(height, width):
            raise ParameterError(
                who, "'crop' is out of range", got=crop, expected=plain(f"{2 * FACTOR} to {min(height, width)}")
            )
        self.size = (height, width) if crop is None else (size, size)
        self.seed = seed
        scaled = scaler.inputs.transform(samples.images[self.patches].transpose(0, 2, 3, 1))
        missing = ~np.isfinite(scaled)
        #: Filled values by channel.
        self.n_filled = dict(zip(CHANNELS, missing.sum((0, 1, 2)).tolist(), strict=True))
        np.copyto(scaled, np.asarray(scaler.inputs.fill, "float32"), where=missing)
        values, _ = (a[self.patches] for a in samples.in_situ_images(split.ids(side)))
        product = samples.product[self.patches].copy()
        if exclude_product_cells and side == "train":
            self._exclude(product, samples, split)

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        self.images = tensor(scaled.transpose(0, 3, 1, 2))
        self.valid = tensor(~missing.any(axis=-1))
        self.in_situ, self.in_situ_mask = self._target(values, scaler.target, tensor)
        self.product, self.product_mask = self._target(product, scaler.target, tensor)
        self.offset = samples.offset[self.patches]
        self._pixels = [np.argwhere(np.isfinite(image)) for image in values]

    @staticmethod
    def _target(
        values: np.ndarray, scaler: MinMaxScaler, tensor: Callable[[np.ndarray], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scaled = scaler.transform(values[..., None])[..., 0]
        mask = np.isfinite(scaled)
        return tensor(np.where(mask, scaled, 0.0).astype("float32")), tensor(mask)

    def _exclude(self, product: np.ndarray, samples: FusionSamples, split: FusionSplit) -> None:
        """Take out the cells that hold a validation sensor, whether or not it has a reading at that time."""
        sensors = samples.sensors[samples.sensors["sensor_id"].isin(set(split.ids("validation")))]
        for image, patch in zip(product, self.patches, strict=True):
            window, offset = samples.windows[patch], samples.offset[patch]
            row = (sensors["row"].to_numpy() - window.row_start - offset[0]) // FACTOR
            col = (sensors["col"].to_numpy() - window.col_start - offset[1]) // FACTOR
            inside = (row >= 0) & (row < image.shape[0]) & (col >= 0) & (col < image.shape[1])
            image[row[inside], col[inside]] = np.nan

    def __len__(self) -> int:
        return len(self.patches)

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
        corners = self._corners(batch)
        (height, width), offsets = self.size, []
        # whatever the offset, so many whole cells lie within
        rows, cols = (height - FACTOR + 1) // FACTOR, (width - FACTOR + 1) // FACTOR
        pieces: list[list[torch.Tensor]] = [[] for _ in range(6)]
        for one, (row, col) in zip(batch, corners, strict=True):
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
