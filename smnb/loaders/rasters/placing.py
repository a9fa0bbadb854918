"""Where a band and the cells of a raster are, and their values elsewhere: windows by rasterio's warp, points by their cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import xarray as xr
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import Resampling, reproject, transform_bounds

from smnb.contract import FormatError, plain
from smnb.grids import UtmWindow
from smnb.loaders.rasters.options import FILLS, BandOption, Meaning

RESAMPLINGS = ("bilinear", "nearest", "average")
#: Reads ``(band, row, col)`` of whole rows and columns within the raster: first row, stop row, first column, stop column.
ReadBlock = Callable[[int, int, int, int], NDArray[np.float32]]
_ALIGNED = 1e-3  # a window lies on a raster's own grid where no edge is farther off than this share of a pixel
_UNEVEN = 0.02  # how uneven a coordinate may be, as a share of its step: those in float32 are
_Y_NAMES = ("lat", "latitude", "y", "nav_lat", "ydim", "north", "northing", "rlat")
_X_NAMES = ("lon", "longitude", "long", "x", "nav_lon", "xdim", "east", "easting", "rlon")
#: Without these GDAL's bilinear weights take in more pixels where cells are larger than pixels.
_FOUR_PIXELS = {"XSCALE": 1, "YSCALE": 1}


def is_url(text: str) -> bool:
    """Whether a text is an address of the web."""
    return text.startswith(("http://", "https://"))


@lru_cache(maxsize=256)
def crs_of(text: str) -> CRS:
    """A reference system by its WKT or code."""
    return CRS.from_user_input(text)


@lru_cache(maxsize=256)
def transformer(source: str, target: str) -> pyproj.Transformer:
    """From one reference system to another, x before y."""
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


@lru_cache(maxsize=256)
def _is_same(a: str, b: str) -> bool:
    return a == b or pyproj.CRS(a).equals(pyproj.CRS(b), ignore_axis_order=True)


@dataclass(frozen=True)
class Georeference:
    """Where a raster's cells are: reference system (WKT), the map from column and row, counted from the corner, and size."""

    crs: str
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int

    @cached_property
    def affine(self) -> Affine:
        """The map from column and row to coordinates."""
        return Affine(*self.transform)

    def differences(self, other: Georeference) -> list[str]:
        """What is not the same in another, a hundredth of a pixel apart or more."""
        apart = np.abs(np.subtract(self.transform, other.transform)) * np.tile([self.width, self.height, 1], 2)
        pixel = abs(self.affine.determinant) ** 0.5
        same = {
            "reference system": _is_same(self.crs, other.crs),
            "size": (self.height, self.width) == (other.height, other.width),
            "position": bool((apart < 0.01 * pixel).all()),
        }
        return [what for what, equal in same.items() if not equal]

    @cached_property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, upper, right and lower edge."""
        return (*(self.affine * (0, 0)), *(self.affine * (self.width, self.height)))

    @cached_property
    def period(self) -> float | None:
        """Columns of a full turn, where columns are longitudes."""
        a, b, _, d, _, _ = self.transform
        return 360.0 / abs(a) if crs_of(self.crs).is_geographic and b == 0.0 and d == 0.0 else None

    @cached_property
    def is_round(self) -> bool:
        """Whether the columns go all around the earth, so that the last has the first as its neighbour."""
        return self.period is not None and abs(self.period - self.width) < 0.01

    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east and north in degrees, with west > east across the date line; None where it is off the globe.

        Longitudes are in [-180, 180], and those of a raster around the earth or a pole -180 and 180.
        """
        corners = [self.affine * (col, row) for col in (0, self.width) for row in (0, self.height)]
        box = *np.min(corners, axis=0), *np.max(corners, axis=0)
        if crs_of(self.crs).is_geographic:  # transforming would lose where a raster of 0..360 begins
            west, south, east, north = map(float, box)
        else:
            west, south, east, north = transform_bounds(crs_of(self.crs), crs_of("EPSG:4326"), *box, densify_pts=65)
        if not np.isfinite([west, south, east, north]).all():
            return None
        south, north, east = max(south, -90.0), min(north, 90.0), east + 360.0 if east < west else east
        if east - west >= 360.0 - 1e-6:
            return -180.0, south, 180.0, north
        turn = np.floor((west + 180.0) / 360.0) * 360.0
        west, east = float(west - turn), float(east - turn)
        return west, south, east - 360.0 if east > 180.0 else east, north

    def fractional(self, x: Any, y: Any, crs: str) -> tuple[NDArray, NDArray]:
        """Row and column of points of a reference system, counted from the corner, of the turn nearest to the raster."""
        if not _is_same(crs, self.crs):
            x, y = transformer(crs, self.crs).transform(x, y, errcheck=False)
        col, row = ~self.affine * (np.asarray(x, "float64"), np.asarray(y, "float64"))
        if self.period is not None:
            first = (self.width - self.period) / 2
            with np.errstate(invalid="ignore"):
                col = np.mod(col - first, self.period) + first
        return row, col

    def cells_at(self, lat: NDArray, lon: NDArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and column of the cells that hold points (degrees), both -1 outside the raster."""
        row, col = self.fractional(lon, lat, "EPSG:4326")
        # a longitude a rounding error off a global raster's seam lies in the column beside it
        slack = 0.01 if self.is_round else 0.0
        inside = (row >= 0.0) & (row < self.height) & (col >= -slack) & (col < self.width + slack)
        rows, cols = (np.floor(np.where(inside, values, -1.0)).astype(np.intp) for values in (row, col))
        return rows, np.where(inside, np.clip(cols, 0, self.width - 1), -1)

    def offset_of(self, window: UtmWindow) -> tuple[int, int] | None:
        """Row and column of a window's corner where it lies on this very grid, or None."""
        a, b, c, d, e, f = self.transform
        step = window.resolution
        drift = max(abs(a - step), abs(e + step)) * window.size
        if b or d or drift > _ALIGNED * step or not _is_same(f"EPSG:{window.epsg}", self.crs):
            return None
        row, col = (f - window.north) / step, (window.west - c) / step
        if max(abs(row - round(row)), abs(col - round(col))) > _ALIGNED:
            return None
        return round(row), round(col)

    def around(
        self, x: NDArray, y: NDArray, crs: str, slack: float = 0.0
    ) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """The rows and columns that values between the points of a mesh come from, or None where it is elsewhere.

        Columns of a raster around the earth may go beyond its seam. `slack` is a share of the span, for a coarse mesh.
        """
        row, col = self.fractional(x, y, crs)
        finite = np.isfinite(row) & np.isfinite(col)
        if not finite.any():
            return None
        if self.period is not None:  # of the turn of the middle
            middle = col[finite][finite.sum() // 2]
            col = np.mod(col - middle + self.period / 2, self.period) - self.period / 2 + middle
        spans = []
        for values, size, is_round in ((row, self.height, False), (col, self.width, self.is_round)):
            margin = 2 + slack * np.ptp(values[finite])
            low, high = int(np.floor(values[finite].min() - margin)), int(np.ceil(values[finite].max() + margin))
            spans.append((low, high) if is_round else (max(low, 0), min(high, size)))
        rows, cols = spans
        return (rows, cols) if rows[0] < rows[1] and cols[0] < cols[1] else None

    def step_at(self, x: NDArray, y: NDArray, crs: str) -> float:
        """Rows or columns, the longer way, from the first of points ``(…, point)`` to the others; the median of places."""
        row, col = (np.abs(values[..., 1:] - values[..., :1]) for values in self.fractional(x, y, crs))
        return float(np.nanmedian(np.maximum(row, col).max(axis=-1)))

    def places(self, side: int = 64, number: int = 5) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Rows and columns of squares of cells all over it, `number` along a side at most."""
        tops, lefts = (
            np.unique(np.linspace(0, max(n - side, 0), number).astype(int)).tolist() for n in (self.height, self.width)
        )
        return [((i, min(i + side, self.height)), (j, min(j + side, self.width))) for i in tops for j in lefts]

    def transform_of(self, rows: tuple[int, int], cols: tuple[int, int]) -> Affine:
        """The map from a block's column and row to coordinates, with longitudes around those of -180..180.

        That is where GDAL looks for them, a block across the date line included.
        """
        affine = self.affine * Affine.translation(cols[0], rows[0])
        if self.period is None:
            return affine
        turn = np.floor((affine.c + affine.a * (cols[1] - cols[0]) / 2 + 180.0) / 360.0) * 360.0
        return Affine.translation(-turn, 0.0) * affine

    def read(self, read: ReadBlock, rows: tuple[int, int], cols: tuple[int, int]) -> NDArray[np.float32]:
        """A block whose columns may go once around the earth."""
        if not self.is_round or (cols[0] >= 0 and cols[1] <= self.width):
            return read(*rows, *cols)
        parts, col = [], cols[0]
        while col < cols[1]:
            first = col % self.width
            stop = min(self.width, first + cols[1] - col)
            parts.append(read(*rows, first, stop))
            col += stop - first
        return np.concatenate(parts, axis=2)


@dataclass(frozen=True)
class BandSource:
    """Where a band of one scene is, in plain values, so that an index of them is pickled.

    `form` is "image", "netcdf" or "zarr"; `key` the number of the band or the name of the variable, of which `at` has an
    index for each dimension, "y" and "x" for those of the grid. What is None the file is asked for when it is opened;
    `added` is added to digital numbers first.
    """

    path: str
    form: str
    key: int | str
    geometry: Georeference | None
    option: BandOption
    at: tuple[int | str, ...] = ()
    scale: float | None = None
    offset: float | None = None
    nodata: tuple[float, ...] | None = None
    added: float = 0.0

    def values(self, numbers: NDArray) -> NDArray[np.float32]:
        """Values of a file's numbers, ``(number + added) · scale + offset`` converted to the band's units, NaN where none."""
        meaning, conversion = self.option.meaning, self.option.conversion
        missing, numbers = np.ma.getmaskarray(numbers).copy(), np.ma.getdata(numbers)
        # numbers packed with an offset and a no-data value of their own use all others, zero too
        packed = self.offset and self.nodata
        fills = () if packed else (*meaning.fills, *(FILLS if meaning.high < Meaning.high else ()))
        is_float = numbers.dtype.kind == "f"
        for value in {*self.nodata, *fills}:
            # in float32 files the tag has more digits than the pixels
            missing |= numbers == (numbers.dtype.type(value) if is_float else value)
        if is_float:
            missing |= ~np.isfinite(numbers)
        if (self.added, self.scale, self.offset, conversion) == (0.0, 1.0, 0.0, None):
            values = numbers.astype("float32")
        else:
            exact = (numbers.astype("float64") + self.added) * self.scale + self.offset
            if conversion == "power":
                with np.errstate(divide="ignore", invalid="ignore"):
                    exact = 10.0 * np.log10(np.maximum(exact, 0.0))
            elif conversion is not None:
                exact *= conversion
            values = exact.astype("float32")
        values[missing] = np.nan
        return values


def place_of(
    where: str, path: Path, dataset: xr.Dataset, band: BandOption, dimension: str | None
) -> tuple[BandSource, str]:
    """A band and its units."""
    if not isinstance(band.where, str) or band.where not in dataset.data_vars:
        got, what = sorted(map(str, dataset.data_vars)), f"there is no variable {band.where!r} for {band.name!r}"
        raise FormatError(where, what, got=got, next_step="Correct the option bands: {…: {variable: …}}")
    array = dataset[band.where]
    y, x = (_spatial(where, array, names, kind) for names, kind in ((_Y_NAMES, "latitude"), (_X_NAMES, "longitude")))
    named = {y: "y", x: "x", dimension: "time"}
    if unknown := ({*band.select, dimension} - {None}) - set(map(str, array.dims)):
        raise FormatError(where, f"{band.where!r} has no dimension {sorted(unknown)}", got=list(array.dims))
    at: list[int | str] = []
    for dim in array.dims:
        if dim in named:
            at.append(named[dim])
            continue
        labels, label = array[dim].values, band.select.get(str(dim))
        if label is None and labels.size > 1:
            what = f"{band.where!r} has a dimension {dim!r} of {labels.size} that nothing chooses from"
            next_step = f"Add time: {{dimension: {dim}}}, or select: {{{dim}: …}} to the band"
            raise FormatError(where, what, next_step=next_step)
        found = np.array([0]) if label is None else np.flatnonzero(labels == label)
        if found.size != 1 or isinstance(label, bool):
            raise FormatError(where, f"{dim!r} has no {label!r}", got=labels.tolist()[:20])
        at.append(int(found[0]))
    attributes = {**array.attrs, **array.encoding}
    if str(attributes.get("_Unsigned", "false")).lower() == "true":
        raise FormatError(where, f"{band.where!r} holds unsigned numbers as signed ones", next_step="Convert it first")
    scale, offset = (float(np.ravel(attributes.get(k, d))[0]) for k, d in (("scale_factor", 1.0), ("add_offset", 0.0)))
    fills = {float(v) for k in ("_FillValue", "missing_value") if k in attributes for v in np.ravel(attributes[k])}
    nodata = tuple(value for value in fills if not np.isnan(value))
    form, geometry = "netcdf" if path.is_file() else "zarr", _array_geometry(where, dataset, array, y, x)
    source = BandSource(str(path), form, band.where, geometry, band, tuple(at), scale, offset, nodata)
    return source, str(array.attrs.get("units", ""))


def _spatial(where: str, array: xr.DataArray, names: Sequence[str], kind: str) -> Any:
    axis = "y" if kind == "latitude" else "x"
    standard = {kind, f"projection_{axis}_coordinate", f"grid_{kind}"}
    for dim in array.dims:
        if dim in array.coords and (array[dim].attrs.get("standard_name") in standard or str(dim).lower() in names):
            return dim
    what, next_step = f"{array.name!r} has no coordinate of {kind} or of {axis}", "Regrid swaths first"
    expected = plain("a regular grid with one-dimensional coordinates")
    raise FormatError(where, what, got=list(array.dims), expected=expected, next_step=next_step)


def _array_geometry(where: str, dataset: xr.Dataset, array: xr.DataArray, y: Any, x: Any) -> Georeference:
    """Where the cells of a variable of a Dataset are, by CF's grid mapping and its coordinates; `FormatError` if irregular."""
    told = {"crs_wkt", "spatial_ref", "grid_mapping_name"}
    mappings = [name for name, one in dataset.variables.items() if one.ndim == 0 and told & set(one.attrs)]
    # the only one, too, to which the variable does not refer
    usual = mappings[0] if len(mappings) == 1 else "spatial_ref"
    name = str({**array.attrs, **array.encoding}.get("grid_mapping", usual)).partition(":")[0]
    attributes = dataset[name].attrs if name in dataset.variables else {}
    if told & set(attributes):
        try:
            crs = crs_of(pyproj.CRS.from_cf(attributes).to_wkt())
        except (pyproj.exceptions.CRSError, CRSError, KeyError, ValueError) as error:
            raise FormatError(where, f"the grid mapping cannot be understood: {error}") from error
    elif array[y].attrs.get("standard_name") == "latitude" or "lat" in str(y).lower():
        crs = crs_of("EPSG:4326")
    else:
        what, expected = f"{array.name!r} states no coordinate reference system", "a CF grid mapping, or lat and lon"
        next_step = "Write its grid mapping into the file, for instance with rioxarray's write_crs"
        raise FormatError(where, what, got=list(array.dims), expected=plain(expected), next_step=next_step)
    (x0, dx), (y0, dy) = (_even(where, dim, array[dim].values) for dim in (x, y))
    factor = 1000.0 if array[x].attrs.get("units") == "km" else 1.0
    transform = tuple(factor * value for value in (dx, 0.0, x0 - dx / 2, 0.0, dy, y0 - dy / 2))
    return Georeference(crs.to_wkt(), transform, array.sizes[y], array.sizes[x])


def _even(where: str, dim: Any, values: NDArray) -> tuple[float, float]:
    """First value and step of an even coordinate."""
    values, got = np.asarray(values, "float64"), np.asarray(values).tolist()[:4]
    if values.size < 2 or not np.isfinite(values).all():
        raise FormatError(where, f"coordinate {dim!r} gives no step", got=got, expected=plain("2 values"))
    step = (values[-1] - values[0]) / (values.size - 1)
    # digits beyond those of float32 are noise of the file's own rounding
    off = np.abs(values - (values[0] + step * np.arange(values.size))).max()
    if step == 0.0 or max(off, np.abs(np.diff(values) - step).max()) > _UNEVEN * abs(step):
        raise FormatError(where, f"coordinate {dim!r} is not evenly spaced", got=got, next_step="Regrid it first")
    return float(values[0]), float(step)


def resample(
    read: ReadBlock, n_bands: int, raster: Georeference, window: UtmWindow, method: str
) -> NDArray[np.float32]:
    """A window's values, ``(band, y, x)``, by one of `RESAMPLINGS`; NaN outside and where there are no data.

    On the raster's own grid they are read as they are. Else "bilinear" and "nearest" take what lies around the cells'
    centres, whatever their size, and are missing where the pixel that holds a centre is; "average" is GDAL's mean of what lies
    between two corners of a cell, by its share, and the nearest where pixels are no smaller than cells.
    """
    values = np.full((n_bands, *window.shape), np.nan, "float32")
    if (offset := raster.offset_of(window)) is not None:
        (top, left), size = offset, window.size
        rows, cols = (max(top, 0), min(top + size, raster.height)), (max(left, 0), min(left + size, raster.width))
        if rows[0] < rows[1] and cols[0] < cols[1]:
            inside = (slice(None), slice(rows[0] - top, rows[1] - top), slice(cols[0] - left, cols[1] - left))
            values[inside] = read(*rows, *cols)
        return values
    crs, edges = f"EPSG:{window.epsg}", np.linspace(0.0, 1.0, 9) * window.size * window.resolution
    if method == "average":
        middle, step = window.size * window.resolution / 2, window.resolution
        x = window.west + middle + step * np.array([0.0, 1.0, 0.0])
        y = window.north - middle + step * np.array([0.0, 0.0, 1.0])
        method = "average" if raster.step_at(x, y, crs) > 1.01 else "nearest"
    spans = raster.around(*np.meshgrid(window.west + edges, window.north - edges), crs)
    if spans is None:
        return values
    block = raster.read(read, *spans)
    where: dict[str, Any] = {
        "src_crs": crs_of(raster.crs),
        "src_transform": raster.transform_of(*spans),
        "dst_crs": crs_of(crs),
        "dst_transform": window.transform,
    }
    missing = np.isnan(block).any(axis=(1, 2))
    if not missing.all():  # where nothing is missing GDAL need not look, and is twice as fast
        whole = np.full((int((~missing).sum()), *window.shape), np.nan, "float32")
        values[~missing] = _by_gdal(block[~missing], whole, method, init_dest_nodata=False, **where)
    if missing.any():
        holed = {"src_nodata": np.nan, "dst_nodata": np.nan, **where}
        found = _by_gdal(block[missing], np.empty((int(missing.sum()), *window.shape), "float32"), method, **holed)
        if method == "bilinear":
            centres = _by_gdal(block[missing], np.empty_like(found), "nearest", **holed)
            found[np.isnan(centres)] = np.nan
        values[missing] = found
    return values


def _by_gdal(block: NDArray[np.float32], out: NDArray[np.float32], method: str, **where: Any) -> NDArray[np.float32]:
    reproject(block, out, resampling=Resampling[method], **_FOUR_PIXELS, **where)
    return out
