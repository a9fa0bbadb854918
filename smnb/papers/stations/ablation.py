"""The ablation over sources on real stations: blocks of 3 degrees held out, scores per station, paired intervals.

Every row of a held-out block is predicted by a model that has seen no station of that block. What is scored are the rows that
have every source (``complete_rows``), the same for every set of sources, at stations with at least 13 of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from smnb.contract import ParameterError, plain
from smnb.files import atomic_path
from smnb.metrics import average_interval, compare, score_table
from smnb.papers.stations.baselines import BASELINES, WAYS, fit_baseline, raw_inputs
from smnb.papers.stations.features import FeatureConfig, point_features
from smnb.papers.stations.training import PointTraining, predict_points, train_points
from smnb.sensors import folds as split_folds
from smnb.sensors import write_predictions

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
#: Every family in every way.
ALL_BASELINES: tuple[tuple[str, str], ...] = tuple((family, way) for family in BASELINES for way in WAYS)
_METRICS = ("ubrmse", "pearson_r", "rmse", "bias")
_NEEDED = ("sigma0_VV", "sigma0_VH", "reflectance_B8", "reflectance_B11", "smap", "soil_moisture")


@dataclass(frozen=True)
class Folds:
    """Folds of a cross-validation.

    Parameters
    ----------
    name : str
    test, train : tuple of ndarray of bool, shape (row,)
        Of each fold. Rows that are in neither are buffered.
    """

    name: str
    test: tuple[np.ndarray, ...]
    train: tuple[np.ndarray, ...]


def complete_rows(rows: pd.DataFrame) -> np.ndarray:
    """Rows with VV, VH, B8, B11, SMAP and in-situ soil moisture, bool (row,)."""
    return rows[list(_NEEDED)].notna().all(axis=1).to_numpy()


def block_labels(rows: pd.DataFrame, degrees: float = 3.0) -> np.ndarray:
    """Label of the block of so many degrees that each row's station is in."""
    south, west = (np.floor(rows[name].to_numpy("float64") / degrees).astype(int) for name in ("lat", "lon"))
    return np.char.add(np.char.add(south.astype(str), "_"), west.astype(str))


def block_folds(rows: pd.DataFrame, *, k: int = 10, seed: int | None = None, buffer_km: float = 50.0) -> Folds:
    """Folds by blocks of 3 degrees.

    Parameters
    ----------
    rows : DataFrame
        From `from_station_table`.
    k : int
    seed : int, optional
        None is scikit-learn's ``GroupKFold`` over the complete rows (blocks without any are always trained on, as they are
        never scored). A seed draws another assignment of all blocks with `smnb.sensors.folds`.
    buffer_km : float
        With a seed: training stations nearer than this to a test station are left out.

    Returns
    -------
    Folds

    Raises
    ------
    ParameterError
        If there are fewer blocks than folds.
    """
    blocks = block_labels(rows)
    if seed is not None:
        sensors = rows.drop_duplicates("sensor_id")[["sensor_id", "lat", "lon"]].reset_index(drop=True)
        sides = [
            split.label(rows).to_numpy()
            for split in split_folds(sensors, "block", k=k, seed=seed, balanced=True, buffer_km=buffer_km)
        ]
        return Folds(f"seed {seed}", tuple(s == "test" for s in sides), tuple(s == "train" for s in sides))
    complete = np.flatnonzero(complete_rows(rows))
    if np.unique(blocks[complete]).size < k:
        raise ParameterError(
            "block_folds",
            "there are fewer blocks than folds",
            got=np.unique(blocks[complete]).size,
            expected=plain(f"at least {k}"),
        )
    test = []
    for _, held in GroupKFold(k).split(complete, groups=blocks[complete]):
        test.append(np.isin(blocks, np.unique(blocks[complete[held]])))
    return Folds(f"GroupKFold({k})", tuple(test), tuple(~side for side in test))


def cross_validate(
    rows: pd.DataFrame,
    folds: Folds,
    *,
    sources: Mapping[str, tuple[str, ...]] = SOURCE_SETS,
    baselines: Iterable[tuple[str, str]] = (),
    training: PointTraining | None = None,
    network: bool = True,
    features: FeatureConfig | None = None,
    only_complete: bool = True,
) -> pd.DataFrame:
    """Predict every held-out row with the network and the baselines, for each set of sources.

    Parameters
    ----------
    rows : DataFrame
        From `from_station_table`; ``soil_moisture`` of the training blocks is learnt from.
    folds : Folds
    sources : mapping of str to tuple of str
        Sets to try.
    baselines : iterable of (str, str)
        Families of `BASELINES` and ways of `WAYS`; every setting of a family is tried.
    training : PointTraining, optional
        Of the network; fold and member vary the seed.
    network : bool
        Whether to train ours.
    features : FeatureConfig, optional
    only_complete : bool
        Return the complete rows only.

    Returns
    -------
    DataFrame
        ``folds``, ``sources``, ``model``, ``way``, ``setting``, ``sensor_id``, ``time``, ``block``, ``observed``,
        ``predicted``. A centred baseline predicts departures, which is no matter to ubRMSE and R.

    Raises
    ------
    ParameterError
        On an unknown baseline or way.
    """
    jobs = [(f, w, s) for f, w in baselines for s in _settings(f, w)]
    training = training or PointTraining()
    table = point_features(rows, features)
    target, station = rows["soil_moisture"].to_numpy("float64"), rows["sensor_id"].to_numpy(str)
    shown = complete_rows(rows) if only_complete else np.ones(len(rows), dtype=bool)
    base = rows[["sensor_id", "time"]].assign(block=block_labels(rows), observed=target)
    parts = []

    def add(name: str, model: str, way: str, setting: str, predicted: np.ndarray) -> None:
        labels = {"folds": folds.name, "sources": name, "model": model, "way": way, "setting": setting}
        parts.append(base.assign(predicted=predicted, **labels)[shown & np.isfinite(predicted)])

    for name, chosen in sources.items():
        columns = table.columns(chosen)
        ours, names = table.values[:, columns], tuple(table.names[i] for i in columns)
        raw = raw_inputs(rows, chosen)
        if network:
            predicted = np.full(len(rows), np.nan)
            for number, (test, train) in enumerate(zip(folds.test, folds.train, strict=True)):
                recipe = replace(training, seed=training.seed + 1000 * number)
                ensemble = train_points(ours[train], names, target[train], station[train], recipe)
                predicted[test] = predict_points(ensemble, ours[test])
            add(name, NETWORK, "features", f"{training.members} members", predicted)
        for family, way, setting in jobs:
            inputs = raw if way == "raw" else ours
            predicted = np.full(len(rows), np.nan)
            for test, train in zip(folds.test, folds.train, strict=True):
                model = fit_baseline(
                    family, setting, inputs[train], target[train], station[train], centred=way == "centred"
                )
                predicted[test] = model.predict(inputs[test])
            add(name, family, way, setting, predicted)
    return pd.concat(parts, ignore_index=True)


def _settings(family: str, way: str) -> list[str]:
    if family not in BASELINES or way not in WAYS:
        raise ParameterError(
            "cross_validate", "unknown baseline", got=(family, way), expected=(list(BASELINES), list(WAYS))
        )
    return list(BASELINES[family])


_KEYS = ["folds", "sources", "model", "way", "setting"]


def station_scores(predictions: pd.DataFrame, *, min_obs: int = 13) -> pd.DataFrame:
    """Scores of each station: the keys, ``sensor_id``, ``block``, ``n``, ``ubrmse``, ``pearson_r``, ``rmse``, ``bias``."""
    parts = []
    for keys, group in predictions.groupby(_KEYS, sort=False):
        scores = score_table(group, min_obs=min_obs, metrics=_METRICS)
        scores.insert(1, "block", scores["sensor_id"].map(group.groupby("sensor_id")["block"].first()))
        parts.append(scores.assign(**dict(zip(_KEYS, keys, strict=True))))
    return pd.concat(parts, ignore_index=True)


def summary(scores: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Means over stations with intervals from drawing the blocks again, one row a model and setting.

    Columns: the keys, ``stations``, and of ``ubrmse`` and ``pearson_r`` the mean, ``_low`` and ``_high``. A model that is
    constant at a station has no R there; it counts as 0.
    """
    result = []
    for keys, group in scores.groupby(_KEYS, sort=False):
        group = group[group["ubrmse"].notna()]
        row = dict(zip(_KEYS, keys, strict=True)) | {"stations": len(group)}
        for metric in ("ubrmse", "pearson_r"):
            found = average_interval(group[metric].fillna(0.0), clusters=group["block"], level=level, seed=seed)
            row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
        result.append(row)
    return pd.DataFrame(result)


def differences(scores: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Paired differences of the network and every baseline at the same stations, blocks drawn again.

    The network is compared with each baseline's every way and setting, so that a family's best is among them. Columns:
    ``folds``, ``sources``, the baseline's ``model``, ``way``, ``setting``, and of ``ubrmse`` and ``pearson_r`` the mean
    difference (network less baseline), ``_low``, ``_high``, and ``better``: whether both intervals exclude zero to our side.
    """
    result = []
    for (fold, name), group in scores[scores["ubrmse"].notna()].groupby(["folds", "sources"], sort=False):
        ours = group[group["model"] == NETWORK].fillna({"pearson_r": 0.0})
        if ours.empty:
            continue
        blocks = ours.set_index("sensor_id")["block"]
        for keys, other in group[group["model"] != NETWORK].groupby(["model", "way", "setting"], sort=False):
            row = {"folds": fold, "sources": name} | dict(zip(["model", "way", "setting"], keys, strict=True))
            other = other.fillna({"pearson_r": 0.0})
            for metric in ("ubrmse", "pearson_r"):
                found = compare(ours, other, metric, clusters=blocks, level=level, seed=seed).difference
                row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
            result.append(row | {"better": row["ubrmse_high"] < 0.0 and row["pearson_r_low"] > 0.0})
    return pd.DataFrame(result)


def run_ablation(
    rows: pd.DataFrame,
    folder: str | Path,
    *,
    folds: Folds | None = None,
    sources: Mapping[str, tuple[str, ...]] = SOURCE_SETS,
    baselines: Iterable[tuple[str, str]] = ALL_BASELINES,
    training: PointTraining | None = None,
    features: FeatureConfig | None = None,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Cross-validate the network and the baselines, score them, and write three tidy tables.

    Parameters
    ----------
    rows, sources, baselines, training, features
        As `cross_validate`. By default all: six sets of sources, four families in three ways, which takes more than an hour
        on one core; a quick look takes one set, ridge and one member, in half a minute.
    folder : path-like
        Gets ``scores.csv`` (a row a station), ``summary.csv`` (a row a model), ``differences.csv`` (network less baseline), and
        the network's predictions with each set, ``predictions_<set>.parquet``, as notebook 09 reads them.
    folds : Folds, optional
        Default ``block_folds(rows)``.
    seed : int
        Of the intervals.

    Returns
    -------
    dict of str to DataFrame
        ``scores``, ``summary`` and ``differences``.
    """
    predictions = cross_validate(
        rows, folds or block_folds(rows), sources=sources, baselines=baselines, training=training, features=features
    )
    _write_predictions(predictions, rows, Path(folder))
    scores = station_scores(predictions)
    tables = {"scores": scores, "summary": summary(scores, seed=seed), "differences": differences(scores, seed=seed)}
    for name, table in tables.items():
        with atomic_path(Path(folder) / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    return tables


def _write_predictions(predictions: pd.DataFrame, rows: pd.DataFrame, folder: Path) -> None:
    about = rows[["sensor_id"]].drop_duplicates()
    about[["network", "station"]] = about["sensor_id"].str.split("__", n=1, expand=True).to_numpy()
    for name, table in predictions[predictions["model"] == NETWORK].groupby("sources", sort=False):
        table = table[["sensor_id", "time", "observed", "predicted", "block"]].merge(about, on="sensor_id")
        table.attrs.update(model=f"point network, {name}", synthetic=bool(rows.attrs.get("synthetic", False)))
        slug = str(name).lower().replace("+", "_")
        write_predictions(table, folder / f"predictions_{slug}.parquet")
