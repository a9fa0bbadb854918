"""Scalings of bands to [0, 1] and back: linear, Sentinel-2's sigmoid in log space, vegetation indices, 8-bit storage.

Which band is scaled how is a matter of its `smnb.papers.batchu2023.Source`. NaN passes through, and results are float32
unless float64 came in.

What the paper calls "zero-mean, unit-variance" is not what a minimum and a maximum give; the step from [0, 1] to the
network's [-1, 1] is 2 x - 1, at the network's door (`smnb.papers.batchu2023.inputs.network_inputs`) and not here.

References
----------
Batchu et al. (2022), arXiv:2206.09649, section 2b4, Tables 4 and 17.
Brown et al. (2022), Dynamic World, doi:10.1038/s41597-022-01307-4 (the log-sigmoid and its constants).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ContractError

#: Bands that each vegetation index is made of, and its range; ours, since the paper does not say how they were scaled.
INDEX_BANDS = {"NDVI": ("B8", "B4"), "EVI": ("B8", "B4", "B2")}
_INDEX_RANGE = (-1.0, 1.0)
_LOG_SCALE = 0.005
_DN_OF_ONE = 1.0e4


def _floating(values: ArrayLike) -> NDArray:
    """Return `values` as floating point: float64 stays so, everything else becomes float32."""
    array = np.asarray(values)
    return array if array.dtype == np.float64 else array.astype(np.float32)


def linear(values: ArrayLike, minimum: float, maximum: float) -> NDArray:
    """Scale `values` of any shape from [minimum, maximum] to [0, 1]; what lies outside is clipped.

    Examples
    --------
    >>> linear([-25.0, -10.0, 20.0], -25.0, 5.0).tolist()
    [0.0, 0.5, 1.0]
    """
    array = _floating(values)
    scaled = (array - array.dtype.type(minimum)) * array.dtype.type(1.0 / (maximum - minimum))
    return np.clip(scaled, 0.0, 1.0)


def linear_inverse(values: ArrayLike, minimum: float, maximum: float) -> NDArray:
    """Scale `values` from [0, 1] back to [minimum, maximum]; the inverse of `linear` where that did not clip."""
    array = _floating(values)
    return array * array.dtype.type(maximum - minimum) + array.dtype.type(minimum)


def log_sigmoid(dn: ArrayLike, mean: float, spread: float) -> NDArray:
    """Scale a Sentinel-2 band to (0, 1) so that dark, cloud-free ground gets most of the range.

    With u = ln(0.005 DN + 1) the result is the sigmoid of 5 (u - mean) / spread - 1.

    Parameters
    ----------
    dn : array_like
        Level-1C digital numbers, reflectance x 1e4 without the offset of baseline 04.00 (the loader removes it); any shape.
        Numbers below 0 are noise and count as 0.
    mean, spread : float
        The band's constants of Table 17. The paper calls them log_mean and log_std; in Dynamic World, whose constants they
        are, they are the 30th and 70th percentiles of the logarithm, and it divides by the second one itself, not by their
        difference. So it is reproduced.

    Examples
    --------
    >>> log_sigmoid([0, 1000, 10000], 1.7417268007636313, 2.023298706048351).round(5).tolist()
    [0.004..., 0.293..., 0.988...]
    """
    array = _floating(dn)
    one = array.dtype.type
    v = (np.log1p(one(_LOG_SCALE) * np.maximum(array, one(0))) - one(mean)) * one(1.0 / spread)
    return one(1) / (one(1) + np.exp(one(1) - one(5) * v))


def log_sigmoid_inverse(values: ArrayLike, mean: float, spread: float) -> NDArray:
    """Return the digital numbers that `log_sigmoid` scaled to `values`; computed in float64.

    Values at or below 0 and at or above 1 are no sigmoid's and become NaN. In 8-bit storage that is 255, the
    brightest cloud, and 0, which stands for missing (a digital number of 0 is stored as 1 or more).
    """
    y = np.asarray(values, dtype=np.float64)
    y = np.where((y > 0.0) & (y < 1.0), y, np.nan)
    u = (np.log(y / (1.0 - y)) + 1.0) / 5.0 * spread + mean
    return (np.expm1(u) / _LOG_SCALE).astype(_floating(values).dtype)


def vegetation_index(name: str, digital_numbers: Mapping[str, ArrayLike]) -> NDArray:
    """NDVI or EVI of Sentinel-2's digital numbers by band, scaled from [-1, 1] to [0, 1].

    NDVI is (NIR - red) / (NIR + red), EVI 2.5 (NIR - red) / (NIR + 6 red - 7.5 blue + 1) of reflectances. NaN where NDVI is
    0 / 0 and where EVI's denominator is not positive, which bright cloud brings about and where the index means nothing.

    References
    ----------
    Huete et al. (2002), doi:10.1016/S0034-4257(02)00096-2.
    """
    nir, red, *blue = (_floating(digital_numbers[band]) / np.float32(_DN_OF_ONE) for band in INDEX_BANDS[name])
    if name == "NDVI":
        above, below = nir - red, nir + red
        there = below != 0
    else:
        above, below = 2.5 * (nir - red), nir + 6.0 * red - 7.5 * blue[0] + 1.0
        there = below > 0
    index = np.divide(above, below, out=np.full_like(below, np.nan), where=there)
    return linear(index, *_INDEX_RANGE)


def dequantise(stored: ArrayLike, *, zero_is_missing: bool = False) -> NDArray[np.float32]:
    """Return stored integers of 0..255 as normalised values, within 1/510 of what was stored.

    Parameters
    ----------
    stored : array_like of int
        Any shape.
    zero_is_missing : bool
        Make 0 NaN: right for the coarse products (soil never has 0), not for single pixels of images.

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
