"""Matching in time: readings with overpasses, for one sensor or a long table of many.

Rules that hold everywhere: both ends of a window count; of two readings equally far away the earlier is taken; of two at one time
the first in the table; a missing value is passed over, not matched. How many were matched is part of every result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ContractError, ParameterError, check_choice, plain

TIME_METHODS = ("nearest", "mean")
_NO_BREAK = np.empty(0, dtype=np.intp)
_NAT_NS = np.timedelta64("NaT", "ns").astype("int64")  # a missing time as int64


@dataclass(frozen=True)
class TimeMatch:
    """What `match_in_time` found, one entry a time on the left."""

    method: str
    window: np.timedelta64
    index: NDArray[np.int64] | None  # position on the right of the match, -1 where there is none; None for ``mean``
    offset: NDArray[np.timedelta64] | None  # time on the right minus time on the left, NaT or None likewise
    count: NDArray[np.int64]  # how many values on the right went in
    values: (
        NDArray[np.float64] | None
    )  # the value matched, or the mean; NaN where there is none; None if none were given
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
        return 0 if self.index is None else int(pd.Series(self.index[self.index >= 0]).duplicated().sum())

    def __str__(self) -> str:
        share = 100.0 * self.n_matched / self.n_left if self.n_left else 0.0
        hours = self.window / np.timedelta64(1, "h")
        again = f", {self.n_reused} with a reading matched before" if self.n_reused else ""
        matched = f"matched {self.n_matched} of {self.n_left} ({share:.1f} %) with {self.n_right} readings"
        return f"{matched}, {self.method} within {hours:g} h{again}"


def _window(who: str, window: object) -> np.timedelta64:
    """Parse a window; a bare number is refused, since days and hours are both in use for it."""
    if isinstance(window, np.timedelta64 | timedelta) or (isinstance(window, str) and re.search("[A-Za-z]", window)):
        try:
            parsed = pd.Timedelta(window)
        except ValueError as error:
            raise ParameterError(who, "'window' is no time span", got=window, expected="1h") from error
        if parsed is not pd.NaT and pd.Timedelta(0) <= parsed <= pd.Timedelta(days=36525):
            return parsed.to_timedelta64().astype("timedelta64[ns]")
    expected = plain("with its unit, e.g. '1h', or a Timedelta")
    raise ParameterError(who, "'window' is no time span from 0", got=window, expected=expected)


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
    """Whole-number codes of the groups of both sides, and how many there are; a group of one side only matches nothing."""
    if groups is None:
        return [None, None], 1
    if tuple(map(len, groups)) != sizes:
        raise ContractError(who, "there is not one group label a time", got=tuple(map(len, groups)), expected=sizes)
    kinds = [getattr(side, "dtype", None) for side in groups]
    if isinstance(kinds[0], pd.CategoricalDtype) and kinds[0] == kinds[1]:
        codes, k = [pd.Series(side, copy=False).array.codes for side in groups], len(kinds[0].categories)
        if list(kinds[0].categories) != list(kinds[1].categories):
            codes[1] = pd.Categorical(groups[1], categories=kinds[0].categories).codes
    else:
        joined, labels = pd.factorize(np.concatenate([np.asarray(side, object) for side in groups]))
        codes, k = [joined[: sizes[0]], joined[sizes[0] :]], len(labels)
    if any(c.size and c.min() < 0 for c in codes):
        raise ContractError(who, "a reading has no group label")
    return codes, k


class _Axis:
    """Ascending times of one group, in runs of a constant step: a place in a run is a division, not a search.

    Hourly readings with gaps are a few such runs. Where runs are many, times are searched.
    """

    def __init__(self, time: NDArray[np.int64], scratch: NDArray[np.int64] | None = None) -> None:
        self.time = time
        self.first: NDArray[np.intp] | None = None
        step = np.subtract(time[1:], time[:-1], out=None if scratch is None else scratch[: time.size - 1])
        self.ascending = self.repeats = True
        if not step.size:
            self.first, self.step, self.repeats = np.zeros(1, dtype=np.intp), 1, False
            self.length, self.begin = np.array([time.size]), time[:1]
            return
        self.step = int(step[step.size // 2])
        other = step != self.step
        breaks = np.flatnonzero(other) if other.any() else _NO_BREAK
        if self.step > 0 and breaks.size <= time.size // 20 and (step[breaks] > 0).all():
            self.repeats = False
            self.first = np.concatenate([[0], breaks + 1])
            self.begin = time[self.first]
            self.length = np.diff(np.append(self.first, time.size))
        else:
            least = step.min()
            self.ascending, self.repeats = bool(least >= 0), bool(least == 0)

    def nearest(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Position of the nearest time; of two equally near the earlier, of equal ones the first."""
        if self.first is None:
            middle = self.time[:-1] + (self.time[1:] - self.time[:-1]) // 2
            found = np.searchsorted(middle, wanted)
            return np.searchsorted(self.time, self.time[found]) if self.repeats else found
        run: Any = 0
        if self.first.size > 1:
            last = self.time[self.first[1:] - 1]
            run = np.searchsorted(last + (self.begin[1:] - last) // 2, wanted)
        found = (wanted - (self.begin[run] - (self.step - 1) // 2)) // self.step
        return self.first[run] + np.minimum(np.maximum(found, 0), self.length[run] - 1)

    def count_until(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many times are not after `wanted`."""
        if self.first is None:
            return np.searchsorted(self.time, wanted, side="right")
        run: Any = 0
        if self.first.size > 1:
            run = np.maximum(np.searchsorted(self.begin, wanted, side="right") - 1, 0)
        found = (wanted - self.begin[run]) // self.step + 1
        return self.first[run] + np.minimum(np.maximum(found, 0), self.length[run])


def _starts(codes: NDArray | None, size: int, k: int) -> NDArray[np.intp] | None:
    """Where each group begins, with the end at the end; None where the groups are not in order."""
    if codes is None:
        return np.array([0, size])
    if not (codes[1:] >= codes[:-1]).all():
        return None
    return np.append(np.searchsorted(codes, np.arange(k, dtype=codes.dtype)), size)


def _no_missing(who: str, side: str, least: int) -> None:
    if least == _NAT_NS:
        raise ContractError(who, f"a time on the {side} is missing", next_step="Drop readings without a time")


class _UnorderedError(Exception):
    """The right's times turned out not to ascend within a group."""


def _groups(who: str, right: NDArray, starts: list[NDArray]) -> Iterator[tuple[slice, slice, _Axis]]:
    """Slices and axis of each group that both sides have; one at a time, since that is what the cache holds."""
    scratch = np.empty(int(np.diff(starts[1]).max(initial=1)), dtype=np.int64)
    for g in range(starts[0].size - 1):
        ours, theirs = (slice(int(begin[g]), int(begin[g + 1])) for begin in starts)
        if ours.start == ours.stop or theirs.start == theirs.stop:
            _no_missing(who, "right", right[theirs].min(initial=0))
            continue
        axis = _Axis(right[theirs], scratch)
        if not axis.ascending:
            raise _UnorderedError
        _no_missing(who, "right", axis.time[0])
        yield ours, theirs, axis


def _match(
    who: str,
    method: str,
    window: int,
    times: tuple,
    values: NDArray | None,
    codes: list,
    k: int,
    *,
    ordered: bool = True,
) -> tuple[NDArray | None, NDArray, NDArray | None, NDArray | None]:
    """Index, count, values and offset of a `TimeMatch`; `ordered` takes the right's times to ascend in each group."""
    _no_missing(who, "left", times[0].min(initial=0))
    starts, orders = [], []
    for code, side in zip(codes, times, strict=True):
        begin, order = _starts(code, side.size, k), None
        if begin is None:
            order = np.argsort(code, kind="stable")
            begin = _starts(code[order], side.size, k)
        starts.append(begin)
        orders.append(order)
    if not ordered:
        orders[1] = np.argsort(times[1], kind="stable") if codes[1] is None else np.lexsort((times[1], codes[1]))
    left, right = (side if order is None else side[order] for side, order in zip(times, orders, strict=True))
    if method == "mean":
        values = values if orders[1] is None else values[orders[1]]
        mean, count = np.full(left.size, np.nan), np.zeros(left.size, dtype=np.int64)
        for ours, theirs, axis in _groups(who, right, starts):
            low, high = axis.count_until(left[ours] - window - 1), axis.count_until(left[ours] + window)
            count[ours] = number = high - low
            some = number > 0
            if some.any():
                # sums of each window on its own: differences of one running sum would lose digits to a large value far away
                edges = np.stack([low[some], high[some]], axis=1).ravel()
                total = np.add.reduceat(np.append(values[theirs], 0.0), edges)[::2]
                mean[ours][some] = total / number[some]
        return None, _unsort(count, orders[0]), _unsort(mean, orders[0]), None
    found, later = np.full(left.size, -1, dtype=np.int64), np.full(left.size, _NAT_NS)
    for ours, theirs, axis in _groups(who, right, starts):
        at = axis.nearest(left[ours])
        gap = axis.time[at] - left[ours]
        far = np.abs(gap) > window
        at += theirs.start
        if far.any():
            at[far], gap[far] = -1, _NAT_NS
        found[ours], later[ours] = at, gap
    index = _unsort(found, orders[0])
    there = index >= 0
    if orders[1] is not None and right.size:
        index = np.where(there, orders[1][index], -1)
    picked = None
    if values is not None:
        picked = values[index] if values.size else np.full(index.size, np.nan)
        picked[~there] = np.nan
    return index, there.astype(np.int64), picked, _unsort(later, orders[0]).view("timedelta64[ns]")


def _unsort(values: NDArray, order: NDArray[np.intp] | None) -> NDArray:
    if order is None:
        return values
    result = np.empty_like(values)
    result[order] = values
    return result


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
    ContractError, ParameterError
        If times are not datetimes, missing or unlike the values in number, or a value is infinite; on an unknown method, a window
        without a unit, or ``mean`` without values.

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
    found = _matched(who, method, span, (left, right), values, codes, k)
    # a missing value is looked for where it matters, in what was matched: a look at all readings costs as much as matching
    if values is not None and not np.isfinite(found[2][found[1] > 0]).all():
        if np.isinf(values).any():
            raise ContractError(who, "a value is infinite", got=int(np.isinf(values).sum()), expected="NaN for missing")
        kept = np.flatnonzero(~np.isnan(values))
        codes[1] = None if codes[1] is None else codes[1][kept]
        index, *others = _matched(who, method, span, (left, right[kept]), values[kept], codes, k)
        if index is not None and kept.size:
            index = np.where(index >= 0, kept[index], -1)
        found = (index, *others)
    index, count, picked, offset = found
    return TimeMatch(method, span, index, offset, count, picked, right.size)


def _matched(who: str, method: str, span: np.timedelta64, *sides: Any) -> tuple:
    window = int(span.astype(np.int64))
    try:
        return _match(who, method, window, *sides)
    except _UnorderedError:
        return _match(who, method, window, *sides, ordered=False)


def match_tables(
    left: pd.DataFrame,
    right: pd.DataFrame,
    *,
    value: str,
    window: str | np.timedelta64 | pd.Timedelta | timedelta,
    method: str = "nearest",
    name: str | None = None,
) -> tuple[pd.DataFrame, TimeMatch]:
    """Match two long tables of many sensors at once, which have ``sensor_id`` and ``time``, e.g. overpasses and readings.

    `value` is the column of `right` to match (rows where it is NaN are passed over), `name` the new column's if it is another;
    `window`, `method` and errors are those of `match_in_time`, with a `ContractError` on a column that is missing, or in `left`
    already. Returns `left` with the columns `name` (NaN unmatched), ``<name>_count`` and, for ``nearest``, ``<name>_offset``; and
    what was matched, which prints the numbers and, for ``nearest``, knows the row of `right` (`TimeMatch.index`).
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
