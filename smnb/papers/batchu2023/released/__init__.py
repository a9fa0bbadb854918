"""The public release of paper 004 as a sample store: records (`smnb.loaders.tfrecord`), labels of ISMN, splits.

- `stations`: which ISMN sensor a record means; `labels`: the reading within three minutes; `conversion`: the whole.
"""

from smnb.papers.batchu2023.released.conversion import Conversion, convert_released, shards_of
from smnb.papers.batchu2023.released.labels import IsmnLabels, Label
from smnb.papers.batchu2023.released.stations import SensorMatch, StationIndex

__all__ = ["Conversion", "IsmnLabels", "Label", "SensorMatch", "StationIndex", "convert_released", "shards_of"]
