"""The usual scores of one set of pairs at once, as of the valid pixels of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from smnb.contract import ContractError
from smnb.metrics.scores import PairMoments, pearson_from, rmse_from


def pair_scores(pred: ArrayLike, obs: ArrayLike) -> dict[str, float]:
    """Score pairs: how many, bias, RMSE, ubRMSE and Pearson's correlation.

    Parameters
    ----------
    pred, obs : array-like of float, one shape
        All pairs count: choose the valid ones beforehand. With a NaN among them all scores are NaN, so that no two methods
        are ever scored on different pixels unnoticed.

    Returns
    -------
    dict of str to float
        ``n``, ``bias``, ``rmse`` and ``ubrmse`` in the values' units, and ``r``, NaN where a side is constant. All scores of
        no pairs are NaN.

    Raises
    ------
    ContractError
        If shapes differ.

    Examples
    --------
    >>> {name: round(value, 3) for name, value in pair_scores([0.2, 0.3, 0.4], [0.1, 0.2, 0.4]).items()}
    {'n': 3, 'bias': 0.067, 'rmse': 0.082, 'ubrmse': 0.047, 'r': 0.982}
    """
    x, y = np.asarray(pred, dtype="float64"), np.asarray(obs, dtype="float64")
    if x.shape != y.shape:
        raise ContractError(
            "pair_scores", "predictions and observations differ in shape", got=x.shape, expected=y.shape
        )
    if not x.size:
        return {"n": 0} | dict.fromkeys(("bias", "rmse", "ubrmse", "r"), np.nan)
    m = PairMoments(x.ravel(), y.ravel(), np.ones(x.size, dtype=bool))
    with np.errstate(invalid="ignore", divide="ignore"):  # a constant side has no correlation
        r = float(pearson_from(m))
    return {"n": x.size, "bias": float(m.bias), "rmse": float(rmse_from(m)), "ubrmse": float(np.sqrt(m.dd)), "r": r}
