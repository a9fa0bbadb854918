"""The in-situ part of the archive: ISMN and USCRN files, coarse products at the stations, and the truth.

The coarse ones are ERA5-Land-, SMAP- and GLDAS-like series, as validation services keep them: arrays of locations and times, and
an indexed ragged array of SMAP's overpasses. All see the truth of the stations' 0.25 degree cells; their errors are independent,
as triple collocation assumes. SMAP did not fly in 2011: these are the product's grid, revisit and flags, not its data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import netCDF4
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyproj import Transformer

from smnb_sandbox.files import Period, file_bytes, table
from smnb_sandbox.insitu_files import archive_name, hourly_table, hourly_text, ismn_archive, uscrn_names
from smnb_sandbox.insitu_readings import read_sensor
from smnb_sandbox.insitu_sites import Sensor, Station, place_sensors
from smnb_sandbox.insitu_truth import END, START, CellDays, PointTruth, simulate_points
from smnb_sandbox.noise import Float64, autoregressive, by_hour, lagged, stream
from smnb_sandbox.world import World

_TRUTH, _SENSORS = "sandbox_truth/insitu_truth.parquet", "sandbox_truth/insitu_sensors.parquet"
_EASE_CELL_M, _EASE_COLUMNS, _EASE_EAST_M, _EASE_NORTH_M = 36032.22, 964, 17367530.445161513, 7314540.830638585
_DENSE_KG = 5.0
_FILL = np.float32(-9999.0)
#: Of SMAP's exact repeat of eight days, the days on which a location is seen, by pass and beyond 50 degrees.
_REPEAT = {"low": (0, 3, 5), "high": (0, 2, 3, 5, 7)}
#: Bits of retrieval_qual_flag: 8 is good soil moisture without freeze/thaw, 9 not recommended, 15 nothing retrieved.
_GOOD, _NOT_RECOMMENDED, _FAILED, _NOT_ATTEMPTED = 8, 9, 13, 15
_POINTS = table("points")
#: Of a land model: its column of the errors, hours that are written, lag (days), error (m3 m-3), and what a m3 m-3 is.
_MODELS = {"era5_land": (0, slice(6, None, 24), 1.2, 0.022, 1.0), "gldas": (1, slice(None, None, 3), 2.0, 0.025, 100.0)}


def insitu_names(period: Period) -> list[str]:
    """Paths of the in-situ files of a period within one year below the root, in the order of writing."""
    ismn = [f"ismn/{archive_name(form, *period)}" for form in ("header_values", "ceop_sep")]
    year = period[0].year
    uscrn = [f"uscrn/hourly02/{year}/{name}" for name in uscrn_names(year)]
    points = [f"insitu_points/{product}_points.nc" for product in ("era5_land", "gldas", "smap_l3")]
    return [*ismn, *uscrn, *points, _TRUTH, _SENSORS]


def insitu_contents(days: CellDays, period: Period, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files among `insitu_names` that are asked for, once the world's days were observed."""
    truth, year = simulate_points(days), period[0].year
    sensors = place_sensors(truth.stations)
    formats = {"_header_": "header_values", "ismn/": "ceop_sep", "uscrn/": "uscrn"}
    of_files = {name: next((form for part, form in formats.items() if part in name), None) for name in names}
    readings = [
        read_sensor(days.world.seed, k, sensor, truth, *period)
        for k, sensor in enumerate(sensors)
        if sensor.station.network.file_format in of_files.values()
    ]
    for name, form in of_files.items():
        mine = [one for one in readings if one.sensor.station.network.file_format == form]
        if form == "uscrn":
            number = uscrn_names(year).index(name.rpartition("/")[2])
            mine = [one for one in mine if one.sensor.station.number == number]
            station = mine[0].sensor.station
            yield name, hourly_text(station, hourly_table(station, mine, period), truth.times(*period)).encode()
        elif form:
            yield name, ismn_archive(mine, period)
        elif name.endswith("_points.nc"):
            yield name, file_bytes(name, partial(write_points, days.world, truth, period))
        else:
            columns = _sensor_table(sensors) if name == _SENSORS else _truth_table(sensors, truth, period)
            yield name, file_bytes(name, partial(pq.write_table, columns, compression="zstd"))


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
class Locations:
    """Grid points of a product next to the stations, each once."""

    number: NDArray[np.int64]
    lat: Float64
    lon: Float64
    station: NDArray[np.intp]  # index of the first station at each location; the location sees that station's cell


def grid_locations(product: str, stations: list[Station]) -> Locations:
    """The grid points of a product next to the stations, numbered as its own series are."""
    lat, lon = np.array([[s.lat, s.lon] for s in stations]).T
    if product == "era5_land":
        row, column = np.rint((90.0 - lat) / 0.1), np.rint(np.mod(lon, 360.0) / 0.1) % 3600
        number, lat = row * 3600 + column, np.round(90.0 - 0.1 * row, 1)
        lon = np.round(np.where(column > 1800, column * 0.1 - 360.0, column * 0.1), 1)
    elif product == "gldas":
        row, column = np.floor((lat + 90.0) / 0.25), np.floor((lon + 180.0) / 0.25) % 1440
        number, lat, lon = row * 1440 + column, -89.875 + 0.25 * row, -179.875 + 0.25 * column
    else:
        grid = Transformer.from_crs("EPSG:4326", "EPSG:6933", always_xy=True)
        x, y = grid.transform(lon, lat)
        row, column = np.floor((_EASE_NORTH_M - y) / _EASE_CELL_M), np.floor((x + _EASE_EAST_M) / _EASE_CELL_M)
        number = row * _EASE_COLUMNS + column
        centre = (column + 0.5) * _EASE_CELL_M - _EASE_EAST_M, _EASE_NORTH_M - (row + 0.5) * _EASE_CELL_M
        lon, lat = grid.transform(*centre, direction="INVERSE")
    number, first = np.unique(number.astype(np.int64), return_index=True)
    return Locations(number, np.asarray(lat)[first], np.asarray(lon)[first], first)


def _errors(product: int, stations: Sequence[Station]) -> tuple[Float64, Float64]:
    """Dynamic range and bias (m3 m-3) of ERA5-Land (0), GLDAS (1) or SMAP (2) on the stations' land cover."""
    by_cover = table("networks")["coarse_errors"]
    return np.array([by_cover.get(s.land_cover, by_cover[0])[product] for s in stations]).T


def _write(path: Path, where: Locations, times: Float64, values: dict[str, NDArray]) -> None:
    """A file of `_POINTS`: series of every location, (time, location), or of all in one ragged array."""
    kind = _POINTS[path.stem]
    ragged = "locationIndex" in values
    with netCDF4.Dataset(path, "w", format="NETCDF4") as file:
        file.createDimension("locations", where.number.size)
        for name, position in (("lat", where.lat), ("lon", where.lon), ("alt", np.nan)):
            variable = file.createVariable(name, "f4", ("locations",))
            variable.setncatts(_POINTS["axes"][name])
            variable[:] = position
        file.createVariable("location_id", "i8", ("locations",))[:] = where.number
        origin = {"history": "synthetic: simulated by smnb_sandbox", "synthetic": np.int32(1)}
        file.setncatts({"id": path.name, "featureType": "timeSeries", "product": kind["product"], **origin})
        if ragged:
            file.timeSeries_format = "IndexedRaggedTs"
        file.createDimension("time", times.size)
        time = file.createVariable("time", "f8", ("time",), zlib=True)
        time.setncatts({"standard_name": "time", "long_name": "time of measurement", "units": kind["time"]})
        time[:] = times
        for name, (dtype, fill, digits, attrs) in kind["variables"].items():
            limits = {key: np.dtype(dtype).type(attrs[key]) for key in attrs if key.startswith("valid_")}
            packing = {"zlib": True, "complevel": 4, "fill_value": fill, "least_significant_digit": digits}
            dims = ("time",) if ragged else ("locations", "time")
            variable = file.createVariable(name, dtype, dims, **packing)
            variable.setncatts(({} if ragged else {"name": name, "coordinates": "lat lon alt"}) | attrs | limits)
            variable.set_auto_mask(False)
            variable[:] = values[name].T


def write_points(world: World, truth: PointTruth, period: Period, path: Path) -> None:
    """Write what a product says of the stations' cells, by the name of its file."""
    if path.stem == "smap_l3_points":
        return _write_smap_points(path, world, truth, period)
    return _write_model_points(path, world.seed, truth, period)


def _write_model_points(path: Path, seed: int, truth: PointTruth, period: Period) -> None:
    """What a land model says of the cells: lagged, damped, biased by land cover, with weather errors of its own."""
    product = path.stem.removesuffix("_points")
    kind, hours, lag_days, error, unit = _MODELS[product]
    where, rng = grid_locations(product, truth.stations), stream(seed, f"{product} points")
    gain, bias = _errors(kind, [truth.stations[i] for i in where.station])
    water = truth.cell_moisture[:, where.station]
    layer = lagged(water, 1.0 - np.exp(-1.0 / 24.0 / lag_days))
    mean = layer.mean(axis=0)
    gain = np.clip(gain + 0.06 * rng.standard_normal(gain.size), 0.4, 1.3)
    bias = bias + 0.015 * rng.standard_normal(gain.size)
    # dry soil has little water to be wrong about
    size = np.clip(layer / 0.18, 0.15, 1.1)
    drifting = by_hour(autoregressive(rng, np.exp(-1.0 / 6.0), (len(water) // 24 + 1, water.shape[1])))
    value = np.clip(mean + gain * (layer - mean) + size * (bias + error * drifting), 0.01, 0.56)
    chosen = np.arange(*truth.hours(*period).indices(len(water)))[hours]
    kelvin = truth.soil_temperature[chosen][:, where.station] + 273.15
    rng = stream(seed, f"{product} temperature")
    if product == "gldas":
        kelvin = kelvin + rng.standard_normal((1, where.number.size))
    else:
        kelvin = kelvin + rng.standard_normal(truth.soil_temperature.shape)[chosen][:, where.station]
    days = (truth.times(*period)[hours] - np.datetime64("1858-11-17", "h")).astype(float) / 24.0
    names = _POINTS[path.stem]["variables"]
    _write(path, where, days, dict(zip(names, (unit * value[chosen], kelvin), strict=True)))


def _overpasses(rng: np.random.Generator, where: Locations, hours: NDArray[np.datetime64]) -> dict[str, NDArray]:
    """Location, hour (with its fraction) and pass of each overpass; mornings and evenings of a location in one run."""
    days = hours.size // 24
    index, hour, number = [], [], []
    for i, (lat, lon) in enumerate(zip(where.lat, where.lon, strict=True)):
        pattern = _REPEAT["high" if abs(lat) > 50.0 else "low"]
        for which, local in ((1, 6.0), (2, 18.0)):
            phase = int(rng.integers(8))
            day = np.flatnonzero(np.isin((np.arange(days) + phase) % 8, pattern))
            # swath edges are seen some minutes before or after the hour; an orbit is lost now and then
            at = 24.0 * day + (local - lon / 15.0) % 24.0 + rng.uniform(-0.35, 0.35, day.size)
            at = at[(rng.random(day.size) > 0.03) & (at >= 0.0) & (at < hours.size - 1)]
            index.append(np.full(at.size, i))
            hour.append(at)
            number.append(np.full(at.size, which))
    return {"index": np.concatenate(index), "hour": np.concatenate(hour), "pass": np.concatenate(number)}


def _write_smap_points(path: Path, world: World, truth: PointTruth, period: Period) -> None:
    """Write soil moisture of SMAP-like overpasses (6 and 18 h local) as an indexed ragged array, with quality flags.

    Noise grows with the vegetation's water; above 5 kg m-2 a retrieval is not recommended; frozen soil has none.
    """
    where = grid_locations("smap", truth.stations)
    rng = stream(world.seed, "smap points")
    hours = truth.times(START, END)  # all of them, so that an overpass does not depend on what is written
    seen = _overpasses(rng, where, hours)
    station, row = where.station[seen["index"]], np.floor(seen["hour"]).astype(int)
    count = row.size
    cells = np.array([s.cell for s in truth.stations])
    vegetation = world.vegetation_water_content[cells][station].astype(np.float64)
    gain, bias = _errors(2, truth.stations)
    gain = (gain + 0.08 * rng.standard_normal(gain.size))[station]
    bias = (bias + 0.02 * rng.standard_normal(bias.size))[station]
    water, level = truth.cell_moisture[row, station], truth.cell_moisture.mean(axis=0)[station]
    size = np.clip(water / 0.12, 0.3, 1.0)
    noise = np.where(seen["pass"] == 1, 0.016, 0.020) + 0.005 * np.clip(vegetation, 0.0, 8.0)
    value = level + gain * (water - level) + size * (bias + noise * rng.standard_normal(count))
    frozen = truth.soil_temperature[row, station] < 0.0
    failed = rng.random(count) < 0.015
    dense = vegetation > _DENSE_KG
    quality = np.where(dense | (rng.random(count) < 0.04), _NOT_RECOMMENDED, _GOOD)
    quality = np.where(failed, _FAILED, quality)
    quality = np.where(frozen, _NOT_ATTEMPTED, quality)
    rain = truth.cell_rain[row, station] > 1.0
    surface = 1024 * dense + 256 * frozen + 16 * rain
    gone = frozen | failed
    # a saturated retrieval sticks at the edge of the allowed range, as the product's does
    value = np.where(gone, _FILL, np.clip(value, 0.02, 0.5))
    tau = 0.11 * vegetation * (1.0 + 0.05 * rng.standard_normal(count))
    kelvin = truth.soil_temperature[row, station] + 273.15 + rng.standard_normal(count)
    epoch = np.datetime64("2000-01-01T12", "h")
    seconds = (hours[0] - epoch).astype(float) * 3600.0 + np.round(seen["hour"] * 3600.0, 3)
    written = truth.hours(*period)
    order = np.lexsort((rng.random(count), seen["index"]))  # within a location in no order, as in the product's series
    order = order[(row[order] >= written.start) & (row[order] < written.stop)]
    values = {
        "locationIndex": seen["index"],
        "soil_moisture": value,
        "soil_moisture_error": np.full(count, _FILL),
        "retrieval_qual_flag": quality,
        "surface_flag": surface,
        "surface_temperature": kelvin,
        "vegetation_opacity": tau,
        "vegetation_water_content": vegetation,
        "freeze_thaw_fraction": frozen.astype(float),
        "static_water_body_fraction": world.open_water_fraction[cells][station],
        "Overpass": seen["pass"],
    }
    _write(path, where, seconds[order], {name: of_pass[order] for name, of_pass in values.items()})
