"""Reading a region of a full-size SPL3SMP_E day, beside xarray on the same file, in one run.

The file has the AM group of a day, 42 fields of 1624 x 3856 as in R18, gzip, with made-up values over swaths and land. How
NSIDC chunks SPL3SMP_E is not known to us: the one granule at hand (SPL2SMP) holds each field in a single gzip chunk. Both
are measured, chunks of 203 x 241 and one chunk a field. Each reading runs in a fresh process, in which dask has computed
something (the first time costs 0.1 s of imports): best CPU and wall time of the repeats, file in the page cache, and the
peak of resident memory above what was there before the call.

Run ``python benchmarks/bench_smap_reading.py [--repeat 3] [--days 30] [--west -105 --south 30 --size 10]``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import dask.array
import h5py
import numpy as np
import xarray as xr

from benchmarks.measure import resident_memory
from smnb.grids import M09
from smnb.loaders.smap import count_masks, open_l3, utc_to_seconds

VARIABLES = ("soil_moisture", "tb", "retrieval_qual_flag", "surface_flag", "tb_qual_flag_h", "tb_qual_flag_v")
NATIVE = ("soil_moisture", "tb_h_corrected", "tb_v_corrected", *VARIABLES[2:])
RETRIEVED = [
    f"{name}{suffix}" for name in ("soil_moisture", "vegetation_opacity") for suffix in ("", "_dca", "_scah", "_scav")
]
FLOATS = [
    "tb_h_corrected",
    "tb_v_corrected",
    "tb_3_corrected",
    "tb_4_corrected",
    "boresight_incidence",
    "latitude_centroid",
    "longitude_centroid",
    "surface_temperature",
    "vegetation_water_content",
    "albedo",
    "albedo_dca",
    "roughness_coefficient",
    "roughness_coefficient_dca",
    "clay_fraction",
    "sand_fraction",
    "bulk_density",
    "static_water_body_fraction",
    "radar_water_body_fraction",
    "freeze_thaw_fraction",
]
FLAGS = [
    "retrieval_qual_flag",
    "retrieval_qual_flag_dca",
    "retrieval_qual_flag_scah",
    "retrieval_qual_flag_scav",
    "surface_flag",
    "tb_qual_flag_h",
    "tb_qual_flag_v",
    "tb_qual_flag_3",
    "tb_qual_flag_4",
    "grid_surface_status",
    "EASE_row_index",
    "EASE_column_index",
]
GROUP = "Soil_Moisture_Retrieval_Data"


def write_day(path: Path, chunks: tuple[int, int]) -> None:
    """One day; swaths cover half of the globe and land a third of it, in blobs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : M09.n_rows, 0 : M09.n_cols].astype("float32")
    swath = (x + 0.35 * y) % 780 < 420
    land = np.sin(x / 310) * np.cos(y / 205) + 0.4 * np.sin(x / 77 + y / 53) > 0.3
    seen = swath & land
    with h5py.File(path, "w") as file:
        group = file.create_group(f"{GROUP}_AM")

        def put(name: str, values: np.ndarray, fill: float | None, units: str = "") -> None:
            layers = (3,) if values.ndim == 3 else ()
            options = {"chunks": chunks + layers, "compression": "gzip", "compression_opts": 1}
            field = group.create_dataset(name, data=values, **options)
            if fill is not None:
                field.attrs["_FillValue"] = values.dtype.type(fill)
            if units:
                field.attrs["units"] = np.bytes_(units)

        def filled(where: np.ndarray, low: float, high: float) -> np.ndarray:
            values = np.full(M09.shape, -9999.0, "float32")
            values[where] = rng.uniform(low, high, int(where.sum()))
            return values

        for name in RETRIEVED:
            put(name, filled(seen, 0.03, 0.5), -9999.0, "cm**3/cm**3" if name.startswith("soil") else "")
        for name in FLOATS:
            kelvin = name.startswith(("tb", "surface_t"))
            where = swath if name.startswith(("tb", "bore", "lat", "lon")) else seen
            put(name, filled(where, 150, 290) if kelvin else filled(where, 0.1, 0.9), -9999.0, "Kelvin" * kelvin)
        for name in FLAGS:
            values = np.full(M09.shape, 65534, "uint16")
            values[swath] = rng.choice(np.array([0, 0, 0, 1, 4], "uint16"), int(swath.sum()))
            put(name, values, 65534)
        seconds = np.where(swath, utc_to_seconds(np.datetime64("2020-02-16T12:00:00")) + y, -9999.0)
        put("tb_time_seconds", seconds, -9999.0, "seconds")
        put("tb_time_utc", np.where(swath, b"2020-02-16T12:00:00.000Z", b"").astype("S24"), None)
        put("landcover_class", np.repeat(np.where(land, 10, 254).astype("u1")[..., None], 3, axis=2), 254)
        print(f"  {len(group)} fields")


def xarray_group(path: str, region: Any) -> dict[str, np.ndarray]:
    with xr.open_dataset(path, group=f"{GROUP}_AM", engine="h5netcdf", phony_dims="sort", decode_times=False) as ds:
        loaded = ds.load()
    window = M09.window(west=region[0], south=region[1], east=region[2], north=region[3])
    return {name: loaded[name].values[window.rows, window.cols] for name in NATIVE}


def xarray_region(path: str, region: Any) -> dict[str, np.ndarray]:
    window = M09.window(west=region[0], south=region[1], east=region[2], north=region[3])
    with xr.open_dataset(path, group=f"{GROUP}_AM", engine="h5netcdf", phony_dims="sort", decode_times=False) as ds:
        return {name: ds[name][window.rows, window.cols].values for name in NATIVE}


def smnb_region(path: str, region: Any) -> dict[str, np.ndarray]:
    ds = count_masks(
        open_l3(
            [path], catalog_id="smap_l3_e", region=region, variables=VARIABLES, flag_policy="none", tb_policy="none"
        ).compute()
    )
    found = {name: ds[name].values[0] for name in VARIABLES if name != "tb"}
    return found | {f"tb_{p}_corrected": ds["tb"].sel(channel=f"1.41{p.upper()}").values[0] for p in "hv"}


def smnb_days(paths: list[str], region: Any) -> dict[str, Any]:
    start = time.perf_counter()
    ds = open_l3(paths, catalog_id="smap_l3_e", region=region, variables=VARIABLES)
    opened = time.perf_counter() - start
    ds = ds.compute()
    return {
        "opened": opened,
        "computed": time.perf_counter() - start - opened,
        "size": dict(ds.sizes),
        "bytes": ds.nbytes,
    }


READERS = {
    "xarray, the whole AM group": xarray_group,
    "xarray, the same fields of the region": xarray_region,
    "smnb open_l3": smnb_region,
    "smnb open_l3, days": smnb_days,
}


def child(reader: str, argument: Any, region: Any, connection: Any) -> None:
    warnings.simplefilter("ignore")
    dask.array.zeros(1).compute()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, cpu, wall = resident_memory("VmRSS"), time.process_time(), time.perf_counter()
    found = READERS[reader](argument, region)
    took = time.process_time() - cpu, time.perf_counter() - wall, (resident_memory() - before) / 2**20
    connection.send((*took, found))


def measure(reader: str, argument: Any, region: Any, repeat: int) -> tuple[float, float, float, Any]:
    """Least CPU and wall time, s, largest peak, MiB, and the result."""
    context = multiprocessing.get_context("spawn")
    runs = []
    for _ in range(repeat):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(reader, argument, region, theirs))
        process.start()
        runs.append(ours.recv())
        process.join()
    return min(r[0] for r in runs), min(r[1] for r in runs), max(r[2] for r in runs), runs[0][3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("repeat", 3), ("days", 30), ("west", -105.0), ("south", 30.0), ("size", 10.0)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    options = parser.parse_args()
    region = (options.west, options.south, options.west + options.size, options.south + options.size)
    window = M09.window(west=region[0], south=region[1], east=region[2], north=region[3])
    print(f"region {region}: {window}, {window.shape[0] * window.shape[1]} cells; best of {options.repeat}")
    with tempfile.TemporaryDirectory() as folder:
        for title, chunks in (("chunks of 203 x 241", (203, 241)), ("one chunk a field", M09.shape)):
            print(f"\n{title}:")
            path = Path(folder) / "SMAP_L3_SM_P_E_20200201_R18240_001.h5"
            write_day(path, chunks)
            print(f"  {path.stat().st_size / 2**20:.0f} MiB")
            found = {name: measure(name, str(path), region, options.repeat) for name in list(READERS)[:3]}
            cpu, wall, _, ours = found["smnb open_l3"]
            for name, (seconds, elapsed, peak, values) in found.items():
                same = all(np.array_equal(values[key], ours[key], equal_nan=True) for key in NATIVE[:3])
                print(
                    f"  {name:38} {seconds:8.3f} s CPU ({seconds / cpu:6.1f} x) {elapsed:8.3f} s wall "
                    f"({elapsed / wall:6.1f} x)  peak +{peak:7.1f} MiB  same values: {same}"
                )
            paths = [path]
            for k in range(1, options.days):  # other days by name; one file, for the disk's sake
                day = str(np.datetime64("2020-02-01") + k).replace("-", "")
                paths.append(path.with_name(f"SMAP_L3_SM_P_E_{day}_R18240_001.h5"))
                os.link(path, paths[-1])
            cpu, _, peak, days = measure("smnb open_l3, days", [str(p) for p in paths], region, 1)
            print(
                f"  {options.days} days as one Dataset {days['size']}:\n    open {days['opened']:.2f} s, compute "
                f"{days['computed']:.2f} s, {cpu:.2f} s CPU, result {days['bytes'] / 2**20:.1f} MiB, "
                f"peak +{peak:.1f} MiB"
            )
            for link in paths:
                link.unlink()


if __name__ == "__main__":
    main()
