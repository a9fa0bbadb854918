"""The data catalog: which products smnb can read, where their files are, and how to get them.

`data_catalog.yaml` holds one entry a product, keyed by its id. Files are globs relative to the *data root*
(`data_root`), and nothing outside that folder is ever opened. A simulated archive is laid out like a real one and is
recognised by a marker file, so one environment variable switches between them.

- `catalog`: `Catalog`, the file's entries and what can be done with them, downloads too;
- `entries`: `Entry`, the keys of one product;
- `roots`: the data root.
"""

from __future__ import annotations

from smnb.catalog.catalog import Catalog
from smnb.catalog.entries import Entry
from smnb.catalog.roots import CATALOG_NAME, ROOT_VARIABLE, SANDBOX_MARKER, data_root

__all__ = ["CATALOG_NAME", "ROOT_VARIABLE", "SANDBOX_MARKER", "Catalog", "Entry", "data_root"]
