"""Files of daily weather: a table of stations, or cells of SMAP, predicted with what `smnb.papers.stations.daily` trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from smnb.catalog.limits import check_csv
from smnb.contract import FormatError, foreign, plain
from smnb.loaders import check_present, open_netcdf
from smnb.loaders.daily import BELIEVED, TEXTURE, known_texture, open_weather_cells, place_days
from smnb.papers.stations.daily import ENOUGH, combine, daily_channels, known_share, predict_course, standard_error
from smnb.training import Trained

_SITES = {"elev_m": "elevation", **{f"{name}_percent": name for name in TEXTURE}}
_AT_ONCE = 40_000  # days of places whose channels are held at a time
_SHORT_DAYS = 365  # a series that is shorter says little of a place's climate


class DailyTable(NamedTuple):
    """A table of days as text (`native`), the same rows as numbers, its sites, and what was found on the way (`report`)."""

    native: pd.DataFrame
    rows: pd.DataFrame
    sites: pd.DataFrame
    report: dict[str, Any]


def _read(who: str, path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    """A CSV as text, with stripped names of columns and sites."""
    if not path.is_file():
        raise FormatError(who, "there is no such file", got=str(path), next_step="Check the path")
    with foreign(who, "the table is unreadable as CSV or CSV.gz"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, compression=check_csv(who, path))
    table.columns = table.columns.str.strip()
    check_present(who, needed, table.columns)
    if table.empty:
        raise FormatError(who, "the table has no rows", next_step="Check the export")
    return table


def _numbers(table: pd.DataFrame, names: dict[str, str], masked: dict[str, int]) -> pd.DataFrame:
    """Columns as numbers by our names; what is unreadable or not believed becomes missing and is counted."""
    result = pd.DataFrame(index=table.index)
    for name, ours in names.items():
        text = table[name].str.strip() if name in table else pd.Series("", table.index)
        values = pd.to_numeric(text, "coerce").astype("float64")
        low, high = BELIEVED.get(ours, (0.0, 100.0))
        result[ours] = values.where((values >= low) & (values <= high))
        empty = text.str.lower().isin(("", "nan", "na", "n/a", "null", "none", "--"))
        if lost := int((result[ours].isna() & ~empty).sum()):
            masked[name] = lost
    return result


def _celsius(text: pd.Series, units: dict[str, str]) -> pd.Series:
    """The column ``tair_c`` in °C: one in kelvin or °F, told by its range, is converted and `units` says so."""
    values = pd.to_numeric(text.str.strip(), "coerce")
    there = values[(values > -90.0) & (values < 400.0)]
    if len(there) and there.median() > 150.0:
        units["tair_c"] = "kelvin, converted to degC"
        return (values - 273.15).astype(str).fillna("")
    if len(there) and there.quantile(0.98) > 50.0:
        units["tair_c"] = "degF, converted to degC"
        return ((values - 32.0) / 1.8).astype(str).fillna("")
    return text


def read_daily(path: str | Path, sites: str | Path) -> DailyTable:
    """Read a table ``site, date, precip_mm, tair_c`` and one of sites ``site, lat, lon, elev_m, clay_percent, …``.

    The last four columns may be absent or empty. Texture in fractions and temperature in kelvin or °F are found by their range,
    converted, and said in the report; 0/0/0, fills such as -99 and -9999 and what is no number are missing, and counted.

    Raises
    ------
    FormatError
        If a file is absent, unreadable or empty, lacks a column, has a date that is none, or a site with two places.
    """
    who, masked, units = f"read_daily({Path(path).name})", {}, {}
    native = _read(who, Path(path), ("site", "date", "precip_mm", "tair_c"))
    with foreign(who, "'date' is no date", next_step="Give days such as 2017-05-31"):
        dates = pd.to_datetime(native["date"].str.strip(), utc=True, format="ISO8601")
    if dates.isna().any():
        step = f"Look at row {int(np.flatnonzero(dates.isna())[0]) + 2} of the file"
        raise FormatError(who, "a row has no date", got=plain(f"{int(dates.isna().sum())} rows"), next_step=step)
    table = native.assign(tair_c=_celsius(native["tair_c"], units))
    rows = _numbers(table, {"precip_mm": "precipitation", "tair_c": "air_temperature"}, masked)
    rows = rows.assign(place=_site(native["site"]), date=dates.dt.tz_localize(None).dt.floor("D"))
    about = f"read_daily({Path(sites).name})"
    listed = _read(about, Path(sites), ("site", "lat", "lon"))
    texture = listed.reindex(columns=list(_SITES)[1:], fill_value="").apply(
        lambda one: pd.to_numeric(one.str.strip(), "coerce")
    )
    if ((whole := texture.where(texture >= 0.0).sum(axis=1)).max() <= 1.05) and whole.max() > 0.0:
        units["clay, silt, sand"] = "fractions, converted to per cent"
        listed[list(texture)] = (texture * 100.0).where(texture >= 0.0, texture).astype(str).fillna("")
    places = _numbers(listed, {"lat": "lat", "lon": "lon", **_SITES}, masked)
    places = places.assign(place=_site(listed["site"]), **known_texture(places)).drop_duplicates()
    if len(twice := places.loc[places["place"].duplicated(), "place"]):
        raise FormatError(about, "a site has two places", got=twice.iloc[0], next_step="Leave one of each")
    unknown = sorted(set(rows["place"]) - set(places["place"]))
    places = pd.concat([places, pd.DataFrame({"place": unknown})], ignore_index=True)
    report = {
        "rows": len(rows),
        "stations": int(rows["place"].nunique()),
        "rows_repeated": int(rows.duplicated(["place", "date"]).sum()),
        "masked": masked,
        "units_found": units,
        "sites_not_listed": unknown,
    }
    return DailyTable(native, rows, places, report)


def _site(column: pd.Series) -> pd.Series:
    """Names of sites, so that 2005, " 2005" and 2005.0 are one."""
    return column.str.strip().str.replace(r"^(\d+)\.0+$", r"\1", regex=True)


def _predicted(trained: Trained, dataset: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, 90 % half-width (m3 m-3) and share of recent days with known precipitation, each (place, day)."""
    card = trained.card["training"]
    channels, names = daily_channels(dataset)
    if missing := sorted(set(trained.card["channels"]) - set(names)):
        step = "Use the version of smnb that it was made with"
        raise FormatError("predict_daily", "the checkpoint has other channels", got=missing[:5], next_step=step)
    shape, used = channels.shape[:2], [names.index(name) for name in trained.card["channels"]]
    course = predict_course(trained.model, channels[..., used]).reshape(-1, 3)
    place, known = np.repeat(np.arange(shape[0]), shape[1]), known_share(dataset)
    warm = channels[..., names.index("state:heat7")].ravel() > 1.0
    value = combine(course, place, stretch=card["stretch"], counted=warm)
    width = card["factor"] * standard_error(course, known.ravel())
    return value.reshape(shape), width.reshape(shape), known


def predict_daily(trained: Trained, table: DailyTable) -> pd.DataFrame:
    """Predict every row of a table of days.

    Returns
    -------
    DataFrame
        In the order of the rows: ``predicted``, ``low90``, ``high90`` (m3 m-3), never missing, and ``flag``, words joined by ";":
        ``no_weather`` (the day's precipitation and temperature are both missing), ``gaps`` (precipitation known on less than
        80 % of the last 90 days), ``short`` (a series of less than a year), ``no_soil``, ``no_place``. A station's prediction
        depends on its own rows alone.
    """
    rows, places, parts = table.rows, table.sites.set_index("place", drop=False), []
    spans = rows.groupby("place")["date"].agg(["min", "max"])
    for (first, last), group in spans.groupby(["min", "max"], sort=False):
        size = (last - first).days + 1
        for i in range(0, len(group), step := max(1, _AT_ONCE // size)):
            some = group.index[i : i + step]
            here = rows[rows["place"].isin(some)]
            dataset = place_days(here, places.loc[some], ("precipitation", "air_temperature"))
            value, width, known = _predicted(trained, dataset)
            number = some.get_indexer(here["place"])
            at = number, (here["date"] - first).dt.days.to_numpy()
            made = {"predicted": value, "low90": np.maximum(value - width, 0.0), "high90": value + width}
            words = {
                "no_weather": (dataset["precipitation"].isnull() & dataset["air_temperature"].isnull()).to_numpy()[at],
                "gaps": known[at] < ENOUGH,
                "short": np.full(len(here), size < _SHORT_DAYS),
                "no_soil": places.loc[some, list(TEXTURE)].isna().any(axis=1).to_numpy()[number],
                "no_place": places.loc[some, ["lat", "lon"]].isna().any(axis=1).to_numpy()[number],
            }
            flags = [
                ";".join(word for word, one in zip(words, row, strict=True) if one)
                for row in zip(*words.values(), strict=True)
            ]
            parts.append(pd.DataFrame({name: one[at] for name, one in made.items()} | {"flag": flags}, here.index))
    return pd.concat(parts).loc[rows.index]


def predict_cells(trained: Trained, path: Path) -> tuple[xr.Dataset, dict[str, Any]]:
    """Estimate SMAP's morning soil moisture of every cell and time of a file of `open_weather_cells`, and say what was missing.

    The dataset has ``SMAP_AM`` and its 90 % interval ``SMAP_AM_low90``, ``SMAP_AM_high90`` over ``(cell, time)``, in order.
    """
    weather = open_weather_cells([path])
    with open_netcdf("predict_cells", path) as raw:
        time = raw["time"].to_numpy()
    step = max(1, _AT_ONCE // weather.sizes["time"])
    cuts = [slice(i, i + step) for i in range(0, weather.sizes["place"], step)]
    parts = [_predicted(trained, weather.isel(place=some))[:2] for some in cuts]
    at = np.searchsorted(weather["time"].to_numpy(), time.astype("datetime64[D]"))
    value, width = (np.concatenate(one)[:, at].astype("float32") for one in zip(*parts, strict=True))
    names = {"SMAP_AM": value, "SMAP_AM_low90": np.maximum(value - width, 0.0), "SMAP_AM_high90": value + width}
    coords = {"lat": ("cell", weather["lat"].data), "lon": ("cell", weather["lon"].data), "time": time}
    about = {"units": "m3 m-3", "long_name": "soil moisture as SMAP would see it in the morning, from weather"}
    dataset = xr.Dataset({name: (("cell", "time"), one, about) for name, one in names.items()}, coords)
    missing = int(np.isnan(weather["precipitation"]).sum())
    return dataset, {**dataset.sizes, "precipitation_missing": missing, "absent": weather.attrs["absent"]}
