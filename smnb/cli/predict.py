"""The command ``smnb predict``; `smnb.cli.app` registers it."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command of the released models to the application."""
    app.command(epilog="Example: smnb predict conus_points station_10day.csv.gz --out predicted.csv")(predict)


def predict(
    model: Annotated[str, typer.Argument(help="Name of a model of the package, e.g. conus_points.")],
    table: Annotated[str, typer.Argument(help="CSV or CSV.gz: the columns of station_10day less the in-situ one.")],
    out: Annotated[str, typer.Option(help="CSV or CSV.gz for the same rows with predicted and n_sources.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Predict soil moisture for every row of a table with a released model.

    The file has the same rows in the same order, with "predicted" in m3 m-3 and "n_sources": how many of Sentinel-1,
    Sentinel-2, SMAP and static values the row has, 0 to 4. A station's prediction depends on its own rows alone, and best
    on all of its series: means and quantiles over it are inputs. An in-situ column is kept and not looked at.
    """
    from smnb.pretrained import predict_table

    result = predict_table(model, table, out)
    report = result.report
    if as_json:
        typer.echo(json.dumps({"written": str(result.path), "model": model, **report}, indent=2))
        return
    typer.echo(f"{report['rows']:,} rows of {report['stations']} stations predicted with {model}")
    typer.echo(
        "sources in a row: " + ", ".join(f"{n}: {rows:,} rows" for n, rows in report["rows_by_n_sources"].items())
    )
    if report["rows_of_unknown_land_cover"]:
        typer.echo(
            f"{report['rows_of_unknown_land_cover']:,} rows have a land-cover code that is no NLCD code: unknown"
        )
    if report["rows_repeated"]:
        typer.echo(f"{report['rows_repeated']:,} rows repeat a station and time; such rows were averaged")
    typer.echo(f"written: {result.path}")
