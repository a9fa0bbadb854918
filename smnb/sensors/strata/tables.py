"""Scores by stratum, as paper 004's Tables 10 to 12 have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from smnb.contract import ContractError
from smnb.grids.koppen import NONE
from smnb.metrics import average_interval, metric_list
from smnb.metrics.registry import MetricLike

#: A stratum with fewer sensors carries an asterisk, and paper 004 asks to disregard its scores.
FEW_SENSORS = 5


def _check(who: str, scores: pd.DataFrame, by: str, metrics: Sequence[str], sensor: str) -> None:
    if not isinstance(scores, pd.DataFrame) or scores.empty:
        raise ContractError(who, "there are no scores", expected="one row a sensor, from score_table")
    missing = [column for column in (by, *metrics) if column not in scores.columns]
    if missing:
        raise ContractError(
            who,
            f"columns {missing} are missing",
            got=list(map(str, scores.columns)),
            next_step="Join the strata of the sensor table to the scores first",
        )
    if sensor in scores.columns and scores[sensor].duplicated().any():
        example = scores.loc[scores[sensor].duplicated(), sensor].iloc[0]
        raise ContractError(who, "a sensor occurs twice", got=str(example), expected="one row a sensor")


def stratify(
    scores: pd.DataFrame,
    by: str,
    *,
    metrics: MetricLike | Iterable[MetricLike] = ("ubrmse", "rmse", "pearson_r"),
    order: Sequence[str] | None = None,
    how: str = "mean",
    intervals: bool = True,
    clusters: str | None = None,
    sensor: str = "sensor_id",
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Average the scores of sensors by stratum.

    Parameters
    ----------
    scores : DataFrame
        One row a sensor: scores, as from `smnb.metrics.score_table`, and the stratum's column.
    by : str
        The stratum's column, e.g. ``texture``. A missing stratum counts as "none".
    metrics : name, function or Metric, or several
        Columns to average; by default those of the paper's tables.
    order : sequence of str, optional
        Strata in the order of the table, those without any sensor included; others that occur come after it,
        alphabetically, "none" last.
    how : {"mean", "median", "fisher_z"}
        As `smnb.metrics.average_interval`; the paper takes the mean, also of R.
    intervals : bool
        Add ``<metric>_low`` and ``<metric>_high``, from drawing the sensors of the stratum again.
    clusters : str, optional
        Column whose values are drawn again instead of sensors, e.g. ``station``.
    sensor : str
        The column that tells sensors apart, for the check that none occurs twice.
    level, n_boot, seed
        Of the intervals.

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
    who = "stratify"
    names = tuple(one.name for one in metric_list(metrics))
    _check(who, scores, by, names, sensor)
    if clusters is not None and clusters not in scores.columns:
        raise ContractError(
            who, "the column of clusters is missing", got=clusters, expected=list(map(str, scores.columns))
        )
    strata = scores[by].astype(object).where(scores[by].notna(), NONE).astype(str)
    wanted = [] if order is None else [str(stratum) for stratum in order]
    rest = sorted(set(strata) - set(wanted), key=lambda stratum: (stratum == NONE, stratum))
    rows = []
    for stratum in [*dict.fromkeys(wanted), *rest]:
        group = scores[(strata == stratum).to_numpy()]
        scored = int(np.isfinite(group[list(names)].to_numpy("float64")).any(axis=1).sum())
        few = scored < FEW_SENSORS
        row = {by: stratum, "label": stratum + "*" * few, "few": few, "n_sensors": len(group), "n_scored": scored}
        for name in names:
            labels = None if clusters is None else group[clusters].to_numpy()
            found = average_interval(
                group[name].to_numpy("float64"), how=how, clusters=labels, level=level, n_boot=n_boot, seed=seed
            )
            row[name] = found.value
            if intervals:
                row[f"{name}_low"], row[f"{name}_high"] = found.low, found.high
        rows.append(row)
    return pd.DataFrame(rows)
