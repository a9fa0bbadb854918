"""Sentinel-1 over a region, and the SMAP/Sentinel-1 product that the active-passive algorithm makes of an acquisition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache

import numpy as np
from numpy.typing import NDArray

from smnb.grids import M01, M03, M09, M36, EaseGrid, EaseWindow
from smnb.models.physics import retrieve_single_channel
from smnb_sandbox import regions as orbits
from smnb_sandbox import smap_sensors as sensors
from smnb_sandbox.noise import Float32, blocks, spread, stream
from smnb_sandbox.smap_granules import RELEASE, pass_cells
from smnb_sandbox.smap_world import RegionDays, RegionGrids, RegionState

#: Errors of the radar that looks do not average out, dB: of a scene's calibration, and of a 3 km cell.
CALIBRATION_DB, CELL_DB = 0.20, 0.20
REFERENCE_ANGLE_DEG = 38.5
_WATER_SIGMA0 = (0.004, 0.0006)
#: Width of the surroundings that the algorithm calls coarse, in 3 km cells: the antenna's.
_COARSE_SIGMA = 36.0 / 2.355 / 3.0
_MAX_GAP = timedelta(hours=60)  # how far in time a SMAP pass may be from the radar's
_LEAST_COVER = 0.6
#: A pass, a window, the fields of its cells, and which the pass saw.
Seen = tuple[orbits.SmapPass, EaseWindow, sensors.Cells, NDArray[np.bool_]]


@dataclass(frozen=True)
class SceneTime:
    """When and where a scene is: all that its file's name says, without simulating anything."""

    region: orbits.Region
    sentinel1: orbits.Sentinel1Pass
    smap: orbits.SmapPass  # the morning pass nearest in time that sees most of the scene; on 9 km cells of the domain
    smap_either: orbits.SmapPass  # the same of morning and evening passes
    window: EaseWindow  # the rectangle of 3 km cells around what the radar saw of the region

    @property
    def file_name(self) -> str:
        """Name of the granule."""
        lat, lon = float(self.window.lat.mean()), float(self.window.lon.mean())
        place = f"{abs(lon):03.0f}{'E' if lon >= 0 else 'W'}{abs(lat):02.0f}{'N' if lat >= 0 else 'S'}"
        times = (f"{t:%Y%m%dT%H%M%S}" for t in (self.sentinel1.time, self.smap.time))
        return f"SMAP_L2_SM_SP_1{self.sentinel1.satellite}IWDV_{'_'.join(times)}_{place}_{RELEASE}_001.h5"

    @property
    def local_day(self) -> date:
        """Local solar day of the radar's pass."""
        return (self.sentinel1.time + timedelta(hours=self.region.lon / 15.0)).date()

    @property
    def evening(self) -> bool:
        """Whether the radar passed in the local evening."""
        return (self.sentinel1.time + timedelta(hours=self.region.lon / 15.0)).hour >= 12


def radar_looks(pixel_m: float) -> float:
    """Looks of a square pixel of the interferometric wide swath: 4.4 in each 20 m x 22 m."""
    return 4.4 * pixel_m**2 / (20.0 * 22.0)


@cache
def _track_window(region: orbits.Region, track: int) -> EaseWindow:
    """The rectangle of the region that holds all that a track sees of it."""
    grids = RegionGrids(region)
    seen = blocks(orbits.sentinel1_swath(region, track, grids.fine_east, grids.fine_north)[0], 3)[grids.inner] >= 0.5
    rows, cols = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    row, col = grids.window.row_start, grids.window.col_start
    return EaseWindow(M03, row + int(rows[0]), row + int(rows[-1]) + 1, col + int(cols[0]), col + int(cols[-1]) + 1)


def scene_times(region: orbits.Region, first: date, last: date) -> list[SceneTime]:
    """The scenes of a region whose radar pass is between two UTC days, in order."""
    nine = orbits.region_domain(region).on(M09)
    reach = timedelta(days=_MAX_GAP.days + 1)
    passes = orbits.smap_passes(nine.lat, nine.lon, first - reach, last + reach)
    found = []
    for one in orbits.region_passes(region, first, last):
        window = _track_window(region, one.track)
        cut = nine.slices_of(window.covering(M09))

        def nearest(
            candidates: list[orbits.SmapPass], radar: datetime, cut: tuple[slice, slice] = cut
        ) -> orbits.SmapPass:
            shares = [(p, p.covered[cut].mean()) for p in candidates if abs(p.time - radar) <= _MAX_GAP]
            enough = [p for p, share in shares if share >= _LEAST_COVER]
            return min(enough or [max(shares, key=lambda s: s[1])[0]], key=lambda p: abs(p.time - radar))

        mornings = [p for p in passes if not p.evening]
        found.append(SceneTime(region, one, nearest(mornings, one.time), nearest(passes, one.time), window))
    return found


class RegionSimulation:
    """A region's days, which are the truth at 3 km, and what the radiometer and the radar make of them."""

    def __init__(self, days: RegionDays) -> None:
        self.days, self.world = days, days.world
        self.radiometer = sensors.Radiometer(days)
        # heights of single fields and quarters, which do not change
        rng = stream(self.world.seed, f"smap {self.world.region.name} fine rms")
        fine = rng.standard_normal(self.world.fine.shape, dtype=np.float32)
        self._fine_rms = spread(self.world.rms_height_cm, 3) * np.exp(0.05 * fine)

    def sigma0(self, when: SceneTime, state: RegionState) -> tuple[Float32, Float32, Float32]:
        """VV and VH of the domain's 1 km cells, linear power at the reference angle, NaN off the swath; and the angle."""
        world = self.world
        track, day = when.sentinel1.track, when.local_day.toordinal()
        rng = stream(world.seed, f"sentinel-1 {world.region.name} speckle", day, track)
        seen, angle = orbits.sentinel1_swath(world.region, track, world.fine_east, world.fine_north)
        moisture = world.fine_soil_moisture(state.sensed(0.35))
        rms = self._fine_rms * spread(state.roughness_factor, 3)
        images = sensors.backscatter(moisture, rms, spread(state.ndvi, 3), angle)
        to_reference = (np.cos(np.radians(REFERENCE_ANGLE_DEG)) / np.cos(np.radians(angle))) ** 2
        root_of_looks, result = np.float32(np.sqrt(radar_looks(1000.0))), []
        for image, water in zip(images, _WATER_SIGMA0, strict=True):
            decibel = CALIBRATION_DB * rng.standard_normal()
            decibel = decibel + CELL_DB * spread(rng.standard_normal(world.domain.shape, dtype=np.float32), 3)
            # with thousands of looks the gamma distribution of speckle is a normal one
            speckle = 1.0 + rng.standard_normal(image.shape, dtype=np.float32) / root_of_looks
            power = np.where(world.lake, np.float32(water), image) * speckle * 10.0 ** (decibel / 10.0) * to_reference
            result.append(np.where(seen, power, np.nan).astype(np.float32))
        return result[0], result[1], angle

    def window(self, grid: EaseGrid) -> EaseWindow:
        """The coarser cells that touch the region."""
        return self.world.window.covering(grid)

    def coarse(self, passes: Sequence[orbits.SmapPass], window: EaseWindow) -> tuple[sensors.Cells, sensors.Cells]:
        """The radiometer's product of passes over cells of `M36` or `M09`, as `Radiometer.observe`."""
        cut = self.world.domain.on(window.grid).slices_of(window)
        return self.radiometer.observe(passes, 12 // window.grid.cells_across(M36), cut)

    def seen(self, passes: Sequence[orbits.SmapPass], window: EaseWindow) -> list[Seen]:
        """The same as fields of granules."""
        fields, known = self.coarse(passes, window)
        of_passes = [{name: values[number] for name, values in fields.items()} for number in range(len(passes))]
        cells = (pass_cells(one, of, known, window) for one, of in zip(passes, of_passes, strict=True))
        return [(one, window, of, one.covered) for one, of in zip(passes, cells, strict=True)]

    def scene(self, when: SceneTime, *, one_km: bool) -> tuple[sensors.Cells, sensors.Cells]:
        """Fields of an acquisition's granule on 3 km, and on 1 km cells (only their position unless asked for), filled."""
        state = self.days.state(when.local_day, evening=when.evening)
        vv, vh, angle = self.sigma0(when, state)
        land_vv, land_vh = (np.where(self.world.lake, np.nan, s) for s in (vv, vh))
        sigma0 = tuple(_aggregate(s, 3) for s in (land_vv, land_vh))
        common = self._common(when, state, sigma0[0], blocks(angle, 3))
        links = [self._link(when.smap, sigma0)]
        links.append(links[0] if when.smap_either is when.smap else self._link(when.smap_either, sigma0))
        rows, cols = self.world.domain.slices_of(when.window)
        fields = {name: values[rows, cols] for name, values in common.items() if not name.startswith("_")}
        for name, link in zip(("", "_apm"), links, strict=True):
            fields |= self._retrieved(link, sigma0, common, (rows, cols), 1, name)
        fields_1km = sensors.positions(when.window.on(M01))
        if one_km:
            fine = self.world.fine.slices_of(when.window.on(M01))
            fields_1km |= {name: spread(fields[name], 3) for name in _SAME_AT_1KM}
            fields_1km |= {"sigma0_vv_aggregated": _filled(vv[fine]), "sigma0_vh_aggregated": _filled(vh[fine])}
            fields_1km |= self._retrieved(links[0], (land_vv, land_vh), common, (rows, cols), 3, "", fine)
        return fields, fields_1km

    def _common(self, when: SceneTime, state: RegionState, vv: Float32, angle: Float32) -> sensors.Cells:
        """Fields of the domain that no retrieval changes."""
        world, known = self.world, self.radiometer.ancillary(1)
        content, depth = self.radiometer.vegetation(when.local_day, 1)
        snow, frozen = state.snow.astype(np.float32), state.frozen.astype(np.float32)
        flag, attempted = sensors.cells_flags(known, snow, frozen, content)
        seen = np.isfinite(vv)
        one = when.smap
        overpass = (when.sentinel1.time - orbits.SMAP_EPOCH).total_seconds()
        gap = spread((one.seconds - overpass) / 3600.0, 3)
        cover = known["landcover_class"][..., 0]
        slant = np.float32(np.cos(np.radians(sensors.INCIDENCE_DEG)))
        result = {
            "surface_flag": np.where(seen, flag & ~np.uint16(0b10), 65534).astype(np.uint16),
            "landcover_class": np.where(seen, cover, 254).astype(np.uint8),
            "spacecraft_overpass_time_seconds": np.where(seen, spread(orbits.smap_clock(one.seconds), 3), -9999.0),
        }
        for name, values in (
            ("sigma0_incidence_angle", angle),
            ("albedo", known["albedo"]),
            ("bare_soil_roughness_retrieved", known["roughness"]),
            ("vegetation_water_content", content),
            ("vegetation_opacity", depth / slant),
            ("water_body_fraction", known["water_fraction"]),
            ("SMAP_Sentinel-1_overpass_timediff_hr", gap),
        ):
            result[name] = np.where(seen, values, sensors.FILL).astype(np.float32)
        return result | {"_depth": depth, "_attempted": attempted & seen} | sensors.positions(world.domain)

    def _link(self, one: orbits.SmapPass, sigma0: tuple[Float32, Float32]) -> sensors.Cells:
        """What the algorithm knows of the coarse cells around each 3 km cell of the domain, for one SMAP pass."""
        state = self.days.state(one.local_day(self.world.region.lon), evening=one.evening)
        tb = self.radiometer.coarse_tb(state, one, 3)[3]
        tb = np.where(one.covered, tb, np.nan)
        kelvin = spread(self.radiometer.observed_temperature(state, one, 3), 3)
        known = self.radiometer.ancillary(1)
        _, depth = self.radiometer.vegetation(one.local_day(self.world.region.lon), 1)
        gamma = sensors.cross_polarized_slope(*sigma0, _COARSE_SIGMA)
        vv, vh = (sensors.masked_blur(s, _COARSE_SIGMA) for s in sigma0)
        surroundings = (sensors.masked_blur(values, _COARSE_SIGMA) for values in (depth, known["albedo"]))
        tb = spread(tb, 3)
        beta = sensors.covariation(tb, kelvin, *surroundings, vv - gamma * vh)
        return {"tb": tb, "temperature": kelvin, "vv": vv, "vh": vh, "beta": beta, "gamma": gamma}

    def _retrieved(
        self,
        link: sensors.Cells,
        sigma0: tuple[Float32, Float32],
        common: sensors.Cells,
        cut: tuple[slice, slice],
        size: int,
        suffix: str,
        fine: tuple[slice, slice] | None = None,
    ) -> sensors.Cells:
        """Sharpened brightness temperature and soil moisture of cells that are a `size`-th of 3 km wide."""

        def here(values: NDArray) -> NDArray:
            return spread(values[cut], size) if size > 1 else values[cut]

        vv, vh = (s[fine or cut] for s in sigma0)
        known = self.radiometer.ancillary(1)
        kelvin = here(link["temperature"])
        coarse = {name: here(link[name]) for name in ("tb", "vv", "vh", "beta", "gamma")}
        tb = sensors.disaggregate_tb(
            coarse["tb"], kelvin, vv, vh, coarse["vv"], coarse["vh"], coarse["beta"], coarse["gamma"]
        )
        maps = {name: here(known[name]) for name in ("clay_fraction", "roughness", "albedo")}
        maps |= {"surface_temperature": kelvin, "optical_depth": here(common["_depth"])}
        bounds = (0.02, here(known["porosity"]).astype(np.float64))
        options = {"polarization": "V", "bounds": bounds, "return_status": True, "workers": 1}
        moisture, status = retrieve_single_channel(tb, **maps, **options)
        flag, attempted = here(common["surface_flag"]), here(common["_attempted"])
        attempted = attempted & np.isfinite(tb)
        quality = sensors.quality_flags(flag, attempted, status)
        moisture = np.where(attempted, moisture, np.nan)
        result = {
            f"soil_moisture{suffix}": _filled(moisture),
            f"retrieval_qual_flag{suffix}": np.where(flag == 65534, 65534, quality).astype(np.uint16),
            f"tb_v_disaggregated{suffix}": _filled(tb),
        }
        if not suffix:
            result["surface_temperature"] = _filled(np.where(np.isfinite(tb), kelvin, np.nan))
            # a figure of the size of the algorithm's error budget
            spread_k = np.where(np.isfinite(tb), 2.5 + 0.3 * np.abs(tb - coarse["tb"]), np.nan)
            result["tb_v_disaggregated_std"] = _filled(spread_k)
            result["soil_moisture_std_dev"] = _filled(np.where(np.isnan(moisture), np.nan, 0.02 + 0.005 * spread_k))
            result["disaggregated_tb_v_qual_flag"] = np.where(flag == 65534, 65534, np.isnan(tb)).astype(np.uint16)
        if not suffix and size == 1:
            result["sigma0_vv_aggregated"], result["sigma0_vh_aggregated"] = _filled(vv), _filled(vh)
        return result


_SAME_AT_1KM = ("surface_flag", "landcover_class", "albedo", "vegetation_opacity", "vegetation_water_content")


def _aggregate(values: Float32, size: int) -> Float32:
    """Mean power of the valid cells of each block, NaN below half of them."""
    valid = np.isfinite(values)
    share = blocks(valid, size)
    total = blocks(np.where(valid, values, 0.0), size)
    return np.divide(total, share, out=np.full(share.shape, np.nan, dtype=np.float32), where=share >= 0.5)


def _filled(values: NDArray) -> Float32:
    return np.where(np.isnan(values), sensors.FILL, values).astype(np.float32)
