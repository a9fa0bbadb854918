"""Tsagkatakis, Moghaddam and Tsakalides: SMEN, SMAP from 36 km to 3 km."""
