"""The sensor table of a store: strata of the sensors, and the sides of the splits with their audit.

Strata and splits are imported where they are used: they load scikit-learn and scipy's statistics, for which every worker that
only cuts would wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import ParameterError

if TYPE_CHECKING:
    from smnb.sensors.splits import Split


#: What a split by sensor shares with its training side: the paper says so of footprints (Figure 6).
_PAPER_LEAKS = ("shared_station", "shared_footprint", "shared_coarse_cell")
#: The paper's split, whose leaks are known and written down, and one by blocks of 3 degrees with a buffer.
DEFAULT_SPLITS: dict[str, dict[str, Any]] = {
    "sensor": {"kind": "sensor", "fractions": (0.6, 0.2, 0.2), "accept": _PAPER_LEAKS},
    "block": {"kind": "block", "fractions": (0.6, 0.2, 0.2), "block_degrees": 3.0},
}
_CCI_COLUMN = "lc_2010"
_FRACTIONS = ("sand_fraction", "silt_fraction", "clay_fraction")


def sensor_land_cover(
    who: str, sensors: pd.DataFrame, raster: str | PathLike[str] | None, on_unknown: str
) -> tuple[NDArray[np.object_], dict[str, int]]:
    """Land-cover group of each sensor, and how many have each code that the legend lacks.

    From the table's own column ``land_cover``, else a raster of CGLS-LC100 codes (the paper's), else ISMN's ESA CCI codes.

    Raises
    ------
    ParameterError
        On codes that the legend lacks, unless `on_unknown` is "none".
    """
    from smnb.grids.koppen import NONE
    from smnb.sensors.strata import CCI_GROUPS, CGLS_GROUPS, OUTSIDE, land_cover_codes, land_cover_group

    if "land_cover" in sensors.columns:
        return sensors["land_cover"].astype(object).where(sensors["land_cover"].notna(), NONE).to_numpy(object), {}
    if raster is not None:
        codes, scheme, legend = land_cover_codes(raster, sensors["lat"], sensors["lon"]), "cgls_lc100", CGLS_GROUPS
    elif _CCI_COLUMN in sensors.columns:
        codes, scheme, legend = sensors[_CCI_COLUMN].astype("float64").to_numpy(), "esa_cci", CCI_GROUPS
    else:
        return np.full(len(sensors), NONE, object), {}
    try:
        groups = land_cover_group(codes, scheme, on_unknown=on_unknown)
    except ParameterError as error:
        raise ParameterError(
            who,
            f"land cover of the sensors: {error.what}",
            got=error.got,
            expected=error.expected,
            next_step="Check the raster, or count them with on_unknown_land_cover='none'",
        ) from error
    strange = pd.Series(codes[np.isfinite(codes) & ~np.isin(codes, [*legend, OUTSIDE])])
    return groups.astype(object), {f"{code:g}": int(n) for code, n in strange.value_counts().sort_index().items()}


def add_strata(sensors: pd.DataFrame, soil: pd.DataFrame | None) -> pd.DataFrame:
    """Add ``climate`` and ``texture`` where the table lacks them.

    Parameters
    ----------
    sensors : DataFrame
        With ``lat`` and ``lon``.
    soil : DataFrame, optional
        SoilGrids ``sand``, ``silt``, ``clay`` (g kg-1) at the sensors, as the paper takes them; without it the fractions of
        the archive.
    """
    from smnb.grids.koppen import NONE, koppen_class, koppen_group
    from smnb.sensors.strata import usda_texture

    added: dict[str, Any] = {}
    if "climate" not in sensors.columns:
        added["climate"] = koppen_group(koppen_class(sensors["lat"].to_numpy(), sensors["lon"].to_numpy())).astype(
            object
        )
    if "texture" not in sensors.columns:
        if soil is not None:
            texture = usda_texture(
                *(soil[name].to_numpy("float64") for name in ("sand", "silt", "clay")), units="g kg-1"
            )
        elif set(_FRACTIONS) <= set(sensors.columns):
            texture = usda_texture(*(sensors[name].to_numpy("float64") for name in _FRACTIONS), units="fraction")
        else:
            texture = np.full(len(sensors), NONE)
        added["texture"] = texture.astype(object)
    return sensors.assign(**added)


def make_splits(sensors: pd.DataFrame, splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Split]:
    """Split the sensors in each way asked for; the options are those of `smnb.sensors.splits.make_split`."""
    from smnb.sensors.splits import make_split

    made = {}
    for name, options in splits.items():
        if "kind" not in options or options["kind"] == "time" or not str(name).isidentifier():
            raise ParameterError(
                "build_matchups",
                f"the split {name!r} is no split of sensors",
                got=dict(options),
                expected=DEFAULT_SPLITS,
            )
        made[name] = make_split(sensors, **options)
    return made


def describe_split(split: Split, sensors: pd.DataFrame, sensor: NDArray[np.int32]) -> dict[str, Any]:
    """What the store says of a split: options, sensors and samples a side, and what leaks.

    Parameters
    ----------
    split : Split
    sensors : DataFrame
        Sensors that have samples.
    sensor : ndarray of int32
        Row of the sensor of each sample.
    """
    from smnb.sensors.splits import SIDES, audit

    sides = split.assignment.reindex(sensors["sensor_id"])
    found = audit(sides, sensors)
    per_sample = sides.to_numpy()[sensor]
    near = {
        side: {f"{km:g}_km": _share(found.share_within(km, side)) for km in (found.footprint_km, 10.0)}
        for side in SIDES[1:]
    }
    return {
        "kind": split.kind,
        "options": {key: list(v) if isinstance(v, tuple) else v for key, v in split.options.items()},
        "sensors": {side: int((sides == side).sum()) for side in (*SIDES, "buffer")},
        "samples": {side: int((per_sample == side).sum()) for side in (*SIDES, "buffer")},
        "leaks": found.leaks,
        "not_checked": list(found.not_checked),
        "share_with_training_sensor_within": near,
    }


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)
