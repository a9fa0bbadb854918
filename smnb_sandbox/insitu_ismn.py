"""The sandbox's in-situ readings as ISMN archives: header+values and CEOP-sep, one zip each, the same bytes always.

Underscores inside names become hyphens in file names, CEOP files print depths with two decimals, lines end with LF or CRLF.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np

from smnb_sandbox.insitu_readings import MISSING, Readings, flag_names
from smnb_sandbox.insitu_sites import LAND_COVER, Sensor, Station, networks_of
from smnb_sandbox.noise import Float64
from smnb_sandbox.plan import table

_ZIP_TIME = (2012, 1, 1, 0, 0, 0)
_README = """This archive is synthetic: smnb_sandbox simulated it. Networks, stations and sensors do not exist.
Layout and names follow the International Soil Moisture Network's, no data of which are in it.
"""
_CSV_HEADER = (
    "quantity_name;unit;depth_from[m];depth_to[m];value;description;quantity_source_name;quantity_source_description;"
    "quantity_source_provider;quantity_source_version;quantity_source_resolution;quantity_source_timerange;"
    "quantity_source_url;"
)
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
    rows = [_CSV_HEADER]
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


def hour_labels(first: date, last: date) -> list[str]:
    """Hours of the period as ISMN prints them."""
    days = [f"{first + timedelta(days=i):%Y/%m/%d}" for i in range((last - first).days + 1)]
    return [f"{day} {hour:02d}:00" for day in days for hour in range(24)]


def _values_as_text(value: Float64, form: str, fill: str) -> list[str]:
    return [fill if v == MISSING else form % v for v in value.tolist()]


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
        _values_as_text(readings.value, form, fill),
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
    labels = hour_labels(*period)
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
    files["Readme.txt"] = _README
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
