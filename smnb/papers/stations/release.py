"""Training, writing and reading the released ensemble: weights in safetensors, everything else in JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from smnb.contract import FormatError, plain
from smnb.files import sha256_of, write_bytes, write_json
from smnb.loaders.conus_stations import StationTable
from smnb.papers.stations.features import SOURCES, FeatureConfig, point_features, sources_present
from smnb.papers.stations.network import PointEnsemble, PointFusionConfig
from smnb.papers.stations.table import from_station_table
from smnb.papers.stations.training import PointTraining, feature_sizes, predict_points, train_points

#: Recipe of the released checkpoint.
RELEASE = PointTraining(members=16, seed=2026)
WEIGHTS, CARD = "model.safetensors", "model.json"
_FORMAT = "smnb station points 1"


@dataclass
class PointModel:
    """An ensemble with what is needed to feed it.

    Parameters
    ----------
    ensemble : PointEnsemble
    features : FeatureConfig
    names : tuple of str
        The features, in order.
    card : dict
        The checkpoint's JSON.
    """

    ensemble: PointEnsemble
    features: FeatureConfig
    names: tuple[str, ...]
    card: dict[str, Any]


def train_release(
    table: StationTable,
    *,
    training: PointTraining = RELEASE,
    features: FeatureConfig | None = None,
    scores: dict[str, Any] | None = None,
) -> PointModel:
    """Train the released recipe on all stations of a table.

    Parameters
    ----------
    table : StationTable
        From `smnb.loaders.conus_stations.open_station_table` (catalog entry ``conus_stations``).
    training : PointTraining
        Seeds are fixed and one thread is used: the same table gives the same weights with the same library versions.
    features : FeatureConfig, optional
    scores : dict, optional
        Cross-validated scores, for the card.

    Returns
    -------
    PointModel

    Examples
    --------
    From Python, with the sample table at hand::

        table = open_station_table([path], catalog_id="conus_stations")
        save_point_model("conus_points", train_release(table))
    """
    features = features or FeatureConfig()
    rows = from_station_table(table)
    made = point_features(rows, features)
    columns = made.columns(SOURCES)
    names = tuple(made.names[i] for i in columns)
    target, station = rows["soil_moisture"].to_numpy("float64"), rows["sensor_id"].to_numpy(str)
    with _one_thread():
        ensemble = train_points(made.values[:, columns], names, target, station, training)
    network = {name: value for name, value in ensemble.config.to_dict().items() if name != "features"}
    card = {
        "format": _FORMAT,
        "network": network,
        "members": training.members,
        "feature_config": features.to_dict(),
        "features": list(names),
        "training": training.to_dict(),
        "target": {"name": "soil_moisture", "units": "m3 m-3", "depth_m": 0.05, "window_days": 10},
        "data": {
            "catalog_id": table.catalog_id,
            "synthetic": table.synthetic,
            "stations": int(rows["sensor_id"].nunique()),
            "rows_with_target": int(np.isfinite(target).sum()),
        },
        "scores": scores or {},
    }
    return PointModel(ensemble, features, names, card)


def save_point_model(folder: str | os.PathLike[str], model: PointModel) -> Path:
    """Write ``model.safetensors`` and ``model.json`` into a folder and return it."""
    folder = Path(folder)
    state = {name: value.detach().contiguous() for name, value in model.ensemble.state_dict().items()}
    write_bytes(folder / WEIGHTS, save_safetensors(state))
    write_json(folder / CARD, model.card | {"weights_sha256": sha256_of(folder / WEIGHTS)})
    return folder


def load_point_model(folder: str | os.PathLike[str]) -> PointModel:
    """Read what `save_point_model` wrote.

    Raises
    ------
    FormatError
        If a file is missing, damaged, of another format, or the weights are not the card's.
    """
    who, folder = "load_point_model", Path(folder)
    for name in (WEIGHTS, CARD):
        if not (folder / name).is_file():
            raise FormatError(who, f"{folder / name} is missing", expected=plain(f"{WEIGHTS} and {CARD} in one folder"))
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(who, f"{folder / CARD} is no JSON: {error}") from error
    if not isinstance(card, dict) or card.get("format") != _FORMAT:
        raise FormatError(
            who,
            f"{folder / CARD} is no checkpoint of this kind",
            expected=_FORMAT,
            got=card.get("format") if isinstance(card, dict) else type(card).__name__,
        )
    digest = sha256_of(folder / WEIGHTS)
    if digest != card.get("weights_sha256"):
        raise FormatError(
            who,
            f"{folder / WEIGHTS} does not belong to its card",
            got=digest[:12],
            expected=str(card.get("weights_sha256"))[:12],
            next_step="Copy both files of one checkpoint together",
        )
    try:
        features, names = FeatureConfig(**card["feature_config"]), tuple(card["features"])
        # the order of the sources is that of the names: JSON objects are written sorted
        config = PointFusionConfig(**{**card["network"], "features": feature_sizes(names)})
        ensemble = PointEnsemble(config, int(card["members"]))
        ensemble.load_state_dict(load_safetensors((folder / WEIGHTS).read_bytes()))
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise FormatError(who, f"{folder} cannot be read: {error}") from error
    return PointModel(ensemble.double().eval(), features, names, card)


def predict_rows(model: PointModel, rows: pd.DataFrame) -> pd.DataFrame:
    """Predict rows in canonical units.

    Parameters
    ----------
    model : PointModel
    rows : DataFrame
        As `point_features` takes it.

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
    made = point_features(rows, model.features)
    unknown = sorted(set(model.names) - set(made.names))
    if unknown:
        raise FormatError(
            "predict_rows",
            "the checkpoint was trained on other features",
            got=unknown[:5],
            next_step="Use the version of smnb that it was made with",
        )
    values = made.values[:, [made.names.index(name) for name in model.names]]
    with _one_thread():
        predicted = predict_points(model.ensemble, values)
    return pd.DataFrame({"predicted": predicted, "n_sources": sources_present(rows).sum(axis=1)}, index=rows.index)


class _one_thread:  # noqa: N801
    """Run torch on one thread, so that sums, and so the digits, do not depend on the machine's cores."""

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)
