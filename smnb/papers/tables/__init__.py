"""The papers' tables as data, ``<paper>.yaml`` beside this file, each with what one must know before comparing a run with it.

The numbers are quoted from the papers by table; captions are in this project's own words. A paper's results come from its
own data: a run on synthetic data is not expected to reach them, and the comparison says when a run is synthetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import TypeAdapter

from smnb.contract import ParameterError, synthetic_label

__all__ = ["PublishedTable", "compare_with", "published"]

Numbers = tuple[int | float, ...]


@dataclass(frozen=True)
class PublishedColumn:
    """One column of numbers: the paper's name, its unit (or "not stated"), and a run's metrics to hold against it."""

    name: str
    unit: str
    run_metrics: tuple[str, ...] = ()  # several where the paper leaves open what a column means


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper, by the paper's own number."""

    paper: str  # key of `PAPERS`
    table: str
    caption: str
    columns: tuple[PublishedColumn, ...]
    rows: Mapping[str, Numbers]  # A number a column by row label; NaN where the paper has none or it is in `omitted`
    caveats: tuple[str, ...] = ()  # what the paper leaves open or contradicts
    omitted: tuple[tuple[str, str], ...] = ()
    """Row and column of each number that is left out, since the text at hand does not say for certain which it is."""
    baseline: str | None = None  # row that `changes` refer to
    changes: Mapping[str, Numbers] = field(default_factory=dict)
    """Relative changes as printed, percent, positive where the score is better than the baseline's; NaN where none is."""

    def frame(self) -> pd.DataFrame:
        """Return the numbers as a DataFrame with the paper's own row and column labels."""
        names = [c.name for c in self.columns]
        return pd.DataFrame.from_dict({k: list(v) for k, v in self.rows.items()}, orient="index", columns=names)

    def value(self, row: str, column: str) -> float:
        """Return one number; raise `ParameterError` on an unknown row or column."""
        names = [c.name for c in self.columns]
        if row not in self.rows or column not in names:
            what, known = f"{self.paper} {self.table} has no such number", (tuple(self.rows), tuple(names))
            raise ParameterError("PublishedTable.value", what, got=(row, column), expected=known)
        return self.rows[row][names.index(column)]


@dataclass(frozen=True)
class PublishedSettings:
    """A table of settings: each has one number or several (a block or layer each), some chosen among `candidates`.

    For those that are `swept`, since their best value was picked anew for each experiment, the numbers are all that were.
    """

    paper: str
    table: str
    caption: str
    values: Mapping[str, Numbers]
    candidates: Mapping[str, Numbers] = field(default_factory=dict)
    swept: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedWork:
    """A work that a paper compares itself with; `depth` of its in-situ labels, `networks` that it was validated on.

    The marks of the benchmark tables: `other_period`, in-situ data of another time than the paper's training data (*);
    `region_specific` models (**); `shares_sensors`, training and validation may share sensors (***).
    """

    name: str
    depth: str
    period: str
    networks: tuple[str, ...]
    method: str
    validation: str
    other_period: bool = False
    region_specific: bool = False
    shares_sensors: bool = False
    caveats: tuple[str, ...] = ()

    @property
    def marks(self) -> str:
        """The asterisks of the benchmark tables."""
        return "*" * self.other_period + "**" * self.region_specific + "***" * self.shares_sensors


@dataclass(frozen=True)
class PublishedWorks:
    """A table of works that a paper compares itself with."""

    paper: str
    table: str
    caption: str
    works: tuple[PublishedWork, ...]
    caveats: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """Return one row a work, with names as its index and text as its cells."""
        texts = {"networks": ", ".join, "caveats": " ".join}
        names = ["depth", "period", "networks", "method", "validation", "marks", "caveats"]
        rows = {w.name: [texts.get(n, str)(getattr(w, n)) for n in names] for w in self.works}
        return pd.DataFrame.from_dict(rows, orient="index", columns=names).rename_axis("work")


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FILES = {
    paper: yaml.load((Path(__file__).parent / f"{paper}.yaml").read_text("utf-8"), _LOADER)
    for paper in ("hu2018", "smen", "batchu2023")
}
#: Short names of the papers, and what each is.
PAPERS: dict[str, str] = {paper: of["title"] for paper, of in _FILES.items()}


#: Every table by (paper, table).
PUBLISHED: dict[tuple[str, str], Any] = {
    (paper, one["table"]): TypeAdapter(kind).validate_python({"paper": paper, **one})
    for key, kind in (("tables", PublishedTable), ("settings", PublishedSettings), ("works", PublishedWorks))
    for paper, of in _FILES.items()
    for one in of.get(key, ())
}


def published(paper: str, table: str) -> Any:
    """Return one table of one paper, of numbers, of settings or of works; a `ParameterError` lists what there is.

    >>> published("hu2018", "Table 2").value("CNN", "R^2")
    0.6512
    """
    if (paper, table) not in PUBLISHED:
        raise ParameterError("published", "unknown table", got=(paper, table), expected=sorted(PUBLISHED))
    return PUBLISHED[paper, table]


def compare_with(
    run: Mapping[str, Mapping[str, float]] | pd.DataFrame, table: PublishedTable, *, synthetic: bool
) -> pd.DataFrame:
    """Put a run's numbers beside a published table.

    `run` has for each row label of the table the run's metrics by name: ``{"CNN": {"r2": 0.6, "rmse_scaled": 0.1}}``, or the same
    as a DataFrame; rows and metrics may be missing; `ParameterError` for one that the table does not know. Whether the run used
    simulated data is asked for, not guessed, so that no comparison leaves it open.

    One row a published number and metric that it may stand for (none for a column without one): ``paper``, ``table``, ``row``,
    ``column``, ``unit``, ``published``, ``run_metric``, ``run``, ``difference`` (run minus published), ``synthetic``. ``attrs``:
    the ``title`` (which ends with "(synthetic)" for such a run), ``caveats`` and ``omitted``.

    >>> found = compare_with({"CNN": {"r2": 0.70}}, published("hu2018", "Table 2"), synthetic=True)
    >>> print(*found.loc[0, ["row", "run_metric", "published", "run", "synthetic"]])
    CNN r2 0.6512 0.7 True
    """
    who = "compare_with"
    if not isinstance(table, PublishedTable):
        got, step = type(table).__name__, "Get it with published()"
        raise ParameterError(who, "the table is not a PublishedTable", got=got, next_step=step)
    rows = run.to_dict("index") if isinstance(run, pd.DataFrame) else run
    known = {metric for column in table.columns for metric in column.run_metrics}
    unknown_rows = [label for label in rows if label not in table.rows]
    unknown = sorted({metric for metrics in rows.values() for metric in metrics} - known)
    if unknown_rows or unknown:
        expected = (tuple(table.rows), tuple(sorted(known)))
        what = f"{table.paper} {table.table} has no such row or metric"
        raise ParameterError(who, what, got=(unknown_rows, unknown), expected=expected)
    names = ["paper", "table", "row", "column", "unit", "published", "run_metric", "run"]
    found = [
        (table.paper, table.table, label, column.name, column.unit, value, metric, rows.get(label, {}).get(metric))
        for label, values in table.rows.items()
        for column, value in zip(table.columns, values, strict=True)
        for metric in column.run_metrics
    ]
    result = pd.DataFrame(found, columns=names).astype({"published": "float64", "run": "float64"})
    result = result.assign(difference=result["run"] - result["published"], synthetic=bool(synthetic))
    result.attrs["title"] = f"{table.paper} {table.table}: {table.caption}" + synthetic_label(bool(synthetic))
    result.attrs |= {"caveats": list(table.caveats), "omitted": list(table.omitted)}
    return result
