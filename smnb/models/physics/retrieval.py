"""Single-channel retrieval of soil moisture from brightness temperature, for whole images at once.

The single-channel algorithm takes everything but soil moisture as known. Brightness temperature is linear in reflectivity,
so vegetation and roughness are undone in closed form; what is left, the smooth reflectivity as a function of soil moisture,
is inverted by a bracketed secant iteration on blocks of cells that fit into the processor's cache.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ParameterError, check_choice, plain
from smnb.models.physics.emission import cos_incidence, smooth_reflectivity, soil_permittivity

TOLERANCE = 1e-7  # m3 m-3
MAX_ITERATIONS = 60
GOLDEN = 0.6180339887498949
BLOCK = 16_384  # cells; the few dozen float64 arrays of a step fit into the second-level cache
#: Least |dTB/dr| (K) that carries information on the soil: below, noise of 1 mK spans all reflectivities.
LEAST_SENSITIVITY = 1e-3


class RetrievalStatus(enum.IntEnum):
    """What became of a cell in a retrieval."""

    RETRIEVED = 0
    CLIPPED_DRY = 1  # the brightness temperature asks for less soil moisture than the lower bound, which is given
    CLIPPED_WET = 2  # ... for more than the upper bound
    CLIPPED_OPTICAL_DEPTH = 3  # dual-channel: the optical depth is at a bound, soil moisture is not
    AMBIGUOUS = 4  # two soil moistures explain it (V near the Brewster angle of dry soil): the wetter is given
    NOT_CONVERGED = 5  # dual-channel: the last and best point is given
    INSENSITIVE = 6  # the vegetation hides the soil: NaN
    NO_INPUT = 7  # an input is NaN: NaN


def known_cells(
    who: str, given: dict[str, ArrayLike | None], bounds: tuple[ArrayLike, ArrayLike]
) -> tuple[dict[str, NDArray[np.float64]], tuple[int, ...]]:
    """All that is given of the cells, flat, by short names, and their shape; one number for all is a view of stride zero.

    A canopy that is None is as warm as the soil; other things that are None are left out.
    """
    given |= {"low": bounds[0], "high": bounds[1]}
    if given["canopy"] is None:
        given["canopy"] = given["soil"]
    given = {name: value for name, value in given.items() if value is not None}
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in given.items()}
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays.values()))
    except ValueError as error:
        got = {name: a.shape for name, a in arrays.items() if a.ndim}
        raise ParameterError(who, "the inputs do not broadcast", got=got) from error
    size = int(np.prod(shape, dtype=np.int64))
    cells = {
        name: np.broadcast_to(a.reshape(1), size) if a.size == 1 else np.broadcast_to(a, shape).reshape(size)
        for name, a in arrays.items()
    }
    low, high = cells["low"], cells["high"]
    if (low < 0.0).any() or (high > 1.0).any() or (low >= high).any():
        got, expected = (float(np.nanmin(low)), float(np.nanmin(high))), plain("0 <= low < high <= 1 in m3 m-3")
        raise ParameterError(who, "bounds are not ascending", got=got, expected=expected)
    return cells, shape


def in_blocks(work: Callable[[slice], None], size: int, workers: int | None) -> None:
    """Call `work` for every block of cells, in threads: NumPy lets go of the interpreter in its loops."""
    blocks = [slice(start, start + BLOCK) for start in range(0, size, BLOCK)]
    with ThreadPoolExecutor(max(1, min(workers or os.cpu_count() or 1, len(blocks)))) as pool:
        list(pool.map(work, blocks))  # a list, so that an error in a thread is raised here


def retrieve_single_channel(
    tb: ArrayLike,
    *,
    polarization: str,
    optical_depth: ArrayLike,
    surface_temperature: ArrayLike,
    clay_fraction: ArrayLike,
    roughness: ArrayLike,
    albedo: ArrayLike,
    frequency_ghz: float = 1.41,
    incidence_deg: ArrayLike = 40.0,
    polarization_mixing: ArrayLike = 0.0,
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
    optical_depth : array_like
        Optical depth of the vegetation at nadir. SMAP's field ``vegetation_opacity`` is the slant optical depth, larger by the
        secant of the incidence angle: see `smnb.models.physics.smap`.
    frequency_ghz : float
        GHz.
    dielectric : {"mironov", "dobson"}
    return_status : bool
        Also return a `RetrievalStatus` per cell.
    workers : int, optional
        Threads; default the number of processors. The result does not depend on it.
    surface_temperature : array_like
        Effective soil temperature, K.
    clay_fraction, sand_fraction : array_like
        Mass fractions 0..1; sand is needed by the Dobson model only.
    roughness, polarization_mixing : array_like
        h and Q (default 0) of `smnb.models.physics.rough_reflectivity`; N is 2.
    albedo : array_like
        Single scattering albedo of the vegetation.
    incidence_deg : array_like
        Incidence angle, degrees; default 40.
    canopy_temperature : array_like, optional
        Vegetation temperature, K; default the soil's.
    bounds : pair of array_like
        Least and largest soil moisture, m3 m-3, default 0.02 and 0.65; the largest may be an array, such as the porosity.

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
    known = {"soil": surface_temperature, "clay": clay_fraction, "h": roughness, "albedo": albedo}
    known |= {"angle": incidence_deg, "q": polarization_mixing, "canopy": canopy_temperature, "sand": sand_fraction}
    cells, shape = known_cells(who, {"tb": tb, "tau": optical_depth} | known, bounds)
    moisture, status = invert(who, cells, polarization, frequency_ghz, dielectric, workers)
    dtype = np.float32 if getattr(tb, "dtype", None) == np.float32 else np.float64
    result = moisture.astype(dtype, copy=False).reshape(shape)
    return (result, status.reshape(shape)) if return_status else result


def invert(
    who: str, cells: dict[str, NDArray[Any]], polarization: str, frequency: float, dielectric: str, workers: int | None
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Soil moisture and status of `known_cells`, which have ``tb`` and ``tau``."""
    moisture, status = np.empty(cells["tb"].shape), np.empty(cells["tb"].shape, np.uint8)

    def work(cut: slice) -> None:
        block = {name: values[cut] for name, values in cells.items()}
        sand, cos = block.get("sand"), cos_incidence(who, block["angle"], block["tb"])
        permittivity, kink = soil_permittivity(who, dielectric, block["clay"], frequency, sand_fraction=sand)
        moisture[cut], status[cut] = _invert_block(block, polarization, permittivity, kink, cos)

    in_blocks(work, moisture.size, workers)
    return moisture, status


def _invert_block(
    block: dict[str, NDArray[Any]], polarization: str, permittivity: Callable, kink: NDArray[Any] | None, cos: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    # vegetation and roughness undone: the smooth reflectivity that explains tb; dTB/dr of the rough surface (K)
    g = np.exp(-block["tau"] / cos)
    canopy = block["canopy"] * (1.0 - block["albedo"]) * (1.0 - g)
    sensitivity = g * (canopy - block["soil"])
    with np.errstate(divide="ignore", invalid="ignore"):
        rough = (block["tb"] - block["soil"] * g - canopy) / sensitivity
    target, mixing = _straighten(rough * np.exp(block["h"] * cos**2.0)), block["q"]
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
    """Root between two points given with their values, one per cell (Anderson, Bjoerck 1973, BIT 13, doi:10.1007/BF01951936).

    It never leaves the bracket. The first point is the kink where that lies inside, so that all later iterations of a cell
    see one smooth piece. Cells that are not `active` have no root; what they get is to be thrown away.
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
