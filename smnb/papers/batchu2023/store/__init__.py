"""The sample store: images of many sources around in-situ sensors, paired with readings, in one chunked Zarr folder.

One schema serves the match-up builder and the released records. A store ``name.zarr`` is a Zarr v3 group:

- ``label`` (sample) float32, m3 m-3; ``time`` (sample) int64, ns since 1970 UTC; ``sensor`` (sample) int32, the row of the
  sensor table ``sensors.parquet`` beside the arrays (ids, place, strata, one column ``split_<name>`` a split);
- a group a source with ``values``: (sample, band, y, x) float16 for images that change, (sensor, band, y, x) float16 for static
  ones, (sample, band) float32 for coarse products; ``time`` and ``scene`` of the image met. Images are normalised to [0, 1]
  (`smnb.papers.batchu2023.normalisation`), coarse products are in m3 m-3, and missing is NaN;
- where many samples see one image, a source keeps each image once and has ``image`` (sample or sensor) int32: its row in
  ``values``, -1 where there is none;
- attributes: schema, anchor, crop, resolutions, sources, scenes, counts, splits, fingerprint.

- `layout`: the schema and the arrays; `writing`: `SampleStoreWriter`, `write_sample_store`;
- `reading`: `SampleStore`; `chunks`: its images, chunk by chunk.
"""

from smnb.papers.batchu2023.store.layout import KINDS, SCHEMA, STANDARD_SOURCES, StoredSource
from smnb.papers.batchu2023.store.reading import SampleStore
from smnb.papers.batchu2023.store.writing import SampleStoreWriter, write_sample_store

__all__ = [
    "KINDS",
    "SCHEMA",
    "STANDARD_SOURCES",
    "SampleStore",
    "SampleStoreWriter",
    "StoredSource",
    "write_sample_store",
]
