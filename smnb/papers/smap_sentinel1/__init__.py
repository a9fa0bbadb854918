"""Tsagkatakis, Moghaddam and Tsakalides: SMAP and Sentinel-1 fused at 1 km."""
