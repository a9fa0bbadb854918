"""GeoTIFF for the multi-source world: squares of UTM in whole numbers, and large grids of which little is filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smnb.grids import UtmWindow

_BLOCK = 256
_COMMENT = "simulated by smnb_sandbox, no measurement"


@dataclass(frozen=True)
class Packing:
    """How numbers of a band become bytes: ``value = offset + scale * number``, as GDAL's tags say; 255 is no data.

    Parameters
    ----------
    scale, offset : float
    """

    scale: float
    offset: float
    nodata = 255

    def pack(self, values: NDArray) -> NDArray[np.uint8]:
        """Round to the nearest number, 0 to 254; NaN becomes no data.

        Examples
        --------
        >>> Packing(0.2, -40.0).pack(np.array([-10.234, np.nan, -90.0])).tolist()
        [149, 255, 0]
        """
        numbers = np.clip(np.rint((values - self.offset) / self.scale), 0, 254)
        return np.where(np.isfinite(numbers), numbers, self.nodata).astype(np.uint8)


def encode_scene(
    values: NDArray[np.integer],
    window: UtmWindow,
    names: Sequence[str],
    *,
    units: Sequence[str] = (),
    packing: Sequence[Packing] = (),
    tags: Mapping[str, str] | None = None,
    nodata: float | None = None,
    predictor: int = 1,
) -> bytes:
    """A square as a tiled, compressed GeoTIFF.

    Parameters
    ----------
    values : ndarray
        (band, row, col).
    window : UtmWindow
    names, units, packing : sequence
        Of the bands; units and packing can be left out.
    tags, nodata, predictor
        As GDAL has them.
    """
    from rasterio.io import MemoryFile  # GDAL costs much to load

    block = window.size if window.size <= _BLOCK and window.size % 16 == 0 else _BLOCK
    profile = {
        "driver": "GTiff",
        "dtype": values.dtype.name,
        "count": len(values),
        "height": window.size,
        "width": window.size,
        "crs": f"EPSG:{window.epsg}",
        "transform": window.transform,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "compress": "deflate",
        "zlevel": 5,
        "predictor": predictor,
        "interleave": "band",
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as raster:
            raster.write(values)
            raster.descriptions = tuple(names)
            if units:
                raster.units = tuple(units)
            if packing:
                raster.scales, raster.offsets = zip(*((one.scale, one.offset) for one in packing), strict=True)
            raster.update_tags(synthetic="1", comment=_COMMENT, **(tags or {}))
        return memory.read()


@dataclass(frozen=True)
class LonLatGrid:
    """A grid of longitude and latitude, north up.

    Parameters
    ----------
    west, north : float
        Outer edges, degrees.
    per_degree : float
        Cells to a degree.
    width, height : int
    """

    west: float
    north: float
    per_degree: float
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

    def centres(self, box: tuple[slice, slice]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitudes of rows and longitudes of columns."""
        rows, cols = (np.arange(part.start, part.stop) + 0.5 for part in box)
        return self.north - rows / self.per_degree, self.west + cols / self.per_degree


@dataclass(frozen=True)
class Patch:
    """Cells of a grid that are filled: where, and values (..., row, col)."""

    box: tuple[slice, slice]
    values: NDArray


def encode_sparse(
    grid: LonLatGrid,
    patches: Iterable[Patch],
    names: Sequence[str],
    *,
    dtype: str,
    nodata: float,
    block: int,
    tags: Mapping[str, str] | None = None,
    units: Sequence[str] = (),
    predictor: int = 1,
) -> bytes:
    """A large grid as a GeoTIFF that stores only the blocks in which something is.

    Parameters
    ----------
    grid : LonLatGrid
    patches : iterable of Patch
        Each (band, row, col); they do not overlap.
    names : sequence of str
        Of the bands.
    dtype : str
    nodata : float
        What the other cells have.
    block : int
        Side of a block, a multiple of 16.
    tags, units, predictor
        As GDAL has them.
    """
    from rasterio import Affine
    from rasterio.io import MemoryFile
    from rasterio.windows import Window

    step = 1.0 / grid.per_degree
    profile = {
        "driver": "GTiff",
        "dtype": dtype,
        "count": len(names),
        "height": grid.height,
        "width": grid.width,
        "crs": "EPSG:4326",
        "transform": Affine(step, 0.0, grid.west, 0.0, -step, grid.north),
        "nodata": nodata,
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "compress": "deflate",
        "zlevel": 6,
        "predictor": predictor,
        "interleave": "pixel",
        "sparse_ok": True,
    }
    blocks: dict[tuple[int, int], NDArray] = {}
    for patch in patches:
        rows, cols = patch.box
        for top in range(rows.start // block * block, rows.stop, block):
            for left in range(cols.start // block * block, cols.stop, block):
                target = blocks.setdefault((top, left), np.full((len(names), block, block), nodata, dtype=dtype))
                r0, r1 = max(top, rows.start), min(top + block, rows.stop)
                c0, c1 = max(left, cols.start), min(left + block, cols.stop)
                target[:, r0 - top : r1 - top, c0 - left : c1 - left] = patch.values[
                    :, r0 - rows.start : r1 - rows.start, c0 - cols.start : c1 - cols.start
                ]
    with MemoryFile() as memory:
        with memory.open(**profile) as raster:
            for (top, left), values in sorted(blocks.items()):
                height, width = min(block, grid.height - top), min(block, grid.width - left)
                raster.write(values[:, :height, :width], window=Window(left, top, width, height))
            raster.descriptions = tuple(names)
            if units:
                raster.units = tuple(units)
            raster.update_tags(synthetic="1", comment=_COMMENT, **(tags or {}))
        return memory.read()
