"""The released ensemble: how it was trained, and what it predicts for a table's rows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from smnb.contract import FormatError
from smnb.loaders.conus import StationTable
from smnb.maps.tiles import one_thread
from smnb.papers.stations.features import SOURCES, point_features, sources_present
from smnb.papers.stations.table import from_station_table
from smnb.papers.stations.training import PointTraining, predict_points, train_points
from smnb.training import Trained, load, save

#: Recipe of the released checkpoint.
RELEASE = PointTraining(members=16, seed=2026)


def train_release(
    table: StationTable,
    out: str | Path,
    *,
    training: PointTraining = RELEASE,
    past_only: bool = False,
    scores: dict[str, Any] | None = None,
) -> Trained:
    """Train the released recipe on all stations of a table, and save it as ``out/model.safetensors`` with its card.

    Parameters
    ----------
    table : StationTable
        From `smnb.loaders.conus.open_station_table` (catalog entry ``conus_stations``).
    training : PointTraining
        Seeds are fixed and one thread is used: the same table gives the same weights with the same library versions.
    scores : dict, optional
        Cross-validated scores, for the card.

    Returns
    -------
    Trained
        Its channels are the features, ``source:name``.
    """
    rows = from_station_table(table)
    made = point_features(rows, past_only=past_only).of(SOURCES)
    target, station = rows["soil_moisture"].to_numpy("float64"), rows["sensor_id"].to_numpy(str)
    with one_thread():
        ensemble = train_points(made, target, station, training)
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
    }
    return load(save(Path(out) / "model", ensemble, channels=made.names, training=card))


def predict_rows(trained: Trained, rows: pd.DataFrame) -> pd.DataFrame:
    """Predict rows in canonical units with what `train_release` or `smnb.pretrained.load_pretrained` gave.

    Returns
    -------
    DataFrame
        In the order and with the index of `rows`: ``predicted`` (m3 m-3), never missing, and ``n_sources`` (0 to 4), the
        number of `SOURCES` that the row has.

    Raises
    ------
    FormatError
        If this version makes other features than the checkpoint was trained on.
    """
    names = trained.card["channels"]
    made = point_features(rows, **trained.card["training"]["feature_config"])
    if unknown := sorted(set(names) - set(made.names)):
        what, step = "the checkpoint was trained on other features", "Use the version of smnb that it was made with"
        raise FormatError("predict_rows", what, got=unknown[:5], next_step=step)
    values = made.values[:, [made.names.index(name) for name in names]]
    with one_thread():
        # in float64 the digits of a row do not depend on which other rows there are
        predicted = predict_points(trained.model.double(), values)
    return pd.DataFrame({"predicted": predicted, "n_sources": sources_present(rows).sum(axis=1)}, index=rows.index)
