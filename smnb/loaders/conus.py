"""Ten-day means of Sentinel-1, Sentinel-2 and SMAP over the contiguous US: on patches (7 x 7 cells of 10 km) and at stations.

Soil moisture of SMAP is ``ssm / 50``: millimetres of water in a layer of nominally 50 mm. The model behind ``ssm`` keeps an inch
of water in its top layer, so the result is nominal and biased and saturates at 0.508; it is no true volumetric content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from smnb.contract import VARIABLES, ContractError, FormatError, foreign, plain
from smnb.loaders import check_native_units, check_paths, check_present, finish, in_period, open_netcdf, read_named_csv
from smnb.loaders.rasters.options import FILLS, PRODUCTS, TOO_DARK, DnOffset, Meaning

SMAP_LAYER_MM = 50.0  # nominal thickness of the layer whose water ``ssm`` gives, mm: ssm over this is nominal m3 m-3
#: Sentinel-2 bands, in the order of their numbers.
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
_POLARIZATIONS = ("VV", "VH")
_UNITS = {"VV": "dB", "VH": "dB", "angle": "degree", "ssm": "mm", **dict.fromkeys(BANDS, "1e-4 reflectance")}
_NAME = re.compile(r"region_(\d+)\.nc")
#: Codes of the National Land Cover Database for the contiguous US.
NLCD_CODES = (11, 12, 21, 22, 23, 24, 31, 41, 42, 43, 51, 52, 71, 72, 73, 74, 81, 82, 90, 95)


@dataclass(frozen=True)
class Column:
    """A native column: what its numbers mean, and what a place whose values are in another unit may be in."""

    meaning: Meaning
    hint: str = ""
    units: str = ""


_SENTINEL1, _SENTINEL2 = PRODUCTS["sentinel1"], PRODUCTS["sentinel2"]
_POWER, _REFLECTANCE = "linear power? take 10 log10", "reflectance? multiply by 10,000"
#: An exact zero is no mean of soil moisture over ten days and ten kilometres, but how an export fills what was masked; a desert's
#: is near zero mm for most of the year, but not after rain.
_SMAP = replace(PRODUCTS["smap"]["ssm"], fills=(0.0,), dim=0.6)
#: What a table needs beside the keys of its rows.
COLUMNS: dict[str, Column] = {
    "VV": Column(_SENTINEL1["VV"], _POWER),
    "VH": Column(_SENTINEL1["VH"], _POWER),
    "angle": Column(_SENTINEL1["angle"], "radians? multiply by 180/pi"),
    **{name: Column(replace(_SENTINEL2[name], low=TOO_DARK), _REFLECTANCE, "DN, 1e-4 reflectance") for name in BANDS},
    "ssm": Column(_SMAP, "m3 m-3? multiply by 50 mm"),
    "fc": Column(PRODUCTS["place"]["fc"], "a fraction? multiply by 100"),
    "landcover": Column(PRODUCTS["place"]["landcover"]),
    "mtpi": Column(PRODUCTS["place"]["mtpi"]),
}
_IN_SITU = Column(Meaning("m3 m-3", (), *VARIABLES["soil_moisture"].valid_range), hint="percent? divide by 100")
_MEASURED = {**COLUMNS, "soil_moisture_insitu": _IN_SITU}


def believed(
    who: str, frame: pd.DataFrame, by: str, kind: str = "station"
) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    """Mask what is no data in native columns, and count it by column and reason: "fill", "out_of_range", "linear_power".

    `by` is the column of places, of a `kind`, beside ``time``. Where most values of a place are not in the column's unit, or
    Sentinel-2's offset was not taken off exactly once, a `FormatError` says so.
    """
    frame, counts = frame.copy(), {}

    def mask(names: Sequence[str], reason: str, where: pd.Series) -> None:
        for name in names:
            if lost := int((where & frame[name].notna()).sum()):
                counts.setdefault(name, {})[reason] = lost
                frame[name] = frame[name].mask(where)

    columns = {name: one for name, one in _MEASURED.items() if name in frame}
    for name, column in columns.items():
        mask([name], "fill", frame[name].isin((*FILLS, *column.meaning.fills)) | np.isinf(frame[name]))
    _check_offset(who, frame, by, kind)
    mask(BANDS, "out_of_range", (frame[list(BANDS)] < TOO_DARK).any(axis=1))  # the row's other bands are as wrong
    for name, column in columns.items():
        values, meaning, units = frame[name], column.meaning, column.units or column.meaning.units
        step = f"Check the units of {name!r}" + (f" ({column.hint})" if column.hint else "")
        off = values.notna() & ~values.between(meaning.low, meaning.high)
        bad = off.groupby(frame[by]).sum()
        if ((bad > 2) & (bad > values.groupby(frame[by]).count() / 2)).any() or off.sum() > values.count() / 2:
            got, expected = (float(values.min()), float(values.max())), (meaning.low, meaning.high)
            raise FormatError(who, f"{name!r} cannot be in {units}", got=got, expected=expected, next_step=step)
        mask([name], "out_of_range", off)
        groups = frame[name].groupby(frame[by])
        odd = groups.median()[(groups.quantile(0.9) < meaning.dim) | (groups.median() > meaning.bright)]
        if len(odd):
            low, high = max(meaning.low, meaning.dim), min(meaning.high, meaning.bright)
            what, got = f"{name!r} at {kind} {odd.index[0]!r} is not in {units}", plain(f"a median of {odd.iloc[0]:g}")
            raise FormatError(who, what, got=got, expected=plain(f"{low:g} to {high:g}"), next_step=step)
    mask(_POLARIZATIONS, "linear_power", frame["VH"] > 0.0)  # no ten kilometres are that bright
    return frame, counts


def _check_offset(who: str, frame: pd.DataFrame, by: str, kind: str) -> None:
    """Raise `FormatError` if digital numbers of a place, before or since it was introduced, have the offset or lost it twice."""
    since, extra = DnOffset().since, -DnOffset().offset
    groups = frame.groupby([by, frame["time"] >= since])
    cirrus, high = groups["B10"].median(), groups["B10"].agg(lambda values: (values > extra).sum())
    still = (cirrus > extra) | ((high > 2) & (high >= groups["B10"].count() / 10))
    twice = groups[list(BANDS)].median().lt(TOO_DARK).any(axis=1)
    for wrong, said, step in (
        (still, "was not taken off", "Subtract it from all bands where the processing baseline is 04.00 or later"),
        (twice, "was taken off twice", "Leave it in harmonised collections (such as COPERNICUS/S2_HARMONIZED)"),
    ):
        if wrong.any():
            (place, late), era = wrong.index[wrong][0], f"{since:%Y-%m-%d}"
            what = f"Sentinel-2's offset of {extra:g} {said} at {kind} {place!r}, {'since' if late else 'before'} {era}"
            got = plain(f"a median of B10 of {cirrus[place, late]:g}, B10 above {extra:g} in {high[place, late]} rows")
            expected = plain(f"medians of digital numbers above {TOO_DARK:g}, of the cirrus band B10 below {extra:g}")
            raise FormatError(who, what, got=got, expected=expected, next_step=step)


def open_conus_patches(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
) -> xr.Dataset:
    """Open the regions' patches, joined along `region`; they are small and are loaded.

    `paths` are files ``region_NN.nc``; `start` and `end` the first and last day of the ten-day windows' starts.

    Returns
    -------
    xarray.Dataset
        ``sigma0(region, time, polarization, y, x)`` dB, ``incidence_angle(region, time, y, x)`` degree,
        ``reflectance(region, time, band, y, x)`` and ``soil_moisture(region, time, y, x)`` m3 m-3, float32. The files
        give no coordinates for `y` and `x`; they are the cells' indices. `time` is the first day of ten.
        ``regions_without_sentinel1`` (JSON) lists regions that have no backscatter at all, which stay NaN; ``masked_by`` of
        each variable counts what `believed` masked.

    Raises
    ------
    FormatError, CatalogError
        If a file is unreadable, lacks a variable, has other units, another size or other times than the first, or values
        that are in other units than stated or have Sentinel-2's offset; if the period is empty.
    """
    who, parts = "open_conus_patches", {}
    for path in check_paths(who, paths):
        match, where = _NAME.fullmatch(path.name), f"{who}({path.name})"
        if match is None or int(match[1]) in parts:
            what = "a file's name is not of this product" if match is None else f"region {match[1]} is given twice"
            raise FormatError(who, what, got=path.name, expected="region_01.nc")
        with foreign(where), open_netcdf(who, path, chunks=None) as file:
            raw = file.load()
        for name, units in _UNITS.items():
            if name not in raw or raw[name].dims != ("time", "y", "x") or raw[name].dtype.kind not in "iuf":
                what = f"{name!r} is absent, no number, or not over (time, y, x)"
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

    dims = ("region", "time", "y", "x")
    raw = raw[list(_UNITS)].transpose(*dims)
    frame = raw.to_dataframe(dim_order=list(dims)).reset_index().astype({"region": str})
    frame, masked = believed(who, frame, "region", "region")
    raw = raw.assign({name: (dims, frame[name].to_numpy().reshape(raw[name].shape)) for name in _UNITS})

    def stack(names: Sequence[str], dim: str) -> xr.DataArray:
        return xr.concat([raw[name] for name in names], dim=dim, combine_attrs="drop").assign_coords({dim: list(names)})

    dataset = xr.Dataset(
        {
            "sigma0": stack(_POLARIZATIONS, "polarization").transpose(*dims[:2], "polarization", "y", "x"),
            "incidence_angle": raw["angle"],
            "reflectance": (stack(BANDS, "band") * np.float32(1e-4)).transpose(*dims[:2], "band", "y", "x"),
            "soil_moisture": raw["ssm"] / np.float32(SMAP_LAYER_MM),
        }
    ).astype("float32")
    native = {"sigma0": _POLARIZATIONS, "incidence_angle": ("angle",), "reflectance": BANDS, "soil_moisture": ("ssm",)}
    for name, columns in native.items():
        spec = VARIABLES[name]
        dataset[name].attrs = {"units": spec.units, "long_name": spec.long_name, "native_units": _UNITS[columns[0]]}
        dataset[name].attrs["masked_by"] = (
            pd.DataFrame([masked.get(one, {}) for one in columns]).sum().astype(int).to_json()
        )
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


#: Native column to name, unit, and factor to it.
_CANONICAL: dict[str, tuple[str, str, float]] = {
    "VV": ("sigma0_VV", "dB", 1.0),
    "VH": ("sigma0_VH", "dB", 1.0),
    "angle": ("incidence_angle", "degree", 1.0),
    **{band: (f"reflectance_{band}", "1", 1e-4) for band in BANDS},
    "ssm": ("smap", "m3 m-3", 1.0 / SMAP_LAYER_MM),
    "fc": ("field_capacity", "m3 m-3", 0.01),
    "mtpi": ("mtpi", "m", 1.0),
    "soil_moisture_insitu": ("soil_moisture", "m3 m-3", 1.0),
}
_KEYS = ("network", "station", "lat", "lon", "start", "end")
_PLACE = ["network", "station", "lat", "lon"]


@dataclass
class StationTable:
    """Ten-day means at stations.

    ``sensors`` has one row a station: ids, place, ``nlcd`` (land-cover code, missing for a mean of codes), ``field_capacity``
    (m3 m-3), ``mtpi`` (topographic position index, m). ``table`` has one row a station and window, sorted, unique: ``sensor_id``,
    ``time`` and ``time_end`` (UTC, first and last instant), ``soil_moisture`` (in situ, m3 m-3), ``smap`` (nominal m3 m-3),
    ``sigma0_VV``, ``sigma0_VH`` (dB), ``incidence_angle`` (degree), ``reflectance_B1`` to ``reflectance_B12`` (1), NaN where
    missing. ``units`` is the unit of each column; ``report`` has ``native_units``, what `believed` ``masked``, and bad codes.
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

    Raises
    ------
    FormatError
        If there is not one CSV file, compressed or not, it is unreadable or empty, a column is missing or no number, a value
        cannot be in the stated unit, a station changes its place, or a time is no UTC date.

    Notes
    -----
    Nine stations of the public table have means of land-cover codes, taken as missing. In-situ means ignore ISMN's flags.
    """
    who = "open_station_table"
    files = check_paths(who, paths)
    if len(files) != 1:
        raise FormatError(who, "this product is one table", got=[path.name for path in files])
    where = f"{who}({files[0].name})"
    with foreign(where, "the table is unreadable"):
        raw = read_named_csv(files[0], ("network", "station", "start", "end"))
    check_present(where, (*_KEYS, *_CANONICAL, "landcover"), raw.columns)
    if raw.empty:
        raise FormatError(where, "the table has no rows")
    for name in ("lat", "lon", "landcover", *_CANONICAL):
        if not pd.api.types.is_numeric_dtype(raw[name].dtype):
            raise FormatError(where, f"column {name!r} is not numeric", got=str(raw[name].dtype))
    if incomplete := int(raw[list(_KEYS)].isna().any(axis=1).sum()):
        raise FormatError(where, "a row has no station, place or time", got=incomplete)
    for name, edge in (("lat", 90.0), ("lon", 180.0)):
        if raw[name].abs().max() > edge:
            got, what = (float(raw[name].min()), float(raw[name].max())), f"{name!r} cannot be in degrees"
            raise FormatError(where, what, got=got, expected=(-edge, edge))
    times = {}
    for native, name in (("start", "time"), ("end", "time_end")):
        with foreign(where, f"{native!r} is no date such as 2019-01-01"):
            parsed = pd.to_datetime(raw[native], utc=True, format="ISO8601")
            times[name] = parsed.dt.tz_localize(None).astype("datetime64[ns]")
    raw.insert(0, "sensor_id", raw["network"] + "__" + raw["station"])
    raw, masked = believed(where, raw.assign(time=times["time"]), "sensor_id")
    static = raw[["sensor_id", *_PLACE, "landcover", "fc", "mtpi"]].drop_duplicates().reset_index(drop=True)
    moved = static["sensor_id"].duplicated()
    if moved.any():
        raise FormatError(where, "a station changes its place or static values", got=static["sensor_id"][moved].iloc[0])
    codes = static["landcover"].where(static["landcover"].isin(NLCD_CODES))
    sensors = static[["sensor_id", *_PLACE]].assign(
        nlcd=codes.astype("Int16"), field_capacity=static["fc"] * 0.01, mtpi=static["mtpi"]
    )
    table = raw[["sensor_id"]].assign(**times)
    for native, (name, _, factor) in _CANONICAL.items():
        if name not in sensors:
            table[name] = raw[native] * factor
    table = table.sort_values(["sensor_id", "time"], ignore_index=True)
    sensors = sensors.sort_values("sensor_id", ignore_index=True)
    report = {
        "native_units": {native: one.units or one.meaning.units for native, one in _MEASURED.items()},
        "masked": masked,
        "land_cover_no_code": int((codes.isna() & static["landcover"].notna()).sum()),
        "rows": len(table),
        "rows_without_in_situ": int(table["soil_moisture"].isna().sum()),
    }
    units = {name: unit for name, unit, _ in _CANONICAL.values()}
    return StationTable(sensors, table, units, report, catalog_id, bool(synthetic)).check(where)
