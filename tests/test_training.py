"""Training: it learns, resumes to the same weights, and its checkpoints hold no pickle."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from smnb.checkpoints import SafetensorsCheckpointIO, load_model, save_model
from smnb.contract import FormatError, ParameterError, RunError
from smnb.models import build_model
from smnb.samples import MinMaxScaler, PatchDataset, PatchStore, draw_patches, eligible_centres
from smnb.training import TrainingConfig, choose_device, choose_precision, fit, predict_patches

SMALL = {"conv_channels": (4, 8, 8), "hidden": 16}


def make_data() -> tuple[PatchStore, PatchDataset, PatchDataset]:
    rng = np.random.default_rng(0)
    noise = uniform_filter(rng.standard_normal((2, 40, 60, 4)), size=(0, 7, 7, 0), mode="wrap")
    images = (0.5 + 0.15 * noise / noise.std()).astype("float32")
    target = images.mean(axis=-1)
    eligible = eligible_centres(images, target, wrap=True)
    train, validation = draw_patches(eligible, [0, 1], (400, 100), seed=0)
    store = PatchStore(images, MinMaxScaler.fit(images), wrap=True)
    return store, *(PatchDataset(store, index, index.take(target)) for index in (train, validation))


def train(out: Path, epochs: int = 4, stop: int | None = None, **settings: object):
    torch.manual_seed(0)
    _, training, validation = make_data()
    config = TrainingConfig(epochs=epochs, batch_size=64, learning_rate=3e-3, device="cpu", **settings)
    model = build_model("amsre_cnn", SMALL)
    return fit(model, training, validation, config=config, out=out, fingerprint="test", stop_after_epochs=stop)


def test_training_learns_and_reports(tmp_path: Path) -> None:
    result = train(tmp_path)
    assert list(result.history["epoch"]) == [0, 1, 2, 3]
    assert result.history["validation_loss"].iloc[-1] < 0.5 * result.history["validation_loss"].iloc[0]
    assert result.history["learning_rate"].is_monotonic_decreasing
    assert result.history["learning_rate"].iloc[0] == pytest.approx(3e-3)
    assert result.samples_per_second > 0
    assert 0 <= result.data_wait_fraction < 1


def test_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    train(tmp_path / "halves", stop=2)
    resumed = train(tmp_path / "halves")
    assert resumed.details["resumed"]
    assert not whole.details["resumed"]
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    columns = ["epoch", "train_loss", "validation_loss", "learning_rate"]
    assert resumed.history[columns].equals(whole.history[columns])


def test_a_killed_process_leaves_a_state_to_resume_from(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\n"
        "from pathlib import Path; from test_training import train\n"
        "train(Path(sys.argv[1]), epochs=300, patience=0)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "last.ckpt").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    state = SafetensorsCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert 0 <= state["epoch"] < 299
    assert not list(tmp_path.glob("*.ckpt.tmp"))


def test_early_stopping_stops(tmp_path: Path) -> None:
    torch.manual_seed(0)
    store, training, _ = make_data()
    constant = PatchDataset(store, training.index, np.full(len(training), 0.5, "float32"))
    config = TrainingConfig(epochs=60, batch_size=128, learning_rate=1e-9, patience=2, device="cpu")
    result = fit(build_model("amsre_cnn", SMALL), constant, training, config=config, out=tmp_path)
    assert len(result.history) < 60


def test_state_of_another_training_is_refused(tmp_path: Path) -> None:
    train(tmp_path, epochs=2, stop=1)
    with pytest.raises(RunError, match="other data or settings"):
        train(tmp_path, epochs=2, seed=5)


def test_damaged_state_is_named(tmp_path: Path) -> None:
    train(tmp_path, epochs=2, stop=1)
    whole = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"last\.ckpt"):
        train(tmp_path, epochs=2)


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    for path in tmp_path.glob("*.ckpt"):
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(path.read_bytes())


def test_model_checkpoint_round_trip_and_its_errors(tmp_path: Path) -> None:
    torch.manual_seed(1)
    store, training, _ = make_data()
    model = build_model("amsre_cnn", SMALL).eval()
    target = MinMaxScaler((0.05,), (0.45,), (0.3,))
    channels = ("6.9H", "6.9V", "10.7H", "10.7V")
    path = save_model(
        tmp_path / "m", model, name="amsre_cnn", input_scaler=store.scaler, target_scaler=target, channels=channels
    )
    loaded = load_model(tmp_path / "m.json", channels=channels)
    assert loaded.input_scaler == store.scaler
    assert loaded.target_scaler == target
    np.testing.assert_array_equal(
        predict_patches(loaded.model, store, training.index), predict_patches(model, store, training.index)
    )
    with pytest.raises(FormatError, match="other channels"):
        load_model(path, channels=channels[::-1])
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\0\0\0\1")
    with pytest.raises(FormatError, match="does not belong to its card"):
        load_model(path)
    (tmp_path / "m.json").unlink()
    with pytest.raises(FormatError, match=r"m\.json is missing"):
        load_model(path)


def test_devices_and_precision_are_checked() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in {"cpu", "cuda", "mps"}
    assert choose_precision("auto", torch.device("cpu")) == "32-true"
    with pytest.raises(ParameterError, match="auto"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ParameterError, match="not available"):
            TrainingConfig(device="cuda")
    with pytest.raises(ParameterError, match="epochs"):
        TrainingConfig(epochs=0)
    with pytest.raises(ParameterError, match="precision"):
        TrainingConfig(precision="8-bit")
