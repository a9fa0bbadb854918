"""`Source`: what the match-ups, the store, the network and the maps know of one source of images; and the paper's seven.

An own source is one more `Source`: given to `build_matchups` or `open_matchups` it is matched, normalised and stored, and
given to `InputSet.of` it is fed to the network.

What the paper calls "zero-mean, unit-variance" is not what a minimum and a maximum give; the step from [0, 1] to the network's
[-1, 1] is 2 x - 1, at the network's door (`smnb.papers.batchu2023.inputs.network_inputs`) and not here.

References
----------
Batchu, Nearing and Gulshan 2023, J. Hydrometeorol. 24(10), doi:10.1175/JHM-D-22-0118.1, section 2; arXiv:2206.09649, Tables 4
and 17. Brown et al. (2022), Dynamic World, doi:10.1038/s41597-022-01307-4 (the log-sigmoid and its constants).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ContractError, ParameterError, check_choice, check_range, plain

if TYPE_CHECKING:
    from smnb.loaders.rasters import SceneIndex

#: 10 m images, 160 m images, and one value at the point.
KINDS = ("high", "low", "coarse")
_RESAMPLINGS = ("bilinear", "nearest", "average")
_LOG_SCALE = 0.005


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
    Dynamic World, whose constants they are, they are the 30th and 70th percentiles of the logarithm, and it divides by the second
    one itself, not by their difference. So it is reproduced. Numbers below 0 are noise and count as 0.
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

    Parameters
    ----------
    name : str
        What samples and channels call it: ``"sentinel1"``, and its channels ``"sentinel1:VV"``.
    catalog_id : str
        Its entry in the catalog; empty where scenes are opened by hand.
    bands : tuple of str
        Canonical bands, in the order of the store.
    range : (float, float) or mapping of str to (float, float)
        Native values that become 0 and 1, for all bands or by band (of more bands than `bands`, if you like). With the
        scaling "log-sigmoid" its two constants, see `_log_sigmoid`.
    bound : str or timedelta
        How long before the reading an image may lie, both ends included ("14D").
    static : bool
        One image a sensor, whatever its time; `bound` then plays no part.
    cloud : float, optional
        Scenes with more cloud, in %, are left out.
    kind : {"high", "low", "coarse"}
        Cut at the fine resolution, at the low one, or read as one value at the point.
    optional : bool
        Keep a sample that lacks this source, with NaN.
    resampling : {"bilinear", "nearest", "average"}
        How images are brought to the window.
    scaling : {"linear", "log-sigmoid"}

    Examples
    --------
    >>> rain = Source("rain", "my_rain", bands=("rain_3d",), range=(0.0, 200.0), bound="1D", kind="coarse")
    >>> float(rain.normalise("rain_3d", 50.0))
    0.25
    """

    name: str
    catalog_id: str
    bands: tuple[str, ...]
    range: Mapping[str, tuple[float, float]] | tuple[float, float]
    bound: Any = "0D"
    static: bool = False
    cloud: float | None = None
    kind: str = "high"
    optional: bool = False
    resampling: str = "bilinear"
    scaling: str = "linear"

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
                got, step = (
                    (float(np.nanmin(array)), float(np.nanmax(array))),
                    "Mask fill values, or give another range",
                )
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


#: The two constants of each Sentinel-2 band (Table 17).
_LOG_STATISTICS = {
    "B2": (1.7417268007636313, 2.023298706048351),
    "B3": (1.7261204997060209, 2.038905204308012),
    "B4": (1.6798346251414997, 2.179592821212937),
    "B5": (1.7734969472909623, 2.2890068333026603),
    "B6": (2.289154079164943, 2.6171674549378166),
    "B7": (2.382939712192371, 2.773418590375327),
    "B8": (2.3828939530384052, 2.7578332604178284),
    "B11": (2.1952484264967844, 2.789092484314204),
    "B12": (1.554812948247501, 2.4140534947492487),
}
_RADAR = {"VV": (-25.0, 5.0), "VH": (-25.0, 5.0), "angle": (0.0, 90.0)}
_LIGHT, _SOIL = ("B2", "B3", "B4", "B8", "B11", "B12"), ("sand", "silt", "clay", "bdod")
_FIFTY_YEARS = {"bound": "18262D", "static": True}
#: The paper's sources: ranges of Table 4 in dB, degree, Earth Engine's scaled LAI and FPAR, g kg-1 (bulk density cg cm-3), m,
#: kg m-2 and mm; bounds of Table 5.
#:
#: Normalised, SMAP and GLDAS are m3 m-3. The row of SMAP reads "50, 255" in the paper, and is read as 0..50 mm. 50..255 mm is
#: impossible: ssm of NASA-USDA SMAP10KM is 0..25.39 mm. The released code divides its smap_sm, an integer of 0..255, by 255,
#: exactly as it does with gldas_sm, and for GLDAS that is kg m-2 / 100, which is m3 m-3 over 10 cm. With 0..50 mm the same
#: division gives mm / 50, which is m3 m-3 over 5 cm: the conversion that the paper states. So 50 is the maximum, and 255 the
#: 8-bit one.
SOURCES: dict[str, Source] = {
    one.name: one
    for one in (
        Source("sentinel1", "multisource_sentinel1", tuple(_RADAR), _RADAR, "1h"),
        Source("sentinel2", "multisource_sentinel2", _LIGHT, _LOG_STATISTICS, "14D", cloud=30.0, scaling="log-sigmoid"),
        Source("dem", "multisource_dem", ("elevation",), (0.0, 3000.0), **_FIFTY_YEARS),
        Source("soilgrids", "multisource_soilgrids", _SOIL, (0.0, 800.0), kind="low", **_FIFTY_YEARS),
        Source(
            "modis_lai", "multisource_lai", ("Lai",), dict.fromkeys(("Lai", "Fpar"), (0.0, 100.0)), "8D", kind="low"
        ),
        Source("smap", "multisource_smap10km", ("ssm",), (0.0, 50.0), "3D", kind="coarse"),
        Source("gldas", "multisource_gldas", ("SoilMoi0_10cm_inst",), (0.0, 100.0), "6h", kind="coarse"),
    )
}
#: Bounds that differ where samples are anchored to SMAP (Table 20).
_BOUNDS_OF_ANCHOR = {"sentinel1": {}, "smap": {"sentinel1": "7D", "smap": "1h"}}


def paper_sources(anchor: str = "sentinel1") -> dict[str, Source]:
    """Sources with the bounds of Table 5 (anchored to Sentinel-1) or Table 20 (anchored to SMAP)."""
    if anchor not in _BOUNDS_OF_ANCHOR:
        raise ParameterError("paper_sources", "unknown anchor", got=anchor, expected=list(_BOUNDS_OF_ANCHOR))
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
    needed = [] if source.static else [("time", "time", "Say where the time stands, in the entry's option 'time'")]
    if source.cloud is not None:
        step = "Say where it stands, in the entry's option 'cloud', or join without a cloud limit"
        needed.append(("cloud_percentage", "cloud percentage", step))
    for column, what, step in needed:
        absent = index.table[column].isna().to_numpy()
        if absent.any():
            example, count = str(index.table["scene_id"][absent].iloc[0]), int(absent.sum())
            raise ContractError(who, f"{count} scenes of {name!r} have no {what}", got=example, next_step=step)
