"""What the catalog says of a source, one model an option, and what the numbers of known products mean.

`PRODUCTS` is the one table for every path that reads them, GeoTIFF, arrays and STAC alike: of each band its canonical units,
which exact numbers are no data though no file may say so, and between which values it can lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from smnb.contract import VARIABLES, FormatError, ParameterError, plain

TOO_DARK = -100.0  # reflectance (1e-4) below which no surface is: an offset was taken off twice


@dataclass(frozen=True)
class Meaning:
    """A product's band: canonical units, numbers that are no data whatever the file states, and its range in those units.

    What is beyond the range, or not finite, is missing. A place or scene is in other units where most values are beyond the
    range, nine in ten are below `dim`, or the median is below `dark` or above `bright`.
    """

    units: str = ""
    fills: tuple[float, ...] = ()
    low: float = -1e15  # how unknown products are filled (1e20, 9.96921e36, 3.4e38) is beyond any quantity
    high: float = 1e15
    dim: float = -np.inf
    dark: float = -np.inf
    bright: float = np.inf

    def within(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """The values, of which those beyond the range are made NaN."""
        # 1e-4: numbers of single precision at the range's own edge are within it
        values[~((values >= self.low - 1e-4) & (values <= self.high + 1e-4))] = np.nan
        return values

    def fault(self, values: NDArray[np.floating]) -> dict[str, Any] | None:
        """What is wrong with values (NaN where there are no data) as a whole, as the parts of an error; None where nothing is."""
        values = values[~np.isnan(values)]
        if not values.size:
            return None
        first, lower, middle, upper, last = np.percentile(values, [0, 5, 50, 90, 100], method="nearest")
        is_city = self.units == "dB" and lower < -1.0  # of walls, with streets in between; power is hardly below zero
        ends = {
            "dark": middle < max(self.dark, self.low - 1e-4),
            "dim": upper < self.dim,
            "bright": middle > (self.high + 1e-4 if is_city else min(self.bright, self.high + 1e-4)),
        }
        if (side := next((name for name, is_so in ends.items() if is_so), None)) is None:
            return None
        low, high = max(self.low, self.dark, self.dim), min(self.high, self.bright)
        what, step = _WRONG.get(
            (self.units, side), (f"the values cannot be in {self.units or 'its units'}", "Check the units")
        )
        got = plain(f"{first:g} to {last:g}, a median of {middle:g}")
        return {"what": what, "got": got, "expected": plain(f"mostly {low:g} to {high:g}"), "next_step": step}


#: What values are that are mostly too low, dim or bright, by units, and what to do.
_WRONG = {
    ("dB", "bright"): ("the values are no decibels: linear power or digital numbers", "Declare units: {…: linear}"),
    ("dB", "dark"): (
        "the values are no backscatter in the units declared",
        "Correct 'units': decibels need no conversion",
    ),
    ("degree", "dim"): ("the angles are no degrees", "Declare units: {…: radian}"),
    ("1e-4", "dim"): ("the values are no digital numbers: reflectance, perhaps", "Declare units: {…: '1'}"),
    ("1e-4", "dark"): (
        "most reflectances are negative, as if Sentinel-2's offset had been taken off twice",
        "Leave out boa_add_offset for harmonised collections (such as COPERNICUS/S2_HARMONIZED)",
    ),
    ("1e-4", "bright"): (
        "the cirrus band is bright, as if Sentinel-2's offset had not been taken off",
        "Set boa_add_offset: -1000 where the processing baseline is 04.00 or later and the collection not harmonised",
    ),
}
#: How exports fill any product, beside its own numbers and what is not finite.
FILLS = (-9999.0, -32768.0, -32767.0, -999.0)
#: An exact zero is the border of a scene: decibels hit it once in millions, and power never does. log(0) is out of range.
SIGMA0 = Meaning("dB", (0.0,), *VARIABLES["sigma0"].valid_range, bright=0.0)
#: Zero is NO_DATA and 65535 SATURATED in ESA's format, before any offset is added.
_DN = Meaning("1e-4", (0.0, 65535.0, -1000.0), -1000.0, 25_000.0, dim=2.5, dark=TOO_DARK)
_FRACTION = Meaning("g kg-1", (), 0.0, 1000.0)
PRODUCTS: dict[str, dict[str, Meaning]] = {
    "sentinel1": {
        **{name: replace(SIGMA0, dim=-50.0 if name[0] == name[1] else -55.0) for name in ("VV", "VH", "HH", "HV")},
        "angle": Meaning("degree", (0.0,), 0.0, 90.0, dim=2.0),
    },
    "sentinel2": {
        **dict.fromkeys(("B8A", *(f"B{number}" for number in range(1, 13))), _DN),
        "B10": replace(_DN, dim=-np.inf, bright=1000.0),
    },
    "dem": {"elevation": Meaning("m", (), *VARIABLES["elevation"].valid_range)},
    "soilgrids": {**dict.fromkeys(("sand", "silt", "clay"), _FRACTION), "bdod": Meaning("cg cm-3", (), 0.0, 300.0)},
    "smap": {"ssm": Meaning("mm", (), 0.0, 60.0)},
    "gldas": {"SoilMoi0_10cm_inst": Meaning("kg m-2", (), 0.0, 100.0, dim=1.0)},
    # 249 to 255 are kinds of no data
    "modis_lai": dict.fromkeys(("Lai", "Fpar"), Meaning("", tuple(range(249, 256)), 0.0, 100.0)),
    "landcover": {"land_cover": Meaning("", (255.0,), 0.0, 255.0)},
    # of a place, in tables of stations
    "place": {
        "fc": Meaning("volume %", (0.0,), 0.0, 100.0, dim=1.0),
        "landcover": Meaning("NLCD code", (), 0.0, 255.0),
        "mtpi": Meaning("m", (), -5000.0, 5000.0),
    },
}
#: Products of which a pixel is empty where all bands that are read are exactly zero: zero in sand, silt, clay and density
#: together is water or rock, in exports whose tag was lost.
EMPTY_IS_ZERO = ("soilgrids",)
#: Other spellings of units to those used here.
_SPELLED = {
    **dict.fromkeys(("g/kg",), "g kg-1"),
    **dict.fromkeys(("cg/cm3", "cg/cm³"), "cg cm-3"),
    **dict.fromkeys(("kg/m2", "kg/m^2"), "kg m-2"),
    **dict.fromkeys(("decibel", "db"), "dB"),
    **dict.fromkeys(("degrees", "deg"), "degree"),
    **dict.fromkeys(("metre", "metres", "meter", "meters"), "m"),
    **dict.fromkeys(("0.0001", "dn"), "1e-4"),
    "reflectance": "1",
}
#: Native units that are converted while reading: (native, canonical) to the factor, or to "power" for 10 log10.
CONVERSIONS: dict[tuple[str, str], float | str] = {
    ("linear", "dB"): "power",
    ("1", "1e-4"): 1e4,
    ("radian", "degree"): float(np.degrees(1.0)),
    ("m", "mm"): 1e3,
}
#: Formats of times in names that are recognised without the key 'format'.
_FORMATS = (
    (r"\d{8}[Tt]\d{6}", "%Y%m%dT%H%M%S"),
    (r"\d{8}[Tt]\d{4}", "%Y%m%dT%H%M"),
    (r"\d{14}", "%Y%m%d%H%M%S"),
    (r"\d{8}\.\d{4}", "%Y%m%d.%H%M"),
    (r"\d{12}", "%Y%m%d%H%M"),
    (r"\d{8}", "%Y%m%d"),
    (r"\d{7}", "%Y%j"),
    (r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d", "%Y:%m:%d %H:%M:%S"),
)


def _with_groups(*groups: str) -> Any:
    """The type of regular expressions with some named groups."""

    def check(pattern: re.Pattern[str]) -> re.Pattern[str]:
        for group in groups:
            if group not in pattern.groupindex:
                raise ValueError(f"{pattern.pattern!r} has no group {group!r}: (?P<{group}>…)")
        return pattern

    return Annotated[re.Pattern[str], AfterValidator(check)]


def _not_zero(number: float) -> float:
    if number == 0.0:
        raise ValueError("is zero")
    return number


_Name = Annotated[StrictStr, Field(min_length=1)]
_Factor = Annotated[FiniteFloat, AfterValidator(_not_zero)]
_Timed, _Scene, _Baseline = _with_groups("time"), _with_groups("scene", "band"), _with_groups("baseline")


class _Option(BaseModel):
    """An option whose keys are all known, and `ways` those of which exactly one is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    ways: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _takes_one_way(self) -> Any:
        if self.ways and sum(getattr(self, way) is not None for way in self.ways) != 1:
            raise ValueError(f"needs exactly one of its ways: {', '.join(self.ways)}")
        return self


_Model = TypeVar("_Model", bound=BaseModel)


def checked(who: str, what: str, model: type[_Model], given: Any) -> _Model:
    """An option as its model, or a `ParameterError` that names what is wrong with it."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place, problem = ".".join([what, *map(str, first["loc"])]), first["msg"].removeprefix("Value error, ")
        known = [name for name in model.model_fields if name not in ("name", "where", "meaning", "conversion")]
        expected = known if first["type"] == "extra_forbidden" else None
        raise ParameterError(who, f"{place}: {problem}", got=first["input"], expected=expected) from error


class BandOption(_Option):
    """One band: where it is in a file, and what its numbers mean; None leaves that to the file."""

    name: str
    where: StrictInt | _Name
    meaning: Meaning
    select: dict[str, Any] = {}
    index: Annotated[StrictInt, Field(ge=1)] = 1
    scale: _Factor | None = None
    offset: FiniteFloat | None = None
    nodata: FiniteFloat | None = None
    conversion: float | str | None = None


def spelled(unit: str) -> str:
    """A unit in the spelling used here: ``g kg-1`` for "g/kg"."""
    unit = str(unit).strip()
    return _SPELLED.get(unit, _SPELLED.get(unit.lower(), unit))


def _meaning_of(who: str, source: str, name: str, declared: str | None) -> tuple[Meaning, float | str | None]:
    """What a band of a source means, and the conversion from the units declared, if these are not canonical."""
    known = PRODUCTS.get(source, {}).get(name)
    if known is None or declared is None or not known.units:
        return known or Meaning(spelled(declared or "")), None
    if (native := spelled(declared)) == known.units:
        return known, None
    if (native, known.units) not in CONVERSIONS:
        what = f"units of {source} {name} are not those that are known"
        expected = [known.units, *(one for one, other in CONVERSIONS if other == known.units)]
        next_step = "Convert them with the band's scale and offset, and state the units that result"
        raise ParameterError(who, what, got=declared, expected=expected, next_step=next_step)
    return known, CONVERSIONS[native, known.units]


def band_options(
    who: str, source: str, bands: Any, units: Mapping[str, str] | None, places: Sequence[str] = ("band", "variable")
) -> tuple[BandOption, ...]:
    """Check the options 'source', 'bands' and 'units'; `places` are the keys that say where a band is."""
    if not isinstance(source, str) or not source:
        raise ParameterError(who, "'source' is no name", got=source, expected=sorted(PRODUCTS))
    if not isinstance(bands, Mapping):
        if isinstance(bands, str) or not isinstance(bands, Sequence):
            raise ParameterError(who, "'bands' is no mapping", got=bands, expected=plain("such as {VV: {band: VV}}"))
        bands = {name: name for name in bands}
    if not bands:
        raise ParameterError(who, "'bands' names no band")
    for name in units or {}:
        if name not in bands:
            raise ParameterError(who, f"'units' has no key {name!r}", expected=list(bands))
    options = []
    for name, given in bands.items():
        given = dict(given) if isinstance(given, Mapping) else {places[0]: given}
        found = [given.pop(place) for place in places if place in given]
        if len(found) != 1:
            expected = plain(" or ".join(f"{place}: …" for place in places))
            raise ParameterError(who, f"band {name!r} does not say where it is", got=bands[name], expected=expected)
        meaning, conversion = _meaning_of(who, source, str(name), (units or {}).get(name))
        told = {"name": str(name), "where": found[0], "meaning": meaning, "conversion": conversion}
        options.append(checked(who, f"bands.{name}", BandOption, {**given, **told}))
    return tuple(options)


def found_in_name(pattern: re.Pattern[str], path: str) -> re.Match[str] | None:
    """Search a file's name, or its whole path where the pattern has a slash."""
    text = path.replace("\\", "/")
    return pattern.search(text if "/" in pattern.pattern else text.rstrip("/").rsplit("/", 1)[-1])


def as_utc(time: datetime) -> np.datetime64:
    """A time in UTC; one without a zone is in UTC already."""
    return np.datetime64(time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None), "ns")


def parse_time(text: str, form: str | None = None) -> np.datetime64:
    """A time in UTC from text, by a format or a usual one; a ValueError where it is none."""
    for pattern, usual in [(".*", form)] if form else _FORMATS:
        if re.fullmatch(pattern, text):
            return as_utc(datetime.strptime(text if form else text.upper(), usual))
    return as_utc(datetime.fromisoformat(text))


class TimeOption(_Option):
    """What tells when a scene was seen: a pattern of names or a tag (with a format), a dimension, or nothing (static)."""

    pattern: _Timed | None = None
    tag: _Name | None = None
    dimension: _Name | None = None
    static: Literal[True] | None = None
    format: _Name | None = None
    ways: ClassVar = ("pattern", "tag", "dimension", "static")

    def of(self, where: str, path: str, tags: Mapping[str, Any]) -> np.datetime64:
        """The time of a file, by its name or its tags."""
        if self.static:
            return np.datetime64("NaT", "ns")
        if self.pattern is None:
            text = tags.get(self.tag)
            if text is None:
                next_step = "Correct the option time: {tag: …}, or use a pattern of names"
                what = f"the file has no tag {self.tag!r} to tell its time"
                raise FormatError(where, what, got=sorted(tags), next_step=next_step)
        elif (match := found_in_name(self.pattern, path)) is not None:
            text = match["time"]
        else:
            next_step = "Correct the option time: {pattern: …}, or leave the file out"
            raise FormatError(where, "the name tells no time", expected=self.pattern.pattern, next_step=next_step)
        try:
            return parse_time(str(text), self.format)
        except ValueError as error:
            what, next_step = "the time cannot be read", "State it: time: {…, format: '%Y%m%dT%H%M%S'}"
            expected = self.format or plain("such as 20200901T001122")
            raise FormatError(where, what, got=text, expected=expected, next_step=next_step) from error


class CloudOption(_Option):
    """What tells the clouds: a tag, or a band of quality bits by name or number."""

    tag: _Name | None = None
    band: StrictInt | _Name | None = None
    ways: ClassVar = ("tag", "band")


class SceneOption(_Option):
    """The pattern of names where one scene is one file a band."""

    pattern: _Scene


class DnOffset(_Option):
    """What is added to the digital numbers of scenes of Sentinel-2's processing baseline 04.00 and later.

    Which scenes these are is told by their time, the baseline in their name, or a property of a STAC item.
    """

    offset: FiniteFloat = -1000.0
    since: datetime = datetime(2022, 1, 25)
    baseline: _Baseline | None = None
    property: _Name | None = None

    def of(self, where: str, path: str, time: np.datetime64, properties: Mapping[str, Any] | None = None) -> float:
        """The addend for one scene."""
        if self.property is not None:
            text, source = (properties or {}).get(self.property), f"property {self.property!r}"
        elif self.baseline is not None:
            match, source = found_in_name(self.baseline, path), f"name that {self.baseline.pattern!r} matches"
            text = None if match is None else match["baseline"]
        else:
            return self.offset if time >= as_utc(self.since) else 0.0
        digits = re.sub(r"\D", "", str(text))
        if len(digits) != 4:
            what, next_step = (
                f"there is no {source} to tell the processing baseline",
                "Correct boa_add_offset, or use 'since'",
            )
            raise FormatError(where, what, got=text, next_step=next_step)
        return self.offset if int(digits) >= 400 else 0.0


def dn_offset(who: str, option: Any, bands: Sequence[BandOption], way: str) -> DnOffset:
    """Check the option 'boa_add_offset': a number, or a mapping of offset and one of "since" and `way`."""
    if option is None:
        return DnOffset(offset=0.0)
    given = dict(option) if isinstance(option, Mapping) else {"offset": option}
    known = ["offset", "since", way]
    if set(given) - set(known) or {"since", way} <= set(given):
        what = "'boa_add_offset' has an unknown key, or two that tell which scenes"
        raise ParameterError(who, what, got=sorted(given), expected=known)
    for band in bands:
        if band.offset:
            what = f"band {band.name!r} has an offset and 'boa_add_offset' is set, so that it would count twice"
            raise ParameterError(who, what, got=band.offset, next_step="Leave one of them out")
    return checked(who, "boa_add_offset", DnOffset, given)
