"""SMAP's radiometer over a region, backscatter, and the active-passive algorithm that sharpens brightness temperature with it.

Backscatter is linear power (m2 m-2), brightness temperatures are of 36 km cells and at 9 km posting. Retrieval and truth are
1.3 K of noise, means of a curved relation, and ancillary data of an average year apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from smnb.grids import EaseWindow
from smnb.models.physics import RetrievalStatus, retrieve_dual_channel, retrieve_single_channel, soil_emission_tb
from smnb_sandbox.files import table
from smnb_sandbox.noise import Float32, blocks, spread, stream
from smnb_sandbox.regions import SmapPass
from smnb_sandbox.smap_world import RegionDays, RegionState

WAVENUMBER = 113.28  # rad m-1, at 5.405 GHz

#: A and B of the water cloud model with NDVI as the vegetation descriptor.
WATER_CLOUD = {"VV": (0.0950, 0.5513), "VH": (0.0413, 1.1662)}


def soil_backscatter(soil_moisture: NDArray, rms_height_cm: NDArray, incidence_deg: NDArray) -> tuple[NDArray, NDArray]:
    """VV and VH of bare soil at C band, linear power: Baghdadi et al. 2016, Remote Sensing 8(11), 920, doi:10.3390/rs8110920.

    >>> [round(float(10 * np.log10(s)), 2) for s in soil_backscatter(np.float64(0.2), 1.0, 38.0)]
    [-10.68, -20.28]
    """
    theta = np.radians(incidence_deg)
    sine, cosine = np.sin(theta), np.cos(theta)
    percent, ks = 100.0 * soil_moisture * cosine / sine, np.log10(WAVENUMBER * 0.01 * rms_height_cm)
    vv = -1.138 + 1.528 * np.log10(cosine) + 0.008 * percent + 0.71 * sine * ks
    vh = -2.325 - 0.01 * np.log10(cosine) + 0.011 * percent + 0.44 * sine * ks
    return 10.0**vv, 10.0**vh


def water_cloud(soil: NDArray, ndvi: NDArray, incidence_deg: NDArray, polarization: str) -> NDArray:
    """Backscatter of soil under a canopy, linear power: ``A V cos + t2 soil`` with ``t2 = exp(-2 B V / cos)``.

    Attema, Ulaby 1978, Radio Sci. 13(2), 357-364, doi:10.1029/RS013i002p00357; A and B as Baghdadi et al. 2017 fitted with NDVI.
    """
    a, b = WATER_CLOUD[polarization]
    cosine = np.cos(np.radians(incidence_deg))
    through = np.exp(-2.0 * b * ndvi / cosine)
    return a * ndvi * cosine * (1.0 - through) + through * soil


def backscatter(
    soil_moisture: NDArray, rms_height_cm: NDArray, ndvi: NDArray, incidence_deg: NDArray
) -> tuple[Float32, Float32]:
    """VV and VH of soil under vegetation, linear power, float32."""
    soil = soil_backscatter(soil_moisture, rms_height_cm, incidence_deg)
    vv, vh = (water_cloud(s, ndvi, incidence_deg, p) for s, p in zip(soil, ("VV", "VH"), strict=True))
    return vv.astype(np.float32), vh.astype(np.float32)


def masked_blur(image: NDArray, sigma: float) -> NDArray:
    """Gaussian mean over what is there; NaN where less than a quarter of the weight is."""
    valid = np.isfinite(image)
    weight = gaussian_filter(valid.astype(np.float32), sigma, truncate=3.0)
    total = gaussian_filter(np.where(valid, image, 0.0).astype(np.float32), sigma, truncate=3.0)
    return np.divide(total, weight, out=np.full(image.shape, np.nan, dtype=np.float32), where=weight > 0.25)


def cross_polarized_slope(vv: NDArray, vh: NDArray, sigma: float) -> Float32:
    """Gamma: the slope of VV on VH around each cell (`sigma` cells), which vegetation makes; held within 0 and 3."""
    vv, vh = (np.where(np.isfinite(vv) & np.isfinite(vh), s, np.nan) for s in (vv, vh))
    mean_vv, mean_vh = masked_blur(vv, sigma), masked_blur(vh, sigma)
    covariance = masked_blur(vv * vh, sigma) - mean_vv * mean_vh
    variance = masked_blur(vh * vh, sigma) - mean_vh**2
    return np.clip(covariance / np.maximum(variance, 1e-10), 0.0, 3.0).astype(np.float32)


def covariation(
    tb: NDArray, temperature: NDArray, optical_depth: NDArray, albedo: NDArray, contrast: NDArray
) -> Float32:
    """beta': change of emissivity with the soil's part of backscatter (snapshot method), per unit of linear power, -12 to 0.

    The emissivity that the soil takes away, ``tb / temperature - [g + (1 - albedo)(1 - g)]`` with the canopy's one-way
    transmissivity g, over the backscatter that the soil gives, ``contrast = vv - Gamma vh``. All is coarse; K, optical depth at
    nadir. Jagdhuber et al. 2019, IEEE TGRS 57(2), doi:10.1109/TGRS.2018.2860630; Das et al. 2019, doi:10.1016/j.rse.2019.111380.
    """
    g = np.exp(-optical_depth / np.cos(np.radians(40.0)))
    loss = tb / temperature - (g + (1.0 - albedo) * (1.0 - g))
    return np.clip(loss / np.maximum(contrast, 1e-3), -12.0, 0.0).astype(np.float32)


def disaggregate_tb(
    tb: NDArray,
    temperature: NDArray,
    vv: NDArray,
    vh: NDArray,
    coarse_vv: NDArray,
    coarse_vh: NDArray,
    beta: NDArray,
    gamma: NDArray,
) -> Float32:
    """Brightness temperature of fine cells, K: ``[tb/T + beta ((vv - VV) + gamma (VH - vh))] T``.

    All arrays are on the fine cells, coarse values repeated. Das et al. 2019, RSE 233, 111380, doi:10.1016/j.rse.2019.111380.
    """
    return (tb + temperature * beta * ((vv - coarse_vv) + gamma * (coarse_vh - vh))).astype(np.float32)


FREQUENCY_GHZ, INCIDENCE_DEG = 1.41, 40.0
NOISE_K = 1.3
_MIXING = 0.47  # of polarisations, as the dual channel assumes it
_FOOTPRINT_SIGMA = 36.0 / 2.355 / 3.0  # -3 dB width of the antenna pattern of the 9 km product, in cells of 3 km
_WATER_TB = (92.0, 147.0)  # brightness temperature of open water at 285 K and 40 degrees, H and V, K
FILL = np.float32(-9999.0)
Cells = dict[str, NDArray]  # fields of cells by name, all of one shape (and three classes for some)
_FLAG_FILL = np.uint16(65534)
_OWN_CHOICE = ("soil_moisture", "retrieval_qual_flag", "vegetation_opacity")


def surface_flags(conditions: dict[str, NDArray]) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """SMAP's ``surface_flag`` of cells, and where a retrieval is attempted, by conditions of ``data/smap_fields.yaml``."""
    shape = np.broadcast_shapes(*(np.shape(value) for value in conditions.values()))
    flag, attempted = np.zeros(shape, dtype=np.uint16), np.ones(shape, dtype=bool)
    for name, value in conditions.items():
        limits = table("smap_fields")["surface"][name]
        flag |= np.where(value > limits["lower"], limits["bits"], 0).astype(np.uint16)
        attempted &= value <= limits["upper"]
    return flag, attempted


def quality_flags(flag: NDArray, attempted: NDArray, status: NDArray) -> NDArray[np.uint16]:
    """``retrieval_qual_flag``: 0 recommended, 1 uncertain, 5 no success (the value is at a bound), 7 not attempted."""
    bad = ~np.isin(status, (RetrievalStatus.RETRIEVED, RetrievalStatus.AMBIGUOUS))
    return np.where(~attempted, 7, np.where(bad, 5, np.where(flag > 0, 1, 0))).astype(np.uint16)


def positions(window: EaseWindow) -> dict[str, NDArray]:
    """Latitude, longitude and EASE indices of a window's cells, as the product has them, (row, col)."""
    shape = window.shape
    rows, cols = np.arange(window.row_start, window.row_stop), np.arange(window.col_start, window.col_stop)
    return {
        "latitude": np.broadcast_to(window.lat[:, None], shape).astype(np.float32),
        "longitude": np.broadcast_to(window.lon[None, :], shape).astype(np.float32),
        "EASE_row_index": np.broadcast_to(rows[:, None], shape).astype(np.uint16),
        "EASE_column_index": np.broadcast_to(cols[None, :], shape).astype(np.uint16),
    }


def antenna(image: NDArray, sigma: float = _FOOTPRINT_SIGMA) -> NDArray:
    """Blur with the antenna pattern; `sigma` in cells."""
    return gaussian_filter(image, (0,) * (image.ndim - 2) + (sigma, sigma), mode="nearest", truncate=3.0)


def cells_flags(known: Cells, snow: NDArray, frozen: NDArray, vegetation: NDArray) -> tuple[NDArray, NDArray]:
    """`surface_flags` of cells with so much snow and frozen soil (shares) and water in the vegetation (kg m-2)."""
    fixed = {"water": "water_fraction", "urban": "urban_fraction", "mountainous": "slope_deviation"}
    changing = {"snow": snow, "frozen": frozen, "vegetation": vegetation}
    return surface_flags({name: known[of] for name, of in fixed.items()} | changing)


def turned(vegetation: NDArray) -> NDArray:
    """Share of the greatest mixing of polarisations that so much water in the vegetation (kg m-2) makes."""
    return 1.0 - np.exp(-2.5 * vegetation)


class Radiometer:
    """Observes a region's days."""

    def __init__(self, days: RegionDays) -> None:
        self.days, self.world = days, days.world
        world = self.world
        self._clay_error = world.texture("clay map", (60.0, 0.85), (8.0, 0.5))
        self._ancillary: dict[int, Cells] = {}
        self._vegetation: dict[tuple[int, int], tuple[Float32, Float32]] = {}

    def ancillary(self, size: int) -> Cells:
        """What the retrieval is told of the domain's cells of ``size x size`` cells of 3 km: maps with errors, static."""
        if size not in self._ancillary:
            world, land = self.world, 1.0 - self.world.water_fraction
            clay = np.clip(world.clay_fraction + 0.04 * self._clay_error, 0.03, 0.6)
            total = np.maximum(blocks(land, size), 1e-3)
            self._ancillary[size] = {
                "clay_fraction": blocks(clay, size),
                "sand_fraction": blocks(world.sand_fraction, size),
                "porosity": blocks(world.porosity, size),
                "water_fraction": blocks(world.water_fraction, size),
                "urban_fraction": blocks(world.land_cover == 13, size),
                "slope_deviation": blocks(world.slope_deviation, size),
                **{n: (blocks(world.prior[n] * land, size) / total).astype("f4") for n in ("albedo", "roughness")},
                **self._classes(size),
            }
        return self._ancillary[size]

    def _classes(self, size: int) -> Cells:
        """The three most frequent land-cover classes of each cell, (row, col, 3), and their shares; filled where fewer."""
        classes = np.unique(self.world.land_cover)
        shares = np.stack([blocks(self.world.land_cover == code, size) for code in classes], axis=-1)
        order = np.argsort(-shares, axis=-1, kind="stable")[..., :3]
        share = np.take_along_axis(shares, order, axis=-1)
        cover = np.where(share > 0, classes[order], 254).astype(np.uint8)
        share = np.where(share > 0, share, FILL).astype(np.float32)
        lacking = ((0, 0), (0, 0), (0, 3 - cover.shape[-1]))
        cover = np.pad(cover, lacking, constant_values=254)
        return {"landcover_class": cover, "landcover_fraction": np.pad(share, lacking, constant_values=FILL)}

    def vegetation(self, day: date, size: int) -> tuple[Float32, Float32]:
        """Water content (kg m-2) and optical depth of an average year's vegetation, of the ten days that hold the day."""
        dekad = min((day.timetuple().tm_yday - 1) // 10, 35)
        if (dekad, size) not in self._vegetation:
            world = self.world
            middle = date(2001, 1, 1) + timedelta(days=10 * dekad + 5)
            content = world.vegetation_water_content(world.ndvi(middle))
            depth = world.prior["b"] * content
            # brightness temperature that was sharpened keeps the footprint of the antenna, and so must what is taken out of it
            self._vegetation[dekad, size] = blocks(content, size), antenna(depth) if size == 1 else blocks(depth, size)
        return self._vegetation[dekad, size]

    def land_tb(self, state: RegionState, dew: float = 1.0) -> tuple[Float32, Float32]:
        """H and V of the land of the 3 km cells, K; `dew` is the factor of water on the leaves."""
        world, vegetation = self.world, state.vegetation_water_content
        tb_h, tb_v = soil_emission_tb(
            state.sensed(0.2),
            world.clay_fraction,
            state.soil_temperature,
            frequency_ghz=FREQUENCY_GHZ,
            incidence_deg=INCIDENCE_DEG,
            h=world.roughness,
            tau=np.float32(dew) * world.b * vegetation,
            single_scattering_albedo=world.albedo,
        )
        # stems and clods turn the polarisation: H is nearer to V than the model says
        return tb_h + world.mixing * turned(vegetation) * (tb_v - tb_h), tb_v

    def observed_temperature(self, state: RegionState, one: SmapPass, size: int) -> Float32:
        """Soil temperature of the weather model that the retrieval uses, K: means, with errors of a degree or so."""
        rng = stream(self.world.seed, f"smap {self.world.region.name} weather model", one.orbit, int(one.evening))
        offset = np.float32(1.3 * rng.standard_normal())
        mean = blocks(state.soil_temperature, 12)
        error = antenna(5.3 * rng.standard_normal(mean.shape, dtype=np.float32), 1.5)
        kelvin = mean + offset + error
        if size == 12:
            return kelvin
        # the model's own cells are coarse, the heights beneath are known
        finer = blocks(state.soil_temperature, size) + offset
        return finer + spread(error, 12 // size)

    def coarse_tb(self, state: RegionState, one: SmapPass, size: int) -> tuple[Float32, Float32, Float32, Float32]:
        """Brightness temperatures, K, of blocks of 3 km cells: H and V as seen, and with open water taken out."""
        world = self.world
        rng = stream(world.seed, f"smap {world.region.name} radiometer", one.orbit, int(one.evening), size)
        water = world.water_fraction
        seen_water = blocks(water if size == 12 else antenna(water), size)
        assumed = np.clip(seen_water * 1.05, 0.0, 0.99)
        raw, corrected = [], []
        wet = stream(world.seed, f"smap {world.region.name} dew", one.orbit, int(one.evening)).standard_normal()
        for land, sea in zip(self.land_tb(state, float(np.exp(0.12 * wet))), _WATER_TB, strict=True):
            image = (1.0 - water) * land + water * np.float32(sea)
            noise = rng.standard_normal((world.domain.shape[0] // size,) * 2, dtype=np.float32)
            if size != 12:
                image = antenna(image)
                # neighbours share most of their footprints and so of their noise
                noise = 0.9 * antenna(noise, 1.5) * (2.0 * np.sqrt(np.pi) * 1.5) + 0.3 * noise
            tb = (blocks(image, size) + np.float32(NOISE_K) * noise).astype(np.float32)
            raw.append(tb)
            corrected.append(((tb - assumed * np.float32(sea)) / (1.0 - assumed)).astype(np.float32))
        return raw[0], raw[1], corrected[0], corrected[1]

    def observe(self, passes: Sequence[SmapPass], size: int, crop: tuple[slice, slice]) -> tuple[Cells, Cells]:
        """Passes over some of the domain's cells of a `size` (as in `coarse_tb`), and what is retrieved, (pass, row, col).

        Named as the product's fields, -9999 where missing; and the ancillary data of these cells.
        """
        columns: dict[str, list[NDArray]] = {}
        known = {name: values[crop] for name, values in self.ancillary(size).items()}
        for one in passes:
            day = one.local_day(self.world.region.lon)
            state = self.days.state(day, evening=one.evening)
            names = ("tb_h_uncorrected", "tb_v_uncorrected", "tb_h_corrected", "tb_v_corrected")
            values = dict(zip(names, self.coarse_tb(state, one, size), strict=True))
            values["surface_temperature"] = self.observed_temperature(state, one, size)
            values["vegetation_water_content"], values["optical_depth"] = self.vegetation(day, size)
            values["frozen"], values["snow"] = blocks(state.frozen, size), blocks(state.snow, size)
            for name, value in values.items():
                columns.setdefault(name, []).append(value[crop])
        fields = {name: np.stack(value) for name, value in columns.items()}
        if passes:
            fields |= _retrieve(fields, known)
            covered = np.stack([one.covered for one in passes])
            for values in fields.values():
                values[~covered] = _FLAG_FILL if values.dtype == np.uint16 else FILL
        return fields, known


def _retrieve(fields: Cells, known: Cells) -> Cells:
    flag, attempted = cells_flags(known, *(fields[n] for n in ("snow", "frozen", "vegetation_water_content")))
    tau, tb_h, tb_v = (fields[name] for name in ("optical_depth", "tb_h_corrected", "tb_v_corrected"))
    options = {name: known[name] for name in ("clay_fraction", "roughness", "albedo")}
    options |= {"surface_temperature": fields["surface_temperature"], "return_status": True, "workers": 1}
    options["bounds"] = (0.02, known["porosity"].astype(np.float64))
    found = {
        "option1": (*retrieve_single_channel(tb_h, polarization="H", optical_depth=tau, **options), tau),
        "option2": (*retrieve_single_channel(tb_v, polarization="V", optical_depth=tau, **options), tau),
    }
    # only the dual channel has mixed polarisations in its model, and not all that there is
    mixed = _MIXING * turned(fields["vegetation_water_content"])
    unmixed = ((tb_h - mixed * tb_v) / (1.0 - mixed)).astype(np.float32)
    moisture, opacity, status = retrieve_dual_channel(unmixed, tb_v, prior_optical_depth=tau, **options)
    found["option3"] = (moisture, status, opacity)
    cos, result = np.float32(np.cos(np.radians(INCIDENCE_DEG))), {"surface_flag": flag}
    for option, (moisture, status, opacity) in found.items():
        quality = quality_flags(flag, attempted, status)
        failed = np.isnan(moisture) & (quality != 7)
        missing = (quality == 7) | np.isnan(moisture)
        result[f"retrieval_qual_flag_{option}"] = np.where(failed, 5, quality).astype("u2")
        result[f"soil_moisture_{option}"] = np.where(missing, FILL, moisture).astype(np.float32)
        result[f"vegetation_opacity_{option}"] = np.where(missing, FILL, opacity / cos).astype(np.float32)
    return result | {name: result[f"{name}_option3"] for name in _OWN_CHOICE}
