"""Dense maps equal the patch network everywhere, and files are whole or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from smnb import contract
from smnb.contract import ContractError, ParameterError
from smnb.maps import mapped_image
from smnb.maps.dense import DenseAmsreCNN
from smnb.models import build_model
from smnb.papers.hu2018_amsre.dense import patch_map, write_maps
from smnb.papers.hu2018_amsre.patches import PatchStore
from smnb.training.checkpoints import load_model, save_model
from smnb.training.scaling import MinMaxScaler

CHANNELS = ("6.9H", "6.9V", "10.7H", "10.7V")


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return build_model("amsre_cnn").eval()


def make_store(rows: int = 21, cols: int = 38, wrap: bool = True) -> PatchStore:
    images = np.random.default_rng(5).uniform(80, 300, size=(1, rows, cols, 4)).astype("float32")
    images[0, 4:6, 7:9] = np.nan
    return PatchStore(images, MinMaxScaler.fit(images), wrap=wrap)


def bare(store: PatchStore) -> np.ndarray:
    """The scaled image without what was put around it."""
    return store.image(0)[:, 4:-4, 4:-4].numpy()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("tile", [60, 7, 1, 8])
def test_dense_equals_patches_at_every_pixel(network: torch.nn.Module, fast: bool, wrap: bool, tile: int) -> None:
    store = make_store(wrap=wrap)
    where = None
    if tile == 1:
        where = np.zeros((21, 38), bool)
        where[[0, 10, 20], [0, 37, 19]] = True
    dense = mapped_image(DenseAmsreCNN(network, fast=fast, wrap=wrap), bare(store), tile=tile, where=where)
    patches = patch_map(network, store, 0, where=where)
    np.testing.assert_array_equal(np.isnan(dense), np.isnan(patches))
    # the first and last column are neighbours across the date line when the columns wrap
    np.testing.assert_allclose(dense, patches, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("activation", ["relu", "tanh", "identity"])
def test_dense_equals_patches_for_every_activation(activation: str) -> None:
    torch.manual_seed(4)
    network = build_model("amsre_cnn", {"activation": activation}).eval()
    store = make_store()
    dense = mapped_image(DenseAmsreCNN(network, wrap=True), bare(store))
    patches = patch_map(network, store, 0)
    np.testing.assert_allclose(dense, patches, atol=1e-5)


def test_date_line_wraps(network: torch.nn.Module) -> None:
    store = make_store()
    rolled = PatchStore(
        np.roll(store.scaler.inverse(store.padded[:, 4:-4, 4:-4].numpy()), 19, axis=2), store.scaler, wrap=True
    )
    dense = DenseAmsreCNN(network, wrap=True)
    here, there = (mapped_image(dense, bare(one)) for one in (store, rolled))
    np.testing.assert_allclose(np.roll(here, 19, axis=1), there, atol=1e-5)


def test_tiles_without_a_wanted_pixel_are_skipped(network: torch.nn.Module) -> None:
    store = make_store(40, 60)
    where = np.zeros((40, 60), bool)
    where[:10, :10] = True
    calls = []

    class Counting(DenseAmsreCNN):
        def forward(self, images: torch.Tensor, outside: tuple | None = None) -> torch.Tensor:
            calls.append(images.shape[1:])
            return super().forward(images, outside)

    values = mapped_image(Counting(network), bare(store), where=where, tile=20)
    assert calls == [(28, 28)]
    np.testing.assert_array_equal(np.isfinite(values), where)
    with pytest.raises(ContractError, match="another shape"):
        mapped_image(DenseAmsreCNN(network), bare(store), where=where[1:])


def test_only_nine_pixel_patches_have_a_dense_form() -> None:
    with pytest.raises(ParameterError, match="patch_size"):
        DenseAmsreCNN(build_model("amsre_cnn", {"patch_size": 11}))


@pytest.fixture
def checkpoint(tmp_path: Path, network: torch.nn.Module) -> Path:
    scaler = MinMaxScaler((80.0,) * 4, (300.0,) * 4, (0.5,) * 4)
    return save_model(
        tmp_path / "net",
        network,
        name="amsre_cnn",
        input_scaler=scaler,
        target_scaler=MinMaxScaler((0.0,), (0.5,), (0.5,)),
        channels=CHANNELS,
    )


def make_images() -> xr.DataArray:
    values = np.random.default_rng(0).uniform(90, 290, size=(3, 4, 18, 36)).astype("float32")
    values[0, 2, 5, 5] = np.nan
    values[1] = np.nan
    coords = {
        "time": np.array(["2011-07-01", "2011-07-02", "2011-07-03"], "datetime64[ns]"),
        "channel": list(CHANNELS),
        "lat": np.arange(-85, 90, 10.0),
        "lon": np.arange(-175, 180, 10.0),
    }
    return xr.DataArray(values, coords=coords, dims=("time", "channel", "lat", "lon"))


def test_maps_are_cf_and_equal_the_patch_network(tmp_path: Path, checkpoint: Path) -> None:
    loaded, images = load_model(checkpoint), make_images()
    out = write_maps(loaded, images.chunk(time=1), tmp_path / "maps.nc", synthetic=True)
    with xr.open_dataset(out) as maps:
        contract.check_dataset(maps, who="test", require=("soil_moisture",))
        assert maps["soil_moisture"].attrs["units"] == "m3 m-3"
        assert maps.attrs["synthetic"] == 1
        assert "synthetic" in maps.attrs["title"]
        assert np.isnan(maps["soil_moisture"].isel(time=1)).all()  # an all-missing image stays missing
        assert np.isnan(maps["soil_moisture"].values[0, 5, 5])
        store = PatchStore(
            images.isel(time=[2]).transpose("time", "lat", "lon", "channel").values, loaded.input_scaler, wrap=True
        )
        expected = loaded.target_scaler.inverse(patch_map(loaded.model, store, 0)[..., None])[..., 0]
        np.testing.assert_allclose(maps["soil_moisture"].values[2], expected, atol=1e-5)


def test_maps_refuse_other_channels(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ContractError, match="channels"):
        write_maps(load_model(checkpoint), make_images().isel(channel=[1, 0, 2, 3]), tmp_path / "x.nc", synthetic=True)


def test_a_failure_while_writing_leaves_no_file(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import smnb.papers.hu2018_amsre.dense

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(smnb.papers.hu2018_amsre.dense, "mapped_image", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_maps(load_model(checkpoint), make_images(), tmp_path / "maps.nc", synthetic=True)
    assert not list(tmp_path.glob("*maps*"))
