"""In-situ stations of the 1 km fusion, and their hourly readings as an ISMN archive.

Networks carry the names of the real ones that they stand for, so that what selects networks works alike on a real archive;
stations are invented. A station reads the soil moisture of its 1 km cell, plus what a point differs from a cell by, through
the sensor's own calibration, noise and faults (`smnb_sandbox.insitu_readings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smnb.grids import M01
from smnb.grids.koppen import koppen_class
from smnb_sandbox.fusion_scenes import FusionSimulation
from smnb_sandbox.insitu_ismn import archive_name, write_ismn_zip
from smnb_sandbox.insitu_readings import Readings, read_sensor
from smnb_sandbox.insitu_sites import Network, Sensor, Station, networks_of
from smnb_sandbox.insitu_truth import PointTruth
from smnb_sandbox.noise import stream
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
class HourTruth(PointTruth):
    """The stations' hourly truth from a day of one's own."""

    begin: date = INSITU_FIRST

    def hours(self, first: date, last: date) -> slice:
        """Indices of the hours of the days from `first` to `last`."""
        return slice(24 * (first - self.begin).days, 24 * ((last - self.begin).days + 1))


@dataclass(frozen=True)
class PlaceStations:
    """The sensors of a place, where they stand, and what they should read."""

    place: FusionPlace
    sensors: list[Sensor]
    cells: NDArray[np.intp]
    """Row and column of each station's 1 km cell, on the global grid, (station, 2)."""
    truth: HourTruth
    """``cell_moisture`` is that of the 1 km cell."""


def ismn_name() -> str:
    """Name of the archive's zip."""
    return archive_name("header_values", INSITU_FIRST, INSITU_LAST)


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
    allowed = (
        ~lake & (_to_fine(world.slope_deviation, simulation) < 6.0) & (_to_fine(world.land_cover, simulation) != 13)
    )
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


def _to_fine(values: NDArray, simulation: FusionSimulation) -> NDArray:
    return values.repeat(3, axis=0).repeat(3, axis=1)[simulation.cut]


def place_stations(simulation: FusionSimulation) -> PlaceStations:
    """Place a simulation's stations and compute their hourly truth.

    Parameters
    ----------
    simulation : FusionSimulation
    """
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
    stations = []
    k = 0
    for network in networks:
        for number in range(len(network.stations)):
            at = in_coarse[0][k], in_coarse[1][k]
            clay, sand = (round(float(getattr(world, f"{n}_fraction")[at]), 2) for n in ("clay", "sand"))
            stations.append(
                Station(
                    network,
                    number,
                    round(float(lat[k]), 5),
                    round(float(lon[k]), 5),
                    round(float(world.fine_elevation[in_fine[0][k], in_fine[1][k]]), 1),
                    str(climate[k]),
                    k,
                    _CCI[int(world.land_cover[at])],
                    clay,
                    sand,
                    1.2,
                    round(float(world.porosity[at]), 2),
                )
            )
            k += 1
    truth = _hour_truth(simulation, stations, in_fine, in_coarse)
    return PlaceStations(place, _sensors(stations), cells, truth)


def _sensors(stations: Sequence[Station]) -> list[Sensor]:
    """The sensors of the stations; one of the paper's networks in `_EACH` has another instrument."""
    sensors = []
    for i, station in enumerate(stations):
        network = station.network
        instrument = (
            _OTHER_INSTRUMENT if i % _EACH == _EACH - 1 and network.name in ("ARM", "SCAN") else network.instrument
        )
        names = [f"{instrument} {s}" for s in "AB"] if station.number in network.twins else [instrument]
        sensors += [Sensor(station, i, *network.depth, name) for name in names]
        sensors += [Sensor(station, i, d, d, instrument) for d in network.deep.get(station.number, ())]
    return sensors


def _hour_truth(
    simulation: FusionSimulation,
    stations: list[Station],
    in_fine: tuple[NDArray, NDArray],
    in_coarse: tuple[NDArray, NDArray],
) -> HourTruth:
    """Cells' soil moisture between the 6 a.m. states, and the points' around it."""
    place, days = simulation.place, simulation.days
    count = (INSITU_LAST - INSITU_FIRST).days + 3
    dates = [INSITU_FIRST + timedelta(days=i - 1) for i in range(count)]
    daily = np.stack([simulation.fine_truth(day)[in_fine] for day in dates]).astype(np.float64)
    kelvin = np.stack([days.state(day).soil_temperature[in_coarse] for day in dates]).astype(np.float64)
    hour = np.arange(24 * (count - 2), dtype=np.float64)
    # 6 a.m. local time of each day in hours from the first day's midnight, UTC
    six = 24.0 * (np.arange(count) - 1.0) + 6.0 - place.region.lon / 15.0
    cell, soil = (
        np.stack([np.interp(hour, six, series) for series in values.T], axis=1) for values in (daily, kelvin - FREEZING)
    )
    rng = stream(simulation.seed, f"fusion points {place.name}")
    size = len(stations)
    passing = np.empty((count, size))
    passing[0] = rng.standard_normal(size)
    for day in range(1, count):
        passing[day] = 0.85 * passing[day - 1] + np.sqrt(1.0 - 0.85**2) * rng.standard_normal(size)
    slow = np.stack([np.interp(hour, six, series) for series in passing.T], axis=1)
    level = np.clip(cell / 0.2, 0.25, 1.4)
    point = cell + level * (_STATIC * rng.standard_normal(size) + _PASSING * slow)
    saturation = np.array([s.saturation for s in stations])
    point = np.clip(point, 0.01, saturation - 0.01)
    local = (hour[:, None] + place.region.lon / 15.0) / 24.0
    swing = place.region.diurnal_half_range * np.cos(2.0 * np.pi * (local - 17.0 / 24.0))
    none = np.zeros_like(cell)
    return HourTruth(stations, cell, point, none, none, none, soil + 0.45 * swing, soil + 0.75 * swing)


def read_place(stations: PlaceStations, seed: int) -> list[Readings]:
    """What every sensor of a place reports."""
    first = _FIRST_SENSOR + 100 * list(PLACES).index(stations.place.name)
    return [
        read_sensor(seed, first + k, sensor, stations.truth, INSITU_FIRST, INSITU_LAST)
        for k, sensor in enumerate(stations.sensors)
    ]


def write_ismn(path: Path, places: Sequence[PlaceStations], seed: int) -> None:
    """Write all places' readings as one ISMN zip, header+values, network by network.

    Parameters
    ----------
    path : Path
    places : sequence of PlaceStations
    seed : int
    """
    readings = [one for place in places for one in read_place(place, seed)]
    readings.sort(key=lambda r: list(_TEMPLATES).index(r.sensor.station.network.name))
    write_ismn_zip(path, readings, places[0].truth, (INSITU_FIRST, INSITU_LAST))
