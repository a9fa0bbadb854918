"""The multi-source part of the sandbox: its files, below ``multisource/``.

Twenty sites of the contiguous US in 2020 and 2021, with two or three in-situ sensors each: Sentinel-1 and Sentinel-2 scenes
(at one site some are larger), terrain, soil maps, land cover, SMAP at 10 km, GLDAS, leaf area, ISMN, and the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
from pyproj import CRS

from smnb_sandbox import multisource_rasters as fine
from smnb_sandbox import multisource_series as series
from smnb_sandbox import multisource_sites as places
from smnb_sandbox.files import RASTERS, Plan
from smnb_sandbox.insitu_files import archive_name, by_network, ismn_archive
from smnb_sandbox.multisource_land import SiteSimulation
from smnb_sandbox.multisource_rasters import Ground
from smnb_sandbox.multisource_sites import FIRST_DAY, LAST_DAY, MAP_SITE, SITES, Sentinel2Pass, Site, SitePass
from smnb_sandbox.noise import blocks
from smnb_sandbox.truth import pass_times, truth_bytes

_SMAP_DAYS_AFTER = 7  # days after a Sentinel-1 pass in which it can be paired with an image of SMAP
_VERSION = "1"  # is written into the truth; raise it when the files change
_TRUTH_M = 20.0
_COVER_NAME = "multisource/landcover/PROBAV_LC100_global_v3.0.1_2019-nrt_Discrete-Classification-map_EPSG-4326.tif"


@dataclass(frozen=True)
class MultisourcePlan(Plan):
    """The first so many of `SITES`, and how large their rasters are."""

    sites: int = len(SITES)
    tile: int = 112
    """Pixels of 10 m along a side of a site's scenes, a multiple of 16: a crop and 48 pixels more, because sensors stand up to
    24 pixels from the middle."""
    map_size: int = 512  # the same of the larger scenes, at most 2304
    map_dates: int = 3  # how many dates have them

    @property
    def _sites(self) -> list[Site]:
        return list(SITES.values())[: self.sites]

    def largest(self, site: Site) -> int:
        """Pixels along a side of a site's largest scenes."""
        return self.map_size if site.name == MAP_SITE and self.map_dates else self.tile

    def size(self, one: SitePass | Sentinel2Pass) -> int:
        """Pixels along a side of a scene."""
        on_map = one.on_map if isinstance(one, Sentinel2Pass) else self._on_map(one)
        return self.map_size if on_map else self.tile

    def _on_map(self, one: SitePass) -> bool:
        return one.map_number is not None and one.map_number < self.map_dates

    @cached_property
    def kinds(self) -> dict[str, dict[str, Any]]:
        """As `Plan.kinds`: passes and scenes, sites, days and times, and properties of the soil."""
        passes = [one for site in self._sites for one in places.site_passes(site)]
        scenes = [one for site in self._sites for one in places.sentinel2_passes(site, self.map_dates)]
        corners = [(site, int(np.floor(site.lat)), -int(np.floor(site.lon))) for site in self._sites]
        smap = "multisource/smap10km/{:%Y}/SMAP10KM_soil_moisture_{:%Y%m%d}_{:%Y%m%d}.tif"
        gldas = "multisource/gldas/{:%Y}/GLDAS_NOAH025_3H.A{:%Y%m%d.%H%M}.021.nc4"
        last, archive = timedelta(days=series.SMAP_DAYS - 1), archive_name("header_values", FIRST_DAY, LAST_DAY)
        return {
            "sentinel1": {f"multisource/sentinel1/{one.time:%Y}/{one.file_name}": one for one in passes},
            "sentinel2": {f"multisource/sentinel2/{one.time:%Y}/{one.file_name}": one for one in scenes},
            "dem": {f"multisource/dem/NASADEM_HGT_n{n:02d}w{w:03d}_{site.name}.tif": site for site, n, w in corners},
            "truth": self._truths(),
            "smap": {smap.format(day, day, day + last): day for day in series.smap_days()},
            "gldas": {gldas.format(time, time): time for time in _gldas_times(passes)},
            "lai": {f"multisource/modis_lai/{day:%Y}/MCD15A3H_{day:%Y_%m_%d}.tif": day for day in series.lai_days()},
            "soil": {f"multisource/soilgrids/soilgrids_{name}_0-5cm_mean.tif": name for name in fine.SOIL_BANDS},
            "land_cover": {_COVER_NAME: "cover"},
            "insitu": {f"multisource/ismn/{archive}": "readings"},
        }

    def _truths(self) -> dict[str, tuple[Site, tuple[SitePass, ...], int]]:
        """Site, passes and size by path: of all passes, and of the larger scenes."""
        found = {}
        for site in self._sites:
            passes = places.site_passes(site)
            found[f"sandbox_truth/multisource/{site.name}.nc"] = (site, passes, self.tile)
            large = tuple(one for one in passes if self._on_map(one))
            if large:
                found[f"sandbox_truth/multisource/{site.name}_map.nc"] = (site, large, self.map_size)
        return found

    def own(self, site: Site) -> list[str]:
        """Paths of a site's own files."""
        scenes = self.kinds["sentinel1"] | self.kinds["sentinel2"]
        of_scenes = [name for name, one in scenes.items() if one.site is site]
        of_truth = [name for name, (one, *_) in self.kinds["truth"].items() if one is site]
        return [*of_scenes, *(name for name, one in self.kinds["dem"].items() if one is site), *of_truth]

    def contents(self, seed: int, missing: set[str]) -> Iterator[tuple[str, bytes]]:
        """As `Plan.contents`: site by site, then what holds something of every site."""
        wanted = [kind for kind in _JOINT if not missing.isdisjoint(self.kinds[kind])]
        parts: dict[str, list] = {kind: [] for kind in wanted}
        for site in self._sites:
            own = [name for name in self.own(site) if name in missing]
            if not own and not wanted:
                continue
            simulation = SiteSimulation(site, seed, self.largest(site))
            ground = Ground(simulation)
            for name in own:
                yield name, self._content(simulation, ground, name)
            for kind in wanted:
                parts[kind].append(_JOINT[kind](self, simulation, ground))
        for kind in wanted:
            for number, (name, what) in enumerate(self.kinds[kind].items()):
                if name in missing:
                    yield name, _joint_file(kind, name, what, [of_site[number] for of_site in parts[kind]])

    def _content(self, simulation: SiteSimulation, ground: Ground, name: str) -> bytes:
        """Content of one of a site's own files."""
        for kind, write in (("sentinel1", fine.sentinel1_file), ("sentinel2", fine.sentinel2_file)):
            if one := self.kinds[kind].get(name):
                return write(simulation, one, self.size(one))
        return ground.dem_file() if name in self.kinds["dem"] else _truth(simulation, *self.kinds["truth"][name][1:])


def _gldas_times(passes: Sequence[SitePass]) -> list[datetime]:
    """Times of the granules before each pass, and before each image of SMAP that a pass can be paired with."""
    times = {series.gldas_time(one, places.is_west(one.site)) for one in passes}
    for day in series.smap_days():
        start = datetime.combine(day, datetime.min.time(), UTC)
        after = any(timedelta() <= start - one.time <= timedelta(days=_SMAP_DAYS_AFTER) for one in passes)
        if after and not any(timedelta() <= start - time <= timedelta(hours=3) for time in times):
            times.add(start)
    return sorted(times)


#: Of what holds something of every site: what a site gives to each file in turn.
_JOINT: dict[str, Callable[[MultisourcePlan, SiteSimulation, Ground], Sequence]] = {
    "smap": lambda plan, simulation, ground: series.smap_patches(simulation.days),
    "gldas": lambda plan, simulation, ground: series.gldas_patches(simulation.days, plan.kinds["gldas"].values()),
    "lai": lambda plan, simulation, ground: series.lai_patches(simulation, ground),
    "soil": lambda plan, simulation, ground: ground.soil(),
    "land_cover": lambda plan, simulation, ground: [ground.cover()],
    "insitu": lambda plan, simulation, ground: [series.read_site(simulation)],
}


def _joint_file(kind: str, name: str, what: Any, parts: list) -> bytes:
    """A file of what every site gives to it."""
    if kind == "gldas":
        return series.gldas_file(what, parts)
    if kind == "insitu":
        readings = [one for of_site in parts for one in of_site]
        return ismn_archive(by_network(readings, "multisource"), (FIRST_DAY, LAST_DAY))
    if kind == "soil":
        return fine.soil_raster(what).encode(parts)
    tags = {} if kind == "land_cover" else {"product": PurePath(name).stem}
    return RASTERS[{"smap": "smap10km"}.get(kind, kind)].encode(parts, **tags)


def _truth(simulation: SiteSimulation, passes: Sequence[SitePass], size: int) -> bytes:
    """The truth of a site's square at 20 m when the radar passed."""
    site, land = simulation.site, simulation.land
    cut = land.cut(size)
    window = site.window(size).coarsened(_TRUTH_M)
    moisture = [blocks(simulation.soil_moisture(simulation.days.state(one.time), cut), 2) for one in passes]
    fields = {
        "soil_moisture": (np.stack(moisture), 3),
        "clay_fraction": (blocks(land.clay_fraction[cut], 2), 3),
        "sand_fraction": (blocks(land.sand_fraction[cut], 2), 3),
        "elevation": (blocks(land.elevation[cut], 2), 1),
    }
    axes = {"y": ("northing", window.y), "x": ("easting", window.x)}
    coords = {"time": pass_times([one.time for one in passes])}
    for name, (full, values) in axes.items():
        standard = {"standard_name": f"projection_{name}_coordinate", "long_name": full, "units": "m"}
        coords[name] = name, values, standard
    coords["crs"] = (), np.int32(0), CRS.from_epsg(window.epsg).to_cf()
    about = (site.region.title, f"multi-source world {_VERSION}, seed {simulation.seed}", "sandbox_multisource_truth")
    return truth_bytes(fields, coords, *about, region=site.name, resolution_m=_TRUTH_M)
