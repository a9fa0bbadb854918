"""The 1 km fusion's part of the sandbox: its files, below ``fusion/`` where no other catalog entry looks.

Places of the contiguous US in September 2020, each a square of 256 cells of 1 km: Sentinel-1 scenes as GeoTIFF, SMAP at 9 km,
the SMAP/Sentinel-1 product (3 and 1 km), an ISMN archive, and the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np

from smnb.grids import M09
from smnb_sandbox.fusion_places import (
    INSITU_FIRST,
    INSITU_LAST,
    FusionSimulation,
    acquisitions,
    read_place,
    slice_names,
)
from smnb_sandbox.insitu_ismn import archive_name, by_network, ismn_archive
from smnb_sandbox.insitu_readings import Readings
from smnb_sandbox.noise import spread
from smnb_sandbox.plan import Plan
from smnb_sandbox.regions import PLACES
from smnb_sandbox.smap_granules import RELEASE, level3_granule, scene_granule
from smnb_sandbox.smap_scenes import SceneTime
from smnb_sandbox.truth import pass_times, truth_bytes

#: Is written into the truth; raise it when the files change.
_VERSION = "1"


@dataclass(frozen=True)
class FusionPlan(Plan):
    """The first so many of `PLACES`, and as many acquisitions of each within September 2020."""

    places: int = len(PLACES)
    scenes: int = 4

    kinds = ("sentinel1", "fine", "truth", "enhanced", "insitu")

    @cached_property
    def acquisitions(self) -> dict[str, list[SceneTime]]:
        """What was acquired of each place."""
        return {name: acquisitions(place, self.scenes) for name, place in list(PLACES.items())[: self.places]}

    def _all(self) -> Iterator[SceneTime]:
        for scenes in self.acquisitions.values():
            yield from scenes

    @cached_property
    def sentinel1(self) -> dict[str, SceneTime]:
        """Acquisition by path of each of its slices."""
        return {f"fusion/sentinel1_grd/2020/{name}": when for when in self._all() for name in slice_names(when)}

    @cached_property
    def fine(self) -> dict[str, SceneTime]:
        """Acquisition by path of its SMAP/Sentinel-1 granule."""
        return {f"fusion/smap_s1_l2/2020/{when.file_name}": when for when in self._all()}

    @cached_property
    def truth(self) -> dict[str, str]:
        """Place by path."""
        return {f"sandbox_truth/fusion/{name}.nc": name for name in self.acquisitions}

    @cached_property
    def enhanced(self) -> dict[str, date]:
        """UTC day by path: the days on which SMAP looked at a scene."""
        days = sorted({when.smap.time.date() for when in self._all()})
        return {f"fusion/smap_l3_e/2020/SMAP_L3_SM_P_E_{day:%Y%m%d}_{RELEASE}_001.h5": day for day in days}

    insitu = (f"fusion/ismn/{archive_name('header_values', INSITU_FIRST, INSITU_LAST)}",)

    def contents(self, seed: int, missing: set[str]) -> Iterator[tuple[str, bytes]]:
        """As `Plan.contents`: place by place, then what holds something of every place."""
        by_day: dict[date, list] = {day: [] for name, day in self.enhanced.items() if name in missing}
        readings: list[Readings] = []
        with_insitu = not missing.isdisjoint(self.insitu)
        for place, scenes in self.acquisitions.items():
            own = {name for name, when in (self.sentinel1 | self.fine).items() if when in scenes}
            own |= {name for name, of in self.truth.items() if of == place}
            daily = [when for when in scenes if when.smap.time.date() in by_day]
            if not (own & missing or daily or with_insitu):
                continue
            simulation = FusionSimulation(PLACES[place], seed)
            yield from self._of_place(simulation, scenes, own & missing)
            for when in daily:
                _, window, cells, seen = simulation.passive(when)
                by_day[when.smap.time.date()].append((window, False, cells, seen))
            if with_insitu:
                readings += read_place(simulation)
        for name, day in self.enhanced.items():
            if name in missing:
                yield name, level3_granule(name, M09, by_day[day])
        if readings:
            yield self.insitu[0], ismn_archive(by_network(readings, "fusion"), (INSITU_FIRST, INSITU_LAST))

    def _of_place(
        self, simulation: FusionSimulation, scenes: list[SceneTime], wanted: set[str]
    ) -> Iterator[tuple[str, bytes]]:
        """Names and contents of a place's own files."""
        for when in scenes:
            slices = [name for name, one in self.sentinel1.items() if one is when]
            if wanted.intersection(slices):
                made = simulation.rasters(when)
                yield from ((name, content) for name, content in zip(slices, made, strict=True) if name in wanted)
        for name, when in self.fine.items():
            if name in wanted:
                scene = simulation.scene(when, one_km=True)
                yield name, scene_granule(name, *scene, (when.smap.time, when.sentinel1.time))
        for name in wanted.intersection(self.truth):
            yield name, _truth(simulation, scenes)


def _truth(simulation: FusionSimulation, scenes: list[SceneTime]) -> bytes:
    """The truth on a place's 1 km window when the radar passed; open water is NaN."""
    place, world = simulation.place, simulation.world
    water = world.lake[simulation.cut]
    states = [simulation.days.state(when.local_day, evening=when.evening) for when in scenes]

    def fine(values: np.ndarray) -> np.ndarray:
        return np.where(water, np.nan, spread(values, 3)[simulation.cut]).astype("float32")

    fields = {
        "soil_moisture": (np.stack([simulation.truth(when) for when in scenes]), 4),
        "vegetation_water_content": (np.stack([fine(state.vegetation_water_content) for state in states]), 2),
        "clay_fraction": (fine(world.clay_fraction), 3),
        "sand_fraction": (fine(world.sand_fraction), 3),
        "elevation": (np.where(water, np.nan, world.fine_elevation[simulation.cut]).astype("float32"), 0),
    }
    return truth_bytes(
        fields,
        place.window.coords() | {"time": pass_times([when.sentinel1.time for when in scenes])},
        place.title,
        f"fusion world {_VERSION}, seed {simulation.world.seed}",
        "sandbox_fusion_truth",
        region=place.name,
        ease_grid="M01",
    )
