"""All that is known at in-situ sensors, from the archive to the score.

- `strata`: climate, soil texture and land cover of a sensor, one meaning for every notebook;
- `match`, `place`: readings with overpasses and coarse products, in time and place;
- `splits`, `folds`: training, validation and test sensors, and what leaks between them;
- `opening`: what a source consists of, its readings and its predictions;
- `predictions`: tables of predictions, scores of each sensor, averages and strata;
- `profile`: what a set of sensors holds, as tidy tables.
"""

from smnb.sensors.folds import cluster_labels, folds
from smnb.sensors.match import match_in_time, match_tables
from smnb.sensors.opening import (
    SOURCES,
    apply_flags,
    open_predictions,
    open_products,
    open_sensors,
    predictions_at,
    predictions_of,
)
from smnb.sensors.place import match_product, product_at_sensors
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
from smnb.sensors.splits import LEAKS, SIDES, Split, audit, make_split
from smnb.sensors.strata import LAND_COVER_GROUPS, TEXTURE_CLASSES, add_strata

__all__ = [
    "LAND_COVER_GROUPS",
    "LEAKS",
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
    "predictions_at",
    "predictions_of",
    "product_at_sensors",
    "read_predictions",
    "same_pairs",
    "score_sensors",
    "sensor_density",
    "stratify",
    "summary_rows",
    "write_predictions",
]
