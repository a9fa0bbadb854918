"""Tsagkatakis, Moghaddam and Tsakalides: SMAP and Sentinel-1 fused at 1 km."""

from smnb.papers.smap_sentinel1.places import PLACES

__all__ = ["PLACES"]
