"""1 km fusion experiments on a small made-up world: what is learned, from whom, and how it is scored."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pandas as pd
import pytest
from pytesmo.metrics import pairwise

from smnb.contract import ParameterError
from smnb.grids import M01, EaseWindow
from smnb.metrics import pair_scores
from smnb.papers.smap_sentinel1 import (
    PRODUCT,
    FusionSamples,
    fusion_estimates,
    fusion_training,
    parse_places,
    patch_fields,
    score_at_sensors,
    score_everywhere,
    split_sensors,
)
from smnb.papers.smap_sentinel1.experiment import coarse_view
from smnb.training import TrainingConfig, train
from smnb.training.losses import fusion_loss

SIZE = 45


@pytest.fixture(scope="module")
def samples() -> FusionSamples:
    """Soil moisture that darkens TB and brightens VV pixel by pixel; a product that is its blurred, biased average."""
    rng = np.random.default_rng(4)
    n, windows, rows = 4, [], []
    truth = np.empty((n, SIZE, SIZE), "float32")
    for k in range(n):
        truth[k] = (
            0.2 + 0.08 * np.kron(rng.standard_normal((5, 5)), np.ones((9, 9))) / 2 + rng.normal(0, 0.03, (SIZE, SIZE))
        )
        windows.append(EaseWindow(M01, 3006 + 900 * k, 3006 + 900 * k + SIZE, 8001, 8001 + SIZE))
    truth = truth.clip(0.02, 0.5)
    images = np.stack([250 - 150 * truth, 270 - 120 * truth, -14 + 20 * truth, -20 + 15 * truth], axis=1) + rng.normal(
        0, [[[[1.0]], [[1.0]], [[0.3]], [[0.3]]]], (n, 4, SIZE, SIZE)
    )
    sensors = []
    for k in range(n):
        for i, (row, col) in enumerate(zip(rng.permutation(SIZE)[:14], rng.permutation(SIZE)[:14], strict=True)):
            name = f"s{k}_{i}"
            lat, lon = M01.latlon(windows[k].row_start + row, windows[k].col_start + col)
            sensors.append(
                (name, float(lat), float(lon), windows[k].row_start + row, windows[k].col_start + col, f"p{k}")
            )
            rows.append((k, name, row, col, truth[k, row, col] + rng.normal(0, 0.01), 3))
    product = truth.reshape(n, 5, 9, 5, 9).mean((2, 4)) + 0.02
    images[0, 2, :4, :4] = np.nan
    return FusionSamples(
        scene=np.array([f"p{k}" for k in range(n)]),
        time=np.datetime64("2020-09-01", "ns") + np.arange(n),
        windows=tuple(windows),
        images=images.astype("float32"),
        product=product.astype("float32"),
        offset=np.zeros((n, 2), int),
        in_situ=pd.DataFrame(rows, columns=["patch", "sensor_id", "row", "col", "soil_moisture", "n_readings"]),
        sensors=pd.DataFrame(sensors, columns=["sensor_id", "lat", "lon", "row", "col", "scene"]),
        baseline=(truth + rng.normal(0, 0.06, truth.shape)).astype("float32"),
        truth=truth,
        synthetic=True,
    )


def _estimate(samples, split, config, out) -> tuple:
    data = fusion_training(samples, split)
    trained = train("fusion_1km", data, loss=partial(fusion_loss, alpha=0.5), config=config, out=out, keep="last")
    return trained, fusion_estimates(trained, samples)


@pytest.fixture(scope="module")
def fused(samples, tmp_path_factory):
    """Split, configuration, trained network, estimates, pairs and examples."""
    split = split_sensors(samples, validation=0.4, seed=1)
    config = TrainingConfig(epochs=40, batch_size=2, learning_rate=5e-3, patience=0, device="cpu")
    trained, estimates = _estimate(samples, split, config, tmp_path_factory.mktemp("fusion"))
    return split, config, trained, estimates, *score_at_sensors(samples, split, estimates, min_pixels=2)


def test_network_beats_a_noisy_product_at_unseen_sensors_and_everywhere(samples, fused) -> None:
    _, _, trained, estimates, pairs, _ = fused
    held = pairs[pairs["side"] == "validation"]
    found = {name: pair_scores(held[name], held["observed"])["ubrmse"] for name in estimates}
    assert found["network"] < found[PRODUCT]
    everywhere = score_everywhere(samples, estimates).groupby("method")["ubrmse"].mean()
    assert everywhere["network"] < everywhere[PRODUCT]
    assert trained.card["training"]["synthetic"] is True


def test_estimates_are_missing_where_a_channel_is(samples, fused) -> None:
    estimates = fused[3]
    estimate = estimates["network"]
    assert np.isnan(estimate[0, :4, :4]).all()
    assert np.isfinite(estimate[1:]).all()
    nine = estimates["9 km product"]
    np.testing.assert_allclose(nine[2, ::9, ::9], samples.product[2])


def test_all_methods_are_scored_at_the_same_pixels(samples, fused) -> None:
    split, _, _, estimates, every_pair, examples = fused
    assert set(every_pair["side"]) == {"train", "validation"}
    example = examples.query("side == 'validation' and method == 'network'").iloc[0]
    table = every_pair.query("side == 'validation' and patch == @example.patch")
    pred, obs = (table[name].to_numpy(float) for name in ("network", "observed"))
    assert example["ubrmse"] == pytest.approx(pairwise.ubrmsd(pred, obs))
    assert example["n"] == len(table)
    everywhere = score_everywhere(samples, estimates)
    assert everywhere.query("patch == 0")["n"].eq(SIZE * SIZE - 16).all()
    with pytest.raises(ParameterError, match="enough in-situ pixels"):
        score_at_sensors(samples, split, estimates, min_pixels=99)


def test_validation_readings_change_nothing_in_training(samples, fused, tmp_path) -> None:
    split, config, _, estimates, *_ = fused
    changed = samples.in_situ.copy()
    changed.loc[changed["sensor_id"].isin(split.ids("validation")), "soil_moisture"] = 0.45
    _, again = _estimate(dataclasses.replace(samples, in_situ=changed), split, config, tmp_path)
    np.testing.assert_array_equal(again["network"], estimates["network"])


def test_fields_of_a_patch_have_its_coordinates_and_coarse_view_is_the_block_mean(samples, fused) -> None:
    fields = patch_fields(samples, 2, fused[3])
    assert list(fields)[:4] == ["TB H", "TB V", "Sentinel-1 VV", "Sentinel-1 VH"]
    assert (np.diff(fields["TB H"]["lat"]) > 0).all()
    view = coarse_view(samples, 1, samples.truth[1])
    np.testing.assert_allclose(view[::9, ::9], samples.truth[1].reshape(5, 9, 5, 9).mean((1, 3)), atol=1e-6)


def test_places_are_parsed_and_refused() -> None:
    places = parse_places(["a=-98.5,34.5,-97.5,35.5", "b=5,45,6,46"])
    assert list(places) == ["a", "b"]
    assert places["a"].lon.min() > -98.51
    assert parse_places([]) is None
    for bad in (["a"], ["a=1,2,3"], ["=1,2,3,4"], ["a=1,2,3,4", "a=1,2,3,4"], ["a=6,45,5,46"]):
        with pytest.raises(ParameterError):
            parse_places(bad)
