"""The data catalog (`data_catalog.yaml`): which products smnb can read, where their files are, and how to get them.

Files are globs relative to the *data root* (`data_root`), and nothing outside that folder is ever opened. A simulated archive
is laid out like a real one and recognised by a marker file, so one environment variable switches between them. `catalog`
holds `Catalog`, `entries` the keys of one product, `fetching` downloads.
"""

from smnb.catalog.catalog import CATALOG_NAME, ROOT_VARIABLE, SANDBOX_MARKER, Catalog, data_root
from smnb.catalog.entries import Entry

__all__ = ["CATALOG_NAME", "ROOT_VARIABLE", "SANDBOX_MARKER", "Catalog", "Entry", "data_root"]
