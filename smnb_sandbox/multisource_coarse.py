"""What coarse products say of the country around the sites: NASA-USDA SMAP at 10 km, GLDAS Noah, and MODIS leaf area.

They see the country's rain and its mean soil, with their own idea of wet and dry, and their own errors; cells far from every site
have no data. Rodell et al. 2004, Bull. Am. Meteorol. Soc. 85(3), 381-394, doi:10.1175/BAMS-85-3-381.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from smnb_sandbox.files import RASTERS, LonLatGrid, Patch, table
from smnb_sandbox.multisource_land import SiteDays, SiteSimulation
from smnb_sandbox.multisource_rasters import COARSE, Ground
from smnb_sandbox.multisource_sites import FIRST_DAY, LAST_DAY, SitePass
from smnb_sandbox.noise import autoregressive, stream
from smnb_sandbox.world import soil_limits

_AROUND = 2  # cells on each side of a site's that have data
SMAP_DAYS = 3
_SMAP_FIRST = date(2015, 4, 2)  # first day of the product: images begin every three days from it on
_SSM_MAX, _SUSM_MAX = 25.39, 274.6  # mm that the two layers of the Palmer model hold at most
_NODATA = -9999.0
_ANOMALY_IMAGES = 11
GLDAS_SHAPE = (600, 1440)
_GLDAS_GRID = LonLatGrid(-180.0, 90.0, 4.0, 1440, 600)
_GLDAS_HOURS = {"A": (21, 0), "D": (9, 12)}  # hour of the granule before a pass: by direction, east and west
#: The layer that is kept of a granule's: its depth in mm, memory in days, and the least and the most it has (kg m-2).
GLDAS_LAYER = "SoilMoi0_10cm_inst"
_DEPTH_MM, _MEMORY_DAYS, _LEAST, _MOST = 100.0, 2.5, 2.0, 47.6
_LAI_STEP = 8
_KINDS = {float: np.float32, int: np.int32}


def _patch_box(grid: LonLatGrid, days: SiteDays) -> tuple[slice, slice]:
    half = (_AROUND + 0.5) / grid.per_degree
    return grid.box(days.site.lat, days.site.lon, half, half)


def smap_days() -> list[date]:
    """First days of the images, from the one that holds the world's first day."""
    start = FIRST_DAY - timedelta(days=(FIRST_DAY - _SMAP_FIRST).days % SMAP_DAYS)
    return [start + timedelta(days=i) for i in range(0, (LAST_DAY - start).days + 1, SMAP_DAYS)]


def smap_patches(days: SiteDays) -> list[Patch]:
    """The cells around a site in all images, in order, (band, row, col)."""
    site, region = days.site, days.site.region
    rng = stream(days.seed, "multisource smap", site.number)
    box, count = _patch_box(RASTERS["smap10km"].grid, days), len(smap_days())
    shape = (count, *(part.stop - part.start for part in box))
    wilting, _, porosity = (float(v) for v in soil_limits(np.float64(region.clay), np.float64(region.sand)))
    start = np.array([f"{day}T00" for day in smap_days()], dtype="datetime64[s]")
    times = start[:, None] + np.array([12, 36, 60], dtype="timedelta64[h]")
    error = autoregressive(rng, 0.6, shape)
    level, gain = 1.2 * rng.standard_normal(shape[1:]), np.exp(0.10 * rng.standard_normal())

    def filled(moisture: NDArray) -> NDArray:
        """Share of the layer's water, between a dry floor and less than saturation, where it stays."""
        mean = days.between(moisture, times).mean(axis=1)[:, None, None]
        return np.clip((mean - 0.5 * wilting) / (0.85 * porosity - 0.5 * wilting), 0.0, 1.0) ** 0.9

    ssm = np.clip(_SSM_MAX * gain * filled(days.country_moisture) + level + 2.0 * error, 0.3, _SSM_MAX)
    susm = np.clip(_SUSM_MAX * 0.8 * filled(days.smoothed_country(25.0)) + 4.0 * level, 5.0, _SUSM_MAX)
    bands = np.stack([ssm, susm, ssm / _SSM_MAX, _anomaly(ssm), _anomaly(susm)], axis=1)
    # float32 whose last bits are zero packs better
    return [(box, np.round(image * 16.0).astype(np.float32) / np.float32(16.0)) for image in bands]


def _anomaly(series: NDArray) -> NDArray:
    """Standardised by the mean and spread of a centred window of about 31 days."""
    half = _ANOMALY_IMAGES // 2
    padded = np.pad(series, ((half, half), (0, 0), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _ANOMALY_IMAGES, axis=0)
    return np.clip((series - windows.mean(axis=-1)) / np.maximum(windows.std(axis=-1), 0.05), -4.0, 4.0)


def gldas_time(one: SitePass, west: bool) -> datetime:
    """Time of the granule before a pass, within four hours of it."""
    hour = _GLDAS_HOURS[one.direction][west]
    back = (one.time - timedelta(hours=hour)).replace(hour=0, minute=0, second=0)
    return back + timedelta(hours=hour)


def gldas_patches(days: SiteDays, times: Iterable[datetime]) -> list[Patch]:
    """The cells around a site at each time, (row, col), kg m-2."""
    rng = stream(days.seed, "multisource gldas", days.site.number)
    box = _patch_box(_GLDAS_GRID, days)
    stamps = np.array([time.replace(tzinfo=None) for time in times], dtype="datetime64[s]")
    bias = 0.02 * rng.standard_normal() + 0.012 * rng.standard_normal([part.stop - part.start for part in box])
    error = 0.018 * lfilter([1.0], [1.0, -0.9], rng.standard_normal(days.celsius.size) * np.sqrt(1.0 - 0.9**2))
    moisture = days.between(0.09 + 0.65 * days.smoothed_country(_MEMORY_DAYS) + error, stamps)
    values = np.clip(_DEPTH_MM * (moisture[:, None, None] + bias), _LEAST, _MOST)
    return [(box, image) for image in np.round(values, 2)]


def gldas_file(time: datetime, patches: Iterable[Patch]) -> bytes:
    """A granule with the real ones' attributes and one of their variables, south first; cells without data are -9999."""
    image = np.full(GLDAS_SHAPE, _NODATA, dtype=np.float32)
    for box, values in patches:
        image[box] = values
    content = io.BytesIO()
    # the oldest form of HDF5 keeps the attributes small
    with h5py.File(content, "w", libver="earliest") as file:
        for name, first, size in zip(("lat", "lon"), (-59.875, -179.875), GLDAS_SHAPE, strict=True):
            _gldas_variable(file, name, (name,), (first + 0.25 * np.arange(size)).astype(np.float32), time)
        bounds = file.create_dataset("bnds", shape=(2,), dtype=">f4")
        bounds.make_scale(f"This is a netCDF dimension but not a netCDF variable.{2:10d}")
        minutes = np.array([(time - datetime(2000, 1, 1, time.hour, tzinfo=UTC)).total_seconds() / 60.0])
        _gldas_variable(file, "time", ("time",), minutes, time)
        _gldas_variable(file, "time_bnds", ("time", "bnds"), minutes[:, None] + np.array([[-180.0, 0.0]]), time)
        _gldas_variable(file, GLDAS_LAYER, ("time", "lat", "lon"), image[None, ::-1], time)
        for name, value in table("multisource")["gldas"].items():
            file.attrs[name] = np.bytes_(value) if isinstance(value, str) else np.array([value], _KINDS[type(value)])
    return content.getvalue()


def _gldas_variable(file: h5py.File, name: str, dims: tuple[str, ...], values: NDArray, time: datetime) -> None:
    """A variable on dimensions that are there, or the coordinate of its own; in one chunk, as the real ones are."""
    packing, further = {}, {}
    if values.dtype == np.float32:
        packing = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "chunks": values.shape}
        packing["fillvalue"] = np.float32(_NODATA)
        further = {"scale_factor": 1.0, "add_offset": 0.0, "missing_value": _NODATA, "_FillValue": _NODATA}
        further |= {"vmin": values[values != _NODATA].min(), "vmax": values.max()}
    dataset = file.create_dataset(name, data=values, **packing)
    if dims == (name,):
        dataset.make_scale(name)
    else:
        for axis, dim in enumerate(dims):
            dataset.dims[axis].attach_scale(file[dim])
    for key, value in table("multisource")["gldas_variables"].get(name, {}).items():
        dataset.attrs[key] = np.bytes_(value.format(time=time))
    for key, value in further.items():
        dataset.attrs[key] = np.float32([value])


def lai_days() -> list[date]:
    """First days of the composites that are kept: every second of the four-day ones, from before the world's first day."""
    years = range(FIRST_DAY.year - 1, LAST_DAY.year + 1)
    found = [date(year, 1, 1) + timedelta(days=i) for year in years for i in range(0, 365, _LAI_STEP)]
    return [day for day in found if FIRST_DAY - timedelta(days=_LAI_STEP) < day <= LAST_DAY]


def lai_patches(simulation: SiteSimulation, ground: Ground) -> list[Patch]:
    """Leaf area index and absorbed radiation of the cells of a site in all composites: Lai in tenths, Fpar in hundredths."""
    rng = stream(simulation.seed, "multisource lai", simulation.site.number)
    box, average = ground.averager(RASTERS["lai"].grid)
    patches = []
    for day in lai_days():
        middle = datetime(day.year, day.month, day.day, 18, tzinfo=UTC) + timedelta(days=2)
        ndvi = average(simulation.ndvi(simulation.days.state(middle), COARSE))
        cover = np.clip((ndvi + 0.015 * rng.standard_normal(ndvi.shape) - 0.08) / 0.84, 0.0, 1.0)
        bands = np.stack([55.0 * cover**1.5, 92.0 * cover])
        patches.append((box, np.where(np.isfinite(bands), np.rint(bands), 255).astype(np.uint8)))
    return patches
