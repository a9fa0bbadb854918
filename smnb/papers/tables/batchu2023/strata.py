"""Tables 10 to 12 of Batchu et al.: validation scores by land cover, soil texture and climate."""

from __future__ import annotations

from smnb.papers.tables.records import PublishedColumn, PublishedTable

_NAN = float("nan")
_COLUMNS = (
    PublishedColumn("ubRMSE", "m3 m-3", ("ubrmse",)),
    PublishedColumn("RMSE", "m3 m-3", ("rmse",)),
    PublishedColumn("Correlation", "1", ("pearson_r",)),
)
_CAVEATS = (
    "Means over the sensors of the validation split, which shares regions with the training split: sensors were drawn one by "
    "one over the globe.",
    "Another set of sensors, period and model than a run here: the order of the strata can be compared, the level cannot.",
    "A dash in the paper is NaN here. The paper gives neither the number of sensors a stratum nor an interval.",
)


def _by_stratum(table: str, what: str, few: str, rows: dict[str, tuple[float, ...]], *more: str) -> PublishedTable:
    """Make one of the tables by stratum; `few` names the strata with an asterisk, which the row labels do not carry."""
    caveats = (f"{table}: fewer than five sensors, by the paper's asterisk: {few}.", *_CAVEATS, *more)
    return PublishedTable("batchu2023", table, f"Validation scores by {what}", _COLUMNS, rows, caveats)


_LAND_COVER = _by_stratum(
    "Table 10",
    "land cover (Copernicus, eight groups)",
    "Bareground, Built-up, Wetland",
    {
        "Agriculture": (0.055, 0.084, 0.729),
        "Closed forest": (0.057, 0.082, 0.726),
        "Open forest": (0.055, 0.088, 0.745),
        "Vegetation": (0.055, 0.089, 0.71),
        "Shrubs": (0.034, 0.068, 0.775),
        "Bareground": (0.027, 0.029, 0.725),
        "Built-up": (_NAN, _NAN, _NAN),
        "Wetland": (_NAN, _NAN, _NAN),
    },
    "Tables 10 and 11: the caption says that the asterisk counts sensors of the test data, the column head says validation.",
)
_TEXTURE = _by_stratum(
    "Table 11",
    "soil texture (USDA)",
    "Sand, Clay, Loamy sand, Sandy clay, Silty clay",
    {
        "Loam": (0.052, 0.085, 0.72),
        "Sandy loam": (0.055, 0.083, 0.78),
        "Silty clay loam": (0.056, 0.079, 0.57),
        "Clay loam": (0.05, 0.088, 0.7),
        "Sandy clay loam": (0.032, 0.074, 0.78),
        "Silt loam": (0.056, 0.079, 0.78),
        "Sand": (0.032, 0.032, 0.15),
        "Clay": (0.052, 0.06, 0.67),
        "Loamy sand": (0.108, 0.117, 0.77),
        "Sandy clay": (0.115, 0.134, 0.8),
        "Silty clay": (_NAN, _NAN, _NAN),
    },
    "Tables 10 and 11: the caption says that the asterisk counts sensors of the test data, the column head says validation.",
)
_CLIMATE = _by_stratum(
    "Table 12",
    "climate (Köppen-Geiger, two letters)",
    "Dw, ET, Af, Am, Aw",
    {
        "Semi arid (BS)": (0.063, 0.086, 0.68),
        "Dry desert (BW)": (0.037, 0.043, 0.76),
        "Humid subtropical (Cf)": (0.05, 0.077, 0.73),
        "Summer Mediterranean (Cs)": (0.049, 0.095, 0.77),
        "Humid continental (Df)": (0.059, 0.094, 0.75),
        "Mediterranean-influenced (Ds)": (0.057, 0.069, 0.8),
        "Monsoon influenced (Dw)": (0.059, 0.094, 0.45),
        "Tundra (ET)": (0.032, 0.078, 0.9),
        "Tropical rainforest (Af)": (_NAN, _NAN, _NAN),
        "Tropical monsoon (Am)": (_NAN, _NAN, _NAN),
        "Tropical wet and dry (Aw)": (0.033, 0.044, 0.93),
    },
    "Table 12: Dw has the ubRMSE and RMSE of Df (0.059 and 0.094) to the last digit, and no other number of the two agrees.",
)

#: In the paper's order.
TABLES: tuple[PublishedTable, ...] = (_LAND_COVER, _TEXTURE, _CLIMATE)
