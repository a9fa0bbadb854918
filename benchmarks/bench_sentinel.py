"""Sentinel-1 averaged to 1 km beside GDAL's warp and a pixel-by-pixel loop, in one run: ``python -m benchmarks.bench_sentinel``.

What is the limit: every pixel of VV, VH and the angle has to be read, unpacked and turned from dB to power once. All three
ways do that; they differ in how a pixel finds its cell.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin
from rasterio.warp import Resampling, reproject

from benchmarks.measure import best_of
from smnb.grids import EaseWindow
from smnb.loaders.rasters import open_sentinel1

WEST, NORTH, CRS = 600_000.0, 4_100_000.0, "EPSG:32614"
LOOKS = 4.4


def write_scene(path: Path, size: int) -> None:
    """Write a speckled scene of 10 m pixels in dB: VV, VH and incidence angle."""
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff",
        "height": size,
        "width": size,
        "count": 3,
        "dtype": "float32",
        "crs": CRS,
        "transform": from_origin(WEST, NORTH, 10, 10),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "zlevel": 1,
        "interleave": "band",
    }
    with rasterio.open(path, "w", **profile) as file:
        for band, (mean, name) in enumerate(((-11, "VV"), (-18, "VH")), 1):
            power = 10 ** (mean / 10) * rng.gamma(LOOKS, 1 / LOOKS, (size, size))
            file.write((10 * np.log10(power)).astype("float32"), band)
            file.set_band_description(band, name)
        file.write(np.broadcast_to(np.linspace(30, 46, size, dtype="float32"), (size, size)), 3)
        file.set_band_description(3, "angle")


def warp(path: Path, window: EaseWindow) -> list[np.ndarray]:
    """Average by GDAL: bands as linear power, then ``reproject(average)``."""
    target = from_origin(
        window.x[0] - window.grid.cell / 2, window.y[0] + window.grid.cell / 2, *[window.grid.cell] * 2
    )
    results = []
    with rasterio.open(path) as file:
        for band in (1, 2, 3):
            values = file.read(band)
            values = 10 ** (values / np.float32(10)) if band < 3 else values
            result = np.full(window.shape, np.nan, "float32")
            reproject(
                values,
                result,
                src_transform=file.transform,
                src_crs=file.crs,
                dst_transform=target,
                dst_crs="EPSG:6933",
                resampling=Resampling.average,
                dst_nodata=np.nan,
            )
            results.append(result)
    return results


def naive(path: Path, window: EaseWindow, size: int) -> np.ndarray:
    """Average by projecting every pixel with pyproj and counting them into cells."""
    project = Transformer.from_crs(CRS, "EPSG:6933", always_xy=True)
    cell, (rows, cols) = window.grid.cell, window.shape
    west, north = window.x[0] - cell / 2, window.y[0] + cell / 2
    total, number = np.zeros((3, rows * cols)), np.zeros((3, rows * cols))
    with rasterio.open(path) as file:
        for top in range(0, size, 500):
            lines = np.arange(top, min(top + 500, size))
            bands = file.read(window=rasterio.windows.Window(0, top, size, lines.size))
            x, y = np.meshgrid(WEST + (np.arange(size) + 0.5) * 10, NORTH - (lines + 0.5) * 10)
            x, y = project.transform(x, y)
            at = (((north - y) // cell).astype(int) * cols + ((x - west) // cell).astype(int)).ravel()
            for band in range(3):
                values = (10 ** (bands[band] / 10) if band < 2 else bands[band]).ravel()
                total[band] += np.bincount(at, weights=values, minlength=rows * cols)
                number[band] += np.bincount(at, minlength=rows * cols)
    with np.errstate(invalid="ignore"):
        return (total / number).reshape(3, rows, cols)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=5000, help="pixels along a side")
    size = parser.parse_args().size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "S1A_IW_GRDH_1SDV_20200901T001122.tif"
        write_scene(path, size)
        ours, found = best_of(lambda: open_sentinel1([path], catalog_id="bench", units="dB").compute(), 3)
        window = EaseWindow.from_dataset(found)
        by_warp, warped = best_of(lambda: warp(path, window), 3)
        by_loop, looped = best_of(lambda: naive(path, window, size), 1)
    print(f"{size} x {size} pixels, VV, VH and angle, to {window.shape[0]} x {window.shape[1]} cells of 1 km")
    print(f"smnb open_sentinel1        {ours:6.2f} s, {3 * size**2 / ours / 1e6:.0f} million values a second")
    print(f"rasterio.warp, average     {by_warp:6.2f} s, {by_warp / ours:.1f} times as long")
    print(f"numpy and pyproj a pixel   {by_loop:6.2f} s, {by_loop / ours:.1f} times as long")
    vv, whole = found["sigma0"][0, 0].values, found["n_looks"][0, 0].values > 9900
    print(
        f"largest difference: to the loop {np.nanmax(np.abs(10 * np.log10(looped[0]) - vv)):.1e} dB, "
        f"to the warp on whole cells {np.abs(10 * np.log10(warped[0]) - vv)[whole].max():.3f} dB"
    )


if __name__ == "__main__":
    main()
