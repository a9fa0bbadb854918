"""The command ``smnb retrieve``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smnb.cli.frame import Json, command, show

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


GROUP = "Soil_Moisture_Retrieval_Data"
CHECKED_RELEASES = ("R18",)


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
    import numpy as np

    from smnb.contract import ParameterError, check_choice
    from smnb.files import atomic_path
    from smnb.loaders.smap import read_fields
    from smnb.metrics import bias, n_obs, pearson_r, ubrmse
    from smnb.models.physics.smap import PHYSICAL_METHODS, count_statuses, retrieve_physical

    check_choice("smnb retrieve", "method", method, PHYSICAL_METHODS)
    if not out.lower().endswith(".csv"):
        raise ParameterError("smnb retrieve", "--out does not end in .csv", got=out)
    fields, release = read_fields(granule, group)
    result = retrieve_physical(fields, method, who=granule)
    cells = _table(fields, result)
    with atomic_path(out) as temporary:
        cells.to_csv(temporary, index=False, float_format="%.6f")
    pair = result.soil_moisture, result.product_soil_moisture
    scores: dict[str, Any] = {"n": int(n_obs(*pair, mask=result.recommended))}
    for name, score in (("r", pearson_r), ("bias", bias), ("ubrmsd", ubrmse)):
        value = float(score(*pair, mask=result.recommended))
        scores[name] = value if math.isfinite(value) else None  # JSON has no NaN
    counts = count_statuses(result.status)
    clipped = sum(n for name, n in counts.items() if name.startswith("clipped"))
    notes = list(result.notes)
    if not release.startswith(CHECKED_RELEASES):
        notes.append(f"what the fields mean was checked on release {', '.join(CHECKED_RELEASES)}, not on {release}")
    content = {
        "granule": granule,
        "release": release,
        "method": method,
        **scores,
        "cells": int(np.size(result.status)),
        "by_status": counts,
        "clipped": clipped,
        "notes": notes,
        "written": out,
    }
    shown = []
    for label, key, form in (("R", "r", ".5f"), ("bias", "bias", "+.5f"), ("ubRMSD", "ubrmsd", ".5f")):
        value = scores[key]
        shown.append(f"{label} {'undefined' if value is None else format(round(value, 5) + 0.0, form)}")  # no -0
    rest = {k: n for k, n in counts.items() if k not in ("retrieved", "no input") and not k.startswith("clipped")}
    detail = ", ".join(f"{k.removeprefix('clipped ')} {n:,}" for k, n in counts.items() if k.startswith("clipped"))
    show(
        content,
        as_json,
        f"{Path(granule).name}, release {release}: {PHYSICAL_METHODS[method][0]} ({method})",
        f"against the product, recommended cells: {'  '.join(shown)}  m3 m-3  n {scores['n']:,}",
        f"{np.size(result.status):,} cells: retrieved {counts.get('retrieved', 0):,}, clipped {clipped:,}"
        + (f" ({detail})" if detail else "")
        + f", without input {counts.get('no input', 0):,}"
        + "".join(f", {k} {n:,}" for k, n in rest.items()),
        *(f"  {note}" for note in notes),
        f"written: {out}",
    )


def _table(fields: dict[str, np.ndarray], result: Any) -> pd.DataFrame:
    """Cells by row and column; those whose place is a fill value (L3) are left out."""
    import numpy as np
    import pandas as pd

    from smnb.models.physics.smap import FLAG_FILL

    cells = pd.DataFrame(
        {
            "row": fields["EASE_row_index"].astype(np.int64),
            "col": fields["EASE_column_index"].astype(np.int64),
            "lat": fields["latitude"],
            "lon": fields["longitude"],
            "soil_moisture": result.soil_moisture,
            "product_soil_moisture": result.product_soil_moisture,
            "recommended": result.recommended.astype(np.int8),
        }
    )
    return cells[cells["row"].between(0, FLAG_FILL - 1)].sort_values(["row", "col"], kind="stable")
