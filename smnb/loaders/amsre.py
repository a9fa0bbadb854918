"""AMSR-E brightness temperatures of NSIDC-0302: quarter-degree, flat binary.

NSIDC-0302 holds one file a day, pass and channel: 720 rows (north first) by 1440 columns of little-endian uint16 in
tenths of kelvin, 0 for missing, compressed or not. `open_nsidc0302` makes one lazy array of them.

References
----------
Knowles et al. 2006, AMSR-E/Aqua Daily Global Quarter-Degree Gridded Brightness Temperatures, Version 1,
doi:10.5067/RRR4WWORG070.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dask.array
import numpy as np
import xarray as xr
from dask.base import tokenize

from smnb.contract import CatalogError, FormatError, check_choice, plain
from smnb.grids import GLOBAL_025
from smnb.loaders import check_paths, finish, parse_period

_FREQUENCIES = {"06": "6.9", "10": "10.7", "18": "18.7", "23": "23.8", "36": "36.5", "89": "89.0"}
#: Contract's channel name by the product's own ("06H" and so on), low to high frequency.
CHANNELS: dict[str, str] = {f"{code}{p}": f"{ghz}{p}" for code, ghz in _FREQUENCIES.items() for p in "HV"}
#: The channels of the paper.
DEFAULT_CHANNELS = ("6.9H", "6.9V", "10.7H", "10.7V")

_SHAPE = GLOBAL_025.shape
_BYTES = 2 * _SHAPE[0] * _SHAPE[1]
_NAME = re.compile(
    r"ID2r\d-AMSRE-D\.25(?P<year>\d{4})(?P<doy>\d{3})(?P<orbit>[AD])\.v(?P<version>\d{2})"
    r"\.(?P<channel>(?:06|10|18|23|36|89)[HV]|TIM)(?P<gz>\.gz)?"
)
#: An all-zero image compresses to about 2 to 10 kB; smaller files than this are looked into for it.
_SUSPICIOUSLY_SMALL = 65536


class _Key(NamedTuple):
    day: np.datetime64
    orbit: str
    channel: str

    def __str__(self) -> str:
        return f"{self.day} {self.orbit} {self.channel}"


def _list_files(who: str, paths: Sequence[Path]) -> tuple[dict[_Key, Path], list[str]]:
    """The file to use by day, pass and channel, and the names of those that it supersedes."""
    matches = [(_NAME.fullmatch(path.name), path) for path in paths]
    unknown = [path.name for match, path in matches if match is None]
    if unknown:
        raise FormatError(
            who, "a file's name is not of NSIDC-0302", got=unknown[0], expected="ID2r1-AMSRE-D.252011182A.v03.06H.gz"
        )
    files: dict[_Key, Path] = {}
    superseded = []
    # the newest version comes first, and a plain file before its own compressed copy
    for match, path in sorted(matches, key=lambda one: (-int(one[0]["version"]), one[0]["gz"] is not None)):
        if match["channel"] == "TIM":  # observation times, part of the product but not read here
            continue
        year, doy = match["year"], int(match["doy"])
        day = np.datetime64(f"{year}-01-01", "D") + (doy - 1)
        if doy < 1 or str(day)[:4] != year:
            raise FormatError(who, "a file's name has an impossible day of the year", got=path.name)
        key = _Key(day, match["orbit"], CHANNELS[match["channel"]])
        if key in files:
            superseded.append(path.name)
        else:
            files[key] = path
    return files, sorted(superseded)


def _wrong_size(path: Path, got: Any) -> FormatError:
    return FormatError(
        f"open_nsidc0302({path.name})",
        "the image is truncated or of another size",
        got=got,
        expected=plain(f"{_BYTES:,} bytes ({_SHAPE[0]} x {_SHAPE[1]} uint16)"),
    )


def _check_size(path: Path) -> None:
    """Find a file of the wrong size without reading it: plain by its size, gzip by the length in its last four bytes."""
    size = path.stat().st_size
    if path.suffix != ".gz":
        if size != _BYTES:
            raise _wrong_size(path, plain(f"{size:,} bytes"))
        return
    with path.open("rb") as stream:
        magic = stream.read(2)
        if magic != b"\x1f\x8b":
            raise FormatError(f"open_nsidc0302({path.name})", "the file is no gzip file although named so", got=magic)
        stream.seek(max(size - 4, 0))
        length = int.from_bytes(stream.read(4), "little")
    if length != _BYTES:
        raise _wrong_size(path, plain(f"a gzip trailer that says {length:,} bytes"))


def _read_counts(path: Path) -> np.ndarray:
    """Read one file: uint16 tenths of kelvin, (720, 1440), north first as stored."""
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = zlib.decompress(raw, wbits=31, bufsize=_BYTES)
        except zlib.error as error:
            raise _wrong_size(path, f"a broken gzip stream: {error}") from error
    if len(raw) != _BYTES:
        raise _wrong_size(path, plain(f"{len(raw):,} bytes"))
    return np.frombuffer(raw, dtype="<u2").reshape(_SHAPE)


def _read_image(path: Path, shift: int) -> np.ndarray:
    """Brightness temperature, K, float32 (lat, lon) ascending, NaN where missing."""
    counts = np.roll(_read_counts(path)[::-1], shift, axis=1)
    return np.where(counts == 0, np.float32(np.nan), counts.astype("float32") * np.float32(0.1))


def _read_block(index: np.ndarray, *, paths: list[Path | None], shift: int) -> np.ndarray:
    path = paths[int(index.flat[0])]
    return (np.full(_SHAPE, np.nan, "float32") if path is None else _read_image(path, shift))[None, None, None]


def _is_all_missing(path: Path) -> bool:
    if path.suffix == ".gz" and _SUSPICIOUSLY_SMALL < path.stat().st_size < _BYTES:
        return False
    return not _read_counts(path).any()


def _find_longitude_origin(files: dict[_Key, Path]) -> tuple[int, dict[str, Any]]:
    """Decide where the first column is from the coast: at 6.9 to 11 GHz oceans are 80 to 170 K and land 220 to 290 K.

    The product's documentation gives no origin; public readers take 180 W. Polar latitudes are left out, since sea ice
    is as warm as land.
    """
    from smnb.grids.koppen import land_fraction  # the Köppen map is read only where it is needed

    lat, columns = GLOBAL_025.lat, (np.arange(_SHAPE[1]) + 0.5) * 0.25
    temperate = np.abs(lat) < 60.0
    land = {-180: land_fraction(lat[temperate], columns - 180.0)}
    land[0] = np.roll(land[-180], -_SHAPE[1] // 2, axis=1)
    # H at the lowest frequency has the largest contrast
    order = sorted(files, key=lambda key: (list(CHANNELS.values()).index(key.channel), key.day, key.orbit))
    for key in order[:4]:
        image = _read_image(files[key], 0)[temperate]
        contrast = {}
        for origin, fraction in land.items():
            on_land, at_sea = image[fraction > 0.95], image[fraction < 0.05]
            if min(np.isfinite(on_land).sum(), np.isfinite(at_sea).sum()) < 5000:
                break
            contrast[origin] = float(np.nanmean(on_land) - np.nanmean(at_sea))
        if len(contrast) == 2 and max(contrast.values()) > 20.0 and abs(contrast[-180] - contrast[0]) > 10.0:
            best = max(contrast, key=lambda origin: contrast[origin])
            return best, {
                "decided_by": "coast",
                "file": files[key].name,
                "land_minus_ocean_k": {str(o): round(c, 1) for o, c in contrast.items()},
            }
    return -180, {"decided_by": "default", "reason": "no image shows the coast clearly enough"}


def open_nsidc0302(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    channels: Sequence[str] = DEFAULT_CHANNELS,
    start: str | None = None,
    end: str | None = None,
    orbit_passes: Sequence[str] = ("A", "D"),
    missing: str = "mask",
    longitude_origin: int | str = "auto",
) -> xr.Dataset:
    """Open AMSR-E quarter-degree daily brightness temperatures lazily, one task a file.

    Parameters
    ----------
    paths : sequence of path-like
        The product's files, gzip or plain; ``.TIM`` files are passed over. Of several versions of an image the newest
        is read, and the others are listed in ``superseded_files``.
    channels : sequence of str
        Contract's names, "6.9H" to "89.0V".
    start, end : str, optional
        First and last day; default those of the files.
    orbit_passes : sequence of {"A", "D"}
        Ascending (local time about 13:30) and descending (01:30).
    missing : {"mask", "raise"}
        A day, pass or channel without a file becomes NaN and is listed in ``missing_files``, or is an error.
    longitude_origin : {"auto", -180, 0}
        Western edge of the first column. "auto" decides by the coast and says how in the attributes.

    Returns
    -------
    xarray.Dataset
        ``tb(time, orbit_pass, channel, lat, lon)``, K, float32, dask; `time` is the day at 00:00 UTC. Attributes
        (JSON): ``missing_files``, ``all_missing_images``, ``superseded_files``, ``longitude_origin_evidence``.

    Raises
    ------
    FormatError
        If a name is not the product's, or an image has another size than 2,073,600 bytes: at once where the size tells,
        else when it is computed.
    ParameterError
        For an unknown channel, pass or option.
    CatalogError
        If no requested image has a file, or one has none and `missing` is "raise".
    """
    who = "open_nsidc0302"
    channels = check_choice(who, "channels", channels, list(CHANNELS.values()))
    orbit_passes = check_choice(who, "orbit_passes", orbit_passes, ["A", "D"])
    check_choice(who, "missing", missing, ["mask", "raise"])
    check_choice(who, "longitude_origin", longitude_origin, ["auto", -180, 0])
    there, superseded = _list_files(who, check_paths(who, paths))
    first, last = parse_period(who, start, end)
    found = [key.day for key in there]
    days = np.array([], "datetime64[D]")
    if found:  # a period's own days count, also where no file is of them
        begin = min(found) if first is None else first.astype("datetime64[D]")
        days = np.arange(begin, (max(found) if last is None else last.astype("datetime64[D]")) + 1)
    wanted = [_Key(day, orbit, channel) for day in days for orbit in orbit_passes for channel in channels]
    files = {key: there[key] for key in wanted if key in there}
    absent = [str(key) for key in wanted if key not in files]
    if not files or (absent and missing == "raise"):
        raise CatalogError(
            who,
            f"{len(absent)} of {len(wanted)} requested images have no file"
            if files
            else "none of the requested images has a file",
            got=absent[:4] or [str(start), str(end)],
            next_step="Check start, end, channels and orbit_passes, download the rest, or pass missing='mask'"
            if files
            else f"Check start, end, channels and orbit_passes; there are {len(there)} other images",
        )
    for path in files.values():
        _check_size(path)
    evidence: dict[str, Any] = {"decided_by": "option"}
    if longitude_origin == "auto":
        longitude_origin, evidence = _find_longitude_origin(files)
    shift = 0 if longitude_origin == -180 else _SHAPE[1] // 2

    sources = [files.get(key) for key in wanted]
    shape = (len(days), len(orbit_passes), len(channels))
    stats = [None if p is None else (str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sources]
    images = dask.array.map_blocks(
        _read_block,
        dask.array.from_array(np.arange(len(wanted)).reshape(shape), chunks=1),
        paths=sources,
        shift=shift,
        dtype="float32",
        new_axis=[3, 4],
        chunks=((1,) * shape[0], (1,) * shape[1], (1,) * shape[2], *((n,) for n in _SHAPE)),
        name=f"nsidc0302-{tokenize(stats, shift)}",
        meta=np.empty((0,) * 5, "float32"),
    )
    dims = ("time", "orbit_pass", "channel", "lat", "lon")
    attrs = {"units": "K", "long_name": "brightness temperature", "standard_name": "brightness_temperature"}
    attrs |= {"native_units": "0.1 K", "incidence_angle_degree": 55.0}
    dataset = xr.Dataset(
        {"tb": (dims, images, attrs)},
        {"time": days.astype("datetime64[ns]"), "orbit_pass": list(orbit_passes), "channel": list(channels)},
    ).assign_coords(GLOBAL_025.coords())
    dataset["time"].attrs = {"long_name": "day of observation", "standard_name": "time"}
    dataset["orbit_pass"].attrs = {"long_name": "A ascending, about 13:30 local time; D descending, about 01:30"}
    dataset["channel"].attrs = {"long_name": "frequency in GHz and polarisation"}
    empty = [str(key) for key, path in files.items() if _is_all_missing(path)]
    dataset.attrs.update(
        missing_files=json.dumps(absent),
        all_missing_images=json.dumps(empty),
        superseded_files=json.dumps(superseded),
        longitude_origin=int(longitude_origin),
        longitude_origin_evidence=json.dumps(evidence),
    )
    step = (
        f"{len(files)} images ({len(absent)} without a file, {len(empty)} empty); 0.1 K to K, 0 to NaN, "
        f"rows turned south first, first column at {longitude_origin} degrees"
    )
    step = (
        f"{len(files)} images ({len(absent)} without a file, {len(empty)} empty); 0.1 K to K, 0 to NaN, rows turned south "
        f"first, first column at {longitude_origin} degrees"
    )
    return finish(dataset, who, catalog_id, synthetic, "AMSR-E/Aqua, NSIDC-0302 version 1", step, ["tb"])
