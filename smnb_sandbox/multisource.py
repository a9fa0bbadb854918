"""The multi-source part of the sandbox: which files there are, and writing those that are missing.

Twenty sites of the contiguous US in 2020 and 2021, with two or three in-situ sensors each: Sentinel-1 and Sentinel-2 scenes,
terrain, soil maps, land cover, SMAP at 10 km, GLDAS, leaf area, an ISMN archive, and the truth. At one of them some scenes are
larger, for maps. All of it lies below ``multisource/`` (the truth below ``sandbox_truth/multisource/``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from smnb.contract import ParameterError, plain
from smnb_sandbox import multisource_coarse as coarse
from smnb_sandbox.multisource_days import SiteSimulation
from smnb_sandbox.multisource_ground import SOIL_BANDS, Ground, dem_file, dem_name, land_cover_file, soil_file
from smnb_sandbox.multisource_insitu import REACH, SiteStations, ismn_name, site_stations, write_ismn
from smnb_sandbox.multisource_rasters import Patch
from smnb_sandbox.multisource_sentinel import sentinel1_file, sentinel2_file
from smnb_sandbox.multisource_sites import (
    MAP_DAYS,
    MAP_SITE,
    SITES,
    Sentinel1Pass,
    Sentinel2Pass,
    Site,
    is_west,
    sentinel1_passes,
    sentinel2_passes,
)
from smnb_sandbox.multisource_truth import truth_file

#: Days after a Sentinel-1 pass in which it can be paired with an image of SMAP.
_SMAP_DAYS_AFTER = 7
_LARGEST_MAP = 2304


@dataclass(frozen=True)
class MultisourcePeriod:
    """What of the multi-source world an archive holds.

    Parameters
    ----------
    sites : int
        The first so many of `SITES`.
    tile : int
        Pixels of 10 m along a side of a site's scenes, a multiple of 16: a crop and 48 pixels more, because sensors stand
        up to 24 pixels from the middle.
    map_size : int
        The same of the larger scenes, a multiple of 16.
    map_dates : int
        How many dates have them.
    """

    sites: int = len(SITES)
    tile: int = 112
    map_size: int = 512
    map_dates: int = 3

    def __post_init__(self) -> None:
        sizes = (
            self.tile % 16 == 0 and self.map_size % 16 == 0 and 2 * REACH < self.tile <= self.map_size <= _LARGEST_MAP
        )
        if not (sizes and 1 <= self.sites <= len(SITES) and 0 <= self.map_dates <= len(MAP_DAYS)):
            raise ParameterError(
                "MultisourcePeriod",
                "impossible numbers",
                got=(self.sites, self.tile, self.map_size, self.map_dates),
                expected=plain(
                    f"1 to {len(SITES)} sites, multiples of 16 from {2 * REACH + 16} to {_LARGEST_MAP}, and at most "
                    f"{len(MAP_DAYS)} dates"
                ),
            )


class MultisourcePlan:
    """Names of the archive's files, and what goes into each; nothing is simulated.

    Parameters
    ----------
    period : MultisourcePeriod
    """

    def __init__(self, period: MultisourcePeriod) -> None:
        self.period = period
        self.sites: list[Site] = list(SITES.values())[: period.sites]

    def largest(self, site: Site) -> int:
        """Pixels along a side of a site's largest scenes."""
        return self.period.map_size if site.name == MAP_SITE and self.period.map_dates else self.period.tile

    def size(self, one: Sentinel1Pass | Sentinel2Pass) -> int:
        """Pixels along a side of a scene."""
        if isinstance(one, Sentinel2Pass):
            return self.period.map_size if one.on_map else self.period.tile
        on_map = one.map_number is not None and one.map_number < self.period.map_dates
        return self.period.map_size if on_map else self.period.tile

    @cached_property
    def sentinel1(self) -> dict[str, Sentinel1Pass]:
        """Pass by path."""
        passes = (one for site in self.sites for one in sentinel1_passes(site))
        return {f"multisource/sentinel1/{one.time:%Y}/{one.file_name}": one for one in passes}

    @cached_property
    def sentinel2(self) -> dict[str, Sentinel2Pass]:
        """Scene by path."""
        scenes = (one for site in self.sites for one in sentinel2_passes(site, self.period.map_dates))
        return {f"multisource/sentinel2/{one.time:%Y}/{one.file_name}": one for one in scenes}

    @cached_property
    def dem(self) -> dict[str, Site]:
        """Site by path of its terrain."""
        return {f"multisource/dem/{dem_name(site.lat, site.lon, site.name)}": site for site in self.sites}

    @cached_property
    def truth(self) -> dict[str, tuple[Site, tuple[Sentinel1Pass, ...], int]]:
        """Site, passes and size by path: of all passes, and of the larger scenes."""
        found = {}
        for site in self.sites:
            passes = sentinel1_passes(site)
            found[f"sandbox_truth/multisource/{site.name}.nc"] = (site, passes, self.period.tile)
            large = tuple(
                one for one in passes if one.map_number is not None and one.map_number < self.period.map_dates
            )
            if large:
                found[f"sandbox_truth/multisource/{site.name}_map.nc"] = (site, large, self.period.map_size)
        return found

    @cached_property
    def smap(self) -> dict[str, date]:
        """First day by path."""
        return {f"multisource/smap10km/{day:%Y}/{coarse.smap_name(day)}": day for day in coarse.smap_days()}

    @cached_property
    def gldas(self) -> dict[str, datetime]:
        """Time by path: the granule before each pass, and before each image of SMAP that a pass can be paired with."""
        times = {coarse.gldas_time(one, is_west(one.site)) for one in self.sentinel1.values()}
        for day in coarse.smap_days():
            start = datetime.combine(day, datetime.min.time(), UTC)
            after = any(
                timedelta() <= start - one.time <= timedelta(days=_SMAP_DAYS_AFTER) for one in self.sentinel1.values()
            )
            if after and not any(timedelta() <= start - time <= timedelta(hours=3) for time in times):
                times.add(start)
        return {f"multisource/gldas/{time:%Y}/{coarse.gldas_name(time)}": time for time in sorted(times)}

    @cached_property
    def lai(self) -> dict[str, date]:
        """First day by path."""
        return {f"multisource/modis_lai/{day:%Y}/{coarse.lai_name(day)}": day for day in coarse.lai_days()}

    @cached_property
    def soil(self) -> dict[str, str]:
        """Property by path."""
        return {f"multisource/soilgrids/soilgrids_{name}_0-5cm_mean.tif": name for name in SOIL_BANDS}

    land_cover = "multisource/landcover/PROBAV_LC100_global_v3.0.1_2019-nrt_Discrete-Classification-map_EPSG-4326.tif"
    insitu = f"multisource/ismn/{ismn_name()}"

    @cached_property
    def joint(self) -> list[str]:
        """Paths of the files that hold something of every site."""
        return [*self.smap, *self.gldas, *self.lai, *self.soil, self.land_cover, self.insitu]

    @property
    def files(self) -> list[str]:
        """All paths, in the order of the manifest."""
        return [*self.sentinel1, *self.sentinel2, *self.dem, *self.truth, *self.joint]

    def own(self, site: Site) -> list[str]:
        """Paths of a site's own files."""
        of_scenes = [name for name, one in (self.sentinel1 | self.sentinel2).items() if one.site is site]
        of_truth = [name for name, (one, *_) in self.truth.items() if one is site]
        return [*of_scenes, *(name for name, one in self.dem.items() if one is site), *of_truth]


class _Joint:
    """What the files that hold something of every site are made of, site by site.

    Parameters
    ----------
    plan : MultisourcePlan
    missing : set of str
        What is not missing is not collected.
    """

    def __init__(self, plan: MultisourcePlan, missing: set[str]) -> None:
        self.plan, self.missing = plan, missing
        self.smap: list[list[Patch]] = []
        self.gldas: list[Patch] = []
        self.lai: list[list[Patch]] = []
        self.soil: list[dict[str, Patch]] = []
        self.cover: list[Patch] = []
        self.stations: list[SiteStations] = []

    def _wanted(self, names: dict[str, object]) -> bool:
        return not self.missing.isdisjoint(names)

    def add(self, simulation: SiteSimulation, ground: Ground) -> None:
        """Take what is needed of a site."""
        plan = self.plan
        if self._wanted(plan.smap):
            self.smap.append(coarse.smap_patches(simulation.days))
        if self._wanted(plan.gldas):
            self.gldas.append(coarse.gldas_patch(simulation.days, list(plan.gldas.values())))
        if self._wanted(plan.lai):
            self.lai.append(coarse.lai_patches(simulation, ground))
        if self._wanted(plan.soil):
            self.soil.append(ground.soil())
        if plan.land_cover in self.missing:
            self.cover.append(ground.cover())
        if plan.insitu in self.missing:
            self.stations.append(site_stations(simulation))

    def files(self, seed: int) -> Iterator[tuple[str, bytes]]:
        """Names and contents of those that are missing."""
        plan = self.plan
        for i, (name, day) in enumerate(plan.smap.items()):
            if name in self.missing:
                yield name, coarse.smap_file(day, [patches[i] for patches in self.smap])
        for i, (name, time) in enumerate(plan.gldas.items()):
            if name in self.missing:
                yield name, coarse.gldas_file(time, [Patch(patch.box, patch.values[i]) for patch in self.gldas])
        for i, (name, day) in enumerate(plan.lai.items()):
            if name in self.missing:
                yield name, coarse.lai_file(day, [patches[i] for patches in self.lai])
        for name, band in plan.soil.items():
            if name in self.missing:
                yield name, soil_file(band, [patches[band] for patches in self.soil])
        if self.cover:
            yield plan.land_cover, land_cover_file(self.cover)
        if self.stations:
            with TemporaryDirectory() as folder:
                path = Path(folder) / "archive.zip"
                write_ismn(path, self.stations, seed)
                yield plan.insitu, path.read_bytes()


def write_multisource(
    plan: MultisourcePlan, seed: int, missing: set[str], submit: Callable[[str, bytes], None]
) -> None:
    """Simulate the sites and hand over the files that are missing, each as a name and bytes.

    Parameters
    ----------
    plan : MultisourcePlan
    seed : int
    missing : set of str
        Paths of ``plan.files``.
    submit : callable
        Called with the name and the content of each.
    """
    joint = _Joint(plan, missing)
    any_joint = not missing.isdisjoint(plan.joint)
    for site in plan.sites:
        own = missing.intersection(plan.own(site))
        if not (own or any_joint):
            continue
        simulation = SiteSimulation(site, seed, plan.largest(site))
        ground = Ground(simulation)
        for name in plan.own(site):
            if name in own:
                submit(name, _own_file(plan, simulation, ground, name))
        if any_joint:
            joint.add(simulation, ground)
    for name, content in joint.files(seed):
        submit(name, content)


def _own_file(plan: MultisourcePlan, simulation: SiteSimulation, ground: Ground, name: str) -> bytes:
    """Content of one of a site's own files."""
    if name in plan.sentinel1:
        one = plan.sentinel1[name]
        return sentinel1_file(simulation, one, plan.size(one))
    if name in plan.sentinel2:
        scene = plan.sentinel2[name]
        return sentinel2_file(simulation, scene, plan.size(scene))
    if name in plan.dem:
        return dem_file(ground)
    _, passes, size = plan.truth[name]
    return truth_file(simulation, passes, size)
