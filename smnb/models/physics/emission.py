"""Emission of soil under vegetation: Fresnel, Q-h-N roughness and the tau-omega model, for arrays and torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.models.physics._arrays import complex_from, cos_incidence, floats, is_tensor
from smnb.models.physics.dielectric import soil_permittivity


def fresnel_reflectivity(permittivity: ArrayLike, incidence_deg: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Power reflectivity of a smooth surface for H and V, 0..1.

    Parameters
    ----------
    permittivity : array_like
        Complex (or real) relative permittivity.
    incidence_deg : array_like
        Incidence angle, degrees in [0, 90).

    Examples
    --------
    >>> [round(float(r), 4) for r in fresnel_reflectivity(9.0, 0.0)]  # ((3 - 1)/(3 + 1))**2 at nadir
    [0.25, 0.25]
    """
    epsilon = permittivity if is_tensor(permittivity) else np.asarray(permittivity)
    if epsilon.is_complex() if is_tensor(epsilon) else epsilon.dtype.kind == "c":
        xp, real, imaginary = floats(epsilon.real, epsilon.imag)
    else:
        xp, real = floats(epsilon)
        imaginary = xp.zeros_like(real)
    cos = cos_incidence("fresnel_reflectivity", incidence_deg, real)
    return smooth_reflectivity(xp, real, imaginary, cos, "H"), smooth_reflectivity(xp, real, imaginary, cos, "V")


def smooth_reflectivity(xp: Any, real: Any, imaginary: Any, cos: Any, polarization: str) -> Any:
    """Fresnel's power reflectivity for one polarisation, from the parts of the permittivity and the angle's cosine.

    In real numbers, which is several times faster than NumPy's complex root and division.
    """
    # the root of (permittivity - sin^2), as a + ib
    z = real - (1.0 - cos * cos)
    modulus = xp.sqrt(z * z + imaginary * imaginary)
    larger = xp.sqrt((modulus + abs(z)) / 2.0)
    smaller = imaginary / (2.0 * larger)
    a, b = larger, smaller
    if not (z > 0.0).all():  # a metal, whose larger part is the imaginary one; the critical angle; NaN
        smaller = xp.where(larger == 0.0, 0.0 * larger, smaller)
        a = xp.where(z < 0.0, abs(smaller), larger)
        b = xp.where(z < 0.0, xp.copysign(larger, imaginary), smaller)
    if polarization == "H":
        return ((cos - a) ** 2 + b * b) / ((cos + a) ** 2 + b * b)
    c, d = real * cos, imaginary * cos
    return ((c - a) ** 2 + (d - b) ** 2) / ((c + a) ** 2 + (d + b) ** 2)


def rough_reflectivity(
    r_h: ArrayLike, r_v: ArrayLike, incidence_deg: ArrayLike, h: ArrayLike, q: ArrayLike = 0.0, n: float = 2.0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Reflectivity of a rough surface, Q-h-N model: ``[(1 - q) r_p + q r_o] exp(-h cos^n theta)``, for H and V.

    Parameters
    ----------
    r_h, r_v : array_like
        Smooth-surface reflectivities.
    incidence_deg : array_like
        Incidence angle, degrees.
    h, q, n : array_like, array_like, float
        Roughness (>= 0), polarisation mixing (0..1), exponent of the cosine (SMAP uses 2).

    References
    ----------
    Wang, Choudhury 1981, J. Geophys. Res. 86(C6), 5277-5282, doi:10.1029/JC086iC06p05277.
    """
    xp, r_h, r_v, h, q = floats(r_h, r_v, h, q)
    loss = xp.exp(-h * cos_incidence("rough_reflectivity", incidence_deg, r_h) ** n)
    return ((1.0 - q) * r_h + q * r_v) * loss, ((1.0 - q) * r_v + q * r_h) * loss


def vegetation_optical_depth(b: ArrayLike, vegetation_water_content: ArrayLike) -> NDArray[Any]:
    """Nadir optical depth of vegetation, ``tau = b * VWC`` (b in m2 kg-1, VWC in kg m-2).

    References
    ----------
    Jackson, Schmugge 1991, Remote Sens. Environ. 36(3), 203-212, doi:10.1016/0034-4257(91)90057-D.
    """
    _, b, water = floats(b, vegetation_water_content)
    return b * water


def effective_temperature(
    surface_temperature: ArrayLike, deep_temperature: ArrayLike, *, c: float = 0.246, k: float = 1.007
) -> NDArray[Any]:
    """Effective soil temperature for emission, ``k [T_deep + c (T_surface - T_deep)]``, K.

    The defaults are SMAP's at 6 a.m.; 6 p.m. takes ``c=1``.
    """
    _, surface, deep = floats(surface_temperature, deep_temperature)
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
    """Brightness temperature (K) of soil under vegetation, zeroth-order (tau-omega) model, one polarisation.

    Parameters
    ----------
    reflectivity : array_like
        Rough-soil reflectivity of this polarisation.
    surface_temperature, canopy_temperature : array_like
        Effective temperature of the soil and of the vegetation, K; the latter's default is the soil's.
    incidence_deg : array_like
        Incidence angle, degrees.
    tau, single_scattering_albedo : array_like
        Nadir optical depth and single scattering albedo of the vegetation.

    References
    ----------
    Mo et al. 1982, J. Geophys. Res. 87(C13), 11229-11237, doi:10.1029/JC087iC13p11229.
    """
    canopy = surface_temperature if canopy_temperature is None else canopy_temperature
    xp, r, soil, tau, albedo, canopy = floats(reflectivity, surface_temperature, tau, single_scattering_albedo, canopy)
    g = xp.exp(-tau / cos_incidence("tau_omega_tb", incidence_deg, r))
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
    """Brightness temperatures (K) H and V from soil moisture: permittivity, Fresnel, Q-h-N roughness, tau-omega.

    Parameters
    ----------
    soil_moisture, clay_fraction, surface_temperature : array_like
        m3 m-3, mass fraction 0..1, K.
    frequency_ghz, incidence_deg : float, array_like
        Frequency (GHz) and incidence angle (degrees).
    h, q, n, tau, single_scattering_albedo, canopy_temperature
        Roughness, see `rough_reflectivity`, and vegetation, see `tau_omega_tb`.
    sand_fraction : array_like, optional
        Needed by the Dobson model only.
    """
    xp, moisture, clay = floats(soil_moisture, clay_fraction)
    who = "soil_emission_tb"
    permittivity, _ = soil_permittivity(who, dielectric, clay, frequency_ghz, sand_fraction=sand_fraction)
    epsilon = complex_from(xp, *permittivity(moisture))
    r_h, r_v = rough_reflectivity(*fresnel_reflectivity(epsilon, incidence_deg), incidence_deg, h, q, n)
    options = {"incidence_deg": incidence_deg, "tau": tau, "canopy_temperature": canopy_temperature}
    options["single_scattering_albedo"] = single_scattering_albedo
    return tau_omega_tb(r_h, surface_temperature, **options), tau_omega_tb(r_v, surface_temperature, **options)
