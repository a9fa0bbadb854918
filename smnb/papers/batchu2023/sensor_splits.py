"""Splits of a store's sensors, with their audit.

They are imported where they are used: they load scikit-learn and SciPy's statistics, for which every worker that only cuts would
wait.
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

#: The paper's split, and one by blocks of 3 degrees with a buffer. What a split by sensor shares with its training side is
#: known and written down: the paper says so of footprints (Figure 6).
DEFAULT_SPLITS: dict[str, dict[str, Any]] = {
    "sensor": {
        "kind": "sensor",
        "fractions": (0.6, 0.2, 0.2),
        "accept": ("shared_station", "shared_footprint", "shared_coarse_cell"),
    },
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


def add_splits(
    sensors: pd.DataFrame, splits: Mapping[str, Split], sensor: NDArray[np.int32]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Add a column ``split_<name>`` a split, and say what the store says of each.

    Parameters
    ----------
    sensors : DataFrame
        Sensors that have samples.
    splits : mapping of str to Split
    sensor : ndarray of int32
        Row of the sensor of each sample.

    Returns
    -------
    sensors : DataFrame
    described : dict
        By split: options, sensors and samples a side, and what leaks.
    """
    from smnb.sensors import SIDES, audit

    described, columns = {}, {}
    for name, split in splits.items():
        sides = split.assignment.reindex(sensors["sensor_id"])
        columns[f"split_{name}"] = sides.to_numpy()
        found, per_sample = audit(sides, sensors), sides.to_numpy()[sensor]
        near = {
            side: {f"{km:g}_km": _share(found.share_within(km, side)) for km in (found.footprint_km, 10.0)}
            for side in SIDES[1:]
        }
        described[name] = {
            "kind": split.kind,
            "options": {key: list(v) if isinstance(v, tuple) else v for key, v in split.options.items()},
            "sensors": {side: int((sides == side).sum()) for side in (*SIDES, "buffer")},
            "samples": {side: int((per_sample == side).sum()) for side in (*SIDES, "buffer")},
            "leaks": found.leaks,
            "not_checked": list(found.not_checked),
            "share_with_training_sensor_within": near,
        }
    return sensors.assign(**columns), described


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)
