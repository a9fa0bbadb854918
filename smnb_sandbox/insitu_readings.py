"""What the sandbox's sensors report of the truth: bias, noise, drift, frozen soil, faults, gaps, and ISMN's flags.

The flags (Dorigo et al. 2013, Vadose Zone J. 12(3), doi:10.2136/vzj2012.0097) are set as a checker would that knows what went
wrong: nearly all faults, and a few good readings too. Range checks (C01-C03) look at the value as it is printed, never fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from smnb_sandbox.files import table
from smnb_sandbox.insitu_sites import Sensor
from smnb_sandbox.insitu_truth import PointTruth
from smnb_sandbox.noise import Float64, stream
from smnb_sandbox.world import liquid_share

MISSING = -9999.0
#: Bit of each flag in `Readings.flags`; a reading without any is G, a missing one M.
FLAGS = ("C01", "C02", "C03", "D01", "D02", "D03", "D04", "D05", "D06", "D07", "D08", "D09", "D10")
_BIT = {name: np.uint16(1 << i) for i, name in enumerate(FLAGS)}

#: Noise of one reading, spread of the calibration's bias (both m3 m-3) and of its gain, by instrument.
INSTRUMENTS: dict[str, tuple[float, float, float]] = table("networks")["instruments"]
#: Faults per sensor and day.
_RATE = {"spike": 1 / 15, "step": 1 / 60, "low": 1 / 150, "plateau": 1 / 200, "missing": 1 / 40, "absent": 1 / 90}
_NOTICED = 0.92


@dataclass(frozen=True)
class Readings:
    """What one sensor's file holds, in the order of its lines."""

    sensor: Sensor
    truth: PointTruth  # of the sensor's station among others
    time: NDArray[np.datetime64]  # UTC hours; not always increasing, and some twice
    value: Float64  # m3 m-3 as printed, `MISSING` where the provider filled
    flags: NDArray[np.uint16]  # bits of `FLAGS`; 0 is good, or missing


def flag_names(bits: int) -> str:
    """Spell bits as ISMN does.

    >>> flag_names(0), flag_names(2 | 4)
    ('G', 'C02,C03')
    """
    return ",".join(name for i, name in enumerate(FLAGS) if bits >> i & 1) or "G"


class _Faulty:
    """One sensor's series while it is being spoilt; a fault is drawn over the whole year, whatever part is written."""

    def __init__(self, rng: np.random.Generator, value: Float64) -> None:
        self.rng, self.value = rng, value
        self.flags = np.zeros(value.size, dtype=np.uint16)
        self.missing = np.zeros(value.size, dtype=bool)
        self.absent = np.zeros(value.size, dtype=bool)

    def events(self, rate: float, shortest: int, longest: int) -> Iterator[tuple[slice, bool]]:
        """Draw events: the hours of each, and whether the checker notices it."""
        for _ in range(self.rng.poisson(rate * self.value.size / 24.0)):
            start = int(self.rng.integers(1, self.value.size - longest - 1))
            length = int(self.rng.integers(shortest, longest + 1))
            yield slice(start, start + length), bool(self.rng.random() < _NOTICED)

    def flag(self, where: slice | int | NDArray, name: str, noticed: bool = True) -> None:
        if noticed:
            self.flags[where] |= _BIT[name]

    def spikes(self) -> None:
        for hours, noticed in self.events(_RATE["spike"], 1, 1):
            size = self.rng.uniform(0.07, 0.22) * (1.0 if self.rng.random() < 0.75 else -0.6)
            self.value[hours] = max(self.value[hours][0] + size, 0.005)
            self.flag(hours, "D06", noticed)

    def steps(self) -> None:
        """Lose contact with the soil for hours or days, and find it again."""
        for hours, noticed in self.events(_RATE["step"], 4, 60):
            self.value[hours] *= self.rng.uniform(0.45, 0.75)
            self.flag(hours.start, "D07", noticed)
            self.flag(hours.stop, "D08", noticed)

    def low(self) -> None:
        for hours, noticed in self.events(_RATE["low"], 14, 80):
            self.value[hours] = self.rng.uniform(0.008, 0.035)
            self.flag(hours.start, "D07", noticed)
            self.flag(hours, "D09", noticed)

    def plateaus(self, wet: float) -> None:
        """Stick at the sensor's upper end after rain."""
        for hours, noticed in self.events(_RATE["plateau"], 12, 48):
            if self.value[hours].max() > 0.7 * wet:
                self.value[hours] = 1.01 * wet + 0.0004 * self.rng.standard_normal(hours.stop - hours.start)
                self.flag(hours, "D10", noticed)


def _calibrated(rng: np.random.Generator, sensor: Sensor, truth: Float64, soil: Float64) -> Float64:
    """Return the truth through the sensor's own calibration, temperature sensitivity, drift and noise."""
    noise, bias_spread, gain_spread = INSTRUMENTS[sensor.instrument.removesuffix(" A").removesuffix(" B")]
    gain, bias = 1.0 + gain_spread * rng.standard_normal(), bias_spread * rng.standard_normal()
    per_kelvin = 4e-4 * rng.standard_normal()
    drifts, size = rng.random() < 0.25, rng.uniform(0.03, 0.06)
    start, length = rng.uniform(140, 220), rng.uniform(40, 90)
    size *= 1.0 if rng.random() < 0.6 else -1.0
    level = truth.mean()
    value = level + gain * (truth - level) + bias + per_kelvin * (soil - soil.mean())
    if drifts:
        day = np.arange(truth.size) / 24.0 - 31.0
        value += size * np.clip((day - start) / length, 0.0, 1.0)
    # a dry soil has little water to be wrong about
    value = np.maximum(value, 0.35 * truth)
    return value + noise * rng.standard_normal(truth.size)


def _freeze(sensor: Sensor, soil: Float64, air: Float64, faulty: _Faulty) -> None:
    """Let ice hide from the sensor, and flag what the network's own thermometers and a model's (D03) show."""
    faulty.value *= liquid_share(soil)
    days = soil.size // 24
    modelled = soil + (1.1 * faulty.rng.standard_normal(days)).repeat(24)
    gauges = sensor.station.network.gauges
    known = faulty.rng.random((2, days)).repeat(24, axis=1) < 0.96
    if "ts" in gauges:
        faulty.flag((soil < 0.0) & known[0], "D01")
    if "ta" in gauges:
        faulty.flag((air < 0.0) & known[1], "D02")
    faulty.flag(modelled < 0.0, "D03")


def _rises(sensor: Sensor, rain: Float64, irrigation: Float64, faulty: _Faulty) -> None:
    """Flag rises without rain: irrigation, and storms that the gauge (D04) or the model (D05) missed."""
    if not sensor.is_surface:
        return
    wet_before = np.concatenate([[False], rain[:-1] > 0.3])
    watered = np.concatenate([[False], irrigation[:-1] > 0.0])
    day = np.arange(rain.size) // 24
    missed = faulty.rng.random((3, rain.size // 24))
    faulty.flag(watered & (missed[0] < 0.75)[day], "D05")
    faulty.flag(wet_before & (missed[1] < 0.03)[day], "D05")
    if "p" in sensor.station.network.gauges:
        faulty.flag(watered & (missed[0] < 0.75)[day], "D04")
        faulty.flag(wet_before & (missed[2] < 0.015)[day], "D04")


def _wet_end(value: Float64, target: float) -> Float64:
    """Stretch the wettest fifth so that the wettest hours of the year reach the target."""
    fifth, top = np.quantile(value, (0.8, 0.998))
    return value + np.clip(value - fifth, 0.0, None) * max((target - fifth) / (top - fifth) - 1.0, 0.0)


def _special(sensor: Sensor, value: Float64) -> Float64:
    """Return what four stations report that were badly installed: readings out of the physical range for certain."""
    station = sensor.station
    if station.name == "Red_Plain":  # calibrated for another soil: below zero when dry
        return value - np.quantile(value, 0.3)
    if station.name in ("Bog_2", "Frost_Hill"):  # organic soils read with a calibration for mineral ones
        return _wet_end(value, 0.70)
    if station.name == "Teak#4":
        return _wet_end(value, station.saturation + 0.06)
    return value


def _disorder(rng: np.random.Generator, number: int, lines: NDArray[np.intp]) -> NDArray[np.intp]:
    """Repeat some lines and move a block of others, in one file of seven each; the last line stays the last."""
    if number % 7 == 3 and lines.size > 100:
        again = rng.integers(1, lines.size - 1, size=5)
        lines = np.insert(lines, again + 1, lines[again])
    if number % 7 == 5 and lines.size > 200:
        start = int(rng.integers(10, lines.size - 120))
        block = lines[start : start + 24].copy()
        rest = np.delete(lines, np.arange(start, start + 24))
        lines = np.insert(rest, start + 60, block)
    return lines


def read_sensor(seed: int, number: int, sensor: Sensor, truth: PointTruth, first: date, last: date) -> Readings:
    """Simulate one sensor's file in the order of its lines; `number` names its random stream."""
    i = sensor.station_index
    rng = stream(seed, "insitu sensor", number)
    soil, air = truth.soil_temperature[:, i], truth.air_temperature[:, i]
    water = truth.of_sensor(sensor)
    value = _special(sensor, _calibrated(rng, sensor, water, soil))
    wet = float(np.quantile(value, 0.995))
    faulty = _Faulty(rng, value)
    _rises(sensor, truth.point_rain[:, i], truth.irrigation[:, i], faulty)
    _freeze(sensor, soil, air, faulty)
    faulty.plateaus(wet)
    faulty.steps()
    faulty.low()
    faulty.spikes()
    for gone, rate, shortest, longest in ((faulty.missing, "missing", 1, 60), (faulty.absent, "absent", 2, 240)):
        for out, _ in faulty.events(_RATE[rate], shortest, longest):
            gone[out] = True
    faulty.value = np.round(faulty.value, sensor.station.network.decimals) + 0.0
    highest = sensor.station.saturation if sensor.station.has_static else np.inf
    for name, wrong in (("C01", faulty.value < 0.0), ("C02", faulty.value > 0.60), ("C03", faulty.value > highest)):
        faulty.flag(wrong, name)
    hours = truth.hours(first, last)
    time = truth.times(first, last)
    value = np.where(faulty.missing, MISSING, faulty.value)[hours]
    flags = np.where(faulty.missing, np.uint16(0), faulty.flags)[hours]
    kept = np.flatnonzero(~faulty.absent[hours])
    if number % 9 == 4:  # installed late
        kept = kept[kept > 24 * 17]
    order = _disorder(rng, number, kept)
    value, flags, time = value[order], flags[order], time[order]
    if number % 14 == 3:  # one of the repeated lines says something else
        twice = np.flatnonzero((time[1:] == time[:-1]) & (value[1:] > 0.0))[:1] + 1
        value[twice] = np.round(value[twice] + 0.01, sensor.station.network.decimals)
    return Readings(sensor, truth, time, value, flags)
