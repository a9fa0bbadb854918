"""Matching in time and place: in-situ readings with overpasses and series of coarse products.

- `time`: the nearest reading, or the mean within a window, for one sensor or long tables of many;
- `place`: a product's series at points, and its value at each row of a table of readings.
"""

from smnb.sensors.matchup.place import SPACE_METHODS, match_product, series_at_point
from smnb.sensors.matchup.time import TIME_METHODS, TimeMatch, collocate, match_in_time, match_tables

__all__ = [
    "SPACE_METHODS",
    "TIME_METHODS",
    "TimeMatch",
    "collocate",
    "match_in_time",
    "match_product",
    "match_tables",
    "series_at_point",
]
