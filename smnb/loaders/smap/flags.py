"""SMAP's bit flags: what each bit means in which product, decoding, and the policies that mask by them.

The files' own ``flag_meanings`` name the condition that a bit is *about*: ``Retrieval_recommended`` stands for the bit that
is 1 when a retrieval is not recommended. CF readers take a set bit as "this is so"; the meanings here are put that way.

References
----------
O'Neill et al., SMAP L2 & L3 Radiometer Soil Moisture user guides (NSIDC); Das and Dunbar 2018, Level 2 SMAP/Sentinel
Active/Passive Soil Moisture Data Product Specification, JPL D-56548.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from smnb.contract import ContractError, ParameterError

#: Fill value of the 16-bit flags and of EASE-Grid indices.
FLAG_FILL = 65534

_RETRIEVAL = {0: "not_recommended", 1: "not_attempted", 2: "not_successful", 3: "freeze_thaw_not_retrieved"}
_SURFACE = {
    0: "static_water",
    1: "radar_water",
    2: "coast",
    3: "urban",
    4: "precipitation",
    5: "snow_or_ice",
    6: "permanent_ice",
    7: "frozen_radiometer",
    8: "frozen_model",
    9: "mountains",
    10: "dense_vegetation",
    11: "nadir",
}
#: SPL2SMAP_S has no radar water bit (1), and its own last two.
_SURFACE_S1 = {bit: name for bit, name in _SURFACE.items() if bit not in (1, 11)} | {
    11: "edge_cell",
    12: "anomalous_sigma0",
}
_TB = {
    0: "not_acceptable",
    1: "range",
    2: "rfi_detection",
    3: "rfi_correction",
    4: "nedt",
    5: "direct_sun_correction",
    6: "reflected_sun_correction",
    7: "reflected_moon_correction",
    8: "direct_galaxy_correction",
    9: "reflected_galaxy_correction",
    10: "atmosphere_correction",
    11: "faraday_rotation_correction",
    12: "null_value",
    13: "water_correction",
    14: "rfi_check",
    15: "rfi_clean",
}
#: What is known of the flag of disaggregated brightness temperatures.
_TB_S1 = {0: "not_acceptable"}

_MEANINGS = {
    ("passive", "retrieval_qual_flag"): _RETRIEVAL,
    ("active_passive", "retrieval_qual_flag"): _RETRIEVAL,
    ("passive", "surface_flag"): _SURFACE,
    ("active_passive", "surface_flag"): _SURFACE_S1,
    ("passive", "tb_qual_flag_h"): _TB,
    ("passive", "tb_qual_flag_v"): _TB,
    ("active_passive", "tb_qual_flag_v"): _TB_S1,
}

#: What masks a soil moisture, by policy: reasons and bits of ``retrieval_qual_flag``, in the order they are counted.
FLAG_POLICIES: dict[str, tuple[tuple[str, int], ...]] = {
    "recommended": (("not_attempted", 1), ("not_successful", 2), ("not_recommended", 0)),
    "retrieved": (("not_attempted", 1), ("not_successful", 2)),
    "none": (),
}
#: What masks a brightness temperature, by policy: reasons and bits of ``tb_qual_flag_h`` or ``_v``.
TB_POLICIES: dict[str, tuple[tuple[str, int], ...]] = {"acceptable": (("tb_not_acceptable", 0),), "none": ()}


@dataclass(frozen=True)
class FlagTest:
    """A reason to mask: a bit of one of the flags read beside a field."""

    flag: str
    reason: str
    bit: int
    required: bool
    """Whether a missing flag is a reason too ("no_flag")."""


def flag_attrs(family: str, name: str) -> dict[str, object]:
    """CF attributes of a flag of the radiometer's ("passive") or the SMAP/Sentinel-1 ("active_passive") products."""
    meanings = _MEANINGS[family, name]
    return {
        "flag_masks": np.array([1 << bit for bit in meanings], "uint16"),
        "flag_meanings": " ".join(meanings.values()),
        "missing_value": np.uint16(FLAG_FILL),
    }


def retrieval_tests(policy: str) -> list[FlagTest]:
    """The tests of a policy for soil moisture."""
    return [FlagTest("retrieval_qual_flag", reason, bit, True) for reason, bit in FLAG_POLICIES[policy]]


def surface_tests(who: str, family: str, excluded: list[str]) -> list[FlagTest]:
    """Tests that mask by conditions of the surface, by name."""
    known = {name: bit for bit, name in _MEANINGS[family, "surface_flag"].items()}
    unknown = [name for name in excluded if name not in known]
    if unknown or len(set(excluded)) != len(excluded):
        raise ParameterError(
            who,
            "'exclude_surface' holds an unknown condition, or one twice",
            got=unknown or excluded,
            expected=[*known],
        )
    return [FlagTest("surface_flag", f"surface:{name}", known[name], False) for name in excluded]


def decode_flags(flag: xr.DataArray) -> xr.Dataset:
    """Take a bit flag apart: one boolean variable a meaning, lazy where the flag is.

    Parameters
    ----------
    flag : xarray.DataArray of unsigned int
        With the CF attributes ``flag_masks``, ``flag_meanings`` and ``missing_value``, as the loaders of this package
        and `smnb.loaders.points.open_smap_l3_points` set them.

    Returns
    -------
    xarray.Dataset
        A boolean variable a meaning, True where its bit is set; and ``missing``, True where the flag has its fill value,
        for which all others are False.

    Raises
    ------
    ContractError
        If the flag is no integer, or the attributes are missing or do not fit each other.

    Examples
    --------
    >>> flag = xr.DataArray(np.array([0, 5, 65534], "uint16"), dims="x", attrs=flag_attrs("passive", "retrieval_qual_flag"))
    >>> decoded = decode_flags(flag)
    >>> decoded["not_recommended"].values.tolist(), decoded["missing"].values.tolist()
    ([False, True, False], [False, False, True])
    """
    who = "decode_flags"
    masks, meanings = flag.attrs.get("flag_masks"), str(flag.attrs.get("flag_meanings", "")).split()
    if flag.dtype.kind not in "iu" or masks is None or np.size(masks) != len(meanings) or not meanings:
        raise ContractError(
            who,
            f"{str(flag.name)!r} is no bit flag",
            got=(str(flag.dtype), masks, meanings),
            expected="integers with flag_masks and flag_meanings of one length",
            next_step="Pass retrieval_qual_flag, surface_flag or tb_qual_flag_h of a Dataset of smnb.loaders.smap",
        )
    fill = flag.attrs.get("missing_value")
    missing = xr.zeros_like(flag, dtype=bool) if fill is None else flag == fill
    decoded = {
        meaning: ((flag & mask) != 0) & ~missing
        for meaning, mask in zip(meanings, np.asarray(masks, flag.dtype), strict=True)
    }
    decoded["missing"] = missing
    for name, variable in decoded.items():
        variable.attrs = {"long_name": f"{flag.name}: {name.replace('_', ' ')}", "units": "1"}
    return xr.Dataset(decoded)
