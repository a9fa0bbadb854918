"""The ground of a site at 10 m: terrain, fields, soil, and what grows on them.

Every field is a function of the place and the seed alone, whatever part of it is asked for: noise is drawn on lattices that
cover the largest rasters that there can be, and parcels are those of a lattice of jittered points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from smnb_sandbox.multisource_sites import MAP_SITE, PIXEL_M, Site
from smnb_sandbox.noise import stream
from smnb_sandbox.tables import table
from smnb_sandbox.world import soil_limits

Array = NDArray[np.float32]

#: Side of what can be asked for, m: around the map, and around other sites.
_MAP_EXTENT, _EXTENT = 26_000.0, 10_000.0
_PARCEL_M = 210.0
#: Standard deviation in two dimensions of white noise under a bicubic B-spline.
_SPLINE_SPREAD = 0.4794


@dataclass(frozen=True)
class Kind:
    """What can grow on a parcel."""

    name: str
    cgls: int
    """Code of CGLS-LC100."""
    cci: int
    """Code of ESA CCI, as ISMN has it."""
    ndvi_low: float
    ndvi_high: float
    peak_shift: float
    """Days that its NDVI peaks after the region's."""
    width: float
    """Days from the peak to 61 % of it."""
    rms_height_cm: float
    response: float
    """How much of NDVI follows the water of the month before."""


KINDS: tuple[Kind, ...] = tuple(Kind(**row) for row in table("multisource")["kinds"])


class _Lattice:
    """Gaussian noise of unit variance in a site's own metres, from a bicubic spline over a lattice of random numbers."""

    def __init__(self, site: Site, seed: int, extent: float) -> None:
        self.site, self.seed, self.extent = site, seed, extent

    def __call__(self, name: str, spacing: float, east: NDArray, north: NDArray) -> Array:
        """Evaluate at the crossings of eastings and northings, shape (north, east)."""
        count = int(self.extent / spacing) + 5
        rng = stream(self.seed, f"multisource {name}", self.site.number)
        values = rng.standard_normal((count, count), dtype=np.float32)
        rows, cols = (self._weights(axis, spacing, count) for axis in (north, east))
        return rows @ values @ cols.T / np.float32(_SPLINE_SPREAD)

    def _weights(self, axis: NDArray, spacing: float, count: int) -> Array:
        position = (axis + 0.5 * self.extent) / spacing + 1.0
        start = np.floor(position).astype(np.intp)
        t = position - start
        basis = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6.0
        matrix = np.zeros((axis.size, count), dtype=np.float32)
        for k in range(4):
            matrix[np.arange(axis.size), start + k - 1] = basis[k]
        return matrix


class SiteLand:
    """The ground of a site: (row, col) arrays of 10 m pixels, north first, float32.

    Parameters
    ----------
    site : Site
    seed : int
    size : int
        Pixels along a side, even; the site is in the middle.

    Attributes
    ----------
    elevation, slope_east, slope_north : ndarray
        m, and rise in m per m.
    hollow : ndarray
        Topographic wetness, of unit variance or so: what lies below its surroundings.
    clay_fraction, sand_fraction, wilting_point, field_capacity, porosity : ndarray
    detail : ndarray
        Differences of wetness that nothing else explains.
    parcel, kind : ndarray of int
        Number of the parcel, and which of `KINDS` it holds.
    rms_height_cm, colour : ndarray
        Of the bare soil: its roughness, and the factor of its reflectance.
    """

    def __init__(self, site: Site, seed: int, size: int) -> None:
        self.site, self.seed, self.size = site, seed, size
        self._noise = _Lattice(site, seed, _MAP_EXTENT if site.name == MAP_SITE else _EXTENT)
        offset = (np.arange(size) + 0.5 - size / 2) * PIXEL_M
        self.east, self.north = offset, -offset
        self._terrain()
        self._parcels()
        self._soil()
        self._vegetation()

    def cut(self, size: int) -> tuple[slice, slice]:
        """Rows and columns of a smaller square in the middle."""
        first = (self.size - size) // 2
        return slice(first, first + size), slice(first, first + size)

    def noise(self, name: str, spacing: float) -> Array:
        """Draw a static field by name; `spacing` (m) is about the distance over which it changes."""
        return self._noise(name, spacing, self.east, self.north)

    def _terrain(self) -> None:
        relief, region = self.site.relief, self.site.region
        octaves = {spacing: self.noise(f"relief {spacing}", spacing) for spacing in (3200, 1600, 800, 400, 200)}
        height = sum(np.float32(relief * (spacing / 3200) ** 0.9) * field for spacing, field in octaves.items())
        self.elevation = np.maximum(region.elevation + height, 1.0).astype(np.float32)
        self.slope_north, self.slope_east = (
            sign * np.gradient(self.elevation, PIXEL_M, axis=axis) for sign, axis in ((-1.0, 0), (1.0, 1))
        )
        self.hollow = (-(octaves[400] + octaves[200]) / np.float32(np.sqrt(2.0))).astype(np.float32)

    def _parcels(self) -> None:
        """Fields: each pixel belongs to the nearest of a lattice of jittered points, parcels of 100 to 300 m."""
        extent, region = self._noise.extent, self.site.region
        count = int(extent / _PARCEL_M)
        rng = stream(self.seed, "multisource parcels", self.site.number)
        corner = (np.arange(count) + 0.5) * _PARCEL_M - 0.5 * count * _PARCEL_M
        points = np.stack(np.meshgrid(corner, corner), axis=-1).reshape(-1, 2)
        points = points + rng.uniform(-0.42, 0.42, points.shape) * _PARCEL_M
        half = self.size * PIXEL_M / 2 + 2 * _PARCEL_M
        near = np.flatnonzero((np.abs(points) < half).all(axis=1))
        pixels = np.stack(np.meshgrid(self.east, self.north), axis=-1).reshape(-1, 2)
        _, nearest = cKDTree(points[near]).query(pixels)
        self.parcel = near[nearest].reshape(self.size, self.size).astype(np.int32)
        # draws for every parcel there can be, so that none depends on the size
        of_class = table("multisource")["shares"]
        shares = sum(share * np.array(of_class.get(code, of_class[10])) for code, share in region.cover)
        edges = np.cumsum(shares) / np.sum(shares)
        kind = np.minimum(np.searchsorted(edges, rng.random(len(points))), len(KINDS) - 1).astype(np.uint8)
        self.kind = kind[self.parcel]
        self._of_parcel = rng.standard_normal((5, len(points))).astype(np.float32)

    def own(self, number: int) -> Array:
        """One of five standard normal properties of the parcels."""
        return self._of_parcel[number][self.parcel]

    def _soil(self) -> None:
        region = self.site.region
        offset = stream(self.seed, "multisource soil", self.site.number).standard_normal(2)
        clay = region.clay + 0.05 * offset[0] + 0.04 * self.noise("clay", 1500.0) + 0.015 * self.own(0)
        self.clay_fraction = np.clip(clay, 0.04, 0.52).astype(np.float32)
        share = region.sand / (1.0 - region.clay) + 0.07 * offset[1] + 0.06 * self.noise("sand", 1200.0)
        self.sand_fraction = ((1.0 - self.clay_fraction) * np.clip(share, 0.08, 0.94)).astype(np.float32)
        limits = soil_limits(self.clay_fraction, self.sand_fraction)
        self.wilting_point, self.field_capacity, self.porosity = (v.astype(np.float32) for v in limits)
        self.detail = (0.7 * self.noise("wetness", 90.0) + 0.7 * self.noise("wetness wide", 600.0)).astype(np.float32)
        dark = stream(self.seed, "multisource colour", self.site.number).standard_normal()
        self.colour = np.exp(0.12 * dark + 0.08 * self.own(1) + 0.05 * self.noise("colour", 300.0)).astype(np.float32)

    def of_kind(self, name: str) -> Array:
        """A property of the kinds by pixel."""
        return np.array([getattr(kind, name) for kind in KINDS], dtype=np.float32)[self.kind]

    def _vegetation(self) -> None:
        self.rms_height_cm = (self.of_kind("rms_height_cm") * np.exp(0.16 * self.own(2))).astype(np.float32)
        growth = self.site.region.greenness * np.exp(0.10 * self.own(3) + 0.05 * self.noise("growth", 60.0))
        self._low = self.of_kind("ndvi_low")
        self._rise = ((self.of_kind("ndvi_high") - self._low) * growth).astype(np.float32)
        peak = self.site.region.greenness_peak + self.of_kind("peak_shift") + 7.0 * self.own(4)
        self._peak = peak.astype(np.float32)
        self._width, self._response = self.of_kind("width"), self.of_kind("response")

    def ndvi(self, day_of_year: float, wetness_anomaly: float, cut: tuple[slice, slice]) -> Array:
        """NDVI of the canopy on a day; an anomaly of the month's relative wetness makes it greener or less green."""
        phase = (day_of_year - self._peak[cut] + 182.6) % 365.25 - 182.6
        season = np.exp(-0.5 * (phase / self._width[cut]) ** 2)
        change = self._response[cut] * np.float32(np.clip(wetness_anomaly, -0.6, 0.6))
        return np.clip(self._low[cut] + self._rise[cut] * season + change, 0.05, 0.92).astype(np.float32)
