"""What the catalog says of the bands of a source: where they are, their units, and how their numbers are meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smnb.contract import FormatError, ParameterError, plain

__all__: list[str] = []

#: Canonical units of the bands of known sources; what normalises them relies on these.
CANONICAL_UNITS: dict[str, dict[str, str]] = {
    "sentinel1": {"VV": "dB", "VH": "dB", "HH": "dB", "HV": "dB", "angle": "degree"},
    "sentinel2": dict.fromkeys(
        ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"), "1e-4"
    ),
    "dem": {"elevation": "m"},
    "soilgrids": {"sand": "g kg-1", "silt": "g kg-1", "clay": "g kg-1", "bdod": "cg cm-3"},
    "smap": {"ssm": "mm"},
    "gldas": {"SoilMoi0_10cm_inst": "kg m-2"},
}
_SPELLINGS = {
    "g/kg": "g kg-1",
    "cg/cm3": "cg cm-3",
    "cg/cm³": "cg cm-3",
    "kg/m2": "kg m-2",
    "kg/m^2": "kg m-2",
    "decibel": "dB",
    "db": "dB",
    "degrees": "degree",
    "deg": "degree",
    "metre": "m",
    "metres": "m",
    "meter": "m",
    "meters": "m",
    "0.0001": "1e-4",
    "dn": "1e-4",
    "reflectance": "1",
}
#: Native units that are converted while reading: (native, canonical) to how.
CONVERSIONS: dict[tuple[str, str], str] = {
    ("linear", "dB"): "decibels of linear power",
    ("1", "1e-4"): "ten thousandths",
    ("radian", "degree"): "degrees of arc",
    ("m", "mm"): "millimetres of metres",
}


def spelled(unit: str) -> str:
    """A unit in the spelling used here.

    Examples
    --------
    >>> spelled("g/kg"), spelled(" kg m-2 ")
    ('g kg-1', 'kg m-2')
    """
    unit = str(unit).strip()
    return _SPELLINGS.get(unit, _SPELLINGS.get(unit.lower(), unit))


def check_keys(who: str, what: str, given: Any, known: Sequence[str]) -> dict[str, Any]:
    """Return a mapping whose keys are all known.

    Raises
    ------
    ParameterError
        If it is no mapping, or has an unknown key.
    """
    if not isinstance(given, Mapping):
        raise ParameterError(who, f"{what} is no mapping", got=given, expected=plain(f"keys of {list(known)}"))
    for key in given:
        if key not in known:
            raise ParameterError(who, f"{what} has no key {key!r}", expected=list(known))
    return dict(given)


def check_number(who: str, what: str, value: Any) -> float:
    # a string is taken because YAML reads 1e-4 as one
    try:
        number = np.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise ParameterError(who, f"{what} is no number", got=value)
    return number


@dataclass(frozen=True)
class BandOption:
    """One band: where it is in a file, and how its numbers are meant; None leaves that to the file."""

    name: str
    where: int | str
    select: dict[str, Any] = field(default_factory=dict)
    index: int = 1
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    units: str = ""
    conversion: str | None = None


def band_options(
    who: str, source: str, bands: Any, units: Mapping[str, str] | None, *, key: str | None = None
) -> tuple[BandOption, ...]:
    """Check the options 'bands' and 'units'.

    Parameters
    ----------
    who : str
        The caller, for messages.
    source : str
        Name of the source; its bands may have canonical units.
    bands : mapping or sequence
        Names to where they are; a sequence of names stands for themselves.
    units : mapping, optional
        Native units by band.
    key : str, optional
        The key that says where a band is; default "band" or "variable".

    Raises
    ------
    ParameterError
        For an unknown key, a band without its place, or units that are neither canonical nor convertible.
    """
    if not isinstance(source, str) or not source:
        raise ParameterError(who, "'source' is no name", got=source, expected=sorted(CANONICAL_UNITS))
    if not isinstance(bands, Mapping):
        if isinstance(bands, str) or not isinstance(bands, Sequence):
            raise ParameterError(who, "'bands' is no mapping", got=bands, expected=plain("such as {VV: {band: VV}}"))
        bands = {name: name for name in bands}
    if not bands:
        raise ParameterError(who, "'bands' names no band")
    units = check_keys(who, "'units'", units or {}, list(bands))
    options = []
    for name, given in bands.items():
        what = f"band {name!r}"
        places = [key] if key else ["band", "variable"]
        if not isinstance(given, Mapping):
            given = {places[0]: given}
        given = check_keys(who, what, given, [*places, "select", "index", "scale", "offset", "nodata"])
        where = [given[place] for place in places if place in given]
        if len(where) != 1 or isinstance(where[0], bool) or not isinstance(where[0], int | str) or where[0] == "":
            raise ParameterError(
                who,
                f"{what} does not say where it is",
                got=given,
                expected=plain(" or ".join(f"{place}: …" for place in places)),
            )
        numbers = {
            part: None if given.get(part) is None else check_number(who, f"{part} of {what}", given[part])
            for part in ("scale", "offset", "nodata")
        }
        if numbers["scale"] == 0.0:
            raise ParameterError(who, f"scale of {what} is zero")
        index = given.get("index", 1)
        if isinstance(index, bool) or not isinstance(index, int) or index < 1:
            raise ParameterError(who, f"index of {what} is no number of a band", got=index, expected=plain(">= 1"))
        select = given.get("select") or {}
        if not isinstance(select, Mapping):
            raise ParameterError(
                who, f"select of {what} is no mapping", got=select, expected=plain("{dimension: label}")
            )
        unit, conversion = _units(who, source, str(name), units.get(name))
        options.append(
            BandOption(str(name), where[0], dict(select), index, **numbers, units=unit, conversion=conversion)
        )
    return tuple(options)


def _units(who: str, source: str, name: str, declared: str | None) -> tuple[str, str | None]:
    """Canonical units of a band, and the conversion from those declared."""
    canonical = CANONICAL_UNITS.get(source, {}).get(name)
    if canonical is None or declared is None:
        return (spelled(declared) if declared is not None else canonical or ""), None
    native = spelled(declared)
    if native == canonical:
        return canonical, None
    if (native, canonical) not in CONVERSIONS:
        known = [canonical, *(one for one, other in CONVERSIONS if other == canonical)]
        raise ParameterError(
            who,
            f"units of {source} {name} are not those that are known",
            got=declared,
            expected=known,
            next_step="Convert them with the band's scale and offset, and state the units that result",
        )
    return canonical, CONVERSIONS[native, canonical]


def check_file_units(where: str, band: BandOption, declared: str | None, stated: str | None) -> None:
    """Compare the units that a file states with those declared.

    Raises
    ------
    FormatError
        If both are given and differ.
    """
    if declared is None or not stated or spelled(stated) == spelled(declared):
        return
    raise FormatError(
        where,
        f"band {band.name!r} has other units than declared",
        got=stated,
        expected=declared,
        next_step="Correct 'units' in the catalog's options",
    )
