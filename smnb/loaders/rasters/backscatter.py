"""What the numbers of a Sentinel-1 file mean: decibels, linear power, or digital numbers with a stated scale."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smnb.contract import FormatError, ParameterError, check_choice, plain
from smnb.loaders.rasters.products import PRODUCTS
from smnb.loaders.rasters.scenes import BandSource, SceneReader, SceneRecord

#: Why pixels are left out, in order of precedence. What a file's mask band leaves out is "nodata" too.
MASK_REASONS = ("nodata", "zero", "not_finite", "saturated", "out_of_range")
ANGLE_UNITS = ("degree", "radian")
#: Places along a scene's sides that are looked at when opening, pixels along a place's, and pixels read at a time where a
#: scene has to be searched for any number at all.
_PLACES, _SIDE, _BLOCK_PIXELS = 5, 64, 1 << 20

_SIGMA0 = PRODUCTS["sentinel1"]["VV"]
_WORDS = {"dB": "decibels", "linear": "linear power", "amplitude": "amplitudes"}
#: What most pixels of a scene are. Linear power of land rarely exceeds 10, and decibels are mostly negative.
_USUAL = {"dB": (_SIGMA0.low, 0.0), "linear": (0.0, 10.0), "amplitude": (0.0, 10.0**0.5)}
#: Least share of usual pixels in a sample; the rest may be bright targets, or noise that was over-subtracted.
_LEAST_USUAL = 0.5


@dataclass(frozen=True)
class Backscatter:
    """What numbers are: ``number · scale + offset`` is linear power, an amplitude or dB (the `quantity`).

    As declared for all files, with `scale` None for digital numbers whose scale the files state, or as it is of one band
    (`of`), with its value for no data.
    """

    units: str
    quantity: str
    scale: float | None
    offset: float
    mask_zero: bool
    nodata: tuple[float, ...] = ()

    @classmethod
    def declared(
        cls, who: str, units: str | None, scale: float | None, offset: float, dn_of: str | None, mask_zero: bool
    ) -> Backscatter:
        """What the caller, or the catalog, says; a `ParameterError` where a scale is missing, senseless or too much."""
        (units,) = check_choice(who, "units", units, ("dB", "linear", "dn"))
        if units != "dn":
            if scale is not None or offset != 0.0 or dn_of is not None:
                next_step = "Pass units='dn' for numbers that need a scale"
                what = f"units {units!r} take no scale, offset or dn_of"
                raise ParameterError(who, what, got=(scale, offset, dn_of), next_step=next_step)
            return cls(units, units, 1.0, 0.0, mask_zero)
        if dn_of not in _WORDS:
            what = "digital numbers need 'dn_of', what they are once scaled"
            raise ParameterError(who, what, got=dn_of, expected=list(_WORDS))
        if scale is not None and not (np.isfinite(scale) and scale > 0 and np.isfinite(offset)):
            raise ParameterError(who, "'scale' is not a positive number, or 'offset' none", got=(scale, offset))
        return cls(units, dn_of, scale, float(offset), mask_zero)

    @property
    def native_units(self) -> str:
        """The units in words, with the scale of digital numbers."""
        if self.units != "dn":
            return self.units
        scaled = "scaled as the files state" if self.scale is None else f"dn * {self.scale:g} + {self.offset:g}"
        return f"dn ({_WORDS[self.quantity]}: {scaled})"

    def of(self, where: str, band: BandSource) -> Backscatter:
        """That of one band, with the scale that the file itself may state, which is stated once."""
        stated, native = (band.scale, band.offset), band.option.where
        scale, offset = (self.scale, self.offset) if stated == (1.0, 0.0) else stated
        if scale is None:
            what = f"neither the file nor the caller states the scale of {native!r}"
            next_step = "Pass scale= (and offset=), the factor from digital numbers to 'dn_of'"
            raise FormatError(where, what, got="digital numbers", next_step=next_step)
        if self.units == "dn" and self.scale is not None and stated != (1.0, 0.0):
            what, next_step = f"the file itself states how {native!r} is scaled", "Leave out scale and offset"
            raise FormatError(where, what, got=stated, expected=(self.scale, self.offset), next_step=next_step)
        if not scale > 0:
            raise FormatError(where, f"the scale of {native!r} is not positive", got=scale)
        return Backscatter(self.units, self.quantity, scale, offset, self.mask_zero, band.nodata)

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The numbers between which a pixel is backscatter: the product's range, in the file's terms."""
        low, high = _SIGMA0.low, _SIGMA0.high
        if self.quantity != "dB":
            per_decade = 20.0 if self.quantity == "amplitude" else 10.0
            # power that was clipped at zero is a measurement where zeros are not missing
            low, high = 10.0 ** (low / per_decade) if self.mask_zero else 0.0, 10.0 ** (high / per_decade)
        return (low - self.offset) / self.scale, (high - self.offset) / self.scale

    def power(self, numbers: NDArray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Linear power, and which is backscatter: in range, not no data, no zero that means missing; else it is NaN."""
        (low, high), stored = self._range, np.ma.getdata(numbers)
        valid = (stored >= low) & (stored <= high)  # NaN is in no range
        fills = {*(_SIGMA0.fills if self.mask_zero else ()), *self.nodata, *_saturated(stored.dtype)}
        for missing in fills:
            if low <= missing <= high:
                valid &= stored != missing
        if np.ma.isMaskedArray(numbers):
            valid &= ~np.ma.getmaskarray(numbers)
        slope, start = (v * (np.log(10.0) / 10.0 if self.quantity == "dB" else 1.0) for v in (self.scale, self.offset))
        with np.errstate(over="ignore", invalid="ignore"):
            power = np.multiply(stored, np.float32(slope), dtype="float32")
            if start:
                power += np.float32(start)
            if self.quantity == "dB":
                np.exp(power, out=power)
            elif self.quantity == "amplitude":
                np.square(power, out=power)
        if not valid.all():
            power[~valid] = np.nan
        return power, valid

    def reasons(self, numbers: NDArray) -> NDArray[np.uint8]:
        """Why numbers that are no backscatter are not: indices of `MASK_REASONS`, by the first that applies."""
        (low, high), stored = self._range, np.ma.getdata(numbers)
        tests = {
            "nodata": is_absent(numbers, self.nodata),
            "zero": (stored == 0) & self.mask_zero,
            "not_finite": ~np.isfinite(stored),
            "saturated": np.isin(stored, _saturated(stored.dtype)),
            "out_of_range": ~((stored >= low) & (stored <= high)),
        }
        return np.select([tests[name] for name in MASK_REASONS], range(len(MASK_REASONS)), 0).astype("uint8")

    def check_sample(self, where: str, band: BandSource, numbers: NDArray) -> None:
        """Refuse numbers that cannot be what they are declared: fewer than half of `numbers`, which are there, are usual."""
        if not numbers.size:
            return
        values = numbers.astype("float64") * self.scale + self.offset
        usual = {name: np.mean((values > low) & (values <= high)) for name, (low, high) in _USUAL.items()}
        if usual[self.quantity] >= _LEAST_USUAL:
            return
        low, middle, high = np.percentile(values, [5, 50, 95])
        guess = next((one for one in ("dB", "linear") if one != self.quantity and usual[one] > 0.9), None)
        if self.units == "dn":
            next_step = "Correct 'scale', 'offset' or 'dn_of': the numbers that they give are not of that kind"
        elif guess:
            next_step = f"They look like {_WORDS[guess]}: declare units={guess!r} in the catalog's options or the call"
        else:
            next_step = "They look like digital numbers: declare units='dn' with 'scale' and 'dn_of'"
        raise FormatError(
            where,
            f"{band.option.where!r} does not hold {_WORDS[self.quantity]}, as declared",
            got=plain(f"5, 50 and 95 % quantiles {low:.4g}, {middle:.4g}, {high:.4g}"),
            expected=plain("mostly between {:g} and {:g}".format(*_USUAL[self.quantity])),
            next_step=next_step,
        )


def is_absent(numbers: NDArray, nodata: tuple[float, ...]) -> NDArray[np.bool_]:
    """Which numbers the file itself says are none, by its value for no data or its mask."""
    absent, stored = np.ma.getmaskarray(numbers).copy(), np.ma.getdata(numbers)
    for value in nodata:
        absent |= np.isnan(stored) if np.isnan(value) else stored == value
    return absent


def _saturated(dtype: np.dtype) -> list[float]:
    """The number at which unsigned integers are clipped."""
    return [float(np.iinfo(dtype).max)] if dtype.kind == "u" else []


def check_pixels(who: str, scene: SceneRecord, declared: Backscatter, angle_units: str) -> dict[str, Backscatter]:
    """What the numbers of each polarization are, after a look at pixels all over a scene.

    Whether they can be read, are there at all, and are in the units declared.
    """
    quantities = {}
    height, width = scene.sources[0].geometry.height, scene.sources[0].geometry.width
    tops, lefts = (np.unique(np.linspace(0, max(n - _SIDE, 0), _PLACES).astype(int)).tolist() for n in (height, width))
    with SceneReader(scene.scene_id, scene.time, "sentinel1", scene.sources) as reader:
        looks = [
            reader.numbers((top, min(top + _SIDE, height)), (left, min(left + _SIDE, width)))
            for top, left in itertools.product(tops, lefts)
        ]
        for band in scene.sources:
            where, name = f"{who}({Path(band.path).name})", band.option.name
            sample = np.concatenate([_there(look[name], band) for look in looks])
            if name == "angle":
                _check_angles(where, band, sample, angle_units)
                continue
            step = max(_BLOCK_PIXELS // width, 1)
            blocks = (((top, min(top + step, height)), (0, width)) for top in range(0, height, step))
            if sample.size == 0 and not any(_there(reader.numbers(*block)[name], band).size for block in blocks):
                what = f"the scene holds no backscatter: every pixel of {name} is zero, NaN or no-data"
                raise FormatError(where, what, next_step="Leave the scene out, or export it again")
            quantities[name] = declared.of(where, band)
            quantities[name].check_sample(where, band, sample)
    return quantities


def _there(numbers: NDArray, band: BandSource) -> NDArray:
    """The numbers that are not missing in a way that needs no units: not NaN, zero, no-data or masked by the file."""
    stored = np.ma.getdata(numbers)
    return stored[np.isfinite(stored) & (stored != 0) & ~is_absent(numbers, band.nodata)]


def _check_angles(where: str, band: BandSource, sample: NDArray, units: str) -> None:
    """Refuse angles that are none in the units declared; on land Sentinel-1 looks at 29 to 46 degrees."""
    if sample.size == 0:
        return
    middle, highest = (float(q) * band.scale + band.offset for q in np.percentile(sample, [50, 100]))
    right = 0.0 < middle < 90.0 and highest > np.pi / 2 if units == "degree" else 0.0 < middle < np.pi / 2
    if not right:
        what = f"{band.option.where!r} does not hold incidence angles in {units}s, as declared"
        got = plain(f"median {middle:.4g}, highest {highest:.4g}")
        expected = plain("0 to 90 degrees" if units == "degree" else "0 to 1.57 radians")
        next_step = f"Correct 'angle_units' ({', '.join(ANGLE_UNITS)}), or declare in 'bands' which band it is"
        raise FormatError(where, what, got=got, expected=expected, next_step=next_step)
