"""AMSR-E brightness temperatures of NSIDC-0302 (Knowles et al. 2006, version 1, doi:10.5067/RRR4WWORG070), quarter-degree.

One file a day, pass and channel: 720 rows (north first) by 1440 columns of little-endian uint16 in tenths of kelvin, 0 for
missing, gzip or not. `open_nsidc0302` makes one lazy array of them; `mask_outliers` and `average_passes` prepare it for use.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dask
import dask.array
import numpy as np
import xarray as xr
from dask.base import tokenize

from smnb.contract import (
    CatalogError,
    ContractError,
    FormatError,
    check_choice,
    check_dataset,
    count_masked,
    plain,
    stamp,
)
from smnb.grids import GLOBAL_025
from smnb.loaders import check_paths, finish, parse_period

_FREQUENCIES = {"06": "6.9", "10": "10.7", "18": "18.7", "23": "23.8", "36": "36.5", "89": "89.0"}
#: Contract's channel name by the product's own ("06H" and so on), low to high frequency.
CHANNELS: dict[str, str] = {f"{code}{p}": f"{ghz}{p}" for code, ghz in _FREQUENCIES.items() for p in "HV"}
DEFAULT_CHANNELS = ("6.9H", "6.9V", "10.7H", "10.7V")  # the channels of the paper

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
    if unknown := [path.name for match, path in matches if match is None]:
        expected = "ID2r1-AMSRE-D.252011182A.v03.06H.gz"
        raise FormatError(who, "a file's name is not of NSIDC-0302", got=unknown[0], expected=expected)
    files: dict[_Key, Path] = {}
    superseded = []
    # the newest version comes first, and a plain file before its own compressed copy
    for match, path in sorted(matches, key=lambda one: (-int(one[0]["version"]), one[0]["gz"] is not None)):
        if match["channel"] == "TIM":  # observation times, part of the product but not read here
            continue
        day = np.datetime64(match["year"], "D") + (int(match["doy"]) - 1)
        if str(day)[:4] != match["year"]:
            raise FormatError(who, "a file's name has an impossible day of the year", got=path.name)
        if files.setdefault(_Key(day, match["orbit"], CHANNELS[match["channel"]]), path) is not path:
            superseded.append(path.name)
    return files, sorted(superseded)


def _wrong_size(path: Path, got: str) -> FormatError:
    where, what = f"open_nsidc0302({path.name})", "the image is truncated or of another size"
    expected = plain(f"{_BYTES:,} bytes ({_SHAPE[0]} x {_SHAPE[1]} uint16)")
    return FormatError(where, what, got=plain(got), expected=expected)


def _check_size(path: Path) -> None:
    """Find a file of the wrong size without reading it: plain by its size, gzip by the length in its last four bytes."""
    size = length = path.stat().st_size
    if path.suffix == ".gz":
        with path.open("rb") as stream:
            magic = stream.read(2)
            if magic != b"\x1f\x8b":
                where = f"open_nsidc0302({path.name})"
                raise FormatError(where, "the file is no gzip file although named so", got=magic)
            stream.seek(max(size - 4, 0))
            length = int.from_bytes(stream.read(4), "little")
    if length != _BYTES:
        raise _wrong_size(path, f"{'a gzip trailer that says ' * (path.suffix == '.gz')}{length:,} bytes")


def _read_counts(path: Path) -> np.ndarray:
    """Read one file: uint16 tenths of kelvin, (720, 1440), north first as stored."""
    with path.open("rb") as stream:
        raw = stream.read(2 * _BYTES)
    if path.suffix == ".gz":
        inflater = zlib.decompressobj(wbits=31)
        try:
            raw = inflater.decompress(raw, _BYTES + 1)
        except zlib.error as error:
            raise _wrong_size(path, f"a broken gzip stream: {error}") from error
        if not inflater.eof:
            raise _wrong_size(path, f"a broken gzip stream: not at its end after {len(raw):,} bytes")
    if len(raw) != _BYTES:
        raise _wrong_size(path, f"{len(raw):,} bytes")
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

    temperate = np.abs(GLOBAL_025.lat) < 60.0
    west = land_fraction(GLOBAL_025.lat[temperate], GLOBAL_025.lon)
    land = {-180: west, 0: np.roll(west, -_SHAPE[1] // 2, axis=1)}
    # H at the lowest frequency has the largest contrast
    for key in sorted(files, key=lambda key: (list(CHANNELS.values()).index(key.channel), key.day, key.orbit))[:4]:
        image, contrast = _read_image(files[key], 0)[temperate], {}
        for origin, fraction in land.items():
            on_land, at_sea = image[fraction > 0.95], image[fraction < 0.05]
            if min(np.isfinite(on_land).sum(), np.isfinite(at_sea).sum()) >= 5000:
                contrast[origin] = round(float(np.nanmean(on_land) - np.nanmean(at_sea)), 1)
        if len(contrast) == 2 and max(contrast.values()) > 20.0 and abs(contrast[-180] - contrast[0]) > 10.0:
            said = {"decided_by": "coast", "file": files[key].name, "land_minus_ocean_k": contrast}
            return max(contrast, key=contrast.__getitem__), said
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
    FormatError, CatalogError
        If a name is not the product's; if an image has another size than 2,073,600 bytes, at once where the size tells, else
        when it is computed; if no requested image has a file, or one has none and `missing` is "raise".
    """
    who = "open_nsidc0302"
    channels = check_choice(who, "channels", channels, list(CHANNELS.values()))
    orbit_passes = check_choice(who, "orbit_passes", orbit_passes, ["A", "D"])
    check_choice(who, "missing", missing, ["mask", "raise"])
    check_choice(who, "longitude_origin", longitude_origin, ["auto", -180, 0])
    there, superseded = _list_files(who, check_paths(who, paths))
    first, last = parse_period(who, start, end)
    days = np.array([key.day for key in there], "datetime64[D]")
    if days.size:  # a period's own days count, also where no file is of them
        bounds = zip((first, last), (days.min(), days.max()), strict=True)
        begin, end_day = (seen if asked is None else asked.astype("datetime64[D]") for asked, seen in bounds)
        days = np.arange(begin, end_day + 1)
    wanted = [_Key(day, orbit, channel) for day in days for orbit in orbit_passes for channel in channels]
    files = {key: there[key] for key in wanted if key in there}
    absent = [str(key) for key in wanted if key not in files]
    if not files:
        next_step = f"Check start, end, channels and orbit_passes; there are {len(there)} other images"
        got = absent[:4] or [str(start), str(end)]
        raise CatalogError(who, "none of the requested images has a file", got=got, next_step=next_step)
    if absent and missing == "raise":
        what = f"{len(absent)} of {len(wanted)} requested images have no file"
        next_step = "Check start, end, channels and orbit_passes, download the rest, or pass missing='mask'"
        raise CatalogError(who, what, got=absent[:4], next_step=next_step)
    for path in files.values():
        _check_size(path)
    evidence: dict[str, Any] = {"decided_by": "option"}
    if longitude_origin == "auto":
        longitude_origin, evidence = _find_longitude_origin(files)
    shift = 0 if longitude_origin == -180 else _SHAPE[1] // 2

    sources = [files.get(key) for key in wanted]
    shape = (len(days), len(orbit_passes), len(channels))
    stats = [None if p is None else (str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sources]
    index = dask.array.from_array(np.arange(len(wanted)).reshape(shape), chunks=1)
    layout = {"dtype": "float32", "new_axis": [3, 4], "chunks": (*index.chunks, *((n,) for n in _SHAPE))}
    layout |= {"name": f"nsidc0302-{tokenize(stats, shift)}", "meta": np.empty((0,) * 5, "float32")}
    images = dask.array.map_blocks(_read_block, index, paths=sources, shift=shift, **layout)
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
        f"{len(files)} images ({len(absent)} without a file, {len(empty)} empty); 0.1 K to K, 0 to NaN, rows turned south "
        f"first, first column at {longitude_origin} degrees"
    )
    return finish(dataset, who, catalog_id, synthetic, "AMSR-E/Aqua, NSIDC-0302 version 1", step, ["tb"])


_REASONS = ("below_range", "above_range", "rfi", "polarisation_inverted")
#: K. The coldest natural scene, a calm ocean at 6.9 GHz H, is near 75 K; the hottest desert soil near 340 K with an
#: emissivity below 0.97.
_LOW, _HIGH = 50.0, 330.0
#: K. Natural brightness temperatures rise from 6.9 to 10.7 GHz (or fall little, over snow), while transmitters near 6.9 GHz
#: raise that channel alone; Li et al. call 10 K above 10.7 GHz strong interference.
_RFI = 10.0
#: K. A flat or rough natural surface has V >= H at 55 degrees, and they only meet under dense vegetation; noise is about 0.5 K.
_INVERTED = 5.0


def _outlier_codes(tb: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
    """Reason of each value, 0 for none and k + 1 for `_REASONS[k]`; the first that applies counts. Channels are last."""
    tb = np.moveaxis(tb, -1, 0)  # as the images lie in memory
    at = {name: k for k, name in enumerate(channels)}
    # comparisons with NaN are False, which is what is wanted: a missing value is no outlier
    codes = (tb < _LOW).astype("uint8")
    codes[tb > _HIGH] = 2
    good = codes == 0
    for p in "HV":
        if f"6.9{p}" in at and f"10.7{p}" in at:
            k, other = at[f"6.9{p}"], at[f"10.7{p}"]
            codes[k][(tb[k] - tb[other] > _RFI) & good[k] & good[other]] = 3
    for ghz in dict.fromkeys(name[:-1] for name in CHANNELS.values()):
        if f"{ghz}H" in at and f"{ghz}V" in at:
            h, v = at[f"{ghz}H"], at[f"{ghz}V"]
            wrong = (tb[h] - tb[v] > _INVERTED) & good[h] & good[v]
            for k in (h, v):
                codes[k][wrong & (codes[k] == 0)] = 4
    return np.moveaxis(codes, 0, -1)


def mask_outliers(dataset: xr.Dataset) -> xr.Dataset:
    """Mask and count brightness temperatures that no natural surface emits at 55° incidence, in a copy; lazy data stay lazy.

    Below 50 K and above 330 K; at 6.9 GHz more than 10 K above 10.7 GHz in the same polarisation (interference: Li et al. 2004,
    doi:10.1109/TGRS.2003.817195; footprints must match, for where 6.9 GHz sees further, water cells beside warm land are masked
    too); both polarisations where V is more than 5 K below H. ``tb.attrs["masked_by"]`` counts values lost, each once, by reason:
    "below_range", "above_range", "rfi", "polarisation_inverted". A `ContractError` if there is no ``tb`` with channels.
    """
    who = "mask_outliers"
    if "tb" not in dataset or "channel" not in dataset["tb"].dims:
        raise ContractError(who, "no 'tb' with a channel dimension", got=sorted(map(str, dataset.data_vars)))
    tb = dataset["tb"]
    channels = tuple(str(c) for c in tb["channel"].values)
    if tb.chunks is not None:
        tb = tb.chunk(channel=-1)
    dims = {"input_core_dims": [["channel"]], "output_core_dims": [["channel"]]}
    lazy = {"dask": "parallelized", "output_dtypes": ["uint8"]}
    codes = xr.apply_ufunc(_outlier_codes, tb, kwargs={"channels": channels}, **dims, **lazy).transpose(*tb.dims)
    # one computation for all counts, since each reads every file
    (lost,) = dask.compute([(codes == k + 1).sum().data for k in range(len(_REASONS))])
    masked = tb.where(codes == 0)
    counts = count_masked(tb)
    for reason, number in zip(_REASONS, lost, strict=True):
        counts[reason] = counts.get(reason, 0) + int(number)
    masked.attrs = {**tb.attrs, "masked_by": json.dumps(counts, sort_keys=True)}
    result = dataset.assign(tb=masked)
    return stamp(result, step=f"{who}: lost {dict(zip(_REASONS, map(int, lost), strict=True))}")


def average_passes(dataset: xr.Dataset, days: int = 1) -> xr.Dataset:
    """Average the passes of a day and, with two `days`, of the day before: the composites of the paper.

    From ``tb(time, orbit_pass, channel, lat, lon)``, lazily a day at a time, to float32 ``tb(time, channel, lat, lon)``, the
    mean of the valid passes, NaN where there is none, and ``n_obs``, uint8, how many there were. The first day, and one after
    a gap, has only itself. A `ParameterError` if `days` is neither, a `ContractError` if dims are others or a day is there twice.
    """
    who = "average_passes"
    check_choice(who, "days", days, [1, 2])
    whole = ("time", "orbit_pass", "channel", "lat", "lon")
    if "tb" not in dataset or set(dataset["tb"].dims) != set(whole):
        got = dataset["tb"].dims if "tb" in dataset else None
        raise ContractError(who, "no 'tb' with one pass a row", got=got, expected=whole)
    tb = dataset["tb"].transpose(*whole)
    dates = tb["time"].values.astype("datetime64[D]")
    if (np.diff(dates) <= np.timedelta64(0, "D")).any():
        raise ContractError(who, "'time' is not one value a day, increasing", got=str(dates[:3]))
    shape = (tb.sizes["time"], *tb.shape[2:])
    mean, count = np.empty(shape, "float32"), np.empty(shape, "uint8")
    before: tuple[np.ndarray, np.ndarray] | None = None
    for k, date in enumerate(dates):
        passes = np.asarray(tb[k].values, dtype="float32")
        number = np.isfinite(passes).sum(axis=0, dtype="uint8")
        total = np.nansum(passes, axis=0, dtype="float32")
        follows = days == 2 and before is not None and date - dates[k - 1] == np.timedelta64(1, "D")
        count[k] = number + before[1] if follows else number
        mean[k] = total + before[0] if follows else total
        with np.errstate(invalid="ignore"):
            mean[k] /= count[k]  # 0 / 0 is the NaN that is wanted
        before = total, number
    dims = ("time", "channel", "lat", "lon")
    result = xr.Dataset(
        {
            "tb": (dims, mean, dict(tb.attrs)),
            "n_obs": (dims, count, {"units": "1", "long_name": "passes averaged", "composite_days": days}),
        },
        {name: dataset[name] for name in dims},
        dict(dataset.attrs),
    )
    stamp(result, step=f"{who}: mean of the valid passes of {days} day(s), trailing")
    return check_dataset(result, who=who)
