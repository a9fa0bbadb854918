"""Splits of sensors into training, validation and test, with an audit of what leaks between them.

- `assignment`: sides by sensor, station, network, block, time or region, and folds for cross-validation;
- `leakage`: the audit: shared stations, footprints and coarse cells, and the distance to the nearest training sensor.
"""

from smnb.sensors.splits.assignment import KINDS, Split, folds, make_split
from smnb.sensors.splits.leakage import COARSE_CELLS, FOOTPRINT_KM, LEAKS, SIDES, Audit, audit

__all__ = ["COARSE_CELLS", "FOOTPRINT_KM", "KINDS", "LEAKS", "SIDES", "Audit", "Split", "audit", "folds", "make_split"]
