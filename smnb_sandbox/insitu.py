"""The sandbox's in-situ archive: which files there are, and writing those that are missing.

Six made-up networks are in two ISMN archives (four in header+values, two in CEOP-sep) and the seventh in USCRN text;
coarse products at the stations, the hidden truth of every sensor and a table of the sensors are beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smnb.files import atomic_path, write_text
from smnb_sandbox.insitu_coarse import write_era_points, write_gldas_points, write_smap_points
from smnb_sandbox.insitu_ismn import archive_name, write_ismn_zip
from smnb_sandbox.insitu_readings import Readings, read_sensor
from smnb_sandbox.insitu_sites import Sensor, place_sensors, place_stations
from smnb_sandbox.insitu_truth import CellDays, PointTruth, simulate_points
from smnb_sandbox.insitu_uscrn import daily_text, hourly_table, hourly_text, uscrn_names
from smnb_sandbox.world import World

Period = tuple[date, date]

_TRUTH, _SENSORS = "sandbox_truth/insitu_truth.parquet", "sandbox_truth/insitu_sensors.parquet"
_POINTS = ("insitu_points/era5_land_points.nc", "insitu_points/gldas_points.nc", "insitu_points/smap_l3_points.nc")


def insitu_plan(period: Period) -> list[str]:
    """Return the paths of the archive's files below the root, in the order of writing."""
    year = period[0].year
    ismn = [f"ismn/{archive_name(form, *period)}" for form in ("header_values", "ceop_sep")]
    uscrn = [f"uscrn/{p}/{year}/{name}" for p in ("hourly02", "daily01") for name in uscrn_names(p, year)]
    return [*ismn, *uscrn, *_POINTS, _TRUTH, _SENSORS]


class InSitu:
    """Collects the world's days at the stations, then simulates the sensors and writes.

    Parameters
    ----------
    world : World
        The gridded world.
    period : (date, date)
        First and last UTC day of the records, within one year that the stations are simulated for.
    """

    def __init__(self, world: World, period: Period) -> None:
        self.world, self.period = world, period
        self.days = CellDays(world, place_stations(world))
        #: Give each simulated day of the world to it, in order.
        self.observe = self.days.observe

    def write(self, root: Path, names: Sequence[str], done: Callable[[str], None]) -> None:
        """Write the files among `names`; `done` is called with each name when it is complete.

        Parameters
        ----------
        root : Path
            The archive's root.
        names : sequence of str
            Paths of `insitu_plan`.
        done : callable
            Progress.
        """
        seed, period = self.world.seed, self.period
        truth = simulate_points(seed, self.days)
        sensors = place_sensors(truth.stations)
        wanted = set(names)
        ismn = {f"ismn/{archive_name(form, *period)}": form for form in ("header_values", "ceop_sep")}
        needed = {form for name, form in ismn.items() if name in wanted}
        if any(name.startswith("uscrn/") for name in wanted):
            needed.add("uscrn")
        readings = [
            read_sensor(seed, k, sensor, truth, *period)
            for k, sensor in enumerate(sensors)
            if sensor.station.network.file_format in needed
        ]
        writers: dict[str, Callable[[Path], None]] = {
            name: lambda path, form=form: write_ismn_zip(path, _of(readings, form), truth, period)
            for name, form in ismn.items()
        }
        writers |= self._uscrn_writers(_of(readings, "uscrn"), truth)
        writers |= {
            _POINTS[0]: lambda path: write_era_points(path, truth, period, seed),
            _POINTS[1]: lambda path: write_gldas_points(path, truth, period, seed),
            _POINTS[2]: lambda path: write_smap_points(path, self.world, truth, period, seed),
            _TRUTH: lambda path: _write_truth(path, sensors, truth, period),
            _SENSORS: lambda path: _write_sensors(path, sensors),
        }
        for name in names:
            writers[name](root / name)
            done(name)

    def _uscrn_writers(self, readings: list[Readings], truth: PointTruth) -> dict[str, Callable[[Path], None]]:
        year, period = self.period[0].year, self.period
        stations = list(dict.fromkeys(r.sensor.station for r in readings))
        writers = {}
        for station in stations:
            mine = [r for r in readings if r.sensor.station is station]
            for product, text in (("hourly02", hourly_text), ("daily01", daily_text)):
                name = f"uscrn/{product}/{year}/{uscrn_names(product, year)[station.number]}"

                def write(path: Path, text=text, station=station, mine=mine) -> None:
                    table = hourly_table(station, mine, truth, period)
                    write_text(path, text(station, table, truth, period))

                writers[name] = write
        return writers


def _of(readings: Sequence[Readings], form: str) -> list[Readings]:
    return [r for r in readings if r.sensor.station.network.file_format == form]


def _write_truth(path: Path, sensors: Sequence[Sensor], truth: PointTruth, period: Period) -> None:
    """Write the long table sensor_id, time (UTC), soil_moisture_true (m3 m-3): every hour of every sensor."""
    hours, times = truth.hours(*period), truth.times(*period).astype("datetime64[ns]")
    values = np.stack([truth.of_sensor(sensor)[hours] for sensor in sensors])
    codes = np.arange(len(sensors), dtype=np.int32).repeat(times.size)
    keys = pa.DictionaryArray.from_arrays(codes, [sensor.key for sensor in sensors])
    columns = {
        "sensor_id": keys,
        "time": np.tile(times, len(sensors)),
        "soil_moisture_true": np.round(values, 5).astype(np.float32).ravel(),
    }
    _write_table(path, pa.table(columns))


def _write_sensors(path: Path, sensors: Sequence[Sensor]) -> None:
    """Write what there is to know of each sensor, one row a sensor, names as the files' headers have them."""
    rows = [
        {
            "sensor_id": sensor.key,
            "network": s.network.name,
            "station": s.name,
            "lat": s.lat,
            "lon": s.lon,
            "elevation": s.elevation,
            "depth_from": sensor.depth_from,
            "depth_to": sensor.depth_to,
            "instrument": sensor.instrument,
            "file_format": s.network.file_format,
            "climate": s.climate,
            "land_cover": s.land_cover,
            "clay_fraction": s.clay_fraction,
            "sand_fraction": s.sand_fraction,
            "saturation": s.saturation,
        }
        for sensor in sensors
        for s in [sensor.station]
    ]
    _write_table(path, pa.Table.from_pylist(rows))


def _write_table(path: Path, table: pa.Table) -> None:
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
