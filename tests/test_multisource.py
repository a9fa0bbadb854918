"""The multi-source experiment: training on a store, references, scores, checkpoints, the choice in a sweep."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fake_stores import write_sample_store

from smnb.contract import FormatError, ParameterError
from smnb.metrics import score_table
from smnb.models import build_model
from smnb.papers.batchu2023 import (
    FULL_MODEL,
    InputSet,
    inputs_of,
    paired_differences,
    paper_training,
    predict_sides,
    printed_results,
    references_at_sensors,
    results_table,
    training_samples,
)
from smnb.papers.batchu2023.batches import complete_samples, side_positions
from smnb.papers.batchu2023.experiment import (
    CLIMATOLOGY,
    PAPER_SWEEP,
    centre_values,
    climatology_predictions,
    predict_at_sensors,
)
from smnb.papers.batchu2023.inputs import SOURCE_SETS
from smnb.papers.batchu2023.store import SampleStore
from smnb.papers.tables import compare_with, published
from smnb.training import TrainingConfig, load, train
from smnb.training.losses import huber_loss

RIDGE = "Ridge, centre pixel"
SENSORS, DATES, CROP = 20, 16, 32
SIDES = ["train"] * 10 + ["validation"] * 6 + ["test"] * 4
SMALL = {
    "high_encoder": "small",
    "low_encoder": "small",
    "output_stride_high": 8,
    "output_stride_low": 2,
    "width_high": 0.25,
    "width_low": 0.25,
    "head1": (16, 1),
    "head1_keep": (1.0, 1.0),
    "head2_keep": (1.0, 1.0),
    "drop_path_keep": 1.0,
}
TRAINING = TrainingConfig(epochs=15, batch_size=32, learning_rate=0.01, device="cpu", patience=0, whole_batches=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    """Soil moisture of a seasonal cycle and noise; the backscatter image has it at the centre, SMAP with an error."""
    rng = np.random.default_rng(0)
    sensor = np.repeat(np.arange(SENSORS), DATES)
    n, side, low = sensor.size, CROP, CROP // 16
    time = np.tile(pd.date_range("2020-01-05", periods=DATES, freq="23D").to_numpy(), SENSORS)
    month = pd.DatetimeIndex(time).month.to_numpy()
    level = rng.normal(0.25, 0.02, SENSORS)[sensor]
    label = (level + 0.06 * np.cos(2 * np.pi * month / 12) + rng.normal(0, 0.04, n)).clip(0.02, 0.6)
    sentinel1 = rng.normal(0.5, 0.02, (n, 3, side, side))
    sentinel1[:, 0] += 2.0 * (label - 0.25)[:, None, None]
    sensors = pd.DataFrame(
        {
            "sensor_id": [f"s{i:02d}" for i in range(SENSORS)],
            "station": [f"t{i // 2}" for i in range(SENSORS)],
            "lat": 40.0,
            "lon": -100.0,
            "climate": "Cf",
            "split_iid": SIDES,
        }
    )
    values = {
        "sentinel1": sentinel1.clip(0, 1),
        "dem": rng.uniform(0, 1, (SENSORS, 1, side, side)),
        "sentinel2": rng.uniform(0.1, 0.9, (n, 6, side, side)),
        "soilgrids": rng.uniform(0, 1, (SENSORS, 4, low, low)),
        "smap": (0.5 * label + 0.05 + rng.normal(0, 0.02, n))[:, None],
        "gldas": rng.uniform(0.1, 0.3, (n, 1)),
    }
    label[7] = np.nan
    return write_sample_store(
        tmp_path_factory.mktemp("store") / "s.zarr",
        sensors=sensors,
        sensor=sensor,
        time=time,
        label=label,
        values=values,
        synthetic=True,
    )


def trained_on(store, inputs, out, *, config=TRAINING, model_config=SMALL, network="multisource", **options):
    """Train on the store, and estimate both sides that were held out."""
    samples = training_samples(store, inputs, split="iid", seed=config.seed, **options)
    loss = partial(huber_loss, delta=0.4)
    trained = train(network, samples, loss=loss, config=config, out=out, model_config=model_config, progress=False)
    name = inputs if isinstance(inputs, str) else "own"
    predictions = predict_sides(trained, store, split="iid", name=name)
    return SimpleNamespace(trained=trained, samples=samples, predictions=predictions)


@pytest.fixture(scope="module")
def run(store: SampleStore, tmp_path_factory: pytest.TempPathFactory):
    return trained_on(store, FULL_MODEL, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def coarse_run(store: SampleStore, tmp_path_factory: pytest.TempPathFactory):
    return trained_on(store, "SMAP + GLDAS NN", tmp_path_factory.mktemp("coarse"), model_config=None)


def test_the_network_learns_and_says_what_it_saw(run, coarse_run, store) -> None:
    card = run.trained.card["training"]
    assert card["dropped"] == {"label": 1}
    assert (card["n_train"], card["n_validation"], card["n_train_sensors"]) == (10 * DATES - 1, 6 * DATES, 10)
    assert len(run.predictions["test"]) == 4 * DATES
    table = run.predictions["validation"]
    assert {"sensor_id", "time", "observed", "predicted", "station", "climate"} <= set(table.columns)
    assert not [name for name in table if name.startswith("split_")]
    assert table.attrs == {"model": FULL_MODEL, "synthetic": True}
    references = references_at_sensors(store, SOURCE_SETS["SMAP + GLDAS NN"], split="iid")
    rmse = {
        name: float(np.sqrt(np.mean((one["validation"]["predicted"] - one["validation"]["observed"]) ** 2)))
        for name, one in {FULL_MODEL: run.predictions, "NN": coarse_run.predictions, **references}.items()
    }
    assert rmse["NN"] < rmse["SMAP"]  # the product has another level, which head 2 alone corrects
    assert rmse[FULL_MODEL] < rmse[CLIMATOLOGY]
    assert sum(p.numel() for p in coarse_run.trained.model.parameters()) == 2 * 8 + 8 + 2 * 8 + 8 + 1


def test_it_resumes_and_is_the_same_for_the_same_seed(run, store, tmp_path: Path) -> None:
    again = trained_on(store, FULL_MODEL, tmp_path)
    pd.testing.assert_frame_equal(again.predictions["validation"], run.predictions["validation"])
    resumed = trained_on(store, FULL_MODEL, tmp_path)
    assert resumed.trained.details["resumed"]
    pd.testing.assert_frame_equal(resumed.predictions["validation"], run.predictions["validation"])


def test_a_store_that_does_not_fit_into_memory_gives_the_same_network(store: SampleStore, tmp_path: Path) -> None:
    short = dataclasses.replace(TRAINING, epochs=2)
    tables = [
        trained_on(store, "Sentinel-1 + DEM", tmp_path / str(gb), config=short, memory_gb=gb).predictions["test"]
        for gb in (1.0, 0.0)
    ]
    np.testing.assert_allclose(tables[0]["predicted"], tables[1]["predicted"], atol=1e-5)


def test_a_checkpoint_gives_the_same_estimates_and_knows_its_inputs(run, store, tmp_path: Path) -> None:
    trained_on(store, FULL_MODEL, tmp_path, config=dataclasses.replace(TRAINING, epochs=1))
    loaded = load(tmp_path / "model")
    assert inputs_of(loaded) == SOURCE_SETS[FULL_MODEL]
    positions = side_positions(store, "iid", "test", mask=complete_samples(store)[0])
    table = predict_at_sensors(run.trained, store, positions)
    np.testing.assert_allclose(table["predicted"], run.predictions["test"]["predicted"], atol=1e-6)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["training"]["normalisation"]["sentinel1:VV"] == ["linear", -25.0, 5.0]
    assert card["channels"][:2] == ["sentinel1:VV", "sentinel1:VH"]
    scaled = loaded.input_scaler.transform(np.array([[0.0] * 16, [1.0] * 16]))
    assert scaled[:, :14].tolist() == [[-1.0] * 14, [1.0] * 14]  # images at the network's door: 2 x - 1
    assert scaled[:, 14:].tolist() == [[0.0, 0.0], [1.0, 1.0]]
    card["training"]["normalisation"]["sentinel1:VV"] = ["linear", -30.0, 5.0]
    del card["sha256"]
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(FormatError, match=r"other normalisations; got \['sentinel1:VV'\]"):
        inputs_of(load(tmp_path / "model"))
    del card["training"]["inputs"]
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(FormatError, match="not trained on a sample store"):
        inputs_of(load(tmp_path / "model"))


class Own(torch.nn.Module):
    """A network of the user's: the means of both images, and the coarse products."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.LazyLinear(1)

    def forward(self, high, low, coarse):
        return self.layer(torch.cat([high.mean((2, 3)), low.mean((2, 3)), coarse], 1))[:, 0]


def test_a_network_of_ones_own_is_trained_as_the_papers(store, tmp_path: Path) -> None:
    found = trained_on(store, FULL_MODEL, tmp_path, network=Own(), model_config=None)
    assert found.predictions["test"]["predicted"].std() > 0
    again = load(tmp_path / "model", model=Own())
    assert inputs_of(again) == SOURCE_SETS[FULL_MODEL]


def test_references_are_what_they_say(store: SampleStore) -> None:
    found = references_at_sensors(store, SOURCE_SETS["Sentinel-1 + DEM + SMAP"], split="iid")
    assert list(found) == ["SMAP", "GLDAS", CLIMATOLOGY, RIDGE, "SVR, centre pixel", "Gradient boosting, centre pixel"]
    at = side_positions(store, "iid", "test")
    np.testing.assert_array_equal(found["SMAP"]["test"]["predicted"], store.read("smap", at)[:, 0])

    mask, _ = complete_samples(store)
    samples = store.samples[mask & (store.samples["split_iid"] == "train")]
    season = samples["time"].dt.month.map({12: "w", 1: "w", 2: "w", 6: "s", 7: "s", 8: "s"})
    winter = samples[season == "w"].groupby("sensor_id")["soil_moisture"].mean().mean()
    table = found[CLIMATOLOGY]["test"]
    np.testing.assert_allclose(table.loc[table["time"].dt.month == 1, "predicted"], winter, atol=1e-6)
    assert table["predicted"].nunique() == 4

    ridge = found[RIDGE]["validation"]
    scores = score_table(ridge, metrics=("rmse",))
    assert scores["rmse"].mean() < score_table(found[CLIMATOLOGY]["validation"], metrics=("rmse",))["rmse"].mean()


def test_southern_sensors_have_the_opposite_season(store: SampleStore, tmp_path: Path) -> None:
    sensors = pd.DataFrame({"sensor_id": ["n", "s"], "lat": [40.0, -35.0]})
    two = write_sample_store(
        tmp_path / "t.zarr",
        sensors=sensors,
        sensor=[0, 0, 1, 1],
        label=[0.3, 0.1, 0.0, 0.0],
        time=pd.to_datetime(["2020-01-10", "2020-07-10"] * 2),
        values={"smap": np.full((4, 1), 0.2)},
    )
    found = climatology_predictions(two, {"test": np.array([2, 3])}, train=np.array([0, 1]))["test"]
    assert found["predicted"].tolist() == pytest.approx([0.1, 0.3])


def test_centre_values_are_the_four_pixels_around_the_sensor(store: SampleStore) -> None:
    inputs = SOURCE_SETS[FULL_MODEL]
    values = centre_values(store, inputs, np.array([3, 40]), chunk=1)
    assert values.shape == (2, 16)
    stored = store.read("sentinel2", [3, 40], ["B8"])
    np.testing.assert_allclose(
        values[:, inputs.high.index("sentinel2:B8")], stored[:, 0, 15:17, 15:17].mean((1, 2)), atol=1e-6
    )
    np.testing.assert_allclose(values[:, 14], store.read("smap", [3, 40])[:, 0])


def test_results_are_means_over_sensors_and_fit_the_published_table(run, coarse_run, store) -> None:
    experiments = {
        "SMAP": references_at_sensors(store, SOURCE_SETS["SMAP + GLDAS NN"], split="iid")["SMAP"],
        "SMAP + GLDAS NN": coarse_run.predictions,
        FULL_MODEL: run.predictions,
    }
    results = results_table(experiments, clusters="sensor_id", n_boot=200)
    table = run.predictions["validation"]
    each = []
    for _, rows in table.groupby("sensor_id"):
        error = rows["predicted"] - rows["observed"]
        each.append(
            (error.std(ddof=0), np.sqrt((error**2).mean()), np.corrcoef(rows["predicted"], rows["observed"])[0, 1])
        )
    row = results.loc[FULL_MODEL]
    np.testing.assert_allclose(
        row[["validation_ubrmse", "validation_rmse", "validation_r"]].astype(float), np.mean(each, 0)
    )
    assert row["validation_ubrmse_low"] < row["validation_ubrmse"] < row["validation_ubrmse_high"]
    assert (row["validation_n_sensors"], row["validation_n"], row["test_n_sensors"]) == (6, 6 * DATES, 4)
    assert results.attrs["synthetic"]
    assert printed_results(results).loc[FULL_MODEL, "validation_ubrmse"].count(".") == 3
    # four test sensors are too few for an interval
    assert printed_results(results).loc[FULL_MODEL, "test_ubrmse"].count(".") == 1
    wanted = [f"{side}_{score}" for side in ("validation", "test") for score in ("ubrmse", "rmse", "r")]
    compared = compare_with(results[wanted], published("batchu2023", "Table 9"), synthetic=True)
    assert compared["run"].notna().sum() == 18

    few = table.groupby("sensor_id").head(12)
    assert results_table({"x": {"validation": few}}).loc["x", "validation_n_sensors"] == 0


def test_differences_are_paired_by_sensor(run, coarse_run) -> None:
    experiments = {"NN": coarse_run.predictions, "all": run.predictions}
    found = paired_differences(experiments, "NN", clusters="sensor_id", n_boot=200).set_index("metric")
    a, b = (score_table(one.predictions["validation"], metrics=("rmse",))["rmse"] for one in (run, coarse_run))
    assert found.loc["rmse", "difference"] == pytest.approx((a - b).mean())
    assert found.loc["rmse", "percent"] == pytest.approx(-100 * (a - b).mean() / b.mean())
    assert found.loc["rmse", "low"] <= found.loc["rmse", "difference"] <= found.loc["rmse", "high"]
    assert found.loc["r", "n_sensors"] == 6
    clustered = paired_differences(experiments, "NN", clusters="station", n_boot=200)
    assert np.isnan(clustered["low"]).all()  # three stations: no interval
    with pytest.raises(ParameterError, match="no such experiment"):
        paired_differences(experiments, "SMAP")
    with pytest.raises(ParameterError, match="unknown 'clusters'"):
        results_table(experiments, clusters="village")


def test_the_papers_recipe_and_sweep_are_table_7() -> None:
    config = paper_training(steps=10)
    settings = (config.optimizer, config.momentum, config.schedule, config.power, config.samples_per_step)
    assert settings == ("sgd", 0.9, "polynomial", 0.9, 64)
    assert paper_training().steps == 600_000
    table_7 = published("batchu2023", "Table 7").values
    assert {"learning_rate": table_7["Learning rate"], "weight_decay": table_7["Weight decay"]} == PAPER_SWEEP
    assert (paper_training().steps,) == table_7["Number train steps"]
    for name, values in PAPER_SWEEP.items():
        assert getattr(paper_training(**{name: values[0]}), name) == values[0]


def test_what_cannot_be_trained_is_refused(store: SampleStore, tmp_path: Path) -> None:
    def attempt(inputs=FULL_MODEL, **options):
        return trained_on(store, inputs, tmp_path, **options)

    for error, message, options in [
        (ParameterError, "unknown 'inputs'", {"inputs": "Sentinel-3"}),
        (ParameterError, "unknown config keys", {"model_config": {"depth": 3}}),
        (ParameterError, "'crop' does not fit", {"crop": 31}),
    ]:
        with pytest.raises(error, match=message):
            attempt(**options)
    with pytest.raises(ParameterError, match="no such split"):
        training_samples(store, FULL_MODEL, split="block")
    assert InputSet.of("sentinel1", "dem") == SOURCE_SETS["Sentinel-1 + DEM"]


def test_the_papers_network_follows_from_the_inputs(store: SampleStore) -> None:
    sizes = training_samples(store, FULL_MODEL, split="iid").sizes
    assert sizes == {"high_channels": 10, "low_channels": 4, "coarse_channels": 2}
    with torch.device("meta"):
        net = build_model("multisource", sizes)
    assert sum(p.numel() for p in net.parameters()) == 63_323_354
    assert training_samples(store, "Sentinel-1 + DEM", split="iid").sizes["coarse_channels"] == 0
