"""Single-channel retrieval of soil moisture from brightness temperature, for whole images at once.

The single-channel algorithm takes everything but soil moisture as known. Brightness temperature is linear in reflectivity,
so vegetation and roughness are undone in closed form; what is left, the smooth reflectivity as a function of soil moisture,
is inverted by a bracketed secant iteration on blocks of cells that fit into the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import check_choice
from smnb.models.physics._arrays import (
    LEAST_SENSITIVITY,
    RetrievalStatus,
    check_bounds,
    cos_incidence,
    flatten,
    in_blocks,
)
from smnb.models.physics.dielectric import soil_permittivity
from smnb.models.physics.emission import smooth_reflectivity

TOLERANCE = 1e-7  # m3 m-3
MAX_ITERATIONS = 60
GOLDEN = 0.6180339887498949


def retrieve_single_channel(
    tb: ArrayLike,
    *,
    polarization: str,
    surface_temperature: ArrayLike,
    clay_fraction: ArrayLike,
    roughness: ArrayLike,
    albedo: ArrayLike,
    optical_depth: ArrayLike,
    incidence_deg: ArrayLike = 40.0,
    frequency_ghz: float = 1.41,
    polarization_mixing: ArrayLike = 0.0,
    angle_exponent: float = 2.0,
    canopy_temperature: ArrayLike | None = None,
    bounds: tuple[ArrayLike, ArrayLike] = (0.02, 0.65),
    dielectric: str = "mironov",
    sand_fraction: ArrayLike | None = None,
    return_status: bool = False,
    workers: int | None = None,
) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.uint8]]:
    """Retrieve soil moisture from one polarisation, the vegetation being known (single-channel algorithm).

    Parameters
    ----------
    tb : array_like
        Brightness temperature of the land, K. All arrays broadcast.
    polarization : {"H", "V"}
        Polarisation of `tb`.
    surface_temperature : array_like
        Effective soil temperature, K.
    clay_fraction, sand_fraction : array_like
        Mass fractions 0..1; sand is needed by the Dobson model only.
    roughness, polarization_mixing, angle_exponent : array_like, array_like, float
        h, Q and N of `smnb.models.physics.rough_reflectivity`.
    albedo, optical_depth : array_like
        Single scattering albedo, and optical depth of the vegetation at nadir. SMAP's field ``vegetation_opacity`` is the
        slant optical depth, larger by the secant of the incidence angle: see `smnb.models.physics.smap`.
    incidence_deg, frequency_ghz : array_like, float
        Incidence angle (degrees) and frequency (GHz).
    canopy_temperature : array_like, optional
        Vegetation temperature, K; default the soil's.
    bounds : pair of array_like
        Least and largest soil moisture, m3 m-3; the largest may be an array, such as the porosity.
    dielectric : str
        One of `smnb.models.physics.DIELECTRIC_MODELS`.
    return_status : bool
        Also return a `RetrievalStatus` per cell.
    workers : int, optional
        Threads; default the number of processors. The result does not depend on it.

    Returns
    -------
    soil_moisture : ndarray
        m3 m-3, float32 if `tb` is float32, else float64. NaN where an input is NaN or the vegetation hides the soil. Where
        no soil moisture within the bounds explains `tb`, the one whose brightness temperature is nearest.
    status : ndarray of uint8
        Only with `return_status`.

    References
    ----------
    Jackson 1993, Hydrol. Process. 7(2), 139-152, doi:10.1002/hyp.3360070205.

    Examples
    --------
    >>> retrieve_single_channel(
    ...     [246.5, 400.0], polarization="V", surface_temperature=293.0, clay_fraction=0.2, roughness=0.13, albedo=0.05,
    ...     optical_depth=0.13,
    ... ).round(3)
    array([0.25, 0.02])
    """
    who = "retrieve_single_channel"
    check_choice(who, "polarization", polarization, ("H", "V"))
    dtype = np.float32 if getattr(tb, "dtype", None) == np.float32 else np.float64
    given = {
        "tb": tb,
        "soil": surface_temperature,
        "clay": clay_fraction,
        "h": roughness,
        "albedo": albedo,
        "tau": optical_depth,
        "angle": incidence_deg,
        "q": polarization_mixing,
        "low": bounds[0],
        "high": bounds[1],
        "canopy": surface_temperature if canopy_temperature is None else canopy_temperature,
        "sand": np.nan if sand_fraction is None else sand_fraction,
    }
    cells, shape = flatten(who, given)
    check_bounds(who, cells["low"], cells["high"])
    cos_incidence(who, cells["angle"], cells["tb"])
    soil_permittivity(who, dielectric, 0.2, frequency_ghz, sand_fraction=sand_fraction)  # complain before the work

    moisture, status = np.empty(cells["tb"].shape), np.empty(cells["tb"].shape, np.uint8)

    def work(cut: slice) -> None:
        block = {name: values[cut] for name, values in cells.items()}
        moisture[cut], status[cut] = _invert_block(block, polarization, frequency_ghz, angle_exponent, dielectric)

    in_blocks(work, moisture.size, workers)
    result = moisture.astype(dtype, copy=False).reshape(shape)
    return (result, status.reshape(shape)) if return_status else result


def _invert_block(
    block: dict[str, NDArray[Any]], polarization: str, frequency_ghz: float, angle_exponent: float, dielectric: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    permittivity, kink = soil_permittivity(
        "retrieve_single_channel", dielectric, block["clay"], frequency_ghz, sand_fraction=block["sand"]
    )
    cos = cos_incidence("retrieve_single_channel", block["angle"], block["tb"])
    observed, sensitivity = _undo_vegetation_and_roughness(block, cos, angle_exponent)
    target, mixing = _straighten(observed), block["q"]
    own, other = polarization, "HV".replace(polarization, "")
    mixes = bool((mixing != 0.0).any())

    def excess(moisture: NDArray[Any]) -> NDArray[Any]:
        """Modelled minus observed, straightened: rises with moisture, but for V below the Brewster permittivity."""
        parts = permittivity(moisture)
        r = smooth_reflectivity(np, *parts, cos, own)
        if mixes:
            r = (1.0 - mixing) * r + mixing * smooth_reflectivity(np, *parts, cos, other)
        return _straighten(r) - target

    low, high = block["low"], block["high"]
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        f_low, f_high = excess(low), excess(high)
        folded = np.zeros(low.shape, bool)
        # H never folds; V may where the driest soil is near its Brewster permittivity, tan^2 of the angle
        if polarization == "V" and (permittivity(low)[0] * cos**2 < 2.0 * (1.0 - cos**2)).any():
            folded = excess(low + 1e-3 * (high - low)) < f_low
        wet_low, f_wet_low = low, f_low
        if folded.any():
            lowest = _minimum(excess, low, high)
            wet_low = np.where(folded, lowest, low)
            f_wet_low = excess(wet_low)
        wet = (f_wet_low <= 0.0) & (f_high >= 0.0)
        dry = folded & (f_wet_low <= 0.0) & (f_low >= 0.0)
        left, f_left = np.where(wet, wet_low, low), np.where(wet, f_wet_low, f_low)
        right, f_right = np.where(wet, high, wet_low), np.where(wet, f_high, f_wet_low)
        root = _bracketed_secant(excess, (left, f_left), (right, f_right), kink, wet | dry)
    found = wet | dry
    # without a root: the end with the nearer reflectivity. On a folded curve the driest soil is not the hottest.
    at_low = ~found & ((f_wet_low > 0.0) | (folded & (f_low > f_high)))
    moisture = np.where(found, root, np.where(at_low, np.where(f_wet_low > 0.0, wet_low, low), high))
    status = np.where(wet & dry, RetrievalStatus.AMBIGUOUS, RetrievalStatus.RETRIEVED)
    status = np.where(found, status, np.where(at_low, RetrievalStatus.CLIPPED_DRY, RetrievalStatus.CLIPPED_WET))
    hidden = np.abs(sensitivity) < LEAST_SENSITIVITY
    missing = np.isnan(sensitivity) | (~hidden & (np.isnan(f_low) | np.isnan(f_high)))
    status = np.where(missing, RetrievalStatus.NO_INPUT, np.where(hidden, RetrievalStatus.INSENSITIVE, status))
    return np.where(missing | hidden, np.nan, moisture), status.astype(np.uint8)


def _undo_vegetation_and_roughness(block: dict[str, NDArray[Any]], cos: Any, angle_exponent: float) -> tuple[Any, Any]:
    """The smooth reflectivity that explains `tb`, and dTB/dr of the rough surface (K)."""
    g = np.exp(-block["tau"] / cos)
    canopy = block["canopy"] * (1.0 - block["albedo"]) * (1.0 - g)
    sensitivity = g * (canopy - block["soil"])
    with np.errstate(divide="ignore", invalid="ignore"):
        rough = (block["tb"] - block["soil"] * g - canopy) / sensitivity
    return rough * np.exp(block["h"] * cos**angle_exponent), sensitivity


def _straighten(reflectivity: NDArray[Any]) -> NDArray[Any]:
    """(1 + sqrt r) / (1 - sqrt r): about the refractive index, which is nearly linear in moisture, so that secants hit.

    Rises through the reflectivities that no soil has, too: below 0, and up to 1.
    """
    amplitude = np.sqrt(np.abs(reflectivity))
    amplitude = np.minimum(np.copysign(amplitude, reflectivity), 1.0 - 1e-9)
    return (1.0 + amplitude) / (1.0 - amplitude)


def _minimum(function: Callable[[NDArray[Any]], NDArray[Any]], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Where a function with one minimum is least, by golden section."""
    a, b = low.copy(), high.copy()
    c, d = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    f_c, f_d = function(c), function(d)
    for _ in range(40):  # 0.618**40 is 4e-9 of the interval
        left = f_c < f_d
        a, b = np.where(left, a, c), np.where(left, d, b)
        new = np.where(left, b - GOLDEN * (b - a), a + GOLDEN * (b - a))
        f_new = function(new)
        c, d = np.where(left, new, d), np.where(left, c, new)
        f_c, f_d = np.where(left, f_new, f_d), np.where(left, f_c, f_new)
    return (a + b) / 2.0


def _bracketed_secant(
    function: Callable[[NDArray[Any]], NDArray[Any]],
    left: tuple[NDArray[Any], NDArray[Any]],
    right: tuple[NDArray[Any], NDArray[Any]],
    kink: NDArray[Any] | None,
    active: NDArray[np.bool_],
) -> NDArray[Any]:
    """Root between two points given with their values, one per cell, by Anderson and Bjoerck's regula falsi.

    It never leaves the bracket. The first point is the kink where that lies inside, so that all later iterations of a cell
    see one smooth piece. Cells that are not `active` have no root; what they get is to be thrown away.

    References
    ----------
    Anderson, Bjoerck 1973, BIT 13, 253-264, doi:10.1007/BF01951936.
    """
    (a, f_a), (b, f_b) = left, right
    x = (a * f_b - b * f_a) / (f_b - f_a)
    if kink is not None:
        x = np.where((kink > np.minimum(a, b)) & (kink < np.maximum(a, b)), kink, x)
    for _ in range(MAX_ITERATIONS):
        f_x = function(x)
        crosses = f_x * f_b <= 0.0  # the root is between x and b, the newer end
        # the older end stays, but with less weight, so that the next secant lands on its side of the root
        weight = 1.0 - f_x / f_b
        weight = np.where(weight > 0.0, weight, 0.5)
        a, f_a = np.where(crosses, b, a), np.where(crosses, f_b, f_a * weight)
        b, f_b = x, f_x
        x = (a * f_b - b * f_a) / (f_b - f_a)
        x = np.where(np.isfinite(x), x, b)
        if not (np.abs(x - b)[active] > TOLERANCE).any():
            break
    return x
