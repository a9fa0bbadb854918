"""SMAP's clock: seconds since J2000, leap seconds counted, to UTC.

The products' metadata name the epoch 2000-01-01T11:58:55.816Z, which is noon of that day in Terrestrial Time, and the
seconds since then run through leap seconds. In a granule of 2015 the cells under the track cross the equator within
0.2 s of the crossing that its own metadata state, if the four leap seconds until then are taken off, and 4 s late if
they are not. The field ``tb_time_utc`` of that granule is later by 68.184 s: it holds Terrestrial Time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: J2000.0 in UTC.
EPOCH = np.datetime64("2000-01-01T11:58:55.816", "ns")
#: First instants after the leap seconds inserted since (IERS Bulletin C).
_LEAPS = np.array(["2006-01-01", "2009-01-01", "2012-07-01", "2015-07-01", "2017-01-01"], "datetime64[ns]")
#: The same on SMAP's clock.
_LEAP_SECONDS = (_LEAPS - EPOCH) / np.timedelta64(1, "s") + np.arange(1, _LEAPS.size + 1)
#: The clock's values that can be an observation: 2015 to 2050.
_EARLIEST, _LATEST = 4.7e8, 1.6e9


def seconds_to_utc(seconds: ArrayLike) -> NDArray[np.datetime64]:
    """UTC of seconds since J2000 with leap seconds counted, as in ``tb_time_seconds``.

    Parameters
    ----------
    seconds : array-like of float
        Seconds; fill values, NaN and whatever is before 2015 or after 2050 give NaT.

    Returns
    -------
    numpy.ndarray of datetime64[ns]

    Examples
    --------
    >>> seconds_to_utc([492530149.396, -9999.0])
    array(['2015-08-11T01:54:41.212000000',                           'NaT'],
          dtype='datetime64[ns]')
    """
    seconds = np.asarray(seconds, dtype="float64")
    good = (seconds > _EARLIEST) & (seconds < _LATEST)
    elapsed = np.where(good, seconds, 0.0)
    elapsed = elapsed - np.searchsorted(_LEAP_SECONDS, elapsed, side="right")
    utc = EPOCH + np.round(elapsed * 1e9).astype("int64").astype("timedelta64[ns]")
    return np.where(good, utc, np.datetime64("NaT", "ns"))


def utc_to_seconds(utc: ArrayLike) -> NDArray[np.float64]:
    """Seconds since J2000 with leap seconds counted: the inverse of `seconds_to_utc`; NaT gives -9999.

    Examples
    --------
    >>> utc_to_seconds(np.datetime64("2015-08-11T01:54:41.212")).round(3)
    np.float64(492530149.396)
    """
    utc = np.asarray(utc, dtype="datetime64[ns]")
    seconds = (utc - EPOCH) / np.timedelta64(1, "s") + np.searchsorted(_LEAPS, utc, side="right")
    return np.where(np.isnat(utc), -9999.0, seconds)[()]
