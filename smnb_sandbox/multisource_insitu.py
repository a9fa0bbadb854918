"""In-situ stations of the multi-source world and their hourly readings of two years, as an ISMN archive.

The stations of a site stand a few hundred metres apart, each in a field of its own. A station reads the soil moisture of its 10 m
pixel plus what a point differs from it by, through its sensor's own calibration, noise and faults.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from smnb.grids.koppen import koppen_class
from smnb_sandbox.insitu_readings import Readings, read_sensor
from smnb_sandbox.insitu_sites import Network, Sensor, Station, networks_of, place_sensors, surveyed
from smnb_sandbox.insitu_truth import PointTruth, around_cells
from smnb_sandbox.multisource_land import KINDS, SiteSimulation
from smnb_sandbox.multisource_sites import FIRST_DAY, LAST_DAY, SITES
from smnb_sandbox.noise import stream

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
