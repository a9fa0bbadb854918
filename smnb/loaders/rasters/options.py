"""What the catalog says of a source: its bands, and what tells a scene's time, clouds, files and offset of its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from smnb.contract import FormatError, ParameterError, plain
from smnb.loaders.rasters.products import PRODUCTS, Meaning, meaning_of

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
#: From this day, and this processing baseline, on Sentinel-2's digital numbers carry an offset of 1000.
_OFFSET_SINCE, _OFFSET_BASELINE = np.datetime64("2022-01-25", "ns"), 400


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


def _one_way(
    who: str, what: str, given: Any, ways: Sequence[str], *, also: Sequence[str] = ()
) -> tuple[str, Any, dict]:
    """The one of several ways that a mapping takes, its value, and the rest."""
    given = check_keys(who, what, given, [*ways, *also])
    rest = {key: given.pop(key) for key in also if key in given}
    if len(given) != 1:
        raise ParameterError(who, f"{what} needs exactly one of its ways", got=sorted(given), expected=list(ways))
    return *next(iter(given.items())), rest


def _number(who: str, what: str, value: Any) -> float:
    # a string is taken because YAML reads 1e-4 as one
    try:
        number = np.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise ParameterError(who, f"{what} is no number", got=value)
    return number


def _regex(who: str, what: str, pattern: Any, groups: Iterable[str]) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ParameterError(who, f"{what} is no regular expression: {error}", got=pattern) from error
    for group in groups:
        if group not in compiled.groupindex:
            raise ParameterError(who, f"{what} has no group {group!r}", got=pattern, expected=plain(f"(?P<{group}>…)"))
    return compiled


def found_in_name(pattern: re.Pattern[str], path: str) -> re.Match[str] | None:
    """Search a file's name, or its whole path where the pattern has a slash."""
    text = path.replace("\\", "/")
    return pattern.search(text if "/" in pattern.pattern else text.rstrip("/").rsplit("/", 1)[-1])


@dataclass(frozen=True)
class BandOption:
    """One band: where it is in a file, and what its numbers mean; None leaves that to the file."""

    name: str
    where: int | str
    meaning: Meaning
    select: dict[str, Any] = field(default_factory=dict)
    index: int = 1
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    conversion: float | str | None = None


def band_options(
    who: str, source: str, bands: Any, units: Mapping[str, str] | None, places: Sequence[str] = ("band", "variable")
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
    places : sequence of str
        The keys that say where a band is.

    Raises
    ------
    ParameterError
        For an unknown key, a band without its place, or units that are neither canonical nor convertible.
    """
    if not isinstance(source, str) or not source:
        raise ParameterError(who, "'source' is no name", got=source, expected=sorted(PRODUCTS))
    if not isinstance(bands, Mapping):
        if isinstance(bands, str) or not isinstance(bands, Sequence):
            raise ParameterError(who, "'bands' is no mapping", got=bands, expected=plain("such as {VV: {band: VV}}"))
        bands = {name: name for name in bands}
    if not bands:
        raise ParameterError(who, "'bands' names no band")
    units = check_keys(who, "'units'", units or {}, list(bands))
    return tuple(_band(who, source, str(name), given, units.get(name), places) for name, given in bands.items())


def _band(who: str, source: str, name: str, given: Any, units: str | None, places: Sequence[str]) -> BandOption:
    what = f"band {name!r}"
    given = given if isinstance(given, Mapping) else {places[0]: given}
    given = check_keys(who, what, given, [*places, "select", "index", "scale", "offset", "nodata"])
    where = [given[place] for place in places if place in given]
    if len(where) != 1 or isinstance(where[0], bool) or not isinstance(where[0], int | str) or where[0] == "":
        expected = plain(" or ".join(f"{place}: …" for place in places))
        raise ParameterError(who, f"{what} does not say where it is", got=given, expected=expected)
    numbers = {
        part: None if given.get(part) is None else _number(who, f"{part} of {what}", given[part])
        for part in ("scale", "offset", "nodata")
    }
    if numbers["scale"] == 0.0:
        raise ParameterError(who, f"scale of {what} is zero")
    index, select = given.get("index", 1), given.get("select") or {}
    if isinstance(index, bool) or not isinstance(index, int) or index < 1:
        raise ParameterError(who, f"index of {what} is no number of a band", got=index, expected=plain(">= 1"))
    if not isinstance(select, Mapping):
        raise ParameterError(who, f"select of {what} is no mapping", got=select, expected=plain("{dimension: label}"))
    meaning, conversion = meaning_of(who, source, name, units)
    return BandOption(name, where[0], meaning, dict(select), index, **numbers, conversion=conversion)


@dataclass(frozen=True)
class TimeOption:
    """What tells when a scene was seen: one of a pattern of names, a tag, a dimension, or nothing (static)."""

    kind: str
    pattern: re.Pattern[str] | None = None
    format: str | None = None
    name: str = ""

    def of_name(self, where: str, path: str) -> np.datetime64:
        """The time in a file's name.

        Raises
        ------
        FormatError
            If there is none.
        """
        match = found_in_name(self.pattern, path)
        if match is None:
            raise FormatError(
                where,
                "the name tells no time",
                got=path.rsplit("/", 1)[-1],
                expected=self.pattern.pattern,
                next_step="Correct the option time: {pattern: …}, or leave the file out",
            )
        return self.parse(where, match["time"])

    def parse(self, where: str, text: str) -> np.datetime64:
        """A time in UTC from text, by the option's format or a usual one.

        Raises
        ------
        FormatError
            If it is none.
        """
        try:
            if self.format is not None:
                return as_utc(datetime.strptime(text, self.format))
            for pattern, form in _FORMATS:
                if re.fullmatch(pattern, text):
                    return as_utc(datetime.strptime(text.upper(), form))
            return as_utc(datetime.fromisoformat(text))
        except ValueError as error:
            raise FormatError(
                where,
                "the time cannot be read",
                got=text,
                expected=self.format or plain("such as 20200901T001122"),
                next_step="State it: time: {…, format: '%Y%m%dT%H%M%S'}",
            ) from error


def as_utc(time: datetime) -> np.datetime64:
    """A time in UTC; one without a zone is in UTC already."""
    if time.tzinfo is not None:
        time = time.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(time, "ns")


def time_option(who: str, time: Any) -> TimeOption:
    """Check the option 'time'.

    Raises
    ------
    ParameterError
        Unless it is one of pattern (with format), tag (with format), dimension, static.
    """
    ways = ("pattern", "tag", "dimension", "static")
    kind, value, rest = _one_way(who, "'time'", time, ways, also=("format",))
    form = rest.get("format")
    if kind == "static":
        if value is not True:
            raise ParameterError(who, "'time' static is true or absent", got=value)
        return TimeOption("static")
    if form is not None and kind == "dimension":
        raise ParameterError(who, "'time' takes no format with a dimension", got=form)
    if kind == "pattern":
        return TimeOption(kind, _regex(who, "time.pattern", value, ["time"]), form)
    if not isinstance(value, str) or not value:
        raise ParameterError(who, f"time.{kind} is no name", got=value)
    return TimeOption(kind, None, form, value)


def cloud_option(who: str, cloud: Any) -> tuple[str, str | int] | None:
    """Check the option 'cloud': what tells the clouds, ``("tag", name)`` or ``("band", name or number)``.

    Raises
    ------
    ParameterError
        Unless it is None or one of tag, band.
    """
    if cloud is None:
        return None
    kind, value, _ = _one_way(who, "'cloud'", cloud, ("tag", "band"))
    is_name = isinstance(value, str) or (kind == "band" and isinstance(value, int) and not isinstance(value, bool))
    if not is_name or value == "":
        raise ParameterError(who, f"cloud.{kind} is no name", got=value)
    return kind, value


def scene_option(who: str, scene: Any) -> re.Pattern[str] | None:
    """Check the option 'scene': the pattern of names where one scene is one file a band.

    Raises
    ------
    ParameterError
        If it is no such pattern.
    """
    if scene is None:
        return None
    given = check_keys(who, "'scene'", scene, ["pattern"])
    return _regex(who, "scene.pattern", given.get("pattern"), ["scene", "band"])


@dataclass(frozen=True)
class DnOffset:
    """What is added to the digital numbers of scenes of Sentinel-2's processing baseline 04.00 and later.

    Which scenes these are is told by their time (`since`), the baseline in their name, or a property of a STAC item.
    """

    offset: float = 0.0
    since: np.datetime64 | None = None
    baseline: re.Pattern[str] | None = None
    item_property: str | None = None

    def of(self, where: str, path: str, time: np.datetime64) -> float:
        """The addend for one scene, by its time or its name.

        Raises
        ------
        FormatError
            If the name tells no baseline.
        """
        if self.baseline is None:
            return self.offset if self.since is not None and time >= self.since else 0.0
        match = found_in_name(self.baseline, path)
        if match is None:
            raise FormatError(
                where,
                "the name tells no processing baseline",
                got=path.rsplit("/", 1)[-1],
                expected=self.baseline.pattern,
                next_step="Correct boa_add_offset: {baseline: …}, or use 'since'",
            )
        return self.of_baseline(where, match["baseline"])

    def of_baseline(self, where: str, text: str) -> float:
        """The addend for a processing baseline such as "04.00" or "N0509".

        Raises
        ------
        FormatError
            If it is none.
        """
        digits = re.sub(r"\D", "", text)
        if len(digits) != 4:
            raise FormatError(where, "this is no processing baseline", got=text, expected="04.00")
        return self.offset if int(digits) >= _OFFSET_BASELINE else 0.0


def dn_offset(who: str, option: Any, bands: Sequence[BandOption], way: str) -> DnOffset:
    """Check the option 'boa_add_offset': a number, or a mapping of offset and one of "since" and `way`.

    Raises
    ------
    ParameterError
        For an unknown key, or together with an offset of a band, which would count twice.
    """
    if option is None:
        return DnOffset()
    option = option if isinstance(option, Mapping) else {"offset": option}
    given = check_keys(who, "'boa_add_offset'", option, ["offset", "since", way])
    offset = _number(who, "boa_add_offset", given.pop("offset", -1000))
    if len(given) > 1:
        raise ParameterError(
            who, "'boa_add_offset' takes one way to tell which scenes", got=sorted(given), expected=["since", way]
        )
    for band in bands:
        if band.offset:
            raise ParameterError(
                who,
                f"band {band.name!r} has an offset and 'boa_add_offset' is set, so that it would count twice",
                got=band.offset,
                next_step="Leave one of them out",
            )
    if "baseline" in given:
        return DnOffset(offset, baseline=_regex(who, "boa_add_offset.baseline", given["baseline"], ["baseline"]))
    if "property" in given:
        return DnOffset(offset, item_property=str(given["property"]))
    try:
        since = np.datetime64(given.get("since", _OFFSET_SINCE), "ns")
    except (ValueError, TypeError) as error:
        raise ParameterError(who, "boa_add_offset.since is no ISO date", got=given["since"]) from error
    return DnOffset(offset, since)
