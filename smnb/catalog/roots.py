"""Where the catalog and the data are: names, markers, and the data root."""

from __future__ import annotations

import os
from pathlib import Path

CATALOG_NAME = "data_catalog.yaml"
#: Environment variable that names the data root.
ROOT_VARIABLE = "SMNB_DATA"
#: File in the data root that says that the archive is simulated.
SANDBOX_MARKER = "SANDBOX.json"
#: What a sandbox has instead while it is being written.
UNFINISHED_MARKER = "SANDBOX.unfinished.json"


def ancestor_with(name: str, start: Path) -> Path | None:
    """Return the nearest folder, from `start` upwards, that holds a file of this name."""
    return next((folder for folder in (start, *start.parents) if (folder / name).is_file()), None)


def data_root(value: str | os.PathLike[str] | None = None) -> Path:
    """Folder that the catalog's files are relative to.

    Parameters
    ----------
    value : path-like, optional
        An explicit choice; else the environment variable ``SMNB_DATA``; else ``data/sandbox`` beside the nearest
        `data_catalog.yaml` in the current folder or above it, else in the current folder or, where that has none, in
        the checkout that smnb is imported from.

    Returns
    -------
    Path
        Absolute; it need not exist.
    """
    chosen = value if value not in (None, "") else os.environ.get(ROOT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    here, checkout = Path.cwd(), Path(__file__).resolve().parents[2]
    nearest = ancestor_with(CATALOG_NAME, here)
    found = [nearest] if nearest else [one for one in (here, checkout) if (one / "data" / "sandbox").is_dir()]
    return (found or [here])[0] / "data" / "sandbox"
