"""The hidden truth of the multi-source world: soil moisture at 20 m when Sentinel-1 passed, one NetCDF file a site."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from smnb_sandbox.multisource_days import SiteSimulation
from smnb_sandbox.multisource_sites import PIXEL_M, Sentinel1Pass
from smnb_sandbox.truth_files import truth_bytes

#: Is written into the truth; raise it when the files change.
VERSION = "1"
TRUTH_M = 20.0


def _halved(field: NDArray) -> NDArray[np.float32]:
    rows, cols = field.shape
    return field.reshape(rows // 2, 2, cols // 2, 2).mean(axis=(1, 3)).astype(np.float32)


def truth_file(simulation: SiteSimulation, passes: Sequence[Sentinel1Pass], size: int) -> bytes:
    """The truth of a site at the times of the radar's passes, as NetCDF 4.

    Parameters
    ----------
    simulation : SiteSimulation
    passes : sequence of Sentinel1Pass
        In order.
    size : int
        Pixels (of 10 m) along a side.

    Returns
    -------
    bytes
        Dims (time, y, x) on the site's UTM window at 20 m: ``soil_moisture`` and, without time, ``clay_fraction``,
        ``sand_fraction`` and ``elevation``.
    """
    site, land = simulation.site, simulation.land
    cut = land.cut(size)
    window = site.window(size).coarsened(TRUTH_M)
    moisture = [_halved(simulation.soil_moisture(simulation.days.state(one.time), cut)) for one in passes]
    fields = {
        "soil_moisture": (np.stack(moisture), 3),
        "clay_fraction": (_halved(land.clay_fraction[cut]), 3),
        "sand_fraction": (_halved(land.sand_fraction[cut]), 3),
        "elevation": (_halved(land.elevation[cut]), 1),
    }
    times = np.array([one.time.replace(tzinfo=None) for one in passes], dtype="datetime64[ns]")
    coords = {
        "time": ("time", times, {"standard_name": "time", "long_name": "time of the Sentinel-1 pass, UTC"}),
        "y": ("y", window.y, {"standard_name": "projection_y_coordinate", "long_name": "northing", "units": "m"}),
        "x": ("x", window.x, {"standard_name": "projection_x_coordinate", "long_name": "easting", "units": "m"}),
        "crs": ((), np.int32(0), CRS.from_epsg(window.epsg).to_cf()),
    }
    return truth_bytes(
        fields,
        coords,
        {
            "Conventions": "CF-1.8",
            "title": f"Hidden truth of the smnb sandbox, {site.region.title} (synthetic)",
            "source": "smnb_sandbox, simulated",
            "synthetic": 1,
            "region": site.name,
            "resolution_m": PIXEL_M * 2,
            "history": f"written by smnb_sandbox, multi-source world {VERSION}, seed {simulation.seed}",
            "catalog_id": "sandbox_multisource_truth",
        },
    )
