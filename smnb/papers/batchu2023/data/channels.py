"""What a network is given: channels by their names, sets of them, and those of the paper's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from smnb.contract import ParameterError

#: Channels of the 10 m images in the order of the released graph, then the optional vegetation indices: source and band.
HIGH_CHANNELS: dict[str, tuple[str, str]] = {
    "VV": ("sentinel1", "VV"),
    "VH": ("sentinel1", "VH"),
    "angle": ("sentinel1", "angle"),
    "B4": ("sentinel2", "B4"),
    "B3": ("sentinel2", "B3"),
    "B2": ("sentinel2", "B2"),
    "B8": ("sentinel2", "B8"),
    "B11": ("sentinel2", "B11"),
    "B12": ("sentinel2", "B12"),
    "elevation": ("dem", "elevation"),
    "NDVI": ("sentinel2", "NDVI"),
    "EVI": ("sentinel2", "EVI"),
}
#: Channels of the 160 m images.
LOW_CHANNELS: dict[str, tuple[str, str]] = {
    "sand": ("soilgrids", "sand"),
    "silt": ("soilgrids", "silt"),
    "clay": ("soilgrids", "clay"),
    "bdod": ("soilgrids", "bdod"),
    "Lai": ("modis_lai", "Lai"),
}
#: Coarse soil moisture at the point, m3 m-3.
COARSE_CHANNELS: dict[str, tuple[str, str]] = {"smap": ("smap", "ssm"), "gldas": ("gldas", "SoilMoi0_10cm_inst")}
_PARTS = {"high": HIGH_CHANNELS, "low": LOW_CHANNELS, "coarse": COARSE_CHANNELS}
#: Bands that each vegetation index is made of.
INDEX_BANDS = {"NDVI": ("B8", "B4"), "EVI": ("B8", "B4", "B2")}


@dataclass(frozen=True)
class InputSet:
    """Channels of the three inputs of the network; channels come in the order of `HIGH_CHANNELS` and the others.

    Parameters
    ----------
    high, low, coarse : tuple of str
        Names from `HIGH_CHANNELS`, `LOW_CHANNELS` and `COARSE_CHANNELS`.

    Raises
    ------
    ParameterError
        On an unknown or repeated channel, or none at all.

    Examples
    --------
    >>> InputSet.of("sentinel1", "dem").high
    ('VV', 'VH', 'angle', 'elevation')
    """

    high: tuple[str, ...] = ()
    low: tuple[str, ...] = ()
    coarse: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part, known in _PARTS.items():
            names = tuple(getattr(self, part))
            unknown = [name for name in names if name not in known]
            if unknown or len(set(names)) < len(names):
                raise ParameterError(
                    "InputSet",
                    f"unknown or repeated channels of the {part} input",
                    got=unknown or names,
                    expected=list(known),
                )
            object.__setattr__(self, part, tuple(name for name in known if name in names))
        if not (self.high or self.low or self.coarse):
            raise ParameterError(
                "InputSet", "there is no channel", expected=[name for one in _PARTS.values() for name in one]
            )

    @classmethod
    def of(cls, *sources: str, indices: Iterable[str] = ()) -> InputSet:
        """All channels of sources, and of Sentinel-2 the vegetation indices that are named.

        Parameters
        ----------
        *sources : str
            ``sentinel1``, ``sentinel2``, ``dem``, ``soilgrids``, ``modis_lai``, ``smap``, ``gldas``.
        indices : iterable of str
            ``NDVI``, ``EVI``.
        """
        known = {source for channels in _PARTS.values() for source, _ in channels.values()}
        if unknown := [name for name in sources if name not in known]:
            raise ParameterError("InputSet.of", "unknown sources", got=unknown, expected=sorted(known))
        wanted = set(indices)
        if unknown := sorted(wanted - set(INDEX_BANDS)):
            raise ParameterError("InputSet.of", "unknown vegetation indices", got=unknown, expected=list(INDEX_BANDS))
        parts = {
            part: tuple(
                name
                for name, (source, band) in channels.items()
                if (source in sources and band not in INDEX_BANDS) or name in wanted
            )
            for part, channels in _PARTS.items()
        }
        return cls(**parts)

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel as ``source:band``: what a checkpoint remembers."""
        return tuple(":".join(known[name]) for part, known in _PARTS.items() for name in getattr(self, part))

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources that the channels are of."""
        return tuple(dict.fromkeys(name.split(":")[0] for name in self.channels))

    def bands(self, part: str) -> dict[str, tuple[str, ...]]:
        """Stored bands that a part needs, by source; a vegetation index needs those that it is made of."""
        needed: dict[str, dict[str, None]] = {}
        for name in getattr(self, part):
            source, band = _PARTS[part][name]
            needed.setdefault(source, {}).update(dict.fromkeys(INDEX_BANDS.get(band, (band,))))
        return {source: tuple(bands) for source, bands in needed.items()}

    def to_dict(self) -> dict[str, list[str]]:
        """Plain lists, for a checkpoint's JSON."""
        return {part: list(getattr(self, part)) for part in _PARTS}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> InputSet:
        """Rebuild from `to_dict`."""
        return cls(**{part: tuple(content[part]) for part in _PARTS})

    def __str__(self) -> str:
        return ", ".join(self.channels)


def channel_source(part: str, channel: str) -> tuple[str, str]:
    """Source and band of a channel of the ``high``, ``low`` or ``coarse`` input."""
    return _PARTS[part][channel]


_ALL = {
    "Sentinel-1": "sentinel1",
    "DEM": "dem",
    "Sentinel-2": "sentinel2",
    "SoilGrids": "soilgrids",
    "SMAP": "smap",
    "GLDAS": "gldas",
}


def _named(*without: str) -> str:
    return " + ".join(name for name in _ALL if name not in without)


def _set(name: str) -> InputSet:
    return InputSet.of(*(_ALL[one] for one in name.split(" + ")))


#: The paper's own model.
FULL_MODEL = _named()
_BASELINE = "SMAP + GLDAS NN"
TABLE_18_EVI_NDVI, TABLE_18_LAI = f"{FULL_MODEL} + EVI/NDVI", f"{FULL_MODEL} + MODIS LAI"
_NAMES = (
    "Sentinel-1 + DEM",
    "Sentinel-1 + DEM + Sentinel-2",
    "Sentinel-1 + DEM + Sentinel-2 + SoilGrids",
    FULL_MODEL,
    *(_named(one) for one in _ALL),
    "Sentinel-1 + DEM + SMAP",
)
#: Input sets by the paper's names, which join the names of the sources.
SOURCE_SETS: dict[str, InputSet] = {
    _BASELINE: InputSet.of("smap", "gldas"),
    **{name: _set(name) for name in _NAMES},
    TABLE_18_EVI_NDVI: InputSet.of(*_ALL.values(), indices=("NDVI", "EVI")),
    TABLE_18_LAI: InputSet.of(*_ALL.values(), "modis_lai"),
}
#: Products that are scored as they are, by the paper's names.
PRODUCTS = {"SMAP": "smap", "GLDAS": "gldas"}
#: Rows of the paper's tables by number, as in `smnb.papers.tables`: the row's name to a name in `SOURCE_SETS` or `PRODUCTS`.
#: Table 15 is one set with crops of 64 to 512 pixels; Table 21 is scored on two stores.
PAPER_ROWS: dict[int, dict[str, str]] = {
    9: {name: name for name in (*PRODUCTS, _BASELINE, *_NAMES[:4])},
    15: {f"{size}x{size}": "Sentinel-1 + DEM + Sentinel-2" for size in (64, 128, 256, 512)},
    16: {
        "None (Baseline)": FULL_MODEL,
        **{name: _named(name) for name in ("DEM", "Sentinel-1", "Sentinel-2", "SoilGrids", "SMAP", "GLDAS")},
        "SMAP + GLDAS": _named("SMAP", "GLDAS"),
    },
    18: {"None (Baseline)": FULL_MODEL, "EVI/NDVI": TABLE_18_EVI_NDVI, "MODIS LAI": TABLE_18_LAI},
    19: {
        "SMAP": "SMAP",
        "Sentinel-1 + DEM": "Sentinel-1 + DEM",
        "Sentinel-1 + DEM + SMAP": "Sentinel-1 + DEM + SMAP",
        FULL_MODEL: FULL_MODEL,
    },
    21: {_BASELINE: _BASELINE, **{name: name for name in (_NAMES[2], FULL_MODEL)}},
}
