"""The operations whose outputs are kept, small enough for hundreds of sequences: ingest, matchup and map in this process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import doors
import numpy as np
import pandas as pd
import test_matchup_images as matchups
from test_loaders_insitu import write_zip

from smnb.contract import FormatError
from smnb.loaders.insitu import read_tables, write_tables
from smnb.maps import map_checkpoint
from smnb.papers.batchu2023 import build_matchups
from smnb.papers.batchu2023.store import SampleStore


@dataclass(frozen=True)
class Operation:
    """`run` writes into a folder, from an input version and a choice of parameters; `read` gives the values of what it wrote."""

    name: str
    run: Callable[[Path, int, int], Any]
    read: Callable[[Path], Any]
    refuses: bool  # whether an output of other parameters may be refused instead of replaced


# --- ingest -----------------------------------------------------------------------------------------------------------

FLAGS = ({"flags": "all", "depth": None}, {"flags": "paper"})


def ingest(folder: Path, version: int, choice: int) -> None:
    members = doors.sensors("header")
    if version:  # as long as the other, so that sizes tell nothing
        members = {name: str(text).replace(" 0.210", " 0.310") for name, text in members.items()}
    archive = folder / "Data.zip"
    if not archive.is_file() or (folder / "version").read_text() != str(version):
        write_zip(archive, members)
        (folder / "version").write_text(str(version))
    write_tables(archive, folder / "insitu", cache_dir=folder / "cache", **FLAGS[choice])


def read_ingested(folder: Path) -> Any:
    found = read_tables(folder / "insitu")
    return [found.sensors, found.readings]


# --- matchup ----------------------------------------------------------------------------------------------------------


def matchup(folder: Path, version: int, choice: int) -> None:
    insitu, scenes = matchups.built_case(folder)
    insitu = matchups.tables(insitu.sensors, insitu.readings[insitu.readings["time"] < pd.Timestamp("2019-04-16")])
    for name, number in (("sentinel1", 12), ("smap", 5), ("gldas", 100)):
        scenes[name].table = scenes[name].table.iloc[:number].reset_index(drop=True)
    for one in scenes.values():
        one.log = None
    scenes["sentinel1"].empty = {2, 4} if version else {2}
    options = {"crop": matchups.CROP, "optional": ("modis_lai",), "splits": matchups.SPLITS if choice else {}}
    build_matchups(insitu, scenes, out=folder / "a.zarr", **options)


def read_matched(folder: Path) -> Any:
    store = SampleStore(folder / "a.zarr")
    found: list[Any] = [store.samples, store.sensors, store.attrs["counts"]]
    for name in ("sentinel1", "sentinel2", "smap", "gldas", "dem", "soilgrids", "modis_lai"):
        found += [store.read(name), store.image_times(name), store.scene_ids(name)]
    return found


# --- map --------------------------------------------------------------------------------------------------------------


def make_map(folder: Path, version: int, choice: int) -> None:
    made = folder.parent / f"map-input-{version}"
    if not made.is_dir():  # a kill may come here too
        half = Path(tempfile.mkdtemp(dir=folder.parent))
        doors.map_input(half)
        if version:
            import xarray as xr

            with xr.open_dataset(half / "scene.nc", engine="h5netcdf") as scene:
                other = scene.load()
            other["tb"] += 1.5
            other.to_netcdf(half / "scene.nc", engine="h5netcdf")
        half.rename(made)
    for name in ("scene.nc", "model.json", "model.safetensors"):
        shutil.copyfile(made / name, folder / name)
    map_checkpoint(folder / "model", folder / "scene.nc", folder / "map.zarr", tile=(16, 10)[choice])


def read_map(folder: Path) -> Any:
    import xarray as xr

    try:
        with xr.open_zarr(folder / "map.zarr", consolidated=False) as mapped:
            return {str(name): np.asarray(array.values) for name, array in mapped.variables.items()}
    except Exception as error:  # a map is for others to read, whose words these are
        raise FormatError("xarray", f"the map is unreadable: {type(error).__name__}") from error


OPERATIONS = {
    one.name: one
    for one in (
        Operation("ingest", ingest, read_ingested, False),
        Operation("matchup", matchup, read_matched, True),
        Operation("map", make_map, read_map, True),
    )
}


# --- a kill -----------------------------------------------------------------------------------------------------------

EVENTS = (
    "fsync",
    "replace",
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
)  # where a process may be killed: around each change of the disk


@contextlib.contextmanager
def killed_at(number: int, after: bool) -> Iterator[None]:
    """End this process, as SIGKILL does, before or after its change of the disk with this number."""
    left = number

    def counted(usual: Callable) -> Callable:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = usual(*arguments, **named)
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return call

    usual = {name: getattr(os, name) for name in EVENTS}
    for name, function in usual.items():
        setattr(os, name, counted(function))
    try:
        yield
    finally:
        for name, function in usual.items():
            setattr(os, name, function)


def kill(
    operation: Operation, folder: Path, version: int, choice: int, at: int, after: bool, patience: float = 30.0
) -> bool:
    """Run an operation in a process of its own and kill it at a change of the disk; whether it was killed before its end."""
    child = os.fork()
    if child == 0:
        try:
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1), os.dup2(silent, 2)
            with killed_at(at, after):
                operation.run(folder, version, choice)
        finally:
            os._exit(0)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.WIFSIGNALED(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True
