"""Batches of patches and scaled targets."""

from __future__ import annotations

import numpy as np
import torch

from smnb.contract import ContractError
from smnb.papers.hu2018_amsre.patches import PatchIndex, PatchStore
from smnb.training.batches import BatchDataset


class PatchDataset(BatchDataset):
    """Batches of patches and scaled targets, gathered a whole batch at a time.

    Parameters
    ----------
    store : PatchStore
    index : PatchIndex
    target : ndarray, shape (patch,)
        Scaled target of each patch.
    """

    def __init__(self, store: PatchStore, index: PatchIndex, target: np.ndarray) -> None:
        if len(index) != target.size:
            raise ContractError("PatchDataset", "one target a patch", got=target.size, expected=len(index))
        if not np.isfinite(target).all():
            raise ContractError(
                "PatchDataset",
                "the target has missing values",
                got=int((~np.isfinite(target)).sum()),
                expected=0,
                next_step="Draw patches from eligible_centres, which leaves them out",
            )
        self.store, self.index = store, index
        self.target = torch.from_numpy(np.asarray(target, dtype="float32"))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, batch: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``(patch, channel, row, col)`` inputs and ``(patch,)`` targets for an array of positions."""
        return self.store.gather(self.index[batch]), self.target[torch.from_numpy(batch)].to(self.store.device)
