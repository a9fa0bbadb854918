"""SMAP soil moisture: lazy ``(time, y, x)`` Datasets on the global EASE-Grid 2.0, from NSIDC's HDF5 granules.

- `open_l2`: half orbits, 36 km (SPL2SMP) and 9 km (SPL2SMP_E);
- `open_l3`: days, 36 km (SPL3SMP) and 9 km (SPL3SMP_E);
- `open_l2_active_passive`: SMAP/Sentinel-1 scenes, 3 and 1 km (SPL2SMAP_S);
- `open_smap_e_points`: daily lists of 9 km points;
- `composite`: means of 1 to 3 days; `decode_flags`: bits by meaning; `count_masks`: what was masked, and why.

Series of SPL3SMP by location are read by `smnb.loaders.points.open_smap_l3_points`.
"""

from smnb.loaders.smap.active_passive import open_l2_active_passive
from smnb.loaders.smap.composites import composite
from smnb.loaders.smap.fields import ACTIVE_PASSIVE, OPTIONS, PASSIVE
from smnb.loaders.smap.flags import FLAG_POLICIES, TB_POLICIES, decode_flags
from smnb.loaders.smap.level2 import open_l2
from smnb.loaders.smap.level3 import open_l3
from smnb.loaders.smap.point_lists import open_smap_e_points
from smnb.loaders.smap.reading import count_masks
from smnb.loaders.smap.times import seconds_to_utc, utc_to_seconds

__all__ = [
    "ACTIVE_PASSIVE_VARIABLES",
    "FLAG_POLICIES",
    "OPTIONS",
    "PASSIVE_VARIABLES",
    "TB_POLICIES",
    "composite",
    "count_masks",
    "decode_flags",
    "open_l2",
    "open_l2_active_passive",
    "open_l3",
    "open_smap_e_points",
    "seconds_to_utc",
    "utc_to_seconds",
]

#: What ``variables`` of `open_l2` and `open_l3` may hold.
PASSIVE_VARIABLES = tuple(PASSIVE)
#: What ``variables`` of `open_l2_active_passive` may hold.
ACTIVE_PASSIVE_VARIABLES = tuple(ACTIVE_PASSIVE)
