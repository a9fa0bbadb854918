"""Dual-channel retrieval: soil moisture and the optical depth of the vegetation from H and V, with a prior on the latter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import check_range
from smnb.models.physics.emission import cos_incidence, smooth_reflectivity, soil_permittivity
from smnb.models.physics.retrieval import LEAST_SENSITIVITY, RetrievalStatus, in_blocks, invert, known_cells

TOLERANCE = (1e-6, 1e-6)  # m3 m-3, optical depth
THINNEST, THICKEST = 0.0, 5.0  # optical depth at nadir
DERIVATIVE_STEP = 1e-6  # m3 m-3
QUICK, PATIENT = 12, 200  # iterations for all cells; for the few that need more
STUCK = 1e8  # a damping at which steps are too small to matter: the minimum is at the kink of the dielectric model


def retrieve_dual_channel(
    tb_h: ArrayLike,
    tb_v: ArrayLike,
    *,
    prior_optical_depth: ArrayLike,
    prior_weight: float = 20.0,
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
) -> tuple[NDArray[Any], ...]:
    """Retrieve soil moisture and optical depth from both polarisations (SMAP's regularised dual-channel algorithm).

    Minimises, in soil moisture and the nadir optical depth ``tau``, ::

        (tb_h - TB_h)^2 + (tb_v - TB_v)^2 + prior_weight^2 ((tau - prior_optical_depth) / cos theta)^2

    Parameters
    ----------
    tb_h, tb_v : array_like
        Brightness temperatures of the land, K. All arrays broadcast.
    prior_optical_depth : array_like
        Expected nadir optical depth, such as b times the vegetation water content of an NDVI climatology.
    prior_weight : float
        K per unit of slant optical depth; 0 leaves the optical depth free.
    surface_temperature, clay_fraction, roughness, albedo, incidence_deg, frequency_ghz, polarization_mixing, \
    canopy_temperature, bounds, dielectric, sand_fraction, return_status, workers
        As in `smnb.models.physics.retrieve_single_channel`.

    Returns
    -------
    soil_moisture, optical_depth : ndarray
        m3 m-3, and optical depth at nadir; float32 if `tb_v` is float32, else float64. NaN where an input is NaN.
    status : ndarray of uint8
        `RetrievalStatus`, only with `return_status`.

    Notes
    -----
    Damped Gauss-Newton steps (Levenberg-Marquardt) within the bounds, from the V retrieval at the prior optical depth.

    SMAP's weight of 20 K (lambda in the first reference) applies to the slant optical depth, and its roughness mixes the
    polarisations with Q = 0.1771 h, N = 2 (the second). In a granule of release R18290 the derivative of this cost by soil
    moisture then vanishes at the published soil moisture and optical depth (0.001 K, with Q = 0 0.4 K), and the one by
    optical depth does so for a weight of 20.0.

    References
    ----------
    Chaubell et al. 2022, IEEE J-STARS 15, 102-114, doi:10.1109/JSTARS.2021.3123932.
    Chaubell et al. 2020, IEEE TGRS 58(6), 3894-3905, doi:10.1109/TGRS.2019.2959239.
    """
    who = "retrieve_dual_channel"
    check_range(who, "prior_weight", prior_weight, 0)
    known = {"soil": surface_temperature, "clay": clay_fraction, "h": roughness, "albedo": albedo}
    known |= {"angle": incidence_deg, "q": polarization_mixing, "canopy": canopy_temperature, "sand": sand_fraction}
    cells, shape = known_cells(who, {"tb_h": tb_h, "tb_v": tb_v, "prior": prior_optical_depth} | known, bounds)
    missing = np.any([np.isnan(values) for values in cells.values()], axis=0)
    tau = np.clip(cells["prior"], THINNEST, THICKEST)
    moisture, _ = invert(who, cells | {"tb": cells["tb_v"], "tau": tau}, "V", frequency_ghz, dielectric, workers)
    # opaque vegetation has no V retrieval, yet the optical depth can still be retrieved
    moisture = np.where(np.isnan(moisture), (cells["low"] + cells["high"]) / 2.0, moisture)
    converged, seen = missing.copy(), np.zeros(missing.shape)

    def improve(todo: NDArray[np.intp], iterations: int) -> None:
        def work(cut: slice) -> None:
            chosen = todo[cut]
            block = {name: values[chosen] for name, values in cells.items()}
            evaluate, cos = _forward(who, block, frequency_ghz, dielectric)
            pull = prior_weight / cos
            result = _minimise(evaluate, block, moisture[chosen], tau[chosen], pull, iterations)
            moisture[chosen], tau[chosen], converged[chosen], seen[chosen] = result

        in_blocks(work, todo.size, workers)

    improve(np.flatnonzero(~converged), QUICK)
    improve(np.flatnonzero(~converged), PATIENT)
    found = {  # the first that holds
        RetrievalStatus.NO_INPUT: missing,
        RetrievalStatus.INSENSITIVE: np.abs(seen) < LEAST_SENSITIVITY,
        RetrievalStatus.NOT_CONVERGED: ~converged,
        RetrievalStatus.CLIPPED_DRY: moisture <= cells["low"],
        RetrievalStatus.CLIPPED_WET: moisture >= cells["high"],
        RetrievalStatus.CLIPPED_OPTICAL_DEPTH: (tau <= THINNEST) | (tau >= THICKEST),
    }
    status = np.select(list(found.values()), list(found), default=RetrievalStatus.RETRIEVED).astype(np.uint8)
    moisture[(status == RetrievalStatus.INSENSITIVE) | missing] = np.nan
    tau[missing] = np.nan
    dtype = np.float32 if getattr(tb_v, "dtype", None) == np.float32 else np.float64
    results = tuple(values.astype(dtype, copy=False).reshape(shape) for values in (moisture, tau))
    return (*results, status.reshape(shape)) if return_status else results


def _forward(
    who: str, block: dict[str, NDArray[Any]], frequency_ghz: float, dielectric: str
) -> tuple[Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], ...]], Any]:
    """The model of a block, residuals and their derivatives as a function of soil moisture and optical depth; and cos theta."""
    sand, mixing = block.get("sand"), block["q"]
    permittivity, _ = soil_permittivity(who, dielectric, block["clay"], frequency_ghz, sand_fraction=sand)
    cos = cos_incidence(who, block["angle"], block["soil"])
    secant, roughness = 1.0 / cos, np.exp(-block["h"] * cos**2.0)
    emitted = block["canopy"] * (1.0 - block["albedo"])

    def reflectivities(moisture: NDArray[Any]) -> NDArray[Any]:
        parts = permittivity(moisture)
        h, v = (smooth_reflectivity(np, *parts, cos, polarization) for polarization in "HV")
        return np.stack([(1.0 - mixing) * h + mixing * v, (1.0 - mixing) * v + mixing * h]) * roughness

    def evaluate(moisture: NDArray[Any], tau: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        # the step goes inward, where the dielectric model is surely defined
        step = np.where(moisture + DERIVATIVE_STEP <= block["high"], DERIVATIVE_STEP, -DERIVATIVE_STEP)
        r = reflectivities(moisture)
        slope = (reflectivities(moisture + step) - r) / step
        g = np.exp(-tau * secant)
        # tau-omega, and its derivatives with respect to reflectivity and optical depth; rows are H and V
        tb = block["soil"] * (1.0 - r) * g + emitted * (1.0 - g) * (1.0 + r * g)
        by_r = g * (emitted * (1.0 - g) - block["soil"])
        by_tau = -g * secant * (block["soil"] * (1.0 - r) - emitted * (1.0 - r + 2.0 * r * g))
        return np.stack([block["tb_h"], block["tb_v"]]) - tb, by_r * slope, by_tau, by_r

    return evaluate, cos


def _minimise(
    evaluate: Callable, block: dict[str, Any], moisture: NDArray[Any], tau: NDArray[Any], pull: Any, iterations: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Levenberg-Marquardt in two unknowns within bounds: moisture, tau, whether converged, dTB/dr (K)."""
    damping, converged = np.full(moisture.shape, 1e-3), np.zeros(moisture.shape, bool)

    def cost_of(residual: NDArray[Any], tau: NDArray[Any]) -> NDArray[Any]:
        return (residual**2).sum(axis=0) + (pull * (tau - block["prior"])) ** 2

    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        residual, by_w, by_tau, seen = evaluate(moisture, tau)
        cost = cost_of(residual, tau)
        for _ in range(iterations):
            step_w, step_tau = _step(block, moisture, tau, residual, by_w, by_tau, pull, damping)
            new_w = np.clip(moisture + step_w, block["low"], block["high"])
            new_tau = np.clip(tau + step_tau, THINNEST, THICKEST)
            new = evaluate(new_w, new_tau)
            new_cost = cost_of(new[0], new_tau)
            better = (new_cost <= cost) & ~converged
            small = (np.abs(new_w - moisture) < TOLERANCE[0]) & (np.abs(new_tau - tau) < TOLERANCE[1])
            converged |= (small & (better | (damping > 1.0))) | (damping > STUCK)
            old = moisture, tau, cost, residual, by_w, by_tau, seen
            pairs = zip((new_w, new_tau, new_cost, *new), old, strict=True)
            moisture, tau, cost, residual, by_w, by_tau, seen = (np.where(better, n, o) for n, o in pairs)
            damping = np.clip(np.where(better, damping * 0.1, damping * 10.0), 1e-12, None)
            if converged.all():
                break
    return moisture, tau, converged, seen


def _step(
    block: dict[str, Any], moisture: Any, tau: Any, residual: Any, by_w: Any, by_tau: Any, pull: Any, damping: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Solve the damped normal equations; an unknown that would leave through the bound it sits at is held."""
    down_w = (by_w * residual).sum(axis=0)
    down_tau = (by_tau * residual).sum(axis=0) + pull**2 * (block["prior"] - tau)
    held_w = ((moisture <= block["low"]) & (down_w < 0.0)) | ((moisture >= block["high"]) & (down_w > 0.0))
    held_tau = ((tau <= THINNEST) & (down_tau < 0.0)) | ((tau >= THICKEST) & (down_tau > 0.0))
    a = (by_w**2).sum(axis=0) * (1.0 + damping)
    d = ((by_tau**2).sum(axis=0) + pull**2) * (1.0 + damping)
    b = np.where(held_w | held_tau, 0.0, (by_w * by_tau).sum(axis=0))
    down_w, down_tau = np.where(held_w, 0.0, down_w), np.where(held_tau, 0.0, down_tau)
    determinant = a * d - b * b
    step_w = np.nan_to_num((d * down_w - b * down_tau) / determinant)
    return step_w, np.nan_to_num((a * down_tau - b * down_w) / determinant)
