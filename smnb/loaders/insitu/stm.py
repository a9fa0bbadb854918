"""ISMN's data files (.stm): both formats, header+values and CEOP in separate files.

A file holds few different "value flag provider" texts among many lines (values have three or four decimals), so each
different text is parsed once, and the times, which differ, are parsed as one array.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from smnb.contract import FormatError, plain
from smnb.loaders.insitu.sensors import READINGS, LostLines

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
#: An elevation is often unknown: a word, or nothing at all (not in the CEOP format, where a value would take its place).
_HEIGHT = rf"({_NUMBER}|(?i:nan|none|null|unknown|n/?a|-+))"
_PLACE = rf"(\S+)\s+(\S+)\s+(.+?)\s+({_DECIMAL})\s+({_DECIMAL})\s+{_HEIGHT}\s+({_NUMBER})\s+({_NUMBER})"
_FILE_NAME = re.compile(
    rf"(?P<place>.+)_(?P<variable>[a-z]+(?:_h)?)_(?P<depth_from>{_DECIMAL})_(?P<depth_to>{_DECIMAL})"
    r"_(?P<instrument>.*)_(?P<start>\d{8})_(?P<end>\d{8})\.stm",
    re.IGNORECASE,
)
_HEADERS = [re.compile(rf"\s*{one}(?:\s+(.*?))?\s*") for one in (_PLACE, _PLACE.replace(rf"{_HEIGHT}\s+", "()"))]
_CEOP_PLACE = re.compile(rf"\s*{_PLACE}\s+(?=\S)")
_TIME = re.compile(r"\s*(\d{4})/(\d{1,2})/(\d{1,2})\s+(\d{1,2}):(\d{2})(?::00)?(?=\s|$)")
_ZONE = re.compile(
    r"\s*\d{4}/\d{1,2}/\d{1,2}[\sT]+\d{1,2}:\d{2}(?::\d{2})?\s*(Z|UTC|[A-Z]{2,4}T|[+-]\d{2}:?\d{2})(?=\s|$)"
)
_FLAG = re.compile(r"[A-Z]\d*(,[A-Z]\d*)*")
HEAD_BYTES = 4096  # as much of a file's beginning as is searched for its place
_DEPTH_ROUNDING = 0.0051  # header depths have two decimals in most archives, file names six


def _unix_lines(data: bytes) -> bytes:
    """ISMN has shipped LF, CRLF, CR and LF CR; blank lines are skipped later, a byte order mark here."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def count_lines(data: bytes) -> int:
    """Lines of data in a file that is not parsed: a line starts with its year; a header does not."""
    return len(re.findall(rb"^\s*\d{4}/", _unix_lines(data), re.MULTILINE))


def _place_of(line: str) -> re.Match[str] | None:
    """Network, station and place of a line of the CEOP format, after its one or two times."""
    time = _TIME.match(line)
    second = _TIME.match(line, time.end())
    return _CEOP_PLACE.match(line, second.end() if second else time.end())


def _opening(head: bytes, depths: tuple[float, float]) -> tuple[int, str, str, re.Match[str] | None]:
    """The first line that says the place: how many filled lines are before it, its layout, its text, and its match."""
    lines = [line.decode("utf-8", "replace") for line in _unix_lines(head).split(b"\n") if line.strip()]
    for number, line in enumerate(lines):
        timed = _TIME.match(line) is not None
        found = [_place_of(line)] if timed else [one.fullmatch(line) for one in _HEADERS]
        found = [one for one in found if one is not None]
        if found:
            # of a header with or without an elevation it is the one whose depths are those of the file's name
            best = min(found, key=lambda one: max(abs(float(one[k]) - depths[k - 7]) for k in (7, 8)) > _DEPTH_ROUNDING)
            return number, "ceop_sep" if timed else "header_values", line, best
    return 0, "", lines[0] if lines else "", None


def _height(text: str) -> float:
    """Elevation in m, NaN where it is a word, a fill or impossible."""
    try:
        height = float(text)
    except ValueError:
        return float("nan")
    return height if -450.0 <= height <= 9000.0 and height not in (-99.0, -99.9, -99.99) else float("nan")


def parse_header(name: str, head: bytes) -> dict[str, Any]:
    """Tell the format of a file and its sensor's columns of the sensor table: degrees, and m (depths positive downwards).

    `name` is the member's path, since the variable, and in the CEOP format the instrument, are only there; `head` is the
    file's beginning, at least its first line. Network and station are those inside the file, whose names keep characters
    that file names lose. Depths are the file name's, which has six decimals, once they agree with the rounded ones inside.
    """
    named = _FILE_NAME.fullmatch(PurePosixPath(name).name)
    if named is None:
        what = "the name is not of ISMN's form, which alone says the variable"
        raise FormatError(name, what, expected="CSE_Network_Station_sm_0.050000_0.050000_Sensor_20190101_20220101.stm")
    depth_from, depth_to = float(named["depth_from"]), float(named["depth_to"])
    _, layout, first, match = _opening(head, (depth_from, depth_to))
    if not first:
        raise FormatError(name, "the file is empty")
    if match is None:
        _refuse_zone(name, 1, first)
        what = "the first line has no numbers where coordinates and depths should be"
        expected = plain("CSE, network, station, latitude, longitude, elevation, depth from, depth to")
        next_step = "Download the archive again; a file without its header line cannot be placed"
        raise FormatError(name, what, got=first[:120], expected=expected, next_step=next_step)
    lat, lon, top, bottom = (float(match[k]) for k in (4, 5, 7, 8))
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise FormatError(name, "the coordinates are out of range", got=(lat, lon))
    if abs(depth_from - top) > _DEPTH_ROUNDING or abs(depth_to - bottom) > _DEPTH_ROUNDING:
        what = "the depths in the name and inside contradict each other"
        raise FormatError(name, what, got=(depth_from, depth_to), expected=(top, bottom))
    inside, code = match[9] if layout == "header_values" else None, named["variable"].lower()
    return {
        **{"format": layout, "network": match[2], "station": match[3], "lat": lat, "lon": lon},
        **{
            "elevation": _height(match[6]),
            "depth_from": depth_from,
            "depth_to": depth_to,
            "instrument": inside or named["instrument"],
        },
        "variable": VARIABLE_NAMES.get(code, code),
    }


def _refuse_zone(name: str, number: int, line: str) -> None:
    if zone := _ZONE.match(line):
        what = f"line {number}: the time has a zone, {zone[1]!r}"
        expected = plain("UTC as yyyy/mm/dd HH:MM, without a zone")
        next_step = "Convert the file to UTC; ISMN's own files are"
        raise FormatError(name, what, got=line[:60], expected=expected, next_step=next_step)


def _usual_times(buffer: NDArray[np.uint8], starts: NDArray[np.int64]) -> pa.Array | None:
    """Times of lines that all begin "yyyy/mm/dd HH:MM "; None where one does not, or has no such time."""
    text = np.ndarray((buffer.size - 16,), "V16", buffer, strides=(1,))[starts].view(np.uint8).reshape(-1, 16)
    if (text[:, [4, 7, 10, 13]] != list(b"// :")).any() or (buffer[starts + 16] != ord(" ")).any():
        return None
    text[:, [4, 7]] = ord("-")  # as ISO has it
    buffers = [None, pa.py_buffer(np.arange(0, text.size + 1, 16)), pa.py_buffer(text)]
    try:
        return pa.Array.from_buffers(pa.large_string(), len(text), buffers).cast(READINGS.field("time").type)
    except pa.ArrowInvalid:
        return None


def _times_and_tails(
    name: str, lines: pa.LargeBinaryArray, numbers: NDArray[np.int64], ceop: bool, lost: LostLines
) -> tuple[NDArray[np.int64], pa.Array, pa.LargeBinaryArray]:
    """Of lines of any layout, one by one: the numbers of those that start with a time, the times, and what comes after."""
    kept, times, tails = [], [], []
    for line, number in zip(lines.to_pylist(), numbers.tolist(), strict=True):
        text = line.decode("utf-8", "replace").rstrip("\n")
        match = _TIME.match(text)
        try:
            if match is None:
                _refuse_zone(name, number, text)
                what = f"line {number}: it does not start with a time; the file is damaged or cut short"
                raise FormatError(name, what, got=text[:60], expected=plain("yyyy/mm/dd HH:MM, UTC"))
            iso = "{}-{:0>2}-{:0>2} {:0>2}:{}".format(*match.groups())
            times.append(pa.scalar(iso).cast(READINGS.field("time").type))
        except FormatError as error:
            lost.add(error)
            continue
        except pa.ArrowInvalid:
            lost.add(FormatError(name, f"line {number}: no such time", got=match.group().strip()))
            continue
        second = _TIME.match(text, match.end()) if ceop else None
        tails.append(text[(second or match).end() :].encode())
        kept.append(number)
    return np.array(kept, np.int64), pa.array(times, READINGS.field("time").type), pa.array(tails, lines.type)


@lru_cache(maxsize=1 << 18)
def _split_tail(raw: bytes) -> tuple[float, str, str]:
    """Value, ISMN flag and provider flag; the archives repeat a few thousand texts millions of times."""
    parts = raw.decode("utf-8", "replace").split(None, 2)
    value, flag = float(parts[0]), parts[1]
    if _FLAG.fullmatch(flag) is None or value in (float("inf"), float("-inf")) or b"\0" in raw:
        raise ValueError("not a flag of ISMN's form")
    return value, flag, parts[2].strip() if len(parts) > 2 else ""


def _after_place(raw: bytes, place: bytes) -> bytes | None:
    """What comes after network, station and place in a line of the CEOP format; None if they are others."""
    if raw.startswith(place):
        return raw[len(place) :]
    match = _CEOP_PLACE.match(raw.decode("utf-8", "replace"))
    same = match is not None and match.group().split() == place.decode().split()
    return match.string[match.end() :].encode() if same else None


def parse_stm(name: str, data: bytes, lost: LostLines, header: dict[str, Any]) -> pa.Table:
    """Readings (`READINGS`) of a whole file of the header that `parse_header` found, in the file's order.

    A bad line costs that line, which is counted in `lost`; a `FormatError` says what is wrong if no line is left.
    """
    data, ceop = _unix_lines(data), header["format"] == "ceop_sep"
    before, _, _, match = _opening(data[:HEAD_BYTES], (header["depth_from"], header["depth_to"]))
    place = match.group().lstrip() if ceop else ""
    if data[-1:] != b"\n":
        start = data.rfind(b"\n") + 1
        last = data[start:]
        # the reader of a finished line cannot tell that its last field was cut, so the field must be there
        if len(last.split()) < (15 if ceop else 5) and last.strip() and start:
            number, got = len(data.splitlines()), last.decode("utf-8", "replace")[-60:]
            lost.add(FormatError(name, f"line {number}: the file is cut short", got=got))
            data = data[:start]
        data += b"\n"
    buffer = np.frombuffer(data + bytes(34), np.uint8)  # with as many spare bytes as are read past a line
    offsets = np.concatenate([[0], np.flatnonzero(buffer == ord("\n")) + 1])
    length = np.diff(offsets)
    filled = length > 1
    for row in np.flatnonzero(filled & (length <= 16)):
        filled[row] = bool(data[offsets[row] : offsets[row + 1]].strip())
    rows = np.flatnonzero(filled)
    if before:
        what = f"line {rows[0] + 1}: it is before the line that says the place"
        lost.add(FormatError(name, what, got=data[: length[0]][:60]), before)
    rows = rows[before + (not ceop) :]
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(buffer)]
    lines = pa.Array.from_buffers(pa.large_binary(), length.size, buffers)
    together = rows.size and rows[-1] - rows[0] + 1 == rows.size
    lines = lines[rows[0] : rows[-1] + 1] if together else lines.take(pa.array(rows))
    time, numbers = _usual_times(buffer, offsets[rows]), rows + 1
    if time is not None and (not ceop or _usual_times(buffer, offsets[rows] + 17) is not None):
        tails = pc.binary_slice(lines, 34 if ceop else 17, int(length.max()))
    else:
        numbers, time, tails = _times_and_tails(name, lines, numbers, ceop, lost)
    encoded = tails.dictionary_encode()
    parsed, bad, codes = [], {}, encoded.indices.to_numpy()
    for code, raw in enumerate(encoded.dictionary.to_pylist()):
        tail = _after_place(raw, place.encode()) if ceop else raw
        try:
            parsed.append(_split_tail(tail))
        except (AttributeError, IndexError, ValueError):
            parsed.append((np.nan, "", ""))
            bad[code] = raw, tail
    good = ~np.isin(codes, list(bad)) if bad else np.ones(codes.size, bool)
    if bad:
        raw, tail = bad[codes[np.argmin(good)]]
        what, expected = (
            "no value and flag after the time; the file is damaged or cut short",
            "value, ISMN flag, provider flag",
        )
        if tail is None:
            what, expected = "no station and place, or others than in the first line", " ".join(place.split())
        what, got = f"line {numbers[np.argmin(good)]}: {what}", raw.decode("utf-8", "replace").strip()[:100]
        lost.add(FormatError(name, what, got=got, expected=plain(expected)), int(np.count_nonzero(~good)))
    if lost.first is not None and not good.any():
        raise lost.first
    value = np.array([one[0] for one in parsed], np.float32)[codes]
    texts = [
        pa.array([one[k] for one in parsed], pa.string()).dictionary_encode().take(encoded.indices) for k in (1, 2)
    ]
    table = pa.Table.from_arrays([time, pa.array(value), *texts], schema=READINGS)
    return table.filter(pa.array(good)) if bad else table
