"""What stations and coarse products report of the multi-source world: ISMN, NASA-USDA SMAP at 10 km, GLDAS Noah, MODIS leaf area.

Stations stand a few hundred metres apart, each in a field of its own, and read a 10 m pixel plus what a point differs from it by.
Coarse products see the country's rain and its mean soil, with their own errors; cells far from every site have no data. GLDAS:
Rodell et al. 2004, Bull. Am. Meteorol. Soc. 85(3), 381-394, doi:10.1175/BAMS-85-3-381.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache

import h5py
import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.signal import lfilter

from smnb.grids.koppen import koppen_class
from smnb_sandbox.files import RASTERS, LonLatGrid, Patch, table
from smnb_sandbox.insitu_readings import Readings, read_sensor
from smnb_sandbox.insitu_sites import Network, Sensor, Station, networks_of, place_sensors, surveyed
from smnb_sandbox.insitu_truth import PointTruth, around_cells
from smnb_sandbox.multisource_land import KINDS, SiteDays, SiteSimulation
from smnb_sandbox.multisource_rasters import COARSE, Ground
from smnb_sandbox.multisource_sites import FIRST_DAY, LAST_DAY, SITES, SitePass
from smnb_sandbox.noise import autoregressive, stream
from smnb_sandbox.world import soil_limits

_FIRST_SENSOR = 20_000  # number of the first sensor's random stream; those of the other archives are below it
REACH, _APART = 24, 14  # pixels between a station and the middle of its site at most, and between two stations at least
#: Standard deviations of what a point differs from its pixel by: always, and for some days (m3 m-3 at a pixel's 0.2).
_STATIC, _PASSING, _PASSING_MEMORY = 0.020, 0.011, 0.88
_SATURATION_ERROR = 0.05  # how far the saturation of the soil map, which C03 is judged by, is from the soil's own

_TEMPLATES = {network.name: network for network in networks_of("multisource")}


@cache
def _network(name: str) -> tuple[Network, dict[str, int]]:
    """A network with the names of all its stations, and the number of the first one of each site."""
    first, names = {}, []
    for site in SITES.values():
        if site.network == name:
            first[site.name] = len(names)
            names += [f"SX_{site.region.title.replace(' ', '_')}_{i + 1}" for i in range(site.sensors)]
    return replace(_TEMPLATES[name], stations=tuple(names)), first


def _draw_pixels(simulation: SiteSimulation) -> NDArray[np.intp]:
    """Rows and columns, (station, 2): each in a field of its own, out of the woods where there is anything else."""
    land, site = simulation.land, simulation.site
    rng = stream(simulation.seed, "multisource stations", site.number)
    found: list[tuple[int, int]] = []
    draws = rng.integers(-REACH, REACH, size=(4000, 2)) + land.size // 2
    for strict in (True, False):
        for row, col in draws:
            if len(found) == site.sensors:
                return np.array(found, dtype=np.intp)
            apart = all(max(abs(row - r), abs(col - c)) >= _APART for r, c in found)
            own = all(land.parcel[row, col] != land.parcel[r, c] for r, c in found)
            open_ground = KINDS[land.kind[row, col]]["name"] != "forest"
            if apart and ((own and open_ground) or not strict):
                found.append((int(row), int(col)))
    return np.array(found, dtype=np.intp)


def site_stations(simulation: SiteSimulation) -> tuple[NDArray[np.intp], list[Sensor], PointTruth]:
    """Stations in 10 m pixels: row and column (of the land with its margin) of each, (station, 2), sensors, and hourly truth."""
    site, land = simulation.site, simulation.land
    rows, cols = _draw_pixels(simulation).T
    window = site.window(land.size)
    rng = stream(simulation.seed, "multisource points", site.number)
    # within the middle of the pixel, so that rounding moves nobody out of it
    x, y = (axis[i] + rng.uniform(-3.0, 3.0, i.size) for axis, i in ((window.x, cols), (window.y, rows)))
    lon, lat = Transformer.from_crs(f"EPSG:{site.epsg}", "EPSG:4326", always_xy=True).transform(x, y)
    network, first = _network(site.network)
    climate = koppen_class(lat, lon)
    stations = []
    for k, at in enumerate(zip(rows, cols, strict=True)):
        saturation = float(land.porosity[at]) - 0.02 + _SATURATION_ERROR * rng.standard_normal()
        soil = land.clay_fraction[at], land.sand_fraction[at], np.clip(saturation, 0.33, 0.56)
        where = lat[k], lon[k], land.elevation[at]
        kind = KINDS[land.kind[at]]
        stations.append(surveyed(network, first[site.name] + k, where, str(climate[k]), k, kind["cci"], soil))
    truth = _hour_truth(simulation, stations, rows, cols)
    return np.stack([rows, cols], axis=1), place_sensors(stations), truth


def _hour_truth(
    simulation: SiteSimulation, stations: list[Station], rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> PointTruth:
    """Pixels' and points' soil moisture of every hour."""
    days, site = simulation.days, simulation.site
    count = 24 * ((LAST_DAY - FIRST_DAY).days + 1)
    hours = np.datetime64(FIRST_DAY, "s") + np.arange(count) * np.timedelta64(3600, "s")
    pixel = simulation.at(rows, cols, hours).astype(np.float64)
    rng = stream(simulation.seed, "multisource representativeness", site.number)
    most = simulation.land.porosity[rows, cols] - 0.005
    point = around_cells(rng, pixel, np.arange(count) / 24.0, _PASSING_MEMORY, _STATIC, _PASSING, most)
    swing = 0.75 * site.region.diurnal_half_range * np.cos(2.0 * np.pi * (days.position(hours) - 9.0 / 24.0))
    air = days.between(days.celsius, hours) - 0.5 + swing
    soil, air = (np.repeat(series[:, None], len(stations), axis=1) for series in (days.soil_celsius(hours), air))
    none = np.zeros_like(pixel)
    return PointTruth(stations, pixel, point, none, none, none, soil, air, FIRST_DAY)


def read_site(simulation: SiteSimulation) -> list[Readings]:
    """What every sensor of a site reports."""
    _, sensors, truth = site_stations(simulation)
    readings = []
    for sensor in sensors:
        station = sensor.station
        # the stream is the station's and the depth's own, whichever other sites there are
        number = _FIRST_SENSOR + 1000 * list(_TEMPLATES).index(station.network.name) + 10 * station.number
        number += round(sensor.depth_to * 20.0)
        readings.append(read_sensor(simulation.seed, number, sensor, truth, FIRST_DAY, LAST_DAY))
    return readings


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
