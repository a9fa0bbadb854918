"""What a paper's table is kept as: numbers by row and column, settings, or the works that a paper compares with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from smnb.contract import ParameterError


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
        Row label to its numbers, in the order of the columns; NaN where the paper has none or it is in `omitted`.
    caveats : tuple of str
        What the paper leaves open or contradicts.
    omitted : tuple of (str, str)
        Row and column of each number that is left out, since the text at hand does not say for certain which it is.
    baseline : str, optional
        Row that `changes` refer to.
    changes : mapping of str to tuple of float
        Relative changes as printed, percent, positive where the score is better than the baseline's; NaN where none is.

    Raises
    ------
    ParameterError
        If a row has not one number a column, if an omitted number is given or has no place, or changes have no baseline.
    """

    paper: str
    table: str
    caption: str
    columns: tuple[PublishedColumn, ...]
    rows: Mapping[str, tuple[float, ...]]
    caveats: tuple[str, ...] = ()
    omitted: tuple[tuple[str, str], ...] = ()
    baseline: str | None = None
    changes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label, values in [*self.rows.items(), *self.changes.items()]:
            if len(values) != len(self.columns):
                raise ParameterError(
                    "PublishedTable",
                    f"row {label!r} of {self.paper} {self.table} has not one number a column",
                    got=len(values),
                    expected=len(self.columns),
                )
        for row, column in self.omitted:
            if not math.isnan(self.value(row, column)):
                raise ParameterError(
                    "PublishedTable",
                    f"a number of {self.paper} {self.table} is both given and omitted",
                    got=(row, column, self.value(row, column)),
                    expected="NaN where a number is omitted",
                )
        if unknown := [row for row in self.changes if row not in self.rows or self.baseline not in self.rows]:
            raise ParameterError(
                "PublishedTable",
                f"changes of {self.paper} {self.table} are of no row or have no baseline",
                got=(unknown, self.baseline),
                expected=tuple(self.rows),
            )

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
                "PublishedTable.value",
                f"{self.paper} {self.table} has no such number",
                got=(row, column),
                expected=(tuple(self.rows), tuple(names)),
            )
        return self.rows[row][names.index(column)]


@dataclass(frozen=True)
class PublishedSettings:
    """A table of settings: each has one number or several, and some were chosen among candidates.

    Parameters
    ----------
    paper, table, caption, caveats
        As `PublishedTable`.
    values : mapping of str to tuple of float
        What was used: one number a block or layer; for a swept setting, all that were swept.
    candidates : mapping of str to tuple of float
        What it was selected from, where the paper says so.
    swept : tuple of str
        Settings whose best value was picked anew for each experiment.
    """

    paper: str
    table: str
    caption: str
    values: Mapping[str, tuple[float, ...]]
    candidates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    swept: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := [name for name in (*self.candidates, *self.swept) if name not in self.values]:
            raise ParameterError(
                "PublishedSettings",
                f"{self.paper} {self.table} has no such setting",
                got=unknown,
                expected=tuple(self.values),
            )


@dataclass(frozen=True)
class PublishedWork:
    """A work that a paper compares itself with.

    Parameters
    ----------
    name : str
        Authors and year, as the benchmark tables' columns are named.
    depth : str
        Depth of the in-situ labels.
    period : str
        Years of the in-situ data.
    networks : tuple of str
        Sensor networks that it was validated on.
    method : str
        What it is, in this project's words.
    validation : str
        Which sensors or data points it was scored on.
    other_period, region_specific, shares_sensors : bool
        Marks of the benchmark tables: in-situ data of another time than the paper's training data (*), models made for
        their region (**), training and validation may share sensors (***).
    caveats : tuple of str
        What one must know of its scores.
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
    """A table of works that a paper compares itself with; parameters as `PublishedTable`, and its `works`."""

    paper: str
    table: str
    caption: str
    works: tuple[PublishedWork, ...]
    caveats: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """Return one row a work, with names as its index and text as its cells."""
        rows = {
            work.name: (
                work.depth,
                work.period,
                ", ".join(work.networks),
                work.method,
                work.validation,
                work.marks,
                " ".join(work.caveats),
            )
            for work in self.works
        }
        columns = ["depth", "period", "networks", "method", "validation", "marks", "caveats"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("work")
