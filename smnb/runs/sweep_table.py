"""The table of a sweep, a row a member: as a DataFrame, and as CSV, JSON and a page that links members' reports."""

from __future__ import annotations

import html
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from smnb.files import atomic_path, write_json, write_text

from .report import _STYLE, _shown

if TYPE_CHECKING:
    import pandas as pd


SCHEMA_VERSION = 1
#: Columns beside parameters and metrics, so no parameter of a grid may have their names.
COLUMNS = ("member", "status", "seconds", "message", "synthetic")


def _names(rows: Sequence[Mapping[str, Any]], what: str) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row[what]))


def sweep_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Table of members; a metric that has the name of another column gets ``metrics.`` before it.

    Examples
    --------
    >>> row = {"member": "seed=1", "parameters": {"seed": 1}, "status": "done", "seconds": 2.5, "message": "",
    ...        "synthetic": True, "metrics": {"cnn.rmse": 0.05, "seconds": 2.0}}
    >>> list(sweep_frame([row]))
    ['member', 'seed', 'status', 'seconds', 'message', 'synthetic', 'cnn.rmse', 'metrics.seconds']
    """
    import pandas as pd

    parameters = _names(rows, "parameters")
    columns = {"member": [row["member"] for row in rows]}
    columns |= {name: [row["parameters"].get(name) for row in rows] for name in parameters}
    columns |= {name: [row[name] for row in rows] for name in COLUMNS[1:]}
    columns["seconds"] = [math.nan if value is None else value for value in columns["seconds"]]
    for name in _names(rows, "metrics"):
        values = [row["metrics"].get(name) for row in rows]
        column = f"metrics.{name}" if name in (*parameters, *COLUMNS) else name
        columns[column] = [math.nan if value is None else value for value in values]
    return pd.DataFrame(columns)


def write_sweep(out: Path, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``sweep.json``, ``sweep.csv`` and ``sweep.html`` into a sweep's folder."""
    write_json(out / "sweep.json", {"schema_version": SCHEMA_VERSION, **head, "members": list(rows)})
    table = sweep_frame(rows)
    for name in _names(rows, "parameters"):  # a list in a cell is JSON, as Python's own text is read by nothing else
        table[name] = [json.dumps(value) if isinstance(value, list) else value for value in table[name]]
    with atomic_path(out / "sweep.csv") as temporary:
        table.to_csv(temporary, index=False)
    write_text(out / "sweep.html", _page(out, head, rows))


def _page(out: Path, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    parameters, metrics = _names(rows, "parameters"), _names(rows, "metrics")
    marked = any(row["synthetic"] for row in rows)
    counts = ", ".join(f"{number} {status}" for status, number in Counter(row["status"] for row in rows).items())
    common = ", ".join(f"{name} = {value!r}" for name, value in head["parameters"].items())
    title = f"Sweep {head['name']}" + (" (synthetic)" if marked else "")
    columns = ["member", *parameters, "status", "seconds", *(["data"] if marked else []), *metrics, "message"]
    heads = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{_cells(out, row, parameters, metrics, marked)}</tr>" for row in rows)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>smnb {html.escape(title)}</title><style>{_STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>"
        f"<p>{html.escape(head['notebook'])}, preset {html.escape(head['preset'])}"
        f"{html.escape(f', {common}' if common else '')}. {len(rows)} members: {counts}.</p>\n"
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>\n</body></html>\n'
    )


def _cells(out: Path, row: Mapping[str, Any], parameters: Sequence[str], metrics: Sequence[str], marked: bool) -> str:
    member, status = html.escape(row["member"]), row["status"]
    if (out / row["member"] / "index.html").is_file():
        member = f'<a href="{quote(row["member"])}/index.html">{member}</a>'
    good = status in ("done", "skipped")
    cells = [f"<td>{member}</td>"]
    for name in parameters:
        value = row["parameters"].get(name, "")
        cells.append(f"<td>{html.escape(value if isinstance(value, str) else json.dumps(value))}</td>")
    cells.append(f"<td>{status if good else f'<span class=mark>{status}</span>'}</td>")
    cells.append(f'<td class="number">{"" if row["seconds"] is None else format(row["seconds"], ".1f")}</td>')
    if marked:
        cells.append(f'<td class="mark">{"synthetic" if row["synthetic"] else ""}</td>')
    cells += [f'<td class="number">{_shown(row["metrics"], name)}</td>' for name in metrics]
    return "".join([*cells, f"<td>{html.escape(row['message'])}</td>"])
