"""Tables of Hu, Xu and Yu (2018)."""

from __future__ import annotations

from smnb.papers.tables.records import PublishedColumn, PublishedTable

_SAMPLES = PublishedTable(
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

_SCORES = PublishedTable(
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

#: In the paper's order.
TABLES: tuple[PublishedTable, ...] = (_SAMPLES, _SCORES)
