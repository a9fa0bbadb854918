"""The search behind matching in time: two sides in groups, and the nearest readings or the means of a window in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnb.contract import ContractError

_NO_BREAK = np.empty(0, dtype=np.intp)
#: A missing time as int64.
NAT_NS = np.timedelta64("NaT", "ns").astype("int64")


class Axis:
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
        breaks = np.flatnonzero(other) if self.step > 0 and other.any() else _NO_BREAK if self.step > 0 else None
        if breaks is not None and breaks.size <= time.size // 20 and (step[breaks] > 0).all():
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
    if least == NAT_NS:
        raise ContractError(who, f"a time on the {side} is missing", next_step="Drop readings without a time")


class UnorderedError(Exception):
    """The right's times turned out not to ascend within a group."""


@dataclass(frozen=True)
class Groups:
    """Both sides in order of their groups."""

    who: str
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    #: Where the ordered side was before; None where it was in order.
    left_order: NDArray[np.intp] | None
    right_order: NDArray[np.intp] | None
    starts: tuple[NDArray[np.intp], NDArray[np.intp]]

    def __iter__(self) -> Iterator[tuple[slice, slice, Axis]]:
        """Slices and axis of each group that both sides have; one at a time, since that is what the cache holds."""
        starts = self.starts
        scratch = np.empty(int(np.diff(starts[1]).max(initial=1)), dtype=np.int64)
        for g in range(starts[0].size - 1):
            ours, theirs = (slice(int(begin[g]), int(begin[g + 1])) for begin in starts)
            if ours.start == ours.stop or theirs.start == theirs.stop:
                _no_missing(self.who, "right", self.right[theirs].min(initial=0))
                continue
            axis = Axis(self.right[theirs], scratch)
            if not axis.ascending:
                raise UnorderedError
            _no_missing(self.who, "right", axis.time[0])
            yield ours, theirs, axis


def in_groups(
    who: str, codes: list[NDArray | None], left: NDArray[np.int64], right: NDArray[np.int64], k: int, *, ordered: bool
) -> Groups:
    """Bring both sides into groups, and with `ordered=False` the right into order of time as well."""
    _no_missing(who, "left", left.min(initial=0))
    starts, orders = [], []
    for side, times in enumerate((left, right)):
        begin, order = _starts(codes[side], times.size, k), None
        if begin is None:
            order = np.argsort(codes[side], kind="stable")
            begin = _starts(codes[side][order], times.size, k)
        starts.append(begin)
        orders.append(order)
    if not ordered:
        orders[1] = np.argsort(right, kind="stable") if codes[1] is None else np.lexsort((right, codes[1]))
    times = [side if order is None else side[order] for side, order in zip((left, right), orders, strict=True)]
    return Groups(who, *times, *orders, (starts[0], starts[1]))


def nearest_readings(groups: Groups, window: int) -> tuple[NDArray, NDArray]:
    """Position on the ordered right of each ordered left time's match, -1 for none; and how much later it is."""
    found = np.full(groups.left.size, -1, dtype=np.int64)
    later = np.full(groups.left.size, NAT_NS)
    for ours, theirs, axis in groups:
        wanted = groups.left[ours]
        at = axis.nearest(wanted)
        gap = axis.time[at] - wanted
        far = np.abs(gap) > window
        at += theirs.start
        if far.any():
            at[far], gap[far] = -1, NAT_NS
        found[ours], later[ours] = at, gap
    return found, later


def window_means(groups: Groups, values: NDArray[np.float64], window: int) -> tuple[NDArray, NDArray]:
    """Mean of the ordered right's values within the window of each ordered left time, and how many there were."""
    mean, count = np.full(groups.left.size, np.nan), np.zeros(groups.left.size, dtype=np.int64)
    for ours, theirs, axis in groups:
        wanted = groups.left[ours]
        low, high = axis.count_until(wanted - window - 1), axis.count_until(wanted + window)
        number = high - low
        some = number > 0
        if not some.any():
            continue
        # sums of each window on its own: differences of one running sum would lose digits to a large value far away
        edges = np.stack([low[some], high[some]], axis=1).ravel()
        total = np.add.reduceat(np.append(values[theirs], 0.0), edges)[::2]
        mean[ours][some] = total / number[some]
        count[ours] = number
    return mean, count
