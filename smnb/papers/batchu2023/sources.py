"""`Source`: what the match-ups, the store, the network and the maps know of one source of images; and the paper's seven.

An own source is one more `Source`: given to `build_matchups` or `open_matchups` it is matched, normalised and stored, and
given to `InputSet.of` it is fed to the network.

References
----------
Batchu, Nearing and Gulshan 2023, J. Hydrometeorol. 24(10), doi:10.1175/JHM-D-22-0118.1, section 2c; arXiv:2206.09649.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ContractError, ParameterError, plain
from smnb.papers.batchu2023.normalisation import linear, linear_inverse, log_sigmoid, log_sigmoid_inverse

if TYPE_CHECKING:
    from smnb.loaders.rasters import SceneIndex

#: 10 m images, 160 m images, and one value at the point.
KINDS = ("high", "low", "coarse")
_RESAMPLINGS = ("bilinear", "nearest", "average")
_SCALINGS = {"linear": (linear, linear_inverse), "log-sigmoid": (log_sigmoid, log_sigmoid_inverse)}


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
        scaling "log-sigmoid" the two constants of `smnb.papers.batchu2023.normalisation.log_sigmoid`.
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
            if getattr(self, option) not in known:
                raise ParameterError(who, f"unknown {option!r}", got=getattr(self, option), expected=list(known))
        if self.static and self.kind == "coarse":
            raise ParameterError(who, "a coarse source is not static", got=self.kind)
        if self.cloud is not None and not 0.0 <= self.cloud <= 100.0:
            raise ParameterError(who, "'cloud' is no percentage", got=self.cloud)
        object.__setattr__(self, "bound", self._timedelta(who))
        object.__setattr__(self, "range", self._ranges(who))

    def _timedelta(self, who: str) -> pd.Timedelta:
        try:
            bound = pd.NaT if isinstance(self.bound, int | float) else pd.Timedelta(self.bound)
        except ValueError:
            bound = pd.NaT
        if bound is pd.NaT or bound < pd.Timedelta(0):
            raise ParameterError(
                who, "'bound' is no time span from 0", got=self.bound, expected=plain("such as '14D' or '1h'")
            )
        return bound

    def _ranges(self, who: str) -> dict[str, tuple[float, float]]:
        given = self.range if isinstance(self.range, Mapping) else dict.fromkeys(self.bands, self.range)
        ranges = {str(band): (float(low), float(high)) for band, (low, high) in given.items()}
        empty = [band for band, (low, high) in ranges.items() if not -np.inf < low < high < np.inf]
        if empty or (missing := [band for band in self.bands if band not in ranges]):
            raise ParameterError(who, f"bands {empty or missing} have no range, or an empty one", got=ranges)
        return ranges

    def with_bands(self, *bands: str) -> Source:
        """The same source with other bands of its range.

        Raises
        ------
        ParameterError
            On a band without a range.
        """
        return replace(self, bands=bands)

    def normalise(self, band: str, native: ArrayLike, *, outside: str | None = None) -> NDArray[np.floating]:
        """Scale native values of one band, any shape, to [0, 1]; NaN stays.

        Parameters
        ----------
        band : str
        native : array_like
        outside : {"clip", "raise"}, optional
            What happens to values outside a linear range. Default "clip" for images, which leave it regularly (a radar return
            above 5 dB, a mountain above 3000 m), and "raise" for coarse products, which cannot.

        Raises
        ------
        ParameterError
            On an unknown band.
        ContractError
            If values lie outside the range and that raises.
        """
        low, high = self._range_of(band)
        if (outside or ("raise" if self.kind == "coarse" else "clip")) == "raise":
            array = np.asarray(native)
            if lost := int(np.count_nonzero((array < low) | (array > high))):
                raise ContractError(
                    "normalise",
                    f"{lost} of {array.size} values of {self.name} {band} lie outside its range in native units",
                    got=(float(np.nanmin(array)), float(np.nanmax(array))),
                    expected=(low, high),
                    next_step="Mask fill values, check the units, or give the source another range",
                )
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
        """Plain values, for a store's attributes, a checkpoint and fingerprints."""
        content = {one.name: getattr(self, one.name) for one in fields(self)}
        ranges = {band: list(pair) for band, pair in self.range.items()}
        return {**content, "bands": list(self.bands), "range": ranges, "bound": str(self.bound)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Source:
        """Rebuild from `as_dict`.

        Raises
        ------
        ParameterError
            On keys that a source does not have.
        """
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(content) - set(known)):
            raise ParameterError("Source", "unknown keys", got=unknown, expected=known)
        return cls(**content)


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
_FIFTY_YEARS = "18262D"
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
        Source(
            "sentinel1",
            "multisource_sentinel1",
            bands=("VV", "VH", "angle"),
            range={"VV": (-25.0, 5.0), "VH": (-25.0, 5.0), "angle": (0.0, 90.0)},
            bound="1h",
        ),
        Source(
            "sentinel2",
            "multisource_sentinel2",
            bands=("B2", "B3", "B4", "B8", "B11", "B12"),
            range=_LOG_STATISTICS,
            bound="14D",
            cloud=30.0,
            scaling="log-sigmoid",
        ),
        Source("dem", "multisource_dem", bands=("elevation",), range=(0.0, 3000.0), bound=_FIFTY_YEARS, static=True),
        Source(
            "soilgrids",
            "multisource_soilgrids",
            bands=("sand", "silt", "clay", "bdod"),
            range=(0.0, 800.0),
            bound=_FIFTY_YEARS,
            static=True,
            kind="low",
        ),
        Source(
            "modis_lai",
            "multisource_lai",
            bands=("Lai",),
            range={"Lai": (0.0, 100.0), "Fpar": (0.0, 100.0)},
            bound="8D",
            kind="low",
        ),
        Source("smap", "multisource_smap10km", bands=("ssm",), range=(0.0, 50.0), bound="3D", kind="coarse"),
        Source(
            "gldas", "multisource_gldas", bands=("SoilMoi0_10cm_inst",), range=(0.0, 100.0), bound="6h", kind="coarse"
        ),
    )
}
#: Bounds that differ where samples are anchored to SMAP (Table 20).
_BOUNDS_OF_ANCHOR = {"sentinel1": {}, "smap": {"sentinel1": "7D", "smap": "1h"}}
ANCHORS = tuple(_BOUNDS_OF_ANCHOR)


def paper_sources(anchor: str = "sentinel1") -> dict[str, Source]:
    """Sources with the bounds of Table 5 (anchored to Sentinel-1) or Table 20 (anchored to SMAP).

    Examples
    --------
    >>> {name: str(one.bound) for name, one in paper_sources("smap").items() if not one.static}
    {'sentinel1': '7 days 00:00:00', 'sentinel2': '14 days 00:00:00', 'modis_lai': '8 days 00:00:00',
     'smap': '0 days 01:00:00', 'gldas': '0 days 06:00:00'}
    """
    if anchor not in ANCHORS:
        raise ParameterError("paper_sources", "unknown anchor", got=anchor, expected=list(ANCHORS))
    changed = _BOUNDS_OF_ANCHOR[anchor]
    return {name: replace(one, bound=changed.get(name, one.bound)) for name, one in SOURCES.items()}


def joined_sources(
    who: str, scenes: Mapping[str, SceneIndex], anchor: str, own: Iterable[Source] = (), optional: Iterable[str] = ()
) -> dict[str, Source]:
    """Return how each source that has scenes is joined, in the order in which they are read: the cheap ones first.

    Parameters
    ----------
    who : str
        For messages.
    scenes : mapping of str to SceneIndex
    anchor : {"sentinel1", "smap"}
    own : iterable of Source
        Sources beside the paper's, or in place of those of their names.
    optional : iterable of str
        Sources that a sample may lack.

    Raises
    ------
    ParameterError
        On an unknown source or anchor, or when the anchor is not given or optional.
    ContractError
        If scenes lack bands, times or cloud percentages that the join needs.
    """
    known = {**paper_sources(anchor), **{one.name: one for one in own}}
    optional = (optional,) if isinstance(optional, str) else tuple(optional)
    for names, what in ((scenes, "sources"), (optional, "optional sources")):
        if unknown := [name for name in names if name not in known]:
            raise ParameterError(
                who,
                f"unknown {what} {unknown}",
                got=list(names),
                expected=sorted(known),
                next_step="Describe an own source with Source(…)",
            )
    known = {name: replace(one, optional=one.optional or name in optional) for name, one in known.items()}
    if anchor not in scenes or known[anchor].optional:
        raise ParameterError(
            who,
            f"the anchor {anchor!r} is not among the sources, or is optional",
            got=sorted(scenes),
            expected=[anchor],
        )
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
        raise ContractError(
            who,
            f"the source {name!r} lacks bands {missing}",
            got=list(index.bands),
            expected=list(source.bands),
            next_step="Name them in the entry's option 'bands'",
        )
    needed = [] if source.static else [("time", "time", "Say where the time stands, in the entry's option 'time'")]
    if source.cloud is not None:
        step = "Say where it stands, in the entry's option 'cloud', or join without a cloud limit"
        needed.append(("cloud_percentage", "cloud percentage", step))
    for column, what, step in needed:
        absent = index.table[column].isna().to_numpy()
        if absent.any():
            example = str(index.table["scene_id"][absent].iloc[0])
            raise ContractError(
                who, f"{int(absent.sum())} scenes of {name!r} have no {what}", got=example, next_step=step
            )
