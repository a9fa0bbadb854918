"""Steps of a downscaling experiment: train SMEN, bring the level back, baselines, and scores an image."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from smnb.checkpoints import LoadedModel, load_model, save_model
from smnb.contract import ContractError, ParameterError, plain
from smnb.losses import unbiased_rmse_loss
from smnb.models import build_model
from smnb.sequences import ImageSequences, SequenceDataset, SequenceScaler, SequenceSplit
from smnb.training import FitResult, TrainingConfig, fit

__all__ = [
    "BASELINES",
    "SMEN_CHANNELS",
    "add_level",
    "downscale_baselines",
    "predict_smen",
    "score_images",
    "summarise_images",
    "train_smen",
]

SMEN_CHANNELS = ("coarse", "residual")

#: What a downscaling network has to beat.
BASELINES = {
    "coarse": "coarse soil moisture as it is",
    "bilinear": "coarse soil moisture, bilinear between cell centres",
    "last fine + coarse change": "the last fine image (gaps carried forward) shifted by the change of the coarse one",
    "residual climatology": "coarse soil moisture plus the mean residual of the training scenes",
}


def train_smen(
    sequences: ImageSequences, split: SequenceSplit, config: TrainingConfig, out: str | Path, *,
    inputs: str = "spatiotemporal", exclude: np.ndarray | None = None, progress: bool = False,
) -> tuple[LoadedModel, FitResult]:  # fmt: skip
    """Train SMEN on a region's training scenes and save it as ``out/model.safetensors``.

    Parameters
    ----------
    sequences : ImageSequences
    split : SequenceSplit
        Its validation scenes choose the best epoch; where there are none, the last epoch's weights are kept, as the
        paper does, and ``validation_loss`` in the history is the loss of the training scenes in evaluation mode.
    config : TrainingConfig
    out : path-like
        Folder for the training state and the model. A killed training goes on from there.
    inputs : str
        ``spatiotemporal``, ``spatial`` or ``temporal`` (the paper's Table 2).
    exclude : ndarray of bool, shape (row, col), optional
        Pixels that never count in training, such as a block held out for testing.
    progress : bool

    Returns
    -------
    LoadedModel, FitResult
        Losses in the history are ubRMSE in m3 m-3.
    """
    out = Path(out)
    scaler = SequenceScaler.fit(sequences, split.train)
    torch.manual_seed(config.seed)
    model = build_model("smen", {"inputs": inputs, "history": sequences.history})
    chooses = split.validation.size > 0
    train = SequenceDataset(sequences, split.train, scaler, exclude=exclude)
    validation = SequenceDataset(sequences, split.validation if chooses else split.train, scaler, exclude=exclude)
    result = fit(
        model, train, validation, config=config, out=out, loss=unbiased_rmse_loss, progress=progress,
        fingerprint=_fingerprint(sequences, split, inputs, exclude), keep="best" if chooses else "last",
    )  # fmt: skip
    history = result.history.assign(
        **{name: result.history[name] * scaler.target.maximum[0] for name in ("train_loss", "validation_loss")}
    )
    result = replace(result, history=history)
    card = {
        "data": sequences.title, "synthetic": sequences.synthetic, "seed": config.seed, "epochs": len(history),
        "train": [str(sequences.time[split.train[0]])[:10], str(sequences.time[split.train[-1]])[:10]],
        "n_train": int(split.train.size), "n_validation": int(split.validation.size), "best_epoch": result.best_epoch,
    }  # fmt: skip
    path = save_model(
        out / "model", model, name="smen", input_scaler=scaler.inputs, target_scaler=scaler.target,
        channels=SMEN_CHANNELS, training=card,
    )  # fmt: skip
    return load_model(path, channels=SMEN_CHANNELS), result


def _fingerprint(sequences: ImageSequences, split: SequenceSplit, inputs: str, exclude: np.ndarray | None) -> str:
    digest = hashlib.sha256(repr((sequences.title, sequences.history, inputs)).encode())
    for array in (sequences.coarse, sequences.fine, split.train, split.validation, exclude):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def predict_smen(
    loaded: LoadedModel, sequences: ImageSequences, scenes: np.ndarray, *, device: str | torch.device = "cpu"
) -> np.ndarray:
    """Estimate fine images up to their level, which the loss leaves free; see `add_level`.

    Returns
    -------
    ndarray, shape (scene, row, col)
        m3 m-3 but for a constant of each image.
    """
    if loaded.card["config"]["history"] != sequences.history:
        raise ContractError(
            "predict_smen", "the network takes another history", got=sequences.history,
            expected=loaded.card["config"]["history"], next_step="Make the ImageSequences with that history",
        )  # fmt: skip
    data = SequenceDataset(sequences, scenes, SequenceScaler(loaded.input_scaler, loaded.target_scaler), device=device)
    model = loaded.model.to(device).eval()
    parts = []
    for start in range(0, len(data), data.evaluation_batch):
        (coarse, residuals), _, _ = data[np.arange(start, min(start + data.evaluation_batch, len(data)))]
        parts.append(model(coarse, residuals).float().cpu().numpy())
    return loaded.target_scaler.inverse(np.concatenate(parts)[..., None])[..., 0]


def add_level(images: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Give each image the mean of its coarse image: the level that an ubRMSE loss leaves open.

    Parameters
    ----------
    images, coarse : ndarray, shape (scene, row, col)
        m3 m-3; `coarse` on the fine grid.

    Returns
    -------
    ndarray, shape (scene, row, col)
        ``images - mean(images) + mean(coarse)``, means over the whole image.

    Examples
    --------
    >>> add_level(np.array([[[1.0, 3.0]]]), np.array([[[0.2, 0.2]]])).round(2).tolist()
    [[[-0.8, 1.2]]]
    """
    axes = (-2, -1)
    return images - images.mean(axes, keepdims=True) + coarse.mean(axes, keepdims=True)


def downscale_baselines(
    sequences: ImageSequences, split: SequenceSplit, scenes: np.ndarray, *, exclude: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Estimate scenes by each of `BASELINES`, from what the network sees.

    Parameters
    ----------
    sequences : ImageSequences
    split : SequenceSplit
        Its training scenes make the residual climatology; where none of them saw a pixel it is zero.
    scenes : ndarray of int
    exclude : ndarray of bool, shape (row, col), optional
        Pixels whose training scenes may not be seen: there the climatology is zero.

    Returns
    -------
    dict of str to ndarray, shape (scene, row, col)
        m3 m-3.
    """
    scenes = np.asarray(scenes, dtype=np.intp)
    residual = (sequences.fine - sequences.coarse)[split.train]
    count = np.isfinite(residual).sum(0)
    climatology = np.divide(np.nansum(residual, 0), count, out=np.zeros(sequences.shape, "float32"), where=count > 0)
    if exclude is not None:
        climatology = np.where(exclude, 0.0, climatology).astype("float32")
    coarse = sequences.coarse[scenes]
    return {
        "coarse": coarse,
        "bilinear": sequences.interpolated[scenes],
        "last fine + coarse change": coarse + sequences.residuals[scenes - 1],
        "residual climatology": coarse + climatology,
    }


def score_images(
    estimates: dict[str, np.ndarray], observed: np.ndarray, times: np.ndarray, *, where: np.ndarray | None = None,
    min_pixels: int = 100,
) -> pd.DataFrame:  # fmt: skip
    """Score each image of each method over its valid pixels.

    Parameters
    ----------
    estimates : dict of str to ndarray, shape (scene, row, col)
        m3 m-3.
    observed : ndarray, shape (scene, row, col)
        NaN where missing.
    times : ndarray, shape (scene,)
    where : ndarray of bool, shape (row, col), optional
        Pixels that count; default all.
    min_pixels : int
        An image with fewer valid pixels is left out of every method.

    Returns
    -------
    DataFrame
        One row a method and image: ``method``, ``time``, ``n``, ``bias``, ``rmse``, ``ubrmse`` (both m3 m-3) and ``r``
        (over space). ``ubrmse`` is the paper's score, which no level enters; ``bias`` and ``rmse`` need one.

    Raises
    ------
    ParameterError
        If no image has enough valid pixels, or shapes differ.
    """
    valid = np.isfinite(observed)
    if where is not None:
        valid &= where
    counts = valid.sum((1, 2))
    if (counts < min_pixels).all():
        raise ParameterError(
            "score_images", "no image has enough valid pixels", got=counts.tolist(), expected=plain(f">= {min_pixels}")
        )
    rows: list[dict[str, Any]] = []
    for method, images in estimates.items():
        if images.shape != observed.shape:
            raise ParameterError(
                "score_images", f"{method!r} has another shape", got=images.shape, expected=observed.shape
            )
        for scene in np.flatnonzero(counts >= min_pixels):
            at = valid[scene]
            pred, obs = images[scene][at].astype("float64"), observed[scene][at].astype("float64")
            error = pred - obs
            spread = pred.std() * obs.std()
            rows.append(
                {
                    "method": method, "time": times[scene], "n": int(at.sum()), "bias": error.mean(),
                    "rmse": np.sqrt(np.mean(error**2)), "ubrmse": error.std(),
                    "r": np.mean((pred - pred.mean()) * (obs - obs.mean())) / spread if spread > 0 else np.nan,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def summarise_images(scores: pd.DataFrame) -> pd.DataFrame:
    """Average the images of each method: ``n_images``, mean ``ubrmse``, ``rmse``, ``bias`` and ``r``, in the order given."""
    grouped = scores.groupby("method", sort=False)
    table = grouped[["ubrmse", "rmse", "bias", "r"]].mean()
    table.insert(0, "n_images", grouped.size())
    return table.reset_index()
