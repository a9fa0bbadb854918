"""One bit that flips in a file of ours is never another value: an error that names the file, or it is made again.

A flip that leaves all values as they were, such as one in padding, is "same".
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import RootModel

from smnb.contract import SmnbError
from smnb.files import read_json, write_json
from smnb.loaders.insitu import read_tables, write_tables
from smnb.loaders.rasters.images import BandSource, OpenImage, read_header
from smnb.loaders.rasters.options import BandOption, Meaning
from smnb.maps import soil_moisture_map, write_map
from smnb.maps.checkpoint import open_map_input
from smnb.papers.batchu2023.store import SampleStore, SampleStoreWriter
from smnb.sensors import read_predictions, write_predictions

#: Bits flipped of each kind: in `make test`, and in `make faults`.
QUICK, MANY = 24, 600


def same(one: Any, other: Any) -> bool:
    """Whether two results are the same in every value, name and type."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, pd.DataFrame):
        return one.equals(other) and list(one.dtypes) == list(other.dtypes)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
    return one == other


def flip(campaign, count: int, paths: list[Path], read: Callable[[], Any], capsys=None) -> None:
    """Flip one bit of some files, each byte as likely, and read; the files are whole again afterwards."""
    whole = {path: path.read_bytes() for path in paths if path.stat().st_size}
    right, sizes = read(), [len(one) for one in whole.values()]
    for chance in campaign.trials(count, 60):
        path, content = chance.choices(list(whole.items()), sizes)[0]
        damaged, bit = bytearray(content), chance.randrange(8 * len(content))
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read()
        except (SmnbError, FileNotFoundError) as error:
            unnamed = not any(one.name in str(error) for one in (path, *path.parents) if one.suffix)
            campaign.outcomes["refused, without its name" if unnamed else "refused"] += 1
        else:
            told = capsys.readouterr().err if capsys else ""
            campaign.outcomes["made again" if "note: " in told else "same"] += 1
            assert same(found, right), f"bit {bit} of {path.name}, seed {campaign.seed}"
        for one, content in whole.items():
            one.write_bytes(content)
    assert not campaign.outcomes["refused, without its name"]


def predictions(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    times = pd.date_range("2020-01-01", periods=40, freq="12h")
    values = np.linspace(0.1, 0.4, 80)
    table = pd.DataFrame({"sensor_id": np.repeat(["a", "b"], 40), "time": [*times, *times]})
    path = write_predictions(table.assign(observed=values, predicted=values[::-1]), folder / "p.parquet")
    return [path], lambda: read_predictions(path)


def readings(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    head = "NET NET A 40.0 -100.0 300.0 0.05 0.05 EC5\n"
    lines = [
        f"2019/01/{day:02d} {hour:02d}:00 {0.2 + hour / 100 + day / 1000:.3f} G M\n"
        for day in range(1, 29)
        for hour in range(24)
    ]
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr("NET/A/NET_NET_A_sm_0.050000_0.050000_EC5_20190101_20190131.stm", head + "".join(lines))
    write_tables([folder / "a.zip"], folder / "out", flags="all")

    def read() -> dict[str, Any]:
        found = read_tables(folder / "out")
        return {"sensors": found.sensors, "readings": found.readings, "about": [found.catalog_id, found.synthetic]}

    return sorted((folder / "out").glob("*.parquet")), read


def store(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    n, random = 40, np.random.default_rng(3)
    writer = SampleStoreWriter(folder / "s.zarr", sources=["sentinel1"], crop=8)
    values = random.random((n, len(writer.sources["sentinel1"].bands), 8, 8))
    times = pd.date_range("2020-01-01", periods=n)
    columns = {"label": random.random(n), "time": times, "sensor": np.arange(n) % 4, "sentinel1/values": values}
    writer.write(0, columns | {"sentinel1/time": times, "sentinel1/scene": ["a", "b"] * (n // 2)})
    writer.finish(pd.DataFrame({"sensor_id": list("abcd"), "split_test": ["train", "test"] * 2}))

    def read() -> dict[str, Any]:
        found = SampleStore(folder / "s.zarr")
        images, times = found.read("sentinel1"), found.image_times("sentinel1")
        scenes = list(found.scene_ids("sentinel1"))
        return {"sensors": found.sensors, "samples": found.samples, "images": images, "times": times, "scenes": scenes}

    return [path for path in (folder / "s.zarr").rglob("*") if path.is_file()], read


def record(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    content = {"rmse": 0.0412, "names": ["a", "b"], "n": {"test": 12}}
    path = write_json(folder / "a.json", content)

    def read() -> dict[str, Any]:
        found = read_json(path, RootModel[dict], "a record").root
        return {name: found.get(name) for name in content}

    return [path], read


def a_map(folder: Path, suffix: str) -> tuple[list[Path], Path]:
    values = np.random.default_rng(4).random((40, 60), dtype="float32")
    values[:9, :9] = np.nan
    places = {"lat": np.linspace(41.1, 45, 40), "lon": np.linspace(-100, -94.1, 60)}
    mapped = soil_moisture_map(values, ("lat", "lon"), places, synthetic=False, source="a network", step="made")
    path = write_map(mapped, folder / f"m{suffix}")
    return [one for one in [path, *path.rglob("*")] if one.is_file()], path


def map_netcdf(folder: Path, suffix: str = ".nc") -> tuple[list[Path], Callable[[], Any]]:
    paths, path = a_map(folder, suffix)

    def read() -> dict[str, Any]:
        with open_map_input(path) as found:
            return {str(name): one.values for name, one in found.variables.items()}

    return paths, read


def map_zarr(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    return map_netcdf(folder, ".zarr")


def map_geotiff(folder: Path) -> tuple[list[Path], Callable[[], Any]]:
    paths, path = a_map(folder, ".tif")

    def read() -> dict[str, Any]:
        header = read_header("m.tif", str(path))
        image, whole = OpenImage("m.tif", str(path)), (header.geometry.height, header.geometry.width)
        band = BandSource(str(path), "image", 1, None, BandOption(name="soil_moisture", where=1, meaning=Meaning()))
        try:
            return {"place": header.geometry, "values": np.ma.getdata(image.read([band], *((0, n) for n in whole))[0])}
        finally:
            image.close()

    return paths, read


KINDS = {one.__name__: one for one in (readings, predictions, store, record, map_netcdf, map_zarr, map_geotiff)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bit_that_flips_is_never_another_value(kind, campaign, tmp_path, capsys):
    flip(campaign, QUICK, *KINDS[kind](tmp_path), capsys)


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_many_bits(kind, campaign, tmp_path, capsys):
    flip(campaign, MANY, *KINDS[kind](tmp_path), capsys)
