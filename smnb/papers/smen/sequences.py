"""Image sequences for downscaling: a coarse image, past fine-less-coarse residuals, and the fine image to estimate.

A scene is one acquisition of the fine product. Its sample holds the coarse soil moisture nearest in time on the fine grid
(`I`), the residuals of the scenes before it (`D = J - Z`), and the fine image itself (`J`) with its mask. Only the past
enters the residuals: a pixel that a past scene did not see carries its last residual forward, or zero where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from smnb.contract import ContractError, ParameterError, is_synthetic, plain
from smnb.grids import EaseWindow, ease_refine
from smnb.training.batches import BatchDataset
from smnb.training.scaling import MinMaxScaler

#: m3 m-3; the wet end of the scale of coarse images.
WETTEST = 0.6


def match_nearest_in_time(
    values: np.ndarray, times: np.ndarray, wanted: np.ndarray, window: np.timedelta64
) -> np.ndarray:
    """For each wanted time and pixel, the valid value nearest in time within `window`; the earlier one of two as near.

    Parameters
    ----------
    values : ndarray, shape (time, row, col)
        NaN where missing.
    times : ndarray of datetime64, shape (time,)
        Increasing.
    wanted : ndarray of datetime64, shape (scene,)
    window : timedelta64

    Returns
    -------
    ndarray, shape (scene, row, col)
        NaN where no valid value is within the window.
    """
    matched = np.full((wanted.size, *values.shape[1:]), np.nan, dtype="float32")
    for scene, moment in enumerate(wanted):
        distance = np.abs(times - moment)
        near = np.flatnonzero(distance <= window)
        for one in near[np.argsort(distance[near], kind="stable")]:
            empty = np.isnan(matched[scene])
            if not empty.any():
                break
            matched[scene][empty] = values[one][empty]
    return matched


def fill_forward(images: np.ndarray) -> np.ndarray:
    """Carry each pixel's last valid value forward in time, zero before the first: ``(scene, row, col)``, no NaN."""
    filled = np.array(images, dtype="float32")
    last = np.zeros(filled.shape[1:], dtype="float32")
    for image in filled:
        missing = np.isnan(image)
        image[missing] = last[missing]
        last = image
    return filled


@dataclass(frozen=True)
class SequenceSplit:
    """Numbers of the scenes of each part; a fixed part of one region's time."""

    train: np.ndarray
    validation: np.ndarray
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
    coords : dict
        Coordinates of the fine grid, for maps.
    history : int
        Number of past residuals a sample takes.
    interpolated : ndarray, shape (scene, row, col)
        The same coarse soil moisture, bilinear between cell centres: a baseline.
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
        cls,
        fine: xr.DataArray,
        coarse: xr.DataArray,
        *,
        name: str,
        title: str,
        history: int = 4,
        window: str = "36h",
        min_coarse: float = 0.5,
        min_fine: float = 0.05,
    ) -> ImageSequences:
        """Match a fine and a coarse product of one region on nested EASE-Grid 2.0 grids.

        Parameters
        ----------
        fine : DataArray, dims (time, y, x)
            Fine soil moisture, m3 m-3, NaN where missing.
        coarse : DataArray, dims (time, y, x)
            Coarse soil moisture on a coarser nested grid whose window covers the fine one.
        name, title : str
        history : int
        window : str
            How far in time a coarse value may be from a scene.
        min_coarse : float
            A scene of whose pixels fewer than this share have a coarse value is dropped; in others the gaps take the
            mean of the image's coarse values.
        min_fine : float
            A scene of whose pixels fewer than this share are valid is dropped.

        Returns
        -------
        ImageSequences

        Raises
        ------
        ContractError
            If fewer than ``history + 1`` scenes are left, or the grids do not nest or cover each other.
        """
        who = f"ImageSequences({name})"
        fine, coarse = fine.load(), coarse.load()
        fine_window, coarse_window = (
            EaseWindow.from_dataset(part.to_dataset(name="soil_moisture")) for part in (fine, coarse)
        )
        needed = fine_window.covering(coarse_window.grid)
        if not (
            coarse_window.row_start <= needed.row_start
            and needed.row_stop <= coarse_window.row_stop
            and coarse_window.col_start <= needed.col_start
            and needed.col_stop <= coarse_window.col_stop
        ):
            raise ContractError(
                who,
                "the coarse product does not cover the fine one",
                got=coarse_window,
                expected=needed,
                next_step="Open the coarse product for a larger region",
            )
        fine_time, coarse_time = (part["time"].values.astype("datetime64[ns]") for part in (fine, coarse))
        matched = match_nearest_in_time(
            np.asarray(coarse.values, "float32"), coarse_time, fine_time, _timedelta(who, window)
        )
        values = np.asarray(fine.values, "float32")
        stack = xr.DataArray(
            matched,
            {**{k: coarse.coords[k] for k in coarse.coords if k != "time"}, "time": fine_time},
            ("time", "y", "x"),
            "soil_moisture",
        )
        grid = fine_window.grid
        rows, cols = (
            slice(start - whole, start - whole + size)
            for start, whole, size in zip(
                (fine_window.row_start, fine_window.col_start),
                (coarse_window.on(grid).row_start, coarse_window.on(grid).col_start),
                fine_window.shape,
                strict=True,
            )
        )
        blocks, smooth = (ease_refine(stack, grid, method=m).values[:, rows, cols] for m in ("nearest", "bilinear"))
        seen_coarse = np.isfinite(blocks).mean((1, 2))
        seen_fine = np.isfinite(values).mean((1, 2))
        keep = (seen_coarse >= min_coarse) & (seen_fine >= min_fine)
        notes = {
            "scenes": int(keep.size),
            "dropped_without_coarse": int((seen_coarse < min_coarse).sum()),
            "dropped_without_fine": int(((seen_fine < min_fine) & (seen_coarse >= min_coarse)).sum()),
            "coarse_pixels_filled": int(np.isnan(blocks[keep]).sum()),
            "fine_pixels_missing": int(np.isnan(values[keep]).sum()),
        }
        if keep.sum() <= history:
            raise ContractError(
                who,
                "the history is longer than what there is",
                got=plain(f"{int(keep.sum())} scenes ({notes})"),
                expected=plain(f"more than {history}"),
                next_step="Open a longer period, or lower history",
            )
        blocks, smooth, values = blocks[keep], smooth[keep], values[keep]
        mean = np.nanmean(blocks, axis=(1, 2))[:, None, None]
        blocks = np.where(np.isnan(blocks), mean, blocks).astype("float32")
        smooth = np.where(np.isnan(smooth), blocks, smooth).astype("float32")
        coords = {key: fine.coords[key] for key in fine.coords if "time" not in fine.coords[key].dims and key != "time"}
        return cls(
            name, title, fine_time[keep], blocks, values, smooth, coords, history, is_synthetic(fine), None, notes
        )

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

    def regional_mean(self) -> np.ndarray:
        """Mean of the fine product over each scene's valid pixels, m3 m-3."""
        return np.nanmean(self.fine, axis=(1, 2))

    def persistent_share(self, scenes: np.ndarray) -> float:
        """Share of the residuals' variance, within the scenes, that each pixel's mean residual explains: 1 - SS_error / SS.

        The level of each scene is taken out first, so that this is the share of structure that stays.
        """
        residual = (self.fine - self.coarse)[scenes].astype("float64")
        residual = residual - np.nanmean(residual, axis=(1, 2), keepdims=True)
        seen = np.isfinite(residual)
        count = seen.sum(0)
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
            raise ContractError(
                "ImageSequences", "the truth is on another grid", got=at.shape, expected=self.fine.shape
            )
        return replace(self, truth=at.values.astype("float32"))

    def split(
        self, first_test: str, *, n_train: int | None = None, n_validation: int = 0, n_test: int | None = None
    ) -> SequenceSplit:
        """Divide the scenes in time; every sample's history may reach into the part before it, never after.

        Parameters
        ----------
        first_test : str
            ISO date; scenes from then on are for testing, the earlier ones for training.
        n_train, n_test : int, optional
            How many; default all. Of the training scenes the latest are taken, of the test scenes the first.
        n_validation : int
            Latest scenes of the training period that choose the best epoch; 0 leaves the choice to the training loss.

        Raises
        ------
        ContractError
            If a part is empty or smaller than asked for.
        """
        usable = np.arange(self.history, self.time.size)
        is_test = self.time[usable] >= np.datetime64(first_test)
        before, test = usable[~is_test], usable[is_test]
        validation = before[before.size - n_validation :] if n_validation else before[:0]
        train = before[: before.size - n_validation]
        for part, wanted, found in (("training", n_train, train.size), ("test", n_test, test.size)):
            if found < (wanted or 1):
                raise ContractError(
                    f"ImageSequences({self.name})",
                    f"too few {part} scenes with {self.history} scenes before them",
                    got=found,
                    expected=plain(f"at least {wanted or 1}"),
                    next_step="Open a longer period, or ask for fewer",
                )
        return SequenceSplit(train[train.size - (n_train or train.size) :], validation, test[: n_test or test.size])


def _timedelta(who: str, text: str) -> np.timedelta64:
    try:
        return pd.Timedelta(text).to_timedelta64()
    except ValueError as error:
        raise ParameterError(who, "window is no duration", got=text, expected="36h") from error


@dataclass(frozen=True)
class SequenceScaler:
    """Scaling of the two inputs and of the target, from training scenes alone."""

    inputs: MinMaxScaler
    """Channels ``coarse`` and ``residual``."""
    target: MinMaxScaler

    @classmethod
    def fit(cls, sequences: ImageSequences, scenes: np.ndarray, *, exclude: np.ndarray | None = None) -> SequenceScaler:
        """Scale the coarse image by the physical range, residuals by the 0.1 and 99.9 per cent points of training scenes.

        Residuals are clipped there: what lies beyond anything seen in training, such as a salt lake, would otherwise make
        the network extrapolate. A coarse image may be wetter than any in training, and its stream is linear, so its scale
        is that of any soil. The target's zero stays zero: the loss is blind to the level, and one spread makes the loss a
        plain multiple of the ubRMSE in m3 m-3. Pixels of `exclude` have no part in it.
        """
        residuals = sequences.residuals[scenes]
        if exclude is not None:
            residuals = residuals[:, ~exclude]
        found = MinMaxScaler.fit(residuals[..., None], names=("residual",), tail=1e-3)
        low, high = found.minimum[0], found.maximum[0]
        mean = float(sequences.coarse[scenes].mean()) / WETTEST
        inputs = MinMaxScaler((0.0, low), (WETTEST, high), (mean, found.fill[0]), clip=True)
        return cls(inputs, MinMaxScaler((0.0,), (high - low,), (0.0,)))


class SequenceDataset(BatchDataset):
    """Batches ``((coarse, residuals), target, mask)`` of scenes, scaled, with the images on one device.

    Parameters
    ----------
    sequences : ImageSequences
    scenes : ndarray of int
        Numbers of the scenes, each with a whole history before it.
    scaler : SequenceScaler
    exclude : ndarray of bool, shape (row, col), optional
        Pixels whose target counts nowhere, such as a block that is held out for testing.
    device : str or torch.device
    """

    evaluation_batch = 8

    def __init__(
        self,
        sequences: ImageSequences,
        scenes: Sequence[int] | np.ndarray,
        scaler: SequenceScaler,
        *,
        exclude: np.ndarray | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        scenes = np.asarray(scenes, dtype=np.intp)
        if scenes.size == 0 or scenes.min() < sequences.history or scenes.max() >= sequences.time.size:
            raise ContractError(
                "SequenceDataset",
                "a scene has no whole history before it, or there is none",
                got=scenes.tolist(),
                expected=plain(f"{sequences.history} to {sequences.time.size - 1}"),
                next_step="Take scenes from ImageSequences.split",
            )
        stacked = scaler.inputs.transform(np.stack([sequences.coarse, sequences.residuals], axis=-1))
        target = scaler.target.transform(sequences.fine[..., None])[..., 0]
        mask = np.isfinite(target)
        if exclude is not None:
            mask &= ~exclude
        self.scenes = torch.from_numpy(scenes).to(device)
        self.coarse, self.residuals = (
            torch.from_numpy(np.ascontiguousarray(stacked[..., i])).to(device) for i in (0, 1)
        )
        self.target = torch.from_numpy(np.where(mask, target, 0.0).astype("float32")).to(device)
        self.mask = torch.from_numpy(mask).to(device)
        # the scenes before each scene, oldest first
        self.past = torch.arange(-sequences.history, 0, device=self.scenes.device)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, batch: np.ndarray) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Return ``((coarse (n, row, col), residuals (n, history, row, col)), target (n, row, col), mask)``."""
        scenes = self.scenes[torch.as_tensor(batch, device=self.scenes.device)]
        past = scenes[:, None] + self.past
        return (self.coarse[scenes], self.residuals[past]), self.target[scenes], self.mask[scenes]
