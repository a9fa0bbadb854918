"""What the numbers of known products mean, in one table for every path that reads them: GeoTIFF, arrays, STAC.

`PRODUCTS` says of each band its canonical units, which exact numbers are no data though no file may say so, and between
which values it can lie. `values_of` makes values of a file's numbers by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnb.contract import VARIABLES, FormatError, ParameterError, plain


@dataclass(frozen=True)
class Meaning:
    """One band of a product: its canonical units, numbers of the file that are no data whatever it states, and its range.

    Values outside of `low` and `high`, in canonical units, are missing; so is what is not finite.
    """

    units: str = ""
    fills: tuple[float, ...] = ()
    low: float = -np.inf
    high: float = np.inf


_LOW_DB, _HIGH_DB = VARIABLES["sigma0"].valid_range or (-np.inf, np.inf)
#: An exact zero is the border of a scene: decibels hit it once in millions, and power never does. log(0) is out of range.
_SIGMA0 = Meaning("dB", (0.0,), _LOW_DB, _HIGH_DB)
#: Zero is NO_DATA in ESA's format, before any offset is added.
_DN = Meaning("1e-4", (0.0,))
_FRACTION = Meaning("g kg-1", (-32768.0,), 0.0, 1000.0)
PRODUCTS: dict[str, dict[str, Meaning]] = {
    "sentinel1": {**dict.fromkeys(("VV", "VH", "HH", "HV"), _SIGMA0), "angle": Meaning("degree", (0.0,), 0.0, 90.0)},
    "sentinel2": dict.fromkeys(("B8A", *(f"B{number}" for number in range(1, 13))), _DN),
    "dem": {"elevation": Meaning("m", (-32768.0,))},
    "soilgrids": {
        **dict.fromkeys(("sand", "silt", "clay"), _FRACTION),
        "bdod": Meaning("cg cm-3", (-32768.0,), 0.0),
    },
    "smap": {"ssm": Meaning("mm")},
    "gldas": {"SoilMoi0_10cm_inst": Meaning("kg m-2", (-9999.0,))},
    # 249 to 255 are kinds of no data
    "modis_lai": dict.fromkeys(("Lai", "Fpar"), Meaning("", (), 0.0, 100.0)),
}
#: Products of which a pixel is empty where all bands that are read are exactly zero: zero in sand, silt, clay and density
#: together is water or rock, in exports whose tag was lost.
EMPTY_IS_ZERO = ("soilgrids",)
#: Units here to how else they are spelled.
_SPELLINGS = {
    "g kg-1": ("g/kg",),
    "cg cm-3": ("cg/cm3", "cg/cm³"),
    "kg m-2": ("kg/m2", "kg/m^2"),
    "dB": ("decibel", "db"),
    "degree": ("degrees", "deg"),
    "m": ("metre", "metres", "meter", "meters"),
    "1e-4": ("0.0001", "dn"),
    "1": ("reflectance",),
}
_SPELLED = {other: unit for unit, others in _SPELLINGS.items() for other in others}
#: Native units that are converted while reading: (native, canonical) to the factor, or to "power" for 10 log10.
CONVERSIONS: dict[tuple[str, str], float | str] = {
    ("linear", "dB"): "power",
    ("1", "1e-4"): 1e4,
    ("radian", "degree"): float(np.degrees(1.0)),
    ("m", "mm"): 1e3,
}
#: Reflectance (1e-4) below which no surface is, and the share of such pixels that tells a wrong offset.
_TOO_DARK, _MOST = -100.0, 0.5


def spelled(unit: str) -> str:
    """A unit in the spelling used here: ``g kg-1`` for "g/kg"."""
    unit = str(unit).strip()
    return _SPELLED.get(unit, _SPELLED.get(unit.lower(), unit))


def meaning_of(who: str, source: str, name: str, declared: str | None) -> tuple[Meaning, float | str | None]:
    """What a band of a source means, and the conversion from the units declared, if these are not canonical."""
    known = PRODUCTS.get(source, {}).get(name)
    if known is None or declared is None or not known.units:
        return known or Meaning(spelled(declared or "")), None
    native = spelled(declared)
    if native == known.units:
        return known, None
    if (native, known.units) not in CONVERSIONS:
        raise ParameterError(
            who,
            f"units of {source} {name} are not those that are known",
            got=declared,
            expected=[known.units, *(one for one, other in CONVERSIONS if other == known.units)],
            next_step="Convert them with the band's scale and offset, and state the units that result",
        )
    return known, CONVERSIONS[native, known.units]


def values_of(
    where: str,
    numbers: NDArray,
    meaning: Meaning,
    *,
    scale: float,
    offset: float,
    nodata: tuple[float, ...],
    added: float = 0.0,
    conversion: float | str | None = None,
) -> NDArray[np.float32]:
    """Values in a band's units, ``(number + added) · scale + offset`` converted; float32, NaN where there are none.

    A `FormatError` where an offset that is added makes most reflectances darker than any surface: it was taken off before.
    """
    missing = np.ma.getmaskarray(numbers).copy() if np.ma.isMaskedArray(numbers) else np.zeros(numbers.shape, bool)
    numbers = np.ma.getdata(numbers)
    # numbers packed with an offset and a no-data value of their own use all others, zero too
    fills = () if offset and nodata else meaning.fills
    for value in {*nodata, *fills}:
        # in float32 files the tag has more digits than the pixels
        missing |= numbers == (numbers.dtype.type(value) if numbers.dtype.kind == "f" else value)
    if (added, scale, offset) == (0.0, 1.0, 0.0) and conversion is None:
        values = numbers.astype("float32")
    else:
        exact = (numbers.astype("float64") + added) * scale + offset
        if conversion == "power":
            with np.errstate(divide="ignore", invalid="ignore"):
                exact = 10.0 * np.log10(exact)
        elif conversion is not None:
            exact *= conversion
        values = exact.astype("float32")
    if (meaning.low, meaning.high) != (-np.inf, np.inf):
        # 1e-4: numbers of single precision at the range's own edge are within it
        missing |= ~((values >= meaning.low - 1e-4) & (values <= meaning.high + 1e-4))
    values[missing] = np.nan
    if added and np.count_nonzero(values < _TOO_DARK) > _MOST * np.count_nonzero(~missing):
        raise FormatError(
            where,
            "with boa_add_offset most reflectances are negative, as if the offset had been taken off before",
            got=plain(f"median {np.nanmedian(values):.0f} after {added:+g}"),
            expected=plain(f"above {_TOO_DARK:g} (1e-4)"),
            next_step="Leave out boa_add_offset for harmonised collections (such as COPERNICUS/S2_HARMONIZED)",
        )
    return values


def without_empty(source: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values ``(band, …)`` with NaN where a product's bands are zero together."""
    if source in EMPTY_IS_ZERO and len(values) > 1:
        values[:, (values == 0.0).all(axis=0)] = np.nan
    return values


def check_stated(
    where: str, band: Any, declared: str | None, unit: str, scale: float | None, offset: float | None, added: float
) -> None:
    """Refuse units, scale and offset that a file or item states where they contradict what is declared of a `BandOption`."""
    if declared is not None and unit and spelled(unit) != spelled(declared):
        what, next_step = (
            f"band {band.name!r} has other units than declared",
            "Correct 'units' in the catalog's options",
        )
        raise FormatError(where, what, got=unit, expected=declared, next_step=next_step)
    is_dn = band.meaning.units == "1e-4" and band.conversion is None
    if band.scale is None and is_dn and scale is not None and scale < 0.1:
        what = f"the scale that is stated for {band.name!r} makes reflectance of it, not digital numbers"
        next_step = f"Declare units: {{{band.name}: '1'}}, which are converted, or scale: 1"
        raise FormatError(where, what, got=scale, expected=1.0, next_step=next_step)
    if band.offset is None and offset and added:
        what = f"an offset is stated for {band.name!r} and 'boa_add_offset' is set, so that it would count twice"
        next_step = "Leave out boa_add_offset, and the stated offset is taken"
        raise FormatError(where, what, got=offset, next_step=next_step)
