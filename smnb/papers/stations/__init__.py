"""Soil moisture at stations: ten-day means from Sentinel-1, Sentinel-2 and SMAP, and days from weather.

- `features`: features by source from a station's own predictors;
- `network`: point encoders and the fusion head, an ensemble, and its training on the loss that is scored;
- `ablation`: blocks held out, scores per station, paired intervals against four baselines;
- `table`: reading and checking a table of rows, training the released checkpoint, and predicting with it;
- `daily`: the temporal network at stations and in SMAP's cells: training, cross-validation, calibrated intervals;
- `weather_files`: reading tables of days and files of cells, and predicting them.
"""

from smnb.papers.stations.ablation import SOURCE_SETS, run_ablation
from smnb.papers.stations.daily import DailyTraining, cross_validate_daily, daily_series
from smnb.papers.stations.features import point_features
from smnb.papers.stations.network import PointEnsemble, PointTraining
from smnb.papers.stations.table import from_station_table, predict_rows, read_points, train_release

__all__ = [
    "SOURCE_SETS",
    "DailyTraining",
    "PointEnsemble",
    "PointTraining",
    "cross_validate_daily",
    "daily_series",
    "from_station_table",
    "point_features",
    "predict_rows",
    "read_points",
    "run_ablation",
    "train_release",
]
