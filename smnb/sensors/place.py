"""What is known at the place of a sensor: its strata, the cell of a grid that it is in, and the values of a coarse product.

Texture: Soil Survey Manual 2017, USDA Handbook 18, chapter 3; strata: Batchu et al. 2023, doi:10.1175/JHM-D-22-0118.1, Tables 10
to 12; land cover: Buchhorn et al. 2020, doi:10.3390/rs12061044 (CGLS-LC100, collection 3), and ESA CCI (guide version 2, 2017).
"""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
import yaml
from numpy.typing import ArrayLike, NDArray

from smnb.contract import (
    ContractError,
    FormatError,
    ParameterError,
    check_choice,
    check_places,
    check_range,
    check_table,
    foreign,
    plain,
)
from smnb.grids import EASE_GRIDS, EaseWindow, great_circle_km
from smnb.grids.koppen import NONE, OCEAN, ismn_koppen_class, koppen_class, koppen_codes, koppen_group
from smnb.loaders.insitu import InSituTables
from smnb.sensors.match import TimeMatch, match_tables

_TABLES = yaml.safe_load(Path(__file__).with_name("strata.yaml").read_text(encoding="utf-8"))
STRATA = ("land_cover", "texture", "climate")  # columns of strata, in the order of paper 004's tables
TEXTURE_CLASSES = tuple(_TABLES["texture"])
LAND_COVER_GROUPS = tuple(_TABLES["land_cover"])
#: Group of each code by legend, "none" where it has none of paper 004's.
LEGENDS: dict[str, dict[int, str]] = {}
for _legend, _groups in _TABLES["codes"].items():
    LEGENDS[_legend] = {code: group for group, codes in _groups.items() for code in codes}
OUTSIDE = -1  # code of a point that is outside a raster, or where the raster has no data
#: How far the nearest land of the climate map may be from a sensor that the map has in the sea: about three of its pixels.
LAND_REACH_KM = 10.0

_KOPPEN_FIELDS = ("climate_KG_2017", "climate_KG")  # the archive's fields, the newest first
_CCI_FIELDS = ("lc_2010", "lc_2005", "lc_2000")
_SOIL = ("sand", "silt", "clay")
_EASE2 = {"ease2_36km": "M36", "ease2_9km": "M09", "ease2_3km": "M03"}
_PERCENT = {"percent": 1.0, "fraction": 100.0, "g kg-1": 0.1}
#: Sums of independently predicted fractions leave 100 % by some per cent; outside this they are no such fractions.
_SUM_RANGE = (50.0, 150.0)


def add_strata(
    sensors: pd.DataFrame,
    *,
    soil: pd.DataFrame | None = None,
    land_cover: str | PathLike[str] | None = None,
    on_unknown: str = "none",
) -> pd.DataFrame:
    """Add climate, texture and land cover to a table of sensors, and where each class comes from.

    What the table says already stays. Else the archive's own class is taken where it has one, else that of a map at the place,
    else, for climate, that of the nearest land on the map within `LAND_REACH_KM`: what stands on land is never in the sea.

    Parameters
    ----------
    sensors : DataFrame
        One row a sensor, with ``lat``, ``lon`` and what it has of the archive's static variables, as
        `smnb.loaders.insitu` names them: ``climate_KG_2017``, ``climate_KG``; ``lc_2010``, ``lc_2005``, ``lc_2000``;
        ``sand_fraction``, ``silt_fraction``, ``clay_fraction``.
    soil, land_cover : DataFrame, path-like, optional
        Maps: SoilGrids ``sand``, ``silt``, ``clay`` (g kg-1) at the sensors, row by row; a raster of CGLS-LC100 codes.
    on_unknown : {"none", "raise"}
        What to do with a code of land cover that its legend lacks.

    Returns
    -------
    DataFrame
        With ``climate`` (two-letter Köppen group), ``texture`` (USDA class) and ``land_cover`` (paper 004's group), "none" where
        nothing is known, and for each ``<stratum>_source``: "table", "archive", "map", "nearest land (2 km)" or "none".
        ``attrs["unknown_land_cover"]`` counts the sensors of each code that a legend lacks. `ParameterError` on soil fractions
        that are none, or an unknown code with ``on_unknown="raise"``.

    Examples
    --------
    >>> off_the_coast = pd.DataFrame({"lat": [40.0], "lon": [-124.15], "climate_KG": ["masked"]})
    >>> add_strata(off_the_coast)[["climate", "climate_source"]].values.tolist()
    [['Cs', 'nearest land (2 km)']]
    """
    result = sensors.reset_index(drop=True)
    for name in STRATA:
        _fill(result, name, "table", result.get(name, NONE))

    for field in (name for name in _KOPPEN_FIELDS if name in result):
        _fill(result, "climate", "archive", koppen_group(ismn_koppen_class(result[field].to_numpy(object))))
    _fill_climate_by_place(result)

    if {f"{part}_fraction" for part in _SOIL} <= set(result):
        parts = (result[f"{part}_fraction"].to_numpy("float64") for part in _SOIL)
        _fill(result, "texture", "archive", usda_texture(*parts, units="fraction"))
    if soil is not None:
        parts = (soil[part].to_numpy("float64") for part in _SOIL)
        _fill(result, "texture", "map", usda_texture(*parts, units="g kg-1"))

    unknown = pd.Series(np.nan, index=result.index)
    codes = [("archive", result[name], "esa_cci") for name in _CCI_FIELDS if name in result]
    if land_cover is not None:
        codes.append(("map", pd.Series(land_cover_codes(land_cover, result["lat"], result["lon"])), "cgls_lc100"))
    for source, given, scheme in codes:
        open_ones = given.astype("float64").where(result["land_cover"] == NONE)
        _fill(result, "land_cover", source, land_cover_group(open_ones, scheme, on_unknown=on_unknown))
        unknown = unknown.fillna(open_ones.where(~open_ones.isin([*LEGENDS[scheme], OUTSIDE])))
    counts = unknown.value_counts().sort_index()
    result.attrs["unknown_land_cover"] = {f"{code:g}": int(n) for code, n in counts.items()}
    return result.set_index(sensors.index)


def _fill(table: pd.DataFrame, stratum: str, source: str, classes: ArrayLike) -> None:
    """Set the stratum and its source where the table has no class yet and `classes` has one."""
    classes = pd.Series(classes, index=table.index, dtype=object).fillna(NONE).replace("Ocean", NONE)
    if f"{stratum}_source" not in table:
        for name in (stratum, f"{stratum}_source"):
            table[name] = pd.Series(NONE, table.index, dtype=object)
    elif source == "table":  # strata of an earlier call, with their sources
        table[stratum] = classes
        return
    new = (table[stratum] == NONE) & (classes != NONE)
    table.loc[new, stratum], table.loc[new, f"{stratum}_source"] = classes[new], source


def _fill_climate_by_place(table: pd.DataFrame) -> None:
    """Climate of the map's pixel at each sensor that has none yet, else of the nearest land within `LAND_REACH_KM`."""
    if not {"lat", "lon"} <= set(table):
        return
    here = (table["climate"] == NONE) & table["lat"].notna() & table["lon"].notna()
    lat, lon = (table.loc[here, name].astype("float64") for name in ("lat", "lon"))
    at_place = pd.Series(koppen_class(lat, lon), lat.index).replace("Ocean", NONE)
    _fill(table, "climate", "map", pd.Series(koppen_group(at_place), lat.index).reindex(table.index))
    for sensor in at_place.index[at_place == NONE]:
        group, km = _nearest_land(lat[sensor], lon[sensor])
        if group != NONE:
            table.loc[sensor, ["climate", "climate_source"]] = group, f"nearest land ({km:.0f} km)"


def _nearest_land(lat: float, lon: float) -> tuple[str, float]:
    """Group of the map's land pixel whose centre is nearest, and its distance in km; "none" beyond `LAND_REACH_KM`."""
    pixel, axes = 1.0 / 36.0, []
    for at, scale in ((lat, 1.0), (lon, max(np.cos(np.deg2rad(lat)), 0.01))):
        n = int(LAND_REACH_KM / (pixel * 111.0 * scale)) + 1
        axes.append((np.floor(at / pixel) + 0.5 + np.arange(-n, n + 1)) * pixel)
    lats, lons = (axis.ravel() for axis in np.meshgrid(*axes))
    lats, lons = np.clip(lats, -90.0, 90.0), (lons + 180.0) % 360.0 - 180.0
    codes = koppen_codes(lats, lons)
    km = np.where(codes == OCEAN, np.inf, great_circle_km(lat, lon, lats, lons))
    nearest = int(np.argmin(km))
    within = km[nearest] <= LAND_REACH_KM
    return (str(koppen_group(codes[[nearest]])[0]), float(km[nearest])) if within else (NONE, np.inf)


def usda_texture(sand: ArrayLike, silt: ArrayLike, clay: ArrayLike, *, units: str) -> NDArray[np.str_]:
    """USDA texture class (a name of `TEXTURE_CLASSES`) of each point; "none" where a fraction is missing or all are zero.

    Fractions of mass of 0.05-2 mm, 0.002-0.05 mm and < 0.002 mm in "percent", "fraction" or "g kg-1" (a guess would be wrong at
    the sandy end) are scaled to add to 100 %, as independently predicted maps (SoilGrids) do not; `ParameterError` for other
    units, a negative fraction, or a sum outside 50 to 150 %. A point on an edge belongs to the class whose rule of the manual
    includes it (e.g. 40 % clay is a clay).

    >>> usda_texture([40, 90, 5], [40, 5, 90], [20, 5, 5], units="percent").tolist()
    ['Loam', 'Sand', 'Silt']
    """
    who = "usda_texture"
    check_choice(who, "units", units, _PERCENT)
    parts = np.broadcast_arrays(*(np.asarray(part, np.float64) * _PERCENT[units] for part in (sand, silt, clay)))
    total = parts[0] + parts[1] + parts[2]
    known = np.isfinite(total) & (total != 0.0)
    wrong = known & ((np.min(parts, axis=0) < -1e-6) | (total < _SUM_RANGE[0]) | (total > _SUM_RANGE[1]))
    if wrong.any():
        got = tuple(float(part.ravel()[np.flatnonzero(wrong)[0]].round(4)) for part in parts)
        what = f"{int(wrong.sum())} points have a negative fraction, or fractions that do not add to about 100 %"
        step = f"Check the units: {units!r} was declared"
        raise ParameterError(who, what, got=got, expected=plain("sand, silt, clay in %"), next_step=step)
    scale = 100.0 / np.where(known, total, 100.0)
    # rounding keeps a fraction such as 0.4, which is 40.00000000000001 %, on the edge between classes where it belongs
    sand, silt, clay = (np.round(np.where(known, part * scale, 0.0), 9) for part in parts)
    rules = [
        (~known, NONE),
        ((clay >= 40) & (silt >= 40), "Silty clay"),
        ((clay >= 40) & (sand <= 45), "Clay"),
        ((clay >= 35) & (sand > 45), "Sandy clay"),
        ((clay >= 27) & (sand <= 20), "Silty clay loam"),
        ((clay >= 27) & (sand <= 45), "Clay loam"),
        ((clay >= 20) & (silt < 28) & (sand > 45), "Sandy clay loam"),
        ((silt >= 80) & (clay < 12), "Silt"),
        ((silt >= 50) & (clay < 27), "Silt loam"),
        ((clay >= 7) & (clay < 27) & (silt >= 28) & (sand <= 52), "Loam"),
        (silt + 1.5 * clay < 15, "Sand"),
        (silt + 2 * clay < 30, "Loamy sand"),
    ]
    return np.select([rule for rule, _ in rules], [name for _, name in rules], "Sandy loam").astype("U16")


def land_cover_group(codes: ArrayLike, scheme: str, *, on_unknown: str = "raise") -> NDArray[np.str_]:
    """Group (of `LAND_COVER_GROUPS`, or "none": water, ice, no data) of each land-cover code of "cgls_lc100" or "esa_cci".

    NaN and `OUTSIDE` have no group; codes in strings ("120"), as metadata hold them, are taken too. A code that the scheme does
    not have is a `ParameterError`, or "none" with ``on_unknown="none"``.

    >>> land_cover_group([10, 62, np.nan, 210], "esa_cci").tolist()
    ['Agriculture', 'Open forest', 'none', 'none']
    """
    who = "land_cover_group"
    check_choice(who, "scheme", scheme, LEGENDS)
    check_choice(who, "on_unknown", on_unknown, ("raise", "none"))
    try:
        numbers = np.asarray(codes, dtype=object)
        numbers = np.where(np.isin(numbers.astype(str), ("", "unknown", "None", "<NA>")), np.nan, numbers).astype(float)
    except ValueError as error:
        raise ParameterError(who, f"a code is not a number: {error}", expected=plain("codes such as 10")) from error
    table = {**LEGENDS[scheme], OUTSIDE: NONE}
    unknown = np.isfinite(numbers) & ~np.isin(numbers, list(table))
    if unknown.any() and on_unknown == "raise":
        what = f"{int(unknown.sum())} values have a code that {scheme} does not have"
        step, got = "Check the scheme, or pass on_unknown='none'", np.unique(numbers[unknown]).tolist()
        raise ParameterError(who, what, got=got, expected=sorted(table), next_step=step)
    return np.array([table.get(code, NONE) for code in numbers.ravel()], dtype="U16").reshape(numbers.shape)


def land_cover_codes(path: str | PathLike[str], lat: ArrayLike, lon: ArrayLike) -> NDArray[np.int32]:
    """Code of the pixel of a categorical raster that holds each point (WGS 84, shape (n,)); nothing is interpolated.

    The raster, such as a GeoTIFF of CGLS-LC100, is in any reference system that it states. `OUTSIDE` stands where a point is
    outside it, not finite, or has no data. `FormatError` if the file is no raster, or has no reference system or whole numbers.
    """
    # GDAL costs much to load, and most strata need none of it
    from rasterio.warp import transform as transform_points

    from smnb.loaders.rasters.images import open_image
    from smnb.loaders.rasters.options import FILLS, PRODUCTS

    who = f"land_cover_codes({Path(path).name})"
    lat, lon = (np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in (lat, lon))
    if lat.ndim != 1 or lat.shape != lon.shape:
        raise ParameterError(who, "lat and lon are not vectors of one length", got=(lat.shape, lon.shape))
    codes = np.full(lat.shape, OUTSIDE, dtype=np.int32)
    finite = np.flatnonzero(np.isfinite(lat) & np.isfinite(lon) & (np.abs(lat) <= 90.0))
    with foreign(who, "the raster is unreadable"), open_image(who, str(path)) as raster:
        if raster.crs is None:
            step = "Set it, for instance with rio edit-info"
            raise FormatError(who, "the raster states no coordinate reference system", next_step=step)
        if np.dtype(raster.dtypes[0]).kind not in "iu":
            raise FormatError(who, "the raster holds no whole numbers", got=raster.dtypes[0], expected="uint8")
        east, north = transform_points("EPSG:4326", raster.crs, lon[finite], lat[finite])
        pixels = raster.sample(zip(east, north, strict=True), 1, masked=True)  # what is outside is masked
        codes[finite] = [np.ma.filled(one.astype(np.int32), OUTSIDE)[0] for one in pixels]
    codes[np.isin(codes, (*FILLS, *PRODUCTS["landcover"]["land_cover"].fills))] = OUTSIDE
    return codes


def blocks(sensors: pd.DataFrame, degrees: float) -> list[str]:
    """Block of so many degrees that each row's ``lat`` and ``lon`` are in, as "row,column"; they begin at 90 S, 180 W."""
    check_range("blocks", "block_degrees", degrees, 0, ends="(]", units="degrees")
    lat, lon = (sensors[name].to_numpy("float64") for name in ("lat", "lon"))
    row = np.minimum(np.floor((lat + 90.0) / degrees), np.ceil(180.0 / degrees) - 1).astype(int)
    column = np.floor(((lon + 180.0) % 360.0) / degrees).astype(int)
    return [f"{i},{j}" for i, j in zip(row, column, strict=True)]


def cluster_labels(sensors: pd.DataFrame, clusters: str | None = None, *, degrees: float = 3.0) -> pd.Series:
    """What an interval draws again of each sensor: labels in the order of the rows, named by what they are.

    The column `clusters`; by default the column ``block``, else the block of so many degrees that the station is in (the middle
    of its sensors, so that a station stays whole), else the station, else the sensor.
    """
    if clusters is None and "block" not in sensors:
        station = [name for name in ("network", "station") if name in sensors]
        what = "station" if "station" in station else "sensor"
        rows = sensors[station if what == "station" else ["sensor_id"]].itertuples(index=False)
        units = pd.Series(["\0".join(map(str, row)) for row in rows], sensors.index, dtype=object, name=what)
        if not {"lat", "lon"} <= set(sensors):
            return units
        places = sensors[["lat", "lon"]].astype("float64").groupby(units.to_numpy()).transform("median").dropna()
        units.loc[places.index] = blocks(places, degrees)
        return units.rename(f"block of {degrees:g} degrees") if len(places) else units
    return sensors[clusters or "block"].astype(object)


def grid_cells(who: str, sensors: pd.DataFrame, grid: str) -> list[str]:
    """Cell of each sensor, as "row,column"."""
    if grid in _EASE2:
        index = EASE_GRIDS[_EASE2[grid]].rowcol(sensors["lat"], sensors["lon"], outside="mask")
        return [f"{row},{column}" for row, column in zip(*index, strict=True)]
    number = re.fullmatch(r"(\d*\.?\d+)deg", str(grid))
    if number is None or not 0.0 < float(number[1]) <= 90.0:
        raise ParameterError(who, "unknown coarse grid", got=grid, expected=["0.25deg (any size)", *_EASE2])
    return blocks(sensors, float(number[1]))


def product_at_sensors(
    product: xr.Dataset, sensors: pd.DataFrame, *, name: str = "soil_moisture", max_distance_km: float = 50.0
) -> pd.DataFrame:
    """Soil moisture of a product at sensors (``sensor_id``, ``lat``, ``lon``), as a long table that `match_tables` takes.

    The product is under the contract, with time: on ``(…, lat, lon)``, on ``(…, y, x)`` of an EASE-Grid 2.0 as SMAP's readers
    give, or on ``(location, …)`` with ``lat`` and ``lon`` as the readers of point series give; of these the nearest may be
    `max_distance_km` away. Where it has an ``observation_time`` of each value, as SMAP's days do, that is the time.

    One row a value that is there, by sensor and time: ``sensor_id`` (categorical), ``time``, `name` (float64), and the product's
    flags, its whole-number variables on the same dimensions. ``attrs["sensors_left_out"]``: how many sensors are beyond its
    reach. `ContractError` if the product has no soil moisture, time or place, a sensor is there twice, or all are out of its
    reach; `ParameterError` if one is not on the Earth.
    """
    who = "product_at_sensors"
    check_table(who, sensors, ["sensor_id", "lat", "lon"], unique="sensor_id")
    if "soil_moisture" not in product or "time" not in product["soil_moisture"].dims:
        raise ContractError(who, "no 'soil_moisture' with a time", got=sorted(map(str, product.data_vars)))
    lat, lon = (sensors[axis].to_numpy("float64") for axis in ("lat", "lon"))
    check_places(who, lat, lon)
    where, reached = _nearest(who, product, lat, (lon + 180.0) % 360.0 - 180.0, max_distance_km)
    if not reached.any():
        expected = plain(f"in a cell, or <= {max_distance_km:g} km from a location")
        raise ContractError(who, "no sensor is near the product", got=f"{len(sensors)} sensors", expected=expected)
    whole = [name for name, one in product.data_vars.items() if one.dtype.kind in "iu"]
    flags = [str(name) for name in whole if set(product[name].dims) == set(product["soil_moisture"].dims)]
    clock = [name for name in ("observation_time",) if name in product]
    at = {dim: xr.DataArray(index[reached], dims="point") for dim, index in where.items()}
    series = product[["soil_moisture", *flags, *clock]].isel(at).transpose("point", "time")
    found = {key: one.values for key, one in series.items()}
    # only what is there: a product of overpasses is mostly empty at any one place
    point, column = np.nonzero(~np.isnan(found["soil_moisture"]))
    time = found["observation_time"][point, column] if clock else product["time"].values[column]
    columns = {
        "sensor_id": pd.Categorical.from_codes(point, categories=sensors["sensor_id"].to_numpy()[reached]),
        "time": pd.DatetimeIndex(time).astype("datetime64[ns]"),
        name: found["soil_moisture"][point, column].astype("float64"),
        **{flag: found[flag][point, column] for flag in flags},
    }
    table = pd.DataFrame(columns)
    table.attrs["sensors_left_out"] = int((~reached).sum())
    return table


def match_product(product: xr.Dataset, insitu: InSituTables, *, window: str = "1h") -> tuple[pd.DataFrame, TimeMatch]:
    """Pair each value of a coarse product at a sensor with the nearest reading in time: data points as paper 004 has them.

    Ten-day means (attribute ``ten_day_means``) are paired with the mean of the readings of their ten days, at sensors within 5
    km of their stations. `window` is how far the reading may be in time; the paper's strictest bound is 1 h. The pairs have
    ``sensor_id``, ``time`` (the product's), ``predicted`` (the product) and ``observed`` (both m3 m-3), and
    ``attrs["sensors_left_out"]``; with them comes what matched. Product and errors as in `product_at_sensors` and
    `match_tables`.
    """
    method, reach = "nearest", 50.0
    if product.attrs.get("ten_day_means"):
        window, method, reach = "5D", "mean", 5.0
    left = product_at_sensors(product, insitu.sensors, name="predicted", max_distance_km=reach)
    readings = insitu.readings[["sensor_id", "time", "soil_moisture"]]
    pairs, found = match_tables(left, readings, value="soil_moisture", window=window, method=method, name="observed")
    pairs = pairs.loc[pairs["observed"].notna(), ["sensor_id", "time", "predicted", "observed"]].reset_index(drop=True)
    pairs.attrs["sensors_left_out"] = left.attrs["sensors_left_out"]
    return pairs, found


def _nearest(
    who: str, product: xr.Dataset, lat: NDArray[np.float64], lon: NDArray[np.float64], max_distance_km: float
) -> tuple[dict[str, NDArray[np.intp]], NDArray[np.bool_]]:
    """Position of the nearest cell or location by dimension, and whether the product reaches the point."""
    if {"lat", "lon"} <= set(product.dims):
        rows, in_row = _in_axis(product["lat"].values.astype(float), lat)
        columns, in_column = _in_axis(product["lon"].values.astype(float), lon, period=360.0)
        return {"lat": rows, "lon": columns}, in_row & in_column
    if {"y", "x"} <= set(product.dims):
        window = EaseWindow.from_dataset(product)
        row, col = window.grid.rowcol(lat, lon, outside="mask")
        inside = (row >= window.row_start) & (row < window.row_stop)
        inside &= (col >= window.col_start) & (col < window.col_stop)
        return {"y": row - window.row_start, "x": col - window.col_start}, inside
    if "location" in product.dims and {"lat", "lon"} <= set(product.coords):
        own_lat, own_lon = product["lat"].values.astype(float), product["lon"].values.astype(float)
        distance = great_circle_km(own_lat[None, :], own_lon[None, :], lat[:, None], lon[:, None])
        return {"location": np.argmin(distance, axis=1)}, distance.min(axis=1) <= max_distance_km
    raise ContractError(who, "the Dataset has neither (lat, lon) nor (y, x) nor locations", got=tuple(product.dims))


def _in_axis(
    axis: NDArray[np.float64], wanted: NDArray[np.float64], *, period: float | None = None
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Nearest centre on an ascending axis, and whether its cell, which reaches half a step to either side, holds the point."""
    step = float(np.diff(axis).min()) if axis.size > 1 else 1.0
    centres = axis if period is None else np.concatenate([[axis[-1] - period], axis, [axis[0] + period]])
    upper = np.clip(np.searchsorted(centres, wanted, side="right"), 1, max(centres.size - 1, 1))
    upper, lower = np.minimum(upper, centres.size - 1), upper - 1
    at = np.where(wanted - centres[lower] > centres[upper] - wanted, upper, lower)
    inside = np.abs(wanted - centres[at]) <= 0.5 * step + 1e-9
    return (at if period is None else (at - 1) % axis.size), inside
