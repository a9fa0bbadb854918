"""Steps of a downscaling experiment: train SMEN, bring the level back, baselines, and scores an image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from smnb.contract import ContractError, ParameterError, plain
from smnb.metrics import interval, pair_scores
from smnb.models import build_model
from smnb.papers.smen.sequences import ImageSequences, SequenceDataset, SequenceScaler, SequenceSplit
from smnb.training import FitResult, TrainingConfig, choose_device, fit, state_folder
from smnb.training.checkpoints import LoadedModel, load_model, save_model
from smnb.training.losses import unbiased_rmse_loss

SMEN_CHANNELS = ("coarse", "residual")

#: What a downscaling network has to beat.
BASELINES = {
    "coarse": "coarse soil moisture as it is",
    "bilinear": "coarse soil moisture, bilinear between cell centres",
    "last fine + coarse change": "the last fine image (gaps carried forward) shifted by the change of the coarse one",
    "residual climatology": "coarse soil moisture plus the mean residual of the training scenes",
}


def train_smen(
    sequences: ImageSequences,
    split: SequenceSplit,
    config: TrainingConfig,
    out: str | Path,
    *,
    inputs: str = "spatiotemporal",
    exclude: np.ndarray | None = None,
    progress: bool = False,
) -> tuple[LoadedModel, FitResult]:
    """Train SMEN on a region's training scenes and save it as ``out/model.safetensors``.

    Parameters
    ----------
    sequences : ImageSequences
    split : SequenceSplit
        Its validation scenes choose the best epoch; where there are none, the last epoch's weights are kept, as the
        paper does, and ``validation_loss`` in the history is the loss of the first four training scenes in evaluation mode.
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
    scaler = SequenceScaler.fit(sequences, split.train, exclude=exclude)
    torch.manual_seed(config.seed)
    model = build_model("smen", {"inputs": inputs, "history": sequences.history})
    chooses = split.validation.size > 0
    train = SequenceDataset(sequences, split.train, scaler, exclude=exclude)
    validation = SequenceDataset(sequences, split.validation if chooses else split.train[:4], scaler, exclude=exclude)
    fingerprint = _fingerprint(sequences, split, inputs, exclude)
    result = fit(
        model,
        train,
        validation,
        config=config,
        out=state_folder(out, config, fingerprint),
        loss=unbiased_rmse_loss,
        progress=progress,
        fingerprint=fingerprint,
        keep="best" if chooses else "last",
    )
    history = result.history.assign(
        **{name: result.history[name] * scaler.target.maximum[0] for name in ("train_loss", "validation_loss")}
    )
    result = replace(result, history=history)
    card = {
        "data": sequences.title,
        "synthetic": sequences.synthetic,
        "seed": config.seed,
        "epochs": len(history),
        "train": [str(sequences.time[split.train[0]])[:10], str(sequences.time[split.train[-1]])[:10]],
        "n_train": int(split.train.size),
        "n_validation": int(split.validation.size),
        "best_epoch": result.best_epoch,
    }
    path = save_model(
        out / "model",
        model,
        name="smen",
        input_scaler=scaler.inputs,
        target_scaler=scaler.target,
        channels=SMEN_CHANNELS,
        training=card,
    )
    return load_model(path, channels=SMEN_CHANNELS), result


@dataclass(frozen=True)
class Downscaled:
    """What one training and its scoring gave."""

    sequences: ImageSequences
    split: SequenceSplit
    loaded: LoadedModel
    fit: FitResult
    estimates: dict[str, np.ndarray]
    """Test scenes by method, with a level, m3 m-3: ``SMEN`` and each of `BASELINES`."""
    scores: pd.DataFrame
    """`score_images` of every method, with ``part`` (train, test), ``reference`` (product, truth) and ``region``."""

    def mean(self, part: str, method: str = "SMEN", *, reference: str = "product", score: str = "ubrmse") -> float:
        """Mean of a score over the images of a part, NaN where there is none."""
        table = self.scores
        return float(
            table.loc[(table.part == part) & (table.method == method) & (table.reference == reference), score].mean()
        )

    def clearest(self) -> int:
        """Position among the test scenes of the one with most valid pixels."""
        return int(np.isfinite(self.sequences.fine[self.split.test]).sum((1, 2)).argmax())


def run_smen(
    sequences: ImageSequences,
    split: SequenceSplit,
    config: TrainingConfig,
    out: str | Path,
    *,
    inputs: str = "spatiotemporal",
    exclude: np.ndarray | None = None,
) -> Downscaled:
    """Train SMEN, estimate the test scenes by it and by each baseline, and score all.

    Parameters
    ----------
    sequences, split, config, out, inputs, exclude
        As `train_smen`.

    Returns
    -------
    Downscaled
        Where pixels are excluded from training, test scores are apart for the cells that training saw and for those that
        it did not, as two regions. ``SMEN without level`` in the scores is the network's own output, whose bias and RMSE
        mean nothing: the difference to ``SMEN`` is what the coarse mean adds.
    """
    loaded, result = train_smen(sequences, split, config, out, inputs=inputs, exclude=exclude)
    device = choose_device(config.device)
    bare = {part: predict_smen(loaded, sequences, getattr(split, part), device=device) for part in ("train", "test")}
    estimates = {
        "SMEN": add_level(bare["test"], sequences.coarse[split.test]),
        **downscale_baselines(sequences, split, split.test, exclude=exclude),
    }
    trained = {
        "SMEN": add_level(bare["train"], sequences.coarse[split.train]),
        **downscale_baselines(sequences, split, split.train, exclude=exclude),
    }
    cells = {"": None} if exclude is None else {", cells seen": ~exclude, ", cells held out": exclude}
    parts = [("train", "product", trained, split.train, sequences.fine, next(iter(cells.items())))]
    for one in cells.items():
        methods = {"SMEN without level": bare["test"], **estimates}
        parts.append(("test", "product", methods, split.test, sequences.fine, one))
        if sequences.truth is not None:
            # where the product has no value the truth still has one: completing the region is what the network is for
            parts.append(("test", "truth", estimates, split.test, sequences.truth, one))
    tables = [
        score_images(methods, observed[scenes], sequences.time[scenes], where=pixels).assign(
            part=part, reference=reference, region=sequences.title + name
        )
        for part, reference, methods, scenes, observed, (name, pixels) in parts
    ]
    return Downscaled(sequences, split, loaded, result, estimates, pd.concat(tables, ignore_index=True))


def paired_gains(scores: pd.DataFrame, *, seed: int = 0, n_boot: int = 1000) -> pd.DataFrame:
    """Compare SMEN with each baseline image by image: the mean difference of ubRMSE and its interval.

    Parameters
    ----------
    scores : DataFrame
        Test rows of `Downscaled.scores` of one reference, with ``region``.
    seed, n_boot : int
        Of the moving-block bootstrap over scenes in order of time (`smnb.metrics.interval`).

    Returns
    -------
    DataFrame
        ``region``, ``baseline``, ``difference`` (negative: SMEN is better), ``lower``, ``upper`` (95 %), ``n_images``,
        ``note``. With fewer than ten images there is no interval worth the name, and it is NaN.
    """
    rows = []
    for region, table in scores.groupby("region", sort=False):
        wide = table.pivot(index="time", columns="method", values="ubrmse").sort_index()
        for baseline in (name for name in BASELINES if name in wide):
            found = interval(wide["SMEN"], wide[baseline], "bias", seed=seed, n_boot=n_boot)
            rows.append(
                {
                    "region": region,
                    "baseline": baseline,
                    "difference": float((wide["SMEN"] - wide[baseline]).mean()),
                    "lower": found.low,
                    "upper": found.high,
                    "n_images": len(wide),
                    "note": found.note,
                }
            )
    return pd.DataFrame(rows)


def describe(result: Downscaled) -> dict[str, Any]:
    """Facts of a training for a run's record: throughput, waiting, epochs, losses in m3 m-3."""
    fit_ = result.fit
    return {
        "epochs": len(fit_.history),
        "train_scenes": int(result.split.train.size),
        "images_per_second": fit_.samples_per_second,
        "data_wait_fraction": fit_.data_wait_fraction,
        "first_train_loss": float(fit_.history["train_loss"].iloc[0]),
        "last_train_loss": float(fit_.history["train_loss"].iloc[-1]),
    }


def image_field(sequences: ImageSequences, image: np.ndarray, *, regular: bool = False) -> xr.DataArray:
    """Make one image a map ``(lat, lon)`` in m3 m-3, as the figures take it.

    Parameters
    ----------
    sequences : ImageSequences
    image : ndarray, shape (row, col)
    regular : bool
        Resample by nearest neighbour to even steps of latitude, as interactive images need; rows of EASE-Grid 2.0 are as
        high as their latitude asks for.
    """
    lat, lon = (np.asarray(sequences.coords[name].values) for name in ("lat", "lon"))
    field = xr.DataArray(
        image[::-1], {"lat": lat[::-1], "lon": lon}, ("lat", "lon"), "soil_moisture", {"units": "m3 m-3"}
    )
    return (
        field.sel(lat=np.linspace(lat.min(), lat.max(), lat.size), method="nearest").assign_coords(
            lat=np.linspace(lat.min(), lat.max(), lat.size)
        )
        if regular
        else field
    )


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
            "predict_smen",
            "the network takes another history",
            got=sequences.history,
            expected=loaded.card["config"]["history"],
            next_step="Make the ImageSequences with that history",
        )
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
    estimates: dict[str, np.ndarray],
    observed: np.ndarray,
    times: np.ndarray,
    *,
    where: np.ndarray | None = None,
    min_pixels: int = 100,
) -> pd.DataFrame:
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
            found = pair_scores(images[scene][at], observed[scene][at])
            rows.append({"method": method, "time": times[scene], **found})
    return pd.DataFrame(rows)


def summarise_images(scores: pd.DataFrame) -> pd.DataFrame:
    """Average the images of each method: ``n_images``, mean ``ubrmse``, ``rmse``, ``bias`` and ``r``, in the order given."""
    grouped = scores.groupby("method", sort=False)
    table = grouped[["ubrmse", "rmse", "bias", "r"]].mean()
    table.insert(0, "n_images", grouped.size())
    return table.reset_index()
