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
from smnb.papers.stations.features import point_features
from smnb.papers.stations.training import PointTraining, predict_points, train_points
from smnb.sensors import folds as split_folds
from smnb.sensors import write_predictions
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
#: Every family in every way.
ALL_BASELINES: tuple[tuple[str, str], ...] = tuple((family, way) for family in BASELINES for way in WAYS)
_KEYS = ["folds", "sources", "model", "way", "setting"]
_COMPARED = ("ubrmse", "pearson_r")
_NEEDED = ("sigma0_VV", "sigma0_VH", "reflectance_B8", "reflectance_B11", "smap", "soil_moisture")
_DEGREES = 3.0


@dataclass(frozen=True)
class Folds:
    """Folds of a cross-validation: bool (row,) of each fold; rows that are in neither are buffered."""

    name: str
    test: tuple[np.ndarray, ...]
    train: tuple[np.ndarray, ...]


def complete_rows(rows: pd.DataFrame) -> np.ndarray:
    """Rows with VV, VH, B8, B11, SMAP and in-situ soil moisture, bool (row,)."""
    return rows[list(_NEEDED)].notna().all(axis=1).to_numpy()


def _blocks(rows: pd.DataFrame) -> np.ndarray:
    """Label of each row's block. The labels' order settles `GroupKFold`'s ties, and with them the released card's scores."""
    south, west = (np.floor(rows[name].to_numpy("float64") / _DEGREES).astype(int) for name in ("lat", "lon"))
    return np.char.add(np.char.add(south.astype(str), "_"), west.astype(str))


def block_folds(rows: pd.DataFrame, *, k: int = 10, seed: int | None = None, buffer_km: float = 50.0) -> Folds:
    """Folds by blocks of 3 degrees, `ParameterError` with fewer blocks than folds.

    Without a seed it is scikit-learn's ``GroupKFold`` over the complete rows (blocks without any are always trained on, as they
    are never scored). A seed draws another assignment of all blocks with `smnb.sensors.folds`, and training stations nearer than
    `buffer_km` to a test station are left out.
    """
    if seed is not None:
        sensors = rows.drop_duplicates("sensor_id")[["sensor_id", "lat", "lon"]].reset_index(drop=True)
        splits = split_folds(sensors, "block", k=k, seed=seed, balanced=True, buffer_km=buffer_km)
        sides = [split.label(rows).to_numpy() for split in splits]
        return Folds(f"seed {seed}", tuple(s == "test" for s in sides), tuple(s == "train" for s in sides))
    blocks, complete = _blocks(rows), np.flatnonzero(complete_rows(rows))
    if (found := np.unique(blocks[complete]).size) < k:
        expected = plain(f"at least {k}")
        raise ParameterError("block_folds", "there are fewer blocks than folds", got=found, expected=expected)
    held_out = GroupKFold(k).split(complete, groups=blocks[complete])
    test = [np.isin(blocks, np.unique(blocks[complete[held]])) for _, held in held_out]
    return Folds(f"GroupKFold({k})", tuple(test), tuple(~side for side in test))


def cross_validate(
    rows: pd.DataFrame,
    folds: Folds,
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
    jobs = []
    for family, way in baselines:
        if family not in BASELINES or way not in WAYS:
            expected = (list(BASELINES), list(WAYS))
            raise ParameterError("cross_validate", "unknown baseline", got=(family, way), expected=expected)
        jobs += [(family, way, setting) for setting in BASELINES[family]]
    if training is not None:
        jobs.insert(0, (NETWORK, "features", f"{training.members} members"))
    table = point_features(rows)
    target, station = rows["soil_moisture"].to_numpy("float64"), rows["sensor_id"].to_numpy(str)
    base, shown = rows[["sensor_id", "time"]].assign(block=_blocks(rows), observed=target), complete_rows(rows)
    parts = []
    tasks = [(name, chosen, job) for name, chosen in sources.items() for job in jobs]
    for name, chosen, (model, way, setting) in progress(tasks, "ablation on stations"):
        ours, raw = table.of(chosen), raw_inputs(rows, chosen) if way == "raw" else None
        predicted = np.full(len(rows), np.nan)
        for number, (test, train) in enumerate(zip(folds.test, folds.train, strict=True)):
            if model == NETWORK:
                recipe = replace(training, seed=training.seed + 1000 * number)
                ensemble = train_points(ours.rows(train), target[train], station[train], recipe)
                predicted[test] = predict_points(ensemble, ours.values[test])
            else:
                x = ours.values if raw is None else raw
                fitted = fit_baseline(model, setting, x[train], target[train], station[train], centred=way == "centred")
                predicted[test] = fitted.predict(x[test])
        labels = dict(zip(_KEYS, (folds.name, name, model, way, setting), strict=True))
        parts.append(base.assign(predicted=predicted, **labels)[shown & np.isfinite(predicted)])
    return pd.concat(parts, ignore_index=True)


def station_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Scores of each station: the keys, ``sensor_id``, ``block``, ``n``, ``ubrmse``, ``pearson_r``, ``rmse``, ``bias``."""
    parts = []
    for keys, group in predictions.groupby(_KEYS, sort=False):
        scores = score_table(group, min_obs=13, metrics=(*_COMPARED, "rmse", "bias"))
        scores.insert(1, "block", scores["sensor_id"].map(group.groupby("sensor_id")["block"].first()))
        parts.append(scores.assign(**dict(zip(_KEYS, keys, strict=True))))
    return pd.concat(parts, ignore_index=True)


def summary(scores: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Means over stations with intervals from drawing the blocks again, one row a model and setting.

    Columns: the keys, ``stations``, and the mean, ``_low`` and ``_high`` of ``ubrmse`` and ``pearson_r`` (a model that is
    constant at a station has no R there; it counts as 0).
    """
    result = []
    for keys, group in _scored(scores).groupby(_KEYS, sort=False):
        row = dict(zip(_KEYS, keys, strict=True)) | {"stations": len(group)}
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
    for (fold, name), group in _scored(scores).groupby(["folds", "sources"], sort=False):
        ours = group[group["model"] == NETWORK]
        blocks = ours.set_index("sensor_id")["block"]
        for keys, other in group[group["model"] != NETWORK].groupby(_KEYS[2:], sort=False):
            row = {"folds": fold, "sources": name} | dict(zip(_KEYS[2:], keys, strict=True))
            for metric in _COMPARED:
                found = compare(ours, other, metric, clusters=blocks, seed=seed).difference
                row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
            result.append(row | {"better": row["ubrmse_high"] < 0.0 and row["pearson_r_low"] > 0.0})
    return pd.DataFrame(result)


def _scored(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[scores["ubrmse"].notna()].fillna({"pearson_r": 0.0})


def run_ablation(
    rows: pd.DataFrame,
    folder: str | Path,
    *,
    folds: Folds | None = None,
    sources: Mapping[str, tuple[str, ...]] = SOURCE_SETS,
    baselines: Iterable[tuple[str, str]] = ALL_BASELINES,
    training: PointTraining | None = None,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Cross-validate the network and the baselines, score them, and write three tidy tables.

    Parameters
    ----------
    rows : DataFrame
        From `from_station_table`.
    folder : path-like
        Gets ``scores.csv`` (a row a station), ``summary.csv`` (a row a model), ``differences.csv`` (network less baseline), and
        the network's predictions with each set, ``predictions_<set>.parquet``, as notebook 09 reads them.
    folds : Folds, optional
        Default `block_folds`.
    sources, baselines, training
        By default six sets of sources, four families in three ways, which takes more than an hour on one core; a quick look
        takes one set, ridge and one member, in half a minute.
    seed : int
        Of the intervals.

    Returns
    -------
    dict of str to DataFrame
        ``scores``, ``summary`` and ``differences``.
    """
    folder, folds = Path(folder), folds or block_folds(rows)
    training = training or PointTraining()
    predictions = cross_validate(rows, folds, sources=sources, baselines=baselines, training=training)
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
