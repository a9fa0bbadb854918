"""From released records to a sample store: label, images, sensor table, splits; a killed conversion goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from smnb.contract import ContractError, ParameterError
from smnb.files import HASHES, content_of, fingerprint, held_output
from smnb.papers.batchu2023.matchups import add_splits, finished_store, make_splits, soil_at_sensors
from smnb.papers.batchu2023.released.labels import IsmnLabels
from smnb.papers.batchu2023.released.records import LOW_FACTOR, ReleasedRecord, ReleasedRecords
from smnb.papers.batchu2023.sources import SOURCES
from smnb.papers.batchu2023.store import SampleStore, SampleStoreWriter
from smnb.sensors import add_strata

_WHO = "convert_released"
#: Columns that the sensor table takes from ISMN where the label came from there.
_ISMN_COLUMNS = ["elevation", "depth_from", "depth_to", "climate_KG", "lc_2010"]
_ISMN_COLUMNS += ["sand_fraction", "silt_fraction", "clay_fraction", "organic_carbon", "saturation"]
_NAMES, _FOUND = ("network", "station", "instrument"), ("ismn_sensor_id", "ismn_distance_km")
_SENSOR_COLUMNS = ("sensor_id", *_NAMES, "lat", "lon", "n_samples", *_FOUND)
_MOVED_KM = 0.1


class Conversion(NamedTuple):
    """A finished store and how it came about: `IsmnLabels.ambiguities`, and records and shards that were skipped, with reasons.

    `counts`: ``records`` read; of these ``own_label`` and ``ismn_label``, or no label by reason; ``missing`` by source;
    ``samples``; ``static_differs``: records whose static images differ from their sensor's first; damage that was skipped.
    """

    store: SampleStore
    counts: dict[str, Any]
    ambiguities: pd.DataFrame
    problems: list[dict[str, Any]]


class _Collector:
    """Samples on their way to the writer, and everything that a resumed conversion needs to know."""

    def __init__(self, writer: SampleStoreWriter, records: ReleasedRecords, labels: IsmnLabels | None) -> None:
        self.writer, self.records, self.labels = writer, records, labels
        self.counts: Counter[str] = Counter()
        self.sensors: dict[str, dict[str, Any]] = {}
        self.start, self.place = writer.written, [0, 0]
        self._static = [name for name, one in writer.sources.items() if one.static]
        self._dynamic = [name for name in writer.sources if name not in self._static]
        self._rows: list[dict[str, Any]] = []
        self._images: list[tuple[str, int, np.ndarray]] = []
        if (note := writer.note) is not None:
            self.place, self.counts = list(note["place"]), Counter(note["counts"])
            self.sensors = {one["sensor_id"]: one for one in note["sensors"]}
            records.counts, records.problems = Counter(note["damage"]), list(note["problems"])
            if labels is not None:
                labels.restore(note["labels"])

    def add(self, record: ReleasedRecord) -> None:
        """Label a record, check what it lacks, and keep it as a sample unless it is dropped."""
        value, time, match = record.label, record.time, None
        if not record.label_field and self.labels is not None:
            value, time, _, match = self.labels.label(record.sensor_id, record.lat, record.lon, time)
        elif not record.label_field:
            self.counts["no_label"] += 1
        if not np.isfinite(value) or not self.records.decode(record):
            return
        for name, one in self.writer.sources.items():
            # a band of which all is missing; most images are told from their first pixel
            absent = (np.isnan(np.ravel(band)[0]) and np.isnan(band).all() for band in record.values[name])
            if not one.optional and any(absent):
                self.counts[f"missing_{name}"] += 1  # under the first, so that the counts add up
                return
        sensor = self.sensors.get(record.sensor_id) or self._new_sensor(record, match)
        if any(record.fingerprint(name) != known for name, known in sensor["static"].items()):
            self.counts["static_differs"] += 1
        if max(abs(record.lat - sensor["lat"]), abs(record.lon - sensor["lon"])) > _MOVED_KM / 111.0:
            self.counts["sensor_moved"] += 1
        self.counts["own_label" if record.label_field else "ismn_label"] += 1
        sensor["n_samples"] += 1
        row = {"label": value, "time": time, "sensor": sensor["row"]}
        for name in self._dynamic:
            # images wait as the store has them, since a chunk of them does; coarse values keep float32
            kept = np.float16 if record.values[name].ndim == 3 else np.float32
            row |= {f"{name}/values": record.values[name].astype(kept), f"{name}/time": record.source_time(name)}
        self._rows.append(row)

    def _new_sensor(self, record: ReleasedRecord, match: Any) -> dict[str, Any]:
        sensor: dict[str, Any] = {one: getattr(record, one) for one in ("sensor_id", "lat", "lon")}
        sensor |= dict(zip(_NAMES, record.sensor_id.split("__"), strict=True))
        sensor |= {"row": len(self.sensors), "n_samples": 0, "ismn_sensor_id": "", "ismn_distance_km": None}
        if match is not None:
            sensor |= {name: None if pd.isna(match.row[name]) else match.row[name] for name in _ISMN_COLUMNS}
            sensor |= {"ismn_sensor_id": match.row["sensor_id"], "ismn_distance_km": round(match.distance_km, 4)}
        sensor["static"] = {name: record.fingerprint(name) for name in self._static}
        self.sensors[record.sensor_id] = sensor
        self._images += [(name, sensor["row"], record.values[name]) for name in self._static]
        return sensor

    def flush(self, place: Sequence[int], *, whole: bool = False) -> None:
        """Write what is together, if it is a chunk (or the rest), and note where to go on."""
        if not self._rows or (whole and len(self._rows) < self.writer.chunk):
            return
        self.place = list(place)
        for name, row, image in self._images:
            self.writer.write(row, {f"{name}/values": image[np.newaxis]})
        rows, self._rows, self._images = self._rows, [], []
        note = {
            "place": self.place,
            "counts": dict(self.counts),
            "sensors": list(self.sensors.values()),
            "damage": dict(self.records.counts),
            "problems": list(self.records.problems),
            "labels": None if self.labels is None else self.labels.state(),
        }
        self.writer.write(self.start, {key: np.stack([one[key] for one in rows]) for key in rows[0]}, note=note)
        self.start += len(rows)

    def summary(self) -> dict[str, Any]:
        """Count everything: the records by what became of them add up to those read."""
        lost = {} if self.labels is None else {k: n for k, n in self.labels.counts.items() if k != "labelled"}
        return {
            "records": self.records.counts["records"],
            **{name: int(n) for name, n in sorted({**self.records.counts, **self.counts, **lost}.items())},
            "samples": self.start,
            "sensors": len(self.sensors),
        }

    def sensor_table(self) -> pd.DataFrame:
        """One row a sensor: place, samples, what ISMN says of it, strata."""
        table = pd.DataFrame(list(self.sensors.values()))
        table = table.reindex(columns=[*_SENSOR_COLUMNS, *_ISMN_COLUMNS])  # a resumed conversion has another order
        kinds = dict.fromkeys(["ismn_distance_km", *_ISMN_COLUMNS], "float64") | {"climate_KG": object}
        table = table.astype(kinds)
        soil = soil_at_sensors(self.writer)
        if soil is not None:  # steps of 800/255 do not keep the sum of 1000 g kg-1
            soil = soil.mul(1000.0 / soil.sum(axis=1, skipna=False), axis=0)
        table = add_strata(table, soil=soil)
        table.attrs = {}
        return table


def convert_released(
    records: ReleasedRecords,
    out: str | os.PathLike[str],
    *,
    labels: IsmnLabels | None = None,
    optional: Sequence[str] = (),
    splits: Mapping[str, Mapping[str, Any]] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Write released records with their labels as a sample store, ``name.zarr``.

    A record's own label counts first (SMAP core sites), else the reading of ISMN. Its time is the reading's, where there is
    one. A record without a label, or without a source that is not `optional`, is dropped and counted. `splits` are options of
    `smnb.sensors.make_split` by name, default by sensor and by block. A killed conversion goes on unless `resume` is False;
    where a split cannot be made the samples are safe, and another call only finishes the store.
    """
    if unknown := sorted(set(optional) - set(records.bands)):
        what = "'optional' names sources that are not read"
        raise ParameterError(_WHO, what, got=unknown, expected=list(records.bands))
    with held_output(_WHO, out):
        shared = {"catalog_id": records.catalog_id, "label_join": None if labels is None else labels.settings}
        cache = Path(out).parent / HASHES
        shards = [[path.name for path in records.paths], content_of(records.paths, cache)]
        archives = [] if labels is None else content_of(labels.paths, cache)
        sources = [
            replace(SOURCES[name], bands=bands, optional=name in optional, catalog_id=records.catalog_id)
            for name, bands in records.bands.items()
        ]
        content = fingerprint(shards, archives, records.size, records.on_error, records.verify)
        parts = {"records": content, "labels": shared, "crop": records.crop, "splits": splits, "sources": sources}
        made_of = {name: fingerprint(part) for name, part in parts.items()}
        if resume and not overwrite and Path(out).exists():
            store = finished_store(_WHO, Path(out), made_of, "overwrite=True (--overwrite)")
            left = Path(out).with_name(f".{Path(out).name}.partial")  # of a kill at the very end
            shutil.rmtree(left, ignore_errors=True)
            found = pd.DataFrame(store.attrs["ambiguities"] or {"kind": []})
            return Conversion(store, store.attrs["counts"], found, store.attrs["problems"])
        sizes = {"crop": records.crop, "low_resolution": 10.0 * LOW_FACTOR}
        shared |= {"synthetic": records.synthetic, "fingerprint": content}
        writer = SampleStoreWriter(out, sources=sources, resume=resume, overwrite=overwrite, **sizes, **shared)
        records.counts.clear()
        records.problems.clear()
        collector = _Collector(writer, records, labels)
        first, done = collector.place
        for number in range(first, len(records.paths)):
            for record in records.shard(records.paths[number], start=done):
                collector.add(record)
                collector.flush((number, record.number + 1), whole=True)
            done = 0
            if progress is not None:
                progress(number + 1, len(records.paths))
        collector.flush((len(records.paths), 0))
        counts = collector.summary()
        if not collector.start:
            step = "Give the ISMN archive (--ismn), widen its flags, or make the missing source optional"
            raise ContractError(_WHO, "no record became a sample", got=counts, next_step=step)
        sensors = collector.sensor_table()
        of_samples = np.repeat(np.arange(len(sensors)), sensors["n_samples"])
        sensors, described = add_splits(sensors, make_splits(sensors, splits), of_samples)
        ambiguities = pd.DataFrame(columns=["kind"]) if labels is None else labels.ambiguities()
        said = json.loads(ambiguities.to_json(orient="records"))
        about = {"counts": counts, "problems": records.problems, "ambiguities": said, "made_of": made_of}
        store = writer.finish(sensors, splits=described, **about)
        return Conversion(store, counts, ambiguities, list(records.problems))


def shards_of(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return shards: files as they are, and of folders every ``*.tfrecord`` and ``*.tfrecord.gz``, by name; at least one."""
    found: list[Path] = []
    for path in map(Path, paths):
        found += sorted([*path.glob("*.tfrecord"), *path.glob("*.tfrecord.gz")]) if path.is_dir() else [path]
    if not found:
        expected = "data-00000-of-00500.tfrecord.gz"
        raise ParameterError("smnb released", "there is no shard", got=[str(path) for path in paths], expected=expected)
    return found
