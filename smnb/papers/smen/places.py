"""Where the paper's regions are."""

from __future__ import annotations

from smnb.grids import M03, EaseWindow

#: The paper's three regions: title, and latitude and longitude of the city, degrees.
REGIONS: dict[str, tuple[str, float, float]] = {
    "oklahoma_city": ("Oklahoma City", 35.47, -97.52),
    "tucson": ("Tucson", 32.22, -110.97),
    "geneva": ("Geneva", 46.20, 6.15),
}
#: Cells of 3 km along a side of a region, and of a 36 km cell.
_CELLS, _COARSE = 100, 12


def window_around(lat: float, lon: float) -> EaseWindow:
    """100 x 100 cells of 3 km, a place near their middle.

    They begin at an edge of a 36 km cell in both directions: 8 x 8 whole coarse cells, and a third of a ninth row and column.

    Parameters
    ----------
    lat, lon : float
        Degrees.

    Examples
    --------
    >>> window_around(46.20, 6.15)
    EaseWindow(M03, rows 624:724, cols 5928:6028)
    """
    row, col = (_COARSE * round((int(index) - _CELLS / 2) / _COARSE) for index in M03.rowcol(lat, lon))
    return EaseWindow(M03, row, row + _CELLS, col, col + _CELLS)
