"""Scores by sensor network beside the published works: the paper's Tables 13 and 14."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from smnb.contract import ContractError, ParameterError, RunError
from smnb.metrics import interval_text
from smnb.papers.batchu2023.data import FULL_MODEL, PRODUCTS
from smnb.papers.batchu2023.pictures import folder_name
from smnb.papers.tables import PublishedTable, published
from smnb.sensors import read_predictions, score_sensors, stratify

#: The paper's table of each score.
BENCHMARK_TABLES = {"pearson_r": "Table 13", "ubrmse": "Table 14"}
_PRODUCTS = {"SMAP": "smap_", "GLDAS": "gldas_"}


def benchmark_tables(folder: Path, files: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """Predictions to benchmark, by model.

    Parameters
    ----------
    folder : Path
        A run's folder, in which notebook 05 left ``predictions/<model>_<side>.parquet``: the full model's and the
        coarse products' at validation and test sensors are taken, together.
    files : sequence of str
        Tables of predictions to take instead, each one a model.

    Raises
    ------
    RunError
        If the folder has none.
    """
    if files:
        found = [read_predictions(one) for one in files]
        return {str(table.attrs.get("model") or Path(one).stem): table for one, table in zip(files, found, strict=True)}
    tables = {}
    for name in (FULL_MODEL, *PRODUCTS):
        paths = [
            Path(folder) / "predictions" / f"{folder_name(name)}_{side}.parquet" for side in ("validation", "test")
        ]
        sides = [read_predictions(path) for path in paths if path.is_file()]
        if sides:
            tables[name] = pd.concat(sides, ignore_index=True)
            tables[name].attrs.update(sides[0].attrs)
    if not tables:
        raise RunError(
            "benchmark_tables",
            f"{folder} holds no predictions of notebook 05",
            got=str(Path(folder) / "predictions"),
            next_step="Run notebook 05 into the same folder first (smnb run 05 09), or name tables of predictions",
        )
    return tables


def network_scores(
    tables: Mapping[str, pd.DataFrame],
    *,
    min_obs: int = 13,
    clusters: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean scores of each model by sensor network, with intervals.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Predictions by model: ``sensor_id``, ``network``, ``time``, ``observed``, ``predicted``.
    min_obs : int
        Sensors with fewer pairs get no score.
    clusters, n_boot, seed
        As `smnb.sensors.stratify`.

    Returns
    -------
    DataFrame
        One row a model and network: ``model``, ``network``, ``n_sensors``, ``n_scored``, and ``pearson_r`` and ``ubrmse`` with
        ``_low`` and ``_high`` (95 %; none for fewer than five sensors).

    Raises
    ------
    ContractError
        If a table does not say of which network its sensors are.
    """
    parts = []
    for model, table in tables.items():
        if "network" not in table:
            raise ContractError(
                "network_scores", f"predictions of {model!r} have no column 'network'", got=list(map(str, table))
            )
        scores = score_sensors(table, min_obs=min_obs)
        found = stratify(scores, "network", metrics=list(BENCHMARK_TABLES), clusters=clusters, n_boot=n_boot, seed=seed)
        parts.append(found.drop(columns=["label", "few"]).assign(model=model))
    result = pd.concat(parts, ignore_index=True)
    return result[["model", *(name for name in result.columns if name != "model")]]


def networks_beside(scores: pd.DataFrame, metric: str, *, model: str) -> pd.DataFrame:
    """One score by network, of a run and of the published works, as text.

    Parameters
    ----------
    scores : DataFrame
        From `network_scores`.
    metric : {"pearson_r", "ubrmse"}
    model : str
        Which of its models stands against the paper's network; SMAP and GLDAS stand against the paper's own.

    Returns
    -------
    DataFrame
        By network: this run's columns ("0.68 [0.61, 0.74] (12)": value, interval, sensors with a score), then the paper's. "?"
        marks a number that the paper has but whose column is not certain; ``attrs["caveats"]`` says why.

    Raises
    ------
    ParameterError
        On an unknown score or model.
    """
    if metric not in BENCHMARK_TABLES:
        raise ParameterError(
            "networks_beside", "the paper has no such table", got=metric, expected=list(BENCHMARK_TABLES)
        )
    if model not in set(scores["model"]):
        raise ParameterError(
            "networks_beside", "the run has no such model", got=model, expected=sorted(set(scores["model"]))
        )
    table = published("batchu2023", BENCHMARK_TABLES[metric])
    run = {
        f"{name}, run": _texts(scores[scores["model"] == name], metric)
        for name in (model, *_PRODUCTS)
        if name in set(scores["model"])
    }
    order = list(table.rows) + sorted(set(scores["network"].astype(str)) - set(table.rows))
    shown = pd.DataFrame(run).reindex(order)
    paper = table.frame().map(lambda value: "" if pd.isna(value) else f"{value:g}").reindex(order)
    for row, column in table.omitted:
        paper.loc[row, column] = "?"
    paper.columns = [f"{name}, paper" if name in ("Ours", *_PRODUCTS) else name for name in paper.columns]
    result = pd.concat([shown, paper], axis=1).fillna("")
    result = result[(result != "").any(axis=1)].rename_axis("network")
    result.attrs["caveats"] = table.caveats
    return result


def comparable(scores: pd.DataFrame, table: PublishedTable, *, model: str, metric: str) -> pd.DataFrame:
    """The run's means as `smnb.papers.tables.compare_with` takes them, of networks that the paper's table has."""
    columns = {model: metric, **{name: f"{prefix}{metric}" for name, prefix in _PRODUCTS.items()}}
    wide = scores[scores["model"].isin(columns)].pivot_table(index="network", columns="model", values=metric)
    return wide.rename(columns=columns).loc[[name for name in table.rows if name in wide.index]]


def _texts(scores: pd.DataFrame, metric: str) -> pd.Series:
    def text(row: pd.Series) -> str:
        said = interval_text(*(row.get(f"{metric}{end}") for end in ("", "_low", "_high")))
        return said and f"{said} ({int(row['n_scored'])})"

    return pd.Series({str(row["network"]): text(row) for _, row in scores.iterrows()})
