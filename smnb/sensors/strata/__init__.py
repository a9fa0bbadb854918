"""Strata that scores are broken down by: climate, soil texture, land cover.

- `climate`: Köppen-Geiger class and land by location, and by the archive's own field;
- `texture`: the twelve USDA classes from sand, silt and clay;
- `land_cover`: Copernicus codes from a raster, ISMN's own codes, and the eight groups of paper 004;
- `tables`: scores averaged by stratum, with the number of sensors and the paper's asterisk.
"""

from smnb.grids.koppen import (
    GROUP_LABELS,
    KOPPEN_NAMES,
    NONE,
    OCEAN,
    PAPER_GROUPS,
    ismn_koppen_class,
    koppen_class,
    koppen_codes,
    koppen_group,
    land_fraction,
    land_mask,
)
from smnb.sensors.strata.land_cover import (
    CCI_GROUPS,
    CGLS_GROUPS,
    LAND_COVER_GROUPS,
    OUTSIDE,
    land_cover_codes,
    land_cover_group,
)
from smnb.sensors.strata.tables import FEW_SENSORS, stratify
from smnb.sensors.strata.texture import TEXTURE_CLASSES, usda_texture

__all__ = [
    "CCI_GROUPS",
    "CGLS_GROUPS",
    "FEW_SENSORS",
    "GROUP_LABELS",
    "KOPPEN_NAMES",
    "LAND_COVER_GROUPS",
    "NONE",
    "OCEAN",
    "OUTSIDE",
    "PAPER_GROUPS",
    "TEXTURE_CLASSES",
    "ismn_koppen_class",
    "koppen_class",
    "koppen_codes",
    "koppen_group",
    "land_cover_codes",
    "land_cover_group",
    "land_fraction",
    "land_mask",
    "stratify",
    "usda_texture",
]
