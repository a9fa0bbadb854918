"""Tsagkatakis, Moghaddam and Tsakalides: SMEN, SMAP from 36 km to 3 km."""

from smnb.papers.smen.places import REGIONS, window_around

__all__ = ["REGIONS", "window_around"]
