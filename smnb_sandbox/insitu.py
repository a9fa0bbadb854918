"""The sandbox's in-situ archive: which files there are, and writing those that are missing.

Six made-up networks are in two ISMN archives (four in header+values, two in CEOP-sep) and the seventh in USCRN text;
coarse products at the stations, the hidden truth of every sensor and a table of the sensors are beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smnb_sandbox.insitu_coarse import write_era_points, write_gldas_points, write_smap_points
from smnb_sandbox.insitu_ismn import archive_name, ismn_archive
from smnb_sandbox.insitu_readings import Readings, read_sensor
from smnb_sandbox.insitu_sites import Sensor, place_sensors, place_stations
from smnb_sandbox.insitu_truth import CellDays, PointTruth, simulate_points
from smnb_sandbox.insitu_uscrn import daily_text, hourly_table, hourly_text, uscrn_names
from smnb_sandbox.plan import Period, file_bytes
from smnb_sandbox.world import World

_TRUTH, _SENSORS = "sandbox_truth/insitu_truth.parquet", "sandbox_truth/insitu_sensors.parquet"
_POINTS = ("insitu_points/era5_land_points.nc", "insitu_points/gldas_points.nc", "insitu_points/smap_l3_points.nc")


def _ismn_names(period: Period) -> dict[str, str]:
    return {f"ismn/{archive_name(form, *period)}": form for form in ("header_values", "ceop_sep")}


def insitu_names(period: Period) -> list[str]:
    """Paths of the archive's files below the root, in the order of writing."""
    year = period[0].year
    uscrn = [f"uscrn/{p}/{year}/{name}" for p in ("hourly02", "daily01") for name in uscrn_names(p, year)]
    return [*_ismn_names(period), *uscrn, *_POINTS, _TRUTH, _SENSORS]


class InSitu:
    """Stations in a world, whose sensors are simulated once `days` has observed the world's.

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

    def contents(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Names and contents of the files among `insitu_names` that are asked for."""
        seed, period = self.world.seed, self.period
        truth = simulate_points(seed, self.days)
        sensors = place_sensors(truth.stations)
        ismn = _ismn_names(period)
        needed = {form for name, form in ismn.items() if name in names}
        if any(name.startswith("uscrn/") for name in names):
            needed.add("uscrn")
        readings = [
            read_sensor(seed, k, sensor, truth, *period)
            for k, sensor in enumerate(sensors)
            if sensor.station.network.file_format in needed
        ]
        points: dict[str, Callable[[Path], None]] = {
            _POINTS[0]: lambda path: write_era_points(path, truth, period, seed),
            _POINTS[1]: lambda path: write_gldas_points(path, truth, period, seed),
            _POINTS[2]: lambda path: write_smap_points(path, self.world, truth, period, seed),
        }
        uscrn = self._uscrn([one for one in readings if one.sensor.station.network.file_format == "uscrn"])
        for name in names:
            if name in ismn:
                mine = [one for one in readings if one.sensor.station.network.file_format == ismn[name]]
                yield name, ismn_archive(mine, period)
            elif name in points:
                yield name, file_bytes(name, points[name])
            elif name in (_TRUTH, _SENSORS):
                table = _sensor_table(sensors) if name == _SENSORS else _truth_table(sensors, truth, period)
                yield name, file_bytes(name, partial(pq.write_table, table, compression="zstd"))
            else:
                yield name, uscrn[name]().encode()

    def _uscrn(self, readings: Sequence[Readings]) -> dict[str, Callable[[], str]]:
        """What makes the text of each file, by path."""
        year, makers = self.period[0].year, {}
        for station in dict.fromkeys(one.sensor.station for one in readings):
            mine = [one for one in readings if one.sensor.station is station]
            times = mine[0].truth.times(*self.period)
            for product, text in (("hourly02", hourly_text), ("daily01", daily_text)):
                name = f"uscrn/{product}/{year}/{uscrn_names(product, year)[station.number]}"
                makers[name] = partial(text, station, hourly_table(station, mine, self.period), times)
        return makers


def _truth_table(sensors: Sequence[Sensor], truth: PointTruth, period: Period) -> pa.Table:
    """The long table sensor_id, time (UTC), soil_moisture_true (m3 m-3): every hour of every sensor."""
    hours, times = truth.hours(*period), truth.times(*period).astype("datetime64[ns]")
    values = np.stack([truth.of_sensor(sensor)[hours] for sensor in sensors])
    codes = np.arange(len(sensors), dtype=np.int32).repeat(times.size)
    keys = pa.DictionaryArray.from_arrays(codes, [sensor.key for sensor in sensors])
    columns = {
        "sensor_id": keys,
        "time": np.tile(times, len(sensors)),
        "soil_moisture_true": np.round(values, 5).astype(np.float32).ravel(),
    }
    return pa.table(columns)


def _sensor_table(sensors: Sequence[Sensor]) -> pa.Table:
    """What there is to know of each sensor, one row a sensor, names as the files' headers have them."""
    of_station = ("climate", "land_cover", "clay_fraction", "sand_fraction", "saturation")
    rows = [
        {"sensor_id": sensor.key, "network": sensor.station.network.name, "station": sensor.station.name}
        | {name: getattr(sensor.station, name) for name in ("lat", "lon", "elevation")}
        | {name: getattr(sensor, name) for name in ("depth_from", "depth_to", "instrument")}
        | {"file_format": sensor.station.network.file_format}
        | {name: getattr(sensor.station, name) for name in of_station}
        for sensor in sensors
    ]
    return pa.Table.from_pylist(rows)
