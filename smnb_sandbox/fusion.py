"""The 1 km fusion's part of the sandbox: which files there are, writing those that are missing, and the same in memory.

Places of the contiguous US in September 2020, each a square of 256 cells of 1 km: Sentinel-1 scenes as GeoTIFF, SMAP's
enhanced daily product (9 km), the SMAP/Sentinel-1 product (3 and 1 km), an ISMN archive, and the truth. All of it lies below
``fusion/`` (the truth below ``sandbox_truth/fusion/``), where no other catalog entry looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from smnb.contract import ParameterError, plain
from smnb.grids import M09
from smnb_sandbox.fusion_insitu import PlaceStations, ismn_name, place_stations, write_ismn
from smnb_sandbox.fusion_scenes import FusionSimulation, acquisitions
from smnb_sandbox.fusion_sentinel1 import Sentinel1Writer, slice_names
from smnb_sandbox.regions import PLACES, places_of
from smnb_sandbox.smap_granules import level3_granule, scene_granule
from smnb_sandbox.smap_scenes import SceneTime
from smnb_sandbox.smap_schema import RELEASE
from smnb_sandbox.truth_files import truth_bytes

#: Is written into the truth; raise it when the files change.
_VERSION = "1"


@dataclass(frozen=True)
class FusionPeriod:
    """What of the fusion world an archive holds.

    Parameters
    ----------
    places : int
        The first so many of `PLACES`.
    scenes : int
        Acquisitions of each, within September 2020.
    """

    places: int = len(PLACES)
    scenes: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.places <= len(PLACES) or self.scenes < 1:
            raise ParameterError(
                "FusionPeriod",
                "impossible numbers",
                got=(self.places, self.scenes),
                expected=plain(f"1 to {len(PLACES)} places and at least one scene"),
            )


class FusionPlan:
    """Names of the archive's files, and what goes into each; nothing is simulated.

    Parameters
    ----------
    period : FusionPeriod
    """

    def __init__(self, period: FusionPeriod) -> None:
        self.places = places_of(period.places)
        self.scenes = {place.name: acquisitions(place, period.scenes) for place in self.places}

    def _all(self) -> Iterator[SceneTime]:
        for scenes in self.scenes.values():
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
    def enhanced(self) -> dict[str, date]:
        """UTC day by path: the days on which SMAP looked at a scene."""
        days = sorted({when.smap.time.date() for when in self._all()})
        return {f"fusion/smap_l3_e/2020/SMAP_L3_SM_P_E_{day:%Y%m%d}_{RELEASE}_001.h5": day for day in days}

    @cached_property
    def truth(self) -> dict[str, str]:
        """Place by path."""
        return {f"sandbox_truth/fusion/{place.name}.nc": place.name for place in self.places}

    insitu = f"fusion/ismn/{ismn_name()}"

    @property
    def files(self) -> list[str]:
        """All paths, in the order of the manifest."""
        return [*self.sentinel1, *self.fine, *self.truth, *self.enhanced, self.insitu]


def write_fusion(plan: FusionPlan, seed: int, missing: set[str], submit: Callable[[str, bytes], None]) -> None:
    """Simulate the places and hand over the files that are missing, each as a name and bytes.

    Parameters
    ----------
    plan : FusionPlan
    seed : int
    missing : set of str
        Paths of ``plan.files``.
    submit : callable
        Called with the name and the content of each.
    """
    days = {day for name, day in plan.enhanced.items() if name in missing}
    by_day: dict[date, list] = {day: [] for day in days}
    stations: list[PlaceStations] = []
    for place in plan.places:
        scenes = plan.scenes[place.name]
        own = {name for name, when in (plan.sentinel1 | plan.fine).items() if when in scenes}
        own |= {name for name, of in plan.truth.items() if of == place.name}
        daily = [when for when in scenes if when.smap.time.date() in days]
        if not (own & missing or daily or plan.insitu in missing):
            continue
        simulation = FusionSimulation(place, seed)
        for name, content in _place_files(plan, simulation, own & missing):
            submit(name, content)
        for when in daily:
            window, cells, seen = simulation.passive(when)
            by_day[when.smap.time.date()].append((window, False, cells, seen))
        if plan.insitu in missing:
            stations.append(place_stations(simulation))
    for name, day in plan.enhanced.items():
        if name in missing:
            submit(name, level3_granule(name.rpartition("/")[2], M09, by_day[day]))
    if stations:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "archive.zip"
            write_ismn(path, stations, seed)
            submit(plan.insitu, path.read_bytes())


def _place_files(plan: FusionPlan, simulation: FusionSimulation, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a place's own files."""
    place = simulation.place
    writer = Sentinel1Writer(simulation)
    for when in plan.scenes[place.name]:
        slices = {
            name.rpartition("/")[2]: name for name, one in plan.sentinel1.items() if one is when and name in wanted
        }
        if slices:
            for name, content in writer.rasters(when, simulation.radar(when)):
                if name in slices:
                    yield slices[name], content
    for name, when in plan.fine.items():
        if name in wanted:
            scene = simulation.scene(when)
            times = (when.smap.time, when.sentinel1.time)
            yield name, scene_granule(name.rpartition("/")[2], scene.fields, scene.fields_1km, times)
    for name, of in plan.truth.items():
        if of == place.name and name in wanted:
            yield name, truth_file(simulation, plan.scenes[place.name])


def truth_file(simulation: FusionSimulation, scenes: list[SceneTime]) -> bytes:
    """The truth of a place at the times of the radar's passes, as NetCDF 4.

    Parameters
    ----------
    simulation : FusionSimulation
    scenes : list of SceneTime
        In order.

    Returns
    -------
    bytes
        Dims (time, y, x) on the place's 1 km window: ``soil_moisture``, ``vegetation_water_content``, and without time
        ``clay_fraction``, ``sand_fraction`` and ``elevation``. Open water is NaN.
    """
    place, world = simulation.place, simulation.world
    water = world.lake[simulation.cut]
    states = [simulation.days.state(when.local_day, evening=when.evening) for when in scenes]

    def fine(values: np.ndarray) -> np.ndarray:
        return np.where(water, np.nan, values.repeat(3, axis=0).repeat(3, axis=1)[simulation.cut]).astype("float32")

    fields = {
        "soil_moisture": (np.stack([simulation.truth(when) for when in scenes]), 4),
        "vegetation_water_content": (np.stack([fine(state.vegetation_water_content) for state in states]), 2),
        "clay_fraction": (fine(world.clay_fraction), 3),
        "sand_fraction": (fine(world.sand_fraction), 3),
        "elevation": (np.where(water, np.nan, world.fine_elevation[simulation.cut]).astype("float32"), 0),
    }
    times = np.array([when.sentinel1.time.replace(tzinfo=None) for when in scenes], dtype="datetime64[ns]")
    attrs = {"standard_name": "time", "long_name": "time of the Sentinel-1 pass, UTC"}
    return truth_bytes(
        fields,
        place.window.coords() | {"time": ("time", times, attrs)},
        {
            "Conventions": "CF-1.8",
            "title": f"Hidden truth of the smnb sandbox, {place.title} (synthetic)",
            "source": "smnb_sandbox, simulated",
            "synthetic": 1,
            "region": place.name,
            "ease_grid": "M01",
            "history": f"written by smnb_sandbox, fusion world {_VERSION}, seed {simulation.seed}",
            "catalog_id": "sandbox_fusion_truth",
        },
    )
