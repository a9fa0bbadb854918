"""The sandbox's seventh network in NOAA's fixed-width text: USCRN hourly02 and daily01 files, laid out as the readme files say.

Values that NOAA's checks would have rejected are missing (-99.000, -9999.0, -99999, -9999 by field): the files carry no flags of
soil moisture. Frozen soil is not rejected. Diamond et al. 2013, BAMS 94, 485-498, doi:10.1175/BAMS-D-12-00170.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from smnb_sandbox.insitu_readings import FLAGS, MISSING, Readings
from smnb_sandbox.insitu_sites import NETWORKS, Station
from smnb_sandbox.noise import Float64, lagged

_LOGGER_VERSION = "1.302"
_REJECTED = sum(1 << i for i, name in enumerate(FLAGS) if name in ("C01", "C02", "D06", "D07", "D08", "D09", "D10"))
#: A day's mean needs this many hours.
_HOURS_OF_A_DAY = 18
_MOISTURE, _TENTHS, _SOLAR, _HUMIDITY = -99.0, -9999.0, -99999.0, -9999.0
_HOURLY = (
    "%5s %8s %4s %8s %4s %6s %7.2f %7.2f %7.1f %7.1f %7.1f %7.1f %7.1f %6.0f %1s %6.0f %1s %6.0f %1s %1s %7.1f %1s "
    "%7.1f %1s %7.1f %1s %5.0f %1s" + " %7.3f" * 5 + " %7.1f" * 5
)
_DAILY = "%5s %8s %6s" + " %7.2f" * 2 + " %7.1f" * 5 + " %8.2f %1s" + " %7.1f" * 6 + " %7.3f" * 5 + " %7.1f" * 5


def uscrn_names(product: str, year: int) -> list[str]:
    """Names of the network's files of a year.

    >>> uscrn_names("hourly02", 2011)[0], uscrn_names("daily01", 2011)[0]
    ('CRNH0203-2011-SX_Ashford_4_NE.txt', 'CRND0103-2011-SX_Ashford_4_NE.txt')
    """
    start = {"hourly02": "CRNH0203", "daily01": "CRND0103"}[product]
    network = next(n for n in NETWORKS if n.file_format == "uscrn")
    return [f"{start}-{year}-{station}.txt" for station in network.stations]


def _on_hours(readings: Readings, first: date, count: int) -> Float64:
    """Readings on all hours, NaN where the checks rejected them or there is none."""
    value = np.full(count, np.nan)
    rejected = (readings.value == MISSING) | (readings.flags & np.uint16(_REJECTED) != 0)
    index = (readings.time - np.datetime64(first, "h")).astype(int)
    value[index] = np.where(rejected, np.nan, readings.value)
    return value


def _lagged(series: Float64, days: float) -> Float64:
    return lagged(series, 1.0 - np.exp(-1.0 / 24.0 / days))


def hourly_table(station: Station, readings: Sequence[Readings], period: tuple[date, date]) -> dict[str, Float64]:
    """Values of a station's hours (named by their end) by field, NaN where missing: (hour,), or (hour, 5) of soil."""
    i, truth = readings[0].sensor.station_index, readings[0].truth
    hours = truth.hours(*period)
    before = slice(hours.start - 1, hours.stop - 1)
    air, soil = truth.air_temperature[:, i], truth.soil_temperature[:, i]
    elevation_of_sun = _sine_of_sun(station, truth.times(*period))
    cloudy = np.where(truth.point_rain[before, i] > 0.1, 0.25, 0.8)
    solar = np.round(1080.0 * np.clip(elevation_of_sun, 0.0, None) ** 1.15 * cloudy)
    surface = air[hours] + 0.012 * solar - 1.0
    mean = 0.5 * (air[hours] + air[before])
    rough = (solar > 0) * 40.0
    result = {
        "t_calc": air[hours],
        "t_avg": mean,
        "t_max": np.maximum(air[hours], air[before]) + 0.2,
        "t_min": np.minimum(air[hours], air[before]) - 0.2,
        "rain": truth.point_rain[before, i],
        "solar": solar,
        "solar_max": solar + rough,
        "solar_min": np.clip(solar - rough, 0.0, None),
        "surface": surface,
        "surface_max": surface + 0.6,
        "surface_min": surface - 0.6,
        "humidity": np.clip(np.round(72.0 - 2.2 * (mean - _lagged(air, 1.5)[hours])), 8.0, 100.0),
        "moisture": np.stack([_on_hours(r, period[0], mean.size) for r in readings], axis=1),
        "soil": np.stack([soil[hours], *(_lagged(soil, d)[hours] for d in (0.5, 1.5, 6.0, 15.0))], axis=1),
    }
    # one failure of the station's logger a file
    gap = slice(800 + 13 * station.number, 803 + 14 * station.number)
    result = {name: np.array(values) for name, values in result.items()}  # some are views of the truth
    for values in result.values():
        values[gap] = np.nan
    return result


def _sine_of_sun(station: Station, times: NDArray[np.datetime64]) -> Float64:
    day = (times - np.datetime64("2011-01-01", "h")).astype(float) / 24.0
    declination = np.radians(-23.44 * np.cos(2.0 * np.pi * (day + 10.0) / 365.0))
    angle = 2.0 * np.pi * (day + station.lon / 360.0 - 0.5 - 0.5 / 24.0)
    lat = np.radians(station.lat)
    return np.sin(lat) * np.sin(declination) + np.cos(lat) * np.cos(declination) * np.cos(angle)


def _offset(station: Station) -> int:
    return round(station.lon / 15.0)


def _filled(values: Float64, fill: float) -> list:
    return np.where(np.isnan(values), fill, values).T.tolist()


def _number(station: Station) -> str:
    """Return a station number that no real station has."""
    return f"{99900 + station.number:05d}"


def _hour_names(times: NDArray[np.datetime64]) -> tuple[list[str], list[str]]:
    text = np.datetime_as_string(times, unit="m").tolist()
    return [t[:10].replace("-", "") for t in text], [t[11:].replace(":", "") for t in text]


def hourly_text(station: Station, table: dict[str, Float64], times: NDArray[np.datetime64]) -> str:
    """Return a station's hourly02 file; 38 fields in 243 columns."""
    utc, local = _hour_names(times), _hour_names(times + np.timedelta64(_offset(station), "h"))
    n = len(utc[0])
    constant = [_number(station)] * n, [_LOGGER_VERSION] * n, [station.lon] * n, [station.lat] * n
    good = ["3" if gone else "0" for gone in np.isnan(table["solar"]).tolist()]
    flagged = {
        name: [column for way in ("", "_max", "_min") for column in (_filled(table[name + way], fill), good)]
        for name, fill in (("solar", _SOLAR), ("surface", _TENTHS))
    }
    columns = [
        constant[0],
        *utc,
        *local,
        *constant[1:],
        *(_filled(table[k], _TENTHS) for k in ("t_calc", "t_avg", "t_max", "t_min", "rain")),
        *flagged["solar"],
        ["R"] * n,
        *flagged["surface"],
        _filled(table["humidity"], _HUMIDITY),
        good,
        *_filled(table["moisture"], _MOISTURE),
        *_filled(table["soil"], _TENTHS),
    ]
    return "\n".join([*map(_HOURLY.__mod__, zip(*columns, strict=True)), ""])


def daily_text(station: Station, table: dict[str, Float64], times: NDArray[np.datetime64]) -> str:
    """Return a station's daily01 file: of each whole local day with 18 hours of a field, means of what hourly02 prints."""
    times = times + np.timedelta64(_offset(station), "h")
    # the hour that ends at midnight belongs to the day before
    day = (times - np.timedelta64(1, "h")).astype("datetime64[D]")
    names, start, count = np.unique(day, return_index=True, return_counts=True)
    whole = [slice(s, s + 24) for s, n in zip(start, count, strict=True) if n == 24]
    dates = [str(d).replace("-", "") for d, n in zip(names, count, strict=True) if n == 24]

    def reduced(name: str, digits: int, how: str, fill: float) -> Float64:
        hourly = np.round(table[name], digits)
        rows = np.stack([hourly[w] for w in whole])
        enough = np.isfinite(rows).sum(axis=1) >= _HOURS_OF_A_DAY
        rows = np.where(enough[:, None], rows, 0.0)
        return np.where(enough, getattr(np, f"nan{how}")(rows, axis=1), fill)

    high, low = reduced("t_max", 1, "max", _TENTHS), reduced("t_min", 1, "min", _TENTHS)
    middle = np.where(high == _TENTHS, _TENTHS, 0.5 * (high + low))
    solar = reduced("solar", 0, "sum", _TENTHS)
    solar = np.where(solar == _TENTHS, _TENTHS, solar * 3600e-6)
    n = len(dates)
    columns = [
        [_number(station)] * n,
        dates,
        [_LOGGER_VERSION] * n,
        [station.lon] * n,
        [station.lat] * n,
        *(high, low, middle),
        reduced("t_avg", 1, "mean", _TENTHS),
        reduced("rain", 1, "sum", _TENTHS),
        solar,
        ["R"] * n,
        *(reduced(f"surface{way}", 1, how, _TENTHS) for way, how in (("_max", "max"), ("_min", "min"), ("", "mean"))),
        *(reduced("humidity", 0, how, _TENTHS) for how in ("max", "min", "mean")),
        *reduced("moisture", 3, "mean", _MOISTURE).T,
        *reduced("soil", 1, "mean", _TENTHS).T,
    ]
    return "\n".join([*map(_DAILY.__mod__, zip(*columns, strict=True)), ""])
