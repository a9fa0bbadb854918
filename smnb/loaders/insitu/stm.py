"""ISMN's data files (.stm): both formats, header+values and CEOP in separate files.

A file holds few different "value flag provider" texts among many lines (values have three or four decimals), so lines
are told apart by a hash of their bytes, each different text is parsed once, exactly, and the times, which differ, are
parsed as arrays of digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import FormatError, plain
from smnb.loaders.insitu.sensors import Readings

#: ISMN's variable codes in file names.
VARIABLE_NAMES = {
    "sm": "soil_moisture",
    "ts": "soil_temperature",
    "su": "soil_suction",
    "p": "precipitation",
    "ta": "air_temperature",
    "sd": "snow_depth",
    "sweq": "snow_water_equivalent",
    "tsf": "surface_temperature",
}
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_DECIMAL = r"[-+]?\d+\.\d+"
_PLACE = rf"(\S+)\s+(\S+)\s+(.+?)\s+({_DECIMAL})\s+({_DECIMAL})\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})"
_FILE_NAME = re.compile(
    rf"(?P<place>.+)_(?P<variable>[a-z]+(?:_h)?)_(?P<depth_from>{_DECIMAL})_(?P<depth_to>{_DECIMAL})"
    r"_(?P<instrument>.*)_(?P<start>\d{8})_(?P<end>\d{8})\.stm",
    re.IGNORECASE,
)
_HEADER = re.compile(rf"\s*{_PLACE}(?:\s+(.*?))?\s*")
_CEOP_PLACE = re.compile(rf"\s*{_PLACE}\s+(?=\S)")
_TIME = re.compile(r"\s*(\d{4})/(\d{1,2})/(\d{1,2})\s+(\d{1,2}):(\d{2})(?::00)?(?=\s|$)")
_ZONE = re.compile(
    r"\s*\d{4}/\d{1,2}/\d{1,2}[\sT]+\d{1,2}:\d{2}(?::\d{2})?\s*(Z|UTC|[A-Z]{2,4}T|[+-]\d{2}:?\d{2})(?=\s|$)"
)
_FLAG = re.compile(r"[A-Z]\d*(,[A-Z]\d*)*")
_FIRST_YEAR, _LAST_YEAR = 1800, 2199
_NO_DAY = np.iinfo(np.int32).min
_CHUNK_LINES = 1 << 16
_LONGEST_TAIL = 512
#: Header depths have two decimals in most archives, file names six.
_DEPTH_ROUNDING = 0.0051


class _Pattern:
    """Eight bytes of digits (``0`` in the template) and literal separators, tested on whole words."""

    def __init__(self, template: str) -> None:
        digits = [character == "0" for character in template]
        self._mask = self._word(0xF0 if digit else 0xFF for digit in digits)
        self._equal = self._word(0x30 if digit else ord(c) for digit, c in zip(digits, template, strict=True))
        self._six = self._word(6 if digit else 0 for digit in digits)

    @staticmethod
    def _word(values: Iterable[int]) -> np.uint64:
        return np.frombuffer(bytes(values), "<u8")[0]

    def matches(self, words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        # the high nibble of 0x30-0x39 is 3, and still is with 6 added; that of 0x3a-0x3f is not
        return ((words & self._mask) == self._equal) & (((words + self._six) & self._mask) == self._equal)


_DATE, _CLOCK = _Pattern("0000/00/"), _Pattern("00 00:00")


@dataclass(frozen=True)
class StmHeader:
    """What a file's name and first lines say of its sensor: degrees, and m (depths positive downwards)."""

    format: str
    network: str
    station: str
    lat: float
    lon: float
    elevation: float
    depth_from: float
    depth_to: float
    instrument: str
    variable: str


def _unix_lines(data: bytes) -> bytes:
    """ISMN has shipped LF, CRLF, CR and LF CR; blank lines are skipped later."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def count_lines(data: bytes) -> int:
    """Lines of data in a file that is not parsed: a line starts with its year; a header does not."""
    data = _unix_lines(data)
    return len(re.findall(rb"^\s*\d{4}/", data, re.MULTILINE))


def _place_of(line: str) -> re.Match[str] | None:
    """Network, station and place of a line of the CEOP format, after its one or two times."""
    time = _TIME.match(line)
    second = _TIME.match(line, time.end())
    return _CEOP_PLACE.match(line, second.end() if second else time.end())


def parse_header(name: str, head: bytes) -> StmHeader:
    """Tell the format of a file and the metadata of its sensor.

    `name` is the member's path, since the variable, and in the CEOP format the instrument, are only there; `head` is the
    file's beginning, at least its first line. Network and station are those inside the file, whose names keep characters
    that file names lose. Depths are the file name's, which has six decimals, once they agree with the rounded ones inside.
    """
    named = _FILE_NAME.fullmatch(PurePosixPath(name).name)
    if named is None:
        what = "the name is not of ISMN's form, which alone says the variable"
        raise FormatError(name, what, expected="CSE_Network_Station_sm_0.050000_0.050000_Sensor_20190101_20220101.stm")
    first = next((line for line in _unix_lines(head).split(b"\n") if line.strip()), b"").decode("utf-8", "replace")
    if not first:
        raise FormatError(name, "the file is empty")
    if _TIME.match(first) is None:
        _refuse_zone(name, 1, first)
        layout, match = "header_values", _HEADER.fullmatch(first)
    else:
        layout, match = "ceop_sep", _place_of(first)
    if match is None:
        what = "the first line has no numbers where coordinates and depths should be"
        expected = plain("CSE, network, station, latitude, longitude, elevation, depth from, depth to")
        next_step = "Download the archive again; a file without its header line cannot be placed"
        raise FormatError(name, what, got=first[:120], expected=expected, next_step=next_step)
    lat, lon, elevation, top, bottom = (float(text) for text in match.groups()[3:8])
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise FormatError(name, "the coordinates are out of range", got=(lat, lon))
    depth_from, depth_to = float(named["depth_from"]), float(named["depth_to"])
    if abs(depth_from - top) > _DEPTH_ROUNDING or abs(depth_to - bottom) > _DEPTH_ROUNDING:
        what = "the depths in the name and inside contradict each other"
        raise FormatError(name, what, got=(depth_from, depth_to), expected=(top, bottom))
    inside = (match.group(9) or "") if layout == "header_values" else ""
    code = named["variable"].lower()
    place = (match[2], match[3], lat, lon, elevation, depth_from, depth_to)
    return StmHeader(layout, *place, inside or named["instrument"], VARIABLE_NAMES.get(code, code))


def _refuse_zone(name: str, number: int, line: str) -> None:
    if zone := _ZONE.match(line):
        what = f"line {number}: the time has a zone, {zone[1]!r}"
        expected = plain("UTC as yyyy/mm/dd HH:MM, without a zone")
        next_step = "Convert the file to UTC; ISMN's own files are"
        raise FormatError(name, what, got=line[:60], expected=expected, next_step=next_step)


@lru_cache(maxsize=1)
def _calendar() -> NDArray[np.int32]:
    """Days since 1970 by (year, month, day), 372 places a year from `_FIRST_YEAR`; `_NO_DAY` where there is none."""
    table = np.full((_LAST_YEAR - _FIRST_YEAR + 1, 12, 31), _NO_DAY, dtype=np.int32)
    days = np.arange(f"{_FIRST_YEAR}-01-01", f"{_LAST_YEAR + 1}-01-01", dtype="datetime64[D]")
    months = days.astype("datetime64[M]")
    ordinal = months.astype(np.int64) + 12 * (1970 - _FIRST_YEAR)
    table[ordinal // 12, ordinal % 12, (days - months).astype(np.int64)] = days.astype(np.int64)
    return table.ravel()


def _times(date: NDArray[np.uint64], clock: NDArray[np.uint64]) -> tuple[NDArray[np.datetime64], NDArray[np.bool_]]:
    """Times of the bytes "yyyy/mm/" and "dd HH:MM", known to hold digits, and whether each exists."""

    def digit(word: NDArray[np.uint64], place: int) -> NDArray[np.int64]:
        return ((word >> np.uint64(8 * place)) & np.uint64(15)).view(np.int64)

    year = digit(date, 0) * 1000 + digit(date, 1) * 100 + digit(date, 2) * 10 + digit(date, 3)
    month, day = digit(date, 5) * 10 + digit(date, 6), digit(clock, 0) * 10 + digit(clock, 1)
    hour, minute = digit(clock, 3) * 10 + digit(clock, 4), digit(clock, 6) * 10 + digit(clock, 7)
    valid = (year >= _FIRST_YEAR) & (year <= _LAST_YEAR) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    valid &= (hour < 24) & (minute < 60)
    index = (year - _FIRST_YEAR) * 372 + (month - 1) * 31 + day - 1
    days = _calendar()[index if valid.all() else np.where(valid, index, 0)].astype(np.int64)
    valid &= days != _NO_DAY
    return ((days * 1440 + hour * 60 + minute) * 60_000_000_000).view("datetime64[ns]"), valid


@lru_cache(maxsize=1 << 18)
def _split_tail(raw: bytes) -> tuple[float, str, str]:
    """Value, ISMN flag and provider flag; the archives repeat a few thousand texts millions of times."""
    parts = raw.decode("utf-8", "replace").split(None, 2)
    value, flag = float(parts[0]), parts[1]
    if _FLAG.fullmatch(flag) is None or value in (float("inf"), float("-inf")):
        raise ValueError("not a flag of ISMN's form")
    return value, flag, parts[2].strip() if len(parts) > 2 else ""


class _Tails:
    """The texts after the times of one file, each parsed once; a code is the place in a list."""

    def __init__(self, name: str, place: str | None) -> None:
        self.name, self.ceop, self._place = name, bool(place), (place or "").encode()
        self._values: list[float] = []
        self._flag: list[int] = []
        self._provider: list[int] = []
        self._flags: dict[str, int] = {}
        self._providers: dict[str, int] = {}

    def add(self, raws: Sequence[bytes], numbers: Sequence[int]) -> int:
        """Parse some texts, of which `numbers` are lines that have them; return the code of the first of them."""
        first = len(self._values)
        tails = raws
        if self.ceop:
            tails = [self._after_place(raw, number) for raw, number in zip(raws, numbers, strict=True)]
        try:
            values, flags, providers = zip(*map(_split_tail, tails), strict=True)
        except (IndexError, ValueError):
            for tail, number in sorted(zip(tails, numbers, strict=True), key=lambda pair: pair[1]):
                self._check(tail, number)
            raise
        self._values.extend(values)
        self._flag.extend(self._flags.setdefault(text, len(self._flags)) for text in flags)
        self._provider.extend(self._providers.setdefault(text, len(self._providers)) for text in providers)
        return first

    def _after_place(self, raw: bytes, number: int) -> bytes:
        if raw.startswith(self._place):
            return raw[len(self._place) :]
        text, place = raw.decode("utf-8", "replace"), self._place.decode().split()
        match = _CEOP_PLACE.match(text)
        if match is None or match.group().split() != place:
            what = f"line {number}: no station and place, or others than in the first line"
            raise FormatError(self.name, what, got=text.strip()[:100], expected=" ".join(place))
        return text[match.end() :].encode()

    def _check(self, tail: bytes, number: int) -> None:
        try:
            _split_tail(tail)
        except (IndexError, ValueError) as error:
            what = f"line {number}: no value and flag after the time; the file is damaged or cut short"
            got = tail.decode("utf-8", "replace").strip()[:60]
            raise FormatError(self.name, what, got=got, expected=plain("value, ISMN flag, provider flag")) from error

    def readings(self, time: NDArray[np.datetime64], codes: NDArray[np.int64]) -> Readings:
        value, flag = np.array(self._values, dtype=np.float32)[codes], np.array(self._flag, dtype=np.int32)[codes]
        provider = np.array(self._provider, dtype=np.int32)[codes]
        return Readings(time, value, flag, provider, list(self._flags), list(self._providers))


def _exact_line(line: bytes, number: int, tails: _Tails) -> tuple[np.datetime64, int]:
    """One line of unusual layout."""
    name, text = tails.name, line.decode("utf-8", "replace")
    match = _TIME.match(text)
    if match is None:
        _refuse_zone(name, number, text)
        what = f"line {number}: it does not start with a time; the file is damaged or cut short"
        raise FormatError(name, what, got=text[:60], expected=plain("yyyy/mm/dd HH:MM, UTC"))
    words = np.frombuffer("{}/{:0>2}/{:0>2} {:0>2}:{}".format(*match.groups()).encode(), "<u8")
    time, valid = _times(words[:1], words[1:])
    if not valid[0]:
        raise FormatError(name, f"line {number}: no such time", got=match.group().strip())
    second = _TIME.match(text, match.end()) if tails.ceop else None
    _refuse_zone(name, number, text)
    return time[0], tails.add([text[second.end() if second else match.end() :].encode()], [number])


def _chunk(
    buffer: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    numbers: NDArray[np.int64],
    tails: _Tails,
) -> tuple[NDArray[np.datetime64], NDArray[np.int64]]:
    """Times and tail codes of some lines; `buffer` ends with as many spare bytes as any gather reads past a line."""
    offset = 34 if tails.ceop else 17
    words = np.ndarray((buffer.size - 16,), "V16", buffer, strides=(1,))[starts].view("<u8").reshape(-1, 2)
    date, clock = np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])
    usual = _DATE.matches(date) & _CLOCK.matches(clock) & (buffer[starts + 16] == 32)
    if tails.ceop:
        words = np.ndarray((buffer.size - 16,), "V16", buffer, strides=(1,))[starts + 17].view("<u8").reshape(-1, 2)
        usual &= _DATE.matches(words[:, 0]) & _CLOCK.matches(words[:, 1]) & (buffer[starts + 33] == 32)
    length = ends - starts - offset
    usual &= (length > 0) & (length <= _LONGEST_TAIL)
    time = np.empty(starts.size, dtype="datetime64[ns]")
    codes = np.empty(starts.size, dtype=np.int64)
    rows: Any = slice(None) if usual.all() else np.flatnonzero(usual)
    if usual.any():
        time[rows], valid = _times(date[rows], clock[rows])
        if not valid.all():
            bad = np.arange(starts.size)[rows][np.argmin(valid)]
            text = buffer[starts[bad] : starts[bad] + 16].tobytes().decode()
            raise FormatError(tails.name, f"line {numbers[bad]}: no such time", got=text)
        codes[rows] = _tail_codes(buffer, starts[rows] + offset, length[rows], numbers[rows], tails)
    for row in np.flatnonzero(~usual):
        time[row], codes[row] = _exact_line(buffer[starts[row] : ends[row]].tobytes(), int(numbers[row]), tails)
    return time, codes


def _tail_codes(
    buffer: NDArray[np.uint8],
    starts: NDArray[np.int64],
    length: NDArray[np.int64],
    numbers: NDArray[np.int64],
    tails: _Tails,
) -> NDArray[np.int64]:
    width = -(-int(length.max()) // 8) * 8
    words = np.ndarray((buffer.size - width,), f"V{width}", buffer, strides=(1,))[starts].view("<u8")
    words = np.ascontiguousarray(words.reshape(-1, width // 8).T)  # one row a word, so that each pass is contiguous
    # zeros for the bytes beyond the line's end
    inside = np.tri(width + 1, width, -1, dtype=np.uint8) * np.uint8(255)
    for row in range(int(length.min()) // 8, width // 8):
        words[row] &= np.ascontiguousarray(inside[:, 8 * row : 8 * row + 8]).view("<u8").ravel()[length]
    hashed = np.zeros(starts.size, dtype=np.uint64)
    for word in words:
        # multiply and fold, so that a difference in any byte reaches all bits
        hashed = (hashed ^ word) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
    group, texts = pd.factorize(hashed)
    first = np.empty(texts.size, dtype=np.int64)
    first[group[::-1]] = np.arange(group.size)[::-1]  # of repeated indices the last assignment stays
    if not all((word == word[first][group]).all() for word in words):  # two texts of one hash: compare their bytes
        _, first, group = np.unique(words, axis=1, return_index=True, return_inverse=True)
        group = group.ravel()
    raws = np.ascontiguousarray(words[:, first].T).view(f"S{width}").ravel().tolist()  # without the trailing zeros
    return tails.add(raws, numbers[first].tolist()) + group


def parse_stm(name: str, data: bytes, header: StmHeader) -> Readings:
    """Parse a whole file of the header that `parse_header` found; every line, in the file's order."""
    data = _unix_lines(data)
    ceop = header.format == "ceop_sep"
    place = _place_of(data.lstrip().split(b"\n", 1)[0].decode("utf-8", "replace")).group().lstrip() if ceop else None
    tails = _Tails(name, place)
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10)
    if data and data[-1:] != b"\n":
        last = data[data.rfind(b"\n") + 1 :]
        # the reader of a finished line cannot tell that its last field was cut, so the field must be there
        if len(last.split()) < (15 if ceop else 5) and last.strip() and ends.size:
            raise FormatError(
                name, f"line {ends.size + 1}: the file is cut short", got=last.decode("utf-8", "replace")[-60:]
            )
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64) if ends.size else np.zeros(0, np.int64)
    numbers = np.arange(1, starts.size + 1)
    filled = ends > starts
    for row in np.flatnonzero(filled & (ends - starts < 16)):
        filled[row] = bool(data[starts[row] : ends[row]].strip())
    starts, ends, numbers = starts[filled], ends[filled], numbers[filled]
    if not ceop:
        starts, ends, numbers = starts[1:], ends[1:], numbers[1:]
    buffer = np.frombuffer(data + b"\0" * (_LONGEST_TAIL + 64), np.uint8)
    times, codes = [np.zeros(0, "datetime64[ns]")], [np.zeros(0, np.int64)]
    for low in range(0, starts.size, _CHUNK_LINES):
        part = slice(low, low + _CHUNK_LINES)
        time_part, code_part = _chunk(buffer, starts[part], ends[part], numbers[part], tails)
        times.append(time_part)
        codes.append(code_part)
    return tails.readings(np.concatenate(times), np.concatenate(codes))
