"""SMAP's part of the sandbox: which files there are, writing those that are missing, and the same world in memory.

Three regions of 300 km over 2016 to 2018: radiometer products of half orbits and days, SMAP/Sentinel-1 scenes made by the
active-passive algorithm, and the truth of the scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from smnb.grids import M09, M36, EaseGrid, EaseWindow
from smnb_sandbox.regions import REGIONS, Region, find_region, region_window
from smnb_sandbox.smap_granules import Cells, level2_granule, level3_granule, pass_cells, scene_granule
from smnb_sandbox.smap_orbits import SmapPass, smap_passes
from smnb_sandbox.smap_radiometer import CoarseProduct, Radiometer
from smnb_sandbox.smap_scenes import Scene, SceneMaker, SceneTime, scene_times
from smnb_sandbox.smap_schema import RELEASE
from smnb_sandbox.smap_truth import truth_file
from smnb_sandbox.smap_world import FIRST_DAY, LAST_DAY, RegionDays, RegionWorld

#: A coarse value may be this far in time from a scene; days further from every scene may be left out of an archive.
_NEAR = timedelta(hours=24)
_MARGIN = timedelta(days=4)


@dataclass(frozen=True)
class SmapPeriod:
    """What of the downscaling world an archive holds.

    Parameters
    ----------
    first, last : date
        UTC days of the scenes and the daily product.
    level2, enhanced, one_km : (date, date)
        Days of the half-orbit product, of the 9 km product, and of scenes that have a 1 km group.
    max_scenes : int, optional
        At most so many scenes a region, evenly spread, and daily files only near to them; default all.
    """

    first: date = FIRST_DAY
    last: date = LAST_DAY
    level2: tuple[date, date] = (FIRST_DAY, LAST_DAY)
    enhanced: tuple[date, date] = (FIRST_DAY, FIRST_DAY)
    one_km: tuple[date, date] = (FIRST_DAY, FIRST_DAY)
    max_scenes: int | None = None


def _within(day: date, period: tuple[date, date]) -> bool:
    return period[0] <= day <= period[1]


def coarse_window(region: Region, grid: EaseGrid) -> EaseWindow:
    """The cells of a coarser grid that touch the region."""
    return region_window(region).covering(grid)


class SmapPlan:
    """Names of the archive's SMAP files, and what goes into each; nothing is simulated.

    Parameters
    ----------
    period : SmapPeriod
    """

    def __init__(self, period: SmapPeriod) -> None:
        self.period = period
        self.scenes = {region.name: self._scenes(region) for region in REGIONS.values()}
        windows = {region.name: coarse_window(region, M36) for region in REGIONS.values()}
        #: First and last UTC day of anything.
        self.span = (
            min(period.first, period.level2[0], period.enhanced[0]),
            max(period.last, period.level2[1], period.enhanced[1]),
        )
        self.passes = {name: smap_passes(w.lat, w.lon, *self.span) for name, w in windows.items()}

    def _scenes(self, region: Region) -> list[SceneTime]:
        scenes = scene_times(region, self.period.first, self.period.last)
        wanted = self.period.max_scenes
        if wanted is None or wanted >= len(scenes):
            return scenes
        return [scenes[i] for i in np.round(np.linspace(0, len(scenes) - 1, wanted)).astype(int)]

    def is_near_a_scene(self, day: date) -> bool:
        """Whether a UTC day is near enough to a scene to be matched with it."""
        if self.period.max_scenes is None:
            return True
        times = (s.sentinel1.time for scenes in self.scenes.values() for s in scenes)
        return any((t - _NEAR).date() <= day <= (t + _NEAR).date() for t in times)

    @cached_property
    def level2(self) -> dict[str, tuple[int, str]]:
        """Orbit and direction by path."""
        found: dict[tuple[datetime, int, str], None] = {}
        for passes in self.passes.values():
            for one in passes:
                if _within(one.time.date(), self.period.level2):
                    found[one.start, one.orbit, one.direction] = None
        return {
            f"smap_l2/SMAP_L2_SM_P_{orbit:05d}_{direction}_{start:%Y%m%dT%H%M%S}_{RELEASE}_001.h5": (orbit, direction)
            for start, orbit, direction in sorted(found)
        }

    def _daily(self, period: tuple[date, date], form: str) -> dict[str, date]:
        days = [period[0] + timedelta(days=i) for i in range((period[1] - period[0]).days + 1)]
        return {form.format(day=day, release=RELEASE): day for day in days}

    @cached_property
    def level3(self) -> dict[str, date]:
        """UTC day by path."""
        days = self._daily(
            (self.period.first, self.period.last), "smap_l3/{day:%Y}/SMAP_L3_SM_P_{day:%Y%m%d}_{release}_001.h5"
        )
        return {name: day for name, day in days.items() if self.is_near_a_scene(day)}

    @cached_property
    def enhanced(self) -> dict[str, date]:
        """UTC day by path."""
        return self._daily(self.period.enhanced, "smap_l3_e/{day:%Y}/SMAP_L3_SM_P_E_{day:%Y%m%d}_{release}_001.h5")

    @cached_property
    def fine(self) -> dict[str, SceneTime]:
        """Scene by path."""
        return {
            f"smap_s1_l2/{scene.sentinel1.time:%Y}/{scene.file_name}": scene
            for scenes in self.scenes.values()
            for scene in scenes
        }

    @cached_property
    def truth(self) -> dict[str, str]:
        """Region by path."""
        return {f"sandbox_truth/smap_truth_{name}.nc": name for name in REGIONS}

    @property
    def files(self) -> list[str]:
        """All paths, in the order of the manifest."""
        return [*self.level2, *self.level3, *self.enhanced, *self.fine, *self.truth]


class RegionSimulation:
    """One region in memory: truth, coarse products and scenes; what is not asked for is not computed.

    Parameters
    ----------
    region : Region
    seed : int
    first, last : date
        UTC days.

    Attributes
    ----------
    world : RegionWorld
    days : RegionDays
        The truth at 3 km, some days more than asked for.
    radiometer : Radiometer
    """

    def __init__(self, region: Region, seed: int, first: date, last: date) -> None:
        self.region, self.first, self.last = region, first, last
        self.world = RegionWorld(region, seed)
        self.days: RegionDays = self.world.simulate(first - _MARGIN, last + _MARGIN)
        self.radiometer = Radiometer(self.days)
        self._maker = SceneMaker(self.radiometer)

    @cached_property
    def scene_times(self) -> list[SceneTime]:
        """All scenes of the period."""
        return scene_times(self.region, self.first, self.last)

    def scene(self, when: SceneTime, *, one_km: bool = False) -> Scene:
        """Make the SMAP/Sentinel-1 product of a scene, on request with its 1 km fields."""
        return self._maker.make(when, one_km=one_km)

    def truth(self, day: date) -> NDArray[np.float32]:
        """Soil moisture of the region's 100 x 100 cells at 6 a.m. of a local day, m3 m-3."""
        return self.days.state(day).soil_moisture[self.world.inner]

    def truth_1km(self, day: date) -> NDArray[np.float32]:
        """The same of the 300 x 300 cells of 1 km."""
        rows, cols = (slice(3 * s.start, 3 * s.stop) for s in self.world.inner)
        return self.world.fine_soil_moisture(self.days.state(day).soil_moisture)[rows, cols]

    def window(self, grid: EaseGrid) -> EaseWindow:
        """The cells of `M36` or `M09` that touch the region."""
        return coarse_window(self.region, grid)

    def passes(self, grid: EaseGrid = M36) -> list[SmapPass]:
        """SMAP's passes over these cells in the period."""
        window = self.window(grid)
        return smap_passes(window.lat, window.lon, self.first, self.last)

    def coarse(self, passes: Sequence[SmapPass] | None = None, grid: EaseGrid = M36) -> CoarseProduct:
        """The radiometer's product of passes (default all of the period) over the cells of `window`."""
        window, domain = self.window(grid), self.world.domain.on(grid)
        rows = slice(window.row_start - domain.row_start, window.row_stop - domain.row_start)
        cols = slice(window.col_start - domain.col_start, window.col_stop - domain.col_start)
        size = 12 // grid.cells_across(M36)
        return self.radiometer.observe(self.passes(grid) if passes is None else passes, size, (rows, cols))


def simulate_region(name: str, seed: int = 2011, first: date = FIRST_DAY, last: date = LAST_DAY) -> RegionSimulation:
    """Simulate a region of the downscaling world in memory.

    Parameters
    ----------
    name : {"oklahoma_city", "tucson", "geneva"}
    seed : int
        Non-negative.
    first, last : date
        UTC days, from 2016-01-01 on; a day does not depend on them.

    Returns
    -------
    RegionSimulation

    Raises
    ------
    ParameterError
        For an unknown region, a bad seed, or an impossible period.

    Examples
    --------
    >>> tucson = simulate_region("tucson", 0, date(2017, 7, 1), date(2017, 7, 20))
    >>> tucson.truth(date(2017, 7, 15)).shape, tucson.coarse().soil_moisture.shape[1:]
    ((100, 100), (9, 9))
    """
    return RegionSimulation(find_region(name), seed, first, last)


def write_smap(plan: SmapPlan, seed: int, missing: set[str], submit: Callable[[str, bytes], None]) -> None:
    """Simulate the regions and hand over the files that are missing, each as a name and bytes.

    Parameters
    ----------
    plan : SmapPlan
    seed : int
    missing : set of str
        Paths of ``plan.files``.
    submit : callable
        Called with the name and the content of each.
    """
    if not missing.intersection(plan.files):
        return
    # all passes of the plan, whichever files are missing: the last bit of a retrieval may depend on its neighbours' number
    days36, orbits = set(plan.level3.values()), set(plan.level2.values())
    if not missing & {*plan.level2, *plan.level3}:
        days36, orbits = set(), set()
    days09 = set(plan.enhanced.values()) if missing & set(plan.enhanced) else set()
    coarse: list[tuple[SmapPass, EaseWindow, Cells, NDArray[np.bool_]]] = []
    enhanced: list[tuple[SmapPass, EaseWindow, Cells, NDArray[np.bool_]]] = []
    for region in REGIONS.values():
        simulation = RegionSimulation(region, seed, *plan.span)
        passes = plan.passes[region.name]
        wanted = [p for p in passes if p.time.date() in days36 or (p.orbit, p.direction) in orbits]
        coarse += _cells(simulation, wanted, M36)
        if days09:
            enhanced += _cells(simulation, [p for p in simulation.passes(M09) if p.time.date() in days09], M09)
        _write_scenes(plan, simulation, missing, submit)
    by_orbit: dict[tuple[int, str], list] = {}
    for one, _, cells, seen in coarse:
        by_orbit.setdefault((one.orbit, one.direction), []).append((cells, seen))
    for name, key in plan.level2.items():
        if name in missing:
            submit(name, level2_granule(name.rpartition("/")[2], by_orbit[key], *key))
    for names, grid, everything in ((plan.level3, M36, coarse), (plan.enhanced, M09, enhanced)):
        by_day: dict[date, list] = {}
        for one, window, cells, seen in everything:
            by_day.setdefault(one.time.date(), []).append((window, one.evening, cells, seen))
        for name, day in names.items():
            if name in missing:
                submit(name, level3_granule(name.rpartition("/")[2], grid, by_day.get(day, [])))


def _cells(
    simulation: RegionSimulation, passes: Sequence[SmapPass], grid: EaseGrid
) -> list[tuple[SmapPass, EaseWindow, Cells, NDArray[np.bool_]]]:
    product, window = simulation.coarse(passes, grid), simulation.window(grid)
    return [(one, window, *pass_cells(product, number, window)) for number, one in enumerate(passes)]


def _write_scenes(
    plan: SmapPlan, simulation: RegionSimulation, missing: set[str], submit: Callable[[str, bytes], None]
) -> None:
    """Hand over a region's scenes, and their truth."""
    region = simulation.region.name
    for name, when in plan.fine.items():
        if when.region.name == region and name in missing:
            one_km = _within(when.sentinel1.time.date(), plan.period.one_km)
            scene = simulation.scene(when, one_km=one_km)
            times = (when.smap.time, when.sentinel1.time)
            submit(name, scene_granule(name.rpartition("/")[2], scene.fields, scene.fields_1km, times))
    for name, of in plan.truth.items():
        if of == region and name in missing:
            submit(name, truth_file(simulation.days, plan.scenes[region]))
