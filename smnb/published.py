"""The papers' tables as data, each with what one must know before comparing a run with it.

The numbers are quoted from the papers by table; captions are in this project's own words. A paper's results come from its
own data: a run on synthetic data is not expected to reach them, and the comparison says when a run is synthetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from smnb.contract import ParameterError, synthetic_label

__all__ = ["PAPERS", "PUBLISHED", "PublishedColumn", "PublishedTable", "compare_with", "published"]

#: Short names of the papers.
PAPERS: dict[str, str] = {
    "hu2018": "Hu, Xu and Yu (2018): AMSR-E brightness temperatures to ECMWF soil moisture by a CNN, against SVR",
}


@dataclass(frozen=True)
class PublishedColumn:
    """One column of numbers of a published table."""

    name: str
    """As in the paper."""
    unit: str
    """Unit, or "not stated"."""
    run_metrics: tuple[str, ...] = ()
    """Names of a run's metrics that it can be held against: several where the paper leaves open what it means."""


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper.

    Parameters
    ----------
    paper : str
        Key of `PAPERS`.
    table : str
        The paper's own number.
    caption : str
        What it holds, in this project's words.
    columns : tuple of PublishedColumn
    rows : mapping of str to tuple of float
        Row label to its numbers, in the order of the columns.
    caveats : tuple of str
        What the paper leaves open or contradicts.
    """

    paper: str
    table: str
    caption: str
    columns: tuple[PublishedColumn, ...]
    rows: Mapping[str, tuple[float, ...]]
    caveats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for label, values in self.rows.items():
            if len(values) != len(self.columns):
                raise ParameterError(
                    "PublishedTable", f"row {label!r} of {self.paper} {self.table} has not one number a column",
                    got=len(values), expected=len(self.columns),
                )  # fmt: skip

    def frame(self) -> pd.DataFrame:
        """Return the numbers as a DataFrame with the paper's own row and column labels."""
        names = [c.name for c in self.columns]
        return pd.DataFrame.from_dict({k: list(v) for k, v in self.rows.items()}, orient="index", columns=names)

    def value(self, row: str, column: str) -> float:
        """Return one number.

        Raises
        ------
        ParameterError
            On an unknown row or column.
        """
        names = [c.name for c in self.columns]
        if row not in self.rows or column not in names:
            raise ParameterError(
                "PublishedTable.value", f"{self.paper} {self.table} has no such number", got=(row, column),
                expected=(tuple(self.rows), tuple(names)),
            )  # fmt: skip
        return self.rows[row][names.index(column)]


_HU_SAMPLES = PublishedTable(
    paper="hu2018",
    table="Table 1",
    caption="Number of 9 x 9 patches for training, validation and testing (July 2011)",
    columns=(
        PublishedColumn("Training", "patches", ("n_train",)),
        PublishedColumn("Validation", "patches", ("n_validation",)),
        PublishedColumn("Testing", "patches", ("n_test",)),
    ),
    rows={
        "CNN AMSR-E": (30 * 30_000, 30 * 5_000, 50_000),
        "CNN ECMWF": (30 * 30_000, 30 * 5_000, 50_000),
        "SVR AMSR-E": (30 * 30_000, 30 * 5_000, 50_000),
        "SVR ECMWF": (30 * 30_000, 30 * 5_000, 50_000),
    },
    caveats=(
        "Printed as days times patches a day: 30 x 30,000, 30 x 5,000 and 1 x 50,000; the products are given here.",
        "Training and validation patches share their days (1-30 July), so they are not independent; the test day is 31 July.",
    ),
)

_HU_SCORES = PublishedTable(
    paper="hu2018",
    table="Table 2",
    caption="Score of the CNN and of support vector regression on the test day",
    columns=(
        PublishedColumn("R^2", "1", ("r2", "r2_pearson")),
        PublishedColumn("RMSE", "not stated", ("rmse_scaled", "rmse")),
    ),
    rows={"CNN": (0.6512, 0.1272), "SVR": (0.5598, 0.1817)},
    caveats=(
        "The unit of the RMSE is not stated. Inputs and targets were scaled to [0, 1], so the RMSE of scaled targets "
        "(rmse_scaled) is the plausible reading; an RMSE in m3 m-3 (rmse) is then not comparable.",
        "R^2 is not defined: it may be the coefficient of determination (r2) or the squared correlation (r2_pearson).",
        "Kernel and parameters of the SVR are not given.",
        "One test day, the day after the training days: no independent period or region.",
    ),
)

#: Every table by (paper, table).
PUBLISHED: dict[tuple[str, str], PublishedTable] = {(t.paper, t.table): t for t in (_HU_SAMPLES, _HU_SCORES)}


def published(paper: str, table: str) -> PublishedTable:
    """Return one table of one paper.

    Raises
    ------
    ParameterError
        If it is not here; the message lists what is.

    Examples
    --------
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

    Parameters
    ----------
    run : mapping of str to mapping, or DataFrame
        For each row label of the table, the run's metrics by name: ``{"CNN": {"r2": 0.6, "rmse_scaled": 0.1}}``; or the
        same as a DataFrame with row labels as its index. Rows and metrics may be missing; the published ones stay.
    table : PublishedTable
    synthetic : bool
        Whether the run used simulated data. It is asked for, not guessed, so that no comparison leaves it open.

    Returns
    -------
    DataFrame
        One row a published number and metric that it may stand for: ``paper``, ``table``, ``row``, ``column``, ``unit``,
        ``published``, ``run_metric``, ``run``, ``difference`` (run minus published), ``synthetic``. ``attrs`` has the
        ``title`` (which ends with "(synthetic)" for such a run) and the ``caveats``.

    Raises
    ------
    ParameterError
        If the run has a row or metric that the table does not know.

    Examples
    --------
    >>> found = compare_with({"CNN": {"r2": 0.70}}, published("hu2018", "Table 2"), synthetic=True)
    >>> print(*found.loc[0, ["row", "run_metric", "published", "run", "synthetic"]])
    CNN r2 0.6512 0.7 True
    """
    who = "compare_with"
    if not isinstance(table, PublishedTable):
        raise ParameterError(
            who, "the table is not a PublishedTable", got=type(table).__name__, next_step="Get it with published()"
        )
    rows = run.to_dict("index") if isinstance(run, pd.DataFrame) else {k: dict(v) for k, v in run.items()}
    known = {metric for column in table.columns for metric in column.run_metrics}
    unknown_rows = [label for label in rows if label not in table.rows]
    unknown = sorted({metric for metrics in rows.values() for metric in metrics} - known)
    if unknown_rows or unknown:
        raise ParameterError(
            who, f"{table.paper} {table.table} has no such row or metric", got=(unknown_rows, unknown),
            expected=(tuple(table.rows), tuple(sorted(known))),
        )  # fmt: skip
    records = []
    for label, values in table.rows.items():
        for column, value in zip(table.columns, values, strict=True):
            for metric in column.run_metrics:
                mine = float(rows.get(label, {}).get(metric, float("nan")))
                records.append((table.paper, table.table, label, column.name, column.unit, value, metric, mine,
                                mine - value, bool(synthetic)))  # fmt: skip
    result = pd.DataFrame(
        records,
        columns=[
            "paper",
            "table",
            "row",
            "column",
            "unit",
            "published",
            "run_metric",
            "run",
            "difference",
            "synthetic",
        ],
    )
    result.attrs["title"] = f"{table.paper} {table.table}: {table.caption}" + synthetic_label(bool(synthetic))
    result.attrs["caveats"] = list(table.caveats)
    return result
