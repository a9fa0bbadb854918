"""gzip TFRecord shards of tf.train.Example, read without TensorFlow.

- `framing`: records and their checksums; `example`: the protobuf message.
"""

from smnb.loaders.tfrecord.example import Feature, parse_example
from smnb.loaders.tfrecord.framing import RecordError, ShardError, masked_crc32c, read_records

__all__ = ["Feature", "RecordError", "ShardError", "masked_crc32c", "parse_example", "read_records"]
