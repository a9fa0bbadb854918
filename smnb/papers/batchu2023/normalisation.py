"""Scaling of the sources of the multi-source model to [0, 1], as published, and back to native units.

Images are scaled linearly between the minimum and maximum of `RANGES` (Table 4), Sentinel-2 by a sigmoid in log space
(Table 17, `LOG_STATISTICS`), and the two coarse soil moisture products become volumetric, m3 m-3. `normalise` and
`denormalise` do all of it by source and band. Everything is NumPy, NaN passes through, and results are float32 unless
float64 came in.

What the paper calls "zero-mean, unit-variance" is not what a minimum and a maximum give; the step from [0, 1] to the
network's [-1, 1] is 2 x - 1, at the network's door and not here.

References
----------
Batchu et al. (2022), arXiv:2206.09649, section 2b4, Tables 4 and 17.
Brown et al. (2022), Dynamic World, doi:10.1038/s41597-022-01307-4 (the log-sigmoid and its constants).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ContractError, ParameterError, plain

#: Minimum and maximum of each band in native units (Table 4): dB, degree, Earth Engine's scaled LAI and FPAR, g kg-1
#: (bulk density cg cm-3), m, kg m-2 and mm.
#:
#: The row of SMAP reads "50, 255" in the paper, and is read as 0..50 mm. 50..255 mm is impossible: ssm of NASA-USDA
#: SMAP10KM is 0..25.39 mm. The released code divides its smap_sm, an integer of 0..255, by 255, exactly as it does with
#: gldas_sm, and for GLDAS that is kg m-2 / 100, which is m3 m-3 over 10 cm. With 0..50 mm the same division gives
#: mm / 50, which is m3 m-3 over 5 cm: the conversion that the paper states. So 50 is the maximum, and 255 the 8-bit one.
RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "sentinel1": {"VV": (-25.0, 5.0), "VH": (-25.0, 5.0), "angle": (0.0, 90.0)},
    "modis_lai": {"Lai": (0.0, 100.0), "Fpar": (0.0, 100.0)},
    "soilgrids": {"sand": (0.0, 800.0), "silt": (0.0, 800.0), "clay": (0.0, 800.0), "bdod": (0.0, 800.0)},
    "dem": {"elevation": (0.0, 3000.0)},
    "gldas": {"SoilMoi0_10cm_inst": (0.0, 100.0)},
    "smap": {"ssm": (0.0, 50.0)},
}

#: Sources of one value at the point; normalised they are volumetric soil moisture, m3 m-3.
COARSE_SOURCES = ("smap", "gldas")

#: The two constants of each Sentinel-2 band (Table 17). The paper calls them log_mean and log_std; in Dynamic World,
#: whose constants they are, they are the 30th and 70th percentiles of the logarithm, and it divides by the second one
#: itself, not by their difference. So it is reproduced.
LOG_STATISTICS: dict[str, tuple[float, float]] = {
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

#: Ranges of the vegetation indices of Table 18; ours, since the paper does not say how they were scaled.
INDEX_RANGES: dict[str, tuple[float, float]] = {"NDVI": (-1.0, 1.0), "EVI": (-1.0, 1.0)}

#: What processing baseline 04.00 (from 25 January 2022) adds to the digital numbers of Sentinel-2.
BASELINE_0400_OFFSET = 1000.0

_LOG_SCALE = 0.005
_DN_OF_ONE = 1.0e4


def _floating(values: ArrayLike) -> NDArray:
    """Return `values` as floating point: float64 stays so, everything else becomes float32."""
    array = np.asarray(values)
    return array if array.dtype == np.float64 else array.astype(np.float32)


def linear(values: ArrayLike, minimum: float, maximum: float, clip: bool = True) -> NDArray:
    """Scale `values` from [minimum, maximum] to [0, 1].

    Parameters
    ----------
    values : array_like
        Native values, any shape; NaN stays NaN.
    minimum, maximum : float
        What becomes 0 and 1.
    clip : bool
        Clip what lies outside to 0 and 1.

    Returns
    -------
    ndarray
        Same shape; float32, or float64 where that came in.

    Raises
    ------
    ParameterError
        If the range is empty or not finite.

    Examples
    --------
    >>> linear([-25.0, -10.0, 20.0], -25.0, 5.0).tolist()
    [0.0, 0.5, 1.0]
    """
    _check_interval("linear", minimum, maximum)
    array = _floating(values)
    scaled = (array - array.dtype.type(minimum)) * array.dtype.type(1.0 / (maximum - minimum))
    return np.clip(scaled, 0.0, 1.0) if clip else scaled


def linear_inverse(values: ArrayLike, minimum: float, maximum: float) -> NDArray:
    """Scale `values` from [0, 1] back to [minimum, maximum]; the inverse of `linear` where that did not clip."""
    _check_interval("linear_inverse", minimum, maximum)
    array = _floating(values)
    return array * array.dtype.type(maximum - minimum) + array.dtype.type(minimum)


def _check_interval(who: str, minimum: float, maximum: float) -> None:
    if not (np.isfinite(minimum) and np.isfinite(maximum) and minimum < maximum):
        raise ParameterError(who, "the range is empty", got=(minimum, maximum), expected=plain("minimum < maximum"))


def sentinel2_log_sigmoid(dn: ArrayLike, band: str, *, offset: float = 0.0) -> NDArray:
    """Scale a Sentinel-2 band to (0, 1) so that dark, cloud-free ground gets most of the range.

    With u = ln(0.005 DN + 1) and the constants a, s of Table 17, the result is the sigmoid of 5 (u - a) / s - 1.

    Parameters
    ----------
    dn : array_like
        Level-1C digital numbers, reflectance x 1e4; any shape; NaN stays NaN. Numbers below 0 (noise, once an offset
        is removed) count as 0.
    band : str
        A key of `LOG_STATISTICS`.
    offset : float
        What was added to the digital numbers and is subtracted first: `BASELINE_0400_OFFSET` for products of
        processing baseline 04.00 and later, 0 for earlier or harmonised ones.

    Returns
    -------
    ndarray
        Same shape; float32, or float64 where that came in.

    Raises
    ------
    ParameterError
        If the band is unknown.

    Examples
    --------
    >>> sentinel2_log_sigmoid([0, 1000, 10000], "B2").round(5).tolist()
    [0.004..., 0.293..., 0.988...]
    """
    mean, spread = _log_statistics("sentinel2_log_sigmoid", band)
    array = _floating(dn)
    one = array.dtype.type
    v = (np.log1p(one(_LOG_SCALE) * np.maximum(array - one(offset), one(0))) - one(mean)) * one(1.0 / spread)
    return one(1) / (one(1) + np.exp(one(1) - one(5) * v))


def sentinel2_log_sigmoid_inverse(values: ArrayLike, band: str, *, offset: float = 0.0) -> NDArray:
    """Return the digital numbers that `sentinel2_log_sigmoid` scaled to `values`; computed in float64.

    Values at or below 0 and at or above 1 are no sigmoid's and become NaN. In 8-bit storage that is 255, the
    brightest cloud, and 0, which stands for missing (a digital number of 0 is stored as 1 or more).
    """
    mean, spread = _log_statistics("sentinel2_log_sigmoid_inverse", band)
    y = np.asarray(values, dtype=np.float64)
    y = np.where((y > 0.0) & (y < 1.0), y, np.nan)
    u = (np.log(y / (1.0 - y)) + 1.0) / 5.0 * spread + mean
    return (np.expm1(u) / _LOG_SCALE + offset).astype(_floating(values).dtype)


def _log_statistics(who: str, band: str) -> tuple[float, float]:
    if band not in LOG_STATISTICS:
        raise ParameterError(who, "unknown band of sentinel2", got=band, expected=sorted(LOG_STATISTICS))
    return LOG_STATISTICS[band]


def smap_volumetric(mm: ArrayLike, *, outside: str = "raise") -> NDArray:
    """Convert surface soil moisture of NASA-USDA SMAP10KM from mm over 5 cm to m3 m-3.

    Parameters
    ----------
    mm : array_like
        ``ssm``, 0..50 mm; NaN stays NaN. That m3 m-3 were given instead cannot be told from very dry soil.
    outside : {"raise", "clip"}
        What happens to values below 0 or above 50 mm (fill values that were not masked, other units).

    Returns
    -------
    ndarray
        m3 m-3, same shape.

    Raises
    ------
    ContractError
        If values lie outside 0..50 mm and `outside` is ``"raise"``; it says how many.
    """
    return normalise("smap", "ssm", mm, outside=outside)


def gldas_volumetric(kg_m2: ArrayLike, *, outside: str = "raise") -> NDArray:
    """Convert GLDAS Noah soil moisture of the top 10 cm from kg m-2 to m3 m-3; options as in `smap_volumetric`."""
    return normalise("gldas", "SoilMoi0_10cm_inst", kg_m2, outside=outside)


def ndvi(b8: ArrayLike, b4: ArrayLike) -> NDArray:
    """Compute the Normalized Difference Vegetation Index (NIR - red) / (NIR + red) of reflectances; NaN where 0 / 0."""
    nir, red = _floating(b8), _floating(b4)
    total = nir + red
    return np.divide(nir - red, total, out=np.full_like(total, np.nan), where=total != 0)


def evi(b8: ArrayLike, b4: ArrayLike, b2: ArrayLike) -> NDArray:
    """Compute the Enhanced Vegetation Index 2.5 (NIR - red) / (NIR + 6 red - 7.5 blue + 1) of reflectances (not DN).

    NaN where the denominator is not positive, which bright cloud brings about and where the index means nothing.

    References
    ----------
    Huete et al. (2002), doi:10.1016/S0034-4257(02)00096-2.
    """
    nir, red, blue = _floating(b8), _floating(b4), _floating(b2)
    below = nir + 6.0 * red - 7.5 * blue + 1.0
    return np.divide(2.5 * (nir - red), below, out=np.full_like(below, np.nan), where=below > 0)


def normalised_index(name: str, bands: dict[str, ArrayLike]) -> NDArray:
    """Compute a vegetation index, scaled to [0, 1], from Sentinel-2 bands that were normalised already.

    Parameters
    ----------
    name : {"NDVI", "EVI"}
        The index.
    bands : dict of str to array_like
        Normalised ``B8`` and ``B4``, for EVI also ``B2``; one shape.

    Returns
    -------
    ndarray
        Float32, the index's `INDEX_RANGES` scaled to [0, 1].
    """
    _range_of("normalised_index", "sentinel2", name)
    needed = ("B8", "B4") if name == "NDVI" else ("B8", "B4", "B2")
    missing = [band for band in needed if band not in bands]
    if missing:
        raise ParameterError("normalised_index", f"{name} lacks bands", got=sorted(bands), expected=needed)
    reflectance = [sentinel2_log_sigmoid_inverse(bands[band], band) / np.float32(_DN_OF_ONE) for band in needed]
    return linear(ndvi(*reflectance) if name == "NDVI" else evi(*reflectance), *INDEX_RANGES[name])


def _range_of(who: str, source: str, band: str) -> tuple[float, float] | None:
    """Return the linear range of a band, or None for the log-sigmoid of Sentinel-2."""
    if source == "sentinel2":
        if band in INDEX_RANGES:
            return INDEX_RANGES[band]
        if band in LOG_STATISTICS:
            return None
        known = sorted([*LOG_STATISTICS, *INDEX_RANGES])
    elif source in RANGES:
        if band in RANGES[source]:
            return RANGES[source][band]
        known = sorted(RANGES[source])
    else:
        raise ParameterError(who, "unknown source", got=source, expected=sorted([*RANGES, "sentinel2"]))
    raise ParameterError(who, f"unknown band of {source}", got=band, expected=known)


def outside_range(source: str, band: str, native: ArrayLike) -> int:
    """Count the values that `normalise` would clip (for Sentinel-2: digital numbers below 0); NaN does not count."""
    interval = _range_of("outside_range", source, band) or (0.0, np.inf)
    array = np.asarray(native)
    return int(np.count_nonzero((array < interval[0]) | (array > interval[1])))


def normalise(
    source: str, band: str, native: ArrayLike, *, outside: str | None = None, offset: float = 0.0
) -> NDArray[np.floating]:
    """Scale native values of one band to [0, 1]; the coarse products to m3 m-3.

    Parameters
    ----------
    source, band : str
        A source and band of `RANGES`, or ``sentinel2`` with a band of `LOG_STATISTICS` or an index of `INDEX_RANGES`.
    native : array_like
        Values in native units, any shape; NaN stays NaN.
    outside : {"clip", "raise"}, optional
        What happens to values outside the range. Default ``"clip"`` for images, which leave it regularly (a radar
        return above 5 dB, a mountain above 3000 m), and ``"raise"`` for the coarse products, which cannot.
    offset : float
        Added to Sentinel-2's digital numbers by processing baseline 04.00; see `sentinel2_log_sigmoid`.

    Returns
    -------
    ndarray
        Same shape; float32, or float64 where that came in.

    Raises
    ------
    ParameterError
        If the source, the band or an option is unknown.
    ContractError
        If values lie outside the range and `outside` is ``"raise"``.

    Examples
    --------
    >>> float(normalise("smap", "ssm", 12.5)), float(normalise("dem", "elevation", 4000.0))
    (0.25, 1.0)
    """
    interval = _range_of("normalise", source, band)
    outside = outside or ("raise" if source in COARSE_SOURCES else "clip")
    if outside not in ("clip", "raise"):
        raise ParameterError("normalise", "unknown 'outside'", got=outside, expected=["clip", "raise"])
    if offset and source != "sentinel2":
        raise ParameterError("normalise", f"'offset' means nothing for {source}", got=offset, expected=0.0)
    if outside == "raise" and (lost := outside_range(source, band, np.asarray(native) - offset)):
        array = np.asarray(native)
        raise ContractError(
            "normalise",
            f"{lost} of {array.size} values of {source} {band} lie outside its range in native units",
            got=(float(np.nanmin(array)), float(np.nanmax(array))),
            expected=interval,
            next_step="Mask fill values, check the units, or pass outside='clip'",
        )
    if interval is None:
        return sentinel2_log_sigmoid(native, band, offset=offset)
    return linear(native, *interval)


def denormalise(source: str, band: str, value: ArrayLike, *, offset: float = 0.0) -> NDArray[np.floating]:
    """Return native values of what `normalise` scaled; what it clipped comes back as the end of the range.

    Raises
    ------
    ParameterError
        If the source or the band is unknown, or an offset is given for other than Sentinel-2.

    Examples
    --------
    >>> float(denormalise("sentinel1", "VV", 0.5))
    -10.0
    """
    interval = _range_of("denormalise", source, band)
    if offset and source != "sentinel2":
        raise ParameterError("denormalise", f"'offset' means nothing for {source}", got=offset, expected=0.0)
    if interval is None:
        return sentinel2_log_sigmoid_inverse(value, band, offset=offset)
    return linear_inverse(value, *interval)


def quantise_uint8(values: ArrayLike) -> NDArray[np.uint8]:
    """Store normalised values as the released records do: round(255 x) in 0..255, missing as 0.

    NaN becomes 0, so a valid value below 1/510 cannot be told from a missing one afterwards.

    Examples
    --------
    >>> quantise_uint8([0.0, 0.5, 1.0, np.nan, 2.0]).tolist()
    [0, 128, 255, 0, 255]
    """
    array = np.nan_to_num(_floating(values), nan=0.0, posinf=1.0, neginf=0.0)
    return np.round(np.clip(array, 0.0, 1.0) * 255.0).astype(np.uint8)


def dequantise(stored: ArrayLike, *, zero_is_missing: bool = False) -> NDArray[np.float32]:
    """Return stored integers of 0..255 as normalised values, within 1/510 of what was stored.

    Parameters
    ----------
    stored : array_like of int
        Any shape.
    zero_is_missing : bool
        Make 0 NaN: right for the coarse products (soil never has 0), not for single pixels of images.

    Returns
    -------
    ndarray of float32
        Same shape.

    Raises
    ------
    ContractError
        If a number is not within 0..255.
    """
    array = np.asarray(stored)
    if array.size and (array.min() < 0 or array.max() > 255):
        raise ContractError(
            "dequantise", "values are not 8-bit", got=(int(array.min()), int(array.max())), expected=(0, 255)
        )
    scaled = array.astype(np.float32) * np.float32(1.0 / 255.0)
    return np.where(array == 0, np.float32(np.nan), scaled) if zero_is_missing else scaled
