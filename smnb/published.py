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
    "smen": "Tsagkatakis, Moghaddam and Tsakalides: SMEN, SMAP soil moisture from 36 km to 3 km",
    "batchu2023": "Batchu, Nearing and Gulshan (2023): Sentinel-1 and -2, SoilGrids, SMAP and GLDAS to soil moisture at 320 m",
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

_SMEN_COLUMNS = (
    PublishedColumn("uRMSE (train)", "m3 m-3", ("ubrmse_train",)),
    PublishedColumn("uRMSE (test)", "m3 m-3", ("ubrmse_test",)),
)
_SMEN_CAVEATS = (
    "The errors are the loss of Eq. 2, which is blind to the mean of each image: they say nothing of the level.",
    "Training 2016-2017, testing 2018, on images from Worldview; neither the length of the history nor the batch size is stated.",
    "Scored against the SMAP/Sentinel-1 product at 3 km, not against sensors, and only where that product has values.",
)


def _smen(table: str, what: str, rows: dict[str, tuple[float, ...]], *more: str) -> PublishedTable:
    return PublishedTable("smen", table, f"Unbiased RMSE of the estimate by {what}", _SMEN_COLUMNS, rows,
                          (*_SMEN_CAVEATS, *more))  # fmt: skip


_SMEN_REGIONS = _smen(
    "Table 1", "region",
    {"Oklahoma City": (0.021, 0.048), "Tucson": (0.024, 0.034), "Geneva": (0.057, 0.046)},
    "Training and test images: Oklahoma City 80 and 50, Tucson 30 and 10, Geneva 60 and 30.",
)  # fmt: skip
_SMEN_INPUTS = _smen(
    "Table 2", "inputs (Tucson)",
    {"Spatial": (0.022, 0.039), "Temporal": (0.026, 0.049), "Spatiotemporal": (0.024, 0.034)},
)  # fmt: skip
_SMEN_SIZES = _smen(
    "Table 3", "number of training images",
    {"10": (0.025, 0.085), "20": (0.025, 0.068), "50": (0.023, 0.033), "100": (0.022, 0.034)},
    "The region is not stated. Ten test images as for Tucson, but Tucson has 30 training images in Table 1, not 100.",
)  # fmt: skip

_NAN = float("nan")
_BATCHU_COLUMNS = (
    PublishedColumn("ubRMSE", "m3 m-3", ("ubrmse",)),
    PublishedColumn("RMSE", "m3 m-3", ("rmse",)),
    PublishedColumn("Correlation", "1", ("pearson_r",)),
)
_BATCHU_CAVEATS = (
    "Means over the sensors of the validation split, which shares regions with the training split: sensors were drawn one by "
    "one over the globe.",
    "Another set of sensors, period and model than a run here: the order of the strata can be compared, the level cannot.",
    "A dash in the paper is NaN here. The paper gives neither the number of sensors a stratum nor an interval.",
)


def _batchu(table: str, what: str, few: str, rows: dict[str, tuple[float, ...]], *more: str) -> PublishedTable:
    """Make one of the tables by stratum; `few` names the strata with an asterisk, which the row labels do not carry."""
    caveats = (f"{table}: fewer than five sensors, by the paper's asterisk: {few}.", *_BATCHU_CAVEATS, *more)
    return PublishedTable("batchu2023", table, f"Validation scores by {what}", _BATCHU_COLUMNS, rows, caveats)


_BATCHU_LAND_COVER = _batchu(
    "Table 10", "land cover (Copernicus, eight groups)", "Bareground, Built-up, Wetland",
    {
        "Agriculture": (0.055, 0.084, 0.729), "Closed forest": (0.057, 0.082, 0.726), "Open forest": (0.055, 0.088, 0.745),
        "Vegetation": (0.055, 0.089, 0.71), "Shrubs": (0.034, 0.068, 0.775), "Bareground": (0.027, 0.029, 0.725),
        "Built-up": (_NAN, _NAN, _NAN), "Wetland": (_NAN, _NAN, _NAN),
    },
    "Tables 10 and 11: the caption says that the asterisk counts sensors of the test data, the column head says validation.",
)  # fmt: skip
_BATCHU_TEXTURE = _batchu(
    "Table 11", "soil texture (USDA)", "Sand, Clay, Loamy sand, Sandy clay, Silty clay",
    {
        "Loam": (0.052, 0.085, 0.72), "Sandy loam": (0.055, 0.083, 0.78), "Silty clay loam": (0.056, 0.079, 0.57),
        "Clay loam": (0.05, 0.088, 0.7), "Sandy clay loam": (0.032, 0.074, 0.78), "Silt loam": (0.056, 0.079, 0.78),
        "Sand": (0.032, 0.032, 0.15), "Clay": (0.052, 0.06, 0.67), "Loamy sand": (0.108, 0.117, 0.77),
        "Sandy clay": (0.115, 0.134, 0.8), "Silty clay": (_NAN, _NAN, _NAN),
    },
    "Tables 10 and 11: the caption says that the asterisk counts sensors of the test data, the column head says validation.",
)  # fmt: skip
_BATCHU_CLIMATE = _batchu(
    "Table 12", "climate (Köppen-Geiger, two letters)", "Dw, ET, Af, Am, Aw",
    {
        "Semi arid (BS)": (0.063, 0.086, 0.68), "Dry desert (BW)": (0.037, 0.043, 0.76),
        "Humid subtropical (Cf)": (0.05, 0.077, 0.73), "Summer Mediterranean (Cs)": (0.049, 0.095, 0.77),
        "Humid continental (Df)": (0.059, 0.094, 0.75), "Mediterranean-influenced (Ds)": (0.057, 0.069, 0.8),
        "Monsoon influenced (Dw)": (0.059, 0.094, 0.45), "Tundra (ET)": (0.032, 0.078, 0.9),
        "Tropical rainforest (Af)": (_NAN, _NAN, _NAN), "Tropical monsoon (Am)": (_NAN, _NAN, _NAN),
        "Tropical wet and dry (Aw)": (0.033, 0.044, 0.93),
    },
    "Table 12: Dw has the ubRMSE and RMSE of Df (0.059 and 0.094) to the last digit, and no other number of the two agrees.",
)  # fmt: skip

#: Every table by (paper, table).
PUBLISHED: dict[tuple[str, str], PublishedTable] = {
    (t.paper, t.table): t
    for t in (
        _HU_SAMPLES,
        _HU_SCORES,
        _SMEN_REGIONS,
        _SMEN_INPUTS,
        _SMEN_SIZES,
        _BATCHU_LAND_COVER,
        _BATCHU_TEXTURE,
        _BATCHU_CLIMATE,
    )
}


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
