"""What does not change at the sites, as products have it: elevation, soil maps and land cover."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.ndimage import map_coordinates

from smnb_sandbox.multisource_days import SiteSimulation
from smnb_sandbox.multisource_sites import PIXEL_M, Site
from smnb_sandbox.noise import stream
from smnb_sandbox.rasters import LonLatGrid, Patch, encode_sparse

_KM_PER_DEGREE = 111.2
#: Contiguous US: SoilGrids' cells of about 250 m, CGLS-LC100's of about 100 m.
_SOIL_GRID = LonLatGrid(-125.0, 50.0, 480.0, 28320, 12480)
_COVER_GRID = LonLatGrid(-125.0, 50.0, 1008.0, 59472, 26208)
#: Seconds of arc to a degree.
_DEM_PER_DEGREE = 3600
_DEM_NODATA, _SOIL_NODATA, _COVER_NODATA = -32768, -32768, 255
#: Noise of the elevation model, m.
_DEM_NOISE = 0.8
SOIL_BANDS = ("sand", "silt", "clay", "bdod")
#: Error of the soil maps of a site and of a cell, g kg-1 and cg cm-3.
_SOIL_ERROR = {"sand": (28.0, 12.0), "silt": (22.0, 10.0), "clay": (18.0, 8.0), "bdod": (5.0, 2.0)}
#: Particle density, cg cm-3.
_PARTICLES = 265.0
#: Pixels between those that means over coarse cells are taken of.
_STRIDE = 4


class Ground:
    """The ground of a site as rasters of longitude and latitude see it."""

    def __init__(self, simulation: SiteSimulation) -> None:
        self.simulation, self.land, self.site = simulation, simulation.land, simulation.site
        self.window = self.site.window(self.land.size)
        self._transformer = Transformer.from_crs("EPSG:4326", f"EPSG:{self.site.epsg}", always_xy=True)

    @property
    def coarse_cut(self) -> tuple[slice, slice]:
        """Every so many pixels, of which means over coarse cells are taken."""
        return slice(_STRIDE // 2, None, _STRIDE), slice(_STRIDE // 2, None, _STRIDE)

    @cached_property
    def _lonlat(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rows, cols = self.coarse_cut
        return self._transformer.transform(*np.meshgrid(self.window.x[cols], self.window.y[rows]), direction="INVERSE")

    def averager(self, grid: LonLatGrid) -> tuple[tuple[slice, slice], Callable[[NDArray], NDArray]]:
        """Cells of a coarse grid on which the ground lies, and what takes means of fields (on `coarse_cut`) over them."""
        lon, lat = self._lonlat
        row = np.floor((grid.north - lat) * grid.per_degree).astype(np.intp)
        col = np.floor((lon - grid.west) * grid.per_degree).astype(np.intp)
        box = slice(int(row.min()), int(row.max()) + 1), slice(int(col.min()), int(col.max()) + 1)
        shape = (box[0].stop - box[0].start, box[1].stop - box[1].start)
        cell = ((row - box[0].start) * shape[1] + col - box[1].start).ravel()
        size = shape[0] * shape[1]
        count = np.bincount(cell, minlength=size)

        def average(field: NDArray) -> NDArray[np.float64]:
            total = np.bincount(cell, weights=field.ravel(), minlength=size)
            return np.divide(total, count, out=np.full(size, np.nan), where=count > 0).reshape(shape)

        return box, average

    def sample(self, grid: LonLatGrid, field: NDArray, order: int) -> Patch:
        """Values of a field at the centres of the finer cells within the ground, (row, col)."""
        half = 0.5 * self.window.size * PIXEL_M / 1000.0 / _KM_PER_DEGREE
        box = grid.box(self.site.lat, self.site.lon, half, half / np.cos(np.radians(self.site.lat)))
        lat, lon = grid.centres(box)
        x, y = self._transformer.transform(*np.meshgrid(lon, lat))
        row, col = (self.window.north - y) / PIXEL_M - 0.5, (x - self.window.west) / PIXEL_M - 0.5
        return Patch(box, map_coordinates(field, [row, col], order=order, mode="nearest"))

    def elevation(self) -> tuple[LonLatGrid, NDArray[np.int16]]:
        """Terrain of seconds of arc, m: a part of a tile of one degree, and the part's grid."""
        west, north = float(np.floor(self.site.lon)), float(np.floor(self.site.lat)) + 1.0
        half = 0.5 / _DEM_PER_DEGREE  # pixels' centres lie on whole seconds
        tile = LonLatGrid(west - half, north + half, _DEM_PER_DEGREE, _DEM_PER_DEGREE + 1, _DEM_PER_DEGREE + 1)
        patch = self.sample(tile, self.land.elevation, 1)
        rng = stream(self.simulation.seed, "multisource dem", self.site.number)
        values = np.rint(patch.values + _DEM_NOISE * rng.standard_normal(patch.values.shape)).astype(np.int16)
        top, left = (part.start for part in patch.box)
        height, width = values.shape
        corner = tile.west + left / _DEM_PER_DEGREE, tile.north - top / _DEM_PER_DEGREE
        return LonLatGrid(*corner, _DEM_PER_DEGREE, width, height), values

    def soil(self) -> list[Patch]:
        """Cells of each map of `SOIL_BANDS`, (1, row, col), each predicted by itself: fractions do not add up to 1."""
        land, cut = self.land, self.coarse_cut
        clay, sand, porosity = (v[cut] for v in (land.clay_fraction, land.sand_fraction, land.porosity))
        fields = {
            "sand": 1e3 * sand,
            "silt": 1e3 * (1.0 - sand - clay),
            "clay": 1e3 * clay,
            "bdod": _PARTICLES * (1.0 - porosity),
        }
        box, average = self.averager(_SOIL_GRID)
        rng = stream(self.simulation.seed, "multisource soil maps", self.site.number)
        patches = []
        for name, field in fields.items():
            of_site, of_cell = _SOIL_ERROR[name]
            values = average(field)
            values = values + of_site * rng.standard_normal() + of_cell * rng.standard_normal(values.shape)
            values = np.where(np.isfinite(values), np.clip(np.rint(values), 1, 1000), _SOIL_NODATA)
            patches.append(Patch(box, values[None].astype(np.int16)))
        return patches

    def cover(self) -> Patch:
        """Cells of the land-cover map, (1, row, col)."""
        patch = self.sample(_COVER_GRID, self.land.of_kind("cgls"), 0)
        return Patch(patch.box, patch.values[None].astype(np.uint8))


def dem_name(site: Site) -> str:
    """Name of the part of a tile, which is named after its south-west corner."""
    return f"NASADEM_HGT_n{int(np.floor(site.lat)):02d}w{-int(np.floor(site.lon)):03d}_{site.name}.tif"


def dem_file(ground: Ground) -> bytes:
    """The terrain around a site as GeoTIFF, int16."""
    grid, values = ground.elevation()
    whole = Patch((slice(0, grid.height), slice(0, grid.width)), values[None])
    return encode_sparse(
        grid, [whole], ("elevation",), dtype="int16", nodata=_DEM_NODATA, block=256, units=("m",), predictor=2
    )


def soil_file(name: str, patches: Iterable[Patch]) -> bytes:
    """One property of the topmost layer over the contiguous US as GeoTIFF, int16."""
    unit = "cg cm-3" if name == "bdod" else "g kg-1"
    return encode_sparse(
        _SOIL_GRID,
        patches,
        (f"{name}_0-5cm_mean",),
        dtype="int16",
        nodata=_SOIL_NODATA,
        block=256,
        units=(unit,),
        predictor=2,
    )


def land_cover_file(_: str, patches: Iterable[Patch]) -> bytes:
    """The land-cover map of the contiguous US as GeoTIFF: codes of CGLS-LC100."""
    return encode_sparse(
        _COVER_GRID, patches, ("discrete_classification",), dtype="uint8", nodata=_COVER_NODATA, block=512
    )
