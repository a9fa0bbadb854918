"""The command map: a map from a checkpoint and a file, as text and JSON, and one clear line for mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
import zarr

from smnb.cli import app as cli
from smnb.contract import FormatError, stamp
from smnb.files import held_output
from smnb.grids import M01, EaseWindow
from smnb.maps.checkpoint import open_map_input
from smnb.models import build_model
from smnb.training import MinMaxScaler, load, save

CHANNELS = ("1.41H", "1.41V", "VV", "VH")
WINDOW = EaseWindow(M01, 2500, 2530, 7000, 7041)


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scene(tmp_path) -> np.ndarray:
    """``scene.nc`` and the checkpoint ``model``."""
    rng = np.random.default_rng(1)
    values = rng.uniform(0, 1, (4, *WINDOW.shape)).astype("float32")
    values[:2] = 200 + 80 * values[:2]
    values[2:] = -25 + 20 * values[2:]
    values[2, 3:6, 10:20] = np.nan
    dataset = xr.Dataset(
        {
            "tb": (("channel", "y", "x"), values[:2], {"units": "K"}),
            "sigma0": (("polarization", "y", "x"), values[2:], {"units": "dB"}),
        },
        {**WINDOW.coords(), "channel": list(CHANNELS[:2]), "polarization": list(CHANNELS[2:])},
    )
    stamp(dataset, source="test", catalog_id="test", synthetic=True, step="made")
    dataset.to_netcdf("scene.nc", engine="h5netcdf")
    torch.manual_seed(2)
    save(
        "model",
        build_model("fusion_1km", {"features": 4}).eval(),
        channels=CHANNELS,
        input_scaler=MinMaxScaler.fit(np.moveaxis(values, 0, -1)),
        target_scaler=MinMaxScaler((0.0,), (0.5,), (0.4,)),
    )
    return values


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def test_a_map_is_written_and_counted(scene, capsys) -> None:
    status, out, err = call(capsys, "map", "model", "scene.nc", "--out", "map.tif", "--tile", 16)
    assert status == 0, err
    assert "1,230 cells in 6 tiles, 30 of them missing (VV 30)" in out
    assert "map: 6/6" in err
    loaded = load("model")
    scaled = loaded.input_scaler.transform(np.moveaxis(scene, 0, -1))
    scaled = np.where(np.isfinite(scaled), scaled, np.asarray(loaded.input_scaler.fill, "float32"))
    with torch.inference_mode():
        expected = loaded.model(torch.from_numpy(np.moveaxis(scaled, -1, 0).copy())[None])[0].numpy() * 0.5
    expected[3:6, 10:20] = np.nan
    with rasterio.open("map.tif") as tif:
        np.testing.assert_allclose(tif.read(1), expected, atol=1e-5, rtol=0, equal_nan=True)
    status, out, _ = call(capsys, "map", "model", "scene.nc", "--out", "map.tif", "--tile", 16)
    assert (status, out) == (0, "up to date: map.tif\n")


def test_json_says_what_was_done(scene, capsys) -> None:
    status, out, _ = call(capsys, "map", "model.json", "scene.nc", "--out", "map.zarr", "--json")
    content = json.loads(out)
    assert status == 0
    assert content.pop("seconds") > 0
    assert content == {
        "written": "map.zarr",
        "cells": 1230,
        "predicted": 1200,
        "missing": 30,
        "tiles": 1,
        "resumed": 0,
        "missing_by_channel": {"1.41H": 0, "1.41V": 0, "VV": 30, "VH": 0},
        "was_finished": False,
    }
    with xr.open_zarr("map.zarr") as mapped:
        assert int(mapped["soil_moisture"].isnull().sum()) == 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("model", "absent.nc", "--out", "map.tif"), ["no such file", "absent.nc"]),
        (("absent", "scene.nc", "--out", "map.tif"), ["absent.safetensors is missing"]),
        (("model", "scene.nc", "--out", "map.png"), ["unknown kind of file", "'.nc', '.zarr', '.tif'"]),
        (("model", "scene.nc", "--out", "map.tif", "--tile", 0), ["'tile'", "at least 1"]),
        (("model", "scene.nc", "--out", "map.tif", "--precision", "half"), ["'float32', 'bfloat16'"]),
        (("model", "scene.nc", "--out", "map.tif", "--device", "tpu"), ["device", "'auto'"]),
        (("model", "scene.nc"), ["Missing option '--out'"]),
    ],
)
def test_mistakes_are_one_clear_line(scene, capsys, arguments, words) -> None:
    status, _, err = call(capsys, "map", *arguments)
    assert status == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_a_map_is_made_by_one_process_and_where_it_can_be(scene, capsys, tmp_path) -> None:
    with held_output("test", "map.tif"):
        status, _, err = call(capsys, "map", "model", "scene.nc", "--out", "map.tif")
    assert (status, err.count("\n")) == (2, 1)
    assert f"another process is writing this output: process {os.getpid()} on " in err
    (tmp_path / "folder.tif").mkdir()
    for out, cause in (("folder.tif", "Is a directory"), ("scene.nc/map.tif", "Not a directory")):
        status, _, err = call(capsys, "map", "model", "scene.nc", "--out", out)
        assert (status, err.split(". ")[0]) == (2, f"error: write_map: cannot write {out}; got {cause}")
    (tmp_path / ".map.tif.partial-0.tif").write_text("left by a kill")
    assert call(capsys, "map", "model", "scene.nc", "--out", "map.tif")[0] == 0
    (tmp_path / ".map.tif.tiles").mkdir()
    assert "up to date" in call(capsys, "map", "model", "scene.nc", "--out", "map.tif")[1]
    assert not list(tmp_path.glob(".map*"))


@pytest.mark.parametrize("name", ["map.tif", "map.zarr"])
def test_a_full_disk_is_one_line(scene, tmp_path, name) -> None:
    """A limit on the size of files is what a full disk is: a write that fails in the middle."""
    code = (
        "import resource, signal, sys; from smnb.maps import writing; from smnb import cli\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); real = writing._whole\n"
        "def limited(path):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)); return real(path)\n"
        "writing._whole = limited; cli.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "map", "model", "scene.nc", "--out", name]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == f"error: {name}: File too large"
    assert "Traceback" not in done.stderr
    assert not (tmp_path / name).exists()


def test_too_little_space_is_said_before_the_work(scene, capsys, monkeypatch) -> None:
    """HDF5 ends the process when a disk gets full."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1230 * 4 - 1))
    monkeypatch.setattr("smnb.maps.forms.scan_inputs", None)  # not reached
    status, _, err = call(capsys, "map", "model", "scene.nc", "--out", "map.nc")
    assert (status, err.split(". ")[0]) == (2, "error: write_map: cannot write map.nc; got No space left on device")


def test_an_existing_file_of_something_else_stays(scene, capsys, tmp_path) -> None:
    (tmp_path / "map.tif").write_text("precious")
    for option in ("--resume", "--no-resume"):
        status, _, err = call(capsys, "map", "model", "scene.nc", "--out", "map.tif", option)
        assert status == 2
        assert "exists and is no map" in err
        assert (tmp_path / "map.tif").read_text() == "precious"


def test_another_map_is_replaced_only_when_asked(scene, capsys) -> None:
    assert call(capsys, "map", "model", "scene.nc", "--out", "map.zarr")[0] == 0
    status, _, err = call(capsys, "map", "model", "scene.nc", "--out", "map.zarr", "--tile", 20)
    assert status == 2
    assert "exists and is another map" in err
    assert "--no-resume" in err
    status, out, _ = call(capsys, "map", "model", "scene.nc", "--out", "map.zarr", "--tile", 20, "--no-resume")
    assert (status, "in 6 tiles" in out) == (0, True)


def test_a_zarr_input_is_bounded_as_a_stack_is(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array(
        "tb", shape=(20_000, 20_000), chunks=(20_000, 20_000), dtype="float32", dimension_names=("y", "x")
    )
    with (
        pytest.raises(FormatError, match=r"a.zarr\): a chunk of 'tb' is too large"),
        open_map_input(tmp_path / "a.zarr"),
    ):
        pass
