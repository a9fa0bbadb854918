"""SMEN experiments: training reaches what can be reached, the level, baselines, scores against pytesmo."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pytesmo.metrics import pairwise

from smnb.contract import ContractError, ParameterError
from smnb.papers.smen import (
    ImageSequences,
    Place,
    paired_gains,
    reference_images,
    score_place,
    smen_samples,
)
from smnb.papers.smen.experiment import add_level, downscale_baselines, predict_images, score_images
from smnb.training import TrainingConfig, train
from smnb.training.losses import unbiased_rmse_loss


def _world(n: int = 26, size: int = 24) -> ImageSequences:
    """Persistent texture that moves with the wetness of the coarse image: more than a climatology can tell."""
    rng = np.random.default_rng(0)
    wet = np.repeat(np.repeat(rng.uniform(0.1, 0.4, (n, 2, 2)), size // 2, 1), size // 2, 2).astype("float32")
    texture = rng.normal(0.0, 0.04, (size, size)).astype("float32")
    fine = wet + texture + rng.normal(0.0, 0.01, wet.shape).astype("float32")
    fine[::5, :, : size // 3] = np.nan
    time = np.datetime64("2017-01-01T06", "ns") + np.arange(n) * np.timedelta64(12, "D")
    return ImageSequences("test", "test (synthetic)", time, wet, fine, wet.copy(), {}, 4, True)


def _train(place: Place, out, config: TrainingConfig):
    return train("smen", smen_samples(place), loss=unbiased_rmse_loss, config=config, out=out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    sequences = _world()
    place = Place(sequences, sequences.split("2017-09-01"))
    config = TrainingConfig(epochs=60, batch_size=4, learning_rate=5e-3, patience=0, seed=1, device="cpu")
    out = tmp_path_factory.mktemp("smen")
    return place, out, config, _train(place, out, config)


def test_training_learns_the_persistent_texture(trained) -> None:
    place, *_, network = trained
    estimates, scores = score_place(place, network)
    assert next(iter(estimates)) == "SMEN"
    tested = scores[(scores["part"] == "test") & (scores["reference"] == "product")]
    means = tested.groupby("method")["ubrmse"].mean()
    # the noise is 0.01 and the texture 0.04: the network must find most of it, without ever being told the mean
    assert means["SMEN without level"] < 0.6 * means["coarse"]
    assert means["SMEN"] == pytest.approx(means["SMEN without level"], rel=1e-5)
    assert network.history["train_loss"].iloc[-1] < 0.7 * network.history["train_loss"].iloc[0]
    assert network.card["training"]["synthetic"] is True


def test_the_loss_is_the_score_and_training_goes_on_from_its_state(trained) -> None:
    place, out, config, network = trained
    sequences, split = place.sequences, place.split
    shown = split.train[:4]
    images = {"SMEN": predict_images(network, place, shown)}
    held = score_images(images, sequences.fine[shown], sequences.time[shown])
    best = network.history["validation_loss"].min() * network.target_scaler.maximum[0]
    assert held["ubrmse"].mean() == pytest.approx(best, rel=1e-3)
    again = _train(place, out, config)
    assert again.details["resumed"]
    assert len(again.history) == config.epochs
    np.testing.assert_array_equal(predict_images(again, place, split.test), predict_images(network, place, split.test))


def test_gains_are_paired_scene_by_scene(trained) -> None:
    place, *_, network = trained
    references = reference_images(place, place.split.test)
    assert {image.shape for image in references.values()} == {(place.split.test.size, *place.sequences.shape)}
    _, scores = score_place(place, network, references=references)
    tested = scores[(scores["part"] == "test") & (scores["reference"] == "product")]
    means = tested.groupby("method")["ubrmse"].mean()
    gains = paired_gains(tested).set_index("other")
    assert list(gains.index) == [*downscale_baselines(place, place.split.test), *references]
    assert gains.loc["ridge", "difference"] == pytest.approx(means["SMEN"] - means["ridge"])
    # the texture stays, and nothing but the coarse image says how wet it is: the climatology of pixels must lose to ridge
    assert means["ridge"] < means["climatology"]


def test_pixels_held_out_are_scored_apart_and_train_nothing(trained) -> None:
    place, _, _, network = trained
    exclude = np.zeros(place.sequences.shape, bool)
    exclude[:12] = True
    hidden = Place(place.sequences, place.split, exclude)
    _, scores = score_place(hidden, network, name="network")
    tested = scores[(scores["part"] == "test") & (scores["method"] == "network")]
    assert tested.groupby("region")["n"].max().to_dict() == {
        "test (synthetic), cells held out": 288,
        "test (synthetic), cells seen": 288,
    }
    assert set(scores.loc[scores["part"] == "train", "region"]) == {"test (synthetic), cells seen"}
    assert not smen_samples(hidden).train[np.array([0])][2][:, :12].any()


def test_level_comes_from_the_coarse_mean() -> None:
    rng = np.random.default_rng(0)
    images, coarse = rng.normal(5.0, 1.0, (3, 8, 8)), rng.uniform(0.1, 0.3, (3, 8, 8))
    levelled = add_level(images, coarse)
    np.testing.assert_allclose(levelled.mean((1, 2)), coarse.mean((1, 2)))
    np.testing.assert_allclose(levelled.std((1, 2)), images.std((1, 2)))


def test_baselines_are_what_they_say() -> None:
    sequences = _world()
    place = Place(sequences, split := sequences.split("2017-09-01"))
    estimates = downscale_baselines(place, split.test)
    assert list(estimates) == ["coarse", "bilinear", "last fine + coarse change", "residual climatology"]
    scene = int(split.test[1])
    assert np.isfinite(sequences.fine[scene - 1]).all()
    np.testing.assert_allclose(
        estimates["last fine + coarse change"][1],
        sequences.fine[scene - 1] + sequences.coarse[scene] - sequences.coarse[scene - 1],
        atol=1e-6,
    )
    mean = np.nanmean((sequences.fine - sequences.coarse)[split.train], 0)
    np.testing.assert_allclose(estimates["residual climatology"][1], sequences.coarse[scene] + mean, atol=1e-6)
    exclude = np.zeros(sequences.shape, bool)
    exclude[:3] = True
    held = downscale_baselines(Place(sequences, split, exclude), split.test)["residual climatology"]
    np.testing.assert_array_equal(held[:, :3], sequences.coarse[split.test][:, :3])


def test_scores_equal_pytesmo_on_the_valid_pixels() -> None:
    sequences = _world()
    scenes = np.array([5, 6])
    estimate = sequences.coarse[scenes]
    table = score_images({"coarse": estimate}, sequences.fine[scenes], sequences.time[scenes])
    for row, number in zip(table.itertuples(), range(2), strict=True):
        at = np.isfinite(sequences.fine[scenes[number]])
        x, y = (v[number][at].astype("float64") for v in (estimate, sequences.fine[scenes]))
        assert (row.n, row.ubrmse) == (at.sum(), pytest.approx(pairwise.ubrmsd(x, y)))
        assert row.bias == pytest.approx(pairwise.bias(x, y))
        assert row.rmse == pytest.approx(pairwise.rmsd(x, y))
        assert row.r == pytest.approx(pairwise.pearson_r(x, y))
    block = np.zeros(sequences.shape, bool)
    block[:2, :3] = True
    with pytest.raises(ParameterError, match="enough valid pixels"):
        score_images({"coarse": estimate}, sequences.fine[scenes], sequences.time[scenes], where=block)


def test_a_network_of_another_history_is_refused(trained) -> None:
    place, *_, network = trained
    other = dataclasses.replace(place, sequences=dataclasses.replace(place.sequences, history=3))
    with pytest.raises(ContractError, match="another history"):
        predict_images(network, other, place.split.test)
