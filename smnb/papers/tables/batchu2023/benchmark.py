"""Tables 8, 13 and 14 of Batchu et al.: the works that it compares itself with, and the scores by sensor network.

The text at hand has lost the columns of Tables 13 and 14. What is kept is what the order of the text and the networks of
Table 8 settle; every other number is named in ``omitted``.
"""

from __future__ import annotations

from collections.abc import Mapping

from smnb.papers.tables.records import PublishedColumn, PublishedTable, PublishedWork, PublishedWorks

_NAN = float("nan")
_PAPER = "batchu2023"
_EVERY_SENSOR = "all sensors"
_WORKS = (
    PublishedWork(
        "Kerr et al. 2016",
        "0-5 cm",
        "2010-2013",
        ("AMMA-CATCH", "SCAN", "SNOTEL", "USCRN"),
        "SMOS retrievals",
        _EVERY_SENSOR,
        caveats=(
            "Medians of correlation over a network's sensors, not means: not in Table 14.",
            "Its years are before the paper's data, but it has no asterisk in Table 13.",
        ),
    ),
    PublishedWork(
        "Bi et al. 2016",
        "0-5 cm",
        "MAQU 2008-2011, NAQU 2010-2012",
        ("MAQU", "NAQU"),
        "four land surface models of GLDAS",
        f"{_EVERY_SENSOR}, averaged in each pixel of the model",
        other_period=True,
        caveats=("Of the four models the one that is best at the network: VIC at MAQU, CLM at NAQU.",),
    ),
    PublishedWork(
        "Albergel et al. 2012",
        "0-5 cm (model 0-7 cm)",
        "2008-2010",
        ("AMMA-CATCH", "SCAN", "SMOSMANIA", "REMEDHUS"),
        "ECMWF analyses",
        _EVERY_SENSOR,
        other_period=True,
        caveats=("It has no ubRMSE: the paper takes sqrt(RMSE2 - bias2) by sensor, for the networks that list both.",),
    ),
    PublishedWork(
        "Wang et al. 2021",
        "0-5 cm",
        "2017-2018",
        ("FR_Aqui", "RSMN", "SCAN", "SMOSMANIA", "SNOTEL", "USCRN", "REMEDHUS"),
        "the products CCI and SMOPS",
        f"{_EVERY_SENSOR}, averaged in each pixel and over 24 hours",
        caveats=("CCI is compared with, the better of the two.", "It has neither ubRMSE nor bias: not in Table 14."),
    ),
    PublishedWork(
        "Fang et al. 2021", "0-5 cm", "2018-2019", ("SCAN", "USCRN"), "statistical downscaling to 400 m", _EVERY_SENSOR
    ),
    PublishedWork(
        "Balenzano et al. 2021",
        "0-5 cm",
        "2015-2018, at some sites to 2020",
        ("LITTLEWASHITA", "REMEDHUS", "TXSON", "YANCO"),
        "physical retrieval from series of Sentinel-1, land cover, texture",
        _EVERY_SENSOR,
    ),
    PublishedWork(
        "Dente, Su and Wen 2012",
        "0-5 cm",
        "2010",
        ("MAQU", "TWENTE"),
        "SMOS retrievals",
        f"{_EVERY_SENSOR}, averaged in each SMOS pixel",
        other_period=True,
        caveats=("Not in Table 14.",),
    ),
    PublishedWork(
        "Collow et al. 2012",
        "0-5 cm",
        "2010",
        ("FORTCOBB", "LITTLEWASHITA"),
        "SMOS retrievals",
        f"{_EVERY_SENSOR}, averaged in each SMOS pixel",
        other_period=True,
    ),
    PublishedWork(
        "Jing, Song and Zhao 2018",
        "0-5 cm",
        "2008-2011",
        ("KYEAMBA", "YANCO"),
        "multilayer land surface models of ECMWF",
        _EVERY_SENSOR,
        other_period=True,
    ),
    PublishedWork(
        "Karthikeyan and Mishra 2021",
        "0-5 cm",
        "2015-2019",
        ("FORTCOBB", "LITTLEWASHITA", "TXSON"),
        "XGBoost, a model a region",
        "sensors held out",
        region_specific=True,
        caveats=("Medians over a network's sensors, not means.",),
    ),
    PublishedWork(
        "Abbaszadeh, Moradkhani and Zhan 2019",
        "0-5 cm",
        "2015",
        ("SCAN", "USCRN", "LITTLEWASHITA"),
        "twelve random forests, one a soil texture",
        "a fifth of the data points, of the training's sensors too",
        shares_sensors=True,
    ),
)
_COMPARED = PublishedWorks(
    _PAPER,
    "Table 8",
    "Works that the model is compared with",
    _WORKS,
    (
        "Eleven works; the abstract says 13, which counts SMAP and GLDAS.",
        "They differ in years, splits and whether sensors are averaged within a pixel, which eases the task: no rigorous "
        "comparison, as the paper itself says.",
        "The text at hand has lost the columns: which of Fang et al., Dente et al. and Jing et al. averages sensors within "
        "SMOS pixels is taken from Dente et al. being the one of them on SMOS.",
    ),
)

#: Rows of Tables 13 and 14, in the paper's order.
_NETWORKS = (
    "AMMA-CATCH",
    "BIEBRZA_S-1",
    "FR_Aqui",
    "MAQU",
    "NAQU",
    "RSMN",
    "SCAN",
    "SMOSMANIA",
    "SNOTEL",
    "USCRN",
    "FORTCOBB",
    "KYEAMBA",
    "LITTLEWASHITA",
    "REMEDHUS",
    "TWENTE",
    "TXSON",
    "YANCO",
)
_CAVEATS = (
    "Which split's sensors a network's number is of, and how many they are, is not stated.",
    "IMA_CAN1 and SOILSCAPE, of Table 1, have no row.",
    "Works differ in years (*), region (**) and split (***): see the works of Table 8.",
    "Columns of this table are lost in the text at hand: a NaN is a blank cell or, where it is in `omitted`, a number whose "
    "place is not certain.",
)


def _benchmark(
    table: str,
    score: str,
    unit: str,
    metric: str,
    known: Mapping[str, Mapping[str, float]],
    without: tuple[str, ...],
    *more: str,
) -> PublishedTable:
    """Make a table by network: `known` numbers by column and network; `without` are works that it has no column of."""
    works = [work for work in _WORKS if work.name not in without]
    cells = {"Ours": _NETWORKS, **{work.name: work.networks for work in works}, "SMAP": _NETWORKS, "GLDAS": _NETWORKS}
    metrics = {"Ours": (metric,), "SMAP": (f"smap_{metric}",), "GLDAS": (f"gldas_{metric}",)}
    return PublishedTable(
        _PAPER,
        table,
        f"{score} by sensor network, beside other works, SMAP and GLDAS",
        tuple(PublishedColumn(name, unit, metrics.get(name, ())) for name in cells),
        {network: tuple(known.get(name, {}).get(network, _NAN) for name in cells) for network in _NETWORKS},
        (*more, *_CAVEATS),
        omitted=tuple(
            (network, name)
            for network in _NETWORKS
            for name, filled in cells.items()
            if network in filled and network not in known.get(name, {})
        ),
    )


_CORRELATION = _benchmark(
    "Table 13",
    "Correlation",
    "1",
    "pearson_r",
    {
        "Ours": {
            "AMMA-CATCH": 0.93,
            "BIEBRZA_S-1": 0.902,
            "FR_Aqui": 0.848,
            "MAQU": 0.450,
            "NAQU": 0.898,
            "RSMN": 0.428,
            "SCAN": 0.665,
            "SMOSMANIA": 0.88,
            "SNOTEL": 0.736,
            "USCRN": 0.674,
            "FORTCOBB": 0.767,
            "KYEAMBA": 0.913,
            "LITTLEWASHITA": 0.781,
            "REMEDHUS": 0.786,
            "TWENTE": 0.799,
            "TXSON": 0.821,
            "YANCO": 0.8,
        },
        "Kerr et al. 2016": {"AMMA-CATCH": 0.77},
        "Albergel et al. 2012": {"AMMA-CATCH": 0.53},
        "Bi et al. 2016": {"NAQU": 0.826},
    },
    (),
    "Ours is the number after the network's name. Of the other works three numbers are certain, in the rows that print as many "
    "as Table 8 has works there (AMMA-CATCH, NAQU). The numbers after these rows, SMAP's and GLDAS's among them, cannot be "
    "assigned: 19 pairs look like those of 17 networks.",
)
_UBRMSE = _benchmark(
    "Table 14",
    "ubRMSE",
    "m3 m-3",
    "ubrmse",
    {
        "Ours": {
            "AMMA-CATCH": 0.033,
            "FR_Aqui": 0.033,
            "MAQU": 0.059,
            "NAQU": 0.032,
            "RSMN": 0.044,
            "SCAN": 0.052,
            "SMOSMANIA": 0.038,
            "SNOTEL": 0.06,
            "USCRN": 0.054,
            "FORTCOBB": 0.03,
            "KYEAMBA": 0.08,
            "LITTLEWASHITA": 0.045,
            "REMEDHUS": 0.034,
            "TWENTE": 0.075,
            "TXSON": 0.037,
            "YANCO": 0.104,
        },
        "Bi et al. 2016": {"MAQU": 0.046, "NAQU": 0.034},
        "SMAP": {
            "FR_Aqui": 0.122,
            "MAQU": 0.061,
            "NAQU": 0.041,
            "RSMN": 0.131,
            "SCAN": 0.086,
            "SMOSMANIA": 0.091,
            "SNOTEL": 0.111,
            "USCRN": 0.082,
            "FORTCOBB": 0.1,
            "KYEAMBA": 0.066,
            "LITTLEWASHITA": 0.103,
            "REMEDHUS": 0.073,
            "TWENTE": 0.123,
            "TXSON": 0.088,
            "YANCO": 0.091,
        },
        "GLDAS": {
            "FR_Aqui": 0.032,
            "MAQU": 0.063,
            "NAQU": 0.046,
            "RSMN": 0.058,
            "SCAN": 0.06,
            "SMOSMANIA": 0.039,
            "SNOTEL": 0.081,
            "USCRN": 0.06,
            "FORTCOBB": 0.035,
            "KYEAMBA": 0.078,
            "LITTLEWASHITA": 0.06,
            "REMEDHUS": 0.041,
            "TWENTE": 0.105,
            "TXSON": 0.05,
            "YANCO": 0.109,
        },
    },
    ("Kerr et al. 2016", "Wang et al. 2021", "Dente, Su and Wen 2012"),
    "Ours is the number after the network's name; SMAP and GLDAS, the last columns, are the last two of a row. Rows of networks "
    "with no work here, or with Bi et al. alone, print just as many numbers as that, which settles them.",
    "The second line of the head stands within the rows of AMMA-CATCH and BIEBRZA_S-1: which six numbers are whose is not "
    "certain, BIEBRZA_S-1's own score included.",
    "Of the other works, four numbers within rows (LITTLEWASHITA, REMEDHUS, TXSON, YANCO) and 13 after them cannot be assigned; "
    "with Table 8's networks there are two more places than numbers, so two of the omitted cells are blank in the paper.",
)

#: In the paper's order.
TABLES: tuple[PublishedTable, ...] = (_CORRELATION, _UBRMSE)
#: Tables of works.
WORKS: tuple[PublishedWorks, ...] = (_COMPARED,)
