"""Seeded random fields on the globe, correlated over a distance in km, periodic in longitude, drifting in time."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter1d

EARTH_RADIUS_KM = 6371.0
_KM_PER_DEGREE = EARTH_RADIUS_KM * np.pi / 180.0


def stream(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """Random generator of one named purpose: draws for one purpose or day never shift those of another."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *numbers])


class CorrelatedField:
    """Gaussian random fields of mean 0 and variance 1 on a regular latitude-longitude grid.

    White noise in (latitude, zonal wavenumber) is smoothed along latitude and damped along longitude by a Gaussian
    whose width in degrees grows with latitude, so that the field is isotropic in km; only the wavenumbers that
    survive are drawn, which makes long-wave fields cheap.

    Parameters
    ----------
    lat : ndarray
        Latitudes of the rows, degrees, regular.
    columns : int
        Number of longitudes around the globe.
    length_km : float
        Standard deviation of the smoothing kernel; the correlation at distance d is ``exp(-d**2 / (4 length**2))``.
    """

    def __init__(self, lat: NDArray[np.floating], columns: int, length_km: float) -> None:
        self.lat, self.columns = np.asarray(lat, dtype=np.float64), columns
        # below a third of a cell the kernel is a delta
        length_km = max(length_km, abs(self.lat[1] - self.lat[0]) * _KM_PER_DEGREE / 3.0)
        radians = length_km / EARTH_RADIUS_KM / np.maximum(np.cos(np.radians(self.lat)), 0.02)
        highest = min(columns // 2, int(np.ceil(3.5 / radians.min())))
        self.wavenumber = np.arange(highest + 1, dtype=np.float32)
        damping = np.exp(-0.5 * (self.wavenumber * radians[:, None]) ** 2)
        self._gain = (damping / np.sqrt((damping**2).sum(axis=1, keepdims=True))).astype(np.float32)
        self._sigma_rows = length_km / _KM_PER_DEGREE / abs(self.lat[1] - self.lat[0])
        impulse = np.zeros(2 * int(4 * self._sigma_rows + 2) + 1)
        impulse[impulse.size // 2] = 1.0
        kernel = gaussian_filter1d(impulse, self._sigma_rows, mode="constant")
        self._row_scale = np.float32(1.0 / np.sqrt((kernel**2).sum()))
        self._margin = impulse.size // 2

    def coefficients(self, rng: np.random.Generator) -> NDArray[np.complex64]:
        """Draw zonal spectral coefficients, shape (lat, wavenumber)."""
        rows, waves = self.lat.size + 2 * self._margin, self.wavenumber.size
        # rows beyond the poles are drawn and cut, so that the variance at the poles is the same
        white = rng.standard_normal((rows, 2 * waves), dtype=np.float32)
        smooth = gaussian_filter1d(white, self._sigma_rows, axis=0, mode="constant") * self._row_scale
        smooth = np.ascontiguousarray(smooth[self._margin : self._margin + self.lat.size])
        return smooth.view(np.complex64)

    def field(self, coefficients: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Evaluate coefficients on the grid, shape (lat, lon)."""
        spectrum = np.zeros((self.lat.size, self.columns // 2 + 1), dtype=np.complex64)
        spectrum[:, : self.wavenumber.size] = coefficients * self._gain * np.float32(self.columns / 2)
        spectrum[:, 0] = 2.0 * spectrum[:, 0].real
        return fft.irfft(spectrum, n=self.columns, axis=1, overwrite_x=True)

    def sample(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw one field, shape (lat, lon), float32."""
        return self.field(self.coefficients(rng))


class DriftingField:
    """A `CorrelatedField` that evolves day by day: carried along latitude circles and renewed as an AR(1) process.

    Parameters
    ----------
    base : CorrelatedField
        The spatial statistics.
    memory : float
        Correlation of one day with the next along the drift, 0..1.
    drift_deg : ndarray, optional
        Eastward drift per day by row, degrees of longitude.
    """

    def __init__(self, base: CorrelatedField, memory: float, drift_deg: NDArray[np.floating] | None = None) -> None:
        self.base, self.memory = base, np.float32(memory)
        drift = np.zeros(base.lat.size) if drift_deg is None else np.asarray(drift_deg)
        phase = np.radians(drift)[:, None] * base.wavenumber
        self._turn = (np.exp(-1j * phase) * memory).astype(np.complex64)
        self._state: NDArray[np.complex64] | None = None

    def advance(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Go on by one day and return the field of that day."""
        fresh = self.base.coefficients(rng)
        if self._state is None:
            self._state = fresh
        else:
            self._state = self._turn * self._state + np.sqrt(1.0 - self.memory**2) * fresh
        return self.base.field(self._state)
