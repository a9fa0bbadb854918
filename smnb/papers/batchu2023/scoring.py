"""Scores by sensor, the results table like the paper's Table 9, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from smnb.contract import ParameterError
from smnb.metrics import MIN_OBS, compare, interval_text, metric
from smnb.sensors import score_sensors, summary_rows

#: Scores of the tables by the library's names: the paper's three, and the bias.
SCORES = ("ubrmse", "rmse", "pearson_r", "bias")
#: Predictions by side, by experiment.
Experiments = Mapping[str, Mapping[str, pd.DataFrame]]


def _labels(scores: pd.DataFrame, clusters: str | None, who: str) -> str | None:
    if clusters is not None and clusters not in scores:
        raise ParameterError(who, "the sensor table has no such column", got=clusters, expected=list(map(str, scores)))
    return clusters


def results_table(
    experiments: Experiments, *, min_obs: int = MIN_OBS, clusters: str | None = None, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Means over sensors of each experiment and side, with intervals: the paper's Table 9.

    Parameters
    ----------
    experiments : mapping of str to mapping of str to DataFrame
        Predictions by experiment and side: ``{"Sentinel-1 + DEM": run.predictions, **reference_predictions(…)}``.
    min_obs : int
        Sensors with fewer samples have no score.
    clusters : str, optional
        Column of the sensor table that is drawn for the intervals instead of the sensor, such as ``station``.
    n_boot, seed
        Of the intervals.

    Returns
    -------
    DataFrame
        One row an experiment; columns ``<side>_<score>`` with ``_low`` and ``_high`` (95 %) for ubrmse, rmse, r and bias,
        ``<side>_n_sensors`` (with a score) and ``<side>_n`` (their samples). ``<side>_<score>`` are what
        `smnb.papers.tables.compare_with` takes.
    """
    rows = {}
    for name, sides in experiments.items():
        row: dict[str, float] = {}
        for side, table in sides.items():
            scores = score_sensors(table, min_obs=min_obs)
            cluster = _labels(scores, clusters, "results_table")
            mean = summary_rows(table, scores, intervals=True, clusters=cluster, n_boot=n_boot, seed=seed).iloc[0]
            for score in SCORES:
                short = metric(score).short
                for end in ("", "_low", "_high"):
                    row[f"{side}_{short}{end}"] = mean.get(f"{score}{end}", float("nan"))
            row[f"{side}_n_sensors"], row[f"{side}_n"] = mean["n_sensors"], mean["n"]
        rows[name] = row
    result = pd.DataFrame.from_dict(rows, orient="index").rename_axis("experiment")
    counts = [name for name in result.columns if name.endswith(("_n_sensors", "_n"))]
    result[counts] = result[counts].astype("Int64")
    result.attrs["synthetic"] = any(
        table.attrs.get("synthetic", False) for sides in experiments.values() for table in sides.values()
    )
    return result


def printed_results(results: pd.DataFrame, *, intervals: bool = True) -> pd.DataFrame:
    """A results table as text, "0.054 [0.051, 0.058]": a row an experiment, a column a side and score."""
    columns = [name for name in results.columns if f"{name}_low" in results.columns]

    def text(row: pd.Series, name: str) -> str:
        return interval_text(*(row[f"{name}{end}"] for end in (("", "_low", "_high") if intervals else ("",))))

    shown = {name: [text(row, name) for _, row in results.iterrows()] for name in columns}
    return pd.DataFrame(shown, index=results.index)


def paired_differences(
    experiments: Experiments,
    reference: str,
    *,
    side: str = "validation",
    metrics: Sequence[str] = SCORES[:3],
    min_obs: int = MIN_OBS,
    clusters: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Each experiment less a reference, sensor by sensor, with intervals from drawing sensors again.

    Returns
    -------
    DataFrame
        One row an experiment and metric: ``experiment``, ``reference``, ``metric``, ``value``, ``reference_value``,
        ``difference`` (experiment less reference) with ``low`` and ``high`` (95 %), ``percent`` (of the reference's value;
        positive is better, as the paper prints it), ``n_sensors``, ``sentence``.

    Raises
    ------
    ParameterError
        If there is no such reference or column.
    """
    who = "paired_differences"
    if reference not in experiments:
        raise ParameterError(who, "there is no such experiment", got=reference, expected=list(experiments))
    scores = {name: score_sensors(sides[side], min_obs=min_obs) for name, sides in experiments.items() if side in sides}
    if reference not in scores:
        raise ParameterError(
            who, f"the reference has no predictions on side {side!r}", got=list(experiments[reference])
        )
    labels = None
    if clusters is not None:
        column = _labels(scores[reference], clusters, who)
        labels = pd.concat([one.set_index("sensor_id")[column] for one in scores.values()])
        labels = labels[~labels.index.duplicated()]
    rows = []
    for name in (one for one in scores if one != reference):
        for score in metrics:
            found = compare(
                scores[name],
                scores[reference],
                score,
                names=(name, reference),
                clusters=labels,
                n_boot=n_boot,
                seed=seed,
            )
            better = 1.0 if metric(score).better == "high" else -1.0
            rows.append(
                {
                    "experiment": name,
                    "reference": reference,
                    "metric": metric(score).short,
                    "value": found.a_value,
                    "reference_value": found.b_value,
                    "difference": found.difference.value,
                    "low": found.difference.low,
                    "high": found.difference.high,
                    "percent": 100.0 * better * found.difference.value / abs(found.b_value),
                    "n_sensors": found.difference.n,
                    "sentence": found.sentence,
                }
            )
    return pd.DataFrame(rows)
