"""What SMAP's fields mean: their names by release, units, ranges, bit flags, the policies that mask by them, and the clock.

The ranges outside which a value is masked are ours, not the files' ``valid_min`` and ``valid_max``, which do not hold for the
files they are in: a granule of R18290 has soil moisture up to 0.73 beside a ``valid_max`` of 0.5, a DCA roughness of 3.8 beside
1.0, and R14010 limits ``tb_time_seconds`` to 1e6. Ranges include rounding (0.02 is stored as 0.01999998).

The files' own ``flag_meanings`` name the condition that a bit is *about*: ``Retrieval_recommended`` stands for the bit that is 1
when a retrieval is not recommended. CF readers take a set bit as "this is so"; the meanings here are put that way.

The metadata name the clock's epoch 2000-01-01T11:58:55.816Z, which is noon of that day in Terrestrial Time, and the seconds
since then run through leap seconds. In a granule of 2015 the cells under the track cross the equator within 0.2 s of the
crossing that its own metadata state, if the four leap seconds until then are taken off, and 4 s late if they are not. The
field ``tb_time_utc`` of that granule is later by 68.184 s: it holds Terrestrial Time.

References
----------
O'Neill et al., SMAP L2 & L3 Radiometer Soil Moisture user guides (NSIDC); Das and Dunbar 2018, Level 2 SMAP/Sentinel
Active/Passive Soil Moisture Data Product Specification, JPL D-56548.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import VARIABLES

#: Options of the passive products' soil moisture.
OPTIONS = ("baseline", "sca-h", "sca-v", "dca")
#: Suffixes of each algorithm's fields, newer and older releases.
ALGORITHMS: dict[str, tuple[str, ...]] = {
    "sca-h": ("_scah", "_option1"),
    "sca-v": ("_scav", "_option2"),
    "dca": ("_dca", "_option3"),
}
#: From R18 (data version 5 of SPL3SMP_E, 8 of SPL3SMP and SPL2SMP, October 2021) the baseline is DCA; before, SCA-V.
_FIRST_RELEASE_OF_DCA = 18
#: Fill value of the 16-bit flags and of EASE-Grid indices.
FLAG_FILL = 65534


def baseline_algorithm(release: str) -> str:
    """The algorithm behind the field ``soil_moisture`` of a release.

    Examples
    --------
    >>> baseline_algorithm("R18290"), baseline_algorithm("R14010")
    ('dca', 'sca-v')
    """
    return "dca" if int(release[1:3]) >= _FIRST_RELEASE_OF_DCA else "sca-v"


@dataclass(frozen=True)
class Variable:
    """One variable of a loader's Dataset."""

    name: str
    natives: Mapping[str, tuple[str, ...]]
    """The products' names, best first, by label along `dim` ("" where there is none)."""
    units: str
    """Empty where the file says it."""
    long_name: str
    valid: tuple[float, float]
    """In native units."""
    native_units: tuple[str, ...] = ()
    """Accepted where the file states units; none: not checked."""
    kind: str = "float"
    """"float", "flag" (uint16 bits), "class" (uint8) or "time" (seconds to datetime64)."""
    dim: str = ""
    by_algorithm: bool = False
    """Whether each algorithm has its own."""
    screened: bool = False
    """Whether the policy for soil moisture masks it too."""

    @property
    def dtype(self) -> str:
        """Data type it is read as."""
        return {"float": "float32", "flag": "uint16", "class": "uint8", "time": "float64"}[self.kind]

    @property
    def fill(self) -> float:
        """The products' fill value."""
        return {"float": -9999.0, "flag": FLAG_FILL, "class": 254, "time": -9999.0}[self.kind]


def _field(name: str, natives: Any = None, units: str = "1", long_name: str = "", **more: Any) -> Variable:
    """A variable; the contract says what is not given of its own ones."""
    if name in VARIABLES:
        spec = VARIABLES[name]
        units, long_name = spec.units, long_name or spec.long_name
        more = {"valid": spec.valid_range, **more}
    natives = natives if isinstance(natives, dict) else {"": natives or name}
    natives = {label: (one,) if isinstance(one, str) else one for label, one in natives.items()}
    return Variable(name, natives, units, long_name, **{"valid": (0.0, 1.0), **more})


def _by_name(*variables: Variable) -> dict[str, Variable]:
    return {variable.name: variable for variable in variables}


_KELVIN = ("Kelvin", "Kelvins", "kelvin", "K")
_DEGREES = ("degrees", "degree")
_VOLUME = ("cm**3/cm**3", "m**3/m**3", "m3 m-3", "m3/m3", "m**3 m**-3")
_MASS = ("kg/m**2", "kg/m**3", "kg m-2", "kg/m2")  # R14010 says kg/m**3 for the same number
#: 0.0199: the least retrieval, 0.02, with its rounding.
_MOISTURE = _field("soil_moisture", valid=(0.0199, 1.0), native_units=_VOLUME, screened=True)
_TB = {"valid": (0.0, 330.0), "native_units": _KELVIN, "dim": "channel"}
_SHARED = (
    _field("surface_temperature", native_units=_KELVIN),
    _field("vegetation_water_content", native_units=_MASS),
    _field("clay_fraction"),
    _field("sand_fraction"),
    _field("bulk_density", None, "g cm-3", "soil bulk density", valid=(0.0, 2.65)),
    _field("albedo", None, "1", "single-scattering albedo of the vegetation", by_algorithm=True),
    _field("vegetation_opacity", None, "1", "optical depth along the slant", valid=(0.0, 10.0), by_algorithm=True),
    _field("landcover_class", None, "1", "dominant IGBP land cover class", kind="class"),
)
_FLAGS = (
    _field("retrieval_qual_flag", None, "1", "quality of the retrieval", kind="flag"),
    _field("surface_flag", None, "1", "conditions of the surface", kind="flag"),
)
#: SPL2SMP, SPL2SMP_E, SPL3SMP, SPL3SMP_E.
PASSIVE: dict[str, Variable] = _by_name(
    _MOISTURE,
    _field(
        "tb",
        {"1.41H": "tb_h_corrected", "1.41V": "tb_v_corrected"},
        "K",
        "brightness temperature, corrected for water",
        **_TB,
    ),
    *_SHARED,
    _field("roughness", "roughness_coefficient", "1", "roughness coefficient h", valid=(0.0, 10.0), by_algorithm=True),
    _field("static_water_body_fraction", None, "1", "fraction of static water"),
    _field("boresight_incidence", None, "degree", "incidence angle", valid=(0.0, 90.0), native_units=_DEGREES),
    _field("observation_time", "tb_time_seconds", "", "mean time of the footprints in the cell, UTC", kind="time"),
    *_FLAGS,
    _field("tb_qual_flag_h", None, "1", "quality of tb, horizontal", kind="flag"),
    _field("tb_qual_flag_v", None, "1", "quality of tb, vertical", kind="flag"),
)
_TIME_DIFFERENCE = ("SMAP_Sentinel-1_overpass_timediff_hr", "SMAP_Sentinel_overpass_timediff_hr")
_SIGMA0 = {"VV": "sigma0_vv_aggregated", "VH": "sigma0_vh_aggregated"}
#: SPL2SMAP_S; every name carries the suffix _3km or _1km. Backscatter is linear power in the files: -60 to 30 dB.
ACTIVE_PASSIVE: dict[str, Variable] = _by_name(
    _MOISTURE,
    _field(
        "soil_moisture_std_dev",
        None,
        "m3 m-3",
        "standard deviation of soil moisture",
        native_units=_VOLUME,
        screened=True,
    ),
    _field("tb", {"1.41V": "tb_v_disaggregated"}, "K", "disaggregated brightness temperature", **_TB),
    _field("sigma0", _SIGMA0, "dB", "backscatter, averaged as power", valid=(1e-6, 1e3), dim="polarization"),
    _field("incidence_angle", "sigma0_incidence_angle", native_units=_DEGREES),
    *_SHARED,
    _field("bare_soil_roughness", "bare_soil_roughness_retrieved", "", "bare soil roughness", valid=(0.0, 10.0)),
    _field("water_body_fraction", None, "1", "fraction of water"),
    _field(
        "overpass_time_difference",
        _TIME_DIFFERENCE,
        "h",
        "time from SMAP's to Sentinel-1's overpass",
        valid=(-240.0, 240.0),
    ),
    _field("observation_time", "spacecraft_overpass_time_seconds", "", "time of SMAP's overpass, UTC", kind="time"),
    *_FLAGS,
    _field("tb_qual_flag_v", "disaggregated_tb_v_qual_flag", "1", "quality of the disaggregated tb", kind="flag"),
)
#: SPL3SMP_E cut to lists of points, with no flags.
POINT_LIST: dict[str, Variable] = _by_name(_MOISTURE)

_RETRIEVAL_BITS = "not_recommended not_attempted not_successful freeze_thaw_not_retrieved"
_SURFACE_BITS = (
    "static_water radar_water coast urban precipitation snow_or_ice permanent_ice frozen_radiometer frozen_model mountains "
    "dense_vegetation nadir"
)
_TB_BITS = (
    "not_acceptable range rfi_detection rfi_correction nedt direct_sun_correction reflected_sun_correction "
    "reflected_moon_correction direct_galaxy_correction reflected_galaxy_correction atmosphere_correction "
    "faraday_rotation_correction null_value water_correction rfi_check rfi_clean"
)


def _bits(names: str) -> dict[int, str]:
    return dict(enumerate(names.split()))


#: Meaning of each bit. SPL2SMAP_S has no radar water bit (1), and its own last two; of its tb one bit is known.
FLAG_BITS: dict[str, dict[str, dict[int, str]]] = {
    "passive": {
        "retrieval_qual_flag": _bits(_RETRIEVAL_BITS),
        "surface_flag": _bits(_SURFACE_BITS),
        "tb_qual_flag_h": _bits(_TB_BITS),
        "tb_qual_flag_v": _bits(_TB_BITS),
    },
    "active_passive": {
        "retrieval_qual_flag": _bits(_RETRIEVAL_BITS),
        "surface_flag": {bit: name for bit, name in _bits(_SURFACE_BITS).items() if bit not in (1, 11)}
        | {11: "edge_cell", 12: "anomalous_sigma0"},
        "tb_qual_flag_v": {0: "not_acceptable"},
    },
}
#: What masks a soil moisture, by policy: reasons and bits of ``retrieval_qual_flag``, in the order they are counted.
FLAG_POLICIES: dict[str, tuple[tuple[str, int], ...]] = {
    "recommended": (("not_attempted", 1), ("not_successful", 2), ("not_recommended", 0)),
    "retrieved": (("not_attempted", 1), ("not_successful", 2)),
    "none": (),
}
#: What masks a brightness temperature, by policy: reasons and bits of ``tb_qual_flag_h`` or ``_v``.
TB_POLICIES: dict[str, tuple[tuple[str, int], ...]] = {"acceptable": (("tb_not_acceptable", 0),), "none": ()}


def flag_attrs(name: str, family: str = "passive") -> dict[str, object]:
    """CF attributes of a flag of the radiometer's ("passive") or the SMAP/Sentinel-1 ("active_passive") products."""
    bits = FLAG_BITS[family][name]
    return {
        "flag_masks": np.array([1 << bit for bit in bits], "uint16"),
        "flag_meanings": " ".join(bits.values()),
        "missing_value": np.uint16(FLAG_FILL),
    }


#: J2000.0 in UTC.
_EPOCH = np.datetime64("2000-01-01T11:58:55.816", "ns")
#: First instants after the leap seconds inserted since (IERS Bulletin C), and the same on SMAP's clock.
_LEAPS = np.array(["2006-01-01", "2009-01-01", "2012-07-01", "2015-07-01", "2017-01-01"], "datetime64[ns]")
_LEAP_SECONDS = (_LEAPS - _EPOCH) / np.timedelta64(1, "s") + np.arange(1, _LEAPS.size + 1)
#: The clock's values that can be an observation: 2015 to 2050.
_EARLIEST, _LATEST = 4.7e8, 1.6e9


def seconds_to_utc(seconds: ArrayLike) -> NDArray[np.datetime64]:
    """UTC, datetime64[ns], of seconds since J2000 with leap seconds counted, as in ``tb_time_seconds``.

    Fill values, NaN and whatever is before 2015 or after 2050 give NaT.

    Examples
    --------
    >>> seconds_to_utc([492530149.396, -9999.0])
    array(['2015-08-11T01:54:41.212000000',                           'NaT'],
          dtype='datetime64[ns]')
    """
    seconds = np.asarray(seconds, dtype="float64")
    good = (seconds > _EARLIEST) & (seconds < _LATEST)
    elapsed = np.where(good, seconds, 0.0)
    elapsed = elapsed - np.searchsorted(_LEAP_SECONDS, elapsed, side="right")
    utc = _EPOCH + np.round(elapsed * 1e9).astype("int64").astype("timedelta64[ns]")
    return np.where(good, utc, np.datetime64("NaT", "ns"))


def utc_to_seconds(utc: ArrayLike) -> NDArray[np.float64]:
    """Seconds since J2000 with leap seconds counted: the inverse of `seconds_to_utc`; NaT gives -9999.

    Examples
    --------
    >>> utc_to_seconds(np.datetime64("2015-08-11T01:54:41.212")).round(3)
    np.float64(492530149.396)
    """
    utc = np.asarray(utc, dtype="datetime64[ns]")
    seconds = (utc - _EPOCH) / np.timedelta64(1, "s") + np.searchsorted(_LEAPS, utc, side="right")
    return np.where(np.isnat(utc), -9999.0, seconds)[()]
