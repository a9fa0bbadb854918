"""The ablation over sources on real stations: blocks of 3 degrees held out, scores per station, paired intervals.

Every row of a held-out block is predicted by a model that has seen no station of that block. What is scored are the rows that
have every source (`complete_rows`), the same for every set of sources, at stations with at least 13 of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from smnb.contract import ParameterError, plain
from smnb.files import atomic_path
from smnb.metrics import average_interval, compare
from smnb.papers.stations.features import features_of, point_features
from smnb.papers.stations.network import PointTraining, predict_points, train_points
from smnb.sensors import score_sensors, write_predictions
from smnb.training import progress

#: The ablation's rows: name and sources.
SOURCE_SETS: dict[str, tuple[str, ...]] = {
    "S1": ("sentinel1",),
    "S1+S2": ("sentinel1", "sentinel2"),
    "S1+S2+static": ("sentinel1", "sentinel2", "static"),
    "SMAP": ("smap",),
    "SMAP+static": ("smap", "static"),
    "all": ("sentinel1", "sentinel2", "smap", "static"),
}
NETWORK = "network"
#: How a baseline is tried: on the columns of the table as they are, on our features (`point_features`), or on our features to
#: predict the departure from the station's mean, every station weighted the same. The last is what our network learns, so that
#: only the learner differs.
WAYS = ("raw", "features", "centred")
_FOREST: dict[str, Any] = {"n_estimators": 100, "max_features": 0.33, "random_state": 0}
_BOOST: dict[str, Any] = {"learning_rate": 0.05, "max_features": 0.3, "l2_regularization": 5.0, "random_state": 0}
_SVR = ((0.01, "scale"), (0.03, "scale"), (0.1, "scale"), (0.1, 0.003), (0.3, 0.001), (0.3, 0.0005))


def _boosting(trees: int) -> BaseEstimator:
    return HistGradientBoostingRegressor(max_iter=trees, max_leaf_nodes=12, min_samples_leaf=40, **_BOOST)


#: The baselines, given the same inputs as the network: family, settings, constructor.
BASELINES: dict[str, dict[str, Callable[[], BaseEstimator]]] = {
    "ridge": {f"alpha {a:g}": (lambda a=a: Ridge(alpha=a)) for a in (30.0, 300.0, 3000.0)},
    "svr": {f"C {c:g}, gamma {g}": (lambda c=c, g=g: SVR(C=c, gamma=g, epsilon=0.01)) for c, g in _SVR},
    "random_forest": {f"leaf {n}": (lambda n=n: RandomForestRegressor(min_samples_leaf=n, **_FOREST)) for n in (5, 15)},
    "gradient_boosting": {f"{n} trees": (lambda n=n: _boosting(n)) for n in (60, 150, 400)},
}
ALL_BASELINES: tuple[tuple[str, str], ...] = tuple((family, way) for family in BASELINES for way in WAYS)
_RAW = {"sentinel1": ("sigma0_", "incidence_angle"), "sentinel2": ("reflectance_",), "smap": ("smap",)}
_RAW |= {"static": ("field_capacity", "mtpi")}
_KEYS = ["folds", "sources", "model", "way", "setting"]
_COMPARED = ("ubrmse", "pearson_r")
_NEEDED = ("sigma0_VV", "sigma0_VH", "reflectance_B8", "reflectance_B11", "smap", "soil_moisture")
_DEGREES = 3.0


def complete_rows(rows: pd.DataFrame) -> np.ndarray:
    """Rows with VV, VH, B8, B11, SMAP and in-situ soil moisture, bool (row,)."""
    return rows[list(_NEEDED)].notna().all(axis=1).to_numpy()


def _blocks(rows: pd.DataFrame) -> np.ndarray:
    """Label of each row's block. The labels' order settles `GroupKFold`'s ties, and with them the released card's scores."""
    south, west = (np.floor(rows[name].to_numpy("float64") / _DEGREES).astype(int) for name in ("lat", "lon"))
    return np.char.add(np.char.add(south.astype(str), "_"), west.astype(str))


def block_folds(rows: pd.DataFrame, *, k: int = 10) -> list[np.ndarray]:
    """Rows that are held out in each fold, bool (row,), by blocks of 3 degrees: `GroupKFold` over the complete rows.

    Blocks without any are always trained on, as they are never scored. `ParameterError` with fewer blocks than folds.
    """
    blocks, complete = _blocks(rows), np.flatnonzero(complete_rows(rows))
    if (found := np.unique(blocks[complete]).size) < k:
        expected = plain(f"at least {k}")
        raise ParameterError("block_folds", "there are fewer blocks than folds", got=found, expected=expected)
    held_out = GroupKFold(k).split(complete, groups=blocks[complete])
    return [np.isin(blocks, np.unique(blocks[complete[held]])) for _, held in held_out]


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


def cross_validate(
    rows: pd.DataFrame,
    folds: Sequence[np.ndarray],
    *,
    sources: Mapping[str, tuple[str, ...]] = SOURCE_SETS,
    baselines: Iterable[tuple[str, str]] = (),
    training: PointTraining | None = None,
) -> pd.DataFrame:
    """Predict every held-out row with the network (if `training` is given) and the baselines, for each set of sources.

    Baselines are families of `BASELINES` and ways of `WAYS`; every setting is tried. Columns, of the complete rows: the keys,
    ``sensor_id``, ``time``, ``block``, ``observed``, ``predicted``. A centred baseline predicts departures, which is no matter to
    ubRMSE and R.
    """
    jobs = [] if training is None else [(NETWORK, "features", f"{training.members} members")]
    for family, way in baselines:
        if (family, way) not in ALL_BASELINES:
            expected = (list(BASELINES), list(WAYS))
            raise ParameterError("cross_validate", "unknown baseline", got=(family, way), expected=expected)
        jobs += [(family, way, setting) for setting in BASELINES[family]]
    features = point_features(rows)
    target, station = rows["soil_moisture"].to_numpy("float64"), rows["sensor_id"].to_numpy(str)
    base, shown = rows[["sensor_id", "time"]].assign(block=_blocks(rows), observed=target), complete_rows(rows)
    parts = []
    tasks = [(name, chosen, job) for name, chosen in sources.items() for job in jobs]
    for name, chosen, (model, way, setting) in progress(tasks, "ablation on stations"):
        ours = features_of(features, chosen)
        x = raw_inputs(rows, chosen) if way == "raw" else ours.to_numpy()
        predicted = np.full(len(rows), np.nan)
        for number, test in enumerate(folds):
            train = ~test
            if model == NETWORK:
                recipe = replace(training, seed=training.seed + 1000 * number)
                ensemble = train_points(x[train], tuple(ours), target[train], station[train], recipe)
                predicted[test] = predict_points(ensemble, x[test])
            else:
                fitted = fit_baseline(model, setting, x[train], target[train], station[train], centred=way == "centred")
                predicted[test] = fitted.predict(x[test])
        labels = dict(zip(_KEYS, (f"GroupKFold({len(folds)})", name, model, way, setting), strict=True))
        parts.append(base.assign(predicted=predicted, **labels)[shown & np.isfinite(predicted)])
    return pd.concat(parts, ignore_index=True)


def _by(table: pd.DataFrame, keys: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Parts of a table by some of the keys: their values, and the rows."""
    for values, group in table.groupby(keys, sort=False):
        yield dict(zip(keys, values, strict=True)), group


def station_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Scores of each station: ``sensor_id``, ``n``, ``ubrmse``, ``pearson_r``, ``rmse``, ``bias``, ``block``, the keys."""
    options = {"min_obs": 13, "metrics": (*_COMPARED, "rmse", "bias")}
    parts = [score_sensors(group, **options) for _, group in predictions.groupby(_KEYS, sort=False)]
    return pd.concat(parts, ignore_index=True)


def _scored(scores: pd.DataFrame) -> pd.DataFrame:
    """Stations with a score; a model that is constant at one has no R there, which counts as 0."""
    return scores[scores["ubrmse"].notna()].fillna({"pearson_r": 0.0})


def summary(scores: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Means over stations with intervals from drawing the blocks again, one row a model and setting.

    Columns: the keys, ``stations``, and the mean, ``_low`` and ``_high`` of ``ubrmse`` and ``pearson_r``.
    """
    result = []
    for keys, group in _by(_scored(scores), _KEYS):
        row = keys | {"stations": len(group)}
        for metric in _COMPARED:
            found = average_interval(group[metric], clusters=group["block"], seed=seed)
            row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
        result.append(row)
    return pd.DataFrame(result)


def differences(scores: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Paired differences of the network and every baseline at the same stations, blocks drawn again.

    The network is compared with each baseline's every way and setting, so that a family's best is among them. Columns:
    ``folds``, ``sources``, the baseline's ``model``, ``way``, ``setting``, and of ``ubrmse`` and ``pearson_r`` the mean
    difference (network less baseline), ``_low``, ``_high``, and ``better``: whether both intervals exclude zero to our side.
    """
    result = []
    for keys, group in _by(_scored(scores), _KEYS[:2]):
        network = group["model"] == NETWORK
        blocks = group[network].set_index("sensor_id")["block"]
        for others, other in _by(group[~network], _KEYS[2:]):
            row = keys | others
            for metric in _COMPARED:
                found = compare(group[network], other, metric, clusters=blocks, seed=seed).difference
                row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
            result.append(row | {"better": row["ubrmse_high"] < 0.0 and row["pearson_r_low"] > 0.0})
    return pd.DataFrame(result)


def run_ablation(
    rows: pd.DataFrame,
    folder: str | Path,
    *,
    folds: Sequence[np.ndarray] | None = None,
    sources: Mapping[str, tuple[str, ...]] = SOURCE_SETS,
    baselines: Iterable[tuple[str, str]] = ALL_BASELINES,
    training: PointTraining | None = None,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Cross-validate the network and the baselines, score them, and write three tidy tables.

    `rows` are from `from_station_table`. The folder gets ``scores.csv`` (a row a station), ``summary.csv`` (a row a model),
    ``differences.csv`` (network less baseline), and the network's predictions with each set, ``predictions_<set>.parquet``, as
    notebook 09 reads them; the tables are returned too, by name. The defaults are `block_folds`, six sets of sources and four
    families in three ways, which takes more than an hour on one core; one set, ridge and one member take half a minute.
    """
    folder, options = Path(folder), {"sources": sources, "baselines": baselines}
    predictions = cross_validate(rows, folds or block_folds(rows), training=training or PointTraining(), **options)
    for name, table in predictions[predictions["model"] == NETWORK].groupby("sources", sort=False):
        table = table[["sensor_id", "time", "observed", "predicted", "block"]].copy()
        table[["network", "station"]] = table["sensor_id"].str.split("__", n=1, expand=True).to_numpy()
        table.attrs.update(model=f"point network, {name}", synthetic=bool(rows.attrs.get("synthetic", False)))
        write_predictions(table, folder / f"predictions_{str(name).lower().replace('+', '_')}.parquet")
    scores = station_scores(predictions)
    tables = {"scores": scores, "summary": summary(scores, seed=seed), "differences": differences(scores, seed=seed)}
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    return tables
