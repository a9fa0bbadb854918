"""Index and read an ISMN archive: smnb beside the package `ismn`, in one run; then smnb's memory by number of sensors.

Usage: python benchmarks/bench_insitu_ingest.py ARCHIVE.zip

`ismn` gets its best of one process and of several, and a temporary folder of its own for metadata and extraction. Both
sides read every soil-moisture file of the archive; rows are lines of data, whatever their flag. Needs `pip install ismn`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.measure import best_of, resident_memory
from smnb.loaders.insitu import index_archive, open_insitu, write_tables

_CHILD = "--measure-memory"


def ismn_index(archive: Path, folder: Path, *, parallel: bool) -> Any:
    """Build `ismn`'s index from nothing."""
    from ismn.interface import ISMN_Interface

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return ISMN_Interface(
            archive,
            meta_path=folder / "meta",
            parallel=parallel,
            temp_root=folder / "temp",
            force_metadata_collection=True,
        )


def ismn_rows(interface: Any) -> int:
    """Read every soil-moisture sensor and count the rows."""
    sensors = interface.collection.iter_sensors(variable="soil_moisture")
    return sum(len(sensor.read_data()) for _, _, sensor in sensors)


def subset(archive: Path, sensors: int, out: Path) -> Path:
    """Zip of an archive's first data files."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name in [name for name in source.namelist() if name.endswith(".stm")][:sensors]:
            target.writestr(name, source.read(name))
    return out


def peak_mb(archive: Path) -> tuple[float, int]:
    """Peak memory in MB of an ingest in a process of its own, and the number of readings."""
    printed = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_insitu_ingest", str(archive.resolve()), _CHILD],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(printed.stdout)
    return found["mb"], found["read"]


#: Real sample archive, which is not part of the repository.
SAMPLE = Path(os.environ.get("SMNB_SHARED", Path(__file__).resolve().parents[2] / "shared")) / (
    "samples/conus_s1s2smap_2019_2021/ismn_sm_5cm_2019_2021.zip"
)


def main() -> None:
    """Print times, rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, nargs="?", default=SAMPLE, help="ISMN zip; default the CONUS sample")
    parser.add_argument(_CHILD, action="store_true", dest="child")
    options = parser.parse_args()
    if not options.archive.is_file():
        print(f"skipped: there is no archive {options.archive.name}; name one, or set SMNB_SHARED")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.child:
            report = write_tables(options.archive, folder, flags="all", depth=None)
            print(json.dumps({"mb": resident_memory() / 1e6, "read": report["readings"]["read"]}))
            return
        compare(options.archive, folder)


def compare(archive: Path, folder: Path) -> None:
    """The side-by-side run."""
    import ismn

    logging.disable(logging.CRITICAL)
    print(f"ismn {ismn.__version__}, {archive.name}")
    ours, frame = best_of(lambda: index_archive(archive), 3)
    theirs = {}
    for parallel in (False, True):
        theirs[parallel], interface = best_of(lambda p=parallel: ismn_index(archive, folder / str(p), parallel=p))
    best = min(theirs.values())
    print(
        f"cold index of {len(frame)} sensors: smnb {ours:.2f} s; ismn {theirs[False]:.2f} s (one process), "
        f"{theirs[True]:.2f} s (parallel); ratio {best / ours:.1f}"
    )
    ours, written, seconds = [], [], []
    cpu = {"smnb table": float("inf"), "smnb Parquet": float("inf"), "ismn": float("inf")}
    for _ in range(3):  # in turns, so that what else the machine does hits both sides
        clock = [time.process_time()]
        took, tables = best_of(lambda: open_insitu([archive], catalog_id="bench", flags="all", depth=None))
        ours.append(took)
        clock.append(time.process_time())
        took, _ = best_of(lambda: write_tables(archive, folder / "out", flags="all", depth=None))
        written.append(took)
        clock.append(time.process_time())
        took, their_rows = best_of(lambda: ismn_rows(interface))
        seconds.append(took)
        clock.append(time.process_time())
        cpu = {name: min(best, clock[i + 1] - clock[i]) for i, (name, best) in enumerate(cpu.items())}
    ours, written, seconds = min(ours), min(written), min(seconds)
    rows = tables.report["readings"]["read"]
    rate = their_rows / seconds
    print(
        f"reading: smnb {rows:,} rows in {ours:.2f} s = {rows / ours:,.0f} rows/s into a table, "
        f"{rows / written:,.0f} rows/s into Parquet"
    )
    print(
        f"         ismn {their_rows:,} rows in {seconds:.2f} s = {rate:,.0f} rows/s; "
        f"ratio {rows / ours / rate:.1f} (table), {rows / written / rate:.1f} (Parquet)"
    )
    print("         processor seconds, all threads: " + ", ".join(f"{name} {one:.2f}" for name, one in cpu.items()))
    for sensors in (len(frame) // 4, len(frame) // 2, len(frame)):
        peak, read = peak_mb(subset(archive, sensors, folder / f"{sensors}.zip"))
        print(f"peak memory of ingest, {sensors} sensors, {read:,} readings: {peak:.0f} MB")


if __name__ == "__main__":
    main()
