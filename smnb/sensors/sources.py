"""Opening what a source consists of, and narrowing it by flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from smnb.catalog import SANDBOX_MARKER, Catalog, data_root
from smnb.contract import ContractError, check_choice
from smnb.loaders.conus import StationTable
from smnb.loaders.insitu import InSituTables, flag_policy, open_insitu


@dataclass(frozen=True)
class SensorSource:
    """What one choice of in-situ data consists of, by catalog ids."""

    #: What its scores are called.
    title: str
    insitu: tuple[str, ...]
    #: Coarse products as series at the sensors: name to id. The first two are scored, and are independent of each other.
    products: Mapping[str, str] = field(default_factory=dict)
    #: A table of ten-day means at some of the sensors' stations, with SMAP, which is scored instead.
    stations: str | None = None
    #: Patches of imagery, which need not lie at the sensors.
    images: str | None = None

    @property
    def ids(self) -> list[str]:
        """All catalog ids."""
        return [*self.insitu, *self.products.values(), *(one for one in (self.stations, self.images) if one)]


_POINTS = {"SMAP L3": "smap_l3_points", "ERA5-Land": "era5_land_points", "GLDAS Noah": "gldas_points"}
#: Choices of the notebooks' parameter ``source``.
SOURCES: dict[str, SensorSource] = {
    "sandbox": SensorSource("Coarse products at the sandbox's sensors", ("ismn_archive", "uscrn_hourly"), _POINTS),
    "conus": SensorSource(
        "SMAP at CONUS stations, ten-day means", ("ismn_conus",), stations="conus_stations", images="conus_s1s2smap"
    ),
    "hawaii": SensorSource("Coarse products at Hawaii", ("ismn_hawaii",), _POINTS),
}


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
    code, time = sensor_rows(tables)[keep], tables.readings["time"].to_numpy()[keep]
    count = np.bincount(code, minlength=len(tables.sensors))
    begin = np.flatnonzero(np.diff(code, prepend=-1))
    sensors = tables.sensors.assign(n_readings=count)[count > 0].copy()
    order = np.argsort(code[begin])
    sensors["first_reading"] = time[begin][order]
    sensors["last_reading"] = time[np.append(begin[1:], time.size) - 1][order]
    readings = tables.readings[keep].reset_index(drop=True)
    readings["sensor_id"] = readings["sensor_id"].cat.remove_unused_categories()
    return InSituTables(
        sensors.reset_index(drop=True), readings, tables.report, tables.catalog_id, tables.synthetic
    ).check("apply_flags")
