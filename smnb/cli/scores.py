"""The commands ``smnb score`` and ``smnb compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnb.cli.frame import Json, Table, command, show

if TYPE_CHECKING:
    import pandas as pd


MinObs = Annotated[int, typer.Option(help="Sensors with fewer pairs get no score.")]
_CLUSTERS = "Column drawn again for averages, e.g. network or sensor_id; default blocks of 3 degrees, or the station."
_SHOWN = ("n", "bias", "rmse", "ubrmse", "r", "anomaly_r")  # what the printed table shows; the file has all


@command("smnb score predictions.csv --out scores.csv --by climate --intervals")
def score(
    table: Annotated[str, typer.Argument(help="CSV or Parquet: sensor_id, time, observed, predicted, strata.")],
    out: Annotated[str, typer.Option(help="File for the scores, CSV.")],
    by: Annotated[list[str] | None, typer.Option(help="Stratum (a column of the table); repeat.")] = None,
    intervals: Annotated[bool, typer.Option("--intervals", help="Add intervals, which respect dependence.")] = False,
    min_obs: MinObs = 13,
    clusters: Annotated[str | None, typer.Option(help=_CLUSTERS)] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    as_json: Json = False,
) -> None:
    """Score a table of predictions per sensor.

    The file has a row a sensor, then the rows mean, cluster_mean (each cluster weighing the same), median (over sensors)
    and pooled (all pairs together); its column "kind" tells them apart. A stratum goes into a file of its own beside it,
    OUT with .by_STRATUM; an asterisk marks fewer than five sensors.
    """
    import pandas as pd

    from smnb.contract import ParameterError
    from smnb.files import atomic_set, check_output, held_output, write_text
    from smnb.metrics import DEFAULT_METRICS, METRICS, count_losses
    from smnb.sensors import read_predictions, score_sensors, stratify, summary_rows

    if not out.lower().endswith(".csv"):
        raise ParameterError("smnb score", "--out does not end in .csv", got=out)
    strata = {name: str(Path(out).with_name(f"{Path(out).stem}.by_{name}.csv")) for name in by or []}
    for path in (out, *strata.values()):
        check_output("smnb score", path)
    predictions = read_predictions(table, labels=[*strata, *([clusters] if clusters else [])])
    wanted = [name for name in DEFAULT_METRICS if METRICS[name].smooth] if intervals else []
    _check_columns("smnb score", predictions, [*strata, *([clusters] if clusters else [])])
    sensors = score_sensors(predictions, min_obs=min_obs, intervals=wanted, seed=seed)
    summary = summary_rows(predictions, sensors, intervals=intervals, clusters=clusters, seed=seed)
    drawn = summary.attrs["clusters"]
    lost, losses = count_losses(predictions, sensors, min_obs)
    counted = [name for name in lost if name != "note"]
    summary = summary.assign(**lost[counted].sum(), note=losses["said"])
    rows = pd.concat([sensors.assign(kind="sensor", n_sensors=1, **lost), summary], ignore_index=True)
    shorts = {f"{name}{end}": f"{one.short}{end}" for name, one in METRICS.items() for end in ("", "_low", "_high")}
    columns = ["kind", "sensor_id", "n_sensors", "n"]
    for name in DEFAULT_METRICS:
        columns += [name, *(f"{name}_{end}" for end in ("low", "high") if name in wanted)]
    places = [name for name in ("network", "station", "lat", "lon") if name in rows.columns]
    written = {out: rows[[*columns, "reason", *lost, *dict.fromkeys([*places, *strata])]].rename(columns=shorts)}
    options = {"intervals": intervals, "clusters": clusters, "seed": seed}
    for name, beside in strata.items():
        found = stratify(sensors, name, metrics=("ubrmse", "rmse", "pearson_r"), **options)
        found["few"] = found["few"].map({True: "*", False: ""})
        written[beside] = found.drop(columns="label").rename(columns=shorts)
    target = Path(out)
    with held_output("smnb score", *written, patience=60), atomic_set(target.parent, target.name) as made:
        for path, content in written.items():
            write_text(made / Path(path).name, content.to_csv(index=False))
    label = " (synthetic)" if predictions.attrs.get("synthetic") else ""
    scored = int(summary["n_sensors"].iloc[0])
    averages = written[out].iloc[len(sensors) :]
    rows = [[row["kind"], *(_cell(row, name) for name in _SHOWN)] for _, row in averages.iterrows()]
    tables = [Table(["", *_SHOWN], rows)]
    for name, beside in strata.items():
        head = [name, "n_sensors", "ubrmse", "rmse", "r"]
        found = written[beside].iterrows()
        tables.append(Table(head, [[row[name] + row["few"], *(_cell(row, n) for n in head[1:])] for _, row in found]))
    said = [
        f"intervals draw {drawn['number']} times a {drawn['what']}, which count as {drawn['effective']:.1f} of one size"
    ]
    said += [f"no interval of the mean: {drawn['note']}; see cluster_mean"] if drawn["note"] else []
    show(
        {path: content.to_dict("records") for path, content in written.items()} | {"losses": losses, "clusters": drawn},
        as_json,
        f"{predictions.attrs['model']}{label}: {scored} of {len(sensors)} sensors have {min_obs} pairs or more",
        losses["said"] or None,
        *(said if intervals else ()),
        *tables,
        "written: " + ", ".join(written),
    )


@command("smnb compare cnn.parquet smap.parquet --metric ubrmse", "compare")
def compare_models(
    a: Annotated[str, typer.Argument(help="Predictions of one model, CSV or Parquet.")],
    b: Annotated[str, typer.Argument(help="Predictions of the other at the same sensors.")],
    metric: Annotated[str, typer.Option(help="ubrmse, rmse, bias, r, spearman, r2 or anomaly_r.")] = "ubrmse",
    min_obs: MinObs = 13,
    clusters: Annotated[str | None, typer.Option(help=_CLUSTERS)] = None,
    own_pairs: Annotated[bool, typer.Option("--own-pairs", help="Score each on all its own pairs.")] = False,
    seed: Annotated[int, typer.Option(help="Of the interval.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare two models over the same sensors: the paired difference of a score, with its interval."""
    import pandas as pd

    from smnb.contract import check_choice
    from smnb.metrics import DEFAULT_METRICS, METRICS, compare, count_losses
    from smnb.metrics.tables import named_sensors
    from smnb.sensors import cluster_labels, read_predictions, same_pairs, score_sensors

    known = {one.short: one for one in (METRICS[name] for name in DEFAULT_METRICS) if one.better}
    short = next((one.short for one in known.values() if metric == one.name), metric)
    check_choice("smnb compare", "metric", short, known)
    whole = tables = [read_predictions(path, labels=[clusters] if clusters else []) for path in (a, b)]
    left_out = 0
    if not own_pairs:
        *tables, left_out = same_pairs(*tables)
    paired = (set(table.dropna(subset=["observed", "predicted"])["sensor_id"]) for table in whole)
    only_one = sorted(set.symmetric_difference(*paired))
    for table in tables:
        _check_columns("smnb compare", table, [clusters] if clusters else [])
    scores = [score_sensors(table, min_obs=min_obs) for table in tables]
    names = tuple(str(table.attrs["model"]) for table in tables)
    names = names if names[0] != names[1] else (a, b) if a != b else ("A", "B")
    labels = cluster_labels(scores[0].set_index("sensor_id", drop=False), clusters)
    found = compare(*scores, known[short], names=names, clusters=labels, seed=seed)
    synthetic = any(table.attrs.get("synthetic") for table in tables)
    interval = found.difference
    content = {"metric": metric, "a": names[0], "b": names[1], "difference": interval.value, "n_sensors": interval.n}
    content |= {name: getattr(found, name) for name in ("a_value", "b_value", "sentence")}
    content |= {name: getattr(interval, name) for name in ("low", "high", "level", "note", "clusters", "effective")}
    content |= {"drawn": labels.name, "by_cluster": vars(found.by_cluster)}
    losses = {}
    for side, table, compared in zip(("a", "b"), whole, scores, strict=True):
        ids = pd.DataFrame({"sensor_id": sorted(table["sensor_id"].unique())})
        n = ids["sensor_id"].map(compared.set_index("sensor_id")["n"]).fillna(0).astype(int)
        losses[side] = count_losses(table, ids.assign(n=n), min_obs)[1]
    content |= {"losses": losses, "sensors_of_one_only": only_one}
    content |= {"sensors_scored_by_one_only": found.n_only_one, "pairs_left_out": left_out, "synthetic": synthetic}
    show(
        content,
        as_json,
        found.sentence + (" (synthetic)" if synthetic else ""),
        f"{metric}: {names[0]} {found.a_value:.4f}, {names[1]} {found.b_value:.4f}",
        f"{left_out:,} pairs that only one of the two has are left out" if left_out else None,
        f"pairs in one of the two only: {named_sensors(only_one)}" if only_one else None,
        *(f"{name}: {one['said']}" for name, one in zip(names, losses.values(), strict=True) if one["said"]),
    )


def _check_columns(who: str, table: pd.DataFrame, names: list[str]) -> None:
    from smnb.contract import ContractError

    for name in names:
        others = [str(c) for c in table.columns if c not in ("time", "observed", "predicted")]
        if name not in others:
            raise ContractError(who, f"the table has no column {name!r}", got=others)
        several = table.groupby("sensor_id")[name].nunique(dropna=False) > 1
        if several.any():
            raise ContractError(who, f"a sensor has more than one {name!r}", got=several.index[several][0])


def _cell(row: pd.Series, name: str) -> str:
    from smnb.metrics import interval_text

    value = row[name]
    if name.startswith("n"):
        return f"{int(value):,}"
    return interval_text(value, row.get(f"{name}_low"), row.get(f"{name}_high"), ".4f")
