"""Tables of Batchu, Nearing and Gulshan, as in the text of 2022 (about 1,300 sensors by its abstract).

The journal's version (2023) has another set of sensors and other scores.

References
----------
Batchu, V., Nearing, G. and Gulshan, V. (2023): A deep learning data fusion model using Sentinel-1/2, SoilGrids, SMAP, and
GLDAS for soil moisture retrieval. Journal of Hydrometeorology 24(10), 1789-1823. https://doi.org/10.1175/JHM-D-22-0118.1
"""

from __future__ import annotations

from smnb.papers.tables.batchu2023 import benchmark, recipe, scores, strata
from smnb.papers.tables.records import PublishedSettings, PublishedTable, PublishedWorks

__all__ = ["SETTINGS", "TABLES", "WORKS"]

#: Tables of numbers: data and recipe, scores, strata, and the benchmark.
TABLES: tuple[PublishedTable, ...] = (*recipe.TABLES, *scores.TABLES, *strata.TABLES, *benchmark.TABLES)
#: Tables of settings.
SETTINGS: tuple[PublishedSettings, ...] = recipe.SETTINGS
#: Tables of works.
WORKS: tuple[PublishedWorks, ...] = benchmark.WORKS
