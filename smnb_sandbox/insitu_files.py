"""The sandbox's in-situ readings as files: ISMN archives (header+values, CEOP-sep), and USCRN hourly02.

In ISMN's names underscores become hyphens, CEOP files print depths with two decimals, lines end with LF or CRLF. Of USCRN, values
that NOAA's checks would have rejected are missing, for there are no flags; frozen soil stays (doi:10.1175/BAMS-D-12-00170.1).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb_sandbox.files import table
from smnb_sandbox.insitu_readings import FLAGS, MISSING, Readings, flag_names
from smnb_sandbox.insitu_sites import LAND_COVER, NETWORKS, Sensor, Station, networks_of
from smnb_sandbox.noise import Float64, lagged

_ZIP_TIME = (2012, 1, 1, 0, 0, 0)
#: Further variables at a network's depth, in the first three stations that measure them, so that readers must choose.
_GAUGE_STATIONS = 3


def archive_name(file_format: str, first: date, last: date) -> str:
    """Name of an archive as ISMN's download names it.

    >>> archive_name("header_values", date(2011, 5, 1), date(2011, 9, 30))
    'Data_separate_files_header_20110501_20110930_smnb_sandbox_20120101.zip'
    """
    header = "header_" if file_format == "header_values" else ""
    return f"Data_separate_files_{header}{first:%Y%m%d}_{last:%Y%m%d}_smnb_sandbox_20120101.zip"


def _hyphens(name: str) -> str:
    return name.replace("_", "-")


def static_variables(station: Station) -> str:
    """Return the text of a station's file of static variables."""
    clay, sand = 100.0 * station.clay_fraction, 100.0 * station.sand_fraction
    tail = "SYN;synthetic: smnb sandbox;smnb;1;;;;"
    rows = [table("networks")["static_header"]]
    for top, bottom, more_clay, carbon in ((0.0, 0.3, 0.0, 1.0), (0.3, 1.0, 4.0, 0.45)):
        layer = f"{top:.2f};{bottom:.2f}"
        c, s = min(clay + more_clay, 70.0), max(sand - more_clay, 3.0)
        soil = tail.replace("SYN", "HWSD")
        rows += [
            f"saturation;m^3*m^-3;{layer};{station.saturation - 0.1 * top:.2f};;{soil}",
            f"clay fraction;% weight;{layer};{c:.2f};;{soil}",
            f"organic carbon;% weight;{layer};{station.organic_carbon * carbon:.2f};;{soil}",
            f"sand fraction;% weight;{layer};{s:.2f};;{soil}",
            f"silt fraction;% weight;{layer};{100.0 - c - s:.2f};;{soil}",
        ]
    if station.number % 3 == 0:  # the provider measured it, and does not say how deep
        rows.append(f"organic carbon;% weight;-99.90;-99.90;{station.organic_carbon * 0.9:.2f};;insitu;in situ;;;;;;")
    for year in (2000, 2005, 2010):
        cover = f"{station.land_cover};{LAND_COVER[station.land_cover]}"
        rows.append(f"land cover classification;;;;{cover};{tail.replace('SYN', f'CCI_landcover_{year}')}")
    words = [names[letter] for names, letter in zip(table("networks")["climate_words"], station.climate, strict=False)]
    climate = f"{station.climate};{' - '.join(words)}"
    rows.append(f"climate classification;;;;{climate};{tail.replace('SYN', 'koeppen_geiger_2007')}")
    return "\n".join(rows) + "\n"


def _header_values(sensor: Sensor, times: list[str], value: list[str], flag: list[str], provider: list[str]) -> str:
    station, name = sensor.station, sensor.station.network.name
    head = (
        f"{_hyphens(name):<10} {name:<10} {station.name:<15} {station.lat:.5f} {station.lon:.5f} {station.elevation:>21}"
        f" {sensor.depth_from:.4f} {sensor.depth_to:.4f} {sensor.instrument}"
    )
    lines = [head, *map(" ".join, zip(times, value, flag, provider, strict=True)), ""]
    return ("\r\n" if name == "SBX-HIGHLAND" else "\n").join(lines)


def _ceop_sep(sensor: Sensor, times: list[str], value: list[str], flag: list[str], provider: list[str]) -> str:
    station, name = sensor.station, sensor.station.network.name
    place = (
        f"{_hyphens(name):<12}{name:<15} {station.name:<15} {station.lat:10.5f} {station.lon:10.5f} "
        f"{station.elevation:8.2f} {sensor.depth_from:7.2f} {sensor.depth_to:7.2f}"
    )
    lines = [f"{t} {t} {place} {v} {f} {p}" for t, v, f, p in zip(times, value, flag, provider, strict=True)]
    return "\r\n".join([*lines, ""])


_LAYOUT = {"header_values": _header_values, "ceop_sep": _ceop_sep}


def _file_text(readings: Readings, labels: list[str], first: date, form: str, flags: dict[int, str]) -> str:
    """Return one sensor's file; `flags` spells each combination of bits."""
    network = readings.sensor.station.network
    index = (readings.time - np.datetime64(first, "h")).astype(int).tolist()
    missing = (readings.value == MISSING).tolist()
    fill = "-9999" if network.file_format == "header_values" else "-9999.0000"
    bits = readings.flags.tolist()
    return _LAYOUT[network.file_format](
        readings.sensor,
        [labels[i] for i in index],
        [fill if v == MISSING else form % v for v in readings.value.tolist()],
        ["M" if gone else flags[b] for b, gone in zip(bits, missing, strict=True)],
        ["M" if gone else network.provider_flag for gone in missing],
    )


def _gauge_files(readings: Sequence[Readings], labels: list[str], period: tuple[date, date]) -> dict[str, str]:
    """Files of other variables, by path: temperature and rain, without faults."""
    files, good, no_flag = {}, ["G"] * len(labels), ["M"] * len(labels)
    for sensor, truth in ((one.sensor, one.truth) for one in readings):
        station, i = sensor.station, sensor.station_index
        if not sensor.is_surface or station.number >= _GAUGE_STATIONS or sensor.instrument.endswith(" B"):
            continue
        kinds = {
            "ts": (truth.soil_temperature, sensor.depth_to, sensor.instrument),
            "ta": (truth.air_temperature, -2.0, "Thermistor"),
            "p": (truth.point_rain, 0.0, "Tipping Bucket"),
        }
        for code in station.network.gauges:
            series, depth, name = kinds[code]
            gauge = Sensor(station, i, depth, depth, name)
            text = [f"{v:.2f}" for v in np.round(series[truth.hours(*period), i], 2).tolist()]
            files[_member(gauge, code, period)] = _LAYOUT[station.network.file_format](
                gauge, labels, text, good, no_flag
            )
    return files


def _member(sensor: Sensor, variable: str, period: tuple[date, date]) -> str:
    station, name = sensor.station, sensor.station.network.name
    stem = (
        f"{_hyphens(name)}_{_hyphens(name)}_{station.folder}_{variable}_{sensor.depth_from:.6f}_{sensor.depth_to:.6f}"
        f"_{sensor.instrument_in_file}_{period[0]:%Y%m%d}_{period[1]:%Y%m%d}.stm"
    )
    return f"{name}/{station.folder}/{stem}"


def ismn_archive(readings: Sequence[Readings], period: tuple[date, date]) -> bytes:
    """A zip of the readings of sensors of one format, network by network, from the first to the last day of a period."""
    labels = pd.date_range(period[0], periods=24 * ((period[1] - period[0]).days + 1), freq="h")
    labels = labels.strftime("%Y/%m/%d %H:%M").tolist()
    bits = {int(b) for r in readings for b in np.unique(r.flags)}
    flags = {b: flag_names(b) for b in bits}
    ceop = readings[0].sensor.station.network.file_format == "ceop_sep"
    files: dict[str, str] = {}
    for one in readings:
        station = one.sensor.station
        if station.has_static:
            name = station.network.name
            static = f"{_hyphens(name)}_{_hyphens(name)}_{station.folder}_static_variables.csv"
            files[f"{name}/{station.folder}/{static}"] = static_variables(station)
        form = "%9.4f" if ceop else f"%.{station.network.decimals}f"
        files[_member(one.sensor, "sm", period)] = _file_text(one, labels, period[0], form, flags)
    files |= _gauge_files(readings, labels, period)
    files["Readme.txt"] = table("networks")["readme"]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        made: set[str] = set()
        for name, text in files.items():
            parts = name.split("/")[:-1]
            for folder in ("/".join(parts[: i + 1]) + "/" for i in range(len(parts))):
                if folder not in made:
                    made.add(folder)
                    archive.writestr(_entry(folder), b"")
            archive.writestr(_entry(name), text.encode("utf-8"), compresslevel=4)
    return content.getvalue()


def by_network(readings: Sequence[Readings], part: str) -> list[Readings]:
    """Readings in the order of the networks of a part of the sandbox."""
    names = [network.name for network in networks_of(part)]
    return sorted(readings, key=lambda one: names.index(one.sensor.station.network.name))


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _ZIP_TIME)
    info.create_system = 3  # the default depends on the platform
    folder = name.endswith("/")
    info.external_attr = (0o40755 << 16 | 0x10) if folder else 0o100644 << 16
    info.compress_type = zipfile.ZIP_STORED if folder else zipfile.ZIP_DEFLATED
    return info


_LOGGER_VERSION = "1.302"
_REJECTED = sum(1 << i for i, name in enumerate(FLAGS) if name in ("C01", "C02", "D06", "D07", "D08", "D09", "D10"))
_MOISTURE, _TENTHS, _SOLAR, _HUMIDITY = -99.0, -9999.0, -99999.0, -9999.0
_HOURLY = (
    "%5s %8s %4s %8s %4s %6s %7.2f %7.2f %7.1f %7.1f %7.1f %7.1f %7.1f %6.0f %1s %6.0f %1s %6.0f %1s %1s %7.1f %1s "
    "%7.1f %1s %7.1f %1s %5.0f %1s" + " %7.3f" * 5 + " %7.1f" * 5
)


def uscrn_names(year: int) -> list[str]:
    """Names of the network's files of a year.

    >>> uscrn_names(2011)[0]
    'CRNH0203-2011-SX_Ashford_4_NE.txt'
    """
    network = next(n for n in NETWORKS if n.file_format == "uscrn")
    return [f"CRNH0203-{year}-{station}.txt" for station in network.stations]


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


def _hour_names(times: NDArray[np.datetime64]) -> tuple[list[str], list[str]]:
    text = np.datetime_as_string(times, unit="m").tolist()
    return [t[:10].replace("-", "") for t in text], [t[11:].replace(":", "") for t in text]


def hourly_text(station: Station, table: dict[str, Float64], times: NDArray[np.datetime64]) -> str:
    """Return a station's hourly02 file; 38 fields in 243 columns."""
    utc, local = _hour_names(times), _hour_names(times + np.timedelta64(_offset(station), "h"))
    n = len(utc[0])
    # no real station has such a number
    constant = [f"{99900 + station.number:05d}"] * n, [_LOGGER_VERSION] * n, [station.lon] * n, [station.lat] * n
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
