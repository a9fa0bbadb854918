"""Tsagkatakis, Moghaddam and Tsakalides: SMEN, SMAP from 36 km to 3 km.

`open_places` reads an archive, `smen_samples` is what `smnb.training.train` takes, `score_place` estimates and scores.
"""

from smnb.papers.smen.experiment import (
    paired_gains,
    reference_images,
    scene_maps,
    score_place,
    smen_samples,
)
from smnb.papers.smen.opening import REGIONS, SOURCES, Place, open_places, window_around
from smnb.papers.smen.sequences import ImageSequences

__all__ = [
    "REGIONS",
    "SOURCES",
    "ImageSequences",
    "Place",
    "open_places",
    "paired_gains",
    "reference_images",
    "scene_maps",
    "score_place",
    "smen_samples",
    "window_around",
]
