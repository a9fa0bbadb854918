"""Training: it learns, resumes to the same weights, and its checkpoints hold no pickle."""

from __future__ import annotations

import dataclasses
import functools
import json
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import uniform_filter
from torch.nn.functional import mse_loss as mse

from smnb.contract import ContractError, FormatError, ParameterError, RunError
from smnb.models import build_model
from smnb.papers.hu2018_amsre.tasks import PatchDataset, PatchStore, draw_patches, eligible_centres
from smnb.training import MinMaxScaler, Samples, TrainingConfig, choose_device, choose_precision, fit, load, save
from smnb.training import train as train_any
from smnb.training.config import (
    BatchDataset,
    PrefetchLoader,
    StepPlan,
    StepSampler,
    configure_optimizer,
    in_order,
    parameter_groups,
)
from smnb.training.fitting import SafetensorsCheckpointIO

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


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt", "training.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_state_is_said_and_the_training_starts_anew(tmp_path: Path, name, damage, capsys) -> None:
    whole = train(tmp_path / "whole", epochs=2)
    train(tmp_path, epochs=2, stop=1)
    content = (tmp_path / name).read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]
    (tmp_path / name).write_bytes({"cut": content[:middle], "flip": flipped, "empty": b""}[damage])
    again = train(tmp_path, epochs=2)
    assert "note: the training starts anew" in capsys.readouterr().err
    assert again.history["train_loss"].equals(whole.history["train_loss"])


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    for path in tmp_path.glob("*.ckpt"):
        # by what its length happens to begin with, a file looks like no pickle or like one of an unknown protocol
        with pytest.raises((pickle.UnpicklingError, ValueError)):
            pickle.loads(path.read_bytes())


def test_checkpoint_round_trip_and_its_errors(tmp_path: Path) -> None:
    torch.manual_seed(1)
    store, training, _ = make_data()
    model = build_model("amsre_cnn", SMALL).eval()
    target = MinMaxScaler((0.05,), (0.45,), (0.3,))
    channels = ("6.9H", "6.9V", "10.7H", "10.7V")
    path = save(tmp_path / "m", model, input_scaler=store.scaler, target_scaler=target, channels=channels)
    loaded = load(tmp_path / "m.json", channels=channels)
    assert loaded.input_scaler == store.scaler
    assert loaded.target_scaler == target
    assert loaded.card["model"] == "amsre_cnn"
    with torch.inference_mode():
        expected = target.inverse(model(store.gather(training.index)).numpy()[:, None])[:, 0]
    np.testing.assert_allclose(loaded.predict(training), expected, atol=1e-6)
    with pytest.raises(FormatError, match="other channels"):
        load(path, channels=channels[::-1])
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\0\0\0\1")
    with pytest.raises(FormatError, match="does not belong to its card"):
        load(path)
    path.write_bytes(content)
    with pytest.raises(FormatError, match="do not fit AmsreCNN"):
        load(path, model=build_model("amsre_cnn"))
    (tmp_path / "m.json").write_text('{"format": 2, "model": "amsre_cnn"}')
    with pytest.raises(FormatError, match="not a model card"):
        load(path)
    (tmp_path / "m.json").unlink()
    with pytest.raises(FormatError, match=r"m\.json is missing"):
        load(path)


def test_card_and_weights_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="card cannot be written as JSON"):
        save(tmp_path / "m", torch.nn.Linear(2, 1), training={"score": float("nan")})
    with pytest.raises(FormatError, match="card cannot be written as JSON"):
        save(tmp_path / "m", torch.nn.Linear(2, 1), training={"loss": len})
    assert list(tmp_path.iterdir()) == []
    save(tmp_path / "m", torch.nn.Linear(2, 1))  # no config of its own: once an error after the weights were there
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["m.json", "m.safetensors"]
    with pytest.raises(FormatError):
        save(tmp_path / "m", torch.nn.Linear(3, 1), training={"loss": len})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# ------------------------------------------------------------------------------------------------ a network of one's own


class Net(torch.nn.Module):
    def __init__(self, width: int = 3, inputs: int = 5) -> None:
        super().__init__()
        self.config = {"width": width, "inputs": inputs}
        self.layers = torch.nn.Sequential(torch.nn.Linear(inputs, width), torch.nn.ReLU(), torch.nn.Linear(width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)[:, 0]


def own(n: int = 64, **options: object) -> Samples:
    target = MinMaxScaler((0.0,), (0.5,), (0.4,))
    return Samples(Numbers(n), Numbers(20), channels=tuple("abcde"), target_scaler=target, **options)


OWN = TrainingConfig(epochs=3, batch_size=16, learning_rate=1e-2, device="cpu")


def test_a_network_of_ones_own_is_trained_saved_and_loaded(tmp_path: Path) -> None:
    samples = own(card={"data": "numbers", "synthetic": True})
    trained = train_any(Net(), samples, loss=mse, config=OWN, out=tmp_path)
    assert trained.card["model"] == f"{Net.__module__}:Net"
    assert trained.card["training"]["data"] == "numbers"
    assert trained.card["training"]["loss"] == {"name": "mse_loss"}
    assert len(trained.history) == 3
    assert trained.samples_per_second > 0
    again = load(tmp_path / "model", model=Net())
    np.testing.assert_array_equal(again.predict(samples.validation), trained.predict(samples.validation))
    assert again.best_epoch == trained.best_epoch
    pd.testing.assert_frame_equal(again.history, trained.history, check_dtype=False)
    inputs = samples.validation[np.arange(20)][0]
    with torch.inference_mode():
        np.testing.assert_allclose(trained.predict(samples.validation), 0.5 * trained.model(inputs), rtol=1e-6)
    wide = train_any(Net(7), samples, loss=mse, config=OWN, out=tmp_path / "wide")
    assert load(tmp_path / "wide" / "model", model=Net).model.layers[0].out_features == 7
    assert wide.card["config"] == {"width": 7, "inputs": 5}


def test_a_checkpoint_imports_no_code_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "stranger.py").write_text(
        "import pathlib, torch\npathlib.Path(__file__).with_name('ran').touch()\n"
        "class Net(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(2, 1)\n"
    )
    save(tmp_path / "m", torch.nn.Linear(2, 1))
    card = json.loads((tmp_path / "m.json").read_text())
    del card["sha256"]
    (tmp_path / "m.json").write_text(json.dumps({**card, "model": "stranger:Net"}))
    monkeypatch.syspath_prepend(str(code))
    for asked in ({}, {"trust": "stranger"}, {"trust": "other:Net"}, {"model": torch.nn.Linear(2, 1)}):
        if "model" in asked:
            load(tmp_path / "m", **asked)
        else:
            with pytest.raises(FormatError, match=r"not imported unasked; got 'stranger:Net'.*trust='stranger:Net'"):
                load(tmp_path / "m", **asked)
        assert "stranger" not in sys.modules
        assert not (code / "ran").exists()
    assert type(load(tmp_path / "m", trust="stranger:Net").model).__name__ == "Net"
    sys.modules.pop("stranger")
    (tmp_path / "m.json").write_text(json.dumps({**card, "model": "smnb.files:write_json"}))
    with pytest.raises(FormatError, match="no network"):
        load(tmp_path / "m")


def test_train_takes_a_name_a_path_a_class_or_a_module(tmp_path: Path) -> None:
    samples = own(sizes={"inputs": 5, "history": 4})
    torch.manual_seed(0)
    ways = {"module": Net(), "class": Net, "path": f"{Net.__module__}:Net"}
    sys.modules.setdefault(Net.__module__, sys.modules[__name__])
    found = {name: train_any(way, samples, loss=mse, config=OWN, out=tmp_path / name) for name, way in ways.items()}
    for one in found.values():
        same_weights(one.model, found["module"].model, rtol=0, atol=0)
    with pytest.raises(ParameterError, match="unknown network"):
        train_any("no such", samples, loss=mse, config=OWN, out=tmp_path)
    with pytest.raises(ParameterError, match="cannot be imported"):
        train_any("no.such:Net", samples, loss=mse, config=OWN, out=tmp_path)
    with pytest.raises(ParameterError, match=r"unknown config keys; got \['depth'\]"):
        train_any(Net, samples, loss=mse, config=OWN, out=tmp_path, model_config={"depth": 2})


def test_a_training_is_resumed_on_the_same_data_loss_and_network_only(tmp_path: Path) -> None:
    def go(net: torch.nn.Module, loss=mse, **identity: object) -> bool:
        torch.manual_seed(0)
        samples = own(identity={"x": np.arange(3), **identity})
        return train_any(net, samples, loss=loss, config=OWN, out=tmp_path).details["resumed"]

    class Edited(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2.0 * self.layers(x)[:, 0]

    Edited.__module__, Edited.__qualname__ = Net.__module__, "Net"
    assert not go(Net())
    assert go(Net())
    assert not go(Net(4))
    assert not go(Net(), x=np.arange(4))
    assert not go(Net(), loss=functools.partial(torch.nn.functional.huber_loss, delta=0.4))
    assert not go(Net(), loss=functools.partial(torch.nn.functional.huber_loss, delta=0.3))
    assert not go(Edited())
    assert go(Net())


def test_lazy_layers_and_no_validation(tmp_path: Path) -> None:
    samples = dataclasses.replace(own(), validation=None)
    net = torch.nn.Sequential(torch.nn.LazyLinear(1), torch.nn.Flatten(0))
    trained = train_any(net, samples, loss=mse, config=OWN, out=tmp_path)
    assert trained.history["validation_loss"].isna().all()
    assert trained.best_epoch == 2
    assert trained.card["training"]["best_validation_loss"] is None
    again = load(tmp_path / "model", model=torch.nn.Sequential(torch.nn.LazyLinear(1), torch.nn.Flatten(0)))
    np.testing.assert_array_equal(again.predict(samples.train), trained.predict(samples.train))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_a_training_leaves_the_memory_allocator_alone(tmp_path: Path) -> None:
    """A large block that is freed goes back to the system, before a training and after it."""
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\n"
        "import ctypes\nfrom pathlib import Path\nfrom test_training import fit_numbers\n"
        "libc = ctypes.CDLL(None)\nlibc.malloc.restype = ctypes.c_void_p\n"
        "libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]\n"
        "def grown():\n"
        "    def size(): return int(Path('/proc/self/statm').read_text().split()[0]) * 4096\n"
        "    before = size(); block = libc.malloc(1 << 28); libc.free(block); return size() - before\n"
        "assert grown() < 1 << 24\n"
        "fit_numbers(Path(sys.argv[1]), steps=4)\n"
        "assert grown() < 1 << 24, 'freed memory is kept'\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=300)


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


# ------------------------------------------------------------------------------ steps, SGD, accumulation, reading ahead


class Numbers(BatchDataset):
    """Pairs of numbers; remembers which positions were asked for."""

    def __init__(self, n: int, *, counts_passes: bool = False, prefetch: int = 0) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs, self.target = torch.randn(n, 5, generator=generator), torch.rand(n, generator=generator)
        self.counts_passes, self.prefetch, self.asked = counts_passes, prefetch, []

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, batch: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append(batch)
        at = torch.from_numpy(batch % len(self))
        return self.inputs[at], self.target[at]


def fit_numbers(out: Path, n: int = 70, stop: int | None = None, data: Numbers | None = None, **settings: object):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.SiLU(), torch.nn.Linear(4, 1), torch.nn.Flatten(0))
    defaults = {"optimizer": "sgd", "schedule": "polynomial", "learning_rate": 0.05, "batch_size": 16, "device": "cpu"}
    config = TrainingConfig(**{**defaults, **settings})
    return fit(
        net,
        data or Numbers(n),
        Numbers(20, prefetch=data.prefetch if data else 0),
        config=config,
        out=out,
        keep="last",
        stop_after_epochs=stop,
    )


def same_weights(a: torch.nn.Module, b: torch.nn.Module, **tolerance: float) -> None:
    for one, other in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def test_accumulated_gradients_are_those_of_one_large_batch(tmp_path: Path) -> None:
    large = fit_numbers(tmp_path / "a", n=140, batch_size=64, steps=6)
    small = fit_numbers(tmp_path / "b", n=140, batch_size=16, accumulate=4, steps=6)
    same_weights(large.model, small.model, rtol=1e-5, atol=1e-6)
    other = fit_numbers(tmp_path / "c", n=140, batch_size=16, steps=6)
    assert not torch.allclose(next(large.model.parameters()), next(other.model.parameters()), rtol=1e-5, atol=1e-6)
    assert large.details["steps"] == small.details["steps"] == 6


def test_sgd_with_polynomial_decay_is_the_published_recipe(tmp_path: Path) -> None:
    """Against the update written out: v = m v + g + w d (biases without the decay); w = w - lr (1 - t / T)^p v."""
    found = fit_numbers(tmp_path, n=64, batch_size=16, steps=8, weight_decay=0.01, power=0.9)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.SiLU(), torch.nn.Linear(4, 1), torch.nn.Flatten(0))
    data, velocity = Numbers(64), [torch.zeros_like(p) for p in net.parameters()]
    for step in range(8):
        order = np.random.default_rng([0, step // 4]).permutation(64)
        inputs, target = data[order[16 * (step % 4) : 16 * (step % 4) + 16]]
        gradients = torch.autograd.grad(0.5 * (net(inputs) - target).square().mean(), list(net.parameters()))
        rate = 0.05 * (1 - step / 8) ** 0.9
        with torch.no_grad():
            for weight, gradient, v in zip(net.parameters(), gradients, velocity, strict=True):
                v.mul_(0.9).add_(gradient + 0.01 * weight * (weight.ndim > 1))
                weight.sub_(rate * v)
    same_weights(found.model, net, rtol=1e-5, atol=1e-6)
    assert found.history["learning_rate"].iloc[0] == pytest.approx(0.05)
    assert found.history["learning_rate"].iloc[-1] == pytest.approx(0.05 * 0.5**0.9)


def test_steps_are_cut_into_rounds_that_are_validated_and_resumed(tmp_path: Path) -> None:
    settings = {"steps": 20, "validate_every": 6, "n": 70}  # 4 whole batches a pass; rounds cross passes
    whole = fit_numbers(tmp_path / "whole", **settings)
    assert len(whole.history) == 4
    assert whole.details["steps"] == 24
    fit_numbers(tmp_path / "halves", stop=2, **settings)
    resumed = fit_numbers(tmp_path / "halves", **settings)
    assert resumed.details["resumed"]
    same_weights(whole.model, resumed.model, rtol=0, atol=0)
    assert StepPlan.make(85_591, TrainingConfig(batch_size=64, steps=600_000)) == StepPlan(449, 1337, 1337, 1337)


def test_a_step_needs_its_samples(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="at least batch_size x accumulate x devices = 256"):
        fit_numbers(tmp_path, batch_size=64, accumulate=4)


def test_batches_by_passes_cover_everything_once_and_depend_on_seed_and_pass() -> None:
    config = TrainingConfig(epochs=3, batch_size=16, seed=4)
    sampler = StepSampler(70, StepPlan.make(70, config), config)
    assert len(sampler) == 5
    for epoch in (0, 2, 0):
        sampler.set_epoch(epoch)
        expected = np.random.default_rng([4, epoch]).permutation(70)
        np.testing.assert_array_equal(np.concatenate(list(sampler)), expected)
    whole = dataclasses.replace(config, whole_batches=True)
    assert [len(batch) for batch in StepSampler(70, StepPlan.make(70, whole), whole)] == [16] * 4
    shared = dataclasses.replace(config, whole_batches=True, devices=2)
    parts = [np.concatenate(list(StepSampler(70, StepPlan.make(70, shared), shared, rank=rank))) for rank in (0, 1)]
    assert len(set(np.concatenate(parts).tolist())) == 64


def test_devices_share_the_validation_without_a_rest() -> None:
    alone = in_order(21, 8)
    assert [batch.tolist() for batch in alone] == [list(range(8)), list(range(8, 16)), list(range(16, 21))]
    shared = [batch for rank in range(2) for batch in in_order(21, 8, rank=rank, devices=2)]
    assert np.concatenate(shared).tolist() == list(range(21))
    assert [len(in_order(21, 2048, rank=rank, devices=2)) for rank in (0, 1)] == [1, 1]


@pytest.mark.slow
def test_two_devices_train_as_one_with_a_batch_twice_as_large(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\n"
        "from pathlib import Path; from test_training import fit_numbers\n"
        "fit_numbers(Path(sys.argv[1]), n=140, batch_size=16, accumulate=2, devices=2, steps=6)"
    )
    script = tmp_path / "two.py"  # each device is a process that starts the script anew
    script.write_text(code)
    subprocess.run([sys.executable, script, tmp_path / "two"], check=True, capture_output=True, timeout=500)
    one = fit_numbers(tmp_path / "one", n=140, batch_size=64, steps=6)
    state = SafetensorsCheckpointIO().load_checkpoint(tmp_path / "two" / "last.ckpt")
    for name, weight in one.model.state_dict().items():
        torch.testing.assert_close(state["state_dict"][f"model.{name}"], weight, rtol=1e-5, atol=1e-6)
    rows = next(value["rows"] for key, value in state["callbacks"].items() if "History" in key)
    assert rows[-1]["validation_loss"] == pytest.approx(one.history["validation_loss"].iloc[-1], rel=1e-5)


def test_data_that_changes_every_pass_is_told_the_pass(tmp_path: Path) -> None:
    data = Numbers(70, counts_passes=True)
    fit_numbers(tmp_path, data=data, steps=8, validate_every=8)
    assert [batch.min() // 70 for batch in data.asked] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_reading_ahead_changes_nothing_and_hands_errors_on(tmp_path: Path) -> None:
    plain = fit_numbers(tmp_path / "plain", steps=8)
    ahead = fit_numbers(tmp_path / "ahead", data=Numbers(70, prefetch=2), steps=8)
    same_weights(plain.model, ahead.model, rtol=0, atol=0)

    class Broken(Numbers):
        def __getitem__(self, batch: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
            if batch[0] == 3:
                raise FormatError("store", "a chunk is damaged")
            return super().__getitem__(batch)

    loader = PrefetchLoader(Broken(9), [np.arange(i, i + 3) for i in (0, 3, 6)], depth=1)
    batches = iter(loader)
    assert len(next(batches)[1]) == 3
    with pytest.raises(FormatError, match="damaged"):
        next(batches)


def test_weight_decay_leaves_norms_biases_and_depthwise_convolutions_alone() -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3), torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 1)
    )
    sgd = TrainingConfig(optimizer="sgd", weight_decay=1e-4)
    drawn, free = parameter_groups(net, sgd)
    assert {id(p) for p in drawn["params"]} == {id(net[0].weight), id(net[3].weight)}
    assert (drawn["weight_decay"], free["weight_decay"], len(free["params"])) == (1e-4, 0.0, 6)
    (only,) = parameter_groups(net, TrainingConfig(weight_decay=1e-4))
    assert len(only["params"]) == 8
    built = configure_optimizer(net, dataclasses.replace(sgd, schedule="polynomial"), 1, 10)
    assert isinstance(built["optimizer"], torch.optim.SGD)
    assert built["lr_scheduler"]["interval"] == "step"


def test_channels_last_gives_the_same_training(tmp_path: Path) -> None:
    plain = train(tmp_path / "plain", epochs=1)
    last = train(tmp_path / "last", epochs=1, channels_last=True)
    same_weights(plain.model, last.model, rtol=1e-3, atol=1e-4)
    assert all(p.is_contiguous() for p in last.model.parameters())


def test_a_compiled_network_keeps_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the eager backend: without the minute that generating and compiling C++ takes
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    plain = fit_numbers(tmp_path / "plain", steps=8)
    compiled = fit_numbers(tmp_path / "compiled", steps=8, compile=True)
    same_weights(plain.model, compiled.model, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "rmsprop"}, "optimizer"),
        ({"schedule": "linear"}, "schedule"),
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"accumulate": 0}, "accumulate"),
        ({"validate_every": 5}, "trainings by steps"),
        ({"power": 0.0}, "power"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        TrainingConfig(**settings)
