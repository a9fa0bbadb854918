"""Which ISMN sensor a released record means: the rules of the release's own merge script, and what they leave open.

That script takes the network by its exact name, then the first station of which every "_"-part of the record's station name
is a part (hyphens aside), then the first soil moisture sensor whose depths, written as ISMN writes them, contain "0.05".
"CR200-1" so also finds CR200-11. Here every candidate is listed, and by default the station nearest to the record's own
coordinates is taken, and of its sensors one within 0-5 cm before one that reaches below; ``choose="first"`` does as the
script does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from smnb.contract import ParameterError
from smnb.grids import great_circle_km
from smnb.loaders.insitu.policies import DEFAULT_DEPTH, depth_inside

CHOICES = ("nearest", "first")


def is_5_cm(depth_from: float, depth_to: float) -> bool:
    """Whether the script takes a sensor of these depths (m): their six decimals contain "0.05".

    Examples
    --------
    >>> [is_5_cm(*d) for d in [(0.05, 0.05), (0.0508, 0.0508), (0.0, 0.05), (0.0, 0.1), (0.05, 0.1), (0.2, 0.2)]]
    [True, True, True, False, True, False]
    """
    return "0.05" in f"{depth_from:.6f}_{depth_to:.6f}"


def _matches(wanted: str, station: str) -> bool:
    """Whether every part of the record's station name occurs in a station's name, with its hyphens or without."""
    bare = station.replace("-", "")
    return all(part in station or part in bare for part in wanted.split("_"))


@dataclass(frozen=True)
class SensorMatch:
    """The ISMN sensor that was chosen for a sensor of the release, or why there is none.

    Parameters
    ----------
    row : dict or None
        Its row of the archive's sensor table.
    reason : str
        Empty, or ``network_unknown``, ``station_unknown``, ``station_too_far`` or ``no_5_cm_sensor``.
    stations, sensors : tuple of str
        All candidates: ``NETWORK/STATION``, and sensors of the chosen station.
    distance_km : float
        From the record's coordinates to the chosen station; NaN without one.
    """

    row: dict[str, Any] | None
    reason: str
    stations: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()
    distance_km: float = float("nan")


class StationIndex:
    """Sensors of an archive by network and station.

    Parameters
    ----------
    rows : sequence of dict
        Rows of the sensor table (`smnb.loaders.insitu.index_archive`); other variables than soil moisture are left out.
    choose : {"nearest", "first"}
        Of several candidates.
    max_km : float, optional
        Farther from the record's coordinates is no match; None for no limit, as the script has it.

    Raises
    ------
    ParameterError
        On an unknown choice or a distance that is none.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], *, choose: str = "nearest", max_km: float | None = 5.0) -> None:
        if choose not in CHOICES:
            raise ParameterError("StationIndex", "unknown 'choose'", got=choose, expected=list(CHOICES))
        if max_km is not None and not max_km > 0:
            raise ParameterError("StationIndex", "'max_km' is not above 0", got=max_km)
        self.choose, self.max_km = choose, max_km
        self._networks: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for row in sorted((row for row in rows if row["variable"] == "soil_moisture"), key=lambda row: row["file"]):
            for network in {row["network"], _folders(row)[0] or row["network"]}:
                stations = self._networks.setdefault(network, {})
                stations.setdefault(row["station"], []).append(row)

    def find(self, sensor_id: str, lat: float, lon: float) -> SensorMatch:
        """Find the ISMN sensor of ``NETWORK__STATION__SENSORTYPE`` at a place (degrees)."""
        network, wanted, instrument = sensor_id.split("__")
        stations = self._networks.get(network)
        if stations is None:
            return SensorMatch(None, "network_unknown")
        found = [
            name for name, rows in stations.items() if _matches(wanted, name) or _matches(wanted, _folders(rows[0])[1])
        ]
        names = tuple(f"{network}/{name}" for name in found)
        if not found:
            return SensorMatch(None, "station_unknown")
        distance = [_distance_km(stations[name][0], lat, lon) for name in found]
        chosen = int(np.argmin(distance)) if self.choose == "nearest" else 0
        if self.max_km is not None and distance[chosen] > self.max_km:
            return SensorMatch(None, "station_too_far", names, distance_km=distance[chosen])
        rows = [row for row in stations[found[chosen]] if is_5_cm(row["depth_from"], row["depth_to"])]
        sensors = tuple(row["sensor_id"] for row in rows)
        if not rows:
            return SensorMatch(None, "no_5_cm_sensor", names, distance_km=distance[chosen])
        if self.choose == "nearest":
            rows.sort(
                key=lambda row: (
                    not depth_inside(row["depth_from"], row["depth_to"], DEFAULT_DEPTH),
                    not _same_instrument(instrument, row["instrument"]),
                )
            )
        return SensorMatch(rows[0], "", names, sensors, distance[chosen])


def _folders(row: dict[str, Any]) -> tuple[str, str]:
    """Network and station as the archive's folders name them; empty for loose files."""
    parts = PurePosixPath(str(row["file"]).split("|")[0]).parts
    return (parts[-3] if len(parts) > 2 else "", parts[-2] if len(parts) > 1 else "")


def _same_instrument(a: str, b: str) -> bool:
    def bare(name: str) -> str:
        return "".join(letter for letter in name.lower() if letter.isalnum())

    return bare(a) == bare(b)


def _distance_km(row: dict[str, Any], lat: float, lon: float) -> float:
    return float(great_circle_km(row["lat"], row["lon"], lat, lon))
