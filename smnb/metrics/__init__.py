"""Scores per sensor and pooled, intervals that respect dependence, and triple collocation.

- `scores`: plain functions ``metric(pred, obs, *, dim, mask, min_obs)`` on NumPy and (lazy) xarray arrays;
- `pairs`: bias, RMSE, ubRMSE and correlation of one image's pairs at once;
- `tables`: the same scores for long tables, and averages over sensors;
- `intervals`: intervals of one sensor's scores by a block bootstrap in time;
- `comparison`: averages with intervals from drawing sensors again, and the paired difference of two models;
- `triple_collocation`: errors of three products without a truth.
"""

from smnb.metrics.comparison import BETTER, Comparison, average_interval, compare
from smnb.metrics.intervals import (
    ANALYTIC_METRICS,
    BLOCK_METRICS,
    METHODS,
    Interval,
    block_replicates,
    interval,
    score_intervals,
)
from smnb.metrics.pairs import pair_scores
from smnb.metrics.scores import (
    CORRELATIONS,
    METRICS,
    anomaly_r,
    bias,
    n_obs,
    nrmse,
    pearson_r,
    r2,
    r2_pearson,
    rmse,
    slope,
    spearman_r,
    ubrmse,
)
from smnb.metrics.tables import AVERAGES, DEFAULT_METRICS, MIN_OBS, average, pooled, score_array, score_table
from smnb.metrics.triple_collocation import triple_collocation

__all__ = [
    "ANALYTIC_METRICS",
    "AVERAGES",
    "BETTER",
    "BLOCK_METRICS",
    "CORRELATIONS",
    "DEFAULT_METRICS",
    "METHODS",
    "METRICS",
    "MIN_OBS",
    "Comparison",
    "Interval",
    "anomaly_r",
    "average",
    "average_interval",
    "bias",
    "block_replicates",
    "compare",
    "interval",
    "n_obs",
    "nrmse",
    "pair_scores",
    "pearson_r",
    "pooled",
    "r2",
    "r2_pearson",
    "rmse",
    "score_array",
    "score_intervals",
    "score_table",
    "slope",
    "spearman_r",
    "triple_collocation",
    "ubrmse",
]
