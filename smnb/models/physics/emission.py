"""From soil moisture to brightness temperature: permittivity, Fresnel, Q-h-N roughness and the tau-omega model.

NumPy arrays and torch tensors go through one set of formulas: each asks `floats` for its arguments and gets the namespace
(``numpy`` or ``torch``) to compute with. Torch is not imported unless a tensor is passed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ParameterError, check_choice, check_range

VACUUM_PERMITTIVITY = 8.8541878128e-12  # F m-1
DIELECTRIC_MODELS = ("mironov", "dobson")


def is_tensor(value: Any) -> bool:
    """Whether a value is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def floats(*values: ArrayLike) -> tuple[Any, ...]:
    """The namespace to compute with, and the arguments as arrays (or tensors on one device) of one float type.

    Python scalars do not widen float32.
    """
    device = next((value.device for value in values if is_tensor(value)), None)
    if device is not None:
        torch = sys.modules["torch"]
        made = [v if isinstance(v, int | float) else torch.as_tensor(v, device=device) for v in values]
        single = {value.dtype for value in made if not isinstance(value, int | float)} == {torch.float32}
        dtype = torch.float32 if single else torch.float64
        return (torch, *(torch.as_tensor(v, dtype=dtype, device=device) for v in made))
    values = tuple(v if isinstance(v, int | float) else np.asarray(v) for v in values)
    dtype = np.float32 if np.result_type(*values) == np.float32 else np.float64
    return (np, *(np.asarray(v, dtype=dtype) for v in values))


def cos_incidence(who: str, incidence_deg: ArrayLike, like: Any) -> Any:
    """Cosine of the incidence angle, of the type of `like`; raises `ParameterError` outside [0, 90) degrees."""
    if is_tensor(incidence_deg):
        torch = sys.modules["torch"]
        angle = incidence_deg.detach().cpu().numpy()
        cos = torch.cos(torch.deg2rad(incidence_deg.double())).to(like.dtype)
    else:
        angle = np.asarray(incidence_deg, dtype=np.float64)
        cos = np.cos(np.radians(angle))
        cos = sys.modules["torch"].as_tensor(cos, dtype=like.dtype) if is_tensor(like) else cos.astype(like.dtype)
    check_range(who, "incidence_deg", angle[~np.isnan(angle)], 0, 90, ends="[)", units="degrees from nadir")
    return cos.to(like.device) if is_tensor(like) else cos


def complex_from(xp: Any, real: Any, imaginary: Any) -> Any:
    """A complex array of the precision of its parts, which broadcast."""
    if xp is not np:
        return xp.complex(*xp.broadcast_tensors(real, imaginary))
    real, imaginary = np.broadcast_arrays(real, imaginary)
    result = np.empty(real.shape, dtype=np.result_type(real, 1j))
    result.real, result.imag = real, imaginary
    return result


# --- permittivity ----------------------------------------------------------------------------------------------------


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
    static, relaxation = 79.8 - 85.4 * clay + 32.7 * clay * clay, 1.062e-11 + 3.450e-12 * clay
    bound = _refraction(xp, omega, static, relaxation, 0.3112 + 0.467 * clay)
    free = _refraction(xp, omega, 100.0, 8.5e-12, 0.3631 + 1.217 * clay)
    return 0.02863 + 0.30673 * clay, dry, bound, free


def mironov_permittivity(soil_moisture: ArrayLike, clay_fraction: ArrayLike, frequency_ghz: float) -> NDArray[Any]:
    """Complex relative permittivity of moist soil after Mironov's mineralogy-based model (about 20 deg C); positive loss.

    Soil moisture is m3 m-3, clay a mass fraction, 0..1; the frequency is 0.045..26.5 GHz, the range the model was fitted in.
    Mironov, Kosolapova, Fomin 2009, IEEE TGRS 47(7), 2059-2070, doi:10.1109/TGRS.2008.2011631.

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

    Soil moisture is m3 m-3, sand and clay are mass fractions, 0..1, the frequency is 0.3..18 GHz, the temperature K, densities
    are g cm-3. The fitted conductivity turns negative for very sandy soil; the loss of the soil water is then limited to zero.

    Dobson et al. 1985, IEEE TGRS GE-23(1), 35-46, doi:10.1109/TGRS.1985.289498; Peplinski, Ulaby, Dobson 1995, IEEE TGRS 33(3),
    803-807, doi:10.1109/36.387598.
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
    """Permittivity (real, imaginary) as a function of soil moisture alone, for code that calls it many times for one soil.

    And the soil moisture at which the model's slope jumps (Mironov's limit of bound water), or None.
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


# --- emission --------------------------------------------------------------------------------------------------------


def fresnel_reflectivity(permittivity: ArrayLike, incidence_deg: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Power reflectivity of a smooth surface for H and V, 0..1, from the complex (or real) permittivity and degrees in [0, 90).

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

    `r_h` and `r_v` are the smooth surface's; `h` is roughness (>= 0), `q` polarisation mixing (0..1), `n` the exponent of the
    cosine (SMAP uses 2). Wang, Choudhury 1981, J. Geophys. Res. 86(C6), 5277-5282, doi:10.1029/JC086iC06p05277.
    """
    xp, r_h, r_v, h, q = floats(r_h, r_v, h, q)
    loss = xp.exp(-h * cos_incidence("rough_reflectivity", incidence_deg, r_h) ** n)
    return ((1.0 - q) * r_h + q * r_v) * loss, ((1.0 - q) * r_v + q * r_h) * loss


def vegetation_optical_depth(b: ArrayLike, vegetation_water_content: ArrayLike) -> NDArray[Any]:
    """Nadir optical depth of vegetation, ``tau = b * VWC`` (b in m2 kg-1, VWC in kg m-2).

    Jackson, Schmugge 1991, Remote Sens. Environ. 36(3), 203-212, doi:10.1016/0034-4257(91)90057-D.
    """
    _, b, water = floats(b, vegetation_water_content)
    return b * water


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

    `reflectivity` is the rough soil's, temperatures are the effective ones of the soil and of the vegetation, K (the latter's
    default is the soil's), angles degrees; `tau` is the vegetation's optical depth at nadir. Mo et al. 1982, J. Geophys. Res.
    87(C13), 11229-11237, doi:10.1029/JC087iC13p11229.
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

    Soil moisture is m3 m-3, clay (and sand, which the Dobson model alone needs) a mass fraction, 0..1, temperatures are K, the
    frequency GHz, angles degrees; for roughness see `rough_reflectivity`, for vegetation `tau_omega_tb`.
    """
    xp, moisture, clay = floats(soil_moisture, clay_fraction)
    who = "soil_emission_tb"
    permittivity, _ = soil_permittivity(who, dielectric, clay, frequency_ghz, sand_fraction=sand_fraction)
    epsilon = complex_from(xp, *permittivity(moisture))
    r_h, r_v = rough_reflectivity(*fresnel_reflectivity(epsilon, incidence_deg), incidence_deg, h, q, n)
    options = {"incidence_deg": incidence_deg, "tau": tau, "canopy_temperature": canopy_temperature}
    options["single_scattering_albedo"] = single_scattering_albedo
    return tau_omega_tb(r_h, surface_temperature, **options), tau_omega_tb(r_v, surface_temperature, **options)
