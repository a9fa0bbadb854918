"""What the sides of a split have in common: distances, leaks, distributions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from smnb.contract import ParameterError
from smnb.sensors.splits import LEAKS, SIDES, Split, make_split

#: Classes of the distance to the nearest training sensor, km; 2.56 and 10 are paper 004's.
DISTANCE_EDGES_KM = (2.56, 10.0, 50.0, 100.0, 500.0)


def compare_sides(values: Mapping[str, pd.DataFrame], column: Mapping[str, str], sides: pd.Series) -> pd.DataFrame:
    """Distribution of each quantity on each side of a split, and how far it is from training's.

    Parameters
    ----------
    values : mapping of str to DataFrame
        By quantity, with ``sensor_id``.
    column : mapping of str to str
        The column of each.
    sides : Series
        Side by ``sensor_id``.

    Returns
    -------
    DataFrame
        Indexed by quantity and side: ``n``, ``mean``, ``std``, ``ks``: the greatest distance of the cumulative distribution
        from that of training (0 same, 1 apart). No p-value: neighbouring values are not independent.
    """
    rows = {}
    for name, table in values.items():
        side = table["sensor_id"].map(sides).to_numpy()
        numbers = table[column[name]].to_numpy("float64")
        for one in SIDES:
            here = numbers[side == one]
            if here.size and (side == SIDES[0]).any():
                ks = float(ks_2samp(here, numbers[side == SIDES[0]]).statistic)
                rows[name, one] = {"n": here.size, "mean": here.mean(), "std": here.std(), "ks": ks}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["n", "mean", "std", "ks"])
    table.index = pd.MultiIndex.from_tuples(rows, names=["quantity", "side"])
    return table.astype({"n": int})


def bin_distances(nearest: pd.DataFrame, edges_km: Sequence[float] = DISTANCE_EDGES_KM) -> pd.DataFrame:
    """Count held-out sensors by class of their distance to the nearest training sensor (paper 004, Figure 6).

    Parameters
    ----------
    nearest : DataFrame
        `Audit.nearest`.
    edges_km : sequence of float
        Ascending edges; below the first and from the last on are classes too.

    Returns
    -------
    DataFrame
        Indexed by class, a column each side that occurs.
    """
    edges = np.asarray(edges_km, dtype=float)
    if edges.size == 0 or not (np.diff(edges) > 0).all() or edges[0] <= 0:
        raise ParameterError("bin_distances", "edges do not ascend from above 0", got=list(edges_km))
    names = [f"< {edges[0]:g}", *(f"{a:g}-{b:g}" for a, b in itertools.pairwise(edges)), f"≥ {edges[-1]:g}"]
    at = np.searchsorted(edges, nearest["distance_km"].to_numpy("float64"), side="right")
    sides = [one for one in SIDES if (nearest["side"] == one).any()]
    counts = {one: np.bincount(at[(nearest["side"] == one).to_numpy()], minlength=len(names)) for one in sides}
    return pd.DataFrame(counts, index=pd.Index(names, name="distance_km"))


def _audit_row(split: Split) -> dict[str, Any]:
    found = split.audit()
    row: dict[str, Any] = {side: count for side, count in split.counts().items() if side != "buffer"}
    row["dropped"] = split.counts()["buffer"]
    for leak in LEAKS[:3]:
        row[leak] = found.leaks.get(leak, 0)
    row["median_km"] = float(found.nearest["distance_km"].median())
    row["within_2.56_km"] = 100.0 * found.share_within(2.56)
    row["beyond_10_km"] = 100.0 * (1.0 - found.share_within(10.0))
    return row | {"problem": ""}


def audit_splits(sensors: pd.DataFrame, kinds: Iterable[str], *, seed: int = 0, **options: Any) -> pd.DataFrame:
    """Audit several kinds of split of the same sensors.

    Parameters
    ----------
    sensors : DataFrame
        As `smnb.sensors.splits.make_split`.
    kinds : iterable of str
        Kinds that need no further option: "sensor", "station", "network", "block".
    seed : int
        Of the hash.
    **options
        Of `make_split`.

    Returns
    -------
    DataFrame
        Indexed by kind: sensors of each side and dropped by a buffer, held-out sensors touched by each leak, median distance
        to the nearest training sensor (km), share of validation sensors within 2.56 km and beyond 10 km (%), and ``problem``
        where the kind cannot split these sensors.
    """
    rows = {}
    for kind in kinds:
        try:
            rows[kind] = _audit_row(make_split(sensors, kind, seed=seed, accept=LEAKS, **options))
        except ParameterError as error:
            if "no sensor is left" not in error.what:
                raise
            rows[kind] = {"problem": error.what}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("split")
