"""Checkpoints that come with the package, and prediction of tables with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from smnb.contract import ParameterError
from smnb.files import atomic_path, held_output
from smnb.papers.stations import predict_rows, read_points
from smnb.training import Trained, load

__all__ = ["card_text", "load_pretrained", "predict_table"]

_FOLDER = Path(__file__).resolve().parent
PRETRAINED = tuple(sorted(path.parent.name for path in _FOLDER.glob("*/model.json")))  # names of the checkpoints


@dataclass
class PredictedTable:
    """A table that was predicted: the file written, its rows as text, and what happened on the way.

    ``report`` is that of `smnb.papers.stations.PointRows`, and ``rows_by_n_sources``.
    """

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


def predict_table(name: str, path: str | Path, out: str | Path) -> PredictedTable:
    """Predict every row of a CSV file and write it with two columns more.

    Parameters
    ----------
    name : str
        One of `PRETRAINED`.
    path : path-like
        CSV or CSV.gz, with the columns that `smnb.papers.stations.read_points` names. In-situ soil moisture, where the file
        has it, is kept and not looked at.
    out : path-like
        CSV or CSV.gz to write: the same rows in the same order, every column as it was, and ``predicted`` (m3 m-3) and
        ``n_sources`` (how many of Sentinel-1, Sentinel-2, SMAP and static values the row has). Written beside and renamed.

    Raises
    ------
    ParameterError
        On an unknown model, or a name of the output that is no CSV's.
    FormatError
        On a table that cannot be used; see `smnb.papers.stations.read_points`.
    """
    who, out = "predict_table", Path(out)
    _folder(who, name)
    if not out.name.lower().endswith((".csv", ".csv.gz")):
        raise ParameterError(who, "the output is no CSV file", got=out.name, expected="a name in .csv or .csv.gz")
    with held_output(who, out):
        points = read_points(path)
        found = predict_rows(load_pretrained(name), points.rows)
        table = points.native.assign(
            predicted=[f"{value:.6f}" for value in found["predicted"]], n_sources=found["n_sources"].to_numpy()
        )
        counts = {int(n): int(rows) for n, rows in found["n_sources"].value_counts().sort_index().items()}
        with atomic_path(out) as temporary:
            table.to_csv(temporary, index=False, compression="gzip" if out.name.lower().endswith(".gz") else None)
        return PredictedTable(out, table, {**points.report, "rows_by_n_sources": counts})
