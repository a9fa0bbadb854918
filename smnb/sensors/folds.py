"""Folds for cross-validation, in each of which other sensors are tested; clusters that intervals draw again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import ParameterError, check_choice, check_count
from smnb.sensors.splits import UNITS, Split, blocks, finish_split, hashed, unit_labels


def folds(
    sensors: pd.DataFrame,
    kind: str = "block",
    *,
    k: int = 10,
    seed: int = 0,
    block_degrees: float = 3.0,
    buffer_km: float | None = None,
    balanced: bool = False,
    accept: Sequence[str] = (),
    **audit_options: Any,
) -> list[Split]:
    """Split for cross-validation into `k` folds: each sensor is tested in exactly one, and units stay together.

    Other arguments and errors as `make_split`, with a `kind` of unit; also `ParameterError` when a fold stays empty.

    Parameters
    ----------
    balanced : bool
        Even out the sensors a fold by giving the largest units out first. Without it a unit keeps its fold when sensors
        are added; with it, it may not.

    Returns
    -------
    list of Split
        Fold i has "test" for its own sensors, "train" for the others and "buffer" for what the buffer drops.
    """
    who = f"folds ({kind})"
    check_choice("folds", "kind", kind, UNITS)
    check_count(who, "k", k, 2)
    units = np.array(unit_labels(who, sensors, kind, seed, block_degrees))
    drawn = hashed(int(seed), f"{kind}-folds", units.tolist())
    number = _balanced_folds(units, drawn, int(k)) if balanced else np.floor(drawn * k).astype(int)
    empty = np.setdiff1d(np.arange(k), number)
    if empty.size:
        what = f"{empty.size} of {k} folds are empty: there are {np.unique(units).size} units"
        step = "Take fewer folds, smaller units, another seed, or balanced=True"
        raise ParameterError(who, what, got=int(k), next_step=step)
    options = {"k": int(k), "seed": int(seed), "balanced": balanced}
    options |= {"block_degrees": float(block_degrees)} if kind == "block" else {}
    result = []
    for fold in range(k):
        sides = np.where(number == fold, "test", "train")
        result.append(finish_split(who, kind, sides, sensors, {**options, "fold": fold}, buffer_km, ["train"]))
        result[-1].check(accept, **audit_options)
    return result


def _balanced_folds(units: NDArray[np.str_], drawn: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Give each unit, the largest first, to the fold with the fewest sensors; the hash breaks ties."""
    _, first, inverse, size = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    fold_of, load = np.zeros(size.size, dtype=np.int64), np.zeros(k, dtype=np.int64)
    for unit in np.lexsort((drawn[first], -size)):
        fold_of[unit] = int(np.argmin(load))
        load[fold_of[unit]] += size[unit]
    return fold_of[inverse]


def cluster_labels(sensors: pd.DataFrame, clusters: str | None = None, *, degrees: float = 3.0) -> pd.Series:
    """What an interval draws again of each sensor: labels in the order of the rows, named by what they are.

    The column `clusters`; by default the column ``block``, else the block of so many degrees that the station is in (the middle
    of its sensors, so that a station stays whole), else the station, else the sensor.
    """
    if clusters is None and "block" not in sensors:
        station = [name for name in UNITS["station"] if name in sensors]
        what = "station" if "station" in station else "sensor"
        rows = sensors[station if what == "station" else ["sensor_id"]].itertuples(index=False)
        units = pd.Series(["\0".join(map(str, row)) for row in rows], sensors.index, dtype=object, name=what)
        if not {"lat", "lon"} <= set(sensors):
            return units
        places = sensors[["lat", "lon"]].astype("float64").groupby(units.to_numpy()).transform("median").dropna()
        units.loc[places.index] = blocks(places, degrees)
        return units.rename(f"block of {degrees:g} degrees") if len(places) else units
    return sensors[clusters or "block"].astype(object)
