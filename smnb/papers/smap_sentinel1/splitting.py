"""Training and validation of the 1 km fusion: sensors decide, not patches.

Each patch serves both: a loss looks at its training pixels, a score at its validation pixels. What sensors on the two sides
may share is what `smnb.sensors.splits` audits. By design of the method they share the input images, and 9 km cells of the coarse
product, which no in-situ reading enters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from smnb.contract import ContractError, ParameterError, check_choice, plain
from smnb.grids import EaseWindow
from smnb.papers.smap_sentinel1.samples import FusionSamples
from smnb.sensors import make_split

SIDES = ("train", "validation")
#: Leaks that the method itself brings: images cover all sensors, and 9 km cells may hold several.
ACCEPTED = ("shared_footprint", "shared_coarse_cell")


@dataclass(frozen=True)
class FusionSplit:
    """Sides of sensors ("train", "validation" or "buffer" by ``sensor_id``), and the patches of either side.

    Split by sensors, most patches are in both. `held_out` are places that no training sees; `notes` count sensors by side,
    and what the sides share, by leak.
    """

    sides: pd.Series = field(repr=False)
    train: np.ndarray = field(repr=False)
    validation: np.ndarray = field(repr=False)
    held_out: tuple[str, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)

    def ids(self, side: str) -> list[str]:
        """Sensors of a side."""
        return self.sides.index[self.sides == side].tolist()

    def patches(self, side: str) -> np.ndarray:
        """Patches of a side."""
        return getattr(self, *check_choice("FusionSplit.patches", "side", side, SIDES))


def split_sensors(
    samples: FusionSamples,
    *,
    validation: float = 0.3,
    seed: int = 0,
    buffer_km: float = 0.0,
    accept: Sequence[str] = ACCEPTED,
) -> FusionSplit:
    """Divide the sensors; those that ever share a 1 km pixel stay together, and a sensor has one side on all dates.

    Parameters
    ----------
    samples : FusionSamples
    validation : float
        Expected share of pixels that validate, in (0, 1).
    seed : int
        Of the hash of each pixel that decides its side: it does not change when others are added.
    buffer_km : float
        Training sensors nearer than this to a validation sensor are left out.
    accept : sequence of str
        Leaks to accept (`smnb.sensors.LEAKS`). With ``accept=()`` no two sides may share a 9 km cell or have 1 km squares
        around them that overlap.

    Raises
    ------
    ContractError
        If there is no sensor, or the split leaks more than is accepted.
    ParameterError
        If a side stays empty.
    """
    if not 0.0 < validation < 1.0:
        raise ParameterError("split_sensors", "'validation' is no share", got=validation, expected=plain("in (0, 1)"))
    sensors = samples.sensors
    if sensors.empty:
        step = "Make them with in-situ readings, or train on the product alone with leave_scenes_out"
        raise ContractError("split_sensors", "the samples have no sensor", got=0, next_step=step)
    # the unit that stays together is the pixel: to make_split it is a station
    units = sensors[["sensor_id", "lat", "lon"]].assign(
        network="1 km pixel", station=sensors["row"].astype(str) + "," + sensors["col"].astype(str)
    )
    audited = {"footprint_km": 1.0, "coarse_cells": ("ease2_9km",)}
    options = {"fractions": (1.0 - validation, validation, 0.0), "buffer_km": buffer_km, "accept": accept}
    split = make_split(units, "station", seed=seed, **options, **audited)
    sides = split.assignment
    notes = {f"sensors_{side}": count for side, count in split.counts().items()}
    notes |= {f"validation_{leak}": count for leak, count in split.audit(**audited).leaks.items()}
    held = samples.in_situ["sensor_id"].isin(set(sides.index[sides == "validation"]))
    # every patch has its inputs and its product to learn from
    everything = np.arange(len(samples) if (sides == "train").any() else 0)
    return FusionSplit(sides, everything, np.unique(samples.in_situ.loc[held, "patch"].to_numpy("int64")), (), notes)


def leave_scenes_out(samples: FusionSamples, scenes: Sequence[str]) -> FusionSplit:
    """Hold out whole places by name: their patches, sensors and 9 km product are in no training.

    Patches of other places that overlap one of them are dropped, and counted.

    Raises
    ------
    ParameterError
        If a name is unknown, or nothing is left on one side.
    """
    who = "leave_scenes_out"
    held, known = tuple(dict.fromkeys(scenes)), set(samples.scene.tolist())
    if not held or not set(held) <= known or set(held) == known:
        raise ParameterError(who, "unknown places, none, or all", got=list(scenes), expected=sorted(known))
    is_held = np.isin(samples.scene, held)
    windows = [w for w, yes in zip(samples.windows, is_held, strict=True) if yes]
    overlaps = ~is_held & np.array([any(_meet(w, other) for other in windows) for w in samples.windows])
    train = np.flatnonzero(~is_held & ~overlaps)
    if train.size == 0:
        raise ParameterError(who, "every other place overlaps the held-out ones", got=list(held))
    # a sensor in two overlapping places validates
    validating = set(samples.in_situ.loc[is_held[samples.in_situ["patch"]], "sensor_id"])
    ids = samples.sensors["sensor_id"]
    sides = pd.Series(np.where(ids.isin(validating), "validation", "train"), pd.Index(ids), object, "split")
    notes = {"patches_overlapping_held_out": int(overlaps.sum())}
    notes |= {f"sensors_{side}": int((sides == side).sum()) for side in SIDES}
    return FusionSplit(sides, train, np.flatnonzero(is_held), held, notes)


def _meet(a: EaseWindow, b: EaseWindow) -> bool:
    in_rows = a.row_start < b.row_stop and b.row_start < a.row_stop
    return in_rows and a.col_start < b.col_stop and b.col_start < a.col_stop
