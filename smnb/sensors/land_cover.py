"""Land cover: codes of a categorical raster at points, and the eight groups of paper 004.

The paper uses the Copernicus global land cover map at 100 m (CGLS-LC100, collection 3), whose codes map onto its groups
plainly. ISMN's own field is ESA's CCI land cover at 300 m, which draws other lines; `CCI_GROUPS` is the nearest mapping.

References
----------
Buchhorn et al. 2020, Remote Sens. 12(6), 1044, doi:10.3390/rs12061044 (CGLS-LC100); ESA CCI Land Cover, Product User
Guide version 2 (2017), tables 3-1 and 3-6.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smnb.contract import FormatError, ParameterError, check_choice, plain
from smnb.grids.koppen import NONE

#: The groups of paper 004, Table 10, in its order.
LAND_COVER_GROUPS = (
    "Agriculture",
    "Closed forest",
    "Open forest",
    "Vegetation",
    "Shrubs",
    "Bareground",
    "Built-up",
    "Wetland",
)
#: Code of a point that is outside a raster, or where the raster has no data.
OUTSIDE = -1

#: Group of each CGLS-LC100 code. Moss and lichen go with herbaceous vegetation; unknown, snow, water and ocean have none.
CGLS_GROUPS: dict[int, str] = {
    20: "Shrubs",
    30: "Vegetation",
    40: "Agriculture",
    50: "Built-up",
    60: "Bareground",
    90: "Wetland",
    100: "Vegetation",
    **dict.fromkeys(range(111, 117), "Closed forest"),
    **dict.fromkeys(range(121, 127), "Open forest"),
    **dict.fromkeys((0, 70, 80, 200), NONE),
}

#: Group of each ESA CCI code. Where the two legends part: cropland mosaics go by what has more than half; CCI's "closed"
#: begins at 40 % canopy (Copernicus': 70 %), and tree cover "closed to open" counts as closed, as do flooded trees;
#: mosaics of trees or shrubs over herbs are open forest; sparse vegetation (< 15 %) is bareground, as Copernicus'
#: "bare / sparse"; lichens and mosses go with herbaceous vegetation; only flooded shrubs and herbs are wetland.
CCI_GROUPS: dict[int, str] = {
    **dict.fromkeys((10, 11, 12, 20, 30), "Agriculture"),
    **dict.fromkeys((50, 60, 61, 70, 71, 80, 81, 90, 160, 170), "Closed forest"),
    **dict.fromkeys((62, 72, 82, 100), "Open forest"),
    **dict.fromkeys((40, 110, 130, 140), "Vegetation"),
    **dict.fromkeys((120, 121, 122), "Shrubs"),
    **dict.fromkeys((150, 151, 152, 153, 200, 201, 202), "Bareground"),
    190: "Built-up",
    180: "Wetland",
    **dict.fromkeys((0, 210, 220), NONE),
}
_SCHEMES = {"cgls_lc100": CGLS_GROUPS, "esa_cci": CCI_GROUPS}


def land_cover_group(codes: ArrayLike, scheme: str, *, on_unknown: str = "raise") -> NDArray[np.str_]:
    """Group (of `LAND_COVER_GROUPS`, or "none": water, ice, no data) of each land-cover code of "cgls_lc100" or "esa_cci".

    NaN and `OUTSIDE` have no group; codes in strings ("120"), as metadata hold them, are taken too. A code that the scheme does
    not have is a `ParameterError`, or "none" with ``on_unknown="none"``.

    Examples
    --------
    >>> land_cover_group([10, 62, np.nan, 210], "esa_cci").tolist()
    ['Agriculture', 'Open forest', 'none', 'none']
    """
    who = "land_cover_group"
    check_choice(who, "scheme", scheme, _SCHEMES)
    check_choice(who, "on_unknown", on_unknown, ("raise", "none"))
    try:
        numbers = np.asarray(codes, dtype=object)
        numbers = np.where(np.isin(numbers.astype(str), ("", "unknown", "None", "<NA>")), np.nan, numbers).astype(float)
    except ValueError as error:
        raise ParameterError(who, f"a code is not a number: {error}", expected=plain("codes such as 10")) from error
    table = {**_SCHEMES[scheme], OUTSIDE: NONE}
    unique, inverse = np.unique(numbers, return_inverse=True)
    unknown = [float(code) for code in unique if np.isfinite(code) and code not in table]
    if unknown and on_unknown == "raise":
        what = f"{int(np.isin(numbers, unknown).sum())} values have a code that {scheme} does not have"
        step = "Check the scheme, or pass on_unknown='none'"
        raise ParameterError(who, what, got=unknown, expected=sorted(table), next_step=step)
    groups = np.array([table.get(code, NONE) for code in unique], dtype="U16")
    return groups[inverse].reshape(numbers.shape)


def land_cover_codes(path: str | PathLike[str], lat: ArrayLike, lon: ArrayLike) -> NDArray[np.int32]:
    """Code of the pixel of a categorical raster that holds each point (WGS 84, shape (n,)); nothing is interpolated.

    The raster, such as a GeoTIFF of CGLS-LC100, is in any reference system that it states. `OUTSIDE` stands where a point is
    outside it, not finite, or has no data. `FormatError` if the file is no raster, or has no reference system or whole numbers.
    """
    import rasterio  # GDAL costs much to load, and most strata need none of it
    from rasterio.warp import transform as transform_points

    who = f"land_cover_codes({Path(path).name})"
    lat, lon = np.atleast_1d(np.asarray(lat, dtype=np.float64)), np.atleast_1d(np.asarray(lon, dtype=np.float64))
    if lat.ndim != 1 or lat.shape != lon.shape:
        raise ParameterError(who, "lat and lon are not vectors of one length", got=(lat.shape, lon.shape))
    codes = np.full(lat.shape, OUTSIDE, dtype=np.int32)
    finite = np.flatnonzero(np.isfinite(lat) & np.isfinite(lon) & (np.abs(lat) <= 90.0))
    try:
        with rasterio.open(path) as raster:
            if raster.crs is None:
                step = "Set it, for instance with rio edit-info"
                raise FormatError(who, "the raster states no coordinate reference system", next_step=step)
            if np.dtype(raster.dtypes[0]).kind not in "iu":
                raise FormatError(who, "the raster holds no whole numbers", got=raster.dtypes[0], expected="uint8")
            east, north = transform_points("EPSG:4326", raster.crs, lon[finite], lat[finite])
            pixels = raster.sample(zip(east, north, strict=True), 1, masked=True)  # what is outside is masked
            codes[finite] = [np.ma.filled(one.astype(np.int32), OUTSIDE)[0] for one in pixels]
    except rasterio.errors.RasterioError as error:
        raise FormatError(who, f"the raster is unreadable: {error}", next_step="Download it again") from error
    return codes
