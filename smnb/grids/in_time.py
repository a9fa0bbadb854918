"""Stacks of images brought to other times."""

from __future__ import annotations

import numpy as np


def match_nearest_in_time(
    values: np.ndarray, times: np.ndarray, wanted: np.ndarray, window: np.timedelta64
) -> np.ndarray:
    """For each wanted time and pixel, the valid value nearest in time within `window`; the earlier one of two as near.

    From `values` (time, row, col) at increasing `times` to float32 (scene, row, col); NaN where there is none.
    """
    matched = np.full((wanted.size, *values.shape[1:]), np.nan, dtype="float32")
    for scene, moment in zip(matched, wanted, strict=True):
        distance = np.abs(times - moment)
        near = np.flatnonzero(distance <= window)
        for one in near[np.argsort(distance[near], kind="stable")]:
            empty = np.isnan(scene)
            if not empty.any():
                break
            scene[empty] = values[one][empty]
    return matched
