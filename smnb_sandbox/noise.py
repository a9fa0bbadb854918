"""Seeded randomness: fields on the globe and on a plane that are correlated over a distance in km and drift, and series.

Around the globe a field is white noise smoothed along latitudes and damped along longitudes; on a region of a few hundred
kilometres, at spacings of one and three kilometres and a thousand days long, sums of a few plane waves are much cheaper.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

EARTH_RADIUS_KM = 6371.0
KM_PER_DEGREE = EARTH_RADIUS_KM * np.pi / 180.0
_PERIOD_KM = 700.0  # fields on a plane repeat after this distance, which no region reaches

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Waves = NDArray[np.complex64]


def stream(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """Random generator of one named purpose: draws for one purpose or day never shift those of another."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *numbers])


class CorrelatedField:
    """Gaussian random fields of mean 0 and variance 1 on a regular grid of latitudes (rows) and so many longitudes (columns).

    White noise in (latitude, zonal wavenumber) is smoothed so that the correlation at distance d (km) is everywhere
    ``exp(-d**2 / (4 length**2))``; only the wavenumbers that survive are drawn.
    """

    def __init__(self, lat: NDArray[np.floating], columns: int, length_km: float) -> None:
        self.lat, self.columns = np.asarray(lat, dtype=np.float64), columns
        # below a third of a cell the kernel is a delta
        length_km = max(length_km, abs(self.lat[1] - self.lat[0]) * KM_PER_DEGREE / 3.0)
        radians = length_km / EARTH_RADIUS_KM / np.maximum(np.cos(np.radians(self.lat)), 0.02)
        highest = min(columns // 2, int(np.ceil(3.5 / radians.min())))
        self._wavenumber = np.arange(highest + 1, dtype=np.float32)
        damping = np.exp(-0.5 * (self._wavenumber * radians[:, None]) ** 2)
        self._gain = (damping / np.sqrt((damping**2).sum(axis=1, keepdims=True))).astype(np.float32)
        self._sigma_rows = length_km / KM_PER_DEGREE / abs(self.lat[1] - self.lat[0])
        impulse = np.zeros(2 * int(4 * self._sigma_rows + 2) + 1)
        impulse[impulse.size // 2] = 1.0
        kernel = gaussian_filter1d(impulse, self._sigma_rows, mode="constant")
        self._row_scale = np.float32(1.0 / np.sqrt((kernel**2).sum()))
        self._margin = impulse.size // 2

    def coefficients(self, rng: np.random.Generator) -> Waves:
        """Draw zonal spectral coefficients, shape (lat, wavenumber)."""
        rows, waves = self.lat.size + 2 * self._margin, self._wavenumber.size
        # rows beyond the poles are drawn and cut, so that the variance at the poles is the same
        white = rng.standard_normal((rows, 2 * waves), dtype=np.float32)
        smooth = gaussian_filter1d(white, self._sigma_rows, axis=0, mode="constant") * self._row_scale
        smooth = np.ascontiguousarray(smooth[self._margin : self._margin + self.lat.size])
        return smooth.view(np.complex64)

    def phase(self, drift_deg: NDArray[np.floating]) -> NDArray[np.floating]:
        """Turn of each wave by a drift to the east, degrees of longitude by row."""
        return np.radians(drift_deg)[:, None] * self._wavenumber

    def field(self, coefficients: Waves) -> Float32:
        """Evaluate coefficients on the grid, shape (lat, lon)."""
        spectrum = np.zeros((self.lat.size, self.columns // 2 + 1), dtype=np.complex64)
        spectrum[:, : self._wavenumber.size] = coefficients * self._gain * np.float32(self.columns / 2)
        spectrum[:, 0] = 2.0 * spectrum[:, 0].real
        return fft.irfft(spectrum, n=self.columns, axis=1, overwrite_x=True)

    def sample(self, rng: np.random.Generator) -> Float32:
        """Draw one field, shape (lat, lon), float32."""
        return self.field(self.coefficients(rng))


class PlanarField:
    """Gaussian fields as `CorrelatedField`, of a sum of plane waves at coordinates of columns and rows, km."""

    def __init__(self, length_km: float, east: NDArray[np.floating], north: NDArray[np.floating]) -> None:
        unit = 2.0 * np.pi / _PERIOD_KM
        highest = int(np.ceil(3.0 / (length_km * unit)))
        self._k_east = (np.arange(highest + 1) * unit).astype(np.float32)
        self._k_north = (np.arange(-highest, highest + 1) * unit).astype(np.float32)
        square = self._k_north[:, None] ** 2 + self._k_east[None, :] ** 2
        gain = np.exp(-0.5 * square * length_km**2)
        self._gain = (gain / np.sqrt((gain**2).sum())).astype(np.float32)
        self._north = np.exp(1j * np.outer(np.asarray(north), self._k_north)).astype(np.complex64)
        self._east = np.exp(1j * np.outer(self._k_east, np.asarray(east))).astype(np.complex64)

    def phase(self, drift_km: tuple[float, float]) -> NDArray[np.floating]:
        """Turn of each wave by a drift to the east and to the north, km."""
        return self._k_north[:, None] * drift_km[1] + self._k_east[None, :] * drift_km[0]

    def coefficients(self, rng: np.random.Generator) -> Waves:
        """Draw the amplitudes of the waves."""
        rows, columns = self._gain.shape
        return rng.standard_normal((rows, 2 * columns), dtype=np.float32).view(np.complex64)

    def field(self, coefficients: Waves) -> Float32:
        """Evaluate waves on the grid, shape (north, east)."""
        partial = (self._gain * coefficients) @ self._east
        # the real part of a product needs half the work of the product
        real, imaginary = np.ascontiguousarray(self._north.real), np.ascontiguousarray(self._north.imag)
        return real @ np.ascontiguousarray(partial.real) - imaginary @ np.ascontiguousarray(partial.imag)

    def sample(self, rng: np.random.Generator) -> Float32:
        """Draw one field, shape (north, east)."""
        return self.field(self.coefficients(rng))


class DriftingField:
    """A field that goes on step by step: carried by a drift (as its `phase` takes it), renewed as AR(1) of so much memory."""

    def __init__(
        self, base: CorrelatedField | PlanarField, memory: float, drift: NDArray | tuple[float, float] | None = None
    ) -> None:
        self._base, self._memory = base, np.float32(memory)
        phase = np.float32(0.0) if drift is None else base.phase(drift)
        self._turn = np.asarray(memory * np.exp(-1j * phase)).astype(np.complex64)
        self._state: Waves | None = None

    def advance(self, rng: np.random.Generator) -> Float32:
        """Go on by one step and return the field."""
        fresh = self._base.coefficients(rng)
        if self._state is None:
            self._state = fresh
        else:
            self._state = self._turn * self._state + np.sqrt(1.0 - self._memory**2) * fresh
        return self._base.field(self._state)


def texture(seed: int, name: str, east: NDArray, north: NDArray, scales: tuple[tuple[float, float], ...]) -> Float32:
    """Draw a static field on a plane by name, of unit variance; `scales` are lengths (km) and weights."""
    total = np.sqrt(sum(weight**2 for _, weight in scales))
    parts = (
        (weight / total) * PlanarField(length, east, north).sample(stream(seed, name, number))
        for number, (length, weight) in enumerate(scales)
    )
    return sum(parts).astype(np.float32)


def autoregressive(rng: np.random.Generator, memory: float, shape: tuple[int, ...]) -> Float64:
    """Standard AR(1) series along the first axis."""
    shocks = rng.standard_normal(shape) * np.sqrt(1.0 - memory**2)
    shocks[0] /= np.sqrt(1.0 - memory**2)
    return lfilter([1.0], [1.0, -memory], shocks, axis=0)


def lagged(series: NDArray, share: float, start: NDArray | float | None = None) -> Float64:
    """Exponential filter along the first axis: each step takes a share of what is new; `start` defaults to the first."""
    start = (series[:1] if start is None else np.asarray(start)[None]) * (1.0 - share)
    return lfilter([share], [1.0, share - 1.0], series, axis=0, zi=start)[0]


def columns_at(position: NDArray, rows: NDArray) -> Float64:
    """Each column of a table at positions among its rows, linear in between, shape (position, column)."""
    return np.stack([np.interp(position, np.arange(len(rows)), column) for column in rows.T], axis=1)


def by_hour(daily: NDArray) -> Float64:
    """Series of days (day, place) as series of hours, linear in between; the last day only ends the one before."""
    share = (np.arange(24.0) / 24.0)[None, :, None]
    return (daily[:-1, None] * (1.0 - share) + daily[1:, None] * share).reshape(-1, daily.shape[1])


def blocks(values: NDArray, size: int) -> NDArray:
    """Means of ``size x size`` blocks of the last two axes; truth values give shares."""
    *lead, rows, columns = values.shape
    return values.reshape(*lead, rows // size, size, columns // size, size).mean(axis=(-3, -1), dtype=np.float32)


def spread(values: NDArray, size: int) -> NDArray:
    """Repeat each cell ``size x size`` times: the opposite of `blocks`."""
    return values.repeat(size, axis=-2).repeat(size, axis=-1)
