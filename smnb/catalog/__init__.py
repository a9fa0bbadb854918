"""The data catalog: which products smnb can read, where their files are, and how to get them.

`data_catalog.yaml` holds one entry a product, keyed by its id. Files are globs relative to the *data root*
(`data_root`), and nothing outside that folder is ever opened. A simulated archive is laid out like a real one and is
recognised by a marker file, so one environment variable switches between them.

- `catalog`: the data root; `Catalog`, the file's entries and what can be done with them; `fetching`: downloads;
- `entries`: `Entry`, the keys of one product, and what is wrong with a file of them.
"""

from smnb.catalog.catalog import CATALOG_NAME, ROOT_VARIABLE, SANDBOX_MARKER, Catalog, data_root
from smnb.catalog.entries import Entry

__all__ = ["CATALOG_NAME", "ROOT_VARIABLE", "SANDBOX_MARKER", "Catalog", "Entry", "data_root"]
