"""The fields of the released records, and how one becomes arrays.

Names and types are those of the release's README and inference script. Every image is 512 x 512 at 10 m, SoilGrids and LAI
too, stored as 8-bit-like integers of 0..255 that scale the ranges of the sources; only the DEM is in metres. There is no flag
for missing: 0 is what a missing value has. So

- a coarse value of 0 is missing (no product has 0 there);
- a band of which every pixel is 0 is missing, and single zeros stay: they are the low end of the range (VH at or below
  -25 dB is common over water, Sentinel-2 has none), or missing, which cannot be told;
- a SoilGrids pixel where all bands are 0 is missing, since sand, silt and clay sum to 1000 g kg-1 where there is soil.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smnb.contract import FormatError, ParameterError, plain
from smnb.loaders.tfrecord import Feature
from smnb.papers.batchu2023.sources import SOURCES, dequantise

#: Field of each band, by source.
BANDS: dict[str, dict[str, str]] = {
    "sentinel1": {band: f"sentinel_1_{band}" for band in ("VV", "VH", "angle")},
    "sentinel2": {band: f"sentinel_2_{band}" for band in SOURCES["sentinel2"].range},
    "dem": {"elevation": "nasa_dem_elevation"},
    "soilgrids": {
        **{band: f"soil_grids_{band}_{band}_0-5cm_mean" for band in ("sand", "silt", "clay")},
        "bdod": "soil_grids_bd_bdod_0-5cm_mean",
    },
    "modis_lai": {band: f"modis_leaf_area_{band}" for band in ("Lai", "Fpar")},
    "smap": {"ssm": "smap_sm"},
    "gldas": {"SoilMoi0_10cm_inst": "gldas_sm"},
}
#: What the paper's network reads.
DEFAULT_BANDS: dict[str, tuple[str, ...]] = {name: one.bands for name, one in SOURCES.items() if name != "modis_lai"}
#: Field with the time of the image, ms since 1970.
TIMESTAMPS = {
    "sentinel1": "sentinel_1_timestamp",
    "sentinel2": "sentinel_2_timestamp",
    "dem": "nasa_dem_timestamp",
    "soilgrids": "soil_grids_sand_timestamp",
    "modis_lai": "modis_leaf_area_timestamp",
    "smap": "smap_timestamp",
    "gldas": "gldas_timestamp",
}


@dataclass(frozen=True)
class ImageGeometry:
    """Stored side, the centred square that is kept, and the factor from the fine to the low grid (all in pixels)."""

    size: int = 512
    crop: int = 512
    low_factor: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.size or (self.size - self.crop) % 2 or self.crop % self.low_factor:
            expected = f"a multiple of {self.low_factor} up to {self.size}, an even number of pixels smaller"
            raise ParameterError("ImageGeometry", "the crop does not fit", got=self.crop, expected=plain(expected))


def check_bands(who: str, bands: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    """Return the bands to read by source, or raise a `ParameterError`; default `DEFAULT_BANDS`."""
    if bands is None:
        return dict(DEFAULT_BANDS)
    chosen = {source: (names,) if isinstance(names, str) else tuple(names) for source, names in bands.items()}
    for source, names in chosen.items():
        if source not in BANDS:
            raise ParameterError(who, "unknown source in 'bands'", got=source, expected=list(BANDS))
        if not names or len(set(names)) < len(names) or not set(names) <= set(BANDS[source]):
            what = f"'bands' of {source} are none, double or unknown"
            raise ParameterError(who, what, got=names, expected=list(BANDS[source]))
    if not chosen:
        raise ParameterError(who, "'bands' names no source", got={}, expected=list(BANDS))
    return chosen


def _single(
    features: Mapping[str, Feature], name: str, kinds: Sequence[str], *, required: bool = True
) -> Feature | None:
    """Return a feature of one of the kinds, None where the record has none of that name and need not."""
    feature = features.get(name)
    if feature is None or feature.kind == "empty":
        if not required:
            return None
        step = "Leave its source out with 'bands', or skip the record"
        raise FormatError(name, "the record lacks this field", next_step=step)
    if feature.kind not in kinds:
        raise FormatError(name, "the field has another type", got=feature.kind, expected=" or ".join(kinds))
    return feature


def text(features: Mapping[str, Feature], name: str) -> str:
    """Return a required text of one value."""
    values = _single(features, name, ("bytes",)).bytes_list()
    if len(values) != 1:
        raise FormatError(name, "the field is no single value", got=len(values), expected=1)
    try:
        return values[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(name, "the text is no UTF-8", got=values[0][:40]) from error


def scalar(
    features: Mapping[str, Feature], name: str, kinds: Sequence[str] = ("float",), *, default: float | None = None
) -> float:
    """Return a finite number of one value, exactly as stored; `default` where it is absent (None: it is required)."""
    feature = _single(features, name, kinds, required=default is None)
    if feature is None:
        return default
    values = feature.floats() if feature.kind == "float" else feature.integers()
    if values.size != 1 or not np.isfinite(values[0]):
        raise FormatError(name, "the field is no single finite number", got=values[:3].tolist(), expected=1)
    return values[0].item()


def coarse_value(features: Mapping[str, Feature], source: str, bands: Sequence[str]) -> NDArray[np.float32]:
    """Return the coarse product's value, m3 m-3, shape (band,); absent and 0 are NaN."""
    stored = np.array([scalar(features, BANDS[source][band], ("int64",), default=0) for band in bands])
    _check_8_bit(BANDS[source][bands[0]], stored)
    return dequantise(stored, zero_is_missing=True)


def _check_8_bit(name: str, stored: NDArray[np.integer]) -> None:
    if stored.size and (stored.min() < 0 or stored.max() > 255):
        raise FormatError(name, "values are outside 0..255", got=(int(stored.min()), int(stored.max())))


def _cropped(features: Mapping[str, Feature], name: str, geometry: ImageGeometry, check: bool) -> NDArray | None:
    """The centred square of a stored image; None where all of the image is 0."""
    values = _single(features, name, ("int64",)).integers()
    size, start = geometry.size, (geometry.size - geometry.crop) // 2
    if values.size != size**2:
        expected = plain(f"{size} x {size} = {size**2}")
        raise FormatError(name, "the image has another number of pixels", got=values.size, expected=expected)
    if check:
        _check_8_bit(name, values)
    kept = slice(start, start + geometry.crop)
    return values.reshape(size, size)[kept, kept] if values.any() else None


def _block_mean(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Mean of the valid pixels of each block; NaN where there is none. Shape (band, y, x) to (band, y/f, x/f)."""
    bands, height, width = image.shape
    blocks = image.reshape(bands, height // factor, factor, width // factor, factor)
    valid = np.isfinite(blocks)
    count = valid.sum(axis=(2, 4))
    total = np.where(valid, blocks, 0.0).sum(axis=(2, 4), dtype=np.float64)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0).astype(np.float32)


def read_image(
    features: Mapping[str, Feature], source: str, bands: Sequence[str], geometry: ImageGeometry
) -> NDArray[np.float32]:
    """Decode the bands of a source that is not coarse, (band, y, x) in [0, 1]; NaN where missing (see above).

    Crop x crop pixels of 10 m, for sources of the low grid their mean over 160 m.
    """
    image = np.full((len(bands), geometry.crop, geometry.crop), np.nan, dtype=np.float32)
    for number, band in enumerate(bands):
        stored = _cropped(features, BANDS[source][band], geometry, check=source != "dem")
        if stored is not None:  # the DEM is the one that is stored as it is
            image[number] = SOURCES["dem"].normalise(band, stored) if source == "dem" else dequantise(stored)
    if SOURCES[source].kind != "low":
        return image
    if source == "soilgrids":
        image[:, ~(image > 0).any(axis=0)] = np.nan
    return _block_mean(image, geometry.low_factor)
