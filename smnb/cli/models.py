"""Commands of models: ``smnb models``, ``map``, ``predict`` and ``retrieve``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from smnb.cli.frame import Json, Resume, Scheduler, Table, Workers, command, show, shown_progress

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
    checkpoint: Annotated[str, typer.Argument(help="A .safetensors with its .json beside it, or smap_s1_3km.")],
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
    region: Annotated[str | None, typer.Option(help="WEST,SOUTH,EAST,NORTH, degrees; of smap_s1_3km.")] = None,
    detail: Annotated[str, typer.Option(help="cautious or product; of smap_s1_3km.")] = "cautious",
    as_json: Json = False,
) -> None:
    """Apply a trained network to a whole scene, tile by tile, and write its soil moisture.

    smap_s1_3km takes an archive of SPL2SMAP_S and SPL3SMP_E granules, a region and a time: whole cells of 36 km at the overpasses
    nearest to it.

    A cell that lacks an input is missing in the map and counted. Finished tiles are kept beside the map until it is whole,
    so a map that was killed goes on where it was; --no-resume replaces an existing one.
    """
    from smnb.maps import map_checkpoint
    from smnb.pretrained import CELL_MODELS, map_region
    from smnb.training import choose_device

    if checkpoint in CELL_MODELS:
        n_cells, n_missing = map_region(checkpoint, path, out, region or "", time or "", detail=detail)
        content = {"written": out, "cells": n_cells, "missing": n_missing}
        show(content, as_json, f"{n_cells:,} cells of 3 km, {n_missing:,} of them missing", f"written: {out}")
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
    sites: Annotated[str | None, typer.Option(help="CSV of site, lat, lon, elev_m, soil; of station_daily.")] = None,
    as_json: Json = False,
) -> None:
    """Predict soil moisture with a released model: for every row of a table, or every scene of a folder of cells.

    A table keeps its rows and order, with "predicted" in m3 m-3 and "n_sources": how many of Sentinel-1, Sentinel-2, SMAP and
    static values the row has, 0 to 4. A station's prediction depends on its own rows alone, and best on all of its series: means
    and quantiles over it are inputs. An in-situ column is kept and not looked at.

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
    result = predict_table(model, source, out)
    report = result.report
    by_sources = ", ".join(f"{n}: {rows:,} rows" for n, rows in report["rows_by_n_sources"].items())
    lost = {name: sum(by_reason.values()) for name, by_reason in report["masked"].items()}
    by_column, repeated = ", ".join(f"{one} {n:,}" for one, n in lost.items()), report["rows_repeated"]
    unknown = report["rows_of_unknown_land_cover"]
    show(
        {"written": str(result.path), "model": model, **report},
        as_json,
        f"{report['rows']:,} rows of {report['stations']} stations predicted with {model}",
        f"sources in a row: {by_sources}",
        f"{sum(lost.values()):,} numbers are no data and were taken as missing: {by_column}" if lost else None,
        f"{unknown:,} rows have a land-cover code that is no NLCD code: unknown" if unknown else None,
        f"blanks around {', '.join(map(repr, report['names_trimmed'][:5]))} were trimmed"
        if report["names_trimmed"]
        else None,
        f"{repeated:,} rows repeat a station and time; such rows were averaged" if repeated else None,
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
