"""What Sentinel-1 and Sentinel-2 see of a site: backscatter with speckle in dB, and reflectance at the top of the atmosphere.

References
----------
Baghdadi et al. 2016, Remote Sens. 8(11), 920, doi:10.3390/rs8110920 (bare soil); Attema, Ulaby 1978, Radio Sci. 13(2),
357-364, doi:10.1029/RS013i002p00357 (water cloud).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from smnb_sandbox.active_passive import backscatter
from smnb_sandbox.multisource_days import SiteSimulation, liquid_share
from smnb_sandbox.multisource_sites import PIXEL_M, Sentinel2Pass, Site, SitePass
from smnb_sandbox.noise import blocks, spread, stream
from smnb_sandbox.rasters import Packing, encode_scene
from smnb_sandbox.tables import table

Array = NDArray[np.float32]

SENTINEL1_BANDS = ("VV", "VH", "angle")
SENTINEL2_BANDS = tuple(table("multisource")["sentinel2"])
LOOKS = 4.4
#: Real exports are float32, which noise makes incompressible. Here dB come in steps of 0.25, which add 0.07 dB to the
#: speckle's 2 dB, and angles in steps of 0.1 degrees.
_DECIBEL, _ANGLE = Packing(0.25, -45.0), Packing(0.1, 25.0)
#: How fast the angle grows across the swath, degrees per km.
_ANGLE_PER_KM = 0.07
#: Calibration of a scene, dB.
_CALIBRATION_DB = 0.25
_SHADOW, _SHADOW_PIXELS, _CIRRUS_OPACITY = 0.45, (-12, -6), 0.7
#: NDVI at the surface of bare soil and of a full canopy.
_NDVI_SOIL, _NDVI_CANOPY = 0.08, 0.92
#: Numbers come in steps of 16 (0.0016), as noise makes finer ones incompressible too, and have a quarter as much noise.
_DN_STEP, _DN_NOISE = 16, 4.0
_OPAQUE, _CIRRUS = 1 << 10, 1 << 11
_BANDS_20M = (4, 5)


def sigma0(simulation: SiteSimulation, one: SitePass, size: int) -> tuple[Array, Array, Array]:
    """Linear power of VV and VH without speckle, and the incidence angle on the ellipsoid (degrees), of a square.

    Slopes are not corrected for: what faces the radar is brighter.
    """
    land = simulation.land
    cut, state = land.cut(size), simulation.days.state(one.time)
    azimuth = np.radians(one.look_deg)
    look_east, look_north = np.float32(np.sin(azimuth)), np.float32(np.cos(azimuth))
    away_km = (land.east[cut[1]][None, :] * look_east + land.north[cut[0]][:, None] * look_north) / 1000.0
    angle = (one.angle + _ANGLE_PER_KM * away_km).astype(np.float32)
    facing = np.degrees(np.arctan(land.slope_east[cut] * look_east + land.slope_north[cut] * look_north))
    local = np.clip(angle - facing, 12.0, 70.0).astype(np.float32)
    liquid = simulation.soil_moisture(state, cut) * np.float32(liquid_share(np.float64(state.celsius)))
    vv, vh = backscatter(liquid, land.rms_height_cm[cut], simulation.ndvi(state, cut), local)
    return vv, vh, angle


def _speckle(rng: np.random.Generator, size: int) -> Array:
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
    return encode_scene(
        np.stack(bands),
        _place(site, size),
        SENTINEL1_BANDS,
        units=("dB", "dB", "degree"),
        packing=(_DECIBEL, _DECIBEL, _ANGLE),
        tags=tags,
        nodata=Packing.nodata,
    )


def reflectance(simulation: SiteSimulation, one: Sentinel2Pass, size: int) -> Array:
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


def _clouds(rng: np.random.Generator, size: int, share: float) -> tuple[Array, NDArray[np.bool_]]:
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
    return encode_scene(
        np.concatenate([numbers, mask[None]]), _place(site, size), (*SENTINEL2_BANDS, "QA60"), tags=tags, predictor=2
    )
