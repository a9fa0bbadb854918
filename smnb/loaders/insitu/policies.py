"""Which readings and which sensors are kept: quality-flag policies and the depth policy, both by name and counted.

References
----------
Dorigo et al. 2013, Vadose Zone J. 12(3), doi:10.2136/vzj2012.0097 (the flags); Batchu, Nearing and Gulshan 2023,
J. Hydrometeorol. 24(10), doi:10.1175/JHM-D-22-0118.1 (the policy ``paper``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from smnb.contract import ParameterError

#: ISMN's flags; a reading carries one, or several joined by commas.
FLAGS: dict[str, str] = {
    "G": "good: no test fired",
    "U": "unchecked: the tests were not run (older archives)",
    "M": "missing value",
    "C01": "soil moisture below 0",
    "C02": "soil moisture above 0.60 m3 m-3",
    "C03": "soil moisture above saturation",
    "D01": "in-situ soil temperature below 0 degC",
    "D02": "in-situ air temperature below 0 degC",
    "D03": "GLDAS soil temperature below 0 degC",
    "D04": "rise without in-situ precipitation",
    "D05": "rise without GLDAS precipitation",
    "D06": "spike",
    "D07": "drop",
    "D08": "jump",
    "D09": "constant low values after a drop",
    "D10": "saturated plateau",
}
#: Policies by name: the flag strings that they keep; None keeps everything.
POLICIES: dict[str, tuple[str, ...] | None] = {"paper": ("G", "C02", "C03", "C02,C03"), "strict": ("G",), "all": None}
#: 0-5 cm and 5 cm, with the 2 inches (0.0508 m) of SCAN and SNOTEL inside, in m.
DEFAULT_DEPTH = (0.0, 0.051)


@dataclass(frozen=True)
class FlagPolicy:
    """A set of flag strings to keep; the order of flags inside a string does not matter.

    Examples
    --------
    >>> policy = flag_policy("paper")
    >>> [policy.keeps(flag) for flag in ("G", "C03,C02", "C03,D01", "U")]
    [True, True, False, False]
    >>> policy.culprits("C03,D01")
    ['D01']
    """

    name: str
    allowed: frozenset[frozenset[str]] | None

    def keeps(self, flag: str) -> bool:
        """Whether a reading with this flag string is kept."""
        return self.allowed is None or frozenset(flag.split(",")) in self.allowed

    def culprits(self, flag: str) -> list[str]:
        """Flags of a removed string that are allowed in no combination; all of them where each would be allowed."""
        parts = flag.split(",")
        known = frozenset().union(*(self.allowed or ()))
        return [part for part in parts if part not in known] or parts


def flag_policy(flags: str | Sequence[str]) -> FlagPolicy:
    """Return the policy of a name, or of an explicit list of flag strings.

    Parameters
    ----------
    flags : str or sequence of str
        A name of `POLICIES`, or flag strings (``["G", "C03", "C02,C03"]``; in one string they are separated by
        spaces). A reading is kept when all of its flags together equal one of the strings.

    Returns
    -------
    FlagPolicy

    Raises
    ------
    ParameterError
        For an unknown policy or flag, or an empty list.
    """
    if isinstance(flags, FlagPolicy):
        return flags
    if isinstance(flags, str) and flags in POLICIES:
        kept = POLICIES[flags]
        return FlagPolicy(flags, None if kept is None else frozenset(frozenset(k.split(",")) for k in kept))
    strings = flags.split() if isinstance(flags, str) else list(flags)
    combinations = [frozenset(part.strip() for part in str(one).split(",")) for one in strings]
    unknown = sorted({part for one in combinations for part in one if part not in FLAGS})
    if unknown or not strings:
        what = "there is no such policy or flag" if unknown else "no flag is kept"
        got = unknown or flags
        next_step = "Give a policy's name, or a list of flag strings such as ['G', 'C03', 'C02,C03']"
        raise ParameterError("flag_policy", what, got=got, expected=[*POLICIES, *FLAGS], next_step=next_step)
    return FlagPolicy(" ".join(map(str, strings)), frozenset(combinations))


def check_depth(depth: Sequence[float] | None) -> tuple[float, float] | None:
    """Return a depth interval as two floats in m, or None for every depth."""
    if depth is None:
        return None
    try:
        low, high = (float(value) for value in depth)
    except (TypeError, ValueError) as error:
        raise ParameterError("depth", "is not two numbers in m", got=depth, expected=DEFAULT_DEPTH) from error
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ParameterError("depth", "is not an interval in m, top first", got=(low, high), expected=DEFAULT_DEPTH)
    return low, high


def depth_inside(depth_from: float, depth_to: float, depth: tuple[float, float] | None) -> bool:
    """Whether a sensor's whole interval lies inside the policy's (both in m, positive downwards).

    Examples
    --------
    >>> [depth_inside(*d, (0.0, 0.051)) for d in [(0, 0.05), (0.0508, 0.0508), (0, 0.1), (0.1, 0.1)]]
    [True, True, False, False]
    """
    # half of the file names' last decimal, against the binary representation of decimals
    return depth is None or (depth[0] - 5e-7 <= depth_from <= depth_to <= depth[1] + 5e-7)
