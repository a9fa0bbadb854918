"""July 2011 on the globe, and stations in 2011: AMSR-E, reanalysis, in-situ archives, and the truth of what is wanted.

Six made-up networks are in two ISMN archives and the seventh in USCRN text; coarse products and the truth are beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smnb_sandbox.globe import CHANNELS, PASSES, Amsre, Reanalysis, encode_image, file_name, write_era_file
from smnb_sandbox.insitu_coarse import write_era_points, write_gldas_points, write_smap_points
from smnb_sandbox.insitu_files import archive_name, daily_text, hourly_table, hourly_text, ismn_archive, uscrn_names
from smnb_sandbox.insitu_readings import Readings, read_sensor
from smnb_sandbox.insitu_sites import Sensor, place_sensors, place_stations
from smnb_sandbox.insitu_truth import CellDays, PointTruth, simulate_points
from smnb_sandbox.noise import Float32
from smnb_sandbox.plan import Content, Period, Plan, days_of, file_bytes
from smnb_sandbox.truth import truth_bytes
from smnb_sandbox.world import FIRST_DAY, SPIN_UP_DAYS, World

_TRUTH, _SENSORS = "sandbox_truth/insitu_truth.parquet", "sandbox_truth/insitu_sensors.parquet"
_POINTS = ("insitu_points/era5_land_points.nc", "insitu_points/gldas_points.nc", "insitu_points/smap_l3_points.nc")
_VERSION = "1"  # is written into the truth; raise it when the gridded files change


def _ismn_names(period: Period) -> dict[str, str]:
    return {f"ismn/{archive_name(form, *period)}": form for form in ("header_values", "ceop_sep")}


def insitu_names(period: Period) -> list[str]:
    """Paths of the archive's files below the root, in the order of writing."""
    year = period[0].year
    uscrn = [f"uscrn/{p}/{year}/{name}" for p in ("hourly02", "daily01") for name in uscrn_names(p, year)]
    return [*_ismn_names(period), *uscrn, *_POINTS, _TRUTH, _SENSORS]


class InSitu:
    """Stations in a world over a period within one year, whose sensors are simulated once `days` has observed the world's."""

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


@dataclass(frozen=True)
class Month(Plan):
    """Which days of the simulated month are written (the last one is the test day), and of the stations' records."""

    first: date
    last: date
    resolution: float = 0.25
    spin_up_days: int = SPIN_UP_DAYS
    insitu: Period | None = None  # first and last day of the in-situ records, within 2011; None for no in-situ archive

    kinds = ("amsre", "era", "truth", "stations")

    @property
    def days(self) -> list[date]:
        """The days, in order."""
        return days_of((self.first, self.last))

    @cached_property
    def amsre(self) -> dict[str, tuple[date, str, str]]:
        """Day, pass and channel by path."""
        images = [(day, orbit_pass, c) for day in self.days for orbit_pass in PASSES for c in CHANNELS]
        return {f"amsre_nsidc0302/{one[0]:%Y}/{file_name(*one)}": one for one in images}

    @property
    def era(self) -> list[str]:
        """The reanalysis' path."""
        return [f"era_interim/ei_swvl1_{self.first:%Y%m%d}_{self.last:%Y%m%d}.nc"]

    @property
    def truth(self) -> list[str]:
        """The gridded truth's path."""
        return [f"sandbox_truth/truth_{self.first:%Y%m%d}_{self.last:%Y%m%d}.nc"]

    @property
    def stations(self) -> list[str]:
        """Paths of the in-situ archive."""
        return insitu_names(self.insitu) if self.insitu else []

    def contents(self, seed: int, missing: set[str]) -> Iterator[tuple[str, Content]]:
        """As `Plan.contents`; images are packed on threads."""
        world = World(seed, self.resolution)
        amsre = Amsre(world) if missing.intersection(self.amsre) else None
        reanalysis = Reanalysis(world) if missing.intersection(self.era) else None
        insitu = InSitu(world, self.insitu) if missing.intersection(self.stations) else None
        packed, daily = [], []
        begin = FIRST_DAY - timedelta(days=self.spin_up_days)
        for state in world.days(begin, self.last, self.spin_up_days):
            analyses = reanalysis.analyses(state) if reanalysis else None
            if insitu is not None:
                insitu.days.observe(state)
            if state.day < self.first:
                continue
            if analyses is not None:
                packed.append(analyses)
            if missing.intersection(self.truth):
                daily.append((state.soil_moisture, world.surface_temperature(state)))
            for orbit_pass in PASSES:
                names = {name: c for name, (*when, c) in self.amsre.items() if when == [state.day, orbit_pass]}
                if missing.intersection(names):
                    images = amsre.images(state, orbit_pass)
                    yield from (
                        (name, partial(encode_image, images[c])) for name, c in names.items() if name in missing
                    )
        for name in missing.intersection(self.era):
            yield name, file_bytes(name, lambda path: write_era_file(path, reanalysis, self.days, packed))
        for name in missing.intersection(self.truth):
            yield name, self._truth(world, daily)
        if insitu is not None:
            yield from insitu.contents([name for name in self.stations if name in missing])

    def _truth(self, world: World, daily: list[tuple[Float32, Float32]]) -> bytes:
        """Each day's soil moisture (m3 m-3) and surface temperature (K); NaN where less than half of a cell is soil."""
        land = world.land_fraction.ravel()[world.soil_cells] >= 0.5

        def on_grid(vector: Float32) -> np.ndarray:
            return world.to_grid(np.where(land, vector, np.nan))

        fields = {
            name: (on_grid(getattr(world, name)), 3)
            for name in ("clay_fraction", "sand_fraction", "vegetation_water_content")
        }
        fields["soil_moisture"] = np.stack([on_grid(moisture) for moisture, _ in daily]), 4
        fields["surface_temperature"] = np.stack([on_grid(kelvin) for _, kelvin in daily]), 2
        axes = {"lat": ("latitude", "degrees_north"), "lon": ("longitude", "degrees_east")}
        coords = {
            name: (name, getattr(world, name), {"standard_name": full, "long_name": full, "units": units})
            for name, (full, units) in axes.items()
        }
        days = np.array(self.days, dtype="datetime64[ns]")
        coords["time"] = "time", days, {"standard_name": "time", "long_name": "UTC day"}
        return truth_bytes(fields, coords, "the globe", f"gridded world {_VERSION}, seed {world.seed}", "sandbox_truth")
