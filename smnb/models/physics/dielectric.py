"""Complex permittivity of moist soil: Mironov 2009, Dobson/Peplinski."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike, NDArray

from smnb.contract import ParameterError, check_choice, check_range
from smnb.models.physics._arrays import complex_from, floats

VACUUM_PERMITTIVITY = 8.8541878128e-12  # F m-1
DIELECTRIC_MODELS = ("mironov", "dobson")


def _refraction(xp: Any, omega: float, static: Any, relaxation: Any, conductivity: Any) -> tuple[Any, Any]:
    """Refractive index and normalised attenuation of soil water with one Debye relaxation and a conductivity."""
    x = omega * relaxation
    real = 4.9 + (static - 4.9) / (1.0 + x * x)
    imaginary = (static - 4.9) * x / (1.0 + x * x) + conductivity / (omega * VACUUM_PERMITTIVITY)
    modulus = xp.sqrt(real * real + imaginary * imaginary)
    return xp.sqrt((modulus + real) / 2.0), xp.sqrt((modulus - real) / 2.0)


def _mironov_2009(xp: Any, clay: Any, omega: float) -> tuple[Any, ...]:
    """Bound-water limit and the (n, k) of dry soil, bound and free water."""
    dry = 1.634 - 0.539 * clay + 0.2748 * clay * clay, 0.03952 - 0.04038 * clay
    bound = _refraction(
        xp, omega, 79.8 - 85.4 * clay + 32.7 * clay * clay, 1.062e-11 + 3.450e-12 * clay, 0.3112 + 0.467 * clay
    )
    free = _refraction(xp, omega, 100.0, 8.5e-12, 0.3631 + 1.217 * clay)
    return 0.02863 + 0.30673 * clay, dry, bound, free


def mironov_permittivity(soil_moisture: ArrayLike, clay_fraction: ArrayLike, frequency_ghz: float) -> NDArray[Any]:
    """Complex relative permittivity of moist soil after Mironov's mineralogy-based model (about 20 deg C); positive loss.

    Parameters
    ----------
    soil_moisture : array_like
        Volumetric soil moisture, m3 m-3.
    clay_fraction : array_like
        Clay mass fraction, 0..1; broadcasts with `soil_moisture`.
    frequency_ghz : float
        Frequency, GHz, 0.045..26.5 (the range the model was fitted in).

    References
    ----------
    Mironov, Kosolapova, Fomin 2009, IEEE TGRS 47(7), 2059-2070, doi:10.1109/TGRS.2008.2011631.

    Examples
    --------
    >>> complex(mironov_permittivity(0.2, 0.2, 1.41).round(3))
    (9.935+1.106j)
    """
    xp, moisture, clay = floats(soil_moisture, clay_fraction)
    permittivity, _ = soil_permittivity("mironov_permittivity", "mironov", clay, frequency_ghz)
    return complex_from(xp, *permittivity(moisture))


def dobson_permittivity(
    soil_moisture: ArrayLike,
    sand_fraction: ArrayLike,
    clay_fraction: ArrayLike,
    frequency_ghz: float,
    *,
    soil_temperature: ArrayLike = 293.15,
    bulk_density: float = 1.3,
    particle_density: float = 2.664,
) -> NDArray[Any]:
    """Complex relative permittivity of moist soil after Dobson et al., with Peplinski's conductivity below 1.4 GHz.

    Parameters
    ----------
    soil_moisture, sand_fraction, clay_fraction : array_like
        Volumetric soil moisture (m3 m-3) and mass fractions 0..1; they broadcast.
    frequency_ghz : float
        Frequency, GHz, 0.3..18.
    soil_temperature : array_like
        Soil temperature, K.
    bulk_density, particle_density : float
        Densities, g cm-3.

    Notes
    -----
    The fitted conductivity turns negative for very sandy soil; the loss of the soil water is then limited to zero.

    References
    ----------
    Dobson et al. 1985, IEEE TGRS GE-23(1), 35-46, doi:10.1109/TGRS.1985.289498; Peplinski, Ulaby, Dobson 1995, IEEE
    TGRS 33(3), 803-807, doi:10.1109/36.387598.
    """
    xp, moisture, sand, clay, kelvin = floats(soil_moisture, sand_fraction, clay_fraction, soil_temperature)
    check_range("dobson_permittivity", "frequency_ghz", frequency_ghz, 0.3, 18.0, units="GHz")
    omega, celsius, alpha = 2e9 * math.pi * frequency_ghz, kelvin - 273.15, 0.65
    if frequency_ghz >= 1.4:
        conductivity = -1.645 + 1.939 * bulk_density - 2.25622 * sand + 1.594 * clay
    else:
        conductivity = 0.0467 + 0.2204 * bulk_density - 0.4111 * sand + 0.6614 * clay
    static = 87.134 - 0.1949 * celsius - 1.276e-2 * celsius**2 + 2.491e-4 * celsius**3
    # the polynomial times 1e10 stays inside float32's normal range
    relaxation = (1.1109 - 3.824e-2 * celsius + 6.938e-4 * celsius**2 - 5.096e-6 * celsius**3) / (2.0 * math.pi)
    x = (omega * 1e-10) * relaxation
    water_real = 4.9 + (static - 4.9) / (1.0 + x * x)
    # water_loss is the loss factor of free water times soil moisture: finite in dry soil, where the factor is not
    ratio = (particle_density - bulk_density) / (omega * VACUUM_PERMITTIVITY * particle_density)
    water_loss = xp.clip(moisture * x * (static - 4.9) / (1.0 + x * x) + conductivity * ratio, 0.0, None)
    beta_real = 1.2748 - 0.519 * sand - 0.152 * clay
    beta_loss = 1.33797 - 0.603 * sand - 0.166 * clay
    solid = 1.0 + bulk_density / particle_density * (4.7**alpha - 1.0)
    real = (solid + moisture**beta_real * water_real**alpha - moisture) ** (1.0 / alpha)
    loss = (moisture ** (beta_loss - alpha) * water_loss**alpha) ** (1.0 / alpha)
    return complex_from(xp, real, loss)


def soil_permittivity(
    who: str, dielectric: str, clay_fraction: ArrayLike, frequency_ghz: float, *, sand_fraction: ArrayLike | None = None
) -> tuple[Callable[[Any], tuple[Any, Any]], Any]:
    """Permittivity as a function of soil moisture alone, for code that calls it many times for the same soil.

    Returns
    -------
    permittivity : callable
        Soil moisture (array of floats) to the real and the imaginary part of the permittivity.
    kink : ndarray or None
        Soil moisture at which the model's slope jumps (Mironov's limit of bound water), or None.
    """
    check_choice(who, "dielectric", dielectric, DIELECTRIC_MODELS)
    if dielectric == "dobson":
        if sand_fraction is None:
            raise ParameterError(who, "the Dobson model needs sand_fraction", got=None)

        def dobson(moisture: Any) -> tuple[Any, Any]:
            epsilon = dobson_permittivity(moisture, sand_fraction, clay_fraction, frequency_ghz)
            return epsilon.real, epsilon.imag

        return dobson, None
    check_range(who, "frequency_ghz", frequency_ghz, 0.045, 26.5, units="GHz")
    xp, clay = floats(clay_fraction)
    limit, *waters = _mironov_2009(xp, clay, 2e9 * math.pi * frequency_ghz)
    (dry_n, dry_k), (bound_n, bound_k), (free_n, free_k) = waters

    def mironov(moisture: Any) -> tuple[Any, Any]:
        """Refraction adds up: dry soil, bound water to its limit, then free water."""
        bound = xp.minimum(moisture, limit)
        free = moisture - bound
        n = dry_n + (bound_n - 1.0) * bound + (free_n - 1.0) * free
        k = dry_k + bound_k * bound + free_k * free
        return n * n - k * k, 2.0 * n * k

    return mironov, limit
