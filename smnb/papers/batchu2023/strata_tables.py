"""Scores by stratum in the form of paper 004's Tables 10 to 12, with the paper's values beside."""

from __future__ import annotations

import pandas as pd

from smnb.contract import ParameterError
from smnb.grids.koppen import GROUP_LABELS, PAPER_GROUPS
from smnb.metrics import interval_text
from smnb.papers.tables import published
from smnb.sensors import LAND_COVER_GROUPS, TEXTURE_CLASSES, stratify

#: Strata of the paper's tables: its table, what a title says, and the rows in its order.
PAPER_STRATA: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "land_cover": ("Table 10", "Land cover", LAND_COVER_GROUPS),
    "texture": ("Table 11", "Soil texture", TEXTURE_CLASSES[:-1]),
    "climate": ("Table 12", "Climate", PAPER_GROUPS),
}
_METRICS = {"ubrmse": "ubRMSE", "rmse": "RMSE", "pearson_r": "Correlation"}


def beside_paper(
    scores: pd.DataFrame, by: str, *, clusters: str | None = None, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Average scores (`smnb.sensors.score_sensors`) by stratum, in the order of the paper's table and with its values.

    As `smnb.sensors.stratify`, with the paper's row names in ``label`` (asterisk: fewer than five sensors of the run) and its
    scores in ``paper_ubrmse``, ``paper_rmse``, ``paper_pearson_r``, NaN where it has a dash or no such row.
    """
    if by not in PAPER_STRATA:
        raise ParameterError("beside_paper", "the paper has no such table", got=by, expected=list(PAPER_STRATA))
    name, _, order = PAPER_STRATA[by]
    found = stratify(scores, by, metrics=list(_METRICS), order=order, clusters=clusters, n_boot=n_boot, seed=seed)
    rows = [GROUP_LABELS.get(stratum, stratum) for stratum in found[by]]
    found["label"] = [row + "*" * few for row, few in zip(rows, found["few"], strict=True)]
    paper = published("batchu2023", name).frame().reindex(rows)
    for metric, column in _METRICS.items():
        found[f"paper_{metric}"] = paper[column].to_numpy()
    return found


def printed(table: pd.DataFrame, title: str) -> pd.DataFrame:
    """Return a table of `beside_paper` as text: "0.055 [0.048, 0.061]", a dash where there is nothing.

    By the stratum's label, headed `title`: ``Sensors``, and for each score the run's and the paper's.
    """
    rows = pd.Index(table["label"], name=title)
    text = pd.DataFrame({"Sensors": table["n_scored"].astype(str).to_numpy()}, index=rows)
    for metric, name in _METRICS.items():
        cells = zip(*(table[f"{metric}{end}"] for end in ("", "_low", "_high")), strict=True)
        text[name] = [interval_text(*values) or "-" for values in cells]
        text[f"{name}, paper"] = [interval_text(value) or "-" for value in table[f"paper_{metric}"]]
    return text
