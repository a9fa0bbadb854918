"""The sandbox's reanalysis: swvl1 as ERA-Interim would say it, with errors of its own, and its NetCDF file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import netCDF4
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from smnb.contract import ContractError
from smnb.grids.koppen import land_fraction
from smnb_sandbox.noise import CorrelatedField, DriftingField, Float32, stream
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

    def analyses(self, state: DayState) -> Float32:
        """Go on by one day and return its analyses, (4, 241, 480), m3 m-3; 0 over sea. Days must come in order from the first."""
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
        return (1.0 - hours) * start + hours * end


def pack(values: NDArray[np.floating]) -> NDArray[np.int16]:
    """Pack m3 m-3 as the file's int16."""
    packed = np.rint((values - _OFFSET) / _SCALE)
    if not (np.abs(packed) <= 32766).all():
        raise ContractError("era.pack", "soil moisture leaves the packed range", expected=PACKED_RANGE)
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
