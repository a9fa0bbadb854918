"""What tells a scene's time, its clouds, the files that make it, and the offset of its digital numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from smnb.contract import FormatError, ParameterError, plain
from smnb.loaders.rasters.options import BandOption, check_keys, check_number

__all__: list[str] = []

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
    given = check_keys(who, "'time'", time, ["pattern", "format", "tag", "dimension", "static"])
    form = given.pop("format", None)
    if len(given) != 1:
        raise ParameterError(
            who,
            "'time' needs exactly one of its ways",
            got=sorted(given),
            expected=["pattern", "tag", "dimension", "static"],
        )
    kind, value = next(iter(given.items()))
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


@dataclass(frozen=True)
class CloudOption:
    """What tells the percentage of clouds: a tag, or a band of quality bits (as QA60 of Sentinel-2)."""

    kind: str
    name: str | int


def cloud_option(who: str, cloud: Any) -> CloudOption | None:
    """Check the option 'cloud'.

    Raises
    ------
    ParameterError
        Unless it is None or one of tag, band.
    """
    if cloud is None:
        return None
    given = check_keys(who, "'cloud'", cloud, ["tag", "band"])
    if len(given) != 1:
        raise ParameterError(who, "'cloud' needs exactly one of its ways", got=sorted(given), expected=["tag", "band"])
    kind, value = next(iter(given.items()))
    if (
        isinstance(value, bool)
        or not isinstance(value, int | str)
        or value == ""
        or (kind == "tag" and value != str(value))
    ):
        raise ParameterError(who, f"cloud.{kind} is no name", got=value)
    return CloudOption(kind, value)


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


#: From this day on Sentinel-2's digital numbers carry an offset of 1000 (processing baseline 04.00).
OFFSET_SINCE = np.datetime64("2022-01-25", "ns")
_OFFSET_BASELINE = 400


@dataclass(frozen=True)
class DnOffset:
    """What is added to the digital numbers of scenes of Sentinel-2's processing baseline 04.00 and later.

    Parameters
    ----------
    offset : float
        The addend.
    since : numpy.datetime64, optional
        First time of scenes that carry it.
    baseline : re.Pattern, optional
        Finds the baseline in a name, instead.
    item_property : str, optional
        Or the property of a STAC item that holds it.
    """

    offset: float
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
            return self.offset if time >= self.since else 0.0
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


def dn_offset(
    who: str, option: Any, bands: Sequence[BandOption], *, keys: Sequence[str] = ("since", "baseline")
) -> DnOffset | None:
    """Check the option 'boa_add_offset': a number, or a mapping of offset and one of `keys`.

    Raises
    ------
    ParameterError
        For an unknown key, or together with an offset of a band, which would count twice.
    """
    if option is None:
        return None
    given = check_keys(
        who, "'boa_add_offset'", option if isinstance(option, Mapping) else {"offset": option}, ["offset", *keys]
    )
    offset = check_number(who, "boa_add_offset", given.pop("offset", -1000))
    if len(given) > 1:
        raise ParameterError(
            who, "'boa_add_offset' takes one way to tell which scenes", got=sorted(given), expected=list(keys)
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
        since = np.datetime64(given.get("since", OFFSET_SINCE), "ns")
    except (ValueError, TypeError) as error:
        raise ParameterError(who, "boa_add_offset.since is no ISO date", got=given["since"]) from error
    return DnOffset(offset, since)
