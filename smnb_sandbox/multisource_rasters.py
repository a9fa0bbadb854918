"""Fine rasters of a site: Sentinel-1 backscatter, Sentinel-2 reflectance, elevation, soil maps and land cover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.ndimage import gaussian_filter, map_coordinates

from smnb_sandbox.files import RASTERS, LonLatGrid, Packing, Patch, SparseRaster, encode_scene, table
from smnb_sandbox.multisource_land import SiteSimulation
from smnb_sandbox.multisource_sites import PIXEL_M, Sentinel2Pass, Site, SitePass
from smnb_sandbox.noise import Float32, Float64, blocks, spread, stream
from smnb_sandbox.smap_sensors import backscatter
from smnb_sandbox.world import liquid_share

SENTINEL1_BANDS = ("VV", "VH", "angle")
SENTINEL2_BANDS = tuple(table("multisource")["sentinel2"])
LOOKS = 4.4
#: Real exports are float32, which noise makes incompressible. Here dB come in steps of 0.25, which add 0.07 dB to the
#: speckle's 2 dB, and angles in steps of 0.1 degrees.
_DECIBEL, _ANGLE = Packing(0.25, -45.0), Packing(0.1, 25.0)
_ANGLE_PER_KM = 0.07  # how fast the angle grows across the swath, degrees per km
_CALIBRATION_DB = 0.25  # calibration of a scene, dB
_SHADOW, _SHADOW_PIXELS, _CIRRUS_OPACITY = 0.45, (-12, -6), 0.7
_NDVI_SOIL, _NDVI_CANOPY = 0.08, 0.92  # NDVI at the surface of bare soil and of a full canopy
#: Numbers come in steps of 16 (0.0016), as noise makes finer ones incompressible too, and have a quarter as much noise.
_DN_STEP, _DN_NOISE = 16, 4.0
_OPAQUE, _CIRRUS = 1 << 10, 1 << 11
_BANDS_20M = (4, 5)
_KM_PER_DEGREE = 111.2
_DEM_NOISE = 0.8  # noise of the elevation model, m
SOIL_BANDS = ("sand", "silt", "clay", "bdod")
#: Error of the soil maps of a site and of a cell, g kg-1 and cg cm-3.
_SOIL_ERROR = {"sand": (28.0, 12.0), "silt": (22.0, 10.0), "clay": (18.0, 8.0), "bdod": (5.0, 2.0)}
_PARTICLES = 265.0  # particle density, cg cm-3
#: Every fourth pixel, of which means over coarse cells are taken.
COARSE = (slice(2, None, 4), slice(2, None, 4))


def sigma0(simulation: SiteSimulation, one: SitePass, size: int) -> tuple[Float32, Float32, Float32]:
    """Linear power of VV and VH without speckle, and the incidence angle (degrees), of a square."""
    land = simulation.land
    cut, state = land.cut(size), simulation.days.state(one.time)
    azimuth = np.radians(one.look_deg)
    look_east, look_north = np.float32(np.sin(azimuth)), np.float32(np.cos(azimuth))
    away_km = (land.east[cut[1]][None, :] * look_east + land.north[cut[0]][:, None] * look_north) / 1000.0
    angle = (one.angle + _ANGLE_PER_KM * away_km).astype(np.float32)
    facing = np.degrees(np.arctan(land.slope_east[cut] * look_east + land.slope_north[cut] * look_north))
    local = np.clip(angle - facing, 12.0, 70.0).astype(np.float32)
    liquid = simulation.soil_moisture(state, cut) * np.float32(liquid_share(np.float64(state.celsius)))
    vv, vh = backscatter(
        liquid, land.rms_height_cm[cut] * np.float32(state.roughness), simulation.ndvi(state, cut), local
    )
    return vv, vh, angle


def _speckle(rng: np.random.Generator, size: int) -> Float32:
    """Gamma of mean 1 and `LOOKS` looks; pixels are finer than the radar resolves, so that neighbours have it in common."""
    fine = rng.standard_gamma(LOOKS / 4.0, size=(size + 1, size + 1), dtype=np.float32)
    return (fine[1:, 1:] + fine[:-1, 1:] + fine[1:, :-1] + fine[:-1, :-1]) / np.float32(LOOKS)


def _place(site: Site, size: int) -> tuple[int, float, float, float]:
    window = site.window(size)
    return window.epsg, window.west, window.north, PIXEL_M


def sentinel1_file(simulation: SiteSimulation, one: SitePass, size: int) -> bytes:
    """A pass as GeoTIFF: VV and VH in dB and the angle, as bytes with GDAL's scale and offset."""
    vv, vh, angle = sigma0(simulation, one, size)
    site = simulation.site
    rng = stream(simulation.seed, "multisource sentinel-1", site.number, int(one.time.timestamp()))
    bands = []
    for power in (vv, vh):
        decibel = 10.0 * np.log10(power * _speckle(rng, size)) + _CALIBRATION_DB * rng.standard_normal()
        bands.append(_DECIBEL.pack(decibel))
    bands.append(_ANGLE.pack(angle))
    tags = {
        "product": one.file_name.removesuffix(".tif"),
        "quantity": "sigma0",
        "orbitProperties_pass": {"A": "ASCENDING", "D": "DESCENDING"}[one.direction],
    }
    how = {"units": ("dB", "dB", "degree"), "packing": (_DECIBEL, _DECIBEL, _ANGLE), "nodata": Packing.nodata}
    return encode_scene(np.stack(bands), _place(site, size), SENTINEL1_BANDS, tags=tags, **how)


def reflectance(simulation: SiteSimulation, one: Sentinel2Pass, size: int) -> Float32:
    """Cloudless reflectance at the top of the atmosphere of a square, (band, row, col) on 10 m."""
    land = simulation.land
    cut, state = land.cut(size), simulation.days.state(one.time)
    ndvi, moisture = simulation.ndvi(state, cut), simulation.soil_moisture(state, cut)
    cover = np.clip((ndvi - _NDVI_SOIL) / (_NDVI_CANOPY - _NDVI_SOIL), 0.0, 1.0)
    # the sun is in the south-southeast, higher in summer: slopes that rise to the north and west face it
    height = np.radians(90.0 - simulation.site.lat + 23.4 * np.sin(2.0 * np.pi * (state.day_of_year - 81.0) / 365.25))
    tangent = 1.0 / np.tan(height)
    sunlit = 1.0 + np.float32(tangent) * (0.95 * land.slope_north[cut] - 0.31 * land.slope_east[cut])
    rng = stream(simulation.seed, "multisource haze", simulation.site.number, one.time.toordinal())
    haze = 0.02 * rng.exponential()
    colour, result = land.colour[cut], np.empty((len(SENTINEL2_BANDS), size, size), dtype=np.float32)
    # a canopy that stands in dry soil has less water in its leaves
    leaf = 1.0 - 0.25 * np.float32(np.clip(state.vegetation, -0.6, 0.6))
    for k, (dry, green, wetting, clear, through, _) in enumerate(table("multisource")["sentinel2"].values()):
        soil = dry * colour * np.exp(-np.float32(wetting) * (moisture - 0.05))
        canopy = green * (leaf if k in _BANDS_20M else 1.0)
        surface = (cover * np.float32(canopy) + (1.0 - cover) * soil) * sunlit
        path = (clear + haze * (1.0 - 0.16 * k)) / (2.0 * np.sin(height) * np.sin(np.pi / 4.0))
        result[k] = np.float32(path) + np.float32(through) * surface
    return result


def _clouds(rng: np.random.Generator, size: int, share: float) -> tuple[Float32, NDArray[np.bool_]]:
    """Opacity of clouds and haze (0..1), and which pixels the mask has: exactly the share that is asked for."""
    coarse = max(size // 8, 4)
    field = gaussian_filter(rng.standard_normal((coarse + 8, coarse + 8)), 3.0)[4:-4, 4:-4]
    position = (np.arange(size) + 0.5) / size * (coarse - 1)
    low = np.minimum(position.astype(np.intp), coarse - 2)
    weight = (position - low).astype(np.float32)
    field = field[low] * (1 - weight)[:, None] + field[low + 1] * weight[:, None]
    field = field[:, low] * (1 - weight) + field[:, low + 1] * weight
    order = np.argsort(field, axis=None)
    rank = np.empty(field.size, dtype=np.float32)
    rank[order] = (np.arange(field.size) + 0.5) / field.size
    rank = rank.reshape(field.shape)
    # around what the mask has there is haze that it has not, and the cloud thickens inwards
    depth = (rank - (1.0 - share)) / 0.06
    return np.clip(0.45 + 0.45 * depth, 0.0, 1.0).astype(np.float32), depth > 0.0


def sentinel2_file(simulation: SiteSimulation, one: Sentinel2Pass, size: int) -> bytes:
    """A scene as GeoTIFF: numbers of 1e-4, the bands of 20 m on 10 m, and the mask of clouds."""
    site = simulation.site
    rng = stream(simulation.seed, "multisource sentinel-2", site.number, int(one.time.timestamp()))
    share = round(one.cloud_percentage / 100.0 * size * size) / (size * size)
    values = reflectance(simulation, one, size)
    covered = thin = np.zeros((size, size), dtype=bool)
    if share > 0.0:
        opacity, covered = _clouds(rng, size, share)
        thin = covered & (opacity < _CIRRUS_OPACITY)
        shadow = 1.0 - _SHADOW * np.roll(opacity, _SHADOW_PIXELS, axis=(0, 1)) * (1.0 - opacity)
        cloud = [band[-1] for band in table("multisource")["sentinel2"].values()]
        bright = np.array(cloud, dtype=np.float32)[:, None, None]
        values = values * shadow * (1.0 - opacity) + bright * opacity
    for k in _BANDS_20M:
        half = blocks(values[k], 2)
        half = half + 1e-4 * _DN_NOISE * rng.standard_normal(half.shape, dtype=np.float32)
        values[k] = spread(half, 2)
    values[:4] += 1e-4 * _DN_NOISE * rng.standard_normal((4, size, size), dtype=np.float32)
    numbers = np.maximum(np.rint(1e4 * values / _DN_STEP) * _DN_STEP, 1.0).astype(np.uint16)
    mask = np.where(covered, np.where(thin, _CIRRUS, _OPAQUE), 0).astype(np.uint16)
    tags = {
        "product": one.file_name.removesuffix(".tif"),
        "CLOUDY_PIXEL_PERCENTAGE": f"{100.0 * covered.mean():.2f}",
        "QUANTIFICATION_VALUE": "10000",
        "PROCESSING_BASELINE": one.file_name.split("_")[3],
    }
    values, names = np.concatenate([numbers, mask[None]]), (*SENTINEL2_BANDS, "QA60")
    return encode_scene(values, _place(site, size), names, tags=tags, predictor=2)


class Ground:
    """The ground of a site as rasters of longitude and latitude see it."""

    def __init__(self, simulation: SiteSimulation) -> None:
        self.simulation, self.land, self.site = simulation, simulation.land, simulation.site
        self.window = self.site.window(self.land.size)
        self._transformer = Transformer.from_crs("EPSG:4326", f"EPSG:{self.site.epsg}", always_xy=True)

    def averager(self, grid: LonLatGrid) -> tuple[tuple[slice, slice], Callable[[NDArray], NDArray]]:
        """Cells of a coarse grid on which the ground lies, and what takes means of fields (on `COARSE`) over them."""
        rows, cols = COARSE
        centres = np.meshgrid(self.window.x[cols], self.window.y[rows])
        lon, lat = self._transformer.transform(*centres, direction="INVERSE")
        row = np.floor((grid.north - lat) * grid.per_degree).astype(np.intp)
        col = np.floor((lon - grid.west) * grid.per_degree).astype(np.intp)
        box = slice(int(row.min()), int(row.max()) + 1), slice(int(col.min()), int(col.max()) + 1)
        shape = (box[0].stop - box[0].start, box[1].stop - box[1].start)
        cell = ((row - box[0].start) * shape[1] + col - box[1].start).ravel()
        size = shape[0] * shape[1]
        count = np.bincount(cell, minlength=size)

        def average(field: NDArray) -> Float64:
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
        return box, map_coordinates(field, [row, col], order=order, mode="nearest")

    def dem_file(self) -> bytes:
        """Terrain of seconds of arc, m, as GeoTIFF: a part of a tile of one degree."""
        per_degree = RASTERS["dem"].grid.per_degree
        half = 0.5 / per_degree  # pixels' centres lie on whole seconds
        west, north = float(np.floor(self.site.lon)) - half, float(np.floor(self.site.lat)) + 1.0 + half
        tile = replace(RASTERS["dem"].grid, west=west, north=north)
        box, values = self.sample(tile, self.land.elevation, 1)
        rng = stream(self.simulation.seed, "multisource dem", self.site.number)
        values = np.rint(values + _DEM_NOISE * rng.standard_normal(values.shape)).astype(np.int16)
        top, left = (part.start for part in box)
        height, width = values.shape
        grid = LonLatGrid(west + left / per_degree, north - top / per_degree, per_degree, width, height)
        whole = (slice(0, height), slice(0, width)), values[None]
        return replace(RASTERS["dem"], grid=grid).encode([whole])

    def soil(self) -> list[Patch]:
        """Cells of each map of `SOIL_BANDS`, (1, row, col), each predicted by itself: fractions do not add up to 1."""
        land, cut = self.land, COARSE
        clay, sand, porosity = (v[cut] for v in (land.clay_fraction, land.sand_fraction, land.porosity))
        fields = {
            "sand": 1e3 * sand,
            "silt": 1e3 * (1.0 - sand - clay),
            "clay": 1e3 * clay,
            "bdod": _PARTICLES * (1.0 - porosity),
        }
        box, average = self.averager(RASTERS["soil"].grid)
        rng = stream(self.simulation.seed, "multisource soil maps", self.site.number)
        patches = []
        for name, field in fields.items():
            of_site, of_cell = _SOIL_ERROR[name]
            values = average(field)
            values = values + of_site * rng.standard_normal() + of_cell * rng.standard_normal(values.shape)
            values = np.where(np.isfinite(values), np.clip(np.rint(values), 1, 1000), RASTERS["soil"].nodata)
            patches.append((box, values[None].astype(np.int16)))
        return patches

    def cover(self) -> Patch:
        """Cells of the land-cover map, (1, row, col)."""
        box, values = self.sample(RASTERS["land_cover"].grid, self.land.of_kind("cgls"), 0)
        return box, values[None].astype(np.uint8)


def soil_raster(name: str) -> SparseRaster:
    """The map of one property of the topmost layer over the contiguous US."""
    unit = "cg cm-3" if name == "bdod" else "g kg-1"
    return replace(RASTERS["soil"], bands=(f"{name}_0-5cm_mean",), units=(unit,))
