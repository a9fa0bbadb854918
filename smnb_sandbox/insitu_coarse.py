"""Coarse products at the sandbox's stations: ERA5-Land-, SMAP- and GLDAS-like series of the year, each with its own errors.

The files have the form in which validation services keep such series: arrays of locations and times (ERA5-Land once a
day at 06 UTC, GLDAS every three hours) and, for SMAP, an indexed ragged array of overpasses. All three see the truth of
the stations' 0.25 degree cells; their errors are independent of one another and of the sensors', as triple collocation
assumes. SMAP did not fly in 2011: these are the product's grid, revisit and flags, not its data.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import netCDF4
import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.signal import lfilter

from smnb.files import atomic_path
from smnb_sandbox.insitu_sites import Station
from smnb_sandbox.insitu_truth import END, START, PointTruth
from smnb_sandbox.noise import stream
from smnb_sandbox.world import World

Array = NDArray[np.float64]

_EASE_CELL_M, _EASE_SHAPE = 36032.22, (406, 964)
_EASE_EAST_M, _EASE_NORTH_M = 17367530.445161513, 7314540.830638585
_DENSE_KG = 5.0
_FILL = np.float32(-9999.0)
#: Of SMAP's exact repeat of eight days, the days on which a location is seen, by pass and beyond 50 degrees.
_REPEAT = {"low": (0, 3, 5), "high": (0, 2, 3, 5, 7)}
#: Bits of retrieval_qual_flag: 8 is good soil moisture without freeze/thaw, 9 not recommended, 15 nothing retrieved.
_GOOD, _NOT_RECOMMENDED, _FAILED, _NOT_ATTEMPTED = 8, 9, 13, 15
#: Dynamic range and bias (m3 m-3) by land cover, as (ERA5-Land, GLDAS, SMAP) pairs; others have `_OTHER`.
_OTHER = ((0.80, 0.015), (0.75, 0.000), (1.00, -0.010))
_BY_COVER: dict[int, tuple[tuple[float, float], ...]] = {
    50: ((0.65, 0.040), (0.60, 0.030), (0.70, 0.060)),
    60: ((0.70, 0.030), (0.65, 0.020), (0.85, 0.020)),
    70: ((0.65, 0.035), (0.60, 0.025), (0.75, 0.045)),
    90: ((0.65, 0.035), (0.60, 0.025), (0.75, 0.045)),
    150: ((0.90, 0.010), (0.90, 0.010), (1.05, -0.005)),
    200: ((0.95, 0.005), (0.95, 0.010), (1.05, -0.005)),
    10: ((0.75, 0.015), (0.75, -0.005), (1.15, -0.015)),
    11: ((0.75, 0.015), (0.75, -0.005), (1.15, -0.015)),
    20: ((0.70, 0.000), (0.70, -0.020), (1.15, -0.010)),
}


@dataclass(frozen=True)
class Locations:
    """Grid points of a product next to the stations, each once."""

    number: NDArray[np.int64]
    lat: Array
    lon: Array
    station: NDArray[np.intp]
    """Index of the first station at each location; the location sees that station's cell."""


def grid_locations(product: str, stations: list[Station]) -> Locations:
    """Return the grid points of a product that are nearest to the stations.

    Parameters
    ----------
    product : {"era5_land", "gldas", "smap"}
        0.1 degree with points at multiples, 0.25 degree cell centres, or the 36 km EASE-Grid 2.0.
    stations : list of Station
        The stations.

    Returns
    -------
    Locations
        Numbered as the products' own series are.
    """
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
        number = row * _EASE_SHAPE[1] + column
        centre = (column + 0.5) * _EASE_CELL_M - _EASE_EAST_M, _EASE_NORTH_M - (row + 0.5) * _EASE_CELL_M
        lon, lat = grid.transform(*centre, direction="INVERSE")
    number, first = np.unique(number.astype(np.int64), return_index=True)
    return Locations(number, np.asarray(lat)[first], np.asarray(lon)[first], first)


def _drifting(rng: np.random.Generator, days: float, shape: tuple[int, int]) -> Array:
    """Return unit AR(1) series by hour, shape (hour, location), drawn daily and linear in between."""
    memory = np.exp(-1.0 / days)
    count = shape[0] // 24 + 1
    shocks = rng.standard_normal((count, shape[1])) * np.sqrt(1.0 - memory**2)
    shocks[0] /= np.sqrt(1.0 - memory**2)
    daily = lfilter([1.0], [1.0, -memory], shocks, axis=0)
    share = (np.arange(24.0) / 24.0)[None, :, None]
    return (daily[:-1, None] * (1.0 - share) + daily[1:, None] * share).reshape(shape)


def _as_model(
    name: str, kind: int, seed: int, truth: PointTruth, where: Locations, lag_days: float, error: float
) -> Array:
    """Return what a land model says of the cells: lagged, damped, biased by land cover, with weather errors of its own."""
    rng = stream(seed, name)
    covers = [truth.stations[i].land_cover for i in where.station]
    gain, bias = np.array([_BY_COVER.get(c, _OTHER)[kind] for c in covers]).T
    water = truth.cell_moisture[:, where.station]
    share = 1.0 - np.exp(-1.0 / 24.0 / lag_days)
    layer, _ = lfilter([share], [1.0, share - 1.0], water, axis=0, zi=(1.0 - share) * water[:1])
    mean = layer.mean(axis=0)
    gain = np.clip(gain + 0.06 * rng.standard_normal(gain.size), 0.4, 1.3)
    bias = bias + 0.015 * rng.standard_normal(gain.size)
    # dry soil has little water to be wrong about
    size = np.clip(layer / 0.18, 0.15, 1.1)
    value = mean + gain * (layer - mean) + size * (bias + error * _drifting(rng, 6.0, water.shape))
    return np.clip(value, 0.01, 0.56)


def _create(path: Path, where: Locations, product: str, extra: dict[str, str]) -> netCDF4.Dataset:
    file = netCDF4.Dataset(path, "w", format="NETCDF4")
    file.createDimension("locations", where.number.size)
    for name, values, attrs in (
        ("lat", where.lat, {"standard_name": "latitude", "long_name": "location latitude", "units": "degrees_north"}),
        ("lon", where.lon, {"standard_name": "longitude", "long_name": "location longitude", "units": "degrees_east"}),
        (
            "alt",
            np.full(where.number.size, np.nan),
            {
                "standard_name": "height",
                "long_name": "vertical distance above the surface",
                "units": "m",
                "positive": "up",
                "axis": "Z",
            },
        ),
    ):
        variable = file.createVariable(name, "f4", ("locations",))
        variable.setncatts(attrs)
        variable[:] = values
    file.createVariable("location_id", "i8", ("locations",))[:] = where.number
    history = {"history": "synthetic: simulated by smnb_sandbox", "synthetic": np.int32(1)}
    file.setncatts({"id": path.name, "featureType": "timeSeries", "product": product, **history, **extra})
    return file


def _time(file: netCDF4.Dataset, values: Array, units: str) -> None:
    file.createDimension("time", values.size)
    time = file.createVariable("time", "f8", ("time",), zlib=True)
    time.setncatts({"standard_name": "time", "long_name": "time of measurement", "units": units})
    time[:] = values


def _write_orthogonal(
    path: Path, where: Locations, product: str, hours: NDArray[np.datetime64], variables: dict[str, tuple]
) -> None:
    epoch = np.datetime64("1858-11-17", "h")
    with atomic_path(path) as temporary, _create(temporary, where, product, {"id": path.name}) as file:
        _time(file, (hours - epoch).astype(float) / 24.0, "days since 1858-11-17 00:00:00")
        for name, (values, digits, attrs) in variables.items():
            variable = file.createVariable(
                name, "f4", ("locations", "time"), zlib=True, complevel=4, least_significant_digit=digits
            )
            variable.setncatts({"name": name, "coordinates": "lat lon alt", **attrs})
            variable[:] = values.T


def write_era_points(path: Path, truth: PointTruth, period: tuple[date, date], seed: int) -> None:
    """Write swvl1 and stl1 as series by location, once a day at 06 UTC, in the form of the ERA5-Land sample."""
    where = grid_locations("era5_land", truth.stations)
    chosen = np.arange(*truth.hours(*period).indices(truth.cell_moisture.shape[0]))[6::24]
    water = _as_model("era5_land points", 0, seed, truth, where, 1.2, 0.022)[chosen]
    rng = stream(seed, "era5_land temperature")
    kelvin = (truth.soil_temperature + 273.15 + rng.standard_normal(truth.soil_temperature.shape))[:, where.station]
    moisture = {"units": "m**3 m**-3", "long_name": "Volumetric soil water layer 1"}
    heat = {"units": "K", "long_name": "Soil temperature level 1", "standard_name": "surface_temperature"}
    variables = {"swvl1": (water, 5, moisture), "stl1": (kelvin[chosen], 2, heat)}
    _write_orthogonal(path, where, "ERA5-LAND (simulated)", truth.times(*period)[6::24], variables)


def write_gldas_points(path: Path, truth: PointTruth, period: tuple[date, date], seed: int) -> None:
    """Write soil moisture (kg m-2) and temperature of 0-10 cm as series by location, every three hours, as GLDAS."""
    where = grid_locations("gldas", truth.stations)
    chosen = np.arange(*truth.hours(*period).indices(truth.cell_moisture.shape[0]))[::3]
    water = _as_model("gldas points", 1, seed, truth, where, 2.0, 0.025)[chosen]
    rng = stream(seed, "gldas temperature")
    kelvin = truth.soil_temperature[:, where.station][chosen] + 273.15 + rng.standard_normal((1, where.number.size))
    variables = {
        "SoilMoi0_10cm_inst": (100.0 * water, 3, {"units": "kg m-2", "long_name": "Soil moisture"}),
        "SoilTMP0_10cm_inst": (kelvin, 2, {"units": "K", "long_name": "Soil temperature"}),
    }
    _write_orthogonal(path, where, "GLDAS (simulated)", truth.times(*period)[::3], variables)


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


def write_smap_points(path: Path, world: World, truth: PointTruth, period: tuple[date, date], seed: int) -> None:
    """Write soil moisture of SMAP-like overpasses (6 and 18 h local) as an indexed ragged array, with quality flags.

    Noise grows with the vegetation's water; above 5 kg m-2 a retrieval is not recommended; frozen soil has none.
    """
    where = grid_locations("smap", truth.stations)
    rng = stream(seed, "smap points")
    hours = truth.times(START, END)  # all of them, so that an overpass does not depend on what is written
    seen = _overpasses(rng, where, hours)
    station, row = where.station[seen["index"]], np.floor(seen["hour"]).astype(int)
    count = row.size
    cells = np.array([s.cell for s in truth.stations])
    vegetation = world.vegetation_water_content[cells][station].astype(np.float64)
    gain, bias = np.array([_BY_COVER.get(s.land_cover, _OTHER)[2] for s in truth.stations]).T
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
    with atomic_path(path) as temporary, _create(temporary, where, "SMAP L3 (simulated)", {"id": path.name}) as file:
        file.timeSeries_format = "IndexedRaggedTs"
        _time(file, seconds[order], "seconds since 2000-01-01 12:00:00")

        def create(
            name: str, kind: str, values: NDArray, fill: float | None, digits: int | None, **attrs: object
        ) -> None:
            variable = file.createVariable(
                name, kind, ("time",), zlib=True, complevel=4, fill_value=fill, least_significant_digit=digits
            )
            variable.setncatts(attrs)
            variable.set_auto_mask(False)
            variable[:] = values[order]

        create(
            "locationIndex",
            "i8",
            seen["index"],
            None,
            None,
            long_name="which location this observation is for",
            instance_dimension="locations",
        )
        create(
            "soil_moisture",
            "f4",
            value,
            _FILL,
            None,
            units="cm**3/cm**3",
            long_name="Representative DCA soil moisture measurement for the Earth based grid cell.",
            valid_min=np.float32(0.02),
            valid_max=np.float32(0.5),
        )
        create("soil_moisture_error", "f4", np.full(count, _FILL), _FILL, None, units="cm**3/cm**3")
        create(
            "retrieval_qual_flag",
            "u2",
            quality,
            65534,
            None,
            flag_masks="1s, 2s, 4s, 8s",
            flag_meanings="Retrieval_recommended Retrieval_attempted Retrieval_success FT_retrieval_success",
        )
        create("surface_flag", "u2", surface, 65534, None, long_name="Bit flags that record ambient surface conditions")
        create("surface_temperature", "f4", kelvin, _FILL, 2, units="Kelvins")
        create("vegetation_opacity", "f4", tau, _FILL, 3)
        create("vegetation_water_content", "f4", vegetation, _FILL, 3, units="kg/m**2")
        create("freeze_thaw_fraction", "f4", frozen.astype(float), _FILL, None)
        create("static_water_body_fraction", "f4", world.open_water_fraction[cells][station], _FILL, 3)
        create("Overpass", "i8", seen["pass"], -9999, None, valid_min=np.int64(1), valid_max=np.int64(2))
