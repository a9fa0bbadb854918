"""The four baselines of the ablation, given the same inputs: ridge, support vectors, random forest, gradient boosting.

Each is tried in three ways, and each way with the settings of `BASELINES`:

- ``raw``: the columns of the table as they are, to predict soil moisture;
- ``features``: our features (`point_features`), to predict soil moisture;
- ``centred``: our features, to predict the departure from the station's mean, every station weighted the same. This is what
  our network learns, so that only the learner differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

WAYS = ("raw", "features", "centred")
_FOREST: dict[str, Any] = {"n_estimators": 100, "max_features": 0.33, "random_state": 0}
_BOOST: dict[str, Any] = {"learning_rate": 0.05, "max_features": 0.3, "l2_regularization": 5.0, "random_state": 0}
#: Family: {settings: constructor}.
BASELINES: dict[str, dict[str, Callable[[], BaseEstimator]]] = {
    "ridge": {f"alpha {a:g}": (lambda a=a: Ridge(alpha=a)) for a in (30.0, 300.0, 3000.0)},
    "svr": {
        f"C {c:g}, gamma {g}": (lambda c=c, g=g: SVR(C=c, gamma=g, epsilon=0.01))
        for c, g in ((0.01, "scale"), (0.03, "scale"), (0.1, "scale"), (0.1, 0.003), (0.3, 0.001), (0.3, 0.0005))
    },
    "random_forest": {f"leaf {n}": (lambda n=n: RandomForestRegressor(min_samples_leaf=n, **_FOREST)) for n in (5, 15)},
    "gradient_boosting": {
        f"{n} trees": (
            lambda n=n: HistGradientBoostingRegressor(max_iter=n, max_leaf_nodes=12, min_samples_leaf=40, **_BOOST)
        )
        for n in (60, 150, 400)
    },
}
_RAW = {
    "sentinel1": ("sigma0_", "incidence_angle"),
    "sentinel2": ("reflectance_",),
    "smap": ("smap",),
    "static": ("field_capacity", "mtpi"),
}


def raw_inputs(rows: pd.DataFrame, sources: tuple[str, ...]) -> np.ndarray:
    """Columns of some sources as they are (land cover as one column a code), float64 (row, column); missing is NaN."""
    prefixes = tuple(prefix for source in sources for prefix in _RAW[source])
    columns = [rows[name].to_numpy("float64", na_value=np.nan) for name in rows.columns if name.startswith(prefixes)]
    if "static" in sources:
        codes = rows["nlcd"].to_numpy("float64", na_value=np.nan)
        columns += [(codes == code).astype(float) for code in np.unique(codes[np.isfinite(codes)])]
    return np.stack(columns, axis=1)


def fit_baseline(
    family: str, setting: str, inputs: np.ndarray, target: np.ndarray, station: np.ndarray, *, centred: bool
) -> Pipeline:
    """Fit a baseline of `BASELINES` to the rows that have a target (m3 m-3); missing inputs become the mean.

    `centred` takes each station's mean from the target, and weights every station the same.
    """
    there = np.isfinite(target)
    x, y, codes = inputs[there], target[there], np.unique(station[there], return_inverse=True)[1]
    model = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), BASELINES[family][setting]())
    weights = np.ones(y.size)
    if centred:
        count = np.bincount(codes)
        y = y - (np.bincount(codes, weights=y) / count)[codes]
        weights = (y.size / count.size) / count[codes]
    return model.fit(x, y, **{f"{model.steps[-1][0]}__sample_weight": weights})
