"""Predictions to score by the name of a source: the sandbox's or Hawaii's coarse products, the CONUS stations, or files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from smnb.catalog import Catalog
from smnb.contract import ParameterError
from smnb.loaders.insitu import index_archive
from smnb.sensors.predictions.sensor_strata import conus_station_strata, join_strata
from smnb.sensors.predictions.sources import (
    CONUS_MODELS,
    coarse_product_predictions,
    conus_station_predictions,
    predictions_at,
)
from smnb.sensors.predictions.tables import check_predictions, read_predictions
from smnb.sensors.strata import STRATA, add_strata

_COARSE = {"SMAP L3": "smap_l3_points", "ERA5-Land": "era5_land_points"}
#: Sources by name: the catalog's entries that each reads.
SOURCES: dict[str, tuple[str, ...]] = {
    "sandbox": ("ismn_archive", "uscrn_hourly", *_COARSE.values()),
    "hawaii": ("ismn_hawaii", *_COARSE.values()),
    "conus": ("conus_stations", "ismn_conus"),
}
_TITLES = {
    "sandbox": "Coarse products at the sandbox's sensors",
    "hawaii": "Coarse products at Hawaii",
    "conus": "SMAP at CONUS stations, ten-day means",
}


@dataclass
class OpenedPredictions:
    """Tables of predictions of one source."""

    tables: dict[str, pd.DataFrame]
    """By model."""
    title: str
    clusters: str
    """Column that intervals of averages draw again."""
    independent: bool
    """Whether the first two models have independent errors, as triple collocation asks."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Counts: what was matched, joined and left out."""

    @property
    def synthetic(self) -> bool:
        """Whether any of the data were simulated."""
        return any(bool(table.attrs.get("synthetic", False)) for table in self.tables.values())

    @property
    def strata(self) -> list[str]:
        """Strata that all tables have."""
        return [name for name in STRATA if all(name in table for table in self.tables.values())]


def open_predictions(
    source: str,
    catalog: Catalog,
    root: str | os.PathLike[str] | None = None,
    *,
    predictions: str = "",
    other: str = "",
    window: str = "1h",
    block_degrees: float = 3.0,
    k: int = 10,
    seed: int = 0,
) -> OpenedPredictions:
    """Open the predictions of a source, or of files.

    Parameters
    ----------
    source : {"sandbox", "hawaii", "conus"}
        ``sandbox`` and ``hawaii``: SMAP at its overpasses with the reading nearest in time, and ERA5-Land at the same rows.
        ``conus``: SMAP/50, and a line on it fitted in other blocks. Not looked at where files are given.
    catalog : Catalog
    root : path-like, optional
        Data root.
    predictions, other : str
        Tables of predictions of one or two models (`read_predictions`); empty for the source's.
    window : str
        Between an overpass and its reading.
    block_degrees, k, seed
        Of ``conus``'s folds.

    Returns
    -------
    OpenedPredictions

    Raises
    ------
    ParameterError
        For an unknown source, or `other` without `predictions`.
    """
    who = "open_predictions"
    if other and not predictions:
        raise ParameterError(who, "'other' is compared with 'predictions', which is empty", got=other)
    if predictions:
        return _from_files(who, [path for path in (predictions, other) if path])
    if source not in SOURCES:
        raise ParameterError(who, "unknown source", got=source, expected=sorted(SOURCES))
    if source == "conus":
        return _conus(catalog, root, block_degrees=block_degrees, k=k, seed=seed)
    return _coarse(source, catalog, root, window)


def _from_files(who: str, paths: list[str]) -> OpenedPredictions:
    tables: dict[str, pd.DataFrame] = {}
    for path in paths:
        table = read_predictions(path)
        name = str(table.attrs["model"])
        if name in tables:
            raise ParameterError(
                who,
                "the two tables are of one model",
                got=name,
                next_step="Give the second another name in its column model",
            )
        if "climate" not in table and {"lat", "lon"} <= set(table.columns):
            sensors = add_strata(table.drop_duplicates("sensor_id")).set_index("sensor_id")
            for column in ("climate", "climate_source"):
                table[column] = table["sensor_id"].map(sensors[column])
        tables[name] = table
    first = next(iter(tables.values()))
    cluster = next(name for name in ("block", "station", "sensor_id") if name in first)
    return OpenedPredictions(
        tables, " and ".join(tables), cluster, False, {f"rows, {n}": len(t) for n, t in tables.items()}
    )


def _coarse(source: str, catalog: Catalog, root: Any, window: str) -> OpenedPredictions:
    entries = SOURCES[source]
    (first, entry), *others = _COARSE.items()
    product = catalog.open(entry, root)
    parts = [
        coarse_product_predictions(catalog.open(one, root), product, model=first, window=window)
        for one in entries
        if one not in _COARSE.values()
    ]
    table = pd.concat(parts, ignore_index=True)
    table.attrs = {**parts[0].attrs, "synthetic": any(part.attrs["synthetic"] for part in parts)}
    table = check_predictions(table, who="open_predictions")
    tables = {first: table}
    matched = np.sum([part.attrs["matched"] for part in parts], axis=0)
    notes = {
        "sensors": table["sensor_id"].nunique(),
        "sensors out of the product's reach": sum(part.attrs["sensors_left_out"] for part in parts),
        f"{first}: values, and of these with a reading within {window}": f"{matched[1]:,}, {matched[0]:,}",
    }
    for name, one in others:
        # the reanalysis has one value a day: half a day to either side is the nearest of them
        tables[name] = predictions_at(table, catalog.open(one, root), model=name, window="12h")
        notes[f"{name}: of these rows with a value within 12h"] = f"{tables[name].attrs['matched'][0]:,}"
    return OpenedPredictions(tables, _TITLES[source], "station", True, notes)


def _conus(catalog: Catalog, root: Any, *, block_degrees: float, k: int, seed: int) -> OpenedPredictions:
    stations = catalog.open("conus_stations", root)
    strata = conus_station_strata(stations, index_archive(catalog.resolve("ismn_conus", root)[0]))
    options = {"block_degrees": block_degrees, "k": k, "seed": seed}
    tables = {
        CONUS_MODELS[model]: join_strata(conus_station_predictions(stations, model=model, **options), strata)
        for model in CONUS_MODELS
    }
    constant = stations.table.groupby("sensor_id")["smap"].nunique() == 1
    lines = tables[CONUS_MODELS["linear"]].drop_duplicates("fold")
    notes = {
        "stations": len(strata),
        "of these in the ISMN archive, for texture and land cover": int(strata["joined"].sum()),
        "climate by the archive's field, else by place": int((strata["climate_source"] == "archive").sum()),
        "rows, and without an in-situ value": f"{stations.report['rows']:,}, {stations.report['rows_without_in_situ']:,}",
        "stations where SMAP never changes": ", ".join(constant[constant].index.str.split("__").str[1]) or "none",
        f"blocks of {block_degrees:g} degrees": tables["SMAP/50"]["block"].nunique(),
        "slopes of the fitted lines": f"{lines['slope_fitted'].min():.3f} to {lines['slope_fitted'].max():.3f}",
    }
    return OpenedPredictions(tables, _TITLES["conus"], "block", False, notes)
