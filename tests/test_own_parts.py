"""The user's own network, metric and source: each in at most 15 lines, no file of the library touched.

What stands between ``# --- a user writes`` and ``# ---`` is what a user writes; everything around it is the test's.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from smnb.loaders.insitu import InSituTables
from smnb.loaders.rasters import open_scenes
from smnb.metrics import Metric, compare, score_intervals, score_table
from smnb.papers.batchu2023 import InputSet, MultiSourceDataset, Source, build_matchups
from smnb.papers.hu2018_amsre import FoldData, PatchTask, day_maps
from smnb.papers.hu2018_amsre.tasks import Fold, draw_patches, eligible_centres
from smnb.training import TrainingConfig, load, train

MOST_LINES = 15


@pytest.fixture(scope="module")
def task() -> PatchTask:
    """Two days of images in which drier ground is warmer."""
    rng = np.random.default_rng(0)
    images = (245 + 20 * rng.standard_normal((2, 24, 40, 2))).astype("float32")
    target = (0.3 - (images[..., 0] - 245) / 400).astype("float32")
    eligible = eligible_centres(images, target, wrap=True)
    first, second = draw_patches(eligible, [0], (400, 100), seed=0)
    (test,) = draw_patches(eligible, [1], (300,), seed=1)
    lat, lon = np.linspace(-57.5, 57.5, 24), np.arange(-175.5, 180, 9.0)
    fold = Fold("day 2", first, second, test, np.arange(1))
    labels = pd.DataFrame({"time": pd.date_range("2011-07-01", periods=2)})
    return PatchTask("t", "t", images, target, ("6.9H", "6.9V"), labels, [fold], wrap=True, lat=lat, lon=lon)


def test_an_own_network_is_trained_saved_loaded_and_mapped(task, tmp_path):
    data = FoldData.of(task, task.folds[0])
    torch.manual_seed(0)  # the weights that the network starts from

    # --- a user writes
    class Centre(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))

        def forward(self, patches):
            return self.layers(patches[:, :, 4, 4])[:, 0]

    config = TrainingConfig(epochs=30, batch_size=64, learning_rate=1e-2, device="cpu")
    trained = train(Centre(), data.samples, loss=torch.nn.functional.mse_loss, config=config, out=tmp_path)
    again = load(tmp_path / "model", model=Centre)
    mapped = day_maps(again, task.day(1), synthetic=True)["soil_moisture"]
    # ---

    predicted = trained.predict(data.test)
    assert np.corrcoef(predicted, data.observed)[0, 1] > 0.95
    np.testing.assert_allclose(again.predict(data.test), predicted, atol=1e-6)
    test = data.fold.test
    np.testing.assert_allclose(mapped.values[0, test.row, test.col], predicted, atol=1e-5)
    assert mapped.attrs["units"] == "m3 m-3"


def test_an_own_metric_has_an_interval_in_a_table():
    rng = np.random.default_rng(0)
    observed, sensors, days = rng.uniform(0.1, 0.4, 1200), 12, 100
    table = pd.DataFrame({"sensor_id": np.repeat([f"s{i}" for i in range(sensors)], days), "observed": observed})
    table["time"] = np.tile(pd.date_range("2020-01-01", periods=days), sensors)
    table["predicted"] = observed + rng.normal(0.0, 0.04, observed.size)
    worse = table.assign(predicted=observed + rng.normal(0.0, 0.06, observed.size))

    # --- a user writes
    def wet_error(pred, obs):
        return np.abs(pred - obs)[obs > 0.25].mean()

    mine = Metric("wet_error", wet_error, units="m3 m-3", better="low", label="error when wet")
    scores = score_table(table, metrics=("ubrmse", wet_error))
    intervals = score_intervals(table, metrics=("ubrmse", mine), n_boot=200)
    paired = compare(scores, score_table(worse, metrics=mine), mine, names=("first", "second"))
    # ---

    of_mine = intervals[intervals["metric"] == "wet_error"]
    np.testing.assert_allclose(of_mine["value"], scores["wet_error"])
    assert ((of_mine["low"] < of_mine["value"]) & (of_mine["value"] < of_mine["high"])).all()
    true = 0.04 * np.sqrt(2 / np.pi)
    assert ((of_mine["low"] < true) & (true < of_mine["high"])).sum() >= 9
    assert paired.sentence.startswith("first beats second by 0.01")
    assert "error when wet" in paired.sentence


@pytest.fixture
def rasters(tmp_path):
    """GeoTIFFs of two days: SMAP, and a wetness index of the user's own."""
    for name, low in (("smap", 10.0), ("wetness", 40.0)):
        for day in (1, 2):
            values = np.full((1, 20, 20), low + day, dtype="float32")
            path = tmp_path / f"{name}_2020060{day}.tif"
            place = {"crs": "EPSG:4326", "transform": from_origin(-99.0, 32.0, 0.1, 0.1), "nodata": -9999.0}
            with rasterio.open(
                path, "w", driver="GTiff", width=20, height=20, count=1, dtype="float32", **place
            ) as out:
                out.write(values)
    return tmp_path


def test_an_own_source_is_matched_into_a_store(rasters):
    sensors = {"sensor_id": ["a"], "network": ["n"], "station": ["s"], "lat": [31.03], "lon": [-98.04]}
    sensors = pd.DataFrame(sensors | {"depth_from": [0.0], "depth_to": [0.05]})
    hours = pd.to_datetime(["2020-06-01 00:30", "2020-06-02 00:30"])
    readings = pd.DataFrame({"sensor_id": "a", "time": hours, "soil_moisture": np.float32([0.2, 0.3]), "flag": "G"})
    insitu = InSituTables(sensors, readings, synthetic=True)

    # --- a user writes
    wetness = Source("wetness", "", bands=("index",), range=(0.0, 100.0), bound="1D", kind="coarse")
    when = {"pattern": r"_(?P<time>\d{8})\.tif", "format": "%Y%m%d"}
    scenes = {
        name: open_scenes(sorted(rasters.glob(f"{name}_*.tif")), source=name, catalog_id="", bands={band: 1}, time=when)
        for name, band in {"smap": "ssm", "wetness": "index"}.items()
    }
    built = build_matchups(
        insitu, scenes, sources=[wetness], out=rasters / "own.zarr", anchor="smap", crop=32, splits={}
    )
    batch = MultiSourceDataset(built.store, InputSet.of("smap", wetness), [0, 1], crop=32)[np.arange(2)]
    # ---

    np.testing.assert_allclose(built.store.read("wetness")[:, 0], [0.41, 0.42], rtol=1e-6)
    (_, _, coarse), _ = batch
    np.testing.assert_allclose(np.sort(np.asarray(coarse).ravel()), [0.22, 0.24, 0.41, 0.42], rtol=1e-5)


def test_each_takes_few_lines():
    source = Path(__file__).read_text(encoding="utf-8")
    parts = re.findall(r"    # --- a user writes\n(.*?)\n    # ---\n", source, re.DOTALL)
    lines = [len([line for line in part.split("\n") if line.strip()]) for part in parts]
    assert len(lines) == 3
    assert max(lines) <= MOST_LINES
