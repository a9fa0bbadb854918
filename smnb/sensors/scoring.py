"""Scores of a table of predictions: one row a sensor, and the averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from smnb.contract import ParameterError
from smnb.metrics import (
    DEFAULT_METRICS,
    METRICS,
    MIN_OBS,
    average_interval,
    interval_text,
    metric_list,
    pooled,
    score_intervals,
    score_table,
    triple_collocation,
)
from smnb.metrics.registry import MetricLike
from smnb.sensors.predictions.tables import NEEDED
from smnb.sensors.strata import STRATA

#: Names of scores in files and on the command line, where they differ from the library's.
SHORT_NAMES = {name: one.short for name, one in METRICS.items() if one.short != name}


def keep_possible(table: pd.DataFrame) -> pd.DataFrame:
    """Cut the ends of intervals to what the score can be: a studentised interval of few sensors may go beyond."""
    ends = {f"{name}_{end}": one.limits for name, one in METRICS.items() for end in ("low", "high")}
    return table.assign(**{name: table[name].clip(*limits) for name, limits in ends.items() if name in table})


def score_sensors(
    table: pd.DataFrame,
    *,
    metrics: Sequence[MetricLike] = DEFAULT_METRICS,
    min_obs: int = MIN_OBS,
    intervals: Sequence[MetricLike] = (),
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Score each sensor of a table of predictions, and keep what the table says of the sensor.

    Parameters
    ----------
    table : DataFrame
        Predictions.
    metrics : sequence of names, functions or Metrics
        Scores.
    min_obs : int
        Sensors with fewer pairs get NaN and the reason.
    intervals : sequence of names, functions or Metrics
        Those of them to give ``<score>_low`` and ``<score>_high``, by the block bootstrap in time of
        `smnb.metrics.score_intervals`.
    level, n_boot, seed
        Of the intervals.

    Returns
    -------
    DataFrame
        As `smnb.metrics.score_table`, with the columns of `table` that have one value a sensor (place, strata).

    Raises
    ------
    ContractError, ParameterError
        As `smnb.metrics.score_table` and `smnb.metrics.score_intervals`.
    """
    scores = score_table(table, min_obs=min_obs, metrics=metrics)
    if intervals:
        names = [one.name for one in metric_list(intervals)]
        found = score_intervals(table, metrics=intervals, level=level, n_boot=n_boot, seed=seed, min_obs=min_obs)
        for end in ("low", "high"):
            wide = found.pivot(index="sensor_id", columns="metric", values=end)
            scores = scores.assign(**{f"{name}_{end}": scores["sensor_id"].map(wide[name]) for name in names})
    others = [name for name in table.columns if name not in (*NEEDED, *scores.columns)]
    groups = table.groupby("sensor_id", observed=True)
    constant = [name for name in others if groups[name].nunique(dropna=False).max() == 1]
    return scores.merge(groups[constant].first().reset_index(), on="sensor_id", how="left") if constant else scores


def summary_rows(
    table: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    intervals: bool = False,
    clusters: str | None = None,
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean and median over sensors, and the scores of all pairs together.

    Parameters
    ----------
    table : DataFrame
        Predictions.
    scores : DataFrame
        From `score_sensors`.
    intervals : bool
        Add ``<score>_low`` and ``<score>_high`` to mean and median, from drawing sensors (or clusters) again; pooled
        scores have none.
    clusters : str, optional
        Column of `scores` that is drawn instead of the sensor, e.g. ``station`` or ``block``.
    level, n_boot, seed
        Of the intervals.

    Returns
    -------
    DataFrame
        Rows ``mean``, ``median`` and ``pooled`` in ``sensor_id``; ``kind`` the same; ``n_sensors`` with an ubRMSE (for
        pooled: with a pair); ``n`` pairs of those sensors.
    """
    scored = np.isfinite(scores["ubrmse"])
    labels = None if clusters is None else scores[clusters].to_numpy()
    rows: list[dict[str, Any]] = []
    for how in ("mean", "median"):
        row: dict[str, Any] = {"kind": how, "sensor_id": how, "n_sensors": int(scored.sum())}
        row["n"] = int(scores.loc[scored, "n"].sum())
        for name in DEFAULT_METRICS:
            found = average_interval(scores[name], how=how, clusters=labels, level=level, n_boot=n_boot, seed=seed)
            row[name] = found.value
            if intervals and METRICS[name].smooth:
                row[f"{name}_low"], row[f"{name}_high"] = found.low, found.high
        rows.append({**row, "reason": "" if scored.any() else "no sensor has a score"})
    whole = pooled(table, metrics=DEFAULT_METRICS)
    rows.append({"kind": "pooled", "sensor_id": "pooled", **whole.to_dict()})
    return keep_possible(pd.DataFrame(rows))


def printed_means(
    averages: Mapping[str, pd.DataFrame], metrics: Sequence[str] = ("ubrmse", "rmse", "bias", "pearson_r", "anomaly_r")
) -> pd.DataFrame:
    """Means over sensors of several models as text, "0.046 [0.042, 0.053]": a row a model, a column a score.

    Parameters
    ----------
    averages : mapping of str to DataFrame
        By model, from `summary_rows` with intervals.
    metrics : sequence of str
        Scores.
    """
    rows = {model: table.set_index("kind").loc["mean"] for model, table in averages.items()}
    text = {
        name: [interval_text(*(row.get(f"{name}{end}") for end in ("", "_low", "_high"))) for row in rows.values()]
        for name in metrics
    }
    return pd.DataFrame(text, index=pd.Index(list(rows), name="model"))


def pick_sensors(scores: pd.DataFrame, n: int, *, chosen: Sequence[str] = (), seed: int = 0) -> list[str]:
    """Sensors to look at: those chosen, else `n` drawn at random among those with a score.

    Raises
    ------
    ParameterError
        For a sensor that is not there, or no sensor with a score.
    """
    known = scores["sensor_id"].tolist()
    if chosen:
        strange = [sensor for sensor in chosen if sensor not in known]
        if strange:
            raise ParameterError("pick_sensors", "there is no such sensor", got=strange, expected=known[:5])
        return list(chosen)
    scored = sorted(scores.loc[np.isfinite(scores["ubrmse"]), "sensor_id"])
    if not scored:
        raise ParameterError("pick_sensors", "no sensor has a score", got=len(known))
    return sorted(np.random.default_rng(seed).choice(scored, size=min(n, len(scored)), replace=False).tolist())


def sensor_notes(scores: Mapping[str, pd.DataFrame], sensors: Sequence[str]) -> dict[str, str]:
    """What a figure says of a sensor: its strata, and R and ubRMSE of each model."""
    notes = {}
    for sensor in sensors:
        rows = {model: table[table["sensor_id"] == sensor].iloc[0] for model, table in scores.items()}
        first = next(iter(rows.values()))
        said = [str(first[name]) for name in STRATA if name in first and first[name] != "none"]
        both = [f"{model} {row['pearson_r']:.2f}, {row['ubrmse']:.3f}" for model, row in rows.items()]
        notes[sensor] = ", ".join(said) + ("; " if said else "") + "R and ubRMSE: " + "; ".join(both)
    return notes


def triplets(
    a: pd.DataFrame, b: pd.DataFrame, *, min_obs: int = 100, most: int | None = None, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Triple collocation of two products and the readings, sensor by sensor.

    Parameters
    ----------
    a, b : DataFrame
        Predictions of two products with independent errors, at the same rows (`predictions_at`).
    min_obs : int
        Sensors with fewer triplets are left out.
    most : int, optional
        Only so many sensors, those with the most triplets.
    n_boot, seed
        As `smnb.metrics.triple_collocation`.

    Returns
    -------
    DataFrame
        One row a sensor and product: ``sensor_id``, ``product`` (the two models, "in situ"), and what
        `smnb.metrics.triple_collocation` gives, scaled to the readings. Empty where no sensor has enough triplets.
    """
    joined = a.merge(b[["sensor_id", "time", "predicted"]], on=["sensor_id", "time"], suffixes=("", "_b"))
    joined = joined.dropna(subset=["observed", "predicted", "predicted_b"]).sort_values(["sensor_id", "time"])
    names = (str(a.attrs.get("model", "A")), str(b.attrs.get("model", "B")), "in situ")
    parts = []
    counts = (
        joined["sensor_id"]
        .value_counts()
        .rename_axis("sensor_id")
        .reset_index()
        .sort_values(["count", "sensor_id"], ascending=[False, True])
    )
    wanted = set(counts.loc[counts["count"] >= min_obs, "sensor_id"].iloc[:most])
    for sensor, rows in joined.groupby("sensor_id"):
        if sensor in wanted:
            found = triple_collocation(
                rows["predicted"],
                rows["predicted_b"],
                rows["observed"],
                names=names,
                reference=2,
                n_boot=n_boot,
                seed=seed,
            )
            parts.append(found.reset_index().assign(sensor_id=sensor))
    if not parts:
        return pd.DataFrame(columns=["sensor_id", "product", "err_std", "r_truth", "snr_db", "n", "note"])
    result = pd.concat(parts, ignore_index=True)
    return result[["sensor_id", *(name for name in result.columns if name != "sensor_id")]]
