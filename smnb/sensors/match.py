"""Matching in time: readings with overpasses, for one sensor or a long table of many.

Rules that hold everywhere: both ends of a window count; of two readings equally far away the
earlier is taken; of two at one time the first in the table; a missing value is passed over, not matched. How many were
matched is part of every result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ContractError, ParameterError, check_choice, plain
from smnb.sensors.search import Groups, UnorderedError, in_groups, nearest_readings, window_means

TIME_METHODS = ("nearest", "mean")


@dataclass(frozen=True)
class TimeMatch:
    """What `match_in_time` found, one entry a time on the left."""

    method: str
    window: np.timedelta64
    #: Position on the right of the match, -1 where there is none; None for ``mean``.
    index: NDArray[np.int64] | None
    #: Time on the right minus time on the left, NaT where there is none; None for ``mean``.
    offset: NDArray[np.timedelta64] | None
    #: How many values on the right went in.
    count: NDArray[np.int64]
    #: The value matched, or the mean; NaN where there is none. None where no values were given.
    values: NDArray[np.float64] | None
    n_right: int

    @property
    def n_left(self) -> int:
        """Times on the left."""
        return self.count.size

    @property
    def n_matched(self) -> int:
        """Times on the left that found something."""
        return int((self.count > 0).sum())

    @property
    def n_reused(self) -> int:
        """Matches beyond the first of one reading on the right: such pairs are not independent (0 for ``mean``)."""
        if self.index is None:
            return 0
        found = self.index[self.index >= 0]
        return int(found.size - np.unique(found).size)

    def __str__(self) -> str:
        share = 100.0 * self.n_matched / self.n_left if self.n_left else 0.0
        hours = self.window / np.timedelta64(1, "h")
        again = f", {self.n_reused} with a reading matched before" if self.n_reused else ""
        return (
            f"matched {self.n_matched} of {self.n_left} ({share:.1f} %) with {self.n_right} readings, {self.method} within "
            f"{hours:g} h{again}"
        )


def _window(who: str, window: object) -> np.timedelta64:
    """Parse a window; a bare number is refused, since days and hours are both in use for it."""
    if isinstance(window, np.timedelta64 | timedelta) or (isinstance(window, str) and re.search("[A-Za-z]", window)):
        try:
            parsed = pd.Timedelta(window)
        except ValueError as error:
            raise ParameterError(who, "'window' is no time span", got=window, expected="1h") from error
        if parsed is not pd.NaT and pd.Timedelta(0) <= parsed <= pd.Timedelta(days=36525):
            return parsed.to_timedelta64().astype("timedelta64[ns]")
    raise ParameterError(
        who, "'window' is no time span from 0", got=window, expected=plain("with its unit, e.g. '1h', or a Timedelta")
    )


def _times(who: str, side: str, times: ArrayLike) -> NDArray[np.int64]:
    """Times as int64 nanoseconds, UTC; a missing one is the least int64, and `in_groups` finds it."""
    if isinstance(getattr(times, "dtype", None), pd.DatetimeTZDtype):
        times = pd.DatetimeIndex(times).tz_convert("UTC").tz_localize(None)
    array = np.asarray(times)
    if array.dtype.kind != "M" or array.ndim != 1:
        what, step = f"the times on the {side} are no vector of UTC times", "Parse them with pandas.to_datetime"
        raise ContractError(who, what, got=f"{array.dtype}, {array.ndim}-d", expected="datetime64[ns]", next_step=step)
    return array.astype("datetime64[ns]", copy=False).view("int64")


def _codes(who: str, groups: Sequence[ArrayLike] | None, sizes: tuple[int, int]) -> tuple[list, int]:
    """Whole-number codes of the groups of both sides; a group of one side only matches nothing."""
    if groups is None:
        return [None, None], 1
    left, right = groups
    if len(left) != sizes[0] or len(right) != sizes[1]:
        raise ContractError(who, "there is not one group label a time", got=(len(left), len(right)), expected=sizes)
    kinds = [getattr(side, "dtype", None) for side in (left, right)]
    if isinstance(kinds[0], pd.CategoricalDtype) and kinds[0] == kinds[1]:
        arrays = [pd.Series(side, copy=False).array for side in (left, right)]
        codes, k = [a.codes for a in arrays], len(kinds[0].categories)
        if list(kinds[0].categories) != list(kinds[1].categories):
            codes[1] = pd.Categorical(right, categories=kinds[0].categories).codes
    else:
        joined, labels = pd.factorize(np.concatenate([np.asarray(left, object), np.asarray(right, object)]))
        codes, k = [joined[: sizes[0]], joined[sizes[0] :]], len(labels)
    if any(c.size and c.min() < 0 for c in codes):
        raise ContractError(who, "a reading has no group label")
    return codes, k


def match_in_time(
    left_times: ArrayLike,
    right_times: ArrayLike,
    right_values: ArrayLike | None = None,
    *,
    method: str = "nearest",
    window: str | np.timedelta64 | pd.Timedelta | timedelta,
    groups: tuple[ArrayLike, ArrayLike] | None = None,
) -> TimeMatch:
    """Find for each time on the left what the right has near it.

    Parameters
    ----------
    left_times, right_times : array-like of datetime64, shapes (n_left,) and (n_right,)
        UTC, in any order, repeated times allowed. Times with a zone are converted.
    right_values : array-like of float, shape (n_right,), optional
        Values to match; those that are NaN are passed over. ``mean`` needs them.
    method : {"nearest", "mean"}
        The nearest reading, or the mean of all within the window.
    window : str or timedelta
        Largest distance to either side, inclusive, with its unit ("1h").
    groups : pair of array-like, optional
        Labels, e.g. of the sensor, of each time on the left and on the right: only equal labels are matched. Categorical
        labels of one dtype are fastest.

    Returns
    -------
    TimeMatch
        In the order of the left. At equal distance the earlier reading wins, of equal times the first on the right.

    Raises
    ------
    ContractError
        If times are not datetimes, missing or unlike the values in number, or a value is infinite.
    ParameterError
        On an unknown method, a window without a unit, or ``mean`` without values.

    Examples
    --------
    >>> hours = np.datetime64("2020-01-01T00", "ns") + np.arange(4) * np.timedelta64(1, "h")
    >>> found = match_in_time(hours[1:2] + np.timedelta64(20, "m"), hours, [0.1, np.nan, 0.3, 0.4], window="1h")
    >>> print(found, found.values)
    matched 1 of 1 (100.0 %) with 4 readings, nearest within 1 h [0.3]
    """
    who = "match_in_time"
    check_choice(who, "method", method, TIME_METHODS)
    span = _window(who, window)
    left, right = _times(who, "left", left_times), _times(who, "right", right_times)
    codes, k = _codes(who, groups, (left.size, right.size))
    if right_values is None and method == "mean":
        raise ParameterError(who, "'mean' needs right_values", got=None)
    values = None
    if right_values is not None:
        values = np.asarray(right_values, dtype=np.float64)
        if values.shape != right.shape:
            what = "there is not one value a time on the right"
            raise ContractError(who, what, got=values.shape, expected=right.shape)
    window_ns = int(span.astype(np.int64))
    found = _match(who, method, window_ns, left, right, values, codes, k)
    # a missing value is looked for where it matters, in what was matched: a look at all readings costs as much as matching
    kept = None
    if values is not None and not np.isfinite(found[2][found[1] > 0]).all():
        if np.isinf(values).any():
            raise ContractError(who, "a value is infinite", got=int(np.isinf(values).sum()), expected="NaN for missing")
        kept = np.flatnonzero(~np.isnan(values))
        codes[1] = None if codes[1] is None else codes[1][kept]
        found = _match(who, method, window_ns, left, right[kept], values[kept], codes, k)
    index, count, picked, later = found
    if kept is not None and kept.size and index is not None:
        index = np.where(index >= 0, kept[index], -1)
    offset = None if later is None else later.view("timedelta64[ns]")
    return TimeMatch(method, span, index, offset, count, picked, int(np.size(right_times)))


def _match(
    who: str, method: str, window: int, left: NDArray, right: NDArray, values: NDArray | None, codes: list, k: int
) -> tuple[NDArray | None, NDArray, NDArray | None, NDArray | None]:
    """Index, count, values and offset of a `TimeMatch`, with whatever values there are."""
    try:
        return _match_ordered(method, window, in_groups(who, codes, left, right, k, ordered=True), values)
    except UnorderedError:
        return _match_ordered(method, window, in_groups(who, codes, left, right, k, ordered=False), values)


def _match_ordered(
    method: str, window: int, groups: Groups, values: NDArray | None
) -> tuple[NDArray | None, NDArray, NDArray | None, NDArray | None]:
    left_order, right_order = groups.left_order, groups.right_order
    if method == "mean":
        ordered = values if right_order is None else values[right_order]
        mean, count = (_unsort(v, left_order) for v in window_means(groups, ordered, window))
        return None, count, mean, None
    index, later = (_unsort(v, left_order) for v in nearest_readings(groups, window))
    there = index >= 0
    if right_order is not None and right_order.size:
        index = np.where(there, right_order[index], -1)
    picked = None
    if values is not None:
        picked = values[index] if values.size else np.full(index.size, np.nan)
        picked[~there] = np.nan
    return index, there.astype(np.int64), picked, later


def _unsort(values: NDArray, order: NDArray[np.intp] | None) -> NDArray:
    if order is None:
        return values
    result = np.empty_like(values)
    result[order] = values
    return result


def match_tables(
    left: pd.DataFrame,
    right: pd.DataFrame,
    *,
    value: str,
    window: str | np.timedelta64 | pd.Timedelta | timedelta,
    method: str = "nearest",
    name: str | None = None,
) -> tuple[pd.DataFrame, TimeMatch]:
    """Match two long tables of many sensors at once.

    Parameters
    ----------
    left, right : DataFrame
        Tables with ``sensor_id`` and ``time``, e.g. overpasses and readings.
    value, name : str
        Column of `right` to match (rows where it is NaN are passed over), and the new column's name if it is another.
    window, method
        As `match_in_time`.

    Returns
    -------
    DataFrame, TimeMatch
        `left` with the columns `name` (NaN unmatched), ``<name>_count`` and, for ``nearest``, ``<name>_offset``; and what was
        matched, which prints the numbers and, for ``nearest``, knows the row of `right` (`TimeMatch.index`).

    Raises
    ------
    ContractError
        On a missing column, or a column that is in `left` already.
    ParameterError
        As `match_in_time`.
    """
    who = "match_tables"
    keys = ["sensor_id", "time"]
    for side, table, columns in (("left", left, keys), ("right", right, [*keys, value])):
        if not set(columns) <= set(table.columns):
            raise ContractError(who, f"the {side} table lacks columns", got=list(map(str, table)), expected=columns)
    new = name or value
    taken = [column for column in (new, f"{new}_count", f"{new}_offset") if column in left.columns]
    if taken:
        raise ContractError(who, f"the left table has {taken} already", next_step="Pass another name=, or rename them")
    numbers = right[value]
    # na_value copies, which costs as much as the matching
    numbers = numbers.to_numpy() if numbers.dtype == np.float64 else numbers.to_numpy("float64", na_value=np.nan)
    groups = (left["sensor_id"], right["sensor_id"])
    found = match_in_time(left["time"], right["time"], numbers, method=method, window=window, groups=groups)
    columns: dict[str, Any] = {new: found.values, f"{new}_count": found.count}
    if found.index is not None:
        columns[f"{new}_offset"] = found.offset
    return pd.concat([left, pd.DataFrame(columns, index=left.index, copy=False)], axis=1), found
