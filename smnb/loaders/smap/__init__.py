"""SMAP soil moisture: lazy ``(time, y, x)`` Datasets on the global EASE-Grid 2.0, from NSIDC's HDF5 granules.

Half orbits and days of 36 km (SPL2SMP, SPL3SMP) and 9 km (SPL2SMP_E, SPL3SMP_E), SMAP/Sentinel-1 scenes (SPL2SMAP_S),
daily lists of 9 km points, one 36 km cell's files and flights; means of days, counts of what was masked, and SMAP's clock.
"""

from smnb.loaders.smap.cells import open_cell_scenes, open_cell_series, open_pals, overpass_of
from smnb.loaders.smap.composites import composite
from smnb.loaders.smap.fields import seconds_to_utc, utc_to_seconds
from smnb.loaders.smap.granules import read_fields
from smnb.loaders.smap.levels import open_l2, open_l2_active_passive, open_l3
from smnb.loaders.smap.points import open_smap_e_points
from smnb.loaders.smap.reading import count_masks

__all__ = [
    "composite",
    "count_masks",
    "open_cell_scenes",
    "open_cell_series",
    "open_l2",
    "open_l2_active_passive",
    "open_l3",
    "open_pals",
    "open_smap_e_points",
    "overpass_of",
    "read_fields",
    "seconds_to_utc",
    "utc_to_seconds",
]
