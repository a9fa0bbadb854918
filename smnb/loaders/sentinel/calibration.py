"""What the numbers of a backscatter raster mean: decibels, linear power, or digital numbers with a stated scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from smnb.contract import FormatError, ParameterError, plain
from smnb.loaders.rasters.products import PRODUCTS
from smnb.loaders.sentinel.scenes import Band

UNITS = ("dB", "linear", "dn")
#: What digital numbers can be once they are scaled.
QUANTITIES = ("linear", "amplitude", "dB")
#: Why pixels are left out, in order of precedence. What a file's mask band leaves out is "nodata" too.
MASK_REASONS = ("nodata", "zero", "not_finite", "saturated", "out_of_range")

_SIGMA0 = PRODUCTS["sentinel1"].bands["VV"]
#: What most pixels of a scene are. Linear power of land rarely exceeds 10, and decibels are mostly negative.
_USUAL = {"linear": (0.0, 10.0), "amplitude": (0.0, 10.0**0.5), "dB": (_SIGMA0.low, 0.0)}
#: Least share of usual pixels in a sample; the rest may be bright targets, or noise that was over-subtracted.
_LEAST_USUAL = 0.5
_WORDS = {"dB": "decibels", "linear": "linear power", "dn": "digital numbers", "amplitude": "amplitudes"}


@dataclass(frozen=True)
class Declaration:
    """What the caller, or the catalog, says of the numbers in all files.

    ``number · scale + offset`` is the quantity ("linear", "amplitude" or "dB"); `scale` None is for files that state it.
    """

    units: str
    scale: float | None
    offset: float
    quantity: str
    mask_zero: bool

    @property
    def native_units(self) -> str:
        """The units in words, with the scale of digital numbers."""
        if self.units != "dn":
            return self.units
        scaled = "scaled as the files state" if self.scale is None else f"dn * {self.scale:g} + {self.offset:g}"
        return f"dn ({_WORDS[self.quantity]}: {scaled})"

    def of(self, where: str, band: Band) -> Calibration:
        """The calibration of one band, with the scale that the file itself may state.

        Raises
        ------
        FormatError
            If nothing states a scale, or both the caller and the file do.
        """
        if (band.scale, band.offset) == (1.0, 0.0):
            if self.scale is None:
                raise FormatError(
                    where,
                    f"neither the file nor the caller states the scale of {band.native!r}",
                    got="digital numbers",
                    next_step="Pass scale= (and offset=), the factor from digital numbers to 'dn_of'",
                )
            return Calibration(self, self.scale, self.offset)
        if self.units == "dn" and self.scale is not None:
            raise FormatError(
                where,
                f"the file itself states how {band.native!r} is scaled",
                got=(band.scale, band.offset),
                expected=(self.scale, self.offset),
                next_step="Leave out scale and offset, and the file's are used",
            )
        if not band.scale > 0:
            raise FormatError(where, f"the scale of {band.native!r} is not positive", got=band.scale)
        return Calibration(self, band.scale, band.offset)


def declare(
    who: str, units: str | None, scale: float | None, offset: float, dn_of: str | None, mask_zero: bool
) -> Declaration:
    """Check the options that say what the numbers mean.

    Raises
    ------
    ParameterError
        For unknown units or quantities, a scale that is not positive, or one that the units do not take.
    """
    if units not in UNITS:
        raise ParameterError(
            who,
            "unknown 'units'",
            got=units,
            expected=list(UNITS),
            next_step="Declare what the numbers in the files are, in the catalog's options or here",
        )
    if units != "dn":
        if scale is not None or offset != 0.0 or dn_of is not None:
            raise ParameterError(
                who,
                f"units {units!r} take no scale, offset or dn_of",
                got=(scale, offset, dn_of),
                next_step="Pass units='dn' for numbers that need a scale",
            )
        return Declaration(units, 1.0, 0.0, units, mask_zero)
    if dn_of not in QUANTITIES:
        raise ParameterError(
            who, "digital numbers need 'dn_of', what they are once scaled", got=dn_of, expected=list(QUANTITIES)
        )
    if scale is not None and not (np.isfinite(scale) and scale > 0 and np.isfinite(offset)):
        raise ParameterError(who, "'scale' is not a positive number, or 'offset' none", got=(scale, offset))
    return Declaration(units, scale, float(offset), dn_of, mask_zero)


@dataclass(frozen=True)
class Calibration:
    """From the numbers of one band to linear power."""

    declaration: Declaration
    scale: float
    offset: float

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The numbers between which a pixel is backscatter: the product's range, in the file's terms."""
        low, high, quantity = _SIGMA0.low, _SIGMA0.high, self.declaration.quantity
        if quantity != "dB":
            root = 2.0 if quantity == "amplitude" else 1.0
            # power that was clipped at zero is a measurement where zeros are not missing
            low = 10.0 ** (low / 10.0 / root) if self.declaration.mask_zero else 0.0
            high = 10.0 ** (high / 10.0 / root)
        return (low - self.offset) / self.scale, (high - self.offset) / self.scale

    def power(
        self, numbers: NDArray, nodata: float | None, present: NDArray | None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Linear power, and which is backscatter: in range, not no data, no zero that means missing; else it is NaN."""
        low, high = self._range
        valid = (numbers >= low) & (numbers <= high)  # NaN is in no range
        fills = {*(_SIGMA0.fills if self.declaration.mask_zero else ()), nodata, _saturated(numbers.dtype)}
        for missing in fills - {None}:
            if low <= missing <= high:
                valid &= numbers != missing
        if present is not None:
            valid &= present
        is_db = self.declaration.quantity == "dB"
        slope, start = (v * (np.log(10.0) / 10.0 if is_db else 1.0) for v in (self.scale, self.offset))
        with np.errstate(over="ignore", invalid="ignore"):
            power = np.multiply(numbers, np.float32(slope), dtype="float32")
            if start:
                power += np.float32(start)
            if is_db:
                np.exp(power, out=power)
            elif self.declaration.quantity == "amplitude":
                np.square(power, out=power)
        if not valid.all():
            power[~valid] = np.nan
        return power, valid

    def reasons(self, numbers: NDArray, nodata: float | None, present: NDArray | None) -> NDArray[np.uint8]:
        """Why numbers that are no backscatter are not: indices of `MASK_REASONS`, by the first that applies."""
        low, high = self._range
        absent = np.zeros(numbers.shape, bool) if present is None else ~present
        if nodata is not None:
            absent |= np.isnan(numbers) if np.isnan(nodata) else numbers == nodata
        tests = {
            "nodata": absent,
            "zero": (numbers == 0) & self.declaration.mask_zero,
            "not_finite": ~np.isfinite(numbers),
            "saturated": numbers == _saturated(numbers.dtype),
            "out_of_range": ~((numbers >= low) & (numbers <= high)),
        }
        return np.select([tests[name] for name in MASK_REASONS], range(len(MASK_REASONS)), 0).astype("uint8")


def _saturated(dtype: np.dtype) -> float | None:
    """The number at which unsigned integers are clipped."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else None


def check_sample(where: str, band: Band, numbers: NDArray, calibration: Calibration) -> None:
    """Refuse numbers that cannot be what they are declared to be.

    Parameters
    ----------
    where : str
        File, for the message.
    band : Band
        The band.
    numbers : ndarray
        Pixels from all over it that are finite, not zero and not no-data.
    calibration : Calibration
        What was declared, for this band.

    Raises
    ------
    FormatError
        If fewer than half of the numbers are usual for the declared units.
    """
    if numbers.size == 0:
        return
    values, quantity = (
        numbers.astype("float64") * calibration.scale + calibration.offset,
        calibration.declaration.quantity,
    )

    def usual(quantity: str) -> float:
        low, high = _USUAL[quantity]
        return float(np.mean((values > low) & (values <= high)))

    if usual(quantity) >= _LEAST_USUAL:
        return
    low, middle, high = np.percentile(values, [5, 50, 95])
    guess = next((u for u in ("dB", "linear") if u != quantity and usual(u) > 0.9), None)
    if calibration.declaration.units == "dn":
        hint = "Correct 'scale', 'offset' or 'dn_of': the numbers that they give are not of that kind"
    elif guess:
        hint = f"They look like {_WORDS[guess]}: declare units={guess!r} in the catalog's options or the call"
    else:
        hint = "They look like digital numbers: declare units='dn' with 'scale' and 'dn_of'"
    raise FormatError(
        where,
        f"{band.native!r} does not hold {_WORDS[quantity]}, as declared",
        got=plain(f"5, 50 and 95 % quantiles {low:.4g}, {middle:.4g}, {high:.4g}"),
        expected=plain(f"mostly between {_USUAL[quantity][0]:g} and {_USUAL[quantity][1]:g}"),
        next_step=hint,
    )
