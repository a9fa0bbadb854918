"""The experiment of one fold: fit the CNN, the SVR and the baselines on the same patches, predict, score.

The notebooks call these functions; each is one step that a reader may want to look at, so they are separate.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from smnb import metrics
from smnb.models.baselines import fit_ridge, pixel_climatology, seasonal_climatology
from smnb.models.svr import TorchSVR, fit_svr, flatten_patches
from smnb.papers.hu2018_amsre.batches import PatchDataset
from smnb.papers.hu2018_amsre.patch_tasks import Fold, PatchTask
from smnb.papers.hu2018_amsre.patches import PatchIndex, PatchStore
from smnb.papers.hu2018_amsre.prediction import predict_patches
from smnb.training import MinMaxScaler, Samples, Trained, TrainingConfig, train
from smnb.training.losses import euclidean_loss


@dataclass
class FoldData:
    """A fold ready for training: padded images, scalers, scaled targets."""

    task: PatchTask
    fold: Fold
    store: PatchStore
    target_scaler: MinMaxScaler
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    """Test predictions by model, m3 m-3."""

    def scaled_target(self, index: PatchIndex) -> np.ndarray:
        """Target of patches, scaled to [0, 1] by the training data."""
        return self.target_scaler.transform(index.take(self.task.target)[:, None])[:, 0]

    def unscale(self, scaled: np.ndarray) -> np.ndarray:
        """Scaled prediction to m3 m-3."""
        return self.target_scaler.inverse(np.asarray(scaled)[:, None])[:, 0]

    def unscale_map(self, scaled: np.ndarray) -> np.ndarray:
        """Scaled ``(row, col)`` prediction to m3 m-3; NaN stays."""
        return self.target_scaler.inverse(np.asarray(scaled)[..., None])[..., 0]

    @property
    def observed(self) -> np.ndarray:
        """Target of the test patches, m3 m-3."""
        return self.fold.test.take(self.task.target)

    @property
    def target_range(self) -> float:
        """Width of the target's scaling, m3 m-3: a scaled RMSE times this is an RMSE in m3 m-3."""
        return self.target_scaler.maximum[0] - self.target_scaler.minimum[0]


def fold_data(task: PatchTask, fold: Fold, *, device: str | torch.device = "cpu") -> FoldData:
    """Scale, fill and pad a task's images with the statistics of the fold's training images."""
    inputs, target = task.scalers(fold)
    return FoldData(task, fold, task.store(inputs, device=device), target)


def fold_samples(data: FoldData) -> Samples:
    """What a network of patches is trained on, as `smnb.training.train` takes it."""
    task, fold = data.task, data.fold
    train, validation = (
        PatchDataset(data.store, part, data.scaled_target(part)) for part in (fold.train, fold.validation)
    )
    parts = [[index.image, index.row, index.col, index.take(task.target)] for index in (fold.train, fold.validation)]
    return Samples(
        train,
        validation,
        channels=task.channels,
        input_scaler=data.store.scaler,
        target_scaler=data.target_scaler,
        sizes={"in_channels": len(task.channels), "patch_size": task.patch_size},
        identity={"data": [task.title, fold.name, data.store.scaler, data.target_scaler, *parts]},
        card={"data": task.title, "synthetic": task.synthetic, "fold": fold.name},
    )


def train_cnn(
    data: FoldData, config: TrainingConfig, out: str | Path, *, name: str = "amsre_cnn", progress: bool = False
) -> tuple[Trained, Trained]:
    """Train the patch CNN on a fold, save it as ``out/model.safetensors`` and predict the fold's test patches.

    Parameters
    ----------
    data : FoldData
        Its ``predictions["CNN"]`` is set.
    config : TrainingConfig
    out : path-like
        Folder for the training state and the model. A killed training goes on from there.
    name : str
        A patch network of `smnb.models.MODELS`.

    Returns
    -------
    Trained, Trained
    """
    samples = fold_samples(data)
    trained = train(name, samples, loss=euclidean_loss, config=config, out=out, progress=progress)
    test = PatchDataset(data.store, data.fold.test, data.scaled_target(data.fold.test))
    data.predictions["CNN"] = trained.predict(test, device=config.device)
    return trained, trained


@dataclass(frozen=True)
class TrainedSVR:
    """A support vector regression and what it took."""

    torch_svr: TorchSVR
    search: pd.DataFrame
    best: dict[str, float]
    n_train: int
    fit_seconds: float
    largest_difference: float
    """Of torch from scikit-learn over a sample of the test patches; scaled units."""


def train_svr(data: FoldData, *, n_samples: int, n_search: int = 2000, seed: int = 0, n_check: int = 500) -> TrainedSVR:
    """Fit the SVR on a sample of the CNN's training patches and predict the fold's test patches.

    Parameters
    ----------
    data : FoldData
        Its ``predictions["SVR"]`` is set.
    n_samples : int
        Training patches; libsvm's cost grows with their square.
    n_search : int
        Samples of the search for C and epsilon.
    seed : int
    n_check : int
        Test patches on which torch's prediction is compared with scikit-learn's.
    """
    index = _sample(data.fold.train, n_samples, seed)
    features = flatten_patches(data.store.gather(index)).cpu().numpy()
    start = time.perf_counter()
    found = fit_svr(features, data.scaled_target(index), n_search=n_search, seed=seed)
    seconds = time.perf_counter() - start
    torch_svr = TorchSVR.from_sklearn(found.svr)
    scaled = predict_patches(torch_svr, data.store, data.fold.test, batch_size=4096)
    check = data.fold.test[:n_check]
    reference = found.svr.predict(flatten_patches(data.store.gather(check)).cpu().numpy())
    data.predictions["SVR"] = data.unscale(scaled)
    return TrainedSVR(
        torch_svr,
        pd.DataFrame(found.table),
        found.best,
        len(index),
        seconds,
        float(np.abs(reference - scaled[: len(check)]).max()),
    )


def _sample(index: PatchIndex, n: int, seed: int) -> PatchIndex:
    return index[np.sort(np.random.default_rng([seed, 7]).permutation(len(index))[:n])]


def baseline_predictions(data: FoldData, *, n_samples: int = 20_000, seed: int = 0) -> None:
    """Add the baselines' test predictions to ``data.predictions``.

    Always ``ridge`` (the same patches, linear). Then, for a task of one place over days, ``pixel mean`` (the mean of the
    training days at each pixel: no satellite at all). For a task of regions, ``season mean`` (the other regions' mean of
    the season) and ``region × season mean``, which looks up the left-out region's own past and so is not available where
    there is no past: it is shown because it is hard to beat.
    """
    task, fold = data.task, data.fold
    index = _sample(fold.train, n_samples, seed)
    ridge = fit_ridge(flatten_patches(data.store.gather(index)).cpu().numpy(), data.scaled_target(index))
    parts = [
        ridge.predict(flatten_patches(data.store.gather(fold.test[low : low + 8192])).cpu().numpy())
        for low in range(0, len(fold.test), 8192)
    ]
    data.predictions["ridge"] = data.unscale(np.concatenate(parts))
    if "region" not in task.labels:
        place = (fold.test.image, fold.test.row, fold.test.col)
        data.predictions["pixel mean"] = pixel_climatology(task.target, fold.fit_images, place)
        return
    data.predictions["season mean"] = seasonal_climatology(
        task.target, task.labels, fold.fit_images, fold.test.image, by=("season",)
    )
    region = task.labels["region"].to_numpy()
    years = task.labels["time"].dt.year.to_numpy()
    own_past = np.flatnonzero((region == region[fold.test.image[0]]) & (years < years[fold.test.image].min()))
    data.predictions["region × season mean"] = seasonal_climatology(
        task.target, task.labels, own_past, fold.test.image, by=("region", "season")
    )


def score_fold(data: FoldData, observed: np.ndarray | None = None) -> pd.DataFrame:
    """Score every model's test predictions.

    Parameters
    ----------
    data : FoldData
    observed : ndarray, shape (patch,), optional
        What to score against, m3 m-3; default the target. The sandbox's hidden truth can be passed.

    Returns
    -------
    DataFrame
        One row a model: ``r2`` (coefficient of determination), ``r`` (Pearson), ``rmse_scaled`` (on [0, 1] targets, as the
        paper's is read), ``rmse``, ``ubrmse`` and ``bias`` in m3 m-3, and ``n``.
    """
    observed = data.observed if observed is None else observed
    rows = {m: score_predictions(predicted, observed, data.target_range) for m, predicted in data.predictions.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def score_predictions(predicted: np.ndarray, observed: np.ndarray, target_range: float) -> dict[str, float]:
    """Pooled scores of one model: the columns of `score_fold`."""
    rmse = float(metrics.rmse(predicted, observed))
    return {
        "r2": float(metrics.r2(predicted, observed)),
        "r": float(metrics.pearson_r(predicted, observed)),
        "rmse_scaled": rmse / target_range,
        "rmse": rmse,
        "ubrmse": float(metrics.ubrmse(predicted, observed)),
        "bias": float(metrics.bias(predicted, observed)),
        "n": int(np.isfinite(predicted + observed).sum()),
    }


def pool_folds(folds: list[FoldData], model: str | None = None) -> np.ndarray:
    """Join the folds' test predictions of a model, or with None their targets, in the folds' order; m3 m-3."""
    return np.concatenate([d.observed if model is None else d.predictions[model] for d in folds])


def score_folds(folds: list[FoldData], truth: np.ndarray | None = None) -> pd.DataFrame:
    """Score every model over all folds together.

    Parameters
    ----------
    folds : list of FoldData
        With predictions of the same models.
    truth : ndarray, shape (image, row, col), optional
        Another reference than the target, such as the sandbox's hidden truth.

    Returns
    -------
    DataFrame
        As `score_fold`. With several folds the target range of the scaled RMSE is their mean.
    """
    observed = pool_folds(folds) if truth is None else np.concatenate([d.fold.test.take(truth) for d in folds])
    span = float(np.mean([d.target_range for d in folds]))
    rows = {m: score_predictions(pool_folds(folds, m), observed, span) for m in folds[0].predictions}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def region_series(task: PatchTask) -> pd.DataFrame:
    """Mean target of each region by time: a ``time`` column and one a region, m3 m-3."""
    means = np.nanmean(task.target.reshape(len(task.target), -1), axis=1)
    table = task.labels[["time", "region"]].assign(mean=means).pivot(index="time", columns="region", values="mean")
    return table.rename(columns=str).rename_axis(columns=None).reset_index()


def fold_series(data: FoldData, *, models: tuple[str, ...]) -> pd.DataFrame:
    """Mean target and predictions over the test pixels of each image: ``time``, the target's name, and one a model."""
    frame = pd.DataFrame({data.task.reference: data.observed, **{m: data.predictions[m] for m in models}})
    frame["time"] = data.task.labels["time"].to_numpy()[data.fold.test.image]
    return frame.groupby("time").mean().reset_index()


def describe_training(result: Trained) -> dict[str, Any]:
    """Facts of a training for the run record."""
    return {
        "epochs_run": len(result.history),
        "best_epoch": result.best_epoch,
        "best_validation_loss": float(result.history["validation_loss"].min()),
        "patches_per_second": result.samples_per_second,
        "data_wait_fraction": result.data_wait_fraction,
    }
