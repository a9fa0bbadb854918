"""One fold from patches to scores, on a small relation that each model can learn to its own degree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.ndimage import uniform_filter

from smnb.models.baselines import pixel_climatology, reference_predictions, seasonal_climatology
from smnb.papers.hu2018_amsre import experiment as retrieval
from smnb.papers.hu2018_amsre.tasks import Fold, PatchTask, draw_patches, eligible_centres
from smnb.training import TrainingConfig, load, train
from smnb.training.losses import euclidean_loss


@pytest.fixture(scope="module")
def task() -> PatchTask:
    rng = np.random.default_rng(0)
    noise = uniform_filter(rng.standard_normal((3, 60, 80, 4)), size=(0, 5, 5, 0), mode="wrap")
    images = (245 + 20 * noise / noise.std()).astype("float32")
    target = (0.3 - (images[..., 0] - 200) / 400 + 0.02 * rng.standard_normal((3, 60, 80))).astype("float32")
    eligible = eligible_centres(images, target, wrap=True)
    train, validation = draw_patches(eligible, [0, 1], (1200, 200), seed=0)
    (test,) = draw_patches(eligible, [2], (800,), seed=1)
    labels = pd.DataFrame({"time": pd.date_range("2011-07-01", periods=3)})
    fold = Fold("day 3", train, validation, test, np.arange(2))
    return PatchTask("t", "t", images, target, ("a", "b", "c", "d"), labels, [fold], wrap=True)


@pytest.fixture(scope="module")
def fitted(task: PatchTask, tmp_path_factory: pytest.TempPathFactory):
    data = retrieval.FoldData.of(task, task.folds[0])
    config = TrainingConfig(epochs=4, batch_size=64, device="cpu")
    out = tmp_path_factory.mktemp("fit")
    trained = train("amsre_cnn", data.samples, loss=euclidean_loss, config=config, out=out)
    svr = retrieval.train_svr(data, n_samples=600, n_search=200)
    predictions = {"CNN": trained.predict(data.test), "SVR": svr.machine.predict(data.test)}
    return data, trained, svr, predictions | retrieval.patch_references(data, n_samples=600), out


def test_models_are_scored_on_the_same_patches(fitted: tuple) -> None:
    data, _, _, predictions, _ = fitted
    scores = retrieval.score_predictions(predictions, data.observed, data.target_range)
    assert list(scores.index) == ["CNN", "SVR", "ridge", "gradient boosting", "pixel mean"]
    assert (scores["n"] == 800).all()
    assert scores.r2["ridge"] > 0.7  # the relation is linear
    assert scores.r2["gradient boosting"] > 0.5
    assert scores.r2["CNN"] > 0.3
    assert abs(scores.r["pixel mean"]) < 0.2  # days are independent here: a climatology knows nothing
    identity = scores["ubrmse"] ** 2 + scores["bias"] ** 2
    np.testing.assert_allclose(scores["rmse"] ** 2, identity, rtol=1e-5)
    np.testing.assert_allclose(scores["rmse_scaled"] * data.target_range, scores["rmse"], rtol=1e-6)


def test_gains_are_paired_by_block_and_say_who_is_better(fitted: tuple) -> None:
    data, _, _, predictions, _ = fitted
    blocks = data.fold.test.row // 10
    found = retrieval.gains(predictions, data.observed, blocks, model="CNN")
    assert list(found.index) == ["SVR", "ridge", "gradient boosting", "pixel mean"]
    assert (found["blocks"] == 6).all()
    assert found.high["pixel mean"] < 0 < found.low["ridge"]
    by_hand = []
    for block in range(6):
        there = blocks == block
        rmse = {m: np.sqrt(np.mean((predictions[m] - data.observed)[there] ** 2)) for m in ("CNN", "ridge")}
        by_hand.append(rmse["CNN"] - rmse["ridge"])
    assert found.difference["ridge"] == pytest.approx(np.mean(by_hand))


def test_the_saved_network_predicts_what_was_scored(task: PatchTask, fitted: tuple) -> None:
    data, trained, _, predictions, out = fitted
    again = load(out / "model", channels=task.channels)
    np.testing.assert_allclose(again.predict(data.test), predictions["CNN"], atol=1e-6)
    assert again.card["training"]["fold"] == "day 3"
    assert trained.card == again.card


def test_svr_through_torch_is_scikit_learns(fitted: tuple) -> None:
    svr = fitted[2]
    assert svr.largest_difference < 1e-5
    assert svr.machine.card["training"]["n_train"] == 600
    assert {"C", "epsilon", "gamma"} < set(svr.search)


def test_a_network_of_ones_own_takes_the_patches(task: PatchTask, fitted: tuple, tmp_path) -> None:
    data, net = fitted[0], torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(1), torch.nn.Flatten(0))
    config = TrainingConfig(epochs=1, batch_size=64, device="cpu")
    trained = train(net, data.samples, loss=euclidean_loss, config=config, out=tmp_path)
    images = xr.DataArray(
        task.images[[2]].transpose(0, 3, 1, 2),
        {
            "time": task.labels["time"].to_numpy()[[2]],
            "channel": list(task.channels),
            "lat": np.linspace(-88.5, 88.5, 60),
            "lon": np.arange(-177.75, 180, 4.5),
        },
        ("time", "channel", "lat", "lon"),
    )
    mapped = retrieval.day_maps(trained, images, synthetic=True)["soil_moisture"].values[0]
    test = data.fold.test
    np.testing.assert_allclose(mapped[test.row, test.col], trained.predict(data.test), atol=1e-6)


def test_ridge_equals_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smnb.models.baselines.ALPHAS", (1.0,))
    rng = np.random.default_rng(1)
    x, y = rng.random((50, 3)), rng.random(50)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    coefficients = np.linalg.solve(scaled.T @ scaled + np.eye(3), scaled.T @ (y - y.mean()))
    found = reference_predictions(x, y, x, rows=("ridge",))["ridge"]
    np.testing.assert_allclose(found, y.mean() + scaled @ coefficients, rtol=1e-5)


def test_climatologies_use_training_images_only() -> None:
    target = np.array([[[0.1, np.nan]], [[0.3, np.nan]], [[0.9, 0.8]]])
    index = (np.array([2, 2]), np.array([0, 0]), np.array([0, 1]))
    np.testing.assert_allclose(pixel_climatology(target, np.array([0, 1]), index), [0.2, 0.2])
    labels = pd.DataFrame({"season": ["JJA", "DJF", "JJA"], "region": [1, 1, 2]})
    got = seasonal_climatology(target, labels, np.array([0, 1]), np.array([2, 1]), by=("season",))
    np.testing.assert_allclose(got, [0.1, 0.3])
    unseen = seasonal_climatology(target, labels, np.array([0, 1]), np.array([2]), by=("region", "season"))
    np.testing.assert_allclose(unseen, [0.2])
