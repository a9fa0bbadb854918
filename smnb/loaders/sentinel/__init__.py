"""Sentinel-1 ground-range-detected backscatter (sigma nought) from GeoTIFF, averaged onto a coarser grid.

- `open_sentinel1`: scenes of any reference system to `sigma0` in dB on an EASE-Grid, regular or projected grid;
- `ProjectedGrid`: a north-up grid of a map projection such as UTM, as target.

`grid` describes targets, `rasters` what a file's bands are and which files make a scene, `calibration` what its
numbers mean, `placing` where its pixels fall, `averaging` adds up linear power in blocks, `opening` puts it together.

Sentinel-1 backscatter also comes with SMAP: `smnb.loaders.smap.open_l2_active_passive` (SPL2SMAP_S) returns it as the
same ``sigma0(time, polarization, y, x)`` in dB with ``incidence_angle`` on the 3 or 1 km EASE-Grid, averaged by the
product's makers; what reads one reads the other.
"""

from smnb.loaders.sentinel.grid import ProjectedGrid
from smnb.loaders.sentinel.opening import open_sentinel1

__all__ = ["ProjectedGrid", "open_sentinel1"]
