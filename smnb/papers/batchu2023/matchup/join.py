"""The join of readings with scenes in space and time: for each reading the latest scene before it, a search a sensor.

Rules: a scene counts from its own time until the bound after it, both included; the latest wins; of scenes of one time the
one in which the point lies deepest (farthest from an edge), then the first by id. Static scenes have no time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.papers.batchu2023.matchup.sources import MatchSource, Scenes

#: Why a point has no image of a source; 0 is that it has one.
REASONS = ("matched", "no scene covers the point", "no scene in time", "all scenes in time cloudy")
_MATCHED, _UNCOVERED, _UNTIMELY, _CLOUDY = range(4)


@dataclass(frozen=True)
class SourceJoin:
    """Which scene each point meets."""

    scene: NDArray[np.int32]
    """Position in the table of scenes, -1 where there is none."""
    reason: NDArray[np.int8]
    """Number in `REASONS`."""

    def counts(self) -> dict[str, int]:
        """Points without a scene, by reason."""
        counts = np.bincount(self.reason, minlength=len(REASONS))
        return {name: int(count) for name, count in zip(REASONS[1:], counts[1:], strict=True)}


class _Order:
    """Columns of the table of scenes, ready for the search."""

    def __init__(self, scenes: Scenes, spec: MatchSource) -> None:
        table = scenes.table
        time = pd.DatetimeIndex(table["time"]) if len(table) else pd.DatetimeIndex([])
        time = time.tz_convert("UTC").tz_localize(None) if time.tz is not None else time
        # the time of a static image, where it has one, is that of the survey: it holds for every reading
        self.time = np.zeros(len(table), np.int64) if spec.static else time.to_numpy("datetime64[ns]").view(np.int64)
        self.rank = np.argsort(np.argsort(table["scene_id"].astype(str).to_numpy(), kind="stable"))
        self.bounds = [table[edge].to_numpy("float64") for edge in ("west", "south", "east", "north")]
        cloud = table["cloud_percentage"].to_numpy("float64")
        self.clear = np.ones(len(table), bool) if spec.cloud_limit is None else cloud <= spec.cloud_limit

    def sort(self, positions: NDArray[np.intp], lat: float, lon: float) -> NDArray[np.intp]:
        """Positions so that, up to any time, the best comes last."""
        west, south, east, north = (edge[positions] for edge in self.bounds)
        across = np.minimum((lon - west) % 360.0, (east - lon) % 360.0)
        depth = np.minimum(across, np.minimum(lat - south, north - lat))
        return positions[np.lexsort((-self.rank[positions], depth, self.time[positions]))]


def _latest(
    time: NDArray[np.int64], positions: NDArray[np.intp], wanted: NDArray[np.int64], bound: int
) -> NDArray[np.int32]:
    """Position of the last scene not after each time and not longer ago than the bound, else -1."""
    if positions.size == 0:
        return np.full(wanted.size, -1, np.int32)
    at = np.searchsorted(time, wanted, side="right") - 1
    found = (at >= 0) & (wanted - time[np.maximum(at, 0)] <= bound)
    return np.where(found, positions[np.maximum(at, 0)], -1).astype(np.int32)


def join_source(
    scenes: Scenes, spec: MatchSource, *, sensor: NDArray[np.int32], time: NDArray[np.int64], lat: NDArray, lon: NDArray
) -> SourceJoin:
    """Find the scene of each point.

    Parameters
    ----------
    scenes : SceneIndex
    spec : MatchSource
    sensor : ndarray of int32, shape (n,)
        Row of each point's sensor, ascending.
    time : ndarray of int64, shape (n,)
        ns UTC.
    lat, lon : ndarray, shape (n_sensors,)
        Degrees.

    Returns
    -------
    SourceJoin
    """
    order = _Order(scenes, spec)
    scene, reason = np.full(sensor.size, -1, np.int32), np.full(sensor.size, _UNCOVERED, np.int8)
    rows, starts = np.unique(sensor, return_index=True)
    for row, start, stop in zip(rows, starts, [*starts[1:], sensor.size], strict=True):
        here = slice(start, stop)
        covering = np.asarray(scenes.covering(float(lat[row]), float(lon[row])), dtype=np.intp)
        if covering.size == 0:
            continue
        positions = order.sort(covering, float(lat[row]), float(lon[row]))
        clear = positions[order.clear[positions]]
        if spec.static:
            scene[here] = clear[-1] if clear.size else -1
            reason[here] = _MATCHED if clear.size else _CLOUDY
            continue
        scene[here] = _latest(order.time[clear], clear, time[here], spec.bound_ns)
        if clear.size == positions.size:
            cloudy: NDArray[np.bool_] | bool = False
        else:
            cloudy = _latest(order.time[positions], positions, time[here], spec.bound_ns) >= 0
        reason[here] = np.where(scene[here] >= 0, _MATCHED, np.where(cloudy, _CLOUDY, _UNTIMELY))
    return SourceJoin(scene, reason)


def drop_repeated_scenes(sensor: NDArray[np.int32], scene: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tell which points are not the first of their sensor to meet their scene of the anchor.

    Readings are an hour apart and the anchor's bound is an hour, so that an image meets one reading, the next one after it.
    Where readings are closer, or one is at the very time of the image and one an hour on, the first is kept.

    Parameters
    ----------
    sensor, scene : ndarray of int32, shape (n,)
        In order of sensor and time.
    """
    again = np.zeros(sensor.size, bool)
    matched = np.flatnonzero(scene >= 0)
    # the scene of a sensor only moves on with time, so the points of one scene are neighbours among the matched
    again[matched[1:]] = (sensor[matched[1:]] == sensor[matched[:-1]]) & (scene[matched[1:]] == scene[matched[:-1]])
    return again
