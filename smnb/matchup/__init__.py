"""Matching in time and place: in-situ readings with overpasses, series of coarse products, and images around sensors.

- `time`: the nearest reading, or the mean within a window, for one sensor or long tables of many;
- `place`: a product's series at points, and its value at each row of a table of readings;
- `images`: readings with the scenes of many sources, cut around the sensors into a sample store.
"""

from smnb.matchup.images import MatchPlan, MatchSource, MatchupResult, build_matchups, paper_sources, plan_matchups
from smnb.matchup.place import SPACE_METHODS, match_product, series_at_point
from smnb.matchup.time import TIME_METHODS, TimeMatch, collocate, match_in_time, match_tables

__all__ = [
    "SPACE_METHODS",
    "TIME_METHODS",
    "MatchPlan",
    "MatchSource",
    "MatchupResult",
    "TimeMatch",
    "build_matchups",
    "collocate",
    "match_in_time",
    "match_product",
    "match_tables",
    "paper_sources",
    "plan_matchups",
    "series_at_point",
]
