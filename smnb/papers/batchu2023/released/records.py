"""The public release of Batchu et al., one record after another, without TensorFlow: its fields, and how they become arrays.

Every image is 512 x 512 at 10 m, SoilGrids and LAI too, stored as 8-bit-like integers of 0..255 that scale the ranges of the
sources; only the DEM is in metres. There is no flag for missing: 0 is what a missing value has. So

- a coarse value of 0 is missing (no product has 0 there);
- a band of which every pixel is 0 is missing, and single zeros stay: they are the low end of the range (VH at or below
  -25 dB is common over water, Sentinel-2 has none), or missing, which cannot be told;
- a SoilGrids pixel where all bands are 0 is missing, since sand, silt and clay sum to 1000 g kg-1 where there is soil.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import yaml
from numpy.typing import NDArray

from smnb.contract import ContractError, FormatError, ParameterError, SmnbError, check_choice, plain
from smnb.loaders import check_paths
from smnb.loaders.tfrecord import Feature, RecordError, ShardError, parse_example, read_records
from smnb.papers.batchu2023.sources import SOURCES, dequantise

_WHO = "open_released"
_PROBLEMS_KEPT = 1000
#: Sentinel-1 flies since 2014; a time outside is another unit than milliseconds, or damage.
_TIMES_MS = (1.3e12, 2.5e12)
_FIELDS = yaml.safe_load(Path(__file__).with_name("fields.yaml").read_text(encoding="utf-8"))
#: Pixels of 10 m on a side of one of the low grid.
LOW_FACTOR = 16


def _value(features: Mapping[str, Feature], name: str, *kinds: str, default: float | None = None) -> Any:
    """The one value of a field, a text or a finite number exactly as stored; `default` where it is absent, unless None."""
    feature = _feature(features, name, *kinds, required=default is None)
    if feature is None:
        return default
    values = {"bytes": feature.bytes_list, "float": feature.floats, "int64": feature.integers}[feature.kind]()
    text = feature.kind == "bytes"
    if len(values) != 1 or not (text or np.isfinite(values[0])):
        what = f"the field is no single {'text' if text else 'finite number'}"
        raise FormatError(name, what, got=list(values[:3]), expected=1)
    try:
        return values[0].decode("utf-8") if text else values[0].item()
    except UnicodeDecodeError as error:
        raise FormatError(name, "the text is no UTF-8", got=values[0][:40]) from error


def _feature(features: Mapping[str, Feature], name: str, *kinds: str, required: bool = True) -> Feature | None:
    """A feature of one of the kinds, None where the record has none of that name and need not."""
    feature = features.get(name)
    if feature is None or feature.kind == "empty":
        if not required:
            return None
        step = "Leave its source out with 'bands', or skip the record"
        raise FormatError(name, "the record lacks this field", next_step=step)
    if feature.kind not in kinds:
        raise FormatError(name, "the field has another type", got=feature.kind, expected=" or ".join(kinds))
    return feature


def _check_8_bit(name: str, stored: NDArray[np.integer]) -> None:
    if stored.size and (stored.min() < 0 or stored.max() > 255):
        raise FormatError(name, "values are outside 0..255", got=(int(stored.min()), int(stored.max())))


def _block_mean(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Mean of the valid pixels of each block; NaN where there is none. Shape (band, y, x) to (band, y/f, x/f)."""
    bands, height, width = image.shape
    blocks = image.reshape(bands, height // factor, factor, width // factor, factor)
    valid = np.isfinite(blocks)
    count = valid.sum(axis=(2, 4))
    total = np.where(valid, blocks, 0.0).sum(axis=(2, 4), dtype=np.float64)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0).astype(np.float32)


@dataclass(frozen=True)
class ReleasedRecord:
    """One record: a sensor (``NETWORK__STATION__SENSORTYPE``, at its degrees) at a time with its images, and its place."""

    shard: str
    number: int
    sensor_id: str
    lat: float
    lon: float
    time: np.datetime64
    """UTC, of the reading. Stored as float32 milliseconds, whose step is 131,072 ms: true within 66 s."""
    label: float
    """Soil moisture, m3 m-3; NaN where the record has none (all of ISMN's)."""
    label_field: str
    """``"sm_0_5"``, ``"sm_5_5"``, or empty."""
    _features: dict[str, Feature] = field(repr=False, compare=False)
    _records: ReleasedRecords = field(repr=False, compare=False)

    @cached_property
    def values(self) -> dict[str, NDArray[np.float32]]:
        """Images of all sources, (band, y, x) in [0, 1], and the values of coarse ones, (band,) in m3 m-3.

        A `FormatError` names shard, record and field that is absent, of another type or size, or out of range.
        """
        try:
            return {source: self._source(source, bands) for source, bands in self._records.bands.items()}
        except FormatError as error:
            raise _placed(error, self.shard, self.number) from error

    def _source(self, source: str, bands: Sequence[str]) -> NDArray[np.float32]:
        """Bands of a source, NaN where missing: crop x crop pixels of 10 m, for the low grid their mean over 160 m."""
        names, size, crop = _FIELDS[source]["bands"], self._records.size, self._records.crop
        if SOURCES[source].kind == "coarse":
            stored = np.array([_value(self._features, names[band], "int64", default=0) for band in bands])
            _check_8_bit(names[bands[0]], stored)
            return dequantise(stored, zero_is_missing=True)
        image = np.full((len(bands), crop, crop), np.nan, dtype=np.float32)
        kept = slice((size - crop) // 2, (size + crop) // 2)
        for number, band in enumerate(bands):
            stored = _feature(self._features, names[band], "int64").integers()
            if stored.size != size**2:
                what, expected = "the image has another number of pixels", plain(f"{size} x {size} = {size**2}")
                raise FormatError(names[band], what, got=stored.size, expected=expected)
            centre = stored.reshape(size, size)[kept, kept]
            if source == "dem":  # the one that is stored as it is
                scaled = SOURCES["dem"].normalise(band, centre)
            else:
                _check_8_bit(names[band], stored)
                scaled = dequantise(centre)
            if stored.any():
                image[number] = scaled
        if SOURCES[source].kind != "low":
            return image
        if source == "soilgrids":
            image[:, ~(image > 0).any(axis=0)] = np.nan
        return _block_mean(image, LOW_FACTOR)

    def source_time(self, source: str) -> np.datetime64:
        """Time of a source's image, UTC; NaT where the record does not say."""
        try:
            stored = _value(self._features, _FIELDS[source]["time"], "float", "int64", default=0)
        except FormatError as error:
            raise _placed(error, self.shard, self.number) from error
        return _time(stored) if _TIMES_MS[0] <= stored <= _TIMES_MS[1] else np.datetime64("NaT", "ns")

    def fingerprint(self, source: str) -> int:
        """CRC-32C of the stored bytes of a source, to see whether two records have the same image."""
        fields = [self._features.get(_FIELDS[source]["bands"][band]) for band in self._records.bands[source]]
        return google_crc32c.value(b"".join(one.raw() for one in fields if one is not None))


def _time(milliseconds: float) -> np.datetime64:
    return np.datetime64(round(milliseconds), "ms").astype("datetime64[ns]")


def _placed(error: SmnbError, shard: str, number: int) -> FormatError:
    parts = {"got": error.got, "expected": error.expected, "next_step": error.next_step}
    return FormatError(f"{shard}, record {number}", f"{error.who}: {error.what}", **parts)


@dataclass
class ReleasedRecords:
    """Records of shards, read as they are asked for; iterating again reads again.

    `counts` of the current or last iteration: ``records``; and with ``on_error="skip"`` ``records_damaged`` (checksum),
    ``records_invalid`` (content) and ``shards_cut`` (nothing more could be read). `problems`: ``{"shard", "record",
    "reason"}`` of the first thousand that were skipped.
    """

    paths: list[Path]
    bands: dict[str, tuple[str, ...]]
    size: int
    crop: int
    verify: bool = True
    on_error: str = "raise"
    catalog_id: str = ""
    synthetic: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, Any]] = field(default_factory=list)

    def check(self, who: str = "ReleasedRecords") -> ReleasedRecords:
        """Raise a `FormatError` unless the first record has the fields asked for: all of a release have one schema."""
        for number, payload in read_records(self.paths[0], verify=self.verify):
            if isinstance(payload, RecordError):
                raise payload
            _ = self._record(self.paths[0].name, number, payload).values
            return self
        raise ContractError(who, f"{self.paths[0].name} holds no record", next_step="Download the shard again")

    def __iter__(self) -> Iterator[ReleasedRecord]:
        """Yield every record whose images can be decoded; damage raises or is counted."""
        self.counts.clear()
        self.problems.clear()
        for path in self.paths:
            yield from (record for record in self.shard(path) if self.decode(record))

    def decode(self, record: ReleasedRecord) -> bool:
        """Decode a record's images; False, and counted, where one is damaged and damage is skipped."""
        try:
            _ = record.values
        except FormatError as error:
            self.counts["records"] -= 1
            self._problem("records_invalid", record.shard, record.number, error)
            return False
        return True

    def shard(self, path: Path, *, start: int = 0) -> Iterator[ReleasedRecord]:
        """Yield the records of one shard from number `start` on, images not decoded yet; counts go on from where they were."""
        try:
            for number, payload in read_records(path, verify=self.verify):
                if number < start:
                    continue
                try:
                    if isinstance(payload, RecordError):
                        raise payload
                    record = self._record(path.name, number, payload)
                except FormatError as error:
                    self._problem(
                        "records_damaged" if error is payload else "records_invalid", path.name, number, error
                    )
                    continue
                self.counts["records"] += 1
                yield record
        except ShardError as error:
            self._problem("shards_cut", path.name, None, error)

    def _problem(self, kind: str, shard: str, number: int | None, error: SmnbError) -> None:
        """Raise `error`, or count it where damage is skipped."""
        if self.on_error == "raise":
            raise error
        self.counts[kind] += 1
        if len(self.problems) < _PROBLEMS_KEPT:
            self.problems.append({"shard": shard, "record": number, "reason": str(error)})

    def _record(self, shard: str, number: int, payload: bytes) -> ReleasedRecord:
        try:
            features = parse_example(payload)
            return ReleasedRecord(shard, number, *_described(features), features, self)
        except FormatError as error:
            raise _placed(error, shard, number) from error


def _described(features: dict[str, Feature]) -> tuple[str, float, float, np.datetime64, float, str]:
    """Sensor, place, time, label and the label's field of a record."""
    sensor_id = _value(features, "sensor_id", "bytes")
    if sensor_id.count("__") != 2 or not all(sensor_id.split("__")):
        expected = plain("NETWORK__STATION__SENSORTYPE")
        raise FormatError("sensor_id", "the id has another form", got=sensor_id, expected=expected)
    lat, lon = (_value(features, name, "float") for name in ("center_lat", "center_long"))
    if not (abs(lat) <= 90.0 and abs(lon) <= 180.0):
        raise FormatError("center_lat, center_long", "the place is not on the Earth", got=(lat, lon))
    milliseconds = _value(features, "timestamp", "float", "int64")
    if not _TIMES_MS[0] <= milliseconds <= _TIMES_MS[1]:
        expected = plain("milliseconds since 1970")
        raise FormatError("timestamp", "the time is out of range", got=milliseconds, expected=expected)
    labels = {name: _value(features, name, "float", default=0.0) for name in ("sm_0_5", "sm_5_5")}
    # a true 0 cannot be told from a missing label
    name, label = next(((name, value) for name, value in labels.items() if value != 0.0), ("", np.nan))
    if name and not 0.0 < label <= 1.0:
        expected = plain("m3 m-3, 0 to 1")
        raise FormatError(name, "the label is no volumetric soil moisture", got=label, expected=expected)
    return sensor_id, lat, lon, _time(milliseconds), label, name


def open_released(
    paths: Sequence[str | Path],
    *,
    catalog_id: str,
    synthetic: bool = False,
    bands: Mapping[str, Sequence[str]] | None = None,
    size: int = 512,
    crop: int | None = None,
    verify: bool = True,
    on_error: str = "raise",
) -> ReleasedRecords:
    """Open shards (TFRecord, gzip or plain) of the released data set; nothing is read yet.

    `bands` to decode by source are by default those of the paper's network. `size` is the side of the stored images, `crop`
    that of the centred square to keep (default all). `verify` checks the CRC-32C of payloads; ``on_error`` raises on damage, or
    skips and counts it.

    References
    ----------
    Batchu, Nearing and Gulshan (2022), arXiv:2206.09649; data: bucket eoscience-public, CC-BY 4.0.
    """
    check_choice(_WHO, "on_error", on_error, ("raise", "skip"))
    crop = size if crop is None else crop
    if not 0 < crop <= size or (size - crop) % 2 or crop % LOW_FACTOR:
        expected = plain(f"a multiple of {LOW_FACTOR} up to {size}, an even number of pixels smaller")
        raise ParameterError(_WHO, "the crop does not fit", got=crop, expected=expected)
    if bands is None:
        bands = {name: one.bands for name, one in SOURCES.items() if name != "modis_lai"}
    chosen = {source: (names,) if isinstance(names, str) else tuple(names) for source, names in bands.items()}
    if unknown := sorted(set(chosen) - set(_FIELDS)) or not chosen:
        what = "unknown source in 'bands'" if chosen else "'bands' names no source"
        raise ParameterError(_WHO, what, got=unknown if chosen else {}, expected=list(_FIELDS))
    for source, names in chosen.items():
        check_choice(_WHO, f"bands of {source}", names, _FIELDS[source]["bands"])
    return ReleasedRecords(check_paths(_WHO, paths), chosen, size, crop, verify, on_error, catalog_id, synthetic)
