"""Steps of the notebooks on many sources: figures' images, scores by network, studies, maps against the truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from fake_scenes import FakeScenes
from fake_stores import write_sample_store
from pyproj import CRS

from smnb.contract import CatalogError, ContractError, ParameterError
from smnb.grids import UtmWindow
from smnb.metrics import score_table
from smnb.papers import batchu2023 as multisource
from smnb.papers.batchu2023 import FULL_MODEL, PAPER_ROWS, SOURCES, InputSet
from smnb.papers.batchu2023.batches import side_positions
from smnb.papers.batchu2023.experiment import _OTHER_ANCHOR, as_published
from smnb.papers.batchu2023.scoring import spread_samples
from smnb.papers.batchu2023.store import SampleStore
from smnb.papers.batchu2023.tiles import MapGeometry, natural_colours
from smnb.papers.tables import compare_with, published
from smnb.training import TrainingConfig

GEOMETRY = MapGeometry(crop=64, stride=32)
SIDES = ["train"] * 6 + ["validation"] * 4 + ["test"] * 4


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> SampleStore:
    rng = np.random.default_rng(0)
    dates, crop = 14, 32
    sensor = np.repeat(np.arange(len(SIDES)), dates)
    n = sensor.size
    label = rng.uniform(0.05, 0.4, n)
    sensors = pd.DataFrame(
        {
            "sensor_id": [f"s{i:02d}" for i in range(len(SIDES))],
            "network": ["SCAN", "USCRN"] * 7,
            "station": [f"t{i}" for i in range(len(SIDES))],
            "lat": 40.0,
            "lon": -100.0,
            "split_sensor": SIDES,
        }
    )
    values = {
        "sentinel1": rng.uniform(0.3, 0.7, (n, 3, crop, crop)),
        "sentinel2": rng.uniform(0.1, 0.9, (n, 6, crop, crop)),
        "dem": rng.uniform(0, 1, (len(SIDES), 1, crop, crop)),
        "soilgrids": rng.uniform(0, 1, (len(SIDES), 4, 2, 2)),
        "modis_lai": rng.uniform(0, 1, (n, 1, 2, 2)),
        "smap": (label + rng.normal(0, 0.05, n)).clip(0, 0.5)[:, None],
        "gldas": rng.uniform(0.1, 0.3, (n, 1)),
    }
    time = np.tile(pd.date_range("2020-01-05", periods=dates, freq="23D").to_numpy(), len(SIDES))
    return write_sample_store(
        tmp_path_factory.mktemp("store") / "s.zarr",
        sensors=sensors,
        sensor=sensor,
        time=time,
        label=label,
        values=values,
        synthetic=True,
    )


def test_samples_run_from_wet_to_dry_and_show_what_the_store_holds(store):
    chosen = spread_samples(store, 4)
    assert (np.diff(store.labels()[chosen]) < 0).all()
    assert set(chosen) <= set(side_positions(store, "sensor", "test"))
    assert store.samples.iloc[chosen]["sensor_id"].nunique() == 4
    images = multisource.sample_images(store, 4)
    assert len(images) == 4
    label = next(iter(images))
    assert label.startswith(f"{store.labels()[chosen[0]]:.3f} m³ m⁻³")
    natural, vv, _, soil = images[label]
    assert natural.shape == (32, 32, 3)
    assert soil.shape == (2, 2, 3)
    stored = store.read("sentinel1", chosen[:1], ("VV",))[0, 0]
    np.testing.assert_allclose(vv, stored * 30.0 - 25.0, atol=1e-4)
    with pytest.raises(ParameterError, match="number"):
        spread_samples(store, 0)


def table_of(ids: dict[str, str], error: float, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for one, network in ids.items():
        observed = rng.uniform(0.1, 0.4, 20)
        parts.append(
            pd.DataFrame(
                {
                    "sensor_id": one,
                    "network": network,
                    "station": one,
                    "observed": observed,
                    "time": pd.date_range("2020-01-01", periods=20, freq="6D"),
                    "predicted": observed + rng.normal(0, error, 20),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_scores_by_network_are_means_over_its_sensors():
    ids = {f"a{i}": "SCAN" for i in range(6)} | {"b0": "USCRN", "c0": "MINE"}
    tables = {"ours": table_of(ids, 0.02), "SMAP": table_of(ids, 0.08, 1)}
    scores = multisource.network_scores(tables, n_boot=200)
    own = score_table(tables["ours"], metrics=("ubrmse",)).set_index("sensor_id")["ubrmse"]
    scan = scores[(scores["model"] == "ours") & (scores["network"] == "SCAN")].iloc[0]
    assert scan["ubrmse"] == pytest.approx(own[[f"a{i}" for i in range(6)]].mean())
    assert scan["ubrmse_low"] < scan["ubrmse"] < scan["ubrmse_high"]
    shown = multisource.networks_beside(scores, "ubrmse", model="ours")
    paper = published("batchu2023", "Table 14")
    assert shown.loc["SCAN", "Ours, paper"] == f"{paper.value('SCAN', 'Ours'):g}"
    assert shown.loc["SCAN", "ours, run"].startswith(f"{scan['ubrmse']:.3f} [")
    assert shown.loc["MINE", "Ours, paper"] == ""
    assert shown.loc["MINE", "ours, run"].endswith("(1)")
    assert (shown == "?").sum().sum() == len(paper.omitted)
    with pytest.raises(ParameterError, match="unknown 'model'"):
        multisource.networks_beside(scores, "ubrmse", model="theirs")
    with pytest.raises(ParameterError, match="unknown 'score'"):
        multisource.networks_beside(scores, "bias", model="ours")
    with pytest.raises(ContractError, match=r"\(ours\).*\['network'\] are missing"):
        multisource.network_scores({"ours": tables["ours"].drop(columns="network")})


@pytest.fixture
def ablation(store, tmp_path):
    opened = []

    def open_store(anchor):
        opened.append(anchor)
        return store

    model = multisource.encoder_settings(
        32, high_encoder="small", low_encoder="small", drop_path_keep=1.0, width_high=0.25, width_low=0.25
    )
    config = TrainingConfig(epochs=1, batch_size=32, device="cpu", patience=0, whole_batches=True)
    made = multisource.Ablation(open_store, tmp_path / "networks", config, 32, model_config=model, crops=[16, 32])
    made.opened = opened
    return made


def test_a_study_has_the_papers_rows_and_trains_each_network_once(ablation, tmp_path):
    added = ablation.run("added")
    assert list(added) == list(PAPER_ROWS[18])
    passive = ablation.run("active_passive")
    assert list(passive) == list(PAPER_ROWS[19])
    # the full model is in both studies, and was trained once
    assert passive[FULL_MODEL] is added["None (Baseline)"]
    assert set(ablation.opened) == {"sentinel1"}
    assert len(list((tmp_path / "networks").iterdir())) == 3 + 2
    results = multisource.results_table(passive, n_boot=100)
    beside = ablation.beside_paper("active_passive", results, synthetic=True)
    assert beside["run"].notna().all()
    members = ablation.members().set_index(["study", "member"])
    assert members.loc[("added", "MODIS LAI"), "channels"] == 17
    assert members.loc[("added", "EVI/NDVI"), "channels"] == 18
    assert np.isnan(members.loc[("active_passive", "SMAP"), "channels"])


def test_the_study_of_input_size_crops_one_store(ablation):
    found = ablation.run("input_size")
    assert list(found) == ["16x16", "32x32"]
    assert ablation.reference("input_size") == "32x32"
    assert as_published(multisource.results_table(found, n_boot=100), "input_size").empty
    with pytest.raises(ParameterError, match="unknown 'study'"):
        ablation.run("colours")


def test_the_study_of_anchors_has_a_column_for_each():
    rows = [*PAPER_ROWS[21], *(label + _OTHER_ANCHOR for label in PAPER_ROWS[21])]
    numbers = {f"validation_{score}": np.arange(6) + n for n, score in enumerate(("ubrmse", "rmse", "r"))}
    shown = as_published(pd.DataFrame(numbers, index=rows), "anchor")
    assert list(shown.index) == list(PAPER_ROWS[21])
    assert shown["smap_validation_ubrmse"].tolist() == [3, 4, 5]
    beside = compare_with(shown, published("batchu2023", "Table 21"), synthetic=True)
    assert beside["run"].notna().all()


@pytest.fixture
def sources():
    return {
        "sentinel1": FakeScenes.of(
            "sentinel1",
            ("VV", "VH"),
            ["2020-06-01T12", "2020-06-13T12", "2020-07-01T12", "2020-07-13T12"],
            half=[0.5, 0.5, 0.004, 0.5],
            value=-10.0,
        ),
        "smap": FakeScenes.of("smap", ("ssm",), ["2020-05-31", "2020-06-12", "2020-06-30"], value=10.0),
    }


def test_tiles_are_of_passes_that_have_everything(sources):
    square = {"lat": 30.3, "lon": -97.7, "cells": 3, "crop": 64}
    inputs = InputSet.of("sentinel1:VV", "smap")
    # the third pass covers the centre alone, the fourth has no SMAP in time
    tiles = multisource.read_tiles(sources, inputs, **square)
    assert list(tiles) == ["2020-06-01", "2020-06-13"]
    assert list(multisource.read_tiles(sources, inputs, number=1, **square)) == ["2020-06-01"]
    assert list(multisource.read_tiles(sources, inputs, times=["2020-06-13T12:30"], **square)) == ["2020-06-13"]
    assert set(tiles["2020-06-13"].used.index) == {"sentinel1", "smap"}
    natural, vv, moisture = multisource.tile_images(tiles["2020-06-01"], np.ones((3, 3)))
    assert np.isnan(natural).all()
    assert vv.shape == (96, 96)
    assert (moisture == 1).all()
    with pytest.raises(ContractError, match="has every source; got 4 passes cover the centre, 3 all of the square"):
        multisource.read_tiles(
            {**sources, "smap": FakeScenes.of("smap", ("ssm",), ["2019-01-01"], value=1.0)}, inputs, **square
        )


class Catalog:
    def __init__(self, paths):
        self.paths = paths

    def resolve(self, catalog_id, root):
        if not self.paths:
            raise CatalogError("resolve", "no file")
        return self.paths


def test_maps_are_scored_against_the_mean_of_each_cells_square(sources, tmp_path):
    inputs = InputSet.of("sentinel1:VV", "smap")
    tiles = multisource.read_tiles(sources, inputs, lat=30.3, lon=-97.7, cells=3, crop=64)
    assert multisource.tile_truth(Catalog([]), None, tiles) == {}
    window = UtmWindow.centred(30.3, -97.7, size=80, resolution=20.0)
    x, y = np.meshgrid(window.x, window.y)
    field = 0.2 + (x - x.mean()) * 1e-5 + (y - y.mean()) * 2e-5
    dataset = xr.Dataset(
        {"soil_moisture": (("time", "y", "x"), np.stack([field, field + 0.1]))},
        {
            "time": pd.to_datetime(["2020-06-01T12", "2020-06-13T12"]),
            "y": window.y,
            "x": window.x,
            "crs": ((), 0, CRS.from_epsg(window.epsg).to_cf()),
        },
    )
    path = tmp_path / "truth.nc"
    dataset.to_netcdf(path, engine="h5netcdf")
    truth = multisource.tile_truth(Catalog([path]), None, tiles)
    assert list(truth) == list(tiles)
    # the mean of a plane over a square is its value at the centre; windows may lie off by half a pixel
    cell_x, cell_y = tiles["2020-06-13"].grid.x, tiles["2020-06-13"].grid.y
    expected = 0.3 + (cell_x[None] - x.mean()) * 1e-5 + (cell_y[:, None] - y.mean()) * 2e-5
    np.testing.assert_allclose(truth["2020-06-13"], expected, atol=3.1e-4)
    maps = {"shared": xr.Dataset({"soil_moisture": (("time", "y", "x"), np.stack(list(truth.values())) + 0.05)})}
    scored = multisource.map_scores(maps, truth, tiles).set_index(["map", "date"])
    assert scored.loc[("shared", "2020-06-01"), "bias"] == pytest.approx(0.05)
    assert scored.loc[("shared", "2020-06-01"), "r"] == pytest.approx(1.0)
    assert scored.loc[("SMAP", "2020-06-01"), "n"] == 9
    # outside of the file, or at another time, there is no truth
    far = multisource.read_tiles(sources, inputs, lat=30.31, lon=-97.7, cells=3, crop=64)
    assert multisource.tile_truth(Catalog([path]), None, far) == {}


def test_natural_colours_are_what_the_network_sees():
    light = SOURCES["sentinel2"]
    native = {band: light.denormalise(band, np.full((2, 2), 0.4)) for band in ("B4", "B3", "B2")}
    shown = natural_colours(native)
    assert shown.shape == (2, 2, 3)
    np.testing.assert_allclose(shown, 0.4, atol=1e-5)
    np.testing.assert_allclose(shown[..., 2], light.normalise("B2", native["B2"]))


def test_strides_leave_features_of_small_images():
    assert multisource.encoder_settings(16)["output_stride_low"] == 1
    assert multisource.encoder_settings(512)["output_stride_high"] == 32
