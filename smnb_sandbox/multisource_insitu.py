"""In-situ stations of the multi-source world and their hourly readings of two years, as an ISMN archive.

Two or three stations stand at a site, each in a field of its own, a few hundred metres apart, so that one raster serves them
all. A station reads the soil moisture of its 10 m pixel plus what a point differs from it by, through its sensor's own
calibration, noise and faults (`smnb_sandbox.insitu_readings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from smnb.grids.koppen import koppen_class
from smnb_sandbox.fusion_insitu import HourTruth
from smnb_sandbox.insitu_ismn import archive_name, write_ismn_zip
from smnb_sandbox.insitu_readings import read_sensor
from smnb_sandbox.insitu_sites import Network, Sensor, Station, networks_of, place_sensors
from smnb_sandbox.multisource_days import SiteSimulation
from smnb_sandbox.multisource_land import KINDS
from smnb_sandbox.multisource_sites import FIRST_DAY, LAST_DAY, SITES, Site
from smnb_sandbox.noise import stream

#: Number of the first sensor's random stream; those of the other archives are below it.
_FIRST_SENSOR = 20_000
#: Pixels between a station and the middle of its site at most, and between two stations at least.
REACH, _APART = 24, 14
#: Standard deviations of what a point differs from its pixel by: always, and for some days (m3 m-3 at a pixel's 0.2).
_STATIC, _PASSING, _PASSING_MEMORY = 0.020, 0.011, 0.88
#: How far the saturation of the soil map, which C03 is judged by, is from the soil's own.
_SATURATION_ERROR = 0.05

_TEMPLATES = {network.name: network for network in networks_of("multisource")}


@dataclass(frozen=True)
class SiteStations:
    """The stations of a site, their pixels, and what they should read."""

    site: Site
    stations: list[Station]
    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    """Of the simulation's land, with its margin."""
    pixel_moisture: NDArray[np.float64]
    """m3 m-3, of the station's 10 m pixel, (hour, station)."""
    truth: HourTruth


def ismn_name() -> str:
    """Name of the archive's zip."""
    return archive_name("header_values", FIRST_DAY, LAST_DAY)


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
            open_ground = KINDS[land.kind[row, col]].name != "forest"
            if apart and ((own and open_ground) or not strict):
                found.append((int(row), int(col)))
    return np.array(found, dtype=np.intp)


def site_stations(simulation: SiteSimulation) -> SiteStations:
    """Place a site's stations and compute their hourly truth.

    Parameters
    ----------
    simulation : SiteSimulation
    """
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
        clay, sand = (round(float(field[at]), 2) for field in (land.clay_fraction, land.sand_fraction))
        saturation = float(land.porosity[at]) - 0.02 + _SATURATION_ERROR * rng.standard_normal()
        stations.append(
            Station(
                network,
                first[site.name] + k,
                round(float(lat[k]), 5),
                round(float(lon[k]), 5),
                round(float(land.elevation[at]), 1),
                str(climate[k]),
                k,
                KINDS[land.kind[at]].cci,
                clay,
                sand,
                1.2,
                round(float(np.clip(saturation, 0.33, 0.56)), 2),
            )
        )
    return SiteStations(site, stations, rows, cols, *_hour_truth(simulation, stations, rows, cols))


def _hour_truth(
    simulation: SiteSimulation, stations: list[Station], rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> tuple[NDArray[np.float64], HourTruth]:
    """Pixels' and points' soil moisture of every hour."""
    days, site = simulation.days, simulation.site
    count = 24 * ((LAST_DAY - FIRST_DAY).days + 1)
    hours = np.datetime64(FIRST_DAY, "s") + np.arange(count) * np.timedelta64(3600, "s")
    pixel = simulation.at(rows, cols, hours).astype(np.float64)
    rng = stream(simulation.seed, "multisource representativeness", site.number)
    size = len(stations)
    passing = np.empty((count // 24 + 1, size))
    passing[0] = rng.standard_normal(size)
    for day in range(1, len(passing)):
        fresh = np.sqrt(1.0 - _PASSING_MEMORY**2) * rng.standard_normal(size)
        passing[day] = _PASSING_MEMORY * passing[day - 1] + fresh
    day = np.arange(count) / 24.0
    slow = np.stack([np.interp(day, np.arange(len(passing)), series) for series in passing.T], axis=1)
    level = np.clip(pixel / 0.2, 0.25, 1.4)
    point = pixel + level * (_STATIC * rng.standard_normal(size) + _PASSING * slow)
    porosity = simulation.land.porosity[rows, cols]
    point = np.clip(point, 0.01, porosity - 0.005)
    soil = np.repeat(days.soil_celsius(hours)[:, None], size, axis=1)
    swing = 0.75 * days.swing * np.cos(2.0 * np.pi * (days.position(hours) - 9.0 / 24.0))
    air = np.repeat((days.between(days.celsius, hours) - 0.5 + swing)[:, None], size, axis=1)
    none = np.zeros_like(pixel)
    return pixel, HourTruth(stations, pixel, point, none, none, none, soil, air, begin=FIRST_DAY)


def _joined(sites: Sequence[SiteStations]) -> HourTruth:
    """All sites' stations in one table of hours."""
    parts = [one.truth for one in sites]
    names = [one.name for one in fields(HourTruth) if one.name not in ("stations", "begin")]
    series = (np.concatenate([getattr(part, name) for part in parts], axis=1) for name in names)
    return HourTruth([station for part in parts for station in part.stations], *series, begin=FIRST_DAY)


def sensors_of(sites: Sequence[SiteStations]) -> list[Sensor]:
    """The sensors of all sites; their indices are those of the joined stations."""
    return place_sensors([station for one in sites for station in one.stations])


def write_ismn(path: Path, sites: Sequence[SiteStations], seed: int) -> None:
    """Write all sites' readings as one ISMN zip, header+values, network by network.

    Parameters
    ----------
    path : Path
    sites : sequence of SiteStations
    seed : int
    """
    truth = _joined(sites)
    readings = []
    for sensor in sensors_of(sites):
        station = sensor.station
        # the stream is the station's and the depth's own, whichever other sites there are
        number = _FIRST_SENSOR + 1000 * list(_TEMPLATES).index(station.network.name) + 10 * station.number
        number += round(sensor.depth_to * 20.0)
        readings.append(read_sensor(seed, number, sensor, truth, FIRST_DAY, LAST_DAY))
    readings.sort(key=lambda one: list(_TEMPLATES).index(one.sensor.station.network.name))
    write_ismn_zip(path, readings, truth, (FIRST_DAY, LAST_DAY))
