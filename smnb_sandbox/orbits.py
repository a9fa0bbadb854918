"""Where AMSR-E looked: swaths of a sun-synchronous orbit with Aqua's geometry on a latitude-longitude grid."""

from __future__ import annotations

from datetime import date

import numpy as np
from numpy.typing import NDArray

from smnb_sandbox.noise import EARTH_RADIUS_KM, stream

REPEAT_DAYS, REPEAT_ORBITS = 16, 233
INCLINATION_DEG = 98.2
HALF_SWATH_KM = 1445.0 / 2.0
#: Local solar time of the equator crossing, by pass.
LOCAL_HOUR = {"A": 13.5, "D": 1.5}
LOST_HALF_ORBITS = 0.012


class Swaths:
    """Coverage of daily images, by pass, with an occasional lost half orbit.

    Parameters
    ----------
    lat, lon : ndarray
        Cell centres of a global grid, symmetric about the equator.
    seed : int
        Decides which half orbits are lost.
    """

    def __init__(self, lat: NDArray[np.floating], lon: NDArray[np.floating], seed: int) -> None:
        self.seed, self.lon = seed, np.asarray(lon)
        ascending = self._half_orbit(np.asarray(lat), self.lon)
        # south of a descending track lies what is north of an ascending one
        self._template = {"A": ascending, "D": ascending[::-1]}

    @staticmethod
    def _half_orbit(lat: NDArray[np.floating], lon: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Cells within the swath of one ascending half orbit whose equator crossing is at longitude 0."""
        inclination = np.radians(INCLINATION_DEG)
        phi, lam = np.radians(lat)[:, None].astype(np.float32), np.radians(lon)[None, :].astype(np.float32)
        cos_phi, sin_phi = np.cos(phi), np.sin(phi)
        # the orbit's plane follows the mean sun, so the Earth turns once a day beneath it
        turn = np.float32(REPEAT_DAYS / REPEAT_ORBITS)
        along = np.arcsin(np.clip(sin_phi / np.float32(np.sin(inclination)), -1.0, 1.0)) + np.zeros_like(lam)
        si, ci = np.float32(np.sin(inclination)), np.float32(np.cos(inclination))
        for _ in range(4):
            inertial = lam + along * turn
            x, y = cos_phi * np.cos(inertial), cos_phi * np.sin(inertial)
            along = np.arctan2(y * ci + sin_phi * si, x)
        across = -y * si + sin_phi * ci
        return (np.abs(across) <= np.sin(HALF_SWATH_KM / EARTH_RADIUS_KM)) & (np.abs(along) <= np.pi / 2)

    def equator_longitudes(self, day: date, orbit_pass: str) -> list[tuple[int, float]]:
        """Orbit number and longitude (degrees) of each equator crossing of this pass within a UTC day."""
        number_of_day = day.toordinal()
        shift = 0.0 if orbit_pass == "A" else 0.5
        first = int(np.ceil(number_of_day * REPEAT_ORBITS / REPEAT_DAYS - shift))
        last = int(np.ceil((number_of_day + 1) * REPEAT_ORBITS / REPEAT_DAYS - shift))
        hours = [((k + shift) * REPEAT_DAYS / REPEAT_ORBITS - number_of_day) * 24.0 for k in range(first, last)]
        return [(k, (LOCAL_HOUR[orbit_pass] - h) * 15.0) for k, h in zip(range(first, last), hours, strict=True)]

    def covered(self, day: date, orbit_pass: str) -> NDArray[np.bool_]:
        """Return the cells that this pass observed on this UTC day, shape (lat, lon)."""
        template = self._template[orbit_pass]
        step = 360.0 / self.lon.size
        result = np.zeros(template.shape, dtype=bool)
        for number, longitude in self.equator_longitudes(day, orbit_pass):
            if stream(self.seed, f"lost half orbit {orbit_pass}", number).random() < LOST_HALF_ORBITS:
                continue
            columns = round(longitude / step) % self.lon.size
            result[:, columns:] |= template[:, : self.lon.size - columns]
            result[:, :columns] |= template[:, self.lon.size - columns :]
        return result
