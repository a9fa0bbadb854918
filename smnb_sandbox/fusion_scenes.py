"""One place of the 1 km fusion in memory: its September, when both satellites looked, and what each of them saw.

The world, the radiometer, the radar and the active-passive algorithm are those of the downscaling world, unchanged. Its
weather is drawn without regard to the year, so that September 2020 here is that of 2016 there (both leap years): what a day
holds depends on the place and the seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from smnb.contract import ParameterError, plain
from smnb.grids import M09, EaseWindow
from smnb_sandbox.regions import FusionPlace, region_domain
from smnb_sandbox.smap_granules import Cells, pass_cells
from smnb_sandbox.smap_orbits import Sentinel1Pass, SmapPass, smap_passes
from smnb_sandbox.smap_radiometer import Radiometer
from smnb_sandbox.smap_scenes import REFERENCE_ANGLE_DEG, Scene, SceneMaker, SceneTime
from smnb_sandbox.smap_world import RegionDays, RegionState, RegionWorld

#: First and last UTC day of the scenes.
FIRST_DAY, LAST_DAY = date(2020, 9, 1), date(2020, 9, 30)
#: Days before and after them that are simulated: the in-situ records begin before the scenes.
_BEFORE, _AFTER = 20, 3
#: The year of the downscaling world whose weather this is.
_WEATHER_YEAR = 2016
#: Sentinel-1A and B together repeat a track in six days.
_REPEAT_DAYS = 6
#: Share of the place that SMAP must see on the radar's day.
_SMAP_COVER = 0.99


class AnalogueDays(RegionDays):
    """Days of `_WEATHER_YEAR` under the dates of another leap year."""

    @classmethod
    def of(cls, days: RegionDays) -> AnalogueDays:
        """Wrap simulated days."""
        return cls(**{one.name: getattr(days, one.name) for one in fields(days)})

    def state(self, day: date, *, evening: bool = False) -> RegionState:
        """The state at 6 a.m. or 6 p.m. of a local day, by its date in 2020."""
        return super().state(day.replace(year=_WEATHER_YEAR), evening=evening)


def radar_looks(pixel_m: float) -> float:
    """Looks of a square pixel of the interferometric wide swath: 4.4 in each 20 m x 22 m."""
    return 4.4 * pixel_m**2 / (20.0 * 22.0)


def acquisitions(place: FusionPlace, count: int, first: date = FIRST_DAY, last: date = LAST_DAY) -> list[SceneTime]:
    """The scenes of a place, in order: passes of Sentinel-1 on mornings on which SMAP saw all of it too.

    Each track repeats in six days (both satellites); its phase is that with the most such mornings, so that neither product
    waits for the other. Orbits are no matter of chance: they are the same for every seed.

    Parameters
    ----------
    place : FusionPlace
    count : int
        How many, evenly spread among those there are.
    first, last : date
        UTC days.

    Raises
    ------
    ParameterError
        If there are fewer.
    """
    region = place.region
    nine = region_domain(region).on(M09)
    cut = _inside(place.window.covering(M09), nine)
    mornings = {
        one.time.date(): one
        for one in smap_passes(nine.lat, nine.lon, first, last)
        if not one.evening and one.covered[cut].mean() >= _SMAP_COVER
    }
    found: list[SceneTime] = []
    free = list(range(_REPEAT_DAYS))
    for track, (orbit, direction, _, hour, _, _) in enumerate(region.passes):
        phase = max(free, key=lambda p: sum(day.toordinal() % _REPEAT_DAYS == p for day in mornings))
        free.remove(phase)
        for day, smap in mornings.items():
            if day.toordinal() % _REPEAT_DAYS == phase:
                satellite = "AB"[day.toordinal() // _REPEAT_DAYS % 2]
                time = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=round(hour, 3))
                radar = Sentinel1Pass(track, orbit, direction, satellite, time.replace(microsecond=0))
                found.append(SceneTime(region, radar, smap, smap, place.radar_window))
    if len(found) < count:
        raise ParameterError(
            f"acquisitions({place.name})",
            "there are fewer mornings with both satellites",
            got=count,
            expected=plain(f"at most {len(found)}"),
        )
    found.sort(key=lambda scene: scene.sentinel1.time)
    return [found[i] for i in np.round(np.linspace(0, len(found) - 1, count)).astype(int)]


def _inside(window: EaseWindow, domain: EaseWindow) -> tuple[slice, slice]:
    """Rows and columns of a window within a larger one of the same grid."""
    return (
        slice(window.row_start - domain.row_start, window.row_stop - domain.row_start),
        slice(window.col_start - domain.col_start, window.col_stop - domain.col_start),
    )


@dataclass(frozen=True)
class RadarImage:
    """What the radar saw of the domain's 1 km cells, (row, col)."""

    vv: NDArray[np.float32]
    """Linear power at the angle it was seen under, not the reference angle; NaN off the swath."""
    vh: NDArray[np.float32]
    angle: NDArray[np.float32]
    """Degrees."""
    domain: EaseWindow


class FusionSimulation:
    """A place in memory; what is not asked for is not computed.

    Parameters
    ----------
    place : FusionPlace
    seed : int
        Non-negative.

    Attributes
    ----------
    world : RegionWorld
    days : AnalogueDays
        The truth at 3 km.
    radiometer : Radiometer
    """

    def __init__(self, place: FusionPlace, seed: int) -> None:
        self.place, self.seed = place, seed
        first, last = FIRST_DAY - timedelta(days=_BEFORE), LAST_DAY + timedelta(days=_AFTER)
        # its matrices are so small that threads only wait for one another
        with threadpool_limits(1):
            self.world = RegionWorld(place.region, seed)
            days = self.world.simulate(first.replace(year=_WEATHER_YEAR), last.replace(year=_WEATHER_YEAR))
        self.days = AnalogueDays.of(days)
        self.radiometer = Radiometer(self.days)
        self._maker = SceneMaker(self.radiometer)

    @cached_property
    def cut(self) -> tuple[slice, slice]:
        """The place within the domain's 1 km cells."""
        return _inside(self.place.window, self.world.fine)

    def fine_truth(self, day: date) -> NDArray[np.float32]:
        """Soil moisture of the domain's 1 km cells at 6 a.m. of a local day, m3 m-3, water included."""
        return self.world.fine_soil_moisture(self.days.state(day).soil_moisture)

    def truth(self, when: SceneTime) -> NDArray[np.float32]:
        """Soil moisture of the place's cells when the radar passed, m3 m-3; open water is NaN."""
        return np.where(self.world.lake[self.cut], np.nan, self.fine_truth(when.local_day)[self.cut])

    def scene(self, when: SceneTime) -> Scene:
        """The SMAP/Sentinel-1 product of an acquisition, with its 1 km fields."""
        return self._maker.make(when, one_km=True)

    def radar(self, when: SceneTime) -> RadarImage:
        """The same acquisition as the product is made of, before the correction to one angle."""
        state = self.days.state(when.local_day, evening=when.evening)
        vv, vh, angle = self._maker.sigma0(when, state)
        from_reference = (np.cos(np.radians(angle)) / np.cos(np.radians(REFERENCE_ANGLE_DEG))) ** 2
        return RadarImage(vv * from_reference, vh * from_reference, angle, self.world.fine)

    def passive(self, when: SceneTime) -> tuple[EaseWindow, Cells, NDArray[np.bool_]]:
        """The radiometer's product at 9 km of a scene's SMAP pass: where, the fields of the granule, and which cells it saw."""
        window, domain = self.place.passive_window, self.world.domain.on(M09)
        crop = _inside(window, domain)
        one: SmapPass = replace(when.smap, seconds=when.smap.seconds[crop], covered=when.smap.covered[crop])
        product = self.radiometer.observe([one], 3, crop)
        return window, *pass_cells(product, 0, window)
