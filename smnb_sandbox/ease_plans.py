"""The parts of the sandbox on EASE grids: what files there are of SMAP over three regions, and of the 1 km fusion.

Radiometer products, SMAP/Sentinel-1 scenes of the active-passive algorithm, and their truth, of three regions of 300 km over 2016
to 2018; and below ``fusion/`` of places of 256 km in September 2020, with Sentinel-1 scenes as GeoTIFF and an ISMN archive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnb.grids import M09, M36
from smnb_sandbox import fusion_places as fusion
from smnb_sandbox.files import Period, Plan, days_of
from smnb_sandbox.insitu_files import archive_name, by_network, ismn_archive
from smnb_sandbox.insitu_readings import Readings
from smnb_sandbox.noise import Float32, spread
from smnb_sandbox.regions import PLACES, REGIONS, SmapPass, region_window, smap_passes
from smnb_sandbox.smap_granules import RELEASE, level2_granule, level3_granule, scene_granule
from smnb_sandbox.smap_scenes import RegionSimulation, SceneTime, Seen, scene_times
from smnb_sandbox.smap_world import FIRST_DAY, LAST_DAY, RegionDays, RegionWorld
from smnb_sandbox.truth import pass_times, truth_bytes

#: A coarse value may be this far in time from a scene; days further from every scene may be left out of an archive.
_NEAR = timedelta(hours=24)
_MARGIN = timedelta(days=4)
_VERSION = "1"  # is written into the truth; raise it when the files change
_STATIC_DIGITS = {"clay_fraction": 3, "sand_fraction": 3, "elevation": 0}


def _l3_e_name(day: date) -> str:
    return f"{day:%Y}/SMAP_L3_SM_P_E_{day:%Y%m%d}_{RELEASE}_001.h5"


@dataclass(frozen=True)
class SmapPlan(Plan):
    """What of the downscaling world an archive holds."""

    first: date = FIRST_DAY
    last: date = LAST_DAY  # UTC days of the scenes and the daily product
    level2_days: Period = (FIRST_DAY, LAST_DAY)  # of the half-orbit product
    enhanced_days: Period = (FIRST_DAY, FIRST_DAY)  # of the 9 km product
    one_km_days: Period = (FIRST_DAY, FIRST_DAY)  # of scenes that have a 1 km group
    max_scenes: int | None = None  # at most so many scenes a region, evenly spread, and daily files only near to them

    @property
    def span(self) -> Period:
        """First and last UTC day of anything."""
        periods = ((self.first, self.last), self.level2_days, self.enhanced_days)
        return min(first for first, _ in periods), max(last for _, last in periods)

    @cached_property
    def scenes(self) -> dict[str, list[SceneTime]]:
        """The scenes of each region."""
        found = {name: scene_times(region, self.first, self.last) for name, region in REGIONS.items()}
        if self.max_scenes is None:
            return found
        counts = {name: min(self.max_scenes, len(scenes)) for name, scenes in found.items()}
        return {
            name: [scenes[i] for i in np.round(np.linspace(0, len(scenes) - 1, counts[name])).astype(int)]
            for name, scenes in found.items()
        }

    @cached_property
    def passes(self) -> dict[str, list[SmapPass]]:
        """SMAP's passes over the 36 km cells of each region."""
        windows = {name: region_window(region).covering(M36) for name, region in REGIONS.items()}
        return {name: smap_passes(window.lat, window.lon, *self.span) for name, window in windows.items()}

    @cached_property
    def kinds(self) -> dict[str, dict[str, Any]]:
        """As `Plan.kinds`: orbit and direction, UTC days, scenes, and regions."""
        first, last = self.level2_days
        passes = (one for passes in self.passes.values() for one in passes if first <= one.time.date() <= last)
        orbits = sorted({(one.start, one.orbit, one.direction) for one in passes})
        level2 = "smap_l2/SMAP_L2_SM_P_{1:05d}_{2}_{0:%Y%m%dT%H%M%S}_{3}_001.h5"
        scenes = [scene for scenes in self.scenes.values() for scene in scenes]
        times = [scene.sentinel1.time for scene in scenes]
        near = {day for time in times for day in days_of(((time - _NEAR).date(), (time + _NEAR).date()))}
        days = [day for day in days_of((self.first, self.last)) if self.max_scenes is None or day in near]
        return {
            "level2": {level2.format(*one, RELEASE): one[1:] for one in orbits},
            "level3": {f"smap_l3/{day:%Y}/SMAP_L3_SM_P_{day:%Y%m%d}_{RELEASE}_001.h5": day for day in days},
            "enhanced": {f"smap_l3_e/{_l3_e_name(day)}": day for day in days_of(self.enhanced_days)},
            "fine": {f"smap_s1_l2/{scene.sentinel1.time:%Y}/{scene.file_name}": scene for scene in scenes},
            "truth": {f"sandbox_truth/smap_truth_{name}.nc": name for name in REGIONS},
        }

    def contents(self, seed: int, missing: set[str]) -> Iterator[tuple[str, bytes]]:
        """As `Plan.contents`: region by region its scenes and their truth, then what holds passes over every region."""
        # all passes of the plan, whichever files are missing: the last bit of a retrieval may depend on their number
        days36, orbits = set(self.kinds["level3"].values()), set(self.kinds["level2"].values())
        if not missing & {*self.kinds["level2"], *self.kinds["level3"]}:
            days36, orbits = set(), set()
        days09 = set(self.kinds["enhanced"].values()) if missing & set(self.kinds["enhanced"]) else set()
        coarse: list[Seen] = []
        enhanced: list[Seen] = []
        for name, region in REGIONS.items():
            days = RegionWorld(region, seed).simulate(self.span[0] - _MARGIN, self.span[1] + _MARGIN)
            simulation = RegionSimulation(days)
            passes = [p for p in self.passes[name] if p.time.date() in days36 or (p.orbit, p.direction) in orbits]
            coarse += simulation.seen(passes, simulation.window(M36))
            if days09:
                window = simulation.window(M09)
                passes = smap_passes(window.lat, window.lon, *self.span)
                enhanced += simulation.seen([one for one in passes if one.time.date() in days09], window)
            yield from self._of_region(simulation, missing)
        by_orbit: dict[tuple[int, str], list] = {}
        for one, _, cells, seen in coarse:
            by_orbit.setdefault((one.orbit, one.direction), []).append((cells, seen))
        for name, key in self.kinds["level2"].items():
            if name in missing:
                yield name, level2_granule(name, by_orbit[key], *key)
        for names, grid, everything in ((self.kinds["level3"], M36, coarse), (self.kinds["enhanced"], M09, enhanced)):
            by_day: dict[date, list] = {}
            for one, window, cells, seen in everything:
                by_day.setdefault(one.time.date(), []).append((window, one.evening, cells, seen))
            for name, day in names.items():
                if name in missing:
                    yield name, level3_granule(name, grid, by_day.get(day, []))

    def _of_region(self, simulation: RegionSimulation, missing: set[str]) -> Iterator[tuple[str, bytes]]:
        """A region's scenes, and their truth."""
        region = simulation.world.region
        for name, when in self.kinds["fine"].items():
            if when.region == region and name in missing:
                radar = when.sentinel1.time
                one_km = self.one_km_days[0] <= radar.date() <= self.one_km_days[1]
                scene = simulation.scene(when, one_km=one_km)
                yield name, scene_granule(name, *scene, (when.smap.time, radar))
        for name, of in self.kinds["truth"].items():
            if of == region.name and name in missing:
                yield name, _truth(simulation.days, self.scenes[of])


def _truth(days: RegionDays, scenes: Sequence[SceneTime]) -> bytes:
    """The truth of a region's 3 km cells when the radar passed; open water is NaN."""
    world = days.world
    water = (world.water_fraction > 0.5)[world.inner]
    states = [days.state(scene.local_day, evening=scene.evening) for scene in scenes]

    def of_land(values: NDArray) -> Float32:
        return np.where(water, np.nan, values[world.inner]).astype(np.float32)

    def of_scenes(name: str) -> Float32:
        return np.stack([of_land(getattr(state, name)) for state in states])

    fields = {name: (of_land(getattr(world, name)), n) for name, n in _STATIC_DIGITS.items()}
    fields |= {
        name: (of_scenes(name), digits) for name, digits in (("soil_moisture", 4), ("vegetation_water_content", 1))
    }
    fields["surface_temperature"] = of_scenes("soil_temperature"), 0
    coords = world.window.coords() | {"time": pass_times([scene.sentinel1.time for scene in scenes])}
    about = (world.region.title, f"downscaling world {_VERSION}, seed {world.seed}", "sandbox_smap_truth")
    return truth_bytes(fields, coords, *about, region=world.region.name, ease_grid="M03")


@dataclass(frozen=True)
class FusionPlan(Plan):
    """The first so many of `PLACES`, and as many acquisitions of each within September 2020."""

    places: int = len(PLACES)
    scenes: int = 4

    @cached_property
    def acquisitions(self) -> dict[str, list[SceneTime]]:
        """What was acquired of each place."""
        return {name: fusion.acquisitions(place, self.scenes) for name, place in list(PLACES.items())[: self.places]}

    @cached_property
    def kinds(self) -> dict[str, dict[str, Any]]:
        """As `Plan.kinds`: acquisitions by each of their slices and by granule, places, days on which SMAP looked at a scene."""
        scenes = [when for scenes in self.acquisitions.values() for when in scenes]
        days = sorted({when.smap.time.date() for when in scenes})
        return {
            "sentinel1": {
                f"fusion/sentinel1_grd/2020/{name}": when for when in scenes for name in fusion.slice_names(when)
            },
            "fine": {f"fusion/smap_s1_l2/2020/{when.file_name}": when for when in scenes},
            "truth": {f"sandbox_truth/fusion/{name}.nc": name for name in self.acquisitions},
            "enhanced": {f"fusion/smap_l3_e/{_l3_e_name(day)}": day for day in days},
            "insitu": {
                f"fusion/ismn/{archive_name('header_values', fusion.INSITU_FIRST, fusion.INSITU_LAST)}": "readings"
            },
        }

    def contents(self, seed: int, missing: set[str]) -> Iterator[tuple[str, bytes]]:
        """As `Plan.contents`: place by place, then what holds something of every place."""
        by_day: dict[date, list] = {day: [] for name, day in self.kinds["enhanced"].items() if name in missing}
        readings: list[Readings] = []
        with_insitu = not missing.isdisjoint(self.kinds["insitu"])
        for place, scenes in self.acquisitions.items():
            own = {name for name, when in (self.kinds["sentinel1"] | self.kinds["fine"]).items() if when in scenes}
            own |= {name for name, of in self.kinds["truth"].items() if of == place}
            daily = [when for when in scenes if when.smap.time.date() in by_day]
            if not (own & missing or daily or with_insitu):
                continue
            simulation = fusion.FusionSimulation(PLACES[place], seed)
            yield from self._of_place(simulation, scenes, own & missing)
            for when in daily:
                _, window, cells, seen = simulation.passive(when)
                by_day[when.smap.time.date()].append((window, False, cells, seen))
            if with_insitu:
                readings += fusion.read_place(simulation)
        for name, day in self.kinds["enhanced"].items():
            if name in missing:
                yield name, level3_granule(name, M09, by_day[day])
        if readings:
            yield (
                next(iter(self.kinds["insitu"])),
                ismn_archive(by_network(readings, "fusion"), (fusion.INSITU_FIRST, fusion.INSITU_LAST)),
            )

    def _of_place(
        self, simulation: fusion.FusionSimulation, scenes: list[SceneTime], wanted: set[str]
    ) -> Iterator[tuple[str, bytes]]:
        """Names and contents of a place's own files."""
        for when in scenes:
            slices = [name for name, one in self.kinds["sentinel1"].items() if one is when]
            if wanted.intersection(slices):
                made = simulation.rasters(when)
                yield from ((name, content) for name, content in zip(slices, made, strict=True) if name in wanted)
        for name, when in self.kinds["fine"].items():
            if name in wanted:
                scene = simulation.scene(when, one_km=True)
                yield name, scene_granule(name, *scene, (when.smap.time, when.sentinel1.time))
        for name in wanted.intersection(self.kinds["truth"]):
            yield name, _place_truth(simulation, scenes)


def _place_truth(simulation: fusion.FusionSimulation, scenes: list[SceneTime]) -> bytes:
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
    coords = place.window.coords() | {"time": pass_times([when.sentinel1.time for when in scenes])}
    about = (place.title, f"fusion world {_VERSION}, seed {simulation.world.seed}", "sandbox_fusion_truth")
    return truth_bytes(fields, coords, *about, region=place.name, ease_grid="M01")
