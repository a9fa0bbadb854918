"""Twenty places of the contiguous US on the 1 km grid, ``places.yaml``; the sandbox simulates them."""

from __future__ import annotations

from pathlib import Path

import yaml

from smnb.grids import M01, EaseWindow

#: Title and window by name.
PLACES: dict[str, tuple[str, EaseWindow]] = {
    name: (title, EaseWindow(M01, row, row + cells, col, col + cells))
    for name, (title, row, col, cells) in yaml.safe_load(
        Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    ).items()
}
