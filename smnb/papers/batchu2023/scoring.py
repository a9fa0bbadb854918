"""Results like the paper's Table 9, paired differences, and scores by sensor network beside the published works."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from smnb.contract import ParameterError, check_choice, check_table
from smnb.metrics import MIN_OBS, compare, interval_text, metric
from smnb.papers.batchu2023.inputs import PRODUCTS
from smnb.papers.tables import published
from smnb.sensors import score_sensors, stratify, summary_rows

#: Scores of the tables by the library's names: the paper's three, and the bias.
SCORES = ("ubrmse", "rmse", "pearson_r", "bias")
_ENDS = ("", "_low", "_high")
#: The paper's table by sensor network of each score.
_NETWORK_TABLES = {"pearson_r": "Table 13", "ubrmse": "Table 14"}
#: Predictions by side, by experiment.
Experiments = Mapping[str, Mapping[str, pd.DataFrame]]


def _scored(who: str, table: pd.DataFrame, clusters: str | None) -> pd.DataFrame:
    """Scores of each sensor, with the column to draw for the intervals."""
    scores = score_sensors(table)
    if clusters is not None:
        check_choice(who, "clusters", clusters, scores.columns)
    return scores


def results_table(
    experiments: Experiments, *, clusters: str | None = None, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Means over sensors of each experiment and side, with intervals: the paper's Table 9.

    Parameters
    ----------
    experiments : mapping of str to mapping of str to DataFrame
        Predictions by experiment and side, as `predict_sides` and `references_at_sensors` give them.
    clusters : str, optional
        Column of the sensor table that is drawn for the intervals instead of the sensor, such as ``station``.

    Returns
    -------
    DataFrame
        One row an experiment; columns ``<side>_<score>`` with ``_low`` and ``_high`` (95 %) for ubrmse, rmse, r and bias,
        ``<side>_n_sensors`` (with a score) and ``<side>_n`` (their samples).
    """
    rows: dict[str, dict[str, float]] = {}
    for name, sides in experiments.items():
        row = rows[name] = {}
        for side, table in sides.items():
            scores = _scored("results_table", table, clusters)
            mean = summary_rows(table, scores, intervals=True, clusters=clusters, n_boot=n_boot, seed=seed).iloc[0]
            for score in SCORES:
                row |= {f"{side}_{metric(score).short}{end}": mean.get(f"{score}{end}", float("nan")) for end in _ENDS}
            row |= {f"{side}_n_sensors": mean["n_sensors"], f"{side}_n": mean["n"]}
    result = pd.DataFrame.from_dict(rows, orient="index").rename_axis("experiment")
    counts = [name for name in result.columns if name.endswith(("_n_sensors", "_n"))]
    result[counts] = result[counts].astype("Int64")
    tables = [table for sides in experiments.values() for table in sides.values()]
    result.attrs["synthetic"] = any(table.attrs.get("synthetic", False) for table in tables)
    return result


def printed_results(results: pd.DataFrame) -> pd.DataFrame:
    """A results table as text, "0.054 [0.051, 0.058]": a row an experiment, a column a side and score."""
    columns = [name for name in results.columns if f"{name}_low" in results.columns]
    shown = {n: [interval_text(*(row[f"{n}{end}"] for end in _ENDS)) for _, row in results.iterrows()] for n in columns}
    return pd.DataFrame(shown, index=results.index)


def paired_differences(
    experiments: Experiments,
    reference: str,
    *,
    side: str = "validation",
    clusters: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Each experiment less a reference, sensor by sensor, with intervals from drawing sensors again.

    Returns
    -------
    DataFrame
        One row an experiment and metric (ubrmse, rmse, r): ``experiment``, ``reference``, ``metric``, ``value``,
        ``reference_value``, ``difference`` (experiment less reference) with ``low`` and ``high`` (95 %), ``percent`` (of the
        reference's value; positive is better, as the paper prints it), ``n_sensors``, ``sentence``.
    """
    who = "paired_differences"
    if side not in experiments.get(reference, {}):
        known = [name for name, sides in experiments.items() if side in sides]
        raise ParameterError(who, f"there is no such experiment on side {side!r}", got=reference, expected=known)
    scores = {name: _scored(who, sides[side], clusters) for name, sides in experiments.items() if side in sides}
    options = {"n_boot": n_boot, "seed": seed}
    if clusters is not None:
        options["clusters"] = pd.concat(scores.values()).drop_duplicates("sensor_id").set_index("sensor_id")[clusters]
    rows = []
    for name in (one for one in scores if one != reference):
        for score in map(metric, SCORES[:3]):
            found = compare(scores[name], scores[reference], score, names=(name, reference), **options)
            gain, better = found.difference, 1.0 if score.better == "high" else -1.0
            row = {"experiment": name, "reference": reference, "metric": score.short, "value": found.a_value}
            row |= {"reference_value": found.b_value, "difference": gain.value, "low": gain.low, "high": gain.high}
            row |= {"percent": 100.0 * better * gain.value / abs(found.b_value), "n_sensors": gain.n}
            rows.append(row | {"sentence": found.sentence})
    return pd.DataFrame(rows)


def network_scores(
    tables: Mapping[str, pd.DataFrame],
    *,
    min_obs: int = MIN_OBS,
    clusters: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean R and ubRMSE of each model by sensor network, with intervals, from predictions by model with a column ``network``.

    The options are those of `results_table`; sensors with fewer samples than `min_obs` have no score.

    Returns
    -------
    DataFrame
        One row a model and network: ``model``, ``network``, ``n_sensors``, ``n_scored``, and ``pearson_r`` and ``ubrmse`` with
        ``_low`` and ``_high`` (95 %; none for fewer than five sensors).
    """
    options = {"metrics": list(_NETWORK_TABLES), "clusters": clusters, "n_boot": n_boot, "seed": seed}
    parts = []
    for model, table in tables.items():
        check_table(f"network_scores ({model})", table, ["network"])
        found = stratify(score_sensors(table, min_obs=min_obs), "network", **options).drop(columns=["label", "few"])
        found.insert(0, "model", model)
        parts.append(found)
    return pd.concat(parts, ignore_index=True)


def networks_beside(scores: pd.DataFrame, score: str, *, model: str) -> pd.DataFrame:
    """One score of `network_scores` by network, of a run and of the published works, as text.

    `model` stands against the paper's network; SMAP and GLDAS stand against the paper's own. By network: this run's columns
    ("0.68 [0.61, 0.74] (12)": value, interval, sensors with a score), then the paper's. "?" marks a number that the paper has
    but whose column is not certain; ``attrs["caveats"]`` says why.
    """
    who, models = "networks_beside", sorted(set(scores["model"]))
    check_choice(who, "score", score, _NETWORK_TABLES)
    check_choice(who, "model", model, models)
    table = published("batchu2023", _NETWORK_TABLES[score])
    run = {}
    for name in (one for one in (model, *PRODUCTS) if one in models):
        own = scores[scores["model"] == name].set_index("network")
        texts = [interval_text(*(row.get(f"{score}{end}") for end in _ENDS)) for _, row in own.iterrows()]
        said = [text and f"{text} ({n})" for text, n in zip(texts, own["n_scored"], strict=True)]
        run[f"{name}, run"] = pd.Series(said, own.index.astype(str))
    order = list(table.rows) + sorted(set(scores["network"].astype(str)) - set(table.rows))
    paper = table.frame().map(lambda value: "" if pd.isna(value) else f"{value:g}").reindex(order)
    for row, column in table.omitted:
        paper.loc[row, column] = "?"
    paper.columns = [f"{name}, paper" if name in ("Ours", *PRODUCTS) else name for name in paper.columns]
    result = pd.concat([pd.DataFrame(run).reindex(order), paper], axis=1).fillna("")
    result = result[(result != "").any(axis=1)].rename_axis("network")
    result.attrs["caveats"] = table.caveats
    return result
