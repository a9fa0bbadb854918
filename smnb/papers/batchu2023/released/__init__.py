"""The public release of paper 004 as a sample store: `schema` and `records`, `labels` of ISMN, `conversion`."""

from smnb.papers.batchu2023.released.conversion import convert_released, shards_of
from smnb.papers.batchu2023.released.labels import IsmnLabels
from smnb.papers.batchu2023.released.records import open_released

__all__ = ["IsmnLabels", "convert_released", "open_released", "shards_of"]
