"""Sentinel-1 scenes as geocoded backscatter rasters: GeoTIFF in UTM, tiled and compressed, VV and VH in dB and the angle.

Pixels are finer than the 1 km cells that the radar is simulated on: a pixel has the backscatter of the cell that its centre
lies in, with speckle of its own number of looks. A pass is two slices, as products come: they have to be put together.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from smnb.grids import M01
from smnb_sandbox.fusion_scenes import FusionSimulation, RadarImage, radar_looks
from smnb_sandbox.noise import stream
from smnb_sandbox.smap_scenes import SceneTime

PIXEL_M = 500.0
SLICES = 2
_SLICE_SECONDS = 25
#: dB are stored in steps of a sixteenth, which packs and adds 0.02 dB.
_STEPS_PER_DB = 16.0
_BLOCK = 256
_HEADING = np.radians(191.0)
#: Absolute orbit on the first of September 2020.
_ORBITS = {"A": 34168, "B": 23172}
_ORBITS_A_DAY = 175.0 / 12.0


def slice_names(when: SceneTime) -> list[str]:
    """Names of a pass's files, in the manner of the products'."""
    names = []
    for number in range(SLICES):
        start = when.sentinel1.time + timedelta(seconds=_SLICE_SECONDS * number)
        times = "_".join(f"{t:%Y%m%dT%H%M%S}" for t in (start, start + timedelta(seconds=_SLICE_SECONDS)))
        satellite = when.sentinel1.satellite
        days = (when.sentinel1.time - datetime(2020, 9, 1, tzinfo=when.sentinel1.time.tzinfo)).days
        orbit = _ORBITS[satellite] + round(days * _ORBITS_A_DAY)
        unique = zlib.crc32(f"{when.region.name} {times}".encode())
        take = zlib.crc32(f"{satellite} {orbit}".encode()) & 0xFFFFF
        names.append(f"S1{satellite}_IW_GRDH_1SDV_{times}_{orbit:06d}_{take:06X}_{unique & 0xFFFF:04X}.tif")
    return names


class Sentinel1Writer:
    """Makes the rasters of a place's passes.

    Parameters
    ----------
    simulation : FusionSimulation
    pixel_m : float
    """

    def __init__(self, simulation: FusionSimulation, pixel_m: float = PIXEL_M) -> None:
        self.simulation, self.pixel_m = simulation, pixel_m
        lon = simulation.place.region.lon
        self.epsg = 32600 + int((lon + 180.0) // 6.0) + 1

    @cached_property
    def _grid(self) -> tuple[float, float, NDArray[np.intp], NDArray[np.intp]]:
        """West and north edge, and row and column in the domain of each pixel's centre."""
        window, domain, step = self.simulation.place.window, self.simulation.world.fine, self.pixel_m
        to_utm = Transformer.from_crs("EPSG:4326", f"EPSG:{self.epsg}", always_xy=True)
        lattice = np.meshgrid(*(np.r_[axis[::8], axis[-1]] for axis in (window.lon, window.lat)))
        x, y = to_utm.transform(*lattice)
        west, south = (np.floor((v.min() - 1000.0) / step) * step for v in (x, y))
        east, north = (np.ceil((v.max() + 1000.0) / step) * step for v in (x, y))
        centres = np.meshgrid(np.arange(west + step / 2, east, step), np.arange(north - step / 2, south, -step))
        lon, lat = to_utm.transform(*centres, direction="INVERSE")
        row, col = M01.rowcol(lat, lon)
        row, col = row - domain.row_start, col - domain.col_start
        # the square in UTM reaches a little beyond the place, never beyond what is simulated
        return west, north, np.clip(row, 0, domain.shape[0] - 1), np.clip(col, 0, domain.shape[1] - 1)

    def rasters(self, when: SceneTime, image: RadarImage) -> Iterator[tuple[str, bytes]]:
        """Names and contents of a pass's files, one a slice.

        Parameters
        ----------
        when : SceneTime
        image : RadarImage
            ``simulation.radar(when)``.
        """
        world = self.simulation.world
        west, north, row, col = self._grid
        rng = stream(
            world.seed, f"sentinel-1 {world.region.name} pixels", when.local_day.toordinal(), when.sentinel1.track
        )
        spread = np.float32(1.0 / np.sqrt(radar_looks(self.pixel_m)))
        bands = []
        for power in (image.vv, image.vh):
            # with thousands of looks the gamma distribution of speckle is a normal one
            speckled = power[row, col] * (1.0 + spread * rng.standard_normal(row.shape, dtype=np.float32))
            bands.append(np.round(10.0 * np.log10(speckled) * _STEPS_PER_DB) / _STEPS_PER_DB)
        bands.append(np.round(image.angle[row, col] * 10.0) / 10.0)
        along = world.fine_north[row] * np.cos(_HEADING) + world.fine_east[col] * np.sin(_HEADING)
        seen = np.isfinite(bands[0])
        for number, name in enumerate(slice_names(when)):
            here = seen & ((along >= 0.0) == bool(number))
            rows, cols = np.flatnonzero(here.any(axis=1)), np.flatnonzero(here.any(axis=0))
            cut = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
            values = np.where(here, np.stack(bands), np.nan)[:, *cut].astype(np.float32)
            yield name, self._encode(values, west + cols[0] * self.pixel_m, north - rows[0] * self.pixel_m, name)

    def _encode(self, values: NDArray[np.float32], west: float, north: float, name: str) -> bytes:
        from rasterio import Affine  # GDAL costs much to load
        from rasterio.io import MemoryFile

        profile = {
            "driver": "GTiff",
            "dtype": "float32",
            "count": len(values),
            "height": values.shape[1],
            "width": values.shape[2],
            "crs": f"EPSG:{self.epsg}",
            "transform": Affine(self.pixel_m, 0.0, west, 0.0, -self.pixel_m, north),
            "nodata": np.nan,
            "tiled": True,
            "blockxsize": _BLOCK,
            "blockysize": _BLOCK,
            "compress": "deflate",
            "predictor": 3,
            "zlevel": 6,
            "interleave": "band",
        }
        with MemoryFile() as memory:
            with memory.open(**profile) as raster:
                raster.write(values)
                raster.descriptions = ("VV", "VH", "angle")
                raster.units = ("dB", "dB", "degree")
                raster.update_tags(
                    product=name.removesuffix(".tif"),
                    quantity="sigma0",
                    synthetic="1",
                    comment="simulated by smnb_sandbox, no measurement",
                )
            return memory.read()
