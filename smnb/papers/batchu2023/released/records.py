"""Reading the shards of the public release of Batchu et al.: one record after another, without TensorFlow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from smnb.contract import ContractError, FormatError, SmnbError, check_choice, plain
from smnb.loaders import check_paths
from smnb.loaders.tfrecord import Feature, RecordError, ShardError, parse_example, read_records
from smnb.papers.batchu2023.released import schema
from smnb.papers.batchu2023.sources import SOURCES

_WHO = "open_released"
_PROBLEMS_KEPT = 1000
#: Sentinel-1 flies since 2014; a time outside is another unit than milliseconds, or damage.
_TIMES_MS = (1.3e12, 2.5e12)


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
    bands: dict[str, tuple[str, ...]] = field(repr=False, compare=False)
    _features: dict[str, Feature] = field(repr=False, compare=False)
    _geometry: schema.ImageGeometry = field(repr=False, compare=False)

    @property
    def place(self) -> str:
        """Shard and number, for messages."""
        return f"{self.shard}, record {self.number}"

    @cached_property
    def values(self) -> dict[str, NDArray[np.float32]]:
        """Images of all sources, (band, y, x) in [0, 1], and the values of coarse ones, (band,) in m3 m-3.

        A `FormatError` names shard, record and field that is absent, of another type or size, or out of range.
        """
        found = {}
        try:
            for source, bands in self.bands.items():
                if SOURCES[source].kind == "coarse":
                    found[source] = schema.coarse_value(self._features, source, bands)
                else:
                    found[source] = schema.read_image(self._features, source, bands, self._geometry)
        except FormatError as error:
            raise _placed(error, self.place) from error
        return found

    def source_time(self, source: str) -> np.datetime64:
        """Time of a source's image, UTC; NaT where the record does not say."""
        try:
            stored = schema.scalar(self._features, schema.TIMESTAMPS[source], ("float", "int64"), default=0)
        except FormatError as error:
            raise _placed(error, self.place) from error
        return _time(stored) if _TIMES_MS[0] <= stored <= _TIMES_MS[1] else np.datetime64("NaT", "ns")

    def fingerprint(self, source: str) -> int:
        """CRC-32C of the stored bytes of a source, to see whether two records have the same image."""
        fields = [self._features.get(schema.BANDS[source][band]) for band in self.bands[source]]
        return google_crc32c.value(b"".join(one.raw() for one in fields if one is not None))


def _time(milliseconds: float) -> np.datetime64:
    return np.datetime64(round(milliseconds), "ms").astype("datetime64[ns]")


def _placed(error: SmnbError, place: str) -> FormatError:
    parts = {"got": error.got, "expected": error.expected, "next_step": error.next_step}
    return FormatError(place, f"{error.who}: {error.what}", **parts)


@dataclass
class ReleasedRecords:
    """Records of some shards, read as they are asked for; iterating again reads again.

    `counts` of the current or last iteration: ``records``; and with ``on_error="skip"`` ``records_damaged`` (checksum),
    ``records_invalid`` (content) and ``shards_cut`` (nothing more could be read). `problems`: ``{"shard", "record",
    "reason"}`` of the first thousand that were skipped.
    """

    paths: list[Path]
    bands: dict[str, tuple[str, ...]]
    geometry: schema.ImageGeometry
    verify: bool = True
    on_error: str = "raise"
    catalog_id: str = ""
    synthetic: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, Any]] = field(default_factory=list)

    def check(self, who: str = "ReleasedRecords") -> ReleasedRecords:
        """Check that the first record of the first shard can be read and has the fields that are asked for.

        Whatever `on_error` says it raises a `FormatError` if not, since all records of a release have one schema.
        """
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
        payloads = read_records(path, verify=self.verify)
        while True:
            try:
                number, payload = next(payloads)
            except StopIteration:
                return
            except ShardError as error:
                self._problem("shards_cut", path.name, None, error)
                return
            if number < start:
                continue
            if isinstance(payload, RecordError):
                self._problem("records_damaged", path.name, number, payload)
                continue
            try:
                record = self._record(path.name, number, payload)
            except FormatError as error:
                self._problem("records_invalid", path.name, number, error)
                continue
            self.counts["records"] += 1
            yield record

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
            about = _described(features)
        except FormatError as error:
            raise _placed(error, f"{shard}, record {number}") from error
        return ReleasedRecord(shard, number, *about, self.bands, features, self.geometry)


def _described(features: dict[str, Feature]) -> tuple[str, float, float, np.datetime64, float, str]:
    """Sensor, place, time, label and the label's field of a record."""
    sensor_id = schema.text(features, "sensor_id")
    if sensor_id.count("__") != 2 or not all(sensor_id.split("__")):
        expected = plain("NETWORK__STATION__SENSORTYPE")
        raise FormatError("sensor_id", "the id has another form", got=sensor_id, expected=expected)
    lat, lon = (schema.scalar(features, name) for name in ("center_lat", "center_long"))
    if not (abs(lat) <= 90.0 and abs(lon) <= 180.0):
        raise FormatError("center_lat, center_long", "the place is not on the Earth", got=(lat, lon))
    milliseconds = schema.scalar(features, "timestamp", ("float", "int64"))
    if not _TIMES_MS[0] <= milliseconds <= _TIMES_MS[1]:
        expected = plain("milliseconds since 1970")
        raise FormatError("timestamp", "the time is out of range", got=milliseconds, expected=expected)
    labels = {name: schema.scalar(features, name, default=0.0) for name in ("sm_0_5", "sm_5_5")}
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
    low_factor: int = 16,
    verify: bool = True,
    on_error: str = "raise",
) -> ReleasedRecords:
    """Open shards (TFRecord, gzip or plain) of the released data set; nothing is read yet.

    `bands` to decode by source (`schema.BANDS`) are by default those of the paper's network. `size` is the side of the stored
    images, `crop` that of the centred square to keep (default all), `low_factor` the fine pixels on a side of a low one.
    `verify` checks the CRC-32C of payloads; ``on_error`` raises on damage, or skips and counts it.

    References
    ----------
    Batchu, Nearing and Gulshan (2022), arXiv:2206.09649; data: bucket eoscience-public, CC-BY 4.0.
    """
    check_choice(_WHO, "on_error", on_error, ("raise", "skip"))
    geometry = schema.ImageGeometry(int(size), int(size if crop is None else crop), int(low_factor))
    chosen = schema.check_bands(_WHO, bands)
    return ReleasedRecords(check_paths(_WHO, paths), chosen, geometry, verify, on_error, catalog_id, synthetic)
