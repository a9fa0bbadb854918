"""What a source consists of, by its name: readings, narrowed by flags, coarse products, and predictions to score."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import yaml
from numpy.typing import NDArray

from smnb.catalog import SANDBOX_MARKER, Catalog, data_root
from smnb.contract import ContractError, ParameterError, check_choice, is_synthetic, plain
from smnb.grids import great_circle_km
from smnb.grids.koppen import NONE
from smnb.loaders.conus import StationTable
from smnb.loaders.insitu import InSituTables, flag_policy, index_archive, open_insitu
from smnb.sensors.match import match_tables
from smnb.sensors.place import LEGENDS, STRATA, add_strata, blocks, match_product, product_at_sensors
from smnb.sensors.predictions import check_predictions, read_predictions
from smnb.sensors.splits import folds

#: Models at the stations of the ten-day table, and what a figure calls them.
_CONUS_MODELS = ("SMAP/50", "Linear on SMAP")
_PLACE = ("network", "station", "lat", "lon")
_WITH_SOURCES = [f"{name}{end}" for name in STRATA for end in ("", "_source")]


@dataclass(frozen=True)
class SensorSource:
    """What one choice of in-situ data consists of, by catalog ids; `title` is what its scores are called."""

    title: str
    insitu: Sequence[str]
    #: Coarse ones as series at the sensors, by name: the first two are scored, and are independent of each other.
    products: Mapping[str, str] = field(default_factory=dict)
    stations: str | None = None  # a table of ten-day means at some of the sensors' stations, with SMAP: scored instead
    images: str | None = None  # patches of imagery, which need not lie at the sensors

    @property
    def ids(self) -> list[str]:
        """All catalog ids."""
        return [*self.insitu, *self.products.values(), *(one for one in (self.stations, self.images) if one)]


_TABLE = yaml.safe_load(Path(__file__).with_name("sources.yaml").read_text(encoding="utf-8"))
#: Choices of the notebooks' parameter ``source``.
SOURCES: dict[str, SensorSource] = {name: SensorSource(**facts) for name, facts in _TABLE.items()}


def open_sensors(source: str, catalog: Catalog, root: Path, **options: Any) -> InSituTables:
    """Open all in-situ entries of a source (a name of `SOURCES`) through the catalog; `ParameterError` for an unknown one.

    Options are those of `smnb.loaders.insitu.open_insitu`: ``depth``, ``start``, ``end``. ``flags`` is "all" unless given;
    narrow it with `apply_flags`, which leaves the removed readings to look at.
    """
    check_choice("open_sensors", "source", source, sorted(SOURCES))
    chosen = SOURCES[source]
    paths = [path for one in chosen.insitu for path in catalog.resolve(one, root)]
    synthetic = (data_root(root) / SANDBOX_MARKER).is_file()
    return open_insitu(paths, catalog_id="+".join(chosen.insitu), synthetic=synthetic, **{"flags": "all", **options})


def open_products(source: str, catalog: Catalog, root: Path, **options: Any) -> dict[str, xr.Dataset]:
    """Open the coarse products of a source as series by location, by name; none where the source has none.

    Arguments as `open_sensors`; options are those of the products' loaders: ``start``, ``end``. Ten-day means (attribute
    ``ten_day_means``) lie at some stations only.
    """
    check_choice("open_products", "source", source, sorted(SOURCES))
    chosen = SOURCES[source]
    opened = {name: catalog.open(one, root, **options) for name, one in chosen.products.items()}
    if chosen.stations is not None:
        opened["SMAP / 50"] = _station_series(catalog.open(chosen.stations, root))
    return opened


def _station_series(stations: StationTable) -> xr.Dataset:
    """SMAP of a table of ten-day means as series by location; the time is the middle of the ten days."""
    wide = stations.table.pivot(index="sensor_id", columns="time", values="smap")
    places = stations.sensors.set_index("sensor_id").loc[wide.index]
    return xr.Dataset(
        {"soil_moisture": (("location", "time"), wide.to_numpy("float32"), {"units": "m3 m-3"})},
        coords={
            "time": wide.columns.to_numpy("datetime64[ns]") + np.timedelta64(5, "D"),
            **{name: ("location", places[name].to_numpy("float64")) for name in ("lat", "lon")},
        },
        attrs={"ten_day_means": 1},
    )


def sensor_rows(tables: InSituTables) -> NDArray[np.intp]:
    """Row of the sensor table of each reading."""
    ids = tables.readings["sensor_id"].astype("category")
    place = pd.Index(tables.sensors["sensor_id"]).get_indexer(ids.cat.categories)
    return place[ids.cat.codes.to_numpy()]


def apply_flags(tables: InSituTables, flags: str | Sequence[str]) -> InSituTables:
    """Keep readings (opened with every flag) by `smnb.loaders.insitu.flag_policy`, and sensors that have any left.

    The sensors' ``n_readings``, ``first_reading`` and ``last_reading`` are of what is kept; `ContractError` if nothing is.
    """
    policy = flag_policy(flags)
    flag = tables.readings["flag"].cat
    keep = np.array([policy.keeps(one) for one in flag.categories], dtype=bool)[flag.codes.to_numpy()]
    if not keep.any():
        raise ContractError("apply_flags", "no reading is left", got=policy.name, next_step="Widen the flags")
    readings = tables.readings[keep].reset_index(drop=True)
    readings["sensor_id"] = readings["sensor_id"].cat.remove_unused_categories()
    kept = readings.groupby("sensor_id", observed=True)["time"].agg(["size", "min", "max"])
    sensors = tables.sensors[tables.sensors["sensor_id"].isin(kept.index)].reset_index(drop=True)
    for name, column in (("n_readings", "size"), ("first_reading", "min"), ("last_reading", "max")):
        sensors[name] = kept[column].reindex(sensors["sensor_id"]).to_numpy()
    return InSituTables(sensors, readings, tables.report, tables.catalog_id, tables.synthetic).check("apply_flags")


@dataclass
class OpenedPredictions:
    """Tables of predictions of one source."""

    tables: dict[str, pd.DataFrame]  # by model
    title: str
    independent: bool  # whether the first two models have independent errors, as triple collocation asks
    notes: dict[str, Any]  # counts: what was matched, joined and left out
    ids: list[str]  # catalog ids that were read; none for files

    @property
    def synthetic(self) -> bool:
        """Whether any of the data were simulated."""
        return any(bool(table.attrs.get("synthetic", False)) for table in self.tables.values())

    @property
    def strata(self) -> list[str]:
        """Strata that all tables have; `ContractError` if there is none."""
        found = [name for name in STRATA if all(name in table for table in self.tables.values())]
        if not found:
            what = f"the tables have no column in common of {', '.join(STRATA)}, nor the climate by lat and lon"
            step = "Add them, as in predictions_1.parquet, which smnb run 07 writes"
            raise ContractError("strata", what, got=list(next(iter(self.tables.values()))), next_step=step)
        return found


def open_predictions(
    source: str,
    catalog: Catalog,
    root: str | os.PathLike[str] | None = None,
    *,
    predictions: str = "",
    other: str = "",
    window: str = "1h",
    block_degrees: float = 3.0,
    seed: int = 0,
) -> OpenedPredictions:
    """Open the predictions of a source, or of files; `ParameterError` for an unknown source, or `other` without `predictions`.

    Parameters ---------- source : {"sandbox", "hawaii", "conus"} ``sandbox`` and ``hawaii``: SMAP at its overpasses with the
    reading nearest in time (within `window`), and ERA5-Land at the same rows. ``conus``: SMAP/50, and a line on it fitted in
    other blocks, folds by `block_degrees` and `seed`. predictions, other : str Tables of predictions of one or two models
    (`read_predictions`), in place of the source's.
    """
    who = "open_predictions"
    if other and not predictions:
        raise ParameterError(who, "'other' is compared with 'predictions', which is empty", got=other)
    if predictions:
        return _from_files(who, [path for path in (predictions, other) if path])
    check_choice(who, "source", source, sorted(SOURCES))
    chosen = SOURCES[source]
    if chosen.stations is None:
        return _coarse(source, catalog, root, window)
    archive = index_archive(catalog.resolve(chosen.insitu[0], root)[0])
    return _at_stations(chosen, catalog.open(chosen.stations, root), archive, block_degrees, seed)


def _from_files(who: str, paths: list[str]) -> OpenedPredictions:
    tables: dict[str, pd.DataFrame] = {}
    for path in paths:
        table = read_predictions(path)
        name = str(table.attrs["model"])
        if name in tables:
            step = "Give the second another name in its column model"
            raise ParameterError(who, "the two tables are of one model", got=name, next_step=step)
        if "climate" not in table and {"lat", "lon"} <= set(table.columns):
            table = _join(table, add_strata(table.drop_duplicates("sensor_id")), ["climate", "climate_source"])
        tables[name] = table
    notes: dict[str, Any] = {f"rows, {name}": len(table) for name, table in tables.items()}
    lacking = {name: ", ".join(one for one in STRATA if one not in table) for name, table in tables.items()}
    notes |= {f"no column, {name}": lacks for name, lacks in lacking.items() if lacks}
    return OpenedPredictions(tables, " and ".join(tables), False, notes, [])


def _join(table: pd.DataFrame, sensors: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Bring columns of the sensors to the rows of a table of predictions, whose attributes stay."""
    result = table.merge(sensors[["sensor_id", *columns]].astype({"sensor_id": str}), on="sensor_id", how="left")
    result.attrs = dict(table.attrs)
    return result


def _coarse(source: str, catalog: Catalog, root: Any, window: str) -> OpenedPredictions:
    chosen = SOURCES[source]
    first, second = list(chosen.products)[:2]
    insitu = open_sensors(source, catalog, root, flags="paper")
    table = predictions_of(catalog.open(chosen.products[first], root), insitu, model=first, window=window)
    # the reanalysis has one value a day: half a day to either side is the nearest of them
    other = predictions_at(table, catalog.open(chosen.products[second], root), model=second, window="12h")
    notes = {
        "sensors": table["sensor_id"].nunique(),
        "sensors out of the product's reach": table.attrs["sensors_left_out"],
        f"{first}: values, and of these with a reading within {window}": "{1:,}, {0:,}".format(*table.attrs["matched"]),
        f"{second}: of these rows with a value within 12h": f"{other.attrs['matched'][0]:,}",
    }
    ids = [*chosen.insitu, chosen.products[first], chosen.products[second]]
    return OpenedPredictions({first: table, second: other}, chosen.title, True, notes, ids)


def predictions_of(product: xr.Dataset, insitu: InSituTables, *, model: str, window: str = "1h") -> pd.DataFrame:
    """Take a coarse product at the sensors as predictions: one row a value of the product that a reading is near to.

    `product` is as `product_at_sensors` takes it; each of its values counts once, however many readings are near it.
    `window` is how far the nearest reading may be in time; `model` is what tables and figures call it.

    The table is as `check_predictions`, with ``network``, ``station``, ``lat``, ``lon`` and the strata with their sources;
    ``attrs``: ``model``, ``synthetic``, ``matched`` (values matched and of how many), ``sensors_left_out``. `ContractError` if
    no sensor is in the product's reach, or nothing matches.
    """
    who = "predictions_of"
    pairs, found = match_product(product, insitu, window=window)
    if pairs.empty:
        step = "Widen the window, or compare the periods"
        what = f"no value of {model} has a reading near it within {window}"
        raise ContractError(who, what, got=plain(f"{found.n_left} values"), next_step=step)
    sensors = add_strata(insitu.sensors[insitu.sensors["sensor_id"].isin(pairs["sensor_id"])])
    table = _join(pairs.astype({"sensor_id": str}), sensors, [*_PLACE, *_WITH_SOURCES])
    table.attrs = {
        "model": model,
        "synthetic": bool(insitu.synthetic or is_synthetic(product)),
        "matched": [found.n_matched, found.n_left],
        "sensors_left_out": pairs.attrs["sensors_left_out"],
    }
    return check_predictions(table, who=who)


def predictions_at(table: pd.DataFrame, product: xr.Dataset, *, model: str, window: str) -> pd.DataFrame:
    """Another product's values at the rows of a table of predictions, so that both are held against the same readings.

    Only ``predicted`` of the table (which has ``lat`` and ``lon``) changes: NaN where the product has nothing within `window`
    of the row. ``attrs["matched"]`` counts, ``attrs["model"]`` is the new name.
    """
    values = product_at_sensors(product, table.drop_duplicates("sensor_id"), name="predicted")
    matched, found = match_tables(table[["sensor_id", "time"]], values, value="predicted", window=window)
    result = table.assign(predicted=matched["predicted"].to_numpy("float64"))
    synthetic = bool(table.attrs.get("synthetic", False) or is_synthetic(product))
    counts = [found.n_matched, found.n_left]
    result.attrs = {**table.attrs, "model": model, "matched": counts, "synthetic": synthetic}
    return check_predictions(result, who="predictions_at")


def _at_stations(
    chosen: SensorSource, stations: StationTable, archive: pd.DataFrame, block_degrees: float, seed: int
) -> OpenedPredictions:
    """SMAP/50 at the stations of the ten-day table as it is, and through lines fitted in other blocks."""
    strata = station_strata(stations, archive)
    as_it_is, line = (_join(one, strata, _WITH_SOURCES) for one in station_predictions(stations, block_degrees, seed))
    constant = stations.table.groupby("sensor_id")["smap"].nunique() == 1
    slopes = line.drop_duplicates("fold")["slope_fitted"]
    notes = {
        "stations": len(strata),
        "of these in the ISMN archive, for texture and land cover": int(strata["joined"].sum()),
        "climate by the archive's field, else by place": int((strata["climate_source"] == "archive").sum()),
        "rows, and without an in-situ value": f"{stations.report['rows']:,}, {stations.report['rows_without_in_situ']:,}",
        "stations where SMAP never changes": ", ".join(constant[constant].index.str.split("__").str[1]) or "none",
        f"blocks of {block_degrees:g} degrees": as_it_is["block"].nunique(),
        "slopes of the fitted lines": f"{slopes.min():.3f} to {slopes.max():.3f}",
    }
    tables = dict(zip(_CONUS_MODELS, (as_it_is, line), strict=True))
    return OpenedPredictions(tables, chosen.title, False, notes, [*chosen.insitu, str(chosen.stations)])


def station_strata(stations: StationTable, archive: pd.DataFrame) -> pd.DataFrame:
    """Strata of the stations of the ten-day table, from an ISMN archive's sensors of the same name, else from the place.

    As `add_strata`, with ``joined`` (whether the archive has the station). A station that it does not have gets the climate
    by location, the land cover by its NLCD code, and no texture. `ContractError` if two namesakes are more than 5 km apart.
    """
    sensors = archive[archive["variable"] == "soil_moisture"].drop_duplicates(["network", "station"])
    found = stations.sensors.merge(
        sensors.drop(columns="sensor_id"), "left", ["network", "station"], suffixes=("", "_archive"), indicator=True
    )
    joined = (found["_merge"] == "both").to_numpy()
    apart = great_circle_km(*(found[n].to_numpy(float) for n in ("lat", "lon", "lat_archive", "lon_archive")))
    if (apart[joined] > 5.0).any():
        worst = int(np.nanargmax(np.where(joined, apart, -1.0)))
        got = f"{found['sensor_id'][worst]}: {apart[worst]:.0f} km"
        raise ContractError("station_strata", "a station and its namesake in the archive are apart", got=got)
    strata = add_strata(found)
    by_code = found["nlcd"].map(LEGENDS["nlcd"], na_action="ignore").astype(object).fillna(NONE)
    strata.loc[~joined, "land_cover"] = by_code[~joined]
    strata.loc[~joined & (by_code != NONE), "land_cover_source"] = "nlcd"
    return strata.assign(joined=joined)


def station_predictions(stations: StationTable, block_degrees: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """SMAP at the stations of the ten-day table: ssm/50 as it is, nominal m3 m-3, and through a line fitted elsewhere.

    The line is ordinary least squares of the in-situ values on it, one a fold of ten by blocks of so many degrees, fitted at the
    stations of other blocks: no value of a station's own, nor of one within 50 km, enters its line. Both tables are as
    `check_predictions`, at the rows that have both values, with ``block`` (what the folds kept together) and, of the line,
    ``fold``, ``slope_fitted`` and ``intercept_fitted``. ``time`` is the first instant of ten days.
    """
    rows = stations.table.dropna(subset=["soil_moisture", "smap"])
    rows = rows[["sensor_id", "time", "soil_moisture", "smap"]].rename(columns={"soil_moisture": "observed"})
    table = rows.rename(columns={"smap": "predicted"}).merge(stations.sensors[["sensor_id", *_PLACE]], on="sensor_id")
    table["block"] = blocks(table, block_degrees)
    table.attrs = {"model": _CONUS_MODELS[0], "synthetic": stations.synthetic}
    line = table.assign(fold=-1, slope_fitted=np.nan, intercept_fitted=np.nan)
    for number, fold in enumerate(folds(stations.sensors, "block", seed=seed, block_degrees=block_degrees)):
        side = table["sensor_id"].map(fold.assignment)
        train, test = table[side == "train"], side == "test"
        slope, intercept = np.polyfit(train["predicted"], train["observed"], 1)
        line.loc[test, "predicted"] = slope * table.loc[test, "predicted"] + intercept
        line.loc[test, ["fold", "slope_fitted", "intercept_fitted"]] = number, slope, intercept
    line.attrs = {**table.attrs, "model": _CONUS_MODELS[1]}
    return check_predictions(table), check_predictions(line)
