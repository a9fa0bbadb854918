"""Triple collocation: errors of three products of one quantity, none of which is the truth.

It assumes that each product is a linear function of the truth plus an error, that the errors are independent of the truth
and of one another, and that all three see the same truth (a point and a 36 km mean do not, quite: the difference of scale
then counts as an error of the one that differs). Products that share inputs break it.

.. [1] Stoffelen, A. (1998). Toward the true near-surface wind speed: error modeling and calibration using triple
       collocation. J. Geophys. Res. 103, 7755-7766. doi:10.1029/97JC03180
.. [2] Gruber, A. et al. (2016). Recent advances in (soil moisture) triple collocation analysis. Int. J. Appl. Earth Obs.
       Geoinf. 45, 200-211. doi:10.1016/j.jag.2015.09.002
.. [3] McColl, K. A. et al. (2014). Extended triple collocation: estimating errors and correlation coefficients with respect
       to an unknown target. Geophys. Res. Lett. 41, 6229-6236. doi:10.1002/2014GL061322
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from smnb.contract import ContractError, ParameterError, check_choice
from smnb.metrics.block_bootstrap import automatic_block_length, bootstrap_t
from smnb.metrics.intervals import check_bootstrap

_FEW = 100
_LEAST = 10
_STEP = 1e-30
_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
#: Quantities, and the way back from the scale that each one's interval is made on.
_BACK = {"err_std": np.exp, "err_std_own": np.exp, "snr_db": np.float64, "r_truth": np.tanh, "beta": np.exp}


def _quantity(name: str, i: int, reference: int) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """Return a quantity of product i, on the scale of its interval, as an analytic function of means (x, y, z, products)."""
    j, k = (n for n in range(3) if n != i)
    third = 3 - i - reference

    def function(m: Sequence[np.ndarray]) -> np.ndarray:
        c = {}
        for n, (a, b) in enumerate(_PAIRS, 3):
            c[a, b] = c[b, a] = m[n] - m[a] * m[b]
        signal = c[i, j] * c[i, k] / c[j, k]
        log_beta = 0.0 if i == reference else np.log(c[reference, third] / c[i, third])
        if name in ("err_std", "err_std_own"):
            return 0.5 * np.log(c[i, i] - signal) + (log_beta if name == "err_std" else 0.0)
        if name == "snr_db":
            return 10.0 / np.log(10.0) * (np.log(signal) - np.log(c[i, i] - signal))
        return np.arctanh(np.sqrt(signal / c[i, i])) if name == "r_truth" else log_beta

    return function


def _reason(cov: np.ndarray, names: Sequence[str], i: int) -> str:
    """Why triple collocation fails for a product; empty where it does not."""
    j, k = (n for n in range(3) if n != i)
    small = [f"{names[a]} and {names[b]}" for a, b in _PAIRS[3:] if not cov[a, b] > 0.0]
    if small:
        return f"covariance of {', of '.join(small)} is not positive: no common signal"
    if cov[i, i] - cov[i, j] * cov[i, k] / cov[j, k] <= 0.0:
        return "the error variance comes out negative: the assumptions fail, or the sample is too small"
    return ""


def triple_collocation(
    x: Any,
    y: Any,
    z: Any,
    *,
    names: Sequence[str] = ("x", "y", "z"),
    reference: int = 0,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Error standard deviation, correlation with the unknown truth and signal-to-noise ratio of three series.

    Parameters
    ----------
    x, y, z : array-like, shape (n,)
        Collocated series in order of time; a time at which any of the three is missing is left out.
    reference : {0, 1, 2}
        The series that the others are scaled to.
    n_boot, seed
        Of the 95 % studentised block-bootstrap intervals in time, as in `score_intervals`; ``n_boot=0`` leaves them out.

    Returns
    -------
    DataFrame
        One row a series, indexed by name: ``err_std`` (in the units of the reference), ``err_std_own`` (in the units of
        the series itself), ``snr_db``, ``r_truth``, ``beta`` (the factor that brings the series to the scale of the
        reference; 1 for the reference), each also with ``_low`` and ``_high``; ``n``, ``block_length``, ``note``. Where an
        error variance or a covariance is not positive the numbers are NaN and the note says why. Fewer than 100 triplets
        are noted; fewer than 10 give NaN.

    Raises
    ------
    ContractError, ParameterError
        If the shapes differ or a value is infinite; on an option out of range.

    Notes
    -----
    With sample covariances s (divisor n - 1) of x against y and z: error variance s_xx - s_xy s_xz / s_yz;
    R² = s_xy s_xz / (s_xx s_yz); beta_y = s_xz / s_yz. pytesmo takes absolute values in the SNR and so returns a number
    where this returns NaN.
    """
    who = "triple_collocation"
    series = [np.asarray(s, "float64") for s in (x, y, z)]
    if series[0].ndim != 1 or len({s.shape for s in series}) > 1:
        raise ContractError(who, "the three series are not of one shape (n,)", got=[s.shape for s in series])
    if len(names) != 3 or len(set(names)) != 3:
        raise ParameterError(who, "there are not three different names", got=tuple(names))
    check_choice(who, "reference", reference, (0, 1, 2))
    check_bootstrap(who, 0.95, n_boot or 100, seed)
    data = np.stack(series)
    if np.isinf(data).any():
        raise ContractError(who, "a value is infinite", got=int(np.isinf(data).sum()))
    data = data[:, ~np.isnan(data).any(0)]
    n = data.shape[1]
    columns = [f"{q}{end}" for q in _BACK for end in ("", "_low", "_high")]
    result = pd.DataFrame(np.nan, index=pd.Index(list(names), name="product"), columns=columns)
    result["n"], result["block_length"], result["note"] = n, 0, ""
    if n < _LEAST:
        result["note"] = f"{n} triplets, fewer than {_LEAST}"
        return result
    cov = np.cov(data)
    few = f"{n} triplets, fewer than {_FEW}: triple collocation needs several hundred" if n < _FEW else ""
    centred = data - data.mean(1, keepdims=True)
    # to one scale, so that no product of features is lost in rounding
    sizes = np.sqrt(np.diag(cov))
    scaled = centred / np.where(sizes > 0, sizes, 1.0)[:, None]
    features = np.stack([*scaled, *(scaled[i] * scaled[j] for i, j in _PAIRS)])[:, None, :]
    for i, name in enumerate(names):
        notes = [_reason(cov, names, i), few]
        if not notes[0]:
            products = [0.0, 0.0, 0.0, *(cov[pair] for pair in _PAIRS)]
            for quantity, back in _BACK.items():
                result.loc[name, quantity] = back(_quantity(quantity, i, reference)(products))
            # back to the units of the reference, or the series' own
            units = {"err_std": sizes[reference], "err_std_own": sizes[i], "beta": sizes[reference] / sizes[i]}
            for quantity in _BACK if n_boot else ():
                ends = [f"{quantity}_low", f"{quantity}_high"]
                if quantity == "beta" and i == reference:
                    result.loc[name, ends] = 1.0
                    continue
                low, high, length, note = _interval(_quantity(quantity, i, reference), features, int(n_boot), int(seed))
                result.loc[name, ends] = [_BACK[quantity](end) * units.get(quantity, 1.0) for end in (low, high)]
                result.loc[name, "block_length"] = max(int(result.loc[name, "block_length"]), length)
                notes.append(note)
        result.loc[name, "note"] = "; ".join(dict.fromkeys(note for note in notes if note))
    return result


def _interval(
    function: Callable[[Sequence[np.ndarray]], np.ndarray], features: np.ndarray, n_boot: int, seed: int
) -> tuple[float, float, int, str]:
    """Studentised block-bootstrap interval of a function of the means of features ``(p, 1, n)``, its length and a note."""

    def smooth(m: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        gradient = []  # by complex steps, which are exact to rounding for analytic functions
        for k in range(len(m)):
            shifted = [a + 0j for a in m]
            shifted[k] = shifted[k] + 1j * _STEP
            gradient.append(function(shifted).imag / _STEP)
        return function(m), gradient

    count, means = np.array([features.shape[2]]), features.mean(2)
    _, gradient = smooth(means)
    deviations = features - means[..., None]
    influence = sum(g[:, None] * d for g, d in zip(gradient, deviations, strict=True))
    chosen = automatic_block_length(influence, count, [(d, 1) for d in deviations[3:6]])
    found = bootstrap_t(deviations, means, count, smooth, chosen, n_boot=n_boot, seed=seed, level=0.95)
    low, high, usable = (float(end[0]) for end in found)
    if usable < 0.9:
        return np.nan, np.nan, int(chosen.length[0]), "no interval: error variances of the replicates are negative"
    return low, high, int(chosen.length[0]), ""
