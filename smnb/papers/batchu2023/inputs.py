"""What a network is given: channels ``source:band``, sets of them, those of the paper's tables, and the step to tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from smnb.contract import FormatError, ParameterError
from smnb.papers.batchu2023.sources import KINDS, SOURCES, Source

if TYPE_CHECKING:
    import torch

    from smnb.training import Trained

#: Bands that each vegetation index of Sentinel-2 is made of.
INDEX_BANDS = {"NDVI": ("B8", "B4"), "EVI": ("B8", "B4", "B2")}
#: Channels in the order of the released graph; vegetation indices, then own sources, come behind those of their kind.
_BANDS = {name: one.bands for name, one in SOURCES.items()} | {"sentinel2": ("B4", "B3", "B2", "B8", "B11", "B12")}
_ORDER = [f"{name}:{band}" for name, bands in _BANDS.items() for band in bands]
_ORDER += [f"sentinel2:{index}" for index in INDEX_BANDS]


@dataclass(frozen=True)
class InputSet:
    """Channels ``source:band`` of the network's three inputs: 10 m images, 160 m images, and values at the point.

    `InputSet.of` makes one out of sources; `own` are sources of its channels that are not the paper's.
    """

    high: tuple[str, ...] = ()
    low: tuple[str, ...] = ()
    coarse: tuple[str, ...] = ()
    own: tuple[Source, ...] = ()

    @classmethod
    def of(cls, *wanted: str | Source) -> InputSet:
        """Channels of a `Source`, of one of the paper (all its bands), or single ones (``"sentinel1:VV"``, ``"sentinel2:NDVI"``).

        >>> InputSet.of("sentinel1", "dem", "smap").high
        ('sentinel1:VV', 'sentinel1:VH', 'sentinel1:angle', 'dem:elevation')
        """
        parts: dict[str, Any] = {kind: {} for kind in KINDS}
        own: dict[str, Source] = {}
        for one in wanted:
            name, _, band = (one.name, "", "") if isinstance(one, Source) else one.partition(":")
            source = one if isinstance(one, Source) else SOURCES.get(name)
            if source is None:
                raise ParameterError("InputSet.of", "unknown source", got=name, expected=[*SOURCES, "or a Source"])
            if band and not {*_bands_of(name, band)} <= {*source.bands}:
                raise ParameterError("InputSet.of", f"unknown band of {name}", got=band, expected=source.bands)
            if source != SOURCES.get(name):
                own[name] = source
            parts[source.kind].update(dict.fromkeys(f"{name}:{b}" for b in ([band] if band else source.bands)))
        if not any(parts.values()):
            raise ParameterError("InputSet.of", "there is no channel", expected=list(SOURCES))
        for kind, names in parts.items():
            known = [name for name in _ORDER if name in names]
            parts[kind] = (*known, *(name for name in names if name not in known))
        return cls(**parts, own=tuple(own.values()))

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel: what a checkpoint remembers."""
        return (*self.high, *self.low, *self.coarse)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources that the channels are of."""
        return tuple(dict.fromkeys(name.split(":")[0] for name in self.channels))

    def source(self, name: str) -> Source:
        """A source of the set by its name."""
        return next((one for one in self.own if one.name == name), None) or SOURCES[name]

    def bands(self, *parts: str) -> dict[str, tuple[str, ...]]:
        """Stored bands that some parts need, by source; a vegetation index needs those that it is made of."""
        needed: dict[str, dict[str, None]] = {}
        for channel in (name for part in parts for name in getattr(self, part)):
            source, band = channel.split(":")
            needed.setdefault(source, {}).update(dict.fromkeys(_bands_of(source, band)))
        return {source: tuple(bands) for source, bands in needed.items()}

    def normalisation(self) -> dict[str, list[Any]]:
        """How each channel is scaled from native units: scaling and its two numbers."""
        found = {}
        for channel in self.channels:
            name, band = channel.split(":")
            source, bands = self.source(name), _bands_of(name, band)
            found[channel] = [source.scaling, *source.range[band]] if bands == (band,) else ["index", *bands]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint's JSON."""
        return {**{kind: list(getattr(self, kind)) for kind in KINDS}, "own": [one.as_dict() for one in self.own]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> InputSet:
        """Rebuild from `to_dict`."""
        own = tuple(Source(**one) for one in content.get("own", ()))
        return cls(**{kind: tuple(content[kind]) for kind in KINDS}, own=own)

    def __str__(self) -> str:
        return ", ".join(self.channels)


def _bands_of(source: str, band: str) -> tuple[str, ...]:
    return INDEX_BANDS[band] if source == "sentinel2" and band in INDEX_BANDS else (band,)


def vegetation_index(name: str, digital_numbers: Mapping[str, np.ndarray]) -> np.ndarray:
    """NDVI or EVI of Sentinel-2's digital numbers by band, from [-1, 1] to [0, 1]; ours, as the paper does not say how.

    NDVI is (NIR - red) / (NIR + red), EVI 2.5 (NIR - red) / (NIR + 6 red - 7.5 blue + 1) of reflectances (Huete et al. 2002,
    doi:10.1016/S0034-4257(02)00096-2). NaN where NDVI is 0 / 0 and where EVI's denominator is not positive, which bright cloud
    brings about and where the index means nothing.
    """
    nir, red, *blue = (np.asarray(digital_numbers[band], "float32") / np.float32(1e4) for band in INDEX_BANDS[name])
    above, below = nir - red, nir + red
    if name == "EVI":
        above, below = 2.5 * above, nir + 6.0 * red - 7.5 * blue[0] + 1.0
    there = below != 0 if name == "NDVI" else below > 0
    index = np.divide(above, below, out=np.full_like(below, np.nan), where=there)
    return np.clip((index + 1.0) / 2.0, 0.0, 1.0)


def network_inputs(
    inputs: InputSet,
    part: str,
    values: Mapping[str, np.ndarray | torch.Tensor],
    device: Any = "cpu",
    *,
    scaled: bool = True,
) -> torch.Tensor:
    """What the network takes of a part, ``(n, channel, ...)``: the one step from stored values, for the data set and for maps.

    `values` maps a source to (n, band, ...), normalised, its bands in the order of ``inputs.bands(part)``; NaN is missing.
    Vegetation indices are computed here. Images are then `scaled` to ``2 x - 1``, so [-1, 1], and missing pixels to 0, the
    middle of the range; values at the point stay as they are.
    """
    import torch

    bands, given = inputs.bands(part), {source: torch.as_tensor(one) for source, one in values.items()}
    first = next(iter(given.values()))
    # copied once, channel by channel, to where they are scaled: a batch is hundreds of MB
    result = torch.empty((len(first), len(getattr(inputs, part)), *first.shape[2:]), device=device)
    for number, channel in enumerate(getattr(inputs, part)):
        source, band = channel.split(":")
        parts = {one: given[source][:, bands[source].index(one)] for one in _bands_of(source, band)}
        if list(parts) != [band]:
            light = inputs.source(source)
            native = {one: light.denormalise(one, stored.float().cpu().numpy()) for one, stored in parts.items()}
            parts = {band: torch.from_numpy(vegetation_index(band, native))}
        result[:, number] = parts[band]
    return result.mul_(2.0).sub_(1.0).nan_to_num_(nan=0.0) if scaled and part != "coarse" else result


def inputs_of(trained: Trained) -> InputSet:
    """Inputs that a network was trained on; a `FormatError` if it was on other data, or they are scaled in another way now."""
    card, who = trained.card["training"], "inputs_of"
    if "inputs" not in card:
        raise FormatError(who, "the network was not trained on a sample store", got=trained.card["model"])
    inputs = InputSet.from_dict(card["inputs"])
    now = inputs.normalisation()
    if card["normalisation"] != now:
        changed = [name for name, value in now.items() if card["normalisation"].get(name) != value]
        what = "the network was trained on other normalisations"
        raise FormatError(who, what, got=changed, next_step="Train it again")
    return inputs


FULL_MODEL = "Sentinel-1 + DEM + Sentinel-2 + SoilGrids + SMAP + GLDAS"  # the paper's own model
PRODUCTS = {"SMAP": "smap", "GLDAS": "gldas"}  # products that are scored as they are, by the paper's names
_TABLES = yaml.safe_load(Path(__file__).with_name("inputs.yaml").read_text(encoding="utf-8"))
#: Rows of the paper's tables by number, as in `smnb.papers.tables`: the row's name to a name in `SOURCE_SETS` or `PRODUCTS`.
PAPER_ROWS: dict[int, dict[str, str]] = _TABLES["rows"]
#: Studies of the sources: the paper's table, and the member that the others are compared with (empty: the largest images).
STUDIES: dict[str, tuple[int, str]] = {study: tuple(facts) for study, facts in _TABLES["studies"].items()}
#: Input sets by the paper's names, which join the names of the sources.
SOURCE_SETS: dict[str, InputSet] = {
    name: InputSet.of(*" ".join(_TABLES["named"][one] for one in name.split(" + ")).split())
    for name in dict.fromkeys(name for rows in PAPER_ROWS.values() for name in rows.values())
    if name not in PRODUCTS
}
