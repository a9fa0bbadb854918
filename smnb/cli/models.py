"""Commands of models and their scores: ``smnb models``, ``map``, ``predict``, ``retrieve``, ``score`` and ``compare``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnb.cli.frame import Json, Resume, Scheduler, Table, Workers, command, show, shown_progress

if TYPE_CHECKING:
    import pandas as pd

MinObs = Annotated[int, typer.Option(help="Sensors with fewer pairs get no score.")]
_CLUSTERS = "Column drawn again for averages, e.g. network or sensor_id; default blocks of 3 degrees, or the station."
_SHOWN = ("n", "bias", "rmse", "ubrmse", "r", "anomaly_r")  # what the printed table shows; the file has all
GROUP, CHECKED_RELEASES = "Soil_Moisture_Retrieval_Data", ("R18",)


@command("smnb models --json")
def models(as_json: Json = False) -> None:
    """List networks, with paper, inputs and parameter count."""
    from smnb.models import MODELS

    columns = ["name", "parameters", "inputs", "paper", "description"]
    rows = [[name, e.n_parameters, e.inputs, e.paper, e.description] for name, e in MODELS.items()]
    shown = [[name, f"{number:,}", *rest] for name, number, *rest in rows]
    show([dict(zip(columns, row, strict=True)) for row in rows], as_json, Table(columns, shown, "Models"))


@command("smnb map model.safetensors scene.nc --out soil_moisture.tif", "map")
def map_(
    checkpoint: Annotated[
        str, typer.Argument(help="A .safetensors with its .json beside it, or smap_s1_3km, smap_s1_1km.")
    ],
    path: Annotated[
        str, typer.Argument(metavar="INPUT", help="NetCDF or Zarr with its channels, or an archive of granules.")
    ],
    out: Annotated[str, typer.Option(help="Map to write: FILE.nc, FILE.zarr (CF) or FILE.tif (COG).")],
    tile: Annotated[int, typer.Option(help="Side of a tile, cells.")] = 256,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    resume: Resume = True,
    time: Annotated[str | None, typer.Option(help="Which image, if INPUT has several times (2020-09-01).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32, or bfloat16: faster and less exact.")] = "float32",
    region: Annotated[str | None, typer.Option(help="WEST,SOUTH,EAST,NORTH, degrees; of smap_s1_*.")] = None,
    detail: Annotated[str, typer.Option(help="cautious or product; of smap_s1_*.")] = "cautious",
    as_json: Json = False,
) -> None:
    """Apply a trained network to a whole scene, tile by tile, and write its soil moisture.

    smap_s1_3km and smap_s1_1km take an archive of SPL2SMAP_S and SPL3SMP_E granules, a region and a time: whole cells of 36 km at
    the overpasses nearest to it.

    A cell that lacks an input is missing in the map and counted. Finished tiles are kept beside the map until it is whole,
    so a map that was killed goes on where it was; --no-resume replaces an existing one.
    """
    from smnb.maps import map_checkpoint
    from smnb.training import choose_device

    if checkpoint in ("smap_s1_3km", "smap_s1_1km"):  # models of cells, whose imports other maps need not wait for
        from smnb.pretrained import map_region

        n_cells, n_missing = map_region(checkpoint, path, out, region or "", time or "", detail=detail)
        content = {"written": out, "cells": n_cells, "missing": n_missing}
        show(
            content, as_json, f"{n_cells:,} cells of {checkpoint[8:]}, {n_missing:,} of them missing", f"written: {out}"
        )
        return
    options = {"when": time, "tile": tile, "workers": workers, "scheduler": scheduler, "resume": resume}
    options |= {"device": choose_device(device).type, "precision": precision}
    with shown_progress() as progress:
        options["progress"] = lambda done, total: progress("map", "cell", done, total)
        result = map_checkpoint(checkpoint, path, out, **options)
    content = {"written": result.path}
    content |= {name: getattr(result, f"n_{name}") for name in ("cells", "predicted", "missing", "tiles", "resumed")}
    content |= {"missing_by_channel": result.missing_by_channel, "was_finished": result.was_finished}
    content["seconds"] = round(result.seconds, 3)
    if result.was_finished:
        show(content, as_json, f"up to date: {result.path}")
        return
    resumed = f", {result.n_resumed} of them from before" if result.n_resumed else ""
    by_channel = ", ".join(f"{name} {number:,}" for name, number in result.missing_by_channel.items() if number)
    counts = f"{result.n_cells:,} cells in {result.n_tiles} tiles{resumed}, {result.n_missing:,} of them missing"
    written = f"written: {result.path} in {result.seconds:.1f} s"
    show(content, as_json, counts + (f" ({by_channel})" if by_channel else ""), written)


@command("smnb predict smap_s1_3km cells/ --out estimates/ --detail product")
def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="A model of the package: conus_points, smap_s1_3km, smap_s1_1km, station_daily, smap_weather."
        ),
    ],
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="CSV of stations, a folder of 36 km cells, or NetCDF (smap_weather).")
    ],
    out: Annotated[str, typer.Option(help="CSV or CSV.gz for the same rows, or a folder for a file a cell.")],
    detail: Annotated[str, typer.Option(help="cautious (what flights bear out) or product; of cells.")] = "cautious",
    at: Annotated[str | None, typer.Option(help="CSV with a column time: estimate then; of cells.")] = None,
    calibrate: Annotated[
        str | None, typer.Option(help="CSV of readings that correct their stations; of tables.")
    ] = None,
    sites: Annotated[str | None, typer.Option(help="CSV of site, lat, lon, elev_m, soil; of station_daily.")] = None,
    as_json: Json = False,
) -> None:
    """Predict soil moisture with a released model: for every row of a table, or every scene of a folder of cells.

    A table keeps its rows and order, with "predicted", "low90" and "high90" in m3 m-3 and "n_sources": how many of Sentinel-1,
    Sentinel-2, SMAP and static values the row has, 0 to 4. A station's prediction depends on its own rows alone, and best on all
    of its series: means and quantiles over it are inputs. An in-situ column is kept and not looked at. --calibrate takes a few
    readings of the same stations, at some of the rows (network, station, start, soil_moisture), which give a station its level
    and narrow its interval.

    A folder holds spl2smap_s_*.nc, pairs_*.nc and smap_9km_*.nc of cells; each file of scenes becomes OUT/<same name> with
    soil_moisture and its 90 % interval. An estimate uses SMAP up to its time and earlier scenes only, at 1 km
    (smap_s1_1km) also the scene's own backscatter and vegetation water.

    station_daily takes days of weather (site, date, precip_mm, tair_c) and --sites (site, lat, lon, and elev_m, clay_percent,
    silt_percent, sand_percent as far as known): every row comes back with predicted, low90, high90 and a flag. smap_weather takes
    cells with daily NLDAS-2 weather and gives SMAP_AM(cell, time) with its interval.
    """
    from smnb.pretrained import CELL_MODELS, WEATHER_MODELS, predict_folder, predict_table, predict_weather

    if sites is not None or model in WEATHER_MODELS:
        content = predict_weather(model, source, out, sites)
        lines = [f"{name.replace('_', ' ')}: {value:,}" for name, value in content.items() if isinstance(value, int)]
        lines += [f"{name}: {value}" for name, value in content.items() if not isinstance(value, int) and value]
        show({"model": model, **content}, as_json, *lines)
        return
    if model in CELL_MODELS:
        report = predict_folder(model, source, out, detail=detail, at=at)
        lines = [
            f"{name}: {one['estimates']} estimates"
            + ("" if one["smap"] else ", without SMAP at 9 km")
            + (f", {one['times_without_overpass']} times without an overpass" if one["times_without_overpass"] else "")
            if "written" in one
            else f"{name}: dropped, {one['dropped']}"
            for name, one in report.items()
        ]
        show({"written": out, "model": model, "detail": detail, "files": report}, as_json, *lines, f"written: {out}")
        return
    result = predict_table(model, source, out, calibrate=calibrate)
    report = result.report
    by_sources = ", ".join(f"{n}: {rows:,} rows" for n, rows in report["rows_by_n_sources"].items())
    lost = {name: sum(by_reason.values()) for name, by_reason in report["masked"].items()}
    by_column, repeated = ", ".join(f"{one} {n:,}" for one, n in lost.items()), report["rows_repeated"]
    unknown, trimmed = report["rows_of_unknown_land_cover"], ", ".join(map(repr, report["names_trimmed"][:5]))
    show(
        {"written": str(result.path), "model": model, **report},
        as_json,
        f"{report['rows']:,} rows of {report['stations']} stations predicted with {model}",
        f"sources in a row: {by_sources}",
        f"{sum(lost.values()):,} numbers are no data and were taken as missing: {by_column}" if lost else None,
        f"{unknown:,} rows have a land-cover code that is no NLCD code: unknown" if unknown else None,
        f"blanks around {trimmed} were trimmed" if trimmed else None,
        f"{repeated:,} rows repeat a station and time; such rows were averaged" if repeated else None,
        f"{report['readings_used']:,} readings correct {report['stations_calibrated']:,} stations; "
        f"{report['readings_at_no_row']:,} are at no row, {report['readings_without_value']:,} have no value, "
        f"{report['readings_in_percent']:,} were per cent"
        if calibrate
        else None,
        f"written: {result.path}",
    )


@command("smnb retrieve SMAP_L2_SM_P_....h5 --method sca-v --out retrieved.csv")
def retrieve(
    granule: Annotated[str, typer.Argument(help="SPL2SMP or SPL2SMP_E granule (or L3 day), HDF5.")],
    out: Annotated[str, typer.Option(help="File for the cells, CSV.")],
    method: Annotated[str, typer.Option(help="sca-v, sca-h (one polarisation) or dca (both).")] = "sca-v",
    group: Annotated[str, typer.Option(help="Group of the fields, e.g. one of a polar grid.")] = GROUP,
    as_json: Json = False,
) -> None:
    """Retrieve soil moisture from a SMAP granule's brightness temperatures, and compare with the product's own.

    OUT has a row a cell, by row and column of the grid, soil moisture in m3 m-3, empty where there is none. R, bias and
    ubRMSD are those over the cells whose retrieval by the same method the product recommends.
    """
    import pandas as pd

    from smnb.contract import ParameterError, check_choice
    from smnb.files import check_output, held_output, write_text
    from smnb.loaders.smap import read_fields
    from smnb.metrics import bias, n_obs, pearson_r, ubrmse
    from smnb.models.physics.smap import FLAG_FILL, PHYSICAL_METHODS, count_statuses, retrieve_physical

    check_choice("smnb retrieve", "method", method, PHYSICAL_METHODS)
    if not out.lower().endswith(".csv"):
        raise ParameterError("smnb retrieve", "--out does not end in .csv", got=out)
    check_output("smnb retrieve", out)
    fields, release = read_fields(granule, group)
    result = retrieve_physical(fields, method, who=granule)
    columns = {"row": "EASE_row_index", "col": "EASE_column_index", "lat": "latitude", "lon": "longitude"}
    cells = pd.DataFrame({name: fields[field] for name, field in columns.items()}).astype({"row": int, "col": int})
    cells = cells.assign(soil_moisture=result.soil_moisture, product_soil_moisture=result.product_soil_moisture)
    cells = cells.assign(recommended=result.recommended.astype(int))
    cells = cells[cells["row"].between(0, FLAG_FILL - 1)]  # the place of a cell of an L3 day may be a fill value
    cells = cells.sort_values(["row", "col"], kind="stable")
    with held_output("smnb retrieve", out, patience=60):
        write_text(out, cells.to_csv(index=False, float_format="%.6f"))
    pair = result.soil_moisture, result.product_soil_moisture
    by = {"r": pearson_r, "bias": bias, "ubrmsd": ubrmse}
    scores = {name: float(score(*pair, mask=result.recommended)) for name, score in by.items()}
    scores["n"] = int(n_obs(*pair, mask=result.recommended))
    counts = count_statuses(result.status)
    clipped = sum(n for name, n in counts.items() if name.startswith("clipped"))
    notes = list(result.notes)
    if not release.startswith(CHECKED_RELEASES):
        notes.append(f"what the fields mean was checked on release {', '.join(CHECKED_RELEASES)}, not on {release}")
    content = {"granule": granule, "release": release, "method": method, **scores, "cells": result.status.size}
    content |= {"by_status": counts, "clipped": clipped, "notes": notes, "written": out}
    shown = []
    for label, key, form in (("R", "r", ".5f"), ("bias", "bias", "+.5f"), ("ubRMSD", "ubrmsd", ".5f")):
        text = format(round(scores[key], 5) + 0.0, form)  # no -0
        shown.append(f"{label} {text if math.isfinite(scores[key]) else 'undefined'}")
    rest = {k: n for k, n in counts.items() if k not in ("retrieved", "no input") and not k.startswith("clipped")}
    detail = ", ".join(f"{k.removeprefix('clipped ')} {n:,}" for k, n in counts.items() if k.startswith("clipped"))
    show(
        content,
        as_json,
        f"{Path(granule).name}, release {release}: {PHYSICAL_METHODS[method][0]} ({method})",
        f"against the product, recommended cells: {'  '.join(shown)}  m3 m-3  n {scores['n']:,}",
        f"{result.status.size:,} cells: retrieved {counts.get('retrieved', 0):,}, clipped {clipped:,}"
        + (f" ({detail})" if detail else "")
        + f", without input {counts.get('no input', 0):,}"
        + "".join(f", {k} {n:,}" for k, n in rest.items()),
        *(f"  {note}" for note in notes),
        f"written: {out}",
    )


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
    alike = f"which count as {drawn['effective']:.1f} of one size"
    said = [f"intervals draw {drawn['number']} times a {drawn['what']}, {alike}"]
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
