"""What every part of the archive is: names of files, and how those that are missing are made; the tables of ``data/``; GeoTIFF.

GeoTIFF are rectangles of UTM, and large grids of longitude and latitude of which little is filled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from smnb_sandbox.noise import Float64

if TYPE_CHECKING:
    from rasterio.windows import Window

Period = tuple[date, date]
#: What a file holds; what takes long to pack, and no library that is not thread-safe, is left to be called on a thread.
Content = bytes | Callable[[], bytes]


class Plan(ABC):
    """A part of the archive; nothing is simulated before `contents`."""

    kinds: dict[str, dict[str, Any]]
    """What goes into each file, by kind and path below the root (with forward slashes), in the order of the manifest."""

    @property
    def files(self) -> list[str]:
        """All paths, in the order of the manifest."""
        return [name for names in self.kinds.values() for name in names]

    @abstractmethod
    def contents(self, seed: int, missing: set[str]) -> Iterator[tuple[str, Content]]:
        """Simulate what is needed and yield the files that are missing, each as its name and content."""


def days_of(period: Period) -> list[date]:
    """The days from the first to the last."""
    return [period[0] + timedelta(days=i) for i in range((period[1] - period[0]).days + 1)]


def file_bytes(name: str, write: Callable[[Path], None]) -> bytes:
    """What is written to a path, by a library that can do no other."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name.rpartition("/")[2]
        write(path)
        return path.read_bytes()


def _tuples(value: Any) -> Any:
    """Lists as tuples, at every depth."""
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@cache
def table(name: str) -> dict[str, Any]:
    """A file of ``data/`` as mappings, tuples and numbers; what stands there is not to be changed."""
    return _tuples(yaml.safe_load((Path(__file__).parent / "data" / f"{name}.yaml").read_text(encoding="utf-8")))


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
    parts: Iterable[tuple[Window | None, NDArray]],
    place: tuple[int, float, float, float],
    shape: tuple[int, int],
    names: Sequence[str],
    block: int,
    *,
    tags: Mapping[str, str],
    units: Sequence[str] = (),
    packing: Sequence[Packing] = (),
    **profile: Any,
) -> bytes:
    from rasterio import Affine
    from rasterio.io import MemoryFile  # GDAL costs much to load

    epsg, west, north, step = place
    profile |= {"crs": f"EPSG:{epsg}", "transform": Affine(step, 0.0, west, 0.0, -step, north), "count": len(names)}
    profile |= {"height": shape[0], "width": shape[1], "tiled": True, "blockxsize": block, "blockysize": block}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", compress="deflate", **profile) as raster:
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
    values: NDArray, place: tuple[int, float, float, float], names: Sequence[str], *, zlevel: int = 5, **how: Any
) -> bytes:
    """A rectangle of UTM, (band, row, col), as GeoTIFF: `tags`, and what else there is of `units`, `packing`, and the profile.

    `place` is EPSG code, west and north edge, and pixel (m).
    """
    rows, cols = values.shape[1:]
    block = rows if rows == cols <= _BLOCK and rows % 16 == 0 else _BLOCK
    how |= {"dtype": values.dtype.name, "interleave": "band", "zlevel": zlevel}
    return _encode([(None, values)], place, (rows, cols), names, block, **how)


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


#: Cells of a grid that are filled: rows and columns, and values (..., row, col).
Patch = tuple[tuple[slice, slice], NDArray]


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
        from rasterio.windows import Window

        grid, block = self.grid, self.block
        blocks: dict[tuple[int, int], NDArray] = {}
        for (rows, cols), cells in patches:
            for top in range(rows.start // block * block, rows.stop, block):
                for left in range(cols.start // block * block, cols.stop, block):
                    target = blocks.setdefault(
                        (top, left), np.full((len(self.bands), block, block), self.nodata, self.dtype)
                    )
                    r0, r1 = max(top, rows.start), min(top + block, rows.stop)
                    c0, c1 = max(left, cols.start), min(left + block, cols.stop)
                    target[:, r0 - top : r1 - top, c0 - left : c1 - left] = cells[
                        :, r0 - rows.start : r1 - rows.start, c0 - cols.start : c1 - cols.start
                    ]
        parts = (
            (Window(left, top, width, height), values[:, :height, :width])
            for (top, left), values in sorted(blocks.items(), key=lambda one: one[0])
            for height, width in [(min(block, grid.height - top), min(block, grid.width - left))]
        )
        place, shape = (4326, grid.west, grid.north, 1.0 / grid.per_degree), (grid.height, grid.width)
        how = {"dtype": self.dtype, "nodata": self.nodata, "zlevel": 6, "predictor": self.predictor, "sparse_ok": True}
        how |= {"interleave": "pixel", "units": self.units, "tags": tags}
        return _encode(parts, place, shape, self.bands, block, **how)


#: The products of this form (``data/multisource.yaml``).
RASTERS: dict[str, SparseRaster] = {
    name: SparseRaster(**row | {"grid": LonLatGrid(*row["grid"])})
    for name, row in table("multisource")["rasters"].items()
}
