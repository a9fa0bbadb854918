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
from smnb.loaders.tfrecord import RecordError, ShardError, parse_example, read_records
from smnb.papers.batchu2023.sources import SOURCES, dequantise

_WHO = "open_released"
_PROBLEMS_KEPT = 1000
_TIMES_MS = (1.3e12, 2.5e12)  # Sentinel-1 flies since 2014; a time outside is another unit than milliseconds, or damage
_FIELDS = yaml.safe_load(Path(__file__).with_name("fields.yaml").read_text(encoding="utf-8"))
LOW_FACTOR = 16  # pixels of 10 m on a side of one of the low grid


def _block_mean(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Mean of the valid pixels of each block; NaN where there is none. Shape (band, y, x) to (band, y/f, x/f)."""
    bands, height, width = image.shape
    blocks = image.reshape(bands, height // factor, factor, width // factor, factor)
    valid = np.isfinite(blocks)
    count = valid.sum(axis=(2, 4))
    total = np.where(valid, blocks, 0.0).sum(axis=(2, 4), dtype=np.float64)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0).astype(np.float32)


class ReleasedRecord:
    """One record: a sensor (``NETWORK__STATION__SENSORTYPE``, at its degrees) at a time with its images, and its place.

    `time` is of the reading, UTC; stored as float32 milliseconds, whose step is 131,072 ms, it is true within 66 s. `label` is
    soil moisture, m3 m-3, of the field ``sm_0_5`` or ``sm_5_5``, which `label_field` names; NaN and "" where the record has none
    (all of ISMN's). A `FormatError` names shard, record and field that is absent, of another type or size, or out of range.
    """

    def __init__(self, shard: str, number: int, payload: bytes, records: ReleasedRecords) -> None:
        self.shard, self.number, self._records = shard, number, records
        try:
            self._features = parse_example(payload)
        except FormatError as error:
            raise self._wrong(error.who, error.what, got=error.got, expected=error.expected) from error
        self.sensor_id: str = self._value("sensor_id", "bytes")
        if self.sensor_id.count("__") != 2 or not all(self.sensor_id.split("__")):
            expected = plain("NETWORK__STATION__SENSORTYPE")
            raise self._wrong("sensor_id", "the id has another form", got=self.sensor_id, expected=expected)
        self.lat, self.lon = (self._value(name, "float") for name in ("center_lat", "center_long"))
        if not (abs(self.lat) <= 90.0 and abs(self.lon) <= 180.0):
            what = "the place is not on the Earth"
            raise self._wrong("center_lat, center_long", what, got=(self.lat, self.lon))
        milliseconds = self._value("timestamp", "float", "int64")
        if not _TIMES_MS[0] <= milliseconds <= _TIMES_MS[1]:
            expected = plain("milliseconds since 1970")
            raise self._wrong("timestamp", "the time is out of range", got=milliseconds, expected=expected)
        self.time = _time(milliseconds)
        labels = {name: self._value(name, "float", default=0.0) for name in ("sm_0_5", "sm_5_5")}
        # a true 0 cannot be told from a missing label
        self.label_field, self.label = next(((name, value) for name, value in labels.items() if value), ("", np.nan))
        if self.label_field and not 0.0 < self.label <= 1.0:
            what, expected = "the label is no volumetric soil moisture", plain("m3 m-3, 0 to 1")
            raise self._wrong(self.label_field, what, got=self.label, expected=expected)

    def _wrong(self, name: str, what: str, **parts: Any) -> FormatError:
        return FormatError(f"{self.shard}, record {self.number}: {name}", what, **parts)

    def _stored(self, name: str, *kinds: str, required: bool = True) -> Any:
        """Values of a field of one of the kinds; None where the record has none of that name and need not."""
        feature = self._features.get(name)
        if feature is None or feature.kind == "empty":
            if not required:
                return None
            step = "Leave its source out with 'bands', or skip the record"
            raise self._wrong(name, "the record lacks this field", next_step=step)
        if feature.kind not in kinds:
            raise self._wrong(name, "the field has another type", got=feature.kind, expected=" or ".join(kinds))
        try:
            return {"bytes": feature.bytes_list, "float": feature.floats, "int64": feature.integers}[feature.kind]()
        except FormatError as error:
            raise self._wrong(name, error.what, got=error.got, expected=error.expected) from error

    def _value(self, name: str, *kinds: str, default: float | None = None) -> Any:
        """The one value of a field, a text or a finite number exactly as stored; `default` where it is absent, unless None."""
        values = self._stored(name, *kinds, required=default is None)
        if values is None:
            return default
        text = kinds == ("bytes",)
        if len(values) != 1 or not (text or np.isfinite(values[0])):
            what = f"the field is no single {'text' if text else 'finite number'}"
            raise self._wrong(name, what, got=list(values[:3]), expected=1)
        try:
            return values[0].decode("utf-8") if text else values[0].item()
        except UnicodeDecodeError as error:
            raise self._wrong(name, "the text is no UTF-8", got=values[0][:40]) from error

    def _check_8_bit(self, name: str, stored: NDArray[np.integer]) -> None:
        if stored.size and (stored.min() < 0 or stored.max() > 255):
            raise self._wrong(name, "values are outside 0..255", got=(int(stored.min()), int(stored.max())))

    @cached_property
    def values(self) -> dict[str, NDArray[np.float32]]:
        """Images of all sources, (band, y, x) in [0, 1], and the values of coarse ones, (band,) in m3 m-3."""
        return {source: self._source(source, bands) for source, bands in self._records.bands.items()}

    def _source(self, source: str, bands: Sequence[str]) -> NDArray[np.float32]:
        """Bands of a source, NaN where missing: crop x crop pixels of 10 m, for the low grid their mean over 160 m."""
        names, size, crop = _FIELDS[source]["bands"], self._records.size, self._records.crop
        if SOURCES[source].kind == "coarse":
            stored = np.array([self._value(names[band], "int64", default=0) for band in bands])
            self._check_8_bit(names[bands[0]], stored)
            return dequantise(stored, zero_is_missing=True)
        image = np.full((len(bands), crop, crop), np.nan, dtype=np.float32)
        kept = slice((size - crop) // 2, (size + crop) // 2)
        for number, band in enumerate(bands):
            stored = self._stored(names[band], "int64")
            if stored.size != size**2:
                what, expected = "the image has another number of pixels", plain(f"{size} x {size} = {size**2}")
                raise self._wrong(names[band], what, got=stored.size, expected=expected)
            if source != "dem":  # the one that is stored as it is
                self._check_8_bit(names[band], stored)
            if stored.any():
                centre = stored.reshape(size, size)[kept, kept]
                image[number] = SOURCES["dem"].normalise(band, centre) if source == "dem" else dequantise(centre)
        if SOURCES[source].kind != "low":
            return image
        if source == "soilgrids":
            image[:, ~(image > 0).any(axis=0)] = np.nan
        return _block_mean(image, LOW_FACTOR)

    def source_time(self, source: str) -> np.datetime64:
        """Time of a source's image, UTC; NaT where the record does not say."""
        stored = self._value(_FIELDS[source]["time"], "float", "int64", default=0)
        return _time(stored) if _TIMES_MS[0] <= stored <= _TIMES_MS[1] else np.datetime64("NaT", "ns")

    def fingerprint(self, source: str) -> int:
        """CRC-32C of the stored bytes of a source, to see whether two records have the same image."""
        fields = [self._features.get(_FIELDS[source]["bands"][band]) for band in self._records.bands[source]]
        return google_crc32c.value(b"".join(one.raw() for one in fields if one is not None))


def _time(milliseconds: float) -> np.datetime64:
    return np.datetime64(round(milliseconds), "ms").astype("datetime64[ns]")


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
            _ = ReleasedRecord(self.paths[0].name, number, payload, self).values
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
                    record = ReleasedRecord(path.name, number, payload, self)
                except FormatError as error:
                    kind = "records_damaged" if error is payload else "records_invalid"
                    self._problem(kind, path.name, number, error)
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
