"""Sentinel-1 ground-range-detected backscatter (sigma nought) from GeoTIFF, averaged onto a coarser grid.

- `open_sentinel1`: scenes of any reference system to `sigma0` in dB on an EASE-Grid, regular or projected grid;
- `ProjectedGrid`: a north-up grid of a map projection such as UTM, as target.

`scenes` says what a file's bands are and which files make a scene, `calibration` what its numbers mean, `sampling` looks
at some of them, `targets` describes grids, `averaging` adds up linear power in blocks, `assembly` makes the lazy Dataset
and `opening` puts it together.

Sentinel-1 backscatter also comes with SMAP: `smnb.loaders.smap.open_l2_active_passive` (SPL2SMAP_S) returns it as the
same ``sigma0(time, polarization, y, x)`` in dB with ``incidence_angle`` on the 3 or 1 km EASE-Grid, averaged by the
product's makers; what reads one reads the other.
"""

from smnb.loaders.sentinel.opening import open_sentinel1
from smnb.loaders.sentinel.targets import ProjectedGrid

__all__ = ["ProjectedGrid", "open_sentinel1"]
