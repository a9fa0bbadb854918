"""Match-ups against opening, cutting and closing for each point: ``python -m benchmarks.bench_matchups``.

Synthetic Cloud-Optimised GeoTIFFs: Sentinel-1 (3 bands, float32) and Sentinel-2 (6 bands, int16; one scene for two passes of
Sentinel-1) over sensors on both sides of the edge between two UTM zones, so that half of the windows are read as they are and
half are warped. Three naive ways, all given the scene of each point for nothing, write the same arrays:

- whole: rioxarray opens the raster, reprojects it and crops, in the order in which the paper lists the steps;
- clipped: the same, clipped around the point before the reprojection;
- WarpedVRT: rasterio reads the window through a warped view.

Each runs in a process of its own on one core, imports and the first call to each library done before. The builder's time holds
all it does, from the index of the scenes to the finished store. Time is the process's own (CPU) beside that of the clock, since
other work on the machine lengthens the latter. The peak of memory is that of each process, for N, 2N and 4N points.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.measure import resident_memory

BANDS = {"sentinel1": ("VV", "VH", "angle"), "sentinel2": ("B2", "B3", "B4", "B8", "B11", "B12")}
START = pd.Timestamp("2020-04-01")
EPSG, EDGE = 32614, -96.0  # zone 14 ends at 96 W


def write_cog(path: Path, values: np.ndarray, transform) -> None:
    """One scene as a Cloud-Optimised GeoTIFF."""
    import rasterio
    from rasterio.shutil import copy

    profile = {
        "driver": "GTiff",
        "count": len(values),
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": values.dtype,
        "crs": EPSG,
        "transform": transform,
        "nodata": np.nan if values.dtype.kind == "f" else -1,
        "tiled": True,
    }
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile) as raster:
            raster.write(values)
            raster.update_tags(CLOUDY_PIXEL_PERCENTAGE="5")
        with memory.open() as raster:
            copy(raster, path, driver="COG", compress="DEFLATE", blocksize=512)


def write_archive(root: Path, passes: int, sensors: int, side: int) -> pd.DataFrame:
    """Scenes of both sources, a Sentinel-2 scene for two passes of Sentinel-1; return the sensor table."""
    from rasterio.transform import from_origin
    from rasterio.warp import transform as transform_points

    rng = np.random.default_rng(0)
    (east,), (north,) = transform_points("EPSG:4326", f"EPSG:{EPSG}", [EDGE], [32.0])
    west, top = np.round((east - side * 5) / 10) * 10, np.round((north + side * 5) / 10) * 10
    transform = from_origin(west, top, 10, 10)
    root.mkdir(parents=True)
    coarse = rng.normal(size=(9, side // 16, side // 16))
    smooth = np.kron(coarse, np.ones((16, 16))).astype("float32")
    for i in range(passes):
        radar = (np.array([-11, -18, 38])[:, None, None] + smooth[:3] + 0.5 * rng.normal(size=(3, side, side))).astype(
            "float32"
        )
        when = START + pd.Timedelta(days=6 * i, hours=12.3)
        write_cog(root / f"S1_{when:%Y%m%dT%H%M%S}_.tif", np.round(radar, 2), transform)
        if i % 2 == 0:
            light = np.clip(1200 + 300 * smooth[3:] + 60 * rng.normal(size=(6, side, side)), 1, 9000).astype("int16")
            write_cog(root / f"S2_{when - pd.Timedelta(days=1):%Y%m%dT%H%M%S}_.tif", light, transform)
    margin = 3000.0
    x = west + rng.uniform(margin, side * 10 - margin, sensors)
    y = top - rng.uniform(margin, side * 10 - margin, sensors)
    lon, lat = transform_points(f"EPSG:{EPSG}", "EPSG:4326", x, y)
    return pd.DataFrame(
        {
            "sensor_id": [f"n__s{i}__x" for i in range(sensors)],
            "network": "n",
            "station": [f"s{i}" for i in range(sensors)],
            "lat": lat,
            "lon": lon,
            "depth_from": 0.05,
            "depth_to": 0.05,
        }
    )


def open_archive(root: Path, table: pd.DataFrame, passes: int):
    """Readings and scenes, of the first passes."""
    from smnb.loaders.insitu import InSituTables
    from smnb.loaders.rasters import open_scenes

    times = pd.date_range(START, periods=passes * 6 * 24, freq="h")
    readings = pd.DataFrame(
        {
            "sensor_id": pd.Categorical.from_codes(np.repeat(np.arange(len(table)), times.size), table["sensor_id"]),
            "time": np.tile(times, len(table)),
            "soil_moisture": np.float32(0.2),
            "flag": pd.Categorical(["G"] * len(table) * times.size),
        }
    )
    scenes = {}
    for name, prefix in (("sentinel1", "S1"), ("sentinel2", "S2")):
        paths = sorted(root.glob(f"{prefix}_*.tif"))[: passes if prefix == "S1" else -(-passes // 2)]
        scenes[name] = open_scenes(
            paths,
            catalog_id=name,
            synthetic=True,
            source=name,
            bands={b: i + 1 for i, b in enumerate(BANDS[name])},
            time={"pattern": r"_(?P<time>\d{8}T\d{6})_"},
            cloud={"tag": "CLOUDY_PIXEL_PERCENTAGE"},
        )
    return InSituTables(table, readings, synthetic=True), scenes


class Cost(NamedTuple):
    """What a way to build took."""

    points: int
    cpu: float
    clock: float
    peak: int

    def __str__(self) -> str:
        return (
            f"{self.points:5d} points  {self.cpu:6.2f} s CPU, {self.clock:6.2f} s by the clock  "
            f"{self.points / self.cpu:6.2f} points/s/core  peak {self.peak / 1e6:4.0f} MB"
        )


def measured(function: Callable[[], int]) -> Cost:
    cpu, clock = time.process_time(), time.perf_counter()
    points = function()
    return Cost(points, time.process_time() - cpu, time.perf_counter() - clock, resident_memory())


def build(root: Path, table: pd.DataFrame, passes: int, crop: int, out: Path) -> Cost:
    """The builder, indexing the scenes included."""
    from smnb.papers.batchu2023 import build_matchups

    def run(passes: int, sensors: int, out: Path) -> int:
        insitu, scenes = open_archive(root, table[:sensors], passes)
        return build_matchups(insitu, scenes, out=out, crop=crop, splits={}).counts["samples"]

    run(1, 1, out.with_suffix(".first.zarr"))
    return measured(lambda: run(passes, len(table), out))


def naive(root: Path, table: pd.DataFrame, passes: int, crop: int, out: Path, way: str) -> Cost:
    """Opening, cutting and closing for each point and source."""
    import zarr

    from smnb.grids import UtmWindow
    from smnb.papers.batchu2023.scenes import plan_matchups
    from smnb.papers.batchu2023.sources import joined_sources

    insitu, scenes = open_archive(root, table, passes)
    sources = joined_sources("bench", scenes, "sentinel1")
    plan = plan_matchups(insitu, scenes, sources, anchor="sentinel1")
    group = zarr.open_group(out, mode="w", zarr_format=3)
    arrays = {
        name: group.create_array(
            name,
            shape=(len(plan), len(BANDS[name]), crop, crop),
            chunks=(1, len(BANDS[name]), crop, crop),
            dtype="float16",
            compressors=zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        )
        for name in scenes
    }
    cut = NAIVE[way]

    def point(i: int) -> None:
        place = plan.sensors.iloc[plan.sensor[i]]
        window = UtmWindow.centred(place["lat"], place["lon"], size=crop, resolution=10.0)
        for name in scenes:
            path = root / f"{scenes[name].table['scene_id'].iloc[plan.scene[name][i]]}"
            native = cut(path if path.suffix == ".tif" else path.with_suffix(".tif"), window)
            arrays[name][i] = sources[name].normalise_stack(native, BANDS[name])

    def run() -> int:
        for i in range(len(plan)):
            point(i)
        return len(plan)

    point(0)
    return measured(run)


def cut_whole(path: Path, window) -> np.ndarray:
    import rioxarray
    from rasterio.enums import Resampling

    with rioxarray.open_rasterio(path, masked=True) as raster:
        there = raster.rio.reproject(f"EPSG:{window.epsg}", resolution=10.0, resampling=Resampling.bilinear)
        west, south, east, north = window.bounds
        return there.rio.clip_box(west, south, east, north).values[:, : window.size, : window.size]


def cut_clipped(path: Path, window) -> np.ndarray:
    import rioxarray
    from rasterio.enums import Resampling
    from rasterio.warp import transform_bounds

    with rioxarray.open_rasterio(path, masked=True) as raster:
        west, south, east, north = transform_bounds(f"EPSG:{window.epsg}", raster.rio.crs, *window.bounds)
        near = raster.rio.clip_box(west - 100, south - 100, east + 100, north + 100)
        there = near.rio.reproject(
            f"EPSG:{window.epsg}", transform=window.transform, shape=window.shape, resampling=Resampling.bilinear
        )
        return there.values


def cut_vrt(path: Path, window) -> np.ndarray:
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    options = {"crs": window.epsg, "transform": window.transform, "width": window.size, "height": window.size}
    with rasterio.open(path) as raster, WarpedVRT(raster, resampling=Resampling.bilinear, **options) as there:
        return there.read(masked=True).astype("float32").filled(np.nan)


NAIVE = {"whole": cut_whole, "clipped": cut_clipped, "WarpedVRT": cut_vrt}


def alone(function, *arguments):
    """Run in a process of its own, on one core."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=one_core) as pool:
        return pool.submit(function, *arguments).result()


def one_core() -> None:
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--passes", type=int, default=8, help="Sentinel-1 scenes for 4N points")
    parser.add_argument("--sensors", type=int, default=24, help="points a scene")
    parser.add_argument("--side", type=int, default=3072, help="pixels on a side of a scene")
    parser.add_argument("--crop", type=int, default=512)
    options = parser.parse_args()
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = write_archive(root / "archive", options.passes, options.sensors, options.side)
        megabytes = sum(path.stat().st_size for path in (root / "archive").iterdir()) / 1e6
        print(
            f"{options.passes} + {-(-options.passes // 2)} scenes of {options.side} pixels, {megabytes:.0f} MB, "
            f"{options.sensors} sensors, crop {options.crop}"
        )
        for part in (4, 2, 1):
            passes = options.passes // part
            ours = alone(build, root / "archive", table, passes, options.crop, root / f"built{part}.zarr")
            print(f"smnb       {ours}")
        for way in NAIVE:
            few = table[: 1 if way == "whole" else None]
            passes = 1 if way == "whole" else max(1, options.passes // 4)
            theirs = alone(naive, root / "archive", few, passes, options.crop, root / f"{way}.zarr", way)
            ratio = theirs.cpu / theirs.points * ours.points / ours.cpu
            print(f"{way:10s} {theirs}  smnb is {ratio:.1f} times as fast")


if __name__ == "__main__":
    main()
