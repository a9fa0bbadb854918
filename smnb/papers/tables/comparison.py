"""A run's numbers beside a published table's."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from smnb.contract import ParameterError, synthetic_label
from smnb.papers.tables.records import PublishedTable


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
        ``title`` (which ends with "(synthetic)" for such a run), the ``caveats`` and the ``omitted`` numbers of the table. A
        column that no metric of a run can be held against has no row.

    Raises
    ------
    ParameterError
        If the run has a row or metric that the table does not know.

    Examples
    --------
    >>> from smnb.papers.tables import published
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
            who,
            f"{table.paper} {table.table} has no such row or metric",
            got=(unknown_rows, unknown),
            expected=(tuple(table.rows), tuple(sorted(known))),
        )
    records = []
    for label, values in table.rows.items():
        for column, value in zip(table.columns, values, strict=True):
            for metric in column.run_metrics:
                mine = float(rows.get(label, {}).get(metric, float("nan")))
                records.append(
                    (
                        table.paper,
                        table.table,
                        label,
                        column.name,
                        column.unit,
                        value,
                        metric,
                        mine,
                        mine - value,
                        bool(synthetic),
                    )
                )
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
    result.attrs["omitted"] = list(table.omitted)
    return result
