"""What a network has to beat: a linear model on the same patches, and climatologies that see no satellite at all."""

from __future__ import annotations

import numpy as np
import pandas as pd

from smnb.contract import ContractError, plain


def fit_ridge(features: np.ndarray, target: np.ndarray, *, alphas: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0, 1000.0)):
    """Fit a ridge regression whose penalty comes from efficient leave-one-out on the training data.

    Parameters
    ----------
    features : ndarray, shape (sample, feature)
        Scaled.
    target : ndarray, shape (sample,)

    Returns
    -------
    sklearn.linear_model.RidgeCV
    """
    from sklearn.linear_model import RidgeCV

    if features.ndim != 2 or features.shape[0] != target.size or target.size < 2:
        raise ContractError(
            "fit_ridge", "training samples", got=(features.shape, target.shape), expected=plain("(n, f) and (n,)")
        )
    return RidgeCV(alphas=list(alphas)).fit(features, target)


def pixel_climatology(target: np.ndarray, train_images: np.ndarray, index: tuple[np.ndarray, ...]) -> np.ndarray:
    """Mean of each pixel's target over the training images; where a pixel has none, the mean of all.

    Parameters
    ----------
    target : ndarray, shape (image, row, col)
    train_images : ndarray of int
    index : (image, row, col)
        Patches to predict.

    Returns
    -------
    ndarray, shape (patch,)
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
    """Mean target of the training images with the same labels (season, or region and season).

    Parameters
    ----------
    target : ndarray, shape (image, row, col)
    labels : DataFrame
        One row an image.
    train_images, test_images : ndarray of int
        `test_images` may repeat numbers: one entry a patch.
    by : tuple of str
        Columns of `labels`.

    Returns
    -------
    ndarray, shape (len(test_images),)
        The mean of all training images where a combination was never seen.
    """
    flat = target[train_images].reshape(len(train_images), -1)
    frame = labels.iloc[train_images][list(by)].copy()
    frame["total"], frame["count"] = np.nansum(flat, axis=1, dtype="float64"), np.isfinite(flat).sum(axis=1)
    sums = frame.groupby(list(by))[["total", "count"]].sum()
    means = (sums["total"] / sums["count"]).rename("mean").reset_index()
    wanted = labels.iloc[test_images][list(by)].merge(means, on=list(by), how="left")["mean"]
    return wanted.fillna(frame["total"].sum() / frame["count"].sum()).to_numpy()
