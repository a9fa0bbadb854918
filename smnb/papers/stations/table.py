"""Tables of stations and ten-day windows, and the released checkpoint: how it was trained on one, what it predicts of another."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from smnb.catalog.limits import check_csv
from smnb.contract import FormatError, foreign, plain
from smnb.loaders.conus import BANDS, COLUMNS, NLCD_CODES, SMAP_LAYER_MM, StationTable, believed
from smnb.maps.tiles import one_thread
from smnb.papers.stations.features import SOURCES, features_of, point_features, sources_present
from smnb.papers.stations.network import PointTraining, predict_points, train_points
from smnb.sensors import ErrorModel
from smnb.training import Trained, load, save

_KEYS = ("network", "station", "lat", "lon", "start")  # what a file needs beside `COLUMNS`
RELEASE = PointTraining(members=16, seed=2026)  # recipe of the released checkpoint


@dataclass
class PointRows:
    """A file's rows, in its order: `native` as text, every column as it was, and `rows` as `point_features` takes it.

    `report` counts ``rows``, ``stations``, ``rows_of_unknown_land_cover`` (codes that are none of the NLCD, taken as unknown) and
    ``rows_repeated`` (a station and time that an earlier row has; such rows are averaged); ``masked`` counts numbers that are no
    data, by column and reason (`smnb.loaders.conus.believed`), which are taken as missing; ``names_trimmed`` had blanks around.
    """

    native: pd.DataFrame
    rows: pd.DataFrame
    report: dict[str, Any] = field(default_factory=dict)


def read_points(path: str | Path) -> PointRows:
    """Read a CSV file, compressed or not, with the columns of the published table less the in-situ one.

    Further columns are kept and not looked at, in-situ soil moisture included. A value in another unit is an error, not a
    conversion: a table in which backscatter is linear has been through hands that may have changed more. So is a file that is
    absent, unreadable or empty, a column that is missing, doubled or no number, a row without station, place or time, and a
    station that moves (`FormatError`).
    """
    path = Path(path)
    who = f"read_points({path.name})"
    if not path.is_file():
        raise FormatError(who, "there is no such file", got=str(path), next_step="Check the path")
    with foreign(who, "the table is unreadable as CSV or CSV.gz"):
        native = pd.read_csv(path, dtype=str, keep_default_na=False, compression=check_csv(who, path))
    missing = [name for name in (*_KEYS, *COLUMNS) if name not in native.columns]
    if missing:
        got, expected = list(native.columns), [*_KEYS, *COLUMNS]
        step = "Leave cells empty where a source is missing, but keep its columns"
        raise FormatError(who, f"columns {missing} are missing", got=got, expected=expected, next_step=step)
    if native.empty:
        raise FormatError(who, "the table has no rows", next_step="Check the export")
    numbers = {name: _numbers(who, native[name]) for name in ("lat", "lon", *COLUMNS)}
    try:
        time = pd.to_datetime(native["start"], utc=True, format="ISO8601").dt.tz_localize(None).astype("datetime64[ns]")
    except ValueError as error:
        raise FormatError(who, f"'start' is no date: {error}", expected="2019-01-01") from error
    names = native[["network", "station"]].apply(lambda column: column.str.strip())
    trimmed = sorted({text for name in names for text in native.loc[native[name] != names[name], name]})
    frame = names.assign(time=time, **numbers)
    frame.insert(0, "sensor_id", frame["network"] + "__" + frame["station"])
    _check(who, frame)
    frame, masked = believed(who, frame, "sensor_id")
    cover, known = frame["landcover"], frame["landcover"].isin(NLCD_CODES)
    report = {
        "rows": len(frame),
        "stations": int(frame["sensor_id"].nunique()),
        "rows_of_unknown_land_cover": int((~known & cover.notna()).sum()),
        "rows_repeated": int(frame.duplicated(["sensor_id", "time"]).sum()),
        "masked": masked,
        "names_trimmed": trimmed,
    }
    renamed = {"VV": "sigma0_VV", "VH": "sigma0_VH", "angle": "incidence_angle"}
    rows = frame[["sensor_id", "time", "lat", "lon", "mtpi", *renamed]].rename(columns=renamed)
    soil = {"field_capacity": frame["fc"] * 0.01, "smap": frame["ssm"] * (1.0 / SMAP_LAYER_MM)}
    rows = rows.assign(nlcd=cover.where(known), **soil)
    return PointRows(native, rows.join((frame[list(BANDS)] * 1e-4).add_prefix("reflectance_")), report)


def from_station_table(table: StationTable) -> pd.DataFrame:
    """Rows of a `StationTable` with their station's place and static values, as `point_features` takes them.

    The column ``soil_moisture`` (in situ, m3 m-3) is there for training and scoring.
    """
    places = table.sensors.drop(columns=["network", "station"])
    return table.table.merge(places, on="sensor_id", how="left", validate="many_to_one")


def _numbers(who: str, text: pd.Series) -> pd.Series:
    empty = text.str.strip().str.lower().isin(("", "nan", "na", "n/a", "null", "none", "--"))
    values = pd.to_numeric(text.where(~empty), "coerce").astype("float64")
    wrong = values.isna() & ~empty
    if wrong.any():
        expected = plain("numbers, and empty cells for missing ones")
        raise FormatError(who, f"column {text.name!r} is not numeric", got=text[wrong].iloc[0], expected=expected)
    return values


def _check(who: str, frame: pd.DataFrame) -> None:
    """Raise `FormatError` unless each row has its station, place and time, and no station moves."""
    nameless = (frame[["network", "station"]] == "").any(axis=1) | frame[["lat", "lon", "time"]].isna().any(axis=1)
    if nameless.any():
        step = f"Look at row {int(np.flatnonzero(nameless)[0]) + 2} of the file"
        got = plain(f"{int(nameless.sum())} rows")
        raise FormatError(who, "a row has no station, place or time", got=got, next_step=step)
    off = (frame["lat"].abs() > 90.0) | (frame["lon"].abs() > 180.0)
    if off.any():
        got, expected = tuple(frame.loc[off, ["lat", "lon"]].iloc[0]), plain("lat in [-90, 90], lon in [-180, 180]")
        raise FormatError(who, "a station is not on the Earth", got=got, expected=expected)
    stations = frame.groupby("sensor_id")
    moved = stations[["lat", "lon"]].nunique().gt(1).any(axis=1)
    if moved.any():
        raise FormatError(who, "a station changes its place", got=moved.index[moved][0])


def train_release(
    table: StationTable,
    out: str | Path,
    *,
    training: PointTraining = RELEASE,
    past_only: bool = False,
    scores: dict[str, Any] | None = None,
    errors: ErrorModel | None = None,
) -> Trained:
    """Train the released recipe on all stations of a table, and save it as ``out/model.safetensors`` with its card.

    Its channels are the features, ``source:name``. Seeds are fixed and one thread is used: the same table (catalog entry
    ``conus_stations``) gives the same weights with the same library versions. `scores` are cross-validated ones, for the card,
    `errors` what was fitted to cross-validated predictions, for the intervals.
    """
    rows = from_station_table(table)
    made = features_of(point_features(rows, past_only=past_only), SOURCES)
    target, station = rows["soil_moisture"].to_numpy("float64"), rows["sensor_id"].to_numpy(str)
    with one_thread():
        ensemble = train_points(made.to_numpy(), tuple(made), target, station, training)
    card = {
        "feature_config": {"past_only": past_only},
        "recipe": asdict(training),
        "target": {"depth_m": 0.05, "window_days": 10},
        "data": {
            "catalog_id": table.catalog_id,
            "synthetic": table.synthetic,
            "stations": int(rows["sensor_id"].nunique()),
            "rows_with_target": int(np.isfinite(target).sum()),
        },
        "scores": scores or {},
        "errors": None if errors is None else asdict(errors),
    }
    return load(save(Path(out) / "model", ensemble, channels=tuple(made), training=card))


def predict_rows(trained: Trained, rows: pd.DataFrame, readings: pd.DataFrame | None = None) -> pd.DataFrame:
    """Predict rows in canonical units with what `train_release` or `smnb.pretrained.load_pretrained` gave.

    In the order and with the index of `rows`: ``predicted`` (m3 m-3), never missing, and ``n_sources`` (0 to 4), the number of
    `SOURCES` that the row has; with a checkpoint that knows its errors ``low90`` and ``high90``, the 90 % interval at a new
    station. `readings` (``sensor_id``, ``time``, ``soil_moisture``) correct their stations' predictions, and ``readings`` counts
    them (`smnb.sensors.ErrorModel.calibrate`).

    `FormatError` if this version makes other features than the checkpoint was trained on, or it does not know its errors.
    """
    who, names, card = "predict_rows", trained.card["channels"], trained.card["training"]
    config, errors, keys = card.get("feature_config"), card.get("errors"), ["sensor_id", "time"]
    if not isinstance(config, dict) or list(config) != ["past_only"] or not isinstance(config["past_only"], bool):
        what, expected = "the card's training.feature_config is none of this version", {"past_only": False}
        raise FormatError(who, what, got=config, expected=expected)
    made = point_features(rows, **config)
    if unknown := sorted(set(names) - set(made)):
        what, step = "the checkpoint was trained on other features", "Use the version of smnb that it was made with"
        raise FormatError(who, what, got=unknown[:5], next_step=step)
    with one_thread():
        # in float64 the digits of a row do not depend on which other rows there are
        predicted = predict_points(trained.model.double(), made[list(names)].to_numpy())
    found = rows[keys].assign(predicted=predicted)
    if errors is not None:
        with foreign(who, "the card's training.errors are none of this version"):
            model = ErrorModel(**errors)
        once = found.drop_duplicates(keys)  # rows that repeat a station and time have one prediction
        found = found[keys].merge(model.calibrate(once, readings), on=keys, how="left", validate="many_to_one")
    elif readings is not None:
        raise FormatError(who, "the checkpoint does not know its errors", next_step="Train it with `errors`")
    found = found.drop(columns=keys if readings is not None else [*keys, "readings"], errors="ignore")
    return found.assign(n_sources=sources_present(rows).sum(axis=1).to_numpy()).set_index(rows.index)
