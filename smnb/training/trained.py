"""What a training leaves, and what a checkpoint gives back: the network with its scaling, its card and its losses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from smnb.progress import progress
from smnb.training.batches import BatchDataset, evaluation_loader
from smnb.training.config import choose_device, choose_precision
from smnb.training.scaling import MinMaxScaler

_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Trained:
    """A trained network, and all that is known of it.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode on the CPU.
    card : dict
        ``model`` (its name or ``module:Class``), ``config``, ``channels``, the scalers, ``target`` with its units,
        ``training`` (data, seed, epochs, losses), ``weights_sha256``.
    input_scaler, target_scaler : MinMaxScaler or None
        None where the network takes, or gives, native units.
    history : DataFrame
        One row an epoch (or a round of a training by steps): ``epoch``, ``train_loss``, ``validation_loss``,
        ``learning_rate`` at its start, ``seconds``. The losses are in scaled units.
    samples_per_second : float
        Throughput of this call's epochs, validation excluded: patches or images. NaN for what was loaded.
    data_wait_fraction : float
        Share of training time between the end of a step and the arrival of the next batch; likewise.
    details : dict
        Device, precision, steps, and whether the training was resumed.
    """

    model: torch.nn.Module
    card: dict[str, Any]
    input_scaler: MinMaxScaler | None = None
    target_scaler: MinMaxScaler | None = None
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    samples_per_second: float = math.nan
    data_wait_fraction: float = math.nan
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights the network has."""
        return int(self.card["training"]["best_epoch"])

    @property
    def summary(self) -> dict[str, float]:
        """Facts of the training for a table or a run's record; speeds are NaN for what was loaded."""
        return {
            "epochs_run": len(self.history),
            "best_epoch": self.best_epoch,
            "best_validation_loss": float(self.history["validation_loss"].min()),
            "samples_per_second": self.samples_per_second,
            "data_wait_fraction": self.data_wait_fraction,
        }

    @torch.inference_mode()
    def predict(
        self, data: BatchDataset, *, device: str = "auto", precision: str = "32-true", label: str | None = None
    ) -> np.ndarray:
        """Predict all samples of a data set, in physical units.

        Parameters
        ----------
        data : BatchDataset
            Its batches' inputs are what the network takes; what follows them is not looked at.
        device, precision : str
            As `TrainingConfig`.
        label : str, optional
            Of the progress that is shown; default the network's name.

        Returns
        -------
        ndarray of float32, shape (sample, ...)
            In the target's units, m3 m-3 for soil moisture.
        """
        at = choose_device(device)
        dtype = _DTYPES.get(choose_precision(precision, at))
        model = self.model.to(at).eval()
        parts = []
        for batch in progress(evaluation_loader(data), label or f"predicting with {self.card['model']}"):
            inputs = batch[0] if isinstance(batch[0], tuple | list) else (batch[0],)
            with torch.autocast(at.type, dtype=dtype, enabled=dtype is not None):
                parts.append(model(*(one.to(at) for one in inputs)).float().cpu())
        self.model.cpu()
        scaled = torch.cat(parts).numpy() if parts else np.empty(0, "float32")
        return scaled if self.target_scaler is None else self.target_scaler.inverse(scaled[..., None])[..., 0]
