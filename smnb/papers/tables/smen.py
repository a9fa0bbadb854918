"""Tables of Tsagkatakis, Moghaddam and Tsakalides on SMEN."""

from __future__ import annotations

from smnb.papers.tables.records import PublishedColumn, PublishedTable

_COLUMNS = (
    PublishedColumn("uRMSE (train)", "m3 m-3", ("ubrmse_train",)),
    PublishedColumn("uRMSE (test)", "m3 m-3", ("ubrmse_test",)),
)
_CAVEATS = (
    "The errors are the loss of Eq. 2, which is blind to the mean of each image: they say nothing of the level.",
    "Training 2016-2017, testing 2018, on images from Worldview; neither the length of the history nor the batch size is stated.",
    "Scored against the SMAP/Sentinel-1 product at 3 km, not against sensors, and only where that product has values.",
)


def _scores(table: str, what: str, rows: dict[str, tuple[float, ...]], *more: str) -> PublishedTable:
    return PublishedTable("smen", table, f"Unbiased RMSE of the estimate by {what}", _COLUMNS, rows, (*_CAVEATS, *more))


_REGIONS = _scores(
    "Table 1",
    "region",
    {"Oklahoma City": (0.021, 0.048), "Tucson": (0.024, 0.034), "Geneva": (0.057, 0.046)},
    "Training and test images: Oklahoma City 80 and 50, Tucson 30 and 10, Geneva 60 and 30.",
)
_INPUTS = _scores(
    "Table 2",
    "inputs (Tucson)",
    {"Spatial": (0.022, 0.039), "Temporal": (0.026, 0.049), "Spatiotemporal": (0.024, 0.034)},
)
_SIZES = _scores(
    "Table 3",
    "number of training images",
    {"10": (0.025, 0.085), "20": (0.025, 0.068), "50": (0.023, 0.033), "100": (0.022, 0.034)},
    "The region is not stated. Ten test images as for Tucson, but Tucson has 30 training images in Table 1, not 100.",
)

#: In the paper's order.
TABLES: tuple[PublishedTable, ...] = (_REGIONS, _INPUTS, _SIZES)
