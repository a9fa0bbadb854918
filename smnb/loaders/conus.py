"""Ten-day means of Sentinel-1, Sentinel-2 and SMAP over the contiguous US: on patches (7 x 7 cells of 10 km) and at stations.

Soil moisture of SMAP is ``ssm / 50``: millimetres of water in a layer of nominally 50 mm. The model behind ``ssm`` keeps an inch
of water in its top layer, so the result is nominal and biased and saturates at 0.508; it is no true volumetric content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from smnb.contract import VARIABLES, ContractError, FormatError
from smnb.loaders import check_native_units, check_paths, check_present, finish, in_period, open_netcdf, read_named_csv

#: Nominal thickness of the layer whose water ``ssm`` gives, mm: ssm over this is nominal m3 m-3.
SMAP_LAYER_MM = 50.0
#: Sentinel-2 bands, in the order of their numbers.
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
_POLARIZATIONS = ("VV", "VH")
_UNITS = {"VV": "dB", "VH": "dB", "angle": "degree", "ssm": "mm", **dict.fromkeys(BANDS, "1e-4 reflectance")}
_NAME = re.compile(r"region_(\d+)\.nc")


def open_conus_patches(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
) -> xr.Dataset:
    """Open the regions' patches, joined along `region`; they are small and are loaded.

    Parameters
    ----------
    paths : sequence of path-like
        Files ``region_NN.nc``.
    start, end : str, optional
        First and last day of the ten-day windows' starts.

    Returns
    -------
    xarray.Dataset
        ``sigma0(region, time, polarization, y, x)`` dB, ``incidence_angle(region, time, y, x)`` degree,
        ``reflectance(region, time, band, y, x)`` and ``soil_moisture(region, time, y, x)`` m3 m-3, float32. The files
        give no coordinates for `y` and `x`; they are the cells' indices. `time` is the first day of ten.
        ``regions_without_sentinel1`` (JSON) lists regions that have no backscatter at all, which stay NaN.

    Raises
    ------
    FormatError
        If a file is unreadable, lacks a variable, has other units, another size or other times than the first.
    CatalogError
        If the period is empty.
    """
    who, parts = "open_conus_patches", {}
    for path in check_paths(who, paths):
        match, where = _NAME.fullmatch(path.name), f"{who}({path.name})"
        if match is None or int(match[1]) in parts:
            what = "a file's name is not of this product" if match is None else f"region {match[1]} is given twice"
            raise FormatError(who, what, got=path.name, expected="region_01.nc")
        with open_netcdf(who, path, chunks=None) as file:
            raw = file.load()
        for name, units in _UNITS.items():
            if name not in raw or raw[name].dims != ("time", "y", "x"):
                what = f"{name!r} is absent or not over (time, y, x)"
                raise FormatError(where, what, got=sorted(map(str, raw.variables)))
            check_native_units(where, name, raw[name].attrs.get("units"), [units])
        number = int(match[1])
        parts[number] = raw.assign_coords(region=number, y=np.arange(raw.sizes["y"]), x=np.arange(raw.sizes["x"]))
        first = next(iter(parts.values()))
        if raw.sizes != first.sizes or not np.array_equal(raw["time"].values, first["time"].values):
            what = f"region {number} has another size or other times"
            raise FormatError(who, what, got=dict(raw.sizes), expected=dict(first.sizes))
    raw = xr.concat([parts[number] for number in sorted(parts)], dim="region", combine_attrs="drop")
    raw = raw.isel(time=np.flatnonzero(in_period(who, raw["time"].values, start, end, "window")))

    def stack(names: Sequence[str], dim: str) -> xr.DataArray:
        return xr.concat([raw[name] for name in names], dim=dim, combine_attrs="drop").assign_coords({dim: list(names)})

    dims = ("region", "time")
    dataset = xr.Dataset(
        {
            "sigma0": stack(_POLARIZATIONS, "polarization").transpose(*dims, "polarization", "y", "x"),
            "incidence_angle": raw["angle"],
            "reflectance": (stack(BANDS, "band") * np.float32(1e-4)).transpose(*dims, "band", "y", "x"),
            "soil_moisture": raw["ssm"] / np.float32(SMAP_LAYER_MM),
        }
    ).astype("float32")
    native = {"sigma0": "dB", "incidence_angle": "degree", "reflectance": "1e-4 reflectance", "soil_moisture": "mm"}
    for name, units in native.items():
        spec = VARIABLES[name]
        dataset[name].attrs = {"units": spec.units, "long_name": spec.long_name, "native_units": units}
    dataset["soil_moisture"].attrs |= {
        "long_name": "NASA-USDA enhanced SMAP surface soil moisture",
        "conversion": "nominal: ssm [mm] / 50 mm. The product's layer holds 25.4 mm, so values saturate at 0.508 and "
        "are no true volumetric content",
    }
    no_radar = dataset["sigma0"].isnull().all(["time", "polarization", "y", "x"])
    missing = {name: round(float(dataset[name].isnull().mean()), 4) for name in dataset.data_vars}
    dataset.attrs = {
        "regions_without_sentinel1": json.dumps(dataset["region"].values[no_radar.values].tolist()),
        "missing_fraction": json.dumps(missing),
    }
    step = f"{len(parts)} regions; DN * 1e-4 to reflectance, ssm mm / 50 to m3 m-3"
    source = "Sentinel-1, Sentinel-2 and NASA-USDA SMAP, ten-day means, Earth Engine"
    return finish(dataset, who, catalog_id, synthetic, source, step, list(native))


#: Codes of the National Land Cover Database for the contiguous US.
NLCD_CODES = (11, 12, 21, 22, 23, 24, 31, 41, 42, 43, 51, 52, 71, 72, 73, 74, 81, 82, 90, 95)
#: Native column: name, unit, factor to it, native unit, and what a native value can be; outside, the unit is another one.
_COLUMNS: dict[str, tuple[str, str, float, str, float, float]] = {
    "VV": ("sigma0_VV", "dB", 1.0, "dB", -60.0, 30.0),
    "VH": ("sigma0_VH", "dB", 1.0, "dB", -60.0, 30.0),
    "angle": ("incidence_angle", "degree", 1.0, "degree", 0.0, 90.0),
    **{band: (f"reflectance_{band}", "1", 1e-4, "DN, 1e-4 reflectance", 0.0, 25_000.0) for band in BANDS},
    "ssm": ("smap", "m3 m-3", 1.0 / SMAP_LAYER_MM, "mm", 0.0, 60.0),
    "fc": ("field_capacity", "m3 m-3", 0.01, "volume %", 0.0, 100.0),
    "mtpi": ("mtpi", "m", 1.0, "m", -np.inf, np.inf),
    "soil_moisture_insitu": ("soil_moisture", "m3 m-3", 1.0, "m3 m-3", 0.0, 1.0),
}
_KEYS = ("network", "station", "lat", "lon", "start", "end")
_PLACE = ["network", "station", "lat", "lon"]


@dataclass
class StationTable:
    """Ten-day means at stations.

    ``sensors`` has one row a station: ``sensor_id`` (network and station), ``network``, ``station``, ``lat``, ``lon`` (degree),
    ``nlcd`` (land-cover code, missing where the table gives a mean of codes), ``field_capacity`` (m3 m-3), ``mtpi`` (multi-scale
    topographic position index, m). ``table`` has one row a station and window, sorted, unique: ``sensor_id``, ``time`` and
    ``time_end`` (UTC, first and last instant of the ten days), ``soil_moisture`` (in situ, m3 m-3), ``smap`` (nominal m3 m-3),
    ``sigma0_VV``, ``sigma0_VH`` (dB), ``incidence_angle`` (degree), ``reflectance_B1`` to ``reflectance_B12`` (1). Missing is
    NaN. ``units`` is the unit of each column; ``report`` has ``native_units``, and how many land-cover codes were no codes.
    """

    sensors: pd.DataFrame
    table: pd.DataFrame
    units: dict[str, str] = field(default_factory=dict)
    report: dict[str, object] = field(default_factory=dict)
    catalog_id: str = ""
    synthetic: bool = False

    def check(self, who: str = "StationTable") -> StationTable:
        """Return the tables; raise `ContractError` if a station has a window twice."""
        twice = self.table.duplicated(["sensor_id", "time"])
        if twice.any():
            row = self.table[twice].iloc[0]
            raise ContractError(who, "a station has a window twice", got=(row["sensor_id"], str(row["time"])))
        return self


def open_station_table(paths: Sequence[str | Path], *, catalog_id: str = "", synthetic: bool = False) -> StationTable:
    """Open the table of ten-day means at stations.

    Parameters
    ----------
    paths : sequence of path-like
        One CSV file, compressed or not.

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
    Nine stations of the public table have means of
    land-cover codes instead of codes; they are taken as missing. The in-situ means ignore ISMN's quality flags.
    """
    who = "open_station_table"
    files = check_paths(who, paths)
    if len(files) != 1:
        raise FormatError(who, "this product is one table", got=[path.name for path in files])
    where = f"{who}({files[0].name})"
    try:
        raw = read_named_csv(files[0], ("network", "station", "start", "end"))
    except (ValueError, OSError, EOFError) as error:
        raise FormatError(where, f"the table is unreadable: {error}") from error
    check_present(where, (*_KEYS, *_COLUMNS, "landcover"), raw.columns)
    if raw.empty:
        raise FormatError(where, "the table has no rows")
    for name in ("lat", "lon", "landcover", *_COLUMNS):
        if not pd.api.types.is_numeric_dtype(raw[name].dtype):
            raise FormatError(where, f"column {name!r} is not numeric", got=str(raw[name].dtype))
    if incomplete := int(raw[list(_KEYS)].isna().any(axis=1).sum()):
        raise FormatError(where, "a row has no station, place or time", got=incomplete)
    ranges = {"lat": ("degrees", -90.0, 90.0), "lon": ("degrees", -180.0, 180.0)}
    ranges |= {name: one[3:] for name, one in _COLUMNS.items()}
    for name, (units, low, high) in ranges.items():
        seen = (float(raw[name].min()), float(raw[name].max()))
        if seen[0] < low or seen[1] > high:
            raise FormatError(where, f"{name!r} cannot be in {units}", got=seen, expected=(low, high))
    times = {}
    for native, name in (("start", "time"), ("end", "time_end")):
        try:
            parsed = pd.to_datetime(raw[native], utc=True, format="ISO8601")
        except ValueError as error:
            raise FormatError(where, f"{native!r} is no date: {error}", expected="2019-01-01") from error
        times[name] = parsed.dt.tz_localize(None).astype("datetime64[ns]")
    raw.insert(0, "sensor_id", raw["network"] + "__" + raw["station"])
    static = raw[["sensor_id", *_PLACE, "landcover", "fc", "mtpi"]].drop_duplicates().reset_index(drop=True)
    moved = static["sensor_id"].duplicated()
    if moved.any():
        raise FormatError(where, "a station changes its place or static values", got=static["sensor_id"][moved].iloc[0])
    codes = static["landcover"].where(static["landcover"].isin(NLCD_CODES))
    sensors = static[["sensor_id", *_PLACE]].assign(
        nlcd=codes.astype("Int16"), field_capacity=static["fc"] * 0.01, mtpi=static["mtpi"]
    )
    table = raw[["sensor_id"]].assign(**times)
    for native, (name, _, factor, *_) in _COLUMNS.items():
        if name not in sensors:
            table[name] = raw[native] * factor
    table = table.sort_values(["sensor_id", "time"], ignore_index=True)
    sensors = sensors.sort_values("sensor_id", ignore_index=True)
    report = {
        "native_units": {native: one[3] for native, one in _COLUMNS.items()},
        "land_cover_no_code": int((codes.isna() & static["landcover"].notna()).sum()),
        "rows": len(table),
        "rows_without_in_situ": int(table["soil_moisture"].isna().sum()),
    }
    units = {name: unit for name, unit, *_ in _COLUMNS.values()}
    return StationTable(sensors, table, units, report, catalog_id, bool(synthetic)).check(where)
