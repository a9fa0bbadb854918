"""What the numbers of known products mean, in one table for every path that reads them: GeoTIFF, arrays, STAC.

`PRODUCTS` says of each band its canonical units, which exact numbers are no data though no file may say so, and between
which values it can lie. `values_of` makes values of a file's numbers by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnb.contract import VARIABLES, FormatError, ParameterError, plain


@dataclass(frozen=True)
class Meaning:
    """One band of a product.

    Parameters
    ----------
    units : str
        Canonical units; what normalises the band relies on them.
    fills : tuple of float
        Numbers of the file that are no data, whatever it states.
    low, high : float
        Values outside, in canonical units, are missing; so is what is not finite.
    """

    units: str = ""
    fills: tuple[float, ...] = ()
    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True)
class RasterProduct:
    """The bands of a product, and whether a pixel is empty where all that are read are exactly zero."""

    bands: dict[str, Meaning] = field(default_factory=dict)
    empty_is_zero: bool = False


_LOW_DB, _HIGH_DB = VARIABLES["sigma0"].valid_range or (-np.inf, np.inf)
#: An exact zero is the border of a scene: decibels hit it once in millions, and power never does. log(0) is out of range.
_SIGMA0 = Meaning("dB", (0.0,), _LOW_DB, _HIGH_DB)
#: Zero is NO_DATA in ESA's format, before any offset is added.
_DN = Meaning("1e-4", (0.0,))
_FRACTION = Meaning("g kg-1", (-32768.0,), 0.0, 1000.0)
PRODUCTS: dict[str, RasterProduct] = {
    "sentinel1": RasterProduct(
        {**dict.fromkeys(("VV", "VH", "HH", "HV"), _SIGMA0), "angle": Meaning("degree", (0.0,), 0.0, 90.0)}
    ),
    "sentinel2": RasterProduct(
        dict.fromkeys(("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"), _DN)
    ),
    "dem": RasterProduct({"elevation": Meaning("m", (-32768.0,))}),
    # zero in sand, silt, clay and density together is water or rock, in exports whose tag was lost
    "soilgrids": RasterProduct(
        {**dict.fromkeys(("sand", "silt", "clay"), _FRACTION), "bdod": Meaning("cg cm-3", (-32768.0,), 0.0)},
        empty_is_zero=True,
    ),
    "smap": RasterProduct({"ssm": Meaning("mm")}),
    "gldas": RasterProduct({"SoilMoi0_10cm_inst": Meaning("kg m-2", (-9999.0,))}),
    # 249 to 255 are kinds of no data
    "modis_lai": RasterProduct({"Lai": Meaning("", (), 0.0, 100.0), "Fpar": Meaning("", (), 0.0, 100.0)}),
}
_SPELLINGS = {
    "g/kg": "g kg-1",
    "cg/cm3": "cg cm-3",
    "cg/cm³": "cg cm-3",
    "kg/m2": "kg m-2",
    "kg/m^2": "kg m-2",
    "decibel": "dB",
    "db": "dB",
    "degrees": "degree",
    "deg": "degree",
    "metre": "m",
    "metres": "m",
    "meter": "m",
    "meters": "m",
    "0.0001": "1e-4",
    "dn": "1e-4",
    "reflectance": "1",
}
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
    """A unit in the spelling used here.

    Examples
    --------
    >>> spelled("g/kg"), spelled(" kg m-2 ")
    ('g kg-1', 'kg m-2')
    """
    unit = str(unit).strip()
    return _SPELLINGS.get(unit, _SPELLINGS.get(unit.lower(), unit))


def meaning_of(who: str, source: str, name: str, declared: str | None) -> tuple[Meaning, float | str | None]:
    """What a band of a source means, and the conversion from the units declared for it.

    Raises
    ------
    ParameterError
        If these are neither canonical nor convertible.
    """
    known = PRODUCTS.get(source, RasterProduct()).bands.get(name)
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

    Raises
    ------
    FormatError
        If an offset that is added to digital numbers makes most of them darker than any surface: it was taken off before.
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
    if PRODUCTS.get(source, RasterProduct()).empty_is_zero and len(values) > 1:
        values[:, (values == 0.0).all(axis=0)] = np.nan
    return values


def check_file_units(where: str, name: str, declared: str | None, stated: str | None) -> None:
    """Compare the units that a file states with those declared.

    Raises
    ------
    FormatError
        If both are given and differ.
    """
    if declared is None or not stated or spelled(stated) == spelled(declared):
        return
    raise FormatError(
        where,
        f"band {name!r} has other units than declared",
        got=stated,
        expected=declared,
        next_step="Correct 'units' in the catalog's options",
    )


def check_meaning(where: str, band: Any, scale: float | None, offset: float | None, added: float) -> None:
    """Refuse a scale and offset, as a file or item states them, that contradict what is declared of a `BandOption`.

    Raises
    ------
    FormatError
        If the scale makes reflectance of what is declared as digital numbers, or an offset would count twice.
    """
    is_dn = band.meaning.units == "1e-4" and band.conversion is None
    if band.scale is None and is_dn and scale is not None and scale < 0.1:
        raise FormatError(
            where,
            f"the scale that is stated for {band.name!r} makes reflectance of it, not digital numbers",
            got=scale,
            expected=1.0,
            next_step=f"Declare units: {{{band.name}: '1'}}, which are converted, or scale: 1",
        )
    if band.offset is None and offset and added:
        raise FormatError(
            where,
            f"an offset is stated for {band.name!r} and 'boa_add_offset' is set, so that it would count twice",
            got=offset,
            next_step="Leave out boa_add_offset, and the stated offset is taken",
        )
