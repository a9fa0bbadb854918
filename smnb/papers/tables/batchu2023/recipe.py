"""Tables 1 to 7, 17 and 20 of Batchu et al.: sensors, inputs, time bounds, augmentations and hyper-parameters."""

from __future__ import annotations

from smnb.papers.tables.records import PublishedColumn, PublishedSettings, PublishedTable

_NAN = float("nan")
_PAPER = "batchu2023"
_SENSORS = (PublishedColumn("#Sensors", "sensors", ("n_sensors",)),)
_SENSOR_CAVEAT = (
    "Tables 1 and 2 add up to 838 + 120 = 958 sensors, as many as the text has locations; its abstract says ~1300."
)
_ISMN = PublishedTable(
    _PAPER,
    "Table 1",
    "Number of sensors by network of the ISMN",
    _SENSORS,
    {
        "AMMA-CATCH": (4,),
        "BIEBRZA_S-1": (25,),
        "FR_Aqui": (3,),
        "IMA_CAN1": (10,),
        "MAQU": (15,),
        "NAQU": (7,),
        "REMEDHUS": (20,),
        "RSMN": (19,),
        "SCAN": (179,),
        "SMOSMANIA": (10,),
        "SNOTEL": (372,),
        "SOILSCAPE": (60,),
        "USCRN": (114,),
    },
    (_SENSOR_CAVEAT, "IMA_CAN1 and SOILSCAPE are in no benchmark table."),
)
_CORE_SITES = PublishedTable(
    _PAPER,
    "Table 2",
    "Number of sensors by SMAP core validation site",
    _SENSORS,
    {"FORTCOBB": (17,), "KYEAMBA": (8,), "LITTLEWASHITA": (21,), "TWENTE": (22,), "TXSON": (40,), "YANCO": (12,)},
    (
        _SENSOR_CAVEAT,
        "Its head says sites or sensors, without saying which.",
        "A part of the core validation sites, those whose data the authors had.",
    ),
)
_SENTINEL2_BANDS = PublishedTable(
    _PAPER,
    "Table 3",
    "Bands of Sentinel-2 that are inputs: pixel and centre wavelength of both satellites",
    (
        PublishedColumn("Resolution", "m"),
        PublishedColumn("Wavelength S2A", "nm"),
        PublishedColumn("Wavelength S2B", "nm"),
    ),
    {
        "B2": (10, 496.6, 492.1),
        "B3": (10, 560, 559),
        "B4": (10, 664.5, 665),
        "B8": (10, 835.1, 833),
        "B11": (20, 1613.7, 1610.4),
        "B12": (20, 2202.4, 2185.7),
    },
    ("Table 17 has statistics of B5, B6 and B7 too, which are no inputs.",),
)
_RANGES = PublishedTable(
    _PAPER,
    "Table 4",
    "Ends of the linear scaling by source and band",
    (PublishedColumn("Min", "not stated", ("minimum",)), PublishedColumn("Max", "not stated", ("maximum",))),
    {
        "Sentinel-1 VV": (-25, 5),
        "Sentinel-1 VH": (-25, 5),
        "Sentinel-1 Angle": (0, 90),
        "MODIS LAI All bands": (0, 100),
        "Soil Grids All bands": (0, 800),
        "NASA DEM elevation": (0, 3000),
        "GLDAS SoilMoi0_10cm_inst": (0, 100),
        "SMAP ssm": (50, 255),
    },
    (
        "SMAP 50 to 255 mm cannot be: the product goes up to 25.39 mm. 0 to 50 mm, stored as 0 to 255, agrees with the paper's "
        "conversion over 5 cm and with its released code.",
        "The text calls the scaling zero-mean and unit-variance, which ends of a range do not give.",
        "Units are not stated; they are those of Earth Engine's bands.",
    ),
)
_HOURS_A_DAY, _HOURS_A_YEAR = 24.0, 8766.0


def _bounds(table: str, anchor: str, sentinel1: float, smap: float) -> PublishedTable:
    return PublishedTable(
        _PAPER,
        table,
        f"How old an image may be at the time of the reading, anchored on {anchor}",
        (PublishedColumn("Temporal bound", "h", ("bound_h",)),),
        {
            "Sentinel-1": (sentinel1,),
            "Sentinel-2": (14 * _HOURS_A_DAY,),
            "SMAP": (smap,),
            "GLDAS": (6.0,),
            "NASA DEM": (50 * _HOURS_A_YEAR,),
            "Soil Grids": (50 * _HOURS_A_YEAR,),
            "MODIS LAI": (8 * _HOURS_A_DAY,),
        },
        (
            "Printed in hours, days and years; in hours here, with 365.25 days a year.",
            "Images are taken from the past only: the bound is one-sided.",
        ),
    )


_BOUNDS_SENTINEL1 = _bounds("Table 5", "Sentinel-1", 1.0, 3 * _HOURS_A_DAY)
_BOUNDS_SMAP = _bounds("Table 20", "SMAP", 7 * _HOURS_A_DAY, 1.0)
_AUGMENTATIONS = PublishedTable(
    _PAPER,
    "Table 6",
    "Probability and extent of each augmentation",
    (PublishedColumn("Probability", "1", ("probability",)), PublishedColumn("Extent", "degree", ("extent_deg",))),
    {
        "Rotate": (0.8, 180),
        "Flip Horizontal": (0.5, _NAN),
        "Flip Vertical": (0.5, _NAN),
        "Shear X": (0.3, 9),
        "Shear Y": (0.3, 9),
    },
    ("An extent is plus or minus the number given; flips have none. Its distribution is not stated.",),
)
_NORMALISATION = PublishedTable(
    _PAPER,
    "Table 17",
    "Constants of the logarithmic scaling of Sentinel-2",
    (PublishedColumn("log_mean", "1", ("log_mean",)), PublishedColumn("log_std", "1", ("log_std",))),
    {
        "B2": (1.7417268007636313, 2.023298706048351),
        "B3": (1.7261204997060209, 2.038905204308012),
        "B4": (1.6798346251414997, 2.179592821212937),
        "B5": (1.7734969472909623, 2.2890068333026603),
        "B6": (2.289154079164943, 2.6171674549378166),
        "B7": (2.382939712192371, 2.773418590375327),
        "B8": (2.3828939530384052, 2.7578332604178284),
        "B11": (2.1952484264967844, 2.789092484314204),
        "B12": (1.554812948247501, 2.4140534947492487),
    },
    (
        "The formula is a picture, lost from the text at hand. The constants are those of Dynamic World, which calls them "
        "percentiles after the logarithm, not a mean and a standard deviation.",
    ),
)

_HYPERPARAMETERS = PublishedSettings(
    _PAPER,
    "Table 7",
    "Hyper-parameters of the network and of its training",
    {
        "High-res input crop size": (256,),
        "Low-res input crop size": (16,),
        "High-res output stride": (32,),
        "Low-res output stride": (16,),
        "Drop-path keep probability": (0.6,),
        "Fusion head 1 shape": (128, 64, 1),
        "Fusion head 2 shape": (8, 1),
        "Fusion head 1 dropout keep probability": (0.5, 0.5, 0.6),
        "Fusion head 2 dropout keep probability": (0.9, 0.9),
        "Batch size": (64,),
        "Momentum": (0.9,),
        "Number train steps": (600_000,),
        "Learning rate": (0.1, 0.05, 0.03),
        "Weight decay": (0.0001, 0.00005, 0.00003),
        "Huber loss delta": (0.4,),
    },
    candidates={
        "High-res input crop size": (512, 256, 128, 64),
        "Drop-path keep probability": (0.8, 0.6, 0.4, 0.2),
        "Huber loss delta": (0, 0.2, 0.4, 0.6, 0.8, 1.0),
    },
    swept=("Learning rate", "Weight decay"),
    caveats=(
        "Encoders Xception-65 (high resolution) and Xception-41 (low); activation Swish, of Swish, ReLU and Leaky ReLU.",
        "The text at hand has lost the columns: that 32 is the high-resolution encoder's stride follows from 256 pixels that "
        "become 8 x 8 features; whether one drop-path probability holds for both encoders is not certain.",
        "Not stated: the low-resolution encoder's fraction of channels, and which of the swept values was best.",
        "A delta of 0 makes the Huber loss zero everywhere, so that candidate cannot have been trained as printed.",
    ),
)

#: In the paper's order.
TABLES: tuple[PublishedTable, ...] = (
    _ISMN,
    _CORE_SITES,
    _SENTINEL2_BANDS,
    _RANGES,
    _BOUNDS_SENTINEL1,
    _AUGMENTATIONS,
    _NORMALISATION,
    _BOUNDS_SMAP,
)
#: Tables of settings.
SETTINGS: tuple[PublishedSettings, ...] = (_HYPERPARAMETERS,)
