"""`Source`: what the match-ups, the store, the network and the maps know of one source of images; and what a store consists of.

What the paper calls "zero-mean, unit-variance" is not what a minimum and a maximum give; the step from [0, 1] to the network's
[-1, 1] is 2 x - 1, at the network's door (`smnb.papers.batchu2023.inputs.network_inputs`) and not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import ArrayLike, NDArray
from zarr import Group, open_group

from smnb.contract import ContractError, FormatError, ParameterError, check_choice, check_range, foreign, plain
from smnb.files import AnyMapping, fingerprint, note, read_json, sha256_of

if TYPE_CHECKING:
    from smnb.catalog import Catalog
    from smnb.loaders.rasters import SceneIndex

KINDS = ("high", "low", "coarse")  # 10 m images, 160 m images, and one value at the point
_RESAMPLINGS = ("bilinear", "nearest", "average")
_LOG_SCALE = 0.005
SENSORS_FILE = "sensors.parquet"
#: Bytes of a chunk before compression, and most images in one; an image is never divided.
CHUNK_BYTES, MOST_ROWS = 1 << 20, 16
MARK = "content"  # attribute: `store_mark` of what is beside it


def _floating(values: ArrayLike) -> NDArray:
    """Return `values` as floating point: float64 stays so, everything else becomes float32."""
    array = np.asarray(values)
    return array if array.dtype == np.float64 else array.astype(np.float32)


def _linear(values: ArrayLike, low: float, high: float) -> NDArray:
    """From [low, high] to [0, 1]; what lies outside is clipped."""
    array = _floating(values)
    return np.clip((array - array.dtype.type(low)) * array.dtype.type(1.0 / (high - low)), 0.0, 1.0)


def _linear_inverse(values: ArrayLike, low: float, high: float) -> NDArray:
    array = _floating(values)
    return array * array.dtype.type(high - low) + array.dtype.type(low)


def _log_sigmoid(dn: ArrayLike, mean: float, spread: float) -> NDArray:
    """Sentinel-2's Level-1C digital numbers to (0, 1), so that dark, cloud-free ground gets most of the range.

    With u = ln(0.005 DN + 1) the sigmoid of 5 (u - mean) / spread - 1. The paper calls the constants log_mean and log_std; in
    Dynamic World (Brown et al. 2022, doi:10.1038/s41597-022-01307-4), whose constants they are, they are the 30th and 70th
    percentiles of the logarithm, and it divides by the second one itself, not by their difference. So it is reproduced.
    Numbers below 0 are noise and count as 0.
    """
    array = _floating(dn)
    one = array.dtype.type
    v = (np.log1p(one(_LOG_SCALE) * np.maximum(array, one(0))) - one(mean)) * one(1.0 / spread)
    return one(1) / (one(1) + np.exp(one(1) - one(5) * v))


def _log_sigmoid_inverse(values: ArrayLike, mean: float, spread: float) -> NDArray:
    """Digital numbers, computed in float64; what is not in (0, 1) is no sigmoid's and becomes NaN.

    In 8-bit storage that is 255, the brightest cloud, and 0, which stands for missing.
    """
    y = np.asarray(values, dtype=np.float64)
    y = np.where((y > 0.0) & (y < 1.0), y, np.nan)
    u = (np.log(y / (1.0 - y)) + 1.0) / 5.0 * spread + mean
    return (np.expm1(u) / _LOG_SCALE).astype(_floating(values).dtype)


_SCALINGS = {"linear": (_linear, _linear_inverse), "log-sigmoid": (_log_sigmoid, _log_sigmoid_inverse)}


def dequantise(stored: ArrayLike, *, zero_is_missing: bool = False) -> NDArray[np.float32]:
    """Return integers of 0..255 as normalised values; 0 becomes NaN, where asked (soil never has 0, single pixels do)."""
    array = np.asarray(stored)
    scaled = array.astype(np.float32) * np.float32(1.0 / 255.0)
    return np.where(array == 0, np.float32(np.nan), scaled) if zero_is_missing else scaled


@dataclass(frozen=True)
class Source:
    """One source of images or values around sensors: how it is found, joined, cut, scaled and stored.

    Given to `build_matchups` or `open_matchups` an own one is matched and stored, given to `InputSet.of` fed to the network.

    `range` has the native values that become 0 and 1, for all bands or by band (of more bands than `bands`, if you like); with
    the scaling "log-sigmoid" its two constants, see `_log_sigmoid`.

    >>> rain = Source("rain", "my_rain", bands=("rain_3d",), range=(0.0, 200.0), bound="1D", kind="coarse")
    >>> float(rain.normalise("rain_3d", 50.0))
    0.25
    """

    name: str  # what samples and channels call it: ``"sentinel1"``, and its channels ``"sentinel1:VV"``
    catalog_id: str  # its entry in the catalog; empty where scenes are opened by hand
    bands: tuple[str, ...]  # canonical ones, in the order of the store
    range: Mapping[str, tuple[float, float]] | tuple[float, float]
    bound: Any = "0D"  # how long before the reading an image may lie, both ends included ("14D")
    static: bool = False  # one image a sensor, whatever its time; `bound` then plays no part
    cloud: float | None = None  # scenes with more cloud, in %, are left out
    kind: str = "high"  # cut at the fine resolution, at the "low" one, or read as one value at the point ("coarse")
    optional: bool = False  # keep a sample that lacks this source, with NaN
    resampling: str = "bilinear"  # how images are brought to the window: or "nearest", "average"
    scaling: str = "linear"  # or "log-sigmoid"

    def __post_init__(self) -> None:
        who = f"Source {self.name!r}"
        object.__setattr__(self, "bands", (self.bands,) if isinstance(self.bands, str) else tuple(self.bands))
        if not str(self.name).isidentifier() or not self.bands or len(set(self.bands)) < len(self.bands):
            raise ParameterError(who, "a name and one or more different bands are needed", got=(self.name, self.bands))
        for option, known in (("kind", KINDS), ("resampling", _RESAMPLINGS), ("scaling", tuple(_SCALINGS))):
            check_choice(who, option, getattr(self, option), known)
        if self.static and self.kind == "coarse":
            raise ParameterError(who, "a coarse source is not static", got=self.kind)
        if self.cloud is not None:
            check_range(who, "cloud", self.cloud, 0, 100, units="%")
        try:
            bound = pd.NaT if isinstance(self.bound, int | float) else pd.Timedelta(self.bound)
        except ValueError:
            bound = pd.NaT
        if bound is pd.NaT or bound < pd.Timedelta(0):
            expected = plain("such as '14D' or '1h'")
            raise ParameterError(who, "'bound' is no time span from 0", got=self.bound, expected=expected)
        given = self.range if isinstance(self.range, Mapping) else dict.fromkeys(self.bands, self.range)
        ranges = {str(band): (float(low), float(high)) for band, (low, high) in given.items()}
        low_high = {**dict.fromkeys(self.bands, (np.nan, np.nan)), **ranges}
        if wrong := [band for band, (low, high) in low_high.items() if not -np.inf < low < high < np.inf]:
            raise ParameterError(who, f"bands {wrong} have no range, or an empty one", got=ranges)
        object.__setattr__(self, "bound", bound)
        object.__setattr__(self, "range", ranges)

    def with_bands(self, *bands: str) -> Source:
        """The same source with other bands of its range."""
        return replace(self, bands=bands)

    def side(self, crop: int, resolution: float, low_resolution: float) -> int:
        """Pixels on a side of the images in a store: the low ones cover the same ground, and a coarse source has 0."""
        if self.kind != "low":
            return crop if self.kind == "high" else 0
        side = crop * resolution / low_resolution
        if side != int(side) or side < 1:
            what = f"a crop of {crop} pixels of {resolution:g} m is no whole number of {low_resolution:g} m pixels"
            expected = plain(f"a multiple of {low_resolution / resolution:g}")
            raise ParameterError(f"Source {self.name!r}", what, got=crop, expected=expected)
        return int(side)

    def normalise(self, band: str, native: ArrayLike, *, outside: str | None = None) -> NDArray[np.floating]:
        """Scale native values of one band, any shape, to [0, 1]; NaN stays.

        Values `outside` the range are clipped ("clip", the default for images, which leave it regularly), or a
        `ContractError` ("raise", the default for coarse products, which cannot).
        """
        low, high = self._range_of(band)
        if (outside or ("raise" if self.kind == "coarse" else "clip")) == "raise":
            array = np.asarray(native)
            if lost := int(np.count_nonzero((array < low) | (array > high))):
                what = f"{lost} of {array.size} values of {self.name} {band} lie outside its range in native units"
                got = float(np.nanmin(array)), float(np.nanmax(array))
                step = "Mask fill values, or give another range"
                raise ContractError("normalise", what, got=got, expected=(low, high), next_step=step)
        return _SCALINGS[self.scaling][0](native, low, high)

    def denormalise(self, band: str, value: ArrayLike) -> NDArray[np.floating]:
        """Return native values of what `normalise` scaled; what it clipped comes back as the end of the range."""
        return _SCALINGS[self.scaling][1](value, *self._range_of(band))

    def normalise_stack(self, native: NDArray, bands: Sequence[str], *, axis: int = 0) -> NDArray[np.float32]:
        """Scale native values of several bands along `axis`: what the store holds, and what maps make inputs of."""
        parts = [self.normalise(band, np.take(native, i, axis=axis)) for i, band in enumerate(bands)]
        return np.stack(parts, axis=axis).astype(np.float32, copy=False)

    def _range_of(self, band: str) -> tuple[float, float]:
        if band not in self.range:
            raise ParameterError("Source", f"unknown band of {self.name}", got=band, expected=sorted(self.range))
        return self.range[band]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a store's attributes, a checkpoint and fingerprints; ``Source(**content)`` is the source again."""
        content = {one.name: getattr(self, one.name) for one in fields(self)}
        ranges = {band: list(pair) for band, pair in self.range.items()}
        return {**content, "bands": list(self.bands), "range": ranges, "bound": str(self.bound)}


_TABLE = yaml.safe_load(Path(__file__).with_name("sources.yaml").read_text(encoding="utf-8"))
#: The paper's seven, by name.
SOURCES: dict[str, Source] = {name: Source(name, **facts) for name, facts in _TABLE.items()}
#: Catalog entries of the readings, and of the land cover that sensors are stratified by.
READINGS_ID, LAND_COVER_ID = "multisource_ismn", "multisource_landcover"
#: Every catalog entry that a store is made of.
MULTISOURCE_IDS = (*(one.catalog_id for one in SOURCES.values()), READINGS_ID, LAND_COVER_ID)
#: Bounds that differ where samples are anchored to SMAP (Table 20).
_BOUNDS_OF_ANCHOR = {"sentinel1": {}, "smap": {"sentinel1": "7D", "smap": "1h"}}


def paper_sources(anchor: str = "sentinel1") -> dict[str, Source]:
    """Sources with the bounds of Table 5 (anchored to Sentinel-1) or Table 20 (anchored to SMAP)."""
    check_choice("paper_sources", "anchor", anchor, _BOUNDS_OF_ANCHOR)
    changed = _BOUNDS_OF_ANCHOR[anchor]
    return {name: replace(one, bound=changed.get(name, one.bound)) for name, one in SOURCES.items()}


def by_name(who: str, given: Iterable[Source | str]) -> dict[str, Source]:
    """Sources by their names, those of the paper for names; a `ParameterError` on another name."""
    given = list(given)
    if unknown := [one for one in given if isinstance(one, str) and one not in SOURCES]:
        step = "Describe an own source with Source(…)"
        raise ParameterError(who, f"{unknown} are not described", expected=list(SOURCES), next_step=step)
    sources = [one if isinstance(one, Source) else SOURCES[one] for one in given]
    return {one.name: one for one in sources}


def open_scenes_of(
    catalog: Catalog, root: Path | None, sources: Iterable[Source | str] | None = None
) -> dict[str, SceneIndex]:
    """Open the scenes of sources, own ones and names of the paper's (default all of these), through the catalog."""
    wanted = by_name("open_scenes_of", SOURCES if sources is None else sources)
    return {name: catalog.open(one.catalog_id, root) for name, one in wanted.items()}


def joined_sources(
    who: str, scenes: Mapping[str, SceneIndex], anchor: str, own: Iterable[Source] = (), optional: Iterable[str] = ()
) -> dict[str, Source]:
    """Return how each source that has scenes is joined, in the order in which they are read: the cheap ones first.

    `own` sources come beside the paper's, or in place of those of their names; a sample may lack the `optional` ones. Unknown
    names are a `ParameterError`; scenes that lack bands, times or cloud percentages a `ContractError`.
    """
    known = {**paper_sources(anchor), **{one.name: one for one in own}}
    optional = (optional,) if isinstance(optional, str) else tuple(optional)
    for names, what in ((scenes, "sources"), (optional, "optional sources")):
        if unknown := [name for name in names if name not in known]:
            step = "Describe an own source with Source(…)"
            raise ParameterError(who, f"unknown {what} {unknown}", expected=sorted(known), next_step=step)
    known = {name: replace(one, optional=one.optional or name in optional) for name, one in known.items()}
    if anchor not in scenes or known[anchor].optional:
        what = f"the anchor {anchor!r} is not among the sources, or is optional"
        raise ParameterError(who, what, got=sorted(scenes), expected=[anchor])
    for name, index in scenes.items():
        check_scenes(who, index, known[name])
    # what is cheap to read drops points first; images are the dear part
    cost = {"coarse": 0, "low": 2, "high": 3}
    order = sorted(scenes, key=lambda name: (1 if known[name].static else cost[known[name].kind], name != anchor, name))
    return {name: known[name] for name in order}


def check_scenes(who: str, index: SceneIndex, source: Source) -> None:
    """Raise a `ContractError` unless scenes have the bands, times and cloud percentages that a source is joined by."""
    name = source.name
    if len(index) == 0:
        raise ContractError(who, f"the source {name!r} has no scene", next_step="Check its files with: smnb catalog")
    if missing := [band for band in source.bands if band not in index.bands]:
        what, step = f"the source {name!r} lacks bands {missing}", "Name them in the entry's option 'bands'"
        raise ContractError(who, what, got=list(index.bands), expected=list(source.bands), next_step=step)
    needed = {} if source.static else {"time": "Say where the time stands, in the entry's option 'time'"}
    if source.cloud is not None:
        needed["cloud_percentage"] = "Say where it stands, in the entry's option 'cloud', or join without a cloud limit"
    for column, step in needed.items():
        without = index.table.loc[index.table[column].isna().to_numpy(), "scene_id"]
        if len(without):
            what = f"{len(without)} scenes of {name!r} have no {column.replace('_', ' ')}"
            raise ContractError(who, what, got=str(without.iloc[0]), next_step=step)


def open_unfinished(who: str, record: Path) -> tuple[Group | None, dict[str, Any]]:
    """What is there of a store that is being written, to go on with; nothing where it is damaged, which is said."""
    if not record.is_file():
        return None, {}
    try:
        state = read_json(record, AnyMapping, "what is done of a store").root
        with foreign(who, f"{record.parent} is damaged"):
            return open_group(record.parent / "store.zarr", mode="r+", zarr_format=3), state
    except FormatError as damaged:
        note(f"the store is built anew: {damaged}")
        return None, {}


def chunk_rows(n_bands: int, side: int) -> int:
    """Images in a chunk: as many as `CHUNK_BYTES` holds, from 1 to 16."""
    return int(np.clip(CHUNK_BYTES // (2 * n_bands * side * side), 1, MOST_ROWS))


def store_mark(folder: Path, attrs: Mapping[str, Any]) -> str:
    """Fingerprint of attributes, sensor table, and each array's metadata and which chunks it has, not of what they hold."""
    parts: list[Any] = [sha256_of(folder / SENSORS_FILE), {name: one for name, one in attrs.items() if name != MARK}]
    for key, dims in attrs["arrays"].items():
        inside = "/".join("0" * (dims - 1))
        chunks = sorted(one.name for one in (folder / key / "c").glob("*") if (one / inside).is_file())
        parts.append([key, sha256_of(folder / key / "zarr.json"), chunks])
    return fingerprint(parts)


def check_rows(who: str, key: str, rows: NDArray[np.integer], least: int, count: int) -> None:
    """Raise `FormatError` unless rows are from `least` to below `count`."""
    if rows.size and not (least <= rows.min() and rows.max() < count):
        got, expected = (int(rows.min()), int(rows.max())), plain(f"{least} to {count - 1}")
        raise FormatError(who, f"array {key!r} names rows that are not there", got=got, expected=expected)
