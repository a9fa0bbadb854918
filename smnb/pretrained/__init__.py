"""Checkpoints that come with the package, and prediction of tables and of folders of cells with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from smnb import contract
from smnb.catalog import Catalog
from smnb.contract import CatalogError, FormatError, ParameterError, SmnbError, check_choice, plain
from smnb.files import atomic_path, held_output
from smnb.grids import M36
from smnb.loaders import parse_period, read_named_csv
from smnb.loaders.smap.cells import CELL_NAME
from smnb.maps import write_map
from smnb.maps.cells import DETAILS, ScenesEstimator
from smnb.maps.granules import map_window
from smnb.maps.writing import write_netcdf
from smnb.papers.smap_sentinel1.disaggregation import PixelEstimator
from smnb.papers.smen.estimation import CellEstimator
from smnb.papers.stations import predict_rows, read_points
from smnb.papers.stations.weather_files import predict_cells, predict_daily, read_daily
from smnb.sensors import read_readings
from smnb.training import Trained, load

__all__ = ["card_text", "load_pretrained", "map_region", "predict_folder", "predict_table", "predict_weather"]

_FOLDER = Path(__file__).resolve().parent
PRETRAINED = tuple(sorted(path.parent.name for path in _FOLDER.glob("*/model.json")))  # names of the checkpoints
#: Models of cells: what estimates a cell, and the kinds of files they are of.
CELL_MODELS: dict[str, tuple[type[ScenesEstimator], tuple[str, ...]]] = {
    "smap_s1_3km": (CellEstimator, ("spl2smap_s", "pairs")),
    "smap_s1_1km": (PixelEstimator, ("spl2smap_s",)),
}
WEATHER_MODELS = ("smap_weather", "station_daily")  # of daily weather: a file of cells, a table of stations


class PredictedTable(NamedTuple):
    """A table that was predicted: the file, its rows as text, and `PointRows`'s report with ``rows_by_n_sources``."""

    path: Path
    table: pd.DataFrame
    report: dict[str, object]


def _folder(who: str, name: str) -> Path:
    if name not in PRETRAINED:
        raise ParameterError(who, "unknown model", got=name, expected=list(PRETRAINED))
    return _FOLDER / name


def load_pretrained(name: str) -> Trained:
    """Load a checkpoint of the package by its name, one of `PRETRAINED`."""
    return load(_folder("load_pretrained", name) / "model")


def card_text(name: str) -> str:
    """The model's card: data, split, scores, limits; Markdown."""
    return (_folder("card_text", name) / "CARD.md").read_text(encoding="utf-8")


def predict_table(
    name: str, path: str | Path, out: str | Path, *, calibrate: str | Path | None = None
) -> PredictedTable:
    """Predict every row of a CSV file and write it with columns more.

    Parameters
    ----------
    name, path
        One of `PRETRAINED`; CSV or CSV.gz, with the columns that `smnb.papers.stations.read_points` names. In-situ soil
        moisture, where the file has it, is kept and not looked at.
    out : path-like
        CSV or CSV.gz to write: the same rows in the same order, every column as it was, and ``predicted``, ``low90``, ``high90``
        (m3 m-3) and ``n_sources`` (how many of Sentinel-1, Sentinel-2, SMAP and static values the row has). Written beside and
        renamed.
    calibrate : path-like, optional
        CSV of readings of these stations at some of the rows, ``network, station, start, soil_moisture``, which correct their
        station's predictions and narrow its intervals; ``readings`` counts them.

    Raises
    ------
    ParameterError, FormatError
        On an unknown model, or a name of the output that is no CSV's; on a table that `read_points` cannot use.
    """
    who, out = "predict_table", Path(out)
    if name in (*CELL_MODELS, *WEATHER_MODELS):
        step = "Use predict_folder" if name in CELL_MODELS else "Use predict_weather"
        raise ParameterError(who, "the model is of other inputs", got=name, next_step=step)
    _folder(who, name)
    _check_csv(who, out)
    with held_output(who, out):
        points, readings, used = read_points(path), None, {}
        if calibrate is not None:
            readings, used = _readings(who, calibrate, points.rows, ("network", "station"), "start")
        found = predict_rows(load_pretrained(name), points.rows, readings)
        table = _with_predictions(points.native, found)
        counts = {int(n): int(rows) for n, rows in found["n_sources"].value_counts().sort_index().items()}
        _write_csv(table, out)
        return PredictedTable(out, table, {**points.report, **used, "rows_by_n_sources": counts})


def _readings(
    who: str, path: str | Path, rows: pd.DataFrame, names: Sequence[str], time: str
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Readings of a file that are at rows of a table, and counts of what was used and left out."""
    readings, report = read_readings(path, names, time)
    keys = ["sensor_id", "time"]
    used = readings.merge(rows[keys].drop_duplicates(), on=keys)
    if used.empty:
        got = tuple(readings[keys].iloc[0].astype(str))
        what, step = "no reading is at a row of the table", f"Give {', '.join((*names, time))} as the table has them"
        raise FormatError(who, what, got=got, next_step=step)
    report |= {"readings_used": len(used), "readings_at_no_row": len(readings) - len(used)}
    return used, report | {"stations_calibrated": int(used["sensor_id"].nunique())}


def predict_weather(name: str, path: str | Path, out: str | Path, sites: str | Path | None = None) -> dict[str, object]:
    """Predict every row of a table of days, or every cell and time of a file of weather, with 90 % intervals; return a report.

    Parameters
    ----------
    name, path, out, sites
        ``station_daily``: CSV or CSV.gz, one to write with ``predicted``, ``low90``, ``high90`` and ``flag`` more
        (`smnb.papers.stations.weather_files.predict_daily`), and a CSV of the sites. ``smap_weather``: NetCDF, and one to write
        with ``SMAP_AM(cell, time)`` and its interval.

    Raises
    ------
    ParameterError, FormatError
        On an unknown model, a name of the output, or sites, that are not its; on files that cannot be used.
    """
    who, out = "predict_weather", Path(out)
    check_choice(who, "model", name, WEATHER_MODELS)
    if (name == "station_daily") != (sites is not None):
        step = "Give --sites SITES.csv with station_daily, and only there"
        raise ParameterError(who, "a table of sites belongs to a table of days", got=sites, next_step=step)
    if name == "smap_weather":
        if out.suffix != ".nc":
            raise ParameterError(who, "the output is no NetCDF file", got=out.name, expected="a name in .nc")
        with held_output(who, out), atomic_path(out) as temporary:
            dataset, report = predict_cells(load_pretrained(name), Path(path))
            contract.stamp(dataset, step=f"predict {Path(path).name}", source=f"smnb {name}", synthetic=False)
            write_netcdf(temporary, dataset, {})
        return {**report, "written": str(out)}
    _check_csv(who, out)
    with held_output(who, out):
        table = read_daily(path, sites)
        found = predict_daily(load_pretrained(name), table)
        words = found["flag"][found["flag"] != ""].str.split(";").explode().value_counts()
        _write_csv(_with_predictions(table.native, found), out)
    return {**table.report, "flags": {word: int(rows) for word, rows in words.items()}, "written": str(out)}


def _check_csv(who: str, out: Path) -> None:
    if not out.name.lower().endswith((".csv", ".csv.gz")):
        raise ParameterError(who, "the output is no CSV file", got=out.name, expected="a name in .csv or .csv.gz")


def _with_predictions(native: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """A table as text with the prediction and its interval, and what else was found, as columns more."""
    made = {one: [f"{value:.6f}" for value in found[one]] for one in ("predicted", "low90", "high90")}
    return native.assign(**made, **{one: found[one].to_numpy() for one in found.columns.difference(made)})


def _write_csv(table: pd.DataFrame, out: Path) -> None:
    with atomic_path(out) as temporary:
        table.to_csv(temporary, index=False, compression="gzip" if out.name.lower().endswith(".gz") else None)


def predict_folder(
    name: str, folder: str | Path, out: str | Path, *, detail: str = "cautious", at: str | Path | None = None
) -> dict[str, dict[str, object]]:
    """Estimate the scenes of every cell's file in a folder, and write each as ``out/<same stem>.nc``.

    Parameters
    ----------
    name, folder, out
        One of `CELL_MODELS`; a folder with ``spl2smap_s_*.nc``, ``pairs_*.nc`` and ``smap_9km_*.nc`` of cells of 36 km, and one
        to write to: there ``soil_moisture`` and its ``soil_moisture_low90`` and ``soil_moisture_high90`` over ``(time,
        lat_3km, lon_3km)``, or those of 1 km, m3 m-3.
    detail : {"cautious", "product"}
        What airborne truth bears out, or all that nears NASA's product.
    at : path-like, optional
        CSV with a column ``time``, UTC: estimates at the overpasses nearest to these times, in place of the scenes'.

    Returns
    -------
    dict
        By file: ``written``, ``estimates``, ``times_without_overpass``, whether the cell has ``smap``; or why it was ``dropped``.

    Raises
    ------
    ParameterError, CatalogError, FormatError
        On an unknown model or detail, a folder without such files or with none that can be read, a table without times.
    """
    who, folder, out = "predict_folder", Path(folder), Path(out)
    check_choice(who, "model", name, CELL_MODELS)
    check_choice(who, "detail", detail, DETAILS)
    estimator, kinds = CELL_MODELS[name]
    suffix = f"{estimator.grid.cell / 1000:.0f}km"
    found = {path: CELL_NAME.fullmatch(path.name) for path in sorted(folder.glob("*.nc"))}
    paths = [path for path, match in found.items() if match and match["kind"] in kinds]
    if not paths:
        expected = plain(" or ".join(f"{kind}_R<row>C<column>.nc" for kind in kinds))
        raise CatalogError(who, "the folder has no file of scenes", got=str(folder), expected=expected)
    asked, trained, report = None if at is None else _times_of(who, Path(at)), load_pretrained(name), {}
    for path in paths:
        series = folder / CELL_NAME.sub(r"smap_9km_R\g<row>C\g<col>.nc", path.name)
        series = series if series.is_file() else None
        try:
            record = estimator.opens.from_files(path, series, suffix)
            dataset = estimator(trained.model, record).estimate_asked(asked, detail=detail)
        except SmnbError as error:
            report[path.name] = {"dropped": str(error)}
            continue
        dims = {"y": f"lat_{suffix}", "x": f"lon_{suffix}"}
        dataset = dataset.assign_coords({new: (old, dataset[new[:3]].data) for old, new in dims.items()})
        dataset = dataset.swap_dims(dims).drop_vars(["y", "x", "lat", "lon", "row", "col", "crs"])
        contract.stamp(
            dataset, step=f"predict {name}, {path.name}, detail {detail}", source=f"smnb {name}", synthetic=False
        )
        clock = {"units": "nanoseconds since 2015-01-01", "dtype": "int64"}
        with held_output(who, out / path.name), atomic_path(out / path.name) as temporary:
            encoding = {one: clock for one in ("time", "overpass") if one in dataset.coords}
            write_netcdf(temporary, dataset, encoding)
        facts = {"written": str(out / path.name), "estimates": dataset.sizes["time"], "smap": series is not None}
        report[path.name] = facts | {"times_without_overpass": dataset.attrs.get("times_without_overpass", 0)}
    if not any("written" in one for one in report.values()):
        raise FormatError(who, "no file could be used", got=next(iter(report.values()))["dropped"])
    return report


def map_region(
    name: str, root: str | Path, out: str | Path, region: str, time: str, *, detail: str = "cautious"
) -> tuple[int, int]:
    """Map a region at the overpasses nearest to a time from an archive's granules; return its cells, and those without a value.

    Parameters
    ----------
    name, root, out
        One of `CELL_MODELS`, the data root, and the map to write: ``.nc``, ``.zarr`` or ``.tif``.
    region, time : str
        "west,south,east,north" in degrees, of which whole 36 km cells are mapped whose centres are inside; ISO, UTC.
    """
    who = "map_region"
    check_choice(who, "model", name, CELL_MODELS)
    check_choice(who, "detail", detail, DETAILS)
    west, south, east, north = contract.check_box(who, "region", region.split(","))
    window = M36.window(south=south, north=north, west=west, east=east)
    parse_period(who, time, None)
    (kind, _), model = CELL_MODELS[name], load_pretrained(name).model
    options = {"grid": kind.grid, "detail": detail}
    dataset = map_window(
        lambda *cell: kind(model, kind.opens.from_datasets(*cell)), Catalog.load(), root, window, time, **options
    )
    write_map(dataset, out)
    return dataset["soil_moisture"].size, int(dataset["soil_moisture"].isnull().sum())


def _times_of(who: str, path: Path) -> np.ndarray:
    """Times of a CSV's column ``time``, UTC."""
    with contract.foreign(
        who, f"{path} has no times", next_step="Give a CSV with a column time, such as 2016-06-08T12:00"
    ):
        times = pd.to_datetime(read_named_csv(path, ["time"])["time"], utc=True, format="ISO8601")
        return times.dt.tz_localize(None).to_numpy("datetime64[ns]")
