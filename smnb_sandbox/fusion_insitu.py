"""In-situ stations of the 1 km fusion, and their hourly readings as an ISMN archive.

Networks carry the names of the real ones that they stand for, so that what selects networks works alike on a real archive;
stations are invented. A station reads the soil moisture of its 1 km cell, plus what a point differs from a cell by, through
the sensor's own calibration, noise and faults (`smnb_sandbox.insitu_readings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from smnb.grids import M01
from smnb.grids.koppen import koppen_class
from smnb_sandbox.fusion_scenes import FusionSimulation
from smnb_sandbox.insitu_readings import Readings, read_sensor
from smnb_sandbox.insitu_sites import Network, Sensor, Station, networks_of, place_sensors, surveyed
from smnb_sandbox.insitu_truth import PointTruth, around_cells
from smnb_sandbox.noise import columns_at, spread, stream
from smnb_sandbox.regions import PLACES, FusionPlace
from smnb_sandbox.smap_world import FREEZING

#: First and last day of the records: some sensors are installed in the first weeks.
INSITU_FIRST, INSITU_LAST = date(2020, 8, 14), date(2020, 9, 30)
#: Number of the first sensor's random stream; those of the archive of 2011 are below it.
_FIRST_SENSOR = 10_000
#: Cells of 1 km between a station and the place's edge, and between two stations that do not share a cell.
_MARGIN, _APART = 8, 6
#: Standard deviations of what a point differs from its cell by: always, and for some days (m3 m-3 at a cell's 0.2).
_STATIC, _PASSING = 0.022, 0.010
_OTHER_INSTRUMENT, _EACH = "ThetaProbe ML2X", 6

_TEMPLATES = {network.name: network for network in networks_of("fusion")}
#: ESA CCI land cover by IGBP class.
_CCI = {0: 130, 1: 70, 4: 60, 5: 90, 7: 120, 8: 90, 9: 130, 10: 130, 12: 10, 13: 130, 14: 30, 16: 200}


@dataclass(frozen=True)
class PlaceStations:
    """The sensors of a place, where they stand, and what they should read."""

    sensors: list[Sensor]
    cells: NDArray[np.intp]
    """Row and column of each station's 1 km cell, on the global grid, (station, 2)."""
    truth: PointTruth
    """``cell_moisture`` is that of the 1 km cell."""


def _networks(place: FusionPlace) -> list[Network]:
    """The place's networks, with the names of their stations."""
    first, result = 1, []
    counts = list(place.stations)
    if place.shared_pixels:  # stations that stand beside others
        counts[0] = (counts[0][0], counts[0][1] + place.shared_pixels)
    for name, count in counts:
        names = tuple(f"SX_{place.title.replace(' ', '_')}_{first + i}" for i in range(count))
        first += count
        twins = tuple(range(0, count, 2)) if name == "ARM" else ()
        deep = {0: (0.1016, 0.2032)} if name in ("SCAN", "SNOTEL") else {}
        result.append(replace(_TEMPLATES[name], stations=names, twins=twins, deep=deep))
    return result


def _draw_cells(simulation: FusionSimulation, networks: Sequence[Network]) -> NDArray[np.intp]:
    """Rows and columns within the place, one station after the other: land, apart, snow gauges on high ground."""
    world, place = simulation.world, simulation.place
    rng = stream(simulation.seed, f"fusion stations {place.name}")
    lake, height = world.lake[simulation.cut], world.fine_elevation[simulation.cut]
    level = (world.slope_deviation < 6.0) & (world.land_cover != 13)
    allowed = ~lake & spread(level, 3)[simulation.cut]
    inner = np.zeros_like(allowed)
    inner[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = True
    allowed &= inner
    high = height >= np.quantile(height[allowed], 0.7)
    found: list[tuple[int, int]] = []
    for network in networks:
        for _ in network.stations:
            if len(found) >= sum(n for _, n in place.stations):  # beside one of the first network's others
                break
            here = allowed & (high if network.name == "SNOTEL" else ~high | (rng.random() < 0.2))
            rows, cols = np.nonzero(here)
            order = rng.permutation(rows.size)
            for i in order[:5000]:
                if all(max(abs(rows[i] - r), abs(cols[i] - c)) >= _APART for r, c in found):
                    break
            found.append((int(rows[i]), int(cols[i])))
    return np.array(found, dtype=np.intp)


def fusion_stations(simulation: FusionSimulation) -> PlaceStations:
    """Place a simulation's stations and compute their hourly truth."""
    place, world = simulation.place, simulation.world
    networks = _networks(place)
    drawn = _draw_cells(simulation, networks)
    # the first network's last stations stand in cells of its first ones
    own, shared = networks[0], place.shared_pixels
    plain = len(own.stations) - shared
    local = np.concatenate([drawn[:plain], drawn[:shared], drawn[plain:]])
    rows, cols = local.T
    window = place.window
    cells = np.stack([rows + window.row_start, cols + window.col_start], axis=1)
    in_fine = rows + simulation.cut[0].start, cols + simulation.cut[1].start
    in_coarse = in_fine[0] // 3, in_fine[1] // 3
    rng = stream(simulation.seed, f"fusion positions {place.name}")
    # within the middle of the cell, so that rounding moves nobody out of it
    x, y = (
        axis[i] + M01.cell * rng.uniform(-0.35, 0.35, i.size)
        for axis, i in ((M01.x, cells[:, 1]), (M01.y, cells[:, 0]))
    )
    lat, lon = M01.from_xy(x, y)
    climate = koppen_class(lat, lon)
    fine, coarse = list(zip(*in_fine, strict=True)), list(zip(*in_coarse, strict=True))
    stations = [
        surveyed(
            network,
            number,
            (lat[k], lon[k], world.fine_elevation[fine[k]]),
            str(climate[k]),
            k,
            _CCI[int(world.land_cover[coarse[k]])],
            (world.clay_fraction[coarse[k]], world.sand_fraction[coarse[k]], world.porosity[coarse[k]]),
        )
        for k, (network, number) in enumerate((one, i) for one in networks for i in range(len(one.stations)))
    ]
    truth = _hour_truth(simulation, stations, in_fine, in_coarse)
    return PlaceStations(_sensors(stations), cells, truth)


def _sensors(stations: Sequence[Station]) -> list[Sensor]:
    """The sensors of the stations; one of the paper's networks in `_EACH` has another instrument."""
    return [
        replace(one, instrument=one.instrument.replace(one.station.network.instrument, _OTHER_INSTRUMENT))
        if one.station_index % _EACH == _EACH - 1 and one.station.network.name in ("ARM", "SCAN")
        else one
        for one in place_sensors(stations)
    ]


def _hour_truth(
    simulation: FusionSimulation,
    stations: list[Station],
    in_fine: tuple[NDArray, NDArray],
    in_coarse: tuple[NDArray, NDArray],
) -> PointTruth:
    """Cells' soil moisture between the 6 a.m. states, and the points' around it."""
    place, days = simulation.place, simulation.days
    count = (INSITU_LAST - INSITU_FIRST).days + 3
    dates = [INSITU_FIRST + timedelta(days=i - 1) for i in range(count)]
    daily = np.stack([simulation.fine_truth(day)[in_fine] for day in dates]).astype(np.float64)
    kelvin = np.stack([days.state(day).soil_temperature[in_coarse] for day in dates]).astype(np.float64)
    hour = np.arange(24 * (count - 2), dtype=np.float64)
    # 6 a.m. local time of each day in hours from the first day's midnight, UTC
    six = 24.0 * (np.arange(count) - 1.0) + 6.0 - place.region.lon / 15.0
    at = (hour - six[0]) / 24.0
    cell, soil = (columns_at(at, values) for values in (daily, kelvin - FREEZING))
    rng = stream(simulation.seed, f"fusion points {place.name}")
    most = np.array([s.saturation for s in stations]) - 0.01
    point = around_cells(rng, cell, at, 0.85, _STATIC, _PASSING, most)
    local = (hour[:, None] + place.region.lon / 15.0) / 24.0
    swing = place.region.diurnal_half_range * np.cos(2.0 * np.pi * (local - 17.0 / 24.0))
    none = np.zeros_like(cell)
    air = soil + 0.75 * swing
    return PointTruth(stations, cell, point, none, none, none, soil + 0.45 * swing, air, INSITU_FIRST)


def read_place(simulation: FusionSimulation) -> list[Readings]:
    """What every sensor of a place reports."""
    stations = fusion_stations(simulation)
    first = _FIRST_SENSOR + 100 * list(PLACES).index(simulation.place.name)
    return [
        read_sensor(simulation.seed, first + k, sensor, stations.truth, INSITU_FIRST, INSITU_LAST)
        for k, sensor in enumerate(stations.sensors)
    ]
