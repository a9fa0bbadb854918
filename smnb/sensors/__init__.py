"""All that is known at in-situ sensors: strata, matching in time and place, splits, predictions, scores, profile."""

from smnb.sensors.land_cover import LAND_COVER_GROUPS
from smnb.sensors.strata import STRATA, TEXTURE_CLASSES, add_strata

__all__ = ["LAND_COVER_GROUPS", "STRATA", "TEXTURE_CLASSES", "add_strata"]
