"""Image sequences for downscaling: a coarse image, past fine-less-coarse residuals, and the fine image to estimate.

A scene is one acquisition of the fine product. Its sample holds the coarse soil moisture nearest in time on the fine grid
(`I`), the residuals of the scenes before it (`D = J - Z`), and the fine image itself (`J`) with its mask. Only the past
enters the residuals: a pixel that a past scene did not see carries its last residual forward, or zero where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr

from smnb.contract import ContractError, is_synthetic, plain
from smnb.grids import EaseWindow, ease_refine, match_nearest_in_time
from smnb.training import BatchDataset, MinMaxScaler

WETTEST = 0.6  # m3 m-3; the wet end of the scale of coarse images
#: Least share of a scene's pixels with a coarse, and with a fine value; other scenes are dropped.
_LEAST_COARSE, _LEAST_FINE = 0.5, 0.05


def fill_forward(images: np.ndarray) -> np.ndarray:
    """Carry each pixel's last valid value forward in time, zero before the first: ``(scene, row, col)``, no NaN."""
    flat = pd.DataFrame(np.asarray(images, "float32").reshape(len(images), -1))
    return flat.ffill().fillna(0.0).to_numpy("float32").reshape(images.shape)


class SequenceSplit(NamedTuple):
    """Numbers of the scenes of each part; a fixed part of one region's time."""

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class ImageSequences:
    """The scenes of one region.

    Parameters
    ----------
    name, title : str
    time : ndarray of datetime64, shape (scene,)
    coarse : ndarray, shape (scene, row, col)
        Coarse soil moisture nearest in time on the fine grid, m3 m-3, without gaps.
    fine : ndarray, shape (scene, row, col)
        The fine product, m3 m-3, NaN where missing.
    interpolated : ndarray, shape (scene, row, col)
        The same coarse soil moisture, bilinear between cell centres: a baseline.
    coords : dict
        Coordinates of the fine grid, for maps.
    history : int
        Number of past residuals a sample takes.
    truth : ndarray, shape (scene, row, col), optional
        Of a simulation, m3 m-3.
    notes : dict
        What was dropped and filled, by reason.
    """

    name: str
    title: str
    time: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray
    interpolated: np.ndarray
    coords: dict[str, Any]
    history: int = 4
    synthetic: bool = False
    truth: np.ndarray | None = None
    notes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_products(
        cls, fine: xr.DataArray, coarse: xr.DataArray, name: str, title: str, history: int = 4, window_hours: int = 36
    ) -> ImageSequences:
        """Match fine and coarse soil moisture ``(time, y, x)``, m3 m-3, of one region on nested EASE-Grid 2.0 grids.

        A coarse value is at most `window_hours` from its scene. A scene with less than half of its pixels' coarse values, or less
        than a twentieth of its own, is dropped; in others the coarse gaps take the mean of the image's coarse values. Fewer than
        ``history + 1`` scenes, and grids that do not nest or cover each other, are a `ContractError`.
        """
        who = f"ImageSequences({name})"
        fine, coarse = fine.load(), coarse.load()
        inner, outer = (EaseWindow.from_dataset(part) for part in (fine, coarse))
        needed = inner.covering(outer.grid)
        if outer.slices_of(needed) is None:
            what, step = "the coarse product does not cover the fine one", "Open it for a larger region"
            raise ContractError(who, what, got=outer, expected=needed, next_step=step)
        values = np.asarray(fine.values, "float32")
        fine_time, coarse_time = (part["time"].values.astype("datetime64[ns]") for part in (fine, coarse))
        window = np.timedelta64(window_hours, "h")
        matched = match_nearest_in_time(np.asarray(coarse.values, "float32"), coarse_time, fine_time, window)
        coords = {**{k: coarse.coords[k] for k in coarse.coords if k != "time"}, "time": fine_time}
        stack = xr.DataArray(matched, coords, ("time", "y", "x"), "soil_moisture")
        rows, cols = outer.on(inner.grid).slices_of(inner)
        blocks, smooth = (
            ease_refine(stack, inner.grid, method=m).values[:, rows, cols] for m in ("nearest", "bilinear")
        )
        without_coarse = np.isfinite(blocks).mean((1, 2)) < _LEAST_COARSE
        without_fine = np.isfinite(values).mean((1, 2)) < _LEAST_FINE
        keep = ~without_coarse & ~without_fine
        blocks, smooth, values = blocks[keep], smooth[keep], values[keep]
        notes = {
            "scenes": int(keep.size),
            "dropped_without_coarse": int(without_coarse.sum()),
            "dropped_without_fine": int((without_fine & ~without_coarse).sum()),
            "coarse_pixels_filled": int(np.isnan(blocks).sum()),
            "fine_pixels_missing": int(np.isnan(values).sum()),
        }
        if len(values) <= history:
            what, got = "the history is longer than what there is", plain(f"{len(values)} scenes ({notes})")
            step = "Open a longer period, or lower history"
            raise ContractError(who, what, got=got, expected=plain(f"more than {history}"), next_step=step)
        mean = np.nanmean(blocks, axis=(1, 2))[:, None, None]
        blocks = np.where(np.isnan(blocks), mean, blocks).astype("float32")
        smooth = np.where(np.isnan(smooth), blocks, smooth).astype("float32")
        coords = {key: fine.coords[key] for key in fine.coords if "time" not in fine.coords[key].dims and key != "time"}
        synthetic = is_synthetic(fine)
        return cls(name, title, fine_time[keep], blocks, values, smooth, coords, history, synthetic, None, notes)

    @cached_property
    def residuals(self) -> np.ndarray:
        """Fine less coarse of each scene, gaps carried forward from the past: ``(scene, row, col)``, m3 m-3."""
        return fill_forward(self.fine - self.coarse)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        return self.fine.shape[1:]

    def day(self, scene: int) -> str:
        """Date of a scene, UTC."""
        return str(self.time[scene])[:10]

    def field(self, image: np.ndarray) -> xr.DataArray:
        """One image ``(row, col)`` as a map ``(lat, lon)``, m3 m-3."""
        lat, lon = (np.asarray(self.coords[name].values) for name in ("lat", "lon"))
        attrs = {"units": "m3 m-3", "long_name": "soil moisture"}
        return xr.DataArray(image[::-1], {"lat": lat[::-1], "lon": lon}, ("lat", "lon"), "soil_moisture", attrs)

    def persistent_share(self, scenes: np.ndarray) -> float:
        """Share of the residuals' variance, within the scenes, that each pixel's mean residual explains: 1 - SS_error / SS.

        The level of each scene is taken out first, so that this is the share of structure that stays.
        """
        residual = (self.fine - self.coarse)[scenes].astype("float64")
        residual = residual - np.nanmean(residual, axis=(1, 2), keepdims=True)
        count = np.isfinite(residual).sum(0)
        mean = np.divide(np.nansum(residual, 0), count, out=np.zeros(self.shape), where=count > 0)
        twice = count >= 2  # a pixel seen once is its own mean
        # dividing by n - 1 instead of n takes out what the mean fits of the noise
        error = np.nansum((residual - mean) ** 2, 0)[twice] / (count[twice] - 1)
        total = np.nansum(residual**2, 0)[twice] / count[twice]
        return float(1.0 - error.mean() / total.mean())

    def with_truth(self, truth: xr.DataArray) -> ImageSequences:
        """Return the same scenes with the simulated truth at their times, for scoring what no real product allows."""
        at = truth.sel(time=self.time, method="nearest", tolerance=np.timedelta64(12, "h"))
        if at.shape != self.fine.shape:
            what = "the truth is on another grid"
            raise ContractError("ImageSequences", what, got=at.shape, expected=self.fine.shape)
        return replace(self, truth=at.values.astype("float32"))

    def split(self, first_test: str, n_train: int | None = None, n_test: int | None = None) -> SequenceSplit:
        """Divide the scenes in time; every sample's history may reach into the part before it, never after.

        Scenes from `first_test` (ISO date) on are for testing, the earlier ones for training: the first `n_test` and the latest
        `n_train`, by default all. A part that is empty or smaller than asked for is a `ContractError`.
        """
        usable = np.arange(self.history, self.time.size)
        is_test = self.time[usable] >= np.datetime64(first_test)
        train, test = usable[~is_test], usable[is_test]
        for part, wanted, found in (("training", n_train, train.size), ("test", n_test, test.size)):
            if found < (wanted or 1):
                what = f"too few {part} scenes with {self.history} scenes before them"
                expected, step = plain(f"at least {wanted or 1}"), "Open a longer period, or ask for fewer"
                raise ContractError(f"ImageSequences({self.name})", what, got=found, expected=expected, next_step=step)
        return SequenceSplit(train[train.size - (n_train or train.size) :], test[: n_test or test.size])


def sequence_scalers(
    sequences: ImageSequences, scenes: np.ndarray, *, exclude: np.ndarray | None = None
) -> tuple[MinMaxScaler, MinMaxScaler]:
    """Scaling of the inputs (``coarse``, ``residual``) and of the target, of training scenes, without pixels of `exclude`.

    The coarse image is scaled by the physical range, since it may be wetter than any in training and its stream is linear;
    residuals by the 0.1 and 99.9 per cent points of training scenes, and clipped there, as a network would extrapolate over a
    salt lake. The target's zero stays zero: the loss is blind to the level, and one spread makes it a plain multiple of the
    ubRMSE in m3 m-3.
    """
    residuals = sequences.residuals[scenes]
    if exclude is not None:
        residuals = residuals[:, ~exclude]
    found = MinMaxScaler.fit(residuals[..., None], names=("residual",), tail=1e-3)
    low, high = found.minimum[0], found.maximum[0]
    mean = float(sequences.coarse[scenes].mean()) / WETTEST
    inputs = MinMaxScaler((0.0, low), (WETTEST, high), (mean, found.fill[0]), clip=True)
    return inputs, MinMaxScaler((0.0,), (high - low,), (0.0,))


class SequenceDataset(BatchDataset):
    """Batches ``((coarse, residuals), target, mask)`` of scenes that have a whole history before them, scaled.

    The target of pixels of `exclude` (row, col) counts nowhere, such as a block that is held out for testing.
    """

    evaluation_batch = 8

    def __init__(
        self,
        sequences: ImageSequences,
        scenes: Sequence[int] | np.ndarray,
        scalers: tuple[MinMaxScaler, MinMaxScaler],
        *,
        exclude: np.ndarray | None = None,
    ) -> None:
        scenes = np.asarray(scenes, dtype=np.intp)
        if scenes.size == 0 or scenes.min() < sequences.history or scenes.max() >= sequences.time.size:
            what, step = "a scene has no whole history before it, or is none", "Take scenes from ImageSequences.split"
            expected = plain(f"{sequences.history} to {sequences.time.size - 1}")
            raise ContractError("SequenceDataset", what, got=scenes.tolist(), expected=expected, next_step=step)
        inputs, of_target = scalers
        stacked = inputs.transform(np.stack([sequences.coarse, sequences.residuals], axis=-1))
        target = of_target.transform(sequences.fine[..., None])[..., 0]
        mask = np.isfinite(target)
        if exclude is not None:
            mask &= ~exclude
        self.scenes = torch.from_numpy(scenes)
        self.coarse, self.residuals = (torch.from_numpy(np.ascontiguousarray(stacked[..., i])) for i in (0, 1))
        self.target = torch.from_numpy(np.where(mask, target, 0.0).astype("float32"))
        self.mask = torch.from_numpy(mask)
        # the scenes before each scene, oldest first
        self.past = torch.arange(-sequences.history, 0)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, batch: np.ndarray) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Return ``((coarse (n, row, col), residuals (n, history, row, col)), target (n, row, col), mask)``."""
        scenes = self.scenes[torch.as_tensor(batch)]
        past = scenes[:, None] + self.past
        return (self.coarse[scenes], self.residuals[past]), self.target[scenes], self.mask[scenes]
