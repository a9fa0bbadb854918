"""In-situ soil moisture: ISMN archives and USCRN files as a sensor table and a long table of readings.

`index_archive` lists sensors, `open_insitu` reads into memory, `ingest` writes Parquet, `read_tables` reads that back.
"""

from smnb.loaders.insitu.index import index_archive
from smnb.loaders.insitu.policies import DEFAULT_DEPTH, FLAGS, POLICIES, FlagPolicy, flag_policy
from smnb.loaders.insitu.tables import InSituTables, ingest, open_insitu, read_readings, read_tables

__all__ = [
    "DEFAULT_DEPTH",
    "FLAGS",
    "POLICIES",
    "FlagPolicy",
    "InSituTables",
    "flag_policy",
    "index_archive",
    "ingest",
    "open_insitu",
    "read_readings",
    "read_tables",
]
