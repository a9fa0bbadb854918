"""Sums, ranks and moving averages over the groups of a long table, all groups in one vectorised pass.

A table is given as integer group codes (0 … n_groups - 1) beside flat arrays of values. Nothing here loops over groups.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from smnb.contract import ContractError, check_count, check_range

_DAY_MS = 86_400_000


def group_sum(codes: np.ndarray, n_groups: int, values: np.ndarray | None = None) -> np.ndarray:
    """Sum of `values` (or the number of rows) in each group, shape ``(n_groups,)``."""
    return np.bincount(codes, weights=values, minlength=n_groups)


def group_mean(codes: np.ndarray, n_groups: int, values: np.ndarray) -> np.ndarray:
    """Mean of each group in two passes, exact for a constant group; NaN for an empty group.

    Values are taken relative to one member of the group first, so that a group of equal values gives just that value and
    its variance about the mean is exactly 0, not a rounding error that a correlation would divide by.
    """
    member = np.zeros(n_groups)
    member[codes] = values
    count = group_sum(codes, n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = member + group_sum(codes, n_groups, values - member[codes]) / count
        mean += group_sum(codes, n_groups, values - mean[codes]) / count
    return mean


def group_ranks(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank of each value within its group, from 1; ties share their mean rank.

    Examples
    --------
    >>> group_ranks(np.array([0, 0, 0, 1, 1]), np.array([0.3, 0.1, 0.3, 5.0, 4.0])).tolist()
    [2.5, 1.0, 2.5, 2.0, 1.0]
    """
    if values.size == 0:
        return np.zeros(0)
    order = np.lexsort((values, codes))
    c, v = codes[order], values[order]
    position = np.arange(v.size)
    new_group = np.r_[True, c[1:] != c[:-1]]
    new_value = new_group | np.r_[True, v[1:] != v[:-1]]
    group_start = position[new_group][np.cumsum(new_group) - 1]
    run_start = position[new_value]
    run_stop = np.r_[run_start[1:], v.size]
    mean_position = (run_start + run_stop - 1) / 2.0
    ranks = np.empty(v.size)
    ranks[order] = mean_position[np.cumsum(new_value) - 1] - group_start + 1.0
    return ranks


def as_milliseconds(time: object, *, who: str) -> np.ndarray:
    """Times (datetime64, pandas datetimes with or without a zone, ISO strings) as int64 milliseconds of UTC."""
    values = time if isinstance(time, pd.Series) else pd.Series(np.asarray(time))
    if values.dtype.kind in "iufb":
        raise ContractError(who, "the times are plain numbers", got=str(values.dtype), expected="UTC datetimes")
    if not pd.api.types.is_datetime64_dtype(values.dtype):
        try:
            values = pd.to_datetime(values, utc=True).dt.tz_localize(None)
        except (ValueError, TypeError) as error:
            raise ContractError(who, f"the times cannot be read ({error})", expected="UTC datetimes") from error
    if values.isna().any():
        step = "Drop the rows without a time"
        raise ContractError(who, "a time is missing", got=int(values.isna().sum()), next_step=step)
    return values.to_numpy("datetime64[ms]").astype("int64")


def group_anomaly(
    codes: np.ndarray, time_ms: np.ndarray, values: np.ndarray, *, window_days: float = 35.0, window_min_obs: int = 3
) -> np.ndarray:
    """Short-term anomaly: each finite value, in any order, minus the mean of its group within a centred window of time.

    Both ends belong to the window, which is `window_days` wide. With fewer than `window_min_obs` values it gives NaN: a window
    with the value alone would give an anomaly of exactly 0, which is no information.
    """
    check_range("group_anomaly", "window_days", window_days, 0, ends="(]", units="days")
    check_count("group_anomaly", "window_min_obs", window_min_obs)
    if values.size == 0:
        return np.zeros(0)
    order = np.lexsort((time_ms, codes))
    c, t, v = codes[order].astype("int64"), time_ms[order], values[order]
    half = round(window_days * _DAY_MS / 2.0)
    # one increasing key for all groups: windows of neighbouring groups cannot meet
    stride = int(t.max() - t.min()) + 2 * half + 2
    key = c * stride + (t - t.min())
    first, last = np.searchsorted(key, key - half, "left"), np.searchsorted(key, key + half, "right")
    v = v - group_mean(c, int(c[-1]) + 1, v)[c]  # the running sum stays small, so differences of it stay exact
    total = np.r_[0.0, np.cumsum(v)]
    count = last - first
    anomaly = np.where(count >= window_min_obs, v - (total[last] - total[first]) / count, np.nan)
    out = np.empty(v.size)
    out[order] = anomaly
    return out
