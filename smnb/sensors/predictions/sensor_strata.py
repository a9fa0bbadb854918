"""Strata of sensors: texture, land cover and climate, from an archive's static variables or the place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from smnb.contract import ContractError
from smnb.grids import great_circle_km
from smnb.grids.koppen import NONE, ismn_koppen_class, koppen_class, koppen_group
from smnb.loaders.conus_stations import StationTable
from smnb.sensors.strata.land_cover import land_cover_group
from smnb.sensors.strata.texture import usda_texture

#: Columns of strata that the builders here add.
STRATA = ("land_cover", "texture", "climate")
#: Paper 004's group of each NLCD code. Pasture is herbaceous as in Copernicus' legend, which paper 004 uses. Forest (more
#: than 20 % canopy) is either of its two forests, so it has none; nor have water and ice.
NLCD_GROUPS: dict[int, str] = {
    **dict.fromkeys((11, 12, 41, 42, 43), NONE),
    **dict.fromkeys((21, 22, 23, 24), "Built-up"),
    31: "Bareground",
    **dict.fromkeys((51, 52), "Shrubs"),
    **dict.fromkeys((71, 72, 73, 74, 81), "Vegetation"),
    82: "Agriculture",
    **dict.fromkeys((90, 95), "Wetland"),
}


def sensor_strata(sensors: pd.DataFrame) -> pd.DataFrame:
    """Texture, land cover and climate of sensors, from the archive's static variables and, for climate, the place.

    Parameters
    ----------
    sensors : DataFrame
        Sensor table of `smnb.loaders.insitu`: ``sensor_id``, ``lat``, ``lon``, ``climate_KG``, ``lc_2010``,
        ``sand_fraction``, ``silt_fraction``, ``clay_fraction``.

    Returns
    -------
    DataFrame
        ``sensor_id``, ``texture`` (USDA class), ``land_cover`` (paper 004's group) and ``climate`` (two letters), each
        "none" where it is not known; ``climate_from`` is "archive" or "place" (the archive's field, else the map).
    """
    known = ismn_koppen_class(sensors["climate_KG"].to_numpy(object))
    by_place = koppen_class(sensors["lat"].to_numpy(), sensors["lon"].to_numpy())
    silent = known == NONE
    codes = sensors["lc_2010"].astype("float64").to_numpy()
    sand, silt, clay = (sensors[f"{part}_fraction"].to_numpy("float64") for part in ("sand", "silt", "clay"))
    return pd.DataFrame(
        {
            "sensor_id": sensors["sensor_id"].astype(str).to_numpy(),
            "texture": usda_texture(sand, silt, clay, units="fraction").astype(object),
            "land_cover": land_cover_group(codes, "esa_cci", on_unknown="none").astype(object),
            "climate": koppen_group(np.where(silent, by_place, known)).astype(object),
            "climate_from": np.where(silent, "place", "archive").astype(object),
        }
    )


def conus_station_strata(stations: StationTable, archive: pd.DataFrame) -> pd.DataFrame:
    """Strata of the stations of the ten-day table: from an ISMN archive's sensors of the same name, else from the place.

    Parameters
    ----------
    stations : StationTable
        From `smnb.loaders.conus_stations.open_station_table`.
    archive : DataFrame
        Sensor table of an ISMN archive, from `smnb.loaders.insitu.index_archive`.

    Returns
    -------
    DataFrame
        As `sensor_strata`, with ``joined`` (whether the archive has the station). A station that it does not have gets the
        climate by location, the land cover by its NLCD code, and no texture.

    Raises
    ------
    ContractError
        If a station and its namesake in the archive are more than 5 km apart.
    """
    keys = ["network", "station"]
    sensors = archive[archive["variable"] == "soil_moisture"] if "variable" in archive else archive
    one = sensors.drop_duplicates(keys).drop(columns=["sensor_id"])
    found = stations.sensors.merge(one, on=keys, how="left", suffixes=("", "_archive"), indicator=True)
    joined = (found["_merge"] == "both").to_numpy()
    apart = great_circle_km(*(found[n].to_numpy(float) for n in ("lat", "lon", "lat_archive", "lon_archive")))
    if (apart[joined] > 5.0).any():
        worst = int(np.nanargmax(np.where(joined, apart, -1.0)))
        raise ContractError(
            "conus_station_strata",
            "a station and its namesake in the archive are apart",
            got=f"{found['sensor_id'][worst]}: {apart[worst]:.0f} km",
        )
    strata = sensor_strata(found)
    by_code = found["nlcd"].map(NLCD_GROUPS, na_action="ignore").astype(object).fillna(NONE).to_numpy()
    strata["land_cover"] = np.where(joined, strata["land_cover"], by_code)
    return strata.assign(joined=joined)


def add_strata(table: pd.DataFrame, strata: pd.DataFrame, columns: Sequence[str] = STRATA) -> pd.DataFrame:
    """Join strata by ``sensor_id`` to a table of predictions; a sensor without any gets "none"."""
    chosen = strata.set_index(strata["sensor_id"].astype(str))
    added = {name: table["sensor_id"].astype(str).map(chosen[name]).fillna(NONE) for name in columns}
    result = table.assign(**added)
    result.attrs = dict(table.attrs)
    return result
