"""``smnb matchup`` on real GeoTIFFs through a catalog, against crops that rasterio cuts on its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from rasterio.transform import from_origin
from rasterio.warp import transform as transform_points
from typer.testing import CliRunner

from smnb.cli.app import app as APP
from smnb.contract import ParameterError, RunError
from smnb.papers.batchu2023.store import SampleStore

WEST, NORTH, SIDE, CROP = 620_000.0, 3_360_000.0, 400, 64


def write_tiff(path, values, *, descriptions, tags=None, crs="EPSG:32614", transform=None, nodata=np.nan):
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "count": len(values),
        "height": values.shape[1],
        "width": values.shape[2],
        "crs": crs,
        "dtype": "float32",
        "transform": transform or from_origin(WEST, NORTH, 10, 10),
        "nodata": nodata,
    }
    with rasterio.open(path, "w", tiled=True, blockxsize=128, blockysize=128, **profile) as raster:
        raster.write(values.astype("float32"))
        raster.descriptions = descriptions
        raster.update_tags(**(tags or {}))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three sensors, the third off the rasters; four passes, of which one has no data at the second sensor."""
    root = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(2)
    x, y = np.array([WEST + 1203, WEST + 2788, WEST + 90_000]), np.array([NORTH - 1502, NORTH - 2516, NORTH - 1000])
    lon, lat = map(np.array, transform_points("EPSG:32614", "EPSG:4326", x, y))
    sensors = pd.DataFrame(
        {
            "sensor_id": ["n__a__x", "n__b__x", "n__c__x"],
            "network": "n",
            "station": list("abc"),
            "lat": lat,
            "lon": lon,
            "depth_from": 0.05,
            "depth_to": 0.05,
            "lc_2010": 10,
        }
    )
    times = pd.date_range("2020-06-01", periods=24 * 20, freq="h")
    readings = pd.concat(
        [
            pd.DataFrame(
                {
                    "sensor_id": one,
                    "time": times,
                    "soil_moisture": rng.random(times.size).astype("float32") / 2,
                    "flag": "G",
                    "provider_flag": "M",
                }
            )
            for one in sensors["sensor_id"]
        ]
    )
    (root / "insitu").mkdir()
    sensors.to_parquet(root / "insitu" / "sensors.parquet")
    readings.to_parquet(root / "insitu" / "readings.parquet", index=False)
    truth = {}
    for day in (3, 9, 15, 19):
        values = np.stack(
            [rng.uniform(-20, -6, (SIDE, SIDE)), rng.uniform(-24, -12, (SIDE, SIDE)), np.full((SIDE, SIDE), 38.0)]
        )
        if day == 9:
            values[:, 200:] = np.nan
        truth[f"2020-06-{day:02d}"] = values.astype("float32")
        name = f"S1A_IW_GRDH_1SDV_202006{day:02d}T003012_x.tif"
        write_tiff(root / "s1" / name, values, descriptions=("VV", "VH", "angle"))
    coarse = from_origin(-98, 31, 0.1, 0.1)
    for day in range(1, 20, 3):
        values = rng.uniform(2, 20, (1, 20, 20)).astype("float32")
        write_tiff(
            root / "smap" / f"smap_202006{day:02d}.tif",
            values,
            descriptions=("ssm",),
            crs="EPSG:4326",
            transform=coarse,
        )
    return root, sensors, readings, truth


@pytest.fixture
def run(archive, tmp_path, monkeypatch):
    entry = {
        "description": "Scenes.",
        "licence": "none",
        "fetch": {"by_hand": "none"},
        "loader": "smnb.loaders.rasters:open_scenes",
    }
    entries = {
        "s1": {
            **entry,
            "files": ["s1/*.tif"],
            "variables": {"VV": {"native": "VV", "units": "dB"}},
            "options": {
                "source": "sentinel1",
                "bands": {b: {"band": b} for b in ("VV", "VH", "angle")},
                "time": {"pattern": r"_(?P<time>\d{8}T\d{6})_", "format": "%Y%m%dT%H%M%S"},
            },
        },
        "smap": {
            **entry,
            "files": ["smap/*.tif"],
            "variables": {"ssm": {"native": "ssm", "units": "mm"}},
            "options": {
                "source": "smap",
                "bands": {"ssm": {"band": 1}},
                "time": {"pattern": r"_(?P<time>\d{8})\.tif", "format": "%Y%m%d"},
            },
        },
    }
    (tmp_path / "data_catalog.yaml").write_text(yaml.safe_dump(entries))
    monkeypatch.chdir(tmp_path)
    base = ["matchup", "--insitu", str(archive[0] / "insitu"), "--root", str(archive[0]), "--crop", str(CROP)]
    base += ["--source", "sentinel1=s1", "--source", "smap=smap"]

    def invoke(*given):
        return CliRunner().invoke(APP, [*base, *given])

    invoke.base = base
    return invoke


def test_the_builder_loads_no_torch_and_every_name_of_the_door_is_there(run):
    code = f"""
import sys
from smnb.cli.app import app
from smnb.papers import batchu2023
app({[*run.base, "--out", "a.zarr", "--split", "none"]!r}, standalone_mode=False)
batchu2023.open_matchups, batchu2023.open_scenes_of, batchu2023.Source
assert "torch" not in sys.modules
assert {{name for name in batchu2023.__all__ if not hasattr(batchu2023, name)}} == set()
assert not hasattr(batchu2023, "another")
"""
    # a worker imports what its parent sends, which is not more
    subprocess.run([sys.executable, "-c", code], check=True)


def test_crops_are_those_that_rasterio_cuts(archive, run, tmp_path):
    root, sensors, readings, truth = archive
    # two sensors cannot fill three sides, so that the default splits are refused before anything is cut
    refused = run("--out", "a.zarr")
    assert isinstance(refused.exception, ParameterError)
    assert "no sensor is left" in str(refused.exception)
    assert not list(tmp_path.glob("*.zarr"))
    done = run("--out", "a.zarr", "--split", "none", "--json")
    again = run("--out", "a.zarr", "--split", "none")
    other = run("--out", "a.zarr", "--split", "none", "--anchor", "smap")
    assert done.exit_code == 0, done.exception
    content = json.loads(done.stdout)
    counts = content["counts"]
    assert counts["samples"] == 7  # 2 sensors x 4 passes, less one without data
    assert counts["sources"]["sentinel1"]["crop without any value"] == 1
    assert counts["sources"]["sentinel1"]["no scene covers the point"] == 24 * 20
    assert sum(counts["dropped"].values()) + 7 == counts["readings"]["kept"] == len(readings)
    assert "up to date" in again.stdout
    assert "7 samples of 2 sensors" in again.stdout
    assert isinstance(other.exception, RunError)
    store = SampleStore(tmp_path / "a.zarr")
    images, samples = store.read("sentinel1"), store.samples
    where = dict(zip(sensors["sensor_id"], zip(sensors["lat"], sensors["lon"], strict=True), strict=True))
    for i, row in samples.iterrows():
        lat, lon = where[row["sensor_id"]]
        (x,), (y,) = transform_points("EPSG:4326", "EPSG:32614", [lon], [lat])
        col, top = round((x - WEST) / 10) - CROP // 2, round((NORTH - y) / 10) - CROP // 2
        scene = truth[str(row["time"].date())]
        assert row["time"].hour == 1  # the pass is at 00:30
        crop = scene[:, top : top + CROP, col : col + CROP]
        expected = np.stack([(crop[0] + 25) / 30, (crop[1] + 25) / 30, crop[2] / 90])
        np.testing.assert_allclose(images[i], expected, atol=2.0**-11)
        with rasterio.open(
            root / "smap" / f"smap_{store.image_times('smap', [i])[0].astype('M8[D]').item():%Y%m%d}.tif"
        ) as raster:
            value = next(raster.sample([(lon, lat)]))[0] / 50
        assert store.read("smap", [i])[0, 0] == pytest.approx(value, rel=1e-6)


def test_a_crop_with_too_much_missing_is_dropped_and_counted(archive, run, tmp_path):
    """The swath of one pass ends beside the first sensor, without a tag: 27 of the 64 columns of its crop are zero."""
    root = tmp_path / "copy"
    shutil.copytree(archive[0], root)
    with rasterio.open(next((root / "s1").glob("*20200603*")), "r+") as raster:
        values = raster.read()
        values[:, :, 125:] = 0.0
        raster.write(values)
    for share, samples, lost in ((None, 6, 0), ("0.4", 5, 1), ("0.5", 6, 0)):
        more = [] if share is None else ["--max-missing", share]
        out = f"{share}.zarr"
        done = run("--root", str(root), "--out", out, "--split", "none", "--json", *more)
        assert done.exit_code == 0, done.exception
        counts = json.loads(done.stdout)["counts"]
        reason = f"crop with more than {100 * float(share or 0.5):g} % missing"
        assert (counts["samples"], counts["sources"]["sentinel1"][reason]) == (samples, lost)
        assert SampleStore(tmp_path / out).attrs["max_missing"] == float(share or 0.5)
    assert (
        "crop with more than 40 % missing 1"
        in run("--root", str(root), "--out", "0.4.zarr", "--split", "none", "--max-missing", "0.4").stdout
    )
    for wrong in ("-0.1", "1.5", "nan"):
        assert "'max_missing' is out of range" in str(run("--out", "b.zarr", "--max-missing", wrong).exception)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--source", "sentinel1"], "NAME=ENTRY"),
        (["--split", "moon"], r"'split' holds an unknown name.*\['moon'\]"),
        (["--source", "lidar=smap"], r"unknown sources \['lidar'\]"),
        (["--anchor", "gldas"], "unknown 'anchor'"),
        (["--optional", "sentinel1"], "the anchor 'sentinel1' is not among the sources, or is optional"),
        (["--flags", "nice"], "no such policy or flag"),
    ],
)
def test_mistakes_are_named(run, given, words):
    done = run("--out", "b.zarr", *given)
    assert isinstance(done.exception, ParameterError)
    with pytest.raises(ParameterError, match=words):
        raise done.exception


def test_a_store_of_other_pixels_bands_or_readings_is_never_up_to_date(archive, run, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(archive[0], root)
    place = ["--root", str(root), "--insitu", str(root / "insitu"), "--out", "a.zarr", "--split", "none"]

    def outcome():
        result = run(*place)
        return result.output if result.exit_code == 0 else str(result.exception)

    assert "written:" in outcome()
    before = SampleStore("a.zarr").read("sentinel1")
    assert "up to date: a.zarr" in outcome()
    for path in root.rglob("*.tif"):  # the same files elsewhere, with other times
        shutil.copy(path, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    assert "up to date: a.zarr" in outcome()
    path = root / "s1" / "S1A_IW_GRDH_1SDV_20200603T003012_x.tif"
    kept, stat = path.read_bytes(), path.stat()
    with rasterio.open(path, "r+") as raster:
        raster.write(raster.read() - 1)
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "a.zarr holds another store; got other scenes of sentinel1" in outcome()
    path.write_bytes(kept)
    assert "up to date: a.zarr" in outcome()
    catalog = Path("data_catalog.yaml")
    entries = catalog.read_text()
    changed = yaml.safe_load(entries)
    changed["s1"]["options"]["bands"] |= {"VV": {"band": "VH"}, "VH": {"band": "VV"}}
    scaled = yaml.safe_load(entries)
    scaled["smap"]["options"]["bands"]["ssm"]["scale"] = 0.5
    for content, source in ((changed, "sentinel1"), (scaled, "smap")):
        catalog.write_text(yaml.safe_dump(content))
        assert f"got other scenes of {source}" in outcome()
    assert run(*place, "--no-resume").exit_code == 0
    assert "up to date: a.zarr" in outcome()
    catalog.write_text(entries)
    assert run(*place, "--no-resume").exit_code == 0
    np.testing.assert_array_equal(SampleStore("a.zarr").read("sentinel1"), before)
    readings = pd.read_parquet(root / "insitu" / "readings.parquet")
    for change in ({"soil_moisture": readings["soil_moisture"] / 2}, {"flag": ["D01", *readings["flag"][1:]]}):
        readings.assign(**change).to_parquet(root / "insitu" / "readings.parquet", index=False)
        assert "holds another store; got other" in outcome()
