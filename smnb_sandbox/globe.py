"""AMSR-E over the sandbox's world (NSIDC-0302 files at 6.9 and 10.7 GHz), and a reanalysis: swvl1 as ERA-Interim has it."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import netCDF4
import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array

from smnb.contract import ContractError, FormatError
from smnb.grids.koppen import land_fraction
from smnb.models.physics import soil_emission_tb, vegetation_optical_depth
from smnb_sandbox.files import table
from smnb_sandbox.noise import KM_PER_DEGREE, CorrelatedField, DriftingField, Float32, Float64, spread, stream
from smnb_sandbox.regions import LOCAL_HOUR, Swaths
from smnb_sandbox.world import DayState, World

ANALYSIS_HOURS = (0, 6, 12, 18)
FILL = np.int16(-32767)
#: The range that the packing covers. MARS takes it from the data; here it is fixed, so that a day is the same in a
#: file of six days and in one of thirty-one.
PACKED_RANGE = (-2.4e-4, 0.6213)
_SCALE = (PACKED_RANGE[1] - PACKED_RANGE[0]) / 65532.0
_OFFSET = 0.5 * (PACKED_RANGE[1] + PACKED_RANGE[0])
_LAYER_DAYS = 1.2


class Reanalysis:
    """Soil moisture of the top 7 cm on the reanalysis' 0.75 degree grid, driven by the truth and its own errors.

    They are a footprint of a degree, the lag of a thicker layer, gain and bias by region, and an error that drifts as rain does.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.lat = 90.0 - 0.75 * np.arange(241)
        self.lon = 0.75 * np.arange(480)
        self.land = land_fraction(self.lat, self.lon) >= 0.5
        self._weights, self._covered = self._aggregation()

        def static(name: str, length_km: float) -> Float32:
            return CorrelatedField(self.lat, self.lon.size, length_km).sample(stream(world.seed, name))

        self._gain = np.clip(0.78 + 0.10 * static("reanalysis gain", 900), 0.5, 1.0)
        self._bias = 0.016 + 0.018 * static("reanalysis bias", 500)
        # a glacier point holds frozen soil under its snow: constant, and nothing that a radiometer could see
        self._glacier = (0.28 + 0.008 * static("reanalysis glacier", 300)).astype(np.float32)
        self._climate = self._to_grid(world.equilibrium)
        self._error = DriftingField(CorrelatedField(self.lat, self.lon.size, 250.0), 0.8)
        self._layer: Float32 | None = None
        self._last_error: Float32 | None = None

    def _aggregation(self) -> tuple[csr_array, NDArray[np.bool_]]:
        """Build weights from soil cells to grid points: a Gaussian of 0.35 degree times the land in the cell."""
        world, step = self.world, self.world.resolution
        number = np.full(world.shape, -1, dtype=np.int64)
        number.ravel()[world.soil_cells] = np.arange(world.soil_cells.size)
        share = world.land_fraction.ravel()[world.soil_cells]
        point_lat, point_lon = (a.ravel() for a in np.meshgrid(self.lat, self.lon, indexing="ij"))
        row, column = (point_lat - world.lat[0]) / step, (point_lon - world.lon[0]) / step
        sigma, reach = max(0.35, 0.6 * step), max(1, round(0.75 / step))
        entries: list[tuple[NDArray, NDArray, NDArray]] = []
        for i in range(-reach + 1, reach + 1):
            for j in range(-reach + 1, reach + 1):
                r, c = np.floor(row).astype(int) + i, np.floor(column).astype(int) + j
                inside = (r >= 0) & (r < world.shape[0])
                cell = np.where(inside, number[np.clip(r, 0, world.shape[0] - 1), c % world.shape[1]], -1)
                points = np.flatnonzero(cell >= 0)
                distance2 = ((row - r)[points] ** 2 + (column - c)[points] ** 2) * step**2
                entries.append((points, cell[points], np.exp(-0.5 * distance2 / sigma**2) * share[cell[points]]))
        points, cells, weights = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        total = np.bincount(points, weights, minlength=point_lat.size)
        shape = (point_lat.size, world.soil_cells.size)
        matrix = csr_array(((weights / total[points]).astype(np.float32), (points, cells)), shape=shape)
        return matrix, (total > 0).reshape(self.land.shape)

    def _to_grid(self, vector: Float32) -> Float32:
        return (self._weights @ vector.astype(np.float32)).reshape(self.land.shape)

    def _state(self, error: Float32) -> Float32:
        layer = self._to_grid(self._layer)
        # dry soil has little water to be wrong about
        size = 0.030 * np.clip(layer / 0.18, 0.12, 1.1)
        value = self._climate + self._gain * (layer - self._climate) + self._bias * size / 0.030 + size * error
        value = np.clip(value, 0.004, 0.56)
        return np.where(self._covered, value, self._glacier) * self.land

    def analyses(self, state: DayState) -> NDArray[np.int16]:
        """Go on by one day and return its packed analyses, (4, 241, 480); 0 over sea. Days must come in order."""
        rng = stream(self.world.seed, "reanalysis", state.day.toordinal())
        if self._layer is None:
            self._layer = state.soil_moisture_start
            self._last_error = self._error.advance(stream(self.world.seed, "reanalysis start"))
        start = self._state(self._last_error)
        decay = np.float32(np.exp(-1.0 / _LAYER_DAYS))
        self._layer = decay * self._layer + (1.0 - decay) * state.soil_moisture_end
        self._last_error = self._error.advance(rng)
        end = self._state(self._last_error)
        hours = np.asarray(ANALYSIS_HOURS, dtype=np.float32)[:, None, None] / 24.0
        packed = np.rint(((1.0 - hours) * start + hours * end - _OFFSET) / _SCALE)
        if not (np.abs(packed) <= 32766).all():
            raise ContractError("Reanalysis", "soil moisture leaves the packed range", expected=PACKED_RANGE)
        return packed.astype(np.int16)


def write_era_file(
    path: Path, reanalysis: Reanalysis, days: Sequence[date], packed: Sequence[NDArray[np.int16]]
) -> None:
    """Write each day's packed analyses as a MARS retrieval converted to NetCDF: 64-bit offset, north first, 0..360."""
    epoch = datetime(1900, 1, 1)
    times = [datetime(d.year, d.month, d.day) + timedelta(hours=h) - epoch for d in days for h in ANALYSIS_HOURS]
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET") as file:
        axes = {"longitude": (reanalysis.lon, "degrees_east"), "latitude": (reanalysis.lat, "degrees_north")}
        for name, (values, _) in axes.items():
            file.createDimension(name, values.size)
        file.createDimension("time", None)
        for name, (values, units) in axes.items():
            axis = file.createVariable(name, "f4", (name,))
            axis.setncatts({"units": units, "long_name": name})
            axis[:] = values
        time = file.createVariable("time", "i4", ("time",))
        time.setncatts({"units": "hours since 1900-01-01 00:00:0.0", "long_name": "time", "calendar": "gregorian"})
        swvl1 = file.createVariable("swvl1", "i2", ("time", "latitude", "longitude"), fill_value=FILL)
        swvl1.setncatts({"scale_factor": _SCALE, "add_offset": _OFFSET, "missing_value": FILL})
        swvl1.setncatts({"units": "m**3 m**-3", "long_name": "Volumetric soil water layer 1"})
        swvl1.set_auto_maskandscale(False)
        file.setncatts({"Conventions": "CF-1.6", "history": "synthetic: simulated by smnb_sandbox"})
        time[:] = [int(t.total_seconds() // 3600) for t in times]
        swvl1[:] = np.concatenate(packed)


INCIDENCE_DEG = 55.0
PASSES = ("A", "D")
CHANNELS = ("6.9H", "6.9V", "10.7H", "10.7V")
FILE_CHANNEL = {"6.9H": "06H", "6.9V": "06V", "10.7H": "10H", "10.7V": "10V"}
GRID_SHAPE = (720, 1440)

#: By band: frequency (GHz), footprint along and across the track (km, -3 dB), NEDT (K), b (m2 kg-1), ocean TB of a
#: calm sea at 285 K for H and V (K). b, albedo and roughness are priors for C and X band, not fitted constants.
BANDS = {"6.9": (6.925, 75.0, 43.0, 0.3, 0.33, (82.0, 156.0)), "10.7": (10.65, 51.0, 29.0, 0.6, 0.43, (86.0, 163.0))}


class _Footprint:
    """Gaussian antenna pattern on a regular grid, its width in longitude growing with latitude."""

    def __init__(self, world: World, along_km: float, across_km: float) -> None:
        km_per_cell = KM_PER_DEGREE * world.resolution
        to_sigma = 1.0 / np.sqrt(8.0 * np.log(2.0))
        self._sigma_rows = along_km * to_sigma / km_per_cell
        sigma = across_km * to_sigma / km_per_cell / np.maximum(np.cos(np.radians(world.lat)), 0.01)
        columns = world.shape[1]
        distance = np.minimum(np.arange(columns), columns - np.arange(columns))
        # floored so that rows where the pattern is narrower than a cell keep a kernel that sums to one
        kernel = np.exp(-0.5 * (distance / np.maximum(sigma, 0.2)[:, None]) ** 2)
        kernel /= kernel.sum(axis=1, keepdims=True)
        self._transfer = np.ascontiguousarray(fft.rfft(kernel, axis=1).real.astype(np.float32))
        self.peak = float(kernel[world.shape[0] // 2, 0] / max(1.0, np.sqrt(2 * np.pi) * self._sigma_rows))

    def blur(self, image: Float32) -> Float32:
        spectrum = fft.rfft(image, axis=1)
        spectrum *= self._transfer
        image = fft.irfft(spectrum, n=image.shape[1], axis=1, overwrite_x=True)
        return gaussian_filter1d(image, self._sigma_rows, axis=0, mode="nearest")


class Amsre:
    """Simulates the daily gridded images of both passes over a `World`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.swaths = Swaths(world.lat, world.lon, world.seed)
        self._footprint = {band: _Footprint(world, *values[1:3]) for band, values in BANDS.items()}
        self.roughness_h = np.clip(0.22 * np.exp(0.45 * world.field("roughness", 120)), 0.05, 0.7)
        self.roughness_q = np.clip(0.12 + 0.015 * world.field("mixing", 200), 0.05, 0.2)
        self.single_scattering_albedo = np.clip(0.06 + 0.008 * world.field("albedo", 200), 0.03, 0.09)
        self.b_factor = np.clip(1.0 + 0.12 * world.field("vegetation structure", 150), 0.6, 1.4)
        self._soil_share = world.land_fraction.ravel()[world.soil_cells]
        self._sea = self._sea_static()
        self._sources = self._rfi_sources()
        self._wind = CorrelatedField(world.lat, world.shape[1], 350.0)

    def _sea_static(self) -> dict[str, Float32]:
        """Sea surface temperature, sea ice, and the ice sheets' temperature index, constant over the month."""
        world = self.world
        lat = world.lat[:, None]
        wave = world.grid_field("sea", 500)
        temperature = np.clip(301.0 - 0.0095 * np.abs(lat - 8.0) ** 2 + 1.2 * wave, 271.4, 304.0)
        edge = world.grid_field("ice edge", 400)
        south = 1.0 / (1.0 + np.exp((lat + 62.5 + 1.8 * edge) / 0.8))
        north = 0.85 / (1.0 + np.exp(-(lat - 79.5 - 2.5 * edge) / 1.0))
        firn = 0.6 * world.grid_field("firn", 250) + 0.4 * world.grid_field("firn fine", 60)
        return {
            "temperature": temperature.astype(np.float32),
            "ice": np.clip(south + north, 0.0, 1.0).astype(np.float32),
            "firn": firn.astype(np.float32),
        }

    def _rfi_sources(self) -> Float64:
        """Row, column, peak anomaly (K), H share and V share of each transmitter."""
        rng, world, sources = stream(self.world.seed, "rfi"), self.world, []
        for south, north, west, east, number in table("climate")["interference"]:
            for _ in range(number):
                row = int((rng.uniform(south, north) + 90.0) / world.resolution)
                column = int((rng.uniform(west, east) + 180.0) / world.resolution)
                peak = min(8.0 * np.exp(1.15 * rng.standard_normal()), 160.0)
                shares = rng.uniform(0.35, 1.0, size=2)
                if world.land_fraction[row, column] > 0.5:
                    sources.append((row, column, peak, *shares))
        return np.asarray(sources, dtype=np.float64).reshape(-1, 5)

    def _background(self, band: str, wind: Float32) -> tuple[Float32, Float32]:
        """H and V of sea, sea ice and ice sheets on the whole grid (soil is added to it)."""
        calm_h, calm_v = BANDS[band][5]
        warm, ice, firn = self._sea["temperature"] - 285.0, self._sea["ice"], self._sea["firn"]
        sheet = self.world.ice_sheet
        # thin cold firn over Antarctica, warmer and wetter Greenland in July
        sheet_level = np.where(self.world.lat[:, None] < 0, 0.0, 22.0).astype(np.float32)
        result = []
        for calm, per_wind, per_kelvin, sea_ice, firn_level, firn_range in (
            (calm_h, 1.15, 0.12, 222.0, 176.0, 12.0),
            (calm_v, 0.45, 0.42, 250.0, 208.0, 10.0),
        ):
            sea = calm + per_wind * wind + per_kelvin * warm
            surface = sea + ice * (sea_ice - sea)
            land_ice = firn_level + sheet_level + firn_range * firn
            result.append(np.where(sheet, self.world.land_fraction * (land_ice - surface) + surface, surface))
        return result[0], result[1]

    def soil_tb(self, state: DayState, band: str, orbit_pass: str) -> tuple[Float32, Float32]:
        """Brightness temperatures (K) of the soil cells' land part at a pass, H and V, before the antenna."""
        world, hour = self.world, LOCAL_HOUR[orbit_pass]
        surface = world.surface_temperature(state, hour)
        daily = world.surface_temperature(state)
        share = np.mod(hour - world.soil_lon / 15.0, 24.0) / 24.0  # of the day, at the overpass
        return soil_emission_tb(
            state.soil_moisture_start * (1.0 - share) + state.soil_moisture_end * share,
            world.clay_fraction,
            daily + 0.8 * (surface - daily),
            frequency_ghz=BANDS[band][0],
            incidence_deg=INCIDENCE_DEG,
            h=self.roughness_h,
            q=self.roughness_q,
            n=1,
            tau=vegetation_optical_depth(BANDS[band][4] * self.b_factor, world.vegetation_water_content),
            single_scattering_albedo=self.single_scattering_albedo,
            canopy_temperature=daily + 0.55 * (surface - daily),
        )

    def images(self, state: DayState, orbit_pass: str) -> dict[str, Float32]:
        """Simulate the four images of one day and pass: A(scending, 13:30) or D(escending, 01:30).

        Brightness temperatures (K) by channel, shape (lat, lon), latitude ascending, NaN where not observed.
        """
        world, day = self.world, state.day.toordinal()
        index = PASSES.index(orbit_pass)
        rng = stream(world.seed, "radiometer", day, index)
        storm_track = 7.0 + 3.5 * np.exp(-(((np.abs(world.lat) - 50.0) / 18.0) ** 2))[:, None]
        wind = np.clip(storm_track + 2.8 * self._wind.sample(rng), 0.0, 22.0).astype(np.float32)
        missing = ~self.swaths.covered(state.day, orbit_pass)
        interference = self._interference(rng)
        result = {}
        for band, (_, _, _, nedt, _, _) in BANDS.items():
            for polarisation, background, soil in zip(
                "HV", self._background(band, wind), self.soil_tb(state, band, orbit_pass), strict=True
            ):
                image = background.astype(np.float32)
                flat = image.ravel()
                sea = flat[world.soil_cells]
                water = sea * world.open_water_fraction + soil * (1.0 - world.open_water_fraction)
                flat[world.soil_cells] = sea + self._soil_share * (water - sea)
                if band == "6.9":
                    image += interference[polarisation]
                image = self._footprint[band].blur(image)
                image += np.float32(nedt) * rng.standard_normal(image.shape, dtype=np.float32)
                image[missing] = np.nan
                result[f"{band}{polarisation}"] = image
        return result

    def _interference(self, rng: np.random.Generator) -> dict[str, Float32]:
        """Point anomalies of the transmitters that are on, scaled so that the blurred peak is the source's."""
        rows, columns = self._sources[:, 0].astype(int), self._sources[:, 1].astype(int)
        on = rng.random(rows.size) < 0.6
        strength = np.exp(0.4 * rng.standard_normal(rows.size)) * on / self._footprint["6.9"].peak
        result = {}
        for polarisation, share in (("H", self._sources[:, 3]), ("V", self._sources[:, 4])):
            grid = np.zeros(self.world.shape, dtype=np.float32)
            np.add.at(grid, (rows, columns), (self._sources[:, 2] * share * strength).astype(np.float32))
            result[polarisation] = grid
        return result


def file_name(day: date, orbit_pass: str, channel: str) -> str:
    """Name of an NSIDC-0302 file.

    >>> file_name(date(2011, 7, 1), "A", "6.9H")
    'ID2r1-AMSRE-D.252011182A.v03.06H.gz'
    """
    return f"ID2r1-AMSRE-D.25{day:%Y%j}{orbit_pass}.v03.{FILE_CHANNEL[channel]}.gz"


def encode_image(image: NDArray[np.floating]) -> bytes:
    """Encode an image (K) as an NSIDC-0302 file: gzip of uint16 little-endian, 0.1 K, 0 missing, north first.

    Cells of a coarser grid are repeated; a `FormatError` is raised where it does not divide the file's.
    """
    size = GRID_SHAPE[0] // max(image.shape[0], 1)
    if image.ndim != 2 or (image.shape[0] * size, image.shape[1] * size) != GRID_SHAPE:
        raise FormatError(
            "encode_image", "the image does not fit the file's grid", got=image.shape, expected=GRID_SHAPE
        )
    tenths = np.rint(np.nan_to_num(image[::-1], nan=0.0) * 10.0)
    packed = np.clip(tenths, 0.0, 65535.0).astype("<u2")
    return gzip.compress(spread(packed, size).tobytes(), compresslevel=1, mtime=0)
