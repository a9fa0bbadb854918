"""Ten-day means at stations of the contiguous US: Sentinel-1, Sentinel-2, SMAP and in-situ soil moisture, one CSV table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from smnb.contract import ContractError, FormatError
from smnb.loaders import check_paths
from smnb.loaders.conus_patches import BANDS

#: Nominal thickness of the layer whose water ``ssm`` gives, mm: ssm over this is nominal m3 m-3.
SMAP_LAYER_MM = 50.0
#: Codes of the National Land Cover Database for the contiguous US.
NLCD_CODES = (11, 12, 21, 22, 23, 24, 31, 41, 42, 43, 51, 52, 71, 72, 73, 74, 81, 82, 90, 95)
#: Native column: name, unit, factor to it, and the native unit.
_COLUMNS: dict[str, tuple[str, str, float, str]] = {
    "VV": ("sigma0_VV", "dB", 1.0, "dB"),
    "VH": ("sigma0_VH", "dB", 1.0, "dB"),
    "angle": ("incidence_angle", "degree", 1.0, "degree"),
    **{band: (f"reflectance_{band}", "1", 1e-4, "DN, 1e-4 reflectance") for band in BANDS},
    "ssm": ("smap", "m3 m-3", 1.0 / SMAP_LAYER_MM, "mm"),
    "fc": ("field_capacity", "m3 m-3", 0.01, "volume %"),
    "mtpi": ("mtpi", "m", 1.0, "m"),
    "soil_moisture_insitu": ("soil_moisture", "m3 m-3", 1.0, "m3 m-3"),
}
#: What a native value can be; outside, the unit is another one.
_RANGES = {
    "VV": (-60.0, 30.0),
    "VH": (-60.0, 30.0),
    "angle": (0.0, 90.0),
    "ssm": (0.0, 60.0),
    "fc": (0.0, 100.0),
    "soil_moisture_insitu": (0.0, 1.0),
    **dict.fromkeys(BANDS, (0.0, 25_000.0)),
}
_KEYS = ("network", "station", "lat", "lon", "start", "end")
_PLACE = ["network", "station", "lat", "lon"]


@dataclass
class StationTable:
    """Ten-day means at stations.

    Parameters
    ----------
    sensors : DataFrame
        One row a station: ``sensor_id`` (network and station), ``network``, ``station``, ``lat``, ``lon`` (degree),
        ``nlcd`` (land-cover code, missing where the table gives a mean of codes), ``field_capacity`` (m3 m-3), ``mtpi``
        (multi-scale topographic position index, m).
    table : DataFrame
        One row a station and window: ``sensor_id``, ``time`` and ``time_end`` (UTC, first and last instant of the ten
        days), ``soil_moisture`` (in situ, m3 m-3), ``smap`` (nominal m3 m-3), ``sigma0_VV``, ``sigma0_VH`` (dB),
        ``incidence_angle`` (degree), ``reflectance_B1`` to ``reflectance_B12`` (1). Missing is NaN. Sorted, unique.
    units : dict
        Unit of each column.
    report : dict
        ``native_units``, and how many land-cover codes were no codes.
    catalog_id : str
        The catalog's entry.
    synthetic : bool
        Whether the data were simulated.
    """

    sensors: pd.DataFrame
    table: pd.DataFrame
    units: dict[str, str] = field(default_factory=dict)
    report: dict[str, object] = field(default_factory=dict)
    catalog_id: str = ""
    synthetic: bool = False

    def check(self, who: str = "StationTable") -> StationTable:
        """Check the tables against the contract and return them.

        Raises
        ------
        ContractError
            If a station or one of its windows occurs twice, a row has no station, or soil moisture is not volumetric.
        """
        if not self.sensors["sensor_id"].is_unique:
            doubled = self.sensors.loc[self.sensors["sensor_id"].duplicated(), "sensor_id"].tolist()
            raise ContractError(who, "a station occurs twice", got=doubled[:3])
        orphans = sorted(set(self.table["sensor_id"]) - set(self.sensors["sensor_id"]))
        if orphans:
            raise ContractError(who, "rows of no known station", got=orphans[:3])
        twice = self.table.duplicated(["sensor_id", "time"])
        if twice.any():
            row = self.table[twice].iloc[0]
            raise ContractError(who, "a station has a window twice", got=(row["sensor_id"], str(row["time"])))
        for name in ("soil_moisture", "smap"):
            values = self.table[name].to_numpy()
            if not ((values >= 0.0) & (values <= 1.2) | np.isnan(values)).all():
                raise ContractError(who, f"{name!r} leaves its range", got=(np.nanmin(values), np.nanmax(values)))
        return self


def open_station_table(paths: Sequence[str | Path], *, catalog_id: str = "", synthetic: bool = False) -> StationTable:
    """Open the table of ten-day means at stations.

    Parameters
    ----------
    paths : sequence of path-like
        One CSV file, compressed or not.
    catalog_id, synthetic
        As `smnb.loaders` says.

    Returns
    -------
    StationTable

    Raises
    ------
    CatalogError
        If there is no such file.
    FormatError
        If there are several files, one is unreadable or empty, a column is missing or no number, a value cannot be in
        the stated unit, a station changes its place, or a time is no UTC date.

    Notes
    -----
    ``smap = ssm / 50``: millimetres of water in a layer of nominally 50 mm; the model behind ``ssm`` keeps an inch of
    water, so the result is nominal, saturates at 0.508 and is biased. Nine stations of the public table have means of
    land-cover codes instead of codes; they are taken as missing. The in-situ means ignore ISMN's quality flags.
    """
    who = "open_station_table"
    files = check_paths(who, paths)
    if len(files) != 1:
        raise FormatError(who, "this product is one table", got=[path.name for path in files])
    where = f"{who}({files[0].name})"
    try:
        raw = pd.read_csv(files[0], dtype={"network": str, "station": str, "start": str, "end": str})
    except (ValueError, OSError, EOFError) as error:
        raise FormatError(where, f"the table is unreadable: {error}", next_step="Get the file again") from error
    missing = [name for name in (*_KEYS, *_COLUMNS, "landcover") if name not in raw.columns]
    if missing or raw.empty:
        raise FormatError(
            where,
            f"columns {missing} are missing" if missing else "the table has no rows",
            got=list(map(str, raw.columns)),
        )
    _check_values(where, raw)
    raw.insert(0, "sensor_id", raw["network"] + "__" + raw["station"])
    static = raw[["sensor_id", *_PLACE, "landcover", "fc", "mtpi"]].drop_duplicates().reset_index(drop=True)
    moved = static["sensor_id"].duplicated()
    if moved.any():
        raise FormatError(where, "a station changes its place or static values", got=static["sensor_id"][moved].iloc[0])
    codes = static["landcover"].where(static["landcover"].isin(NLCD_CODES))
    sensors = static[["sensor_id", *_PLACE]].assign(
        nlcd=codes.astype("Int16"), field_capacity=static["fc"] * 0.01, mtpi=static["mtpi"]
    )
    table = raw[["sensor_id"]].assign(time=_utc(where, raw["start"], "start"), time_end=_utc(where, raw["end"], "end"))
    for native, (name, _, factor, _) in _COLUMNS.items():
        if name not in sensors:
            table[name] = raw[native] * factor
    table = table.sort_values(["sensor_id", "time"], ignore_index=True)
    sensors = sensors.sort_values("sensor_id", ignore_index=True)
    report = {
        "native_units": {native: unit for native, (*_, unit) in _COLUMNS.items()},
        "land_cover_no_code": int((codes.isna() & static["landcover"].notna()).sum()),
        "rows": len(table),
        "rows_without_in_situ": int(table["soil_moisture"].isna().sum()),
    }
    units = {name: unit for name, unit, *_ in _COLUMNS.values()}
    return StationTable(sensors, table, units, report, catalog_id, bool(synthetic)).check(where)


def _check_values(where: str, raw: pd.DataFrame) -> None:
    for name in ("lat", "lon", "landcover", *_COLUMNS):
        if not pd.api.types.is_numeric_dtype(raw[name].dtype):
            raise FormatError(where, f"column {name!r} is not numeric", got=str(raw[name].dtype))
    if raw[list(_KEYS)].isna().any().any():
        raise FormatError(
            where, "a row has no station, place or time", got=int(raw[list(_KEYS)].isna().any(axis=1).sum())
        )
    if not (raw["lat"].abs() <= 90.0).all() or not (raw["lon"].abs() <= 180.0).all():
        raise FormatError(where, "a station is not on the Earth", got=(raw["lat"].abs().max(), raw["lon"].abs().max()))
    for name, (low, high) in _RANGES.items():
        seen = (float(raw[name].min()), float(raw[name].max()))
        if seen[0] < low or seen[1] > high:
            raise FormatError(
                where,
                f"{name!r} cannot be in {_COLUMNS[name][3]}",
                got=seen,
                expected=(low, high),
                next_step="Check the units of the export",
            )


def _utc(where: str, text: pd.Series, name: str) -> pd.Series:
    try:
        return pd.to_datetime(text, utc=True, format="ISO8601").dt.tz_localize(None).astype("datetime64[ns]")
    except ValueError as error:
        raise FormatError(where, f"{name!r} is no date: {error}", expected="2019-01-01") from error
