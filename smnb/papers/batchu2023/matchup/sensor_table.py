"""The sensor table of a store: the sides of the splits with their audit.

Splits are imported where they are used: they load scikit-learn and scipy's statistics, for which every worker that
only cuts would wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import ParameterError

if TYPE_CHECKING:
    from smnb.sensors import Split


#: What a split by sensor shares with its training side: the paper says so of footprints (Figure 6).
_PAPER_LEAKS = ("shared_station", "shared_footprint", "shared_coarse_cell")
#: The paper's split, whose leaks are known and written down, and one by blocks of 3 degrees with a buffer.
DEFAULT_SPLITS: dict[str, dict[str, Any]] = {
    "sensor": {"kind": "sensor", "fractions": (0.6, 0.2, 0.2), "accept": _PAPER_LEAKS},
    "block": {"kind": "block", "fractions": (0.6, 0.2, 0.2), "block_degrees": 3.0},
}


def make_splits(sensors: pd.DataFrame, splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Split]:
    """Split the sensors in each way asked for; the options are those of `smnb.sensors.make_split`."""
    from smnb.sensors import make_split

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
    from smnb.sensors import SIDES, audit

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
