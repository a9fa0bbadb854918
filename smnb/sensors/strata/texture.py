"""USDA soil texture: twelve classes from the mass fractions of sand, silt and clay.

References
----------
Soil Science Division Staff 2017, Soil Survey Manual, USDA Handbook 18, chapter 3, "Texture classes".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import ParameterError, plain
from smnb.grids.koppen import NONE

#: The twelve classes, in the order of paper 004's Table 11, with silt, which does not occur there, at the end.
TEXTURE_CLASSES: tuple[str, ...] = (
    "Loam",
    "Sandy loam",
    "Silty clay loam",
    "Clay loam",
    "Sandy clay loam",
    "Silt loam",
    "Sand",
    "Clay",
    "Loamy sand",
    "Sandy clay",
    "Silty clay",
    "Silt",
)
_PERCENT = {"percent": 1.0, "fraction": 100.0, "g kg-1": 0.1}
#: Sums of independently predicted fractions leave 100 % by some per cent; outside this they are no such fractions.
_SUM_RANGE = (50.0, 150.0)


def _percentages(
    sand: ArrayLike, silt: ArrayLike | None, clay: ArrayLike, units: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Percentages that add to 100, and where there are any."""
    who = "usda_texture"
    if units not in _PERCENT:
        raise ParameterError(who, "unknown 'units'", got=units, expected=list(_PERCENT))
    given = [np.asarray(part, dtype=np.float64) * _PERCENT[units] for part in (sand, clay)]
    given.append(100.0 - given[0] - given[1] if silt is None else np.asarray(silt, dtype=np.float64) * _PERCENT[units])
    sand_, clay_, silt_ = np.broadcast_arrays(*given)
    total = sand_ + clay_ + silt_
    known = np.isfinite(total) & (sand_ + clay_ + (0.0 if silt is None else silt_) != 0.0)
    least = np.minimum(np.minimum(sand_, clay_), silt_)
    if silt is None and known.any() and (sand_ + clay_)[known].max() <= 1.0 + 1e-6 and units != "fraction":
        raise ParameterError(
            who,
            "sand and clay together are nowhere above 1 %, as fractions are",
            got=units,
            next_step="Check the units",
        )
    wrong = known & ((least < -1e-6) | (total < _SUM_RANGE[0]) | (total > _SUM_RANGE[1]))
    if wrong.any():
        at = np.flatnonzero(wrong)[0]
        raise ParameterError(
            who,
            f"{int(wrong.sum())} points have a negative fraction, or fractions that do not add to about 100 %",
            got=tuple(float(part.ravel()[at].round(4)) for part in (sand_, silt_, clay_)),
            expected=plain("sand, silt, clay in %"),
            next_step=f"Check the units: {units!r} was declared",
        )
    scale = 100.0 / np.where(known, total, 100.0)
    # rounding keeps a fraction such as 0.4, which is 40.00000000000001 %, on the edge between classes where it belongs
    sand_, silt_, clay_ = (np.round(np.where(known, part * scale, 0.0), 9) for part in (sand_, silt_, clay_))
    return sand_, silt_, clay_, known


def usda_texture(sand: ArrayLike, silt: ArrayLike | None, clay: ArrayLike, *, units: str) -> NDArray[np.str_]:
    """USDA texture class of each point.

    Parameters
    ----------
    sand, silt, clay : array_like
        Mass fractions of 0.05-2 mm, 0.002-0.05 mm and < 0.002 mm; they broadcast. The three are scaled to add to 100 %,
        as independently predicted maps (SoilGrids) do not. ``silt=None`` takes what sand and clay leave.
    units : {"percent", "fraction", "g kg-1"}
        What they are given in; there is no default, since a guess is wrong at the sandy end.

    Returns
    -------
    ndarray of str
        Names of `TEXTURE_CLASSES`; "none" where a fraction is missing or all that are given are zero (water,
        rock).

    Raises
    ------
    ParameterError
        For unknown units, a negative fraction, or a sum outside 50 to 150 %.

    Notes
    -----
    A point on an edge belongs to the class whose rule of the manual includes it (e.g. 40 % clay is a clay).

    Examples
    --------
    >>> usda_texture([40, 90, 5], [40, 5, 90], [20, 5, 5], units="percent").tolist()
    ['Loam', 'Sand', 'Silt']
    """
    sand, silt, clay, known = _percentages(sand, silt, clay, units)
    rules = [
        (~known, NONE),
        ((clay >= 40) & (silt >= 40), "Silty clay"),
        ((clay >= 40) & (sand <= 45), "Clay"),
        ((clay >= 35) & (sand > 45), "Sandy clay"),
        ((clay >= 27) & (sand <= 20), "Silty clay loam"),
        ((clay >= 27) & (sand <= 45), "Clay loam"),
        ((clay >= 20) & (silt < 28) & (sand > 45), "Sandy clay loam"),
        ((silt >= 80) & (clay < 12), "Silt"),
        ((silt >= 50) & (clay < 27), "Silt loam"),
        ((clay >= 7) & (clay < 27) & (silt >= 28) & (sand <= 52), "Loam"),
        (silt + 1.5 * clay < 15, "Sand"),
        (silt + 2 * clay < 30, "Loamy sand"),
    ]
    return np.select([rule for rule, _ in rules], [name for _, name in rules], "Sandy loam").astype("U16")
