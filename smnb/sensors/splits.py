"""Sides of sensors: by sensor, station, network, block, time or region, and folds for cross-validation.

The side of a sensor comes from a hash of its unit (sensor, station, network or block) and the seed alone: it is the same
on every machine and in any order, and a sensor keeps its side when others are added. The fractions hold in expectation,
not exactly. What a buffer drops does depend on the others: an added sensor may turn a training sensor near it into
"buffer", but none ever changes from one side to another.

References
----------
Roberts et al. 2017, Ecography 40, 913-929, doi:10.1111/ecog.02881 (why blocks); Batchu et al. 2023 (the paper's split by
sensor and its Figure 6).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import ContractError, ParameterError, check_choice, check_count, check_range, plain
from smnb.sensors import leakage
from smnb.sensors.leakage import HELD_OUT, LEAKS, SIDES, SPLIT_SIDES, Audit, audit, check_sensors

_UNITS = {"sensor": ["sensor_id"], "station": ["network", "station"], "network": ["network"], "block": ["lat", "lon"]}
#: What can stay together, or be cut at: by unit, by date, by region.
KINDS = (*_UNITS, "time", "region")


def _uniform(seed: int, kind: str, units: Sequence[str]) -> NDArray[np.float64]:
    """One number in [0, 1) a unit, from a hash of the unit, the kind and the seed."""
    known: dict[str, float] = {}
    for unit in units:
        if unit not in known:
            digest = hashlib.blake2b(f"{seed}\0{kind}\0{unit}".encode(), digest_size=8).digest()
            known[unit] = (int.from_bytes(digest, "big") >> 11) / 2.0**53
    return np.array([known[unit] for unit in units])


def blocks(sensors: pd.DataFrame, degrees: float) -> list[str]:
    """Block of so many degrees that each row's ``lat`` and ``lon`` are in, as "row,column"; they begin at 90 S, 180 W."""
    check_range("blocks", "block_degrees", degrees, 0, ends="(]", units="degrees")
    lat, lon = (sensors[name].to_numpy("float64") for name in ("lat", "lon"))
    row = np.minimum(np.floor((lat + 90.0) / degrees), np.ceil(180.0 / degrees) - 1).astype(int)
    column = np.floor(((lon + 180.0) % 360.0) / degrees).astype(int)
    return [f"{i},{j}" for i, j in zip(row, column, strict=True)]


def _units(who: str, sensors: pd.DataFrame, kind: str, seed: int, block_degrees: float) -> list[str]:
    """Unit of each sensor, after a look at what units are made from."""
    check_count(who, "seed", seed, 0)
    check_sensors(who, sensors, _UNITS[kind])
    if kind == "block":
        return blocks(sensors, block_degrees)
    return ["\0".join(map(str, row)) for row in sensors[_UNITS[kind]].itertuples(index=False)]


def _buffered(who: str, sides: NDArray[np.str_], sensors: pd.DataFrame, buffer_km: float) -> NDArray[np.str_]:
    """Drop training sensors within the buffer of a held-out one, and validation sensors within it of a test one."""
    check_range(who, "buffer_km", buffer_km, 0, units="km")
    if buffer_km == 0.0:
        return sides
    check_sensors(who, sensors, ["lat", "lon"])
    result = sides.copy()
    for side, others in (("train", HELD_OUT), ("validation", ("test",))):
        here = np.flatnonzero(sides == side)
        distance, _ = leakage.nearest_km(sensors.iloc[here], sensors[np.isin(sides, others)])
        result[here[distance < buffer_km]] = "buffer"
    return result


@dataclass(frozen=True)
class Split:
    """Sides of sensors (or, for a split in time, of readings)."""

    kind: str
    #: "train", "validation", "test" or "buffer" (dropped), indexed by ``sensor_id``; for ``time`` by the readings' index.
    assignment: pd.Series
    #: The table that was split, and what with.
    sensors: pd.DataFrame = field(repr=False)
    options: dict[str, Any]

    def ids(self, side: str) -> list[Any]:
        """Sensors of a side."""
        check_choice("Split.ids", "side", side, SPLIT_SIDES)
        chosen = (self.assignment == side).to_numpy()
        return list(dict.fromkeys(self.sensors["sensor_id"][chosen]))

    def counts(self) -> dict[str, int]:
        """Sensors (readings, for ``time``) of each side."""
        counts = self.assignment.value_counts()
        return {side: int(counts.get(side, 0)) for side in SPLIT_SIDES}

    def label(self, table: pd.DataFrame) -> pd.Series:
        """Side of each row of a table of readings, by its sensor (or time); `ContractError` if one was not split."""
        who = "Split.label"
        if self.kind == "time":
            check_sensors(who, table, ["time"], unique=False)
            return pd.Series(_sides_in_time(table["time"], self.options), index=table.index, name="split")
        check_sensors(who, table, [], unique=False)
        sides = table["sensor_id"].map(self.assignment)
        if sides.isna().any():
            raise ContractError(who, "sensors were not split", got=list(table["sensor_id"][sides.isna()].unique()[:3]))
        return sides.astype(str).rename("split")

    def audit(self, **options: Any) -> Audit:
        """As `audit`, of this split."""
        if self.kind == "time":
            return leakage.audit_in_time(self.sensors["sensor_id"], self.assignment)
        return audit(self.assignment, self.sensors, **options)

    def check(self, accept: Sequence[str] = (), **options: Any) -> Audit:
        """Audit, and raise `ContractError` on every leak that is not accepted by its name, one of `LEAKS`; options as `audit`."""
        who = f"Split.check ({self.kind})"
        names = check_choice(who, "accept", accept, LEAKS) if len(accept) else ()
        found = self.audit(**options)
        left = {name: count for name, count in found.leaks.items() if name not in names}
        if left:
            listed = ", ".join(f"{name} ({count} held-out sensors)" for name, count in left.items())
            accepting = f"accept={tuple(dict.fromkeys([*names, *left]))}"
            step = f"Split by station or block with a buffer, or accept it by name: {accepting}"
            raise ContractError(who, f"the split leaks: {listed}", next_step=step)
        return found


def _sides_in_time(times: pd.Series, options: Mapping[str, Any]) -> NDArray[np.str_]:
    time = pd.DatetimeIndex(pd.to_datetime(times, utc=True)).tz_localize(None)
    first, second = (pd.Timestamp(cut) for cut in options["cuts"])
    gap = pd.Timedelta(days=options["gap_days"])
    sides = np.where(time < first, "train", np.where(time < second, "validation", "test")).astype("U10")
    before = ((time >= first - gap) & (time < first)) | ((time >= second - gap) & (time < second))
    return np.where(before, "buffer", sides)


def _split_in_time(who: str, readings: pd.DataFrame, cuts: Sequence[Any] | None, gap_days: float) -> tuple:
    check_sensors(who, readings, ["time"], unique=False)
    try:
        first, second = (pd.Timestamp(cut) for cut in cuts or ())
        ascending = first < second and first.tz is None
    except (TypeError, ValueError):
        ascending = False
    if not ascending:
        what = "'cuts' are not two ascending UTC dates: where validation begins, and where test begins"
        raise ParameterError(who, what, got=cuts, expected=("2019-01-01", "2020-01-01"))
    check_range(who, "gap_days", gap_days, 0, units="days")
    options = {"cuts": (str(first), str(second)), "gap_days": float(gap_days)}
    return _sides_in_time(readings["time"], options), options


def _inside(who: str, sensors: pd.DataFrame, wanted: Any, column: str | None) -> NDArray[np.bool_]:
    """Which sensors are in one of the boxes (west, south, east, north), or have one of the values of the column."""
    if column is not None:
        values = [wanted] if isinstance(wanted, str) else list(wanted)
        unknown = [value for value in values if not sensors[column].eq(value).any()]
        if unknown:
            raise ParameterError(who, f"{column!r} has no {unknown}", expected=sorted(map(str, set(sensors[column]))))
        return sensors[column].isin(values).to_numpy()
    lat, lon = (sensors[name].to_numpy("float64") for name in ("lat", "lon"))
    inside = np.zeros(len(sensors), dtype=bool)
    for box in [wanted] if np.ndim(wanted) == 1 else wanted:
        if len(box) != 4 or not -90.0 <= box[1] < box[3] <= 90.0 or not all(-180.0 <= x <= 360.0 for x in box[::2]):
            raise ParameterError(who, "a box is not (west, south, east, north) in degrees", got=tuple(box))
        west, south, east, north = map(float, box)
        width = (east - west) % 360.0 or 360.0  # west above east: across the date line
        inside |= (lat >= south) & ((lat < north) | (north == 90.0)) & ((lon - west) % 360.0 < width)
    return inside


def _split_by_region(who: str, sensors: pd.DataFrame, regions: Any, column: str | None) -> NDArray[np.str_]:
    if not regions or not set(regions) <= set(HELD_OUT):
        expected = {"validation": "boxes or values", "test": "boxes or values"}
        raise ParameterError(who, "'regions' does not name what is held out", got=regions, expected=expected)
    check_sensors(who, sensors, ["lat", "lon"] if column is None else [column])
    held = {side: _inside(who, sensors, wanted, column) for side, wanted in regions.items()}
    if (np.sum(list(held.values()), axis=0) > 1).any():
        raise ParameterError(who, "regions of validation and test overlap", expected=plain("no sensor in both"))
    return np.select(list(held.values()), list(held), "train").astype("U10")


def make_split(
    sensors: pd.DataFrame,
    kind: str,
    *,
    seed: int = 0,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    block_degrees: float = 3.0,
    buffer_km: float | None = None,
    cuts: Sequence[Any] | None = None,
    gap_days: float = 0.0,
    regions: Mapping[str, Any] | None = None,
    column: str | None = None,
    accept: Sequence[str] = (),
    **audit_options: Any,
) -> Split:
    """Split sensors by name of the method, audit the split, and raise where it leaks.

    Parameters
    ----------
    sensors : DataFrame
        One row a sensor: ``sensor_id``, ``lat``, ``lon``, ``network``, ``station``. For ``time`` a table of readings with
        ``sensor_id`` and ``time``.
    kind : {"sensor", "station", "network", "block", "time", "region"}
        What stays together: the sensor (paper 004), the station, the network, or all sensors of a block of
        `block_degrees`; or readings by date, or sensors by region.
    seed : int
        Of the hash that decides the side; of no account for ``time`` and ``region``.
    fractions : three float
        Expected shares of training, validation and test units.
    block_degrees : float
        Size of a block; blocks begin at 90° S, 180° W.
    buffer_km : float, optional
        Training sensors nearer than this to a held-out one, and validation sensors to a test one, are dropped ("buffer").
        Default 50 km for ``block`` (beyond the diagonal of a 0.25° cell, 39 km) and none otherwise.
    cuts : two dates
        For ``time``: where validation begins and where test begins, UTC.
    gap_days : float
        For ``time``: readings that long before a cut are dropped.
    regions : mapping
        For ``region``: "validation" and/or "test" to a box (west, south, east, north), several boxes, or, with `column`,
        to values of it. The rest trains.
    column : str, optional
        For ``region``: the column that `regions` names values of.
    accept : sequence of str
        Leaks to accept, by name (`LEAKS`).
    **audit_options
        As `audit`.

    Raises
    ------
    ContractError
        If the split leaks, or the table lacks what the kind needs.
    ParameterError
        On an unknown kind or option, or when a side with a share stays empty.

    Examples
    --------
    >>> sensors = pd.DataFrame({"sensor_id": range(30), "lat": 40.0, "lon": np.arange(30) * 2.0})
    >>> make_split(sensors, "sensor", seed=1).counts()
    {'train': 20, 'validation': 4, 'test': 6, 'buffer': 0}
    """
    who = f"make_split ({kind})"
    check_choice("make_split", "kind", kind, KINDS)
    buffer = (50.0 if kind == "block" else 0.0) if buffer_km is None else buffer_km
    if kind == "time":
        sides, options = _split_in_time(who, sensors, cuts, gap_days)
        needed = np.ones(3)
    elif kind == "region":
        sides = _split_by_region(who, sensors, regions, column)
        options = {"regions": dict(regions or {}), "column": column}
        needed = np.array([1.0, *(float(side in (regions or {})) for side in HELD_OUT)])
    else:
        needed = np.asarray(fractions)
        check_range(who, "fractions", needed, 0, 1)
        if needed.shape != (3,) or needed[0] == 0 or abs(needed.sum() - 1.0) > 1e-9:
            what = "'fractions' are not three shares that add to 1"
            raise ParameterError(who, what, got=fractions, expected=(0.6, 0.2, 0.2))
        units = _units(who, sensors, kind, seed, block_degrees)
        drawn = np.searchsorted(np.cumsum(needed)[:2], _uniform(int(seed), kind, units), side="right")
        sides = np.array(SIDES)[drawn].astype("U10")
        options = {"seed": int(seed), "fractions": tuple(map(float, fractions))}
        options |= {"block_degrees": float(block_degrees)} if kind == "block" else {}
    if kind != "time":
        sides = _buffered(who, sides, sensors, buffer)
        options["buffer_km"] = float(buffer)
    empty = [side for side, share in zip(SIDES, needed, strict=True) if share > 0 and not (sides == side).any()]
    if empty:
        step = "Choose another seed, smaller units or buffer, or give that side the fraction 0"
        raise ParameterError(who, f"no sensor is left in {', '.join(empty)}", got=dict(options), next_step=step)
    index = sensors.index if kind == "time" else pd.Index(sensors["sensor_id"])
    split = Split(kind, pd.Series(sides.astype(object), index=index, name="split"), sensors, options)
    split.check(accept, **audit_options)
    return split


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
    check_choice("folds", "kind", kind, _UNITS)
    check_count(who, "k", k, 2)
    buffer = (50.0 if kind == "block" else 0.0) if buffer_km is None else buffer_km
    units = np.array(_units(who, sensors, kind, seed, block_degrees))
    drawn = _uniform(int(seed), f"{kind}-folds", units.tolist())
    number = _balanced_folds(units, drawn, int(k)) if balanced else np.floor(drawn * k).astype(int)
    empty = np.setdiff1d(np.arange(k), number)
    if empty.size:
        what = f"{empty.size} of {k} folds are empty: there are {np.unique(units).size} units"
        step = "Take fewer folds, smaller units, another seed, or balanced=True"
        raise ParameterError(who, what, got=int(k), next_step=step)
    result = []
    for fold in range(k):
        sides = _buffered(who, np.where(number == fold, "test", "train").astype("U10"), sensors, buffer)
        if not (sides == "train").any():
            step = "Take a smaller buffer"
            raise ParameterError(who, f"no sensor is left to train fold {fold}", got=buffer, next_step=step)
        options = {"k": int(k), "fold": fold, "seed": int(seed), "balanced": balanced, "buffer_km": float(buffer)}
        options |= {"block_degrees": float(block_degrees)} if kind == "block" else {}
        assignment = pd.Series(sides.astype(object), index=pd.Index(sensors["sensor_id"]), name="split")
        result.append(Split(kind, assignment, sensors, options))
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
