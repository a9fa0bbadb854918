"""Random fields on a plane: exactly Gaussian, of unit variance, evaluated on whatever grid and drifting if wanted.

`smnb_sandbox.noise.CorrelatedField` goes around the globe; on a region of a few hundred kilometres, at spacings of one and
three kilometres and a thousand days long, sums of a few plane waves are much cheaper.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smnb_sandbox.noise import stream

#: The fields repeat after this distance, which no region reaches.
PERIOD_KM = 700.0

Array = NDArray[np.float32]


class PlanarField:
    """Gaussian fields of mean 0 and variance 1 with correlation ``exp(-d**2 / (4 length**2))`` at distance d.

    Parameters
    ----------
    length_km : float
        As in `smnb_sandbox.noise.CorrelatedField`.
    east, north : ndarray
        Coordinates of the columns and rows that fields are evaluated at, km.

    Examples
    --------
    >>> field = PlanarField(20.0, np.arange(0.0, 300.0, 3.0), np.arange(0.0, 300.0, 3.0))
    >>> image = field.evaluate(field.coefficients(np.random.default_rng(0)))
    >>> image.shape, 0.5 < float(image.std()) < 1.5
    ((100, 100), True)
    """

    def __init__(self, length_km: float, east: NDArray[np.floating], north: NDArray[np.floating]) -> None:
        unit = 2.0 * np.pi / PERIOD_KM
        highest = int(np.ceil(3.0 / (length_km * unit)))
        self.k_east = (np.arange(highest + 1) * unit).astype(np.float32)
        self.k_north = (np.arange(-highest, highest + 1) * unit).astype(np.float32)
        square = self.k_north[:, None] ** 2 + self.k_east[None, :] ** 2
        gain = np.exp(-0.5 * square * length_km**2)
        self._gain = (gain / np.sqrt((gain**2).sum())).astype(np.float32)
        self._north = np.exp(1j * np.outer(np.asarray(north), self.k_north)).astype(np.complex64)
        self._east = np.exp(1j * np.outer(self.k_east, np.asarray(east))).astype(np.complex64)

    def coefficients(self, rng: np.random.Generator) -> NDArray[np.complex64]:
        """Draw the amplitudes of the waves."""
        rows, columns = self._gain.shape
        return rng.standard_normal((rows, 2 * columns), dtype=np.float32).view(np.complex64)

    def evaluate(self, coefficients: NDArray[np.complex64]) -> Array:
        """Evaluate waves on the grid, shape (north, east)."""
        partial = (self._gain * coefficients) @ self._east
        # the real part of a product needs half the work of the product
        real, imaginary = np.ascontiguousarray(self._north.real), np.ascontiguousarray(self._north.imag)
        return real @ np.ascontiguousarray(partial.real) - imaginary @ np.ascontiguousarray(partial.imag)

    def sample(self, rng: np.random.Generator) -> Array:
        """Draw one field, shape (north, east)."""
        return self.evaluate(self.coefficients(rng))


class PlanarSeries:
    """A `PlanarField` that goes on step by step: carried by a drift and renewed as an AR(1) process.

    Parameters
    ----------
    base : PlanarField
    memory : float
        Correlation from step to step along the drift, 0..1.
    drift_km : (float, float)
        Per step, to the east and to the north.
    """

    def __init__(self, base: PlanarField, memory: float, drift_km: tuple[float, float] = (0.0, 0.0)) -> None:
        self.base, self.memory = base, np.float32(memory)
        phase = base.k_north[:, None] * drift_km[1] + base.k_east[None, :] * drift_km[0]
        self._turn = (memory * np.exp(-1j * phase)).astype(np.complex64)
        self._state: NDArray[np.complex64] | None = None

    def advance(self, rng: np.random.Generator) -> Array:
        """Go on by one step and return the field."""
        fresh = self.base.coefficients(rng)
        if self._state is None:
            self._state = fresh
        else:
            self._state = self._turn * self._state + np.sqrt(1.0 - self.memory**2) * fresh
        return self.base.evaluate(self._state)


def texture(seed: int, name: str, east: NDArray, north: NDArray, scales: tuple[tuple[float, float], ...]) -> Array:
    """Draw a static field of several scales by name, of unit variance.

    Parameters
    ----------
    seed : int
    name : str
        Of the purpose.
    east, north : ndarray
        km.
    scales : tuple of (float, float)
        Length (km) and weight of each scale; the squares of the weights are made to sum to one.
    """
    total = np.sqrt(sum(weight**2 for _, weight in scales))
    parts = (
        (weight / total) * PlanarField(length, east, north).sample(stream(seed, name, number))
        for number, (length, weight) in enumerate(scales)
    )
    return sum(parts).astype(np.float32)
