"""Soil moisture at stations from ten-day means of Sentinel-1, Sentinel-2 and SMAP: features, network, ablation, release.

- `table`: reading and checking a table of rows; `series`, `features`: features by source from a station's own predictors;
- `network`, `training`: point encoders and the fusion head, an ensemble, and the loss that is scored;
- `baselines`, `ablation`: blocks held out, scores per station, paired intervals against four baselines;
- `release`: training, writing and reading the released checkpoint.
"""

from smnb.papers.stations.ablation import (
    SOURCE_SETS,
    Folds,
    block_folds,
    complete_rows,
    cross_validate,
    differences,
    run_ablation,
    station_scores,
    summary,
)
from smnb.papers.stations.baselines import BASELINES, WAYS, fit_baseline
from smnb.papers.stations.features import SOURCES, FeatureConfig, FeatureTable, point_features, sources_present
from smnb.papers.stations.network import PointEnsemble, PointFusionConfig, PointFusionNet
from smnb.papers.stations.release import (
    RELEASE,
    PointModel,
    load_point_model,
    predict_rows,
    save_point_model,
    train_release,
)
from smnb.papers.stations.table import PointRows, from_station_table, read_points
from smnb.papers.stations.training import PointTraining, predict_points, station_loss, train_points

__all__ = [
    "BASELINES",
    "RELEASE",
    "SOURCES",
    "SOURCE_SETS",
    "WAYS",
    "FeatureConfig",
    "FeatureTable",
    "Folds",
    "PointEnsemble",
    "PointFusionConfig",
    "PointFusionNet",
    "PointModel",
    "PointRows",
    "PointTraining",
    "block_folds",
    "complete_rows",
    "cross_validate",
    "differences",
    "fit_baseline",
    "from_station_table",
    "load_point_model",
    "point_features",
    "predict_points",
    "predict_rows",
    "read_points",
    "run_ablation",
    "save_point_model",
    "sources_present",
    "station_loss",
    "station_scores",
    "summary",
    "train_points",
    "train_release",
]
