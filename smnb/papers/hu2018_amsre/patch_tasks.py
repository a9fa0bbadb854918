"""A retrieval by patches: images, a target, and how its patches are divided."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
import xarray as xr

from smnb.papers.hu2018_amsre.patches import PatchIndex, PatchStore
from smnb.training.scaling import MinMaxScaler


@dataclass(frozen=True)
class Fold:
    """One division of a task's patches; `fit_images` are those whose statistics may scale the inputs."""

    name: str
    train: PatchIndex
    validation: PatchIndex
    test: PatchIndex
    fit_images: np.ndarray
    """Numbers of the images that belong to training."""


@dataclass
class PatchTask:
    """A retrieval as images, a target and folds: the same whatever the data source.

    Parameters
    ----------
    name, title : str
    images : ndarray, shape (image, row, col, channel)
        Native units, NaN where missing.
    target : ndarray, shape (image, row, col)
        Soil moisture, m3 m-3.
    channels : tuple of str
    labels : DataFrame
        One row an image: ``time`` and, where there are several, ``region``.
    folds : list of Fold
    wrap : bool
        Whether columns wrap around (global longitude).
    synthetic : bool
    lat, lon : ndarray, optional
        Coordinates of rows and columns of a global task.
    land : ndarray of bool, optional
        Where a map is wanted.
    notes : dict
        Counts to report: masked, filled, dropped.
    """

    name: str
    title: str
    images: np.ndarray
    target: np.ndarray
    channels: tuple[str, ...]
    labels: pd.DataFrame
    folds: list[Fold]
    wrap: bool = False
    synthetic: bool = False
    patch_size: int = 9
    units: dict[str, str] = field(default_factory=dict)
    """Units of each channel."""
    reference: str = "target"
    """Short name of the target's product, for labels."""
    lat: np.ndarray | None = None
    lon: np.ndarray | None = None
    land: np.ndarray | None = None
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def is_global(self) -> bool:
        """Whether the images are maps of the globe, so that a map of the prediction makes sense."""
        return self.lat is not None and self.wrap

    def field(self, values: np.ndarray, name: str, units: str, long_name: str) -> xr.DataArray:
        """Make a ``(lat, lon)`` map of this task's grid a DataArray under the contract."""
        coords = {"lat": self.lat, "lon": self.lon}
        return xr.DataArray(values, coords, ("lat", "lon"), name, {"units": units, "long_name": long_name})

    def field_stack(self, image: int) -> xr.DataArray:
        """One image of a gridded task as ``(time, channel, lat, lon)``: what `dense.write_maps` takes."""
        coords = {
            "time": self.labels["time"].to_numpy()[[image]],
            "channel": list(self.channels),
            "lat": self.lat,
            "lon": self.lon,
        }
        return xr.DataArray(self.images[[image]].transpose(0, 3, 1, 2), coords, ("time", "channel", "lat", "lon"), "tb")

    def scalers(self, fold: Fold) -> tuple[MinMaxScaler, MinMaxScaler]:
        """Input and target scaler of a fold, from its training patches' centres alone.

        Inputs run from 0 to 1 between the 0.1 and 99.9 per cent points of the training centres and are clipped there.
        The whole images would not do: the sea is 150 K colder than any soil and would leave the land a tenth of the scale.
        """
        inputs = MinMaxScaler.fit(fold.train.take(self.images), names=self.channels, tail=1e-3, clip=True)
        target = MinMaxScaler.fit(fold.train.take(self.target)[:, None], names=("soil_moisture",))
        return inputs, target

    def store(self, scaler: MinMaxScaler, *, device: torch.device | str = "cpu") -> PatchStore:
        """Return the padded images of this task, scaled by `scaler`."""
        return PatchStore(self.images, scaler, patch_size=self.patch_size, wrap=self.wrap, device=device)
