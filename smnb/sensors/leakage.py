"""Audit of a split: what training shares with validation and test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import ContractError, ParameterError, check_places, check_range, check_table
from smnb.grids import EARTH_RADIUS_KM, EASE_GRIDS

SIDES = ("train", "validation", "test")
HELD_OUT = ("validation", "test")
#: The sides, and what a buffer between them drops.
SPLIT_SIDES = (*SIDES, "buffer")
#: What a split can leak, by the name that accepts it.
LEAKS = ("shared_station", "shared_footprint", "shared_coarse_cell", "shared_sensor")
#: Side of a square input patch of paper 004.
FOOTPRINT_KM = 2.56
#: Cells of the coarse products: GLDAS, and SMAP's enhanced grid.
COARSE_CELLS = ("0.25deg", "ease2_9km")
_EASE2 = {"ease2_36km": "M36", "ease2_9km": "M09", "ease2_3km": "M03"}


def check_sensors(who: str, sensors: pd.DataFrame, columns: Sequence[str], *, unique: bool = True) -> None:
    """Raise an error unless the table has ``sensor_id`` and `columns`, complete and on the Earth, and each sensor once."""
    wanted = ["sensor_id", *columns]
    check_table(who, sensors, wanted, complete=wanted, unique="sensor_id" if unique else None)
    if {"lat", "lon"} <= set(wanted):
        check_places(who, *(sensors[name].to_numpy("float64") for name in ("lat", "lon")))


def _radians(table: pd.DataFrame) -> NDArray[np.float64]:
    return np.deg2rad(table[["lat", "lon"]].to_numpy("float64"))


def nearest_km(points: pd.DataFrame, targets: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Great-circle distance from each point to the nearest target, and which it is."""
    from sklearn.neighbors import BallTree  # heavy: workers that only cut images import this room and split nothing

    if targets.empty or points.empty:
        return np.full(len(points), np.inf), np.full(len(points), -1)
    distance, which = BallTree(_radians(targets), metric="haversine").query(_radians(points), k=1)
    return distance[:, 0] * EARTH_RADIUS_KM, which[:, 0]


@dataclass(frozen=True)
class Audit:
    """What the sides of a split have in common."""

    #: One row a validation or test sensor: ``sensor_id``, ``side``, ``nearest_train``, ``distance_km`` (Figure 6).
    nearest: pd.DataFrame
    #: By leak, the held-out sensors that it touches: ``sensor_id``, ``side``, and for a footprint ``train`` and
    #: ``distance_km`` (a row a pair of overlapping patches), for a coarse cell ``grid`` and ``cell``.
    shared: dict[str, pd.DataFrame]
    footprint_km: float = FOOTPRINT_KM
    #: Leaks that could not be looked for, since the table lacks columns.
    not_checked: tuple[str, ...] = ()

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
        for side in HELD_OUT:
            km = self.nearest.loc[self.nearest["side"] == side, "distance_km"]
            if len(km):
                lines.append(
                    f"{side}: {len(km)} sensors, nearest training sensor at {km.min():.2f} km (least), {km.median():.1f} km "
                    f"(median); {100 * (km < self.footprint_km).mean():.1f} % within {self.footprint_km:g} km, "
                    f"{100 * (km < 10.0).mean():.1f} % within 10 km"
                )
        lines += [f"not checked: {name}, for want of columns" for name in self.not_checked]
        return "\n".join(lines)


def _cells(who: str, sensors: pd.DataFrame, grid: str) -> NDArray[np.int64]:
    """Cell of each sensor as one number."""
    lat, lon = (sensors[name].to_numpy("float64") for name in ("lat", "lon"))
    if grid in _EASE2:
        row, column = EASE_GRIDS[_EASE2[grid]].rowcol(lat, lon, outside="mask")
        return row * 100_000 + column
    number = re.fullmatch(r"(\d*\.?\d+)deg", str(grid))
    degrees = float(number[1]) if number else 0.0
    if not 0.0 < degrees <= 90.0:
        raise ParameterError(who, "unknown coarse grid", got=grid, expected=["0.25deg (any size)", *_EASE2])
    row = np.floor((lat + 90.0) / degrees).astype(np.int64)
    return row * 1_000_000 + np.floor(((lon + 180.0) % 360.0) / degrees).astype(np.int64)


def _footprint_pairs(held: pd.DataFrame, train: pd.DataFrame, footprint_km: float) -> pd.DataFrame:
    """Pairs whose squares, of side `footprint_km` and north up, overlap."""
    if held.empty or train.empty:
        return pd.DataFrame(columns=["sensor_id", "side", "train", "distance_km"])
    from sklearn.neighbors import BallTree

    reach = footprint_km * np.sqrt(2.0) / EARTH_RADIUS_KM
    tree = BallTree(_radians(train), metric="haversine")
    near, distance = tree.query_radius(_radians(held), reach, return_distance=True)
    size = np.array([len(one) for one in near])
    i, j = np.repeat(np.arange(len(held)), size), np.concatenate(near).astype(int)
    a, b = _radians(held)[i], _radians(train)[j]
    north = np.abs(a[:, 0] - b[:, 0]) * EARTH_RADIUS_KM
    east = np.abs((a[:, 1] - b[:, 1] + np.pi) % (2 * np.pi) - np.pi) * np.cos((a[:, 0] + b[:, 0]) / 2) * EARTH_RADIUS_KM
    overlap = (north < footprint_km) & (east < footprint_km)
    i, j, km = i[overlap], j[overlap], np.concatenate(distance)[overlap] * EARTH_RADIUS_KM
    pairs = held[["sensor_id", "side"]].iloc[i].reset_index(drop=True)
    return pairs.assign(train=train["sensor_id"].to_numpy()[j], distance_km=km)


def audit_in_time(sensor_ids: pd.Series, sides: pd.Series) -> Audit:
    """Audit of readings that were split by date: sensors on both sides share station, footprint and cell by that."""
    table = pd.DataFrame({"sensor_id": sensor_ids.to_numpy(), "side": sides.to_numpy()}).drop_duplicates()
    trained = table.loc[table["side"] == "train", "sensor_id"]
    both = table[table["side"].isin(HELD_OUT) & table["sensor_id"].isin(trained)].reset_index(drop=True)
    nearest = pd.DataFrame(columns=["sensor_id", "side", "nearest_train", "distance_km"])
    return Audit(nearest, {"shared_sensor": both}, not_checked=LEAKS[:3])


def audit(
    sides: pd.Series,
    sensors: pd.DataFrame,
    *,
    footprint_km: float = FOOTPRINT_KM,
    coarse_cells: Sequence[str] = COARSE_CELLS,
) -> Audit:
    """Look for what training shares with validation and test.

    Parameters
    ----------
    sides : Series
        Sides indexed by ``sensor_id``, as `Split.assignment`. Sensors of the side "buffer" are left out.
    sensors : DataFrame
        Table with ``sensor_id``, ``lat``, ``lon`` and, for shared stations, ``network`` and ``station``.
    footprint_km : float
        Side of the square patch around each sensor; 2.56 km in paper 004.
    coarse_cells : sequence of str
        Grids of coarse inputs: "0.25deg" or any other number of degrees, "ease2_36km", "ease2_9km", "ease2_3km".

    Raises
    ------
    ContractError
        On a missing column, a side that is none, or a sensor without a side.
    ParameterError
        On an unknown grid, a place that is none, or a footprint that is not positive.
    """
    who = "audit"
    check_range(who, "footprint_km", footprint_km, 0, ends="(]", units="km")
    check_sensors(who, sensors, ["lat", "lon"])
    table = sensors.reset_index(drop=True)
    table["side"] = table["sensor_id"].map(sides)
    strange = table.loc[~table["side"].isin(SPLIT_SIDES), "sensor_id"]
    if len(strange):
        raise ContractError(who, "a sensor has no side", got=str(strange.iloc[0]), expected=list(SPLIT_SIDES))
    held, train = table[table["side"].isin(HELD_OUT)], table[table["side"] == "train"]
    distance, which = nearest_km(held, train)
    nearest = held[["sensor_id", "side"]].assign(
        nearest_train=train["sensor_id"].to_numpy()[which] if len(train) else None, distance_km=distance
    )
    shared, not_checked = {}, ("shared_station",)
    if {"network", "station"} <= set(table.columns):
        station = table["network"].astype(str) + "\0" + table["station"].astype(str)
        same = station[held.index].isin(station[train.index])
        shared["shared_station"], not_checked = held.loc[same, ["sensor_id", "side"]].reset_index(drop=True), ()
    shared["shared_footprint"] = _footprint_pairs(held, train, footprint_km)
    cells = [pd.DataFrame(columns=["sensor_id", "side", "grid", "cell"])]
    for grid in (coarse_cells,) if isinstance(coarse_cells, str) else coarse_cells:
        cell = pd.Series(_cells(who, table, grid), index=table.index)
        same = cell[held.index].isin(cell[train.index])
        cells.append(held.loc[same, ["sensor_id", "side"]].assign(grid=grid, cell=cell[held.index][same]))
    shared["shared_coarse_cell"] = pd.concat([one for one in cells if len(one)] or cells, ignore_index=True)
    return Audit(nearest.reset_index(drop=True), shared, footprint_km, not_checked)
