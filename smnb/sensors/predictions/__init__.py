"""Tables of predictions: one row a sensor and time, with what was observed and what was predicted there.

The columns ``sensor_id``, ``time`` (UTC), ``observed`` and ``predicted`` (m3 m-3) are needed; ``network``, ``station``, ``lat``,
``lon`` and strata (``texture``, ``land_cover``, ``climate``, any other) are used where they are there. Any model's notebook
writes such a table, and the same scores, figures and commands take it. ``attrs`` keep ``model`` and ``synthetic``.

- `tables`: read, check, write, and cut two to the same pairs;
- `sensor_strata`: texture, land cover and climate of sensors;
- `sources`: coarse products at sensors, SMAP at the stations of the ten-day table;
- `opening`: the predictions of a source by name, or of files;
- `scoring`: scores of each sensor, the averages, triple collocation by sensor.
"""

from smnb.sensors.predictions.opening import SOURCES, OpenedPredictions, open_predictions
from smnb.sensors.predictions.scoring import (
    SHORT_NAMES,
    keep_possible,
    pick_sensors,
    printed_means,
    score_sensors,
    sensor_notes,
    summary_rows,
    triplets,
)
from smnb.sensors.predictions.sensor_strata import NLCD_GROUPS, conus_station_strata, join_strata
from smnb.sensors.predictions.sources import (
    CONUS_MODELS,
    coarse_product_predictions,
    conus_station_predictions,
    predictions_at,
)
from smnb.sensors.predictions.tables import NEEDED, check_predictions, read_predictions, same_pairs, write_predictions

__all__ = [
    "CONUS_MODELS",
    "NEEDED",
    "NLCD_GROUPS",
    "SHORT_NAMES",
    "SOURCES",
    "OpenedPredictions",
    "check_predictions",
    "coarse_product_predictions",
    "conus_station_predictions",
    "conus_station_strata",
    "join_strata",
    "keep_possible",
    "open_predictions",
    "pick_sensors",
    "predictions_at",
    "printed_means",
    "read_predictions",
    "same_pairs",
    "score_sensors",
    "sensor_notes",
    "summary_rows",
    "triplets",
    "write_predictions",
]
