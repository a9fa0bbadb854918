"""The paper's recipe (Table 7), and the choice among the members of its sweep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from smnb.contract import ParameterError, RunError
from smnb.training import TrainingConfig

#: Threshold of the Huber loss, m3 m-3; labels lie between 0 and 1, so nearly all of them are in its quadratic part.
HUBER_DELTA = 0.4
#: The sweep of every experiment of the paper: parameters of `smnb.training.TrainingConfig`, as `smnb sweep` takes them.
PAPER_SWEEP: dict[str, tuple[float, ...]] = {"learning_rate": (0.1, 0.05, 0.03), "weight_decay": (1e-4, 5e-5, 3e-5)}


def paper_training(**changes: Any) -> TrainingConfig:
    """The paper's training: SGD with momentum 0.9, polynomial decay to zero over 600,000 steps of 64 samples.

    Parameters
    ----------
    **changes
        Settings of `smnb.training.TrainingConfig` that differ: usually ``learning_rate`` and ``weight_decay`` of
        `PAPER_SWEEP` (the middle ones are the default here; the paper does not say which was best), ``steps``, and
        ``batch_size`` with ``accumulate`` where 64 images do not fit into memory.
    """
    recipe: dict[str, Any] = {
        "optimizer": "sgd",
        "momentum": 0.9,
        "schedule": "polynomial",
        "power": 0.9,
        "steps": 600_000,
        "batch_size": 64,
        "learning_rate": 0.05,
        "weight_decay": 5e-5,
        "patience": 0,
        "sync_batch_norm": True,
        "channels_last": True,
    }
    return TrainingConfig(**{**recipe, **changes})


def encoder_settings(crop: int, *, low_ratio: int = 16, **changes: Any) -> dict[str, Any]:
    """Settings of the network for images of a size, as `smnb.papers.batchu2023.train_multisource` takes them as its `model`.

    At 256 pixels the output strides are the paper's: 32, which leaves 8 x 8 features of 320 m, and 16, which leaves one of the
    low images of 16 pixels. Smaller images get a stride of 16, and one that leaves one feature of the low images.

    Parameters
    ----------
    crop : int
        Side of the high images, pixels.
    low_ratio : int
        High pixels a low one.
    **changes
        Further settings of `smnb.models.multisource.MultiSourceConfig`: ``high_encoder``, ``low_encoder``, ``drop_path_keep``, …

    Examples
    --------
    >>> encoder_settings(256), encoder_settings(64, low_encoder="small")  # doctest: +NORMALIZE_WHITESPACE
    ({'output_stride_high': 32, 'output_stride_low': 16},
     {'output_stride_high': 16, 'output_stride_low': 4, 'low_encoder': 'small'})
    """
    strides = {"output_stride_high": 32 if crop >= 256 else 16, "output_stride_low": max(1, min(16, crop // low_ratio))}
    return {**strides, **changes}


def best_member(table: pd.DataFrame, metric: str = "validation_ubrmse", *, higher_is_better: bool = False) -> pd.Series:
    """Member of a sweep with the best validation score; the first of equals.

    Parameters
    ----------
    table : DataFrame
        From `smnb.runs.sweep`.
    metric : str
        A column. It has to be one of the validation side: a choice by the test side would make it part of the training.

    Returns
    -------
    Series
        The member's row.

    Raises
    ------
    ParameterError
        If there is no such column, or it is of the test side.
    RunError
        If no member that ended well has the score.
    """
    if metric not in table.columns:
        raise ParameterError(
            "best_member", "there is no such metric", got=metric, expected=list(map(str, table.columns))
        )
    if "test" in metric:
        raise ParameterError(
            "best_member", "a model is not chosen by its test score", got=metric, next_step="Take a validation score"
        )
    ended = table["status"].isin(("done", "skipped")) if "status" in table else pd.Series(True, table.index)
    values = pd.to_numeric(table[metric], errors="coerce").where(ended)
    if not np.isfinite(values).any():
        raise RunError(
            "best_member", f"no member has a {metric}", got=int(ended.sum()), next_step="Look at the members"
        )
    return table.loc[values.idxmax() if higher_is_better else values.idxmin()]
