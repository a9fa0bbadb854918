"""Backscatter of soil under vegetation, and the active-passive algorithm that sharpens brightness temperature with it.

Pure functions on arrays; backscatter is linear power (m2 m-2), as in the algorithm and the SMAP/Sentinel-1 product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from smnb_sandbox.noise import Float32

WAVENUMBER = 113.28  # rad m-1, at 5.405 GHz

#: A and B of the water cloud model with NDVI as the vegetation descriptor.
WATER_CLOUD = {"VV": (0.0950, 0.5513), "VH": (0.0413, 1.1662)}


def soil_backscatter(soil_moisture: NDArray, rms_height_cm: NDArray, incidence_deg: NDArray) -> tuple[NDArray, NDArray]:
    """VV and VH of bare soil at C band, linear power: Baghdadi et al. 2016, Remote Sensing 8(11), 920, doi:10.3390/rs8110920.

    >>> [round(float(10 * np.log10(s)), 2) for s in soil_backscatter(np.float64(0.2), 1.0, 38.0)]
    [-10.68, -20.28]
    """
    theta = np.radians(incidence_deg)
    sine, cosine = np.sin(theta), np.cos(theta)
    percent, ks = 100.0 * soil_moisture * cosine / sine, np.log10(WAVENUMBER * 0.01 * rms_height_cm)
    vv = -1.138 + 1.528 * np.log10(cosine) + 0.008 * percent + 0.71 * sine * ks
    vh = -2.325 - 0.01 * np.log10(cosine) + 0.011 * percent + 0.44 * sine * ks
    return 10.0**vv, 10.0**vh


def water_cloud(soil: NDArray, ndvi: NDArray, incidence_deg: NDArray, polarization: str) -> NDArray:
    """Backscatter of soil under a canopy, linear power: ``A V cos + t2 soil`` with ``t2 = exp(-2 B V / cos)``.

    Attema, Ulaby 1978, Radio Sci. 13(2), 357-364, doi:10.1029/RS013i002p00357; A and B as Baghdadi et al. 2017 fitted with NDVI.
    """
    a, b = WATER_CLOUD[polarization]
    cosine = np.cos(np.radians(incidence_deg))
    through = np.exp(-2.0 * b * ndvi / cosine)
    return a * ndvi * cosine * (1.0 - through) + through * soil


def backscatter(
    soil_moisture: NDArray, rms_height_cm: NDArray, ndvi: NDArray, incidence_deg: NDArray
) -> tuple[Float32, Float32]:
    """VV and VH of soil under vegetation, linear power, float32."""
    soil = soil_backscatter(soil_moisture, rms_height_cm, incidence_deg)
    vv, vh = (water_cloud(s, ndvi, incidence_deg, p) for s, p in zip(soil, ("VV", "VH"), strict=True))
    return vv.astype(np.float32), vh.astype(np.float32)


def masked_blur(image: NDArray, sigma: float) -> NDArray:
    """Gaussian mean over what is there; NaN where less than a quarter of the weight is."""
    valid = np.isfinite(image)
    weight = gaussian_filter(valid.astype(np.float32), sigma, truncate=3.0)
    total = gaussian_filter(np.where(valid, image, 0.0).astype(np.float32), sigma, truncate=3.0)
    return np.divide(total, weight, out=np.full(image.shape, np.nan, dtype=np.float32), where=weight > 0.25)


def cross_polarized_slope(vv: NDArray, vh: NDArray, sigma: float) -> Float32:
    """Gamma: the slope of VV on VH around each cell (`sigma` cells), which vegetation makes; held within 0 and 3."""
    vv, vh = (np.where(np.isfinite(vv) & np.isfinite(vh), s, np.nan) for s in (vv, vh))
    mean_vv, mean_vh = masked_blur(vv, sigma), masked_blur(vh, sigma)
    covariance = masked_blur(vv * vh, sigma) - mean_vv * mean_vh
    variance = masked_blur(vh * vh, sigma) - mean_vh**2
    return np.clip(covariance / np.maximum(variance, 1e-10), 0.0, 3.0).astype(np.float32)


def covariation(
    tb: NDArray,
    temperature: NDArray,
    optical_depth: NDArray,
    albedo: NDArray,
    contrast: NDArray,
) -> Float32:
    """beta': change of emissivity with the soil's part of backscatter (snapshot method), per unit of linear power, -12 to 0.

    The emissivity that the soil takes away, ``tb / temperature - [g + (1 - albedo)(1 - g)]`` with the canopy's one-way
    transmissivity g, over the backscatter that the soil gives, ``contrast = vv - Gamma vh``. All is coarse; K, optical depth at
    nadir. Jagdhuber et al. 2019, IEEE TGRS 57(2), doi:10.1109/TGRS.2018.2860630; Das et al. 2019, doi:10.1016/j.rse.2019.111380.
    """
    g = np.exp(-optical_depth / np.cos(np.radians(40.0)))
    loss = tb / temperature - (g + (1.0 - albedo) * (1.0 - g))
    return np.clip(loss / np.maximum(contrast, 1e-3), -12.0, 0.0).astype(np.float32)


def disaggregate_tb(
    tb: NDArray,
    temperature: NDArray,
    vv: NDArray,
    vh: NDArray,
    coarse_vv: NDArray,
    coarse_vh: NDArray,
    beta: NDArray,
    gamma: NDArray,
) -> Float32:
    """Brightness temperature of fine cells, K: ``[tb/T + beta ((vv - VV) + gamma (VH - vh))] T``.

    All arrays are on the fine cells, coarse values repeated. Das et al. 2019, RSE 233, 111380, doi:10.1016/j.rse.2019.111380.
    """
    return (tb + temperature * beta * ((vv - coarse_vv) + gamma * (coarse_vh - vh))).astype(np.float32)
