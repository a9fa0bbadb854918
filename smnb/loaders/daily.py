"""Daily weather and soil moisture at places: SCAN and USCRN stations, and cells of SMAP with NLDAS-2 weather.

All give one form: ``precipitation`` (mm a day), ``air_temperature`` (°C) and soil moisture over ``(place, time)``, days without a
gap, and the coordinates ``lat``, ``lon``, ``elevation`` (m), ``clay``, ``silt`` and ``sand`` (%), missing NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from smnb.contract import FormatError, check_bytes, foreign, plain
from smnb.loaders import check_paths, check_present, finish, open_netcdf, read_named_csv, read_table

TEXTURE = ("clay", "silt", "sand")
SITE_COLUMNS = ("lat", "lon", "elevation", *TEXTURE)
_FEET = 0.3048
#: Values of daily weather that are believed; fills such as -99 and -9999 lie outside. ``soil_moisture`` as its contract has it.
BELIEVED = {"precipitation": (0.0, 1000.0), "air_temperature": (-80.0, 60.0), "soil_moisture": (0.0, 1.0)}
BELIEVED |= {"soil_temperature": (-60.0, 80.0), "lat": (-90.0, 90.0), "lon": (-180.0, 180.0)}
BELIEVED["elevation"] = (-450.0, 9000.0)
UNITS = {"precipitation": "mm day-1", "air_temperature": "degC", "soil_moisture": "m3 m-3", "soil_temperature": "degC"}
#: Native names of a cell's weather: ours, the factor and the offset that give our units.
CELL_WEATHER = {
    "APCP_FORA": ("precipitation", 24.0, 0.0),
    "TMP_2_FORA": ("air_temperature", 1.0, -273.15),
    "DSWRF_FORA": ("shortwave", 1.0, 0.0),
    "DLWRF_FORA": ("longwave", 1.0, 0.0),
    "SPFH_2_FORA": ("humidity", 1.0, 0.0),
}
_WIND = ("UGRD_10_FORA", "VGRD_10_FORA")
#: Constants of a cell that are taken as they are; land cover by its class of the IGBP.
CELL_CONSTANTS = ["flag_roughness", "Bulk", "flag_waterbody", "Capa", "flag_albedo", "NDVI"]
CELL_CONSTANTS += ["flag_vegDense", "flag_extraOrd"]
LAND_COVER = {"forest": (1, 5), "shrubs": (6, 7), "savanna": (8, 9), "grass": (10, 10), "crops": (12, 14)}
LAND_COVER["barren"] = (16, 16)


def known_texture(table: pd.DataFrame) -> pd.DataFrame:
    """Clay, silt and sand, %, as far as they are a soil's: 0/0/0, and three that do not add up to about 100, mean unknown."""
    texture = table[list(TEXTURE)].astype("float64")
    texture = texture.where((texture >= 0.0) & (texture <= 100.0))
    whole = texture.sum(axis=1)
    some = texture.isna().any(axis=1) & whole.between(0.0, 100.0, inclusive="right")
    return texture.where(whole.between(80.0, 120.0) | some)


def place_days(table: pd.DataFrame, places: pd.DataFrame, names: Sequence[str]) -> xr.Dataset:
    """A table of ``place``, ``date`` and some columns as arrays ``(place, time)`` over all days from its first to its last.

    Values that are not believed (`BELIEVED`) become missing; rows of one place and day are averaged. `places` has the column
    ``place`` and `SITE_COLUMNS`, in the order wanted.
    """
    days = table["date"].to_numpy("datetime64[D]").astype(np.int64)
    first, size = int(days.min()), int(np.ptp(days)) + 1
    check_bytes("place_days", "the days between the first and the last", 8 * size * len(places) * len(names), 2**33)
    rows = pd.Index(places["place"]).get_indexer(table["place"])
    at, data = rows * size + (days - first), {}
    for name in names:
        values = table[name].to_numpy("float64", na_value=np.nan)
        there = np.isfinite(values) & (rows >= 0)
        if name in BELIEVED:
            there &= (values >= BELIEVED[name][0]) & (values <= BELIEVED[name][1])
        count = np.bincount(at[there], minlength=len(places) * size)
        total = np.bincount(at[there], weights=values[there], minlength=count.size)
        mean = np.divide(total, count, out=np.full(count.size, np.nan), where=count > 0)
        data[name] = (("place", "time"), mean.reshape(len(places), size), {"units": UNITS.get(name, "1")})
    coords = {name: ("place", places[name].to_numpy("float64", na_value=np.nan)) for name in SITE_COLUMNS}
    time = np.arange(first, first + size).astype("datetime64[D]").astype("datetime64[ns]")
    return xr.Dataset(data, {"place": places["place"].to_numpy(str), "time": time, **coords})


def open_scan_daily(paths: Sequence[str | Path], *, catalog_id: str = "", synthetic: bool = False) -> xr.Dataset:
    """Open daily SCAN: two CSV files, one of days (``site, date, precip_mm, …``), one of overpasses that says where sites are.

    ``soil_moisture`` and ``soil_temperature`` are those at 2 inches (5 cm). Elevation is in feet in the file, and texture
    of 0/0/0 unknown.

    Raises
    ------
    FormatError
        If a file lacks columns, or there is none of days or none with places.
    """
    who, tables = "open_scan_daily", {}
    for path in check_paths(who, paths):
        with foreign(who, f"{path} is unreadable as CSV"):
            table = read_named_csv(Path(path), ["site", "date"])
        tables["days" if "precip_mm" in table else "sites"] = table
    if set(tables) != {"days", "sites"}:
        raise FormatError(who, "there must be a table of days and one with places", got=sorted(tables))
    days, sites = tables["days"], tables["sites"]
    native = {"precip_mm": "precipitation", "tair_c": "air_temperature", "sm_2in": "soil_moisture"}
    native |= {"tsoil_2in_c": "soil_temperature"}
    check_present(who, ("site", "date", *native), days)
    check_present(who, ("site", "lat", "lon", "elev", *(f"{name}_fract" for name in TEXTURE)), sites)
    ours = {"site": "place"} | {f"{name}_fract": name for name in TEXTURE}
    sites = sites.drop_duplicates("site").rename(columns=ours)
    sites = sites.assign(elevation=sites["elev"] * _FEET, **known_texture(sites)).sort_values("place")
    days = days.rename(columns={"site": "place", **native}).assign(date=pd.to_datetime(days["date"]))
    dataset = place_days(days[days["place"].isin(sites["place"])], sites, list(native.values()))
    return finish(dataset, who, catalog_id, synthetic, "USDA NRCS SCAN, daily", "feet to m", ["soil_moisture"])


def open_uscrn_weather(paths: Sequence[str | Path], *, catalog_id: str = "", synthetic: bool = False) -> xr.Dataset:
    """Open a parsed daily USCRN table with its weather: columns ``wban, lst_date, p_daily_calc, t_daily_avg, …``, Parquet."""
    who = "open_uscrn_weather"
    native = {"p_daily_calc": "precipitation", "t_daily_avg": "air_temperature"}
    native |= {"soil_moisture_5_daily": "soil_moisture", "soil_temp_5_daily": "soil_temperature"}
    tables = []
    for path in check_paths(who, paths):
        tables.append(read_table(Path(path)))
        check_present(who, ("wban", "lst_date", "longitude", "latitude", "t_daily_mean", *native), tables[-1])
    table = pd.concat(tables, ignore_index=True).rename(columns={"wban": "place", "lst_date": "date", **native})
    table["air_temperature"] = table["air_temperature"].fillna(table["t_daily_mean"])
    places = table.groupby("place", as_index=False)[["latitude", "longitude"]].first()
    places = places.rename(columns={"latitude": "lat", "longitude": "lon"}).reindex(columns=["place", *SITE_COLUMNS])
    dataset = place_days(table, places, list(native.values()))
    return finish(dataset, who, catalog_id, synthetic, "NOAA USCRN, daily", "daily01 with weather", ["soil_moisture"])


def open_weather_cells(paths: Sequence[str | Path], *, catalog_id: str = "", synthetic: bool = False) -> xr.Dataset:
    """Open cells of SMAP with daily NLDAS-2 weather, one NetCDF file; its times in any order, of any years.

    Returns
    -------
    xarray.Dataset
        Weather of `CELL_WEATHER` and ``wind`` over ``(place, time)``, ``soil_moisture`` (SMAP, morning) where the file has
        ``SMAP_AM``, and the cells' constants as coordinates. -9999 is missing. A variable that is missing is all missing, and
        named in ``attrs["absent"]``.

    Raises
    ------
    FormatError
        If the file has no dimensions ``cell`` and ``time``, no places, or neither precipitation nor temperature.
    """
    who = "open_weather_cells"
    (path,) = check_paths(who, paths)
    with open_netcdf(who, path) as raw:
        check_present(who, ("lat", "lon", "time", "APCP_FORA", "TMP_2_FORA"), raw.variables)
        check_present(who, ("cell", "time"), raw.sizes)
        if raw["time"].dtype.kind != "M":
            raise FormatError(who, "'time' is no time", got=str(raw["time"].dtype))
        table = raw.load()

    def native(name: str, dims: tuple[str, ...]) -> np.ndarray:
        if name not in table:
            return np.full([table.sizes[dim] for dim in dims], np.nan)
        if set(table[name].dims) != set(dims):
            raise FormatError(who, f"{name!r} has other dimensions", got=table[name].dims, expected=dims)
        values = table[name].transpose(*dims).to_numpy().astype("float64")
        return np.where(np.abs(values) < 9000.0, values, np.nan)

    both = ("cell", "time")
    data = {ours: factor * native(name, both) + shift for name, (ours, factor, shift) in CELL_WEATHER.items()}
    data["wind"] = np.hypot(*(native(name, both) for name in _WIND))
    if "SMAP_AM" in table:
        data["soil_moisture"] = native("SMAP_AM", both)
    for name in set(data) & set(BELIEVED):
        low, high = BELIEVED[name]
        data[name] = np.where((data[name] >= low) & (data[name] <= high), data[name], np.nan)
    cover = native("flag_landcover", ("cell",))
    constants = {name: native(name, ("cell",)) for name in ("lat", "lon", *CELL_CONSTANTS)}
    constants |= known_texture(pd.DataFrame({name: native(name.title(), ("cell",)) for name in TEXTURE})).items()
    constants["elevation"] = np.full(cover.size, np.nan)
    for name, (low, high) in LAND_COVER.items():
        constants[name] = np.where(np.isfinite(cover), (cover >= low) & (cover <= high), np.nan)
    dataset = xr.Dataset(
        {name: (("place", "time"), values, {"units": UNITS.get(name, "1")}) for name, values in data.items()},
        {name: ("place", np.asarray(values)) for name, values in constants.items()},
    )
    days, first = np.unique(table["time"].to_numpy().astype("datetime64[D]"), return_index=True)
    if np.isnat(days).any():
        raise FormatError(who, "a time is missing", expected=plain("a date of every time"))
    whole = np.arange(days[0], days[-1] + 1)
    dataset = dataset.isel(time=first).assign_coords(time=days.astype("datetime64[ns]"))
    dataset = dataset.reindex(time=whole.astype("datetime64[ns]"))
    wanted = (*CELL_WEATHER, *_WIND, "flag_landcover", *CELL_CONSTANTS, *(name.title() for name in TEXTURE))
    dataset.attrs["absent"] = ", ".join(name for name in wanted if name not in table)
    return finish(dataset, who, catalog_id, synthetic, "SMAP L3 with NLDAS-2 forcings", "mm a day, degC", list(data))
