"""Tsagkatakis, Moghaddam and Tsakalides: SMEN, SMAP from 36 km to 3 km.

`open_places` reads an archive, `smen_samples` is what `smnb.training.train` takes, `score_place` estimates and scores.
On real cells `train_past_scenes` weighs all earlier scenes, `CellEstimator` estimates, `score_flights` compares with PALS.
"""

from smnb.papers.smen.estimation import CellEstimator
from smnb.papers.smen.experiment import (
    paired_gains,
    reference_images,
    scene_maps,
    score_place,
    smen_samples,
)
from smnb.papers.smen.flights import flight_estimates, flight_tables, open_flights, score_flights
from smnb.papers.smen.opening import REGIONS, SOURCES, Place, open_places, window_around
from smnb.papers.smen.past_training import PastScenesTraining, train_past_scenes
from smnb.papers.smen.sequences import ImageSequences

__all__ = [
    "REGIONS",
    "SOURCES",
    "CellEstimator",
    "ImageSequences",
    "PastScenesTraining",
    "Place",
    "flight_estimates",
    "flight_tables",
    "open_flights",
    "open_places",
    "paired_gains",
    "reference_images",
    "scene_maps",
    "score_flights",
    "score_place",
    "smen_samples",
    "train_past_scenes",
    "window_around",
]
