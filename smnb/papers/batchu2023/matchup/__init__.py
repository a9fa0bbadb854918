"""Match-ups of in-situ readings with the images of many sources: the data set of paper 004.

- `sources`: the sources and their bounds in time; `join`: which scene each reading meets; `planning`: the points to build;
- `cutting`, `fan_out`: scenes opened once each, in threads or Dask workers; `build`: the whole, resumed after a kill;
- `sensor_table`: strata and splits; `report`: what was built and dropped.
"""

from smnb.papers.batchu2023.matchup.build import build_matchups
from smnb.papers.batchu2023.matchup.planning import PAPER_DEPTHS, MatchPlan, plan_matchups
from smnb.papers.batchu2023.matchup.report import MatchupResult
from smnb.papers.batchu2023.matchup.sensor_table import DEFAULT_SPLITS
from smnb.papers.batchu2023.matchup.sources import ANCHORS, CATALOG_IDS, CLOUD_LIMIT, MatchSource, paper_sources

__all__ = [
    "ANCHORS",
    "CATALOG_IDS",
    "CLOUD_LIMIT",
    "DEFAULT_SPLITS",
    "PAPER_DEPTHS",
    "MatchPlan",
    "MatchSource",
    "MatchupResult",
    "build_matchups",
    "paper_sources",
    "plan_matchups",
]
