"""Microwave physics of soil and vegetation: permittivity, Fresnel, roughness and the tau-omega model.

Pure functions on numbers or arrays that broadcast. float32 in gives float32 (complex64) out, anything else float64.
Angles are incidence angles in degrees from nadir, frequencies GHz, temperatures K, soil moisture m3 m-3, texture mass
fractions 0..1; reflectivity and emissivity are power ratios. NaN goes through.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ParameterError, plain

__all__ = [
    "DIELECTRIC_MODELS",
    "dobson_permittivity",
    "effective_temperature",
    "fresnel_reflectivity",
    "mironov_permittivity",
    "rough_reflectivity",
    "soil_emission_tb",
    "tau_omega_tb",
    "vegetation_optical_depth",
]

VACUUM_PERMITTIVITY = 8.8541878128e-12  # F m-1
DIELECTRIC_MODELS = ("mironov", "dobson")


def _floats(*values: ArrayLike) -> list[NDArray[Any]]:
    """Turn arguments into arrays of one float type; Python scalars do not widen float32."""
    values = tuple(v if isinstance(v, (int, float)) else np.asarray(v) for v in values)
    dtype = np.result_type(*values)
    if dtype not in (np.float32, np.float64):
        dtype = np.dtype(np.float64)
    return [np.asarray(v, dtype=dtype) for v in values]


def _check_frequency(who: str, frequency_ghz: float, low: float, high: float) -> float:
    if not isinstance(frequency_ghz, (int, float)) or not low <= frequency_ghz <= high:
        raise ParameterError(
            who, "frequency_ghz is out of range", got=frequency_ghz, expected=plain(f"GHz in [{low:g}, {high:g}]"),
            next_step="Give the frequency in GHz as one number, not in Hz",
        )  # fmt: skip
    return float(frequency_ghz)


def _cos_incidence(who: str, incidence_deg: ArrayLike, dtype: Any) -> NDArray[Any]:
    angle = np.asarray(incidence_deg, dtype=np.float64)
    if ((angle < 0.0) | (angle >= 90.0)).any():
        raise ParameterError(
            who, "incidence_deg is out of range", got=(float(np.nanmin(angle)), float(np.nanmax(angle))),
            expected=plain("degrees from nadir in [0, 90)"),
        )  # fmt: skip
    return np.cos(np.radians(angle)).astype(dtype)


def _complex(real: NDArray[Any], imaginary: NDArray[Any]) -> NDArray[Any]:
    real, imaginary = np.broadcast_arrays(real, imaginary)
    result = np.empty(real.shape, dtype=np.result_type(real, 1j))
    result.real, result.imag = real, imaginary
    return result


def mironov_permittivity(soil_moisture: ArrayLike, clay_fraction: ArrayLike, frequency_ghz: float) -> NDArray[Any]:
    """Complex relative permittivity of moist soil after Mironov's mineralogy-based model (about 20 deg C).

    Parameters
    ----------
    soil_moisture : array_like
        Volumetric soil moisture, m3 m-3.
    clay_fraction : array_like
        Clay mass fraction, 0..1; broadcasts with `soil_moisture`.
    frequency_ghz : float
        Frequency, GHz, 0.045..26.5 (the range the model was fitted in).

    Returns
    -------
    ndarray
        Permittivity with a positive imaginary part (loss), complex64 for float32 input, else complex128.

    Raises
    ------
    ParameterError
        When the frequency is outside the model's range.

    References
    ----------
    Mironov, Kosolapova, Fomin 2009, IEEE TGRS 47(7), 2059-2070, doi:10.1109/TGRS.2008.2011631.

    Examples
    --------
    >>> complex(mironov_permittivity(0.2, 0.2, 1.41).round(3))
    (9.935+1.106j)
    """
    moisture, clay = _floats(soil_moisture, clay_fraction)
    omega = 2e9 * math.pi * _check_frequency("mironov_permittivity", frequency_ghz, 0.045, 26.5)

    def refraction(static: ArrayLike, relaxation: ArrayLike, conductivity: ArrayLike) -> tuple[Any, Any]:
        x = omega * relaxation
        real = 4.9 + (static - 4.9) / (1.0 + x * x)
        imaginary = (static - 4.9) * x / (1.0 + x * x) + conductivity / (omega * VACUUM_PERMITTIVITY)
        modulus = np.sqrt(real * real + imaginary * imaginary)
        return np.sqrt((modulus + real) / 2.0), np.sqrt((modulus - real) / 2.0)

    dry_n, dry_k = 1.634 - 0.539 * clay + 0.2748 * clay * clay, 0.03952 - 0.04038 * clay
    bound_limit = 0.02863 + 0.30673 * clay
    bound_n, bound_k = refraction(
        79.8 - 85.4 * clay + 32.7 * clay * clay, 1.062e-11 + 3.450e-12 * clay, 0.3112 + 0.467 * clay
    )
    free_n, free_k = refraction(100.0, 8.5e-12, 0.3631 + 1.217 * clay)
    bound = np.minimum(moisture, bound_limit)
    free = np.maximum(moisture - bound_limit, 0.0)
    n = dry_n + (bound_n - 1.0) * bound + (free_n - 1.0) * free
    k = dry_k + bound_k * bound + free_k * free
    return _complex(n * n - k * k, 2.0 * n * k)


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

    Returns
    -------
    ndarray
        Permittivity with a positive imaginary part (loss).

    Raises
    ------
    ParameterError
        When the frequency is outside the model's range.

    Notes
    -----
    The fitted conductivity turns negative for very sandy soil; the loss of the soil water is then limited to zero.

    References
    ----------
    Dobson et al. 1985, IEEE TGRS GE-23(1), 35-46, doi:10.1109/TGRS.1985.289498; Peplinski, Ulaby, Dobson 1995, IEEE
    TGRS 33(3), 803-807, doi:10.1109/36.387598.
    """
    moisture, sand, clay, kelvin = _floats(soil_moisture, sand_fraction, clay_fraction, soil_temperature)
    frequency = _check_frequency("dobson_permittivity", frequency_ghz, 0.3, 18.0)
    omega, celsius, alpha = 2e9 * math.pi * frequency, kelvin - 273.15, 0.65
    if frequency >= 1.4:
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
    water_loss = np.maximum(moisture * x * (static - 4.9) / (1.0 + x * x) + conductivity * ratio, 0.0)
    beta_real = 1.2748 - 0.519 * sand - 0.152 * clay
    beta_loss = 1.33797 - 0.603 * sand - 0.166 * clay
    solid = 1.0 + bulk_density / particle_density * (4.7**alpha - 1.0)
    real = (solid + moisture**beta_real * water_real**alpha - moisture) ** (1.0 / alpha)
    loss = (moisture ** (beta_loss - alpha) * water_loss**alpha) ** (1.0 / alpha)
    return _complex(real, loss)


def fresnel_reflectivity(permittivity: ArrayLike, incidence_deg: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Power reflectivity of a smooth surface for H and V.

    Parameters
    ----------
    permittivity : array_like
        Complex (or real) relative permittivity.
    incidence_deg : array_like
        Incidence angle, degrees in [0, 90).

    Returns
    -------
    r_h, r_v : ndarray
        Reflectivities, 0..1.

    Raises
    ------
    ParameterError
        When an angle is out of range.

    Examples
    --------
    >>> [round(float(r), 4) for r in fresnel_reflectivity(9.0, 0.0)]  # ((3 - 1)/(3 + 1))**2 at nadir
    [0.25, 0.25]
    """
    epsilon = np.asarray(permittivity)
    if epsilon.dtype.kind != "c":
        epsilon = epsilon.astype(np.result_type(_floats(epsilon)[0], 1j))
    cos = _cos_incidence("fresnel_reflectivity", incidence_deg, epsilon.real.dtype)
    root = np.sqrt(epsilon - (1.0 - cos * cos))
    r_h = (cos - root) / (cos + root)
    r_v = (epsilon * cos - root) / (epsilon * cos + root)
    return r_h.real**2 + r_h.imag**2, r_v.real**2 + r_v.imag**2


def rough_reflectivity(
    r_h: ArrayLike, r_v: ArrayLike, incidence_deg: ArrayLike, h: ArrayLike, q: ArrayLike = 0.0, n: float = 2.0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Reflectivity of a rough surface, Q-h-N model: ``[(1 - q) r_p + q r_o] exp(-h cos^n theta)``.

    Parameters
    ----------
    r_h, r_v : array_like
        Smooth-surface reflectivities.
    incidence_deg : array_like
        Incidence angle, degrees.
    h, q : array_like
        Roughness parameter (>= 0) and polarisation mixing (0..1).
    n : float
        Exponent of the cosine; SMAP uses 2.

    Returns
    -------
    r_h, r_v : ndarray
        Rough-surface reflectivities.

    References
    ----------
    Wang, Choudhury 1981, J. Geophys. Res. 86(C6), 5277-5282, doi:10.1029/JC086iC06p05277.
    """
    r_h, r_v, h, q = _floats(r_h, r_v, h, q)
    loss = np.exp(-h * _cos_incidence("rough_reflectivity", incidence_deg, r_h.dtype) ** n)
    return ((1.0 - q) * r_h + q * r_v) * loss, ((1.0 - q) * r_v + q * r_h) * loss


def vegetation_optical_depth(b: ArrayLike, vegetation_water_content: ArrayLike) -> NDArray[Any]:
    """Nadir optical depth of vegetation, ``tau = b * VWC`` (b in m2 kg-1, VWC in kg m-2).

    References
    ----------
    Jackson, Schmugge 1991, Remote Sens. Environ. 36(3), 203-212, doi:10.1016/0034-4257(91)90057-D.
    """
    b, water = _floats(b, vegetation_water_content)
    return b * water


def effective_temperature(
    surface_temperature: ArrayLike, deep_temperature: ArrayLike, *, c: float = 0.246, k: float = 1.007
) -> NDArray[Any]:
    """Effective soil temperature for emission, ``k [T_deep + c (T_surface - T_deep)]``, K.

    The defaults are SMAP's at 6 a.m.; 6 p.m. takes ``c=1``.
    """
    surface, deep = _floats(surface_temperature, deep_temperature)
    return k * (deep + c * (surface - deep))


def tau_omega_tb(
    reflectivity: ArrayLike,
    surface_temperature: ArrayLike,
    *,
    incidence_deg: ArrayLike,
    tau: ArrayLike = 0.0,
    single_scattering_albedo: ArrayLike = 0.0,
    canopy_temperature: ArrayLike | None = None,
) -> NDArray[Any]:
    """Brightness temperature of soil under vegetation, zeroth-order (tau-omega) model, one polarisation.

    Parameters
    ----------
    reflectivity : array_like
        Rough-soil reflectivity of this polarisation.
    surface_temperature : array_like
        Effective soil temperature, K.
    incidence_deg : array_like
        Incidence angle, degrees.
    tau, single_scattering_albedo : array_like
        Nadir optical depth and single scattering albedo of the vegetation.
    canopy_temperature : array_like, optional
        Vegetation temperature, K; default the soil's.

    Returns
    -------
    ndarray
        Brightness temperature, K.

    References
    ----------
    Mo et al. 1982, J. Geophys. Res. 87(C13), 11229-11237, doi:10.1029/JC087iC13p11229.
    """
    canopy = surface_temperature if canopy_temperature is None else canopy_temperature
    r, soil, tau, albedo, canopy = _floats(reflectivity, surface_temperature, tau, single_scattering_albedo, canopy)
    g = np.exp(-tau / _cos_incidence("tau_omega_tb", incidence_deg, r.dtype))
    return soil * (1.0 - r) * g + canopy * (1.0 - albedo) * (1.0 - g) * (1.0 + r * g)


def soil_emission_tb(
    soil_moisture: ArrayLike,
    clay_fraction: ArrayLike,
    surface_temperature: ArrayLike,
    *,
    frequency_ghz: float,
    incidence_deg: ArrayLike,
    h: ArrayLike,
    q: ArrayLike = 0.0,
    n: float = 2.0,
    tau: ArrayLike = 0.0,
    single_scattering_albedo: ArrayLike = 0.0,
    canopy_temperature: ArrayLike | None = None,
    sand_fraction: ArrayLike | None = None,
    dielectric: str = "mironov",
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Brightness temperatures H and V from soil moisture: permittivity, Fresnel, Q-h-N roughness, tau-omega.

    Parameters
    ----------
    soil_moisture, clay_fraction, surface_temperature : array_like
        m3 m-3, mass fraction 0..1, K.
    frequency_ghz, incidence_deg : float, array_like
        Frequency (GHz) and incidence angle (degrees).
    h, q, n : array_like, array_like, float
        Roughness, see `rough_reflectivity`.
    tau, single_scattering_albedo, canopy_temperature : array_like
        Vegetation, see `tau_omega_tb`.
    sand_fraction : array_like, optional
        Needed by the Dobson model only.
    dielectric : {"mironov", "dobson"}
        Permittivity model.

    Returns
    -------
    tb_h, tb_v : ndarray
        Brightness temperatures, K.

    Raises
    ------
    ParameterError
        For an unknown dielectric model, Dobson without sand, an angle or a frequency out of range.
    """
    if dielectric not in DIELECTRIC_MODELS:
        raise ParameterError(
            "soil_emission_tb", "unknown dielectric model", got=dielectric, expected=list(DIELECTRIC_MODELS)
        )
    if dielectric == "dobson":
        if sand_fraction is None:
            raise ParameterError("soil_emission_tb", "the Dobson model needs sand_fraction", got=None)
        epsilon = dobson_permittivity(soil_moisture, sand_fraction, clay_fraction, frequency_ghz)
    else:
        epsilon = mironov_permittivity(soil_moisture, clay_fraction, frequency_ghz)
    r_h, r_v = rough_reflectivity(*fresnel_reflectivity(epsilon, incidence_deg), incidence_deg, h, q, n)
    options = {
        "incidence_deg": incidence_deg,
        "tau": tau,
        "single_scattering_albedo": single_scattering_albedo,
        "canopy_temperature": canopy_temperature,
    }
    return tau_omega_tb(r_h, surface_temperature, **options), tau_omega_tb(r_v, surface_temperature, **options)
