"""Predictions of patches."""

from __future__ import annotations

import numpy as np
import torch

from smnb.papers.hu2018_amsre.patches import PatchIndex, PatchStore


@torch.inference_mode()
def predict_patches(
    model: torch.nn.Module,
    store: PatchStore,
    index: PatchIndex,
    *,
    batch_size: int = 1024,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Predict the scaled target of patches, gathering a batch at a time.

    Returns
    -------
    ndarray, shape (patch,), float32
        Scaled; use the target scaler's `inverse` for m3 m-3.
    """
    model = model.to(device).eval()
    parts = [
        model(store.gather(index[start : start + batch_size]).to(device)).float().cpu()
        for start in range(0, len(index), batch_size)
    ]
    return torch.cat(parts).numpy() if parts else np.empty(0, dtype="float32")
