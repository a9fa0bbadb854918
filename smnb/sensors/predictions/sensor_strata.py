"""Strata of sensors: texture, land cover and climate, from an archive's static variables or the place."""

from __future__ import annotations

import numpy as np
import pandas as pd

from smnb.contract import ContractError
from smnb.grids import great_circle_km
from smnb.grids.koppen import NONE
from smnb.loaders.conus import StationTable
from smnb.sensors.strata import STRATA, add_strata

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


def conus_station_strata(stations: StationTable, archive: pd.DataFrame) -> pd.DataFrame:
    """Strata of the stations of the ten-day table: from an ISMN archive's sensors of the same name, else from the place.

    Parameters
    ----------
    stations : StationTable
        From `smnb.loaders.conus.open_station_table`.
    archive : DataFrame
        Sensor table of an ISMN archive, from `smnb.loaders.insitu.index_archive`.

    Returns
    -------
    DataFrame
        As `add_strata`, with ``joined`` (whether the archive has the station). A station that it does not have gets the
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
    strata = add_strata(found)
    by_code = found["nlcd"].map(NLCD_GROUPS, na_action="ignore").astype(object).fillna(NONE).to_numpy()
    strata["land_cover"] = np.where(joined, strata["land_cover"], by_code)
    strata.loc[~joined & (by_code != NONE), "land_cover_source"] = "nlcd"
    return strata.assign(joined=joined)


def join_strata(table: pd.DataFrame, sensors: pd.DataFrame) -> pd.DataFrame:
    """Join the strata of sensors, and where each is from, to a table of predictions; a sensor without any gets "none"."""
    chosen = sensors.set_index(sensors["sensor_id"].astype(str))
    columns = [f"{name}{end}" for name in STRATA for end in ("", "_source")]
    added = {name: table["sensor_id"].astype(str).map(chosen[name]).fillna(NONE) for name in columns}
    result = table.assign(**added)
    result.attrs = dict(table.attrs)
    return result
