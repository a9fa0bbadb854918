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
from pathlib import Path
from typing import Any

import numpy as np
import yaml
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


TABLE = yaml.safe_load(Path(__file__).with_name("fields.yaml").read_text(encoding="utf-8"))


def _variable(name: str, natives: Any = None, units: str = "1", long_name: str = "", **more: Any) -> Variable:
    """A variable of the table; the contract says what that does not say of its own ones."""
    if spec := VARIABLES.get(name):
        units, long_name = spec.units, long_name or spec.long_name
        more = {"valid": spec.valid_range, **more}
    labelled = natives if isinstance(natives, dict) else {"": natives or [name]}
    more["valid"] = tuple(more.get("valid", (0.0, 1.0)))
    more["native_units"] = tuple(TABLE["units"].get(more.get("native_units"), ()))
    return Variable(name, {label: tuple(one) for label, one in labelled.items()}, units, long_name, **more)


def _variables(family: str) -> dict[str, Variable]:
    """The variables of a family of products by name."""
    fields = {name: {**one, **TABLE.get(f"{family}_fields", {}).get(name, {})} for name, one in TABLE["fields"].items()}
    chosen = {name: dict(fields[name]) for name in TABLE[family].split()}
    return {name: _variable(name, one.pop("native", None), **one) for name, one in chosen.items()}


#: SPL2SMP, SPL2SMP_E, SPL3SMP, SPL3SMP_E.
PASSIVE = _variables("passive")
#: SPL2SMAP_S; every name carries the suffix _3km or _1km.
ACTIVE_PASSIVE = _variables("active_passive")
#: SPL3SMP_E cut to lists of points, with no flags.
POINT_LIST = {"soil_moisture": PASSIVE["soil_moisture"]}
#: Meaning of each bit, by family and flag.
FLAG_BITS: dict[str, dict[str, dict[int, str]]] = {
    family: {
        flag: {bit: name for bit, name in enumerate(names.split()) if name != "-"} for flag, names in flags.items()
    }
    for family, flags in TABLE["bits"].items()
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
