"""Scores per sensor and pooled, intervals that respect dependence, and triple collocation.

`registry` has the metrics by name; a `Metric` or a function ``f(pred, obs)`` stands wherever a name does. `scores` are plain
functions on NumPy and (lazy) xarray arrays, `tables` the same for long tables. `intervals` draws blocks of one sensor's
time again, `comparison` whole sensors, also for the paired difference of two models.
"""

from smnb.metrics.comparison import Comparison, average_interval, compare
from smnb.metrics.intervals import Interval, interval, score_intervals
from smnb.metrics.registry import DEFAULT_METRICS, METRICS, Metric, interval_text, metric, metric_list, register
from smnb.metrics.scores import (
    anomaly_r,
    bias,
    n_obs,
    nrmse,
    pair_scores,
    pearson_r,
    r2,
    r2_pearson,
    rmse,
    slope,
    spearman_r,
    ubrmse,
)
from smnb.metrics.tables import MIN_OBS, count_losses, pooled, score_table
from smnb.metrics.triple_collocation import triple_collocation

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "MIN_OBS",
    "Comparison",
    "Interval",
    "Metric",
    "anomaly_r",
    "average_interval",
    "bias",
    "compare",
    "count_losses",
    "interval",
    "interval_text",
    "metric",
    "metric_list",
    "n_obs",
    "nrmse",
    "pair_scores",
    "pearson_r",
    "pooled",
    "r2",
    "r2_pearson",
    "register",
    "rmse",
    "score_intervals",
    "score_table",
    "slope",
    "spearman_r",
    "triple_collocation",
    "ubrmse",
]
