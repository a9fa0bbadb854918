"""What a network has to beat: a linear model on the same patches, and climatologies that see no satellite at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from smnb.contract import ContractError, check_choice, plain
from smnb.progress import progress

#: The rows that every training notebook prints beside its network.
REFERENCES = ("climatology", "ridge", "SVR", "gradient boosting")
ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # penalties of the ridge that are tried


def pixel_climatology(target: np.ndarray, train_images: np.ndarray, index: tuple[np.ndarray, ...]) -> np.ndarray:
    """Mean of each pixel's target over the training images; where a pixel has none, the mean of all.

    `target` is ``(image, row, col)``, `index` the image, row and column of each patch to predict.
    """
    past = target[train_images]
    valid = np.isfinite(past)
    count = valid.sum(axis=0)
    total = np.where(valid, past, 0.0).sum(axis=0, dtype="float64")
    if not count.any():
        raise ContractError("pixel_climatology", "no training value", got=0, expected=plain("at least one"))
    mean = np.where(count > 0, total / np.maximum(count, 1), total.sum() / count.sum())
    return mean[index[1], index[2]]


def seasonal_climatology(
    target: np.ndarray, labels: pd.DataFrame, train_images: np.ndarray, test_images: np.ndarray, *, by: tuple[str, ...]
) -> np.ndarray:
    """Mean target of the training images with the same labels (season, or region and season), else of all.

    `target` is ``(image, row, col)``, `labels` has one row an image; `test_images` may repeat numbers: one entry a patch.
    """
    flat = target[train_images].reshape(len(train_images), -1)
    frame = labels.iloc[train_images][list(by)].copy()
    frame["total"], frame["count"] = np.nansum(flat, axis=1, dtype="float64"), np.isfinite(flat).sum(axis=1)
    sums = frame.groupby(list(by))[["total", "count"]].sum()
    means = (sums["total"] / sums["count"]).rename("mean").reset_index()
    wanted = labels.iloc[test_images][list(by)].merge(means, on=list(by), how="left")["mean"]
    return wanted.fillna(frame["total"].sum() / frame["count"].sum()).to_numpy()


def reference_predictions(
    features: np.ndarray,
    target: np.ndarray,
    new_features: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    climatology: np.ndarray | None = None,
    rows: Sequence[str] = REFERENCES,
    n_samples: int = 20_000,
    n_boosting: int = 10_000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Predict by what a network has to beat: nothing seen, a linear model, a support vector regression, boosted trees.

    Everything is chosen inside the training data: the penalty of the ridge by leave-one-out, C and epsilon of the SVR on a fifth
    of it, size, rate and number of the trees on whole groups that are held out.

    Parameters
    ----------
    features, new_features : ndarray, shape (sample, feature), (new, feature)
        In any units; missing is NaN (for the ridge and the SVR the training mean).
    target : ndarray, shape (sample,)
        Soil moisture, m3 m-3.
    groups : ndarray, shape (sample,), optional
        Sensor, station or day of each training sample: what must not be on both sides of the inner split. Default each
        sample by itself.
    climatology : ndarray, shape (new,), optional
        What is predicted without seeing anything, such as a pixel's or a season's mean; default the training mean.
    rows : sequence of str
        Of `REFERENCES`.
    n_samples, n_boosting : int
        Training samples of the ridge and the trees, drawn at random; the SVR, whose cost grows with their square, gets 2,000.

    Returns
    -------
    dict of str to ndarray, shape (new,)
        By row, m3 m-3.
    """
    who = "reference_predictions"
    check_choice(who, "rows", list(rows), REFERENCES)
    target = np.asarray(target, dtype="float64")
    if features.ndim != 2 or len(features) != target.size or features.shape[1:] != new_features.shape[1:]:
        got = features.shape, target.shape, new_features.shape
        raise ContractError(who, "shapes do not fit", got=got, expected=plain("(n, f), (n,), (m, f)"))
    groups = np.arange(target.size) if groups is None else np.unique(groups, return_inverse=True)[1]
    order = np.random.default_rng([seed, 7]).permutation(np.flatnonzero(np.isfinite(target)))
    drawn, some, few = (np.sort(order[:n]) for n in (n_samples, n_boosting, 2_000))
    there = np.isfinite(features)
    mean = np.where(there, features, 0.0).sum(0) / np.maximum(there.sum(0), 1)
    spread = np.sqrt((np.where(there, features - mean, 0.0) ** 2).sum(0) / np.maximum(there.sum(0), 1))

    def standard(values: np.ndarray) -> np.ndarray:
        return np.nan_to_num((values - mean) / np.where(spread > 0, spread, 1.0), nan=0.0).astype("float32")

    def in_parts(predict: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        parts = [predict(standard(new_features[low : low + 8192])) for low in range(0, len(new_features), 8192)]
        return np.concatenate(parts) if parts else np.empty(0)

    def ridge() -> np.ndarray:
        from sklearn.linear_model import RidgeCV

        # the penalty by efficient leave-one-out
        return in_parts(RidgeCV(alphas=list(ALPHAS)).fit(standard(features[drawn]), target[drawn]).predict)

    def svr() -> np.ndarray:
        low, span = target[few].min(), max(float(np.ptp(target[few])), 1e-6)
        import torch

        from smnb.models.amsre_cnn import TorchSVR, fit_svr

        machine = TorchSVR(fit_svr(standard(features[few]), (target[few] - low) / span, seed=seed)[0])
        return low + span * in_parts(lambda x: machine(torch.from_numpy(x)).numpy())

    def boosting() -> np.ndarray:
        return fit_boosting(features[some], target[some], groups[some], seed=seed).predict(new_features)

    def nothing() -> np.ndarray:
        return np.full(len(new_features), target[order].mean()) if climatology is None else np.asarray(climatology)

    made = dict(zip(REFERENCES, (nothing, ridge, svr, boosting), strict=True))
    return {name: made[name]() for name in rows}


def fit_boosting(features: np.ndarray, target: np.ndarray, groups: np.ndarray, *, seed: int = 0):
    """Fit gradient-boosted trees whose size, rate and number (to 200) do best on a third of the groups, held out.

    A missing feature is NaN. Returns a `sklearn.ensemble.HistGradientBoostingRegressor` fitted on all samples.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    names = np.unique(groups)
    if names.size < 2:
        raise ContractError("fit_boosting", "groups to hold some out", got=names.size, expected=plain("2 or more"))
    held = np.isin(groups, np.random.default_rng([seed, 11]).permutation(names)[: max(1, names.size // 3)])
    best, least = {}, np.inf
    fixed = {"min_samples_leaf": 10, "early_stopping": False, "random_state": seed}
    grid = [(leaves, rate) for leaves in (7, 31) for rate in (0.05, 0.15)]
    for leaves, rate in progress(grid, "gradient boosting"):
        options = fixed | {"max_leaf_nodes": leaves, "learning_rate": rate}
        tried = HistGradientBoostingRegressor(max_iter=200, **options).fit(features[~held], target[~held])
        found = [float(np.mean((p - target[held]) ** 2)) for p in tried.staged_predict(features[held])]
        if min(found) < least:
            best, least = options | {"max_iter": int(np.argmin(found)) + 1}, min(found)
    return HistGradientBoostingRegressor(**best).fit(features, target)
