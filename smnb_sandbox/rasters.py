"""GeoTIFF: rectangles of UTM, and large grids of longitude and latitude of which little is filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smnb_sandbox.noise import Float64
from smnb_sandbox.plan import table

if TYPE_CHECKING:
    from rasterio.windows import Window

_BLOCK = 256
_COMMENT = "simulated by smnb_sandbox, no measurement"


@dataclass(frozen=True)
class Packing:
    """How numbers of a band become bytes: ``value = offset + scale * number``, as GDAL's tags say; 255 is no data."""

    scale: float
    offset: float
    nodata = 255

    def pack(self, values: NDArray) -> NDArray[np.uint8]:
        """Round to the nearest number, 0 to 254; NaN becomes no data.

        >>> Packing(0.2, -40.0).pack(np.array([-10.234, np.nan, -90.0])).tolist()
        [149, 255, 0]
        """
        numbers = np.clip(np.rint((values - self.offset) / self.scale), 0, 254)
        return np.where(np.isfinite(numbers), numbers, self.nodata).astype(np.uint8)


def _encode(
    profile: Mapping[str, Any],
    parts: Iterable[tuple[Window | None, NDArray]],
    names: Sequence[str],
    units: Sequence[str],
    tags: Mapping[str, str],
    packing: Sequence[Packing] = (),
) -> bytes:
    from rasterio.io import MemoryFile  # GDAL costs much to load

    with MemoryFile() as memory:
        with memory.open(driver="GTiff", count=len(names), tiled=True, compress="deflate", **profile) as raster:
            for window, values in parts:
                raster.write(values, window=window)
            raster.descriptions = tuple(names)
            if units:
                raster.units = tuple(units)
            if packing:
                raster.scales, raster.offsets = zip(*((one.scale, one.offset) for one in packing), strict=True)
            raster.update_tags(synthetic="1", comment=_COMMENT, **tags)
        return memory.read()


def encode_scene(
    values: NDArray,
    place: tuple[int, float, float, float],
    names: Sequence[str],
    *,
    tags: Mapping[str, str],
    units: Sequence[str] = (),
    packing: Sequence[Packing] = (),
    nodata: float | None = None,
    predictor: int = 1,
    zlevel: int = 5,
) -> bytes:
    """A rectangle of UTM, (band, row, col), as GeoTIFF; `place` is EPSG code, west and north edge, and pixel (m)."""
    from rasterio import Affine

    epsg, west, north, side = place
    rows, cols = values.shape[1:]
    block = rows if rows == cols <= _BLOCK and rows % 16 == 0 else _BLOCK
    profile = {
        "dtype": values.dtype.name,
        "height": rows,
        "width": cols,
        "crs": f"EPSG:{epsg}",
        "transform": Affine(side, 0.0, west, 0.0, -side, north),
        "nodata": nodata,
        "blockxsize": block,
        "blockysize": block,
        "zlevel": zlevel,
        "predictor": predictor,
        "interleave": "band",
    }
    return _encode(profile, [(None, values)], names, units, tags, packing)


@dataclass(frozen=True)
class LonLatGrid:
    """A grid of longitude and latitude, north up."""

    west: float
    north: float  # outer edges, degrees
    per_degree: float  # cells to a degree
    width: int
    height: int

    def box(self, lat: float, lon: float, half_height: float, half_width: float) -> tuple[slice, slice]:
        """Rows and columns of the cells whose centres are within so many degrees of a point."""
        row, col = (self.north - lat) * self.per_degree - 0.5, (lon - self.west) * self.per_degree - 0.5
        tall, wide = half_height * self.per_degree, half_width * self.per_degree
        return (
            slice(int(np.ceil(row - tall)), int(np.floor(row + tall)) + 1),
            slice(int(np.ceil(col - wide)), int(np.floor(col + wide)) + 1),
        )

    def centres(self, box: tuple[slice, slice]) -> tuple[Float64, Float64]:
        """Latitudes of rows and longitudes of columns."""
        rows, cols = (np.arange(part.start, part.stop) + 0.5 for part in box)
        return self.north - rows / self.per_degree, self.west + cols / self.per_degree


@dataclass(frozen=True)
class Patch:
    """Cells of a grid that are filled: where, and values (..., row, col)."""

    box: tuple[slice, slice]
    values: NDArray


@dataclass(frozen=True)
class SparseRaster:
    """A large grid as a GeoTIFF that stores only the blocks in which something is."""

    grid: LonLatGrid
    dtype: str
    nodata: float
    block: int  # cells along a side of a block, a multiple of 16
    bands: tuple[str, ...]
    units: tuple[str, ...] = ()
    predictor: int = 1

    def encode(self, patches: Iterable[Patch], **tags: str) -> bytes:
        """A file of patches, (band, row, col), which do not overlap; the other cells have no data."""
        from rasterio import Affine
        from rasterio.windows import Window

        grid, block, step = self.grid, self.block, 1.0 / self.grid.per_degree
        profile = {
            "dtype": self.dtype,
            "height": grid.height,
            "width": grid.width,
            "crs": "EPSG:4326",
            "transform": Affine(step, 0.0, grid.west, 0.0, -step, grid.north),
            "nodata": self.nodata,
            "blockxsize": block,
            "blockysize": block,
            "zlevel": 6,
            "predictor": self.predictor,
            "interleave": "pixel",
            "sparse_ok": True,
        }
        blocks: dict[tuple[int, int], NDArray] = {}
        for patch in patches:
            rows, cols = patch.box
            for top in range(rows.start // block * block, rows.stop, block):
                for left in range(cols.start // block * block, cols.stop, block):
                    target = blocks.setdefault(
                        (top, left), np.full((len(self.bands), block, block), self.nodata, self.dtype)
                    )
                    r0, r1 = max(top, rows.start), min(top + block, rows.stop)
                    c0, c1 = max(left, cols.start), min(left + block, cols.stop)
                    target[:, r0 - top : r1 - top, c0 - left : c1 - left] = patch.values[
                        :, r0 - rows.start : r1 - rows.start, c0 - cols.start : c1 - cols.start
                    ]
        parts = (
            (Window(left, top, width, height), values[:, :height, :width])
            for (top, left), values in sorted(blocks.items(), key=lambda one: one[0])
            for height, width in [(min(block, grid.height - top), min(block, grid.width - left))]
        )
        return _encode(profile, parts, self.bands, self.units, tags)


#: The products of this form (``data/multisource.yaml``).
RASTERS: dict[str, SparseRaster] = {
    name: SparseRaster(**row | {"grid": LonLatGrid(*row["grid"])})
    for name, row in table("multisource")["rasters"].items()
}
