"""What SMAP's fields mean: their names by release, units, ranges, bit flags, the policies that mask by them, and the clock.

Masking goes by our own ranges, not by the files' ``valid_min`` and ``valid_max``, which do not hold for the files they are in: a
granule of R18290 has soil moisture up to 0.73 beside a ``valid_max`` of 0.5. Flags: O'Neill et al., SMAP L2 & L3 Radiometer Soil
Moisture user guides (NSIDC); Das and Dunbar 2018, JPL D-56548.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from smnb.contract import VARIABLES

TABLE = yaml.safe_load(Path(__file__).with_name("fields.yaml").read_text(encoding="utf-8"))
OPTIONS = ("baseline", "sca-h", "sca-v", "dca")  # options of the passive products' soil moisture
#: Suffixes of each algorithm's fields, newer and older releases.
ALGORITHMS: dict[str, tuple[str, ...]] = {
    "sca-h": ("_scah", "_option1"),
    "sca-v": ("_scav", "_option2"),
    "dca": ("_dca", "_option3"),
}
FLAG_FILL = 65534  # fill value of the 16-bit flags and of EASE-Grid indices


def baseline_algorithm(release: str) -> str:
    """The algorithm behind ``soil_moisture``: DCA from R18 (SPL3SMP_E version 5, SPL3SMP and SPL2SMP version 8), else SCA-V."""
    return "dca" if int(release[1:3]) >= 18 else "sca-v"


@dataclass(frozen=True)
class Variable:
    """One variable of a loader's Dataset; ``fields.yaml`` says what its entries mean."""

    name: str
    natives: Mapping[str, tuple[str, ...]]
    units: str
    long_name: str
    valid: tuple[float, float]
    native_units: tuple[str, ...] = ()
    kind: str = "float"
    dim: str = ""
    by_algorithm: bool = False
    screened: bool = False

    @property
    def dtype(self) -> str:
        """Data type it is read as."""
        return TABLE["kinds"][self.kind][0]

    @property
    def fill(self) -> float:
        """The products' fill value."""
        return TABLE["kinds"][self.kind][1]


def _variables(family: str) -> dict[str, Variable]:
    """The variables of a family of products by name; the contract says what the table does not say of its own ones."""
    variables = {}
    for name in TABLE[family].split():
        entry = {"units": "1", "long_name": "", "valid": (0.0, 1.0)}
        if spec := VARIABLES.get(name):
            entry = {"units": spec.units, "long_name": spec.long_name, "valid": spec.valid_range}
        entry |= {**TABLE["fields"][name], **TABLE.get(f"{family}_fields", {}).get(name, {})}
        natives = entry.pop("native", [name])
        natives = natives if isinstance(natives, dict) else {"": natives}
        entry["natives"] = {label: tuple(names) for label, names in natives.items()}
        entry["native_units"] = tuple(TABLE["units"].get(entry.get("native_units"), ()))
        variables[name] = Variable(name, **{**entry, "valid": tuple(entry["valid"])})
    return variables


PASSIVE = _variables("passive")  # SPL2SMP, SPL2SMP_E, SPL3SMP, SPL3SMP_E
ACTIVE_PASSIVE = _variables("active_passive")  # SPL2SMAP_S; every name carries the suffix _3km or _1km
POINT_LIST = {"soil_moisture": PASSIVE["soil_moisture"]}  # SPL3SMP_E cut to lists of points, with no flags
#: Meaning of each bit, by family and flag.
FLAG_BITS: dict[str, dict[str, dict[int, str]]] = {
    family: {flag: {k: bit for k, bit in enumerate(bits.split()) if bit != "-"} for flag, bits in flags.items()}
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
    """CF attributes of a flag of the radiometer's ("passive") or the SMAP/Sentinel-1 ("active_passive") products.

    CF readers take a set bit as "this is so". The files' ``flag_meanings`` name what a bit is *about* (``Retrieval_recommended``
    is 1 when a retrieval is not recommended); the meanings here are put CF's way.
    """
    bits = FLAG_BITS[family][name]
    return {
        "flag_masks": np.array([1 << bit for bit in bits], "uint16"),
        "flag_meanings": " ".join(bits.values()),
        "missing_value": np.uint16(FLAG_FILL),
    }


#: The epoch that the metadata name, J2000.0 in UTC: noon of that day in Terrestrial Time. The seconds run through leap seconds:
#: in a granule of 2015 the track crosses the equator within 0.2 s of the crossing that its metadata state if the four until then
#: are taken off, and 4 s late if not. Its ``tb_time_utc`` is 68.184 s later: it holds Terrestrial Time.
_EPOCH = np.datetime64("2000-01-01T11:58:55.816", "ns")
#: First instants after the leap seconds inserted since (IERS Bulletin C), and the same on SMAP's clock.
_LEAPS = np.array(["2006-01-01", "2009-01-01", "2012-07-01", "2015-07-01", "2017-01-01"], "datetime64[ns]")
_LEAP_SECONDS = (_LEAPS - _EPOCH) / np.timedelta64(1, "s") + np.arange(1, _LEAPS.size + 1)
_EARLIEST, _LATEST = 4.7e8, 1.6e9  # the clock's values that can be an observation: 2015 to 2050


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
