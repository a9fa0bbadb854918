"""The public release of paper 004: gzip TFRecord shards of tf.train.Example, read without TensorFlow.

- `framing`: records and their checksums; `example`: the protobuf message; `schema`: fields and scaling;
- `release`: `open_released`, the catalog's loader.
"""

from smnb.loaders.tfrecord.example import Feature, parse_example
from smnb.loaders.tfrecord.framing import RecordError, ShardError, masked_crc32c, read_records
from smnb.loaders.tfrecord.release import ReleasedRecord, ReleasedRecords, open_released

__all__ = [
    "Feature",
    "RecordError",
    "ReleasedRecord",
    "ReleasedRecords",
    "ShardError",
    "masked_crc32c",
    "open_released",
    "parse_example",
    "read_records",
]
