"""The U.S. Climate Reference Network (doi:10.1175/JHM-D-12-0146.1): NOAA's text (hourly02, daily01) and a parsed daily table.

A value is the mean of up to three probes. NOAA blanks what fails its own checks and gives no flags for soil, so flags are set
here with ISMN's meaning where the file tells: C01, C02 by the value, D01 by the soil temperature of the same depth; G else.
Products: https://www.ncei.noaa.gov/pub/data/uscrn/products/.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from smnb.contract import FormatError, foreign, plain
from smnb.loaders import read_table
from smnb.loaders.insitu.sensors import READINGS, LostLines, Part, Report, Sensor

DEPTHS_CM = (5, 10, 20, 50, 100)  # depths of the probes, in cm
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


def _read_text(path: Path, lost: LostLines) -> tuple[str, pd.DataFrame]:
    """Read a file as text, by line number; returns the product too. A line that is not whole is counted in `lost`."""
    match = _NAME.fullmatch(path.name)
    if match is None or match["version"] != "03":
        expected = ["CRNH0203-2020-AZ_Tucson_11_W.txt", "CRND0103-2020-AZ_Tucson_11_W.txt"]
        raise FormatError("USCRN", "a file's name is of no known product", got=path.name, expected=expected)
    product = _PRODUCTS[match["product"]]
    fields = FIELDS[product]
    text = path.read_bytes()
    if not text.strip():
        raise FormatError(path.name, "the file is empty")
    expected = plain(f"{len(fields)} fields of {product} in every line")
    rows, width, lines = {}, 0, text.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        found, width = line.split(), width or len(line.rstrip())
        # the last field of a last line may be cut
        whole = number < len(lines) or line.endswith(b"\n") or len(line) >= width
        if len(found) == len(fields) and b"\0" not in line and whole:
            rows[number] = line.rstrip()
        elif found:
            what = f"line {number}: the number of fields is wrong, or the file is cut short"
            got = "a row of NUL bytes" if b"\0" in line else len(found)
            lost.add(FormatError(path.name, what, got=got, expected=expected))
    if not rows:
        raise lost.first
    source = io.BytesIO(b"\n".join(rows.values()))
    table = pd.read_csv(
        source,
        sep=r"\s+",
        header=None,
        dtype=str,
        keep_default_na=False,
        encoding_errors="replace",
        quoting=csv.QUOTE_NONE,
    )
    return product, table.set_axis(fields, axis=1).set_axis(list(rows))


def _parsed(
    name: str, table: pd.DataFrame, column: str, what: str, lost: LostLines, form: str | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Numbers, or times of a form, and the lines that have one; others are counted in `lost`, all of them are an error."""
    texts = table[column]
    if form is None:
        values, empty = pd.to_numeric(texts, errors="coerce"), texts.str.lower() == "nan"
    else:
        values, empty = pd.to_datetime(texts, format=form, errors="coerce").astype("datetime64[ns]"), False
    good = values.notna() | empty
    if not good.all():
        at = good.idxmin()
        error = FormatError(name, f"line {at}: {column} is no {what}", got=texts[at][:80], expected=form)
        lost.add(error, int((~good).sum()))
        if not good.any():
            raise error
    return table[good], values[good].to_numpy()


def _place(name: str, table: pd.DataFrame) -> tuple[float, float]:
    """Latitude and longitude; NOAA rounds them, and the last line that has a place has the newest."""
    places = np.column_stack([pd.to_numeric(table[axis], errors="coerce") for axis in ("LATITUDE", "LONGITUDE")])
    fine = np.flatnonzero((np.abs(places) <= (90.0, 180.0)).all(axis=1))
    if not fine.size:
        raise FormatError(name, "the coordinates are out of range", got=tuple(places[-1].tolist()))
    lat, lon = places[fine[-1]].tolist()
    return lat, lon


def _day_centre(days: np.ndarray, lon: float) -> np.ndarray:
    """Centre of local days in UTC; the zone, which the daily files do not give, is taken from the longitude."""
    return days + np.timedelta64(12 - round(lon / 15.0), "h")


def _readings(time: np.ndarray, moisture: np.ndarray, temperature: np.ndarray, *_: LostLines) -> pa.Table:
    missing = ~(moisture > _MISSING_MOISTURE)
    flag = np.where(moisture < 0.0, 1, np.where(moisture > 0.6, 2, 0)).astype(np.int32)
    flag[(temperature > _MISSING_TEMPERATURE) & (temperature < 0.0)] += 3
    flag[missing] = 0
    value = np.where(missing, np.nan, moisture).astype(np.float32)
    flags = [pa.DictionaryArray.from_arrays(*one) for one in ((flag, _FLAG_NAMES), (np.zeros_like(flag), [""]))]
    return pa.Table.from_arrays([pa.array(time), pa.array(value), *flags], schema=READINGS)


def _read_depth(path: Path, depth_cm: int, lost: LostLines) -> pa.Table:
    product, table = _read_text(path, LostLines())  # its lost lines were counted once when the sensors were found
    name, suffix = path.name, "_DAILY" if product == "daily01" else ""
    lon, day = _place(name, table)[1], "LST_DATE" if suffix else "UTC_DATE"
    columns = [(day, "date", "%Y%m%d"), *([] if suffix else [("UTC_TIME", "time", "%H%M")])]
    columns += [(f"SOIL_{what}_{depth_cm}{suffix}", "number", None) for what in ("MOISTURE", "TEMP")]
    for column, what, form in columns:
        table, _ = _parsed(name, table, column, what, lost, form)
    values = [_parsed(name, table, column, what, lost, form)[1] for column, what, form in columns]
    if suffix:
        return _readings(_day_centre(values[0], lon), *values[1:])
    # the end of the hour that a value is the mean of, as ISMN labels the same data
    return _readings(values[0] + (values[1] - values[1].astype("datetime64[D]")), *values[2:])


def _sensor(part: Part, station: str, product: str, lat: float, lon: float, depth_cm: int) -> Sensor:
    place = {"lat": lat, "lon": lon, "depth_from": depth_cm / 100, "depth_to": depth_cm / 100}
    about = {"instrument": f"USCRN-{product}", "format": f"uscrn_{product}"}
    return Sensor.of(part, network="USCRN", station=station, **place, **about)


def find_text_sensors(paths: Sequence[Path], report: Report) -> list[Sensor]:
    """Sensors of text files, five a file, at the place of its last line; damaged files are named in `report`."""
    sensors = []
    for path in paths:
        lost = LostLines()
        try:
            product, table = _read_text(path, lost)
            place = _place(path.name, table)
        except FormatError as error:
            report.damaged_files.append({"file": path.name, "reason": str(error)})
            continue
        report.lose_lines(path.name, lost)
        report.files_of_format[f"uscrn_{product}"] += 1
        station = _NAME.fullmatch(path.name)["station"]
        for depth in DEPTHS_CM:
            part = Part(path.name, partial(_read_depth, path, depth), partial(len, table))
            sensors.append(_sensor(part, station, product, *place, depth))
    return sensors


def find_parsed_sensors(path: Path, report: Report) -> list[Sensor]:
    """Sensors of a parsed daily table: Parquet with the fields of daily01 in lower case, ``wban`` for WBANNO."""
    soil = {depth: [f"soil_{what}_{depth}_daily" for what in ("moisture", "temp")] for depth in DEPTHS_CM}
    columns = ["wban", "lst_date", "longitude", "latitude", *(name for names in soil.values() for name in names)]
    with foreign(path.name, "no parsed USCRN table (Parquet with its fields in lower case)"):
        table = read_table(path, columns)
        kinds = {"wban": "iuO", "lst_date": "MO", **dict.fromkeys(columns[2:], "iuf")}
        if odd := {name: str(table[name].dtype) for name, kind in kinds.items() if table[name].dtype.kind not in kind}:
            raise FormatError(path.name, "columns are of another type than those of a parsed USCRN table", got=odd)
        table["lst_date"] = pd.to_datetime(table["lst_date"]).astype("datetime64[ns]")
        stations = list(table.groupby("wban", sort=True))
    report.files_of_format["uscrn_table"] += 1
    sensors = []
    for wban, one in stations:
        one = one.dropna(subset=["lst_date"])
        placed = one[one["latitude"].between(-90, 90) & one["longitude"].between(-180, 180)]
        if placed.empty:
            reason = f"{path.name}: station {wban} has no dates, or no coordinates in range"
            report.damaged_files.append({"file": f"{path.name}, station {wban}", "reason": reason})
            continue
        lat, lon = float(placed["latitude"].iloc[-1]), float(placed["longitude"].iloc[-1])
        time = _day_centre(one["lst_date"].to_numpy(dtype="datetime64[ns]"), lon)
        for depth, names in soil.items():
            # bound here, since the loop goes on
            read = partial(_readings, time, *(one[name].to_numpy(dtype="float64") for name in names))
            sensors.append(_sensor(Part(path.name, read, partial(len, one)), str(wban), "daily01", lat, lon, depth))
    return sensors
