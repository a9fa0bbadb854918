"""Sides of sensors: by sensor, station, network, block, time or region, also in folds; and the audit of what the sides share.

A side comes from a hash of the sensor's unit and the seed alone: it is the same on every machine and in any order, and a sensor
keeps it when others are added, but that a buffer may drop it. The fractions hold in expectation, not exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import (
    ContractError,
    ParameterError,
    check_box,
    check_choice,
    check_count,
    check_places,
    check_range,
    check_table,
)
from smnb.grids import EARTH_RADIUS_KM
from smnb.sensors.place import blocks, grid_cells

SIDES = ("train", "validation", "test")
HELD_OUT = SIDES[1:]
SPLIT_SIDES = (*SIDES, "buffer")  # the sides, and what a buffer between them drops
#: What a split can leak, by the name that accepts it.
LEAKS = ("shared_station", "shared_footprint", "shared_coarse_cell", "shared_sensor")
UNITS = {"sensor": ["sensor_id"], "station": ["network", "station"], "network": ["network"], "block": ["lat", "lon"]}
KINDS = (*UNITS, "time", "region")


def _check_sensors(who: str, sensors: pd.DataFrame, columns: Sequence[str], *, unique: bool = True) -> None:
    """Raise an error unless the table has ``sensor_id`` and `columns`, complete and on the Earth, and each sensor once."""
    wanted = ["sensor_id", *columns]
    check_table(who, sensors, wanted, complete=wanted, unique="sensor_id" if unique else None)
    if "lat" in columns:
        check_places(who, *(sensors[name].to_numpy("float64") for name in ("lat", "lon")))


def _radians(table: pd.DataFrame) -> NDArray[np.float64]:
    return np.deg2rad(table[["lat", "lon"]].to_numpy("float64"))


def _tree(table: pd.DataFrame) -> Any:
    """Tree of great-circle distances."""
    from sklearn.neighbors import BallTree  # heavy: workers that only cut images import this room and split nothing

    return BallTree(_radians(table), metric="haversine")


def _nearest_km(points: pd.DataFrame, targets: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Great-circle distance from each point to the nearest target, and which it is."""
    if targets.empty or points.empty:
        return np.full(len(points), np.inf), np.full(len(points), -1)
    distance, which = _tree(targets).query(_radians(points), k=1)
    return distance[:, 0] * EARTH_RADIUS_KM, which[:, 0]


@dataclass(frozen=True)
class Audit:
    """What the sides of a split have in common."""

    nearest: (
        pd.DataFrame
    )  # a row a validation or test sensor: ``sensor_id``, ``side``, ``nearest_train``, ``distance_km``
    #: By leak, the held-out sensors that it touches: ``sensor_id``, ``side``, and for a footprint ``train`` and
    #: ``distance_km`` (a row a pair of overlapping patches), for a coarse cell ``grid`` and ``cell``.
    shared: dict[str, pd.DataFrame]
    footprint_km: float = 2.56
    not_checked: tuple[str, ...] = ()  # leaks that could not be looked for, since the table lacks columns

    @property
    def leaks(self) -> dict[str, int]:
        """How many held-out sensors each leak touches; only leaks that occur."""
        counts = {name: int(table["sensor_id"].nunique()) for name, table in self.shared.items()}
        return {name: count for name, count in counts.items() if count}

    def share_within(self, km: float, side: str = "validation") -> float:
        """Share of a side's sensors with a training sensor nearer than `km` (paper 004: about 12 % within 2.56 km)."""
        distance = self.nearest.loc[self.nearest["side"] == side, "distance_km"]
        return float((distance < km).mean()) if len(distance) else float("nan")

    def __str__(self) -> str:
        lines = [f"{name}: {count} held-out sensors" for name, count in self.leaks.items()] or ["no leak found"]
        for side, km in reversed(list(self.nearest.groupby("side")["distance_km"])):  # validation, then test
            lines.append(
                f"{side}: {len(km)} sensors, nearest training sensor at {km.min():.2f} km (least), {km.median():.1f} km "
                f"(median); {100 * (km < self.footprint_km).mean():.1f} % within {self.footprint_km:g} km, "
                f"{100 * (km < 10.0).mean():.1f} % within 10 km"
            )
        return "\n".join([*lines, *(f"not checked: {name}, for want of columns" for name in self.not_checked)])


def _footprint_pairs(held: pd.DataFrame, train: pd.DataFrame, footprint_km: float) -> pd.DataFrame:
    """Pairs whose squares, of side `footprint_km` and north up, overlap."""
    if held.empty or train.empty:
        return pd.DataFrame(columns=["sensor_id", "side", "train", "distance_km"])
    reach = footprint_km * np.sqrt(2.0) / EARTH_RADIUS_KM
    near, distance = _tree(train).query_radius(_radians(held), reach, return_distance=True)
    i, j = np.repeat(np.arange(len(held)), [len(one) for one in near]), np.concatenate(near).astype(int)
    a, b = _radians(held)[i], _radians(train)[j]
    north = np.abs(a[:, 0] - b[:, 0]) * EARTH_RADIUS_KM
    east = np.abs((a[:, 1] - b[:, 1] + np.pi) % (2 * np.pi) - np.pi) * np.cos((a[:, 0] + b[:, 0]) / 2) * EARTH_RADIUS_KM
    pairs = held[["sensor_id", "side"]].iloc[i].reset_index(drop=True)
    pairs = pairs.assign(train=train["sensor_id"].to_numpy()[j], distance_km=np.concatenate(distance) * EARTH_RADIUS_KM)
    return pairs[(north < footprint_km) & (east < footprint_km)].reset_index(drop=True)


def audit(
    sides: pd.Series,
    sensors: pd.DataFrame,
    *,
    footprint_km: float = 2.56,
    coarse_cells: Sequence[str] = ("0.25deg", "ease2_9km"),
) -> Audit:
    """Look for what training shares with validation and test; sensors of the side "buffer" are left out.

    `sides` are indexed by ``sensor_id``, as `Split.assignment`; `sensors` has ``sensor_id``, ``lat``, ``lon`` and, for shared
    stations, ``network`` and ``station``. `footprint_km` is the side of the square patch around each sensor,
    `coarse_cells` are grids of coarse inputs: "0.25deg" (GLDAS) or any other number of degrees, "ease2_36km", "ease2_9km",
    "ease2_3km". `ContractError` on a missing column or a sensor without a side, `ParameterError` on what no option can be.
    """
    who = "audit"
    check_range(who, "footprint_km", footprint_km, 0, ends="(]", units="km")
    _check_sensors(who, sensors, ["lat", "lon"])
    table = sensors.reset_index(drop=True).assign(side=sensors["sensor_id"].map(sides).to_numpy())
    if len(strange := table.loc[~table["side"].isin(SPLIT_SIDES), "sensor_id"]):
        raise ContractError(who, "a sensor has no side", got=str(strange.iloc[0]), expected=list(SPLIT_SIDES))
    held, train = table[table["side"].isin(HELD_OUT)], table[table["side"] == "train"]
    distance, which = _nearest_km(held, train)
    names = train["sensor_id"].to_numpy()[which] if len(train) else None
    nearest = held[["sensor_id", "side"]].assign(nearest_train=names, distance_km=distance)

    def alike(values: pd.Series) -> pd.DataFrame:
        return held.loc[values[held.index].isin(values[train.index]), ["sensor_id", "side"]]

    shared, not_checked = {}, ("shared_station",)
    if {"network", "station"} <= set(table.columns):
        station = table["network"].astype(str) + "\0" + table["station"].astype(str)
        shared["shared_station"], not_checked = alike(station).reset_index(drop=True), ()
    shared["shared_footprint"] = _footprint_pairs(held, train, footprint_km)
    cells = [pd.DataFrame(columns=["sensor_id", "side", "grid", "cell"])]
    for grid in (coarse_cells,) if isinstance(coarse_cells, str) else coarse_cells:
        cell = pd.Series(grid_cells(who, table, grid), table.index)
        cells.append(alike(cell).assign(grid=grid, cell=cell))
    shared["shared_coarse_cell"] = pd.concat([one for one in cells if len(one)] or cells, ignore_index=True)
    return Audit(nearest.reset_index(drop=True), shared, footprint_km, not_checked)


@dataclass(frozen=True)
class Split:
    """Sides of sensors (or, for a split in time, of readings)."""

    kind: str
    assignment: pd.Series  # one of `SPLIT_SIDES`, indexed by ``sensor_id``; for ``time`` by the readings' index
    sensors: pd.DataFrame = field(repr=False)  # the table that was split, and what with
    options: dict[str, Any]

    def ids(self, side: str) -> list[Any]:
        """Sensors of a side."""
        check_choice("Split.ids", "side", side, SPLIT_SIDES)
        return list(dict.fromkeys(self.sensors["sensor_id"][(self.assignment == side).to_numpy()]))

    def counts(self) -> dict[str, int]:
        """Sensors (readings, for ``time``) of each side."""
        return {side: int((self.assignment == side).sum()) for side in SPLIT_SIDES}

    def label(self, table: pd.DataFrame) -> pd.Series:
        """Side of each row of a table of readings, by its sensor (or time); `ContractError` if one was not split."""
        _check_sensors("Split.label", table, ["time"] if self.kind == "time" else [], unique=False)
        if self.kind == "time":
            return pd.Series(_sides_in_time(table["time"], self.options), index=table.index, name="split")
        sides = table["sensor_id"].map(self.assignment)
        if sides.isna().any():
            got = table["sensor_id"][sides.isna()].unique()[:3]
            raise ContractError("Split.label", "sensors were not split", got=list(got))
        return sides.astype(str).rename("split")

    def audit(self, **options: Any) -> Audit:
        """As `audit`, of this split; in time, sensors on both sides share station, footprint and cell by that."""
        if self.kind != "time":
            return audit(self.assignment, self.sensors, **options)
        ids, sides = self.sensors["sensor_id"].to_numpy(), self.assignment.to_numpy()
        table = pd.DataFrame({"sensor_id": ids, "side": sides}).drop_duplicates()
        both = table[table["side"].isin(HELD_OUT) & table["sensor_id"].isin(ids[sides == "train"])]
        nearest = pd.DataFrame(columns=["sensor_id", "side", "nearest_train", "distance_km"])
        return Audit(nearest, {"shared_sensor": both.reset_index(drop=True)}, not_checked=LEAKS[:3])

    def check(self, accept: Sequence[str] = (), **options: Any) -> Audit:
        """Audit, and raise `ContractError` on every leak that is not accepted by its name, one of `LEAKS`; options as `audit`."""
        who = f"Split.check ({self.kind})"
        names = check_choice(who, "accept", accept, LEAKS) if len(accept) else ()
        found = self.audit(**options)
        if left := {name: count for name, count in found.leaks.items() if name not in names}:
            listed = ", ".join(f"{name} ({count} held-out sensors)" for name, count in left.items())
            step = f"Split by station or block with a buffer, or accept it by name: accept={(*names, *left)}"
            raise ContractError(who, f"the split leaks: {listed}", next_step=step)
        return found


def hashed(seed: int, kind: str, units: Sequence[str]) -> NDArray[np.float64]:
    """One number in [0, 1) a unit, from a hash of the unit, the kind and the seed."""
    known: dict[str, float] = {}
    for unit in dict.fromkeys(units):
        digest = hashlib.blake2b(f"{seed}\0{kind}\0{unit}".encode(), digest_size=8).digest()
        known[unit] = (int.from_bytes(digest, "big") >> 11) / 2.0**53
    return np.array([known[unit] for unit in units])


def unit_labels(who: str, sensors: pd.DataFrame, kind: str, seed: int, block_degrees: float) -> list[str]:
    """Unit of each sensor, after a look at what units are made from."""
    check_count(who, "seed", seed, 0)
    _check_sensors(who, sensors, UNITS[kind])
    if kind == "block":
        return blocks(sensors, block_degrees)
    return ["\0".join(map(str, row)) for row in sensors[UNITS[kind]].itertuples(index=False)]


def finish_split(
    who: str, kind: str, sides: NDArray, sensors: pd.DataFrame, options: dict, buffer_km: float | None, needed: Sequence
) -> Split:
    """A split less its buffer (training near held-out sensors, validation near test); `needed` sides may not be empty."""
    if kind != "time":
        buffer_km = (50.0 if kind == "block" else 0.0) if buffer_km is None else buffer_km
        check_range(who, "buffer_km", buffer_km, 0, units="km")
        options = {**options, "buffer_km": float(buffer_km)}
    if kind != "time" and buffer_km:
        _check_sensors(who, sensors, ["lat", "lon"])
        near = np.zeros(len(sensors), dtype=bool)
        for side, others in (("train", HELD_OUT), ("validation", ("test",))):
            near[sides == side] = _nearest_km(sensors[sides == side], sensors[np.isin(sides, others)])[0] < buffer_km
        sides = np.where(near, "buffer", sides)
    if empty := [side for side in needed if not (sides == side).any()]:
        step = "Choose another seed, smaller units or buffer, or give that side the fraction 0"
        raise ParameterError(who, f"no sensor is left in {', '.join(empty)}", got=options, next_step=step)
    index = sensors.index if kind == "time" else pd.Index(sensors["sensor_id"])
    return Split(kind, pd.Series(sides.astype(object), index=index, name="split"), sensors, options)


def _parse_cuts(who: str, cuts: Sequence[Any] | None, gap_days: float) -> dict[str, Any]:
    """Options of a split in time: where validation begins and where test begins, and the gap before both."""
    try:
        first, second = (pd.Timestamp(cut) for cut in cuts or ())
        ascending = first < second and first.tz is None
    except (TypeError, ValueError):
        ascending = False
    if not ascending:
        what = "'cuts' are not two ascending UTC dates: where validation begins, and where test begins"
        raise ParameterError(who, what, got=cuts, expected=("2019-01-01", "2020-01-01"))
    check_range(who, "gap_days", gap_days, 0, units="days")
    return {"cuts": (str(first), str(second)), "gap_days": float(gap_days)}


def _sides_in_time(times: pd.Series, options: Mapping[str, Any]) -> NDArray[np.str_]:
    """Side of each time by the options of `_parse_cuts`."""
    time = pd.DatetimeIndex(pd.to_datetime(times, utc=True)).tz_localize(None)
    first, second = (pd.Timestamp(cut) for cut in options["cuts"])
    gap = pd.Timedelta(days=options["gap_days"])
    before = ((time >= first - gap) & (time < first)) | ((time >= second - gap) & (time < second))
    return np.select([before, time < first, time < second], ["buffer", "train", "validation"], "test")


def _sides_by_region(who: str, sensors: pd.DataFrame, regions: Any, column: str | None) -> NDArray[np.str_]:
    """Sides by boxes (west, south, east, north; west above east: across the date line), or by values of the column."""
    check_choice(who, "regions", list(regions or ()), HELD_OUT)
    held = []
    for wanted in regions.values():
        if column is not None:
            held.append(sensors[column].isin(check_choice(who, "regions", wanted, sensors[column].unique())).to_numpy())
            continue
        inside = np.zeros(len(sensors), dtype=bool)
        for box in [wanted] if np.ndim(wanted) == 1 else wanted:
            west, south, east, north = check_box(who, "regions", box)
            lat, offset = sensors["lat"].to_numpy("float64"), (sensors["lon"].to_numpy("float64") - west) % 360.0
            inside |= (lat >= south) & ((lat < north) | (north == 90.0)) & (offset < ((east - west) % 360.0 or 360.0))
        held.append(inside)
    if (np.sum(held, axis=0) > 1).any():
        raise ParameterError(who, "regions of validation and test overlap, a sensor is in both")
    return np.select(held, list(regions), "train")


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
    """Split sensors by name of the method, audit the split, and raise where it leaks, or a side stays empty.

    Parameters
    ----------
    sensors : DataFrame
        One row a sensor: ``sensor_id``, ``lat``, ``lon``, ``network``, ``station``. For ``time`` a table of readings with
        ``sensor_id`` and ``time``.
    kind : {"sensor", "station", "network", "block", "time", "region"}
        What stays together: the sensor (paper 004), the station, the network, or all sensors of a block of
        `block_degrees`; or readings by date, or sensors by region. Why blocks: Roberts et al. 2017, doi:10.1111/ecog.02881.
    seed, fractions
        Of the hash that decides the side, and the expected shares of training, validation and test units; of no account for
        ``time`` and ``region``.
    block_degrees, buffer_km : float
        Size of a block. Training sensors nearer than the buffer to a held-out one, and validation sensors to a test one,
        are dropped ("buffer"): 50 km for ``block`` (beyond the diagonal of a 0.25° cell, 39 km).
    cuts, gap_days : two dates, float
        For ``time``: where validation and where test begin, UTC; readings that long before a cut are dropped.
    regions, column : mapping, str
        For ``region``: "validation" and/or "test" to a box (west, south, east, north), several boxes, or, with `column`,
        to values of it. The rest trains.
    accept, **audit_options
        Leaks to accept, by name (`LEAKS`); the others as `audit`.

    Examples
    --------
    >>> sensors = pd.DataFrame({"sensor_id": range(30), "lat": 40.0, "lon": np.arange(30) * 2.0})
    >>> make_split(sensors, "sensor", seed=1).counts()
    {'train': 20, 'validation': 4, 'test': 6, 'buffer': 0}
    """
    who = f"make_split ({kind})"
    check_choice("make_split", "kind", kind, KINDS)
    needed: Sequence[str] = SIDES
    if kind == "time":
        _check_sensors(who, sensors, ["time"], unique=False)
        options = _parse_cuts(who, cuts, gap_days)
        sides = _sides_in_time(sensors["time"], options)
    elif kind == "region":
        _check_sensors(who, sensors, ["lat", "lon"] if column is None else [column])
        sides = _sides_by_region(who, sensors, regions, column)
        needed, options = ("train", *regions), {"regions": dict(regions), "column": column}
    else:
        shares = np.asarray(fractions)
        check_range(who, "fractions", shares, 0, 1)
        if shares.shape != (3,) or shares[0] == 0 or abs(shares.sum() - 1.0) > 1e-9:
            what = "'fractions' are not three shares that add to 1"
            raise ParameterError(who, what, got=fractions, expected=(0.6, 0.2, 0.2))
        drawn = hashed(int(seed), kind, unit_labels(who, sensors, kind, seed, block_degrees))
        sides = np.array(SIDES)[np.searchsorted(np.cumsum(shares)[:2], drawn, side="right")]
        needed = [side for side, share in zip(SIDES, shares, strict=True) if share > 0]
        options = {"seed": int(seed), "fractions": tuple(map(float, fractions))}
        options |= {"block_degrees": float(block_degrees)} if kind == "block" else {}
    split = finish_split(who, kind, sides, sensors, options, buffer_km, needed)
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
    accept: Sequence[str] = (),
    **audit_options: Any,
) -> list[Split]:
    """Split for cross-validation into `k` folds: each sensor is tested in exactly one, and units stay together.

    Fold i has "test" for its own sensors, "train" for the others and "buffer" for what the buffer drops. Other arguments and
    errors as `make_split`, with a `kind` of unit; also `ParameterError` when a fold stays empty.
    """
    who = f"folds ({kind})"
    check_choice("folds", "kind", kind, UNITS)
    check_count(who, "k", k, 2)
    units = np.array(unit_labels(who, sensors, kind, seed, block_degrees))
    number = np.floor(hashed(int(seed), f"{kind}-folds", units.tolist()) * k).astype(int)
    empty = np.setdiff1d(np.arange(k), number)
    if empty.size:
        what = f"{empty.size} of {k} folds are empty: there are {np.unique(units).size} units"
        step = "Take fewer folds, smaller units or another seed"
        raise ParameterError(who, what, got=int(k), next_step=step)
    options = {"k": int(k), "seed": int(seed), **({"block_degrees": float(block_degrees)} if kind == "block" else {})}
    result = []
    for fold in range(k):
        sides = np.where(number == fold, "test", "train")
        result.append(finish_split(who, kind, sides, sensors, {**options, "fold": fold}, buffer_km, ["train"]))
        result[-1].check(accept, **audit_options)
    return result
