"""One fold from patches to scores, on a small relation that each model can learn to its own degree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import uniform_filter

from smnb.models.baselines import fit_ridge, pixel_climatology, seasonal_climatology
from smnb.papers.hu2018_amsre import experiment as retrieval
from smnb.papers.hu2018_amsre.patch_tasks import Fold, PatchTask
from smnb.papers.hu2018_amsre.patches import draw_patches, eligible_centres
from smnb.papers.hu2018_amsre.prediction import predict_patches
from smnb.training import TrainingConfig
from smnb.training.checkpoints import load_model


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
    data = retrieval.fold_data(task, task.folds[0])
    out = tmp_path_factory.mktemp("fit")
    loaded, result = retrieval.train_cnn(data, TrainingConfig(epochs=4, batch_size=64, device="cpu"), out)
    svr = retrieval.train_svr(data, n_samples=600, n_search=200)
    retrieval.baseline_predictions(data)
    return data, loaded, result, svr, out


def test_models_are_scored_on_the_same_patches(fitted: tuple) -> None:
    data, *_ = fitted
    scores = retrieval.score_fold(data)
    assert list(scores.index) == ["CNN", "SVR", "ridge", "pixel mean"]
    assert (scores["n"] == 800).all()
    assert scores.r2["ridge"] > 0.7  # the relation is linear
    assert scores.r2["CNN"] > 0.3
    assert abs(scores.r["pixel mean"]) < 0.2  # days are independent here: a climatology knows nothing
    identity = scores["ubrmse"] ** 2 + scores["bias"] ** 2
    np.testing.assert_allclose(scores["rmse"] ** 2, identity, rtol=1e-5)
    np.testing.assert_allclose(scores["rmse_scaled"] * data.target_range, scores["rmse"], rtol=1e-6)
    pd.testing.assert_frame_equal(retrieval.score_folds([data]), scores)


def test_scores_against_another_truth(task: PatchTask, fitted: tuple) -> None:
    data, *_ = fitted
    scores = retrieval.score_folds([data], task.target + 0.1)
    assert scores.bias["ridge"] == pytest.approx(retrieval.score_fold(data).bias["ridge"] - 0.1, abs=1e-5)


def test_the_saved_network_predicts_what_was_scored(task: PatchTask, fitted: tuple) -> None:
    data, loaded, _, _, out = fitted
    again = load_model(out / "model", channels=task.channels)
    store = task.store(again.input_scaler)
    scaled = predict_patches(again.model, store, data.fold.test)
    predicted = again.target_scaler.inverse(scaled[:, None])[:, 0]
    np.testing.assert_allclose(predicted, data.predictions["CNN"], atol=1e-6)
    assert again.card["training"]["fold"] == "day 3"
    assert loaded.card["weights_sha256"] == again.card["weights_sha256"]


def test_svr_through_torch_is_scikit_learns(fitted: tuple) -> None:
    svr = fitted[3]
    assert svr.largest_difference < 1e-5
    assert svr.n_train == 600
    assert set(svr.best) == {"C", "epsilon", "gamma"}


def test_ridge_equals_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.random((50, 3)), rng.random(50)
    ridge = fit_ridge(x, y, alphas=(1.0,))
    centred = x - x.mean(axis=0)
    coefficients = np.linalg.solve(centred.T @ centred + np.eye(3), centred.T @ (y - y.mean()))
    np.testing.assert_allclose(ridge.coef_, coefficients, rtol=1e-8)


def test_climatologies_use_training_images_only() -> None:
    target = np.array([[[0.1, np.nan]], [[0.3, np.nan]], [[0.9, 0.8]]])
    index = (np.array([2, 2]), np.array([0, 0]), np.array([0, 1]))
    np.testing.assert_allclose(pixel_climatology(target, np.array([0, 1]), index), [0.2, 0.2])
    labels = pd.DataFrame({"season": ["JJA", "DJF", "JJA"], "region": [1, 1, 2]})
    got = seasonal_climatology(target, labels, np.array([0, 1]), np.array([2, 1]), by=("season",))
    np.testing.assert_allclose(got, [0.1, 0.3])
    unseen = seasonal_climatology(target, labels, np.array([0, 1]), np.array([2]), by=("region", "season"))
    np.testing.assert_allclose(unseen, [0.2])
