"""The papers' tables as data, each with what one must know before comparing a run with it.

The numbers are quoted from the papers by table; captions are in this project's own words. A paper's results come from its
own data: a run on synthetic data is not expected to reach them, and the comparison says when a run is synthetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smnb.contract import ParameterError
from smnb.papers.tables import batchu2023, hu2018, smen
from smnb.papers.tables.comparison import compare_with
from smnb.papers.tables.records import PublishedColumn, PublishedSettings, PublishedTable, PublishedWork, PublishedWorks

__all__ = [
    "PAPERS",
    "PUBLISHED",
    "PUBLISHED_SETTINGS",
    "PUBLISHED_WORKS",
    "PublishedColumn",
    "PublishedSettings",
    "PublishedTable",
    "PublishedWork",
    "PublishedWorks",
    "compare_with",
    "published",
    "published_settings",
    "published_works",
]

#: Short names of the papers.
PAPERS: dict[str, str] = {
    "hu2018": "Hu, Xu and Yu (2018): AMSR-E brightness temperatures to ECMWF soil moisture by a CNN, against SVR",
    "smen": "Tsagkatakis, Moghaddam and Tsakalides: SMEN, SMAP soil moisture from 36 km to 3 km",
    "batchu2023": "Batchu, Nearing and Gulshan (2023): Sentinel-1 and -2, SoilGrids, SMAP and GLDAS to soil moisture at 320 m",
}
#: Every table of numbers by (paper, table).
PUBLISHED: dict[tuple[str, str], PublishedTable] = {
    (t.paper, t.table): t for paper in (hu2018, smen, batchu2023) for t in paper.TABLES
}
#: Every table of settings by (paper, table).
PUBLISHED_SETTINGS: dict[tuple[str, str], PublishedSettings] = {(t.paper, t.table): t for t in batchu2023.SETTINGS}
#: Every table of works that a paper compares itself with, by (paper, table).
PUBLISHED_WORKS: dict[tuple[str, str], PublishedWorks] = {(t.paper, t.table): t for t in batchu2023.WORKS}


def _one_of(who: str, tables: Mapping[tuple[str, str], Any], paper: str, table: str) -> Any:
    if (paper, table) not in tables:
        raise ParameterError(who, "unknown table", got=(paper, table), expected=sorted(tables))
    return tables[paper, table]


def published(paper: str, table: str) -> PublishedTable:
    """Return one table of numbers of one paper.

    Raises
    ------
    ParameterError
        If it is not here; the message lists what is.

    Examples
    --------
    >>> published("hu2018", "Table 2").value("CNN", "R^2")
    0.6512
    """
    return _one_of("published", PUBLISHED, paper, table)


def published_settings(paper: str, table: str) -> PublishedSettings:
    """Return one table of settings of one paper.

    Raises
    ------
    ParameterError
        If it is not here; the message lists what is.

    Examples
    --------
    >>> published_settings("batchu2023", "Table 7").values["Learning rate"]
    (0.1, 0.05, 0.03)
    """
    return _one_of("published_settings", PUBLISHED_SETTINGS, paper, table)


def published_works(paper: str, table: str) -> PublishedWorks:
    """Return one table of works that one paper compares itself with.

    Raises
    ------
    ParameterError
        If it is not here; the message lists what is.

    Examples
    --------
    >>> published_works("batchu2023", "Table 8").works[0].networks
    ('AMMA-CATCH', 'SCAN', 'SNOTEL', 'USCRN')
    """
    return _one_of("published_works", PUBLISHED_WORKS, paper, table)
