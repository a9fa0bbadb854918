"""Loaders: one module a data family, ``open_<product>(paths, *, catalog_id, synthetic=False, **options) -> Dataset``.

A loader reads a product's own files, renames, converts to canonical units, orients, counts what it masks and finishes
with `smnb.contract.stamp`. It is told which files to read; finding them is the catalog's work. Nothing is imported
here, so that reading one family does not cost the dependencies of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import CatalogError, FormatError, ParameterError
from smnb.grids import great_circle_km

__all__ = ["check_paths", "choose_near", "open_netcdf", "parse_period"]


def check_paths(who: str, paths: Sequence[str | Path]) -> list[Path]:
    """Return `paths` as a list of Path.

    Raises
    ------
    CatalogError
        If there is none, or one of them is no file.
    """
    if isinstance(paths, (str, Path)):
        paths = [paths]
    found = [Path(path) for path in paths]
    if not found:
        raise CatalogError(who, "no file was given", next_step="Check the entry's files with: smnb catalog")
    for path in found:
        if not path.is_file():
            raise CatalogError(who, "there is no such file", got=str(path))
    return found


def open_netcdf(who: str, path: Path, **options: Any) -> xr.Dataset:
    """Open a NetCDF file lazily with h5netcdf (NetCDF 4) or scipy (classic), whichever its first bytes ask for.

    Not with netCDF4 where that can be helped: its C library is not thread-safe, and reopening a file whose lazy arrays
    had just been dropped crashed the interpreter (netCDF4 1.7.5 with xarray 2026.9).

    Parameters
    ----------
    who : str
        The caller, for the message.
    path : Path
        The file.
    **options
        Of `xarray.open_dataset`, beside ``chunks={}``.

    Raises
    ------
    FormatError
        If the file is no NetCDF, or a damaged one.
    """
    with path.open("rb") as stream:
        magic = stream.read(4)
    engine = {b"\x89HDF": "h5netcdf", b"CDF\x01": "scipy", b"CDF\x02": "scipy", b"CDF\x05": "netcdf4"}.get(magic)
    if engine is None:
        is_grib = magic == b"GRIB"
        raise FormatError(
            f"{who}({path.name})",
            "the file is GRIB" if is_grib else "the file is unreadable: no NetCDF",
            got=magic,
            expected="NetCDF",
            next_step="Request NetCDF, or convert it with grib_to_netcdf (ecCodes)"
            if is_grib
            else "Download it again; a login page or a zip archive under the file's name is the usual cause",
        )
    try:
        return xr.open_dataset(path, **{"engine": engine, "chunks": {}, "decode_timedelta": False, **options})
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise FormatError(
            f"{who}({path.name})", f"the file is unreadable: {error}", next_step="Download it again"
        ) from error


def parse_period(who: str, start: str | None, end: str | None) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    """Parse a period; an end that is only a date means the whole of that day.

    Parameters
    ----------
    who : str
        The caller, for the message.
    start, end : str or numpy.datetime64, optional
        ISO dates or times, UTC.

    Returns
    -------
    tuple of numpy.datetime64[ns] or None
        First and last instant, both inclusive.

    Raises
    ------
    ParameterError
        If one cannot be parsed, or the end comes before the start.

    Examples
    --------
    >>> [str(t) for t in parse_period("doctest", "2011-07-01", "2011-07-02")]
    ['2011-07-01T00:00:00.000000000', '2011-07-02T23:59:59.999999999']
    """
    parsed: list[np.datetime64 | None] = []
    for name, value in (("start", start), ("end", end)):
        try:
            # YAML turns an unquoted date into datetime.date, which numpy takes as well
            time = None if value is None else np.datetime64(value)
        except (ValueError, TypeError) as error:
            raise ParameterError(who, f"{name!r} is not an ISO date", got=value, expected="2011-07-01") from error
        if time is not None and np.isnat(time):
            raise ParameterError(who, f"{name!r} is not an ISO date", got=value, expected="2011-07-01")
        if time is not None and name == "end" and np.datetime_data(time.dtype)[0] in ("D", "M", "Y"):
            time = (time + 1).astype("datetime64[ns]") - np.timedelta64(1, "ns")
        parsed.append(None if time is None else time.astype("datetime64[ns]"))
    if None not in parsed and parsed[1] < parsed[0]:
        raise ParameterError(who, "the period ends before it starts", got=(str(start), str(end)))
    return parsed[0], parsed[1]


def choose_near(
    who: str, lat: NDArray, lon: NDArray, near: tuple[float, float] | None, max_distance_km: float
) -> tuple[NDArray[np.intp], NDArray | None]:
    """Choose locations of a point series: all of them, or the one nearest to ``near = (lat, lon)`` and its distance, km.

    Raises
    ------
    ParameterError
        If `near` is no position in degrees.
    CatalogError
        If no location is within `max_distance_km`.
    """
    if near is None:
        return np.arange(lat.size), None
    try:
        at_lat, at_lon = (float(value) for value in near)
    except (TypeError, ValueError) as error:
        raise ParameterError(who, "'near' is no (lat, lon)", got=near, expected="(19.9, -155.6)") from error
    if not (abs(at_lat) <= 90.0 and abs(at_lon) <= 360.0):
        raise ParameterError(who, "'near' is no (lat, lon) in degrees", got=near, expected="(19.9, -155.6)")
    distance = great_circle_km(lat, lon, at_lat, at_lon)
    nearest = np.array([int(np.argmin(distance))])
    if not distance[nearest[0]] <= max_distance_km:
        raise CatalogError(
            who,
            "no location is near enough",
            got=f"{distance[nearest[0]]:.0f} km",
            expected=f"<= {max_distance_km:g} km",
            next_step="Choose another point, or raise max_distance_km",
        )
    return nearest, distance[nearest]
