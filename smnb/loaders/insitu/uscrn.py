"""The U.S. Climate Reference Network (doi:10.1175/JHM-D-12-0146.1): NOAA's text (hourly02, daily01) and a parsed daily table.

A value is the mean of up to three probes. NOAA blanks what fails its own checks and gives no flags for soil, so flags are set
here with ISMN's meaning where the file tells: C01, C02 by the value, D01 by the soil temperature of the same depth; G else.
Products: https://www.ncei.noaa.gov/pub/data/uscrn/products/.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from smnb.contract import FormatError, plain
from smnb.loaders.insitu.sensors import READINGS, Part, Report, Sensor

#: Depths of the probes, in cm.
DEPTHS_CM = (5, 10, 20, 50, 100)
_SOIL = [f"SOIL_{what}_{depth}" for what in ("MOISTURE", "TEMP") for depth in DEPTHS_CM]
_HOURLY = (
    "WBANNO UTC_DATE UTC_TIME LST_DATE LST_TIME CRX_VN LONGITUDE LATITUDE T_CALC T_HR_AVG T_MAX T_MIN P_CALC SOLARAD "
    "SOLARAD_FLAG SOLARAD_MAX SOLARAD_MAX_FLAG SOLARAD_MIN SOLARAD_MIN_FLAG SUR_TEMP_TYPE SUR_TEMP SUR_TEMP_FLAG "
    "SUR_TEMP_MAX SUR_TEMP_MAX_FLAG SUR_TEMP_MIN SUR_TEMP_MIN_FLAG RH_HR_AVG RH_HR_AVG_FLAG"
)
_DAILY = (
    "WBANNO LST_DATE CRX_VN LONGITUDE LATITUDE T_DAILY_MAX T_DAILY_MIN T_DAILY_MEAN T_DAILY_AVG P_DAILY_CALC SOLARAD_DAILY "
    "SUR_TEMP_DAILY_TYPE SUR_TEMP_DAILY_MAX SUR_TEMP_DAILY_MIN SUR_TEMP_DAILY_AVG RH_DAILY_MAX RH_DAILY_MIN RH_DAILY_AVG"
)
#: Fields of each product, in order.
FIELDS: dict[str, list[str]] = {
    "hourly02": [*_HOURLY.split(), *_SOIL],
    "daily01": [*_DAILY.split(), *(f"{name}_DAILY" for name in _SOIL)],
}
_NAME = re.compile(r"CRN(?P<product>H02|D01)(?P<version>\d{2})-(?P<year>\d{4})-(?P<station>.+)\.txt")
_PRODUCTS = {"H02": "hourly02", "D01": "daily01"}
#: -99.000 marks missing soil moisture and -9999.0 missing temperature.
_MISSING_MOISTURE, _MISSING_TEMPERATURE = -98.9, -9998.0
_FLAG_NAMES = ["G", "C01", "C02", "D01", "C01,D01", "C02,D01"]


def is_text(name: str) -> bool:
    """Whether a file's name is of hourly02 or daily01."""
    return _NAME.fullmatch(name) is not None


def _read_text(path: Path) -> tuple[str, pd.DataFrame]:
    """Read a file as text; returns the product too."""
    match = _NAME.fullmatch(path.name)
    if match is None or match["version"] != "03":
        expected = ["CRNH0203-2020-AZ_Tucson_11_W.txt", "CRND0103-2020-AZ_Tucson_11_W.txt"]
        raise FormatError("USCRN", "a file's name is of no known product", got=path.name, expected=expected)
    product = _PRODUCTS[match["product"]]
    fields = FIELDS[product]
    text = path.read_bytes()
    if not text.strip():
        raise FormatError(path.name, "the file is empty")
    last = text.rstrip().rsplit(b"\n", 1)[-1].split()
    try:
        table = pd.read_csv(path, sep=r"\s+", header=None, dtype=str, keep_default_na=False, encoding_errors="replace")
    except (pd.errors.ParserError, ValueError) as error:
        raise FormatError(path.name, f"the table is damaged: {error}") from error
    if table.shape[1] != len(fields) or len(last) != len(fields) or (table.iloc[:, -1] == "").any():
        what = "the number of fields is wrong, or the file is cut short"
        got = (table.shape[1], len(last))
        raise FormatError(path.name, what, got=got, expected=plain(f"{len(fields)} fields of {product} in every line"))
    return product, table.set_axis(fields, axis=1)


def _parsed(name: str, column: pd.Series, what: str, form: str | None = None) -> np.ndarray:
    """Numbers, or times of a form."""
    try:
        times = None if form is None else pd.to_datetime(column, format=form)
        return column.to_numpy("float64") if times is None else times.to_numpy("datetime64[ns]")
    except (ValueError, TypeError) as error:
        raise FormatError(name, f"{column.name} is no {what}", got=str(error)[:80], expected=form) from error


def _place(name: str, table: pd.DataFrame) -> tuple[float, float]:
    """Latitude and longitude; NOAA rounds them, and the last line has the newest."""
    lat, lon = (float(_parsed(name, table[axis], "number")[-1]) for axis in ("LATITUDE", "LONGITUDE"))
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise FormatError(name, "the coordinates are out of range", got=(lat, lon))
    return lat, lon


def _day_centre(days: np.ndarray, lon: float) -> np.ndarray:
    """Centre of local days in UTC; the zone, which the daily files do not give, is taken from the longitude."""
    return days + np.timedelta64(12 - round(lon / 15.0), "h")


def _readings(time: np.ndarray, moisture: np.ndarray, temperature: np.ndarray) -> pa.Table:
    missing = ~(moisture > _MISSING_MOISTURE)
    flag = np.where(moisture < 0.0, 1, np.where(moisture > 0.6, 2, 0)).astype(np.int32)
    flag[(temperature > _MISSING_TEMPERATURE) & (temperature < 0.0)] += 3
    flag[missing] = 0
    value = np.where(missing, np.nan, moisture).astype(np.float32)
    flags = [pa.DictionaryArray.from_arrays(*one) for one in ((flag, _FLAG_NAMES), (np.zeros_like(flag), [""]))]
    return pa.Table.from_arrays([pa.array(time), pa.array(value), *flags], schema=READINGS)


def _read_depth(path: Path, depth_cm: int) -> pa.Table:
    product, table = _read_text(path)
    name, suffix = path.name, "_DAILY" if product == "daily01" else ""
    if suffix:
        time = _day_centre(_parsed(name, table["LST_DATE"], "date", "%Y%m%d"), _place(name, table)[1])
    else:
        # the end of the hour that a value is the mean of, as ISMN labels the same data
        clock = _parsed(name, table["UTC_TIME"], "time", "%H%M")
        time = _parsed(name, table["UTC_DATE"], "date", "%Y%m%d") + (clock - clock.astype("datetime64[D]"))
    soil = (_parsed(name, table[f"SOIL_{what}_{depth_cm}{suffix}"], "number") for what in ("MOISTURE", "TEMP"))
    return _readings(time, *soil)


def _sensor(part: Part, station: str, product: str, lat: float, lon: float, depth_cm: int) -> Sensor:
    place = {"lat": lat, "lon": lon, "depth_from": depth_cm / 100, "depth_to": depth_cm / 100}
    about = {"instrument": f"USCRN-{product}", "format": f"uscrn_{product}"}
    return Sensor.of(part, network="USCRN", station=station, **place, **about)


def find_text_sensors(paths: Sequence[Path], report: Report) -> list[Sensor]:
    """Sensors of text files, five a file, at the place of its last line; damaged files are named in `report`.

    The years of a station (``CRNH0203-<year>-<station>.txt``, ``CRND0103-…``) are joined by their sensors' ids.
    """
    sensors = []
    for path in paths:
        try:
            product, table = _read_text(path)
            place = _place(path.name, table)
        except FormatError as error:
            report.damaged_files.append({"file": path.name, "reason": str(error)})
            continue
        report.files_of_format[f"uscrn_{product}"] += 1
        station = _NAME.fullmatch(path.name)["station"]
        for depth in DEPTHS_CM:
            part = Part(path.name, partial(_read_depth, path, depth), partial(len, table))
            sensors.append(_sensor(part, station, product, *place, depth))
    return sensors


def find_parsed_sensors(path: Path, report: Report) -> list[Sensor]:
    """Sensors of a parsed daily table: Parquet with the fields of daily01 in lower case, ``wban`` for WBANNO.

    The station is its WBAN number, since the table has no names.
    """
    soil = {depth: [f"soil_{what}_{depth}_daily" for what in ("moisture", "temp")] for depth in DEPTHS_CM}
    columns = ["wban", "lst_date", "longitude", "latitude", *(name for names in soil.values() for name in names)]
    try:
        table = pd.read_parquet(path, columns=columns)
    except (OSError, ValueError, KeyError) as error:
        what, expected = f"no parsed USCRN table: {str(error)[:200]}", plain(f"Parquet with {columns}")
        raise FormatError(path.name, what, expected=expected) from error
    report.files_of_format["uscrn_table"] += 1
    sensors = []
    for wban, one in table.groupby("wban", sort=True):
        lat, lon = float(one["latitude"].iloc[-1]), float(one["longitude"].iloc[-1])
        time = _day_centre(one["lst_date"].to_numpy(dtype="datetime64[ns]"), lon)
        for depth, names in soil.items():
            # bound here, since the loop goes on
            read = partial(_readings, time, *(one[name].to_numpy(dtype="float64") for name in names))
            sensors.append(_sensor(Part(path.name, read, partial(len, one)), str(wban), "daily01", lat, lon, depth))
    return sensors
