"""Pixels of a Sentinel-1 scene, in dB, linear power or digital numbers, to sums of linear power over a target's cells.

A pixel belongs to the cell that its centre falls in. GDAL's average weights the pixels that a cell's edge cuts instead,
within the box between two of the cell's corners, which is another mean where pixels are not much smaller than cells or
the scene's grid is turned against the target's. Where pixels fall is told by splines between places transformed exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from scipy.interpolate import make_interp_spline

from smnb.contract import FormatError, ParameterError, check_choice, plain
from smnb.loaders.rasters.options import SIGMA0
from smnb.loaders.rasters.placing import BandSource, Georeference
from smnb.loaders.rasters.scenes import SceneReader, SceneRecord

#: Why pixels are left out, in order of precedence. What a file's mask band leaves out is "nodata" too.
MASK_REASONS = ("nodata", "zero", "not_finite", "saturated", "out_of_range")
ANGLE_UNITS = ("degree", "radian")
#: Bytes of raster blocks that GDAL keeps, and threads that decompress them; scenes are read in parallel by dask's own.
_GDAL = {"GDAL_CACHEMAX": 64_000_000, "GDAL_NUM_THREADS": 2}
_BLOCK_PIXELS = 1 << 20  # pixels read at a time where a scene has to be searched for any number at all
_WORDS = {"dB": "decibels", "linear": "linear power", "amplitude": "amplitudes"}
#: What most pixels of a scene are, and the least share of them in a sample; the rest may be bright targets, or noise that was
#: over-subtracted. Linear power of land rarely exceeds 10, and decibels are mostly negative.
_USUAL, _LEAST_USUAL = {"dB": (SIGMA0.low, 0.0), "linear": (0.0, 10.0), "amplitude": (0.0, 10.0**0.5)}, 0.5
_MOST_OUT_OF_RANGE = 0.5  # share of out-of-range pixels above which a scene is refused
#: Points along a side of the lattices from which extents are found, and the share of those that may lie between them.
_LATTICE, _SLACK = 65, 0.01
#: Pixels between places that are transformed exactly, at most, and how far off, in pixels, those between may be.
_STEP, _TOLERANCE = 256, 1e-5
_NOWHERE = -1e9  # row and column of a place that is not on the map
Span = tuple[int, int]


@dataclass(frozen=True)
class Backscatter:
    """What numbers are: ``number · scale + offset`` is linear power, an amplitude or dB (the `quantity`).

    As declared for all files, with `scale` None where these state it, or as it is of one band (`of`), with its no-data value.
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
                what, next_step = (
                    f"units {units!r} take no scale, offset or dn_of",
                    "Pass units='dn' for scaled numbers",
                )
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
        return replace(self, scale=scale, offset=offset, nodata=band.nodata)

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The numbers between which a pixel is backscatter: the product's range, in the file's terms."""
        low, high = SIGMA0.low, SIGMA0.high
        if self.quantity != "dB":
            per_decade = 20.0 if self.quantity == "amplitude" else 10.0
            # power that was clipped at zero is a measurement where zeros are not missing
            low, high = 10.0 ** (low / per_decade) if self.mask_zero else 0.0, 10.0 ** (high / per_decade)
        return (low - self.offset) / self.scale, (high - self.offset) / self.scale

    def power(self, numbers: NDArray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Linear power, and which is backscatter: in range, not no data, no zero that means missing; else it is 0."""
        (low, high), stored = self._range, np.ma.getdata(numbers)
        valid = (stored >= low) & (stored <= high)  # NaN is in no range
        for missing in {*(SIGMA0.fills if self.mask_zero else ()), *self.nodata, *_saturated(stored.dtype)}:
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
            power[~valid] = 0.0
        return power, valid

    def reasons(self, numbers: NDArray) -> NDArray[np.uint8]:
        """Why numbers that are no backscatter are not: indices of `MASK_REASONS`, by the first that applies."""
        (low, high), stored = self._range, np.ma.getdata(numbers)
        tests = (
            _is_absent(numbers, self.nodata),
            (stored == 0) & self.mask_zero,
            ~np.isfinite(stored),
            np.isin(stored, _saturated(stored.dtype)),
            ~((stored >= low) & (stored <= high)),
        )
        return np.select(tests, range(len(MASK_REASONS)), 0).astype("uint8")

    def check_sample(self, where: str, band: BandSource, numbers: NDArray) -> None:
        """Refuse numbers that cannot be what they are declared: fewer than half of `numbers`, which are there, are usual."""
        values = numbers.astype("float64") * self.scale + self.offset
        usual = {name: np.mean((values > low) & (values <= high)) for name, (low, high) in _USUAL.items()}
        low, high = (
            np.mean((values > SIGMA0.low) & (values < -1.0)),
            np.mean((values >= -1.0) & (values <= SIGMA0.high)),
        )
        is_city = self.quantity == "dB" and low > 0.05 and low + high > 0.9  # as in `options.Meaning`
        if usual[self.quantity] >= _LEAST_USUAL or is_city:
            return
        guess = next((one for one in ("dB", "linear") if one != self.quantity and usual[one] > 0.9), None)
        if self.units == "dn":
            next_step = "Correct 'scale', 'offset' or 'dn_of': the numbers that they give are not of that kind"
        elif guess:
            next_step = f"They look like {_WORDS[guess]}: declare units={guess!r} in the catalog's options or the call"
        else:
            next_step = "They look like digital numbers: declare units='dn' with 'scale' and 'dn_of'"
        what = f"{band.option.where!r} does not hold {_WORDS[self.quantity]}, as declared"
        got = "5, 50 and 95 % quantiles {:.4g}, {:.4g}, {:.4g}".format(*np.percentile(values, [5, 50, 95]))
        expected = "mostly between {:g} and {:g}".format(*_USUAL[self.quantity])
        raise FormatError(where, what, got=plain(got), expected=plain(expected), next_step=next_step)


def _saturated(dtype: np.dtype) -> list[float]:
    """The number at which unsigned integers are clipped."""
    return [float(np.iinfo(dtype).max)] if dtype.kind == "u" else []


def _is_absent(numbers: NDArray, nodata: tuple[float, ...]) -> NDArray[np.bool_]:
    """Which numbers the file itself says are none, by its value for no data or its mask."""
    absent, stored = np.ma.getmaskarray(numbers).copy(), np.ma.getdata(numbers)
    for value in nodata:
        absent |= np.isnan(stored) if np.isnan(value) else stored == value
    return absent


def _reader_of(scene: SceneRecord) -> SceneReader:
    return SceneReader(scene.scene_id, scene.time, "sentinel1", scene.sources)


def check_pixels(who: str, scene: SceneRecord, declared: Backscatter, angle_units: str) -> dict[str, Backscatter]:
    """What the numbers of each polarization are; pixels all over the scene can be read, are there, and in the units declared."""

    def there(numbers: NDArray, band: BandSource) -> NDArray:
        """Those that are not missing in a way that needs no units."""
        stored = np.ma.getdata(numbers)
        return stored[np.isfinite(stored) & (stored != 0) & ~_is_absent(numbers, band.nodata)]

    quantities = {}
    height, width = scene.sources[0].geometry.height, scene.sources[0].geometry.width
    with rasterio.Env(**_GDAL), _reader_of(scene) as reader:
        looks = [reader.numbers(*place) for place in scene.sources[0].geometry.places()]
        for band in scene.sources:
            where, name = f"{who}({Path(band.path).name})", band.option.name
            sample = np.concatenate([there(look[name], band) for look in looks])
            if name == "angle":
                if sample.size:
                    _check_angles(where, band, sample, angle_units)
                continue
            step = max(_BLOCK_PIXELS // width, 1)
            blocks = (((top, min(top + step, height)), (0, width)) for top in range(0, height, step))
            if not sample.size and not any(there(reader.numbers(*block)[name], band).size for block in blocks):
                what = f"the scene holds no backscatter: every pixel of {name} is zero, NaN or no-data"
                raise FormatError(where, what, next_step="Leave the scene out, or export it again")
            quantities[name] = declared.of(where, band)
            if sample.size:
                quantities[name].check_sample(where, band, sample)
    return quantities


def _check_angles(where: str, band: BandSource, sample: NDArray, units: str) -> None:
    """Refuse angles that are none in the units declared; on land Sentinel-1 looks at 29 to 46 degrees."""
    middle, highest = (float(q) * band.scale + band.offset for q in np.percentile(sample, [50, 100]))
    right = 0.0 < middle < 90.0 and highest > np.pi / 2 if units == "degree" else 0.0 < middle < np.pi / 2
    if not right:
        what = f"{band.option.where!r} does not hold incidence angles in {units}s, as declared"
        got = plain(f"median {middle:.4g}, highest {highest:.4g}")
        expected = plain("0 to 90 degrees" if units == "degree" else "0 to 1.57 radians")
        next_step = f"Correct 'angle_units' ({', '.join(ANGLE_UNITS)}), or declare in 'bands' which band it is"
        raise FormatError(where, what, got=got, expected=expected, next_step=next_step)


def reached(scene: SceneRecord, target: Georeference) -> tuple[Span, Span] | None:
    """The rows and columns of a target that a scene may reach; columns may go beyond the seam of one around the earth."""
    raster = scene.sources[0].geometry
    lattice = np.meshgrid(np.linspace(0, raster.width, _LATTICE), np.linspace(0, raster.height, _LATTICE))
    spans = target.around(*(raster.affine * lattice), raster.crs, _SLACK)
    if spans is not None and spans[1][1] - spans[1][0] >= target.width:
        return spans[0], (0, target.width)
    return spans


def pixel_places(
    raster: Georeference, target: Georeference, rows: Span, cols: Span
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fractional row and column of the target at the centres of a block of a scene's pixels, each ``(row, col)``.

    Off the target's map they are outside every grid; columns of a grid of longitudes are of no certain turn.
    """
    sizes = rows[1] - rows[0], cols[1] - cols[0]

    def exact(row: NDArray, col: NDArray) -> NDArray:
        x, y = raster.affine * np.meshgrid(cols[0] + col + 0.5, rows[0] + row + 0.5)
        found = np.stack(target.fractional(x, y, raster.crs))
        if target.period is not None:
            for axis in (0, 1):
                found[1] = np.unwrap(found[1], period=target.period, axis=axis)
        return found

    step = _STEP
    while step > 1 and min(sizes) >= 4:
        nodes = [np.linspace(0.0, size - 1.0, max(int(np.ceil(size / step)) + 1, 4)) for size in sizes]
        splines = [make_interp_spline(values, np.eye(values.size)) for values in nodes]
        at_nodes = exact(*nodes)
        if np.isfinite(at_nodes).all():
            between = [(values[:-1] + values[1:]) / 2 for values in nodes]
            down, across = (spline(at) for spline, at in zip(splines, between, strict=True))
            error = np.abs(down @ at_nodes @ across.T - exact(*between)).max()
            pixel = np.abs(np.diff(at_nodes[:, :, :2], axis=2)).max() / nodes[1][1]
            if error <= _TOLERANCE * pixel:
                down, across = (spline(np.arange(size)) for spline, size in zip(splines, sizes, strict=True))
                row, col = down @ at_nodes @ across.T
                return row, col
        step //= 4
    row, col = exact(*(np.arange(size) for size in sizes))
    finite = np.isfinite(row) & np.isfinite(col)
    return tuple(np.where(finite, values, _NOWHERE).clip(_NOWHERE, -_NOWHERE) for values in (row, col))


def average_scene(
    who: str,
    scene: SceneRecord,
    target: Georeference,
    cells: tuple[Span, Span],
    quantities: Mapping[str, Backscatter],
    constant_angle: float | None,
    block_pixels: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Add up the pixels of a scene over the target's `cells`, which it reaches, reading about `block_pixels` at a time.

    `quantities` say what the numbers of each polarization are; a scene without a band of angles has the constant one. Returned
    are layers ``(3 · polarization + 2, row, col)``: the sums of linear power, those of its square and the numbers of valid
    pixels, each by polarization, then the sum of incidence angles (degrees) and the number of pixels with one; and
    ``(polarization, reason)``, the pixels within the target that were left out. A `FormatError` where most pixels of a band
    are outside the range of backscatter.
    """
    (top, bottom), (left, right) = cells
    n, raster = len(quantities), scene.sources[0].geometry
    layers, masked = np.zeros((3 * n + 2, bottom - top, right - left)), np.zeros((n, len(MASK_REASONS)))
    # the cells, and a ring of cells around them that takes the pixels outside
    affine = target.affine * Affine.translation(left - 1, top - 1)
    ring = Georeference(target.crs, tuple(affine)[:6], bottom - top + 2, right - left + 2)
    angles = next((one for one in scene.sources if one.option.name == "angle"), None)
    with rasterio.Env(**_GDAL), _reader_of(scene) as reader:
        for rows, cols in _blocks(raster, target, cells, reader.block_shape(reader.bands[0]), block_pixels):
            block, numbers = _Block(raster, ring, rows, cols), reader.numbers(rows, cols)
            any_valid = np.zeros((), bool)
            for p, (name, quantity) in enumerate(quantities.items()):
                power, valid = quantity.power(numbers[name])
                if not valid.all():
                    why = quantity.reasons(numbers[name])[block.inside(~valid)]
                    masked[p] += np.bincount(why, minlength=len(MASK_REASONS))
                block.add(layers[p], power)
                block.count(layers[2 * n + p], valid)
                block.add(layers[n + p], np.square(power, out=power))
                any_valid = any_valid | valid
            if angles is not None:
                degrees = angles.option.meaning.within(angles.values(numbers["angle"]))
                any_valid &= np.isfinite(degrees)
                if not any_valid.all():
                    degrees[~any_valid] = 0.0
                block.add(layers[-2], degrees)
                block.count(layers[-1], any_valid)
            elif constant_angle is not None:
                block.add(layers[-2], np.where(any_valid, np.float32(constant_angle), np.float32(0)))
                block.count(layers[-1], any_valid)
    for p, name in enumerate(quantities):
        outside, valid = masked[p, MASK_REASONS.index("out_of_range")], layers[2 * n + p].sum()
        if outside > _MOST_OUT_OF_RANGE * (outside + valid):
            what = f"most pixels of {name} are outside the range of backscatter"
            got = plain(f"{outside:.0f} of {outside + valid:.0f}")
            next_step = "Check 'units' and the scale; parts of the scene may be in other units"
            raise FormatError(f"{who}({scene.scene_id})", what, got=got, expected=plain("few"), next_step=next_step)
    return layers, masked


def _blocks(
    raster: Georeference, target: Georeference, cells: tuple[Span, Span], shape: tuple[int, int], pixels: int
) -> Iterator[tuple[Span, Span]]:
    """Rows and columns of about so many pixels, of those that may fall in the cells, that keep to the file's own blocks."""
    lattice, size = np.meshgrid(*(np.linspace(*span, _LATTICE) for span in cells[::-1])), (raster.height, raster.width)
    spans = raster.around(*(target.affine * lattice), target.crs, _SLACK) or ((0, size[0]), (0, size[1]))
    (row0, row1), (col0, col1) = ((max(a, 0), min(b, n)) for (a, b), n in zip(spans, size, strict=True))
    n_cols = min(max(pixels // shape[0] // shape[1], 1) * shape[1], col1)
    n_rows = max(pixels // n_cols // shape[0], 1) * shape[0]
    for top in range(row0 // n_rows * n_rows, row1, n_rows):
        for left in range(col0 // n_cols * n_cols, col1, n_cols):
            yield (max(top, row0), min(top + n_rows, row1)), (max(left, col0), min(left + n_cols, col1))


class _Block:
    """Which cells the pixels of a block are in, and sums over them; what is in the ring of cells around is outside."""

    def __init__(self, raster: Georeference, ring: Georeference, rows: Span, cols: Span) -> None:
        row, col = pixel_places(raster, ring, rows, cols)
        if ring.period is not None and (col.min() < 1 or col.max() >= ring.period + 1):
            col = np.mod(col - 1, ring.period) + 1
        self._shape = ring.height, ring.width
        row, col = (v.astype("int32") for v in (row, col))
        for values, size in zip((row, col), self._shape, strict=True):
            np.clip(values, 0, size - 1, out=values)
        index = row if ring.height * ring.width < 2**31 else row.astype("int64")
        index *= ring.width
        index += col
        self._index = index.ravel()
        # neighbours along a row are mostly in one cell: they are added up first, and the cells get sums
        self._starts = np.r_[0, np.flatnonzero(self._index[1:] != self._index[:-1]) + 1]
        runs = self._index[self._starts]
        self._low = int(runs.min())
        self._runs = (runs - self._low).astype("intp")

    def inside(self, at: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Those of some pixels ``(row, col)`` that are not in the ring."""
        row, col = np.divmod(self._index.reshape(at.shape), self._shape[1])
        return at & (row > 0) & (row < self._shape[0] - 1) & (col > 0) & (col < self._shape[1] - 1)

    def add(self, total: NDArray, values: NDArray) -> None:
        """Add one value a pixel ``(row, col)`` to the cells."""
        self._add_runs(total, np.add.reduceat(values.ravel(), self._starts, dtype="float64"))

    def count(self, total: NDArray, valid: NDArray[np.bool_]) -> None:
        """Add the numbers of valid pixels to the cells; where all are, those are the lengths of the runs."""
        if valid.all():
            self._add_runs(total, np.diff(self._starts, append=self._index.size))
        else:
            self.add(total, valid.view("uint8"))

    def _add_runs(self, total: NDArray, sums: NDArray) -> None:
        by_cell = np.bincount(self._runs, weights=sums)
        padded = np.zeros(self._shape)
        padded.ravel()[self._low : self._low + by_cell.size] = by_cell
        total += padded[1:-1, 1:-1]
