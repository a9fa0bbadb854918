"""Large maps: tiles equal the whole image, a killed map goes on, files are what they claim, mistakes are clear."""

from __future__ import annotations

import errno
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import dask.array
import h5py
import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
import zarr
from torch import nn

from smnb import files
from smnb.contract import ContractError, FormatError, ParameterError, RunError, check_dataset, stamp
from smnb.grids import M01, EaseWindow
from smnb.maps import map_checkpoint, tiled_map
from smnb.maps.checkpoint import SmenForm
from smnb.maps.forms import SameSizeForm, receptive_radius
from smnb.models import build_model
from smnb.models.smen import SMEN
from smnb.papers.hu2018_amsre import day_maps
from smnb.papers.smen.experiment import add_level
from smnb.training import MinMaxScaler, load, save

CHANNELS = ("1.41H", "1.41V", "VV", "VH")
WINDOW = EaseWindow(M01, 2500, 2570, 7000, 7093)


def randomised(name: str, **config) -> nn.Module:
    """A network whose normalisations are no identities, as after training."""
    torch.manual_seed(5)
    network = build_model(name, config)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            nn.init.uniform_(layer.weight, -1.0, 1.5), nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean), nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return network.eval()


@pytest.fixture(scope="module")
def fusion() -> nn.Module:
    return randomised("fusion_1km", features=8)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Four channels in native units with holes, ``(channel, row, col)``."""
    rng = np.random.default_rng(6)
    low, high = np.array([200, 220, -20, -28]), np.array([270, 280, -5, -12])
    values = rng.uniform(low, high, (*WINDOW.shape, 4)).astype("float32").transpose(2, 0, 1)
    values[:, 30:40, 50:70] = np.nan
    values[2, 0, :5] = np.nan
    values[3, 60:, 90:] = -np.inf
    return np.ascontiguousarray(values)


@pytest.fixture(scope="module")
def scalers(scene: np.ndarray) -> dict[str, MinMaxScaler]:
    finite = np.where(np.isfinite(scene), scene, np.nan)
    return {
        "input_scaler": MinMaxScaler.fit(np.moveaxis(finite, 0, -1)),
        "target_scaler": MinMaxScaler((0.02,), (0.5,), (0.4,)),
    }


@torch.inference_mode()
def untiled(network: nn.Module, scene: np.ndarray, scalers: dict[str, MinMaxScaler]) -> np.ndarray:
    """The network on the whole image at once: what a tiled map must equal."""
    scaled = scalers["input_scaler"].transform(np.moveaxis(scene, 0, -1))
    filled = np.where(np.isfinite(scaled), scaled, np.asarray(scalers["input_scaler"].fill, "float32"))
    result = network(torch.from_numpy(np.moveaxis(filled, -1, 0).copy())[None])[0].numpy()
    result = scalers["target_scaler"].inverse(result[..., None])[..., 0]
    return np.where(np.isfinite(scene).all(0), result, np.nan)


def read(path: Path) -> np.ndarray:
    return xr.open_zarr(path)["soil_moisture"].values


# --- equality ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [16, 37, 256])
def test_tiles_equal_the_untiled_network_everywhere(tmp_path, fusion, scene, scalers, tile) -> None:
    result = tiled_map(fusion, scene, out=tmp_path / "map.zarr", tile=tile, **scalers)
    expected = untiled(fusion, scene, scalers)
    np.testing.assert_allclose(read(result.path), expected, atol=1e-5, rtol=0, equal_nan=True)
    assert result.n_missing == np.isnan(expected).sum() == 200 + 5 + 30
    assert result.missing_by_channel == dict(zip([f"channel {i}" for i in range(4)], [200, 200, 205, 230], strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (5, 4)])
def test_images_smaller_than_the_halo(tmp_path, fusion, scene, scalers, shape) -> None:
    part = scene[:, 10 : 10 + shape[0], : shape[1]]
    result = tiled_map(fusion, part, out=tmp_path / "map.zarr", tile=2, **scalers)
    np.testing.assert_allclose(read(result.path), untiled(fusion, part, scalers), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["dask", "zarr", "xarray"])
def test_lazy_inputs_give_the_same_map(tmp_path, fusion, scene, scalers, kind) -> None:
    if kind == "dask":
        inputs = dask.array.from_array(scene, chunks=(2, 13, 50))
    elif kind == "zarr":
        inputs = zarr.create_array(tmp_path / "in.zarr", data=scene, chunks=(1, 20, 20))
    else:
        inputs = xr.DataArray(scene, WINDOW.coords(), ("channel", "y", "x")).chunk(y=20)
    reference = tiled_map(fusion, scene, out=tmp_path / "a.zarr", tile=32, **scalers)
    result = tiled_map(fusion, inputs, out=tmp_path / "b.zarr", tile=32, **scalers)
    np.testing.assert_array_equal(read(result.path), read(reference.path))


class Smoother(nn.Module):
    """Any network that keeps its size: reflects at its edges, and has no parameters but one."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        padded = nn.functional.pad(images, (3, 3, 3, 3), mode="reflect")
        return self.gain * nn.functional.avg_pool2d(padded, 7, stride=1).sum(1)


@pytest.mark.parametrize("network", ["smoother", "smen", "smen zeros", "fusion as any network"])
def test_any_network_that_keeps_its_size(tmp_path, fusion, network) -> None:
    rng = np.random.default_rng(7)
    made = {
        "smoother": (Smoother(), 4),
        "smen": (SmenForm(randomised("smen")), 5),
        "fusion as any network": (fusion, 4),
        "smen zeros": (SmenForm(randomised("smen", padding="zeros")), 5),
    }[network]
    images = rng.random((made[1], 33, 41), dtype="float32")
    form = SameSizeForm(made[0], 6) if network.startswith("fusion") else made[0]
    result = tiled_map(form, images, out=tmp_path / "map.zarr", tile=12)
    with torch.inference_mode():
        expected = made[0].eval()(torch.from_numpy(images)[None])[0].numpy()
    np.testing.assert_allclose(read(result.path), expected, atol=1e-5, rtol=0)


def test_the_receptive_field_is_measured() -> None:
    assert receptive_radius(Smoother(), 4) == 3
    assert receptive_radius(build_model("fusion_1km", {"features": 2, "blocks": 3}), 4) == 3
    assert receptive_radius(SmenForm(SMEN()), 5) == 4
    dead = build_model("fusion_1km", {"features": 2})
    nn.init.zeros_(dead.blocks[3][0].weight)  # a weight of zero may be trained away from zero
    assert receptive_radius(dead, 4) == dead.folded().halo == 4
    with pytest.raises(ParameterError, match="does not keep the size"):
        receptive_radius(nn.Sequential(nn.Conv2d(4, 1, 3), nn.Flatten(0, 1)), 4)

    class Global(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.sum(1) - images.mean()

    with pytest.raises(ParameterError, match="more than a neighbourhood"):
        receptive_radius(Global(), 4)


def test_bfloat16_is_near_and_leaves_the_network_as_it_is(tmp_path, fusion, scene, scalers) -> None:
    result = tiled_map(fusion, scene, out=tmp_path / "map.zarr", precision="bfloat16", **scalers)
    difference = np.nanmax(np.abs(read(result.path) - untiled(fusion, scene, scalers)))
    assert 1e-5 < difference < 0.05
    assert next(fusion.parameters()).dtype == torch.float32


def test_dask_workers_give_the_same_map(tmp_path, fusion, scene, scalers) -> None:
    from distributed import LocalCluster

    reference = tiled_map(fusion, scene, out=tmp_path / "a.zarr", tile=32, **scalers)
    # workers that are threads of this process, as a scheduler's address: no new processes
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        result = tiled_map(fusion, scene, out=tmp_path / "b.zarr", tile=32, scheduler=address, **scalers)
    np.testing.assert_array_equal(read(result.path), read(reference.path))
    assert result.n_tiles == 9


@pytest.mark.slow
def test_worker_processes_give_the_same_map(tmp_path, fusion, scene, scalers) -> None:
    reference = tiled_map(fusion, scene, out=tmp_path / "a.zarr", tile=32, **scalers)
    result = tiled_map(fusion, scene, out=tmp_path / "b.zarr", tile=32, workers=2, **scalers)
    np.testing.assert_array_equal(read(result.path), read(reference.path))


# --- going on ---------------------------------------------------------------------------------------------------------


class CountingForm:
    """A form that counts its calls."""

    halo = 0

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: torch.Tensor, outside: tuple) -> torch.Tensor:
        self.calls += 1
        return images.sum(0)


def stop_after(number: int):
    def progress(done: int, total: int) -> None:
        if done == number:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_map_goes_on_with_the_tiles_that_are_left(tmp_path, scene) -> None:
    out = tmp_path / "map.zarr"
    with pytest.raises(KeyboardInterrupt):
        tiled_map(CountingForm(), scene, out=out, tile=20, progress=stop_after(7))
    assert not out.exists()
    form = CountingForm()
    result = tiled_map(form, scene, out=out, tile=20)
    assert (result.n_tiles, result.n_resumed, form.calls) == (20, 7, 13)
    np.testing.assert_array_equal(read(out), np.where(np.isfinite(scene).all(0), scene.sum(0), np.nan))
    assert [p.name for p in tmp_path.iterdir()] == ["map.zarr"]
    again = tiled_map(form, scene, out=out, tile=20)
    assert again.was_finished
    assert form.calls == 13
    (out / ".zattrs").write_text((out / ".zattrs").read_text().replace("CF-1.8", "CF-1.9"))
    with pytest.raises(FormatError, match=r"map\.zarr is not as it was written.*remove its attribute smnb_checksum"):
        tiled_map(form, scene, out=out, tile=20)
    assert tiled_map(form, scene, out=out, tile=20, resume=False).n_resumed == 0


def test_a_map_that_is_there_is_up_to_date_where_nothing_can_be_written(tmp_path, scene, monkeypatch) -> None:
    out = tmp_path / "map.nc"
    tiled_map(CountingForm(), scene, out=out, tile=20)
    monkeypatch.setattr(files, "_fault", lambda *_: OSError(errno.EROFS, "Read-only file system"))
    assert tiled_map(CountingForm(), scene, out=out, tile=20).was_finished
    with pytest.raises(RunError, match="another map"):
        tiled_map(CountingForm(), scene + 1, out=out, tile=20)
    with pytest.raises(RunError, match="cannot write"):
        tiled_map(CountingForm(), scene + 1, out=out, tile=20, resume=False)


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_a_bit_that_flips_in_the_values_of_a_map_is_noticed(tmp_path, scene, suffix) -> None:
    out = tmp_path / f"map.{suffix}"
    tiled_map(CountingForm(), scene, out=out, tile=20)
    path, start = (out, 0) if suffix == "nc" else (out / "soil_moisture" / "0.0", 0)
    whole, right, chance = path.read_bytes(), xr.open_dataset(out)["soil_moisture"].values, random.Random(1)
    size = len(whole)
    if suffix == "nc":
        with h5py.File(out) as file:
            chunk = file["soil_moisture"].id.get_chunk_info(0)
        start, size = chunk.byte_offset, chunk.size
    for _ in range(24):
        damaged, bit = bytearray(whole), 8 * start + chance.randrange(8 * size)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = xr.open_dataset(out)["soil_moisture"].values
        except (OSError, RuntimeError):
            continue
        np.testing.assert_array_equal(found, right)


def test_a_killed_process_leaves_whole_tiles_only(tmp_path, fusion, scene, scalers) -> None:
    np.save(tmp_path / "scene.npy", scene)
    torch.save(fusion.state_dict(), tmp_path / "weights.pt")
    program = """
import os, signal, sys
import numpy as np, torch
from smnb.models import build_model
from smnb.maps import tiled_map
network = build_model("fusion_1km", {"features": 8})
network.load_state_dict(torch.load("weights.pt"))
kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done == 3 else None
tiled_map(network, np.load("scene.npy"), out="map.tif.zarr", tile=32, progress=kill)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "map.tif.zarr").exists()
    result = tiled_map(fusion, scene, out=tmp_path / "map.tif.zarr", tile=32)
    assert result.n_resumed == 3
    reference = tiled_map(fusion, scene, out=tmp_path / "reference.zarr", tile=32)
    np.testing.assert_array_equal(read(result.path), read(reference.path))


def test_another_map_is_neither_mixed_in_nor_replaced(tmp_path, fusion, scene) -> None:
    out = tmp_path / "map.zarr"
    with pytest.raises(KeyboardInterrupt):
        tiled_map(CountingForm(), scene, out=out, tile=40, progress=stop_after(2))
    for changed, inputs, options in (
        ("inputs", scene + 1, {}),
        ("tile", scene, {"tile": 35}),
        ("network", scene, {"network": fusion}),
    ):
        with pytest.raises(RunError, match=f"other .*{changed}.*--no-resume"):
            tiled_map(**{"network": CountingForm(), "tile": 40, **options}, inputs=inputs, out=out)
    anew = tiled_map(CountingForm(), scene + 1, out=out, tile=40, resume=False)
    assert anew.n_resumed == 0
    before = read(out)
    with pytest.raises(RunError, match="exists and is another map"):
        tiled_map(CountingForm(), scene, out=out, tile=40)
    np.testing.assert_array_equal(read(out), before)
    tiled_map(CountingForm(), scene, out=out, tile=40, resume=False)
    assert np.nanmax(np.abs(read(out) - before)) > 1.0
    assert [p.name for p in tmp_path.iterdir()] == ["map.zarr"]


# --- files ------------------------------------------------------------------------------------------------------------


def test_zarr_follows_cf_and_the_contract(tmp_path, fusion, scene, scalers) -> None:
    result = tiled_map(fusion, scene, out=tmp_path / "map.zarr", coords=WINDOW.coords(), synthetic=True, **scalers)
    with xr.open_zarr(result.path, decode_coords="all") as dataset:
        check_dataset(dataset, who="test", require=("soil_moisture",))
        assert EaseWindow.from_dataset(dataset) == WINDOW
        assert dataset["soil_moisture"].encoding["grid_mapping"] == "crs"
        assert dataset["crs"].attrs["grid_mapping_name"] == "lambert_cylindrical_equal_area"
        assert dataset.attrs["title"] == "Soil moisture (synthetic)"
        assert dataset.attrs["Conventions"] == "CF-1.8"
        assert json.loads(dataset["soil_moisture"].attrs["masked_by"]) == {"missing_input": result.n_missing}


def test_geotiff_is_cloud_optimised_and_in_its_place(tmp_path, fusion, scalers) -> None:
    rng = np.random.default_rng(8)
    window = EaseWindow(M01, 2500, 3200, 7000, 7600)
    scene = rng.uniform(0, 1, (4, *window.shape)).astype("float32")
    scene[:, :100] = np.nan
    options = {"coords": window.coords(), "synthetic": True}
    result = tiled_map(fusion, scene, out=tmp_path / "map.tif", **options)
    zarr_map = tiled_map(fusion, scene, out=tmp_path / "map.zarr", **options)
    with rasterio.open(result.path) as tif:
        assert tif.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert tif.overviews(1) == [2]
        assert tif.block_shapes == [(512, 512)]
        assert tif.crs.to_epsg() == 6933
        assert np.isnan(tif.nodata)
        np.testing.assert_array_equal(tif.read(1), read(zarr_map.path))
        row, col = tif.index(window.x[17], window.y[23])
        assert (row, col) == (23, 17)
        assert tif.tags()["synthetic"] == "1"
        assert tif.units == ("m3 m-3",)
    assert tiled_map(fusion, scene, out=tmp_path / "map.tif", **options).was_finished


def test_geotiff_of_latitudes_has_north_up(tmp_path) -> None:
    lat, lon = np.arange(-10, 10.1, 0.5), np.arange(20, 40.1, 0.25)
    values = np.broadcast_to(lat[:, None], (lat.size, lon.size)).astype("float32")
    inputs = xr.DataArray(values[None], {"lat": lat, "lon": lon}, ("channel", "lat", "lon"))
    result = tiled_map(CountingForm(), inputs, out=tmp_path / "map.tif", tile=16)
    with rasterio.open(result.path) as tif:
        assert tif.crs.to_epsg() == 4326
        points = [(20.0, -10.0), (30.5, 3.5), (40.0, 10.0)]
        np.testing.assert_allclose([v[0] for v in tif.sample(points)], [-10.0, 3.5, 10.0])


# --- what is refused --------------------------------------------------------------------------------------------------


def test_mistakes_are_clear(tmp_path, fusion, scene, scalers) -> None:
    out = tmp_path / "map.zarr"
    with pytest.raises(ParameterError, match="unknown kind of file"):
        tiled_map(fusion, scene, out=tmp_path / "map.png")
    with pytest.raises(ParameterError, match="needs a place"):
        tiled_map(fusion, scene, out=tmp_path / "map.tif")
    with pytest.raises(ContractError, match="another shape"):
        tiled_map(fusion, scene[:, :-1], out=out, coords=WINDOW.coords())
    with pytest.raises(ContractError, match=r"not \(channel, row, col\)"):
        tiled_map(fusion, scene[0], out=out)
    with pytest.raises(ContractError, match="differ in number"):
        tiled_map(fusion, scene[:3], out=out, **scalers)
    with pytest.raises(ParameterError, match="bfloat16"):
        tiled_map(fusion, scene, out=out, precision="half")
    with pytest.raises(RunError, match="cannot reach the Dask scheduler"):
        tiled_map(fusion, scene, out=out, scheduler="tcp://")
    empty = scene.copy()
    empty[1] = np.nan
    with pytest.raises(ContractError, match=r"missing everywhere; got \['1.41V'\]"):
        tiled_map(fusion, empty, out=out, channels=CHANNELS)
    apart = scene.copy()
    apart[0, :, :45], apart[1, :, 45:] = np.nan, np.nan
    with pytest.raises(ContractError, match="no cell has all channels"):
        tiled_map(fusion, apart, out=out)
    assert not out.exists()


# --- checkpoints on files ---------------------------------------------------------------------------------------------


def scene_dataset(scene: np.ndarray) -> xr.Dataset:
    """The scene as brightness temperature and backscatter under the contract."""
    dataset = xr.Dataset(
        {
            "tb": (("channel", "y", "x"), scene[:2], {"units": "K"}),
            "sigma0": (
                ("polarization", "y", "x"),
                np.where(np.isfinite(scene[2:]), scene[2:], np.nan),
                {"units": "dB"},
            ),
        },
        {**WINDOW.coords(), "channel": list(CHANNELS[:2]), "polarization": list(CHANNELS[2:])},
    )
    return stamp(dataset, source="test", catalog_id="test", synthetic=True, step="made")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, fusion, scalers) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    return save(path, fusion, channels=CHANNELS, **scalers)


@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_a_checkpoint_is_applied_with_its_own_scaling(tmp_path, checkpoint, fusion, scene, scalers, kind) -> None:
    dataset = (
        scene_dataset(scene).expand_dims(time=np.array(["2020-09-01", "2020-09-13"], "datetime64[ns]")).copy(deep=True)
    )
    dataset["tb"][0] = 250.0
    dataset = dataset.isel(polarization=[1, 0])  # the order is the checkpoint's, not the file's
    path = tmp_path / f"scene.{kind}"
    dataset.to_netcdf(path, engine="h5netcdf") if kind == "nc" else dataset.to_zarr(path, zarr_format=2)
    result = map_checkpoint(checkpoint, path, tmp_path / "map.zarr", when="2020-09-13", tile=32)
    np.testing.assert_allclose(read(result.path), untiled(fusion, scene, scalers), atol=1e-5, rtol=0, equal_nan=True)
    with xr.open_zarr(result.path) as mapped:
        assert mapped.attrs["synthetic"] == 1
        assert EaseWindow.from_dataset(mapped) == WINDOW
    with pytest.raises(ParameterError, match=r"2 times.*--time"):
        map_checkpoint(checkpoint, path, tmp_path / "b.zarr")
    with pytest.raises(ParameterError, match="nothing at that time"):
        map_checkpoint(checkpoint, path, tmp_path / "b.zarr", when="2021-09-13")


class OwnNet(nn.Module):
    """A network that smnb does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images)[:, 0]


def test_a_network_of_ones_own_makes_maps(tmp_path, scene, scalers) -> None:
    path = save(tmp_path / "own", OwnNet(), channels=CHANNELS, **scalers)
    scene_dataset(scene).to_netcdf(tmp_path / "scene.nc", engine="h5netcdf")
    with pytest.raises(FormatError, match="not imported unasked"):
        map_checkpoint(path, tmp_path / "scene.nc", tmp_path / "map.nc")
    own = load(path, model=OwnNet())
    result = map_checkpoint(own, tmp_path / "scene.nc", tmp_path / "map.nc", tile=32)
    with xr.open_dataset(result.path, engine="h5netcdf") as mapped:
        values = mapped["soil_moisture"].values
    np.testing.assert_allclose(values, untiled(own.model, scene, scalers), atol=1e-5, rtol=0, equal_nan=True)


def test_files_that_do_not_fit_the_checkpoint(tmp_path, checkpoint, scene) -> None:
    def refuse(dataset: xr.Dataset, error: type, match: str) -> None:
        dataset.to_netcdf(tmp_path / "scene.nc", engine="h5netcdf")
        with pytest.raises(error, match=match):
            map_checkpoint(checkpoint, tmp_path / "scene.nc", tmp_path / "map.zarr")

    good = scene_dataset(scene)
    refuse(good.drop_vars("sigma0"), ContractError, r"lacks channels.*expected \['1.41H', '1.41V', 'VV', 'VH'\]")
    refuse(good.assign(VV=good["sigma0"][0].drop_vars("polarization")), ContractError, "more than once")
    linear = good.copy()
    linear["sigma0"].attrs["units"] = "1"
    refuse(linear, ContractError, "other units")
    missing = good.copy(deep=True)
    missing["sigma0"][1] = np.nan
    refuse(missing, ContractError, r"missing everywhere; got \['VH'\]")
    with pytest.raises(FormatError, match="no such file"):
        map_checkpoint(checkpoint, tmp_path / "absent.nc", tmp_path / "map.zarr")
    (tmp_path / "page.nc").write_text("<html>")
    with pytest.raises(FormatError, match="no NetCDF"):
        map_checkpoint(checkpoint, tmp_path / "page.nc", tmp_path / "map.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(FormatError, match="cannot be read as Zarr"):
        map_checkpoint(checkpoint, tmp_path / "empty.zarr", tmp_path / "map.zarr")


def test_smen_maps_have_the_level_of_the_coarse_image(tmp_path) -> None:
    rng = np.random.default_rng(9)
    network = randomised("smen")
    coarse = rng.uniform(0.1, 0.3, WINDOW.shape).astype("float32")
    residual = rng.normal(0, 0.02, (4, *WINDOW.shape)).astype("float32")
    scaler = MinMaxScaler((0.05, -0.1), (0.4, 0.1), (0.5, 0.5))
    target = MinMaxScaler((0.0,), (0.2,), (0.0,))
    path = save(
        tmp_path / "model",
        network,
        input_scaler=scaler,
        target_scaler=target,
        channels=("coarse", "residual"),
    )
    dataset = xr.Dataset({"coarse": (("y", "x"), coarse), "residual": (("past", "y", "x"), residual)}, WINDOW.coords())
    dataset.to_netcdf(tmp_path / "scene.nc", engine="h5netcdf")
    result = map_checkpoint(path, tmp_path / "scene.nc", tmp_path / "map.zarr", tile=30)
    scaled = [scaler.transform(np.stack([coarse, image], -1)) for image in residual]
    with torch.inference_mode():
        history = torch.from_numpy(np.stack([one[..., 1] for one in scaled]))[None]
        bare = network(torch.from_numpy(scaled[0][..., 0].copy())[None], history)[0].numpy()
    expected = add_level(target.inverse(bare[..., None])[..., 0], coarse)
    np.testing.assert_allclose(read(result.path), expected, atol=1e-5, rtol=0)
    dataset.isel(past=slice(3)).to_netcdf(tmp_path / "short.nc", engine="h5netcdf")
    with pytest.raises(ContractError, match="4 past images"):
        map_checkpoint(path, tmp_path / "short.nc", tmp_path / "b.zarr")
    dataset.drop_vars("residual").to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(ContractError, match="lacks 'residual'"):
        map_checkpoint(path, tmp_path / "other.nc", tmp_path / "b.zarr")


@pytest.mark.parametrize("wrap", [True, False])
def test_amsre_maps_equal_those_of_day_maps(tmp_path, wrap) -> None:
    channels = ("6.9H", "6.9V", "10.7H", "10.7V")
    lat, lon = np.arange(-5.0, 5.0, 0.5), np.arange(-180.0, 180.0 if wrap else 0.0, 10.0)
    values = np.random.default_rng(10).uniform(80, 300, (1, 4, lat.size, lon.size)).astype("float32")
    values[0, 1, 3, 4] = np.nan
    images = xr.DataArray(
        values,
        {"time": np.array(["2011-07-01"], "datetime64[ns]"), "channel": list(channels), "lat": lat, "lon": lon},
        ("time", "channel", "lat", "lon"),
        "tb",
        {"units": "K"},
    )
    scaler = MinMaxScaler.fit(np.moveaxis(values, 1, -1))
    path = save(
        tmp_path / "model",
        build_model("amsre_cnn"),
        channels=channels,
        input_scaler=scaler,
        target_scaler=MinMaxScaler((0.0,), (0.5,), (0.4,)),
    )
    expected = day_maps(load(path), images, synthetic=True)["soil_moisture"][0].values
    images.to_dataset().to_netcdf(tmp_path / "scene.nc", engine="h5netcdf")
    result = map_checkpoint(path, tmp_path / "scene.nc", tmp_path / "map.zarr", tile=11)
    np.testing.assert_allclose(read(result.path), expected, atol=1e-5, rtol=0, equal_nan=True)
    assert result.n_missing == 1
    with xr.open_zarr(result.path) as mapped:
        assert mapped["soil_moisture"].dims == ("lat", "lon")
