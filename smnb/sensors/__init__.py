"""All that is known at in-situ sensors, from the archive to the score.

- `place`: climate, soil texture and land cover of a sensor, and coarse products there; `match`: readings with overpasses;
- `splits`: training, validation and test sensors, and what leaks between them;
- `opening`: what a source consists of, its readings and its predictions;
- `predictions`: tables of predictions, scores of each sensor, averages and strata;
- `profile`: what a set of sensors holds, as tidy tables.
"""

from smnb.sensors.match import match_in_time, match_tables
from smnb.sensors.opening import SOURCES, apply_flags, open_predictions, open_products, open_sensors, predictions_of
from smnb.sensors.place import LAND_COVER_GROUPS, TEXTURE_CLASSES, add_strata, cluster_labels, match_product
from smnb.sensors.predictions import (
    check_predictions,
    read_predictions,
    same_pairs,
    score_sensors,
    stratify,
    summary_rows,
    write_predictions,
)
from smnb.sensors.profile import (
    audit_splits,
    availability,
    bin_distances,
    by_month,
    compare_sides,
    count_sensors,
    coverage,
    depth_names,
    depth_table,
    flag_shares,
    gaps,
    network_table,
    sensor_density,
)
from smnb.sensors.splits import SIDES, Split, audit, folds, make_split

__all__ = [
    "LAND_COVER_GROUPS",
    "SIDES",
    "SOURCES",
    "TEXTURE_CLASSES",
    "Split",
    "add_strata",
    "apply_flags",
    "audit",
    "audit_splits",
    "availability",
    "bin_distances",
    "by_month",
    "check_predictions",
    "cluster_labels",
    "compare_sides",
    "count_sensors",
    "coverage",
    "depth_names",
    "depth_table",
    "flag_shares",
    "folds",
    "gaps",
    "make_split",
    "match_in_time",
    "match_product",
    "match_tables",
    "network_table",
    "open_predictions",
    "open_products",
    "open_sensors",
    "predictions_of",
    "read_predictions",
    "same_pairs",
    "score_sensors",
    "sensor_density",
    "stratify",
    "summary_rows",
    "write_predictions",
]
