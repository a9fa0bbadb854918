"""Sentinel-1 ground-range-detected backscatter: `open_sentinel1`, which `smnb.loaders.rasters` holds with all rasters.

Sentinel-1 backscatter also comes with SMAP: `smnb.loaders.smap.open_l2_active_passive` (SPL2SMAP_S) returns it as the
same ``sigma0(time, polarization, y, x)`` in dB with ``incidence_angle`` on the 3 or 1 km EASE-Grid, averaged by the
product's makers; what reads one reads the other.
"""

from smnb.loaders.rasters import open_sentinel1

__all__ = ["open_sentinel1"]
