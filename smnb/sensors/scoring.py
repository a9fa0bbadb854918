"""Scores of a table of predictions: one row a sensor, the averages, and averages by stratum as paper 004's Tables 10 to 12."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from smnb.contract import check_table
from smnb.grids.koppen import NONE
from smnb.metrics import (
    DEFAULT_METRICS,
    METRICS,
    MIN_OBS,
    average_interval,
    metric_list,
    pooled,
    score_intervals,
    score_table,
)
from smnb.metrics.registry import MetricLike
from smnb.sensors.predictions import NEEDED

#: A stratum with fewer sensors carries an asterisk, and paper 004 asks to disregard its scores.
FEW_SENSORS = 5


def _keep_possible(table: pd.DataFrame) -> pd.DataFrame:
    """Cut the ends of intervals to what the score can be: a studentised interval of few sensors may go beyond."""
    ends = {f"{name}_{end}": one.limits for name, one in METRICS.items() for end in ("low", "high")}
    return table.assign(**{name: table[name].clip(*limits) for name, limits in ends.items() if name in table})


def score_sensors(
    table: pd.DataFrame,
    *,
    metrics: Sequence[MetricLike] = DEFAULT_METRICS,
    min_obs: int = MIN_OBS,
    intervals: Sequence[MetricLike] = (),
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Score each sensor of a table of predictions, and keep what the table says of the sensor.

    `metrics` and `min_obs` as in `smnb.metrics.score_table`, whose errors and columns these are, with the columns of `table` that
    have one value a sensor (place, strata). Those of `intervals` get ``<score>_low`` and ``<score>_high`` by the block bootstrap
    in time of `smnb.metrics.score_intervals`.
    """
    scores = score_table(table, min_obs=min_obs, metrics=metrics)
    if intervals:
        names = [one.name for one in metric_list(intervals)]
        found = score_intervals(table, metrics=intervals, n_boot=n_boot, seed=seed, min_obs=min_obs)
        for end in ("low", "high"):
            wide = found.pivot(index="sensor_id", columns="metric", values=end)
            scores = scores.assign(**{f"{name}_{end}": scores["sensor_id"].map(wide[name]) for name in names})
    others = [name for name in table.columns if name not in (*NEEDED, *scores.columns)]
    groups = table.groupby("sensor_id", observed=True)
    constant = [name for name in others if groups[name].nunique(dropna=False).max() == 1]
    if constant:
        scores = scores.merge(groups[constant].first().reset_index(), on="sensor_id", how="left")
    scores.attrs["synthetic"] = bool(table.attrs.get("synthetic", False))
    return scores


def summary_rows(
    table: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    intervals: bool = False,
    clusters: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean and median over sensors, and the scores of all pairs together.

    `table` holds predictions, `scores` is from `score_sensors`. With `intervals`, mean and median have ``<score>_low`` and
    ``<score>_high`` from drawing sensors, or values of the column `clusters` (``station``, ``block``), again; pooled scores none.

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
            found = average_interval(scores[name], how=how, clusters=labels, n_boot=n_boot, seed=seed)
            row[name] = found.value
            if intervals and METRICS[name].smooth:
                row[f"{name}_low"], row[f"{name}_high"] = found.low, found.high
        rows.append({**row, "reason": "" if scored.any() else "no sensor has a score"})
    whole = pooled(table, metrics=DEFAULT_METRICS)
    rows.append({"kind": "pooled", "sensor_id": "pooled", **whole.to_dict()})
    return _keep_possible(pd.DataFrame(rows))


def stratify(
    scores: pd.DataFrame,
    by: str,
    *,
    metrics: MetricLike | Iterable[MetricLike] = ("ubrmse", "rmse", "pearson_r"),
    order: Sequence[str] | None = None,
    intervals: bool = True,
    clusters: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Average the scores of sensors by stratum.

    Parameters
    ----------
    scores : DataFrame
        One row a sensor: scores, as from `score_sensors`, and the stratum's column.
    by : str
        The stratum's column, e.g. ``texture``. A missing stratum counts as "none".
    order : sequence of str, optional
        Strata in the order of the table, those without any sensor included; others that occur come after it,
        alphabetically, "none" last.
    intervals, clusters
        Add ``<metric>_low`` and ``<metric>_high``, from drawing the sensors of the stratum again, or the values of a column,
        e.g. ``station``.

    Returns
    -------
    DataFrame
        One row a stratum: `by`, ``label`` (with the paper's asterisk where fewer than five sensors have a score),
        ``few`` (whether it has), ``n_sensors`` (rows), ``n_scored`` (rows with any of these scores), and the scores. A
        stratum of fewer than five sensors has no interval, an empty one no score.

    Raises
    ------
    ContractError
        On an empty table, a missing column, or a sensor that occurs twice.
    ParameterError
        On an unknown metric or other option.

    Examples
    --------
    >>> scores = pd.DataFrame({"sensor_id": list("abcdefg"), "texture": ["Loam"] * 6 + ["Sand"],
    ...                        "ubrmse": [0.04, 0.05, 0.06, 0.05, 0.04, 0.06, 0.03]})
    >>> stratify(scores, "texture", metrics="ubrmse", order=["Loam", "Sand", "Clay"], intervals=False)
      texture  label    few  n_sensors  n_scored  ubrmse
    0    Loam   Loam  False          6         6    0.05
    1    Sand  Sand*   True          1         1    0.03
    2    Clay  Clay*   True          0         0     NaN
    """
    names = [one.name for one in metric_list(metrics)]
    step = "Join the strata of the sensor table to the scores first"
    needed = ["sensor_id", by, *names, *([clusters] if clusters else [])]
    check_table("stratify", scores, needed, unique="sensor_id", next_step=step)
    strata = scores[by].astype(object).where(scores[by].notna(), NONE).astype(str)
    wanted = list(dict.fromkeys(map(str, order or ())))
    rest = sorted(set(strata) - set(wanted), key=lambda stratum: (stratum == NONE, stratum))
    rows = []
    for stratum in [*wanted, *rest]:
        group = scores[(strata == stratum).to_numpy()]
        scored = int(np.isfinite(group[names].to_numpy("float64")).any(axis=1).sum())
        few = scored < FEW_SENSORS
        row = {by: stratum, "label": stratum + "*" * few, "few": few, "n_sensors": len(group), "n_scored": scored}
        labels = None if clusters is None else group[clusters].to_numpy()
        for name in names:
            found = average_interval(group[name].to_numpy("float64"), clusters=labels, n_boot=n_boot, seed=seed)
            row[name] = found.value
            if intervals:
                row[f"{name}_low"], row[f"{name}_high"] = found.low, found.high
        rows.append(row)
    return _keep_possible(pd.DataFrame(rows))
