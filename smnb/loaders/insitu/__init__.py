"""In-situ soil moisture: ISMN archives and USCRN files as a sensor table and a long table of readings.

`index_archive` lists sensors, `open_insitu` reads into memory, `write_tables` writes Parquet, `read_tables` reads that back.
"""

from smnb.loaders.insitu.archive import index_archive
from smnb.loaders.insitu.sensors import flag_policy
from smnb.loaders.insitu.tables import InSituTables, open_insitu, read_tables, report_notes, write_tables

__all__ = ["InSituTables", "flag_policy", "index_archive", "open_insitu", "read_tables", "report_notes", "write_tables"]
