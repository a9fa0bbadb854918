"""Dense maps equal the patch network everywhere, and files are whole or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from smnb import contract
from smnb.contract import ContractError, ParameterError
from smnb.maps import PatchForm, mapped_image, write_map
from smnb.models import build_model
from smnb.papers.hu2018_amsre import day_maps
from smnb.papers.hu2018_amsre.tasks import PatchIndex, PatchStore
from smnb.training import MinMaxScaler, load, save

CHANNELS = ("6.9H", "6.9V", "10.7H", "10.7V")


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return build_model("amsre_cnn").eval()


SCALER = MinMaxScaler((80.0,) * 4, (300.0,) * 4, (0.5,) * 4)


def make_image(rows: int = 21, cols: int = 38) -> np.ndarray:
    image = np.random.default_rng(5).uniform(80, 300, size=(4, rows, cols)).astype("float32")
    image[:, 4:6, 7:9] = np.nan
    return image


def by_patches(network: torch.nn.Module, image: np.ndarray, *, wrap: bool) -> np.ndarray:
    """Scaled prediction at every pixel, patch by patch."""
    rows, cols = image.shape[1:]
    store = PatchStore(np.moveaxis(image, 0, -1)[None], SCALER, wrap=wrap)
    row, col = (axis.ravel() for axis in np.indices((rows, cols)))
    with torch.inference_mode():
        values = network(store.gather(PatchIndex(np.zeros_like(row), row, col))).reshape(rows, cols).numpy()
    return np.where(np.isfinite(image).all(0), values, np.nan)


@pytest.mark.parametrize("patchwise", [True, False])
@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("tile", [60, 7, 1])
def test_dense_equals_patches_at_every_pixel(network: torch.nn.Module, patchwise: bool, wrap: bool, tile: int) -> None:
    image, where = make_image(), None
    if tile == 1:
        where = np.zeros((21, 38), bool)
        where[[0, 10, 20], [0, 37, 19]] = True
    form = PatchForm(network, 9, wrap=wrap) if patchwise else network.folded(wrap=wrap)
    dense = mapped_image(form, image, input_scaler=SCALER, tile=tile, where=where)
    patches = by_patches(network, image, wrap=wrap)
    if where is not None:
        patches[~where] = np.nan
    # the first and last column are neighbours across the date line when the columns wrap
    np.testing.assert_allclose(dense, patches, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("activation", ["relu", "tanh", "identity"])
def test_dense_equals_patches_for_every_activation(activation: str) -> None:
    torch.manual_seed(4)
    network = build_model("amsre_cnn", {"activation": activation}).eval()
    dense = mapped_image(network.folded(wrap=True), make_image(), input_scaler=SCALER)
    np.testing.assert_allclose(dense, by_patches(network, make_image(), wrap=True), atol=1e-5)


def test_date_line_wraps(network: torch.nn.Module) -> None:
    form, image = network.folded(wrap=True), make_image()
    here, there = (mapped_image(form, one, input_scaler=SCALER) for one in (image, np.roll(image, 19, axis=2)))
    np.testing.assert_allclose(np.roll(here, 19, axis=1), there, atol=1e-5)


def test_tiles_without_a_wanted_pixel_are_skipped(network: torch.nn.Module) -> None:
    image = make_image(40, 60)
    where = np.zeros((40, 60), bool)
    where[:10, :10] = True
    form, seen = network.folded(), []
    form.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].shape))
    values = mapped_image(form, image, input_scaler=SCALER, where=where, tile=20)
    np.testing.assert_array_equal(np.isfinite(values), where & np.isfinite(image).all(0))
    assert len(seen) == 1
    with pytest.raises(ContractError, match="another shape"):
        mapped_image(form, image, where=where[1:])


def test_only_nine_pixel_patches_have_a_dense_form() -> None:
    with pytest.raises(ParameterError, match="patch_size"):
        build_model("amsre_cnn", {"patch_size": 11}).folded()


@pytest.fixture
def checkpoint(tmp_path: Path, network: torch.nn.Module) -> Path:
    target = MinMaxScaler((0.0,), (0.5,), (0.5,))
    return save(tmp_path / "net", network, input_scaler=SCALER, target_scaler=target, channels=CHANNELS)


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
    loaded, images = load(checkpoint), make_images()
    out = write_map(day_maps(loaded, images.chunk(time=1), synthetic=True), tmp_path / "maps.nc")
    with xr.open_dataset(out) as maps:
        contract.check_dataset(maps, who="test", require=("soil_moisture",))
        assert maps["soil_moisture"].attrs["units"] == "m3 m-3"
        assert maps.attrs["synthetic"] == 1
        assert "synthetic" in maps.attrs["title"]
        assert np.isnan(maps["soil_moisture"].isel(time=1)).all()  # an all-missing image stays missing
        assert np.isnan(maps["soil_moisture"].values[0, 5, 5])
        expected = 0.5 * by_patches(loaded.model, images.values[2], wrap=True)
        np.testing.assert_allclose(maps["soil_moisture"].values[2], expected, atol=1e-5)


def test_maps_refuse_other_channels(checkpoint: Path) -> None:
    with pytest.raises(ContractError, match="channels"):
        day_maps(load(checkpoint), make_images().isel(channel=[1, 0, 2, 3]), synthetic=True)


def test_a_failure_while_writing_leaves_no_file(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("smnb.papers.hu2018_amsre.experiment.mapped_image", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_map(day_maps(load(checkpoint), make_images(), synthetic=True), tmp_path / "maps.nc")
    assert not list(tmp_path.glob("*maps*"))
