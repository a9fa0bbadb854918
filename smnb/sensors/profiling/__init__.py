"""What a set of in-situ sensors holds, as tidy tables: the numbers behind the figures of notebook 01_profile_data.

- `sources`: opening what a source consists of, flags, pairs with coarse products;
- `sensors`: counts by stratum, network, flag, depth and place;
- `records`: months, gaps, completeness;
- `sides`: what the sides of a split have in common.

References
----------
Batchu, Nearing and Gulshan 2023, J. Hydrometeorol. 24(10), doi:10.1175/JHM-D-22-0118.1 (Figures 1 to 7 and 16 to 26; flags,
gaps, depths and instruments are here beside them).
"""

from smnb.sensors.profiling.records import availability, by_month, coverage, gaps, pick_sensor
from smnb.sensors.profiling.sensors import (
    count_sensors,
    depth_names,
    depth_table,
    flag_shares,
    network_table,
    sensor_density,
)
from smnb.sensors.profiling.sides import DISTANCE_EDGES_KM, audit_splits, bin_distances, compare_sides
from smnb.sensors.profiling.sources import (
    SOURCES,
    Source,
    apply_flags,
    image_samples,
    join_tables,
    match_to_readings,
    open_products,
    open_sensors,
    sensor_rows,
)

__all__ = [
    "DISTANCE_EDGES_KM",
    "SOURCES",
    "Source",
    "apply_flags",
    "audit_splits",
    "availability",
    "bin_distances",
    "by_month",
    "compare_sides",
    "count_sensors",
    "coverage",
    "depth_names",
    "depth_table",
    "flag_shares",
    "gaps",
    "image_samples",
    "join_tables",
    "match_to_readings",
    "network_table",
    "open_products",
    "open_sensors",
    "pick_sensor",
    "sensor_density",
    "sensor_rows",
]
